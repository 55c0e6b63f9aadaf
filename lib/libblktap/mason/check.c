/* SPDX-License-Identifier: BSD-3-Clause */
/* The shape of the graph: ports that lead nowhere, loops, nodes that no front
 * reaches, names that two fronts have, and what asserts speak of. */
#include <string.h>

#include "mason/private.h"
#include "util/suggest.h"

/* Links are in order of port and slot: those of an array follow it. */
static const struct bt_mason_link *first_link(const struct bt_mason_node *node,
					      uint32_t port)
{
	const struct bt_mason_link *link = node->links;

	while (link && link->port != port)
		link = link->next;
	return link;
}

/* Slots have no gaps, as a class counts its edges from 0. */
static void check_array(struct blktap_mason *m,
			const struct bt_mason_node *node, uint32_t port)
{
	const struct bt_mason_link *link = first_link(node, port);
	uint32_t slot = 0;

	for (; link && link->port == port; link = link->next, slot++)
		if (link->slot != slot) {
			bt_mason_error(m, link->pos, NULL,
				       "port '%s[%u]' of '%s' (%s) is not "
				       "linked, but '%s[%u]' is",
				       node->cls->ports[port].name, slot,
				       node->name, node->cls->name,
				       node->cls->ports[port].name, link->slot);
			return;
		}
}

/* A wrong link excuses the whole node: it may have been for this port. */
static void check_ports(struct blktap_mason *m,
			const struct bt_mason_node *node)
{
	const struct bt_port_desc *ports = node->cls->ports;
	uint32_t i;

	for (i = 0; ports && ports[i].name; i++) {
		if (ports[i].flags & BT_PORT_ARRAY)
			check_array(m, node, i);
		if (ports[i].optional || first_link(node, i) ||
		    node->wrong_link || m->syntax_errors)
			continue;
		bt_mason_error(m, node->pos, ports[i].help,
			       "port '%s' of '%s' (%s) is not linked",
			       ports[i].name, node->name, node->cls->name);
	}
}

/* ---- loops ----------------------------------------------------------------- */

/* Kahn's order from the top. What does not come out stands in a loop, or
 * below one. left[] counts edges above that are not yet passed. Each node and
 * each link is looked at once. */
static uint32_t sort_down(struct blktap_mason *m, uint32_t *left)
{
	struct bt_mason_graph *g = &m->graph;
	const struct bt_mason_link *link;
	uint32_t i, head = 0, tail = 0;

	for (i = 0; i < g->count; i++) {
		left[i] = g->nodes[i]->uppers;
		if (!left[i])
			g->order[tail++] = g->nodes[i];
	}
	while (head < tail)
		for (link = g->order[head++]->links; link; link = link->next)
			if (!--left[link->lower->index])
				g->order[tail++] = link->lower;
	return tail;
}

/* A step of the walk down: the node, and its links not yet looked at. */
struct step {
	struct bt_mason_node *node;
	const struct bt_mason_link *link, *taken;
};

/* The loop is the end of the walk, from the place where node stands. The walk
 * has the loop as its end; not more than eight steps are shown. */
static void report_loop(struct blktap_mason *m, const struct step *walk,
			uint32_t depth, const struct bt_mason_node *node)
{
	struct bt_diag *diag;
	uint32_t i = depth, shown;

	while (walk[i - 1].node != node)
		i--;
	diag = bt_mason_error(m, walk[i - 1].taken->pos, NULL,
			      "a loop: '%s' is below itself", node->name);
	for (shown = 0; i <= depth && shown < 8; i++, shown++)
		bt_mason_note(m, diag, walk[i - 1].taken->pos,
			      "'%s' goes to '%s'", walk[i - 1].node->name,
			      walk[i - 1].taken->lower->name);
}

enum mark { MARK_NEW, MARK_ON_WALK, MARK_DONE };

/* Depth first, with a stack of its own; a link back to the walk is a loop. A
 * stack of nodes, not of calls, as a chain may be as long as there are nodes.
 * It has room for all of them: none is on it twice. */
static void find_loops(struct blktap_mason *m, struct bt_mason_node *start,
		       uint32_t *marks, struct step *walk)
{
	uint32_t depth = 1;

	walk[0] = (struct step){ .node = start, .link = start->links };
	marks[start->index] = MARK_ON_WALK;
	while (depth) {
		struct step *top = &walk[depth - 1];
		struct bt_mason_node *lower;

		if (!top->link) {
			marks[top->node->index] = MARK_DONE;
			depth--;
			continue;
		}
		top->taken = top->link;
		top->link = top->link->next;
		lower = top->taken->lower;
		if (marks[lower->index] == MARK_ON_WALK)
			report_loop(m, walk, depth, lower);
		if (marks[lower->index] != MARK_NEW)
			continue;
		marks[lower->index] = MARK_ON_WALK;
		walk[depth++] =
			(struct step){ .node = lower, .link = lower->links };
	}
}

