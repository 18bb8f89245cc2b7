/*
 * test_poller_route.c - how gateways are reached: addresses, lines, and what devices say first
 */
/* links: poller/route.c poller/base.c */
/* libs: -lm */
#include <stdlib.h>

#include "../../poller/route.h"
#include "test_poller_tap.h"

/* Whether a line's address is understood, and as what. */
static bool
line_is(const char *address, const char *device, int baud, int bits, char parity, int stop)
{
	SmSerialLine line = {0};
	char *found = NULL;
	bool good = route_parse_line(address, &found, &line);
	bool same = good && strcmp(found, device) == 0 && line.baud == baud && line.bits == bits &&
				line.parity == parity && line.stop == stop;

	free(found);
	return same;
}

static void
test_line(void)
{
	static const char *const bad[] = {
		"/dev/ttyS0",           "/dev/ttyS0:9600",    "/dev/ttyS0:9601:8N1", "/dev/ttyS0:9600:8N3",
		"/dev/ttyS0:9600:9N1",  "/dev/ttyS0::8N1",    ":9600:8N1",           "ttyS0:9600:8N1",
		"/dev/ttyS0:9600:8N1x", "/dev/ttyS0:9e3:8N1", "/dev/a:99999999:8E1", ""};
	bool refused = true;
	char *device = NULL;
	SmSerialLine line;
	size_t i;

	ok(line_is("/dev/ttyUSB0:9600:8N1", "/dev/ttyUSB0", 9600, 8, 'N', 1), "a usual line");
	ok(line_is("/dev/ttyS1:2400:8E1", "/dev/ttyS1", 2400, 8, 'E', 1), "even parity");
	ok(line_is("/dev/serial/by-id/a:b:19200:7O2", "/dev/serial/by-id/a:b", 19200, 7, 'O', 2),
	   "a name with a colon, odd parity");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused = refused && !route_parse_line(bad[i], &device, &line);
	ok(refused && !route_parse_line(NULL, &device, &line) && device == NULL, "what is no line");
}

static void
test_bytes(void)
{
	static const char *const bad[] = {"", "\\x", "\\x1", "\\x0g", "\\x 1"};
	SmBytes bytes;
	bool refused = true;
	size_t i;

	ok(route_parse_bytes("\\x01 fF", &bytes) && bytes.length == 2 && bytes.data[0] == 1 &&
		   bytes.data[1] == 255 && !bytes.text,
	   "hex digits");
	free(bytes.data);
	ok(route_parse_bytes("REG-1", &bytes) && bytes.length == 5 && bytes.text, "text");
	free(bytes.data);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused = refused && !route_parse_bytes(bad[i], &bytes);
	ok(refused, "what is neither");
}

/* What bytes are to something said; the bytes taken are added to a match. */
static int
match(const char *said, const char *heard)
{
	SmBytes bytes;
	int taken = 0;
	SmMatch kind;

	route_parse_bytes(said, &bytes);
	kind = route_match(&bytes, (const uint8_t *) heard, (int) strlen(heard), &taken);
	free(bytes.data);
	return (int) kind * 100 + taken;
}

static void
test_match(void)
{
	is(match("ABC", "ABC"), 203, "said");
	is(match("ABC", "ABCdef"), 203, "said, and more after it");
	is(match("ABC", "ABC\r\nx"), 205, "the end of a line belongs to text");
	is(match("\\x414243", "ABC\r\n"), 203, "but not to bytes");
	is(match("ABC", "AB"), 100, "not all of it yet");
	is(match("ABC", ""), 100, "nothing yet");
	is(match("ABC", "ABD"), 0, "something else");
	is(match("ABC", "xABC"), 0, "not at the beginning");
}

/* What a device's bytes are to a route: kind x 100 + bytes taken, + 1000 for a heartbeat. */
static int
chatter(const SmRoute *route, const char *heard)
{
	int taken = 0;
	bool beat = false;
	SmMatch kind =
		route_chatter(route, (const uint8_t *) heard, (int) strlen(heard), &taken, &beat);

	return (int) kind * 100 + (kind == MATCH_WHOLE ? taken : 0) + (beat ? 1000 : 0);
}

static void
test_chatter(void)
{
	SmRouteText text = {.transport = "modbus-tcp",
						.address = "*:5020",
						.registration = "MOD1",
						.heartbeat = "BEAT",
						.dial_in = true};
	SmRoute route;
	const char *why;

	route_parse(&text, &route, &why);
	is(chatter(&route, "BEATx"), 1204, "a heartbeat");
	is(chatter(&route, "BEAT\r\n"), 1206, "with the end of its line");
	is(chatter(&route, "MOD1"), 204, "the registration once more");
	is(chatter(&route, "\r\n"), 201, "the rest of a line");
	is(chatter(&route, "BE"), 100, "half a heartbeat");
	is(chatter(&route, "MO"), 100, "half a registration");
	is(chatter(&route, "BOAT"), 0, "neither");
	is(chatter(&route, ""), 100, "nothing yet");
	route_free(&route);
	text.registration = "\\x4d4f44";
	text.heartbeat = "\\x00";
	route_parse(&text, &route, &why);
	is(chatter(&route, "\r\n"), 0, "bytes have no lines");
	route_free(&route);
}

/* What is wrong with a route, "" when nothing is. */
static const char *
wrong(const char *transport, const char *address, const char *backup, const char *registration)
{
	SmRouteText text = {.transport = transport,
						.address = address,
						.backup = backup,
						.registration = registration,
						.dial_in = registration != NULL};
	SmRoute route;
	const char *why = "";

	if (!route_parse(&text, &route, &why))
		return why;
	route_free(&route);
	return "";
}

static void
test_route(void)
{
	SmRouteText text = {.transport = "q376-transparent",
						.address = "0.0.0.0:5020",
						.registration = "4403-01234",
						.heartbeat = "\\xFE",
						.dial_in = true};
	SmRoute a;
	SmRoute b;
	const char *why;

	is_text(wrong("modbus-tcp", "a:502", "b:503", NULL), "", "two addresses");
	is_text(wrong("modbus-tcp", "a", NULL, NULL), "its address is not host:port", "no port");
	is_text(wrong("modbus-tcp", "a:1", "b", NULL), "its backup address is not host:port",
			"a backup without port");
	is_text(wrong("rtu", "/dev/ttyS0:9600:8N1", NULL, NULL), "", "a serial line");
	is_text(wrong("rtu", "a:502", NULL, NULL), "its address is not device:baud:8N1",
			"an address is no line");
	is_text(wrong("dlt645", "/dev/ttyS0:2400:8E1", "b:1", NULL),
			"a serial line neither dials in nor has TLS or a backup address",
			"no line has a backup");
	is_text(wrong("rtu-over-tcp", "*", NULL, "x"), "the address to listen on is not host:port",
			"nowhere to listen");
	is_text(wrong("rtu-over-tcp", "[::]:5020", NULL, "\\x0"),
			"its registration is neither text nor \\x and hex digits", "half a byte to register");
	ok(route_parse(&text, &a, &why) && a.kind == ROUTE_LISTEN && a.station, "a concentrator");
	ok(route_parse(&text, &b, &why) && route_is_same(&a, &b), "is the same again");
	route_free(&b);
	text.registration = "4403-01235";
	ok(route_parse(&text, &b, &why) && !route_is_same(&a, &b), "another terminal is not");
	route_free(&a);
	route_free(&b);
}

int
main(void)
{
	test_line();
	test_bytes();
	test_match();
	test_chatter();
	test_route();
	return tap_done();
}
