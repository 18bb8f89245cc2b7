/*
 * cabinet_switch.c - switch: opens or closes a breaker by hand
 *
 * Look, ask the person, write once, look back. The person types the address of the meter at a
 * terminal; without one nothing is switched, so no script does by mistake what the database, with
 * its lockouts and protections, was not asked for. Nothing is ever written twice, and only what the
 * model's switch instructions say. A password is asked for without echo or read from a file; after
 * one refusal it ends, because the third locks the meter for a day.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cabinet.h"

#define SWITCH_LOOKS 10
#define SWITCH_CLOCK_ODD_S 600
#define SWITCH_WORD 64

typedef struct SmHand
{
	const SmCabinet *cabinet;
	const SmCabinetModel *own;
	const SmSwitch *how;
	SmSwitchAction action;
	SmPort port;
	SmTarget target;
	SmDltKey key;
	SmValues before;
} SmHand;

static const char *const switch_names[SWITCH_ACTIONS] = {"open", "close", "permit-close", "keep",
														 "release"};

/* Reads a line of the terminal; echoed or not. False when there is none. */
static bool
switch_type(const char *prompt, bool echo, char *line, int size)
{
	struct termios before;
	struct termios after;
	bool good;

	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return false;
	after = before;
	if (!echo)
		after.c_lflag &= (tcflag_t) ~ECHO;
	/* What was typed before it was asked for is thrown away, and nothing that is typed after. */
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &after);
	printf("%s", prompt);
	fflush(stdout);
	good = fgets(line, size, stdin) != NULL;
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
	if (!echo)
		putchar('\n');
	if (good)
		line[strcspn(line, "\r\n")] = '\0';
	return good;
}

/* The password out of a file only its owner can read; false, and said why, when there is none. */
static bool
switch_password_file(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "r");
	struct stat about;
	bool good = false;

	if (file == NULL || fstat(fileno(file), &about) != 0)
		cabinet_say("%s: the file cannot be read", path);
	else if ((about.st_mode & 077) != 0)
		cabinet_say("%s: others can read this file too: chmod 600", path);
	else if (!(good = fgets(line, size, file) != NULL))
		cabinet_say("%s: there is no password in it", path);
	else
		line[strcspn(line, "\r\n")] = '\0';
	if (file != NULL)
		fclose(file);
	return good;
}

/* Gets the password of a DL/T 645 meter. */
static bool
switch_get_key(SmHand *hand)
{
	char line[SWITCH_WORD] = "";
	bool good;

	if (hand->target.protocol == PROTOCOL_MODBUS)
		return true;
	if (hand->cabinet->password_file != NULL)
		good = switch_password_file(hand->cabinet->password_file, line, sizeof(line));
	else
		good = switch_type("password of the meter, six digits: ", false, line, sizeof(line));
	if (good && !dlt645_parse_key((int) hand->cabinet->level, line, hand->cabinet->operator_code,
								  &hand->key))
	{
		cabinet_say("the password is not six digits, or --operator not eight");
		good = false;
	}
	explicit_bzero(line, sizeof(line));
	return good;
}

/* Whether the person types the address of the meter. */
static bool
switch_confirm(const SmHand *hand)
{
	char prompt[128];
	char line[SWITCH_WORD];

	printf("This writes to the meter once. Lockouts, protections and tenants are not asked for:\n"
		   "only the database knows them.\n");
	snprintf(prompt, sizeof(prompt),
			 "Type the address of the meter, %s, to %s: ", hand->cabinet->unit,
			 switch_names[hand->action]);
	if (switch_type(prompt, true, line, sizeof(line)) && strcmp(line, hand->cabinet->unit) == 0)
		return true;
	cabinet_say("not confirmed: nothing was written");
	return false;
}

static int
switch_pair(uint8_t byte)
{
	return (byte >> 4) * 10 + (byte & 0x0F);
}

/* Asks for an item of the meter; its length, or 0. */
static int
switch_item(SmHand *hand, uint32_t di, uint8_t *data, int most)
{
	SmRequest request;

	dlt645_build_read(&request, &hand->target, di);
	if (port_ask(&hand->port, &request, hand->port.timeout_ms) != PORT_GOOD ||
		hand->port.join.length > most)
		return 0;
	memcpy(data, hand->port.join.data, (size_t) hand->port.join.length);
	return hand->port.join.length;
}

