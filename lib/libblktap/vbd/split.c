/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that the graph cannot take as they are: larger than its transfers,
 * not aligned to its blocks, or zeroes where it can only write data. They go down
 * as parts, each a request of its own from the disk's pool:
 *
 *   |  head  |        whole blocks, at most max_transfer each       | tail |
 *
 * A head or tail goes through a bounce block: a read takes its bytes out of the
 * block; a write locks the block for itself, reads it, puts its bytes in, and
 * writes it back. A discard leaves head and tail alone. The parent waits in
 * disk->splits where no part is free; since parts always come back, it is served
 * in turn. */
#include "vbd/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct bt_part *part_of(struct bt_request *req)
{
	return bt_container_of(req, struct bt_part, req);
}

/* Either it is known that the graph has no zeroing, or it said so when it was
 * asked (req->emulated, see note_error). */
static bool is_emulated(const struct blktap_disk *disk,
			const struct bt_request *req)
{
	return req->op == BLKTAP_OP_WRITE_ZEROES &&
	       (req->emulated ||
		!(disk->graph_operations >> BLKTAP_OP_WRITE_ZEROES & 1u));
}

/* The most that one part of whole blocks may cover. */
static uint64_t part_limit(const struct blktap_disk *disk,
			   const struct bt_request *req)
{
	if (is_emulated(disk, req))
		return bt_min_u64(disk->limits.max_transfer, BT_ZEROES_MAX);
	if (req->op == BLKTAP_OP_DISCARD || req->op == BLKTAP_OP_WRITE_ZEROES)
		return disk->limits.max_unmap;
	return disk->limits.max_transfer;
}

/* FLUSH has no range, BLOCK_STATUS and PREFETCH take any. */
bool bt_split_is_needed(const struct blktap_disk *disk,
			const struct bt_request *req)
{
	uint64_t mask = disk->limits.block_size - 1;

	switch (req->op) {
	case BLKTAP_OP_READ:
	case BLKTAP_OP_WRITE:
		return (req->offset | req->length) & mask ||
		       req->length > disk->limits.max_transfer;
	case BLKTAP_OP_DISCARD:
	case BLKTAP_OP_WRITE_ZEROES:
		return (req->offset | req->length) & mask ||
		       req->length > disk->limits.max_unmap ||
		       is_emulated(disk, req);
	default:
		return false;
	}
}

/* Parts that are out and go through a bounce block. */
static bool are_bounced(const struct blktap_disk *disk)
{
	return disk->bounce_size && disk->bounces_left < BT_PARTS;
}

int bt_split_set_block_size(struct blktap_disk *disk, uint32_t block_size)
{
	void *memory = NULL;
	bool bounced;
	uint32_t i;

	if (disk->bounces && block_size <= disk->bounce_size)
		return 0;
	/* They point into the old blocks, so those are kept until none is out;
	 * only one old set is kept. */
	if (disk->old_bounces && are_bounced(disk))
		return -EBUSY; /* they may be out still */
	if (block_size > 1 &&
	    posix_memalign(&memory, block_size < 4096 ? 4096 : block_size,
			   (size_t)block_size * BT_PARTS))
		return -ENOMEM;
	bounced = are_bounced(disk);
	free(disk->old_bounces);
	disk->old_bounces = disk->bounces;
	disk->bounces = memory;
	disk->bounce_size = block_size;
	if (bounced)
		return 0; /* which blocks are free has not changed */
	free(disk->old_bounces);
	disk->old_bounces = NULL;
	disk->bounces_left = BT_PARTS;
	for (i = 0; i < BT_PARTS; i++)
		disk->bounces_free[i] = i;
	return 0;
}

/* Where the next part of the parent lies, and how long it is. */
static uint64_t next_piece(const struct blktap_disk *disk,
			   const struct bt_request *parent, bool *padded)
{
	uint64_t block = disk->limits.block_size;
	uint64_t at = parent->offset + parent->cursor;
	uint64_t left = parent->length - parent->cursor;
	uint64_t in_block = at & (block - 1);

	*padded = in_block || left < block;
	if (*padded)
		return bt_min_u64(left, block - in_block);
	return bt_min_u64(bt_align_down(left, block), part_limit(disk, parent));
}

/* A window on the bytes of the parent's data that the part covers. */
static struct bt_sgl parent_data(const struct bt_part *part)
{
	struct bt_sgl sgl = part->parent->data;

	bt_sgl_advance(&sgl, part->at);
	return sgl;
}

/* The part reads and writes the frontend's own memory: what is copied is heads
 * and tails alone. */
static void set_data(struct blktap_disk *disk, struct bt_part *part)
{
	struct bt_request *req = &part->req;

	if (is_emulated(disk, part->parent)) {
		req->op = BLKTAP_OP_WRITE;
		req->data = bt_zeroes;
	} else if (part->parent->data.iov) {
		req->data = parent_data(part);
	}
}

