/*
 * command.c - opening and closing breakers: look, ask, write once, look back, report
 *
 *   LOOK --in place--------------------------------------------------> REPORT (confirmed)
 *    |  \--cannot be read, nothing sent------------------------------> REPORT (returned)
 *    v
 *   CLOCK the meter's own, where the command is timed by it and it is not known
 *    v
 *   ASK --the database says no, or went away--------------------------> dropped, nothing sent
 *    | go
 *   WRITE --the only write there will ever be--> BACK --in place------> REPORT (confirmed)
 *    |  \--the meter refuses the password--------------------------> REPORT (refused)
 *                                                 |---time is up-----> REPORT (failed, unknown,
 *                                                 |                            awaiting_key)
 *                                                 +---look again
 *
 * Keep-power and the setting of a clock (two writes, date and time) go the same way.
 *
 * A command that only verifies goes LOOK -> REPORT. A lost answer to the write is no reason to
 * write again: the breaker itself is asked. While the database is asked (at most a second) the
 * bus is kept free, so that the write goes out the moment the answer comes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "log.h"

#define COMMAND_LOOK_TRIES 3
#define COMMAND_LOOK_AGAIN_US (100 * US_PER_MS)
#define COMMAND_BUSY_US (200 * US_PER_MS)
#define COMMAND_HOLD_US US_PER_S
#define COMMAND_BACK_LEAST_US (20 * US_PER_MS)
#define COMMAND_WINDOW_LEAST_US (500 * US_PER_MS)

static void command_done(void *context, const SmRequest *request, const SmAnswer *answer);

static const char *const command_actions[ACTION_COUNT] = {"open", "close", "keep", "release",
														  "set_clock"};

/* The action of this name in the database; false when it is none we know. */
bool
command_find_action(const char *name, SmAction *action)
{
	int i;

	for (i = 0; i < ACTION_COUNT && strcmp(name, command_actions[i]) != 0; i++)
		;
	*action = (SmAction) i;
	return i < ACTION_COUNT;
}

const char *
command_action_name(SmAction action)
{
	return command_actions[action];
}

/* Takes a command off its bus and has its outcome reported; then its meter is read whole. */
static void
command_end(SmCommand *command)
{
	SmBus *bus = command->bus;
	SmCommand **link;

	if (bus != NULL)
	{
		for (link = &bus->commands; *link != command; link = &(*link)->next)
			;
		*link = command->next;
		bus_forget(bus, command);
		if (command->meter != NULL && !bus->field->stopping)
			command->meter->urgent = true;
		bus_wake(bus);
	}
	command->next = NULL;
	command->bus = NULL;
	command->meter = NULL;
	command->state = COMMAND_REPORT;
	explicit_bzero(&command->go.key, sizeof(command->go.key));
	log_info("command %d/%lld (%s meter %lld): %s, %s", command->site_id,
			 (long long) command->command_id, command_action_name(command->asked),
			 (long long) command->meter_id, command->outcome, command->detail);
	command->field->hooks.report(command->field->hooks.context, command);
}

/* Nothing was sent, or nothing could be learned: the database decides what next. */
static void
command_give_back(SmCommand *command, const char *text)
{
	evidence_decide(command, command->verify || command->written ? "unknown" : "returned", "%s",
					text);
	command_end(command);
}

/* Whether this command is under way here already. */
static bool
command_is_known(const SmBus *bus, const SmClaim *claim)
{
	const SmCommand *command;

	for (command = bus->commands; command != NULL; command = command->next)
	{
		if (command->site_id == claim->site_id && command->command_id == claim->command_id)
			return true;
	}
	return false;
}

