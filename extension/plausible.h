/*
 * plausible.h - which readings of a meter can be right, as a fold over them in time order.
 *
 * Pure: no database, no memory of its own. The outcome for a reading depends on the readings before
 * it and never on the order in which they arrived, so the caller may start again at any valid one.
 */
#ifndef SUBMETER_PLAUSIBLE_H
#define SUBMETER_PLAUSIBLE_H

#include <stdbool.h>
#include <stdint.h>

/* Assumed where nobody entered a rated current: 100 A, 220 V, three phases. */
#define SM_DEFAULT_POWER_W 66000.0

/* What a meter can do at most, on its own side (before the multiplier). */
typedef struct SmRating
{
	double max_power_w; /* rated current x voltage x phases; 0 = not known */
	int64_t modulus_wh; /* where the register rolls over; 0 = never */
} SmRating;

typedef enum SmVerdict
{
	SM_VERDICT_NONE,
	SM_VERDICT_ACCEPT,
	SM_VERDICT_WITHDRAW,
	SM_VERDICT_REPLACE
} SmVerdict;

typedef enum SmClass
{
	SM_CLASS_VALID,
	SM_CLASS_BACKWARDS, /* suspect: below the last valid register */
	SM_CLASS_JUMP,      /* suspect: more than the meter can have measured */
	SM_CLASS_CONFIRMS,  /* valid, and the suspect before it is confirmed */
	SM_CLASS_WITHDRAWN
} SmClass;

/* The fold: last valid reading, and a suspect that a further reading may confirm. */
typedef struct SmFold
{
	bool has_base;
	bool has_candidate;
	int64_t base_us;
	int64_t base_wh;
	int64_t candidate_us;
	int64_t candidate_wh;
} SmFold;

extern double plausible_power_w(int64_t delta_wh, int64_t elapsed_us);
extern bool plausible_step(const SmRating *rating, int64_t from_us, int64_t from_wh, int64_t to_us,
						   int64_t to_wh);
extern bool plausible_delta(const SmRating *rating, int64_t from_us, int64_t from_wh, int64_t to_us,
							int64_t to_wh, int64_t *delta_wh);
extern SmClass plausible_fold(SmFold *fold, const SmRating *rating, SmVerdict verdict,
							  int64_t ts_us, int64_t wh);
extern bool plausible_sentinel(int64_t wh);

#endif
