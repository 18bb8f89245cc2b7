/*
 * report.c - how the field fares, for the database
 *
 * Every second what changed is reported, and every twenty seconds each gateway even when nothing
 * did, because the database takes a gateway it hears nothing of for gone. Only the latest state
 * matters, so reports are not kept: after the connection was lost everything is told anew.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listen.h"
#include "log.h"
#include "report.h"

#define REPORT_EVERY_US US_PER_S
#define REPORT_GATEWAY_US (20 * US_PER_S)
#define REPORT_METERS_MOST 2000

struct SmReport
{
	SmLoop *loop;
	SmField *field;
	SmDb *db;
	SmTimer timer;
	bool refused; /* the last one; told once */
};

static const char report_sql[] =
	"SELECT submeter.report_field($1::pg_catalog.int4, $2::pg_catalog.jsonb,"
	" $3::pg_catalog.jsonb)";

static const char report_strangers_sql[] =
	"SELECT submeter.report_strangers($1::pg_catalog.int4, $2::pg_catalog.jsonb)";

static void
report_timer(void *context)
{
	SmReport *report = context;

	report_send(report);
	loop_set(report->loop, &report->timer, base_now_us() + REPORT_EVERY_US);
}

/* Makes a reporter that works by itself from now on; freed by report_free(). */
SmReport *
report_create(SmLoop *loop, SmField *field, SmDb *db)
{
	SmReport *report = base_alloc(sizeof(SmReport));

	report->loop = loop;
	report->field = field;
	report->db = db;
	report->timer.fire = report_timer;
	report->timer.context = report;
	loop_set(loop, &report->timer, base_now_us() + REPORT_EVERY_US);
	return report;
}

void
report_free(SmReport *report)
{
	loop_cancel(report->loop, &report->timer);
	free(report);
}

/* Everything is to be told anew. */
void
report_reset(SmReport *report)
{
	int i;

	for (i = 0; i < report->field->bus_count; i++)
		report->field->buses[i]->dirty = report->field->buses[i]->online >= 0;
	for (i = 0; i < report->field->meter_count; i++)
		report->field->meters[i]->dirty = report->field->meters[i]->online >= 0;
	for (i = 0; i < report->field->left_out_count; i++)
		report->field->left_out[i].told = false;
}

static void
report_done(void *context, const SmDbReply *reply)
{
	SmReport *report = context;

	if (!reply->ok && !reply->lost && !report->refused)
		log_error("the database refuses a report of the field: %s (%s)", reply->message,
				  reply->sqlstate);
	report->refused = !reply->ok && !reply->lost;
}

static void
report_comma(SmText *list)
{
	text_add(list, list->length > 1 ? "," : "");
}

/* Adds a gateway and counts its increments as told. */
static void
report_add_bus(SmText *list, SmBus *bus, int64_t now_us)
{
	report_comma(list);
	text_printf(list,
				"{\"gateway_id\":%" PRId64 ",\"online\":%s,\"requests\":%" PRId64
				",\"errors\":%" PRId64 ",\"busy_ms\":%" PRId64,
				bus->gateway_id, bus->online == 1 ? "true" : "false", bus->requests, bus->errors,
				bus->busy_us / US_PER_MS);
	if (bus->reported_us != 0)
		text_printf(list, ",\"over_ms\":%" PRId64, (now_us - bus->reported_us) / US_PER_MS);
	if (bus->round_ms > 0)
		text_printf(list, ",\"round_ms\":%" PRId64, bus->round_ms);
	if (bus->late_us >= 0)
		text_printf(list, ",\"late_ms\":%" PRId64, bus->late_us / US_PER_MS);
	text_add(list, ",\"last_error\":");
	text_add_json(list, bus->error[0] != '\0' ? bus->error : NULL);
	text_add(list, ",\"via\":");
	text_add_json(list, bus->online == 1 && bus->link.via[0] != '\0' ? bus->link.via : NULL);
	text_add(list, "}");
	bus->requests = 0;
	bus->errors = 0;
	bus->busy_us %= US_PER_MS;
	bus->late_us = -1;
	bus->dirty = false;
	bus->reported_us = now_us;
}

static void
report_add_meter(SmText *list, SmMeter *meter)
{
	report_comma(list);
	text_printf(list,
				"{\"meter_id\":%" PRId64 ",\"online\":%s,\"failures\":%d,\"errors\":%" PRId64
				",\"refused\":",
				meter->meter_id, meter->online == 1 ? "true" : "false", meter->failures,
				meter->errors);
	text_add_json(list, meter->refused);
	text_add(list, ",\"last_error\":");
	text_add_json(list, meter->error[0] != '\0' ? meter->error : NULL);
	text_add(list, "}");
	meter->errors = 0;
	meter->dirty = false;
}

/* Adds what the plan could not use. */
static void
report_add_left_out(SmText *list, SmLeftOut *entry)
{
	report_comma(list);
	text_printf(list, "{\"%s\":%" PRId64 ",\"online\":false,%s\"last_error\":",
				entry->is_gateway ? "gateway_id" : "meter_id", entry->id,
				entry->is_gateway ? "\"requests\":0,\"errors\":0," : "\"failures\":1,");
	text_add_json(list, entry->text);
	text_add(list, "}");
	entry->told = true;
}

