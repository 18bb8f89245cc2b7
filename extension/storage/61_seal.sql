-- Seals: what binds the ledger, and who outside is told.

CREATE TABLE submeter.ledger_seal (
	site_id int NOT NULL REFERENCES submeter.site,
	seal_no bigint NOT NULL CHECK (seal_no > 0),
	after_id bigint NOT NULL,
	last_id bigint NOT NULL,
	legs int NOT NULL CHECK (legs > 0),
	amount numeric(18, 2) NOT NULL CHECK (amount <> 'NaN'),
	transfer_ids bigint[] NOT NULL,
	leg_nos smallint[] NOT NULL,
	digests bytea[] NOT NULL,
	previous bytea NOT NULL,
	hash bytea NOT NULL,
	sealed_at timestamptz NOT NULL,
	PRIMARY KEY (site_id, seal_no),
	CHECK (last_id > after_id)
);
SELECT submeter.describe('ledger_seal', 'Blocks of movements in a chain of SHA-256 hashes (封账): who edits a movement, or a seal, breaks every seal after it. How a hash is made says seal_hash().', '{
	"seal_no":"number in the chain of the site, from 1","after_id":"movements with higher numbers …","last_id":"… up to this one are in the block","legs":"how many rows of transfer it has",
	"amount":"sum of their amounts","transfer_ids":"number of the movement of each row","leg_nos":"its leg","digests":"SHA-256 of each row: names the one that was changed",
	"previous":"hash of the seal before","hash":"hash of this one","sealed_at":"when"}');
SELECT submeter.append_only('ledger_seal', 'Seals are kept as they were made; restore the ledger from a backup.');

CREATE TABLE submeter.head_recipient (
	site_id int NOT NULL REFERENCES submeter.site,
	email text NOT NULL CHECK (email ~ '^[!-~]+@[!-~]+$'),
	name text NOT NULL CHECK (name <> '' AND name !~ '[[:cntrl:]]'),
	PRIMARY KEY (site_id, email)
);
SELECT submeter.describe('head_recipient', 'Who keeps the head of the ledger outside this database: one message a day, with which check_head() finds out whether the chain was rewritten since.', '{
	"email":"address of the message","name":"name of the person or office"}');
SELECT submeter.audited('head_recipient');

CREATE TABLE submeter.head_export (
	site_id int NOT NULL REFERENCES submeter.site,
	day date NOT NULL,
	email text NOT NULL,
	seal_no bigint NOT NULL,
	hash bytea NOT NULL,
	exported_at timestamptz NOT NULL,
	PRIMARY KEY (site_id, day, email)
);
SELECT submeter.describe('head_export', 'Heads of the ledger that were handed to the notice channel: the proof is the message, not this row.', '{
	"day":"local day","email":"to whom","seal_no":"last seal then","hash":"its hash","exported_at":"when the channel took it"}');

SELECT submeter.protect('ledger_seal', '{submeter_admin,submeter_auditor}');
SELECT submeter.protect('head_recipient', '{submeter_admin,submeter_auditor}', '{submeter_admin}');
SELECT submeter.protect('head_export', '{submeter_admin,submeter_auditor}');
