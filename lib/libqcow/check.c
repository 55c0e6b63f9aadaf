/* SPDX-License-Identifier: BSD-3-Clause */
/* Each number of the window is a count of users with four flags on top: what
 * kinds of users they are. A finding about an entry is made in the first
 * window only, one about a cluster in the window that holds it, so each is
 * made once.
 *
 * Version 1 has no refcounts. There the units are sectors, since tables and
 * streams need not lie on clusters, and all that can be wrong is two users of
 * a sector: two compressed streams may share one, nothing else may. */
#include "libqcow/check.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/checked.h"

#define METADATA (UINT32_C(1) << 31)
#define COPIED (UINT32_C(1) << 30) /* an entry claims to be the only one */
#define SHARED (UINT32_C(1) << 29) /* an entry says it may not be */
#define STREAM (UINT32_C(1) << 28)
#define COUNT (STREAM - 1)

/* Statistics count what is found whether anybody listens or not. */
static void report(struct bt_qcow_check *c, const struct bt_qcow_finding *f)
{
	if (f->kind == BT_QCOW_LEAK)
		c->stats.leaks++;
	else
		c->stats.corruptions++;
	if (c->report)
		c->report(c->opaque, f);
}

/* Findings about entries do not depend on the window, so one of them has to be
 * chosen. */
static bool first_window(const struct bt_qcow_check *c)
{
	return c->first == 0;
}

static void report_entry(struct bt_qcow_check *c, uint64_t guest_offset,
			 const struct bt_fault *fault)
{
	struct bt_qcow_finding f = {
		.kind = BT_QCOW_BAD_ENTRY,
		.guest_offset = guest_offset,
		.fault = *fault,
	};

	if (first_window(c))
		report(c, &f);
}

/* Counts one user of the bytes, in as much of them as the window holds. bytes
 * is at least 1. A count that is full stays full: it is wrong already. */
static void count(struct bt_qcow_check *c, uint64_t offset, uint64_t bytes,
		  uint32_t flags)
{
	uint64_t unit = offset >> c->unit_bits;
	uint64_t last = (offset + bytes - 1) >> c->unit_bits;
	uint64_t end = c->first + c->window;

	c->stats.file_end = bt_max_u64(c->stats.file_end, offset + bytes);
	if (last < c->first || unit >= end)
		return;
	unit = bt_max_u64(unit, c->first);
	last = bt_min_u64(last, end - 1);
	for (; unit <= last; unit++) {
		uint32_t *n = &c->counts[unit - c->first];

		/* In version 1 streams are no count: they may share. */
		if (c->geo->version == 1 && flags & STREAM)
			*n |= STREAM;
		else
			*n = ((*n & COUNT) == COUNT ? *n : *n + 1) | flags;
	}
}

/* The fixed tables use their clusters in every window; count cuts them to this
 * one. */
static void start_window(struct bt_qcow_check *c, uint64_t first)
{
	c->first = first;
	memset(c->counts, 0, c->window * sizeof(*c->counts));
	for (uint32_t i = 0; i < c->geo->regions; i++) {
		const struct bt_qcow_region *r = &c->geo->region[i];

		/* The name of version 1 may share the header's sector. */
		if (c->geo->version == 1)
			count(c, r->offset, r->bytes, METADATA | STREAM);
		else
			count(c, r->offset, r->bytes, METADATA);
	}
}

/* A file that ends inside of a cluster has that cluster. */
void bt_qcow_check_init(struct bt_qcow_check *c,
			const struct bt_qcow_geometry *geo, uint64_t file_bytes,
			uint32_t *counts, size_t n, bt_qcow_report_fn fn,
			void *opaque)
{
	uint64_t unit;

	memset(c, 0, sizeof(*c));
	c->geo = geo;
	c->file_bytes = file_bytes;
	c->unit_bits = geo->version == 1 ? 9 : geo->cluster_bits;
	unit = UINT64_C(1) << c->unit_bits;
	c->units =
		(file_bytes >> c->unit_bits) + ((file_bytes & (unit - 1)) != 0);
	c->counts = counts;
	c->window = n;
	c->report = fn;
	c->opaque = opaque;
	start_window(c, 0);
}

/* Version 1 shares nothing and has no such bit. */
static uint32_t copied_flag(const struct bt_qcow_check *c, bool copied)
{
	if (c->geo->version == 1)
		return 0;
	return copied ? COPIED : SHARED;
}

/* Fed for each window, as it is not kept; entries that do not decode are told
 * of in the first. */
void bt_qcow_check_l1(struct bt_qcow_check *c, const void *table,
		      uint32_t first, uint32_t n)
{
	const uint8_t *p = table;

	for (uint32_t i = 0; i < n; i++) {
		struct bt_fault fault;
		struct bt_qcow_l1 l1;

		if (bt_qcow_l1_decode(c->geo, bt_load_be64(p + (size_t)i * 8),
				      c->file_bytes, &l1, &fault)) {
			report_entry(c,
				     bt_qcow_guest_offset(c->geo, first + i, 0),
				     &fault);
			continue;
		}
		if (!l1.offset)
			continue;
		c->stats.l2_tables += first_window(c);
		count(c, l1.offset, c->geo->l2_bytes,
		      METADATA | copied_flag(c, l1.copied));
	}
}

/* Statistics are of the whole image: taken in one window only. */
static void count_mapping(struct bt_qcow_check *c,
			  const struct bt_qcow_mapping *m)
{
	bool once = first_window(c);

	switch (m->kind) {
	case BT_QCOW_UNALLOCATED:
		return;
	case BT_QCOW_ZERO:
		c->stats.zero_clusters += once;
		break;
	case BT_QCOW_DATA:
		c->stats.data_clusters += once;
		break;
	case BT_QCOW_COMPRESSED:
		c->stats.compressed_clusters += once;
		count(c, m->offset, m->bytes, STREAM);
		return;
	}
	if (m->offset)
		count(c, m->offset, m->bytes, copied_flag(c, m->copied));
}

