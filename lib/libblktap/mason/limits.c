/* SPDX-License-Identifier: BSD-3-Clause */
/* What the new graph will take and give. The classes are asked with the new
 * edges in place, which are put back before anything can go through them: all of
 * it happens between two turns of the loop. */
#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "mason/apply.h"

struct saved {
	struct bt_limits limits;
	uint32_t frame_sum;
};

/* Exchanges what is and what will be. Called twice, it puts everything back:
 * edge->entry holds the other value in between. Nothing but lower and entry of
 * the ports is touched, no counts and no generations. */
static void swap_edges(struct bt_plan *plan)
{
	uint32_t i;

	for (i = 0; i < plan->edge_count; i++) {
		struct bt_plan_edge *edge = &plan->edges[i];
		uint32_t entry = edge->port->entry;

		edge->port->lower = edge->swapped ? edge->old_lower
						  : plan->running[edge->to];
		edge->port->entry = edge->entry;
		edge->entry = entry;
		edge->swapped = !edge->swapped;
	}
}

static int ask_fronts(struct bt_plan *plan, uint32_t flags,
		      struct blktap_error **err)
{
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &plan->run->fronts) {
		struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);
		uint32_t to = plan->fronts[front->index];
		const struct bt_mason_node *g;

		if (rc)
			break;
		if (to == BT_PLAN_NONE)
			continue;
		g = plan->file->graph->nodes[to];
		rc = plan->run->ops->prepare(
			front, plan->running[g->links->lower->index],
			bt_args_bool(g->args, "ro"), flags, err);
	}
	return rc;
}

/* From the bottom up; the answers are put aside. After an error the rest is
 * saved and put back all the same. */
static int ask_nodes(struct bt_plan *plan, struct saved *saved,
		     struct blktap_error **err)
{
	const struct bt_mason_graph *graph = plan->file->graph;
	uint32_t i;
	int rc = 0;

	for (i = graph->count; i-- > 0;) {
		uint32_t at = graph->order[i]->index;
		struct bt_node *node = plan->running[at];

		if (!node)
			continue;
		saved[at].limits = node->limits;
		saved[at].frame_sum = node->frame_sum;
		if (!rc)
			rc = bt_node_plan(node, err);
		plan->nodes[at].limits = node->limits;
		plan->nodes[at].frame_sum = node->frame_sum;
	}
	return rc;
}

int bt_apply_limits(struct bt_plan *plan, uint32_t flags,
		    struct blktap_error **err)
{
	uint32_t i, count = plan->file->graph->count;
	struct saved *saved = calloc(count + 1, sizeof(*saved));
	int rc;

	if (!saved)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	swap_edges(plan);
	rc = ask_nodes(plan, saved, err);
	if (!rc)
		rc = ask_fronts(plan, flags, err);
	swap_edges(plan);
	for (i = 0; i < count; i++)
		if (plan->running[i]) {
			plan->running[i]->limits = saved[i].limits;
			plan->running[i]->frame_sum = saved[i].frame_sum;
		}
	free(saved);
	return rc;
}
