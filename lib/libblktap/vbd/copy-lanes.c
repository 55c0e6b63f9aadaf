/* SPDX-License-Identifier: BSD-3-Clause */
/* The copy of a disk.
 *
 * A window of extents of the source (one BLOCK_STATUS) is handed out in chunks to
 * lanes, each of which has one buffer and one request under way:
 *
 *   lane: IDLE -> (data) READING -> WRITING, run by run -> IDLE
 *              -> (zero) ZEROING, or nothing where the target is zero -> IDLE
 *   before each: FULL, where a disk has no request left for it
 *
 * When the window is used up and a lane wants more, the next window is asked for;
 * when there is no more and all lanes are idle, the target is flushed. */
#include "vbd/copy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"

#define WINDOW_BYTES (1ull << 30)
#define ZERO_CHUNK (64ull << 20)
#define GRAIN 65536u /* zeroes are looked for in pieces of so many bytes */
#define NS_PER_S 1000000000ull
#define FULL_NS 1000000ull

static struct bt_loop *loop_of(const struct blktap_copy *copy)
{
	return copy->source->context->loop;
}

static void fail(struct blktap_copy *copy, int error, const char *verb,
		 const struct blktap_disk *disk, uint64_t offset)
{
	char text[BT_STRERROR_MAX];

	if (copy->error)
		return;
	copy->error = error;
	snprintf(copy->message, sizeof(copy->message),
		 "%s: cannot %s at byte %llu: %s", disk->name, verb,
		 (unsigned long long)offset, bt_strerror(error, text));
}

/* ---- requests ------------------------------------------------------------- */

/* Through the same door as everybody's requests: a copy needs no more of a disk
 * than its users have, and its locks, pauses and errors are theirs. */
static int submit(struct blktap_copy *copy, struct blktap_disk *disk,
		  struct blktap_io *io)
{
	int rc;

	io->size = sizeof(*io);
	rc = blktap_disk_submit(disk, io);
	if (!rc)
		copy->under_way++;
	return rc;
}

/* A moment later there may be room. */
static void try_later(struct blktap_copy *copy)
{
	if (!copy->full_timer.loop &&
	    bt_timer_arm(loop_of(copy), &copy->full_timer,
			 bt_loop_now(loop_of(copy)) + FULL_NS) < 0)
		fail(copy, -ENOMEM, "go on", copy->target, copy->next);
}

/* Whether the lane waits for room, to submit that again. */
static bool is_full(struct bt_copy_lane *lane, int rc,
		    void (*again)(struct bt_copy_lane *lane))
{
	if (rc != -EAGAIN)
		return false;
	lane->again = again;
	bt_list_add_tail(&lane->copy->full, &lane->link);
	try_later(lane->copy);
	return true;
}

static void lane_idle(struct bt_copy_lane *lane)
{
	bt_list_add_tail(&lane->copy->idle, &lane->link);
}

static void chunk_ended(struct bt_copy_lane *lane)
{
	lane->copy->done += lane->length;
	lane_idle(lane);
}

/* ---- writing -------------------------------------------------------------- */

static void write_next(struct bt_copy_lane *lane);

static void run_written(void *opaque, int error)
{
	struct bt_copy_lane *lane = opaque;
	struct blktap_copy *copy = lane->copy;

	copy->under_way--;
	if (error)
		fail(copy, error, "write", copy->target,
		     lane->offset + lane->at);
	else
		copy->data += lane->run;
	lane->at += lane->run;
	write_next(lane);
	bt_copy_go_on(copy);
}

static bool is_zero(const unsigned char *p, size_t length)
{
	return !p[0] && !memcmp(p, p + 1, length - 1);
}

static uint64_t grain_at(const struct bt_copy_lane *lane, uint64_t at)
{
	return bt_min_u64(GRAIN - (lane->offset + at) % GRAIN,
			  lane->length - at);
}

/* Where the next run of data in the buffer begins and how long it is; zeroes in
 * between are passed over where they need not be written. */
static bool find_run(struct bt_copy_lane *lane)
{
	struct blktap_copy *copy = lane->copy;
	uint64_t piece;

	lane->run = 0;
	if (copy->options.flags & BLKTAP_COPY_NO_DETECT ||
	    !(copy->options.flags & BLKTAP_COPY_TARGET_IS_ZERO)) {
		lane->run = lane->length - lane->at;
		return lane->run > 0;
	}
	while (lane->at < lane->length) {
		piece = grain_at(lane, lane->at);
		if (!is_zero(lane->buffer + lane->at, piece))
			break;
		lane->at += piece;
	}
	while (lane->at + lane->run < lane->length) {
		piece = grain_at(lane, lane->at + lane->run);
		if (is_zero(lane->buffer + lane->at + lane->run, piece))
			break;
		lane->run += piece;
	}
	return lane->run > 0;
}

