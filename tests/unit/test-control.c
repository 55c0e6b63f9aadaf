/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <blktap/control.h>
#include <errno.h>

#include "control/wire.h"
#include "util/bytes.h"

/* ---- the bytes of messages ------------------------------------------------ */

static uint8_t wire[BT_WIRE_SIZE];
static struct bt_message msg;

/* All bytes but those of the given ranges are zero. */
static void check_zero_but(const size_t (*ranges)[2])
{
	for (size_t i = 0; i < sizeof(wire); i++) {
		const size_t(*r)[2] = ranges;
		bool inside = i < 4;

		for (; (*r)[1]; r++)
			inside |= i >= (*r)[0] && i < (*r)[0] + (*r)[1];
		ck_assert_msg(inside || !wire[i], "byte %zu is %u", i, wire[i]);
	}
}

static void fresh(uint16_t type, uint16_t cookie)
{
	memset(wire, 0xa5, sizeof(wire));
	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.cookie = cookie;
}

/* What is encoded decodes to the same. */
static void check_roundtrip(void)
{
	struct bt_message again;

	memset(&again, 0xff, sizeof(again));
	ck_assert_int_eq(bt_wire_decode(wire, &again), 0);
	ck_assert_mem_eq(&again, &msg, sizeof(msg));
}

