/* SPDX-License-Identifier: BSD-3-Clause */
/* The order at opening is open, look what it is, lock, look whether the name
 * still leads to it, and only then read, the size with it: what was read before
 * the lock might have been somebody else's half-written header. The descriptor is
 * the owner's from then on; bt_file is only what the engine needs to know of it.
 *
 * The blocking transfers go past the engine, and so past its order: they are for
 * times when nothing of the file is in flight. */
#include "driver/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "driver/lock.h"
#include "util/checked.h"

#define PIECE 65536u /* of a blocking transfer */
#define NAME_TRIES 100 /* of a name that is given to other files meanwhile */
#define MAX_ALIGN 4096u /* the most that O_DIRECT asks for */

/* The hint is for what is usual; bt_fail keeps an error that is there
 * already. */
int bt_image_file_fail(const char *path, int rc, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	const char *hint = NULL;

	if (rc == -ENOENT)
		hint = "check the path; truncate -s SIZE makes a raw file, "
		       "qcow-create and vhd-util create make the others";
	else if (rc == -EACCES)
		hint = "open it read-only, or as a user who may write it; a "
		       "confined tapdisk opens only what it was allowed";
	else if (rc == -EPERM || rc == -EROFS)
		hint = "open it read-only, or as a user who may write it";
	else if (rc == -EISDIR || rc == -EMEDIUMTYPE)
		hint = "name a regular file or a block device";
	else if (rc == -ENOSPC || rc == -EDQUOT)
		hint = "make room on its file system";
	return bt_fail(err, rc, hint, "%s: %s", path, bt_strerror(rc, text));
}

/* EINVAL of open says that the file system has no O_DIRECT: then without, and
 * *direct says so. What is neither file nor device is refused before it is
 * opened, as opening alone can have effects. */
static int open_fd(const char *path, bool read_only, bool *direct)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;
	int fd = -1;

	/* open would wait for the other end of a FIFO */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) &&
	    !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EMEDIUMTYPE;
	if (*direct)
		fd = open(path, flags | O_DIRECT);
	if (fd < 0 && (!*direct || errno == EINVAL)) {
		*direct = false;
		fd = open(path, flags);
	}
	return fd < 0 ? -errno : fd;
}

/* A directory can be opened for reading, so it is refused here. */
static int check_kind(struct bt_image_file *f, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	f->is_device = S_ISBLK(st.st_mode);
	return f->is_device || S_ISREG(st.st_mode) ? 0 : -EMEDIUMTYPE;
}

/* Behind the lock: whoever had it before may have appended to the file until then,
 * and a size from before would have the next block put over what he wrote. */
static int find_size(struct bt_image_file *f, int fd)
{
	struct stat st;

	if (f->is_device)
		return ioctl(fd, BLKGETSIZE64, &f->size) < 0 ? -errno : 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	f->size = (uint64_t)st.st_size;
	return 0;
}

/* Whether the name leads to what is open. A snapshot gives it to another file, and
 * one that opened it just before would wait for its lock and have the old file: it
 * would read what is old, and what it writes would be no disk's. */
static int check_name(const char *path, int fd)
{
	struct stat st, named;

	if (fstat(fd, &st) < 0 || stat(path, &named) < 0)
		return -errno;
	return st.st_dev == named.st_dev && st.st_ino == named.st_ino ? 0
								      : -ESTALE;
}

/* The descriptor, locked. What bt_image_lock says is kept, as it knows more than
 * the errno. */
static int open_locked(struct bt_image_file *f, uint32_t flags, bool *direct,
		       struct blktap_error **err)
{
	int fd = open_fd(f->path, f->read_only, direct), rc;

	if (fd < 0)
		return fd;
	rc = check_kind(f, fd);
	if (!rc && !(flags & BLKTAP_OPEN_FORCE))
		rc = bt_image_lock(fd, !f->read_only, f->path,
				   f->node->env->log, err);
	if (!rc)
		rc = check_name(f->path, fd);
	if (!rc)
		return fd;
	bt_image_unlock(fd);
	close(fd);
	return rc;
}

