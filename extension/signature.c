/*
 * signature.c - cryptography for SQL
 *
 * The functions check lengths, call the pure files and say one clear thing when a key is none. No
 * message of theirs shows a key or a text. Parsed public keys are kept per backend, because parsing
 * one costs several times what a verification does; private keys are not kept.
 */
#include "module.h"

#include <ctype.h>

#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "catalog/pg_type.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "alipay.h"
#include "crypto.h"
#include "wechat.h"

#define KEPT_KEYS 64
#define ROOT_SN_SIZE 2048

/* A public key that was used before. */
typedef struct KeptKey
{
	uint64 hash;
	char *text;
	size_t length;
	EVP_PKEY_CTX *verifier;
	uint64 used;
} KeptKey;

static KeptKey kept_keys[KEPT_KEYS];
static uint64 kept_clock = 0;

static SmBytes
bytes_of(const void *varlena)
{
	SmBytes bytes = {VARDATA_ANY(varlena), VARSIZE_ANY_EXHDR(varlena)};

	return bytes;
}

static const uint8_t *
octets(SmBytes bytes)
{
	return (const uint8_t *) bytes.at;
}

/*
 * Puts a key in the place of the one that was not used for the longest time.
 */
static KeptKey *
key_keep(SmBytes text, uint64 hash, EVP_PKEY_CTX *verifier)
{
	KeptKey *oldest = &kept_keys[0];
	char *copy = MemoryContextAllocExtended(TopMemoryContext, text.length, MCXT_ALLOC_NO_OOM);

	if (copy == NULL)
	{
		EVP_PKEY_CTX_free(verifier);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	for (int i = 1; i < KEPT_KEYS; i++)
		if (kept_keys[i].used < oldest->used)
			oldest = &kept_keys[i];
	EVP_PKEY_CTX_free(oldest->verifier);
	if (oldest->text != NULL)
		pfree(oldest->text);
	memcpy(copy, text.at, text.length);
	oldest->hash = hash;
	oldest->text = copy;
	oldest->length = text.length;
	oldest->verifier = verifier;
	return oldest;
}

/*
 * The verifier of a key or certificate; 22023 when the text is neither.
 */
static EVP_PKEY_CTX *
key_verifier(SmBytes text)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) text.at, (int) text.length, 0);
	KeptKey *kept = NULL;
	EVP_PKEY_CTX *verifier = NULL;
	EVP_PKEY *key;

	for (int i = 0; i < KEPT_KEYS && kept == NULL; i++)
		if (kept_keys[i].hash == hash && kept_keys[i].length == text.length &&
			kept_keys[i].text != NULL && memcmp(kept_keys[i].text, text.at, text.length) == 0)
			kept = &kept_keys[i];
	if (kept == NULL)
	{
		key = crypto_public_key(text.at, text.length);
		if (key != NULL)
			verifier = crypto_verifier(key);
		/* The verifier holds the key. */
		EVP_PKEY_free(key);
		if (verifier == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the text is not a public key"),
					 errdetail("Expected is an RSA public key or certificate of 1024 bits or "
							   "more, in PEM."),
					 errhint("Paste the key as the provider hands it out, with its BEGIN and "
							 "END lines.")));
		kept = key_keep(text, hash, verifier);
	}
	kept->used = ++kept_clock;
	return kept->verifier;
}

/*
 * True when base64 is the key's signature over a message.
 */
static bool
signed_by(SmBytes key, const char *message, size_t length, SmBytes base64)
{
	EVP_PKEY_CTX *verifier = key_verifier(key);
	uint8_t signature[CRYPTO_RSA_BYTES];
	int size = crypto_base64(base64.at, base64.length, signature, sizeof(signature));

	return size > 0 &&
		   crypto_verify(verifier, (const uint8_t *) message, length, signature, (size_t) size);
}

SM_FUNCTION(submeter_rsa_sha256_verify);

