/* encode.h - values into register words */
#ifndef ENCODE_H
#define ENCODE_H

#include "farm.h"

extern bool encode_find(const char *name, SmEncoding *encoding);
extern void encode_value(const SmRegister *reg, int64_t value, uint16_t *words);
extern void encode_nan(const SmRegister *reg, uint16_t *words);

#endif
