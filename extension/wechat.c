/*
 * wechat.c - what WeChat Pay's headers say about a signature
 *
 * Signed are timestamp, nonce and body, each with a line feed behind it. Headers that are missing
 * or of an unknown kind, a time more than five minutes off and WeChat's own probes of our care
 * (a signature that begins with a fixed word) all mean the same: not signed.
 */
#include "wechat.h"

#include <string.h>

static const char signature_type[] = "WECHATPAY2-SHA256-RSA2048";
static const char probe_prefix[] = "WECHATPAY/SIGNTEST/";

/*
 * Seconds since 1970 in decimal; false for anything else.
 */
static bool
timestamp_read(SmBytes text, int64_t *seconds)
{
	*seconds = 0;
	if (text.length == 0 || text.length > 12)
		return false;
	for (size_t i = 0; i < text.length; i++)
	{
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		*seconds = *seconds * 10 + (text.at[i] - '0');
	}
	return true;
}

/*
 * A nonce is one line: with a line feed in it the border to the body would be anywhere.
 */
static bool
nonce_fits(SmBytes nonce)
{
	for (size_t i = 0; i < nonce.length; i++)
		if ((unsigned char) nonce.at[i] < 0x20 || nonce.at[i] == 0x7F)
			return false;
	return nonce.length > 0 && nonce.length <= WECHAT_HEADER_MAX;
}

/*
 * True for a signature that is wrong on purpose: WeChat looks whether we check.
 */
bool
wechat_is_probe(SmBytes signature)
{
	return signature.length >= strlen(probe_prefix) &&
		   memcmp(signature.at, probe_prefix, strlen(probe_prefix)) == 0;
}

/*
 * True when the headers are worth looking at the signature.
 */
bool
wechat_headers_fit(const SmWechatHeaders *headers, int64_t now_s)
{
	int64_t seconds;

	if (!timestamp_read(headers->timestamp, &seconds) || !nonce_fits(headers->nonce) ||
		headers->signature.length == 0 || wechat_is_probe(headers->signature))
		return false;
	if (headers->type.at != NULL && !bytes_are(headers->type, signature_type))
		return false;
	return seconds - now_s < WECHAT_WINDOW_S && now_s - seconds < WECHAT_WINDOW_S;
}

static size_t
line_add(char *message, size_t used, SmBytes part)
{
	if (part.length > 0)
		memcpy(message + used, part.at, part.length);
	message[used + part.length] = '\n';
	return used + part.length + 1;
}

/*
 * Writes the signed message; it needs the lengths of its parts and three bytes. Returns its length.
 */
size_t
wechat_message(const SmWechatHeaders *headers, SmBytes body, char *message)
{
	size_t used = line_add(message, 0, headers->timestamp);

	used = line_add(message, used, headers->nonce);
	return line_add(message, used, body);
}