/*
 * submeter.rsa_sha256_verify(message, signature, public_key_or_cert_pem)
 */
Datum
submeter_rsa_sha256_verify(PG_FUNCTION_ARGS)
{
	SmBytes message = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmBytes signature = bytes_of(PG_GETARG_BYTEA_PP(1));
	EVP_PKEY_CTX *verifier = key_verifier(bytes_of(PG_GETARG_TEXT_PP(2)));

	PG_RETURN_BOOL(crypto_verify(verifier, octets(message), message.length, octets(signature),
								 signature.length));
}

SM_FUNCTION(submeter_rsa_sha256_sign);

/*
 * submeter.rsa_sha256_sign(message, private_key_pem)
 */
Datum
submeter_rsa_sha256_sign(PG_FUNCTION_ARGS)
{
	SmBytes message = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmBytes pem = bytes_of(PG_GETARG_TEXT_PP(1));
	EVP_PKEY *key = crypto_private_key(pem.at, pem.length);
	uint8_t signature[CRYPTO_RSA_BYTES];
	size_t length;
	bytea *result;
	bool good;

	if (key == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the text is not a private key"),
			 errdetail("Expected is an RSA private key of 1024 bits or more, in PEM (PKCS #8 or "
					   "PKCS #1) and without a pass phrase."),
			 errhint("Paste the key as it was made, with its BEGIN and END lines.")));
	good = crypto_sign(key, octets(message), message.length, signature, &length);
	EVP_PKEY_free(key);
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the private key does not sign"),
				 errdetail("OpenSSL refused it; its numbers do not fit together."),
				 errhint("Make a new pair of keys.")));
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), signature, length);
	PG_RETURN_BYTEA_P(result);
}

/*
 * Refuses what AES-GCM does not have, one thing at a time.
 */
static void
gcm_check(size_t key_length, size_t nonce_length, size_t sealed_length)
{
	if (key_length != 16 && key_length != 32)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the key has %zu bytes", key_length),
						errdetail("A key of AES-GCM has 16 or 32 bytes."),
						errhint("The APIv3 key of WeChat Pay is a text of 32 characters.")));
	if (nonce_length < 1 || nonce_length > CRYPTO_NONCE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the nonce has %zu bytes", nonce_length),
						errdetail("A nonce has 1 to %d bytes, usually %d.", CRYPTO_NONCE_MAX,
								  CRYPTO_NONCE),
						errhint("Pass the nonce as it came.")));
	if (sealed_length < CRYPTO_TAG)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the ciphertext is shorter than its tag"),
						errdetail("It has %zu bytes, the tag alone %d.", sealed_length, CRYPTO_TAG),
						errhint("Pass the ciphertext with its tag at the end.")));
}

SM_FUNCTION(submeter_aes_gcm_decrypt);

/*
 * submeter.aes_gcm_decrypt(key, nonce, aad, ciphertext_and_tag)
 */
Datum
submeter_aes_gcm_decrypt(PG_FUNCTION_ARGS)
{
	SmBytes key = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmBytes nonce = bytes_of(PG_GETARG_BYTEA_PP(1));
	SmBytes aad = bytes_of(PG_GETARG_BYTEA_PP(2));
	SmBytes sealed = bytes_of(PG_GETARG_BYTEA_PP(3));
	bytea *plain;

	gcm_check(key.length, nonce.length, sealed.length);
	plain = palloc(VARHDRSZ + sealed.length - CRYPTO_TAG);
	SET_VARSIZE(plain, VARHDRSZ + sealed.length - CRYPTO_TAG);
	if (!crypto_gcm_open(octets(key), key.length, octets(nonce), nonce.length, octets(aad),
						 aad.length, octets(sealed), sealed.length, (uint8_t *) VARDATA(plain)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the ciphertext was not made with this key"),
				 errdetail("Key, nonce, additional data and ciphertext do not belong together, "
						   "or a byte was changed on the way."),
				 errhint("Look whether the key is the one that is in force.")));
	PG_RETURN_BYTEA_P(plain);
}

