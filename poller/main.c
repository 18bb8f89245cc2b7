/*
 * main.c - the poller: how its parts are put together, started and stopped
 *
 *   database --plan, commands--> control --> field (buses, meters) --> gateways
 *      ^  ^----outcomes, health----'            |
 *      '--readings-- deliver <-- spool <--------'
 *
 * Everything runs in one loop but the spool's disk, which has a thread. Signals arrive as events
 * of the loop, so nothing clever happens in a handler.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "deliver.h"
#include "cabinet.h"
#include "log.h"
#include "options.h"

#define MAIN_ONCE_PLAN_US (30 * US_PER_S)
#define MAIN_ONCE_DELIVER_US (30 * US_PER_S)
#define MAIN_CHECK_US (30 * US_PER_S)
#define MAIN_STOP_US (20 * US_PER_S)
#define MAIN_DRAIN_US (2 * US_PER_S)

enum
{
	EXIT_GOOD = 0,
	EXIT_PROBLEMS = 1,
	EXIT_NO_SPOOL = 3,
	EXIT_NO_TLS = 3,
	EXIT_NO_PLAN = 3
};

typedef struct SmPoller
{
	SmOptions options;
	SmLoop *loop;
	SmField *field;
	SmControl *control;
	SmWriter *writer;
	SmDeliver *deliver; /* NULL with --check */
	SmWatch signals;
	SmTimer limit;
	bool ending;   /* with --once: all is done; else: a signal came */
	bool stopping; /* buses are being let finish */
	bool finished;
	int64_t stopped_us; /* when stopping began */
	bool planned;
	int status;
	char trouble[256];
} SmPoller;

static void main_stop(SmPoller *poller);

static void
main_reading(void *context, const SmReading *reading, bool urgent)
{
	SmPoller *poller = context;

	if (poller->deliver != NULL)
		deliver_add(poller->deliver, reading, urgent);
}

static int
main_slowness(void *context)
{
	SmPoller *poller = context;

	return poller->deliver != NULL ? deliver_slowness(poller->deliver) : 0;
}

static void
main_ask(void *context, SmCommand *command)
{
	SmPoller *poller = context;

	control_ask(poller->control, command);
}

static void
main_clock(void *context, const SmClockResult *result)
{
	SmPoller *poller = context;

	control_report_clock(poller->control, result);
}

static void
main_report(void *context, SmCommand *command)
{
	SmPoller *poller = context;

	control_report(poller->control, command);
}

static void
main_history(void *context, const struct SmHistoryResult *result)
{
	SmPoller *poller = context;

	control_report_history(poller->control, result);
}

static bool
main_dialled_in(void *context, SmBus *bus)
{
	SmPoller *poller = context;

	(void) bus;
	return control_dialled_in(poller->control);
}

/* With --once: looks whether all is read and delivered. */
static void
main_check_once(SmPoller *poller)
{
	int failed;

	if (!poller->options.once || !poller->planned || poller->ending ||
		!field_round_is_done(poller->field, &failed))
		return;
	deliver_flush(poller->deliver);
	if (!deliver_is_done(poller->deliver))
	{
		if (poller->limit.place == 0)
			loop_set(poller->loop, &poller->limit, base_now_us() + MAIN_ONCE_DELIVER_US);
		return;
	}
	poller->ending = true;
	poller->status = failed > 0 ? EXIT_PROBLEMS : EXIT_GOOD;
	log_info("once: %d of %d meters answered", poller->field->meter_count - failed,
			 poller->field->meter_count);
	main_stop(poller);
}

static void
main_changed(void *context)
{
	main_check_once(context);
}

/* Prints what is in the plan and what is wrong with it. */
static void
main_print_plan(SmPoller *poller)
{
	const SmField *field = poller->field;
	int i;

	printf("gateways: %d\nmeters: %d\nmodels: %d\nproblems: %d\n", field->bus_count,
		   field->meter_count, field->plan->model_count, field->left_out_count);
	for (i = 0; i < field->bus_count; i++)
		printf("gateway %d/%lld: %s, %d meters every %lld ms\n", field->buses[i]->site_id,
			   (long long) field->buses[i]->gateway_id, field->buses[i]->link.route->address,
			   field->buses[i]->meter_count,
			   (long long) (field->buses[i]->interval_us / US_PER_MS));
	for (i = 0; i < field->left_out_count; i++)
	{
		const SmLeftOut *entry = &field->left_out[i];

		if (entry->id == 0)
			printf("problem: %s\n", entry->text);
		else
			printf("problem: %s %d/%lld: %s\n", entry->is_gateway ? "gateway" : "meter",
				   entry->site_id, (long long) entry->id, entry->text);
	}
}

