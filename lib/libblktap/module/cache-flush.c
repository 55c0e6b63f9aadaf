/* SPDX-License-Identifier: BSD-3-Clause */
/* What makes a guest's writes durable, wherever they are. One round at a time:
 *
 *   IDLE -> stage the table -> FLUSHING origin, and the store where it has what
 *        the origin has not -> COMMITTING the table -> IDLE
 *
 * Data, then map: the table calls dirty what is flushed into its slots, and clean
 * what is flushed in the origin. Where the origin's flush fails, what was written
 * back since the last one is dirty again, and the table stays as it was. Where the
 * origin says that it lost what it had not flushed, that is dirty again as well, and
 * the round begins anew: its flush covers less than it was to.
 *
 * A last flush writes everything back before (DRAINING), so that the origin is whole
 * without its cache, puts into the table what is valid, and marks the store clean.
 * Requests that come between these two are held (CLOSING), and go on behind the
 * round, with the mark taken back first: a slot that got another chunk meanwhile
 * would be believed to have the old one's data. */
#include "module/cache.h"

#include <errno.h>

#include "core/log.h"
#include "util/bytes.h"
#include "util/checked.h"

static void begin_round(struct bt_cache *cache);
static void send_round(struct bt_cache *cache);

/* ---- requests that the store's state holds ------------------------------------ */

static void start_held(struct bt_cache *cache, int error)
{
	struct bt_list held = BT_LIST_INIT(held), *at;

	bt_list_splice_tail(&held, &cache->held);
	while ((at = bt_list_pop(&held))) {
		struct bt_request *req =
			bt_list_entry(at, struct bt_request, link);

		if (error)
			bt_request_complete(req, error);
		else
			bt_cache_start(cache, req);
	}
}

static void marked(struct bt_header_writer *writer, int error)
{
	struct bt_cache *cache = writer->opaque;

	cache->state = error ? BT_CACHE_CLEAN : BT_CACHE_RUNNING;
	cache->header.clean = error != 0;
	if (error)
		bt_log(cache->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: '%s' cannot be marked as in use: nothing is read "
		       "or written, since it would not be noticed",
		       cache->node->name, cache->store->lower->name);
	start_held(cache, error);
	bt_cache_settled(cache);
}

/* A store that is marked clean is believed: so that mark goes first. */
static void unmark(struct bt_cache *cache)
{
	cache->state = BT_CACHE_MARKING;
	cache->header.clean = false;
	bt_header_writer_go(&cache->writer, marked);
}

void bt_cache_hold(struct bt_cache *cache, struct bt_request *req)
{
	bt_list_add_tail(&cache->held, &req->link);
	if (cache->state == BT_CACHE_CLEAN)
		unmark(cache);
}

/* A last round is over, with the mark or without. */
static void let_in(struct bt_cache *cache)
{
	if (cache->state == BT_CACHE_CLOSING)
		cache->state = BT_CACHE_RUNNING;
	if (bt_list_empty(&cache->held))
		return;
	if (cache->state == BT_CACHE_RUNNING)
		start_held(cache, 0);
	else if (cache->state == BT_CACHE_CLEAN)
		unmark(cache);
}

/* ---- the end ---------------------------------------------------------------- */

/* The round's list is taken over first: a flush that comes while its requests
 * are told may begin the next round. */
static void end_round(struct bt_cache *cache, int error, struct bt_node *failed)
{
	struct bt_list round = BT_LIST_INIT(round), *at;

	bt_list_splice_tail(&round, &cache->round);
	cache->flushing = false;
	cache->draining = false;
	while ((at = bt_list_pop(&round))) {
		struct bt_request *req =
			bt_list_entry(at, struct bt_request, link);

		req->failed = failed;
		bt_request_complete(req, error);
	}
	let_in(cache);
	bt_cache_clean_kick(cache);
	begin_round(cache);
}

static void store_closed(struct bt_request *req)
{
	struct bt_cache *cache = req->opaque;

	bt_pool_give(req);
	end_round(cache, cache->result, cache->result ? cache->node : NULL);
}

/* The pool has two: a round has one flush of each port at most. */
static void flush(struct bt_cache *cache, struct bt_port *port, uint32_t flags,
		  void (*done)(struct bt_request *req))
{
	struct bt_request *req = bt_pool_take(cache->flush_pool);

	req->op = BLKTAP_OP_FLUSH;
	req->flags = flags;
	req->done = done;
	req->opaque = cache;
	bt_port_submit(port, req);
}

/* What the store stands on may have something to mark clean as well. Nothing that
 * is missed depends on it. */
static void end_last(struct bt_cache *cache, int error)
{
	cache->result = error;
	if (cache->last)
		flush(cache, cache->store, BT_REQUEST_LAST, store_closed);
	else
		end_round(cache, error, error ? cache->node : NULL);
}

static void marked_clean(struct bt_header_writer *writer, int error)
{
	struct bt_cache *cache = writer->opaque;

	/* or it may say so, on disk: nothing may change either way */
	cache->state = BT_CACHE_CLEAN;
	if (error)
		bt_cache_lose(cache, error, false);
	end_last(cache, 0);
}

/* What the round covers is dirty again, in part. */
static bool is_in_doubt(const struct bt_cache *cache)
{
	return cache->round_doubts != cache->doubts && !cache->spoiled;
}

static void committed(struct bt_cache *cache)
{
	bt_cache_staged(cache);
	if (is_in_doubt(cache)) {
		let_in(cache);
		send_round(cache);
		return;
	}
	if (cache->state != BT_CACHE_CLOSING || cache->lost ||
	    cache->dirty_blocks || cache->marked) {
		end_last(cache, 0);
		return;
	}
	cache->header.clean = true;
	bt_cache_note_origin(cache);
	bt_header_writer_go(&cache->writer, marked_clean);
}

