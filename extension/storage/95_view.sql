-- What people look at. Every view runs with the caller's rights, so the policies of the tables hold.

CREATE VIEW submeter.account_balance WITH (security_invoker = true, security_barrier = true) AS
SELECT a.site_id, a.account_id, a.code AS account, t.code AS tenant, t.name AS tenant_name, a.state, a.mode,
	l.total AS posted, coalesce(c.accrued, 0) AS accrued, l.total - coalesce(c.accrued, 0) AS available,
	p.credit_limit, p.mode AS policy_mode, st.arrears_since, st.trip_due_at,
	coalesce(-d.total, 0) AS debt, coalesce(-e.total, 0) AS emergency, coalesce(h.total, 0) AS deposit,
	CASE WHEN a.state = 'open' AND a.mode = 'prepaid' AND p.emergency_credit > 0 AND coalesce(e.total, 0) = 0
		AND l.total - coalesce(c.accrued, 0) < p.emergency_below THEN p.emergency_credit END AS emergency_offer
FROM submeter.account a
JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
JOIN submeter.ledger_account l ON l.site_id = a.site_id AND l.account_id = a.account_id AND l.kind = 'tenant'
JOIN submeter.site s ON s.site_id = a.site_id
LEFT JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
LEFT JOIN submeter.account_state st ON st.site_id = a.site_id AND st.account_id = a.account_id
LEFT JOIN submeter.ledger_account d ON d.site_id = a.site_id AND d.account_id = a.account_id AND d.kind = 'debt'
LEFT JOIN submeter.ledger_account e ON e.site_id = a.site_id AND e.account_id = a.account_id AND e.kind = 'emergency'
LEFT JOIN submeter.ledger_account h ON h.site_id = a.site_id AND h.account_id = a.account_id AND h.kind = 'deposit'
LEFT JOIN LATERAL (
	SELECT sum(c.rounded - c.posted - c.adjusted) AS accrued FROM submeter.charge c
	WHERE c.site_id = a.site_id AND c.account_id = a.account_id AND (c.billed IS NULL OR c.reopened) AND c.rounded <> c.posted + c.adjusted) c ON true;
SELECT submeter.describe('account_balance', 'Balance of each account now.', '{
	"account":"code of the account","tenant":"code of the tenant","tenant_name":"its name","state":"open or closed","mode":"prepaid or postpaid",
	"posted":"what the ledger says","accrued":"charged and not yet posted","available":"posted - accrued","credit_limit":"how far below zero is allowed",
	"policy_mode":"observe, ask or automatic","arrears_since":"since when below the limit","trip_due_at":"when the announced trip is due",
	"debt":"owed beside the balance","emergency":"emergency credit taken and not paid back","deposit":"held for the tenant","emergency_offer":"emergency credit that may be taken now"}');

CREATE VIEW submeter.live_meter WITH (security_invoker = true, security_barrier = true) AS
SELECT m.site_id, m.meter_id, m.code AS meter, m.model, m.role, m.protection, g.code AS gateway, m.bus_address,
	s.ts, round(s.energy_wh * 0.001, 3) AS register_kwh, s.power_w, s.v_a, s.v_b, s.v_c, s.i_a, s.i_b, s.i_c, s.power_factor,
	s.relay, s.relay_at, s.keep, s.clock_offset_s, s.online, s.last_contact_at, s.failures, s.errors, s.last_error, g.online AS gateway_online, g.round_ms, g.utilisation,
	(SELECT array_agg(o.cause ORDER BY o.cause) FROM submeter.open_cause o
		WHERE o.site_id = m.site_id AND o.meter_id = m.meter_id) AS open_causes
