-- Readings of the poller, of meters' memories and contradictory ones: any order and any batches give the same suspects, usage and
-- charges, and a memory with every hour gives the charges of a meter that was never silent.
BEGIN;
SELECT plan(4 + 12 * 3);
SET timezone = 'Asia/Shanghai';
SET client_min_messages = warning;
SELECT setseed(0.4711);
INSERT INTO submeter.site (code, name) VALUES ('A', 'Plaza');
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, i, 'M' || i, 'SDM120' FROM generate_series(1, 14) i;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, i, 100 FROM generate_series(1, 14) i;
SELECT submeter.create_partitions('2026-01-01', '2026-03-01') > 0;
SELECT submeter.create_tariff(1, 'tou', '{"periods":[{"name":"peak","windows":[{"from":"08:00","to":"13:00"},{"from":"17:00","to":"22:00"}]},{"name":"flat"}],
	"energy":[{"period":"peak","price":1.2345},{"price":0.4321}],"tiers":{"bounds":[{"upto_kwh":[120,260]}]},"tier_adders":[0,0.1,0.3]}', '2020-01-01') > 0;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, i, 'T' || i, 'T' || i FROM generate_series(1, 14) i;
INSERT INTO submeter.account (site_id, account_id, code, tenant_id) SELECT 1, i, 'A' || i, i FROM generate_series(1, 14) i;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, i, i, (SELECT tariff_id FROM submeter.tariff), '[2026-02-01,)' FROM generate_series(1, 14) i;

-- A register that grows at a different pace each hour.
CREATE TEMP TABLE truth AS
SELECT h, timestamptz '2026-02-01 00:00' + h * interval '1 hour' AS ts, 100000 + sum(h * 37 % 11 * 400) OVER (ORDER BY h) AS wh FROM generate_series(0, 167) h;
-- What comes in: the poller's hours but for two gaps; the hours of these from the memory; and some that cannot be.
CREATE TEMP TABLE facts AS
SELECT ts, wh, 'poll' AS source FROM truth WHERE h NOT BETWEEN 30 AND 60 AND h NOT BETWEEN 100 AND 110
UNION ALL SELECT ts, wh, 'backfill' FROM truth WHERE h BETWEEN 30 AND 60 OR h BETWEEN 100 AND 110
UNION ALL SELECT ts + interval '7 min', wh + 900000, 'backfill' FROM truth WHERE h IN (40, 41, 42)
UNION ALL SELECT ts + interval '11 min', wh - 90000, 'backfill' FROM truth WHERE h IN (50, 105)
UNION ALL SELECT ts + interval '13 min', 0, 'poll' FROM truth WHERE h IN (70, 111);
CREATE FUNCTION pg_temp.feed(meter bigint, chosen text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	batch submeter.reading_input[];
BEGIN
	FOR batch IN EXECUTE format($q$SELECT array_agg(json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', %s, 'ts', ts, 'energy_wh', wh, 'source', source)))
		FROM (SELECT f.*, (row_number() OVER (ORDER BY %s) / (1 + (random() * 20)::int)) AS b FROM facts f) x GROUP BY b ORDER BY b$q$, meter, chosen)
	LOOP
		PERFORM submeter.ingest(1, batch);
		IF random() < 0.3 THEN
			PERFORM submeter.settle(1, '2026-02-09');
		END IF;
	END LOOP;
END
$$;
-- Meter 1 is read in order, meter 2 was never silent.
SELECT pg_temp.feed(1, 'ts');
SELECT submeter.ingest(1, array_agg(json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 2, 'ts', ts, 'energy_wh', wh)))) FROM truth;
SELECT pg_temp.feed(m, 'random()') FROM generate_series(3, 8) m;
SELECT pg_temp.feed(m, CASE m % 3 WHEN 0 THEN 'ts DESC' WHEN 1 THEN 'source, random()' ELSE 'source DESC, ts DESC' END) FROM generate_series(9, 14) m;
SELECT submeter.settle(1, '2026-02-09') >= 0;

CREATE FUNCTION pg_temp.suspects(meter bigint) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', ts, rule, state, energy_wh), ', ' ORDER BY ts, rule) FROM submeter.reading_suspect WHERE meter_id = meter$$;
CREATE FUNCTION pg_temp.owed(meter bigint) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', cycle_start, energy_wh, tier_wh, amount), ', ' ORDER BY cycle_start) FROM submeter.charge WHERE account_id = meter$$;
SELECT is((SELECT string_agg(rule || ' ' || to_char(ts, 'DDHH24MI'), ', ' ORDER BY ts) FROM submeter.reading_suspect WHERE meter_id = 1),
	'jump 021607, jump 021707, jump 021807, backwards 030211, backwards 032213, backwards 050911, backwards 051513', 'what cannot be is suspect, and nothing else');
SELECT is((SELECT count(*) FROM submeter.reading_suspect WHERE meter_id = 1 AND state <> 'open')::int, 0, 'none of it is believed because there is more of it');
SELECT is(pg_temp.owed(1), pg_temp.owed(2), 'the charges are those of a meter that was never silent');
SELECT is((SELECT sum(estimated_wh) FROM submeter.charge WHERE account_id = 1), 0::numeric, 'and nothing of them is an estimate');
SELECT is(pg_temp.suspects(m), pg_temp.suspects(1), 'suspects of meter ' || m) FROM generate_series(3, 14) m;
SELECT is(pg_temp.owed(m), pg_temp.owed(1), 'charges of meter ' || m) FROM generate_series(3, 14) m;
SELECT is((SELECT (valid_ts, valid_wh)::text FROM submeter.meter_state WHERE meter_id = m), (SELECT (valid_ts, valid_wh)::text FROM submeter.meter_state WHERE meter_id = 1), 'state of meter ' || m) FROM generate_series(3, 14) m;
SELECT * FROM finish();
ROLLBACK;
