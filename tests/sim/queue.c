/*
 * queue.c - bytes to be sent and things to be done at a later moment
 *
 * A binary heap by due time, so that thousands of buses with a latency cost one timer.
 */
#include <stdlib.h>

#include "queue.h"

/* Tells whether one chunk is due before another. */
static bool
queue_before(const SmChunk *left, const SmChunk *right)
{
	if (left->due_ns != right->due_ns)
		return left->due_ns < right->due_ns;
	return left->sequence < right->sequence;
}

/* Exchanges two places of the heap. */
static void
queue_swap(SmFarm *farm, int left, int right)
{
	SmChunk *chunk = farm->chunks[left];

	farm->chunks[left] = farm->chunks[right];
	farm->chunks[right] = chunk;
}

/* Adds a chunk; the heap owns it until it is popped. */
void
queue_push(SmFarm *farm, SmChunk *chunk)
{
	int at = farm->chunk_count++;

	if (farm->chunk_count > farm->chunk_room)
	{
		farm->chunk_room = farm->chunk_room == 0 ? 64 : 2 * farm->chunk_room;
		farm->chunks = realloc(farm->chunks, sizeof(SmChunk *) * (size_t) farm->chunk_room);
		if (farm->chunks == NULL)
			abort();
	}
	chunk->sequence = farm->chunk_sequence++;
	farm->chunks[at] = chunk;
	for (; at > 0 && queue_before(farm->chunks[at], farm->chunks[(at - 1) / 2]); at = (at - 1) / 2)
		queue_swap(farm, at, (at - 1) / 2);
}

/* Returns the chunk that is due first, or NULL. */
SmChunk *
queue_first(const SmFarm *farm)
{
	return farm->chunk_count > 0 ? farm->chunks[0] : NULL;
}

/* Takes the first chunk out; the caller frees it. */
SmChunk *
queue_pop(SmFarm *farm)
{
	SmChunk *chunk = farm->chunks[0];
	int at = 0;

	farm->chunks[0] = farm->chunks[--farm->chunk_count];
	for (;;)
	{
		int least = at;
		int child;

		for (child = 2 * at + 1; child <= 2 * at + 2 && child < farm->chunk_count; child++)
			if (queue_before(farm->chunks[child], farm->chunks[least]))
				least = child;
		if (least == at)
			return chunk;
		queue_swap(farm, at, least);
		at = least;
	}
}

/* Has a function called for a port at a moment. Ports outlive the queue. */
void
queue_call(SmPort *port, int64_t due_ns, SmTimerRun run)
{
	SmChunk *chunk = farm_alloc(sizeof(SmChunk));

	chunk->due_ns = due_ns;
	chunk->port = port;
	chunk->run = run;
	queue_push(port->farm, chunk);
}
