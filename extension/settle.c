/*
 * settle.c - readings to usage to charge, touching only what is new.
 *
 * settle_plan.c finds the meters with something new and what concerns them; one query then streams
 * their readings in the order (meter, time); slice.c puts the energy of each interval into local hours
 * and the spans of billing cycles; settle_rate.c rates them; settle_write.c stores. What an account
 * owes is always rated anew from the energy of its cycle, so the result depends on the facts and never
 * on how they came.
 *
 * Locks: the site's row of duty_state for the duty settle, taken by the caller, makes settles of one
 * site take turns. Ingest is never waited for: it writes meter_state and meter_dirty, this room writes
 * meter_settled, site_settled, usage_day, demand_day and charge.
 */
#include "module.h"

#include "utils/builtins.h"

#include "settle.h"

/*
 * Room for everything of one run; SPI's procedure context, gone with SPI_finish().
 */
SmSettle *
settle_begin(int32 site_id, text *time_zone)
{
	SmSettle *settle = palloc0(sizeof(SmSettle));

	settle->site_id = site_id;
	settle->as_of = DT_NOEND;
	settle->known_at = DT_NOEND;
	settle->clip_from = DT_NOBEGIN;
	settle->clip_to = DT_NOEND;
	settle->accrued_to = settle->accrued_before = SM_NO_DAY;
	settle->zone = pg_tzset(text_to_cstring(time_zone));
	if (settle->zone == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone \"%s\" is not known", text_to_cstring(time_zone))));
	return settle;
}

SM_FUNCTION(submeter_settle_site);

/*
 * submeter.settle_site(site_id, time_zone, as_of)
 */
Datum
submeter_settle_site(PG_FUNCTION_ARGS)
{
	SmSettle *settle;
	int64 n_intervals;

	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	settle->as_of = PG_GETARG_TIMESTAMPTZ(2);
	settle_plan(settle);
	usage_clear(settle);
	demand_clear(settle);
	stream_run(settle);
	charges_write(settle);
	meters_write(settle);
	accrued_write(settle);
	n_intervals = settle->n_intervals;
	SPI_finish();
	PG_RETURN_INT64(n_intervals);
}
