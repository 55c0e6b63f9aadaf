/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring frontend against a module that the test plays. */
#include "fake-ring.h"

#include <sys/epoll.h>

/* ---- what is promised ----------------------------------------------------- */

START_TEST(writes_and_reads_move_slots_of_every_tag_and_queue)
{
	uint32_t q, tag, i;

	serve("ram:4M");
	for (i = 0; i < FAKE_QUEUES * FAKE_DEPTH; i++) {
		q = i / FAKE_DEPTH;
		tag = i % FAKE_DEPTH;
		memset(fake_slot(&fake, q, tag), (int)i + 1, FAKE_SLOT);
		ck_assert_int_eq(run(q, tag, BLKTAP_REQ_WRITE, 0,
				     (uint64_t)i * FAKE_SLOT, FAKE_SLOT),
				 FAKE_SLOT);
		memset(fake_slot(&fake, q, tag), 0xee, FAKE_SLOT);
	}
	for (i = 0; i < FAKE_QUEUES * FAKE_DEPTH; i++) {
		/* Another slot than the one it was written from. */
		q = 1 - i / FAKE_DEPTH;
		tag = FAKE_DEPTH - 1 - i % FAKE_DEPTH;
		ck_assert_int_eq(run(q, tag, BLKTAP_REQ_READ, 0,
				     (uint64_t)i * FAKE_SLOT + 512, 1024),
				 1024);
		ck_assert_int_eq(fake_slot(&fake, q, tag)[0], (int)i + 1);
		ck_assert_int_eq(fake_slot(&fake, q, tag)[1023], (int)i + 1);
		ck_assert_int_eq(fake_slot(&fake, q, tag)[1024], 0xee);
	}
}
END_TEST

START_TEST(one_call_answers_a_whole_batch)
{
	uint32_t i, before;

	serve("ram:4M");
	before = fake.enters;
	for (i = 0; i < FAKE_QUEUES * FAKE_DEPTH; i++) {
		fake_fill(&fake, i / FAKE_DEPTH, i % FAKE_DEPTH,
			  BLKTAP_REQ_READ, (uint64_t)i * 4096, 4096);
		fake_ring(&fake, i / FAKE_DEPTH, i % FAKE_DEPTH);
	}
	turns();
	for (i = 0; i < FAKE_QUEUES * FAKE_DEPTH; i++)
		ck_assert_uint_eq(
			fake.queues[i / FAKE_DEPTH].answers[i % FAKE_DEPTH], 1);
	ck_assert_uint_eq(fake.enters, before + 1);
}
END_TEST

START_TEST(an_answer_has_no_byte_that_is_not_its_own)
{
	struct blktap_cqe *cq = (void *)(fake.map + 1024);
	uint8_t *bytes = (void *)cq;
	size_t i, size = FAKE_ENTRIES * sizeof(*cq);

	ck_assert_uint_eq(sizeof(*cq), sizeof(cq->tag) + sizeof(cq->gen) +
					       sizeof(cq->result) +
					       sizeof(cq->reserved));
	serve("ram:4M");
	memset(bytes, 0xaa, size);
	ck_assert_int_eq(run(0, 1, BLKTAP_REQ_READ, 0, 0, 4096), 4096);
	ck_assert_uint_eq(cq->tag, 1);
	ck_assert_int_eq(cq->result, 4096);
	ck_assert_uint_eq(cq->reserved, 0);
	for (i = sizeof(*cq); i < size; i++)
		ck_assert_uint_eq(bytes[i], 0xaa);
}
END_TEST

static void ask(uint32_t tag)
{
	fake_fill(&fake, 0, tag, BLKTAP_REQ_READ, 0, 4096);
	fake_ring(&fake, 0, tag);
}

static void ask_in_wait(struct fake *f)
{
	ask(0);
}

static void wake_in_wait(struct fake *f)
{
	blktap_context_wake(context);
}

