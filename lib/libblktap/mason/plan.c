/* SPDX-License-Identifier: BSD-3-Clause */
/* From two graphs to a plan.
 *
 * The new graph is walked from the bottom up, so that of each node it is known
 * what becomes of those below it:
 *
 *   same class, arguments and edges          keep
 *   the same but for LIVE arguments          reconfigure
 *   matched, but another in what it is       replace: one comes, one goes
 *   not matched, or not running              add
 *
 * An edge of who stays has moved where it leads to another node. What is held
 * there is decided by what comes and goes right behind it: nothing where only
 * filters do and the same node is below them, writes where a module that must
 * see every write comes between, else all. */
#include "mason/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

static const struct bt_mason_node *old_node(const struct bt_plan *plan,
					    uint32_t i)
{
	return plan->run->file->graph->nodes[i];
}

static const struct bt_mason_node *new_node(const struct bt_plan *plan,
					    uint32_t i)
{
	return plan->file->graph->nodes[i];
}

/* ---- arguments ------------------------------------------------------------- */

/* Whether the arguments differ at all, and whether all that differ are live. As
 * texts: "1M" and "1024k" differ, and cost a reconfiguration that changes
 * nothing, or a replacement. */
static bool args_differ(const struct blktap_class *cls, const struct bt_args *a,
			const struct bt_args *b, bool *live)
{
	const struct blktap_param *p;
	bool differ = false;
	uint32_t i;

	*live = true;
	for (i = 0; (p = blktap_class_get_param(cls, i)); i++) {
		const char *x = bt_args_string(a, p->name);
		const char *y = bt_args_string(b, p->name);

		if (!x == !y && (!x || !strcmp(x, y)))
			continue;
		differ = true;
		*live = *live && p->flags & BLKTAP_PARAM_LIVE;
	}
	return differ;
}

bool bt_plan_args_differ(const struct bt_plan *plan,
			 const struct bt_mason_node *g, bool core)
{
	const struct bt_mason_node *old =
		old_node(plan, plan->nodes[g->index].old);
	bool live;

	return core ? args_differ(bt_mason_get_core_class(), old->core, g->core,
				  &live)
		    : args_differ(g->cls, old->args, g->args, &live);
}

/* Both lists are in order of port and slot. */
static bool same_shape(const struct bt_mason_node *a,
		       const struct bt_mason_node *b)
{
	const struct bt_mason_link *x = a->links, *y = b->links;

	for (; x && y; x = x->next, y = y->next)
		if (x->port != y->port || x->slot != y->slot)
			return false;
	return !x && !y;
}

/* ---- edges ----------------------------------------------------------------- */

/* The one running node: it was old in the old graph and is new in the new one.
 */
static bool leads_to(const struct bt_plan *plan, uint32_t old, uint32_t new)
{
	return bt_plan_is_kept(&plan->nodes[new]) &&
	       plan->nodes[new].old == old;
}

static bool has_moved(const struct bt_plan *plan, const struct bt_mason_link *x,
		      const struct bt_mason_link *y)
{
	return x->upper != y->upper ||
	       !leads_to(plan, x->lower->index, y->lower->index);
}

/* Past filters that come or go: *link is the edge below them. Through nodes of
 * pause class none with one edge below: what is in flight in them ends by its
 * frames, so they count for nothing here. It ends at a node that stays. */
static const struct bt_mason_link *pass_filters(
	const struct bt_plan *plan, const struct bt_mason_link *link, bool old)
{
	for (;;) {
		const struct bt_mason_node *g = link->lower;
		bool kept = old ? plan->kept_as[g->index] != BT_PLAN_NONE
				: bt_plan_is_kept(&plan->nodes[g->index]);

		if (kept || g->cls->pause != BT_PAUSE_NONE || !g->links ||
		    g->links->next)
			return link;
		link = g->links;
	}
}

/* Whether module, which comes or goes, has the node that stays right below. */
static bool stands_on(const struct bt_plan *plan,
		      const struct bt_mason_node *module, bool old,
		      const struct bt_mason_link *end)
{
	const struct bt_mason_link *link;

	for (link = module->links; link; link = link->next) {
		const struct bt_mason_link *x = pass_filters(plan, link, old);

		if (old ? leads_to(plan, x->lower->index, end->lower->index)
			: leads_to(plan, end->lower->index, x->lower->index))
			return true;
	}
	return false;
}

/* x is what was below, y what will be, both without filters. Only writes are
 * held where the one is the other with a module of pause class writes put in or
 * taken out right above. */
