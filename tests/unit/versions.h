/* SPDX-License-Identifier: BSD-3-Clause */
/* What the sectors of a disk were, one after the other, and which of that a power cut
 * may leave: what was last flushed, or was durable by itself, or something newer.
 * Time is that of record.h.
 *
 * Two requests for one sector must not be under way at once: which of them comes
 * last is the disk's to choose, and the answers do not tell. */
#ifndef BT_TESTS_VERSIONS_H
#define BT_TESTS_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>

#define VERSIONS_SECTORS 1024u

struct version {
	uint32_t tag; /* 0: zeroes */
	uint64_t submitted, completed;
	bool fua; /* durable when it has completed */
	bool discard; /* zeroes, or still what was there */
};

void versions_reset(void);
/* The first is what the disk began with. */
void versions_add(uint32_t sector, const struct version *what);
void versions_flushed(uint64_t submitted, uint64_t completed);

/* The bytes of a sector with that tag. */
void versions_fill(unsigned char *bytes, uint32_t sector, uint32_t tag);
/* The tag of the first version that may be left at that time. */
uint32_t versions_oldest_tag(uint32_t sector, uint64_t at);
bool versions_allow(uint32_t sector, uint64_t at, const unsigned char *bytes);
/* The next moment at which something became durable; 0: there is none. */
uint64_t versions_next_durable(uint64_t after);
/* For who has to find out what went wrong. */
void versions_print(uint32_t sector, uint64_t at);

#endif