FROM submeter.meter m
LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
WHERE m.retired_at IS NULL;
SELECT submeter.describe('live_meter', 'Each meter as it is now.', '{
	"meter":"code of the meter","model":"its type","role":"supply, main, public or own","protection":"none, protected or life_safety","gateway":"code of its gateway",
	"bus_address":"address on the bus","ts":"time of the latest reading","register_kwh":"its register, before the multiplier","power_w":"active power","v_a":"voltage A","v_b":"voltage B",
	"v_c":"voltage C","i_a":"current A","i_b":"current B","i_c":"current C","power_factor":"power factor","relay":"contact: open or closed","relay_at":"when that was known",
	"keep":"keep-power (保电) as it was read back","clock_offset_s":"how far its own clock is ahead","online":"answered last","last_contact_at":"when it last answered","failures":"failures in a row","errors":"questions that failed so far","last_error":"last error",
	"gateway_online":"its gateway answered last","round_ms":"time of the last whole round of its bus","utilisation":"share of the time its bus is in use","open_causes":"why it is open or is to be"}');

CREATE VIEW submeter.usage_hour WITH (security_invoker = true, security_barrier = true) AS
SELECT u.site_id, u.meter_id, u.day,
	(u.day::timestamp AT TIME ZONE s.time_zone) + (h.n - 1) * interval '1 hour' AS hour,
	h.wh AS energy_wh, round(h.wh * 0.001, 3) AS kwh, nullif(h.w, 0) AS max_power_w
FROM submeter.usage_day u
JOIN submeter.site s ON s.site_id = u.site_id
CROSS JOIN LATERAL unnest(u.hour_wh, u.hour_max_w) WITH ORDINALITY AS h(wh, w, n);
SELECT submeter.describe('usage_hour', 'Energy of each local hour (用电量), after the multiplier; ask by day for speed.', '{
	"day":"local day","hour":"start of the hour","energy_wh":"energy in it, Wh","kwh":"energy in it, kWh","max_power_w":"largest power read in it"}');

CREATE VIEW submeter.usage_daily WITH (security_invoker = true, security_barrier = true) AS
SELECT u.site_id, u.meter_id, m.code AS meter, u.day, round(u.energy_wh * 0.001, 3) AS kwh, nullif(u.max_power_w, 0) AS max_power_w
FROM submeter.usage_day u JOIN submeter.meter m ON m.site_id = u.site_id AND m.meter_id = u.meter_id;
SELECT submeter.describe('usage_daily', 'Energy of each meter and local day.', '{"meter":"code of the meter","day":"local day","kwh":"energy in kWh","max_power_w":"largest power read"}');

CREATE VIEW submeter.usage_monthly WITH (security_invoker = true, security_barrier = true) AS
SELECT u.site_id, u.meter_id, m.code AS meter, date_trunc('month', u.day::timestamp)::date AS month, round(sum(u.energy_wh) * 0.001, 3) AS kwh,
	nullif(max(u.max_power_w), 0) AS max_power_w
FROM submeter.usage_day u JOIN submeter.meter m ON m.site_id = u.site_id AND m.meter_id = u.meter_id
GROUP BY u.site_id, u.meter_id, m.code, date_trunc('month', u.day::timestamp)::date;
SELECT submeter.describe('usage_monthly', 'Energy of each meter and local month.', '{"meter":"code of the meter","month":"its first day","kwh":"energy in kWh","max_power_w":"largest power read"}');

CREATE VIEW submeter.recharge_statement WITH (security_invoker = true, security_barrier = true) AS
SELECT t.site_id, t.account_id, a.code AS account, t.transfer_id, t.kind, t.method,
	x.amount, t.note, t.effective_at, t.posted_at, t.created_by, x.fee,
	CASE WHEN t.kind IN ('recharge', 'reversal', 'refund') AND t.method IS NOT NULL THEN x.amount + x.fee END AS collected
FROM submeter.transfer t
JOIN submeter.account a ON a.site_id = t.site_id AND a.account_id = t.account_id
JOIN submeter.ledger_account own ON own.site_id = t.site_id AND own.account_id = t.account_id AND own.kind = 'tenant'
	AND own.ledger_account_id IN (t.debit_id, t.credit_id)