static enum bt_pause pause_of(const struct bt_plan *plan,
			      const struct bt_mason_link *from,
			      const struct bt_mason_link *to)
{
	const struct bt_mason_link *x = pass_filters(plan, from, true);
	const struct bt_mason_link *y = pass_filters(plan, to, false);
	bool x_kept = plan->kept_as[x->lower->index] != BT_PLAN_NONE;
	bool y_kept = bt_plan_is_kept(&plan->nodes[y->lower->index]);

	if (!has_moved(plan, x, y))
		return BT_PAUSE_NONE;
	if (x_kept && !y_kept && y->lower->cls->pause == BT_PAUSE_WRITES &&
	    stands_on(plan, y->lower, false, x))
		return BT_PAUSE_WRITES;
	if (!x_kept && y_kept && x->lower->cls->pause == BT_PAUSE_WRITES &&
	    stands_on(plan, x->lower, true, y))
		return BT_PAUSE_WRITES;
	return BT_PAUSE_ALL;
}

/* ---- nodes ----------------------------------------------------------------- */

/* A module that keeps a state about what is below it is made anew where that
 * becomes something else; a driver where any edge of it moves. A module of
 * pause class none may get other edges, as it keeps nothing about what is below;
 * but not under one that does, which would be opened, or kept, over what is below
 * the filter now.
 */
static const char *why_not_edges(const struct bt_plan *plan,
				 const struct bt_mason_node *old,
				 const struct bt_mason_node *new)
{
	const struct bt_mason_link *x = old->links, *y = new->links;

	if (!same_shape(old, new))
		return "its ports are linked otherwise";
	for (; x; x = x->next, y = y->next) {
		if (!has_moved(plan, x, y))
			continue;
		if (blktap_class_is_driver(new->cls))
			return "it stands on another image";
		if ((new->cls->pause != BT_PAUSE_NONE ||
		     plan->nodes[new->index].under) &&
		    pause_of(plan, x, y) != BT_PAUSE_NONE)
			return "it stands on other data";
	}
	return NULL;
}

/* Whether it was opened to be read alone, and is not to be opened so any more. A
 * filter looks at no flags. */
static bool gets_writer(const struct bt_mason_node *old,
			const struct bt_mason_node *new,
			const struct bt_node *node)
{
	if (old->written || !new->written)
		return false;
	if (blktap_class_is_driver(new->cls))
		return node->limits.read_only && !bt_args_bool(new->args, "ro");
	return new->cls->pause != BT_PAUSE_NONE;
}

/* In the order in which a user would look for it: one reason is told. */
static const char *why_replace(const struct bt_plan *plan,
			       const struct bt_mason_node *old,
			       const struct bt_mason_node *new)
{
	struct bt_node *node = plan->run->nodes[old->index];
	bool live;

	if (old->cls != new->cls)
		return "it is of another class";
	if (args_differ(new->cls, old->args, new->args, &live) && !live)
		return "arguments differ that cannot change while it runs";
	if (gets_writer(old, new, node))
		return "it is written to from now on";
	return why_not_edges(plan, old, new);
}

static bool takes_locks(const struct bt_run *run)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts)
		if (!(bt_list_entry(pos, struct bt_front, link)->flags &
		      BLKTAP_OPEN_FORCE))
			return true;
	return false;
}

/* Its file would be opened a second time while the first one has it, of which only
 * readers may be several. */
static bool is_locked(const struct bt_mason_node *old,
		      const struct bt_mason_node *new,
		      const struct bt_node *node)
{
	const struct blktap_param *path = blktap_class_get_param(new->cls, 0);
	const char *x, *y;

	if (old->cls != new->cls || !new->cls->relock || !path)
		return false;
	x = bt_args_string(old->args, path->name);
	y = bt_args_string(new->args, path->name);
	return x && y && !strcmp(x, y) &&
	       !(node->limits.read_only &&
		 (!new->written || bt_args_bool(new->args, "ro")));
}

/* All nodes below have been classified, as the caller goes from the bottom up.
 */
static void classify(struct bt_plan *plan, const struct bt_mason_node *g)
{
	struct bt_plan_node *n = &plan->nodes[g->index];
	const struct bt_mason_node *old;
	const struct bt_mason_link *link;
	bool late = false;

	old = n->old == BT_PLAN_NONE ? NULL : old_node(plan, n->old);
	if (!old || !plan->run->nodes[old->index]) {
		n->change = BT_CHANGE_ADD;
	} else {
		n->why = why_replace(plan, old, g);
		n->locked = n->why && takes_locks(plan->run) &&
			    is_locked(old, g, plan->run->nodes[old->index]);
		if (n->why)
			n->change = BT_CHANGE_REPLACE;
		else if (bt_plan_args_differ(plan, g, false) ||
			 bt_plan_args_differ(plan, g, true))
			n->change = BT_CHANGE_RECONFIGURE;
		else
			n->change = BT_CHANGE_KEEP;
	}
	n->on_kept = bt_plan_is_kept(n);
	if (n->on_kept) {
		plan->kept_as[n->old] = g->index;
		plan->running[g->index] = plan->run->nodes[n->old];
		return;
	}
	for (link = g->links; link; link = link->next) {
		n->on_kept |= plan->nodes[link->lower->index].on_kept;
		late |= plan->nodes[link->lower->index].late;
	}
	/* a module that has a state about what runs must be opened when nothing
	 * is written beside it; and so must what stands on it */
	n->late = late || (n->on_kept && !blktap_class_is_driver(g->cls) &&
			   g->cls->pause != BT_PAUSE_NONE);
}

