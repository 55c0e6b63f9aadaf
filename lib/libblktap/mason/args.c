/* SPDX-License-Identifier: BSD-3-Clause */
/* Arguments: the value's kind is checked against the parameter's type here, its
 * unit, range and choice by bt_args. */
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "mason/private.h"
#include "util/suggest.h"

/* A def's own variables before those of the file. A variable of the command
 * line counts as used only when a let of the file has it (set_var), not by its
 * use. */
struct bt_value *bt_mason_eval(struct blktap_mason *m, struct bt_scope *scope,
			       struct bt_value *value)
{
	struct bt_value *out, **end, *at;
	struct bt_suggest s;
	struct bt_name *name;
	struct bt_diag *diag;

	if (value->kind == BT_VALUE_VAR) {
		name = bt_names_find(&m->names, BT_NAME_LET,
				     bt_mason_full(m, scope, value->text));
		if (!name)
			name = bt_names_find(&m->names, BT_NAME_LET,
					     value->text);
		if (name) {
			name->used = name->used || !name->fixed;
			return name->what;
		}
		if (m->syntax_errors)
			return NULL;
		bt_suggest_init(&s, value->text);
		bt_names_offer(&m->names, BT_NAME_LET, scope->prefix, &s);
		bt_names_offer(&m->names, BT_NAME_LET, "", &s);
		diag = bt_mason_error(m, value->pos, bt_suggest_as(&s, "$"),
				      "'$%s' is not set above here",
				      value->text);
		bt_scope_notes(m, diag, scope);
		return NULL;
	}
	if (value->kind != BT_VALUE_LIST)
		return value;
	/* the tree is not changed: a def's body is walked many times. Depth is
	 * what the parser allowed. */
	out = bt_mason_alloc(m, sizeof(*out));
	if (!out)
		return NULL;
	*out = *value;
	end = &out->items;
	*end = NULL;
	for (at = value->items; at; at = at->next) {
		struct bt_value *item = bt_mason_eval(m, scope, at);
		struct bt_value *copy = bt_mason_alloc(m, sizeof(*copy));

		if (!item || !copy)
			return NULL;
		*copy = *item;
		copy->next = NULL;
		*end = copy;
		end = &copy->next;
	}
	return out;
}

/* ---- kinds ----------------------------------------------------------------- */

#define KIND(k) (1u << BT_VALUE_##k)

static const struct {
	uint32_t kinds;
	const char *what;
} takes[] = {
	[BLKTAP_PARAM_STRING] = { KIND(STRING) | KIND(PATH) | KIND(NUMBER),
				  "a string" },
	[BLKTAP_PARAM_PATH] = { KIND(STRING) | KIND(PATH), "a path" },
	[BLKTAP_PARAM_BOOL] = { KIND(NAME), "true or false" },
	[BLKTAP_PARAM_INT] = { KIND(NUMBER), "a whole number" },
	[BLKTAP_PARAM_SIZE] = { KIND(NUMBER), "a size, such as 64k" },
	[BLKTAP_PARAM_DURATION] = { KIND(NUMBER), "a time, such as 5s" },
	[BLKTAP_PARAM_ENUM] = { KIND(NAME) | KIND(STRING) | KIND(NUMBER),
				"one of" },
	[BLKTAP_PARAM_RATE] = { KIND(NUMBER), "a rate, such as 200M/s" },
	[BLKTAP_PARAM_PERCENT] = { KIND(NUMBER), "a part, such as 5%" },
	[BLKTAP_PARAM_LIST] = { KIND(LIST) | KIND(STRING),
				"a list, such as [\"a\", \"b\"]" },
};

static const char *kind_text(enum bt_value_kind kind)
{
	static const char *const texts[] = {
		[BT_VALUE_STRING] = "a string",	 [BT_VALUE_PATH] = "a path",
		[BT_VALUE_NAME] = "a bare word", [BT_VALUE_NUMBER] = "a number",
		[BT_VALUE_VAR] = "a variable",	 [BT_VALUE_LIST] = "a list",
		[BT_VALUE_WORD] = "a word",
	};

	return texts[kind];
}

/* What is most likely meant where only the quotes are wrong. */
static const char *kind_hint(struct blktap_mason *m,
			     const struct blktap_param *p,
			     const struct bt_value *value)
{
	uint32_t kinds = takes[p->type].kinds;

	if (value->kind == BT_VALUE_NAME && kinds & KIND(STRING))
		return bt_mason_printf(m, "put it in quotes: \"%s\"",
				       value->text);
	if (value->kind == BT_VALUE_STRING && kinds & (KIND(NUMBER)))
		return "write it without quotes";
	return NULL;
}

/* A word of the command line (-D) may be any kind: its text decides, in
 * bt_args_set_at. */
