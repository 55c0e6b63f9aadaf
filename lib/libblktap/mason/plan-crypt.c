/* SPDX-License-Identifier: BSD-3-Clause */
/* Data that stays where it is cannot change from clear to encrypted: the new graph
 * would read it through a crypt that did not write it, or the other way round. It
 * stays where a node is kept, and where another one is opened on the same: a file
 * that is in use is locked, but a server lets anybody in. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/plan.h"
#include "util/checked.h"

/* What an old node stands on. */
struct place {
	char *what;
	uint32_t node;
};

struct places {
	struct place *list; /* sorted by what */
	size_t count;
	bool failed;
	uint32_t node; /* the one that is asked */
};

/* Whether some way from a disk to each node passes one that encrypts. By the
 * order, so a node is marked before it is looked at. */
static void mark_crypt(const struct bt_mason_graph *graph, bool *crypt)
{
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->order[i];

		for (link = g->links; link; link = link->next)
			crypt[link->lower->index] |=
				crypt[g->index] ||
				g->cls->flags & BT_CLASS_ENCRYPTS;
	}
}

static void add_place(void *opaque, const char *what)
{
	struct places *places = opaque;
	struct place *list =
		reallocarray(places->list, places->count + 1, sizeof(*list));

	places->failed |= !list;
	if (!list)
		return;
	places->list = list;
	list[places->count].node = places->node;
	list[places->count].what = strdup(what);
	if (list[places->count].what)
		places->count++;
	else
		places->failed = true;
}

static int by_what(const void *a, const void *b)
{
	return strcmp(((const struct place *)a)->what,
		      ((const struct place *)b)->what);
}

static int refuse(const struct bt_mason_node *g, bool encrypted,
		  struct blktap_error **err)
{
	return bt_fail(err, -EINVAL, "copy the data to a new image instead",
		       "'%s' holds %s, which would be taken for %s", g->name,
		       encrypted ? "clear text" : "ciphertext",
		       encrypted ? "ciphertext" : "clear text");
}

struct look {
	const struct places *old;
	const bool *before;
	bool after;
	bool differs;
};

static void look_up(void *opaque, const char *what)
{
	struct look *look = opaque;
	const struct place key = { .what = (char *)(uintptr_t)what };
	const struct place *found = NULL;

	if (look->old->count)
		found = bsearch(&key, look->old->list, look->old->count,
				sizeof(key), by_what);
	if (found && look->before[found->node] != look->after)
		look->differs = true;
}

static bool has_any(const bool *marks, uint32_t count)
{
	return memchr(marks, true, count) != NULL;
}

/* Fronts and volatile nodes stand on nothing. */
static void find_places(const struct bt_plan *plan, struct places *places)
{
	const struct bt_mason_graph *old = plan->run->file->graph;

	for (places->node = 0; places->node < old->count; places->node++)
		if (plan->run->nodes[places->node])
			bt_mason_stands_on(old->nodes[places->node], add_place,
					   places);
	if (places->count)
		qsort(places->list, places->count, sizeof(*places->list),
		      by_what);
}

static int check(const struct bt_plan *plan, const bool *before,
		 const bool *after, struct blktap_error **err)
{
	const struct bt_mason_graph *new = plan->file->graph;
	struct places places = { .count = 0 };
	uint32_t i;
	int rc = 0;

	find_places(plan, &places);
	if (places.failed)
		rc = -ENOMEM;
	for (i = 0; i < new->count && !rc; i++) {
		struct look look = { &places, before, after[i], false };

		if (bt_plan_is_kept(&plan->nodes[i]))
			look.differs = before[plan->nodes[i].old] != after[i];
		else
			bt_mason_stands_on(new->nodes[i], look_up, &look);
		if (look.differs)
			rc = refuse(new->nodes[i], after[i], err);
	}
	while (places.count)
		free(places.list[--places.count].what);
	free(places.list);
	return rc;
}

int bt_plan_check_crypt(const struct bt_plan *plan, struct blktap_error **err)
{
	const struct bt_mason_graph *new = plan->file->graph;
	const struct bt_mason_graph *old = plan->run->file->graph;
	bool *before = calloc(old->count + 1, sizeof(*before));
	bool *after = calloc(new->count + 1, sizeof(*after));
	int rc = before && after ? 0 : -ENOMEM;

	if (!rc) {
		mark_crypt(old, before);
		mark_crypt(new, after);
		if (has_any(before, old->count) || has_any(after, new->count))
			rc = check(plan, before, after, err);
	}
	free(before);
	free(after);
	return rc;
}
