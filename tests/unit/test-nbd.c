/* SPDX-License-Identifier: BSD-3-Clause */
/* What the NBD server promises to clients that keep to the protocol. */
#include "nbd-client.h"

#define MIB (1u << 20)

/* ---- the handshake -------------------------------------------------------- */

START_TEST(export_name_tells_size_and_flags_then_zeroes)
{
	struct peer p = greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint8_t b[10 + NBD_EXPORT_NAME_ZEROES];
	size_t i;

	put_option(&p, NBD_OPT_EXPORT_NAME, "disk", 4);
	get(&p, b, sizeof(b));
	ck_assert_uint_eq(bt_load_be64(b), DISK_SIZE);
	ck_assert_uint_eq(
		bt_load_be16(b + 8) & ~NBD_FLAG_SEND_CACHE,
		NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
			NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_CAN_MULTI_CONN);
	for (i = 10; i < sizeof(b); i++)
		ck_assert_uint_eq(b[i], 0);
	ck_assert_uint_eq(write_at(&p, 0, 0, 512), 0);
	check_at(&p, 0, 512);
	hang_up(&p);
}
END_TEST

START_TEST(export_name_without_zeroes_where_both_say_so)
{
	struct peer p = greet(BOTH);
	uint8_t b[10];

	put_option(&p, NBD_OPT_EXPORT_NAME, "", 0);
	get(&p, b, sizeof(b));
	get_nothing(&p);
	hang_up(&p);
}
END_TEST

START_TEST(a_request_sent_with_the_last_option_is_answered)
{
	struct peer p = greet(BOTH);
	uint8_t b[NBD_OPTION_LEN + NBD_REQUEST_LEN] = { 0 };
	uint8_t info[10];

	bt_store_be64(b, NBD_IHAVEOPT);
	bt_store_be32(b + 8, NBD_OPT_EXPORT_NAME);
	bt_store_be32(b + 16, NBD_REQUEST_MAGIC);
	bt_store_be16(b + 22, NBD_CMD_FLUSH);
	put(&p, b, sizeof(b));
	get(&p, info, sizeof(info));
	ck_assert_uint_eq(get_error(&p, 0), 0);
	hang_up(&p);
}
END_TEST

START_TEST(list_names_the_export_and_describes_it)
{
	struct peer p = greet(BOTH);
	uint8_t buf[OPTION_BUF];
	uint32_t len;

	put_option(&p, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_LIST, buf, &len),
			  NBD_REP_SERVER);
	ck_assert_uint_eq(bt_load_be32(buf), 4);
	ck_assert_uint_eq(len, 4 + strlen("diska disk of the tests"));
	ck_assert_int_eq(memcmp(buf + 4, "diska disk", 10), 0);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_LIST, buf, &len), NBD_REP_ACK);
	hang_up(&p);
}
END_TEST

START_TEST(info_answers_what_was_asked_and_haggling_goes_on)
{
	/* name "", block size, description, name, block size, unknown */
	static const uint8_t ask[] = { 0, 0, 0, 0, 0, 5, 0,    3,
				       0, 2, 0, 1, 0, 3, 0x7f, 0xff };
	struct peer p = greet(BOTH);
	uint8_t b[OPTION_BUF];
	uint32_t len;

	put_option(&p, NBD_OPT_INFO, ask, sizeof(ask));
	ck_assert_uint_eq(get_option(&p, NBD_OPT_INFO, b, &len), NBD_REP_INFO);
	ck_assert_uint_eq(len, 12);
	ck_assert_uint_eq(bt_load_be16(b), NBD_INFO_EXPORT);
	ck_assert_uint_eq(bt_load_be64(b + 2), DISK_SIZE);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_INFO, b, &len), NBD_REP_INFO);
	ck_assert_uint_eq(len, 14);
	ck_assert_uint_eq(bt_load_be16(b), NBD_INFO_BLOCK_SIZE);
	ck_assert_uint_eq(bt_load_be32(b + 2), 1);
	ck_assert_uint_ge(bt_load_be32(b + 6), 512);
	ck_assert_uint_eq(bt_load_be32(b + 10), 32 * MIB);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_INFO, b, &len), NBD_REP_INFO);
	ck_assert_uint_eq(bt_load_be16(b), NBD_INFO_DESCRIPTION);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_INFO, b, &len), NBD_REP_INFO);
	ck_assert_uint_eq(bt_load_be16(b), NBD_INFO_NAME);
	ck_assert_int_eq(memcmp(b + 2, "disk", 4), 0);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_INFO, b, &len), NBD_REP_ACK);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	hang_up(&p);
}
END_TEST

