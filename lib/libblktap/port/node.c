/* SPDX-License-Identifier: BSD-3-Clause */
/* Nodes, from the bottom of a graph to its top:
 *
 *   made       has its arguments, and edges that lead nowhere
 *   linked     its edges lead to nodes that are open: its owner does that, before it is
 *              opened, or behind that where an image says what it stands on
 *   open       the class has what it needs. It is planned: limits and frame_sum hold
 *              until something below is linked anew, and then it is planned again
 *   closed     edges lead where they did, and nothing is submitted any more
 *   destroyed  with all below it that nobody else refers to
 *
 * What is above has been planned after what is below, each time: so the frames of a
 * request are known before it is sent. */
#include "port/port.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

#define MAX_BLOCK_SIZE 65536u
#define MIN_ROOM 512u /* bytes of frames; a little depth costs nothing later */

/* A pool of a node's children. */
struct node_pool {
	struct bt_list link;
	struct bt_pool *pool;
};

/* An array has as many as its owner says, any other port has one. */
static uint32_t edges_at(const struct blktap_class *cls, const uint32_t *edges,
			 uint32_t desc)
{
	if (edges)
		return edges[desc];
	return cls->ports[desc].flags & BT_PORT_ARRAY ? 0 : 1;
}

static uint32_t count_edges(const struct blktap_class *cls,
			    const uint32_t *edges)
{
	uint32_t i, n = 0;

	for (i = 0; cls->ports && cls->ports[i].name; i++)
		n += edges_at(cls, edges, i);
	return n;
}

/* In the order of the class's ports, and of the slots of each: ports[0] is what passes
 * and SAME_BYTES are about. */
static void init_ports(struct bt_node *node, const uint32_t *edges)
{
	const struct bt_port_desc *ports = node->cls->ports;
	struct bt_port *port = node->ports;
	uint32_t i, slot;

	for (i = 0; ports && ports[i].name; i++)
		for (slot = 0; slot < edges_at(node->cls, edges, i); slot++) {
			bt_port_init(port, node->env, node, ports[i].name);
			port->desc = i;
			port->slot = slot;
			port++;
		}
}

int bt_node_create(struct bt_env *env, const struct blktap_class *cls,
		   const char *name, struct bt_args *args, struct bt_node **out,
		   struct blktap_error **err)
{
	return bt_node_create_wide(env, cls, name, args, NULL, out, err);
}

int bt_node_create_wide(struct bt_env *env, const struct blktap_class *cls,
			const char *name, struct bt_args *args,
			const uint32_t *edges, struct bt_node **out,
			struct blktap_error **err)
{
	struct bt_node *node = calloc(1, sizeof(*node));

	if (!node) {
		bt_args_destroy(args);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       cls->name);
	}
	node->cls = cls;
	node->env = env;
	/* never used again, so that an address that is does not make two nodes
	 * look like one */
	node->serial = ++env->nodes;
	node->args = args;
	bt_list_init(&node->pools);
	node->port_count = count_edges(cls, edges);
	node->name = strdup(name ? name : cls->name);
	node->data = calloc(1, cls->node_bytes ? cls->node_bytes : 1);
	node->ports = calloc(node->port_count + 1, sizeof(*node->ports));
	if (!node->name || !node->data || !node->ports) {
		bt_node_destroy(node);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       cls->name);
	}
	init_ports(node, edges);
	*out = node;
	return 0;
}

struct bt_port *bt_node_port(const struct bt_node *node, uint32_t desc,
			     uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].desc == desc && node->ports[i].slot == slot)
			return &node->ports[i];
	return NULL;
}

uint32_t bt_node_edges(const struct bt_node *node, uint32_t desc)
{
	uint32_t i, n = 0;

	for (i = 0; i < node->port_count; i++)
		n += node->ports[i].desc == desc;
	return n;
}

/* Where the plan fails it is open, and its owner destroys it, as any. */
int bt_node_open(struct bt_node *node, uint32_t flags,
		 struct blktap_error **err)
{
	int rc = 0;

