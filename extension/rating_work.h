/*
 * rating_work.h
 *		Between the files that rate a cycle.
 */
#ifndef SUBMETER_RATING_WORK_H
#define SUBMETER_RATING_WORK_H

#include "rating.h"

/* What is known while a cycle is rated. */
typedef struct SmRatingWork
{
	const SmRatingCycle *cycle;
	SmRated *out;
	int kwh_digits;
	int64_t used_wh;      /* by the cycle so far */
	int64_t position_wh;  /* in the tier cycle */
	int64_t run_end_wh;   /* position where this tier cycle or the charge ends */
	int64_t free_left_wh; /* of the allowance */
	SmInt128 free_e11;    /* what the energy under the allowance costs */
	SmInt128 adders_e11;
	SmInt128 energy_e11; /* all energy with its adders */
	bool all_free;       /* the allowance covers all of it */
} SmRatingWork;

/* rating.c */
extern bool rating_add(SmInt128 *sum_e11, SmInt128 amount_e11);
extern bool rating_put(SmRated *out, const SmRatedLine *add);

/* rating_energy.c */
extern bool rating_add_energy(SmRatingWork *work);

#endif /* SUBMETER_RATING_WORK_H */
