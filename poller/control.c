/*
 * control.c - the conversation with the database about the plan, commands and reads
 *
 * Its connection is not the one readings go through, so that a command never waits behind a batch.
 * The database wakes us with a notification; every five seconds we look anyway. Whatever a
 * connection that went away may have missed is asked for again on the next one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "fetch.h"
#include "lease.h"
#include "log.h"
#include "plan_file.h"

#define CONTROL_LOOK_US (5 * US_PER_S)
#define CONTROL_PLAN_RETRY_US (5 * US_PER_S)
#define CONTROL_COMMANDS 100
#define CONTROL_CLOCK_US (60 * US_PER_S)

struct SmControl
{
	SmLoop *loop;
	SmField *field;
	SmDb *db;
	SmReport *report;
	SmFetch *fetch; /* NULL when only the plan is wanted */
	SmLease *lease; /* NULL but for a poller */
	SmTimer look;
	SmTimer plan_retry;
	SmTimer clock; /* asks what is to be done about clocks */
	char *name;
	char *plan_path; /* where the plan is kept; NULL: nowhere */
	SmText query;    /* for the plan */
	SmControlRole role;
	SmControlEvents events;
	bool loading;
	bool load_again;
	bool claiming;
	bool claim_again;
	bool reading;
	bool read_again;
	bool stopping;
	char last_error[256];  /* so that the same one is told once */
	SmCommand *unreported; /* over, and the database does not know yet */
	int reporting;
};

static const char control_greeting[] =
	"SET search_path = ''; SET statement_timeout = '30s';"
	" SET application_name = 'submeter-poller'; SET client_min_messages = warning;"
	" LISTEN submeter_poller";
static const char control_claim_sql[] =
	"SELECT site_id, command_id, meter_id, action, step, close_mode, expires_in_ms, clock_di"
	" FROM submeter.claim_commands($1, $2::pg_catalog.int4)";
static const char control_reads_sql[] = "SELECT site_id, meter_id FROM submeter.claim_reads($1)";
static const char control_send_sql[] =
	"SELECT go, reason, level, password, operator, valid_until, local_time"
	" FROM submeter.send_command($1::pg_catalog.int4, $2::pg_catalog.int8, $3, $4)";
static const char control_clocks_sql[] =
	"SELECT site_id, gateway_id, meter_id, action, clock_di, local_time"
	" FROM submeter.claim_clocks($1, pg_catalog.to_timestamp($2::pg_catalog.float8 / 1000))";
static const char control_clock_sql[] =
	"SELECT submeter.report_clocks($1::pg_catalog.int4, $2::pg_catalog.jsonb)";
static const char control_report_sql[] =
	"SELECT submeter.report_command($1::pg_catalog.int4, $2::pg_catalog.int8, $3, $4, $5, $6,"
	" $7::pg_catalog.jsonb, $8)";

static void control_up(void *context);
static void control_down(void *context, const char *message);
static void control_notified(void *context, const char *payload);
static void control_look(void *context);
static void control_clock(void *context);
static void control_claim(SmControl *control);
static void control_claim_reads(SmControl *control);
static void control_send_report(SmControl *control, SmCommand *command);

static void
control_plan_retry(void *context)
{
	control_reload(context);
}

/* Other gateways are ours now. */
static void
control_changed(void *context)
{
	control_reload(context);
}

/* Nothing is ours any more, until the database says so again. */
static void
control_lapsed(void *context)
{
	SmControl *control = context;

	if (!control->stopping)
		field_apply(control->field, plan_create());
}

/* Another run is at work; what this one has read is still delivered. */
static void
control_superseded(void *context)
{
	SmControl *control = context;

	plan_file_forget(control->plan_path);
	control_lapsed(control);
}

/* Whether commands and reads may be asked for. Without a plan nothing could be done with them. */
static bool
control_may_claim(const SmControl *control)
{
	return control->lease != NULL && !lease_is_superseded(control->lease) && !control->stopping &&
		   control->field->plan != NULL;
}

/* Keeps the plan for a start without database, if nobody else could be at work then. */
static void
control_keep_plan(SmControl *control, const SmDbReply *reply)
{
	if (control->lease == NULL)
		return;
	if (lease_is_alone(control->lease))
		plan_file_save(control->plan_path, control->name, reply->results, reply->count);
	else
		plan_file_forget(control->plan_path);
}

