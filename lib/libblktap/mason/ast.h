/* SPDX-License-Identifier: BSD-3-Clause */
/* The syntax tree. Every part knows where it stands; all of it belongs to the
 * arena of the check. */
#ifndef BT_MASON_AST_H
#define BT_MASON_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A place: a byte of a source. Lines and columns are counted when asked for. */
struct bt_pos {
	uint32_t file;
	uint32_t at;
};

enum bt_value_kind {
	BT_VALUE_STRING,
	BT_VALUE_PATH,
	BT_VALUE_NAME,
	BT_VALUE_NUMBER, /* with its unit */
	BT_VALUE_VAR,
	BT_VALUE_LIST,
	BT_VALUE_WORD, /* of the command line: may be any of the others */
};

struct bt_value {
	enum bt_value_kind kind;
	struct bt_pos pos;
	const char *text; /* without quotes; of a LIST nothing */
	struct bt_value *items; /* LIST */
	struct bt_value *next;
};

struct bt_arg {
	struct bt_pos pos;
	bool core; /* @name */
	const char *name; /* NULL: by its place */
	struct bt_value *value;
	struct bt_arg *next;
};

struct bt_inst {
	struct bt_pos pos;
	const char *name; /* the class, or a def */
	struct bt_arg *args;
	const char *was; /* or NULL */
	struct bt_pos was_pos;
};

struct bt_port_ref {
	struct bt_pos pos;
	const char *name; /* NULL: number */
	uint32_t number;
};

/* NAME, NAME :: inst, inst, or "in". */
struct bt_hop {
	struct bt_pos pos;
	struct bt_port_ref *upper, *lower; /* or NULL */
	const char *name; /* or NULL */
	struct bt_inst *inst; /* or NULL */
	bool is_in;
	struct bt_pos arrow; /* the -> before it */
	struct bt_hop *next;
};

struct bt_chain {
	struct bt_hop *hops;
	struct bt_pos fat; /* the => */
	struct bt_chain *branches; /* behind => */
	struct bt_chain *next; /* the next branch */
};

struct bt_param_name {
	const char *name;
	struct bt_pos pos;
	struct bt_param_name *next;
};

/* NAME { "." NAME } REL value */
struct bt_cmp {
	struct bt_pos pos;
	const char *path; /* "run.m.state" */
	const char *rel;
	struct bt_value *value;
	struct bt_cmp *next;
};

enum bt_stmt_kind {
	BT_STMT_CHAIN,
	BT_STMT_DECL,
	BT_STMT_LET,
	BT_STMT_DEF,
	BT_STMT_ASSERT,
	BT_STMT_INCLUDE,
};

struct bt_stmt {
	enum bt_stmt_kind kind;
	struct bt_pos pos;
	const char *name; /* LET, DEF */
	struct bt_pos name_pos;
	struct bt_chain *chain; /* CHAIN */
	struct bt_param_name *names; /* DECL: declared; DEF: arguments */
	struct bt_inst *inst; /* DECL */
	struct bt_value *value; /* LET */
	struct bt_stmt *body; /* DEF, INCLUDE */
	struct bt_cmp *cmps; /* ASSERT */
	struct bt_stmt *next;
};

#endif
