/* SPDX-License-Identifier: BSD-3-Clause */
/* From the tree to the flat graph. The statements are walked once: instances
 * become nodes, defs are unfolded where they are used, and links are kept as
 * wires until all names of their scope are known, since a name may be used
 * before it is declared. A def sees its own names and the file's lets. */
#include <string.h>

#include "mason/private.h"
#include "util/suggest.h"

static void walk(struct blktap_mason *m, struct bt_scope *scope,
		 const struct bt_stmt *stmts);

const char *bt_mason_full(struct blktap_mason *m, const struct bt_scope *scope,
			  const char *name)
{
	return scope->prefix[0]
		       ? bt_mason_printf(m, "%s%s", scope->prefix, name)
		       : name;
}

void bt_scope_notes(struct blktap_mason *m, struct bt_diag *diag,
		    const struct bt_scope *scope)
{
	for (; scope && scope->def; scope = scope->up)
		bt_mason_note(m, diag, scope->used_at, "def '%s' is used here",
			      scope->def);
}

/* ---- instances ------------------------------------------------------------- */

/* A def's name and a class's are looked for in one place, so both are offered.
 */
static void unknown_class(struct blktap_mason *m, struct bt_scope *scope,
			  const struct bt_inst *inst)
{
	const struct blktap_class *cls = NULL;
	struct bt_suggest s;
	struct bt_diag *diag;

	bt_suggest_init(&s, inst->name);
	bt_names_offer(&m->names, BT_NAME_DEF, "", &s);
	while ((cls = bt_mason_next_class(m, cls)))
		bt_suggest_offer(&s, cls->name);
	/* its def may be what did not parse */
	if (m->syntax_errors && !s.best)
		return;
	diag = bt_mason_error(m, inst->pos, bt_suggest_hint(&s),
			      "there is no class '%s'", inst->name);
	bt_scope_notes(m, diag, scope);
}

/* A def that was renamed renames what is in it: "b was a" makes b.x what was
 * a.x. */
static const char *former_name(struct blktap_mason *m, struct bt_scope *scope,
			       const struct bt_inst *inst, const char *name)
{
	if (inst->was)
		return bt_mason_printf(m, "%s%s",
				       scope->was_prefix ? scope->was_prefix
							 : scope->prefix,
				       inst->was);
	if (scope->was_prefix && name)
		return bt_mason_printf(m, "%s%s", scope->was_prefix, name);
	return NULL;
}

/* Two nodes cannot go on as the same one. */
static void claim_former_name(struct blktap_mason *m,
			      const struct bt_mason_node *node,
			      struct bt_pos pos)
{
	const struct bt_name *other =
		bt_names_find(&m->names, BT_NAME_WAS, node->was);
	struct bt_diag *diag;

	if (!other) {
		bt_names_add(m, &m->names, BT_NAME_WAS, node->was, pos);
		return;
	}
	diag = bt_mason_error(m, pos, NULL, "two nodes were '%s' before",
			      node->was);
	bt_mason_note(m, diag, other->pos, "the other one");
}

/* Past the bound nothing is made any more, and the walk ends; it is told once,
 * at the end. */
static bool add_node(struct blktap_mason *m, struct bt_mason_node *node)
{
	struct bt_mason_graph *g = &m->graph;

	if (g->count == BT_MASON_MAX_NODES) {
		m->too_many = true;
		return false;
	}
	g->nodes = bt_mason_grow(m, g->nodes, g->count, &m->node_cap,
				 sizeof(*g->nodes));
	if (!g->nodes)
		return false;
	node->index = g->count;
	g->nodes[g->count++] = node;
	return true;
}

static void make_node(struct blktap_mason *m, struct bt_scope *scope,
		      struct bt_inst *inst, const char *name, struct bt_pos pos,
		      struct bt_item *item)
{
	const struct blktap_class *cls = bt_mason_class(m, inst->name);
	struct bt_mason_node *node;

