/*
 * plan_part.h - between the parts of the plan's parser
 */
#ifndef PLAN_PART_H
#define PLAN_PART_H

#include "plan.h"

extern void plan_problem(SmPlan *plan, int site_id, bool is_gateway, int64_t id, const char *format,
						 ...) __attribute__((format(printf, 5, 6)));
extern const char *plan_text(PGresult *result, int row, int column);
extern bool plan_int(PGresult *result, int row, int column, int64_t low, int64_t high,
					 int64_t *value);
extern SmModel *plan_find_model(const SmPlan *plan, const char *name);

/* plan_model.c */
extern void plan_parse_models(SmPlan *plan, PGresult *result);
extern void plan_parse_points(SmPlan *plan, PGresult *result);
extern void plan_parse_switches(SmPlan *plan, PGresult *result);

#endif
