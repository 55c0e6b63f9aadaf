/* SPDX-License-Identifier: BSD-3-Clause */
/* What clients do in transmission that they must not, and what became of other
 * servers then. After each of these the server serves others, has as many
 * descriptors open as before and holds no memory of the culprit:
 * teardown_serving looks. */
#include "nbd-client.h"

#define MIB (1u << 20)

/* ---- requests out of the protocol ----------------------------------------- */

START_TEST(a_request_without_its_magic)
{
	struct peer p = either(_i);
	uint8_t b[NBD_REQUEST_LEN] = { 0 };

	bt_store_be32(b, NBD_REQUEST_MAGIC ^ 1);
	put(&p, b, sizeof(b));
	get_end(&p);
}
END_TEST

START_TEST(unknown_commands)
{
	static const uint16_t types[] = { 8, 9, 255, 0x8000, 0xffff };
	struct peer p = either(_i);
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(types); i++)
		ck_assert_uint_eq(request(&p, 0, types[i], 0, 512), NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	hang_up(&p);
}
END_TEST

START_TEST(unknown_flags_on_every_command)
{
	struct peer p = either(_i);
	uint16_t type;

	for (type = 0; type < NBD_CMD_COUNT; type++)
		if (type != NBD_CMD_DISC && type != NBD_CMD_WRITE)
			ck_assert_uint_eq(request(&p, 0x8000, type, 0, 512),
					  NBD_EINVAL);
	ck_assert_uint_eq(write_at(&p, 0x20, 0, 512), NBD_EINVAL);
	check_at(&p, 0, write_at(&p, 0, 0, 512) + 512);
	hang_up(&p);
}
END_TEST

START_TEST(flags_of_another_command)
{
	struct peer p = either(_i);

	ck_assert_uint_eq(request(&p, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_READ, 0, 9),
			  NBD_EINVAL);
	ck_assert_uint_eq(
		request(&p, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_TRIM, 0, 512),
		NBD_EINVAL);
	ck_assert_uint_eq(
		request(&p, NBD_CMD_FLAG_DF, NBD_CMD_WRITE_ZEROES, 0, 512),
		NBD_EINVAL);
	ck_assert_uint_eq(write_at(&p, NBD_CMD_FLAG_FAST_ZERO, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(df_without_structured_replies)
{
	struct peer p = plain();

	ck_assert_uint_eq(request(&p, NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(read_past_the_end)
{
	struct peer p = either(_i);

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, DISK_SIZE, 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, DISK_SIZE - 1, 2),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, UINT64_MAX, 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(
		request(&p, 0, NBD_CMD_READ, UINT64_MAX - 511, 0xfffffe00),
		NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(write_past_the_end_is_enospc_and_writes_nothing)
{
	struct peer p = either(_i);
	uint8_t b[512], zero[512] = { 0 };

	ck_assert_uint_eq(write_at(&p, 0, DISK_SIZE - 512, 1024), NBD_ENOSPC);
	ck_assert_uint_eq(write_at(&p, 0, UINT64_MAX - 511, 1024), NBD_ENOSPC);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_WRITE_ZEROES, DISK_SIZE, 1),
			  NBD_ENOSPC);
	read_at(&p, DISK_SIZE - 512, b, 512);
	ck_assert_int_eq(memcmp(b, zero, 512), 0);
	hang_up(&p);
}
END_TEST

START_TEST(trim_cache_and_status_past_the_end)
{
	struct peer p = structured();

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_TRIM, DISK_SIZE - 512, 1024),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_CACHE, DISK_SIZE, 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, DISK_SIZE, 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 1, 0xffffffff),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(length_zero_on_every_command)
{
	struct peer p = either(_i);
	uint16_t type;

	for (type = 0; type < NBD_CMD_COUNT; type++)
		if (type != NBD_CMD_DISC && type != NBD_CMD_FLUSH)
			ck_assert_uint_eq(request(&p, 0, type, 0, 0),
					  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(flush_with_offset_or_length)
{
	struct peer p = either(_i);

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 512), NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 512, 0), NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	hang_up(&p);
}
END_TEST

START_TEST(a_read_over_the_largest_block_takes_no_memory)
{
	struct peer p = either(_i);

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, 0, 32 * MIB + 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, 0, 0xffffffff),
			  NBD_EINVAL);
	settle();
	ck_assert_uint_eq(server->cache.used, 0);
	hang_up(&p);
}
END_TEST

START_TEST(a_write_over_the_largest_block_is_dropped_not_kept)
{
	struct peer p = either(_i);
	char *data = calloc(1, MIB);
	int i;

	put_request(&p, 0, NBD_CMD_WRITE, 3, 0, 40 * MIB);
	for (i = 0; i < 40; i++) {
		put(&p, data, MIB);
		ck_assert_uint_le(server->cache.used, 1 << BT_NBD_ARENA_SHIFT);
	}
	ck_assert_uint_eq(get_error(&p, 3), NBD_EINVAL);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_WRITE], 0);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	hang_up(&p);
	free(data);
}
END_TEST

