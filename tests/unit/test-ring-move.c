/* SPDX-License-Identifier: BSD-3-Clause */
/* Data that the module carries past the slots, and every way in which that fails. */
#include "vbd/private.h"

#include "fake-ring.h"

static char spec[128];
static int file = -1;

/* 4 MiB, each block of 512 bytes full of its number. */
static void make_file(const char *where)
{
	uint8_t block[512];
	int i;

	snprintf(path, sizeof(path), "%s/blktap-move-XXXXXX", where);
	file = mkstemp(path);
	ck_assert_int_ge(file, 0);
	for (i = 0; i < 8192; i++) {
		memset(block, i, sizeof(block));
		ck_assert_int_eq(write(file, block, 512), 512);
	}
	snprintf(spec, sizeof(spec), "raw:%s", path);
}

static void serve_file(void)
{
	make_file("/dev/shm");
	serve(spec);
	/* what the disk is like is looked at with the first request */
	ck_assert_int_eq(run(0, 7, BLKTAP_REQ_FLUSH, 0, 0, 0), 0);
}

static void close_file(void)
{
	if (file >= 0)
		close(file);
	file = -1;
	teardown();
}

/* A request whose data, its own or what will be there, is its caller's. */
static void ask(uint32_t q, uint32_t tag, uint8_t op, uint64_t offset,
		uint32_t bytes)
{
	struct blktap_desc *d = fake_fill(&fake, q, tag, op, offset, bytes);

	if (op == BLKTAP_REQ_WRITE && fake.defers)
		d->flags = BLKTAP_REQ_DEFERRED;
	memset(fake_slot(&fake, q, tag), 0xee, FAKE_SLOT);
	memset(fake_caller(&fake, q, tag), op == BLKTAP_REQ_WRITE ? 0x77 : 0,
	       FAKE_SLOT);
	fake.queues[q].answers[tag] = 0;
	fake_ring(&fake, q, tag);
}

static int32_t answer(uint32_t q, uint32_t tag)
{
	int i;

	for (i = 0; i < 50 && !fake.queues[q].answers[tag]; i++)
		turns();
	ck_assert_uint_eq(fake.queues[q].answers[tag], 1);
	return fake.queues[q].results[tag];
}

static bool is_all(const uint8_t *at, int byte, size_t n)
{
	while (n && *at == (uint8_t)byte) {
		at++;
		n--;
	}
	return !n;
}

static void check_file(uint64_t offset, int byte, size_t n)
{
	uint8_t *at = malloc(n);

	ck_assert_int_eq(pread(file, at, n, (off_t)offset), (ssize_t)n);
	ck_assert(is_all(at, byte, n));
	free(at);
}

/* ---- what is promised ----------------------------------------------------- */

START_TEST(reads_and_writes_of_a_file_in_memory_leave_the_slots_alone)
{
	uint32_t tag;

	serve_file();
	ck_assert(fake.defers);
	for (tag = 0; tag < 4; tag++)
		ask(0, tag, BLKTAP_REQ_READ, 512 * (tag + 5), 512);
	ask(1, 0, BLKTAP_REQ_WRITE, 1 << 20, FAKE_SLOT);
	for (tag = 0; tag < 4; tag++) {
		ck_assert_int_eq(answer(0, tag), 512);
		ck_assert(
			is_all(fake_caller(&fake, 0, tag), (int)tag + 5, 512));
		ck_assert(is_all(fake_slot(&fake, 0, tag), 0xee, FAKE_SLOT));
	}
	ck_assert_int_eq(answer(1, 0), FAKE_SLOT);
	ck_assert(is_all(fake_slot(&fake, 1, 0), 0xee, FAKE_SLOT));
	check_file(1 << 20, 0x77, FAKE_SLOT);
	check_file((1 << 20) + FAKE_SLOT, (2048 + 128) & 255, 512);
	ck_assert_uint_eq(fake.moves, 5);
	ck_assert_uint_eq(fake.fetches, 0);
}
END_TEST

