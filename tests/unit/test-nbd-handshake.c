/* SPDX-License-Identifier: BSD-3-Clause */
/* What clients do in the handshake that they must not. After each of these the
 * server serves others, has as many descriptors open as before and holds no
 * memory of the culprit: teardown_serving looks. */
#include "nbd-client.h"

#define MIB (1u << 20)

static void put_header(struct peer *p, uint64_t magic, uint32_t opt,
		       uint32_t len)
{
	uint8_t b[NBD_OPTION_LEN];

	bt_store_be64(b, magic);
	bt_store_be32(b + 8, opt);
	bt_store_be32(b + 12, len);
	put(p, b, sizeof(b));
}

/* An INFO-like option whose name length is a lie. */
static uint32_t lying_name(struct peer *p, uint32_t opt, uint32_t claimed)
{
	uint8_t b[64] = { 0 };

	bt_store_be32(b, claimed);
	return option(p, opt, b, sizeof(b));
}

/* ---- gone in the handshake ------------------------------------------------ */

START_TEST(connect_and_close)
{
	struct peer p = dial();

	hang_up(&p);
}
END_TEST

START_TEST(close_after_the_greeting)
{
	struct peer p = dial();
	uint8_t b[NBD_GREETING_LEN];

	get(&p, b, sizeof(b));
	hang_up(&p);
}
END_TEST

START_TEST(close_in_the_client_flags)
{
	struct peer p = dial();

	put(&p, "\0\0", 2);
	hang_up(&p);
}
END_TEST

START_TEST(close_in_an_option_header)
{
	struct peer p = greet(BOTH);

	put(&p, "IHAVEOPT\0\0", 10);
	hang_up(&p);
}
END_TEST

START_TEST(close_in_an_options_data)
{
	struct peer p = greet(BOTH);

	put_header(&p, NBD_IHAVEOPT, NBD_OPT_GO, 100);
	put(&p, "abc", 3);
	hang_up(&p);
}
END_TEST

START_TEST(close_before_the_answer_to_go)
{
	struct peer p = greet(BOTH);

	put_option(&p, NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	hang_up(&p);
}
END_TEST

START_TEST(half_close_in_the_handshake)
{
	struct peer p = greet(BOTH);

	shutdown(p.fd, SHUT_WR);
	get_end(&p);
}
END_TEST

START_TEST(a_thousand_bare_connects_read_nothing_of_the_image)
{
	struct peer p[64];
	int i, round;

	for (round = 0; round < 16; round++) {
		for (i = 0; i < 64; i++) {
			p[i] = dial();
			turn();
		}
		for (i = 0; i < 64; i++)
			close(p[i].fd);
	}
	left_nothing();
	for (i = 0; i < BLKTAP_OP_COUNT; i++)
		ck_assert_uint_eq(leaf.seen[i], 0);
}
END_TEST

START_TEST(a_handshake_that_stalls_is_ended)
{
	struct peer p, q = plain();

	server->handshake_ns = 50000000;
	p = greet(BOTH);
	put_header(&p, NBD_IHAVEOPT, NBD_OPT_GO, 100);
	get_end(&p);
	/* the limit ends with the handshake */
	server->handshake_ns = 30000000000ull;
	ck_assert_uint_eq(request(&q, 0, NBD_CMD_FLUSH, 0, 0), 0);
	hang_up(&q);
}
END_TEST

/* It asks for ever and reads nothing: answers are not collected for it. */
START_TEST(options_without_end_whose_answers_nobody_reads)
{
	struct peer p = greet(BOTH);
	uint8_t b[NBD_OPTION_LEN];
	int i, n;

	bt_store_be64(b, NBD_IHAVEOPT);
	bt_store_be32(b + 8, NBD_OPT_LIST);
	bt_store_be32(b + 12, 0);
	for (i = n = 0; n < 200; i++) {
		if (send(p.fd, b, sizeof(b), MSG_NOSIGNAL) < 0)
			n++;
		turn();
	}
	ck_assert_uint_eq(server->conn_count, 1);
	hang_up(&p);
}
END_TEST

/* ---- the handshake out of the protocol ------------------------------------ */

START_TEST(unknown_client_flags)
{
	struct peer p = greet(0x80000003u);

	get_end(&p);
}
END_TEST

START_TEST(an_option_without_its_magic)
{
	struct peer p = greet(BOTH);

	put_header(&p, NBD_IHAVEOPT + 1, NBD_OPT_LIST, 0);
	get_end(&p);
}
END_TEST

START_TEST(a_client_of_plain_newstyle_has_export_name_alone)
{
	struct peer p = greet(0);

	put_header(&p, NBD_IHAVEOPT, NBD_OPT_LIST, 0);
	get_end(&p);
}
END_TEST

START_TEST(unknown_option_then_go)
{
	static const uint32_t opts[] = { 0, 4, 11, 12, 0x7fffffff, 0xffffffff };
	struct peer p = greet(BOTH);
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(opts); i++)
		ck_assert_uint_eq(option(&p, opts[i], "data", 4),
				  NBD_REP_ERR_UNSUP);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	hang_up(&p);
}
END_TEST

