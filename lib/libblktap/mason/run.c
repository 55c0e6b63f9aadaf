/* SPDX-License-Identifier: BSD-3-Clause */
/* Which nodes of a file run: those that a disk in use reaches. They are opened
 * from the bottom up when a disk comes, and closed from the top down when the
 * last that reached them has gone. */
#include "mason/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/core.h"
#include "util/suggest.h"

/* The file is the run's from the moment that there is one; before that it is
 * destroyed here. */
int bt_run_create(struct bt_env *env, const struct bt_run_ops *ops,
		  const char *path, struct bt_mason_file *file,
		  struct bt_run **out, struct blktap_error **err)
{
	struct bt_run *run = calloc(1, sizeof(*run));

	if (run) {
		bt_list_init(&run->link);
		bt_list_init(&run->fronts);
		run->env = env;
		run->ops = ops;
		run->generation = 1;
		run->lock_fd = -1;
		bt_run_retire_init(run);
		run->path = strdup(path);
		run->nodes =
			calloc(file->graph->count + 1, sizeof(*run->nodes));
		run->file = file;
	}
	if (!run || !run->path || !run->nodes) {
		if (!run)
			bt_mason_file_destroy(file);
		bt_run_destroy(run);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", path);
	}
	*out = run;
	return 0;
}

/* From the top: a class closes while what is below it is open. */
static void drop_nodes(struct bt_run *run)
{
	const struct bt_mason_graph *graph = run->file->graph;
	uint32_t i;

	for (i = 0; i < graph->count; i++) {
		struct bt_node **node = &run->nodes[graph->order[i]->index];

		bt_run_drop(*node);
		*node = NULL;
	}
}

/* No front is left. Nodes of former graphs are waited for; one of the graph is open
 * still where one of those stood on it when the last front left. */
void bt_run_destroy(struct bt_run *run)
{
	if (!run)
		return;
	bt_run_retire_all(run);
	if (run->nodes)
		drop_nodes(run);
	bt_list_del(&run->link);
	bt_mason_file_destroy(run->file);
	free(run->dying);
	free(run->nodes);
	free(run->path);
	free(run);
}

/* ---- fronts ---------------------------------------------------------------- */

/* What clients ask for; the node's own name is the text's business. */
static const char *front_name(const struct bt_mason_node *g)
{
	return bt_args_string(g->args, "name");
}

/* Three mistakes: there is no disk, there are several and none was named, or none of
 * that name. found counts disks where no name was given. */
static int no_front(const struct bt_run *run, const char *name, uint32_t found,
		    struct blktap_error **err)
{
	const struct bt_mason_graph *graph = run->file->graph;
	struct bt_suggest s;
	uint32_t i;

	if (!name && !found)
		return bt_fail(err, -EINVAL,
			       "offer one: disk(\"name\") -> node",
			       "%s: there is no disk in it", run->path);
	if (!name)
		return bt_fail(
			err, -EINVAL, "say which: mason(FILE, disk=NAME)",
			"%s: there are %u disks in it", run->path, found);
	bt_suggest_init(&s, name);
	for (i = 0; i < graph->count; i++)
		if (bt_mason_is_front(graph->nodes[i]))
			bt_suggest_offer(&s, front_name(graph->nodes[i]));
	return bt_fail(err, -ENOENT, bt_suggest_hint(&s),
		       "%s: there is no disk '%s' in it", run->path, name);
}

/* The disk or export of that name; where none is given, the only disk. Without
 * a name only disks count: an export is served by itself. */
static int find_front(const struct bt_run *run, const char *name,
		      const struct bt_mason_node **out,
		      struct blktap_error **err)
{
	const struct bt_mason_graph *graph = run->file->graph;
	uint32_t i, found = 0;

	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->nodes[i];

		if (!bt_mason_is_front(g))
			continue;
		if (name ? !strcmp(front_name(g), name)
			 : !strcmp(g->cls->name, "disk")) {
			*out = g;
			found++;
			if (name)
				break;
		}
	}
	return found == 1 ? 0 : no_front(run, name, found, err);
}

/* A front has one user: its name, its top edge and its admission are his. */
static int check_free(const struct bt_run *run, const struct bt_mason_node *g,
		      struct blktap_error **err)
{
	const char *hint = "close it there first";
	struct bt_list *pos;

