/*
 * q376.h - Q/GDW 1376.1 as bytes: what a concentrator says when it dials in, and how a frame of
 * another protocol is passed through it
 *
 * Pure: no I/O, no memory.
 */
#ifndef Q376_H
#define Q376_H

#include "request.h"

#define Q376_USER_MAX 1024
#define Q376_FRAME_MAX (8 + Q376_USER_MAX)
#define Q376_PASSWORD 16
#define Q376_ADDRESS_TEXT 16

#define Q376_AFN_ACK 0x00
#define Q376_AFN_LINK 0x02
#define Q376_AFN_RECORD 0x0D /* data of class 2: what the concentrator keeps */
#define Q376_AFN_FORWARD 0x10
#define Q376_DAILY_ENERGY \
	161 /* F161: forward active energy at the end of a day, total and tariffs */

#define Q376_FROM_STATION 0x80 /* of the control byte: the concentrator speaks */

typedef struct SmQ376Address
{
	uint16_t region; /* four BCD digits */
	uint16_t terminal;
	uint8_t master; /* A3 */
} SmQ376Address;

/* A frame; data point into the bytes and begin behind the data unit identifier. */
typedef struct SmQ376Frame
{
	uint8_t control;
	SmQ376Address address;
	uint8_t afn;
	uint8_t seq;
	int point;    /* pn, 0: the concentrator itself */
	int function; /* Fn */
	const uint8_t *data;
	int length;
	int taken;
} SmQ376Frame;

extern SmFrameState q376_at(const uint8_t *bytes, int length, SmQ376Frame *frame, bool *checksum);
extern SmFrameState q376_take(const uint8_t *bytes, int length, SmQ376Frame *frame);
extern int q376_build(const SmQ376Address *address, uint8_t control, uint8_t afn, uint8_t seq,
					  int function, const uint8_t *data, int length, uint8_t *bytes);
extern int q376_build_ack(const SmQ376Frame *heard, uint8_t *bytes);
extern int q376_build_forward(const SmQ376Address *address, uint8_t seq, uint8_t port, uint8_t line,
							  int timeout_ms, const uint8_t *inner, int length,
							  const uint8_t *password, uint8_t *bytes);
extern int q376_build_daily(const SmQ376Address *address, uint8_t seq, int point,
							const uint8_t day[3], uint8_t *bytes);
extern bool q376_daily(const SmQ376Frame *frame, int point, const uint8_t day[3],
					   const uint8_t **total, int *length);
extern bool q376_forwarded(const SmQ376Frame *frame, const uint8_t **inner, int *length);
extern bool q376_parse_address(const char *text, SmQ376Address *address);
extern void q376_address_text(const SmQ376Address *address, char *text);

#endif
