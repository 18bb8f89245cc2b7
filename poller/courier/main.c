/*
 * main.c - the courier: how its parts are put together, started and stopped
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../log.h"
#include "courier.h"

#define MAIN_STOP_US (40 * US_PER_S)

enum
{
	EXIT_GOOD = 0,
	EXIT_UNFINISHED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_LISTEN = 3
};

static const char main_help[] =
	"submeter-courier carries messages and payment requests between the database and the outside.\n"
	"\n"
	"  submeter-courier --dsn CONNINFO [option...]\n"
	"\n"
	"  --dsn CONNINFO      libpq connection string; service=NAME or a passfile keep the password\n"
	"                      off the command line\n"
	"  --listen [HOST:]PORT  take the payment providers' notifications, plain HTTP behind a TLS\n"
	"                      proxy; loopback when there is no host. POST /notify/PROVIDER/MERCHANT;\n"
	"                      /health says whether the database can be reached\n"
	"  --parallel N        most requests under way at once (default 64)\n"
	"  --name NAME         name this courier claims requests under (default: host and process)\n"
	"  --log-level LEVEL   error, warning, info (default) or debug\n"
	"  --allow-root        run as root nevertheless\n"
	"  -h, --help          this text\n"
	"  --version           version\n"
	"\n"
	"SIGTERM claims nothing more, finishes what is under way and exits.\n";

typedef struct SmCourier
{
	const char *dsn;
	const char *listen_address;
	const char *name;
	int64_t parallel;
	bool allow_root;
	char own_name[320];
	SmLoop *loop;
	SmOutbox *outbox;
	SmListen *listen; /* NULL without --listen */
	SmWatch signals;
	SmTimer limit;
	bool stopping;
	bool late;
} SmCourier;

enum
{
	OPTION_DSN = 256,
	OPTION_LISTEN,
	OPTION_PARALLEL,
	OPTION_NAME,
	OPTION_LOG_LEVEL,
	OPTION_ALLOW_ROOT,
	OPTION_VERSION
};

static const struct option main_options[] = {
	{"dsn", required_argument, NULL, OPTION_DSN},
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"parallel", required_argument, NULL, OPTION_PARALLEL},
	{"name", required_argument, NULL, OPTION_NAME},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"allow-root", no_argument, NULL, OPTION_ALLOW_ROOT},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0}};

static int
main_usage(const char *text)
{
	fprintf(stderr, "submeter-courier: %s\nTry \"submeter-courier --help\".\n", text);
	return EXIT_USAGE;
}

/* Takes one option; -1 to go on, else the exit status. */
static int
main_take(SmCourier *courier, int option)
{
	switch (option)
	{
		case OPTION_DSN:
			courier->dsn = optarg;
			return -1;
		case OPTION_LISTEN:
			courier->listen_address = optarg;
			return -1;
		case OPTION_PARALLEL:
			return base_parse_int(optarg, 1, 1000, &courier->parallel)
					   ? -1
					   : main_usage("--parallel is not 1 to 1000");
		case OPTION_NAME:
			courier->name = optarg;
			return -1;
		case OPTION_LOG_LEVEL:
			return log_set_level(optarg) ? -1 : main_usage("there is no such log level");
		case OPTION_ALLOW_ROOT:
			courier->allow_root = true;
			return -1;
		case OPTION_VERSION:
			puts("submeter-courier " SUBMETER_VERSION);
			return EXIT_GOOD;
		case 'h':
			fputs(main_help, stdout);
			return EXIT_GOOD;
		default:
			return main_usage("an option is not understood");
	}
}

/* Parses the command line; -1 to go on, else the exit status. */
static int
main_parse(SmCourier *courier, int count, char **arguments)
{
	char host[256] = "";
	int option;
	int status;

	if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		snprintf(host, sizeof(host), "courier");
	snprintf(courier->own_name, sizeof(courier->own_name), "%s/%d", host, (int) getpid());
	courier->name = courier->own_name;
	courier->parallel = 64;
	while ((option = getopt_long(count, arguments, "h", main_options, NULL)) != -1)
	{
		status = main_take(courier, option);
		if (status >= 0)
			return status;
	}
	if (optind < count)
		return main_usage("there are words that are no options");
	if (courier->dsn == NULL)
		return main_usage("--dsn is missing");
	if (courier->name[0] == '\0')
		return main_usage("--name is empty");
	if (geteuid() == 0 && !courier->allow_root)
		return main_usage("not as root; use a user of its own, or --allow-root");
	return -1;
}

static void
main_limit(void *context)
{
	SmCourier *courier = context;

	courier->late = true;
}

/* A signal came: claim nothing more, finish what is under way. */
static void
main_signal(void *context, uint32_t events)
{
	SmCourier *courier = context;
	struct signalfd_siginfo info;

	(void) events;
	if (read(courier->signals.fd, &info, sizeof(info)) != sizeof(info) || courier->stopping)
		return;
	log_info("signal %d: finishing what is under way", (int) info.ssi_signo);
	courier->stopping = true;
	outbox_stop(courier->outbox);
	if (courier->listen != NULL)
		listen_stop(courier->listen);
	loop_set(courier->loop, &courier->limit, base_now_us() + MAIN_STOP_US);
}

/* Turns signals into events of the loop. */
static bool
main_watch_signals(SmCourier *courier)
{
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) != 0 ||
		(fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
	{
		log_error("could not watch signals: %s", strerror(errno));
		return false;
	}
	courier->signals.ready = main_signal;
	courier->signals.context = courier;
	loop_watch(courier->loop, &courier->signals, fd, EPOLLIN);
	return true;
}

static bool
main_is_done(const SmCourier *courier)
{
	return courier->stopping &&
		   (courier->late || (outbox_is_quiet(courier->outbox) &&
							  (courier->listen == NULL || listen_is_quiet(courier->listen))));
}

/* Runs until a signal comes and all is finished; the exit status. */
static int
main_run(SmCourier *courier)
{
	char why[256];

	if (courier->listen_address != NULL)
	{
		courier->listen =
			listen_create(courier->loop, courier->listen_address, courier->dsn, why, sizeof(why));
		if (courier->listen == NULL)
		{
			log_error("%s", why);
			return EXIT_NO_LISTEN;
		}
	}
	courier->limit.fire = main_limit;
	courier->limit.context = courier;
	courier->outbox =
		outbox_create(courier->loop, courier->dsn, courier->name, (int) courier->parallel);
	outbox_start(courier->outbox);
	while (!main_is_done(courier))
		loop_turn(courier->loop);
	if (courier->late)
		log_warning("not everything could be finished; the database will find out what became of"
					" it");
	return courier->late ? EXIT_UNFINISHED : EXIT_GOOD;
}

int
main(int count, char **arguments)
{
	static SmCourier courier;
	int status = main_parse(&courier, count, arguments);
	int fd;

	if (status >= 0)
		return status;
	umask(0077);
	srand48(base_wall_ms() ^ ((long) getpid() << 16));
	courier.loop = loop_create();
	if (!main_watch_signals(&courier))
		return EXIT_UNFINISHED;
	log_info("submeter-courier %s begins as \"%s\"", SUBMETER_VERSION, courier.name);
	status = main_run(&courier);
	if (courier.outbox != NULL)
		outbox_free(courier.outbox);
	if (courier.listen != NULL)
		listen_free(courier.listen);
	fd = courier.signals.fd;
	loop_unwatch(courier.loop, &courier.signals);
	close(fd);
	loop_free(courier.loop);
	log_info("submeter-courier ends");
	return status;
}
