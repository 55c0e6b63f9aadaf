/* SPDX-License-Identifier: BSD-3-Clause */
/* checksum: what is read is what was written, or an error.
 *
 *   read   lock -> table -> data from below -> verify -> done
 *                                               | no: the next copy, if what is
 *                                               v below has copies; a good one is
 *                                             heal    written back: EIO if none
 *   write  lock -> table -> (settle) -> table with both checksums, durable
 *          -> data below -> done
 *
 * An entry holds the checksum before and after the last write. Writing again must
 * know which of the two is on disk: after a flush the later one, or, where a write
 * failed or the disk was not closed since, the one that matches what is read
 * (settle). A request locks all data that shares the blocks of the table it reads
 * or writes. The flush makes small writes slow; this is for what is kept long. */
#include "module/checksum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"
#include "core/log.h"
#include "module/module.h"
#include "port/args.h"
#include "util/checked.h"

static const struct blktap_param params[] = {
	{ .name = "adopt",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "with a new store: read all of the disk, and take it for "
		  "right; else it has to be all zeroes" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "the data" },
	{ .name = "store",
	  .help = "where the checksums are kept: 1.6 % of 512-byte blocks",
	  .flags = BT_PORT_STORE,
	  .durable_when = "" },
	{ .name = NULL },
};

static void begin(struct bt_sums *sums, struct bt_request *req);

/* ---- the end of a request ----------------------------------------------------- */

static void serve(struct bt_sums *sums);

/* An error fails the oldest request alone; the next one tries again. Without a
 * header the table would not be found at the next opening. */
static void made(struct bt_header_writer *writer, int error)
{
	struct bt_sums *sums = writer->opaque;

	sums->is_new = error;
	if (error)
		bt_request_complete(bt_list_entry(bt_list_pop(&sums->waiting),
						  struct bt_request, link),
				    error);
	serve(sums);
}

/* A new store has its header when the first request comes, and not before: where a
 * change of the graph is given up, the disk goes on without the node, and the next
 * opening takes it over anew. So do reads of who is opened above it meanwhile not
 * count. */
static bool wants_header(const struct bt_sums *sums)
{
	return sums->is_new && !bt_list_empty(&sums->waiting) &&
	       (!sums->node->on_trial ||
		bt_op_is_writing(
			bt_list_first(&sums->waiting, struct bt_request, link)
				->op));
}

static void serve(struct bt_sums *sums)
{
	struct bt_list *at;

	while (!wants_header(sums) && sums->buffers.left &&
	       (at = bt_list_pop(&sums->waiting)))
		begin(sums, bt_list_entry(at, struct bt_request, link));
	if (wants_header(sums) && !sums->writer.busy)
		bt_header_writer_go(&sums->writer, made);
}

static void finish(struct bt_sum_frame *frame, int error)
{
	struct bt_sums *sums = frame->sums;
	struct bt_request *req = frame->req;

	bt_buffers_give(&sums->buffers, frame->table);
	bt_range_unlock(&sums->lock, &frame->range);
	bt_request_complete(req, error);
	serve(sums);
}

/* Something went wrong between table and data: nothing that was written until now
 * is certain any more. The epoch in memory is what counts; at each opening it
 * begins 65536 further on than the header has, so no two openings share one,
 * though the header has only the first of each. */
static void doubt(struct bt_sums *sums)
{
	if ((sums->epoch + 1) % BT_SUM_EPOCHS == 0)
		sums->epoch = UINT64_MAX; /* used up: nothing is, ever */
	else if (sums->epoch != UINT64_MAX)
		sums->epoch++;
}

static struct bt_sum_frame *of_task(struct bt_task *task)
{
	return bt_container_of(task, struct bt_sum_frame, task);
}

static void transfer(struct bt_sum_frame *frame, struct bt_port *port,
		     enum blktap_op op, uint64_t at, void *memory,
		     uint64_t length, void (*then)(struct bt_task *task))
{
	bt_task_begin(&frame->task, then);
	bt_task_add(&frame->task, frame->sums->pool, port, op, at, memory,
		    length, NULL);
	bt_task_end(&frame->task);
}

/* ---- writing ------------------------------------------------------------------- */

/* What is on disk now is before and after; whichever of the two the data is, it
 * matches. */
static void table_durable(struct bt_task *task)
{
	struct bt_sum_frame *frame = of_task(task);

	if (task->error) {
		/* the sector on disk may be the old one or this one */
		doubt(frame->sums);
		finish(frame, task->error);
		return;
	}
	bt_port_submit(frame->sums->lower, frame->req);
}