/* Its node has no place in the new graph, even where another front took its
 * name. */
static int add_leaver(struct bt_plan *plan, struct bt_front *front,
		      struct blktap_error **err)
{
	struct bt_plan_leaver *leavers, *leaver;

	if (!front->may_go)
		return bt_fail(err, -EBUSY, "close it first",
			       "disk '%s' is in use, and not in the new graph",
			       front->name);
	leavers = realloc(plan->leavers,
			  (plan->leaver_count + 1) * sizeof(*leavers));
	if (!leavers)
		return -ENOMEM;
	plan->leavers = leavers;
	leaver = &leavers[plan->leaver_count++];
	memset(leaver, 0, sizeof(*leaver));
	leaver->front = front;
	leaver->edge.port = front->top;
	leaver->edge.upper = front->name;
	leaver->edge.pause = BT_PAUSE_ALL;
	leaver->edge.from = old_node(plan, front->index)->links->lower->index;
	leaver->edge.old_lower = plan->run->nodes[leaver->edge.from];
	plan->fronts[front->index] = BT_PLAN_NONE;
	return 0;
}

/* Disks that are open: each is in the new file, or may go. live: what they reach
 * there. A front goes on where its node was matched to one of its class and
 * name; what a client asked for by name must not become something else. */
static int place_fronts(struct bt_plan *plan, bool *live,
			struct blktap_error **err)
{
	const struct bt_mason_graph *graph = plan->file->graph;
	const struct bt_mason_link *link;
	struct bt_list *pos;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < graph->count; i++)
		if (plan->nodes[i].old != BT_PLAN_NONE &&
		    graph->nodes[i]->cls ==
			    old_node(plan, plan->nodes[i].old)->cls)
			plan->fronts[plan->nodes[i].old] = i;
	bt_list_for_each (pos, &plan->run->fronts) {
		struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);
		uint32_t to = plan->fronts[front->index];

		if (to != BT_PLAN_NONE &&
		    !strcmp(bt_args_string(graph->nodes[to]->args, "name"),
			    front->name))
			live[to] = true;
		else
			rc = add_leaver(plan, front, err);
		if (rc < 0)
			return rc;
	}
	/* in order: each node comes before what is below it */
	for (i = 0; i < graph->count; i++)
		for (link = graph->order[i]->links;
		     live[graph->order[i]->index] && link; link = link->next)
			live[link->lower->index] = true;
	return 0;
}

/* ---- moved edges ----------------------------------------------------------- */

static int add_edge(struct bt_plan *plan, struct bt_port *port,
		    const char *upper, const struct bt_mason_link *x,
		    const struct bt_mason_link *y)
{
	struct bt_plan_edge *edges = plan->edges, *edge;

	if (!has_moved(plan, x, y))
		return 0;
	if (plan->edge_count % 16 == 0)
		edges = realloc(edges,
				(plan->edge_count + 16) * sizeof(*edges));
	if (!edges)
		return -ENOMEM;
	plan->edges = edges;
	edge = &edges[plan->edge_count++];
	memset(edge, 0, sizeof(*edge));
	edge->port = port;
	edge->upper = upper;
	edge->from = x->lower->index;
	edge->to = y->lower->index;
	edge->entry = y->upper;
	edge->pause = pause_of(plan, x, y);
	edge->old_lower = plan->run->nodes[edge->from];
	if (edge->pause < plan->pause)
		plan->pause = edge->pause;
	return 0;
}

/* Edges of fronts first: all others are below them. */
static int find_edges(struct bt_plan *plan)
{
	const struct bt_mason_graph *old = plan->run->file->graph;
	struct bt_list *pos;
	uint32_t i;
	int rc = 0;

	bt_list_for_each (pos, &plan->run->fronts) {
		struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);
		uint32_t to = plan->fronts[front->index];

		if (!rc && to != BT_PLAN_NONE)
			rc = add_edge(plan, front->top, front->name,
				      old->nodes[front->index]->links,
				      new_node(plan, to)->links);
	}
	/* the old order: who is gated first is above who is gated later */
	for (i = 0; i < old->count && !rc; i++) {
		const struct bt_mason_node *g = old->order[i];
		uint32_t to = plan->kept_as[g->index];
		const struct bt_mason_link *x = g->links, *y;

		if (to == BT_PLAN_NONE)
			continue;
		y = new_node(plan, to)->links;
		for (; x && y && !rc; x = x->next, y = y->next)
			rc = add_edge(plan,
				      bt_node_port(plan->run->nodes[g->index],
						   x->port, x->slot),
				      g->name, x, y);
	}
	return rc;
}