/* What the meter's clock says, as if it stood in UTC; false when it does not say. */
static bool
switch_clock(SmHand *hand, time_t *clock)
{
	uint8_t day[8];
	uint8_t time[8];
	uint8_t both[8];
	struct tm broken = {0};

	if (switch_item(hand, 0x0400010C, both, 8) == 7)
	{
		memcpy(time, both, 3);
		memcpy(day, both + 3, 4);
	}
	else if (switch_item(hand, 0x04000101, day, 8) != 4 ||
			 switch_item(hand, 0x04000102, time, 8) != 3)
		return false;
	broken.tm_sec = switch_pair(time[0]);
	broken.tm_min = switch_pair(time[1]);
	broken.tm_hour = switch_pair(time[2]);
	broken.tm_mday = switch_pair(day[1]);
	broken.tm_mon = switch_pair(day[2]) - 1;
	broken.tm_year = switch_pair(day[3]) + 100;
	*clock = timegm(&broken);
	return true;
}

/* Until when the meter may obey, by its own clock. */
static bool
switch_until(SmHand *hand, SmDltTime *until)
{
	time_t now = time(NULL);
	struct tm local;
	time_t clock;
	double off;

	if (!switch_clock(hand, &clock))
	{
		cabinet_say("the meter does not tell its time, which the instruction needs: nothing was "
					"written");
		return false;
	}
	localtime_r(&now, &local);
	off = difftime(clock, timegm(&local));
	if (off > SWITCH_CLOCK_ODD_S || off < -SWITCH_CLOCK_ODD_S)
		printf(
			"The meter's clock is %.0f s off this machine's; the instruction goes by the meter's.\n",
			off);
	clock += hand->how->valid_s;
	gmtime_r(&clock, &local);
	*until = (SmDltTime){local.tm_year + 1900, local.tm_mon + 1, local.tm_mday,
						 local.tm_hour,        local.tm_min,     local.tm_sec};
	return true;
}

/* Builds what is written: nothing but the model's instruction. */
static bool
switch_build(SmHand *hand, SmRequest *request)
{
	const SmSwitch *how = hand->how;
	uint8_t bytes[PLAN_SWITCH_MOST];
	SmDltTime until;
	int i;

	if (hand->target.protocol == PROTOCOL_MODBUS)
		return mbap_build_write(request, hand->target.unit, how->function, how->address, how->words,
								how->count);
	for (i = 0; i < how->count; i++)
		bytes[i] = (uint8_t) how->words[i];
	if (how->function == DLT645_SWITCH)
		return switch_until(hand, &until) &&
			   dlt645_build_switch(request, &hand->target, &hand->key, bytes[0], &until);
	return dlt645_build_write(request, &hand->target, how->di, &hand->key, bytes, how->count);
}

/* Whether what is asked for is in place already: 1, 0, or -1 when the meter does not show it. */
static int
switch_place(const SmHand *hand, const SmValues *values)
{
	switch (hand->action)
	{
		case SWITCH_OPEN:
		case SWITCH_CLOSE:
			if (!point_has(values, METRIC_RELAY))
				return -1;
			return values->relay == (hand->action == SWITCH_OPEN ? RELAY_OPEN : RELAY_CLOSED);
		case SWITCH_KEEP:
		case SWITCH_RELEASE:
			if (values->keep == KEEP_UNKNOWN)
				return -1;
			return values->keep == (hand->action == SWITCH_KEEP ? KEEP_ON : KEEP_OFF);
		default:
			return -1;
	}
}

static bool
switch_is_keep(const SmHand *hand)
{
	return hand->action == SWITCH_KEEP || hand->action == SWITCH_RELEASE;
}

