/*
 * outbox.c - claims what has to go out, has it sent, and reports what came back
 *
 *   claim_outbound() --rows--> transfer --delivery--> report_outbound()
 *
 * Each has a connection of its own, so that requests are built and signed while answers are taken.
 * The database wakes us with a notification; every five seconds we look anyway. At most `parallel`
 * requests are in our hands, those whose report is not yet through included. What ends while a
 * report is under way is reported together with the next one, unless it has to be alone: what takes
 * locks that others wait for must not keep them while the next report waits. A report is repeated
 * until the database has taken it: an answer that a provider gave must not be lost to a restart of
 * the database. When the database comes back it gets the reports first: a claim ends leases that
 * are over, and ours may be. When this program dies the lease runs out, and the database decides.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "courier.h"

#define OUTBOX_LOOK_US (5 * US_PER_S)
#define OUTBOX_REPORT_AGAIN_US (2 * US_PER_S)
#define OUTBOX_BATCH 64

static const char outbox_claim_greeting[] =
	"SET search_path = ''; SET statement_timeout = '30s';"
	" SET application_name = 'submeter-courier'; SET client_min_messages = warning;"
	" LISTEN submeter_courier";
static const char outbox_report_greeting[] =
	"SET search_path = ''; SET statement_timeout = '30s';"
	" SET application_name = 'submeter-courier report'; SET client_min_messages = warning";
static const char outbox_claim_sql[] =
	"SELECT o.site_id, o.outbound_id, o.method, o.url,"
	" pg_catalog.array_to_string(o.headers, E'\\n'), o.body, o.timeout_ms,"
	" o.options ->> 'max_answer_bytes', o.options ->> 'proxy', o.options ->> 'ca',"
	" o.options ->> 'http2', o.options ->> 'from',"
	" (SELECT pg_catalog.string_agg(a.address, E'\\n')"
	"  FROM pg_catalog.jsonb_array_elements_text(o.options -> 'to') a(address)),"
	" o.options ->> 'user', o.options ->> 'password', o.options ->> 'starttls',"
	" o.options ->> 'fresh', o.options ->> 'alone'"
	" FROM submeter.claim_outbound($1, $2::pg_catalog.int4) o";
static const char outbox_report_sql[] =
	"SELECT r.ord, submeter.report_outbound(r.site_id, r.outbound_id, $1, r.outcome, r.status,"
	" r.headers, pg_catalog.decode(r.body, 'hex'), r.detail)"
	" FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.jsonb) r(ord int, site_id int,"
	" outbound_id bigint, outcome text, status int, headers jsonb, body text, detail text)";
static const char *const outbox_outcomes[] = {"answered", "not_sent", "no_answer"};

/* An answer on its way into the database. */
typedef struct SmReportRow
{
	struct SmReportRow *next;
	int site_id;
	int64_t outbound_id;
	bool alone;
	SmDelivery delivery;
} SmReportRow;

struct SmOutbox
{
	SmLoop *loop;
	SmDb *claim_db;
	SmDb *report_db;
	SmTransfers *transfers;
	SmTimer look;
	SmTimer again;
	char *name;
	int parallel;
	bool claiming;
	bool claim_again;
	bool behind; /* the database was away and does not have all reports yet */
	bool stopping;
	SmReportRow *reports; /* the oldest first; the first `reporting` are under way */
	SmReportRow **last_report;
	int report_count;
	int reporting;
	int batch;            /* one after an error, so that a bad one does not hold up the others */
	char last_error[256]; /* so that the same one is told once */
};

static void outbox_claim(SmOutbox *outbox);
static void outbox_send_reports(SmOutbox *outbox);

