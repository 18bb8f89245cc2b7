/*
 * main.c - submeter-farm: plays electricity meters behind gateways and lines
 *
 * Start-up order: configuration, descriptors, ports, control socket, then one line "ready". Ends on
 * SIGTERM, SIGINT or the command "quit", with status 0.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "control.h"
#include "curve.h"
#include "dispatch.h"
#include "farm.h"
#include "fault.h"
#include "meter.h"
#include "model.h"
#include "net.h"
#include "queue.h"
#include "tls.h"

#define EVENTS_MAX 256
#define PATH_SIZE 512

typedef struct SmOptions
{
	char models[PATH_SIZE];
	const char *control;
	const char *speed;
	const char *config;
} SmOptions;

/* Tells how the program is called. */
static void
main_usage(FILE *to)
{
	fputs("usage: submeter-farm [--models FILE] [--control PATH|PORT] [--speed N] CONFIG\n"
		  "Plays the meters that CONFIG names; see README.md beside the program.\n",
		  to);
}

/* Reads the command line; models.conf is looked for beside the program. */
static bool
main_options(int argc, char **argv, SmOptions *options)
{
	static const struct option known[] = {{"models", required_argument, NULL, 'm'},
										  {"control", required_argument, NULL, 'c'},
										  {"speed", required_argument, NULL, 's'},
										  {"help", no_argument, NULL, 'h'},
										  {NULL, 0, NULL, 0}};
	char self[PATH_SIZE - 16] = "";
	int letter;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		strcpy(self, "./x");
	snprintf(options->models, PATH_SIZE, "%s/models.conf", dirname(self));
	while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1)
	{
		if (letter == 'm')
			snprintf(options->models, PATH_SIZE, "%s", optarg);
		else if (letter == 'c')
			options->control = optarg;
		else if (letter == 's')
			options->speed = optarg;
		else
			return false;
	}
	options->config = optind + 1 == argc ? argv[optind] : NULL;
	return options->config != NULL;
}

/* A thousand ports and their connections need more descriptors than the usual limit. */
static void
main_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Opens epoll, the timer and the signals. */
static bool
main_open_loop(SmFarm *farm, SmError *error)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	farm->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	farm->timer = (SmSource){SOURCE_TIMER, farm, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)};
	farm->signals = (SmSource){SOURCE_SIGNAL, farm, signalfd(-1, &set, SFD_NONBLOCK)};
	if (farm->epoll_fd < 0 || !net_watch(farm, farm->timer.fd, EPOLLIN, &farm->timer) ||
		!net_watch(farm, farm->signals.fd, EPOLLIN, &farm->signals))
		return farm_fail(error, "could not open the event loop: %s", strerror(errno));
	return true;
}

/* Applies the command line over the configuration and starts the clock. */
static bool
main_start_clock(SmFarm *farm, const SmOptions *options, SmError *error)
{
	if (options->control != NULL)
		snprintf(farm->control_address, sizeof(farm->control_address), "%s", options->control);
	if (options->speed != NULL && !farm_parse_speed(options->speed, &farm->speed_milli))
		return farm_fail(error, "--speed wants a number from 0 to %d", SPEED_MOST);
	farm->mono_start_ns = farm_mono_ns();
	farm->mono_base_ns = farm->mono_start_ns;
	return true;
}

/* Reads everything and opens every port. */
static bool
main_start(SmFarm *farm, const SmOptions *options, SmError *error)
{
	int i;

	main_raise_limit();
	farm->speed_milli = 1000;
	farm->epoch_s = time(NULL);
	if (!config_load(farm, options->config, options->models, error) || !main_open_loop(farm, error))
		return false;
	if (!main_start_clock(farm, options, error))
		return false;
	for (i = 0; i < farm->port_count; i++)
		if (!net_open(farm->ports[i], error))
			return false;
	return control_listen(farm, error);
}

/* Tells the caller where everything is; "ready" comes last. */
static void
main_announce(const SmFarm *farm)
{
	int i;

	for (i = 0; i < farm->port_count; i++)
	{
		const SmPort *port = farm->ports[i];

		if (port->door == DOOR_LISTEN)
			printf("port %s %d\n", port->name, port->number);
		else
			printf("port %s %s\n", port->name, port->door == DOOR_PTY ? port->path : "dial");
	}
	if (farm->control_address[0] != '\0')
		printf("control %s\n", farm->control_address);
	printf("ready\n");
	fflush(stdout);
}

/* Hands one event to the room it belongs to. */
static void
main_dispatch(SmFarm *farm, const struct epoll_event *event)
{
	uint64_t expirations;

	switch (*(SmSourceKind *) event->data.ptr)
	{
		case SOURCE_LISTENER:
			net_accept(event->data.ptr);
			break;
		case SOURCE_CONNECTION:
			net_ready(event->data.ptr, event->events);
			break;
		case SOURCE_CONTROL_LISTENER:
			control_accept(farm);
			break;
		case SOURCE_CONTROL:
			control_ready(event->data.ptr);
			break;
		case SOURCE_TIMER:
			if (read(farm->timer.fd, &expirations, sizeof(expirations)) > 0)
				farm->armed_ns = 0;
			break;
		case SOURCE_SIGNAL:
			farm->stopping = true;
			break;
	}
}

/* Serves until told to stop. */
static void
main_loop(SmFarm *farm)
{
	struct epoll_event events[EVENTS_MAX];
	int count;
	int i;

	while (!farm->stopping)
	{
		count = epoll_wait(farm->epoll_fd, events, EVENTS_MAX, -1);
		for (i = 0; i < count; i++)
			main_dispatch(farm, &events[i]);
		dispatch_due(farm);
		dispatch_arm(farm);
		net_bury(farm);
		control_bury(farm);
	}
}

/* Closes and frees everything, so that a leak checker has nothing to say. */
static void
main_stop(SmFarm *farm)
{
	SmError error;
	int i;
	int k;

	for (i = 0; i < farm->port_count; i++)
		net_down(farm->ports[i]);
	while (queue_first(farm) != NULL)
	{
		queue_first(farm)->due_ns = 0;
		dispatch_due(farm);
	}
	net_bury(farm);
	control_close_all(farm);
	for (i = 0; i < farm->port_count; i++)
	{
		fault_clear(farm->ports[i], ANY_UNIT, NULL, &error);
		for (k = 0; k < farm->ports[i]->meter_count; k++)
			meter_free(farm->ports[i]->meters[k]);
		tls_free(farm->ports[i]);
		free(farm->ports[i]->dial);
		free(farm->ports[i]->meters);
		free(farm->ports[i]);
	}
	free(farm->ports);
	free(farm->chunks);
	curve_free(farm);
	model_free(farm);
}

int
main(int argc, char **argv)
{
	SmFarm farm = {0};
	SmOptions options = {0};
	SmError error = {{0}};
	bool started;

	if (!main_options(argc, argv, &options))
	{
		main_usage(stderr);
		return 2;
	}
	farm.control_listener.fd = -1;
	started = main_start(&farm, &options, &error);
	if (started)
	{
		main_announce(&farm);
		main_loop(&farm);
	}
	else
		fprintf(stderr, "submeter-farm: %s\n", error.text);
	main_stop(&farm);
	return started ? 0 : 1;
}
