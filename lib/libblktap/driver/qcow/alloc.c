/* SPDX-License-Identifier: BSD-3-Clause */
/* Clusters for whoever asks, one wish at a time: from those that are known to be
 * free, else from the end of the file. Versions 2 and 3 count each as
 * used before it is given out; a refcount block that is missing is put where the
 * first cluster is that it would count.
 *
 * Wishes are on allocator.wishes, oldest first; the first one is served, and
 * stays on the list until it is answered. busy says that something is under way
 * for it (a table is read, a refcount block or a larger table is made, free
 * clusters are searched): then nobody else is served, so the end of the file
 * has one user.
 *
 * A cluster is counted before it is given out, in memory; ranks put the count
 * on disk before any entry (qcow.h). If the process dies in between, clusters
 * are counted and unused. */
#include <errno.h>
#include <inttypes.h>

#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

static void set_block_entry(struct bt_qcow *q);

/* At most BT_ZEROES_MAX bytes: a cluster or an L2 table are no more. */
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

/* Byte of the refcount table, which has 8 for each block. */
static uint64_t table_place(const struct bt_qcow *q, uint64_t host)
{
	return bt_qcow_refcount_locate(&q->geo, host).table_index * 8;
}

/* 1 with the block that counts the cluster at host in *block, 0 there where
 * none does; 0: wait->fn is called later; -EIO: the entry is damaged. A table
 * that names a place behind file_end is damaged, too: all blocks were made
 * before it. */
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

/* A refcount block is a cluster, of which the cache holds pages. Counts are 1
 * << order bits wide, so a page has (bytes * 8) >> order of them; *index is in
 * the page. */
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

/* A file grows as far as entries can express; a device ends. */
uint64_t bt_qcow_limit(const struct bt_qcow *q)
{
	return q->f.is_device ? bt_min_u64(q->f.size, q->geo.offset_max)
			      : q->geo.offset_max;
}

/* ---- a new refcount block ------------------------------------------------- */

/* The others are tried: their wishes may be smaller, or may be met from freed
 * clusters. */
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

/* A page that set_block_entry waited for is here: it begins again. */
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

/* The block is zeroes on disk; it counts itself, and the table gets to name it.
 * Both pages are needed in one turn, or a commit could find the one without the
 * other: the table's page is held while the block's is got. The block counts
 * itself as it lies in the span that it counts. */
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

/* The zeroes are data: the sync of rank 0 covers them, before the table names
 * the block. */
static void block_zeroed(struct bt_io *io, int error)
{
	struct bt_qcow *q = bt_container_of(io, struct bt_qcow, allocator.io);

	if (error)
		bt_qcow_alloc_failed(q, error);
	else
		set_block_entry(q);
}

/* At the end of the file, which is in the span that lacks a block: whoever
 * wanted clusters there gets those behind it. Where the zeroes fail, the place
 * is not used again. */
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

/* How many of the next clusters nothing counts, from *index on. Ends at the
 * page, at max, or at the first cluster that is counted. */
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

/* Narrow counts share bytes, hence the rounding of what is dirty. */
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

/* The last extent of the list, as taking from the end moves nothing. A table
 * (whole) is made at the end of the file alone, where it lies in one piece
 * whatever was freed. */
static struct bt_qcow_extent *freed_before(struct bt_qcow *q,
					   const struct bt_qcow_want *want)
{
	struct bt_qcow_extent *last = &q->free.list[q->free.count - 1];

	if (want->whole || !q->free.count || (want->fresh && !last->zero))
		return NULL;
	return last;
}

/* Takes n clusters from where they were looked for. A place of the list keeps
 * what is left of it; the end of the file only moves. */
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

/* What the wish waited for is in memory: it is tried again from the start. */
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

/* 0: a larger one is being made, and the wish waits. It is told once that there
 * is none. */
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

/* 1: answered, 0: waits, 2: look again, or a negative errno. Looked at before
 * taken: clusters at the end of the file can be counted already, where a crash
 * left them so, or where somebody shortened the file; those are passed, one at
 * a time. */
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

/* Freed places first, so a file does not grow while it has room. A wish that is
 * not whole takes what there is in one piece. */
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

/* Each wish has one search of a page before it is served from the end of the
 * file; a search that has to read makes the allocator busy and comes back
 * here. */
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

/* The answer comes by want->fn, perhaps before this returns. A table takes no
 * searched place (freed_before), so no search is made for it. */
void bt_qcow_alloc(struct bt_qcow *q, struct bt_qcow_want *want)
{
	want->searched = want->whole;
	bt_list_add_tail(&q->allocator.wishes, &want->link);
	bt_qcow_alloc_go(q);
}