/* There is no database and no plan: the one of the last run must do. */
static void
control_use_kept_plan(SmControl *control)
{
	PGresult *results[PLAN_RESULTS];
	const char *why = "";
	SmPlan *plan = NULL;
	int count;

	if (control->lease == NULL || control->field->plan != NULL || control->stopping)
		return;
	count = plan_file_load(control->plan_path, control->name, results, PLAN_RESULTS);
	if (count > 0)
		plan = plan_parse(results, count, &why);
	while (count > 0)
		PQclear(results[--count]);
	if (plan == NULL)
		return;
	log_warning("the database is away: meters are read by the plan of the last run, and nothing"
				" is switched");
	lease_assume_alone(control->lease);
	field_apply(control->field, plan);
}

/* Makes a conversation that is not yet begun; freed by control_free(). */
SmControl *
control_create(SmLoop *loop, const char *conninfo, const char *name, SmControlRole role,
			   const SmControlEvents *events)
{
	SmControl *control = base_alloc(sizeof(SmControl));
	SmDbEvents db_events = {control, control_up, control_down, control_notified};

	control->loop = loop;
	control->name = base_copy(name);
	control->role = role;
	plan_query(&control->query, role == CONTROL_LOOK ? NULL : name, role == CONTROL_ONCE);
	control->events = *events;
	control->db = db_create(loop, "control", conninfo, control_greeting, &db_events);
	control->look.fire = control_look;
	control->look.context = control;
	control->plan_retry.fire = control_plan_retry;
	control->plan_retry.context = control;
	control->clock.fire = control_clock;
	control->clock.context = control;
	return control;
}

/* Begins to connect; plans are applied to this field, and a poller keeps them at plan_path. */
void
control_start(SmControl *control, SmField *field, const char *plan_path)
{
	SmLeaseEvents events = {control, control_changed, control_lapsed, control_superseded};

	control->field = field;
	control->report = report_create(control->loop, field, control->db);
	if (control->role == CONTROL_POLLER)
		control->fetch = fetch_create(control->loop, field, control->db, control->name);
	if (control->role == CONTROL_POLLER)
	{
		control->lease = lease_create(control->loop, control->db, field, control->name, &events);
		control->plan_path = base_copy(plan_path);
	}
	db_start(control->db);
}

void
control_free(SmControl *control)
{
	if (control->report != NULL)
		report_free(control->report);
	if (control->fetch != NULL)
		fetch_free(control->fetch);
	loop_cancel(control->loop, &control->look);
	loop_cancel(control->loop, &control->plan_retry);
	if (control->lease != NULL)
		lease_free(control->lease);
	loop_cancel(control->loop, &control->clock);
	db_free(control->db);
	while (control->unreported != NULL)
	{
		SmCommand *command = control->unreported;

		control->unreported = command->next;
		command_free(command);
	}
	text_free(&control->query);
	free(control->plan_path);
	free(control->name);
	free(control);
}

/* Asks whether memories of meters are to be read. */
static void
control_look_for_history(SmControl *control)
{
	if (control->fetch != NULL)
		fetch_look(control->fetch);
}

/* Logs why a request failed, once for the same reason. */
static void
control_complain(SmControl *control, const char *what, const SmDbReply *reply)
{
	char text[256];

	if (reply->lost)
		return;
	snprintf(text, sizeof(text), "%s: %s (%s)", what, reply->message, reply->sqlstate);
	if (strcmp(text, control->last_error) == 0)
		return;
	snprintf(control->last_error, sizeof(control->last_error), "%s", text);
	log_error("%s", text);
}

/* The plan came: use it, or keep the old one. */
static void
control_planned(void *context, const SmDbReply *reply)
{
	SmControl *control = context;
	const char *why = reply->message;
	SmPlan *plan = reply->ok ? plan_parse(reply->results, reply->count, &why) : NULL;

	control->loading = false;
	if (plan == NULL)
	{
		if (reply->ok)
			log_error("could not use the plan: %s", why);
		else
			control_complain(control, "could not load the plan", reply);
		if (!reply->lost)
			loop_set(control->loop, &control->plan_retry,
					 base_now_us() + base_jitter_us(CONTROL_PLAN_RETRY_US));
		control->events.failed(control->events.context, why);
		return;
	}
	control->last_error[0] = '\0';
	if (!control->stopping)
	{
		control_keep_plan(control, reply);
		field_apply(control->field, plan);
		if (control->lease != NULL)
			lease_applied(control->lease);
		control->events.planned(control->events.context);
		control_claim(control);
		control_claim_reads(control);
		control_look_for_history(control);
	}
	else
		plan_free(plan);
	if (control->load_again)
		control_reload(control);
}

/* Asks for the plan; the old one holds until the new one has come. */
void
control_reload(SmControl *control)
{
	loop_cancel(control->loop, &control->plan_retry);
	control->load_again = control->loading;
	if (control->lease != NULL && lease_is_superseded(control->lease))
		return;
	if (!control->loading && !control->stopping)
		control->loading =
			db_send(control->db, control->query.data, 0, NULL, control_planned, control);
}

