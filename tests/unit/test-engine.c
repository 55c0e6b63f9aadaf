/* SPDX-License-Identifier: BSD-3-Clause */
/* Every engine on real files. Each test runs for each engine on each of two
 * directories: a disk's file system, and memory. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/private.h"

#define KIB 1024u
#define FILE_SIZE (2u << 20)
#define VARIANTS 6

static const enum blktap_engine kinds[] = { BLKTAP_ENGINE_IO_URING,
					    BLKTAP_ENGINE_LIBAIO,
					    BLKTAP_ENGINE_SYNC };
static const char *const dirs[] = { "/var/tmp", "/dev/shm" };

static struct bt_loop *loop;
static struct bt_engine *engine;
static struct bt_file file;
static unsigned char *model; /* what the file should hold */
static int fd = -1;

/* ---- one io and many ----------------------------------------------------- */

struct op {
	struct bt_io io;
	struct iovec iov[256];
	int calls;
	int error;
};

static bool submitting;

static void on_done(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	ck_assert_msg(!submitting, "done inside submit or kick");
	op->calls++;
	op->error = error;
}

static struct op *op_new(enum bt_io_op kind, uint64_t offset, void *data,
			 uint64_t length)
{
	struct op *op = calloc(1, sizeof(*op));

	op->iov[0].iov_base = data;
	op->iov[0].iov_len = length;
	op->io.file = &file;
	op->io.op = kind;
	op->io.offset = offset;
	op->io.length = length;
	op->io.data.iov = op->iov;
	op->io.data.count = data ? 1 : 0;
	op->io.done = on_done;
	return op;
}

static struct op *op_submit(struct op *op)
{
	submitting = true;
	bt_engine_submit(&op->io);
	submitting = false;
	return op;
}

static bool is_done(void *opaque)
{
	return ((struct op *)opaque)->calls > 0;
}

static int op_wait(struct op *op)
{
	int error;

	ck_assert_int_eq(bt_loop_run_until(loop, is_done, op, 20000), 0);
	ck_assert_int_eq(op->calls, 1);
	error = op->error;
	free(op);
	return error;
}

static int do_io(enum bt_io_op kind, uint64_t offset, void *data,
		 uint64_t length)
{
	return op_wait(op_submit(op_new(kind, offset, data, length)));
}

static int do_io_on(struct bt_file *other, enum bt_io_op kind, uint64_t offset,
		    void *data, uint64_t length)
{
	struct op *op = op_new(kind, offset, data, length);

	op->io.file = other;
	return op_wait(op_submit(op));
}

/* ---- fixtures ------------------------------------------------------------ */

/* valgrind does not see what the kernel writes into memory it shares. */
static bool skip_shared(enum blktap_engine kind)
{
	return kind != BLKTAP_ENGINE_SYNC && getenv("BLKTAP_VALGRIND");
}

static void make_file(const char *dir, uint32_t size)
{
	char path[64];
	uint32_t i;

	snprintf(path, sizeof(path), "%s/blktap-engine-XXXXXX", dir);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(unlink(path), 0);
	model = aligned_alloc(4096, FILE_SIZE);
	for (i = 0; i < FILE_SIZE; i++)
		model[i] = (unsigned char)(i * 7 + i / 4096 * 13 + 1);
	ck_assert_int_eq(pwrite(fd, model, size, 0), size);
}

/* Opens the file anew; false where the file system has no O_DIRECT. */
static bool reopen_direct(void)
{
	char path[64];
	int direct;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		return false;
	bt_file_fini(&file);
	close(fd);
	fd = direct;
	ck_assert_int_eq(bt_file_init(&file, engine, fd, true, "direct"), 0);
	ck_assert(bt_is_pow2(file.offset_align));
	ck_assert(bt_is_pow2(file.memory_align));
	return true;
}

/* False where the engine is not to be had here. */
static bool begin_sized(int variant, uint32_t depth, uint32_t size)
{
	enum blktap_engine kind = kinds[variant % 3];
	int rc;

	if (skip_shared(kind) || access(dirs[variant / 3], W_OK))
		return false;
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop), 0);
	rc = bt_engine_create(loop, NULL, kind, depth, &engine, NULL);
	if (rc == -ENOTSUP && kind != BLKTAP_ENGINE_SYNC) {
		bt_loop_destroy(loop);
		return false;
	}
	ck_assert_int_eq(rc, 0);
	make_file(dirs[variant / 3], size);
	ck_assert_int_eq(bt_file_init(&file, engine, fd, false, "file"), 0);
	return true;
}

