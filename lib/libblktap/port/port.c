/* SPDX-License-Identifier: BSD-3-Clause */
/* Edges and the trampoline.
 *
 * A request that is submitted or completed is put on the context's queue, and the
 * outermost call delivers what is on the queue until it is empty. So a node's
 * callbacks never nest, whatever the depth of the graph. */
#include "port/port.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "util/checked.h"

void bt_port_init(struct bt_port *port, struct bt_env *env,
		  struct bt_node *upper, const char *name)
{
	memset(port, 0, sizeof(*port));
	port->env = env;
	port->upper = upper;
	port->name = name;
	port->written = 1;
	bt_list_init(&port->held);
	bt_list_init(&port->parked);
}

void bt_port_link(struct bt_port *port, struct bt_node *lower)
{
	if (port->lower)
		port->lower->refs--;
	if (!lower)
		bt_port_forget(port);
	if (lower)
		lower->refs++;
	port->lower = lower;
	port->entry = 0;
	port->env->links++;
	/* What is below now was flushed by nobody that we know of. Not from the
	 * start: a flush in flight has its mark from before. */
	port->written++;
	port->epoch++;
	port->strays = bt_port_in_flight(port);
}

/* A FLUSH goes with the writes: it writes what was kept, and what holds the writes must
 * find that settled. */
static enum bt_flow flow_of(enum blktap_op op)
{
	return bt_op_is_writing(op) || op == BLKTAP_OP_FLUSH ? BT_FLOW_WRITE
							     : BT_FLOW_READ;
}

/* By the loop's time, which is read once a turn: what an image in memory does took no
 * time. */
static void account(struct bt_frame *frame, const struct bt_request *req)
{
	struct bt_node_stats *stats = &frame->node->stats;
	enum bt_stats_level level = frame->node->stats_level;
	unsigned int bucket;
	uint64_t ns;

	if (bt_unlikely(level == BT_STATS_OFF))
		return;
	stats->completed[req->op]++;
	if (bt_likely(!req->error))
		stats->bytes[req->op] += req->length;
	else
		stats->errors[req->op]++;
	if (bt_unlikely(level != BT_STATS_HIST))
		return;
	ns = bt_loop_now(frame->port->env->loop) - frame->entered_ns;
	bucket = ns ? 64 - (unsigned int)__builtin_clzll(ns) : 0;
	stats->latency_log2_ns[req->op][bucket < 40 ? bucket : 39]++;
}

/* Which writes are durable: a flush covers the writes that had completed when it
 * went down. A failed write may have changed something, so it counts as well. */
static void note_generation(struct bt_port *port, struct bt_frame *frame,
			    const struct bt_request *req)
{
	if (req->op == BLKTAP_OP_FLUSH) {
		if (!req->error && frame->mark > port->flushed)
			port->flushed = frame->mark;
	} else if (frame->flow == BT_FLOW_WRITE) {
		port->written++;
	}
}

/* What a node only reads: no flush goes there, as nothing of it is written there. */
static struct bt_port *find_base(const struct bt_node *node)
{
	const struct bt_port_desc *ports = node->cls->ports;
	uint32_t i;

	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower &&
		    ports[node->ports[i].desc].flags & BT_PORT_READS)
			return &node->ports[i];
	return NULL;
}

/* A LAST flush that its node has done goes on to what the node reads, where
 * something may have to be marked clean as well: a cache, which believes what it
 * has read behind such a mark alone. It comes back through the node unseen. */
static bool tell_base(struct bt_node *node, struct bt_request *req)
{
	struct bt_port *base = req->top->passed ? NULL : find_base(node);

	if (bt_likely(!base))
		return false;
	req->top->passed = true;
	bt_port_submit(base, req);
	return true;
}

/* That it did not work there is not the node's fault, nor who flushes it. */
static void forgive_base(struct bt_port *port, struct bt_request *req)
{
	if (!(req->flags & BT_REQUEST_LAST) || !port->upper || !req->top ||
	    !(port->upper->cls->ports[port->desc].flags & BT_PORT_READS))
		return;
	req->error = 0;
	req->failed = NULL;
}

