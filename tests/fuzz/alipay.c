/*
 * alipay.c - any bytes as a notification or an answer of Alipay: nothing is read beyond them, and
 * what counts as signed lies inside them
 */
/* links: extension/alipay_form.c extension/alipay_node.c */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../extension/alipay.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
try_form(const uint8_t *bytes, size_t size)
{
	static SmFormField fields[ALIPAY_FIELDS_MAX];
	char *body = malloc(size + 1);
	char *text = malloc(size + ALIPAY_FIELDS_MAX);
	SmBytes sign;
	size_t length;
	int n_fields;

	memcpy(body, bytes, size);
	n_fields = form_parse(body, size, fields);
	if (n_fields > ALIPAY_FIELDS_MAX || n_fields == 0)
		abort();
	if (n_fields > 0 &&
		alipay_form_text(fields, n_fields, text, size + ALIPAY_FIELDS_MAX, &length, &sign) &&
		(length > size + ALIPAY_FIELDS_MAX || sign.at < body ||
		 sign.at + sign.length > body + size))
		abort();
	free(text);
	free(body);
}

static void
try_node(const uint8_t *bytes, size_t size)
{
	char *body = malloc(size + 1);
	SmBytes name = {"n", 1};
	SmAlipayNode node;

	memcpy(body, bytes, size);
	if (alipay_node_find(body, size, name, &node) &&
		(node.content.length < 2 || node.content.at <= body ||
		 node.content.at + node.content.length > body + size || node.sign.at <= body ||
		 node.sign.at + node.sign.length > body + size))
		abort();
	free(body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	try_form(bytes, size);
	try_node(bytes, size);
	return 0;
}
