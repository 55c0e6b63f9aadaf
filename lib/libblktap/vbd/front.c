/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk answers when the graph below it is to change: whether it could go
 * on with what that will take, and that it does. What was promised to who has the
 * disk stays: its size and its operations. */
#include "vbd/private.h"

#include <errno.h>

#include "core/error.h"

static struct blktap_disk *disk_of(const struct bt_front *front)
{
	return front->owner;
}

int bt_front_check(struct bt_front *front, struct blktap_error **err)
{
	struct blktap_disk *disk = disk_of(front);

	if (disk->state == BT_VBD_RUNNING && !disk->edit && !disk->closing &&
	    !disk->pause_waits)
		return 0;
	return bt_fail(err, -EBUSY, "try again when that is over",
		       "disk '%s' is being paused, changed or closed",
		       front->name);
}

/* What every disk of a file promises, however its graph may change: no more than
 * a module takes that comes into it later, and a snapshot takes 16 MiB. */
void bt_front_round(struct bt_limits *limits)
{
	limits->block_size = (uint32_t)bt_max_u64(limits->block_size, 512);
	limits->max_transfer = bt_min_u64(limits->max_transfer, 1u << 20);
	limits->max_unmap = bt_min_u64(limits->max_unmap, 16u << 20);
}

/* Growing is told to who uses the disk (bt_front_done); shrinking takes away what
 * it may be using. */
static int check_size(const struct blktap_disk *disk,
		      const struct bt_limits *now, uint32_t flags,
		      struct blktap_error **err)
{
	if (now->size >= disk->limits.size || flags & BT_RUN_SHRINK)
		return 0;
	return bt_fail(
		err, -EINVAL,
		"allow it: --allow-shrink, or allow_shrink of the change",
		"disk '%s' would shrink from %llu to %llu bytes",
		disk->front.name, (unsigned long long)disk->limits.size,
		(unsigned long long)now->size);
}

/* op: what the disk has and the new graph has not. */
static int would_lose(const struct blktap_disk *disk,
		      const struct bt_node *root, bool read_only,
		      enum blktap_op op, struct blktap_error **err)
{
	static const char *const names[BLKTAP_OP_COUNT] = {
		"reads",   "writes",	   "flushes",	  "discards",
		"zeroing", "block status", "prefetching",
	};
	const char *hint = "who uses the disk was promised that";
	const char *name = disk->front.name;

	if (bt_op_is_writing(op) && read_only)
		return bt_fail(err, -ENOTSUP, hint,
			       "disk '%s' would lose %s: the new graph makes "
			       "it read-only",
			       name, names[op]);
	return bt_fail(
		err, -ENOTSUP, hint, "disk '%s' would lose %s: '%s' (%s) %s",
		name, names[op], root->name, root->cls->name,
		bt_op_is_writing(op) && root->limits.read_only ? "is read-only"
							       : "has none");
}

/* A guest asks once what its disk can do. Prefetching alone may go: it is a hint,
 * and then does nothing (is_idle_hint in admit.c). */
static int check_operations(const struct blktap_disk *disk,
			    const struct bt_node *root, bool read_only,
			    struct blktap_error **err)
{
	uint32_t has = root->limits.operations, op;

	/* what the disk does itself where the graph cannot */
	has |= 1u << BLKTAP_OP_PREFETCH;
	if (has & (1u << BLKTAP_OP_WRITE))
		has |= 1u << BLKTAP_OP_WRITE_ZEROES;
	if (read_only || root->limits.read_only)
		has &= ~BT_OPS_WRITING;
	for (op = 0; op < BLKTAP_OP_COUNT; op++)
		if (disk->limits.operations & ~has & (1u << op))
			return would_lose(disk, root, read_only,
					  (enum blktap_op)op, err);
	return 0;
}

/* Requests that are too large or not aligned enough are cut above the graph; so a
 * graph with narrower limits needs those that are out cut anew, and nothing else. */
static int check_blocks(struct blktap_disk *disk, const struct bt_node *root,
			struct blktap_error **err)
{
	struct bt_limits now = root->limits;

	bt_front_round(&now);
	if (!bt_narrow_is_needed(disk, &now))
		return 0;
	disk->wants = now;
	disk->front.wants_narrow = !disk->is_narrow && !disk->job;
	return bt_fail(err, -EBUSY, "pause and resume it instead",
		       "disk '%s' has requests under way that '%s' would not "
		       "take as they are: it has blocks of %u bytes",
		       disk->front.name, root->name, now.block_size);
}

/* All that can fail of a swing to root; bt_front_commit does not. */
int bt_front_prepare(struct bt_front *front, const struct bt_node *root,
		     bool read_only, uint32_t flags, struct blktap_error **err)
{
	struct blktap_disk *disk = disk_of(front);
	int rc = check_size(disk, &root->limits, flags, err);

	if (!rc && !disk->limits.read_only)
		rc = check_operations(disk, root, read_only, err);
	if (!rc)
		rc = check_blocks(disk, root, err);
	if (!rc)
		rc = bt_disk_reserve(disk, root);
	return rc < 0 ? bt_fail(err, rc, NULL, "out of memory") : 0;
}

/* The edges are held (mason/apply.c), so no request sees half of it. */
void bt_front_commit(struct bt_front *front, struct bt_node *root)
{
	struct blktap_disk *disk = disk_of(front);
	uint32_t prefetch =
		disk->limits.operations & (1u << BLKTAP_OP_PREFETCH);

	disk->size_before = disk->limits.size;
	disk->root = root;
	bt_disk_take_limits(disk, root);
	disk->limits.operations |= prefetch;
	disk->is_narrow = false;
}

/* As if it were paused, for ever. */
void bt_front_gone(struct bt_front *front)
{
	struct blktap_disk *disk = disk_of(front);

	disk->root = NULL;
	disk->state = BT_VBD_PAUSED;
	bt_vbd_shut(disk);
}

void bt_front_done(struct bt_front *front, uint64_t pause_ns, const char *text)
{
	struct blktap_disk *disk = disk_of(front);

	disk->stats.last_pause_ns = pause_ns;
	if (disk->limits.size != disk->size_before)
		bt_disk_tell_resized(disk);
	bt_disk_event(disk, BLKTAP_EVENT_CHANGED, 0, NULL, "", "%s", text);
}

const char *bt_front_where(const struct bt_front *front)
{
	return bt_pause_where(disk_of(front));
}