START_TEST(type_and_cookie_lead_every_message)
{
	fresh(BT_WIRE_LIST, 0xffff);
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne16(wire), 19);
	ck_assert_uint_eq(bt_load_ne16(wire + 2), 0xffff);
	check_zero_but((const size_t[][2]){ { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(pid_stands_at_8)
{
	fresh(BT_WIRE_PID_RSP, 3);
	msg.u.pid = 0x12345678;
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne32(wire + 8), 0x12345678);
	check_zero_but((const size_t[][2]){ { 8, 4 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(params_stand_where_toolstacks_put_them)
{
	fresh(BT_WIRE_OPEN, 7);
	msg.u.params.flags = 0x01020304;
	msg.u.params.devnum = 0x05060708;
	msg.u.params.domid = 0x090a0b0c;
	strcpy(msg.u.params.path, "aio:/a");
	msg.u.params.prt_devnum = 0x11121314;
	msg.u.params.req_timeout = 0x1516;
	strcpy(msg.u.params.secondary, "nbd:/b");
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne32(wire + 8), 0x01020304);
	ck_assert_uint_eq(bt_load_ne32(wire + 12), 0x05060708);
	ck_assert_uint_eq(bt_load_ne32(wire + 16), 0x090a0b0c);
	ck_assert_str_eq((char *)wire + 20, "aio:/a");
	ck_assert_uint_eq(bt_load_ne32(wire + 8 + 268), 0x11121314);
	ck_assert_uint_eq(bt_load_ne16(wire + 8 + 272), 0x1516);
	ck_assert_str_eq((char *)wire + 8 + 274, "nbd:/b");
	check_zero_but((const size_t[][2]){
		{ 8, 12 }, { 20, 6 }, { 276, 6 }, { 282, 6 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(image_stands_where_toolstacks_read_it)
{
	fresh(BT_WIRE_OPEN_RSP, 7);
	msg.u.image.sectors = 0x0102030405060708;
	msg.u.image.sector_size = 512;
	msg.u.image.info = 4;
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne64(wire + 8), 0x0102030405060708);
	ck_assert_uint_eq(bt_load_ne32(wire + 16), 512);
	ck_assert_uint_eq(bt_load_ne32(wire + 20), 4);
	check_zero_but((const size_t[][2]){ { 8, 16 }, { 0 } });
	check_roundtrip();
	msg.type = BT_WIRE_DISK_INFO_RSP;
	bt_wire_encode(&msg, wire);
	check_roundtrip();
}
END_TEST

START_TEST(error_and_text_stand_where_toolstacks_read_them)
{
	fresh(BT_WIRE_ERROR, 7);
	msg.u.response.error = ENOENT;
	strcpy(msg.u.response.text, "no");
	msg.u.response.more = 0x21222324;
	bt_wire_encode(&msg, wire);
	ck_assert_int_eq((int32_t)bt_load_ne32(wire + 8), ENOENT);
	ck_assert_str_eq((char *)wire + 12, "no");
	ck_assert_uint_eq(bt_load_ne32(wire + 268), 0x21222324);
	check_zero_but((const size_t[][2]){ { 8, 6 }, { 268, 4 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(list_stands_where_toolstacks_read_it)
{
	fresh(BT_WIRE_LIST_RSP, 7);
	msg.u.list.count = 2;
	msg.u.list.minor = -1;
	msg.u.list.state = 0x2a;
	strcpy(msg.u.list.path, "vhd:/x");
	bt_wire_encode(&msg, wire);
	ck_assert_int_eq((int32_t)bt_load_ne32(wire + 8), 2);
	ck_assert_int_eq((int32_t)bt_load_ne32(wire + 12), -1);
	ck_assert_int_eq((int32_t)bt_load_ne32(wire + 16), 0x2a);
	ck_assert_str_eq((char *)wire + 20, "vhd:/x");
	check_zero_but((const size_t[][2]){ { 8, 18 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(length_of_stats_stands_at_16)
{
	fresh(BT_WIRE_STATS_RSP, 7);
	msg.u.stat.first = 1;
	msg.u.stat.second = 2;
	msg.u.stat.length = 0x0102030405060708;
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne16(wire + 8), 1);
	ck_assert_uint_eq(bt_load_ne16(wire + 10), 2);
	ck_assert_uint_eq(bt_load_ne64(wire + 16), 0x0102030405060708);
	check_zero_but((const size_t[][2]){ { 8, 4 }, { 16, 8 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(blkif_stands_where_toolstacks_put_it)
{
	fresh(BT_WIRE_XENBLKIF_CONNECT, 7);
	msg.u.blkif.domid = 1;
	msg.u.blkif.devid = 2;
	for (uint32_t i = 0; i < 8; i++)
		msg.u.blkif.gref[i] = 10 + i;
	msg.u.blkif.order = 3;
	msg.u.blkif.proto = 4;
	strcpy(msg.u.blkif.pool, "td-xenio-default");
	msg.u.blkif.port = 5;
	msg.u.blkif.poll_duration = 6;
	msg.u.blkif.poll_idle_threshold = 8;
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne32(wire + 8), 1);
	ck_assert_uint_eq(bt_load_ne32(wire + 12), 2);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert_uint_eq(bt_load_ne32(wire + 16 + 4 * i), 10 + i);
	ck_assert_uint_eq(bt_load_ne32(wire + 48), 3);
	ck_assert_uint_eq(bt_load_ne32(wire + 52), 4);
	ck_assert_str_eq((char *)wire + 56, "td-xenio-default");
	ck_assert_uint_eq(bt_load_ne32(wire + 312), 5);
	ck_assert_uint_eq(bt_load_ne32(wire + 316), 6);
	ck_assert_uint_eq(bt_load_ne32(wire + 320), 8);
	check_zero_but((const size_t[][2]){
		{ 8, 48 }, { 56, 16 }, { 312, 12 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(extension_stands_where_we_put_it)
{
	fresh(BT_WIRE_EXT, 7);
	msg.u.ext.version = 1;
	msg.u.ext.length = 300;
	strcpy(msg.u.ext.verb, "info");
	bt_wire_encode(&msg, wire);
	ck_assert_uint_eq(bt_load_ne16(wire), 64);
	ck_assert_uint_eq(bt_load_ne32(wire + 8), 1);
	ck_assert_uint_eq(bt_load_ne32(wire + 12), 300);
	ck_assert_str_eq((char *)wire + 16, "info");
	check_zero_but((const size_t[][2]){ { 8, 12 }, { 0 } });
	check_roundtrip();
}
END_TEST

START_TEST(numbers_of_types_never_change)
{
	static const struct {
		const char *name;
		uint16_t type;
	} known[] = {
		{ "ERROR", 1 },
		{ "RUNTIME_ERROR", 2 },
		{ "PID", 3 },
		{ "PID_RSP", 4 },
		{ "ATTACH", 5 },
		{ "ATTACH_RSP", 6 },
		{ "OPEN", 7 },
		{ "OPEN_RSP", 8 },
		{ "PAUSE", 9 },
		{ "PAUSE_RSP", 10 },
		{ "RESUME", 11 },
		{ "RESUME_RSP", 12 },
		{ "CLOSE", 13 },
		{ "CLOSE_RSP", 14 },
		{ "DETACH", 15 },
		{ "DETACH_RSP", 16 },
		{ "LIST_MINORS", 17 },
		{ "LIST_MINORS_RSP", 18 },
		{ "LIST", 19 },
		{ "LIST_RSP", 20 },
		{ "STATS", 21 },
		{ "STATS_RSP", 22 },
		{ "FORCE_SHUTDOWN", 23 },
		{ "XENBLKIF_CONNECT", 24 },
		{ "DISK_INFO", 28 },
		{ "EXIT", 30 },
		{ "EXT", 64 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		ck_assert_str_eq(bt_wire_type_name(known[i].type),
				 known[i].name);
	ck_assert_str_eq(bt_wire_type_name(0), "?");
	ck_assert_str_eq(bt_wire_type_name(31), "?");
	ck_assert_str_eq(bt_wire_type_name(65535), "?");
}
END_TEST

START_TEST(unknown_types_are_refused_and_named)
{
	static const uint16_t types[] = { 0, 31, 63, 66, 1000, 65535 };

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		memset(wire, 0xff, sizeof(wire));
		bt_store_ne16(wire, types[i]);
		ck_assert_int_eq(bt_wire_decode(wire, &msg), -EINVAL);
		ck_assert_uint_eq(msg.type, types[i]);
		ck_assert_uint_eq(msg.cookie, 0xffff);
	}
}
END_TEST

START_TEST(text_without_an_end_is_refused)
{
	memset(wire, 'x', sizeof(wire));
	bt_store_ne16(wire, BT_WIRE_OPEN);
	ck_assert_int_eq(bt_wire_decode(wire, &msg), -ENAMETOOLONG);
	wire[20 + 255] = '\0'; /* the path ends now, the secondary does not */
	ck_assert_int_eq(bt_wire_decode(wire, &msg), -ENAMETOOLONG);
	wire[282 + 255] = '\0';
	ck_assert_int_eq(bt_wire_decode(wire, &msg), 0);
	ck_assert_uint_eq(strlen(msg.u.params.path), 255);
	ck_assert_uint_eq(strlen(msg.u.params.secondary), 255);
}
END_TEST

START_TEST(rubbish_behind_a_text_is_not_taken_over)
{
	memset(wire, 'x', sizeof(wire));
	bt_store_ne16(wire, BT_WIRE_EXT);
	wire[16 + 3] = '\0';
	ck_assert_int_eq(bt_wire_decode(wire, &msg), 0);
	for (size_t i = 3; i < BT_WIRE_VERB; i++)
		ck_assert_int_eq(msg.u.ext.verb[i], 0);
}
END_TEST

START_TEST(text_that_is_too_long_is_cut_with_its_end_kept)
{
	fresh(BT_WIRE_ERROR, 0);
	memset(msg.u.response.text, 'y', sizeof(msg.u.response.text));
	bt_wire_encode(&msg, wire);
	ck_assert_int_eq(wire[12 + 254], 'y');
	ck_assert_int_eq(wire[12 + 255], 0);
}
END_TEST

START_TEST(trailer_is_log_then_key)
{
	uint8_t got[BT_WIRE_PATH + 1 + 64] = { 0 };
	size_t need;

	fresh(BT_WIRE_OPEN, 0);
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 0, &need), 0);
	ck_assert_uint_eq(need, 0);
	msg.u.params.flags = BT_WIRE_ADD_LOG;
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 0, &need), 0);
	ck_assert_uint_eq(need, 256);
	msg.u.params.flags = BT_WIRE_ADD_LOG | BT_WIRE_OPEN_ENCRYPTED;
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 256, &need), 0);
	ck_assert_uint_eq(need, 257);
	got[256] = 32;
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 257, &need), 0);
	ck_assert_uint_eq(need, 257 + 32);
	got[256] = 65;
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 257, &need), -EMSGSIZE);
	msg.type = BT_WIRE_CLOSE; /* has flags, but no trailer */
	ck_assert_int_eq(bt_wire_trailer(&msg, got, 0, &need), 0);
	ck_assert_uint_eq(need, 0);
}
END_TEST

START_TEST(extension_of_another_version_or_size_is_refused)
{
	size_t need;

	fresh(BT_WIRE_EXT, 0);
	msg.u.ext.version = 1;
	msg.u.ext.length = 65536;
	ck_assert_int_eq(bt_wire_trailer(&msg, NULL, 0, &need), 0);
	ck_assert_uint_eq(need, 65536);
	msg.u.ext.length = 65537;
	ck_assert_int_eq(bt_wire_trailer(&msg, NULL, 0, &need), -EMSGSIZE);
	msg.u.ext.length = UINT32_MAX;
	ck_assert_int_eq(bt_wire_trailer(&msg, NULL, 0, &need), -EMSGSIZE);
	msg.u.ext.length = 0;
	msg.u.ext.version = 2;
	ck_assert_int_eq(bt_wire_trailer(&msg, NULL, 0, &need), -EINVAL);
}
END_TEST

START_TEST(parameters_are_texts_with_an_equals_sign)
{
	static const char good[] = "a=1\0bc=\0d=x=y";

	ck_assert_int_eq(bt_wire_params_check(good, sizeof(good)), 0);
	ck_assert_int_eq(bt_wire_params_check("", 0), 0);
	ck_assert_str_eq(bt_wire_params_get(good, sizeof(good), "a"), "1");
	ck_assert_str_eq(bt_wire_params_get(good, sizeof(good), "bc"), "");
	ck_assert_str_eq(bt_wire_params_get(good, sizeof(good), "d"), "x=y");
	ck_assert_ptr_null(bt_wire_params_get(good, sizeof(good), "b"));
	ck_assert_int_eq(bt_wire_params_check("a=1", 3), -EINVAL);
	ck_assert_int_eq(bt_wire_params_check("a=1\0b", 6), -EINVAL);
	ck_assert_int_eq(bt_wire_params_check("=1", 3), -EINVAL);
	ck_assert_int_eq(bt_wire_params_check("\0", 2), -EINVAL);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("control");
	TCase *bytes = tcase_create("wire");

	tcase_add_test(bytes, type_and_cookie_lead_every_message);
	tcase_add_test(bytes, pid_stands_at_8);
	tcase_add_test(bytes, params_stand_where_toolstacks_put_them);
	tcase_add_test(bytes, image_stands_where_toolstacks_read_it);
	tcase_add_test(bytes, error_and_text_stand_where_toolstacks_read_them);
	tcase_add_test(bytes, list_stands_where_toolstacks_read_it);
	tcase_add_test(bytes, length_of_stats_stands_at_16);
	tcase_add_test(bytes, blkif_stands_where_toolstacks_put_it);
	tcase_add_test(bytes, extension_stands_where_we_put_it);
	tcase_add_test(bytes, numbers_of_types_never_change);
	tcase_add_test(bytes, unknown_types_are_refused_and_named);
	tcase_add_test(bytes, text_without_an_end_is_refused);
	tcase_add_test(bytes, rubbish_behind_a_text_is_not_taken_over);
	tcase_add_test(bytes, text_that_is_too_long_is_cut_with_its_end_kept);
	tcase_add_test(bytes, trailer_is_log_then_key);
	tcase_add_test(bytes, extension_of_another_version_or_size_is_refused);
	tcase_add_test(bytes, parameters_are_texts_with_an_equals_sign);
	suite_add_tcase(suite, bytes);
	return suite;
}

int main(void)
{
	return unit_run(make_suite());
}
