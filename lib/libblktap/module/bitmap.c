/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap: what of a disk has changed since named checkpoints, of any format.
 *
 *            first write                          last flush
 *   CLEAN -> MARKING ("not clean" durable) -> DIRTY -> SAVING -> CLEAN
 *
 * A bit is set in memory before the write it is for goes on; in DIRTY that is all.
 * The bits are written when the disk is closed. After a crash the store is not
 * clean, and everything counts as changed: never too little. So it does where the
 * disk's file is another one than when the bits were saved, since somebody wrote to
 * it without us (bt_port_stamp says of which disks that is known). A checkpoint begins
 * when its name first stands in the argument, also while the disk runs, and ends
 * when it does not any more; its bits are cleared by nothing else. A write that was
 * under way then is one since: what is read of the disk meanwhile may not have it.
 * Frontends ask for the bits by the class (get_bitmap, get_dirty). */
#include "module/bitmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/module.h"
#include "port/args.h"
#include "util/checked.h"

static const struct blktap_param params[] = {
	{ .name = "checkpoints",
	  .type = BLKTAP_PARAM_LIST,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "their names; a new one begins now, one that is left out "
		  "ends" },
	{ .name = "granularity",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "64k",
	  .min = 512,
	  .max = 64u << 20,
	  .help = "bytes that a bit stands for, a power of 2" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "the disk" },
	{ .name = "store",
	  .help = "where the bits are kept. A disk that was written to while "
		  "the bitmap was not there counts as changed everywhere: that "
		  "is noticed of raw files, and of what stands on them alone, "
		  "and not of other formats, devices and servers",
	  .flags = BT_PORT_STORE,
	  .durable_when = "" },
	{ .name = NULL },
};

struct bitmap_frame {
	int error; /* LAST: of the disk, or of the store */
	uint64_t begun; /* a write: the bitmap's, when its bits were set */
};

static int bitmap_check_args(const struct bt_args *args,
			     struct blktap_error **err)
{
	if (!bt_is_pow2(bt_args_number(args, "granularity")))
		return bt_fail(err, -EINVAL, "give 64k, 128k or the like",
			       "bitmap: granularity=%s is not a power of 2",
			       bt_args_string(args, "granularity"));
	return bt_bitmap_check_names(bt_args_string(args, "checkpoints"), err);
}

static void bitmap_close(struct bt_node *node)
{
	struct bt_bitmap *bm = node->data;

	bt_header_writer_fini(&bm->writer);
	bt_bitmap_drop_all(bm);
}

/* bits_len is a multiple of 4096, as no store has larger blocks, and more than
 * bit_count needs. */
static void lay_out(struct bt_bitmap *bm, const struct bt_args *args)
{
	uint64_t granularity = bt_args_number(args, "granularity");

	bm->shift = (uint32_t)__builtin_ctzll(granularity);
	bm->size = bm->lower->lower->limits.size;
	bm->bit_count = (bm->size + granularity - 1) >> bm->shift;
	bm->bits_len = bt_align_down(bm->bit_count / 8 + 4096, 4096);
}

static int bitmap_open(struct bt_node *node, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	struct bt_bitmap *bm = node->data;
	int rc = bitmap_check_args(args, err);

	(void)flags;
	if (rc < 0)
		return rc;
	bm->node = node;
	bm->lower = bt_node_port(node, 0, 0);
	bm->store = bt_node_port(node, 1, 0);
	bt_list_init(&bm->waiting);
	bt_list_init(&bm->lasts);
	lay_out(bm, args);
	rc = bt_header_check_store(
		node, bm->store, BT_HEADER_AREA + BT_BITMAP_MAX * bm->bits_len,
		err);
	if (rc < 0)
		return rc;
	/* first, with no bit set: load fills in what the store knows of them */
	bt_bitmap_set_names(bm, bt_args_string(args, "checkpoints"));
	rc = bt_bitmap_load(bm, err);
	if (!rc)
		rc = bt_node_add_pool(node, BT_BITMAP_MAX,
				      sizeof(struct bt_task_io), &bm->pool);
	if (!rc)
		rc = bt_header_writer_init(&bm->writer, node, bm->store,
					   &bm->header);
	if (rc == -ENOMEM)
		bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	if (rc < 0)
		bitmap_close(node);
	bm->writer.opaque = bm;
	return rc;
}

static void bitmap_reconfigure(struct bt_node *node, const struct bt_args *args)
{
	struct bt_bitmap *bm = node->data;

	/* bits are being written from where they lie: see saved() */
	if (bm->state != BT_BITMAP_SAVING)
		bt_bitmap_set_names(bm, bt_args_string(args, "checkpoints"));
}

