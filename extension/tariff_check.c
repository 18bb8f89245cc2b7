/*
 * tariff_check.c
 *		What in a tariff definition no day can reach, and what no row covers.
 */
#include "module.h"

#include "tariff_build.h"

#define CHECK_LEAP_YEAR_DAYS 366 /* 2000 was a leap year, which begins with day 0 */

/*
 * Whether a row of bounds is the first that fits on some day, for the smallest
 * household it is for: larger ones fit more of the rows before it.
 */
static bool
check_bounds_match(const SmTariff *tariff, int row)
{
	int32 day;

	for (day = 0; day < CHECK_LEAP_YEAR_DAYS; day++)
		if (rating_bounds_at(tariff, day, tariff->bounds[row].household) == row)
			return true;
	return false;
}

/*
 * Every row of bounds must fit some day and household, and every day must have
 * a row for any household.
 */
void
tariff_check_bounds(const SmTariff *tariff)
{
	int32 day;
	int i;

	for (i = 0; i < tariff->n_bounds; i++)
		if (!check_bounds_match(tariff, i))
			tariff_refuse(psprintf("$.tiers.bounds[%d]", i), "can never match",
						  "The first row whose season and household fit wins; remove this row or "
						  "move it up.");
	for (day = 0; day < CHECK_LEAP_YEAR_DAYS; day++)
	{
		int year;
		int month;
		int day_of_month;

		if (rating_bounds_at(tariff, day, 0) >= 0)
			continue;
		calendar_date(day, &year, &month, &day_of_month);
		tariff_refuse("$.tiers.bounds", psprintf("has no row for %02d-%02d", month, day_of_month),
					  "Add a last row without season and household for all the rest.");
	}
}

/*
 * The place of a window in the definition.
 */
static char *
check_window_path(const SmSchedule *schedule, int window)
{
	int period = 0;

	while (window >= schedule->periods[period].first_window + schedule->periods[period].n_windows)
		period++;
	return psprintf("$.periods[%d].windows[%d]", period,
					window - schedule->periods[period].first_window);
}

/*
 * Every window must decide some minute of some day, and every minute of every
 * day must have a period.
 */
void
tariff_check_windows(const SmTariff *tariff)
{
	int window = calendar_dead_window(&tariff->schedule);
	int minute;

	if (window >= 0)
		tariff_refuse(
			check_window_path(&tariff->schedule, window),
			"can never match: earlier windows take all its time, or its season has no day",
			"The first matching period wins; remove this window or move its period up.");
	minute = calendar_gap(&tariff->schedule);
	if (minute >= 0)
		tariff_refuse(
			"$.periods",
			psprintf("leaves %02d:%02d of some days without a period", minute / 60, minute % 60),
			"Add a period without windows, which is the rest of the day.");
}