/* A file in memory has no way past the page cache, though some kernels take the flag:
 * there it would cost alignment, and bring nothing. */
static int init_file(struct bt_image_file *f, int fd, bool direct,
		     struct blktap_error **err)
{
	int rc = bt_file_init(&f->file, f->node->env->engine, fd, direct,
			      f->node->name);

	if (rc < 0)
		return bt_image_file_fail(f->path, rc, err);
	return f->file.in_memory ? bt_image_file_drop_direct(f, err) : 0;
}

/* streams: the engine may begin with writing out early (engine/plain.c). */
int bt_image_file_open(struct bt_image_file *f, struct bt_node *node,
		       const char *path, uint32_t flags, bool read_only,
		       struct blktap_error **err)
{
	bool direct;
	int fd, rc, tries = 0;

	memset(f, 0, sizeof(*f));
	f->node = node;
	f->path = path;
	f->read_only = read_only || flags & BLKTAP_OPEN_READ_ONLY;
	do {
		direct = !(flags & BLKTAP_OPEN_BUFFERED);
		fd = open_locked(f, flags, &direct, err);
	} while (fd == -ESTALE && ++tries < NAME_TRIES);
	if (fd < 0)
		return bt_image_file_fail(path, fd, err);
	rc = find_size(f, fd);
	if (rc < 0)
		rc = bt_image_file_fail(path, rc, err);
	else
		rc = init_file(f, fd, direct, err);
	if (rc < 0) {
		bt_image_unlock(fd);
		close(fd);
		return rc;
	}
	f->file.streams = (flags & BLKTAP_OPEN_STREAM) && !f->file.direct;
	return 0;
}

/* Unlocked first, see lock.h. */
void bt_image_file_close(struct bt_image_file *f)
{
	int fd = f->file.fd;

	bt_file_fini(&f->file);
	bt_image_unlock(fd);
	close(fd);
}

/* A device has no time of change that would mean anything. */
int bt_image_file_stamp(const struct bt_node *node, struct bt_stamp *stamp)
{
	const struct bt_image_file *f = node->data;
	struct stat st;

	if (fstat(f->file.fd, &st) < 0)
		return -errno;
	stamp->id = bt_path_identify(&st);
	stamp->size = f->is_device ? f->size : (uint64_t)st.st_size;
	stamp->mtime_ns = f->is_device
				  ? 0
				  : (uint64_t)st.st_mtim.tv_sec * 1000000000u +
					    (uint64_t)st.st_mtim.tv_nsec;
	return 0;
}

/* For a moment there is no lock at all: another program may come in between,
 * and then this fails, with nothing locked. */
int bt_image_file_relock(struct bt_node *node, enum bt_lock_mode mode,
			 struct blktap_error **err)
{
	struct bt_image_file *f = node->data;
	int fd = f->file.fd, rc;

	bt_image_unlock(fd);
	if (mode == BT_LOCK_NONE)
		return 0;
	rc = bt_image_lock(fd, mode == BT_LOCK_EXCLUSIVE, f->path,
			   node->env->log, err);
	if (rc < 0)
		bt_image_unlock(fd);
	return rc;
}

/* The engine asks anew what the descriptor wants; what its owner has set of the
 * file is kept. Nothing may be in flight. */
int bt_image_file_drop_direct(struct bt_image_file *f,
			      struct blktap_error **err)
{
	int fd = f->file.fd;
	int flags = fcntl(fd, F_GETFL);
	bool eof_ok = f->file.eof_ok, streams = f->file.streams;
	int rc;

	if (!f->file.direct)
		return 0;
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return bt_image_file_fail(f->path, -errno, err);
	bt_file_fini(&f->file);
	rc = bt_file_init(&f->file, f->node->env->engine, fd, false,
			  f->node->name);
	f->file.fd = fd; /* its owner closes it, now as before */
	f->file.eof_ok = eof_ok;
	f->file.streams = streams;
	return rc < 0 ? bt_image_file_fail(f->path, rc, err) : 0;
}

