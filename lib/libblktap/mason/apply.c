/* SPDX-License-Identifier: BSD-3-Clause */
/* A plan, carried out, all or nothing:
 *
 *   prepare   new nodes are opened from the bottom up, names and arguments
 *             copied, generation N+1 written beside N, what was written is
 *             flushed; I/O runs
 *   gate      edges into what changes are held, upper ones first, each until
 *             what entered it has left, and flushed: what goes for the last
 *             time, what stays for what came through that edge
 *   late      modules that must see every write from their first are opened
 *   commit    asserts, then N+1 is renamed over N: from here on nothing can
 *             fail, allocates or waits; edges swing
 *   release   gates open, lower ones first; disks are told
 *   retire    old nodes close when nothing names them any more
 *
 * What fails before the rename is undone in reverse, and the old graph goes on:
 * it was never touched. What failed since requests are under way that the new graph
 * would not take is tried again when there are none (bt_run_ops.narrow). */
#include "mason/apply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "mason/core.h"
#include "mason/state.h"
#include "util/checked.h"

#define NS_PER_MS 1000000ull
/* What opens while I/O runs keeps nobody but other changes waiting. */
#define PREPARE_MS 60000u
/* So long it waits for a former node that has the same file. */
#define RETIRE_MS 2000

struct apply {
	struct bt_plan *plan;
	struct bt_run *run;
	const struct bt_apply_options *options;
	uint32_t *made; /* in the new graph, in order of opening */
	uint32_t made_count;
	/* gates are released from the last to the first, on success and on
	 * failure alike */
	uint32_t held; /* edges whose gates are held */
	uint32_t leaving; /* leavers whose gates are held */
	bool saved; /* N+1 lies beside N */
	/* some node is opened behind the gates, so limits are known only then
	 */
	bool any_late;
	uint64_t held_at_ns;
	uint64_t deadline_ns;
};

static int step(const struct apply *a, const char *fmt, const char *name,
		struct blktap_error **err)
{
	const struct bt_run_ops *ops = a->run->ops;
	char text[96], reason[BT_STRERROR_MAX];
	int rc;

	if (!ops->step)
		return 0;
	snprintf(text, sizeof(text), "%s%s", fmt, name);
	rc = ops->step(ops->step_opaque, text);
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: %s", text,
				bt_strerror(rc, reason))
		      : 0;
}

/* 1 ms where the time is up, as 0 would mean no limit: what is asked then fails
 * by its own timeout. */
