/* SPDX-License-Identifier: BSD-3-Clause */
/* Logs of changed blocks: 48 bytes of header in the byte order of the machine, then
 * the bits. A log gets its name when it is whole and on disk; the header is
 * overwritten in its place, in one sector, and bits are only ever added there.
 *
 *   0 parent, a uuid   16 child, a uuid   32 consistent, 32 bits
 *   40 length, 64 bits   48 the bits
 *
 * consistent and length are in the machine's order, as the programs that made
 * the format stored them. Bit i is (1 << i % 8) of byte i / 8, for
 * BLKTAP_CBT_BLOCK bytes of the disk. A bit that is set too much costs a copy,
 * one that lacks loses data: so what is cut short may only add. */
#include <blktap/cbt.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "image/image.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/path.h"

#define HEADER 48u
#define LENGTH_MAX (UINT64_C(1) << 50) /* whose bits are 2 GiB */

enum { OFF_PARENT = 0, OFF_CHILD = 16, OFF_CONSISTENT = 32, OFF_LENGTH = 40 };

static int fail(const char *path, int rc, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];

	return rc ? bt_fail(err, rc, NULL, "%s: %s", path,
			    bt_strerror(rc, text))
		  : 0;
}

/* Bytes of the bits, counted without a sum that could wrap. */
static size_t map_size(uint64_t length)
{
	uint64_t bits =
		length / BLKTAP_CBT_BLOCK + (length % BLKTAP_CBT_BLOCK != 0);

	return (size_t)((bits + 7) / 8);
}

/* The bytes between the fields are zero. */
static void encode(const struct blktap_cbt_info *info, uint8_t *p)
{
	memset(p, 0, HEADER);
	memcpy(p + OFF_PARENT, info->parent, sizeof(info->parent));
	memcpy(p + OFF_CHILD, info->child, sizeof(info->child));
	bt_store_ne32(p + OFF_CONSISTENT, info->is_consistent);
	bt_store_ne64(p + OFF_LENGTH, info->length);
}

/* Reads len bytes at offset; a file that ends before is damaged. */
static int read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	char *to = buf;

	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EINVAL;
		to += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Within the file as it is: its length was checked or set before. */
static int write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	const char *from = buf;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		from += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* The length is bounded before memory is taken by it, and the file must have
 * the bits. A longer file is taken: what lies behind is nobody's. */
static int check(const char *path, int fd, const struct blktap_cbt_info *info,
		 struct blktap_error **err)
{
	uint64_t want = HEADER + map_size(info->length);
	struct stat st;

	if (info->length > LENGTH_MAX)
		return bt_fail(err, -EINVAL, "make it anew: cbt-util create",
			       "%s: size is %" PRIu64 ": no disk is that large",
			       path, info->length);
	if (fstat(fd, &st) < 0)
		return fail(path, -errno, err);
	if ((uint64_t)st.st_size < want)
		return bt_fail(err, -EINVAL, "make it anew: cbt-util create",
			       "%s: size is %" PRIu64
			       ": the file is too short for its bits",
			       path, info->length);
	return 0;
}

/* An open log whose header was checked; *fd is -1 where there is none. */
static int open_log(const char *path, int flags, int *fd,
		    struct blktap_cbt_info *info, struct blktap_error **err)
{
	uint8_t p[HEADER];
	int rc;

	*fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return fail(path, -errno, err);
	rc = read_at(*fd, p, sizeof(p), 0);
	if (rc == -EINVAL)
		rc = bt_fail(err, rc, "make it anew: cbt-util create",
			     "%s: is too short for a log", path);
	else
		fail(path, rc, err);
	if (!rc) {
		memcpy(info->parent, p + OFF_PARENT, sizeof(info->parent));
		memcpy(info->child, p + OFF_CHILD, sizeof(info->child));
		info->is_consistent = bt_load_ne32(p + OFF_CONSISTENT);
		info->length = bt_load_ne64(p + OFF_LENGTH);
		rc = check(path, *fd, info, err);
	}
	if (rc < 0) {
		close(*fd);
		*fd = -1;
	}
	return rc;
}

/* A new file under path, whole or not at all. Written beside it, synced,
 * renamed, and the directory synced. Bits behind map are a hole, and read as
 * 0. */
