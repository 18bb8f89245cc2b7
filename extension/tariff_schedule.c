/*
 * tariff_schedule.c
 *		Seasons, periods and windows of a tariff definition.
 */
#include "module.h"

#include "tariff_build.h"

#define SCHEDULE_ALL_DAYS ((1 << SM_DAY_WORKDAY) | (1 << SM_DAY_WEEKEND) | (1 << SM_DAY_HOLIDAY))
#define SCHEDULE_SEASONS_HINT \
	"Write {\"summer\": [\"05-01\", \"11-01\"]}, the second day is no part of it."
#define SCHEDULE_PERIODS_HINT                                                                \
	"Write [{\"name\": \"peak\", \"windows\": [{\"from\": \"10:00\", \"to\": \"12:00\"}]}, " \
	"{\"name\": \"flat\"}]."

static const char *const period_keys[] = {"name", "windows", NULL};
static const char *const window_keys[] = {"from", "to", "seasons", "flag", "days", NULL};

/*
 * Read one season: [from, to) as days of any year.
 */
static void
schedule_add_season(SmSchedule *schedule, const char *name, JsonbValue *value, const char *path)
{
	SmSeason *season = &schedule->seasons[schedule->n_seasons];
	JsonbContainer *days = tariff_array(value, path, 2, SCHEDULE_SEASONS_HINT);

	if (JsonContainerSize(days) != 2)
		tariff_refuse(path, "is not two days", SCHEDULE_SEASONS_HINT);
	strlcpy(season->name, name, sizeof(season->name));
	season->from_mmdd =
		(int16) tariff_mmdd(getIthJsonbValueFromContainer(days, 0), psprintf("%s[0]", path));
	season->to_mmdd =
		(int16) tariff_mmdd(getIthJsonbValueFromContainer(days, 1), psprintf("%s[1]", path));
	if (season->from_mmdd == season->to_mmdd)
		tariff_refuse(path, "is empty: it ends on the day it begins", SCHEDULE_SEASONS_HINT);
	schedule->n_seasons++;
}

/*
 * Compile $.seasons.
 */
void
tariff_compile_seasons(SmTariffBuild *build)
{
	SmSchedule *schedule = &build->tariff->schedule;
	JsonbValue *value = tariff_member(build->root, "seasons");
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue days;

	if (value == NULL)
		return;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		tariff_refuse("$.seasons", "is not an object", SCHEDULE_SEASONS_HINT);
	if (JsonContainerSize(value->val.binary.data) > SM_MAX_SEASONS)
		tariff_refuse("$.seasons", psprintf("has more than %d members", SM_MAX_SEASONS),
					  SCHEDULE_SEASONS_HINT);
	iterator = JsonbIteratorInit(value->val.binary.data);
	token = JsonbIteratorNext(&iterator, &key, false);
	while ((token = JsonbIteratorNext(&iterator, &key, true)) == WJB_KEY)
	{
		char *path = tariff_key_path("$.seasons", key.val.string.val, key.val.string.len);
		char *name = tariff_name(&key, path, "Name a season with a word such as \"summer\".");

		token = JsonbIteratorNext(&iterator, &days, true);
		schedule_add_season(schedule, name, &days, path);
	}
	Assert(token == WJB_END_OBJECT);
}

/*
 * The number of the season a text names.
 */
int
tariff_season(const SmTariff *tariff, JsonbValue *value, const char *path)
{
	const char *hint = "Name one of $.seasons.";
	char *name = tariff_text(value, path, hint);
	int i;

	for (i = 0; i < tariff->schedule.n_seasons; i++)
		if (strcmp(tariff->schedule.seasons[i].name, name) == 0)
			return i;
	tariff_refuse(path, psprintf("names the season \"%s\", which is not there", name), hint);
}

/*
 * The seasons of a window, as bits.
 */
static uint16
schedule_window_seasons(const SmTariff *tariff, JsonbValue *value, const char *path)
{
	JsonbContainer *names =
		tariff_array(value, path, SM_MAX_SEASONS, "Write names of $.seasons, such as [\"hot\"].");
	uint16 seasons = 0;
	uint32 i;

	for (i = 0; i < JsonContainerSize(names); i++)
	{
		char *place = psprintf("%s[%u]", path, i);
		int season = tariff_season(tariff, getIthJsonbValueFromContainer(names, i), place);

		if ((seasons >> season & 1) != 0)
			tariff_refuse(place, "is named twice", "Keep each season once.");
		seasons |= (uint16) (1 << season);
	}
	return seasons;
}

/*
 * The day types of a window, as bits.
 */
static uint8
schedule_window_days(JsonbValue *value, const char *path)
{
	static const char *const types[] = {[SM_DAY_WORKDAY] = "workday",
										[SM_DAY_WEEKEND] = "weekend",
										[SM_DAY_HOLIDAY] = "holiday",
										NULL};
	const char *hint = "Write some of \"workday\", \"weekend\" and \"holiday\", each once.";
	JsonbContainer *names = tariff_array(value, path, SM_DAY_HOLIDAY + 1, hint);
	uint8 days = 0;
	uint32 i;

	for (i = 0; i < JsonContainerSize(names); i++)
	{
		char *place = psprintf("%s[%u]", path, i);
		int type = tariff_word(getIthJsonbValueFromContainer(names, i), place, types, hint);

		if ((days >> type & 1) != 0)
			tariff_refuse(place, "is named twice", hint);
		days |= (uint8) (1 << type);
	}
	return days;
}

