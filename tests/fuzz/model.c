/*
 * model.c - any bytes as a description of meter models: refused with the line, or models all of whose
 * points and switch instructions the poller could use, in questions that hold all points
 */
/* links: poller/cabinet_model.c poller/point.c poller/coalesce.c poller/wire.c poller/mbap.c poller/rtu.c poller/dlt645.c poller/dlt645_build.c poller/q376.c poller/base.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/cabinet_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
use_model(const SmModel *model)
{
	SmTarget target = {.protocol = model->protocol, .unit = 1};
	SmRequest request;
	int points = 0;
	int i;

	for (i = 0; i < model->block_count; i++)
	{
		points += model->blocks[i].points;
		if (!coalesce_request(&target, &model->blocks[i], &request))
			abort();
	}
	if (points != model->point_count || points == 0)
		abort();
	for (i = 0; i < model->point_count; i++)
	{
		if (point_check(&model->points[i]) != NULL)
			abort();
	}
	for (i = 0; i < SWITCH_ACTIONS; i++)
	{
		const SmSwitch *how = &model->switches[i];

		if (how->known && (how->count < 1 || how->count > PLAN_SWITCH_MOST))
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	SmCatalogue catalogue = {0};
	char *text = malloc(size + 1);
	char why[160] = "";
	int i;

	if (text == NULL)
		return 0;
	memcpy(text, bytes, size);
	text[size] = '\0';
	if (catalogue_read(&catalogue, text, true, why, sizeof(why)))
	{
		for (i = 0; i < catalogue.count; i++)
			use_model(&catalogue.models[i].model);
	}
	else if (strncmp(why, "line ", 5) != 0)
		abort();
	catalogue_free(&catalogue);
	free(text);
	return 0;
}
