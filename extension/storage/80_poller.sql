-- Room: poller. Which pollers there are, which gateways each of them serves, and who dialled in without being known.

CREATE TABLE submeter.poller (
	site_id int NOT NULL REFERENCES submeter.site,
	poller text NOT NULL CHECK (poller <> ''),
	instance text NOT NULL CHECK (instance <> ''),
	version text,
	since timestamptz NOT NULL,
	seen_at timestamptz NOT NULL,
	PRIMARY KEY (site_id, poller)
) WITH (fillfactor = 60);
SELECT submeter.describe('poller', 'The pollers that work at a site, one row each. One that stops takes its row away; one that was killed leaves it for a day.', '{
	"poller":"its name","instance":"which run of it; the newest run has the name","version":"its version","since":"when this run began","seen_at":"when it was last heard of; alive for 30 s after that"}');

CREATE TABLE submeter.gateway_lease (
	site_id int NOT NULL,
	gateway_id bigint NOT NULL,
	poller text NOT NULL,
	lease_until timestamptz NOT NULL,
	since timestamptz NOT NULL,
	leaving boolean NOT NULL DEFAULT false,
	taken_from text,
	PRIMARY KEY (site_id, gateway_id),
	FOREIGN KEY (site_id, gateway_id) REFERENCES submeter.gateway ON DELETE CASCADE
) WITH (fillfactor = 60);
CREATE INDEX gateway_lease_poller ON submeter.gateway_lease (poller);
SELECT submeter.describe('gateway_lease', 'Which poller serves a gateway, so that never two ask the same bus. Written by renew_leases(), claim_gateways() and release_leases() only.', '{
	"poller":"who serves it","lease_until":"until when, unless renewed","since":"since when","leaving":"it is to go to another poller as soon as this one has let go of it",
	"taken_from":"poller whose device dialled in here instead; it is told with its next renewal"}');

CREATE TABLE submeter.gateway_stranger (
	site_id int NOT NULL REFERENCES submeter.site,
	address text NOT NULL,
	peer text NOT NULL,
	first_bytes text NOT NULL,
	first_text text NOT NULL,
	times bigint NOT NULL,
	first_seen_at timestamptz NOT NULL,
	seen_at timestamptz NOT NULL,
	PRIMARY KEY (site_id, address, peer, first_bytes)
);
SELECT submeter.describe('gateway_stranger', 'Devices that dialled in and are no gateway of the plan: what to write into gateway.registration to let one in. The latest 200 of a site.', '{
	"address":"where it dialled in","peer":"where it comes from","first_bytes":"what it said first, as \\x and hex digits: can be copied into gateway.registration; empty: nothing",
	"first_text":"the same as text, dots for what is none","times":"how often it came","first_seen_at":"when first","seen_at":"when last"}');

SELECT submeter.protect(r, '{submeter_admin,submeter_operator,submeter_field,submeter_auditor}') FROM unnest('{poller,gateway_lease,gateway_stranger}'::text[]) r;
