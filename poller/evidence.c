/*
 * evidence.c - what a meter's answers prove about its breaker
 *
 * Where a register tells the position, that register is believed and nothing else. Where none
 * does, power, current or a running counter prove that a breaker is closed; nothing but their
 * end after a load has flowed proves that it is open. What remains is the meter's own echo of the
 * write: it counts, and the evidence says that it was only that. Keep-power has a bit of its own
 * in the item of the relay, or nothing but the acknowledgement; a clock that was set shows the time.
 *
 * Pure but for the clock: it judges, command.c acts.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

/* Below this a load cannot be told from the noise of the meter's converters. */
#define EVIDENCE_POWER_W 5.0
#define EVIDENCE_CURRENT_A 0.05

/* A clock that is set shows the time as well as a write and a read can tell. */
#define EVIDENCE_CLOCK_S 5
#define EVIDENCE_CLOCK_SETTLE_MS 1000

static const SmMetric evidence_power[] = {METRIC_POWER_W};
static const SmMetric evidence_current[] = {METRIC_I_A, METRIC_I_B, METRIC_I_C};
static const SmMetric evidence_energy[] = {METRIC_ENERGY_WH};
static const SmMetric evidence_relay[] = {METRIC_RELAY};

/* Takes the points of these metrics that one request can read; false when there is none. */
static bool
evidence_take(SmCommand *command, const SmModel *model, SmEvidence evidence,
			  const SmMetric *metrics, int metric_count)
{
	SmBlock blocks[COMMAND_POINTS];
	int i;
	int j;

	command->evidence = evidence;
	command->point_count = 0;
	for (i = 0; i < model->point_count; i++)
	{
		for (j = 0; j < metric_count; j++)
		{
			if (model->points[i].metric == metrics[j])
				command->points[command->point_count++] = model->points[i];
		}
	}
	if (command->point_count == 0)
		return false;
	/* A block may be refused, an item is not; only for several items is the block worth the risk. */
	if (command->point_count == 1)
		command->points[0].in_block = false;
	coalesce_blocks(command->points, command->point_count, model->max_registers, model->max_gap,
					blocks);
	command->block = blocks[0];
	return true;
}

/* The same for keep-power: its bit, or nothing but the acknowledgement. */
static const char *
evidence_prepare_keep(SmCommand *command, const SmModel *model)
{
	if (!evidence_take(command, model, EVIDENCE_ACK, evidence_relay, 1) &&
		!evidence_take(command, model, EVIDENCE_ACK, evidence_power, 1) &&
		!evidence_take(command, model, EVIDENCE_ACK, evidence_energy, 1))
		return "the model has nothing that could be read beside keep-power";
	if (command->points[0].metric == METRIC_RELAY && command->points[0].keep_mask != 0)
		command->evidence = EVIDENCE_KEEP;
	return command->action.known ? NULL : "the model cannot be told to keep its power";
}

/*
 * Chooses what this model shows its breaker by, and how it is switched. Says why it cannot be
 * done, or NULL.
 */
const char *
evidence_prepare(SmCommand *command, const SmModel *model)
{
	SmSwitchAction action = command->asked == ACTION_KEEP      ? SWITCH_KEEP
							: command->asked == ACTION_RELEASE ? SWITCH_RELEASE
							: !command->close                  ? SWITCH_OPEN
							: command->permit                  ? SWITCH_PERMIT_CLOSE
															   : SWITCH_CLOSE;

	if (command->asked == ACTION_SET_CLOCK)
	{
		command->evidence = EVIDENCE_CLOCK;
		command->action = (SmSwitch){.settle_ms = EVIDENCE_CLOCK_SETTLE_MS};
		return NULL;
	}
	command->action = model->switches[action];
	if (command->asked != ACTION_OPEN && command->asked != ACTION_CLOSE)
		return evidence_prepare_keep(command, model);
	if (!evidence_take(command, model, EVIDENCE_RELAY, evidence_relay, 1) &&
		!evidence_take(command, model, EVIDENCE_POWER, evidence_power, 1) &&
		!evidence_take(command, model, EVIDENCE_CURRENT, evidence_current, 3) &&
		!evidence_take(command, model, EVIDENCE_ENERGY, evidence_energy, 1))
		return "the model has no register that shows anything of its breaker";
	if (command->verify || command->action.known)
		return NULL;
	return command->permit ? "close mode is local_key, and the model cannot leave closing to a key"
						   : "the model cannot be switched that way";
}

