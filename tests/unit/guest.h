/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest over a graph of platters: random requests, several at a time, none of
 * which overlaps another, each of whose sectors says which write it is from; so
 * that of any disk, also one a power cut has left, it can be told whether every
 * sector is what was last flushed or something written since. */
#ifndef BT_TESTS_GUEST_H
#define BT_TESTS_GUEST_H

#include "module.h"
#include "platter.h"

#define GUEST_DEPTH 8u
#define GUEST_SECTORS 2048u
#define GUEST_VERSIONS 96u
#define GUEST_MAX 128u /* sectors of one request */

struct guest_version {
	uint32_t tag; /* 0: zeroes */
	uint64_t submitted, completed; /* completed 0: failed or under way */
};

struct guest_flush {
	uint64_t submitted, completed;
};

struct guest_op {
	bool busy, done;
	enum blktap_op op;
	uint32_t first, count, tag;
	uint64_t submitted;
	struct bt_request *req;
	struct iovec iov;
	unsigned char data[GUEST_MAX * 512];
};

struct guest {
	struct rig *rig;
	struct bt_port *port; /* a top edge */
	uint32_t sectors, align; /* align: sectors */
	uint32_t next_tag;
	uint32_t errors;
	bool may_fail; /* then reads take any version that may be there */
	uint32_t operations; /* 1u << enum blktap_op */
	struct guest_version history[GUEST_SECTORS][GUEST_VERSIONS];
	uint32_t versions[GUEST_SECTORS];
	struct guest_flush flushes[512];
	uint32_t flush_count;
	struct guest_op ops[GUEST_DEPTH];
};

/* The disk is all zeroes. */
void guest_init(struct guest *g, struct rig *rig, uint32_t sectors,
		uint32_t align);
/* count random requests, and waits for them; platters.hold is on. */
void guest_run(struct guest *g, uint32_t count);
/* Sectors as they may be after a cut right after event `at`. */
void guest_check_cut(struct guest *g, const unsigned char *bytes, uint64_t at,
		     const char *what);
/* Reads everything and compares with what was written last. */
void guest_verify(struct guest *g);
/* Waits for *done with platters held. */
void guest_wait(struct rig *rig, const bool *done);
void guest_fill(unsigned char *sector, uint32_t number, uint32_t tag);
/* The tag of a sector's latest version. */
uint32_t guest_tag(const struct guest *g, uint32_t sector);

#endif
