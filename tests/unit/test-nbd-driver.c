/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbd driver against a server that is the test itself: what it sends, what
 * it makes of answers right and wrong, and what a lost server means. */
#include "nbd-rig.h"

/* ---- URIs ----------------------------------------------------------------- */

START_TEST(uris_are_read_as_their_document_says)
{
	static const struct {
		const char *text, *export, *socket, *host, *port;
	} good_ones[] = {
		{ "nbd://h", "", NULL, "h", "10809" },
		{ "nbd://h/", "", NULL, "h", "10809" },
		{ "nbd://h:1/a/b", "a/b", NULL, "h", "1" },
		{ "nbd://u@h:65535/x%20y", "x y", NULL, "h", "65535" },
		{ "nbd://[::1]:5/e", "e", NULL, "::1", "5" },
		{ "nbd://[::1]/e", "e", NULL, "::1", "10809" },
		{ "//h/e?x=y", "e", NULL, "h", "10809" },
		{ "nbd:///e", "e", NULL, "", "10809" },
		{ "nbd+unix:///?socket=/a", "", "/a", NULL, NULL },
		{ "nbd+unix:///e%2Ff?x=1&socket=/a%3d", "e/f", "/a=", NULL,
		  NULL },
	};
	struct bt_nbdc_uri uri;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(good_ones); i++) {
		ck_assert_msg(!bt_nbdc_uri_parse(good_ones[i].text, &uri, NULL),
			      "%s", good_ones[i].text);
		ck_assert_str_eq(uri.export, good_ones[i].export);
		ck_assert_pstr_eq(uri.socket, good_ones[i].socket);
		ck_assert_pstr_eq(uri.host, good_ones[i].host);
		ck_assert_pstr_eq(uri.port, good_ones[i].port);
		bt_nbdc_uri_fini(&uri);
	}
}
END_TEST

START_TEST(a_wrong_uri_is_told_with_what_is_wrong)
{
	static const struct {
		const char *text, *why;
	} bad_ones[] = {
		{ "", "not the URI" },
		{ "http://x", "not the URI" },
		{ "nbdx://h/", "not the URI" },
		{ "nbd+unix:///e", "?socket=PATH is missing" },
		{ "nbd+unix:///e?sock=/a", "?socket=PATH is missing" },
		{ "nbd+unix://h/e?socket=/a", "has no host" },
		{ "nbd+unix:///e?socket=/a&socket=/b", "two sockets" },
		{ "nbd+unix:///e?socket=/a%0", "wrong %-escape" },
		{ "nbd://h/%00", "wrong %-escape" },
		{ "nbd://h/%zz", "wrong %-escape" },
		{ "nbd://h%/x", "wrong %-escape" },
		{ "nbd://h:99999/", "not a number up to" },
		{ "nbd://h:x/", "not a number up to" },
		{ "nbd://[::1/", "']' is missing" },
		{ "nbd://[::1]5/", "':' is missing" },
	};
	struct bt_nbdc_uri uri;
	char text[300] = "nbd+unix:///?socket=/";
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(bad_ones); i++) {
		struct blktap_error *err = NULL;

		ck_assert_msg(bt_nbdc_uri_parse(bad_ones[i].text, &uri, &err) <
				      0,
			      "%s", bad_ones[i].text);
		ck_assert_msg(strstr(blktap_error_get_message(err),
				     bad_ones[i].why) != NULL,
			      "%s", blktap_error_get_message(err));
		blktap_error_destroy(err);
	}
	memset(text + strlen(text), 'x', 108);
	ck_assert_int_eq(bt_nbdc_uri_parse(text, &uri, NULL), -ENAMETOOLONG);
}
END_TEST

/* ---- the handshake -------------------------------------------------------- */

START_TEST(size_limits_and_abilities_are_the_servers)
{
	const struct bt_limits *l;

	setup();
	open_good(NULL, NULL);
	l = &rig.node->limits;
	ck_assert_uint_eq(l->size, MIB);
	ck_assert_uint_eq(l->block_size, 512);
	ck_assert_uint_eq(l->preferred_block_size, 4096);
	ck_assert_uint_eq(l->max_transfer, 65536);
	ck_assert(l->native_fua && !l->read_only);
	ck_assert_uint_eq(l->operations, BT_OPS_ALL);
	teardown();
}
END_TEST

