-- Secrets of a site, sealed with a key that is not in the database.

CREATE TABLE submeter.secret (
	site_id int NOT NULL REFERENCES submeter.site,
	name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_.:/-]{0,99}$'),
	sealed bytea NOT NULL,
	set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	set_by name NOT NULL,
	PRIMARY KEY (site_id, name)
);
SELECT submeter.describe('secret', 'Keys and passwords of a site (密钥), sealed with a key of the server: a dump or a backup shows none of them.', '{
	"name":"what it is for, such as merchant/3/private_key","sealed":"version, name of the key, nonce, ciphertext and tag; opened inside functions only","set_at":"when","set_by":"who set it"}');
-- People see that a secret is there and who set it, not even its ciphertext.
ALTER TABLE submeter.secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_site ON submeter.secret FOR SELECT TO submeter_admin, submeter_auditor USING (site_id = ANY (submeter.my_sites()));
GRANT SELECT (site_id, name, set_at, set_by) ON submeter.secret TO submeter_admin, submeter_auditor;