	if (node->cls->open)
		rc = node->cls->open(node, node->args, flags, err);
	if (rc < 0)
		return rc;
	node->is_open = true;
	return bt_node_plan(node, err);
}

/* Behind the class's close, which may have children out until it returns. */
static void destroy_pools(struct bt_node *node)
{
	struct bt_list *at;

	while ((at = bt_list_pop(&node->pools))) {
		struct node_pool *entry =
			bt_list_entry(at, struct node_pool, link);

		bt_pool_destroy(entry->pool);
		free(entry);
	}
}

void bt_node_start(struct bt_node *node)
{
	if (!node->on_trial)
		return;
	node->on_trial = false;
	if (node->cls->start)
		node->cls->start(node);
}

void bt_node_close(struct bt_node *node)
{
	if (node->is_open && node->cls->close)
		node->cls->close(node);
	node->is_open = false;
}

/* Closed before what it stands on, which it may write to at the end. What nobody
 * else stands on goes with it. */
void bt_node_destroy(struct bt_node *node)
{
	uint32_t i;

	if (!node)
		return;
	bt_node_close(node);
	for (i = 0; node->ports && i < node->port_count; i++) {
		struct bt_node *lower = node->ports[i].lower;

		if (!lower)
			continue;
		bt_port_link(&node->ports[i], NULL);
		if (!lower->refs)
			bt_node_destroy(lower);
	}
	destroy_pools(node);
	bt_args_destroy(node->args);
	free(node->ports);
	free(node->data);
	free(node->name);
	free(node);
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* What goes through a port that only serves reads, or keeps the node's own data,
 * does not bound what may be written above it, or how much there is. */
static void merge_one(struct bt_limits *out, const struct bt_port *port,
		      uint32_t *linked)
{
	const struct bt_limits *lower = &port->lower->limits;
	uint32_t flags = port->upper->cls->ports[port->desc].flags;

	if (!(flags & BT_PORT_READS) && lower->keeps > out->keeps)
		out->keeps = lower->keeps;
	if (flags & BT_PORT_STORE)
		return;
	out->block_size = max_u32(out->block_size, lower->block_size);
	out->memory_align = max_u32(out->memory_align, lower->memory_align);
	out->preferred_block_size =
		max_u32(out->preferred_block_size, lower->preferred_block_size);
	out->max_transfer = bt_min_u64(out->max_transfer, lower->max_transfer);
	out->max_unmap = bt_min_u64(out->max_unmap, lower->max_unmap);
	out->copies = max_u32(out->copies, lower->copies);
	out->size =
		(*linked)++ ? bt_min_u64(out->size, lower->size) : lower->size;
	if (flags & BT_PORT_READS)
		return;
	out->discard_granularity = bt_max_u64(out->discard_granularity,
					      lower->discard_granularity);
	out->operations &= lower->operations;
	out->read_only |= lower->read_only;
	out->native_fua &= lower->native_fua;
}

/* What the lower ports allow together; for a leaf, what nothing limits. */
static void merge_lower(struct bt_node *node, struct bt_limits *out)
{
	uint32_t i, linked = 0;

	memset(out, 0, sizeof(*out));
	out->block_size = 1;
	out->memory_align = 1;
	out->preferred_block_size = 4096;
	out->max_transfer = 1u << 20;
	out->max_unmap = 1u << 30;
	out->discard_granularity = 1;
	out->operations = BT_OPS_ALL;
	out->native_fua = true;
	out->copies = 1;
	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower)
			merge_one(out, &node->ports[i], &linked);
	out->operations &= node->cls->operations | node->cls->passes;
}

