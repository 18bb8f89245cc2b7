-- Room: duties. What has to happen again and again, for the workers, for pg_cron and for tests.

CREATE TABLE submeter.duty (
	duty text PRIMARY KEY,
	every interval NOT NULL,
	ordinal int NOT NULL UNIQUE,
	description text NOT NULL
);
COMMENT ON TABLE submeter.duty IS 'Reference rows of the extension: the duties of each site, how often the workers look at them, and their order in run_duties().';
COMMENT ON COLUMN submeter.duty.duty IS 'name of the duty';
COMMENT ON COLUMN submeter.duty.every IS 'least time between two runs by a worker';
COMMENT ON COLUMN submeter.duty.ordinal IS 'order in run_duties()';
COMMENT ON COLUMN submeter.duty.description IS 'what it does';

INSERT INTO submeter.duty (duty, every, ordinal, description) VALUES
	('calendar', '1 hour', 0, 'public holidays of this year and the next'),
	('partitions', '1 hour', 1, 'partitions of reading for the coming months'),
	('settle', '500 ms', 2, 'readings to usage and charge'),
	('post', '1 minute', 3, 'charges into the ledger, once a local day'),
	('alarms', '10 s', 4, 'timed alarm rules'),
	('switching', '1 s', 5, 'expiry of commands, relays nobody switched, commands without an answer'),
	('breakers', '10 s', 9, 'keep-power of protected meters, breakers moved on the spot, keys nobody presses'),
	('policy', '2 s', 6, 'balances to decisions, notices and commands'),
	('payments', '1 s', 24, 'questions to payment providers about orders and refunds under way'),
	('notices', '1 s', 7, 'delivery of notices'),
	('history', '2 minutes', 8, 'gaps between readings, what meters keep of them, and how many readings came'),
	('moves', '5 s', 21, 'move-outs whose time and final readings have come, breakers of vacant units'),
	('instalments', '10 minutes', 22, 'monthly instalments of debt'),
	('reconcile', '1 hour', 25, 'daily files of payment providers'),
	('close', '10 minutes', 23, 'billing cycles that have ended into bills'),
	('seal', '5 minutes', 90, 'seals of the ledger, and its head for those who keep it');

CREATE FUNCTION submeter.post_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = post_duty.site_id);
	last_day date;
BEGIN
	-- The latest posting, not the greatest of all: that would be to read the whole ledger each minute.
	SELECT (t.effective_at AT TIME ZONE zone)::date INTO last_day
	FROM submeter.transfer t
	WHERE t.site_id = post_duty.site_id AND t.kind = 'charge'
	ORDER BY t.transfer_id DESC LIMIT 1;
	IF last_day >= (post_duty.as_of AT TIME ZONE zone)::date THEN
		RETURN 0;
	END IF;
	RETURN submeter.post_charges(post_duty.site_id, post_duty.as_of);
END
$$;
COMMENT ON FUNCTION submeter.post_duty(int, timestamptz) IS
'Posts charges when none were posted on the local day of as_of yet, so that a tenant sees one deduction a day.';

