/* SPDX-License-Identifier: BSD-3-Clause */
/* From bt_engine_submit to the backend.
 *
 * An io waits in `pending` until the loop is about to wait (the idle hook) or
 * somebody kicks. Then ios become slots, neighbours sharing one, and all slots
 * go to the kernel in one call; what it finished within that call is reaped in
 * the same hook. Nothing waits for a neighbour to come: only what is there
 * already is merged. Ios that find no free slot stay in order. */
#include "engine/private.h"

#include <errno.h>

#include "util/checked.h"

#define RETRY_NS 1000000ull /* of what the kernel could not take */
#define HELPING_MIN 2 /* below, a call costs more than it brings */
#define REAP_PARTS 8 /* of what the device has, one is taken at once */
#define SUBMIT_PARTS 4 /* and one of these given */

/* There is room: ready has a place for each slot, and a slot is in it once. */
void bt_queue_make_ready(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	engine->ready[engine->ready_count++] = &slot->pub;
}

void bt_queue_drop_bounce(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	if (bt_likely(!slot->pub.bounce))
		return;
	bt_bounce_put(&engine->bounces, slot->pub.bounce);
	slot->pub.bounce = NULL;
}

/* In front, so that few slots are used and stay in the processor's cache. Its
 * buffer goes back at once: others may wait for one. */
void bt_queue_free_slot(struct bt_engine *engine, struct bt_engine_slot *slot)
{
	bt_queue_drop_bounce(engine, slot);
	bt_list_add(&engine->free, &slot->pub.link);
}

/* The heap has kept a place for the timer since the engine was created. */
void bt_queue_retry_soon(struct bt_engine *engine)
{
	if (!engine->retry.loop)
		bt_timer_arm(engine->loop, &engine->retry,
			     bt_loop_now(engine->loop) + RETRY_NS);
}

/* What a backend would cut or refuse in words of its own. A file that lost data
 * (transfer.c) fails each sync, whatever the kernel would say. */
static int check_io(const struct bt_io *io)
{
	const struct bt_file *file = io->file;
	uint64_t end;

	if (io->op == BT_IO_SYNC)
		return file->lost;
	if (io->op >= BT_IO_OP_COUNT ||
	    !bt_checked_add(io->offset, io->length, &end) || end > INT64_MAX)
		return -EINVAL;
	/* offset_align is a power of two. */
	if ((io->offset | io->length) & (file->offset_align - 1))
		return -EINVAL;
	return 0;
}

void bt_queue_refuse(struct bt_engine *engine, struct bt_io *io, int error)
{
	io->progress = (uint64_t)(int64_t)error;
	bt_list_add_tail(&engine->refused, &io->link);
	bt_loop_poke(engine->loop);
}

/* ---- helpings ---------------------------------------------------------------
 * A device that is given 32 requests at once may answer all 32 at once, and then
 * stands idle while we work, and we while it works. Small helpings, to it and
 * from it, keep both busy. Where the kernel finished most of a batch inside the
 * call (the page cache), there is no device to keep busy. */
static uint32_t helping(uint32_t outstanding, uint32_t parts)
{
	uint32_t part = outstanding / parts;

	return part < HELPING_MIN ? HELPING_MIN : part;
}

void bt_pace_took(struct bt_pace *pace, uint32_t taken, uint32_t done_inside)
{
	pace->in_kernel += taken;
	pace->has_device = done_inside < taken - taken / 4;
	pace->reap_limit = BT_REAP_MAX;
	if (pace->has_device)
		pace->reap_limit = (uint32_t)bt_min_u64(
			helping(pace->in_kernel, REAP_PARTS), BT_REAP_MAX);
}

/* Whether to begin with what is pending before the turn is over: a device that
 * has little to do should get its share now. */
static bool is_a_helping(const struct bt_engine *engine)
{
	const struct bt_pace *pace;

	if (!engine->backend->pace || engine->pending_runs < HELPING_MIN)
		return false;
	pace = engine->backend->pace(engine->state);
	return pace->has_device &&
	       engine->pending_runs >=
		       helping(pace->in_kernel + engine->pending_runs,
			       SUBMIT_PARTS);
}

/* Runs are counted as they come, to know how many transfers are pending without
 * looking through them. */
static bool is_next_to_last(const struct bt_engine *engine,
			    const struct bt_io *io)
{
	const struct bt_io *last =
		bt_list_entry(engine->pending.prev, struct bt_io, link);

	return last->file == io->file && last->op == io->op &&
	       last->offset + last->length == io->offset;
}