/* ---- refusals -------------------------------------------------------------- */

/* Replaced nodes were counted among those that go: each has one that comes in
 * its place. */
static void count(struct bt_plan *plan)
{
	uint32_t i;

	for (i = 0; i < plan->file->graph->count; i++) {
		plan->kept += plan->nodes[i].change == BT_CHANGE_KEEP;
		plan->reconfigured +=
			plan->nodes[i].change == BT_CHANGE_RECONFIGURE;
		plan->replaced += plan->nodes[i].change == BT_CHANGE_REPLACE;
		plan->added += plan->nodes[i].change == BT_CHANGE_ADD;
	}
	for (i = 0; i < plan->run->file->graph->count; i++)
		plan->removed +=
			plan->run->nodes[i] && plan->kept_as[i] == BT_PLAN_NONE;
	plan->removed -= plan->replaced;
}

/* In the order of the graph, a node comes before all that it stands on. */
static void find_under(struct bt_plan *plan)
{
	const struct bt_mason_graph *graph = plan->file->graph;
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->order[i];
		bool under = plan->nodes[g->index].under ||
			     (!bt_mason_is_front(g) &&
			      g->cls->pause != BT_PAUSE_NONE);

		for (link = g->links; link; link = link->next)
			plan->nodes[link->lower->index].under |= under;
	}
}

static int make(struct bt_plan *plan, bool *live, struct blktap_error **err)
{
	const struct bt_mason_graph *new = plan->file->graph;
	uint32_t i;
	int rc = bt_plan_match(plan);

	if (!rc)
		rc = place_fronts(plan, live, err);
	find_under(plan);
	for (i = new->count; i-- > 0 && !rc;) {
		const struct bt_mason_node *g = new->order[i];

		if (live[g->index] && !bt_mason_is_front(g))
			classify(plan, g);
	}
	if (!rc)
		rc = find_edges(plan);
	if (!rc)
		rc = bt_plan_check_crypt(plan, err);
	if (!rc)
		count(plan);
	return rc;
}

static int allocate(struct bt_run *run, struct bt_mason_file *file,
		    struct bt_plan **out)
{
	struct bt_plan *plan = calloc(1, sizeof(*plan));
	uint32_t i, olds = run->file->graph->count;
	uint32_t news = file->graph->count;

	if (!plan)
		return -ENOMEM;
	plan->run = run;
	plan->pause = BT_PAUSE_NONE;
	plan->node_count = news;
	plan->nodes = calloc(news + 1, sizeof(*plan->nodes));
	plan->running = calloc(news + 1, sizeof(*plan->running));
	plan->kept_as = malloc((olds + 1) * sizeof(*plan->kept_as));
	plan->fronts = malloc((olds + 1) * sizeof(*plan->fronts));
	*out = plan;
	if (!plan->nodes || !plan->running || !plan->kept_as || !plan->fronts)
		return -ENOMEM;
	for (i = 0; i < news; i++)
		plan->nodes[i].old = BT_PLAN_NONE;
	for (i = 0; i < olds; i++)
		plan->kept_as[i] = plan->fronts[i] = BT_PLAN_NONE;
	return 0;
}

/* The file belongs to the plan as soon as there is one, else it is destroyed
 * here. */
int bt_plan_create(struct bt_run *run, struct bt_mason_file *file,
		   struct bt_plan **out, struct blktap_error **err)
{
	bool *live = calloc(file->graph->count + 1, sizeof(*live));
	struct bt_plan *plan = NULL;
	int rc = allocate(run, file, &plan);

	if (!live)
		rc = -ENOMEM;
	if (plan)
		plan->file = file;
	else
		bt_mason_file_destroy(file);
	if (!rc)
		rc = make(plan, live, err);
	free(live);
	if (rc < 0) {
		bt_fail(err, rc, NULL, "out of memory");
		bt_plan_destroy(plan);
		return rc;
	}
	*out = plan;
	return 0;
}

void bt_plan_destroy(struct bt_plan *plan)
{
	uint32_t i;

	if (!plan)
		return;
	for (i = 0; plan->nodes && i < plan->node_count; i++) {
		bt_args_destroy(plan->nodes[i].args);
		free(plan->nodes[i].name);
	}
	bt_mason_file_destroy(plan->file);
	free(plan->edges);
	free(plan->leavers);
	free(plan->fronts);
	free(plan->kept_as);
	free(plan->running);
	free(plan->nodes);
	free(plan);
}
