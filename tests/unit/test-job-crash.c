/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts during jobs: all that reaches the files of a chain is recorded, also
 * what is written by plain calls, and at every moment the files are made as a cut
 * would have left them. A client writes, discards and flushes meanwhile. The disk then
 * opens by its name and shows what the client flushed last, or something newer, and
 * elsewhere the same bytes, whatever the job has done so far. BLKTAP_SEED repeats a
 * run, BLKTAP_CUTS=all looks at every event. */
#include "unit.h"

#include <blktap/blktap.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client.h"
#include "record-calls.h"
#include "scratch.h"
#include "seed.h"
#include "vbd/vbd.h"
#include "versions.h"

#define SIZE (512u * VERSIONS_SECTORS)
#define IMAGES 3
#define FILE_MAX (2u << 20)
#define CUTS 16 /* looked at, of each job, and as many last events */
#define PAGE CLIENT_PAGE
#define PAGES CLIENT_PAGES
/* of the client, at most; the last come behind the job */
#define REQUESTS 200u
#define LAST 12u

static struct blktap_context *context; /* the recorded one */
static struct blktap_context *checker;
static char dir[64];
static uint64_t state;
static bool recording;
static uint64_t renamed; /* when the leaf lost its name; 0: it did not */
static unsigned char data[SIZE];
static unsigned char first[IMAGES][FILE_MAX], image[FILE_MAX];
static uint64_t first_size[IMAGES];
static uint64_t inode[IMAGES];

static uint32_t tags[VERSIONS_SECTORS]; /* of the chain */
static uint32_t meanwhile;

static bool has_ended;
static int job_result;

static uint32_t file_of(int fd)
{
	struct stat st;
	uint32_t n;

	ck_assert_int_eq(fstat(fd, &st), 0);
	for (n = 0; n < IMAGES && inode[n] != st.st_ino; n++)
		;
	return n;
}

int rename(const char *from, const char *to)
{
	if (recording)
		renamed = record_tick();
	return (int)syscall(SYS_rename, from, to);
}

/* ---- a disk --------------------------------------------------------------- */

static uint64_t next_random(void)
{
	return seed_next(&state);
}

static void setup(void)
{
	state = seed_take() | 1;
	record_reset();
	recording = false;
	renamed = 0;
	versions_reset();
	memset(tags, 0, sizeof(tags));
	client_reset(next_random);
	meanwhile = 0;
	has_ended = false;
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
	record_reset();
	scratch_remove(dir);
}

static const char *path_of(const char *name, uint32_t n)
{
	static char paths[2][IMAGES][96];
	char *path = paths[strlen(name) > 1][n];

	snprintf(path, sizeof(paths[0][0]), "%s/%s%u", dir, name, n);
	return path;
}

static struct blktap_disk *open_disk(struct blktap_context *in,
				     const char *format, const char *path,
				     uint32_t flags, const char *when)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk = NULL;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	snprintf(spec, sizeof(spec), "%s:%s", format, path);
	rc = blktap_disk_open(in, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s: %s", when,
		      err ? blktap_error_get_message(err) : "");
	return disk;
}

/* ---- the chain ------------------------------------------------------------ */

static void write_some(struct blktap_disk *disk)
{
	unsigned char bytes[PAGE];
	uint32_t page, i, n;

	for (i = 0; i < 12; i++) {
		page = (uint32_t)(next_random() % PAGES);
		client_fill(bytes, page, client.next_tag);
		for (n = 0; n < PAGE / 512; n++)
			tags[page * (PAGE / 512) + n] = client.next_tag;
		client.next_tag++;
		scratch_transfer(checker, disk, BLKTAP_OP_WRITE,
				 (uint64_t)page * PAGE, bytes, PAGE);
	}
}

