/* SPDX-License-Identifier: BSD-3-Clause */
/* The parser: recursive descent, one token ahead. A statement with a mistake is
 * left at its end, and the next one is read, so that one run finds them all. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/private.h"

static const char *const keywords[] = { "let", "def", "assert", "include",
					"was" };

/* They are names to the lexer: "was" and the like are words of the language only
 * where a statement or an instance has a place for them. */
static bool is_keyword(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (!strcmp(keywords[i], text))
			return true;
	return false;
}

static bool at_word(const struct bt_parser *p, const char *word)
{
	return p->tok.kind == BT_TOK_NAME && !strcmp(p->tok.text, word);
}

/* last_end is where a message about something that is missing points to. */
void bt_parse_next(struct bt_parser *p)
{
	p->last_end = (struct bt_pos){ p->lx.file, p->tok.pos.at + p->tok.len };
	bt_lex(&p->lx, &p->tok);
}

bool bt_parse_accept(struct bt_parser *p, enum bt_tok kind)
{
	if (p->tok.kind != kind)
		return false;
	bt_parse_next(p);
	return true;
}

/* What somebody who knows other languages may have meant. */
static const char *guess(struct bt_parser *p, enum bt_tok wanted)
{
	enum bt_tok found = p->tok.kind;

	if (wanted == BT_TOK_SEMICOLON && found == BT_TOK_EQUAL)
		return "a node is declared by name :: class(...), a value is "
		       "set by let $name = value";
	if (wanted == BT_TOK_SEMICOLON && found == BT_TOK_COMMA)
		return p->in_assert ? "join comparisons by &&"
				    : "-> leads to one node, => to several";
	if (wanted == BT_TOK_VAR && found == BT_TOK_NAME)
		return bt_mason_printf(p->lx.m, "write $%s", p->tok.text);
	if (wanted == BT_TOK_REL && found == BT_TOK_EQUAL)
		return "write ==";
	if (wanted == BT_TOK_STRING &&
	    (found == BT_TOK_PATH || found == BT_TOK_REL ||
	     found == BT_TOK_NAME))
		return "put it in quotes";
	return NULL;
}

/* A token that is BAD has had its message. */
bool bt_parse_expect(struct bt_parser *p, enum bt_tok kind, const char *what)
{
	if (bt_parse_accept(p, kind))
		return true;
	p->lx.m->syntax_errors = true;
	if (p->tok.kind != BT_TOK_BAD)
		bt_mason_error(p->lx.m, p->tok.pos, guess(p, kind),
			       "expected %s, found %s", what,
			       bt_token_describe(p->lx.m, &p->tok));
	return false;
}

bool bt_parse_deeper(struct bt_parser *p)
{
	if (p->nesting < BT_MASON_MAX_NESTING) {
		p->nesting++;
		return true;
	}
	p->lx.m->syntax_errors = true;
	bt_mason_error(p->lx.m, p->tok.pos, NULL, "nested more than %u deep",
		       BT_MASON_MAX_NESTING);
	return false;
}

/* Where a new line begins, the ';' is missing behind the old one. True where
 * the ';' was forgotten: the statement is whole, and what follows is read as
 * the next one. */
static bool expect_end(struct bt_parser *p)
{
	if (p->tok.kind == BT_TOK_SEMICOLON ||
	    (!p->tok.first_on_line && p->tok.kind != BT_TOK_END &&
	     p->tok.kind != BT_TOK_RBRACE))
		return bt_parse_expect(p, BT_TOK_SEMICOLON, "';'");
	p->lx.m->syntax_errors = true;
	bt_mason_error(p->lx.m, p->last_end, NULL,
		       "expected ';' at the end of the statement");
	return true;
}

/* To the end of a statement that went wrong. A keyword at the start of a line
 * begins a new one even where the ';' was forgotten. */
static void skip_stmt(struct bt_parser *p)
{
	uint32_t braces = 0;

	for (; p->tok.kind != BT_TOK_END; bt_parse_next(p)) {
		if (p->tok.kind == BT_TOK_LBRACE)
			braces++;
		if (p->tok.kind == BT_TOK_RBRACE) {
			if (!braces)
				return;
			if (!--braces) {
				bt_parse_next(p);
				return;
			}
		}
		if (p->tok.kind == BT_TOK_SEMICOLON && !braces) {
			bt_parse_next(p);
			return;
		}
		if (p->tok.kind == BT_TOK_NAME && p->tok.first_on_line &&
		    !braces && is_keyword(p->tok.text))
			return;
	}
}

/* ---- chains ---------------------------------------------------------------- */

/* [name] or [number], or nothing. Whether there is such a port is asked when the
 * class is known (link.c). */
