/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the Block Mason language share. A check runs through them
 * in this order:
 *
 *   lex.c, parse.c, value.c   text -> syntax tree (ast.h), errors recovered from
 *   include.c                 the files a file brings in
 *   build.c, names.c, args.c  tree -> nodes and wires: macros unfolded,
 *                             arguments checked against their class
 *   wires.c, link.c           wires -> edges: names looked up, ports found
 *   check.c                   open ports, loops, what no front reaches
 *   flow.c, sizes.c           who writes what, what is encrypted, sizes, memory
 *   core.c                    the arguments with an @
 *   diag.c                    everything found, sorted and rendered
 *
 * All of it lives in one arena of bounded size, which ends with the object.
 * Nothing recurses by what the text says, except where a depth is checked. */
#ifndef BT_MASON_PRIVATE_H
#define BT_MASON_PRIVATE_H

#include "mason/ast.h"
#include "mason/mason.h"
#include "util/strbuf.h"

/* Bounds; each has a message where a file can meet it. */
#define BT_MASON_MAX_ARENA ((size_t)64 << 20)
#define BT_MASON_MAX_TEXT ((size_t)1 << 20) /* one file */
#define BT_MASON_MAX_FILES 64u
#define BT_MASON_MAX_DEPTH 16u /* include, def */
#define BT_MASON_MAX_NESTING 16u /* lists, branches */
#define BT_MASON_MAX_NODES 16384u
#define BT_MASON_MAX_LEGS 256u
#define BT_MASON_MAX_SHOWN 100u
#define BT_MASON_MAX_PARAMS 64u

/* ---- memory (arena.c) ------------------------------------------------------ */

/* Zeroed memory, or NULL: then m->failed is set, and the check as a whole ends
 * with -ENOMEM, so that callers only have to get out. */
