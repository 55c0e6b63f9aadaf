/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts under the tools: what a verb writes is recorded, and at every moment
 * the files are made as a cut would have left them. The image has to open for
 * reading and writing, without a repair, with what was in it; and where a journal
 * is left, it has to undo the whole. BLKTAP_SEED repeats a run, BLKTAP_CUTS=all
 * looks at every event. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/journal.h"
#include "record-calls.h"
#include "scratch.h"
#include "seed.h"

#define BLOCK 4096u
#define SIZE (16u * BLOCK)
#define LARGE (200u * BLOCK) /* more than the padding of the table holds */
#define SMALL (5u * BLOCK)
#define FILE_MAX (5u << 18)
#define EVENTS 12 /* that are looked at in a run */

enum { IMAGE, JOURNAL, FILES };

struct content {
	unsigned char bytes[FILE_MAX];
	uint64_t size;
	bool is_there;
};

static struct content before[FILES], cut[FILES];
static unsigned char model[SIZE], data[LARGE];
static struct blktap_context *context;
static char dir[64], paths[FILES][96];
static uint64_t state;
static uint32_t cuts;

static uint64_t next_random(void)
{
	return seed_next(&state);
}

static const char *in_dir(const char *name)
{
	static char path[4][96];
	static unsigned int next;
	char *out = path[next++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", dir, name);
	return out;
}

static void setup(void)
{
	state = seed_take() | 1;
	scratch_make(dir, sizeof(dir));
	snprintf(paths[IMAGE], sizeof(paths[0]), "%s/a.vhd", dir);
	snprintf(paths[JOURNAL], sizeof(paths[0]), "%s/journal", dir);
	context = scratch_context();
	record_reset();
	cuts = 0;
}

static void teardown(void)
{
	blktap_context_destroy(context);
	record_reset();
	scratch_remove(dir);
}

/* ---- files ---------------------------------------------------------------- */

static void load(int i, struct content *c)
{
	int fd = open(paths[i], O_RDONLY);

	memset(c, 0, sizeof(*c));
	c->is_there = fd >= 0;
	if (fd < 0)
		return;
	c->size = (uint64_t)read(fd, c->bytes, FILE_MAX);
	close(fd);
}

static void store(int i, const struct content *c)
{
	int fd;

	unlink(paths[i]);
	if (!c->is_there)
		return;
	fd = open(paths[i], O_CREAT | O_WRONLY, 0600);
	ck_assert_int_eq(write(fd, c->bytes, c->size), (ssize_t)c->size);
	close(fd);
}

static void begin(void)
{
	int i;

	record_reset();
	for (i = 0; i < FILES; i++) {
		load(i, &before[i]);
		record_watch((uint32_t)i, paths[i]);
	}
}

static void end(void)
{
	int i;

	for (i = 0; i < FILES; i++)
		record_watch((uint32_t)i, NULL);
}

/* Both files as a cut right after event at leaves them. A journal that was made
 * may not be in its directory yet. */
static void make_cut(uint64_t at, enum record_model kind)
{
	uint32_t i;
	int f;

	for (f = 0; f < FILES; f++) {
		bool touched = false;

		memcpy(&cut[f], &before[f], sizeof(cut[f]));
		for (i = 0; i < record.count; i++)
			touched |= record.ops[i].file == (uint32_t)f &&
				   record.ops[i].submitted <= at;
		cut[f].size =
			record_cut_file((uint32_t)f, at, kind, next_random,
					cut[f].bytes, cut[f].size, FILE_MAX);
		cut[f].is_there |= touched;
		store(f, &cut[f]);
	}
	cuts++;
}

/* ---- disks ---------------------------------------------------------------- */

static void transfer(struct blktap_disk *disk, enum blktap_op op,
		     uint64_t offset, void *buf, uint64_t length)
{
	scratch_transfer(context, disk, op, offset, buf, length);
}

static struct blktap_disk *open_disk(const char *path, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags | BLKTAP_OPEN_BUFFERED;
	snprintf(spec, sizeof(spec), "vhd:%s", path);
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

/* Reads the disk at path into data; returns its size. */
static uint64_t read_all(const char *path)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_disk *disk = open_disk(path, BLKTAP_OPEN_READ_ONLY);

	blktap_disk_get_info(disk, &info);
	ck_assert_uint_le(info.length, sizeof(data));
	memset(data, 0xee, sizeof(data));
	transfer(disk, BLKTAP_OP_READ, 0, data, info.length);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	return info.length;
}

static void check(const char *path)
{
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_check(
		path, BLKTAP_VHD_CHECK_NO_FOOTER | BLKTAP_VHD_CHECK_BITMAPS,
		&err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

/* Work goes on: a new block, which shows nothing of what was lost. */
static void write_on(const char *path)
{
	struct blktap_disk *disk = open_disk(path, 0);
	unsigned char sector[512], *all = data;
	uint64_t size;

	memset(sector, 0x77, sizeof(sector));
	transfer(disk, BLKTAP_OP_WRITE, 2 * BLOCK, sector, sizeof(sector));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	check(path);
	size = read_all(path);
	ck_assert_uint_ge(size, 3 * BLOCK);
	ck_assert(!memcmp(all + 2 * BLOCK, sector, sizeof(sector)));
}

static void create(const char *path, const char *backing, const char *extra)
{
	struct blktap_image_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_image_options_init(&options);
	options.length = SIZE;
	options.cluster_size = extra && strstr(extra, "fixed") ? 0 : BLOCK;
	options.backing = backing;
	options.backing_format = "vhd";
	options.extra = extra;
	rc = blktap_image_create("vhd", path, &options, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

/* Some of the sectors, each of another byte; model follows. Block 2 is left
 * alone. */
static void scribble(const char *path, bool keep)
{
	struct blktap_disk *disk = open_disk(path, 0);
	uint32_t i;

	if (!keep)
		memset(model, 0, sizeof(model));
	for (i = 0; i < SIZE / 512; i++) {
		if (next_random() % 2 || i / 8 == 2)
			continue;
		memset(model + i * 512, (int)(next_random() % 255) + 1, 512);
		transfer(disk, BLKTAP_OP_WRITE, i * 512, model + i * 512, 512);
	}
	transfer(disk, BLKTAP_OP_FLUSH, 0, NULL, 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

static void each_cut(void (*look)(void))
{
	uint64_t at, last = record.now;
	uint64_t stride = getenv("BLKTAP_CUTS") ? 1 : last * 2 / EVENTS + 1;
	int kind;

	for (at = 0; at <= last; at += 1 + next_random() % stride)
		for (kind = 0; kind < RECORD_MODELS; kind++) {
			make_cut(at, (enum record_model)kind);
			look();
		}
	printf("%u cuts of %" PRIu64 " events\n", cuts, last);
	fflush(stdout);
}

static struct blktap_vhd *open_vhd(const char *path, uint32_t flags)
{
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	int rc = blktap_vhd_open(path, flags, &vhd, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	return vhd;
}

/* ---- coalesce ------------------------------------------------------------- */

static void look_at_chain(void)
{
	ck_assert_uint_eq(read_all(in_dir("child.vhd")), SIZE);
	ck_assert(!memcmp(data, model, SIZE));
	check(paths[IMAGE]);
	write_on(paths[IMAGE]);
}

static void coalesce(int (*progress)(void *opaque, uint64_t done,
				     uint64_t total),
		     int want)
{
	struct blktap_vhd_coalesce_options options = {
		.struct_size = sizeof(options),
		.progress = progress,
	};
	struct blktap_vhd *vhd = open_vhd(in_dir("child.vhd"), 0);
	uint64_t sectors;

	ck_assert_int_eq(blktap_vhd_coalesce(vhd, &options, &sectors, NULL),
			 want);
	blktap_vhd_close(vhd);
}

static int end_halfway(void *opaque, uint64_t n, uint64_t total)
{
	return n >= total / 2;
}

START_TEST(a_cut_of_a_coalesce_leaves_the_chain_as_it_reads)
{
	create(paths[IMAGE], NULL, "round=sector");
	scribble(paths[IMAGE], false);
	create(in_dir("child.vhd"), "a.vhd", NULL);
	scribble(in_dir("child.vhd"), true);
	begin();
	coalesce(_i ? end_halfway : NULL, _i ? -ECANCELED : 0);
	end();
	each_cut(look_at_chain);
	/* and the end of it is what the chain was */
	make_cut(record.now, RECORD_ALL);
	coalesce(NULL, 0);
	read_all(paths[IMAGE]);
	ck_assert(!memcmp(data, model, SIZE));
}
END_TEST

/* ---- another parent ------------------------------------------------------- */

static bool names_new;

static void look_at_parent(void)
{
	char *parent;

	ck_assert_int_eq(
		blktap_vhd_get_parent(paths[IMAGE], false, &parent, NULL), 0);
	names_new |= !strcmp(strrchr(parent, '/'), "/two.vhd");
	ck_assert(names_new || !strcmp(strrchr(parent, '/'), "/one.vhd"));
	free(parent);
	ck_assert_uint_eq(read_all(paths[IMAGE]), SIZE);
	ck_assert(!memcmp(data, model, SIZE));
	check(paths[IMAGE]);
	write_on(paths[IMAGE]);
}

START_TEST(a_cut_of_a_new_parent_leaves_the_one_or_the_other)
{
	struct blktap_vhd *vhd;
	char command[256];

	create(in_dir("one.vhd"), NULL, "round=sector");
	scribble(in_dir("one.vhd"), false);
	create(paths[IMAGE], "one.vhd", NULL);
	scribble(paths[IMAGE], true);
	snprintf(command, sizeof(command), "cp %s %s", in_dir("one.vhd"),
		 in_dir("two.vhd"));
	ck_assert_int_eq(system(command), 0);
	begin();
	vhd = open_vhd(paths[IMAGE], BLKTAP_VHD_WRITE);
	ck_assert_int_eq(
		blktap_vhd_set_parent(vhd, in_dir("two.vhd"), false, NULL), 0);
	blktap_vhd_close(vhd);
	end();
	names_new = false;
	each_cut(look_at_parent);
	make_cut(record.now, RECORD_NOTHING);
	look_at_parent();
	ck_assert(names_new);
}
END_TEST

/* ---- resize --------------------------------------------------------------- */

static uint64_t old_size, new_size;
static bool revertible;

/* Is the journal one that revert reads: its header is written last. */
static bool has_journal(void)
{
	struct bt_vhd_journal j;

	return cut[JOURNAL].is_there &&
	       !bt_vhd_journal_decode(cut[JOURNAL].bytes, cut[JOURNAL].size, &j,
				      NULL) &&
	       j.metadata_entries;
}

static void check_data(uint64_t size)
{
	uint64_t kept = size < old_size ? size : old_size, i;
	unsigned char sum = 0;

	/* what a shrink cuts off may be gone */
	if (new_size < kept)
		kept = new_size;
	ck_assert(!memcmp(data, model, kept));
	/* nothing foreign appears, and no footer */
	for (i = old_size; i < size; i++)
		sum |= data[i];
	ck_assert_uint_eq(sum, 0);
}

static void look_at_size(void)
{
	uint64_t size = read_all(paths[IMAGE]);
	struct blktap_error *err = NULL;
	int rc;

	ck_assert(size == old_size || size == new_size);
	check_data(size);
	check(paths[IMAGE]);
	if (!revertible || !has_journal()) {
		write_on(paths[IMAGE]);
		return;
	}
	rc = blktap_vhd_revert(paths[IMAGE], paths[JOURNAL], &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_int_lt(access(paths[JOURNAL], F_OK), 0);
	ck_assert_uint_eq(read_all(paths[IMAGE]), old_size);
	ck_assert(!memcmp(data, model, old_size));
	write_on(paths[IMAGE]);
}

struct resize {
	const char *extra;
	uint64_t size;
	bool journal;
};

static const struct resize resizes[] = {
	{ "round=sector", LARGE, false },
	{ "round=sector", LARGE, true },
	{ "round=sector", SMALL, false },
	{ "round=sector", SMALL, true },
	{ "round=sector,max_size=800k", LARGE, true },
	{ "type=fixed,round=sector", LARGE, true },
	{ "type=fixed,round=sector", SMALL, true },
};

static void prepare(const struct resize *r)
{
	create(paths[IMAGE], NULL, r->extra);
	scribble(paths[IMAGE], false);
	old_size = SIZE;
	new_size = r->size;
}

static void resize(const struct resize *r)
{
	struct blktap_vhd *vhd = open_vhd(paths[IMAGE], BLKTAP_VHD_WRITE);
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_resize(vhd, r->size,
				   r->journal ? paths[JOURNAL] : NULL, 0, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	blktap_vhd_close(vhd);
}

START_TEST(a_cut_of_a_resize_leaves_the_one_size_or_the_other)
{
	const struct resize *r = &resizes[_i];

	prepare(r);
	begin();
	resize(r);
	end();
	ck_assert_uint_eq(read_all(paths[IMAGE]), r->size);
	check_data(r->size);
	revertible = false;
	each_cut(look_at_size);
	/* the undoing needs the file whole: not after it was cut off */
	revertible = r->journal;
	each_cut(look_at_size);
}
END_TEST

/* A revert that is cut is done again. */
static void look_at_revert(void)
{
	struct blktap_error *err = NULL;
	int rc;

	if (has_journal()) {
		rc = blktap_vhd_revert(paths[IMAGE], paths[JOURNAL], &err);
		ck_assert_msg(!rc, "%s",
			      err ? blktap_error_get_message(err) : "");
	}
	ck_assert_uint_eq(read_all(paths[IMAGE]), old_size);
	ck_assert(!memcmp(data, model, old_size));
	write_on(paths[IMAGE]);
}

START_TEST(a_cut_of_a_revert_is_done_again)
{
	const struct resize *r = &resizes[_i ? 3 : 1];
	uint64_t at;

	prepare(r);
	begin();
	resize(r);
	end();
	/* halfway, with the journal in its place */
	for (at = record.now * 2 / 3; at < record.now; at++) {
		make_cut(at, RECORD_ALL);
		if (has_journal())
			break;
	}
	begin();
	ck_assert_int_eq(blktap_vhd_revert(paths[IMAGE], paths[JOURNAL], NULL),
			 0);
	end();
	each_cut(look_at_revert);
}
END_TEST

/* ---- all data, the file's length ------------------------------------------ */

static void look_at_any(void)
{
	ck_assert_uint_eq(read_all(paths[IMAGE]), SIZE);
	check(paths[IMAGE]);
	write_on(paths[IMAGE]);
}

START_TEST(a_cut_of_other_changes_leaves_an_image_that_opens)
{
	struct blktap_vhd *vhd;
	int rc;

	create(paths[IMAGE], NULL, "round=sector");
	scribble(paths[IMAGE], false);
	begin();
	vhd = open_vhd(paths[IMAGE], BLKTAP_VHD_WRITE);
	if (_i == 0)
		rc = blktap_vhd_drop_data(vhd, NULL);
	else if (_i == 1)
		rc = blktap_vhd_set_file_size(vhd, 600u << 10, NULL);
	else
		rc = blktap_vhd_allocate(vhd, 0, 15, NULL, NULL, NULL);
	ck_assert_int_eq(rc, 0);
	blktap_vhd_close(vhd);
	end();
	each_cut(look_at_any);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhd-cuts");
	TCase *tc = tcase_create("cuts");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(
		tc, a_cut_of_a_coalesce_leaves_the_chain_as_it_reads, 0, 2);
	tcase_add_test(tc, a_cut_of_a_new_parent_leaves_the_one_or_the_other);
	tcase_add_loop_test(tc,
			    a_cut_of_a_resize_leaves_the_one_size_or_the_other,
			    0, (int)(sizeof(resizes) / sizeof(*resizes)));
	tcase_add_loop_test(tc, a_cut_of_a_revert_is_done_again, 0, 2);
	tcase_add_loop_test(
		tc, a_cut_of_other_changes_leaves_an_image_that_opens, 0, 3);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
