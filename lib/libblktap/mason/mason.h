/* SPDX-License-Identifier: BSD-3-Clause */
/* The door of the Block Mason language: a text becomes a flat, checked graph,
 * from which a planner makes nodes and edges. Nothing here opens a file or
 * knows a running disk.
 *
 * <blktap/mason.h> has the calls; what they hand out inside is here. */
#ifndef BT_MASON_MASON_H
#define BT_MASON_MASON_H

#include <blktap/mason.h>

#include "mason/ast.h"
#include "port/args.h"
#include "port/port.h"

struct bt_mason_node;

/* An edge from a lower port of its owner. */
struct bt_mason_link {
	uint32_t port; /* in cls->ports of the upper node */
	uint32_t slot; /* of an array port; else 0 */
	struct bt_mason_node *lower;
	uint32_t
		upper; /* in cls->uppers of the lower node; 0 where it has none */
	struct bt_pos pos;
	bool writes; /* a front writes through it, or a store is kept behind it */
	struct bt_mason_link *next; /* by port, then slot */
};

/* A node of the graph, macros unfolded. */
struct bt_mason_node {
	const char
		*name; /* unique; "a.n" in a def; "raw#1" where it has none */
	bool anonymous;
	const char *was; /* what it was called before, or NULL */
	const struct blktap_class
		*cls; /* never NULL in a graph without errors */
	struct bt_args *args; /* complete and in range */
	struct bt_args *core; /* on_error, stats, expect: bt_mason_core_class */
	struct bt_pos pos;
	uint32_t index; /* in nodes */
	struct bt_mason_link *links;
	uint32_t link_count;
	/* what the checks found out */
	bool reached; /* by a front */
	bool written;
	bool is_volatile;
	uint64_t size; /* 0: not known before it is opened */
	uint64_t block_size; /* 0: not known */
	uint64_t memory;
	uint32_t uppers; /* edges that end here */
	bool wrong_link; /* an edge of it could not be made: said */
};

struct bt_mason_assert {
	struct bt_cmp *cmps; /* all must hold; values are looked up */
	struct bt_pos pos;
};

struct bt_mason_graph {
	struct bt_mason_node **nodes; /* in the order of the text */
	uint32_t count;
	struct bt_mason_node **order; /* each before what is below it */
	struct bt_mason_assert *asserts;
	uint32_t assert_count;
	uint64_t memory;
};

/* The graph of a check without errors, or NULL; owned by mason. */
const struct bt_mason_graph *bt_mason_get_graph(
	const struct blktap_mason *mason);

/* Line and column of a place, both from 1; the name of its file. */
const char *bt_mason_locate(const struct blktap_mason *mason, struct bt_pos pos,
			    uint32_t *line, uint32_t *column);

/* The class of the arguments with an @ before them. */
const struct blktap_class *bt_mason_get_core_class(void);

/* The graph for Graphviz; running, where it is not NULL, holds the node of each
 * index that runs, whose figures are drawn too. */
struct bt_node;
struct bt_strbuf;
void bt_mason_draw(const struct bt_mason_graph *graph,
		   struct bt_node *const *running, struct bt_strbuf *out);

/* Whether the node is a front: a disk or an export. */
bool bt_mason_is_front(const struct bt_mason_node *node);

/* Calls fn with each thing the node's data stands on, as far as its arguments
 * say: "file:/img/a.raw", "nbd:nbd://host/x". */
void bt_mason_stands_on(const struct bt_mason_node *node,
			void (*fn)(void *opaque, const char *what),
			void *opaque);

#endif
