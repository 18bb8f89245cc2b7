/*
 * base.h - memory, clocks, growing text and chance, for all rooms of the poller
 */
#ifndef BASE_H
#define BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

/* Text that grows; starts zeroed and is freed by text_free(). */
typedef struct SmText
{
	char *data;
	size_t length;
	size_t room;
} SmText;

extern void *base_alloc(size_t size);
extern void *base_resize(void *memory, size_t size);
extern char *base_copy(const char *text);
extern int64_t base_now_us(void);
extern int64_t base_wall_ms(void);
extern int64_t base_jitter_us(int64_t around_us);
extern bool base_parse_int(const char *text, int64_t low, int64_t high, int64_t *value);

extern void text_free(SmText *text);
extern void text_clear(SmText *text);
extern void text_add(SmText *text, const char *piece);
extern void text_printf(SmText *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void text_add_json(SmText *text, const char *string);
extern void text_add_time(SmText *text, int64_t wall_ms);

#endif
