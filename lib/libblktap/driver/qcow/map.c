/* SPDX-License-Identifier: BSD-3-Clause */
/* From a guest offset to what it is mapped to. Nothing an entry says is used
 * before the codec has looked at it.
 *
 * The way is L1 table, L2 table, cluster; each table is read in pages through
 * the cache, and each entry loaded once into a register, checked by the codec
 * against the present end of the file, and used as that value. The entry in the
 * page can change while a request waits, so nothing found here outlives a
 * wait. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

#define COMPLAINTS 20u /* entries that the log is told of */

/* Whoever writes knows the end better than the file: clusters are given out
 * before they are written, and the file is short of them until then. */
uint64_t bt_qcow_file_bytes(const struct bt_qcow *q)
{
	return q->f.read_only ? q->f.size : q->file_end;
}

/* Counted for the status, told for the first twenty, so that a damaged image
 * does not fill the log. Returns rc, for the request; the disk goes on. */
int bt_qcow_complain(struct bt_qcow *q, uint64_t guest,
		     const struct bt_fault *fault, int rc)
{
	if (q->complaints++ < COMPLAINTS)
		bt_log(q->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: at offset %" PRIu64 " of the disk: %s is 0x%" PRIx64
		       ": %s",
		       q->node->name, guest, fault->field, fault->value,
		       fault->reason);
	return rc;
}

/* The order of the bytes is the machine's in images of the first Xen releases
 * alone (xen.c); these are open for reading only. */
static int decode_l1(struct bt_qcow *q, const unsigned char *at, uint32_t index,
		     struct bt_qcow_l1 *l1)
{
	uint64_t entry = q->native_l1 ? bt_load_ne64(at) : bt_load_be64(at);
	struct bt_fault fault;
	int rc = bt_qcow_l1_decode(&q->geo, entry, bt_qcow_file_bytes(q), l1,
				   &fault);

	if (rc < 0)
		return bt_qcow_complain(
			q, bt_qcow_guest_offset(&q->geo, index, 0), &fault, rc);
	return 1;
}

/* The table may begin at any multiple of 8 in version 1, so a page is taken by
 * its place in the file and not by its number in the table. It can hold the
 * header as well, which is written by others: relink.c minds that. */
int bt_qcow_get_l1(struct bt_qcow *q, struct bt_meta_wait *wait, uint32_t index,
		   struct bt_qcow_l1 *l1)
{
	uint64_t at = q->geo.l1_offset + (uint64_t)index * 8;
	uint64_t page = bt_align_down(at, QCOW_L1_PAGE);
	struct bt_meta_block *block;
	int rc;

	/* most of a long chain answers here */
	if (q->l1)
		return decode_l1(q, q->l1 + (size_t)index * 8, index, l1);
	block = bt_meta_get(q->meta, QCOW_L1, page, wait);
	if (!block)
		return 0;
	rc = decode_l1(q, block->data + (at - page), index, l1);
	bt_meta_put(block);
	return rc;
}

/* A table is a whole number of such pages, so they are taken by their number in
 * it. */
int bt_qcow_get_l2_page(struct bt_qcow *q, struct bt_meta_wait *wait,
			uint64_t table, uint32_t index,
			struct bt_meta_block **block)
{
	uint64_t page = bt_align_down((uint64_t)index * 8, q->l2_page);

	*block = bt_meta_get(q->meta, QCOW_L2, table + page, wait);
	return *block ? 1 : 0;
}

/* No run goes past it, since the next page may have to be read first. */
uint64_t bt_qcow_page_end(const struct bt_qcow *q, uint64_t at)
{
	uint64_t span = (uint64_t)(q->l2_page / 8) << q->geo.cluster_bits;

	return bt_align_down(at, span) + span;
}

/* How many entries from the first on are mapped alike, looking at the raw
 * values: data one cluster further each, everything else the same. The copied
 * bit is part of the value, so what must be copied first ends a run as well.
 * Entries of the machine's other order do not come here: only L1 tables have
 * it. */
