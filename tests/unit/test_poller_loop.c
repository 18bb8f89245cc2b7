/*
 * test_poller_loop.c - the event loop: timers in order, watches that go away in the middle
 */
/* links: poller/loop.c poller/base.c poller/log.c */
#include <stdlib.h>
#include <unistd.h>

#include "../../poller/loop.h"
#include "test_poller_tap.h"

#define TIMERS 500

static SmLoop *loop;
static SmTimer timers[TIMERS];
static int64_t last_due;
static int fired;
static bool in_order = true;

static void
fire(void *context)
{
	SmTimer *timer = context;

	in_order = in_order && timer->due_us >= last_due && timer->place == 0;
	last_due = timer->due_us;
	fired++;
}

/* Timers set, moved and cancelled at random fire in order, the cancelled ones never. */
static void
test_timers(void)
{
	int64_t now_us = base_now_us();
	int cancelled = 0;
	int i;

	srand(3);
	for (i = 0; i < TIMERS; i++)
	{
		timers[i].fire = fire;
		timers[i].context = &timers[i];
		loop_set(loop, &timers[i], now_us + rand() % 20000);
	}
	for (i = 0; i < TIMERS; i += 3)
		loop_set(loop, &timers[i], now_us + rand() % 20000);
	for (i = 0; i < TIMERS; i += 7, cancelled++)
		loop_cancel(loop, &timers[i]);
	loop_cancel(loop, &timers[0]);
	while (loop->heap_count > 0)
		loop_turn(loop);
	is(fired, TIMERS - cancelled, "those that were not cancelled fired once");
	ok(in_order, "in the order of their times");
	ok(base_now_us() >= last_due, "and not too early");
}

static SmWatch watches[2];
static int seen;

/* The first to be ready stops both. */
static void
stop_both(void *context, uint32_t events)
{
	(void) context;
	(void) events;
	seen++;
	loop_unwatch(loop, &watches[0]);
	loop_unwatch(loop, &watches[1]);
}

static void
test_watches(void)
{
	int ends[2][2];
	int i;

	for (i = 0; i < 2; i++)
	{
		if (pipe(ends[i]) != 0 || write(ends[i][1], "x", 1) != 1)
			exit(1);
		watches[i].ready = stop_both;
		loop_watch(loop, &watches[i], ends[i][0], EPOLLIN);
	}
	loop_turn(loop);
	is(seen, 1, "an event of a watch that went away is dropped");
}

int
main(void)
{
	loop = loop_create();
	test_timers();
	test_watches();
	loop_free(loop);
	return tap_done();
}
