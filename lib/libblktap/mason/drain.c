/* SPDX-License-Identifier: BSD-3-Clause */
/* The two waits of an edit: until what entered an edge has left it, and for the
 * last flush of what goes. Both end at a deadline. */
#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "mason/apply.h"
#include "util/checked.h"

struct wait {
	bool done;
	int error;
};

static bool is_done(void *opaque)
{
	return ((struct wait *)opaque)->done;
}

static void drained(struct bt_gate *gate, int error)
{
	struct wait *wait = gate->opaque;

	wait->error = error;
	wait->done = true;
}

/* Who keeps the edge from draining, as far as the disks know. */
static const char *find_stuck(const struct bt_run *run)
{
	const char *where = "";
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts) {
		const struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);

		if (!*where && run->ops->where)
			where = run->ops->where(front);
	}
	return where;
}

/* Whether to is an edge below filters that from leads into. */
static bool leads_by_filters(const struct bt_port *from,
			     const struct bt_port *to)
{
	const struct bt_node *node = from->lower;

	while (node && node->cls->pause == BT_PAUSE_NONE && node->port_count) {
		if (&node->ports[0] == to)
			return true;
		node = node->ports[0].lower;
	}
	return false;
}

struct strays {
	const struct bt_run *run;
	const struct bt_port *port;
};

static bool are_home(void *opaque)
{
	const struct strays *s = opaque;
	struct bt_list *pos;
	uint32_t i, n;

	bt_list_for_each (pos, &s->run->fronts) {
		const struct bt_port *top =
			bt_list_entry(pos, struct bt_front, link)->top;

		if (top->strays && leads_by_filters(top, s->port))
			return false;
	}
	for (i = 0; i < s->run->file->graph->count; i++) {
		const struct bt_node *node = s->run->nodes[i];

		for (n = 0; node && n < node->port_count; n++)
			if (node->ports[n].strays &&
			    leads_by_filters(&node->ports[n], s->port))
				return false;
	}
	return true;
}

/* What was in flight when a filter came or went above the edge is below it and did not
 * enter by it: the gate there knows nothing of it. No more of it can come. */
static int wait_for_strays(struct bt_run *run, const struct bt_port *port,
			   uint32_t timeout_ms, struct blktap_error **err)
{
	struct strays strays = { run, port };
	int rc = bt_loop_run_until(run->env->loop, are_home, &strays,
				   timeout_ms ? (int)timeout_ms : -1);

	return rc < 0 ? bt_fail(err, rc, "give it more time: --deadline",
				"requests below '%s' from before the last "
				"change have not finished",
				port->lower->name)
		      : 0;
}

/* A gate that is not drained in time stays held: its caller releases it,
 * whatever came of it. The wait has no time of its own, as the gate tells. */
int bt_drain_edge(struct bt_run *run, struct bt_plan_edge *edge,
		  uint32_t timeout_ms, struct blktap_error **err)
{
	uint32_t hold =
		edge->pause == BT_PAUSE_WRITES ? BT_HOLD_WRITES : BT_HOLD_ALL;
	struct wait wait = { .done = false };
	const char *where;
	int rc;

	bt_gate_init(&edge->gate, run->env);
	rc = wait_for_strays(run, edge->port, timeout_ms, err);
	if (rc < 0)
		return rc;
	rc = bt_gate_hold(&edge->gate, &edge->port, 1, hold, timeout_ms,
			  drained, &wait);
	if (rc < 0)
		return bt_fail(err, rc, "try again",
			       "the edge of '%s' is held by someone else",
			       edge->upper);
	rc = bt_loop_run_until(run->env->loop, is_done, &wait, -1);
	if (!rc && !wait.error)
		return 0;
	where = find_stuck(run);
	rc = rc < 0 ? rc : wait.error;
	return bt_fail(err, rc, "give it more time: --deadline",
		       "%llu requests below '%s' have not finished%s%s%s",
		       (unsigned long long)bt_port_in_flight(edge->port),
		       edge->upper, *where ? "; one is in '" : "", where,
		       *where ? "'" : "");
}

/* ---- the flush ------------------------------------------------------------- */

/* Lives until its request is back, which may be after its owner gave up. */
struct probe {
	struct bt_port port;
	struct bt_pool *pool;
	struct bt_work end;
	struct wait wait;
	/* nobody waits any more: it frees itself when the request is back */
	bool orphan;
};

static void probe_destroy(struct probe *probe)
{
	bt_port_link(&probe->port, NULL);
	bt_pool_destroy(probe->pool);
	free(probe);
}

static void end_orphan(struct bt_work *work)
{
	probe_destroy(bt_container_of(work, struct probe, end));
}

static void flushed(struct bt_port *port, struct bt_request *req)
{
	struct probe *probe = port->opaque;

	probe->wait.error = req->error;
	probe->wait.done = true;
	bt_pool_give(req);
	if (probe->orphan) /* the node's own code is on the stack */
		bt_loop_defer(port->env->loop, &probe->end);
}

/* An edge of its own into the node, from above: no frame of the graph is above
 * it. */
static int probe_create(struct bt_run *run, struct bt_node *node,
			struct probe **out)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	int rc = probe ? bt_pool_create(1, sizeof(struct bt_request),
					node->frame_sum, &probe->pool)
		       : -ENOMEM;

	if (rc < 0) {
		free(probe);
		return rc;
	}
	bt_port_init(&probe->port, run->env, NULL, "flush");
	bt_work_init(&probe->end, end_orphan);
	probe->port.done = flushed;
	probe->port.opaque = probe;
	bt_port_link(&probe->port, node);
	*out = probe;
	return 0;
}

/* BYPASS, since gates above the node are held. On a timeout the probe is left
 * with its request; the node that has it cannot be closed, and has to be
 * retired (has). */
int bt_drain_flush(struct bt_run *run, struct bt_node *node, uint32_t flags,
		   uint32_t timeout_ms)
{
	struct bt_request *req;
	struct probe *probe;
	int rc = probe_create(run, node, &probe);

	if (rc < 0)
		return rc;
	req = bt_pool_take(probe->pool);
	req->op = BLKTAP_OP_FLUSH;
	req->flags = BT_REQUEST_BYPASS | flags;
	bt_port_submit(&probe->port, req);
	rc = bt_loop_run_until(run->env->loop, is_done, &probe->wait,
			       timeout_ms ? (int)timeout_ms : -1);
	if (!probe->wait.done) {
		probe->orphan = true;
	} else {
		rc = probe->wait.error;
		probe_destroy(probe);
	}
	/* there is nothing to flush */
	return rc == -ENOTSUP ? 0 : rc;
}
