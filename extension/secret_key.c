/*
 * secret_key.c - the list of master keys, as its file or variable says it
 *
 * One key to a line (or between commas, for a variable of the environment), 32 bytes as base64 or
 * as 64 hexadecimal digits; "#" begins a remark. The first one seals, all of them open. A sealed
 * value names its key by a few bytes of a hash, so that old and new keys live side by side while
 * values are sealed anew.
 */
#include "secret_key.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "crypto.h"

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
key_hex(const char *text, size_t length, uint8_t key[SECRET_KEY])
{
	if (length != 2 * SECRET_KEY)
		return false;
	for (size_t i = 0; i < SECRET_KEY; i++)
	{
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key[i] = (uint8_t) (high << 4 | low);
	}
	return true;
}

/*
 * The name of a key: a hash from which the key does not follow.
 */
static void
key_name(SmSecretKey *key)
{
	static const char label[] = "submeter secret key";
	uint8_t text[sizeof(label) + SECRET_KEY];
	uint8_t hash[SHA256_DIGEST_LENGTH];

	memcpy(text, label, sizeof(label));
	memcpy(text + sizeof(label), key->key, SECRET_KEY);
	SHA256(text, sizeof(text), hash);
	memcpy(key->id, hash, SECRET_KEY_ID);
	OPENSSL_cleanse(text, sizeof(text));
}

static bool
key_read(const char *text, size_t length, SmSecretKey *key)
{
	if (!key_hex(text, length, key->key) &&
		crypto_base64(text, length, key->key, SECRET_KEY) != SECRET_KEY)
		return false;
	key_name(key);
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/*
 * Reads the keys of a text. Returns how many there are; -1 and the number of the line for one that
 * is no key, or one too many.
 */
int
secret_keys_read(const char *text, size_t length, SmSecretKey keys[SECRET_KEYS_MAX], int *bad_line)
{
	int count = 0;
	size_t at = 0;

	*bad_line = 1;
	while (at < length)
	{
		size_t from = at;
		size_t upto;
		char ended_by;

		while (at < length && text[at] != '\n' && text[at] != ',')
			at++;
		ended_by = at < length ? text[at] : '\n';
		upto = at++;
		while (from < upto && is_blank(text[from]))
			from++;
		while (upto > from && is_blank(text[upto - 1]))
			upto--;
		if (from < upto && text[from] != '#')
		{
			if (count == SECRET_KEYS_MAX || !key_read(text + from, upto - from, &keys[count]))
				return -1;
			count++;
		}
		*bad_line += ended_by == '\n';
	}
	return count;
}
