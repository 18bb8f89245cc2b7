/*
 * cabinet_look.c - values for a person: written with their units, and whether they can be true
 *
 * Pure but for text. The bounds are wide: they find a wrong register or scale, not a bad day.
 */
#include <math.h>
#include <stdio.h>

#include "cabinet.h"

typedef struct SmBounds
{
	const char *unit;
	double low;
	double high;
	int digits;
} SmBounds;

/* In the order of SmMetric. */
static const SmBounds look_bounds[METRIC_COUNT] = {
	{"Wh", 0, 1e12, 0},       {"varh", -1e12, 1e12, 0}, {"V", 80, 300, 1},
	{"V", 80, 300, 1},        {"V", 80, 300, 1},        {"A", -2000, 2000, 3},
	{"A", -2000, 2000, 3},    {"A", -2000, 2000, 3},    {"A", -2000, 2000, 3},
	{"mA", 0, 10000, 0},      {"C", -40, 120, 1},       {"W", -1e6, 1e6, 1},
	{"W", -1e6, 1e6, 1},      {"W", -1e6, 1e6, 1},      {"W", -1e6, 1e6, 1},
	{"", -1.0005, 1.0005, 3}, {"Hz", 45, 65, 2},        {"", 0, 0, 0},
};

static double
look_number(const SmValues *values, SmMetric metric)
{
	if (metric <= METRIC_REACTIVE_VARH)
		return (double) values->energy[metric];
	return values->number[metric];
}

/* A value with its unit; "-" when there is none. */
void
cabinet_format(const SmValues *values, SmMetric metric, char *text, size_t size)
{
	const SmBounds *bounds = &look_bounds[metric];

	if (metric == METRIC_RELAY)
		snprintf(text, size, "%s",
				 point_has(values, metric) ? point_relay_name(values->relay) : "-");
	else if (!point_has(values, metric))
		snprintf(text, size, "-");
	else if (metric <= METRIC_REACTIVE_VARH)
		snprintf(text, size, "%lld %s", (long long) values->energy[metric], bounds->unit);
	else
		snprintf(text, size, "%.*f%s%s", bounds->digits, values->number[metric],
				 bounds->unit[0] != '\0' ? " " : "", bounds->unit);
}

/* Whether a value can be true, and if not, why. */
SmVerdict
cabinet_look(const SmValues *values, SmMetric metric, char *why, size_t size)
{
	const SmBounds *bounds = &look_bounds[metric];
	double number;

	why[0] = '\0';
	if (metric == METRIC_RELAY)
	{
		if (point_has(values, metric))
			return LOOK_GOOD;
		snprintf(why, size, "%lld is neither the value of open nor of closed",
				 (long long) values->relay_raw);
		return LOOK_ODD;
	}
	if (!point_has(values, metric))
	{
		snprintf(why, size, "the meter says that it has no such value");
		return LOOK_ABSENT;
	}
	number = look_number(values, metric);
	if (number >= bounds->low && number <= bounds->high)
		return LOOK_GOOD;
	snprintf(why, size, "not between %g and %g %s", bounds->low, bounds->high, bounds->unit);
	return LOOK_ODD;
}

/*
 * Whether power, voltage and current of a meter go together: real power is never much above the
 * product. NULL when they do, or when nothing flows that could tell.
 */
const char *
cabinet_look_together(const SmValues *values)
{
	double product = 0;
	double power;
	int phase;

	for (phase = 0; phase < 3; phase++)
	{
		SmMetric v = (SmMetric) (METRIC_V_A + phase);
		SmMetric i = (SmMetric) (METRIC_I_A + phase);

		if (point_has(values, v) && point_has(values, i))
			product += fabs(values->number[v] * values->number[i]);
	}
	if (!point_has(values, METRIC_POWER_W))
		return NULL;
	power = fabs(values->number[METRIC_POWER_W]);
	if (product > 50 && power > 1.2 * product + 20)
		return "power is more than voltage times current: the scale of one of them is wrong";
	if (product > 200 && power < 0.02 * product)
		return "power is next to nothing of voltage times current: the scale of one is wrong";
	return NULL;
}
