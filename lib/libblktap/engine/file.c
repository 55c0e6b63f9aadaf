/* SPDX-License-Identifier: BSD-3-Clause */
/* What an open file asks of offsets and memory. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "engine/private.h"
#include "util/checked.h"

#define ALIGN_MIN 512
#define ALIGN_MAX 4096

static int set_align(struct bt_file *file, uint32_t offset, uint32_t memory)
{
	/* The kernel's word, but the queue computes with it. */
	if (!bt_is_pow2(offset) || !bt_is_pow2(memory) ||
	    offset > BT_BOUNCE_BYTES || memory > ALIGN_MAX)
		return -EINVAL;
	file->offset_align = offset;
	file->memory_align = memory;
	return 0;
}

/* Linux 6.1 and later say it, for most file systems. */
static int ask_statx(struct bt_file *file)
{
#ifdef STATX_DIOALIGN
	struct statx st;

	memset(&st, 0, sizeof(st));
	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0)
		return -errno;
	if ((st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align)
		return set_align(file, st.stx_dio_offset_align,
				 st.stx_dio_mem_align);
#endif
	return -ENOTSUP;
}

/* A device's own block is what it asks of offsets; of memory it asks no more.
 */
static int ask_block_device(struct bt_file *file)
{
	int size;

	if (!file->is_block)
		return -ENOTSUP;
	if (ioctl(file->fd, BLKSSZGET, &size) < 0)
		return -errno;
	return set_align(file, (uint32_t)size, (uint32_t)size);
}

/* The smallest read that the file takes. */
static int ask_by_reading(struct bt_file *file)
{
	void *buffer = aligned_alloc(ALIGN_MAX, ALIGN_MAX);
	uint32_t align;
	int rc = -EINVAL;

	if (!buffer)
		return -ENOMEM;
	for (align = ALIGN_MIN; align <= ALIGN_MAX; align *= 2) {
		if (pread(file->fd, (char *)buffer + align % ALIGN_MAX, align,
			  0) >= 0) {
			rc = set_align(file, align, align);
			break;
		}
		rc = -errno;
		if (rc != -EINVAL)
			break;
	}
	free(buffer);
	return rc;
}

/* No device is behind these, so a plain call does not wait (plain.c). */
static bool is_in_memory(int fd)
{
	struct statfs st;

	return !fstatfs(fd, &st) &&
	       (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC);
}

/* 1 stands for 'anything goes', where the page cache is between us and the
 * device. name is the owner's, and has to live as long as the file. */
int bt_file_init(struct bt_file *file, struct bt_engine *engine, int fd,
		 bool direct, const char *name)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	memset(file, 0, sizeof(*file));
	file->engine = engine;
	file->fd = fd;
	file->direct = direct;
	file->name = name;
	file->is_block = S_ISBLK(st.st_mode);
	file->in_memory = S_ISREG(st.st_mode) && is_in_memory(fd);
	file->offset_align = file->memory_align = 1;
	if (!direct || !ask_statx(file) || !ask_block_device(file))
		return 0;
	return ask_by_reading(file);
}

/* To wait for a file in memory costs no more than to wait for the mover. Without
 * O_DIRECT nothing is bounced, and any offset will do. */
bool bt_file_moves(const struct bt_file *file)
{
	return file->in_memory && !file->direct;
}

void bt_file_fini(struct bt_file *file)
{
	file->engine = NULL;
	file->fd = -1;
}