-- A second leg of a recharge or its reversal is its fee; movements of another kind may have several of the account's own.
LEFT JOIN submeter.transfer f ON f.site_id = t.site_id AND f.transfer_id = t.transfer_id AND t.leg = 1 AND f.leg = 2 AND t.kind IN ('recharge', 'reversal')
CROSS JOIN LATERAL (SELECT CASE WHEN t.credit_id = own.ledger_account_id THEN t.amount ELSE -t.amount END AS amount,
	coalesce(CASE t.kind WHEN 'recharge' THEN f.amount ELSE -f.amount END, 0.00) AS fee) x
WHERE t.kind <> 'charge';
SELECT submeter.describe('recharge_statement', 'Money in and out of the balance of each account other than charges.', '{
	"account":"code of the account","transfer_id":"the movement","kind":"recharge, adjustment, reversal, refund …","method":"how it was paid",
	"amount":"positive: to the tenant''s credit","note":"in words","effective_at":"when it counts","posted_at":"when it was written","created_by":"who did it",
	"fee":"service fee on top of it, no part of the balance; negative: given back","collected":"of recharges, reversals and refunds: what changed hands, amount and fee; negative: paid out"}');

CREATE VIEW submeter.charge_statement WITH (security_invoker = true, security_barrier = true) AS
SELECT c.site_id, c.account_id, a.code AS account, f.code AS tariff, c.cycle_start, c.cycle_end, c.settled_to,
	round(c.energy_wh * 0.001, 3) AS kwh, c.tier_wh, c.amount AS exact_amount, c.rounded AS amount, c.posted, c.rounded - c.posted - c.adjusted AS accrued,
	c.billed, c.adjusted
FROM submeter.charge c
JOIN submeter.account a ON a.site_id = c.site_id AND a.account_id = c.account_id
LEFT JOIN submeter.tariff f ON f.site_id = c.site_id AND f.tariff_id = c.tariff_id;
SELECT submeter.describe('charge_statement', 'What each account owes per tariff and cycle so far.', '{
	"account":"code of the account","tariff":"code of the tariff","cycle_start":"start of the cycle","cycle_end":"its end","settled_to":"last reading in it","kwh":"energy",
	"tier_wh":"energy per tier, Wh","exact_amount":"before rounding","amount":"rounded","posted":"in the ledger","accrued":"not yet in the ledger",
	"billed":"what the bill of the cycle had of it; NULL while it is open","adjusted":"posted as adjustments after that"}');

CREATE VIEW submeter.bill_statement WITH (security_invoker = true, security_barrier = true) AS
SELECT b.site_id, b.bill_id, b.account_id, a.code AS account, t.code AS tenant, b.state, b.reverses_id, b.cycle_start, b.cycle_end,
	round(b.energy_wh * 0.001, 3) AS kwh, round(b.estimated_wh * 0.001, 3) AS estimated_kwh, b.amount, b.opening_balance, b.credited, b.closing_balance,
	b.due_at, b.issued_at, b.issued_by, b.reason
FROM submeter.bill b
JOIN submeter.account a ON a.site_id = b.site_id AND a.account_id = b.account_id
JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id;
SELECT submeter.describe('bill_statement', 'Bills (账单); those of state issued stand.', '{
	"bill_id":"number of the bill","account":"code of the account","tenant":"code of the tenant","state":"issued, void or reversal","reverses_id":"bill it takes back",
	"cycle_start":"start of the cycle","cycle_end":"its end","kwh":"energy","estimated_kwh":"part of it placed by estimate","amount":"sum of its lines",
	"opening_balance":"balance at the start","credited":"paid in and out between","closing_balance":"opening + credited - amount","due_at":"of a postpaid account: when it is to be paid",
	"issued_at":"when","issued_by":"by whom","reason":"why it was voided or issued again"}');

