/* SPDX-License-Identifier: BSD-3-Clause */
/* snap: a disk as it was when the node came, while it is written to.
 *
 *   [live]   reads pass; a write passes when what it changes is durable in the
 *            delta (snap-copy.c)
 *   [image]  the disk as it was, read-only (snap-image.c)
 *
 * The snapshot lives as long as its delta: a node that is opened on a delta that
 * holds one goes on with it. It has three states: active; dropping, from the
 * moment that something could not be kept until the header says so; dropped, where
 * the image answers nothing and live writes cost nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/module.h"
#include "module/snap.h"
#include "port/args.h"
#include "util/checked.h"

#define CHUNK_MAX (1u << 20)

static const struct blktap_param params[] = {
	{ .name = "on_full",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "drop-image",
	  .choices = "drop-image|stop",
	  .help = "when old data cannot be kept: lose the image, or fail the "
		  "write" },
	{ .name = "chunk",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "64k",
	  .min = BT_SNAP_BLOCK,
	  .max = CHUNK_MAX,
	  .help = "bytes that are kept as one, a power of 2" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "origin", .help = "what a snapshot is taken of" },
	{ .name = "delta",
	  .help = "where old data goes. What is written to the origin while "
		  "the snapshot is not there shows in its image, and is not "
		  "noticed: take another then",
	  .flags = BT_PORT_STORE },
	{ .name = NULL },
};

static const struct bt_port_desc uppers[] = {
	{ .name = "live", .help = "the disk as it goes on" },
	{ .name = "image",
	  .help = "the disk as it was",
	  .flags = BT_PORT_READS },
	{ .name = NULL },
};

static int snap_check_args(const struct bt_args *args,
			   struct blktap_error **err)
{
	if (bt_is_pow2(bt_args_number(args, "chunk")))
		return 0;
	return bt_fail(err, -EINVAL, "give 64k, 128k or the like",
		       "snap: chunk=%s is not a power of 2",
		       bt_args_string(args, "chunk"));
}

/* LIVE: it counts from the next chunk on that cannot be kept. A write that was
 * refused is not tried again by itself. */
static void snap_reconfigure(struct bt_node *node, const struct bt_args *args)
{
	struct bt_snap *snap = node->data;

	snap->stop_when_full = !strcmp(bt_args_string(args, "on_full"), "stop");
}

/* Nothing waits and no batch runs: each belongs to a live write, which has
 * ended. */
static void snap_close(struct bt_node *node)
{
	struct bt_snap *snap = node->data;

	bt_header_writer_fini(&snap->writer);
	bt_buffers_fini(&snap->buffers);
	free(snap->map);
	free(snap->slots);
	free(snap->chunks);
}

static int make_memory(struct bt_snap *snap, struct blktap_error **err)
{
	int rc;

	snap->map = aligned_alloc(BT_SNAP_BLOCK, BT_SNAP_BATCH * BT_SNAP_BLOCK);
	rc = snap->map ? 0 : -ENOMEM;
	if (!rc)
		rc = bt_buffers_init(&snap->buffers, BT_SNAP_BATCH,
				     snap->chunk);
	if (!rc)
		rc = bt_node_add_pool(snap->node, BT_SNAP_BATCH,
				      sizeof(struct bt_task_io), &snap->pool);
	if (!rc)
		rc = bt_header_writer_init(&snap->writer, snap->node,
					   snap->delta, &snap->header);
	return rc ? bt_fail(err, rc, NULL, "%s: out of memory",
			    snap->node->name)
		  : 0;
}

static int snap_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	struct bt_snap *snap = node->data;
	int rc = snap_check_args(args, err);

	(void)flags;
	if (rc < 0)
		return rc;
	snap->node = node;
	snap->origin = bt_node_port(node, 0, 0);
	snap->delta = bt_node_port(node, 1, 0);
	snap->size = snap->origin->lower->limits.size;
	snap->chunk = (uint32_t)bt_args_number(args, "chunk");
	bt_list_init(&snap->waiting);
	bt_rangelock_init(&snap->lock);
	snap_reconfigure(node, args);
	/* a copy is read from the origin in whole chunks */
	if (snap->chunk < snap->origin->lower->limits.block_size)
		return bt_fail(err, -EINVAL, "give a larger chunk",
			       "%s: chunk=%u is less than a block of '%s'",
			       node->name, snap->chunk,
			       snap->origin->lower->name);
	rc = bt_snap_store_open(snap, err);
	if (!rc)
		rc = make_memory(snap, err);
	if (rc < 0)
		snap_close(node);
	return rc;
}