SM_FUNCTION(submeter_alipay_notify_verify);

/*
 * submeter.alipay_notify_verify(body, public_key_or_cert_pem)
 */
Datum
submeter_alipay_notify_verify(PG_FUNCTION_ARGS)
{
	SmBytes body = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmBytes key = bytes_of(PG_GETARG_TEXT_PP(1));
	SmFormField *fields = palloc(sizeof(SmFormField) * ALIPAY_FIELDS_MAX);
	char *form = palloc(body.length + 1);
	size_t size = body.length + ALIPAY_FIELDS_MAX;
	char *text = palloc(size);
	size_t length;
	SmBytes sign;
	int n_fields;

	/* A key that is none is an error whatever the body is like. */
	(void) key_verifier(key);
	memcpy(form, body.at, body.length);
	n_fields = form_parse(form, body.length, fields);
	if (n_fields < 0 || !alipay_form_text(fields, n_fields, text, size, &length, &sign))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(signed_by(key, text, length, sign));
}

SM_FUNCTION(submeter_form_fields);

/*
 * submeter.form_fields(body): names and values in turn, NULL for what is no form.
 */
Datum
submeter_form_fields(PG_FUNCTION_ARGS)
{
	SmBytes body = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmFormField *fields = palloc(sizeof(SmFormField) * ALIPAY_FIELDS_MAX);
	Datum *parts = palloc(sizeof(Datum) * 2 * ALIPAY_FIELDS_MAX);
	char *form = palloc(body.length + 1);
	int n_fields;

	memcpy(form, body.at, body.length);
	n_fields = form_parse(form, body.length, fields);
	if (n_fields < 0)
		PG_RETURN_NULL();
	for (int i = 0; i < 2 * n_fields; i++)
	{
		SmBytes part = i % 2 == 0 ? fields[i / 2].name : fields[i / 2].value;

		parts[i] = PointerGetDatum(cstring_to_text_with_len(part.at, (int) part.length));
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(parts, 2 * n_fields, BYTEAOID, -1, false, TYPALIGN_INT));
}

SM_FUNCTION(submeter_alipay_response_verify);

/*
 * submeter.alipay_response_verify(body, node, public_key_or_cert_pem)
 */
Datum
submeter_alipay_response_verify(PG_FUNCTION_ARGS)
{
	SmBytes body = bytes_of(PG_GETARG_BYTEA_PP(0));
	SmBytes name = bytes_of(PG_GETARG_TEXT_PP(1));
	SmBytes key = bytes_of(PG_GETARG_TEXT_PP(2));
	SmAlipayNode node;

	(void) key_verifier(key);
	if (!alipay_node_find(body.at, body.length, name, &node))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(signed_by(key, node.content.at, node.content.length, node.sign));
}

/*
 * Says that a text holds no certificate. Does not return.
 */
static void
refuse_cert(const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the text is not a certificate"),
			 errdetail("Expected is %s.", wanted),
			 errhint("Paste the file as Alipay hands it out, with its BEGIN and END lines.")));
}

SM_FUNCTION(submeter_alipay_cert_sn);

/*
 * submeter.alipay_cert_sn(cert_pem)
 */
Datum
submeter_alipay_cert_sn(PG_FUNCTION_ARGS)
{
	SmBytes pem = bytes_of(PG_GETARG_TEXT_PP(0));
	char sn[CRYPTO_SN];

	if (!crypto_cert_sn(pem.at, pem.length, sn))
		refuse_cert("an X.509 certificate in PEM");
	PG_RETURN_TEXT_P(cstring_to_text(sn));
}

SM_FUNCTION(submeter_alipay_root_cert_sn);

/*
 * submeter.alipay_root_cert_sn(bundle_pem)
 */