static void table_written(struct bt_task *task)
{
	struct bt_sum_frame *frame = of_task(task);

	if (task->error)
		table_durable(task);
	else
		transfer(frame, frame->sums->store, BLKTAP_OP_FLUSH, 0, NULL, 0,
			 table_durable);
}

/* Settled first: of two checksums one is left, as "before"; "after" is what is
 * written. */
static void enter(struct bt_sum_frame *frame, const char *scratch)
{
	bool is_data = frame->req->op == BLKTAP_OP_WRITE;

	bt_sum_settle(frame, scratch);
	bt_sum_enter(frame, is_data ? &frame->req->data : NULL);
	transfer(frame, frame->sums->store, BLKTAP_OP_WRITE, frame->table_at,
		 frame->table, frame->table_len, table_written);
}

static void read_old(struct bt_sum_frame *frame);

/* enter() uses the scratch before it is let go to the next. */
static void old_read(struct bt_task *task)
{
	struct bt_sum_frame *frame = of_task(task);
	struct bt_sums *sums = frame->sums;
	struct bt_list *at;

	/* what cannot be read is about to be written, which may mend it */
	enter(frame, task->error ? NULL : sums->scratch);
	sums->scratch_busy = false;
	at = bt_list_pop(&sums->scratch_waiting);
	if (at)
		read_old(bt_request_frame(
			bt_list_entry(at, struct bt_request, link)));
}

static void read_old(struct bt_sum_frame *frame)
{
	struct bt_sums *sums = frame->sums;

	if (sums->scratch_busy) {
		bt_list_add_tail(&sums->scratch_waiting, &frame->req->link);
		return;
	}
	sums->scratch_busy = true;
	transfer(frame, sums->lower, BLKTAP_OP_READ, frame->req->offset,
		 sums->scratch, frame->req->length, old_read);
}

/* The flush was for those entries that are certain but have two checksums. It
 * may turn out meanwhile that an epoch has ended, so they are looked at again.
 */
static void flushed(struct bt_task *task)
{
	struct bt_sum_frame *frame = of_task(task);

	if (task->error)
		finish(frame, task->error);
	else if (bt_sum_look(frame) == BT_SUM_READ)
		read_old(frame);
	else
		enter(frame, NULL);
}

/* A flush comes before old data is read, too: what is read must be what stays.
 */
static void table_read(struct bt_task *task)
{
	struct bt_sum_frame *frame = of_task(task);

	if (task->error)
		finish(frame, task->error);
	else if (frame->req->op == BLKTAP_OP_READ)
		bt_port_submit(frame->sums->lower, frame->req);
	else if (bt_sum_look(frame) == BT_SUM_NOTHING)
		enter(frame, NULL);
	else
		transfer(frame, frame->sums->lower, BLKTAP_OP_FLUSH, 0, NULL, 0,
			 flushed);
}

static void granted(struct bt_range *range)
{
	struct bt_sum_frame *frame =
		bt_container_of(range, struct bt_sum_frame, range);

	transfer(frame, frame->sums->store, BLKTAP_OP_READ, frame->table_at,
		 frame->table, frame->table_len, table_read);
}

/* Locked by whole units of the table. A read's lock is shared. */
static void begin(struct bt_sums *sums, struct bt_request *req)
{
	struct bt_sum_frame *frame = bt_request_frame(req);
	uint64_t first = req->offset / sums->unit * sums->unit;
	uint64_t end = req->offset + req->length;

	memset(frame, 0, sizeof(*frame));
	if (req->op == BLKTAP_OP_FLUSH) {
		bt_port_submit(sums->store, req);
		return;
	}
	bt_list_init(&frame->range.link);
	frame->sums = sums;
	frame->req = req;
	frame->table = bt_buffers_take(&sums->buffers);
	bt_sum_place(sums, req->offset, req->length, &frame->table_at,
		     &frame->table_len);
	end = (end + sums->unit - 1) / sums->unit * sums->unit;
	if (bt_range_lock(&sums->lock, &frame->range, first, end - first,
			  req->op != BLKTAP_OP_READ, granted))
		granted(&frame->range);
}

/* ---- reading ------------------------------------------------------------------- */

/* Copy after copy; the one that came by itself was the zeroth. copies is the
 * lower node's own count; with one there is nothing to try. */
static void try_next(struct bt_sum_frame *frame)
{
	struct bt_sums *sums = frame->sums;
	struct bt_request *req = frame->req;

	if (sums->lower->lower->limits.copies < 2 ||
	    frame->copy == sums->lower->lower->limits.copies) {
		req->copy = 0;
		finish(frame, -EIO);
		return;
	}
	req->copy = ++frame->copy;
	bt_port_submit(sums->lower, req);
}

