/* SPDX-License-Identifier: BSD-3-Clause */
/* The canonical form of a text. It is made from tokens, comments among them, so
 * that nothing is lost: one statement a line, a def's body indented by a tab, at
 * most one empty line between two. A statement that does not fit in 80 columns,
 * or holds a comment that ends its line, is broken before each arrow. Printing
 * what was printed changes nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/private.h"

#define WIDTH 80u
#define TAB 8u

struct printer {
	struct blktap_mason *m;
	struct bt_lexer lx;
	struct bt_token tok; /* the next one */
	/* not of the arena: a file is one statement at worst */
	struct bt_token *toks; /* of one statement */
	uint32_t count, cap;
	uint32_t indent;
	bool fresh; /* at the beginning of the file or of a def */
	struct bt_strbuf out;
};

static const char *raw(const struct printer *p, const struct bt_token *tok)
{
	return p->m->sources[0].text + tok->pos.at;
}

/* A comment that the next token cannot stand behind. */
static bool ends_line(const struct printer *p, const struct bt_token *tok)
{
	return tok->kind == BT_TOK_COMMENT &&
	       (raw(p, tok)[0] == '#' || raw(p, tok)[1] == '/' ||
		memchr(raw(p, tok), '\n', tok->len));
}

/* As it stands in the text, with its quotes and escapes. */
static void put_token(struct printer *p, const struct bt_token *tok,
		      struct bt_strbuf *out)
{
	uint32_t len = tok->len;

	if (tok->kind == BT_TOK_COMMENT)
		while (len && strchr(" \t\r", raw(p, tok)[len - 1]))
			len--;
	bt_strbuf_add(out, raw(p, tok), len);
}

static void put_indent(struct printer *p, uint32_t more)
{
	uint32_t i;

	for (i = 0; i < p->indent + more; i++)
		bt_strbuf_putc(&p->out, '\t');
}

/* The token joins the statement, and the next one is looked at. */
static void take(struct printer *p)
{
	if (p->count == p->cap) {
		uint32_t cap = p->cap ? p->cap * 2 : 64;
		struct bt_token *toks =
			realloc(p->toks, cap * sizeof(*p->toks));

		if (!toks) {
			p->m->failed = true;
			return;
		}
		p->toks = toks;
		p->cap = cap;
	}
	p->toks[p->count++] = p->tok;
	bt_lex(&p->lx, &p->tok);
}

/* ---- one statement --------------------------------------------------------- */

/* Between last and tok, in a statement. depth: of parentheses, where "=" stands
 * close. */
static bool is_spaced(const struct bt_token *last, const struct bt_token *tok,
		      uint32_t depth)
{
	switch (tok->kind) {
	case BT_TOK_COMMA:
	case BT_TOK_SEMICOLON:
	case BT_TOK_RPAREN:
	case BT_TOK_RBRACKET:
	case BT_TOK_DOT:
		return last->kind == BT_TOK_COMMENT;
	case BT_TOK_LPAREN:
		return last->kind != BT_TOK_NAME && last->kind != BT_TOK_LPAREN;
	case BT_TOK_LBRACKET:
		if (last->kind == BT_TOK_NAME || last->kind == BT_TOK_RPAREN)
			return false;
		break;
	case BT_TOK_EQUAL:
		return !depth || last->kind == BT_TOK_COMMENT;
	default:
		break;
	}
	switch (last->kind) {
	case BT_TOK_LPAREN:
	case BT_TOK_LBRACKET:
	case BT_TOK_AT:
	case BT_TOK_DOT:
		return tok->kind == BT_TOK_COMMENT;
	case BT_TOK_EQUAL:
		return !depth || tok->kind == BT_TOK_COMMENT;
	default:
		return true;
	}
}

static bool opens(const struct bt_token *tok)
{
	return tok->kind == BT_TOK_LPAREN || tok->kind == BT_TOK_LBRACKET;
}

static bool closes(const struct bt_token *tok)
{
	return tok->kind == BT_TOK_RPAREN || tok->kind == BT_TOK_RBRACKET;
}

