/*
 * secret_key.h - the list of master keys, as its file or variable says it
 *
 * Pure: no I/O, no memory.
 */
#ifndef SUBMETER_SECRET_KEY_H
#define SUBMETER_SECRET_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECRET_KEY 32
#define SECRET_KEY_ID 8
#define SECRET_KEYS_MAX 16

typedef struct SmSecretKey
{
	uint8_t key[SECRET_KEY];
	uint8_t id[SECRET_KEY_ID];
} SmSecretKey;

extern int secret_keys_read(const char *text, size_t length, SmSecretKey keys[SECRET_KEYS_MAX],
							int *bad_line);

#endif
