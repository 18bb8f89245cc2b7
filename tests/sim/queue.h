/* queue.h - bytes that are to be sent at a later moment */
#ifndef QUEUE_H
#define QUEUE_H

#include "farm.h"

typedef struct SmChunk
{
	int64_t due_ns;
	uint64_t sequence; /* keeps equal moments in order */
	struct SmConnection *connection;
	bool owed; /* counted in SmPort.pending */
	int length;
	uint8_t bytes[2 * ADU_MAX];
} SmChunk;

extern void queue_push(SmFarm *farm, SmChunk *chunk);
extern SmChunk *queue_first(const SmFarm *farm);
extern SmChunk *queue_pop(SmFarm *farm);

#endif
