/* SPDX-License-Identifier: BSD-3-Clause */
/* What a graph costs: nanoseconds for each empty node that a request passes, and
 * the time to change a graph of a thousand nodes. Prints, judges nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <blktap/mason.h>

#include "util/strbuf.h"
#include "vbd/private.h"

#define ROUNDS 15
#define NODES 1000u

static const struct bt_port_desc ports[] = {
	{ .name = "lower" },
	{ .name = NULL },
};

static const struct blktap_class empty_class = {
	.name = "empty",
	.summary = "passes everything on",
	.ports = ports,
	.passes = BT_OPS_ALL,
	.legacy_type = -1,
	.pause = BT_PAUSE_NONE,
};

static const struct blktap_class *next_class(const struct blktap_class *prev)
{
	if (!prev)
		return &empty_class;
	return blktap_class_next(prev == &empty_class ? NULL : prev);
}

static char dir[64] = "/tmp/blktap-bench-XXXXXX";
static struct blktap_context *context;

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what, struct blktap_error *err)
{
	fprintf(stderr, "bench-graph: %s: %s\n", what,
		err ? blktap_error_get_message(err) : "failed");
	exit(1);
}

static void put_chain(struct bt_strbuf *sb, uint32_t depth, uint32_t skip)
{
	uint32_t i;

	bt_strbuf_puts(sb, "disk(\"x\") -> ");
	for (i = 0; i < depth; i++)
		if (i != skip)
			bt_strbuf_printf(sb, "e%u :: empty() -> ", i);
	bt_strbuf_puts(sb, "r :: null(1G);");
}

static struct blktap_disk *open_chain(uint32_t depth)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	static unsigned int opened;
	char file[80], spec[96];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%u.mason", dir, opened++);
	f = fopen(file, "w");
	put_chain(&sb, depth, UINT32_MAX);
	if (!f || fputs(bt_strbuf_str(&sb), f) < 0 || fclose(f))
		die(file, NULL);
	bt_strbuf_fini(&sb);
	snprintf(spec, sizeof(spec), "mason:%s", file);
	if (blktap_disk_open(context, spec, NULL, &disk, &err))
		die(spec, err);
	return disk;
}

static void done(struct bt_request *req)
{
	bt_pool_give(req);
}

/* Nanoseconds a request, from admission to its end. */
static double measure(struct blktap_disk *disk, uint32_t count)
{
	static char data[4096] __attribute__((aligned(4096)));
	struct iovec iov = { data, sizeof(data) };
	struct bt_pool *pool;
	double began;
	uint32_t i;

	if (bt_vbd_pool_create(disk, 1, sizeof(struct bt_request), &pool))
		die("pool", NULL);
	began = now_ns();
	for (i = 0; i < count; i++) {
		struct bt_request *req = bt_pool_take(pool);

		req->op = BLKTAP_OP_READ;
		req->length = sizeof(data);
		req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
		req->done = done;
		bt_vbd_submit(disk, req);
	}
	began = now_ns() - began;
	bt_vbd_pool_destroy(disk, pool);
	return began / count;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* What depth nodes add, measured in turns with a disk that has none, so that what
 * else the machine does meets both. */
static double median(uint32_t depth, uint32_t count)
{
	struct blktap_disk *bare = open_chain(0), *disk = open_chain(depth);
	double all[ROUNDS];
	int i;

	measure(bare, count);
	measure(disk, count);
	for (i = 0; i < ROUNDS; i++)
		all[i] = depth ? (measure(disk, count) - measure(bare, count)) /
					 depth
			       : measure(bare, count);
	blktap_disk_close(disk);
	blktap_disk_close(bare);
	qsort(all, ROUNDS, sizeof(*all), compare);
	return all[ROUNDS / 2];
}

static void change(struct blktap_disk *disk, const char *what, uint32_t depth,
		   uint32_t skip)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct blktap_error *err = NULL;
	double began;

	put_chain(&sb, depth, skip);
	began = now_ns();
	if (blktap_mason_apply(disk, "bench", bt_strbuf_str(&sb), sb.len, NULL,
			       NULL, &err))
		die(what, err);
	printf("%-34s %8.2f ms\n", what, (now_ns() - began) / 1e6);
	bt_strbuf_fini(&sb);
}

int main(int argc, char **argv)
{
	static const uint32_t depths[] = { 1, 4, 16, 32 };
	uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 200000;
	struct blktap_disk *disk;
	size_t i;
	char command[96];

	if (!mkdtemp(dir) || blktap_context_create(NULL, &context, NULL))
		die("start", NULL);
	context->run_ops.next_class = next_class;
	printf("%-34s %8.1f ns\n", "request to null, no node",
	       median(0, count));
	for (i = 0; i < BT_ARRAY_SIZE(depths); i++)
		printf("each of %2u empty nodes             %8.1f ns\n",
		       depths[i], median(depths[i], count));
	disk = open_chain(0);
	change(disk, "apply: 1000 nodes added", NODES, UINT32_MAX);
	change(disk, "apply: 1000 nodes, one goes", NODES, 500);
	change(disk, "apply: 1000 nodes, nothing changes", NODES, 500);
	change(disk, "apply: 999 nodes go", 0, UINT32_MAX);
	blktap_disk_close(disk);
	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) ? 1 : 0;
}
