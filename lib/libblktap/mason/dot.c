/* SPDX-License-Identifier: BSD-3-Clause */
/* The graph for Graphviz. Names and arguments are escaped: what they hold is
 * the file's business, not dot's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "mason/core.h"
#include "mason/private.h"

/* Inside "..", where \n is a line of a label. */
static void escaped(struct bt_strbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			bt_strbuf_putc(out, '\\');
		bt_strbuf_putc(out, (unsigned char)*text < ' ' ? ' ' : *text);
	}
}

/* Secrets are references, so they can be shown. */
static void draw_args(const struct bt_mason_node *node, struct bt_strbuf *out)
{
	const struct blktap_param *p;
	bool any = false;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(node->cls, i)); i++) {
		if (!bt_args_is_set(node->args, p->name))
			continue;
		bt_strbuf_puts(out, any ? ", " : "");
		if (!(p->flags & BLKTAP_PARAM_REQUIRED))
			bt_strbuf_printf(out, "%s=", p->name);
		escaped(out, bt_args_string(node->args, p->name));
		any = true;
	}
}

/* What an assert can ask for: "state=synced". */
static void draw_values(const struct bt_node *node, struct bt_strbuf *out)
{
	const char *name = node->cls->values;
	char key[64], text[64];

	while (name && *name) {
		size_t length = strcspn(name, ",");

		snprintf(key, sizeof(key), "%.*s", (int)length, name);
		name += length + (name[length] == ',');
		if (!node->cls->get_value(node, key, text, sizeof(text)))
			continue;
		bt_strbuf_printf(out, "\\n%s=", key);
		escaped(out, text);
	}
}

/* A fingerprint only of what is read-only, as @expect takes no other. */
static void draw_figures(const struct bt_node *node, struct bt_strbuf *out)
{
	const struct bt_node_stats *s = &node->stats;
	char fingerprint[BT_FINGERPRINT_MAX];
	uint64_t errors = 0;
	unsigned int op;

	for (op = 0; op < BLKTAP_OP_COUNT; op++)
		errors += s->errors[op];
	bt_strbuf_printf(out,
			 "\\n%" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64
			 " in flight",
			 s->completed[BLKTAP_OP_READ],
			 s->completed[BLKTAP_OP_WRITE], node->has);
	if (errors)
		bt_strbuf_printf(out, "\\n%" PRIu64 " errors", errors);
	if (node->stopped)
		bt_strbuf_puts(out, "\\nstopped");
	if (node->limits.read_only &&
	    !bt_core_fingerprint(node, fingerprint, sizeof(fingerprint)))
		bt_strbuf_printf(out, "\\nfingerprint=%s", fingerprint);
	draw_values(node, out);
}

/* A node that has a name of its own shows it; what another was called by the check
 * ("raw#1") tells nobody anything. */
static void draw_node(const struct bt_mason_node *node,
		      const struct bt_node *running, struct bt_strbuf *out)
{
	const char *shape = bt_mason_is_front(node) ? "house"
			    : node->links	    ? "box"
						    : "cylinder";

	bt_strbuf_puts(out, "\t\"");
	escaped(out, node->name);
	bt_strbuf_printf(out, "\" [shape=%s, label=\"", shape);
	if (!node->anonymous) {
		escaped(out, node->name);
		bt_strbuf_puts(out, "\\n");
	}
	bt_strbuf_printf(out, "%s(", node->cls->name);
	draw_args(node, out);
	bt_strbuf_putc(out, ')');
	if (running)
		draw_figures(running, out);
	bt_strbuf_puts(out, "\"];\n");
}

/* Dashed: only read. A port is named where its class has more than one. */
static void draw_link(const struct bt_mason_node *node,
		      const struct bt_mason_link *link, struct bt_strbuf *out)
{
	const struct bt_port_desc *port = bt_link_port(node, link);
	const struct bt_port_desc *uppers = link->lower->cls->uppers;

	bt_strbuf_puts(out, "\t\"");
	escaped(out, node->name);
	bt_strbuf_puts(out, "\" -> \"");
	escaped(out, link->lower->name);
	bt_strbuf_puts(out, "\" [");
	if (!link->writes)
		bt_strbuf_puts(out, "style=dashed, ");
	if (port->flags & BT_PORT_ARRAY)
		bt_strbuf_printf(out, "taillabel=\"%u\"", link->slot);
	else if (node->cls->ports[1].name)
		bt_strbuf_printf(out, "taillabel=\"%s\"", port->name);
	else
		bt_strbuf_puts(out, "taillabel=\"\"");
	if (uppers)
		bt_strbuf_printf(out, ", headlabel=\"%s\"",
				 uppers[link->upper].name);
	bt_strbuf_puts(out, "];\n");
}

void bt_mason_draw(const struct bt_mason_graph *g,
		   struct bt_node *const *running, struct bt_strbuf *out)
{
	const struct bt_mason_link *link;
	uint32_t i;

	bt_strbuf_puts(out, "digraph mason {\n\tnode [fontsize=10];\n"
			    "\tedge [fontsize=8];\n");
	for (i = 0; i < g->count; i++)
		draw_node(g->nodes[i], running ? running[i] : NULL, out);
	for (i = 0; i < g->count; i++)
		for (link = g->nodes[i]->links; link; link = link->next)
			draw_link(g->nodes[i], link, out);
	bt_strbuf_puts(out, "}\n");
}

int blktap_mason_dot(const struct blktap_mason *mason, char **out,
		     struct blktap_error **err)
{
	const struct bt_mason_graph *g = bt_mason_get_graph(mason);
	struct bt_strbuf sb = BT_STRBUF_INIT;

	if (!g)
		return bt_fail(err, -EINVAL, "check it first",
			       "%s: there are errors in it",
			       mason->sources[0].name);
	bt_mason_draw(g, NULL, &sb);
	*out = bt_strbuf_steal(&sb);
	return *out ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}
