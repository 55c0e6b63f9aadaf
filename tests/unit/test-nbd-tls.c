/* SPDX-License-Identifier: BSD-3-Clause */
/* STARTTLS, by a client who says exactly what he is told, before and behind it. */
#include "nbd-client.h"

#include "tls/tls.h"
#include "util/gnutls.h"

#ifdef HAVE_GNUTLS

#define KEY "alice:00112233445566778899aabbccddeeff\n"

static char keys[sizeof(dir) + 16];
static struct bt_tls_creds *creds;
static struct bt_tls *tls; /* of the one client that has it */

static void write_keys(void)
{
	FILE *f;

	snprintf(keys, sizeof(keys), "%s/keys", dir);
	f = fopen(keys, "w");
	ck_assert_ptr_nonnull(f);
	fputs(KEY, f);
	fclose(f);
}

static void setup_tls(void)
{
	struct bt_tls_files files = { .psk = keys, .user = "alice" };
	struct blktap_nbd_options options;

	setup_bare();
	write_keys();
	blktap_nbd_options_init(&options);
	options.export_name = "disk";
	options.tls = BLKTAP_NBD_TLS_ON;
	options.tls_psk = keys;
	serve_with("ram:64M", 0, &options);
	ck_assert_int_eq(bt_tls_creds_create("test", &files, &creds, NULL), 0);
	unlink(keys);
}

static void teardown_tls(void)
{
	bt_tls_destroy(tls);
	tls = NULL;
	bt_tls_creds_destroy(creds);
	server->tls_mode = BLKTAP_NBD_TLS_ON;
	teardown_serving();
}

static void start_tls(struct peer *p)
{
	struct bt_tls_options options = { .creds = creds };
	int fd = p->fd;

	ck_assert_uint_eq(option(p, NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	ck_assert_int_eq(
		bt_tls_create(server->loop, &options, fd, &p->fd, &tls), 0);
}

static struct peer sealed(void)
{
	struct peer p = greet(BOTH);

	start_tls(&p);
	return p;
}

static void get_end_of_tls(struct peer *p)
{
	get_end(p);
	bt_tls_destroy(tls);
	tls = NULL;
	wait_clients(0);
}

/* ---- what it is for ------------------------------------------------------- */

START_TEST(a_disk_is_served_by_tls)
{
	struct peer p = sealed();

	if (_i) {
		p.structured = true;
		ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0),
				  NBD_REP_ACK);
	}
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	ck_assert_uint_eq(write_at(&p, 0, 12345, 3 << 20), 0);
	check_at(&p, 12345, 3 << 20);
	ck_assert_uint_eq(write_at(&p, NBD_CMD_FLAG_FUA, 1 << 20, 512), 0);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	get_end_of_tls(&p);
}
END_TEST

/* Its replies are longer than all sockets and buffers on the way hold. */
START_TEST(the_replies_of_one_who_leaves_go_out_first)
{
	struct peer p = sealed();
	uint8_t *data = malloc(4 << 20);
	int i;

	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	for (i = 0; i < 4; i++)
		put_request(&p, 0, NBD_CMD_READ, 0, 0, 4 << 20);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	for (i = 0; i < 4; i++)
		get_data(&p, 0, data, 4 << 20);
	get_end_of_tls(&p);
	free(data);
}
END_TEST

START_TEST(an_abort_has_its_answer_by_tls)
{
	struct peer p = sealed();

	ck_assert_uint_eq(option(&p, NBD_OPT_ABORT, NULL, 0), NBD_REP_ACK);
	get_end_of_tls(&p);
}
END_TEST

/* ---- who must have it ----------------------------------------------------- */

START_TEST(what_is_required_comes_before_all_else)
{
	static const uint32_t options[] = {
		NBD_OPT_LIST,
		NBD_OPT_STRUCTURED_REPLY,
		NBD_OPT_SET_META_CONTEXT,
		NBD_OPT_LIST_META_CONTEXT,
		99,
	};
	struct peer p;
	size_t i;

	server->tls_mode = BLKTAP_NBD_TLS_REQUIRE;
	p = greet(BOTH);
	for (i = 0; i < BT_ARRAY_SIZE(options); i++)
		ck_assert_uint_eq(option(&p, options[i], NULL, 0),
				  NBD_REP_ERR_TLS_REQD);
	ck_assert_uint_eq(go(&p), NBD_REP_ERR_TLS_REQD);
	ck_assert_uint_eq(name_option(&p, NBD_OPT_INFO, "disk", 4),
			  NBD_REP_ERR_TLS_REQD);
	start_tls(&p);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	ck_assert_uint_eq(write_at(&p, 0, 0, 512), 0);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	get_end_of_tls(&p);
}
END_TEST

