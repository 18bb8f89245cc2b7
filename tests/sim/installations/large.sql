-- A large installation: the gateways of large.conf. The concentrators' door: psql -v door=0.0.0.0:5101;
-- the lines' host and first port: -v host=10.0.0.8 -v port=4001
\if :{?site} \else \set site 1 \endif
\if :{?door} \else \set door 127.0.0.1:15101 \endif
\if :{?host} \else \set host 127.0.0.1 \endif
\if :{?port} \else \set port 15111 \endif
INSERT INTO submeter.gateway (site_id, code, name, transport, address, dial_in, registration, timeout_ms, poll_interval)
SELECT :site, format('TOWER%s', n), format('concentrator of tower %s', n), 'q376-transparent', :'door', true,
	format('4401-%s', n), 5000, interval '15 min'
FROM generate_series(1, 2) AS n;
INSERT INTO submeter.gateway (site_id, code, name, transport, address, timeout_ms, poll_interval)
SELECT :site, format('HALL%s', n), format('line of hall %s', n), 'rtu-over-tcp', format('%s:%s', :'host', :port + n - 1), 1000, interval '1 min'
FROM generate_series(1, 4) AS n;
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT :site, format('T%s-%s', tower, n), 'DLT645-2007 single-phase relay', gateway.gateway_id,
	'23' || lpad(tower::text, 2, '0') || lpad(n::text, 8, '0')
FROM generate_series(1, 2) AS tower
CROSS JOIN generate_series(1, 120) AS n
JOIN submeter.gateway ON gateway.site_id = :site AND gateway.code = format('TOWER%s', tower);
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT :site, format('L%s-%s', hall, n), CASE WHEN n <= 24 THEN 'DTSY1352' ELSE 'LX47LE-125' END, gateway.gateway_id, n::text
FROM generate_series(1, 4) AS hall
CROSS JOIN generate_series(1, 32) AS n
JOIN submeter.gateway ON gateway.site_id = :site AND gateway.code = format('HALL%s', hall);