START_TEST(waiting_is_a_call_of_the_ring_that_sees_the_rest_too)
{
	uint32_t i, waits;

	serve("ram:4M");
	/* A request that comes meanwhile ends the wait, */
	fake.in_wait = ask_in_wait;
	for (i = 1; i <= 3; i++) {
		waits = fake.waits;
		while (fake.queues[0].answers[0] < i)
			ck_assert_int_eq(blktap_context_run(context, -1), 0);
		ck_assert_uint_eq(fake.waits, waits + 1);
	}
	/* and so does what is the loop's. */
	fake.in_wait = wake_in_wait;
	waits = fake.waits;
	ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_uint_eq(fake.waits, waits + 1);
}
END_TEST

static void count_ready(struct bt_watch *watch, uint32_t events)
{
	char byte;

	ck_assert_int_eq(read(watch->fd, &byte, 1), 1);
	bt_watch_del(watch);
}

static void answered(uint32_t tag)
{
	uint32_t before = fake.queues[0].answers[tag];

	ask(tag);
	while (fake.queues[0].answers[tag] == before)
		ck_assert_int_eq(blktap_context_run(context, 1000), 0);
}

START_TEST(looks_for_more_are_for_who_has_answered_everything)
{
	serve("ram:4M");
	answered(0);
	ck_assert_uint_eq(fake.looks, 1);
	/* Who must not wait does not look either. */
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_READ, 0, 0, 4096), 4096);
	ck_assert_uint_eq(fake.looks, 1);
	answered(0);
	ck_assert_uint_eq(fake.looks, 2);
}
END_TEST

START_TEST(busy_ring_lets_other_descriptors_have_their_turn)
{
	struct bt_watch watch;
	int fds[2];
	uint32_t i;

	serve("ram:4M");
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(
		bt_watch_add(ring->loop, &watch, fds[0], EPOLLIN, count_ready),
		0);
	ck_assert_int_eq(write(fds[1], "", 1), 1);
	for (i = 0; i < 100 && watch.loop; i++) {
		ask(i % FAKE_DEPTH);
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	}
	ck_assert_ptr_null(watch.loop);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(module_that_cannot_wait_for_the_rest_is_served_by_epoll)
{
	fake.has = BLKTAP_FEATURE_RECOVERY;
	serve("ram:4M");
	ck_assert_uint_eq(fake.features, BLKTAP_FEATURE_RECOVERY);
	ask(0);
	while (!fake.queues[0].answers[0])
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_uint_eq(fake.waits, 0);
}
END_TEST

START_TEST(flush_discard_zeroes_and_fua_are_served)
{
	uint8_t *slot = fake_slot(&fake, 0, 1);

	serve("ram:4M");
	memset(slot, 7, 8192);
	ck_assert_int_eq(run(0, 1, BLKTAP_REQ_WRITE, BLKTAP_REQ_FUA, 0, 8192),
			 8192);
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(
		run(0, 0, BLKTAP_REQ_WRITE_ZEROES, BLKTAP_REQ_NOUNMAP, 0, 4096),
		4096);
	ck_assert_int_eq(run(0, 2, BLKTAP_REQ_DISCARD, 0, 1 << 20, 2 << 20),
			 2 << 20);
	ck_assert_int_eq(run(0, 1, BLKTAP_REQ_READ, 0, 0, 8192), 8192);
	ck_assert_int_eq(slot[0] | slot[4095], 0);
	ck_assert_int_eq(slot[4096] & slot[8191], 7);
}
END_TEST

START_TEST(device_has_what_the_disk_has)
{
	serve("ram:4M");
	ck_assert_uint_eq(fake.create.capacity, 4 * MIB);
	ck_assert_uint_eq(fake.create.logical_block, 512);
	ck_assert_uint_eq(fake.create.flags & BLKTAP_DISK_READ_ONLY, 0);
	ck_assert_uint_ne(fake.create.flags & BLKTAP_DISK_FLUSH, 0);
	ck_assert_uint_ne(fake.create.flags & BLKTAP_DISK_DISCARD, 0);
	ck_assert_uint_ne(fake.create.flags & BLKTAP_DISK_WRITE_ZEROES, 0);
	ck_assert_uint_eq(fake.create.recovery_ms, BLKTAP_RECOVERY_DEFAULT);
	ck_assert_uint_eq(fake.features, BLKTAP_FEATURES);
	ck_assert_str_eq(fake.create.name, "ram:4M");
	ck_assert_str_eq(blktap_ring_get_path(ring),
			 "/dev/xen/blktap-2/tapdev3");
	ck_assert_int_eq(blktap_disk_close(disk), -EBUSY);
}
END_TEST

START_TEST(read_only_use_makes_a_read_only_device)
{
	open_disk("ram:4M");
	ck_assert_int_eq(create_read_only(), 0);
	ck_assert_uint_ne(fake.create.flags & BLKTAP_DISK_READ_ONLY, 0);
	/* A module that sends a write all the same changes nothing. */
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_WRITE, 0, 0, 4096), -EPERM);
}
END_TEST

