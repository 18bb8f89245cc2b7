-- What holds for every object of the schema, whoever adds the next one. Each query lists offenders: no rows is right.
\pset footer off
SET client_min_messages = warning;

CREATE TEMP VIEW routine AS
SELECT p.oid, p.oid::regprocedure::text AS routine, p.proname AS name, p.prosrc AS source, l.lanname AS language,
	p.prosecdef AS definer, p.proisstrict AS strict, p.provolatile AS volatility, p.proconfig AS settings,
	p.proargnames AS arguments, p.pronargs AS n_arguments, p.proargmodes AS modes, p.prorettype = 'trigger'::regtype AS is_trigger,
	pg_get_userbyid(p.proowner) AS owner, p.proacl AS acl
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'submeter'::regnamespace
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		AND d.refobjid <> (SELECT e.oid FROM pg_extension e WHERE e.extname = 'submeter'));

CREATE TEMP VIEW relation AS
SELECT c.oid, c.relname AS name, c.relkind AS kind, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced, c.relispartition AS partition,
	c.reloptions AS options, c.relacl AS acl, pg_get_userbyid(c.relowner) AS owner,
	EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'site_id' AND a.attnum > 0) AS of_site,
	EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS member
FROM pg_class c
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f');

-- There is something to look at.
SELECT (SELECT count(*) > 150 FROM routine) AS routines, (SELECT count(*) > 40 FROM relation WHERE kind IN ('r', 'p')) AS tables,
	(SELECT count(*) > 10 FROM relation WHERE kind = 'v') AS views;

-- 1. Rows of a site

-- tables with rows of a site and without row-level security
SELECT name FROM relation WHERE kind IN ('r', 'p') AND of_site AND NOT secured ORDER BY name;
-- ... and those where it is forced: verbs and pg_dump run as the owner
SELECT name FROM relation WHERE forced ORDER BY name;
-- secured tables without any policy (partitions are reached through their parent only)
SELECT name FROM relation r
WHERE kind IN ('r', 'p') AND secured AND NOT partition AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid)
ORDER BY name;
-- policies on tables of a site that never look at the site
SELECT r.name, p.polname FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
WHERE r.of_site AND concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) !~ 'site_id = ANY \(submeter\.my_sites\(\)\)'
ORDER BY 1, 2;
-- policies that let write without saying what may be written
SELECT r.name, p.polname FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
WHERE p.polcmd IN ('a', '*') AND p.polwithcheck IS NULL ORDER BY 1, 2;
-- policies for tenants that do not narrow to the tenant
SELECT r.name, p.polname FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
WHERE 'submeter_tenant'::regrole = ANY (p.polroles)
	AND pg_get_expr(p.polqual, p.polrelid) !~ 'submeter\.my_(tenants|accounts|meters)\(\)' ORDER BY 1, 2;
-- tables a role may read or write without a policy for it
SELECT r.name, g.rolname FROM relation r
CROSS JOIN LATERAL aclexplode(r.acl) a JOIN pg_roles g ON g.oid = a.grantee
WHERE r.of_site AND r.kind IN ('r', 'p') AND g.rolname <> 'submeter_owner' AND a.privilege_type = 'SELECT'
	-- The view live_meter joins the gateways; tenants find none of them.
	AND (r.name, g.rolname) <> ('gateway', 'submeter_tenant')
	AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid AND p.polcmd IN ('r', '*') AND (0 = ANY (p.polroles) OR g.oid = ANY (p.polroles)))
ORDER BY 1, 2;
-- secured tables that store rows which are no site's, and whose policy is open on purpose
SELECT name FROM relation WHERE kind IN ('r', 'p') AND secured AND NOT of_site
	AND name NOT IN ('installation', 'reading_partition', 'meter_model', 'meter_point', 'meter_switch', 'meter_history') ORDER BY name;
-- keys of a site's tables that do not begin with the site (the audit also keeps changes that belong to no site)
SELECT r.name, i.indexrelid::regclass AS key FROM relation r JOIN pg_index i ON i.indrelid = r.oid AND i.indisprimary
WHERE r.of_site AND (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum = i.indkey[0]) <> 'site_id'
	AND r.name <> 'audit' ORDER BY 1;