static bool check_kind(struct blktap_mason *m, struct bt_scope *scope,
		       const struct blktap_class *cls,
		       const struct blktap_param *p,
		       const struct bt_value *value, struct bt_pos pos)
{
	struct bt_diag *diag;

	if (value->kind == BT_VALUE_WORD ||
	    takes[p->type].kinds & 1u << value->kind)
		return true;
	diag = bt_mason_error(m, pos, kind_hint(m, p, value),
			      "%s: %s takes %s%s%s, not %s", cls->name, p->name,
			      takes[p->type].what,
			      p->type == BLKTAP_PARAM_ENUM ? " " : "",
			      p->type == BLKTAP_PARAM_ENUM ? p->choices : "",
			      kind_text(value->kind));
	bt_scope_notes(m, diag, scope);
	return false;
}

/* A list as bt_args takes it: one item a line. A line a value: what bt_args
 * keeps is one text, so a newline inside could not be told from the end of a
 * value. */
static const char *list_text(struct blktap_mason *m,
			     const struct bt_value *list)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	const struct bt_value *item;
	const char *out = NULL;

	for (item = list->items; item; item = item->next) {
		if (item->kind == BT_VALUE_LIST ||
		    item->kind == BT_VALUE_NAME || strchr(item->text, '\n')) {
			bt_mason_error(m, item->pos, NULL,
				       "the items of this list are strings of "
				       "one line");
			goto out;
		}
		bt_strbuf_puts(&sb, item->text);
		if (item->next)
			bt_strbuf_putc(&sb, '\n');
	}
	out = bt_mason_strndup(m, bt_strbuf_str(&sb), sb.len);
out:
	bt_strbuf_fini(&sb);
	return out;
}

/* ---- secrets --------------------------------------------------------------- */

/* A secret is named, never written. Only what module/secret.c can read.
 * Anything else may be the secret itself. */
static bool is_secret_ref(const char *text)
{
	size_t digits;

	if (!strncmp(text, "secret:", 7))
		return text[7];
	if (!strncmp(text, "file:", 5))
		return text[5] == '/';
	if (strncmp(text, "fd:", 3))
		return false;
	digits = strspn(text + 3, "0123456789");
	return digits && digits < 8 && !text[3 + digits];
}

/* What the message says must not show the secret, so no line is printed. */
static void literal_secret(struct blktap_mason *m, struct bt_scope *scope,
			   const struct blktap_class *cls,
			   const struct blktap_param *p, struct bt_pos pos)
{
	struct bt_diag *diag = bt_mason_error(
		m, pos,
		"refer to it: \"secret:name\", \"fd:5\" or \"file:/path\"",
		"%s: %s holds the secret itself", cls->name, p->name);

	if (diag)
		diag->hides_text = true;
	bt_scope_notes(m, diag, scope);
}

/* ---- arguments ------------------------------------------------------------- */

/* Which of an instance's arguments were given, and where. */
struct given {
	struct bt_pos at[BT_MASON_MAX_PARAMS];
	bool is[BT_MASON_MAX_PARAMS];
	bool by_name; /* the last one was */
	uint32_t next;
};

/* Classes have few parameters, so a walk is enough. */
static int param_index(const struct blktap_class *cls, const char *name)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(cls, i)); i++)
		if (!strcmp(p->name, name))
			return (int)i;
	return -1;
}

static void unknown_arg(struct blktap_mason *m, struct bt_scope *scope,
			const struct blktap_class *cls,
			const struct bt_arg *arg)
{
	const struct blktap_param *p;
	struct bt_suggest s;
	struct bt_diag *diag;
	const char *hint;
	uint32_t i;

	bt_suggest_init(&s, arg->name);
	for (i = 0; (p = blktap_class_get_param(cls, i)); i++)
		bt_suggest_offer(&s, p->name);
	hint = bt_suggest_as(&s, arg->core ? "@" : "");
	if (!arg->core && param_index(&bt_mason_core_class, arg->name) >= 0)
		hint = bt_mason_printf(m, "write @%s", arg->name);
	diag = bt_mason_error(m, arg->pos, hint,
			      arg->core ? "%s: there is no argument '@%s'"
					: "%s: there is no argument '%s'",
			      cls->name, arg->name);
	bt_scope_notes(m, diag, scope);
}

/* The parameter an argument is for; -1, and said, where there is none. By place
 * as long as no name came: behind one, it would not be clear whose place is
 * meant. */
static int find_param(struct blktap_mason *m, struct bt_scope *scope,
		      const struct blktap_class *cls, const struct bt_arg *arg,
		      struct given *given)
{
	struct bt_diag *diag;
	int i;

	if (arg->name) {
		i = param_index(cls, arg->name);
		given->by_name = true;
		if (i < 0)
			unknown_arg(m, scope, cls, arg);
		return i;
	}
	if (given->by_name) {
		diag = bt_mason_error(m, arg->pos, "give its name too",
				      "%s: a value without a name behind one "
				      "with a name",
				      cls->name);
		bt_scope_notes(m, diag, scope);
		return -1;
	}
	if (blktap_class_get_param(cls, given->next))
		return (int)given->next++;
	diag = bt_mason_error(m, arg->pos, NULL, "%s: one argument too many",
			      cls->name);
	bt_scope_notes(m, diag, scope);
	return -1;
}