/* The first one makes sure that the hook comes before the loop waits. */
static void add_pending(struct bt_engine *engine, struct bt_io *io)
{
	bool is_first = bt_list_empty(&engine->pending);

	if (is_first)
		bt_loop_poke(engine->loop);
	if (is_first || !is_next_to_last(engine, io))
		engine->pending_runs++;
	bt_list_add_tail(&engine->pending, &io->link);
}

/* What is moved is of whole blocks within the file, as its requester has seen to; and
 * a file in memory asks for no alignment. */
void bt_engine_submit(struct bt_io *io)
{
	struct bt_engine *engine = io->file->engine;
	int error;

	io->file->in_flight++;
	io->progress = 0;
	if (bt_unlikely(io->flags & BT_IO_MOVE)) {
		engine->stats.submitted[io->op]++;
		bt_move_add(engine, io);
		return;
	}
	error = check_io(io);
	if (bt_unlikely(error || (!io->length && io->op != BT_IO_SYNC))) {
		bt_queue_refuse(engine, io, error);
		return;
	}
	engine->stats.submitted[io->op]++;
	if (bt_unlikely(is_a_helping(engine)))
		bt_engine_kick(engine);
	add_pending(engine, io);
}

/* What moves bytes; the others have a range, or nothing. */
static bool is_transfer(enum bt_io_op op)
{
	return op == BT_IO_READ || op == BT_IO_WRITE;
}

/* Whether the slot's memory is what the file can take; one pass that is neither
 * aligned nor the whole io goes through a bounce buffer as well. */
static bool takes_memory(const struct bt_file *file, const struct bt_io *io)
{
	return !file->direct ||
	       bt_sgl_is_aligned(&io->data, io->length, file->memory_align);
}

/* A slot is one call with one set of flags and one piece of the file. An io
 * that has to bounce goes alone, as its buffer holds one pass of it. */
static bool can_join(const struct bt_engine_slot *slot, const struct bt_io *io)
{
	const struct bt_slot *pub = &slot->pub;
	uint64_t most = io->file->streams ? BT_STREAM_BYTES : BT_MERGE_BYTES;

	if (slot->closed || slot->file != io->file || pub->op != io->op ||
	    pub->offset + pub->length != io->offset ||
	    (pub->flags & ~BT_SLOT_BLOCK) != io->flags)
		return false;
	if (!is_transfer(io->op))
		return io->op != BT_IO_SYNC;
	return io->length <= most && pub->length <= most - io->length &&
	       io->data.count <= BT_SLOT_IOV - pub->iov_count &&
	       takes_memory(io->file, io);
}

/* False where the io's memory is shorter than its length: it then fails in a
 * slot of its own. */
static bool join(struct bt_engine *engine, struct bt_engine_slot *slot,
		 struct bt_io *io)
{
	struct bt_slot *pub = &slot->pub;
	uint64_t covered = io->length;
	uint32_t count = 0;

	if (is_transfer(io->op))
		count = bt_sgl_to_iov(&io->data, io->length,
				      pub->iov + pub->iov_count,
				      BT_SLOT_IOV - pub->iov_count, &covered);
	if (covered != io->length)
		return false;
	pub->iov_count += count;
	pub->length += io->length;
	bt_list_del(&io->link);
	bt_list_add_tail(&pub->ios, &io->link);
	engine->stats.merged++;
	return true;
}

/* NULL: there is no slot or no buffer, and the io is where it was, or refused.
 * alone: it failed in company, and is to have an error of its own. */
static struct bt_engine_slot *start(struct bt_engine *engine, struct bt_io *io,
				    bool alone)
{
	struct bt_engine_slot *slot;

	if (bt_list_empty(&engine->free))
		return NULL;
	slot = bt_list_first(&engine->free, struct bt_engine_slot, pub.link);
	slot->file = io->file;
	slot->attempts = 0;
	slot->doubt = 0;
	slot->closed = alone;
	slot->pub.op = io->op;
	slot->pub.flags = io->flags;
	if (io->file->is_block)
		slot->pub.flags |= BT_SLOT_BLOCK;
	if (io->file->streams && io->op == BT_IO_READ &&
	    io->length >= BT_STREAM_BYTES)
		slot->pub.flags |= BT_SLOT_THREAD;
	slot->pub.fd = io->file->fd;
	bt_list_del(&io->link);
	bt_list_add(&slot->pub.ios, &io->link);
	if (bt_transfer_prepare(engine, slot)) {
		bt_list_del(&slot->pub.link);
		return slot;
	}
	bt_list_del(&io->link);
	if (bt_bounce_is_idle(&engine->bounces))
		bt_queue_refuse(engine, io, -ENOMEM);
	else /* until a buffer comes back */
		bt_list_add(alone ? &engine->alone : &engine->pending,
			    &io->link);
	return NULL;
}