START_TEST(block_status_without_its_context)
{
	struct peer p = plain();

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 512),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(the_same_cookie_twice_gets_two_answers)
{
	struct peer p = either(_i);

	put_request(&p, 0, NBD_CMD_FLUSH, 5, 0, 0);
	put_request(&p, 0, NBD_CMD_FLUSH, 5, 0, 0);
	ck_assert_uint_eq(get_error(&p, 5), 0);
	ck_assert_uint_eq(get_error(&p, 5), 0);
	hang_up(&p);
}
END_TEST

START_TEST(after_disc_nothing_is_heard)
{
	struct peer p = plain();

	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	put_request(&p, 0, NBD_CMD_WRITE_ZEROES, 1, 0, 512);
	get_end(&p);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_WRITE_ZEROES], 0);
}
END_TEST

START_TEST(disc_with_nonsense_in_it_is_disc)
{
	struct peer p = either(_i);

	put_request(&p, 0xffff, NBD_CMD_DISC, 1, 12345, 678);
	get_end(&p);
}
END_TEST

START_TEST(bad_magic_behind_good_requests_leaves_their_answers)
{
	struct peer p = plain();
	uint8_t b[512];

	put_request(&p, 0, NBD_CMD_FLUSH, 1, 0, 0);
	put_request(&p, 0, NBD_CMD_TRIM, 2, 0, 512);
	memset(b, 0xff, sizeof(b));
	put(&p, b, sizeof(b));
	ck_assert_uint_eq(get_error(&p, 1), 0);
	ck_assert_uint_eq(get_error(&p, 2), 0);
	get_end(&p);
}
END_TEST

/* ---- gone in transmission ------------------------------------------------- */

START_TEST(close_in_a_request_header)
{
	struct peer p = either(_i);

	put(&p, "\x25\x60\x95", 3);
	settle();
	hang_up(&p);
}
END_TEST

START_TEST(close_in_a_small_payload)
{
	struct peer p = either(_i);

	put_request(&p, 0, NBD_CMD_WRITE, 0, 0, 4096);
	put(&p, "abc", 3);
	settle();
	hang_up(&p);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_WRITE], 0);
}
END_TEST

START_TEST(close_in_a_large_payload_writes_nothing)
{
	struct peer p = either(_i);
	char *data = calloc(1, MIB);

	put_request(&p, 0, NBD_CMD_WRITE, 0, 0, 2 * MIB);
	put(&p, data, MIB);
	settle();
	hang_up(&p);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_WRITE], 0);
	free(data);
}
END_TEST

START_TEST(close_in_a_payload_that_is_dropped)
{
	struct peer p = either(_i);
	char data[1000] = { 0 };

	put_request(&p, 0, NBD_CMD_WRITE, 0, DISK_SIZE, 4096);
	put(&p, data, sizeof(data));
	settle();
	hang_up(&p);
}
END_TEST

START_TEST(close_with_64_reads_in_flight)
{
	struct peer p = either(_i);
	uint32_t i;

	leaf.keep = true;
	for (i = 0; i < 64; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 65536 * i, 65536);
	settle();
	close(p.fd);
	settle();
	/* its buffers are still written to */
	ck_assert_uint_eq(server->conn_count, 1);
	leaf_release();
	left_nothing();
}
END_TEST

