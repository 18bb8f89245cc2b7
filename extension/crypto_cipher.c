/*
 * crypto_cipher.c - RSA signatures, AES-GCM and base64
 *
 * Signatures are RSASSA-PKCS1-v1_5 with SHA-256, the only kind both providers use. A verifier is
 * set up once for a key and then takes any number of messages, because setting it up costs as much
 * as a third of a verification.
 */
#include "crypto.h"

#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

/*
 * What verifies signatures of a key; NULL when OpenSSL will not.
 */
EVP_PKEY_CTX *
crypto_verifier(EVP_PKEY *key)
{
	EVP_PKEY_CTX *verifier = EVP_PKEY_CTX_new(key, NULL);

	if (verifier != NULL && (EVP_PKEY_verify_init(verifier) != 1 ||
							 EVP_PKEY_CTX_set_rsa_padding(verifier, RSA_PKCS1_PADDING) != 1 ||
							 EVP_PKEY_CTX_set_signature_md(verifier, EVP_sha256()) != 1))
	{
		EVP_PKEY_CTX_free(verifier);
		verifier = NULL;
	}
	ERR_clear_error();
	return verifier;
}

/*
 * True when the signature is the key's over exactly these bytes.
 */
bool
crypto_verify(EVP_PKEY_CTX *verifier, const uint8_t *message, size_t length,
			  const uint8_t *signature, size_t signature_length)
{
	uint8_t hash[SHA256_DIGEST_LENGTH];
	bool good;

	SHA256(message, length, hash);
	good = EVP_PKEY_verify(verifier, signature, signature_length, hash, sizeof(hash)) == 1;
	if (!good)
		ERR_clear_error();
	return good;
}

/*
 * Signs a message. False when OpenSSL will not.
 */
bool
crypto_sign(EVP_PKEY *key, const uint8_t *message, size_t length,
			uint8_t signature[CRYPTO_RSA_BYTES], size_t *signature_length)
{
	EVP_PKEY_CTX *signer = EVP_PKEY_CTX_new(key, NULL);
	uint8_t hash[SHA256_DIGEST_LENGTH];
	bool good;

	SHA256(message, length, hash);
	*signature_length = CRYPTO_RSA_BYTES;
	good = signer != NULL && EVP_PKEY_sign_init(signer) == 1 &&
		   EVP_PKEY_CTX_set_rsa_padding(signer, RSA_PKCS1_PADDING) == 1 &&
		   EVP_PKEY_CTX_set_signature_md(signer, EVP_sha256()) == 1 &&
		   EVP_PKEY_sign(signer, signature, signature_length, hash, sizeof(hash)) == 1;
	EVP_PKEY_CTX_free(signer);
	ERR_clear_error();
	return good;
}

static const EVP_CIPHER *
gcm_cipher(size_t key_length)
{
	return key_length == 16 ? EVP_aes_128_gcm() : key_length == 32 ? EVP_aes_256_gcm() : NULL;
}

/*
 * A context with key, nonce and additional data in it; NULL for lengths AES-GCM does not have.
 */
static EVP_CIPHER_CTX *
gcm_begin(bool encrypt, const uint8_t *key, size_t key_length, const uint8_t *nonce,
		  size_t nonce_length, const uint8_t *aad, size_t aad_length)
{
	const EVP_CIPHER *cipher = gcm_cipher(key_length);
	EVP_CIPHER_CTX *gcm;
	int done;

	if (cipher == NULL || nonce_length < 1 || nonce_length > CRYPTO_NONCE_MAX ||
		aad_length > INT_MAX / 2)
		return NULL;
	gcm = EVP_CIPHER_CTX_new();
	if (gcm != NULL &&
		(EVP_CipherInit_ex(gcm, cipher, NULL, NULL, NULL, encrypt) != 1 ||
		 EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_IVLEN, (int) nonce_length, NULL) != 1 ||
		 EVP_CipherInit_ex(gcm, NULL, NULL, key, nonce, encrypt) != 1 ||
		 (aad_length > 0 && EVP_CipherUpdate(gcm, NULL, &done, aad, (int) aad_length) != 1)))
	{
		EVP_CIPHER_CTX_free(gcm);
		gcm = NULL;
	}
	return gcm;
}

