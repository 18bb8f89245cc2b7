-- Room: cryptography of the payment providers. What it takes to believe their messages and to sign ours.
-- These functions keep no state and know no merchant; keys are arguments.

CREATE FUNCTION submeter.rsa_sha256_verify(message bytea, signature bytea, public_key_or_cert_pem text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_rsa_sha256_verify';
COMMENT ON FUNCTION submeter.rsa_sha256_verify(bytea, bytea, text) IS
'True when the signature (RSASSA-PKCS1-v1_5, SHA-256) is that of the key over exactly these bytes; false for any other bytes. The key is an RSA public key or certificate in PEM, of several the first, or bare base64. 22023 when it is none.';

CREATE FUNCTION submeter.rsa_sha256_sign(message bytea, private_key_pem text) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_rsa_sha256_sign';
COMMENT ON FUNCTION submeter.rsa_sha256_sign(bytea, text) IS
'Signature (RSASSA-PKCS1-v1_5, SHA-256) of a private key in PEM (PKCS #8 or PKCS #1, no pass phrase) or bare base64. 22023 when it is none.';

CREATE FUNCTION submeter.aes_gcm_decrypt(key bytea, nonce bytea, aad bytea, ciphertext_and_tag bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_aes_gcm_decrypt';
COMMENT ON FUNCTION submeter.aes_gcm_decrypt(bytea, bytea, bytea, bytea) IS
'Opens AES-GCM with a key of 16 or 32 bytes; the tag of 16 bytes is at the end of the ciphertext. 22023 for lengths AES-GCM does not have and for anything not sealed with exactly this key, nonce and additional data.';

CREATE FUNCTION submeter.alipay_notify_verify(body bytea, public_key_or_cert_pem text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_alipay_notify_verify';
COMMENT ON FUNCTION submeter.alipay_notify_verify(bytea, text) IS
'True when Alipay signed this notification: the form as it came, values decoded once, all fields but sign and sign_type in the order of their names. False for what is no form, a field that comes twice or a signature that is not RSA2; 22023 for a key that is none.';

CREATE FUNCTION submeter.alipay_response_verify(body bytea, node text, public_key_or_cert_pem text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_alipay_response_verify';
COMMENT ON FUNCTION submeter.alipay_response_verify(bytea, text, text) IS
'True when Alipay signed the node (such as alipay_trade_query_response) of this response: its value''s bytes as they stand in the body. False for a body that could be read otherwise, such as one with the node twice, and without a signature; 22023 for a key that is none.';

CREATE FUNCTION submeter.alipay_cert_sn(cert_pem text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_alipay_cert_sn';
COMMENT ON FUNCTION submeter.alipay_cert_sn(text) IS
'Alipay''s number of a certificate (app_cert_sn, alipay_cert_sn), of several the first: MD5 of its issuer and serial number. 22023 when it is none.';

CREATE FUNCTION submeter.alipay_root_cert_sn(bundle_pem text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_alipay_root_cert_sn';
COMMENT ON FUNCTION submeter.alipay_root_cert_sn(text) IS
'Alipay''s number of a bundle of root certificates (alipay_root_cert_sn): the numbers of those signed with RSA, joined by "_"; the others do not count. 22023 when there is none, or something else in it.';

CREATE FUNCTION submeter.trusted_cert(cert_pem text, roots_pem text, as_of timestamptz) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_trusted_cert';
COMMENT ON FUNCTION submeter.trusted_cert(text, text, timestamptz) IS
'The first certificate of a text, alone, when it chains to one of the roots at a time; certificates behind it may stand between. Roots and key are RSA, signatures better than SHA-1. 22023, with the reason, when it does not.';

CREATE FUNCTION submeter.cert_facts(cert_pem text, OUT valid_until timestamptz, OUT common_name text)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_cert_facts';
COMMENT ON FUNCTION submeter.cert_facts(text) IS
'Until when the first certificate of a text is valid and whom it is for; NULL for a text that holds none. Believes what it says: see trusted_cert().';

CREATE FUNCTION submeter.form_fields(body bytea) RETURNS bytea[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_form_fields';
COMMENT ON FUNCTION submeter.form_fields(bytea) IS
'Names and values of a form in turn, decoded once, by name; in the character set they came in. NULL when it is no form or has a name twice.';

CREATE FUNCTION submeter.wechat_signed(sent_at text, nonce text, signature text, type text, body bytea, public_key_or_cert_pem text, now_s bigint)
RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_wechat_signed';
COMMENT ON FUNCTION submeter.wechat_signed(text, text, text, text, bytea, text, bigint) IS
'wechat_verify() with the values of the headers and the key the message names.';

CREATE FUNCTION submeter.is_public_key(pem text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_is_public_key';
COMMENT ON FUNCTION submeter.is_public_key(text) IS 'True for a text that holds an RSA public key or a certificate with one.';

CREATE FUNCTION submeter.url_encode(value text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_url_encode';
COMMENT ON FUNCTION submeter.url_encode(text) IS 'A value as it stands in an address or a form (RFC 3986): everything but letters, digits and - . _ ~ is encoded.';

CREATE FUNCTION submeter.sha1_hex(bytes bytea) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_sha1_hex';
COMMENT ON FUNCTION submeter.sha1_hex(bytea) IS
'SHA-1 in 40 hexadecimal digits, lower case: what WeChat Pay says of its bill files. It shows that a download went wrong, not that nobody has changed it on purpose.';

CREATE FUNCTION submeter.header_value(headers jsonb, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- A header that comes twice has no value, and neither has a list.
	RETURN (SELECT CASE WHEN count(*) = 1 THEN min(h.value #>> '{}') END
		FROM jsonb_each(CASE WHEN jsonb_typeof(header_value.headers) = 'object' THEN header_value.headers ELSE '{}' END) h
		WHERE lower(h.key) = lower(header_value.name) AND jsonb_typeof(h.value) IN ('string', 'number'));
END
$$;
COMMENT ON FUNCTION submeter.header_value(jsonb, text) IS
'Value of an HTTP header, whatever the case of its name; NULL when it is missing or comes twice.';

CREATE FUNCTION submeter.has_header(headers jsonb, name text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM jsonb_object_keys(CASE WHEN jsonb_typeof(has_header.headers) = 'object' THEN has_header.headers ELSE '{}' END) h(key)
		WHERE lower(h.key) = lower(has_header.name))
$$;
COMMENT ON FUNCTION submeter.has_header(jsonb, text) IS 'True when an HTTP header came, whatever its value.';

CREATE FUNCTION submeter.wechat_verify(headers jsonb, body bytea, keys jsonb, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	serial text := submeter.header_value(wechat_verify.headers, 'Wechatpay-Serial');
	type text := submeter.header_value(wechat_verify.headers, 'Wechatpay-Signature-Type');
BEGIN
	IF jsonb_typeof(wechat_verify.keys) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the keys of WeChat Pay are no object',
			DETAIL = 'Expected is an object from serial numbers and ids to keys in PEM.',
			HINT = 'For instance {"PUB_KEY_ID_01…": "-----BEGIN PUBLIC KEY-----…"}.';
	END IF;
	IF NOT isfinite(wechat_verify.as_of) OR type IS NULL AND submeter.has_header(wechat_verify.headers, 'Wechatpay-Signature-Type') THEN
		RETURN false;
	END IF;
	RETURN coalesce(submeter.wechat_signed(
		submeter.header_value(wechat_verify.headers, 'Wechatpay-Timestamp'), submeter.header_value(wechat_verify.headers, 'Wechatpay-Nonce'),
		submeter.header_value(wechat_verify.headers, 'Wechatpay-Signature'), coalesce(type, 'WECHATPAY2-SHA256-RSA2048'), wechat_verify.body,
		wechat_verify.keys ->> serial, floor(extract(epoch FROM wechat_verify.as_of))::bigint), false);
END
$$;
COMMENT ON FUNCTION submeter.wechat_verify(jsonb, bytea, jsonb, timestamptz) IS
'True when WeChat Pay signed this response or notification: its headers name one of the keys (serial or id to PEM), and the time is less than 300 s from as_of. False for missing headers, another kind of signature, an unknown key and WeChat''s own probes; 22023 for a key that is none.';

CREATE FUNCTION submeter.wechat_unwrap(resource jsonb, api_v3_key text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ciphertext text := wechat_unwrap.resource ->> 'ciphertext';
	nonce bytea := convert_to(wechat_unwrap.resource ->> 'nonce', 'UTF8');
	fault text;
BEGIN
	fault := CASE
		WHEN octet_length(convert_to(coalesce(wechat_unwrap.api_v3_key, ''), 'UTF8')) <> 32 THEN 'The APIv3 key is a text of 32 bytes.'
		WHEN coalesce(jsonb_typeof(wechat_unwrap.resource), '') <> 'object' THEN 'There is no resource in it.'
		WHEN coalesce(wechat_unwrap.resource ->> 'algorithm', '') <> 'AEAD_AES_256_GCM' THEN 'Its algorithm is not AEAD_AES_256_GCM.'
		WHEN coalesce(octet_length(nonce), 0) <> 12 THEN 'Its nonce is not 12 bytes long.'
		WHEN coalesce(ciphertext, '') !~ '^[A-Za-z0-9+/]+={0,2}$' OR length(ciphertext) % 4 <> 0 OR length(ciphertext) < 24
			THEN 'Its ciphertext is no base64.' END;
	IF fault IS NULL THEN
		BEGIN
			RETURN submeter.aes_gcm_decrypt(convert_to(wechat_unwrap.api_v3_key, 'UTF8'), nonce,
				convert_to(coalesce(wechat_unwrap.resource ->> 'associated_data', ''), 'UTF8'), decode(ciphertext, 'base64'));
		EXCEPTION WHEN invalid_parameter_value THEN
			fault := 'It was not made with this APIv3 key, or a byte was changed on the way.';
		END;
	END IF;
	RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the message of WeChat Pay cannot be opened', DETAIL = fault,
		HINT = 'Look whether the APIv3 key of the merchant is the one in force.';
END
$$;
COMMENT ON FUNCTION submeter.wechat_unwrap(jsonb, text) IS
'Opens one encrypted resource of WeChat Pay (algorithm, nonce, associated_data, ciphertext). 22023 when it cannot be opened.';

CREATE FUNCTION submeter.wechat_open(body bytea, api_v3_key text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fault text := 'It is not a JSON text.';
	message jsonb;
	plain bytea;
BEGIN
	BEGIN
		message := convert_from(wechat_open.body, 'UTF8')::jsonb;
		fault := NULL;
	EXCEPTION WHEN data_exception OR statement_too_complex THEN NULL;
	END;
	IF fault IS NULL THEN
		plain := submeter.wechat_unwrap(message -> 'resource', wechat_open.api_v3_key);
		BEGIN
			RETURN convert_from(plain, 'UTF8')::jsonb;
		EXCEPTION WHEN data_exception OR statement_too_complex THEN
			fault := 'What is sealed in it is not a JSON text.';
		END;
	END IF;
	RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the message of WeChat Pay cannot be opened', DETAIL = fault,
		HINT = 'Pass the body exactly as it came.';
END
$$;
COMMENT ON FUNCTION submeter.wechat_open(bytea, text) IS
'The decrypted resource of a notification of WeChat Pay. Verify the notification first: opening proves nothing about who sent it. 22023 when it cannot be opened.';
