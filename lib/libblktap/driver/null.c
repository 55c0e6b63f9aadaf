/* SPDX-License-Identifier: BSD-3-Clause */
/* null: takes every write and keeps nothing; for measuring what is above it. */
#include "driver/driver.h"

#include "port/args.h"

struct null {
	uint64_t size;
	bool fill;
};

static const struct blktap_param null_params[] = {
	{ .name = "size",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .fallback = "1T",
	  .min = 1,
	  .max = INT64_MAX,
	  .help = "bytes; 10G" },
	{ .name = "fill",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "true",
	  .help = "reads give zeroes; false leaves the reader's memory as it "
		  "is, and is for benchmarks alone" },
	{ .name = NULL },
};

static int null_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	struct null *null = node->data;

	null->size = bt_args_number(args, "size");
	null->fill = bt_args_bool(args, "fill");
	return 0;
}

/* As ram: what is above should not cut requests for its sake. */
static void null_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct null *null = node->data;

	limits->size = null->size;
	limits->max_transfer = 32u << 20;
}

/* Completed inside of the call, so what is measured is the way here and
 * back. */
static void null_submit(struct bt_node *node, struct bt_request *req)
{
	struct null *null = node->data;

	if (req->op == BLKTAP_OP_READ && null->fill)
		bt_sgl_zero(&req->data, req->length);
	if (req->op == BLKTAP_OP_BLOCK_STATUS) {
		req->extents[0].length = req->length;
		req->extents[0].flags = BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO;
		req->extents[0].depth = 0;
		req->extent_count = 1;
	}
	bt_request_complete(req, 0);
}

const struct blktap_class bt_null_class = {
	.name = "null",
	.summary = "keeps nothing, reads as zeroes",
	.flags = BT_CLASS_VOLATILE | BT_CLASS_EMPTY,
	.params = null_params,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.node_bytes = sizeof(struct null),
	.open = null_open,
	.get_limits = null_get_limits,
	.submit = null_submit,
};
