/* SPDX-License-Identifier: BSD-3-Clause */
/* copy: moves a disk in use. `to` becomes what `from` is, while the guest reads
 * `from` and writes go to both:
 *
 *   copying <-> paused (pause=true)      copying -> done: both are the same, and stay
 *   copying -> failed: `to` does not take it; tried again until it does
 *
 * The next file has `to` alone, behind `assert run.NODE.state == done`; or `from`
 * alone, which cancels. What fails on `to` never reaches the guest. It is a mirror
 * whose second leg is empty to begin with, and does all its work by that: see
 * mirror.h, also for what a log is good for. */
#include "module/mirror.h"

#include <stdio.h>
#include <string.h>

#include "port/args.h"

#define TO 1u

static const struct blktap_param params[] = {
	{ .name = "rate",
	  .type = BLKTAP_PARAM_RATE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "bytes copied a second, 100M/s; 0 or none is no limit" },
	{ .name = "pause",
	  .type = BLKTAP_PARAM_BOOL,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "false",
	  .help = "copies nothing more until it is false again" },
	{ .name = "region",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "1M",
	  .min = 64u << 10,
	  .max = 1u << 30,
	  .help = "what is copied at once, and held against writes meanwhile; "
		  "a "
		  "power of two" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "from",
	  .flags = BT_PORT_SAME_SIZE,
	  .help = "where the data is" },
	{ .name = "to", .flags = BT_PORT_SAME_SIZE, .help = "where it goes" },
	{ .name = "log",
	  .optional = true,
	  .flags = BT_PORT_STORE,
	  .durable_when = "",
	  .help = "what is copied already; without it the next opening begins "
		  "anew" },
	{ .name = NULL },
};

static void copy_set(struct bt_node *node, const struct bt_args *args)
{
	struct bt_mirror *m = node->data;

	m->background = !bt_args_bool(args, "pause");
	m->rate = bt_args_number(args, "rate");
	m->sync.free_at_ns = 0;
	bt_mirror_sync_kick(m);
}

static int copy_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	struct bt_mirror *m = node->data;

	m->read = BT_MIRROR_FIRST;
	m->copies = true;
	return bt_mirror_open(node, args, flags, 0, err);
}

/* A copy that fails before its leg is left out shows by its backoff. */
static const char *state_of(const struct bt_mirror *m)
{
	if (!m->legs[TO].dirty && !m->legs[TO].failed)
		return "done";
	if (m->legs[TO].failed)
		return "failed";
	if (!m->background)
		return "paused";
	return m->legs[TO].backoff_ns ? "failed" : "copying";
}

static bool copy_get_value(const struct bt_node *node, const char *name,
			   char *text, size_t size)
{
	const struct bt_mirror *m = node->data;
	uint64_t dirty = m->legs[TO].dirty;

	if (!strcmp(name, "state"))
		snprintf(text, size, "%s", state_of(m));
	else if (!strcmp(name, "dirty"))
		snprintf(text, size, "%llu",
			 (unsigned long long)(dirty * m->region_size));
	else if (!strcmp(name, "progress")) /* of 100, which is all of it */
		snprintf(text, size, "%u",
			 (unsigned int)((m->regions - dirty) * 100 /
					m->regions));
	else if (!strcmp(name, "failed"))
		snprintf(text, size, "%d", m->legs[TO].failed);
	else
		return false;
	return true;
}

const struct blktap_class bt_copy_class = {
	.name = "copy",
	.summary = "makes `to` what `from` is, while the disk is in use",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.node_bytes = sizeof(struct bt_mirror),
	.frame_bytes = sizeof(struct bt_mirror_frame),
	.open = copy_open,
	.close = bt_mirror_close,
	.get_limits = bt_mirror_limits,
	.submit = bt_mirror_submit,
	.complete = bt_mirror_complete,
	.check_args = bt_mirror_check_args,
	.get_memory = bt_mirror_memory,
	.pause = BT_PAUSE_WRITES,
	.start = bt_mirror_start,
	.reconfigure = copy_set,
	.get_value = copy_get_value,
	.values = "state,dirty,progress,failed",
};
