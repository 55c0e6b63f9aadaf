/* SPDX-License-Identifier: BSD-3-Clause */
/* What a job copies, and how it stays true while clients write.
 *
 * A map has a bit for each grain that is still to be looked at. A window is a row
 * of such grains: their bits are cleared, then BLOCK_STATUS says which pieces of
 * it the job is about, and those are handed to lanes. A bit that a client's write
 * sets again (commit) brings its grain into a later window; since it is cleared
 * before the look and set after the write, no write falls between.
 *
 *   stream    a piece is read and written under an exclusive lock of its range,
 *             so a client's write is before it (and is read) or after it; what
 *             BLOCK_STATUS called zero is read, too, since it may not be any more
 *   commit    no lock; what changes while it is copied is copied again. In the
 *             end rounds (SETTLE) the whole disk is locked against writers while
 *             at most BUDGET grains are copied
 *   coalesce  both images are below what clients write to: nothing to be true to
 *
 *   lane: IDLE -> [lock] -> READING -> WRITING -> IDLE, or -> ZEROING -> IDLE */
#include "vbd/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define WINDOW_GRAINS (1u << 14) /* 1 GiB */
#define ZERO_CHUNK (64ull << 20)
#define NS_PER_S 1000000000ull

static void read_chunk(struct bt_job_lane *lane);
static void chunk_zeroed(struct bt_request *req);

/* ---- requests ------------------------------------------------------------- */

/* The pool has one for each lane, for the window and for a flush: it is never
 * empty. */
static struct bt_request *take(struct blktap_job *job, enum blktap_op op,
			       void (*done)(struct bt_request *req),
			       void *opaque)
{
	struct bt_request *req = bt_pool_take(job->pool);

	req->op = op;
	req->flags = BT_REQUEST_CORE;
	req->done = done;
	req->opaque = opaque;
	job->under_way++;
	return req;
}

/* The request is back; its error. */
static int give(struct blktap_job *job, struct bt_request *req)
{
	int error = req->error;

	job->under_way--;
	bt_pool_give(req);
	return error;
}

void bt_job_flush(struct blktap_job *job, void (*done)(struct bt_request *req))
{
	bt_port_submit(job->to, take(job, BLKTAP_OP_FLUSH, done, job));
}

bool bt_job_has_lost(const struct blktap_job *job)
{
	return bt_port_losses(job->to) != job->losses;
}

static void lane_submit(struct bt_job_lane *lane, struct bt_port *port,
			enum blktap_op op, void (*done)(struct bt_request *req))
{
	struct bt_request *req = take(lane->job, op, done, lane);

	req->offset = lane->offset;
	req->length = lane->length;
	if (op == BLKTAP_OP_WRITE_ZEROES)
		req->flags |= BLKTAP_MAY_UNMAP;
	lane->iov.iov_base = lane->buffer;
	lane->iov.iov_len = lane->length;
	req->data = (struct bt_sgl){ .iov = &lane->iov, .count = 1 };
	bt_port_submit(port, req);
}

/* ---- lanes ---------------------------------------------------------------- */

/* The lock goes when the data are in the image: a client's write that waited
 * comes down after them. */
static void lane_idle(struct bt_job_lane *lane)
{
	struct blktap_job *job = lane->job;

	lane->busy = false;
	bt_list_add_tail(&job->idle, &lane->link);
	if (job->options.kind == BLKTAP_JOB_STREAM)
		bt_range_unlock(&job->disk->ranges, &lane->range);
	bt_job_copy_go(job);
}

static void chunk_written(struct bt_request *req)
{
	struct bt_job_lane *lane = req->opaque;
	struct blktap_job *job = lane->job;
	char text[BT_STRERROR_MAX];
	int error = give(job, req);

	if (error)
		bt_job_fail(job, error, "cannot write at byte %llu of %s: %s",
			    (unsigned long long)lane->offset,
			    job->to->lower->name, bt_strerror(error, text));
	else
		job->info.copied += lane->length;
	lane_idle(lane);
}

static bool is_zero(const unsigned char *p, size_t length)
{
	return !p[0] && !memcmp(p, p + 1, length - 1);
}

