/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes in an image of a chain stay zeroes when a job moves them into an image that
 * stands on data, whatever that image can say of zeroes. */
#include "scratch.h"

#include <blktap/blktap.h>
#include <string.h>

#define SIZE (6u << 20) /* three blocks of a VHD */
#define IMAGES 4

static struct blktap_context *context;
static struct blktap_disk *disk;
static char dir[64], spec[128];
static unsigned char want[SIZE], data[SIZE];

/* From the bottom up. */
static const char *const chains[][IMAGES] = {
	{ "raw", "vhd", "vhd", "vhd" },
	{ "vhd", "vhd", "vhd", "qcow2" },
	{ "raw", "vhd", "qcow2", "qcow2" },
	{ "raw", "qcow2", "qcow2", "qcow2" },
	{ "raw", "qcow", "qcow", "qcow" },
};
#define CHAINS 5

/* What it is, and the image that it is about. */
static const struct {
	enum blktap_job_kind kind;
	const char *base;
} works[] = {
	{ BLKTAP_JOB_STREAM, "i0" },
	{ BLKTAP_JOB_STREAM, NULL },
	{ BLKTAP_JOB_COMMIT, "i1" },
	{ BLKTAP_JOB_COALESCE, "i2" },
};
#define WORKS 4

static void setup(void)
{
	scratch_make(dir, sizeof(dir));
	context = scratch_context();
}

static void teardown(void)
{
	blktap_context_destroy(context);
	scratch_remove(dir);
}

static void open_disk(const char *what)
{
	struct blktap_error *err = NULL;
	int rc = blktap_disk_open(context, what, NULL, &disk, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void put(enum blktap_op op, uint64_t offset, int byte, uint64_t length)
{
	memset(want + offset, byte, length);
	scratch_transfer(context, disk, op, offset,
			 op == BLKTAP_OP_WRITE ? want + offset : NULL, length);
}

/* i0 is full; i1 has nothing; i2 and i3 have zeroes, each in a block of its own. */
static void make_chain(const char *const *formats)
{
	struct blktap_image_options o;
	char path[96], below[8];
	uint32_t n;

	for (n = 0; n < IMAGES; n++) {
		blktap_image_options_init(&o);
		o.length = SIZE;
		snprintf(below, sizeof(below), "i%u", n - 1);
		o.backing = n ? below : NULL;
		o.backing_format = n ? formats[n - 1] : NULL;
		snprintf(path, sizeof(path), "%s/i%u", dir, n);
		ck_assert_int_eq(
			blktap_image_create(formats[n], path, &o, NULL), 0);
		snprintf(spec, sizeof(spec), "%s:%s", formats[n], path);
		open_disk(spec);
		if (n == 0)
			put(BLKTAP_OP_WRITE, 0, 0xaa, SIZE);
		else if (n > 1)
			put(BLKTAP_OP_WRITE_ZEROES, (n - 2) * (2u << 20), 0,
			    1u << 20);
		if (n + 1 < IMAGES)
			ck_assert_int_eq(blktap_disk_close(disk), 0);
	}
}

static void verify(void)
{
	memset(data, 0xee, SIZE);
	scratch_transfer(context, disk, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert_msg(!memcmp(data, want, SIZE), "other bytes");
}

START_TEST(zeroes_in_a_chain_are_moved_as_zeroes)
{
	struct blktap_job_options o;
	struct blktap_error *err = NULL;
	struct blktap_job *job;
	char again[128];
	int rc;

	make_chain(chains[_i / WORKS]);
	verify();
	blktap_job_options_init(&o);
	o.kind = works[_i % WORKS].kind;
	o.base = works[_i % WORKS].base;
	rc = blktap_job_start(disk, &o, NULL, NULL, &job, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_int_eq(blktap_job_wait(job, -1), 0);
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	verify();
	snprintf(again, sizeof(again), "%s", blktap_disk_get_spec(disk));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	open_disk(again);
	verify();
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("job-zeroes");
	TCase *tc = tcase_create("zeroes");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, zeroes_in_a_chain_are_moved_as_zeroes, 0,
			    CHAINS * WORKS);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
