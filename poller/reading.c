/*
 * reading.c - a reading as the text of a submeter.reading_input
 *
 * The row is made once, goes to the spool as it is and from there into an array parameter. None of
 * its values can contain a quote, a comma or a space, so it needs no escapes.
 */
#include <inttypes.h>

#include "reading.h"

/* Adds (meter_id,ts,energy_wh,...,relay,source); a missing value is empty, which means NULL. */
void
reading_add_row(SmText *text, const SmReading *reading)
{
	const SmValues *values = &reading->values;
	int metric;

	text_printf(text, "(%" PRId64 ",", reading->meter_id);
	text_add_time(text, reading->ts_ms);
	for (metric = 0; metric < METRIC_COUNT; metric++)
	{
		text_add(text, ",");
		if (!point_has(values, (SmMetric) metric))
			continue;
		if (metric == METRIC_RELAY)
			text_add(text, point_relay_name(values->relay));
		else if (metric <= METRIC_REACTIVE_VARH)
			text_printf(text, "%" PRId64, values->energy[metric]);
		else
			text_printf(text, "%.9g", values->number[metric]);
	}
	text_add(text, reading->backfilled ? ",backfill)" : ",poll)");
}