START_TEST(starttls_is_refused_and_changes_nothing)
{
	struct peer p = greet(BOTH);
	uint8_t b[512];

	ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0),
			  NBD_REP_ACK);
	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, NULL, 0),
			  NBD_REP_ERR_UNSUP);
	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, "x", 1),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	p.structured = true;
	read_at(&p, 0, b, sizeof(b));
	hang_up(&p);
}
END_TEST

START_TEST(data_where_none_belongs)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, NBD_OPT_LIST, "x", 1),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, "x", 1),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	/* it was refused, so replies are simple */
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, DISK_SIZE, 1),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(go_name_length_0xffffffff)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(lying_name(&p, NBD_OPT_GO, 0xffffffff),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(lying_name(&p, NBD_OPT_INFO, 0x7fffffff),
			  NBD_REP_ERR_INVALID);
	hang_up(&p);
}
END_TEST

START_TEST(go_name_one_longer_than_its_option)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(lying_name(&p, NBD_OPT_GO, 61), NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(lying_name(&p, NBD_OPT_GO, 60), NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(lying_name(&p, NBD_OPT_GO, 59), NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(lying_name(&p, NBD_OPT_GO, 57), NBD_REP_ERR_INVALID);
	hang_up(&p);
}
END_TEST

START_TEST(go_without_room_for_its_lengths)
{
	struct peer p = greet(BOTH);
	uint32_t len;

	for (len = 0; len < 6; len++)
		ck_assert_uint_eq(option(&p, NBD_OPT_GO, "\0\0\0\0\0\0", len),
				  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(option(&p, NBD_OPT_GO, "\0\0\0\0\0\1", 6),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(option(&p, NBD_OPT_GO, "\0\0\0\0\xff\xff\0\0", 8),
			  NBD_REP_ERR_INVALID);
	hang_up(&p);
}
END_TEST

/* 60000 info requests of one kind make one answer. */
START_TEST(go_that_asks_for_the_same_again_and_again)
{
	struct peer p = greet(BOTH);
	uint8_t b[OPTION_BUF], ask[6 + 2 * 8000] = { 0 };
	uint32_t i, len, infos = 0;

	bt_store_be16(ask + 4, 8000);
	for (i = 0; i < 8000; i++)
		bt_store_be16(ask + 6 + 2 * i, NBD_INFO_DESCRIPTION);
	put_option(&p, NBD_OPT_INFO, ask, sizeof(ask));
	while (get_option(&p, NBD_OPT_INFO, b, &len) == NBD_REP_INFO)
		infos++;
	ck_assert_uint_eq(infos, 2);
	hang_up(&p);
}
END_TEST

START_TEST(a_name_of_3000_or_4096_bytes_is_unknown)
{
	char *name = malloc(4096);
	struct peer p = greet(BOTH);

	memset(name, 'x', 4096);
	ck_assert_uint_eq(name_option(&p, NBD_OPT_GO, name, 3000),
			  NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(name_option(&p, NBD_OPT_INFO, name, 4096),
			  NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(name_option(&p, NBD_OPT_GO, "disk\0", 5),
			  NBD_REP_ERR_UNKNOWN);
	hang_up(&p);
	free(name);
}
END_TEST

START_TEST(a_name_of_4097_bytes_is_invalid)
{
	char *name = calloc(1, 4097);
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(name_option(&p, NBD_OPT_GO, name, 4097),
			  NBD_REP_ERR_INVALID);
	hang_up(&p);
	free(name);
}
END_TEST

START_TEST(a_name_of_1_mib_is_too_big_and_haggling_goes_on)
{
	char *name = calloc(1, MIB);
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(name_option(&p, NBD_OPT_GO, name, MIB),
			  NBD_REP_ERR_TOO_BIG);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	hang_up(&p);
	free(name);
}
END_TEST

START_TEST(export_name_of_3000_4096_and_1_mib_bytes)
{
	static const uint32_t sizes[] = { 5, 3000, 4096, 4097, MIB };
	char *name = malloc(MIB);
	size_t i;

	memset(name, 'x', MIB);
	for (i = 0; i < BT_ARRAY_SIZE(sizes); i++) {
		struct peer p = greet(BOTH);

		put_option(&p, NBD_OPT_EXPORT_NAME, name, sizes[i]);
		get_end(&p);
	}
	free(name);
}
END_TEST

START_TEST(an_option_of_32_mib)
{
	/* under valgrind 32 would take longer than a handshake may */
	uint32_t size = (getenv("BLKTAP_VALGRIND") ? 2 : 32) * MIB;
	char *data = calloc(1, size);
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, 77, data, size), NBD_REP_ERR_TOO_BIG);
	ck_assert_uint_eq(server->cache.used, 0);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	hang_up(&p);
	free(data);
}
END_TEST

START_TEST(an_option_that_claims_4_gib_takes_no_memory)
{
	struct peer p = greet(BOTH);
	char data[65536] = { 0 };
	int i;

	put_header(&p, NBD_IHAVEOPT, NBD_OPT_LIST, 0xffffffff);
	for (i = 0; i < 64; i++)
		put(&p, data, sizeof(data));
	ck_assert_uint_eq(server->cache.used, 0);
	hang_up(&p);
}
END_TEST

START_TEST(info_list_and_meta_in_any_order)
{
	struct peer p = greet(BOTH);
	int i;

	for (i = 0; i < 3; i++) {
		ck_assert_uint_eq(
			meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:x"),
			i ? NBD_REP_ACK : NBD_REP_ERR_INVALID);
		ck_assert_uint_eq(name_option(&p, NBD_OPT_INFO, "", 0),
				  NBD_REP_ACK);
		ck_assert_uint_eq(option(&p, NBD_OPT_LIST, NULL, 0),
				  NBD_REP_ACK);
		ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0),
				  NBD_REP_ACK);
		ck_assert_uint_eq(
			meta(&p, NBD_OPT_LIST_META_CONTEXT, "disk", "base:"),
			NBD_REP_ACK);
	}
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	hang_up(&p);
}
END_TEST

START_TEST(a_thousand_options_in_a_row)
{
	struct peer p = greet(BOTH);
	int i;

	for (i = 0; i < 1000; i++)
		ck_assert_uint_eq(option(&p, NBD_OPT_LIST, NULL, 0),
				  NBD_REP_ACK);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	hang_up(&p);
}
END_TEST

START_TEST(meta_context_before_structured_replies)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation"),
		NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(meta(&p, NBD_OPT_LIST_META_CONTEXT, "disk", "base:"),
			  NBD_REP_ERR_INVALID);
	hang_up(&p);
}
END_TEST

START_TEST(meta_context_with_lengths_that_lie)
{
	struct peer p = greet(BOTH);
	uint8_t b[32];
	size_t at;

	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	for (at = 0; at < 12; at += 4) {
		memset(b, 0, sizeof(b));
		bt_store_be32(b + 4, 1);
		bt_store_be32(b + at, 0xffffffff);
		ck_assert_uint_eq(option(&p, NBD_OPT_SET_META_CONTEXT, b, 32),
				  NBD_REP_ERR_INVALID);
		bt_store_be32(b + at, 29);
		ck_assert_uint_eq(option(&p, NBD_OPT_SET_META_CONTEXT, b, 32),
				  NBD_REP_ERR_INVALID);
	}
	hang_up(&p);
}
END_TEST

START_TEST(a_million_queries_announced_and_none_sent)
{
	static const uint8_t b[] = { 0, 0, 0, 0, 0, 15, 0x42, 0x40 };
	struct peer p = greet(BOTH);

	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	ck_assert_uint_eq(option(&p, NBD_OPT_SET_META_CONTEXT, b, sizeof(b)),
			  NBD_REP_ERR_INVALID);
	hang_up(&p);
}
END_TEST

START_TEST(contexts_of_another_export_do_not_hold)
{
	struct peer p = greet(BOTH);

	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "", "base:allocation"),
		NBD_REP_ACK);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	p.structured = true;
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(a_meta_context_that_fails_undoes_the_one_before)
{
	struct peer p = greet(BOTH);

	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation");
	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "other", "base:allocation"),
		NBD_REP_ERR_UNKNOWN);
	go(&p);
	p.structured = true;
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(abort_while_haggling_with_more_behind_it)
{
	struct peer p = greet(BOTH);
	uint8_t b[OPTION_BUF];
	uint32_t len;

	put_option(&p, NBD_OPT_ABORT, NULL, 0);
	put_option(&p, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_option(&p, NBD_OPT_ABORT, b, &len), NBD_REP_ACK);
	get_end(&p);
}
END_TEST