static void write_next(struct bt_copy_lane *lane)
{
	struct blktap_copy *copy = lane->copy;
	struct blktap_io io = {
		.op = BLKTAP_OP_WRITE,
		.iov = &lane->iov,
		.iov_count = 1,
		.callback = run_written,
		.opaque = lane,
	};
	int rc;

	if (copy->error || !find_run(lane)) {
		chunk_ended(lane);
		return;
	}
	lane->iov.iov_base = lane->buffer + lane->at;
	lane->iov.iov_len = lane->run;
	io.offset = lane->offset + lane->at;
	io.length = lane->run;
	rc = submit(copy, copy->target, &io);
	if (rc < 0 && !is_full(lane, rc, write_next)) {
		fail(copy, rc, "write", copy->target, io.offset);
		chunk_ended(lane);
	}
}

static void chunk_read(void *opaque, int error)
{
	struct bt_copy_lane *lane = opaque;
	struct blktap_copy *copy = lane->copy;

	copy->under_way--;
	if (error)
		fail(copy, error, "read", copy->source, lane->offset);
	write_next(lane);
	bt_copy_go_on(copy);
}

static void read_chunk(struct bt_copy_lane *lane)
{
	struct blktap_copy *copy = lane->copy;
	struct blktap_io io = {
		.op = BLKTAP_OP_READ,
		.offset = lane->offset,
		.length = lane->length,
		.iov = &lane->iov,
		.iov_count = 1,
		.callback = chunk_read,
		.opaque = lane,
	};
	int rc;

	lane->iov.iov_base = lane->buffer;
	lane->iov.iov_len = lane->length;
	rc = submit(copy, copy->source, &io);
	if (rc < 0 && !is_full(lane, rc, read_chunk)) {
		fail(copy, rc, "read", copy->source, lane->offset);
		lane_idle(lane);
	}
}

static void chunk_zeroed(void *opaque, int error)
{
	struct bt_copy_lane *lane = opaque;
	struct blktap_copy *copy = lane->copy;

	copy->under_way--;
	if (error)
		fail(copy, error, "write zeroes", copy->target, lane->offset);
	chunk_ended(lane);
	bt_copy_go_on(copy);
}

static void zero_chunk(struct bt_copy_lane *lane)
{
	struct blktap_copy *copy = lane->copy;
	struct blktap_io io = {
		.op = BLKTAP_OP_WRITE_ZEROES,
		.flags = BLKTAP_MAY_UNMAP,
		.offset = lane->offset,
		.length = lane->length,
		.callback = chunk_zeroed,
		.opaque = lane,
	};
	int rc = submit(copy, copy->target, &io);

	if (rc < 0 && !is_full(lane, rc, zero_chunk)) {
		fail(copy, rc, "write zeroes", copy->target, lane->offset);
		lane_idle(lane);
	}
}

/* ---- handing out ---------------------------------------------------------- */

static void set_window(struct blktap_copy *copy, int error)
{
	copy->asking = false;
	copy->extent = 0;
	copy->extent_at = 0;
	if (error) /* not known: all data */
		copy->extent_count = 0;
	if (!copy->extent_count) {
		copy->extents[0].length =
			bt_min_u64(copy->end - copy->next, WINDOW_BYTES);
		copy->extents[0].flags = 0;
		copy->extent_count = 1;
	}
}

static void window_told(void *opaque, int error)
{
	struct blktap_copy *copy = opaque;

	copy->under_way--;
	set_window(copy, error);
	bt_copy_go_on(copy);
}

/* As much as 1 GiB at once: a sparse source answers it with few extents, and a
 * full one with a single one. */
static void ask_window(struct blktap_copy *copy)
{
	struct blktap_io io = {
		.op = BLKTAP_OP_BLOCK_STATUS,
		.offset = copy->next,
		.length = bt_min_u64(copy->end - copy->next, WINDOW_BYTES),
		.extents = copy->extents,
		.extent_max = BT_COPY_EXTENTS,
		.extent_count = &copy->extent_count,
		.callback = window_told,
		.opaque = copy,
	};
	int rc;

	copy->extent_count = 0;
	copy->asking = true;
	rc = submit(copy, copy->source, &io);
	if (rc == -EAGAIN) {
		copy->asking = false;
		try_later(copy);
	} else if (rc < 0) { /* a source that cannot tell is copied as data */
		set_window(copy, rc);
	}
}

/* The rest of the extent that is handed out now; false where the window is used
 * up. */
static bool current_extent(struct blktap_copy *copy, uint64_t *left, bool *zero)
{
	while (copy->extent < copy->extent_count) {
		const struct blktap_extent *e = &copy->extents[copy->extent];

		*left = bt_min_u64(e->length - copy->extent_at,
				   copy->end - copy->next);
		*zero = e->flags & BLKTAP_EXTENT_ZERO;
		if (*left)
			return true;
		copy->extent++;
		copy->extent_at = 0;
	}
	return false;
}