/* Begins a command the database has given us. */
void
command_start(SmField *field, const SmClaim *claim)
{
	SmMeter *meter = field_find_meter(field, claim->site_id, claim->meter_id);
	SmCommand *command;
	SmCommand **link;
	const char *wrong;

	if (meter != NULL && command_is_known(meter->bus, claim))
		return;
	command = base_alloc(sizeof(SmCommand));
	command->field = field;
	command->site_id = claim->site_id;
	command->command_id = claim->command_id;
	command->meter_id = claim->meter_id;
	command->asked = claim->action;
	command->close = claim->action == ACTION_CLOSE;
	command->verify = claim->verify;
	command->permit = command->close && claim->local_key;
	command->expires_us = base_now_us() + claim->expires_in_ms * US_PER_MS;
	if (meter == NULL || field->stopping)
	{
		command_give_back(command, meter == NULL ? "the meter is not in the poller's plan"
												 : "the poller is being stopped");
		return;
	}
	wrong = command_prepare_clock(command, meter->model, claim->clock_di);
	if (wrong == NULL)
		wrong = evidence_prepare(command, meter->model);
	if (wrong != NULL)
	{
		evidence_decide(command, "failed", "%s", wrong);
		command_end(command);
		return;
	}
	command->bus = meter->bus;
	command->meter = meter;
	command->due_us = base_now_us();
	for (link = &meter->bus->commands; *link != NULL; link = &(*link)->next)
		;
	*link = command;
	bus_hurry(meter->bus);
}

/*
 * The answer of submeter.send_command(). Without a go (NULL) the command is over, and not ours to
 * report.
 */
void
command_go(SmCommand *command, const SmGo *go, const char *reason)
{
	int64_t now_us = base_now_us();

	if (command->state != COMMAND_ASK)
		return; /* it ended meanwhile, and its report is on the way */
	if (go == NULL)
	{
		SmBus *bus = command->bus;
		SmCommand **link;

		log_info("command %d/%lld (%s meter %lld) is not sent: %s", command->site_id,
				 (long long) command->command_id, command_action_name(command->asked),
				 (long long) command->meter_id, reason);
		for (link = &bus->commands; *link != command; link = &(*link)->next)
			;
		*link = command->next;
		command_free(command);
		bus_wake(bus);
		return;
	}
	command->state = COMMAND_WRITE;
	command->go = *go;
	command->due_us = now_us;
	command->asked_us = now_us;
	if (command->bus->state == BUS_READY)
		bus_pump(command->bus);
	else
		bus_hurry(command->bus);
}

/*
 * The next question of a command of this bus. hold: there is none, but the bus is to be left free
 * for one that comes within a moment.
 */
bool
command_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us, bool *hold)
{
	SmCommand *command = bus->commands;
	SmCommand *next;

	for (; command != NULL; command = next)
	{
		int64_t due_us = command->due_us;

		next = command->next;
		if (command->state == COMMAND_ASK)
		{
			due_us = command->asked_us + COMMAND_HOLD_US;
			*hold = *hold || now_us < due_us;
		}
		if (now_us < due_us)
		{
			*wake_us = due_us < *wake_us ? due_us : *wake_us;
			continue;
		}
		if (command->state == COMMAND_ASK)
			continue;
		if (command->state != COMMAND_WRITE)
			command_build_look(command, exchange);
		else if (!command_build_write(command, now_us, exchange))
		{
			command_give_back(command, command->written
										   ? "the bus was not free for the second write"
										   : "the bus was not free in time; nothing was written");
			continue;
		}
		exchange->turnaround_ms = command->meter->model->turnaround_ms;
		exchange->is_command = true;
		exchange->done = command_done;
		exchange->context = command;
		return true;
	}
	return false;
}

/* When a command wants this bus; INT64_MAX for never. */
int64_t
command_wake(const SmBus *bus, int64_t now_us)
{
	const SmCommand *command;
	int64_t wake_us = INT64_MAX;

	for (command = bus->commands; command != NULL; command = command->next)
	{
		if (command->state != COMMAND_ASK && command->due_us < wake_us)
			wake_us = command->due_us > now_us ? command->due_us : now_us;
	}
	return wake_us;
}

/* Waits between two looks back. */
static int64_t
command_back_step_us(const SmCommand *command)
{
	int64_t step_us = command->action.settle_ms * US_PER_MS / 10;

	return step_us > COMMAND_BACK_LEAST_US ? step_us : COMMAND_BACK_LEAST_US;
}