static void chunk_read(struct bt_request *req)
{
	struct bt_job_lane *lane = req->opaque;
	struct blktap_job *job = lane->job;
	char text[BT_STRERROR_MAX];
	int error = give(job, req);

	if (error)
		bt_job_fail(job, error, "cannot read at byte %llu of %s: %s",
			    (unsigned long long)lane->offset,
			    job->from->lower->name, bt_strerror(error, text));
	if (job->failed)
		lane_idle(lane);
	else if (job->options.kind != BLKTAP_JOB_STREAM || job->no_zeroes ||
		 !is_zero(lane->buffer, lane->length))
		lane_submit(lane, job->to, BLKTAP_OP_WRITE, chunk_written);
	else if (job->at)
		lane_submit(lane, job->to, BLKTAP_OP_WRITE_ZEROES,
			    chunk_zeroed);
	else
		lane_idle(lane); /* what a leaf without a base lacks is zero */
}

static void read_chunk(struct bt_job_lane *lane)
{
	lane_submit(lane, lane->job->from, BLKTAP_OP_READ, chunk_read);
}

static void chunk_zeroed(struct bt_request *req)
{
	struct bt_job_lane *lane = req->opaque;
	struct blktap_job *job = lane->job;
	char text[BT_STRERROR_MAX];
	int error = give(job, req);

	if (error == -ENOTSUP) {
		/* again, as data */
		job->no_zeroes = true;
		bt_job_mark(job, lane->offset, lane->offset + lane->length);
		job->behind = true;
	} else if (error) {
		bt_job_fail(job, error, "cannot write at byte %llu of %s: %s",
			    (unsigned long long)lane->offset,
			    job->to->lower->name, bt_strerror(error, text));
	}
	lane_idle(lane);
}

static void begin(struct bt_job_lane *lane)
{
	if (lane->job->failed)
		lane_idle(lane);
	else if (lane->zero)
		lane_submit(lane, lane->job->to, BLKTAP_OP_WRITE_ZEROES,
			    chunk_zeroed);
	else
		read_chunk(lane);
}

static void locked(struct bt_range *range)
{
	struct bt_job_lane *lane =
		bt_container_of(range, struct bt_job_lane, range);

	lane->job->under_way--;
	begin(lane);
}

static void start_lane(struct blktap_job *job, struct bt_job_lane *lane)
{
	lane->busy = true;
	if (job->options.kind != BLKTAP_JOB_STREAM) {
		begin(lane);
		return;
	}
	job->under_way++;
	if (bt_range_lock(&job->disk->ranges, &lane->range, lane->offset,
			  lane->length, true, locked))
		locked(&lane->range);
}

/* ---- the window ----------------------------------------------------------- */

uint64_t bt_job_reached(const struct blktap_job *job)
{
	if (job->run < job->run_count)
		return job->runs[job->run].from;
	return bt_min_u64(job->cursor << BT_JOB_GRAIN_BITS, job->size);
}

enum interest { NOTHING, DATA, ZEROES };

/* What the job has to do with an extent. */
static enum interest judge(const struct blktap_job *job,
			   const struct blktap_extent *e)
{
	bool zero = e->flags & BLKTAP_EXTENT_ZERO;

	switch (job->options.kind) {
	case BLKTAP_JOB_STREAM:
		if (!e->depth || (job->at && e->depth >= job->at))
			return NOTHING;
		/* without a base, what is not there is zero */
		return !zero ? DATA : job->at ? ZEROES : NOTHING;
	case BLKTAP_JOB_COMMIT:
		if (e->depth >= job->at)
			return NOTHING;
		return zero ? ZEROES : DATA;
	default:
		if (e->depth)
			return NOTHING;
		return zero ? ZEROES : DATA;
	}
}

/* Data may be copied with a little more around it, which is the same in both
 * images then; zeroing more than was asked for would destroy what is there. So
 * zeroes that do not fit the target's blocks go as data. */
static void add_run(struct blktap_job *job, uint64_t from, uint64_t to,
		    bool zero)
{
	struct bt_job_run *last = &job->runs[job->run_count];

	if (zero && (job->no_zeroes || from % job->align || to % job->align))
		zero = false;
	if (!zero) {
		from = bt_align_down(from, job->align);
		to = bt_min_u64(bt_align_down(to + job->align - 1, job->align),
				job->size);
	}
	if (job->run_count && last[-1].zero == zero && last[-1].to >= from) {
		last[-1].to = to;
		return;
	}
	*last = (struct bt_job_run){ from, to, zero };
	job->run_count++;
}

/* The rest of the window was not told of: it comes next, where it is another
 * grain, or with the next pass. */
static void look_again(struct blktap_job *job, uint64_t at)
{
	bt_job_mark(job, at, job->window_to);
	if (at - job->window_from >= 1u << BT_JOB_GRAIN_BITS)
		job->cursor = at >> BT_JOB_GRAIN_BITS;
	else
		job->behind = true;
}

