/*
 * writer.c - the thread that owns the spool
 *
 * Making a reading durable means waiting for the disk. That wait must not hold up a thousand
 * buses, so one thread does it: it takes all jobs that have gathered, does them in one
 * transaction (that is the group commit) and gives them back to the loop through an eventfd.
 * A transaction that fails is tried again until it works: nothing that was submitted is lost while
 * the process lives, and "failing" tells the loop to stop producing more.
 *
 * Locking: mutex guards the two queues, stopping and state; the spool is touched by the thread
 * only.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "writer.h"

struct SmWriter
{
	SmLoop *loop;
	SmSpool *spool;
	SmWatch watch;
	int event_fd;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	SmSpoolJob *queued;
	SmSpoolJob **queued_end;
	SmSpoolJob *done;
	SmSpoolJob **done_end;
	bool stopping;
	SmSpoolState state;
	int64_t most_bytes;
	bool full;
};

static void
writer_free_job(SmSpoolJob *job)
{
	spool_free_rows(job->rows, job->row_count);
	spool_free_rows(job->fetched, job->fetched_count);
	free(job->rows);
	free(job->removed);
	free(job->rejects);
	free(job->event);
	free(job->events);
	free(job->fetched);
	free(job);
}

/* Does the parts of one job that change the spool. */
static bool
writer_change(SmSpool *spool, SmSpoolJob *job)
{
	bool good = true;
	int i;

	if (job->jumped)
		spool_note_jump(spool);
	for (i = 0; good && i < job->row_count; i++)
		good = spool_add(spool, &job->rows[i]);
	for (i = 0; good && i < job->removed_count; i++)
		good = spool_remove(spool, job->removed[i]);
	for (i = 0; good && i < job->reject_count; i++)
		good = spool_reject(spool, &job->rejects[i]);
	if (good && job->shift_ms != 0)
		good = spool_shift(spool, job->shift_ms, job->shift_all, &job->shifted);
	if (good && job->event != NULL)
		good = spool_add_event(spool, job->event);
	if (good && job->known_event > 0)
		good = spool_forget_events(spool, job->known_event);
	return good;
}

/* Lists the events for a job that wants them. */
static bool
writer_list_events(SmSpool *spool, SmSpoolJob *job)
{
	if (!job->wants_events)
		return true;
	free(job->events);
	job->events = spool_list_events(spool, &job->last_event);
	return job->events != NULL;
}

static bool
writer_fetch(SmSpool *spool, SmSpoolJob *job)
{
	int count;

	if (job->fetch_limit == 0)
		return true;
	if (job->fetched == NULL)
		job->fetched = base_alloc((size_t) job->fetch_limit * sizeof(SmSpoolRow));
	spool_free_rows(job->fetched, job->fetched_count);
	job->fetched_count = 0;
	count = spool_fetch(spool, job->skip_sites, job->skip_count, job->fetched, job->fetch_limit);
	if (count > 0)
		job->fetched_count = count;
	return count >= 0;
}

/* Does a list of jobs in one transaction. */
static bool
writer_transact(SmSpool *spool, SmSpoolJob *jobs)
{
	SmSpoolJob *job;
	bool good = spool_begin(spool);

	for (job = jobs; good && job != NULL; job = job->next)
		good = writer_change(spool, job);
	for (job = jobs; good && job != NULL; job = job->next)
		good = writer_fetch(spool, job) && writer_list_events(spool, job);
	return good && spool_commit(spool);
}

/* Waits a second, or until the writer is to stop. */
static void
writer_pause(SmWriter *writer)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	pthread_mutex_lock(&writer->mutex);
	if (!writer->stopping)
		pthread_cond_timedwait(&writer->wake, &writer->mutex, &until);
	pthread_mutex_unlock(&writer->mutex);
}

static void
writer_note_state(SmWriter *writer, bool failing)
{
	SmSpoolState state = {.failing = failing,
						  .full = writer->full,
						  .count = spool_count(writer->spool),
						  .rejected = spool_rejected(writer->spool)};

	state.bytes = failing ? 0 : spool_bytes(writer->spool);
	pthread_mutex_lock(&writer->mutex);
	if (failing)
		state.bytes = writer->state.bytes;
	writer->state = state;
	pthread_mutex_unlock(&writer->mutex);
}

static bool
writer_is_stopping(SmWriter *writer)
{
	bool stopping;

	pthread_mutex_lock(&writer->mutex);
	stopping = writer->stopping;
	pthread_mutex_unlock(&writer->mutex);
	return stopping;
}

/* Makes room when there is too little left, and says what that cost. */
static void
writer_make_room(SmWriter *writer)
{
	int64_t dropped;

	if (spool_bytes(writer->spool) < writer->most_bytes)
	{
		writer->full = false;
		return;
	}
	writer->full = !spool_trim(writer->spool, writer->most_bytes, &dropped);
	if (dropped > 0)
		log_error("THE SPOOL IS FULL: %lld readings were given up, those first that meters keep"
				  " themselves; of every hour some are left",
				  (long long) dropped);
}

