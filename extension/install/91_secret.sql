-- Room: secrets. Provider keys, passwords of channels and meters: sealed at rest, opened only inside the functions that
-- use them. Whatever opens one is volatile and not a definer function, so that nobody but submeter_owner may call it.

CREATE FUNCTION submeter.secret_seal(plain bytea, aad text) RETURNS bytea
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'submeter_secret_seal';
COMMENT ON FUNCTION submeter.secret_seal(bytea, text) IS
'Seals a value with the server''s current key (AES-256-GCM, a nonce of its own); aad says where it belongs, and it opens nowhere else. For functions of submeter only. 55000 without a key.';

CREATE FUNCTION submeter.secret_unseal(sealed bytea, aad text) RETURNS bytea
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'submeter_secret_unseal';
COMMENT ON FUNCTION submeter.secret_unseal(bytea, text) IS
'Opens what secret_seal() sealed under the same aad. For functions of submeter only. 55000 without its key, XX001 when it was changed or moved, 22023 when it is nothing sealed.';

CREATE FUNCTION submeter.secret_key_id() RETURNS bytea
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'submeter_secret_key_id';
COMMENT ON FUNCTION submeter.secret_key_id() IS 'Name of the key that seals now; bytes 2 to 9 of a sealed value are the name of its key.';

CREATE FUNCTION submeter.hide_statement() RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'submeter_hide_statement';
COMMENT ON FUNCTION submeter.hide_statement() IS 'Takes the text of the running statement out of pg_stat_activity: it holds a secret.';

CREATE FUNCTION submeter.secret_aad(site_id int, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN 'secret:' || secret_aad.site_id::text || ':' || secret_aad.name;
END
$$;
COMMENT ON FUNCTION submeter.secret_aad(int, text) IS 'What a secret is tied to.';

-- Where a secret goes into a statement the plan is a generic one: in another it would be a constant, and plans can be logged.
CREATE FUNCTION submeter.put_secret(site_id int, name text, value bytea) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
	IF put_secret.name IS NULL OR put_secret.name !~ '^[a-z0-9][a-z0-9_.:/-]{0,99}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the name of a secret is missing or not usable',
			DETAIL = 'Names have up to 100 small letters, digits and _ . : / -.', HINT = 'For instance merchant/3/private_key.';
	END IF;
	IF put_secret.value IS NULL THEN
		DELETE FROM submeter.secret s WHERE s.site_id = put_secret.site_id AND s.name = put_secret.name;
		RETURN;
	END IF;
	INSERT INTO submeter.secret AS s (site_id, name, sealed, set_by)
	VALUES (put_secret.site_id, put_secret.name,
		submeter.secret_seal(put_secret.value, submeter.secret_aad(put_secret.site_id, put_secret.name)), (submeter.me()).login)
	ON CONFLICT ON CONSTRAINT secret_pkey DO UPDATE
	SET sealed = EXCLUDED.sealed, set_at = EXCLUDED.set_at, set_by = EXCLUDED.set_by;
END
$$;
COMMENT ON FUNCTION submeter.put_secret(int, text, bytea) IS 'set_secret() without asking who calls. NULL removes it.';

CREATE FUNCTION submeter.set_secret(site_id int, name text, value bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- First of all: who is refused has written it, too.
	PERFORM submeter.hide_statement();
	PERFORM submeter.authorize('set_secret', set_secret.site_id);
	PERFORM submeter.put_secret(set_secret.site_id, set_secret.name, set_secret.value);
END
$$;
COMMENT ON FUNCTION submeter.set_secret(int, text, bytea) IS
'Stores a key or password of the site, sealed; NULL removes it. It can be used by functions of submeter and read by nobody. Pass the value as a parameter of the statement rather than in its text. 22023 bad name, 55000 when the server has no key.';

CREATE FUNCTION submeter.set_secret(site_id int, name text, value text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- First of all: who is refused has written it, too.
	PERFORM submeter.hide_statement();
	PERFORM submeter.authorize('set_secret', set_secret.site_id);
	PERFORM submeter.put_secret(set_secret.site_id, set_secret.name, convert_to(set_secret.value, 'UTF8'));
END
$$;
COMMENT ON FUNCTION submeter.set_secret(int, text, text) IS 'set_secret() of a text, such as a key in PEM or a password.';

CREATE FUNCTION submeter.secret_value(site_id int, name text) RETURNS bytea
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sealed bytea := (SELECT s.sealed FROM submeter.secret s WHERE s.site_id = secret_value.site_id AND s.name = secret_value.name);
BEGIN
	IF sealed IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('site %s has no secret "%s"', secret_value.site_id, secret_value.name),
			HINT = 'An administrator sets it with submeter.set_secret().';
	END IF;
	RETURN submeter.secret_unseal(sealed, submeter.secret_aad(secret_value.site_id, secret_value.name));
END
$$;
COMMENT ON FUNCTION submeter.secret_value(int, text) IS 'The secret in clear, for functions of submeter only. 55000 when it is not set.';

CREATE FUNCTION submeter.secret_text(site_id int, name text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN convert_from(submeter.secret_value(secret_text.site_id, secret_text.name), 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
	-- The message of the server shows the bytes it stumbled over.
	RAISE EXCEPTION USING ERRCODE = '22021', MESSAGE = format('secret "%s" of site %s is no text', secret_text.name, secret_text.site_id),
		HINT = 'Set it as a text, such as a key in PEM or a password.';
END
$$;
COMMENT ON FUNCTION submeter.secret_text(int, text) IS 'secret_value() of a text. 22021 when it is none.';

CREATE FUNCTION submeter.rotate_secrets(site_id int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rotated bigint;
BEGIN
	PERFORM submeter.authorize('rotate_secrets', rotate_secrets.site_id);
	UPDATE submeter.secret s
	SET sealed = submeter.secret_seal(submeter.secret_unseal(s.sealed, submeter.secret_aad(s.site_id, s.name)), submeter.secret_aad(s.site_id, s.name))
	WHERE s.site_id = rotate_secrets.site_id AND substr(s.sealed, 2, 8) <> submeter.secret_key_id();
	GET DIAGNOSTICS rotated = ROW_COUNT;
	RETURN rotated;
END
$$;
COMMENT ON FUNCTION submeter.rotate_secrets(int) IS
'Seals all secrets of the site with the server''s current key that were sealed with an earlier one; returns how many. When no site has any left the earlier key can go. 55000 when the earlier key is missing.';