/* Sends the two lists of one site, if there is anything in them. */
static void
report_send_site(SmReport *report, int site_id, SmText *gateways, SmText *meters)
{
	char site[16];
	const char *values[3];

	if (gateways->length > 1 || meters->length > 1)
	{
		text_add(gateways, "]");
		text_add(meters, "]");
		snprintf(site, sizeof(site), "%d", site_id);
		values[0] = site;
		values[1] = gateways->data;
		values[2] = meters->data;
		db_send(report->db, report_sql, 3, values, report_done, report);
	}
	text_clear(gateways);
	text_clear(meters);
	text_add(gateways, "[");
	text_add(meters, "[");
}

/* The smallest site after the one given that has anything; false when there is none. */
static bool
report_next_site(const SmField *field, int64_t after, int *site_id)
{
	int64_t best = INT64_MAX;
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		if (field->buses[i]->site_id > after && field->buses[i]->site_id < best)
			best = field->buses[i]->site_id;
	}
	for (i = 0; i < field->left_out_count; i++)
	{
		if (field->left_out[i].id != 0 && field->left_out[i].site_id > after &&
			field->left_out[i].site_id < best)
			best = field->left_out[i].site_id;
	}
	*site_id = (int) best;
	return best != INT64_MAX;
}

/* Whether a bus has something to tell. */
static bool
report_is_due(const SmBus *bus, int64_t now_us)
{
	return bus->dirty || (bus->online >= 0 && now_us - bus->reported_us >= REPORT_GATEWAY_US);
}

/* Composes and sends what one site has to tell. */
static void
report_site(SmReport *report, int site_id, SmText *gateways, SmText *meters)
{
	SmField *field = report->field;
	int64_t now_us = base_now_us();
	int told = 0;
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		if (field->buses[i]->site_id == site_id && report_is_due(field->buses[i], now_us))
			report_add_bus(gateways, field->buses[i], now_us);
	}
	for (i = 0; i < field->meter_count && told < REPORT_METERS_MOST; i++)
	{
		SmMeter *meter = field->meters[i];

		if (meter->site_id != site_id || !meter->dirty || meter->online < 0)
			continue;
		report_add_meter(meters, meter);
		told++;
	}
	for (i = 0; i < field->left_out_count; i++)
	{
		SmLeftOut *entry = &field->left_out[i];

		if (entry->site_id == site_id && entry->id != 0 && !entry->told)
			report_add_left_out(entry->is_gateway ? gateways : meters, entry);
	}
	report_send_site(report, site_id, gateways, meters);
}

/* Whether a site has a gateway that dials in where somebody knocked. */
static bool
report_listens(const SmField *field, int site_id, const char *address)
{
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		const SmRoute *route = field->buses[i]->link.route;

		if (field->buses[i]->site_id == site_id && route->kind == ROUTE_LISTEN &&
			strcmp(route->address, address) == 0)
			return true;
	}
	return false;
}

/* Tells a site who dialled in where it listens and is nobody it knows. */
static void
report_site_strangers(SmReport *report, int site_id)
{
	const SmStrangers *strangers = listen_strangers(report->field->listen);
	SmText list = {0};
	char site[16];
	const char *values[2] = {site, NULL};
	int i;
	int n;

	text_add(&list, "[");
	for (i = 0; i < strangers->count; i++)
	{
		const SmStranger *entry = &strangers->list[i];

		if (entry->times == 0 || !report_listens(report->field, site_id, entry->address))
			continue;
		report_comma(&list);
		text_add(&list, "{\"address\":");
		text_add_json(&list, entry->address);
		text_add(&list, ",\"peer\":");
		text_add_json(&list, entry->peer);
		text_add(&list, ",\"said\":\"");
		for (n = 0; n < entry->length; n++)
			text_printf(&list, "%02x", entry->said[n]);
		text_printf(&list, "\",\"times\":%" PRId64 "}", entry->times);
	}
	text_add(&list, "]");
	snprintf(site, sizeof(site), "%d", site_id);
	values[1] = list.data;
	if (list.length > 2)
		db_send(report->db, report_strangers_sql, 2, values, report_done, report);
	text_free(&list);
}

/* Every site has been told: what comes is counted anew. */
static void
report_forget_strangers(SmReport *report)
{
	SmStrangers *strangers = listen_strangers(report->field->listen);
	int i;

	for (i = 0; i < strangers->count; i++)
		strangers->list[i].times = 0;
}

/* Tells the database what changed. Does nothing while it is busy with something else. */
void
report_send(SmReport *report)
{
	SmText gateways = {0};
	SmText meters = {0};
	int64_t after = INT64_MIN;
	int site_id;

	if (!db_is_idle(report->db))
		return;
	text_add(&gateways, "[");
	text_add(&meters, "[");
	while (report_next_site(report->field, after, &site_id))
	{
		report_site(report, site_id, &gateways, &meters);
		report_site_strangers(report, site_id);
		after = site_id;
	}
	report_forget_strangers(report);
	text_free(&gateways);
	text_free(&meters);
}
