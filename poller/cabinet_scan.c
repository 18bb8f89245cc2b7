/*
 * cabinet_scan.c - scan: who is on a bus, and of which model it may be
 *
 * Modbus: every unit is asked for a register; whoever answers, be it with a refusal, is there.
 * DL/T 645: everybody is asked at once (AA in every place); where several answers run into one
 * another the lowest pair of digits is tried from 00 to 99, and so on upwards. A line on which
 * answers drown each other altogether is asked pair by pair with --thorough.
 *
 * Models are guessed by asking for their points: a voltage that is one and a frequency that is one
 * tell more than numbers that may be anything.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cabinet.h"

#define SCAN_TIMEOUT_MS 300
#define SCAN_TIMEOUT_DLT_MS 500
#define SCAN_ASKED_MAX 512
#define SCAN_DATA_MAX 64
#define SCAN_METERS_MAX 256
#define SCAN_SHOWN 3

/* What was asked of a unit already. */
typedef struct SmAsked
{
	SmRequest request;
	SmPortOutcome outcome;
	int length;
	uint8_t data[SCAN_DATA_MAX];
} SmAsked;

/* How well a model fits. */
typedef struct SmFit
{
	const SmCabinetModel *own;
	int score;
	int most;
	SmValues values;
} SmFit;

typedef struct SmScan
{
	const SmCabinet *cabinet;
	SmCatalogue catalogue;
	SmPort port;
	int timeout_ms;
	SmTarget target; /* whom the answers below are of */
	SmAsked *asked;
	int asked_count;
	uint8_t addresses[SCAN_METERS_MAX][DLT645_ADDRESS];
	int found;
} SmScan;

/* ---- models ---- */

/* Asks, or remembers what was answered. */
static const SmAsked *
scan_ask(SmScan *scan, const SmRequest *request)
{
	SmAsked *asked;
	int i;

	for (i = 0; i < scan->asked_count; i++)
	{
		asked = &scan->asked[i];
		if (asked->request.control == request->control &&
			asked->request.length == request->length &&
			memcmp(asked->request.body, request->body, request->length) == 0)
			return asked;
	}
	asked = &scan->asked[scan->asked_count < SCAN_ASKED_MAX ? scan->asked_count++ : 0];
	asked->request = *request;
	asked->outcome = port_ask(&scan->port, request, scan->timeout_ms);
	if (asked->outcome == PORT_SILENT)
		asked->outcome = port_ask(&scan->port, request, 2 * scan->timeout_ms);
	asked->length = scan->port.join.length < SCAN_DATA_MAX ? scan->port.join.length : 0;
	memcpy(asked->data, scan->port.join.data, (size_t) asked->length);
	return asked;
}

/* What a value that can be true says for a model. */
static int
scan_weight(SmMetric metric)
{
	switch (metric)
	{
		case METRIC_V_A:
		case METRIC_V_B:
		case METRIC_V_C:
		case METRIC_FREQUENCY_HZ:
			return 3;
		case METRIC_RELAY:
			return 2;
		default:
			return 1;
	}
}

/* Asks for one point and judges it; false when the rest of the model need not be tried. */
static bool
scan_point(SmScan *scan, const SmModel *model, const SmPoint *point, SmFit *fit)
{
	SmBlock block = {.function = point->function,
					 .address = point->address,
					 .count = point->function != 0 ? point_words(point->type) : 0,
					 .di = point->di,
					 .points = 1};
	const SmAsked *asked;
	SmRequest request;
	SmTaken taken;
	char why[96];
	SmVerdict look;

	if (!coalesce_request(&scan->target, &block, &request))
		return true;
	fit->most += scan_weight(point->metric);
	asked = scan_ask(scan, &request);
	if (asked->outcome != PORT_GOOD)
	{
		fit->score -= 2;
		return fit->score > -4 || model->protocol != PROTOCOL_MODBUS;
	}
	coalesce_take(point, &block, &request, asked->data, asked->length, &fit->values, &taken);
	look = cabinet_look(&fit->values, point->metric, why, sizeof(why));
	if (look == LOOK_ODD)
		fit->score -= 3;
	else if (look == LOOK_ABSENT)
		fit->score -= 1;
	/* A zero is what a register of anything else may hold, too. */
	else if (point->metric > METRIC_REACTIVE_VARH && point->metric != METRIC_RELAY &&
			 fit->values.number[point->metric] == 0)
		fit->score += 0;
	else
		fit->score += scan_weight(point->metric);
	return fit->score > -6;
}

