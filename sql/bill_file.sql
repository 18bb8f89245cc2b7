-- Bill files of the payment providers, written as their documents and public samples have them: archives, character sets, columns, awkward
-- cells, totals; and everything that is to be refused.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
\getenv srcdir PG_ABS_SRCDIR
\set pack :srcdir /tests/lib/pack_bill.py
CREATE FUNCTION pg_temp.refusal(provider text, file bytea) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
	n bigint;
BEGIN
	SELECT count(*) INTO n FROM submeter.provider_bill(provider, file);
	RETURN n || ' lines';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.gbk(body text) RETURNS bytea LANGUAGE sql AS $$SELECT convert_to(body, 'GBK')$$;
CREATE FUNCTION pg_temp.utf8(body text) RETURNS bytea LANGUAGE sql AS $$SELECT convert_to(body, 'UTF8')$$;

-- Alipay ------------------------------------------------------------------------------------------
-- A payment, one whose shop's name has trail bytes that are ASCII in GBK (乗 is 81 5C, 丂 is 81 40) and a discount paid by the merchant,
-- a whole and a partial refund with part of the fee given back, and something else.
CREATE TABLE pg_temp.alipay AS SELECT
	E'#支付宝业务明细查询\r\n#账号：[20881117373712940156]\r\n#起始日期：[2026年03月22日 00:00:00]   终止日期：[2026年03月23日 00:00:00]\r\n'
	|| E'#-----------------------------------------业务明细列表----------------------------------------\r\n' AS head,
	E'支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,'
	|| E'支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注\r\n' AS names,
	E'2026032222001458860515315453\t,S1P10\t,交易\t,电费充值 A-101,2026-03-22 10:55:16,2026-03-22 10:55:23,\t,\t,\t,\t,*津水(602***@qq.com)\t,100.00,100.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,\t,-0.60,0.00,\r\n'
	|| E'2026032222001458860515315454\t,S1P11\t,交易\t,乗丂电费 `A` "B",2026-03-22 23:59:40,2026-03-22 23:59:59,001\t,乗丂\t,\t,\t,**(139****0000)\t,50.00,45.00,0.00,0.00,0.00,5.00,0.00,满减\\,0.00\t,0.00,\t,-0.27,0.00,备注\r\n'
	|| E'2026032122001458860515315000\t,S1P07\t,退款\t,电费充值 A-102,2026-03-21 09:00:00,2026-03-22 11:07:09,\t,\t,\t,\t,*水\t,-30.00,-30.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,S1R3\t,0.18,0.00,\r\n'
	|| E'2026032222001458860515315453\t,S1P10\t,退款\t,电费充值 A-101,2026-03-22 10:55:16,2026-03-22 12:00:00,\t,\t,\t,\t,*津水(602***@qq.com)\t,-0.01,-0.01,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,S1R4\t,0.00,0.00,\r\n' AS details,
	E'2026032222001458860515319999\t,\t,转账\t,,2026-03-22 10:00:00,,\t,\t,\t,\t,\t,-7.00,-7.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,\t,,0.00,\r\n' AS other,
	E'#-----------------------------------------业务明细列表结束------------------------------------\r\n'
	|| E'#交易合计：2笔，商家实收共145.00元，商家优惠共5.00元\r\n#退款合计：2笔，商家实收退款共-30.01元，商家优惠退款共0.00元\r\n#导出时间：[2026年03月23日 05:46:49]\r\n' AS foot,
	E'#支付宝业务汇总查询\r\n#账号：[20881117373712940156]\r\n#-----------------------------------------业务汇总列表----------------------------------------\r\n'
	|| E'门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）\r\n'
	|| E'001\t,乗丂\t,1,0,50.00,45.00,0.00,5.00,0.00,-0.27,0.00,44.73\r\n\t,\t,1,2,69.99,69.99,0.00,0.00,0.00,-0.42,0.00,69.57\r\n'
	|| E'合计\t,\t,2,2,119.99,114.99,0.00,5.00,0.00,-0.69,0.00,114.30\r\n#----------------------------------------业务汇总列表结束-------------------------------------\r\n' AS summary;

