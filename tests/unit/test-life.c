/* SPDX-License-Identifier: BSD-3-Clause */
/* All that may happen to a disk in use, in any order and at any moment: snapshots,
 * jobs of each kind, their pause and their end, pauses of the disk, closing. A client
 * writes all the while, and a flat array knows what the disk has to hold.
 * BLKTAP_SEED repeats a run. */
#include "life.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "seed.h"
#include "vbd/job.h"
#include "vbd/vbd.h"

#define SIZE (1u << 20)
#define STEPS 200u
#define MOST (2 * SIZE) /* after it was resized */

static const char *const formats[][2] = {
	{ "raw", "qcow2" }, { "qcow2", "qcow2" }, { "raw", "vhd" },
	{ "vhd", "vhd" },   { "raw", "qcow" },
};
#define FORMATS (sizeof(formats) / sizeof(*formats))

static struct blktap_job *job;
static char dir[64];

static void setup(void)
{
	faulty_reset();
	snprintf(dir, sizeof(dir), "%s/blktap-life-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_MONOTONIC,
					      &faulty_backend, &context),
			 0);
	job = NULL;
	pausing = false;
}

static void teardown(void)
{
	char command[96];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void open_disk(const char *spec)
{
	struct blktap_error *err = NULL;
	int rc = blktap_disk_open(context, spec, NULL, &m.disk, &err);

	ck_assert_msg(!rc, "%s: %s", spec,
		      err ? blktap_error_get_message(err) : "");
}

static void make_chain(const char *const *types)
{
	struct blktap_image_options o;
	char path[96], spec[128];
	uint32_t n;

	for (n = 0; n < 2; n++) {
		blktap_image_options_init(&o);
		o.length = SIZE;
		o.backing = n ? "i0" : NULL;
		o.backing_format = n ? types[0] : NULL;
		snprintf(path, sizeof(path), "%s/i%u", dir, n);
		ck_assert_int_eq(blktap_image_create(types[n], path, &o, NULL),
				 0);
		snprintf(spec, sizeof(spec), "%s:%s", types[n], path);
		open_disk(spec);
		model_run(&m, 8);
		if (!n)
			ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	}
}

/* ---- what happens ---------------------------------------------------------- */

static void remove_committed(void)
{
	char pattern[96];
	glob_t found;
	size_t i;

	snprintf(pattern, sizeof(pattern), "%s/*.committed", dir);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (i = 0; i < found.gl_pathc; i++)
		unlink(found.gl_pathv[i]);
	globfree(&found);
}

static void end_job(void)
{
	if (job && !blktap_job_destroy(job))
		job = NULL;
}

static void ended(void *opaque, int error, const char *message)
{
	(void)opaque;
	ck_assert_msg(!error || error == -ECANCELED || error == -EIO ||
			      error == -ENOSPC,
		      "%s", message);
}

static void start_job(void)
{
	struct blktap_job_options o;
	struct bt_node *node = m.disk->root;
	uint64_t n = model_random(&m, 4);
	struct blktap_error *err = NULL;

	end_job();
	if (job || pausing)
		return;
	remove_committed();
	blktap_job_options_init(&o);
	o.kind = (enum blktap_job_kind)model_random(&m, 3);
	o.chunk = 64u << 10;
	o.rate =
		model_random(&m, 2) ? 0 : 32u << 20; /* clients get a word in */
	while (n-- && node->port_count && node->ports[0].lower)
		node = node->ports[0].lower;
	if (node != m.disk->root)
		o.base = bt_node_path(node);
	if (blktap_job_start(m.disk, &o, ended, NULL, &job, &err) < 0)
		job = NULL;
	blktap_error_destroy(err);
}

static void change_job(void)
{
	switch (model_random(&m, 6)) {
	case 0:
		blktap_job_cancel(job);
		break;
	case 1:
	case 2:
		blktap_job_pause(job);
		break;
	default:
		blktap_job_resume(job);
		break;
	}
}

static void snapshot(void)
{
	struct blktap_error *err = NULL;
	int rc;

	if (pausing || job)
		return;
	rc = blktap_disk_snapshot(m.disk, NULL, 0, NULL, &err);
	ck_assert_msg(!rc || rc == -EALREADY || rc == -EIO || rc == -ENOSPC ||
			      rc == -ENOTSUP,
		      "%s", err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
}

/* A size that failed half way may be there already; what is new is zeroes. */
static void resize(void)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	uint64_t size = m.size + 4096 * (1 + model_random(&m, 64));
	struct blktap_error *err = NULL;
	int rc;

	if (pausing || job || size > MOST)
		return;
	rc = blktap_disk_resize(m.disk, size, 0, &err);
	ck_assert_msg(!rc || rc == -EIO || rc == -ENOSPC || rc == -ENOTSUP,
		      "%s", err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	blktap_disk_get_info(m.disk, &info);
	ck_assert(!info.paused);
	if (rc)
		ck_assert_uint_ge(info.length, m.size);
	else
		ck_assert_uint_ge(info.length, size);
	m.size = info.length;
}

static void reopen(void)
{
	char spec[128];

	end_pause(NULL);
	model_wait(&m);
	calm();
	/* a commit that is past its last step gives the disk another name */
	if (job) {
		blktap_job_cancel(job);
		blktap_job_wait(job, -1);
		end_job();
	}
	snprintf(spec, sizeof(spec), "%s", blktap_disk_get_spec(m.disk));
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	open_disk(spec);
	model_verify(&m);
}

static void step(void)
{
	uint64_t n = model_random(&m, 100);

	end_job();
	if (n < 55)
		model_begin(&m);
	else if (n < 60)
		pass_time();
	else if (n < 78)
		turn(model_random(&m, 30));
	else if (n < 84)
		start_job();
	else if (n < 89 && job)
		change_job();
	else if (n < 95)
		toggle_pause(NULL);
	else if (n < 97)
		snapshot();
	else if (n < 98)
		make_trouble(model_random(&m, 10));
	else if (n < 99)
		resize();
	else
		reopen();
}

START_TEST(a_disk_outlives_all_that_happens_to_it)
{
	uint32_t n;

	model_init(&m, context, MOST, 4096, seed_take());
	m.size = SIZE;
	m.may_fail = true;
	make_chain(formats[_i]);
	for (n = 0; n < seed_rounds(STEPS); n++)
		step();
	end_pause(NULL);
	calm();
	model_run(&m, 20);
	reopen();
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	model_fini(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("life");
	TCase *tc = tcase_create("life");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, a_disk_outlives_all_that_happens_to_it, 0,
			    FORMATS);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
