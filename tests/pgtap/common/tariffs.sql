-- Random tariffs and calendars with everything the format knows. Seed with setseed() before.

CREATE FUNCTION pg_temp.one_of(choice anyarray) RETURNS anyelement
LANGUAGE sql
AS $$
	SELECT choice[1 + floor(random() * cardinality(choice))::int]
$$;
CREATE FUNCTION pg_temp.chance(p float) RETURNS boolean
LANGUAGE sql
AS $$
	SELECT random() < p
$$;
CREATE FUNCTION pg_temp.random_clock() RETURNS text
LANGUAGE sql
AS $$
	SELECT to_char((floor(random() * 24) * 60 + CASE WHEN random() < 0.5 THEN 0 WHEN random() < 0.5 THEN 30 ELSE floor(random() * 60) END) * interval '1 minute', 'HH24:MI')
$$;
-- A price: mostly a number, sometimes a ratio to a base, sometimes to a named price.
CREATE FUNCTION pg_temp.random_price(names text[]) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
	price jsonb;
BEGIN
	IF pg_temp.chance(0.7) THEN
		RETURN to_jsonb(round((0.05 + random() * 1.4)::numeric, pg_temp.one_of('{1,2,4,5,8}'::int[])));
	END IF;
	IF cardinality(names) > 0 AND pg_temp.chance(0.8) THEN
		price := jsonb_build_object('ref', pg_temp.one_of(names));
	ELSE
		price := jsonb_build_object('value', round((0.2 + random())::numeric, 4));
	END IF;
	IF pg_temp.chance(0.7) THEN
		price := price || jsonb_build_object('times', round((0.3 + random() * 2)::numeric, 3));
	END IF;
	IF pg_temp.chance(0.4) THEN
		price := price || jsonb_build_object('plus', round((random() * 0.05)::numeric, 8));
	END IF;
	RETURN CASE WHEN pg_temp.chance(0.5) THEN price || jsonb_build_object('digits', pg_temp.one_of('{2,4,6,8}'::int[])) ELSE price END;
END
$$;
-- One season, maybe over the new year, or two that do not meet.
CREATE FUNCTION pg_temp.random_seasons() RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT pg_temp.one_of(ARRAY['{"summer":["05-01","11-01"]}', '{"summer":["06-15","09-21"]}', '{"winter":["11-15","03-16"]}', '{"summer":["05-01","10-01"],"winter":["12-01","03-01"]}',
		'{"wet":["04-10","08-20"],"dry":["09-02","02-11"]}', '{"hot":["07-01","10-01"]}']::jsonb[])
$$;
CREATE FUNCTION pg_temp.random_window(seasons text[]) RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_build_object('from', f, 'to', CASE WHEN t = f THEN '24:00' WHEN t = '00:00' AND pg_temp.chance(0.5) THEN '24:00' ELSE t END)
		|| CASE WHEN cardinality(seasons) > 0 AND pg_temp.chance(0.3) THEN jsonb_build_object('seasons', jsonb_build_array(pg_temp.one_of(seasons))) ELSE '{}' END
		|| CASE WHEN pg_temp.chance(0.15) THEN jsonb_build_object('flag', pg_temp.one_of('{hot_day,storm}'::text[])) ELSE '{}' END
		|| CASE WHEN pg_temp.chance(0.3) THEN jsonb_build_object('days', pg_temp.one_of(ARRAY['["workday"]', '["workday","weekend"]', '["weekend","holiday"]', '["holiday"]']::jsonb[])) ELSE '{}' END
	FROM (SELECT pg_temp.random_clock() AS f, pg_temp.random_clock() AS t) x
$$;
-- Periods by the order of their names; the last one is the rest of the day.
CREATE FUNCTION pg_temp.random_periods(n int, seasons text[]) RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_agg(CASE WHEN p < n THEN jsonb_build_object('name', name, 'windows', (SELECT jsonb_agg(pg_temp.random_window(seasons)) FROM generate_series(1, 1 + floor(random() * 2 + p * 0)::int)))
		ELSE jsonb_build_object('name', 'flat') END ORDER BY p)
	FROM unnest('{sharp,peak,valley,deep_valley,flat}'::text[]) WITH ORDINALITY x(name, p) WHERE p <= n