static void keep_image(uint32_t n)
{
	struct stat st;
	int fd = open(path_of("i", n), O_RDONLY);

	ck_assert_int_eq(fstat(fd, &st), 0);
	inode[n] = st.st_ino;
	first_size[n] = (uint64_t)read(fd, first[n], FILE_MAX);
	ck_assert_uint_eq(first_size[n], (uint64_t)st.st_size);
	close(fd);
}

static void make_chain(const char *const *formats)
{
	struct blktap_image_options o;
	struct blktap_disk *disk;
	struct blktap_error *err = NULL;
	char name[16];
	uint32_t n;
	int rc;

	for (n = 0; n < IMAGES; n++) {
		blktap_image_options_init(&o);
		o.length = SIZE;
		o.cluster_size = strcmp(formats[n], "raw") ? 4096 : 0;
		snprintf(name, sizeof(name), "i%u", n - 1);
		o.backing = n ? name : NULL;
		o.backing_format = n ? formats[n - 1] : NULL;
		rc = blktap_image_create(formats[n], path_of("i", n), &o, &err);
		ck_assert_msg(!rc, "%s",
			      err ? blktap_error_get_message(err) : "");
		disk = open_disk(checker, formats[n], path_of("i", n), 0, "");
		write_some(disk);
		ck_assert_int_eq(blktap_disk_close(disk), 0);
		keep_image(n);
	}
	for (n = 0; n < VERSIONS_SECTORS; n++)
		versions_add(n, &(struct version){ .tag = tags[n] });
}

static void ended(void *opaque, int error, const char *message)
{
	has_ended = true;
	job_result = error;
}

static void turn(void)
{
	client_submit();
	ck_assert_int_eq(blktap_context_process(context), 0);
}

/* As long as the job takes, and a little longer. */
static void work(struct blktap_disk *disk, struct blktap_job *job)
{
	client.disk = disk;
	client.most = REQUESTS - LAST;
	while (!has_ended && client.requests < client.most)
		turn();
	meanwhile = client.requests;
	if (!has_ended)
		blktap_job_wait(job, 10000);
	client.most = client.requests + LAST;
	while (client.requests < client.most || !client_is_idle())
		turn();
}

