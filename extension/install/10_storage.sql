-- Room: storage. The tables are the user's data, not members of the extension: create_storage() makes and migrates
-- them from the steps below, so pg_dump and parallel pg_restore need no special handling.

CREATE TABLE submeter.storage_step (
	version int PRIMARY KEY,
	ddl text NOT NULL
);
COMMENT ON TABLE submeter.storage_step IS
'Reference rows of the extension: the DDL that brings the storage from version - 1 to version. Update scripts add rows.';
COMMENT ON COLUMN submeter.storage_step.version IS 'storage version the step leads to';
COMMENT ON COLUMN submeter.storage_step.ddl IS 'statements run as submeter_owner';
-- The view health says whether the storage fits the code.
GRANT SELECT ON submeter.storage_step TO submeter_admin, submeter_auditor;

CREATE FUNCTION submeter.storage_version() RETURNS int
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('submeter.installation') IS NULL THEN
		RETURN 0;
	END IF;
	RETURN (SELECT i.storage_version FROM submeter.installation i);
END
$$;
COMMENT ON FUNCTION submeter.storage_version() IS 'Version of the tables in this database; 0 before create_storage().';

CREATE FUNCTION submeter.create_storage() RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	step record;
	caller text := current_setting('role');
BEGIN
	IF NOT pg_has_role(current_user, 'submeter_owner', 'member') THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'create_storage() is for the database administrator',
			HINT = 'Call it as a superuser or as a member of submeter_owner.';
	END IF;
	PERFORM pg_advisory_xact_lock(hashtext('submeter.create_storage'));
	PERFORM set_config('role', 'submeter_owner', true);
	FOR step IN
		SELECT s.version, s.ddl FROM submeter.storage_step s
		WHERE s.version > submeter.storage_version() ORDER BY s.version
	LOOP
		EXECUTE step.ddl;
		INSERT INTO submeter.installation AS i (storage_version, system_identifier, database_oid, adopted_by, adopt_reason)
		VALUES (step.version, submeter.system_identifier(), (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
			session_user, 'created')
		ON CONFLICT (only_row) DO UPDATE SET storage_version = EXCLUDED.storage_version;
	END LOOP;
	PERFORM submeter.load_meter_models();
	PERFORM submeter.load_notice_templates();
	PERFORM submeter.load_alarm_rules();
	PERFORM submeter.extend_partitions(now());
	PERFORM set_config('role', caller, true);
	RETURN submeter.storage_version();
END
$$;
COMMENT ON FUNCTION submeter.create_storage() IS
'Creates or migrates the tables, indexes, views, triggers, policies and built-in rows in the schema submeter; harmless to repeat. Returns the storage version. 42501 for anyone but the administrator.';

CREATE FUNCTION submeter.is_adopted() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: anyone may know whether this database is awake.
	RETURN (SELECT i.system_identifier = submeter.system_identifier()
			AND i.database_oid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
		FROM submeter.installation i);
END
$$;
COMMENT ON FUNCTION submeter.is_adopted() IS
'False in a restored, cloned or copied database until adopt(): it must not move real breakers or money. A promoted standby is the same system.';

CREATE FUNCTION submeter.guard() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted int;
BEGIN
	-- authorize: called by authorize() itself and by duties.
	SELECT max(s.version) INTO wanted FROM submeter.storage_step s;
	IF submeter.storage_version() IS DISTINCT FROM wanted THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the storage of submeter does not match its code',
			DETAIL = format('Storage version %s, code expects %s.', submeter.storage_version(), wanted),
			HINT = CASE WHEN submeter.storage_version() > wanted
				THEN 'The tables are newer than the code: install the newer version and run ALTER EXTENSION submeter UPDATE.'
				ELSE 'Run SELECT submeter.create_storage() as administrator.' END;
	END IF;
	IF NOT submeter.is_adopted() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is a copy of another installation of submeter',
			DETAIL = 'The server or database it was made on is not this one, so it must not move breakers or money.',
			HINT = 'When the original is switched off for good, run SELECT submeter.adopt(''reason'').';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.guard() IS
'Refuses (55000) work in a database whose storage is older than its code, or which is a copy nobody adopted.';

CREATE FUNCTION submeter.adopt(reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: a site's rights do not reach this far; the caller must be the administrator of the database.
	who name := (submeter.me()).role;
BEGIN
	IF NOT pg_has_role(who, 'submeter_owner', 'member') THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'adopt() is for the database administrator',
			HINT = 'Call it as a superuser.';
	END IF;
	PERFORM submeter.require_text('reason', adopt.reason);
	IF submeter.is_adopted() THEN
		RETURN;
	END IF;
	-- The pollers of the original are not this one's.
	DELETE FROM submeter.gateway_lease;
	DELETE FROM submeter.poller;
	-- What was in flight when the copy was taken may or may not have reached the field: ask the relay, never send again.
	UPDATE submeter.command c
	SET state = 'unknown', lease_until = NULL, claimed_by = NULL, detail = 'in flight when the database was copied'
	WHERE c.state IN ('claimed', 'sent', 'awaiting_key');
	PERFORM submeter.finish_command(c.site_id, c.command_id, 'expired', 'queued in the original installation', clock_timestamp())
	FROM submeter.command c
	WHERE c.state IN ('held', 'queued');
	-- The original may have delivered what still waits here; whoever was to be told of a trip is announced anew.
	UPDATE submeter.account_state t
	SET announced_at = NULL, notice_id = NULL, lead = NULL, trip_due_at = NULL
	WHERE t.announced_at IS NOT NULL AND submeter.told_at(t.site_id, t.account_id, t.notice_id) IS NULL;
	UPDATE submeter.notice n
	SET state = 'cancelled', last_error = 'queued in the original installation'
	WHERE n.state IN ('queued', 'sending');
	UPDATE submeter.notice n SET delivery = 'none' WHERE n.delivery = 'waiting';
	-- Of requests to the outside the original may have sent the rest, or does so still.
	UPDATE submeter.outbound o
	SET state = CASE o.state WHEN 'claimed' THEN 'unknown' ELSE 'cancelled' END, lease_until = NULL, finished_at = clock_timestamp(),
		detail = CASE o.state WHEN 'claimed' THEN 'in flight when the database was copied' ELSE 'queued in the original installation' END
	WHERE o.state IN ('queued', 'claimed');
	UPDATE submeter.installation i
	SET system_identifier = submeter.system_identifier(),
		database_oid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
		adopted_at = clock_timestamp(), adopted_by = session_user, adopt_reason = adopt.reason;
END
$$;
COMMENT ON FUNCTION submeter.adopt(text) IS
'Makes this database the installation that works: afterwards duties and daemons run here. Commands that were in flight become unknown (their relay is read back), queued ones expire, waiting notices are cancelled. 42501 unless administrator.';
