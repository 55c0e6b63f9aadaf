/* SPDX-License-Identifier: BSD-3-Clause */
/* mirror: the same data on every leg. What it keeps is told in mirror.h; here is
 * the class. */
#include "module/mirror.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

#define DEPTH 64u /* requests that have children at once */

static const struct blktap_param params[] = {
	{ .name = "read",
	  .type = BLKTAP_PARAM_ENUM,
	  .choices = "first|fastest|spread",
	  .fallback = "first",
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "the leg that is read: the first one, the one that answers "
		  "soonest, or the one with the least to do" },
	{ .name = "sync",
	  .type = BLKTAP_PARAM_ENUM,
	  .choices = "none|background",
	  .fallback = "none",
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "background copies to legs that are behind; without a log "
		  "every leg but the source is, when it opens" },
	{ .name = "source",
	  .type = BLKTAP_PARAM_INT,
	  .fallback = "0",
	  .max = BT_MIRROR_LEGS - 1,
	  .help = "the leg that holds the data when nothing is known" },
	{ .name = "rate",
	  .type = BLKTAP_PARAM_RATE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "bytes copied a second, 100M/s; 0 or none is no limit" },
	{ .name = "region",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "1M",
	  .min = 64u << 10,
	  .max = 1u << 30,
	  .help = "what is copied for one write that a leg missed; of a new "
		  "log, a power of two" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "leg",
	  .flags = BT_PORT_ARRAY | BT_PORT_SAME_SIZE,
	  .help = "the copies, linked with =>" },
	{ .name = "log",
	  .optional = true,
	  .flags = BT_PORT_STORE,
	  .durable_when = "",
	  .help = "which leg lacks what; without it that is known until the "
		  "disk is closed. A leg that was written to, or "
		  "replaced by another file, while it was no leg, is believed "
		  "to be as it was left: there is a warning in the log, of raw "
		  "files and of what stands on them alone, and not after a "
		  "crash. Give the leg that lacks data another name, and it "
		  "gets a full copy" },
	{ .name = NULL },
};

/* LIVE, also the first time, from bt_mirror_open, before there is a pool.
 * free_at_ns is of the old rate. */
static void mirror_set(struct bt_node *node, const struct bt_args *args)
{
	struct bt_mirror *m = node->data;
	const char *read = bt_args_string(args, "read");

	m->read = !strcmp(read, "fastest")  ? BT_MIRROR_FASTEST
		  : !strcmp(read, "spread") ? BT_MIRROR_SPREAD
					    : BT_MIRROR_FIRST;
	m->background = !strcmp(bt_args_string(args, "sync"), "background");
	m->rate = bt_args_number(args, "rate");
	m->sync.free_at_ns = 0;
	bt_mirror_sync_kick(m);
}

/* A power of two, so that no block of the disk lies in two regions. */
int bt_mirror_check_args(const struct bt_args *args, struct blktap_error **err)
{
	if (bt_is_pow2(bt_args_number(args, "region")))
		return 0;
	return bt_fail(err, -EINVAL, "use 1M", "region is not a power of two");
}

/* ---- opening and closing --------------------------------------------------- */

/* copy.c has two ports of one leg each, mirror.c an array: the log is told by
 * what its port is for. */
static bool is_log(const struct bt_port *port)
{
	return port->upper->cls->ports[port->desc].flags & BT_PORT_STORE;
}

/* Edges come in the order of the ports, so the log's, where it has one, is the
 * last. */
static int take_legs(struct bt_node *node, uint64_t source,
		     struct blktap_error **err)
{
	struct bt_mirror *m = node->data;
	uint32_t i;

	while (m->leg_count < node->port_count &&
	       !is_log(&node->ports[m->leg_count]))
		m->leg_count++;
	if (m->leg_count < node->port_count && node->ports[m->leg_count].lower)
		m->log = &node->ports[m->leg_count];