static uint32_t time_left(const struct apply *a)
{
	uint64_t now = bt_loop_refresh(a->run->env->loop);

	if (!a->deadline_ns)
		return 0;
	if (now >= a->deadline_ns)
		return 1;
	return (uint32_t)((a->deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* ---- prepare --------------------------------------------------------------- */

/* With what flags the disks were opened that reach the new nodes: read-only and
 * unlocked only where all of them are. */
static uint32_t open_flags(const struct bt_run *run)
{
	uint32_t flags = ~0u;
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts)
		flags &= bt_list_entry(pos, struct bt_front, link)->flags;
	return bt_list_empty(&run->fronts) ? 0 : flags;
}

/* What it opens may be open still, in a node of a former graph that has not ended:
 * then it waits for those. Behind the gates (late) it does not wait: guests do.
 */
static int open_one(struct apply *a, const struct bt_mason_node *g, bool late,
		    struct blktap_error **err)
{
	struct bt_node **out = &a->plan->running[g->index];
	uint32_t flags = open_flags(a->run);
	int rc;

	for (;;) {
		rc = bt_run_make(a->run, g, a->plan->running, flags, true, out,
				 err);
		if (rc != -EBUSY || late || !bt_run_await(a->run, RETIRE_MS))
			return rc;
		if (err) {
			blktap_error_destroy(*err);
			*err = NULL;
		}
	}
}

/* In the reverse of the graph's order, so what is below a node is open before
 * it. */
static int open_new(struct apply *a, bool late, struct blktap_error **err)
{
	struct bt_plan *plan = a->plan;
	const struct bt_mason_graph *graph = plan->file->graph;
	uint32_t i, ms = late ? time_left(a) : PREPARE_MS;
	struct bt_env *env = a->run->env;
	int rc = 0;

	env->open_until_ns = ms ? bt_monotonic_ns() + ms * NS_PER_MS : 0;
	for (i = graph->count; i-- > 0 && !rc;) {
		const struct bt_mason_node *g = graph->order[i];
		const struct bt_plan_node *n = &plan->nodes[g->index];

		if (n->change == BT_CHANGE_IDLE || bt_plan_is_kept(n))
			continue;
		a->any_late |= n->late;
		if (n->late != late)
			continue;
		rc = step(a, late ? "late " : "open ", g->name, err);
		if (!rc)
			rc = open_one(a, g, late, err);
		if (!rc)
			a->made[a->made_count++] = g->index;
	}
	env->open_until_ns = 0;
	return rc;
}

/* All that commit has to allocate is allocated here: names, arguments, and room
 * for the nodes that go. */
static int copy_names(struct apply *a, struct blktap_error **err)
{
	const struct bt_mason_graph *graph = a->plan->file->graph;
	uint32_t i, going = a->plan->removed + a->plan->replaced;
	/* or those that come, where it is undone */
	int rc = bt_run_reserve(a->run, going + graph->count);

	for (i = 0; i < graph->count && !rc; i++) {
		struct bt_plan_node *n = &a->plan->nodes[i];
		const struct bt_mason_node *g = graph->nodes[i];

		if (!bt_plan_is_kept(n))
			continue;
		if (bt_plan_args_differ(a->plan, g, true) &&
		    bt_core_expect(g, a->plan->running[i], err) < 0)
			return -ESTALE;
		if (!n->args && bt_plan_args_differ(a->plan, g, false))
			rc = bt_args_copy(g->args, &n->args);
		if (!n->name && strcmp(g->name, a->plan->running[i]->name)) {
			n->name = strdup(g->name);
			rc = n->name ? rc : -ENOMEM;
		}
	}
	return rc < 0 ? bt_fail(err, rc, NULL, "out of memory") : 0;
}

static int check_fronts(const struct bt_run *run, struct blktap_error **err)
{
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &run->fronts)
		if (!rc)
			rc = run->ops->check(
				bt_list_entry(pos, struct bt_front, link), err);
	return rc;
}

/* `saved` is set only where N+1 lies there whole: undo takes it away again. */
static int prepare(struct apply *a, struct blktap_error **err)
{
	int rc = check_fronts(a->run, err);

	a->made = calloc(a->plan->node_count + 1, sizeof(*a->made));
	if (!a->made)
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (!rc)
		rc = copy_names(a, err);
	if (!rc)
		rc = open_new(a, false, err);
	if (!rc)
		rc = step(a, "save", "", err);
	if (!rc)
		rc = bt_state_write(a->run, a->plan->file, err);
	a->saved = !rc;
	if (!rc && !a->any_late)
		rc = step(a, "limits", "", err);
	if (!rc && !a->any_late)
		rc = bt_apply_limits(a->plan, a->options->flags, err);
	return rc;
}

/* ---- gate ------------------------------------------------------------------ */

static bool goes(const struct bt_plan *plan, const struct bt_plan_edge *edge)
{
	return plan->kept_as[edge->from] == BT_PLAN_NONE;
}

/* Those who go see that it is their last flush. */
static void set_stays(struct bt_plan *plan, bool stays)
{
	uint32_t i;

	for (i = 0; i < plan->run->file->graph->count; i++)
		if (plan->run->nodes[i] && plan->kept_as[i] == BT_PLAN_NONE)
			plan->run->nodes[i]->stays = stays;
}

/* A leaf that is dead cannot be flushed, and has to go all the same. */
static bool may_lose(const struct apply *a, const struct bt_plan_edge *edge,
		     int error)
{
	char text[BT_STRERROR_MAX];

	if (!(a->options->flags & BT_RUN_LOSS) || !goes(a->plan, edge))
		return false;
	bt_log(a->run->env->log, BLKTAP_LOG_WARNING,
	       "%s: '%s' goes without a last flush: %s", a->run->path,
	       edge->old_lower->name, bt_strerror(error, text));
	return true;
}

static int flush_below(struct apply *a, const struct bt_plan_edge *edge,
		       uint32_t flags, uint32_t timeout_ms,
		       struct blktap_error **err)
{
	const char *name = edge->old_lower->name;
	char text[BT_STRERROR_MAX];
	int rc = step(a, "flush ", name, err);

	if (rc < 0)
		return rc;
	rc = bt_drain_flush(a->run, edge->old_lower, flags, timeout_ms);
	if (!rc || may_lose(a, edge, rc))
		return 0;
	return bt_fail(err, rc,
		       goes(a->plan, edge)
			       ? "if it is dead, and what it has not flushed "
				 "may be lost: --allow-loss"
			       : NULL,
		       "a flush of '%s': %s", name, bt_strerror(rc, text));
}

/* What was written through the edge and is not durable. The new graph's flushes may
 * not come there: none goes to the base of a cow. */
static bool is_dirty(const struct bt_plan_edge *edge)
{
	return !bt_port_is_flushed(edge->port);
}

/* Most of it while nobody waits, so that there is little left to flush behind the
 * gates. Flushed here without LAST: requests go on, so what these nodes keep is
 * not final yet. */
static int settle(struct apply *a, struct blktap_error **err)
{
	uint32_t i, ms = a->options->deadline_ms;
	int rc = 0;

	for (i = 0; i < a->plan->edge_count && !rc; i++) {
		const struct bt_plan_edge *edge = &a->plan->edges[i];

		if (edge->pause == BT_PAUSE_NONE || !is_dirty(edge))
			continue;
		/* one that is dead is waited for once, behind the gate */
		if (!goes(a->plan, edge) || !(a->options->flags & BT_RUN_LOSS))
			rc = flush_below(a, edge, 0, ms, err);
	}
	return rc;
}

/* The node below goes: it is told that this is its last flush. One that stays is
 * flushed for what came through this edge. */
static int flush_held(struct apply *a, const struct bt_plan_edge *edge,
		      struct blktap_error **err)
{
	if (goes(a->plan, edge))
		return flush_below(a, edge, BT_REQUEST_LAST, time_left(a), err);
	return is_dirty(edge) ? flush_below(a, edge, 0, time_left(a), err) : 0;
}

/* What has gone reads nothing that another edge has begun to change. */
static int hold_leaver(struct apply *a, uint32_t i, struct blktap_error **err)
{
	struct bt_plan_leaver *leaver = &a->plan->leavers[i];
	int rc = step(a, "gate ", leaver->edge.upper, err);

	if (rc < 0)
		return rc;
	if (!a->held_at_ns)
		a->held_at_ns = bt_loop_refresh(a->run->env->loop);
	/* before the wait: a gate that timed out is held, too */
	a->leaving = i + 1;
	rc = bt_drain_edge(a->run, &leaver->edge, time_left(a), err);
	return rc ? rc : flush_held(a, &leaver->edge, err);
}

static int hold_one(struct apply *a, uint32_t i, struct blktap_error **err)
{
	struct bt_plan_edge *edge = &a->plan->edges[i];
	int rc = step(a, "gate ", edge->upper, err);

	if (rc < 0)
		return rc;
	if (!a->held_at_ns)
		a->held_at_ns = bt_loop_refresh(a->run->env->loop);
	a->held = i + 1;
	rc = bt_drain_edge(a->run, edge, time_left(a), err);
	return rc ? rc : flush_held(a, edge, err);
}

static int hold(struct apply *a, struct blktap_error **err)
{
	uint32_t i;
	int rc = 0;

	if (a->options->deadline_ms)
		a->deadline_ns = bt_loop_refresh(a->run->env->loop) +
				 a->options->deadline_ms * NS_PER_MS;
	/* before the first LAST flush, and back in undo */
	set_stays(a->plan, false);
	for (i = 0; i < a->plan->leaver_count && !rc; i++)
		rc = hold_leaver(a, i, err);
	for (i = 0; i < a->plan->edge_count && !rc; i++)
		if (a->plan->edges[i].pause != BT_PAUSE_NONE)
			rc = hold_one(a, i, err);
	if (!rc && a->any_late)
		rc = open_new(a, true, err);
	if (!rc && a->any_late)
		rc = step(a, "limits", "", err);
	if (!rc && a->any_late)
		rc = bt_apply_limits(a->plan, a->options->flags, err);
	if (!rc)
		rc = step(a, "assert", "", err);
	if (!rc)
		rc = bt_apply_asserts(a->plan, err);
	return rc;
}

/* Lower ones first, so that what comes from above finds all open. */
static void release(struct apply *a)
{
	while (a->held)
		bt_gate_release(&a->plan->edges[--a->held].gate);
	while (a->leaving)
		bt_gate_release(&a->plan->leavers[--a->leaving].edge.gate);
}

/* ---- commit ---------------------------------------------------------------- */

/* Exchanges: what was the node's goes to the plan, which frees it when all is
 * done. Nothing here can fail. */
static void keep(const struct bt_mason_node *g, struct bt_plan_node *n,
		 struct bt_node *node)
{
	struct bt_args *args = node->args;
	char *name = node->name;

	node->limits = n->limits;
	node->frame_sum = n->frame_sum;
	bt_core_set(g, node);
	bt_node_start(node);
	if (n->name) {
		node->name = n->name;
		n->name = name;
	}
	if (!n->args)
		return;
	node->args = n->args;
	n->args = args;
	if (node->cls->reconfigure)
		node->cls->reconfigure(node, node->args);
}

/* Their gates are released behind this; what waited there is failed by the
 * front's owner (gone). */
static void drop_leavers(struct bt_plan *plan)
{
	uint32_t i;

	for (i = 0; i < plan->leaver_count; i++) {
		struct bt_front *front = plan->leavers[i].front;

		bt_port_link(front->top, NULL);
		bt_run_forget(front);
		plan->run->ops->gone(front);
	}
}

static void move_fronts(struct bt_plan *plan)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &plan->run->fronts) {
		struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);
		const struct bt_mason_node *g;

		front->index = plan->fronts[front->index];
		g = plan->file->graph->nodes[front->index];
		front->read_only = bt_args_bool(g->args, "ro") ||
				   front->flags & BLKTAP_OPEN_READ_ONLY;
		plan->run->ops->commit(front,
				       plan->running[g->links->lower->index]);
	}
}