static void set_runs(struct blktap_job *job, uint32_t count)
{
	uint64_t at = job->window_from, end;
	uint32_t i;

	for (i = 0; i < count && at < job->window_to; i++) {
		enum interest what = judge(job, &job->extents[i]);

		end = bt_min_u64(at + job->extents[i].length, job->window_to);
		/* Zeroes that a client has written over since are no zeroes: a
		 * stream reads them again, under its lock. */
		if (what != NOTHING)
			add_run(job, at, end,
				what == ZEROES &&
					job->options.kind != BLKTAP_JOB_STREAM);
		at = end;
	}
	/* a source that says nothing is all data */
	if (at == job->window_from) {
		add_run(job, at, job->window_to, false);
		at = job->window_to;
	}
	if (at < job->window_to)
		look_again(job, at);
	if (job->run_count)
		job->stirred = true;
}

/* An error here is not the job's end: what is not known is taken for data. */
static void told(struct bt_request *req)
{
	struct blktap_job *job = req->opaque;
	uint32_t count = req->error ? 0 : req->extent_count;

	give(job, req);
	job->asking = false;
	set_runs(job, count);
	bt_job_copy_go(job);
}

/* The bits are cleared before the look: what is written from now on sets them
 * again. */
static void ask(struct blktap_job *job, uint64_t first)
{
	uint64_t last = first, most = first + WINDOW_GRAINS;
	struct bt_request *req;

	if (job->phase == BT_JOB_SETTLE)
		most = first + job->budget;
	while (last < job->grains && last < most && bt_job_is_marked(job, last))
		last++;
	bt_job_unmark(job, first, last);
	job->budget -= bt_min_u64(job->budget, last - first);
	job->cursor = last;
	job->window_from = first << BT_JOB_GRAIN_BITS;
	job->window_to = bt_min_u64(last << BT_JOB_GRAIN_BITS, job->size);
	job->run = job->run_count = 0;
	job->asking = true;
	req = take(job, BLKTAP_OP_BLOCK_STATUS, told, job);
	req->offset = job->window_from;
	req->length = job->window_to - job->window_from;
	req->extents = job->extents;
	req->extent_max = BT_JOB_EXTENTS;
	bt_port_submit(job->from, req);
}

/* ---- handing out ---------------------------------------------------------- */

/* Whether the rate allows length bytes of data now. */
static bool rate_allows(struct blktap_job *job, uint64_t length)
{
	struct bt_loop *loop = job->disk->context->loop;
	uint64_t now;

	if (!job->options.rate)
		return true;
	now = bt_loop_now(loop);
	if (now < job->free_at_ns) {
		bt_timer_arm(loop, &job->rate_timer, job->free_at_ns);
		return false;
	}
	job->free_at_ns = bt_max_u64(job->free_at_ns, now) +
			  length * NS_PER_S / job->options.rate;
	return true;
}

static bool give_run(struct blktap_job *job)
{
	struct bt_job_run *run = &job->runs[job->run];
	uint64_t chunk = job->options.chunk, most;
	struct bt_job_lane *lane;

	most = run->zero ? bt_min_u64(ZERO_CHUNK,
				      job->to->lower->limits.max_unmap)
			 : chunk - run->from % chunk;
	most = bt_min_u64(most, run->to - run->from);
	if (!run->zero && !rate_allows(job, most))
		return false;
	lane = bt_list_entry(bt_list_pop(&job->idle), struct bt_job_lane, link);
	lane->offset = run->from;
	lane->length = most;
	lane->zero = run->zero;
	run->from += most;
	if (run->from == run->to)
		job->run++;
	start_lane(job, lane);
	return true;
}

/* Begins the next window; where the phase has no more, its pass is over. */
static bool next_window(struct blktap_job *job)
{
	bool settling = job->phase == BT_JOB_SETTLE;
	uint64_t first = 0;
	bool found =
		(!settling || job->budget) && bt_job_next_marked(job, &first);

	if (!found && settling && job->budget) {
		job->cursor = 0;
		found = bt_job_next_marked(job, &first);
	}
	if (found)
		ask(job, first);
	else
		job->pass_over = true;
	return found;
}

static bool may_go(const struct blktap_job *job)
{
	if (job->failed || job->paused || job->saving || job->rate_timer.loop)
		return false;
	return job->phase == BT_JOB_COPY ||
	       (job->phase == BT_JOB_SETTLE && job->locked);
}

