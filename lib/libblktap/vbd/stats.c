/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk counts, and how it is shown. A request is counted once, when it ends, as
 * its frontend gave it: parts, further tries and the flush behind it are not. What the
 * nodes did is in the nodes' own counts (port/port.c). */
#include "vbd/private.h"

#include <stdlib.h>
#include <string.h>

#include "util/json.h"

_Static_assert(BLKTAP_OP_COUNT <= BLKTAP_OP_MAX, "no room in the statistics");

static const char *const op_names[BLKTAP_OP_COUNT] = {
	[BLKTAP_OP_READ] = "read",
	[BLKTAP_OP_WRITE] = "write",
	[BLKTAP_OP_FLUSH] = "flush",
	[BLKTAP_OP_DISCARD] = "discard",
	[BLKTAP_OP_WRITE_ZEROES] = "write_zeroes",
	[BLKTAP_OP_BLOCK_STATUS] = "block_status",
	[BLKTAP_OP_PREFETCH] = "prefetch",
};

/* Bucket n holds what took less than 2^n ns, and at least half of that; the last
 * one all that took longer than 2^38 ns, four and a half minutes. */
void bt_stats_count(struct blktap_disk *disk, const struct bt_request *req)
{
	struct blktap_disk_stats *stats = &disk->stats;
	uint64_t ns = bt_loop_now(disk->context->loop) - req->admitted_ns;
	unsigned int bucket = ns ? 64 - (unsigned int)__builtin_clzll(ns) : 0;

	if (bt_unlikely(req->op >= BLKTAP_OP_COUNT))
		return;
	stats->completed[req->op]++;
	stats->latency_log2_ns[req->op][bucket < 40 ? bucket : 39]++;
	if (bt_likely(!req->error))
		stats->bytes[req->op] += req->length;
	else
		stats->errors[req->op]++;
}

void blktap_disk_get_stats(const struct blktap_disk *disk,
			   struct blktap_disk_stats *stats)
{
	size_t size = stats->size;

	if (size > sizeof(*stats))
		size = sizeof(*stats);
	memcpy(stats, &disk->stats, size);
	stats->size = size;
}

static void put_pair(struct bt_json *json, const char *key, uint64_t read,
		     uint64_t write)
{
	bt_json_array(json, key);
	bt_json_u64(json, NULL, read);
	bt_json_u64(json, NULL, write);
	bt_json_array_end(json);
}

/* A class that has nothing to say has "status": null, as callers of the old
 * one expect. */
static void put_status(struct bt_json *json, struct bt_node *node, bool legacy)
{
	if (node->cls->get_status)
		node->cls->get_status(node, json, legacy);
	else
		bt_json_null(json, "status");
}

/* The keys and types that tap-ctl's callers have parsed since 2.0: sectors, and
 * type as a number. */
static void put_legacy_image(struct bt_json *json, struct bt_node *node)
{
	const struct bt_node_stats *s = &node->stats;

	bt_json_object(json, NULL);
	bt_json_string(json, "name", bt_node_path(node));
	put_pair(json, "hits", s->bytes[BLKTAP_OP_READ] >> 9,
		 s->bytes[BLKTAP_OP_WRITE] >> 9);
	put_pair(json, "fail", s->errors[BLKTAP_OP_READ],
		 s->errors[BLKTAP_OP_WRITE]);
	bt_json_object(json, "driver");
	bt_json_i64(json, "type", node->cls->legacy_type);
	/* the name raw disks have always had there */
	bt_json_string(json, "name",
		       node->cls->legacy_type == 0 ? "aio" : node->cls->name);
	put_status(json, node, true);
	bt_json_object_end(json);
	bt_json_object_end(json);
}

static struct bt_node *below(const struct bt_node *node)
{
	return node->port_count ? node->ports[0].lower : NULL;
}

/* Whether a node of the disk has lost one of those that it writes to, and says so
 * by its value `failed`. */
static bool has_failed_copy(const struct blktap_disk *disk)
{
	struct bt_node *node;
	char text[16];

	for (node = disk->root; node; node = below(node))
		if (node->cls->get_value &&
		    node->cls->get_value(node, "failed", text, sizeof(text)) &&
		    strcmp(text, "0") != 0)
			return true;
	return false;
}

