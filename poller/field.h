/*
 * field.h - the running field: buses, their meters, and the commands under way
 *
 * All of it belongs to the loop's thread. A bus owns its meters; a command points at a bus and at
 * a meter and loses both when a new plan does not have them any more.
 */
#ifndef FIELD_H
#define FIELD_H

#include "link.h"
#include "loop.h"
#include "plan.h"
#include "reading.h"
#include "wire.h"

#define FIELD_ERROR 112
#define BUS_INPUT 1280 /* a whole frame of any wire, and more */

struct SmBus;
struct SmField;
struct SmCommand;
struct SmHistory;
struct SmHistoryResult;
struct SmClockTask;
struct SmClockResult;

/* How a question ended. */
typedef enum SmAnswerKind
{
	ANSWER_GOOD,
	ANSWER_EXCEPTION,
	ANSWER_TIMEOUT,
	ANSWER_WRONG,  /* something came that is not an answer to this */
	ANSWER_BROKEN, /* the connection went away */
	ANSWER_UNSENT  /* nothing of the question left this machine */
} SmAnswerKind;

typedef struct SmAnswer
{
	SmAnswerKind kind;
	SmRefusal refusal;   /* of ANSWER_EXCEPTION: what it comes to */
	int code;            /* and as the protocol says it */
	const char *text;    /* what went wrong */
	const uint8_t *data; /* of ANSWER_GOOD: see SmResult */
	int length;
	int64_t wall_ms;
	int64_t took_us; /* from the question to its answer */
} SmAnswer;

/* A question for a bus and who wants the answer; done is called exactly once. */
typedef struct SmExchange
{
	SmRequest request;
	int turnaround_ms;
	int timeout_ms; /* 0: the gateway's */
	bool is_command;
	void (*done)(void *context, const SmRequest *request, const SmAnswer *answer);
	void *context;
} SmExchange;

typedef struct SmMeter
{
	int site_id;
	int64_t meter_id;
	SmTarget target;
	struct SmBus *bus;
	const SmModel *model;
	SmBlock *blocks; /* the model's, or its own when the meter refused some */
	int block_count;
	bool own_blocks;
	bool kept;         /* while a plan is applied: it is in the new one */
	bool urgent;       /* somebody waits for a reading */
	bool dirty;        /* its state is to be reported */
	int8_t online;     /* 1, 0, or -1: not known yet */
	int8_t tries_left; /* with --once */
	int failures;      /* in a row */
	int busy;          /* times in a row that it put us off */
	unsigned round;
	int64_t due_us;
	int64_t tried_us;
	char *refused;        /* what it does not have: learn.c; NULL: nothing known */
	int64_t ask_again_us; /* when that is asked for again; 0 = nothing is refused */
	bool relearnt;        /* it was asked for again in this reading */
	int64_t longest_us;   /* the longest time an answer took lately */
	int64_t errors;       /* since the last report */
	int64_t last_ms;      /* stamp of its last reading */
	char error[FIELD_ERROR];
} SmMeter;

typedef enum SmBusState
{
	BUS_DOWN,
	BUS_OPENING,
	BUS_READY,
	BUS_WAITING
} SmBusState;

typedef struct SmBus
{
	struct SmField *field;
	int site_id;
	int64_t gateway_id;
	SmWire wire;
	int timeout_ms;
	int gap_ms;
	int64_t interval_us;
	SmMeter **meters;
	int meter_count;
	bool kept;

	/* the link and the question under way: bus.c */
	SmBusState state;
	SmLink link;
	SmTimer timer;  /* of the question under way, the next question or the next connection */
	bool answered;  /* since the link is up; or it was up long enough not to be what fails */
	bool unclaimed; /* dialled in, and the database does not know it yet: nothing is asked */
	bool ours;      /* it dialled in here last */
	bool heard;     /* since the link is up, really */
	int silent;     /* timeouts in a row */
	int failures;   /* links in a row that came to nothing */
	int64_t up_us;  /* since when the link is up */
	int64_t retry_us;
	int64_t quiet_us; /* no question before this */
	int input_length;
	uint8_t input[BUS_INPUT];
	SmExchange exchange;
	SmRequest asked;  /* what is on the wire: the exchange's question, or what follows its answer */
	SmJoin *join;     /* an answer of several frames; NULL until there is one */
	int64_t asked_us; /* when the question was asked */
	int64_t sent_us;  /* when what is on the wire was sent */

	/* the routine: round.c */
	SmMeter *reading;
	int block;
	bool asked_twice;   /* because its data could not be */
	bool doubtful;      /* something of this reading is missing that should not */
	int64_t longest_us; /* the longest time an answer took */
	SmValues values;
	int64_t values_ms;
	unsigned round;
	int round_count;
	int64_t round_started_us;

	struct SmCommand *commands;
	struct SmClockTask *clocks; /* what is to be done about clocks: clock.c */
	int64_t clock_us;           /* and not before this */

	struct SmHistory *histories; /* history.c: memories to be read */
	int64_t history_us;          /* when the last question of these ended */

	/* what is reported: report.c */
	int8_t online;
	bool dirty;
	int64_t requests;
	int64_t errors;
	int64_t round_ms;
	int64_t
		late_us; /* most that a meter was read too late since the last report; -1: none was due */
	int64_t busy_us; /* the bus was in use, since the last report */
	int64_t reported_us;
	char error[FIELD_ERROR];
} SmBus;

