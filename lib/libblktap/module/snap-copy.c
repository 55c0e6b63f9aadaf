/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying what a live write is about to change. One batch at a time:
 *
 *   lock      the chunks, so that reads of the image that are under way in the
 *             origin end first
 *   read      them from the origin
 *   write     them to free slots of the delta; flush
 *   map       write the entries; flush
 *   finish    the chunks are the delta's; writes that wait for no other go on
 *
 * What comes meanwhile waits, in order, for the next batch: so that the two
 * flushes are shared by all that came during the last one. A chunk that cannot be
 * copied is the end of the image (on_full=drop-image), which is made durable
 * before any write goes on, or of the writes that want it (stop). */
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "module/snap.h"
#include "util/bytes.h"
#include "util/checked.h"

#define DROP_TRIES 8u

static void kick(struct bt_snap *snap);

static struct bt_request *entry(struct bt_list *at)
{
	return bt_list_entry(at, struct bt_request, link);
}

static uint64_t first_chunk(const struct bt_snap *snap,
			    const struct bt_request *req)
{
	return req->offset / snap->chunk;
}

static uint64_t last_chunk(const struct bt_snap *snap,
			   const struct bt_request *req)
{
	return (req->offset + req->length - 1) / snap->chunk;
}

static bool is_copied(const struct bt_snap *snap, const struct bt_request *req)
{
	uint64_t c, last = last_chunk(snap, req);

	for (c = first_chunk(snap, req); c <= last; c++)
		if (!snap->slots[c])
			return false;
	return true;
}

/* ---- the end of the image -------------------------------------------------- */

/* The state is DROPPED: none of them is looked at again. */
static void pass_all(struct bt_snap *snap)
{
	struct bt_list *at;

	while ((at = bt_list_pop(&snap->waiting)))
		bt_port_submit(snap->origin, entry(at));
}

/* Durable before a write passes without a copy: else a crash would leave an
 * image that looks whole and is not. Where the header cannot be written at all,
 * the disk's life goes before the image's. */
static void dropped(struct bt_header_writer *writer, int error)
{
	struct bt_snap *snap = writer->opaque;
	char reason[BT_STRERROR_MAX];

	/* the disk goes on without its image, but not before it was tried
	 * hard to say so */
	if (error && ++snap->drop_tries < DROP_TRIES) {
		bt_header_writer_go(writer, dropped);
		return;
	}
	if (error)
		bt_log(snap->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: '%s' does not even say that its image is lost "
		       "(%s): do not use it again",
		       snap->node->name, snap->delta->lower->name,
		       bt_strerror(error, reason));
	snap->state = BT_SNAP_DROPPED;
	pass_all(snap);
}

/* The flag is in the payload (offset 4); no state of the map matters behind it.
 */
static void drop(struct bt_snap *snap, int error)
{
	char reason[BT_STRERROR_MAX];

	bt_log(snap->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: the image is dropped: old data cannot be kept in '%s': %s",
	       snap->node->name, snap->delta->lower->name,
	       bt_strerror(error, reason));
	snap->state = BT_SNAP_DROPPING;
	snap->drop_tries = 0;
	bt_store_le32(snap->header.payload + 4, 1);
	snap->writer.opaque = snap;
	bt_header_writer_go(&snap->writer, dropped);
}

/* Fails the writes that want the chunk. The request has changed nothing, and
 * may be sent again when there is room. */
static void refuse(struct bt_snap *snap, uint64_t chunk, int error)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &snap->waiting) {
		struct bt_request *req = entry(pos);

		if (chunk < first_chunk(snap, req) ||
		    chunk > last_chunk(snap, req))
			continue;
		bt_list_del(pos);
		bt_request_complete(req, error);
	}
}

static void cannot_copy(struct bt_snap *snap, uint64_t chunk, int error)
{
	if (snap->stop_when_full)
		refuse(snap, chunk, error);
	else if (snap->state == BT_SNAP_ACTIVE)
		drop(snap, error);
}

/* ---- a batch --------------------------------------------------------------- */

static struct bt_snap *of_task(struct bt_task *task)
{
	return bt_container_of(task, struct bt_snap, task);
}

static uint64_t length_of(const struct bt_snap *snap, uint64_t chunk)
{
	return bt_min_u64(snap->chunk, snap->size - chunk * snap->chunk);
}

