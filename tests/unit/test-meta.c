/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "faulty.h"
#include "loop/loop.h"
#include "meta/meta.h"

#define BLOCK 4096u

static struct bt_loop *loop;
static struct bt_engine *engine;
static struct bt_file file;
static struct bt_meta *meta;
static int fd;

static const struct bt_meta_kind kinds[] = {
	{ .block_size = BLOCK, .block_count = 4, .rank = 0 },
	{ .block_size = BLOCK, .block_count = 8, .rank = 1 },
};

static void setup(void)
{
	char path[] = "/var/tmp/blktap-test-meta-XXXXXX";

	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	unlink(path);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	faulty_reset();
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
	ck_assert_int_eq(bt_engine_create_backend(loop, NULL, &faulty_backend,
						  0, &engine, NULL),
			 0);
	ck_assert_int_eq(bt_file_init(&file, engine, fd, false, "test"), 0);
	ck_assert_int_eq(bt_meta_create(loop, &file, kinds, 2, &meta), 0);
}

static void teardown(void)
{
	bt_meta_destroy(meta);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
}

static void turns(void)
{
	int i;

	for (i = 0; i < 20; i++)
		ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
}

struct waiter {
	struct bt_meta_wait wait;
	struct bt_meta_block *block;
	uint32_t calls;
	int error;
};

static void got(struct bt_meta_wait *wait, struct bt_meta_block *block,
		int error)
{
	struct waiter *w = bt_container_of(wait, struct waiter, wait);

	w->calls++;
	w->block = block;
	w->error = error;
}

static void ask(struct waiter *w, uint32_t kind, uint64_t offset)
{
	memset(w, 0, sizeof(*w));
	w->wait.fn = got;
	w->block = bt_meta_get(meta, kind, offset, &w->wait);
}

static struct bt_meta_block *get(uint32_t kind, uint64_t offset)
{
	struct waiter w;

	ask(&w, kind, offset);
	turns();
	ck_assert_ptr_nonnull(w.block);
	return w.block;
}

static void change(uint32_t kind, uint64_t offset, unsigned char value)
{
	struct bt_meta_block *block = get(kind, offset);

	block->data[7] = value;
	bt_meta_dirty(block, 7, 1);
	bt_meta_put(block);
}

struct committed {
	struct bt_meta_commit commit;
	uint32_t calls;
	int error;
};

static void committed(struct bt_meta_commit *commit, int error)
{
	struct committed *c = bt_container_of(commit, struct committed, commit);

	c->calls++;
	c->error = error;
}

static void commit(struct committed *c)
{
	memset(c, 0, sizeof(*c));
	c->commit.fn = committed;
	bt_meta_commit(meta, &c->commit);
}

static unsigned char on_disk(uint64_t offset)
{
	unsigned char byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
	return byte;
}

static uint32_t syncs;
static unsigned char at_first_sync;

/* In place of the C library's. */
int fdatasync(int synced)
{
	if (!syncs++)
		at_first_sync = on_disk(7);
	return fsync(synced);
}

START_TEST(what_is_written_at_closing_follows_the_data)
{
	change(1, 0, 'p');
	syncs = 0;
	ck_assert_int_eq(bt_meta_write_out(meta), 0);
	ck_assert_uint_eq(at_first_sync, 0);
	ck_assert_uint_eq(on_disk(7), 'p');
	ck_assert_uint_eq(syncs, 2);
}
END_TEST

START_TEST(block_is_read_once_and_shared)
{
	struct waiter a, b;

	ck_assert_int_eq(pwrite(fd, "x", 1, 8192), 1);
	ask(&a, 0, 8192);
	ask(&b, 0, 8192);
	ck_assert_ptr_null(a.block);
	turns();
	ck_assert_ptr_eq(a.block, b.block);
	ck_assert_uint_eq(a.block->data[0], 'x');
	ck_assert_uint_eq(faulty.calls_of[BT_IO_READ], 1);
	bt_meta_put(a.block);
	bt_meta_put(b.block);
	bt_meta_put(get(0, 8192));
	ck_assert_uint_eq(faulty.calls_of[BT_IO_READ], 1);
}
END_TEST

START_TEST(read_error_reaches_every_waiter_and_is_not_kept)
{
	struct waiter a, b;

	faulty_add((struct faulty_rule){
		.op = BT_IO_READ, .error = -EIO, .nth = 1 });
	ask(&a, 0, 0);
	ask(&b, 0, 0);
	turns();
	ck_assert_int_eq(a.error, -EIO);
	ck_assert_int_eq(b.error, -EIO);
	bt_meta_put(get(0, 0));
}
END_TEST

