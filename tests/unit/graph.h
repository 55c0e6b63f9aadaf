/* SPDX-License-Identifier: BSD-3-Clause */
/* Test nodes: a leaf that holds what it gets until the test lets it go, and a
 * filter that passes everything on. */
#ifndef BT_TESTS_GRAPH_H
#define BT_TESTS_GRAPH_H

#include "unit.h"

#include <string.h>

#include "loop/loop.h"
#include "port/args.h"
#include "port/port.h"

/* What the leaf has; a test completes them in any order. */
struct holder {
	struct bt_list has;
	bool at_once; /* complete inside submit */
	int error;
	uint32_t seen[BLKTAP_OP_COUNT];
};

static inline void holder_submit(struct bt_node *node, struct bt_request *req)
{
	struct holder *h = node->data;

	h->seen[req->op]++;
	if (h->at_once)
		bt_request_complete(req, h->error);
	else
		bt_list_add_tail(&h->has, &req->link);
}

static inline int holder_open(struct bt_node *node, const struct bt_args *args,
			      uint32_t flags, struct blktap_error **err)
{
	struct holder *h = node->data;

	bt_list_init(&h->has);
	return 0;
}

static inline void holder_limits(struct bt_node *node, struct bt_limits *limits)
{
	limits->size = 1u << 20;
}

static const struct blktap_class holder_class = {
	.name = "holder",
	.summary = "holds requests",
	.operations = BT_OPS_ALL,
	.node_bytes = sizeof(struct holder),
	.open = holder_open,
	.get_limits = holder_limits,
	.submit = holder_submit,
};

static inline struct holder *holder_of(struct bt_node *node)
{
	return node->data;
}

static inline bool holder_release(struct bt_node *node, int error)
{
	struct bt_list *at = bt_list_pop(&holder_of(node)->has);

	if (!at)
		return false;
	bt_request_complete(bt_list_entry(at, struct bt_request, link), error);
	return true;
}

static const struct bt_port_desc filter_ports[] = {
	{ .name = "lower" },
	{ .name = NULL },
};

struct filter_frame {
	uint64_t canary;
};

static inline void filter_submit(struct bt_node *node, struct bt_request *req)
{
	struct filter_frame *frame = bt_request_frame(req);

	frame->canary = (uintptr_t)node;
	bt_port_submit(&node->ports[0], req);
}

static inline void filter_complete(struct bt_node *node, struct bt_port *port,
				   struct bt_request *req)
{
	struct filter_frame *frame = bt_request_frame(req);

	ck_assert_uint_eq(frame->canary, (uintptr_t)node);
	ck_assert_ptr_eq(port, &node->ports[0]);
	bt_request_complete(req, req->error);
}

static const struct blktap_class filter_class = {
	.name = "filter",
	.summary = "passes on",
	.ports = filter_ports,
	.operations = BT_OPS_ALL,
	.frame_bytes = sizeof(struct filter_frame),
	.submit = filter_submit,
	.complete = filter_complete,
};

/* Passes everything without being asked. */
static const struct blktap_class empty_class = {
	.name = "empty",
	.summary = "does nothing",
	.ports = filter_ports,
	.passes = BT_OPS_ALL,
};

static inline struct bt_node *make_node(struct bt_env *env,
					const struct blktap_class *cls,
					const char *name, struct bt_node *lower)
{
	struct bt_args *args;
	struct bt_node *node;

	ck_assert_int_eq(bt_args_create(cls, &args), 0);
	ck_assert_int_eq(bt_node_create(env, cls, name, args, &node, NULL), 0);
	if (lower)
		bt_port_link(&node->ports[0], lower);
	ck_assert_int_eq(bt_node_open(node, 0, NULL), 0);
	return node;
}

static inline void make_env(struct bt_env *env)
{
	memset(env, 0, sizeof(*env));
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &env->loop), 0);
}

static inline void turn(struct bt_env *env)
{
	ck_assert_int_eq(bt_loop_turn(env->loop, 0), 0);
}

#endif
