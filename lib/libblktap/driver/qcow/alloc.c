/* SPDX-License-Identifier: BSD-3-Clause */
/* Clusters for whoever asks, one wish at a time: from those that are known to be
 * free, else from the end of the file. Versions 2 and 3 count each as
 * used before it is given out; a refcount block that is missing is put where the
 * first cluster is that it would count. */
#include <errno.h>
#include <inttypes.h>

#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

static void set_block_entry(struct bt_qcow *q);

void bt_qcow_write_zeroes(struct bt_qcow *q, struct bt_io *io, uint64_t host,
			  uint64_t bytes,
			  void (*done)(struct bt_io *io, int error))
{
	io->file = &q->f.file;
	io->op = BT_IO_WRITE;
	io->flags = 0;
	io->offset = host;
	io->length = bytes;
	io->data = bt_zeroes;
	io->done = done;
	bt_engine_submit(io);
}

static uint64_t table_place(const struct bt_qcow *q, uint64_t host)
{
	return bt_qcow_refcount_locate(&q->geo, host).table_index * 8;
}

int bt_qcow_get_refblock(struct bt_qcow *q, struct bt_meta_wait *wait,
			 uint64_t host, uint64_t *block)
{
	uint64_t at = table_place(q, host);
	uint64_t page = bt_align_down(at, q->ref_page);
	struct bt_meta_block *b;
	struct bt_fault fault;
	uint64_t entry;
	int rc;

	*block = 0;
	b = bt_meta_get(q->meta, QCOW_REFTABLE, q->geo.reftable_offset + page,
			wait);
	if (!b)
		return 0;
	entry = bt_load_be64(b->data + (at - page));
	bt_meta_put(b);
	rc = bt_qcow_reftable_decode(&q->geo, entry, q->file_end, block,
				     &fault);
	return rc < 0 ? bt_qcow_complain(q, 0, &fault, rc) : 1;
}

int bt_qcow_get_ref_page(struct bt_qcow *q, struct bt_meta_wait *wait,
			 uint64_t block, uint64_t host,
			 struct bt_meta_block **page, uint32_t *index)
{
	uint32_t in = bt_qcow_refcount_locate(&q->geo, host).block_index;
	uint32_t a_page = (q->ref_page << 3) >> q->geo.refcount_order;

	*index = in & (a_page - 1);
	*page = bt_meta_get(q->meta, QCOW_REFBLOCK,
			    block + (uint64_t)(in / a_page) * q->ref_page,
			    wait);
	return *page ? 1 : 0;
}

uint64_t bt_qcow_limit(const struct bt_qcow *q)
{
	return q->f.is_device ? bt_min_u64(q->f.size, q->geo.offset_max)
			      : q->geo.offset_max;
}

/* ---- a new refcount block ------------------------------------------------- */

void bt_qcow_alloc_failed(struct bt_qcow *q, int error)
{
	struct bt_list *node = bt_list_pop(&q->allocator.wishes);

	q->allocator.busy = false;
	if (node) {
		struct bt_qcow_want *want =
			bt_list_entry(node, struct bt_qcow_want, link);

		want->fn(want, error);
	}
	bt_qcow_alloc_go(q);
}

static void have_ref_page(struct bt_meta_wait *wait,
			  struct bt_meta_block *block, int error)
{
	struct bt_qcow *q =
		bt_container_of(wait, struct bt_qcow, allocator.wait);

	if (block)
		bt_meta_put(block);
	if (error)
		bt_qcow_alloc_failed(q, error);
	else
		set_block_entry(q);
}

/* The block is zeroes on disk; it counts itself, and the table gets to name
 * it. */
static void set_block_entry(struct bt_qcow *q)
{
	uint64_t host = q->allocator.block, at = table_place(q, host);
	uint64_t page = bt_align_down(at, q->ref_page);
	struct bt_meta_wait *wait = &q->allocator.wait;
	struct bt_meta_block *table, *block;
	uint32_t index = 0;

	wait->fn = have_ref_page;
	table = bt_meta_get(q->meta, QCOW_REFTABLE,
			    q->geo.reftable_offset + page, wait);
	if (!table)
		return;
	if (bt_qcow_get_ref_page(q, wait, host, host, &block, &index)) {
		bt_qcow_refcount_set(block->data, q->geo.refcount_order, index,
				     1);
		bt_meta_dirty(block, 0, q->ref_page);
		bt_meta_put(block);
		bt_store_be64(table->data + (at - page), host);
		bt_meta_dirty(table, (uint32_t)(at - page), 8);
		bt_qcow_guard_add(q, host);
		q->allocator.busy = false;
	}
	bt_meta_put(table);
	if (!q->allocator.busy)
		bt_qcow_alloc_go(q);
}

static void block_zeroed(struct bt_io *io, int error)
{
	struct bt_qcow *q = bt_container_of(io, struct bt_qcow, allocator.io);

	if (error)
		bt_qcow_alloc_failed(q, error);
	else
		set_block_entry(q);
}

static int make_block(struct bt_qcow *q)
{
	uint64_t host = q->file_end;

	if (!bt_range_within(host, bt_qcow_cluster(q), bt_qcow_limit(q)))
		return -ENOSPC;
	q->file_end += bt_qcow_cluster(q);
	q->allocator.block = host;
	q->allocator.busy = true;
	bt_qcow_write_zeroes(q, &q->allocator.io, host, bt_qcow_cluster(q),
			     block_zeroed);
	return 0;
}

/* ---- one wish ------------------------------------------------------------- */

