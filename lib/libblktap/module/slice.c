/* SPDX-License-Identifier: BSD-3-Clause */
/* slice: `size` bytes from `offset` of what is below, as a disk of its own. It
 * has no state: an offset is added on the way down and taken off on the way up. */
#include "module/module.h"

#include <errno.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

struct slice {
	uint64_t offset;
	uint64_t size;
};

static const struct blktap_param params[] = {
	{ .name = "offset",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "where it begins, in bytes" },
	{ .name = "size",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .min = 512,
	  .help = "how much of it is shown, in bytes" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what it is a part of" },
	{ .name = NULL },
};

/* Aligned and within, once: so every request's offset is, with a number added.
 */
static int slice_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	const struct bt_limits *lower = &node->ports[0].lower->limits;
	struct slice *slice = node->data;

	(void)flags;
	slice->offset = bt_args_number(args, "offset");
	slice->size = bt_args_number(args, "size");
	if (!bt_range_within(slice->offset, slice->size, lower->size))
		return bt_fail(err, -ERANGE, "make it smaller",
			       "%s: ends after the %llu bytes of '%s'",
			       node->name, (unsigned long long)lower->size,
			       node->ports[0].lower->name);
	if ((slice->offset | slice->size) & (lower->block_size - 1))
		return bt_fail(err, -EINVAL, "align both",
			       "%s: offset and size are not multiples of the "
			       "block size %u of '%s'",
			       node->name, lower->block_size,
			       node->ports[0].lower->name);
	return 0;
}

/* All but the size is what is below. */
static void slice_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct slice *slice = node->data;

	limits->size = slice->size;
}

/* Known without what is below; whether it fits is told at opening. */
static uint64_t slice_size(const struct bt_args *args, const uint64_t *lower,
			   uint32_t count)
{
	(void)lower;
	(void)count;
	return bt_args_number(args, "size");
}

/* A flush has no place, but its offset is shifted as well: it comes back by the
 * same. What is within the limits ends within the slice, so nothing is tested. */
static void slice_submit(struct bt_node *node, struct bt_request *req)
{
	struct slice *slice = node->data;

	req->offset += slice->offset;
	bt_port_submit(&node->ports[0], req);
}

static void slice_complete(struct bt_node *node, struct bt_port *port,
			   struct bt_request *req)
{
	struct slice *slice = node->data;

	(void)port;
	req->offset -= slice->offset;
	bt_request_complete(req, req->error);
}

const struct blktap_class bt_slice_class = {
	.name = "slice",
	.summary = "a part of what is below, as a disk of its own",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_PART,
	.legacy_type = -1,
	.node_bytes = sizeof(struct slice),
	.open = slice_open,
	.get_limits = slice_limits,
	.submit = slice_submit,
	.complete = slice_complete,
	.get_size = slice_size,
};
