-- Room: protection of tables. Every table with a site's or a tenant's rows is created with its row-level policy.

CREATE FUNCTION submeter.describe(relation text, meaning text, columns jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind text := CASE (SELECT c.relkind FROM pg_class c WHERE c.oid = format('submeter.%I', describe.relation)::regclass)
		WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END;
	item record;
BEGIN
	EXECUTE format('COMMENT ON %s submeter.%I IS %L', kind, describe.relation, describe.meaning);
	FOR item IN SELECT j.key, j.value FROM jsonb_each_text(describe.columns) j
	LOOP
		EXECUTE format('COMMENT ON COLUMN submeter.%I.%I IS %L', describe.relation, item.key, item.value);
	END LOOP;
	-- The columns that mean the same everywhere.
	FOR item IN
		SELECT a.attname AS key, d.value
		FROM jsonb_each_text('{"site_id":"the site (property) the row belongs to","meter_id":"the meter","account_id":"the account",
			"tenant_id":"the tenant","unit_id":"the unit","tariff_id":"the tariff","gateway_id":"the gateway",
			"code":"name people use, unique per site","name":"name as printed","external_ref":"key of the row in the property''s own system (ERP)",
			"created_at":"when the row was made","reason":"why, in a person''s words"}') d
		JOIN pg_attribute a ON a.attname = d.key
		WHERE a.attrelid = format('submeter.%I', describe.relation)::regclass AND NOT describe.columns ? d.key
	LOOP
		EXECUTE format('COMMENT ON COLUMN submeter.%I.%I IS %L', describe.relation, item.key, item.value);
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.describe(text, text, jsonb) IS
'Comments a table or view of the storage and its columns; columns with a common meaning need not be named.';

CREATE FUNCTION submeter.protect(relation text, readers name[], writers name[] DEFAULT '{}', tenant_sees text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target text := format('submeter.%I', protect.relation);
	reader name;
BEGIN
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
	EXECUTE format('CREATE POLICY read_site ON %s FOR SELECT TO %s USING (site_id = ANY (submeter.my_sites()))',
		target, array_to_string(protect.readers, ', '));
	EXECUTE format('GRANT SELECT ON %s TO %s', target, array_to_string(protect.readers, ', '));
	IF cardinality(protect.writers) > 0 THEN
		EXECUTE format('CREATE POLICY write_site ON %s FOR ALL TO %s USING (site_id = ANY (submeter.my_sites())) WITH CHECK (site_id = ANY (submeter.my_sites()))',
			target, array_to_string(protect.writers, ', '));
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', target, array_to_string(protect.writers, ', '));
	END IF;
	IF protect.tenant_sees IS NOT NULL THEN
		EXECUTE format('CREATE POLICY read_own ON %s FOR SELECT TO submeter_tenant USING (site_id = ANY (submeter.my_sites()) AND (%s))',
			target, protect.tenant_sees);
		EXECUTE format('GRANT SELECT ON %s TO submeter_tenant', target);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.protect(text, name[], name[], text) IS
'Enables row-level security on a storage table: readers and writers work at the site, tenants see the rows for which the expression holds.';

CREATE FUNCTION submeter.audit_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- authorize: runs inside a statement that row-level security already let through.
DECLARE
	old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
	new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
BEGIN
	IF old_row IS NOT DISTINCT FROM new_row THEN
		RETURN NULL;
	END IF;
	INSERT INTO submeter.audit (site_id, relation, operation, old_row, new_row, changed_by)
	VALUES ((coalesce(new_row, old_row) ->> 'site_id')::int, TG_TABLE_NAME, TG_OP, old_row, new_row, (submeter.me()).login);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.audit_change() IS 'Row trigger of the archives: writes old and new row, who and when into audit.';

CREATE FUNCTION submeter.audited(relation text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON submeter.%I FOR EACH ROW EXECUTE FUNCTION submeter.audit_change()',
		audited.relation);
END
$$;
COMMENT ON FUNCTION submeter.audited(text) IS 'Puts the audit trigger on a storage table.';

CREATE FUNCTION submeter.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('rows of %s are never changed', TG_TABLE_NAME),
		DETAIL = format('%s is refused for everybody: the rows are facts on record.', TG_OP),
		HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION submeter.refuse_change() IS 'Trigger of append-only tables: refuses UPDATE, DELETE and TRUNCATE with SQLSTATE 55000; its argument is the hint.';

CREATE FUNCTION submeter.append_only(relation text, hint text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON submeter.%I FOR EACH ROW EXECUTE FUNCTION submeter.refuse_change(%L)',
		append_only.relation, append_only.hint);
	EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON submeter.%I FOR EACH STATEMENT EXECUTE FUNCTION submeter.refuse_change(%L)',
		append_only.relation, append_only.hint);
	-- Also for sessions in replica mode, in which ordinary triggers sleep.
	EXECUTE format('ALTER TABLE submeter.%I ENABLE ALWAYS TRIGGER append_only', append_only.relation);
	EXECUTE format('ALTER TABLE submeter.%I ENABLE ALWAYS TRIGGER append_only_truncate', append_only.relation);
END
$$;
COMMENT ON FUNCTION submeter.append_only(text, text) IS 'Makes a storage table append-only, replica mode included.';
