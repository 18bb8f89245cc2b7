/*
 * transfer_inside.h - what the files of the room transfer share; for nobody else
 */
#ifndef TRANSFER_INSIDE_H
#define TRANSFER_INSIDE_H

#include <curl/curl.h>

#include "courier.h"

#define TRANSFER_IDLE_S 15L

/* One request on its way. */
typedef struct SmTransfer
{
	struct SmTransfer *next; /* among the mails that have ended */
	SmOutbound *outbound;
	CURL *easy; /* of a mail: its mailer's, while that is at it */
	struct curl_slist *headers;
	struct curl_slist *recipients;
	SmDelivery delivery;
	SmHeaders answer_headers;
	size_t given;   /* bytes of a mail that libcurl has taken */
	bool all_given; /* the line that ends it may be on its way */
	bool too_long;
	char error[CURL_ERROR_SIZE];
} SmTransfer;

/* transfer.c; of one transfer, in whatever thread. */
extern void transfer_set(SmTransfer *transfer);
extern void transfer_judge(SmTransfer *transfer, CURLcode code);

/* mail.c */
struct SmMails;
typedef struct SmMails SmMails;
typedef void (*SmMailDone)(void *context, SmTransfer *transfer);

extern SmMails *mail_create(SmLoop *loop, SmMailDone done, void *context);
extern void mail_start(SmMails *mails, SmTransfer *transfer);
extern void mail_free(SmMails *mails);

#endif
