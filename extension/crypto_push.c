/*
 * crypto_push.c - HMAC for the channels that sign with it, and Web Push: RFC 8291 (sealing a message
 * for one browser), RFC 8188 (its form), RFC 7518 ES256 (the signature of the sender)
 */
#include "crypto_push.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

#include "crypto.h"

#define PUSH_MAC 32
#define PUSH_RECORD 4096

/*
 * HMAC with sha1, sha256 or another digest OpenSSL knows; the length of the result, 0 for a digest
 * nobody knows.
 */
int
push_hmac(const char *digest, const uint8_t *key, size_t key_length, const uint8_t *data,
		  size_t length, uint8_t mac[PUSH_DIGEST_MAX])
{
	const EVP_MD *md = EVP_get_digestbyname(digest);
	unsigned int made = 0;

	if (md == NULL || EVP_MD_get_size(md) > PUSH_DIGEST_MAX ||
		HMAC(md, key_length > 0 ? (const void *) key : "", (int) key_length, data, length, mac,
			 &made) == NULL)
		made = 0;
	ERR_clear_error();
	return (int) made;
}

/* Like push_hmac() with SHA-256 over two pieces. */
static bool
push_mac(const uint8_t *key, size_t key_length, const void *first, size_t first_length,
		 const void *second, size_t second_length, uint8_t mac[PUSH_MAC])
{
	uint8_t data[256];
	uint8_t whole[PUSH_DIGEST_MAX];

	if (first_length + second_length > sizeof(data))
		return false;
	memcpy(data, first, first_length);
	memcpy(data + first_length, second, second_length);
	if (push_hmac("SHA256", key, key_length, data, first_length + second_length, whole) != PUSH_MAC)
		return false;
	memcpy(mac, whole, PUSH_MAC);
	OPENSSL_cleanse(data, sizeof(data));
	OPENSSL_cleanse(whole, sizeof(whole));
	return true;
}

/*
 * The point of a private key on P-256; false for a scalar that is none.
 */
bool
push_public_key(const uint8_t scalar[PUSH_SCALAR], uint8_t point[PUSH_POINT])
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *number = BN_bin2bn(scalar, PUSH_SCALAR, NULL);
	EC_POINT *made = group != NULL ? EC_POINT_new(group) : NULL;
	bool good = made != NULL && number != NULL && !BN_is_zero(number) &&
				BN_cmp(number, EC_GROUP_get0_order(group)) < 0 &&
				EC_POINT_mul(group, made, number, NULL, NULL, NULL) == 1 &&
				EC_POINT_point2oct(group, made, POINT_CONVERSION_UNCOMPRESSED, point, PUSH_POINT,
								   NULL) == PUSH_POINT;

	EC_POINT_free(made);
	BN_clear_free(number);
	EC_GROUP_free(group);
	ERR_clear_error();
	return good;
}

/*
 * OpenSSL's form of a key on P-256: a private one with its point, or only a point (scalar NULL).
 * NULL when it is none; freed by the caller.
 */
static EVP_PKEY *
push_key(const uint8_t *scalar, const uint8_t point[PUSH_POINT])
{
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	BIGNUM *number = scalar != NULL ? BN_bin2bn(scalar, PUSH_SCALAR, NULL) : NULL;
	OSSL_PARAM *params = NULL;
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *key = NULL;

	if (builder != NULL && context != NULL &&
		OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) ==
			1 &&
		OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, PUSH_POINT) ==
			1 &&
		(number == NULL || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, number) == 1))
		params = OSSL_PARAM_BLD_to_param(builder);
	if (params == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
		EVP_PKEY_fromdata(context, &key, number != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY,
						  params) != 1)
		key = NULL;
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(builder);
	EVP_PKEY_CTX_free(context);
	BN_clear_free(number);
	ERR_clear_error();
	return key;
}

/*
 * A new private key.
 */
bool
push_new_key(uint8_t scalar[PUSH_SCALAR])
{
	EVP_PKEY *key = EVP_EC_gen("prime256v1");
	BIGNUM *number = NULL;
	bool good = key != NULL && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
				BN_bn2binpad(number, scalar, PUSH_SCALAR) == PUSH_SCALAR;

	BN_clear_free(number);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return good;
}

/* A signature in DER as the two numbers ES256 wants. */
static bool
push_flatten(const uint8_t *der, size_t length, uint8_t signature[PUSH_SIGNATURE])
{
	const uint8_t *at = der;
	ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long) length);
	bool good = parsed != NULL &&
				BN_bn2binpad(ECDSA_SIG_get0_r(parsed), signature, PUSH_SIGNATURE / 2) ==
					PUSH_SIGNATURE / 2 &&
				BN_bn2binpad(ECDSA_SIG_get0_s(parsed), signature + PUSH_SIGNATURE / 2,
							 PUSH_SIGNATURE / 2) == PUSH_SIGNATURE / 2;

	ECDSA_SIG_free(parsed);
	return good;
}

/*
 * Signs with ES256 (ECDSA on P-256 with SHA-256); false for a key that is none.
 */