START_TEST(export_name_in_the_clear_is_hung_up_on)
{
	struct peer p;

	server->tls_mode = BLKTAP_NBD_TLS_REQUIRE;
	p = greet(BOTH);
	put_option(&p, NBD_OPT_EXPORT_NAME, "disk", 4);
	get_end(&p);
}
END_TEST

START_TEST(who_only_wants_to_leave_may)
{
	struct peer p;

	server->tls_mode = BLKTAP_NBD_TLS_REQUIRE;
	p = greet(BOTH);
	ck_assert_uint_eq(option(&p, NBD_OPT_ABORT, NULL, 0), NBD_REP_ACK);
	get_end(&p);
}
END_TEST

START_TEST(what_is_offered_need_not_be_taken)
{
	struct peer p = plain();

	ck_assert_uint_eq(write_at(&p, 0, 0, 4096), 0);
	hang_up(&p);
}
END_TEST

START_TEST(starttls_is_taken_once_and_without_data)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, "x", 1),
			  NBD_REP_ERR_INVALID);
	start_tls(&p);
	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, NULL, 0),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	get_end_of_tls(&p);
}
END_TEST

/* ---- who stands between --------------------------------------------------- */

/* Structured replies and contexts that somebody asked for in the clear would
 * change what the client, who did not, is sent. */
START_TEST(what_was_chosen_in_the_clear_is_forgotten)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0),
			  NBD_REP_ACK);
	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation"),
		NBD_REP_ACK);
	start_tls(&p);
	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation"),
		NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	ck_assert_uint_eq(write_at(&p, 0, 0, 512), 0);
	check_at(&p, 0, 512);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 512),
			  NBD_EINVAL);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	get_end_of_tls(&p);
}
END_TEST

/* Options that came with STARTTLS in one piece are no options: they are taken for
 * the handshake of TLS, and end it. */
START_TEST(bytes_behind_starttls_are_not_obeyed)
{
	uint8_t b[2 * NBD_OPTION_LEN], answer[NBD_OPTION_REPLY_LEN];
	struct peer p = greet(BOTH);
	char rest[64];
	ssize_t n;
	int i;

	for (i = 0; i < 2; i++) {
		bt_store_be64(b + 16 * i, NBD_IHAVEOPT);
		bt_store_be32(b + 16 * i + 8,
			      i ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_STARTTLS);
		bt_store_be32(b + 16 * i + 12, 0);
	}
	put(&p, b, sizeof(b));
	get(&p, answer, sizeof(answer));
	ck_assert_uint_eq(bt_load_be32(answer + 8), NBD_OPT_STARTTLS);
	ck_assert_uint_eq(bt_load_be32(answer + 12), NBD_REP_ACK);
	wait_clients(0);
	/* at most an alert, which is a record of TLS */
	n = recv(p.fd, rest, sizeof(rest), 0);
	ck_assert_msg(n <= 0 || rest[0] == 0x15, "%zd bytes", n);
	close(p.fd);
}
END_TEST

static char logged[4096];

static void on_log(void *opaque, enum blktap_log_level level, const char *text)
{
	size_t n = strlen(logged);

	if (level <= BLKTAP_LOG_INFO)
		snprintf(logged + n, sizeof(logged) - n, "%s\n", text);
}

/* Also where all of it is here when TLS begins: then the connection sees the end
 * before the pump has told of it. */
START_TEST(why_tls_failed_is_logged)
{
	struct peer p = greet(BOTH);
	uint8_t answer[NBD_OPTION_REPLY_LEN];

	*logged = '\0';
	blktap_context_set_log(context, BLKTAP_LOG_INFO, on_log, NULL, NULL);
	put_option(&p, NBD_OPT_STARTTLS, NULL, 0);
	if (!_i)
		get(&p, answer, sizeof(answer));
	put(&p, "GET / HTTP/1.1\r\n\r\n", 18);
	wait_clients(0);
	ck_assert_ptr_nonnull(strstr(logged, "client does not speak TLS"));
	close(p.fd);
}
END_TEST