static void
switch_print(const char *when, const SmValues *values)
{
	static const SmMetric shown[] = {METRIC_RELAY, METRIC_V_A, METRIC_I_A, METRIC_POWER_W,
									 METRIC_ENERGY_WH};
	char text[64];
	size_t i;

	printf("%-7s", when);
	for (i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
	{
		if (!point_has(values, shown[i]))
			continue;
		cabinet_format(values, shown[i], text, sizeof(text));
		printf(" %s %s", point_metric_name(shown[i]), text);
	}
	if (values->keep != KEEP_UNKNOWN)
		printf(" keep-power %s", values->keep == KEEP_ON ? "on" : "off");
	putchar('\n');
	fflush(stdout);
}

/* Says what the write is proved by. */
static int
switch_judge(const SmHand *hand, const SmValues *after)
{
	int place = switch_place(hand, after);

	if (place >= 0 && switch_is_keep(hand))
		printf("evidence: keep-power reads %s\n", after->keep == KEEP_ON ? "on" : "off");
	else if (place >= 0)
		printf("evidence: the relay register says %s\n", point_relay_name(after->relay));
	else if (hand->action == SWITCH_PERMIT_CLOSE)
		printf("Closing is permitted: press the key of the meter.\n");
	else if (hand->action == SWITCH_OPEN && point_has(after, METRIC_POWER_W) &&
			 point_has(&hand->before, METRIC_POWER_W) && hand->before.number[METRIC_POWER_W] > 10)
	{
		printf("evidence: power went from %.0f W to %.0f W\n", hand->before.number[METRIC_POWER_W],
			   after->number[METRIC_POWER_W]);
		return after->number[METRIC_POWER_W] < 10 ? CABINET_GOOD : CABINET_BAD;
	}
	else
		printf("evidence: none but the acknowledgement; look at the %s itself\n",
			   switch_is_keep(hand) ? "meter" : "breaker");
	return place == 0 ? CABINET_BAD : CABINET_GOOD;
}

/* Reads the meter again until what was asked for is in place, or time is up. */
static int
switch_look_back(SmHand *hand)
{
	SmValues after = {0};
	int looks;

	for (looks = 0; looks < 2 * SWITCH_LOOKS; looks++)
	{
		usleep((useconds_t) (hand->how->settle_ms * 1000 / SWITCH_LOOKS));
		if (cabinet_ask_model(&hand->port, &hand->own->model, &hand->target, &after, false) < 0)
			continue;
		if (switch_place(hand, &after) == 1)
			break;
	}
	switch_print("after", &after);
	return switch_judge(hand, &after);
}

/* Writes once; what comes of it. */
static int
switch_write(SmHand *hand)
{
	SmPortOutcome outcome;
	SmRequest request;

	if (!switch_build(hand, &request))
	{
		explicit_bzero(&request, sizeof(request));
		return CABINET_BAD;
	}
	outcome = port_ask(&hand->port, &request, hand->port.timeout_ms);
	explicit_bzero(&request, sizeof(request));
	if (outcome == PORT_REFUSED && hand->port.result.refusal == REFUSAL_PASSWORD)
	{
		cabinet_say("the meter refuses the password. Do not try another one before it is known to "
					"be right: the third refusal locks the meter for a day.");
		return CABINET_BAD;
	}
	if (outcome == PORT_REFUSED)
	{
		cabinet_say("the meter refuses: %s", port_outcome_text(&hand->port, outcome));
		return CABINET_BAD;
	}
	if (outcome == PORT_GOOD)
		printf("The meter has taken the instruction; that is no proof yet.\n");
	else
		printf("No answer to the instruction (%s). It is not written again; the meter is read.\n",
			   port_outcome_text(&hand->port, outcome));
	return switch_look_back(hand);
}

static int
switch_run(SmHand *hand)
{
	if (!cabinet_open(hand->cabinet, hand->own->model.protocol, &hand->port))
		return CABINET_BAD;
	if (hand->cabinet->timeout_ms == 0)
		hand->port.timeout_ms = hand->target.protocol == PROTOCOL_MODBUS ? 1000 : 2000;
	if (cabinet_ask_model(&hand->port, &hand->own->model, &hand->target, &hand->before, true) < 0 ||
		hand->before.present == 0)
	{
		cabinet_say("the meter cannot be read: nothing was written");
		return CABINET_BAD;
	}
	switch_print("before", &hand->before);
	if (switch_place(hand, &hand->before) == 1)
	{
		printf("It is %s already: nothing was written.\n",
			   switch_is_keep(hand) ? (hand->before.keep == KEEP_ON ? "kept on" : "not kept on")
									: point_relay_name(hand->before.relay));
		return CABINET_GOOD;
	}
	if (hand->before.locked && !switch_is_keep(hand) && hand->action != SWITCH_OPEN)
	{
		cabinet_say("the breaker is locked on the spot: nothing was written");
		return CABINET_BAD;
	}
	if (!switch_confirm(hand) || !switch_get_key(hand))
		return CABINET_BAD;
	return switch_write(hand);
}

int
cabinet_switch(const SmCabinet *cabinet)
{
	SmHand hand = {.cabinet = cabinet};
	SmCatalogue catalogue = {0};
	int status = CABINET_USAGE;
	int action;

	for (action = 0; action < SWITCH_ACTIONS && cabinet->word_count == 1; action++)
	{
		if (strcmp(cabinet->words[0], switch_names[action]) == 0)
			break;
	}
	if (cabinet->word_count != 1 || action == SWITCH_ACTIONS)
		return cabinet_usage("switch wants open, close, permit-close, keep or release");
	if (!isatty(STDIN_FILENO))
		return cabinet_usage("switch is confirmed by a person at a terminal, and there is none");
	hand.action = (SmSwitchAction) action;
	hand.own = cabinet_find_model(cabinet, &catalogue);
	if (hand.own != NULL && cabinet_target(cabinet, hand.own->model.protocol, &hand.target))
	{
		hand.how = &hand.own->model.switches[action];
		if (!hand.how->known)
			status = cabinet_usage("model %s has no instruction to %s", hand.own->model.name,
								   switch_names[action]);
		else
			status = switch_run(&hand);
	}
	explicit_bzero(&hand.key, sizeof(hand.key));
	port_close(&hand.port);
	catalogue_free(&catalogue);
	return status;
}