static SmFit
scan_fit(SmScan *scan, const SmCabinetModel *own)
{
	const SmModel *model = &own->model;
	SmFit fit = {.own = own};
	bool going = true;
	int pass;
	int i;

	/* What tells most comes first, so that a wrong model costs few questions. */
	for (pass = 3; pass >= 1 && going; pass--)
	{
		for (i = 0; i < model->point_count && going; i++)
		{
			if (scan_weight(model->points[i].metric) == pass)
				going = scan_point(scan, model, &model->points[i], &fit);
		}
	}
	if (!going)
		fit.score = -100;
	else if (cabinet_look_together(&fit.values) != NULL)
		fit.score -= 4;
	return fit;
}

static int
scan_compare(const void *left, const void *right)
{
	const SmFit *a = left;
	const SmFit *b = right;

	if (a->score != b->score)
		return b->score - a->score;
	return a->most - b->most;
}

static void
scan_print_fit(const SmFit *fit)
{
	static const SmMetric telling[] = {METRIC_ENERGY_WH, METRIC_V_A, METRIC_FREQUENCY_HZ,
									   METRIC_POWER_W, METRIC_RELAY};
	char text[64];
	size_t i;

	printf("    %-32s %2d of %2d:", fit->own->model.name, fit->score, fit->most);
	for (i = 0; i < sizeof(telling) / sizeof(telling[0]); i++)
	{
		if (!point_has(&fit->values, telling[i]))
			continue;
		cabinet_format(&fit->values, telling[i], text, sizeof(text));
		printf(" %s", text);
	}
	putchar('\n');
}

/* Guesses the model of the meter scan->target. */
static void
scan_guess(SmScan *scan)
{
	SmFit *fits = base_alloc((size_t) (scan->catalogue.count + 1) * sizeof(SmFit));
	int count = 0;
	int i;

	scan->asked_count = 0;
	for (i = 0; i < scan->catalogue.count; i++)
	{
		const SmCabinetModel *own = &scan->catalogue.models[i];

		if (own->model.protocol == scan->target.protocol &&
			catalogue_find(&scan->catalogue, own->model.name) == own)
			fits[count++] = scan_fit(scan, own);
	}
	qsort(fits, (size_t) count, sizeof(SmFit), scan_compare);
	for (i = 0;
		 i < count && fits[i].score > 0 && 2 * fits[i].score >= fits[i].most &&
		 4 * fits[i].score >= fits[0].score && (i < SCAN_SHOWN || fits[i].score == fits[0].score);
		 i++)
		scan_print_fit(&fits[i]);
	if (i == 0)
		printf("    no model of the catalogue fits\n");
	fflush(stdout);
	free(fits);
}

/* Tells a person who waits how far it is; programs that read the output are not bothered. */
static void
scan_progress(const SmScan *scan, const char *what, int number)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s %02d, %d found \r", what, number, scan->found);
}

/* ---- Modbus ---- */

/* Whether somebody answers as this unit; text says how. */
static bool
scan_is_there(SmScan *scan, int unit, SmPortOutcome *outcome)
{
	SmRequest request;
	int function;

	for (function = 3; function <= 4; function++)
	{
		mbap_build_read(&request, unit, function, 0, 1);
		*outcome = port_ask(&scan->port, &request, scan->timeout_ms);
		if (*outcome == PORT_GOOD ||
			(*outcome == PORT_REFUSED && scan->port.result.refusal != REFUSAL_UNREACHED))
			return true;
		if (*outcome == PORT_LOST)
			return false;
		if (scan->port.stray_unit >= 0 && scan->port.stray_unit != unit)
			printf("unit %d answers late: ask with a longer --timeout-ms\n", scan->port.stray_unit);
	}
	return false;
}

static int
scan_modbus(SmScan *scan)
{
	SmPortOutcome outcome;
	int64_t unit;

	for (unit = scan->cabinet->low; unit <= scan->cabinet->high; unit++)
	{
		scan_progress(scan, "asking unit", (int) unit);
		if (!scan_is_there(scan, (int) unit, &outcome))
		{
			if (outcome != PORT_LOST)
				continue;
			cabinet_say("%s: %s", scan->cabinet->address, scan->port.why);
			return CABINET_BAD;
		}
		scan->found++;
		printf("unit %d\n", (int) unit);
		memset(&scan->target, 0, sizeof(scan->target));
		scan->target.unit = (uint8_t) unit;
		scan_guess(scan);
	}
	return CABINET_GOOD;
}

/* ---- DL/T 645 ---- */