/* Asks what is ours, and then for the plan: a new gateway is in it when we have a lease on it. */
static void
control_refresh(SmControl *control)
{
	if (control->lease != NULL)
		lease_refresh(control->lease);
	else
		control_reload(control);
}

static void
control_up(void *context)
{
	SmControl *control = context;
	SmCommand *waiting = control->unreported;

	control->unreported = NULL;
	while (waiting != NULL)
	{
		SmCommand *command = waiting;

		waiting = command->next;
		control_send_report(control, command);
	}
	report_reset(control->report);
	control_refresh(control);
	loop_set(control->loop, &control->look, base_now_us() + CONTROL_LOOK_US);
	loop_set(control->loop, &control->clock, base_now_us() + CONTROL_LOOK_US);
}

static void
control_down(void *context, const char *message)
{
	SmControl *control = context;

	loop_cancel(control->loop, &control->look);
	loop_cancel(control->loop, &control->clock);
	loop_cancel(control->loop, &control->plan_retry);
	control_use_kept_plan(control);
	control->events.failed(control->events.context, message);
}

static void
control_notified(void *context, const char *payload)
{
	SmControl *control = context;

	if (strcmp(payload, "plan") == 0)
		control_refresh(control);
	else if (strcmp(payload, "command") == 0)
		control_claim(control);
	else if (strcmp(payload, "read") == 0)
		control_claim_reads(control);
	else if (strcmp(payload, "history") == 0)
		control_look_for_history(control);
	else if (strcmp(payload, "lease") == 0 && control->lease != NULL)
		lease_look_soon(control->lease);
	else if (strcmp(payload, "clock") == 0)
		control_clock(control);
}

/* The safety net under the notifications. */
static void
control_look(void *context)
{
	SmControl *control = context;

	control_claim(control);
	control_claim_reads(control);
	loop_set(control->loop, &control->look, base_now_us() + CONTROL_LOOK_US);
}

/* Starts the commands that were given to us. */
static void
control_claimed(void *context, const SmDbReply *reply)
{
	SmControl *control = context;
	bool full = false;
	int row;

	control->claiming = false;
	if (!reply->ok)
		control_complain(control, "could not ask for commands", reply);
	else
	{
		PGresult *result = reply->results[0];

		full = PQntuples(result) == CONTROL_COMMANDS;
		for (row = 0; row < PQntuples(result); row++)
		{
			SmClaim claim = {0};

			claim.site_id = atoi(PQgetvalue(result, row, 0));
			claim.command_id = atoll(PQgetvalue(result, row, 1));
			claim.meter_id = atoll(PQgetvalue(result, row, 2));
			if (!command_find_action(PQgetvalue(result, row, 3), &claim.action))
				continue; /* of a newer database: given out again when the lease is over */
			claim.verify = strcmp(PQgetvalue(result, row, 4), "switch") != 0;
			claim.local_key = strcmp(PQgetvalue(result, row, 5), "local_key") == 0;
			claim.expires_in_ms = atoll(PQgetvalue(result, row, 6));
			if (!PQgetisnull(result, row, 7))
				claim.clock_di = PQgetvalue(result, row, 7);
			command_start(control->field, &claim);
		}
	}
	if (full || control->claim_again)
		control_claim(control);
}

/* Asks for commands. */
static void
control_claim(SmControl *control)
{
	char most[16];
	const char *values[2];

	control->claim_again = control->claiming;
	if (control->claiming || !control_may_claim(control))
		return;
	snprintf(most, sizeof(most), "%d", CONTROL_COMMANDS);
	values[0] = control->name;
	values[1] = most;
	control->claiming =
		db_send(control->db, control_claim_sql, 2, values, control_claimed, control);
}

static void
control_reads_claimed(void *context, const SmDbReply *reply)
{
	SmControl *control = context;
	int row;

	control->reading = false;
	if (!reply->ok)
		control_complain(control, "could not ask who waits for a reading", reply);
	else
	{
		for (row = 0; row < PQntuples(reply->results[0]); row++)
			field_read_soon(control->field, atoi(PQgetvalue(reply->results[0], row, 0)),
							atoll(PQgetvalue(reply->results[0], row, 1)));
	}
	if (control->read_again)
		control_claim_reads(control);
}

/* Asks which meters somebody waits for. */
static void
control_claim_reads(SmControl *control)
{
	const char *values[1];

	control->read_again = control->reading;
	if (control->reading || !control_may_claim(control))
		return;
	values[0] = control->name;
	control->reading =
		db_send(control->db, control_reads_sql, 1, values, control_reads_claimed, control);
}

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
static void
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

