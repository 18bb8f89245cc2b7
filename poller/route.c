/*
 * route.c - how a gateway is reached, as the plan says it
 */
#include <stdlib.h>
#include <string.h>

#include "route.h"

/*
 * Splits host:port or [host]:port; the parts are the caller's to free. False when there is no
 * port, or one that cannot be.
 */
bool
route_split_address(const char *address, char **host, char **port)
{
	const char *colon = address != NULL ? strrchr(address, ':') : NULL;
	size_t length = colon != NULL ? (size_t) (colon - address) : 0;
	int64_t number;

	if (length == 0 || !base_parse_int(colon + 1, 1, 65535, &number))
		return false;
	if (address[0] == '[' && address[length - 1] == ']')
	{
		address++;
		length -= 2;
	}
	else if (memchr(address, ':', length) != NULL)
		return false;
	if (length == 0 || memchr(address, ' ', length) != NULL)
		return false;
	*host = base_copy(address);
	(*host)[length] = '\0';
	*port = base_copy(colon + 1);
	return true;
}

/* Reads the last part of a line's address: 8N1, 7E1, 8O2. */
static bool
route_parse_frame(const char *text, SmSerialLine *line)
{
	if (strlen(text) != 3 || (text[0] != '7' && text[0] != '8') || strchr("NEO", text[1]) == NULL ||
		(text[2] != '1' && text[2] != '2'))
		return false;
	line->bits = text[0] - '0';
	line->parity = text[1];
	line->stop = text[2] - '0';
	return true;
}

/* Reads /dev/ttyUSB0:9600:8N1; the device is the caller's to free. */
bool
route_parse_line(const char *address, char **device, SmSerialLine *line)
{
	static const int rates[] = {300,   600,   1200,  2400,   4800,  9600,
								19200, 38400, 57600, 115200, 230400};
	const char *frame = address != NULL ? strrchr(address, ':') : NULL;
	const char *baud = frame;
	char number[8] = "";
	int64_t value;
	size_t i;

	while (baud != NULL && baud > address && baud[-1] != ':')
		baud--;
	if (baud == NULL || baud - 1 <= address || address[0] != '/' ||
		(size_t) (frame - baud) >= sizeof(number) || !route_parse_frame(frame + 1, line))
		return false;
	memcpy(number, baud, (size_t) (frame - baud));
	if (!base_parse_int(number, 300, 230400, &value))
		return false;
	for (i = 0; i < sizeof(rates) / sizeof(rates[0]) && rates[i] != value; i++)
		;
	if (i == sizeof(rates) / sizeof(rates[0]))
		return false;
	line->baud = (int) value;
	*device = base_copy(address);
	(*device)[baud - 1 - address] = '\0';
	return true;
}

static int
route_hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return -1;
}

/* Takes text as it is, and \x followed by hex digits, with or without blanks, as bytes. */
bool
route_parse_bytes(const char *text, SmBytes *bytes)
{
	uint8_t data[ROUTE_BYTES_MAX];
	int digits = 0;

	memset(bytes, 0, sizeof(*bytes));
	bytes->text = strncmp(text, "\\x", 2) != 0;
	if (bytes->text)
	{
		if (text[0] == '\0' || strlen(text) > ROUTE_BYTES_MAX)
			return false;
		bytes->length = (int) strlen(text);
		bytes->data = (uint8_t *) base_copy(text);
		return true;
	}
	for (text += 2; *text != '\0'; text++)
	{
		int digit = route_hex_digit(*text);

		if (*text == ' ')
			continue;
		if (digit < 0 || digits == 2 * ROUTE_BYTES_MAX)
			return false;
		data[digits / 2] = (uint8_t) (digits % 2 == 0 ? digit << 4 : data[digits / 2] | digit);
		digits++;
	}
	if (digits == 0 || digits % 2 != 0)
		return false;
	bytes->length = digits / 2;
	bytes->data = base_alloc((size_t) bytes->length);
	memcpy(bytes->data, data, (size_t) bytes->length);
	return true;
}

/* Reads the address of a 376.1 concentrator: four digits of its region, and its number. */
bool
route_parse_station(const char *text, unsigned *region, unsigned *terminal)
{
	int64_t number;
	int i;

	*region = 0;
	for (i = 0; i < 4; i++)
	{
		if (route_hex_digit(text[i]) < 0)
			return false;
		*region = *region << 4 | (unsigned) route_hex_digit(text[i]);
	}
	if (text[4] != '-' || !base_parse_int(text + 5, 0, 65535, &number))
		return false;
	*terminal = (unsigned) number;
	return true;
}

/* Reads bytes that may be missing. */
static bool
route_parse_optional(const char *text, SmBytes *bytes)
{
	return text == NULL || text[0] == '\0' || route_parse_bytes(text, bytes);
}