/* An entry that does not decode counts nobody: its cluster may show as a
 * leak. */
void bt_qcow_check_l2(struct bt_qcow_check *c, const void *table,
		      uint32_t l1_index)
{
	const uint8_t *p = table;

	for (uint32_t i = 0; i < c->geo->l2_entries; i++) {
		struct bt_qcow_mapping m;
		struct bt_fault fault;

		if (bt_qcow_l2_decode(c->geo, bt_load_be64(p + (size_t)i * 8),
				      c->file_bytes, &m, &fault))
			report_entry(c,
				     bt_qcow_guest_offset(c->geo, l1_index, i),
				     &fault);
		else
			count_mapping(c, &m);
	}
}

/* A refcount block is a user of its cluster like any other. */
void bt_qcow_check_reftable(struct bt_qcow_check *c, const void *table,
			    uint32_t first, uint32_t n)
{
	const uint8_t *p = table;

	for (uint32_t i = 0; i < n; i++) {
		struct bt_fault fault;
		uint64_t offset;

		if (bt_qcow_reftable_decode(c->geo,
					    bt_load_be64(p + (size_t)i * 8),
					    c->file_bytes, &offset, &fault)) {
			report_entry(c, 0, &fault);
		} else if (offset) {
			c->stats.refblocks += first_window(c);
			count(c, offset, c->geo->cluster_bytes, METADATA);
		}
	}
}

/* The clusters that block number index counts, cut to window and file. */
static bool block_part(const struct bt_qcow_check *c, uint32_t index,
		       uint64_t *from, uint64_t *to)
{
	uint64_t first = (uint64_t)index << c->geo->refblock_bits;

	*from = bt_max_u64(first, c->first);
	*to = bt_min_u64(first + (UINT64_C(1) << c->geo->refblock_bits),
			 bt_min_u64(c->first + c->window, c->units));
	return *from < *to;
}

/* So a block is read in the windows that its span meets, not in every one. */
bool bt_qcow_check_wants_block(const struct bt_qcow_check *c, uint32_t index)
{
	uint64_t from, to;

	return block_part(c, index, &from, &to);
}

/* The copied bit promises that the cluster may be written in place, so a wrong
 * one is as bad as a wrong count: it overwrites another's data. A cluster can
 * be the subject of two findings: low and marked "copied" is both. */
static void compare(struct bt_qcow_check *c, uint64_t unit, uint64_t stored)
{
	uint32_t n = c->counts[unit - c->first];
	struct bt_qcow_finding f = {
		.file_offset = unit << c->unit_bits,
		.stored = stored,
		.expected = n & COUNT,
	};

	if (n & METADATA && f.expected > 1) {
		f.kind = BT_QCOW_OVERLAP;
		report(c, &f);
	}
	if (stored != f.expected) {
		f.kind = stored < f.expected ? BT_QCOW_REFCOUNT_LOW
					     : BT_QCOW_LEAK;
		report(c, &f);
	}
	if ((n & COPIED && (stored != 1 || f.expected > 1)) ||
	    (n & SHARED && stored == 1)) {
		f.kind = BT_QCOW_WRONG_COPIED;
		report(c, &f);
	}
}

/* block is NULL where the table names none: then every count of its span is 0,
 * and what is used there is too low. */
void bt_qcow_check_refblock(struct bt_qcow_check *c, uint32_t index,
			    const void *block)
{
	uint32_t mask = (UINT32_C(1) << c->geo->refblock_bits) - 1;
	uint64_t unit, end;

	if (!block_part(c, index, &unit, &end))
		return;
	for (; unit < end; unit++)
		compare(c, unit,
			block ? bt_qcow_refcount_get(block,
						     c->geo->refcount_order,
						     (uint32_t)unit & mask)
			      : 0);
}

/* Two tables, or a table and a stream, in one sector are damage; two streams
 * are not. */
static void finish_v1(struct bt_qcow_check *c)
{
	uint64_t end = bt_min_u64(c->units, c->first + c->window);

	for (uint64_t unit = c->first; unit < end; unit++) {
		uint32_t n = c->counts[unit - c->first];
		struct bt_qcow_finding f = {
			.kind = BT_QCOW_OVERLAP,
			.file_offset = unit << c->unit_bits,
			.stored = 1,
			.expected = (n & COUNT) + !!(n & STREAM),
		};

		if (f.expected > 1)
			report(c, &f);
	}
}

/* The part of the file behind the last block of the table has no counts at all;
 * what is used there was never compared. Clusters there must be unused:
 * expected is what the tables say, stored is 0. */
static void finish_v2(struct bt_qcow_check *c)
{
	uint64_t counted = (uint64_t)c->geo->reftable_entries
			   << c->geo->refblock_bits;
	uint64_t end = bt_min_u64(c->units, c->first + c->window);

	for (uint64_t unit = bt_max_u64(counted, c->first); unit < end; unit++)
		compare(c, unit, 0);
}

/* Behind the last window nothing was left out: units counts a cluster that the
 * file has only a part of. */
bool bt_qcow_check_next(struct bt_qcow_check *c)
{
	if (c->geo->version == 1)
		finish_v1(c);
	else
		finish_v2(c);
	if (c->first + c->window >= c->units)
		return false;
	start_window(c, c->first + c->window);
	return true;
}