/* What comes with a go: a password, until when the meter may obey, the local time. */
static void
control_take_go(const PGresult *result, SmGo *go)
{
	SmDltTime local;

	*go = (SmGo){.local_s = -1};
	go->has_key = dlt645_parse_key(atoi(PQgetvalue(result, 0, 2)), PQgetvalue(result, 0, 3),
								   PQgetvalue(result, 0, 4), &go->key);
	go->has_until = meter_clock_parse(PQgetvalue(result, 0, 5), &go->until);
	if (meter_clock_parse(PQgetvalue(result, 0, 6), &local))
		go->local_s = meter_clock_seconds(&local);
}

/* The database has spoken on a command. */
static void
control_asked(void *context, const SmDbReply *reply)
{
	SmCommand *command = context;
	bool row = reply->ok && reply->count == 1 && PQntuples(reply->results[0]) == 1;
	bool go = row && strcmp(PQgetvalue(reply->results[0], 0, 0), "t") == 0;
	SmGo told;

	if (go)
		control_take_go(reply->results[0], &told);
	command_go(command, go ? &told : NULL,
			   row                         ? PQgetvalue(reply->results[0], 0, 1)
			   : reply->message[0] != '\0' ? reply->message
										   : "the database gave no answer");
	explicit_bzero(&told, sizeof(told));
}

/* Asks the database for the last word on a command. */
void
control_ask(SmControl *control, SmCommand *command)
{
	char site[16];
	char id[24];
	const char *values[4] = {site, id, control->name,
							 command->clock_text[0] != '\0' ? command->clock_text : NULL};

	snprintf(site, sizeof(site), "%d", command->site_id);
	snprintf(id, sizeof(id), "%" PRId64, command->command_id);
	if (!db_send(control->db, control_send_sql, 4, values, control_asked, command))
		command_go(command, NULL, "the database is away");
}

/* A report and who sent it. */
typedef struct SmReported
{
	SmControl *control;
	SmCommand *command;
} SmReported;

/* A command's outcome is known to the database, or has to wait for it. */
static void
control_reported(void *context, const SmDbReply *reply)
{
	SmReported *reported = context;
	SmControl *control = reported->control;
	SmCommand *command = reported->command;

	free(reported);
	control->reporting--;
	if (reply->lost)
	{
		command->next = control->unreported;
		control->unreported = command;
		return;
	}
	if (!reply->ok)
		log_error("command %d/%lld: the database refuses its outcome: %s (%s)", command->site_id,
				  (long long) command->command_id, reply->message, reply->sqlstate);
	command_free(command);
	control_claim(control);
}

static void
control_send_report(SmControl *control, SmCommand *command)
{
	SmReported *reported = base_alloc(sizeof(SmReported));
	SmText evidence = {0};
	char site[16];
	char id[24];
	const char *values[8];

	*reported = (SmReported){control, command};
	snprintf(site, sizeof(site), "%d", command->site_id);
	snprintf(id, sizeof(id), "%" PRId64, command->command_id);
	evidence_add_json(&evidence, command);
	values[0] = site;
	values[1] = id;
	values[2] = control->name;
	values[3] = command->outcome;
	values[4] = point_relay_name(evidence_position(command, &command->before));
	values[5] = point_relay_name(
		evidence_position(command, command->after.known ? &command->after : &command->before));
	values[6] = evidence.data;
	values[7] = command->detail;
	if (command->written && !command->after.known)
		values[5] = NULL;
	control->reporting++;
	if (!db_send(control->db, control_report_sql, 8, values, control_reported, reported))
	{
		SmDbReply lost = {.lost = true};

		control_reported(reported, &lost);
	}
	text_free(&evidence);
}

/* Tells the database how a command ended. The command becomes ours. */
void
control_report(SmControl *control, SmCommand *command)
{
	control_send_report(control, command);
}

/* Tells the database what became of a meter's memory. */
void
control_report_history(SmControl *control, const struct SmHistoryResult *result)
{
	if (control->fetch != NULL)
		fetch_report(control->fetch, result);
}

/* A device has dialled in: whether it may be asked at once. */
bool
control_dialled_in(SmControl *control)
{
	if (control->lease == NULL)
		return true;
	lease_claim_soon(control->lease);
	return false;
}

/* Gives back what we have: nothing is asked any more. */
void
control_release(SmControl *control)
{
	if (control->lease != NULL)
		lease_release(control->lease);
}

/* Asks for nothing more; reports still go out. */
void
control_stop(SmControl *control)
{
	control->stopping = true;
	report_send(control->report);
}

/* Whether nothing is left to tell, or nobody is there to hear it. */
bool
control_is_quiet(const SmControl *control)
{
	return control->reporting == 0 && (!db_is_up(control->db) || db_is_idle(control->db));
}