/* Whether a load flows. */
static bool
evidence_flows(const SmCommand *command, const SmLook *look)
{
	double limit = command->evidence == EVIDENCE_POWER ? EVIDENCE_POWER_W : EVIDENCE_CURRENT_A;
	int i;

	if (command->evidence == EVIDENCE_ENERGY)
		return command->first_back.known && look->values.energy[METRIC_ENERGY_WH] >
												command->first_back.values.energy[METRIC_ENERGY_WH];
	for (i = 0; i < command->point_count; i++)
	{
		SmMetric metric = command->points[i].metric;

		if (point_has(&look->values, metric) && fabs(look->values.number[metric]) > limit)
			return true;
	}
	return false;
}

/* The position a look proves; RELAY_UNKNOWN when it proves none. */
SmRelay
evidence_position(const SmCommand *command, const SmLook *look)
{
	if (!look->known)
		return RELAY_UNKNOWN;
	if (command->evidence == EVIDENCE_RELAY || command->evidence == EVIDENCE_KEEP)
		return look->values.relay;
	if (command->evidence >= EVIDENCE_KEEP)
		return RELAY_UNKNOWN;
	return evidence_flows(command, look) ? RELAY_CLOSED : RELAY_UNKNOWN;
}

static SmRelay
evidence_wanted(const SmCommand *command)
{
	return command->close ? RELAY_CLOSED : RELAY_OPEN;
}

static const char *
evidence_kind_name(SmEvidence evidence)
{
	static const char *const names[] = {"relay_register", "power", "current", "energy",
										"keep_bit",       "echo",  "clock"};

	return names[evidence];
}

/* Writes down how a command ended. */
void
evidence_decide(SmCommand *command, const char *outcome, const char *format, ...)
{
	va_list arguments;

	command->outcome = outcome;
	if (command->kind == NULL)
		command->kind = evidence_kind_name(command->evidence);
	va_start(arguments, format);
	vsnprintf(command->detail, sizeof(command->detail), format, arguments);
	va_end(arguments);
}

static const char *
evidence_keep_name(SmKeep keep)
{
	return keep == KEEP_ON ? "on" : "off";
}

static bool
evidence_is_kept(const SmCommand *command, const SmLook *look)
{
	return look->values.keep == (command->asked == ACTION_KEEP ? KEEP_ON : KEEP_OFF);
}

/* A breaker that is locked on the spot cannot be closed from afar, which is nobody's failure. */
static void
evidence_decide_locked(SmCommand *command)
{
	command->kind = "local_lock";
	evidence_decide(command, "failed",
					"the breaker is locked on the spot: it is unlocked and closed there");
}

/* Judges the first look of what is no breaker; true when that is the end of it. */
static bool
evidence_judge_first_service(SmCommand *command)
{
	if (command->evidence == EVIDENCE_KEEP && evidence_is_kept(command, &command->before))
		evidence_decide(command, "confirmed", "keep-power was %s already",
						evidence_keep_name(command->before.values.keep));
	else if (!command->verify)
		return false;
	else if (command->evidence == EVIDENCE_KEEP)
		evidence_decide(command, "failed", "keep-power is %s",
						evidence_keep_name(command->before.values.keep));
	else if (command->evidence == EVIDENCE_CLOCK)
		evidence_decide(command, "failed", "it is not known whether the clock was set: it shows %s",
						command->clock_text);
	else
		evidence_decide(command, "failed", "the meter does not show whether it keeps its power");
	return true;
}

/*
 * Judges the look before anything was sent. True when that is the end of it; else the command goes
 * on (to ask, or, when it only verifies, to look again).
 */
bool
evidence_judge_first(SmCommand *command)
{
	SmRelay position = evidence_position(command, &command->before);
	SmRelay wanted = evidence_wanted(command);

	if (command->evidence >= EVIDENCE_KEEP)
		return evidence_judge_first_service(command);
	if (command->evidence == EVIDENCE_RELAY)
	{
		if (position == wanted)
			evidence_decide(command, "confirmed", "was %s already", point_relay_name(position));
		else if (command->close && command->before.values.locked)
			evidence_decide_locked(command);
		else if (command->verify && position != RELAY_UNKNOWN)
			evidence_decide(command, "failed", "the breaker is %s", point_relay_name(position));
		else if (command->verify)
			evidence_decide(command, "unknown", "the relay register says %" PRId64,
							command->before.values.relay_raw);
		return command->outcome != NULL;
	}
	if (!command->verify || command->evidence == EVIDENCE_ENERGY)
		return false;
	if (position == RELAY_CLOSED && command->close)
		evidence_decide(command, "confirmed", "a load flows: the breaker is closed");
	else if (position == RELAY_CLOSED)
		evidence_decide(command, "failed", "a load flows: the breaker is closed");
	else
		evidence_decide(command, "unknown", "no load flows: it may be open or only idle");
	return true;
}