-- tables without a primary key (alarm_pending is unique over columns that may be NULL)
SELECT name FROM relation r WHERE kind IN ('r', 'p') AND name <> 'alarm_pending'
	AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.oid AND i.indisprimary) ORDER BY name;
-- tables of a site in which site_id may be NULL
SELECT r.name FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = 'site_id'
WHERE r.kind IN ('r', 'p') AND NOT a.attnotnull AND r.name <> 'audit' ORDER BY 1;
-- foreign keys between tables of sites that do not carry the site along on both sides in the same place
SELECT c.conrelid::regclass AS relation, c.conname FROM pg_constraint c
JOIN relation f ON f.oid = c.conrelid AND f.of_site JOIN relation t ON t.oid = c.confrelid AND t.of_site
WHERE c.contype = 'f' AND NOT EXISTS (
	SELECT FROM unnest(c.conkey, c.confkey) k(here, there)
	JOIN pg_attribute h ON h.attrelid = c.conrelid AND h.attnum = k.here AND h.attname = 'site_id'
	JOIN pg_attribute x ON x.attrelid = c.confrelid AND x.attnum = k.there AND x.attname = 'site_id')
ORDER BY 1, 2;
-- foreign keys of a site's tables to tables without a site, other than the catalogues everybody shares
SELECT c.conrelid::regclass AS relation, c.conname FROM pg_constraint c
JOIN relation f ON f.oid = c.conrelid AND f.of_site JOIN relation t ON t.oid = c.confrelid AND NOT t.of_site
WHERE c.contype = 'f' AND t.name NOT IN ('meter_model', 'alarm_rule') ORDER BY 1, 2;
-- tables nobody but verbs writes to: money, readings, commands and what follows from them
SELECT r.name, g.rolname, a.privilege_type FROM relation r
CROSS JOIN LATERAL aclexplode(r.acl) a JOIN pg_roles g ON g.oid = a.grantee
WHERE g.rolname NOT IN ('submeter_owner', r.owner) AND a.privilege_type <> 'SELECT' AND r.name IN ('transfer', 'ledger_account', 'charge', 'usage_day',
	'reading', 'reading_suspect', 'reading_verdict', 'meter_state', 'meter_dirty', 'meter_settled', 'payment_order', 'command', 'open_cause',
	'account_state', 'decision', 'notice', 'alarm', 'audit', 'approval', 'duty_state', 'installation', 'storage_step', 'verb', 'duty')
ORDER BY 1, 2, 3;

-- 2. Owners and grants

-- storage that belongs to somebody else
SELECT name, owner FROM relation WHERE owner <> 'submeter_owner' AND NOT member ORDER BY name;
-- definer functions that belong to somebody else
SELECT routine, owner FROM routine WHERE definer AND owner <> 'submeter_owner' ORDER BY 1;
-- anything for PUBLIC: functions (NULL is the default, which is everybody), tables, columns, schema, types
SELECT routine FROM routine WHERE acl IS NULL OR EXISTS (SELECT FROM aclexplode(acl) a WHERE a.grantee = 0) ORDER BY 1;
SELECT name FROM relation WHERE EXISTS (SELECT FROM aclexplode(acl) a WHERE a.grantee = 0) ORDER BY 1;
SELECT a.attrelid::regclass AS relation, a.attname FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid
WHERE EXISTS (SELECT FROM aclexplode(a.attacl) x WHERE x.grantee = 0) ORDER BY 1, 2;
SELECT nspname FROM pg_namespace WHERE nspname = 'submeter' AND (nspacl IS NULL OR EXISTS (SELECT FROM aclexplode(nspacl) a WHERE a.grantee = 0));
SELECT t.typname FROM pg_type t
WHERE t.typnamespace = 'submeter'::regnamespace AND t.typelem = 0 AND (t.typrelid = 0 OR t.typrelid IN (SELECT c.oid FROM pg_class c WHERE c.relkind = 'c'))
	AND t.typtype IN ('c', 'e', 'd') AND (t.typacl IS NULL OR EXISTS (SELECT FROM aclexplode(t.typacl) a WHERE a.grantee = 0))
