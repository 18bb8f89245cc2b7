-- Room: permission. Who may call which verb, and which verbs are dangerous enough for a second person.

CREATE TABLE submeter.verb (
	verb name PRIMARY KEY,
	roles name[] NOT NULL,
	dangerous boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE submeter.verb IS
'Reference rows of the extension: the roles that may call a verb at a site they work at. Dangerous verbs pass the approval hook.';
COMMENT ON COLUMN submeter.verb.verb IS 'name of the function';
COMMENT ON COLUMN submeter.verb.roles IS 'group roles that may call it';
COMMENT ON COLUMN submeter.verb.dangerous IS 'true when a site may demand the approval of a second person (site.approval_verbs)';

INSERT INTO submeter.verb (verb, roles, dangerous) VALUES
	('ingest', '{submeter_poller,submeter_field,submeter_admin}', false),
	('ingest_json', '{submeter_poller,submeter_field,submeter_admin}', false),
	('judge_reading', '{submeter_admin,submeter_operator,submeter_field}', true),
	('set_meter_key', '{submeter_admin,submeter_field}', false),
	('set_meter_clock', '{submeter_admin,submeter_operator,submeter_field}', false),
	('create_tariff', '{submeter_admin}', true),
	('simulate_tariff', '{submeter_admin,submeter_operator,submeter_auditor}', false),
	('simulate_summary', '{submeter_admin,submeter_operator,submeter_auditor}', false),
	('settle', '{submeter_admin,submeter_operator}', false),
	('post_charges', '{submeter_admin}', false),
	('close_cycle', '{submeter_admin}', false),
	('void_bill', '{submeter_admin}', true),
	('issue_bill', '{submeter_admin}', true),
	('explain_bill', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp,submeter_tenant}', false),
	('bill_html', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp,submeter_tenant}', false),
	('recharge', '{submeter_admin,submeter_cashier,submeter_erp}', false),
	('adjust', '{submeter_admin,submeter_operator}', true),
	('reverse_movement', '{submeter_admin}', true),
	('move_in', '{submeter_admin,submeter_operator}', false),
	('move_out', '{submeter_admin,submeter_operator}', true),
	('replace_meter', '{submeter_admin,submeter_operator,submeter_field}', false),
	('correct_final_register', '{submeter_admin,submeter_operator}', true),
	('begin_commission', '{submeter_admin,submeter_operator,submeter_field}', false),
	('record_commission_check', '{submeter_admin,submeter_operator,submeter_field}', false),
	('waive_commission_check', '{submeter_admin}', true),
	('run_load_step', '{submeter_admin,submeter_operator,submeter_field}', false),
	('start_trip_test', '{submeter_admin,submeter_operator,submeter_field}', true),
	('finish_trip_test', '{submeter_admin,submeter_operator,submeter_field}', false),
	('finish_commission', '{submeter_admin,submeter_operator,submeter_field}', false),
	('fail_commission', '{submeter_admin,submeter_operator,submeter_field}', false),
	('commission_meter', '{submeter_admin,submeter_operator,submeter_field}', false),
	('adopt_meters', '{submeter_admin}', true),
	('commission_sheet', '{submeter_admin,submeter_operator,submeter_field,submeter_auditor,submeter_erp}', false),
	('take_emergency_credit', '{submeter_admin,submeter_operator,submeter_cashier,submeter_tenant}', false),
	('pay_debt', '{submeter_admin,submeter_operator,submeter_cashier,submeter_erp,submeter_tenant}', false),
	('set_instalments', '{submeter_admin,submeter_operator}', false),
	('write_off', '{submeter_admin}', true),
	('refund', '{submeter_admin,submeter_operator,submeter_cashier}', true),
	('take_deposit', '{submeter_admin,submeter_cashier,submeter_erp}', false),
	('return_deposit', '{submeter_admin,submeter_operator,submeter_cashier}', true),
	('transfer_balance', '{submeter_admin,submeter_operator,submeter_cashier}', false),
	('dismiss_proposal', '{submeter_admin,submeter_operator}', true),
	('correct_setup', '{submeter_admin,submeter_operator}', true),
	('correct_supply', '{submeter_admin,submeter_operator}', true),
	('correct_tariff', '{submeter_admin}', true),
	('correct_price', '{submeter_admin}', true),
	('balances_at', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp}', false),
	('balance', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp,submeter_tenant}', false),
	('verify_ledger', '{submeter_admin,submeter_auditor}', false),
	('seal', '{submeter_admin}', false),
	('ledger_head', '{submeter_admin,submeter_auditor}', false),
	('check_head', '{submeter_admin,submeter_auditor}', false),
	('export_head', '{submeter_admin}', false),
	('load_prices', '{submeter_admin}', true),
	('load_calendar', '{submeter_admin}', true),
	('declare_day', '{submeter_admin,submeter_operator}', true),
	('enter_grid_bill', '{submeter_admin,submeter_operator,submeter_erp}', true),
	('run_share', '{submeter_admin,submeter_operator}', true),
	('reverse_share', '{submeter_admin}', true),
	('share_slip', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp,submeter_tenant}', false),
	('resale_check', '{submeter_admin,submeter_operator,submeter_auditor,submeter_erp}', false),
	('propose_refunds', '{submeter_admin,submeter_operator}', false),
	('accept_proposal', '{submeter_admin}', true),
	('request_command', '{submeter_admin,submeter_operator}', true),
	('confirm_command', '{submeter_admin,submeter_operator}', false),
	('cancel_command', '{submeter_admin,submeter_operator}', false),
	('set_lockout', '{submeter_admin,submeter_operator,submeter_field}', false),
	('clear_lockout', '{submeter_admin,submeter_operator,submeter_field}', true),
	('clear_cause', '{submeter_admin,submeter_operator}', true),
	('reading_success', '{submeter_admin,submeter_operator,submeter_field,submeter_auditor,submeter_erp}', false),
	('request_read', '{submeter_admin,submeter_operator,submeter_cashier,submeter_field}', false),
	('apply_policy', '{submeter_admin,submeter_operator}', false),
	('why_dark', '{submeter_admin,submeter_operator,submeter_cashier,submeter_field,submeter_auditor,submeter_tenant}', false),
	('evaluate_alarms', '{submeter_admin,submeter_operator}', false),
	('acknowledge_alarm', '{submeter_admin,submeter_operator,submeter_field}', false),
	('ask_approval', '{submeter_admin,submeter_operator,submeter_cashier,submeter_field,submeter_erp}', false),
	('decide_approval', '{submeter_admin}', false),
	('poller', '{submeter_poller}', false),
	('set_secret', '{submeter_admin}', false),
	('rotate_secrets', '{submeter_admin}', false),
	('create_payment', '{submeter_admin,submeter_operator,submeter_cashier,submeter_erp,submeter_tenant}', false),
	('check_payment', '{submeter_admin,submeter_operator,submeter_cashier,submeter_erp,submeter_tenant}', false),
	('cancel_payment', '{submeter_admin,submeter_operator,submeter_cashier,submeter_erp,submeter_tenant}', false),
	('reconcile', '{submeter_admin}', true),
	('decide_reconcile', '{submeter_admin,submeter_operator}', true),
	('set_channel', '{submeter_admin}', false),
	('preview_notice', '{submeter_admin,submeter_operator}', false),
	('register_device', '{submeter_admin,submeter_operator,submeter_tenant}', false),
	('begin_wechat_login', '{submeter_admin,submeter_operator,submeter_tenant}', false),
	('finish_wechat_login', '{submeter_admin,submeter_operator,submeter_tenant}', false),
	('check_wechat_login', '{submeter_admin,submeter_operator,submeter_tenant}', false),
	('courier', '{submeter_courier}', false),
	('resend_outbound', '{submeter_admin,submeter_operator}', true),
	('create_partitions', '{submeter_admin}', false),
	('run_duties', '{submeter_admin}', false);

CREATE FUNCTION submeter.me(OUT login name, OUT role name, OUT site_id int, OUT tenant_id bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	outer_role text := current_setting('role', true);
	claims jsonb;
BEGIN
	-- SET ROLE is visible here even inside definer functions, and a session can only take roles it was granted.
	me.login := session_user;
	me.role := CASE WHEN outer_role IS NULL OR outer_role IN ('none', '') THEN session_user ELSE outer_role END;
	-- Token claims count only when the session belongs to the web gateway: anybody else could SET them.
	IF session_user = 'authenticator' THEN
		claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
		me.login := coalesce(claims ->> 'login', 'anonymous');
		me.site_id := (claims ->> 'site_id')::int;
		me.tenant_id := (claims ->> 'tenant_id')::bigint;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.me() IS
'Who is asking: the login, the role in force and, for sessions of the web gateway only, the site and tenant of the token. The only place that decides this.';

CREATE FUNCTION submeter.is_internal() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_has_role((submeter.me()).role, 'submeter_owner', 'member')
$$;
COMMENT ON FUNCTION submeter.is_internal() IS
'True for superusers and for the workers, which act as submeter_owner: they work at every site.';

CREATE FUNCTION submeter.my_sites() RETURNS int[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	who record;
	sites int[];
BEGIN
	-- authorize: every role may ask for its own sites.
	who := submeter.me();
	IF pg_has_role(who.role, 'submeter_owner', 'member') THEN
		SELECT array_agg(s.site_id) INTO sites FROM submeter.site s;
	ELSE
		SELECT array_agg(DISTINCT x.site_id) INTO sites
		FROM (
			SELECT m.site_id FROM submeter.site_member m WHERE m.login IN (who.login, who.role)
			UNION ALL
			SELECT c.site_id FROM submeter.contact c WHERE c.login IN (who.login, who.role)
			UNION ALL
			SELECT who.site_id WHERE who.site_id IS NOT NULL AND who.tenant_id IS NOT NULL
		) x;
	END IF;
	RETURN coalesce(sites, '{}');
END
$$;
COMMENT ON FUNCTION submeter.my_sites() IS
'The sites at which the caller works or is a tenant; row-level policies compare site_id with it.';

CREATE FUNCTION submeter.my_tenants() RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	who record;
BEGIN
	-- authorize: every role may ask which tenants it is.
	who := submeter.me();
	RETURN coalesce((
		SELECT array_agg(DISTINCT x.tenant_id)
		FROM (
			SELECT c.tenant_id FROM submeter.contact c WHERE c.login IN (who.login, who.role)
			UNION ALL
			SELECT who.tenant_id WHERE who.tenant_id IS NOT NULL
		) x), '{}');
END
$$;
COMMENT ON FUNCTION submeter.my_tenants() IS
'The tenants for which the caller is a contact (contact.login) or which the web token names.';

CREATE FUNCTION submeter.my_accounts() RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: every role may ask for its own accounts.
	RETURN coalesce((
		SELECT array_agg(a.account_id) FROM submeter.account a WHERE a.tenant_id = ANY (submeter.my_tenants())), '{}');
END
$$;
COMMENT ON FUNCTION submeter.my_accounts() IS
'The accounts of my_tenants(); row-level policies of tenants compare account_id with it.';

CREATE FUNCTION submeter.my_meters() RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: every role may ask for its own meters. A former tenant's meter is not theirs any more.
	RETURN coalesce((
		SELECT array_agg(s.meter_id) FROM submeter.supply s
		WHERE s.account_id = ANY (submeter.my_accounts()) AND s.during @> now()), '{}');
END
$$;
COMMENT ON FUNCTION submeter.my_meters() IS
'The meters that feed my_accounts() now; row-level policies of tenants compare meter_id with it.';

CREATE FUNCTION submeter.is_site_open(site_id int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN is_site_open.site_id = ANY (submeter.my_sites());
END
$$;
COMMENT ON FUNCTION submeter.is_site_open(int) IS 'True when the caller may see the site.';

CREATE FUNCTION submeter.authorize(verb name, site_id int) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	who record := submeter.me();
	allowed name[];
BEGIN
	PERFORM submeter.guard();
	IF authorize.site_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s needs a site', authorize.verb),
			DETAIL = 'The argument site_id is NULL.', HINT = 'Pass the site_id of an existing site.';
	END IF;
	IF NOT pg_has_role(who.role, 'submeter_owner', 'member') THEN
		SELECT v.roles INTO allowed FROM submeter.verb v WHERE v.verb = authorize.verb;
		IF NOT EXISTS (SELECT FROM unnest(allowed) r(name) WHERE pg_has_role(who.role, r.name, 'member'))
			OR NOT submeter.is_site_open(authorize.site_id)
		THEN
			RAISE EXCEPTION USING ERRCODE = '42501',
				MESSAGE = format('%s is not allowed at site %s for %s', authorize.verb, authorize.site_id, who.login),
				DETAIL = format('The verb is for %s who work at the site.', array_to_string(allowed, ', ')),
				HINT = 'An administrator grants the role and adds the login to site_member.';
		END IF;
	END IF;
	IF NOT EXISTS (SELECT FROM submeter.site s WHERE s.site_id = authorize.site_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s does not exist', authorize.site_id),
			HINT = 'SELECT site_id, code FROM submeter.site lists the sites.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.authorize(name, int) IS
'First statement of every verb. Refuses a copied database (55000), a missing right (42501), a NULL site (22004) and an unknown site (P0002).';

CREATE FUNCTION submeter.require_approval(verb name, site_id int, arguments jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted boolean;
	granted bigint;
BEGIN
	SELECT require_approval.verb = ANY (s.approval_verbs) INTO wanted
	FROM submeter.site s WHERE s.site_id = require_approval.site_id;
	IF NOT coalesce(wanted, false) OR submeter.is_worker() THEN
		RETURN;
	END IF;
	UPDATE submeter.approval a SET used_at = clock_timestamp()
	WHERE a.site_id = require_approval.site_id
		AND a.approval_id = (
			SELECT p.approval_id FROM submeter.approval p
			WHERE p.site_id = require_approval.site_id AND p.verb = require_approval.verb
				AND p.arguments = require_approval.arguments AND p.state = 'approved'
				AND p.used_at IS NULL AND p.expires_at > clock_timestamp()
			ORDER BY p.approval_id LIMIT 1 FOR UPDATE SKIP LOCKED)
	RETURNING a.approval_id INTO granted;
	IF granted IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42501',
			MESSAGE = format('%s needs the approval of a second person at this site', require_approval.verb),
			DETAIL = format('No approved and unused request for the arguments %s.', require_approval.arguments),
			HINT = format('SELECT submeter.ask_approval(%s, %L, %L, ''why''); another administrator then calls decide_approval.',
				require_approval.site_id, require_approval.verb, require_approval.arguments);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_approval(name, int, jsonb) IS
'The hook in dangerous verbs: passes when the site does not demand approval for the verb, or uses up one approved request for exactly these arguments; otherwise 42501.';

CREATE FUNCTION submeter.is_worker() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(nullif(current_setting('submeter.duty', true), ''), '') <> '' AND submeter.is_internal()
$$;
COMMENT ON FUNCTION submeter.is_worker() IS
'True while a duty runs: its own requests are decided by the policy and need no second person.';

CREATE FUNCTION submeter.ask_approval(site_id int, verb name, arguments jsonb, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked bigint;
BEGIN
	PERFORM submeter.authorize('ask_approval', ask_approval.site_id);
	IF NOT EXISTS (SELECT FROM submeter.verb v WHERE v.verb = ask_approval.verb AND v.dangerous) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s does not take approvals', coalesce(ask_approval.verb, 'NULL')),
			HINT = 'SELECT verb FROM submeter.verb WHERE dangerous lists the verbs that do.';
	END IF;
	PERFORM submeter.require_text('reason', ask_approval.reason);
	INSERT INTO submeter.approval (site_id, verb, arguments, reason, asked_by)
	VALUES (ask_approval.site_id, ask_approval.verb, coalesce(ask_approval.arguments, '{}'), ask_approval.reason,
		(submeter.me()).login)
	RETURNING approval_id INTO asked;
	RETURN asked;
END
$$;
COMMENT ON FUNCTION submeter.ask_approval(int, name, jsonb, text) IS
'Asks a second person to approve one call of a dangerous verb with exactly these arguments; returns the approval_id.';

CREATE FUNCTION submeter.decide_approval(site_id int, approval_id bigint, approve boolean, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	request submeter.approval%ROWTYPE;
BEGIN
	PERFORM submeter.authorize('decide_approval', decide_approval.site_id);
	SELECT a.* INTO request FROM submeter.approval a
	WHERE a.site_id = decide_approval.site_id AND a.approval_id = decide_approval.approval_id FOR UPDATE;
	IF NOT FOUND OR request.state <> 'asked' OR decide_approval.approve IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('approval %s is not waiting for a decision', coalesce(decide_approval.approval_id::text, 'NULL')),
			HINT = 'SELECT * FROM submeter.approval WHERE state = ''asked'' lists the open ones.';
	END IF;
	IF request.asked_by = (submeter.me()).login THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'nobody approves their own request',
			DETAIL = format('Approval %s was asked for by %s.', request.approval_id, request.asked_by),
			HINT = 'Another administrator of the site decides it.';
	END IF;
	UPDATE submeter.approval a
	SET state = CASE WHEN decide_approval.approve THEN 'approved' ELSE 'refused' END,
		decided_by = (submeter.me()).login, decided_at = clock_timestamp(), note = decide_approval.note
	WHERE a.site_id = decide_approval.site_id AND a.approval_id = decide_approval.approval_id;
END
$$;
COMMENT ON FUNCTION submeter.decide_approval(int, bigint, boolean, text) IS
'Another person approves or refuses a request of ask_approval; 42501 for one''s own request, 55000 when nothing waits.';

CREATE FUNCTION submeter.require_text(argument text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_text.value IS NULL OR btrim(require_text.value) = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is missing', require_text.argument),
			DETAIL = format('The argument %s is NULL or blank.', require_text.argument),
			HINT = 'Say it in a few words; it stays on record.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_text(text, text) IS 'Refuses NULL and blank text with SQLSTATE 22023, naming the argument.';
