/*
 * rtu.h - Modbus RTU as bytes: checksum, requests and answers, found in a stream
 *
 * Pure: no I/O, no memory. RTU has no transaction number and no length: an answer is told from
 * noise and from the late answer to another question by unit, function, length and checksum.
 */
#ifndef RTU_H
#define RTU_H

#include "mbap.h"

#define RTU_FRAME_MAX 256

typedef enum SmRtuSide
{
	RTU_REQUEST,
	RTU_RESPONSE
} SmRtuSide;

extern uint16_t rtu_crc(const uint8_t *bytes, int length);
extern int rtu_frame(const SmRequest *request, uint8_t *adu);
extern int rtu_length(SmRtuSide side, const uint8_t *bytes, int length);
extern SmFrameState rtu_at(SmRtuSide side, const uint8_t *bytes, int length, SmFrame *frame);
extern SmFrameState rtu_take(SmRtuSide side, const uint8_t *bytes, int length, SmFrame *frame);

#endif
