/* SPDX-License-Identifier: BSD-3-Clause */
/* A graph back into the language: macros unfolded, variables replaced, nodes
 * without a name given one. Checked again, it is the same graph. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "mason/run.h"
#include "util/strbuf.h"

/* Of a def, or of a node without a name: not a name of the language. */
static bool is_made(const struct bt_mason_node *g)
{
	return g->anonymous || strchr(g->name, '.');
}

/* Whether a name ends with "_N" and so many underscores behind it. */
static bool has_end(const char *name, uint32_t *index, uint32_t *pad)
{
	size_t end = strlen(name), at;

	while (end && name[end - 1] == '_')
		end--;
	*pad = (uint32_t)(strlen(name) - end);
	for (at = end; at && isdigit((unsigned char)name[at - 1]); at--)
		;
	if (at == end || end - at > 6 || !at || name[at - 1] != '_')
		return false;
	*index = (uint32_t)strtoul(name + at, NULL, 10);
	return true;
}

/* How many underscores the names that are made end with, so that none is one that
 * stands in the text: "raw_1_3" may. */
static uint32_t find_pad(const struct bt_mason_graph *graph)
{
	uint32_t i, index, pad, most = 0;

	for (i = 0; i < graph->count; i++)
		if (!is_made(graph->nodes[i]) &&
		    has_end(graph->nodes[i]->name, &index, &pad) &&
		    index < graph->count && is_made(graph->nodes[index]) &&
		    pad >= most)
			most = pad + 1;
	return most;
}

/* The index keeps them apart. A '-' is part of a name, so it stays: with another name
 * the node would be another one. */
static void put_name(struct bt_strbuf *out, const struct bt_mason_node *g,
		     uint32_t pad)
{
	const char *at;

	/* "a.n" of a def, "raw#1" of a node without a name */
	for (at = g->name; *at; at++)
		bt_strbuf_putc(out, isalnum((unsigned char)*at) || *at == '-'
					    ? *at
					    : '_');
	if (!is_made(g))
		return;
	bt_strbuf_printf(out, "_%u", g->index);
	while (pad--)
		bt_strbuf_putc(out, '_');
}

static void put_list(struct bt_strbuf *out, const char *text)
{
	bt_strbuf_putc(out, '[');
	while (*text) {
		size_t length = strcspn(text, "\n");

		bt_strbuf_quote(out, text, length);
		text += length;
		if (*text)
			bt_strbuf_puts(out, ", ");
		text += *text == '\n';
	}
	bt_strbuf_putc(out, ']');
}

/* All values but numbers in quotes, as texts may hold anything. */
static void put_args(struct bt_strbuf *out, const struct blktap_class *cls,
		     const struct bt_args *args, const char *prefix, bool *any)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(cls, i)); i++) {
		const char *text = bt_args_string(args, p->name);

		if (!bt_args_is_set(args, p->name))
			continue;
		bt_strbuf_printf(out, "%s%s%s=", *any ? ", " : "", prefix,
				 p->name);
		*any = true;
		if (p->type == BLKTAP_PARAM_LIST)
			put_list(out, text);
		else if (p->type == BLKTAP_PARAM_STRING ||
			 p->type == BLKTAP_PARAM_PATH ||
			 p->type == BLKTAP_PARAM_ENUM)
			bt_strbuf_quote(out, text, strlen(text));
		else
			bt_strbuf_puts(out, text);
	}
}

static void put_link(struct bt_strbuf *out, const struct bt_mason_node *g,
		     const struct bt_mason_link *link, uint32_t pad)
{
	const struct bt_port_desc *port = &g->cls->ports[link->port];
	const struct bt_port_desc *uppers = link->lower->cls->uppers;

	put_name(out, g, pad);
	if (port->flags & BT_PORT_ARRAY)
		bt_strbuf_printf(out, "[%u]", link->slot);
	else if (g->cls->ports[1].name)
		bt_strbuf_printf(out, "[%s]", port->name);
	bt_strbuf_puts(out, " -> ");
	if (uppers)
		bt_strbuf_printf(out, "[%s] ", uppers[link->upper].name);
	put_name(out, link->lower, pad);
	bt_strbuf_puts(out, ";\n");
}

void bt_run_dump(const struct bt_run *run, struct bt_strbuf *out)
{
	const struct bt_mason_graph *graph = run->file->graph;
	const struct bt_mason_link *link;
	uint32_t i, pad = find_pad(graph);

	bt_strbuf_printf(out, "# generation %llu of %s\n",
			 (unsigned long long)run->generation, run->path);
	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->nodes[i];
		bool any = false;

		put_name(out, g, pad);
		bt_strbuf_printf(out, " :: %s(", g->cls->name);
		put_args(out, g->cls, g->args, "", &any);
		put_args(out, bt_mason_get_core_class(), g->core, "@", &any);
		bt_strbuf_puts(out, ");\n");
	}
	for (i = 0; i < graph->count; i++)
		for (link = graph->nodes[i]->links; link; link = link->next)
			put_link(out, graph->nodes[i], link, pad);
}
