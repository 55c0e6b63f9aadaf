/* SPDX-License-Identifier: BSD-3-Clause */
/* throttle: so many requests and so many bytes a second.
 *
 * A bucket is one number: the time at which all that has passed would be paid for
 * at its rate. A request may pass while that time is not more than `burst` ahead,
 * and moves it on by its own cost. What may not pass waits in one queue, oldest
 * first, so that small requests do not starve large ones:
 *
 *   PASSING: the queue is empty -> (a bucket is ahead) -> WAITING: a timer is armed
 *   WAITING -> (time, or a higher rate) -> the oldest go -> PASSING when none is left
 *
 * A request that is larger than the burst goes when the bucket is not ahead, and
 * those behind it pay. Flushes and questions cost nothing and never wait.
 *
 * Throttles of one group have their buckets in common, wherever they are in the
 * tapdisk. Each has its own queue; those whose queue is not empty take turns, a
 * request each, so that none waits for what another one has queued. */
#include "module/module.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "port/shared.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull

struct bucket {
	uint64_t rate; /* a second; 0: no limit */
	uint64_t paid_ns; /* when all that has passed is paid for */
};

struct group {
	struct bt_shared shared; /* where it has a name */
	struct bt_loop *loop;
	struct bucket iops;
	struct bucket bytes;
	uint64_t burst_ns;
	/* by their turn; each has something in its queue */
	struct bt_list waiting; /* throttles, whose turn is next first */
	struct bt_timer timer;
};

struct throttle {
	struct bt_node *node;
	struct group *group;
	struct group own; /* where it has no name */
	struct bt_list turn; /* in group->waiting */
	struct bt_list queue; /* what waits, oldest first */
	uint64_t queued;
	uint64_t delayed; /* requests that ever waited */
};

static const struct blktap_param params[] = {
	{ .name = "iops",
	  .type = BLKTAP_PARAM_RATE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "requests a second, 5000/s; 0 or none is no limit" },
	{ .name = "bytes",
	  .type = BLKTAP_PARAM_RATE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "bytes read and written a second, 200M/s; 0 or none is no "
		  "limit" },
	{ .name = "burst",
	  .type = BLKTAP_PARAM_DURATION,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "100ms",
	  .max = 3600 * NS_PER_S,
	  .help = "how much of the rates an idle disk may use at once" },
	{ .name = "group",
	  .type = BLKTAP_PARAM_STRING,
	  .help = "throttles of one name in a tapdisk share what is given to "
		  "the last of them; one that is given neither iops nor bytes "
		  "takes what there is" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what is slowed down" },
	{ .name = NULL },
};

/* ---- buckets --------------------------------------------------------------- */

/* When the bucket lets the next request pass. */
static uint64_t bucket_due(const struct bucket *bucket, uint64_t burst_ns)
{
	if (!bucket->rate || bucket->paid_ns <= burst_ns)
		return 0;
	return bucket->paid_ns - burst_ns;
}

/* units * 1 s / rate, or the longest time there is. */
static uint64_t cost_ns(uint64_t units, uint64_t rate)
{
	uint64_t whole = units / rate, rest = units % rate, ns;

	if (!bt_checked_mul(whole, NS_PER_S, &ns))
		return INT64_MAX;
	return bt_min_u64(ns + (uint64_t)((double)rest * 1e9 / (double)rate),
			  INT64_MAX);
}

static void bucket_charge(struct bucket *bucket, uint64_t now, uint64_t units)
{
	if (!bucket->rate)
		return;
	bucket->paid_ns = bt_max_u64(bucket->paid_ns, now);
	if (!bt_checked_add(bucket->paid_ns, cost_ns(units, bucket->rate),
			    &bucket->paid_ns))
		bucket->paid_ns = INT64_MAX;
}

/* What was passed stays to be paid for, but at the new rate. */
static void bucket_set_rate(struct bucket *bucket, uint64_t now, uint64_t rate)
{
	double ahead;

	if (rate && bucket->rate && bucket->paid_ns > now) {
		ahead = (double)(bucket->paid_ns - now) * (double)bucket->rate /
			(double)rate;
		bucket->paid_ns =
			now + (ahead < (double)INT64_MAX / 2 ? (uint64_t)ahead
							     : INT64_MAX / 2);
	} else {
		bucket->paid_ns = 0;
	}
	bucket->rate = rate;
}

/* ---- the queue ------------------------------------------------------------- */

static uint64_t due(const struct group *g)
{
	return bt_max_u64(bucket_due(&g->iops, g->burst_ns),
			  bucket_due(&g->bytes, g->burst_ns));
}

static void pass(struct throttle *t, struct bt_request *req, uint64_t now)
{
	bool moves = req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE;

	bucket_charge(&t->group->iops, now, 1);
	if (moves)
		bucket_charge(&t->group->bytes, now, req->length);
	bt_port_submit(&t->node->ports[0], req);
}

/* The oldest request of the throttle whose turn it is. */
static void pass_next(struct group *g, uint64_t now)
{
	struct throttle *t =
		bt_list_entry(bt_list_pop(&g->waiting), struct throttle, turn);
	struct bt_list *oldest = bt_list_pop(&t->queue);

	t->queued--;
	if (!bt_list_empty(&t->queue))
		bt_list_add_tail(&g->waiting, &t->turn);
	pass(t, bt_list_entry(oldest, struct bt_request, link), now);
}

/* The timer is cancelled first and armed for what is the first now; due() of
 * the group is the same for all who wait in it. */
static void go_on(struct group *g)
{
	uint64_t now = bt_loop_now(g->loop);

	bt_timer_cancel(&g->timer);
	while (!bt_list_empty(&g->waiting) && due(g) <= now)
		pass_next(g, now);
	/* rather too fast than stuck where there is no timer to be had */
	if (!bt_list_empty(&g->waiting) &&
	    bt_timer_arm(g->loop, &g->timer, due(g)) < 0)
		while (!bt_list_empty(&g->waiting))
			pass_next(g, now);
}

static void timer_fired(struct bt_timer *timer)
{
	go_on(bt_container_of(timer, struct group, timer));
}

static void throttle_submit(struct bt_node *node, struct bt_request *req)
{
	struct throttle *t = node->data;
	uint64_t now = bt_loop_now(node->env->loop);

	if (bt_likely(bt_list_empty(&t->group->waiting) &&
		      due(t->group) <= now)) {
		pass(t, req, now);
		return;
	}
	if (bt_list_empty(&t->queue))
		bt_list_add_tail(&t->group->waiting, &t->turn);
	bt_list_add_tail(&t->queue, &req->link);
	t->queued++;
	t->delayed++;
	if (!t->group->timer.loop)
		go_on(t->group);
}

/* ---- the class ------------------------------------------------------------- */

/* Without rates of its own, one in a group leaves the group's as they are. */
static void throttle_set(struct bt_node *node, const struct bt_args *args)
{
	struct throttle *t = node->data;
	struct group *g = t->group;
	uint64_t now = bt_loop_now(g->loop);

	if (g != &t->own && !bt_args_is_set(args, "iops") &&
	    !bt_args_is_set(args, "bytes"))
		return;
	bucket_set_rate(&g->iops, now, bt_args_number(args, "iops"));
	bucket_set_rate(&g->bytes, now, bt_args_number(args, "bytes"));
	g->burst_ns = bt_args_number(args, "burst");
	go_on(g);
}

static void group_init(struct group *g, struct bt_loop *loop)
{
	g->loop = loop;
	bt_list_init(&g->waiting);
	bt_timer_init(&g->timer, timer_fired);
}

/* The first one of a name makes the group; the last one frees it. */
static int join(struct throttle *t, const char *name, struct blktap_error **err)
{
	struct bt_env *env = t->node->env;
	struct bt_shared *shared;

	t->group = &t->own;
	if (!name) {
		group_init(t->group, env->loop);
		return 0;
	}
	if (bt_shared_get(env, t->node->cls, name, sizeof(*t->group), &shared) <
	    0)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       t->node->name);
	t->group = bt_container_of(shared, struct group, shared);
	if (bt_shared_is_last(shared))
		group_init(t->group, env->loop);
	return 0;
}

