/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests. Each locks its range (writes against all, reads against writes) and is
 * cut into pieces that lie in one chunk and go one way:
 *
 *   read	in the store	-> store
 *		else		-> origin, by a buffer -> guest; then -> store, for
 *				   which the guest does not wait
 *   write	back		-> store: dirty. Where that fails -> origin: dropped
 *		through		-> origin -> store: clean
 *		no slot		-> origin
 *
 * What is dirty is always written back, also with mode=writethrough, until it has
 * been cleaned. Zeroes and discards go to the origin; zeroes drop what the store
 * has, and a discard drops what is clean, since what an origin keeps in spite of it
 * may be older than what is dirty. A block is valid only while the copy in the slot
 * is known to be what a read of the disk must give: it is not from before the
 * origin is written until the slot is, too. */
#include "module/cache.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "util/checked.h"

#define STATUS_MAX (64ull << 20) /* bytes that one question looks at */

static void feed(struct bt_cache_frame *frame);

/* ---- the end ---------------------------------------------------------------- */

static void finish(struct bt_cache_frame *frame, int error)
{
	struct bt_cache *cache = frame->cache;
	struct bt_request *req = frame->req;

	req->failed = frame->failed;
	bt_range_unlock(&cache->lock, &frame->range);
	bt_request_complete(req, error);
}

static void unpend(struct bt_cache_frame *frame)
{
	if (--frame->pending == 0)
		finish(frame, frame->error);
}

/* One request for each piece that came back. It may take more pieces than one,
 * or have failed meanwhile, and then just ends. */
static void feed_waiting(struct bt_cache *cache)
{
	struct bt_list *at = bt_list_pop(&cache->waiting);

	if (at)
		feed(bt_request_frame(
			bt_list_entry(at, struct bt_request, link)));
}

/* The order counts: the slot and the range are let go before the request ends,
 * and the piece is back in its pool before another request looks for one. */
static void end_piece(struct bt_cache_piece *piece, int error)
{
	struct bt_cache *cache = piece->cache;
	struct bt_cache_frame *frame = piece->frame;

	if (error && frame && !frame->error) {
		frame->error = error;
		frame->failed = piece->req.failed;
	}
	if (piece->slot != BT_CACHE_NONE)
		cache->slots[piece->slot].busy--;
	if (piece->buffer)
		bt_buffers_give(&cache->buffers, piece->buffer);
	cache->reserved -= piece->reserved;
	bt_range_unlock(&cache->lock, &piece->range);
	bt_pool_give(&piece->req);
	if (frame)
		unpend(frame);
	feed_waiting(cache);
	bt_cache_settled(cache);
}

/* ---- a piece ----------------------------------------------------------------- */

static void send(struct bt_cache_piece *piece, uint32_t port, enum blktap_op op,
		 void (*done)(struct bt_request *req))
{
	struct bt_cache *cache = piece->cache;
	struct bt_request *req = &piece->req;

	req->op = op;
	req->error = 0;
	req->length = piece->length;
	req->offset = piece->offset;
	if (port == BT_CACHE_STORE)
		req->offset = bt_cache_slot_at(cache, piece->slot) +
			      piece->offset % BT_CACHE_SLOT;
	if (piece->buffer) {
		req->data = (struct bt_sgl){ .iov = &piece->iov, .count = 1 };
	} else {
		req->data = piece->frame->req->data;
		bt_sgl_advance(&req->data, piece->at);
	}
	req->done = done;
	bt_port_submit(port == BT_CACHE_STORE ? cache->store : cache->origin,
		       req);
}

static struct bt_cache_piece *of(struct bt_request *req)
{
	return (struct bt_cache_piece *)req;
}

static void passed(struct bt_request *req)
{
	end_piece(of(req), req->error);
}

/* Both have it. The store's error is not the guest's: the origin has the data.
 */
static void kept(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);
	struct bt_cache *cache = piece->cache;

	if (req->error)
		bt_cache_lose(cache, req->error, false);
	else if (!cache->lost && piece->epoch == cache->epoch)
		cache->slots[piece->slot].valid |= piece->bits;
	end_piece(piece, 0);
}