/* A copy that had to be asked for is written back to all: the lock, though
 * shared, keeps writes away, and what is changed is wrong data. */
static void read_done(struct bt_sum_frame *frame)
{
	struct bt_sums *sums = frame->sums;
	struct bt_request *req = frame->req;
	uint64_t bad = 0;

	if (req->error) {
		/* a copy that cannot be read is no more than a wrong one */
		if (frame->copy || sums->lower->lower->limits.copies > 1)
			try_next(frame);
		else
			finish(frame, req->error);
		return;
	}
	if (bt_sum_verify(frame, &req->data, &bad)) {
		req->copy = 0;
		if (!frame->copy) {
			finish(frame, 0);
			return;
		}
		/* a disk that nobody writes is not written here: a mirror would
		 * take it for legs that fail, and leave them out */
		if (sums->lower->lower->limits.read_only) {
			finish(frame, 0);
			return;
		}
		sums->healed++;
		frame->healing = true;
		req->op = BLKTAP_OP_WRITE;
		bt_port_submit(sums->lower, req);
		return;
	}
	sums->wrong++;
	bt_log(sums->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: what '%s' holds at %llu is not what was written (copy %u)",
	       sums->node->name, sums->lower->lower->name,
	       (unsigned long long)bad, frame->copy);
	try_next(frame);
}

/* ---- zeroes --------------------------------------------------------------------- */

/* What is below cannot make them here. The table says that they are there; left to
 * the core, each would be a write that failed, and put all sums in doubt. */
static void write_zeroes(struct bt_sum_frame *frame)
{
	struct bt_request *req = frame->req;

	frame->zeroing = true;
	frame->flags = req->flags;
	req->error = 0;
	req->failed = NULL;
	req->op = BLKTAP_OP_WRITE;
	req->flags &= ~(uint32_t)(BLKTAP_MAY_UNMAP | BLKTAP_FAST_ONLY);
	req->data = bt_zeroes;
	bt_port_submit(frame->sums->lower, req);
}

/* A write that failed may have changed the data or not, so entries are in
 * doubt, not wrong: both checksums stand. */
static void written(struct bt_sum_frame *frame)
{
	struct bt_request *req = frame->req;

	if (req->op == BLKTAP_OP_WRITE_ZEROES && req->error == -ENOTSUP) {
		write_zeroes(frame);
		return;
	}
	if (frame->zeroing) {
		req->op = BLKTAP_OP_WRITE_ZEROES;
		req->flags = frame->flags;
		req->data = (struct bt_sgl){ .count = 0 };
	}
	if (req->error)
		doubt(frame->sums);
	finish(frame, req->error);
}

/* ---- the class ------------------------------------------------------------------ */

static void sums_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_sums *sums = node->data;

	/* a part of a granule has no sum */
	if (bt_unlikely(bt_request_is_part(req, sums->granule))) {
		bt_request_complete(req, -EINVAL);
		return;
	}
	switch (req->op) {
	case BLKTAP_OP_DISCARD: /* would leave what nobody can vouch for */
		bt_request_complete(req, 0);
		break;
	case BLKTAP_OP_FLUSH:
		/* who is opened on the store next must not find it new: he would
		 * begin its table anew, and may be given up after that */
		if (!sums->is_new || !(req->flags & BT_REQUEST_LAST)) {
			begin(sums, req);
			break;
		}
		/* fall through */
	default:
		bt_list_add_tail(&sums->waiting, &req->link);
		serve(sums);
	}
}

static void sums_complete(struct bt_node *node, struct bt_port *port,
			  struct bt_request *req)
{
	struct bt_sums *sums = node->data;
	struct bt_sum_frame *frame = bt_request_frame(req);

	if (req->op == BLKTAP_OP_FLUSH && port == sums->store) {
		frame->error = req->error;
		bt_port_submit(sums->lower, req);
	} else if (req->op == BLKTAP_OP_FLUSH) {
		bt_request_complete(req,
				    req->error ? req->error : frame->error);
	} else if (frame->healing) {
		/* the data is right, whether or not it could be put back */
		req->op = BLKTAP_OP_READ;
		finish(frame, 0);
	} else if (req->op == BLKTAP_OP_READ) {
		read_done(frame);
	} else {
		written(frame);
	}
}

static void sums_close(struct bt_node *node)
{
	struct bt_sums *sums = node->data;

	bt_header_writer_fini(&sums->writer);
	bt_buffers_fini(&sums->buffers);
	free(sums->scratch);
}

