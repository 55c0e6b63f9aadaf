/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing a new image's file, in the directory it will be in but under another
 * name (image/create.c). An end by the user is asked for between pieces, so it
 * never has to wait longer than one takes. */
#include "driver/create.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/checked.h"

/* A file system that cannot set space aside gets it written, which is slow. */
#define RESERVE_PIECE (256ull << 20)

int bt_create_progress(const struct bt_create *create, uint64_t done,
		       uint64_t total)
{
	if (!create->progress)
		return 0;
	return create->progress(create->opaque, done, total) ? -ECANCELED : 0;
}

/* Buffered: the descriptor is without O_DIRECT. */
int bt_create_write(const struct bt_create *create, uint64_t offset,
		    const void *buf, size_t length)
{
	const char *from = buf;

	while (length) {
		ssize_t n = pwrite(create->fd, from, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		from += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

/* posix_fallocate gives an error number and leaves errno alone. EINTR: the
 * piece is tried again. */
int bt_create_reserve(const struct bt_create *create, uint64_t bytes,
		      uint64_t total)
{
	uint64_t at = 0, n;
	int rc = 0;

	while (at < bytes && !rc) {
		n = bt_min_u64(bytes - at, RESERVE_PIECE);
		rc = bt_create_progress(create, at, total);
		if (!rc)
			rc = -posix_fallocate(create->fd, (off_t)at, (off_t)n);
		if (rc == -EINTR) /* whether it is to end is asked above */
			rc = 0;
		else
			at += n;
	}
	return rc ? rc : bt_create_progress(create, bytes, total);
}
