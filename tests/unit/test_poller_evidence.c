/*
 * test_poller_evidence.c - what a meter's answers prove about its breaker: a truth table
 */
/* links: poller/evidence.c poller/coalesce.c poller/point.c poller/mbap.c poller/dlt645.c poller/dlt645_build.c poller/meter_clock.c poller/base.c */
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
	static const SmMetric metrics[] = {METRIC_RELAY, METRIC_POWER_W, METRIC_I_A,  METRIC_ENERGY_WH,
									   METRIC_RELAY, METRIC_POWER_W, METRIC_RELAY};
	SmCommand made = {.evidence = evidence,
					  .asked = close ? ACTION_CLOSE : ACTION_OPEN,
					  .close = close,
					  .point_count = 1};

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

/* A breaker that is locked on the spot: nothing is written, and it is nobody's failure. */
static void
test_locked(void)
{
	SmCommand made = command(EVIDENCE_RELAY, true);

	made.before = look(RELAY_OPEN, 0, 0);
	made.before.values.locked = true;
	ok(evidence_judge_first(&made), "a locked breaker is not closed");
	is_text(made.outcome, "failed", "that fails");
	is_text(made.kind, "local_lock", "for its own reason");
	made = command(EVIDENCE_RELAY, true);
	made.before = look(RELAY_CLOSED, 0, 0);
	made.before.values.locked = true;
	ok(evidence_judge_first(&made), "one that is closed already");
	is_text(made.outcome, "confirmed", "is closed, locked or not");
	made = command(EVIDENCE_RELAY, false);
	made.before = look(RELAY_CLOSED, 0, 0);
	made.before.values.locked = true;
	ok(!evidence_judge_first(&made), "opening goes on");
	made = command(EVIDENCE_RELAY, true);
	made.written = made.echoed = true;
	made.after = look(RELAY_OPEN, 0, 0);
	made.after.values.locked = true;
	evidence_conclude(&made);
	is_text(made.kind, "local_lock", "a lock seen after the write is named, too");
}

static SmCommand
service(SmEvidence evidence, SmAction asked, SmKeep before, SmKeep after)
{
	SmCommand made = command(evidence, false);

	made.asked = asked;
	made.before = look(RELAY_CLOSED, 0, 0);
	made.before.values.keep = before;
	made.after = look(RELAY_CLOSED, 0, 0);
	made.after.values.keep = after;
	made.written = made.echoed = true;
	return made;
}

/* Keep-power is what its bit says; where there is none, what was acknowledged, by that name. */
static void
test_keep(void)
{
	SmCommand made = service(EVIDENCE_KEEP, ACTION_KEEP, KEEP_ON, KEEP_ON);

	ok(evidence_judge_first(&made), "kept already");
	is_text(made.outcome, "confirmed", "is confirmed");
	made = service(EVIDENCE_KEEP, ACTION_RELEASE, KEEP_ON, KEEP_OFF);
	ok(!evidence_judge_first(&made) && evidence_judge_back(&made, 0), "released");
	is_text(made.kind, "keep_bit", "by its bit");
	made = service(EVIDENCE_KEEP, ACTION_KEEP, KEEP_OFF, KEEP_OFF);
	ok(!evidence_judge_back(&made, 0), "acknowledged and not kept: not yet");
	evidence_conclude(&made);
	is_text(made.outcome, "failed", "and in the end failed");
	made = service(EVIDENCE_KEEP, ACTION_KEEP, KEEP_OFF, KEEP_OFF);
	made.verify = true;
	ok(evidence_judge_first(&made), "verified only");
	is_text(made.outcome, "failed", "says what is");
	made = service(EVIDENCE_ACK, ACTION_KEEP, KEEP_UNKNOWN, KEEP_UNKNOWN);
	ok(!evidence_judge_first(&made) && evidence_judge_back(&made, 0), "without a bit");
	is_text(made.kind, "echo", "the acknowledgement counts, by its name");
	made.echoed = false;
	made.outcome = NULL;
	ok(!evidence_judge_back(&made, 0), "without that nothing does");
	is(evidence_position(&made, &made.after), RELAY_UNKNOWN, "and says nothing of the breaker");
}

static SmCommand
clock_set(const char *shows, int64_t passed_s)
{
	SmCommand made = command(EVIDENCE_CLOCK, false);
	SmDltTime told;

	made.asked = ACTION_SET_CLOCK;
	made.written = made.echoed = true;
	made.after.known = true;
	meter_clock_parse("260301120000", &told);
	made.go.local_s = meter_clock_seconds(&told);
	made.asked_us = 1000000;
	made.clock_us = made.asked_us + passed_s * 1000000;
	meter_clock_parse(shows, &made.clock.time);
	snprintf(made.clock_text, sizeof(made.clock_text), "x");
	return made;
}

/* A clock is set when it shows the time that was told, and what has passed since. */
static void
test_clock(void)
{
	SmCommand made = clock_set("260301120030", 30);

	ok(evidence_judge_back(&made, 0), "half a minute later it shows half a minute more");
	is_text(made.outcome, "confirmed", "it is right");
	made = clock_set("260301120000", 30);
	ok(!evidence_judge_back(&made, 0), "half a minute behind it is not");
	evidence_conclude(&made);
	is_text(made.outcome, "failed", "and was not set");
	made = clock_set("260302000001", 12 * 3600);
	ok(evidence_judge_back(&made, 0), "over midnight");
	made = clock_set("260301120000", 0);
	snprintf(made.clock_text, sizeof(made.clock_text), "nonsense");
	ok(!evidence_judge_back(&made, 0), "what is no time is not right");
	made = clock_set("260301120000", 0);
	made.verify = true;
	made.before.known = true;
	ok(evidence_judge_first(&made), "verified only, it cannot be told");
	is_text(made.outcome, "failed", "and is not called a success");
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
	made.after = (SmLook){0};
	made.trouble[0] = '\0';
	made.before.values.locked = true;
	made.before.values.keep = KEEP_ON;
	made.go.has_key = made.go.has_until = true;
	made.action.function = 28;
	made.action.words[0] = 26;
	dlt645_parse_key(2, "123456", "00000042", &made.go.key);
	meter_clock_parse("260301120500", &made.go.until);
	evidence_add_json(&text, &made);
	is_text(text.data,
			"{\"kind\":\"relay_register\",\"before\":{\"at\":\"1970-01-01T00:00:00.000Z\","
			"\"raw\":2,\"relay\":\"closed\",\"locked\":true,\"keep\":\"on\"},"
			"\"write\":{\"function\":28,\"registers\":[26],"
			"\"valid_until\":\"2026-03-01 12:05:00\",\"echo\":true,"
			"\"at\":\"1970-01-01T00:00:00.000Z\"}}",
			"of DL/T 645: until when, and nothing of the password");
	text_free(&text);
}

int
main(void)
{
	test_register();
	test_load();
	test_looking_back();
	test_locked();
	test_keep();
	test_clock();
	test_preparing();
	test_json();
	return tap_done();
}
