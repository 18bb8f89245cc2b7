-- What a site takes for a recharge beside what is credited.

CREATE TABLE submeter.recharge_fee (
	site_id int NOT NULL REFERENCES submeter.site,
	method text NOT NULL CHECK (method ~ '^[a-z][a-z0-9_]{0,31}$'),
	valid_from timestamptz NOT NULL CHECK (isfinite(valid_from)),
	revision int NOT NULL DEFAULT 0 CHECK (revision >= 0),
	-- A tenth is more than anybody takes: most likely 0.6 was meant to be per cent.
	rate numeric NOT NULL DEFAULT 0 CHECK (rate >= 0 AND rate <= 0.1 AND scale(trim_scale(rate)) <= 6),
	fixed numeric NOT NULL DEFAULT 0 CHECK (fixed >= 0 AND fixed <= 1000 AND scale(trim_scale(fixed)) <= 2),
	at_least numeric NOT NULL DEFAULT 0 CHECK (at_least >= 0 AND at_least <= 1000 AND scale(trim_scale(at_least)) <= 2),
	at_most numeric CHECK (at_most >= 0 AND at_most < 1000000 AND scale(trim_scale(at_most)) <= 2),
	reason text NOT NULL CHECK (reason <> ''),
	entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	entered_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (site_id, method, valid_from, revision),
	CHECK (at_most >= at_least)
);
SELECT submeter.describe('recharge_fee', 'Service fee on recharges from a date on (充值手续费), by way of paying; without a row there is none. Paid on top of what is credited: amount x rate + fixed, rounded half up.', '{
	"method":"way of paying it is for: cash, bank, erp, alipay, wechat …, as in recharge()","valid_from":"recharges and orders made from here on","revision":"of rows from one time on the highest revision counts",
	"rate":"part of the amount credited; 0.006 is 0.6 %","fixed":"added to it, in the currency of the site","at_least":"the fee is at least this","at_most":"and at most this; NULL: no bound",
	"reason":"decision or contract it comes from; a row without rate, fixed and at_least ends the fee","entered_at":"when written","entered_by":"who wrote it"}');
SELECT submeter.append_only('recharge_fee', 'Add a row with a later valid_from, or the same one and a higher revision.');
CREATE POLICY add_site ON submeter.recharge_fee FOR INSERT TO submeter_admin WITH CHECK (site_id = ANY (submeter.my_sites()));
GRANT INSERT ON submeter.recharge_fee TO submeter_admin;
SELECT submeter.protect('recharge_fee', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp}', '{}',
	'site_id IN (SELECT a.site_id FROM submeter.account a WHERE a.account_id = ANY (submeter.my_accounts()))');
SELECT submeter.audited('recharge_fee');
