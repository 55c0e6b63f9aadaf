/* SPDX-License-Identifier: BSD-3-Clause */
/* Images in a directory of their own: made, opened, read, written and spoiled by
 * hand. For the few programs that include it; setup and teardown are the fixture.
 */
#ifndef BT_TESTS_QCOW_IMAGES_H
#define BT_TESTS_QCOW_IMAGES_H

#include "unit.h"

#include <blktap/blktap.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "seed.h"

#define MIB (1u << 20)

static struct blktap_context *context;
static char dir[64];
static unsigned int warnings;
static char last_hint[200]; /* of try_open */

static __attribute__((unused)) void count_warnings(void *opaque,
						   enum blktap_log_level level,
						   const char *text)
{
	if (level == BLKTAP_LOG_WARNING && strstr(text, "checksum"))
		warnings++;
}

static __attribute__((unused)) void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	blktap_context_set_log(context, BLKTAP_LOG_WARNING, count_warnings,
			       NULL, NULL);
	warnings = 0;
	strcpy(dir, "/var/tmp/blktap-shipped-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static __attribute__((unused)) void teardown(void)
{
	char command[128];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* ---- helpers -------------------------------------------------------------- */

/* A shell command in the directory. */
__attribute__((format(printf, 1, 2))) static int sh(const char *format, ...)
{
	char command[2048];
	va_list ap;
	int n = snprintf(command, sizeof(command), "cd %s && ", dir);

	va_start(ap, format);
	vsnprintf(command + n, sizeof(command) - (size_t)n, format, ap);
	va_end(ap);
	return system(command);
}

static __attribute__((unused)) bool have_qemu(void)
{
	return !system("qemu-img --version >/dev/null 2>&1");
}

static __attribute__((unused)) void make(const char *format, const char *name,
					 uint64_t size, uint64_t cluster,
					 const char *extra, const char *backing,
					 const char *backing_format,
					 uint32_t flags)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	char path[1200];
	int rc;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	blktap_image_options_init(&o);
	o.length = size;
	o.cluster_size = cluster;
	o.extra = extra;
	o.backing = backing;
	o.backing_format = backing_format;
	o.flags = flags;
	rc = blktap_image_create(format, path, &o, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

/* Each @ of the description is the directory. */
static __attribute__((unused)) void set_spec(char *text, const char *spec)
{
	for (; *spec; spec++)
		if (*spec == '@')
			text = stpcpy(text, dir);
		else
			*text++ = *spec;
	*text = '\0';
}

static __attribute__((unused)) int try_open(const char *spec, uint32_t flags,
					    struct blktap_disk **out,
					    char *message)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char text[2400];
	int rc;

	set_spec(text, spec);
	blktap_disk_options_init(&options);
	options.flags = flags;
	rc = blktap_disk_open(context, text, &options, out, &err);
	snprintf(message, 600, "%s", err ? blktap_error_get_message(err) : "");
	snprintf(last_hint, sizeof(last_hint), "%s",
		 err ? blktap_error_get_hint(err) : "");
	blktap_error_destroy(err);
	return rc;
}

static __attribute__((unused)) struct blktap_disk *open_disk(const char *spec,
							     uint32_t flags)
{
	struct blktap_disk *disk = NULL;
	char message[600];
	int rc = try_open(spec, flags, &disk, message);

	ck_assert_msg(!rc, "%s", message);
	return disk;
}

struct waiting {
	bool done;
	int error;
};

static __attribute__((unused)) void io_done(void *opaque, int error)
{
	struct waiting *w = opaque;

	w->done = true;
	w->error = error;
}

static __attribute__((unused)) int transfer(struct blktap_disk *disk,
					    enum blktap_op op, uint64_t at,
					    void *data, uint64_t length)
{
	struct iovec iov = { .iov_base = data, .iov_len = length };
	struct waiting w = { false, 0 };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = at,
		.length = length,
		.iov = &iov,
		.iov_count = data ? 1 : 0,
		.callback = io_done,
		.opaque = &w,
	};

	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	while (!w.done)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	return w.error;
}

static __attribute__((unused)) void put(struct blktap_disk *disk, uint64_t at,
					int byte, uint64_t length)
{
	char *data = malloc(length);

	memset(data, byte, length);
	ck_assert_int_eq(transfer(disk, BLKTAP_OP_WRITE, at, data, length), 0);
	free(data);
}

static __attribute__((unused)) void expect(struct blktap_disk *disk,
					   uint64_t at, int byte,
					   uint64_t length)
{
	unsigned char *data = malloc(length);
	uint64_t i;

	ck_assert_int_eq(transfer(disk, BLKTAP_OP_READ, at, data, length), 0);
	for (i = 0; i < length; i++)
		if (data[i] != byte)
			ck_abort_msg("byte %llu is %d, not %d",
				     (unsigned long long)(at + i), data[i],
				     byte);
	free(data);
}

static __attribute__((unused)) void file_io(const char *name, off_t at,
					    void *data, size_t n, bool out)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(out ? pwrite(fd, data, n, at) : pread(fd, data, n, at),
			 (ssize_t)n);
	close(fd);
}

static __attribute__((unused)) uint64_t get64(const char *name, off_t at)
{
	uint64_t v;

	file_io(name, at, &v, 8, false);
	return be64toh(v);
}

static __attribute__((unused)) void set64(const char *name, off_t at,
					  uint64_t v)
{
	v = htobe64(v);
	file_io(name, at, &v, 8, true);
}

static __attribute__((unused)) uint32_t get32(const char *name, off_t at)
{
	uint32_t v;

	file_io(name, at, &v, 4, false);
	return be32toh(v);
}

static __attribute__((unused)) uint64_t file_size(const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static __attribute__((unused)) void close_disk(struct blktap_disk *disk)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

#endif
