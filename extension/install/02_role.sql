-- Room: roles. NOLOGIN group roles; people's and programs' logins are granted into them.

CREATE FUNCTION submeter.create_roles() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted name;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['submeter_owner', 'submeter_admin', 'submeter_operator', 'submeter_cashier',
		'submeter_field', 'submeter_auditor', 'submeter_erp', 'submeter_poller', 'submeter_courier',
		'submeter_tenant']::name[]
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = wanted) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.create_roles() IS
'Creates the NOLOGIN roles of Submeter that are missing in this cluster; called by the install script, harmless to repeat.';

SELECT submeter.create_roles();

GRANT USAGE, CREATE ON SCHEMA submeter TO submeter_owner;
GRANT USAGE ON SCHEMA submeter TO submeter_admin, submeter_operator, submeter_cashier, submeter_field,
	submeter_auditor, submeter_erp, submeter_poller, submeter_courier, submeter_tenant;
COMMENT ON SCHEMA submeter IS 'Prepaid electricity: code of the extension submeter and, made by create_storage(), the tables of this installation.';