/* The order counts: edges, then what nodes are told, then what goes is given
 * away, and the fronts last, which find everything in place. */
static void swing(struct bt_plan *plan)
{
	struct bt_run *run = plan->run;
	struct bt_mason_file *file = run->file;
	struct bt_node **nodes = run->nodes;
	uint32_t i;

	for (i = 0; i < plan->edge_count; i++) {
		struct bt_plan_edge *edge = &plan->edges[i];

		bt_port_link(edge->port, plan->running[edge->to]);
		edge->port->entry = edge->entry;
	}
	for (i = 0; i < plan->node_count; i++)
		if (plan->running[i])
			keep(plan->file->graph->nodes[i], &plan->nodes[i],
			     plan->running[i]);
	for (i = 0; i < file->graph->count; i++)
		if (nodes[i] && plan->kept_as[i] == BT_PLAN_NONE)
			bt_run_retire(run, nodes[i]);
	drop_leavers(plan);
	move_fronts(plan);
	run->file = plan->file;
	plan->file = file;
	run->nodes = plan->running;
	plan->running = nodes;
	run->generation++;
}

static void tell(struct apply *a, uint64_t pause_ns)
{
	const struct bt_plan *plan = a->plan;
	struct bt_list *pos, *tmp;
	char text[160];

	snprintf(text, sizeof(text),
		 "generation %llu: pause %llu us, %u kept, %u reconfigured, %u "
		 "replaced, %u added, %u removed",
		 (unsigned long long)a->run->generation,
		 (unsigned long long)(pause_ns / 1000), plan->kept,
		 plan->reconfigured, plan->replaced, plan->added,
		 plan->removed);
	bt_list_for_each_safe (pos, tmp, &a->run->fronts)
		a->run->ops->done(bt_list_entry(pos, struct bt_front, link),
				  pause_ns, text);
}