/* ---- who does not go on --------------------------------------------------- */

START_TEST(gone_in_the_handshake_of_tls)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	if (_i)
		put(&p, "\x16\x03\x01\x02", 4);
	settle();
	hang_up(&p);
}
END_TEST

START_TEST(silent_in_the_handshake_of_tls)
{
	struct peer p;

	server->handshake_ns = 50000000;
	p = greet(BOTH);
	ck_assert_uint_eq(option(&p, NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	get_end(&p);
	server->handshake_ns = 30000000000ull;
}
END_TEST

START_TEST(gone_with_requests_in_flight)
{
	struct peer p = sealed();

	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	leaf.keep = true;
	put_request(&p, 0, NBD_CMD_READ, 1, 0, 1 << 20);
	settle();
	settle();
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_READ], 1);
	close(p.fd);
	bt_tls_destroy(tls);
	tls = NULL;
	settle();
	leaf_release();
	wait_clients(0);
}
END_TEST

START_TEST(a_server_that_ends_says_so_by_tls)
{
	struct peer p = sealed();
	uint8_t c;

	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	ck_assert_int_eq(blktap_nbd_server_destroy(server), 0);
	server = NULL;
	settle();
	ck_assert_int_eq(recv(p.fd, &c, 1, 0), 0);
	close(p.fd);
	bt_tls_destroy(tls);
	tls = NULL;
	bt_tls_creds_destroy(creds);
	teardown();
}
END_TEST

/* ---- options -------------------------------------------------------------- */

static void refused(struct blktap_nbd_options *options, const char *text)
{
	struct blktap_nbd_server *other;
	struct blktap_error *err = NULL;

	options->unix_path = "/nowhere/at/all";
	ck_assert_int_eq(blktap_nbd_server_create(disk, options, &other, &err),
			 -EINVAL);
	ck_assert_msg(!!strstr(blktap_error_get_message(err), text), "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
}

START_TEST(options_that_make_no_sense_are_refused)
{
	struct blktap_nbd_options options;

	blktap_nbd_options_init(&options);
	options.tls_psk = "/keys";
	refused(&options, "TLS is off");
	options.tls = (enum blktap_nbd_tls)3;
	refused(&options, "off, on or require");
	options.tls = BLKTAP_NBD_TLS_REQUIRE;
	options.tls_psk = NULL;
	refused(&options, "needs something to show");
	ck_assert_int_eq(
		memcmp(blktap_nbd_server_get_uri(server), "nbds+unix:///", 13),
		0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("nbd-tls");
	TCase *tc = nbd_case(s, "tls", setup_tls, teardown_tls);

	tcase_add_loop_test(tc, a_disk_is_served_by_tls, 0, 2);
	tcase_add_test(tc, the_replies_of_one_who_leaves_go_out_first);
	tcase_add_test(tc, an_abort_has_its_answer_by_tls);
	tcase_add_test(tc, what_is_required_comes_before_all_else);
	tcase_add_test(tc, export_name_in_the_clear_is_hung_up_on);
	tcase_add_test(tc, who_only_wants_to_leave_may);
	tcase_add_test(tc, what_is_offered_need_not_be_taken);
	tcase_add_test(tc, starttls_is_taken_once_and_without_data);
	tcase_add_test(tc, what_was_chosen_in_the_clear_is_forgotten);
	tcase_add_test(tc, bytes_behind_starttls_are_not_obeyed);
	tcase_add_loop_test(tc, why_tls_failed_is_logged, 0, 2);
	tcase_add_loop_test(tc, gone_in_the_handshake_of_tls, 0, 2);
	tcase_add_test(tc, silent_in_the_handshake_of_tls);
	tcase_add_test(tc, gone_with_requests_in_flight);
	tcase_add_test(tc, options_that_make_no_sense_are_refused);
	tc = nbd_case(s, "end", setup_tls, NULL);
	tcase_add_test(tc, a_server_that_ends_says_so_by_tls);
	return s;
}

int main(void)
{
	struct bt_gnutls gnutls;

	if (bt_gnutls_load(&gnutls)) {
		puts("skipped: needs libgnutls");
		return 77;
	}
	bt_gnutls_unload(&gnutls);
	return unit_run(suite());
}

#else

int main(void)
{
	puts("skipped: TLS is not built");
	return 77;
}

#endif
