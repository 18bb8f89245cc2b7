/*
 * command_wire.c - what a command asks and writes, and what answers hold
 *
 * But for the broadcast of the time, the only place where the poller writes to a meter: what the
 * model's switch instruction says, or date and time when a person has a clock set. Of DL/T 645
 * only with what came with the go.
 */
#include <stdio.h>
#include <string.h>

#include "command.h"

#define COMMAND_GO_STALE_US (5 * US_PER_S)

/* Gets ready to read the clock of the meter; why it cannot be done, or NULL. */
const char *
command_prepare_clock(SmCommand *command, const SmModel *model, const char *di)
{
	if (di == NULL)
		return command->asked == ACTION_SET_CLOCK ? "the model says nothing of its clock" : NULL;
	command->reads_clock = true;
	return meter_clock_begin(&command->clock, model->protocol, di)
			   ? NULL
			   : "the clock of the model cannot be read";
}

/* Builds the question that shows what the command is about: a breaker, or a clock. */
void
command_build_look(const SmCommand *command, SmExchange *exchange)
{
	if (command->state == COMMAND_CLOCK || command->evidence == EVIDENCE_CLOCK)
		meter_clock_ask(&command->clock, &command->meter->target, &exchange->request);
	else
		coalesce_request(&command->meter->target, &command->block, &exchange->request);
}

/* Builds what is written to a meter of DL/T 645; false when what it takes was not told. */
static bool
command_build_item(const SmCommand *command, int64_t now_us, SmRequest *request)
{
	const SmTarget *target = &command->meter->target;
	const SmSwitch *action = &command->action;
	const SmGo *go = &command->go;
	uint8_t bytes[PLAN_SWITCH_MOST];
	SmDltTime local;
	int i;

	if (!go->has_key)
		return false;
	if (command->asked == ACTION_SET_CLOCK)
	{
		meter_clock_at(go->local_s + (now_us - command->asked_us) / US_PER_S, &local);
		return go->local_s >= 0 &&
			   meter_clock_set(target, &go->key, command->clock_step, &local, request);
	}
	if (action->function == DLT645_SWITCH)
		return go->has_until && dlt645_build_switch(request, target, &go->key,
													(uint8_t) action->words[0], &go->until);
	for (i = 0; i < action->count; i++)
		bytes[i] = (uint8_t) action->words[i];
	return dlt645_build_write(request, target, action->di, &go->key, bytes, action->count);
}

/* The write, unless it has become too late for it, or it cannot be built. */
bool
command_build_write(SmCommand *command, int64_t now_us, SmExchange *exchange)
{
	/* The second write of a clock belongs to the first one, and reckons with the time that passed. */
	if (command->clock_step == 0 &&
		(now_us >= command->expires_us || now_us - command->asked_us > COMMAND_GO_STALE_US))
		return false;
	if (command->meter->model->protocol != PROTOCOL_MODBUS
			? !command_build_item(command, now_us, &exchange->request)
			: !mbap_build_write(&exchange->request, command->meter->target.unit,
								command->action.function, command->action.address,
								command->action.words, command->action.count))
		return false;
	command->written = true;
	command->written_us = now_us;
	command->written_ms = base_wall_ms();
	return true;
}

/* Takes the values of a good answer; false when it holds none of use. */
bool
command_take(SmCommand *command, const SmRequest *request, const SmAnswer *answer, SmLook *look)
{
	SmTaken taken;

	memset(look, 0, sizeof(*look));
	look->wall_ms = answer->wall_ms;
	if (command->evidence == EVIDENCE_CLOCK)
	{
		look->known = true;
		return true;
	}
	coalesce_take(command->points, &command->block, request, answer->data, answer->length,
				  &look->values, &taken);
	look->known =
		taken.good > 0 || command->evidence == EVIDENCE_RELAY || command->evidence == EVIDENCE_KEEP;
	return look->known;
}

/* A part of the clock came: the rest is asked for, or what it shows is written down. */
bool
command_take_clock(SmCommand *command, const SmAnswer *answer)
{
	SmClockState state = meter_clock_take(&command->clock, answer->data, answer->length);

	if (state == CLOCK_MORE)
		return false;
	command->clock.step = 0;
	command->clock_us = base_now_us();
	snprintf(command->clock_text, sizeof(command->clock_text), "nonsense");
	if (state == CLOCK_KNOWN)
		meter_clock_text(&command->clock.time, command->clock_text);
	return true;
}

/* Whether the meter lacks the item its clock was asked for by, and has another one. */
bool
command_clock_falls_back(SmCommand *command, const SmAnswer *answer)
{
	return answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_NO_DATA &&
		   meter_clock_fall_back(&command->clock);
}
