/* SPDX-License-Identifier: BSD-3-Clause */
/* DISCARD and WRITE_ZEROES. Whole clusters lose their data by a changed entry; a
 * part of a cluster is left alone by the one and written with zeroes by the
 * other.
 *
 * What lies below must not shine through: over a base an entry becomes a zero
 * entry, which only version 3 has. In versions 1 and 2 a discard there does
 * nothing, and zeroes are the core's to write as data.
 *
 * The data goes only behind a commit (free.c), so a discard that is not flushed
 * may be undone by a cut: the entry on disk still leads to the old bytes, which
 * are there. */
#include <errno.h>

#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

/* A discard is a wish, zeroes are a promise. */
static bool wants_zeroes(const struct bt_qcow_frame *frame)
{
	return frame->req->op == BLKTAP_OP_WRITE_ZEROES;
}

/* A part of a cluster up to end. What reads as zeroes already is passed over;
 * anything else is written with zeroes as a guest would write them, copying and
 * all. */
static int zero_part(struct bt_qcow_frame *frame, uint64_t end)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_map map;
	int rc;

	if (!wants_zeroes(frame)) {
		bt_qcow_advance(frame, end - frame->at);
		return 1;
	}
	rc = bt_qcow_lookup(q, &frame->wait, frame->at, end, &map);
	if (rc <= 0)
		return rc;
	if (map.kind == BT_QCOW_ZERO ||
	    (map.kind == BT_QCOW_UNALLOCATED && frame->at >= q->base_size)) {
		bt_qcow_advance(frame, map.length);
		return 1;
	}
	frame->data = bt_zeroes;
	return bt_qcow_write_mapped(frame, &map);
}

/* What becomes of an entry: true where it changes to *entry. *drop: what it
 * named is given up.
 *
 *   discard         data or a stream goes; over a base it becomes a zero entry
 *   zeroes          the same where MAY_UNMAP is given; else the cluster stays, as
 *                   a zero entry that keeps it (version 3, and the disk's
 *                   own), so that its space is not given away
 *   unallocated     zeroes over a base need a zero entry; else nothing to do */
static bool unmap_entry(const struct bt_qcow_frame *frame, uint64_t guest,
			const struct bt_qcow_mapping *old, uint64_t *entry,
			bool *drop)
{
	const struct bt_qcow *q = frame->run.q;
	bool over_base = guest < q->base_size;
	bool may_drop =
		bt_qcow_can_drop(q) &&
		(!wants_zeroes(frame) || frame->req->flags & BLKTAP_MAY_UNMAP);
	bool keep = !may_drop && old->kind == BT_QCOW_DATA && old->copied;

	*entry = 0;
	*drop = true;
	if (old->kind == BT_QCOW_UNALLOCATED) {
		if (!wants_zeroes(frame) || !over_base)
			return false;
		return !bt_qcow_l2_encode_zero(&q->geo, 0, false, entry);
	}
	if (old->kind == BT_QCOW_ZERO && (!old->offset || !may_drop))
		return false;
	if (!wants_zeroes(frame) && !may_drop)
		return false;
	if (keep &&
	    !bt_qcow_l2_encode_zero(&q->geo, old->offset, true, entry)) {
		*drop = false;
		return true;
	}
	if (over_base)
		return !bt_qcow_l2_encode_zero(&q->geo, 0, false, entry);
	return true;
}

/* The entries of one page, from at to end, which are multiples of clusters. A
 * damaged entry ends the request with -EIO; what was changed before it stays,
 * and is dirty. */
static int unmap_page(struct bt_qcow_frame *frame, struct bt_meta_block *block,
		      uint64_t end)
{
	struct bt_qcow *q = frame->run.q;
	uint32_t first = (bt_qcow_locate(&q->geo, frame->at).l2_index * 8) &
			 (q->l2_page - 1);
	uint32_t at = first, from = q->l2_page, to = 0;
	uint64_t guest = frame->at;
	int rc = 0;

	for (; guest < end && !rc; guest += bt_qcow_cluster(q), at += 8) {
		struct bt_qcow_mapping old;
		struct bt_fault fault;
		uint64_t entry;
		bool drop;

		rc = bt_qcow_l2_decode(&q->geo, bt_load_be64(block->data + at),
				       q->file_end, &old, &fault);
		if (rc < 0) {
			bt_qcow_complain(q, guest, &fault, rc);
			break;
		}
		if (!unmap_entry(frame, guest, &old, &entry, &drop))
			continue;
		if (drop)
			bt_qcow_drop_entry(q, guest, &old);
		bt_store_be64(block->data + at, entry);
		if (from > at)
			from = at;
		to = at + 8;
	}
	if (to > from)
		bt_meta_dirty(block, from, to - from);
	bt_qcow_advance(frame, bt_min_u64(guest, frame->end) - frame->at);
	return rc < 0 ? rc : 1;
}

/* Up to the end of one page. Where there is no table there is nothing to free,
 * and zeroes over a base need one made first. */
static int unmap_clusters(struct bt_qcow_frame *frame, uint64_t end)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_place place = bt_qcow_locate(&q->geo, frame->at);
	uint64_t span =
		bt_align_down(frame->at, q->geo.l1_span) + q->geo.l1_span;
	struct bt_meta_block *block;
	struct bt_qcow_l1 l1;
	int rc = bt_qcow_get_l1(q, &frame->wait, place.l1_index, &l1);

	if (rc <= 0)
		return rc;
	if (!l1.offset && wants_zeroes(frame) && frame->at < q->base_size) {
		bt_qcow_make_table(frame, place.l1_index);
		return 0;
	}
	if (!l1.offset) {
		bt_qcow_advance(frame,
				bt_min_u64(bt_min_u64(end, span), frame->end) -
					frame->at);
		return 1;
	}
	rc = bt_qcow_get_l2_page(q, &frame->wait, l1.offset, place.l2_index,
				 &block);
	if (rc <= 0)
		return rc;
	rc = unmap_page(frame, block,
			bt_min_u64(end, bt_qcow_page_end(q, frame->at)));
	bt_meta_put(block);
	return rc;
}

/* Whoever allocates in the range is waited for: what it copies of the cluster
 * was there before this, and would come back with its entry. */
int bt_qcow_step_unmap(struct bt_qcow_frame *frame)
{
	struct bt_qcow *q = frame->run.q;
	uint64_t cluster = bt_qcow_cluster(q), end = frame->end, whole;
	uint64_t first = bt_align_down(frame->at, cluster);

	if (q->geo.version < 3 && frame->at < q->base_size) {
		if (wants_zeroes(frame))
			return -ENOTSUP;
		frame->at = bt_min_u64(frame->end, q->base_size);
		return 1;
	}
	if (bt_qcow_is_blocked(frame, &end))
		return 0;
	whole = bt_align_down(end, cluster);
	/* the disk may end inside of its last cluster */
	if (end == q->geo.size && whole < end)
		whole += cluster;
	if (first != frame->at || whole <= frame->at)
		return zero_part(frame, bt_min_u64(end, first + cluster));
	return unmap_clusters(frame, whole);
}
