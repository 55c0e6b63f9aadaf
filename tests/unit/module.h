/* SPDX-License-Identifier: BSD-3-Clause */
/* A bench for modules: a graph built by hand over ram leaves (or others), a top
 * edge, and calls that submit one request and wait for it. */
#ifndef BT_TESTS_MODULE_H
#define BT_TESTS_MODULE_H

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "driver/driver.h"
#include "loop/loop.h"
#include "module/module.h"
#include "port/args.h"
#include "port/port.h"

struct rig {
	struct bt_env env;
	struct bt_port top;
	struct bt_pool *pool;
	struct bt_node *root;
};

static inline void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &rig->env.loop),
			 0);
}

/* A node of cls; args is "name=value name=value". lowers: as many nodes as it has
 * edges, in order of its ports; the first port that is an array takes what the
 * others leave. */
static inline struct bt_node *rig_make(struct rig *rig,
				       const struct blktap_class *cls,
				       const char *name, const char *text,
				       struct bt_node **lowers, uint32_t count,
				       int *rc, struct blktap_error **err)
{
	uint32_t edges[16] = { 0 }, ports = 0, i;
	struct bt_args *args;
	struct bt_node *node;
	char *copy = strdup(text), *save, *word;

	while (cls->ports && cls->ports[ports].name)
		edges[ports++] = 1;
	for (i = 0; i < ports; i++)
		if (cls->ports[i].flags & BT_PORT_ARRAY)
			edges[i] = count - (ports - 1);
	ck_assert_int_eq(bt_args_create(cls, &args), 0);
	for (word = strtok_r(copy, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		char *equal = strchr(word, '=');

		*equal = '\0';
		ck_assert_int_eq(bt_args_set(args, word, equal + 1, NULL), 0);
	}
	free(copy);
	ck_assert_int_eq(bt_args_finish(args, NULL), 0);
	ck_assert_int_eq(bt_node_create_wide(&rig->env, cls, name, args, edges,
					     &node, NULL),
			 0);
	for (i = 0; i < count; i++)
		if (lowers[i])
			bt_port_link(&node->ports[i], lowers[i]);
	*rc = bt_node_open(node, 0, err);
	if (*rc == 0)
		return node;
	bt_node_destroy(node);
	return NULL;
}

static inline struct bt_node *rig_node(struct rig *rig,
				       const struct blktap_class *cls,
				       const char *name, const char *args,
				       struct bt_node **lowers, uint32_t count)
{
	struct blktap_error *err = NULL;
	struct bt_node *node;
	int rc;

	node = rig_make(rig, cls, name, args, lowers, count, &rc, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "?");
	return node;
}

static inline struct bt_node *rig_ram(struct rig *rig, const char *name,
				      const char *size)
{
	char args[64];

	snprintf(args, sizeof(args), "size=%s", size);
	return rig_node(rig, &bt_ram_class, name, args, NULL, 0);
}

static inline void rig_done(struct bt_port *port, struct bt_request *req)
{
	(void)port;
	*(bool *)req->opaque = true;
}

static inline void rig_top(struct rig *rig, struct bt_node *root)
{
	rig->root = root;
	bt_port_init(&rig->top, &rig->env, NULL, "top");
	rig->top.done = rig_done;
	bt_port_link(&rig->top, root);
	ck_assert_int_eq(bt_pool_create(64, sizeof(struct bt_request),
					root->frame_sum, &rig->pool),
			 0);
}

static inline void rig_fini(struct rig *rig)
{
	if (rig->pool) {
		ck_assert_uint_eq(bt_pool_in_use(rig->pool), 0);
		bt_pool_destroy(rig->pool);
	}
	if (rig->root) {
		bt_port_link(&rig->top, NULL);
		bt_node_destroy(rig->root);
	}
	bt_loop_destroy(rig->env.loop);
}

static inline bool rig_is_done(void *opaque)
{
	return *(bool *)opaque;
}

static inline int rig_run(struct rig *rig, enum blktap_op op, uint32_t flags,
			  uint64_t offset, void *memory, uint64_t length)
{
	struct iovec iov = { .iov_base = memory, .iov_len = length };
	struct bt_request *req = bt_pool_take(rig->pool);
	bool done = false;
	int rc;

	req->op = op;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
	req->opaque = &done;
	bt_port_submit(&rig->top, req);
	ck_assert_int_eq(
		bt_loop_run_until(rig->env.loop, rig_is_done, &done, 30000), 0);
	rc = req->error;
	bt_pool_give(req);
	return rc;
}

static inline int rig_read(struct rig *rig, uint64_t offset, void *memory,
			   uint64_t length)
{
	return rig_run(rig, BLKTAP_OP_READ, 0, offset, memory, length);
}

static inline int rig_write(struct rig *rig, uint64_t offset, void *memory,
			    uint64_t length)
{
	return rig_run(rig, BLKTAP_OP_WRITE, 0, offset, memory, length);
}

static inline int rig_flush(struct rig *rig)
{
	return rig_run(rig, BLKTAP_OP_FLUSH, 0, 0, NULL, 0);
}

#endif
