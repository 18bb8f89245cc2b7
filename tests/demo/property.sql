-- The property of the demo: a market with five shops, as its administrator would enter it.
-- psql variables: hall and yard (addresses of the gateways), lead (notice before a trip).
\set ON_ERROR_STOP 1
BEGIN;
SET LOCAL client_min_messages = warning;

-- The people, by what they do. The poller is a login like theirs.
CREATE ROLE manager LOGIN IN ROLE submeter_admin, submeter_operator;
CREATE ROLE cashier LOGIN IN ROLE submeter_cashier;
CREATE ROLE electrician LOGIN IN ROLE submeter_field;
CREATE ROLE meter_reader LOGIN IN ROLE submeter_poller;
CREATE ROLE bakery LOGIN IN ROLE submeter_tenant;

INSERT INTO submeter.site (code, name, locale)
VALUES ('market', 'Riverside Market', 'en')
RETURNING site_id \gset
SELECT default_policy_id FROM submeter.site WHERE site_id = :site_id \gset
INSERT INTO submeter.site_member (site_id, login)
SELECT :site_id, unnest('{manager,cashier,electrician,meter_reader}'::name[]);

-- A household tariff of the south in three steps; its bounds are lowered so that a minute passes all of them.
SELECT submeter.create_tariff(:site_id, 'shop', '{
	"tiers": {"cycle": "month", "mode": "graduated", "bounds": [{"upto_kwh": [20, 40]}]},
	"energy": [{"tier": 1, "price": 0.589}, {"tier": 2, "price": 0.639}, {"tier": 3, "price": 0.889}]}',
	date_trunc('year', now())) AS tariff_id \gset

-- Warned, told, cut and reconnected without anybody's help, at any hour: the demo may run at night.
UPDATE submeter.credit_policy
SET mode = 'automatic', low_balances = '{10}', notice_lead = :'lead', no_trip_windows = '[]', window_spread = '0',
	close_stagger = '0', max_switchings_per_day = 50
WHERE site_id = :site_id AND policy_id = :default_policy_id;
INSERT INTO submeter.credit_policy (site_id, code, mode, low_balances, credit_limit, notice_lead, no_trip_windows, window_spread)
VALUES (:site_id, 'regulars', 'automatic', '{97}', 50, '1 day', '[]', '0')
RETURNING policy_id AS regulars_id \gset

INSERT INTO submeter.gateway (site_id, code, name, address, timeout_ms, gap_ms, poll_interval)
VALUES (:site_id, 'hall', 'Hall, ground floor', :'hall', 500, 5, '500 ms'),
	(:site_id, 'yard', 'Yard', :'yard', 500, 5, '500 ms');

CREATE TEMP TABLE shop (code text, name text, locale text, unit text, gateway text, address text, opening_wh bigint, protection text) ON COMMIT DROP;
INSERT INTO shop VALUES
	('bakery', 'The bakery', 'en', 'A-101', 'hall', '1', 1234560, 'none'),
	('tea', '茶馆', 'zh', 'A-102', 'hall', '2', 980000, 'none'),
	('hardware', '五金店', 'zh', 'A-103', 'hall', '3', 45670, 'none'),
	('laundry', 'The laundry', 'en', 'B-101', 'yard', '1', 7700120, 'none'),
	('clinic', 'The clinic', 'en', 'B-102', 'yard', '2', 310450, 'protected');

INSERT INTO submeter.building (site_id, code, name) VALUES (:site_id, 'A', 'Hall'), (:site_id, 'B', 'Yard');
INSERT INTO submeter.unit (site_id, building_id, code)
SELECT b.site_id, b.building_id, s.unit
FROM shop s
JOIN submeter.building b ON b.site_id = :site_id AND b.code = left(s.unit, 1);
INSERT INTO submeter.tenant (site_id, code, name) SELECT :site_id, s.code, s.name FROM shop s;
-- Set up when there is a mail server; a person's order names channels the site has.
SELECT count(submeter.set_channel(:site_id, 'mail', 'mail', '{"url":"smtp://localhost","from":"power@market.example"}', false)) AS channels \gset
INSERT INTO submeter.contact (site_id, tenant_id, name, role, email, locale, channels, login)
SELECT t.site_id, t.tenant_id, CASE s.locale WHEN 'zh' THEN '店主' ELSE 'The owner' END, 'owner', s.code || '@market.example', s.locale,
	CASE WHEN s.code IN ('bakery', 'tea', 'laundry') THEN '{mail,file}' ELSE '{file}' END::text[],
	CASE s.code WHEN 'bakery' THEN 'bakery' END
FROM shop s
JOIN submeter.tenant t ON t.site_id = :site_id AND t.code = s.code;
INSERT INTO submeter.account (site_id, tenant_id, code, policy_id)
SELECT t.site_id, t.tenant_id, s.code, CASE s.code WHEN 'tea' THEN :regulars_id::bigint END
FROM shop s
JOIN submeter.tenant t ON t.site_id = :site_id AND t.code = s.code;

-- The main meter and the shops' meters below it. The farm lets an hour pass in a second or two, so a meter's register
-- moves as if thousands of ampere flowed: the rated current must allow it, or the readings would be called implausible.
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address, role)
SELECT g.site_id, 'main', 'SDM120', g.gateway_id, '9', 'main'
FROM submeter.gateway g
WHERE g.site_id = :site_id AND g.code = 'yard'
RETURNING meter_id AS main_id \gset
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address, protection)
SELECT g.site_id, s.unit, 'DDS238-2 ZN/SR', g.gateway_id, s.address, s.protection
FROM shop s
JOIN submeter.gateway g ON g.site_id = :site_id AND g.code = s.gateway;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, parent_meter_id, unit_id, reason)
SELECT m.site_id, m.meter_id, 20000, CASE WHEN m.role = 'supply' THEN :main_id::bigint END, u.unit_id, 'installed'
FROM submeter.meter m
LEFT JOIN submeter.unit u ON u.site_id = m.site_id AND u.code = m.code
WHERE m.site_id = :site_id;
-- The market has been read and switched for years: its meters are taken over as they are.
SELECT submeter.adopt_meters(:site_id, NULL, 'taken over from the old system')
\g /dev/null
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, opening_wh)
SELECT a.site_id, a.account_id, m.meter_id, :tariff_id, tstzrange(date_trunc('second', now()), NULL), s.opening_wh
FROM shop s
JOIN submeter.account a ON a.site_id = :site_id AND a.code = s.code
JOIN submeter.meter m ON m.site_id = :site_id AND m.code = s.unit;
COMMIT;

-- Money, at the cashier's desk.
\connect - cashier
SELECT submeter.recharge(a.site_id, a.account_id, CASE a.code WHEN 'bakery' THEN 15 WHEN 'tea' THEN 100 ELSE 500 END, 'cash', 'opening ' || a.code)
FROM submeter.account a
WHERE a.site_id = :site_id
ORDER BY a.account_id
\g /dev/null
