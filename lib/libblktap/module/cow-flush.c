/* SPDX-License-Identifier: BSD-3-Clause */
/* What makes a cow's writes durable: data, then map. One round at a time:
 *
 *   IDLE -> stage the bits -> FLUSHING top -> COMMITTING the map, which is flushed
 *        -> (a LAST one: the clean mark -> LAST flush of top) -> IDLE
 *
 * The bits that are staged are of writes that have completed, so the flush of top
 * that follows covers their data before the map names it.
 *
 * What is below top may have something to mark clean as well: a cache there writes
 * back. It is told behind all that the cow itself writes. The base is told by the
 * port (port.c). */
#include "module/cow.h"

#include <string.h>

/* The bits of writes that have completed: what a flush from now on covers. */
static void stage(struct bt_cow *cow)
{
	uint64_t block;

	for (block = 0; block < cow->table.blocks; block++) {
		uint64_t at = block * BT_TABLE_BYTES;

		if (!cow->staged[block])
			continue;
		memcpy(cow->table.bytes + at, cow->live + at, BT_TABLE_BYTES);
		bt_table_touch(&cow->table, at);
		cow->staged[block] = 0;
	}
}

static void begin_flush(struct bt_cow *cow);

static void end_flush(struct bt_cow *cow, int error, struct bt_node *failed)
{
	struct bt_list round = BT_LIST_INIT(round), *at;

	bt_list_splice_tail(&round, &cow->round);
	cow->flushing = false;
	while ((at = bt_list_pop(&round))) {
		struct bt_request *req =
			bt_list_entry(at, struct bt_request, link);

		req->failed = failed;
		bt_request_complete(req, error);
	}
	begin_flush(cow);
}

/* The pool has one: a round sends one flush after the other. */
static void send_flush(struct bt_cow *cow, uint32_t flags,
		       void (*done)(struct bt_request *child))
{
	struct bt_request *child = bt_pool_take(cow->flush_pool);

	child->op = BLKTAP_OP_FLUSH;
	child->flags = flags;
	child->done = done;
	child->opaque = cow;
	bt_port_submit(cow->top, child);
}

static void top_told(struct bt_request *child)
{
	struct bt_cow *cow = child->opaque;
	struct bt_node *failed = child->failed;
	int error = child->error;

	bt_pool_give(child);
	end_flush(cow, error, failed);
}

static void marked_clean(struct bt_header_writer *writer, int error)
{
	struct bt_cow *cow = writer->opaque;

	if (error)
		end_flush(cow, error, NULL);
	else
		send_flush(cow, BT_REQUEST_LAST, top_told);
}

static bool is_last(const struct bt_cow *cow)
{
	const struct bt_list *pos;

	bt_list_for_each (pos, &cow->round)
		if (bt_list_entry(pos, struct bt_request, link)->flags &
		    BT_REQUEST_LAST)
			return true;
	return false;
}

/* The table's bits that a failed commit left behind are still marked as
 * changed, so the next round writes them. */
static void map_flushed(struct bt_table_wait *wait, int error)
{
	struct bt_cow *cow = bt_container_of(wait, struct bt_cow, wait);

	if (error || !is_last(cow)) {
		end_flush(cow, error, NULL);
	} else if (cow->header.clean || cow->read_only) {
		marked_clean(&cow->writer, 0);
	} else {
		cow->header.clean = true;
		bt_header_writer_go(&cow->writer, marked_clean);
	}
}

/* Without the data being durable the map must not name it; the bits stay staged
 * in the table, and the next round commits them behind its own flush. */
static void data_flushed(struct bt_request *child)
{
	struct bt_cow *cow = child->opaque;
	struct bt_node *failed = child->failed;
	int error = child->error;

	bt_pool_give(child);
	if (error)
		end_flush(cow, error, failed);
	else
		bt_table_commit(&cow->table, &cow->wait);
}

static void begin_flush(struct bt_cow *cow)
{
	if (cow->flushing || bt_list_empty(&cow->flushes))
		return;
	cow->flushing = true;
	bt_list_splice_tail(&cow->round, &cow->flushes);
	stage(cow);
	send_flush(cow, 0, data_flushed);
}

/* ---- for cow.c --------------------------------------------------------------- */

void bt_cow_flush(struct bt_cow *cow, struct bt_request *req)
{
	bt_list_add_tail(&cow->flushes, &req->link);
	begin_flush(cow);
}

/* cow->header and cow->top are there. */
int bt_cow_flush_init(struct bt_cow *cow)
{
	int rc = bt_header_writer_init(&cow->writer, cow->node, cow->top,
				       &cow->header);

	bt_list_init(&cow->flushes);
	bt_list_init(&cow->round);
	bt_list_init(&cow->wait.link);
	cow->wait.fn = map_flushed;
	cow->writer.opaque = cow;
	return rc ? rc
		  : bt_node_add_pool(cow->node, 1, sizeof(struct bt_request),
				     &cow->flush_pool);
}

uint64_t bt_cow_flush_memory(void)
{
	return bt_node_pool_memory(1, sizeof(struct bt_request)) +
	       bt_header_writer_memory();
}
