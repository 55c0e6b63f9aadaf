/* SPDX-License-Identifier: BSD-3-Clause */
/* Handshakes that fail, and files that are wrong: each says what it was. */
#include "tls-rig.h"

#ifdef HAVE_GNUTLS

/* ---- handshakes that fail ------------------------------------------------- */

/* Only one of the two pumps is there; the test is its peer. */
static void alone(int i)
{
	setup_loop();
	make_creds(i, i == CLIENT ? "alice" : NULL, "alice:" KEY "\n");
	make_pump(i);
}

static void alone_with_server(void)
{
	alone(SERVER);
}

static void alone_with_client(void)
{
	alone(CLIENT);
}

static const char *const garbage[] = {
	"IHAVEOPT\0\0\0\7\0\0\0\0 and more of what is no TLS at all",
	"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: everything\r\n\r\n",
	"\x16\x03\x01\xff\xff more than a record may have, by three times or "
	"so",
	"\x16\x03\x01\x00\x10\x05hello, hello, hello, hello, hello, hello, "
	"hello",
	"\x80\x2e\x01\x03\x01 what SSL 2 began with, long ago, nobody knows",
};

START_TEST(a_client_that_speaks_no_tls_is_told_of)
{
	ck_assert_int_eq(send(ends[SERVER].net, garbage[_i], 48, 0), 48);
	turn();
	turn();
	wants_end(SERVER);
	ck_assert_int_eq(ends[SERVER].ended, 1);
	ck_assert_ptr_nonnull(strstr(ends[SERVER].why, "client"));
	if (_i < 2)
		ck_assert_ptr_nonnull(
			strstr(ends[SERVER].why, "does not speak TLS"));
}
END_TEST

START_TEST(a_server_that_speaks_no_tls_is_told_of)
{
	ck_assert_int_eq(send(ends[CLIENT].net, garbage[_i], 48, 0), 48);
	turn();
	turn();
	wants_end(CLIENT);
	ck_assert_ptr_nonnull(strstr(ends[CLIENT].why, "server"));
	if (_i < 2)
		ck_assert_ptr_nonnull(
			strstr(ends[CLIENT].why, "does not speak TLS"));
}
END_TEST

START_TEST(a_peer_that_is_silent_has_a_deadline)
{
	put_text(ends[SERVER].net, "\x16\x03\x01");
	turn();
	bt_loop_advance(loop, LIMIT_NS - 1);
	turn();
	turn();
	ck_assert_int_eq(ends[SERVER].ended, 0);
	wants_nothing(SERVER);
	bt_loop_advance(loop, 1);
	turn();
	turn();
	wants_end(SERVER);
	ck_assert_int_eq(ends[SERVER].ended, 1);
	ck_assert_str_eq(ends[SERVER].why,
			 "the handshake of TLS was not done within 5000 ms");
}
END_TEST

START_TEST(a_server_that_closes_in_the_handshake_is_told_of)
{
	close_fd(&ends[CLIENT].net);
	turn();
	turn();
	wants_end(CLIENT);
	ck_assert_str_eq(
		ends[CLIENT].why,
		"the server closed the connection in the handshake of TLS");
	ck_assert_str_eq(ends[CLIENT].hint,
			 "does the server know this user, with this key?");
}
END_TEST

START_TEST(an_owner_who_leaves_in_the_handshake_ends_it)
{
	close_fd(&ends[CLIENT].fd);
	turn();
	turn();
	ck_assert_int_eq(ends[CLIENT].ended, 1);
}
END_TEST

START_TEST(a_client_that_closes_in_a_record_of_the_handshake_is_told_of)
{
	put_text(ends[SERVER].net, "\x16\x03\x01");
	turn();
	close_fd(&ends[SERVER].net);
	turn();
	turn();
	wants_end(SERVER);
	ck_assert_str_eq(
		ends[SERVER].why,
		"the client closed the connection in the handshake of TLS");
}
END_TEST