static void run_job(const char *format, enum blktap_job_kind kind,
		    const char *base)
{
	struct blktap_job_options o;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	struct blktap_job *job;
	uint32_t n;
	int rc;

	blktap_job_options_init(&o);
	o.kind = kind;
	o.base = base;
	o.chunk = 64u << 10;
	o.depth = 1;
	record_file = file_of;
	for (n = 0; n < IMAGES; n++)
		record_watch(n, path_of("i", n));
	recording = true;
	disk = open_disk(context, format, path_of("i", IMAGES - 1), 0, "");
	rc = blktap_job_start(disk, &o, ended, NULL, &job, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	work(disk, job);
	ck_assert_msg(!job_result, "%s", blktap_job_get_text(job));
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	recording = false;
	for (n = 0; n < IMAGES; n++)
		record_watch(n, NULL);
}

/* ---- the cut -------------------------------------------------------------- */

static void check(const char *format, uint32_t n, uint64_t at, const char *when)
{
	struct blktap_disk *disk;
	uint32_t sector, i;

	for (i = 0; i < 2; i++) {
		disk = open_disk(checker, format, path_of("c/i", n),
				 i ? 0 : BLKTAP_OPEN_READ_ONLY, when);
		memset(data, 0xee, SIZE);
		scratch_transfer(checker, disk, BLKTAP_OP_READ, 0, data, SIZE);
		ck_assert_int_eq(blktap_disk_close(disk), 0);
		for (sector = 0; sector < VERSIONS_SECTORS; sector++) {
			if (versions_allow(sector, at, data + sector * 512))
				continue;
			versions_print(sector, at);
			ck_abort_msg("%s: sector %u: other bytes", when,
				     sector);
		}
	}
}

static void put_image(uint32_t n, uint64_t at, enum record_model model)
{
	uint64_t size;
	int fd;

	memcpy(image, first[n], first_size[n]);
	size = record_cut_file(n, at, model, next_random, image, first_size[n],
			       FILE_MAX);
	fd = open(path_of("c/i", n), O_CREAT | O_TRUNC | O_WRONLY, 0600);
	ck_assert_int_eq(write(fd, image, size), (ssize_t)size);
	close(fd);
}

/* formats of the chain, and the image that the disk is after a rename. */
static void check_cuts(const char *const *formats, uint32_t after)
{
	uint64_t stride = getenv("BLKTAP_CUTS") ? 1 : record.now / CUTS + 1;
	char when[64], path[96];
	uint32_t n, model, cuts = 0;
	uint64_t at;

	snprintf(path, sizeof(path), "%s/c", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	/* backwards: the last events are those that matter most */
	for (at = record.now + 1; at-- > 0;
	     at -=
	     at > stride && at + CUTS < record.now ? next_random() % stride : 0)
		for (model = 0; model < RECORD_MODELS; model++) {
			snprintf(when, sizeof(when),
				 "event %" PRIu64 " of %" PRIu64 ", model %u",
				 at, record.now, model);
			for (n = 0; n < IMAGES; n++)
				put_image(n, at, (enum record_model)model);
			cuts++;
			if (renamed && at >= renamed)
				check(formats[after], after, at, when);
			/* the name is on disk before anybody writes there */
			if (renamed && at > renamed)
				continue;
			for (n = 0; n < IMAGES; n++)
				put_image(n, at, (enum record_model)model);
			check(formats[IMAGES - 1], IMAGES - 1, at, when);
		}
	printf("%u images of %" PRIu64
	       " events, %u requests, %u of them during the job, %u flushes\n",
	       cuts, record.now, client.requests, meanwhile, client.flushes);
	fflush(stdout);
}

static const char *const chains[][IMAGES] = {
	{ "raw", "qcow2", "qcow2" },
	{ "raw", "vhd", "vhd" },
	{ "vhd", "vhd", "qcow2" },
	{ "raw", "qcow", "qcow" },
};
#define CHAINS 4

static void whole(const char *const *formats, enum blktap_job_kind kind,
		  const char *base, uint32_t after)
{
	make_chain(formats);
	run_job(formats[IMAGES - 1], kind, base);
	ck_assert_int_eq(renamed != 0, kind == BLKTAP_JOB_COMMIT);
	check_cuts(formats, after);
}

START_TEST(a_cut_during_a_stream_loses_nothing)
{
	whole(chains[_i], BLKTAP_JOB_STREAM, NULL, 0);
}
END_TEST

START_TEST(a_cut_during_a_stream_to_a_base_loses_nothing)
{
	whole(chains[_i], BLKTAP_JOB_STREAM, "i0", 0);
}
END_TEST

START_TEST(a_cut_during_a_commit_loses_nothing)
{
	whole(chains[_i], BLKTAP_JOB_COMMIT, "i0", 0);
}
END_TEST

START_TEST(a_cut_during_a_commit_to_the_next_image_loses_nothing)
{
	whole(chains[_i], BLKTAP_JOB_COMMIT, "i1", 1);
}
END_TEST

START_TEST(a_cut_during_a_coalesce_loses_nothing)
{
	whole(chains[_i], BLKTAP_JOB_COALESCE, "i1", 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("job-crash");
	TCase *tc = tcase_create("cuts");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, a_cut_during_a_stream_loses_nothing, 0, CHAINS);
	tcase_add_loop_test(tc, a_cut_during_a_stream_to_a_base_loses_nothing,
			    0, CHAINS);
	tcase_add_loop_test(tc, a_cut_during_a_commit_loses_nothing, 0, CHAINS);
	tcase_add_loop_test(
		tc, a_cut_during_a_commit_to_the_next_image_loses_nothing, 0,
		CHAINS);
	tcase_add_loop_test(tc, a_cut_during_a_coalesce_loses_nothing, 0,
			    CHAINS);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
