/* SPDX-License-Identifier: BSD-3-Clause */
/* Finds corruption and leaks in an image whose tables the caller feeds.
 *
 * Memory is the caller's and bounded: a window of clusters is counted at a
 * time, and all tables are fed once for each window.
 *
 *   bt_qcow_check_init(&c, &geo, file_bytes, counts, n, report, opaque);
 *   do {
 *           feed bt_qcow_check_l1 the whole L1 table, in pieces;
 *           feed bt_qcow_check_l2 each L2 table that an L1 entry names;
 *           version 2, 3: feed bt_qcow_check_reftable the whole table, then
 *                   bt_qcow_check_refblock each block that it names and that
 *                   bt_qcow_check_wants_block asks for;
 *   } while (bt_qcow_check_next(&c));
 *
 * Which tables are there is for the caller to see with bt_qcow_l1_decode and
 * bt_qcow_reftable_decode; entries that do not decode are reported here and
 * skipped there. Internal snapshots are not counted: validate the header
 * FOR_WRITE before a check. Nor are persistent bitmaps: their clusters show as
 * leaks, so say so where bt_qcow_ext_info.has_bitmaps. */
#ifndef BT_LIBQCOW_CHECK_H
#define BT_LIBQCOW_CHECK_H

#include "libqcow/entry.h"
#include "libqcow/refcount.h"

enum bt_qcow_finding_kind {
	BT_QCOW_BAD_ENTRY, /* fault says which rule it breaks */
	BT_QCOW_OVERLAP, /* two users of one cluster */
	BT_QCOW_REFCOUNT_LOW, /* in use, but counted less: corruption */
	BT_QCOW_LEAK, /* counted, but in use less: lost space */
	BT_QCOW_WRONG_COPIED, /* the copied bit contradicts the count */
};

struct bt_qcow_finding {
	enum bt_qcow_finding_kind kind;
	uint64_t file_offset; /* of the cluster, where it is about one */
	uint64_t guest_offset; /* of a bad L1 or L2 entry */
	uint64_t stored;
	uint64_t expected;
	struct bt_fault fault; /* BAD_ENTRY */
};

typedef void (*bt_qcow_report_fn)(void *opaque,
				  const struct bt_qcow_finding *finding);

struct bt_qcow_check_stats {
	uint64_t corruptions;
	uint64_t leaks; /* clusters */
	uint64_t data_clusters;
	uint64_t zero_clusters;
	uint64_t compressed_clusters;
	uint64_t l2_tables;
	uint64_t refblocks;
	uint64_t file_end; /* the end of the last byte in use */
};

struct bt_qcow_check {
	const struct bt_qcow_geometry *geo;
	uint64_t file_bytes;
	uint32_t unit_bits; /* what is counted: clusters, or sectors in v1 */
	uint64_t units; /* in the file */
	uint64_t first; /* of the window */
	uint64_t window;
	uint32_t *counts;
	bt_qcow_report_fn report;
	void *opaque;
	struct bt_qcow_check_stats stats;
};

/* counts has room for n > 0 numbers. report may be NULL. */
void bt_qcow_check_init(struct bt_qcow_check *c,
			const struct bt_qcow_geometry *geo, uint64_t file_bytes,
			uint32_t *counts, size_t n, bt_qcow_report_fn report,
			void *opaque);

/* n entries of the table as in the file (big-endian), from index first on. */
void bt_qcow_check_l1(struct bt_qcow_check *c, const void *table,
		      uint32_t first, uint32_t n);
/* The whole L2 table below L1 entry l1_index. */
void bt_qcow_check_l2(struct bt_qcow_check *c, const void *table,
		      uint32_t l1_index);
void bt_qcow_check_reftable(struct bt_qcow_check *c, const void *table,
			    uint32_t first, uint32_t n);

/* Whether block number index says anything of this window. */
bool bt_qcow_check_wants_block(const struct bt_qcow_check *c, uint32_t index);
/* block is NULL where the table has none. After all other tables. */
void bt_qcow_check_refblock(struct bt_qcow_check *c, uint32_t index,
			    const void *block);

/* Ends a window; false after the last. */
bool bt_qcow_check_next(struct bt_qcow_check *c);

#endif