	if (strcmp(g->cls->name, "disk"))
		hint = "a tapdisk serves it by itself: tap-ctl list --json has "
		       "its address";
	bt_list_for_each (pos, &run->fronts)
		if (bt_list_entry(pos, struct bt_front, link)->index ==
		    g->index)
			return bt_fail(err, -EBUSY, hint,
				       "%s: %s '%s' is in use", run->path,
				       g->cls->name, front_name(g));
	return 0;
}

/* ---- what runs ------------------------------------------------------------- */

/* In the order of the graph, a node comes before all that it stands on: one pass
 * is enough. */
static void reach_down(const struct bt_mason_graph *graph, bool *live)
{
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->order[i];

		for (link = g->links; live[g->index] && link; link = link->next)
			live[link->lower->index] = true;
	}
}

void bt_run_reach(const struct bt_run *run, const struct bt_front *less,
		  const struct bt_mason_graph *graph, bool *live)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &run->fronts) {
		const struct bt_front *front =
			bt_list_entry(pos, struct bt_front, link);

		if (front != less)
			live[front->index] = true;
	}
	reach_down(graph, live);
}

/* By the name of the running node, which is the graph's: an edit renames both.
 */
struct bt_node *bt_run_find(const struct bt_run *run, const char *name)
{
	uint32_t i;

	for (i = 0; i < run->file->graph->count; i++)
		if (run->nodes[i] && !strcmp(run->nodes[i]->name, name))
			return run->nodes[i];
	return NULL;
}

/* A node that was opened for reading only serves no writer. */
static int check_written(const struct bt_mason_node *g,
			 const struct bt_node *node, uint32_t flags,
			 struct blktap_error **err)
{
	if (!node->limits.read_only ||
	    bt_run_flags(g, flags) & BLKTAP_OPEN_READ_ONLY)
		return 0;
	if (bt_args_is_set(node->args, "ro") && bt_args_bool(node->args, "ro"))
		return 0;
	return bt_fail(err, -EROFS, "close the disk that reads it first",
		       "%s: is open for reading only", node->name);
}

/* Opens what is in live and does not run yet, what is below first. made lists it, in
 * order, so that a failure can take it back. For a node that runs already, only
 * whether it serves what is asked: the first disk that came decided how it was
 * opened. */
static int open_live(struct bt_run *run, const bool *live, uint32_t flags,
		     uint32_t *made, uint32_t *count, struct blktap_error **err)
{
	const struct bt_mason_graph *graph = run->file->graph;
	uint32_t i;
	int rc = 0;

	for (i = graph->count; i-- > 0 && !rc;) {
		const struct bt_mason_node *g = graph->order[i];

		if (!live[g->index] || bt_mason_is_front(g))
			continue;
		if (run->nodes[g->index]) {
			rc = check_written(g, run->nodes[g->index], flags, err);
			continue;
		}
		rc = bt_run_make(run, g, run->nodes, flags, true,
				 &run->nodes[g->index], err);
		if (!rc)
			made[(*count)++] = g->index;
	}
	return rc;
}

/* On failure what it opened is closed again, in reverse, so a node is gone before
 * what it stands on; nodes that ran before are not touched. */
static int open_for(struct bt_run *run, uint32_t index, uint32_t flags,
		    struct blktap_error **err)
{
	const struct bt_mason_graph *graph = run->file->graph;
	bool *live = calloc(graph->count, sizeof(*live));
	uint32_t *made = calloc(graph->count, sizeof(*made));
	uint32_t count = 0;
	int rc = -ENOMEM;

	if (live && made) {
		live[index] = true;
		reach_down(graph, live);
		rc = open_live(run, live, flags, made, &count, err);
	} else {
		bt_fail(err, rc, NULL, "%s: out of memory", run->path);
	}
	while (rc < 0 && count) {
		uint32_t i = made[--count];

		bt_run_drop(run->nodes[i]);
		run->nodes[i] = NULL;
	}
	free(made);
	free(live);
	return rc;
}

/* Everything that may fail comes before the front is in the list; on failure
 * the run is as it was. */
