/*
 * test_poller_plan.c - plans, good and malformed: what cannot be right is left out with a reason
 */
/* links: poller/plan.c poller/plan_model.c poller/route.c poller/coalesce.c poller/point.c poller/mbap.c poller/wire.c poller/rtu.c poller/dlt645.c poller/dlt645_build.c poller/q376.c poller/base.c */
/* libs: -lpq -lm */
#include <stdlib.h>

#include "../../poller/plan.h"
#include "test_poller_tap.h"

/* A result of rows of cells separated by blanks; "-" is NULL. */
static PGresult *
table(int columns, const char *const *rows)
{
	static PGresAttDesc names[20];
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

static const char *const models[] = {"A 125 16 0 modbus f",
									 "B 10 0 50 modbus f",
									 "C 999 0 0 modbus f",
									 "D 125 0 0 dlt645-2007 t",
									 "E 125 0 0 dlt645-1997 f",
									 "F 125 0 0 m-bus f",
									 NULL};
static const char *const points[] = {"A energy_wh 3 0 u32be 10 65535 - -",
									 "A v_a 3 12 u16 0.1 65535 - -",
									 "A relay 3 26 u16 1 65535 1 0",
									 "A v_b 3 13 u99 0.1 65535 - -",
									 "A nonsense 3 14 u16 1 65535 - -",
									 "B energy_wh 4 0 f32be 1000 65535 - -",
									 "B relay 4 2 u16 1 65535 1 1",
									 "B v_a 4 2 u16 x 65535 - -",
									 "C v_a 3 0 u16 1 65535 - -",
									 "D energy_wh - - sbcd 10 65535 - - 00000000 - - 4",
									 "D v_a - - bcd 0.1 65535 - - 02010100 0201FF00 0 2",
									 "D v_b - - bcd 0.1 65535 - - 02010200 0201FF00 2 2",
									 "D relay - - bits 1 16 0 16 04000503 - - 2",
									 "D v_c - - bcd 0.1 65535 - - 9010 - - 2",
									 "E energy_wh - - bcd 10 65535 - - 9010 - - 4",
									 "E v_a - - u16 1 65535 - - B611 - - 2",
									 "E v_b - - bcd 1 65535 - - B612 - - 9",
									 NULL};
static const char *const switches[] = {
	"A open 16 26 {0} 100",          "A close 16 26 {1} 100",
	"B open 15 1 {0} 100",           "B close 6 1 {0,1} 100",
	"D open 28 - {26} 3000 - 300",   "D close 20 - {1} 3000 04001503 300",
	"D keep 28 - {58,1} 3000 - 300", "E open 4 - {0,1} 3000 DD78 300",
	"E close 28 - {28} 3000 - 300",  NULL};
static const char *const gateways[] = {
	"1 10 modbus-tcp 127.0.0.1:502 1000 20 60000",
	"1 11 modbus-tcp nowhere 1000 20 60000",
	"1 12 zigbee /dev/ttyS0 1000 20 60000",
	"1 13 modbus-tcp [::1]:502 0 20 60000",
	"1 14 dlt645-over-tcp h:1 1000 20 60000 - f - - - f 2 107",
	"1 15 q376-transparent h:1 5000 20 60000 - f 4403-01234 - - f 2 107",
	"1 16 q376-transparent h:1 5000 20 60000 - f here - - f 2 107",
	"2 10 modbus-tcp [::1]:1502 500 0 100",
	NULL};
static const char *const meters[] = {"1 1 10 1 A",
									 "1 2 10 300 A",
									 "1 3 10 x A",
									 "1 4 10 4 C",
									 "1 5 11 5 A",
									 "1 6 99 6 A",
									 "1 7 14 1 A",
									 "1 8 14 1234 D 0201FF00* 60",
									 "1 9 14 12345678901x D",
									 "1 10 14 AAAAAAAAAAAA D",
									 "1 11 15 AAAAAAAAAAAA E",
									 "2 1 10 0 B",
									 NULL};

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
	PGresult *results[PLAN_RESULTS] = {table(6, models), table(17, points), table(8, switches),
									   table(16, gateways), table(7, meters)};
	const char *why = NULL;
	SmPlan *plan = plan_parse(results, PLAN_RESULTS, &why);
	int i;

	is(plan->model_count, 4, "four of six models are of use");
	ok(!plan->models[0].keeps && plan->models[2].keeps,
	   "one keeps its registers of each hour or day");
	is(plan->models[0].point_count, 3, "the points that make sense");
	is(plan->models[0].block_count, 1, "in one request");
	ok(plan->models[0].switches[SWITCH_OPEN].known && plan->models[0].switches[SWITCH_CLOSE].known,
	   "it can be switched");
	ok(!plan->models[1].switches[SWITCH_OPEN].known &&
		   !plan->models[1].switches[SWITCH_CLOSE].known,
	   "writes that cannot be sent are left out");
	is(plan->meter_count, 4, "four meters of twelve");
	ok(plan->meters[3].site_id == 2 && plan->meters[3].target.unit == 0, "unit 0 is a unit");
	ok(memcmp(plan->meters[1].target.address, "\x34\x12\0\0\0\0", 6) == 0,
	   "an address of DL/T 645, without its leading zeros");
	is_text(plan->meters[1].refused, "0201FF00*", "what it does not have");
	is(plan->meters[1].ask_again_s, 60, "and when it is asked again");
	ok(plan->meters[2].meter_id == 11, "any address, alone on its bus");
	is(plan->models[2].point_count, 4, "items of DL/T 645");
	is(plan->models[2].block_count, 3, "two of them in one block");
	is(plan->models[3].point_count, 1, "one of three of 1997");
	ok(plan->models[2].switches[SWITCH_OPEN].known &&
		   plan->models[2].switches[SWITCH_CLOSE].known &&
		   plan->models[3].switches[SWITCH_OPEN].known,
	   "1CH, 14H, and 04H of 1997");
	ok(!plan->models[2].switches[SWITCH_KEEP].known &&
		   !plan->models[3].switches[SWITCH_CLOSE].known,
	   "but not two commands at once, nor 1CH in 1997");
	ok(plan_find_gateway(plan, 1, 15)->wire.known &&
		   plan_find_gateway(plan, 1, 15)->wire.station.region == 0x4403 &&
		   plan_find_gateway(plan, 1, 15)->wire.station.terminal == 1234,
	   "a concentrator by its address");
	ok(plan_find_gateway(plan, 2, 10)->good && !plan_find_gateway(plan, 1, 11)->good,
	   "good ones and bad ones");
	is_text(plan_find_gateway(plan, 2, 10)->route.host, "::1",
			"an IPv6 address without its brackets");
	ok(plan_find_gateway(plan, 3, 10) == NULL, "none of another site");
	ok(has_problem(plan, "type is unknown") && has_problem(plan, "metric is unknown") &&
		   has_problem(plan, "open and closed look alike") && has_problem(plan, "scale is not"),
	   "points that make no sense");
	ok(has_problem(plan, "\"nowhere\", transport \"modbus-tcp\": its address is not host:port") &&
		   has_problem(plan, "transport") && has_problem(plan, "times are out of range"),
	   "gateways that cannot be reached");
	ok(has_problem(plan, "\"300\" is not a Modbus unit") &&
		   has_problem(plan, "\"x\" is not a Modbus unit") &&
		   has_problem(plan, "model \"C\" has no registers"),
	   "meters that cannot be read");
	ok(has_problem(plan, "model \"A\" does not speak what its gateway carries") &&
		   has_problem(plan, "is not alone behind its gateway") &&
		   has_problem(plan, "is not a DL/T 645 address") &&
		   has_problem(plan, "its protocol is not known") &&
		   has_problem(plan, "not the address of a concentrator") &&
		   has_problem(plan, "length is not 1 to 8 bytes") &&
		   has_problem(plan, "identifier is not one of its protocol"),
	   "what DL/T 645 cannot be");
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
