/*
 * address.c - addresses: whom a notification is for, and what may be said aloud of a request's
 *
 * Pure. The path of a notification is taken as it stands in the request: ours need no percent
 * signs, so one in it is another address.
 */
#include <string.h>

#include "courier.h"

/* The provider of /notify/PROVIDER/MERCHANT; false when the path is another. */
bool
address_provider(const char *path, char *provider, size_t size)
{
	static const char start[] = "/notify/";
	size_t length;

	if (strncmp(path, start, sizeof(start) - 1) != 0)
		return false;
	path += sizeof(start) - 1;
	length = strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789_");
	if (length == 0 || length >= size || path[length] != '/')
		return false;
	memcpy(provider, path, length);
	provider[length] = '\0';
	path += length + 1;
	length = strspn(path, "0123456789");
	return length > 0 && path[length] == '\0';
}

/*
 * Scheme and host of an address, nothing when there are none: passwords stand before the host, and
 * keys in paths and queries.
 */
void
address_host(const char *url, char *text, size_t size)
{
	size_t scheme = strspn(url, "abcdefghijklmnopqrstuvwxyz");
	const char *host = url + scheme + 3;
	const char *user;
	size_t length;

	text[0] = '\0';
	if (scheme == 0 || strncmp(url + scheme, "://", 3) != 0)
		return;
	length = strcspn(host, "/?#");
	user = length > 0 ? memrchr(host, '@', length) : NULL;
	if (user != NULL)
	{
		length -= (size_t) (user + 1 - host);
		host = user + 1;
	}
	if (scheme + 3 + length >= size)
		return;
	memcpy(text, url, scheme + 3);
	memcpy(text + scheme + 3, host, length);
	text[scheme + 3 + length] = '\0';
}
