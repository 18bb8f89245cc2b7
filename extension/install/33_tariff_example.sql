-- Room: tariff. Ready-made definitions: real tariffs to start from, to learn the format by, and to test it with.
--   create_tariff(1, 'flat', (SELECT e.definition FROM submeter.tariff_example e WHERE e.code = 'guangdong_ladder'), '2026-01-01')
-- Their figures come from where "source" says; "verified" is true only where somebody compared them with the notice itself.

CREATE TABLE submeter.tariff_example (
	code text PRIMARY KEY CHECK (code ~ '^[a-z][a-z0-9_]*$'),
	title text NOT NULL CHECK (title <> ''),
	area text NOT NULL CHECK (area <> ''),
	currency text NOT NULL DEFAULT 'CNY',
	definition jsonb NOT NULL,
	source text NOT NULL CHECK (source <> ''),
	verified boolean NOT NULL DEFAULT false,
	note text
);
COMMENT ON TABLE submeter.tariff_example IS
'Ready-made tariff definitions to hand to create_tariff() and quote(). Reference rows of the extension: compare them with the notice in force before charging anybody.';
COMMENT ON COLUMN submeter.tariff_example.code IS 'name of the example';
COMMENT ON COLUMN submeter.tariff_example.title IS 'what it is, in English and in the words of the notice';
COMMENT ON COLUMN submeter.tariff_example.area IS 'where it applies or applied';
COMMENT ON COLUMN submeter.tariff_example.currency IS 'what its prices are in';
COMMENT ON COLUMN submeter.tariff_example.definition IS 'see tariff_schema()';
COMMENT ON COLUMN submeter.tariff_example.source IS 'where the figures come from';
COMMENT ON COLUMN submeter.tariff_example.verified IS 'true when the figures were compared with the notice itself';
COMMENT ON COLUMN submeter.tariff_example.note IS 'what to know before using it';

-- Guangdong, households: bounds by season and household, the same prices in both.
INSERT INTO submeter.tariff_example (code, title, area, definition, source, note) VALUES
('guangdong_ladder', 'Household ladder (广东居民阶梯电价)', 'Guangdong; prices of Guangzhou and the Pearl River Delta group, from 2019-07-01', $json${
	"seasons": {"summer": ["05-01", "11-01"]},
	"tiers": {"cycle": "month", "mode": "graduated", "bounds": [
		{"season": "summer", "household": 5, "upto_kwh": [360, 700]},
		{"season": "summer", "upto_kwh": [260, 600]},
		{"household": 5, "upto_kwh": [300, 500]},
		{"upto_kwh": [200, 400]}]},
	"energy": [{"price": 0.58886875}],
	"tier_adders": [0, 0.05, 0.30]
}$json$, '粤价〔2012〕135号 (bounds), 粤发改价格〔2017〕498号 (prices), both as transcribed by a third party',
'The price contains government funds of 0.00866875. Households of 5 and more have 100 kWh more in both bounds (from 2021-06-01): say so in supply.terms, {"household_size": 5}.'),
('guangdong_shared_meter', 'Households behind one meter (合表用户)', 'Guangdong; Guangzhou and the Pearl River Delta group', $json${
	"energy": [{"price": 0.62586875}]
}$json$, '粤价〔2012〕135号: first-tier price + 0.037, as transcribed by a third party', 'For dormitories and schools without meters of their own.'),
('guangdong_ladder_tou', 'Household ladder with peak and valley (广东居民阶梯加峰谷电价)', 'Guangdong; Guangzhou and the Pearl River Delta group, from 2021-10-01', $json${
	"seasons": {"summer": ["05-01", "11-01"]},
	"tiers": {"cycle": "month", "mode": "graduated", "bounds": [
		{"season": "summer", "household": 5, "upto_kwh": [360, 700]},
		{"season": "summer", "upto_kwh": [260, 600]},
		{"household": 5, "upto_kwh": [300, 500]},
		{"upto_kwh": [200, 400]}]},
	"periods": [
		{"name": "peak", "windows": [{"from": "10:00", "to": "12:00"}, {"from": "14:00", "to": "19:00"}]},
		{"name": "valley", "windows": [{"from": "00:00", "to": "08:00"}]},
		{"name": "flat"}],
	"energy": [
		{"period": "peak", "price": {"value": 0.5802, "times": 1.7, "digits": 4}},
		{"period": "valley", "price": {"value": 0.5802, "times": 0.38, "digits": 4}},
		{"period": "flat", "price": 0.5802}],
	"tier_adders": [0, 0.05, 0.30],
	"adders": [{"name": "funds", "price": 0.00866875}]
}$json$, '粤发改价格〔2021〕331号, as transcribed by a third party',
'First the price of the period, rounded to 0.0001 as the published table is, then the tier; funds are not multiplied. No sharp period for households. A public implementation does not round (peak 0.98634 instead of 0.9863).');

