/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faulty.h"
#include "vbd/copy.h"
#include "vbd/vbd.h"

#define SIZE (8u << 20)

static struct blktap_context *context;
static char paths[2][64];
static uint32_t calls;
static int result;
static char text[256];
static struct blktap_copy *running;

static void setup(void)
{
	int i;

	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
	for (i = 0; i < 2; i++) {
		int fd;

		strcpy(paths[i], "/var/tmp/blktap-test-copy-XXXXXX");
		fd = mkstemp(paths[i]);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(ftruncate(fd, SIZE), 0);
		close(fd);
	}
	calls = 0;
}

static void teardown(void)
{
	blktap_context_destroy(context);
	unlink(paths[0]);
	unlink(paths[1]);
}

static struct blktap_disk *open_disk(int which)
{
	struct blktap_disk *disk = NULL;
	char spec[96];

	snprintf(spec, sizeof(spec), "raw:%s", paths[which]);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	return disk;
}

static void fill(int which, off_t at, size_t length, unsigned char value)
{
	unsigned char *data = malloc(length);
	int fd = open(paths[which], O_RDWR);

	ck_assert(data && fd >= 0);
	memset(data, value, length);
	ck_assert_int_eq(pwrite(fd, data, length, at), (ssize_t)length);
	close(fd);
	free(data);
}

static void compare(size_t length)
{
	unsigned char *a = malloc(SIZE), *b = malloc(SIZE);
	int fds[2] = { open(paths[0], O_RDONLY), open(paths[1], O_RDONLY) };

	ck_assert(a && b);
	ck_assert_int_eq(pread(fds[0], a, length, 0), (ssize_t)length);
	ck_assert_int_eq(pread(fds[1], b, length, 0), (ssize_t)length);
	ck_assert_mem_eq(a, b, length);
	close(fds[0]);
	close(fds[1]);
	free(a);
	free(b);
}

static void done(void *opaque, int error, const char *message)
{
	calls++;
	result = error;
	snprintf(text, sizeof(text), "%s", message);
	ck_assert_int_eq(blktap_copy_destroy(running), 0);
}

static void start(struct blktap_disk *from, struct blktap_disk *to,
		  struct blktap_copy_options *o)
{
	struct blktap_error *err = NULL;
	int rc = blktap_copy_start(from, to, o, done, NULL, &running, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_int_eq(blktap_copy_destroy(running), -EBUSY);
}

static void turns(unsigned int n)
{
	while (n-- && !calls)
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static int copy(uint32_t flags)
{
	struct blktap_disk *from = open_disk(0), *to = open_disk(1);
	struct blktap_copy_options o;

	blktap_copy_options_init(&o);
	o.flags = flags;
	start(from, to, &o);
	turns(10000);
	ck_assert_uint_eq(calls, 1);
	blktap_disk_close(from);
	blktap_disk_close(to);
	return result;
}

START_TEST(copy_is_identical_and_keeps_holes)
{
	struct stat st;

	fill(0, 0, 100, 1);
	fill(0, 1 << 20, 70000, 2);
	fill(0, SIZE - 1, 1, 3);
	fill(0, 3 << 20, 1 << 20, 0); /* allocated zeroes */
	ck_assert_int_eq(copy(BLKTAP_COPY_TARGET_IS_ZERO), 0);
	compare(SIZE);
	stat(paths[1], &st);
	ck_assert_int_lt(st.st_blocks * 512, 1 << 20);
}
END_TEST

START_TEST(target_with_old_data_is_overwritten_with_zeroes)
{
	fill(0, 4 << 20, 5000, 1);
	fill(1, 0, SIZE, 0xee);
	ck_assert_int_eq(copy(0), 0);
	compare(SIZE);
}
END_TEST

START_TEST(read_error_ends_the_copy_and_names_the_place)
{
	fill(0, 0, SIZE, 1);
	faulty_add((struct faulty_rule){ .op = BT_IO_READ,
					 .error = -EIO,
					 .offset = 5 << 20,
					 .length = 512 });
	ck_assert_int_eq(copy(BLKTAP_COPY_TARGET_IS_ZERO), -EIO);
	ck_assert_msg(strstr(text, paths[0]) && strstr(text, "read"), "%s",
		      text);
}
END_TEST

START_TEST(full_target_ends_the_copy_with_enospc)
{
	fill(0, 0, SIZE, 1);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -ENOSPC, .nth = 3 });
	ck_assert_int_eq(copy(BLKTAP_COPY_TARGET_IS_ZERO), -ENOSPC);
	ck_assert_msg(strstr(text, paths[1]) != NULL, "%s", text);
}
END_TEST

START_TEST(failed_flush_is_a_failed_copy)
{
	fill(0, 0, 4096, 1);
	faulty_add((struct faulty_rule){ .op = BT_IO_SYNC, .error = -EIO });
	ck_assert_int_eq(copy(BLKTAP_COPY_TARGET_IS_ZERO), -EIO);
}
END_TEST

