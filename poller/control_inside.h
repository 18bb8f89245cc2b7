/*
 * control_inside.h - what the files of the room control share; for nobody else
 */
#ifndef CONTROL_INSIDE_H
#define CONTROL_INSIDE_H

#include "control.h"
#include "fetch.h"
#include "lease.h"

struct SmControl
{
	SmLoop *loop;
	SmField *field;
	SmDb *db;
	SmReport *report;
	SmFetch *fetch; /* NULL when only the plan is wanted */
	SmLease *lease; /* NULL but for a poller */
	SmTimer look;
	SmTimer plan_retry;
	SmTimer clock; /* asks what is to be done about clocks */
	char *name;
	char *plan_path; /* where the plan is kept; NULL: nowhere */
	SmText query;    /* for the plan */
	SmControlRole role;
	SmControlEvents events;
	bool loading;
	bool load_again;
	bool claiming;
	bool claim_again;
	bool reading;
	bool read_again;
	bool stopping;
	char last_error[256];  /* so that the same one is told once */
	SmCommand *unreported; /* over, and the database does not know yet */
	int reporting;
};

/* control.c */
extern bool control_may_claim(const SmControl *control);
extern void control_complain(SmControl *control, const char *what, const SmDbReply *reply);

/* control_command.c */
extern void control_claim(SmControl *control);
extern void control_report_again(SmControl *control);

/* control_clock.c */
extern void control_clock(void *context);

#endif