/* An error of the whole step; what failed by itself keeps its own. */
static void fail_all(struct bt_snap *snap, int error)
{
	uint32_t i;

	for (i = 0; error && i < snap->item_count; i++)
		if (!snap->items[i].error)
			snap->items[i].error = error;
}

/* Chunks that are copied become the delta's, their locks are let go, and a
 * write goes on when all of its chunks are. Reads of the image that waited for
 * a lock find the new slot. */
static void finish(struct bt_snap *snap)
{
	uint32_t i, count = snap->item_count;
	struct bt_list *pos, *tmp;

	for (i = 0; i < count; i++) {
		struct bt_snap_item *item = &snap->items[i];

		/* a slot of a failed copy stays taken: its entry may be there
		 */
		if (!item->error) {
			snap->slots[item->chunk] = item->slot + 1;
			snap->copied++;
		}
		bt_buffers_give(&snap->buffers, item->buffer);
	}
	for (i = 0; i < count; i++)
		bt_range_unlock(&snap->lock, &snap->items[i].range);
	for (i = 0; i < count; i++)
		if (snap->items[i].error)
			cannot_copy(snap, snap->items[i].chunk,
				    snap->items[i].error);
	snap->item_count = 0;
	if (snap->state != BT_SNAP_ACTIVE)
		return; /* dropped() lets them go */
	bt_list_for_each_safe (pos, tmp, &snap->waiting)
		if (is_copied(snap, entry(pos))) {
			bt_list_del(pos);
			bt_port_submit(snap->origin, entry(pos));
		}
	kick(snap);
}

static void map_flushed(struct bt_task *task)
{
	struct bt_snap *snap = of_task(task);

	fail_all(snap, task->error);
	finish(snap);
}

static void flush(struct bt_snap *snap, void (*then)(struct bt_task *task))
{
	bt_task_begin(&snap->task, then);
	bt_task_add(&snap->task, snap->pool, snap->delta, BLKTAP_OP_FLUSH, 0,
		    NULL, 0, NULL);
	bt_task_end(&snap->task);
}

static void map_written(struct bt_task *task)
{
	struct bt_snap *snap = of_task(task);

	fail_all(snap, task->error);
	/* without the flush: some of the entries may be on disk. They are true,
	 * as the chunks are not written before a later copy of them is. */
	if (task->error)
		finish(snap);
	else
		flush(snap, map_flushed);
}

/* A failed copy's slot is taken in memory, so its entry goes out with the others
 * of its block: clear it, its data is not there. Its entry is on no disk yet,
 * so the slot can be taken by another chunk. */
static void forget_failed(struct bt_snap *snap)
{
	uint32_t i;

	for (i = 0; i < snap->item_count; i++) {
		struct bt_snap_item *item = &snap->items[i];

		if (!item->error || !snap->chunks[item->slot])
			continue;
		snap->chunks[item->slot] = 0;
		snap->used--;
	}
}

/* An entry is written only when its data is durable. Items of one block of the
 * map are written by one transfer: slots are taken in order. */
static void data_flushed(struct bt_task *task)
{
	struct bt_snap *snap = of_task(task);
	uint64_t last = 0;
	uint32_t i;

	fail_all(snap, task->error);
	forget_failed(snap);
	bt_task_begin(task, map_written);
	for (i = 0; i < snap->item_count; i++) {
		struct bt_snap_item *item = &snap->items[i];
		char *block = snap->map + (size_t)i * BT_SNAP_BLOCK;
		uint64_t at = bt_snap_map_at(item->slot);

		if (item->error || at == last)
			continue;
		last = at;
		bt_snap_encode(snap, item->slot, block);
		bt_task_add(task, snap->pool, snap->delta, BLKTAP_OP_WRITE, at,
			    block, BT_SNAP_BLOCK, NULL);
	}
	bt_task_end(task);
}

/* One flush for all chunks of the batch. */
static void data_written(struct bt_task *task)
{
	flush(of_task(task), data_flushed);
}

/* Where a read failed the slot gets nothing. A chunk behind the image's end is
 * padded with zeroes (locked), so slots are whole. */
