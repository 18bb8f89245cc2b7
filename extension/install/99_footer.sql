-- Room: privileges. Said once for all parts, by rule, so that a new function cannot be forgotten:
--   definer functions belong to submeter_owner, which nobody logs in as, and not to the superuser who installs;
--   nothing is for PUBLIC, whom PostgreSQL lets execute every new function;
--   a verb is for the roles that submeter.verb names, authorize() asks for the site besides;
--   functions that only read, with the caller's own rights, are for all roles of Submeter: policies, views and
--   constraints call them on behalf of whoever touches the table.
-- What this cannot tell (definer functions that are not verbs, functions with effects) its own part grants.

DO $$
DECLARE
	everybody constant text := 'submeter_admin, submeter_operator, submeter_cashier, submeter_field, submeter_auditor,
		submeter_erp, submeter_poller, submeter_courier, submeter_tenant';
	item record;
BEGIN
	FOR item IN
		SELECT p.oid::regprocedure AS routine, p.prosecdef, p.provolatile, v.roles
		FROM pg_catalog.pg_proc p
		LEFT JOIN submeter.verb v ON v.verb = p.proname
		WHERE p.pronamespace = 'submeter'::regnamespace AND p.prokind <> 'p'
			AND p.prorettype <> 'trigger'::regtype
	LOOP
		EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.routine);
		IF item.prosecdef THEN
			EXECUTE format('ALTER FUNCTION %s OWNER TO submeter_owner', item.routine);
		ELSE
			EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO submeter_owner', item.routine);
			IF item.provolatile <> 'v' THEN
				EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', item.routine, everybody);
			END IF;
		END IF;
		IF item.roles IS NOT NULL THEN
			EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', item.routine,
				(SELECT string_agg(quote_ident(r), ', ') FROM unnest(item.roles) r));
		END IF;
	END LOOP;

	FOR item IN
		SELECT p.oid::regprocedure AS routine
		FROM pg_catalog.pg_proc p
		WHERE p.pronamespace = 'submeter'::regnamespace AND p.prorettype = 'trigger'::regtype
	LOOP
		-- A trigger runs its function whoever fires it; the right is asked for when the trigger is made.
		EXECUTE format('ALTER FUNCTION %s OWNER TO submeter_owner', item.routine);
	END LOOP;
END
$$;

REVOKE ALL ON ALL ROUTINES IN SCHEMA submeter FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA submeter FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA submeter TO submeter_owner;
GRANT EXECUTE ON FUNCTION submeter.is_adopted(), submeter.my_sites(), submeter.my_tenants(), submeter.my_accounts(),
	submeter.my_meters()
TO submeter_admin, submeter_operator, submeter_cashier, submeter_field, submeter_auditor, submeter_erp,
	submeter_poller, submeter_courier, submeter_tenant;
-- Hints of error messages point at these.
GRANT SELECT ON submeter.verb TO submeter_admin, submeter_operator, submeter_cashier, submeter_field, submeter_auditor, submeter_erp;
