/* SPDX-License-Identifier: BSD-3-Clause */
/* A walk through all tables, blocking, at a writable open: of an image whose
 * refcounts a crash left behind (the dirty bit), and of one on a block device,
 * whose end says nothing of what is used. Counts that are too low are set right;
 * those that are too high only cost space.
 *
 * The codec counts (libqcow/check.h), in windows so that memory is bounded;
 * this feeds it and writes what it finds too low. A low count is the dangerous
 * kind: the cluster would be given out twice. Rounds repeat until one finds
 * nothing, since a block that is added has to be counted itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "libqcow/check.h"
#include "util/bytes.h"
#include "util/checked.h"

#define WINDOW (1u << 20) /* clusters counted at a time */
#define ROUNDS 8u

struct scan {
	struct bt_qcow *q;
	struct bt_qcow_check check;
	uint32_t *counts;
	unsigned char *table; /* of one cluster, or an L2 table */
	unsigned char *piece; /* of the L1 or the refcount table */
	uint32_t index; /* of the refcount block that is looked at */
	bool has_block;
	bool repair;
	bool block_changed;
	uint64_t repaired;
	uint64_t missing; /* blocks */
	int rc;
};

/* Found for every cluster of the span; the first one that is found adds the
 * block. */
static bool block_is_missing(const struct scan *s)
{
	return s->repair && !s->has_block;
}

/* Behind all that is used. Of a device the walk says where that is: blocks are
 * compared when all other tables have been fed. */
static bool find_place(const struct scan *s, uint64_t *at)
{
	const struct bt_qcow *q = s->q;
	uint64_t end = q->f.is_device ? s->check.stats.file_end : q->f.size;

	return bt_checked_align_up(end, bt_qcow_cluster(q), at) &&
	       bt_range_within(*at, bt_qcow_cluster(q), bt_qcow_limit(q));
}

/* A block for clusters that the table has none for, to be counted itself in the
 * next round. The block's zeroes are written before the table names it, without
 * a sync between: a cut leaves an image that is still dirty, and is repaired
 * anew. */
static void add_block(struct scan *s)
{
	struct bt_qcow *q = s->q;
	unsigned char entry[8];
	uint64_t at;

	if (!find_place(s, &at) || s->index >= q->geo.reftable_entries) {
		s->rc = -ENOSPC;
		return;
	}
	memset(s->table, 0, bt_qcow_cluster(q));
	bt_store_be64(entry, at);
	s->rc = bt_image_file_write(&q->f, at, s->table, bt_qcow_cluster(q));
	if (!s->rc)
		s->rc = bt_image_file_write(
			&q->f, q->geo.reftable_offset + (uint64_t)s->index * 8,
			entry, sizeof(entry));
	if (q->f.is_device)
		s->check.stats.file_end = at + bt_qcow_cluster(q);
	else
		q->f.size = at + bt_qcow_cluster(q);
	s->has_block = true;
	s->missing++;
}

/* Entries that are damaged and clusters with two users are nothing that counts
 * can repair: then the image is not opened for writing. */
static void report(void *opaque, const struct bt_qcow_finding *finding)
{
	struct scan *s = opaque;
	struct bt_qcow *q = s->q;
	uint32_t index;

	if (finding->kind == BT_QCOW_BAD_ENTRY ||
	    finding->kind == BT_QCOW_OVERLAP) {
		bt_qcow_complain(q, finding->guest_offset, &finding->fault, 0);
		if (s->repair)
			s->rc = -EIO;
	}
	if (finding->kind != BT_QCOW_REFCOUNT_LOW || !s->repair || s->rc)
		return;
	if (block_is_missing(s)) {
		add_block(s);
		return;
	}
	if (s->missing)
		return; /* counted in the next round */
	index = bt_qcow_refcount_locate(&q->geo, finding->file_offset)
			.block_index;
	if (bt_qcow_refcount_set(s->table, q->geo.refcount_order, index,
				 finding->expected))
		s->rc = -ERANGE;
	s->block_changed = true;
	s->repaired++;
}

/* A table that the L1 entry cannot lead to was reported with that entry. */
static int feed_l2(struct scan *s, uint64_t entry, uint32_t index)
{
	struct bt_qcow *q = s->q;
	struct bt_qcow_l1 l1;
	int rc;

	if (bt_qcow_l1_decode(&q->geo, entry, q->f.size, &l1, NULL) ||
	    !l1.offset)
		return 0;
	rc = bt_image_file_read(&q->f, l1.offset, s->table, q->geo.l2_bytes);
	if (!rc)
		bt_qcow_check_l2(&s->check, s->table, index);
	return rc;
}

/* Only blocks that say something of this window are read. What report sets in
 * s->table is written back at once. */
static int feed_block(struct scan *s, uint64_t entry, uint32_t index)
{
	struct bt_qcow *q = s->q;
	uint64_t host = 0;
	int rc = 0;

	if (!bt_qcow_check_wants_block(&s->check, index))
		return 0;
	if (bt_qcow_reftable_decode(&q->geo, entry, q->f.size, &host, NULL))
		return -EIO;
	s->index = index;
	s->has_block = host;
	s->block_changed = false;
	s->missing = 0;
	if (host)
		rc = bt_image_file_read(&q->f, host, s->table,
					bt_qcow_cluster(q));
	if (!rc)
		bt_qcow_check_refblock(&s->check, index,
				       host ? s->table : NULL);
	if (!rc && s->block_changed)
		rc = bt_image_file_write(&q->f, host, s->table,
					 bt_qcow_cluster(q));
	if (s->missing)
		s->repaired++; /* another round */
	return rc;
}