START_TEST(what_a_server_cannot_do_is_not_offered)
{
	const struct bt_limits *l;

	setup();
	rig.says.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;
	rig.says.meta = false;
	open_good(NULL, NULL);
	l = &rig.node->limits;
	ck_assert(!l->native_fua && l->read_only);
	ck_assert_uint_eq(l->operations, 1u << BLKTAP_OP_READ |
						 1u << BLKTAP_OP_WRITE |
						 1u << BLKTAP_OP_FLUSH);
	teardown();
}
END_TEST

/* bit 0: structured replies, 1: GO, 2: zeroes behind EXPORT_NAME */
START_TEST(older_servers_are_met_halfway)
{
	struct item *item;
	struct got g;

	setup();
	rig.says.structured = _i & 1;
	rig.says.go = _i & 2;
	if (_i & 4)
		rig.says.greeting = NBD_FLAG_FIXED_NEWSTYLE;
	open_good(NULL, NULL);
	ck_assert_uint_eq(rig.node->limits.size, MIB);
	ck_assert_uint_eq(rig.node->limits.block_size, 512);
	item = submit(BLKTAP_OP_READ, 0, 4096, 4096);
	g = get_call(rig.fd);
	if (_i & 1) {
		put_data(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE, 4096, 4096);
	} else {
		uint8_t data[4096];
		uint32_t i;

		for (i = 0; i < 4096; i++)
			data[i] = byte_at(4096 + i);
		put_simple(rig.fd, g.cookie, 0);
		put(rig.fd, data, 4096);
	}
	wait_done(item);
	ck_assert_int_eq(item->error, 0);
	check_data(item);
	give(item);
	teardown();
}
END_TEST

#define EDIT(what, code, text)                    \
	do {                                      \
		if (_i == n++) {                  \
			rig.says.what;            \
			want = code, told = text; \
		}                                 \
	} while (0)
#define EDITS 16

