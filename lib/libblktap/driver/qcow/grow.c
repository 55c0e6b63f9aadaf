/* SPDX-License-Identifier: BSD-3-Clause */
/* The refcount table is full: a larger one is made at the end of the file.
 *
 *   commit: the table on disk is the one in memory
 *     -> read it -> write it larger, with blocks that count the new place
 *   commit: all of that is on disk, and nothing leads to it
 *     -> the header's sector names the new place
 *   commit: the old place is nobody's, and is freed as any cluster is
 *
 * A cut before the header's sector is written leaves bytes behind the end of
 * what is counted; after it, the old table's clusters leak. The allocator
 * serves no other wish meanwhile, so nobody changes the table; and where this
 * fails the end of the file is not moved, so the next try writes the same bytes
 * to the same place, which is harmless even if the header on disk has changed
 * already.
 *
 * plan says where: at the file's end, refcount blocks first, behind them the
 * table. area is the memory of both, with a place for the header behind; it
 * lives from bt_qcow_grow to switch_tables or failed. The steps stand in this
 * file from the last to the first. The last commit is there because the next
 * change of a count must not go to a table that the header on disk may not
 * name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/qcow/qcow.h"
#include "util/checked.h"

#define HEAD 4096u /* no alignment is more */

/* allocator.busy was set since bt_qcow_grow; bt_qcow_alloc_failed ends it and
 * the wish. */
static void failed(struct bt_qcow *q, int error)
{
	free(q->grower.area);
	q->grower.area = NULL;
	bt_qcow_alloc_failed(q, error);
}

/* ---- commits -------------------------------------------------------------- */

/* The step behind a commit, or the end where it failed. */
static void go_on(struct bt_work *work)
{
	struct bt_qcow *q = bt_container_of(work, struct bt_qcow, grower.work);

	if (q->grower.error)
		failed(q, q->grower.error);
	else
		q->grower.next(q);
}

/* Later: a wish that is answered may end in the closing of the image. */
static void committed(struct bt_meta_commit *commit, int error)
{
	struct bt_qcow *q =
		bt_container_of(commit, struct bt_qcow, grower.commit);

	q->grower.error = error;
	bt_loop_defer(q->node->env->loop, &q->grower.work);
}

/* A sync goes through the cache as all do, so an error of it fails every later
 * commit. What others changed goes along. */
static void commit(struct bt_qcow *q, void (*next)(struct bt_qcow *q))
{
	q->grower.next = next;
	q->grower.commit.fn = committed;
	bt_meta_commit(q->meta, &q->grower.commit);
}

/* Past the cache: the area is no block of it, and nobody reads there before the
 * switch. */
static void submit(struct bt_qcow *q, enum bt_io_op op, uint64_t offset,
		   void *buf, uint64_t bytes,
		   void (*done)(struct bt_io *io, int error))
{
	struct bt_qcow_grower *g = &q->grower;

	memset(&g->io, 0, sizeof(g->io));
	g->iov.iov_base = buf;
	g->iov.iov_len = bytes;
	g->io.file = &q->f.file;
	g->io.op = op;
	g->io.offset = offset;
	g->io.length = bytes;
	g->io.data = (struct bt_sgl){ .iov = &g->iov, .count = 1 };
	g->io.done = done;
	bt_engine_submit(&g->io);
}

static struct bt_qcow *qcow_of(struct bt_io *io)
{
	return bt_container_of(io, struct bt_qcow, grower.io);
}

static uint64_t area_bytes(const struct bt_qcow *q)
{
	return bt_qcow_growth_bytes(&q->geo, &q->grower.plan);
}

/* In the area: blocks before the table. */
static uint64_t table_at(const struct bt_qcow *q)
{
	return q->grower.plan.blocks << q->geo.cluster_bits;
}

/* ---- the end -------------------------------------------------------------- */

/* In one turn: from here on counts are looked up in the new table, whose old
 * part is the old table's as it was at the first commit, and nobody has changed
 * it since. */