static bool begin(int variant)
{
	return begin_sized(variant, 0, FILE_SIZE);
}

static void end(void)
{
	ck_assert_uint_eq(file.in_flight, 0);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
	free(model);
	engine = NULL;
}

static void check_file(void)
{
	unsigned char *got = malloc(FILE_SIZE);

	ck_assert_int_eq(pread(fd, got, FILE_SIZE, 0), FILE_SIZE);
	ck_assert(!memcmp(got, model, FILE_SIZE));
	free(got);
}

/* ---- tests --------------------------------------------------------------- */

START_TEST(bytes_written_are_read_back)
{
	unsigned char *a, *b;
	struct op *op;

	if (!begin(_i))
		return;
	a = malloc(12 * KIB);
	b = calloc(1, 12 * KIB);
	memset(a, 0xa5, 12 * KIB);
	op = op_new(BT_IO_WRITE, 5000, a, 12 * KIB - 100);
	op->io.flags = BT_IO_FUA;
	ck_assert_int_eq(op_wait(op_submit(op)), 0);
	ck_assert_int_eq(do_io(BT_IO_SYNC, 0, NULL, 0), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 5000, b, 12 * KIB - 100), 0);
	ck_assert(!memcmp(a, b, 12 * KIB - 100));
	memset(model + 5000, 0xa5, 12 * KIB - 100);
	check_file();
	ck_assert_uint_eq(bt_engine_get_stats(engine)->submitted[BT_IO_WRITE],
			  1);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->submitted[BT_IO_SYNC],
			  1);
	free(a);
	free(b);
	end();
}
END_TEST

/* Entries of odd lengths, a skip at the front, more entries than a slot has. */
START_TEST(vectors_of_any_shape_are_filled)
{
	unsigned char *memory;
	uint64_t length = 0;
	struct op *op;
	int i;

	if (!begin(_i))
		return;
	memory = calloc(256, 4096);
	op = op_new(BT_IO_READ, 777, memory, 0);
	for (i = 0; i < 200; i++) {
		op->iov[i].iov_base = memory + i * 4096;
		op->iov[i].iov_len = (size_t)(i * 37 % 4096);
		length += op->iov[i].iov_len;
	}
	op->iov[0].iov_len = 600;
	op->io.data.skip = 100;
	op->io.data.count = 200;
	op->io.length = length + 500;
	ck_assert_int_eq(op_wait(op_submit(op)), 0);
	ck_assert(!memcmp(memory + 100, model + 777, 500));
	length = 777 + 500;
	for (i = 1; i < 200; i++) {
		ck_assert(!memcmp(memory + i * 4096, model + length,
				  (size_t)(i * 37 % 4096)));
		length += (uint64_t)(i * 37 % 4096);
	}
	free(memory);
	end();
}
END_TEST

START_TEST(memory_that_direct_cannot_take_is_bounced)
{
	unsigned char *memory, *back;
	const struct bt_engine_stats *stats;

	if (!begin(_i))
		return;
	if (!reopen_direct()) {
		end();
		return;
	}
	stats = bt_engine_get_stats(engine);
	memory = aligned_alloc(4096, FILE_SIZE);
	back = aligned_alloc(4096, FILE_SIZE);
	memset(memory, 0x3c, FILE_SIZE);
	memset(back, 0, FILE_SIZE);
	ck_assert_int_eq(do_io(BT_IO_WRITE, 4096, memory, 64 * KIB), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 4096, back, 64 * KIB), 0);
	ck_assert_uint_eq(stats->bounced, 0);
	ck_assert(!memcmp(back, memory, 64 * KIB));
	/* Larger than one bounce buffer. */
	memset(memory, 0x7e, FILE_SIZE);
	ck_assert_int_eq(do_io(BT_IO_WRITE, 8192, memory + 1, 700 * KIB), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 8192, back + 3, 700 * KIB), 0);
	ck_assert_uint_eq(stats->bounced, 2);
	ck_assert(!memcmp(back + 3, memory + 1, 700 * KIB));
	free(memory);
	free(back);
	end();
}
END_TEST

