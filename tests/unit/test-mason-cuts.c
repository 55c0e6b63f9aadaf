/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts of changes of a graph, together with the data of its disk: one record
 * holds what reaches the leaves, the files of the generations, and the names of these.
 * At every event of a change, and at some between, all of it is made as a cut would
 * have left it. The disk starts on the generation before the change or on the one
 * behind it, on none older than what was said to be made, and has all that was
 * flushed; and then goes on to the last generation of its story, with the same data.
 * BLKTAP_SEED repeats a run, BLKTAP_CUTS=all looks at every event. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "record-names.h"
#include "scratch.h"
#include "seed.h"
#include "util/checked.h"
#include "vbd/vbd.h"
#include "versions.h"

#define SIZE (512u * VERSIONS_SECTORS)
#define LEAVES 3u
#define LEAF_MAX (4u << 20)
#define STEPS 6u
#define CUTS 12u /* beside those of the changes */
#define REQUESTS 40u /* between two changes */
#define TRIES 500u
/* The last events of a change are those that matter most. */
#define LAST 10u

struct story {
	const char *name;
	uint64_t size[LEAVES]; /* of a, b and c */
	const char *texts[STEPS]; /* what runs, one after the other */
};

/* When a change began, and when its end was told. */
struct change {
	uint64_t began, ended;
};

static struct blktap_context *context; /* the recorded one */
static struct blktap_context *checker;
static char dir[64];
static uint64_t state;
static ino_t inode[LEAVES];
static unsigned char data[SIZE], image[LEAF_MAX];
static struct change changes[STEPS];

static uint64_t next_random(void)
{
	return seed_next(&state);
}

/* ---- files ---------------------------------------------------------------- */

static const char *path_of(const char *name)
{
	static char paths[4][96];
	static uint32_t next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static const char *leaf_path(uint32_t n)
{
	const char name[] = { (char)('a' + n), '\0' };

	return path_of(name);
}

static uint32_t leaf_of(int fd)
{
	struct stat st;
	uint32_t n;

	ck_assert_int_eq(fstat(fd, &st), 0);
	for (n = 0; n < LEAVES && inode[n] != st.st_ino; n++)
		;
	return n;
}

static void make_leaves(const struct story *story)
{
	struct stat st;
	uint32_t n;
	int fd;

	for (n = 0; n < LEAVES; n++) {
		fd = open(leaf_path(n), O_CREAT | O_RDWR, 0600);
		ck_assert_int_eq(ftruncate(fd, (off_t)story->size[n]), 0);
		ck_assert_int_eq(fstat(fd, &st), 0);
		inode[n] = st.st_ino;
		close(fd);
	}
	for (n = 0; n < VERSIONS_SECTORS; n++)
		versions_add(n, &(struct version){ .tag = 0 });
}

/* The text with paths for names: raw(a) is raw("DIR/a"). */
static const char *text_of(const char *story)
{
	static char text[1024];
	char *to = text;

	for (; *story; story++) {
		to += sprintf(to, "%c", *story);
		if (*story == '<')
			to += sprintf(to - 1, "\"%s/", dir) - 1;
		if (*story == '>' && story[-1] != '-' && story[-1] != '=')
			to += sprintf(to - 1, "\"") - 1;
	}
	return text;
}

static void put_first(const struct story *story)
{
	FILE *f = fopen(path_of("x.mason"), "w");

	ck_assert_ptr_nonnull(f);
	fprintf(f, "%s", text_of(story->texts[0]));
	fclose(f);
}

/* ---- a disk --------------------------------------------------------------- */

static void setup(void)
{
	state = seed_take() | 1;
	record_reset();
	names_reset();
	versions_reset();
	client_reset(next_random);
	memset(changes, 0, sizeof(changes));
	scratch_make(dir, sizeof(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &record_backend,
					      &context),
			 0);
	checker = scratch_context();
}

static void teardown(void)
{
	blktap_context_destroy(context);
	blktap_context_destroy(checker);
	names_reset();
	record_reset();
	scratch_remove(dir);
}

static struct blktap_disk *open_disk(struct blktap_context *in,
				     const char *when)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk = NULL;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	snprintf(spec, sizeof(spec), "mason:%s", path_of("x.mason"));
	rc = blktap_disk_open(in, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s: %s", when,
		      err ? blktap_error_get_message(err) : "");
	return disk;
}