START_TEST(a_small_read_alone_is_not_worth_a_call)
{
	serve_file();
	ask(0, 0, BLKTAP_REQ_READ, 512, 4096);
	ck_assert_int_eq(answer(0, 0), 4096);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[0], 1);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[4095], 8);
	ck_assert_uint_eq(fake.moves, 0);
	ask(0, 0, BLKTAP_REQ_READ, 0, FAKE_SLOT);
	ck_assert_int_eq(answer(0, 0), FAKE_SLOT);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[FAKE_SLOT - 1], 127);
	ck_assert_uint_eq(fake.moves, 1);
}
END_TEST

/* No place, an error, a part: each is what the file itself says in the end. */
static const int results[] = { -ENOSPC, -EIO, -EBADF, -EINVAL, -EAGAIN,
			       -EINTR,	0,    512,    4095 };

START_TEST(what_cannot_be_moved_goes_by_the_slot)
{
	serve_file();
	fake.move_result = results[_i];
	if (!results[_i])
		fake.move_error = -ENOMEM; /* of the call, not of one */
	ask(0, 0, BLKTAP_REQ_READ, 0, FAKE_SLOT);
	ck_assert_int_eq(answer(0, 0), FAKE_SLOT);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[512], 1);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[FAKE_SLOT - 1], 127);
	fake.move_error = 0;
	ask(0, 1, BLKTAP_REQ_WRITE, 4096, FAKE_SLOT);
	ck_assert_int_eq(answer(0, 1), FAKE_SLOT);
	check_file(4096, 0x77, FAKE_SLOT);
	ck_assert_uint_eq(fake.fetches, results[_i] ? 1 : 0);
}
END_TEST

/* What lies in the slot is an older request's: it must not get into the file. */
static const int fetch_errors[] = { -EIO, -EAGAIN, -EINTR, -ENODEV, 512 };

START_TEST(a_write_without_data_fails_and_writes_nothing)
{
	serve_file();
	fake.move_result = -EIO;
	fake.fetch_error = fetch_errors[_i];
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	ck_assert_int_eq(answer(0, 0), -EIO);
	check_file(0, 0, 512);
	check_file(512, 1, 512);
}
END_TEST

/* A write whose data could not be had: it waits for another try. */
static void park_write(void)
{
	serve("ram:4M");
	fake.defers = true;
	fake.move_error = -EBUSY;
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	turns();
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
}

/* What could not be had is asked for again. */
START_TEST(a_write_that_is_tried_again_has_its_data_then)
{
	int i;

	park_write();
	fake.move_error = 0;
	for (i = 0; i < 2000 && !fake.queues[0].answers[0]; i++) {
		usleep(1000);
		turns();
	}
	ck_assert_int_eq(answer(0, 0), 4096);
	ck_assert_uint_eq(fake.fetches, 1);
	ask(0, 1, BLKTAP_REQ_READ, 0, 4096);
	ck_assert_int_eq(answer(0, 1), 4096);
	ck_assert(is_all(fake_caller(&fake, 0, 1), 0x77, 4096));
}
END_TEST

/* There is nothing more durable than a file in memory. */
START_TEST(fua_is_moved_too)
{
	serve_file();
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	fake_desc(&fake, 0, 0)->flags |= BLKTAP_REQ_FUA;
	ck_assert_int_eq(answer(0, 0), 4096);
	check_file(0, 0x77, 4096);
	ck_assert_uint_eq(fake.moves, 1);
	ck_assert_uint_eq(fake.fetches, 0);
}
END_TEST

START_TEST(a_flush_covers_what_was_moved)
{
	serve_file();
	ck_assert(bt_port_is_flushed(&disk->top));
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	ck_assert_int_eq(answer(0, 0), 4096);
	ck_assert_uint_eq(fake.moves, 1);
	ck_assert(!bt_port_is_flushed(&disk->top));
	ck_assert_int_eq(run(0, 1, BLKTAP_REQ_FLUSH, 0, 0, 0), 0);
	ck_assert(bt_port_is_flushed(&disk->top));
}
END_TEST

static void not_granted(struct bt_range *range)
{
	ck_abort_msg("the range was free");
}

