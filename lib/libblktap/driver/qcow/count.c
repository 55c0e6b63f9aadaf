/* SPDX-License-Identifier: BSD-3-Clause */
/* Reference counts of an image that is at rest, blocking: what comes to lie behind
 * the end of the file is counted, with refcount blocks and a larger refcount table
 * where it takes them. As everywhere, a thing is on disk before anything leads to
 * it, so a cut leaves bytes that are counted, or not even that, and nobody's.
 * Nothing here goes through the cache of metadata; its user closes the image. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

/* Bytes of file that the table has entries for; whether they name blocks is
 * another question. */
static uint64_t covered(const struct bt_qcow *q)
{
	return (uint64_t)q->geo.reftable_entries
	       << (q->geo.refblock_bits + q->geo.cluster_bits);
}

/* The area as grow.c lays it out, written and synced: nothing leads there
 * yet. */
static int fill_area(struct bt_qcow *q, const struct bt_qcow_growth *plan,
		     unsigned char *area)
{
	uint64_t bytes = bt_qcow_growth_bytes(&q->geo, plan);
	int rc;

	rc = bt_image_file_read(&q->f, q->geo.reftable_offset,
				area + (plan->blocks << q->geo.cluster_bits),
				(size_t)q->geo.reftable_entries * 8);
	if (rc)
		return rc;
	bt_qcow_growth_fill(&q->geo, plan, area);
	rc = bt_image_file_write(&q->f, plan->offset, area, bytes);
	return rc ? rc : bt_image_file_sync(&q->f);
}

/* One sector. Where its write fails, memory keeps what the file may still
 * say. */
static int switch_table(struct bt_qcow *q, const struct bt_qcow_growth *plan)
{
	struct bt_qcow_header old = q->header;
	int rc;

	q->header.refcount_offset =
		plan->offset + (plan->blocks << q->geo.cluster_bits);
	q->header.refcount_clusters = (uint32_t)plan->table_clusters;
	rc = bt_qcow_write_header(q);
	if (rc)
		q->header = old;
	else
		bt_qcow_geometry_set_reftable(&q->geo,
					      q->header.refcount_offset,
					      q->header.refcount_clusters);
	return rc;
}

/* The clusters of the old table are counted down last: a cut before that leaks
 * them. */
int bt_qcow_grow_reftable(struct bt_qcow *q, uint64_t *end)
{
	uint64_t old = q->geo.reftable_offset;
	uint64_t old_bytes = (uint64_t)q->geo.reftable_entries * 8;
	struct bt_qcow_growth plan;
	unsigned char *area;
	int rc;

	if (!bt_qcow_growth_plan(&q->geo, *end, &plan))
		return -ENOSPC;
	if (!bt_range_within(plan.offset, bt_qcow_growth_bytes(&q->geo, &plan),
			     bt_qcow_limit(q)))
		return -ENOSPC;
	area = calloc(1, bt_qcow_growth_bytes(&q->geo, &plan));
	rc = area ? fill_area(q, &plan, area) : -ENOMEM;
	free(area);
	if (!rc)
		rc = switch_table(q, &plan);
	if (rc)
		return rc;
	*end = plan.offset + bt_qcow_growth_bytes(&q->geo, &plan);
	return bt_qcow_set_counts(q, old, old + old_bytes, 0);
}

/* The block that counts `at`; where there is none, 0. Checked against what
 * entries can express and not against the file's end, which is about to
 * move. */
static int find_block(struct bt_qcow *q, uint64_t at, uint64_t *block)
{
	uint64_t index = bt_qcow_refcount_locate(&q->geo, at).table_index;
	unsigned char entry[8];
	int rc;

	rc = bt_image_file_read(&q->f, q->geo.reftable_offset + index * 8,
				entry, sizeof(entry));
	return rc ? rc
		  : bt_qcow_reftable_decode(&q->geo, bt_load_be64(entry),
					    q->geo.offset_max, block, NULL);
}

/* Counts `value` for the clusters from *at on that one block counts. Read,
 * changed and written whole: nothing else uses the image. *at is moved behind
 * what was counted. */
static int set_block(struct bt_qcow *q, uint64_t *at, uint64_t end,
		     uint64_t value, unsigned char *data)
{
	struct bt_qcow_refplace place;
	uint64_t block;
	int rc = find_block(q, *at, &block);

	if (!rc && !block)
		rc = -EIO;
	if (!rc)
		rc = bt_image_file_read(&q->f, block, data, bt_qcow_cluster(q));
	if (rc)
		return rc;
	place = bt_qcow_refcount_locate(&q->geo, *at);
	while (*at < end && place.block_index >> q->geo.refblock_bits == 0) {
		bt_qcow_refcount_set(data, q->geo.refcount_order,
				     place.block_index, value);
		place.block_index++;
		*at += bt_qcow_cluster(q);
	}
	return bt_image_file_write(&q->f, block, data, bt_qcow_cluster(q));
}

/* Synced at the end alone: a cut leaves some of them counted and some not, all
 * of them nobody's. */
