/* SPDX-License-Identifier: BSD-3-Clause */
/* Values, arguments and instances: what stands between parentheses. A mistake
 * in an argument costs that argument; the list goes on at the next comma. */
#include <string.h>

#include "mason/private.h"

/* The text is the token's, which is the arena's. */
static struct bt_value *make(struct bt_parser *p, enum bt_value_kind kind)
{
	struct bt_value *value = bt_mason_alloc(p->lx.m, sizeof(*value));

	if (!value)
		return NULL;
	value->kind = kind;
	value->pos = p->tok.pos;
	value->text = p->tok.text;
	return value;
}

/* [ ] is a list of nothing, and a comma may stand behind the last item. */
static struct bt_value *parse_list(struct bt_parser *p)
{
	struct bt_value *list = make(p, BT_VALUE_LIST), **end;

	bt_parse_next(p);
	if (!list || !bt_parse_deeper(p))
		return NULL;
	end = &list->items;
	while (p->tok.kind != BT_TOK_RBRACKET) {
		*end = bt_parse_value(p);
		if (!*end)
			return NULL;
		end = &(*end)->next;
		if (!bt_parse_accept(p, BT_TOK_COMMA))
			break;
	}
	p->nesting--;
	if (!bt_parse_expect(p, BT_TOK_RBRACKET, "',' or ']'"))
		return NULL;
	return list;
}

/* a.raw, ./a.raw and dir/a.raw are several tokens. In quotes they would be relative to
 * the directory of a tapdisk, which is not that of its user. */
static void expected(struct bt_parser *p, const char *what)
{
	bool is_path = p->tok.kind == BT_TOK_DOT || p->tok.kind == BT_TOK_PATH;

	p->lx.m->syntax_errors = true;
	if (p->tok.kind != BT_TOK_BAD)
		bt_mason_error(p->lx.m, p->tok.pos,
			       is_path ? "write the path from '/' on" : NULL,
			       "expected %s, found %s", what,
			       bt_token_describe(p->lx.m, &p->tok));
}

/* Only kinds that carry a text are values; anything else is told of here, and
 * its token stays for whoever recovers. */
struct bt_value *bt_parse_value(struct bt_parser *p)
{
	static const enum bt_value_kind kinds[] = {
		[BT_TOK_NAME] = BT_VALUE_NAME,
		[BT_TOK_PATH] = BT_VALUE_PATH,
		[BT_TOK_STRING] = BT_VALUE_STRING,
		[BT_TOK_NUMBER] = BT_VALUE_NUMBER,
		[BT_TOK_VAR] = BT_VALUE_VAR,
	};
	struct bt_value *value;

	if (p->tok.kind == BT_TOK_LBRACKET)
		return parse_list(p);
	if (p->tok.kind < BT_TOK_NAME || p->tok.kind > BT_TOK_VAR) {
		expected(p, "a value");
		return NULL;
	}
	value = make(p, kinds[p->tok.kind]);
	bt_parse_next(p);
	return value;
}

/* "name" alone is a value (an enum's word), "name =" an argument's name: one
 * token ahead tells. */
static struct bt_arg *parse_arg(struct bt_parser *p)
{
	struct bt_arg *arg = bt_mason_alloc(p->lx.m, sizeof(*arg));
	struct bt_token first;

	if (!arg)
		return NULL;
	arg->pos = p->tok.pos;
	arg->core = bt_parse_accept(p, BT_TOK_AT);
	first = p->tok;
	if (first.kind != BT_TOK_NAME) {
		if (arg->core) {
			bt_parse_expect(p, BT_TOK_NAME,
					"the name of an argument");
			return NULL;
		}
		arg->value = bt_parse_value(p);
		return arg->value ? arg : NULL;
	}
	arg->value = make(p, BT_VALUE_NAME);
	bt_parse_next(p);
	if (bt_parse_accept(p, BT_TOK_EQUAL)) {
		arg->name = first.text;
		arg->value = bt_parse_value(p);
	} else if (arg->core) {
		bt_parse_expect(p, BT_TOK_EQUAL, "'='");
		return NULL;
	}
	return arg->value ? arg : NULL;
}

/* To the comma or parenthesis that ends the argument; not past what ends a
 * statement. */
static void skip_arg(struct bt_parser *p)
{
	uint32_t depth = 0;

	for (;; bt_parse_next(p)) {
		switch (p->tok.kind) {
		case BT_TOK_END:
		case BT_TOK_SEMICOLON:
		case BT_TOK_LBRACE:
		case BT_TOK_RBRACE:
			return;
		case BT_TOK_COMMA:
			if (!depth)
				return;
			break;
		case BT_TOK_LPAREN:
		case BT_TOK_LBRACKET:
			depth++;
			break;
		case BT_TOK_RPAREN:
			if (!depth)
				return;
			depth--;
			break;
		case BT_TOK_RBRACKET:
			depth -= depth > 0;
			break;
		default:
			break;
		}
	}
}

/* What the node was called in the graph that runs: with it, a node that gets
 * another name goes on as the one that it is (match.c). */
static bool parse_was(struct bt_parser *p, struct bt_inst *inst)
{
	if (p->tok.kind != BT_TOK_NAME || strcmp(p->tok.text, "was"))
		return true;
	bt_parse_next(p);
	inst->was = p->tok.text;
	inst->was_pos = p->tok.pos;
	return bt_parse_expect(p, BT_TOK_NAME, "the former name");
}

/* A wrong argument is left out and the others are kept, so that they are
 * checked, too; what makes the list's end unknown ends the instance. */
struct bt_inst *bt_parse_inst(struct bt_parser *p, const char *name,
			      struct bt_pos pos)
{
	struct bt_inst *inst = bt_mason_alloc(p->lx.m, sizeof(*inst));
	struct bt_arg **end;
	bool said;

	if (!inst || !bt_parse_expect(p, BT_TOK_LPAREN, "'('"))
		return NULL;
	inst->name = name;
	inst->pos = pos;
	end = &inst->args;
	while (p->tok.kind != BT_TOK_RPAREN) {
		*end = parse_arg(p);
		said = !*end;
		if (*end)
			end = &(*end)->next;
		else
			skip_arg(p);
		if (p->tok.kind != BT_TOK_COMMA &&
		    p->tok.kind != BT_TOK_RPAREN) {
			if (said)
				return NULL;
			expected(p, "',' or ')'");
			skip_arg(p);
		}
		if (!bt_parse_accept(p, BT_TOK_COMMA))
			break;
	}
	if (!bt_parse_accept(p, BT_TOK_RPAREN))
		return NULL;
	return parse_was(p, inst) ? inst : NULL;
}
