-- Lawful resale: what may be collected for electricity, and what was.

CREATE TABLE submeter.resale_cap (
	site_id int NOT NULL REFERENCES submeter.site,
	valid_from timestamptz NOT NULL CHECK (isfinite(valid_from)),
	revision int NOT NULL DEFAULT 0 CHECK (revision >= 0),
	ceiling numeric(16, 8) CHECK (ceiling BETWEEN 0 AND 1000000),
	percent_over numeric(7, 4) CHECK (percent_over BETWEEN 0 AND 1000),
	margin_percent numeric(7, 4) CHECK (margin_percent BETWEEN 0 AND 1000),
	average_cycles int NOT NULL DEFAULT 3 CHECK (average_cycles BETWEEN 1 AND 36),
	source text NOT NULL CHECK (source <> ''),
	entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	entered_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (site_id, valid_from, revision),
	CHECK (num_nonnulls(ceiling, percent_over, margin_percent) > 0)
);
SELECT submeter.describe('resale_cap', 'What may be collected for electricity from a date on (转供电加价限制): every bound that is given holds.', '{
	"valid_from":"cycles that begin from here on","revision":"of rows from one time on the highest revision counts","ceiling":"highest mean price per kWh of a tenant","percent_over":"most per cent of a tenant''s mean price over the purchase average",
	"margin_percent":"most per cent of all that is collected over what was paid to the grid; 0: zero margin","average_cycles":"grid cycles in the moving purchase average the alarm compares with",
	"source":"rule or contract it comes from","entered_at":"when written","entered_by":"who wrote it"}');
SELECT submeter.append_only('resale_cap', 'Add a row with a later valid_from, or the same one and a higher revision.');
CREATE POLICY add_site ON submeter.resale_cap FOR INSERT TO submeter_admin WITH CHECK (site_id = ANY (submeter.my_sites()));
GRANT INSERT ON submeter.resale_cap TO submeter_admin;
SELECT submeter.protect('resale_cap', '{submeter_admin,submeter_operator,submeter_cashier,submeter_auditor,submeter_erp}');

CREATE VIEW submeter.resale_statement WITH (security_invoker = true, security_barrier = true) AS
SELECT p.site_id, p.cycle_start, p.cycle_end, round(p.energy_wh * 0.001, 3) AS paid_kwh, p.amount AS paid, p.average AS purchase_average,
	round(t.energy_wh * 0.001, 3) AS sold_kwh, t.collected, round(t.collected * 1000 / nullif(t.energy_wh, 0), 8) AS selling_average,
	t.collected - p.amount AS margin, round((t.collected - p.amount) * 100 / nullif(p.amount, 0), 2) AS margin_percent,
	t.refunded, t.accounts, t.over_cap, t.over_by
FROM submeter.site s
CROSS JOIN LATERAL submeter.purchase(s.site_id) p
CROSS JOIN LATERAL (
	SELECT coalesce(sum(a.energy_wh), 0) AS energy_wh, coalesce(sum(a.collected), 0) AS collected, coalesce(sum(a.refunded), 0) AS refunded,
		count(a.account_id) AS accounts, count(a.account_id) FILTER (WHERE a.over_by > 0) AS over_cap, coalesce(sum(a.over_by), 0) AS over_by
	FROM submeter.resale_accounts(p.site_id, p.cycle_start) a) t;
SELECT submeter.describe('resale_statement', 'What was paid to the grid and what was collected, per billing cycle: the figures a property publishes (转供电收支公示).', '{
	"cycle_start":"start of the billing cycle","cycle_end":"its end","paid_kwh":"energy on the grid''s bills","paid":"amount of the grid''s bills","purchase_average":"paid per kWh",
	"sold_kwh":"energy charged to tenants, their share of common energy included","collected":"charges and shares of the cycle less refunds","selling_average":"collected per kWh",
	"margin":"collected less paid; at most zero where resale must not earn","margin_percent":"the same in per cent of what was paid","refunded":"given back after the resale check",
	"accounts":"accounts charged","over_cap":"accounts that were charged too much","over_by":"by how much in all"}');
GRANT SELECT ON submeter.resale_statement TO submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp;
