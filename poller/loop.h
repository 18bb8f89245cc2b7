/*
 * loop.h - the event loop: descriptors that become ready, timers that fire
 *
 * Watches and timers are parts of the caller's own structures; they start zeroed, and whoever
 * frees the structure calls loop_unwatch() and loop_cancel() first.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base.h"

#define LOOP_BATCH 256

typedef struct SmWatch
{
	int fd; /* only meaningful while watched */
	bool watched;
	uint32_t events;
	void (*ready)(void *context, uint32_t events);
	void *context;
} SmWatch;

typedef struct SmTimer
{
	int64_t due_us;
	size_t place; /* in the heap, counted from 1; 0 = not set */
	void (*fire)(void *context);
	void *context;
} SmTimer;

typedef struct SmLoop
{
	int epoll_fd;
	bool coarse; /* the kernel has no epoll_pwait2 */
	SmTimer **heap;
	size_t heap_count;
	size_t heap_room;
	struct epoll_event batch[LOOP_BATCH];
	int batch_count;
} SmLoop;

extern SmLoop *loop_create(void);
extern void loop_free(SmLoop *loop);
extern void loop_watch(SmLoop *loop, SmWatch *watch, int fd, uint32_t events);
extern void loop_unwatch(SmLoop *loop, SmWatch *watch);
extern void loop_set(SmLoop *loop, SmTimer *timer, int64_t due_us);
extern void loop_cancel(SmLoop *loop, SmTimer *timer);
extern void loop_turn(SmLoop *loop);

#endif