-- The archive: two texts with names in GBK, in either order.
SELECT encode(pg_temp.gbk(head || names || details || other || foot), 'hex') AS detail, encode(pg_temp.gbk(summary), 'hex') AS summary FROM pg_temp.alipay \gset
\set zip `python3 :pack zip 20881117373712940156_20260322_业务明细.csv :detail '20881117373712940156_20260322_业务明细(汇总).csv' :summary`
\x
SELECT * FROM submeter.provider_bill('alipay', decode(:'zip', 'hex'));
\x
\set zip2 `python3 :pack zip 'a(汇总).csv' :summary folder/ '' 业务明细.csv :detail`
SELECT count(*), sum(amount) FILTER (WHERE kind = 'payment') AS paid, sum(settled) AS settled, sum(fee) AS fee FROM submeter.provider_bill('alipay', decode(:'zip2', 'hex'));
-- The text alone: in GBK, saved as UTF-8, with LF, gzipped.
SELECT pg_temp.refusal('alipay', pg_temp.gbk(head || names || details || foot)) AS gbk, pg_temp.refusal('alipay', pg_temp.utf8(head || names || details || foot)) AS utf8,
	pg_temp.refusal('alipay', '\xefbbbf' || pg_temp.utf8(head || names || details || foot)) AS marked, pg_temp.refusal('alipay', pg_temp.gbk(replace(head || names || details || foot, E'\r', ''))) AS lf
FROM pg_temp.alipay;
\set gz `python3 :pack gzip - :detail`
SELECT pg_temp.refusal('alipay', decode(:'gz', 'hex')) AS gzip, submeter.bill_plain(decode(:'gz', 'hex')) = decode(:'detail', 'hex') AS same;
-- The raw line comes back as it is printed, in UTF-8.
SELECT b.raw = split_part(a.details, E'\r\n', 2) AS raw FROM pg_temp.alipay a, submeter.provider_bill('alipay', pg_temp.gbk(head || names || details || foot)) b WHERE b.line = 7;

-- Columns are found by name: others between them, another order, units in other brackets, an older name.
SELECT b.kind, b.account, b.provider_transaction, b.out_trade_no, b.refund_no, b.amount, b.fee, b.settled, b.happened_at, b.subject
FROM pg_temp.alipay a, submeter.provider_bill('alipay', pg_temp.gbk(replace(a.head, '：', ':')
	|| E'新的一列,服务费(元),业务类型,退款批次号,商户订单号,商品名称,订单金额(元),完成时间,支付宝交易号,商家实收(元)\nx,-0.012,交易,,P1,电费,2,2026-03-22 00:00:00,T1,2.0\nx,0,退款,R1,P1,电费,-1.5,2026-03-22 00:00:01,T1,-1.50\n#业务明细列表结束\n')) b;

-- Names with commas, quoted or not; quotes that are only part of a name.
CREATE FUNCTION pg_temp.named(name text, remark text DEFAULT '') RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	result text;
	file bytea := (SELECT pg_temp.gbk(head || names || E'T1\t,P1\t,交易\t,' || name || E',2026-03-22 10:55:16,2026-03-22 10:55:23,\t,\t,\t,\t,*津水\t,100.00,99.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,\t,-0.60,0.00,'
		|| remark || E'\r\n#业务明细列表结束\r\n') FROM pg_temp.alipay);
BEGIN
	SELECT concat_ws(' | ', b.subject, b.amount, b.settled, b.fee, b.happened_at) INTO result FROM submeter.provider_bill('alipay', file) b;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN pg_temp.refusal('alipay', file);
END
$$;
SELECT n.name, pg_temp.named(n.name) AS read
FROM (VALUES ('电费,水费'), ('"电费,水费"'), ('"说 ""好"", 行"'), ('"电费'), ('电"费"'), ('""'), ('"'), ('"a"b,c"'), (',,,'), (''), ('a,2026-03-22 10:00:00'), ('a,'), (',,,,,,,,,'), ('50.00,50.00'), ('#'), (E'\t')) n(name);
SELECT pg_temp.named('电费', '一,二'), pg_temp.named('电费', '"一,二"'), pg_temp.named('电,费', '一,二,三');