bool
push_sign(const uint8_t scalar[PUSH_SCALAR], const uint8_t *message, size_t length,
		  uint8_t signature[PUSH_SIGNATURE])
{
	uint8_t point[PUSH_POINT];
	uint8_t der[128];
	size_t der_length = sizeof(der);
	EVP_PKEY *key = push_public_key(scalar, point) ? push_key(scalar, point) : NULL;
	EVP_MD_CTX *signer = EVP_MD_CTX_new();
	bool good = key != NULL && signer != NULL &&
				EVP_DigestSignInit(signer, NULL, EVP_sha256(), NULL, key) == 1 &&
				EVP_DigestSign(signer, der, &der_length, message, length) == 1 &&
				push_flatten(der, der_length, signature);

	EVP_MD_CTX_free(signer);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return good;
}

/* The secret two keys share. */
static bool
push_agree(const uint8_t scalar[PUSH_SCALAR], const uint8_t ours[PUSH_POINT],
		   const uint8_t browser[PUSH_POINT], uint8_t shared[PUSH_SCALAR])
{
	EVP_PKEY *mine = push_key(scalar, ours);
	EVP_PKEY *theirs = push_key(NULL, browser);
	EVP_PKEY_CTX *context = mine != NULL ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
	size_t length = PUSH_SCALAR;
	bool good = context != NULL && theirs != NULL && EVP_PKEY_derive_init(context) == 1 &&
				EVP_PKEY_derive_set_peer(context, theirs) == 1 &&
				EVP_PKEY_derive(context, shared, &length) == 1 && length == PUSH_SCALAR;

	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(theirs);
	EVP_PKEY_free(mine);
	ERR_clear_error();
	return good;
}

/*
 * Key and nonce of a message, RFC 8291 section 3.4: from what we share with the browser, its secret,
 * both public keys and the salt.
 */
static bool
push_derive(const uint8_t shared[PUSH_SCALAR], const uint8_t secret[PUSH_SECRET],
			const uint8_t browser[PUSH_POINT], const uint8_t ours[PUSH_POINT],
			const uint8_t salt[PUSH_SALT], uint8_t key[PUSH_MAC], uint8_t nonce[PUSH_MAC])
{
	static const char key_info[] = "Content-Encoding: aes128gcm\0\1";
	static const char nonce_info[] = "Content-Encoding: nonce\0\1";
	uint8_t info[14 + 2 * PUSH_POINT + 1];
	uint8_t prk[PUSH_MAC];
	uint8_t material[PUSH_MAC];
	bool good;

	memcpy(info, "WebPush: info", 14);
	memcpy(info + 14, browser, PUSH_POINT);
	memcpy(info + 14 + PUSH_POINT, ours, PUSH_POINT);
	info[sizeof(info) - 1] = 1;
	good = push_mac(secret, PUSH_SECRET, shared, PUSH_SCALAR, "", 0, prk) &&
		   push_mac(prk, PUSH_MAC, info, sizeof(info), "", 0, material) &&
		   push_mac(salt, PUSH_SALT, material, PUSH_MAC, "", 0, prk) &&
		   push_mac(prk, PUSH_MAC, key_info, sizeof(key_info) - 1, "", 0, key) &&
		   push_mac(prk, PUSH_MAC, nonce_info, sizeof(nonce_info) - 1, "", 0, nonce);
	OPENSSL_cleanse(prk, sizeof(prk));
	OPENSSL_cleanse(material, sizeof(material));
	return good;
}

/*
 * Seals a message of at most PUSH_PLAIN_MAX bytes for a browser; sealed has room for PUSH_OVERHEAD
 * more. scalar and salt must be new for every message. False for a browser's key that is none.
 */
bool
push_seal(const uint8_t scalar[PUSH_SCALAR], const uint8_t salt[PUSH_SALT],
		  const uint8_t browser[PUSH_POINT], const uint8_t secret[PUSH_SECRET],
		  const uint8_t *plain, size_t length, uint8_t *sealed)
{
	uint8_t shared[PUSH_SCALAR];
	uint8_t key[PUSH_MAC];
	uint8_t nonce[PUSH_MAC];
	uint8_t padded[PUSH_PLAIN_MAX + 1];
	uint8_t *ours = sealed + PUSH_HEADER - PUSH_POINT;
	bool good;

	if (length > PUSH_PLAIN_MAX)
		return false;
	memcpy(sealed, salt, PUSH_SALT);
	memcpy(sealed + PUSH_SALT, (const uint8_t[]){0, 0, PUSH_RECORD >> 8, 0, PUSH_POINT}, 5);
	memcpy(padded, plain, length);
	padded[length] = 2; /* the last record */
	good = push_public_key(scalar, ours) && push_agree(scalar, ours, browser, shared) &&
		   push_derive(shared, secret, browser, ours, salt, key, nonce) &&
		   crypto_gcm_seal(key, 16, nonce, CRYPTO_NONCE, (const uint8_t *) "", 0, padded,
						   length + 1, sealed + PUSH_HEADER);
	OPENSSL_cleanse(shared, sizeof(shared));
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(padded, sizeof(padded));
	return good;
}