START_TEST(ranks_reach_the_disk_in_order_with_a_sync_between)
{
	struct committed c;

	change(1, 0, 'p'); /* the pointer, changed first */
	change(0, 65536, 't'); /* the table it points to */
	faulty.hold = true;
	commit(&c);
	turns();
	ck_assert_uint_eq(faulty.held, 1); /* rank 0 alone */
	faulty_release(1);
	turns();
	ck_assert_uint_eq(on_disk(65536 + 7), 't');
	ck_assert_uint_eq(on_disk(7), 0);
	ck_assert_uint_eq(faulty.held, 1); /* the sync */
	faulty_release(1);
	turns();
	ck_assert_uint_eq(on_disk(7), 0);
	faulty_release(1); /* rank 1 */
	turns();
	ck_assert_uint_eq(on_disk(7), 'p');
	ck_assert_uint_eq(c.calls, 0); /* not before it is synced */
	faulty_release(1);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_int_eq(c.error, 0);
	ck_assert(!bt_meta_is_dirty(meta));
}
END_TEST

START_TEST(change_during_a_commit_belongs_to_the_next)
{
	struct committed first, second;
	struct bt_meta_block *block = get(1, 0);

	block->data[7] = 'a';
	bt_meta_dirty(block, 7, 1);
	faulty.hold = true;
	commit(&first);
	turns(); /* its first sync is held, the block not yet written */
	block->data[7] = 'b';
	bt_meta_dirty(block, 7, 1);
	commit(&second);
	faulty_release(1);
	turns();
	faulty_release(1);
	turns();
	ck_assert_uint_eq(on_disk(7), 'a');
	faulty_release(1);
	turns();
	ck_assert_uint_eq(first.calls, 1);
	ck_assert_uint_eq(second.calls, 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_uint_eq(second.calls, 1);
	ck_assert_uint_eq(on_disk(7), 'b');
	bt_meta_put(block);
}
END_TEST

START_TEST(commit_without_changes_still_syncs_the_data)
{
	struct committed c;

	commit(&c);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 1);
	ck_assert_uint_eq(faulty.calls_of[BT_IO_WRITE], 0);
}
END_TEST

static void store(struct committed *c)
{
	memset(c, 0, sizeof(*c));
	c->commit.fn = committed;
	bt_meta_store(meta, &c->commit);
}

START_TEST(what_is_stored_follows_the_data_and_is_synced_by_the_next)
{
	struct committed c;

	change(1, 0, 'p');
	faulty.hold = true;
	store(&c);
	turns();
	ck_assert_uint_eq(faulty.held, 1); /* the sync of the data */
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 1);
	ck_assert_uint_eq(on_disk(7), 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_uint_eq(on_disk(7), 'p');
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 1);
	ck_assert(bt_meta_is_stored(meta));
	ck_assert(bt_meta_is_dirty(meta)); /* it is not durable */
	commit(&c);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 2);
	ck_assert(!bt_meta_is_dirty(meta));
}
END_TEST

START_TEST(what_is_stored_has_its_ranks_in_order)
{
	struct committed c;

	change(1, 0, 'p');
	change(0, 65536, 't');
	store(&c);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_uint_eq(on_disk(7), 'p');
	ck_assert_uint_eq(on_disk(65536 + 7), 't');
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 1);
	/* rank 0 alone may be there without the data */
	change(0, 65536, 'u');
	store(&c);
	turns();
	ck_assert_uint_eq(c.calls, 1);
	ck_assert_uint_eq(on_disk(65536 + 7), 'u');
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 1);
}
END_TEST

START_TEST(who_wants_more_than_storing_gets_it_in_the_same_commit)
{
	struct committed stored, durable;

	change(1, 0, 'p');
	store(&stored);
	commit(&durable);
	turns();
	ck_assert_uint_eq(stored.calls, 1);
	ck_assert_uint_eq(durable.calls, 1);
	ck_assert_uint_eq(faulty.calls_of[BT_IO_SYNC], 2);
	ck_assert(!bt_meta_is_dirty(meta));
}
END_TEST

START_TEST(what_was_only_stored_is_synced_at_closing)
{
	struct committed c;

	change(1, 0, 'p');
	store(&c);
	turns();
	ck_assert(bt_meta_is_dirty(meta));
	syncs = 0;
	ck_assert_int_eq(bt_meta_write_out(meta), 0);
	ck_assert_uint_eq(syncs, 1);
	ck_assert(!bt_meta_is_dirty(meta));
}
END_TEST

START_TEST(failed_sync_behind_what_is_stored_fails_the_next)
{
	struct committed c;

	change(1, 0, 'p');
	store(&c);
	turns();
	ck_assert_int_eq(c.error, 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .error = -EIO, .nth = 1 });
	commit(&c);
	turns();
	ck_assert_int_eq(c.error, -EIO);
	ck_assert(bt_meta_is_dirty(meta));
}
END_TEST

START_TEST(failed_write_stays_dirty_and_is_tried_again)
{
	struct committed c;

	change(1, 0, 'p');
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -ENOSPC, .nth = 1 });
	commit(&c);
	turns();
	ck_assert_int_eq(c.error, -ENOSPC);
	ck_assert(bt_meta_is_dirty(meta));
	commit(&c);
	turns();
	ck_assert_int_eq(c.error, 0);
	ck_assert_uint_eq(on_disk(7), 'p');
}
END_TEST

START_TEST(failed_sync_fails_every_later_commit)
{
	struct committed c;

	change(1, 0, 'p');
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .error = -EIO, .nth = 1 });
	commit(&c);
	turns();
	ck_assert_int_eq(c.error, -EIO);
	ck_assert_uint_eq(on_disk(7), 0); /* the pointer was not written */
	commit(&c);
	turns();
	ck_assert_int_eq(c.error, -EIO);
}
END_TEST

