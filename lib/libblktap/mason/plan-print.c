/* SPDX-License-Identifier: BSD-3-Clause */
/* A plan for people and for programs: the same in both, in the order of the graphs'
 * texts, so that two plans can be compared. What it says of a node is what apply.c
 * will do; whether it can is found out there. */
#include "mason/plan.h"
#include "util/json.h"
#include "util/strbuf.h"

const char *bt_pause_name(enum bt_pause pause)
{
	static const char *const names[] = {
		[BT_PAUSE_ALL] = "all",
		[BT_PAUSE_WRITES] = "writes",
		[BT_PAUSE_NONE] = "none",
	};

	return names[pause];
}

static const char *change_name(enum bt_change change)
{
	static const char *const names[] = {
		[BT_CHANGE_IDLE] = "idle",
		[BT_CHANGE_KEEP] = "keep",
		[BT_CHANGE_RECONFIGURE] = "reconfigure",
		[BT_CHANGE_REPLACE] = "replace",
		[BT_CHANGE_ADD] = "add",
	};

	return names[change];
}

/* Runs, and is neither kept nor replaced. */
static bool is_removed(const struct bt_plan *plan, uint32_t old)
{
	uint32_t i;

	if (!plan->run->nodes[old] || plan->kept_as[old] != BT_PLAN_NONE)
		return false;
	for (i = 0; i < plan->file->graph->count; i++)
		if (plan->nodes[i].change == BT_CHANGE_REPLACE &&
		    plan->nodes[i].old == old)
			return false;
	return true;
}

/* What is kept is not named: in a large graph it is nearly all. */
void bt_plan_print(const struct bt_plan *plan, struct bt_strbuf *out)
{
	const struct bt_mason_graph *new = plan->file->graph;
	const struct bt_mason_graph *old = plan->run->file->graph;
	uint32_t i;

	for (i = 0; i < new->count; i++) {
		const struct bt_plan_node *n = &plan->nodes[i];

		if (n->change <= BT_CHANGE_KEEP)
			continue;
		bt_strbuf_printf(out, "%-11s %s (%s)%s%s%s\n",
				 change_name(n->change), new->nodes[i]->name,
				 new->nodes[i]->cls->name, n->why ? ": " : "",
				 n->why ? n->why : "",
				 n->locked ? "; refused as busy while the disk "
					     "is in use"
					   : "");
	}
	for (i = 0; i < old->count; i++)
		if (is_removed(plan, i))
			bt_strbuf_printf(out, "%-11s %s (%s)\n", "remove",
					 old->nodes[i]->name,
					 old->nodes[i]->cls->name);
	for (i = 0; i < plan->edge_count; i++) {
		const struct bt_plan_edge *edge = &plan->edges[i];

		bt_strbuf_printf(out, "%-11s %s: %s -> %s, holds %s\n", "move",
				 edge->upper, old->nodes[edge->from]->name,
				 new->nodes[edge->to]->name,
				 bt_pause_name(edge->pause));
	}
	bt_strbuf_printf(out,
			 "%u kept, %u reconfigured, %u replaced, %u added, %u "
			 "removed; pause: %s\n",
			 plan->kept, plan->reconfigured, plan->replaced,
			 plan->added, plan->removed,
			 bt_pause_name(plan->pause));
}

static void put_step(struct bt_json *json, const char *change, const char *node,
		     const char *cls, const char *why, bool locked)
{
	bt_json_object(json, NULL);
	bt_json_string(json, "change", change);
	bt_json_string(json, "node", node);
	bt_json_string(json, "class", cls);
	if (why)
		bt_json_string(json, "why", why);
	if (locked)
		bt_json_bool(json, "refused", true);
	bt_json_object_end(json);
}

/* As in the text, without what is kept. */
static void put_steps(const struct bt_plan *plan, struct bt_json *json)
{
	const struct bt_mason_graph *new = plan->file->graph;
	const struct bt_mason_graph *old = plan->run->file->graph;
	uint32_t i;

	bt_json_array(json, "steps");
	for (i = 0; i < new->count; i++)
		if (plan->nodes[i].change > BT_CHANGE_KEEP)
			put_step(json, change_name(plan->nodes[i].change),
				 new->nodes[i]->name, new->nodes[i]->cls->name,
				 plan->nodes[i].why, plan->nodes[i].locked);
	for (i = 0; i < old->count; i++)
		if (is_removed(plan, i))
			put_step(json, "remove", old->nodes[i]->name,
				 old->nodes[i]->cls->name, NULL, false);
	bt_json_array_end(json);
}

void bt_plan_put(const struct bt_plan *plan, struct bt_json *json)
{
	const struct bt_mason_graph *new = plan->file->graph;
	const struct bt_mason_graph *old = plan->run->file->graph;
	uint32_t i;

	bt_json_u64(json, "kept", plan->kept);
	bt_json_u64(json, "reconfigured", plan->reconfigured);
	bt_json_u64(json, "replaced", plan->replaced);
	bt_json_u64(json, "added", plan->added);
	bt_json_u64(json, "removed", plan->removed);
	bt_json_string(json, "pause", bt_pause_name(plan->pause));
	put_steps(plan, json);
	bt_json_array(json, "moves");
	for (i = 0; i < plan->edge_count; i++) {
		const struct bt_plan_edge *edge = &plan->edges[i];

		bt_json_object(json, NULL);
		bt_json_string(json, "of", edge->upper);
		bt_json_string(json, "from", old->nodes[edge->from]->name);
		bt_json_string(json, "to", new->nodes[edge->to]->name);
		bt_json_string(json, "pause", bt_pause_name(edge->pause));
		bt_json_object_end(json);
	}
	bt_json_array_end(json);
}
