/* SPDX-License-Identifier: BSD-3-Clause */
/* Random I/O through the public interface, for comparison with fio on the same
 * file:
 *
 *   bench-disk SPEC read|write DEPTH BLOCK SECONDS [buffered]
 *
 * Prints one line: IOPS, and nanoseconds of this process's CPU time a request. */
#include <blktap/blktap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
	struct blktap_context *context;
	struct blktap_disk *disk;
	enum blktap_op op;
	uint64_t block;
	uint64_t blocks;
	uint64_t state;
	uint64_t done;
	uint32_t under_way;
	int error;
	bool stop;
};

struct lane {
	struct bench *bench;
	struct iovec iov;
};

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t next_random(struct bench *bench)
{
	bench->state ^= bench->state << 13;
	bench->state ^= bench->state >> 7;
	bench->state ^= bench->state << 17;
	return bench->state;
}

static void completed(void *opaque, int error);

static void submit(struct lane *lane)
{
	struct bench *bench = lane->bench;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = bench->op,
		.offset = next_random(bench) % bench->blocks * bench->block,
		.length = bench->block,
		.iov = &lane->iov,
		.iov_count = 1,
		.callback = completed,
		.opaque = lane,
	};
	int rc = blktap_disk_submit(bench->disk, &io);

	if (rc < 0)
		bench->error = rc;
	else
		bench->under_way++;
}

static void completed(void *opaque, int error)
{
	struct lane *lane = opaque;

	lane->bench->under_way--;
	lane->bench->done++;
	if (error)
		lane->bench->error = error;
	if (!lane->bench->stop && !lane->bench->error)
		submit(lane);
}

static int open_disk(struct bench *bench, const char *spec, bool buffered,
		     uint32_t depth)
{
	struct blktap_error *err = NULL;
	struct blktap_disk_options options;
	struct blktap_disk_info info = { .size = sizeof(info) };
	int rc = blktap_context_create(NULL, &bench->context, &err);

	blktap_disk_options_init(&options);
	options.queue_depth = depth;
	if (buffered)
		options.flags |= BLKTAP_OPEN_BUFFERED;
	if (!rc)
		rc = blktap_disk_open(bench->context, spec, &options,
				      &bench->disk, &err);
	if (rc < 0) {
		fprintf(stderr, "bench-disk: %s\n",
			blktap_error_get_message(err));
		blktap_error_destroy(err);
		return rc;
	}
	blktap_disk_get_info(bench->disk, &info);
	bench->blocks = info.length / bench->block;
	return 0;
}

static void run(struct bench *bench, struct lane *lanes, uint32_t depth,
		double seconds)
{
	double wall = seconds_of(CLOCK_MONOTONIC);
	double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
	uint32_t i;

	for (i = 0; i < depth; i++)
		submit(&lanes[i]);
	while (bench->under_way) {
		blktap_context_run(bench->context, -1);
		if (seconds_of(CLOCK_MONOTONIC) - wall > seconds)
			bench->stop = true;
	}
	wall = seconds_of(CLOCK_MONOTONIC) - wall;
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("iops=%.0f cpu_ns=%.0f engine=%s\n", (double)bench->done / wall,
	       cpu * 1e9 / (double)bench->done,
	       blktap_context_get_engine(bench->context));
}

int main(int argc, char **argv)
{
	struct bench bench = { .state = 88172645463325252ull };
	struct lane *lanes;
	uint32_t depth, i;

	if (argc < 6) {
		fprintf(stderr, "usage: bench-disk SPEC read|write DEPTH BLOCK "
				"SECONDS [buffered]\n");
		return 2;
	}
	bench.op = strcmp(argv[2], "write") ? BLKTAP_OP_READ : BLKTAP_OP_WRITE;
	depth = (uint32_t)strtoul(argv[3], NULL, 0);
	bench.block = strtoull(argv[4], NULL, 0);
	if (open_disk(&bench, argv[1], argc > 6, depth) < 0)
		return 1;
	lanes = calloc(depth, sizeof(*lanes));
	for (i = 0; lanes && i < depth; i++) {
		lanes[i].bench = &bench;
		lanes[i].iov.iov_len = bench.block;
		if (posix_memalign(&lanes[i].iov.iov_base, 4096, bench.block))
			return 1;
		memset(lanes[i].iov.iov_base, (int)i, bench.block);
	}
	run(&bench, lanes, depth, strtod(argv[5], NULL));
	blktap_disk_close(bench.disk);
	blktap_context_destroy(bench.context);
	for (i = 0; i < depth; i++)
		free(lanes[i].iov.iov_base);
	free(lanes);
	return bench.error ? 1 : 0;
}