ORDER BY 1;
-- roles of Submeter that can log in, or that somebody made powerful
SELECT rolname FROM pg_roles WHERE rolname LIKE 'submeter\_%' AND rolname IN ('submeter_owner', 'submeter_admin', 'submeter_operator', 'submeter_cashier',
	'submeter_field', 'submeter_auditor', 'submeter_erp', 'submeter_poller', 'submeter_courier', 'submeter_tenant')
	AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication) ORDER BY 1;
-- the auditor changes nothing
SELECT name, a.privilege_type FROM relation CROSS JOIN LATERAL aclexplode(acl) a
WHERE a.grantee = 'submeter_auditor'::regrole AND a.privilege_type <> 'SELECT' ORDER BY 1, 2;
-- views that run with the rights of their owner, or that a cheap function can look behind
SELECT name FROM relation WHERE kind = 'v' AND NOT coalesce(options @> '{security_invoker=true}', false) ORDER BY name;
SELECT name FROM relation WHERE kind = 'v' AND NOT coalesce(options @> '{security_barrier=true}', false) ORDER BY name;

-- 3. Functions

-- functions whose names are resolved wherever the caller likes (C functions qualify every name themselves;
-- policy_decide names nothing and can so be inlined)
SELECT routine FROM routine
WHERE language IN ('sql', 'plpgsql') AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (settings), false)
	AND name <> 'policy_decide' ORDER BY 1;
-- definer functions in a language whose path cannot be pinned
SELECT routine FROM routine WHERE definer AND language NOT IN ('sql', 'plpgsql') ORDER BY 1;
-- definer functions that neither ask authorize() nor say why they need not
SELECT routine FROM routine WHERE definer AND source !~ 'submeter\.authorize\(' AND source !~ '--[^\n]*authorize:' ORDER BY 1;
-- verbs whose first statement is not authorize(): those that say why come under the rule above
SELECT routine FROM routine r JOIN submeter.verb v ON v.verb = r.name
WHERE definer AND source !~ '--[^\n]*authorize:' AND source !~ ('submeter\.authorize\(''(' || name || '|ingest|poller|courier)''') ORDER BY 1;
-- verbs that do not exist (poller and courier stand for the functions of their doors)
SELECT v.verb FROM submeter.verb v WHERE v.verb NOT IN ('poller', 'courier') AND NOT EXISTS (SELECT FROM routine r WHERE r.name = v.verb) ORDER BY 1;
-- verbs for roles that do not exist, and verbs their roles cannot call
SELECT v.verb, r.role FROM submeter.verb v CROSS JOIN unnest(v.roles) r(role) WHERE to_regrole(quote_ident(r.role)) IS NULL ORDER BY 1, 2;
SELECT v.verb, r.role FROM submeter.verb v CROSS JOIN unnest(v.roles) r(role) JOIN routine f ON f.name = v.verb
WHERE NOT has_function_privilege(r.role, f.oid, 'EXECUTE') ORDER BY 1, 2;
-- C functions that take NULL without being known to check for it
SELECT routine FROM routine WHERE language = 'c' AND NOT strict AND NOT is_trigger AND n_arguments > 0
	AND name NOT IN ('is_plausible', 'quote', 'check_tariff', 'push_seal', 'provider_bill', 'bill_plain') ORDER BY 1;
-- immutable or stable C functions not labelled for parallel plans are listed, so that each is a choice
SELECT p.oid::regprocedure AS routine FROM pg_proc p JOIN routine r ON r.oid = p.oid
WHERE r.language = 'c' AND p.provolatile = 'i' AND p.proparallel <> 's' ORDER BY 1;
-- functions with an argument that has no name
SELECT routine FROM routine WHERE n_arguments > 0 AND (arguments IS NULL OR '' = ANY (arguments[1:n_arguments])) ORDER BY 1;
-- bodies of verbs that use site_id without saying whose
SELECT routine FROM routine
WHERE language IN ('sql', 'plpgsql') AND 'site_id' = ANY (arguments) AND (modes IS NULL OR modes[array_position(arguments, 'site_id')] = 'i')
	AND source ~ '\msite_id\M' AND source !~ ('\m' || name || '\.site_id\M') ORDER BY 1;
