/*
 * test_poller_tap.h - TAP for the unit tests of the poller
 */
#ifndef TEST_POLLER_TAP_H
#define TEST_POLLER_TAP_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_run = 0;
static int tap_failed = 0;

/* One line of TAP. */
static inline void
ok(bool good, const char *name)
{
	tap_run++;
	tap_failed += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", tap_run, name);
}

/* Two numbers are the same. */
static inline void
is(int64_t got, int64_t wanted, const char *name)
{
	ok(got == wanted, name);
	if (got != wanted)
		printf("# got %" PRId64 ", wanted %" PRId64 "\n", got, wanted);
}

/* Two texts are the same. */
static inline void
is_text(const char *got, const char *wanted, const char *name)
{
	bool same = got != NULL && wanted != NULL ? strcmp(got, wanted) == 0 : got == wanted;

	ok(same, name);
	if (!same)
		printf("# got %s, wanted %s\n", got != NULL ? got : "NULL",
			   wanted != NULL ? wanted : "NULL");
}

/* The last line; the status of the program. */
static inline int
tap_done(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed == 0 && tap_run > 0 ? 0 : 1;
}

#endif
