/*
 * lease.c - which gateways are ours: the part of the conversation that keeps two pollers off one bus
 *
 * We say that we are alive three times as often as needed: for as long as the database says (30 s
 * unless set otherwise), from when we said so, the gateways of our plan are ours. When the time
 * runs out because the database cannot be reached, a poller that has others beside it lets go of
 * everything, for they will take over; one that was alone reads on. A device that dials in is ours
 * as soon as the database knows that it came.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lease.h"
#include "log.h"

#define LEASE_DEFAULT_US (30 * US_PER_S)
#define LEASE_RETRY_US (2 * US_PER_S)
#define LEASE_SOON_US (100 * US_PER_MS)
#define LEASE_MARGIN_US (2 * US_PER_S)
#define LEASE_HELD 40
#define LEASE_CLAIM_MOST 1000

struct SmLease
{
	SmLoop *loop;
	SmDb *db;
	SmField *field;
	SmLeaseEvents events;
	char *name;
	char instance[40];
	SmTimer again; /* to renew */
	SmTimer end;   /* of what we have */
	SmTimer claim;
	bool begun; /* the database knows this run */
	bool alone;
	bool superseded;
	bool over; /* it has run out */
	bool renewing;
	bool renew_again;
	bool claiming;
	bool claim_again;
	bool released;
	int64_t asked_us;
	int64_t length_us; /* how long a lease holds, as the database says */
	char held[LEASE_HELD];
	SmText sites; /* of the claim under way, as arrays */
	SmText gateways;
	char last_error[256];
};

static const char lease_renew_sql[] =
	"SELECT superseded, alone, lease_ms, held, lost_site_ids, lost_gateway_ids"
	" FROM submeter.renew_leases($1, $2, $3, $4::pg_catalog.bool)";
static const char lease_claim_sql[] = "SELECT submeter.claim_gateways($1, $2, $3)";
static const char lease_release_sql[] =
	"SELECT submeter.release_leases($1, $2, $3::pg_catalog.bool)";

static void lease_again(void *context);
static void lease_end(void *context);
static void lease_claim(void *context);

/* Makes leases of which there are none yet; freed by lease_free(). */
SmLease *
lease_create(SmLoop *loop, SmDb *db, SmField *field, const char *name, const SmLeaseEvents *events)
{
	SmLease *lease = base_alloc(sizeof(SmLease));

	lease->loop = loop;
	lease->db = db;
	lease->field = field;
	lease->name = base_copy(name);
	lease->events = *events;
	lease->length_us = LEASE_DEFAULT_US;
	snprintf(lease->instance, sizeof(lease->instance), "%lld-%ld", (long long) base_wall_ms(),
			 (long) getpid());
	lease->again.fire = lease_again;
	lease->again.context = lease;
	lease->end.fire = lease_end;
	lease->end.context = lease;
	lease->claim.fire = lease_claim;
	lease->claim.context = lease;
	return lease;
}

void
lease_free(SmLease *lease)
{
	loop_cancel(lease->loop, &lease->again);
	loop_cancel(lease->loop, &lease->end);
	loop_cancel(lease->loop, &lease->claim);
	text_free(&lease->sites);
	text_free(&lease->gateways);
	free(lease->name);
	free(lease);
}

/* Logs why a request failed, once for the same reason. */
static void
lease_complain(SmLease *lease, const SmDbReply *reply)
{
	if (reply->lost || strcmp(lease->last_error, reply->message) == 0)
		return;
	snprintf(lease->last_error, sizeof(lease->last_error), "%s", reply->message);
	log_error("could not renew the leases: %s (%s)", reply->message, reply->sqlstate);
}

/* The time is up, and the database could not be told that we are alive. */
static void
lease_end(void *context)
{
	SmLease *lease = context;

	if (lease->alone)
	{
		log_info("the database is away; this poller is the only one, so it reads on");
		return;
	}
	log_warning("the database is away and other pollers take over: nothing is read from now on");
	lease->over = true;
	lease->events.lapsed(lease->events.context);
}

