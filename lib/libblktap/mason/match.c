/* SPDX-License-Identifier: BSD-3-Clause */
/* Which node is which: by what it was called, by its name, and where it has none
 * by its place, or by its class and the arguments that make it what it is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mason/plan.h"
#include "util/checked.h"

/* The old graph's nodes by name. */
struct names {
	const struct bt_mason_graph *graph;
	uint32_t *slots; /* index + 1; 0: free */
	uint32_t mask;
};

struct upper {
	const struct bt_mason_node *node;
	const struct bt_mason_link *link;
};

struct match {
	struct bt_plan *plan;
	const struct bt_mason_graph *old, *new;
	struct names names;
	bool *taken; /* of the old graph */
	struct upper
		*uppers; /* of the new one: the first edge that ends there */
};

/* FNV-1a, 32 bit. */
static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261u;

	while (*text)
		h = (h ^ (unsigned char)*text++) * 16777619u;
	return h;
}

/* At most half full, so a search ends at a free slot. */
static int names_init(struct names *names, const struct bt_mason_graph *graph)
{
	uint32_t i, at, size = 16;

	while (size < graph->count * 2)
		size *= 2;
	names->graph = graph;
	names->mask = size - 1;
	names->slots = calloc(size, sizeof(*names->slots));
	if (!names->slots)
		return -ENOMEM;
	for (i = 0; i < graph->count; i++) {
		at = hash(graph->nodes[i]->name) & names->mask;
		while (names->slots[at])
			at = (at + 1) & names->mask;
		names->slots[at] = i + 1;
	}
	return 0;
}

static uint32_t names_find(const struct names *names, const char *name)
{
	uint32_t at = hash(name) & names->mask;

	for (; names->slots[at]; at = (at + 1) & names->mask)
		if (!strcmp(names->graph->nodes[names->slots[at] - 1]->name,
			    name))
			return names->slots[at] - 1;
	return BT_PLAN_NONE;
}

/* The same data: arguments that only say how it is treated may differ. By the
 * parameters that say what the data is (IDENTITY), compared as texts. */
static bool same_identity(const struct bt_mason_node *a,
			  const struct bt_mason_node *b)
{
	const struct blktap_param *p;
	uint32_t i;

	if (a->cls != b->cls)
		return false;
	for (i = 0; (p = blktap_class_get_param(a->cls, i)); i++) {
		const char *x = bt_args_string(a->args, p->name);
		const char *y = bt_args_string(b->args, p->name);

		if (p->flags & BLKTAP_PARAM_IDENTITY &&
		    (!x != !y || (x && strcmp(x, y))))
			return false;
	}
	return true;
}

/* The first claim counts: a node that was given away is not taken again. */
static void take(struct match *m, uint32_t new, uint32_t old)
{
	if (old == BT_PLAN_NONE || m->taken[old] ||
	    m->plan->nodes[new].old != BT_PLAN_NONE)
		return;
	m->taken[old] = true;
	m->plan->nodes[new].old = old;
}

/* A node with several edges above has its place by the first, in the order of
 * the graph. */
static void find_uppers(struct match *m)
{
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < m->new->count; i++)
		for (link = m->new->order[i]->links; link; link = link->next) {
			struct upper *upper = &m->uppers[link->lower->index];

			if (!upper->node)
				*upper = (struct upper){ m->new->order[i],
							 link };
		}
}

/* What stood in the old graph where the node stands in the new one. The upper
 * node must be matched already, and be of the class: its ports mean the same
 * then. */
static uint32_t at_place(const struct match *m, const struct bt_mason_node *g)
{
	const struct upper *upper = &m->uppers[g->index];
	const struct bt_mason_link *link;
	uint32_t old;

	if (!upper->node)
		return BT_PLAN_NONE;
	old = m->plan->nodes[upper->node->index].old;
	if (old == BT_PLAN_NONE || m->old->nodes[old]->cls != upper->node->cls)
		return BT_PLAN_NONE;
	for (link = m->old->nodes[old]->links; link; link = link->next)
		if (link->port == upper->link->port &&
		    link->slot == upper->link->slot)
			return link->lower->index;
	return BT_PLAN_NONE;
}

/* The first free one that is the same thing. Who has been given another name is
 * another, unless it says what it was. */
static uint32_t same_thing(const struct match *m, const struct bt_mason_node *g)
{
	uint32_t i;

	for (i = 0; i < m->old->count; i++)
		if (!m->taken[i] && same_identity(m->old->nodes[i], g) &&
		    (g->anonymous || m->old->nodes[i]->anonymous ||
		     bt_mason_is_front(g)))
			return i;
	return BT_PLAN_NONE;
}

/* All `was` before any name: a node may get a name that another one just gave
 * up. */
static void by_name(struct match *m)
{
	uint32_t i;

	for (i = 0; i < m->new->count; i++)
		if (m->new->nodes[i]->was)
			take(m, i,
			     names_find(&m->names, m->new->nodes[i]->was));
	for (i = 0; i < m->new->count; i++)
		if (!m->new->nodes[i]->anonymous)
			take(m, i,
			     names_find(&m->names, m->new->nodes[i]->name));
}

/* From the top, so that a node's place is known by those above it. */
static void by_place(struct match *m, bool same)
{
	uint32_t i;

	for (i = 0; i < m->new->count; i++) {
		const struct bt_mason_node *g = m->new->order[i];
		uint32_t old = BT_PLAN_NONE;

		if (m->plan->nodes[g->index].old != BT_PLAN_NONE)
			continue;
		if (g->anonymous || bt_mason_is_front(g))
			old = at_place(m, g);
		if (old != BT_PLAN_NONE &&
		    (same ? !same_identity(m->old->nodes[old], g)
			  : m->old->nodes[old]->cls != g->cls))
			old = BT_PLAN_NONE;
		if (old == BT_PLAN_NONE && same)
			old = same_thing(m, g);
		take(m, g->index, old);
	}
}

/* What is sure comes first: each old node is given away once. Places are looked at
 * twice: where the same thing stands, before where another of the same class does,
 * since a node that is taken for another is opened anew and held meanwhile. */
int bt_plan_match(struct bt_plan *plan)
{
	struct match m = {
		.plan = plan,
		.old = plan->run->file->graph,
		.new = plan->file->graph,
	};
	int rc = names_init(&m.names, m.old);

	m.taken = calloc(m.old->count + 1, sizeof(*m.taken));
	m.uppers = calloc(m.new->count + 1, sizeof(*m.uppers));
	if (!m.taken || !m.uppers)
		rc = -ENOMEM;
	if (!rc) {
		find_uppers(&m);
		by_name(&m);
		by_place(&m, true);
		by_place(&m, false);
	}
	free(m.uppers);
	free(m.taken);
	free(m.names.slots);
	return rc;
}