static void switch_tables(struct bt_qcow *q)
{
	struct bt_qcow_grower *g = &q->grower;
	uint64_t old = q->geo.reftable_offset, i;
	uint64_t old_bytes = (uint64_t)q->geo.reftable_entries * 8;

	q->header.refcount_offset = g->plan.offset + table_at(q);
	q->header.refcount_clusters = (uint32_t)g->plan.table_clusters;
	bt_qcow_geometry_set_reftable(&q->geo, q->header.refcount_offset,
				      q->header.refcount_clusters);
	for (i = 0; i < g->plan.blocks; i++)
		bt_qcow_guard_add(q,
				  g->plan.offset + (i << q->geo.cluster_bits));
	q->file_end = g->plan.offset + area_bytes(q);
	free(g->area);
	g->area = NULL;
	bt_qcow_drop(q, old, old_bytes);
	q->allocator.busy = false;
	bt_qcow_alloc_go(q);
}

/* ---- the header ----------------------------------------------------------- */

/* One sector is enough for the fields; O_DIRECT may want more of it. */
static uint64_t head_bytes(const struct bt_qcow *q)
{
	return bt_max_u64(BT_QCOW_HEADER_PROBE, q->f.file.offset_align);
}

/* On disk perhaps, and perhaps not: the commit's sync settles it. */
static void head_written(struct bt_io *io, int error)
{
	struct bt_qcow *q = qcow_of(io);

	if (error)
		failed(q, error);
	else
		commit(q, switch_tables);
}

/* Fields that this code does not know stay as they are on disk. */
static void head_read(struct bt_io *io, int error)
{
	struct bt_qcow *q = qcow_of(io);
	struct bt_qcow_header header = q->header;
	unsigned char *head = q->grower.area + area_bytes(q);

	header.refcount_offset = q->grower.plan.offset + table_at(q);
	header.refcount_clusters = (uint32_t)q->grower.plan.table_clusters;
	if (!error) {
		int rc = bt_qcow_header_encode(&header, head,
					       BT_QCOW_HEADER_PROBE);

		error = rc < 0 ? rc : 0;
	}
	if (error)
		failed(q, error);
	else
		submit(q, BT_IO_WRITE, 0, head, head_bytes(q), head_written);
}

static void read_head(struct bt_qcow *q)
{
	submit(q, BT_IO_READ, 0, q->grower.area + area_bytes(q), head_bytes(q),
	       head_read);
}

/* ---- the table ------------------------------------------------------------ */

/* Behind this commit all that the header is about to name is on disk. */
static void area_written(struct bt_io *io, int error)
{
	struct bt_qcow *q = qcow_of(io);

	if (error)
		failed(q, error);
	else
		commit(q, read_head);
}

/* The old entries stand at the beginning of the new table; fill adds the new
 * blocks' and counts the area in them. */
static void table_read(struct bt_io *io, int error)
{
	struct bt_qcow *q = qcow_of(io);
	struct bt_qcow_grower *g = &q->grower;

	if (error) {
		failed(q, error);
		return;
	}
	bt_qcow_growth_fill(&q->geo, &g->plan, g->area);
	submit(q, BT_IO_WRITE, g->plan.offset, g->area, area_bytes(q),
	       area_written);
}

static void read_table(struct bt_qcow *q)
{
	submit(q, BT_IO_READ, q->geo.reftable_offset,
	       q->grower.area + table_at(q),
	       (uint64_t)q->geo.reftable_entries * 8, table_read);
}

void bt_qcow_grow_init(struct bt_qcow *q)
{
	bt_work_init(&q->grower.work, go_on);
}

/* -EFBIG: no larger table can be had, -ENOSPC: the device has no room for one.
 * The area is up to the table's limit and memory is taken here, once in a
 * doubling of the table. */
int bt_qcow_grow(struct bt_qcow *q)
{
	struct bt_qcow_grower *g = &q->grower;
	uint64_t bytes;

	if (q->header_lost)
		return -EIO;
	if (!bt_qcow_growth_plan(&q->geo, q->file_end, &g->plan))
		return -EFBIG;
	bytes = area_bytes(q);
	if (!bt_range_within(g->plan.offset, bytes, bt_qcow_limit(q)))
		return -ENOSPC;
	if (posix_memalign((void **)&g->area, HEAD, bytes + HEAD)) {
		g->area = NULL;
		return -ENOMEM;
	}
	memset(g->area, 0, bytes);
	q->allocator.busy = true;
	commit(q, read_table);
	return 0;
}
