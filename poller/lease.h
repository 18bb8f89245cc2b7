/*
 * lease.h - which gateways are ours: the part of the conversation that keeps two pollers off one bus
 */
#ifndef LEASE_H
#define LEASE_H

#include "db.h"
#include "field.h"

struct SmLease;
typedef struct SmLease SmLease;

/* What follows from it. */
typedef struct SmLeaseEvents
{
	void *context;
	void (*changed)(void *context); /* the plan is to be loaded: other gateways are ours now */
	void (*lapsed)(void *context);  /* nothing is ours any more */
	void (*superseded)(void *context);
} SmLeaseEvents;

extern SmLease *lease_create(SmLoop *loop, SmDb *db, SmField *field, const char *name,
							 const SmLeaseEvents *events);
extern void lease_free(SmLease *lease);
extern void lease_refresh(SmLease *lease);
extern void lease_look_soon(SmLease *lease);
extern void lease_applied(SmLease *lease);
extern void lease_claim_soon(SmLease *lease);
extern void lease_assume_alone(SmLease *lease);
extern bool lease_is_alone(const SmLease *lease);
extern bool lease_is_superseded(const SmLease *lease);
extern void lease_release(SmLease *lease);

#endif