	if (!m->leg_count || m->leg_count > BT_MIRROR_LEGS)
		return bt_fail(err, -EINVAL, "link its legs with =>",
			       "%s: %u legs are not 1 to %u", node->name,
			       m->leg_count, BT_MIRROR_LEGS);
	if (source >= m->leg_count)
		return bt_fail(err, -EINVAL, "they are counted from 0",
			       "%s: source=%llu is none of its %u legs",
			       node->name, (unsigned long long)source,
			       m->leg_count);
	for (i = 0; i < m->leg_count; i++) {
		const struct bt_node *leg;

		m->legs[i].port = &node->ports[i]; /* the log's is the last */
		m->legs[i].losses = bt_port_losses(m->legs[i].port);
		leg = m->legs[i].port->lower;
		if (i && leg->limits.size != m->size)
			return bt_fail(err, -EINVAL, "put a slice around it",
				       "%s: '%s' has %llu bytes, '%s' has %llu",
				       node->name, leg->name,
				       (unsigned long long)leg->limits.size,
				       m->legs[0].port->lower->name,
				       (unsigned long long)m->size);
		m->size = leg->limits.size;
	}
	return 0;
}

/* The sweep has children of its own, one a leg, since it does not wait for any:
 * those of the others may all be with writes to a leg that does not answer. */
static int make_pools(struct bt_mirror *m)
{
	int rc = bt_mirror_sync_init(m);

	m->pool_size = DEPTH * m->leg_count;
	if (!rc)
		rc = bt_node_add_pool(m->node, m->pool_size,
				      sizeof(struct bt_mirror_child), &m->pool);
	if (!rc)
		rc = bt_node_add_pool(m->node, m->leg_count,
				      sizeof(struct bt_mirror_child),
				      &m->sweep_pool);
	if (!rc && m->log)
		rc = bt_header_writer_init(&m->writer, m->node, m->log,
					   &m->header);
	return rc;
}

/* Requests do not count: this is asked where there are none, or by a LAST
 * flush. A commit that a write began is the table's, and is waited for. */
bool bt_mirror_is_quiet(const struct bt_mirror *m)
{
	uint32_t i;

	for (i = 0; i < BT_MIRROR_LANES; i++)
		if (m->sync.lanes[i].busy)
			return false;
	return !m->sync.flushing && !m->sweeping && !m->tidying &&
	       !m->table.running && !m->writer.busy;
}

static bool is_quiet(void *opaque)
{
	return bt_mirror_is_quiet(opaque);
}

/* Its own work may be under way still, and ends with what it has begun. Also
 * after a failed open, with whatever it had made. Copies that run end at their
 * next step, since their batch is spoiled. */
void bt_mirror_close(struct bt_node *node)
{
	struct bt_mirror *m = node->data;

	m->background = false;
	m->sync.spoiled = true;
	bt_timer_cancel(&m->sweep_timer);
	bt_loop_run_until(node->env->loop, is_quiet, m, -1);
	bt_timer_cancel(&m->sweep_timer);
	bt_mirror_sync_fini(m);
	bt_header_writer_fini(&m->writer);
	bt_mirror_close_words(m);
}

/* The order counts: the legs say how large the disk is and how many children there
 * are; the arguments, whether legs that nothing is known of are copied to; then the
 * words, which need both. What was lost before it was opened is nothing that it
 * could make up for, so the counts begin at what they are. */
int bt_mirror_open(struct bt_node *node, const struct bt_args *args,
		   uint32_t flags, uint64_t source, struct blktap_error **err)
{
	struct bt_mirror *m = node->data;
	int rc;

	m->node = node;
	m->losses = m->told = node->env->losses;
	m->source = source;
	m->read_only = flags & BLKTAP_OPEN_READ_ONLY;
	bt_rangelock_init(&m->lock);
	bt_list_init(&m->starved);
	bt_list_init(&m->lasts);
	bt_list_init(&m->tidy.link);
	bt_timer_init(&m->sweep_timer, bt_mirror_sweep_fired);
	rc = take_legs(node, source, err);
	if (rc < 0)
		return rc;
	rc = make_pools(m);
	/* before the words: whether new legs are copied to is an argument */
	node->cls->reconfigure(node, args);
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	else
		rc = bt_mirror_open_words(m, args, err);
	if (rc < 0)
		bt_mirror_close(node);
	else
		bt_mirror_sync_kick(m);
	return rc;
}

static int mirror_open(struct bt_node *node, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	return bt_mirror_open(node, args, flags, bt_args_number(args, "source"),
			      err);
}