START_TEST(more_blocks_than_room_are_committed_and_evicted)
{
	struct bt_meta_block *held[4];
	struct waiter w;
	unsigned int i;

	for (i = 0; i < 100; i++)
		change(0, i * BLOCK, (unsigned char)i);
	for (i = 0; i < 100; i++) {
		struct bt_meta_block *block = get(0, i * BLOCK);

		ck_assert_uint_eq(block->data[7], i);
		bt_meta_put(block);
	}
	/* all referenced: the next has to wait for one to be put */
	for (i = 0; i < 4; i++)
		held[i] = get(0, i * BLOCK);
	ask(&w, 0, 50 * BLOCK);
	turns();
	ck_assert_uint_eq(w.calls, 0);
	for (i = 0; i < 4; i++)
		bt_meta_put(held[i]);
	turns();
	ck_assert_uint_eq(w.calls, 1);
	bt_meta_put(w.block);
}
END_TEST

static bool is_kept(uint64_t offset)
{
	struct waiter w;
	struct bt_meta_block *at_once;

	ask(&w, 0, offset);
	at_once = w.block;
	turns();
	bt_meta_put(w.block);
	return at_once != NULL;
}

START_TEST(what_is_asked_for_again_is_evicted_last)
{
	unsigned int i;

	/* four blocks have room; 1 and 2 are asked for twice */
	for (i = 0; i < 4; i++)
		bt_meta_put(get(0, i * BLOCK));
	ck_assert(is_kept(1 * BLOCK));
	ck_assert(is_kept(2 * BLOCK));
	for (i = 4; i < 6; i++)
		bt_meta_put(get(0, i * BLOCK));
	ck_assert(is_kept(1 * BLOCK));
	ck_assert(is_kept(2 * BLOCK));
	ck_assert(!is_kept(0));
}
END_TEST

START_TEST(where_all_were_asked_for_again_one_is_evicted)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		bt_meta_put(get(0, i % 4 * BLOCK));
	bt_meta_put(get(0, 4 * BLOCK));
	ck_assert(is_kept(4 * BLOCK));
	for (i = 0; i < 20; i++)
		bt_meta_put(get(0, i * 7 % 20 * BLOCK));
}
END_TEST

START_TEST(who_waits_for_room_hears_of_a_failed_commit)
{
	struct waiter w;
	unsigned int i;

	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE, .error = -EIO });
	for (i = 0; i < 4; i++)
		change(0, i * BLOCK, 1);
	turns();
	ask(&w, 0, 50 * BLOCK);
	turns();
	ck_assert_uint_eq(w.calls, 1);
	ck_assert_int_eq(w.error, -EIO);
}
END_TEST

START_TEST(new_block_is_zero_whatever_the_file_or_the_cache_held)
{
	struct bt_meta_block *block;
	struct waiter w = { .wait = { .fn = got } };
	struct committed c;

	ck_assert_int_eq(pwrite(fd, "old", 3, 0), 3);
	change(0, 0, 'z');
	w.block = bt_meta_get_new(meta, 0, 0, &w.wait);
	turns();
	block = w.block;
	ck_assert_ptr_nonnull(block);
	ck_assert_uint_eq(block->data[0], 0);
	ck_assert_uint_eq(block->data[7], 0);
	bt_meta_put(block);
	commit(&c);
	turns();
	ck_assert_uint_eq(on_disk(0), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("meta");
	TCase *tc = tcase_create("meta");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, block_is_read_once_and_shared);
	tcase_add_test(tc, read_error_reaches_every_waiter_and_is_not_kept);
	tcase_add_test(tc, ranks_reach_the_disk_in_order_with_a_sync_between);
	tcase_add_test(tc, change_during_a_commit_belongs_to_the_next);
	tcase_add_test(tc, commit_without_changes_still_syncs_the_data);
	tcase_add_test(
		tc, what_is_stored_follows_the_data_and_is_synced_by_the_next);
	tcase_add_test(tc, what_is_stored_has_its_ranks_in_order);
	tcase_add_test(tc,
		       who_wants_more_than_storing_gets_it_in_the_same_commit);
	tcase_add_test(tc, what_was_only_stored_is_synced_at_closing);
	tcase_add_test(tc, failed_sync_behind_what_is_stored_fails_the_next);
	tcase_add_test(tc, failed_write_stays_dirty_and_is_tried_again);
	tcase_add_test(tc, failed_sync_fails_every_later_commit);
	tcase_add_test(tc, more_blocks_than_room_are_committed_and_evicted);
	tcase_add_test(tc, what_is_asked_for_again_is_evicted_last);
	tcase_add_test(tc, where_all_were_asked_for_again_one_is_evicted);
	tcase_add_test(tc, who_waits_for_room_hears_of_a_failed_commit);
	tcase_add_test(tc,
		       new_block_is_zero_whatever_the_file_or_the_cache_held);
	tcase_add_test(tc, what_is_written_at_closing_follows_the_data);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
