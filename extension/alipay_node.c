/*
 * alipay_node.c - the text Alipay signed of a response
 *
 * A response is {"<node>":{...},"sign":"..."}; signed are the bytes of the node's value as they
 * stand there. So they are found by reading the object's structure, strings and escapes included,
 * never by decoding and writing it again. A body that another reader could understand otherwise is
 * refused: a name that comes twice, a name written with escapes, the node's name anywhere else, or
 * anything behind the object.
 */
#include "alipay.h"

#include <string.h>

#define NODE_DEPTH_MAX 64

/* Where in the body we are. */
typedef struct Scan
{
	const char *at;
	const char *end;
	bool utf8; /* false: GBK, whose second bytes may be a backslash */
} Scan;

/*
 * True when the bytes are well-formed UTF-8, as far as telling it from GBK needs it.
 */
static bool
bytes_are_utf8(const char *bytes, size_t length)
{
	size_t i = 0;

	while (i < length)
	{
		unsigned char c = (unsigned char) bytes[i++];
		int more = c < 0x80                ? 0
				   : c >= 0xC2 && c < 0xE0 ? 1
				   : c >= 0xE0 && c < 0xF0 ? 2
				   : c >= 0xF0 && c < 0xF5 ? 3
										   : -1;

		if (more < 0 || (size_t) more > length - i)
			return false;
		for (; more > 0; more--)
			if (((unsigned char) bytes[i++] & 0xC0) != 0x80)
				return false;
	}
	return true;
}

static void
scan_blanks(Scan *scan)
{
	while (scan->at < scan->end && strchr(" \t\r\n", *scan->at) != NULL && *scan->at != '\0')
		scan->at++;
}

static bool
scan_char(Scan *scan, char wanted)
{
	scan_blanks(scan);
	if (scan->at == scan->end || *scan->at != wanted)
		return false;
	scan->at++;
	return true;
}

/*
 * A string, with its quotes; escaped tells whether a backslash is in it.
 */
static bool
scan_string(Scan *scan, SmBytes *string, bool *escaped)
{
	const char *from;

	scan_blanks(scan);
	from = scan->at;
	*escaped = false;
	if (scan->at == scan->end || *scan->at != '"')
		return false;
	for (scan->at++; scan->at < scan->end; scan->at++)
	{
		unsigned char c = (unsigned char) *scan->at;

		if (c == '"')
		{
			scan->at++;
			string->at = from;
			string->length = (size_t) (scan->at - from);
			return true;
		}
		if (c < 0x20)
			return false;
		if (c == '\\')
		{
			*escaped = true;
			scan->at++;
		}
		else if (c > 0x80 && !scan->utf8)
			scan->at++;
	}
	return false;
}

/*
 * An object or array up to the bracket that closes it; brackets in strings do not count.
 */
static bool
scan_nested(Scan *scan)
{
	char closing[NODE_DEPTH_MAX];
	int depth = 0;
	SmBytes ignored;
	bool escaped;

	while (scan->at < scan->end)
	{
		char c = *scan->at;

		if (c == '"')
		{
			if (!scan_string(scan, &ignored, &escaped))
				return false;
			continue;
		}
		scan->at++;
		if (c == '{' || c == '[')
		{
			if (depth == NODE_DEPTH_MAX)
				return false;
			closing[depth++] = c == '{' ? '}' : ']';
		}
		else if (c == '}' || c == ']')
		{
			if (closing[depth - 1] != c)
				return false;
			if (--depth == 0)
				return true;
		}
	}
	return false;
}

/*
 * Any value, as it stands there.
 */
static bool
scan_value(Scan *scan, SmBytes *value)
{
	bool escaped;
	bool good = true;

	scan_blanks(scan);
	value->at = scan->at;
	if (scan->at == scan->end)
		return false;
	if (*scan->at == '"')
		return scan_string(scan, value, &escaped);
	if (*scan->at == '{' || *scan->at == '[')
		good = scan_nested(scan);
	else
		while (scan->at < scan->end && strchr(",}] \t\r\n", *scan->at) == NULL)
			scan->at++;
	value->length = (size_t) (scan->at - value->at);
	return good && value->length > 0;
}

/*
 * The name of a member, without its quotes, and the colon behind it.
 */
static bool
scan_name(Scan *scan, SmBytes *name)
{
	bool escaped;

	if (!scan_string(scan, name, &escaped) || escaped || !scan_char(scan, ':'))
		return false;
	name->at++;
	name->length -= 2;
	return true;
}

/*
 * True when the text contains the name as a quoted string.
 */
static bool
mentions(SmBytes text, SmBytes name)
{
	for (size_t i = 0; i + name.length + 2 <= text.length; i++)
		if (text.at[i] == '"' && text.at[i + name.length + 1] == '"' &&
			memcmp(text.at + i + 1, name.at, name.length) == 0)
			return true;
	return false;
}

/*
 * Takes one member of the response into account. False when it may not stand there.
 */
static bool
node_member(SmAlipayNode *node, SmBytes wanted, SmBytes name, SmBytes value)
{
	if (name.length == wanted.length && memcmp(name.at, wanted.at, name.length) == 0)
	{
		if (node->content.at != NULL || (value.at[0] != '{' && value.at[0] != '"'))
			return false;
		node->content = value;
		return true;
	}
	if (mentions(value, wanted))
		return false;
	if (!bytes_are(name, "sign"))
		return true;
	if (node->sign.at != NULL || value.at[0] != '"')
		return false;
	node->sign.at = value.at + 1;
	node->sign.length = value.length - 2;
	return true;
}

/*
 * Finds the signed text of a node and the signature of a response. False when the body is not
 * exactly one object with one of each.
 */
bool
alipay_node_find(const char *body, size_t length, SmBytes name, SmAlipayNode *node)
{
	Scan scan = {body, body + length, bytes_are_utf8(body, length)};

	memset(node, 0, sizeof(*node));
	if (name.length == 0 || bytes_are(name, "sign") || !scan_char(&scan, '{'))
		return false;
	do
	{
		SmBytes member;
		SmBytes value;

		if (!scan_name(&scan, &member) || !scan_value(&scan, &value) ||
			!node_member(node, name, member, value))
			return false;
	} while (scan_char(&scan, ','));
	if (!scan_char(&scan, '}'))
		return false;
	scan_blanks(&scan);
	return scan.at == scan.end && node->content.at != NULL && node->sign.at != NULL;
}
