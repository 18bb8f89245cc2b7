/*
 * mail.c - mails, each carried by a thread
 *
 *   loop --mail_start()--> mailer --ended list, eventfd--> loop
 *
 * libcurl waits for a mail server's word on a text, and for its goodbye, without giving the thread
 * back (7.88). In the loop one silent server would keep payments waiting for a minute. A mailer
 * carries one mail at a time, keeps its connection for the next one to the same server, and goes
 * when there was none for a while. There are as many as mails are under way, and those that wait.
 *
 * `mutex` guards all that mailers and the loop share. Whoever is at work on a transfer owns it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../log.h"
#include "transfer_inside.h"

#define MAILER_SOCKETS 8

/* One who carries mails to one server. */
typedef struct SmMailer
{
	struct SmMailer *next;
	SmMails *mails;
	pthread_t thread;
	pthread_cond_t wake;
	char *url;
	SmTransfer *work;
	bool gone; /* takes nothing more; its thread ends */
	int sockets[MAILER_SOCKETS];
	int socket_count;
} SmMailer;

struct SmMails
{
	SmLoop *loop;
	SmWatch watch;
	SmMailDone done;
	void *context;
	pthread_mutex_t mutex;
	SmMailer *mailers;
	SmTransfer *ended;
	bool stopping;
};

static void
mail_wake_loop(SmMails *mails)
{
	uint64_t one = 1;

	if (write(mails->watch.fd, &one, sizeof(one)) < 0)
		log_error("could not wake the loop: %s", strerror(errno));
}

/* A mail has ended and is the loop's again, and its mailer, if it had one, waits. */
static void
mail_give_back(SmMails *mails, SmMailer *mailer, SmTransfer *transfer)
{
	pthread_mutex_lock(&mails->mutex);
	if (mailer != NULL)
		mailer->work = NULL;
	transfer->next = mails->ended;
	mails->ended = transfer;
	pthread_mutex_unlock(&mails->mutex);
	mail_wake_loop(mails);
}

/* Sockets are known, so that a server that says nothing cannot keep a mailer that is to stop. */
static int
mailer_note_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
	SmMailer *mailer = context;
	bool stopping;

	(void) purpose;
	pthread_mutex_lock(&mailer->mails->mutex);
	stopping = mailer->mails->stopping;
	if (mailer->socket_count < MAILER_SOCKETS)
		mailer->sockets[mailer->socket_count++] = fd;
	pthread_mutex_unlock(&mailer->mails->mutex);
	return stopping ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

static int
mailer_close_socket(void *context, curl_socket_t fd)
{
	SmMailer *mailer = context;
	int i;

	pthread_mutex_lock(&mailer->mails->mutex);
	for (i = 0; i < mailer->socket_count; i++)
		if (mailer->sockets[i] == fd)
		{
			mailer->sockets[i] = mailer->sockets[--mailer->socket_count];
			break;
		}
	close(fd);
	pthread_mutex_unlock(&mailer->mails->mutex);
	return 0;
}

/* Waits for a mail; NULL when there was none for a while, or none will come. */
static SmTransfer *
mailer_take(SmMailer *mailer)
{
	SmMails *mails = mailer->mails;
	struct timespec until;
	int waited = 0;
	SmTransfer *work;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TRANSFER_IDLE_S;
	pthread_mutex_lock(&mails->mutex);
	while (mailer->work == NULL && !mails->stopping && waited == 0)
		waited = pthread_cond_timedwait(&mailer->wake, &mails->mutex, &until);
	work = mailer->work;
	mailer->gone = work == NULL;
	pthread_mutex_unlock(&mails->mutex);
	return work;
}

static void
mailer_carry(SmMailer *mailer, CURL *easy, SmTransfer *transfer)
{
	transfer->easy = easy;
	transfer_set(transfer);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, mailer_note_socket);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, mailer);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, mailer_close_socket);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, mailer);
	transfer_judge(transfer, curl_easy_perform(easy));
	/* Its connection stays; all that points into the transfer goes. */
	curl_easy_reset(easy);
	transfer->easy = NULL;
	mail_give_back(mailer->mails, mailer, transfer);
}

static void *
mailer_main(void *argument)
{
	SmMailer *mailer = argument;
	CURL *easy = curl_easy_init();
	SmTransfer *transfer;

	while ((transfer = mailer_take(mailer)) != NULL)
		mailer_carry(mailer, easy, transfer);
	/* This says goodbye, which may take its time. */
	curl_easy_cleanup(easy);
	mail_wake_loop(mailer->mails);
	return NULL;
}

static void
mailer_free(SmMailer *mailer)
{
	pthread_cond_destroy(&mailer->wake);
	free(mailer->url);
	free(mailer);
}