/* A newer run has our name: we must not touch a bus again. */
static void
lease_give_up(SmLease *lease)
{
	log_error("another run of poller \"%s\" was started: this one reads and switches nothing any"
			  " more; give one of them another --name",
			  lease->name);
	lease->superseded = true;
	loop_cancel(lease->loop, &lease->end);
	lease->events.superseded(lease->events.context);
}

/* The next number of an array as PostgreSQL writes it; false at its end. */
static bool
lease_next_number(const char **text, int64_t *number)
{
	char *end;

	if (**text == '{' || **text == ',')
		(*text)++;
	*number = strtoll(*text, &end, 10);
	if (end == *text)
		return false;
	*text = end;
	return true;
}

/* Alone, we also speak for devices that have not dialled in anywhere. */
static void
lease_set_alone(SmLease *lease, bool alone)
{
	lease->alone = alone;
	lease->field->alone = alone;
}

/* Until when the buses may be asked; those that stood still because it was over go on. */
static void
lease_extend(SmLease *lease, int64_t until_us)
{
	bool stood_still = base_now_us() >= lease->field->until_us;
	int i;

	lease->field->until_us = until_us;
	for (i = 0; i < lease->field->bus_count && stood_still; i++)
		bus_wake(lease->field->buses[i]);
}

/* Lets go of devices that have dialled in at another poller. */
static void
lease_lose_buses(SmLease *lease, const char *sites, const char *gateways)
{
	int64_t site_id;
	int64_t gateway_id;

	while (lease_next_number(&sites, &site_id) && lease_next_number(&gateways, &gateway_id))
	{
		SmBus *bus = field_find(lease->field, (int) site_id, gateway_id);

		if (bus != NULL)
			bus_dismiss(bus);
	}
}

/* The database knows that we are alive. */
static void
lease_take(SmLease *lease, PGresult *row)
{
	const char *held = PQgetvalue(row, 0, 3);
	bool alone = strcmp(PQgetvalue(row, 0, 1), "t") == 0;
	int64_t end_us;
	bool changed =
		lease->over || !lease->begun || alone != lease->alone || strcmp(lease->held, held) != 0;

	lease->begun = true;
	lease->over = false;
	lease->length_us = atoll(PQgetvalue(row, 0, 2)) * US_PER_MS;
	lease->last_error[0] = '\0';
	end_us = lease->asked_us + lease->length_us - LEASE_MARGIN_US;
	lease_set_alone(lease, alone);
	lease_extend(lease, alone ? INT64_MAX : end_us);
	snprintf(lease->held, sizeof(lease->held), "%s", held);
	loop_set(lease->loop, &lease->end, end_us);
	lease_lose_buses(lease, PQgetvalue(row, 0, 4), PQgetvalue(row, 0, 5));
	if (changed)
		lease->events.changed(lease->events.context);
	lease_claim_soon(lease);
}

static void
lease_renewed(void *context, const SmDbReply *reply)
{
	SmLease *lease = context;

	lease->renewing = false;
	if (lease->released)
		return;
	if (!reply->ok || PQntuples(reply->results[0]) != 1)
		lease_complain(lease, reply);
	else if (strcmp(PQgetvalue(reply->results[0], 0, 0), "t") == 0)
		lease_give_up(lease);
	else
		lease_take(lease, reply->results[0]);
	loop_set(lease->loop, &lease->again,
			 base_now_us() + (reply->ok ? lease->length_us / 3 : LEASE_RETRY_US));
	if (lease->renew_again)
		lease_look_soon(lease);
}

/* Says that we are alive. */
static void
lease_renew(SmLease *lease)
{
	const char *values[4] = {lease->name, lease->instance, SUBMETER_VERSION,
							 lease->begun ? "false" : "true"};

	lease->renew_again = lease->renewing;
	if (lease->renewing || lease->superseded || lease->released || !db_is_up(lease->db))
		return;
	lease->asked_us = base_now_us();
	lease->renewing = db_send(lease->db, lease_renew_sql, 4, values, lease_renewed, lease);
}

/* Says that we are alive; the plan is loaded again in any case. */
void
lease_refresh(SmLease *lease)
{
	lease->held[0] = '\0';
	lease_renew(lease);
}

static void
lease_again(void *context)
{
	lease_renew(context);
}