/* A padded part: the whole block, through its bounce block, which is free whenever
 * a part is: there are as many. */
static void pad(struct blktap_disk *disk, struct bt_part *part)
{
	uint32_t block = disk->limits.block_size;
	struct bt_request *req = &part->req;

	part->index = disk->bounces_free[--disk->bounces_left];
	part->bounce.iov_base =
		disk->bounces + (size_t)part->index * disk->bounce_size;
	part->bounce.iov_len = block;
	part->writing_back = false;
	req->op = part->parent->op == BLKTAP_OP_READ ? BLKTAP_OP_READ
						     : BLKTAP_OP_WRITE;
	req->offset = bt_align_down(req->offset, block);
	req->length = block;
	req->data.iov = &part->bounce;
	req->data.count = 1;
	req->data.skip = 0;
}

static void part_locked(struct bt_range *range)
{
	struct bt_request *req =
		bt_container_of(range, struct bt_request, range);
	struct blktap_disk *disk = req->range.owner;

	bt_port_submit(&disk->top, req);
}

/* A padded write begins as a read, under the lock of its block: exclusive, from
 * before the read until after the write, since a write of the other bytes of the
 * block in between would be taken back by the old bytes that were read. */
static void send_padded_write(struct blktap_disk *disk, struct bt_part *part)
{
	struct bt_request *req = &part->req;

	bt_list_add_tail(&disk->life, &req->life);
	bt_late_watch(disk);
	req->op = BLKTAP_OP_READ;
	/* It is a read until write_back, and gets it again there. */
	req->flags &= ~BLKTAP_FUA;
	req->range.owner = disk;
	if (bt_range_lock(&disk->ranges, &req->range, req->offset, req->length,
			  true, part_locked))
		bt_port_submit(&disk->top, req);
}

/* The part's deadline counts from the parent's admission. */
static void send_part(struct blktap_disk *disk, struct bt_request *parent,
		      struct bt_part *part, uint64_t bytes, bool padded)
{
	struct bt_request *req = &part->req;

	part->parent = parent;
	part->at = parent->cursor;
	part->bytes = bytes;
	part->padded = padded;
	req->op = parent->op;
	req->flags = parent->flags;
	req->offset = parent->offset + part->at;
	req->length = bytes;
	req->admitted_ns = parent->admitted_ns;
	parent->cursor += bytes;
	parent->pending++;
	set_data(disk, part);
	if (padded)
		pad(disk, part);
	if (padded && req->op == BLKTAP_OP_WRITE)
		send_padded_write(disk, part);
	else
		bt_admit_run(disk, req);
}

/* Sends parts until the parent is all under way or has to wait; true where it
 * has to wait. */
static bool advance(struct blktap_disk *disk, struct bt_request *parent)
{
	while (parent->cursor < parent->length && !parent->error) {
		struct bt_request *req;
		bool padded;
		uint64_t bytes = next_piece(disk, parent, &padded);

		if (padded && parent->op == BLKTAP_OP_DISCARD) {
			parent->cursor += bytes;
			continue;
		}
		req = bt_pool_take(disk->parts);
		if (!req)
			return true;
		send_part(disk, parent, part_of(req), bytes, padded);
	}
	return false;
}

/* FUA of a split write: its parts are written without, and then flushed once.
 * Parts that the graph wrote through itself (native_fua) do not ask for this. */
static void flush_after(struct blktap_disk *disk, struct bt_request *parent)
{
	struct bt_request *req = bt_pool_take(disk->parts);
	struct bt_part *part;

	if (!req) { /* not for long: parts come back */
		bt_list_add_tail(&disk->splits, &parent->link);
		return;
	}
	part = part_of(req);
	part->parent = parent;
	part->bytes = 0;
	part->padded = false;
	parent->was_written = true;
	parent->pending++;
	req->op = BLKTAP_OP_FLUSH;
	req->admitted_ns = parent->admitted_ns;
	bt_admit_run(disk, req);
}

/* All parts are back: the flush that they need, and the end. was_written says
 * that the flush has been sent: its end comes by here again. */
static void conclude(struct blktap_disk *disk, struct bt_request *parent)
{
	if (parent->unflushed && !parent->error && !parent->was_written)
		flush_after(disk, parent);
	else
		bt_admit_finish(disk, parent, parent->error);
}

/* One of the parent's parts is back, or the sending of parts is over. */
static void settle(struct blktap_disk *disk, struct bt_request *parent)
{
	if (--parent->pending)
		return;
	/* Some of its parts may be zeroed already; zeroes over them as data are
	 * right, too. */
	if (parent->attempts && !parent->emulated) {
		parent->error = 0;
		parent->emulated = true;
		bt_list_del(&parent->link);
		bt_split_start(disk, parent);
		return;
	}
	if (parent->error)
		bt_list_del(&parent->link); /* it may wait for a part */
	if (parent->error || parent->cursor == parent->length)
		conclude(disk, parent);
}

