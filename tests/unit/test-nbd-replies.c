/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd driver and replies that break the protocol: each ends the connection,
 * and the log names the server, the field and its value. */
#include "nbd-rig.h"

static uint64_t hostile_cookie;

static void status(uint32_t id, uint16_t flags, uint32_t length)
{
	put_chunk(rig.fd, hostile_cookie, flags, NBD_REPLY_TYPE_BLOCK_STATUS,
		  12);
	put_be(rig.fd, id, 4);
	put_be(rig.fd, length, 4);
	put_be(rig.fd, 0, 4);
}

static void chunk(uint16_t flags, uint16_t type, uint32_t length)
{
	put_chunk(rig.fd, hostile_cookie, flags, type, length);
}

static const char *hostile(int i)
{
	uint64_t c = hostile_cookie;

	switch (i) {
	case 0:
		put_be(rig.fd, 0x12345678, 4);
		return "reply magic 0x12345678";
	case 1:
		put_data(rig.fd, c + 256, 1, 0, 512);
		return "is of no request";
	case 2:
		put_data(rig.fd, c + 1, 1, 0, 512);
		return "is of no request";
	case 3:
		put_data(rig.fd, UINT64_MAX, 1, 0, 512);
		return "cookie 0xffffffffffffffff is of no request";
	case 4:
		put_simple(rig.fd, c, 0);
		return "a simple reply to READ";
	case 5:
		put_data(rig.fd, c, 0, 0, 512);
		put_data(rig.fd, c, 0, 511, 512);
		return "chunk of 512 bytes at 511 overlaps";
	case 6:
		put_data(rig.fd, c, 0, 512, 512);
		put_data(rig.fd, c, 0, 0, 1024);
		return "overlaps";
	case 7:
		put_data(rig.fd, c, 1, 0, 1023);
		return "with a part of it missing";
	case 8:
		put_data(rig.fd, c, 0, 0, 1025);
		return "chunk of 1025 bytes at 0 is not in the READ";
	case 9:
		put_hole(rig.fd, c, 0, UINT64_MAX - 10, 100);
		return "is not in the READ";
	case 10:
		put_hole(rig.fd, c, 0, 0, 0);
		return "chunk of 0 bytes";
	case 11:
		put_hole(rig.fd, c, 0, 1, UINT32_MAX);
		return "chunk of 4294967295 bytes at 1";
	case 12:
		status(17, 1, 512);
		return "chunk type 5 answers READ";
	case 13:
		chunk(1, NBD_REPLY_TYPE_NONE, 0);
		return "with a part of it missing";
	case 14:
		chunk(0, NBD_REPLY_TYPE_NONE, 0);
		return "chunk type 0, flags 0x0, length 0";
	case 15:
		chunk(1, NBD_REPLY_TYPE_NONE, 5);
		return "do not go together";
	case 16:
		chunk(2, NBD_REPLY_TYPE_OFFSET_DATA, 9);
		return "reply flags 0x2";
	case 17:
		chunk(1, NBD_REPLY_TYPE_OFFSET_DATA, 8);
		return "chunk type 1, flags 0x1, length 8";
	case 18:
		chunk(1, NBD_REPLY_TYPE_OFFSET_HOLE, 13);
		return "chunk type 2";
	case 19:
		chunk(1, 77, 0);
		return "chunk type 77";
	case 20:
		chunk(1, NBD_REPLY_TYPE_ERROR, 5);
		return "chunk type 32769, flags 0x1, length 5";
	case 21:
		chunk(1, NBD_REPLY_TYPE_ERROR, UINT32_MAX);
		return "length 4294967295";
	case 22:
		chunk(1, NBD_REPLY_TYPE_ERROR, 6);
		put(rig.fd, "\0\0\0\0\0\0", 6);
		return "an error chunk has error 0";
	case 23:
		chunk(1, NBD_REPLY_TYPE_ERROR, 6);
		put(rig.fd, "\0\0\0\5\0\1", 6);
		return "text length 1 is not in";
	case 24:
		put_data(rig.fd, c, 1, 0, 1024);
		put_data(rig.fd, c, 1, 0, 1024);
		return "is of no request"; /* answered twice */
	case 25:
		chunk(1, NBD_REPLY_TYPE_BLOCK_STATUS, 13);
		return "chunk type 5";
	case 26:
		/* each may be a line of the log, and none is the last */
		for (i = 0; i < 65; i++) {
			chunk(0, NBD_REPLY_TYPE_ERROR, 6);
			put(rig.fd, "\0\0\0\5\0\0", 6);
		}
		return "more than 64 error chunks for READ";
	default:
		return NULL;
	}
}

