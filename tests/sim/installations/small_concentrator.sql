-- A small concentrator: the gateway of small_concentrator.conf. Elsewhere: psql -v address=10.0.0.7:4001
\if :{?site} \else \set site 1 \endif
\if :{?address} \else \set address 127.0.0.1:15102 \endif
INSERT INTO submeter.gateway (site_id, code, name, transport, address, timeout_ms, poll_interval)
VALUES (:site, 'HALL', 'small concentrator in the hall', 'dlt645-over-tcp', :'address', 1500, interval '5 min');
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT :site, format('H%s', n),
	CASE WHEN n <= 24 THEN 'DLT645-2007 single-phase relay' ELSE 'DLT645-2007 three-phase relay' END,
	gateway.gateway_id, (220100000000 + n)::text
FROM generate_series(1, 32) AS n
JOIN submeter.gateway ON gateway.site_id = :site AND gateway.code = 'HALL';
