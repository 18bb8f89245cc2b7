-- Several pollers share gateways by leases: evenly, each gateway at one of them only, and none left alone.
SET timezone = 'UTC';
SET client_min_messages = warning;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'a', 'A'), (2, 'b', 'B');
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) SELECT 1, n, 'g' || n, '127.0.0.1:' || n FROM generate_series(1, 6) n;
INSERT INTO submeter.gateway (site_id, gateway_id, code, address, dial_in, registration) VALUES (1, 10, 'd', '0.0.0.0:5020', true, 'MOD');
INSERT INTO submeter.gateway (site_id, gateway_id, code, address, enabled) VALUES (1, 11, 'off', '127.0.0.1:11', false);
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (2, 20, 'g', '127.0.0.1:20');
CREATE ROLE regress_lease_one LOGIN;
CREATE ROLE regress_lease_both LOGIN;
GRANT submeter_poller TO regress_lease_one, regress_lease_both;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_lease_one'), (1, 'regress_lease_both'), (2, 'regress_lease_both');
CREATE VIEW public.leases AS
SELECT l.poller, string_agg(l.gateway_id || CASE WHEN l.leaving THEN ' leaving' ELSE '' END, ', ' ORDER BY l.gateway_id) AS gateways
FROM submeter.gateway_lease l WHERE l.lease_until > clock_timestamp() GROUP BY l.poller;
-- Thirty seconds pass for one poller.
CREATE FUNCTION public.dies(poller text) RETURNS void LANGUAGE sql AS $$
	UPDATE submeter.gateway_lease l SET lease_until = clock_timestamp() - interval '1 s' WHERE l.poller = dies.poller;
	UPDATE submeter.poller p SET seen_at = clock_timestamp() - interval '31 s' WHERE p.poller = dies.poller;
$$;

-- The first one takes all it may reach; what dials in belongs to nobody yet; what is off never does.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT superseded, alone, lease_ms, held = md5('') AS nothing, lost_gateway_ids FROM submeter.renew_leases('p1', 'i1', '1.0', true);
SELECT gateway_id, dial_in FROM submeter.poller_gateways('p1') ORDER BY 1;
SELECT gateway_id FROM submeter.poller_gateways('p9') ORDER BY 1;
SELECT count(*), count(held_by) FROM submeter.poller_gateways();
SELECT gateway_id, held_by FROM submeter.poller_gateways('p9', true) ORDER BY 1 LIMIT 2;
SELECT held AS first FROM submeter.renew_leases('p1', 'i1') \gset
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;

-- A second one comes: half of it is given up, and changes hands only when it was let go of.
SET SESSION AUTHORIZATION regress_lease_both;
SELECT superseded, alone FROM submeter.renew_leases('p2', 'j1', '1.0', true);
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
SET SESSION AUTHORIZATION regress_lease_one;
SELECT superseded, alone, held = :'first' AS same FROM submeter.renew_leases('p1', 'i1');
SELECT gateway_id FROM submeter.poller_gateways('p1') WHERE NOT dial_in ORDER BY 1;
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
SET SESSION AUTHORIZATION regress_lease_one;
SELECT submeter.release_leases('p1', 'i1', false) AS released;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
-- Now nothing moves any more.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT alone FROM submeter.renew_leases('p1', 'i1');
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;

-- The first is killed: its gateways go to the other one after thirty seconds.
SELECT public.dies('p1');
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
-- It comes back under its name, and the run before it learns that it is over.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT superseded, alone FROM submeter.renew_leases('p1', 'i2', '1.0', true);
SELECT superseded, alone, lost_gateway_ids FROM submeter.renew_leases('p1', 'i1');
SELECT submeter.release_leases('p1', 'i1', true) AS released;
RESET SESSION AUTHORIZATION;
SELECT site_id, poller, instance FROM submeter.poller ORDER BY 1, 2;

-- A gateway of one poller only, such as a serial line of its machine.
UPDATE submeter.gateway SET poller = 'p1' WHERE gateway_id = 1;
UPDATE submeter.gateway SET poller = 'p3' WHERE gateway_id = 2;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
SELECT submeter.release_leases('p2', 'j1', false) AS released;
SET SESSION AUTHORIZATION regress_lease_one;
SELECT alone FROM submeter.renew_leases('p1', 'i2');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
UPDATE submeter.gateway SET poller = NULL;

-- A device dials in: whoever has its newest connection serves it, and the one before is told, once.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT submeter.claim_gateways('p1', '{1,1,1,2}', '{10,1,99,20}') AS claimed;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT submeter.claim_gateways('p2', '{1}', '{10}') AS claimed;
SELECT alone, lost_gateway_ids FROM submeter.renew_leases('p2', 'j1');
SET SESSION AUTHORIZATION regress_lease_one;
SELECT lost_site_ids, lost_gateway_ids FROM submeter.renew_leases('p1', 'i2');
SELECT lost_site_ids, lost_gateway_ids FROM submeter.renew_leases('p1', 'i2');
RESET SESSION AUTHORIZATION;