static void hand_out(struct blktap_copy *copy, struct bt_copy_lane *lane,
		     bool zero, uint64_t length)
{
	lane->offset = copy->next;
	lane->length = length;
	lane->at = 0;
	copy->next += length;
	copy->extent_at += length;
	if (!zero)
		read_chunk(lane);
	else if (copy->options.flags & BLKTAP_COPY_TARGET_IS_ZERO)
		chunk_ended(lane);
	else
		zero_chunk(lane);
}

/* Whether the rate allows length bytes of data now. */
static bool rate_allows(struct blktap_copy *copy, uint64_t length)
{
	uint64_t now, ns;

	if (!copy->options.rate)
		return true;
	now = bt_loop_now(loop_of(copy));
	if (now < copy->free_at_ns) {
		bt_timer_arm(loop_of(copy), &copy->rate_timer,
			     copy->free_at_ns);
		return false;
	}
	ns = length * NS_PER_S / copy->options.rate;
	/* The time that this chunk takes at the rate begins where the last one's
	 * ended; time that went unused before now is not made up for. */
	copy->free_at_ns = bt_max_u64(copy->free_at_ns, now) + ns;
	return true;
}

/* Gives work to an idle lane; false where there is none to give at present. */
static bool feed_one(struct blktap_copy *copy)
{
	uint64_t left, length;
	bool zero;

	if (copy->error || copy->asking || copy->full_timer.loop ||
	    copy->next == copy->end || bt_list_empty(&copy->idle))
		return false;
	if (!current_extent(copy, &left, &zero)) {
		ask_window(copy);
		return !copy->asking && !copy->full_timer.loop;
	}
	length = zero ? bt_min_u64(left, ZERO_CHUNK)
		      : bt_min_u64(left,
				   copy->options.chunk -
					   copy->next % copy->options.chunk);
	if (!zero && !rate_allows(copy, length))
		return false;
	hand_out(copy,
		 bt_list_entry(bt_list_pop(&copy->idle), struct bt_copy_lane,
			       link),
		 zero, length);
	return true;
}

/* The callback may destroy the copy. */
static void end(struct blktap_copy *copy)
{
	blktap_copy_fn *fn = copy->fn;

	bt_timer_cancel(&copy->rate_timer);
	bt_timer_cancel(&copy->full_timer);
	copy->finished = true;
	copy->fn = NULL;
	fn(copy->opaque, copy->error, copy->message);
}

/* A target that is there again says that all is well. */
static void check_losses(struct blktap_copy *copy)
{
	if (copy->error || bt_port_losses(&copy->target->top) == copy->losses)
		return;
	copy->error = -EIO;
	snprintf(copy->message, sizeof(copy->message),
		 "%s: was lost for a while, with writes that were not flushed",
		 copy->target->name);
}

static void flushed(void *opaque, int error)
{
	struct blktap_copy *copy = opaque;

	copy->under_way--;
	if (error)
		fail(copy, error, "flush", copy->target, 0);
	check_losses(copy);
	end(copy);
}

static void flush(struct blktap_copy *copy)
{
	struct blktap_io io = {
		.op = BLKTAP_OP_FLUSH,
		.callback = flushed,
		.opaque = copy,
	};
	int rc;

	copy->flushing = true;
	rc = submit(copy, copy->target, &io);
	if (rc == -EAGAIN) {
		copy->flushing = false;
		try_later(copy);
	} else if (rc < 0) {
		copy->under_way++;
		flushed(copy, rc);
	}
}

/* Once each; who finds it full still comes back to the end. */
static void serve_full(struct blktap_copy *copy)
{
	struct bt_list now, *at;

	bt_list_init(&now);
	bt_list_splice_tail(&now, &copy->full);
	while ((at = bt_list_pop(&now))) {
		struct bt_copy_lane *lane =
			bt_list_entry(at, struct bt_copy_lane, link);

		if (copy->error)
			lane_idle(lane);
		else
			lane->again(lane);
	}
}

/* The one place that decides what comes next; every completion and timer ends
 * here, and it may be called when there is nothing to do. */
void bt_copy_go_on(struct blktap_copy *copy)
{
	if (copy->finished || copy->flushing)
		return;
	if (!copy->full_timer.loop || copy->error)
		serve_full(copy);
	while (feed_one(copy))
		;
	if (copy->under_way || copy->rate_timer.loop ||
	    (copy->full_timer.loop && !copy->error))
		return;
	if (copy->error)
		end(copy);
	else if (copy->next == copy->end)
		flush(copy);
}