-- Guangdong, commerce: the sharp period has its months and its hot days.
INSERT INTO submeter.tariff_example (code, title, area, definition, source, note)
SELECT e.code, e.title, e.area, jsonb_build_object(
		'seasons', '{"hot": ["07-01", "10-01"]}'::jsonb,
		'periods', '[
			{"name": "sharp", "windows": [
				{"from": "11:00", "to": "12:00", "seasons": ["hot"]}, {"from": "15:00", "to": "17:00", "seasons": ["hot"]},
				{"from": "11:00", "to": "12:00", "flag": "hot_day"}, {"from": "15:00", "to": "17:00", "flag": "hot_day"}]},
			{"name": "peak", "windows": [{"from": "10:00", "to": "12:00"}, {"from": "14:00", "to": "19:00"}]},
			{"name": "valley", "windows": [{"from": "00:00", "to": "08:00"}]},
			{"name": "flat"}]'::jsonb) || e.prices::jsonb, e.source, e.note
FROM (VALUES
	('zhongshan_commercial_2021', 'General industry and commerce under 1 kV, peak, valley and sharp (一般工商业峰谷分时电价)',
	'Guangzhou, Zhuhai, Foshan, Zhongshan, Dongguan; 2021-10-01 to 2021-12-31', '{"energy": [
		{"period": "sharp", "price": 1.4291}, {"period": "peak", "price": 1.1433}, {"period": "valley", "price": 0.2556}, {"period": "flat", "price": 0.6725}]}',
	'粤发改价格〔2021〕331号 annex, as transcribed by a third party; https://fgw.gz.gov.cn/ztzl/gzsfzggwzdlyxxgkzl/ys/content/post_9497778.html',
	'Sharp from July to September and on days on which the forecast of the evening before says 35 C or more for Guangzhou: flag those hot_day. Without funds and surcharges.'),
	('zhongshan_commercial', 'The same by ratio, from named prices that change monthly (按浮动比例, 代理购电价格)', 'Guangzhou, Zhuhai, Foshan, Zhongshan, Dongguan; from 2021-10-01', '{"energy": [
		{"period": "sharp", "price": {"ref": "base", "times": 2.125, "digits": 4}}, {"period": "peak", "price": {"ref": "base", "times": 1.7, "digits": 4}},
		{"period": "valley", "price": {"ref": "base", "times": 0.38, "digits": 4}}, {"period": "flat", "price": {"ref": "base"}}],
		"adders": [{"name": "funds", "price": {"ref": "funds"}}]}',
	'ratios 2.125 : 1.7 : 1 : 0.38 of 粤发改价格〔2021〕331号, as transcribed by a third party',
	'Needs the named prices base (what the ratio multiplies) and funds (what it does not): see load_prices().'),
	('zhongshan_commercial_2026_10', 'Industry and commerce under 1 kV, single-part (工商业单一制)', 'Guangzhou, Zhuhai, Foshan, Zhongshan, Dongguan, Jiangmen; October 2026', '{"energy": [
		{"period": "sharp", "price": 1.67036875}, {"period": "peak", "price": 1.34176875}, {"period": "valley", "price": 0.32136875}, {"period": "flat", "price": 0.80066875}]}',
	'monthly notice, provisional, as transcribed by a third party; https://energydc.cn/policy/guangdong/2026-09/', 'Prices of one month.'),
	('heyuan_commercial_2026_07', 'Industry and commerce under 1 kV, single-part (工商业单一制)', 'Guangdong, northern hill area (Heyuan); July 2026', '{"energy": [
		{"period": "sharp", "price": 1.37346875}, {"period": "peak", "price": 1.10426875}, {"period": "valley", "price": 0.26826875}, {"period": "flat", "price": 0.66096875}]}',
	'monthly notice, as transcribed by a third party; https://www.heyuan.gov.cn/zwgk/ggqsydwxx/gd/content/post_709619.html', 'Prices of one month.')
) AS e(code, title, area, prices, source, note);

