/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "util/bytes.h"
#include "util/checked.h"
#include "util/json.h"
#include "util/list.h"
#include "util/path.h"
#include "util/strbuf.h"
#include "util/suggest.h"

START_TEST(bytes_load_what_was_stored_at_any_alignment)
{
	unsigned char buf[9];

	bt_store_be32(buf + 1, 0x01020304);
	ck_assert_uint_eq(buf[1], 1);
	ck_assert_uint_eq(bt_load_be32(buf + 1), 0x01020304);
	ck_assert_uint_eq(bt_load_le32(buf + 1), 0x04030201);
	bt_store_le64(buf + 1, 0x0102030405060708ULL);
	ck_assert_uint_eq(buf[1], 8);
	ck_assert(bt_load_le64(buf + 1) == 0x0102030405060708ULL);
}
END_TEST

START_TEST(range_that_wraps_is_outside)
{
	ck_assert(bt_range_within(0, 10, 10));
	ck_assert(bt_range_within(10, 0, 10));
	ck_assert(!bt_range_within(10, 1, 10));
	ck_assert(!bt_range_within(11, 0, 10));
	ck_assert(!bt_range_within(5, UINT64_MAX, 10));
	ck_assert(!bt_range_within(UINT64_MAX, 2, 10));
}
END_TEST

START_TEST(align_up_says_when_it_overflows)
{
	uint64_t v;

	ck_assert(bt_checked_align_up(4097, 4096, &v));
	ck_assert_uint_eq(v, 8192);
	ck_assert(!bt_checked_align_up(UINT64_MAX - 5, 4096, &v));
}
END_TEST

START_TEST(list_keeps_order_and_forgives_double_removal)
{
	struct bt_list a, b, c, list = BT_LIST_INIT(list);
	struct bt_list other = BT_LIST_INIT(other);

	bt_list_add_tail(&list, &b);
	bt_list_add_tail(&list, &c);
	bt_list_add(&list, &a);
	bt_list_del(&b);
	bt_list_del(&b);
	bt_list_splice_tail(&other, &list);
	ck_assert(bt_list_empty(&list));
	ck_assert_ptr_eq(bt_list_pop(&other), &a);
	ck_assert_ptr_eq(bt_list_pop(&other), &c);
	ck_assert_ptr_null(bt_list_pop(&other));
}
END_TEST

START_TEST(strbuf_grows_and_hands_over)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *text;
	int i;

	for (i = 0; i < 100; i++)
		bt_strbuf_printf(&sb, "%d,", i);
	ck_assert_uint_eq(sb.len, 290);
	text = bt_strbuf_steal(&sb);
	ck_assert_int_eq(strncmp(text, "0,1,2,", 6), 0);
	free(text);
	text = bt_strbuf_steal(&sb);
	ck_assert_str_eq(text, "");
	free(text);
}
END_TEST

START_TEST(json_escapes_and_places_commas)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_json json;

	bt_json_init(&json, &sb, false);
	bt_json_object(&json, NULL);
	bt_json_string(&json, "a\"b", "x\\y\n\x01\xff\xc3\xa4");
	bt_json_array(&json, "list");
	bt_json_u64(&json, NULL, UINT64_MAX);
	bt_json_i64(&json, NULL, -1);
	bt_json_null(&json, NULL);
	bt_json_array_end(&json);
	bt_json_object(&json, "empty");
	bt_json_object_end(&json);
	bt_json_bool(&json, "ok", true);
	bt_json_object_end(&json);
	ck_assert_str_eq(bt_strbuf_str(&sb),
			 "{\"a\\\"b\":\"x\\\\y\\n\\u0001\\ufffd\xc3\xa4\","
			 "\"list\":[18446744073709551615,-1,null],"
			 "\"empty\":{},\"ok\":true}");
	bt_strbuf_fini(&sb);
}
END_TEST

START_TEST(json_spaced_as_the_legacy_stats_line)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_json json;

	bt_json_init(&json, &sb, true);
	bt_json_object(&json, NULL);
	bt_json_array(&json, "secs");
	bt_json_u64(&json, NULL, 1);
	bt_json_u64(&json, NULL, 2);
	bt_json_array_end(&json);
	bt_json_object_end(&json);
	ck_assert_str_eq(bt_strbuf_str(&sb), "{ \"secs\": [ 1, 2 ] }");
	bt_strbuf_fini(&sb);
}
END_TEST

START_TEST(suggestion_is_the_nearest_word_or_none)
{
	struct bt_suggest s;

	bt_suggest_init(&s, "throtle");
	bt_suggest_offer(&s, "mirror");
	bt_suggest_offer(&s, "throttle");
	ck_assert_str_eq(bt_suggest_hint(&s), "did you mean 'throttle'?");
	bt_suggest_init(&s, "rwa");
	bt_suggest_offer(&s, "raw");
	ck_assert_str_eq(bt_suggest_hint(&s), "did you mean 'raw'?");
	bt_suggest_init(&s, "zebra");
	bt_suggest_offer(&s, "raw");
	ck_assert_ptr_null(bt_suggest_hint(&s));
	bt_suggest_init(&s, "a word that is so much longer than any other that "
			    "nobody can have meant another one by it, or was "
			    "it raw");
	bt_suggest_offer(&s, "raw");
	ck_assert_ptr_null(bt_suggest_hint(&s));
}
END_TEST

START_TEST(names_of_one_file_are_the_same)
{
	char dir[] = "/tmp/bt-util-XXXXXX", at[4][64];
	static const char *const names[] = { "a", "link", "hard", "b" };
	int i;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (i = 0; i < 4; i++)
		snprintf(at[i], sizeof(at[i]), "%s/%s", dir, names[i]);
	ck_assert(!bt_path_same_file(at[0], at[0])); /* not there */
	close(open(at[0], O_CREAT | O_WRONLY, 0600));
	close(open(at[3], O_CREAT | O_WRONLY, 0600));
	ck_assert_int_eq(symlink("./a", at[1]), 0);
	ck_assert_int_eq(link(at[0], at[2]), 0);
	for (i = 0; i < 3; i++) {
		ck_assert(bt_path_same_file(at[0], at[i]));
		ck_assert(!bt_path_same_file(at[3], at[i]));
	}
	for (i = 0; i < 4; i++)
		unlink(at[i]);
	rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("util");
	TCase *tc = tcase_create("util");

	tcase_add_test(tc, bytes_load_what_was_stored_at_any_alignment);
	tcase_add_test(tc, range_that_wraps_is_outside);
	tcase_add_test(tc, align_up_says_when_it_overflows);
	tcase_add_test(tc, list_keeps_order_and_forgives_double_removal);
	tcase_add_test(tc, strbuf_grows_and_hands_over);
	tcase_add_test(tc, json_escapes_and_places_commas);
	tcase_add_test(tc, json_spaced_as_the_legacy_stats_line);
	tcase_add_test(tc, suggestion_is_the_nearest_word_or_none);
	tcase_add_test(tc, names_of_one_file_are_the_same);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
