/* SPDX-License-Identifier: BSD-3-Clause */
/* Long work that was paused or killed goes on where it stood: jobs on a chain in
 * use, and coalesces of VHDs. BLKTAP_SEED repeats a run. */
#include "scratch.h"

#include <blktap/blktap.h>
#include <blktap/vhd.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vbd/job.h"

#define SIZE (8u << 20)
#define PIECE (64u << 10)
#define IMAGES 3

static struct blktap_context *context;
static struct blktap_disk *disk;
static struct blktap_job *job;
static char dir[64], spec[128], state_path[96];
static uint64_t random_state;
static unsigned char want[SIZE], data[SIZE];

static const char *const chains[][IMAGES] = {
	{ "raw", "qcow2", "qcow2" },
	{ "vhd", "vhd", "vhd" },
};
#define CHAINS 2

static uint64_t next_random(uint64_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

static void setup(void)
{
	const char *text = getenv("BLKTAP_SEED");

	random_state =
		text ? strtoull(text, NULL, 0)
		     : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
	random_state |= 1;
	printf("BLKTAP_SEED=%" PRIu64 "\n", random_state);
	fflush(stdout);
	scratch_make(dir, sizeof(dir));
	snprintf(state_path, sizeof(state_path), "%s/state", dir);
	context = NULL;
	disk = NULL;
}

static void teardown(void)
{
	if (disk)
		blktap_disk_close(disk);
	blktap_context_destroy(context);
	scratch_remove(dir);
}

static const char *image(uint32_t n)
{
	static char path[IMAGES][96];

	snprintf(path[n], sizeof(path[n]), "%s/i%u", dir, n);
	return path[n];
}

/* ---- the disk -------------------------------------------------------------- */

static void open_disk(const char *what)
{
	struct blktap_error *err = NULL;
	int rc = blktap_disk_open(context, what, NULL, &disk, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void close_disk(void)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = NULL;
}

static void transfer(enum blktap_op op, uint64_t offset, void *buf,
		     uint64_t length)
{
	scratch_transfer(context, disk, op, offset, buf, length);
}

static void verify(void)
{
	memset(data, 0xee, SIZE);
	transfer(BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert_msg(!memcmp(data, want, SIZE), "other bytes");
}

/* Half of the pieces, in the n-th image of a chain. */
static void write_some(uint32_t n)
{
	uint64_t at;

	for (at = 0; at < SIZE; at += PIECE) {
		if (n && next_random(2))
			continue;
		memset(want + at, (int)(1 + next_random(255)), PIECE);
		transfer(BLKTAP_OP_WRITE, at, want + at, PIECE);
	}
}

static void make_chain(const char *const *formats)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	char name[16];
	uint32_t n;
	int rc;

	context = scratch_context();
	snprintf(spec, sizeof(spec), "%s.committed", image(IMAGES - 1));
	unlink(spec);
	for (n = 0; n < IMAGES; n++) {
		unlink(image(n));
		blktap_image_options_init(&o);
		o.length = SIZE;
		snprintf(name, sizeof(name), "i%u", n - 1);
		o.backing = n ? name : NULL;
		o.backing_format = n ? formats[n - 1] : NULL;
		rc = blktap_image_create(formats[n], image(n), &o, &err);
		ck_assert_msg(!rc, "%s",
			      err ? blktap_error_get_message(err) : "");
		snprintf(spec, sizeof(spec), "%s:%s", formats[n], image(n));
		open_disk(spec);
		write_some(n);
		close_disk();
	}
}

/* ---- jobs ------------------------------------------------------------------ */

static int start(enum blktap_job_kind kind, const char *state)
{
	struct blktap_job_options o;

	blktap_job_options_init(&o);
	o.kind = kind;
	o.base = kind == BLKTAP_JOB_COALESCE ? "i1" : "i0";
	o.chunk = PIECE;
	o.depth = 2;
	o.state = state;
	return blktap_job_start(disk, &o, NULL, NULL, &job, NULL);
}

static struct blktap_job_info info(void)
{
	struct blktap_job_info i = { .size = sizeof(i) };

	blktap_job_get_info(job, &i);
	return i;
}

static bool has_ended(void)
{
	return info().state >= BLKTAP_JOB_DONE;
}

/* To the end; what was copied. */
static struct blktap_job_info finish(void)
{
	struct blktap_job_info i;
	int rc = blktap_job_wait(job, -1);

	ck_assert_msg(!rc, "%s", blktap_job_get_text(job));
	i = info();
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	return i;
}

static void restart_disk(void)
{
	snprintf(spec, sizeof(spec), "%s", blktap_disk_get_spec(disk));
	close_disk();
	open_disk(spec);
}

static void paused(void *opaque, int error, const char *message)
{
	*(int *)opaque = error ? error : 1;
}

/* Pauses the disk and resumes it; meanwhile somebody may touch the image that is
 * copied. */
static void interrupt(const char *touched)
{
	int result = 0;

	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, &result), 0);
	while (!result)
		ck_assert_int_eq(blktap_context_process(context), 0);
	ck_assert_int_eq(result, 1);
	if (touched)
		ck_assert_int_eq(chmod(touched, 0640), 0);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
}