/* Adds those who answered; returns how many answers there were. */
static int
scan_note(SmScan *scan, const SmPortCatch *caught)
{
	int answers = 0;
	int i;
	int j;

	for (i = 0; i < caught->count; i++)
	{
		const SmDltFrame *frame = &caught->frames[i];

		if ((frame->control & DLT645_REPLY) == 0)
			continue;
		answers++;
		for (j = 0; j < scan->found; j++)
		{
			if (memcmp(scan->addresses[j], frame->address, DLT645_ADDRESS) == 0)
				break;
		}
		if (j == scan->found && scan->found < SCAN_METERS_MAX)
			memcpy(scan->addresses[scan->found++], frame->address, DLT645_ADDRESS);
	}
	return answers;
}

/*
 * Asks all whose lowest pairs of digits are those of the target, and looks closer where answers
 * ran into one another. False when the connection is lost.
 */
static bool
scan_narrow(SmScan *scan, int fixed)
{
	uint32_t di = scan->target.protocol == PROTOCOL_DLT645_2007 ? 0x00010000 : 0x9010;
	SmPortCatch *caught = base_alloc(sizeof(SmPortCatch));
	bool good = true;
	SmRequest request;
	int answers;
	int pair;

	dlt645_build_read(&request, &scan->target, di);
	good = port_collect(&scan->port, &request, scan->timeout_ms, caught);
	answers = scan_note(scan, caught);
	if (good && fixed < DLT645_ADDRESS &&
		(answers > 1 || caught->noise > 0 || (scan->cabinet->thorough && fixed == 0)))
	{
		for (pair = 0; pair < 100 && good; pair++)
		{
			if (fixed == 0)
				scan_progress(scan, "asking those that end in", pair);
			scan->target.address[fixed] = (uint8_t) (pair / 10 << 4 | pair % 10);
			good = scan_narrow(scan, fixed + 1);
		}
		scan->target.address[fixed] = 0xAA;
	}
	free(caught);
	return good;
}

static int
scan_dlt645(SmScan *scan)
{
	static const SmProtocol protocols[] = {PROTOCOL_DLT645_2007, PROTOCOL_DLT645_1997};
	char text[DLT645_ADDRESS_TEXT];
	int shown = 0;
	int i;

	for (i = 0; i < 2; i++)
	{
		memset(&scan->target, 0xAA, sizeof(scan->target));
		scan->target.protocol = protocols[i];
		if (!scan_narrow(scan, 0))
		{
			cabinet_say("%s: %s", scan->cabinet->address, scan->port.why);
			return CABINET_BAD;
		}
		for (; shown < scan->found; shown++)
		{
			memcpy(scan->target.address, scan->addresses[shown], DLT645_ADDRESS);
			dlt645_address_text(scan->target.address, text);
			printf("meter %s  DL/T 645-%s\n", text, i == 0 ? "2007" : "1997");
			scan_guess(scan);
		}
	}
	return CABINET_GOOD;
}

int
cabinet_scan(const SmCabinet *cabinet)
{
	bool dlt = cabinet->wire != NULL && strncmp(cabinet->wire, "dlt645", 6) == 0;
	SmScan *scan = base_alloc(sizeof(SmScan));
	int status = CABINET_BAD;
	char why[160];

	if (cabinet->low > cabinet->high)
	{
		free(scan);
		return cabinet_usage("--from is above --to");
	}
	scan->cabinet = cabinet;
	scan->asked = base_alloc(SCAN_ASKED_MAX * sizeof(SmAsked));
	scan->timeout_ms = cabinet->timeout_ms > 0 ? (int) cabinet->timeout_ms
					   : dlt                   ? SCAN_TIMEOUT_DLT_MS
											   : SCAN_TIMEOUT_MS;
	if (!catalogue_read(&scan->catalogue, catalogue_built_in, false, why, sizeof(why)) ||
		(cabinet->models_file != NULL &&
		 !catalogue_read_file(&scan->catalogue, cabinet->models_file, why, sizeof(why))))
		cabinet_say("models: %s", why);
	else if (cabinet_open(cabinet, dlt ? PROTOCOL_DLT645_2007 : PROTOCOL_MODBUS, &scan->port))
	{
		status = dlt ? scan_dlt645(scan) : scan_modbus(scan);
		printf("%d found\n", scan->found);
		if (scan->found == 0)
			status = CABINET_BAD;
	}
	port_close(&scan->port);
	catalogue_free(&scan->catalogue);
	free(scan->asked);
	free(scan);
	return status;
}
