/* SPDX-License-Identifier: BSD-3-Clause */
/* Every engine on real files: what tests of engines have in common. */
#ifndef BT_TESTS_ENGINE_BENCH_H
#define BT_TESTS_ENGINE_BENCH_H

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

static inline void on_done(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	ck_assert_msg(!submitting, "done inside submit or kick");
	op->calls++;
	op->error = error;
}

static inline struct op *op_new(enum bt_io_op kind, uint64_t offset, void *data,
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

static inline struct op *op_submit(struct op *op)
{
	submitting = true;
	bt_engine_submit(&op->io);
	submitting = false;
	return op;
}

static inline bool is_done(void *opaque)
{
	return ((struct op *)opaque)->calls > 0;
}

static inline int op_wait(struct op *op)
{
	int error;

	ck_assert_int_eq(bt_loop_run_until(loop, is_done, op, 20000), 0);
	ck_assert_int_eq(op->calls, 1);
	error = op->error;
	free(op);
	return error;
}

static inline int do_io(enum bt_io_op kind, uint64_t offset, void *data,
			uint64_t length)
{
	return op_wait(op_submit(op_new(kind, offset, data, length)));
}

static inline int do_io_on(struct bt_file *other, enum bt_io_op kind,
			   uint64_t offset, void *data, uint64_t length)
{
	struct op *op = op_new(kind, offset, data, length);

	op->io.file = other;
	return op_wait(op_submit(op));
}

/* ---- fixtures ------------------------------------------------------------ */

/* valgrind does not see what the kernel writes into memory it shares. */
static inline bool skip_shared(enum blktap_engine kind)
{
	return kind != BLKTAP_ENGINE_SYNC && getenv("BLKTAP_VALGRIND");
}

static inline void make_file(const char *dir, uint32_t size)
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
static inline bool reopen_direct(void)
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
static inline bool begin_sized(int variant, uint32_t depth, uint32_t size)
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

static inline bool begin(int variant)
{
	return begin_sized(variant, 0, FILE_SIZE);
}

static inline void end(void)
{
	ck_assert_uint_eq(file.in_flight, 0);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
	free(model);
	engine = NULL;
}

static inline void check_file(void)
{
	unsigned char *got = malloc(FILE_SIZE);

	ck_assert_int_eq(pread(fd, got, FILE_SIZE, 0), FILE_SIZE);
	ck_assert(!memcmp(got, model, FILE_SIZE));
	free(got);
}

/* ---- tests --------------------------------------------------------------- */

#endif