START_TEST(request_past_the_end_fails_and_hurts_no_other)
{
	serve("ram:4M");
	ck_assert_int_lt(run(0, 0, BLKTAP_REQ_READ, 0, 4 * MIB, 4096), 0);
	ck_assert_int_lt(run(0, 0, BLKTAP_REQ_WRITE, 0, 4 * MIB - 512, 1024),
			 0);
	ck_assert_int_lt(run(0, 0, BLKTAP_REQ_READ, 0, (uint64_t)0 - 512, 4096),
			 0);
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_READ, 0, 0, 4096), 4096);
	ck_assert_int_eq(state(), BLKTAP_RING_SERVING);
}
END_TEST

/* ---- a device that is taken over ------------------------------------------ */

static void leave_device(uint64_t capacity)
{
	fake.state = BLKTAP_STATE_LIVE;
	fake.info.capacity = capacity;
}

START_TEST(heir_answers_what_the_dead_daemon_left)
{
	leave_device(4 * MIB);
	fake_fill(&fake, 1, 4, BLKTAP_REQ_READ, 8192, 4096);
	fake_ring(&fake, 1, 4);
	open_disk("ram:4M");
	fake.attach_errors = 2;
	fake.attach_error = -EAGAIN;
	ck_assert_int_eq(create_ring(NULL), 0);
	ck_assert_uint_eq(fake.attaches, 3);
	ck_assert_uint_eq(fake.creates, 0);
	turns();
	ck_assert_uint_eq(fake.queues[1].answers[4], 1);
	ck_assert_int_eq(fake.queues[1].results[4], 4096);
}
END_TEST

START_TEST(heir_with_a_smaller_image_is_refused_and_the_device_stays)
{
	struct blktap_error *err = NULL;

	leave_device(8 * MIB);
	open_disk("ram:4M");
	ck_assert_int_eq(create_ring(&err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "8388608"));
	blktap_error_destroy(err);
	ck_assert_uint_eq(fake.removes, 0);
	ck_assert_uint_eq(fake.closes, 1);
}
END_TEST

START_TEST(heir_that_cannot_write_is_refused)
{
	leave_device(4 * MIB);
	open_disk("ram:4M");
	ck_assert_int_eq(create_read_only(), -EROFS);
	ck_assert_uint_eq(fake.removes, 0);
}
END_TEST

START_TEST(larger_image_resizes_the_device_taken_over)
{
	leave_device(2 * MIB);
	serve("ram:4M");
	ck_assert_uint_eq(fake.resizes, 1);
	ck_assert_uint_eq(fake.resize.capacity, 4 * MIB);
}
END_TEST

START_TEST(failed_device_is_refused_with_what_to_do)
{
	struct blktap_error *err = NULL;

	fake.state = BLKTAP_STATE_FAILED;
	fake.attach_errors = 1000;
	fake.attach_error = -ESHUTDOWN;
	open_disk("ram:4M");
	ck_assert_int_eq(create_ring(&err), -ESHUTDOWN);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_hint(err), "free"));
	blktap_error_destroy(err);
	ck_assert_uint_eq(fake.attaches, 1);
}
END_TEST

/* A callback of the close may come to it. */
START_TEST(disk_that_is_being_closed_gets_no_device)
{
	struct blktap_error *err = NULL;

	open_disk("ram:4M");
	bt_vbd_shut(disk);
	ck_assert_int_eq(create_ring(&err), -ESHUTDOWN);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "closed"));
	blktap_error_destroy(err);
	ck_assert_uint_eq(fake.attaches, 0);
}
END_TEST