-- Refused.
SELECT c.what, pg_temp.refusal('alipay', c.file) AS refusal
FROM pg_temp.alipay a, LATERAL (VALUES
	('nothing', ''::bytea), ('empty day', pg_temp.gbk(a.head || a.names || E'#业务明细列表结束\r\n')), ('no end', pg_temp.gbk(a.head || a.names || a.details)),
	('cut', substr(pg_temp.gbk(a.head || a.names || a.details), 1, 1500)), ('no header', pg_temp.gbk(a.head)), ('an answer', '{"code":"40004","sub_code":"isp.bill_not_exist"}'),
	('no account', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '账号', ''))), ('other account', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '0156]', ']'))),
	('odd account', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '0156]', '0840]'))),
	('no column', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '服务费', '杂费'))), ('twice', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '分润（元）', '服务费（元）'))),
	('few cells', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '电费充值 A-102,', ''))), ('bad number', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-30.00,-30.00,', ',-30.00,-30.00元,'))),
	('bad sum', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '商家实收共145.00元', '商家实收共145.01元'))), ('bad count', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '退款合计：2笔', '退款合计：3笔'))),
	('a line less', pg_temp.gbk(a.head || a.names || regexp_replace(a.details, '^[^\n]*\n', '') || a.foot)), ('other among', pg_temp.gbk(a.head || a.names || a.details || a.other || a.foot)),
	('bad time', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '2026-03-22 23:59:59', '2026-02-30 23:59:59'))), ('no time', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '2026-03-22 23:59:59', ''))),
	('no transaction', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, '2026032122001458860515315000', ''))), ('positive refund', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-30.00,-30.00,', ',30.00,30.00,'))),
	('no amount', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-30.00,-30.00,', ',,-30.00,'))), ('no fee', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-0.60,0.00,', ',,0.00,'))),
	('large number', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-30.00,-30.00,', ',-30.00,-1234567890123.00,'))), ('decimals', pg_temp.gbk(replace(a.head || a.names || a.details || a.foot, ',-30.00,-30.00,', ',-30.00,-30.0000001,'))),
	('bytes', pg_temp.gbk(a.head || a.names) || '\x3132ff0d0a' || pg_temp.gbk(a.details)), ('null byte', pg_temp.gbk(a.head || a.names) || '\x00'::bytea || pg_temp.gbk(a.details)), ('half a character', pg_temp.gbk(a.head || a.names) || '\xb5'::bytea)
) c(what, file);
SELECT submeter.provider_bill('alipay', NULL);
SELECT submeter.provider_bill('unionpay', '');
SELECT submeter.bill_plain(NULL);

-- Archives. The totals of the second text are compared, a small file must not become a large one.
SELECT encode(pg_temp.gbk(replace(summary, E'\t,\t,2,2,', E'\t,\t,4,2,')), 'hex') AS wrong, encode(pg_temp.gbk(head || names || E'#业务明细列表结束\r\n'), 'hex') AS empty FROM pg_temp.alipay \gset
\set zip_wrong `python3 :pack zip 业务明细.csv :detail '业务明细(汇总).csv' :wrong`
\set zip_empty `python3 :pack zip 业务明细.csv :empty`
\set zip_none `python3 :pack zip`
\set zip_totals `python3 :pack zip 1.csv :summary 2.csv :summary`
\set zip_halves `python3 :pack zip 1.csv :detail 2.csv :detail`
\set zip_many `python3 -c 'print(" ".join("%d.csv 31" % i for i in range(33)))' | xargs python3 :pack zip`
\set zip_bomb `python3 :pack bomb 1.csv 200 2.csv 100`
SELECT c.what, pg_temp.refusal('alipay', c.file) AS refusal
FROM (VALUES ('wrong totals', decode(:'zip_wrong', 'hex')), ('empty day', decode(:'zip_empty', 'hex')), ('no text', decode(:'zip_none', 'hex')), ('no details', decode(:'zip_totals', 'hex')),
	('two lists', decode(:'zip_halves', 'hex')), ('many', decode(:'zip_many', 'hex')), ('bomb', decode(:'zip_bomb', 'hex')), ('cut', substr(decode(:'zip', 'hex'), 1, 1200)), ('short', substr(decode(:'zip', 'hex'), 1, length(decode(:'zip', 'hex')) - 1)),
	('changed', overlay(decode(:'zip', 'hex') PLACING '\xffffffff' FROM 300)), ('locked', set_byte(set_byte(decode(:'zip_empty', 'hex'), 6, 1), position('\x504b0102'::bytea IN decode(:'zip_empty', 'hex')) + 7, 1)),
	('head only', '\x504b0304'), ('too large', '\x504b0304'::bytea || convert_to(repeat('0', 64 << 20), 'UTF8')), ('gzip cut', substr(decode(:'gz', 'hex'), 1, length(decode(:'gz', 'hex')) - 8)), ('gzip changed', set_byte(decode(:'gz', 'hex'), length(decode(:'gz', 'hex')) - 5, 7)), ('gzip and more', decode(:'gz', 'hex') || '\x00'), ('gzip head', '\x1f8b')) c(what, file);