	if (!cls) {
		unknown_class(m, scope, inst);
		return;
	}
	node = bt_mason_alloc(m, sizeof(*node));
	if (!node)
		return;
	node->cls = cls;
	node->pos = pos;
	node->anonymous = !name;
	node->name = name ? bt_mason_full(m, scope, name)
			  : bt_mason_printf(m, "%s%s#%u", scope->prefix,
					    inst->name, ++m->anonymous);
	node->was = former_name(m, scope, inst, name);
	if (m->failed || !add_node(m, node))
		return;
	if (node->was)
		claim_former_name(m, node, inst->was ? inst->was_pos : pos);
	/* in the graph first: blktap_mason_destroy frees its arguments by that
	 */
	bt_mason_args(m, scope, inst, node);
	item->node = node;
}

/* ---- defs ------------------------------------------------------------------ */

/* By the full name, so a def's argument is "a.size" and hides none of the
 * file's. One that was set by -D stays. */
static bool set_var(struct blktap_mason *m, struct bt_scope *scope,
		    const char *name, struct bt_pos pos, struct bt_value *value)
{
	const char *full = bt_mason_full(m, scope, name);
	struct bt_name *old =
		full ? bt_names_find(&m->names, BT_NAME_LET, full) : NULL;
	struct bt_diag *diag;

	if (old && old->fixed) {
		old->used = true;
		return true;
	}
	if (old) {
		diag = bt_mason_error(m, pos, NULL, "'$%s' is set twice", name);
		bt_mason_note(m, diag, old->pos, "first here");
		return false;
	}
	old = bt_names_add(m, &m->names, BT_NAME_LET, full, pos);
	if (old)
		old->what = value;
	return old;
}

/* The def's argument of that name, or at that place. */
static const struct bt_param_name *def_param(const struct bt_stmt *def,
					     const char *name, uint32_t index)
{
	const struct bt_param_name *at;

	for (at = def->names; at; at = at->next)
		if (name ? !strcmp(at->name, name) : !index--)
			return at;
	return NULL;
}

static void bad_def_arg(struct blktap_mason *m, struct bt_scope *outer,
			const struct bt_stmt *def, const struct bt_arg *arg)
{
	struct bt_diag *diag;

	if (arg->core)
		diag = bt_mason_error(
			m, arg->pos, "give it to the nodes inside",
			"def '%s' takes no @%s", def->name, arg->name);
	else if (arg->name)
		diag = bt_mason_error(m, arg->pos, NULL,
				      "def '%s' has no argument '%s'",
				      def->name, arg->name);
	else
		diag = bt_mason_error(m, arg->pos, NULL,
				      "one argument too many for def '%s'",
				      def->name);
	bt_mason_note(m, diag, def->name_pos, "it is declared here");
	bt_scope_notes(m, diag, outer);
}

/* Values are looked up in the scope outside: $x there and $x in the def are
 * two. */
static bool bind_args(struct blktap_mason *m, struct bt_scope *outer,
		      struct bt_scope *inner, const struct bt_stmt *def,
		      const struct bt_inst *inst)
{
	const struct bt_param_name *param;
	const struct bt_arg *arg;
	struct bt_diag *diag;
	uint32_t index = 0;
	bool ok = true;

	for (arg = inst->args; arg; arg = arg->next) {
		struct bt_value *value = bt_mason_eval(m, outer, arg->value);

		param = arg->core ? NULL
				  : def_param(def, arg->name,
					      arg->name ? 0 : index++);
		if (!param)
			bad_def_arg(m, outer, def, arg);
		if (!param || !value ||
		    !set_var(m, inner, param->name, arg->pos, value))
			ok = false;
	}
	for (param = def->names; ok && param; param = param->next) {
		if (bt_names_find(&m->names, BT_NAME_LET,
				  bt_mason_full(m, inner, param->name)))
			continue;
		diag = bt_mason_error(m, inst->pos, NULL, "def '%s' needs $%s",
				      def->name, param->name);
		bt_mason_note(m, diag, param->pos, "it is declared here");
		bt_scope_notes(m, diag, outer);
		ok = false;
	}
	return ok && !m->failed;
}

/* A def in itself has no end; the depth bounds long rows of
 * them. */
