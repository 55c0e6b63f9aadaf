/* SPDX-License-Identifier: BSD-3-Clause */
/* What a lane does once the guest has its bytes, and what is learned by that; see
 * copy-on-read.h. */
#include "module/copy-on-read.h"

#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "util/checked.h"

/* Ends are not part of the range. */
static bool overlap(uint64_t a_from, uint64_t a_to, uint64_t b_from,
		    uint64_t b_to)
{
	return a_from < b_to && b_from < a_to;
}

/* ---- what is known --------------------------------------------------------- */

/* The map is in memory alone, and a hint: a bit that lacks costs a question, and
 * one that is set although the bytes are lower costs their copy. No read is ever
 * answered by it. */

bool bt_cor_is_known(const struct bt_cor *cor, uint64_t offset, uint64_t length)
{
	uint64_t n = offset / BT_COR_GRAIN,
		 end = (offset + length - 1) / BT_COR_GRAIN;

	for (; n <= end; n++)
		if (!(cor->known[n / 8] >> n % 8 & 1))
			return false;
	return true;
}

static void set_known(struct bt_cor *cor, uint64_t grain)
{
	cor->known[grain / 8] |= (unsigned char)(1u << grain % 8);
}

void bt_cor_forget(struct bt_cor *cor, uint64_t offset, uint64_t length)
{
	uint64_t n = offset / BT_COR_GRAIN,
		 end = (offset + length - 1) / BT_COR_GRAIN;

	for (; n <= end; n++)
		cor->known[n / 8] &= (unsigned char)~(1u << n % 8);
	cor->discards++;
}

uint64_t bt_cor_map_bytes(uint64_t size)
{
	return size / BT_COR_GRAIN / 8 + 1;
}

/* Another leaf, after a snapshot, knows another parent. */
void bt_cor_look_below(struct bt_cor *cor)
{
	uint64_t below;

	if (bt_likely(cor->links == cor->node->env->links))
		return;
	cor->links = cor->node->env->links;
	below = bt_port_below(cor->leaf);
	if (below != cor->below)
		memset(cor->known, 0, bt_cor_map_bytes(cor->size));
	cor->below = below;
}

/* Whether the bytes come from below the leaf, and are worth a place in it. */
static bool is_lower(const struct blktap_extent *e)
{
	return e->depth && !(e->flags & BLKTAP_EXTENT_ZERO);
}

/* Grains of which all has been told, and nothing is lower. The question was made
 * wider than the lane, to whole grains, so that small reads teach as well. `clear`
 * goes on over the answers of one lane: a grain may be told of by two. */
static void learn(struct bt_cor *cor, struct bt_cor_lane *lane)
{
	uint64_t at = lane->asked, grain, end;
	uint32_t i;

	for (i = 0; i < lane->extent_count; i++) {
		end = at + bt_min_u64(lane->extents[i].length, cor->size - at);
		if (is_lower(&lane->extents[i]))
			lane->clear = end;
		grain = (lane->clear + BT_COR_GRAIN - 1) / BT_COR_GRAIN;
		for (; (grain + 1) * BT_COR_GRAIN <= end ||
		       (end == cor->size && grain * BT_COR_GRAIN < end);
		     grain++)
			set_known(cor, grain);
		at = end;
	}
}

/* ---- lanes ----------------------------------------------------------------- */

bool bt_cor_is_written(const struct bt_cor *cor, uint64_t from, uint64_t to)
{
	const struct bt_list *pos;

	bt_list_for_each (pos, &cor->writes) {
		const struct bt_cor_frame *write =
			bt_list_entry(pos, struct bt_cor_frame, link);

		if (overlap(from, to, write->offset,
			    write->offset + write->length))
			return true;
	}
	return false;
}

struct bt_cor_lane *bt_cor_find_lane(struct bt_cor *cor, uint64_t from,
				     uint64_t to, enum bt_cor_state least)
{
	uint32_t i;

	for (i = 0; cor->busy && i < BT_COR_LANES; i++) {
		struct bt_cor_lane *lane = &cor->lanes[i];

		if (lane->state >= least &&
		    overlap(from, to, lane->from, lane->to))
			return lane;
	}
	return NULL;
}

/* Writes that no piece under way stands against any more. */
static void wake_writes(struct bt_cor *cor)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &cor->writes) {
		struct bt_cor_frame *write =
			bt_list_entry(pos, struct bt_cor_frame, link);

		if (!write->waits ||
		    bt_cor_find_lane(cor, write->offset,
				     write->offset + write->length,
				     BT_COR_WRITING))
			continue;
		write->waits = false;
		bt_port_submit(cor->leaf, write->req);
	}
}

/* Every way out of a lane ends here. Those who waited for it are served after it is
 * free, since a write that goes on may be back, and bring the next read, before this
 * returns. */
void bt_cor_end_lane(struct bt_cor_lane *lane)
{
	struct bt_cor *cor = lane->cor;
	struct bt_list *at;

	if (lane->req)
		bt_pool_give(lane->req);
	lane->req = NULL;
	lane->state = BT_COR_FREE;
	bt_list_add(&cor->idle, &lane->link);
	cor->busy--;
	wake_writes(cor);
	while (!cor->busy && (at = bt_list_pop(&cor->lasts)))
		bt_port_submit(cor->leaf,
			       bt_list_entry(at, struct bt_request, link));
}

/* It is not stopped: it looks at the mark before each further step. */
void bt_cor_stale(struct bt_cor *cor, uint64_t from, uint64_t to)
{
	uint32_t i;

	for (i = 0; cor->busy && i < BT_COR_LANES; i++) {
		struct bt_cor_lane *lane = &cor->lanes[i];

		if (overlap(from, to, lane->from, lane->to))
			lane->stale = true;
	}
}

