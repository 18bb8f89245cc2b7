-- Room: account, moving out: supplies end, final registers are waited for, the rest is settled. Lock order: see 62_account.sql.

CREATE FUNCTION submeter.end_supplies(site_id int, account_id bigint, meter_ids bigint[], at timestamptz, closing_wh jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT DISTINCT ON (y.meter_id) y.supply_id, y.meter_id, lower(y.during) AS since, upper(y.during) AS until,
			(end_supplies.closing_wh ->> m.code)::bigint AS wh
		FROM submeter.supply y
		JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id
		WHERE y.site_id = end_supplies.site_id AND y.account_id = end_supplies.account_id AND y.meter_id = ANY (end_supplies.meter_ids)
		ORDER BY y.meter_id, y.during DESC
	LOOP
		IF item.since >= end_supplies.at THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('nobody moves out before moving in: at %s', end_supplies.at),
				DETAIL = format('Meter %s feeds the account since %s.', item.meter_id, item.since), HINT = 'Pass a later time.';
		END IF;
		PERFORM submeter.require_register(end_supplies.site_id, item.meter_id, end_supplies.at, item.wh);
		IF item.until < end_supplies.at THEN
			PERFORM submeter.require_free(end_supplies.site_id, ARRAY[item.meter_id], item.until, end_supplies.at);
		END IF;
		UPDATE submeter.supply y SET during = tstzrange(item.since, end_supplies.at), closing_wh = coalesce(item.wh, y.closing_wh)
		WHERE y.site_id = end_supplies.site_id AND y.supply_id = item.supply_id
			AND (y.during, y.closing_wh) IS DISTINCT FROM (tstzrange(item.since, end_supplies.at), coalesce(item.wh, y.closing_wh));
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.end_supplies(int, bigint, bigint[], timestamptz, jsonb) IS
'Ends the supplies of an account by these meters at a time, with the registers given by meter code; one that was to end earlier or later is moved, if nobody else is in the way.';

CREATE FUNCTION submeter.start_move_out(site_id int, move_out_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	meter bigint;
BEGIN
	UPDATE submeter.move_out o SET state = 'waiting', waiting_since = start_move_out.as_of
	WHERE o.site_id = start_move_out.site_id AND o.move_out_id = start_move_out.move_out_id
	RETURNING o.* INTO leaving;
	FOREACH meter IN ARRAY leaving.meter_ids
	LOOP
		PERFORM submeter.open_vacant(leaving.site_id, meter, leaving.open_breaker, leaving.reason, start_move_out.as_of);
		IF NOT submeter.has_final_reading(leaving.site_id, meter, leaving.at)
			AND EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = leaving.site_id AND m.meter_id = meter AND m.retired_at IS NULL)
		THEN
			PERFORM submeter.queue_read(leaving.site_id, meter, leaving.reason, start_move_out.as_of);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.start_move_out(int, bigint, timestamptz) IS
'The time of a move-out has come: breakers are opened, and the meters whose register at the end is not known yet are read at once.';

CREATE FUNCTION submeter.move_out_check(site_id int, account_id bigint, at timestamptz, closing_wh jsonb, refund_method text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	PERFORM submeter.require_instant(move_out_check.at, 'move_out');
	PERFORM submeter.require_my_account(move_out_check.site_id, move_out_check.account_id);
	IF move_out_check.refund_method IS NOT NULL AND move_out_check.refund_method <> 'origin' THEN
		PERFORM submeter.require_method(move_out_check.refund_method);
	END IF;
	bad := CASE
		WHEN move_out_check.refund_method IN ('alipay', 'wechat') THEN 'refund_method is origin, or a way of paying that is ours; a provider pays back only what it took'
		WHEN move_out_check.closing_wh IS NULL THEN NULL
		WHEN move_out_check.at > move_out_check.as_of THEN 'closing_wh is not known before the time has come'
		WHEN jsonb_typeof(move_out_check.closing_wh) <> 'object' THEN 'closing_wh is an object of registers by meter code'
		ELSE (
			SELECT CASE WHEN jsonb_typeof(k.value) = 'number' AND k.value::numeric % 1 = 0 AND abs(k.value::numeric) < 1e15
				THEN format('closing_wh names meters of the account; %s is none', k.key)
				ELSE format('a register is a whole number of Wh; that of %s is not', k.key) END
			FROM jsonb_each(CASE jsonb_typeof(move_out_check.closing_wh) WHEN 'object' THEN move_out_check.closing_wh ELSE '{}' END) k
			WHERE NOT (jsonb_typeof(k.value) = 'number' AND k.value::numeric % 1 = 0 AND abs(k.value::numeric) < 1e15)
				OR NOT EXISTS (
					SELECT FROM submeter.supply y
					JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id
					WHERE y.site_id = move_out_check.site_id AND y.account_id = move_out_check.account_id AND m.code = k.key)
			ORDER BY k.key LIMIT 1) END;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('account %s does not move out like this', move_out_check.account_id),
			DETAIL = format('Wanted: %s.', bad), HINT = 'For example move_out(1, account_id, now(), ''{"M-101": 1234567}'', ''origin'').';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.move_out_check(int, bigint, timestamptz, jsonb, text, timestamptz) IS
'Refuses arguments of move_out() that are malformed (22023) or an account the site does not have (P0002).';

CREATE FUNCTION submeter.move_out(site_id int, account_id bigint, at timestamptz, closing_wh jsonb DEFAULT NULL, refund_method text DEFAULT NULL,
	reason text DEFAULT 'moved out', open_breaker boolean DEFAULT true, meter_ids bigint[] DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	leaving bigint;
	known submeter.move_out;
	meters bigint[];
	all_meters bigint[];
BEGIN
	PERFORM submeter.authorize('move_out', move_out.site_id);
	PERFORM submeter.require_text('reason', move_out.reason);
	PERFORM submeter.move_out_check(move_out.site_id, move_out.account_id, move_out.at, move_out.closing_wh, move_out.refund_method, move_out.as_of);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = move_out.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.lock_meter(move_out.site_id, m.meter_id)
	FROM (SELECT DISTINCT y.meter_id FROM submeter.supply y
		WHERE y.site_id = move_out.site_id AND y.account_id = move_out.account_id ORDER BY y.meter_id) m;
	PERFORM submeter.lock_account(move_out.site_id, move_out.account_id);
	-- The meters it has at that time, or gives back by a plan made before.
	SELECT o.* INTO known FROM submeter.move_out o
	WHERE o.site_id = move_out.site_id AND o.account_id = move_out.account_id AND o.closes AND o.state <> 'cancelled'
	ORDER BY o.move_out_id DESC LIMIT 1;
	SELECT array_agg(DISTINCT y.meter_id) INTO all_meters FROM submeter.supply y
	WHERE y.site_id = move_out.site_id AND y.account_id = move_out.account_id
		AND (upper_inf(y.during) OR upper(y.during) >= move_out.at OR known.state = 'planned' AND upper(y.during) = known.at);
	meters := coalesce((SELECT array_agg(DISTINCT m ORDER BY m) FROM unnest(move_out.meter_ids) m), all_meters, '{}');
	IF NOT meters <@ coalesce(all_meters, '{}') THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('account %s does not have all of these meters then', move_out.account_id),
			DETAIL = format('It has %s.', coalesce(all_meters::text, 'none')), HINT = 'Leave meter_ids out to give back all of them.';
	END IF;
	IF known.state IN ('waiting', 'done') AND known.at = move_out.at THEN
		-- The same call again, perhaps with the registers somebody has read meanwhile.
		leaving := known.move_out_id;
		IF known.state = 'done' THEN
			RETURN leaving;
		END IF;
	END IF;
	IF known.state = 'waiting' AND known.at <> move_out.at THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s is moving out already', move_out.account_id),
			DETAIL = format('It ends at %s and waits for its final readings.', known.at), HINT = 'Call with the same time, and the registers if they are known.';
	END IF;
	PERFORM submeter.require_open_account(move_out.site_id, move_out.account_id);
	IF leaving IS NULL THEN
		PERFORM submeter.require_approval('move_out', move_out.site_id, jsonb_build_object('account_id', move_out.account_id));
	END IF;
	PERFORM submeter.end_supplies(move_out.site_id, move_out.account_id, meters, move_out.at, move_out.closing_wh);
	IF leaving IS NULL THEN
		leaving := submeter.plan_move_out(move_out.site_id, move_out.account_id, move_out.at, meters, move_out.meter_ids IS NULL OR meters = all_meters,
			move_out.refund_method, move_out.open_breaker, move_out.reason, move_out.as_of);
	END IF;
	IF move_out.at <= move_out.as_of THEN
		IF known.state IS DISTINCT FROM 'waiting' THEN
			PERFORM submeter.start_move_out(move_out.site_id, leaving, move_out.as_of);
		END IF;
		PERFORM submeter.finish_move_out(move_out.site_id, leaving, move_out.as_of);
	END IF;
	RETURN leaving;
END
$$;
COMMENT ON FUNCTION submeter.move_out(int, bigint, timestamptz, jsonb, text, text, boolean, bigint[], timestamptz) IS
'Ends the supplies of an account at a time (also one to come), settles and closes it; with meter_ids it only gives these back. closing_wh has final registers by meter code; others are read over the air and waited for, at most site.close_delay, then estimated. refund_method: origin, or a method; else a credit is proposed to a person. A debt stays with the closed account. Returns move_out_id; the same call again goes on with it. Passes the approval hook with {account_id}. 22023 malformed, register or times; 55000 closed or moving out at another time; P0002 unknown.';

CREATE FUNCTION submeter.plan_move_out(site_id int, account_id bigint, at timestamptz, meter_ids bigint[], closes boolean, refund_method text,
	open_breaker boolean, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	planned bigint;
BEGIN
	-- A plan made before (a lease until a date) is overtaken.
	UPDATE submeter.move_out o SET state = 'cancelled', finished_at = plan_move_out.as_of, reason = o.reason || '; overtaken: ' || plan_move_out.reason
	WHERE o.site_id = plan_move_out.site_id AND o.account_id = plan_move_out.account_id AND o.state = 'planned'
		AND (plan_move_out.closes OR o.closes OR o.meter_ids && plan_move_out.meter_ids);
	INSERT INTO submeter.move_out (site_id, account_id, at, closes, meter_ids, state, refund_method, open_breaker, reason, requested_by, requested_at)
	VALUES (plan_move_out.site_id, plan_move_out.account_id, plan_move_out.at, plan_move_out.closes, plan_move_out.meter_ids, 'planned',
		plan_move_out.refund_method, plan_move_out.open_breaker, plan_move_out.reason, (submeter.me()).login, plan_move_out.as_of)
	RETURNING move_out_id INTO planned;
	RETURN planned;
END
$$;
COMMENT ON FUNCTION submeter.plan_move_out(int, bigint, timestamptz, bigint[], boolean, text, boolean, text, timestamptz) IS
'Writes a planned move-out and cancels the plan it overtakes.';

CREATE FUNCTION submeter.unread_ends(site_id int, move_out_id bigint) RETURNS TABLE (meter_id bigint, ends_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT y.meter_id, upper(y.during)
	FROM submeter.move_out o
	JOIN submeter.supply y ON y.site_id = o.site_id AND y.account_id = o.account_id AND upper(y.during) <= o.at
		AND (o.closes OR y.meter_id = ANY (o.meter_ids))
	WHERE o.site_id = unread_ends.site_id AND o.move_out_id = unread_ends.move_out_id
		AND NOT submeter.has_final_reading(y.site_id, y.meter_id, upper(y.during))
$$;
COMMENT ON FUNCTION submeter.unread_ends(int, bigint) IS
'Meters whose register at the end of their supply a move-out still waits for; an account that closes waits for all it ever had.';

CREATE FUNCTION submeter.finish_move_out(site_id int, move_out_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	assumed int := 0;
BEGIN
	SELECT o.* INTO leaving FROM submeter.move_out o
	WHERE o.site_id = finish_move_out.site_id AND o.move_out_id = finish_move_out.move_out_id AND o.state = 'waiting' FOR UPDATE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	IF EXISTS (SELECT FROM submeter.unread_ends(leaving.site_id, leaving.move_out_id)) THEN
		IF finish_move_out.as_of < leaving.waiting_since + (SELECT s.close_delay FROM submeter.site s WHERE s.site_id = leaving.site_id) THEN
			RETURN false;
		END IF;
		INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason, by)
		SELECT leaving.site_id, u.meter_id, u.ends_at, e.wh, 'no final reading came: ' || leaving.reason, (submeter.me()).login
		FROM submeter.unread_ends(leaving.site_id, leaving.move_out_id) u
		CROSS JOIN LATERAL submeter.closing_estimate(leaving.site_id, u.meter_id, u.ends_at) e(wh)
		WHERE e.wh IS NOT NULL
		ON CONFLICT ON CONSTRAINT register_estimate_site_id_meter_id_ts_key DO NOTHING;
		GET DIAGNOSTICS assumed = ROW_COUNT;
	END IF;
	PERFORM submeter.settle_now(leaving.site_id, finish_move_out.as_of);
	IF leaving.closes THEN
		PERFORM submeter.close_account_cycles(leaving.site_id, leaving.account_id, leaving.at);
		PERFORM submeter.close_account(leaving.site_id, leaving.move_out_id, finish_move_out.as_of);
	END IF;
	UPDATE submeter.move_out o SET state = 'done', finished_at = finish_move_out.as_of, estimated = assumed > 0, error = NULL
	WHERE o.site_id = leaving.site_id AND o.move_out_id = leaving.move_out_id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.finish_move_out(int, bigint, timestamptz) IS
'Finishes a move-out once the registers at its end are known, or site.close_delay is over (then with estimates that a later reading replaces): settles and, if it closes, settles the money and closes the account. True when it did. The caller holds the duty settle.';

CREATE FUNCTION submeter.settle_now(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM submeter.duty_state d WHERE d.site_id = settle_now.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	RETURN (SELECT submeter.settle_site(s.site_id, s.time_zone, settle_now.as_of) FROM submeter.site s WHERE s.site_id = settle_now.site_id);
END
$$;
COMMENT ON FUNCTION submeter.settle_now(int, timestamptz) IS
'settle() of one site inside another verb, whose caller need not have the right to settle.';

CREATE FUNCTION submeter.close_account(site_id int, move_out_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	rest numeric;
	due numeric;
	paid numeric := 0;
BEGIN
	SELECT o.* INTO leaving FROM submeter.move_out o WHERE o.site_id = close_account.site_id AND o.move_out_id = close_account.move_out_id;
	PERFORM submeter.lock_account(leaving.site_id, leaving.account_id);
	rest := submeter.settle_sides(leaving.site_id, leaving.account_id, leaving.reason, close_account.as_of);
	due := submeter.side_total(leaving.site_id, leaving.account_id, 'debt');
	IF due > 0 THEN
		PERFORM submeter.propose(leaving.site_id, leaving.account_id, 'debt', due, 'move_out', format('move_out:%s:debt', leaving.move_out_id),
			jsonb_build_object('move_out_id', leaving.move_out_id, 'at', leaving.at));
	END IF;
	rest := least(rest, submeter.refundable(leaving.site_id, leaving.account_id));
	IF rest > 0 AND leaving.refund_method IS NOT NULL THEN
		PERFORM submeter.pay_out(leaving.site_id, leaving.account_id, 'refund', 'tenant', rest, nullif(leaving.refund_method, 'origin'),
			leaving.reason, 'move_out:' || leaving.move_out_id::text, close_account.as_of);
		paid := rest;
	ELSIF rest > 0 THEN
		PERFORM submeter.propose(leaving.site_id, leaving.account_id, 'refund', rest, 'move_out', format('move_out:%s:refund', leaving.move_out_id),
			jsonb_build_object('move_out_id', leaving.move_out_id, 'at', leaving.at));
	END IF;
	UPDATE submeter.account a SET state = 'closed', closed_at = leaving.at
	WHERE a.site_id = leaving.site_id AND a.account_id = leaving.account_id;
	DELETE FROM submeter.debt_plan p WHERE p.site_id = leaving.site_id AND p.account_id = leaving.account_id;
	UPDATE submeter.account_state t SET warned_below = NULL, arrears_since = NULL, announced_at = NULL, notice_id = NULL, lead = NULL, trip_due_at = NULL
	WHERE t.site_id = leaving.site_id AND t.account_id = leaving.account_id;
	UPDATE submeter.notice n SET state = 'cancelled'
	WHERE n.site_id = leaving.site_id AND n.account_id = leaving.account_id AND n.kind IN ('trip_announced', 'low_balance') AND n.state = 'queued';
	UPDATE submeter.move_out o SET balance = rest - due, refunded = paid, debt = due
	WHERE o.site_id = leaving.site_id AND o.move_out_id = leaving.move_out_id;
END
$$;
COMMENT ON FUNCTION submeter.close_account(int, bigint, timestamptz) IS
'Settles the money of an account that moves out and closes it: a credit is paid back or proposed, a debt stays on record with the closed account, and nobody is warned any more.';

CREATE FUNCTION submeter.settle_sides(site_id int, account_id bigint, reason text, as_of timestamptz) RETURNS numeric
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	part record;
	amount numeric;
BEGIN
	amount := submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'emergency');
	IF amount > 0 THEN
		PERFORM submeter.move_aside(settle_sides.site_id, settle_sides.account_id, 'emergency', -amount, 'emergency:%', settle_sides.as_of, settle_sides.reason);
	END IF;
	-- The deposit becomes balance with the ways it was paid, so that what is left of it goes back by them.
	amount := submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'deposit');
	IF amount > 0 THEN
		movement := submeter.next_movement(settle_sides.site_id);
		FOR part IN SELECT * FROM submeter.share_out(settle_sides.site_id, settle_sides.account_id, 'deposit', amount, NULL)
		LOOP
			PERFORM submeter.post_leg(settle_sides.site_id, movement, part.leg,
				submeter.side_account(settle_sides.site_id, settle_sides.account_id, 'deposit'),
				submeter.lock_account(settle_sides.site_id, settle_sides.account_id), part.amount, 'deposit', settle_sides.account_id,
				'move_out:deposit:' || movement::text, settle_sides.as_of, part.method, settle_sides.reason);
		END LOOP;
	END IF;
	amount := least(submeter.available_now(settle_sides.site_id, settle_sides.account_id), submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'debt'));
	IF amount > 0 THEN
		PERFORM submeter.move_aside(settle_sides.site_id, settle_sides.account_id, 'debt', -amount, 'debt:%', settle_sides.as_of, settle_sides.reason);
	END IF;
	amount := submeter.available_now(settle_sides.site_id, settle_sides.account_id);
	IF amount < 0 THEN
		PERFORM submeter.defer_debit(settle_sides.site_id, settle_sides.account_id, -amount, settle_sides.reason, settle_sides.as_of);
	END IF;
	RETURN greatest(amount, 0);
END
$$;
COMMENT ON FUNCTION submeter.settle_sides(int, bigint, text, timestamptz) IS
'Brings everything an account owes and holds together: emergency credit paid back, the deposit set against what is owed, debt paid; what is then missing becomes debt. Returns the credit that is left.';

CREATE FUNCTION submeter.propose(site_id int, account_id bigint, kind text, amount numeric, source text, dedupe_key text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
	VALUES (propose.site_id, propose.account_id, propose.kind, propose.amount, propose.source, propose.dedupe_key, propose.detail)
	ON CONFLICT ON CONSTRAINT proposal_site_id_dedupe_key_key DO NOTHING
$$;
COMMENT ON FUNCTION submeter.propose(int, bigint, text, numeric, text, text, jsonb) IS
'Proposes a refund or a debt to a person, once per dedupe_key.';

CREATE FUNCTION submeter.tidy_closed(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	available numeric;
	owed numeric;
BEGIN
	FOR item IN
		SELECT l.account_id FROM submeter.ledger_account l
		JOIN submeter.account a ON a.site_id = l.site_id AND a.account_id = l.account_id AND a.state = 'closed'
		LEFT JOIN submeter.ledger_account d ON d.site_id = l.site_id AND d.account_id = l.account_id AND d.kind = 'debt'
		WHERE l.site_id = tidy_closed.site_id AND l.kind = 'tenant' AND (l.total < 0 OR l.total > 0 AND d.total < 0)
		ORDER BY l.ledger_account_id
	LOOP
		PERFORM submeter.lock_account(tidy_closed.site_id, item.account_id);
		available := submeter.available_now(tidy_closed.site_id, item.account_id);
		owed := submeter.side_total(tidy_closed.site_id, item.account_id, 'debt');
		IF available < 0 THEN
			PERFORM submeter.defer_debit(tidy_closed.site_id, item.account_id, -available, 'owed after moving out', tidy_closed.as_of);
		ELSIF least(available, owed) > 0 THEN
			PERFORM submeter.move_aside(tidy_closed.site_id, item.account_id, 'debt', -least(available, owed), 'debt:%', tidy_closed.as_of,
				'credit after moving out');
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.tidy_closed(int, timestamptz) IS
'What adjustments did to accounts of former tenants: a debit becomes debt of the person, which can be paid at the desk; a credit pays debt first.';

CREATE FUNCTION submeter.run_moves(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	message text;
	done int := 0;
BEGIN
	PERFORM submeter.guard();
	-- Somebody's supply has begun: the breaker was kept open for nobody.
	FOR item IN
		SELECT o.meter_id FROM submeter.open_cause o
		JOIN submeter.supply y ON y.site_id = o.site_id AND y.meter_id = o.meter_id AND y.during @> run_moves.as_of AND lower(y.during) >= o.since
		WHERE o.site_id = run_moves.site_id AND o.cause = 'vacant'
		ORDER BY o.meter_id
	LOOP
		PERFORM submeter.release_vacant(run_moves.site_id, item.meter_id, run_moves.as_of);
		done := done + 1;
	END LOOP;
	PERFORM submeter.tidy_closed(run_moves.site_id, run_moves.as_of);
	IF NOT EXISTS (SELECT FROM submeter.move_out o WHERE o.site_id = run_moves.site_id AND o.state IN ('planned', 'waiting') AND o.at <= run_moves.as_of) THEN
		RETURN done;
	END IF;
	PERFORM FROM submeter.duty_state d WHERE d.site_id = run_moves.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	FOR item IN
		SELECT o.move_out_id, o.state FROM submeter.move_out o
		WHERE o.site_id = run_moves.site_id AND o.state IN ('planned', 'waiting') AND o.at <= run_moves.as_of
		ORDER BY o.at, o.move_out_id
	LOOP
		BEGIN
			IF item.state = 'planned' THEN
				PERFORM submeter.start_move_out(run_moves.site_id, item.move_out_id, run_moves.as_of);
			END IF;
			done := done + submeter.finish_move_out(run_moves.site_id, item.move_out_id, run_moves.as_of)::int;
		EXCEPTION WHEN OTHERS THEN
			-- One that cannot be finished holds up no other; it is tried again and says why.
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			UPDATE submeter.move_out o SET error = SQLSTATE || ': ' || message
			WHERE o.site_id = run_moves.site_id AND o.move_out_id = item.move_out_id;
		END;
	END LOOP;
	RETURN done;
END
$$;
COMMENT ON FUNCTION submeter.run_moves(int, timestamptz) IS
'Duty: move-outs whose time has come and final readings are there, and breakers kept open for nobody where a supply has begun. Returns how many were done.';