/* In reverse. New nodes go before the gates open, so nothing can reach them;
 * those that a late transfer still has go later. */
static void undo(struct apply *a)
{
	struct bt_node *node;

	set_stays(a->plan, true);
	while (a->made_count) {
		uint32_t i = a->made[--a->made_count];

		node = a->plan->running[i];
		/* what another began in it before its time was up may be there
		 * still */
		if (node->has || node->refs)
			bt_run_retire(a->run, node);
		else
			bt_run_drop(node);
		a->plan->running[i] = NULL;
	}
	bt_run_sweep(a->run);
	release(a);
	if (a->saved)
		bt_state_drop(a->run);
}

/* With a step's error ignored: there is no way back. */
static void commit(struct apply *a, struct bt_apply_result *result)
{
	uint64_t now;

	step(a, "swing", "", NULL);
	swing(a->plan);
	release(a);
	bt_env_unpark(a->run->env);
	now = bt_loop_refresh(a->run->env->loop);
	result->pause_ns = a->held_at_ns ? now - a->held_at_ns : 0;
	result->generation = a->run->generation;
	step(a, "release", "", NULL);
	bt_run_sweep(a->run);
	tell(a, result->pause_ns);
}

/* Either all of it is done, or nothing. Behind bt_state_commit the new
 * generation is the one that a restart finds; so commit() must not be able to
 * fail. */