/*
 * Opens what crypto_gcm_seal() sealed: text and, at its end, the tag. plain has room for the text.
 * False when it was not sealed with this key, nonce and additional data; plain is then wiped.
 */
bool
crypto_gcm_open(const uint8_t *key, size_t key_length, const uint8_t *nonce, size_t nonce_length,
				const uint8_t *aad, size_t aad_length, const uint8_t *sealed, size_t sealed_length,
				uint8_t *plain)
{
	EVP_CIPHER_CTX *gcm;
	size_t length;
	uint8_t end[EVP_MAX_BLOCK_LENGTH];
	int done = 0;
	bool good;

	if (sealed_length < CRYPTO_TAG || sealed_length > INT_MAX / 2)
		return false;
	length = sealed_length - CRYPTO_TAG;
	gcm = gcm_begin(false, key, key_length, nonce, nonce_length, aad, aad_length);
	good = gcm != NULL &&
		   (length == 0 || EVP_CipherUpdate(gcm, plain, &done, sealed, (int) length) == 1) &&
		   EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG,
							   (void *) (sealed + length)) == 1 &&
		   EVP_CipherFinal_ex(gcm, end, &done) == 1;
	if (!good && length > 0)
		OPENSSL_cleanse(plain, length);
	EVP_CIPHER_CTX_free(gcm);
	ERR_clear_error();
	return good;
}

/*
 * Seals a text; sealed has room for it and CRYPTO_TAG bytes more.
 */
bool
crypto_gcm_seal(const uint8_t *key, size_t key_length, const uint8_t *nonce, size_t nonce_length,
				const uint8_t *aad, size_t aad_length, const uint8_t *plain, size_t plain_length,
				uint8_t *sealed)
{
	EVP_CIPHER_CTX *gcm;
	uint8_t end[EVP_MAX_BLOCK_LENGTH];
	int done = 0;
	bool good;

	if (plain_length > INT_MAX / 2)
		return false;
	gcm = gcm_begin(true, key, key_length, nonce, nonce_length, aad, aad_length);
	good = gcm != NULL &&
		   (plain_length == 0 ||
			EVP_CipherUpdate(gcm, sealed, &done, plain, (int) plain_length) == 1) &&
		   EVP_CipherFinal_ex(gcm, end, &done) == 1 &&
		   EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG, sealed + plain_length) == 1;
	EVP_CIPHER_CTX_free(gcm);
	ERR_clear_error();
	return good;
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/*
 * Base64 as RFC 4648 has it: no blanks, padded, and no bit set that stands for nothing, so that
 * one signature has one writing. Returns the number of bytes, CRYPTO_BASE64_BAD for anything else.
 */
int
crypto_base64(const char *text, size_t length, uint8_t *bytes, size_t size)
{
	size_t padding = 0;
	size_t used = 0;
	uint32_t bits = 0;

	if (length == 0 || length % 4 != 0 || length > INT_MAX / 2)
		return CRYPTO_BASE64_BAD;
	while (padding < 2 && text[length - 1 - padding] == '=')
		padding++;
	if (length / 4 * 3 - padding > size)
		return CRYPTO_BASE64_BAD;
	for (size_t i = 0; i < length; i++)
	{
		int digit = i < length - padding ? base64_digit(text[i]) : 0;

		if (digit < 0)
			return CRYPTO_BASE64_BAD;
		bits = bits << 6 | (uint32_t) digit;
		if (i % 4 != 3)
			continue;
		for (int shift = 16; shift >= 0 && used < length / 4 * 3 - padding; shift -= 8)
			bytes[used++] = (uint8_t) (bits >> shift);
		if (i == length - 1 && (bits & ((1U << (8 * padding)) - 1)) != 0)
			return CRYPTO_BASE64_BAD;
		bits = 0;
	}
	return (int) used;
}
