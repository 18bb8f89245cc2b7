-- Everything a property owes, against a slow reference in plain SQL: 41 buildings and a steel plant for a year, a random
-- tariff for each with new versions and named prices on the way, two meters on one account, tenants and meters that
-- change in the middle of an interval, other transformers, roll-overs, resets, holes, allowances, closed and open cycles.
-- A second property lives in a zone with summer time and has its cycles from the 15th. SM_SOAK=n draws n times as many.
\ir common/property.sql
\getenv soak SM_SOAK
\if :{?soak}
\else
	\set soak 1
\endif

SELECT submeter.create_partitions('2016-11-01', '2018-03-01') \g /dev/null
CREATE TEMP TABLE outcome (site int, slices bigint, charges bigint, lines bigint, amount numeric, usage_off bigint, off bigint, wrong_rebuilt bigint, wrong_lines bigint, components text[], first_off text, first_line text);

CREATE FUNCTION pg_temp.live_through(site int, seed float, ns int[], zone text, cycle_day int, from_day date, to_day date) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM pg_temp.draw_property(seed, ns, zone, cycle_day, from_day, to_day);
	PERFORM pg_temp.furnish(site);
	PERFORM pg_temp.bring(site, (SELECT array_agg(s ORDER BY ts) FROM shown s));
	PERFORM submeter.settle(site, pg_temp.instant(to_day, zone) + interval '30 hours');
	-- all cycles but the last are over
	UPDATE submeter.charge c SET final = true WHERE c.site_id = site AND c.cycle_end < pg_temp.instant(to_day, zone);
	PERFORM submeter.rate_charges(site, array_agg(c.account_id), array_agg(c.tariff_id), array_agg(c.cycle_start)) FROM submeter.charge c WHERE c.site_id = site AND c.final;
	PERFORM pg_temp.look_at(site);
	INSERT INTO outcome
	SELECT site, (SELECT count(*) FROM ref_slice), (SELECT count(*) FROM ref_charge), (SELECT count(*) FROM ref_line), (SELECT sum(amount) FROM ref_charge),
		(SELECT count(*) FROM pg_temp.usage_differences(site)), d.n, (SELECT count(*) FROM pg_temp.off(site)), l.n,
		ARRAY(SELECT DISTINCT split_part(component, ':', 1) FROM ref_line), d.first, l.first
	FROM (SELECT count(*) AS n, min(x::text) AS first FROM pg_temp.differences(site) x) d, (SELECT count(*) AS n, min(x::text) AS first FROM pg_temp.line_differences(site) x) l;
END
$$;

SELECT pg_temp.live_through(n * 2 - 1, 0.1277 + 0.0317 * (n - 1), ARRAY(SELECT generate_series(1, 42)), 'Asia/Shanghai', 1, '2017-01-01', '2018-01-01'),
	pg_temp.live_through(n * 2, -0.1492 - 0.0171 * (n - 1), ARRAY(SELECT generate_series(1, 41, 2)), 'Europe/Berlin', 15, '2017-02-10', '2017-06-20')
FROM generate_series(1, :soak) n \g /dev/null

SELECT plan(4 + 6 * 2 * :soak);
SELECT cmp_ok((SELECT sum(slices) FROM outcome), '>', 200000::numeric, 'there is enough to compare');
SELECT cmp_ok((SELECT sum(charges) FROM outcome), '>', 400::numeric, 'charges');
SELECT cmp_ok((SELECT sum(lines) FROM outcome), '>', 2000::numeric, 'and their lines');
SELECT is_empty($$ SELECT c FROM unnest('{energy,demand,power_factor,adder,fee,minimum,tax,allowance}'::text[]) c WHERE NOT EXISTS (SELECT FROM outcome WHERE c = ANY (components)) $$, 'every component came up');
SELECT cmp_ok(amount, '>', 10000::numeric, format('property %s: money is owed', site)) FROM outcome;
SELECT is(usage_off, 0::bigint, format('property %s: usage of every day', site)) FROM outcome;
SELECT is(off, 0::bigint, concat(format('property %s: energy, tiers, demand, reactive energy, exact and rounded amount of every charge', site), '; first: ' || first_off)) FROM outcome;
SELECT is(wrong_lines, 0::bigint, concat(format('property %s: every line of every charge', site), '; first: ' || first_line)) FROM outcome;
SELECT is(wrong_rebuilt, 0::bigint, format('property %s: from scratch it is the same', site)) FROM outcome;
SELECT is_empty(format('SELECT * FROM submeter.verify_ledger(%s)', site), format('property %s: the ledger is sound', site)) FROM outcome;

SELECT * FROM finish();