static bool may_unfold(struct blktap_mason *m, const struct bt_scope *scope,
		       const struct bt_inst *inst)
{
	const struct bt_scope *at;
	struct bt_diag *diag;

	for (at = scope; at && at->def; at = at->up)
		if (!strcmp(at->def, inst->name)) {
			diag = bt_mason_error(m, inst->pos, NULL,
					      "def '%s' uses itself",
					      inst->name);
			bt_scope_notes(m, diag, scope);
			return false;
		}
	if (scope->depth < BT_MASON_MAX_DEPTH)
		return true;
	diag = bt_mason_error(m, inst->pos, NULL,
			      "defs are used more than %u deep",
			      BT_MASON_MAX_DEPTH);
	bt_scope_notes(m, diag, scope);
	return false;
}

/* The body is walked anew for each use, with names of its own. `wrong` is set
 * until it is known that all went well, so that what depends on it is not told
 * of again. */
static void unfold(struct blktap_mason *m, struct bt_scope *scope,
		   struct bt_inst *inst, const char *name,
		   const struct bt_stmt *def, struct bt_item *item)
{
	struct bt_scope *inner = bt_mason_alloc(m, sizeof(*inner));
	const char *was = former_name(m, scope, inst, name);
	uint32_t before = m->errors;

	item->def = def->name;
	item->wrong = true;
	if (!inner || !may_unfold(m, scope, inst) || m->too_many)
		return;
	inner->up = scope;
	inner->def = def->name;
	inner->depth = scope->depth + 1;
	inner->used_at = inst->pos;
	inner->wires_end = &inner->wires;
	inner->prefix = name ? bt_mason_printf(m, "%s%s.", scope->prefix, name)
			     : bt_mason_printf(m, "%s%s#%u.", scope->prefix,
					       inst->name, ++m->anonymous);
	inner->was_prefix = was ? bt_mason_printf(m, "%s.", was) : NULL;
	if (m->failed || !bind_args(m, scope, inner, def, inst))
		return;
	walk(m, inner, def->body);
	bt_mason_resolve(m, inner);
	item->entry = inner->in;
	/* without an "in" there is nothing to link to, which is said where
	 * somebody does */
	item->wrong = inner->has_in || m->errors != before;
}

/* An instance under a name, or without one. The name is known before what it
 * stands for is made, and stays known when that fails: so its uses are no
 * further mistakes. */
static struct bt_item *instance(struct blktap_mason *m, struct bt_scope *scope,
				struct bt_inst *inst, const char *name,
				struct bt_pos pos)
{
	struct bt_item *item = bt_mason_alloc(m, sizeof(*item));
	struct bt_name *def = bt_names_find(&m->names, BT_NAME_DEF, inst->name);
	const char *full = name ? bt_mason_full(m, scope, name) : NULL;
	struct bt_name *old;

	if (!item || m->failed)
		return NULL;
	old = full ? bt_names_find(&m->names, BT_NAME_NODE, full) : NULL;
	if (old) {
		struct bt_diag *diag = bt_mason_error(
			m, pos, NULL, "'%s' is declared twice", name);

		bt_mason_note(m, diag, old->pos, "first here");
		bt_scope_notes(m, diag, scope);
	} else if (full) {
		old = bt_names_add(m, &m->names, BT_NAME_NODE, full, pos);
		if (!old)
			return NULL;
		old->what = item;
	}
	if (def) {
		def->used = true;
		unfold(m, scope, inst, name, def->what, item);
	} else {
		make_node(m, scope, inst, name, name ? pos : inst->pos, item);
	}
	return item;
}

/* ---- chains ---------------------------------------------------------------- */

static void add_wire(struct blktap_mason *m, struct bt_scope *scope,
		     const struct bt_end *from, bool from_in,
		     const struct bt_end *to, int32_t slot, struct bt_pos pos)
{
	struct bt_wire *wire = bt_mason_alloc(m, sizeof(*wire));

	if (!wire)
		return;
	wire->from = *from;
	wire->from_in = from_in;
	wire->to = *to;
	wire->slot = slot;
	wire->pos = pos;
	*scope->wires_end = wire;
	scope->wires_end = &wire->next;
}

