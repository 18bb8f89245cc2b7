/*
 * mbap.h - Modbus TCP as bytes: requests, frames and what may count as an answer
 *
 * Pure: no I/O, no memory, so that it is tested from the frames printed in the specification.
 */
#ifndef MBAP_H
#define MBAP_H

#include "request.h"

#define MBAP_HEADER 7
#define MBAP_PDU_MAX 253
#define MBAP_ADU_MAX (MBAP_HEADER + MBAP_PDU_MAX)
#define MBAP_READ_MAX 125
#define MBAP_WRITE_MAX 8

/* A frame found in received bytes; pdu points into them. */
typedef struct SmFrame
{
	uint16_t transaction;
	uint8_t unit;
	const uint8_t *pdu;
	int length; /* of the pdu */
	int taken;  /* bytes of the whole frame */
} SmFrame;

extern bool mbap_build_read(SmRequest *request, int unit, int function, int address, int count);
extern bool mbap_build_write(SmRequest *request, int unit, int function, int address,
							 const uint16_t *words, int count);
extern int mbap_frame(const SmRequest *request, uint16_t transaction, uint8_t *adu);
extern SmFrameState mbap_take(const uint8_t *bytes, int length, SmFrame *frame);
extern SmReplyKind mbap_check(const SmRequest *request, const SmFrame *frame, int *exception,
							  const char **why);
extern int mbap_words(const SmRequest *request, const uint8_t *data, uint16_t *words);
extern const char *mbap_exception_text(int code);

#endif