-- WeChat Pay --------------------------------------------------------------------------------------
-- A payment, one with a coupon and a comma in its name, refunds (one under way, one failed), a revoked payment, and a state we do not know.
CREATE TABLE pg_temp.wechat AS SELECT
	E'交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,'
	|| E'商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n' AS names,
	E'`2026-03-22 05:01:46,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134212,`S1P20,`oHkLx,`NATIVE,`SUCCESS,`OTHERS,`CNY,`100.00,`0.00,`0,`0,`0.00,`0.00,`,`,`电费充值 A-101,`,`0.60000,`0.60%,`100.00,`0.00,`\r\n'
	|| E'`2026-03-22 23:59:59,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134213,`S1P21,`oHkLx,`JSAPI,`SUCCESS,`CMB_DEBIT,`CNY,`45.00,`5.00,`0,`0,`0.00,`0.00,`,`,`电费,水费,"A" `B`,`x=1,`0.27000,`0.60%,`50.00,`0.00,`\r\n'
	|| E'`2026-03-22 08:00:00,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134000,`S1P17,`oHkLx,`NATIVE,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`50000709672026031908420787722,`S1R8,`27.00,`0.00,`ORIGINAL,`PROCESSING,`电费充值 A-102,`,`-0.16000,`0.60%,`0.00,`30.00,`\r\n'
	|| E'`2026-03-22 08:00:01,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134001,`S1P18,`oHkLx,`NATIVE,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`50000709672026031908420787723,`S1R9,`1.00,`0.00,`ORIGINAL,`FAIL,`电费充值,`,`0.00000,`0.60%,`0.00,`1.00,`\r\n'
	|| E'`2026-03-22 09:00:00,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134214,`S1P22,`oHkLx,`MICROPAY,`REVOKED,`OTHERS,`CNY,`0.00,`0.00,`50000709672026031908420787724,`0,`2.00,`0.00,`ORIGINAL,`SUCCESS,`电费充值,`,`0.00000,`0.60%,`0.00,`2.00,`\r\n'
	|| E'`2026-03-22 10:00:00,`wx0000000000000001,`1900000001,`0,`,`4200000263202603167700134215,`S1P23,`oHkLx,`NATIVE,`DISPUTE,`OTHERS,`CNY,`0.00,`0.00,`0,`0,`0.00,`0.00,`,`,`电费充值,`,`0.00000,`0.60%,`0.00,`0.00,`\r\n' AS details,
	E'总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n' AS total_names,
	E'`6.0,`145.00,`30.00,`0.00,`0.71000,`150.00,`33.00\r\n' AS totals;
\x
SELECT b.* FROM pg_temp.wechat w, submeter.provider_bill('wechat', '\xefbbbf' || pg_temp.utf8(names || details || total_names || totals)) b;
\x
SELECT encode('\xefbbbf' || pg_temp.utf8(names || details || total_names || totals), 'hex') AS bill FROM pg_temp.wechat \gset
\set gz `python3 :pack gzip - :bill`
SELECT pg_temp.refusal('wechat', decode(:'gz', 'hex')) AS gzip, submeter.bill_plain(decode(:'gz', 'hex')) = decode(:'bill', 'hex') AS same, submeter.sha1_hex(submeter.bill_plain(decode(:'gz', 'hex'))) = submeter.sha1_hex(decode(:'bill', 'hex')) AS hash;
SELECT submeter.sha1_hex('abc'), submeter.sha1_hex('');
-- Successful payments only have no columns of refunds, refunds only two more.
SELECT kind, provider_transaction, refund_no, amount, fee, settled, happened_at FROM submeter.provider_bill('wechat', pg_temp.utf8(
	E'交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,商品名称,商户数据包,手续费,费率,订单金额,费率备注\n'
	'`2026-03-22 18:46:41,`wx,`1900000001,`0,`,`T1,`P1,`o,`JSAPI,`SUCCESS,`CFT,`CNY,`0.01,`0.00,`a,`b,`0.00000,`0.60%,`0.01,`\n'
	'总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n`1,`0.01,`0.00,`0.00,`0.00000,`0.01,`0.00'));
