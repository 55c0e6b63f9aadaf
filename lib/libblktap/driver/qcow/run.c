/* SPDX-License-Identifier: BSD-3-Clause */
/* The way of a request: cut into runs by its operation's step, finished when the
 * last run is back.
 *
 *   start -> go: step, step, ... -> (all cut, all runs back) -> finish
 *             ^    waits: a table block, a run, an allocation
 *
 * A step takes as much of the request as one run can do and moves frame->at
 * behind it. It begins with a look at the tables, so a frame that waited trusts
 * nothing it saw before. pending counts the runs under way and, once, the
 * cutting itself: so a request whose runs are all back while it waits for a
 * table is not finished under its feet.
 *
 * A frame is its request's memory: it is gone when bt_request_complete has been
 * called. */
#include <errno.h>
#include <string.h>

#include "driver/qcow/qcow.h"
#include "util/checked.h"

/* PREFETCH is not offered in get_limits, FLUSH never comes here. */
static int step(struct bt_qcow_frame *frame)
{
	switch (frame->req->op) {
	case BLKTAP_OP_READ:
		return bt_qcow_step_read(frame);
	case BLKTAP_OP_WRITE:
		return bt_qcow_step_write(frame);
	case BLKTAP_OP_DISCARD:
	case BLKTAP_OP_WRITE_ZEROES:
		return bt_qcow_step_unmap(frame);
	case BLKTAP_OP_BLOCK_STATUS:
		return bt_qcow_step_status(frame);
	default:
		return -ENOTSUP;
	}
}

/* Takes steps until one has to wait. After an error no more runs are begun, and
 * the request ends when those under way are back, as they use its memory. 2:
 * the request itself went to the base, with all that is left to do; the class's
 * complete ends it. */
void bt_qcow_go(struct bt_qcow_frame *frame)
{
	int rc = 1;

	while (frame->at < frame->end && !frame->error && rc == 1)
		rc = step(frame);
	if (rc == 0 || rc == 2)
		return;
	if (rc < 0 && !frame->error)
		frame->error = rc;
	if (--frame->pending == 0)
		bt_qcow_finish(frame);
}

/* Every frame of the list, once: those that have to wait again come back to
 * its end. */
void bt_qcow_go_list(struct bt_list *waiting)
{
	struct bt_list now, *node;

	bt_list_init(&now);
	bt_list_splice_tail(&now, waiting);
	while ((node = bt_list_pop(&now)))
		bt_qcow_go(bt_list_entry(node, struct bt_qcow_frame, link));
}

/* The block is put back at once and looked for again by the step: it may have
 * been evicted by then where the cache is small, and then the frame waits once
 * more. */
static void have_block(struct bt_meta_wait *wait, struct bt_meta_block *block,
		       int error)
{
	struct bt_qcow_frame *frame =
		bt_container_of(wait, struct bt_qcow_frame, wait);

	if (block)
		bt_meta_put(block); /* it is in memory, and found there */
	if (error && !frame->error)
		frame->error = error;
	bt_qcow_go(frame);
}

static struct bt_qcow *qcow_of(const struct bt_qcow_frame *frame)
{
	return frame->run.q;
}

/* A FLUSH takes no part in the phases: it waits for what was dropped, and would
 * wait for itself. */
void bt_qcow_start(struct bt_qcow *q, struct bt_request *req)
{
	struct bt_qcow_frame *frame = bt_request_frame(req);

	frame->run.q = q;
	frame->run.frame = frame;
	frame->run.child = NULL;
	frame->run_used = false;
	frame->req = req;
	frame->wait.fn = have_block;
	frame->data = req->data;
	frame->at = req->offset;
	frame->end = req->offset + req->length;
	/* the cutting; given back by bt_qcow_go */
	frame->pending = 1;
	frame->error = 0;
	frame->needs_commit = false;
	bt_list_init(&frame->link);
	if (req->op == BLKTAP_OP_FLUSH) {
		bt_qcow_flush(frame);
		return;
	}
	bt_qcow_enter(frame);
	if (req->op == BLKTAP_OP_BLOCK_STATUS) {
		frame->offset = req->offset;
		frame->length = req->length;
		frame->extents = req->extents;
		frame->extent_max = req->extent_max;
		frame->extent_count = 0;
	}
	bt_qcow_go(frame);
}

