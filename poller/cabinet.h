/*
 * cabinet.h - commands for a person at a meter cabinet, without a database
 *
 *   read, watch, scan, check-model, switch, models
 *
 * Each asks one question at a time over the same links, wires and points as the poller itself, so
 * that what works here works there.
 */
#ifndef CABINET_H
#define CABINET_H

#include "cabinet_model.h"
#include "cabinet_port.h"

#define CABINET_GOOD 0
#define CABINET_BAD 1
#define CABINET_USAGE 2

/* The command line of any of them. */
typedef struct SmCabinet
{
	const char *command;
	char *const *words; /* what stands behind the options */
	int word_count;
	const char *address;
	const char *wire;
	const char *unit;
	const char *model;
	const char *models_file;
	const char *di;
	const char *listen;
	const char *password_file;
	const char *operator_code;
	int64_t function;
	int64_t first; /* register */
	int64_t count;
	int64_t timeout_ms; /* 0: what fits the command */
	int64_t low;        /* units to look at */
	int64_t high;
	int64_t level;
	int64_t every_s;
	bool frames;
	bool text;
	bool thorough;
	bool libmodbus;
	bool dial_in; /* the device connects to address */
} SmCabinet;

/* What a person may expect of a value. */
typedef enum SmVerdict
{
	LOOK_GOOD,
	LOOK_ABSENT,
	LOOK_ODD
} SmVerdict;

/* cabinet.c */
extern bool cabinet_wants(int count, char **arguments);
extern int cabinet_main(int count, char **arguments);
extern int cabinet_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void cabinet_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool cabinet_open(const SmCabinet *cabinet, SmProtocol protocol, SmPort *port);
extern const SmCabinetModel *cabinet_find_model(const SmCabinet *cabinet, SmCatalogue *catalogue);
extern bool cabinet_target(const SmCabinet *cabinet, SmProtocol protocol, SmTarget *target);

/* cabinet_read.c */
extern int cabinet_read(const SmCabinet *cabinet);
extern int cabinet_watch_model(const SmCabinet *cabinet);
extern int cabinet_ask_model(SmPort *port, const SmModel *model, const SmTarget *target,
							 SmValues *values, bool complain);
extern void cabinet_print_values(const SmValues *values);

/* cabinet_look.c */
extern SmVerdict cabinet_look(const SmValues *values, SmMetric metric, char *why, size_t size);
extern const char *cabinet_look_together(const SmValues *values);
extern void cabinet_format(const SmValues *values, SmMetric metric, char *text, size_t size);

/* cabinet_check.c, cabinet_scan.c, cabinet_watch.c, cabinet_switch.c */
extern int cabinet_check(const SmCabinet *cabinet);
extern int cabinet_scan(const SmCabinet *cabinet);
extern int cabinet_watch(const SmCabinet *cabinet);
extern int cabinet_switch(const SmCabinet *cabinet);

#endif
