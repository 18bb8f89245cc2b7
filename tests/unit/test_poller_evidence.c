/*
 * test_poller_evidence.c - what a meter's answers prove about its breaker: a truth table
 */
/* links: poller/evidence.c poller/coalesce.c poller/point.c poller/mbap.c poller/dlt645.c poller/dlt645_build.c poller/base.c */
/* libs: -lm */
#include "../../poller/command.h"
#include "test_poller_tap.h"

/* What a look shows: a relay position, a power, a counter. */
static SmLook
look(SmRelay relay, double power_w, int64_t energy_wh)
{
	SmLook made = {.known = true};

	made.values.relay = relay;
	made.values.relay_raw = relay;
	made.values.number[METRIC_POWER_W] = power_w;
	made.values.energy[METRIC_ENERGY_WH] = energy_wh;
	made.values.present =
		1u << METRIC_POWER_W | 1u << METRIC_ENERGY_WH | (relay != RELAY_UNKNOWN) << METRIC_RELAY;
	return made;
}

static SmCommand
command(SmEvidence evidence, bool close)
{
	static const SmMetric metrics[] = {METRIC_RELAY, METRIC_POWER_W, METRIC_I_A, METRIC_ENERGY_WH};
	SmCommand made = {.evidence = evidence, .close = close, .point_count = 1};

	made.points[0].metric = metrics[evidence];
	return made;
}

/* The outcome of the first look; "" when the command goes on. */
static const char *
first(SmEvidence evidence, bool close, bool verify, SmLook before)
{
	SmCommand made = command(evidence, close);

	made.verify = verify;
	made.before = before;
	return evidence_judge_first(&made) ? made.outcome : "";
}

static const char *last_kind;

/* The outcome when time is up after a write. */
static const char *
concluded(SmEvidence evidence, bool close, bool echoed, SmLook after)
{
	SmCommand made = command(evidence, close);

	made.written = true;
	made.echoed = echoed;
	made.first_back = look(RELAY_UNKNOWN, 0, 1000);
	made.after = after;
	evidence_conclude(&made);
	last_kind = made.kind;
	return made.outcome;
}

static void
test_register(void)
{
	SmLook open = look(RELAY_OPEN, 0, 0);
	SmLook closed = look(RELAY_CLOSED, 0, 0);
	SmLook neither = look(RELAY_UNKNOWN, 0, 0);

	is_text(first(EVIDENCE_RELAY, false, false, open), "confirmed", "open: is open already");
	is_text(first(EVIDENCE_RELAY, false, false, closed), "", "open: is closed, goes on");
	is_text(first(EVIDENCE_RELAY, false, false, neither), "", "open: position unknown, goes on");
	is_text(first(EVIDENCE_RELAY, true, false, closed), "confirmed", "close: is closed already");
	is_text(first(EVIDENCE_RELAY, true, true, closed), "confirmed", "verify close: is closed");
	is_text(first(EVIDENCE_RELAY, true, true, open), "failed", "verify close: is open");
	is_text(first(EVIDENCE_RELAY, true, true, neither), "unknown", "verify close: cannot tell");
	is_text(concluded(EVIDENCE_RELAY, false, true, closed), "failed", "the breaker stays closed");
	is_text(concluded(EVIDENCE_RELAY, false, true, neither), "unknown",
			"an echo proves nothing where a register could");
	is_text(last_kind, "relay_register", "and the evidence is the register");
}

static void
test_load(void)
{
	SmLook load = look(RELAY_UNKNOWN, 1200, 1000);
	SmLook idle = look(RELAY_UNKNOWN, 1.5, 1000);
	SmLook ran = look(RELAY_UNKNOWN, 0, 1010);

	is_text(first(EVIDENCE_POWER, false, false, idle), "", "open: no load proves no open breaker");
	is_text(first(EVIDENCE_POWER, true, false, load), "", "close: goes on");
	is_text(first(EVIDENCE_POWER, true, true, load), "confirmed", "verify close: a load flows");
	is_text(first(EVIDENCE_POWER, false, true, load), "failed", "verify open: a load flows");
	is_text(first(EVIDENCE_POWER, false, true, idle), "unknown", "verify open: open or idle");
	is_text(concluded(EVIDENCE_POWER, false, true, load), "failed", "open: a load still flows");
	is_text(concluded(EVIDENCE_POWER, false, true, idle), "confirmed", "open: the echo counts");
	is_text(last_kind, "echo", "and is called what it is");
	is_text(concluded(EVIDENCE_POWER, false, false, idle), "unknown", "open: no echo, no load");
	is_text(concluded(EVIDENCE_ENERGY, false, true, ran), "failed", "open: the counter runs on");
	is_text(concluded(EVIDENCE_ENERGY, false, true, idle), "confirmed", "open: it stands, echo");
	is_text(concluded(EVIDENCE_ENERGY, true, false, idle), "unknown", "close: it stands, no echo");
}

