/* SPDX-License-Identifier: BSD-3-Clause */
/* The client where its URI wants TLS: what it asks for, and servers that have none,
 * or that somebody else speaks for. */
#include "nbd-rig.h"

#include "driver/nbd/nbd.h"

/* ---- what is written ------------------------------------------------------ */

START_TEST(a_uri_says_how_tls_is_done)
{
	static const struct {
		const char *text, *certificates, *psk, *user, *hostname,
			*verify;
	} good_ones[] = {
		{ "nbds://h", NULL, NULL, NULL, NULL, NULL },
		{ "nbds://bob@h:1/e?tls-psk-file=/k", NULL, "/k", "bob", NULL,
		  NULL },
		{ "nbds+unix://b%40b@/?socket=/s&tls-psk-file=/k%26", NULL,
		  "/k&", "b@b", NULL, NULL },
		{ "nbds+unix:///?tls-username=bob&socket=/s", NULL, NULL, "bob",
		  NULL, NULL },
		{ "nbds://h/?tls-certificates=/c&tls-hostname=x&other=1", "/c",
		  NULL, NULL, "x", NULL },
		{ "nbds://h/?tls-verify-peer=false", NULL, NULL, NULL, NULL,
		  "false" },
		{ "nbds://h/?tls-verify-peer=true", NULL, NULL, NULL, NULL,
		  "true" },
		{ "nbds://@h/", NULL, NULL, NULL, NULL, NULL },
	};
	struct bt_nbdc_uri uri;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(good_ones); i++) {
		ck_assert_msg(!bt_nbdc_uri_parse(good_ones[i].text, &uri, NULL),
			      "%s", good_ones[i].text);
		ck_assert(uri.is_tls);
		ck_assert_pstr_eq(uri.certificates, good_ones[i].certificates);
		ck_assert_pstr_eq(uri.psk, good_ones[i].psk);
		ck_assert_pstr_eq(uri.user, good_ones[i].user);
		ck_assert_pstr_eq(uri.hostname, good_ones[i].hostname);
		ck_assert_pstr_eq(uri.verify, good_ones[i].verify);
		bt_nbdc_uri_fini(&uri);
	}
	/* a name in a URI without TLS has never had a meaning */
	ck_assert_int_eq(bt_nbdc_uri_parse("nbd://bob@h/", &uri, NULL), 0);
	ck_assert(!uri.is_tls && !uri.user);
	bt_nbdc_uri_fini(&uri);
}
END_TEST

START_TEST(what_is_wrong_with_it_is_told)
{
	static const struct {
		const char *text, *why;
	} bad_ones[] = {
		{ "nbd://h/?tls-psk-file=/k", "needs nbds" },
		{ "nbd+unix:///?socket=/s&tls-certificates=/c", "needs nbds" },
		{ "nbds://h/?tls-priority=NORMAL", "'tls-priority=NORMAL' is" },
		{ "nbds://h/?tls-psk-file", "'tls-psk-file' is not known" },
		{ "nbds://h/?tls-psk-file=", "'tls-psk-file=' is not known" },
		{ "nbds://h/?tls-verify-peer=no", "is true or false" },
		{ "nbds://h/?tls-verify-peer=falsely", "is true or false" },
		{ "nbds://h/?tls-verify-peer=false&tls-verify-peer=true",
		  "two tls-verify-peers" },
		{ "nbds://h/?tls-verify-peer=false&tls-x=1", "'tls-x=1' is" },
		{ "nbds://h/?tls-hostname=a&tls-hostname=b",
		  "two tls-hostnames" },
		{ "nbds://a@h/?tls-username=b", "two tls-usernames" },
		{ "nbds://h/?tls-hostname=%zz", "tls-hostname has a wrong" },
		{ "nbds://a%0@h/", "the user has a wrong" },
		{ "nbds+unix:///", "?socket=PATH is missing" },
	};
	struct bt_nbdc_uri uri;
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
}
END_TEST

static void check_refuses(const char *uri, const char *name, const char *value,
			  const char *why)
{
	struct blktap_error *err = NULL;
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(&bt_nbd_class, &args), 0);
	ck_assert_int_eq(bt_args_set_at(args, 0, uri, NULL), 0);
	ck_assert_int_eq(bt_args_set(args, name, value, NULL), 0);
	if (why) {
		ck_assert_int_eq(bt_nbd_class.check_args(args, &err), -EINVAL);
		ck_assert_msg(strstr(blktap_error_get_message(err), why) !=
				      NULL,
			      "%s", blktap_error_get_message(err));
		blktap_error_destroy(err);
	} else {
		ck_assert_int_eq(bt_nbd_class.check_args(args, NULL), 0);
	}
	bt_args_destroy(args);
}

