/*
 * request.h - one question to one meter, whatever it speaks
 *
 * Pure: no I/O, no memory. A request says what is asked; wire.c says how it becomes bytes.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#define REQUEST_BODY_MAX 64
#define REQUEST_ADDRESS 6

/* What a meter speaks; the wire may carry it in several ways. */
typedef enum SmProtocol
{
	PROTOCOL_MODBUS,
	PROTOCOL_DLT645_2007,
	PROTOCOL_DLT645_1997
} SmProtocol;

/* A meter as its bus knows it. */
typedef struct SmTarget
{
	SmProtocol protocol;
	uint8_t unit;                     /* Modbus */
	uint8_t address[REQUEST_ADDRESS]; /* DL/T 645: lowest digits first, as on the wire */
} SmTarget;

/* One question to one meter. */
typedef struct SmRequest
{
	SmTarget target;
	bool unanswered; /* a broadcast: nobody answers it */
	bool station;    /* 376.1: of the concentrator's own record; the body is point and day */
	uint8_t control; /* DL/T 645: control byte */
	uint8_t length;
	uint8_t body[REQUEST_BODY_MAX]; /* Modbus: the PDU; DL/T 645: the data, before 33H is added */
} SmRequest;

/* What was found at the beginning of received bytes. */
typedef enum SmFrameState
{
	FRAME_PARTIAL,
	FRAME_WHOLE,
	FRAME_BROKEN
} SmFrameState;

/* What a frame is to the question under way. */
typedef enum SmReplyKind
{
	REPLY_GOOD,
	REPLY_EXCEPTION,
	REPLY_WRONG,
	REPLY_MORE /* good, and the rest has to be asked for */
} SmReplyKind;

#endif