/* The phase is left only now: what this write dropped or saw may be on disk
 * until the commit has ended. */
static void committed(struct bt_meta_commit *commit, int error)
{
	struct bt_qcow_frame *frame =
		bt_container_of(commit, struct bt_qcow_frame, commit);

	bt_qcow_leave(frame);
	bt_request_complete(frame->req, error);
}

/* All runs are back. A write that asked to be durable and met tables that were
 * not on disk takes a commit, which syncs its data as well; where all its
 * clusters had their entries on disk, each of its writes went with FUA
 * (bt_qcow_submit_io), and nothing is left to do. One that only has to outlive
 * the process is content with tables in the file. */
void bt_qcow_finish(struct bt_qcow_frame *frame)
{
	struct bt_request *req = frame->req;

	if (req->op == BLKTAP_OP_WRITE && req->flags & BT_QCOW_COMMITS &&
	    frame->needs_commit && !frame->error) {
		frame->commit.fn = committed;
		if (req->flags & BLKTAP_FUA)
			bt_meta_commit(qcow_of(frame)->meta, &frame->commit);
		else
			bt_meta_store(qcow_of(frame)->meta, &frame->commit);
		return;
	}
	bt_qcow_leave(frame);
	bt_request_complete(req, frame->error);
}

/* DISCARD has no memory, so nothing to move there. */
void bt_qcow_advance(struct bt_qcow_frame *frame, uint64_t bytes)
{
	frame->at += bytes;
	if (frame->data.iov)
		bt_sgl_advance(&frame->data, bytes);
}

/* ---- runs ----------------------------------------------------------------- */

/* A request that is small and needs nothing copied so takes nothing from the
 * pool. Its own run has no bounce buffer and no child, so whoever copies asks
 * for a pooled one. An item gets its buffer when it is first taken, and keeps
 * it for the life of the node. */
struct bt_qcow_run *bt_qcow_take_run(struct bt_qcow_frame *frame, bool pooled)
{
	struct bt_qcow *q = qcow_of(frame);
	struct bt_qcow_pooled *item;
	struct bt_request *req;

	if (!pooled && !frame->run_used) {
		frame->run_used = true;
		frame->pending++;
		return &frame->run;
	}
	req = bt_pool_take(q->pool);
	if (!req) {
		bt_list_add_tail(&q->short_of_runs, &frame->link);
		return NULL;
	}
	req->done = bt_qcow_child_done;
	item = bt_container_of(req, struct bt_qcow_pooled, req);
	item->run.q = q;
	item->run.frame = frame;
	item->run.child = req;
	if (!item->run.bounce.iov_base && q->bounces)
		item->run.bounce.iov_base =
			q->bounces + (size_t)q->bounces_used++ * QCOW_BOUNCE;
	frame->pending++;
	return &item->run;
}

/* Who waits for a run may find that he needs none: so all are asked for as long
 * as there are any. */
static void give_run(struct bt_qcow *q, struct bt_request *req)
{
	bt_pool_give(req);
	while (bt_pool_in_use(q->pool) < QCOW_RUNS) {
		struct bt_list *node = bt_list_pop(&q->short_of_runs);

		if (!node)
			return;
		bt_qcow_go(bt_list_entry(node, struct bt_qcow_frame, link));
	}
}

/* The run goes back to the pool last, when its frame may be gone already: a
 * frame that waited for it goes on from inside of that. */
void bt_qcow_run_done(struct bt_qcow_run *run, int error)
{
	struct bt_qcow_frame *frame = run->frame;
	struct bt_request *child = run->child;
	struct bt_qcow *q = run->q;

	if (error && !frame->error)
		frame->error = error;
	if (--frame->pending == 0)
		bt_qcow_finish(frame);
	if (child)
		give_run(q, child);
}

/* FUA is for data alone, in clusters whose entries are on disk. Where one of
 * them is not, needs_commit is set before any write of that run is submitted,
 * and a commit ends the request instead. */
