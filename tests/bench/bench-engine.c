/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast an engine is by itself: `bench-engine ENGINE FILE [key=value...]`
 * keeps depth ios of bs bytes in flight on FILE and prints operations a second,
 * CPU per operation, and how many system calls a batch saved. To be read beside
 * fio's io_uring on the same file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "loop/loop.h"

struct options {
	enum blktap_engine engine;
	const char *path;
	unsigned long bs, depth, seconds, size_mib;
	bool direct, write, seq;
};

struct op {
	struct bt_io io;
	struct iovec iov;
};

static struct options opt = {
	.bs = 4096, .depth = 32, .seconds = 3, .size_mib = 1024
};
static struct bt_loop *loop;
static struct bt_file file;
static uint64_t blocks, next_block, completed, in_flight;
static uint64_t seed = 88172645463325252ull;
static bool stopping;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t pick_block(void)
{
	if (opt.seq)
		return next_block++ % blocks;
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % blocks;
}

static void submit(struct op *op)
{
	op->io.offset = pick_block() * opt.bs;
	bt_engine_submit(&op->io);
}

static void on_done(struct bt_io *io, int error)
{
	if (error) {
		fprintf(stderr, "bench-engine: %s\n", strerror(-error));
		exit(1);
	}
	completed++;
	if (stopping)
		in_flight--;
	else
		submit(bt_list_entry(io, struct op, io));
}

static void start_all(void)
{
	struct op *ops = calloc(opt.depth, sizeof(*ops));
	char *memory = aligned_alloc(4096, opt.depth * opt.bs);
	unsigned long i;

	if (!ops || !memory)
		exit(1);
	memset(memory, 0x5a, opt.depth * opt.bs);
	in_flight = opt.depth;
	for (i = 0; i < opt.depth; i++) {
		struct op *op = &ops[i];

		op->iov.iov_base = memory + i * opt.bs;
		op->iov.iov_len = opt.bs;
		op->io.file = &file;
		op->io.op = opt.write ? BT_IO_WRITE : BT_IO_READ;
		op->io.length = opt.bs;
		op->io.data.iov = &op->iov;
		op->io.data.count = 1;
		op->io.done = on_done;
		submit(op);
	}
}

static void run(struct bt_engine *engine)
{
	const struct bt_engine_stats *stats = bt_engine_get_stats(engine);
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	uint64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	uint64_t end = start + opt.seconds * 1000000000ull;
	uint64_t elapsed, count;
	struct rusage usage;

	start_all();
	while (now_ns(CLOCK_MONOTONIC) < end)
		bt_loop_turn(loop, 100);
	count = completed;
	elapsed = now_ns(CLOCK_MONOTONIC) - start;
	cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	stopping = true;
	while (in_flight)
		bt_loop_turn(loop, 100);
	getrusage(RUSAGE_SELF, &usage);
	printf("%s: %.0f IOPS, %.0f ns CPU per io (user %.0f), "
	       "%.2f ios a batch, %.3f merged\n",
	       bt_engine_name(engine), (double)count * 1e9 / (double)elapsed,
	       (double)cpu / (double)count,
	       ((double)usage.ru_utime.tv_sec * 1e9 +
		(double)usage.ru_utime.tv_usec * 1e3) /
		       (double)count,
	       (double)count / (double)stats->batches,
	       (double)stats->merged / (double)count);
}

static void parse(int argc, char **argv)
{
	static const char *const names[] = { "auto", "io_uring", "libaio",
					     "sync" };
	int i;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-engine ENGINE FILE [bs=4096] "
				"[depth=32] [seconds=3] [size=MiB] [direct] "
				"[write] [seq]\n");
		exit(2);
	}
	for (i = 0; i < 4; i++)
		if (!strcmp(argv[1], names[i]))
			opt.engine = (enum blktap_engine)i;
	opt.path = argv[2];
	for (i = 3; i < argc; i++) {
		sscanf(argv[i], "bs=%lu", &opt.bs);
		sscanf(argv[i], "depth=%lu", &opt.depth);
		sscanf(argv[i], "seconds=%lu", &opt.seconds);
		sscanf(argv[i], "size=%lu", &opt.size_mib);
		opt.direct |= !strcmp(argv[i], "direct");
		opt.write |= !strcmp(argv[i], "write");
		opt.seq |= !strcmp(argv[i], "seq");
	}
}

int main(int argc, char **argv)
{
	struct bt_engine *engine;
	int fd;

	parse(argc, argv);
	fd = open(opt.path, (opt.write ? O_RDWR : O_RDONLY) |
				    (opt.direct ? O_DIRECT : 0));
	if (fd < 0) {
		perror(opt.path);
		return 1;
	}
	blocks = (opt.size_mib << 20) / opt.bs;
	if (bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop) < 0 ||
	    bt_engine_create(loop, NULL, opt.engine, 256, &engine, NULL) < 0 ||
	    bt_file_init(&file, engine, fd, opt.direct, opt.path) < 0) {
		fprintf(stderr, "bench-engine: cannot set up\n");
		return 1;
	}
	run(engine);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
	return 0;
}
