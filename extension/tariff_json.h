/*
 * tariff_json.h
 *		Reading a tariff definition: typed members of jsonb, or one clear error.
 */
#ifndef SUBMETER_TARIFF_JSON_H
#define SUBMETER_TARIFF_JSON_H

#include "postgres.h"
#include "utils/jsonb.h"

/* a key of an object, and whether this version computes it */
typedef struct SmTariffKey
{
	const char *name;
	bool later;
} SmTariffKey;

extern void tariff_refuse(const char *path, const char *problem, const char *hint)
	pg_attribute_noreturn();
extern void tariff_refuse_later(const char *path) pg_attribute_noreturn();
extern void tariff_check_keys(JsonbContainer *object, const char *path, const SmTariffKey *known);
extern JsonbValue *tariff_member(JsonbContainer *object, const char *key);
extern JsonbValue *tariff_required(JsonbContainer *object, const char *path, const char *key,
								   const char *hint);
extern JsonbContainer *tariff_object(JsonbValue *value, const char *path, const SmTariffKey *known,
									 const char *hint);
extern JsonbContainer *tariff_array(JsonbValue *value, const char *path, int most,
									const char *hint);
extern int64 tariff_number(JsonbValue *value, const char *path, int scale, int64 limit,
						   const char *hint);
extern void tariff_first_word(JsonbContainer *object, const char *path, const char *key,
							  const char *const *words, const char *hint);
extern int tariff_word(JsonbValue *value, const char *path, const char *const *words,
					   const char *hint);

#endif /* SUBMETER_TARIFF_JSON_H */