/* Unit, range and choice are the class's business, as for an argument of a
 * tap-ctl spec: the same code, the same words. */
static void set_arg(struct blktap_mason *m, struct bt_scope *scope,
		    const struct blktap_class *cls, struct bt_args *args,
		    const struct bt_arg *arg, uint32_t i)
{
	const struct blktap_param *p = blktap_class_get_param(cls, i);
	struct bt_value *value = bt_mason_eval(m, scope, arg->value);
	struct blktap_error *err = NULL;
	struct bt_pos pos = arg->value->pos;
	const char *text;

	if (!value || !check_kind(m, scope, cls, p, value, pos))
		return;
	if (p->flags & BLKTAP_PARAM_SECRET && !is_secret_ref(value->text)) {
		literal_secret(m, scope, cls, p, pos);
		return;
	}
	text = value->kind == BT_VALUE_LIST ? list_text(m, value) : value->text;
	if (!text)
		return;
	if (bt_args_set_at(args, i, text, &err) < 0) {
		const char *hint = blktap_error_get_hint(err);
		struct bt_diag *diag =
			bt_mason_error(m, pos, *hint ? hint : NULL, "%s",
				       blktap_error_get_message(err));

		if (blktap_error_get_code(err) == -ENOMEM)
			m->failed = true;
		bt_scope_notes(m, diag, scope);
	}
	blktap_error_destroy(err);
}

/* Called twice, for the class's own and for those with an @, each by their own
 * table. */
static void take_args(struct blktap_mason *m, struct bt_scope *scope,
		      const struct blktap_class *cls, struct bt_args *args,
		      const struct bt_inst *inst, bool core,
		      struct given *given)
{
	const struct bt_arg *arg;

	for (arg = inst->args; arg && !m->failed; arg = arg->next) {
		struct bt_diag *diag;
		int i;

		if (arg->core != core)
			continue;
		i = find_param(m, scope, cls, arg, given);
		if (i < 0 || i >= (int)BT_MASON_MAX_PARAMS)
			continue;
		if (given->is[i]) {
			diag = bt_mason_error(
				m, arg->pos, NULL, "%s: %s is given twice",
				cls->name,
				blktap_class_get_param(cls, (uint32_t)i)->name);
			bt_mason_note(m, diag, given->at[i], "first here");
			bt_scope_notes(m, diag, scope);
			continue;
		}
		given->is[i] = true;
		given->at[i] = arg->pos;
		set_arg(m, scope, cls, args, arg, (uint32_t)i);
	}
}

/* Not where an argument was wrong: it may be the one that is missing. */
static void check_missing(struct blktap_mason *m, struct bt_scope *scope,
			  const struct bt_inst *inst,
			  const struct blktap_class *cls,
			  const struct given *given)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(cls, i)); i++) {
		struct bt_diag *diag;

		if (!(p->flags & BLKTAP_PARAM_REQUIRED) ||
		    i >= BT_MASON_MAX_PARAMS || given->is[i])
			continue;
		diag = bt_mason_error(m, inst->pos, p->help,
				      "%s: %s is missing", cls->name, p->name);
		bt_scope_notes(m, diag, scope);
	}
}

/* What the class itself says to arguments that are each right. It may look at
 * those that are required: one that a syntax error elsewhere has left out is not
 * told of as missing, but it is not there. */
static void check_together(struct blktap_mason *m, struct bt_scope *scope,
			   const struct bt_inst *inst,
			   const struct bt_mason_node *node)
{
	struct blktap_error *err = NULL;
	struct bt_diag *diag;
	const char *hint;

	if (!node->cls->check_args || bt_args_finish(node->args, NULL) < 0 ||
	    node->cls->check_args(node->args, &err) >= 0)
		return;
	hint = err ? blktap_error_get_hint(err) : "";
	diag = bt_mason_error(m, inst->pos, *hint ? hint : NULL, "%s",
			      err ? blktap_error_get_message(err)
				  : "the arguments do not go together");
	bt_scope_notes(m, diag, scope);
	blktap_error_destroy(err);
}

/* What is missing, and what does not go together, is asked only where each argument
 * by itself was right: else it would be told twice. */
void bt_mason_args(struct blktap_mason *m, struct bt_scope *scope,
		   struct bt_inst *inst, struct bt_mason_node *node)
{
	struct given given = { 0 }, core = { 0 };
	uint32_t before = m->errors;

	if (bt_args_create(node->cls, &node->args) < 0 ||
	    bt_args_create(&bt_mason_core_class, &node->core) < 0) {
		m->failed = true;
		return;
	}
	take_args(m, scope, node->cls, node->args, inst, false, &given);
	take_args(m, scope, &bt_mason_core_class, node->core, inst, true,
		  &core);
	if (m->errors == before && !m->syntax_errors)
		check_missing(m, scope, inst, node->cls, &given);
	if (m->errors == before)
		check_together(m, scope, inst, node);
}
