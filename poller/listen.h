/*
 * listen.h - gateways that dial in: doors they knock at, and who is let in
 */
#ifndef LISTEN_H
#define LISTEN_H

#include "field.h"
#include "stranger.h"

#define LISTEN_HELLO 256

struct SmListen;
typedef struct SmListen SmListen;

extern int listen_bind(const SmRoute *route, const char **why);
extern SmListen *listen_create(SmField *field);
extern void listen_free(SmListen *listen);
extern void listen_apply(SmListen *listen);
extern SmStrangers *listen_strangers(SmListen *listen);

#endif