void bt_qcow_submit_io(struct bt_qcow_run *run, enum bt_io_op op, uint64_t host,
		       const struct bt_sgl *data, uint64_t length,
		       void (*done)(struct bt_io *io, int error))
{
	struct bt_io *io = &run->io;

	io->file = &run->q->f.file;
	io->op = op;
	io->flags = 0;
	if (op == BT_IO_WRITE && run->frame->req->flags & BLKTAP_FUA &&
	    !run->frame->needs_commit)
		io->flags = BT_IO_FUA;
	io->offset = host;
	io->length = length;
	io->data = *data;
	io->done = done;
	bt_engine_submit(io);
}

/* ---- reading -------------------------------------------------------------- */

/* An encrypted image is decrypted in the reader's memory: it is his to have
 * changed. */
static void read_done(struct bt_io *io, int error)
{
	struct bt_qcow_run *run = bt_container_of(io, struct bt_qcow_run, io);

	if (bt_unlikely(run->q->cipher) && !error)
		error = bt_qcow_decrypt_data(run->q, run->at, &run->data,
					     run->length);
	bt_qcow_run_done(run, error);
}

/* Straight into the request's memory, as much as lies in one piece in the
 * file. */
static int read_data(struct bt_qcow_frame *frame, const struct bt_qcow_map *map)
{
	struct bt_qcow_run *run = bt_qcow_take_run(frame, false);

	if (!run)
		return 0;
	run->at = frame->at;
	run->length = map->length;
	run->data = frame->data;
	bt_qcow_submit_io(run, BT_IO_READ, map->host, &frame->data, map->length,
			  read_done);
	bt_qcow_advance(frame, map->length);
	return 1;
}

/* Where all of the request is the base's, the base gets the request itself. The
 * base is asked for what is below its end alone; what lies above reads as
 * zeroes here. */
static int read_base(struct bt_qcow_frame *frame, uint64_t length)
{
	struct bt_request *req = frame->req, *child;
	struct bt_port *port = &qcow_of(frame)->node->ports[0];
	struct bt_qcow_run *run;

	if (length == req->length) {
		bt_port_submit(port, req);
		return 2;
	}
	run = bt_qcow_take_run(frame, true);
	if (!run)
		return 0;
	child = run->child;
	child->op = BLKTAP_OP_READ;
	child->offset = frame->at;
	child->length = length;
	child->data = frame->data;
	bt_qcow_advance(frame, length);
	bt_port_submit(port, child);
	return 1;
}

static void unpacked(struct bt_qcow_inflate *wait, const char *data, int error)
{
	struct bt_qcow_run *run =
		bt_container_of(wait, struct bt_qcow_run, inflate);
	uint32_t in = (uint32_t)run->at & (bt_qcow_cluster(run->q) - 1);

	if (!error)
		bt_sgl_copy_in(&run->data, data + in, run->length);
	bt_qcow_run_done(run, error);
}

static int read_compressed(struct bt_qcow_frame *frame,
			   const struct bt_qcow_map *map)
{
	struct bt_qcow_run *run = bt_qcow_take_run(frame, false);

	if (!run)
		return 0;
	run->at = frame->at;
	run->length = map->length;
	run->data = frame->data;
	run->inflate.host = map->host;
	run->inflate.bytes = map->bytes;
	run->inflate.fn = unpacked;
	bt_qcow_advance(frame, map->length);
	bt_qcow_unpack(qcow_of(frame), &run->inflate);
	return 1;
}

/* A reader waits for no allocation: until a writer has put its entries in, the
 * reader sees what was there before, which is what a disk may give for a write
 * that is not answered. */
int bt_qcow_step_read(struct bt_qcow_frame *frame)
{
	struct bt_qcow *q = qcow_of(frame);
	struct bt_qcow_map map;
	int rc = bt_qcow_lookup(q, &frame->wait, frame->at, frame->end, &map);

	if (rc <= 0)
		return rc;
	if (map.kind == BT_QCOW_DATA)
		return read_data(frame, &map);
	if (map.kind == BT_QCOW_COMPRESSED)
		return read_compressed(frame, &map);
	/* a base that is shorter than the image goes on as zeroes */
	if (map.kind == BT_QCOW_UNALLOCATED && frame->at < q->base_size)
		return read_base(frame, bt_min_u64(map.length,
						   q->base_size - frame->at));
	bt_sgl_zero(&frame->data, map.length);
	bt_qcow_advance(frame, map.length);
	return 1;
}