/* Stamps were wrong by so much. */
static void
main_moved(void *context, int64_t shift_ms)
{
	SmPoller *poller = context;

	field_shift_time(poller->field, shift_ms);
}

static void
main_planned(void *context)
{
	SmPoller *poller = context;

	poller->planned = true;
	if (poller->options.check)
	{
		main_print_plan(poller);
		poller->status = poller->field->left_out_count > 0 ? EXIT_PROBLEMS : EXIT_GOOD;
		poller->finished = true;
	}
	else if (poller->options.once)
	{
		loop_cancel(poller->loop, &poller->limit);
		main_check_once(poller);
	}
}

/* No plan could be had; --check does not wait for better times. */
static void
main_plan_failed(void *context, const char *message)
{
	SmPoller *poller = context;

	snprintf(poller->trouble, sizeof(poller->trouble), "%s", message);
	if (poller->options.check && !poller->finished)
	{
		fprintf(stderr, "submeter-poller: could not load the plan: %s\n", message);
		poller->status = EXIT_NO_PLAN;
		poller->finished = true;
	}
}

/* The time for something is over: stopping, loading a plan once, delivering once. */
static void
main_limit(void *context)
{
	SmPoller *poller = context;

	if (poller->stopping)
	{
		log_warning("not everything could be finished in time; what was written is read back by"
					" the next run");
		poller->finished = true;
		return;
	}
	if (poller->planned)
		log_error("readings could not be delivered in time; they stay in the spool");
	else
		log_error("could not load the plan in time: %s", poller->trouble);
	poller->status = poller->planned ? EXIT_PROBLEMS : EXIT_NO_PLAN;
	poller->ending = true;
	main_stop(poller);
}

/* Lets what is on the wire finish; main_run() sees when it has. */
static void
main_stop(SmPoller *poller)
{
	poller->stopping = true;
	poller->stopped_us = base_now_us();
	loop_set(poller->loop, &poller->limit, base_now_us() + MAIN_STOP_US);
	field_stop(poller->field);
	control_stop(poller->control);
	if (poller->deliver != NULL)
		deliver_flush(poller->deliver);
}

static void
main_signal(void *context, uint32_t events)
{
	SmPoller *poller = context;
	struct signalfd_siginfo info;

	(void) events;
	if (read(poller->signals.fd, &info, sizeof(info)) != (ssize_t) sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP)
	{
		log_info("SIGHUP: the plan is loaded again");
		field_ask_refused_again(poller->field);
		control_reload(poller->control);
	}
	else if (!poller->stopping)
	{
		log_info("%s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
		if (poller->options.once)
			poller->status = EXIT_PROBLEMS;
		main_stop(poller);
	}
}

/* Makes signals events of the loop. SIGPIPE is nobody's business: writes return errors. */
static void
main_watch_signals(SmPoller *poller)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	/* A limit on the size of files is an error of writing, like a full disk. */
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
	{
		log_error("could not watch signals: %s", strerror(errno));
		exit(EXIT_PROBLEMS);
	}
	poller->signals.ready = main_signal;
	poller->signals.context = poller;
	loop_watch(poller->loop, &poller->signals, fd, EPOLLIN);
}

/* As many descriptors as we may have: one per gateway. */
static void
main_raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			log_warning("could not raise the number of files: %s", strerror(errno));
	}
}

