/* command.h - what tests can tell the farm */
#ifndef COMMAND_H
#define COMMAND_H

#include "farm.h"

#define ANSWER_SIZE 65536

typedef struct SmAnswer
{
	char text[ANSWER_SIZE];
	size_t length;
} SmAnswer;

extern void command_say(SmAnswer *answer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void command_run(SmFarm *farm, char *line, SmAnswer *answer);

#endif
