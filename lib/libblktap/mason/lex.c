/* SPDX-License-Identifier: BSD-3-Clause */
/* Text to tokens. A byte that begins none is said once and passed over. */
#include <ctype.h>
#include <string.h>

#include "mason/private.h"

#define MAX_NAME 64u

/* -1 at the end, so no caller needs to know how long the text is; the source is
 * never changed. */
static int peek(const struct bt_lexer *lx, uint32_t ahead)
{
	const struct bt_source *src = &lx->m->sources[lx->file];
	size_t at = (size_t)lx->at + ahead;

	return at < src->len ? (unsigned char)src->text[at] : -1;
}

/* For messages about a byte inside of a token. */
static struct bt_pos here(const struct bt_lexer *lx)
{
	return (struct bt_pos){ lx->file, lx->at };
}

/* c < 0x80: isalpha may say yes to more in some locales, and the language is
 * the same everywhere. */
static bool is_name_start(int c)
{
	return c >= 0 && (isalpha(c) || c == '_') && c < 0x80;
}

static bool is_word(int c)
{
	return is_name_start(c) || (c >= '0' && c <= '9');
}

/* A '-' belongs to a name where the name goes on behind it: "a->b" is three
 * tokens, "drop-image" is one. */
static bool is_name_part(const struct bt_lexer *lx)
{
	int c = peek(lx, 0);

	return is_word(c) || (c == '-' && is_word(peek(lx, 1)));
}

/* What a path may hold without quotes: it ends at a blank, a comma or a parenthesis,
 * which is where it ends among arguments. Bytes of UTF-8 are taken as they are. */
static bool is_path_part(int c)
{
	return is_word(c) || c >= 0x80 || (c > 0 && strchr("/._-+@%:=~", c));
}

/* The text from start to where the lexer is. */
static void take(struct bt_lexer *lx, struct bt_token *out, enum bt_tok kind,
		 uint32_t skip)
{
	const char *text = lx->m->sources[lx->file].text;

	out->kind = kind;
	out->text = bt_mason_strndup(lx->m, text + out->pos.at + skip,
				     lx->at - out->pos.at - skip);
	if (!out->text)
		out->kind = BT_TOK_END;
}

/* A name is bounded, since messages and full names ("a.b") are made of it. */
static void lex_name(struct bt_lexer *lx, struct bt_token *out)
{
	while (is_name_part(lx))
		lx->at++;
	if (lx->at - out->pos.at > MAX_NAME) {
		bt_mason_error(lx->m, out->pos, NULL,
			       "a name of more than %u bytes", MAX_NAME);
		out->kind = BT_TOK_BAD;
		return;
	}
	take(lx, out, BT_TOK_NAME, 0);
}

static void lex_var(struct bt_lexer *lx, struct bt_token *out)
{
	lx->at++;
	if (!is_name_start(peek(lx, 0))) {
		bt_mason_error(lx->m, out->pos, NULL,
			       "expected a name right behind '$'");
		out->kind = BT_TOK_BAD;
		return;
	}
	lex_name(lx, out);
	if (out->kind == BT_TOK_NAME)
		take(lx, out, BT_TOK_VAR, 1);
}

static bool is_unit(const char *text, size_t len)
{
	static const char *const units[] = { "",  "k",	"K",  "M", "G",
					     "T", "us", "ms", "s", "m",
					     "h", "d",	"%" };
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i]) == len && !memcmp(units[i], text, len))
			return true;
	return false;
}

/* "1.5G", and what is stuck to it. */
static bool is_fraction(struct bt_lexer *lx)
{
	if (peek(lx, 0) != '.' || !isdigit(peek(lx, 1)))
		return false;
	bt_mason_error(lx->m, here(lx), "take a smaller unit: 1536M for 1.5G",
		       "numbers are whole");
	for (lx->at++; is_word(peek(lx, 0)); lx->at++)
		;
	if (peek(lx, 0) == '/' && is_word(peek(lx, 1)))
		lx->at += 2;
	return true;
}

/* Digits and what is stuck to them: "5sec" is one token with a wrong unit, not
 * two, and so is "5/min". */
static void lex_number(struct bt_lexer *lx, struct bt_token *out)
{
	const char *text = lx->m->sources[lx->file].text;
	uint32_t unit;

	while (isdigit(peek(lx, 0)))
		lx->at++;
	if (is_fraction(lx)) {
		out->kind = BT_TOK_BAD;
		return;
	}
	unit = lx->at;
	while (is_word(peek(lx, 0)) || peek(lx, 0) == '%')
		lx->at++;
	if (peek(lx, 0) == '/' && is_word(peek(lx, 1)) &&
	    (peek(lx, 1) != 's' || is_word(peek(lx, 2))))
		for (lx->at++; is_word(peek(lx, 0)); lx->at++)
			;
	if (!is_unit(text + unit, lx->at - unit)) {
		bt_mason_error(lx->m, (struct bt_pos){ lx->file, unit },
			       "units are k M G T, each with /s for a rate, "
			       "us ms s m h d, and %",
			       "there is no unit '%.*s'", (int)(lx->at - unit),
			       text + unit);
		out->kind = BT_TOK_BAD;
		return;
	}
	if (peek(lx, 0) == '/' && peek(lx, 1) == 's' && !is_word(peek(lx, 2)))
		lx->at += 2;
	take(lx, out, BT_TOK_NUMBER, 0);
}

