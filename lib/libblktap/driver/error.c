/* SPDX-License-Identifier: BSD-3-Clause */
/* error: a disk none of which can be read or written: the place of one that is gone,
 * or the bad part of one that is put together. */
#include "driver/driver.h"

#include <errno.h>
#include <string.h>

#include "port/args.h"

struct error {
	uint64_t size;
	int code;
};

static const struct blktap_param error_params[] = {
	{ .name = "size",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .fallback = "1T",
	  .min = 1,
	  .max = INT64_MAX,
	  .help = "bytes; 10G" },
	{ .name = "error",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .choices = "EIO|ENOSPC|EPERM|ETIMEDOUT",
	  .fallback = "EIO",
	  .help = "what requests fail with" },
	{ .name = NULL },
};

static void error_reconfigure(struct bt_node *node, const struct bt_args *args)
{
	static const struct {
		const char *name;
		int code;
	} codes[] = {
		{ "EIO", -EIO },
		{ "ENOSPC", -ENOSPC },
		{ "EPERM", -EPERM },
		{ "ETIMEDOUT", -ETIMEDOUT },
	};
	const char *name = bt_args_string(args, "error");
	struct error *error = node->data;
	size_t i;

	error->code = -EIO;
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (!strcmp(codes[i].name, name))
			error->code = codes[i].code;
}

static int error_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct error *error = node->data;

	(void)flags;
	(void)err;
	error->size = bt_args_number(args, "size");
	error_reconfigure(node, args);
	return 0;
}

static void error_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct error *error = node->data;

	limits->size = error->size;
	limits->max_transfer = 32u << 20;
}

/* No write was ever answered well, so there is nothing that a flush could fail for;
 * and a graph that is changed flushes what goes. */
static void error_submit(struct bt_node *node, struct bt_request *req)
{
	struct error *error = node->data;

	bt_request_complete(req, req->op == BLKTAP_OP_FLUSH ? 0 : error->code);
}

const struct blktap_class bt_error_class = {
	.name = "error",
	.summary = "fails every read and write",
	.params = error_params,
	.operations = BT_OPS_ALL & ~(1u << BLKTAP_OP_BLOCK_STATUS |
				     1u << BLKTAP_OP_PREFETCH),
	.legacy_type = -1,
	.node_bytes = sizeof(struct error),
	.open = error_open,
	.reconfigure = error_reconfigure,
	.get_limits = error_get_limits,
	.submit = error_submit,
};
