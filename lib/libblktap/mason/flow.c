/* SPDX-License-Identifier: BSD-3-Clause */
/* What flows through the graph: writes, and the needs of those who read; clear
 * text and ciphertext; and what must outlive the process. Each is carried down
 * or up along the order of the graph, once. */
#include <stdlib.h>
#include <string.h>

#include "mason/private.h"

/* What is known of a node beside what the graph keeps. */
struct state {
	/* the first edge that writes to it, and its upper node */
	const struct bt_mason_link *writer;
	const struct bt_mason_node *writer_node;
	bool writer_done; /* its second writer was told of */
	/* the first edge that wants it unchanged */
	const struct bt_mason_link *keeper;
	const struct bt_mason_node *keeper_node;
	/* edges that bring clear text and ciphertext */
	const struct bt_mason_link *brings[2];
	bool mixed; /* both, here or above */
	/* below it, along writes: bit 0 clear text, bit 1 ciphertext */
	uint32_t below;
};

static bool bool_arg(const struct bt_mason_node *node, const char *name)
{
	return bt_args_bool(node->args, name);
}

bool bt_mason_holds(const struct bt_mason_node *node, const char *condition)
{
	return bt_args_hold(node->args, condition);
}

/* ---- writers --------------------------------------------------------------- */

/* Whether both may write to what is below them. Of parts it is looked at later
 * where they lie, since not the first two alone may be over each other. Two
 * parts of one node, or two fronts that say so. Anything else that writes to
 * one place by two ways would see its own data change. */
static bool may_share(const struct bt_mason_node *a,
		      const struct bt_mason_node *b)
{
	if (a != b && a->cls->flags & b->cls->flags & BT_CLASS_PART)
		return true;
	return bt_mason_is_front(a) && bt_mason_is_front(b) &&
	       bool_arg(a, "shared") && bool_arg(b, "shared");
}

static void two_writers(struct blktap_mason *m,
			const struct bt_mason_node *first,
			const struct bt_mason_link *first_link,
			const struct bt_mason_node *node,
			const struct bt_mason_link *link)
{
	struct bt_diag *diag = bt_mason_error(
		m, link->pos,
		bt_mason_is_front(node) ? "give one ro=true, or all shared=true"
					: NULL,
		"'%s' has two writers: '%s' and '%s'", link->lower->name,
		first->name, node->name);

	bt_mason_note(m, diag, first_link->pos, "'%s' writes to it here",
		      first->name);
}

/* The first writer is kept; each further one is compared with it. */
static void add_writer(struct blktap_mason *m, struct state *states,
		       const struct bt_mason_node *node,
		       const struct bt_mason_link *link)
{
	struct state *state = &states[link->lower->index];

	link->lower->written = true;
	if (!state->writer) {
		state->writer = link;
		state->writer_node = node;
		return;
	}
	if (state->writer_done || may_share(state->writer_node, node))
		return;
	state->writer_done = true;
	two_writers(m, state->writer_node, state->writer, node, link);
}

/* An edge by which a node writes to a part of what is below. */
struct part {
	const struct bt_mason_node *node;
	const struct bt_mason_link *link;
	uint64_t at, size;
	uint32_t order; /* in which they were found */
};