START_TEST(more_bounces_than_buffers_wait_their_turn)
{
	enum { N = 200 };
	static struct op *ops[N];
	unsigned char *memory;
	int i;

	if (!begin_sized(_i, 128, FILE_SIZE))
		return;
	if (!reopen_direct()) {
		end();
		return;
	}
	memory = calloc(N, 8192);
	for (i = 0; i < N; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 8192,
					  memory + i * 8192 + 1, 4096));
	for (i = 0; i < N; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < N; i++)
		ck_assert(
			!memcmp(memory + i * 8192 + 1, model + i * 8192, 4096));
	ck_assert_uint_eq(bt_engine_get_stats(engine)->bounced, N);
	free(memory);
	end();
}
END_TEST

static void check_end_of_file(uint32_t size)
{
	unsigned char *memory = aligned_alloc(4096, 16 * KIB);
	static const unsigned char zeroes[16 * KIB];

	memset(memory, 0xee, 16 * KIB);
	file.eof_ok = false;
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 16 * KIB), -EIO);
	ck_assert_int_eq(do_io(BT_IO_READ, 16 * KIB, memory, 16 * KIB), -EIO);
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 8 * KIB), 0);
	file.eof_ok = true;
	memset(memory, 0xee, 16 * KIB);
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 16 * KIB), 0);
	ck_assert(!memcmp(memory, model, size));
	ck_assert(!memcmp(memory + size, zeroes, 16 * KIB - size));
	memset(memory, 0xee, 16 * KIB);
	ck_assert_int_eq(do_io(BT_IO_READ, 64 * KIB, memory, 16 * KIB), 0);
	ck_assert(!memcmp(memory, zeroes, 16 * KIB));
	free(memory);
}

START_TEST(end_of_file_is_zeroes_or_an_error_and_never_old_bytes)
{
	if (!begin_sized(_i, 0, 9001))
		return;
	check_end_of_file(9001);
	if (reopen_direct())
		check_end_of_file(9001);
	end();
}
END_TEST

START_TEST(end_of_file_concerns_only_the_ios_behind_it)
{
	unsigned char *memory;
	struct op *ops[4];
	int i;

	if (!begin_sized(_i, 0, 9001))
		return;
	memory = calloc(4, 4096);
	for (i = 0; i < 4; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 4096,
					  memory + i * 4096, 4096));
	ck_assert_int_eq(op_wait(ops[0]), 0);
	ck_assert_int_eq(op_wait(ops[1]), 0);
	ck_assert_int_eq(op_wait(ops[2]), -EIO);
	ck_assert_int_eq(op_wait(ops[3]), -EIO);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->merged, 3);
	ck_assert(!memcmp(memory, model, 8192));
	free(memory);
	end();
}
END_TEST

START_TEST(neighbours_go_in_one_call)
{
	const struct bt_engine_stats *stats;
	unsigned char *memory;
	struct op *ops[8];
	int i;

	if (!begin(_i))
		return;
	stats = bt_engine_get_stats(engine);
	memory = calloc(8, 4096);
	for (i = 0; i < 8; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 4096,
					  memory + (7 - i) * 4096, 4096));
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < 8; i++)
		ck_assert(!memcmp(memory + (7 - i) * 4096, model + i * 4096,
				  4096));
	ck_assert_uint_eq(stats->merged, 7);
	ck_assert_uint_eq(stats->batches, 1);
	free(memory);
	end();
}
END_TEST

START_TEST(more_ios_than_slots_wait_in_order)
{
	enum { N = 500 };
	static struct op *ops[N];
	unsigned char *memory;
	int i;

	if (!begin_sized(_i, 3, FILE_SIZE))
		return;
	memory = calloc(N, 1024);
	for (i = 0; i < N; i++)
		ops[i] = op_submit(op_new(BT_IO_READ,
					  (uint64_t)(N - 1 - i) * 4096,
					  memory + i * 1024, 1024));
	ck_assert_uint_eq(file.in_flight, N);
	for (i = 0; i < N; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < N; i++)
		ck_assert(!memcmp(memory + i * 1024, model + (N - 1 - i) * 4096,
				  1024));
	free(memory);
	end();
}
END_TEST

