/* SPDX-License-Identifier: BSD-3-Clause */
/* The copy to legs that are dirty, one leg at a time, in batches:
 *
 *   IDLE -> (a leg is dirty) -> lanes copy regions, each locked against writes
 *        -> (64 regions, or no more) -> FLUSH of the leg -> their bits are cleared
 *        -> IDLE, and anew
 *
 * A bit is cleared only when the copy is on stable storage. Where the leg fails
 * anything meanwhile, no bit of the batch is cleared, and after a pause that
 * doubles from 1 s to 30 s that leg is tried again. A leg that failed before
 * takes writes again as soon as one region has reached it. */
#include "module/mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull
#define LONGEST_BACKOFF (30 * NS_PER_S)
#define REST_NS (NS_PER_S / 2)

static void go_on(struct bt_mirror *m);

static uint64_t now_of(const struct bt_mirror *m)
{
	return bt_loop_now(m->node->env->loop);
}

/* Once a batch: its lanes fail together, and for one reason. */
static void fail_batch(struct bt_mirror *m)
{
	struct bt_mirror_leg *leg = &m->legs[m->sync.target];

	if (m->sync.spoiled)
		return;
	m->sync.spoiled = true;
	leg->backoff_ns = leg->backoff_ns ? bt_min_u64(2 * leg->backoff_ns,
						       LONGEST_BACKOFF)
					  : NS_PER_S;
	leg->retry_at_ns = now_of(m) + leg->backoff_ns;
}

/* ---- a lane ---------------------------------------------------------------- */

static void copy_chunk(struct bt_mirror_lane *lane);

/* The end of a region, whichever way. The lock is let go last: a write that
 * waits for it starts from inside, and finds the leg's new state. */
static void lane_idle(struct bt_mirror_lane *lane, bool copied)
{
	struct bt_mirror *m = lane->mirror;
	struct bt_mirror_sync *s = &m->sync;
	struct bt_mirror_leg *target = &m->legs[s->target];

	if (copied && !s->spoiled) {
		s->batch[s->batch_count++] = lane->region;
		/* it took a region, so it takes writes again. What was written
		 * while it was left out is dirty on it, and stays so until it
		 * is copied. */
		if (target->failed)
			bt_log(m->node->env->log, BLKTAP_LOG_INFO,
			       "%s: leg '%s' is back", m->node->name,
			       target->port->lower->name);
		target->failed = false;
	}
	bt_pool_give(lane->req);
	lane->req = NULL;
	lane->busy = false;
	bt_range_unlock(&m->lock, &lane->range);
	go_on(m);
}

/* The buffer holds what was read, so zeroes that the leg cannot make are
 * written from it. */
static void chunk_written(struct bt_request *req)
{
	struct bt_mirror_lane *lane = req->opaque;
	struct bt_mirror *m = lane->mirror;

	if (req->error == -ENOTSUP && req->op == BLKTAP_OP_WRITE_ZEROES) {
		req->op = BLKTAP_OP_WRITE; /* of what was read, which is zero */
		req->flags = 0;
		bt_port_submit(m->legs[m->sync.target].port, req);
		return;
	}
	if (req->error) {
		fail_batch(m);
		lane_idle(lane, false);
		return;
	}
	lane->at += lane->length;
	if (lane->at == lane->end)
		lane_idle(lane, true);
	else
		copy_chunk(lane);
}

static bool is_zero(const unsigned char *p, uint64_t length)
{
	return !p[0] && !memcmp(p, p + 1, length - 1);
}

static void chunk_read(struct bt_request *req)
{
	struct bt_mirror_lane *lane = req->opaque;
	struct bt_mirror *m = lane->mirror;
	struct bt_port *to = m->legs[m->sync.target].port;
	bool zero;

	m->legs[lane->source].reading--;
	/* A source that fails ends the batch as a failed target does: the next
	 * one may find another clean leg. Nothing is noted of the source. */
	if (req->error || m->sync.spoiled) {
		if (req->error)
			fail_batch(m);
		lane_idle(lane, false);
		return;
	}
	zero = to->lower->limits.operations >> BLKTAP_OP_WRITE_ZEROES & 1u &&
	       is_zero(lane->buffer, lane->length);
	req->op = zero ? BLKTAP_OP_WRITE_ZEROES : BLKTAP_OP_WRITE;
	req->flags = zero ? BLKTAP_MAY_UNMAP : 0;
	req->offset = lane->at;
	req->length = lane->length;
	req->done = chunk_written;
	bt_port_submit(to, req);
}

/* The source is looked for at each chunk: a leg may have failed since the last
 * one. One that has is taken only where no other is clean. */
