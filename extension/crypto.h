/*
 * crypto.h - keys, signatures and sealed text on OpenSSL
 *
 * Everything declared here is pure apart from OpenSSL's own memory: no SPI, no palloc, no ereport,
 * so that nothing of OpenSSL is left behind when an error jumps. What fails leaves OpenSSL's queue
 * of errors empty.
 */
#ifndef SUBMETER_CRYPTO_H
#define SUBMETER_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#define CRYPTO_TAG 16          /* of AES-GCM */
#define CRYPTO_NONCE 12        /* of AES-GCM as everybody uses it */
#define CRYPTO_NONCE_MAX 128   /* the longest OpenSSL takes */
#define CRYPTO_RSA_BYTES 2048  /* the longest signature: 16384 bits */
#define CRYPTO_SN 33           /* a certificate's number at Alipay, with its end */
#define CRYPTO_CERT 16384      /* a certificate in PEM, with its end */
#define CRYPTO_NAME 256        /* whom a certificate is for, with its end */
#define CRYPTO_BASE64_BAD (-1) /* no base64, or longer than there is room */

/* crypto_key.c */
extern EVP_PKEY *crypto_public_key(const char *text, size_t length);
extern EVP_PKEY *crypto_private_key(const char *text, size_t length);
extern bool crypto_cert_sn(const char *text, size_t length, char sn[CRYPTO_SN]);
extern int crypto_root_sn(const char *text, size_t length, char *sns, size_t size);

/* crypto_chain.c */
extern const char *crypto_cert_trust(const char *text, size_t length, const char *roots,
									 size_t roots_length, int64_t at_s, char pem[CRYPTO_CERT]);
extern bool crypto_cert_read(const char *text, size_t length, int64_t *until_s,
							 char name[CRYPTO_NAME]);

/* crypto_cipher.c */
extern EVP_PKEY_CTX *crypto_verifier(EVP_PKEY *key);
extern bool crypto_verify(EVP_PKEY_CTX *verifier, const uint8_t *message, size_t length,
						  const uint8_t *signature, size_t signature_length);
extern bool crypto_sign(EVP_PKEY *key, const uint8_t *message, size_t length,
						uint8_t signature[CRYPTO_RSA_BYTES], size_t *signature_length);
extern bool crypto_gcm_open(const uint8_t *key, size_t key_length, const uint8_t *nonce,
							size_t nonce_length, const uint8_t *aad, size_t aad_length,
							const uint8_t *sealed, size_t sealed_length, uint8_t *plain);
extern bool crypto_gcm_seal(const uint8_t *key, size_t key_length, const uint8_t *nonce,
							size_t nonce_length, const uint8_t *aad, size_t aad_length,
							const uint8_t *plain, size_t plain_length, uint8_t *sealed);
extern int crypto_base64(const char *text, size_t length, uint8_t *bytes, size_t size);

#endif