/* Frees the mailers whose threads have ended. */
static void
mail_bury(SmMails *mails)
{
	SmMailer **place = &mails->mailers;
	SmMailer *mailer;

	while ((mailer = *place) != NULL)
	{
		bool gone;

		pthread_mutex_lock(&mails->mutex);
		gone = mailer->gone;
		pthread_mutex_unlock(&mails->mutex);
		if (gone && pthread_tryjoin_np(mailer->thread, NULL) == 0)
		{
			*place = mailer->next;
			mailer_free(mailer);
		}
		else
			place = &mailer->next;
	}
}

/* Mails have ended, or mailers have. */
static void
mail_ready(void *context, uint32_t events)
{
	SmMails *mails = context;
	SmTransfer *ended;
	uint64_t times;

	(void) events;
	if (read(mails->watch.fd, &times, sizeof(times)) < 0 && errno != EAGAIN)
		log_error("could not hear the mailers: %s", strerror(errno));
	pthread_mutex_lock(&mails->mutex);
	ended = mails->ended;
	mails->ended = NULL;
	pthread_mutex_unlock(&mails->mutex);
	while (ended != NULL)
	{
		SmTransfer *transfer = ended;

		ended = transfer->next;
		mails->done(mails->context, transfer);
	}
	mail_bury(mails);
}

SmMails *
mail_create(SmLoop *loop, SmMailDone done, void *context)
{
	SmMails *mails = base_alloc(sizeof(SmMails));

	mails->loop = loop;
	mails->done = done;
	mails->context = context;
	pthread_mutex_init(&mails->mutex, NULL);
	mails->watch.ready = mail_ready;
	mails->watch.context = mails;
	loop_watch(loop, &mails->watch, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), EPOLLIN);
	return mails;
}

/* A mailer for a server whose thread begins with a mail; NULL when there cannot be one. */
static SmMailer *
mailer_create(SmMails *mails, SmTransfer *transfer)
{
	SmMailer *mailer = base_alloc(sizeof(SmMailer));
	pthread_condattr_t attributes;
	int error;

	mailer->mails = mails;
	mailer->url = base_copy(transfer->outbound->url);
	mailer->work = transfer;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&mailer->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	error = pthread_create(&mailer->thread, NULL, mailer_main, mailer);
	if (error == 0)
		return mailer;
	log_error("could not begin a thread for a mail: %s", strerror(error));
	mailer_free(mailer);
	return NULL;
}

/* Has a mail carried by one who waits and was there before, or else by a new mailer. */
void
mail_start(SmMails *mails, SmTransfer *transfer)
{
	SmMailer *mailer;

	pthread_mutex_lock(&mails->mutex);
	for (mailer = mails->mailers; mailer != NULL; mailer = mailer->next)
		if (mailer->work == NULL && !mailer->gone &&
			strcmp(mailer->url, transfer->outbound->url) == 0)
			break;
	if (mailer != NULL)
	{
		mailer->work = transfer;
		pthread_cond_signal(&mailer->wake);
	}
	pthread_mutex_unlock(&mails->mutex);
	if (mailer != NULL)
		return;
	mailer = mailer_create(mails, transfer);
	if (mailer != NULL)
	{
		mailer->next = mails->mailers;
		mails->mailers = mailer;
		return;
	}
	/* Nothing was sent; said from the loop, as of any other mail. */
	transfer->delivery.outcome = OUTCOME_NOT_SENT;
	transfer->delivery.headers = headers_take(&transfer->answer_headers);
	snprintf(transfer->delivery.detail, sizeof(transfer->delivery.detail), "no thread for it");
	mail_give_back(mails, NULL, transfer);
}

/* Cuts all connections and waits until the mailers have ended; the transfers stay their owner's. */
void
mail_free(SmMails *mails)
{
	SmMailer *mailer;
	int fd = mails->watch.fd;
	int i;

	pthread_mutex_lock(&mails->mutex);
	mails->stopping = true;
	for (mailer = mails->mailers; mailer != NULL; mailer = mailer->next)
	{
		for (i = 0; i < mailer->socket_count; i++)
			shutdown(mailer->sockets[i], SHUT_RDWR);
		pthread_cond_signal(&mailer->wake);
	}
	pthread_mutex_unlock(&mails->mutex);
	while ((mailer = mails->mailers) != NULL)
	{
		pthread_join(mailer->thread, NULL);
		mails->mailers = mailer->next;
		mailer_free(mailer);
	}
	loop_unwatch(mails->loop, &mails->watch);
	close(fd);
	pthread_mutex_destroy(&mails->mutex);
	free(mails);
}