static const char *
outbox_text(PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

static char *
outbox_copy(PGresult *result, int row, int column)
{
	const char *text = outbox_text(result, row, column);

	return text != NULL ? base_copy(text) : NULL;
}

static bool
outbox_flag(PGresult *result, int row, int column, bool otherwise)
{
	const char *text = outbox_text(result, row, column);

	return text == NULL ? otherwise : strcmp(text, "true") == 0;
}

static int64_t
outbox_int(PGresult *result, int row, int column, int64_t otherwise)
{
	int64_t number;

	return base_parse_int(outbox_text(result, row, column), INT64_MIN, INT64_MAX, &number)
			   ? number
			   : otherwise;
}

/* A bytea of a result; NULL stays NULL. */
static uint8_t *
outbox_bytes(PGresult *result, int row, int column, size_t *size)
{
	const char *text = outbox_text(result, row, column);
	unsigned char *bytes;
	uint8_t *copy;

	*size = 0;
	if (text == NULL)
		return NULL;
	bytes = PQunescapeBytea((const unsigned char *) text, size);
	if (bytes == NULL)
		return NULL;
	copy = base_alloc(*size + 1);
	memcpy(copy, bytes, *size);
	PQfreemem(bytes);
	return copy;
}

/* Makes a request of a claimed row. */
static SmOutbound *
outbox_parse(PGresult *result, int row)
{
	SmOutbound *outbound = base_alloc(sizeof(SmOutbound));

	outbound->site_id = (int) outbox_int(result, row, 0, 0);
	outbound->outbound_id = outbox_int(result, row, 1, 0);
	outbound->method = base_copy(PQgetvalue(result, row, 2));
	outbound->url = base_copy(PQgetvalue(result, row, 3));
	outbound->headers = outbox_copy(result, row, 4);
	outbound->body = outbox_bytes(result, row, 5, &outbound->body_size);
	outbound->timeout_ms = outbox_int(result, row, 6, 30000);
	outbound->most_answer_bytes = outbox_int(result, row, 7, INT64_C(1) << 20);
	outbound->proxy = outbox_copy(result, row, 8);
	outbound->ca = outbox_copy(result, row, 9);
	outbound->http1 = !outbox_flag(result, row, 10, true);
	outbound->mail_from = outbox_copy(result, row, 11);
	outbound->mail_to = outbox_copy(result, row, 12);
	outbound->user = outbox_copy(result, row, 13);
	outbound->password = outbox_copy(result, row, 14);
	outbound->starttls = outbox_flag(result, row, 15, true);
	outbound->fresh = outbox_flag(result, row, 16, false);
	outbound->alone = outbox_flag(result, row, 17, false);
	return outbound;
}

/* Tells an error of the database once. */
static void
outbox_trouble(SmOutbox *outbox, const char *what, const SmDbReply *reply)
{
	if (reply->lost || strcmp(outbox->last_error, reply->message) == 0)
		return;
	snprintf(outbox->last_error, sizeof(outbox->last_error), "%s", reply->message);
	log_error("%s: %s", what, reply->message);
}

static void
outbox_claimed(void *context, const SmDbReply *reply)
{
	SmOutbox *outbox = context;
	int rows = reply->ok && reply->count > 0 ? PQntuples(reply->results[0]) : 0;
	int row;

	outbox->claiming = false;
	if (!reply->ok)
	{
		outbox_trouble(outbox, "could not claim requests", reply);
		return;
	}
	outbox->last_error[0] = '\0';
	for (row = 0; row < rows; row++)
		transfer_start(outbox->transfers, outbox_parse(reply->results[0], row));
	/* There may be more than we asked for, or something was queued meanwhile. */
	if (rows > 0 || outbox->claim_again)
		outbox_claim(outbox);
}

/* Asks for as many requests as there is room for. */
static void
outbox_claim(SmOutbox *outbox)
{
	char most[16];
	const char *const values[] = {outbox->name, most};
	int room = outbox->parallel - transfer_count(outbox->transfers) - outbox->report_count;

	outbox->claim_again = outbox->claiming;
	if (outbox->stopping || outbox->claiming || outbox->behind || room <= 0 ||
		!db_is_up(outbox->claim_db))
		return;
	snprintf(most, sizeof(most), "%d", room);
	outbox->claiming =
		db_send(outbox->claim_db, outbox_claim_sql, 2, values, outbox_claimed, outbox);
}

static void
outbox_free_report(SmReportRow *report)
{
	text_free(&report->delivery.headers);
	free(report->delivery.body);
	free(report);
}

/* The first report goes to the end of the line. */
static void
outbox_rotate(SmOutbox *outbox)
{
	SmReportRow *first = outbox->reports;

	*outbox->last_report = first;
	outbox->last_report = &first->next;
	outbox->reports = first->next;
	first->next = NULL;
}

/* The database has the reports, or could not take them. */
static void
outbox_reported(void *context, const SmDbReply *reply)
{
	SmOutbox *outbox = context;
	int count = outbox->reporting;

	outbox->reporting = 0;
	if (!reply->ok)
	{
		outbox->behind = reply->lost;
		outbox_trouble(outbox, "could not report answers", reply);
		if (reply->lost)
			return;
		outbox->batch = 1;
		if (count == 1)
			outbox_rotate(outbox);
		loop_set(outbox->loop, &outbox->again, base_now_us() + OUTBOX_REPORT_AGAIN_US);
		return;
	}
	outbox->batch = OUTBOX_BATCH;
	while (count-- > 0)
	{
		SmReportRow *report = outbox->reports;

		outbox->reports = report->next;
		outbox->report_count--;
		outbox_free_report(report);
	}
	if (outbox->reports == NULL)
	{
		outbox->last_report = &outbox->reports;
		outbox->behind = false;
	}
	outbox_send_reports(outbox);
	outbox_claim(outbox);
}

/* Adds a report to a JSON array. */
static void
outbox_add_report(SmText *json, const SmReportRow *report, int ord)
{
	static const char digits[] = "0123456789abcdef";
	const SmDelivery *delivery = &report->delivery;
	char *hex = base_alloc(2 * delivery->body_size + 1);
	size_t i;

	for (i = 0; i < delivery->body_size; i++)
	{
		hex[2 * i] = digits[delivery->body[i] >> 4];
		hex[2 * i + 1] = digits[delivery->body[i] & 15];
	}
	text_printf(json, "%s{\"ord\":%d,\"site_id\":%d,\"outbound_id\":%" PRId64, ord > 0 ? "," : "[",
				ord, report->site_id, report->outbound_id);
	text_printf(json, ",\"outcome\":\"%s\",\"status\":", outbox_outcomes[delivery->outcome]);
	if (delivery->outcome == OUTCOME_ANSWERED)
		text_printf(json, "%d", delivery->status);
	else
		text_add(json, "null");
	text_add(json, ",\"headers\":");
	text_add(json, delivery->headers.data);
	text_add(json, ",\"body\":\"");
	text_add(json, hex);
	text_add(json, "\",\"detail\":");
	header_add_text(json, delivery->detail, strlen(delivery->detail), false);
	text_add(json, "}");
	free(hex);
}

/* Sends reports, unless some are under way. */
static void
outbox_send_reports(SmOutbox *outbox)
{
	const SmReportRow *report = outbox->reports;
	SmText json = {0};
	const char *values[2] = {outbox->name, NULL};
	int count = 0;
	bool alone;

	if (outbox->reporting > 0 || report == NULL)
		return;
	if (!db_is_up(outbox->report_db))
	{
		outbox->behind = true;
		return;
	}
	do
	{
		outbox_add_report(&json, report, count++);
		alone = report->alone;
		report = report->next;
	} while (report != NULL && count < outbox->batch && !alone && !report->alone);
	text_add(&json, "]");
	values[1] = json.data;
	if (db_send(outbox->report_db, outbox_report_sql, 2, values, outbox_reported, outbox))
		outbox->reporting = count;
	text_free(&json);
}

static void
outbox_report_again(void *context)
{
	outbox_send_reports(context);
}

/* Says what became of a request; keys may stand anywhere in its address but the host. */
static void
outbox_log(const SmOutbound *outbound, const SmDelivery *delivery)
{
	char host[256];

	address_host(outbound->url, host, sizeof(host));
	log_debug("request %d/%" PRId64 ": %s %s: %s, %s", outbound->site_id, outbound->outbound_id,
			  outbound->method, host, outbox_outcomes[delivery->outcome], delivery->detail);
}

/* A request has ended, one way or another. */
static void
outbox_done(void *context, SmOutbound *outbound, SmDelivery *delivery)
{
	SmOutbox *outbox = context;
	SmReportRow *report = base_alloc(sizeof(SmReportRow));

	outbox_log(outbound, delivery);
	report->site_id = outbound->site_id;
	report->outbound_id = outbound->outbound_id;
	report->alone = outbound->alone;
	report->delivery = *delivery;
	*outbox->last_report = report;
	outbox->last_report = &report->next;
	outbox->report_count++;
	outbound_free(outbound);
	outbox_send_reports(outbox);
}

static void
outbox_claim_up(void *context)
{
	outbox_claim(context);
}

static void
outbox_report_up(void *context)
{
	outbox_send_reports(context);
}

static void
outbox_notified(void *context, const char *payload)
{
	(void) payload;
	outbox_claim(context);
}

static void
outbox_look(void *context)
{
	SmOutbox *outbox = context;

	loop_set(outbox->loop, &outbox->look, base_now_us() + OUTBOX_LOOK_US);
	outbox_claim(outbox);
}

/* Makes an outbox that does not work yet; name tells couriers apart. */
SmOutbox *
outbox_create(SmLoop *loop, const char *conninfo, const char *name, int parallel)
{
	SmOutbox *outbox = base_alloc(sizeof(SmOutbox));
	SmDbEvents claim_events = {outbox, outbox_claim_up, NULL, outbox_notified};
	SmDbEvents report_events = {outbox, outbox_report_up, NULL, NULL};

	outbox->loop = loop;
	outbox->name = base_copy(name);
	outbox->parallel = parallel;
	outbox->batch = OUTBOX_BATCH;
	outbox->last_report = &outbox->reports;
	outbox->transfers = transfer_create(loop, outbox_done, outbox);
	outbox->claim_db = db_create(loop, "outbox", conninfo, outbox_claim_greeting, &claim_events);
	outbox->report_db =
		db_create(loop, "reports", conninfo, outbox_report_greeting, &report_events);
	outbox->look.fire = outbox_look;
	outbox->look.context = outbox;
	outbox->again.fire = outbox_report_again;
	outbox->again.context = outbox;
	return outbox;
}

void
outbox_start(SmOutbox *outbox)
{
	db_start(outbox->claim_db);
	db_start(outbox->report_db);
	loop_set(outbox->loop, &outbox->look, base_now_us() + OUTBOX_LOOK_US);
}

/* Claims nothing more; what is on its way is finished. */
void
outbox_stop(SmOutbox *outbox)
{
	outbox->stopping = true;
	loop_cancel(outbox->loop, &outbox->look);
}

/* Whether nothing is in our hands. */
bool
outbox_is_quiet(const SmOutbox *outbox)
{
	return transfer_count(outbox->transfers) == 0 && outbox->report_count == 0 && !outbox->claiming;
}

void
outbox_free(SmOutbox *outbox)
{
	loop_cancel(outbox->loop, &outbox->look);
	loop_cancel(outbox->loop, &outbox->again);
	transfer_free(outbox->transfers);
	db_free(outbox->claim_db);
	db_free(outbox->report_db);
	while (outbox->reports != NULL)
	{
		SmReportRow *report = outbox->reports;

		outbox->reports = report->next;
		outbox_free_report(report);
	}
	free(outbox->name);
	free(outbox);
}