START_TEST(abort_is_acknowledged_and_the_end)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, NBD_OPT_ABORT, NULL, 0), NBD_REP_ACK);
	get_end(&p);
}
END_TEST

START_TEST(list_meta_context_knows_the_namespace_set_only_the_name)
{
	struct peer p = greet(BOTH);
	uint8_t b[OPTION_BUF], ask[12] = { 0 };
	uint32_t len;

	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	/* no query at all lists everything */
	put_option(&p, NBD_OPT_LIST_META_CONTEXT, ask, 8);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_LIST_META_CONTEXT, b, &len),
			  NBD_REP_META_CONTEXT);
	ck_assert_uint_eq(len, 4 + strlen("base:allocation"));
	ck_assert_uint_eq(get_option(&p, NBD_OPT_LIST_META_CONTEXT, b, &len),
			  NBD_REP_ACK);
	ck_assert_uint_eq(meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:"),
			  NBD_REP_ACK);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	p.structured = true;
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

/* ---- transmission --------------------------------------------------------- */

START_TEST(data_comes_back_at_any_size_and_alignment)
{
	static const uint32_t sizes[] = { 1,	  511,	   512,	   4096,
					  4097,	  32768,   32769,  100000,
					  262144, MIB + 1, 4 * MIB };
	struct peer p = _i ? structured() : plain();
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(sizes); i++) {
		ck_assert_uint_eq(write_at(&p, 0, 1000 * i, sizes[i]), 0);
		check_at(&p, 1000 * i, sizes[i]);
	}
	hang_up(&p);
	left_nothing();
}
END_TEST

START_TEST(the_largest_request_fits_a_clients_memory)
{
	struct peer p = _i ? structured() : plain();

	ck_assert_uint_eq(write_at(&p, 0, MIB, 32 * MIB), 0);
	check_at(&p, MIB, 32 * MIB);
	hang_up(&p);
	left_nothing();
}
END_TEST

/* More at once than the client's memory or its requests allow: the rest waits in
 * the socket. */
START_TEST(many_requests_in_flight_are_all_answered_once)
{
	struct peer p = _i ? structured() : plain();
	bool seen[400] = { false };
	uint8_t b[65536];
	uint32_t i;

	leaf.keep = true;
	for (i = 0; i < 400; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 65536 * i, 65536);
	settle();
	ck_assert_uint_le(leaf.seen[BLKTAP_OP_READ],
			  BT_NBD_POOL_SMALL + BT_NBD_POOL_LARGE);
	leaf_release();
	for (i = 0; i < 400; i++) {
		struct reply r = get_reply(&p);

		ck_assert_uint_lt(r.cookie, 400);
		ck_assert(!seen[r.cookie]);
		seen[r.cookie] = true;
		if (r.simple)
			get(&p, b, 65536);
		else
			get(&p, b, r.len);
	}
	hang_up(&p);
	left_nothing();
}
END_TEST

START_TEST(replies_of_one_turn_go_out_together)
{
	struct peer p = plain();
	uint8_t one[NBD_SIMPLE_REPLY_LEN * 32];
	uint32_t i;
	int there = 0;

	leaf.keep = true;
	for (i = 0; i < 32; i++)
		put_request(&p, 0, NBD_CMD_TRIM, i, 4096 * i, 4096);
	settle();
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_DISCARD], 32);
	leaf_release();
	turn();
	ck_assert_int_eq(ioctl(p.fd, FIONREAD, &there), 0);
	ck_assert_int_eq(there, sizeof(one));
	get(&p, one, sizeof(one));
	hang_up(&p);
}
END_TEST

