/* SPDX-License-Identifier: BSD-3-Clause */
/* A header that cannot be written while an image gets another parent: at every moment
 * it leads to a name that is whole, whatever reached the disk. */
#include "qcow-images.h"

#include <sys/syscall.h>

static char long_names[2][1200]; /* of what stands at the bottom */
static bool watched;
static uint32_t fails; /* writes of the header that say they failed */
static uint32_t effects; /* of them, those that were done all the same */
static uint32_t heads; /* writes of the header */

/* One of three names, all of it, or none at all. */
static void check_header(void)
{
	unsigned char head[2048];
	char name[600];
	uint64_t at;
	uint32_t bytes;

	file_io("c.img", 0, head, sizeof(head), false);
	at = get64("c.img", 8);
	bytes = get32("c.img", 16);
	ck_assert(bytes < sizeof(name) && at + bytes <= sizeof(head));
	memcpy(name, head + at, bytes);
	name[bytes] = '\0';
	if (!at)
		return;
	ck_assert_msg(!strcmp(name, "m.img") || !strcmp(name, long_names[0]) ||
			      !strcmp(name, long_names[1]),
		      "the header names '%s'", name);
}

/* Before the C library's. */
ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
	bool fail = watched && !offset && fails;
	ssize_t n = (ssize_t)length;

	heads += watched && !offset;
	if (!fail || effects)
		n = syscall(SYS_pwrite64, fd, buf, length, offset);
	if (watched)
		check_header();
	if (!fail)
		return n;
	fails--;
	effects -= effects > 0;
	errno = EIO;
	return -1;
}

static int stream(struct blktap_disk *disk, const char *base)
{
	struct blktap_job_options o;
	struct blktap_error *err = NULL;
	struct blktap_job *job;
	int rc;

	blktap_job_options_init(&o);
	o.kind = BLKTAP_JOB_STREAM;
	o.base = base;
	rc = blktap_job_start(disk, &o, NULL, NULL, &job, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	watched = true;
	rc = blktap_job_wait(job, 5000);
	watched = false;
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	return rc;
}

/* b/raw <- a/qcow2 <- m.img <- c.img, with names too long for the first sector. */
static struct blktap_disk *make_chain(const char *format)
{
	char sub[2][201];
	char spec[64];
	int i;

	for (i = 0; i < 2; i++) {
		memset(sub[i], 'a' + i, 200);
		sub[i][200] = '\0';
		sh("mkdir -p %s/%s", sub[i], sub[i]);
		snprintf(long_names[i], sizeof(long_names[i]), "%s/%s/%s/i%s",
			 dir, sub[i], sub[i], i ? "mage" : "mg");
	}
	sh("truncate -s 4M %s", long_names[1]);
	make("qcow2", long_names[0] + strlen(dir) + 1, 4 * MIB, 0, NULL,
	     long_names[1], "raw", 0);
	make("qcow2", "m.img", 4 * MIB, 0, NULL, long_names[0], "qcow2", 0);
	make(format, "c.img", 4 * MIB, 0, NULL, "m.img", "qcow2", 0);
	snprintf(spec, sizeof(spec), "%s:@/c.img", format);
	return open_disk(spec, 0);
}

static const char *const formats[] = { "qcow2", "qcow" };

START_TEST(header_that_is_not_written_is_put_back)
{
	const char *format = formats[_i];
	struct blktap_disk *disk = make_chain(format);
	char spec[64];

	put(disk, 0, 1, 512);
	fails = effects = 1;
	ck_assert_int_eq(stream(disk, long_names[0]), -EIO);
	ck_assert_uint_eq(fails, 0);
	put(disk, MIB, 2, 512);
	ck_assert_int_eq(stream(disk, long_names[1]), 0);
	close_disk(disk);
	sh("rm m.img %s", long_names[0]);
	snprintf(spec, sizeof(spec), "%s:@/c.img", format);
	disk = open_disk(spec, 0);
	expect(disk, 0, 1, 512);
	expect(disk, MIB, 2, 512);
	close_disk(disk);
}
END_TEST

START_TEST(header_that_is_not_put_back_is_not_written_again)
{
	struct blktap_disk *disk = make_chain(formats[_i / 2]);
	char spec[64];

	put(disk, 0, 1, 512);
	fails = 2;
	effects = _i % 2 ? 1 : 0;
	ck_assert_int_eq(stream(disk, long_names[0]), -EIO);
	ck_assert_uint_eq(fails, 0);
	heads = 0;
	ck_assert_int_eq(stream(disk, long_names[1]), -EIO);
	ck_assert_uint_eq(heads, 0);
	check_header();
	put(disk, MIB, 2, 512);
	close_disk(disk);
	/* opened anew it has whichever it is, and may have another */
	snprintf(spec, sizeof(spec), "%s:@/c.img", formats[_i / 2]);
	disk = open_disk(spec, 0);
	expect(disk, 0, 1, 512);
	expect(disk, MIB, 2, 512);
	ck_assert_int_eq(stream(disk, _i % 2 ? NULL : long_names[1]), 0);
	close_disk(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-relink");
	TCase *tc = tcase_create("relink");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, header_that_is_not_written_is_put_back, 0, 2);
	tcase_add_loop_test(
		tc, header_that_is_not_put_back_is_not_written_again, 0, 4);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