START_TEST(a_hostile_reply_ends_the_connection_and_is_told)
{
	struct item *item;
	const char *told;
	int i;

	setup();
	open_good("reconnect=0s", NULL);
	item = submit(BLKTAP_OP_READ, 0, 0, 1024);
	hostile_cookie = get_call(rig.fd).cookie;
	told = hostile(_i);
	for (i = 0; i < 4; i++)
		rig_turn();
	ck_assert_msg(strstr(rig.logged, told) != NULL, "%s", rig.logged);
	ck_assert_msg(strstr(rig.logged, rig.path) != NULL, "%s", rig.logged);
	wait_done(item);
	ck_assert_int_eq(item->error, _i == 24 ? 0 : -EIO);
	ck_assert_uint_eq(rig_nbd()->up, 0);
	ck_assert_uint_eq(rig_nbd()->violations, 1);
	give(item);
	teardown();
}
END_TEST

START_TEST(a_hostile_block_status_ends_the_connection)
{
	static const char *const told[] = {
		"context id 18, not 17",
		"BLOCK_STATUS was answered twice",
		"extent of 0 bytes at 0",
		"extent of 512 bytes at 1024",
		"without an answer",
		"chunk type 1 answers BLOCK_STATUS",
		"a simple reply to BLOCK_STATUS",
	};
	struct item *item;

	setup();
	open_good("reconnect=0s", NULL);
	item = submit(BLKTAP_OP_BLOCK_STATUS, 0, 0, 1024);
	hostile_cookie = get_call(rig.fd).cookie;
	if (_i == 0)
		status(18, 1, 512);
	if (_i == 1) {
		status(17, 0, 512);
		status(17, 1, 512);
	}
	if (_i == 2)
		status(17, 1, 0);
	if (_i == 3) {
		chunk(1, NBD_REPLY_TYPE_BLOCK_STATUS, 20);
		put_be(rig.fd, 17, 4);
		put_be(rig.fd, 1024ull << 32, 8);
		put_be(rig.fd, 512ull << 32, 8);
	}
	if (_i == 4)
		chunk(1, NBD_REPLY_TYPE_NONE, 0);
	if (_i == 5)
		put_data(rig.fd, hostile_cookie, 1, 0, 512);
	if (_i == 6)
		put_simple(rig.fd, hostile_cookie, 0);
	wait_done(item);
	ck_assert_int_eq(item->error, -EIO);
	ck_assert_msg(strstr(rig.logged, told[_i]) != NULL, "%s", rig.logged);
	give(item);
	teardown();
}
END_TEST

/* Its memory would be given back while the socket still reads from it. */
START_TEST(an_answer_to_what_is_not_sent_yet_is_refused)
{
	struct item *items[16];
	uint32_t i;

	setup();
	open_good("reconnect=0s", NULL);
	for (i = 0; i < 16; i++)
		items[i] = submit(BLKTAP_OP_WRITE, 0, i * 65536, 65536);
	rig_turn();
	ck_assert(rig_nbd()->conns[0].blocked);
	put_simple(rig.fd, rig_nbd()->next_cookie << 8 | 15, 0);
	for (i = 0; i < 16; i++) {
		wait_done(items[i]);
		ck_assert_int_eq(items[i]->error, -EIO);
		give(items[i]);
	}
	ck_assert_ptr_nonnull(
		strstr(rig.logged, "answered before it was sent"));
	teardown();
}
END_TEST

START_TEST(a_structured_reply_must_have_been_agreed_on)
{
	struct item *item;

	setup();
	rig.says.structured = false;
	open_good("reconnect=0s", NULL);
	item = submit(BLKTAP_OP_READ, 0, 0, 512);
	put_data(rig.fd, get_call(rig.fd).cookie, 1, 0, 512);
	wait_done(item);
	ck_assert_ptr_nonnull(strstr(rig.logged, "not agreed on"));
	give(item);
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-replies");
	TCase *tc = tcase_create("nbd-replies");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, a_hostile_reply_ends_the_connection_and_is_told,
			    0, 27);
	tcase_add_loop_test(tc, a_hostile_block_status_ends_the_connection, 0,
			    7);
	tcase_add_test(tc, an_answer_to_what_is_not_sent_yet_is_refused);
	tcase_add_test(tc, a_structured_reply_must_have_been_agreed_on);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