/* What was read, or written through, may be noted as valid: not where the origin has
 * become another one since the piece began, as it is the old one's then. */
static bool may_keep(const struct bt_cache_piece *piece)
{
	const struct bt_cache *cache = piece->cache;

	return piece->slot != BT_CACHE_NONE && !cache->lost &&
	       piece->epoch == cache->epoch;
}

/* ---- reading ------------------------------------------------------------------ */

/* A lock that is not had at once is given up again, so nobody calls this. */
static void never(struct bt_range *range)
{
	(void)range;
}

/* The request ends now, and the piece goes on with a lock of its own; unless
 * somebody waits for the range, who would have to wait for this as well. */
static bool detach(struct bt_cache_piece *piece)
{
	struct bt_cache *cache = piece->cache;
	struct bt_cache_frame *frame = piece->frame;

	if (!bt_range_lock(&cache->lock, &piece->range, piece->offset,
			   piece->length, false, never)) {
		bt_range_unlock(&cache->lock, &piece->range);
		return false;
	}
	piece->frame = NULL;
	unpend(frame);
	return true;
}

/* The guest's copy first: what becomes of the store's is not its business. */
static void origin_read(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);
	struct bt_sgl data = piece->frame->req->data;

	if (req->error) {
		end_piece(piece, req->error);
		return;
	}
	if (piece->frame->req->op == BLKTAP_OP_READ) {
		bt_sgl_advance(&data, piece->at);
		bt_sgl_copy_in(&data, piece->buffer, piece->length);
	}
	if (may_keep(piece) && detach(piece))
		send(piece, BT_CACHE_STORE, BLKTAP_OP_WRITE, kept);
	else
		end_piece(piece, 0);
}

static void name_lost(const struct bt_cache_piece *piece)
{
	const struct bt_cache *cache = piece->cache;

	bt_log(cache->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: what was written at %llu is in '%s' alone, which cannot "
	       "be read",
	       cache->node->name, (unsigned long long)piece->offset,
	       cache->store->lower->name);
}

/* The origin has what is clean. */
static void store_read(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);
	struct bt_cache *cache = piece->cache;
	struct bt_cache_slot *slot = &cache->slots[piece->slot];

	if (!req->error) {
		end_piece(piece, 0);
		return;
	}
	bt_cache_lose(cache, req->error, false);
	if (slot->dirty & piece->bits) {
		name_lost(piece);
		end_piece(piece, -EIO);
		return;
	}
	slot->valid &= (uint16_t)~piece->bits;
	send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_READ, passed);
}

/* Of whole blocks, as what a disk asks for is. An image that stands on the cache has
 * pieces of its own, and may read less. */
static bool is_whole(const struct bt_cache_piece *piece)
{
	return (piece->offset | piece->length) % BT_CACHE_BLOCK == 0;
}

/* A dirty block of a store that has lost a flush may be old: the write that made it
 * dirty was answered, so its data must come back or nothing. A part of a clean one is
 * the origin's to give: what the store takes at once may be more. */
static void read_hit(struct bt_cache_piece *piece)
{
	struct bt_cache *cache = piece->cache;
	struct bt_cache_slot *slot = &cache->slots[piece->slot];

	if (!is_whole(piece) && !(slot->dirty & piece->bits)) {
		send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_READ, passed);
		return;
	}
	cache->hits += piece->length / BT_CACHE_BLOCK;
	if (piece->frame->req->op == BLKTAP_OP_PREFETCH) {
		end_piece(piece, 0);
	} else if (cache->spoiled && slot->dirty & piece->bits) {
		name_lost(piece);
		end_piece(piece, -EIO);
	} else {
		send(piece, BT_CACHE_STORE, BLKTAP_OP_READ, store_read);
	}
}

/* Until end_piece: a slot that is busy keeps its chunk. */
static void hold_slot(struct bt_cache_piece *piece, uint32_t slot)
{
	piece->slot = slot;
	if (slot == BT_CACHE_NONE)
		return;
	piece->cache->slots[slot].busy++;
	piece->cache->slots[slot].used = true;
}

