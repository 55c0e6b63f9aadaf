/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of disks have in common. */
#ifndef BT_TESTS_VBD_BENCH_H
#define BT_TESTS_VBD_BENCH_H

#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct blktap_context *context;
static char dir[] = "/var/tmp/blktap-test-vbd-XXXXXX";
static char path[sizeof(dir) + 16];

static inline void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	/* valgrind does not see what the kernel writes into shared memory. */
	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/disk", dir);
}

static inline void teardown(void)
{
	blktap_context_destroy(context);
	unlink(path);
	rmdir(dir);
}

static inline void make_file(off_t size)
{
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static inline struct blktap_disk *open_disk(const char *spec, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk = NULL;
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(rc == 0, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

static inline void refuse(const char *spec, uint32_t flags, int code,
			  const char *part)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk = NULL;
	const char *text;

	blktap_disk_options_init(&options);
	options.flags = flags;
	ck_assert_int_eq(blktap_disk_open(context, spec, &options, &disk, &err),
			 code);
	ck_assert_ptr_null(disk);
	ck_assert_int_eq(blktap_error_get_code(err), code);
	text = blktap_error_get_message(err);
	ck_assert_msg(strstr(text, part) != NULL, "'%s' lacks '%s'", text,
		      part);
	blktap_error_destroy(err);
}

struct waiting {
	bool done;
	int error;
};

static inline void io_done(void *opaque, int error)
{
	struct waiting *w = opaque;

	ck_assert(!w->done);
	w->done = true;
	w->error = error;
}

static inline int run(struct blktap_disk *disk, struct blktap_io *io)
{
	struct waiting w = { false, 0 };
	int rc;

	io->size = sizeof(*io);
	io->callback = io_done;
	io->opaque = &w;
	rc = blktap_disk_submit(disk, io);
	if (rc < 0)
		return rc;
	ck_assert(!w.done);
	while (!w.done)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	return w.error;
}

static inline int rw(struct blktap_disk *disk, enum blktap_op op,
		     uint64_t offset, void *data, size_t length, uint32_t flags)
{
	struct iovec iov = { .iov_base = data, .iov_len = length };
	struct blktap_io io = {
		.op = op,
		.flags = flags,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
	};

	return run(disk, &io);
}

static inline int simple(struct blktap_disk *disk, enum blktap_op op,
			 uint64_t offset, uint64_t length, uint32_t flags)
{
	struct blktap_io io = {
		.op = op,
		.flags = flags,
		.offset = offset,
		.length = length,
	};

	return run(disk, &io);
}

/* ---- opening -------------------------------------------------------------- */

#endif