START_TEST(ranges_are_freed_and_zeroed_or_it_says_not_supported)
{
	struct stat before, after;
	unsigned char byte;
	int rc;

	if (!begin(_i))
		return;
	fsync(fd);
	fstat(fd, &before);
	rc = do_io(BT_IO_PUNCH, 64 * KIB, NULL, 256 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	if (!rc) {
		memset(model + 64 * KIB, 0, 256 * KIB);
		fstat(fd, &after);
		ck_assert_int_lt(after.st_blocks, before.st_blocks);
	}
	rc = do_io(BT_IO_ZERO, 512 * KIB, NULL, 8 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	if (!rc)
		memset(model + 512 * KIB, 0, 8 * KIB);
	check_file();
	rc = do_io(BT_IO_DISCARD, 0, NULL, 4 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	ck_assert_int_eq(pread(fd, &byte, 1, FILE_SIZE - 1), 1);
	fstat(fd, &after);
	ck_assert_int_eq(after.st_size, FILE_SIZE);
	end();
}
END_TEST

START_TEST(errors_of_the_kernel_come_back_and_the_engine_goes_on)
{
	unsigned char byte = 0;
	struct bt_file other;
	struct op *op;
	int null;

	if (!begin(_i))
		return;
	null = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(bt_file_init(&other, engine, null, false, "exe"), 0);
	op = op_new(BT_IO_WRITE, 0, &byte, 1);
	op->io.file = &other;
	ck_assert_int_eq(op_wait(op_submit(op)), -EBADF);
	ck_assert_uint_eq(other.in_flight, 0);
	bt_file_fini(&other);
	close(null);
	ck_assert_int_eq(do_io(BT_IO_READ, 4096, &byte, 1), 0);
	ck_assert_uint_eq(byte, model[4096]);
	end();
}
END_TEST

START_TEST(ios_that_make_no_sense_end_with_einval_and_empty_ones_well)
{
	unsigned char *memory;

	if (!begin(_i))
		return;
	memory = aligned_alloc(4096, 8192);
	memset(memory, 0, 8192);
	ck_assert_int_eq(do_io(BT_IO_READ, UINT64_MAX - 10, memory, 100),
			 -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_READ, INT64_MAX, memory, 1), -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_OP_COUNT, 0, memory, 1), -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_READ, 5, memory, 0), 0);
	{
		struct op *op = op_new(BT_IO_READ, 0, memory, 4096);

		op->io.length = 8192; /* more than its memory */
		ck_assert_int_eq(op_wait(op_submit(op)), -EINVAL);
	}
	if (reopen_direct() && file.offset_align > 1) {
		ck_assert_int_eq(do_io(BT_IO_READ, 1, memory, 4096), -EINVAL);
		ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 4095), -EINVAL);
	}
	free(memory);
	end();
}
END_TEST

START_TEST(kick_completes_nothing_inside_and_loses_nothing)
{
	unsigned char *memory;
	struct op *a, *b;

	if (!begin(_i))
		return;
	memory = calloc(2, 4096);
	a = op_submit(op_new(BT_IO_READ, 0, memory, 4096));
	submitting = true;
	bt_engine_kick(engine);
	bt_engine_kick(engine);
	submitting = false;
	b = op_submit(op_new(BT_IO_READ, 4096, memory + 4096, 4096));
	ck_assert_int_eq(op_wait(a), 0);
	ck_assert_int_eq(op_wait(b), 0);
	ck_assert(!memcmp(memory, model, 8192));
	free(memory);
	end();
}
END_TEST

/* As an embedder does: the descriptor and the timeout, nothing else. */
START_TEST(embedded_in_poll_every_io_comes_back)
{
	unsigned char *memory;
	int i;

	if (!begin(_i))
		return;
	reopen_direct();
	memory = aligned_alloc(4096, 4096);
	memset(memory, 0, 4096);
	for (i = 0; i < 50; i++) {
		struct op *op = op_submit(
			op_new(BT_IO_READ, (uint64_t)i * 4096, memory, 4096));

		while (!op->calls) {
			struct pollfd pfd = { .fd = bt_loop_fd(loop),
					      .events = POLLIN };
			int rc = poll(&pfd, 1, bt_loop_timeout(loop));

			ck_assert(rc > 0 || bt_loop_timeout(loop) == 0);
			ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
		}
		ck_assert_int_eq(op_wait(op), 0);
		ck_assert(!memcmp(memory, model + i * 4096, 4096));
	}
	free(memory);
	end();
}
END_TEST

static void *wait_elsewhere(void *opaque)
{
	struct op *op = opaque;

	bt_loop_run_until(loop, is_done, op, 20000);
	op = op_submit(op_new(BT_IO_READ, 4096, op->iov[0].iov_base, 4096));
	bt_engine_kick(engine);
	return op;
}