static void copy_chunk(struct bt_mirror_lane *lane)
{
	struct bt_mirror *m = lane->mirror;
	struct bt_request *req = lane->req;
	uint32_t i, clean = bt_mirror_clean(m, lane->region);

	clean &= ~(1u << m->sync.target);
	for (i = 0; i < m->leg_count; i++)
		if (m->legs[i].failed && clean & ~(1u << i))
			clean &= ~(1u << i);
	if (!clean || m->sync.spoiled) {
		if (!clean) /* nothing to copy it from, until a write */
			fail_batch(m);
		lane_idle(lane, false);
		return;
	}
	lane->source = (uint32_t)__builtin_ctz(clean);
	lane->length = bt_min_u64(
		lane->end - lane->at,
		bt_min_u64(BT_MIRROR_CHUNK, m->node->limits.max_transfer));
	lane->iov.iov_base = lane->buffer;
	lane->iov.iov_len = lane->length;
	m->legs[lane->source].reading++;
	req->op = BLKTAP_OP_READ;
	req->flags = 0;
	req->offset = lane->at;
	req->length = lane->length;
	req->data = (struct bt_sgl){ .iov = &lane->iov, .count = 1 };
	req->done = chunk_read;
	req->opaque = lane;
	bt_port_submit(m->legs[lane->source].port, req);
}

static void lane_locked(struct bt_range *range)
{
	copy_chunk(bt_container_of(range, struct bt_mirror_lane, range));
}

/* Exclusive: reads take no lock, so they go on; writes of the region wait until
 * its copy is there. */
static void start_lane(struct bt_mirror *m, struct bt_mirror_lane *lane,
		       uint64_t region)
{
	lane->req = bt_pool_take(m->sync.pool);
	lane->busy = true;
	lane->region = region;
	lane->at = region * m->region_size;
	lane->end = bt_min_u64(lane->at + m->region_size, m->size);
	m->sync.picked++;
	if (bt_range_lock(&m->lock, &lane->range, lane->at,
			  lane->end - lane->at, true, lane_locked))
		copy_chunk(lane);
}

/* ---- a batch --------------------------------------------------------------- */

/* A lane that waits for its lock is busy as well. */
static bool any_busy(const struct bt_mirror_sync *s)
{
	uint32_t i;

	for (i = 0; i < BT_MIRROR_LANES; i++)
		if (s->lanes[i].busy)
			return true;
	return false;
}

/* The order is what makes a bit's end true: copied, flushed, and no error of
 * that leg from the batch's beginning to here. The log learns of it by a commit
 * that nobody waits for. */
static void end_batch(struct bt_mirror *m, int error)
{
	struct bt_mirror_sync *s = &m->sync;
	uint32_t i;

	if (error)
		fail_batch(m);
	for (i = 0; i < s->batch_count && !s->spoiled; i++)
		bt_mirror_clear_dirty(m, s->target, s->batch[i]);
	if (!s->spoiled)
		m->legs[s->target].backoff_ns = 0;
	s->active = false;
	s->flushing = false;
	bt_mirror_tidy(m);
	go_on(m);
}

static void batch_flushed(struct bt_request *req)
{
	struct bt_mirror *m = req->opaque;
	int error = req->error;

	bt_pool_give(req);
	end_batch(m, error);
}

/* One child of the pool is the flush's, beside one a lane. */
static void flush_batch(struct bt_mirror *m)
{
	struct bt_request *req;

	if (m->sync.spoiled || !m->sync.batch_count) {
		end_batch(m, 0);
		return;
	}
	m->sync.flushing = true;
	req = bt_pool_take(m->sync.pool);
	req->op = BLKTAP_OP_FLUSH;
	req->done = batch_flushed;
	req->opaque = m;
	bt_port_submit(m->legs[m->sync.target].port, req);
}

/* The next dirty region of the target behind the cursor. Once over all regions
 * from the beginning for each batch: what became dirty behind the cursor is
 * found by the next. */
static bool pick_region(struct bt_mirror *m, uint64_t *region)
{
	struct bt_mirror_sync *s = &m->sync;
	uint32_t bit = m->legs[s->target].bit;

	for (; s->cursor < m->regions; s->cursor++)
		if (bt_mirror_word(m, s->cursor) >> bit & 1u) {
			*region = s->cursor++;
			return true;
		}
	return false;
}

/* A region at a time is paid for when it begins, with the whole region's size.
 * It is asked before a region is picked, so one that may not go yet is picked
 * next time. */
static bool rate_allows(struct bt_mirror *m)
{
	struct bt_mirror_sync *s = &m->sync;
	uint64_t now = now_of(m);

	if (!m->rate)
		return true;
	if (now < s->free_at_ns) {
		bt_timer_arm(m->node->env->loop, &s->timer, s->free_at_ns);
		return false;
	}
	s->free_at_ns = now + (uint64_t)((double)m->region_size * 1e9 /
					 (double)m->rate);
	return true;
}

/* Gives regions to idle lanes; false where the batch has no more. */
static bool feed(struct bt_mirror *m)
{
	struct bt_mirror_sync *s = &m->sync;
	uint64_t region;
	uint32_t i;

	for (i = 0; i < BT_MIRROR_LANES; i++) {
		if (s->lanes[i].busy)
			continue;
		/* no more for this batch: what the lanes have ends, and so does
		 * it */
		if (s->spoiled || m->resting || s->picked == BT_MIRROR_BATCH)
			return false;
		if (!rate_allows(m))
			/* the timer comes back for more: the batch is not over
			 */
			return true;
		if (!m->background || !pick_region(m, &region))
			return false;
		start_lane(m, &s->lanes[i], region);
	}
	return true;
}

