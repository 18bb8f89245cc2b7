/*
 * test_poller_cabinet.c - models out of their text, and what a person may expect of values
 */
/* links: poller/cabinet_model.c poller/cabinet_look.c poller/point.c poller/coalesce.c poller/wire.c poller/mbap.c poller/rtu.c poller/dlt645.c poller/dlt645_build.c poller/q376.c poller/base.c */
#include <math.h>
#include <stdlib.h>

#include "../../poller/cabinet.h"
#include "test_poller_tap.h"

/* What is wrong with a model of this body; empty: nothing. */
static const char *
wrong(const char *body)
{
	static char why[160];
	SmCatalogue catalogue = {0};

	why[0] = '\0';
	catalogue_read(&catalogue, body, true, why, sizeof(why));
	catalogue_free(&catalogue);
	return why;
}

static void
test_built_in(void)
{
	SmCatalogue catalogue = {0};
	const SmCabinetModel *own;
	char why[160] = "";
	int switches = 0;
	int i;

	ok(catalogue_read(&catalogue, catalogue_built_in, false, why, sizeof(why)),
	   "the built-in text is understood");
	is(catalogue.count, 32, "all of it");
	for (i = 0; i < catalogue.count; i++)
		switches += catalogue.models[i].model.switches[SWITCH_OPEN].known;
	is(switches, 7, "seven models switch");
	own = catalogue_find(&catalogue, "dds238-2 zn/sr");
	ok(own != NULL, "names are found whatever their case");
	is(own->model.point_count, 7, "points");
	is(own->model.switches[SWITCH_CLOSE].words[0], 1, "what closes it");
	is(own->model.switches[SWITCH_CLOSE].address, 26, "and where");
	own = catalogue_find(&catalogue, "DLT645-2007 three-phase relay");
	is(own->model.switches[SWITCH_KEEP].words[0], 0x3A, "keep-power");
	is(own->model.block_count, 10, "three blocks and seven single items");
	ok(catalogue_find(&catalogue, "nothing") == NULL, "what is not there is not found");
	ok(catalogue_read(&catalogue, "model SDM120\nvendor us\nread modbus\npoint v_a 3:1 u16 1", true,
					  why, sizeof(why)),
	   "one's own comes after them");
	ok(catalogue_find(&catalogue, "SDM120")->own, "and takes their place");
	catalogue_free(&catalogue);
}

#define BEGIN "model x\nvendor v\nread modbus\n"
#define BEGIN_2007 "model x\nvendor v\nread dlt645-2007\n"

static void
test_refused(void)
{
	is_text(wrong(BEGIN "point v_a 3:1 u16 1"), "", "a model of four lines");
	is_text(wrong(BEGIN "  point\tv_a   3:1 u16 1 # first\r\n\r\n# end"), "",
			"blanks, comments and line ends of another system");
	is_text(wrong(""), "line 1: there is no model in it", "nothing");
	is_text(wrong("vendor v"), "line 1: it belongs to no model", "no model yet");
	is_text(wrong(BEGIN), "line 4: the model has no vendor, no \"read\" or no point", "no point");
	is_text(wrong("model x\nvendor v\npoint v_a 3:1 u16 1"), "line 3: first comes \"read\"",
			"how it is read comes first");
	is_text(wrong(BEGIN "point v_a 3:70000 u16 1"), "line 4: the place is not function:register",
			"a register beyond the last");
	is_text(wrong(BEGIN "point v_a 3:65535 u32be 1"), "line 4: address is beyond 65535",
			"a value beyond the last register");
	is_text(wrong(BEGIN "point colour 3:1 u16 1"), "line 4: this metric is not known", "a metric");
	is_text(wrong(BEGIN "point v_a 3:1 u17 1"), "line 4: this type is not known", "a type");
	is_text(wrong(BEGIN "point v_a 3:1 u16 0"),
			"line 4: scale is not a decimal of at most 12 digits", "a scale");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1\npoint v_a 3:2 u16 1"),
			"line 5: this metric is there already", "twice");
	is_text(wrong(BEGIN "point relay 3:1 u16 1"), "line 4: open and closed look alike", "a relay");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1 wings=2"),
			"line 4: point wants metric, place, type and scale, and block, mask, closed or open",
			"an option");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1\nswitch open 15:1 0"),
			"line 5: its protocol does not write there", "a function that is never written");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1\nswitch open 16:1 1,2,3,4,5,6,7,8,9"),
			"line 5: the values are not 1 to 8 numbers of 0 to 65535", "too many values");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1\nswitch clear 16:1 0"),
			"line 5: this action is not known", "another action");
	is_text(wrong(BEGIN_2007 "point v_a B611 bcd2 1"),
			"line 4: the identifier is none of its protocol", "an identifier of 1997 in 2007");
	is_text(wrong(BEGIN_2007 "point v_a 02010100 bcd 1"),
			"line 4: the type has no length in bytes, as bcd4", "no length");
	is_text(wrong(BEGIN_2007 "point v_a 02010100 bcd2 1\nswitch open 25 1"),
			"line 5: its protocol does not write there", "a control byte that is never written");
	is_text(wrong("model x\nvendor v\nread modbus phases=2"),
			"line 3: phases, max, gap or pause is out of its limits", "two phases");
	is_text(wrong(BEGIN "point v_a 3:1 u16 1\ncolour red"), "line 5: no word of a model", "a word");
}

