/* SPDX-License-Identifier: BSD-3-Clause */
/* A slot's passes: what it moves next, and what its result means.
 *
 *   result                      then
 *   all of the pass             ios that are whole complete; else next pass
 *   a part                      the same, from where it ended
 *   0, READ                     end of file: zeroes, or -EIO
 *   0, WRITE                    -ENOSPC: the device ends here
 *   -EINTR, -EAGAIN             the same pass again, a bounded number of times
 *   another errno, one io       the io fails
 *   another errno, many ios     each again by itself
 *   no space, cached FUA        once more without, to know whose error it was
 *
 * Progress is kept in the ios (bytes that are done for good), so that a slot can
 * be taken apart and its ios start anew at any point between passes. */
#include "engine/private.h"

#include <errno.h>

#include "util/checked.h"

/* Repeats at once, then on the timer (a millisecond apart), then the error. */
#define ATTEMPTS_AT_ONCE 8
#define ATTEMPTS_MAX 200

/* The others are done or not: no passes. */
static bool is_transfer(const struct bt_engine_slot *slot)
{
	return slot->pub.op == BT_IO_READ || slot->pub.op == BT_IO_WRITE;
}

static struct bt_io *first_io(struct bt_engine_slot *slot)
{
	return bt_list_first(&slot->pub.ios, struct bt_io, link);
}

/* The part of an io's memory that is not done. */
static struct bt_sgl rest_of(const struct bt_io *io)
{
	struct bt_sgl sgl = io->data;

	if (io->progress)
		bt_sgl_advance(&sgl, io->progress);
	return sgl;
}

/* One io and one buffer a pass. The buffer stays the slot's until the io has
 * ended, so that a long one cannot be stopped halfway for want of it. */
static bool prepare_bounce(struct bt_engine *engine,
			   struct bt_engine_slot *slot)
{
	struct bt_slot *pub = &slot->pub;
	struct bt_io *io = first_io(slot);
	struct bt_sgl rest = rest_of(io);

	if (!pub->bounce) {
		pub->bounce = bt_bounce_get(&engine->bounces);
		if (!pub->bounce)
			return false;
		engine->stats.bounced++;
	}
	pub->length = bt_min_u64(io->length - io->progress, BT_BOUNCE_BYTES);
	if (pub->op == BT_IO_WRITE)
		bt_sgl_copy_out(&rest, pub->bounce, pub->length);
	slot->iov[0].iov_base = pub->bounce;
	slot->iov[0].iov_len = (size_t)pub->length;
	pub->iov_count = 1;
	slot->closed = true;
	return true;
}

/* The first io's vector; a long one is cut to a pass. */
static void prepare_vector(struct bt_engine_slot *slot)
{
	struct bt_slot *pub = &slot->pub;
	struct bt_io *io = first_io(slot);
	struct bt_sgl rest = rest_of(io);
	uint64_t left = io->length - io->progress;

	pub->iov_count = bt_sgl_to_iov(&rest, bt_min_u64(left, BT_PASS_BYTES),
				       slot->iov, BT_SLOT_IOV, &pub->length);
	if (pub->length < left)
		slot->closed = true;
}

/* Appends the ios behind the first, as many as fit whole. */
static void append_rest(struct bt_engine_slot *slot)
{
	struct bt_slot *pub = &slot->pub;
	struct bt_io *first = first_io(slot);
	struct bt_list *pos;

	if (pub->length < first->length - first->progress)
		return;
	bt_list_for_each (pos, &pub->ios) {
		struct bt_io *io = bt_list_entry(pos, struct bt_io, link);
		uint64_t covered;
		uint32_t count;

		if (io == first)
			continue;
		count = bt_sgl_to_iov(&io->data, io->length,
				      slot->iov + pub->iov_count,
				      BT_SLOT_IOV - pub->iov_count, &covered);
		if (covered < io->length)
			return;
		pub->iov_count += count;
		pub->length += covered;
	}
}

/* Whether O_DIRECT can take the pass that is set up. */
static bool fits_direct(const struct bt_engine_slot *slot)
{
	const struct bt_file *file = slot->file;
	const struct bt_slot *pub = &slot->pub;
	struct bt_sgl sgl = { .iov = pub->iov, .count = pub->iov_count };

	return !(pub->length & (file->offset_align - 1)) &&
	       bt_sgl_is_aligned(&sgl, pub->length, file->memory_align);
}