/* Reads what belongs to a device that dials in; what is wrong, or NULL. */
static const char *
route_parse_listen(const SmRouteText *text, SmRoute *route)
{
	unsigned region;
	unsigned terminal;

	route->kind = ROUTE_LISTEN;
	if (!route_split_address(text->address, &route->host, &route->port))
		return "the address to listen on is not host:port";
	if (text->registration == NULL || !route_parse_bytes(text->registration, &route->registration))
		return "its registration is neither text nor \\x and hex digits";
	if (route->station && !route_parse_station(text->registration, &region, &terminal))
		return "its registration is not region-terminal, such as 4403-01234";
	return NULL;
}

/* Reads what belongs to a gateway we connect to; what is wrong, or NULL. */
static const char *
route_parse_dial(const SmRouteText *text, SmRoute *route)
{
	route->kind = ROUTE_DIAL;
	if (!route_split_address(text->address, &route->host, &route->port))
		return "its address is not host:port";
	if (text->backup != NULL &&
		!route_split_address(text->backup, &route->backup_host, &route->backup_port))
		return "its backup address is not host:port";
	return NULL;
}

/* Reads what belongs to a serial line; what is wrong, or NULL. */
static const char *
route_parse_serial(const SmRouteText *text, SmRoute *route)
{
	route->kind = ROUTE_SERIAL;
	if (text->dial_in || text->tls || text->backup != NULL)
		return "a serial line neither dials in nor has TLS or a backup address";
	if (!route_parse_line(text->address, &route->host, &route->line))
		return "its address is not device:baud:8N1";
	return NULL;
}

/* Understands how a gateway is reached; false and why when it cannot be. Freed by route_free(). */
bool
route_parse(const SmRouteText *text, SmRoute *route, const char **why)
{
	bool serial = strcmp(text->transport, "rtu") == 0 || strcmp(text->transport, "dlt645") == 0;

	memset(route, 0, sizeof(*route));
	route->tls = text->tls;
	route->station = text->dial_in && strcmp(text->transport, "q376-transparent") == 0;
	route->address = base_copy(text->address != NULL ? text->address : "");
	*why = serial          ? route_parse_serial(text, route)
		   : text->dial_in ? route_parse_listen(text, route)
						   : route_parse_dial(text, route);
	if (*why == NULL && (!route_parse_optional(text->heartbeat, &route->heartbeat) ||
						 !route_parse_optional(text->heartbeat_answer, &route->heartbeat_answer)))
		*why = "its heartbeat is neither text nor \\x and hex digits";
	if (*why == NULL)
		return true;
	route_free(route);
	return false;
}

void
route_free(SmRoute *route)
{
	free(route->address);
	free(route->host);
	free(route->port);
	free(route->backup_host);
	free(route->backup_port);
	free(route->registration.data);
	free(route->heartbeat.data);
	free(route->heartbeat_answer.data);
	memset(route, 0, sizeof(*route));
}

static bool
route_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
route_same_bytes(const SmBytes *a, const SmBytes *b)
{
	return a->text == b->text && a->length == b->length &&
		   (a->length == 0 || memcmp(a->data, b->data, (size_t) a->length) == 0);
}

/* Whether a connection by one of them is one by the other. */
bool
route_is_same(const SmRoute *a, const SmRoute *b)
{
	return a->kind == b->kind && a->tls == b->tls && a->station == b->station &&
		   strcmp(a->address, b->address) == 0 && route_same_text(a->backup_host, b->backup_host) &&
		   route_same_text(a->backup_port, b->backup_port) &&
		   route_same_bytes(&a->registration, &b->registration);
}

/*
 * Whether bytes begin with what a device says. Text may be followed by an end of line. taken: how
 * many bytes it was.
 */
SmMatch
route_match(const SmBytes *said, const uint8_t *bytes, int length, int *taken)
{
	int common = length < said->length ? length : said->length;

	if (said->length == 0 || memcmp(bytes, said->data, (size_t) common) != 0)
		return MATCH_NONE;
	if (length < said->length)
		return MATCH_PARTIAL;
	*taken = said->length;
	while (said->text && *taken < length && *taken < said->length + 2 &&
		   (bytes[*taken] == '\r' || bytes[*taken] == '\n'))
		(*taken)++;
	return MATCH_WHOLE;
}

/*
 * Whether bytes begin with something a device says of its own accord: its heartbeat (beat), its
 * registration once more, or an end of line that belongs to one of them.
 */
SmMatch
route_chatter(const SmRoute *route, const uint8_t *bytes, int length, int *taken, bool *beat)
{
	SmMatch heart = route_match(&route->heartbeat, bytes, length, taken);
	SmMatch name = MATCH_NONE;

	*beat = heart == MATCH_WHOLE;
	if (*beat)
		return MATCH_WHOLE;
	if (!route->station)
		name = route_match(&route->registration, bytes, length, taken);
	if (name == MATCH_WHOLE)
		return MATCH_WHOLE;
	if (length > 0 && (bytes[0] == '\r' || bytes[0] == '\n') &&
		((route->registration.text && !route->station) || route->heartbeat.text))
	{
		*taken = 1;
		return MATCH_WHOLE;
	}
	return heart == MATCH_PARTIAL || name == MATCH_PARTIAL ? MATCH_PARTIAL : MATCH_NONE;
}