/* Opens the spool and starts its thread; false when it cannot be used. */
static bool
main_open_spool(SmPoller *poller, int64_t *last_ms)
{
	char why[512];
	SmSpool *spool = spool_open(poller->options.spool, why, sizeof(why));
	int64_t count = 0;

	if (spool == NULL)
	{
		log_error("%s", why);
		return false;
	}
	if (poller->options.retry_rejected && !spool_retry_rejected(spool, &count))
		log_error("could not put rejected readings back: %s", spool_error(spool));
	if (count > 0)
		log_info("%lld rejected readings wait again", (long long) count);
	log_info("spool \"%s\": %lld readings waiting, %lld rejected", poller->options.spool,
			 (long long) spool_count(spool), (long long) spool_rejected(spool));
	*last_ms = spool_last_ms(spool);
	poller->writer = writer_create(poller->loop, spool, poller->options.spool_most_bytes);
	poller->deliver =
		deliver_create(poller->loop, poller->writer, poller->options.dsn, poller->options.name,
					   poller->options.spool_most_bytes, main_changed, main_moved, poller);
	return true;
}

/* Whether a stopping program has nothing left to wait for. Readings may wait in the spool. */
static bool
main_is_quiet(const SmPoller *poller)
{
	return field_is_quiet(poller->field) && control_is_quiet(poller->control) &&
		   deliver_is_spooled(poller->deliver) &&
		   (deliver_is_drained(poller->deliver) ||
			base_now_us() - poller->stopped_us > MAIN_DRAIN_US);
}

/* Runs until all is done; returns the exit status. */
static int
main_run(SmPoller *poller)
{
	SmFieldHooks hooks = {poller,       main_reading, main_slowness,   main_ask,  main_report,
						  main_history, main_changed, main_dialled_in, main_clock};
	SmControlEvents events = {poller, main_planned, main_plan_failed};
	SmControlRole role = poller->options.check  ? CONTROL_LOOK
						 : poller->options.once ? CONTROL_ONCE
												: CONTROL_POLLER;
	SmText plan_path = {0};
	int64_t last_ms = 0;

	if (!poller->options.check && !main_open_spool(poller, &last_ms))
		return EXIT_NO_SPOOL;
	poller->field = field_create(poller->loop, &hooks, poller->options.once, last_ms);
	poller->control =
		control_create(poller->loop, poller->options.dsn, poller->options.name, role, &events);
	poller->limit.fire = main_limit;
	poller->limit.context = poller;
	if (poller->options.once || poller->options.check)
		loop_set(poller->loop, &poller->limit, base_now_us() + MAIN_ONCE_PLAN_US);
	if (poller->options.check)
		field_stop(poller->field);
	text_printf(&plan_path, "%s/plan", poller->options.spool);
	control_start(poller->control, poller->field, plan_path.data);
	text_free(&plan_path);
	if (poller->deliver != NULL)
		deliver_start(poller->deliver);
	while (!poller->finished)
	{
		loop_turn(poller->loop);
		if (poller->stopping && field_is_quiet(poller->field))
			control_release(poller->control);
		if (poller->stopping && main_is_quiet(poller))
			poller->finished = true;
	}
	return poller->status;
}

/* Ends what runs, in the order that lets nothing be lost, and frees all. */
static void
main_close(SmPoller *poller)
{
	int fd = poller->signals.fd;

	if (poller->deliver != NULL)
		deliver_flush(poller->deliver);
	if (poller->writer != NULL)
		writer_stop(poller->writer);
	if (poller->deliver != NULL)
		deliver_free(poller->deliver);
	if (poller->field != NULL)
		field_free(poller->field);
	if (poller->control != NULL)
		control_free(poller->control);
	loop_unwatch(poller->loop, &poller->signals);
	close(fd);
	loop_free(poller->loop);
	tls_teardown();
}

int
main(int count, char **arguments)
{
	static SmPoller poller;
	int status;

	if (cabinet_wants(count, arguments))
		return cabinet_main(count, arguments);
	status = options_parse(&poller.options, count, arguments);
	if (status >= 0)
		return status;
	umask(0077);
	srand48(base_wall_ms() ^ ((long) getpid() << 16));
	main_raise_limits();
	poller.loop = loop_create();
	main_watch_signals(&poller);
	if (!tls_setup(&poller.options.tls, poller.trouble, sizeof(poller.trouble)))
	{
		log_error("%s", poller.trouble);
		return EXIT_NO_TLS;
	}
	log_info("submeter-poller %s begins as \"%s\"", SUBMETER_VERSION, poller.options.name);
	status = main_run(&poller);
	main_close(&poller);
	log_info("submeter-poller ends");
	return status;
}
