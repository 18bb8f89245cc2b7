/*
 * report.h - how the field fares, for the database
 */
#ifndef REPORT_H
#define REPORT_H

#include "db.h"
#include "field.h"

struct SmReport;
typedef struct SmReport SmReport;

extern SmReport *report_create(SmLoop *loop, SmField *field, SmDb *db);
extern void report_free(SmReport *report);
extern void report_reset(SmReport *report);
extern void report_send(SmReport *report);

#endif
