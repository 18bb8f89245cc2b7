/*
 * learn.c - what a meter turned out not to have, and how to ask it from then on
 *
 * A meter begins with the requests of its model. One that it refuses is split, and what it refuses
 * even then is not asked for again for a day (the counter: an hour): the map is wrong, and no
 * number of questions makes it right. What was learned is told to the database as a list of keys (see coalesce_key()), with
 * "=metric" behind those that are lost, and comes back with the plan after a restart.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "field.h"
#include "log.h"

#define LEARN_TEXT_MOST 1000
#define LEARN_AGAIN_S 86400
#define LEARN_COUNTER_AGAIN_S 3600 /* when the counter itself is lost */

/* Goes back to the requests of the model. */
void
learn_reset(SmMeter *meter)
{
	if (meter->own_blocks)
		free(meter->blocks);
	free(meter->refused);
	meter->refused = NULL;
	meter->own_blocks = false;
	meter->blocks = meter->model->blocks;
	meter->block_count = meter->model->block_count;
	meter->ask_again_us = 0;
}

/* Makes the list of requests the meter's own, with room for some more. */
static void
learn_own_blocks(SmMeter *meter, int more)
{
	size_t count = (size_t) meter->block_count;
	SmBlock *blocks = base_alloc((count + (size_t) more) * sizeof(SmBlock));

	memcpy(blocks, meter->blocks, count * sizeof(SmBlock));
	if (meter->own_blocks)
		free(meter->blocks);
	meter->blocks = blocks;
	meter->own_blocks = true;
}

/*
 * Puts the parts of a block in its place, or marks it when it has none or they shall not be tried.
 * False when nothing of it is left to ask for.
 */
static bool
learn_split(SmMeter *meter, int at, bool try_parts)
{
	SmBlock block = meter->blocks[at];
	SmBlock *place;
	SmBlock parts[METRIC_COUNT];
	int count = try_parts ? coalesce_split(meter->model->points, &block, parts) : 0;
	int rest = meter->block_count - at - 1;

	learn_own_blocks(meter, count);
	place = &meter->blocks[at];
	place->refused = count == 0;
	if (count == 0)
		return false;
	memmove(place + count, place + 1, (size_t) rest * sizeof(SmBlock));
	memcpy(place, parts, (size_t) count * sizeof(SmBlock));
	meter->block_count += count - 1;
	return true;
}

/* Adds a key to what is remembered. */
static void
learn_note(SmMeter *meter, const char *key, const char *metric)
{
	size_t used = meter->refused != NULL ? strlen(meter->refused) : 0;
	size_t room = used + strlen(key) + (metric != NULL ? strlen(metric) : 0) + 3;

	if (room > LEARN_TEXT_MOST)
		return;
	meter->refused = base_resize(meter->refused, room);
	snprintf(meter->refused + used, room - used, "%s%s%s%s", used > 0 ? " " : "", key,
			 metric != NULL ? "=" : "", metric != NULL ? metric : "");
}

/* Sets when what was refused is asked for again: without its counter a meter is of no use. */
static void
learn_ask_again(SmMeter *meter, int64_t in_s)
{
	if (strstr(meter->refused, "=energy_wh") != NULL && in_s > LEARN_COUNTER_AGAIN_S)
		in_s = LEARN_COUNTER_AGAIN_S;
	meter->ask_again_us = base_now_us() + in_s * US_PER_S;
}

/* The metric that is lost with a block of one point. */
static const char *
learn_metric(const SmMeter *meter, const SmBlock *block)
{
	return point_metric_name(meter->model->points[block->first].metric);
}

/*
 * The meter has no such registers or item: from now on its parts are asked for instead, or, when
 * there are no parts, nothing. False in the second case.
 */
bool
learn_refused(SmMeter *meter, int at, const SmAnswer *answer)
{
	SmBlock block = meter->blocks[at];
	bool split = learn_split(meter, at, answer->refusal != REFUSAL_FUNCTION || block.function == 0);
	char key[COALESCE_KEY];
	char text[FIELD_ERROR];

	coalesce_key(&meter->target, &block, key);
	learn_note(meter, key, split ? NULL : learn_metric(meter, &block));
	learn_ask_again(meter, LEARN_AGAIN_S);
	meter->dirty = true;
	if (split)
		return true;
	snprintf(text, sizeof(text), "%s at %s: %s", learn_metric(meter, &block), key, answer->text);
	log_warning("meter %d/%lld: %s; it is not asked for again", meter->site_id,
				(long long) meter->meter_id, text);
	field_set_error(meter->error, text, &meter->dirty);
	return false;
}

/* Whether a list of keys holds this one. */
static bool
learn_has(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (; text != NULL; text = strchr(text, ' '))
	{
		text += *text == ' ';
		if (strncmp(text, key, length) == 0 && strchr(" =", text[length]) != NULL)
			return true;
	}
	return false;
}

/* Learns again what was known of a meter before a restart. */
void
learn_restore(SmMeter *meter, const char *text, int64_t again_s)
{
	int at = 0;

	while (at < meter->block_count)
	{
		SmBlock block = meter->blocks[at];
		char key[COALESCE_KEY];
		bool split;

		coalesce_key(&meter->target, &block, key);
		if (!learn_has(text, key))
		{
			at++;
			continue;
		}
		split = learn_split(meter, at, true);
		learn_note(meter, key, split ? NULL : learn_metric(meter, &block));
		at += !split;
	}
	if (meter->refused != NULL)
		learn_ask_again(meter, again_s);
}

/* Whether something the model wants is lost for good. */
bool
learn_is_lacking(const SmMeter *meter)
{
	return meter->refused != NULL && strchr(meter->refused, '=') != NULL;
}

/* What meters refused is asked for again: the map, or the meter, may be another one. */
void
field_ask_refused_again(SmField *field)
{
	int i;

	for (i = 0; i < field->meter_count; i++)
	{
		if (field->meters[i]->ask_again_us != 0)
			field->meters[i]->ask_again_us = 1;
	}
}