/* Every figure of the handshake that makes no sense. */
START_TEST(a_wrong_figure_in_the_handshake_is_told)
{
	struct blktap_error *err = NULL;
	const char *told = NULL;
	int n = 0, want = 0;

	setup();
	EDIT(magic = 1, -EPROTO, "magic 0x0000000000000001");
	EDIT(kind = NBD_OLDSTYLE, -EPROTONOSUPPORT, "oldstyle");
	EDIT(kind = 7, -EPROTO, "second magic 0x0000000000000007");
	EDIT(greeting = 2, -EPROTONOSUPPORT, "without fixed newstyle");
	EDIT(exports = false, -EPROTO, "without INFO_EXPORT");
	EDIT(size = 0, -EINVAL, "empty");
	EDIT(size = UINT64_MAX, -EPROTO, "size 18446744073709551615 is over");
	EDIT(size = 1000, -EPROTO, "size 1000 is not a multiple");
	EDIT(flags = 0, -EPROTO, "transmission flags 0x0");
	EDIT(min = 0, -EPROTO, "minimum block size 0");
	EDIT(min = 3000, -EPROTO, "minimum block size 3000");
	EDIT(min = 131072, -EPROTO, "minimum block size 131072");
	EDIT(preferred = 256, -EPROTO, "preferred block size 256");
	EDIT(preferred = 5000, -EPROTO, "preferred block size 5000");
	EDIT(max = 256, -EPROTO, "maximum block size 256");
	EDIT(max = 1000, -EPROTO, "maximum block size 1000");
	ck_assert_int_eq(n, EDITS);
	ck_assert_int_eq(rig_open(NULL, NULL, 0, &err), want);
	ck_assert_msg(strstr(blktap_error_get_message(err), told) != NULL, "%s",
		      blktap_error_get_message(err));
	ck_assert_msg(strstr(blktap_error_get_message(err), rig.path) != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	teardown();
}
END_TEST

#define REP(option, type, len) \
	"\0\3\350\211\4\125\145\251\0\0\0" option type len
#define GO_ERR(n, len) REP("\7", "\200\0\0" n, "\0\0\0" len)

static const struct {
	uint32_t option;
	const char *bytes;
	size_t len;
	int code;
	const char *told;
} odd_replies[] = {
#define ODD(option, bytes, code, told)                       \
	{                                                    \
		option, bytes, sizeof(bytes) - 1, code, told \
	}
	ODD(7, GO_ERR("\6", "\3") "a\nb", -ENOENT,
	    "has no such export (GO, error 0x80000006): a?b"),
	ODD(7, GO_ERR("\5", "\0"), -ENOTSUP, "wants TLS"),
	ODD(8, REP("\10", "\200\0\0\5", "\0\0\0\0"), -ENOTSUP, "wants TLS"),
	ODD(7, GO_ERR("\2", "\0"), -EACCES, "does not allow"),
	ODD(7, GO_ERR("\7", "\0"), -ESHUTDOWN, "shutting down"),
	ODD(7, GO_ERR("\3", "\0"), -EINVAL, "refuses it"),
	ODD(7, "\1\3\350\211\4\125\145\251\0\0\0\7\0\0\0\1\0\0\0\0", -EPROTO,
	    "option reply magic 0x0103"),
	ODD(7, REP("\10", "\0\0\0\1", "\0\0\0\0"), -EPROTO,
	    "reply to option 8, not to 7"),
	ODD(7, REP("\7", "\0\0\0\1", "\377\377\377\377"), -EPROTO,
	    "length 4294967295"),
	ODD(7, REP("\7", "\0\0\0\2", "\0\0\0\0"), -EPROTO,
	    "type 0x2 during GO"),
	ODD(7, REP("\7", "\0\0\0\3", "\0\0\0\1") "x", -EPROTO, "INFO 65535"),
	ODD(7, REP("\7", "\0\0\0\3", "\0\0\0\2") "\0\0", -EPROTO,
	    "INFO 0 has 2 bytes"),
	ODD(7, REP("\7", "\0\0\0\3", "\0\0\0\3") "\0\3x", -EPROTO,
	    "INFO 3 has 3 bytes"),
	ODD(10, REP("\12", "\0\0\0\4", "\0\0\0\3") "abc", -EPROTO,
	    "META_CONTEXT of 3 bytes"),
	ODD(10, REP("\12", "\0\0\0\4", "\0\0\0\7") "\0\0\0\1xyz", -EPROTO,
	    "META_CONTEXT of 7 bytes"),
	ODD(8, REP("\10", "\0\0\0\4", "\0\0\0\0"), -EPROTO,
	    "type 0x4 during STRUCTURED_REPLY"),
	ODD(7, "\0\3", -ECONNRESET, "closed the connection during GO"),
	ODD(8, "", -ECONNRESET, "closed the connection during STRUCTURED"),
};

START_TEST(a_wrong_reply_in_the_handshake_is_told)
{
	struct blktap_error *err = NULL;

	setup();
	rig.says.odd_option = odd_replies[_i].option;
	rig.says.odd = (const uint8_t *)odd_replies[_i].bytes;
	rig.says.odd_len = odd_replies[_i].len;
	rig.says.hang_up = true;
	ck_assert_int_eq(rig_open(NULL, NULL, 0, &err), odd_replies[_i].code);
	ck_assert_msg(strstr(blktap_error_get_message(err),
			     odd_replies[_i].told) != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	teardown();
}
END_TEST

START_TEST(endless_replies_to_an_option_end)
{
	static const uint8_t info[] = REP("\7", "\0\0\0\3", "\0\0\0\2") "\0\7";
	uint8_t *many = malloc(300 * (sizeof(info) - 1));
	struct blktap_error *err = NULL;
	int i;

	setup();
	for (i = 0; i < 300; i++)
		memcpy(many + (size_t)i * (sizeof(info) - 1), info,
		       sizeof(info) - 1);
	rig.says.odd_option = NBD_OPT_GO;
	rig.says.odd = many;
	rig.says.odd_len = 300 * (sizeof(info) - 1);
	rig.says.hang_up = true;
	ck_assert_int_eq(rig_open(NULL, NULL, 0, &err), -EPROTO);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "more than 256 replies"));
	blktap_error_destroy(err);
	free(many);
	teardown();
}
END_TEST