static void read_done(void *opaque, int error)
{
	*(int *)opaque = error ? error : 1;
}

static void read_all(struct blktap_disk *disk, const char *when)
{
	struct iovec iov = { .iov_base = data, .iov_len = SIZE };
	int result = 0;
	struct blktap_io io = { .size = sizeof(io),
				.op = BLKTAP_OP_READ,
				.length = SIZE,
				.iov = &iov,
				.iov_count = 1,
				.callback = read_done,
				.opaque = &result };

	memset(data, 0xee, SIZE);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	while (!result)
		ck_assert_int_eq(blktap_context_run(checker, -1), 0);
	ck_assert_msg(result == 1, "%s: read: %d", when, result);
}

/* An assert of the next text says when it is its time. */
static void change(struct blktap_context *in, struct blktap_disk *disk,
		   const char *story, const char *when)
{
	const char *text = text_of(story);
	struct blktap_error *err = NULL;
	uint32_t i, tries = 0;
	int rc;

	for (;;) {
		rc = blktap_mason_apply(disk, "next", text, strlen(text), NULL,
					NULL, &err);
		if (rc != -EAGAIN || ++tries == TRIES)
			break;
		blktap_error_destroy(err);
		err = NULL;
		for (i = 0; i < 20; i++)
			ck_assert_int_eq(in == checker
						 ? blktap_context_run(in, 1)
						 : blktap_context_process(in),
					 0);
	}
	ck_assert_msg(!rc, "%s: %s", when,
		      err ? blktap_error_get_message(err) : "");
}

/* The same change, given up right before its end: what it has begun in the leaves is
 * there when it is made at last, and the disk has gone on meanwhile. */
static void give_up(struct blktap_disk *disk, const char *story)
{
	char text[1280];

	snprintf(text, sizeof(text), "%s assert run.a.size == 1;",
		 text_of(story));
	ck_assert_int_eq(blktap_mason_apply(disk, "next", text, strlen(text),
					    NULL, NULL, NULL),
			 -EAGAIN);
}

/* ---- the record ----------------------------------------------------------- */

static void turn(void)
{
	client_submit();
	ck_assert_int_eq(blktap_context_process(context), 0);
}

static void work(uint32_t requests)
{
	client.most = client.requests + requests;
	while (client.requests < client.most || !client_is_idle())
		turn();
}

static void tell(const struct story *story)
{
	uint32_t i;

	record_file = leaf_of;
	names_watch(dir, ".state");
	client.disk = open_disk(context, story->name);
	work(REQUESTS);
	for (i = 1; i < STEPS && story->texts[i]; i++) {
		client.goes_on = true;
		client.most = client.requests + REQUESTS;
		client_submit();
		give_up(client.disk, story->texts[i]);
		client.most = client.requests + REQUESTS / 2;
		client_submit();
		while (client.requests < client.most)
			turn();
		client.most = client.requests + REQUESTS;
		client_submit();
		changes[i].began = record_tick();
		change(context, client.disk, story->texts[i], story->name);
		changes[i].ended = record_tick();
		client.goes_on = false;
		work(REQUESTS / 2);
	}
	ck_assert_int_eq(blktap_disk_close(client.disk), 0);
	names_watch(NULL, NULL);
}

/* ---- the cut -------------------------------------------------------------- */

static void put_leaf(uint32_t n, uint64_t size, uint64_t at,
		     enum record_model model)
{
	int fd = open(leaf_path(n), O_TRUNC | O_WRONLY);

	memset(image, 0, size);
	size = record_cut_file(n, at, model, next_random, image, size,
			       LEAF_MAX);
	ck_assert_int_eq(pwrite(fd, image, size, 0), (ssize_t)size);
	close(fd);
}

static void check_data(struct blktap_disk *disk, uint64_t at, const char *when)
{
	uint32_t sector;

	read_all(disk, when);
	for (sector = 0; sector < VERSIONS_SECTORS; sector++) {
		if (versions_allow(sector, at, data + sector * 512))
			continue;
		versions_print(sector, at);
		ck_abort_msg("%s: sector %u: other bytes", when, sector);
	}
}

/* Counts the cuts that found the older and the newer generation of two. */
static uint32_t found[2];