START_TEST(close_with_writes_in_flight_does_not_lose_them)
{
	struct peer p = either(_i), q;
	uint8_t data[4096];
	uint32_t i;

	leaf.keep = true;
	for (i = 0; i < 40; i++) {
		fill(data, sizeof(data), 4096 * i);
		put_request(&p, 0, NBD_CMD_WRITE, i, 4096 * i, 4096);
		put(&p, data, sizeof(data));
	}
	settle();
	close(p.fd);
	settle();
	leaf_release();
	left_nothing();
	q = plain();
	check_at(&q, 0, 40 * 4096);
	hang_up(&q);
}
END_TEST

START_TEST(close_with_replies_nobody_reads)
{
	struct peer p = either(_i);
	uint32_t i;

	write_at(&p, 0, 0, 4 * MIB);
	for (i = 0; i < 100; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 0, 2 * MIB);
	settle();
	hang_up(&p);
	left_nothing();
}
END_TEST

START_TEST(reset_in_the_middle_of_a_reply)
{
	struct peer p = either(_i);
	uint8_t b[1000];

	write_at(&p, 0, 0, 8 * MIB);
	put_request(&p, 0, NBD_CMD_READ, 0, 0, 8 * MIB);
	get(&p, b, sizeof(b));
	hang_up(&p);
	left_nothing();
}
END_TEST

/* ---- slow clients --------------------------------------------------------- */

START_TEST(a_slow_reader_of_2_mib_reads_gets_every_byte)
{
	struct peer p = either(_i);
	uint8_t *b = malloc(2 * MIB), *want = malloc(2 * MIB);
	uint32_t i;

	ck_assert_uint_eq(write_at(&p, 0, 0, 2 * MIB), 0);
	fill(want, 2 * MIB, 0);
	for (i = 0; i < 40; i++)
		put_request(&p, 0, NBD_CMD_READ, i, 0, 2 * MIB);
	settle();
	for (i = 0; i < 40; i++) {
		get_data(&p, 0, b, 2 * MIB);
		ck_assert_int_eq(memcmp(b, want, 2 * MIB), 0);
	}
	hang_up(&p);
	free(b);
	free(want);
}
END_TEST

START_TEST(sixteen_stuck_clients_are_bounded_and_stop_nobody)
{
	struct peer p[16], q;
	uint64_t limit = server->client_memory + (2u << BT_NBD_ARENA_SHIFT);
	int i, n;

	q = plain();
	write_at(&q, 0, 0, 4 * MIB);
	for (i = 0; i < 16; i++) {
		p[i] = plain();
		for (n = 0; n < 60; n++)
			put_request(&p[i], 0, NBD_CMD_READ, 0, 0, MIB);
	}
	settle();
	ck_assert_uint_le(server->cache.used, 16 * limit);
	/* behind the others it would wait for ever */
	for (i = 0; i < 100; i++)
		check_at(&q, 4096 * i, 4096);
	for (i = 0; i < 16; i++)
		close(p[i].fd);
	hang_up(&q);
	left_nothing();
}
END_TEST

START_TEST(a_stuck_client_yields_its_memory_when_others_need_it)
{
	struct peer p = plain(), q = plain();
	int n;

	server->total_memory = 8 * MIB;
	server->stuck_ns = 1000000;
	write_at(&q, 0, 0, 4 * MIB);
	for (n = 0; n < 8; n++)
		put_request(&p, 0, NBD_CMD_READ, 0, 0, MIB);
	settle();
	ck_assert_uint_ge(server->cache.used, 6 * MIB);
	check_at(&q, 0, 4 * MIB);
	ck_assert_uint_eq(server->conn_count, 1);
	close(p.fd);
	hang_up(&q);
}
END_TEST