CREATE VIEW submeter.bill_line_statement WITH (security_invoker = true, security_barrier = true) AS
SELECT l.site_id, l.bill_id, b.account_id, a.code AS account, b.state, b.cycle_start, l.line, f.code AS tariff, l.component, l.tier, l.period, l.version_from,
	l.from_ts, l.to_ts, round(l.energy_wh * 0.001, 3) AS kwh, l.price, l.amount, l.detail
FROM submeter.bill_line l
JOIN submeter.bill b ON b.site_id = l.site_id AND b.bill_id = l.bill_id
JOIN submeter.account a ON a.site_id = b.site_id AND a.account_id = b.account_id
LEFT JOIN submeter.tariff f ON f.site_id = l.site_id AND f.tariff_id = l.tariff_id;
SELECT submeter.describe('bill_line_statement', 'Lines of bills; explain_bill() takes one down to its readings.', '{
	"bill_id":"the bill","account":"code of the account","state":"of the bill: issued, void or reversal","cycle_start":"start of its cycle","line":"number in it","tariff":"code of the tariff",
	"component":"energy, demand, power_factor, adder:name, fee:name, minimum, tax, allowance:name, adjustment or share:name","tier":"step of the price","period":"TOU period",
	"version_from":"tariff version that priced it","from_ts":"first reading it rests on","to_ts":"last reading it rests on","kwh":"energy (of demand: kW)","price":"per kWh (of demand: per kW)",
	"amount":"in the currency of the site","detail":"of an adjustment: its cause; of a share: its derivation"}');

CREATE VIEW submeter.open_alarm WITH (security_invoker = true, security_barrier = true) AS
SELECT x.site_id, x.alarm_id, x.rule, r.class, r.severity, r.description, m.code AS meter, g.code AS gateway, x.detail, x.raised_at,
	x.acknowledged_by, x.acknowledged_at
FROM submeter.alarm x
JOIN submeter.alarm_rule r ON r.rule = x.rule
LEFT JOIN submeter.meter m ON m.site_id = x.site_id AND m.meter_id = x.meter_id
LEFT JOIN submeter.gateway g ON g.site_id = x.site_id AND g.gateway_id = x.gateway_id
WHERE x.cleared_at IS NULL;
SELECT submeter.describe('open_alarm', 'Alarms that last.', '{"alarm_id":"the episode","rule":"its rule","class":"electrical, device or energy","severity":"info, warning or critical",
	"description":"what it means","meter":"code of the meter","gateway":"code of the gateway","detail":"what was seen","raised_at":"since when","acknowledged_by":"who saw it","acknowledged_at":"when"}');

CREATE VIEW submeter.command_log WITH (security_invoker = true, security_barrier = true) AS
SELECT c.site_id, c.command_id, m.code AS meter, c.action, c.cause, c.state, c.reason, c.requested_by, c.requested_at, c.not_before, c.expires_at,
	c.sent_at, c.finished_at, c.attempts, c.relay_before, c.relay_after, c.evidence, c.detail
FROM submeter.command c JOIN submeter.meter m ON m.site_id = c.site_id AND m.meter_id = c.meter_id;
SELECT submeter.describe('command_log', 'Commands to breakers and what came of them.', '{"command_id":"the command","meter":"code of the meter","action":"open or close","cause":"cause it puts on record",
	"state":"where it stands","requested_by":"who asked","requested_at":"when","not_before":"not sent before","expires_at":"never sent after","sent_at":"when the write went out",
	"finished_at":"when it ended","attempts":"how often it was taken up","relay_before":"contact before","relay_after":"contact read back","evidence":"what the meter said","detail":"outcome in words"}');

CREATE VIEW submeter.energy_balance WITH (security_invoker = true, security_barrier = true) AS
SELECT p.site_id, p.meter_id, m.code AS meter, p.day, round(p.energy_wh * 0.001, 3) AS kwh, round(sum(c.energy_wh) * 0.001, 3) AS children_kwh,
	round((p.energy_wh - sum(c.energy_wh)) * 0.001, 3) AS difference_kwh,
	round((p.energy_wh - sum(c.energy_wh)) * 100.0 / nullif(p.energy_wh, 0), 2) AS difference_percent