int bt_qcow_set_counts(struct bt_qcow *q, uint64_t from, uint64_t to,
		       uint64_t value)
{
	unsigned char *data = malloc(bt_qcow_cluster(q));
	int rc = data ? 0 : -ENOMEM;

	while (!rc && from < to)
		rc = set_block(q, &from, to, value, data);
	free(data);
	return rc ? rc : bt_image_file_sync(&q->f);
}

/* ---- new blocks ----------------------------------------------------------- */

/* Blocks for the spans of clusters that have none lie behind each other at the end.
 * Each is whole on disk before the table names it; and as the last of them may count
 * where the others lie, the table gets to name them from the last to the first. */
struct spans {
	struct bt_qcow *q;
	uint64_t from, end; /* what is to be counted, the blocks included */
	uint64_t blocks; /* where the first new block lies */
	uint64_t first, last; /* of the spans */
	uint32_t missing;
};

/* log2 of the bytes of file that one refcount block counts. */
static uint32_t span_bits(const struct bt_qcow *q)
{
	return q->geo.refblock_bits + q->geo.cluster_bits;
}

/* A span behind the table's end has none. */
static int has_block(struct bt_qcow *q, uint64_t span, bool *has)
{
	uint64_t at = span << span_bits(q), block = 0;
	int rc = at < covered(q) ? find_block(q, at, &block) : 0;

	*has = block;
	return rc;
}

/* What counts the end moves the end. Each missing block is put at the end and
 * has to be counted itself, which may reach into a further span; the loop's
 * bound moves along until it does not. */
static int find_missing(struct spans *s, uint64_t end)
{
	bool has;
	int rc;

	s->blocks = s->end = end;
	s->missing = 0;
	s->first = s->from >> span_bits(s->q);
	for (s->last = s->first; s->last << span_bits(s->q) < s->end;
	     s->last++) {
		rc = has_block(s->q, s->last, &has);
		if (rc)
			return rc;
		if (has)
			continue;
		s->missing++;
		s->end += bt_qcow_cluster(s->q);
	}
	return s->end <= bt_qcow_limit(s->q) ? 0 : -ENOSPC;
}

/* Block n of the new ones, which counts this span. Only what lies from s->from
 * on: a span without a block has nothing used before that. */
static int write_block(struct spans *s, uint64_t span, uint32_t n,
		       unsigned char *data)
{
	struct bt_qcow *q = s->q;
	uint64_t at = bt_max_u64(s->from, span << span_bits(q));
	uint64_t end = bt_min_u64(s->end, (span + 1) << span_bits(q));

	memset(data, 0, bt_qcow_cluster(q));
	for (; at < end; at += bt_qcow_cluster(q))
		bt_qcow_refcount_set(
			data, q->geo.refcount_order,
			bt_qcow_refcount_locate(&q->geo, at).block_index, 1);
	return bt_image_file_write(
		&q->f, s->blocks + ((uint64_t)n << q->geo.cluster_bits), data,
		bt_qcow_cluster(q));
}

/* What is counted by a block that is there already, and the new blocks. All of
 * it is synced before name_blocks makes the table lead to it. */
static int write_counts(struct spans *s, unsigned char *data)
{
	struct bt_qcow *q = s->q;
	uint64_t span;
	uint32_t n = 0;
	bool has;
	int rc = 0;

	for (span = s->first; span < s->last && !rc; span++) {
		uint64_t at = bt_max_u64(s->from, span << span_bits(q));

		rc = has_block(q, span, &has);
		if (!rc && has)
			rc = set_block(q, &at, s->end, 1, data);
		else if (!rc)
			rc = write_block(s, span, n++, data);
	}
	return rc ? rc : bt_image_file_sync(&q->f);
}

/* From the last to the first, with a sync each: a block that counts where
 * others lie is named before they are, so a cut never leaves a block in use
 * that is counted as free. */
static int name_blocks(struct spans *s)
{
	struct bt_qcow *q = s->q;
	uint64_t span = s->last;
	uint32_t n = s->missing;
	unsigned char entry[8];
	bool has;
	int rc = 0;

	while (n && !rc) {
		rc = has_block(q, --span, &has);
		if (rc || has)
			continue;
		bt_store_be64(entry, s->blocks + ((uint64_t)--n
						  << q->geo.cluster_bits));
		rc = bt_image_file_write(&q->f,
					 q->geo.reftable_offset + span * 8,
					 entry, sizeof(entry));
		if (!rc)
			rc = bt_image_file_sync(&q->f);
	}
	return rc;
}

/* A table that is too small is made larger first, which moves the end, so what
 * is missing is looked for again. */
int bt_qcow_count_new(struct bt_qcow *q, uint64_t from, uint64_t *end)
{
	struct spans s = { .q = q, .from = from };
	unsigned char *data = malloc(bt_qcow_cluster(q));
	int rc = data ? find_missing(&s, *end) : -ENOMEM;

	if (!rc && s.end > covered(q)) {
		rc = bt_qcow_grow_reftable(q, end);
		if (!rc)
			rc = find_missing(&s, *end);
		if (!rc && s.end > covered(q))
			rc = -ENOSPC;
	}
	if (!rc)
		rc = write_counts(&s, data);
	if (!rc)
		rc = name_blocks(&s);
	*end = s.end;
	free(data);
	return rc;
}