static uint64_t check_generation(struct blktap_disk *disk, uint64_t at,
				 const char *when)
{
	uint64_t is = blktap_mason_get_generation(disk), least = 1, most = 1;
	uint32_t i;

	for (i = 1; i < STEPS && changes[i].began; i++) {
		least += changes[i].ended <= at;
		most += changes[i].began <= at;
	}
	ck_assert_msg(is >= least && is <= most,
		      "%s: generation %" PRIu64 ", not %" PRIu64 " to %" PRIu64,
		      when, is, least, most);
	if (least != most)
		found[is == most]++;
	return is;
}

static void check_cut(const struct story *story, uint64_t at,
		      enum record_model model)
{
	struct blktap_disk *disk;
	uint64_t generation;
	char when[96];
	uint32_t n;

	snprintf(when, sizeof(when),
		 "%s: event %" PRIu64 " of %" PRIu64 ", model %d", story->name,
		 at, record.now, (int)model);
	for (n = 0; n < LEAVES; n++)
		put_leaf(n, story->size[n], at, model);
	names_cut(dir, at, model, next_random);
	disk = open_disk(checker, when);
	generation = check_generation(disk, at, when);
	check_data(disk, at, when);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk(checker, when);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), generation);
	check_data(disk, at, when);
	for (; generation < STEPS && story->texts[generation]; generation++) {
		change(checker, disk, story->texts[generation], when);
		check_data(disk, at, when);
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

/* How many events of a change are behind it; 0: it is in none. */
static uint64_t left_of_change(uint64_t at)
{
	uint32_t i;

	for (i = 1; i < STEPS && changes[i].began; i++)
		if (at >= changes[i].began && at <= changes[i].ended)
			return changes[i].ended - at + 1;
	return 0;
}

static uint64_t step_from(uint64_t at)
{
	bool all = getenv("BLKTAP_CUTS") != NULL;
	uint64_t stride = all ? 1 : record.now / seed_rounds(CUTS) + 1;
	uint64_t left = left_of_change(at), n;

	if (all || (left && left <= LAST))
		return 1;
	if (left > LAST)
		return bt_min_u64(1 + next_random() % (192 / seed_rounds(CUTS)),
				  left - LAST);
	for (n = 1; n < stride && !left_of_change(at + n); n++)
		;
	return n;
}

static void whole(const struct story *story)
{
	uint32_t model, cuts = 0;
	uint64_t at;

	found[0] = found[1] = 0;
	make_leaves(story);
	put_first(story);
	tell(story);
	for (at = 0; at <= record.now; at += step_from(at)) {
		for (model = 0; model < RECORD_MODELS; model++)
			check_cut(story, at, (enum record_model)model);
		cuts += RECORD_MODELS;
	}
	printf("%u cuts of %" PRIu64
	       " events: %s, %u requests; in changes, %u found the older "
	       "graph and %u the newer\n",
	       cuts, record.now, story->name, client.requests, found[0],
	       found[1]);
	fflush(stdout);
	ck_assert_uint_gt(found[0], 0);
	ck_assert_uint_gt(found[1], 0);
}

/* <a> stands for the path of the leaf. */
#define D "d :: disk(\"d\") -> "
#define A D "a :: raw(<a>);"
#define B D "b :: raw(<b>);"

static const struct story stories[] = {
	{ "cow",
	  { SIZE, 3 << 20, 0 },
	  { A, D "n :: cow(grain=512); n[base] -> a :: raw(<a>); "
		 "n[top] -> raw(<b>);" } },
	{ "cow with larger blocks",
	  { SIZE, 3 << 20, 0 },
	  { A, D "n :: cow(grain=16k); n[base] -> a :: raw(<a>); "
		 "n[top] -> raw(<b>);" } },
	{ "cache",
	  { SIZE, 4 << 20, 0 },
	  { A,
	    D
	    "n :: cache(mode=writeback, size=1M); n[origin] -> a :: raw(<a>); "
	    "n[store] -> raw(<b>);",
	    A } },
	{ "mirror",
	  { SIZE, SIZE, 2 << 20 },
	  { A,
	    D "m :: mirror(sync=background, source=0, region=64k) "
	      "=> a :: raw(<a>), b :: raw(<b>); m[log] -> raw(<c>);",
	    "assert run.m.state == synced && run.m.dirty == 0;" B } },
	{ "mirror without a log",
	  { SIZE, SIZE, 0 },
	  { A,
	    D "m :: mirror(sync=background, source=0, region=64k) "
	      "=> a :: raw(<a>), b :: raw(<b>);",
	    "assert run.m.state == synced && run.m.dirty == 0;" B } },
	{ "copy",
	  { SIZE, SIZE, 2 << 20 },
	  { A,
	    D "n :: copy(region=64k); n[from] -> a :: raw(<a>); "
	      "n[to] -> b :: raw(<b>); n[log] -> raw(<c>);",
	    "assert run.n.state == done;" B } },
	{ "snap",
	  { SIZE, 4 << 20, 0 },
	  { A,
	    "disk(\"d\") -> [live] n :: snap(); n[origin] -> a :: raw(<a>); "
	    "n[delta] -> raw(<b>);",
	    A } },
	{ "bitmap",
	  { SIZE, 2 << 20, 0 },
	  { A,
	    D "n :: bitmap(checkpoints=[\"mon\"]); "
	      "n[lower] -> a :: raw(<a>); n[store] -> raw(<b>);",
	    A } },
	{ "checksum",
	  { SIZE, 2 << 20, 0 },
	  { A,
	    D "n :: checksum(adopt=true); n[lower] -> a :: raw(<a>); "
	      "n[store] -> raw(<b>);",
	    A } },
};
#define STORIES ((int)(sizeof(stories) / sizeof(stories[0])))

START_TEST(a_cut_in_a_change_starts_one_of_both_graphs_with_all_data)
{
	whole(&stories[_i]);
}
END_TEST

/* ---- syncs that fail ------------------------------------------------------ */

/* The first change of the story, of whose syncs of the directory so many fail behind
 * the one before the commit. */
static void fail_change(const struct story *story, uint32_t times,
			const char *words)
{
	const char *text = text_of(story->texts[1]);
	struct blktap_error *err = NULL;
	int rc;

	make_leaves(story);
	put_first(story);
	record_file = leaf_of;
	names_watch(dir, ".state");
	client.disk = open_disk(context, story->name);
	work(REQUESTS);
	names_fail_sync(1, times, EIO);
	rc = blktap_mason_apply(client.disk, "next", text, strlen(text), NULL,
				NULL, &err);
	ck_assert_int_eq(rc, -EIO);
	ck_assert_msg(strstr(blktap_error_get_message(err), words) != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	ck_assert_uint_eq(blktap_mason_get_generation(client.disk), 1);
}

static void check_all_from(const struct story *story, uint64_t at)
{
	uint32_t model;

	work(REQUESTS);
	ck_assert_int_eq(blktap_disk_close(client.disk), 0);
	names_watch(NULL, NULL);
	for (; at <= record.now; at += 1 + next_random() % 16)
		for (model = 0; model < RECORD_MODELS; model++)
			check_cut(story, at, (enum record_model)model);
}

START_TEST(a_change_whose_name_is_not_synced_has_not_been_made)
{
	fail_change(&stories[0], 1, "x.mason.state: Input/output error");
	check_all_from(&stories[0], record_tick());
}
END_TEST

START_TEST(a_change_that_cannot_be_taken_back_says_so_and_the_next_settles_it)
{
	fail_change(&stories[0], 2, "the next start may find the new one");
	work(REQUESTS);
	changes[1].began = record_tick();
	change(context, client.disk, stories[0].texts[1], "again");
	changes[1].ended = record_tick();
	check_all_from(&stories[0], changes[1].ended);
}
END_TEST

START_TEST(nothing_is_changed_while_a_failed_change_is_not_settled)
{
	const char *text = text_of(stories[0].texts[1]);

	fail_change(&stories[0], 3, "the next start may find the new one");
	ck_assert_int_eq(blktap_mason_apply(client.disk, "next", text,
					    strlen(text), NULL, NULL, NULL),
			 -EIO);
	change(context, client.disk, stories[0].texts[0], "the same again");
	changes[1].began = changes[1].ended = record_tick();
	check_all_from(&(struct story){ stories[0].name,
					{ SIZE, 3 << 20, 0 },
					{ A, A } },
		       changes[1].ended);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-cuts");
	TCase *tc = tcase_create("cuts");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(
		tc, a_cut_in_a_change_starts_one_of_both_graphs_with_all_data,
		0, STORIES);
	tcase_add_test(tc, a_change_whose_name_is_not_synced_has_not_been_made);
	tcase_add_test(
		tc,
		a_change_that_cannot_be_taken_back_says_so_and_the_next_settles_it);
	tcase_add_test(tc,
		       nothing_is_changed_while_a_failed_change_is_not_settled);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