/* Turn by turn, and past a leg that is left alone for a while, so that a dead one
 * does not keep another from its copy. Where all are, the timer ends the wait. */
static bool pick_target(struct bt_mirror *m)
{
	struct bt_mirror_sync *s = &m->sync;
	uint64_t now = now_of(m), next = UINT64_MAX;
	uint32_t i, target = s->target;

	for (i = 0; i < m->leg_count; i++) {
		target = (target + 1) % m->leg_count;
		if (!m->legs[target].dirty)
			continue;
		if (now >= m->legs[target].retry_at_ns) {
			s->target = target;
			return true;
		}
		next = bt_min_u64(next, m->legs[target].retry_at_ns);
	}
	if (next != UINT64_MAX)
		bt_timer_arm(m->node->env->loop, &s->timer, next);
	return false;
}

static bool begin_batch(struct bt_mirror *m)
{
	struct bt_mirror_sync *s = &m->sync;

	if (!m->background || m->read_only || m->resting || m->node->on_trial ||
	    !pick_target(m))
		return false;
	s->active = true;
	s->spoiled = false;
	s->batch_count = 0;
	s->picked = 0;
	/* from the beginning: the target may be another leg than last time */
	s->cursor = 0;
	return true;
}

/* What there is to do now; called after each lane, batch, kick and timer. A
 * flush that is out ends by itself. Resting, it comes back every half second,
 * to see whether the node stayed after all. */
static void work(struct bt_work *w)
{
	struct bt_mirror *m = bt_container_of(w, struct bt_mirror, sync.work);
	struct bt_mirror_sync *s = &m->sync;

	/* it was not to go after all: a change that was undone */
	if (m->resting && m->node->stays)
		bt_mirror_wake(m);
	if (s->flushing || (!s->active && !begin_batch(m)))
		bt_mirror_rested(m);
	else if (!feed(m) && !any_busy(s))
		flush_batch(m);
	if (m->resting)
		bt_timer_arm(m->node->env->loop, &s->timer,
			     now_of(m) + REST_NS);
}

static void go_on(struct bt_mirror *m)
{
	bt_loop_defer(m->node->env->loop, &m->sync.work);
}

static void timer_fired(struct bt_timer *timer)
{
	go_on(bt_container_of(timer, struct bt_mirror, sync.timer));
}

/* ---- for the others -------------------------------------------------------- */

/* Before the pool is there (mirror_open) nothing can be copied. */
void bt_mirror_sync_kick(struct bt_mirror *m)
{
	if (m->sync.pool)
		go_on(m);
}

/* On trial nothing is copied: a log would call it done, and the disk could go on
 * without the mirror. */
void bt_mirror_start(struct bt_node *node)
{
	bt_mirror_sync_kick(node->data);
}

/* work() sends the LAST flush when nothing of its own is under way. */
void bt_mirror_rest(struct bt_mirror *m)
{
	m->resting = true;
	bt_timer_cancel(&m->sweep_timer);
	go_on(m);
}

/* A write has come: the node goes on. Intents that were kept get their sweep
 * again. */
void bt_mirror_wake(struct bt_mirror *m)
{
	if (!m->resting)
		return;
	m->resting = false;
	if (m->intents)
		bt_mirror_start_sweep(m);
	go_on(m);
}

void bt_mirror_sync_spoil(struct bt_mirror *m, uint32_t leg)
{
	if (m->sync.active && m->sync.target == leg)
		fail_batch(m);
}

/* On failure bt_mirror_sync_fini is harmless: buffers are freed by the first
 * lane's pointer, which is NULL then. */
int bt_mirror_sync_init(struct bt_mirror *m)
{
	struct bt_mirror_sync *s = &m->sync;
	unsigned char *buffers =
		aligned_alloc(4096, BT_MIRROR_LANES * BT_MIRROR_CHUNK);
	uint32_t i;

	bt_timer_init(&s->timer, timer_fired);
	bt_work_init(&s->work, work);
	if (!buffers)
		return -ENOMEM;
	for (i = 0; i < BT_MIRROR_LANES; i++) {
		s->lanes[i].mirror = m;
		s->lanes[i].range.owner = m; /* writes have none */
		s->lanes[i].buffer = buffers + i * BT_MIRROR_CHUNK;
	}
	return bt_node_add_pool(m->node, BT_MIRROR_LANES + 1,
				sizeof(struct bt_request), &s->pool);
}

void bt_mirror_sync_fini(struct bt_mirror *m)
{
	bt_timer_cancel(&m->sync.timer);
	bt_work_cancel(&m->sync.work);
	free(m->sync.lanes[0].buffer);
}