/* Memory that suits at the beginning may not suit behind a part: so each pass
 * looks anew. */
bool bt_transfer_prepare(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	struct bt_slot *pub = &slot->pub;
	struct bt_io *io = first_io(slot);

	pub->offset = io->offset + io->progress;
	pub->iov_count = 0;
	if (!is_transfer(slot)) {
		pub->length = io->length;
		return true;
	}
	prepare_vector(slot);
	if (bt_unlikely(!pub->length))
		return true; /* no memory: finish says -EINVAL */
	if (slot->file->direct && !fits_direct(slot))
		return prepare_bounce(engine, slot);
	/* what moved reads of a slot with a buffer is taken from there */
	bt_queue_drop_bounce(engine, slot);
	if (io->link.next != &pub->ios)
		append_rest(slot);
	return true;
}

void bt_transfer_complete(struct bt_engine *engine, struct bt_io *io, int error)
{
	io->file->in_flight--;
	io->done(io, error);
}

/* The slot is free before the first callback, which may submit at once. */
static void complete_all(struct bt_engine *engine, struct bt_engine_slot *slot,
			 int error)
{
	struct bt_list ios = BT_LIST_INIT(ios);
	struct bt_list *node;

	bt_list_splice_tail(&ios, &slot->pub.ios);
	bt_queue_free_slot(engine, slot);
	while ((node = bt_list_pop(&ios)))
		bt_transfer_complete(
			engine, bt_list_entry(node, struct bt_io, link), error);
}

/* The kernel tells of a page that it could not write once, to whoever syncs first,
 * and then has it for clean. Where that is a cached write with FUA, the page may be
 * one that another write left, so the next sync has to say it again. A file in memory is
 * written out nowhere: there the error is the write's own. */
static bool is_cached_fua(const struct bt_engine_slot *slot)
{
	return slot->pub.flags & BT_IO_FUA && !slot->file->direct &&
	       !slot->file->in_memory;
}

static void note_lost(struct bt_engine_slot *slot, int error)
{
	if (error == -EIO && is_cached_fua(slot))
		slot->file->lost = error;
}

/* In company nobody knows whose fault it was: each tries again alone, and what was
 * done of it stays done. */
static void fail(struct bt_engine *engine, struct bt_engine_slot *slot,
		 int error)
{
	struct bt_list *ios = &slot->pub.ios;

	note_lost(slot, error);
	if (ios->next == ios->prev) {
		complete_all(engine, slot, error);
		return;
	}
	bt_list_splice_tail(&engine->alone, ios);
	bt_queue_free_slot(engine, slot);
}

/* Lack of space is the write's own, as a rule, and may pass; but servers and thin
 * devices tell of it when pages are written out. Without FUA it is the write's own
 * alone: so one that goes well then says that pages are lost. */
static bool is_in_doubt(struct bt_engine_slot *slot)
{
	int64_t error = slot->pub.result;

	if ((error != -ENOSPC && error != -EDQUOT) || !is_cached_fua(slot))
		return false;
	slot->doubt = (int)error;
	slot->closed = true;
	slot->pub.flags &= ~BT_IO_FUA;
	return true;
}

static void judge(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	if (slot->pub.result > 0)
		slot->file->lost = slot->doubt;
	fail(engine, slot, slot->doubt);
}

/* Interruptions come in bursts and pass; one that does not is an error after
 * ATTEMPTS_MAX, some 0.2 s. */
static void again(struct bt_engine *engine, struct bt_engine_slot *slot,
		  int error)
{
	engine->stats.retries++;
	if (++slot->attempts >= ATTEMPTS_MAX) {
		fail(engine, slot, error);
	} else if (slot->attempts <= ATTEMPTS_AT_ONCE) {
		bt_queue_make_ready(engine, slot);
	} else {
		bt_list_add_tail(&engine->delayed, &slot->pub.link);
		bt_queue_retry_soon(engine);
	}
}