/* From '/' on: a path is absolute, since the program that reads the file has a
 * directory of its own. */
static void lex_path(struct bt_lexer *lx, struct bt_token *out)
{
	while (is_path_part(peek(lx, 0)))
		lx->at++;
	take(lx, out, BT_TOK_PATH, 0);
}

/* What stands for \c in a string; 0: nothing does. */
static char escape(int c)
{
	return c == '"' || c == '\\' ? (char)c
	       : c == 'n'	     ? '\n'
	       : c == 't'	     ? '\t'
				     : 0;
}

/* A string ends with its line, so that a quote that is missing costs one line
 * and not the rest of the file. On a mistake the lexer goes on to the string's
 * end. */
static void lex_string(struct bt_lexer *lx, struct bt_token *out)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	bool bad = false;
	int c;

	for (lx->at++; (c = peek(lx, 0)) != '"'; lx->at++) {
		if (c == '\n' || c < 0) {
			bt_mason_error(lx->m, out->pos,
				       "close it with \" on the same line",
				       "the string has no end");
			bad = true;
			break;
		}
		if (c == '\\') {
			c = escape(peek(lx, 1));
			if (c) {
				lx->at++;
			} else {
				bt_mason_error(lx->m, here(lx),
					       "\\\" \\\\ \\n and \\t are",
					       "not an escape of a string");
				bad = true;
			}
		} else if (c < ' ' && c != '\t') {
			bt_mason_error(lx->m, here(lx), NULL,
				       "a control byte (0x%02x) in a string",
				       (unsigned int)c);
			bad = true;
		}
		bt_strbuf_putc(&sb, (char)c);
	}
	if (peek(lx, 0) == '"')
		lx->at++;
	out->text = bt_mason_strndup(lx->m, bt_strbuf_str(&sb), sb.len);
	out->kind = bad || !out->text ? BT_TOK_BAD : BT_TOK_STRING;
	bt_strbuf_fini(&sb);
}

/* Looked at before a path: one that would begin with two slashes needs quotes. */
static bool at_comment(const struct bt_lexer *lx)
{
	return peek(lx, 0) == '#' ||
	       (peek(lx, 0) == '/' &&
		(peek(lx, 1) == '/' || peek(lx, 1) == '*'));
}

/* One byte of a comment; a terminal must be able to show it. */
static void pass_byte(struct bt_lexer *lx)
{
	int c = peek(lx, 0);

	if (c < ' ' && c != '\t' && c != '\n' && c != '\r') {
		bt_mason_error(lx->m, here(lx), NULL,
			       "a control byte (0x%02x) in a comment",
			       (unsigned int)c);
		lx->m->syntax_errors = true;
	}
	lx->at++;
}

static void pass_comment(struct bt_lexer *lx)
{
	struct bt_pos start = here(lx);

	if (peek(lx, 0) == '#' || peek(lx, 1) == '/') {
		while (peek(lx, 0) >= 0 && peek(lx, 0) != '\n')
			pass_byte(lx);
		return;
	}
	for (lx->at += 2; peek(lx, 0) >= 0; pass_byte(lx))
		if (peek(lx, 0) == '*' && peek(lx, 1) == '/') {
			lx->at += 2;
			return;
		}
	bt_mason_error(lx->m, start, "close it with */",
		       "the comment has no end");
	lx->m->syntax_errors = true;
}

/* Passes blanks, and comments where they are not asked for. Whether a token is
 * the first on its line tells the parser where a ';' is missing; empty lines
 * are for fmt.c. */
static void pass_blanks(struct bt_lexer *lx, struct bt_token *out)
{
	uint32_t newlines = 0;

	for (;; lx->at++) {
		int c = peek(lx, 0);

		while (!lx->comments && at_comment(lx)) {
			pass_comment(lx);
			c = peek(lx, 0);
		}
		newlines += c == '\n';
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			break;
	}
	out->first_on_line = newlines > 0;
	out->blank_lines = newlines > 1 ? newlines - 1 : 0;
}