/* ---- blocking transfers --------------------------------------------------- */

/* All of it, but for what is past the end of the file. */
static ssize_t pread_all(int fd, char *buf, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, buf + done, length - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	memset(buf + done, 0, length - done);
	return (ssize_t)done;
}

/* Short writes go on; an error tells nothing of how much was written. */
static int pwrite_all(int fd, const char *buf, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pwrite(fd, buf + done, length - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* A piece through a buffer that O_DIRECT takes; in is NULL for a read. Bytes
 * around it that are read and written back are what they were: nothing else is
 * under way there, as the blocking calls are for such times. */
static int move_piece(struct bt_image_file *f, char *buffer, uint64_t offset,
		      size_t length, void *out, const void *in)
{
	uint32_t align = f->file.offset_align;
	uint64_t from = bt_align_down(offset, align);
	uint64_t to = bt_align_down(offset + length + align - 1, align);
	ssize_t got = 0;

	/* a write reads only where it changes part of a block */
	if (!in || from != offset || to != offset + length)
		got = pread_all(f->file.fd, buffer, (size_t)(to - from), from);
	if (got < 0)
		return (int)got;
	if (!in) {
		memcpy(out, buffer + (offset - from), length);
		return 0;
	}
	memcpy(buffer + (offset - from), in, length);
	return pwrite_all(f->file.fd, buffer, (size_t)(to - from), from);
}

/* out for a read, in for a write; exactly one of the two. */
static int move(struct bt_image_file *f, uint64_t offset, size_t length,
		char *out, const char *in)
{
	char *buffer = NULL;
	size_t done = 0;
	ssize_t got;
	int rc = 0;

	/* the page cache takes it as it is */
	if (!f->file.direct && in)
		return pwrite_all(f->file.fd, in, length, offset);
	if (!f->file.direct) {
		got = pread_all(f->file.fd, out, length, offset);
		return got < 0 ? (int)got : 0;
	}
	if (posix_memalign((void **)&buffer, MAX_ALIGN, PIECE + 2 * MAX_ALIGN))
		return -ENOMEM;
	while (done < length && !rc) {
		size_t n = (size_t)bt_min_u64(PIECE, length - done);

		rc = move_piece(f, buffer, offset + done, n,
				out ? out + done : NULL, in ? in + done : NULL);
		done += n;
	}
	free(buffer);
	return rc;
}

int bt_image_file_read(struct bt_image_file *f, uint64_t offset, void *buf,
		       size_t length)
{
	return move(f, offset, length, buf, NULL);
}

int bt_image_file_write(struct bt_image_file *f, uint64_t offset,
			const void *buf, size_t length)
{
	return move(f, offset, length, NULL, buf);
}

/* Data and length; times of the file do not matter. */
int bt_image_file_sync(struct bt_image_file *f)
{
	return fdatasync(f->file.fd) < 0 ? -errno : 0;
}

/* lseek moves the descriptor's offset, which nobody uses. ENXIO: behind at
 * there is no data up to the end. A file that changes meanwhile may give a hole
 * that is none any more: an answer of this moment. */
uint64_t bt_image_file_extent(const struct bt_image_file *f, uint64_t at,
			      uint64_t end, bool *hole)
{
	int fd = f->file.fd;
	off_t data, next;

	*hole = false;
	if (f->is_device)
		return end;
	data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return end;
	if (data < 0 || (uint64_t)data > at) {
		*hole = true;
		return data < 0 ? end : bt_min_u64((uint64_t)data, end);
	}
	next = lseek(fd, (off_t)at, SEEK_HOLE);
	if (next < 0 || (uint64_t)next <= at)
		return end;
	return bt_min_u64((uint64_t)next, end);
}
