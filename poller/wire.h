/*
 * wire.h - how a question becomes bytes, and bytes become its answer, on each kind of wire
 *
 *   wire_frame()   request -> bytes
 *   wire_take()    bytes -> the next frame, found again after noise
 *   wire_check()   is it the answer: good, refused, another one's, or only the first part of it
 *   wire_unasked() what a frame wants to hear that answers nothing (login and heartbeat of 376.1)
 *
 * Pure: no I/O, no memory. Requests are built by mbap_build_read(), mbap_build_write() and the
 * dlt645_build_ functions; those above the bus see a refusal as one of SmRefusal, whatever the
 * protocol calls it.
 */
#ifndef WIRE_H
#define WIRE_H

#include "dlt645.h"
#include "mbap.h"
#include "q376.h"
#include "request.h"

#define WIRE_FRAME_MAX 320
#define WIRE_WORDS 112
#define WIRE_JOIN_MAX 1024

typedef enum SmWireKind
{
	WIRE_MODBUS_TCP,
	WIRE_RTU,
	WIRE_DLT645,
	WIRE_Q376
} SmWireKind;

/* A wire and the numbers that run on it. */
typedef struct SmWire
{
	SmWireKind kind;
	uint16_t transaction; /* Modbus TCP: of the question under way */
	/* 376.1 */
	bool known; /* the concentrator has said who it is, or the plan has */
	SmQ376Address station;
	uint8_t seq;  /* of the question under way */
	uint8_t port; /* of the concentrator */
	uint8_t line;
	int timeout_ms; /* that the concentrator gives its meters, for the question under way */
} SmWire;

/* A frame as it was found. What it holds may point into the received bytes. */
typedef struct SmReply
{
	int taken; /* bytes to forget: the frame and what was before it */
	SmFrame modbus;
	SmDltFrame dlt;
	SmQ376Frame q376;
	bool forwarded; /* 376.1: dlt is filled, out of it */
} SmReply;

/* Why a meter, or its gateway, refuses. */
typedef enum SmRefusal
{
	REFUSAL_NONE,
	REFUSAL_FUNCTION,  /* it cannot be asked this way at all */
	REFUSAL_NO_DATA,   /* it has no such registers or item */
	REFUSAL_BUSY,      /* later */
	REFUSAL_PASSWORD,  /* password wrong, or not authorised for this item */
	REFUSAL_UNREACHED, /* the gateway answers, and says that the meter does not */
	REFUSAL_OTHER
} SmRefusal;

/* What a frame says to a question. */
typedef struct SmResult
{
	const uint8_t *data; /* Modbus: bytes of the values; DL/T 645: what follows the identifier */
	int length;
	SmRefusal refusal;
	int code;         /* exception of Modbus, error byte of DL/T 645 */
	int sequence;     /* number of a follow-up frame, else -1 */
	bool foreign;     /* wrong, and of another question: the right answer may still come */
	const char *text; /* why it is refused or wrong; static, or in words */
	char words[WIRE_WORDS];
} SmResult;

/* Answers of several frames, put together. */
typedef struct SmJoin
{
	int frames;
	int length;
	uint8_t data[WIRE_JOIN_MAX];
} SmJoin;

extern bool wire_find_kind(const char *transport, SmWireKind *kind);
extern bool wire_find_protocol(const char *name, SmProtocol *protocol);
extern bool wire_carries(SmWireKind kind, SmProtocol protocol);
extern bool wire_is_numbered(SmWireKind kind);
extern bool wire_parse_target(SmProtocol protocol, const char *text, SmTarget *target);
extern bool wire_may_ask(const SmRequest *request);
extern int wire_frame(SmWire *wire, const SmRequest *request, uint8_t *bytes);
extern SmFrameState wire_take(const SmWire *wire, const uint8_t *bytes, int length, SmReply *reply);
extern SmReplyKind wire_check(const SmWire *wire, const SmRequest *request, const SmReply *reply,
							  SmResult *result);
extern int wire_unasked(SmWire *wire, const SmReply *reply, uint8_t *bytes);
extern bool wire_join(SmJoin *join, const SmResult *result, const char **why);
extern void wire_follow(const SmRequest *first, const SmJoin *join, SmRequest *next);

#endif
