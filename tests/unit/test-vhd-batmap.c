/* SPDX-License-Identifier: BSD-3-Clause */
/* The batmap: a bit of it says that all sectors of a block are here. It gets the
 * bits of blocks that become full, and never one that is not true, whatever cuts
 * its writing short. */
#include "unit.h"

#include <blktap/blktap.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record-calls.h"
#include "scratch.h"
#include "seed.h"

#define BLOCK 4096u
#define BLOCKS 16u
#define SIZE (BLOCKS * BLOCK)
#define FILE_MAX (1u << 20)
#define HEADER_AT 2048 /* of the map: footer, header, a sector of BAT */
#define LARGE (32u << 20) /* whose map has two sectors */

static struct blktap_context *context;
static char dir[64], path[96], child[96];
static unsigned char model[SIZE], data[SIZE], first[FILE_MAX], cut[FILE_MAX];
static uint64_t state;

static uint64_t next_random(void)
{
	return seed_next(&state);
}

static void setup(void)
{
	state = seed_take() | 1;
	scratch_make(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/a.vhd", dir);
	snprintf(child, sizeof(child), "%s/b.vhd", dir);
	context = scratch_context();
	memset(model, 0, sizeof(model));
	record_reset();
}

static void teardown(void)
{
	blktap_context_destroy(context);
	record_reset();
	scratch_remove(dir);
}

static void make(const char *name, const char *backing)
{
	struct blktap_image_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_image_options_init(&options);
	options.length = SIZE;
	options.cluster_size = BLOCK;
	options.backing = backing;
	options.backing_format = "vhd";
	options.extra = "round=sector";
	rc = blktap_image_create("vhd", name, &options, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static struct blktap_disk *open_disk(const char *name, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags | BLKTAP_OPEN_BUFFERED;
	snprintf(spec, sizeof(spec), "vhd:%s", name);
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

static void close_disk(struct blktap_disk *disk)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

static void transfer(struct blktap_disk *disk, enum blktap_op op,
		     uint64_t offset, void *buf, uint64_t length)
{
	scratch_transfer(context, disk, op, offset, buf, length);
}

/* Fills count sectors with something of their own. */
static void put(struct blktap_disk *disk, uint32_t sector, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count * 512; i++)
		model[sector * 512 + i] = (unsigned char)(next_random() | 1);
	transfer(disk, BLKTAP_OP_WRITE, sector * 512, model + sector * 512,
		 count * 512);
}

static void holds(const char *name)
{
	struct blktap_disk *disk = open_disk(name, BLKTAP_OPEN_READ_ONLY);

	memset(data, 0xee, SIZE);
	transfer(disk, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert(!memcmp(data, model, SIZE));
	close_disk(disk);
}

/* Every bit there is is true. */
static void is_true(const char *name)
{
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_check(name, BLKTAP_VHD_CHECK_BITMAPS, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

/* The bits of the first 16 blocks; -1 where the map does not check. */
static int bits_of(const char *name)
{
	struct blktap_vhd *vhd;
	unsigned char *map;
	size_t size;
	void *bytes;
	int bits = -1;

	ck_assert_int_eq(blktap_vhd_open(name, 0, &vhd, NULL), 0);
	if (!blktap_vhd_get_map(vhd, true, &bytes, &size, NULL)) {
		map = bytes;
		ck_assert_uint_ge(size, 2);
		bits = map[0] << 8 | map[1];
		free(bytes);
	}
	blktap_vhd_close(vhd);
	return bits;
}

/* Blocks 1, 4 and 9 are full; 2 is not. */
static struct blktap_disk *write_some(void)
{
	struct blktap_disk *disk;

	make(path, NULL);
	disk = open_disk(path, 0);
	put(disk, 8, 8); /* at once */
	put(disk, 4 * 8, 3); /* in pieces, out of order */
	put(disk, 4 * 8 + 5, 3);
	put(disk, 2 * 8 + 1, 7);
	put(disk, 4 * 8 + 2, 4);
	put(disk, 8 * 8 + 7, 9); /* and with a neighbour */
	transfer(disk, BLKTAP_OP_FLUSH, 0, NULL, 0);
	return disk;
}

#define SOME (1 << 14 | 1 << 11 | 1 << 6)

START_TEST(block_that_becomes_full_has_its_bit)
{
	close_disk(write_some());
	ck_assert_int_eq(bits_of(path), SOME);
	is_true(path);
	holds(path);
}
END_TEST

START_TEST(discarded_block_keeps_its_bit_and_reads_as_zeroes)
{
	struct blktap_disk *disk;

	close_disk(write_some());
	disk = open_disk(path, 0);
	transfer(disk, BLKTAP_OP_DISCARD, BLOCK, NULL, BLOCK);
	transfer(disk, BLKTAP_OP_WRITE_ZEROES, 4 * BLOCK + 1024, NULL, 1024);
	memset(model + BLOCK, 0, BLOCK);
	memset(model + 4 * BLOCK + 1024, 0, 1024);
	/* one that became full in this session loses it */
	put(disk, 2 * 8, 1);
	transfer(disk, BLKTAP_OP_DISCARD, 2 * BLOCK, NULL, BLOCK);
	memset(model + 2 * BLOCK, 0, BLOCK);
	memset(data, 0xee, SIZE);
	transfer(disk, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert(!memcmp(data, model, SIZE));
	close_disk(disk);
	ck_assert_int_eq(bits_of(path), SOME);
	is_true(path);
	holds(path);
}
END_TEST

START_TEST(coalesced_block_that_is_full_has_its_bit_in_the_parent)
{
	struct blktap_vhd_coalesce_options options = {
		.struct_size = sizeof(options),
	};
	struct blktap_vhd *vhd;
	struct blktap_disk *disk;
	uint64_t sectors;

	close_disk(write_some());
	make(child, "a.vhd");
	disk = open_disk(child, 0);
	put(disk, 2 * 8, 1); /* what block 2 lacks */
	put(disk, 12 * 8, 8);
	close_disk(disk);
	ck_assert_int_eq(blktap_vhd_open(child, 0, &vhd, NULL), 0);
	ck_assert_int_eq(blktap_vhd_coalesce(vhd, &options, &sectors, NULL), 0);
	blktap_vhd_close(vhd);
	ck_assert_int_eq(bits_of(path), SOME | 1 << 13 | 1 << 3);
	is_true(path);
	holds(path);
}
END_TEST

static void load_first(uint64_t *size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, first, sizeof(first));

	ck_assert_int_gt(n, 0);
	*size = (uint64_t)n;
	close(fd);
}

static void store_cut(uint64_t at, enum record_model kind, uint64_t size)
{
	int fd;

	memcpy(cut, first, size);
	size = record_cut_file(0, at, kind, next_random, cut, size, FILE_MAX);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	ck_assert_int_eq(write(fd, cut, size), (ssize_t)size);
	close(fd);
}

START_TEST(cut_at_closing_leaves_bits_that_are_true)
{
	struct blktap_disk *disk = write_some();
	uint32_t cuts = 0, old = 0, none = 0;
	uint64_t size, at;
	int kind, bits;

	load_first(&size);
	record_watch(0, path);
	close_disk(disk);
	record_watch(0, NULL);
	ck_assert_uint_gt(record.count, 1);
	for (at = 0; at <= record.now; at++)
		for (kind = 0; kind < RECORD_MODELS; kind++, cuts++) {
			store_cut(at, (enum record_model)kind, size);
			bits = bits_of(path);
			ck_assert(bits == -1 || bits == 0 || bits == SOME);
			old += bits == 0;
			none += bits == -1;
			is_true(path);
			holds(path);
			/* a writer makes it whole again */
			disk = open_disk(path, 0);
			transfer(disk, BLKTAP_OP_READ, 0, data, SIZE);
			close_disk(disk);
			ck_assert_int_eq(bits_of(path), SOME);
			is_true(path);
		}
	printf("%u cuts: %u left the old map, %u none\n", cuts, old, none);
	ck_assert_uint_gt(old, 0);
	ck_assert_uint_gt(none, 0);
}
END_TEST

/* A map that is to be begun anew, and has to grow with the table before it is. */
START_TEST(damaged_map_is_begun_anew_at_the_size_of_a_larger_table)
{
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	char spec[128];
	size_t size, i;
	void *map;
	int fd, rc;

	close_disk(write_some());
	fd = open(path, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "bad", 3, HEADER_AT + 24), 3);
	close(fd);
	ck_assert_int_eq(bits_of(path), -1);
	snprintf(spec, sizeof(spec), "vhd:%s", path);
	rc = blktap_image_resize(spec, LARGE, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_int_eq(blktap_vhd_open(path, 0, &vhd, NULL), 0);
	ck_assert_int_eq(blktap_vhd_get_map(vhd, true, &map, &size, NULL), 0);
	ck_assert_uint_eq(size, LARGE / BLOCK / 8);
	for (i = 0; i < size; i++)
		ck_assert_uint_eq(((unsigned char *)map)[i], 0);
	free(map);
	blktap_vhd_close(vhd);
	is_true(path);
	holds(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhd-batmap");
	TCase *tc = tcase_create("batmap");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc,
		       damaged_map_is_begun_anew_at_the_size_of_a_larger_table);
	tcase_add_test(tc, block_that_becomes_full_has_its_bit);
	tcase_add_test(tc, discarded_block_keeps_its_bit_and_reads_as_zeroes);
	tcase_add_test(tc,
		       coalesced_block_that_is_full_has_its_bit_in_the_parent);
	tcase_add_test(tc, cut_at_closing_leaves_bits_that_are_true);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