START_TEST(engine_may_be_handed_from_thread_to_thread)
{
	unsigned char *memory;
	pthread_t thread;
	struct op *a;
	void *b;

	if (!begin(_i))
		return;
	reopen_direct();
	memory = aligned_alloc(4096, 4096);
	memset(memory, 0, 4096);
	a = op_submit(op_new(BT_IO_READ, 0, memory, 4096));
	bt_engine_kick(engine);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_elsewhere, a), 0);
	pthread_join(thread, &b);
	ck_assert_int_eq(op_wait(a), 0);
	/* The thread that submitted it is gone. */
	ck_assert_int_eq(op_wait(b), 0);
	ck_assert(!memcmp(memory, model + 4096, 4096));
	free(memory);
	end();
}
END_TEST

static int chain_left;

static void on_chain(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	ck_assert_int_eq(error, 0);
	if (--chain_left)
		bt_engine_submit(io);
	else
		op->calls++;
}

static void on_tick(struct bt_timer *timer)
{
	chain_left = 1;
}

/* The file is in the page cache: completions come within the submission. */
START_TEST(io_without_end_starves_no_timer)
{
	unsigned char memory[512];
	struct bt_timer timer;
	struct op *op;

	if (!begin(_i))
		return;
	bt_timer_init(&timer, on_tick);
	bt_timer_arm(loop, &timer, bt_loop_refresh(loop) + 20000000);
	chain_left = INT32_MAX;
	op = op_new(BT_IO_READ, 0, memory, sizeof(memory));
	op->io.done = on_chain;
	bt_engine_submit(&op->io);
	ck_assert_int_eq(bt_loop_run_until(loop, is_done, op, 20000), 0);
	free(op);
	end();
}
END_TEST

/* Writes to the page cache by plain calls, and after a slow one by the engine. */
START_TEST(cached_writes_are_right_with_and_without_plain_calls)
{
	unsigned char *memory;
	struct op *ops[8];
	int round, i;

	if (!begin(_i))
		return;
	memory = aligned_alloc(4096, 8 * 8192);
	for (round = 0; round < 2; round++) {
		file.plain_from_ns = round ? UINT64_MAX : 0;
		memset(memory, 0x40 + round, 8 * 8192);
		for (i = 0; i < 8; i++)
			ops[i] = op_submit(op_new(BT_IO_WRITE,
						  (uint64_t)i * 16384,
						  memory + i * 8192, 8192));
		for (i = 0; i < 8; i++)
			ck_assert_int_eq(op_wait(ops[i]), 0);
		for (i = 0; i < 8; i++)
			memset(model + i * 16384, 0x40 + round, 8192);
		check_file();
	}
	free(memory);
	end();
}
END_TEST

/* A loop device on the file, which is gone with its descriptor; -1 where there
 * is none to be had. */
static int open_loop_device(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)fd,
				      .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	char path[32];
	int number, device;

	if (control < 0)
		return -1;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	device = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) < 0) {
		close(device);
		return -1;
	}
	return device;
}

START_TEST(device_is_written_and_its_ranges_are_freed)
{
	unsigned char block[4096];
	struct stat before, after;
	struct bt_file device;
	int dev;

	if (!begin(_i))
		return;
	dev = open_loop_device();
	if (dev < 0) {
		end();
		return;
	}
	ck_assert_int_eq(bt_file_init(&device, engine, dev, false, "loop"), 0);
	ck_assert(device.is_block);
	memset(block, 0x99, sizeof(block));
	ck_assert_int_eq(do_io_on(&device, BT_IO_WRITE, 4096, block, 4096), 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_SYNC, 0, NULL, 0), 0);
	memset(model + 4096, 0x99, 4096);
	check_file();
	fsync(fd);
	fstat(fd, &before);
	ck_assert_int_eq(
		do_io_on(&device, BT_IO_DISCARD, 64 * KIB, NULL, 256 * KIB), 0);
	ck_assert_int_eq(
		do_io_on(&device, BT_IO_DISCARD, 512 * KIB, NULL, 64 * KIB), 0);
	fstat(fd, &after);
	ck_assert_int_le(after.st_blocks, before.st_blocks - 2 * 320);
	ck_assert_int_eq(do_io_on(&device, BT_IO_PUNCH, 0, NULL, 8192), 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_READ, 4096, block, 4096), 0);
	ck_assert_uint_eq(block[0] | block[4095], 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_ZERO, 8192, NULL, 8192), 0);
	bt_file_fini(&device);
	close(dev);
	end();
}
END_TEST