/* Whether a clock shows the local time that was told with the go. */
static bool
evidence_clock_is_right(const SmCommand *command)
{
	int64_t local_s = command->go.local_s + (command->clock_us - command->asked_us) / US_PER_S;

	return strcmp(command->clock_text, "nonsense") != 0 &&
		   llabs(meter_clock_seconds(&command->clock.time) - local_s) <= EVIDENCE_CLOCK_S;
}

/* Judges a look after the write of what is no breaker; true when it settles the matter. */
static bool
evidence_judge_back_service(SmCommand *command)
{
	int64_t after_ms = (command->seen_us - command->written_us) / US_PER_MS;

	if (command->evidence == EVIDENCE_KEEP && evidence_is_kept(command, &command->after))
		evidence_decide(command, "confirmed", "keep-power is %s after %" PRId64 " ms",
						evidence_keep_name(command->after.values.keep), after_ms);
	else if (command->evidence == EVIDENCE_ACK && command->echoed)
		evidence_decide(command, "confirmed",
						"the meter took the command; it does not show whether it keeps its power");
	else if (command->evidence == EVIDENCE_CLOCK && evidence_clock_is_right(command))
		evidence_decide(command, "confirmed", "the clock is right");
	else
		return false;
	return true;
}

/* Judges a look after the write; true when it settles the matter. */
bool
evidence_judge_back(SmCommand *command, int64_t now_us)
{
	SmRelay position = evidence_position(command, &command->after);

	if (command->evidence >= EVIDENCE_KEEP)
		return evidence_judge_back_service(command);
	if (command->evidence == EVIDENCE_RELAY || command->close)
	{
		if (position != evidence_wanted(command))
			return false;
		evidence_decide(command, "confirmed", "%s after %" PRId64 " ms", point_relay_name(position),
						(command->seen_us - command->written_us) / US_PER_MS);
		return true;
	}
	/* An open that no register shows: the load that flowed before must be gone. */
	if (command->evidence == EVIDENCE_ENERGY || now_us < command->settled_us ||
		position == RELAY_CLOSED || evidence_position(command, &command->before) != RELAY_CLOSED)
		return false;
	evidence_decide(command, "confirmed", "the load is gone after %" PRId64 " ms",
					(command->seen_us - command->written_us) / US_PER_MS);
	return true;
}

/* Time is up without proof from a relay register. */
static void
evidence_conclude_register(SmCommand *command)
{
	SmRelay position = evidence_position(command, &command->after);

	if (position == RELAY_UNKNOWN)
		evidence_decide(command, "unknown", "the relay register says %" PRId64,
						command->after.values.relay_raw);
	else if (command->close && command->after.values.locked)
		evidence_decide_locked(command);
	else if (command->permit)
		evidence_decide(command, "awaiting_key", "closing is permitted; the key is to be pressed");
	else
		evidence_decide(command, "failed", "the breaker stays %s%s%s", point_relay_name(position),
						command->trouble[0] != '\0' ? ": " : "", command->trouble);
}

/* Time is up without proof from a load. */
static void
evidence_conclude_load(SmCommand *command)
{
	SmRelay position = evidence_position(command, &command->after);

	if (position == RELAY_CLOSED)
		evidence_decide(command, "failed", "a load still flows: the breaker stays closed");
	else if (command->permit)
		evidence_decide(command, "awaiting_key", "closing is permitted; the key is to be pressed");
	else if (command->echoed)
	{
		command->kind = "echo";
		evidence_decide(command, "confirmed",
						"the meter took the command; it shows no load that could prove more");
	}
	else
		evidence_decide(command, "unknown", "%s, and there is no load to tell by",
						command->trouble[0] != '\0' ? command->trouble : "it was not echoed");
}

/* Time is up without proof of what is no breaker. */
static void
evidence_conclude_service(SmCommand *command)
{
	const char *trouble = command->trouble[0] != '\0' ? command->trouble : "it was acknowledged";

	if (command->evidence == EVIDENCE_KEEP)
		evidence_decide(command, "failed", "keep-power stays %s: %s",
						evidence_keep_name(command->after.values.keep), trouble);
	else if (command->evidence == EVIDENCE_CLOCK)
		evidence_decide(command, "failed", "the clock shows %s: %s", command->clock_text, trouble);
	else
		evidence_decide(command, "failed", "the meter did not take the command: %s", trouble);
}