-- arguments that no body uses under the name of its function (policy_decide touches no table, so nothing can be mistaken;
-- all functions of the poller's door are told which poller it is; those that channels, kinds of requests and payment
-- providers name are all called alike)
SELECT r.routine, a.name AS argument FROM routine r CROSS JOIN unnest(r.arguments[1:r.n_arguments]) a(name)
WHERE r.language IN ('sql', 'plpgsql') AND NOT r.is_trigger AND r.source !~ ('\m' || r.name || '\.' || a.name || '\M')
	AND r.name <> 'policy_decide' AND (r.name, a.name) NOT IN (('claim_reads', 'poller'), ('alipay_answer', 'headers'), ('alipay_notify', 'headers'), ('alipay_bill_answer', 'headers'))
	AND r.name !~ '^(build_|judge_|ask_receipt_)|_done$' ORDER BY 1, 2;
-- names that are resolved in a schema other than those of the path: tables of ours that are used unqualified
SELECT DISTINCT r.routine, t.name AS relation FROM routine r JOIN relation t ON t.kind IN ('r', 'p', 'v')
WHERE r.language IN ('sql', 'plpgsql')
	AND regexp_replace(r.source, '(--[^\n]*|''[^'']*'')', '', 'g') ~ ('\m(FROM|JOIN|INTO|UPDATE)\s+' || t.name || '\M(?!\.)')
	AND r.source !~ ('\m' || t.name || ' AS (NOT )?(MATERIALIZED )?\(') ORDER BY 1, 2;
-- the verbs of the contract and the names of their arguments
WITH contract(verb, arguments) AS (VALUES
	('ingest', '{site_id,readings}'::text[]), ('ingest_json', '{site_id,readings}'), ('settle', '{site_id,as_of}'), ('post_charges', '{site_id,as_of}'),
	('create_tariff', '{site_id,code,definition,valid_from}'), ('quote', '{definition,bounds,kwh,time_zone,calendar,start_kwh,terms}'),
	('recharge', '{site_id,account_id,amount,method,idempotency_key,note}'), ('balance', '{site_id,account_id,as_of}'),
	('verify_ledger', '{site_id,since}'), ('request_command', '{site_id,meter_id,action,reason}'), ('apply_policy', '{site_id,as_of}'),
	('why_dark', '{site_id,meter_id}'), ('evaluate_alarms', '{site_id,as_of}'), ('run_duties', '{as_of}'), ('create_partitions', '{from_ts,to_ts}'),
	('adopt', '{reason}'), ('adjust', '{site_id,account_id,amount,reason,idempotency_key}'), ('reverse_movement', '{site_id,transfer_id,reason,idempotency_key}'),
	('judge_reading', '{site_id,meter_id,ts,verdict,reason,energy_wh}'), ('cancel_command', '{site_id,command_id}'), ('set_lockout', '{site_id,meter_id}'),
	('create_payment', '{site_id,account_id,provider,amount,idempotency_key}'), ('payment_notify', '{provider,headers,body}'))
SELECT c.verb, c.arguments AS wanted, r.arguments AS found FROM contract c LEFT JOIN routine r ON r.name = c.verb
WHERE r.oid IS NULL OR r.arguments[1:cardinality(c.arguments)] <> c.arguments ORDER BY 1;
-- columns of results with the names of the contract
WITH contract(verb, columns) AS (VALUES
	('quote', '{component,tier,period,kwh,price,amount}'::text[]), ('verify_ledger', '{problem}'))
SELECT c.verb FROM contract c JOIN routine r ON r.name = c.verb
WHERE r.arguments[r.n_arguments + 1:r.n_arguments + cardinality(c.columns)] <> c.columns ORDER BY 1;

-- 4. Comments