/* Does jobs until they are durable; gives up only when the program stops meanwhile. */
static bool
writer_persist(SmWriter *writer, SmSpoolJob *jobs)
{
	bool told = false;

	while (!writer_transact(writer->spool, jobs))
	{
		if (!told)
			log_error("could not write to the spool: %s; trying again, and reading no more meters"
					  " until it works",
					  spool_error(writer->spool));
		told = true;
		spool_rollback(writer->spool);
		writer_note_state(writer, true);
		if (writer_is_stopping(writer))
			return false;
		writer_pause(writer);
		spool_reopen(writer->spool);
	}
	if (told)
		log_info("writing to the spool works again");
	writer_make_room(writer);
	writer_note_state(writer, false);
	return true;
}

/* Waits for jobs and takes all there are; NULL when the writer is to stop and none is left. */
static SmSpoolJob *
writer_take(SmWriter *writer)
{
	SmSpoolJob *jobs;

	pthread_mutex_lock(&writer->mutex);
	while (writer->queued == NULL && !writer->stopping)
		pthread_cond_wait(&writer->wake, &writer->mutex);
	jobs = writer->queued;
	writer->queued = NULL;
	writer->queued_end = &writer->queued;
	pthread_mutex_unlock(&writer->mutex);
	return jobs;
}

static void
writer_give_back(SmWriter *writer, SmSpoolJob *jobs)
{
	uint64_t one = 1;

	pthread_mutex_lock(&writer->mutex);
	*writer->done_end = jobs;
	while (*writer->done_end != NULL)
		writer->done_end = &(*writer->done_end)->next;
	pthread_mutex_unlock(&writer->mutex);
	if (write(writer->event_fd, &one, sizeof(one)) < 0)
		log_error("could not wake the loop: %s", strerror(errno));
}

static void *
writer_main(void *argument)
{
	SmWriter *writer = argument;
	SmSpoolJob *jobs;

	while ((jobs = writer_take(writer)) != NULL)
	{
		if (writer_persist(writer, jobs))
			writer_give_back(writer, jobs);
		else
		{
			log_error("readings taken in the last moments before the stop are lost with the"
					  " spool's disk");
			while (jobs != NULL)
			{
				SmSpoolJob *next = jobs->next;

				writer_free_job(jobs);
				jobs = next;
			}
		}
	}
	return NULL;
}

/* Tells the owners of finished jobs. */
static void
writer_finish(void *context, uint32_t events)
{
	SmWriter *writer = context;
	SmSpoolJob *jobs;
	uint64_t count;

	(void) events;
	if (read(writer->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("could not read the spool's event: %s", strerror(errno));
	pthread_mutex_lock(&writer->mutex);
	jobs = writer->done;
	writer->done = NULL;
	writer->done_end = &writer->done;
	pthread_mutex_unlock(&writer->mutex);
	while (jobs != NULL)
	{
		SmSpoolJob *job = jobs;

		jobs = job->next;
		if (job->finished != NULL)
			job->finished(job->context, job);
		writer_free_job(job);
	}
}

/*
 * Starts the thread; from now on the spool is its own, and kept below most_bytes. Freed by
 * writer_stop().
 */
SmWriter *
writer_create(SmLoop *loop, SmSpool *spool, int64_t most_bytes)
{
	SmWriter *writer = base_alloc(sizeof(SmWriter));
	sigset_t all;
	sigset_t before;
	pthread_condattr_t steady;
	int error;

	writer->loop = loop;
	writer->spool = spool;
	writer->most_bytes = most_bytes;
	writer->queued_end = &writer->queued;
	writer->done_end = &writer->done;
	pthread_mutex_init(&writer->mutex, NULL);
	/* A pause must not last for hours because the clock was put back. */
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->wake, &steady);
	pthread_condattr_destroy(&steady);
	writer_note_state(writer, false);
	writer->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	writer->watch.ready = writer_finish;
	writer->watch.context = writer;
	loop_watch(loop, &writer->watch, writer->event_fd, EPOLLIN);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&writer->thread, NULL, writer_main, writer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
	{
		log_error("could not start the thread of the spool: %s", strerror(error));
		exit(1);
	}
	return writer;
}

/* Hands a job over. */
void
writer_submit(SmWriter *writer, SmSpoolJob *job)
{
	job->next = NULL;
	pthread_mutex_lock(&writer->mutex);
	*writer->queued_end = job;
	writer->queued_end = &job->next;
	pthread_cond_signal(&writer->wake);
	pthread_mutex_unlock(&writer->mutex);
}

SmSpoolState
writer_state(SmWriter *writer)
{
	SmSpoolState state;

	pthread_mutex_lock(&writer->mutex);
	state = writer->state;
	pthread_mutex_unlock(&writer->mutex);
	return state;
}

/* Lets the thread finish what is queued, ends it and closes the spool. */
void
writer_stop(SmWriter *writer)
{
	pthread_mutex_lock(&writer->mutex);
	writer->stopping = true;
	pthread_cond_signal(&writer->wake);
	pthread_mutex_unlock(&writer->mutex);
	pthread_join(writer->thread, NULL);
	writer_finish(writer, 0);
	loop_unwatch(writer->loop, &writer->watch);
	close(writer->event_fd);
	pthread_mutex_destroy(&writer->mutex);
	pthread_cond_destroy(&writer->wake);
	spool_close(writer->spool);
	free(writer);
}
