/*
 * route.h - how a gateway is reached, as the plan says it
 *
 * Pure but for memory: texts become numbers and bytes here, and nothing is opened.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include "base.h"

#define ROUTE_BYTES_MAX 128

typedef enum SmRouteKind
{
	ROUTE_DIAL,   /* we connect to it */
	ROUTE_LISTEN, /* it connects to us */
	ROUTE_SERIAL  /* a line of this machine */
} SmRouteKind;

/* Bytes a device says or wants to hear. */
typedef struct SmBytes
{
	bool text; /* written as text: line ends around it do not count */
	int length;
	uint8_t *data;
} SmBytes;

typedef struct SmSerialLine
{
	int baud;
	int bits;
	char parity; /* N, E or O */
	int stop;
} SmSerialLine;

typedef struct SmRoute
{
	SmRouteKind kind;
	bool tls;
	bool station;  /* a concentrator that says who it is in frames of 376.1 */
	char *address; /* as it is written */
	char *host;    /* to connect to, or to listen on; the device of a line */
	char *port;
	char *backup_host; /* NULL: there is none */
	char *backup_port;
	SmSerialLine line;
	SmBytes registration;
	SmBytes heartbeat;
	SmBytes heartbeat_answer;
} SmRoute;

/* The columns of a gateway that say how it is reached; NULL where there is nothing. */
typedef struct SmRouteText
{
	const char *transport;
	const char *address;
	const char *backup;
	const char *registration;
	const char *heartbeat;
	const char *heartbeat_answer;
	bool dial_in;
	bool tls;
} SmRouteText;

/* What bytes are to something a device may say. */
typedef enum SmMatch
{
	MATCH_NONE,
	MATCH_PARTIAL, /* it could become one with more bytes */
	MATCH_WHOLE
} SmMatch;

extern bool route_parse(const SmRouteText *text, SmRoute *route, const char **why);
extern void route_free(SmRoute *route);
extern bool route_is_same(const SmRoute *a, const SmRoute *b);
extern bool route_split_address(const char *address, char **host, char **port);
extern bool route_parse_line(const char *address, char **device, SmSerialLine *line);
extern bool route_parse_bytes(const char *text, SmBytes *bytes);
extern SmMatch route_match(const SmBytes *said, const uint8_t *bytes, int length, int *taken);
extern SmMatch route_chatter(const SmRoute *route, const uint8_t *bytes, int length, int *taken,
							 bool *beat);
extern bool route_parse_station(const char *text, unsigned *region, unsigned *terminal);

#endif
