/* SPDX-License-Identifier: BSD-3-Clause */
/* A filter that takes sectors, and no more than so many bytes at once, as a class
 * whose buffers are no larger; and sees that it gets no more. */
#ifndef BT_TESTS_NARROW_H
#define BT_TESTS_NARROW_H

#include "module.h"

#include "util/checked.h"

static uint64_t narrow_takes;

static void narrow_limits(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->block_size = (uint32_t)bt_max_u64(limits->block_size, 512);
	limits->max_transfer = bt_min_u64(limits->max_transfer, narrow_takes);
}

static void narrow_submit(struct bt_node *node, struct bt_request *req)
{
	if (req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE)
		ck_assert_uint_le(req->length, narrow_takes);
	bt_port_submit(&node->ports[0], req);
}

static const struct bt_port_desc narrow_ports[] = {
	{ .name = "lower" },
	{ .name = NULL },
};

static const struct blktap_class narrow_class = {
	.name = "narrow",
	.summary = "takes little at once",
	.ports = narrow_ports,
	.operations = BT_OPS_ALL,
	.get_limits = narrow_limits,
	.submit = narrow_submit,
};

#endif
