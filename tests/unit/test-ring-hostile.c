/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring frontend against a module that lies. */
#include "fake-ring.h"

/* ---- hostile slots -------------------------------------------------------- */

static const struct {
	const char *what;
	uint32_t tag; /* in the ring */
	struct blktap_desc desc; /* data: added to the right one */
} hostile[] = {
	{ "tag past the depth", FAKE_DEPTH, { .bytes = 4096 } },
	{ "huge tag", UINT32_MAX, { .bytes = 4096 } },
	{ "descriptor of another tag", 1, { .tag = 2, .bytes = 4096 } },
	{ "unknown operation", 1, { .tag = 1, .op = 5, .bytes = 4096 } },
	{ "no length", 1, { .tag = 1 } },
	{ "odd length", 1, { .tag = 1, .bytes = 513 } },
	{ "length over the slot", 1, { .tag = 1, .bytes = FAKE_SLOT + 512 } },
	{ "negative length",
	  1,
	  { .tag = 1, .op = BLKTAP_REQ_DISCARD, .bytes = 0x80000000u } },
	{ "odd offset", 1, { .tag = 1, .bytes = 512, .offset = 1 } },
	{ "data one byte on", 1, { .tag = 1, .bytes = 512, .data = 1 } },
	{ "data before the mapping",
	  1,
	  { .tag = 1, .bytes = 512, .data = UINT64_MAX / 2 } },
	{ "flag of a write on a read",
	  1,
	  { .tag = 1, .bytes = 512, .flags = BLKTAP_REQ_FUA } },
	{ "unknown flag",
	  1,
	  { .tag = 1, .op = 1, .bytes = 512, .flags = 1u << 9 } },
	{ "flush with a length",
	  1,
	  { .tag = 1, .op = BLKTAP_REQ_FLUSH, .bytes = 512 } },
};

START_TEST(hostile_descriptor_ends_the_device_and_touches_nothing)
{
	struct blktap_disk_stats stats = { .size = sizeof(stats) };
	struct blktap_desc *d = fake_desc(&fake, 0, 1);

	serve("ram:4M");
	*d = hostile[_i].desc;
	if (d->op <= BLKTAP_REQ_WRITE)
		d->data += (uint64_t)(fake_slot(&fake, 0, 1) - fake.map);
	fake_ring(&fake, 0, hostile[_i].tag);
	turns();
	ck_assert_msg(state() != BLKTAP_RING_SERVING, "%s", hostile[_i].what);
	ck_assert_uint_eq(fake.removes, 1);
	ck_assert_uint_eq(fake.remove_flags, BLKTAP_REMOVE_NOW);
	blktap_disk_get_stats(disk, &stats);
	ck_assert_uint_eq(stats.completed[BLKTAP_OP_READ] +
				  stats.completed[BLKTAP_OP_WRITE] +
				  stats.completed[BLKTAP_OP_FLUSH] +
				  stats.completed[BLKTAP_OP_DISCARD],
			  0);
}
END_TEST

START_TEST(more_requests_than_the_ring_holds_end_the_device)
{
	serve("ram:4M");
	fake.queues[0].sq_tail = FAKE_ENTRIES;
	fake_fill(&fake, 0, 0, BLKTAP_REQ_READ, 0, 4096);
	fake_ring(&fake, 0, 0);
	turns();
	ck_assert_int_ne(state(), BLKTAP_RING_SERVING);
	ck_assert_uint_eq(fake.queues[0].answers[0], 0);
}
END_TEST

START_TEST(tag_that_comes_twice_ends_the_device)
{
	serve("ram:4M");
	pause_disk(); /* keeps the first one out */
	fake_fill(&fake, 0, 2, BLKTAP_REQ_WRITE, 0, 4096);
	fake_ring(&fake, 0, 2);
	fake_ring(&fake, 0, 2);
	turns();
	ck_assert_int_ne(state(), BLKTAP_RING_SERVING);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	turns();
	ck_assert_uint_eq(fake.queues[0].answers[2], 0);
}
END_TEST

