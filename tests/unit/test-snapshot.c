/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of a snapshot, and when they are on disk. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct blktap_context *context;
static char dir[64], path[96], other[96];
static char story[4096]; /* of directories and names: what happened to them */
static int renames_left = -1; /* before names and directories fail; -1: never */

static void note(const char *what, const char *name)
{
	const char *slash = strrchr(name, '/');
	size_t n = strlen(story);

	snprintf(story + n, sizeof(story) - n, "%s %s, ", what,
		 slash ? slash + 1 : name);
}

/* In place of the C library's. */
int fsync(int fd)
{
	char link[64], name[256];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof(name) - 1);
	if (!fstat(fd, &st) && S_ISDIR(st.st_mode) && n > 0) {
		name[n] = '\0';
		note("sync", name);
		if (!renames_left) {
			errno = EIO;
			return -1;
		}
	}
	return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
	note("rename", to);
	if (!renames_left) {
		errno = EROFS;
		return -1;
	}
	renames_left -= renames_left > 0;
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int link(const char *from, const char *to)
{
	note("link", to);
	return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void setup(void)
{
	struct blktap_context_options options = {
		.size = sizeof(options),
		.engine = BLKTAP_ENGINE_SYNC,
	};
	struct blktap_image_options o;

	snprintf(dir, sizeof(dir), "/var/tmp/blktap-snap-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/disk", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	blktap_image_options_init(&o);
	o.length = 1 << 20;
	ck_assert_int_eq(blktap_image_create("qcow2", path, &o, NULL), 0);
	*story = '\0';
}

static void teardown(void)
{
	char command[96];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *find(const char *from, const char *event)
{
	const char *at = strstr(from, event);

	ck_assert_msg(at != NULL, "no '%s' in: %s", event, from);
	return at;
}

static void take(const char *name)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char spec[128];
	int rc;

	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	rc = blktap_disk_snapshot(disk, name, 0, NULL, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

/* Until then the data has its old name as well. */
START_TEST(the_name_of_the_data_is_on_disk_before_the_child_takes_its_place)
{
	char name[128];
	const char *at;

	snprintf(name, sizeof(name), "%s/before", other);
	take(name);
	at = find(story, "link before");
	at = find(at, "sync other");
	at = find(at, "rename disk");
	find(at, "sync blktap-snap");
}
END_TEST

START_TEST(a_name_beside_the_image_is_on_disk_with_it)
{
	const char *at;

	take("before");
	at = find(story, "link before");
	at = find(at, "sync blktap-snap");
	at = find(at, "rename disk");
	find(at, "sync blktap-snap");
}
END_TEST

struct inside {
	struct blktap_disk *disk;
	bool done;
};

static void refuse(int rc, struct blktap_error *err)
{
	ck_assert_int_eq(rc, -EDEADLK);
	ck_assert_ptr_nonnull(err);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "callback"));
	blktap_error_destroy(err);
}

static void from_inside(void *opaque, int error)
{
	struct blktap_error *err = NULL;
	struct inside *in = opaque;
	int rc;

	rc = blktap_disk_snapshot(in->disk, NULL, 0, NULL, &err);
	refuse(rc, err);
	err = NULL;
	rc = blktap_disk_resize(in->disk, 2 << 20, 0, &err);
	refuse(rc, err);
	in->done = true;
}

static void on_event(void *opaque, struct blktap_disk *disk,
		     const struct blktap_event *event)
{
	(void)opaque;
	(void)disk;
	if (event->type == BLKTAP_EVENT_CHANGED)
		note("event", event->text);
}

START_TEST(whoever_watches_the_disk_is_told_of_snapshots_and_jobs)
{
	struct blktap_job_options options;
	struct blktap_disk *disk;
	struct blktap_job *job;
	char spec[128];

	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	blktap_disk_set_event(disk, on_event, NULL, NULL);
	ck_assert_int_eq(blktap_disk_snapshot(disk, NULL, 0, NULL, NULL), 0);
	find(find(story, "rename disk"), "event disk.snap1");
	blktap_job_options_init(&options);
	ck_assert_int_eq(
		blktap_job_start(disk, &options, NULL, NULL, &job, NULL), 0);
	ck_assert_int_eq(blktap_job_wait(job, -1), 0);
	find(story, "event job ended: stream: 0 bytes copied");
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_waits_is_refused_in_a_callback_and_says_so)
{
	struct inside in = { .done = false };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.length = 512,
		.callback = from_inside,
		.opaque = &in,
	};
	char spec[128];

	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &in.disk, NULL),
			 0);
	ck_assert_int_eq(blktap_disk_submit(in.disk, &io), 0);
	while (!in.done)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(blktap_disk_close(in.disk), 0);
}
END_TEST

