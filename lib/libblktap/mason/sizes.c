/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes, block sizes and memory, as far as the arguments tell. What is known
 * only when an image is opened is 0 here, and checked by the planner. */
#include <inttypes.h>
#include <string.h>

#include "mason/private.h"
#include "util/checked.h"

const char *bt_mason_size_text(struct blktap_mason *m, uint64_t bytes)
{
	static const char units[] = "kMGT";
	int unit = -1;

	while (bytes && unit < 3 && !(bytes & 1023)) {
		bytes >>= 10;
		unit++;
	}
	return bt_mason_printf(m, "%" PRIu64 "%.*s", bytes, unit >= 0,
			       unit >= 0 ? units + unit : "");
}

/* A size among the arguments, whether the class calls it a number or a text.
 * "block_size" of one class is a number, of another an enum. */
static uint64_t size_arg(const struct bt_mason_node *node, const char *name)
{
	const char *text = bt_args_string(node->args, name);
	uint64_t out;

	return text && !bt_parse_size(text, &out) ? out : 0;
}

/* From the bottom up, so what is below is known, as far as it can be. Block
 * sizes: the largest of those below. */
static void set_size(struct blktap_mason *m, struct bt_mason_node *node)
{
	const struct bt_mason_link *link;
	uint64_t *lower;
	uint32_t i = 0;

	for (link = node->links; link; link = link->next)
		node->block_size =
			bt_max_u64(node->block_size, link->lower->block_size);
	if (!node->links)
		node->block_size = size_arg(node, "block_size");
	if (!node->cls->get_size) {
		node->size = node->links ? node->links->lower->size
					 : size_arg(node, "size");
		return;
	}
	lower = bt_mason_alloc(m, (node->link_count + 1) * sizeof(*lower));
	if (!lower)
		return;
	for (link = node->links; link; link = link->next)
		lower[i++] = link->lower->size;
	node->size = node->cls->get_size(node->args, lower, i);
}

/* The same is asked at opening, where all sizes are known; here it is told before
 * anything is opened. */
static void check_part(struct blktap_mason *m, const struct bt_mason_node *node)
{
	uint64_t offset, size, below;

	if (!(node->cls->flags & BT_CLASS_PART) || !node->links)
		return;
	offset = bt_args_number(node->args, "offset");
	size = bt_args_number(node->args, "size");
	below = node->links->lower->size;
	if (!below || bt_range_within(offset, size, below))
		return;
	bt_mason_error(m, node->pos, NULL,
		       "'%s' ends past the end of '%s', which is %s",
		       node->name, node->links->lower->name,
		       bt_mason_size_text(m, below));
}

/* Legs that stand for the same data are of one size, and should be of one block
 * size: the largest becomes that of the disk. 0 is not known, and differs from
 * nothing. */
static void check_legs(struct blktap_mason *m, const struct bt_mason_node *node)
{
	const struct bt_mason_link *link, *sized = NULL, *blocked = NULL;
	struct bt_diag *diag;

	for (link = node->links; link; link = link->next) {
		const struct bt_mason_node *leg = link->lower;

		if (!(bt_link_port(node, link)->flags & BT_PORT_SAME_SIZE))
			continue;
		if (!sized && leg->size)
			sized = link;
		if (!blocked && leg->block_size)
			blocked = link;
		if (sized && leg->size && leg->size != sized->lower->size) {
			diag = bt_mason_error(
				m, link->pos, NULL,
				"the legs of '%s' differ in size: '%s' is %s, "
				"'%s' is %s",
				node->name, sized->lower->name,
				bt_mason_size_text(m, sized->lower->size),
				leg->name, bt_mason_size_text(m, leg->size));
			bt_mason_note(m, diag, sized->lower->pos,
				      "'%s' is declared here",
				      sized->lower->name);
		}
		if (blocked && leg->block_size &&
		    leg->block_size != blocked->lower->block_size)
			bt_mason_warn(
				m, link->pos, NULL,
				"the legs of '%s' differ in block size: '%s' "
				"has %s, '%s' has %s",
				node->name, blocked->lower->name,
				bt_mason_size_text(m,
						   blocked->lower->block_size),
				leg->name,
				bt_mason_size_text(m, leg->block_size));
	}
}

/* ---- memory ---------------------------------------------------------------- */

/* Not exact as sizes are: upwards, to a tenth of what it is counted in. */
static const char *memory_text(struct blktap_mason *m, uint64_t bytes)
{
	static const char units[] = "kMGT";
	uint64_t unit = 1024, tenths;
	unsigned int i = 0;

	if (bytes < unit)
		return bt_mason_printf(m, "%" PRIu64, bytes);
	while (units[i + 1] && bytes / unit >= 1024) {
		unit *= 1024;
		i++;
	}
	tenths = bytes / unit * 10 + (bytes % unit * 10 + unit - 1) / unit;
	if (tenths % 10 == 0)
		return bt_mason_printf(m, "%" PRIu64 "%c", tenths / 10,
				       units[i]);
	return bt_mason_printf(m, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10,
			       tenths % 10, units[i]);
}

/* What is not known counts with what the class takes at least. The sum ends at
 * the largest number instead of running over. */
static void check_memory(struct blktap_mason *m)
{
	struct bt_mason_graph *g = &m->graph;
	const struct bt_mason_node *largest = NULL;
	struct bt_diag *diag;
	uint32_t i;

	for (i = 0; i < g->count; i++) {
		struct bt_mason_node *node = g->nodes[i];

		node->memory =
			node->cls->get_memory
				? node->cls->get_memory(node->args, node->size,
							node->link_count)
				: node->cls->node_bytes;
		if (!bt_mason_is_front(node))
			node->memory += bt_node_memory(node->link_count);
		if (!bt_checked_add(g->memory, node->memory, &g->memory))
			g->memory = UINT64_MAX;
		if (!largest || node->memory > largest->memory)
			largest = node;
	}
	if (!largest || !m->options.memory_budget ||
	    g->memory <= m->options.memory_budget)
		return;
	diag = bt_mason_error(m, (struct bt_pos){ 0, 0 }, NULL,
			      "the graph takes %s of memory, the budget is %s",
			      memory_text(m, g->memory),
			      bt_mason_size_text(m, m->options.memory_budget));
	bt_mason_note(m, diag, largest->pos, "'%s' (%s) takes most of it: %s",
		      largest->name, largest->cls->name,
		      memory_text(m, largest->memory));
}

/* Sizes of all first, as a leg may be declared anywhere in the text. */
void bt_mason_check_sizes(struct blktap_mason *m)
{
	struct bt_mason_graph *g = &m->graph;
	uint32_t i;

	for (i = g->count; i-- > 0 && !m->failed;)
		set_size(m, g->order[i]);
	for (i = 0; i < g->count; i++) {
		check_part(m, g->nodes[i]);
		check_legs(m, g->nodes[i]);
	}
	check_memory(m);
}
