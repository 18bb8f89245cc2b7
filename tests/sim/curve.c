/*
 * curve.c - load curves, read from CSV files
 *
 * The first column of a file is a stamp and not looked at, each other column is one curve of equal
 * slots. The energy up to a moment is one rounded-down number, so usage between two moments is a
 * difference and no energy is lost or made by asking often. A curve repeats for ever.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curve.h"
#include "parse.h"

#define COLUMNS_MAX 64
#define LINE_SIZE 2048

/* Makes one empty curve per column of the header line; returns how many, -1 on a bad header. */
static int
curve_open_columns(SmFarm *farm, const char *name, char *header, SmCurve **columns)
{
	char *rest = header;
	char *title;
	int count = -1;

	header[strcspn(header, "\r\n")] = '\0';
	while ((title = strsep(&rest, ",")) != NULL)
	{
		if (++count == 0)
			continue;
		if (count > COLUMNS_MAX)
			return -1;
		columns[count - 1] = farm_alloc(sizeof(SmCurve));
		snprintf(columns[count - 1]->name, NAME_SIZE, "%.30s:%.30s", name, title);
		columns[count - 1]->next = farm->curves;
		farm->curves = columns[count - 1];
	}
	return count;
}

/* Adds one slot to a curve. */
static void
curve_append(SmCurve *curve, int64_t mwh)
{
	if (curve->slot_count % 1024 == 0)
	{
		size_t size = sizeof(int64_t) * ((size_t) curve->slot_count + 1025);

		curve->sums_mwh = realloc(curve->sums_mwh, size);
		if (curve->sums_mwh == NULL)
			abort();
	}
	if (curve->slot_count == 0)
		curve->sums_mwh[0] = 0;
	curve->sums_mwh[curve->slot_count + 1] = curve->sums_mwh[curve->slot_count] + mwh;
	curve->slot_count++;
}

/* Reads one line of values; unit_s is 0 for energy and the slot's seconds for mean power. */
static bool
curve_parse_line(SmCurve **columns, int count, char *line, int64_t power_s)
{
	char *rest = line;
	char *item;
	int64_t value;
	int i;

	line[strcspn(line, "\r\n")] = '\0';
	strsep(&rest, ",");
	for (i = 0; i < count; i++)
	{
		item = strsep(&rest, ",");
		if (item == NULL)
			return false;
		if (*item == '\0')
			value = 0;
		else if (!parse_fixed(item, 6, &value) || value < 0)
			return false;
		curve_append(columns[i], power_s == 0 ? value : value * power_s / 3600);
	}
	return true;
}

/* Reads a CSV file; its columns become the curves NAME:COLUMN. unit is kwh or kw. */
bool
curve_load(SmFarm *farm, const char *name, const char *path, int64_t slot_s, const char *unit,
		   SmError *error)
{
	FILE *file = fopen(path, "r");
	SmCurve *columns[COLUMNS_MAX];
	char line[LINE_SIZE];
	int count = -1;
	int number = 1;
	int i;

	if (file == NULL)
		return farm_fail(error, "could not open \"%s\": %s", path, strerror(errno));
	if (fgets(line, sizeof(line), file) != NULL)
		count = curve_open_columns(farm, name, line, columns);
	while (count > 0 && fgets(line, sizeof(line), file) != NULL)
	{
		number++;
		if (!curve_parse_line(columns, count, line, strcmp(unit, "kw") == 0 ? slot_s : 0))
			count = -1;
	}
	fclose(file);
	if (count <= 0 || number == 1)
		return farm_fail(error, "cannot read load curves from %s line %d", path, number);
	for (i = 0; i < count; i++)
		columns[i]->slot_ns = slot_s * NS_PER_S;
	return true;
}

/* Finds a curve by NAME:COLUMN; NAME:* gives the columns of a file in turn. */
const SmCurve *
curve_find(SmFarm *farm, const char *name)
{
	const SmCurve *found[COLUMNS_MAX];
	const SmCurve *curve;
	size_t length = strlen(name);
	bool any = length > 2 && strcmp(name + length - 2, ":*") == 0;
	int count = 0;

	for (curve = farm->curves; curve != NULL && count < COLUMNS_MAX; curve = curve->next)
		if (any ? strncmp(curve->name, name, length - 1) == 0 : strcmp(curve->name, name) == 0)
			found[count++] = curve;
	return count == 0 ? NULL : found[any ? farm->curve_turn++ % count : 0];
}

/* Energy from the curve's beginning up to a moment, over as many repetitions as that takes. */
int64_t
curve_energy_mwh(const SmCurve *curve, int64_t sim_ns)
{
	int64_t slots = sim_ns / curve->slot_ns;
	int64_t rounds = slots / curve->slot_count;
	int64_t at = slots % curve->slot_count;
	int64_t slot_mwh = curve->sums_mwh[at + 1] - curve->sums_mwh[at];
	SmWide part = (SmWide) slot_mwh * (sim_ns % curve->slot_ns) / curve->slot_ns;

	return rounds * curve->sums_mwh[curve->slot_count] + curve->sums_mwh[at] + (int64_t) part;
}

/* Mean power of the slot that a moment lies in. */
int64_t
curve_power_mw(const SmCurve *curve, int64_t sim_ns)
{
	int64_t at = sim_ns / curve->slot_ns % curve->slot_count;
	int64_t slot_mwh = curve->sums_mwh[at + 1] - curve->sums_mwh[at];

	return (int64_t) ((SmWide) slot_mwh * 3600 * NS_PER_S / curve->slot_ns);
}

/* Releases all curves. */
void
curve_free(SmFarm *farm)
{
	while (farm->curves != NULL)
	{
		SmCurve *next = farm->curves->next;

		free(farm->curves->sums_mwh);
		free(farm->curves);
		farm->curves = next;
	}
}