/* What a job copies that is paused with its disk now and then. */
static uint64_t copy_paused(const char *const *formats,
			    enum blktap_job_kind kind, uint32_t pauses,
			    const char *touched)
{
	uint64_t copied, last = 0;

	random_state = 4711; /* each time the same chain */
	make_chain(formats);
	open_disk(spec);
	ck_assert_int_eq(start(kind, NULL), 0);
	while (pauses && !has_ended()) {
		ck_assert_int_eq(blktap_context_process(context), 0);
		if (info().copied < last + 4 * PIECE)
			continue;
		last = info().copied;
		interrupt(touched);
		pauses--;
	}
	ck_assert_uint_eq(pauses, 0);
	copied = finish().copied;
	verify();
	restart_disk();
	verify();
	close_disk();
	blktap_context_destroy(context);
	context = NULL;
	return copied;
}

START_TEST(job_goes_on_where_a_pause_met_it)
{
	const char *const *formats = chains[_i / 3];
	enum blktap_job_kind kind = (enum blktap_job_kind)(_i % 3);
	uint64_t whole = copy_paused(formats, kind, 0, NULL);

	ck_assert_uint_gt(whole, 18 * PIECE);
	ck_assert_uint_eq(copy_paused(formats, kind, 2, NULL), whole);
}
END_TEST

START_TEST(job_begins_anew_when_an_image_was_changed)
{
	const char *const *formats = chains[_i / 2];
	enum blktap_job_kind kind =
		_i % 2 ? BLKTAP_JOB_COMMIT : BLKTAP_JOB_COALESCE;
	uint64_t whole = copy_paused(formats, kind, 0, NULL);

	ck_assert_uint_ge(copy_paused(formats, kind, 1, image(1)),
			  whole + 4 * PIECE);
}
END_TEST

/* A server that died, lost what it had not flushed, and is there again. */
START_TEST(job_whose_target_lost_writes_fails)
{
	enum blktap_job_kind kind =
		_i ? BLKTAP_JOB_COMMIT : BLKTAP_JOB_COALESCE;

	make_chain(chains[0]);
	open_disk(spec);
	ck_assert_int_eq(start(kind, NULL), 0);
	while (!info().copied)
		ck_assert_int_eq(blktap_context_process(context), 0);
	bt_node_lose(job->target.lower);
	ck_assert_int_eq(blktap_job_wait(job, -1), -EIO);
	ck_assert_ptr_nonnull(strstr(blktap_job_get_text(job), "was lost for"));
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	verify();
	restart_disk();
	verify();
	close_disk();
}
END_TEST

/* A process that does the job, and is killed when it has copied so much. */
static void kill_at(uint64_t copied)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		context = scratch_context();
		open_disk(spec);
		if (start(BLKTAP_JOB_COALESCE, state_path))
			_exit(1);
		while (!has_ended() && info().copied < copied)
			blktap_context_process(context);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

START_TEST(killed_coalesce_of_a_disk_in_use_goes_on)
{
	struct blktap_job_info i;
	uint64_t whole;

	whole = copy_paused(chains[_i], BLKTAP_JOB_COALESCE, 0, NULL);
	random_state = 4711;
	make_chain(chains[_i]);
	blktap_context_destroy(context);
	random_state += (uint64_t)getpid();
	/* not so far that it is done, and twice */
	kill_at(whole * 5 / 8 + next_random(PIECE));
	ck_assert_int_eq(access(state_path, F_OK), 0);
	kill_at(next_random(4) * PIECE);
	context = scratch_context();
	open_disk(spec);
	verify();
	ck_assert_int_eq(start(BLKTAP_JOB_COALESCE, state_path), 0);
	i = finish();
	ck_assert_uint_gt(i.skipped, 0);
	ck_assert_uint_lt(i.copied, whole * 3 / 4);
	verify();
	ck_assert_int_ne(access(state_path, F_OK), 0);
	ck_assert_int_eq(unlink(image(1)), 0);
	restart_disk();
	verify();
}
END_TEST

static void expect_all(void)
{
	struct blktap_job_info i;

	context = scratch_context();
	open_disk(spec);
	ck_assert_int_eq(start(BLKTAP_JOB_COALESCE, state_path), 0);
	i = finish();
	ck_assert_uint_eq(i.skipped, 0);
	verify();
}

START_TEST(coalesce_of_an_image_that_was_changed_begins_anew)
{
	make_chain(chains[_i]);
	blktap_context_destroy(context);
	kill_at(SIZE * 3 / 8);
	ck_assert_int_eq(access(state_path, F_OK), 0);
	ck_assert_int_eq(chmod(image(1), 0640), 0);
	expect_all();
}
END_TEST

START_TEST(state_that_is_nonsense_is_no_state)
{
	static const char *const texts[] = { "", "done 65536\n", "\377\377",
					     "from 1 2 3 4.5\ninto 1 2\n" };
	FILE *f = fopen(state_path, "w");

	fputs(texts[_i], f);
	fclose(f);
	make_chain(chains[0]);
	blktap_context_destroy(context);
	expect_all();
}
END_TEST

