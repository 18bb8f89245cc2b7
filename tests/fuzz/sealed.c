/*
 * sealed.c - any bytes as sealed text, and as the keys a browser gives for pushing to it: nothing opens
 * that was not sealed, and what is no point of the curve gets no message
 */
/* links: extension/crypto_push.c extension/crypto_cipher.c */
/* libs: -lcrypto */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "../../extension/crypto.h"
#include "../../extension/crypto_push.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
try_gcm(const uint8_t *bytes, size_t size)
{
	static const uint8_t key[32] = "a key that nobody seals with ...";
	size_t nonce = size < CRYPTO_NONCE ? size : CRYPTO_NONCE;
	size_t length = size - nonce;
	uint8_t *sealed = malloc(length + CRYPTO_TAG);
	uint8_t *plain = malloc(length + 1);

	memcpy(sealed, bytes + nonce, length);
	if (crypto_gcm_open(key, sizeof(key), bytes, nonce, bytes, nonce, sealed, length, plain))
		abort();
	if (nonce > 0 &&
		(!crypto_gcm_seal(key, 16, bytes, nonce, bytes, nonce, bytes + nonce, length, sealed) ||
		 !crypto_gcm_open(key, 16, bytes, nonce, bytes, nonce, sealed, length + CRYPTO_TAG,
						  plain) ||
		 memcmp(plain, bytes + nonce, length) != 0))
		abort();
	free(plain);
	free(sealed);
}

static void
try_push(const uint8_t bytes[PUSH_POINT])
{
	static const uint8_t scalar[PUSH_SCALAR] = {1, 2, 3};
	static const uint8_t salt[PUSH_SALT] = {4};
	uint8_t browser[PUSH_POINT];
	uint8_t sealed[PUSH_OVERHEAD + 16];
	uint8_t point[PUSH_POINT];

	memcpy(browser, bytes, sizeof(browser));
	if (push_seal(scalar, salt, browser, browser, browser, 16, sealed) && browser[0] != 4 &&
		browser[0] != 6 && browser[0] != 7)
		abort();
	(void) push_public_key(bytes, point);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	try_gcm(bytes, size);
	/* The curve is slow. */
	if (size == PUSH_POINT)
		try_push(bytes);
	if (ERR_peek_error() != 0)
		abort();
	return 0;
}
