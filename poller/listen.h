/*
 * listen.h - gateways that dial in: doors they knock at, and who is let in
 */
#ifndef LISTEN_H
#define LISTEN_H

#include "field.h"

#define LISTEN_HELLO 256
#define LISTEN_SHOWN 48
#define LISTEN_PEER 56

struct SmListen;
typedef struct SmListen SmListen;

/* Somebody who dialled in and is no gateway of the plan. */
typedef struct SmStranger
{
	char address[64]; /* where it knocked */
	char peer[LISTEN_PEER];
	uint8_t said[LISTEN_SHOWN];
	int length;
	int64_t times; /* since it was last reported */
	int64_t seen_ms;
	bool told;
} SmStranger;

extern SmListen *listen_create(SmField *field);
extern void listen_free(SmListen *listen);
extern void listen_apply(SmListen *listen);
extern SmStranger *listen_strangers(SmListen *listen, int *count);

#endif