/* A server that died, lost what it had not flushed, and is there again. */
START_TEST(target_that_lost_writes_is_a_failed_copy)
{
	struct blktap_disk *from = open_disk(0), *to = open_disk(1);
	struct blktap_copy_options o;

	fill(0, 0, SIZE, 1);
	blktap_copy_options_init(&o);
	o.depth = 1;
	start(from, to, &o);
	while (!running->data)
		turns(1);
	bt_node_lose(to->root);
	turns(10000);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(result, -EIO);
	ck_assert_ptr_nonnull(strstr(text, "was lost for a while"));
	blktap_disk_close(from);
	blktap_disk_close(to);
}
END_TEST

START_TEST(cancelled_copy_waits_for_what_is_under_way)
{
	struct blktap_disk *from = open_disk(0), *to = open_disk(1);

	fill(0, 0, SIZE, 1);
	faulty.hold = true;
	start(from, to, NULL);
	turns(50);
	blktap_copy_cancel(running);
	turns(50);
	ck_assert_uint_eq(calls, 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns(50);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(result, -ECANCELED);
	blktap_disk_close(from);
	blktap_disk_close(to);
}
END_TEST

START_TEST(rate_limit_is_kept_and_can_be_lifted)
{
	struct blktap_disk *from = open_disk(0), *to = open_disk(1);
	struct blktap_copy_progress p = { .size = sizeof(p) };
	struct blktap_copy_options o;

	fill(0, 0, SIZE, 1);
	blktap_copy_options_init(&o);
	o.rate = 1 << 20;
	start(from, to, &o);
	turns(100);
	blktap_copy_get_progress(running, &p);
	ck_assert_uint_le(p.done, 1 << 20);
	ck_assert_uint_eq(p.total, SIZE);
	bt_loop_advance(bt_context_get_loop(context), 2100000000ull);
	turns(100);
	blktap_copy_get_progress(running, &p);
	ck_assert_uint_le(p.done, 3 << 20);
	ck_assert_uint_ge(p.done, 2 << 20);
	blktap_copy_set_rate(running, 0);
	turns(10000);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(result, 0);
	blktap_disk_close(from);
	blktap_disk_close(to);
	compare(SIZE);
}
END_TEST

START_TEST(smaller_or_read_only_target_is_refused)
{
	struct blktap_disk *from = open_disk(0), *to = NULL;
	struct blktap_copy *c = NULL;

	ck_assert_int_eq(blktap_disk_open(context, "ram:4M", NULL, &to, NULL),
			 0);
	ck_assert_int_eq(
		blktap_copy_start(from, to, NULL, done, NULL, &c, NULL),
		-ENOSPC);
	ck_assert_ptr_null(c);
	blktap_disk_close(to);
	blktap_disk_close(from);
}
END_TEST

/* Of the disks' owner they may be in use as well. */
START_TEST(copy_waits_where_all_requests_are_in_use)
{
	struct blktap_disk_options options;
	struct blktap_disk *disks[2];
	char spec[160];
	int i;

	fill(0, 0, 3 << 20, 0x33);
	fill(0, 5 << 20, 1 << 20, 0x44);
	fill(1, 4 << 20, 1 << 20, 0x55);
	blktap_disk_options_init(&options);
	options.queue_depth = 1;
	for (i = 0; i < 2; i++) {
		snprintf(spec, sizeof(spec), "raw:%s", paths[i]);
		ck_assert_int_eq(blktap_disk_open(context, spec, &options,
						  &disks[i], NULL),
				 0);
	}
	start(disks[0], disks[1], NULL);
	for (i = 0; i < 1000 && !calls; i++) {
		turns(10);
		bt_loop_advance(bt_context_get_loop(context), 1000000);
	}
	ck_assert_uint_eq(calls, 1);
	ck_assert_msg(!result, "%s", text);
	compare(SIZE);
	blktap_disk_close(disks[0]);
	blktap_disk_close(disks[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("copy");
	TCase *tc = tcase_create("copy");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, copy_is_identical_and_keeps_holes);
	tcase_add_test(tc, target_with_old_data_is_overwritten_with_zeroes);
	tcase_add_test(tc, read_error_ends_the_copy_and_names_the_place);
	tcase_add_test(tc, full_target_ends_the_copy_with_enospc);
	tcase_add_test(tc, failed_flush_is_a_failed_copy);
	tcase_add_test(tc, target_that_lost_writes_is_a_failed_copy);
	tcase_add_test(tc, cancelled_copy_waits_for_what_is_under_way);
	tcase_add_test(tc, rate_limit_is_kept_and_can_be_lifted);
	tcase_add_test(tc, smaller_or_read_only_target_is_refused);
	tcase_add_test(tc, copy_waits_where_all_requests_are_in_use);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
