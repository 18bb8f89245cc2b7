/*
 * loop.c - the event loop: epoll for descriptors, a binary heap for timers
 *
 * One thread works here. A callback may watch, unwatch, set and cancel anything, its own watch
 * included: events of the current batch that belong to a watch that went away are dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"

/* Makes an empty loop; freed by loop_free(). */
SmLoop *
loop_create(void)
{
	SmLoop *loop = base_alloc(sizeof(SmLoop));

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
	{
		log_error("could not create the event queue: %s", strerror(errno));
		exit(1);
	}
	return loop;
}

void
loop_free(SmLoop *loop)
{
	close(loop->epoll_fd);
	free(loop->heap);
	free(loop);
}

/* Watches a descriptor, or changes what is waited for. Removing first is on purpose: libpq closes
 * its socket and opens another one that often gets the same number. */
void
loop_watch(SmLoop *loop, SmWatch *watch, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data = {.ptr = watch}};

	if (watch->watched && watch->fd == fd && watch->events == events &&
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return;
	loop_unwatch(loop, watch);
	watch->fd = fd;
	watch->events = events;
	watch->watched = true;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 &&
		(errno != EEXIST || epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0))
	{
		log_error("could not watch a descriptor: %s", strerror(errno));
		abort();
	}
}

/* Stops watching; called before the descriptor is closed where possible. */
void
loop_unwatch(SmLoop *loop, SmWatch *watch)
{
	int i;

	if (!watch->watched)
		return;
	watch->watched = false;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (i = 0; i < loop->batch_count; i++)
	{
		if (loop->batch[i].data.ptr == watch)
			loop->batch[i].data.ptr = NULL;
	}
}

static void
loop_put(SmLoop *loop, size_t place, SmTimer *timer)
{
	loop->heap[place - 1] = timer;
	timer->place = place;
}

/* Moves a timer towards the root while it is due before its parent. */
static void
loop_rise(SmLoop *loop, SmTimer *timer)
{
	size_t place = timer->place;

	while (place > 1 && timer->due_us < loop->heap[place / 2 - 1]->due_us)
	{
		loop_put(loop, place, loop->heap[place / 2 - 1]);
		place /= 2;
	}
	loop_put(loop, place, timer);
}

/* Moves a timer away from the root while a child is due before it. */
static void
loop_sink(SmLoop *loop, SmTimer *timer)
{
	size_t place = timer->place;

	for (;;)
	{
		size_t child = place * 2;

		if (child > loop->heap_count)
			break;
		if (child < loop->heap_count && loop->heap[child]->due_us < loop->heap[child - 1]->due_us)
			child++;
		if (timer->due_us <= loop->heap[child - 1]->due_us)
			break;
		loop_put(loop, place, loop->heap[child - 1]);
		place = child;
	}
	loop_put(loop, place, timer);
}

/* Sets a timer, or moves one that is set. */
void
loop_set(SmLoop *loop, SmTimer *timer, int64_t due_us)
{
	timer->due_us = due_us;
	if (timer->place == 0)
	{
		if (loop->heap_count == loop->heap_room)
		{
			loop->heap_room = loop->heap_room * 2 + 64;
			loop->heap = base_resize(loop->heap, loop->heap_room * sizeof(SmTimer *));
		}
		loop_put(loop, ++loop->heap_count, timer);
	}
	loop_rise(loop, timer);
	loop_sink(loop, timer);
}

void
loop_cancel(SmLoop *loop, SmTimer *timer)
{
	SmTimer *last;
	size_t place = timer->place;

	if (place == 0)
		return;
	timer->place = 0;
	last = loop->heap[--loop->heap_count];
	if (last == timer)
		return;
	loop_put(loop, place, last);
	loop_rise(loop, last);
	loop_sink(loop, last);
}

/* Waits for events until the first timer is due. */
static int
loop_wait(SmLoop *loop)
{
	struct timespec limit = {0, 0};
	int64_t wait_us = -1;
	int count;

	if (loop->heap_count > 0)
	{
		wait_us = loop->heap[0]->due_us - base_now_us();
		if (wait_us < 0)
			wait_us = 0;
		limit.tv_sec = (time_t) (wait_us / US_PER_S);
		limit.tv_nsec = (long) (wait_us % US_PER_S) * 1000;
	}
	if (!loop->coarse)
	{
		count = epoll_pwait2(loop->epoll_fd, loop->batch, LOOP_BATCH, wait_us < 0 ? NULL : &limit,
							 NULL);
		if (count >= 0 || errno != ENOSYS)
			return count;
		loop->coarse = true;
	}
	if (wait_us > 60 * US_PER_S)
		wait_us = 60 * US_PER_S;
	return epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH,
					  wait_us < 0 ? -1 : (int) ((wait_us + 999) / 1000));
}

/* One turn: what is ready, then what is due. Timers set by a callback wait for the next turn, so
 * that a timer that sets itself to now does not keep descriptors waiting. */
void
loop_turn(SmLoop *loop)
{
	int64_t now_us;
	int count = loop_wait(loop);
	int i;

	if (count < 0 && errno != EINTR)
	{
		log_error("could not wait for events: %s", strerror(errno));
		abort();
	}
	loop->batch_count = count > 0 ? count : 0;
	for (i = 0; i < loop->batch_count; i++)
	{
		SmWatch *watch = loop->batch[i].data.ptr;

		if (watch != NULL)
			watch->ready(watch->context, loop->batch[i].events);
	}
	loop->batch_count = 0;
	now_us = base_now_us();
	while (loop->heap_count > 0 && loop->heap[0]->due_us <= now_us)
	{
		SmTimer *timer = loop->heap[0];

		loop_cancel(loop, timer);
		timer->fire(timer->context);
	}
}
