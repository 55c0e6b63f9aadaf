/* SPDX-License-Identifier: BSD-3-Clause */
/* What Xen added to version 1: a checksum of the L1 table, which is written when
 * an image is closed, and a flag that the table is big-endian, which the first
 * releases did not have.
 *
 * A checksum that is wrong says that the image was not closed, which a crash does
 * to a sound image, or that the table is damaged. So then each entry is looked at,
 * and the image is refused where one is bad.
 *
 * A table in the order of the machine that wrote it is read as it is. Where the
 * user asks for it, a converted copy is written to the end of the file and synced,
 * and then one sector of the header names it: so a cut leaves the one or the
 * other, and whoever only reads changes nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define PIECE 65536u
#define TABLE_ALIGN 4096u /* as Xen's own images have it */

typedef int (*piece_fn)(struct bt_qcow *q, unsigned char *entries,
			uint64_t first, size_t bytes, void *opaque);

/* Of the L1 table as the file has it, 64 KiB at a time. */
static int each_piece(struct bt_qcow *q, piece_fn fn, void *opaque)
{
	uint64_t bytes = (uint64_t)q->geo.l1_entries * 8, at = 0;
	unsigned char *piece = malloc(PIECE);
	int rc = piece ? 0 : -ENOMEM;

	for (; at < bytes && !rc; at += PIECE) {
		size_t n = (size_t)bt_min_u64(PIECE, bytes - at);

		rc = bt_image_file_read(&q->f, q->geo.l1_offset + at, piece, n);
		if (!rc)
			rc = fn(q, piece, at / 8, n, opaque);
	}
	free(piece);
	return rc;
}

/* ---- the checksum --------------------------------------------------------- */

static int add_to_sum(struct bt_qcow *q, unsigned char *entries, uint64_t first,
		      size_t bytes, void *opaque)
{
	(void)q;
	(void)first;
	return bt_qcow_l1_sum_add(opaque, entries, bytes);
}

/* -ENOTSUP where there is no digest: then nothing is known. */
static int get_sum(struct bt_qcow *q, uint32_t *value)
{
	struct bt_qcow_l1_sum *sum;
	int rc = bt_qcow_l1_sum_create(&sum);

	if (rc < 0)
		return rc;
	rc = each_piece(q, add_to_sum, sum);
	*value = bt_qcow_l1_sum_finish(sum);
	return rc;
}

/* An entry is judged as a reader would judge it; opaque gets the fault. */
static int look_at(struct bt_qcow *q, unsigned char *entries, uint64_t first,
		   size_t bytes, void *opaque)
{
	struct bt_qcow_l1 l1;
	size_t i;
	int rc = 0;

	(void)first;
	for (i = 0; i < bytes && !rc; i += 8)
		rc = bt_qcow_l1_decode(&q->geo, bt_load_be64(entries + i),
				       q->f.size, &l1, opaque);
	return rc;
}

/* Without a digest in the build nothing is known, and nothing said. A read-only
 * open is checked as well: that costs one reading of the table. */
int bt_qcow_xen_check(struct bt_qcow *q, struct blktap_error **err)
{
	struct bt_fault fault = { 0 };
	uint32_t sum;
	int rc;

	if (!q->header.has_xen || q->native_l1)
		return 0;
	rc = get_sum(q, &sum);
	if (rc == -ENOTSUP || (!rc && sum == q->header.xen.cksum))
		return 0;
	if (!rc) {
		rc = each_piece(q, look_at, &fault);
		if (rc == -EIO && fault.field)
			return bt_qcow_fault(q, rc, &fault, err);
	}
	if (rc < 0)
		return bt_image_file_fail(q->f.path, rc, err);
	bt_log(q->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: the checksum of the L1 table is 0x%08" PRIx32
	       ", not 0x%08" PRIx32
	       ": it was not closed; its entries are sound",
	       q->node->name, q->header.xen.cksum, sum);
	return 0;
}

/* Blocking: nothing is in flight, and all tables are written. Only where this
 * session added a table: else the sum that was there still holds. */
int bt_qcow_xen_close(struct bt_qcow *q)
{
	uint32_t sum;
	int rc;

	if (!q->header.has_xen || !q->l1_changed || q->header_lost)
		return 0;
	rc = get_sum(q, &sum);
	if (rc < 0)
		return rc == -ENOTSUP ? 0 : rc;
	q->header.xen.cksum = sum;
	return bt_qcow_write_header(q);
}

/* ---- the byte order ------------------------------------------------------- */

static int convert_piece(struct bt_qcow *q, unsigned char *entries,
			 uint64_t first, size_t bytes, void *opaque)
{
	const uint64_t *to = opaque;
	size_t i;

	for (i = 0; i < bytes; i += 8)
		bt_store_be64(entries + i, bt_load_ne64(entries + i));
	return bt_image_file_write(&q->f, *to + first * 8, entries, bytes);
}

/* The copy goes behind the end of the file. q knows the new place before the
 * header does; where the header cannot be written, the open fails, and nobody
 * uses it. */
static int convert(struct bt_qcow *q)
{
	uint64_t to, bytes = (uint64_t)q->geo.l1_entries * 8;
	int rc;

	if (!bt_checked_align_up(q->f.size, TABLE_ALIGN, &to))
		return -EFBIG;
	rc = each_piece(q, convert_piece, &to);
	if (!rc)
		rc = bt_image_file_sync(&q->f);
	if (rc < 0)
		return rc;
	q->header.l1_offset = to;
	q->header.xen.flags |= BT_QCOW_XEN_L1_BIG_ENDIAN;
	bt_qcow_geometry_init(&q->geo, &q->header);
	q->f.size = bt_max_u64(q->f.size, to + bytes);
	q->native_l1 = false;
	rc = get_sum(q, &q->header.xen.cksum);
	if (!rc || rc == -ENOTSUP)
		rc = bt_qcow_write_header(q);
	return rc;
}

/* A device has no end to put a copy behind. */
int bt_qcow_xen_convert(struct bt_qcow *q, const struct bt_args *args,
			struct blktap_error **err)
{
	int rc;

	if (!q->native_l1)
		return 0;
	if (!bt_args_bool(args, "convert_l1") || q->f.is_device)
		return bt_fail(
			err, -EROFS,
			q->f.is_device
				? "open it read-only and copy it"
				: "open it read-only, or with convert_l1=true",
			"%s: its L1 table is in the byte order of an old "
			"machine, which is only read",
			q->f.path);
	rc = convert(q);
	return rc < 0 ? bt_image_file_fail(q->f.path, rc, err) : 0;
}