FROM submeter.usage_day p
JOIN submeter.meter m ON m.site_id = p.site_id AND m.meter_id = p.meter_id
JOIN submeter.meter_setup e ON e.site_id = p.site_id AND e.parent_meter_id = p.meter_id
	AND NOT EXISTS (SELECT FROM submeter.meter_setup later WHERE later.site_id = e.site_id AND later.meter_id = e.meter_id
		AND (later.valid_from, later.entered_at) > (e.valid_from, e.entered_at))
JOIN submeter.usage_day c ON c.site_id = e.site_id AND c.meter_id = e.meter_id AND c.day = p.day
GROUP BY p.site_id, p.meter_id, m.code, p.day, p.energy_wh;
SELECT submeter.describe('energy_balance', 'Each main meter against the meters below it, by local day.', '{"meter":"code of the main meter","day":"local day","kwh":"what it measured",
	"children_kwh":"sum of the meters below","difference_kwh":"losses, common use or theft","difference_percent":"the same in per cent of the main meter"}');

CREATE VIEW submeter.site_overview WITH (security_invoker = true, security_barrier = true) AS
SELECT s.site_id, s.code, s.name,
	(SELECT count(*) FROM submeter.meter m WHERE m.site_id = s.site_id AND m.retired_at IS NULL) AS meters,
	(SELECT count(*) FROM submeter.meter_state m WHERE m.site_id = s.site_id AND m.online) AS meters_online,
	(SELECT count(*) FROM submeter.meter_state m WHERE m.site_id = s.site_id AND m.relay = 'open') AS breakers_open,
	(SELECT count(*) FROM submeter.account a WHERE a.site_id = s.site_id AND a.state = 'open') AS accounts,
	(SELECT count(*) FROM submeter.account_state a WHERE a.site_id = s.site_id AND a.arrears_since IS NOT NULL) AS accounts_in_arrears,
	(SELECT sum(b.available) FROM submeter.account_balance b WHERE b.site_id = s.site_id) AS available,
	(SELECT count(*) FROM submeter.alarm x WHERE x.site_id = s.site_id AND x.cleared_at IS NULL) AS open_alarms,
	(SELECT count(*) FROM submeter.reading_suspect q WHERE q.site_id = s.site_id AND q.state = 'open') AS open_suspects
FROM submeter.site s;
SELECT submeter.describe('site_overview', 'One row per site for the manager''s first look.', '{"meters":"in service","meters_online":"answering","breakers_open":"open","accounts":"open accounts",
	"accounts_in_arrears":"below their limit","available":"sum of available balances","open_alarms":"alarms that last","open_suspects":"readings to judge"}');

CREATE VIEW submeter.health WITH (security_invoker = true, security_barrier = true) AS
SELECT 'database' AS part, NULL::int AS site_id, submeter.is_awake() AS ok,
	CASE WHEN submeter.is_awake() THEN 'awake, storage version ' || submeter.storage_version()
		ELSE 'asleep: a copy not adopted, or create_storage() is due' END AS detail
UNION ALL
SELECT 'partitions', NULL, max(p.to_ts) > now() + interval '1 month', 'readings fit in until ' || max(p.to_ts)::text
FROM submeter.reading_partition p
UNION ALL
SELECT 'duty ' || d.duty, d.site_id, d.failures = 0 AND d.last_at > now() - greatest(10 * x.every, interval '1 minute'),
	CASE WHEN d.failures > 0 THEN d.failures || ' failures in a row: ' || d.error ELSE 'last run ' || coalesce(d.last_at::text, 'never') END