/* On trial the slots may be another node's still, where the change is given up. */
static bool may_take(const struct bt_cache_piece *piece)
{
	const struct bt_cache *cache = piece->cache;

	return !cache->lost && !piece->frame->sequential &&
	       !cache->node->on_trial;
}

/* A slot is taken only where there is a buffer for what is read, so none is
 * left empty with a chunk's name on it. */
static void read_miss(struct bt_cache_piece *piece)
{
	struct bt_cache *cache = piece->cache;
	bool wanted = may_take(piece) && is_whole(piece);

	cache->misses += piece->length / BT_CACHE_BLOCK;
	if (wanted && cache->buffers.left && piece->slot == BT_CACHE_NONE)
		hold_slot(piece,
			  bt_cache_take(cache, piece->offset / BT_CACHE_SLOT));
	if (wanted && piece->slot != BT_CACHE_NONE)
		piece->buffer = bt_buffers_take(&cache->buffers);
	piece->iov.iov_base = piece->buffer;
	piece->iov.iov_len = piece->length;
	if (piece->buffer)
		send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_READ, origin_read);
	else if (piece->frame->req->op == BLKTAP_OP_PREFETCH)
		end_piece(piece, 0);
	else
		send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_READ, passed);
}

/* ---- writing ------------------------------------------------------------------ */

/* The origin has it now, and the slot something older, or half of it. */
static void written_instead(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);

	if (!req->error)
		bt_cache_drop(piece->cache, piece->slot, piece->bits);
	end_piece(piece, req->error);
}

/* A dirty block stays valid until the origin has taken the new data: where it
 * does not, the old data is still the store's. */
static void write_instead(struct bt_cache_piece *piece)
{
	struct bt_cache_slot *slot = &piece->cache->slots[piece->slot];

	slot->valid &= (uint16_t) ~(piece->bits & ~slot->dirty);
	send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_WRITE, written_instead);
}

/* Dirty from here on, before the guest is told: a flush that it sends behind its
 * answer finds the block. */
static void written_back(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);

	if (req->error) {
		bt_cache_lose(piece->cache, req->error, false);
		write_instead(piece);
		return;
	}
	bt_cache_set_dirty(piece->cache, piece->slot, piece->bits);
	end_piece(piece, 0);
	bt_cache_clean_kick(piece->cache);
}

static void written_through(struct bt_request *req)
{
	struct bt_cache_piece *piece = of(req);

	if (!req->error && may_keep(piece))
		send(piece, BT_CACHE_STORE, BLKTAP_OP_WRITE, kept);
	else
		end_piece(piece, req->error);
}

/* What is on its way to become dirty counts as if it were. */
static bool has_room(const struct bt_cache *cache, uint32_t blocks)
{
	return cache->dirty_blocks + cache->reserved + blocks <=
	       cache->dirty_max;
}

static void write_piece(struct bt_cache_piece *piece)
{
	struct bt_cache *cache = piece->cache;
	uint32_t blocks = (uint32_t)(piece->length / BT_CACHE_BLOCK);
	struct bt_cache_slot *slot;

	if (piece->slot == BT_CACHE_NONE && may_take(piece))
		hold_slot(piece,
			  bt_cache_take(cache, piece->offset / BT_CACHE_SLOT));
	if (piece->slot == BT_CACHE_NONE) {
		cache->passed += blocks;
		send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_WRITE, passed);
		return;
	}
	slot = &cache->slots[piece->slot];
	if (slot->dirty & piece->bits) {
		if (cache->lost)
			write_instead(piece);
		else
			send(piece, BT_CACHE_STORE, BLKTAP_OP_WRITE,
			     written_back);
	} else if (cache->writeback && !cache->lost &&
		   has_room(cache, blocks)) {
		piece->reserved = blocks;
		cache->reserved += blocks;
		send(piece, BT_CACHE_STORE, BLKTAP_OP_WRITE, written_back);
	} else {
		/* not valid from here until both have it */
		bt_cache_drop(cache, piece->slot, piece->bits);
		send(piece, BT_CACHE_ORIGIN, BLKTAP_OP_WRITE, written_through);
	}
}

