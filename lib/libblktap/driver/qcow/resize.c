/* SPDX-License-Identifier: BSD-3-Clause */
/* A larger disk: the size and the length of the L1 table are in one sector of the
 * header. New entries are zeroes, and on disk, before they count. Where the table's
 * clusters have no room for them (with 64 KiB of them beyond 4 TiB of disk) a larger
 * table is made behind the end of the file:
 *
 *   a copy of the table, longer -> it is counted -> the header's sector names it,
 *   with the new size -> the old clusters are nobody's
 *
 * A cut leaves the old table or the new one, both whole, and clusters that leak. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "driver/qcow/qcow.h"
#include "util/checked.h"

/* In version 1, whose table lies before the data, and beyond the largest table
 * that is read. */
static int no_room(const struct bt_qcow *q, uint64_t size,
		   struct blktap_error **err)
{
	return bt_fail(err, -ENOTSUP, "qemu-img resize, while it is closed",
		       "%s: its tables have no room for %" PRIu64 " bytes",
		       q->f.path, size);
}

/* What a parent has past the old end would come up. */
static int check_base(const struct bt_qcow *q, struct blktap_error **err)
{
	const struct bt_node *base = q->node->ports[0].lower;

	if (!base || base->limits.size <= q->geo.size)
		return 0;
	return bt_fail(err, -ENOTSUP, "stream it first: tap-ctl job",
		       "%s: stands on a larger image, whose data would be seen",
		       q->f.path);
}

/* Behind the old end of the table its clusters may hold anything: a reader that
 * knows the new length must find "no table". */
static int clear_entries(struct bt_qcow *q, uint64_t from, uint64_t to)
{
	static const unsigned char zeroes[4096];
	uint64_t at = q->geo.l1_offset + from * 8;
	uint64_t end = q->geo.l1_offset + to * 8;
	int rc = 0;

	while (at < end && !rc) {
		size_t n = (size_t)bt_min_u64(end - at, sizeof(zeroes));

		rc = bt_image_file_write(&q->f, at, zeroes, n);
		at += n;
	}
	return rc ? rc : bt_image_file_sync(&q->f);
}

/* The table from its old place to `to`, with zeroes behind it up to `end`. 4
 * KiB at a time; `left` counts what the old table still has. */
static int copy_table(struct bt_qcow *q, uint64_t to, uint64_t end)
{
	uint64_t left = (uint64_t)q->geo.l1_entries * 8;
	uint64_t from = q->geo.l1_offset;
	unsigned char piece[4096];
	int rc = 0;

	while (to < end && !rc) {
		size_t n = (size_t)bt_min_u64(left, sizeof(piece));

		memset(piece, 0, sizeof(piece));
		if (n)
			rc = bt_image_file_read(&q->f, from, piece, n);
		if (!rc)
			rc = bt_image_file_write(
				&q->f, to, piece,
				(size_t)bt_min_u64(sizeof(piece), end - to));
		from += n;
		left -= n;
		to += sizeof(piece);
	}
	return rc ? rc : bt_image_file_sync(&q->f);
}

/* q->header gets to name the larger table. q->geo stays the old one's until the
 * image is closed, as the old table is freed by it. */
static int move_table(struct bt_qcow *q, uint64_t need)
{
	uint64_t at = q->file_end, end;
	int rc;

	if (!bt_checked_align_up(need * 8, bt_qcow_cluster(q), &end) ||
	    !bt_range_within(at, end, bt_qcow_limit(q)))
		return -ENOSPC;
	end += at;
	rc = copy_table(q, at, end);
	if (!rc)
		rc = bt_qcow_count_new(q, at, &end);
	q->header.l1_offset = at;
	q->header.l1_entries = need;
	return rc;
}

/* Counted down on disk, not dropped: the image is closed next. */
static int free_old_table(struct bt_qcow *q)
{
	uint64_t at = q->geo.l1_offset;
	uint64_t end = at + (uint64_t)q->geo.l1_entries * 8;

	return bt_qcow_set_counts(q, at, end, 0);
}

/* Where the header could not be written, memory says again what the file says;
 * the refcount table may have moved for good, and stays where it is now. */
int bt_qcow_resize(struct bt_node *node, uint64_t size,
		   struct blktap_error **err)
{
	struct bt_qcow *q = node->data;
	struct bt_qcow_header old = q->header;
	uint64_t had = q->geo.l1_entries, room = had;
	uint64_t need = size / q->geo.l1_span + (size % q->geo.l1_span != 0);
	uint64_t bytes = bt_align_down(had * 8 + bt_qcow_cluster(q) - 1,
				       bt_qcow_cluster(q));
	int rc = check_base(q, err);
	bool moves;

	if (rc < 0)
		return rc;
	if (q->header.version > 1)
		room = bt_min_u64(bytes, BT_QCOW_L1_BYTES_MAX) / 8;
	moves = need > room;
	if (moves &&
	    (q->header.version == 1 || need > BT_QCOW_L1_BYTES_MAX / 8))
		return no_room(q, size, err);
	if (moves) {
		rc = move_table(q, need);
	} else if (need > had) {
		rc = clear_entries(q, had, need);
		q->header.l1_entries = need;
	}
	q->header.size = size;
	if (!rc)
		rc = bt_qcow_write_header(q);
	if (!rc && moves)
		free_old_table(q); /* it leaks where that fails */
	if (rc < 0) {
		old.refcount_offset = q->header.refcount_offset;
		old.refcount_clusters = q->header.refcount_clusters;
		q->header = old;
		return bt_image_file_fail(q->f.path, rc, err);
	}
	return 0;
}