START_TEST(abort_and_gone_before_the_answer)
{
	struct peer p = greet(BOTH);

	put_option(&p, NBD_OPT_ABORT, NULL, 0);
	hang_up(&p);
}
END_TEST

START_TEST(one_byte_at_a_time)
{
	struct peer p = greet(BOTH);
	uint8_t b[NBD_OPTION_LEN + 6 + NBD_REQUEST_LEN] = { 0 }, info[600];
	size_t i;

	bt_store_be64(b, NBD_IHAVEOPT);
	bt_store_be32(b + 8, NBD_OPT_GO);
	bt_store_be32(b + 12, 6);
	bt_store_be32(b + 22, NBD_REQUEST_MAGIC);
	bt_store_be16(b + 28, NBD_CMD_READ);
	bt_store_be32(b + 46, 512);
	for (i = 0; i < sizeof(b); i++) {
		put(&p, b + i, 1);
		turn();
	}
	get(&p, info, 32 + 20);
	get(&p, info, 16 + 512);
	hang_up(&p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-handshake");
	TCase *tc;

	tc = nbd_case(suite, "handshake", setup, teardown_serving);
	tcase_add_test(tc, connect_and_close);
	tcase_add_test(tc, close_after_the_greeting);
	tcase_add_test(tc, close_in_the_client_flags);
	tcase_add_test(tc, close_in_an_option_header);
	tcase_add_test(tc, close_in_an_options_data);
	tcase_add_test(tc, close_before_the_answer_to_go);
	tcase_add_test(tc, half_close_in_the_handshake);
	tcase_add_test(tc, a_thousand_bare_connects_read_nothing_of_the_image);
	tcase_add_test(tc, a_handshake_that_stalls_is_ended);
	tcase_add_test(tc, options_without_end_whose_answers_nobody_reads);
	tcase_add_test(tc, unknown_client_flags);
	tcase_add_test(tc, an_option_without_its_magic);
	tcase_add_test(tc, a_client_of_plain_newstyle_has_export_name_alone);
	tcase_add_test(tc, unknown_option_then_go);
	tcase_add_test(tc, starttls_is_refused_and_changes_nothing);
	tcase_add_test(tc, data_where_none_belongs);
	tcase_add_test(tc, go_name_length_0xffffffff);
	tcase_add_test(tc, go_name_one_longer_than_its_option);
	tcase_add_test(tc, go_without_room_for_its_lengths);
	tcase_add_test(tc, go_that_asks_for_the_same_again_and_again);
	tcase_add_test(tc, a_name_of_3000_or_4096_bytes_is_unknown);
	tcase_add_test(tc, a_name_of_4097_bytes_is_invalid);
	tcase_add_test(tc, a_name_of_1_mib_is_too_big_and_haggling_goes_on);
	tcase_add_test(tc, export_name_of_3000_4096_and_1_mib_bytes);
	tcase_add_test(tc, an_option_of_32_mib);
	tcase_add_test(tc, an_option_that_claims_4_gib_takes_no_memory);
	tcase_add_test(tc, info_list_and_meta_in_any_order);
	tcase_add_test(tc, a_thousand_options_in_a_row);
	tcase_add_test(tc, meta_context_before_structured_replies);
	tcase_add_test(tc, meta_context_with_lengths_that_lie);
	tcase_add_test(tc, a_million_queries_announced_and_none_sent);
	tcase_add_test(tc, contexts_of_another_export_do_not_hold);
	tcase_add_test(tc, a_meta_context_that_fails_undoes_the_one_before);
	tcase_add_test(tc, abort_while_haggling_with_more_behind_it);
	tcase_add_test(tc, abort_and_gone_before_the_answer);
	tcase_add_test(tc, one_byte_at_a_time);
	return unit_run(suite);
}
