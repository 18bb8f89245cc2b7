/*
 * dlt645.h - DL/T 645-2007 and -1997 as bytes: frames, their resynchronisation, what an answer must be
 *
 * Pure: no I/O, no memory. Data bytes are kept here as they are meant: the +33H of the wire is taken
 * off when a frame is found and put on when one is built.
 */
#ifndef DLT645_H
#define DLT645_H

#include "request.h"

#define DLT645_ADDRESS REQUEST_ADDRESS
#define DLT645_DATA_MAX 200
#define DLT645_FRAME_MAX (12 + DLT645_DATA_MAX)
#define DLT645_ADDRESS_TEXT 13

#define DLT645_REPLY 0x80
#define DLT645_ERROR 0x40
#define DLT645_MORE 0x20
#define DLT645_FUNCTION 0x1F

#define DLT645_READ_2007 0x11
#define DLT645_FOLLOW_2007 0x12
#define DLT645_READ_ADDRESS 0x13
#define DLT645_SWITCH 0x1C
#define DLT645_READ_1997 0x01
#define DLT645_FOLLOW_1997 0x02
#define DLT645_WRITE_1997 0x04
#define DLT645_CLOCK 0x08
#define DLT645_WRITE_2007 0x14

/* A password as it travels. Holds secrets: never logged. */
typedef struct SmDltKey
{
	uint8_t level;
	uint8_t password[3]; /* lowest digits first */
	uint8_t operator_code[4];
} SmDltKey;

/* Local time of a meter; only the last two digits of the year travel. */
typedef struct SmDltTime
{
	int year;
	int month;
	int day;
	int hour;
	int minute;
	int second;
} SmDltTime;

/* A frame; skipped: bytes before it that belong to none. */
typedef struct SmDltFrame
{
	uint8_t address[DLT645_ADDRESS]; /* lowest digits first, as on the wire */
	uint8_t control;
	int length;
	uint8_t data[DLT645_DATA_MAX];
	int skipped;
	int taken; /* bytes up to the end of the frame, those skipped included */
} SmDltFrame;

/* Why the bytes at a place are no frame. */
typedef enum SmDltFault
{
	DLT645_FAULT_NONE,
	DLT645_FAULT_NO_START, /* no 68H, or not twice: noise */
	DLT645_FAULT_LENGTH,
	DLT645_FAULT_CHECKSUM,
	DLT645_FAULT_END
} SmDltFault;

extern SmFrameState dlt645_at(const uint8_t *bytes, int length, SmDltFrame *frame,
							  SmDltFault *fault);
extern SmFrameState dlt645_take(const uint8_t *bytes, int length, SmDltFrame *frame);
extern int dlt645_frame(const uint8_t address[DLT645_ADDRESS], uint8_t control, const uint8_t *data,
						int length, uint8_t *bytes);
extern bool dlt645_parse_address(const char *text, uint8_t address[DLT645_ADDRESS]);
extern void dlt645_address_text(const uint8_t address[DLT645_ADDRESS], char *text);
extern int dlt645_di_bytes(uint8_t control);
extern bool dlt645_di(const SmDltFrame *frame, uint32_t *di);
extern SmReplyKind dlt645_check(const uint8_t asked[DLT645_ADDRESS], uint8_t control,
								const uint8_t *data, int length, const SmDltFrame *frame,
								const char **why);
extern const char *dlt645_error_text(const SmDltFrame *frame, char *text, int size);
extern const char *dlt645_fault_text(SmDltFault fault);

/* dlt645_build.c */
extern bool dlt645_parse_key(int level, const char *password, const char *operator_code,
							 SmDltKey *key);
extern bool dlt645_parse_di(SmProtocol protocol, const char *text, uint32_t *di);
extern bool dlt645_build_read(SmRequest *request, const SmTarget *target, uint32_t di);
extern void dlt645_build_read_address(SmRequest *request);
extern bool dlt645_build_write(SmRequest *request, const SmTarget *target, uint32_t di,
							   const SmDltKey *key, const uint8_t *data, int length);
extern bool dlt645_build_switch(SmRequest *request, const SmTarget *target, const SmDltKey *key,
								uint8_t command, const SmDltTime *until);
extern void dlt645_build_clock(SmRequest *request, SmProtocol protocol, const SmDltTime *now);

#endif