START_TEST(arguments_and_uri_agree)
{
	check_refuses("nbds://h", "tls_psk", "/k", NULL);
	check_refuses("nbds://h/?tls-psk-file=/k", "tls_psk", "/k", NULL);
	check_refuses("nbds://h/?tls-psk-file=/k", "tls_psk", "/l", "differ");
	check_refuses("nbds://a@h", "tls_user", "b", "differ");
	check_refuses("nbd://h", "tls_psk", "/k", "without TLS");
	check_refuses("nbd://h", "tls_certificates", "/c", "without TLS");
	check_refuses("nbd://h", "tls_hostname", "x", "without TLS");
	check_refuses("nbd://h", "tls_verify_peer", "false", "without TLS");
	check_refuses("nbd://h", "tls_verify_peer", "true", NULL);
}
END_TEST

/* ---- servers -------------------------------------------------------------- */

#ifdef HAVE_GNUTLS

#define KEY "alice:00112233445566778899aabbccddeeff\n"

#define REP(option, type, len) \
	"\0\3\350\211\4\125\145\251\0\0\0" option type len
#define ACK REP("\5", "\0\0\0\1", "\0\0\0\0")

static char keys[sizeof(rig.dir) + 16];

static void use_tls(void)
{
	FILE *f;

	snprintf(keys, sizeof(keys), "%s/keys", rig.dir);
	f = fopen(keys, "w");
	ck_assert_ptr_nonnull(f);
	fputs(KEY, f);
	fclose(f);
	snprintf(rig.spec, sizeof(rig.spec),
		 "nbds+unix://alice@/disk?socket=%s&tls-psk-file=%s", rig.path,
		 keys);
}

static const struct {
	const char *bytes;
	size_t len;
	int code;
	const char *told;
} odd_replies[] = {
#define ODD(bytes, code, told)                       \
	{                                            \
		bytes, sizeof(bytes) - 1, code, told \
	}
	ODD(REP("\5", "\200\0\0\1", "\0\0\0\0"), -ENOTSUP,
	    "has no TLS (STARTTLS, error 0x80000001)"),
	ODD(REP("\5", "\200\0\0\2", "\0\0\0\2") "no", -ENOTSUP,
	    "has no TLS (STARTTLS, error 0x80000002): no"),
	ODD(REP("\5", "\200\0\0\3", "\0\0\0\0"), -EINVAL, "refuses it"),
	ODD(REP("\5", "\200\0\0\7", "\0\0\0\0"), -ESHUTDOWN, "shutting down"),
	ODD(REP("\5", "\0\0\0\2", "\0\0\0\0"), -EPROTO,
	    "type 0x2 during STARTTLS"),
	/* whoever is on the way answers for the server, in the clear */
	ODD(ACK "x", -EPROTO, "1 bytes in the clear behind STARTTLS"),
	ODD(ACK REP("\10", "\0\0\0\1", "\0\0\0\0"), -EPROTO,
	    "20 bytes in the clear behind STARTTLS"),
	ODD("", -ECONNRESET, "closed the connection during STARTTLS"),
	ODD(ACK, -ECONNRESET, "closed the connection in the handshake of TLS"),
};

START_TEST(a_server_without_tls_is_never_spoken_to_in_the_clear)
{
	struct blktap_error *err = NULL;

	setup();
	use_tls();
	/* any other question ends the server's handshake well, and so the test */
	rig.says.odd_option = NBD_OPT_STARTTLS;
	rig.says.odd = (const uint8_t *)odd_replies[_i].bytes;
	rig.says.odd_len = odd_replies[_i].len;
	rig.says.hang_up = true;
	ck_assert_int_eq(rig_open(NULL, NULL, 0, &err), odd_replies[_i].code);
	ck_assert_msg(strstr(blktap_error_get_message(err),
			     odd_replies[_i].told) != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	unlink(keys);
	teardown();
}
END_TEST

START_TEST(keys_are_read_before_anybody_is_called)
{
	struct blktap_error *err = NULL;
	struct bt_args *args;
	struct bt_node *node;

	setup();
	use_tls();
	unlink(keys);
	unlink(rig.path);
	ck_assert_int_eq(bt_args_create(&bt_nbd_class, &args), 0);
	ck_assert_int_eq(bt_args_set_at(args, 0, rig.spec, NULL), 0);
	ck_assert_int_eq(bt_node_create(&rig.env, &bt_nbd_class, NULL, args,
					&node, NULL),
			 0);
	ck_assert_int_eq(bt_node_open(node, 0, &err), -ENOENT);
	bt_node_destroy(node);
	ck_assert_msg(strstr(blktap_error_get_message(err), "/keys: No such") !=
			      NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	teardown();
}
END_TEST

#endif

static Suite *suite(void)
{
	Suite *s = suite_create("nbd-driver-tls");
	TCase *tc = tcase_create("tls");

	tcase_add_test(tc, a_uri_says_how_tls_is_done);
	tcase_add_test(tc, what_is_wrong_with_it_is_told);
	tcase_add_test(tc, arguments_and_uri_agree);
#ifdef HAVE_GNUTLS
	tcase_add_loop_test(
		tc, a_server_without_tls_is_never_spoken_to_in_the_clear, 0,
		(int)BT_ARRAY_SIZE(odd_replies));
	tcase_add_test(tc, keys_are_read_before_anybody_is_called);
#endif
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return unit_run(suite());
}
