/* SPDX-License-Identifier: BSD-3-Clause */
/* What random tests draw from. BLKTAP_SEED repeats a run; without it each run has a
 * seed of its own, and says which before it draws, so that a crash is repeated, too. */
#ifndef BT_TESTS_SEED_H
#define BT_TESTS_SEED_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t seed_take(void)
{
	const char *text = getenv("BLKTAP_SEED");
	uint64_t seed =
		text ? strtoull(text, NULL, 0)
		     : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();

	printf("BLKTAP_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

/* How many of n rounds are made: fewer under valgrind, which looks for errors of
 * memory, and those are the same in each. */
static inline uint32_t seed_rounds(uint32_t n)
{
	return getenv("BLKTAP_VALGRIND") ? n / 8 + 1 : n;
}

/* xorshift; a state of 0 would stay there. */
static inline uint64_t seed_next(uint64_t *state)
{
	*state |= !*state;
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
