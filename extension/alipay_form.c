/*
 * alipay_form.c - the text Alipay signed of a notification
 *
 * A notification is a form. Signed are all its fields but sign and sign_type, each value decoded
 * exactly once, as name=value in the order of the names' bytes and joined by "&". Unknown fields
 * and empty ones count. What a second reader of the form could understand otherwise, such as a
 * field that comes twice, is refused as a whole.
 */
#include "alipay.h"

#include <stdlib.h>
#include <string.h>

bool
bytes_are(SmBytes bytes, const char *text)
{
	return bytes.length == strlen(text) && memcmp(bytes.at, text, bytes.length) == 0;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Decodes a part of a form in place. False for a percent sign without its two digits.
 */
static bool
form_decode(char *part, size_t length, SmBytes *decoded)
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++)
	{
		char c = part[i];

		if (c == '+')
			c = ' ';
		else if (c == '%')
		{
			int high = i + 2 < length ? hex_digit(part[i + 1]) : -1;
			int low = i + 2 < length ? hex_digit(part[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char) (high << 4 | low);
			i += 2;
		}
		part[used++] = c;
	}
	decoded->at = part;
	decoded->length = used;
	return true;
}

/*
 * One field: name=value, or a name alone, whose value is then empty.
 */
static bool
form_field(char *part, size_t length, SmFormField *field)
{
	char *equals = memchr(part, '=', length);
	size_t name_length = equals == NULL ? length : (size_t) (equals - part);
	char *value = equals == NULL ? part + length : equals + 1;

	return form_decode(part, name_length, &field->name) && field->name.length > 0 &&
		   form_decode(value, (size_t) (part + length - value), &field->value);
}

static int
field_compare(const void *left, const void *right)
{
	const SmFormField *a = left;
	const SmFormField *b = right;
	size_t both = a->name.length < b->name.length ? a->name.length : b->name.length;
	int order = memcmp(a->name.at, b->name.at, both);

	if (order != 0)
		return order;
	return (a->name.length > b->name.length) - (a->name.length < b->name.length);
}

/*
 * Decodes a form in place into its fields, in the order of their names. Returns how many there
 * are; -1 when it is no form, has a name twice or too many fields.
 */
int
form_parse(char *body, size_t length, SmFormField fields[ALIPAY_FIELDS_MAX])
{
	int count = 0;
	size_t from = 0;

	while (from < length)
	{
		char *end = memchr(body + from, '&', length - from);
		size_t upto = end == NULL ? length : (size_t) (end - body);

		if (count == ALIPAY_FIELDS_MAX || !form_field(body + from, upto - from, &fields[count]))
			return -1;
		count++;
		from = upto + 1;
	}
	if (count == 0 || body[length - 1] == '&')
		return -1;
	qsort(fields, (size_t) count, sizeof(SmFormField), field_compare);
	for (int i = 1; i < count; i++)
		if (field_compare(&fields[i - 1], &fields[i]) == 0)
			return -1;
	return count;
}

static void
text_add(char *text, size_t *length, SmBytes bytes)
{
	memcpy(text + *length, bytes.at, bytes.length);
	*length += bytes.length;
}

/*
 * The text that was signed of a form from form_parse(), and its signature in base64. False without
 * a signature, for one of another kind than RSA2, and when the text has no room: that of the body
 * and one byte for each field is enough.
 */
bool
alipay_form_text(SmFormField *fields, int n_fields, char *text, size_t size, size_t *length,
				 SmBytes *sign)
{
	bool found = false;

	*length = 0;
	for (int i = 0; i < n_fields; i++)
	{
		SmFormField *field = &fields[i];

		if (bytes_are(field->name, "sign"))
		{
			*sign = field->value;
			found = true;
			continue;
		}
		if (bytes_are(field->name, "sign_type"))
		{
			if (!bytes_are(field->value, "RSA2"))
				return false;
			continue;
		}
		if (*length + field->name.length + field->value.length + 2 > size)
			return false;
		if (*length > 0)
			text[(*length)++] = '&';
		text_add(text, length, field->name);
		text[(*length)++] = '=';
		text_add(text, length, field->value);
	}
	return found;
}