/* Begins to look back. */
static void
command_begin_back(SmCommand *command)
{
	int64_t now_us = base_now_us();
	int64_t settle_us = command->action.settle_ms * US_PER_MS;

	command->state = COMMAND_BACK;
	command->tries = 0;
	if (!command->written)
		command->written_us = now_us;
	command->settled_us = now_us + settle_us;
	command->deadline_us =
		now_us +
		(2 * settle_us > COMMAND_WINDOW_LEAST_US ? 2 * settle_us : COMMAND_WINDOW_LEAST_US);
	command->due_us = command->evidence == EVIDENCE_RELAY || command->evidence >= EVIDENCE_KEEP
						  ? now_us
						  : command->settled_us;
}

/* Asks the database for the last word. */
static void
command_ask(SmCommand *command)
{
	command->state = COMMAND_ASK;
	command->asked_us = base_now_us();
	command->field->hooks.ask(command->field->hooks.context, command);
}

/* The breaker was looked at before anything was sent. */
static void
command_looked(SmCommand *command)
{
	if (evidence_judge_first(command))
		command_end(command);
	else if (command->verify)
		command_begin_back(command);
	else if (base_now_us() >= command->expires_us)
		command_give_back(command, "it expired before it could be sent");
	else if (command->reads_clock && command->clock_text[0] == '\0')
	{
		command->state = COMMAND_CLOCK;
		command->tries = 0;
		command->due_us = base_now_us();
	}
	else
		command_ask(command);
}

/* A look before the write failed: try again a few times, then give the command back. */
static void
command_look_failed(SmCommand *command, const SmAnswer *answer)
{
	bool busy = answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_BUSY;

	snprintf(command->trouble, sizeof(command->trouble), "%s", answer->text);
	if (++command->tries >= COMMAND_LOOK_TRIES)
		command_give_back(command, command->trouble);
	else
		command->due_us = base_now_us() + (busy ? COMMAND_BUSY_US : COMMAND_LOOK_AGAIN_US) +
						  bus_late_us(command->bus, answer);
}

/* The write was answered, or not: what the breaker does decides. */
static void
command_wrote(SmCommand *command, const SmAnswer *answer)
{
	if (answer->kind == ANSWER_UNSENT)
	{
		command->written = false;
		evidence_decide(command, "returned", "%s; nothing was written", answer->text);
		command_end(command);
		return;
	}
	command->echoed = answer->kind == ANSWER_GOOD;
	command->write_error = answer->kind == ANSWER_EXCEPTION ? answer->code : 0;
	if (answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_PASSWORD)
	{
		command->kind = "password_refused";
		evidence_decide(command, "refused", "%s; nothing more is written to the meter",
						answer->text);
		command_end(command);
		return;
	}
	if (command->echoed && command->asked == ACTION_SET_CLOCK && command->clock_step == 0)
	{
		command->clock_step = 1;
		command->due_us = base_now_us();
		return;
	}
	if (!command->echoed)
	{
		snprintf(command->trouble, sizeof(command->trouble), "the write: %s", answer->text);
		log_warning("command %d/%lld: %s; the breaker is read", command->site_id,
					(long long) command->command_id, command->trouble);
	}
	command_begin_back(command);
	command->due_us += bus_late_us(command->bus, answer);
}

/* A look back came, or failed. */
static void
command_backed(SmCommand *command, const SmRequest *request, const SmAnswer *answer)
{
	int64_t now_us = base_now_us();
	SmLook look;

	command->tries++;
	if (answer->kind == ANSWER_GOOD && command_take(command, request, answer, &look))
	{
		command->reads++;
		command->seen_us = now_us;
		command->after = look;
		if (evidence_judge_back(command, now_us))
		{
			command_end(command);
			return;
		}
		if (!command->first_back.known)
			command->first_back = look;
	}
	else if (answer->kind != ANSWER_GOOD && command->trouble[0] == '\0')
		snprintf(command->trouble, sizeof(command->trouble), "reading back: %s", answer->text);
	if (now_us >= command->deadline_us && command->tries >= COMMAND_LOOK_TRIES)
	{
		evidence_conclude(command);
		command_end(command);
		return;
	}
	command->due_us = now_us + command_back_step_us(command) + bus_late_us(command->bus, answer);
}

