/*
 * tariff_json.h
 *		Reading a tariff definition: typed members of jsonb, or one clear error.
 */
#ifndef SUBMETER_TARIFF_JSON_H
#define SUBMETER_TARIFF_JSON_H

#include "postgres.h"
#include "utils/jsonb.h"

extern void tariff_refuse(const char *path, const char *problem, const char *hint)
	pg_attribute_noreturn();
extern void tariff_check_keys(JsonbContainer *object, const char *path, const char *const *known);
extern JsonbValue *tariff_member(JsonbContainer *object, const char *key);
extern JsonbValue *tariff_required(JsonbContainer *object, const char *path, const char *key,
								   const char *hint);
extern JsonbContainer *tariff_object(JsonbValue *value, const char *path, const char *const *known,
									 const char *hint);
extern JsonbContainer *tariff_array(JsonbValue *value, const char *path, int most,
									const char *hint);
extern int64 tariff_number(JsonbValue *value, const char *path, int scale, int64 limit,
						   const char *hint);
extern int tariff_word(JsonbValue *value, const char *path, const char *const *words,
					   const char *hint);
extern char *tariff_text(JsonbValue *value, const char *path, const char *hint);
extern char *tariff_name(JsonbValue *value, const char *path, const char *hint);
extern char *tariff_key_path(const char *path, const char *key, int length);
extern bool tariff_boolean(JsonbValue *value, const char *path);
extern int tariff_minute(JsonbValue *value, const char *path, bool end_of_day);
extern int tariff_mmdd(JsonbValue *value, const char *path);

#endif /* SUBMETER_TARIFF_JSON_H */
