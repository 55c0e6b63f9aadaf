/* SPDX-License-Identifier: BSD-3-Clause */
/* What keeps something about a disk in a store of its own, and the disk, which was
 * used without it meanwhile. */
#include "mason-run.h"

#include <sys/stat.h>
#include <time.h>

#include "vbd/private.h"

#define MIRROR                                                         \
	"d :: disk(\"x\") -> m :: mirror(region=64k); m[leg] => a :: " \
	"raw(%s/a.raw), b :: raw(%s/b.raw); m[log] -> l :: raw(%s/l.raw);"

static void fill(struct blktap_disk *disk, char byte, uint64_t offset)
{
	char data[4096];

	memset(data, byte, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, offset, data, 4096), 0);
}

static char first_byte(struct blktap_disk *disk, uint64_t offset)
{
	char data[4096];

	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, offset, data, 4096), 0);
	return data[0];
}

/* The time of a file has steps: the next write is of a later one. */
static void let_time_pass(const char *name)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_nsec = UTIME_OMIT } };
	struct stat st;

	ck_assert_int_eq(stat(in_dir(name), &st), 0);
	times[1] = st.st_mtim;
	times[1].tv_sec++;
	ck_assert_int_eq(utimensat(AT_FDCWD, in_dir(name), times, 0), 0);
}

