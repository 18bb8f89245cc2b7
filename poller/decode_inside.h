/*
 * decode_inside.h - what the files of the decoder share
 *
 * Each protocol looks whether a frame begins at a place and prints the one that does.
 */
#ifndef DECODE_INSIDE_H
#define DECODE_INSIDE_H

#include "dlt645.h"

/* What is found at a place: extent is the length of the frame, or that a bad one claims; 0: noise. */
typedef struct SmSight
{
	SmFrameState state;
	int extent;
	const char *fault;
} SmSight;

/* decode_json.c */
extern void decode_begin(const char *protocol, bool good);
extern void decode_text(const char *name, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void decode_number(const char *name, int value);
extern void decode_end(void);

/* decode_modbus.c */
extern SmSight decode_look_rtu_request(const uint8_t *bytes, int length);
extern SmSight decode_look_rtu_response(const uint8_t *bytes, int length);
extern SmSight decode_look_tcp(const uint8_t *bytes, int length);
extern void decode_print_rtu_request(const uint8_t *bytes, int length);
extern void decode_print_rtu_response(const uint8_t *bytes, int length);
extern void decode_print_tcp(const uint8_t *bytes, int length);

/* decode_dlt645.c */
extern SmSight decode_look_dlt645(const uint8_t *bytes, int length);
extern void decode_print_dlt645(const uint8_t *bytes, int length);
extern void decode_dlt645_members(const SmDltFrame *frame, const char **error, char *text,
								  int size);

/* decode_q376.c */
extern SmSight decode_look_q376(const uint8_t *bytes, int length);
extern void decode_print_q376(const uint8_t *bytes, int length);

#endif