/* Nothing of the slot's ios lies in the file from their progress on. */
static void end_of_file(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	struct bt_list *pos;

	if (!slot->file->eof_ok) {
		complete_all(engine, slot, -EIO);
		return;
	}
	bt_list_for_each (pos, &slot->pub.ios) {
		struct bt_io *io = bt_list_entry(pos, struct bt_io, link);
		struct bt_sgl rest = rest_of(io);

		bt_sgl_zero(&rest, io->length - io->progress);
	}
	complete_all(engine, slot, 0);
}

/* Credits bytes to the ios in order; those that are whole move to done. */
static void credit(struct bt_engine_slot *slot, uint64_t bytes,
		   struct bt_list *done)
{
	while (!bt_list_empty(&slot->pub.ios)) {
		struct bt_io *io = first_io(slot);
		uint64_t part = bt_min_u64(bytes, io->length - io->progress);

		io->progress += part;
		bytes -= part;
		if (io->progress < io->length)
			return;
		bt_list_del(&io->link);
		bt_list_add_tail(done, &io->link);
	}
}

/* The next pass, or the end where nothing is left. */
static void go_on(struct bt_engine *engine, struct bt_engine_slot *slot,
		  bool at_end)
{
	slot->closed = true;
	if (bt_list_empty(&slot->pub.ios)) {
		bt_queue_free_slot(engine, slot);
	} else if (at_end) {
		end_of_file(engine, slot);
	} else if (bt_transfer_prepare(engine, slot)) {
		bt_queue_make_ready(engine, slot);
	} else {
		/* No bounce buffer now: as new ios, first in the line. */
		bt_list_splice_tail(&engine->alone, &slot->pub.ios);
		bt_queue_free_slot(engine, slot);
	}
}

static void moved(struct bt_engine *engine, struct bt_engine_slot *slot,
		  uint64_t bytes)
{
	struct bt_slot *pub = &slot->pub;
	struct bt_list done = BT_LIST_INIT(done);
	uint64_t tail = bytes & (slot->file->offset_align - 1);
	struct bt_list *node;
	bool at_end = false;

	if (bytes < pub->length)
		engine->stats.short_transfers++;
	if (pub->bounce && pub->op == BT_IO_READ) {
		struct bt_sgl rest = rest_of(first_io(slot));

		bt_sgl_copy_in(&rest, pub->bounce, bytes);
	}
	/* O_DIRECT cannot go on from an odd place. A read ends there only with
	 * the file; a write repeats its last block. */
	if (tail && pub->op == BT_IO_READ)
		at_end = true;
	else if (tail)
		bytes -= tail;
	if (!bytes) {
		again(engine, slot, -EIO);
		return;
	}
	slot->attempts = 0;
	credit(slot, bytes, &done);
	go_on(engine, slot, at_end);
	while ((node = bt_list_pop(&done)))
		bt_transfer_complete(
			engine, bt_list_entry(node, struct bt_io, link), 0);
}

/* Whether one whole pass was all there was to do: the common case. */
static bool is_whole(const struct bt_engine_slot *slot)
{
	const struct bt_slot *pub = &slot->pub;

	return (uint64_t)pub->result == pub->length && !slot->closed &&
	       !pub->bounce;
}

/* More than was asked for is no result that anybody could use. */
void bt_transfer_finish(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	struct bt_slot *pub = &slot->pub;

	if (bt_unlikely(pub->result == -EINTR || pub->result == -EAGAIN))
		again(engine, slot, (int)pub->result);
	else if (bt_unlikely(slot->doubt))
		judge(engine, slot);
	else if (bt_unlikely(pub->result < 0 && is_in_doubt(slot)))
		bt_queue_make_ready(engine, slot);
	else if (bt_unlikely(pub->result < 0))
		fail(engine, slot, (int)pub->result);
	else if (!is_transfer(slot))
		complete_all(engine, slot, 0);
	else if (bt_unlikely(!pub->length))
		fail(engine, slot, -EINVAL);
	else if (pub->result && pub->result > (int64_t)pub->length)
		fail(engine, slot, -EIO);
	else if (is_whole(slot))
		complete_all(engine, slot, 0);
	else if (pub->result)
		moved(engine, slot, (uint64_t)pub->result);
	else if (pub->op == BT_IO_READ)
		end_of_file(engine, slot);
	else
		fail(engine, slot, -ENOSPC);
}