/* For good: a leaf without space would fail, and say so, with every read. The disk
 * itself lacks nothing by it. Told once. */
static void give_up(struct bt_cor_lane *lane, int error)
{
	struct bt_cor *cor = lane->cor;
	char text[BT_STRERROR_MAX];

	if (cor->failed)
		return;
	cor->failed = error;
	bt_log(cor->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: nothing more is copied to '%s', which the bytes from %llu "
	       "on did not get to: %s",
	       cor->node->name, cor->leaf->lower->name,
	       (unsigned long long)lane->at, bt_strerror(error, text));
}

/* ---- what is copied -------------------------------------------------------- */

/* The next piece of the lane from its `at` on; false where there is none. */
static bool find_piece(const struct bt_cor_lane *lane, uint64_t *from,
		       uint64_t *to)
{
	uint32_t block = lane->cor->node->limits.block_size, i;
	uint64_t at = lane->asked, end;
	bool found = false;

	for (i = 0; i < lane->extent_count && at < lane->to; i++) {
		const struct blktap_extent *e = &lane->extents[i];

		end = at + bt_min_u64(e->length, lane->to - at);
		if (end > lane->at && is_lower(e)) {
			*from = found ? *from : bt_max_u64(at, lane->at);
			*to = end;
			found = true;
		} else if (found) {
			break;
		}
		at = end;
	}
	if (!found)
		return false;
	/* what is beside it is what the disk holds, too */
	*from = bt_max_u64(bt_align_down(*from, block), lane->at);
	*to = bt_min_u64(bt_align_down(*to + block - 1, block), lane->to);
	return true;
}

static void write_piece(struct bt_cor_lane *lane);
static void ask_on(struct bt_cor_lane *lane);

/* The next piece is looked for from behind this one; while it was written the lane
 * may have become stale. */
static void piece_written(struct bt_request *req)
{
	struct bt_cor_lane *lane = req->opaque;

	if (req->error) {
		give_up(lane, req->error);
		bt_cor_end_lane(lane);
		return;
	}
	lane->cor->copied += req->length;
	lane->at += req->length;
	write_piece(lane);
}

/* One piece at a time, so that a write which comes has to wait for one at most. A
 * lane has one request for the question and for all pieces. */
static void write_piece(struct bt_cor_lane *lane)
{
	struct bt_request *req = lane->req;
	uint64_t from, to;

	if (lane->stale || lane->cor->failed) {
		bt_cor_end_lane(lane);
		return;
	}
	if (!find_piece(lane, &from, &to)) {
		ask_on(lane);
		return;
	}
	lane->state = BT_COR_WRITING;
	lane->at = from;
	lane->iov.iov_base = lane->memory + (from - lane->from);
	lane->iov.iov_len = to - from;
	req->op = BLKTAP_OP_WRITE;
	req->offset = from;
	req->length = to - from;
	req->data = (struct bt_sgl){ .iov = &lane->iov, .count = 1 };
	req->done = piece_written;
	bt_port_submit(lane->cor->leaf, req);
}

/* A question that failed is as good as one without an answer: nothing is copied,
 * and nobody's read fails for it. What was told under other nodes (links), or before
 * a discard that may be in the same grain, is not learned; but it may be copied: the
 * bytes are the disk's in any case. */
static void told(struct bt_request *req)
{
	struct bt_cor_lane *lane = req->opaque;
	struct bt_cor *cor = lane->cor;

	lane->extent_count = req->error ? 0 : req->extent_count;
	if (!lane->stale && lane->links == cor->node->env->links &&
	    lane->discards == cor->discards)
		learn(cor, lane);
	if (lane->extent_count)
		write_piece(lane);
	else
		bt_cor_end_lane(lane);
}

/* Each time from `asked` on. The answer's depth says what is the leaf's. */
static void ask(struct bt_cor_lane *lane)
{
	struct bt_request *req = lane->req;

	lane->state = BT_COR_ASKING;
	req->op = BLKTAP_OP_BLOCK_STATUS;
	req->offset = lane->asked;
	req->length = lane->ask_to - lane->asked;
	req->extents = lane->extents;
	req->extent_max = BT_COR_EXTENTS;
	req->extent_count = 0;
	req->done = told;
	req->opaque = lane;
	bt_port_submit(lane->cor->leaf, req);
}

/* An answer may end before the question does. One that has not moved on at all ends
 * the lane, or it would ask for ever. */
static void ask_on(struct bt_cor_lane *lane)
{
	uint64_t from = lane->asked, left;
	uint32_t i;

	for (i = 0; i < lane->extent_count; i++) {
		left = lane->ask_to - lane->asked;
		lane->asked += bt_min_u64(lane->extents[i].length, left);
	}
	if (lane->asked == from || lane->asked == lane->ask_to)
		bt_cor_end_lane(lane);
	else
		ask(lane);
}

/* There is a request for each lane, so the pool is never empty here. */
void bt_cor_copy(struct bt_cor_lane *lane)
{
	struct bt_cor *cor = lane->cor;
	uint64_t to = bt_align_down(lane->to + BT_COR_GRAIN - 1, BT_COR_GRAIN);

	if (lane->stale || cor->failed) {
		bt_cor_end_lane(lane);
		return;
	}
	lane->req = bt_pool_take(cor->pool);
	lane->discards = cor->discards;
	lane->at = lane->from;
	lane->asked = lane->clear = bt_align_down(lane->from, BT_COR_GRAIN);
	lane->ask_to = bt_min_u64(to, cor->size);
	ask(lane);
}