SELECT kind, provider_transaction, provider_refund, refund_no, amount, fee, settled, happened_at FROM submeter.provider_bill('wechat', pg_temp.utf8(
	E'交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,退款申请时间,退款成功时间,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\n'
	'`2026-03-20 14:40:09,`wx,`1900000001,`0,`,`T1,`P1,`o,`JSAPI,`REFUND,`CFT,`CNY,`0.00,`0.00,`2026-03-21 18:13:10,`2026-03-21 18:13:12,`W1,`R1,`2.00,`0.00,`ORIGINAL,`SUCCESS,`a,`b,`-0.02000,`0.60%,`0.00,`2.02,`\n'
	'`2026-03-20 14:40:09,`wx,`1900000001,`0,`,`T1,`P1,`o,`JSAPI,`REFUND,`CFT,`CNY,`0.00,`0.00,`2026-03-21 18:14:10,`,`W2,`R2,`0.02,`0.00,`ORIGINAL,`PROCESSING,`a,`b,`0.00000,`0.60%,`0.00,`0.02,`\n'
	'总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n`2,`0.00,`2.02,`0.00,`-0.02000,`0.00,`2.04\n'));
SELECT c.what, pg_temp.refusal('wechat', c.file) AS refusal
FROM pg_temp.wechat w, pg_temp.alipay a, LATERAL (VALUES
	('nothing', ''::bytea), ('mark only', '\xefbbbf'), ('empty day', pg_temp.utf8(w.names || w.total_names || E'`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\r\n')), ('no totals', pg_temp.utf8(w.names || w.details)),
	('header of totals only', pg_temp.utf8(w.names || w.details || w.total_names)), ('of Alipay', pg_temp.gbk(a.head || a.names || a.details || a.foot)), ('of Alipay, UTF-8', pg_temp.utf8(a.head || a.names || a.details || a.foot)),
	('an answer', '{"code":"INVALID_REQUEST","message":"token"}'), ('LF', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, E'\r', ''))),
	('no fee', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '手续费,', '杂费,'))), ('no refunds', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, ',退款金额', ',其他'))),
	('comma and backtick', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '`电费充值 A-101', '`电费,`充值'))), ('few cells', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '`oHkLx,`JSAPI', '`JSAPI'))),
	('no backtick', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '`2026-03-22 10', '2026-03-22 10'))), ('broken name', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, 'A-101', E'A\n101'))),
	('wrong total', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '`145.00,`30.00', '`145.00,`30.01'))), ('wrong fees', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '0.71000', '0.72'))),
	('a line less', pg_temp.utf8(w.names || regexp_replace(w.details, '^[^\n]*\n', '') || w.total_names || w.totals)), ('a line twice', pg_temp.utf8(w.names || w.details || w.details || w.total_names || w.totals)),
	('totals misfit', pg_temp.utf8(w.names || w.details || w.total_names || E'`6\r\n')), ('total no number', pg_temp.utf8(w.names || w.details || w.total_names || replace(w.totals, '6.0', 'six'))),
	('no amount', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '`27.00,`0.00', '`,`0.00'))), ('bad time', pg_temp.utf8(replace(w.names || w.details || w.total_names || w.totals, '2026-03-22 23:59:59', '2026-03-22 24:59:59'))), ('bytes', pg_temp.utf8(w.names) || '\xb5e7'), ('sum too large', pg_temp.utf8(w.names || repeat(replace(w.details, E'`100.00,`0.00,`\r', E'`999999999999.00,`0.00,`\r'), 3)))
) c(what, file);

-- What the simulated providers write, who know nothing of how it is read.
\set simulated :srcdir /tests/lib/simulated_bill.py
\set sim_alipay `python3 :simulated alipay`
\set sim_wechat `python3 :simulated wechat`
\set sim_plain `python3 :simulated wechat-plain`
SELECT f.name, b.line, b.account ~ '^(2088[0-9]{12}|16[0-9]{8})$' AS account, b.kind, b.provider_transaction, b.out_trade_no, b.refund_no, b.provider_refund, b.amount, b.fee, b.settled, b.happened_at, b.subject
FROM (VALUES ('alipay', 'alipay', decode(:'sim_alipay', 'hex')), ('wechat', 'wechat', decode(:'sim_wechat', 'hex')), ('plain', 'wechat', decode(:'sim_plain', 'hex'))) f(name, provider, file),
	submeter.provider_bill(f.provider, f.file) b
ORDER BY f.name, b.line;

-- Only for whoever reconciles; the check of a download is for all.
SELECT p.oid::regprocedure AS routine, has_function_privilege('submeter_owner', p.oid, 'EXECUTE') AS owner, has_function_privilege('submeter_admin', p.oid, 'EXECUTE') AS admin, has_function_privilege('submeter_tenant', p.oid, 'EXECUTE') AS tenant
FROM pg_proc p WHERE p.pronamespace = 'submeter'::regnamespace AND p.proname IN ('provider_bill', 'bill_plain', 'sha1_hex') ORDER BY 1;
