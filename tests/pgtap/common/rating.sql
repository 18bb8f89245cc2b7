-- The rules of rating once more: slowly, in plain SQL, from the words of the design and not from the code. Whoever
-- includes this fills the tables of part 1 and calls pg_temp.rate(); what everything comes to is in those of part 5.
-- A case is one account on one tariff; cases may share meters' intervals, calendars are per case.
SET timezone = 'UTC';
SET client_min_messages = warning;

-- 1. Facts. Days are local, from_ts and to_ts half-open; until is the last local day begun, factor a power factor where no meter shows it.
CREATE TEMP TABLE ref_case (id int PRIMARY KEY, zone text NOT NULL, cycle_day int NOT NULL DEFAULT 1, start_wh numeric NOT NULL DEFAULT 0, until date NOT NULL DEFAULT 'infinity', factor numeric);
CREATE TEMP TABLE ref_calendar (id int, day date, day_type text, flags text[] NOT NULL DEFAULT '{}', PRIMARY KEY (id, day));
CREATE TEMP TABLE ref_version (id int, from_ts timestamptz, to_ts timestamptz NOT NULL DEFAULT 'infinity', definition jsonb NOT NULL, PRIMARY KEY (id, from_ts));
CREATE TEMP TABLE ref_supply (id int, meter bigint, from_ts timestamptz, to_ts timestamptz, terms jsonb NOT NULL DEFAULT '{}', PRIMARY KEY (id, meter, from_ts));
CREATE TEMP TABLE ref_setup (meter bigint, from_ts timestamptz, to_ts timestamptz, multiplier numeric, PRIMARY KEY (meter, from_ts));
-- Between two readings that count and follow each other; registers do not roll over here.
CREATE TEMP TABLE ref_interval (meter bigint, a timestamptz, b timestamptz, a_wh numeric, b_wh numeric, a_varh numeric, b_varh numeric, gap boolean NOT NULL DEFAULT false, PRIMARY KEY (meter, a));
CREATE TEMP TABLE ref_final (id int, cycle_from date, PRIMARY KEY (id, cycle_from));
CREATE TEMP TABLE ref_allowance (id int, name text, kwh numeric, share numeric, amount numeric, from_ts timestamptz, to_ts timestamptz);

