/* SPDX-License-Identifier: BSD-3-Clause */
/* Write-back: what is dirty goes to the origin, a few chunks at a time.
 *
 *   (something is dirty, and a second has passed, or half of what may be dirty is)
 *   -> lock the chunk against writes -> read its dirty runs from the store
 *   -> write them to the origin -> they are clean; the next flush makes it durable
 *
 * No more than `rate` bytes a second, but for a last flush, which waits for all of
 * it. What the origin does not take stays dirty, and is tried again a second later. */
#include <errno.h>

#include "core/error.h"
#include "core/log.h"
#include "module/cache.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull

static uint64_t now_of(const struct bt_cache *cache)
{
	return bt_loop_now(cache->node->env->loop);
}

/* Deferred, never at once: called from completions deep in a turn. */
static void go_on(struct bt_cache *cache)
{
	if (!cache->closing)
		bt_loop_defer(cache->node->env->loop, &cache->work);
}

/* ---- a chunk ---------------------------------------------------------------- */

static struct bt_cache_job *of_task(struct bt_task *task)
{
	return bt_container_of(task, struct bt_cache_job, task);
}

/* The lock goes last but for what depends on it: a write that waits for the
 * chunk starts inside bt_range_unlock, and finds the slot free of the job. */
static void end_job(struct bt_cache_job *job)
{
	struct bt_cache *cache = job->cache;
	struct bt_cache_slot *slot = &cache->slots[job->slot];

	slot->busy--;
	slot->cleaning = false;
	job->busy = false;
	cache->jobs_busy--;
	bt_buffers_give(&cache->job_buffers, job->buffer);
	bt_range_unlock(&cache->lock, &job->range);
	go_on(cache);
	bt_cache_settled(cache);
}

/* Told once for a row of failures; a job that works ends the row, unless the
 * round is draining, which has to see that there was one. */
static void fail_job(struct bt_cache_job *job, const struct bt_port *port)
{
	struct bt_cache *cache = job->cache;
	char reason[BT_STRERROR_MAX];

	if (!cache->clean_error)
		bt_log(cache->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: %llu bytes cannot be written back: '%s': %s",
		       cache->node->name,
		       (unsigned long long)cache->dirty_blocks * BT_CACHE_BLOCK,
		       port->lower->name, bt_strerror(job->task.error, reason));
	cache->clean_error = job->task.error;
	cache->retry_at_ns = now_of(cache) + NS_PER_S;
	end_job(job);
}

/* The origin has them, but no flush covers that yet: they are clean and
 * `cleaned`, and the table on disk still calls them dirty. */
static void job_written(struct bt_task *task)
{
	struct bt_cache_job *job = of_task(task);

	if (task->error) {
		fail_job(job, job->cache->origin);
		return;
	}
	/* a part of it may have been lost while the rest was written */
	bt_cache_look_lost(job->cache);
	if (job->doubts == job->cache->doubts)
		bt_cache_set_clean(job->cache, job->slot, job->bits);
	if (!job->cache->draining)
		job->cache->clean_error = 0;
	end_job(job);
}

/* Each run of blocks that are dirty, from or to the buffer. */
static void move(struct bt_cache_job *job, struct bt_port *port,
		 enum blktap_op op, void (*then)(struct bt_task *task))
{
	struct bt_cache *cache = job->cache;
	uint32_t first, end;

	bt_task_begin(&job->task, then);
	for (first = 0; first < 16; first = end + 1) {
		uint64_t in = (uint64_t)first * BT_CACHE_BLOCK, at;

		end = first;
		while (job->bits >> end & 1u)
			end++;
		if (end == first)
			continue;
		at = port == cache->store ? bt_cache_slot_at(cache, job->slot)
					  : job->range.offset;
		bt_task_add(&job->task, cache->job_pool, port, op, at + in,
			    job->buffer + in,
			    (uint64_t)(end - first) * BT_CACHE_BLOCK, NULL);
	}
	bt_task_end(&job->task);
}

/* A dirty block that cannot be read stays dirty: its only copy may be read yet,
 * another day. */
static void job_read(struct bt_task *task)
{
	struct bt_cache_job *job = of_task(task);

	if (task->error) {
		bt_cache_lose(job->cache, task->error, false);
		fail_job(job, job->cache->store);
	} else {
		bt_cache_look_lost(job->cache);
		job->doubts = job->cache->doubts;
		move(job, job->cache->origin, BLKTAP_OP_WRITE, job_written);
	}
}

/* The bits are looked at under the lock: while the job waited for it a write
 * may have added to them. */
static void job_locked(struct bt_range *range)
{
	struct bt_cache_job *job =
		bt_container_of(range, struct bt_cache_job, range);

	job->bits = job->cache->slots[job->slot].dirty;
	move(job, job->cache->store, BLKTAP_OP_READ, job_read);
}

/* The lock is shared: it stands against writes alone, which take theirs
 * exclusively, while reads of the slot may go on. */
