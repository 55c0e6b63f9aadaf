/* SPDX-License-Identifier: BSD-3-Clause */
/* From a guest offset to what it is mapped to. Nothing an entry says is used
 * before the codec has looked at it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

#define COMPLAINTS 20u

uint64_t bt_qcow_file_bytes(const struct bt_qcow *q)
{
	return q->f.read_only ? q->f.size : q->file_end;
}

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

int bt_qcow_get_l2_page(struct bt_qcow *q, struct bt_meta_wait *wait,
			uint64_t table, uint32_t index,
			struct bt_meta_block **block)
{
	uint64_t page = bt_align_down((uint64_t)index * 8, q->l2_page);

	*block = bt_meta_get(q->meta, QCOW_L2, table + page, wait);
	return *block ? 1 : 0;
}

uint64_t bt_qcow_page_end(const struct bt_qcow *q, uint64_t at)
{
	uint64_t span = (uint64_t)(q->l2_page / 8) << q->geo.cluster_bits;

	return bt_align_down(at, span) + span;
}

/* How many entries from the first on are mapped alike, looking at the raw
 * values: data one cluster further each, everything else the same. */
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
 * and clear of the fixed tables. */
static bool is_clear(const struct bt_qcow *q, uint64_t host, uint32_t clusters)
{
	uint64_t bytes = (uint64_t)clusters << q->geo.cluster_bits;

	return bt_range_within(host, bytes - bt_qcow_cluster(q) + 1,
			       bt_qcow_file_bytes(q)) &&
	       !bt_qcow_region_hit(&q->geo, host, bytes);
}

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
