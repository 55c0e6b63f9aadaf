/* SPDX-License-Identifier: BSD-3-Clause */
/* What legs that fail together leave behind; one leg at a time is test-mirror's. */
#include "mirror-rig.h"

static bool spoil_writes;

/* As a server that has done a write when its connection breaks. */
static int do_and_fail(struct rough *rough, const struct bt_request *req)
{
	if (!spoil_writes || req->op != BLKTAP_OP_WRITE)
		return 0;
	bt_sgl_copy_out(&req->data, rough->now + req->offset, req->length);
	return -EIO;
}

static int fail_write(struct rough *rough, const struct bt_request *req)
{
	return spoil_writes && req->op == BLKTAP_OP_WRITE ? -EIO : 0;
}

/* Everywhere, or on the leg that has the data alone. */
START_TEST(a_write_that_failed_is_no_part_of_a_copy)
{
	char data[512] = { 1 };
	struct rig rig;
	uint32_t turn;

	world = (struct rough_world){ .random = 5 };
	make(&rig, 3, false, NULL, "region=64k rate=64k sync=background");
	leg_of(&rig, 0)->spoil = fail_write;
	leg_of(&rig, 1)->spoil = _i ? NULL : do_and_fail;
	/* the first region is there, and the batch is not flushed yet */
	for (turn = 0; turn < 200; turn++)
		ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0), 0);
	ck_assert_uint_gt(leg_of(&rig, 1)->seen[BLKTAP_OP_WRITE_ZEROES], 0);
	ck_assert_uint_eq(leg_of(&rig, 1)->seen[BLKTAP_OP_FLUSH], 0);
	spoil_writes = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	spoil_writes = false;
	set(&rig, "sync", "background"); /* and no rate */
	pass_time(&rig, 10);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror-fails");
	TCase *tc = tcase_create("mirror-fails");

	tcase_add_loop_test(tc, a_write_that_failed_is_no_part_of_a_copy, 0, 2);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
