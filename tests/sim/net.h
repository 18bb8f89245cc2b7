/* net.h - ports, connections and their bytes */
#ifndef NET_H
#define NET_H

#include "farm.h"

#define IN_MAX 2048
#define LAST_MAX 600

struct SmChunk;
struct ssl_st;

typedef struct SmConnection
{
	SmSourceKind source;
	struct SmConnection *next;
	SmPort *port;
	int fd;
	int references; /* one for being open, one for each chunk in the queue */
	bool connecting;
	bool shaking;   /* the TLS handshake is under way */
	bool abandoned; /* left open by a gateway that has dialled again */
	bool watched;
	struct ssl_st *ssl;
	int64_t last_due_ns;
	struct SmChunk *held; /* a late answer, sent when the next request comes */
	int64_t last_in_ns;
	int in_length;
	uint8_t in[IN_MAX];
	uint8_t *out; /* what the peer does not take yet */
	size_t out_length;
	int last_length;
	uint8_t last[LAST_MAX]; /* the answer before */
	bool logged_in;         /* a 376.1 concentrator whose login was confirmed */
	uint8_t sequence;
} SmConnection;

extern bool net_open(SmPort *port, SmError *error);
extern void net_down(SmPort *port);
extern bool net_is_up(const SmPort *port);
extern void net_accept(SmPort *port);
extern SmConnection *net_connection(SmPort *port, int fd, bool connecting);
extern void net_ready(SmConnection *connection, uint32_t events);
extern void net_send(SmConnection *connection, const uint8_t *bytes, int length);
extern void net_close(SmConnection *connection);
extern void net_consume(SmConnection *connection, int length);
extern void net_release(SmConnection *connection);
extern void net_watch_for(SmConnection *connection);
extern void net_half_open(SmPort *port, bool on);
extern void net_abandon(SmPort *port);
extern void net_bury(SmFarm *farm);
extern bool net_watch(SmFarm *farm, int fd, uint32_t events, void *source);

#endif
