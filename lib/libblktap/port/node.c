/* SPDX-License-Identifier: BSD-3-Clause */
/* Nodes: made, linked, opened, planned, destroyed. */
#include "port/port.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

#define MAX_BLOCK_SIZE 65536u

static uint32_t count_ports(const struct blktap_class *cls)
{
	uint32_t n = 0;

	while (cls->ports && cls->ports[n].name)
		n++;
	return n;
}

int bt_node_create(struct bt_env *env, const struct blktap_class *cls,
		   const char *name, struct bt_args *args, struct bt_node **out,
		   struct blktap_error **err)
{
	struct bt_node *node = calloc(1, sizeof(*node));
	uint32_t i;

	if (!node) {
		bt_args_destroy(args);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       cls->name);
	}
	node->cls = cls;
	node->env = env;
	node->args = args;
	node->port_count = count_ports(cls);
	node->name = strdup(name ? name : cls->name);
	node->data = calloc(1, cls->node_bytes ? cls->node_bytes : 1);
	node->ports = calloc(node->port_count + 1, sizeof(*node->ports));
	if (!node->name || !node->data || !node->ports) {
		bt_node_destroy(node);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       cls->name);
	}
	for (i = 0; i < node->port_count; i++)
		bt_port_init(&node->ports[i], env, node, cls->ports[i].name);
	*out = node;
	return 0;
}

int bt_node_open(struct bt_node *node, uint32_t flags,
		 struct blktap_error **err)
{
	int rc = 0;

	if (node->cls->open)
		rc = node->cls->open(node, node->args, flags, err);
	if (rc < 0)
		return rc;
	node->is_open = true;
	return bt_node_plan(node, err);
}

void bt_node_destroy(struct bt_node *node)
{
	uint32_t i;

	if (!node)
		return;
	if (node->is_open && node->cls->close)
		node->cls->close(node);
	for (i = 0; node->ports && i < node->port_count; i++) {
		struct bt_node *lower = node->ports[i].lower;

		if (!lower)
			continue;
		bt_port_link(&node->ports[i], NULL);
		if (!lower->refs)
			bt_node_destroy(lower);
	}
	bt_args_destroy(node->args);
	free(node->ports);
	free(node->data);
	free(node->name);
	free(node);
}

/* What the lower ports allow together; for a leaf, what nothing limits. */
static void merge_lower(struct bt_node *node, struct bt_limits *out)
{
	uint32_t i, linked = 0;

	memset(out, 0, sizeof(*out));
	out->block_size = 1;
	out->memory_align = 1;
	out->preferred_block_size = 4096;
	out->max_transfer = 1u << 20;
	out->max_unmap = 1u << 30;
	out->discard_granularity = 1;
	out->operations = BT_OPS_ALL;
	out->native_fua = true;
	for (i = 0; i < node->port_count; i++) {
		const struct bt_limits *lower;

		if (!node->ports[i].lower)
			continue;
		lower = &node->ports[i].lower->limits;
		out->size = linked++ ? bt_min_u64(out->size, lower->size)
				     : lower->size;
		if (lower->block_size > out->block_size)
			out->block_size = lower->block_size;
		if (lower->memory_align > out->memory_align)
			out->memory_align = lower->memory_align;
		if (lower->preferred_block_size > out->preferred_block_size)
			out->preferred_block_size = lower->preferred_block_size;
		out->max_transfer =
			bt_min_u64(out->max_transfer, lower->max_transfer);
		out->max_unmap = bt_min_u64(out->max_unmap, lower->max_unmap);
		out->discard_granularity = bt_max_u64(
			out->discard_granularity, lower->discard_granularity);
		out->operations &= lower->operations;
		out->read_only |= lower->read_only;
		out->native_fua &= lower->native_fua;
	}
	out->operations &= node->cls->operations | node->cls->passes;
}

static int check_limits(const struct bt_node *node, const struct bt_limits *l,
			struct blktap_error **err)
{
	if (!bt_is_pow2(l->block_size) || l->block_size > MAX_BLOCK_SIZE)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: block size %" PRIu32
			       " is not a power of two up to %u",
			       node->name, l->block_size, MAX_BLOCK_SIZE);
	if (!bt_is_pow2(l->memory_align))
		return bt_fail(err, -EINVAL, NULL,
			       "%s: memory alignment %" PRIu32
			       " is not a power of two",
			       node->name, l->memory_align);
	if (l->size % l->block_size || l->size > INT64_MAX)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: size %" PRIu64
			       " is not a multiple of the block size %" PRIu32
			       " below 8 EiB",
			       node->name, l->size, l->block_size);
	if (l->max_transfer < l->block_size || l->max_unmap < l->block_size)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: transfers are smaller than a block",
			       node->name);
	return 0;
}

int bt_node_plan(struct bt_node *node, struct blktap_error **err)
{
	struct bt_limits limits;
	uint32_t i, deepest = 0;
	int rc;

	merge_lower(node, &limits);
	if (node->cls->get_limits)
		node->cls->get_limits(node, &limits);
	limits.max_transfer =
		bt_align_down(limits.max_transfer, limits.block_size);
	limits.max_unmap = bt_align_down(limits.max_unmap, limits.block_size);
	rc = check_limits(node, &limits, err);
	if (rc < 0)
		return rc;
	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower &&
		    node->ports[i].lower->frame_sum > deepest)
			deepest = node->ports[i].lower->frame_sum;
	node->limits = limits;
	node->frame_sum = bt_frame_size(node->cls->frame_bytes) + deepest;
	return 0;
}

const char *bt_node_path(const struct bt_node *node)
{
	const struct blktap_param *first = blktap_class_get_param(node->cls, 0);
	const char *text =
		first ? bt_args_string(node->args, first->name) : NULL;

	return text ? text : node->name;
}