/* max_unmap is bounded since each chunk of a discard that is not copied yet has
 * to be: 16 batches at most. */
static void snap_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct bt_snap *snap = node->data;
	const struct bt_limits *delta = &snap->delta->lower->limits;

	if (limits->block_size < delta->block_size)
		limits->block_size = delta->block_size;
	limits->max_transfer =
		bt_min_u64(limits->max_transfer, delta->max_transfer);
	limits->max_unmap = bt_min_u64(
		limits->max_unmap, (uint64_t)snap->chunk * BT_SNAP_BATCH * 16);
	/* what grew since was not there when the snapshot was taken */
	limits->size = bt_min_u64(limits->size, snap->size);
}

/* To the delta, too: what it stands on may have something to mark clean. */
static void flush(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);

	frame->second = false;
	bt_port_submit(snap->delta, req);
}

/* An error of the delta does not keep the origin from being flushed. */
static void flush_complete(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);

	if (frame->second) {
		bt_request_complete(req,
				    req->error ? req->error : frame->error);
		return;
	}
	frame->second = true;
	/* without an image nobody cares for the delta */
	frame->error = snap->state == BT_SNAP_ACTIVE ? req->error : 0;
	bt_port_submit(snap->origin, req);
}

/* Reads of the live disk pass even while what they read is being copied: the
 * origin has the newest data at all times. */
static void snap_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_snap *snap = node->data;

	if (bt_request_entry(req) == BT_SNAP_IMAGE)
		bt_snap_image_submit(snap, req);
	else if (bt_op_is_writing(req->op))
		bt_snap_write(snap, req);
	else if (req->op == BLKTAP_OP_FLUSH)
		flush(snap, req);
	else
		bt_port_submit(snap->origin, req);
}

static void snap_complete(struct bt_node *node, struct bt_port *port,
			  struct bt_request *req)
{
	struct bt_snap *snap = node->data;

	(void)port;
	if (bt_request_entry(req) == BT_SNAP_IMAGE)
		bt_snap_image_complete(snap, req);
	else if (req->op == BLKTAP_OP_FLUSH)
		flush_complete(snap, req);
	else
		bt_request_complete(req, req->error);
}

/* "dropped" from the moment that the image answers nothing, though the header may
 * not say so yet. */
static bool snap_value(const struct bt_node *node, const char *name, char *text,
		       size_t size)
{
	const struct bt_snap *snap = node->data;

	if (!strcmp(name, "state"))
		snprintf(text, size, "%s",
			 snap->state == BT_SNAP_ACTIVE ? "active" : "dropped");
	else if (!strcmp(name, "copied"))
		snprintf(text, size, "%llu",
			 (unsigned long long)snap->copied * snap->chunk);
	else if (!strcmp(name, "free"))
		snprintf(text, size, "%llu",
			 (unsigned long long)(snap->slot_count - snap->used) *
				 snap->chunk);
	else
		return false;
	return true;
}

/* What the maps take follows from the disk's size: 8 bytes for a chunk more. */
static uint64_t snap_memory(const struct bt_args *args, uint64_t size,
			    uint32_t edges)
{
	uint32_t chunk = (uint32_t)bt_args_number(args, "chunk");
	uint64_t chunks = size / chunk;

	(void)edges;
	/* a delta may have fewer slots than there are chunks */
	return sizeof(struct bt_snap) + bt_header_writer_memory() +
	       BT_SNAP_BATCH * (uint64_t)BT_SNAP_BLOCK +
	       bt_node_pool_memory(BT_SNAP_BATCH, sizeof(struct bt_task_io)) +
	       bt_buffers_memory(BT_SNAP_BATCH, chunk) +
	       2 * chunks * sizeof(uint32_t);
}

const struct blktap_class bt_snap_class = {
	.name = "snap",
	.summary = "a consistent image of a disk that goes on being written",
	.params = params,
	.ports = ports,
	.uppers = uppers,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.pause = BT_PAUSE_WRITES,
	.node_bytes = sizeof(struct bt_snap),
	.frame_bytes = sizeof(struct bt_snap_frame),
	.open = snap_open,
	.close = snap_close,
	.get_limits = snap_limits,
	.submit = snap_submit,
	.complete = snap_complete,
	.check_args = snap_check_args,
	.get_memory = snap_memory,
	.reconfigure = snap_reconfigure,
	.get_value = snap_value,
	.values = "state,copied,free",
};