SELECT routine FROM routine WHERE coalesce(obj_description(oid, 'pg_proc'), '') = '' ORDER BY 1;
SELECT name, kind FROM relation WHERE kind <> 'S' AND coalesce(obj_description(oid, 'pg_class'), '') = '' ORDER BY 1;
SELECT a.attrelid::regclass AS relation, a.attname AS column_name FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid AND r.kind <> 'S'
WHERE a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(a.attrelid, a.attnum), '') = '' ORDER BY 1, 2;
SELECT t.typname FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
WHERE t.typnamespace = 'submeter'::regnamespace AND coalesce(obj_description(t.oid, 'pg_type'), '') = '' ORDER BY 1;
SELECT nspname FROM pg_namespace WHERE nspname = 'submeter' AND coalesce(obj_description(oid, 'pg_namespace'), '') = '';
SELECT extname FROM pg_extension WHERE extname = 'submeter' AND coalesce(obj_description(oid, 'pg_extension'), '') = '';

-- 5. Names and types

-- time without zone, money and energy as floating point, char(n), json and other types one regrets
SELECT a.attrelid::regclass AS relation, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid AND r.kind IN ('r', 'p')
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('timestamp'::regtype, 'timetz'::regtype, 'money'::regtype, 'float8'::regtype, 'bpchar'::regtype,
	'json'::regtype, 'varchar'::regtype) ORDER BY 1, 2;
SELECT a.attrelid::regclass AS relation, a.attname AS column_name FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid AND r.kind IN ('r', 'p')
WHERE a.attnum > 0 AND (a.attname LIKE '%\_wh' AND a.atttypid NOT IN ('bigint'::regtype, 'bigint[]'::regtype)
	OR a.attname LIKE '%\_id' AND a.attname <> 'site_id' AND a.atttypid <> 'bigint'::regtype
	OR a.attname = 'site_id' AND a.atttypid <> 'int'::regtype
	OR a.attname ~ '(_at|_ts|^ts)$' AND a.atttypid <> 'timestamptz'::regtype) ORDER BY 1, 2;
-- numbers of money and of quantity into which a person can write NaN, for which every lower bound holds
SELECT a.attrelid::regclass AS relation, a.attname AS column_name FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid AND r.kind = 'r' AND NOT r.partition
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'numeric'::regtype AND has_column_privilege('submeter_admin', a.attrelid, a.attnum, 'INSERT, UPDATE')
	AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = a.attrelid AND a.attnum = ANY (c.conkey) AND pg_get_constraintdef(c.oid) ~ (a.attname || ' (<> ''NaN''|<= |< )'))
ORDER BY 1, 2;
SELECT name FROM relation WHERE name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' ORDER BY 1;
-- constraints that were never checked, indexes that are broken
SELECT conrelid::regclass AS relation, conname FROM pg_constraint WHERE connamespace = 'submeter'::regnamespace AND NOT convalidated ORDER BY 1, 2;
SELECT i.indexrelid::regclass AS index FROM pg_index i JOIN relation r ON r.oid = i.indrelid WHERE NOT i.indisvalid ORDER BY 1;
-- foreign keys without an index to find the rows by when the parent goes (reference rows and archives aside)
SELECT c.conrelid::regclass AS relation, c.conname FROM pg_constraint c
WHERE c.connamespace = 'submeter'::regnamespace AND c.contype = 'f' AND c.confdeltype = 'c'
	AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid
		AND (SELECT array_agg(k ORDER BY k) FROM unnest((i.indkey::int2[])[0:cardinality(c.conkey) - 1]) k) = (SELECT array_agg(k ORDER BY k) FROM unnest(c.conkey) k))
ORDER BY 1, 2;
-- tables that keep facts and can be changed: both triggers, in replica mode too, on each partition
SELECT t.name, x.name AS missing
FROM (SELECT name FROM relation WHERE partition OR name IN ('reading', 'reading_verdict', 'transfer', 'audit')) t
CROSS JOIN unnest('{append_only,append_only_truncate}'::text[]) x(name)
WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ('submeter.' || t.name)::regclass AND g.tgname = x.name AND g.tgenabled = 'A') ORDER BY 1, 2;

-- 6. Settings of ours are documented where the server shows them
SELECT name FROM pg_settings WHERE name LIKE 'submeter.%' AND coalesce(short_desc, '') = '' ORDER BY 1;
