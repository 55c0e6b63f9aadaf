/* SPDX-License-Identifier: BSD-3-Clause */
/* delay: requests take at least so long, for tests of what is above. Each waits a
 * time between `min` and `max` before it goes down, so they overtake each other as
 * on a slow disk with a deep queue. */
#include "module/module.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "module/later.h"
#include "port/args.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull

struct delay {
	struct bt_later later;
	uint64_t min_ns, max_ns;
	uint64_t random;
	uint32_t operations; /* those that wait */
};

static const struct blktap_param params[] = {
	{ .name = "min",
	  .type = BLKTAP_PARAM_DURATION,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "0s",
	  .max = 3600 * NS_PER_S,
	  .help = "the shortest time that a request waits" },
	{ .name = "max",
	  .type = BLKTAP_PARAM_DURATION,
	  .flags = BLKTAP_PARAM_LIVE,
	  .max = 3600 * NS_PER_S,
	  .help = "the longest; none is the same as min" },
	{ .name = "what",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "all",
	  .choices = "all|reads|writes|flushes",
	  .help = "which requests wait; writes are all that change data" },
	{ .name = "seed",
	  .type = BLKTAP_PARAM_INT,
	  .fallback = "1",
	  .help = "the same seed gives the same times in the same order" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what is made slow" },
	{ .name = NULL },
};

/* Also called by the check of a text, before there is a node. */
static int delay_check(const struct bt_args *args, struct blktap_error **err)
{
	if (!bt_args_is_set(args, "max") ||
	    bt_args_number(args, "min") <= bt_args_number(args, "max"))
		return 0;
	return bt_fail(err, -EINVAL, "exchange them",
		       "delay: min is more than max");
}

static uint32_t operations_of(const char *what)
{
	if (!strcmp(what, "reads"))
		return 1u << BLKTAP_OP_READ;
	if (!strcmp(what, "writes"))
		return BT_OPS_WRITING;
	if (!strcmp(what, "flushes"))
		return 1u << BLKTAP_OP_FLUSH;
	return BT_OPS_ALL;
}

/* Those that wait already keep the time that they were given. */
static void delay_set(struct bt_node *node, const struct bt_args *args)
{
	struct delay *delay = node->data;

	delay->min_ns = bt_args_number(args, "min");
	delay->max_ns = bt_max_u64(bt_args_number(args, "max"), delay->min_ns);
	delay->operations = operations_of(bt_args_string(args, "what"));
}

static void go_down(struct bt_node *node, struct bt_request *req)
{
	bt_port_submit(&node->ports[0], req);
}

static int delay_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct delay *delay = node->data;
	int rc = delay_check(args, err);

	if (rc < 0)
		return rc;
	bt_later_init(&delay->later, node, go_down);
	delay->random = bt_args_number(args, "seed");
	delay_set(node, args);
	return 0;
}

/* Nothing waits: requests that do are in flight, and the node is drained. */
static void delay_close(struct bt_node *node)
{
	struct delay *delay = node->data;

	bt_later_fini(&delay->later);
}

/* The time is drawn for every request, also for those that do not wait: so what
 * a seed gives does not depend on `what`. */
static void delay_submit(struct bt_node *node, struct bt_request *req)
{
	struct delay *delay = node->data;
	uint64_t wait = delay->min_ns;

	if (delay->max_ns > delay->min_ns)
		wait += bt_chance(&delay->random) %
			(delay->max_ns - delay->min_ns + 1);
	if (!wait || !(delay->operations >> req->op & 1u))
		go_down(node, req);
	else
		bt_later_add(&delay->later, req,
			     bt_loop_now(node->env->loop) + wait);
}

static bool delay_get_value(const struct bt_node *node, const char *name,
			    char *text, size_t size)
{
	const struct delay *delay = node->data;

	if (strcmp(name, "waiting"))
		return false;
	snprintf(text, size, "%u", delay->later.count);
	return true;
}

const struct blktap_class bt_delay_class = {
	.name = "delay",
	.summary = "makes requests wait, for tests",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct delay),
	.frame_bytes = sizeof(struct bt_later_frame),
	.open = delay_open,
	.close = delay_close,
	.submit = delay_submit,
	.check_args = delay_check,
	.pause = BT_PAUSE_NONE,
	.reconfigure = delay_set,
	.get_value = delay_get_value,
	.values = "waiting",
};
