/*
 * transfer.c - many requests at a time over HTTPS and SMTP, by libcurl
 *
 * libcurl tells which sockets it waits for and when it wants to be woken; the loop does both. Mails
 * are handed to threads (mail.c): there libcurl waits without giving its thread back. What
 * counts afterwards is what is known for certain: an answer came; nothing was sent; or it was sent
 * and nobody knows. Only the second may be repeated without asking.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "transfer_inside.h"

#define TRANSFER_CONNECT_MS 10000L
#define TRANSFER_PER_HOST 16L /* no more are claimed, see claim_outbound() */
#define TRANSFER_HEADERS_MOST 32768

struct SmTransfers
{
	SmLoop *loop;
	CURLM *multi;
	SmMails *mails;
	SmTimer timer;
	SmTransferDone done;
	void *context;
	int count;
	SmTransfer **running;
	int room;
};

/* A socket of libcurl's, watched by the loop. */
typedef struct SmSocket
{
	SmWatch watch;
	SmTransfers *all;
} SmSocket;

static void transfer_reap(SmTransfers *transfers);
static void transfer_mail_ended(void *context, SmTransfer *transfer);

static void
transfer_ready(void *context, uint32_t events)
{
	SmSocket *watched = context;
	SmTransfers *transfers = watched->all;
	int fd = watched->watch.fd;
	int what = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
			   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			   (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
	int running;

	curl_multi_socket_action(transfers->multi, fd, what, &running);
	transfer_reap(transfers);
}

/* libcurl waits for something else on a socket. */
static int
transfer_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *own)
{
	SmTransfers *transfers = context;
	SmSocket *watched = own;

	(void) easy;
	if (what == CURL_POLL_REMOVE)
	{
		if (watched != NULL)
		{
			loop_unwatch(transfers->loop, &watched->watch);
			curl_multi_assign(transfers->multi, fd, NULL);
			free(watched);
		}
		return 0;
	}
	if (watched == NULL)
	{
		watched = base_alloc(sizeof(SmSocket));
		watched->all = transfers;
		watched->watch.ready = transfer_ready;
		watched->watch.context = watched;
		curl_multi_assign(transfers->multi, fd, watched);
	}
	loop_watch(transfers->loop, &watched->watch, fd,
			   (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0));
	return 0;
}

/* libcurl wants to be woken after so many milliseconds; -1: not. */
static int
transfer_wake(CURLM *multi, long wait_ms, void *context)
{
	SmTransfers *transfers = context;

	(void) multi;
	if (wait_ms < 0)
		loop_cancel(transfers->loop, &transfers->timer);
	else
		loop_set(transfers->loop, &transfers->timer, base_now_us() + wait_ms * US_PER_MS);
	return 0;
}

static void
transfer_timer(void *context)
{
	SmTransfers *transfers = context;
	int running;

	curl_multi_socket_action(transfers->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	transfer_reap(transfers);
}

/* Makes room for requests; done is called once for each, and then owns request and delivery. */
SmTransfers *
transfer_create(SmLoop *loop, SmTransferDone done, void *context)
{
	SmTransfers *transfers = base_alloc(sizeof(SmTransfers));

	curl_global_init(CURL_GLOBAL_DEFAULT);
	transfers->loop = loop;
	transfers->done = done;
	transfers->context = context;
	transfers->timer.fire = transfer_timer;
	transfers->timer.context = transfers;
	transfers->multi = curl_multi_init();
	curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETFUNCTION, transfer_socket);
	curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETDATA, transfers);
	curl_multi_setopt(transfers->multi, CURLMOPT_TIMERFUNCTION, transfer_wake);
	curl_multi_setopt(transfers->multi, CURLMOPT_TIMERDATA, transfers);
	curl_multi_setopt(transfers->multi, CURLMOPT_MAX_HOST_CONNECTIONS, TRANSFER_PER_HOST);
	transfers->mails = mail_create(loop, transfer_mail_ended, transfers);
	return transfers;
}

/* Frees a request; its password is wiped. */
void
outbound_free(SmOutbound *outbound)
{
	if (outbound->password != NULL)
		explicit_bzero(outbound->password, strlen(outbound->password));
	free(outbound->method);
	free(outbound->url);
	free(outbound->headers);
	free(outbound->body);
	free(outbound->proxy);
	free(outbound->ca);
	free(outbound->mail_from);
	free(outbound->mail_to);
	free(outbound->user);
	free(outbound->password);
	free(outbound);
}

static void
transfer_free_one(SmTransfer *transfer)
{
	text_free(&transfer->answer_headers.json);
	text_free(&transfer->answer_headers.names);
	curl_easy_cleanup(transfer->easy);
	curl_slist_free_all(transfer->headers);
	curl_slist_free_all(transfer->recipients);
	free(transfer);
}

