/*
 * wire.c - any bytes as what comes in on each kind of wire, while a question is under way: nothing is
 * read beyond them, every frame moves the stream on, what is taken for an answer lies inside it, parts
 * that are joined never outgrow their room, and the values that are made of it are numbers
 */
/* links: poller/wire.c poller/mbap.c poller/rtu.c poller/dlt645.c poller/dlt645_build.c poller/q376.c poller/coalesce.c poller/point.c */
/* libs: -lm */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../poller/coalesce.h"
#include "../../poller/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const SmPoint items[] = {{.metric = METRIC_V_A,
								 .di = 0x02010100,
								 .in_block = true,
								 .block_di = 0x0201FF00,
								 .bytes = 2,
								 .type = POINT_BCD,
								 .scale = {1, 1}},
								{.metric = METRIC_V_B,
								 .di = 0x02010200,
								 .in_block = true,
								 .block_di = 0x0201FF00,
								 .block_offset = 2,
								 .bytes = 2,
								 .type = POINT_SBCD,
								 .scale = {-1, 3}},
								{.metric = METRIC_ENERGY_WH,
								 .di = 0x00010000,
								 .in_block = true,
								 .block_di = 0x0201FF00,
								 .block_offset = 9,
								 .bytes = 8,
								 .type = POINT_SBCD,
								 .scale = {1000000000000, 0}},
								{.metric = METRIC_RELAY,
								 .di = 0x04000503,
								 .in_block = true,
								 .block_di = 0x0201FF00,
								 .block_offset = 3,
								 .bytes = 2,
								 .type = POINT_BITS,
								 .bit_mask = 16,
								 .open_value = 16}};

/* Takes the values out of an answer as the routine does. */
static void
use_answer(const SmRequest *request, const uint8_t *data, int length)
{
	SmBlock block = {.function = 0, .di = 0x0201FF00, .is_block = true, .points = 4};
	SmValues values = {0};
	SmTaken taken;
	uint16_t words[MBAP_READ_MAX];
	int i;

	if (request->target.protocol == PROTOCOL_MODBUS)
	{
		mbap_words(request, data, words);
		return;
	}
	coalesce_take(items, &block, request, data, length, &values, &taken);
	for (i = METRIC_V_A; i < METRIC_COUNT; i++)
	{
		if (point_has(&values, (SmMetric) i) && !isfinite(values.number[i]))
			abort();
	}
	if (taken.good + taken.nonsense > 4)
		abort();
}

static void
try_wire(SmWireKind kind, const uint8_t *bytes, int length)
{
	SmWire wire = {.kind = kind, .transaction = 0x4141, .seq = 1};
	SmTarget target = {.protocol = kind < WIRE_DLT645 ? PROTOCOL_MODBUS : PROTOCOL_DLT645_2007,
					   .unit = 1,
					   .address = {0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA}};
	SmJoin join = {0};
	SmRequest first;
	SmRequest request;
	SmResult result;
	SmReply reply;
	uint8_t answer[WIRE_FRAME_MAX];
	const char *why;
	int used = 0;

	if (target.protocol == PROTOCOL_MODBUS)
		mbap_build_read(&first, 1, 3, 0, 2);
	else
		dlt645_build_read(&first, &target, 0x0201FF00);
	request = first;
	while (wire_take(&wire, bytes + used, length - used, &reply) == FRAME_WHOLE)
	{
		SmReplyKind kind_of = wire_check(&wire, &request, &reply, &result);

		if (reply.taken < 1 || reply.taken > length - used)
			abort();
		used += reply.taken;
		if (wire_unasked(&wire, &reply, answer) > WIRE_FRAME_MAX ||
			(kind_of == REPLY_WRONG) != (result.text != NULL && result.refusal == REFUSAL_NONE))
			abort();
		if (kind_of == REPLY_GOOD && join.frames == 0)
			use_answer(&request, result.data, result.length);
		if (kind_of != REPLY_MORE && (kind_of != REPLY_GOOD || join.frames == 0))
			continue;
		if (wire_join(&join, &result, &why))
			wire_follow(&first, &join, &request);
		if (join.length > WIRE_JOIN_MAX)
			abort();
		use_answer(&first, join.data, join.length);
	}
	if (reply.taken < 0 || reply.taken > length - used)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* A copy of its own size, so that a look beyond the end is seen. */
	uint8_t *copy = malloc(size + 1);
	int kind;

	memcpy(copy, bytes, size);
	for (kind = WIRE_MODBUS_TCP; kind <= WIRE_Q376; kind++)
		try_wire((SmWireKind) kind, copy, (int) size);
	free(copy);
	return 0;
}