/* ---- choice of the engine ------------------------------------------------ */

/* From here on the two calls fail, in this process. */
static void forbid(long a, long b)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)a, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)b, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { BT_ARRAY_SIZE(code), code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

START_TEST(engine_auto_falls_back_where_calls_are_forbidden)
{
	static const char *const want[] = { "libaio", "sync" };
	struct blktap_error *err = NULL;
	const char *env = getenv("CK_FORK");

	if (getenv("BLKTAP_VALGRIND") || (env && !strcmp(env, "no")))
		return;
	forbid(SYS_io_uring_setup, _i ? SYS_io_setup : SYS_io_uring_setup);
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop), 0);
	ck_assert_int_eq(bt_engine_create(loop, NULL, BLKTAP_ENGINE_AUTO, 0,
					  &engine, &err),
			 0);
	ck_assert_ptr_null(err);
	ck_assert_str_eq(bt_engine_name(engine), want[_i]);
	bt_engine_destroy(engine);
	ck_assert_int_eq(bt_engine_create(loop, NULL, BLKTAP_ENGINE_IO_URING, 0,
					  &engine, &err),
			 -ENOTSUP);
	ck_assert_int_eq(blktap_error_get_code(err), -ENOTSUP);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "io_uring"));
	ck_assert_str_ne(blktap_error_get_hint(err), "");
	blktap_error_destroy(err);
	bt_loop_destroy(loop);
}
END_TEST

START_TEST(engine_name_is_what_was_asked_for)
{
	static const char *const names[] = { "io_uring", "libaio", "sync" };

	if (!begin(_i))
		return;
	ck_assert_str_eq(bt_engine_name(engine), names[_i]);
	end();
}
END_TEST

START_TEST(engine_leaves_no_descriptor_behind)
{
	int first, i;

	first = dup(0);
	close(first);
	for (i = 0; i < 20; i++) {
		if (!begin(_i))
			return;
		ck_assert_int_eq(do_io(BT_IO_SYNC, 0, NULL, 0), 0);
		end();
	}
	i = dup(0);
	ck_assert_int_eq(i, first);
	close(i);
}
END_TEST

static void add_variants(TCase *tc)
{
	tcase_add_loop_test(tc, bytes_written_are_read_back, 0, VARIANTS);
	tcase_add_loop_test(tc, vectors_of_any_shape_are_filled, 0, VARIANTS);
	tcase_add_loop_test(tc, memory_that_direct_cannot_take_is_bounced, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, more_bounces_than_buffers_wait_their_turn, 0,
			    VARIANTS);
	tcase_add_loop_test(
		tc, end_of_file_is_zeroes_or_an_error_and_never_old_bytes, 0,
		VARIANTS);
	tcase_add_loop_test(tc, end_of_file_concerns_only_the_ios_behind_it, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, neighbours_go_in_one_call, 0, VARIANTS);
	tcase_add_loop_test(tc, more_ios_than_slots_wait_in_order, 0, VARIANTS);
	tcase_add_loop_test(
		tc, ranges_are_freed_and_zeroed_or_it_says_not_supported, 0,
		VARIANTS);
	tcase_add_loop_test(
		tc, errors_of_the_kernel_come_back_and_the_engine_goes_on, 0,
		VARIANTS);
	tcase_add_loop_test(
		tc, ios_that_make_no_sense_end_with_einval_and_empty_ones_well,
		0, VARIANTS);
	tcase_add_loop_test(tc, kick_completes_nothing_inside_and_loses_nothing,
			    0, VARIANTS);
	tcase_add_loop_test(tc, embedded_in_poll_every_io_comes_back, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, engine_may_be_handed_from_thread_to_thread, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, io_without_end_starves_no_timer, 0, VARIANTS);
	tcase_add_loop_test(
		tc, cached_writes_are_right_with_and_without_plain_calls, 0,
		VARIANTS);
	tcase_add_loop_test(tc, device_is_written_and_its_ranges_are_freed, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, engine_name_is_what_was_asked_for, 0, 3);
	tcase_add_loop_test(tc, engine_leaves_no_descriptor_behind, 0, 3);
	tcase_add_loop_test(
		tc, engine_auto_falls_back_where_calls_are_forbidden, 0, 2);
}

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *tc = tcase_create("engines");

	tcase_set_timeout(tc, 30);
	add_variants(tc);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