/* By what they are a part of, then from its start on. */
static int by_start(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	if (x->link->lower != y->link->lower)
		return x->link->lower->index < y->link->lower->index ? -1 : 1;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

/* Counts where parts is NULL. */
static uint32_t list_parts(const struct bt_mason_graph *g, struct part *parts)
{
	const struct bt_mason_link *link;
	uint32_t i, n = 0;

	for (i = 0; i < g->count; i++) {
		const struct bt_mason_node *node = g->order[i];

		if (!(node->cls->flags & BT_CLASS_PART))
			continue;
		for (link = node->links; link; link = link->next) {
			if (!link->writes)
				continue;
			if (parts)
				parts[n] = (struct part){
					.node = node,
					.link = link,
					.at = bt_args_number(node->args,
							     "offset"),
					.size = bt_args_number(node->args,
							       "size"),
					.order = n,
				};
			n++;
		}
	}
	return n;
}

/* Sorted by where they start, some two lie over each other only if two neighbours
 * do. */
static void check_parts(struct blktap_mason *m, struct state *states)
{
	uint32_t i, n = list_parts(&m->graph, NULL);
	struct part *parts = bt_mason_alloc(m, (n + 1) * sizeof(*parts));

	if (!parts)
		return;
	list_parts(&m->graph, parts);
	qsort(parts, n, sizeof(*parts), by_start);
	for (i = 1; i < n; i++) {
		const struct part *a = &parts[i - 1], *b = &parts[i];
		struct state *state = &states[b->link->lower->index];

		if (a->link->lower != b->link->lower || state->writer_done ||
		    b->at - a->at >= a->size)
			continue;
		state->writer_done = true;
		if (a->order < b->order)
			two_writers(m, a->node, a->link, b->node, b->link);
		else
			two_writers(m, b->node, b->link, a->node, a->link);
	}
}

/* Whether writes go through an edge. What a node keeps in a store it writes although
 * nobody writes to the node. A node that is read-only, an edge that only reads
 * and an upper port that only reads each end the way of writes. */
static bool link_writes(struct blktap_mason *m,
			const struct bt_mason_node *node,
			const struct bt_mason_link *link)
{
	const struct bt_port_desc *port = bt_link_port(node, link);
	const struct bt_port_desc *uppers = link->lower->cls->uppers;
	bool read_only = bool_arg(link->lower, "ro");

	if (port->flags & BT_PORT_STORE && read_only)
		bt_mason_error(m, link->pos, NULL,
			       "'%s' is read-only, but '%s' (%s) keeps its "
			       "data in it",
			       link->lower->name, node->name, node->cls->name);
	if (read_only || port->flags & BT_PORT_READS ||
	    (uppers && uppers[link->upper].flags & BT_PORT_READS))
		return false;
	return node->written || port->flags & BT_PORT_STORE;
}

/* All above has been seen, as nodes come in order: `written` and keeper of a
 * node are final here. What must not change must not change below either; but what
 * a node keeps in a store changes by that node alone, and not what it shows: so a
 * cache may stand before a base. */
static void pass_down(struct blktap_mason *m, struct state *states,
		      const struct bt_mason_node *node,
		      struct bt_mason_link *link)
{
	const struct bt_port_desc *port = bt_link_port(node, link);
	struct state *state = &states[link->lower->index];

	link->writes = link_writes(m, node, link);
	if (link->writes)
		add_writer(m, states, node, link);
	if (state->keeper)
		return;
	if (port->flags & BT_PORT_UNCHANGED) {
		state->keeper = link;
		state->keeper_node = node;
	} else if (states[node->index].keeper &&
		   !(port->flags & BT_PORT_STORE)) {
		state->keeper = states[node->index].keeper;
		state->keeper_node = states[node->index].keeper_node;
	}
}

static void check_writers(struct blktap_mason *m, struct state *states)
{
	struct bt_mason_graph *g = &m->graph;
	struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < g->count; i++) {
		struct bt_mason_node *node = g->order[i];

		if (bt_mason_is_front(node))
			node->written = !bool_arg(node, "ro");
		for (link = node->links; node->reached && link;
		     link = link->next)
			pass_down(m, states, node, link);
	}
	check_parts(m, states);
	for (i = 0; i < g->count; i++) {
		const struct bt_mason_node *node = g->order[i];
		const struct state *s = &states[node->index];
		struct bt_diag *diag;

		/* told of where the two meet, not again below */
		if (!s->writer || !s->keeper ||
		    (states[s->writer_node->index].keeper == s->keeper &&
		     s->writer_node->written &&
		     states[s->writer_node->index].writer))
			continue;
		diag = bt_mason_error(m, s->writer->pos, NULL,
				      "'%s' writes to '%s', which '%s' needs "
				      "unchanged",
				      s->writer_node->name, node->name,
				      s->keeper_node->name);
		bt_mason_note(m, diag, s->keeper->pos,
			      "'%s' needs it unchanged here",
			      s->keeper_node->name);
	}
}

/* ---- the same data under two nodes ----------------------------------------- */

/* In a file's path, "//" and "/./" say nothing more than "/". Not resolved: the
 * check opens nothing. Two names by links are found when the file is locked. */
static char *plain_path(struct blktap_mason *m, const char *path)
{
	char *out = bt_mason_strndup(m, path, strlen(path)), *to = out;

	bool is_path = !strncmp(path, "file:", 5);

	for (; out && *path; path++) {
		if (is_path && path[0] == '/' &&
		    (path[1] == '/' || (path[1] == '.' && path[2] == '/'))) {
			path += path[1] == '.';
			continue;
		}
		*to++ = *path;
	}
	if (out)
		*to = '\0';
	return out;
}

