/* SPDX-License-Identifier: BSD-3-Clause */
/* A larger disk: the size and the length of the L1 table are in one sector of the
 * header. What the disk's last cluster has past the old end, of a disk that was
 * larger once, is zeroed before. New entries are zeroes, and on disk, before they
 * count. Where the table's clusters have no room for them (with 64 KiB of them
 * beyond 4 TiB of disk) a larger table is made behind the end of the file:
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
#include "util/bytes.h"
#include "util/checked.h"

#define SECTOR 512u

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

/* ---- the rest of the last cluster ------------------------------------------ */

/* What maps the cluster in which the disk ends. */
static int find_last(struct bt_qcow *q, struct bt_qcow_mapping *m,
		     struct bt_fault *fault)
{
	struct bt_qcow_place place = bt_qcow_locate(&q->geo, q->geo.size - 1);
	struct bt_qcow_l1 l1;
	unsigned char entry[8];
	int rc = bt_image_file_read(
		&q->f, q->geo.l1_offset + (uint64_t)place.l1_index * 8, entry,
		sizeof(entry));

	memset(m, 0, sizeof(*m));
	if (!rc)
		rc = bt_qcow_l1_decode(&q->geo, bt_load_be64(entry),
				       q->file_end, &l1, fault);
	if (rc || !l1.offset)
		return rc;
	rc = bt_image_file_read(&q->f, l1.offset + (uint64_t)place.l2_index * 8,
				entry, sizeof(entry));
	return rc ? rc
		  : bt_qcow_l2_decode(&q->geo, bt_load_be64(entry), q->file_end,
				      m, fault);
}

/* The cluster as a guest would see it, in the unpacker's memory: nobody else uses
 * that now. */
static int read_last(struct bt_qcow *q, const struct bt_qcow_mapping *m)
{
	uint64_t guest = bt_align_down(q->geo.size, bt_qcow_cluster(q));
	struct bt_qcow_unpacker *u = &q->unpacker;
	int rc;

	u->valid = false;
	if (m->kind == BT_QCOW_DATA) {
		rc = bt_image_file_read(&q->f, m->offset, u->out,
					bt_qcow_cluster(q));
		return rc || !q->cipher
			       ? rc
			       : bt_qcow_decrypt(q->cipher, guest, u->out,
						 bt_qcow_cluster(q));
	}
	rc = bt_image_file_read(&q->f, m->offset, u->in, m->bytes);
	return rc ? rc
		  : bt_qcow_inflate(u->inflater, u->in, m->bytes, u->out,
				    bt_qcow_cluster(q));
}

/* From `in` on, in place: the bytes are past the end of the disk, so it does not
 * matter how many of them a cut leaves. The sector that the end is in is written
 * with what it has. */
static int write_rest(struct bt_qcow *q, const struct bt_qcow_mapping *m,
		      uint32_t in)
{
	uint32_t from = (uint32_t)bt_align_down(in, SECTOR);
	char *rest = q->unpacker.out + from;
	uint32_t bytes = bt_qcow_cluster(q) - from;
	int rc = 0;

	memset(q->unpacker.out + in, 0, bt_qcow_cluster(q) - in);
	if (q->cipher)
		rc = bt_qcow_encrypt(
			q->cipher,
			bt_align_down(q->geo.size, bt_qcow_cluster(q)) + from,
			rest, bytes);
	if (!rc)
		rc = bt_image_file_write(&q->f, m->offset + from, rest, bytes);
	return rc ? rc : bt_image_file_sync(&q->f);
}

static bool is_zero(const char *p, size_t bytes)
{
	return !*p && !memcmp(p, p + 1, bytes - 1);
}

/* Where it cannot be written in its place: a stream, or damage. */
static int cannot_clear(const struct bt_qcow *q, struct blktap_error **err)
{
	return bt_fail(err, -ENOTSUP,
		       "copy it, and resize that: qemu-img convert",
		       "%s: its last cluster has data past the end, which "
		       "would be seen",
		       q->f.path);
}

/* What clusters read as that have no data is zeroes. */
static int clear_rest(struct bt_qcow *q, struct blktap_error **err)
{
	uint32_t in = (uint32_t)q->geo.size & (bt_qcow_cluster(q) - 1);
	struct bt_fault fault = { 0 };
	struct bt_qcow_mapping m;
	int rc = in ? find_last(q, &m, &fault) : 0;

	if (rc && fault.field)
		return bt_qcow_fault(q, rc, &fault, err);
	if (!in ||
	    (!rc && m.kind != BT_QCOW_DATA && m.kind != BT_QCOW_COMPRESSED))
		return 0;
	if (!rc)
		rc = read_last(q, &m);
	if (!rc && is_zero(q->unpacker.out + in, bt_qcow_cluster(q) - in))
		return 0;
	if (!rc && (m.kind != BT_QCOW_DATA || !m.copied ||
		    bt_qcow_guard_hits(q, m.offset, bt_qcow_cluster(q))))
		return cannot_clear(q, err);
	if (!rc)
		rc = write_rest(q, &m, in);
	return rc ? bt_image_file_fail(q->f.path, rc, err) : 0;
}

/* ---- the table ------------------------------------------------------------- */

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

	if (!rc)
		rc = clear_rest(q, err);
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