static void expect_stale(struct blktap_disk *disk, const char *words)
{
	struct blktap_job_options options;
	struct blktap_error *err = NULL;
	struct blktap_job *job = NULL;

	ck_assert_int_eq(blktap_disk_snapshot(disk, NULL, 0, NULL, &err),
			 -ESTALE);
	ck_assert_msg(strstr(blktap_error_get_message(err), words) != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	ck_assert_int_eq(blktap_disk_resize(disk, 2 << 20, 0, NULL), -ESTALE);
	blktap_job_options_init(&options);
	options.kind = BLKTAP_JOB_COMMIT;
	ck_assert_int_eq(
		blktap_job_start(disk, &options, NULL, NULL, &job, NULL), 0);
	ck_assert_int_eq(blktap_job_wait(job, -1), -ESTALE);
	ck_assert_int_eq(blktap_job_destroy(job), 0);
}

/* The disk runs on the file that it opened: what goes by the name must not be done
 * to another one. */
START_TEST(a_name_that_leads_to_another_file_is_refused)
{
	struct blktap_image_options o;
	char spec[128], away[128], name[128];
	struct blktap_disk *disk;
	struct stat st, now;

	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	snprintf(away, sizeof(away), "%s/away", dir);
	snprintf(name, sizeof(name), "%s.snap2", path);
	take(NULL); /* a chain, so that there is something to commit */
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	ck_assert_int_eq(rename(path, away), 0);
	expect_stale(disk, "moved or removed");
	blktap_image_options_init(&o);
	o.length = 1 << 20;
	ck_assert_int_eq(blktap_image_create("qcow2", path, &o, NULL), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	expect_stale(disk, "is not the file that is in use");
	ck_assert_int_eq(stat(path, &now), 0);
	ck_assert(now.st_ino == st.st_ino && now.st_size == st.st_size);
	ck_assert_int_lt(access(name, F_OK), 0);
	ck_assert_int_eq(rename(away, path), 0);
	ck_assert_int_eq(blktap_disk_snapshot(disk, NULL, 0, NULL, NULL), 0);
	ck_assert_int_eq(blktap_disk_resize(disk, 2 << 20, 0, NULL), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* The child has the disk's name already when its directory cannot be synced, and the
 * file system takes no change any more: nothing is lost, and who looks for his data is
 * told where it is. */
START_TEST(a_snapshot_that_cannot_be_undone_says_where_the_data_is)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char spec[128];

	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	renames_left = 1;
	ck_assert_int_eq(blktap_disk_snapshot(disk, "kept", 0, NULL, &err),
			 -EIO);
	ck_assert_msg(
		strstr(blktap_error_get_message(err), "its data is in ") !=
				NULL &&
			strstr(blktap_error_get_message(err), "/kept ") != NULL,
		"%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	renames_left = -1;
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, NULL), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- while it is taken --------------------------------------------------------- */

/* Reads one after another, and at the one that is asked for, something else. */
static struct during {
	struct blktap_disk *disk;
	struct blktap_io io;
	struct iovec iov;
	uint32_t reads, at;
	bool over; /* the snapshot has returned */
	bool done; /* so has the last read */
	void (*what)(void);
	int rc;
	uint32_t pauses;
	bool resumes;
} during;

static void read_on(void *opaque, int error)
{
	(void)opaque;
	ck_assert_int_eq(error, 0);
	if (during.reads++ == during.at && !during.over)
		during.what();
	during.done = during.over;
	if (!during.done)
		ck_assert_int_eq(blktap_disk_submit(during.disk, &during.io),
				 0);
}

static void when_paused(void *opaque, int error, const char *message)
{
	(void)opaque;
	(void)message;
	ck_assert_int_eq(error, 0);
	during.pauses++;
	if (during.resumes)
		ck_assert_int_eq(blktap_disk_resume(during.disk, NULL, NULL),
				 0);
}

static void pause_it(void)
{
	during.rc = blktap_disk_pause(during.disk, 0, when_paused, NULL);
}

static void begin_a_job(void)
{
	struct blktap_job_options options;
	struct blktap_job *job;

	blktap_job_options_init(&options);
	options.kind = BLKTAP_JOB_COALESCE;
	during.rc =
		blktap_job_start(during.disk, &options, NULL, NULL, &job, NULL);
}

static int put(enum blktap_op op, unsigned char *data)
{
	struct iovec iov = { data, 512 };
	struct blktap_io io = { .size = sizeof(io),
				.op = op,
				.length = 512,
				.iov = &iov,
				.iov_count = 1 };
	struct blktap_io_result result;

	ck_assert_int_eq(blktap_disk_submit(during.disk, &io), 0);
	while (!blktap_disk_poll(during.disk, &result, 1))
		blktap_context_run(context, 1000);
	return result.error;
}

/* Of a new image that stands on another two. */
static void make_chain(uint32_t at)
{
	struct blktap_image_options o;

	blktap_image_options_init(&o);
	o.length = 1 << 20;
	snprintf(path, sizeof(path), "%s/disk%u", dir, at);
	ck_assert_int_eq(blktap_image_create("qcow2", path, &o, NULL), 0);
	take(NULL);
	take(NULL);
}

/* A snapshot in the middle of which `what` is done, at the at-th read; false where
 * it was over before. */
static bool take_during(uint32_t at, void (*what)(void))
{
	static unsigned char data[512];
	unsigned char back[512];
	char spec[128];

	make_chain(at);
	memset(&during, 0, sizeof(during));
	during.at = at;
	during.what = what;
	during.rc = 1;
	during.iov = (struct iovec){ back, 512 };
	during.io = (struct blktap_io){ .size = sizeof(during.io),
					.op = BLKTAP_OP_READ,
					.length = 512,
					.iov = &during.iov,
					.iov_count = 1,
					.callback = read_on };
	snprintf(spec, sizeof(spec), "qcow2:%s", path);
	ck_assert_int_eq(
		blktap_disk_open(context, spec, NULL, &during.disk, NULL), 0);
	data[0]++;
	ck_assert_int_eq(put(BLKTAP_OP_WRITE, data), 0);
	ck_assert_int_eq(blktap_disk_submit(during.disk, &during.io), 0);
	ck_assert_int_eq(blktap_disk_snapshot(during.disk, NULL, 0, NULL, NULL),
			 0);
	during.over = true;
	if (what == pause_it && !during.rc && !during.resumes) {
		while (!during.pauses)
			blktap_context_run(context, 1000);
		ck_assert_int_eq(blktap_disk_resume(during.disk, NULL, NULL),
				 0);
	}
	while (!during.done)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(put(BLKTAP_OP_READ, back), 0);
	ck_assert_uint_eq(back[0], data[0]);
	return during.rc <= 0;
}

static void close_during(void)
{
	ck_assert_int_eq(blktap_disk_close(during.disk), 0);
}

static void take_while(void (*what)(void))
{
	uint32_t at = 0;

	while (take_during(at, what)) {
		ck_assert_int_eq(during.rc, 0);
		ck_assert_uint_eq(during.pauses, 1);
		close_during();
		at++;
	}
	close_during();
	ck_assert_uint_gt(at, 1);
}

/* Who paused it may resume it only when the snapshot has returned. */
START_TEST(a_pause_at_any_moment_of_a_snapshot_does_not_stop_it)
{
	take_while(pause_it);
}
END_TEST

static void pause_and_resume(void)
{
	during.resumes = true;
	pause_it();
}

START_TEST(a_pause_and_resume_at_any_moment_of_a_snapshot_harm_nothing)
{
	take_while(pause_and_resume);
}
END_TEST

START_TEST(no_job_begins_at_any_moment_of_a_snapshot)
{
	uint32_t at = 0;

	while (take_during(at, begin_a_job)) {
		ck_assert_int_eq(during.rc, -EBUSY);
		close_during();
		at++;
	}
	close_during();
	ck_assert_uint_gt(at, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, 60); /* disks with slow syncs */
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc,
		the_name_of_the_data_is_on_disk_before_the_child_takes_its_place);
	tcase_add_test(tc, a_name_beside_the_image_is_on_disk_with_it);
	tcase_add_test(tc,
		       whoever_watches_the_disk_is_told_of_snapshots_and_jobs);
	tcase_add_test(tc, what_waits_is_refused_in_a_callback_and_says_so);
	tcase_add_test(tc, a_name_that_leads_to_another_file_is_refused);
	tcase_add_test(tc,
		       a_snapshot_that_cannot_be_undone_says_where_the_data_is);
	tcase_add_test(tc,
		       a_pause_at_any_moment_of_a_snapshot_does_not_stop_it);
	tcase_add_test(
		tc,
		a_pause_and_resume_at_any_moment_of_a_snapshot_harm_nothing);
	tcase_add_test(tc, no_job_begins_at_any_moment_of_a_snapshot);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
