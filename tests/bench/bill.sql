-- The charges of 10,000 accounts are posted, then a month of them is closed into bills.
\set site 1
\set meters 10000
\ir property.sql
UPDATE submeter.meter_setup SET gap_after = '2 days';
SELECT submeter.create_partitions('2026-02-01', '2026-05-01');
CREATE TEMP TABLE bench (name text, seconds numeric);
-- A reading a day, never at midnight, so that every register at an end of the cycle lies between two.
SELECT count(submeter.ingest(1, b.readings)) FROM (
	SELECT array_agg(jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', m.meter_id, 'ts', t, 'energy_wh', (extract(epoch FROM t - timestamptz '2026-02-28') / 3600 * (300 + m.meter_id % 700))::bigint))) AS readings
	FROM generate_series(timestamptz '2026-02-28 16:13+00', timestamptz '2026-04-01 16:13+00', interval '1 day') t CROSS JOIN submeter.meter m GROUP BY t ORDER BY t) b;
SELECT submeter.settle(1, '2026-03-30');
VACUUM ANALYZE;

CREATE PROCEDURE public.bare_post() LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE public.bare_leg (LIKE submeter.transfer INCLUDING ALL);
	CREATE TABLE public.bare_total AS SELECT site_id, ledger_account_id, total FROM submeter.ledger_account;
	ALTER TABLE public.bare_total ADD PRIMARY KEY (site_id, ledger_account_id);
	COMMIT;
	INSERT INTO bench SELECT 'bare_post', -extract(epoch FROM clock_timestamp());
	INSERT INTO public.bare_leg SELECT * FROM submeter.transfer;
	UPDATE public.bare_total b SET total = b.total - t.amount FROM submeter.transfer t WHERE t.site_id = b.site_id AND t.debit_id = b.ledger_account_id;
	COMMIT;
	UPDATE bench SET seconds = seconds + extract(epoch FROM clock_timestamp()) WHERE name = 'bare_post' AND seconds < 0;
	DROP TABLE public.bare_leg, public.bare_total;
END $$;
SELECT clock_timestamp() AS t \gset
SELECT submeter.post_charges(1, '2026-03-30') AS posted \gset
INSERT INTO bench SELECT 'post', extract(epoch FROM clock_timestamp() - :'t');
CALL public.bare_post();
SELECT submeter.settle(1, '2026-04-02');
VACUUM ANALYZE;
SELECT max(transfer_id) AS before FROM submeter.transfer \gset

SELECT clock_timestamp() AS t \gset
SELECT submeter.close_due(1, '2026-04-01 00:00+08', '2026-04-02') AS closed \gset
INSERT INTO bench SELECT 'close', extract(epoch FROM clock_timestamp() - :'t');
-- The same rows into equal tables without a thought.
CREATE TABLE public.bare_bill (LIKE submeter.bill INCLUDING ALL);
CREATE TABLE public.bare_line (LIKE submeter.bill_line INCLUDING ALL);
CREATE TABLE public.bare_meter (LIKE submeter.bill_meter INCLUDING ALL);
CREATE TABLE public.bare_leg (LIKE submeter.transfer INCLUDING ALL);
SELECT clock_timestamp() AS t \gset
BEGIN;
INSERT INTO public.bare_bill SELECT * FROM submeter.bill;
INSERT INTO public.bare_line SELECT * FROM submeter.bill_line;
INSERT INTO public.bare_meter SELECT * FROM submeter.bill_meter;
INSERT INTO public.bare_leg SELECT * FROM submeter.transfer WHERE transfer_id > :before;
COMMIT;
INSERT INTO bench SELECT 'bare_close', extract(epoch FROM clock_timestamp() - :'t');
SELECT 1 / (count(*) > 0 AND bool_and(l.amount = b.amount))::int AS lines_add_up
FROM submeter.bill b JOIN (SELECT bill_id, sum(amount) AS amount FROM submeter.bill_line GROUP BY 1) l USING (bill_id);
SELECT * FROM submeter.verify_ledger(1);

SELECT format('%s seconds %s', name, avg(seconds)) FROM bench GROUP BY name;
SELECT format('posted %s', :posted);
SELECT format('closed %s', :closed);
