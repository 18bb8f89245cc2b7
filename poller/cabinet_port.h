/*
 * cabinet_port.h - one question at a time over a link, waiting for the answer
 */
#ifndef CABINET_PORT_H
#define CABINET_PORT_H

#include "link.h"
#include "wire.h"

#define PORT_BYTES 4096
#define PORT_WHY 160

typedef enum SmPortOutcome
{
	PORT_GOOD,
	PORT_REFUSED, /* result says why */
	PORT_SILENT,
	PORT_LOST /* why says what became of the connection */
} SmPortOutcome;

typedef struct SmPort
{
	SmLoop *loop;
	SmLink link;
	SmRoute route;
	SmWire wire;
	SmTimer timer;
	int timeout_ms;
	bool frames;  /* print what goes both ways */
	bool dial_in; /* the device connects to us */
	bool up;
	bool down;
	bool late;  /* the time is over */
	bool fresh; /* bytes have come */
	char why[PORT_WHY];
	uint8_t bytes[PORT_BYTES];
	int length;
	SmResult result;
	SmJoin join;    /* the data of a good answer */
	char stray[64]; /* who answered instead, in words; empty: nobody */
	int stray_unit; /* the same of Modbus, else -1 */
} SmPort;

/* Frames that came while listening, for port_collect(). */
typedef struct SmPortCatch
{
	SmDltFrame frames[32];
	int count;
	int noise; /* bytes that belong to none */
} SmPortCatch;

/* cabinet_door.c */
extern bool door_wait(SmPort *port);

/* cabinet_port.c */
extern bool port_open(SmPort *port, const char *address, const char *wire, int timeout_ms);
extern void port_close(SmPort *port);
extern SmPortOutcome port_ask(SmPort *port, const SmRequest *request, int timeout_ms);
extern bool port_collect(SmPort *port, const SmRequest *request, int timeout_ms,
						 SmPortCatch *caught);
extern const char *port_outcome_text(const SmPort *port, SmPortOutcome outcome);
extern void port_print(const SmPort *port, char direction, const uint8_t *bytes, int length);

#endif
