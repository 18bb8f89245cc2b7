/*
 * control_command.c - commands between the database and the buses: given to us, asked about, reported
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_inside.h"
#include "log.h"

#define CONTROL_COMMANDS 100

static const char control_claim_sql[] =
	"SELECT site_id, command_id, meter_id, action, step, close_mode, expires_in_ms, clock_di"
	" FROM submeter.claim_commands($1, $2::pg_catalog.int4)";
static const char control_send_sql[] =
	"SELECT go, reason, level, password, operator, valid_until, local_time"
	" FROM submeter.send_command($1::pg_catalog.int4, $2::pg_catalog.int8, $3, $4)";
static const char control_report_sql[] =
	"SELECT submeter.report_command($1::pg_catalog.int4, $2::pg_catalog.int8, $3, $4, $5, $6,"
	" $7::pg_catalog.jsonb, $8)";

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
void
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

/* Tells the database how a command ended. The command becomes ours. */
void
control_report(SmControl *control, SmCommand *command)
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

/* Tells the database again what it did not hear when its connection went away. */
void
control_report_again(SmControl *control)
{
	SmCommand *waiting = control->unreported;

	control->unreported = NULL;
	while (waiting != NULL)
	{
		SmCommand *command = waiting;

		waiting = command->next;
		control_report(control, command);
	}
}
