/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs on chains whose disk is written to all the while, against a flat array.
 * BLKTAP_SEED repeats a run. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faulty.h"
#include "model.h"
#include "seed.h"
#include "vbd/job.h"
#include "vbd/vbd.h"

#define SIZE (1u << 20)
#define IMAGES 4

static struct blktap_context *context;
static struct model m;
static char dir[64];
static char spec[128];
static uint64_t seed;
static struct blktap_job *job;
static uint32_t ends;
static int result;
static char text[256];

/* Formats from the bottom up, and what a job is about. */
struct chain {
	const char *formats[IMAGES];
	uint32_t depth;
};

static const struct chain chains[] = {
	{ { "raw", "qcow2", "qcow2", "qcow2" }, 4 },
	{ { "qcow2", "qcow2", "qcow2", "qcow2" }, 4 },
	{ { "raw", "vhd", "vhd", "vhd" }, 4 },
	{ { "vhd", "vhd", "qcow2", "qcow2" }, 4 },
	{ { "raw", "qcow", "qcow", "qcow" }, 4 },
	{ { "qcow2", "qcow", "qcow", "qcow" }, 4 },
};
#define CHAINS (sizeof(chains) / sizeof(*chains))

static void setup(void)
{
	faulty_reset();
	seed = seed_take();
	snprintf(dir, sizeof(dir), "%s/blktap-job-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
	ends = 0;
	job = NULL;
}

static void teardown(void)
{
	char command[96];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *image(uint32_t n)
{
	static char path[IMAGES][96];

	snprintf(path[n], sizeof(path[n]), "%s/i%u", dir, n);
	return path[n];
}

static void remove_image(uint32_t n)
{
	char away[512];

	snprintf(away, sizeof(away), "%s.committed", image(n));
	unlink(away);
	unlink(image(n));
}

static void open_disk(const char *what)
{
	struct blktap_error *err = NULL;
	int rc = blktap_disk_open(context, what, NULL, &m.disk, &err);

	ck_assert_msg(!rc, "%s: %s", what,
		      err ? blktap_error_get_message(err) : "");
}

/* Images one over the other, each written to while it is the leaf; the last one
 * is left open as the disk. */
static void make_chain(const struct chain *c)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	char name[8];
	uint32_t n;
	int rc;

	model_init(&m, context, SIZE, 4096, seed);
	for (n = 0; n < c->depth; n++) {
		blktap_image_options_init(&o);
		o.length = SIZE;
		snprintf(name, sizeof(name), "i%u", n - 1);
		o.backing = n ? name : NULL;
		o.backing_format = n ? c->formats[n - 1] : NULL;
		rc = blktap_image_create(c->formats[n], image(n), &o, &err);
		ck_assert_msg(!rc, "%s",
			      err ? blktap_error_get_message(err) : "");
		snprintf(spec, sizeof(spec), "%s:%s", c->formats[n], image(n));
		open_disk(spec);
		model_run(&m, 8);
		if (n + 1 < c->depth)
			ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	}
}

static void ended(void *opaque, int error, const char *message)
{
	ends++;
	result = error;
	snprintf(text, sizeof(text), "%s", message);
}

static int start(enum blktap_job_kind kind, uint32_t base)
{
	struct blktap_job_options o;
	struct blktap_error *err = NULL;
	char name[8];
	int rc;

	blktap_job_options_init(&o);
	o.kind = kind;
	o.chunk = 64u << 10;
	snprintf(name, sizeof(name), "i%u", base);
	o.base = base < IMAGES ? name : NULL;
	ends = 0;
	rc = blktap_job_start(m.disk, &o, ended, NULL, &job, &err);
	snprintf(text, sizeof(text), "%s",
		 err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	return rc;
}

static void run_job(void)
{
	uint32_t turns = 0;

	while (!ends && turns++ < 4000)
		model_run(&m, 3);
	ck_assert_msg(ends == 1, "the job has not ended");
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	job = NULL;
}

/* The data is right, and is so when the disk is opened anew. */
static void verify(void)
{
	char again[128];

	model_verify(&m);
	snprintf(again, sizeof(again), "%s", blktap_disk_get_spec(m.disk));
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	open_disk(again);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	m.disk = NULL;
}

/* How many images the open disk has. */
static uint32_t depth(void)
{
	char *json = blktap_disk_get_stats_json(m.disk, false), *at = json;
	uint32_t n = 0;

	while ((at = strstr(at, "\"class\""))) {
		n++;
		at++;
	}
	free(json);
	return n;
}

/* ---- to the end ----------------------------------------------------------- */

static void whole(const struct chain *c, enum blktap_job_kind kind,
		  uint32_t base, uint32_t left)
{
	make_chain(c);
	ck_assert_msg(!start(kind, base), "%s", text);
	ck_assert_int_eq(blktap_job_destroy(job), -EBUSY);
	run_job();
	ck_assert_msg(!result, "%s", text);
	model_run(&m, 30);
	ck_assert_uint_eq(depth(), left);
	verify();
	model_fini(&m);
}

START_TEST(streamed_disk_stands_alone)
{
	uint32_t n;

	whole(&chains[_i], BLKTAP_JOB_STREAM, IMAGES, 1);
	/* what it stood on is not needed any more */
	for (n = 0; n + 1 < IMAGES; n++)
		ck_assert_int_eq(unlink(image(n)), 0);
	open_disk(spec);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
}
END_TEST

START_TEST(streamed_disk_stands_on_the_named_image)
{
	whole(&chains[_i], BLKTAP_JOB_STREAM, 1, 3);
	ck_assert_int_eq(unlink(image(2)), 0);
	open_disk(spec);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
}
END_TEST

START_TEST(committed_disk_is_its_base)
{
	char away[512];

	whole(&chains[_i], BLKTAP_JOB_COMMIT, 0, 1);
	/* nobody opens the old leaf by its name any more */
	ck_assert_int_lt(access(image(3), F_OK), 0);
	snprintf(away, sizeof(away), "%s.committed", image(3));
	ck_assert_int_eq(access(away, F_OK), 0);
}
END_TEST

START_TEST(committed_disk_keeps_what_its_base_stands_on)
{
	whole(&chains[_i], BLKTAP_JOB_COMMIT, 2, 3);
}
END_TEST

START_TEST(coalesced_image_is_gone_from_the_chain)
{
	whole(&chains[_i], BLKTAP_JOB_COALESCE, 1, 3);
	ck_assert_int_eq(unlink(image(1)), 0);
	open_disk(spec);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
}
END_TEST

START_TEST(image_below_the_leaf_is_coalesced)
{
	whole(&chains[_i], BLKTAP_JOB_COALESCE, IMAGES, 3);
}
END_TEST

/* ---- and not ------------------------------------------------------------- */

static const struct {
	enum blktap_job_kind kind;
	uint32_t base;
} works[] = {
	{ BLKTAP_JOB_STREAM, IMAGES }, { BLKTAP_JOB_STREAM, 1 },
	{ BLKTAP_JOB_COMMIT, 0 },      { BLKTAP_JOB_COMMIT, IMAGES },
	{ BLKTAP_JOB_COALESCE, 1 },
};
#define WORKS 5

/* Cancelled after ever more turns, and started again, until it is done. */
START_TEST(cancelled_job_leaves_the_chain_as_it_was)
{
	uint32_t turns, n, before;

	make_chain(&chains[0]);
	before = depth();
	for (turns = 0;; turns += 3 + turns / 2) {
		ck_assert_msg(!start(works[_i].kind, works[_i].base), "%s",
			      text);
		for (n = 0; n < turns && !ends; n++)
			model_run(&m, 1);
		blktap_job_cancel(job);
		run_job();
		model_verify(&m);
		if (!result)
			break;
		ck_assert_int_eq(result, -ECANCELED);
		ck_assert_uint_eq(depth(), before);
	}
	ck_assert_uint_gt(turns, 0);
	verify();
	model_fini(&m);
}
END_TEST

/* Calls fail, early and late; the disk has all that was acknowledged. */
static void fail_job(int work)
{
	uint32_t n, failed = 0;

	result = 0;
	for (n = 0; n < 5; n++) {
		if (!result) {
			if (n)
				model_fini(&m);
			make_chain(&chains[0]);
			ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		}
		snprintf(spec, sizeof(spec), "qcow2:%s", image(IMAGES - 1));
		open_disk(spec);
		m.may_fail = true;
		faulty_add((struct faulty_rule){
			.op = n % 3 == 0   ? BT_IO_READ
			      : n % 3 == 1 ? BT_IO_WRITE
					   : BT_IO_SYNC,
			.nth = 1 + n * 18,
			.times = 20,
			.error = n % 2 ? -EIO : -ENOSPC });
		ck_assert_msg(!start(works[work].kind, works[work].base), "%s",
			      text);
		run_job();
		faulty_reset();
		snprintf(spec, sizeof(spec), "%s",
			 blktap_disk_get_spec(m.disk));
		/* a flush that failed fails until the image is opened anew */
		blktap_disk_close(m.disk);
		failed += result != 0;
		open_disk(spec);
		ck_assert_uint_eq(depth() == IMAGES, result != 0);
		model_verify(&m);
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		m.may_fail = false;
		if (!result)
			for (uint32_t i = 0; i < IMAGES; i++)
				remove_image(i);
	}
	ck_assert_uint_gt(failed, 0);
	model_fini(&m);
}

START_TEST(failed_job_leaves_the_chain_as_it_was)
{
	fail_job(_i);
}
END_TEST

/* A stream that wrote zeroes where BLOCK_STATUS had told of some lost what a
 * client had written there since; these are the requests that found it. */
START_TEST(stream_does_not_undo_a_write_over_zeroes)
{
	seed = 1795387079177126;
	fail_job(1);
}
END_TEST

static void paused(void *opaque, int error, const char *message)
{
	*(int *)opaque = error ? error : 1;
}

static void turn_until(bool (*is_there)(void))
{
	while (!is_there())
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static int pause_done;

static bool is_paused(void)
{
	return pause_done != 0;
}

static void begin_pause(void)
{
	pause_done = 0;
	ck_assert_int_eq(blktap_disk_pause(m.disk, 0, paused, &pause_done), 0);
}

START_TEST(job_waits_for_a_paused_disk_and_goes_on)
{
	struct blktap_job_info info = { .size = sizeof(info) };
	uint32_t n, round;

	make_chain(&chains[0]);
	ck_assert_msg(!start(works[_i].kind, works[_i].base), "%s", text);
	for (round = 0; round < 6 && !ends; round++) {
		model_run(&m, 1 + round * 2);
		if (ends)
			break;
		begin_pause();
		turn_until(is_paused);
		ck_assert_int_eq(pause_done, 1);
		for (n = 0; n < 20; n++)
			ck_assert_int_eq(blktap_context_process(context), 0);
		if (!ends) {
			blktap_job_get_info(job, &info);
			ck_assert_int_eq(info.state, BLKTAP_JOB_WAITING);
		}
		ck_assert_int_eq(blktap_disk_resume(m.disk, NULL, NULL), 0);
	}
	run_job();
	ck_assert_msg(!result, "%s", text);
	verify();
	model_fini(&m);
}
END_TEST

static bool is_flushing(void)
{
	return ends || (job->phase == BT_JOB_FLUSH && job->under_way);
}

static bool is_switching(void)
{
	return ends || (job->finishing && m.disk->edit);
}

/* The pause comes while the job flushes, and is there before the switch is. */
START_TEST(job_whose_switch_a_pause_took_back_can_be_cancelled)
{
	make_chain(&chains[0]);
	ck_assert_msg(!start(works[_i].kind, works[_i].base), "%s", text);
	faulty_add((struct faulty_rule){ .op = BT_IO_SYNC, .delay_ns = 1000 });
	turn_until(is_flushing);
	begin_pause();
	faulty_reset();
	bt_loop_advance(bt_context_get_loop(context), 1000000);
	turn_until(is_paused);
	ck_assert_int_eq(blktap_disk_resume(m.disk, NULL, NULL), 0);
	blktap_job_cancel(job);
	run_job();
	ck_assert_int_eq(result, -ECANCELED);
	ck_assert_uint_eq(depth(), IMAGES);
	verify();
	model_fini(&m);
}
END_TEST

/* Nothing of a job that has ended is touched by the pause that it met. */
START_TEST(job_may_be_destroyed_while_a_pause_holds_the_gate)
{
	bool switches = _i >= WORKS;
	uint32_t work = _i % WORKS;

	make_chain(&chains[0]);
	ck_assert_msg(!start(works[work].kind, works[work].base), "%s", text);
	if (switches)
		turn_until(is_switching);
	begin_pause();
	if (!switches) {
		turn_until(is_paused);
		blktap_job_cancel(job);
	}
	while (!ends)
		ck_assert_int_eq(blktap_context_process(context), 0);
	ck_assert_int_eq(result, switches ? 0 : -ECANCELED);
	ck_assert_uint_eq(m.disk->gate.count, 1);
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	turn_until(is_paused);
	ck_assert_int_eq(blktap_disk_resume(m.disk, NULL, NULL), 0);
	verify();
	model_fini(&m);
}
END_TEST

START_TEST(job_ends_with_its_disk)
{
	uint32_t n;

	make_chain(&chains[0]);
	for (n = 0; n < 15; n += 3) {
		ck_assert_msg(!start(works[_i].kind, works[_i].base), "%s",
			      text);
		model_run(&m, n);
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		ck_assert_uint_eq(ends, 1);
		ck_assert_int_eq(blktap_job_destroy(job), 0);
		if (!result)
			break;
		ck_assert_int_eq(result, -ECANCELED);
		open_disk(spec);
		model_verify(&m);
	}
	if (n == 15)
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	model_fini(&m);
}
END_TEST

START_TEST(job_keeps_its_rate_and_its_pause)
{
	struct blktap_job_info info = { .size = sizeof(info) };
	struct blktap_error *err = NULL;

	make_chain(&chains[0]);
	ck_assert_int_eq(start(BLKTAP_JOB_COMMIT, 0), 0);
	ck_assert_int_eq(blktap_disk_snapshot(m.disk, NULL, 0, NULL, &err),
			 -EBUSY);
	blktap_error_destroy(err);
	blktap_job_set_rate(job, 64u << 10);
	model_run(&m, 300);
	blktap_job_get_info(job, &info);
	ck_assert_uint_eq(info.total, SIZE);
	ck_assert_uint_le(info.copied, 128u << 10);
	ck_assert_int_eq(info.state, BLKTAP_JOB_RUNNING);
	blktap_job_pause(job);
	blktap_job_set_rate(job, 0);
	model_run(&m, 100);
	blktap_job_get_info(job, &info);
	ck_assert_int_eq(info.state, BLKTAP_JOB_PAUSED);
	ck_assert_uint_le(info.copied, 192u << 10);
	ck_assert_str_eq(blktap_job_get_text(job), "");
	blktap_job_resume(job);
	ck_assert_int_eq(blktap_job_wait(job, 10000), 0);
	blktap_job_get_info(job, &info);
	ck_assert_int_eq(info.state, BLKTAP_JOB_DONE);
	ck_assert_str_eq(blktap_job_state_name(info.state), "done");
	ck_assert_uint_eq(info.done, SIZE);
	ck_assert_str_ne(blktap_job_get_text(job), "");
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	verify();
	model_fini(&m);
}
END_TEST

START_TEST(job_that_makes_no_sense_is_refused)
{
	struct blktap_disk *other = NULL;
	struct blktap_disk_options o;

	make_chain(&chains[0]);
	ck_assert_int_eq(start(BLKTAP_JOB_STREAM, 2), -EINVAL);
	ck_assert_int_eq(start(BLKTAP_JOB_STREAM, 3), -ENOENT);
	ck_assert_int_eq(start(BLKTAP_JOB_COALESCE, 0), -EINVAL);
	ck_assert_int_eq(start((enum blktap_job_kind)7, 0), -EINVAL);
	/* another disk reads the image that would be written to */
	blktap_disk_options_init(&o);
	o.flags = BLKTAP_OPEN_READ_ONLY;
	snprintf(spec, sizeof(spec), "raw:%s", image(0));
	ck_assert_int_eq(blktap_disk_open(context, spec, &o, &other, NULL), 0);
	ck_assert_int_eq(start(BLKTAP_JOB_COMMIT, 0), 0);
	ck_assert_int_eq(blktap_job_wait(job, 10000), -EBUSY);
	ck_assert_ptr_nonnull(strstr(text, "open in this process already"));
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	ck_assert_int_eq(blktap_disk_close(other), 0);
	ck_assert_int_eq(start(BLKTAP_JOB_COMMIT, 0), 0);
	ck_assert_int_eq(start(BLKTAP_JOB_COMMIT, 0), -EBUSY);
	blktap_job_cancel(job);
	ck_assert_int_eq(blktap_job_wait(job, 10000), -ECANCELED);
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	model_fini(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("job");
	TCase *tc = tcase_create("job");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, streamed_disk_stands_alone, 0, CHAINS);
	tcase_add_loop_test(tc, streamed_disk_stands_on_the_named_image, 0,
			    CHAINS);
	tcase_add_loop_test(tc, committed_disk_is_its_base, 0, CHAINS);
	tcase_add_loop_test(tc, committed_disk_keeps_what_its_base_stands_on, 0,
			    CHAINS);
	tcase_add_loop_test(tc, coalesced_image_is_gone_from_the_chain, 0,
			    CHAINS);
	tcase_add_loop_test(tc, image_below_the_leaf_is_coalesced, 0, CHAINS);
	tcase_add_loop_test(tc, cancelled_job_leaves_the_chain_as_it_was, 0,
			    WORKS);
	tcase_add_loop_test(tc, failed_job_leaves_the_chain_as_it_was, 0,
			    WORKS);
	tcase_add_test(tc, stream_does_not_undo_a_write_over_zeroes);
	tcase_add_loop_test(tc, job_waits_for_a_paused_disk_and_goes_on, 0,
			    WORKS);
	tcase_add_loop_test(tc,
			    job_whose_switch_a_pause_took_back_can_be_cancelled,
			    0, WORKS);
	tcase_add_loop_test(tc,
			    job_may_be_destroyed_while_a_pause_holds_the_gate,
			    0, 2 * WORKS);
	tcase_add_loop_test(tc, job_ends_with_its_disk, 0, WORKS);
	tcase_add_test(tc, job_keeps_its_rate_and_its_pause);
	tcase_add_test(tc, job_that_makes_no_sense_is_refused);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
