/* dial.h - gateways that call the poller */
#ifndef DIAL_H
#define DIAL_H

#include "net.h"

typedef struct SmPacket
{
	int length;
	uint8_t bytes[PACKET_MAX];
} SmPacket;

typedef struct SmDial
{
	char host[NAME_SIZE];
	int number;
	SmPacket registration;
	SmPacket heartbeat;
	SmPacket heartbeat_answer;
	int64_t every_ns;
	int64_t retry_ns;
	SmConnection *current; /* the connection in use */
	int64_t next_call_ns;
	int64_t next_beat_ns;
	int64_t calls;
	int64_t registrations;
	int64_t heartbeats;
	int64_t heartbeat_answers;
	uint16_t region; /* a 376.1 terminal's address: four digits */
	uint16_t terminal;
} SmDial;

extern bool dial_parse(SmPort *port, const char *where, SmError *error);
extern bool dial_option(SmPort *port, const char *key, const char *value);
extern bool dial_packet(const SmPort *port, const char *text, SmPacket *packet);
extern void dial_call(SmPort *port);
extern void dial_again(SmPort *port, bool leave_open);
extern void dial_connected(SmConnection *connection);
extern void dial_begin(SmConnection *connection);
extern void dial_take(SmPort *port, SmConnection *connection);
extern void dial_lost(SmPort *port, const SmConnection *connection);
extern bool dial_name(const SmPort *port, struct ssl_st *ssl);
extern void dial_heard(SmPort *port);

#endif