START_TEST(handover_answers_what_is_out_and_leaves_the_device)
{
	serve("ram:4M");
	fake_fill(&fake, 0, 0, BLKTAP_REQ_READ, 0, 4096);
	fake_ring(&fake, 0, 0);
	ck_assert_int_eq(blktap_context_process(context), 0);
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_KEEP), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.queues[0].answers[0], 1);
	ck_assert_uint_eq(fake.removes, 0);
	ck_assert_uint_eq(fake.closes, 1);
}
END_TEST

START_TEST(handover_of_a_paused_disk_leaves_its_requests_to_the_heir)
{
	serve("ram:4M");
	pause_disk();
	fake_fill(&fake, 0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	fake_ring(&fake, 0, 0);
	turns();
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_KEEP), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
}
END_TEST

START_TEST(writes_are_to_outlive_the_process_while_another_may_come)
{
	serve("ram:4M");
	ck_assert(bt_vbd_get_outlive(disk));
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_FORCE), 0);
	ring = NULL;
	ck_assert(!bt_vbd_get_outlive(disk));
}
END_TEST

/* Two devices, of which one has no heir, or goes: the other's users were promised it. */
START_TEST(writes_outlive_the_process_as_long_as_any_device_of_the_disk)
{
	struct blktap_ring_options options;
	struct blktap_ring *other;
	struct fake second;

	serve("ram:4M");
	fake_init(&second);
	second.info.recovery_ms = _i ? 30000 : 0;
	blktap_ring_options_init(&options);
	options.minor = 4;
	ck_assert_int_eq(bt_ring_create_on(disk, &options, &fake_ops, &second,
					   &other, NULL),
			 0);
	ck_assert(bt_vbd_get_outlive(disk));
	ck_assert_int_eq(blktap_ring_destroy(other, BLKTAP_RING_END_FORCE), 0);
	fake_fini(&second);
	ck_assert(bt_vbd_get_outlive(disk));
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_FORCE), 0);
	ring = NULL;
	ck_assert(!bt_vbd_get_outlive(disk));
}
END_TEST

START_TEST(handover_is_refused_where_requests_would_fail)
{
	fake.info.recovery_ms = 0;
	serve("ram:4M");
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_KEEP),
			 -ENOTSUP);
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_READ, 0, 0, 4096), 4096);
	ck_assert(!bt_vbd_get_outlive(disk));
}
END_TEST

/* ---- its life ------------------------------------------------------------- */

START_TEST(resumed_disk_that_grew_resizes_the_device)
{
	char spec[80];
	int fd;

	strcpy(path, "/var/tmp/blktap-ring-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_eq(ftruncate(fd, MIB), 0);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	open_disk(spec);
	ck_assert_int_eq(create_ring(NULL), 0);
	pause_disk();
	ck_assert_int_eq(ftruncate(fd, 2 * MIB), 0);
	close(fd);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	ck_assert_uint_eq(fake.resizes, 1);
	ck_assert_uint_eq(fake.resize.capacity, 2 * MIB);
}
END_TEST

START_TEST(device_in_use_is_not_taken_away_unless_forced)
{
	serve("ram:4M");
	fake.openers = 1000;
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_UNUSED),
			 -EBUSY);
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_READ, 0, 0, 4096), 4096);
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_FORCE), 0);
	ring = NULL;
}
END_TEST

START_TEST(device_that_is_looked_at_for_a_moment_is_taken_away)
{
	serve("ram:4M");
	fake.openers = 2;
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_UNUSED), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.removes, 3);
}
END_TEST

START_TEST(device_removed_by_somebody_is_noticed_and_costs_no_turns)
{
	serve("ram:4M");
	fake_hang_up(&fake);
	turns();
	ck_assert_int_eq(state(), BLKTAP_RING_REMOVED);
	ck_assert_int_eq(blktap_context_get_timeout(context), -1);
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_UNUSED), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.removes, 0);
}
END_TEST

