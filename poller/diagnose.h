/*
 * diagnose.h - commands for a person at a meter cabinet
 */
#ifndef DIAGNOSE_H
#define DIAGNOSE_H

#include <stdbool.h>

extern bool diagnose_wants(int count, char **arguments);
extern int diagnose_main(int count, char **arguments);

#endif