int bt_run_enter(struct bt_run *run, struct bt_front *front, const char *name,
		 struct bt_node **root, struct blktap_error **err)
{
	const struct bt_mason_node *g = NULL;
	int rc;

	if (run->busy)
		return bt_fail(err, -EBUSY, "try again", "%s: is being changed",
			       run->path);
	rc = find_front(run, name, &g, err);

	if (!rc)
		rc = check_free(run, g, err);
	if (rc < 0)
		return rc;
	front->read_only = bt_args_bool(g->args, "ro") ||
			   front->flags & BLKTAP_OPEN_READ_ONLY;
	front->name = strdup(front_name(g));
	if (!front->name)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = open_for(run, g->index, front->flags, err);
	if (rc < 0) {
		bt_error_prefix(err, "%s", run->path);
		free(front->name);
		front->name = NULL;
		return rc;
	}
	/* from here on nothing fails: the front counts for what is wanted */
	front->index = g->index;
	front->run = run;
	bt_list_add_tail(&run->fronts, &front->link);
	*root = run->nodes[g->links->lower->index];
	return 0;
}

void bt_run_link(struct bt_front *front)
{
	const struct bt_mason_node *g =
		front->run->file->graph->nodes[front->index];

	front->top->entry = g->links->upper;
}

/* ---- leaving --------------------------------------------------------------- */

/* Before the last flush goes down: which nodes are to treat it as any other.
 * `stays` is set anew for all nodes: others may have come or gone since. */
void bt_run_leaving(struct bt_front *front)
{
	struct bt_run *run = front->run;
	uint32_t i, count = run->file->graph->count;
	bool *live = calloc(count, sizeof(*live));

	/* without memory all of it is told that it goes on: it is not marked
	 * clean, which costs time and no data */
	if (!live)
		return;
	bt_run_reach(run, front, run->file->graph, live);
	for (i = 0; i < count; i++)
		if (run->nodes[i])
			run->nodes[i]->stays = live[i];
	free(live);
}

/* What the front reaches alone has children for it alone. Without memory that is
 * left to bt_run_give_up_shared. */
void bt_run_give_up(struct bt_front *front)
{
	struct bt_run *run = front->run;
	uint32_t i, count = run->file->graph->count;
	bool *live = calloc(count, sizeof(*live));

	front->top->gives_up = true;
	if (live)
		bt_run_reach(run, front, run->file->graph, live);
	for (i = 0; live && i < count; i++)
		if (run->nodes[i] && !live[i])
			run->nodes[i]->gives_up = true;
	free(live);
	bt_env_unpark(run->env);
}

/* Also what other fronts reach: they get errors that they would not have got, which
 * is why it comes only where the front cannot go without it. Without memory all
 * nodes are meant. */
void bt_run_give_up_shared(struct bt_front *front)
{
	struct bt_run *run = front->run;
	uint32_t i, count = run->file->graph->count;
	bool *mine = calloc(count, sizeof(*mine));

	if (mine) {
		mine[front->index] = true;
		reach_down(run->file->graph, mine);
	}
	for (i = 0; i < count; i++)
		if (run->nodes[i] && (!mine || mine[i]))
			run->nodes[i]->gives_up = true;
	free(mine);
	bt_env_unpark(run->env);
}

/* By an edge of another node or disk; the edge of the disk that goes was cut. */
static bool is_wanted(const struct bt_node *node)
{
	return node->refs > 0;
}

/* The front is its owner's, and may be used again; nodes are not looked at. */
void bt_run_forget(struct bt_front *front)
{
	bt_list_del(&front->link);
	front->run = NULL;
	free(front->name);
	front->name = NULL;
}

void bt_run_leave(struct bt_front *front)
{
	struct bt_run *run = front->run;
	const struct bt_mason_graph *graph = run->file->graph;
	uint32_t i;

	bt_run_forget(front);
	/* from the top: what the last edge has left can go */
	bt_run_sweep(run);
	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->order[i];
		struct bt_node *node = run->nodes[g->index];

		if (!node)
			continue;
		/* bt_run_give_up may have changed what its errors lead to */
		if (is_wanted(node)) {
			node->gives_up = false;
			continue;
		}
		run->nodes[g->index] = NULL;
		bt_run_drop(node);
	}
}
