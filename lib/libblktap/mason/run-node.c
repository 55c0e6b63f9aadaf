/* SPDX-License-Identifier: BSD-3-Clause */
/* One node of a run: made from its place in the checked graph, linked, opened. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/core.h"
#include "mason/run.h"

/* What no front writes through is opened read-only, whatever the disk was
 * opened with: so its lock is a shared one. */
uint32_t bt_run_flags(const struct bt_mason_node *g, uint32_t flags)
{
	flags &= BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE |
		 BLKTAP_OPEN_BUFFERED;
	return g->written ? flags : flags | BLKTAP_OPEN_READ_ONLY;
}

/* How many edges each of the class's ports has. A port that is no array has one
 * edge, linked or not. */
static uint32_t *count_edges(const struct bt_mason_node *g)
{
	const struct bt_port_desc *ports = g->cls->ports;
	const struct bt_mason_link *link;
	uint32_t i, n = 0, *edges;

	while (ports && ports[n].name)
		n++;
	edges = calloc(n + 1, sizeof(*edges));
	for (i = 0; edges && i < n; i++)
		edges[i] = ports[i].flags & BT_PORT_ARRAY ? 0 : 1;
	for (link = g->links; edges && link; link = link->next)
		if (ports[link->port].flags & BT_PORT_ARRAY)
			edges[link->port]++;
	return edges;
}

/* An optional port may have no link in the graph: its edge leads nowhere. */
static void link_lowers(const struct bt_mason_node *g, struct bt_node *node,
			struct bt_node *const *lowers)
{
	const struct bt_mason_link *link;

	for (link = g->links; link; link = link->next) {
		struct bt_port *port =
			bt_node_port(node, link->port, link->slot);

		bt_port_link(port, lowers[link->lower->index]);
		port->entry = link->upper;
	}
}

/* The fingerprint is looked at behind the opening, when the lock is had: nobody
 * changes it from there on. */
int bt_run_open(struct bt_run *run, const struct bt_mason_node *g,
		struct bt_node *node, uint32_t flags, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	int rc;

	flags = bt_run_flags(g, flags);
	if (blktap_class_is_driver(g->cls))
		rc = run->ops->open_leaf(node, flags, err);
	else
		rc = bt_node_open(node, flags, err);
	if (!rc && bt_core_expect(g, node, err) < 0)
		return -ESTALE;
	if (rc < 0) {
		bt_fail(err, rc, NULL, "%s: %s", g->cls->name,
			bt_strerror(rc, text));
		bt_error_prefix(err, "%s", g->name);
	}
	return rc;
}

/* `stays` until an edit or a leaving front decides otherwise, so that no flush
 * is taken for the last by mistake. */
int bt_run_make(struct bt_run *run, const struct bt_mason_node *g,
		struct bt_node *const *lowers, uint32_t flags, bool open,
		struct bt_node **out, struct blktap_error **err)
{
	uint32_t *edges = count_edges(g);
	struct bt_args *args = NULL;
	struct bt_node *node;
	int rc = edges ? bt_args_copy(g->args, &args) : -ENOMEM;

	if (rc < 0)
		bt_fail(err, rc, NULL, "out of memory");
	else
		rc = bt_node_create_wide(run->env, g->cls, g->name, args, edges,
					 &node, err);
	free(edges);
	if (rc < 0)
		return rc;
	node->stays = true;
	node->in_graph = true;
	node->on_trial = run->busy;
	bt_core_set(g, node);
	link_lowers(g, node, lowers);
	if (open)
		rc = bt_run_open(run, g, node, flags, err);
	if (rc < 0) {
		bt_run_drop(node);
		return rc;
	}
	*out = node;
	return 0;
}

void bt_run_drop(struct bt_node *node)
{
	uint32_t i;

	if (!node)
		return;
	/* the class closes while its ports still lead somewhere */
	bt_node_close(node);
	/* the graph's own nodes below are others' too; images that a driver
	 * opened for itself are freed with it */
	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower && node->ports[i].lower->in_graph)
			bt_port_link(&node->ports[i], NULL);
	bt_node_destroy(node);
}
