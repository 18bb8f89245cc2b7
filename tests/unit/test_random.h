/*
 * test_random.h - the same numbers on every machine (xorshift)
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <stdint.h>

static inline uint64_t
random_next(void)
{
	static uint64_t state = UINT64_C(88172645463325252);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* From 0 up to most, which is not among them. */
static inline int64_t
random_below(int64_t most)
{
	return (int64_t) (random_next() % (uint64_t) most);
}

#endif
