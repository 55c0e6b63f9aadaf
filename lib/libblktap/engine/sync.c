/* SPDX-License-Identifier: BSD-3-Clause */
/* The backend that always works: plain system calls, one after the other, inside
 * the submission. It blocks its thread and is the last choice. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/private.h"

struct sync_state {
	void (*completed)(void *opaque, struct bt_slot *slot);
	void *opaque;
};

/* ZERO extends a file like a write would. DISCARD asks devices for less than
 * PUNCH does: they need not read as zeroes after. */
int bt_sync_fallocate_mode(const struct bt_slot *slot)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (slot->op == BT_IO_ZERO)
		return FALLOC_FL_ZERO_RANGE;
	if (slot->op == BT_IO_DISCARD && (slot->flags & BT_SLOT_BLOCK))
		mode |= FALLOC_FL_NO_HIDE_STALE;
	return mode;
}

static int64_t perform_fallocate(const struct bt_slot *slot)
{
	uint64_t range[2] = { slot->offset, slot->length };

	/* Linux 6.12 took the mode for it from fallocate. */
	if (slot->op == BT_IO_DISCARD && (slot->flags & BT_SLOT_BLOCK))
		return ioctl(slot->fd, BLKDISCARD, range) < 0 ? -errno : 0;
	if (fallocate(slot->fd, bt_sync_fallocate_mode(slot),
		      (off_t)slot->offset, (off_t)slot->length) < 0)
		return -errno;
	return 0;
}

/* Data, and what is needed to find it again; times of the file are not. */
static int64_t perform_sync(const struct bt_slot *slot)
{
	return fdatasync(slot->fd) < 0 ? -errno : 0;
}

/* One buffer goes without the kernel's copy of a vector. */
static int64_t perform_read(const struct bt_slot *slot)
{
	off_t offset = (off_t)slot->offset;
	int64_t moved;

	if (slot->iov_count == 1)
		moved = pread(slot->fd, slot->iov->iov_base, slot->iov->iov_len,
			      offset);
	else
		moved = preadv(slot->fd, slot->iov, (int)slot->iov_count,
			       offset);
	return moved < 0 ? -errno : moved;
}

/* Where RWF_DSYNC is not known nothing has been written: then the write is made
 * and synced, and an error of either is the write's. */
static int64_t perform_write(const struct bt_slot *slot)
{
	int count = (int)slot->iov_count;
	off_t offset = (off_t)slot->offset;
	int64_t moved, rc;

	if (slot->flags & BT_IO_FUA) {
		moved = pwritev2(slot->fd, slot->iov, count, offset, RWF_DSYNC);
		if (moved >= 0)
			return moved;
		if (errno != EOPNOTSUPP && errno != ENOSYS)
			return -errno;
	}
	if (count == 1)
		moved = pwrite(slot->fd, slot->iov->iov_base,
			       slot->iov->iov_len, offset);
	else
		moved = pwritev(slot->fd, slot->iov, count, offset);
	if (moved < 0)
		return -errno;
	rc = slot->flags & BT_IO_FUA ? perform_sync(slot) : 0;
	return rc < 0 ? rc : moved;
}

int64_t bt_sync_perform(const struct bt_slot *slot)
{
	switch (slot->op) {
	case BT_IO_READ:
		return perform_read(slot);
	case BT_IO_WRITE:
		return perform_write(slot);
	case BT_IO_SYNC:
		return perform_sync(slot);
	case BT_IO_PUNCH:
	case BT_IO_ZERO:
	case BT_IO_DISCARD:
		return perform_fallocate(slot);
	case BT_IO_OP_COUNT:
		break;
	}
	return -EINVAL;
}

static int sync_init(struct bt_loop *loop, uint32_t queue_depth,
		     void (*completed)(void *opaque, struct bt_slot *slot),
		     void *opaque, void **state)
{
	struct sync_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->completed = completed;
	s->opaque = opaque;
	*state = s;
	return 0;
}

static void sync_fini(void *state)
{
	free(state);
}

/* All of it is done when this returns. The queue keeps what ends inside for its
 * hook, so no callback comes here. */
static int sync_submit(void *state, struct bt_slot **slots, uint32_t count)
{
	struct sync_state *s = state;
	uint32_t i;

	for (i = 0; i < count; i++) {
		slots[i]->result = bt_sync_perform(slots[i]);
		s->completed(s->opaque, slots[i]);
	}
	return (int)count;
}

/* Nothing is ever under way. */
static bool sync_reap(void *state)
{
	return false;
}

const struct bt_backend bt_backend_sync = {
	.name = "sync",
	.init = sync_init,
	.fini = sync_fini,
	.submit = sync_submit,
	.reap = sync_reap,
};
