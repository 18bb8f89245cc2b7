/* model.h - register maps, read from models.conf */
#ifndef MODEL_H
#define MODEL_H

#include "farm.h"

extern bool model_load(SmFarm *farm, const char *path, SmError *error);
extern const SmModel *model_find(const SmFarm *farm, const char *name);
extern const SmWritable *model_writable(const SmModel *model, int function, int address, int count);
extern int model_read_function(const SmModel *model, int function);
extern bool model_writes_with(const SmModel *model, int function);
extern bool model_spans(const SmModel *model, int function, int address, int count);
extern void model_free(SmFarm *farm);

#endif
