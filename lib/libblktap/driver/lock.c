/* SPDX-License-Identifier: BSD-3-Clause */
/* Open-file-description locks on single bytes, in the places where QEMU looks
 * and puts its own (docs/system/images.rst there: "disk image file locking"), so
 * that each refuses what the other has open:
 *
 *   byte 100 + n is read-locked by who uses permission n,
 *   byte 200 + n is read-locked by who does not share permission n.
 *
 * First both sets are taken, then it is looked whether somebody uses what is not
 * shared here, or does not share what is used here. Two that come at the same
 * time may both be refused; they are never both let in. */
#include "driver/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/error.h"
#include "core/log.h"
#include "util/checked.h"

#define USED 100 /* first byte of those that say "I use" */
#define UNSHARED 200 /* and of those that say "nobody else may" */
#define FDS_MAX 4096u /* of this process, that a refusal looks at */

/* The numbers of QEMU's bits BLK_PERM_*. */
enum permission { CONSISTENT_READ = 0, WRITE = 1, RESIZE = 3 };

static const enum permission writer_uses[] = { CONSISTENT_READ, WRITE, RESIZE };
static const enum permission reader_uses[] = { CONSISTENT_READ };
static const enum permission unshared[] = { WRITE, RESIZE };

/* A read lock: any number of processes may have the byte, and F_OFD_GETLK with
 * a write lock finds each of them. */
static int lock_byte(int fd, int byte)
{
	struct flock fl = {
		.l_type = F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* -EBUSY where another open file has the byte. */
static int probe_byte(int fd, int byte)
{
	struct flock fl = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	return fl.l_type == F_UNLCK ? 0 : -EBUSY;
}

/* The bytes of a list of permissions, until one fails. */
static int each(int fd, const enum permission *list, size_t count, int base,
		int (*fn)(int fd, int byte))
{
	size_t i;
	int rc = 0;

	for (i = 0; i < count && !rc; i++)
		rc = fn(fd, base + (int)list[i]);
	return rc;
}

/* Of the file, uses first, then what is not shared; then the look at the
 * others'. The order is what keeps two from both being let in. */
static int take(int fd, const enum permission *uses, size_t count)
{
	size_t n = BT_ARRAY_SIZE(unshared);
	int rc = each(fd, uses, count, USED, lock_byte);

	if (!rc)
		rc = each(fd, unshared, n, UNSHARED, lock_byte);
	if (!rc)
		rc = each(fd, unshared, n, USED, probe_byte);
	/* F_OFD_GETLK leaves out what this open file itself holds */
	if (!rc)
		rc = each(fd, uses, count, UNSHARED, probe_byte);
	return rc;
}

/* Whether this process has the file open a second time: then it is likely itself
 * that it waits for. */
static bool is_ours(int fd)
{
	struct rlimit limit = { .rlim_cur = FDS_MAX };
	struct stat mine, other;
	int i, end;

	getrlimit(RLIMIT_NOFILE, &limit);
	end = (int)bt_min_u64(limit.rlim_cur, FDS_MAX);
	if (fstat(fd, &mine) < 0)
		return false;
	for (i = 0; i < end; i++)
		if (i != fd && fstat(i, &other) == 0 &&
		    other.st_dev == mine.st_dev && other.st_ino == mine.st_ino)
			return true;
	return false;
}

static int in_use(int fd, bool writable, const char *name,
		  struct blktap_error **err)
{
	if (is_ours(fd))
		return bt_fail(
			err, -EBUSY,
			"close it there, or open both read-only; in a graph, "
			"name it once",
			"%s: the image is open in this process already%s", name,
			writable ? "" : ", for writing");
	return bt_fail(err, -EBUSY,
		       "close the other program, open both read-only, or use "
		       "force if you are sure that nobody writes",
		       "%s: the image is in use by another program%s", name,
		       writable ? "" : ", which may write to it");
}

/* Locks that were taken before a refusal go with the descriptor, which the
 * caller closes (or by bt_image_unlock). */
int bt_image_lock(int fd, bool writable, const char *name,
		  const struct bt_log *log, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	int rc = writable ? take(fd, writer_uses, BT_ARRAY_SIZE(writer_uses))
			  : take(fd, reader_uses, BT_ARRAY_SIZE(reader_uses));

	if (!rc)
		return 0;
	if (rc == -EBUSY || rc == -EAGAIN || rc == -EACCES)
		return in_use(fd, writable, name, err);
	bt_log(log, BLKTAP_LOG_WARNING,
	       "%s: served without a lock, the file system has none: %s", name,
	       bt_strerror(rc, text));
	return 0;
}

/* Both ranges in one piece, from the first byte that can be locked to behind
 * the last. */
void bt_image_unlock(int fd)
{
	struct flock fl = {
		.l_type = F_UNLCK,
		.l_whence = SEEK_SET,
		.l_start = USED,
		.l_len = 2 * (UNSHARED - USED),
	};

	fcntl(fd, F_OFD_SETLK, &fl);
}
