/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks of the type mason: opened from files, through the public interface. */
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
static char dir[] = "/var/tmp/blktap-test-run-XXXXXX";

static const char *in_dir(const char *name)
{
	static char paths[8][128];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	char command[256];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

/* %s of the text is the directory, up to four times. */
static void put(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	ck_assert_ptr_nonnull(f);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	fprintf(f, text, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	fclose(f);
}

static void put_image(const char *name, off_t size)
{
	int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static struct blktap_disk *try_open(const char *file, const char *name,
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

static struct blktap_disk *open_disk(const char *file, const char *name)
{
	struct blktap_error *err = NULL;
	int rc;
	struct blktap_disk *disk = try_open(file, name, 0, &rc, &err);

	ck_assert_msg(rc == 0, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

static void refuse(const char *file, const char *name, int code,
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

static void set_error(void *opaque, int error)
{
	*(int *)opaque = error;
}

static int io(struct blktap_disk *disk, enum blktap_op op, uint64_t offset,
	      void *data, size_t length)
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

static uint64_t size_of(const struct blktap_disk *disk)
{
	struct blktap_disk_info info = { .size = sizeof(info) };

	blktap_disk_get_info(disk, &info);
	return info.length;
}

START_TEST(a_file_with_one_disk_needs_no_name)
{
	char data[4096], back[4096];
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put("x.mason", "d :: disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	ck_assert_uint_eq(size_of(disk), M);
	memset(data, 7, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 8192, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", "x");
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 8192, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(two_disks_of_a_file_share_the_nodes_both_reach)
{
	char data[4096], back[4096];
	struct blktap_disk *a, *b;

	put_image("a.raw", 2 * M);
	put("x.mason", "disk(\"a\") -> slice(offset=0, size=1M) -> r;\n"
		       "disk(\"b\") -> slice(offset=1M, size=1M) -> r;\n"
		       "export(\"all\", ro=true) -> r :: raw(%s/a.raw);");
	a = open_disk("x.mason", "a");
	b = open_disk("x.mason", "b");
	memset(data, 9, sizeof(data));
	ck_assert_int_eq(io(b, BLKTAP_OP_WRITE, 4096, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(b), 0);
	b = open_disk("x.mason", "all");
	ck_assert_uint_eq(size_of(b), 2 * M);
	ck_assert_int_eq(io(b, BLKTAP_OP_READ, M + 4096, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_lt(io(b, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(a), 0);
	ck_assert_int_eq(io(b, BLKTAP_OP_READ, M + 4096, back, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(b), 0);
}
END_TEST

START_TEST(an_image_opens_its_own_parents_where_none_is_linked)
{
	struct blktap_image_options options;
	char data[4096], back[4096];
	struct blktap_disk *disk;
	char base[128];

	put_image("base.raw", M);
	put_image("other.raw", M);
	blktap_image_options_init(&options);
	snprintf(base, sizeof(base), "%s", in_dir("base.raw"));
	options.backing = base;
	options.backing_format = "raw";
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top.qcow2"),
					     &options, NULL),
			 0);
	memset(data, 3, sizeof(data));
	disk = NULL;
	put("base.mason", "disk(\"b\") -> raw(%s/base.raw);");
	disk = open_disk("base.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	put("x.mason", "disk(\"x\") -> qcow2(%s/top.qcow2);");
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	/* the link wins over what the image says */
	put("y.mason", "disk(\"x\") -> top :: qcow2(%s/top.qcow2);\n"
		       "top[base] -> raw(%s/other.raw);");
	disk = open_disk("y.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(back[0], 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_does_not_open_is_named_and_leaves_nothing_open)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	refuse("none.mason", NULL, -ENOENT, "none.mason");
	put("x.mason", "disk(\"x\") -> slcie(offset=0, size=1M) -> ram(1M);");
	refuse("x.mason", NULL, -EINVAL, "there is no class 'slcie'");
	put("x.mason", "disk(\"x\") -> ram(1M); disk(\"y\") -> ram(1M);");
	refuse("x.mason", NULL, -EINVAL, "there are 2 disks in it");
	refuse("x.mason", "z", -ENOENT, "there is no disk 'z' in it");
	put("x.mason", "disk(\"x\") -> s :: slice(offset=1M, size=1M) -> "
		       "raw(%s/a.raw);");
	refuse("x.mason", NULL, -ERANGE, "s: ");
	put("x.mason", "disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	refuse("x.mason", "x", -EBUSY, "disk 'x' is in use");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void on_pause(void *opaque, int error, const char *message)
{
	(void)message;
	*(int *)opaque = error;
}

START_TEST(a_paused_disk_of_a_file_lets_its_images_go)
{
	struct blktap_disk *disk, *other;
	char back[4096];
	int error = 1;

	put_image("a.raw", M);
	put("x.mason", "disk(\"x\") -> raw(%s/a.raw);");
	put("y.mason", "disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	refuse("y.mason", NULL, -EBUSY, "a.raw");
	ck_assert_int_eq(blktap_disk_pause(disk, 0, on_pause, &error), 0);
	while (error == 1)
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_int_eq(error, 0);
	other = open_disk("y.mason", NULL);
	ck_assert_int_eq(blktap_disk_close(other), 0);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-run");
	TCase *tc = tcase_create("open");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_file_with_one_disk_needs_no_name);
	tcase_add_test(tc, two_disks_of_a_file_share_the_nodes_both_reach);
	tcase_add_test(tc, an_image_opens_its_own_parents_where_none_is_linked);
	tcase_add_test(tc, what_does_not_open_is_named_and_leaves_nothing_open);
	tcase_add_test(tc, a_paused_disk_of_a_file_lets_its_images_go);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