/* The descriptor is read once: what it says later does not count. */
START_TEST(descriptor_that_changes_after_it_was_taken_changes_nothing)
{
	struct blktap_desc *d;

	serve("ram:4M");
	pause_disk();
	memset(fake_slot(&fake, 0, 0), 5, 4096);
	d = fake_fill(&fake, 0, 0, BLKTAP_REQ_WRITE, 4096, 4096);
	fake_ring(&fake, 0, 0);
	turns();
	memset(d, 0xff, sizeof(*d));
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	turns();
	ck_assert_uint_eq(fake.queues[0].answers[0], 1);
	ck_assert_int_eq(fake.queues[0].results[0], 4096);
	ck_assert_int_eq(run(0, 1, BLKTAP_REQ_READ, 0, 4096, 4096), 4096);
	ck_assert_int_eq(fake_slot(&fake, 0, 1)[4095], 5);
}
END_TEST

/* ---- hostile layouts ------------------------------------------------------ */

#define FIELD(name, v)                                             \
	{                                                          \
#name, offsetof(struct blktap_info, name),         \
			sizeof(((struct blktap_info *)0)->name), v \
	}

static const struct {
	const char *name;
	size_t at, size;
	uint64_t value;
} layouts[] = {
	FIELD(logical_block, 0),
	FIELD(logical_block, 1024),
	FIELD(queues, 0),
	FIELD(queues, BLKTAP_MAX_QUEUES + 1),
	FIELD(queues, 3), /* over the data */
	FIELD(depth, 0),
	FIELD(depth, BLKTAP_MAX_DEPTH + 1),
	FIELD(depth, FAKE_ENTRIES + 1),
	FIELD(slot_bytes, 0),
	FIELD(slot_bytes, 512),
	FIELD(slot_bytes, 2 * FAKE_SLOT), /* past the end of the mapping */
	FIELD(slot_bytes, 2 * BLKTAP_MAX_SLOT_BYTES),
	FIELD(sq_entries, 0),
	FIELD(sq_entries, 12),
	FIELD(sq_entries, 1u << 31),
	FIELD(cq_entries, 4),
	FIELD(cq_entries, 1u << 31),
	FIELD(queue_stride, 0),
	FIELD(queue_stride, 1000),
	FIELD(queue_stride, UINT32_MAX & ~63u),
	FIELD(sq_offset, 0), /* over the indices */
	FIELD(sq_offset, 4096),
	FIELD(sq_offset, 130),
	FIELD(desc_offset, 4092),
	FIELD(desc_offset, UINT32_MAX & ~7u),
	FIELD(cq_offset, 4000),
	FIELD(cq_offset, 1026),
	FIELD(data_offset, 0),
	FIELD(data_offset, 4096),
	FIELD(data_offset, 8704),
	FIELD(data_offset, UINT64_MAX & ~4095ull),
	FIELD(map_bytes, 0),
	FIELD(map_bytes, 4096),
	FIELD(map_bytes, UINT64_MAX & ~4095ull),
};

START_TEST(wrong_layout_is_refused_by_name_before_it_is_used)
{
	struct blktap_error *err = NULL;
	uint64_t value = layouts[_i].value;

	open_disk("ram:4M");
	memcpy((uint8_t *)&fake.info + layouts[_i].at, &value,
	       layouts[_i].size);
	ck_assert_msg(create_ring(&err) == -EPROTO, "%s", layouts[_i].name);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "describes it wrongly"));
	blktap_error_destroy(err);
	ck_assert_uint_eq(fake.closes, 1);
	ck_assert_uint_eq(fake.remove_flags, BLKTAP_REMOVE_NOW);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring-hostile");
	TCase *tc = tcase_create("ring-hostile");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(
		tc, hostile_descriptor_ends_the_device_and_touches_nothing, 0,
		(int)(sizeof(hostile) / sizeof(*hostile)));
	tcase_add_test(tc, more_requests_than_the_ring_holds_end_the_device);
	tcase_add_test(tc, tag_that_comes_twice_ends_the_device);
	tcase_add_test(
		tc, descriptor_that_changes_after_it_was_taken_changes_nothing);
	tcase_add_loop_test(tc,
			    wrong_layout_is_refused_by_name_before_it_is_used,
			    0, (int)(sizeof(layouts) / sizeof(*layouts)));
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