START_TEST(a_silent_server_holds_an_open_no_longer_than_its_time)
{
	struct blktap_error *err = NULL;

	setup();
	rig.says.silent = true;
	ck_assert_int_eq(rig_open("timeout=50ms", NULL, 0, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "within 50 ms"));
	blktap_error_destroy(err);
	teardown();
}
END_TEST

START_TEST(no_server_and_two_exports_are_refused_at_once)
{
	struct blktap_error *err = NULL;
	struct bt_args *args;
	struct bt_node *node;

	setup();
	unlink(rig.path);
	ck_assert_int_eq(bt_args_create(&bt_nbd_class, &args), 0);
	ck_assert_int_eq(bt_args_set_at(args, 0, rig.spec, NULL), 0);
	ck_assert_int_eq(bt_args_set(args, "export", "disk", NULL), 0);
	ck_assert_int_eq(bt_node_create(&rig.env, &bt_nbd_class, NULL, args,
					&node, NULL),
			 0);
	ck_assert_int_eq(bt_node_open(node, 0, &err), -ENOENT);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "cannot connect"));
	blktap_error_destroy(err);
	bt_node_destroy(node);

	ck_assert_int_eq(bt_args_create(&bt_nbd_class, &args), 0);
	ck_assert_int_eq(bt_args_set_at(args, 0, rig.spec, NULL), 0);
	ck_assert_int_eq(bt_args_set(args, "export", "other", NULL), 0);
	ck_assert_int_eq(bt_nbd_class.check_args(args, NULL), -EINVAL);
	bt_args_destroy(args);
	teardown();
}
END_TEST

/* ---- requests ------------------------------------------------------------- */

START_TEST(each_operation_is_the_right_command)
{
	static const struct {
		enum blktap_op op;
		uint32_t flags;
		uint64_t offset, length;
		struct got want;
	} cases[] = {
		{ BLKTAP_OP_WRITE, 0, 512, 1024, { 0, 1, 0, 512, 1024 } },
		{ BLKTAP_OP_WRITE, BLKTAP_FUA, 0, 512, { 1, 1, 0, 0, 512 } },
		{ BLKTAP_OP_FLUSH, 0, 0, 0, { 0, 3, 0, 0, 0 } },
		{ BLKTAP_OP_DISCARD, 0, 512, 512, { 0, 4, 0, 512, 512 } },
		{ BLKTAP_OP_WRITE_ZEROES, 0, 0, 512, { 2, 6, 0, 0, 512 } },
		{ BLKTAP_OP_WRITE_ZEROES,
		  BLKTAP_MAY_UNMAP | BLKTAP_FUA,
		  0,
		  512,
		  { 1, 6, 0, 0, 512 } },
		{ BLKTAP_OP_WRITE_ZEROES,
		  BLKTAP_FAST_ONLY,
		  0,
		  512,
		  { 18, 6, 0, 0, 512 } },
		{ BLKTAP_OP_PREFETCH, 0, 100, 1000, { 0, 5, 0, 0, 1536 } },
		{ BLKTAP_OP_PREFETCH, 0, 0, MIB, { 0, 5, 0, 0, 65536 } },
	};
	size_t i;

	setup();
	open_good(NULL, NULL);
	for (i = 0; i < BT_ARRAY_SIZE(cases); i++) {
		struct item *item = submit(cases[i].op, cases[i].flags,
					   cases[i].offset, cases[i].length);
		struct got g = get_call(rig.fd);

		ck_assert_uint_eq(g.type, cases[i].want.type);
		ck_assert_uint_eq(g.flags, cases[i].want.flags);
		ck_assert_uint_eq(g.offset, cases[i].want.offset);
		ck_assert_uint_eq(g.length, cases[i].want.length);
		if (i & 1)
			put_simple(rig.fd, g.cookie, 0);
		else
			put_chunk(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE,
				  NBD_REPLY_TYPE_NONE, 0);
		wait_done(item);
		ck_assert_int_eq(item->error, 0);
		give(item);
	}
	teardown();
}
END_TEST