/* The sort is enough where there is none; the walk is for the message alone. */
static bool check_loops(struct blktap_mason *m)
{
	struct bt_mason_graph *g = &m->graph;
	struct step *walk;
	uint32_t *marks, i;

	g->order = bt_mason_alloc(m, (g->count + 1) * sizeof(*g->order));
	marks = bt_mason_alloc(m, (g->count + 1) * sizeof(*marks));
	if (!g->order || !marks)
		return false;
	if (sort_down(m, marks) == g->count)
		return true;
	walk = bt_mason_alloc(m, g->count * sizeof(*walk));
	if (!walk)
		return false;
	memset(marks, 0, g->count * sizeof(*marks));
	for (i = 0; i < g->count; i++)
		if (marks[i] == MARK_NEW)
			find_loops(m, g->nodes[i], marks, walk);
	return false;
}

/* ---- fronts ---------------------------------------------------------------- */

/* A warning alone: a node may be there for the next change. It is not opened. */
static void check_reach(struct blktap_mason *m)
{
	struct bt_mason_graph *g = &m->graph;
	const struct bt_mason_link *link;
	bool any = false;
	uint32_t i;

	for (i = 0; i < g->count; i++) {
		struct bt_mason_node *node = g->order[i];

		node->reached |= bt_mason_is_front(node);
		any |= node->reached;
		for (link = node->links; node->reached && link;
		     link = link->next)
			link->lower->reached = true;
	}
	/* what is not reached may be so because of a mistake */
	if (m->errors)
		return;
	if (!any)
		bt_mason_warn(m, (struct bt_pos){ 0, 0 },
			      "offer one: disk(\"name\") -> node",
			      "there is no disk and no export");
	for (i = 0; any && i < g->count; i++)
		if (!g->nodes[i]->reached)
			bt_mason_warn(m, g->nodes[i]->pos, NULL,
				      "no disk and no export reaches '%s'",
				      g->nodes[i]->name);
}

/* Clients know fronts by their names: those of one class differ. */
static void check_front_names(struct blktap_mason *m)
{
	struct bt_names names = { 0 };
	struct bt_diag *diag;
	struct bt_name *old;
	uint32_t i;

	for (i = 0; i < m->graph.count; i++) {
		const struct bt_mason_node *node = m->graph.nodes[i];
		const char *name;
		enum bt_name_kind kind = node->cls == &bt_mason_disk_class;

		if (!bt_mason_is_front(node))
			continue;
		name = bt_args_string(node->args, "name");
		if (!name)
			continue;
		old = bt_names_find(&names, kind, name);
		if (old) {
			diag = bt_mason_error(m, node->pos, NULL,
					      "two %ss are called \"%s\"",
					      node->cls->name, name);
			bt_mason_note(m, diag, old->pos, "the other one");
		} else {
			bt_names_add(m, &names, kind, name, node->pos);
		}
	}
}

/* Without an order of the nodes the later checks have nothing to go by, so a loop
 * ends it here. */
bool bt_mason_check_shape(struct blktap_mason *m)
{
	uint32_t i;

	for (i = 0; i < m->graph.count; i++)
		check_ports(m, m->graph.nodes[i]);
	check_front_names(m);
	if (!check_loops(m))
		return false;
	check_reach(m);
	return true;
}

/* ---- asserts --------------------------------------------------------------- */

/* run.NODE.. speaks of the running graph, where any name may be; NODE.. of a
 * node of this one. A node of this file by its first name alone: a def's inside
 * is not looked at here, but when the assert is. */
static void check_cmp(struct blktap_mason *m, const struct bt_cmp *cmp)
{
	const char *dot = strchr(cmp->path, '.');
	struct bt_suggest s;
	char *name;

	if (!dot) {
		bt_mason_error(m, cmp->pos, "write run.node.state or node.size",
			       "'%s' names a node and nothing of it",
			       cmp->path);
		return;
	}
	if (!strncmp(cmp->path, "run.", 4)) {
		if (!strchr(dot + 1, '.'))
			bt_mason_error(m, cmp->pos, "write run.node.state",
				       "'%s' names a node and nothing of it",
				       cmp->path);
		return;
	}
	name = bt_mason_strndup(m, cmp->path, (size_t)(dot - cmp->path));
	if (!name || m->syntax_errors ||
	    bt_names_find(&m->names, BT_NAME_NODE, name))
		return;
	bt_suggest_init(&s, name);
	bt_suggest_offer(&s, "run");
	bt_names_offer(&m->names, BT_NAME_NODE, "", &s);
	bt_mason_error(m, cmp->pos, bt_suggest_hint(&s),
		       "there is no node '%s'", name);
}

/* Only the form: which values a node has is known when it runs. A value from the
 * command line may be a number, so it is let pass. */
void bt_mason_check_asserts(struct blktap_mason *m)
{
	const struct bt_cmp *cmp;
	uint32_t i;

	for (i = 0; i < m->graph.assert_count; i++)
		for (cmp = m->graph.asserts[i].cmps; cmp; cmp = cmp->next) {
			check_cmp(m, cmp);
			if (cmp->value->kind == BT_VALUE_LIST)
				bt_mason_error(m, cmp->value->pos, NULL,
					       "a list compares with nothing");
			else if (cmp->value->kind != BT_VALUE_NUMBER &&
				 cmp->value->kind != BT_VALUE_WORD &&
				 strcmp(cmp->rel, "==") &&
				 strcmp(cmp->rel, "!="))
				bt_mason_error(m, cmp->value->pos, NULL,
					       "%s compares numbers only",
					       cmp->rel);
		}
}