/* Something may have changed: looks soon, and not more often than it is of use. */
void
lease_look_soon(SmLease *lease)
{
	lease->renew_again = false;
	loop_set(lease->loop, &lease->again, base_now_us() + base_jitter_us(LEASE_SOON_US));
}

static void
lease_nothing(void *context, const SmDbReply *reply)
{
	(void) context;
	(void) reply;
}

/* A plan is in force: what is not in it any more is let go of. */
void
lease_applied(SmLease *lease)
{
	const char *values[3] = {lease->name, lease->instance, "false"};

	if (lease->begun && !lease->alone && !lease->superseded && !lease->released)
		db_send(lease->db, lease_release_sql, 3, values, lease_nothing, lease);
	lease_claim_soon(lease);
}

/* Everything is let go of: we stop. */
void
lease_release(SmLease *lease)
{
	const char *values[3] = {lease->name, lease->instance, "true"};

	if (lease->released)
		return;
	lease->released = true;
	loop_cancel(lease->loop, &lease->again);
	loop_cancel(lease->loop, &lease->end);
	loop_cancel(lease->loop, &lease->claim);
	if (lease->begun && !lease->superseded)
		db_send(lease->db, lease_release_sql, 3, values, lease_nothing, lease);
}

/* Lets the buses of a claim begin. */
static void
lease_admit(SmLease *lease)
{
	const char *sites = lease->sites.data;
	const char *gateways = lease->gateways.data;
	int64_t site_id;
	int64_t gateway_id;

	while (lease_next_number(&sites, &site_id) && lease_next_number(&gateways, &gateway_id))
	{
		SmBus *bus = field_find(lease->field, (int) site_id, gateway_id);

		if (bus != NULL)
			bus_admit(bus);
	}
}

static void
lease_claimed(void *context, const SmDbReply *reply)
{
	SmLease *lease = context;

	lease->claiming = false;
	if (reply->ok)
		lease_admit(lease);
	else
		lease_complain(lease, reply);
	if (lease->claim_again || !reply->ok)
		loop_set(lease->loop, &lease->claim,
				 base_now_us() + (reply->ok ? LEASE_SOON_US : LEASE_RETRY_US));
}

/* Tells the database which devices have dialled in; a poller that is alone need not wait for it. */
static void
lease_claim(void *context)
{
	SmLease *lease = context;
	const char *values[3] = {lease->name, NULL, NULL};
	int count = 0;
	int i;

	lease->claim_again = lease->claiming;
	if (lease->claiming || lease->superseded || lease->released)
		return;
	text_clear(&lease->sites);
	text_clear(&lease->gateways);
	for (i = 0; i < lease->field->bus_count; i++)
	{
		const SmBus *bus = lease->field->buses[i];

		if (!bus->unclaimed)
			continue;
		lease->claim_again = count == LEASE_CLAIM_MOST;
		if (lease->claim_again)
			break;
		text_printf(&lease->sites, "%c%d", count == 0 ? '{' : ',', bus->site_id);
		text_printf(&lease->gateways, "%c%" PRId64, count == 0 ? '{' : ',', bus->gateway_id);
		count++;
	}
	if (count == 0)
		return;
	text_add(&lease->sites, "}");
	text_add(&lease->gateways, "}");
	values[1] = lease->sites.data;
	values[2] = lease->gateways.data;
	if (lease->begun && db_is_up(lease->db))
		lease->claiming = db_send(lease->db, lease_claim_sql, 3, values, lease_claimed, lease);
	else if (lease->alone)
		lease_admit(lease);
}

/* A device has dialled in, or may have: looks in the next turn of the loop. */
void
lease_claim_soon(SmLease *lease)
{
	if (!lease->released && lease->claim.place == 0)
		loop_set(lease->loop, &lease->claim, base_now_us());
}

/* There is no database yet, and when there last was one, we were alone. */
void
lease_assume_alone(SmLease *lease)
{
	lease_set_alone(lease, true);
}

bool
lease_is_alone(const SmLease *lease)
{
	return lease->alone;
}

bool
lease_is_superseded(const SmLease *lease)
{
	return lease->superseded;
}