static bool parse_port(struct bt_parser *p, struct bt_port_ref **out)
{
	struct bt_port_ref *port;

	if (!bt_parse_accept(p, BT_TOK_LBRACKET))
		return true;
	port = bt_mason_alloc(p->lx.m, sizeof(*port));
	if (!port)
		return false;
	port->pos = p->tok.pos;
	if (p->tok.kind == BT_TOK_NUMBER) {
		char *end;

		port->number = (uint32_t)strtoul(p->tok.text, &end, 10);
		/* no port has such a number; the message comes when the class
		 * is known */
		if (*end || p->tok.len > 4)
			port->number = UINT32_MAX;
		bt_parse_next(p);
	} else {
		port->name = p->tok.text;
		if (!bt_parse_expect(p, BT_TOK_NAME,
				     "the name or number of a port"))
			return false;
	}
	*out = port;
	return bt_parse_expect(p, BT_TOK_RBRACKET, "']'");
}

/* Words that mean something where a node's name may stand. */
static bool check_name(struct bt_parser *p, const char *name, struct bt_pos pos)
{
	if (!is_keyword(name) && strcmp(name, "run") && strcmp(name, "in"))
		return true;
	p->lx.m->syntax_errors = true;
	bt_mason_error(p->lx.m, pos, "choose another name",
		       "'%s' is a word of the language", name);
	return false;
}

/* NAME, NAME :: inst, or inst; tok is behind the NAME that is first. */
static bool parse_node(struct bt_parser *p, struct bt_hop *hop,
		       const struct bt_token *first)
{
	if (p->tok.kind == BT_TOK_LPAREN) {
		hop->inst = bt_parse_inst(p, first->text, first->pos);
		return hop->inst;
	}
	if (!strcmp(first->text, "in") && p->tok.kind != BT_TOK_COLONS) {
		hop->is_in = true;
		if (p->in_def)
			return true;
		bt_mason_error(p->lx.m, first->pos, NULL,
			       "'in' stands only inside a def");
		return false;
	}
	if (!check_name(p, first->text, first->pos))
		return false;
	/* a name alone refers to a node, wherever that is declared */
	hop->name = first->text;
	if (!bt_parse_accept(p, BT_TOK_COLONS))
		return true;
	{
		struct bt_token cls = p->tok;

		if (!bt_parse_expect(p, BT_TOK_NAME, "a class"))
			return false;
		hop->inst = bt_parse_inst(p, cls.text, cls.pos);
	}
	return hop->inst;
}

/* tok is behind first, the NAME, where first is not NULL. */
static struct bt_hop *parse_hop(struct bt_parser *p,
				const struct bt_token *first)
{
	struct bt_hop *hop = bt_mason_alloc(p->lx.m, sizeof(*hop));
	struct bt_token name;

	if (!hop)
		return NULL;
	if (!first) {
		if (!parse_port(p, &hop->upper))
			return NULL;
		name = p->tok;
		if (!bt_parse_expect(p, BT_TOK_NAME, "a node"))
			return NULL;
		first = &name;
	}
	hop->pos = first->pos;
	if (!parse_node(p, hop, first) || !parse_port(p, &hop->lower))
		return NULL;
	return hop;
}

static struct bt_chain *parse_chain(struct bt_parser *p,
				    const struct bt_token *first);

/* Without parentheses a branch is one hop: "=> a, b -> c" would not say whose the
 * arrow is. */
static struct bt_chain *parse_branch(struct bt_parser *p)
{
	struct bt_chain *chain;

	if (p->tok.kind != BT_TOK_LPAREN) {
		chain = bt_mason_alloc(p->lx.m, sizeof(*chain));
		if (chain)
			chain->hops = parse_hop(p, NULL);
		return chain && chain->hops ? chain : NULL;
	}
	if (!bt_parse_deeper(p))
		return NULL;
	bt_parse_next(p);
	chain = parse_chain(p, NULL);
	p->nesting--;
	if (!chain || !bt_parse_expect(p, BT_TOK_RPAREN, "'->' or ')'"))
		return NULL;
	return chain;
}

/* Hops joined by ->, and branches behind a => at the end. A branch in
 * parentheses is a chain again, whose depth is counted. */
static struct bt_chain *parse_chain(struct bt_parser *p,
				    const struct bt_token *first)
{
	struct bt_chain *chain = bt_mason_alloc(p->lx.m, sizeof(*chain));
	struct bt_pos arrow = p->tok.pos;
	struct bt_hop **hop;
	struct bt_chain **branch;

	if (!chain)
		return NULL;
	hop = &chain->hops;
	do {
		*hop = parse_hop(p, first);
		if (!*hop)
			return NULL;
		(*hop)->arrow = arrow;
		hop = &(*hop)->next;
		first = NULL;
		arrow = p->tok.pos;
	} while (bt_parse_accept(p, BT_TOK_ARROW));
	chain->fat = p->tok.pos;
	if (!bt_parse_accept(p, BT_TOK_FAT))
		return chain;
	branch = &chain->branches;
	do {
		*branch = parse_branch(p);
		if (!*branch)
			return NULL;
		branch = &(*branch)->next;
	} while (bt_parse_accept(p, BT_TOK_COMMA));
	return chain;
}

