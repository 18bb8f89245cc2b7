/*
 * test_poller_plan.c - plans, good and malformed: what cannot be right is left out with a reason
 */
/* links: poller/plan.c poller/route.c poller/coalesce.c poller/point.c poller/mbap.c poller/base.c */
/* libs: -lpq -lm */
#include <stdlib.h>

#include "../../poller/plan.h"
#include "test_poller_tap.h"

/* A result of rows of cells separated by blanks; "-" is NULL. */
static PGresult *
table(int columns, const char *const *rows)
{
	static PGresAttDesc names[15];
	PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	int row;
	int column;

	for (column = 0; column < columns; column++)
		names[column].name = (char *) "c";
	PQsetResultAttrs(result, columns, names);
	for (row = 0; rows[row] != NULL; row++)
	{
		char text[256];
		char *cell;

		snprintf(text, sizeof(text), "%s", rows[row]);
		cell = strtok(text, " ");
		for (column = 0; column < columns; column++)
		{
			bool null = cell == NULL || strcmp(cell, "-") == 0;

			PQsetvalue(result, row, column, null ? NULL : cell, null ? -1 : (int) strlen(cell));
			cell = strtok(NULL, " ");
		}
	}
	return result;
}

static const char *const models[] = {"A 125 16 0", "B 10 0 50", "C 999 0 0", NULL};
static const char *const points[] = {
	"A energy_wh 3 0 u32be 10 65535 - -", "A v_a 3 12 u16 0.1 65535 - -",
	"A relay 3 26 u16 1 65535 1 0",       "A v_b 3 13 u99 0.1 65535 - -",
	"A nonsense 3 14 u16 1 65535 - -",    "B energy_wh 4 0 f32be 1000 65535 - -",
	"B relay 4 2 u16 1 65535 1 1",        "B v_a 4 2 u16 x 65535 - -",
	"C v_a 3 0 u16 1 65535 - -",          NULL};
static const char *const switches[] = {"A open 16 26 {0} 100", "A close 16 26 {1} 100",
									   "B open 15 1 {0} 100", "B close 6 1 {0,1} 100", NULL};
static const char *const gateways[] = {
	"1 10 modbus-tcp 127.0.0.1:502 1000 20 60000", "1 11 modbus-tcp nowhere 1000 20 60000",
	"1 12 dlt645 /dev/ttyS0 1000 20 60000",        "1 13 modbus-tcp [::1]:502 0 20 60000",
	"2 10 modbus-tcp [::1]:1502 500 0 100",        NULL};
static const char *const meters[] = {"1 1 10 1 A", "1 2 10 300 A", "1 3 10 x A", "1 4 10 4 C",
									 "1 5 11 5 A", "1 6 99 6 A",   "2 1 10 0 B", NULL};

static bool
has_problem(const SmPlan *plan, const char *text)
{
	int i;

	for (i = 0; i < plan->problem_count; i++)
	{
		if (strstr(plan->problems[i].text, text) != NULL)
			return true;
	}
	return false;
}

static void
test_plan(void)
{
	PGresult *results[PLAN_RESULTS] = {table(4, models), table(9, points), table(6, switches),
									   table(15, gateways), table(5, meters)};
	const char *why = NULL;
	SmPlan *plan = plan_parse(results, PLAN_RESULTS, &why);
	int i;

	is(plan->model_count, 2, "two of three models are of use");
	is(plan->models[0].point_count, 3, "the points that make sense");
	is(plan->models[0].block_count, 1, "in one request");
	ok(plan->models[0].switches[SWITCH_OPEN].known && plan->models[0].switches[SWITCH_CLOSE].known,
	   "it can be switched");
	ok(!plan->models[1].switches[SWITCH_OPEN].known &&
		   !plan->models[1].switches[SWITCH_CLOSE].known,
	   "writes that cannot be sent are left out");
	is(plan->meter_count, 2, "two meters of seven");
	ok(plan->meters[1].site_id == 2 && plan->meters[1].unit == 0, "unit 0 is a unit");
	ok(plan_find_gateway(plan, 2, 10)->good && !plan_find_gateway(plan, 1, 11)->good,
	   "two gateways of five");
	is_text(plan_find_gateway(plan, 2, 10)->route.host, "::1", "an IPv6 address without its brackets");
	ok(plan_find_gateway(plan, 3, 10) == NULL, "none of another site");
	ok(has_problem(plan, "type is unknown") && has_problem(plan, "metric is unknown") &&
		   has_problem(plan, "open and closed look alike") && has_problem(plan, "scale is not"),
	   "points that make no sense");
	ok(has_problem(plan, "\"nowhere\", transport \"modbus-tcp\": its address is not host:port") && has_problem(plan, "transport") &&
		   has_problem(plan, "times are out of range"),
	   "gateways that cannot be reached");
	ok(has_problem(plan, "\"300\" is not a Modbus unit") &&
		   has_problem(plan, "\"x\" is not a Modbus unit") &&
		   has_problem(plan, "model \"C\" has no registers"),
	   "meters that cannot be read");
	ok(plan_parse(results, PLAN_RESULTS - 1, &why) == NULL && why != NULL, "too few tables");
	plan_free(plan);
	for (i = 0; i < PLAN_RESULTS; i++)
		PQclear(results[i]);
}

static void
test_texts(void)
{
	static const char *const bad[] = {"",     "host", ":502",    "host:",  "host:0",  "h:65536",
									  "h:5x", "h:-1", "a:b:502", "[]:502", "a b:502", NULL};
	uint16_t words[4];
	char *host;
	char *port;
	bool good = true;
	int i;

	for (i = 0; bad[i] != NULL; i++)
		good = good && !route_split_address(bad[i], &host, &port);
	ok(good && !route_split_address(NULL, &host, &port), "what is no address");
	ok(route_split_address("gw-1.example:502", &host, &port) && strcmp(host, "gw-1.example") == 0 &&
		   strcmp(port, "502") == 0,
	   "a name and a port");
	free(host);
	free(port);
	ok(plan_parse_array("{1,65280}", words, 4) == 2 && words[1] == 65280, "an array");
	is(plan_parse_array("{}", words, 4), 0, "an empty one");
	ok(plan_parse_array("{1,2,3,4,5}", words, 4) < 0 &&
		   plan_parse_array("{1,NULL}", words, 4) < 0 &&
		   plan_parse_array("{65536}", words, 4) < 0 && plan_parse_array("{-1}", words, 4) < 0 &&
		   plan_parse_array("{1", words, 4) < 0 && plan_parse_array("1", words, 4) < 0 &&
		   plan_parse_array("{1}x", words, 4) < 0 && plan_parse_array(NULL, words, 4) < 0,
	   "what is no array of registers");
}

int
main(void)
{
	test_plan();
	test_texts();
	return tap_done();
}
