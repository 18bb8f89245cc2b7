-- The bill as a document: amounts in words, a page that is whole and well-formed in both languages, and what it says is
-- what the bill says. The bills themselves are those of bill.sql.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SELECT amount, submeter.chinese_amount(amount) FROM unnest('{0,0.05,0.5,1,10,10.05,101,120.05,1000,1000.5,10010.3,100000,100010001.01,20300400.56,-3.2,1200000000,99999999999.99,0.004,1.005}'::numeric[]) amount;
-- spelt amounts are all different and can be read back
SELECT count(DISTINCT submeter.chinese_amount(n * 0.37)) AS different FROM generate_series(0, 20000, 7) n;
CREATE FUNCTION pg_temp.read_back(spelt text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	total numeric := 0; section numeric := 0; digit numeric := 0; c text;
BEGIN
	FOREACH c IN ARRAY regexp_split_to_array(translate(spelt, '负整零', ''), '') LOOP
		CASE
			WHEN c = '' THEN NULL;
			WHEN position(c IN '壹贰叁肆伍陆柒捌玖') > 0 THEN digit := position(c IN '壹贰叁肆伍陆柒捌玖');
			WHEN c IN ('拾', '佰', '仟') THEN section := section + digit * CASE c WHEN '拾' THEN 10 WHEN '佰' THEN 100 ELSE 1000 END; digit := 0;
			WHEN c IN ('万', '亿') THEN total := (total + section + digit) * CASE c WHEN '万' THEN 10000 ELSE 100000000 END; section := 0; digit := 0;
			WHEN c = '元' THEN total := total + section + digit; section := 0; digit := 0;
			WHEN c = '角' THEN total := total + digit * 0.1; digit := 0;
			WHEN c = '分' THEN total := total + digit * 0.01; digit := 0;
		END CASE;
	END LOOP;
	RETURN CASE WHEN spelt LIKE '负%' THEN -total ELSE total END;
END $$;
SELECT count(*) AS wrong FROM (SELECT round((n * 7919 % 99999)::numeric * 1.0073 * power(10::numeric, n % 4), 2) AS amount FROM generate_series(1, 3000) n) a WHERE pg_temp.read_back(submeter.chinese_amount(amount)) <> amount AND amount < 100000000;

INSERT INTO submeter.site (site_id, code, name, time_zone, locale, close_cycles) VALUES (1, 'S1', 'Tower & <Court>', 'Asia/Shanghai', 'zh', false);
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Noodles <b>"1"</b>');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) VALUES (1, 1, 1, 'A1', '2026-01-01');
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 1, 'M<1>', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (1, 1, '2026-01-01', 60);
SELECT submeter.create_tariff(1, 'tou', '{"periods":[{"name":"peak","windows":[{"from":"08:00","to":"20:00"}]},{"name":"valley"}],"energy":[{"period":"peak","price":1.1},{"period":"valley","price":0.4}],"fees":[{"name":"meter","per":"month","amount":5}]}', '2026-01-01') > 0 AS made;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, 1, 1, tariff_id, '[2026-01-01,)' FROM submeter.tariff;
SELECT count(submeter.create_partitions(d, d + interval '1 month')) > 0 AS partitions FROM unnest('{2026-01-01,2026-02-01}'::date[]) d;
SELECT submeter.ingest_json(1, jsonb_agg(jsonb_build_object('meter_id', 1, 'ts', ts, 'energy_wh', 1000000 + extract(epoch FROM ts - '2026-01-01'::timestamptz)::bigint / 36)))
FROM generate_series('2026-01-01'::timestamptz, '2026-02-02', interval '30 min') ts WHERE ts::date NOT IN ('2026-01-10');
SELECT submeter.recharge(1, 1, 500, 'cash', 'k') > 0 AS paid, submeter.settle(1, '2026-02-02') > 0 AS settled, submeter.close_cycle(1, '2026-02-01') AS bills;
CREATE TEMP TABLE page AS SELECT l, submeter.bill_html(1, b.bill_id, l) AS html FROM submeter.bill b, unnest('{zh,en}'::text[]) l;
SELECT l, xml_is_well_formed_document(html) AS whole, html ~ 'https?://' AS loads_anything, html ~ '<b>' AS injected FROM page;
-- what it says, as text
SELECT l, regexp_replace(regexp_replace(regexp_replace(regexp_replace(html, '^.*</style></head>', ''), '<svg.*</svg>', ''), '\d{4}-\d\d-\d\d \d\d:\d\d', 'NOW'), '(<[^>]*>)+', '|', 'g') AS text FROM page;
SELECT (SELECT count(*) FROM regexp_matches(html, '<rect ', 'g')) AS days, (SELECT count(*) FROM regexp_matches(html, '#c9a227', 'g')) AS estimated FROM page WHERE l = 'en';
SELECT submeter.bill_html(1, bill_id) = (SELECT html FROM page WHERE l = 'zh') AS language_of_the_site FROM submeter.bill;
SELECT submeter.bill_html(1, 99);
SELECT submeter.bill_html(1, bill_id, 'fr') FROM submeter.bill;
SELECT count(submeter.void_bill(1, bill_id, 'test')) AS voided FROM submeter.bill;
SELECT state, html ~ '已作废' AS void, html ~ '冲红' AS reversal FROM submeter.bill b, submeter.bill_html(1, b.bill_id) html ORDER BY bill_id;
-- it goes along with the mail about it
SELECT count(*) FILTER (WHERE m ~ 'multipart/mixed') AS mixed, count(*) FILTER (WHERE m ~ 'filename="bill-1.html"') AS attached, count(*) AS mails FROM (
	SELECT submeter.mail_text(ROW(1, 7, 9, k, 'mail', '{"from":"a@b.c"}', '', 'x', 'x@y.z', '{}', 'zh', 's', 'b', jsonb_build_object('number', n), false, now())::submeter.notice_message) AS m
	FROM (VALUES ('bill_issued', '1'), ('bill_issued', '99'), ('bill_due', 'x'), ('low_balance', '1')) v(k, n)) t;