START_TEST(a_read_may_come_in_pieces_of_any_order_and_kind)
{
	struct item *item;
	struct got g;
	uint64_t i;

	setup();
	open_good(NULL, NULL);
	item = submit(BLKTAP_OP_READ, 0, 4096, 8192);
	g = get_call(rig.fd);
	put_data(rig.fd, g.cookie, 0, 12000, 288);
	put_data(rig.fd, g.cookie, 0, 4096, 1);
	put_hole(rig.fd, g.cookie, 0, 8192, 3808);
	put_data(rig.fd, g.cookie, 0, 4098, 4094);
	put_data(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE, 4097, 1);
	wait_done(item);
	ck_assert_int_eq(item->error, 0);
	for (i = 0; i < 8192; i++)
		ck_assert_uint_eq(item->data[i], i >= 4096 && i < 7904
							 ? 0
							 : byte_at(4096 + i));
	give(item);
	teardown();
}
END_TEST

START_TEST(bytes_that_come_one_by_one_are_understood)
{
	struct item *items[2];
	struct got g[2];
	uint8_t bytes[1200];
	ssize_t n, k;
	int pair[2];

	setup();
	open_good(NULL, NULL);
	items[0] = submit(BLKTAP_OP_READ, 0, 0, 1024);
	items[1] = submit(BLKTAP_OP_WRITE, 0, 512, 512);
	g[0] = get_call(rig.fd);
	g[1] = get_call(rig.fd);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	put_data(pair[0], g[0].cookie, NBD_REPLY_FLAG_DONE, 0, 1024);
	put_simple(pair[0], g[1].cookie, NBD_ENOSPC);
	n = recv(pair[1], bytes, sizeof(bytes), 0);
	for (k = 0; k < n; k++) {
		put(rig.fd, bytes + k, 1);
		rig_turn();
	}
	wait_done(items[1]);
	ck_assert_int_eq(items[0]->error, 0);
	check_data(items[0]);
	ck_assert_int_eq(items[1]->error, -ENOSPC);
	give(items[0]);
	give(items[1]);
	close(pair[0]);
	close(pair[1]);
	teardown();
}
END_TEST

START_TEST(block_status_is_cut_to_what_was_asked)
{
	static const uint32_t told[][2] = {
		{ 512, 0 }, { 1024, 3 }, { 512, 3 }, { 4096, 2 }
	};
	struct item *item;
	struct got g;
	size_t i;

	setup();
	open_good(NULL, NULL);
	item = submit(BLKTAP_OP_BLOCK_STATUS, 0, 600, 2000);
	g = get_call(rig.fd);
	ck_assert_uint_eq(g.type, NBD_CMD_BLOCK_STATUS);
	ck_assert_uint_eq(g.offset, 512);
	ck_assert_uint_eq(g.length, 2560);
	put_chunk(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE,
		  NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * 4);
	put_be(rig.fd, 17, 4);
	for (i = 0; i < 4; i++) {
		put_be(rig.fd, told[i][0], 4);
		put_be(rig.fd, told[i][1], 4);
	}
	wait_done(item);
	ck_assert_int_eq(item->error, 0);
	ck_assert_uint_eq(item->req.extent_count, 3);
	ck_assert_uint_eq(item->extents[0].length, 424);
	ck_assert_uint_eq(item->extents[0].flags, 0);
	ck_assert_uint_eq(item->extents[1].length, 1536);
	ck_assert_uint_eq(item->extents[1].flags,
			  BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO);
	ck_assert_uint_eq(item->extents[2].length, 40);
	ck_assert_uint_eq(item->extents[2].flags, BLKTAP_EXTENT_ZERO);
	give(item);
	teardown();
}
END_TEST