static void
test_looking_back(void)
{
	SmCommand made = command(EVIDENCE_POWER, false);

	made.written = made.echoed = true;
	made.before = look(RELAY_UNKNOWN, 1200, 0);
	made.after = look(RELAY_UNKNOWN, 0, 0);
	made.settled_us = 100;
	ok(!evidence_judge_back(&made, 50), "before it can have settled nothing is believed");
	ok(evidence_judge_back(&made, 150), "a load that flowed is gone");
	is_text(made.outcome, "confirmed", "the open is confirmed");
	is_text(made.kind, "power", "by power");
	made = command(EVIDENCE_POWER, false);
	made.before = look(RELAY_UNKNOWN, 0, 0);
	made.after = look(RELAY_UNKNOWN, 0, 0);
	ok(!evidence_judge_back(&made, 150), "no load before: not believed yet");
	made = command(EVIDENCE_RELAY, true);
	made.permit = made.written = made.echoed = true;
	made.after = look(RELAY_OPEN, 0, 0);
	evidence_conclude(&made);
	is_text(made.outcome, "awaiting_key", "a permitted close waits for the key");
	made = command(EVIDENCE_RELAY, true);
	made.written = true;
	evidence_conclude(&made);
	is_text(made.outcome, "unknown", "written and never read back");
}

static void
test_preparing(void)
{
	SmPoint points[] = {{.metric = METRIC_ENERGY_WH, .function = 3, .type = POINT_U32BE},
						{.metric = METRIC_I_A, .function = 3, .address = 10},
						{.metric = METRIC_I_C, .function = 3, .address = 12}};
	SmModel model = {.max_registers = 125, .max_gap = 4, .points = points, .point_count = 3};
	SmCommand made = {.close = false};

	ok(evidence_prepare(&made, &model) != NULL, "a model that cannot be switched");
	model.switches[SWITCH_OPEN].known = true;
	is_text(evidence_prepare(&made, &model), NULL, "one that can");
	ok(made.evidence == EVIDENCE_CURRENT && made.point_count == 2 && made.block.count == 3,
	   "currents of two phases in one request");
	made = (SmCommand){.close = true, .permit = true};
	model.switches[SWITCH_CLOSE].known = true;
	ok(evidence_prepare(&made, &model) != NULL, "a key is wanted: no close is sent instead");
}

static void
test_json(void)
{
	SmCommand made = command(EVIDENCE_RELAY, false);
	SmText text = {0};

	made.before = look(RELAY_CLOSED, 0, 0);
	made.after = look(RELAY_OPEN, 0, 0);
	made.written = made.echoed = true;
	made.action =
		(SmSwitch){.known = true, .function = 16, .address = 26, .count = 1, .settle_ms = 100};
	made.reads = 2;
	made.seen_us = 40000;
	snprintf(made.trouble, sizeof(made.trouble), "a \"quote\"\n\x80");
	evidence_decide(&made, "confirmed", "open");
	evidence_add_json(&text, &made);
	is_text(text.data,
			"{\"kind\":\"relay_register\",\"before\":{\"at\":\"1970-01-01T00:00:00.000Z\","
			"\"raw\":2,\"relay\":\"closed\"},\"write\":{\"function\":16,\"address\":26,"
			"\"registers\":[0],\"echo\":true,\"at\":\"1970-01-01T00:00:00.000Z\"},"
			"\"after\":{\"at\":\"1970-01-01T00:00:00.000Z\",\"raw\":1,\"relay\":\"open\"},"
			"\"reads\":2,\"after_ms\":40,\"trouble\":\"a \\\"quote\\\"\\u000a?\"}",
			"evidence as JSON");
	text_free(&text);
}

int
main(void)
{
	test_register();
	test_load();
	test_looking_back();
	test_preparing();
	test_json();
	return tap_done();
}
