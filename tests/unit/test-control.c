/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <blktap/control.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/rundir.h"
#include "control/socket.h"
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

/* ---- minors --------------------------------------------------------------- */

static char top[] = "/tmp/bt-control.XXXXXX";
static struct bt_rundir dir;

static void setup_dir(void)
{
	char path[64];

	strcpy(top + strlen(top) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/run", top);
	ck_assert_int_eq(bt_rundir_init(&dir, path, NULL), 0);
}

static void teardown_dir(void)
{
	char command[128];

	bt_rundir_fini(&dir);
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(lowest_free_minor_is_allocated)
{
	int minor, i;

	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
		ck_assert_int_eq(minor, i);
	}
	ck_assert_int_eq(bt_minor_free(&dir, 1, NULL), 0);
	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	ck_assert_int_eq(minor, 1);
}
END_TEST

START_TEST(marks_are_for_their_owner_alone)
{
	struct stat st;
	char *path;
	int minor;

	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	path = bt_rundir_minor_path(&dir, minor);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(st.st_size, 0);
	free(path);
	ck_assert_int_eq(stat(dir.path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0700);
}
END_TEST

/* Eight processes take and give minors: none is ever held by two. */
START_TEST(two_never_get_the_same_minor)
{
	enum { CHILDREN = 8, ROUNDS = 200 };
	int status, i, n, fd, minor;
	pid_t pids[CHILDREN];

	for (i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if (pids[i])
			continue;
		for (n = 0; n < ROUNDS; n++) {
			if (bt_minor_allocate(&dir, &minor, NULL) ||
			    bt_minor_lock(&dir, minor, &fd, NULL))
				_exit(1);
			/* all the eight: no more are ever out at once */
			if (minor >= CHILDREN)
				_exit(2);
			if (bt_minor_free(&dir, minor, NULL) != -EAGAIN)
				_exit(3);
			bt_minor_unlock(&dir, minor, fd, n & 1);
			if (!(n & 1) && bt_minor_free(&dir, minor, NULL))
				_exit(4);
		}
		_exit(0);
	}
	for (i = 0; i < CHILDREN; i++) {
		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_int_eq(status, 0);
	}
}
END_TEST

START_TEST(minor_in_use_is_neither_freed_nor_locked_again)
{
	int minor, fd, other;

	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	ck_assert_int_eq(bt_minor_lock(&dir, minor, &fd, NULL), 0);
	ck_assert_int_eq(bt_minor_free(&dir, minor, NULL), -EAGAIN);
	ck_assert_int_eq(bt_minor_lock(&dir, minor, &other, NULL), -EBUSY);
	bt_minor_unlock(&dir, minor, fd, false);
	ck_assert_int_eq(bt_minor_lock(&dir, minor, &fd, NULL), 0);
	bt_minor_unlock(&dir, minor, fd, false);
	ck_assert_int_eq(bt_minor_free(&dir, minor, NULL), 0);
}
END_TEST

START_TEST(bad_minors_are_named)
{
	static const struct {
		int minor, lock, free;
	} bad[] = {
		{ 5, -EINVAL, -ENOENT },
		{ -1, -EINVAL, -EINVAL },
		{ BLKTAP_MINOR_MAX, -EINVAL, -EINVAL },
		{ INT_MAX, -EINVAL, -EINVAL },
	};
	struct blktap_error *err;
	char text[32];
	int fd, minor;

	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), "minor %d", bad[i].minor);
		err = NULL;
		ck_assert_int_eq(bt_minor_lock(&dir, bad[i].minor, &fd, &err),
				 bad[i].lock);
		ck_assert_ptr_nonnull(
			strstr(blktap_error_get_message(err), text));
		blktap_error_destroy(err);
		err = NULL;
		ck_assert_int_eq(bt_minor_free(&dir, bad[i].minor, &err),
				 bad[i].free);
		ck_assert_ptr_nonnull(
			strstr(blktap_error_get_message(err), text));
		ck_assert_str_ne(blktap_error_get_hint(err), "");
		blktap_error_destroy(err);
	}
}
END_TEST

START_TEST(all_minors_taken_is_no_space)
{
	struct blktap_error *err = NULL;
	char name[64];
	int minor, i;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	for (i = 0; i < BLKTAP_MINOR_MAX; i++) {
		snprintf(name, sizeof(name), "%s/tapdisk/tapdisk-%d", dir.path,
			 i);
		ck_assert_int_eq(mknod(name, S_IFREG | 0600, 0), 0);
	}
	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, &err), -ENOSPC);
	ck_assert_str_ne(blktap_error_get_hint(err), "");
	blktap_error_destroy(err);
}
END_TEST