$$;
CREATE FUNCTION pg_temp.random_bounds(tiers int, scale numeric, seasons text[]) RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_agg((CASE WHEN row < rows THEN CASE WHEN cardinality(seasons) > 0 THEN jsonb_build_object('season', seasons[row]) ELSE jsonb_build_object('household', 5) END ELSE '{}' END)
		|| jsonb_build_object('upto_kwh', (SELECT jsonb_agg(b ORDER BY b) FROM (SELECT round((scale * t * (0.1 + random() * 0.8 + row * 0) / tiers)::numeric + t * 0.01, digits) AS b FROM generate_series(1, tiers - 1) t) u)) ORDER BY row)
	FROM (SELECT CASE WHEN random() < 0.5 THEN 1 WHEN cardinality(seasons) > 0 THEN 1 + cardinality(seasons) ELSE 2 END AS rows, pg_temp.one_of('{2,3}'::int[]) AS digits) r, generate_series(1, r.rows) row
$$;
-- One or two rows of energy prices, or one for each cell; the last takes what is left.
CREATE FUNCTION pg_temp.random_energy(tiers int, periods text[], names text[]) RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('tier', tier, 'period', period)) || jsonb_build_object('price', pg_temp.random_price(names)) ORDER BY place)
	FROM (SELECT style, tier, period, row_number() OVER (ORDER BY tier NULLS LAST, period NULLS LAST) AS place
		FROM (SELECT floor(random() * 4) AS style) s
		CROSS JOIN LATERAL (
			SELECT NULL::int AS tier, NULL::text AS period
			UNION ALL SELECT t, NULL FROM generate_series(1, tiers - 1) t WHERE tiers > 1 AND style = 0
			UNION ALL SELECT NULL, p FROM unnest(periods[:cardinality(periods) - 1]) p WHERE style = 1
			UNION ALL SELECT t, p FROM generate_series(1, tiers) t, unnest(periods) p WHERE style >= 2 AND (t, p) <> (tiers, periods[cardinality(periods)])) c) x
$$;

