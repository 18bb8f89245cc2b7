/*
 * test_courier_header.c - header lines as JSON, the paths of notifications, and what may be said of an
 * address
 */
/* links: poller/courier/header.c poller/courier/address.c poller/base.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/courier/courier.h"
#include "test_poller_tap.h"

/* The headers of a text, a line each, as JSON. */
static char *
headers_of(const char *text)
{
	static char kept[1024];
	SmHeaders headers = {0};
	SmText json;

	while (*text != '\0')
	{
		size_t length = strcspn(text, "\n");
		size_t name;
		size_t start;
		size_t value;

		length += text[length] == '\n';
		if (header_split(text, length, &name, &start, &value))
			headers_add(&headers, text, name, text + start, value);
		text += length;
	}
	json = headers_take(&headers);
	snprintf(kept, sizeof(kept), "%s", json.data);
	text_free(&json);
	return kept;
}

static void
test_headers(void)
{
	is_text(headers_of(""), "{}", "none");
	is_text(headers_of("HTTP/1.1 200 OK\r\nA-b: c d \r\n\r\n"), "{\"a-b\":\"c d\"}",
			"names are lower case, the status line is none");
	is_text(headers_of("a: 1\nb: 2\nA: 3\n"), "{\"a\":\"1\",\"b\":\"2\",\"a\":null}",
			"what comes again has no value");
	is_text(headers_of("aa: 1\na: 2\nb:a\n"), "{\"aa\":\"1\",\"a\":\"2\",\"b\":\"a\"}",
			"a name that is part of another is not the same");
	is_text(headers_of("a: 1\n b: 2\nc 3\n: 4\n"), "{\"a\":\"1\"}", "continuations and no headers");
	is_text(headers_of("a: \"\\\x01\x7F\xE7\n"), "{\"a\":\"\\u0022\\u005c\\u0001\\u007f\\u00e7\"}",
			"bytes that JSON does not have");
	is_text(headers_of("a:\nb:  \r\n"), "{\"a\":\"\",\"b\":\"\"}", "values of nothing");
}

static const char *
provider_of(const char *path)
{
	static char provider[8];

	return address_provider(path, provider, sizeof(provider)) ? provider : NULL;
}

static void
test_paths(void)
{
	is_text(provider_of("/notify/alipay/3"), "alipay", "a notification");
	is_text(provider_of("/notify/alipay/"), NULL, "for nobody");
	is_text(provider_of("/notify/alipay/3/"), NULL, "and more");
	is_text(provider_of("/notify/alipay/3?x=1"), NULL, "and a query");
	is_text(provider_of("/notify/alipay/%33"), NULL, "written differently");
	is_text(provider_of("/notify/alipay/3%00"), NULL, "with an end inside");
	is_text(provider_of("/notify/../notify/alipay/3"), NULL, "around a corner");
	is_text(provider_of("/notify//3"), NULL, "without a provider");
	is_text(provider_of("/notify/Alipay/3"), NULL, "names are lower case");
	is_text(provider_of("/notify/wechatpay/3"), NULL, "longer than there is room");
	is_text(provider_of("/notify"), NULL, "too short");
	is_text(provider_of("notify/alipay/3"), NULL, "not from the root");
}

static const char *
host_of(const char *url)
{
	static char host[64];

	address_host(url, host, sizeof(host));
	return host;
}

static void
test_hosts(void)
{
	char longer[200] = "https://";

	is_text(host_of("https://example.org:8443/hook/token?key=k#f"), "https://example.org:8443",
			"no path, no query");
	is_text(host_of("smtp://user:pass@mail.example.org"), "smtp://mail.example.org", "no password");
	is_text(host_of("https://a@b:c@d/e@f"), "https://d", "the last @ of the host counts");
	is_text(host_of("https://x?u:p@h"), "https://x", "a query without a path");
	is_text(host_of("no address"), "", "none");
	is_text(host_of("user:pass@x://y"), "", "what stands before is no scheme");
	memset(longer + 8, 'a', sizeof(longer) - 9);
	is_text(host_of(longer), "", "longer than there is room");
}

int
main(void)
{
	test_headers();
	test_paths();
	test_hosts();
	return tap_done();
}