/* Ends the looking back when its time is over. */
void
evidence_conclude(SmCommand *command)
{
	if (!command->after.known)
		evidence_decide(command, "unknown", "%s but not read back: %s",
						command->written ? "written" : "not written",
						command->trouble[0] != '\0' ? command->trouble : "no answer");
	else if (command->evidence >= EVIDENCE_KEEP)
		evidence_conclude_service(command);
	else if (command->evidence == EVIDENCE_RELAY)
		evidence_conclude_register(command);
	else if (!command->written && evidence_position(command, &command->after) != RELAY_CLOSED)
		evidence_decide(command, "unknown",
						"the counter does not run: it may be open or only idle");
	else
		evidence_conclude_load(command);
}

/* Adds what a look showed, as a JSON object. */
static void
evidence_add_look(SmText *text, const SmCommand *command, const SmLook *look)
{
	int i;

	text_add(text, "{\"at\":\"");
	text_add_time(text, look->wall_ms);
	text_add(text, "\"");
	for (i = 0; i < command->point_count; i++)
	{
		SmMetric metric = command->points[i].metric;

		if (metric == METRIC_RELAY)
		{
			text_printf(text, ",\"raw\":%" PRId64 ",\"relay\":", look->values.relay_raw);
			text_add_json(text, point_relay_name(look->values.relay));
			if (look->values.locked)
				text_add(text, ",\"locked\":true");
			if (look->values.keep != KEEP_UNKNOWN)
				text_printf(text, ",\"keep\":\"%s\"", evidence_keep_name(look->values.keep));
		}
		else if (!point_has(&look->values, metric))
			continue;
		else if (metric == METRIC_ENERGY_WH)
			text_printf(text, ",\"energy_wh\":%" PRId64, look->values.energy[METRIC_ENERGY_WH]);
		else
			text_printf(text, ",\"%s\":%.6g", point_metric_name(metric),
						look->values.number[metric]);
	}
	text_add(text, "}");
}

/* What was written, but never a password. */
static void
evidence_add_write(SmText *text, const SmCommand *command)
{
	char until[METER_CLOCK_TEXT];
	int i;

	if (command->asked == ACTION_SET_CLOCK)
		text_add(text, ",\"write\":{\"clock\":true");
	else
	{
		text_printf(text, ",\"write\":{\"function\":%d,", command->action.function);
		if (!command->go.has_key)
			text_printf(text, "\"address\":%d,", command->action.address);
		text_add(text, "\"registers\":[");
		for (i = 0; i < command->action.count; i++)
			text_printf(text, i > 0 ? ",%d" : "%d", command->action.words[i]);
		text_add(text, "]");
	}
	if (command->go.has_until)
	{
		meter_clock_text(&command->go.until, until);
		text_printf(text, ",\"valid_until\":\"%s\"", until);
	}
	text_printf(text, ",\"echo\":%s", command->echoed ? "true" : "false");
	if (command->write_error != 0)
		text_printf(text, ",\"error\":%d", command->write_error);
	text_add(text, ",\"at\":\"");
	text_add_time(text, command->written_ms);
	text_add(text, "\"}");
}

/* Adds the evidence of a finished command as a JSON object. */
void
evidence_add_json(SmText *text, const SmCommand *command)
{
	text_add(text, "{\"kind\":");
	text_add_json(text, command->kind);
	if (!command->written && command->outcome != NULL && strcmp(command->outcome, "confirmed") == 0)
		text_add(text, ",\"already\":true");
	if (command->before.known)
	{
		text_add(text, ",\"before\":");
		evidence_add_look(text, command, &command->before);
	}
	if (command->written)
		evidence_add_write(text, command);
	if (command->after.known)
	{
		text_add(text, ",\"after\":");
		evidence_add_look(text, command, &command->after);
		text_printf(text, ",\"reads\":%d,\"after_ms\":%" PRId64, command->reads,
					(command->seen_us - command->written_us) / US_PER_MS);
	}
	if (command->clock_text[0] != '\0')
		text_printf(text, ",\"clock\":\"%s\",\"clock_age_ms\":%" PRId64, command->clock_text,
					(base_now_us() - command->clock_us) / US_PER_MS);
	if (command->trouble[0] != '\0')
	{
		text_add(text, ",\"trouble\":");
		text_add_json(text, command->trouble);
	}
	text_add(text, "}");
}