-- scale: what such an account uses in a month, kWh. names: named prices it may refer to.
CREATE FUNCTION pg_temp.draw_tariff(scale numeric, names text[] DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
	seasons constant jsonb := CASE WHEN pg_temp.chance(0.5) THEN pg_temp.random_seasons() END;
	season_names constant text[] := ARRAY(SELECT jsonb_object_keys(seasons) ORDER BY 1);
	tiers constant int := pg_temp.one_of('{1,1,2,3,3,4}'::int[]);
	n_periods constant int := pg_temp.one_of('{0,0,2,3,4,5}'::int[]);
	cycle constant text := CASE WHEN seasons IS NOT NULL AND pg_temp.chance(0.3) THEN 'season' ELSE pg_temp.one_of('{month,year,cycle}'::text[]) END;
	tariff jsonb := '{}';
	periods text[] := '{}';
BEGIN
	IF seasons IS NOT NULL THEN
		tariff := jsonb_build_object('seasons', seasons);
	END IF;
	IF tiers > 1 THEN
		tariff := tariff || jsonb_build_object('tiers', jsonb_build_object('cycle', cycle, 'mode', pg_temp.one_of('{graduated,graduated,volume}'::text[]),
			'bounds', pg_temp.random_bounds(tiers, scale * CASE cycle WHEN 'year' THEN 9 WHEN 'season' THEN 5 ELSE 1 END, season_names)));
	END IF;
	IF n_periods > 0 THEN
		tariff := tariff || jsonb_build_object('periods', pg_temp.random_periods(n_periods, season_names));
		periods := ARRAY(SELECT p ->> 'name' FROM jsonb_array_elements(tariff -> 'periods') WITH ORDINALITY x(p, o) ORDER BY o);
		-- the rest of the day is last, whatever it is called
		IF tariff -> 'periods' -> -1 ? 'windows' THEN
			tariff := jsonb_set(tariff, '{periods,-1}', (tariff -> 'periods' -> -1) - 'windows');
		END IF;
	END IF;
	tariff := tariff || jsonb_build_object('energy', pg_temp.random_energy(tiers, periods, names));
	IF tiers > 1 AND pg_temp.chance(0.4) THEN
		tariff := tariff || jsonb_build_object('tier_adders', (SELECT jsonb_agg(CASE t WHEN 1 THEN to_jsonb(0) ELSE to_jsonb(round((random() * 0.3)::numeric, 3)) END) FROM generate_series(1, tiers) t));
	END IF;
	IF pg_temp.chance(0.4) THEN
		tariff := tariff || jsonb_build_object('adders', (SELECT jsonb_agg(jsonb_build_object('name', name, 'price', round((random() * 0.05)::numeric, 6))) FROM unnest('{funds,loss}'::text[]) name WHERE name = 'funds' OR random() < 0.4));
	END IF;
	IF pg_temp.chance(0.4) THEN
		tariff := tariff || jsonb_build_object('fees', (SELECT jsonb_agg(jsonb_build_object('name', name, 'per', pg_temp.one_of('{day,month,cycle}'::text[]), 'amount', round((1 + random() * 30)::numeric, 2))
			|| CASE WHEN random() < 0.5 THEN jsonb_build_object('prorate', random() < 0.8) ELSE '{}' END) FROM unnest('{service,lift}'::text[]) name WHERE name = 'service' OR random() < 0.4));
	END IF;
	IF pg_temp.chance(0.3) THEN
		tariff := tariff || jsonb_build_object('demand', jsonb_build_object('per_kw', round((5 + random() * 30)::numeric, 2), 'basis', b) || CASE b WHEN 'maximum' THEN jsonb_build_object('window_minutes', pg_temp.one_of('{15,30,60}'::int[])) ELSE '{}' END)
			FROM pg_temp.one_of('{maximum,maximum,contract,capacity}'::text[]) b;
	END IF;
	IF pg_temp.chance(0.25) THEN
		tariff := tariff || jsonb_build_object('power_factor', jsonb_build_object('standard', pg_temp.one_of('{0.80,0.85,0.90}'::numeric[])));
	END IF;
	IF pg_temp.chance(0.25) THEN
		tariff := tariff || jsonb_build_object('minimum', round((scale * random())::numeric, 2));
	END IF;
	IF pg_temp.chance(0.3) THEN
		tariff := tariff || jsonb_build_object('tax_rate', pg_temp.one_of('{0.13,0.06,0.1925}'::numeric[]), 'tax_included', random() < 0.3);
	END IF;
	IF pg_temp.chance(0.4) THEN
		tariff := tariff || jsonb_build_object('rounding', jsonb_build_object('amount', pg_temp.one_of('{half_up,down,up}'::text[]), 'digits', pg_temp.one_of('{0,1,2,2}'::int[]))
			|| CASE WHEN random() < 0.5 THEN jsonb_build_object('kwh_digits', pg_temp.one_of('{0,1,2}'::int[])) ELSE '{}' END);
	END IF;
	RETURN tariff;
END
$$;

-- How often a draw was refused, and why: a window that never matches, say.
CREATE TEMP TABLE draw (accepted boolean, message text, definition jsonb);
CREATE FUNCTION pg_temp.random_tariff(scale numeric, names text[] DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
	tariff jsonb;
BEGIN
	LOOP
		tariff := pg_temp.draw_tariff(scale, names);
		BEGIN
			PERFORM submeter.check_tariff(tariff);
			INSERT INTO draw VALUES (true, NULL, tariff);
			RETURN tariff;
		EXCEPTION WHEN invalid_parameter_value THEN
			INSERT INTO draw VALUES (false, SQLERRM, tariff);
		END;
	END LOOP;
END
$$;

-- Days that differ from the week, between two dates.
CREATE FUNCTION pg_temp.random_calendar(from_day date, to_day date) RETURNS TABLE (day date, day_type text, flags text[])
LANGUAGE sql
AS $$
	SELECT d::date, CASE WHEN random() < 0.7 THEN pg_temp.one_of('{workday,weekend,holiday,holiday}'::text[]) END,
		CASE WHEN random() < 0.5 THEN '{}' ELSE pg_temp.one_of(ARRAY['{hot_day}', '{storm}', '{hot_day,storm}']) END::text[]
	FROM generate_series(from_day::timestamp, to_day::timestamp, '1 day') d WHERE random() < 0.25
$$;
