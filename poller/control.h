/*
 * control.h - the conversation with the database about the plan, commands and reads
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "clock.h"
#include "command.h"
#include "db.h"
#include "report.h"

struct SmControl;
typedef struct SmControl SmControl;

/* What we are to the database. */
typedef enum SmControlRole
{
	CONTROL_POLLER, /* has leases, and carries commands */
	CONTROL_ONCE,   /* reads what nobody has a lease on */
	CONTROL_LOOK    /* wants to see the plan */
} SmControlRole;

/* What the rest of the program wants to know of it. */
typedef struct SmControlEvents
{
	void *context;
	void (*planned)(void *context);                     /* a plan was applied */
	void (*failed)(void *context, const char *message); /* no plan could be had */
} SmControlEvents;

extern SmControl *control_create(SmLoop *loop, const char *conninfo, const char *name,
								 SmControlRole role, const SmControlEvents *events);
extern void control_start(SmControl *control, SmField *field, const char *plan_path);
extern void control_free(SmControl *control);
extern void control_reload(SmControl *control);
extern void control_ask(SmControl *control, SmCommand *command);
extern void control_report_history(SmControl *control, const struct SmHistoryResult *result);
extern void control_report(SmControl *control, SmCommand *command);
extern bool control_dialled_in(SmControl *control);
extern void control_report_clock(SmControl *control, const SmClockResult *result);
extern void control_stop(SmControl *control);
extern void control_release(SmControl *control);
extern bool control_is_quiet(const SmControl *control);

#endif
