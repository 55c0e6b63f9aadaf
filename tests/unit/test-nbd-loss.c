/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd driver and a server that goes away: what is sent again, for how long,
 * to whom, and what is refused. */
#include "nbd-rig.h"

#define NS_PER_S 1000000000ull

static void lose(void)
{
	close(rig.fd);
	rig.fd = -1;
	rig_turn();
}

/* The node's next connection, with its handshake. */
static void come_back(void)
{
	rig.fd = accept_again();
	ck_assert(handshake(rig.fd, &rig.says));
	rig_turn();
}

static void answer_all(uint32_t count)
{
	while (count--)
		put_simple(rig.fd, get_call(rig.fd).cookie, 0);
}

static void finish(struct item *item, int error)
{
	wait_done(item);
	ck_assert_int_eq(item->error, error);
	give(item);
}

/* Half of it was sent, a part of it was answered, and some waits yet. */
START_TEST(what_was_in_flight_is_sent_again_in_its_order)
{
	struct item *items[300], *read;
	struct got g;
	uint32_t i;

	setup();
	open_good(NULL, NULL);
	read = submit(BLKTAP_OP_READ, 0, 0, 8192);
	for (i = 0; i < 300; i++)
		items[i] = submit(BLKTAP_OP_WRITE, 0, i * 1024, 1024);
	g = get_call(rig.fd);
	put_data(rig.fd, g.cookie, 0, 0, 4096);
	for (i = 0; i < 10; i++)
		g = get_call(rig.fd);
	put_simple(rig.fd, g.cookie, 0);
	wait_done(items[9]);
	lose();
	ck_assert_uint_eq(rig.done, 1);
	come_back();
	g = get_call(rig.fd);
	ck_assert_uint_eq(g.type, NBD_CMD_READ);
	put_data(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE, 0, 8192);
	for (i = 0; i < 299; i++) {
		g = get_call(rig.fd);
		ck_assert_uint_eq(g.offset, (i < 9 ? i : i + 1) * 1024);
		put_simple(rig.fd, g.cookie, 0);
	}
	wait_done(read);
	check_data(read);
	finish(read, 0);
	for (i = 0; i < 300; i++)
		finish(items[i], 0);
	ck_assert_ptr_nonnull(strstr(rig.logged, "cannot receive"));
	ck_assert_ptr_nonnull(strstr(rig.logged, "connected again"));
	ck_assert_uint_eq(rig_nbd()->reconnects, 1);
	teardown();
}
END_TEST

