/* SPDX-License-Identifier: BSD-3-Clause */
/* The directory is believed only where nobody but its owner (or root) can write to
 * it: whoever could, could put his socket in the place of a tapdisk's. Names are
 * swept by whether somebody listens at them, never by a pid, which may be another
 * process's by now, or of another namespace. */
#include "control/rundir.h"

#include <blktap/control.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/socket.h"
#include "core/error.h"
#include "util/checked.h"
#include "util/strbuf.h"

#define PERMISSION_HINT                                                \
	"run as root, or name a directory of your own: BLKTAP_RUNDIR=" \
	"$XDG_RUNTIME_DIR/blktap or --rundir"

/* As the build was configured. */
const char *blktap_control_default_rundir(void)
{
	return BLKTAP_RUNDIR;
}

/* A daemon leaves the directory it was started in, so names are absolute. */
static char *absolute(const char *path)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *cwd = NULL;

	if (path[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return NULL;
		bt_strbuf_printf(&sb, "%s/", cwd);
		free(cwd);
	}
	bt_strbuf_puts(&sb, path);
	while (sb.len > 1 && sb.data[sb.len - 1] == '/')
		sb.data[--sb.len] = '\0';
	return bt_strbuf_steal(&sb);
}

/* The longest name that will be made there has to fit a socket's address:
 * better told now than when a disk is opened. */
int bt_rundir_init(struct bt_rundir *dir, const char *path,
		   struct blktap_error **err)
{
	/* of the largest pid and minor there can be */
	static const char longest[] = "/nbd4194304.16383";

	if (!path)
		path = blktap_control_default_rundir();
	if (!*path)
		return bt_fail(err, -EINVAL, "name a directory",
			       "runtime directory: its name is empty");
	dir->path = absolute(path);
	if (!dir->path)
		return bt_fail(err, -ENOMEM, NULL, "%s: %s", path,
			       STRERROR(-errno));
	if (strlen(dir->path) + sizeof(longest) <= BT_SUN_PATH)
		return 0;
	bt_fail(err, -ENAMETOOLONG, "choose a shorter runtime directory",
		"%s: the name is %zu bytes long, and a socket in it can have "
		"no more than %zu: File name too long",
		dir->path, strlen(dir->path), BT_SUN_PATH - sizeof(longest));
	bt_rundir_fini(dir);
	return -ENAMETOOLONG;
}

void bt_rundir_fini(struct bt_rundir *dir)
{
	free(dir->path);
	dir->path = NULL;
}

/* It fits: bt_rundir_init has seen to that. */
void bt_rundir_control_path(const struct bt_rundir *dir, pid_t pid,
			    char out[BT_SUN_PATH])
{
	snprintf(out, BT_SUN_PATH, "%s/ctl%d", dir->path, (int)pid);
}

void bt_rundir_nbd_path(const struct bt_rundir *dir, pid_t pid, int minor,
			char out[BT_SUN_PATH])
{
	snprintf(out, BT_SUN_PATH, "%s/nbd%d.%d", dir->path, (int)pid, minor);
}

/* sub NULL: the directory itself. NULL where memory is short. */
static char *sub_path(const struct bt_rundir *dir, const char *sub)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_printf(&sb, "%s%s%s", dir->path, sub ? "/" : "",
			 sub ? sub : "");
	return bt_strbuf_steal(&sb);
}

/* stat, not lstat: the directory may be a link that its owner made. A group is
 * others, too, as it is for ssh: who is in it nobody knows here. */
static int make_one(const char *path, struct blktap_error **err)
{
	struct stat st;
	int rc;

	if (mkdir(path, 0700) && errno != EEXIST) {
		rc = -errno;
		return bt_fail(err, rc,
			       rc == -ENOSPC ? "make room on its file system"
					     : PERMISSION_HINT,
			       "%s: cannot make the directory: %s", path,
			       STRERROR(rc));
	}
	if (stat(path, &st))
		return bt_fail(err, -errno, PERMISSION_HINT, "%s: %s", path,
			       STRERROR(-errno));
	if (!S_ISDIR(st.st_mode))
		return bt_fail(err, -ENOTDIR, "name a directory",
			       "%s: Not a directory", path);
	if ((st.st_uid != geteuid() && st.st_uid != 0) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)))
		return bt_fail(err, -EPERM,
			       "use a directory that only you can write to "
			       "(chmod go-w)",
			       "%s: others can change what is in it (owner %u, "
			       "mode %04o): Operation not permitted",
			       path, (unsigned int)st.st_uid,
			       (unsigned int)(st.st_mode & 07777));
	return 0;
}

/* Its owner is looked at before its permissions: a directory of another's is
 * not made right by being writable. */