/* Feeds a table in pieces, and then what its entries name. */
static int feed(struct scan *s, uint64_t offset, uint64_t entries,
		void (*whole)(struct bt_qcow_check *c, const void *table,
			      uint32_t first, uint32_t n),
		int (*each)(struct scan *s, uint64_t entry, uint32_t index))
{
	uint64_t at = 0;
	uint32_t i;
	int rc = 0;

	for (; at < entries && !rc; at += 512) {
		uint32_t n = (uint32_t)bt_min_u64(512, entries - at);

		rc = bt_image_file_read(&s->q->f, offset + at * 8, s->piece,
					(size_t)n * 8);
		if (!rc && whole)
			whole(&s->check, s->piece, (uint32_t)at, n);
		for (i = 0; each && i < n && !rc; i++)
			rc = each(s, bt_load_be64(s->piece + (size_t)i * 8),
				  (uint32_t)at + i);
	}
	return rc ? rc : s->rc;
}

/* L1 and L2 first, then the blocks that are compared with what those use. */
static int window(struct scan *s)
{
	const struct bt_qcow_geometry *geo = &s->q->geo;
	int rc = feed(s, geo->l1_offset, geo->l1_entries, bt_qcow_check_l1,
		      feed_l2);

	if (rc || geo->version == 1)
		return rc;
	rc = feed(s, geo->reftable_offset, geo->reftable_entries,
		  bt_qcow_check_reftable, NULL);
	if (!rc)
		rc = feed(s, geo->reftable_offset, geo->reftable_entries, NULL,
			  feed_block);
	return rc;
}

/* One round: all tables, once for each window of the file. */
static int walk(struct scan *s)
{
	int rc;

	s->repaired = 0;
	bt_qcow_check_init(&s->check, &s->q->geo, s->q->f.size, s->counts,
			   WINDOW, report, s);
	do
		rc = window(s);
	while (!rc && bt_qcow_check_next(&s->check));
	return rc;
}

/* What is used lies behind what the refcount table reaches: it grows, and the
 * next round counts. Where the writer that died had lazy refcounts, the table
 * may never have grown. */
static int cover(struct scan *s)
{
	struct bt_qcow *q = s->q;
	uint64_t used = s->check.stats.file_end, end;
	int rc;

	if (!s->repair || q->geo.version == 1 || !used ||
	    bt_qcow_refcount_locate(&q->geo, used - 1).table_index <
		    q->geo.reftable_entries)
		return 0;
	if (!q->f.is_device)
		used = q->f.size;
	if (!bt_checked_align_up(used, bt_qcow_cluster(q), &end))
		return -ENOSPC;
	rc = bt_qcow_grow_reftable(q, &end);
	if (!q->f.is_device)
		q->f.size = end;
	s->repaired++;
	return rc;
}

static int fail(const struct bt_qcow *q, int rc, struct blktap_error **err)
{
	bool is_full = rc == -ENOSPC || rc == -EDQUOT;

	return bt_fail(err, rc,
		       is_full && q->f.is_device
			       ? "make the device larger: counts that a crash "
				 "left behind need space"
		       : is_full
			       ? "make room on its file system: counts that a "
				 "crash left behind need space"
			       : "repair it with qemu-img check -r all",
		       "%s: its tables cannot be set right: %s", q->f.path,
		       bt_errno_name(rc));
}

/* used_end: where a device's data ends; of a file its size. ROUNDS bounds what
 * a damaged image can make of it; a sound one needs two or three. */
int bt_qcow_scan(struct bt_qcow *q, bool repair, uint64_t *used_end,
		 struct blktap_error **err)
{
	struct scan s = { .q = q, .repair = repair };
	uint64_t repaired = 0;
	uint32_t round = 0;
	int rc = -ENOMEM;

	s.counts = calloc(WINDOW, sizeof(*s.counts));
	s.table = malloc(bt_max_u64(bt_qcow_cluster(q), q->geo.l2_bytes));
	s.piece = malloc(4096);
	if (s.counts && s.table && s.piece) {
		do {
			rc = walk(&s);
			if (!rc)
				rc = cover(&s);
			repaired += s.repaired;
		} while (!rc && s.repaired && ++round < ROUNDS);
	}
	if (!rc && s.repaired)
		rc = -EIO; /* no end of it */
	if (!rc && repair)
		rc = bt_image_file_sync(&q->f);
	if (!rc && q->f.is_device)
		*used_end = s.check.stats.file_end;
	else
		*used_end = q->f.size;
	if (repaired)
		bt_log(q->node->env->log, BLKTAP_LOG_INFO,
		       "%s: was not closed: %" PRIu64
		       " reference counts are set right",
		       q->node->name, repaired);
	free(s.counts);
	free(s.table);
	free(s.piece);
	return rc < 0 ? fail(q, rc, err) : 0;
}