static int attempt(struct bt_plan *plan, const struct bt_apply_options *options,
		   struct bt_apply_result *result, struct blktap_error **err)
{
	struct apply a = { .plan = plan, .run = plan->run, .options = options };
	int rc = prepare(&a, err);

	if (!rc)
		rc = settle(&a, err);
	if (!rc)
		rc = hold(&a, err);
	if (!rc)
		rc = step(&a, "rename", "", err);
	if (!rc)
		rc = bt_state_commit(plan->run, err);
	if (rc < 0)
		undo(&a);
	else
		commit(&a, result);
	free(a.made);
	return rc;
}

/* A front that the attempt failed for, and that can be helped; or NULL. */
static struct bt_front *find_wide(const struct bt_run *run)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts) {
		struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);

		if (front->wants_narrow)
			return front;
	}
	return NULL;
}

static void widen_all(const struct bt_run *run)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts)
		run->ops->widen(bt_list_entry(pos, struct bt_front, link));
}

int bt_apply(struct bt_plan *plan, const struct bt_apply_options *options,
	     struct bt_apply_result *result, struct blktap_error **err)
{
	struct bt_run *run = plan->run;
	struct bt_front *front;
	int rc;

	if (bt_loop_is_running(run->env->loop))
		return bt_fail(err, -EDEADLK, NULL,
			       "a graph is not changed from a callback");
	if (run->busy)
		return bt_fail(err, -EBUSY, "try again",
			       "%s: is being changed already", run->path);
	run->busy = true;
	rc = attempt(plan, options, result, err);
	/* each front once */
	while (rc < 0 && (front = find_wide(run))) {
		if (err) {
			blktap_error_destroy(*err);
			*err = NULL;
		}
		rc = run->ops->narrow(front, options->deadline_ms, err);
		if (!rc)
			rc = attempt(plan, options, result, err);
	}
	if (rc < 0)
		widen_all(run);
	run->busy = false;
	return rc;
}