Datum
submeter_alipay_root_cert_sn(PG_FUNCTION_ARGS)
{
	SmBytes pem = bytes_of(PG_GETARG_TEXT_PP(0));
	char sns[ROOT_SN_SIZE];

	if (crypto_root_sn(pem.at, pem.length, sns, sizeof(sns)) <= 0)
		refuse_cert("a bundle of X.509 certificates in PEM, at least one of them signed with RSA");
	PG_RETURN_TEXT_P(cstring_to_text(sns));
}

SM_FUNCTION(submeter_wechat_signed);

/*
 * submeter.wechat_signed(sent_at, nonce, signature, type, body, public_key_or_cert_pem, now_s)
 */
Datum
submeter_wechat_signed(PG_FUNCTION_ARGS)
{
	SmWechatHeaders headers;
	SmBytes body = bytes_of(PG_GETARG_BYTEA_PP(4));
	SmBytes key = bytes_of(PG_GETARG_TEXT_PP(5));
	char *message;
	size_t length;

	headers.timestamp = bytes_of(PG_GETARG_TEXT_PP(0));
	headers.nonce = bytes_of(PG_GETARG_TEXT_PP(1));
	headers.signature = bytes_of(PG_GETARG_TEXT_PP(2));
	headers.type = bytes_of(PG_GETARG_TEXT_PP(3));
	(void) key_verifier(key);
	if (!wechat_headers_fit(&headers, PG_GETARG_INT64(6)))
		PG_RETURN_BOOL(false);
	message = palloc(headers.timestamp.length + headers.nonce.length + body.length + 3);
	length = wechat_message(&headers, body, message);
	PG_RETURN_BOOL(signed_by(key, message, length, headers.signature));
}

SM_FUNCTION(submeter_is_public_key);

/*
 * submeter.is_public_key(pem)
 */
Datum
submeter_is_public_key(PG_FUNCTION_ARGS)
{
	SmBytes pem = bytes_of(PG_GETARG_TEXT_PP(0));
	EVP_PKEY *key = crypto_public_key(pem.at, pem.length);
	bool good = key != NULL;

	EVP_PKEY_free(key);
	PG_RETURN_BOOL(good);
}

SM_FUNCTION(submeter_sha1_hex);

/*
 * submeter.sha1_hex(bytes)
 */
Datum
submeter_sha1_hex(PG_FUNCTION_ARGS)
{
	SmBytes bytes = bytes_of(PG_GETARG_BYTEA_PP(0));
	uint8_t hash[SHA_DIGEST_LENGTH];
	text *result = palloc(VARHDRSZ + 2 * SHA_DIGEST_LENGTH);

	SHA1(octets(bytes), bytes.length, hash);
	SET_VARSIZE(result, VARHDRSZ + 2 * SHA_DIGEST_LENGTH);
	hex_encode((const char *) hash, SHA_DIGEST_LENGTH, VARDATA(result));
	PG_RETURN_TEXT_P(result);
}

SM_FUNCTION(submeter_url_encode);

/*
 * submeter.url_encode(value): RFC 3986, so everything but letters, digits and - . _ ~ is encoded.
 */
Datum
submeter_url_encode(PG_FUNCTION_ARGS)
{
	SmBytes value = bytes_of(PG_GETARG_TEXT_PP(0));
	text *result = palloc(VARHDRSZ + 3 * value.length);
	char *at = VARDATA(result);

	for (size_t i = 0; i < value.length; i++)
	{
		unsigned char c = (unsigned char) value.at[i];

		if ((c < 0x80 && isalnum(c)) || (c != '\0' && strchr("-._~", c) != NULL))
			*at++ = (char) c;
		else
		{
			*at++ = '%';
			*at++ = "0123456789ABCDEF"[c >> 4];
			*at++ = "0123456789ABCDEF"[c & 15];
		}
	}
	SET_VARSIZE(result, at - (char *) result);
	PG_RETURN_TEXT_P(result);
}
