/* SPDX-License-Identifier: BSD-3-Clause */
/* The runtime directory: minors, marks and sockets. */
#include "unit.h"

#include <blktap/control.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "control/client.h"
#include "control/rundir.h"
#include "control/socket.h"

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
		ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL),
				 0);
		ck_assert_int_eq(minor, i);
	}
	ck_assert_int_eq(bt_minor_free(&dir, 1, NULL), 0);
	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
	ck_assert_int_eq(minor, 1);
}
END_TEST

START_TEST(marks_are_for_their_owner_alone)
{
	struct stat st;
	char *path;
	int minor;

	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
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
			if (bt_minor_allocate(&dir, false, &minor, NULL) ||
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

	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
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

	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
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
	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, &err), -ENOSPC);
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
	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
	ck_assert_int_eq(minor, 0);
	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
	ck_assert_int_eq(minor, 1);
}
END_TEST

/* ---- what stands in a mark ------------------------------------------------ */

static int open_mark(void)
{
	int minor, fd;

	ck_assert_int_eq(bt_minor_allocate(&dir, false, &minor, NULL), 0);
	ck_assert_int_eq(bt_minor_lock(&dir, minor, &fd, NULL), 0);
	return fd;
}

START_TEST(mark_tells_what_was_open)
{
	char spec[] = "qcow2:/a b=c:d", tcp[] = "[::1]:10809";
	char secondary[] = "raw:/second=1", log[] = "/a log";
	char tls[] = "require", text[512];
	ssize_t n;
	struct bt_mark mark = { true, 3, 120, spec, tcp, secondary, log }, back;
	int fd = open_mark();

	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert(back.ring);
	ck_assert_uint_eq(back.flags, 3);
	ck_assert_uint_eq(back.timeout_s, 120);
	ck_assert_str_eq(back.spec, spec);
	ck_assert_str_eq(back.tcp, tcp);
	ck_assert_str_eq(back.secondary, secondary);
	ck_assert_str_eq(back.log, log);
	ck_assert_ptr_null(back.tls);
	bt_mark_fini(&back);
	mark.tls = tls;
	mark.tls_psk = log;
	mark.tls_verify_peer = true;
	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	/* one that knows no TLS must find no address to serve without */
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	ck_assert_ptr_null(strstr(text, "\ntcp="));
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert_str_eq(back.tcp, tcp);
	ck_assert_str_eq(back.tls, tls);
	ck_assert_str_eq(back.tls_psk, log);
	ck_assert_ptr_null(back.tls_certificates);
	ck_assert(back.tls_verify_peer);
	bt_mark_fini(&back);
	/* What is closed leaves no word of what it was. */
	mark.spec = mark.tcp = mark.secondary = mark.log = NULL;
	mark.tls = mark.tls_psk = NULL;
	mark.tls_verify_peer = false;
	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert(back.ring);
	ck_assert_ptr_null(back.spec);
	ck_assert_ptr_null(back.tls);
	ck_assert_ptr_null(back.tls_psk);
	bt_mark_fini(&back);
	close(fd);
}
END_TEST

/* As a kill leaves it between the writing of the lines and the cutting of the file. */
START_TEST(what_is_left_of_a_longer_mark_is_not_believed)
{
	char old_spec[] = "qcow2:/the/old/image", tcp[] = "[2001:db8::1]:10809";
	char spec[] = "raw:/b", text[512];
	struct bt_mark mark = { true, 3, 120, old_spec, tcp, NULL, NULL }, back;
	int fd = open_mark();
	ssize_t was, is;

	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	was = pread(fd, text, sizeof(text), 0);
	mark.spec = spec;
	mark.tcp = NULL;
	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	is = lseek(fd, 0, SEEK_END);
	ck_assert_int_lt(is, was);
	ck_assert_int_eq(pwrite(fd, text + is, (size_t)(was - is), is),
			 was - is);
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert_str_eq(back.spec, spec);
	ck_assert_ptr_null(back.tcp);
	bt_mark_fini(&back);
	close(fd);
}
END_TEST

/* Else a mirror, say, would go on with one leg, and nobody would know. */
START_TEST(upgrade_refuses_what_no_mark_holds)
{
	static const struct {
		uint32_t flags;
		const char *says;
	} cases[] = {
		{ BT_WIRE_SECONDARY, "-2, -e or -E" },
		{ BT_WIRE_ADD_LOG, "a log whose name" },
		{ BT_WIRE_REUSE_PRT, "-2, -e or -E" },
		{ BT_WIRE_OPEN_ENCRYPTED, "-2, -e or -E" },
	};
	char spec[] = "raw:/a", second[] = "raw:/b", log[] = "/two\nlines";
	struct bt_mark mark = { true, cases[_i].flags, 120, spec,
				NULL, second,	       log };
	struct blktap_control_options options;
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	char path[64];
	pid_t pid;
	int fd = open_mark();

	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/run", top);
	blktap_control_options_init(&options);
	options.rundir = path;
	ck_assert_int_eq(blktap_control_create(&options, &control, NULL), 0);
	ck_assert_int_eq(blktap_control_upgrade(control, 0, &pid, &err),
			 -ENOTSUP);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), cases[_i].says));
	blktap_error_destroy(err);
	blktap_control_destroy(control);
}
END_TEST