START_TEST(strange_files_among_the_marks_do_no_harm)
{
	static const char *const names[] = {
		"tapdisk-",   "tapdisk-01",	     "tapdisk-1x",
		"tapdisk--1", "tapdisk-99999999999", "x"
	};
	char name[96];
	int minor;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(name, sizeof(name), "%s/tapdisk/%s", dir.path,
			 names[i]);
		ck_assert_int_eq(mknod(name, S_IFREG | 0600, 0), 0);
	}
	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	ck_assert_int_eq(minor, 0);
	ck_assert_int_eq(bt_minor_allocate(&dir, &minor, NULL), 0);
	ck_assert_int_eq(minor, 1);
}
END_TEST

/* ---- the directory -------------------------------------------------------- */

START_TEST(directory_too_long_for_a_socket_is_refused)
{
	struct blktap_error *err = NULL;
	struct bt_rundir long_dir;
	char path[200];

	memset(path, 'd', sizeof(path));
	path[0] = '/';
	path[90] = '\0';
	ck_assert_int_eq(bt_rundir_init(&long_dir, path, NULL), 0);
	bt_rundir_fini(&long_dir);
	path[90] = 'd';
	path[91] = '\0';
	ck_assert_int_eq(bt_rundir_init(&long_dir, path, &err), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "91"));
	ck_assert_str_ne(blktap_error_get_hint(err), "");
	blktap_error_destroy(err);
}
END_TEST

START_TEST(directory_that_others_can_write_to_is_refused)
{
	struct blktap_error *err = NULL;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	ck_assert_int_eq(chmod(dir.path, 0777), 0);
	ck_assert_int_eq(bt_rundir_make(&dir, &err), -EPERM);
	blktap_error_destroy(err);
}
END_TEST

START_TEST(file_in_place_of_the_directory_is_named)
{
	struct blktap_error *err = NULL;

	ck_assert_int_eq(mknod(dir.path, S_IFREG | 0600, 0), 0);
	ck_assert_int_eq(bt_rundir_make(&dir, &err), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), dir.path));
	blktap_error_destroy(err);
}
END_TEST

START_TEST(relative_name_becomes_absolute)
{
	struct bt_rundir relative;

	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(bt_rundir_init(&relative, "a/b//", NULL), 0);
	ck_assert_int_eq(relative.path[0], '/');
	ck_assert_ptr_nonnull(strstr(relative.path, "/a/b"));
	ck_assert_int_eq(relative.path[strlen(relative.path) - 1], 'b');
	bt_rundir_fini(&relative);
}
END_TEST

START_TEST(dead_sockets_are_swept_and_live_ones_stay)
{
	char live[BT_SUN_PATH], dead[BT_SUN_PATH], nbd[BT_SUN_PATH];
	int fd, gone;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	bt_rundir_control_path(&dir, getpid(), live);
	bt_rundir_control_path(&dir, 4000001, dead);
	bt_rundir_nbd_path(&dir, 4000001, 3, nbd);
	ck_assert_int_eq(bt_socket_listen(live, &fd), 0);
	ck_assert_int_eq(bt_socket_listen(dead, &gone), 0);
	close(gone);
	ck_assert_int_eq(bt_socket_listen(nbd, &gone), 0);
	close(gone);
	bt_rundir_sweep(&dir);
	ck_assert_int_eq(access(live, F_OK), 0);
	ck_assert_int_eq(access(dead, F_OK), -1);
	ck_assert_int_eq(access(nbd, F_OK), -1);
	close(fd);
}
END_TEST

START_TEST(socket_is_for_its_owner_alone)
{
	char path[BT_SUN_PATH];
	struct stat st;
	int fd;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	bt_rundir_control_path(&dir, 1, path);
	ck_assert_int_eq(bt_socket_listen(path, &fd), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("control");
	TCase *bytes = tcase_create("wire");
	TCase *minors = tcase_create("minors");
	TCase *dirs = tcase_create("rundir");

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

	tcase_add_checked_fixture(minors, setup_dir, teardown_dir);
	tcase_set_timeout(minors, 60);
	tcase_add_test(minors, lowest_free_minor_is_allocated);
	tcase_add_test(minors, marks_are_for_their_owner_alone);
	tcase_add_test(minors, two_never_get_the_same_minor);
	tcase_add_test(minors, minor_in_use_is_neither_freed_nor_locked_again);
	tcase_add_test(minors, bad_minors_are_named);
	tcase_add_test(minors, all_minors_taken_is_no_space);
	tcase_add_test(minors, strange_files_among_the_marks_do_no_harm);
	suite_add_tcase(suite, minors);

	tcase_add_checked_fixture(dirs, setup_dir, teardown_dir);
	tcase_add_test(dirs, directory_too_long_for_a_socket_is_refused);
	tcase_add_test(dirs, directory_that_others_can_write_to_is_refused);
	tcase_add_test(dirs, file_in_place_of_the_directory_is_named);
	tcase_add_test(dirs, relative_name_becomes_absolute);
	tcase_add_test(dirs, dead_sockets_are_swept_and_live_ones_stay);
	tcase_add_test(dirs, socket_is_for_its_owner_alone);
	suite_add_tcase(suite, dirs);
	return suite;
}

int main(void)
{
	return unit_run(make_suite());
}