/* What comes after a pass is for job.c to say. */
void bt_job_copy_go(struct blktap_job *job)
{
	bool more = true;

	while (more && may_go(job) && !job->asking &&
	       !bt_list_empty(&job->idle)) {
		if (bt_job_must_save(job))
			more = false;
		else if (job->run < job->run_count)
			more = give_run(job);
		else
			more = !job->pass_over && next_window(job);
	}
	if (!job->under_way)
		bt_job_wake(job);
}

/* ---- the whole disk ------------------------------------------------------- */

static void whole_locked(struct bt_range *range)
{
	struct blktap_job *job =
		bt_container_of(range, struct blktap_job, whole);

	job->under_way--;
	job->locking = false;
	job->locked = true;
	bt_job_wake(job);
}

void bt_job_lock_whole(struct blktap_job *job)
{
	job->under_way++;
	job->locking = true;
	if (bt_range_lock(&job->disk->ranges, &job->whole, 0, job->size, true,
			  whole_locked))
		whole_locked(&job->whole);
}

void bt_job_unlock_whole(struct blktap_job *job)
{
	if (job->locking)
		job->under_way--;
	job->locking = false;
	job->locked = false;
	bt_range_unlock(&job->disk->ranges, &job->whole);
}

/* ---- taking back ---------------------------------------------------------- */

/* Requests that wait at a gate were not begun, so they can be taken back
 * unfinished. */
static void take_held(struct blktap_job *job, struct bt_port *port)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &port->held) {
		struct bt_request *req =
			bt_list_entry(pos, struct bt_request, link);

		if (req->pool != job->pool)
			continue;
		bt_list_del(pos);
		give(job, req);
	}
}

/* The graph is drained: a lane that is busy has its request at a gate, or waits
 * for its lock. All that was handed out and not done is marked as to be done. */
void bt_job_copy_abort(struct blktap_job *job)
{
	uint32_t i;

	take_held(job, &job->disk->top);
	take_held(job, &job->source);
	take_held(job, &job->target);
	bt_job_unlock_whole(job);
	for (i = 0; i < job->options.depth; i++) {
		struct bt_job_lane *lane = &job->lanes[i];

		if (!lane->busy)
			continue;
		lane->busy = false;
		bt_job_mark(job, lane->offset, lane->offset + lane->length);
		bt_list_add_tail(&job->idle, &lane->link);
		if (!lane->range.held && !bt_list_empty(&lane->range.link))
			job->under_way--; /* it waited for the lock */
		bt_range_unlock(&job->disk->ranges, &lane->range);
	}
	bt_timer_cancel(&job->rate_timer);
	if (job->asking)
		bt_job_mark(job, job->window_from, job->window_to);
	for (; job->run < job->run_count; job->run++)
		bt_job_mark(job, job->runs[job->run].from,
			    job->runs[job->run].to);
	job->asking = job->saving = false;
	job->run = job->run_count = 0;
}

/* ---- memory --------------------------------------------------------------- */

int bt_job_copy_init(struct blktap_job *job)
{
	uint32_t depth = job->options.depth, i;
	int rc;

	job->grains = (job->size + (1u << BT_JOB_GRAIN_BITS) - 1) >>
		      BT_JOB_GRAIN_BITS;
	job->todo = calloc(1, (size_t)(job->grains / 8 + 1));
	job->lanes = calloc(depth, sizeof(*job->lanes));
	if (!job->todo || !job->lanes)
		return -ENOMEM;
	for (i = 0; i < depth; i++) {
		struct bt_job_lane *lane = &job->lanes[i];

		lane->job = job;
		bt_list_init(&lane->range.link);
		bt_list_add_tail(&job->idle, &lane->link);
		if (posix_memalign((void **)&lane->buffer, 4096,
				   job->options.chunk))
			return -ENOMEM;
	}
	/* lanes, the window, a flush */
	rc = bt_vbd_pool_create(job->disk, depth + 2, sizeof(struct bt_request),
				&job->pool);
	return rc;
}

void bt_job_copy_fini(struct blktap_job *job)
{
	uint32_t i;

	if (job->pool)
		bt_vbd_pool_destroy(job->disk, job->pool);
	job->pool = NULL;
	for (i = 0; job->lanes && i < job->options.depth; i++)
		free(job->lanes[i].buffer);
	free(job->lanes);
	free(job->todo);
	job->lanes = NULL;
	job->todo = NULL;
}