START_TEST(zeroes_are_told_and_not_sent)
{
	uint8_t *b = malloc(8 * MIB), *want = calloc(1, 8 * MIB);
	struct peer p = structured();
	struct reply r;

	put_request(&p, 0, NBD_CMD_READ, 1, 0, 8 * MIB);
	r = get_reply(&p);
	ck_assert_uint_eq(r.type, NBD_REPLY_TYPE_OFFSET_HOLE);
	ck_assert_uint_eq(r.flags, NBD_REPLY_FLAG_DONE);
	get(&p, b, 12);
	/* data in the middle, and islands beyond what a reply can tell */
	ck_assert_uint_eq(write_at(&p, 0, MIB, 4096), 0);
	fill(want + MIB, 4096, MIB);
	ck_assert_uint_eq(read_at(&p, 0, b, 8 * MIB), 3);
	ck_assert_int_eq(memcmp(b, want, 8 * MIB), 0);
	for (uint32_t i = 0; i < 20; i++) {
		write_at(&p, 0, i * 262144, 512);
		fill(want + i * 262144, 512, i * 262144);
	}
	ck_assert_uint_eq(read_at(&p, 0, b, 8 * MIB), BT_NBD_CHUNKS);
	ck_assert_int_eq(memcmp(b, want, 8 * MIB), 0);
	hang_up(&p);
	free(b);
	free(want);
}
END_TEST

START_TEST(df_makes_it_one_chunk)
{
	uint8_t *b = malloc(8 * MIB);
	struct peer p = structured();

	ck_assert_uint_eq(write_at(&p, 0, MIB, 4096), 0);
	put_request(&p, NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 0, 8 * MIB);
	ck_assert_uint_eq(get_data(&p, 0, b, 8 * MIB), 1);
	hang_up(&p);
	free(b);
}
END_TEST

START_TEST(commands_reach_the_disk_with_their_flags)
{
	struct peer p = plain();

	ck_assert_uint_eq(write_at(&p, NBD_CMD_FLAG_FUA, 0, 512), 0);
	ck_assert_uint_ne(leaf.seen[BLKTAP_OP_WRITE], 0);
	ck_assert(leaf.flags[BLKTAP_OP_WRITE] & BLKTAP_FUA ||
		  leaf.seen[BLKTAP_OP_FLUSH]);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_TRIM, 0, 4096), 0);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_DISCARD], 1);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_WRITE_ZEROES, 0, 4096), 0);
	ck_assert_uint_eq(leaf.flags[BLKTAP_OP_WRITE_ZEROES], BLKTAP_MAY_UNMAP);
	ck_assert_uint_eq(request(&p,
				  NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
				  NBD_CMD_WRITE_ZEROES, 0, 4096),
			  0);
	ck_assert_uint_eq(leaf.flags[BLKTAP_OP_WRITE_ZEROES], BLKTAP_FAST_ONLY);
	ck_assert_uint_eq(write_at(&p, 0, 0, 512), 0);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	/* FUA is allowed on every command */
	ck_assert_uint_eq(request(&p, NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, 0, 0),
			  0);
	hang_up(&p);
}
END_TEST

