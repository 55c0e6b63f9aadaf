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
 * those behind it pay. Flushes and questions cost nothing and never wait. */
#include "module/module.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull

struct bucket {
	uint64_t rate; /* a second; 0: no limit */
	uint64_t paid_ns; /* when all that has passed is paid for */
};

struct throttle {
	struct bt_node *node;
	struct bucket iops;
	struct bucket bytes;
	uint64_t burst_ns;
	struct bt_list queue; /* what waits, oldest first */
	uint64_t queued;
	uint64_t delayed; /* requests that ever waited */
	struct bt_timer timer;
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

static uint64_t due(const struct throttle *t)
{
	return bt_max_u64(bucket_due(&t->iops, t->burst_ns),
			  bucket_due(&t->bytes, t->burst_ns));
}

static void pass(struct throttle *t, struct bt_request *req, uint64_t now)
{
	bool moves = req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE;

	bucket_charge(&t->iops, now, 1);
	if (moves)
		bucket_charge(&t->bytes, now, req->length);
	bt_port_submit(&t->node->ports[0], req);
}

static void pass_oldest(struct throttle *t, uint64_t now)
{
	struct bt_list *oldest = bt_list_pop(&t->queue);

	t->queued--;
	pass(t, bt_list_entry(oldest, struct bt_request, link), now);
}

static void go_on(struct throttle *t)
{
	struct bt_loop *loop = t->node->env->loop;
	uint64_t now = bt_loop_now(loop);

	bt_timer_cancel(&t->timer);
	while (!bt_list_empty(&t->queue) && due(t) <= now)
		pass_oldest(t, now);
	/* rather too fast than stuck where there is no timer to be had */
	if (!bt_list_empty(&t->queue) &&
	    bt_timer_arm(loop, &t->timer, due(t)) < 0)
		while (!bt_list_empty(&t->queue))
			pass_oldest(t, now);
}

static void timer_fired(struct bt_timer *timer)
{
	go_on(bt_container_of(timer, struct throttle, timer));
}

static void throttle_submit(struct bt_node *node, struct bt_request *req)
{
	struct throttle *t = node->data;
	uint64_t now = bt_loop_now(node->env->loop);

	if (bt_likely(bt_list_empty(&t->queue) && due(t) <= now)) {
		pass(t, req, now);
		return;
	}
	bt_list_add_tail(&t->queue, &req->link);
	t->queued++;
	t->delayed++;
	if (!t->timer.loop)
		go_on(t);
}

/* ---- the class ------------------------------------------------------------- */

static void throttle_set(struct bt_node *node, const struct bt_args *args)
{
	struct throttle *t = node->data;
	uint64_t now = bt_loop_now(node->env->loop);

	bucket_set_rate(&t->iops, now, bt_args_number(args, "iops"));
	bucket_set_rate(&t->bytes, now, bt_args_number(args, "bytes"));
	t->burst_ns = bt_args_number(args, "burst");
	go_on(t);
}

static int throttle_open(struct bt_node *node, const struct bt_args *args,
			 uint32_t flags, struct blktap_error **err)
{
	struct throttle *t = node->data;

	(void)flags;
	(void)err;
	t->node = node;
	bt_list_init(&t->queue);
	bt_timer_init(&t->timer, timer_fired);
	throttle_set(node, args);
	return 0;
}

static void throttle_close(struct bt_node *node)
{
	struct throttle *t = node->data;

	bt_timer_cancel(&t->timer);
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
	.pause = BT_PAUSE_NONE,
	.reconfigure = throttle_set,
	.get_value = throttle_get_value,
	.values = "queued,delayed",
};
