-- Requests for the courier: a site, a hook that goes to the sink, people with accounts. psql variable: url.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'S', 'bench');
INSERT INTO submeter.credit_policy (site_id, code, mode, low_balances) VALUES (1, 'a', 'automatic', '{}');
UPDATE submeter.site SET default_policy_id = (SELECT policy_id FROM submeter.credit_policy WHERE code = 'a');
CREATE ROLE carrier LOGIN;
GRANT submeter_courier TO carrier;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'carrier');
SELECT submeter.set_channel(1, 'hook', 'webhook', jsonb_build_object('url', :'url'));
SELECT submeter.set_secret(1, 'channel/hook/key', 'key');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 'T' || n, 'tenant ' || n FROM generate_series(1, 6000) n;
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, channels) SELECT 1, n, n, 'person ' || n, '{hook}' FROM generate_series(1, 6000) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, n, 'A' || n FROM generate_series(1, 6000) n;
ANALYZE;
