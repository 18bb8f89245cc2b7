/*
 * command.h - opening and closing breakers
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "field.h"

#define COMMAND_DETAIL 224
#define COMMAND_POINTS 4

typedef enum SmCommandState
{
	COMMAND_LOOK,  /* read the breaker before anything else */
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
	EVIDENCE_ENERGY   /* the counter runs: it is closed */
} SmEvidence;

/* A look at the breaker. */
typedef struct SmLook
{
	bool known;
	int64_t wall_ms;
	SmValues values;
} SmLook;

typedef struct SmCommand
{
	struct SmCommand *next;
	SmField *field;
	SmBus *bus;     /* NULL once it is over */
	SmMeter *meter; /* NULL when the plan does not have it */
	int site_id;
	int64_t command_id;
	int64_t meter_id;
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
	SmLook before;
	SmLook first_back;
	SmLook after;
	bool written;
	bool echoed;
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
	bool close;
	bool verify;
	bool local_key;
	int64_t expires_in_ms;
} SmClaim;

extern void command_start(SmField *field, const SmClaim *claim);
extern void command_go(SmCommand *command, bool go, const char *reason);
extern bool command_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us,
						 bool *hold);
extern int64_t command_wake(const SmBus *bus, int64_t now_us);
extern void command_bus_failed(SmBus *bus, const char *text);
extern void command_plan_changed(SmBus *bus);
extern void command_stop(SmBus *bus);
extern void command_drop_all(SmBus *bus);
extern void command_free(SmCommand *command);

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