void *bt_mason_alloc(struct blktap_mason *m, size_t bytes);
char *bt_mason_strndup(struct blktap_mason *m, const char *text, size_t len);
char *bt_mason_printf(struct blktap_mason *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* An array with room for at least one more than count, at twice the size. */
void *bt_mason_grow(struct blktap_mason *m, void *old, uint32_t count,
		    uint32_t *cap, size_t each);
void bt_mason_free_all(struct blktap_mason *m);

/* ---- what was found (diag.c) ----------------------------------------------- */

struct bt_note {
	struct bt_pos pos;
	const char *text;
	struct bt_note *next;
};

struct bt_diag {
	bool warning;
	bool hides_text; /* a secret stands there */
	struct bt_pos pos;
	const char *text;
	const char *hint; /* or NULL */
	struct bt_note *notes, **notes_end;
};

/* Both return NULL where the same was said already, or where enough was said;
 * bt_mason_note takes that. hint is copied, and may be NULL. */
struct bt_diag *bt_mason_error(struct blktap_mason *m, struct bt_pos pos,
			       const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
struct bt_diag *bt_mason_warn(struct blktap_mason *m, struct bt_pos pos,
			      const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void bt_mason_note(struct blktap_mason *m, struct bt_diag *diag,
		   struct bt_pos pos, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts what was found in the order of the text. */
void bt_mason_sort(struct blktap_mason *m);
void bt_mason_render(struct blktap_mason *m, struct bt_strbuf *out);
void bt_mason_render_json(struct blktap_mason *m, struct bt_strbuf *out);

/* ---- text (lex.c) ---------------------------------------------------------- */

struct bt_source {
	const char *name;
	const char *text; /* ended by a NUL that is not counted */
	size_t len;
	uint32_t depth; /* of includes */
	struct bt_pos from; /* the include; of file 0 nothing */
};

enum bt_tok {
	BT_TOK_END,
	BT_TOK_BAD, /* said already */
	BT_TOK_NAME,
	BT_TOK_PATH,
	BT_TOK_STRING,
	BT_TOK_NUMBER,
	BT_TOK_VAR,
	BT_TOK_COMMENT, /* only where asked for */
	BT_TOK_ARROW,
	BT_TOK_FAT,
	BT_TOK_COLONS,
	BT_TOK_AND,
	BT_TOK_REL,
	BT_TOK_LPAREN,
	BT_TOK_RPAREN,
	BT_TOK_LBRACKET,
	BT_TOK_RBRACKET,
	BT_TOK_LBRACE,
	BT_TOK_RBRACE,
	BT_TOK_COMMA,
	BT_TOK_SEMICOLON,
	BT_TOK_EQUAL,
	BT_TOK_AT,
	BT_TOK_DOT,
};

struct bt_token {
	enum bt_tok kind;
	struct bt_pos pos;
	uint32_t len; /* in the source */
	const char *text; /* NAME, PATH, STRING, NUMBER, VAR (no $), REL */
	bool first_on_line;
	uint32_t blank_lines; /* newlines before it, less one */
};

struct bt_lexer {
	struct blktap_mason *m;
	uint32_t file;
	uint32_t at;
	bool comments;
};

void bt_lex(struct bt_lexer *lx, struct bt_token *out);
/* "','", "the name 'gold'": for "expected .., found ..". */
const char *bt_token_describe(struct blktap_mason *m,
			      const struct bt_token *tok);

/* ---- syntax (parse.c, value.c, include.c) ---------------------------------- */

struct bt_parser {
	struct bt_lexer lx;
	struct bt_token tok; /* the next one */
	struct bt_pos last_end; /* where the one before it ended */
	uint32_t nesting;
	bool in_def;
	bool in_assert;
};

/* The statements of a source. */
struct bt_stmt *bt_mason_parse(struct blktap_mason *m, uint32_t file);
void bt_parse_next(struct bt_parser *p);
bool bt_parse_accept(struct bt_parser *p, enum bt_tok kind);
/* Says "expected WHAT, found ..". */
bool bt_parse_expect(struct bt_parser *p, enum bt_tok kind, const char *what);
/* One level deeper; false, and said, where that is too deep. */
bool bt_parse_deeper(struct bt_parser *p);
/* class "(" args ")" [ "was" NAME ]; tok is the "(". */
struct bt_inst *bt_parse_inst(struct bt_parser *p, const char *name,
			      struct bt_pos pos);
struct bt_value *bt_parse_value(struct bt_parser *p);
/* Brings a file in; its statements, or NULL. */
struct bt_stmt *bt_mason_include(struct blktap_mason *m, const char *name,
				 struct bt_pos pos);

/* ---- names (names.c) ------------------------------------------------------- */

enum bt_name_kind { BT_NAME_NODE, BT_NAME_LET, BT_NAME_DEF, BT_NAME_WAS };

struct bt_name {
	const char *text;
	enum bt_name_kind kind;
	uint32_t hash;
	struct bt_pos pos;
	void *what; /* struct bt_item, bt_value or bt_stmt */
	bool used;
	bool fixed; /* by -D: the file's let does not count */
};

struct bt_names {
	struct bt_name **slots;
	uint32_t cap, count;
};

/* NULL where it is not there. Names of different kinds do not know of each other. */
struct bt_name *bt_names_find(const struct bt_names *names,
			      enum bt_name_kind kind, const char *text);
/* NULL where memory is out. The name is not there yet. */
struct bt_name *bt_names_add(struct blktap_mason *m, struct bt_names *names,
			     enum bt_name_kind kind, const char *text,
			     struct bt_pos pos);
/* Offers all names of a kind that begin with prefix, without it. */
struct bt_suggest;
void bt_names_offer(const struct bt_names *names, enum bt_name_kind kind,
		    const char *prefix, struct bt_suggest *s);

/* ---- building (build.c, args.c, link.c) ------------------------------------ */

/* One unfolding of a def, or the file itself. */
struct bt_scope {
	struct bt_scope *up;
	const char *prefix; /* of the full names in it; "" or "a." */
	const char *was_prefix; /* of their former names; or NULL */
	struct bt_pos used_at;
	const char *def; /* NULL: the file */
	uint32_t depth;
	struct bt_wire *wires, **wires_end;
	struct bt_end *in; /* what the def's "in" goes to */
	bool has_in;
	struct bt_pos in_pos;
};

/* What a name stands for: a node, or a def in whose place stands its entry. */
struct bt_item {
	struct bt_mason_node *node; /* NULL: a def, or wrong */
	const char *def; /* its name, or NULL */
	bool wrong; /* what went wrong was said */
	struct bt_end *entry; /* of a def with an "in" */
};

/* One end of a link, before and after names are looked up. */
struct bt_end {
	const char *ref; /* NULL: item is known */
	struct bt_item *item;
	struct bt_pos pos;
	const struct bt_port_ref *port; /* or NULL */
};

struct bt_wire {
	struct bt_end from, to;
	bool from_in;
	int32_t slot; /* of =>; -1: -> */
	struct bt_pos pos;
	struct bt_wire *next;
};

void bt_mason_build(struct blktap_mason *m, struct bt_stmt *stmts);
/* The notes that say through which defs a place was reached. */
void bt_scope_notes(struct blktap_mason *m, struct bt_diag *diag,
		    const struct bt_scope *scope);
/* Names as they stand in messages. */
const char *bt_mason_full(struct blktap_mason *m, const struct bt_scope *scope,
			  const char *name);

/* Checks inst's arguments; node->args and node->core are made. */
void bt_mason_args(struct blktap_mason *m, struct bt_scope *scope,
		   struct bt_inst *inst, struct bt_mason_node *node);
/* The value a value stands for: variables looked up. NULL: said. */
struct bt_value *bt_mason_eval(struct blktap_mason *m, struct bt_scope *scope,
			       struct bt_value *value);
/* The class of that name or alias among the caller's and the fronts. */
const struct blktap_class *bt_mason_class(struct blktap_mason *m,
					  const char *name);
const struct blktap_class *bt_mason_next_class(
	struct blktap_mason *m, const struct blktap_class *previous);
extern const struct blktap_class bt_mason_disk_class;
extern const struct blktap_class bt_mason_export_class;
extern const struct blktap_class bt_mason_core_class;

/* Looks the names of a scope's wires up, and links (wires.c). */
void bt_mason_resolve(struct blktap_mason *m, struct bt_scope *scope);
/* Makes the link of a wire whose ends are known; false, and said, where it
 * cannot be. */
bool bt_mason_link(struct blktap_mason *m, const struct bt_scope *scope,
		   const struct bt_wire *wire);

/* ---- the graph (check.c, flow.c, sizes.c) ---------------------------------- */

/* Open ports, loops, what is not reached. Fills order; false: there is a loop. */
bool bt_mason_check_shape(struct blktap_mason *m);
/* Of the arguments with an @ (core.c). */
void bt_mason_check_core(struct blktap_mason *m);
void bt_mason_check_flow(struct blktap_mason *m);
void bt_mason_check_sizes(struct blktap_mason *m);
void bt_mason_check_asserts(struct blktap_mason *m);
/* Whether "param=value" holds for the node; "" always does. */
bool bt_mason_holds(const struct bt_mason_node *node, const char *condition);
/* 1073741824 as "1G". */
const char *bt_mason_size_text(struct blktap_mason *m, uint64_t bytes);

/* The canonical form of source 0, which has no errors (fmt.c). */
int bt_mason_format(struct blktap_mason *m, char **out);

static inline const struct bt_port_desc *bt_link_port(
	const struct bt_mason_node *node, const struct bt_mason_link *link)
{
	return &node->cls->ports[link->port];
}

struct blktap_mason {
	struct blktap_mason_options options;
	/* memory */
	struct bt_block *blocks;
	size_t block_used, total;
	bool failed;
	/* text */
	struct bt_source sources[BT_MASON_MAX_FILES];
	uint32_t source_count;
	/* what was found */
	struct bt_diag *diags[BT_MASON_MAX_SHOWN];
	uint32_t diag_count, errors, warnings, unshown;
	bool syntax_errors; /* then a name that is missing may be no mistake */
	/* what is made */
	struct bt_names names;
	struct bt_mason_graph graph;
	uint32_t node_cap;
	uint32_t assert_cap;
	uint32_t anonymous; /* nodes without a name so far */
	bool too_many; /* nodes */
	bool alone; /* only the syntax of one file is looked at */
	/* answers */
	struct bt_strbuf report, json;
};

#endif