/* Nodes without a complete callback, and those that only pass, are gone through in
 * one go; others are called, and complete the request again when they are done.
 * What left is counted, and its frame gone, before the callback: a gate here drains
 * although the request goes on above. */
static void go_up(struct bt_request *req)
{
	for (;;) {
		struct bt_frame *frame = req->top;
		struct bt_port *port = frame->port;
		struct bt_node *node = frame->node, *upper = port->upper;

		account(frame, req);
		if (frame->flow == BT_FLOW_WRITE)
			note_generation(port, frame, req);
		if (bt_unlikely(frame->took_last))
			req->flags |= BT_REQUEST_LAST;
		if (bt_unlikely(frame->epoch != port->epoch))
			port->strays--;
		port->left[frame->flow]++;
		node->has--;
		bt_request_pop(req);
		if (bt_unlikely(port->gate != NULL))
			bt_gate_check(port->gate);
		if (bt_unlikely(req->error && req->op == BLKTAP_OP_FLUSH))
			forgive_base(port, req);
		if (bt_unlikely(req->error && node->on_error) &&
		    bt_port_park(port, node, req))
			return;
		if (!upper) {
			port->done(port, req);
			return;
		}
		if (!req->top) {
			req->done(req); /* a child of upper */
			return;
		}
		if (upper->cls->complete && !req->top->passed) {
			upper->cls->complete(upper, port, req);
			return;
		}
	}
}

/* Its frame stays, as the edge counts by it; but nobody is called when it comes back. */
static void pass(struct bt_node *node, struct bt_request *req)
{
	req->top->passed = true;
	bt_port_submit(&node->ports[0], req);
}

/* False: it has ended, as there is no data. */
static bool bring(struct bt_request *req)
{
	int rc = bt_request_bring(req);

	if (rc < 0)
		bt_request_complete(req, rc);
	return !rc;
}

/* What a class does not have is refused here, so no submit has to look. Limits may say
 * no to more, as of an image that stands on another: whoever cuts requests looks at
 * those, but one that waited at a gate was cut for another graph. So a class whose
 * limits have less than itself has to refuse that as well. */
static void go_down(struct bt_request *req)
{
	struct bt_node *node = req->top->node;
	uint32_t bit = 1u << req->op;

	if (bt_likely(node->cls->operations & bit)) {
		if (bt_unlikely(req->move && !node->moves) && !bring(req))
			return;
		node->cls->submit(node, req);
	} else if (node->cls->passes & bit && node->port_count &&
		   node->ports[0].lower) { /* a foreign one's may be optional */
		pass(node, req);
	} else {
		bt_request_complete(req, -ENOTSUP);
	}
}

/* What a callback puts on the queue meanwhile is delivered by this same loop. */
static void deliver_rest(struct bt_env *env)
{
	struct bt_request *req;

	while ((req = env->queue_head)) {
		env->queue_head = req->queue_next;
		if (req->upward)
			go_up(req);
		else
			go_down(req);
	}
	env->delivering = false;
}

/* First come, first delivered; so what one callback sends on stays in its order. */
static inline void enqueue(struct bt_env *env, struct bt_request *req)
{
	req->queue_next = NULL;
	if (env->queue_head)
		env->queue_tail->queue_next = req;
	else
		env->queue_head = req;
	env->queue_tail = req;
}

/* Now, where nothing is being delivered: then nothing waits either. */
static inline void deliver(struct bt_env *env, struct bt_request *req,
			   void (*go)(struct bt_request *req))
{
	if (env->delivering) {
		enqueue(env, req);
		return;
	}
	env->delivering = true;
	go(req);
	deliver_rest(env);
}

/* A flush that has nothing to cover ends here, whatever is below: nobody but this
 * edge's users wrote through it, and what a node below writes on its own account it
 * has to make durable on its own account. Not at an edge of a node of pause class
 * none: that may have come while writes were under way, which then end by the edges
 * they came by, and it has not seen them. The edge above has, and decides. */