int bt_rundir_make(const struct bt_rundir *dir, struct blktap_error **err)
{
	char *sub = sub_path(dir, "tapdisk");
	int rc;

	if (!sub)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = make_one(dir->path, err);
	if (!rc)
		rc = make_one(sub, err);
	if (!rc && access(dir->path, W_OK | X_OK))
		rc = bt_fail(err, -errno, PERMISSION_HINT,
			     "%s: cannot be written to: %s", dir->path,
			     STRERROR(-errno));
	free(sub);
	return rc;
}

/* -1 where text is not a plain number. Without leading zeroes, so each number
 * has one name. */
static int parse_number(const char *text)
{
	char *end;
	long n;

	if (*text < '0' || *text > '9' || (*text == '0' && text[1]))
		return -1;
	errno = 0;
	n = strtol(text, &end, 10);
	return *end || errno || n > INT_MAX ? -1 : (int)n;
}

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Collected before fn is called, which may add and remove entries. */
static int collect(DIR *d, const char *prefix, int **numbers, size_t *count)
{
	size_t len = strlen(prefix), cap = 0;
	struct dirent *entry;
	int n, *more;

	while ((entry = readdir(d))) {
		if (strncmp(entry->d_name, prefix, len))
			continue;
		n = parse_number(entry->d_name + len);
		if (n < 0)
			continue;
		if (*count == cap) {
			cap = cap ? cap * 2 : 64;
			more = reallocarray(*numbers, cap, sizeof(*more));
			if (!more)
				return -ENOMEM;
			*numbers = more;
		}
		(*numbers)[(*count)++] = n;
	}
	return 0;
}

/* Sorted, so that who lists sees the same order each time. */
int bt_rundir_each(const struct bt_rundir *dir, const char *sub,
		   const char *prefix, int (*fn)(void *opaque, int number),
		   void *opaque, struct blktap_error **err)
{
	char *path = sub_path(dir, sub);
	DIR *d = path ? opendir(path) : NULL;
	int *numbers = NULL;
	size_t i, count = 0;
	int rc = d || (path && errno == ENOENT) ? 0 : -errno;

	if (rc)
		bt_fail(err, rc, PERMISSION_HINT, "%s: cannot be read: %s",
			dir->path, STRERROR(rc));
	if (d) {
		rc = collect(d, prefix, &numbers, &count);
		closedir(d);
	}
	if (count)
		qsort(numbers, count, sizeof(*numbers), compare_ints);
	for (i = 0; i < count && !rc; i++)
		rc = fn(opaque, numbers[i]);
	free(numbers);
	free(path);
	return rc;
}

/* A name without a listener behind it is dead: a control socket appears when it
 * listens, not before. Its pid says nothing, which may be of another namespace,
 * or in use again. Only a refused connection says so; any other error may pass.
 */
static bool is_dead(const struct bt_rundir *dir, int pid)
{
	char path[BT_SUN_PATH];
	int fd, rc;

	bt_rundir_control_path(dir, pid, path);
	rc = bt_socket_connect(path, &fd);
	if (!rc)
		close(fd);
	return rc == -ECONNREFUSED;
}

/* And the files of graphs, see legacy.c. By the prefix with its dot, so 12 does
 * not remove what is 123's. */
static void remove_nbd_sockets(const struct bt_rundir *dir, int pid)
{
	static const char *const kinds[] = { "nbd", "graph", "export" };
	struct dirent *entry;
	DIR *d = opendir(dir->path);

	while (d && (entry = readdir(d))) {
		bool ours = false;
		char prefix[32], *path;
		size_t i;

		for (i = 0; i < BT_ARRAY_SIZE(kinds); i++) {
			snprintf(prefix, sizeof(prefix), "%s%d.", kinds[i],
				 pid);
			ours |= !strncmp(entry->d_name, prefix, strlen(prefix));
		}
		path = ours ? sub_path(dir, entry->d_name) : NULL;
		if (path)
			unlink(path);
		free(path);
	}
	if (d)
		closedir(d);
}

/* The control socket goes last: where this is interrupted, the next sweep finds
 * it and goes on. */
static int sweep_one(void *opaque, int pid)
{
	const struct bt_rundir *dir = opaque;
	char path[BT_SUN_PATH];

	if (!is_dead(dir, pid))
		return 0;
	remove_nbd_sockets(dir, pid);
	bt_rundir_control_path(dir, pid, path);
	unlink(path);
	return 0;
}

/* Errors are nobody's here: what stays is found by the next sweep. */
void bt_rundir_sweep(const struct bt_rundir *dir)
{
	bt_rundir_each(dir, NULL, "ctl", sweep_one, (void *)dir, NULL);
}