START_TEST(an_answer_to_the_first_sending_is_not_one_to_the_second)
{
	struct item *item;
	uint64_t first;

	setup();
	open_good("reconnect=1s", NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	first = get_call(rig.fd).cookie;
	lose();
	come_back();
	ck_assert_uint_ne(get_call(rig.fd).cookie, first);
	put_simple(rig.fd, first, 0);
	rig_turn();
	ck_assert(!item->done);
	ck_assert_ptr_nonnull(strstr(rig.logged, "is of no request"));
	close(rig.fd);
	come_back();
	answer_all(1);
	finish(item, 0);
	teardown();
}
END_TEST

START_TEST(requests_fail_when_the_server_stays_away_and_work_when_it_is_back)
{
	struct item *before, *between, *item;

	setup();
	open_good("reconnect=5s", NULL);
	before = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	get_call(rig.fd);
	close(rig.listener);
	unlink(rig.path);
	lose();
	between = submit(BLKTAP_OP_READ, 0, 0, 512);
	bt_loop_advance(rig.env.loop, 5 * NS_PER_S - 1);
	rig_turn();
	ck_assert(!before->done && !between->done);
	bt_loop_advance(rig.env.loop, 1);
	rig_turn();
	finish(before, -EIO);
	finish(between, -EIO);
	ck_assert_ptr_nonnull(strstr(rig.logged, "did not come back"));
	/* and at once from now on */
	item = submit(BLKTAP_OP_READ, 0, 0, 512);
	ck_assert(item->done);
	finish(item, -EIO);
	/* the same name, another socket */
	{
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		strcpy(addr.sun_path, rig.path);
		rig.listener = socket(AF_UNIX, SOCK_STREAM, 0);
		ck_assert_int_eq(bind(rig.listener, (struct sockaddr *)&addr,
				      sizeof(addr)),
				 0);
		ck_assert_int_eq(listen(rig.listener, 4), 0);
	}
	bt_loop_advance(rig.env.loop, 5 * NS_PER_S);
	come_back();
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	answer_all(1);
	finish(item, 0);
	teardown();
}
END_TEST

START_TEST(without_reconnect_a_loss_fails_at_once)
{
	struct item *items[2];

	setup();
	open_good("reconnect=0s", NULL);
	items[0] = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	items[1] = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	get_call(rig.fd);
	lose();
	finish(items[0], -EIO);
	finish(items[1], -EIO);
	come_back();
	/* no answer of a server, so not for good */
	items[1] = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	answer_all(1);
	finish(items[1], 0);
	teardown();
}
END_TEST

/* A request that kills each server it meets must end one day. */
START_TEST(a_request_that_is_fatal_to_servers_is_not_sent_for_ever)
{
	struct item *item;
	int i;

	setup();
	open_good("reconnect=2s", NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	get_call(rig.fd);
	lose();
	for (i = 0; i < 100 && !item->done; i++) {
		come_back();
		get_call(rig.fd);
		bt_loop_advance(rig.env.loop, NS_PER_S / 10);
		lose();
	}
	ck_assert_int_ge(i, 5);
	finish(item, -EIO);
	teardown();
}
END_TEST

#define CHANGES 7

START_TEST(an_export_that_is_not_the_same_is_refused)
{
	static const char *const told[CHANGES] = {
		"has shrunk from 1048576 to 524288 bytes",
		"has become read-only",
		"lost the abilities 0x4",
		"lost the abilities 0x60",
		"lost base:allocation",
		"block sizes are now 4096 to 65536, and were 512 to 65536",
		"block sizes are now 512 to 4096",
	};
	struct item *item;

	setup();
	open_good("reconnect=1s", NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	get_call(rig.fd);
	lose();
	if (_i == 0)
		rig.says.size /= 2;
	if (_i == 1)
		rig.says.flags |= NBD_FLAG_READ_ONLY;
	if (_i == 2)
		rig.says.flags &= (uint16_t)~NBD_FLAG_SEND_FLUSH;
	if (_i == 3)
		rig.says.flags &= (uint16_t) ~(NBD_FLAG_SEND_TRIM |
					       NBD_FLAG_SEND_WRITE_ZEROES);
	if (_i == 4)
		rig.says.meta = false;
	if (_i == 5)
		rig.says.min = 4096;
	if (_i == 6)
		rig.says.max = 4096;
	come_back();
	ck_assert_msg(strstr(rig.logged, told[_i]) != NULL, "%s", rig.logged);
	ck_assert(!item->done);
	/* the right one comes in time */
	rig.says = good();
	rig.says.size *= 2; /* larger is fine */
	close(rig.fd);
	come_back();
	answer_all(1);
	finish(item, 0);
	ck_assert_uint_eq(rig.node->limits.size, MIB);
	teardown();
}
END_TEST

START_TEST(a_silent_server_is_given_up_after_its_time)
{
	struct item *item;
	int old;

	setup();
	open_good("timeout=3s", NULL);
	/* silence without a question is fine */
	bt_loop_advance(rig.env.loop, 100 * NS_PER_S);
	rig_turn();
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	get_call(rig.fd);
	bt_loop_advance(rig.env.loop, 3 * NS_PER_S - 1);
	rig_turn();
	ck_assert_uint_eq(rig_nbd()->up, 1);
	bt_loop_advance(rig.env.loop, 1);
	rig_turn();
	ck_assert_uint_eq(rig_nbd()->up, 0);
	ck_assert_ptr_nonnull(strstr(rig.logged, "no answer within 3000 ms"));
	old = rig.fd;
	come_back();
	answer_all(1);
	finish(item, 0);
	close(old);
	teardown();
}
END_TEST

/* Something comes each second: an answer to another request, or one byte more. */
START_TEST(a_request_that_is_left_out_ends_the_connection)
{
	struct item *item, *other;
	uint64_t cookie;
	int i;

	setup();
	open_good("timeout=3s", "reconnect=0s");
	item = submit(BLKTAP_OP_READ, 0, 0, 1024);
	cookie = get_call(rig.fd).cookie;
	if (_i) {
		put_chunk(rig.fd, cookie, 1, NBD_REPLY_TYPE_OFFSET_DATA, 1032);
		put_be(rig.fd, 0, 8);
	}
	for (i = 0; i < 29; i++) {
		bt_loop_advance(rig.env.loop, NS_PER_S);
		rig_turn();
		if (_i) {
			put(rig.fd, "x", 1);
			rig_turn();
		} else {
			other = submit(BLKTAP_OP_WRITE, 0, 4096, 512);
			answer_all(1);
			finish(other, 0);
		}
		ck_assert_uint_eq(rig_nbd()->up, 1);
	}
	bt_loop_advance(rig.env.loop, NS_PER_S);
	rig_turn();
	ck_assert_uint_eq(rig_nbd()->up, 0);
	ck_assert_ptr_nonnull(strstr(
		rig.logged, "a request was not answered within 30000 ms"));
	finish(item, -EIO);
	teardown();
}
END_TEST

/* A server that accepts and says nothing, then one that is well. */
START_TEST(a_handshake_that_hangs_is_given_up)
{
	struct item *item;
	int mute, i;

	setup();
	open_good("timeout=1s", NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	get_call(rig.fd);
	lose();
	mute = accept_again();
	for (i = 0; i < 12; i++) {
		bt_loop_advance(rig.env.loop, NS_PER_S / 10);
		rig_turn();
	}
	ck_assert_ptr_nonnull(strstr(rig.logged, "no answer within 1000 ms"));
	come_back();
	answer_all(1);
	finish(item, 0);
	close(mute);
	teardown();
}
END_TEST

START_TEST(a_server_that_shuts_down_is_left_for_the_next)
{
	struct item *item;

	setup();
	open_good(NULL, NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	put_simple(rig.fd, get_call(rig.fd).cookie, NBD_ESHUTDOWN);
	rig_turn();
	ck_assert(!item->done);
	close(rig.fd);
	come_back();
	answer_all(1);
	finish(item, 0);
	teardown();
}
END_TEST

/* ---- durability ----------------------------------------------------------- */

static void write_one(uint32_t flags)
{
	struct item *item = submit(BLKTAP_OP_WRITE, flags, 0, 512);

	answer_all(1);
	finish(item, 0);
}

START_TEST(unflushed_fail_tells_at_the_next_flush_and_for_good)
{
	struct item *item;

	setup();
	open_good("unflushed=fail", NULL);
	/* what is flushed, or went with FUA, is safe */
	write_one(0);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	answer_all(1);
	finish(item, 0);
	write_one(BLKTAP_FUA);
	lose();
	come_back();
	ck_assert_uint_eq(rig.node->losses, 0);
	write_one(BLKTAP_FUA);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	answer_all(1);
	finish(item, 0);
	/* what is not, is not */
	write_one(0);
	lose();
	come_back();
	ck_assert_uint_eq(rig.node->losses, 1);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	finish(item, -EIO);
	write_one(0);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	finish(item, -EIO);
	ck_assert_ptr_nonnull(
		strstr(rig.logged, "writes that were not flushed may be lost"));
	teardown();
}
END_TEST

/* A system that lost its power: the connection that has nothing to say does not know,
 * and the flush that it would be asked for is answered by the new one. */
START_TEST(unflushed_fail_does_not_rely_on_an_idle_connection)
{
	struct item *item;
	int first;

	setup();
	open_good("unflushed=fail", "connections=2");
	first = rig.fd;
	come_back();
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	put_simple(first, get_call(first).cookie, 0);
	finish(item, 0);
	close(first);
	rig_turn();
	come_back();
	ck_assert_uint_eq(rig_nbd()->up, 2);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	finish(item, -EIO);
	teardown();
}
END_TEST

/* The flush is sent again, and the new server has nothing to flush. One that waits
 * for a call has not even been sent. */
START_TEST(unflushed_fail_tells_flushes_that_were_under_way)
{
	struct item *flush, *late, *items[BT_NBDC_CALLS - 1];
	uint32_t i;

	setup();
	open_good("unflushed=fail", NULL);
	write_one(0);
	flush = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	for (i = 0; i < BT_NBDC_CALLS - 1; i++)
		items[i] = submit(BLKTAP_OP_READ, 0, 0, 512);
	late = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	get_call(rig.fd);
	lose();
	come_back();
	put_simple(rig.fd, get_call(rig.fd).cookie, 0);
	finish(flush, -EIO);
	for (i = 0; i < BT_NBDC_CALLS - 1; i++) {
		put_data(rig.fd, get_call(rig.fd).cookie, NBD_REPLY_FLAG_DONE,
			 0, 512);
		finish(items[i], 0);
	}
	answer_all(1);
	finish(late, -EIO);
	teardown();
}
END_TEST

START_TEST(unflushed_never_sends_all_with_fua)
{
	struct item *item;
	struct got g;

	setup();
	open_good("unflushed=never", NULL);
	item = submit(BLKTAP_OP_WRITE, 0, 0, 512);
	g = get_call(rig.fd);
	ck_assert_uint_eq(g.flags, NBD_CMD_FLAG_FUA);
	put_simple(rig.fd, g.cookie, 0);
	finish(item, 0);
	item = submit(BLKTAP_OP_DISCARD, 0, 0, 512);
	g = get_call(rig.fd);
	ck_assert_uint_eq(g.flags, NBD_CMD_FLAG_FUA);
	put_simple(rig.fd, g.cookie, 0);
	finish(item, 0);
	teardown();
}
END_TEST

START_TEST(a_flush_that_failed_fails_until_it_is_opened_anew)
{
	struct item *item;

	setup();
	open_good(NULL, NULL);
	write_one(0);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	put_simple(rig.fd, get_call(rig.fd).cookie, NBD_EIO);
	finish(item, -EIO);
	write_one(0);
	item = submit(BLKTAP_OP_FLUSH, 0, 0, 0);
	finish(item, -EIO);
	teardown();
}
END_TEST

/* ---- several connections -------------------------------------------------- */

START_TEST(several_connections_share_the_work_and_each_others_losses)
{
	struct item *items[4];
	struct got g;
	int fds[2], i;

	setup();
	open_good("connections=2", NULL);
	fds[0] = rig.fd;
	come_back();
	fds[1] = rig.fd;
	ck_assert_uint_eq(rig_nbd()->up, 2);
	for (i = 0; i < 4; i++)
		items[i] = submit(BLKTAP_OP_WRITE, 0, (uint64_t)i * 512, 512);
	for (i = 0; i < 4; i++) {
		g = get_call(fds[i & 1]);
		ck_assert_uint_eq(g.offset, (uint64_t)i * 512);
		if (i & 1)
			put_simple(fds[1], g.cookie, 0);
	}
	finish(items[1], 0);
	finish(items[3], 0);
	close(fds[0]);
	rig_turn();
	answer_all(2);
	finish(items[0], 0);
	finish(items[2], 0);
	/* and the lost one comes back */
	come_back();
	ck_assert_uint_eq(rig_nbd()->up, 2);
	close(fds[1]);
	teardown();
}
END_TEST

START_TEST(one_connection_where_the_server_promises_no_more)
{
	setup();
	rig.says.flags &= (uint16_t)~NBD_FLAG_CAN_MULTI_CONN;
	open_good("connections=4", NULL);
	ck_assert_uint_eq(rig_nbd()->conn_count, 1);
	ck_assert_ptr_nonnull(strstr(rig.logged, "one is used"));
	teardown();
}
END_TEST

START_TEST(closing_says_goodbye)
{
	struct got g;
	char c;

	setup();
	open_good(NULL, NULL);
	bt_pool_destroy(rig.pool);
	bt_port_link(&rig.top, NULL);
	bt_node_destroy(rig.node);
	rig.node = NULL;
	g = get_call(rig.fd);
	ck_assert_uint_eq(g.type, NBD_CMD_DISC);
	ck_assert(!get(rig.fd, &c, 1));
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-loss");
	TCase *tc = tcase_create("nbd-loss");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_was_in_flight_is_sent_again_in_its_order);
	tcase_add_test(tc,
		       an_answer_to_the_first_sending_is_not_one_to_the_second);
	tcase_add_test(
		tc,
		requests_fail_when_the_server_stays_away_and_work_when_it_is_back);
	tcase_add_test(tc, without_reconnect_a_loss_fails_at_once);
	tcase_add_test(tc,
		       a_request_that_is_fatal_to_servers_is_not_sent_for_ever);
	tcase_add_loop_test(tc, an_export_that_is_not_the_same_is_refused, 0,
			    CHANGES);
	tcase_add_test(tc, a_silent_server_is_given_up_after_its_time);
	tcase_add_loop_test(tc, a_request_that_is_left_out_ends_the_connection,
			    0, 2);
	tcase_add_test(tc, a_handshake_that_hangs_is_given_up);
	tcase_add_test(tc, a_server_that_shuts_down_is_left_for_the_next);
	tcase_add_test(tc, unflushed_fail_tells_at_the_next_flush_and_for_good);
	tcase_add_test(tc, unflushed_fail_does_not_rely_on_an_idle_connection);
	tcase_add_test(tc, unflushed_fail_tells_flushes_that_were_under_way);
	tcase_add_test(tc, unflushed_never_sends_all_with_fua);
	tcase_add_test(tc, a_flush_that_failed_fails_until_it_is_opened_anew);
	tcase_add_test(
		tc, several_connections_share_the_work_and_each_others_losses);
	tcase_add_test(tc, one_connection_where_the_server_promises_no_more);
	tcase_add_test(tc, closing_says_goodbye);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
