/* SPDX-License-Identifier: BSD-3-Clause */
/* At the end of a scope all its names are known: the ends of its wires are
 * looked up, a def is replaced by what its "in" goes to, and links are made. */
#include <string.h>

#include "mason/private.h"
#include "util/suggest.h"

/* Three ways to come here: a name mistyped, a class without its parentheses, a node
 * that is outside of the def. */
static void unknown_node(struct blktap_mason *m, const struct bt_scope *scope,
			 const struct bt_end *end)
{
	struct bt_suggest s;
	struct bt_diag *diag;
	const char *hint;

	/* its declaration may be what did not parse */
	if (m->syntax_errors)
		return;
	bt_suggest_init(&s, end->ref);
	bt_names_offer(&m->names, BT_NAME_NODE, scope->prefix, &s);
	hint = bt_suggest_hint(&s);
	if (!hint && bt_mason_class(m, end->ref))
		hint = bt_mason_printf(m, "%s(...) makes a node of that class",
				       end->ref);
	else if (!hint && scope->def)
		hint = "a def sees only its own nodes and arguments";
	diag = bt_mason_error(m, end->pos, hint, "there is no node '%s'",
			      end->ref);
	bt_scope_notes(m, diag, scope);
}

/* Looks the name up; false where it stands for nothing, which has been said.
 * Only names of this scope: a def does not see outside, and nobody sees into
 * it. */
static bool resolve_end(struct blktap_mason *m, const struct bt_scope *scope,
			struct bt_end *end)
{
	struct bt_name *name;

	if (!end->ref)
		return end->item;
	name = bt_names_find(&m->names, BT_NAME_NODE,
			     bt_mason_full(m, scope, end->ref));
	if (!name) {
		unknown_node(m, scope, end);
		return false;
	}
	name->used = true;
	end->item = name->what;
	end->ref = NULL;
	return true;
}

/* A def stands for what its "in" goes to. `entry` was resolved when the def's
 * scope ended, so it is a node's already, however many defs are in between. */
static bool enter_def(struct blktap_mason *m, const struct bt_scope *scope,
		      struct bt_end *end)
{
	struct bt_diag *diag = NULL;

	if (!end->item->def)
		return end->item->node;
	if (!end->item->entry && end->item->wrong)
		return false;
	if (!end->item->entry)
		diag = bt_mason_error(m, end->pos, "write in -> node in it",
				      "def '%s' has no 'in' to link to",
				      end->item->def);
	else if (end->port)
		diag = bt_mason_error(m, end->port->pos, NULL,
				      "def '%s' has no ports", end->item->def);
	bt_scope_notes(m, diag, scope);
	if (!end->item->entry || end->port)
		return false;
	*end = (struct bt_end){ .item = end->item->entry->item,
				.port = end->item->entry->port,
				.pos = end->pos };
	return end->item->node;
}

/* One way in: what the def stands for as a lower end is that node and port. */
static void resolve_in(struct blktap_mason *m, struct bt_scope *scope,
		       struct bt_wire *wire)
{
	struct bt_diag *diag;

	if (scope->has_in) {
		diag = bt_mason_error(m, wire->from.pos, NULL,
				      "'in' is linked twice");
		bt_mason_note(m, diag, scope->in_pos, "first here");
		return;
	}
	scope->has_in = true;
	scope->in_pos = wire->from.pos;
	if (enter_def(m, scope, &wire->to))
		scope->in = &wire->to;
}

/* False where the link cannot be made, which has been said. */
static bool resolve_wire(struct blktap_mason *m, struct bt_scope *scope,
			 struct bt_wire *wire)
{
	bool from = wire->from_in || resolve_end(m, scope, &wire->from);
	bool to = resolve_end(m, scope, &wire->to);
	struct bt_diag *diag;

	if (!from || !to)
		return false;
	if (wire->from_in) {
		resolve_in(m, scope, wire);
		return true;
	}
	if (wire->from.item->def) {
		diag = bt_mason_error(m, wire->from.pos, NULL,
				      "def '%s' has no lower ports",
				      wire->from.item->def);
		bt_scope_notes(m, diag, scope);
		return false;
	}
	if (!enter_def(m, scope, &wire->to) || !wire->from.item->node)
		return false;
	return bt_mason_link(m, scope, wire);
}

/* Inner scopes have been resolved by then, as each ends inside of its unfolding. */
void bt_mason_resolve(struct blktap_mason *m, struct bt_scope *scope)
{
	struct bt_wire *wire;

	for (wire = scope->wires; wire && !m->failed; wire = wire->next)
		/* its port is not told of as open, too */
		if (!resolve_wire(m, scope, wire) && wire->from.item &&
		    wire->from.item->node)
			wire->from.item->node->wrong_link = true;
}
