/*
 * bus_inside.h - what the files of a bus share; for nobody else
 */
#ifndef BUS_INSIDE_H
#define BUS_INSIDE_H

#include "field.h"

/* bus.c */
extern void bus_lose(SmBus *bus, const char *text);
extern bool bus_put(SmBus *bus, const char **why, bool *sent_some);
extern void bus_answer(SmBus *bus, SmAnswer *answer);

/* bus_input.c */
extern bool bus_take_input(SmBus *bus);

#endif
