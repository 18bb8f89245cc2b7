/*
 * wechat.h - what WeChat Pay's headers say about a signature
 *
 * Pure: no I/O, no memory, any bytes.
 */
#ifndef SUBMETER_WECHAT_H
#define SUBMETER_WECHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alipay.h"

#define WECHAT_WINDOW_S 300
#define WECHAT_HEADER_MAX 1024

/* Values of the headers; those that did not come have no bytes. */
typedef struct SmWechatHeaders
{
	SmBytes timestamp;
	SmBytes nonce;
	SmBytes signature;
	SmBytes type;
} SmWechatHeaders;

extern bool wechat_is_probe(SmBytes signature);
extern bool wechat_headers_fit(const SmWechatHeaders *headers, int64_t now_s);
extern size_t wechat_message(const SmWechatHeaders *headers, SmBytes body, char *message);

#endif
