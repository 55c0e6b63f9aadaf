/* SPDX-License-Identifier: BSD-3-Clause */
/* Marks of minors; the rules stand in rundir.h. */
#include <blktap/control.h>
#include <blktap/ring.h>
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

/* The caller's to free. */
char *bt_rundir_minor_path(const struct bt_rundir *dir, int minor)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_printf(&sb, "%s/tapdisk/tapdisk-%d", dir->path, minor);
	return bt_strbuf_steal(&sb);
}

/* flock is of the open file: it goes with the last descriptor of it, however a
 * process ends. */
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

/* Relative to the directory that lock_marks has open. */
static void mark_name(int minor, char out[32])
{
	snprintf(out, 32, "tapdisk-%d", minor);
}

/* A number beyond what minors may have is none of ours. */
static int set_used(void *opaque, int minor)
{
	unsigned char *used = opaque;

	if (minor < BLKTAP_MINOR_MAX)
		used[minor] = 1;
	return 0;
}

/* BLKTAP_MINOR_MAX where there is none. */
static int lowest_free(const unsigned char *used, int from)
{
	while (from < BLKTAP_MINOR_MAX && used[from])
		from++;
	return from;
}

/* The lowest number that is free here and, with ring, in the kernel. The
 * numbers of this directory, under its lock; those of other directories are
 * seen by the kernel's refusal. */
static int find_lowest(const struct bt_rundir *dir, bool ring, int *minor,
		       struct blktap_error **err)
{
	unsigned char used[BLKTAP_MINOR_MAX] = { 0 };
	struct blktap_error *cause = NULL;
	int rc, made;

	rc = bt_rundir_each(dir, "tapdisk", "tapdisk-", set_used, used, err);
	if (rc)
		return rc;
	for (*minor = lowest_free(used, 0); *minor < BLKTAP_MINOR_MAX;
	     *minor = lowest_free(used, *minor + 1)) {
		rc = ring ? blktap_ring_allocate(*minor, &made, &cause) : 0;
		if (rc != -EEXIST)
			break;
		/* Another directory's. */
		blktap_error_destroy(cause);
		cause = NULL;
	}
	if (*minor == BLKTAP_MINOR_MAX)
		return bt_fail(err, -ENOSPC, "free some: tap-ctl free -m MINOR",
			       "%s: all %d minors are allocated", dir->path,
			       BLKTAP_MINOR_MAX);
	if (rc)
		bt_fail(err, rc, blktap_error_get_hint(cause), "%s",
			blktap_error_get_message(cause));
	blktap_error_destroy(cause);
	return rc;
}

/* O_EXCL though we have the lock: a name that is there is somebody's. */
static int make_mark(const struct bt_rundir *dir, int dirfd, int minor,
		     bool ring, struct blktap_error **err)
{
	struct bt_mark mark = { .ring = ring };
	char name[32];
	int fd, rc;

	mark_name(minor, name);
	fd = openat(dirfd, name,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = fd < 0 ? -errno : 0;
	if (!rc && ring) {
		rc = bt_mark_write(fd, &mark);
		if (rc)
			unlinkat(dirfd, name, 0);
	}
	if (fd >= 0)
		close(fd);
	if (!rc)
		return 0;
	return bt_fail(err, rc,
		       rc == -ENOSPC ? "make room on its file system" : NULL,
		       "%s/tapdisk/%s: cannot be made: %s", dir->path, name,
		       STRERROR(rc));
}

/* The kernel's minor before the mark, and given back where there is no mark: a
 * minor without one would be nobody's. */
int bt_minor_allocate(const struct bt_rundir *dir, bool ring, int *minor,
		      struct blktap_error **err)
{
	int dirfd, rc = bt_rundir_make(dir, err);

	/* Who may not use the module has disks over NBD all the same. */
	ring = ring && !blktap_ring_probe(NULL);
	if (!rc)
		rc = lock_marks(dir, &dirfd, err);
	if (rc)
		return rc;
	rc = find_lowest(dir, ring, minor, err);
	if (!rc) {
		rc = make_mark(dir, dirfd, *minor, ring, err);
		if (rc && ring)
			blktap_ring_free(*minor, NULL);
	}
	close(dirfd);
	return rc;
}

int bt_minor_check(int minor, struct blktap_error **err)
{
	if (minor >= 0 && minor < BLKTAP_MINOR_MAX)
		return 0;
	return bt_fail(err, -EINVAL, "tap-ctl list shows those in use",
		       "minor %d: not in the range 0 to %d", minor,
		       BLKTAP_MINOR_MAX - 1);
}

/* The kernel's part of a minor; one that is gone is no error. What the mark
 * says, not what was asked for: a mark without "ring" has nothing in the
 * kernel. */
static int free_ring(int fd, int minor, struct blktap_error **err)
{
	struct blktap_error *cause = NULL;
	struct bt_mark mark;
	int rc = bt_mark_read(fd, &mark);

	if (!rc && mark.ring)
		rc = blktap_ring_free(minor, &cause);
	bt_mark_fini(&mark);
	if (rc == -EBUSY)
		rc = bt_fail(err, -EAGAIN, blktap_error_get_hint(cause),
			     "minor %d: its block device is in use: %s", minor,
			     STRERROR(-EAGAIN));
	else if (rc && rc != -ENOENT)
		bt_fail(err, rc, cause ? blktap_error_get_hint(cause) : NULL,
			"minor %d: %s", minor,
			cause ? blktap_error_get_message(cause) : STRERROR(rc));
	blktap_error_destroy(cause);
	return rc == -ENOENT ? 0 : rc;
}

/* Under both locks: of the directory, so that nobody makes it anew in between,
 * and of the mark, so that no tapdisk has it. */
int bt_minor_free(const struct bt_rundir *dir, int minor,
		  struct blktap_error **err)
{
	int dirfd, fd = -1, rc = bt_minor_check(minor, err);
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
	else
		rc = free_ring(fd, minor, err);
	if (!rc && unlinkat(dirfd, name, 0))
		rc = bt_fail(err, -errno, NULL, "minor %d: %s", minor,
			     STRERROR(-errno));
	if (fd >= 0)
		close(fd);
	close(dirfd);
	return rc;
}

/* Without the lock: for who only wants to know. It may be another one by now.
 */
int bt_minor_get_mark(const struct bt_rundir *dir, int minor,
		      struct bt_mark *mark)
{
	char *path = bt_rundir_minor_path(dir, minor);
	int fd, rc;

	memset(mark, 0, sizeof(*mark));
	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	free(path);
	if (fd < 0)
		return -errno;
	rc = bt_mark_read(fd, mark);
	close(fd);
	return rc;
}

/* The link count is looked at under the lock: who freed the minor removed the
 * name, and a lock on what has none is worth nothing. */
int bt_minor_lock(const struct bt_rundir *dir, int minor, int *fd,
		  struct blktap_error **err)
{
	int rc = bt_minor_check(minor, err);
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

/* fd is closed in any case, and with it the lock goes. */
void bt_minor_unlock(const struct bt_rundir *dir, int minor, int fd,
		     bool remove)
{
	char *path = remove ? bt_rundir_minor_path(dir, minor) : NULL;

	/* Our lock is still on it: nobody else can have freed it. What the
	 * kernel cannot give back yet stays, with its mark, for `free`. */
	if (path && !free_ring(fd, minor, NULL))
		unlink(path);
	free(path);
	close(fd);
}
