/* SPDX-License-Identifier: BSD-3-Clause */
/* The pump: bytes, who waits for whom, and ends. */
#include "tls-rig.h"

#ifdef HAVE_GNUTLS

/* ---- bytes ---------------------------------------------------------------- */

START_TEST(bytes_come_as_they_were_sent)
{
	static const size_t lengths[] = { 1,	 28,	16383,	 16384,
					  16385, 70000, 1u << 21 };

	pass(_i & 1 ? SERVER : CLIENT, lengths[_i / 2], 65536);
	pass(_i & 1 ? CLIENT : SERVER, lengths[_i / 2], 65536);
}
END_TEST

START_TEST(a_network_of_few_bytes_at_a_time_changes_nothing)
{
	static const size_t most[] = { 1, 5, 1447 };

	pass(CLIENT, 100 * most[_i], most[_i]);
	pass(SERVER, 100 * most[_i], most[_i]);
}
END_TEST

START_TEST(what_goes_over_the_network_is_not_what_was_sent)
{
	uint8_t bytes[4096];
	ssize_t n, k;

	relay(65536);
	put_text(ends[CLIENT].fd, "a secret of 27 bytes, clear");
	turn();
	n = recv(ends[CLIENT].net, bytes, sizeof(bytes), MSG_DONTWAIT);
	ck_assert_int_gt(n, 27);
	for (k = 0; k + 8 <= n; k++)
		ck_assert_int_ne(memcmp(bytes + k, "a secret", 8), 0);
}
END_TEST

/* What waits is in sockets and four buffers; then it comes, all of it. */
START_TEST(who_does_not_read_stops_who_writes)
{
	const size_t total = 64u << 20;
	size_t sent = 0, held, got = 0;
	int idle = 0;

	while (idle < 8) {
		bool moved = send_some(CLIENT, &sent, total);

		moved |= carry(CLIENT, 65536) > 0;
		moved |= carry(SERVER, 65536) > 0;
		turn();
		idle = moved ? 0 : idle + 1;
	}
	held = sent;
	ck_assert_uint_lt(held, 4u << 20);
	/* the other way is free meanwhile */
	put_text(ends[SERVER].fd, "still here");
	relay(65536);
	wants_text(CLIENT, "still here");
	while (got < held) {
		get_some(SERVER, &got, 1000);
		carry(CLIENT, 65536);
		turn();
	}
	wants_nothing(SERVER);
}
END_TEST

START_TEST(bytes_before_the_handshake_is_done_wait_for_it)
{
	put_text(ends[CLIENT].fd, "early");
	turn();
	wants_nothing(SERVER);
	relay(65536);
	wants_text(SERVER, "early");
}
END_TEST

START_TEST(both_ways_at_once_with_slow_readers)
{
	const size_t total = 3u << 20;
	size_t sent[2] = { 0, 0 }, got[2] = { 0, 0 };
	long rounds;
	int i;

	for (rounds = 0; got[0] < total || got[1] < total; rounds++) {
		for (i = 0; i < 2; i++) {
			send_some(i, &sent[i], total);
			get_some(i, &got[i], 3001);
			carry(i, 9999);
		}
		turn();
		ck_assert_int_lt(rounds, 100000);
	}
}
END_TEST

/* ---- ends ----------------------------------------------------------------- */

START_TEST(half_an_end_is_passed_on_and_the_other_half_stays_open)
{
	relay(65536);
	put_text(ends[CLIENT].fd, "last words");
	shutdown(ends[CLIENT].fd, SHUT_WR);
	relay(65536);
	wants_text(SERVER, "last words");
	wants_end(SERVER);
	pass(SERVER, 300000, 65536);
	close_fd(&ends[SERVER].fd);
	relay(65536);
	wants_end(CLIENT);
	ck_assert_int_eq(ends[CLIENT].ended, 1);
	ck_assert_int_eq(ends[SERVER].ended, 1);
	ck_assert_str_eq(ends[CLIENT].why, "");
	ck_assert_str_eq(ends[SERVER].why, "");
}
END_TEST

START_TEST(what_was_sent_before_the_close_comes)
{
	size_t sent = 0, got = 0;

	relay(65536);
	while (send_some(SERVER, &sent, 1u << 20))
		;
	ck_assert_uint_gt(sent, 65536);
	close_fd(&ends[SERVER].fd);
	while (got < sent) {
		relay(65536);
		ck_assert_int_gt(get_some(CLIENT, &got, 65536), 0);
	}
	relay(65536);
	wants_end(CLIENT);
	close_fd(&ends[CLIENT].fd);
	relay(65536);
	ck_assert_int_eq(ends[SERVER].ended, 1);
	ck_assert_int_eq(ends[CLIENT].ended, 1);
	ck_assert_str_eq(ends[SERVER].why, "");
}
END_TEST

/* Its own end has unread bytes then, which a closed socket reports as an error. */
START_TEST(an_owner_who_closes_unread_bytes_still_gets_his_out)
{
	size_t got = 0, sent = 0;

	pass(CLIENT, 100, 65536);
	put_text(ends[SERVER].fd, "nobody reads this");
	relay(65536);
	send_some(CLIENT, &sent, 30000);
	close_fd(&ends[CLIENT].fd);
	relay(65536);
	while (get_some(SERVER, &got, 65536) > 0)
		;
	ck_assert_uint_eq(got, sent);
	wants_end(SERVER);
	ck_assert_int_eq(ends[CLIENT].ended, 1);
}
END_TEST