/* How many of the next clusters nothing counts, from *index on. */
static uint32_t count_free(const struct bt_qcow *q,
			   const struct bt_meta_block *page, uint32_t index,
			   uint32_t max)
{
	uint32_t order = q->geo.refcount_order, n = 0;
	uint32_t left = ((q->ref_page << 3) >> order) - index;

	if (max > left)
		max = left;
	while (n < max && !bt_qcow_refcount_get(page->data, order, index + n))
		n++;
	return n;
}

static void count_as_used(struct bt_qcow *q, struct bt_meta_block *page,
			  uint32_t index, uint32_t n)
{
	uint32_t order = q->geo.refcount_order, i;
	uint32_t from = (index << order) >> 3;
	uint32_t to = (((index + n) << order) + 7) >> 3;

	for (i = 0; i < n; i++)
		bt_qcow_refcount_set(page->data, order, index + i, 1);
	bt_meta_dirty(page, from, to - from);
}

static struct bt_qcow_extent *freed_before(struct bt_qcow *q,
					   const struct bt_qcow_want *want)
{
	struct bt_qcow_extent *last = &q->free.list[q->free.count - 1];

	if (want->whole || !q->free.count || (want->fresh && !last->zero))
		return NULL;
	return last;
}

/* Takes n clusters from where they were looked for. */
static void take(struct bt_qcow *q, struct bt_qcow_want *want,
		 struct bt_qcow_extent *from, uint32_t n)
{
	uint64_t bytes = (uint64_t)n << q->geo.cluster_bits;

	want->got = n;
	if (!from) {
		want->host = q->file_end;
		want->zero = !q->f.is_device;
		q->file_end += bytes;
		return;
	}
	want->host = from->host;
	want->zero = from->zero;
	from->host += bytes;
	from->bytes -= bytes;
	if (!from->bytes)
		q->free.count--;
}

static void wish_goes_on(struct bt_meta_wait *wait, struct bt_meta_block *block,
			 int error)
{
	struct bt_qcow *q =
		bt_container_of(wait, struct bt_qcow, allocator.wait);

	if (block)
		bt_meta_put(block);
	q->allocator.busy = false;
	if (error)
		bt_qcow_alloc_failed(q, error);
	else
		bt_qcow_alloc_go(q);
}

static int table_is_full(struct bt_qcow *q)
{
	int rc = bt_qcow_grow(q);

	if (rc == -EFBIG && !q->allocator.told) {
		bt_log(q->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: the refcount table is full at %" PRIu64
		       " bytes of file; larger clusters reach further",
		       q->node->name, q->file_end);
		q->allocator.told = true;
	}
	return rc == -EFBIG ? -ENOSPC : rc;
}

/* 1: answered, 0: waits, 2: look again, or a negative errno. */
static int try_counted(struct bt_qcow *q, struct bt_qcow_want *want,
		       struct bt_qcow_extent *from, uint32_t max)
{
	struct bt_meta_wait *wait = &q->allocator.wait;
	uint64_t host = from ? from->host : q->file_end, block;
	struct bt_meta_block *page = NULL;
	uint32_t index = 0, n;
	int rc;

	if (table_place(q, host) / 8 >= q->geo.reftable_entries)
		return table_is_full(q);
	wait->fn = wish_goes_on;
	q->allocator.busy = true;
	rc = bt_qcow_get_refblock(q, wait, host, &block);
	if (rc == 1 && !block) {
		q->allocator.busy = false;
		return make_block(q);
	}
	if (rc == 1)
		rc = bt_qcow_get_ref_page(q, wait, block, host, &page, &index);
	if (rc == 0)
		return 0;
	q->allocator.busy = false;
	if (rc < 0)
		return rc;
	n = count_free(q, page, index, max);
	if (n) {
		count_as_used(q, page, index, n);
		take(q, want, from, n);
	} else {
		/* counted, but nobody's: not ours to judge */
		take(q, want, from, 1);
	}
	bt_meta_put(page);
	return n ? 1 : 2;
}

static int try_wish(struct bt_qcow *q, struct bt_qcow_want *want)
{
	uint32_t max = want->count;
	struct bt_qcow_extent *from;
	uint64_t room;
	int rc;

	do {
		from = freed_before(q, want);
		room = from ? from->bytes
		       : bt_qcow_limit(q) > q->file_end
			       ? bt_qcow_limit(q) - q->file_end
			       : 0;
		room >>= q->geo.cluster_bits;
		if (!room || (want->whole && room < want->count))
			return -ENOSPC;
		max = (uint32_t)bt_min_u64(want->count, room);
		if (q->geo.version == 1) {
			take(q, want, from, max);
			return 1;
		}
		rc = try_counted(q, want, from, max);
	} while (rc == 2);
	return rc;
}

void bt_qcow_alloc_go(struct bt_qcow *q)
{
	struct bt_qcow_allocator *a = &q->allocator;

	/* a wisher may wish again at once: the outer loop serves it */
	if (a->running)
		return;
	a->running = true;
	while (!a->busy && !bt_list_empty(&a->wishes)) {
		struct bt_qcow_want *want =
			bt_list_first(&a->wishes, struct bt_qcow_want, link);
		int rc = 0;

		if (want->searched || !bt_qcow_find(q))
			rc = try_wish(q, want);
		want->searched = true;
		if (rc == 0)
			continue;
		bt_list_del(&want->link);
		want->fn(want, rc < 0 ? rc : 0);
	}
	a->running = false;
}

void bt_qcow_alloc(struct bt_qcow *q, struct bt_qcow_want *want)
{
	want->searched = want->whole;
	bt_list_add_tail(&q->allocator.wishes, &want->link);
	bt_qcow_alloc_go(q);
}
