/*
 * courier.h - the rooms of the courier: what has to go out, how it goes, and what comes in
 *
 *   database <--claim, report-- outbox --requests--> transfer --HTTPS, SMTP--> the outside
 *   database <--payment_notify-- listen <--HTTP-- TLS proxy <-- payment providers
 *
 * All of it belongs to the loop's thread, but for mails on their way (mail.c).
 */
#ifndef COURIER_H
#define COURIER_H

#include "../db.h"

#define COURIER_DETAIL 256

/* What a request wants of the wire; texts are owned by the request. NULL: not wanted. */
typedef struct SmOutbound
{
	int site_id;
	int64_t outbound_id;
	char *method; /* GET, POST …; MAIL for SMTP */
	char *url;
	char *headers; /* one a line */
	uint8_t *body;
	size_t body_size;
	int64_t timeout_ms;
	int64_t most_answer_bytes;
	char *proxy;
	char *ca;   /* certificates, PEM, that are trusted for this request too */
	bool http1; /* do not offer HTTP/2 */
	bool fresh; /* a connection of its own: repeating it would cost money */
	bool alone; /* its report is a transaction of its own */
	char *mail_from;
	char *mail_to; /* one address a line */
	char *user;
	char *password;
	bool starttls;
} SmOutbound;

typedef enum SmOutcome
{
	OUTCOME_ANSWERED, /* the other side answered, with whatever status */
	OUTCOME_NOT_SENT, /* nothing left this machine: repeating is safe */
	OUTCOME_NO_ANSWER /* it was sent, and what became of it is not known */
} SmOutcome;

/* How a request ended. */
typedef struct SmDelivery
{
	SmOutcome outcome;
	int status;
	SmText headers; /* JSON object, names in lower case */
	uint8_t *body;
	size_t body_size;
	char detail[COURIER_DETAIL];
} SmDelivery;

struct SmTransfers;
typedef struct SmTransfers SmTransfers;
typedef void (*SmTransferDone)(void *context, SmOutbound *outbound, SmDelivery *delivery);

extern SmTransfers *transfer_create(SmLoop *loop, SmTransferDone done, void *context);
extern void transfer_free(SmTransfers *transfers);
extern void transfer_start(SmTransfers *transfers, SmOutbound *outbound);
extern int transfer_count(const SmTransfers *transfers);
extern void outbound_free(SmOutbound *outbound);

struct SmOutbox;
typedef struct SmOutbox SmOutbox;

extern SmOutbox *outbox_create(SmLoop *loop, const char *conninfo, const char *name, int parallel);
extern void outbox_start(SmOutbox *outbox);
extern void outbox_stop(SmOutbox *outbox);
extern bool outbox_is_quiet(const SmOutbox *outbox);
extern void outbox_free(SmOutbox *outbox);

struct SmListen;
typedef struct SmListen SmListen;

extern SmListen *listen_create(SmLoop *loop, const char *address, const char *conninfo, char *why,
							   size_t why_size);
extern void listen_stop(SmListen *listen);
extern bool listen_is_quiet(const SmListen *listen);
extern void listen_free(SmListen *listen);

/* Headers on their way into the database; starts zeroed. */
typedef struct SmHeaders
{
	SmText json; /* of the object, all but its end */
	SmText names;
} SmHeaders;

/* header.c */
extern void header_add_text(SmText *json, const char *bytes, size_t length, bool lower);
extern bool header_split(const char *line, size_t length, size_t *name_length, size_t *value_start,
						 size_t *value_length);
extern void headers_add(SmHeaders *headers, const char *name, size_t name_length, const char *value,
						size_t value_length);
extern SmText headers_take(SmHeaders *headers);
extern void headers_clear(SmHeaders *headers);

/* address.c */
extern bool address_provider(const char *path, char *provider, size_t size);
extern void address_host(const char *url, char *text, size_t size);

#endif