/* ---- statements ------------------------------------------------------------ */

/* *end is where the next one goes, so that they keep their order. */
static struct bt_param_name *add_name(struct bt_parser *p,
				      struct bt_param_name ***end,
				      const struct bt_token *tok)
{
	struct bt_param_name *name = bt_mason_alloc(p->lx.m, sizeof(*name));

	if (!name)
		return NULL;
	name->name = tok->text;
	name->pos = tok->pos;
	**end = name;
	*end = &name->next;
	return name;
}

/* a, b :: inst; tok is the first comma. */
static bool parse_decl(struct bt_parser *p, struct bt_stmt *stmt,
		       const struct bt_token *first)
{
	struct bt_param_name **end = &stmt->names;
	struct bt_token tok = *first;

	stmt->kind = BT_STMT_DECL;
	do {
		if (!check_name(p, tok.text, tok.pos) ||
		    !add_name(p, &end, &tok))
			return false;
		if (!bt_parse_accept(p, BT_TOK_COMMA))
			break;
		tok = p->tok;
	} while (bt_parse_expect(p, BT_TOK_NAME, "a name"));
	if (!bt_parse_expect(p, BT_TOK_COLONS, "',' or '::'"))
		return false;
	tok = p->tok;
	if (!bt_parse_expect(p, BT_TOK_NAME, "a class"))
		return false;
	stmt->inst = bt_parse_inst(p, tok.text, tok.pos);
	return stmt->inst && expect_end(p);
}

/* A declaration of several names and a chain begin alike: the comma tells. */
static bool parse_graph(struct bt_parser *p, struct bt_stmt *stmt)
{
	struct bt_token first = p->tok;

	if (first.kind != BT_TOK_NAME && first.kind != BT_TOK_LBRACKET)
		return bt_parse_expect(p, BT_TOK_NAME, "a statement");
	stmt->kind = BT_STMT_CHAIN;
	if (first.kind == BT_TOK_NAME) {
		bt_parse_next(p);
		if (p->tok.kind == BT_TOK_COMMA)
			return parse_decl(p, stmt, &first);
		stmt->chain = parse_chain(p, &first);
	} else {
		stmt->chain = parse_chain(p, NULL);
	}
	return stmt->chain && expect_end(p);
}

static bool parse_let(struct bt_parser *p, struct bt_stmt *stmt)
{
	stmt->kind = BT_STMT_LET;
	stmt->name = p->tok.text;
	stmt->name_pos = p->tok.pos;
	if (!bt_parse_expect(p, BT_TOK_VAR, "a $name") ||
	    !bt_parse_expect(p, BT_TOK_EQUAL, "'='"))
		return false;
	stmt->value = bt_parse_value(p);
	return stmt->value && expect_end(p);
}

static struct bt_stmt *parse_stmts(struct bt_parser *p);

static bool parse_def_params(struct bt_parser *p, struct bt_stmt *stmt)
{
	struct bt_param_name **end = &stmt->names;

	if (!bt_parse_expect(p, BT_TOK_LPAREN, "'('"))
		return false;
	if (bt_parse_accept(p, BT_TOK_RPAREN))
		return true;
	do {
		struct bt_token tok = p->tok;

		if (!bt_parse_expect(p, BT_TOK_VAR, "a $name") ||
		    !add_name(p, &end, &tok))
			return false;
	} while (bt_parse_accept(p, BT_TOK_COMMA));
	return bt_parse_expect(p, BT_TOK_RPAREN, "',' or ')'");
}

/* A body that did not parse to its end leaves the def with the statements
 * before; its names are known, so what uses it is not told of as unknown. */
static bool parse_def(struct bt_parser *p, struct bt_stmt *stmt)
{
	struct bt_diag *diag;
	struct bt_pos brace;

	stmt->kind = BT_STMT_DEF;
	stmt->name = p->tok.text;
	stmt->name_pos = p->tok.pos;
	if (p->in_def) {
		bt_mason_error(p->lx.m, stmt->pos, NULL, "a def inside a def");
		p->lx.m->syntax_errors = true;
		return false;
	}
	if (!bt_parse_expect(p, BT_TOK_NAME, "the name of the def") ||
	    !check_name(p, stmt->name, stmt->name_pos) ||
	    !parse_def_params(p, stmt))
		return false;
	brace = p->tok.pos;
	if (!bt_parse_expect(p, BT_TOK_LBRACE, "'{'"))
		return false;
	p->in_def = true;
	stmt->body = parse_stmts(p);
	p->in_def = false;
	if (bt_parse_accept(p, BT_TOK_RBRACE))
		return true;
	p->lx.m->syntax_errors = true;
	diag = bt_mason_error(p->lx.m, p->last_end, NULL,
			      "expected '}' at the end of def '%s'",
			      stmt->name);
	bt_mason_note(p->lx.m, diag, brace, "it begins here");
	return true;
}