/*
 * The bit of a day flag: the one it has, or a new one.
 */
static uint64
schedule_flag(SmFlags *flags, JsonbValue *value, const char *path)
{
	const char *hint = "Write the name of a day flag, such as \"hot_day\".";
	char *name = tariff_name(value, path, hint);
	int i;

	for (i = 0; i < flags->n_names; i++)
		if (strcmp(flags->names[i], name) == 0)
			return UINT64CONST(1) << i;
	if (flags->n_names == SM_MAX_FLAGS)
		tariff_refuse(path, psprintf("is one flag more than %d", SM_MAX_FLAGS), hint);
	strlcpy(flags->names[flags->n_names], name, SM_NAME_SIZE);
	return UINT64CONST(1) << flags->n_names++;
}

/*
 * Read one window into the schedule.
 */
static void
schedule_add_window(SmTariffBuild *build, JsonbValue *value, const char *path)
{
	SmSchedule *schedule = &build->tariff->schedule;
	const char *hint = "Write {\"from\": \"10:00\", \"to\": \"12:00\"}.";
	JsonbContainer *object = tariff_object(value, path, window_keys, hint);
	JsonbValue *seasons = tariff_member(object, "seasons");
	JsonbValue *flag = tariff_member(object, "flag");
	JsonbValue *days = tariff_member(object, "days");
	SmWindow window = {.day_types = SCHEDULE_ALL_DAYS};

	if (schedule->n_windows == SM_MAX_WINDOWS)
		tariff_refuse(path, psprintf("is one window more than %d", SM_MAX_WINDOWS), hint);
	window.from_minute = (int16) tariff_minute(tariff_required(object, path, "from", hint),
											   psprintf("%s.from", path), false);
	window.to_minute = (int16) tariff_minute(tariff_required(object, path, "to", hint),
											 psprintf("%s.to", path), true);
	if (window.from_minute == window.to_minute)
		tariff_refuse(
			path, "ends when it begins",
			"Write \"00:00\" to \"24:00\" for the whole day; an earlier end than start is "
			"on the next day.");
	if (seasons != NULL)
		window.seasons =
			schedule_window_seasons(build->tariff, seasons, psprintf("%s.seasons", path));
	if (flag != NULL)
		window.flags = schedule_flag(build->flags, flag, psprintf("%s.flag", path));
	if (days != NULL)
		window.day_types = schedule_window_days(days, psprintf("%s.days", path));
	schedule->windows[schedule->n_windows++] = window;
}

/*
 * Refuse the name of an earlier period, and a second rest of the day.
 */
static void
schedule_check_period(const SmSchedule *schedule, const SmPeriod *period, bool rest,
					  const char *path)
{
	int i;

	for (i = 0; i < schedule->n_periods; i++)
	{
		if (strcmp(schedule->periods[i].name, period->name) == 0)
			tariff_refuse(psprintf("%s.name", path), "is the name of an earlier period",
						  "Give all windows of a period in one row.");
		if (rest && schedule->periods[i].n_windows == 0)
			tariff_refuse(path, "is a second period without windows",
						  "Only one period can be the rest of the day.");
	}
}

/*
 * Read one period with its windows.
 */
static void
schedule_add_period(SmTariffBuild *build, JsonbValue *value, const char *path)
{
	SmSchedule *schedule = &build->tariff->schedule;
	SmPeriod *period = &schedule->periods[schedule->n_periods];
	JsonbContainer *object = tariff_object(value, path, period_keys, SCHEDULE_PERIODS_HINT);
	JsonbValue *windows = tariff_member(object, "windows");
	JsonbContainer *array;
	uint32 i;

	strlcpy(period->name,
			tariff_name(tariff_required(object, path, "name", SCHEDULE_PERIODS_HINT),
						psprintf("%s.name", path), SCHEDULE_PERIODS_HINT),
			sizeof(period->name));
	period->first_window = schedule->n_windows;
	schedule_check_period(schedule, period, windows == NULL, path);
	schedule->n_periods++;
	if (windows == NULL)
		return;
	array = tariff_array(windows, psprintf("%s.windows", path), SM_MAX_WINDOWS,
						 "Leave windows out for the rest of the day.");
	for (i = 0; i < JsonContainerSize(array); i++)
		schedule_add_window(build, getIthJsonbValueFromContainer(array, i),
							psprintf("%s.windows[%u]", path, i));
	period->n_windows = schedule->n_windows - period->first_window;
}

/*
 * Compile $.periods; without it a day has no parts.
 */
void
tariff_compile_periods(SmTariffBuild *build)
{
	JsonbValue *value = tariff_member(build->root, "periods");
	JsonbContainer *periods;
	uint32 i;

	if (value == NULL)
		return;
	periods = tariff_array(value, "$.periods", SM_MAX_PERIODS, SCHEDULE_PERIODS_HINT);
	for (i = 0; i < JsonContainerSize(periods); i++)
		schedule_add_period(build, getIthJsonbValueFromContainer(periods, i),
							psprintf("$.periods[%u]", i));
	tariff_check_windows(build->tariff);
}