static void put_legacy(struct bt_json *json, const struct blktap_disk *disk)
{
	const struct blktap_disk_stats *s = &disk->stats;
	struct bt_node *node;

	bt_json_string(json, "name", blktap_disk_get_spec(disk));
	put_pair(json, "secs", s->bytes[BLKTAP_OP_READ] >> 9,
		 s->bytes[BLKTAP_OP_WRITE] >> 9);
	bt_json_array(json, "images");
	for (node = disk->root; node; node = below(node))
		if (blktap_class_is_driver(node->cls))
			put_legacy_image(json, node);
	bt_json_array_end(json);
	bt_json_u64(json, "FIXME_enospc_redirect_count", 0);
	bt_json_u64(json, "nbd_mirror_failed", has_failed_copy(disk));
	bt_json_u64(json, "reqs_outstanding", s->outstanding);
	bt_json_string(json, "read_caching", "false");
}

static void put_latency(struct bt_json *json, const uint64_t buckets[40])
{
	unsigned int i, last = 0;

	for (i = 0; i < 40; i++)
		if (buckets[i])
			last = i + 1;
	bt_json_array(json, "latency_log2_ns");
	for (i = 0; i < last; i++)
		bt_json_u64(json, NULL, buckets[i]);
	bt_json_array_end(json);
}

static void put_operations(struct bt_json *json, const uint64_t *completed,
			   const uint64_t *bytes, const uint64_t *errors,
			   const uint64_t (*latency)[40])
{
	unsigned int op;

	bt_json_object(json, "operations");
	for (op = 0; op < BLKTAP_OP_COUNT; op++) {
		if (!completed[op])
			continue;
		bt_json_object(json, op_names[op]);
		bt_json_u64(json, "completed", completed[op]);
		bt_json_u64(json, "bytes", bytes[op]);
		bt_json_u64(json, "errors", errors[op]);
		put_latency(json, latency[op]);
		bt_json_object_end(json);
	}
	bt_json_object_end(json);
}

static void put_node(struct bt_json *json, struct bt_node *node)
{
	const struct bt_node_stats *s = &node->stats;

	bt_json_object(json, NULL);
	bt_json_string(json, "name", node->name);
	bt_json_string(json, "class", node->cls->name);
	put_operations(json, s->completed, s->bytes, s->errors,
		       s->latency_log2_ns);
	put_status(json, node, false);
	bt_json_object_end(json);
}

/* Of a graph all that the disk reaches, upper ones first; of each its chain. */
static void put_nodes(struct bt_json *json, const struct blktap_disk *disk)
{
	const struct bt_run *run = disk->front.run;
	const struct bt_mason_graph *graph = run ? run->file->graph : NULL;
	const struct bt_mason_link *link;
	struct bt_node *node;
	bool *live;
	uint32_t i;

	if (!disk->root)
		return;
	live = graph ? calloc(graph->count, sizeof(*live)) : NULL;
	if (!live) {
		for (node = disk->root; node; node = below(node))
			put_node(json, node);
		return;
	}
	live[disk->front.index] = true;
	for (i = 0; i < graph->count; i++) {
		const struct bt_mason_node *g = graph->order[i];

		if (!live[g->index])
			continue;
		for (link = g->links; link; link = link->next)
			live[link->lower->index] = true;
		node = run->nodes[g->index];
		for (;
		     node && (node->in_graph == (node == run->nodes[g->index]));
		     node = below(node))
			put_node(json, node);
	}
	free(live);
}

static void put_full(struct bt_json *json, const struct blktap_disk *disk)
{
	static const char *const states[] = { "running", "pausing", "pausing",
					      "paused" };
	const struct blktap_disk_stats *s = &disk->stats;

	bt_json_string(json, "name", disk->name);
	bt_json_string(json, "spec", disk->spec);
	bt_json_string(json, "state", states[disk->state]);
	bt_json_u64(json, "size", disk->limits.size);
	bt_json_u64(json, "block_size", disk->limits.block_size);
	bt_json_bool(json, "read_only", disk->limits.read_only);
	bt_json_u64(json, "outstanding", s->outstanding);
	bt_json_u64(json, "retries", s->retries);
	bt_json_u64(json, "late", s->late);
	bt_json_u64(json, "last_pause_ns", s->last_pause_ns);
	put_operations(json, s->completed, s->bytes, s->errors,
		       s->latency_log2_ns);
	bt_json_array(json, "nodes");
	put_nodes(json, disk);
	bt_json_array_end(json);
}

char *blktap_disk_get_stats_json(const struct blktap_disk *disk, bool legacy)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_json json;

	bt_json_init(&json, &sb, legacy);
	bt_json_object(&json, NULL);
	if (legacy)
		put_legacy(&json, disk);
	else
		put_full(&json, disk);
	bt_json_object_end(&json);
	return bt_strbuf_steal(&sb);
}