static const struct {
	const char *text; /* longer ones first */
	enum bt_tok kind;
} marks[] = {
	{ "->", BT_TOK_ARROW },	  { "=>", BT_TOK_FAT },
	{ "::", BT_TOK_COLONS },  { "&&", BT_TOK_AND },
	{ "==", BT_TOK_REL },	  { "!=", BT_TOK_REL },
	{ "<=", BT_TOK_REL },	  { ">=", BT_TOK_REL },
	{ "<", BT_TOK_REL },	  { ">", BT_TOK_REL },
	{ "(", BT_TOK_LPAREN },	  { ")", BT_TOK_RPAREN },
	{ "[", BT_TOK_LBRACKET }, { "]", BT_TOK_RBRACKET },
	{ "{", BT_TOK_LBRACE },	  { "}", BT_TOK_RBRACE },
	{ ",", BT_TOK_COMMA },	  { ";", BT_TOK_SEMICOLON },
	{ "=", BT_TOK_EQUAL },	  { "@", BT_TOK_AT },
	{ ".", BT_TOK_DOT },
};

/* What is not of the language may be of another one. */
static const struct {
	const char *text; /* longer ones first */
	const char *hint;
} others[] = {
	{ "- >", "write ->" },
	{ "||", "one assert holds where all its comparisons do: join them by "
		"&&" },
	{ "\xe2\x86\x92", "write ->" }, /* an arrow */
	{ "\xe2\x87\x92", "write =>" },
	{ "\xe2\x80\x9c", "quotes are \"" },
	{ "\xe2\x80\x9d", "quotes are \"" },
	{ "'", "strings stand in double quotes" },
	{ "~", "write the path from '/' on" },
	{ ":",
	  "a node is declared by name :: class(...); put a URI in quotes" },
	{ "*/", "no comment is open here" },
};

static void other_mark(struct bt_lexer *lx)
{
	const char *text = lx->m->sources[lx->file].text + lx->at;
	int c = peek(lx, 0);
	const char *hint =
		c >= 0x80 ? "put names of files in \"quotes\"" : NULL;
	size_t i, length = 1;

	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strncmp(text, others[i].text, strlen(others[i].text))) {
			hint = others[i].hint;
			length = strlen(others[i].text);
			break;
		}
	if (c == '-' && isdigit(peek(lx, 1)))
		hint = "no number is negative";
	/* the byte of what cannot be shown, or not as a whole */
	if (c > ' ' && c < 0x7f)
		bt_mason_error(lx->m, here(lx), hint,
			       "'%.*s' is not part of the language",
			       (int)length, text);
	else
		bt_mason_error(lx->m, here(lx), hint,
			       "the byte 0x%02x is not part of the language",
			       (unsigned int)c);
	/* one message for what stands in such quotes, and for a run of bytes */
	if (c == '\'' && text[1 + strcspn(text + 1, "'\n;")] == '\'')
		length = strcspn(text + 1, "'") + 2;
	lx->at += (uint32_t)length;
	while (peek(lx, 0) >= 0x80)
		lx->at++;
}

/* By strncmp against the source, which ends with a NUL: no mark reaches over
 * it. */
static void lex_mark(struct bt_lexer *lx, struct bt_token *out)
{
	const struct bt_source *src = &lx->m->sources[lx->file];
	size_t i;

	for (i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (!strncmp(src->text + lx->at, marks[i].text,
			     strlen(marks[i].text))) {
			lx->at += (uint32_t)strlen(marks[i].text);
			out->kind = marks[i].kind;
			out->text = marks[i].text;
			return;
		}
	out->kind = BT_TOK_BAD;
	other_mark(lx);
}

/* With memory out every token is END, so that all loops over tokens end. */
void bt_lex(struct bt_lexer *lx, struct bt_token *out)
{
	int c;

	memset(out, 0, sizeof(*out));
	pass_blanks(lx, out);
	out->pos = here(lx);
	c = peek(lx, 0);
	if (c < 0 || lx->m->failed) {
		out->kind = BT_TOK_END;
	} else if (at_comment(lx)) {
		pass_comment(lx);
		out->kind = BT_TOK_COMMENT;
	} else if (is_name_start(c)) {
		lex_name(lx, out);
	} else if (isdigit(c)) {
		lex_number(lx, out);
	} else if (c == '"') {
		lex_string(lx, out);
	} else if (c == '$') {
		lex_var(lx, out);
	} else if (c == '/') {
		lex_path(lx, out);
	} else {
		lex_mark(lx, out);
	}
	if (out->kind == BT_TOK_BAD)
		lx->m->syntax_errors = true;
	out->len = lx->at - out->pos.at;
}

const char *bt_token_describe(struct blktap_mason *m,
			      const struct bt_token *tok)
{
	const char *kind = tok->kind == BT_TOK_NAME	? "the name "
			   : tok->kind == BT_TOK_PATH	? "the path "
			   : tok->kind == BT_TOK_NUMBER ? "the number "
							: "";

	if (tok->kind == BT_TOK_END)
		return "the end of the file";
	if (tok->kind == BT_TOK_STRING)
		return "a string";
	return bt_mason_printf(m, "%s'%.*s'", kind, (int)tok->len,
			       m->sources[tok->pos.file].text + tok->pos.at);
}
