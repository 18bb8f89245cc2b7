/*
 * decode.h - frames as JSON, one object a line, for a person and for programs
 */
#ifndef DECODE_H
#define DECODE_H

#include <stdint.h>

extern void decode_bytes(const char *protocol, const uint8_t *bytes, int length);
extern int decode_main(int count, char **arguments);

#endif
