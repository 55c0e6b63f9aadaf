/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a copy; only copy.c and copy-lanes.c include it. */
#ifndef BT_VBD_COPY_H
#define BT_VBD_COPY_H

#include <blktap/copy.h>

#include "vbd/private.h"

#define BT_COPY_EXTENTS 128u

struct bt_copy_lane {
	struct blktap_copy *copy;
	struct bt_list link; /* idle, or full */
	/* full: what it was about to submit */
	void (*again)(struct bt_copy_lane *lane);
	unsigned char *buffer;
	struct iovec iov;
	uint64_t offset;
	uint64_t length;
	uint64_t at; /* bytes of the chunk that are written */
	uint64_t run; /* bytes of the run under way */
};

struct blktap_copy {
	struct blktap_disk *source;
	struct blktap_disk *target;
	struct blktap_copy_options options;
	blktap_copy_fn *fn;
	void *opaque;

	struct bt_copy_lane *lanes;
	struct bt_list idle;
	/* Lanes that found all of a disk's requests in use. They may be others',
	 * whose end nobody tells of: so it is tried again by a timer. */
	struct bt_list full;
	struct bt_timer full_timer;
	uint32_t under_way; /* requests, the window's and the flush included */

	struct blktap_extent extents[BT_COPY_EXTENTS];
	uint32_t extent_count;
	uint32_t extent; /* the one handed out next */
	uint64_t extent_at; /* bytes of it that are handed out */
	bool asking; /* a BLOCK_STATUS is under way */

	uint64_t next; /* first byte that is not handed out */
	uint64_t end;
	uint64_t done;
	uint64_t data;
	uint64_t losses; /* of the target, when it began */

	struct bt_timer rate_timer;
	uint64_t free_at_ns; /* when the rate allows the next chunk */

	struct bt_work begin;
	bool flushing;
	bool finished;
	int error;
	char message[256];
};

/* copy-lanes.c: starts what can be started, and ends the copy when all is done. */
void bt_copy_go_on(struct blktap_copy *copy);

#endif