/* What all legs can do together comes in `limits`; the log does not count.
 * copies: a checksum above may ask for each leg by its number. */
void bt_mirror_limits(struct bt_node *node, struct bt_limits *limits)
{
	const struct bt_mirror *m = node->data;
	uint32_t discard = 1u << BLKTAP_OP_DISCARD;

	limits->read_only |= m->read_only;
	limits->copies = m->leg_count;
	/* a discard is sent as zeroes, so that all legs read the same */
	if (limits->operations >> BLKTAP_OP_WRITE_ZEROES & 1u)
		limits->operations |= discard;
	else
		limits->operations &= ~discard;
}

/* With the region that is asked for: a very large disk gets larger ones. */
uint64_t bt_mirror_memory(const struct bt_args *args, uint64_t size,
			  uint32_t edges)
{
	uint64_t regions = size / bt_args_number(args, "region");

	/* as if all edges were legs; a log takes a table of its own more */
	return sizeof(struct bt_mirror) +
	       BT_MIRROR_LANES * (uint64_t)BT_MIRROR_CHUNK +
	       bt_node_pool_memory(BT_MIRROR_LANES + 1,
				   sizeof(struct bt_request)) +
	       bt_node_pool_memory(DEPTH * edges,
				   sizeof(struct bt_mirror_child)) +
	       bt_node_pool_memory(edges, sizeof(struct bt_mirror_child)) +
	       3 * regions;
}

/* ---- values ---------------------------------------------------------------- */

/* Without sync=background nobody will copy to it, so it is not syncing. */
static const char *leg_state(const struct bt_mirror *m,
			     const struct bt_mirror_leg *leg)
{
	if (leg->failed || (leg->dirty && !m->background))
		return leg->fresh ? "fresh" : "stale";
	return leg->dirty ? "syncing" : "in-sync";
}

/* The worst of the legs'; "synced" where all are. */
static const char *state_of(const struct bt_mirror *m)
{
	const char *state = "synced";
	uint32_t i;

	for (i = 0; i < m->leg_count; i++) {
		const char *leg = leg_state(m, &m->legs[i]);

		if (!strcmp(leg, "stale") || !strcmp(leg, "fresh"))
			return "degraded";
		if (!strcmp(leg, "syncing"))
			state = "syncing";
	}
	return state;
}

/* Of all legs together, in whole regions: what is left to be copied at most. */
static uint64_t dirty_bytes(const struct bt_mirror *m)
{
	uint64_t dirty = 0;
	uint32_t i;

	for (i = 0; i < m->leg_count; i++)
		dirty += m->legs[i].dirty;
	return dirty * m->region_size;
}

/* The legs in the order of their edges, as the graph's text has them. */
static bool mirror_get_value(const struct bt_node *node, const char *name,
			     char *text, size_t size)
{
	const struct bt_mirror *m = node->data;
	size_t used = 0;
	uint32_t i;

	if (!strcmp(name, "state")) {
		snprintf(text, size, "%s", state_of(m));
	} else if (!strcmp(name, "dirty")) {
		snprintf(text, size, "%llu",
			 (unsigned long long)dirty_bytes(m));
	} else if (!strcmp(name, "legs")) {
		for (i = 0; i < m->leg_count && used < size; i++)
			used += (size_t)snprintf(text + used, size - used,
						 "%s%s", i ? "," : "",
						 leg_state(m, &m->legs[i]));
	} else {
		return false;
	}
	return true;
}

const struct blktap_class bt_mirror_class = {
	.name = "mirror",
	.summary = "the same data on every leg",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_REDUNDANT,
	.legacy_type = -1,
	.node_bytes = sizeof(struct bt_mirror),
	.frame_bytes = sizeof(struct bt_mirror_frame),
	.open = mirror_open,
	.close = bt_mirror_close,
	.get_limits = bt_mirror_limits,
	.submit = bt_mirror_submit,
	.complete = bt_mirror_complete,
	.check_args = bt_mirror_check_args,
	.get_memory = bt_mirror_memory,
	.pause = BT_PAUSE_WRITES,
	.start = bt_mirror_start,
	.reconfigure = mirror_set,
	.get_value = mirror_get_value,
	.values = "state,dirty,legs",
};
