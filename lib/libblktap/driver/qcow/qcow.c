/* SPDX-License-Identifier: BSD-3-Clause */
/* The classes qcow (version 1, QEMU's and Xen's) and qcow2 (versions 2, 3). */
#include "driver/qcow/qcow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"
#include "util/checked.h"
#include "util/json.h"

/* As raw has it. */
#define MAX_TRANSFER (2u << 20)

static const struct blktap_param params[] = {
	{ .name = "path",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "the image file" },
	{ .name = "ro",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "open read-only, shared with other readers" },
	{ .name = "cache",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "8M",
	  .min = 256u << 10,
	  .max = 4ull << 30,
	  .help = "memory for the image's tables" },
	{ .name = "discard",
	  .type = BLKTAP_PARAM_ENUM,
	  .fallback = "unmap",
	  .choices = "unmap|ignore",
	  .help = "unmap: a discard frees clusters and their space" },
	{ .name = "backing_format",
	  .type = BLKTAP_PARAM_STRING,
	  .help = "format of the backing file, where the image records none" },
	{ .name = "key",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_SECRET,
	  .help = "the key of an encrypted image and of those below it: "
		  "file:/PATH" },
	{ .name = "convert_l1",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "convert the table of an image of the first Xen releases, "
		  "so that it can be written" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "base",
	  .optional = true,
	  .flags = BT_PORT_READS | BT_PORT_UNCHANGED,
	  .help = "what the image stands on" },
	{ .name = NULL },
};

static int get_parent(struct bt_node *node, char **spec,
		      struct blktap_error **err)
{
	struct bt_qcow *q = node->data;

	(void)err;
	*spec = NULL;
	if (!q->parent)
		return 0;
	*spec = strdup(q->parent);
	return *spec ? 0 : -ENOMEM;
}

/* base_size is taken here, as each plan calls this: a base that was replaced or
 * has grown is known from then on. The pool's requests go to the base, so they
 * need frames for all below. */
static void get_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct bt_qcow *q = node->data;
	struct bt_node *base = node->ports[0].lower;

	q->base_size = base ? base->limits.size : 0;
	limits->size = q->geo.size;
	if (limits->block_size < q->f.file.offset_align)
		limits->block_size = q->f.file.offset_align;
	if (limits->memory_align < q->f.file.memory_align)
		limits->memory_align = q->f.file.memory_align;
	if (!base || limits->max_transfer > MAX_TRANSFER)
		limits->max_transfer = MAX_TRANSFER;
	limits->max_unmap =
		bt_min_u64(1u << 30, (uint64_t)bt_qcow_cluster(q) << 14);
	limits->discard_granularity = bt_qcow_cluster(q);
	limits->operations = BT_OPS_ALL & ~(1u << BLKTAP_OP_PREFETCH);
	if (!q->discard)
		limits->operations &= ~(1u << BLKTAP_OP_DISCARD);
	limits->read_only = q->f.read_only;
	limits->native_fua = true;
	limits->keeps = BT_KEEPS_TABLES;
	/* a size that no plan accepts: the plan fails, and says which node */
	if (base && bt_pool_reserve(q->pool, base->frame_sum) < 0)
		limits->block_size = 0;
}

/* Everything else begins in run.c. */
static void submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_qcow *q = node->data;

	/* nothing was written, so nothing is to be made durable */
	if (req->op == BLKTAP_OP_FLUSH && q->f.read_only)
		bt_request_complete(req, 0);
	else
		bt_qcow_start(q, req);
}

/* A child has read from the base. A pooled request is one of two things: a part
 * of a read, or the old bytes of a copy. */
void bt_qcow_child_done(struct bt_request *child)
{
	struct bt_qcow_run *run =
		&bt_container_of(child, struct bt_qcow_pooled, req)->run;

	if (run->frame->req->op == BLKTAP_OP_READ)
		bt_qcow_run_done(run, child->error);
	else
		bt_qcow_copy_back(run, child->error);
}

/* The request itself was lent to the base: a BLOCK_STATUS goes on here with the
 * rest, a read was all the base's and ends. */
static void complete(struct bt_node *node, struct bt_port *port,
		     struct bt_request *req)
{
	struct bt_qcow_frame *frame = bt_request_frame(req);

	(void)node;
	(void)port;
	if (req->op == BLKTAP_OP_BLOCK_STATUS) {
		bt_qcow_status_back(frame, req);
		return;
	}
	bt_qcow_leave(frame);
	bt_request_complete(req, req->error);
}

static void get_status(struct bt_node *node, struct bt_json *json, bool legacy)
{
	struct bt_qcow *q = node->data;

	if (legacy) {
		bt_json_null(json, "status");
		return;
	}
	bt_json_object(json, "status");
	bt_json_u64(json, "version", q->header.version);
	bt_json_u64(json, "cluster_size", bt_qcow_cluster(q));
	bt_json_bool(json, "direct", q->f.file.direct);
	bt_json_bool(json, "read_only", q->f.read_only);
	bt_json_u64(json, "file_end", bt_qcow_file_bytes(q));
	bt_json_u64(json, "damaged_entries", q->complaints);
	bt_json_object_end(json);
}

_Static_assert(!offsetof(struct bt_qcow, f), "driver/file.h says so");

const struct blktap_class bt_qcow_class = {
	.name = "qcow",
	.summary = "an image of QCOW version 1, QEMU's or Xen's",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL & ~(1u << BLKTAP_OP_PREFETCH),
	.legacy_type = 5,
	.node_bytes = sizeof(struct bt_qcow),
	.frame_bytes = sizeof(struct bt_qcow_frame),
	.open = bt_qcow_open,
	.close = bt_qcow_close,
	.get_parent = get_parent,
	.get_limits = get_limits,
	.submit = submit,
	.complete = complete,
	.get_status = get_status,
	.create = bt_qcow_create_v1,
	.relock = bt_image_file_relock,
	.set_parent = bt_qcow_set_parent,
	.grow = bt_qcow_resize,
	.get_stamp = bt_image_file_stamp,
};

const struct blktap_class bt_qcow2_class = {
	.name = "qcow2",
	.summary = "an image of QCOW2, version 2 or 3",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL & ~(1u << BLKTAP_OP_PREFETCH),
	.legacy_type = -1,
	.node_bytes = sizeof(struct bt_qcow),
	.frame_bytes = sizeof(struct bt_qcow_frame),
	.open = bt_qcow_open,
	.close = bt_qcow_close,
	.get_parent = get_parent,
	.get_limits = get_limits,
	.submit = submit,
	.complete = complete,
	.get_status = get_status,
	.create = bt_qcow_create_v2,
	.relock = bt_image_file_relock,
	.set_parent = bt_qcow_set_parent,
	.grow = bt_qcow_resize,
	.get_stamp = bt_image_file_stamp,
};