/* Gives up all requests without telling anybody: their leases run out. */
void
transfer_free(SmTransfers *transfers)
{
	mail_free(transfers->mails);
	while (transfers->count > 0)
	{
		SmTransfer *transfer = transfers->running[--transfers->count];

		curl_multi_remove_handle(transfers->multi, transfer->easy);
		outbound_free(transfer->outbound);
		text_free(&transfer->delivery.headers);
		free(transfer->delivery.body);
		transfer_free_one(transfer);
	}
	curl_multi_cleanup(transfers->multi);
	loop_cancel(transfers->loop, &transfers->timer);
	curl_global_cleanup();
	free(transfers->running);
	free(transfers);
}

int
transfer_count(const SmTransfers *transfers)
{
	return transfers->count;
}

/* Bytes of the answer's body, kept as they came. */
static size_t
transfer_take_body(char *bytes, size_t size, size_t count, void *context)
{
	SmTransfer *transfer = context;
	SmDelivery *delivery = &transfer->delivery;
	size_t more = size * count;

	if (delivery->body_size + more > (size_t) transfer->outbound->most_answer_bytes)
	{
		transfer->too_long = true;
		return 0;
	}
	delivery->body = base_resize(delivery->body, delivery->body_size + more + 1);
	memcpy(delivery->body + delivery->body_size, bytes, more);
	delivery->body_size += more;
	return more;
}

/* A line of the answer's head; that of the last answer counts (a 100 or a proxy's come before). */
static size_t
transfer_take_header(char *line, size_t size, size_t count, void *context)
{
	SmTransfer *transfer = context;
	SmHeaders *headers = &transfer->answer_headers;
	size_t length = size * count;
	size_t name_length;
	size_t value_start;
	size_t value_length;

	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
		headers_clear(headers);
	else if (strcmp(transfer->outbound->method, "MAIL") != 0 &&
			 headers->json.length < TRANSFER_HEADERS_MOST &&
			 header_split(line, length, &name_length, &value_start, &value_length))
		headers_add(headers, line, name_length, line + value_start, value_length);
	return length;
}

/* Hands out a mail. */
static size_t
transfer_give_body(char *room, size_t size, size_t count, void *context)
{
	SmTransfer *transfer = context;
	size_t left = transfer->outbound->body_size - transfer->given;
	size_t give = size * count < left ? size * count : left;

	memcpy(room, transfer->outbound->body + transfer->given, give);
	transfer->given += give;
	transfer->all_given = transfer->given == transfer->outbound->body_size;
	return give;
}

/* The lines of a text as libcurl's list. */
static struct curl_slist *
transfer_list(const char *lines)
{
	struct curl_slist *list = NULL;

	while (lines != NULL && *lines != '\0')
	{
		size_t length = strcspn(lines, "\n");
		char *line = base_alloc(length + 1);

		memcpy(line, lines, length);
		list = curl_slist_append(list, line);
		free(line);
		lines += length + (lines[length] == '\n');
	}
	return list;
}

static void
transfer_set_mail(SmTransfer *transfer)
{
	CURL *easy = transfer->easy;
	const SmOutbound *outbound = transfer->outbound;

	transfer->recipients = transfer_list(outbound->mail_to);
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, transfer_give_body);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) outbound->body_size);
	curl_easy_setopt(easy, CURLOPT_MAIL_FROM, outbound->mail_from);
	curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, transfer->recipients);
	curl_easy_setopt(easy, CURLOPT_USE_SSL,
					 (long) (outbound->starttls ? CURLUSESSL_ALL : CURLUSESSL_NONE));
}

static void
transfer_set_http(SmTransfer *transfer)
{
	CURL *easy = transfer->easy;
	const SmOutbound *outbound = transfer->outbound;

	/* Without a wait for "100 Continue", and without a content type nobody asked for. */
	transfer->headers = curl_slist_append(transfer_list(outbound->headers), "Expect:");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, outbound->method);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
					 (long) (outbound->http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
	if (outbound->body_size > 0 || strcmp(outbound->method, "GET") != 0)
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) outbound->body_size);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, outbound->body);
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, outbound->method);
	}
}

static void
transfer_set_trust(SmTransfer *transfer)
{
	const SmOutbound *outbound = transfer->outbound;
	struct curl_blob blob = {(void *) outbound->ca, 0, CURL_BLOB_NOCOPY};

	curl_easy_setopt(transfer->easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(transfer->easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(transfer->easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (outbound->ca != NULL)
	{
		blob.len = strlen(outbound->ca);
		curl_easy_setopt(transfer->easy, CURLOPT_CAINFO_BLOB, &blob);
	}
}

/* Tells libcurl all about a request. */
void
transfer_set(SmTransfer *transfer)
{
	CURL *easy = transfer->easy;
	const SmOutbound *outbound = transfer->outbound;
	bool mail = strcmp(outbound->method, "MAIL") == 0;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_URL, outbound->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, mail ? "smtp,smtps" : "http,https");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, outbound->proxy != NULL ? "" : "*");
	curl_easy_setopt(easy, CURLOPT_PROXY, outbound->proxy);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "Submeter/" SUBMETER_VERSION);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) outbound->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, TRANSFER_CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, TRANSFER_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long) outbound->fresh);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, transfer_take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (outbound->user != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_USERNAME, outbound->user);
		curl_easy_setopt(easy, CURLOPT_PASSWORD, outbound->password);
	}
	transfer_set_trust(transfer);
	if (mail)
		transfer_set_mail(transfer);
	else
		transfer_set_http(transfer);
}