static int check_limits(const struct bt_node *node, const struct bt_limits *l,
			struct blktap_error **err)
{
	if (!bt_is_pow2(l->block_size) || l->block_size > MAX_BLOCK_SIZE)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: block size %" PRIu32
			       " is not a power of two up to %u",
			       node->name, l->block_size, MAX_BLOCK_SIZE);
	if (!bt_is_pow2(l->memory_align))
		return bt_fail(err, -EINVAL, NULL,
			       "%s: memory alignment %" PRIu32
			       " is not a power of two",
			       node->name, l->memory_align);
	if (l->size % l->block_size || l->size > INT64_MAX)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: size %" PRIu64
			       " is not a multiple of the block size %" PRIu32
			       " below 8 EiB",
			       node->name, l->size, l->block_size);
	if (l->max_transfer < l->block_size || l->max_unmap < l->block_size)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: transfers are smaller than a block",
			       node->name);
	return 0;
}

/* Bytes of frames that a request needs on the longest way down from here. */
static uint32_t deepest_below(const struct bt_node *node)
{
	uint32_t i, deepest = 0;

	for (i = 0; i < node->port_count; i++)
		if (node->ports[i].lower &&
		    node->ports[i].lower->frame_sum > deepest)
			deepest = node->ports[i].lower->frame_sum;
	return deepest;
}

int bt_node_add_pool(struct bt_node *node, uint32_t count, size_t item_size,
		     struct bt_pool **out)
{
	struct node_pool *entry = calloc(1, sizeof(*entry));
	uint32_t room = deepest_below(node);
	int rc = -ENOMEM;

	if (entry)
		rc = bt_pool_create(count, item_size,
				    room > MIN_ROOM ? room : MIN_ROOM,
				    &entry->pool);
	if (rc < 0) {
		free(entry);
		return rc;
	}
	bt_list_add_tail(&node->pools, &entry->link);
	*out = entry->pool;
	return 0;
}

/* What bt_pool_create takes, with frames for a graph that is not deep. */
uint64_t bt_node_pool_memory(uint32_t count, size_t item_size)
{
	uint64_t item = bt_align_down(item_size + 63, 64);

	return sizeof(struct node_pool) + count * (item + MIN_ROOM);
}

uint64_t bt_node_memory(uint32_t edges)
{
	return sizeof(struct bt_node) + (edges + 1) * sizeof(struct bt_port);
}

/* Pools that have grown keep their room where a later one fails. */
static int reserve_pools(struct bt_node *node, uint32_t room)
{
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &node->pools) {
		struct node_pool *entry =
			bt_list_entry(pos, struct node_pool, link);

		if (!rc)
			rc = bt_pool_reserve(entry->pool, room);
	}
	return rc;
}

/* From the bottom up: the limits and frames of what is below are known. Nothing is
 * changed where it fails. */
int bt_node_plan(struct bt_node *node, struct blktap_error **err)
{
	struct bt_limits limits;
	uint32_t deepest = deepest_below(node);
	int rc;

	merge_lower(node, &limits);
	if (node->cls->get_limits)
		node->cls->get_limits(node, &limits);
	limits.max_transfer =
		bt_align_down(limits.max_transfer, limits.block_size);
	limits.max_unmap = bt_align_down(limits.max_unmap, limits.block_size);
	rc = check_limits(node, &limits, err);
	if (rc < 0)
		return rc;
	rc = reserve_pools(node, deepest);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	node->limits = limits;
	node->frame_sum = bt_frame_size(node->cls->frame_bytes) + deepest;
	return 0;
}

/* Each node once, however many edges lead to it. */
static uint64_t sum_below(struct bt_node *node, uint64_t walk)
{
	uint64_t sum = 0;
	uint32_t i;

	if (!node || node->walked == walk)
		return 0;
	node->walked = walk;
	/* filters that hold no data do not make it another stack; the rest is
	 * mixed, so that sums of other sets of numbers are not the same */
	if (node->cls->pause != BT_PAUSE_NONE) {
		sum = (node->serial ^ node->serial >> 31) *
		      0x9e3779b97f4a7c15ull;
		sum ^= sum >> 29;
	}
	for (i = 0; i < node->port_count; i++)
		sum += sum_below(node->ports[i].lower, walk);
	return sum;
}