static int replace(const char *path, const struct blktap_cbt_info *info,
		   const void *map, size_t size, struct blktap_error **err)
{
	uint8_t header[HEADER];
	char *temporary = NULL;
	int fd, rc;

	if (info->length > LENGTH_MAX)
		return bt_fail(err, -EFBIG, NULL, "%s: no disk is that large",
			       path);
	if (asprintf(&temporary, "%s.new-%d", path, (int)getpid()) < 0)
		return fail(path, -ENOMEM, err);
	encode(info, header);
	/* what a killed process of the same id left; and nobody's link is
	 * written through */
	unlink(temporary);
	fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	rc = fd < 0 ? -errno : 0;
	if (!rc)
		rc = write_at(fd, header, sizeof(header), 0);
	if (!rc)
		rc = write_at(fd, map, size, HEADER);
	if (!rc && ftruncate(fd, (off_t)(HEADER + map_size(info->length))) < 0)
		rc = -errno;
	if (!rc && fsync(fd) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (!rc && rename(temporary, path) < 0)
		rc = -errno;
	if (!rc)
		rc = bt_path_sync_directory(path);
	else
		unlink(temporary);
	free(temporary);
	return fail(path, rc, err);
}

int blktap_cbt_create(const char *path, uint64_t length,
		      struct blktap_error **err)
{
	struct blktap_cbt_info info = { .length = length };

	return replace(path, &info, "", 0, err);
}

int blktap_cbt_get_info(const char *path, struct blktap_cbt_info *info,
			struct blktap_error **err)
{
	struct blktap_cbt_info full = { .struct_size = info->struct_size };
	int fd, rc = open_log(path, O_RDONLY, &fd, &full, err);

	if (rc < 0)
		return rc;
	close(fd);
	memcpy(info, &full, bt_min_u64(full.struct_size, sizeof(full)));
	return 0;
}

/* On failure there is no map to be freed. */
static int read_map(const char *path, int fd, uint64_t length, void **map,
		    size_t *size, struct blktap_error **err)
{
	int rc;

	*size = map_size(length);
	*map = malloc(*size + 1);
	rc = *map ? read_at(fd, *map, *size, HEADER) : -ENOMEM;
	if (rc < 0)
		free(*map);
	return fail(path, rc, err);
}

int blktap_cbt_read_map(const char *path, void **map, size_t *size,
			struct blktap_error **err)
{
	struct blktap_cbt_info info;
	int fd, rc = open_log(path, O_RDONLY, &fd, &info, err);

	if (rc < 0)
		return rc;
	rc = read_map(path, fd, info.length, map, size, err);
	close(fd);
	return rc;
}

/* Bits of another length; those past its end are dropped. Bits past the end
 * would mean blocks that are not there, and would be those of new ones when the
 * disk grows again. */
static int set_length(const char *path, int fd,
		      const struct blktap_cbt_info *info, uint64_t old,
		      struct blktap_error **err)
{
	size_t size, want = map_size(info->length);
	uint64_t bits =
		(info->length + BLKTAP_CBT_BLOCK - 1) / BLKTAP_CBT_BLOCK;
	void *map;
	int rc = read_map(path, fd, old, &map, &size, err);

	if (rc < 0)
		return rc;
	if (want < size)
		size = want;
	if (want == size && bits % 8)
		((uint8_t *)map)[want - 1] &= (uint8_t)((1u << bits % 8) - 1);
	rc = replace(path, info, map, size, err);
	free(map);
	return rc;
}

/* The header is one write within a sector; only another length takes a new
 * file. */
int blktap_cbt_set_info(const char *path, const struct blktap_cbt_info *info,
			struct blktap_error **err)
{
	struct blktap_cbt_info old;
	uint8_t header[HEADER];
	int fd, rc;

	if (info->struct_size > sizeof(*info))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "cbt info is of a newer version");
	rc = open_log(path, O_RDWR, &fd, &old, err);
	if (rc < 0)
		return rc;
	if (info->length != old.length) {
		rc = set_length(path, fd, info, old.length, err);
	} else {
		encode(info, header);
		rc = write_at(fd, header, sizeof(header), 0);
		if (!rc && fdatasync(fd) < 0)
			rc = -errno;
		fail(path, rc, err);
	}
	close(fd);
	return rc;
}

/* Cut short, it has added some of the bits: a log that says too much is whole. */
static int add_map(const char *path, int fd, const uint8_t *from, size_t n,
		   uint64_t length, struct blktap_error **err)
{
	uint8_t *to;
	void *map;
	size_t size, i;
	int rc = read_map(path, fd, length, &map, &size, err);

	if (rc < 0)
		return rc;
	to = map;
	for (i = 0; i < n; i++)
		to[i] |= from[i];
	rc = write_at(fd, map, size, HEADER);
	if (!rc && fdatasync(fd) < 0)
		rc = -errno;
	free(map);
	return fail(path, rc, err);
}

/* The parent's bits go into the child's, and the parent is only read. n bytes
 * of it fit: its disk is not the larger one. */
int blktap_cbt_coalesce(const char *parent, const char *child,
			struct blktap_error **err)
{
	struct blktap_cbt_info above, below;
	int from, to, rc = open_log(parent, O_RDONLY, &from, &above, err);
	size_t size;
	void *map;

	if (rc < 0)
		return rc;
	rc = read_map(parent, from, above.length, &map, &size, err);
	close(from);
	if (rc < 0)
		return rc;
	rc = open_log(child, O_RDWR, &to, &below, err);
	if (!rc && below.length < above.length)
		rc = bt_fail(err, -EINVAL, "set its size first: cbt-util set",
			     "%s: its disk is smaller than that of %s", child,
			     parent);
	if (!rc)
		rc = add_map(child, to, map, size, below.length, err);
	if (to >= 0)
		close(to);
	free(map);
	return rc;
}