/* Ios to slots, as far as there are slots and buffers. */
static void fill(struct bt_engine *engine)
{
	struct bt_engine_slot *slot = NULL;

	for (;;) {
		bool alone = !bt_list_empty(&engine->alone);
		struct bt_list *list =
			alone ? &engine->alone : &engine->pending;
		struct bt_io *io;

		if (bt_list_empty(list))
			return;
		io = bt_list_first(list, struct bt_io, link);
		if (slot && !alone && can_join(slot, io) &&
		    join(engine, slot, io))
			continue;
		slot = start(engine, io, alone);
		if (!slot)
			return;
		bt_queue_make_ready(engine, slot);
	}
}

/* Batches are short: what is left moves up. */
static void drop_ready(struct bt_engine *engine, uint32_t count)
{
	uint32_t i;

	engine->ready_count -= count;
	for (i = 0; i < engine->ready_count; i++)
		engine->ready[i] = engine->ready[i + count];
}

/* The kernel's way to say that it has too much to do. */
static bool is_later(int rc)
{
	return rc == 0 || rc == -EAGAIN || rc == -EINTR || rc == -EBUSY ||
	       rc == -ENOMEM;
}

/* One call of the backend; false where it is to be called later. Any other error is
 * the first slot's, the one that it came to; the rest is offered again. */
static bool hand_over(struct bt_engine *engine)
{
	int rc;

	engine->stats.batches++;
	engine->submitting = true;
	rc = engine->backend->submit(engine->state, engine->ready,
				     engine->ready_count);
	engine->submitting = false;
	if (rc > 0) {
		drop_ready(engine, (uint32_t)rc);
		return true;
	}
	if (is_later(rc)) {
		bt_queue_retry_soon(engine);
		return false;
	}
	engine->ready[0]->result = rc;
	bt_list_add_tail(&engine->finished, &engine->ready[0]->link);
	drop_ready(engine, 1);
	return true;
}

/* Returns whether anything went to the kernel or ended. */
bool bt_queue_flush(struct bt_engine *engine)
{
	bool any = bt_move_run(engine);

	engine->pending_runs = 0;
	if (!bt_list_empty(&engine->pending) || !bt_list_empty(&engine->alone))
		fill(engine);
	if (engine->backend->takes_no_plain && engine->ready_count)
		any |= bt_plain_perform(engine);
	while (engine->ready_count) {
		if (!hand_over(engine))
			break;
		any = true;
	}
	/* behind the submission, so that reads go on meanwhile */
	return bt_plain_stream(engine) || any;
}

void bt_engine_kick(struct bt_engine *engine)
{
	/* What ends inside is delivered by the hook. */
	if (bt_queue_flush(engine))
		bt_loop_poke(engine->loop);
}

/* The lists are taken whole: a callback that submits what fails at once would
 * otherwise be served for ever. */
bool bt_queue_deliver(struct bt_engine *engine)
{
	struct bt_list slots = BT_LIST_INIT(slots);
	struct bt_list ios = BT_LIST_INIT(ios);
	struct bt_list moved = BT_LIST_INIT(moved);
	struct bt_list *node;
	bool any = false;

	/* What callbacks add meanwhile waits for the next round. */
	bt_list_splice_tail(&slots, &engine->finished);
	bt_list_splice_tail(&ios, &engine->refused);
	bt_list_splice_tail(&moved, &engine->moved);
	while ((node = bt_list_pop(&ios))) {
		struct bt_io *io = bt_list_entry(node, struct bt_io, link);

		any = true;
		bt_transfer_complete(engine, io, (int)(int64_t)io->progress);
	}
	while ((node = bt_list_pop(&moved))) {
		any = true;
		bt_transfer_complete(
			engine, bt_list_entry(node, struct bt_io, link), 0);
	}
	while ((node = bt_list_pop(&slots))) {
		any = true;
		bt_transfer_finish(
			engine,
			bt_list_entry(node, struct bt_engine_slot, pub.link));
	}
	return any;
}