/* The clock a command is timed by came, or did not. */
static void
command_clocked(SmCommand *command, const SmAnswer *answer)
{
	if (command_clock_falls_back(command, answer))
		command->due_us = base_now_us();
	else if (answer->kind != ANSWER_GOOD)
		command_look_failed(command, answer);
	else if (command_take_clock(command, answer))
		command_ask(command);
	else
		command->due_us = base_now_us();
}

/* Looks at a clock that is to be set, or was: like a breaker, but what it shows is the time. */
static void
command_looked_at_clock(SmCommand *command, const SmRequest *request, const SmAnswer *answer)
{
	if (command_clock_falls_back(command, answer) ||
		(answer->kind == ANSWER_GOOD && !command_take_clock(command, answer)))
		command->due_us = base_now_us();
	else if (command->state == COMMAND_BACK)
		command_backed(command, request, answer);
	else if (answer->kind != ANSWER_GOOD)
		command_look_failed(command, answer);
	else
		command_looked(command);
}

/* An answer to a question of a command came, or none. */
static void
command_done(void *context, const SmRequest *request, const SmAnswer *answer)
{
	SmCommand *command = context;

	if (command->evidence == EVIDENCE_CLOCK && command->state != COMMAND_WRITE)
	{
		command_looked_at_clock(command, request, answer);
		return;
	}
	switch (command->state)
	{
		case COMMAND_CLOCK:
			command_clocked(command, answer);
			break;
		case COMMAND_LOOK:
			if (answer->kind != ANSWER_GOOD)
				command_look_failed(command, answer);
			else if (command_take(command, request, answer, &command->before))
				command_looked(command);
			else
				command_give_back(command, "the meter shows nothing of its breaker");
			break;
		case COMMAND_WRITE:
			command_wrote(command, answer);
			break;
		case COMMAND_BACK:
			command_backed(command, request, answer);
			break;
		default:
			break;
	}
}

/* The gateway cannot be reached: what was not written is given back, what was is looked for. */
void
command_bus_failed(SmBus *bus, const char *text)
{
	SmCommand *command = bus->commands;
	SmCommand *next;
	int64_t now_us = base_now_us();

	for (; command != NULL; command = next)
	{
		next = command->next;
		if (command->state == COMMAND_LOOK || command->state == COMMAND_CLOCK ||
			command->state == COMMAND_WRITE)
		{
			snprintf(command->trouble, sizeof(command->trouble), "gateway: %s", text);
			command_give_back(command, command->trouble);
		}
		else if (command->state == COMMAND_BACK && now_us >= command->deadline_us)
		{
			snprintf(command->trouble, sizeof(command->trouble), "gateway: %s", text);
			evidence_conclude(command);
			command_end(command);
		}
	}
}

/*
 * Called for each bus of the old plan while a new one is applied: commands whose meter or bus went
 * away cannot go on.
 */
void
command_plan_changed(SmBus *bus)
{
	SmCommand *command = bus->commands;
	SmCommand *next;

	for (; command != NULL; command = next)
	{
		next = command->next;
		if (bus->kept && command->meter->kept && command->meter->bus == bus)
			continue;
		if (!command->meter->kept)
			command->meter = NULL;
		command_give_back(command, "the meter was moved or taken out of the plan meanwhile");
	}
}

/* The program is to stop: what was not written is given back. */
void
command_stop(SmBus *bus)
{
	SmCommand *command = bus->commands;
	SmCommand *next;

	for (; command != NULL; command = next)
	{
		next = command->next;
		if (!command->written)
			command_give_back(command, "the poller is being stopped");
	}
}

/* Forgets all commands of a bus without a word. */
void
command_drop_all(SmBus *bus)
{
	while (bus->commands != NULL)
	{
		SmCommand *command = bus->commands;

		bus->commands = command->next;
		command_free(command);
	}
}

void
command_free(SmCommand *command)
{
	free(command);
}
