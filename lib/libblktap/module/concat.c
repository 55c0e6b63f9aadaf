/* SPDX-License-Identifier: BSD-3-Clause */
/* concat: its parts one behind the other, as one disk. It has no state but where
 * each part begins, which holds from open to close: a part that gets another size
 * is another part, and the node is made anew with it (mason/plan.c), or all that
 * lies behind it would move. */
#include "module/module.h"

#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "module/parts.h"
#include "util/checked.h"

#define CHILDREN 64u

struct concat {
	struct bt_parts parts;
	uint64_t *starts; /* of each part, and the end of the last */
};

static const struct bt_port_desc ports[] = {
	{ .name = "part",
	  .flags = BT_PORT_ARRAY,
	  .help = "what lies one behind the other, in order" },
	{ .name = NULL },
};

/* The part that byte at lies in. The last part that begins at or before the
 * byte. `at` lies before the disk's end. */
static uint32_t part_of(const struct bt_node *node, uint64_t at)
{
	const struct concat *concat = node->data;
	uint32_t low = 0, high = node->port_count - 1;

	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;

		if (concat->starts[middle] <= at)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Each piece ends with its part; a FLUSH goes to all parts. */
static bool concat_next(struct bt_node *node, const struct bt_request *req,
			uint64_t *cursor, struct bt_piece *piece)
{
	const struct concat *concat = node->data;
	uint64_t at = req->offset + *cursor;
	uint32_t part;

	if (req->op == BLKTAP_OP_FLUSH)
		return bt_parts_every_port(node, req, cursor, piece);
	if (*cursor == req->length)
		return false;
	part = part_of(node, at);
	piece->port = &node->ports[part];
	piece->at = *cursor;
	piece->offset = at - concat->starts[part];
	piece->length = bt_min_u64(req->length - *cursor,
				   concat->starts[part + 1] - at);
	*cursor += piece->length;
	return true;
}

/* Each part is a whole number of the largest block, or requests could not be
 * cut at its end. The sum stays in what a file offset can say. */
static int find_starts(struct bt_node *node, struct blktap_error **err)
{
	struct concat *concat = node->data;
	uint32_t i, block = 1;
	uint64_t sum = 0;

	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower->limits.block_size > block)
			block = node->ports[i].lower->limits.block_size;
	for (i = 0; i < node->port_count; i++) {
		const struct bt_node *lower = node->ports[i].lower;

		concat->starts[i] = sum;
		if (lower->limits.size % block)
			return bt_fail(err, -EINVAL, "put a slice around it",
				       "%s: the %llu bytes of '%s' are not a "
				       "multiple of the block size %u",
				       node->name,
				       (unsigned long long)lower->limits.size,
				       lower->name, block);
		if (!bt_checked_add(sum, lower->limits.size, &sum) ||
		    sum > INT64_MAX)
			return bt_fail(err, -EFBIG, NULL,
				       "%s: its parts are more than 8 EiB",
				       node->name);
	}
	concat->starts[i] = sum;
	return 0;
}

static int concat_open(struct bt_node *node, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	struct concat *concat = node->data;
	int rc;

	(void)args;
	(void)flags;
	if (!node->port_count)
		return bt_fail(err, -EINVAL, "link its parts with =>",
			       "%s: there is no part", node->name);
	concat->starts = calloc(node->port_count + 1, sizeof(uint64_t));
	if (!concat->starts)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       node->name);
	rc = find_starts(node, err);
	if (!rc)
		rc = bt_parts_init(&concat->parts, node, CHILDREN, concat_next);
	if (rc < 0)
		free(concat->starts);
	return rc;
}

/* The pool of children is the node's. */
static void concat_close(struct bt_node *node)
{
	struct concat *concat = node->data;

	free(concat->starts);
}

/* Limits other than the size are what all parts can do together. */
static void concat_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct concat *concat = node->data;

	limits->size = concat->starts[node->port_count];
}

/* A part whose size is not known before it is opened leaves the sum unknown. */
static uint64_t concat_size(const struct bt_args *args, const uint64_t *lower,
			    uint32_t count)
{
	uint64_t sum = 0;

	(void)args;
	for (; count; count--, lower++)
		if (!*lower || !bt_checked_add(sum, *lower, &sum))
			return 0;
	return sum;
}

static uint64_t concat_memory(const struct bt_args *args, uint64_t size,
			      uint32_t edges)
{
	(void)args;
	(void)size;
	return sizeof(struct concat) + bt_parts_memory(CHILDREN) +
	       (edges + 1) * sizeof(uint64_t);
}

static void concat_submit(struct bt_node *node, struct bt_request *req)
{
	struct concat *concat = node->data;

	bt_parts_submit(&concat->parts, req);
}

static void concat_complete(struct bt_node *node, struct bt_port *port,
			    struct bt_request *req)
{
	(void)node;
	(void)port;
	bt_parts_complete(req);
}

const struct blktap_class bt_concat_class = {
	.name = "concat",
	.summary = "one disk behind the other",
	.ports = ports,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.node_bytes = sizeof(struct concat),
	.frame_bytes = sizeof(struct bt_parts_frame),
	.open = concat_open,
	.close = concat_close,
	.get_limits = concat_limits,
	.submit = concat_submit,
	.complete = concat_complete,
	.get_size = concat_size,
	.get_memory = concat_memory,
};
