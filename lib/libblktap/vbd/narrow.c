/* SPDX-License-Identifier: BSD-3-Clause */
/* A graph with larger blocks, or that takes less at once, comes below a disk in use:
 *
 *   wide -> narrow -> (what was cut for the wide limits has ended) -> commit
 *              |  the change fails: widen
 *              +----------------------------> wide
 *
 * Requests are cut and padded above the graph (split.c), and the graph that runs
 * takes all that a narrower one takes. So the disk's limits become narrower first,
 * while I/O runs; then no request is left that the new graph would not take. */
#include "vbd/private.h"

#include <errno.h>

#include "core/error.h"

bool bt_narrow_is_needed(const struct blktap_disk *disk,
			 const struct bt_limits *limits)
{
	return limits->block_size > disk->limits.block_size ||
	       limits->max_transfer < disk->limits.max_transfer ||
	       limits->max_unmap < disk->limits.max_unmap;
}

static bool all_fit(void *opaque)
{
	const struct blktap_disk *disk = opaque;

	return bt_pause_all_fit(disk, &disk->limits);
}

/* The three by which requests are cut; size and operations are promises, and
 * stay. */
static void set(struct blktap_disk *disk, const struct bt_limits *from)
{
	disk->limits.block_size = from->block_size;
	disk->limits.max_transfer = from->max_transfer;
	disk->limits.max_unmap = from->max_unmap;
}

int bt_front_narrow(struct bt_front *front, uint32_t timeout_ms,
		    struct blktap_error **err)
{
	struct blktap_disk *disk = front->owner;
	struct bt_limits to = disk->limits;
	int rc;

	to.block_size =
		(uint32_t)bt_max_u64(to.block_size, disk->wants.block_size);
	to.max_transfer = bt_min_u64(to.max_transfer, disk->wants.max_transfer);
	to.max_unmap = bt_min_u64(to.max_unmap, disk->wants.max_unmap);
	front->wants_narrow = false;
	rc = bt_split_set_block_size(disk, to.block_size);
	if (rc < 0)
		return bt_fail(err, rc, NULL,
			       "disk '%s': no room for blocks of %u bytes",
			       front->name, to.block_size);
	disk->wide = disk->limits;
	disk->is_narrow = true;
	set(disk, &to);
	rc = bt_loop_run_until(disk->context->loop, all_fit, disk,
			       timeout_ms ? (int)timeout_ms : -1);
	return rc < 0 ? bt_fail(err, rc, "give it more time: --deadline",
				"disk '%s' has requests of before under way "
				"that the new graph would not take as they are",
				front->name)
		      : 0;
}

void bt_front_widen(struct bt_front *front)
{
	struct blktap_disk *disk = front->owner;

	front->wants_narrow = false;
	if (disk->is_narrow)
		set(disk, &disk->wide);
	disk->is_narrow = false;
}
