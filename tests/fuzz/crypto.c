/*
 * crypto.c - any bytes as a key, a certificate, base64, the headers of WeChat Pay or a file of keys
 */
/* links: extension/crypto_key.c extension/crypto_chain.c extension/crypto_cipher.c extension/wechat.c extension/alipay_form.c extension/secret_key.c */
/* libs: -lcrypto */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "../../extension/crypto.h"
#include "../../extension/secret_key.h"
#include "../../extension/wechat.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
try_keys(const char *text, size_t size)
{
	char sn[CRYPTO_SN];
	char sns[256];
	char name[CRYPTO_NAME];
	char *pem = malloc(CRYPTO_CERT);
	int64_t until_s;
	EVP_PKEY *key = crypto_public_key(text, size);

	EVP_PKEY_free(key);
	key = crypto_private_key(text, size);
	EVP_PKEY_free(key);
	if (crypto_cert_sn(text, size, sn) && strlen(sn) != CRYPTO_SN - 1)
		abort();
	if (crypto_root_sn(text, size, sns, sizeof(sns)) > 0 && strlen(sns) < CRYPTO_SN - 1)
		abort();
	if (crypto_cert_trust(text, size, text, size, 1700000000, pem) == NULL &&
		crypto_public_key(pem, strlen(pem)) == NULL)
		abort();
	if (crypto_cert_read(text, size, &until_s, name) && name[0] == '\0')
		abort();
	if (ERR_peek_error() != 0)
		abort();
	free(pem);
}

static void
try_headers(const char *text, size_t size)
{
	size_t half = size / 2;
	SmWechatHeaders headers = {
		{text, half < 10 ? half : 10}, {text, half}, {text + half, size - half}, {NULL, 0}};
	SmBytes body = {text, size};
	char *message = malloc(size + half + 13);

	(void) wechat_headers_fit(&headers, 1700000000);
	if (wechat_message(&headers, body, message) != headers.timestamp.length + half + size + 3)
		abort();
	free(message);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char *text = malloc(size + 1);
	uint8_t *decoded = malloc(size + 1);
	SmSecretKey keys[SECRET_KEYS_MAX];
	int line;
	int length;

	memcpy(text, bytes, size);
	try_keys(text, size);
	try_headers(text, size);
	length = crypto_base64(text, size, decoded, size);
	if (length == 0 || length > (int) size)
		abort();
	if (secret_keys_read(text, size, keys, &line) > SECRET_KEYS_MAX)
		abort();
	free(decoded);
	free(text);
	return 0;
}