void bt_mason_stands_on(const struct bt_mason_node *node,
			void (*fn)(void *opaque, const char *what),
			void *opaque)
{
	struct bt_strbuf words = BT_STRBUF_INIT, sb = BT_STRBUF_INIT;
	const struct blktap_param *p;
	uint32_t i;

	if (node->cls->flags & (BT_CLASS_VOLATILE | BT_CLASS_FRONT))
		return;
	for (i = 0; (p = blktap_class_get_param(node->cls, i)); i++) {
		const char *text = bt_args_string(node->args, p->name);

		/* a key says what data is, and not where */
		if (!(p->flags & BLKTAP_PARAM_IDENTITY) || !text ||
		    p->flags & BLKTAP_PARAM_SECRET)
			continue;
		if (p->type == BLKTAP_PARAM_STRING) {
			bt_strbuf_printf(&words, "%s%s", words.len ? " " : "",
					 text);
		} else if (p->type == BLKTAP_PARAM_PATH) {
			bt_strbuf_printf(&sb, "file:%s", text);
			if (!sb.failed)
				fn(opaque, bt_strbuf_str(&sb));
			bt_strbuf_fini(&sb);
		}
	}
	/* all of them together: two servers may have exports of one name */
	if (words.len)
		bt_strbuf_printf(&sb, "%s:%s", node->cls->name,
				 bt_strbuf_str(&words));
	if (sb.len && !sb.failed && !words.failed)
		fn(opaque, bt_strbuf_str(&sb));
	bt_strbuf_fini(&sb);
	bt_strbuf_fini(&words);
}

struct storage {
	const struct bt_mason_node *written, *kept;
};

struct storage_scan {
	struct blktap_mason *m;
	struct state *states;
	struct bt_names names;
	struct bt_mason_node *node;
};

/* By what a node stands on: the names table is used for it, with nodes' kind.
 */
static void add_storage(void *opaque, const char *what)
{
	struct storage_scan *scan = opaque;
	struct blktap_mason *m = scan->m;
	const char *key = plain_path(m, what);
	struct bt_name *name;
	struct storage *st;

	if (!key)
		return;
	name = bt_names_find(&scan->names, BT_NAME_NODE, key);
	if (!name) {
		name = bt_names_add(m, &scan->names, BT_NAME_NODE, key,
				    scan->node->pos);
		st = bt_mason_alloc(m, sizeof(*st));
		if (!name || !st)
			return;
		name->what = st;
	}
	st = name->what;
	if (scan->node->written && !st->written)
		st->written = scan->node;
	if (scan->states[scan->node->index].keeper && !st->kept)
		st->kept = scan->node;
}

/* Told at the second node. A reader beside a writer of the same file by another
 * node sees blocks that the writer keeps in memory, or not. */
static void judge_storage(void *opaque, const char *what)
{
	struct storage_scan *scan = opaque;
	struct blktap_mason *m = scan->m;
	const struct bt_mason_node *node = scan->node;
	const char *key = plain_path(m, what);
	const struct bt_name *name;
	const struct storage *st;
	struct bt_diag *diag;

	name = key ? bt_names_find(&scan->names, BT_NAME_NODE, key) : NULL;
	if (!name)
		return;
	st = name->what;
	key = strchr(key, ':') + 1;
	if (node->written && st->kept && st->kept != node) {
		const struct state *kept = &scan->states[st->kept->index];

		diag = bt_mason_error(m, node->pos, NULL,
				      "'%s' writes %s, which '%s' needs "
				      "unchanged",
				      node->name, key, kept->keeper_node->name);
		bt_mason_note(m, diag, kept->keeper->pos,
			      "needed unchanged here, as '%s'", st->kept->name);
	} else if (node->written && st->written != node) {
		diag = bt_mason_error(m, node->pos, "use one node for both",
				      "%s has two writers: '%s' and '%s'", key,
				      st->written->name, node->name);
		bt_mason_note(m, diag, st->written->pos, "the other one");
	} else if (!node->written && st->written && st->kept != node) {
		diag = bt_mason_error(m, node->pos, "use one node for both",
				      "'%s' reads %s, which '%s' writes",
				      node->name, key, st->written->name);
		bt_mason_note(m, diag, st->written->pos, "written by this one");
	}
}

/* Twice over all nodes: whoever writes may come behind whoever reads. */
static void check_storage(struct blktap_mason *m, struct state *states)
{
	struct storage_scan scan = { .m = m, .states = states };
	uint32_t i;

	for (i = 0; i < m->graph.count; i++) {
		scan.node = m->graph.nodes[i];
		if (scan.node->reached)
			bt_mason_stands_on(scan.node, add_storage, &scan);
	}
	for (i = 0; i < m->graph.count; i++) {
		scan.node = m->graph.nodes[i];
		if (scan.node->reached)
			bt_mason_stands_on(scan.node, judge_storage, &scan);
	}
}