uint64_t bt_port_below(const struct bt_port *port)
{
	return sum_below(port->lower, ++port->env->walks);
}

void bt_node_lose(struct bt_node *node)
{
	node->losses++;
	node->env->losses++;
}

/* Only ever grows while the graph stays the same, so two sums that are equal say that
 * nothing was lost between them. */
static uint64_t losses_below(struct bt_node *node, uint64_t walk)
{
	uint64_t sum;
	uint32_t i;

	if (!node || node->walked == walk)
		return 0;
	node->walked = walk;
	sum = node->losses;
	for (i = 0; i < node->port_count; i++)
		sum += losses_below(node->ports[i].lower, walk);
	return sum;
}

uint64_t bt_port_losses(const struct bt_port *port)
{
	return losses_below(port->lower, ++port->env->walks);
}

/* A store that may vanish at any time (durable_when does not hold) is no such. */
static bool holds_data(const struct bt_port *port, uint32_t entry)
{
	const struct bt_node *upper = port->upper;
	const struct bt_port_desc *desc;

	if (!upper->cls->ports || !port->lower)
		return false;
	if (upper->cls->flags & BT_CLASS_SAME_BYTES && !entry)
		return port == upper->ports;
	desc = &upper->cls->ports[port->desc];
	return !(desc->flags & BT_PORT_READS) &&
	       (!desc->durable_when ||
		bt_args_hold(upper->args, desc->durable_when));
}

const struct bt_node *bt_node_find_volatile(const struct bt_node *node,
					    uint32_t entry)
{
	const struct bt_node *found = NULL;
	uint32_t i;

	if (node->cls->flags & BT_CLASS_VOLATILE)
		return node->cls->flags & BT_CLASS_EMPTY ? NULL : node;
	for (i = 0; i < node->port_count && !found; i++)
		if (holds_data(&node->ports[i], entry))
			found = bt_node_find_volatile(node->ports[i].lower,
						      node->ports[i].entry);
	return found;
}

static uint64_t mix(uint64_t sum, uint64_t value)
{
	sum = (sum ^ value) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 29;
}

static bool add_stamps(const struct bt_node *node, uint32_t entry,
		       uint64_t *sum)
{
	const struct blktap_class *cls = node->cls;
	struct bt_stamp stamp;
	uint32_t i;

	if (cls->get_stamp) {
		if (!(cls->flags & BT_CLASS_STILL) ||
		    cls->get_stamp(node, &stamp) < 0 || !stamp.mtime_ns)
			return false;
		*sum = mix(mix(*sum, stamp.size), stamp.mtime_ns);
		return true;
	}
	/* of a part, the file tells of others' parts as well */
	if (!node->port_count || !cls->ports || cls->flags & BT_CLASS_PART)
		return false;
	for (i = 0; i < node->port_count; i++) {
		const struct bt_port *port = &node->ports[i];

		if (!port->lower)
			continue;
		/* a store is written to when its node opens */
		if (cls->ports[port->desc].flags & BT_PORT_STORE)
			return false;
		if (!add_stamps(port->lower, port->entry, sum))
			return false;
		if (cls->flags & BT_CLASS_SAME_BYTES && !entry)
			break;
	}
	return true;
}

uint64_t bt_port_stamp(const struct bt_port *port)
{
	uint64_t sum = 14695981039346656037ull;

	if (!add_stamps(port->lower, port->entry, &sum))
		return 0;
	return sum > 1 ? sum : 2;
}

const char *bt_node_path(const struct bt_node *node)
{
	const struct blktap_param *first = blktap_class_get_param(node->cls, 0);
	const char *text =
		first ? bt_args_string(node->args, first->name) : NULL;

	return text ? text : node->name;
}

int bt_node_relock(struct bt_node *node, enum bt_lock_mode mode,
		   struct blktap_error **err)
{
	return node->cls->relock ? node->cls->relock(node, mode, err) : 0;
}
