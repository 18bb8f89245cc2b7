-- A site with :meters meters, each feeding an account of its own on a tariff with three tiers.
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (:site, 'bench' || :site, 'Bench', 'Asia/Shanghai');
SELECT submeter.create_tariff(:site, 'ladder',
	'{"tiers":{"bounds":[{"upto_kwh":[200,400]}]},"energy":[{"tier":1,"price":0.589},{"tier":2,"price":0.639},{"price":0.889}]}', '2020-01-01')
AS tariff \gset
INSERT INTO submeter.gateway (site_id, code, address) VALUES (:site, 'g', '127.0.0.1:1') RETURNING gateway_id AS gateway \gset
INSERT INTO submeter.tenant (site_id, code, name) SELECT :site, n, n FROM generate_series(1, :meters) n;
INSERT INTO submeter.account (site_id, tenant_id, code) SELECT site_id, tenant_id, code FROM submeter.tenant WHERE site_id = :site;
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
	SELECT :site, n, 'DDS238-2 ZN/SR', :gateway, n FROM generate_series(1, :meters) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a)
	SELECT site_id, meter_id, '2020-01-01', 60 FROM submeter.meter WHERE site_id = :site;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
	SELECT m.site_id, a.account_id, m.meter_id, :tariff, tstzrange('2020-01-01', NULL)
	FROM submeter.meter m JOIN submeter.account a USING (site_id, code) WHERE site_id = :site;
ANALYZE;