/* ---- clear text and ciphertext --------------------------------------------- */

/* One node that is met on both ways holds what nobody can read. brings[] is
 * filled on the way down; a node below a mixed one is not told of again. */
static void check_mixed(struct blktap_mason *m, struct state *states)
{
	struct bt_mason_graph *g = &m->graph;
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = 0; i < g->count; i++) {
		const struct bt_mason_node *node = g->order[i];
		struct state *s = &states[node->index];
		bool crypt = node->cls->flags & BT_CLASS_ENCRYPTS;
		struct bt_diag *diag;

		if (s->brings[0] && s->brings[1] && !s->mixed) {
			diag = bt_mason_error(m, node->pos, NULL,
					      "both clear text and ciphertext "
					      "reach '%s'",
					      node->name);
			bt_mason_note(m, diag, s->brings[0]->pos,
				      "clear text comes here");
			bt_mason_note(m, diag, s->brings[1]->pos,
				      "ciphertext comes here");
			s->mixed = true;
		}
		for (link = node->links; node->reached && link;
		     link = link->next) {
			struct state *to = &states[link->lower->index];

			to->mixed |= s->mixed;
			if (!crypt && !s->brings[1] && !to->brings[0])
				to->brings[0] = link;
			if ((crypt || s->brings[1]) && !to->brings[1])
				to->brings[1] = link;
		}
	}
}

static uint32_t text_of(const struct bt_mason_node *node,
			const struct state *states,
			const struct bt_mason_link *link)
{
	uint32_t below = states[link->lower->index].below;

	return node->cls->flags & BT_CLASS_ENCRYPTS && below ? 2u : below;
}

/* The same data on one leaf clear and on another not: legal, seldom meant. From
 * the bottom up. A node whose own ways are mixed below is told of there. */
static void check_leaks(struct blktap_mason *m, struct state *states)
{
	struct bt_mason_graph *g = &m->graph;
	uint32_t i;

	for (i = g->count; i-- > 0;) {
		const struct bt_mason_node *node = g->order[i];
		const struct bt_mason_link *link, *seen[3] = { NULL };
		struct state *s = &states[node->index];
		struct bt_diag *diag;

		s->below = node->links ? 0 : 1;
		for (link = node->links; link; link = link->next) {
			uint32_t text =
				link->writes ? text_of(node, states, link) : 0;

			s->below |= text;
			if (text == 1 || text == 2)
				seen[text - 1] = link;
			else if (text)
				seen[2] = link;
		}
		if (!seen[0] || !seen[1] || seen[2])
			continue;
		diag = bt_mason_warn(m, node->pos, NULL,
				     "'%s' writes the same data clear and "
				     "encrypted",
				     node->name);
		bt_mason_note(m, diag, seen[0]->pos, "clear on this way");
		bt_mason_note(m, diag, seen[1]->pos, "encrypted on this way");
	}
}

/* ---- what outlives the process --------------------------------------------- */

/* Data that is only read need not outlive anything. */
static bool lower_volatile(const struct bt_mason_node *node)
{
	const struct bt_mason_link *link;
	uint32_t lost = 0, all = 0;

	for (link = node->links; link; link = link->next) {
		if (bt_link_port(node, link)->flags & BT_PORT_READS)
			continue;
		all++;
		lost += link->lower->is_volatile;
	}
	return node->cls->flags & BT_CLASS_REDUNDANT ? all && lost == all
						     : lost;
}

static void check_volatile(struct blktap_mason *m)
{
	struct bt_mason_graph *g = &m->graph;
	const struct bt_mason_link *link;
	uint32_t i;

	for (i = g->count; i-- > 0;) {
		struct bt_mason_node *node = g->order[i];

		node->is_volatile = node->cls->flags & BT_CLASS_VOLATILE ||
				    lower_volatile(node);
		for (link = node->links; link; link = link->next) {
			const char *when =
				bt_link_port(node, link)->durable_when;

			if (when && link->lower->is_volatile &&
			    bt_mason_holds(node, when))
				bt_mason_error(m, link->pos, NULL,
					       "'%s' ends with the process, "
					       "but '%s' (%s%s%s) keeps data "
					       "in it",
					       link->lower->name, node->name,
					       node->cls->name,
					       *when ? ", " : "", when);
		}
	}
}

void bt_mason_check_flow(struct blktap_mason *m)
{
	struct state *states =
		bt_mason_alloc(m, (m->graph.count + 1) * sizeof(*states));

	if (!states)
		return;
	check_writers(m, states);
	check_storage(m, states);
	check_mixed(m, states);
	check_leaks(m, states);
	check_volatile(m);
}