/* Sends a request, which is owned from here until done. */
void
transfer_start(SmTransfers *transfers, SmOutbound *outbound)
{
	SmTransfer *transfer = base_alloc(sizeof(SmTransfer));

	transfer->outbound = outbound;
	if (transfers->count == transfers->room)
	{
		transfers->room = transfers->room * 2 + 16;
		transfers->running =
			base_resize(transfers->running, (size_t) transfers->room * sizeof(SmTransfer *));
	}
	transfers->running[transfers->count++] = transfer;
	if (strcmp(outbound->method, "MAIL") == 0)
	{
		mail_start(transfers->mails, transfer);
		return;
	}
	transfer->easy = curl_easy_init();
	transfer_set(transfer);
	curl_multi_add_handle(transfers->multi, transfer->easy);
}

/*
 * Whether a request can have reached the other side. What libcurl says was wrong does not tell:
 * an answer that is no HTTP is an unsupported protocol, like an address that has none.
 */
static bool
transfer_left(const SmTransfer *transfer)
{
	curl_off_t ready_us = 0;

	/* A mail is sent with its last line; before that nothing has happened. */
	if (strcmp(transfer->outbound->method, "MAIL") == 0)
		return transfer->all_given;
	curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
	return ready_us > 0;
}

/*
 * Whether a mail server said no to this message: to its sender, a recipient or the text. A no to
 * who we are (greeting, STARTTLS, login; 53x of RFC 4954) is none to the message, which was never
 * offered.
 */
static bool
transfer_refused(const SmTransfer *transfer, CURLcode code, long status)
{
	bool about_us = status >= 530 && status <= 539;

	if (strcmp(transfer->outbound->method, "MAIL") != 0 || status < 400 || about_us)
		return false;
	return code == CURLE_SEND_ERROR || (code == CURLE_WEIRD_SERVER_REPLY && transfer->all_given);
}

/* Says why there is no answer, with the last thing a mail server said. */
static void
transfer_explain(SmTransfer *transfer, CURLcode code, long status)
{
	SmDelivery *delivery = &transfer->delivery;
	bool mail = strcmp(transfer->outbound->method, "MAIL") == 0;
	const char *why = transfer->too_long           ? "the answer is longer than is allowed"
					  : transfer->error[0] != '\0' ? transfer->error
												   : curl_easy_strerror(code);

	if (mail && status >= 530 && status <= 539)
		snprintf(delivery->detail, sizeof(delivery->detail),
				 "the mail server refused the login: SMTP %ld", status);
	else if (mail && status >= 400)
		snprintf(delivery->detail, sizeof(delivery->detail), "SMTP %ld: %s", status, why);
	else
		snprintf(delivery->detail, sizeof(delivery->detail), "%s", why);
}

/* What is known after libcurl's last word. */
void
transfer_judge(SmTransfer *transfer, CURLcode code)
{
	SmDelivery *delivery = &transfer->delivery;
	bool mail = strcmp(transfer->outbound->method, "MAIL") == 0;
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	delivery->status = (int) status;
	delivery->headers = headers_take(&transfer->answer_headers);
	if (code == CURLE_OK)
	{
		delivery->outcome = OUTCOME_ANSWERED;
		snprintf(delivery->detail, sizeof(delivery->detail), "%s %ld", mail ? "SMTP" : "HTTP",
				 status);
		return;
	}
	if (transfer_refused(transfer, code, status))
		delivery->outcome = OUTCOME_ANSWERED;
	else
		delivery->outcome = transfer_left(transfer) ? OUTCOME_NO_ANSWER : OUTCOME_NOT_SENT;
	transfer_explain(transfer, code, status);
}

/* A request has ended: it is forgotten, and told. */
static void
transfer_finish(SmTransfers *transfers, SmTransfer *transfer)
{
	int i;

	for (i = 0; transfers->running[i] != transfer; i++)
		;
	transfers->running[i] = transfers->running[--transfers->count];
	transfers->done(transfers->context, transfer->outbound, &transfer->delivery);
	transfer_free_one(transfer);
}

static void
transfer_mail_ended(void *context, SmTransfer *transfer)
{
	transfer_finish(context, transfer);
}

/* Takes what has ended off libcurl. */
static void
transfer_reap(SmTransfers *transfers)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(transfers->multi, &left)) != NULL)
	{
		CURLcode code = message->data.result;
		SmTransfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		curl_multi_remove_handle(transfers->multi, transfer->easy);
		transfer_judge(transfer, code);
		transfer_finish(transfers, transfer);
	}
}