/* ---- pieces of a request -------------------------------------------------------- */

/* How many of the blocks from first on are alike in mask. */
static uint32_t run_of(uint16_t mask, uint32_t first, uint32_t count)
{
	uint32_t n = 1, bit = mask >> first & 1u;

	while (n < count && (mask >> (first + n) & 1u) == bit)
		n++;
	return n;
}

/* As long as all its blocks go one way. The piece is under its request's lock, so
 * what is looked up here stays so until it ends, but for what only grows: blocks
 * that are written back become clean, and stay valid. */
static void start_piece(struct bt_cache_frame *frame,
			struct bt_cache_piece *piece)
{
	struct bt_cache *cache = frame->cache;
	struct bt_request *req = frame->req;
	uint64_t at = req->offset + frame->cursor, chunk = at / BT_CACHE_SLOT;
	uint64_t end = bt_min_u64(req->offset + req->length,
				  (chunk + 1) * BT_CACHE_SLOT);
	uint32_t first = (uint32_t)(at % BT_CACHE_SLOT / BT_CACHE_BLOCK);
	uint32_t count =
		(uint32_t)((end - 1) % BT_CACHE_SLOT / BT_CACHE_BLOCK) + 1 -
		first;
	bool write = req->op == BLKTAP_OP_WRITE;
	struct bt_cache_slot *slot;

	if (bt_unlikely(cache->links != cache->node->env->links))
		bt_cache_look_below(cache);
	piece->cache = cache;
	piece->frame = frame;
	piece->buffer = NULL;
	piece->reserved = 0;
	piece->epoch = cache->epoch;
	piece->at = frame->cursor;
	piece->offset = at;
	bt_list_init(&piece->range.link);
	hold_slot(piece, bt_cache_find(cache, chunk));
	slot = piece->slot == BT_CACHE_NONE ? NULL : &cache->slots[piece->slot];
	if (slot)
		count = run_of(write ? slot->dirty : slot->valid, first, count);
	piece->length =
		bt_min_u64(end,
			   chunk * BT_CACHE_SLOT +
				   (first + count) * (uint64_t)BT_CACHE_BLOCK) -
		at;
	piece->bits = bt_cache_bits(first, count);
	frame->cursor += piece->length;
	frame->pending++;
	if (write)
		write_piece(piece);
	else if (slot && slot->valid & piece->bits)
		read_hit(piece);
	else
		read_miss(piece);
}

/* Begins what is left, as far as there are pieces. */
static void feed(struct bt_cache_frame *frame)
{
	struct bt_request *req = frame->req, *child;

	while (frame->cursor < req->length && !frame->error) {
		child = bt_pool_take(frame->cache->pool);
		if (!child) {
			bt_list_add_tail(&frame->cache->waiting, &req->link);
			return;
		}
		start_piece(frame, of(child));
	}
	unpend(frame);
}

static void transfer(struct bt_range *range)
{
	feed(range->owner);
}

/* ---- zeroes and discards ---------------------------------------------------------- */

/* Calls fn for what the store has of the request's range. */
static void each_slot(struct bt_cache *cache, const struct bt_request *req,
		      void (*fn)(struct bt_cache *cache, uint32_t slot,
				 uint16_t bits))
{
	uint64_t at = req->offset, end = at + req->length, next;

	for (; at < end; at = next) {
		uint64_t chunk = at / BT_CACHE_SLOT;
		uint32_t slot = bt_cache_find(cache, chunk);

		next = bt_min_u64(end, (chunk + 1) * BT_CACHE_SLOT);
		if (slot != BT_CACHE_NONE)
			fn(cache, slot,
			   bt_cache_bits(
				   (uint32_t)(at % BT_CACHE_SLOT /
					      BT_CACHE_BLOCK),
				   (uint32_t)((next - at) / BT_CACHE_BLOCK)));
	}
}

