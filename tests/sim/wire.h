/* wire.h - Modbus requests and answers, without the transport */
#ifndef WIRE_H
#define WIRE_H

#include "farm.h"

#define WIRE_ILLEGAL_FUNCTION 1
#define WIRE_ILLEGAL_ADDRESS 2
#define WIRE_ILLEGAL_VALUE 3
#define WIRE_TARGET_FAILED 11

/* What a fault wants changed inside the answer or the switching. */
typedef struct SmTwist
{
	bool sentinel;
	bool nan;
	bool relay_ignored;
	int64_t relay_delay_ns;
} SmTwist;

extern bool wire_is_read(const uint8_t *pdu, int length);
extern bool wire_is_write(const uint8_t *pdu, int length);
extern int wire_exception(uint8_t function, int code, uint8_t *answer);
extern int wire_serve(SmMeter *meter, const uint8_t *pdu, int length, const SmTwist *twist,
					  uint8_t *answer);
extern void wire_note_write(SmPort *port, int unit, const uint8_t *pdu, int length, int code);

#endif
