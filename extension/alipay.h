/*
 * alipay.h - which bytes of Alipay's messages are signed
 *
 * Pure: no I/O, no memory, any bytes.
 */
#ifndef SUBMETER_ALIPAY_H
#define SUBMETER_ALIPAY_H

#include <stdbool.h>
#include <stddef.h>

#define ALIPAY_FIELDS_MAX 256

/* A stretch of somebody else's bytes. */
typedef struct SmBytes
{
	const char *at;
	size_t length;
} SmBytes;

typedef struct SmFormField
{
	SmBytes name;
	SmBytes value;
} SmFormField;

/* What a response carries: the signed text of a node and, without its quotes, the signature. */
typedef struct SmAlipayNode
{
	SmBytes content;
	SmBytes sign;
} SmAlipayNode;

extern bool bytes_are(SmBytes bytes, const char *text);

/* alipay_form.c */
extern int form_parse(char *body, size_t length, SmFormField fields[ALIPAY_FIELDS_MAX]);
extern bool alipay_form_text(SmFormField *fields, int n_fields, char *text, size_t size,
							 size_t *length, SmBytes *sign);

/* alipay_node.c */
extern bool alipay_node_find(const char *body, size_t length, SmBytes name, SmAlipayNode *node);

#endif
