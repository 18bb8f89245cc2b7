/*
 * decode.h - frames as JSON, one object a line, for a person and for programs
 */
#ifndef DECODE_H
#define DECODE_H

extern int decode_main(int count, char **arguments);

#endif