/* The path is taken from the source as it stands, from the first name to the
 * end of the last. */
static struct bt_cmp *parse_cmp(struct bt_parser *p)
{
	struct bt_cmp *cmp = bt_mason_alloc(p->lx.m, sizeof(*cmp));
	uint32_t end;

	if (!cmp)
		return NULL;
	cmp->pos = p->tok.pos;
	do {
		end = p->tok.pos.at + p->tok.len;
		if (!bt_parse_expect(p, BT_TOK_NAME, "a name"))
			return NULL;
	} while (bt_parse_accept(p, BT_TOK_DOT));
	cmp->path = bt_mason_strndup(
		p->lx.m, p->lx.m->sources[p->lx.file].text + cmp->pos.at,
		end - cmp->pos.at);
	cmp->rel = p->tok.text;
	if (!cmp->path ||
	    !bt_parse_expect(p, BT_TOK_REL, "one of == != < <= > >="))
		return NULL;
	cmp->value = bt_parse_value(p);
	return cmp->value ? cmp : NULL;
}

/* Joined by && alone: what holds is written one below the other as well, and a
 * choice between two graphs is the writer's. */
static bool parse_assert(struct bt_parser *p, struct bt_stmt *stmt)
{
	struct bt_cmp **end = &stmt->cmps;

	stmt->kind = BT_STMT_ASSERT;
	p->in_assert = true;
	do {
		*end = parse_cmp(p);
		if (!*end)
			return false;
		end = &(*end)->next;
	} while (bt_parse_accept(p, BT_TOK_AND));
	return expect_end(p);
}

/* The file is parsed right here, with a parser of its own: its statements stand
 * in this one's place. */
static bool parse_include(struct bt_parser *p, struct bt_stmt *stmt)
{
	struct bt_token name = p->tok;

	stmt->kind = BT_STMT_INCLUDE;
	if (!bt_parse_expect(p, BT_TOK_STRING, "the name of a file, a string"))
		return false;
	if (!expect_end(p))
		return false;
	if (p->in_def)
		bt_mason_error(p->lx.m, stmt->pos, NULL,
			       "an include inside a def");
	else
		stmt->body = bt_mason_include(p->lx.m, name.text, name.pos);
	return true;
}

/* What does not begin with a word of the language is a part of the graph. */
static bool parse_stmt(struct bt_parser *p, struct bt_stmt *stmt)
{
	static const struct {
		const char *word;
		bool (*fn)(struct bt_parser *p, struct bt_stmt *stmt);
	} kinds[] = {
		{ "let", parse_let },
		{ "def", parse_def },
		{ "assert", parse_assert },
		{ "include", parse_include },
	};
	size_t i;

	stmt->pos = p->tok.pos;
	p->in_assert = false;
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (at_word(p, kinds[i].word)) {
			bt_parse_next(p);
			return kinds[i].fn(p, stmt);
		}
	return parse_graph(p, stmt);
}

/* Each turn takes one token at least, also where a statement is wrong: so it ends
 * whatever the text is. */
static struct bt_stmt *parse_stmts(struct bt_parser *p)
{
	struct bt_stmt *first = NULL, **end = &first;

	while (p->tok.kind != BT_TOK_END && !p->lx.m->failed) {
		struct bt_stmt *stmt;
		uint32_t before = p->tok.pos.at;

		if (p->tok.kind == BT_TOK_RBRACE) {
			/* the def's own end; a caller sees to it */
			if (p->in_def)
				break;
			bt_parse_expect(p, BT_TOK_NAME, "a statement");
			bt_parse_next(p);
			continue;
		}
		stmt = bt_mason_alloc(p->lx.m, sizeof(*stmt));
		if (!stmt)
			break;
		if (parse_stmt(p, stmt)) {
			*end = stmt;
			end = &stmt->next;
		} else {
			p->lx.m->syntax_errors = true;
			/* what was left half way had gone deeper */
			p->nesting = 0;
			/* a keyword that was not moved past is the same one */
			if (p->tok.pos.at == before)
				bt_parse_next(p);
			skip_stmt(p);
		}
	}
	return first;
}

struct bt_stmt *bt_mason_parse(struct blktap_mason *m, uint32_t file)
{
	struct bt_parser p = { .lx = { .m = m, .file = file } };

	bt_parse_next(&p);
	return parse_stmts(&p);
}
