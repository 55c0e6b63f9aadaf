/* SPDX-License-Identifier: BSD-3-Clause */
/* retry: a request that fails for a reason that may pass is tried again, for as
 * long as `for` says since it came.
 *
 *   down -> (fails, time is left) -> waiting, 10 ms, 20, .. 1 s -> down
 *        -> (succeeds, fails for good, or no time is left) -> up
 *
 * A flush that failed with EIO is not tried again: what it was to make durable may
 * be gone below, and a second one would say that all is well. Lack of space is left
 * to those above, who know whether somebody will make some. */
#include "module/module.h"

#include <stdio.h>
#include <string.h>

#include "module/later.h"
#include "port/args.h"
#include "util/checked.h"

#define NS_PER_MS 1000000ull
#define FIRST_WAIT_NS (10 * NS_PER_MS)
#define LAST_WAIT_NS (1000 * NS_PER_MS)

struct retry {
	struct bt_later later;
	uint64_t for_ns;
	uint64_t retries, given_up;
};

struct retry_frame {
	struct bt_later_frame later;
	uint64_t until_ns;
	uint64_t wait_ns; /* before the next try */
};

static const struct blktap_param params[] = {
	{ .name = "for",
	  .type = BLKTAP_PARAM_DURATION,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_LIVE,
	  .min = NS_PER_MS,
	  .max = 86400000 * NS_PER_MS,
	  .help = "how long a request is tried, 5s" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what may fail for a while" },
	{ .name = NULL },
};

/* For requests that come from now on. */
static void retry_set(struct bt_node *node, const struct bt_args *args)
{
	struct retry *retry = node->data;

	retry->for_ns = bt_args_number(args, "for");
}

/* As it was when it came: an error, and extents that came with it, are taken
 * back. */
static void again(struct bt_node *node, struct bt_request *req)
{
	struct retry *retry = node->data;

	retry->retries++;
	req->error = 0;
	req->failed = NULL;
	req->extent_count = 0;
	bt_port_submit(&node->ports[0], req);
}

static int retry_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct retry *retry = node->data;

	bt_later_init(&retry->later, node, again);
	retry_set(node, args);
	return 0;
}

static void retry_close(struct bt_node *node)
{
	struct retry *retry = node->data;

	bt_later_fini(&retry->later);
}

/* The time is the request's own: one that came late has as long as any other. */
static void retry_submit(struct bt_node *node, struct bt_request *req)
{
	struct retry_frame *frame = bt_request_frame(req);
	struct retry *retry = node->data;

	frame->until_ns = bt_loop_now(node->env->loop) + retry->for_ns;
	frame->wait_ns = FIRST_WAIT_NS;
	bt_port_submit(&node->ports[0], req);
}

static void retry_complete(struct bt_node *node, struct bt_port *port,
			   struct bt_request *req)
{
	struct retry_frame *frame = bt_request_frame(req);
	struct retry *retry = node->data;
	uint64_t due;

	if (bt_likely(!req->error) || !bt_request_may_pass(req)) {
		bt_request_complete(req, req->error);
		return;
	}
	due = bt_loop_now(node->env->loop) + frame->wait_ns;
	/* a wait that would end too late is not begun */
	if (due > frame->until_ns) {
		retry->given_up++;
		bt_request_complete(req, req->error);
		return;
	}
	frame->wait_ns = bt_min_u64(2 * frame->wait_ns, LAST_WAIT_NS);
	bt_later_add(&retry->later, req, due);
}

static bool retry_get_value(const struct bt_node *node, const char *name,
			    char *text, size_t size)
{
	const struct retry *retry = node->data;
	uint64_t value;

	if (!strcmp(name, "waiting"))
		value = retry->later.count;
	else if (!strcmp(name, "retries"))
		value = retry->retries;
	else if (!strcmp(name, "given_up"))
		value = retry->given_up;
	else
		return false;
	snprintf(text, size, "%llu", (unsigned long long)value);
	return true;
}

const struct blktap_class bt_retry_class = {
	.name = "retry",
	.summary = "tries again what failed for a reason that may pass",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct retry),
	.frame_bytes = sizeof(struct retry_frame),
	.open = retry_open,
	.close = retry_close,
	.submit = retry_submit,
	.complete = retry_complete,
	.pause = BT_PAUSE_NONE,
	.reconfigure = retry_set,
	.get_value = retry_get_value,
	.values = "waiting,retries,given_up",
};
