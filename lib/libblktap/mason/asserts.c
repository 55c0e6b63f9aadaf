/* SPDX-License-Identifier: BSD-3-Clause */
/* What a file asserts: of the graph that runs (run.NODE.NAME), and of the nodes
 * it makes itself (NODE.NAME). Names of nodes may have dots, those of values have
 * none. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/apply.h"
#include "mason/core.h"
#include "util/checked.h"

#define VALUE_MAX 128

/* A class's own value goes before one of the same name that every node has. */
bool bt_node_value(const struct bt_node *node, const char *name, char *text,
		   size_t size)
{
	static const char *const names[] = { "size", "block_size", "in_flight",
					     "stopped", "class" };
	const struct bt_limits *l = &node->limits;
	uint64_t numbers[] = { l->size, l->block_size, node->has,
			       node->stopped };
	size_t i;

	if (node->cls->get_value &&
	    node->cls->get_value(node, name, text, size))
		return true;
	if (!strcmp(name, "fingerprint"))
		return bt_core_fingerprint(node, text, size) == 0;
	for (i = 0; i < BT_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			break;
	if (i == BT_ARRAY_SIZE(names))
		return false;
	if (i == BT_ARRAY_SIZE(numbers))
		snprintf(text, size, "%s", node->cls->name);
	else
		snprintf(text, size, "%llu", (unsigned long long)numbers[i]);
	return true;
}

/* NULL for a node that no open disk reaches: it does not run. */
static struct bt_node *find_new(const struct bt_plan *plan, const char *name)
{
	uint32_t i;

	for (i = 0; i < plan->file->graph->count; i++)
		if (!strcmp(plan->file->graph->nodes[i]->name, name))
			return plan->running[i];
	return NULL;
}

/* "run.m.state" -> the node and "state". */
static struct bt_node *find(const struct bt_plan *plan, const char *path,
			    const char **what)
{
	bool running = !strncmp(path, "run.", 4);
	const char *at = running ? path + 4 : path;
	const char *dot = strrchr(at, '.');
	struct bt_node *node;
	char *name;

	if (!dot)
		return NULL;
	name = strndup(at, (size_t)(dot - at));
	*what = dot + 1;
	if (!name)
		return NULL;
	node = running ? bt_run_find(plan->run, name) : find_new(plan, name);
	free(name);
	return node;
}

/* As sizes where both are ("1G" is 1024M), else as words, which are only the
 * same or not. */
static bool holds(const char *is, const char *rel, const char *wanted)
{
	uint64_t a, b;
	int order;

	if (bt_parse_size(is, &a) < 0 || bt_parse_size(wanted, &b) < 0) {
		order = strcmp(is, wanted);
		if (strcmp(rel, "==") && strcmp(rel, "!="))
			return false;
	} else {
		order = a < b ? -1 : a > b;
	}
	if (!strcmp(rel, "=="))
		return !order;
	if (!strcmp(rel, "!="))
		return order;
	if (rel[0] == '<')
		return order < 0 || (rel[1] && !order);
	return order > 0 || (rel[1] && !order);
}

static int check_one(const struct bt_plan *plan, const struct bt_cmp *cmp,
		     const struct bt_pos *pos, struct blktap_error **err)
{
	char text[VALUE_MAX];
	const char *what = "", *file;
	struct bt_node *node = find(plan, cmp->path, &what);
	uint32_t line, column;

	file = bt_mason_locate(plan->file->mason, *pos, &line, &column);
	if (!node)
		return bt_fail(err, -ENOENT, NULL,
			       "%s:%u:%u: assert: the node of '%s' does not "
			       "run",
			       file, line, column, cmp->path);
	if (!bt_node_value(node, what, text, sizeof(text))) {
		snprintf(text, sizeof(text),
			 "it has size,block_size,in_flight,stopped,class,"
			 "fingerprint%s%s",
			 node->cls->values ? "," : "",
			 node->cls->values ? node->cls->values : "");
		return bt_fail(err, -ENOENT, text,
			       "%s:%u:%u: assert: '%s' (%s) has no value '%s'",
			       file, line, column, node->name, node->cls->name,
			       what);
	}
	if (holds(text, cmp->rel, cmp->value->text))
		return 0;
	return bt_fail(err, -EAGAIN, "apply it again when it holds",
		       "%s:%u:%u: assert: %s is %s, and not %s %s", file, line,
		       column, cmp->path, text, cmp->rel, cmp->value->text);
}

/* Looked at while the gates are held, so what holds still holds when the edges
 * swing. */
int bt_apply_asserts(const struct bt_plan *plan, struct blktap_error **err)
{
	const struct bt_mason_graph *graph = plan->file->graph;
	const struct bt_cmp *cmp;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < graph->assert_count; i++)
		for (cmp = graph->asserts[i].cmps; cmp && !rc; cmp = cmp->next)
			rc = check_one(plan, cmp, &graph->asserts[i].pos, err);
	return rc;
}