CREATE FUNCTION submeter.run_duty(site_id int, duty text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	began timestamptz := clock_timestamp();
	outcome bigint;
BEGIN
	PERFORM submeter.guard();
	PERFORM set_config('submeter.duty', run_duty.duty, true);
	CASE run_duty.duty
		WHEN 'partitions' THEN outcome := submeter.extend_partitions(run_duty.as_of);
		WHEN 'settle' THEN outcome := submeter.settle(run_duty.site_id, run_duty.as_of);
		WHEN 'post' THEN outcome := submeter.post_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'alarms' THEN outcome := submeter.evaluate_alarms(run_duty.site_id, run_duty.as_of);
		WHEN 'switching' THEN outcome := submeter.switch_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'breakers' THEN outcome := submeter.breaker_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'policy' THEN outcome := submeter.apply_policy(run_duty.site_id, run_duty.as_of);
		WHEN 'history' THEN outcome := submeter.history_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'moves' THEN outcome := submeter.run_moves(run_duty.site_id, run_duty.as_of);
		WHEN 'instalments' THEN outcome := submeter.collect_instalments(run_duty.site_id, run_duty.as_of);
		WHEN 'close' THEN outcome := submeter.close_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'notices' THEN outcome := submeter.deliver_notices(run_duty.site_id, run_duty.as_of);
		WHEN 'payments' THEN outcome := submeter.payment_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'reconcile' THEN outcome := submeter.reconcile_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'seal' THEN outcome := submeter.seal_duty(run_duty.site_id, run_duty.as_of);
		WHEN 'calendar' THEN outcome := submeter.extend_calendar(run_duty.site_id, run_duty.as_of);
		ELSE
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('there is no duty %s', run_duty.duty),
				HINT = 'SELECT duty FROM submeter.duty lists them.';
	END CASE;
	PERFORM set_config('submeter.duty', '', true);
	UPDATE submeter.duty_state d
	SET last_at = run_duty.as_of, last_ms = extract(epoch FROM clock_timestamp() - began) * 1000, done = d.done + 1,
		-- A duty that takes long comes less often, so that a large site leaves time for the others.
		failures = 0, error = NULL, next_at = began + greatest(x.every, 5 * (clock_timestamp() - began))
	FROM submeter.duty x
	WHERE d.site_id = run_duty.site_id AND d.duty = run_duty.duty AND x.duty = d.duty;
	RETURN outcome;
END
$$;
COMMENT ON FUNCTION submeter.run_duty(int, text, timestamptz) IS
'Runs one duty of one site as of a time and notes the success in duty_state; its caller''s transaction is the unit of work.';

CREATE FUNCTION submeter.duty_failed(site_id int, duty text, sqlstate text, message text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE submeter.duty_state d
	SET failures = d.failures + 1, failed_at = clock_timestamp(), error = duty_failed.sqlstate || ': ' || duty_failed.message,
		next_at = clock_timestamp() + least(interval '1 s' * power(2, least(d.failures, 20)), interval '10 minutes')
	WHERE d.site_id = duty_failed.site_id AND d.duty = duty_failed.duty
$$;
COMMENT ON FUNCTION submeter.duty_failed(int, text, text, text) IS
'Notes that a duty failed and when to try again: after 1 s, 2 s, 4 s … up to 10 minutes.';

CREATE FUNCTION submeter.run_duties(as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
	item record;
	state text;
	message text;
	failed int := 0;
BEGIN
	PERFORM submeter.guard();
	IF run_duties.as_of IS NULL OR NOT isfinite(run_duties.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'run_duties needs a point in time',
			HINT = 'Leave as_of out to run them as of now.';
	END IF;
	FOR item IN
		SELECT d.site_id, d.duty FROM submeter.duty_state d
		JOIN submeter.duty x ON x.duty = d.duty
		WHERE d.site_id = ANY (submeter.my_sites())
		ORDER BY d.site_id, x.ordinal
	LOOP
		PERFORM submeter.authorize('run_duties', item.site_id);
		BEGIN
			-- A worker that has the duty in hand does it; nobody waits for it.
			PERFORM FROM submeter.duty_state d WHERE d.site_id = item.site_id AND d.duty = item.duty FOR NO KEY UPDATE SKIP LOCKED;
			IF FOUND THEN
				PERFORM submeter.run_duty(item.site_id, item.duty, run_duties.as_of);
			END IF;
		EXCEPTION WHEN OTHERS THEN
			-- One failing site or duty never stops the others.
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
			PERFORM set_config('submeter.duty', '', true);
			PERFORM submeter.duty_failed(item.site_id, item.duty, state, message);
			failed := failed + 1;
		END;
	END LOOP;
	RETURN failed;
END
$$;
COMMENT ON FUNCTION submeter.run_duties(timestamptz) IS
'Runs every duty of all the caller''s sites once, in the foreground, as of a time: for pg_cron and tests, with or without workers. Returns how many failed; what failed is in duty_state.';

CREATE FUNCTION submeter.is_awake() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN submeter.storage_version() = (SELECT max(s.version) FROM submeter.storage_step s) AND submeter.is_adopted();
END
$$;
COMMENT ON FUNCTION submeter.is_awake() IS 'Whether duties run in this database: its storage matches the code and it is no copy.';

-- The view health says which duty is late.
GRANT SELECT ON submeter.duty TO submeter_admin, submeter_auditor;