START_TEST(a_peer_that_takes_nothing_is_left_in_the_end)
{
	size_t sent = 0;

	relay(65536);
	while (send_some(SERVER, &sent, 8u << 20))
		turn();
	close_fd(&ends[SERVER].fd);
	turn();
	bt_loop_advance(loop, 9000000000ull);
	turn();
	turn();
	ck_assert_int_eq(ends[SERVER].ended, 0);
	bt_loop_advance(loop, 2000000000ull);
	turn();
	turn();
	ck_assert_int_eq(ends[SERVER].ended, 1);
}
END_TEST

START_TEST(a_line_that_is_cut_is_an_end_like_any_other)
{
	relay(65536);
	put_text(ends[CLIENT].fd, "whole");
	relay(65536);
	if (_i) /* in the middle of a record */
		put_text(ends[CLIENT].fd,
			 "a part of this arrives, and no more");
	turn();
	carry(CLIENT, 20);
	shutdown(ends[SERVER].net, SHUT_WR);
	close_fd(&ends[CLIENT].net);
	turn();
	turn();
	wants_text(SERVER, "whole");
	wants_end(SERVER);
	close_fd(&ends[SERVER].fd);
	turn();
	turn();
	ck_assert_int_eq(ends[SERVER].ended, 1);
	ck_assert_str_eq(ends[SERVER].why, "");
	/* the client sees his server go */
	close_fd(&ends[SERVER].net);
	turn();
	wants_end(CLIENT);
}
END_TEST

START_TEST(a_byte_that_was_changed_ends_it_and_is_never_handed_out)
{
	uint8_t bytes[4096];
	ssize_t n;

	relay(65536);
	put_text(ends[CLIENT].fd, "something of importance");
	turn();
	n = recv(ends[CLIENT].net, bytes, sizeof(bytes), MSG_DONTWAIT);
	ck_assert_int_gt(n, 20);
	bytes[n - 1 - _i * 8] ^= 1;
	ck_assert_int_eq(send(ends[SERVER].net, bytes, (size_t)n, 0), n);
	relay(65536);
	wants_end(SERVER);
	ck_assert_str_eq(ends[SERVER].why,
			 "TLS with the client: Decryption has failed");
	ck_assert_int_eq(ends[SERVER].ended, 1);
	wants_end(CLIENT);
	ck_assert_str_eq(ends[CLIENT].why,
			 "the server ended TLS: Bad record MAC");
}
END_TEST

START_TEST(a_pump_may_go_at_any_moment)
{
	relay(65536);
	put_text(ends[CLIENT].fd, "on its way");
	turn();
	bt_tls_destroy(ends[CLIENT].tls);
	ends[CLIENT].tls = NULL;
	wants_end(CLIENT);
	relay(65536);
	ck_assert_int_eq(ends[CLIENT].ended, 0);
}
END_TEST

/* As a client does that waits inside of a callback: the loop stands still. */
START_TEST(steps_without_the_loop_do_as_well)
{
	struct pollfd polls[2];
	int i;

	put_text(ends[CLIENT].fd, "by hand");
	for (i = 0; i < 20; i++) {
		carry(CLIENT, 65536);
		carry(SERVER, 65536);
		bt_tls_step(ends[CLIENT].tls);
		bt_tls_step(ends[SERVER].tls);
	}
	wants_text(SERVER, "by hand");
	bt_tls_get_polls(ends[CLIENT].tls, polls);
	ck_assert_int_eq(polls[0].events, POLLIN);
	ck_assert_int_eq(polls[1].events, POLLIN);
	put_text(ends[CLIENT].fd, "the last");
	close_fd(&ends[CLIENT].fd);
	bt_tls_step(ends[CLIENT].tls);
	bt_tls_destroy(ends[CLIENT].tls);
	ends[CLIENT].tls = NULL;
	carry(CLIENT, 65536);
	bt_tls_step(ends[SERVER].tls);
	wants_text(SERVER, "the last");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("tls");
	TCase *tc = add_case(s, "bytes", setup, teardown);

	tcase_add_loop_test(tc, bytes_come_as_they_were_sent, 0, 14);
	tcase_add_loop_test(
		tc, a_network_of_few_bytes_at_a_time_changes_nothing, 0, 3);
	tcase_add_test(tc, what_goes_over_the_network_is_not_what_was_sent);
	tcase_add_test(tc, who_does_not_read_stops_who_writes);
	tcase_add_test(tc, bytes_before_the_handshake_is_done_wait_for_it);
	tcase_add_test(tc, both_ways_at_once_with_slow_readers);
	tcase_add_test(tc,
		       half_an_end_is_passed_on_and_the_other_half_stays_open);
	tcase_add_test(tc, what_was_sent_before_the_close_comes);
	tcase_add_test(tc, an_owner_who_closes_unread_bytes_still_gets_his_out);
	tcase_add_test(tc, a_peer_that_takes_nothing_is_left_in_the_end);
	tcase_add_loop_test(tc, a_line_that_is_cut_is_an_end_like_any_other, 0,
			    2);
	tcase_add_loop_test(
		tc, a_byte_that_was_changed_ends_it_and_is_never_handed_out, 0,
		2);
	tcase_add_test(tc, a_pump_may_go_at_any_moment);
	tcase_add_test(tc, steps_without_the_loop_do_as_well);
	return s;
}

int main(void)
{
	return tls_run(suite());
}

#else

#include <stdio.h>

int main(void)
{
	puts("skipped: TLS is not built");
	return 77;
}

#endif