/* ---- writes ----------------------------------------------------------------- */

static void next(struct bt_bitmap *bm);

/* The bits first: should it fail, a bit too many is set, which costs a backup
 * one piece more. */
static void pass(struct bt_bitmap *bm, struct bt_request *req)
{
	struct bitmap_frame *frame = bt_request_frame(req);

	frame->begun = bm->begun;
	if (req->length)
		bt_bitmap_set(bm, req->offset, req->length);
	bt_port_submit(bm->lower, req);
}

/* On error no write goes on: after a crash the store would vouch for bits that
 * lack it. */
static void marked(struct bt_header_writer *writer, int error)
{
	struct bt_bitmap *bm = writer->opaque;
	struct bt_list all, *at;

	bt_list_init(&all);
	bt_list_splice_tail(&all, &bm->waiting);
	bm->state = error ? BT_BITMAP_CLEAN : BT_BITMAP_DIRTY;
	bm->unsaved |= error != 0;
	while ((at = bt_list_pop(&all))) {
		struct bt_request *req =
			bt_list_entry(at, struct bt_request, link);

		if (error)
			bt_request_complete(req, error);
		else
			pass(bm, req);
	}
	next(bm);
}

/* ---- the last flush --------------------------------------------------------- */

/* To the store as well, with LAST, then to the disk: both may have something to
 * mark clean. */
static void leave(struct bt_bitmap *bm, int error)
{
	struct bt_list *at = bt_list_pop(&bm->lasts);
	struct bt_request *req = bt_list_entry(at, struct bt_request, link);
	struct bitmap_frame *frame = bt_request_frame(req);

	if (!frame->error)
		frame->error = error;
	bt_port_submit(bm->store, req);
}

static void saved(struct bt_header_writer *writer, int error)
{
	struct bt_bitmap *bm = writer->opaque;

	/* after an error the store may say either: mark it anew before a write
	 */
	bm->state = BT_BITMAP_CLEAN;
	bm->unsaved = error != 0;
	leave(bm, error);
	/* names that changed meanwhile */
	bitmap_reconfigure(bm->node, bm->node->args);
	next(bm);
}

static void bits_written(struct bt_task *task)
{
	struct bt_bitmap *bm = bt_container_of(task, struct bt_bitmap, task);

	if (task->error) {
		saved(&bm->writer, task->error);
		return;
	}
	bm->header.clean = true;
	bt_bitmap_fill_header(bm);
	bt_header_writer_go(&bm->writer, saved);
}

/* The bits have to be durable before the header that vouches for them is written.
 */
static void bits_sent(struct bt_task *task)
{
	struct bt_bitmap *bm = bt_container_of(task, struct bt_bitmap, task);
	int error = task->error;

	bt_task_begin(task, bits_written);
	/* bt_task_begin has cleared it; bits_written looks at both steps'
	 * errors */
	task->error = error;
	if (!error)
		bt_task_add(task, bm->pool, bm->store, BLKTAP_OP_FLUSH, 0, NULL,
			    0, NULL);
	bt_task_end(task);
}

/* Bits are written from where they lie; nothing sets one meanwhile, as writes
 * wait in SAVING. */
static void save(struct bt_bitmap *bm)
{
	uint32_t i;

	bm->state = BT_BITMAP_SAVING;
	bt_task_begin(&bm->task, bits_sent);
	for (i = 0; i < bm->count; i++)
		if (bm->marks[i].bits)
			bt_task_add(&bm->task, bm->pool, bm->store,
				    BLKTAP_OP_WRITE, bt_bitmap_slot_at(bm, i),
				    bm->marks[i].bits, bm->bits_len, NULL);
	bt_task_end(&bm->task);
}

/* What the state calls for. A store that may say either is saved to again by each
 * last flush; one that failed has been taken off the list, so this ends. */
static void next(struct bt_bitmap *bm)
{
	if (bm->state == BT_BITMAP_CLEAN && !bm->unsaved)
		while (!bt_list_empty(&bm->lasts))
			leave(bm, 0);
	if (bm->state == BT_BITMAP_CLEAN && !bt_list_empty(&bm->waiting)) {
		bm->state = BT_BITMAP_MARKING;
		bm->header.clean = false;
		bt_bitmap_fill_header(bm);
		bt_header_writer_go(&bm->writer, marked);
	} else if ((bm->state == BT_BITMAP_DIRTY ||
		    bm->state == BT_BITMAP_CLEAN) &&
		   !bt_list_empty(&bm->lasts)) {
		save(bm);
	}
}