-- Commands and reads are for who holds the gateway, and for nobody while a poller on record does not.
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address)
SELECT 1, 100 + g.gateway_id, 'm' || g.gateway_id, 'DDS238-2 ZN/SR', g.gateway_id, '1' FROM submeter.gateway g WHERE g.site_id = 1;
SELECT m.meter_id, l.poller AS holder, submeter.may_serve(1, m.gateway_id, 'p1', clock_timestamp()) AS p1, submeter.may_serve(1, m.gateway_id, 'p2', clock_timestamp()) AS p2,
	submeter.may_serve(1, m.gateway_id, 'once', clock_timestamp()) AS once
FROM submeter.meter m LEFT JOIN submeter.gateway_lease l USING (site_id, gateway_id) WHERE m.site_id = 1 ORDER BY 1;
INSERT INTO submeter.read_request (site_id, meter_id, reason) SELECT 1, m.meter_id, 'test' FROM submeter.meter m;
SET SESSION AUTHORIZATION regress_lease_one;
SELECT meter_id FROM submeter.claim_reads('p1') ORDER BY 1;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT meter_id FROM submeter.claim_reads('p2') ORDER BY 1;
SELECT meter_id FROM submeter.claim_reads('once') ORDER BY 1;
RESET SESSION AUTHORIZATION;

-- One that stops gives back everything at once.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT submeter.release_leases('p1', 'i2', true) > 0 AS released;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
SELECT * FROM public.leases ORDER BY 1;
SELECT part, ok FROM submeter.health WHERE part LIKE 'poller%' ORDER BY 1, 2;
-- A gateway that is taken out of service is let go of, one that is deleted takes its lease along.
UPDATE submeter.gateway SET enabled = false WHERE gateway_id = 3;
SET SESSION AUTHORIZATION regress_lease_both;
SELECT alone FROM submeter.renew_leases('p2', 'j1');
RESET SESSION AUTHORIZATION;
DELETE FROM submeter.gateway WHERE gateway_id = 20;
SELECT * FROM public.leases ORDER BY 1;

-- Three share what one had, and a fourth with another site keeps what only it may reach.
SET SESSION AUTHORIZATION regress_lease_one;
DO $$
BEGIN
	FOR n IN 1..8 LOOP
		FOR p IN 1..3 LOOP
			PERFORM submeter.renew_leases('q' || p, 'i', NULL, n = 1);
			PERFORM submeter.release_leases('q' || p, 'i', false);
		END LOOP;
		SET LOCAL SESSION AUTHORIZATION regress_lease_both;
		PERFORM submeter.renew_leases('p2', 'j1');
		PERFORM submeter.release_leases('p2', 'j1', false);
		SET LOCAL SESSION AUTHORIZATION regress_lease_one;
	END LOOP;
END
$$;
RESET SESSION AUTHORIZATION;
SELECT l.poller, count(*) FROM submeter.gateway_lease l JOIN submeter.gateway g USING (site_id, gateway_id) WHERE NOT g.dial_in GROUP BY 1 ORDER BY 1;

-- Strangers.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT submeter.report_strangers(1, '[{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4d4f44320d0aff5c","times":3},{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"","times":1},
	{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4g","times":1},{"address":null,"peer":"x","said":"","times":1}]');
SELECT submeter.report_strangers(1, '[{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4d4f44320d0aff5c","times":2}]');
SELECT submeter.report_strangers(1, (SELECT jsonb_agg(jsonb_build_object('address', 'a', 'peer', 'p', 'said', lpad(to_hex(n), 4, '0'), 'times', 1)) FROM generate_series(1, 300) n));
SELECT submeter.report_strangers(2, '[]');
SELECT submeter.report_strangers(1, '{}');
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM submeter.gateway_stranger;
DELETE FROM submeter.gateway_stranger;
SET SESSION AUTHORIZATION regress_lease_one;
SELECT submeter.report_strangers(1, '[{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4d4f44320d0aff5c","times":3},{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"","times":1}]');
SELECT submeter.report_strangers(1, '[{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4d4f44320d0aff5c","times":2}]');
RESET SESSION AUTHORIZATION;
SELECT address, peer, first_bytes, first_text, times FROM submeter.gateway_stranger ORDER BY first_bytes;

-- Bad calls.
SET SESSION AUTHORIZATION regress_lease_one;
SELECT * FROM submeter.renew_leases('', 'x');
SELECT * FROM submeter.renew_leases('p', NULL);
SELECT submeter.claim_gateways(NULL, '{}', '{}');
SELECT submeter.claim_gateways('p1', NULL, NULL) AS claimed;
RESET SESSION AUTHORIZATION;
SET ROLE submeter_cashier;
SELECT * FROM submeter.renew_leases('p', 'x');
SELECT count(*) FROM submeter.gateway_lease;
RESET ROLE;
DROP VIEW public.leases;
DROP FUNCTION public.dies(text);
DROP ROLE regress_lease_one, regress_lease_both;