/* As a job does: what it reads of the range is what it writes of it. */
START_TEST(nothing_is_moved_into_a_range_that_another_has_locked)
{
	struct bt_range range;

	serve_file();
	bt_list_init(&range.link);
	ck_assert(bt_range_lock(&disk->ranges, &range, 0, 65536, true,
				not_granted));
	ask(0, 0, BLKTAP_REQ_WRITE, 4096, 4096);
	ask(0, 1, BLKTAP_REQ_WRITE, 65536, 4096);
	ck_assert_int_eq(answer(0, 1), 4096);
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
	ck_assert_uint_eq(fake.moves, 1);
	check_file(4096, 8, 512);
	bt_range_unlock(&disk->ranges, &range);
	ck_assert_int_eq(answer(0, 0), 4096);
	check_file(4096, 0x77, 4096);
}
END_TEST

/* One that came before the module was asked to defer. */
START_TEST(a_write_whose_data_is_there_is_not_fetched)
{
	serve_file();
	fake_fill(&fake, 0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	memset(fake_slot(&fake, 0, 0), 0x55, 4096);
	fake_ring(&fake, 0, 0);
	ck_assert_int_eq(answer(0, 0), 4096);
	check_file(0, 0x55, 4096);
	ck_assert_uint_eq(fake.moves + fake.fetches, 0);
}
END_TEST

START_TEST(what_waits_at_a_gate_goes_where_the_disk_goes_then)
{
	char memory[sizeof(path)];

	serve_file();
	strcpy(memory, path);
	close(file);
	pause_disk();
	fake.defers = true; /* it was on its way when the pause began */
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	turns();
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
	make_file("/var/tmp");
	ck_assert_int_eq(blktap_disk_resume(disk, spec, NULL), 0);
	ck_assert_int_eq(answer(0, 0), 4096);
	ck_assert_uint_eq(fake.fetches, 1);
	ck_assert_uint_eq(fake.moves, 0);
	check_file(0, 0x77, 4096);
	check_file(4096, 8, 512);
	ask(0, 1, BLKTAP_REQ_READ, 0, 4096);
	ck_assert_int_eq(answer(0, 1), 4096);
	ck_assert(is_all(fake_caller(&fake, 0, 1), 0x77, 4096));
	/* and none was asked to be held back since the pause */
	ck_assert_uint_eq(fake.defer_calls, 2);
	unlink(memory);
}
END_TEST

START_TEST(what_is_left_to_the_next_daemon_was_not_written)
{
	serve_file();
	ask(0, 1, BLKTAP_REQ_WRITE, 8192, 4096);
	ck_assert_int_eq(answer(0, 1), 4096);
	pause_disk();
	fake.defers = true; /* they were on their way when the pause began */
	ask(0, 0, BLKTAP_REQ_WRITE, 0, 4096);
	ask(1, 0, BLKTAP_REQ_READ, 0, FAKE_SLOT);
	turns();
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_KEEP), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
	ck_assert_uint_eq(fake.queues[1].answers[0], 0);
	ck_assert_uint_eq(fake.fetches, 0);
	check_file(0, 0, 512);
	check_file(8192, 0x77, 4096);
}
END_TEST

/* It has not failed yet, whatever it waits for. */
START_TEST(what_waits_for_another_try_is_left_to_the_next_daemon)
{
	park_write();
	ck_assert_int_eq(blktap_ring_destroy(ring, BLKTAP_RING_END_KEEP), 0);
	ring = NULL;
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
}
END_TEST

/* One that keeps data itself, one that hands requests on, one that changes data and
 * has larger blocks, so that requests are cut above it. */
static const char *const lookers[] = {
	"ram(size=4M)",
	"slice(offset=0, size=2M) -> raw(%s)",
	"crypt(key=\"file:%s.key\", sector=4096) -> raw(%s)",
};

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(data_is_there_for_who_looks_at_it)
{
	char graph[sizeof(path) + 8], key[sizeof(path) + 8], text[256];

	make_file("/dev/shm");
	snprintf(key, sizeof(key), "%s.key", path);
	write_text(key, "0123456789abcdef0123456789abcdef"
			"0123456789abcdeF0123456789abcdeF");
	snprintf(graph, sizeof(graph), "%s.mason", path);
	strcpy(text, "d :: disk(\"x\") -> ");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text + strlen(text), sizeof(text) - strlen(text), lookers[_i],
		 path, path);
