/*
 * settle_lines.c - the lines of charges: what a bill prints, adding up to the rounded amount.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "settle.h"

#define LINE_COLUMNS 11

/* Lines of one charge on their way out. */
typedef struct SmLines
{
	ReturnSetInfo *result;
	const SmPair *pair;
	const SmCycle *cycle;
	const SmChargeRow *row;
	int ord;
	int n;
} SmLines;

static const SmVersion *
version_of(const SmPair *pair, const SmTariff *tariff)
{
	for (int i = 0; i < pair->priced->n_versions; i++)
	{
		if (pair->priced->versions[i].tariff == tariff)
			return &pair->priced->versions[i];
	}
	return NULL;
}

/*
 * What a line is called.
 */
static const char *
line_name(const SmRatedLine *line)
{
	switch (line->component)
	{
		case SM_LINE_ENERGY:
			return "energy";
		case SM_LINE_DEMAND:
			return "demand";
		case SM_LINE_POWER_FACTOR:
			return "power_factor";
		case SM_LINE_ADDER:
			return psprintf("adder:%s", line->tariff->adders[line->item].name);
		case SM_LINE_FEE:
			return psprintf("fee:%s", line->tariff->fees[line->item].name);
		case SM_LINE_MINIMUM:
			return "minimum";
		case SM_LINE_TAX:
			return "tax";
		default:
			return "allowance";
	}
}

static Datum
money_datum(SmInt128 units, int digits)
{
	char text[SM_RATING_TEXT_SIZE];

	return numeric_datum(rating_format(units, digits, digits, text, sizeof(text)));
}

/*
 * One line into the caller's tuplestore. A line of one version is for the part of the cycle in which
 * that was in force.
 */
static void
line_put(SmLines *lines, const SmRatedLine *line, const char *name, int64 units)
{
	const SmTariff *tariff = line->tariff;
	const SmVersion *version = version_of(lines->pair, tariff);
	bool whole = line->component != SM_LINE_ENERGY && line->component != SM_LINE_ADDER &&
				 line->component != SM_LINE_FEE;
	bool quantity = line->component == SM_LINE_ENERGY || line->component == SM_LINE_ADDER ||
					line->component == SM_LINE_DEMAND || line->component == SM_LINE_FREE_ENERGY;
	bool priced =
		quantity ? line->component != SM_LINE_FREE_ENERGY : line->component == SM_LINE_FEE;
	TimestampTz from = lines->cycle->from;
	TimestampTz to = lines->cycle->to;
	bool nulls[LINE_COLUMNS] = {false};
	Datum values[LINE_COLUMNS] = {0};
	char text[SM_RATING_TEXT_SIZE];

	if (version != NULL && !whole)
	{
		from = Max(from, version->from);
		to = Min(to, version->to);
	}
	values[0] = Int32GetDatum(lines->ord);
	values[1] = Int32GetDatum(++lines->n);
	values[2] = CStringGetTextDatum(name);
	nulls[3] = line->component != SM_LINE_ENERGY || tariff->n_tiers == 1;
	values[3] = Int32GetDatum(line->tier + 1);
	nulls[4] = line->component != SM_LINE_ENERGY || tariff->schedule.n_periods == 0;
	if (!nulls[4])
		values[4] = CStringGetTextDatum(tariff->schedule.periods[line->period].name);
	nulls[5] = version == NULL;
	values[5] = TimestampTzGetDatum(version != NULL ? version->from : 0);
	values[6] = TimestampTzGetDatum(from);
	values[7] = TimestampTzGetDatum(to);
	nulls[8] = !quantity;
	values[8] = Int64GetDatum(line->energy_wh);
	nulls[9] = !priced;
	if (priced)
		values[9] = numeric_datum(
			rating_format(line->price_e8, SM_RATING_PRICE_SCALE, 2, text, sizeof(text)));
	values[10] = money_datum(units, lines->row->digits);
	tuplestore_putvalues(lines->result->setResult, lines->result->setDesc, values, nulls);
}

/*
 * A line of allowances, shared among them in their order.
 */
static void
allowance_put(SmLines *lines, const SmRatedLine *line, int64 units)
{
	bool in_energy = line->component == SM_LINE_FREE_ENERGY;
	const SmAllowance *last = NULL;
	int64 scale = lines->row->digits == 2   ? 1000000
				  : lines->row->digits == 1 ? 10000000
											: 100000000;
	int64 left = units;

	for (int i = 0; i < lines->pair->n_allowances; i++)
	{
		const SmAllowance *allowance = &lines->pair->allowances[i];

		if (allowance->from >= lines->cycle->to || allowance->to <= lines->cycle->from ||
			(allowance->free_wh > 0) != in_energy)
			continue;
		if (last != NULL && !in_energy)
		{
			int64 part = Max(left, -(last->amount_e8 / scale));

			line_put(lines, line, psprintf("allowance:%s", last->name), part);
			left -= part;
			if (left == 0)
				return;
		}
		last = allowance;
	}
	if (last != NULL)
		line_put(lines, line, psprintf("allowance:%s", last->name), left);
}

/*
 * The lines of one charge.
 */
static void
charge_put_lines(SmLines *lines)
{
	const SmRated *rated = &lines->row->rated;
	SmInt128 *exact = palloc(sizeof(SmInt128) * Max(rated->n_lines, 1));
	int64 *units = palloc(sizeof(int64) * Max(rated->n_lines, 1));

	for (int i = 0; i < rated->n_lines; i++)
		exact[i] = rated->lines[i].amount_e11;
	if (!rating_apportion(exact, rated->n_lines, lines->row->digits, lines->row->rounded, units))
		elog(ERROR, "lines of account " INT64_FORMAT " do not add up", lines->pair->account_id);
	for (int i = 0; i < rated->n_lines; i++)
	{
		const SmRatedLine *line = &rated->lines[i];

		if (line->component == SM_LINE_FREE_ENERGY || line->component == SM_LINE_ALLOWANCE)
			allowance_put(lines, line, units[i]);
		else
			line_put(lines, line, line_name(line), units[i]);
	}
	pfree(exact);
	pfree(units);
}

SM_FUNCTION(submeter_charge_lines);

/*
 * submeter.charge_lines_of(site_id, time_zone, account_ids, tariff_ids, cycle_starts)
 */
Datum
submeter_charge_lines(PG_FUNCTION_ARGS)
{
	SmSettle *settle;
	SmChargeKeys keys;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	keys_read(fcinfo, 2, &keys);
	settle_plan_charges(settle, &keys);
	for (int i = 0; i < keys.n; i++)
	{
		SmPair *pair;
		SmCycle *cycle = key_cycle(settle, &keys.keys[i], &pair);
		SmChargeRow row;
		SmLines lines = {.result = (ReturnSetInfo *) fcinfo->resultinfo, .ord = i + 1};

		if (cycle == NULL)
			continue;
		charge_rate(settle, pair, cycle, true, &row);
		lines.pair = pair;
		lines.cycle = cycle;
		lines.row = &row;
		charge_put_lines(&lines);
		pfree(row.rated.lines);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