/* It sends a byte of its payload now and then. */
START_TEST(a_slow_client_yields_its_memory_when_others_need_it)
{
	struct peer p = plain(), q = plain();
	uint8_t reply[16];
	size_t have = 0;

	server->total_memory = 8 * MIB;
	server->stuck_ns = 300000000;
	put_request(&p, 0, NBD_CMD_WRITE, 0, 0, 4 * MIB);
	put(&p, "abc", 3);
	settle();
	put_request(&q, 0, NBD_CMD_READ, 1, 0, 4 * MIB);
	while (have < sizeof(reply)) {
		ssize_t n = recv(q.fd, reply + have, sizeof(reply) - have, 0);

		have += n > 0 ? (size_t)n : 0;
		send(p.fd, "x", 1, MSG_NOSIGNAL);
		ck_assert_int_eq(blktap_context_run(context, 5), 0);
	}
	ck_assert_uint_eq(server->conn_count, 1);
	close(p.fd);
	hang_up(&q);
}
END_TEST

START_TEST(a_client_that_leaves_its_last_replies_is_dropped)
{
	struct peer p = plain();
	int n;

	server->stuck_ns = 50000000;
	write_at(&p, 0, 0, 4 * MIB);
	for (n = 0; n < 8; n++)
		put_request(&p, 0, NBD_CMD_READ, 0, 0, MIB);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	left_nothing();
	close(p.fd);
}
END_TEST

START_TEST(a_stalled_payload_stops_nobody)
{
	struct peer p = plain(), q = plain();

	put_request(&p, 0, NBD_CMD_WRITE, 0, 0, 32 * MIB);
	put(&p, "abc", 3);
	settle();
	ck_assert_uint_eq(write_at(&q, 0, 0, 4096), 0);
	check_at(&q, 0, 4096);
	close(p.fd);
	hang_up(&q);
}
END_TEST

/* ---- errors of the disk --------------------------------------------------- */

int main(void)
{
	Suite *suite = suite_create("nbd-abuse");
	TCase *tc;

	tc = nbd_case(suite, "transmission", setup, teardown_serving);
	tcase_add_both(tc, a_request_without_its_magic);
	tcase_add_both(tc, unknown_commands);
	tcase_add_both(tc, unknown_flags_on_every_command);
	tcase_add_both(tc, flags_of_another_command);
	tcase_add_test(tc, df_without_structured_replies);
	tcase_add_both(tc, read_past_the_end);
	tcase_add_both(tc, write_past_the_end_is_enospc_and_writes_nothing);
	tcase_add_test(tc, trim_cache_and_status_past_the_end);
	tcase_add_both(tc, length_zero_on_every_command);
	tcase_add_both(tc, flush_with_offset_or_length);
	tcase_add_both(tc, a_read_over_the_largest_block_takes_no_memory);
	tcase_add_both(tc, a_write_over_the_largest_block_is_dropped_not_kept);
	tcase_add_test(tc, block_status_without_its_context);
	tcase_add_both(tc, the_same_cookie_twice_gets_two_answers);
	tcase_add_test(tc, after_disc_nothing_is_heard);
	tcase_add_both(tc, disc_with_nonsense_in_it_is_disc);
	tcase_add_test(tc, bad_magic_behind_good_requests_leaves_their_answers);
	tcase_add_both(tc, close_in_a_request_header);
	tcase_add_both(tc, close_in_a_small_payload);
	tcase_add_both(tc, close_in_a_large_payload_writes_nothing);
	tcase_add_both(tc, close_in_a_payload_that_is_dropped);
	tcase_add_both(tc, close_with_64_reads_in_flight);
	tcase_add_both(tc, close_with_writes_in_flight_does_not_lose_them);
	tcase_add_both(tc, close_with_replies_nobody_reads);
	tcase_add_both(tc, reset_in_the_middle_of_a_reply);
	tcase_add_both(tc, a_slow_reader_of_2_mib_reads_gets_every_byte);
	tcase_add_test(tc, sixteen_stuck_clients_are_bounded_and_stop_nobody);
	tcase_add_test(tc,
		       a_stuck_client_yields_its_memory_when_others_need_it);
	tcase_add_test(tc, a_slow_client_yields_its_memory_when_others_need_it);
	tcase_add_test(tc, a_client_that_leaves_its_last_replies_is_dropped);
	tcase_add_test(tc, a_stalled_payload_stops_nobody);
	return unit_run(suite);
}