static void start_job(struct bt_cache_job *job, uint32_t slot)
{
	struct bt_cache *cache = job->cache;
	struct bt_cache_slot *s = &cache->slots[slot];
	uint64_t at = (s->chunk - 1) * BT_CACHE_SLOT;

	job->busy = true;
	job->slot = slot;
	job->buffer = bt_buffers_take(&cache->job_buffers);
	cache->jobs_busy++;
	s->busy++;
	s->cleaning = true;
	if (bt_range_lock(&cache->lock, &job->range, at,
			  bt_min_u64(BT_CACHE_SLOT, cache->size - at), false,
			  job_locked))
		job_locked(&job->range);
}

/* ---- which and when ------------------------------------------------------------ */

/* Goes on at the word where it last found something, so that all of the cache
 * gets its turn. */
static uint32_t pick(struct bt_cache *cache)
{
	uint32_t words = cache->slot_count / 64 + 1, n;

	for (n = 0; n <= words; n++) {
		uint64_t word = cache->dirty_map[cache->clean_hand];

		while (word) {
			uint32_t slot = cache->clean_hand * 64 +
					(uint32_t)__builtin_ctzll(word);

			if (!cache->slots[slot].cleaning)
				return slot;
			word &= word - 1;
		}
		cache->clean_hand = (cache->clean_hand + 1) % words;
	}
	return BT_CACHE_NONE;
}

/* When the next chunk may go; 0: now. With mode=writethrough what is dirty
 * (from before) goes at once. */
static uint64_t due(const struct bt_cache *cache)
{
	uint64_t at = cache->paid_until_ns;

	if (cache->draining)
		return 0;
	if (cache->writeback && cache->dirty_blocks <= cache->dirty_max / 2)
		at = bt_max_u64(at, cache->idle_until_ns);
	if (cache->clean_error)
		at = bt_max_u64(at, cache->retry_at_ns);
	return at > now_of(cache) ? at : 0;
}

/* By what is dirty when it begins; a write that comes until the lock is had
 * moves along for nothing. */
static void pay(struct bt_cache *cache, uint32_t slot)
{
	uint64_t bytes =
		(uint64_t)__builtin_popcount(cache->slots[slot].dirty) *
		BT_CACHE_BLOCK;

	if (cache->rate)
		cache->paid_until_ns =
			bt_max_u64(cache->paid_until_ns, now_of(cache)) +
			(uint64_t)((double)bytes * 1e9 / (double)cache->rate);
}

/* Fills the idle jobs, as far as time and rate allow. It is run anew after each
 * job, each kick and by the timer, so it need not know why it was called. */
static void work(struct bt_work *w)
{
	struct bt_cache *cache = bt_container_of(w, struct bt_cache, work);
	uint32_t i, slot;
	uint64_t at;

	if (!cache->dirty_blocks)
		cache->idle_until_ns = 0;
	for (i = 0; i < BT_CACHE_JOBS; i++) {
		if (cache->jobs[i].busy)
			continue;
		if (!cache->dirty_blocks || cache->closing || cache->spoiled ||
		    (cache->draining && cache->clean_error))
			break;
		at = due(cache);
		if (at) {
			bt_timer_arm(cache->node->env->loop, &cache->timer, at);
			break;
		}
		slot = pick(cache);
		if (slot == BT_CACHE_NONE)
			break;
		pay(cache, slot);
		start_job(&cache->jobs[i], slot);
	}
	if (cache->draining && cache->spoiled)
		cache->clean_error = -EIO;
	bt_cache_settled(cache);
}

static void fired(struct bt_timer *timer)
{
	go_on(bt_container_of(timer, struct bt_cache, timer));
}

/* The delay counts from the first that is dirty, so that it ends. */
void bt_cache_clean_kick(struct bt_cache *cache)
{
	if (cache->dirty_blocks && !cache->idle_until_ns)
		cache->idle_until_ns = now_of(cache) + NS_PER_S;
	go_on(cache);
}

int bt_cache_clean_init(struct bt_cache *cache)
{
	uint32_t i;
	int rc = bt_buffers_init(&cache->job_buffers, BT_CACHE_JOBS,
				 BT_CACHE_SLOT);

	for (i = 0; i < BT_CACHE_JOBS; i++) {
		cache->jobs[i].cache = cache;
		bt_list_init(&cache->jobs[i].range.link);
	}
	bt_timer_init(&cache->timer, fired);
	bt_work_init(&cache->work, work);
	if (!rc)
		rc = bt_node_add_pool(cache->node, BT_CACHE_RUNS,
				      sizeof(struct bt_task_io),
				      &cache->job_pool);
	return rc;
}

void bt_cache_clean_fini(struct bt_cache *cache)
{
	if (cache->timer.fn)
		bt_timer_cancel(&cache->timer);
	if (cache->work.fn)
		bt_work_cancel(&cache->work);
	bt_buffers_fini(&cache->job_buffers);
}
