-- Room: module. What the loaded library says about itself and about the server it runs in.

CREATE FUNCTION submeter.version() RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_version';
COMMENT ON FUNCTION submeter.version() IS
'Version of the loaded library. Differs from pg_extension.extversion between "make install" and ALTER EXTENSION submeter UPDATE.';

CREATE FUNCTION submeter.system_identifier() RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_system_identifier';
COMMENT ON FUNCTION submeter.system_identifier() IS
'Identifier of the server''s data directory, made by initdb: the same on a standby, another one on a server that restored a dump. Text, because it is an unsigned 64 bit number.';

REVOKE ALL ON FUNCTION submeter.version(), submeter.system_identifier() FROM PUBLIC;
