/* parse.h - numbers and words out of configuration lines and commands */
#ifndef PARSE_H
#define PARSE_H

#include <stdbool.h>
#include <stdint.h>

extern bool parse_fixed(const char *text, int digits, int64_t *value);
extern bool parse_integer(const char *text, int64_t low, int64_t high, int64_t *value);
extern bool parse_decimal(const char *text, int64_t *numerator, int64_t *denominator);
extern bool parse_flag(const char *text, bool *value);
extern bool parse_words(const char *text, uint16_t *words, int most, int *count);
extern int parse_tokens(char *line, char **tokens, int most);
extern bool parse_pair(char *token, char **key, char **value);

#endif