START_TEST(only_a_coalesce_takes_a_state)
{
	make_chain(chains[0]);
	open_disk(spec);
	ck_assert_int_eq(start(BLKTAP_JOB_STREAM, state_path), -EINVAL);
	ck_assert_int_eq(start(BLKTAP_JOB_COMMIT, state_path), -EINVAL);
}
END_TEST

/* ---- VHDs ------------------------------------------------------------------ */

#define BLOCK (2u << 20)
#define BLOCKS 2400u /* in use; it is written down how far it is after */
#define STEP 2u /* 1024 that hold data, or 512 where the parent is raw */

struct counting {
	uint32_t calls;
	uint32_t kill_at; /* 0: never */
};

static int count_call(void *opaque, uint64_t at, uint64_t total)
{
	struct counting *c = opaque;

	if (++c->calls == c->kill_at)
		kill(getpid(), SIGKILL);
	return 0;
}

static void make_vhds(bool raw)
{
	struct blktap_image_options o;
	unsigned char sector[512];
	struct blktap_vhd *vhd;
	uint32_t n;

	context = scratch_context();
	for (n = 0; n < 2; n++) {
		blktap_image_options_init(&o);
		o.length = (uint64_t)BLOCKS * BLOCK;
		o.backing = n ? "i0" : NULL;
		o.backing_format = n ? raw ? "raw" : "vhd" : NULL;
		ck_assert_int_eq(blktap_image_create(!n && raw ? "raw" : "vhd",
						     image(n), &o, NULL),
				 0);
	}
	ck_assert_int_eq(
		blktap_vhd_open(image(1), BLKTAP_VHD_WRITE, &vhd, NULL), 0);
	ck_assert_int_eq(
		blktap_vhd_allocate(vhd, 0, BLOCKS - 1, NULL, NULL, NULL), 0);
	blktap_vhd_close(vhd);
	snprintf(spec, sizeof(spec), "vhd:%s", image(1));
	open_disk(spec);
	for (n = 0; n < BLOCKS; n += STEP) {
		memset(sector, (int)(n % 255 + 1), sizeof(sector));
		transfer(BLKTAP_OP_WRITE, (uint64_t)n * BLOCK, sector, 512);
	}
	close_disk();
}

static uint32_t coalesce(uint32_t kill_at, uint64_t *sectors)
{
	struct counting c = { .kill_at = kill_at };
	struct blktap_vhd_coalesce_options o = {
		.struct_size = sizeof(o),
		.state = state_path,
		.progress = count_call,
		.opaque = &c,
	};
	struct blktap_vhd *vhd;
	struct blktap_error *err = NULL;
	int rc;

	ck_assert_int_eq(blktap_vhd_open(image(1), 0, &vhd, NULL), 0);
	rc = blktap_vhd_coalesce(vhd, &o, sectors, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	blktap_vhd_close(vhd);
	return c.calls;
}

static void check_vhd(bool raw)
{
	unsigned char sector[512];
	uint32_t n;

	snprintf(spec, sizeof(spec), "%s:%s", raw ? "raw" : "vhd", image(0));
	open_disk(spec);
	for (n = 0; n < BLOCKS; n += STEP) {
		transfer(BLKTAP_OP_READ, (uint64_t)n * BLOCK, sector, 512);
		memset(want, (int)(n % 255 + 1), sizeof(sector));
		ck_assert_int_eq(memcmp(sector, want, sizeof(sector)), 0);
	}
}

START_TEST(killed_coalesce_of_vhds_goes_on)
{
	uint32_t at = BLOCKS - 200 + (uint32_t)next_random(150);
	uint64_t sectors = 0;
	uint32_t calls;
	int status;
	pid_t pid;

	make_vhds(_i);
	pid = fork();
	if (!pid) {
		coalesce(at, &sectors);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert_int_eq(access(state_path, F_OK), 0);
	calls = coalesce(0, &sectors);
	ck_assert_uint_eq(sectors, BLOCKS / STEP); /* all of them, as ever */
	ck_assert_uint_lt(calls, BLOCKS - 500);
	ck_assert_uint_gt(calls, BLOCKS - at);
	ck_assert_int_ne(access(state_path, F_OK), 0);
	check_vhd(_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resume");
	TCase *tc = tcase_create("resume");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, job_goes_on_where_a_pause_met_it, 0,
			    3 * CHAINS);
	tcase_add_loop_test(tc, job_begins_anew_when_an_image_was_changed, 0,
			    2 * CHAINS);
	tcase_add_loop_test(tc, job_whose_target_lost_writes_fails, 0, 2);
	tcase_add_loop_test(tc, killed_coalesce_of_a_disk_in_use_goes_on, 0,
			    CHAINS);
	tcase_add_loop_test(tc,
			    coalesce_of_an_image_that_was_changed_begins_anew,
			    0, CHAINS);
	tcase_add_loop_test(tc, state_that_is_nonsense_is_no_state, 0, 4);
	tcase_add_test(tc, only_a_coalesce_takes_a_state);
	tcase_add_loop_test(tc, killed_coalesce_of_vhds_goes_on, 0, 2);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