-- 2. Small things.
CREATE FUNCTION pg_temp.instant(day date, zone text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE
AS $$
	SELECT day::timestamp AT TIME ZONE zone
$$;
CREATE FUNCTION pg_temp.us(length interval) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT round(extract(epoch FROM length) * 1000000)
$$;
-- Straight line in whole units, half up; from never lies above to.
CREATE FUNCTION pg_temp.between(a_value numeric, b_value numeric, gone numeric, length numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT a_value + div(2 * (b_value - a_value) * gone + length, 2 * length)
$$;
CREATE FUNCTION pg_temp.half_up(x numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT floor(x + 0.5)
$$;
-- PostgreSQL rounds halves away from zero, and quotients to more places than are kept here.
CREATE FUNCTION pg_temp.share(x numeric, n numeric, of numeric DEFAULT 1) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT sign(x * n) * div(2 * abs(x * n) * 1e11 + of, 2 * of) / 1e11
$$;
CREATE FUNCTION pg_temp.minute(clock text) RETURNS int
LANGUAGE sql IMMUTABLE
AS $$
	SELECT split_part(clock, ':', 1)::int * 60 + split_part(clock, ':', 2)::int
$$;
CREATE FUNCTION pg_temp.price(p jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT CASE jsonb_typeof(p) WHEN 'number' THEN p::numeric
		ELSE round((p ->> 'value')::numeric * coalesce((p ->> 'times')::numeric, 1) + coalesce((p ->> 'plus')::numeric, 0), coalesce((p ->> 'digits')::int, 8)) END
$$;
CREATE FUNCTION pg_temp.money(x numeric, rounding jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT CASE coalesce(rounding ->> 'amount', 'half_up')
		WHEN 'half_up' THEN round(x, d)
		WHEN 'down' THEN trunc(x, d)
		ELSE sign(x) * ceil(abs(x) * 10.0 ^ d) / 10.0 ^ d END
	FROM coalesce((rounding ->> 'digits')::int, 2) d
$$;
-- First day of the billing cycle a day is in.
CREATE FUNCTION pg_temp.cycle_from(day date, cycle_day int) RETURNS date
LANGUAGE sql IMMUTABLE
AS $$
	SELECT date_trunc('month', day - (cycle_day - 1))::date + (cycle_day - 1)
$$;
CREATE FUNCTION pg_temp.cycle_to(cycle_from date) RETURNS date
LANGUAGE sql IMMUTABLE
AS $$
	SELECT (cycle_from + interval '1 month')::date
$$;
-- ["05-01", "11-01"]: from the one to the other, which is no part of it; maybe over the new year.
CREATE FUNCTION pg_temp.in_season(season jsonb, day date) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
	SELECT CASE WHEN season ->> 0 < season ->> 1 THEN to_char(day, 'MM-DD') >= season ->> 0 AND to_char(day, 'MM-DD') < season ->> 1
		ELSE to_char(day, 'MM-DD') >= season ->> 0 OR to_char(day, 'MM-DD') < season ->> 1 END
$$;
-- 水电财字(83)第215号: what is added to the fee, by standard and factor reached.
CREATE FUNCTION pg_temp.factor_adjustment(standard numeric, factor numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$
	SELECT CASE
		WHEN factor = standard THEN 0
		WHEN factor < standard THEN CASE
			WHEN standard - factor <= 0.20 THEN (standard - factor) * 0.5
			WHEN standard - factor <= 0.25 THEN 0.10 + (standard - 0.20 - factor)
			ELSE 0.15 + (standard - 0.25 - factor) * 2 END
		WHEN standard = 0.90 THEN -least((factor - 0.90) * 0.15, 0.0075)
		WHEN standard = 0.85 THEN CASE WHEN factor <= 0.90 THEN -(factor - 0.85) * 0.1 ELSE -least(0.005 + (factor - 0.90) * 0.15, 0.011) END
		ELSE CASE WHEN factor <= 0.90 THEN -(factor - 0.80) * 0.1 ELSE -least(0.010 + (factor - 0.90) * 0.15, 0.013) END END
$$;

-- 3. Slices.
-- Local days of each case, and which version is in force when they begin.
CREATE TEMP TABLE ref_day (id int, day date, from_ts timestamptz, to_ts timestamptz, cycle_from date, version timestamptz, supplied boolean, PRIMARY KEY (id, day));
-- Windows of a version that reach into a day, in minutes of its clock, by the order of the periods.
CREATE TEMP TABLE ref_window (id int, version timestamptz, day date, from_minute int, to_minute int, place int, period text);
-- Of each version: the period that takes the rest of the day.
CREATE TEMP TABLE ref_rest (id int, version timestamptz, period text, PRIMARY KEY (id, version));
CREATE TEMP TABLE ref_edge (id int, a timestamptz, b timestamptz, PRIMARY KEY (id, a));
CREATE TEMP TABLE ref_piece (id int, meter bigint, a timestamptz, b timestamptz, wh numeric, gap boolean, active_wh numeric, varh numeric);
CREATE TEMP TABLE ref_slice (id int, a timestamptz, b timestamptz, day date, cycle_from date, version timestamptz, period text, household int, window_minutes int, wh numeric, gap_wh numeric, active_wh numeric, varh numeric);

CREATE FUNCTION pg_temp.cut() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	TRUNCATE ref_day, ref_window, ref_rest, ref_edge, ref_piece, ref_slice;
	ANALYZE ref_interval, ref_version, ref_supply, ref_calendar;
	INSERT INTO ref_day
	SELECT r.id, d.day, x.from_ts, x.to_ts, pg_temp.cycle_from(d.day, c.cycle_day),
		(SELECT max(v.from_ts) FROM ref_version v WHERE v.id = r.id AND v.from_ts <= x.from_ts),
		d.day <= c.until AND EXISTS (SELECT FROM ref_supply s WHERE s.id = r.id AND s.from_ts < x.to_ts AND s.to_ts > x.from_ts)
	FROM (SELECT s.id, min(greatest(s.from_ts, i.a)) AS first, max(least(s.to_ts, i.b)) AS last, min(s.from_ts) AS supplied, max(s.to_ts) AS supplied_to
		FROM ref_supply s LEFT JOIN (SELECT meter, min(a) AS a, max(b) AS b FROM ref_interval GROUP BY 1) i USING (meter) GROUP BY 1) r
	JOIN ref_case c USING (id)
	CROSS JOIN LATERAL (SELECT generate_series((least(r.first, r.supplied) AT TIME ZONE c.zone)::date::timestamp,
		greatest((r.last AT TIME ZONE c.zone)::date, least((r.supplied_to AT TIME ZONE c.zone)::date, c.until))::timestamp, '1 day')::date AS day) d
	CROSS JOIN LATERAL (SELECT pg_temp.instant(d.day, c.zone) AS from_ts, pg_temp.instant(d.day + 1, c.zone) AS to_ts) x;
	ANALYZE ref_day;

	INSERT INTO ref_rest
	SELECT v.id, v.from_ts, (SELECT p ->> 'name' FROM jsonb_array_elements(v.definition -> 'periods') p WHERE coalesce(jsonb_array_length(p -> 'windows'), 0) = 0) FROM ref_version v;
	-- A window has the type, the season and the flags of the day it begins on; the part after midnight lies in the next.
	INSERT INTO ref_window
	WITH win AS (
		SELECT v.id, v.from_ts AS version, v.to_ts, v.definition, p.place, p.period ->> 'name' AS period, w, pg_temp.minute(w ->> 'from') AS from_minute, pg_temp.minute(w ->> 'to') AS to_minute
		FROM ref_version v, jsonb_array_elements(v.definition -> 'periods') WITH ORDINALITY p(period, place), jsonb_array_elements(p.period -> 'windows') w),
	begun AS (
		SELECT win.*, d.day FROM win
		CROSS JOIN LATERAL (SELECT day, from_ts FROM ref_day r WHERE r.id = win.id UNION ALL SELECT min(day) - 1, min(from_ts) - interval '1 day' FROM ref_day r WHERE r.id = win.id) d
		LEFT JOIN ref_calendar c ON c.id = win.id AND c.day = d.day
		WHERE d.from_ts < win.to_ts AND d.from_ts + interval '50 hours' > win.version
			AND (w -> 'days' IS NULL OR w -> 'days' ? coalesce(c.day_type, CASE WHEN extract(isodow FROM d.day) > 5 THEN 'weekend' ELSE 'workday' END))
			AND (w -> 'flag' IS NULL OR coalesce(w ->> 'flag' = ANY (c.flags), false))
			AND (w -> 'seasons' IS NULL OR EXISTS (SELECT FROM jsonb_array_elements_text(w -> 'seasons') s WHERE pg_temp.in_season(win.definition -> 'seasons' -> s, d.day))))
	SELECT id, version, day, from_minute, CASE WHEN to_minute > from_minute THEN to_minute ELSE 1440 END, place, period FROM begun
	UNION ALL
	SELECT id, version, day + 1, 0, to_minute, place, period FROM begun WHERE to_minute <= from_minute AND to_minute > 0;
	CREATE INDEX IF NOT EXISTS ref_window_day ON ref_window (id, version, day);
	ANALYZE ref_window;

	-- Every time at which anything may change. On days that are not 24 hours long a time of the clock comes twice or never.
	INSERT INTO ref_edge
	SELECT id, ts, lead(ts, 1, 'infinity') OVER (PARTITION BY id ORDER BY ts)
	FROM (
		SELECT id, from_ts AS ts FROM ref_day
		UNION SELECT id, h FROM ref_day, generate_series(date_trunc('hour', from_ts), to_ts, interval '1 hour') h WHERE to_ts - from_ts <> interval '24 hours'
		UNION SELECT id, from_ts FROM ref_version WHERE isfinite(from_ts)
		UNION SELECT id, from_ts FROM ref_supply UNION SELECT id, to_ts FROM ref_supply WHERE isfinite(to_ts)
		UNION SELECT s.id, p.from_ts FROM ref_supply s JOIN ref_setup p USING (meter) WHERE isfinite(p.from_ts)
		UNION SELECT s.id, x FROM ref_supply s JOIN ref_interval i ON i.meter = s.meter AND i.b >= s.from_ts AND i.a <= s.to_ts, unnest(ARRAY[i.a, i.b]) x
		UNION SELECT d.id, ((w.day + m * interval '1 minute') AT TIME ZONE c.zone) + o
		FROM ref_window w JOIN ref_case c USING (id) JOIN ref_day d USING (id, day), unnest(ARRAY[w.from_minute, w.to_minute]) m,
			unnest(CASE WHEN d.to_ts - d.from_ts = interval '24 hours' THEN '{0}' ELSE '{-1 hour,0,1 hour}' END::interval[]) o
		UNION SELECT d.id, x FROM ref_day d JOIN ref_version v ON v.id = d.id AND v.from_ts < d.to_ts AND v.to_ts > d.from_ts AND v.definition #>> '{demand,basis}' = 'maximum',
			generate_series(d.from_ts, d.to_ts, (v.definition #>> '{demand,window_minutes}')::int * interval '1 minute') x) e;
	ANALYZE ref_edge;

	-- Both registers of a piece lie on the line of the same interval; the multiplier is applied to them, not to their difference.
	INSERT INTO ref_piece
	SELECT s.id, s.meter, e.a, e.b,
		pg_temp.half_up(pg_temp.between(i.a_wh, i.b_wh, pg_temp.us(e.b - i.a), l.us) * p.multiplier) - pg_temp.half_up(pg_temp.between(i.a_wh, i.b_wh, pg_temp.us(e.a - i.a), l.us) * p.multiplier),
		i.gap, 0,
		pg_temp.half_up(pg_temp.between(i.a_varh, i.b_varh, pg_temp.us(e.b - i.a), l.us) * p.multiplier) - pg_temp.half_up(pg_temp.between(i.a_varh, i.b_varh, pg_temp.us(e.a - i.a), l.us) * p.multiplier)
	FROM ref_supply s
	JOIN ref_edge e ON e.id = s.id AND e.a >= s.from_ts AND e.a < s.to_ts
	CROSS JOIN LATERAL (SELECT * FROM ref_interval i WHERE i.meter = s.meter AND i.a <= e.a ORDER BY i.a DESC LIMIT 1) i
	CROSS JOIN LATERAL (SELECT pg_temp.us(i.b - i.a) AS us) l
	JOIN ref_setup p ON p.meter = s.meter AND p.from_ts <= e.a AND p.to_ts > e.a
	WHERE e.a < i.b;
	UPDATE ref_piece SET active_wh = wh WHERE varh IS NOT NULL;

	INSERT INTO ref_slice
	SELECT s.id, s.a, s.b, d.day, d.cycle_from, v.from_ts, coalesce(w.period, r.period),
		(SELECT max((u.terms ->> 'household_size')::int) FROM ref_supply u WHERE u.id = s.id AND u.from_ts <= s.a AND u.to_ts > s.a),
		CASE WHEN v.definition #>> '{demand,basis}' = 'maximum' THEN (v.definition #>> '{demand,window_minutes}')::int END, s.wh, s.gap_wh, s.active_wh, s.varh
	FROM (SELECT id, a, b, sum(wh) AS wh, coalesce(sum(wh) FILTER (WHERE gap), 0) AS gap_wh, sum(active_wh) AS active_wh, coalesce(sum(varh), 0) AS varh FROM ref_piece GROUP BY 1, 2, 3) s
	JOIN ref_case c USING (id)
	CROSS JOIN LATERAL (SELECT s.a AT TIME ZONE c.zone AS wall) l
	JOIN ref_day d ON d.id = s.id AND d.day = l.wall::date
	LEFT JOIN ref_version v ON v.id = s.id AND v.from_ts <= s.a AND v.to_ts > s.a
	LEFT JOIN ref_rest r ON r.id = s.id AND r.version = v.from_ts
	LEFT JOIN LATERAL (SELECT w.period FROM ref_window w WHERE w.id = s.id AND w.version = v.from_ts AND w.day = d.day
		AND w.from_minute * interval '1 minute' <= l.wall::time::interval AND w.to_minute * interval '1 minute' > l.wall::time::interval ORDER BY w.place LIMIT 1) w ON true;
	ANALYZE ref_slice;
END
$$;

-- 4. Prices.
CREATE TEMP TABLE ref_price (id int, version timestamptz, tier int, period text, price numeric);
CREATE TEMP TABLE ref_band (id int, version timestamptz, band int, tier int, above numeric, upto numeric);
-- Which row of bounds is in force on a day for a household, and when the tier cycle of that day began.
CREATE TEMP TABLE ref_tier_day (id int, version timestamptz, day date, household int, band int, tier_from date);

CREATE FUNCTION pg_temp.price_list() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	TRUNCATE ref_price, ref_band, ref_tier_day;
	INSERT INTO ref_band
	SELECT v.id, v.from_ts, b.band, t.tier, t.above, t.upto
	FROM ref_version v
	CROSS JOIN LATERAL (SELECT band, x FROM jsonb_array_elements(coalesce(v.definition #> '{tiers,bounds}', '[{"upto_kwh":[]}]')) WITH ORDINALITY b(x, band)) b
	CROSS JOIN LATERAL (SELECT tier, lag(upto, 1, 0) OVER (ORDER BY tier) AS above, upto
		FROM (SELECT tier, value::numeric * 1000 AS upto FROM jsonb_array_elements_text(b.x -> 'upto_kwh') WITH ORDINALITY u(value, tier)
			UNION ALL SELECT jsonb_array_length(b.x -> 'upto_kwh') + 1, 'infinity') u) t;
	INSERT INTO ref_price
	SELECT v.id, v.from_ts, t.tier, p.period, pg_temp.price(e.price) + coalesce(pg_temp.price(v.definition -> 'tier_adders' -> (t.tier - 1)), 0)
	FROM ref_version v
	CROSS JOIN LATERAL (SELECT DISTINCT tier FROM ref_band b WHERE b.id = v.id AND b.version = v.from_ts) t
	CROSS JOIN LATERAL (SELECT x ->> 'name' AS period FROM jsonb_array_elements(v.definition -> 'periods') x UNION ALL SELECT NULL WHERE v.definition -> 'periods' IS NULL) p
	CROSS JOIN LATERAL (SELECT x -> 'price' AS price FROM jsonb_array_elements(v.definition -> 'energy') WITH ORDINALITY e(x, place)
		WHERE coalesce((x ->> 'tier')::int = t.tier, true) AND coalesce(x ->> 'period' = p.period, true) ORDER BY place LIMIT 1) e;
	INSERT INTO ref_tier_day
	SELECT s.id, s.version, s.day, s.household,
		(SELECT b.band FROM jsonb_array_elements(v.definition #> '{tiers,bounds}') WITH ORDINALITY b(x, band)
			WHERE (x -> 'season' IS NULL OR pg_temp.in_season(v.definition -> 'seasons' -> (x ->> 'season'), s.day))
				AND (x -> 'household' IS NULL OR coalesce(s.household >= (x ->> 'household')::int, false)) ORDER BY b.band LIMIT 1),
		CASE coalesce(v.definition #>> '{tiers,cycle}', 'month')
			WHEN 'month' THEN date_trunc('month', s.day)::date
			WHEN 'year' THEN date_trunc('year', s.day)::date
			WHEN 'cycle' THEN s.cycle_from
			-- the last day on which a season began or ended
			ELSE (SELECT max(x.d) FROM (SELECT (year || '-' || edge)::date AS d FROM generate_series(extract(year FROM s.day)::int - 1, extract(year FROM s.day)::int) year,
					jsonb_each(v.definition -> 'seasons') k(name, season), jsonb_array_elements_text(season) edge) x
				WHERE x.d <= s.day AND EXISTS (SELECT FROM jsonb_each(v.definition -> 'seasons') k(name, season) WHERE pg_temp.in_season(season, x.d) <> pg_temp.in_season(season, x.d - 1))) END
	FROM (SELECT DISTINCT id, version, day, cycle_from, household FROM ref_slice WHERE version IS NOT NULL) s
	JOIN ref_version v ON v.id = s.id AND v.from_ts = s.version;
	UPDATE ref_tier_day SET band = 1 WHERE band IS NULL;
	ANALYZE ref_price, ref_band, ref_tier_day;
END
$$;

-- 5. What it comes to.
-- Parts of slices in one tier.
CREATE TEMP TABLE ref_part (id int, a timestamptz, day date, cycle_from date, version timestamptz, period text, tier int, wh numeric, price numeric);
-- Energy of each line, as it is charged.
CREATE TEMP TABLE ref_energy (id int, cycle_from date, version timestamptz, tier int, period text, wh numeric, price numeric);
CREATE TEMP TABLE ref_line (id int, cycle_from date, place int, component text, tier int, period text, version timestamptz, wh numeric, price numeric, amount numeric);
CREATE TEMP TABLE ref_charge (id int, cycle_from date, cycle_to date, version timestamptz, energy_wh numeric, unpriced_wh numeric, gap_wh numeric, active_wh numeric, varh numeric, tier_wh bigint[],
	demand_w numeric, days int, final boolean, factor numeric, amount numeric, rounded numeric, PRIMARY KEY (id, cycle_from));

-- Energy in time order filled into the tiers.
CREATE FUNCTION pg_temp.fill_tiers() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	DROP TABLE IF EXISTS ref_used, ref_run, ref_carry;
	CREATE TEMP TABLE ref_used AS
	SELECT e.*, v.definition #>> '{tiers,mode}' = 'volume' AS volume, t.band, t.tier_from
	FROM ref_slice e
	JOIN ref_version v ON v.id = e.id AND v.from_ts = e.version
	JOIN ref_tier_day t ON t.id = e.id AND t.version = e.version AND t.day = e.day AND t.household IS NOT DISTINCT FROM e.household
	WHERE e.wh > 0;
	-- A tier cycle begins when one of its boundaries lies between two energies.
	CREATE TEMP TABLE ref_run AS
	SELECT x.*, count(*) FILTER (WHERE x.anew) OVER (PARTITION BY x.id ORDER BY x.a) AS run
	FROM (SELECT y.*, y.tier_from > lag(y.day) OVER (PARTITION BY y.id ORDER BY y.a) AS anew FROM ref_used y) x;
	-- What a billing cycle begins with: the energy of the earlier ones of its tier cycle, as it was charged.
	CREATE TEMP TABLE ref_carry AS
	SELECT r.id, run, cycle_from, CASE WHEN run = 0 THEN start_wh ELSE 0 END + coalesce(sum(CASE WHEN unit IS NULL THEN r.wh ELSE (pg_temp.half_up(r.of / unit) - pg_temp.half_up((r.of - r.wh) / unit)) * unit END)
		OVER (PARTITION BY r.id, run ORDER BY cycle_from ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS wh
	FROM (SELECT r.id, r.run, r.cycle_from, sum(r.wh) AS wh, sum(sum(r.wh)) OVER (PARTITION BY r.id, r.cycle_from) AS of FROM ref_run r GROUP BY 1, 2, 3) r
	JOIN ref_case USING (id) JOIN ref_charge c USING (id, cycle_from) JOIN ref_version v ON v.id = r.id AND v.from_ts = c.version
	CROSS JOIN LATERAL (SELECT 10.0 ^ (3 - (v.definition #>> '{rounding,kwh_digits}')::int) AS unit) u;
	TRUNCATE ref_part;
	INSERT INTO ref_part
	SELECT f.id, f.a, f.day, f.cycle_from, f.version, f.period, b.tier,
		CASE WHEN f.volume THEN f.wh ELSE least(f.before + f.wh, b.upto) - greatest(f.before, b.above) END, p.price
	FROM (SELECT r.*, k.wh + sum(r.wh) OVER (PARTITION BY r.id, r.run, r.cycle_from ORDER BY r.a) - r.wh AS before,
			-- where this stretch of the tier cycle inside the billing cycle ends
			k.wh + sum(r.wh) OVER (PARTITION BY r.id, r.run, r.cycle_from) AS reached
		FROM ref_run r JOIN ref_carry k USING (id, run, cycle_from)) f
	JOIN ref_band b ON b.id = f.id AND b.version = f.version AND b.band = f.band
		AND CASE WHEN f.volume THEN f.reached > b.above AND f.reached <= b.upto ELSE f.before < b.upto AND f.before + f.wh > b.above END
	JOIN ref_price p ON p.id = f.id AND p.version = f.version AND p.tier = b.tier AND p.period IS NOT DISTINCT FROM f.period;
	-- Energy of the lines: where the version at the cycle's end wants so many digits, the total is rounded once and shared
	-- by largest remainder, of equals to the lowest tier and period.
	TRUNCATE ref_energy;
	INSERT INTO ref_energy
	SELECT id, cycle_from, version, tier, period, CASE WHEN unit IS NULL THEN wh
		ELSE (whole + (row_number() OVER (PARTITION BY id, cycle_from ORDER BY wh / unit - whole DESC, tier, coalesce(place, 1), version) <= total - sum(whole) OVER c)::int) * unit END, price
	FROM (SELECT e.*, floor(wh / unit) AS whole, pg_temp.half_up(sum(wh) OVER (PARTITION BY id, cycle_from) / unit) AS total
		FROM (SELECT p.id, p.cycle_from, p.version, p.tier, p.period, p.price, sum(p.wh) AS wh, 10.0 ^ (3 - (v.definition #>> '{rounding,kwh_digits}')::int) AS unit,
				(SELECT place FROM ref_version o, jsonb_array_elements(o.definition -> 'periods') WITH ORDINALITY x(period, place) WHERE o.id = p.id AND o.from_ts = p.version AND x.period ->> 'name' = p.period) AS place
			FROM ref_part p JOIN ref_charge c USING (id, cycle_from) JOIN ref_version v ON v.id = p.id AND v.from_ts = c.version
			GROUP BY p.id, p.cycle_from, p.version, p.tier, p.period, p.price, v.definition) e) e
	WINDOW c AS (PARTITION BY id, cycle_from);
	ANALYZE ref_part;
END
$$;

-- Fees by local days begun on which the account is supplied.
CREATE FUNCTION pg_temp.fees() RETURNS TABLE (id int, cycle_from date, component text, version timestamptz, price numeric, amount numeric)
LANGUAGE sql
AS $$
	WITH supplied AS (
		SELECT *, date_trunc('month', day)::date AS month, day = min(day) OVER (PARTITION BY d.id, date_trunc('month', day)) AS first_of_month, day = min(day) OVER (PARTITION BY d.id, d.cycle_from) AS first_of_cycle
		FROM ref_day d WHERE d.supplied),
	fee AS (
		SELECT d.id, d.day, d.cycle_from, d.version, d.first_of_month, d.first_of_cycle, CASE WHEN f.x ->> 'per' = 'month' THEN d.month END AS month, f.place, f.x ->> 'name' AS name, f.x ->> 'per' AS per, coalesce((f.x ->> 'prorate')::boolean, false) AS prorate, (f.x ->> 'amount')::numeric AS amount
		FROM supplied d JOIN ref_version v ON v.id = d.id AND v.from_ts = d.version
		CROSS JOIN LATERAL (SELECT x, place FROM jsonb_array_elements(v.definition -> 'fees') WITH ORDINALITY f(x, place)) f)
	SELECT id, cycle_from, 'fee:' || name, version, amount, sum(part) FROM (
		SELECT id, cycle_from, name, version, amount, CASE
			WHEN per = 'day' THEN amount * count(*)
			WHEN per = 'month' AND prorate THEN pg_temp.share(amount, count(*), (month + interval '1 month')::date - month)
			WHEN per = 'cycle' AND prorate THEN pg_temp.share(amount, count(*), pg_temp.cycle_to(cycle_from) - cycle_from)
			WHEN per = 'month' THEN amount * count(*) FILTER (WHERE first_of_month)
			ELSE amount * count(*) FILTER (WHERE first_of_cycle) END AS part
		FROM fee GROUP BY id, cycle_from, version, place, name, per, prorate, amount, month) p
	GROUP BY id, cycle_from, name, version, amount HAVING sum(part) <> 0
$$;
-- The highest mean power of a window, each as long as the tariff says at the time, or what the terms of the supplies add up to at their highest.
CREATE FUNCTION pg_temp.demand() RETURNS TABLE (id int, cycle_from date, w numeric)
LANGUAGE sql
AS $$
	SELECT x.id, x.cycle_from, max(pg_temp.half_up(x.wh * 60 / x.n)) FROM (
		SELECT s.id, s.cycle_from, s.window_minutes AS n, sum(s.wh) AS wh
		FROM ref_slice s JOIN ref_charge c USING (id, cycle_from) JOIN ref_version v ON v.id = s.id AND v.from_ts = c.version JOIN ref_day d ON d.id = s.id AND d.day = s.day
		WHERE v.definition #>> '{demand,basis}' = 'maximum' AND s.window_minutes IS NOT NULL
		GROUP BY s.id, s.cycle_from, s.day, n, div(pg_temp.us(s.a - d.from_ts), s.window_minutes * 60000000.0)) x
	GROUP BY 1, 2
	UNION ALL
	SELECT c.id, c.cycle_from, max(t.kw) * 1000
	FROM ref_charge c JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version
	CROSS JOIN LATERAL (SELECT d.from_ts AS at FROM ref_day d WHERE d.id = c.id AND d.cycle_from = c.cycle_from AND d.supplied
		UNION SELECT s.from_ts FROM ref_supply s JOIN ref_day d ON d.id = s.id AND s.from_ts >= d.from_ts AND s.from_ts < d.to_ts WHERE s.id = c.id AND d.cycle_from = c.cycle_from AND d.supplied) x
	CROSS JOIN LATERAL (SELECT sum((s.terms ->> CASE v.definition #>> '{demand,basis}' WHEN 'contract' THEN 'contract_kw' ELSE 'capacity_kva' END)::numeric) AS kw
		FROM ref_supply s WHERE s.id = c.id AND s.from_ts <= x.at AND s.to_ts > x.at) t
	WHERE v.definition #>> '{demand,basis}' IN ('contract', 'capacity')
	GROUP BY 1, 2
$$;
-- Sums of lines so far.
CREATE FUNCTION pg_temp.so_far(component text DEFAULT '%') RETURNS TABLE (id int, cycle_from date, amount numeric)
LANGUAGE sql
AS $$
	SELECT c.id, c.cycle_from, coalesce(sum(l.amount), 0) FROM ref_charge c LEFT JOIN ref_line l ON l.id = c.id AND l.cycle_from = c.cycle_from AND l.component LIKE so_far.component GROUP BY 1, 2
$$;

CREATE FUNCTION pg_temp.rate() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM pg_temp.cut();
	PERFORM pg_temp.price_list();
	TRUNCATE ref_charge, ref_line;
	INSERT INTO ref_charge (id, cycle_from, cycle_to, version, energy_wh, unpriced_wh, gap_wh, active_wh, varh, days, final)
	SELECT id, y.cycle_from, pg_temp.cycle_to(y.cycle_from),
		(SELECT max(v.from_ts) FROM ref_version v WHERE v.id = y.id AND v.from_ts < least(pg_temp.instant(pg_temp.cycle_to(y.cycle_from), c.zone),
			(SELECT max(s.to_ts) FROM ref_supply s WHERE s.id = y.id AND s.from_ts < pg_temp.instant(pg_temp.cycle_to(y.cycle_from), c.zone)))),
		coalesce(e.wh, 0), coalesce(e.unpriced_wh, 0), coalesce(e.gap_wh, 0), coalesce(e.active_wh, 0), coalesce(e.varh, 0), coalesce(d.days, 0),
		EXISTS (SELECT FROM ref_final f WHERE f.id = y.id AND f.cycle_from = y.cycle_from)
	FROM (SELECT id, cycle_from FROM ref_slice WHERE wh > 0 UNION SELECT id, cycle_from FROM ref_day WHERE supplied) y
	JOIN ref_case c USING (id)
	LEFT JOIN (SELECT s.id, cycle_from, sum(wh) AS wh, coalesce(sum(wh) FILTER (WHERE version IS NULL), 0) AS unpriced_wh, sum(gap_wh) AS gap_wh,
			sum(active_wh) FILTER (WHERE v.definition ? 'power_factor') AS active_wh, sum(varh) FILTER (WHERE v.definition ? 'power_factor') AS varh
		FROM ref_slice s LEFT JOIN ref_version v ON v.id = s.id AND v.from_ts = s.version GROUP BY 1, 2) e USING (id, cycle_from)
	LEFT JOIN (SELECT id, cycle_from, count(*) AS days FROM ref_day WHERE supplied GROUP BY 1, 2) d USING (id, cycle_from);
	ANALYZE ref_charge;
	PERFORM pg_temp.fill_tiers();
	UPDATE ref_charge c SET tier_wh = t.tier_wh
	FROM (WITH used AS MATERIALIZED (SELECT id, cycle_from, tier, sum(wh)::bigint AS wh FROM ref_energy GROUP BY 1, 2, 3)
		SELECT m.id, m.cycle_from, array_agg(coalesce(u.wh, 0) ORDER BY t) AS tier_wh
		FROM (SELECT id, cycle_from, max(tier) AS tiers FROM used GROUP BY 1, 2) m CROSS JOIN LATERAL generate_series(1, m.tiers) t
		LEFT JOIN used u ON u.id = m.id AND u.cycle_from = m.cycle_from AND u.tier = t GROUP BY 1, 2) t WHERE t.id = c.id AND t.cycle_from = c.cycle_from;

	-- energy with tier adders
	INSERT INTO ref_line SELECT id, cycle_from, 1, 'energy', tier, period, version, wh, price, wh * price / 1000 FROM ref_energy WHERE wh > 0;
	-- demand: the maximum x elapsed share of the cycle
	UPDATE ref_charge c SET demand_w = d.w FROM pg_temp.demand() d WHERE d.id = c.id AND d.cycle_from = c.cycle_from;
	INSERT INTO ref_line
	SELECT c.id, c.cycle_from, 2, 'demand', NULL, NULL, c.version, c.demand_w, k.price, pg_temp.share(k.price * c.demand_w / 1000, c.days, c.cycle_to - c.cycle_from)
	FROM ref_charge c JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version CROSS JOIN LATERAL (SELECT pg_temp.price(v.definition #> '{demand,per_kw}') AS price) k
	WHERE c.demand_w > 0 AND c.days > 0;
	-- x power factor, when the cycle is closed
	UPDATE ref_charge h SET factor = coalesce(c.factor, CASE WHEN active_wh > 0 THEN round(active_wh / sqrt(active_wh * active_wh + varh * varh), 2) END) FROM ref_case c WHERE c.id = h.id AND h.final;
	INSERT INTO ref_line
	SELECT c.id, c.cycle_from, 3, 'power_factor', NULL, NULL, c.version, NULL, NULL, pg_temp.share(b.amount, pg_temp.factor_adjustment((v.definition #>> '{power_factor,standard}')::numeric, c.factor))
	FROM ref_charge c JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version JOIN pg_temp.so_far() b ON b.id = c.id AND b.cycle_from = c.cycle_from
	WHERE v.definition ? 'power_factor' AND c.factor IS NOT NULL;
	-- adders on each kWh, whatever its period
	INSERT INTO ref_line
	SELECT e.id, e.cycle_from, 4, 'adder:' || (a ->> 'name'), NULL, NULL, e.version, e.wh, pg_temp.price(a -> 'price'), e.wh * pg_temp.price(a -> 'price') / 1000
	FROM (SELECT id, cycle_from, version, sum(wh) AS wh FROM ref_energy GROUP BY 1, 2, 3 HAVING sum(wh) > 0) e
	JOIN ref_version v ON v.id = e.id AND v.from_ts = e.version, jsonb_array_elements(v.definition -> 'adders') a;
	INSERT INTO ref_line SELECT f.id, f.cycle_from, 5, f.component, NULL, NULL, f.version, NULL, f.price, f.amount FROM pg_temp.fees() f;
	-- minimum, when the cycle is closed, for the days supplied
	INSERT INTO ref_line
	SELECT c.id, c.cycle_from, 6, 'minimum', NULL, NULL, c.version, NULL, NULL, k.least - b.amount
	FROM ref_charge c JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version JOIN pg_temp.so_far() b ON b.id = c.id AND b.cycle_from = c.cycle_from
	CROSS JOIN LATERAL (SELECT pg_temp.share((v.definition ->> 'minimum')::numeric, c.days, c.cycle_to - c.cycle_from) AS least) k
	WHERE c.final AND k.least > b.amount;
	INSERT INTO ref_line
	SELECT c.id, c.cycle_from, 7, 'tax', NULL, NULL, c.version, NULL, NULL, pg_temp.share(b.amount, (v.definition ->> 'tax_rate')::numeric)
	FROM ref_charge c JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version JOIN pg_temp.so_far() b ON b.id = c.id AND b.cycle_from = c.cycle_from
	WHERE (v.definition ->> 'tax_rate')::numeric > 0 AND NOT coalesce((v.definition ->> 'tax_included')::boolean, false) AND b.amount <> 0;
	PERFORM pg_temp.allow();
	UPDATE ref_charge c SET amount = b.amount, rounded = pg_temp.money(b.amount, v.definition -> 'rounding')
	FROM pg_temp.so_far() b, ref_version v WHERE b.id = c.id AND b.cycle_from = c.cycle_from AND v.id = c.id AND v.from_ts = c.version;
END
$$;
-- Allowances of the cycles that begin in them and of the one they begin in: first energy at a share of its price with all that goes by the kWh and its tax, then money.
CREATE FUNCTION pg_temp.allow() RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO ref_line
	SELECT n.id, n.cycle_from, 8, 'allowance:' || n.name, NULL, NULL, NULL, n.free, NULL, -(n.net + pg_temp.share(n.net, t.rate))
	FROM (SELECT p.id, p.cycle_from, p.name, sum(p.free) AS free,
			-- all of it is all that it costs: that may have been rounded
			pg_temp.share(CASE WHEN sum(p.free) = (SELECT sum(u.wh) FROM ref_part u WHERE u.id = p.id AND u.cycle_from = p.cycle_from)
				THEN (SELECT sum(r.amount) FROM ref_line r WHERE r.id = p.id AND r.cycle_from = p.cycle_from AND (r.component = 'energy' OR r.component LIKE 'adder:%'))
				ELSE sum(p.free * p.price / 1000) END, p.share) AS net
		FROM (SELECT p.id, p.cycle_from, a.name, a.share, p.price + coalesce((SELECT sum(pg_temp.price(x -> 'price')) FROM jsonb_array_elements(v.definition -> 'adders') x), 0) AS price,
				least(p.wh, greatest(a.kwh * 1000 - (sum(p.wh) OVER (PARTITION BY p.id, p.cycle_from, a.name ORDER BY p.a, p.tier) - p.wh), 0)) AS free
			FROM ref_part p JOIN ref_case c USING (id) JOIN ref_version v ON v.id = p.id AND v.from_ts = p.version JOIN ref_allowance a ON a.id = p.id AND a.kwh IS NOT NULL
				AND a.from_ts < pg_temp.instant(pg_temp.cycle_to(p.cycle_from), c.zone) AND a.to_ts > pg_temp.instant(p.cycle_from, c.zone)) p
		WHERE p.free > 0 GROUP BY p.id, p.cycle_from, p.name, p.share) n
	JOIN ref_charge h USING (id, cycle_from) JOIN ref_version v ON v.id = h.id AND v.from_ts = h.version
	CROSS JOIN LATERAL (SELECT CASE WHEN coalesce((v.definition ->> 'tax_included')::boolean, false) THEN 0 ELSE coalesce((v.definition ->> 'tax_rate')::numeric, 0) END AS rate) t;
	INSERT INTO ref_line
	SELECT b.id, b.cycle_from, 9, 'allowance:' || a.name, NULL, NULL, NULL, NULL, NULL, -least(a.amount, b.amount)
	FROM pg_temp.so_far() b JOIN ref_case c USING (id) JOIN ref_allowance a ON a.id = b.id AND a.amount IS NOT NULL
		AND a.from_ts < pg_temp.instant(pg_temp.cycle_to(b.cycle_from), c.zone) AND a.to_ts > pg_temp.instant(b.cycle_from, c.zone)
	WHERE b.amount > 0;
$$;