/* An instance is made where it stands in a chain; a name is looked up when the
 * scope ends. */
static void make_end(struct blktap_mason *m, struct bt_scope *scope,
		     const struct bt_hop *hop, struct bt_end *end)
{
	memset(end, 0, sizeof(*end));
	end->pos = hop->pos;
	if (hop->inst)
		end->item = instance(m, scope, hop->inst, hop->name, hop->pos);
	else
		end->ref = hop->name;
}

/* "in" only begins a chain, and has no ports. */
static bool check_in(struct blktap_mason *m, const struct bt_hop *hop,
		     bool is_first)
{
	if (!hop->is_in || (is_first && !hop->upper && !hop->lower))
		return true;
	bt_mason_error(m, hop->pos, "write in -> node",
		       "'in' only begins a chain");
	return false;
}

static void check_loose_ports(struct blktap_mason *m,
			      const struct bt_chain *chain,
			      const struct bt_end *above)
{
	const struct bt_hop *last = chain->hops;

	if (!above && last->upper)
		bt_mason_error(m, last->upper->pos, NULL,
			       "nothing is linked to this port");
	while (last->next)
		last = last->next;
	if (!chain->branches && last->lower)
		bt_mason_error(m, last->lower->pos, NULL,
			       "nothing is linked to this port");
}

/* above: what the chain hangs on, or NULL. */
static void walk_chain(struct blktap_mason *m, struct bt_scope *scope,
		       const struct bt_chain *chain, const struct bt_end *above,
		       bool above_is_in, int32_t slot, struct bt_pos pos)
{
	const struct bt_chain *branch;
	const struct bt_hop *hop;
	struct bt_end last = { 0 };
	bool is_in = above_is_in;
	int32_t i = 0;

	check_loose_ports(m, chain, above);
	if (above)
		last = *above;
	for (hop = chain->hops; hop && !m->failed; hop = hop->next) {
		bool is_first = hop == chain->hops;
		struct bt_end end;

		if (!check_in(m, hop, is_first && !above)) {
			/* its port is open because of this mistake */
			if (last.item && last.item->node)
				last.item->node->wrong_link = true;
			return;
		}
		make_end(m, scope, hop, &end);
		end.port = hop->upper;
		if (!is_first)
			add_wire(m, scope, &last, is_in, &end, -1, hop->arrow);
		else if (above)
			add_wire(m, scope, &last, is_in, &end, slot, pos);
		last = end;
		last.port = hop->lower;
		is_in = hop->is_in;
	}
	/* each branch goes to the next slot of the array */
	for (branch = chain->branches; branch; branch = branch->next)
		walk_chain(m, scope, branch, &last, is_in, i++, chain->fat);
	hop = chain->hops;
	if (!above && !chain->branches && !hop->next && !hop->inst)
		bt_mason_error(m, hop->pos,
			       "declare it with ::, or link it with ->",
			       "a name alone does nothing");
}

/* ---- statements ------------------------------------------------------------ */

/* Values are looked up once; what they are compared with is known only when the
 * graph runs. */
static void add_assert(struct blktap_mason *m, struct bt_scope *scope,
		       const struct bt_stmt *stmt)
{
	struct bt_mason_graph *g = &m->graph;
	struct bt_cmp *cmp;

	if (scope->def) {
		bt_mason_error(m, stmt->pos, NULL, "an assert inside a def");
		return;
	}
	for (cmp = stmt->cmps; cmp; cmp = cmp->next) {
		struct bt_value *value = bt_mason_eval(m, scope, cmp->value);

		if (value)
			cmp->value = value;
	}
	g->asserts = bt_mason_grow(m, g->asserts, g->assert_count,
				   &m->assert_cap, sizeof(*g->asserts));
	if (g->asserts)
		g->asserts[g->assert_count++] =
			(struct bt_mason_assert){ .cmps = stmt->cmps,
						  .pos = stmt->pos };
}