/* As another program does, or another graph. */
static void write_alone(const char *name, char byte, off_t offset)
{
	int fd = open(in_dir(name), O_WRONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
	let_time_pass(name);
}

static char byte_of(const char *name, off_t offset)
{
	int fd = open(in_dir(name), O_RDONLY);
	char byte;

	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	close(fd);
	return byte;
}

static bool says(const struct blktap_disk *disk, const char *part)
{
	char *picture = NULL;
	bool found;

	ck_assert_int_eq(blktap_mason_dot_disk(disk, &picture, NULL), 0);
	found = strstr(picture, part) != NULL;
	free(picture);
	return found;
}

static void put_mirror(void)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put_image("l.raw", M);
	put("x.mason", MIRROR);
	disk = open_disk("x.mason", NULL);
	fill(disk, 1, 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

START_TEST(a_mirror_that_was_closed_copies_nothing)
{
	struct blktap_disk *disk;
	int i;

	put_mirror();
	for (i = 0; i < 3; i++) {
		disk = open_disk("x.mason", NULL);
		ck_assert(says(disk, "synced"));
		ck_assert_int_eq(first_byte(disk, 0), i + 1);
		if (i < 2)
			fill(disk, (char)(i + 2), 0);
		ck_assert_int_eq(blktap_disk_close(disk), 0);
	}
}
END_TEST

static char warned[512];

static void on_log(void *opaque, enum blktap_log_level level, const char *text)
{
	(void)opaque;
	if (level == BLKTAP_LOG_WARNING)
		snprintf(warned, sizeof(warned), "%s", text);
}

static void watch_log(void)
{
	*warned = '\0';
	blktap_context_set_log(context, BLKTAP_LOG_WARNING, on_log, NULL, NULL);
}

/* Either may have the data: the one that was written to, or the one whose mate was
 * replaced by an older file. So nothing is copied. */
START_TEST(a_leg_that_was_written_to_without_its_mirror_is_told_of)
{
	const char *legs[] = { "a.raw", "b.raw" };
	struct blktap_disk *disk;
	char text[64];

	put_mirror();
	watch_log();
	disk = open_disk("x.mason", NULL);
	ck_assert_str_eq(warned, "");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	write_alone(legs[_i], 7, 0);
	snprintf(text, sizeof(text), "the file of '%c' is not as the mirror",
		 legs[_i][0]);
	disk = open_disk("x.mason", NULL);
	ck_assert_ptr_nonnull(strstr(warned, text));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(byte_of(legs[_i], 0), 7);
	ck_assert_int_eq(byte_of(legs[!_i], 0), 1);
}
END_TEST

START_TEST(a_leg_that_was_replaced_is_copied_under_a_new_name)
{
	struct blktap_disk *disk;

	put_mirror();
	ck_assert_int_eq(unlink(in_dir("b.raw")), 0);
	put_image("b.raw", M);
	put("x.mason",
	    "d :: disk(\"x\") -> m :: mirror(region=64k); m[leg] => a :: "
	    "raw(%s/a.raw), new :: raw(%s/b.raw); m[log] -> l :: "
	    "raw(%s/l.raw);");
	disk = open_disk("x.mason", NULL);
	ck_assert(!says(disk, "synced"));
	ck_assert_int_eq(first_byte(disk, 0), 1);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(byte_of("a.raw", 0), 1);
}
END_TEST

/* After a crash the log has no stamps, and times tell nothing. */
START_TEST(a_crash_as_such_makes_no_leg_another_one)
{
	static char log[M];
	struct blktap_disk *disk;
	int fd;

	put_mirror();
	disk = open_disk("x.mason", NULL);
	fill(disk, 3, 0);
	fd = open(in_dir("l.raw"), O_RDWR);
	ck_assert_int_eq(pread(fd, log, M, 0), M);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(pwrite(fd, log, M, 0), M);
	close(fd);
	let_time_pass("b.raw");
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(first_byte(disk, 0), 3);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void apply(struct blktap_disk *disk, const char *story)
{
	struct blktap_error *err = NULL;
	char text[1024];
	int rc;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), story, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	rc = blktap_mason_apply(disk, "next", text, strlen(text), NULL, NULL,
				&err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

#define LEGS                                        \
	" a :: raw(%s/a.raw); b :: raw(%s/b.raw); " \
	"m[log] -> l :: raw(%s/l.raw);"

/* What is put above a leg, or renamed, while the mirror runs, or written so in the
 * file: the leg has all its data, and the disk starts. */
static const struct {
	const char *first, *next;
} legs[] = {
	{ "disk(\"x\") -> m :: mirror(region=64k); m[leg] => a, b;" LEGS,
	  "disk(\"x\") -> m :: mirror(region=64k);"
	  "m[leg] => (log(what=errors) -> a), (f :: retry(for=1s) -> "
	  "b);" LEGS },
	{ "disk(\"x\") -> m :: mirror(region=64k);"
	  "m[leg] => (log(what=errors) -> a), (f :: retry(for=1s) -> b);" LEGS,
	  "disk(\"x\") -> m :: mirror(region=64k); m[leg] => a, b;" LEGS },
	{ "disk(\"x\") -> m :: mirror(region=64k);"
	  "m[leg] => raw(%s/a.raw), raw(%s/b.raw); m[log] -> raw(%s/l.raw);",
	  "disk(\"x\") -> log(what=errors) -> m :: mirror(region=64k);"
	  "m[leg] => raw(%s/a.raw), raw(%s/b.raw); m[log] -> raw(%s/l.raw);" },
	{ "disk(\"x\") -> m :: mirror(region=64k); m[leg] => a, b;" LEGS,
	  "disk(\"x\") -> m :: mirror(region=64k); m[leg] => c, e;"
	  "c :: raw(%s/a.raw) was a; e :: raw(%s/b.raw) was b;"
	  "m[log] -> l :: raw(%s/l.raw);" },
};

START_TEST(a_leg_is_the_same_whatever_filters_stand_above_it)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put_image("l.raw", M);
	put("x.mason", legs[_i].first);
	disk = open_disk("x.mason", NULL);
	fill(disk, 1, 0);
	apply(disk, legs[_i].next);
	fill(disk, 2, 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", NULL);
	ck_assert(says(disk, "synced"));
	ck_assert_int_eq(first_byte(disk, 0), 2);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- bitmaps, caches ------------------------------------------------------- */

static bool is_dirty(const struct blktap_disk *disk, uint64_t offset)
{
	bool dirty;

	bt_vbd_get_dirty(disk, "mon", offset, 512, &dirty);
	return dirty;
}

START_TEST(a_disk_that_was_written_to_without_its_bitmap_has_all_changed)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("s.raw", 2 * M);
	put("x.mason", "d :: disk(\"x\") -> b :: bitmap(checkpoints=[\"mon\"]);"
		       "b[lower] -> raw(%s/a.raw); b[store] -> raw(%s/s.raw);");
	disk = open_disk("x.mason", NULL);
	fill(disk, 1, 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", NULL);
	ck_assert(is_dirty(disk, 0) && !is_dirty(disk, 512u << 10));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	write_alone("a.raw", 7, 512u << 10);
	disk = open_disk("x.mason", NULL);
	ck_assert(is_dirty(disk, 0) && is_dirty(disk, 512u << 10));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	/* nor is that forgotten */
	disk = open_disk("x.mason", NULL);
	ck_assert(is_dirty(disk, 512u << 10));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(an_origin_that_was_written_to_without_its_cache_is_read_anew)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("s.raw", 2 * M);
	put("x.mason",
	    "d :: disk(\"x\") -> c :: cache();"
	    "c[origin] -> raw(%s/a.raw); c[store] -> raw(%s/s.raw);");
	disk = open_disk("x.mason", NULL);
	fill(disk, 1, 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", NULL);
	ck_assert(!says(disk, "used=0"));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	write_alone("a.raw", 7, 0);
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(first_byte(disk, 0), 7);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- checksums --------------------------------------------------------------- */

static bool has_holes(const char *name)
{
	int fd = open(in_dir(name), O_RDONLY);
	off_t at = lseek(fd, 0, SEEK_DATA);

	close(fd);
	return at < 0;
}

START_TEST(a_table_that_is_a_hole_is_not_read)
{
	struct blktap_disk *disk;
	struct bt_node *store;

	put_image("a.raw", 256 * M);
	put_image("s.raw", 8 * M);
	put("x.mason", "d :: disk(\"x\") -> c :: checksum(); c[lower] -> "
		       "raw(%s/a.raw); c[store] -> s :: raw(%s/s.raw);");
	if (!has_holes("s.raw"))
		return;
	disk = open_disk("x.mason", NULL);
	store = bt_run_find(disk->front.run, "s");
	ck_assert_uint_le(store->stats.bytes[BLKTAP_OP_READ], 8192);
	fill(disk, 5, 200u * M);
	ck_assert_int_eq(first_byte(disk, 200u * M), 5);
	ck_assert_int_eq(first_byte(disk, 100u * M), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-away");
	TCase *tc = tcase_create("away");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_mirror_that_was_closed_copies_nothing);
	tcase_add_loop_test(
		tc, a_leg_that_was_written_to_without_its_mirror_is_told_of, 0,
		2);
	tcase_add_test(tc, a_leg_that_was_replaced_is_copied_under_a_new_name);
	tcase_add_test(tc, a_crash_as_such_makes_no_leg_another_one);
	tcase_add_loop_test(tc,
			    a_leg_is_the_same_whatever_filters_stand_above_it,
			    0, (int)(sizeof(legs) / sizeof(legs[0])));
	tcase_add_test(
		tc,
		a_disk_that_was_written_to_without_its_bitmap_has_all_changed);
	tcase_add_test(
		tc,
		an_origin_that_was_written_to_without_its_cache_is_read_anew);
	tcase_add_test(tc, a_table_that_is_a_hole_is_not_read);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
