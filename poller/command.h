/*
 * command.h - opening and closing breakers
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "field.h"
#include "meter_clock.h"

#define COMMAND_DETAIL 224
#define COMMAND_POINTS 4

/* What is asked for, in the database's words. */
typedef enum SmAction
{
	ACTION_OPEN,
	ACTION_CLOSE,
	ACTION_KEEP,    /* the meter is to keep its power on */
	ACTION_RELEASE, /* and no longer */
	ACTION_SET_CLOCK,
	ACTION_COUNT
} SmAction;

typedef enum SmCommandState
{
	COMMAND_LOOK,  /* read the breaker before anything else */
	COMMAND_CLOCK, /* read the clock the command is to be timed by */
	COMMAND_ASK,   /* the database has the last word */
	COMMAND_WRITE, /* it said go */
	COMMAND_BACK,  /* read the breaker until it is in place or time is up */
	COMMAND_REPORT /* over; its outcome is being reported */
} SmCommandState;

/* By what the meter shows where its breaker is. */
typedef enum SmEvidence
{
	EVIDENCE_RELAY,   /* a register says so */
	EVIDENCE_POWER,   /* power flows: it is closed */
	EVIDENCE_CURRENT, /* current flows: it is closed */
	EVIDENCE_ENERGY,  /* the counter runs: it is closed */
	EVIDENCE_KEEP,    /* a bit says whether power is kept */
	EVIDENCE_ACK,     /* of that nothing but the meter's acknowledgement */
	EVIDENCE_CLOCK    /* the clock shows the time */
} SmEvidence;

/* A look at the breaker. */
typedef struct SmLook
{
	bool known;
	int64_t wall_ms;
	SmValues values;
} SmLook;

/* The database's go, and what only it knows: for one write. Holds secrets: never logged. */
typedef struct SmGo
{
	SmDltKey key;
	bool has_key;
	SmDltTime until; /* of 1CH, by the meter's own clock */
	bool has_until;
	int64_t local_s; /* local time at the go, seconds since 2000; -1: not told */
} SmGo;

typedef struct SmCommand
{
	struct SmCommand *next;
	SmField *field;
	SmBus *bus;     /* NULL once it is over */
	SmMeter *meter; /* NULL when the plan does not have it */
	int site_id;
	int64_t command_id;
	int64_t meter_id;
	SmAction asked;
	bool close;  /* else open */
	bool verify; /* an earlier attempt's outcome is unknown: only look */
	bool permit; /* a person has to press the key */

	SmSwitch action;
	SmEvidence evidence;
	SmPoint points[COMMAND_POINTS];
	int point_count;
	SmBlock block;

	SmCommandState state;
	int64_t due_us;
	int64_t expires_us;
	int64_t asked_us;
	int64_t settled_us;  /* when the contact should be in place */
	int64_t deadline_us; /* when looking back ends */
	int tries;
	int reads;
	bool reads_clock;
	SmMeterClock clock;                /* as it was last read, or is being read */
	char clock_text[METER_CLOCK_TEXT]; /* "": not read; what is no time: "nonsense" */
	int64_t clock_us;                  /* when it was read */
	SmGo go;
	int clock_step; /* of setting it: date, then time */
	SmLook before;
	SmLook first_back;
	SmLook after;
	bool written;
	bool echoed;
	int write_error; /* what the meter said to the write instead; 0: nothing */
	int64_t written_ms;
	int64_t written_us;
	int64_t seen_us;
	char trouble[FIELD_ERROR]; /* the last error on the way */

	const char *outcome;
	const char *kind;
	char detail[COMMAND_DETAIL];
} SmCommand;

/* A row of submeter.claim_commands(). */
typedef struct SmClaim
{
	int site_id;
	int64_t command_id;
	int64_t meter_id;
	SmAction action;
	bool verify;
	bool local_key;
	const char *clock_di; /* of the clock that is to be read first; NULL: none */
	int64_t expires_in_ms;
} SmClaim;

extern void command_start(SmField *field, const SmClaim *claim);
extern bool command_find_action(const char *name, SmAction *action);
extern const char *command_action_name(SmAction action);
extern void command_go(SmCommand *command, const SmGo *go, const char *reason);
extern bool command_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us,
						 bool *hold);
extern int64_t command_wake(const SmBus *bus, int64_t now_us);
extern void command_bus_failed(SmBus *bus, const char *text);
extern void command_plan_changed(SmBus *bus);
extern void command_stop(SmBus *bus);
extern void command_drop_all(SmBus *bus);
extern void command_free(SmCommand *command);

/* command_wire.c */
extern const char *command_prepare_clock(SmCommand *command, const SmModel *model, const char *di);
extern void command_build_look(const SmCommand *command, SmExchange *exchange);
extern bool command_build_write(SmCommand *command, int64_t now_us, SmExchange *exchange);
extern bool command_take(SmCommand *command, const SmRequest *request, const SmAnswer *answer,
						 SmLook *look);
extern bool command_take_clock(SmCommand *command, const SmAnswer *answer);
extern bool command_clock_falls_back(SmCommand *command, const SmAnswer *answer);

/* evidence.c */
extern const char *evidence_prepare(SmCommand *command, const SmModel *model);
extern SmRelay evidence_position(const SmCommand *command, const SmLook *look);
extern bool evidence_judge_first(SmCommand *command);
extern bool evidence_judge_back(SmCommand *command, int64_t now_us);
extern void evidence_conclude(SmCommand *command);
extern void evidence_add_json(SmText *text, const SmCommand *command);
extern void evidence_decide(SmCommand *command, const char *outcome, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
