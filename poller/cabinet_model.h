/*
 * cabinet_model.h - meter models out of their text form, which extension/install/09_catalogue.sql
 * describes
 *
 * The built-in ones are compiled in; a file may add others or put its own in their place.
 */
#ifndef CABINET_MODEL_H
#define CABINET_MODEL_H

#include "plan.h"

typedef struct SmCabinetModel
{
	SmModel model;
	char *vendor;
	char *note;
	int phases;
	bool own; /* of a file */
} SmCabinetModel;

typedef struct SmCatalogue
{
	SmCabinetModel *models; /* in the order of the text; of one name the last counts */
	int count;
} SmCatalogue;

extern const char catalogue_built_in[];
extern bool catalogue_read(SmCatalogue *catalogue, const char *text, bool own, char *why,
						   size_t size);
extern bool catalogue_read_file(SmCatalogue *catalogue, const char *path, char *why, size_t size);
extern const SmCabinetModel *catalogue_find(const SmCatalogue *catalogue, const char *name);
extern void catalogue_free(SmCatalogue *catalogue);

#endif