/* An error of the table alone loses nothing where the store has no dirty block;
 * else what a guest believes to be durable is not, and the flush fails. */
static void table_written(struct bt_table_wait *wait, int error)
{
	struct bt_cache *cache = bt_container_of(wait, struct bt_cache, wait);

	if (!error) {
		committed(cache);
		return;
	}
	bt_cache_lose(cache, error, true);
	bt_cache_unstage(cache, false);
	/* with nothing in the store that the origin lacks, it is not missed */
	end_last(cache, cache->spoiled ? -EIO : 0);
}

/* ---- the flushes -------------------------------------------------------------- */

/* Both flushes are back. The origin's error comes first, since it alone can be
 * mended by writing the slots back again; the table on disk is left as it was,
 * which calls those slots dirty. */
static void joined(struct bt_cache *cache)
{
	if (--cache->flush_out)
		return;
	if (cache->origin_error) {
		bt_cache_unstage(cache, true);
		end_round(cache, cache->origin_error, cache->failed);
		return;
	}
	if (cache->store_error)
		bt_cache_lose(cache, cache->store_error, true);
	bt_cache_look_lost(cache);
	if (cache->gone) {
		cache->gone = false;
		bt_cache_unstage(cache, true);
		end_round(cache, -EIO, cache->origin->lower);
	} else if (is_in_doubt(cache)) {
		bt_cache_unstage(cache, true);
		let_in(cache);
		send_round(cache);
	} else if (cache->spoiled) {
		bt_cache_unstage(cache, false);
		end_last(cache, -EIO);
	} else if (cache->with_store && !cache->store_error) {
		cache->wait.fn = table_written;
		bt_table_commit(&cache->table, &cache->wait);
	} else {
		committed(cache);
	}
}

static void origin_flushed(struct bt_request *req)
{
	struct bt_cache *cache = req->opaque;

	cache->origin_error = req->error;
	cache->failed = req->failed;
	bt_pool_give(req);
	joined(cache);
}

static void store_flushed(struct bt_request *req)
{
	struct bt_cache *cache = req->opaque;

	cache->store_error = req->error;
	bt_pool_give(req);
	joined(cache);
}

/* The two flushes go together: neither needs the other. The table is written
 * behind both, from what was staged before them, so it names no write that came
 * meanwhile. */
static void go(struct bt_cache *cache)
{
	bool all = cache->last && !cache->lost && !cache->dirty_blocks &&
		   cache->state == BT_CACHE_RUNNING;

	if (all)
		cache->state = BT_CACHE_CLOSING;
	cache->round_doubts = cache->doubts;
	bt_cache_stage(cache, all);
	cache->with_store = all || cache->dirty_blocks || cache->marked;
	cache->origin_error = 0;
	cache->store_error = 0;
	cache->flush_out = cache->with_store ? 3 : 2;
	flush(cache, cache->origin, cache->last ? BT_REQUEST_LAST : 0,
	      origin_flushed);
	if (cache->with_store)
		flush(cache, cache->store, 0, store_flushed);
	joined(cache);
}

/* ---- rounds --------------------------------------------------------------------- */

/* No piece of a request, no chunk on its way to the origin, no header that is
 * being marked. */
bool bt_cache_is_quiet(const struct bt_cache *cache)
{
	return !bt_pool_in_use(cache->pool) && !cache->jobs_busy &&
	       cache->state != BT_CACHE_MARKING;
}

/* Called by whatever ends; only a round that is draining cares. With an error
 * and nothing under way, what is left dirty cannot be written back now: the
 * last flush fails with that. */
void bt_cache_settled(struct bt_cache *cache)
{
	if (!cache->draining || !bt_cache_is_quiet(cache))
		return;
	if (!cache->dirty_blocks) {
		cache->draining = false;
		go(cache);
	} else if (cache->clean_error) {
		end_round(cache, cache->clean_error, cache->failed);
	}
}

static bool is_last(const struct bt_cache *cache)
{
	const struct bt_list *pos;

	bt_list_for_each (pos, &cache->round)
		if (bt_list_entry(pos, struct bt_request, link)->flags &
		    BT_REQUEST_LAST)
			return true;
	return false;
}

/* All that wait now are one round; who comes later waits for the next, since
 * its writes may not have been staged. */
static void begin_round(struct bt_cache *cache)
{
	if (cache->flushing || (bt_list_empty(&cache->flushes) && !cache->tidy))
		return;
	cache->flushing = true;
	cache->tidy = false;
	bt_list_splice_tail(&cache->round, &cache->flushes);
	cache->last = is_last(cache);
	send_round(cache);
}

/* A last one is sent when nothing is dirty any more. */
static void send_round(struct bt_cache *cache)
{
	bt_cache_look_lost(cache);
	if (!cache->last) {
		go(cache);
		return;
	}
	cache->draining = true;
	cache->clean_error = 0;
	cache->failed = NULL;
	bt_cache_clean_kick(cache);
	bt_cache_settled(cache);
}

void bt_cache_flush(struct bt_cache *cache, struct bt_request *req)
{
	bt_list_add_tail(&cache->flushes, &req->link);
	begin_round(cache);
}

void bt_cache_tidy(struct bt_cache *cache)
{
	/* with the store gone nothing becomes free */
	if (cache->lost || cache->closing)
		return;
	cache->tidy = true;
	begin_round(cache);
}