static SmVerdict
judge(SmMetric metric, double number)
{
	SmValues values = {.present = UINT32_C(1) << metric};
	char why[96];

	if (metric <= METRIC_REACTIVE_VARH)
		values.energy[metric] = (int64_t) number;
	else
		values.number[metric] = number;
	return cabinet_look(&values, metric, why, sizeof(why));
}

static void
test_looks(void)
{
	SmValues values = {0};
	char text[64];
	char why[96];

	is(judge(METRIC_V_A, 229.3), LOOK_GOOD, "a voltage");
	is(judge(METRIC_V_A, 2293), LOOK_ODD, "ten times one");
	is(judge(METRIC_V_B, 0), LOOK_ODD, "no voltage is not a scale, but odd");
	is(judge(METRIC_FREQUENCY_HZ, 5), LOOK_ODD, "a frequency of a tenth");
	is(judge(METRIC_POWER_FACTOR, -1), LOOK_GOOD, "a power factor");
	is(judge(METRIC_POWER_FACTOR, 9.5), LOOK_ODD, "ten times one");
	is(judge(METRIC_ENERGY_WH, -1), LOOK_ODD, "a counter below zero");
	is(cabinet_look(&values, METRIC_V_A, why, sizeof(why)), LOOK_ABSENT, "nothing");
	values.relay_raw = 7;
	is(cabinet_look(&values, METRIC_RELAY, why, sizeof(why)), LOOK_ODD, "a strange relay");
	is_text(why, "7 is neither the value of open nor of closed", "and why");
	cabinet_format(&values, METRIC_RELAY, text, sizeof(text));
	is_text(text, "-", "and how it is written");

	values.present = 1u << METRIC_V_A | 1u << METRIC_I_A | 1u << METRIC_POWER_W;
	values.number[METRIC_V_A] = 230;
	values.number[METRIC_I_A] = 5;
	values.number[METRIC_POWER_W] = 1100;
	ok(cabinet_look_together(&values) == NULL, "power goes with voltage and current");
	values.number[METRIC_POWER_W] = 11000;
	ok(cabinet_look_together(&values) != NULL, "ten times the power does not");
	values.number[METRIC_POWER_W] = 1.1;
	ok(cabinet_look_together(&values) != NULL, "nor a thousandth");
	values.number[METRIC_I_A] = 0;
	values.number[METRIC_POWER_W] = 0;
	ok(cabinet_look_together(&values) == NULL, "nothing flows, nothing is told");
}

int
main(void)
{
	test_built_in();
	test_refused();
	test_looks();
	return tap_done();
}