/* A granule is a block of the disk, at least 512 and at most 4096 bytes. */
static void lay_out(struct bt_sums *sums)
{
	static const unsigned char zeroes[4096];
	const struct bt_limits *lower = &sums->lower->lower->limits;
	uint64_t block = sums->store->lower->limits.block_size, n;
	uLong crc = crc32(0, NULL, 0);

	sums->size = lower->size;
	sums->granule = lower->block_size < 512 ? 512 : lower->block_size;
	n = sums->size / sums->granule;
	sums->sectors = (n + BT_SUM_ENTRIES - 1) / BT_SUM_ENTRIES;
	/* the store is moved in whole blocks */
	sums->sectors = bt_align_down(sums->sectors + 7, 8);
	if (block < BT_SUM_SECTOR)
		block = BT_SUM_SECTOR;
	sums->unit = block / BT_SUM_SECTOR * BT_SUM_ENTRIES *
		     (uint64_t)sums->granule;
	sums->zero_crc = (uint32_t)crc32(crc, zeroes, sums->granule);
}

static int sums_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	struct bt_sums *sums = node->data;
	int rc;

	(void)flags;
	sums->node = node;
	sums->lower = bt_node_port(node, 0, 0);
	sums->store = bt_node_port(node, 1, 0);
	bt_list_init(&sums->waiting);
	bt_list_init(&sums->scratch_waiting);
	bt_rangelock_init(&sums->lock);
	if (sums->lower->lower->limits.block_size > 4096)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: the blocks of '%s' are larger than 4096",
			       node->name, sums->lower->lower->name);
	lay_out(sums);
	sums->scratch = aligned_alloc(4096, BT_SUM_TRANSFER);
	rc = sums->scratch ? bt_buffers_init(&sums->buffers, BT_SUM_REQUESTS,
					     BT_SUM_TABLE)
			   : -ENOMEM;
	if (!rc)
		rc = bt_node_add_pool(node, BT_SUM_REQUESTS,
				      sizeof(struct bt_task_io), &sums->pool);
	if (!rc)
		rc = bt_header_writer_init(&sums->writer, node, sums->store,
					   &sums->header);
	sums->writer.opaque = sums;
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	else
		rc = bt_sum_open_store(sums, bt_args_bool(args, "adopt"), err);
	if (rc < 0)
		sums_close(node);
	return rc;
}

/* A request's table part has to fit its buffer: 128 KiB are 256 granules of
 * 512, 5 sectors and one more where they begin inside of one, in blocks of at
 * most 4 KiB. */
static void sums_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct bt_sums *sums = node->data;

	limits->block_size = sums->granule;
	limits->max_transfer =
		bt_min_u64(limits->max_transfer, BT_SUM_TRANSFER);
	/* which may have to be written as data */
	limits->max_unmap = bt_min_u64(limits->max_unmap, limits->max_transfer);
	limits->copies = 1; /* a good one was chosen */
}

static bool sums_value(const struct bt_node *node, const char *name, char *text,
		       size_t size)
{
	const struct bt_sums *sums = node->data;
	bool wrong = !strcmp(name, "wrong");

	if (!wrong && strcmp(name, "healed"))
		return false;
	snprintf(text, size, "%llu",
		 (unsigned long long)(wrong ? sums->wrong : sums->healed));
	return true;
}

static uint64_t sums_memory(const struct bt_args *args, uint64_t size,
			    uint32_t edges)
{
	(void)args;
	(void)size;
	(void)edges;
	return sizeof(struct bt_sums) + BT_SUM_TRANSFER +
	       bt_header_writer_memory() +
	       bt_node_pool_memory(BT_SUM_REQUESTS, sizeof(struct bt_task_io)) +
	       bt_buffers_memory(BT_SUM_REQUESTS, BT_SUM_TABLE);
}

const struct blktap_class bt_checksum_class = {
	.name = "checksum",
	.summary = "what is read is what was written, or an error",
	.params = params,
	.ports = ports,
	.operations =
		1u << BLKTAP_OP_READ | BT_OPS_WRITING | 1u << BLKTAP_OP_FLUSH,
	.passes = 1u << BLKTAP_OP_BLOCK_STATUS | 1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.pause = BT_PAUSE_ALL,
	.node_bytes = sizeof(struct bt_sums),
	.frame_bytes = sizeof(struct bt_sum_frame),
	.open = sums_open,
	.close = sums_close,
	.get_limits = sums_limits,
	.submit = sums_submit,
	.complete = sums_complete,
	.get_memory = sums_memory,
	.get_value = sums_value,
	.values = "wrong,healed",
};