static void drop_clean(struct bt_cache *cache, uint32_t slot, uint16_t bits)
{
	bt_cache_drop(cache, slot, bits & (uint16_t)~cache->slots[slot].dirty);
}

/* Clean copies go before the origin changes; dirty ones stay until it has, since a
 * failure leaves the disk with what they hold. */
static void unmap(struct bt_range *range)
{
	struct bt_cache_frame *frame = range->owner;

	each_slot(frame->cache, frame->req, drop_clean);
	bt_port_submit(frame->cache->origin, frame->req);
}

/* A discard that went well leaves the dirty blocks: see the top. */
static void unmapped(struct bt_cache_frame *frame)
{
	struct bt_request *req = frame->req;

	if (!req->error && req->op == BLKTAP_OP_WRITE_ZEROES)
		each_slot(frame->cache, req, bt_cache_drop);
	frame->failed = req->failed;
	finish(frame, req->error);
}

/* ---- questions ------------------------------------------------------------------- */

static bool is_dirty(const struct bt_cache *cache, uint64_t offset)
{
	uint32_t slot = bt_cache_find(cache, offset / BT_CACHE_SLOT);

	return slot != BT_CACHE_NONE &&
	       cache->slots[slot].dirty >>
			       (offset % BT_CACHE_SLOT / BT_CACHE_BLOCK) &
		       1u;
}

/* What is dirty is data, whatever the origin says of it. */
static void ask(struct bt_cache *cache, struct bt_request *req)
{
	struct bt_cache_frame *frame = bt_request_frame(req);
	uint64_t most = bt_min_u64(req->length, STATUS_MAX);
	/* a question may begin inside of a block */
	uint64_t n = BT_CACHE_BLOCK - req->offset % BT_CACHE_BLOCK;
	bool dirty = cache->dirty_blocks && is_dirty(cache, req->offset);

	frame->length = req->length;
	while (cache->dirty_blocks && n < most &&
	       is_dirty(cache, req->offset + n) == dirty)
		n += BT_CACHE_BLOCK;
	n = bt_min_u64(n, req->length);
	if (dirty) {
		req->extents[0] = (struct blktap_extent){ .length = n };
		req->extent_count = 1;
		bt_request_complete(req, 0);
		return;
	}
	if (cache->dirty_blocks)
		req->length = n;
	bt_port_submit(cache->origin, req);
}

/* ---- requests as they come ------------------------------------------------------- */

void bt_cache_start(struct bt_cache *cache, struct bt_request *req)
{
	struct bt_cache_frame *frame = bt_request_frame(req);
	bool moves = req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE;
	void (*go)(struct bt_range * range) =
		moves || req->op == BLKTAP_OP_PREFETCH ? transfer : unmap;

	if (bt_unlikely(bt_op_is_writing(req->op) &&
			(req->offset | req->length) % BT_CACHE_BLOCK)) {
		bt_request_complete(req, -EINVAL);
		return;
	}
	memset(frame, 0, sizeof(*frame));
	frame->cache = cache;
	frame->req = req;
	frame->pending = 1;
	frame->range.owner = frame;
	if (moves)
		frame->sequential = bt_cache_is_sequential(cache, req);
	if (bt_range_lock(&cache->lock, &frame->range, req->offset, req->length,
			  bt_op_is_writing(req->op), go))
		go(&frame->range);
}

void bt_cache_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_cache *cache = node->data;

	if (req->op == BLKTAP_OP_FLUSH)
		bt_cache_flush(cache, req);
	else if (req->op == BLKTAP_OP_BLOCK_STATUS)
		ask(cache, req);
	else if (cache->state == BT_CACHE_RUNNING)
		bt_cache_start(cache, req);
	else
		bt_cache_hold(cache, req);
}

void bt_cache_complete(struct bt_node *node, struct bt_port *port,
		       struct bt_request *req)
{
	struct bt_cache_frame *frame = bt_request_frame(req);

	(void)node;
	(void)port;
	if (req->op != BLKTAP_OP_BLOCK_STATUS) {
		unmapped(frame);
		return;
	}
	req->length = frame->length;
	bt_request_complete(req, req->error);
}