#pragma GCC diagnostic pop
	strcat(text, ";\n");
	write_text(graph, text);
	snprintf(spec, sizeof(spec), "mason:%s", graph);
	serve(spec);
	fake.defers = true; /* as if a change were under way */
	ask(0, 0, BLKTAP_REQ_WRITE, 1024, 512);
	ck_assert_int_eq(answer(0, 0), 512);
	ck_assert_uint_eq(fake.fetches, 1);
	ask(0, 1, BLKTAP_REQ_READ, 0, 4096);
	ck_assert_int_eq(answer(0, 1), 4096);
	ck_assert(is_all(fake_caller(&fake, 0, 1) + 1024, 0x77, 512));
	ck_assert_int_ne(fake_caller(&fake, 0, 1)[1536], 0x77);
	ck_assert_uint_eq(fake.moves, 0);
	unlink(graph);
	unlink(key);
}
END_TEST

START_TEST(a_module_without_moves_is_not_asked)
{
	fake.has = BLKTAP_FEATURES & ~BLKTAP_FEATURE_MOVE;
	serve_file();
	ck_assert_uint_eq(fake.defer_calls, 0);
	ask(0, 0, BLKTAP_REQ_READ, 0, FAKE_SLOT);
	ck_assert_int_eq(answer(0, 0), FAKE_SLOT);
	ck_assert_int_eq(fake_caller(&fake, 0, 0)[512], 1);
	ck_assert_uint_eq(fake.moves, 0);
}
END_TEST

START_TEST(data_held_back_unasked_ends_the_device)
{
	fake.has = BLKTAP_FEATURES & ~BLKTAP_FEATURE_MOVE;
	serve_file();
	fake.defers = true;
	fake_fill(&fake, 0, 0, BLKTAP_REQ_WRITE, 0, 4096)->flags =
		BLKTAP_REQ_DEFERRED;
	fake_ring(&fake, 0, 0);
	turns();
	ck_assert_int_eq(state(), BLKTAP_RING_FAILED);
	check_file(0, 0, 512);
}
END_TEST

START_TEST(a_file_on_a_device_is_not_moved)
{
	make_file("/var/tmp");
	serve(spec);
	ck_assert_int_eq(run(0, 0, BLKTAP_REQ_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(fake.defer_calls, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring-move");
	TCase *tc = tcase_create("ring-move");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, close_file);
	tcase_add_test(
		tc, reads_and_writes_of_a_file_in_memory_leave_the_slots_alone);
	tcase_add_test(tc, a_small_read_alone_is_not_worth_a_call);
	tcase_add_loop_test(tc, what_cannot_be_moved_goes_by_the_slot, 0,
			    (int)(sizeof(results) / sizeof(*results)));
	tcase_add_loop_test(
		tc, a_write_without_data_fails_and_writes_nothing, 0,
		(int)(sizeof(fetch_errors) / sizeof(*fetch_errors)));
	tcase_add_test(tc, a_write_that_is_tried_again_has_its_data_then);
	tcase_add_test(tc, fua_is_moved_too);
	tcase_add_test(tc, a_flush_covers_what_was_moved);
	tcase_add_test(tc,
		       nothing_is_moved_into_a_range_that_another_has_locked);
	tcase_add_test(tc, a_write_whose_data_is_there_is_not_fetched);
	tcase_add_test(tc, what_waits_at_a_gate_goes_where_the_disk_goes_then);
	tcase_add_test(tc, what_is_left_to_the_next_daemon_was_not_written);
	tcase_add_test(tc,
		       what_waits_for_another_try_is_left_to_the_next_daemon);
	tcase_add_loop_test(tc, data_is_there_for_who_looks_at_it, 0,
			    (int)(sizeof(lookers) / sizeof(*lookers)));
	tcase_add_test(tc, a_module_without_moves_is_not_asked);
	tcase_add_test(tc, data_held_back_unasked_ends_the_device);
	tcase_add_test(tc, a_file_on_a_device_is_not_moved);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