static void walk_stmt(struct blktap_mason *m, struct bt_scope *scope,
		      const struct bt_stmt *stmt)
{
	const struct bt_param_name *name;
	struct bt_value *value;

	switch (stmt->kind) {
	case BT_STMT_CHAIN:
		walk_chain(m, scope, stmt->chain, NULL, false, -1, stmt->pos);
		break;
	case BT_STMT_DECL:
		for (name = stmt->names; name; name = name->next)
			instance(m, scope, stmt->inst, name->name, name->pos);
		break;
	case BT_STMT_LET:
		value = bt_mason_eval(m, scope, stmt->value);
		if (value)
			set_var(m, scope, stmt->name, stmt->name_pos, value);
		break;
	case BT_STMT_ASSERT:
		add_assert(m, scope, stmt);
		break;
	case BT_STMT_INCLUDE:
		walk(m, scope, stmt->body);
		break;
	case BT_STMT_DEF:
		break;
	}
}

static void walk(struct blktap_mason *m, struct bt_scope *scope,
		 const struct bt_stmt *stmts)
{
	for (; stmts && !m->failed && !m->too_many; stmts = stmts->next)
		walk_stmt(m, scope, stmts);
}

/* Defs may be used before they are declared, too. Includes first come, first
 * served: their defs belong to the file as its own do. */
static void collect_defs(struct blktap_mason *m, const struct bt_stmt *stmts)
{
	struct bt_name *name;
	struct bt_diag *diag;

	for (; stmts && !m->failed; stmts = stmts->next) {
		if (stmts->kind == BT_STMT_INCLUDE)
			collect_defs(m, stmts->body);
		if (stmts->kind != BT_STMT_DEF)
			continue;
		name = bt_names_find(&m->names, BT_NAME_DEF, stmts->name);
		if (name) {
			diag = bt_mason_error(m, stmts->name_pos, NULL,
					      "def '%s' is declared twice",
					      stmts->name);
			bt_mason_note(m, diag, name->pos, "first here");
			continue;
		}
		if (bt_mason_class(m, stmts->name))
			bt_mason_error(m, stmts->name_pos,
				       "choose another name", "'%s' is a class",
				       stmts->name);
		name = bt_names_add(m, &m->names, BT_NAME_DEF, stmts->name,
				    stmts->name_pos);
		if (name)
			name->what = (void *)stmts;
	}
}

/* What is never used is not unfolded, and so not checked: say so. A let that
 * nobody asked for is a mistake where -D set it: the name was mistyped, and the
 * file's own value counted. */
static void report_unused(struct blktap_mason *m)
{
	uint32_t i;

	for (i = 0; i < m->names.cap; i++) {
		const struct bt_name *at = m->names.slots[i];

		if (at && at->kind == BT_NAME_DEF && !at->used && !m->errors &&
		    at->pos.file == 0)
			bt_mason_warn(m, at->pos, NULL,
				      "def '%s' is not used, so its inside "
				      "is not checked",
				      at->text);
		if (at && at->kind == BT_NAME_LET && at->fixed && !at->used &&
		    !m->syntax_errors)
			bt_mason_error(m, at->pos, NULL,
				       "no file has 'let $%s'", at->text);
		if (at && at->kind == BT_NAME_WAS) {
			const struct bt_name *now = bt_names_find(
				&m->names, BT_NAME_NODE, at->text);
			struct bt_diag *diag = NULL;

			if (now)
				diag = bt_mason_error(
					m, at->pos, NULL,
					"'%s' is a node of this file too",
					at->text);
			if (now)
				bt_mason_note(m, diag, now->pos,
					      "declared here");
		}
	}
}

void bt_mason_build(struct blktap_mason *m, struct bt_stmt *stmts)
{
	struct bt_scope *scope = bt_mason_alloc(m, sizeof(*scope));

	if (!scope)
		return;
	scope->prefix = "";
	scope->wires_end = &scope->wires;
	collect_defs(m, stmts);
	walk(m, scope, stmts);
	if (m->too_many) {
		bt_mason_error(m, (struct bt_pos){ 0, 0 }, NULL,
			       "more than %u nodes", BT_MASON_MAX_NODES);
		return;
	}
	bt_mason_resolve(m, scope);
	report_unused(m);
}
