-- Scattered meters: the gateways of scattered.conf. Another door: psql -v door=0.0.0.0:5100
\if :{?site} \else \set site 1 \endif
\if :{?door} \else \set door 127.0.0.1:15100 \endif
INSERT INTO submeter.gateway (site_id, code, name, transport, address, dial_in, registration, heartbeat, timeout_ms, poll_interval)
SELECT :site, format('4G%s', n), format('module of shop %s', n), 'dlt645-over-tcp', :'door', true,
	'4G' || lpad(n::text, 8, '0'), 'HB', 3000, interval '15 s'
FROM generate_series(1, 12) AS n;
INSERT INTO submeter.gateway (site_id, code, name, transport, address, dial_in, registration, heartbeat, timeout_ms, poll_interval)
SELECT :site, format('DTU%s', n), format('module of kiosk %s', n), 'rtu-over-tcp', :'door', true,
	'DTU' || lpad(n::text, 3, '0'), '\xfe', 3000, interval '15 s'
FROM generate_series(1, 2) AS n;
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT :site, format('S%s', n), 'DLT645-2007 single-phase relay', gateway.gateway_id, '2101' || lpad(n::text, 8, '0')
FROM generate_series(1, 12) AS n
JOIN submeter.gateway ON gateway.site_id = :site AND gateway.code = format('4G%s', n);
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT :site, format('K%s', n), 'DDS238-2 ZN/SR', gateway.gateway_id, '1'
FROM generate_series(1, 2) AS n
JOIN submeter.gateway ON gateway.site_id = :site AND gateway.code = format('DTU%s', n);
