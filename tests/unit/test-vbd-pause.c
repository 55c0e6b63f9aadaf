/* SPDX-License-Identifier: BSD-3-Clause */
/* Pause, resume and replace. */
#include "vbd-bench.h"

/* ---- pause ---------------------------------------------------------------- */

struct paused {
	uint32_t calls;
	int error;
};

static void paused(void *opaque, int error, const char *message)
{
	struct paused *p = opaque;

	p->calls++;
	p->error = error;
}

START_TEST(pause_closes_the_image_and_resume_lets_requests_go_on)
{
	struct blktap_disk *disk, *other;
	struct paused p = { 0, 0 };
	struct waiting w = { false, 0 };
	unsigned char data[512], back[512];
	struct iovec iov = { data, sizeof(data) };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE,
		.length = sizeof(data),
		.iov = &iov,
		.iov_count = 1,
		.callback = io_done,
		.opaque = &w,
	};
	char spec[128];
	int i;

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	disk = open_disk(spec, 0);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), -EINVAL);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, &p), 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, &p), -EALREADY);
	while (!p.calls)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(p.error, 0);
	memset(data, 9, sizeof(data));
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	for (i = 0; i < 5; i++)
		blktap_context_process(context);
	ck_assert(!w.done);
	other = open_disk(spec, 0); /* nobody has it open */
	blktap_disk_close(other);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	while (!w.done)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(w.error, 0);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, back, 512, 0), 0);
	ck_assert_mem_eq(back, data, 512);
	ck_assert_uint_eq(p.calls, 1);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(resume_that_fails_leaves_the_disk_paused)
{
	struct blktap_disk *disk;
	struct paused p = { 0, 0 };
	struct blktap_error *err = NULL;
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	disk = open_disk(spec, 0);
	blktap_disk_pause(disk, 0, paused, &p);
	while (!p.calls)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(blktap_disk_resume(disk, "raw:/no/such", &err),
			 -ENOENT);
	blktap_error_destroy(err);
	ck_assert_int_eq(blktap_disk_resume(disk, "ram:4k", NULL), -EINVAL);
	ck_assert_int_eq(blktap_disk_resume(disk, "ram:2M", NULL), 0);
	ck_assert_str_eq(blktap_disk_get_spec(disk), "ram:2M");
	blktap_disk_close(disk);
}
END_TEST

START_TEST(replace_swings_to_the_new_image_or_stays_on_the_old_one)
{
	struct blktap_disk *disk;
	struct paused p = { 0, 0 };
	unsigned char data[512] = { 1 };
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	disk = open_disk(spec, 0);
	ck_assert_int_eq(
		blktap_disk_replace(disk, "raw:/no/such", 0, paused, &p), 0);
	while (!p.calls)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(p.error, -ENOENT);
	ck_assert_str_eq(blktap_disk_get_spec(disk), spec);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	ck_assert_int_eq(blktap_disk_replace(disk, "ram:1M", 0, paused, &p), 0);
	while (p.calls < 2)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(p.error, 0);
	ck_assert_str_eq(blktap_disk_get_spec(disk), "ram:1M");
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, data, 512, 0), 0);
	ck_assert_uint_eq(data[0], 0);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(paused_disk_with_waiting_requests_can_be_closed)
{
	struct blktap_disk *disk = open_disk("ram:1M", 0);
	struct paused p = { 0, 0 };
	struct waiting w = { false, 0 };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.length = 4096,
		.callback = io_done,
		.opaque = &w,
	};

	blktap_disk_pause(disk, 0, paused, &p);
	while (!p.calls)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	blktap_disk_close(disk);
	ck_assert(w.done);
	ck_assert_int_eq(w.error, -ESHUTDOWN);
}
END_TEST

START_TEST(requests_that_wait_meet_no_image_they_do_not_fit)
{
	struct blktap_disk *disk = open_disk("ram:1M", 0);
	struct paused p = { 0, 0 };
	struct waiting w = { false, 0 };
	struct blktap_error *err = NULL;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.offset = 3,
		.length = 100,
		.callback = io_done,
		.opaque = &w,
	};
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path); /* has larger blocks */
	blktap_disk_pause(disk, 0, paused, &p);
	while (!p.calls)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	ck_assert_int_eq(blktap_disk_resume(disk, spec, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), spec));
	blktap_error_destroy(err);
	ck_assert(!w.done);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	while (!w.done)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(w.error, 0);
	blktap_disk_close(disk);
}
END_TEST

struct late {
	struct blktap_disk *disk;
	struct waiting first, second;
	unsigned char data[100];
	struct iovec iov;
};

/* The gate is held while the first one ends. */
static void submit_second(void *opaque, int error)
{
	struct late *l = opaque;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE,
		.offset = 3,
		.length = sizeof(l->data),
		.iov = &l->iov,
		.iov_count = 1,
		.callback = io_done,
		.opaque = &l->second,
	};

	io_done(&l->first, error);
	l->iov = (struct iovec){ l->data, sizeof(l->data) };
	ck_assert_int_eq(blktap_disk_submit(l->disk, &io), 0);
}

/* An image whose end is no whole block goes through the page cache, and takes any
 * request; with its new size it could do without, but has larger blocks then. */
START_TEST(requests_that_wait_for_a_resize_are_not_stranded)
{
	struct late l = { .data = { 7 } };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_FLUSH,
		.callback = submit_second,
		.opaque = &l,
	};
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_error *err = NULL;
	unsigned char back[100];
	char spec[128];
	int rc;

	make_file(1000);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	l.disk = open_disk(spec, 0);
	ck_assert_int_eq(blktap_disk_submit(l.disk, &io), 0);
	rc = blktap_disk_resize(l.disk, 1 << 20, 0, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert(l.first.done);
	while (!l.second.done)
		blktap_context_run(context, 1000);
	ck_assert_int_eq(l.second.error, 0);
	blktap_disk_get_info(l.disk, &info);
	ck_assert(!info.paused);
	ck_assert_uint_eq(info.length, 1 << 20);
	ck_assert_int_eq(rw(l.disk, BLKTAP_OP_READ, 3, back, 100, 0), 0);
	ck_assert_mem_eq(back, l.data, 100);
	ck_assert_int_eq(blktap_disk_close(l.disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd-pause");
	TCase *tc = tcase_create("vbd");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc,
		       pause_closes_the_image_and_resume_lets_requests_go_on);
	tcase_add_test(tc, resume_that_fails_leaves_the_disk_paused);
	tcase_add_test(tc,
		       replace_swings_to_the_new_image_or_stays_on_the_old_one);
	tcase_add_test(tc, paused_disk_with_waiting_requests_can_be_closed);
	tcase_add_test(tc, requests_that_wait_meet_no_image_they_do_not_fit);
	tcase_add_test(tc, requests_that_wait_for_a_resize_are_not_stranded);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