static void bitmap_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_bitmap *bm = node->data;

	if (bt_op_is_writing(req->op)) {
		if (bt_likely(bm->state == BT_BITMAP_DIRTY)) {
			pass(bm, req);
			return;
		}
		bt_list_add_tail(&bm->waiting, &req->link);
	} else {
		bt_port_submit(bm->lower, req);
		return;
	}
	next(bm);
}

/* A LAST flush comes twice: from the store, and then from the disk. Other
 * requests are passed on. */
static void bitmap_complete(struct bt_node *node, struct bt_port *port,
			    struct bt_request *req)
{
	struct bitmap_frame *frame = bt_request_frame(req);
	struct bt_bitmap *bm = node->data;

	/* A last one: first the disk, which writes nothing more of its own then,
	 * so that its stamp holds; then the bits; then what the store stands on. */
	if (req->op == BLKTAP_OP_FLUSH && req->flags & BT_REQUEST_LAST) {
		if (port == bm->lower) {
			frame->error = req->error;
			bt_list_add_tail(&bm->lasts, &req->link);
			next(bm);
			return;
		}
		if (frame->error)
			req->error = frame->error;
	}
	if (bt_op_is_writing(req->op) && bt_unlikely(frame->begun != bm->begun))
		bt_bitmap_set(bm, req->offset, req->length);
	bt_request_complete(req, req->error);
}

/* ---- what others ask --------------------------------------------------------- */

static const char *bitmap_name(const struct bt_node *node, uint32_t index)
{
	const struct bt_bitmap *bm = node->data;

	return index < bm->count ? bm->marks[index].name : NULL;
}

/* As far as the same answer holds, but no further than was asked, so a caller's
 * walk over the disk is a walk over extents. A mark without memory is one
 * extent. */
static uint64_t bitmap_dirty(const struct bt_node *node, uint32_t index,
			     uint64_t offset, uint64_t length, bool *dirty)
{
	const struct bt_bitmap *bm = node->data;
	const struct bt_mark *mark = &bm->marks[index];
	uint64_t bit = offset >> bm->shift;
	uint64_t last = (offset + length - 1) >> bm->shift;

	*dirty = bt_bitmap_is_set(mark, bit);
	if (!mark->bits)
		return length;
	while (++bit <= last && bt_bitmap_is_set(mark, bit) == *dirty)
		;
	return bt_min_u64((bit << bm->shift) - offset, length);
}

/* A checkpoint's value is in bytes: each bit that is set counts as a whole
 * piece. */
static bool bitmap_value(const struct bt_node *node, const char *name,
			 char *text, size_t size)
{
	const struct bt_bitmap *bm = node->data;
	uint32_t i;

	if (!strcmp(name, "state")) {
		snprintf(text, size, "%s",
			 bm->state == BT_BITMAP_CLEAN ? "clean" : "dirty");
		return true;
	}
	for (i = 0; i < bm->count; i++)
		if (!strcmp(name, bm->marks[i].name)) {
			snprintf(text, size, "%llu",
				 (unsigned long long)bt_bitmap_count(
					 bm, &bm->marks[i])
					 << bm->shift);
			return true;
		}
	return false;
}

/* The bits follow from the disk's size: one for each piece and checkpoint more. */
static uint64_t bitmap_memory(const struct bt_args *args, uint64_t size,
			      uint32_t edges)
{
	uint64_t bits = size / bt_args_number(args, "granularity");
	const char *names = bt_args_string(args, "checkpoints");
	uint64_t count = names && *names;

	(void)edges;
	while (names && (names = strchr(names, '\n'))) {
		count++;
		names++;
	}
	return sizeof(struct bt_bitmap) + bt_header_writer_memory() +
	       bt_node_pool_memory(BT_BITMAP_MAX, sizeof(struct bt_task_io)) +
	       count * bt_align_down(bits / 8 + 4096, 4096);
}

const struct blktap_class bt_bitmap_class = {
	.name = "bitmap",
	.summary = "what has changed since named checkpoints, for backups",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_WRITING | 1u << BLKTAP_OP_FLUSH,
	.passes = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_BLOCK_STATUS |
		  1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.pause = BT_PAUSE_WRITES,
	.node_bytes = sizeof(struct bt_bitmap),
	.frame_bytes = sizeof(struct bitmap_frame),
	.open = bitmap_open,
	.close = bitmap_close,
	.submit = bitmap_submit,
	.complete = bitmap_complete,
	.check_args = bitmap_check_args,
	.get_memory = bitmap_memory,
	.reconfigure = bitmap_reconfigure,
	.get_value = bitmap_value,
	.values = "state",
	.get_bitmap = bitmap_name,
	.get_dirty = bitmap_dirty,
};
