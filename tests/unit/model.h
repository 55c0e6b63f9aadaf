/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk and a flat array that must always hold the same: random requests, many
 * at a time, none of which overlaps another. */
#ifndef BT_TESTS_MODEL_H
#define BT_TESTS_MODEL_H

#include <blktap/blktap.h>
#include <stdbool.h>

#define MODEL_DEPTH 16u
#define MODEL_PIECES 6u /* of a request's memory */
#define MODEL_MAX (320u << 10) /* bytes of one request */

struct model;

struct model_op {
	struct model *model;
	bool busy;
	enum blktap_op op;
	uint32_t flags;
	uint64_t offset, length;
	unsigned char *data;
	unsigned char *wanted; /* what a write that failed was to leave */
	struct iovec iov[MODEL_PIECES];
	struct blktap_extent extents[64];
	uint32_t extent_count;
	bool raw; /* a read that nothing is compared with */
	bool verify; /* the read that looks what a discard left */
};

struct model {
	struct blktap_context *context;
	struct blktap_disk *disk;
	unsigned char *flat;
	uint64_t size;
	uint32_t align;
	uint64_t random; /* state */
	struct model_op ops[MODEL_DEPTH];
	uint32_t busy;
	uint32_t errors; /* requests that failed */
	bool may_fail; /* a failed write leaves old bytes or new ones */
	bool no_discard;
	bool no_flush;
	/* Where set: these bytes of flat have changed. */
	void (*changed)(struct model *m, uint64_t offset, uint64_t length);
};

void model_init(struct model *m, struct blktap_context *context, uint64_t size,
		uint32_t align, uint64_t seed);
void model_fini(struct model *m);
uint64_t model_random(struct model *m, uint64_t below);
/* Runs count random requests and waits for them. */
void model_run(struct model *m, uint32_t count);
/* Begins one where there is room for it; and waits for all that were begun. */
void model_begin(struct model *m);
void model_wait(struct model *m);
/* Reads all of the disk and compares. */
void model_verify(struct model *m);
/* Reads MODEL_MAX bytes, or up to the end, into the first operation's data. */
void model_read(struct model *m, uint64_t offset);
int model_flush(struct model *m);

#endif