START_TEST(block_status_covers_no_more_than_was_asked)
{
	struct peer p = structured();
	uint8_t b[4096];
	struct reply r;
	uint64_t sum = 0;
	uint32_t i;

	ck_assert_uint_eq(write_at(&p, 0, MIB, MIB), 0);
	put_request(&p, 0, NBD_CMD_BLOCK_STATUS, 5, 100, 4 * MIB);
	r = get_reply(&p);
	ck_assert_uint_eq(r.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	ck_assert_uint_eq(r.flags, NBD_REPLY_FLAG_DONE);
	get(&p, b, r.len);
	ck_assert_uint_eq(bt_load_be32(b), BT_NBD_META_ID);
	for (i = 4; i < r.len; i += 8) {
		ck_assert_uint_ne(bt_load_be32(b + i), 0);
		sum += bt_load_be32(b + i);
	}
	ck_assert(sum && sum <= 4 * MIB);
	put_request(&p, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 6, 0,
		    4 * MIB);
	r = get_reply(&p);
	ck_assert_uint_eq(r.len, 12);
	get(&p, b, r.len);
	hang_up(&p);
}
END_TEST

START_TEST(disc_with_requests_in_flight_answers_them_all)
{
	struct peer p = plain();
	uint8_t b[4096 + NBD_SIMPLE_REPLY_LEN];
	uint32_t i;

	leaf.keep = true;
	for (i = 0; i < 64; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 4096 * i, 4096);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	settle();
	leaf_release();
	for (i = 0; i < 64; i++)
		get(&p, b, sizeof(b));
	get_end(&p);
	left_nothing();
}
END_TEST

/* BT_NBD_ROUNDS=1000 makes it 64,000 requests. */
START_TEST(disc_with_requests_in_flight_loses_none_of_many)
{
	const char *rounds = getenv("BT_NBD_ROUNDS");
	uint8_t b[512 + NBD_SIMPLE_REPLY_LEN];
	int round, i, left = rounds ? atoi(rounds) : 50;

	for (round = 0; round < left; round++) {
		struct peer p = plain();

		for (i = 0; i < 64; i++)
			put_request(&p, 0, NBD_CMD_READ, i, 512 * i, 512);
		put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
		for (i = 0; i < 64; i++)
			get(&p, b, sizeof(b));
		get_end(&p);
	}
}
END_TEST

START_TEST(a_client_that_only_stops_sending_still_gets_its_replies)
{
	struct peer p = plain();
	uint8_t b[4096 + NBD_SIMPLE_REPLY_LEN];
	uint32_t i;

	leaf.keep = true;
	for (i = 0; i < 40; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 4096 * i, 4096);
	shutdown(p.fd, SHUT_WR);
	settle();
	leaf_release();
	for (i = 0; i < 40; i++)
		get(&p, b, sizeof(b));
	get_end(&p);
}
END_TEST

START_TEST(two_clients_see_one_disk)
{
	struct peer a = plain(), b = structured();

	ck_assert_uint_eq(write_at(&a, 0, 8192, 4096), 0);
	check_at(&b, 8192, 4096);
	ck_assert_uint_eq(request(&b, 0, NBD_CMD_FLUSH, 0, 0), 0);
	close(a.fd);
	hang_up(&b);
}
END_TEST

START_TEST(destroy_answers_what_is_in_flight)
{
	struct peer p = plain();
	uint8_t b[NBD_SIMPLE_REPLY_LEN + 512];

	ck_assert_uint_eq(write_at(&p, 0, 0, 512), 0);
	put_request(&p, 0, NBD_CMD_READ, 9, 0, 512);
	settle();
	ck_assert_int_eq(blktap_nbd_server_destroy(server), 0);
	server = NULL;
	ck_assert_int_eq(recv(p.fd, b, sizeof(b), 0), sizeof(b));
	ck_assert_int_eq(recv(p.fd, b, 1, 0), 0);
	close(p.fd);
}
END_TEST

START_TEST(idle_clients_hold_no_payload_memory)
{
	struct peer a = plain(), b = structured();

	check_at(&a, 0, 0x10000 * (write_at(&a, 0, 0, 0x10000) + 1));
	check_at(&b, 0, 4096);
	settle();
	ck_assert_uint_eq(server->cache.used, 0);
	close(a.fd);
	hang_up(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd");
	TCase *tc;

	tc = nbd_case(suite, "protocol", setup, teardown_serving);
	tcase_add_both(tc, data_comes_back_at_any_size_and_alignment);
	tcase_add_both(tc, the_largest_request_fits_a_clients_memory);
	tcase_add_both(tc, many_requests_in_flight_are_all_answered_once);
	tcase_add_test(tc, export_name_tells_size_and_flags_then_zeroes);
	tcase_add_test(tc, export_name_without_zeroes_where_both_say_so);
	tcase_add_test(tc, a_request_sent_with_the_last_option_is_answered);
	tcase_add_test(tc, list_names_the_export_and_describes_it);
	tcase_add_test(tc, info_answers_what_was_asked_and_haggling_goes_on);
	tcase_add_test(tc, abort_is_acknowledged_and_the_end);
	tcase_add_test(tc,
		       list_meta_context_knows_the_namespace_set_only_the_name);
	tcase_add_test(tc, replies_of_one_turn_go_out_together);
	tcase_add_test(tc, zeroes_are_told_and_not_sent);
	tcase_add_test(tc, df_makes_it_one_chunk);
	tcase_add_test(tc, commands_reach_the_disk_with_their_flags);
	tcase_add_test(tc, block_status_covers_no_more_than_was_asked);
	tcase_add_test(tc, disc_with_requests_in_flight_answers_them_all);
	tcase_add_test(tc, disc_with_requests_in_flight_loses_none_of_many);
	tcase_add_test(tc,
		       a_client_that_only_stops_sending_still_gets_its_replies);
	tcase_add_test(tc, two_clients_see_one_disk);
	tcase_add_test(tc, idle_clients_hold_no_payload_memory);
	tc = nbd_case(suite, "destroy", setup, teardown);
	tcase_add_test(tc, destroy_answers_what_is_in_flight);
	return unit_run(suite);
}