static void data_read(struct bt_task *task)
{
	struct bt_snap *snap = of_task(task);
	uint32_t i;

	bt_task_begin(task, data_written);
	for (i = 0; i < snap->item_count; i++) {
		struct bt_snap_item *item = &snap->items[i];

		if (!item->error)
			bt_task_add(task, snap->pool, snap->delta,
				    BLKTAP_OP_WRITE,
				    snap->data_at +
					    (uint64_t)item->slot * snap->chunk,
				    item->buffer, snap->chunk, &item->error);
	}
	bt_task_end(task);
}

/* All locks are had: no read of the image is under way in the origin for these
 * chunks, and none begins. */
static void locked(struct bt_snap *snap)
{
	struct bt_task *task = &snap->task;
	uint32_t i;

	bt_task_begin(task, data_read);
	for (i = 0; i < snap->item_count; i++) {
		struct bt_snap_item *item = &snap->items[i];
		uint64_t length = length_of(snap, item->chunk);

		memset(item->buffer + length, 0, snap->chunk - length);
		bt_task_add(task, snap->pool, snap->origin, BLKTAP_OP_READ,
			    item->range.offset, item->buffer, length,
			    &item->error);
	}
	bt_task_end(task);
}

static void granted(struct bt_range *range)
{
	struct bt_snap *snap = range->owner;

	if (--snap->locks_left == 0)
		locked(snap);
}

static bool is_chosen(const struct bt_snap *snap, uint64_t chunk)
{
	uint32_t i;

	for (i = 0; i < snap->item_count; i++)
		if (snap->items[i].chunk == chunk)
			return true;
	return false;
}

/* Adds what req wants to the batch; false where the batch is full. -> *full: the
 * chunk for which the delta has no slot. */
static bool choose(struct bt_snap *snap, const struct bt_request *req,
		   uint64_t *full)
{
	uint64_t c, last = last_chunk(snap, req);

	for (c = first_chunk(snap, req); c <= last; c++) {
		struct bt_snap_item *item = &snap->items[snap->item_count];

		if (snap->slots[c] || is_chosen(snap, c))
			continue;
		if (snap->item_count == BT_SNAP_BATCH)
			return false;
		if (bt_snap_take_slot(snap, c, &item->slot) < 0) {
			*full = c;
			return false;
		}
		item->chunk = c;
		item->error = 0;
		item->buffer = bt_buffers_take(&snap->buffers);
		snap->item_count++;
	}
	return true;
}

/* Batches are the only ones that lock exclusively, and there is one at a time;
 * so the order in which locks are asked for cannot make two wait for each
 * other. */
static void lock_all(struct bt_snap *snap)
{
	uint32_t i, count = snap->item_count;

	snap->locks_left = count + 1;
	for (i = 0; i < count; i++) {
		struct bt_range *range = &snap->items[i].range;

		range->owner = snap;
		if (bt_range_lock(&snap->lock, range,
				  snap->items[i].chunk * snap->chunk,
				  length_of(snap, snap->items[i].chunk), true,
				  granted))
			snap->locks_left--;
	}
	if (--snap->locks_left == 0)
		locked(snap);
}

/* Begins a batch for the oldest that wait. Goes on until a batch is under way
 * or nobody waits. Where not one chunk could be chosen, the delta is full, and
 * the oldest write is what that is about. */
static void kick(struct bt_snap *snap)
{
	struct bt_list *pos;
	uint64_t full;

	while (!snap->item_count && snap->state == BT_SNAP_ACTIVE &&
	       !bt_list_empty(&snap->waiting)) {
		full = UINT64_MAX;
		bt_list_for_each (pos, &snap->waiting)
			if (!choose(snap, entry(pos), &full))
				break;
		if (snap->item_count)
			lock_all(snap);
		else
			cannot_copy(snap, full, -ENOSPC);
	}
}

/* In DROPPING it waits, whether copied or not, until dropped() lets all go. A
 * write behind others that wait may pass them where its chunks are copied:
 * writes that do not overlap have no order, and those that do have none until
 * they are answered. */
void bt_snap_write(struct bt_snap *snap, struct bt_request *req)
{
	if (snap->state == BT_SNAP_DROPPED ||
	    (snap->state == BT_SNAP_ACTIVE && is_copied(snap, req))) {
		bt_port_submit(snap->origin, req);
		return;
	}
	bt_list_add_tail(&snap->waiting, &req->link);
	kick(snap);
}
