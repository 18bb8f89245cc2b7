/* queue.h - bytes to be sent and things to be done at a later moment */
#ifndef QUEUE_H
#define QUEUE_H

#include "farm.h"

typedef void (*SmTimerRun)(SmPort *port);

typedef struct SmChunk
{
	int64_t due_ns;
	uint64_t sequence; /* keeps equal moments in order */
	struct SmConnection *connection;
	bool owed;      /* counted in SmPort.pending */
	SmPort *port;   /* a timer of a port: run instead of sent */
	SmTimerRun run; /* NULL for bytes */
	int length;
	uint8_t bytes[];
} SmChunk;

extern void queue_push(SmFarm *farm, SmChunk *chunk);
extern SmChunk *queue_first(const SmFarm *farm);
extern SmChunk *queue_pop(SmFarm *farm);
extern void queue_call(SmPort *port, int64_t due_ns, SmTimerRun run);

#endif
