/* SPDX-License-Identifier: BSD-3-Clause */
/* What @on_error does to a request that a node failed.
 *
 *   retry   failed -> waiting at the edge, 10 ms, 20, .. 1 s -> down again
 *   stop    failed -> waiting at the edge, as does all that comes after it,
 *           until a change of the graph lifts it
 *
 * A request that waits has left the node and its edge, so a gate drains over it,
 * and where the edge is swung to another node it goes there. The core's own
 * flushes never wait: who sends them wants the answer. Nor does what a disk sent
 * that is being closed, while what others sent through the same edge waits on. */
#include "port/port.h"

#include <errno.h>

#include "core/error.h"
#include "core/log.h"

#define NS_PER_MS 1000000ull
#define FIRST_WAIT_MS 10u
#define LAST_WAIT_MS 1000u

bool bt_request_may_pass(const struct bt_request *req)
{
	switch (req->error) {
	case -EIO:
		return req->op != BLKTAP_OP_FLUSH;
	case -EAGAIN:
	case -EBUSY:
	case -EINTR:
	case -ETIMEDOUT:
	case -ENOTCONN:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -EHOSTUNREACH:
	case -ESHUTDOWN:
	case -EPIPE:
		return true;
	default:
		return false;
	}
}

static bool is_worth_it(const struct bt_request *req, enum bt_on_error on_error)
{
	if (req->flags & BT_REQUEST_BYPASS)
		return false;
	/* somebody may make room while it is stopped */
	if (on_error == BT_ON_ERROR_STOP &&
	    (req->error == -ENOSPC || req->error == -EDQUOT))
		return true;
	return bt_request_may_pass(req);
}

/* Sends down what waits at the port. What fails again comes back to it. */
static void send(struct bt_port *port)
{
	bt_list_del(&port->parked);
	bt_port_resubmit(port);
}

static void send_all(struct bt_env *env, bool stopped_too)
{
	struct bt_list ports, *at;

	bt_list_init(&ports);
	bt_list_splice_tail(&ports, &env->parked);
	while ((at = bt_list_pop(&ports))) {
		struct bt_port *port =
			bt_list_entry(at, struct bt_port, parked);

		if (port->lower && port->lower->stopped && !stopped_too)
			bt_list_add_tail(&env->parked, at);
		else
			send(port);
	}
}

static void due(struct bt_timer *timer)
{
	send_all(bt_container_of(timer, struct bt_env, unpark), false);
}

static void init(struct bt_env *env)
{
	if (env->parked.next)
		return;
	bt_list_init(&env->parked);
	bt_timer_init(&env->unpark, due);
}

/* Whoever sent it, a disk or the node whose child it is, goes. req is above port. */
static bool is_given_up(const struct bt_port *port,
			const struct bt_request *req)
{
	const struct bt_frame *frame;

	for (frame = req->top; frame; frame = frame->prev)
		port = frame->port;
	return port->upper ? port->upper->gives_up : port->gives_up;
}

static void hold(struct bt_port *port, struct bt_request *req)
{
	bt_list_add_tail(&port->held, &req->link);
	if (bt_list_empty(&port->parked))
		bt_list_add_tail(&port->env->parked, &port->parked);
}

bool bt_port_wait(struct bt_port *port, struct bt_request *req)
{
	if (is_given_up(port, req))
		return false;
	init(port->env);
	hold(port, req);
	return true;
}

/* The wait of an edge grows while requests of it fail, and begins anew after a
 * while in which none did. */
static int arm(struct bt_port *port)
{
	struct bt_env *env = port->env;
	uint64_t now = bt_loop_now(env->loop), at;

	if (now - port->parked_ns > 2 * LAST_WAIT_MS * NS_PER_MS)
		port->wait_ms = FIRST_WAIT_MS;
	else if (bt_list_empty(&port->parked))
		port->wait_ms = port->wait_ms * 2 < LAST_WAIT_MS
					? port->wait_ms * 2
					: LAST_WAIT_MS;
	port->parked_ns = now;
	at = now + port->wait_ms * NS_PER_MS;
	if (env->unpark.loop && env->unpark.due_ns <= at)
		return 0;
	return bt_timer_arm(env->loop, &env->unpark, at);
}

static void stop(struct bt_node *node, const struct bt_request *req)
{
	char text[BT_STRERROR_MAX];

	if (!node->stopped)
		bt_log(node->env->log, BLKTAP_LOG_WARNING,
		       "%s: stopped: %s; requests wait until the graph is "
		       "applied again",
		       node->name, bt_strerror(req->error, text));
	node->stopped = true;
}

bool bt_port_park(struct bt_port *port, struct bt_node *node,
		  struct bt_request *req)
{
	if (!is_worth_it(req, node->on_error) || is_given_up(port, req))
		return false;
	init(port->env);
	if (node->on_error == BT_ON_ERROR_STOP)
		stop(node, req);
	else if (node->on_error != BT_ON_ERROR_RETRY || arm(port) < 0)
		return false;
	req->error = 0;
	req->failed = NULL;
	req->extent_count = 0;
	hold(port, req);
	return true;
}

void bt_port_forget(struct bt_port *port)
{
	struct bt_env *env = port->env;

	bt_list_del(&port->parked);
	if (env->parked.next && bt_list_empty(&env->parked))
		bt_timer_cancel(&env->unpark);
}

void bt_node_set_on_error(struct bt_node *node, enum bt_on_error on_error)
{
	node->on_error = on_error;
	node->stopped = false;
}

void bt_env_unpark(struct bt_env *env)
{
	if (env->parked.next)
		send_all(env, true);
}