START_TEST(errors_are_those_of_the_server_and_its_words_are_logged)
{
	static const struct {
		uint32_t wire;
		int error;
	} cases[] = { { 1, -EPERM },	{ 5, -EIO },	   { 12, -ENOMEM },
		      { 22, -EINVAL },	{ 28, -ENOSPC },   { 75, -EOVERFLOW },
		      { 95, -ENOTSUP }, { 0xffff00, -EIO } };
	size_t i;

	setup();
	open_good(NULL, NULL);
	for (i = 0; i < BT_ARRAY_SIZE(cases); i++) {
		struct item *item = submit(BLKTAP_OP_READ, 0, 512, 512);
		struct got g = get_call(rig.fd);

		/* with data before it, as a disk gives that fails midway */
		put_data(rig.fd, g.cookie, 0, 512, 100);
		put_chunk(rig.fd, g.cookie, NBD_REPLY_FLAG_DONE,
			  NBD_REPLY_TYPE_ERROR_OFFSET, 6 + 9 + 8);
		put_be(rig.fd, cases[i].wire, 4);
		put_be(rig.fd, 9, 2);
		put(rig.fd, "bad\tblock", 9);
		put_be(rig.fd, 612, 8);
		wait_done(item);
		ck_assert_int_eq(item->error, cases[i].error);
		give(item);
	}
	ck_assert_ptr_nonnull(strstr(rig.logged, "bad?block"));
	teardown();
}
END_TEST

/* More than there are calls, and out of order: all are answered. */
START_TEST(requests_beyond_the_calls_wait_their_turn)
{
	struct item *items[300];
	uint64_t cookies[BT_NBDC_CALLS];
	uint32_t i;

	setup();
	open_good(NULL, NULL);
	for (i = 0; i < 300; i++)
		items[i] = submit(BLKTAP_OP_WRITE, 0, i * 512, 512);
	for (i = 0; i < BT_NBDC_CALLS; i++)
		cookies[i] = get_call(rig.fd).cookie;
	ck_assert_uint_eq(rig.done, 0);
	for (i = BT_NBDC_CALLS; i-- > 0;)
		put_simple(rig.fd, cookies[i], 0);
	for (i = BT_NBDC_CALLS; i < 300; i++)
		put_simple(rig.fd, get_call(rig.fd).cookie, 0);
	for (i = 0; i < 300; i++) {
		wait_done(items[i]);
		ck_assert_int_eq(items[i]->error, 0);
		give(items[i]);
	}
	teardown();
}
END_TEST

/* A server that reads nothing for a while: large writes wait in the socket. */
START_TEST(a_socket_that_is_full_is_waited_for)
{
	struct item *items[16];
	uint32_t i;

	setup();
	open_good(NULL, NULL);
	for (i = 0; i < 16; i++)
		items[i] = submit(BLKTAP_OP_WRITE, 0, i * 65536, 65536);
	for (i = 0; i < 8; i++)
		rig_turn();
	ck_assert(rig_nbd()->conns[0].blocked);
	for (i = 0; i < 16; i++)
		put_simple(rig.fd, get_call(rig.fd).cookie, 0);
	for (i = 0; i < 16; i++) {
		wait_done(items[i]);
		give(items[i]);
	}
	ck_assert(!rig_nbd()->conns[0].blocked);
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-driver");
	TCase *tc = tcase_create("nbd-driver");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, uris_are_read_as_their_document_says);
	tcase_add_test(tc, a_wrong_uri_is_told_with_what_is_wrong);
	tcase_add_test(tc, size_limits_and_abilities_are_the_servers);
	tcase_add_test(tc, what_a_server_cannot_do_is_not_offered);
	tcase_add_loop_test(tc, older_servers_are_met_halfway, 0, 8);
	tcase_add_loop_test(tc, a_wrong_figure_in_the_handshake_is_told, 0,
			    EDITS);
	tcase_add_loop_test(tc, a_wrong_reply_in_the_handshake_is_told, 0,
			    BT_ARRAY_SIZE(odd_replies));
	tcase_add_test(tc, endless_replies_to_an_option_end);
	tcase_add_test(tc,
		       a_silent_server_holds_an_open_no_longer_than_its_time);
	tcase_add_test(tc, no_server_and_two_exports_are_refused_at_once);
	tcase_add_test(tc, each_operation_is_the_right_command);
	tcase_add_test(tc, a_read_may_come_in_pieces_of_any_order_and_kind);
	tcase_add_test(tc, bytes_that_come_one_by_one_are_understood);
	tcase_add_test(tc, block_status_is_cut_to_what_was_asked);
	tcase_add_test(tc,
		       errors_are_those_of_the_server_and_its_words_are_logged);
	tcase_add_test(tc, requests_beyond_the_calls_wait_their_turn);
	tcase_add_test(tc, a_socket_that_is_full_is_waited_for);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
