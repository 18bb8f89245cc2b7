/*
 * push.c - what notice channels sign and seal with, for SQL
 *
 * No message of these functions shows a key.
 */
#include "module.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "utils/builtins.h"

#include "crypto_push.h"

static const uint8_t *
push_octets(const bytea *bytes)
{
	return (const uint8_t *) VARDATA_ANY(bytes);
}

static bytea *
push_bytea(const uint8_t *bytes, size_t length)
{
	bytea *made = palloc(VARHDRSZ + length);

	SET_VARSIZE(made, VARHDRSZ + length);
	memcpy(VARDATA(made), bytes, length);
	return made;
}

/* Complains about a value of another length than it must have. */
static void
push_check_length(const bytea *bytes, size_t length, const char *what)
{
	if (VARSIZE_ANY_EXHDR(bytes) != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s is not %zu bytes long", what, length),
				 errdetail("It has %zu bytes.", (size_t) VARSIZE_ANY_EXHDR(bytes)),
				 errhint("Keys of Web Push are raw bytes of the curve P-256, in base64url.")));
}

static void
push_refuse_key(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the %s is none of the curve P-256", what),
					errhint("Make a new pair of keys, or let the browser subscribe again.")));
}

SM_FUNCTION(submeter_hmac);

/*
 * submeter.hmac(digest, key, message)
 */
Datum
submeter_hmac(PG_FUNCTION_ARGS)
{
	char *digest = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bytea *key = PG_GETARG_BYTEA_PP(1);
	bytea *message = PG_GETARG_BYTEA_PP(2);
	uint8_t mac[PUSH_DIGEST_MAX];
	int length = push_hmac(digest, push_octets(key), VARSIZE_ANY_EXHDR(key), push_octets(message),
						   VARSIZE_ANY_EXHDR(message), mac);

	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no digest \"%s\"", digest), errhint("Such as sha1 or sha256.")));
	PG_RETURN_BYTEA_P(push_bytea(mac, (size_t) length));
}

SM_FUNCTION(submeter_push_new_key);

/*
 * submeter.push_new_key()
 */
Datum
submeter_push_new_key(PG_FUNCTION_ARGS)
{
	uint8_t scalar[PUSH_SCALAR];

	if (!push_new_key(scalar))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a key")));
	PG_RETURN_BYTEA_P(push_bytea(scalar, sizeof(scalar)));
}

SM_FUNCTION(submeter_push_public_key);

/*
 * submeter.push_public_key(private_key)
 */
Datum
submeter_push_public_key(PG_FUNCTION_ARGS)
{
	bytea *scalar = PG_GETARG_BYTEA_PP(0);
	uint8_t point[PUSH_POINT];

	push_check_length(scalar, PUSH_SCALAR, "private key");
	if (!push_public_key(push_octets(scalar), point))
		push_refuse_key("private key");
	PG_RETURN_BYTEA_P(push_bytea(point, sizeof(point)));
}

SM_FUNCTION(submeter_es256_sign);

/*
 * submeter.es256_sign(message, private_key)
 */
Datum
submeter_es256_sign(PG_FUNCTION_ARGS)
{
	bytea *message = PG_GETARG_BYTEA_PP(0);
	bytea *scalar = PG_GETARG_BYTEA_PP(1);
	uint8_t signature[PUSH_SIGNATURE];

	push_check_length(scalar, PUSH_SCALAR, "private key");
	if (!push_sign(push_octets(scalar), push_octets(message), VARSIZE_ANY_EXHDR(message),
				   signature))
		push_refuse_key("private key");
	PG_RETURN_BYTEA_P(push_bytea(signature, sizeof(signature)));
}

SM_FUNCTION(submeter_push_seal);

/*
 * submeter.push_seal(plain, browser_key, browser_secret, private_key, salt); the last two are made
 * anew when they are NULL, which only tests do not want.
 */
Datum
submeter_push_seal(PG_FUNCTION_ARGS)
{
	bytea *plain;
	bytea *browser;
	bytea *secret;
	size_t length;
	uint8_t scalar[PUSH_SCALAR];
	uint8_t salt[PUSH_SALT];
	bytea *sealed;
	bool good = true;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	plain = PG_GETARG_BYTEA_PP(0);
	browser = PG_GETARG_BYTEA_PP(1);
	secret = PG_GETARG_BYTEA_PP(2);
	length = VARSIZE_ANY_EXHDR(plain);
	push_check_length(browser, PUSH_POINT, "key of the browser");
	push_check_length(secret, PUSH_SECRET, "secret of the browser");
	if (length > PUSH_PLAIN_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the message is longer than %d bytes", PUSH_PLAIN_MAX),
						errhint("Shorten its template.")));
	if (PG_ARGISNULL(3))
		good = push_new_key(scalar);
	else
	{
		push_check_length(PG_GETARG_BYTEA_PP(3), PUSH_SCALAR, "private key");
		memcpy(scalar, push_octets(PG_GETARG_BYTEA_PP(3)), sizeof(scalar));
	}
	if (PG_ARGISNULL(4))
		good = good && RAND_bytes(salt, sizeof(salt)) == 1;
	else
	{
		push_check_length(PG_GETARG_BYTEA_PP(4), PUSH_SALT, "salt");
		memcpy(salt, push_octets(PG_GETARG_BYTEA_PP(4)), sizeof(salt));
	}
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("there are no random numbers")));
	sealed = palloc(VARHDRSZ + length + PUSH_OVERHEAD);
	SET_VARSIZE(sealed, VARHDRSZ + length + PUSH_OVERHEAD);
	good = push_seal(scalar, salt, push_octets(browser), push_octets(secret), push_octets(plain),
					 length, (uint8_t *) VARDATA(sealed));
	OPENSSL_cleanse(scalar, sizeof(scalar));
	if (!good)
		push_refuse_key("key of the browser");
	PG_RETURN_BYTEA_P(sealed);
}