/* The peer learns that it failed, and not whether it was the name or the key. */
START_TEST(another_key_and_an_unknown_user_fail_alike)
{
	setup_loop();
	make_creds(CLIENT, _i ? "carol" : "alice",
		   _i ? "carol:" KEY "\n" : "alice:" OTHER_KEY "\n");
	make_creds(SERVER, NULL, "alice:" KEY "\n");
	make_pump(CLIENT);
	make_pump(SERVER);
	put_text(ends[CLIENT].fd, "must not arrive");
	relay(65536);
	wants_end(SERVER);
	wants_end(CLIENT);
	ck_assert_str_eq(
		ends[SERVER].why,
		_i ? "no user 'carol' in the file of keys (PSK)"
		   : "the client has another key than ours for user 'alice'");
	ck_assert_str_eq(ends[CLIENT].why,
			 "the server ended TLS: Illegal parameter");
	teardown();
}
END_TEST

/* ---- files ---------------------------------------------------------------- */

static void wants_error(const struct bt_tls_files *files, const char *text)
{
	struct blktap_error *err = NULL;
	struct bt_tls_creds *creds;

	ck_assert_int_lt(bt_tls_creds_create("it", files, &creds, &err), 0);
	ck_assert_msg(!!strstr(blktap_error_get_message(err), text), "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
}

START_TEST(a_file_of_keys_that_is_wrong_is_refused_by_line)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "", "has no keys" },
		{ "# nothing\n\n", "has no keys" },
		{ "alice:" KEY "\nbob\n", "line 2 has no user" },
		{ "alice:" KEY "\nbob:\n", "line 2 has no user" },
		{ ":" KEY "\n", "line 1 has no user" },
		{ "alice:00112233\n", "line 1 has no user" },
		{ "alice:" KEY "0\n", "line 1 has no user" },
		{ "alice:0" KEY "g\n", "line 1 has no user" },
		{ "alice: " KEY "0\n", "line 1 has no user" },
	};
	struct bt_tls_files files = { .is_server = true };

	files.psk = write_file("psk", bad[_i].text);
	wants_error(&files, bad[_i].message);
	unlink(files.psk);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
	char none[64];
	struct bt_tls_files files = { .is_server = true };

	wants_error(&files, "needs something to show");
	snprintf(none, sizeof(none), "%s/none", dir);
	files.psk = none;
	wants_error(&files, "/none: No such file");
	files.certificates = dir;
	wants_error(&files, "by certificates and by PSK");
	files.psk = NULL;
	wants_error(&files, "server-cert.pem: No such file");
	files.verify_peer = true;
	wants_error(&files, "ca-cert.pem: No such file");
	files.is_server = false;
	wants_error(&files, "ca-cert.pem: No such file");
	files.certificates = NULL;
	files.psk = none;
	wants_error(&files, "whose key of these?");
	files.psk = write_file("psk", "alice:" KEY "\n");
	files.user = "bob";
	wants_error(&files, "has no user 'bob'");
	unlink(files.psk);
}
END_TEST

START_TEST(a_certificate_that_is_none_is_named)
{
	struct bt_tls_files files = { .certificates = dir,
				      .verify_peer = true };
	char path[128];

	snprintf(path, sizeof(path), "%s", write_file("ca-cert.pem", "no\n"));
	wants_error(&files, "ca-cert.pem: ");
	unlink(path);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("tls-shake");
	TCase *tc;

	tc = add_case(s, "server", alone_with_server, teardown);
	tcase_add_loop_test(tc, a_client_that_speaks_no_tls_is_told_of, 0, 5);
	tcase_add_test(tc, a_peer_that_is_silent_has_a_deadline);
	tcase_add_test(
		tc,
		a_client_that_closes_in_a_record_of_the_handshake_is_told_of);
	tc = add_case(s, "client", alone_with_client, teardown);
	tcase_add_loop_test(tc, a_server_that_speaks_no_tls_is_told_of, 0, 4);
	tcase_add_test(tc, a_server_that_closes_in_the_handshake_is_told_of);
	tcase_add_test(tc, an_owner_who_leaves_in_the_handshake_ends_it);
	tc = add_case(s, "keys", NULL, NULL);
	tcase_add_loop_test(tc, another_key_and_an_unknown_user_fail_alike, 0,
			    2);

	tc = add_case(s, "files", setup_loop, teardown);
	tcase_add_loop_test(tc, a_file_of_keys_that_is_wrong_is_refused_by_line,
			    0, 9);
	tcase_add_test(tc, what_makes_no_sense_is_refused);
	tcase_add_test(tc, a_certificate_that_is_none_is_named);
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