START_TEST(device_failed_by_the_module_is_noticed_and_can_be_ended)
{
	serve("ram:4M");
	fake.enter_error = -ESHUTDOWN;
	fake_fill(&fake, 0, 0, BLKTAP_REQ_READ, 0, 4096);
	fake_ring(&fake, 0, 0);
	turns();
	ck_assert_int_eq(state(), BLKTAP_RING_FAILED);
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_UNUSED), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.closes, 1);
}
END_TEST

START_TEST(failed_creation_leaves_nothing)
{
	open_disk("ram:4M");
	fake.create_error = -E2BIG;
	ck_assert_int_eq(create_ring(NULL), -E2BIG);
	ck_assert_uint_eq(fake.closes, 1);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(options_are_checked)
{
	struct blktap_ring_options options;

	open_disk("ram:4M");
	blktap_ring_options_init(&options);
	ck_assert_int_eq(create_with(&options, NULL), -EINVAL);
	ck_assert_int_eq(create_with(NULL, NULL), -EINVAL);
	ck_assert_uint_eq(fake.attaches, 0);
	close(fake.fds[0]);
}
END_TEST

/* Its context goes first: the ring is ended with it. */
START_TEST(context_that_ends_takes_its_rings_along)
{
	serve("ram:4M");
	blktap_context_destroy(context);
	ring = NULL;
	ck_assert_uint_eq(fake.removes, 1);
	ck_assert_uint_eq(fake.closes, 1);
	ck_assert_int_eq(blktap_context_create(NULL, &context, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring");
	TCase *tc = tcase_create("ring");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, writes_and_reads_move_slots_of_every_tag_and_queue);
	tcase_add_test(tc, one_call_answers_a_whole_batch);
	tcase_add_test(tc, an_answer_has_no_byte_that_is_not_its_own);
	tcase_add_test(tc,
		       waiting_is_a_call_of_the_ring_that_sees_the_rest_too);
	tcase_add_test(tc, looks_for_more_are_for_who_has_answered_everything);
	tcase_add_test(tc, busy_ring_lets_other_descriptors_have_their_turn);
	tcase_add_test(tc,
		       module_that_cannot_wait_for_the_rest_is_served_by_epoll);
	tcase_add_test(tc, flush_discard_zeroes_and_fua_are_served);
	tcase_add_test(tc, device_has_what_the_disk_has);
	tcase_add_test(tc, read_only_use_makes_a_read_only_device);
	tcase_add_test(tc, request_past_the_end_fails_and_hurts_no_other);
	tcase_add_test(tc, heir_answers_what_the_dead_daemon_left);
	tcase_add_test(
		tc, heir_with_a_smaller_image_is_refused_and_the_device_stays);
	tcase_add_test(tc, heir_that_cannot_write_is_refused);
	tcase_add_test(tc, larger_image_resizes_the_device_taken_over);
	tcase_add_test(tc, failed_device_is_refused_with_what_to_do);
	tcase_add_test(tc, disk_that_is_being_closed_gets_no_device);
	tcase_add_test(tc, handover_answers_what_is_out_and_leaves_the_device);
	tcase_add_test(
		tc, handover_of_a_paused_disk_leaves_its_requests_to_the_heir);
	tcase_add_test(
		tc, writes_are_to_outlive_the_process_while_another_may_come);
	tcase_add_loop_test(
		tc,
		writes_outlive_the_process_as_long_as_any_device_of_the_disk, 0,
		2);
	tcase_add_test(tc, handover_is_refused_where_requests_would_fail);
	tcase_add_test(tc, resumed_disk_that_grew_resizes_the_device);
	tcase_add_test(tc, device_in_use_is_not_taken_away_unless_forced);
	tcase_add_test(tc, device_that_is_looked_at_for_a_moment_is_taken_away);
	tcase_add_test(
		tc, device_removed_by_somebody_is_noticed_and_costs_no_turns);
	tcase_add_test(tc,
		       device_failed_by_the_module_is_noticed_and_can_be_ended);
	tcase_add_test(tc, failed_creation_leaves_nothing);
	tcase_add_test(tc, options_are_checked);
	tcase_add_test(tc, context_that_ends_takes_its_rings_along);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