static uint32_t count_alike(const struct bt_qcow *q, const unsigned char *at,
			    uint64_t entry, enum bt_qcow_kind kind,
			    uint32_t max)
{
	uint64_t step = kind == BT_QCOW_DATA ? bt_qcow_cluster(q) : 0;
	uint32_t n = 1;

	if (kind == BT_QCOW_COMPRESSED)
		return 1;
	while (n < max && bt_load_be64(at + (size_t)n * 8) == entry + n * step)
		n++;
	return n;
}

/* host is of the byte that was asked for where the cluster is plain data; a
 * stream is named by its beginning, wherever in the cluster it was asked
 * for. */
static void fill(struct bt_qcow *q, const struct bt_qcow_mapping *m,
		 uint64_t at, uint64_t end, uint32_t clusters,
		 struct bt_qcow_map *map)
{
	uint64_t in = at & (bt_qcow_cluster(q) - 1);
	uint64_t bytes = ((uint64_t)clusters << q->geo.cluster_bits) - in;

	map->kind = m->kind;
	map->copied = m->copied;
	map->no_table = false;
	map->bytes = m->bytes;
	map->host = m->offset;
	if (m->kind == BT_QCOW_DATA)
		map->host += in;
	map->length = bt_min_u64(bytes, end - at);
}

/* A run of data is as good as its first cluster only where it stays in the file
 * and clear of the fixed tables. Each entry was decoded by itself only where
 * the run is one cluster; the rest is known by its difference to the first. The
 * last cluster may be cut by the end of the file, hence one byte of it is
 * enough. */
static bool is_clear(const struct bt_qcow *q, uint64_t host, uint32_t clusters)
{
	uint64_t bytes = (uint64_t)clusters << q->geo.cluster_bits;

	return bt_range_within(host, bytes - bt_qcow_cluster(q) + 1,
			       bt_qcow_file_bytes(q)) &&
	       !bt_qcow_region_hit(&q->geo, host, bytes);
}

/* A page and the end of the request bound the run; both are looked at before
 * entries are, so none behind the page is read. */
static int read_entries(struct bt_qcow *q, const unsigned char *from,
			uint64_t at, uint64_t end, struct bt_qcow_map *map)
{
	uint64_t entry = bt_load_be64(from);
	uint64_t first = bt_align_down(at, bt_qcow_cluster(q));
	uint64_t last = bt_min_u64(end, bt_qcow_page_end(q, at));
	uint32_t n = (uint32_t)((last - first + bt_qcow_cluster(q) - 1) >>
				q->geo.cluster_bits);
	struct bt_qcow_mapping m;
	struct bt_fault fault;
	int rc = bt_qcow_l2_decode(&q->geo, entry, bt_qcow_file_bytes(q), &m,
				   &fault);

	if (rc < 0)
		return bt_qcow_complain(q, at, &fault, rc);
	n = count_alike(q, from, entry, m.kind, n);
	if (m.kind == BT_QCOW_DATA && n > 1 && !is_clear(q, m.offset, n))
		n = 1;
	fill(q, &m, at, last, n, map);
	return 1;
}

/* 1 with what the bytes from at on are mapped to, as many as are mapped alike
 * up to end; 0: wait->fn is called later, and all of it is asked for anew; or a
 * negative errno. Where there is no L2 table the whole span of the L1 entry is
 * alike. */
int bt_qcow_lookup(struct bt_qcow *q, struct bt_meta_wait *wait, uint64_t at,
		   uint64_t end, struct bt_qcow_map *map)
{
	struct bt_qcow_place place = bt_qcow_locate(&q->geo, at);
	struct bt_meta_block *block;
	struct bt_qcow_l1 l1;
	uint64_t span;
	int rc = bt_qcow_get_l1(q, wait, place.l1_index, &l1);

	if (rc <= 0)
		return rc;
	if (!l1.offset) {
		span = bt_align_down(at, q->geo.l1_span) + q->geo.l1_span;
		*map = (struct bt_qcow_map){ .kind = BT_QCOW_UNALLOCATED,
					     .no_table = true };
		map->length = bt_min_u64(end, span) - at;
		return 1;
	}
	rc = bt_qcow_get_l2_page(q, wait, l1.offset, place.l2_index, &block);
	if (rc <= 0)
		return rc;
	rc = read_entries(
		q,
		block->data + ((size_t)place.l2_index * 8 & (q->l2_page - 1)),
		at, end, map);
	bt_meta_put(block);
	return rc;
}
