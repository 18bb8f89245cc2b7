/*
 * control_clock.c - what is to be done about the clocks of meters, and what they show
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_inside.h"

#define CONTROL_CLOCK_US (60 * US_PER_S)

static const char control_clocks_sql[] =
	"SELECT site_id, gateway_id, meter_id, action, clock_di, local_time"
	" FROM submeter.claim_clocks($1, pg_catalog.to_timestamp($2::pg_catalog.float8 / 1000))";
static const char control_clock_sql[] =
	"SELECT submeter.report_clocks($1::pg_catalog.int4, $2::pg_catalog.jsonb)";

/* Starts what is to be done about clocks. */
static void
control_clocks_claimed(void *context, const SmDbReply *reply)
{
	SmControl *control = context;
	int row;

	if (!reply->ok)
		control_complain(control, "could not ask about clocks", reply);
	else
	{
		PGresult *result = reply->results[0];

		for (row = 0; row < PQntuples(result); row++)
		{
			SmClockClaim claim = {
				.site_id = atoi(PQgetvalue(result, row, 0)),
				.gateway_id = atoll(PQgetvalue(result, row, 1)),
				.meter_id = atoll(PQgetvalue(result, row, 2)),
				.broadcast = strcmp(PQgetvalue(result, row, 3), "broadcast") == 0,
				.clock_di = PQgetisnull(result, row, 4) ? NULL : PQgetvalue(result, row, 4),
				.local_time = PQgetvalue(result, row, 5)};

			clock_start(control->field, &claim);
		}
	}
}

/* Asks what is to be done about clocks, and says what ours shows. */
void
control_clock(void *context)
{
	SmControl *control = context;
	char wall[24];
	const char *values[2] = {control->name, wall};

	loop_set(control->loop, &control->clock, base_now_us() + base_jitter_us(CONTROL_CLOCK_US));
	if (!control_may_claim(control))
		return;
	snprintf(wall, sizeof(wall), "%" PRId64, base_wall_ms());
	db_send(control->db, control_clocks_sql, 2, values, control_clocks_claimed, control);
}

static void
control_clock_reported(void *context, const SmDbReply *reply)
{
	if (!reply->ok)
		control_complain(context, "could not tell what a clock shows", reply);
}

/* Tells the database what a clock shows. When it is away the clock is read again another time. */
void
control_report_clock(SmControl *control, const SmClockResult *clock)
{
	SmText text = {0};
	char site[16];
	const char *values[2];

	snprintf(site, sizeof(site), "%d", clock->site_id);
	text_printf(&text, "[{\"meter_id\":%" PRId64 ",\"age_ms\":0,\"clock\":", clock->meter_id);
	text_add_json(&text, clock->text);
	text_add(&text, ",\"error\":");
	text_add_json(&text, clock->error);
	text_add(&text, "}]");
	values[0] = site;
	values[1] = text.data;
	db_send(control->db, control_clock_sql, 2, values, control_clock_reported, control);
	text_free(&text);
}