bool bt_port_is_flushed(const struct bt_port *port)
{
	return port->flushed == port->written &&
	       !(port->upper && port->upper->cls->pause == BT_PAUSE_NONE);
}

/* The planner reserved too little: a bug, but not the user's. */
static __attribute__((noinline)) void refuse(struct bt_port *port,
					     struct bt_request *req)
{
	bt_log(port->env->log, BLKTAP_LOG_ERROR, "%s: no room for a frame",
	       port->lower->name);
	req->error = -ENOBUFS;
	if (!port->upper)
		port->done(port, req);
	else if (req->top)
		bt_request_complete(req, -ENOBUFS);
	else
		req->done(req);
}

/* Whether the flush ends here. A LAST flush goes down all the same, since it says more
 * than "flush"; but a node that stays in the graph is not told so. */
static __attribute__((noinline)) bool enter_flush(struct bt_port *port,
						  struct bt_request *req)
{
	req->top->mark = port->written;
	if (bt_port_is_flushed(port) && !(req->flags & BT_REQUEST_LAST)) {
		bt_request_complete(req, 0);
		return true;
	}
	if (req->flags & BT_REQUEST_LAST && port->lower->stays) {
		req->flags &= ~BT_REQUEST_LAST;
		req->top->took_last = true;
	}
	return false;
}

static void enter(struct bt_port *port, struct bt_request *req,
		  enum bt_flow flow)
{
	struct bt_node *node = port->lower;

	if (bt_unlikely(!bt_request_push(req, port, node,
					 (uint32_t)node->cls->frame_bytes))) {
		refuse(port, req);
		return;
	}
	port->entered[flow]++;
	node->has++;
	req->top->flow = flow;
	req->top->epoch = port->epoch;
	req->top->took_last = false;
	req->top->entered_ns = bt_loop_now(port->env->loop);
	req->upward = false;
	if (bt_unlikely(req->op == BLKTAP_OP_FLUSH) && enter_flush(port, req))
		return;
	deliver(port->env, req, go_down);
}

void bt_port_submit(struct bt_port *port, struct bt_request *req)
{
	enum bt_flow flow = flow_of(req->op);

	/* BYPASS: of whoever holds the gate, to flush behind it */
	if (!(req->flags & BT_REQUEST_BYPASS)) {
		if (bt_unlikely(port->hold & (1u << flow))) {
			bt_list_add_tail(&port->held, &req->link);
			return;
		}
		if (bt_unlikely(port->lower->stopped) &&
		    bt_port_wait(port, req))
			return;
	}
	enter(port, req, flow);
}

void bt_request_complete(struct bt_request *req, int error)
{
	struct bt_node *node = req->top->node;

	req->error = error;
	/* the lowest node that failed is the one to name; one above that made it
	 * good takes the name away. Extents are put behind those that are there,
	 * and whoever tries the question again begins with none. */
	if (bt_unlikely(error != 0)) {
		if (!req->failed)
			req->failed = node;
		req->extent_count = 0;
	} else {
		req->failed = NULL;
		if (bt_unlikely(req->flags & BT_REQUEST_LAST) &&
		    tell_base(node, req))
			return;
	}
	req->upward = true;
	deliver(node->env, req, go_up);
}

void bt_port_take_held(struct bt_port *port, struct bt_list *out)
{
	bt_list_splice_tail(out, &port->held);
	bt_port_forget(port);
}

/* In the order in which they came. */
void bt_port_resubmit(struct bt_port *port)
{
	struct bt_list waiting, *node;

	/* a gate that closes again meanwhile holds the rest, in their order */
	bt_list_init(&waiting);
	bt_list_splice_tail(&waiting, &port->held);
	while ((node = bt_list_pop(&waiting)))
		bt_port_submit(port,
			       bt_list_entry(node, struct bt_request, link));
}

const char *bt_request_where(const struct bt_request *req)
{
	return req->top ? req->top->node->name : "";
}
