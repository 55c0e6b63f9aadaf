/* SPDX-License-Identifier: BSD-3-Clause */
/* Marks of minors; the rules stand in rundir.h. */
#include <blktap/control.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/rundir.h"
#include "core/error.h"
#include "util/strbuf.h"

char *bt_rundir_minor_path(const struct bt_rundir *dir, int minor)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_printf(&sb, "%s/tapdisk/tapdisk-%d", dir->path, minor);
	return bt_strbuf_steal(&sb);
}

static int lock_file(int fd, int how)
{
	while (flock(fd, how))
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return 0;
}

/* Opens and locks the directory of marks. */
static int lock_marks(const struct bt_rundir *dir, int *fd,
		      struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *path;
	int rc = 0;

	bt_strbuf_printf(&sb, "%s/tapdisk", dir->path);
	path = bt_strbuf_steal(&sb);
	if (!path)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		rc = -errno;
	else
		rc = lock_file(*fd, LOCK_EX);
	if (rc) {
		bt_fail(err, rc, NULL, "%s: %s", path, STRERROR(rc));
		if (*fd >= 0)
			close(*fd);
	}
	free(path);
	return rc;
}

static void mark_name(int minor, char out[32])
{
	snprintf(out, 32, "tapdisk-%d", minor);
}

static int set_used(void *opaque, int minor)
{
	unsigned char *used = opaque;

	if (minor < BLKTAP_MINOR_MAX)
		used[minor] = 1;
	return 0;
}

static int make_lowest(const struct bt_rundir *dir, int dirfd, int *minor,
		       struct blktap_error **err)
{
	unsigned char used[BLKTAP_MINOR_MAX] = { 0 };
	char name[32];
	int fd, rc;

	rc = bt_rundir_each(dir, "tapdisk", "tapdisk-", set_used, used, err);
	if (rc)
		return rc;
	for (*minor = 0; *minor < BLKTAP_MINOR_MAX; ++*minor)
		if (!used[*minor])
			break;
	if (*minor == BLKTAP_MINOR_MAX)
		return bt_fail(err, -ENOSPC, "free some: tap-ctl free -m MINOR",
			       "%s: all %d minors are allocated", dir->path,
			       BLKTAP_MINOR_MAX);
	mark_name(*minor, name);
	fd = openat(dirfd, name,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return bt_fail(err, -errno,
			       errno == ENOSPC ? "make room on its file system"
					       : NULL,
			       "%s/tapdisk/%s: cannot be made: %s", dir->path,
			       name, STRERROR(-errno));
	close(fd);
	return 0;
}

int bt_minor_allocate(const struct bt_rundir *dir, int *minor,
		      struct blktap_error **err)
{
	int dirfd, rc = bt_rundir_make(dir, err);

	if (!rc)
		rc = lock_marks(dir, &dirfd, err);
	if (rc)
		return rc;
	rc = make_lowest(dir, dirfd, minor, err);
	close(dirfd);
	return rc;
}

static int check_minor(int minor, struct blktap_error **err)
{
	if (minor >= 0 && minor < BLKTAP_MINOR_MAX)
		return 0;
	return bt_fail(err, -EINVAL, "tap-ctl list shows those in use",
		       "minor %d: not in the range 0 to %d", minor,
		       BLKTAP_MINOR_MAX - 1);
}

int bt_minor_free(const struct bt_rundir *dir, int minor,
		  struct blktap_error **err)
{
	int dirfd, fd = -1, rc = check_minor(minor, err);
	char name[32];

	if (!rc)
		rc = lock_marks(dir, &dirfd, err);
	if (rc)
		return rc;
	mark_name(minor, name);
	fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		rc = bt_fail(err, -errno, "tap-ctl list shows those that are",
			     "minor %d is not allocated: %s", minor,
			     STRERROR(-errno));
	else if (lock_file(fd, LOCK_EX | LOCK_NB))
		rc = bt_fail(err, -EAGAIN, "detach it first: tap-ctl detach",
			     "minor %d is in use by a tapdisk: %s", minor,
			     STRERROR(-EAGAIN));
	else if (unlinkat(dirfd, name, 0))
		rc = bt_fail(err, -errno, NULL, "minor %d: %s", minor,
			     STRERROR(-errno));
	if (fd >= 0)
		close(fd);
	close(dirfd);
	return rc;
}

int bt_minor_lock(const struct bt_rundir *dir, int minor, int *fd,
		  struct blktap_error **err)
{
	int rc = check_minor(minor, err);
	struct stat st;
	char *path;

	if (rc)
		return rc;
	path = bt_rundir_minor_path(dir, minor);
	*fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
	rc = *fd < 0 ? -errno : lock_file(*fd, LOCK_EX | LOCK_NB);
	free(path);
	if (!rc && (fstat(*fd, &st) || !st.st_nlink))
		rc = -ENOENT;
	if (!rc)
		return 0;
	if (*fd >= 0)
		close(*fd);
	if (rc == -EBUSY)
		return bt_fail(err, -EBUSY, "tap-ctl list shows whose it is",
			       "minor %d is attached to another tapdisk: %s",
			       minor, STRERROR(-EBUSY));
	if (rc == -ENOENT)
		return bt_fail(err, -EINVAL, "allocate one: tap-ctl allocate",
			       "minor %d is not allocated", minor);
	return bt_fail(err, rc, NULL, "minor %d: %s", minor, STRERROR(rc));
}

void bt_minor_unlock(const struct bt_rundir *dir, int minor, int fd,
		     bool remove)
{
	char *path = remove ? bt_rundir_minor_path(dir, minor) : NULL;

	/* Our lock is still on it: nobody else can have freed it. */
	if (path)
		unlink(path);
	free(path);
	close(fd);
}
