/* SPDX-License-Identifier: BSD-3-Clause */
/* Files in a directory of their own, and disks opened from them. */
#ifndef BT_TESTS_MASON_RUN_H
#define BT_TESTS_MASON_RUN_H

#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define M (1u << 20)

static struct blktap_context *context;
static char dir[64] = "/var/tmp/blktap-test-run-XXXXXX";

static inline const char *in_dir(const char *name)
{
	static char paths[8][128];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static inline void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline void teardown(void)
{
	char command[256];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

/* %s of the text is the directory, up to four times. */
static inline void put(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	ck_assert_ptr_nonnull(f);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	fprintf(f, text, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	fclose(f);
}

static inline void put_image(const char *name, off_t size)
{
	int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static inline struct blktap_disk *try_open(const char *file, const char *name,
					   uint32_t flags, int *rc,
					   struct blktap_error **err)
{
	struct blktap_disk_options options;
	struct blktap_disk *disk = NULL;
	char spec[256];

	if (name)
		snprintf(spec, sizeof(spec), "mason(\"%s\", disk=%s)",
			 in_dir(file), name);
	else
		snprintf(spec, sizeof(spec), "mason:%s", in_dir(file));
	blktap_disk_options_init(&options);
	options.flags = flags;
	*rc = blktap_disk_open(context, spec, &options, &disk, err);
	return disk;
}

static inline struct blktap_disk *open_disk(const char *file, const char *name)
{
	struct blktap_error *err = NULL;
	int rc;
	struct blktap_disk *disk = try_open(file, name, 0, &rc, &err);

	ck_assert_msg(rc == 0, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

static inline void refuse(const char *file, const char *name, int code,
			  const char *part)
{
	struct blktap_error *err = NULL;
	int rc;

	ck_assert_ptr_null(try_open(file, name, 0, &rc, &err));
	ck_assert_int_eq(rc, code);
	ck_assert_ptr_nonnull(err);
	ck_assert_msg(strstr(blktap_error_get_message(err), part) != NULL, "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
}

static inline void set_error(void *opaque, int error)
{
	*(int *)opaque = error;
}

static inline int io(struct blktap_disk *disk, enum blktap_op op,
		     uint64_t offset, void *data, size_t length)
{
	struct iovec iov = { data, length };
	int error = 1;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
		.callback = set_error,
		.opaque = &error,
	};
	int rc = blktap_disk_submit(disk, &io);

	while (!rc && error == 1)
		rc = blktap_context_run(context, -1);
	return rc ? rc : error;
}

static inline uint64_t size_of(const struct blktap_disk *disk)
{
	struct blktap_disk_info info = { .size = sizeof(info) };

	blktap_disk_get_info(disk, &info);
	return info.length;
}

#endif