FROM submeter.duty_state d JOIN submeter.duty x ON x.duty = d.duty
UNION ALL
-- A poller that is gone reports nothing any more, so what it said last must also be fresh.
SELECT 'gateway ' || g.code, g.site_id,
	coalesce(g.online AND g.last_contact_at > now() - greatest(3 * g.poll_interval, interval '2 minutes'), false),
	coalesce('last contact ' || g.last_contact_at::text, 'never heard of') || coalesce('; ' || g.last_error, '')
FROM submeter.gateway g WHERE g.enabled
UNION ALL
SELECT 'poller ' || p.poller, p.site_id, p.seen_at > now() - submeter.lease_time(),
	(SELECT count(*) FROM submeter.gateway_lease l WHERE l.site_id = p.site_id AND l.poller = p.poller AND l.lease_until > now())
	|| ' gateways; running since ' || p.since::text || ', last heard of ' || p.seen_at::text
FROM submeter.poller p
UNION ALL
-- No courier, or a host that does not answer.
SELECT 'outbox', o.site_id, false, count(*) || ' requests waiting to go out, the oldest since ' || min(o.not_before)::text
FROM submeter.outbound o WHERE o.state = 'queued' AND o.not_before < now() - interval '10 minutes'
GROUP BY o.site_id
UNION ALL
SELECT 'notices', n.site_id, false, count(*) || ' waiting or failed, the oldest since ' || min(n.created_at)::text
FROM submeter.notice n WHERE n.state = 'failed' OR n.state = 'queued' AND n.next_try_at < now() - interval '10 minutes'
GROUP BY n.site_id
UNION ALL
SELECT 'file of ' || m.provider || ' ' || m.name, d.site_id, max(d.day) FILTER (WHERE d.read_at IS NOT NULL) > (now() AT TIME ZONE 'Asia/Shanghai')::date - 4,
	'last day reconciled ' || coalesce(max(d.day) FILTER (WHERE d.read_at IS NOT NULL)::text, 'never')
FROM submeter.reconcile_day d
JOIN submeter.merchant m ON m.site_id = d.site_id AND m.merchant_id = d.merchant_id AND m.enabled
GROUP BY d.site_id, d.merchant_id, m.provider, m.name
UNION ALL
SELECT 'head of the ledger', r.site_id, s.seal_no IS NULL OR coalesce(e.seal_no = s.seal_no OR e.exported_at > now() - interval '2 days', false),
	'for ' || r.email || coalesce(': seal ' || e.seal_no || ' at ' || e.exported_at::text, ': not sent yet')
FROM submeter.head_recipient r
LEFT JOIN LATERAL (SELECT x.seal_no FROM submeter.ledger_seal x WHERE x.site_id = r.site_id ORDER BY x.seal_no DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT x.seal_no, x.exported_at FROM submeter.head_export x WHERE x.site_id = r.site_id AND x.email = r.email ORDER BY x.day DESC LIMIT 1) e ON true;
SELECT submeter.describe('health', 'Is everything running? One row per part, for the administrator.', '{"part":"what","ok":"whether it is well","detail":"in words"}');

GRANT SELECT ON submeter.account_balance, submeter.charge_statement, submeter.recharge_statement, submeter.bill_statement, submeter.bill_line_statement
	TO submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp, submeter_tenant;
GRANT SELECT ON submeter.live_meter, submeter.usage_hour, submeter.usage_daily, submeter.usage_monthly
	TO submeter_admin, submeter_operator, submeter_field, submeter_auditor, submeter_erp, submeter_tenant;
GRANT SELECT ON submeter.command_log TO submeter_admin, submeter_operator, submeter_field, submeter_auditor, submeter_tenant;
GRANT SELECT ON submeter.open_alarm, submeter.energy_balance TO submeter_admin, submeter_operator, submeter_field, submeter_auditor;
GRANT SELECT ON submeter.site_overview TO submeter_admin, submeter_auditor;
GRANT SELECT ON submeter.health TO submeter_admin, submeter_auditor;