INSERT INTO submeter.tariff_example (code, title, area, definition, source, note) VALUES
('fujian_commercial_2026_07', 'Industry and commerce under 1 kV, single-part (工商业单一制)', 'Fujian; July 2026', $json${
	"seasons": {"hot": ["07-01", "10-01"]},
	"periods": [
		{"name": "sharp", "windows": [{"from": "11:00", "to": "12:00", "seasons": ["hot"]}, {"from": "17:00", "to": "18:00", "seasons": ["hot"]}]},
		{"name": "peak", "windows": [{"from": "10:00", "to": "12:00"}, {"from": "15:00", "to": "20:00"}, {"from": "21:00", "to": "22:00"}]},
		{"name": "valley", "windows": [{"from": "00:00", "to": "08:00"}]},
		{"name": "flat"}],
	"energy": [
		{"period": "sharp", "price": 0.93817215}, {"period": "peak", "price": 0.85626769},
		{"period": "valley", "price": 0.40579316}, {"period": "flat", "price": 0.64033775}]
}$json$, 'hours of 闽发改规〔2023〕8号, prices of the monthly notice, as transcribed by a third party; https://www.dehua.gov.cn/zwgk/zdxxgk/ggqsy/gd/202607/t20260715_3309391.htm',
'Prices of one month.'),
('zhejiang_ladder', 'Household ladder by year (浙江居民年阶梯电价)', 'Zhejiang, one meter one household under 1 kV', $json${
	"tiers": {"cycle": "year", "mode": "graduated", "bounds": [{"upto_kwh": [2760, 4800]}]},
	"energy": [{"tier": 1, "price": 0.538}, {"tier": 2, "price": 0.588}, {"tier": 3, "price": 0.838}]
}$json$, '浙江政务服务网, as quoted in a public repository', 'Bounds start anew on 1 January.'),
('zhejiang_ladder_tou', 'Household ladder by year with peak and valley (浙江居民年阶梯加峰谷电价)', 'Zhejiang, one meter one household under 1 kV', $json${
	"tiers": {"cycle": "year", "mode": "graduated", "bounds": [{"upto_kwh": [2760, 4800]}]},
	"periods": [
		{"name": "valley", "windows": [{"from": "22:00", "to": "08:00"}]},
		{"name": "peak"}],
	"energy": [
		{"tier": 1, "period": "peak", "price": 0.568}, {"tier": 2, "period": "peak", "price": 0.618}, {"tier": 3, "period": "peak", "price": 0.868},
		{"tier": 1, "period": "valley", "price": 0.288}, {"tier": 2, "period": "valley", "price": 0.338}, {"tier": 3, "period": "valley", "price": 0.588}]
}$json$, '浙江政务服务网, as quoted in a public repository', 'A price for each tier and period. The hours from 8 to 22 are the customary ones and not in that source.');

-- Two-part: energy and demand, adjusted by the power factor, and what neither of them touches.
INSERT INTO submeter.tariff_example (code, title, area, definition, source, note)
SELECT e.code, e.title, 'Guangdong, one city, 1 to 10 kV; before 2021', jsonb_build_object(
		'periods', '[
			{"name": "peak", "windows": [{"from": "10:00", "to": "12:00"}, {"from": "14:00", "to": "19:00"}]},
			{"name": "valley", "windows": [{"from": "00:00", "to": "08:00"}]},
			{"name": "flat"}]'::jsonb,
		'energy', '[{"period": "peak", "price": 0.775005}, {"period": "valley", "price": 0.23485}, {"period": "flat", "price": 0.4697}]'::jsonb,
		'adders', '[{"name": "funds", "price": 0.00866875}]'::jsonb,
		'power_factor', '{"standard": 0.90}'::jsonb) || e.demand::jsonb,
	'constructed: prices of a published test fixture, hours of 粤发改价格〔2021〕331号, table of 水电财字(83)第215号',
	e.note || ' The power factor adjusts demand and energy; funds stay outside.'
FROM (VALUES
	('industry_two_part_demand', 'Two-part industrial tariff by maximum demand (大工业两部制, 按最大需量)',
	'{"demand": {"per_kw": 32, "window_minutes": 15, "basis": "maximum"}}', '32 per kW of the highest quarter of an hour in the month.'),
	('industry_two_part_capacity', 'Two-part industrial tariff by capacity (大工业两部制, 按变压器容量)',
	'{"demand": {"per_kw": 23, "basis": "capacity"}}', '23 per kVA of transformer capacity and month: say it in supply.terms, {"capacity_kva": 400}.')
) AS e(code, title, demand, note);

INSERT INTO submeter.tariff_example (code, title, area, currency, definition, source, note) VALUES
('tepco_juryo_b_30a', 'Metered lighting B, 30 A (従量電灯B 30A)', 'Tokyo, TEPCO; from 2019-10-01, tax included, before fuel adjustment', 'JPY', $json${
	"tiers": {"cycle": "month", "mode": "graduated", "bounds": [{"upto_kwh": [120, 300]}]},
	"energy": [{"tier": 1, "price": 19.88}, {"tier": 2, "price": 26.48}, {"tier": 3, "price": 30.57}],
	"fees": [{"name": "basic", "per": "month", "amount": 858, "prorate": true}],
	"minimum": 231.55,
	"rounding": {"amount": "down", "digits": 0, "kwh_digits": 0}
}$json$, 'public implementation of the published tariff, not compared with it',
'Whole kWh, half up; the total down to whole yen. The basic fee goes by the ampere: 286 for 10 A, 429 for 15, 572 for 20, 858 for 30, 1,144 for 40, 1,430 for 50, 1,716 for 60.');

GRANT SELECT ON submeter.tariff_example TO submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp;