/* Whether it fits on one line. */
static bool is_flat(const struct printer *p)
{
	size_t width = (size_t)p->indent * TAB;
	uint32_t i, depth = 0;

	for (i = 0; i < p->count; i++) {
		const struct bt_token *tok = &p->toks[i];

		if (ends_line(p, tok))
			return false;
		width += tok->len;
		if (i)
			width += is_spaced(tok - 1, tok, depth);
		depth += opens(tok);
		depth -= closes(tok) && depth;
	}
	return width <= WIDTH;
}

/* Breaks before arrows that are not inside of parentheses, and, behind a =>,
 * after each comma. A comment that ends its line breaks anyway. */
static void put_stmt(struct printer *p)
{
	bool flat = is_flat(p), fat = false, broken = true;
	uint32_t i, depth = 0;

	put_indent(p, 0);
	for (i = 0; i < p->count; i++) {
		const struct bt_token *tok = &p->toks[i];
		bool arrow =
			tok->kind == BT_TOK_ARROW || tok->kind == BT_TOK_FAT;

		if (!flat && !broken && !depth &&
		    (arrow || (fat && tok[-1].kind == BT_TOK_COMMA))) {
			bt_strbuf_putc(&p->out, '\n');
			put_indent(p, arrow ? 1 : 2);
		} else if (!broken && is_spaced(tok - 1, tok, depth)) {
			bt_strbuf_putc(&p->out, ' ');
		}
		put_token(p, tok, &p->out);
		fat |= tok->kind == BT_TOK_FAT && !depth;
		depth += opens(tok);
		depth -= closes(tok) && depth;
		broken = ends_line(p, tok) && i + 1 < p->count;
		if (broken) {
			bt_strbuf_putc(&p->out, '\n');
			put_indent(p, 1);
		}
	}
}

/* ---- all of them ----------------------------------------------------------- */

static void end_line(struct printer *p)
{
	/* what stands behind the statement on its line stays there */
	while (p->tok.kind == BT_TOK_COMMENT && !p->tok.first_on_line) {
		bt_strbuf_putc(&p->out, ' ');
		put_token(p, &p->tok, &p->out);
		bt_lex(&p->lx, &p->tok);
	}
	bt_strbuf_putc(&p->out, '\n');
	p->fresh = false;
}

/* The text parsed, so a statement ends with ';' or the '{' of a def. */
static void print_stmt(struct printer *p)
{
	enum bt_tok end;

	p->count = 0;
	do {
		end = p->tok.kind;
		take(p);
	} while (end != BT_TOK_SEMICOLON && end != BT_TOK_LBRACE &&
		 p->tok.kind != BT_TOK_END && !p->m->failed);
	put_stmt(p);
	end_line(p);
	if (end == BT_TOK_LBRACE) {
		p->indent++;
		p->fresh = true;
	}
}

static void print_all(struct printer *p)
{
	p->fresh = true;
	bt_lex(&p->lx, &p->tok);
	while (p->tok.kind != BT_TOK_END && !p->m->failed) {
		bool closing = p->tok.kind == BT_TOK_RBRACE;

		if (p->tok.blank_lines && !p->fresh && !closing)
			bt_strbuf_putc(&p->out, '\n');
		if (closing && p->indent)
			p->indent--;
		if (p->tok.kind != BT_TOK_COMMENT && !closing) {
			print_stmt(p);
			continue;
		}
		put_indent(p, 0);
		put_token(p, &p->tok, &p->out);
		bt_lex(&p->lx, &p->tok);
		end_line(p);
	}
}

int bt_mason_format(struct blktap_mason *m, char **out)
{
	struct printer p = { .m = m, .lx = { .m = m, .comments = true } };

	print_all(&p);
	free(p.toks);
	if (m->failed) {
		bt_strbuf_fini(&p.out);
		return -ENOMEM;
	}
	if (!p.out.data)
		bt_strbuf_puts(&p.out, "");
	*out = bt_strbuf_steal(&p.out);
	return *out ? 0 : -ENOMEM;
}
