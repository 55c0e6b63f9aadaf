/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk must hold, sector by sector, under random requests, many at a time,
 * none of which overlaps another: each write is a version, stamped all over its
 * sectors. What a request that failed or a power cut leaves is one of a range of
 * versions, and once it was read it stays. */
#ifndef BT_TESTS_FLAT_H
#define BT_TESTS_FLAT_H

#include "rough.h"

#define FLAT_DEPTH 16u
#define FLAT_MAX (64u << 10) /* bytes of one request */

struct flat;

struct flat_sector {
	uint32_t lo, hi; /* it holds one of these versions */
	uint32_t zero; /* the latest version that is zeroes; 0: as it began */
	uint32_t done; /* version of the last write that succeeded */
	uint32_t durable; /* at least this one survives */
};

struct flat_op {
	struct flat *flat;
	struct bt_request *req; /* NULL: it is free */
	uint64_t offset, length; /* the request's may change on its way */
	struct iovec iov;
	unsigned char *data;
	uint32_t version;
	uint32_t *covers; /* FLUSH: what was done when it was submitted */
	struct blktap_extent extents[8];
};

struct flat {
	struct rig *rig;
	struct flat_sector *sectors;
	uint64_t count;
	uint64_t random;
	uint32_t align;
	uint32_t version; /* of the last write */
	uint32_t busy;
	uint32_t errors;
	bool may_fail;
	bool no_discard;
	struct flat_op ops[FLAT_DEPTH];
};

void flat_init(struct flat *flat, struct rig *rig, uint64_t seed);
void flat_fini(struct flat *flat);
uint64_t flat_random(struct flat *flat, uint64_t below);
/* Runs so many random requests and waits for them. */
void flat_run(struct flat *flat, uint32_t count);
/* Reads everything and compares. */
void flat_verify(struct flat *flat);
int flat_flush(struct flat *flat);
/* Waits for all that is under way. */
void flat_wait(struct flat *flat);
/* Makes to what may be there after a power cut now; it is to be freed by
 * flat_fini, and used with a rig of its own. */
void flat_cut(const struct flat *flat, struct flat *to);

#endif
