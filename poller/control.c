/*
 * control.c - the conversation with the database about the plan, commands and reads
 *
 * Its connection is not the one readings go through, so that a command never waits behind a batch.
 * The database wakes us with a notification; every five seconds we look anyway. Whatever a
 * connection that went away may have missed is asked for again on the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_inside.h"
#include "log.h"
#include "plan_file.h"

#define CONTROL_LOOK_US (5 * US_PER_S)
#define CONTROL_PLAN_RETRY_US (5 * US_PER_S)

static const char control_greeting[] =
	"SET search_path = ''; SET statement_timeout = '30s';"
	" SET application_name = 'submeter-poller'; SET client_min_messages = warning;"
	" LISTEN submeter_poller";
static const char control_reads_sql[] = "SELECT site_id, meter_id FROM submeter.claim_reads($1)";

static void control_up(void *context);
static void control_down(void *context, const char *message);
static void control_notified(void *context, const char *payload);
static void control_look(void *context);
static void control_claim_reads(SmControl *control);

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
bool
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
void
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

	control_report_again(control);
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
