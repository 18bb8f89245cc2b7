/*
 * plausible.c - see plausible.h. Rules from the trade: a suspect never becomes the baseline of the
 * next difference; a single strange value is never believed; two that agree with each other are.
 */
#include "plausible.h"

/* A meter may be overloaded for a while before anything trips. */
#define OVERLOAD_FACTOR 1.2

/* Clocks of meter, gateway and host differ, and registers move in steps. */
#define CLOCK_SLACK_US INT64_C(60000000)
#define RESOLUTION_WH 100

/*
 * Least power that explains a move of the register, with the tolerances above. One number per pair of
 * readings, so that the largest of a whole batch says whether all of it is plausible.
 */
double
plausible_power_w(int64_t delta_wh, int64_t elapsed_us)
{
	if (delta_wh <= RESOLUTION_WH)
		return 0;
	return (double) (delta_wh - RESOLUTION_WH) * 3.6e9 /
		   ((double) (elapsed_us + CLOCK_SLACK_US) * OVERLOAD_FACTOR);
}

/*
 * Energy counted between two readings, over a roll-over where the modulus allows one. False when the
 * register cannot have moved so in the time.
 */
bool
plausible_delta(const SmRating *rating, int64_t from_us, int64_t from_wh, int64_t to_us,
				int64_t to_wh, int64_t *delta_wh)
{
	int64_t delta = to_wh - from_wh;

	if (delta < 0 && rating->modulus_wh > 0)
		delta += rating->modulus_wh;
	*delta_wh = delta;
	return delta >= 0 && plausible_power_w(delta, to_us - from_us) <=
							 (rating->max_power_w > 0 ? rating->max_power_w : SM_DEFAULT_POWER_W);
}

/*
 * Whether one reading can follow another.
 */
bool
plausible_step(const SmRating *rating, int64_t from_us, int64_t from_wh, int64_t to_us,
			   int64_t to_wh)
{
	int64_t delta_wh;

	return plausible_delta(rating, from_us, from_wh, to_us, to_wh, &delta_wh);
}

/*
 * Values by which devices say "no value": all bits set in 32 or 64 bits, at any decimal scale.
 */
bool
plausible_sentinel(int64_t wh)
{
	static const int64_t raw[] = {INT64_C(4294967295), INT64_C(2147483647), INT64_C(99999999)};

	for (unsigned i = 0; i < sizeof(raw) / sizeof(raw[0]); i++)
	{
		for (int64_t scale = 1; scale <= 1000; scale *= 10)
		{
			if (wh == raw[i] * scale && (raw[i] != 99999999 || scale >= 10))
				return true;
		}
	}
	return wh == INT64_MAX;
}

static void
fold_rebase(SmFold *fold, int64_t ts_us, int64_t wh)
{
	fold->has_base = true;
	fold->base_us = ts_us;
	fold->base_wh = wh;
	fold->has_candidate = false;
}

/*
 * Takes the next reading in time order and says what it is. A person's word goes before every rule.
 */
SmClass
plausible_fold(SmFold *fold, const SmRating *rating, SmVerdict verdict, int64_t ts_us, int64_t wh)
{
	SmClass suspect;

	if (verdict == SM_VERDICT_WITHDRAW)
		return SM_CLASS_WITHDRAWN;

	if (verdict != SM_VERDICT_NONE || !fold->has_base ||
		plausible_step(rating, fold->base_us, fold->base_wh, ts_us, wh))
	{
		fold_rebase(fold, ts_us, wh);
		return SM_CLASS_VALID;
	}

	if (fold->has_candidate &&
		plausible_step(rating, fold->candidate_us, fold->candidate_wh, ts_us, wh))
	{
		fold_rebase(fold, ts_us, wh);
		return SM_CLASS_CONFIRMS;
	}

	suspect = wh < fold->base_wh ? SM_CLASS_BACKWARDS : SM_CLASS_JUMP;
	fold->has_candidate = true;
	fold->candidate_us = ts_us;
	fold->candidate_wh = wh;
	return suspect;
}
