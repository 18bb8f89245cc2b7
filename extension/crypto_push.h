/*
 * crypto_push.h - what channels of notices sign and seal with: HMAC, ES256, Web Push
 *
 * Pure apart from OpenSSL's own memory, as crypto.h says.
 */
#ifndef SUBMETER_CRYPTO_PUSH_H
#define SUBMETER_CRYPTO_PUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUSH_SCALAR 32 /* a private key on P-256 */
#define PUSH_POINT 65  /* a public key on P-256, uncompressed */
#define PUSH_SECRET 16 /* what a browser shares with those who may push to it */
#define PUSH_SALT 16
#define PUSH_HEADER 86 /* salt, record size, length and bytes of our public key */
#define PUSH_OVERHEAD (PUSH_HEADER + 1 + 16)
#define PUSH_PLAIN_MAX 3993 /* a record of 4096 bytes */
#define PUSH_SIGNATURE 64
#define PUSH_DIGEST_MAX 64

extern int push_hmac(const char *digest, const uint8_t *key, size_t key_length, const uint8_t *data,
					 size_t length, uint8_t mac[PUSH_DIGEST_MAX]);
extern bool push_new_key(uint8_t scalar[PUSH_SCALAR]);
extern bool push_public_key(const uint8_t scalar[PUSH_SCALAR], uint8_t point[PUSH_POINT]);
extern bool push_sign(const uint8_t scalar[PUSH_SCALAR], const uint8_t *message, size_t length,
					  uint8_t signature[PUSH_SIGNATURE]);
extern bool push_seal(const uint8_t scalar[PUSH_SCALAR], const uint8_t salt[PUSH_SALT],
					  const uint8_t browser[PUSH_POINT], const uint8_t secret[PUSH_SECRET],
					  const uint8_t *plain, size_t length, uint8_t *sealed);

#endif
