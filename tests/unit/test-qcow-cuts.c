/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts while a qcow2 image grows beyond what its L1 table's clusters hold:
 * what the resize writes is recorded, and at every moment the file is made as a cut
 * would have left it. It has to be of the old size or of the new one, with its data,
 * with no table damaged, and to take writes. BLKTAP_SEED repeats a run, BLKTAP_CUTS=all
 * looks at every event. */
#include "unit.h"

#include <blktap/blktap.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libqcow/check.h"
#include "libqcow/entry.h"
#include "libqcow/refcount.h"
#include "record-calls.h"
#include "scratch.h"
#include "seed.h"
#include "util/bytes.h"

#define SIZE (1u << 20)
#define LARGE (512u << 20)
#define FILE_MAX (4u << 20)
#define EVENTS 12 /* that are looked at in a run */
#define WINDOW 4096u

static unsigned char before[FILE_MAX], cut[FILE_MAX];
static unsigned char model[SIZE], data[SIZE];
static uint64_t before_size;
static struct blktap_context *context;
static char dir[64], path[96], spec[128];
static uint64_t state;
static uint32_t cuts, leaks;

static uint64_t next_random(void)
{
	return seed_next(&state);
}

static void setup(void)
{
	state = seed_take() | 1;
	scratch_make(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/a.qcow2", dir);
	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	context = scratch_context();
	record_reset();
	cuts = 0;
}

static void teardown(void)
{
	blktap_context_destroy(context);
	record_reset();
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* ---- the file ------------------------------------------------------------- */

static uint64_t load(unsigned char *bytes)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;

	memset(bytes, 0, FILE_MAX);
	got = read(fd, bytes, FILE_MAX);
	ck_assert_int_gt(got, 0);
	ck_assert_int_lt(got, FILE_MAX);
	close(fd);
	return (uint64_t)got;
}

static void make_cut(uint64_t at, enum record_model kind)
{
	uint64_t size;
	int fd;

	memcpy(cut, before, FILE_MAX);
	size = record_cut_file(0, at, kind, next_random, cut, before_size,
			       FILE_MAX);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_eq(write(fd, cut, size), (ssize_t)size);
	close(fd);
	cuts++;
}

static void found(void *opaque, const struct bt_qcow_finding *f)
{
	(void)opaque;
	ck_assert_msg(f->kind == BT_QCOW_LEAK, "finding %d at %" PRIu64,
		      f->kind, f->file_offset);
	leaks++;
}

static void check_counts(struct bt_qcow_check *c,
			 const struct bt_qcow_geometry *geo, uint64_t bytes)
{
	uint64_t block;
	uint32_t i;

	bt_qcow_check_reftable(c, cut + geo->reftable_offset, 0,
			       geo->reftable_entries);
	for (i = 0; i < geo->reftable_entries; i++) {
		uint64_t entry = bt_load_be64(cut + geo->reftable_offset +
					      (size_t)i * 8);

		if (!bt_qcow_check_wants_block(c, i))
			continue;
		ck_assert_int_eq(bt_qcow_reftable_decode(geo, entry, bytes,
							 &block, NULL),
				 0);
		bt_qcow_check_refblock(c, i, block ? cut + block : NULL);
	}
}

/* No table is wrong; what leaks is counted. */
static void check(void)
{
	static uint32_t counts[WINDOW];
	uint64_t bytes = load(cut);
	struct bt_qcow_geometry geo;
	struct bt_qcow_header h;
	struct bt_qcow_check c;
	struct bt_qcow_l1 l1;
	uint32_t i;

	leaks = 0;
	ck_assert_int_eq(bt_qcow_header_decode(&h, cut, 512, NULL), 0);
	ck_assert_int_eq(bt_qcow_header_validate(&h, bytes, 0, NULL), 0);
	bt_qcow_geometry_init(&geo, &h);
	bt_qcow_check_init(&c, &geo, bytes, counts, WINDOW, found, NULL);
	do {
		bt_qcow_check_l1(&c, cut + geo.l1_offset, 0, geo.l1_entries);
		for (i = 0; i < geo.l1_entries; i++)
			if (!bt_qcow_l1_decode(&geo,
					       bt_load_be64(cut +
							    geo.l1_offset +
							    (size_t)i * 8),
					       bytes, &l1, NULL) &&
			    l1.offset)
				bt_qcow_check_l2(&c, cut + l1.offset, i);
		check_counts(&c, &geo, bytes);
	} while (bt_qcow_check_next(&c));
}

/* ---- the disk ------------------------------------------------------------- */

static void transfer(struct blktap_disk *disk, enum blktap_op op,
		     uint64_t offset, void *buf, uint64_t length)
{
	scratch_transfer(context, disk, op, offset, buf, length);
}

static struct blktap_disk *open_disk(uint64_t *size)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	int rc = blktap_disk_open(context, spec, NULL, &disk, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	blktap_disk_get_info(disk, &info);
	*size = info.length;
	return disk;
}

static void create(const char *extra)
{
	struct blktap_image_options options;
	struct blktap_disk *disk;
	uint64_t size;
	uint32_t i;

	blktap_image_options_init(&options);
	options.length = SIZE;
	options.cluster_size = 512;
	options.extra = extra;
	ck_assert_int_eq(blktap_image_create("qcow2", path, &options, NULL), 0);
	disk = open_disk(&size);
	memset(model, 0, sizeof(model));
	for (i = 0; i < 60; i++) {
		uint32_t at = (uint32_t)(next_random() % (SIZE / 512)) * 512;

		memset(model + at, (int)i + 1, 512);
		transfer(disk, BLKTAP_OP_WRITE, at, model + at, 512);
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

/* Returns its size. What is new reads as zeroes, and can be written. */
static uint64_t look(void)
{
	static unsigned char sector[512], got[512];
	struct blktap_disk *disk;
	uint64_t size, at;

	check();
	disk = open_disk(&size);
	ck_assert(size == SIZE || size == LARGE);
	transfer(disk, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert(!memcmp(data, model, SIZE));
	at = size == SIZE ? 0 : SIZE + next_random() % 1000 * 512;
	if (at) {
		transfer(disk, BLKTAP_OP_READ, at, got, 512);
		ck_assert_uint_eq(got[0] | got[511], 0);
	}
	memset(sector, 0x77, sizeof(sector));
	transfer(disk, BLKTAP_OP_WRITE, at, sector, sizeof(sector));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	check();
	disk = open_disk(&size);
	transfer(disk, BLKTAP_OP_READ, at, got, 512);
	ck_assert(!memcmp(got, sector, sizeof(got)));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	return size;
}

static void grow(void)
{
	struct blktap_error *err = NULL;
	int rc;

	before_size = load(before);
	record_reset();
	record_watch(0, path);
	rc = blktap_image_resize(spec, LARGE, &err);
	record_watch(0, NULL);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static const char *const variants[] = { "version=3", "version=2" };

START_TEST(table_that_moves_is_whole_wherever_a_cut_meets_it)
{
	uint64_t at, last, stride, small = 0, large = 0;
	int kind;

	create(variants[_i]);
	grow();
	check();
	ck_assert_uint_eq(leaks, 0);
	last = record.now;
	stride = getenv("BLKTAP_CUTS") ? 1 : last * 2 / EVENTS + 1;
	for (at = 0; at <= last; at += 1 + next_random() % stride)
		for (kind = 0; kind < RECORD_MODELS; kind++) {
			make_cut(at, (enum record_model)kind);
			*(look() == SIZE ? &small : &large) += 1;
		}
	make_cut(last, RECORD_ALL);
	ck_assert_uint_eq(look(), LARGE);
	ck_assert_uint_gt(small, 0);
	printf("%u cuts of %" PRIu64 " events, %" PRIu64 " large\n", cuts, last,
	       large);
	fflush(stdout);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-cuts");
	TCase *tc = tcase_create("cuts");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(
		tc, table_that_moves_is_whole_wherever_a_cut_meets_it, 0, 2);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