/* A gateway or meter that is not run, with the reason, to be reported once. */
typedef struct SmLeftOut
{
	int site_id;
	bool is_gateway;
	int64_t id;
	bool told;
	char *text;
} SmLeftOut;

/* What the field needs of the rest of the program. */
typedef struct SmFieldHooks
{
	void *context;
	void (*reading)(void *context, const SmReading *reading, bool urgent);
	int (*slowness)(void *context); /* interval times this; 0 = no routine reads at all */
	void (*ask)(void *context, struct SmCommand *command);
	void (*report)(void *context, struct SmCommand *command);
	void (*history)(void *context, const struct SmHistoryResult *result);
	void (*changed)(void *context); /* somebody should look whether all is done */
	bool (*dialled_in)(void *context, struct SmBus *bus); /* false: bus_admit() follows */
	void (*clock)(void *context, const struct SmClockResult *result);
} SmFieldHooks;

typedef struct SmField
{
	SmLoop *loop;
	SmFieldHooks hooks;
	struct SmListen *listen;
	SmPlan *plan;
	SmBus **buses; /* by site and id */
	int bus_count;
	SmMeter **meters; /* by site and id */
	int meter_count;
	SmLeftOut *left_out;
	int left_out_count;
	int64_t floor_ms; /* no stamp before this: the latest one of an earlier run */
	bool once;
	bool stopping;
	bool alone;       /* no other poller serves devices that dial in */
	int64_t until_us; /* nothing is asked after this: others take over */
} SmField;

extern SmField *field_create(SmLoop *loop, const SmFieldHooks *hooks, bool once, int64_t floor_ms);
extern void field_free(SmField *field);
extern void field_apply(SmField *field, SmPlan *plan);
extern SmMeter *field_find_meter(const SmField *field, int site_id, int64_t meter_id);
extern struct SmBus *field_find(const SmField *field, int site_id, int64_t gateway_id);
extern void field_read_soon(SmField *field, int site_id, int64_t meter_id);
extern void field_ask_refused_again(SmField *field);
extern void field_shift_time(SmField *field, int64_t shift_ms);
extern void field_stop(SmField *field);
extern bool field_is_quiet(const SmField *field);
extern bool field_round_is_done(const SmField *field, int *failed);
extern void field_set_error(char *target, const char *text, bool *dirty);

/* bus.c */
extern void bus_init(SmBus *bus);
extern void bus_close(SmBus *bus);
extern void bus_welcome(SmBus *bus, SmLink *from, const uint8_t *bytes, int length);
extern void bus_admit(SmBus *bus);
extern void bus_dismiss(SmBus *bus);
extern void bus_pump(SmBus *bus);
extern void bus_wake(SmBus *bus);
extern void bus_hurry(SmBus *bus);
extern void bus_forget(SmBus *bus, void *context);
extern int64_t bus_late_us(const SmBus *bus, const SmAnswer *answer);

/* round.c */
extern bool round_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us);
extern int64_t round_wake(const SmBus *bus, int64_t now_us);
extern void round_bus_failed(SmBus *bus, const char *text);
extern void round_bus_up(SmBus *bus);
extern void round_abandon(SmBus *bus);
extern bool round_has_life(const SmBus *bus);

/* learn.c */
extern void learn_reset(SmMeter *meter);
extern bool learn_refused(SmMeter *meter, int at, const SmAnswer *answer);
extern void learn_restore(SmMeter *meter, const char *text, int64_t again_s);
extern bool learn_is_lacking(const SmMeter *meter);

#endif