/* The parent is on no list here; it goes to the end of splits where it has to
 * wait. */
static void go_on(struct blktap_disk *disk, struct bt_request *parent)
{
	/* a part that completes at once must not end the parent meanwhile */
	parent->pending++;
	if (advance(disk, parent))
		bt_list_add_tail(&disk->splits, &parent->link);
	settle(disk, parent);
}

/* Behind those that wait: a small request must not pass a large one for ever. */
void bt_split_start(struct blktap_disk *disk, struct bt_request *req)
{
	req->cursor = 0;
	req->pending = 0;
	req->emulated = is_emulated(disk, req);
	bt_list_init(&req->link);
	if (bt_list_empty(&disk->splits))
		go_on(disk, req);
	else
		bt_list_add_tail(&disk->splits, &req->link);
}

/* A padded write whose block has been read: put the bytes in, write it back. The
 * lock is held since before the read, so the rest of the block is as it was. */
static void write_back(struct blktap_disk *disk, struct bt_part *part)
{
	struct bt_request *req = &part->req;
	uint64_t at = part->parent->offset + part->at - req->offset;
	char *to = (char *)part->bounce.iov_base + at;
	struct bt_sgl from;

	if (part->parent->op == BLKTAP_OP_WRITE) {
		from = parent_data(part);
		bt_sgl_copy_out(&from, to, part->bytes);
	} else {
		memset(to, 0, part->bytes);
	}
	part->writing_back = true;
	req->op = BLKTAP_OP_WRITE;
	req->flags |= part->parent->flags & BLKTAP_FUA;
	bt_port_submit(&disk->top, req);
}

static void copy_read(struct bt_part *part)
{
	struct bt_sgl to = parent_data(part);
	uint64_t at = part->parent->offset + part->at - part->req.offset;

	bt_sgl_copy_in(&to, (char *)part->bounce.iov_base + at, part->bytes);
}

/* The first error stands; parts that are out still come back, and no more are
 * sent. It is told at once: the node that failed may be gone when they are back, by a
 * pause or a change of the graph. */
static void note_error(struct blktap_disk *disk, struct bt_request *parent,
		       struct bt_request *req)
{
	if (!req->error)
		return;
	if (req->error == -ENOTSUP && parent->op == BLKTAP_OP_WRITE_ZEROES &&
	    !(parent->flags & BLKTAP_FAST_ONLY) && !parent->emulated)
		parent->attempts = 1; /* again from the start, as data */
	if (parent->error)
		return;
	parent->error = req->error;
	if (parent->attempts && !parent->emulated)
		return;
	bt_disk_event(disk, BLKTAP_EVENT_ERROR, req->error, parent,
		      req->failed ? req->failed->name : "", "request failed");
	parent->told = true;
}

/* A part is free: those that wait, in order, as long as there are parts. */
static void serve_waiting(struct blktap_disk *disk)
{
	while (bt_pool_in_use(disk->parts) < BT_PARTS) {
		struct bt_list *node = bt_list_pop(&disk->splits);
		struct bt_request *parent;

		if (!node)
			return;
		parent = bt_list_entry(node, struct bt_request, link);
		if (parent->cursor == parent->length && !parent->pending)
			conclude(disk, parent);
		else
			go_on(disk, parent);
	}
}

/* Those that have parts under way end with the last of them. */
void bt_split_cancel(struct blktap_disk *disk, const struct bt_pool *pool,
		     int error)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &disk->splits) {
		struct bt_request *parent =
			bt_list_entry(pos, struct bt_request, link);

		if (pool && parent->pool != pool)
			continue;
		bt_list_del(pos);
		if (!parent->error)
			parent->error = error;
		if (!parent->pending)
			bt_admit_finish(disk, parent, parent->error);
	}
}

/* A part is back from the graph, or fails in the admission (fail_one). The part
 * is given back before its parent is told, so that the parent's next part finds
 * one. */
void bt_split_part_done(struct blktap_disk *disk, struct bt_request *req)
{
	struct bt_part *part = part_of(req);
	struct bt_request *parent = part->parent;

	if (part->padded && !req->error) {
		if (parent->op == BLKTAP_OP_READ) {
			copy_read(part);
		} else if (!part->writing_back) {
			write_back(disk, part);
			return;
		}
	}
	note_error(disk, parent, req);
	/* of the graph that it went through: its brothers may wait at the gate,
	 * for one that is different */
	if (bt_admit_needs_flush(disk, req, parent->flags))
		parent->unflushed = true;
	if (part->padded)
		disk->bounces_free[disk->bounces_left++] = part->index;
	bt_late_forget(disk, req);
	bt_job_note(disk, &req->range);
	bt_range_unlock(&disk->ranges, &req->range);
	bt_pool_give(req);
	settle(disk, parent);
	serve_waiting(disk);
}