START_TEST(mark_that_is_cut_or_foreign_tells_nothing_wrong)
{
	static const char cut[] = "what\n=\nring=1\nargs=raw:/cu";
	char spec[] = "raw:/two\nlines";
	struct bt_mark mark = { true, 0, 0, spec, NULL, NULL, NULL }, back;
	int fd = open_mark();

	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert(!back.ring && !back.spec);
	ck_assert_int_eq(bt_mark_write(fd, &mark), 0);
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert(back.ring);
	ck_assert_ptr_null(back.spec);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	ck_assert_int_eq(pwrite(fd, cut, sizeof(cut) - 1, 0), sizeof(cut) - 1);
	ck_assert_int_eq(bt_mark_read(fd, &back), 0);
	ck_assert(back.ring);
	ck_assert_ptr_null(back.spec);
	close(fd);
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
	static const mode_t modes[] = { 0777, 01777, 0770, 0702 };
	struct blktap_error *err;
	size_t i;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	for (i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		err = NULL;
		ck_assert_int_eq(chmod(dir.path, modes[i]), 0);
		ck_assert_int_eq(bt_rundir_make(&dir, &err), -EPERM);
		blktap_error_destroy(err);
	}
	/* as earlier versions made it */
	ck_assert_int_eq(chmod(dir.path, 0755), 0);
	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
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

/* ---- starting ------------------------------------------------------------- */

/* A program that is started for a tapdisk, and how long it is waited for. */
static int spawn_script(const char *commands, uint32_t ms)
{
	struct blktap_control_options options;
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	char path[64];
	pid_t pid;
	FILE *f;
	int rc;

	snprintf(path, sizeof(path), "%s/program", top);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "#!/bin/sh\n%s\n", commands);
	ck_assert_int_eq(fchmod(fileno(f), 0700), 0);
	ck_assert_int_eq(fclose(f), 0);
	blktap_control_options_init(&options);
	options.rundir = dir.path;
	options.tapdisk = path;
	options.timeout_ms = 50;
	ck_assert_int_eq(blktap_control_create(&options, &control, NULL), 0);
	control->start_timeout_ms = ms;
	rc = blktap_control_spawn(control, &pid, &err);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "does not get started"));
	blktap_error_destroy(err);
	blktap_control_destroy(control);
	return rc;
}

START_TEST(tapdisk_that_does_not_start_is_ended)
{
	ck_assert_int_eq(spawn_script("exec sleep 1000", 50), -ETIMEDOUT);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* Somebody has its output still, so the end of that does not come. */
START_TEST(tapdisk_that_started_too_late_is_asked_to_end)
{
	uint8_t wire[BT_WIRE_SIZE];
	char path[BT_SUN_PATH], commands[256];
	struct bt_message msg;
	uint32_t ms;
	int listener, fd = -1;

	ck_assert_int_eq(bt_rundir_make(&dir, NULL), 0);
	bt_rundir_control_path(&dir, 77, path);
	ck_assert_int_eq(bt_socket_listen(path, &listener), 0);
	snprintf(commands, sizeof(commands), "echo %s; exec sleep 1000", path);
	/* a busy machine takes its time before the word is out */
	for (ms = 100; fd < 0 && ms < 30000; ms *= 2) {
		ck_assert_int_eq(spawn_script(commands, ms), -ETIMEDOUT);
		fd = accept(listener, NULL, NULL);
	}
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(recv(fd, wire, sizeof(wire), MSG_WAITALL),
			 sizeof(wire));
	ck_assert_int_eq(bt_wire_decode(wire, &msg), 0);
	ck_assert_int_eq(msg.type, BT_WIRE_EXIT);
	close(fd);
	close(listener);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("control-dirs");
	TCase *minors = tcase_create("minors");
	TCase *dirs = tcase_create("rundir");
	TCase *starts = tcase_create("starts");

	tcase_add_checked_fixture(minors, setup_dir, teardown_dir);
	tcase_set_timeout(minors, 60);
	tcase_add_test(minors, lowest_free_minor_is_allocated);
	tcase_add_test(minors, marks_are_for_their_owner_alone);
	tcase_add_test(minors, two_never_get_the_same_minor);
	tcase_add_test(minors, minor_in_use_is_neither_freed_nor_locked_again);
	tcase_add_test(minors, bad_minors_are_named);
	tcase_add_test(minors, all_minors_taken_is_no_space);
	tcase_add_test(minors, strange_files_among_the_marks_do_no_harm);
	tcase_add_test(minors, mark_tells_what_was_open);
	tcase_add_test(minors, what_is_left_of_a_longer_mark_is_not_believed);
	tcase_add_loop_test(minors, upgrade_refuses_what_no_mark_holds, 0, 4);
	tcase_add_test(minors, mark_that_is_cut_or_foreign_tells_nothing_wrong);
	suite_add_tcase(suite, minors);

	tcase_add_checked_fixture(dirs, setup_dir, teardown_dir);
	tcase_add_test(dirs, directory_too_long_for_a_socket_is_refused);
	tcase_add_test(dirs, directory_that_others_can_write_to_is_refused);
	tcase_add_test(dirs, file_in_place_of_the_directory_is_named);
	tcase_add_test(dirs, relative_name_becomes_absolute);
	tcase_add_test(dirs, dead_sockets_are_swept_and_live_ones_stay);
	tcase_add_test(dirs, socket_is_for_its_owner_alone);
	suite_add_tcase(suite, dirs);

	tcase_add_checked_fixture(starts, setup_dir, teardown_dir);
	tcase_set_timeout(starts, 120);
	tcase_add_test(starts, tapdisk_that_does_not_start_is_ended);
	tcase_add_test(starts, tapdisk_that_started_too_late_is_asked_to_end);
	suite_add_tcase(suite, starts);
	return suite;
}

int main(void)
{
	return unit_run(make_suite());
}