static int throttle_open(struct bt_node *node, const struct bt_args *args,
			 uint32_t flags, struct blktap_error **err)
{
	struct throttle *t = node->data;
	int rc;

	(void)flags;
	t->node = node;
	bt_list_init(&t->queue);
	bt_list_init(&t->turn);
	rc = join(t, bt_args_string(args, "group"), err);
	if (!rc)
		throttle_set(node, args);
	return rc;
}

/* Its queue is empty, as nothing is in flight. Others of the group may wait
 * still, and keep the timer. */
static void throttle_close(struct bt_node *node)
{
	struct throttle *t = node->data;
	struct group *g = t->group;

	if (g == &t->own || bt_shared_is_last(&g->shared))
		bt_timer_cancel(&g->timer);
	if (g != &t->own)
		bt_shared_put(&g->shared);
}

static uint64_t throttle_memory(const struct bt_args *args, uint64_t size,
				uint32_t edges)
{
	(void)size;
	(void)edges;
	return sizeof(struct throttle) +
	       (bt_args_is_set(args, "group") ? sizeof(struct group) : 0);
}

static bool throttle_get_value(const struct bt_node *node, const char *name,
			       char *text, size_t size)
{
	const struct throttle *t = node->data;

	if (!strcmp(name, "queued"))
		snprintf(text, size, "%llu", (unsigned long long)t->queued);
	else if (!strcmp(name, "delayed"))
		snprintf(text, size, "%llu", (unsigned long long)t->delayed);
	else
		return false;
	return true;
}

const struct blktap_class bt_throttle_class = {
	.name = "throttle",
	.summary = "limits requests and bytes a second",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_WRITING | 1u << BLKTAP_OP_READ,
	.passes = 1u << BLKTAP_OP_FLUSH | 1u << BLKTAP_OP_BLOCK_STATUS |
		  1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct throttle),
	.open = throttle_open,
	.close = throttle_close,
	.submit = throttle_submit,
	.get_memory = throttle_memory,
	.pause = BT_PAUSE_NONE,
	.reconfigure = throttle_set,
	.get_value = throttle_get_value,
	.values = "queued,delayed",
};
