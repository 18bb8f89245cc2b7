-- Room: storage. From a bare database to a working one, and what holds the two together.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- The error a statement ends with: one line, so that code, place and hint are all part of the contract.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- 1. Nothing is there, and nothing works

SELECT count(*) AS schemas FROM pg_namespace WHERE nspname = 'submeter';
-- Without its companion the extension says what is missing.
SELECT pg_temp.refusal('CREATE EXTENSION submeter');
CREATE EXTENSION submeter CASCADE;
SELECT extname, extversion = submeter.version() AS library_matches, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname IN ('submeter', 'btree_gist') ORDER BY 1;
-- Code without storage: the verbs say what to do, as does the health of workers.
SELECT submeter.storage_version();
SELECT submeter.is_awake();
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.settle(1)', 'SELECT submeter.run_duties()', 'SELECT submeter.recharge(1, 1, 5, ''cash'', ''k'')', 'SELECT submeter.ingest_json(1, ''[]'')']) s;
SELECT count(*) AS tables FROM pg_class WHERE relnamespace = 'submeter'::regnamespace AND relkind IN ('r', 'p') AND relname NOT IN ('verb', 'duty', 'storage_step', 'tariff_example', 'outbound_kind', 'channel_kind');

-- 2. Roles: there, without login, without power

SELECT rolname, rolcanlogin, rolsuper, rolinherit FROM pg_roles WHERE rolname LIKE 'submeter\_%' ORDER BY 1;
-- A second call makes none anew.
SELECT submeter.create_roles();
SELECT count(*) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member WHERE g.rolname LIKE 'submeter\_%' AND r.rolname LIKE 'submeter\_%';

-- 3. Storage

CREATE ROLE regress_install_somebody LOGIN;
GRANT submeter_admin TO regress_install_somebody;
SET SESSION AUTHORIZATION regress_install_somebody;
SELECT left(pg_temp.refusal('SELECT submeter.create_storage()'), 60);
RESET SESSION AUTHORIZATION;
SELECT submeter.create_storage() = (SELECT max(version) FROM submeter.storage_step) AS as_new_as_the_code;
SELECT current_user, session_user, current_setting('role') AS role;
SELECT i.storage_version = submeter.storage_version() AS version, system_identifier = submeter.system_identifier() AS here, database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()) AS this_database, adopted_by, adopt_reason FROM submeter.installation i;
SELECT submeter.is_awake();
-- Readings have somewhere to go at once.
SELECT min(from_ts) < now() - interval '1 month' AS past, max(to_ts) > now() + interval '2 months' AS ahead FROM submeter.reading_partition;
SELECT count(*) > 5 AS models, bool_and(builtin) AS builtin FROM submeter.meter_model;
SELECT count(*) > 5 AS rules FROM submeter.alarm_rule;
SELECT count(*) AS templates, count(DISTINCT kind) AS kinds, count(DISTINCT locale) AS locales FROM submeter.notice_template;

-- 4. Again: what is there stays, what is built in is refreshed

CREATE TEMP TABLE before AS SELECT c.oid, c.relname, c.relacl::text AS acl FROM pg_class c WHERE c.relnamespace = 'submeter'::regnamespace;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall');
INSERT INTO submeter.meter_model (model, vendor) VALUES ('ours', 'us');
UPDATE submeter.meter_model SET vendor = 'spoilt' WHERE model = 'DDS238-2 ZN/SR';
DELETE FROM submeter.meter_point WHERE model = 'DDS238-2 ZN/SR';
UPDATE submeter.alarm_rule SET enabled = false, description = 'spoilt' WHERE rule = 'overload';
SELECT submeter.create_storage() = submeter.storage_version() AS same;
SELECT count(*) AS objects_that_changed FROM before b FULL JOIN (SELECT c.oid, c.relname, c.relacl::text AS acl FROM pg_class c WHERE c.relnamespace = 'submeter'::regnamespace) a USING (oid, relname)
WHERE b IS NULL OR a IS NULL OR a.acl IS DISTINCT FROM b.acl;
SELECT code FROM submeter.site;
SELECT model, vendor, builtin, (SELECT count(*) > 5 FROM submeter.meter_point p WHERE p.model = m.model) AS points FROM submeter.meter_model m WHERE model IN ('ours', 'DDS238-2 ZN/SR') ORDER BY 1;
SELECT enabled, description <> 'spoilt' AS refreshed FROM submeter.alarm_rule WHERE rule = 'overload';
-- The tables belong to the user: members of the extension are only those that hold reference rows of the code.
SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') ORDER BY 1;

-- 5. DROP EXTENSION is refused while there is storage, and even CASCADE leaves the data

SELECT split_part(pg_temp.refusal('DROP EXTENSION submeter'), ' | ', 1) AS code, split_part(pg_temp.refusal('DROP EXTENSION submeter'), ' | ', 2) AS message;
SELECT left(pg_temp.refusal('DROP EXTENSION btree_gist'), 5) AS companion;
SELECT left(pg_temp.refusal('DROP ROLE submeter_owner'), 5) AS owner;
BEGIN;
DROP EXTENSION submeter CASCADE;
SELECT code FROM submeter.site;
ROLLBACK;
SELECT submeter.is_awake(), code FROM submeter.site;

-- 6. Storage newer or older than the code

UPDATE submeter.installation SET storage_version = storage_version + 1;
SELECT submeter.is_awake(), left(pg_temp.refusal('SELECT submeter.settle(1)'), 60);
UPDATE submeter.installation SET storage_version = storage_version - 1;
SELECT submeter.is_awake(), submeter.settle(1);
-- One row, and only one.
SELECT left(pg_temp.refusal('INSERT INTO submeter.installation SELECT * FROM submeter.installation'), 5), left(pg_temp.refusal('INSERT INTO submeter.installation SELECT false, 1, ''x'', 1, now(), ''x'', ''x'''), 5);

-- 7. Settings: known, and guarded against misspelling

SELECT name, context, regexp_replace(setting, '^.*/', '') AS setting, unit FROM pg_settings WHERE name LIKE 'submeter.%' AND name NOT IN ('submeter.databases') ORDER BY name;
SELECT pg_temp.refusal('SET submeter.databses = ''x''');
SELECT left(pg_temp.refusal('SET submeter.naptime = ''1s'''), 60);

DROP OWNED BY regress_install_somebody;
DROP ROLE regress_install_somebody;
