/* SPDX-License-Identifier: BSD-3-Clause */
/* New L2 tables, one at a time:  clusters -> zeroes on them -> L1 entry. Frames
 * that need one wait here, and look again when it is there.
 *
 * maker.waiting has the frames, in the order in which they came, for whichever
 * table; the one that is made is for l1_index. A frame that needs another looks
 * again when this one is there, finds none, and has its own made. The zeroes
 * are on disk with the commit that writes the L1 entry, by the ranks of the
 * cache. */
#include <errno.h>

#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

static void set_entry(struct bt_qcow *q);

static struct bt_qcow *qcow_of_maker(struct bt_qcow_maker *maker)
{
	return bt_container_of(maker, struct bt_qcow, maker);
}

/* A failure is that of the frames that need this table. maker.busy goes first,
 * as a frame that goes on may ask for the next table at once. */
static void made(struct bt_qcow *q, int error)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &q->maker.waiting) {
		struct bt_qcow_frame *frame =
			bt_list_entry(pos, struct bt_qcow_frame, link);

		if (error && !frame->error &&
		    bt_qcow_locate(&q->geo, frame->at).l1_index ==
			    q->maker.l1_index)
			frame->error = error;
	}
	q->maker.busy = false;
	bt_qcow_go_list(&q->maker.waiting);
}

/* The clusters are counted and nobody's: they are given back. */
static void give_up(struct bt_qcow *q, int error)
{
	bt_qcow_drop(q, q->maker.want.host,
		     (uint64_t)q->maker.want.got << q->geo.cluster_bits);
	made(q, error);
}

static void have_page(struct bt_meta_wait *wait, struct bt_meta_block *block,
		      int error)
{
	struct bt_qcow *q = qcow_of_maker(
		bt_container_of(wait, struct bt_qcow_maker, wait));

	if (block)
		bt_meta_put(block);
	if (error)
		give_up(q, error);
	else
		set_entry(q);
}

/* A new table is all zeroes, which is "unallocated": what the base shows there
 * stays. */
static void set_entry(struct bt_qcow *q)
{
	struct bt_qcow_maker *m = &q->maker;
	uint64_t at = q->geo.l1_offset + (uint64_t)m->l1_index * 8;
	uint64_t page = bt_align_down(at, QCOW_L1_PAGE);
	struct bt_meta_block *block;

	m->wait.fn = have_page;
	block = bt_meta_get(q->meta, QCOW_L1, page, &m->wait);
	if (!block)
		return;
	bt_store_be64(block->data + (at - page),
		      bt_qcow_l1_encode(&q->geo, m->want.host, true));
	bt_meta_dirty(block, (uint32_t)(at - page), 8);
	bt_meta_put(block);
	bt_qcow_guard_add(q, m->want.host);
	q->l1_changed = true;
	made(q, 0);
}

static void zeroed(struct bt_io *io, int error)
{
	struct bt_qcow *q =
		qcow_of_maker(bt_container_of(io, struct bt_qcow_maker, io));

	if (error)
		give_up(q, error);
	else
		set_entry(q);
}

/* Zeroes are written even where the end of a file reads so: a table has to lie
 * in the file whole (libqcow/entry.c), and a device has old bytes there. */
static void have_clusters(struct bt_qcow_want *want, int error)
{
	struct bt_qcow *q = qcow_of_maker(
		bt_container_of(want, struct bt_qcow_maker, want));

	if (error)
		made(q, error);
	else
		bt_qcow_write_zeroes(q, &q->maker.io, want->host,
				     q->geo.l2_bytes, zeroed);
}

/* The frame is on waiting and nowhere else until it goes on. */
void bt_qcow_make_table(struct bt_qcow_frame *frame, uint32_t l1_index)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_maker *m = &q->maker;

	bt_list_add_tail(&m->waiting, &frame->link);
	if (m->busy)
		return;
	m->busy = true;
	m->l1_index = l1_index;
	m->want.count = (q->geo.l2_bytes + bt_qcow_cluster(q) - 1) >>
			q->geo.cluster_bits;
	m->want.fresh = true;
	m->want.whole = true;
	m->want.fn = have_clusters;
	bt_qcow_alloc(q, &m->want);
}
