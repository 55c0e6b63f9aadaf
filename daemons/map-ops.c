/* SPDX-License-Identifier: BSD-3-Clause */
/* What may be done with the file, as requests to the disk.
 *
 * Nothing is cached above the disk: the file is open for direct I/O only, and
 * the kernel's write-back cache stays off. So what write(2) acknowledged is in
 * the disk, and fsync(2) is the disk's flush. With O_SYNC or O_DSYNC the kernel
 * leaves it to us that a write is durable: it calls no fsync behind it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "map-fuse.h"

#define MAX_WRITE (1u << 20)
#define FOREVER_S 3600.0 /* neither size nor mode ever change */

/* The size of a request ends at what a slot holds: MAX_WRITE here, MAX_PAGES
 * there. Background requests are those that slots are for. */
static void init(void *opaque, struct fuse_conn_info *conn)
{
	conn->max_write = MAX_WRITE;
	conn->max_background = MAP_SLOTS;
	conn->congestion_threshold = MAP_SLOTS * 3 / 4;
	conn->want |=
		conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
	/* Splicing moves pages between descriptors; ours go to and from memory
	 * that the engine hands to the kernel, so it would only add a pipe. */
	conn->want &=
		~(unsigned int)(FUSE_CAP_WRITEBACK_CACHE |
				FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ |
				FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static struct map_fuse *get_fuse(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- the file itself ------------------------------------------------------ */

static void reply_attr(fuse_req_t req)
{
	struct map_fuse *fuse = get_fuse(req);
	struct stat st = {
		.st_ino = FUSE_ROOT_ID,
		.st_mode = S_IFREG | (fuse->info.read_only ? 0400 : 0600),
		.st_nlink = 1,
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_size = (off_t)fuse->info.length,
		.st_blocks = (blkcnt_t)(fuse->info.length / 512),
		.st_blksize = (blksize_t)fuse->info.preferred_block_size,
		.st_atim = fuse->since,
		.st_mtim = fuse->since,
		.st_ctim = fuse->since,
	};

	fuse_reply_attr(req, &st, FOREVER_S);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	reply_attr(req);
}

/* As on a block device, times may be set and are not kept. Its size stays.
 * O_TRUNC comes here as size 0. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int to_set, struct fuse_file_info *fi)
{
	bool resize = (to_set & FUSE_SET_ATTR_SIZE) &&
		      (uint64_t)st->st_size != get_fuse(req)->info.length;

	if (resize || (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID |
				 FUSE_SET_ATTR_GID)))
		fuse_reply_err(req, EPERM);
	else
		reply_attr(req);
}

/* The answer is written by hand: libfuse knows parallel writes from 3.15 on, and
 * without them each waits for the one before. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_open_out out = {
		.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
	};

	if ((fi->flags & O_ACCMODE) != O_RDONLY &&
	    get_fuse(req)->info.read_only)
		fuse_reply_err(req, EROFS);
	else
		fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* ---- requests ------------------------------------------------------------- */

static void end_seek(struct slot *slot);

/* The end of each. Called by the disk, in the loop, once for each that was
 * taken. */
static void finished(void *opaque, int error)
{
	struct slot *slot = opaque;

	if (error)
		fuse_reply_err(slot->req, -error);
	else if (slot->op == BLKTAP_OP_READ)
		fuse_reply_buf(slot->req, slot->iov.iov_base,
			       slot->iov.iov_len);
	else if (slot->op == BLKTAP_OP_WRITE)
		fuse_reply_write(slot->req, slot->iov.iov_len);
	else if (slot->op == BLKTAP_OP_BLOCK_STATUS) {
		end_seek(slot);
		return;
	} else
		fuse_reply_err(slot->req, 0);
	map_slot_put(slot);
}

/* Only behind all checks: the slot is the request's until map_slot_put. */
static struct slot *take(fuse_req_t req, enum blktap_op op)
{
	struct map_fuse *fuse = get_fuse(req);
	struct slot *slot = fuse->current;

	fuse->current = NULL;
	slot->req = req;
	slot->op = op;
	return slot;
}

/* An operation that fails at once is answered here; finished is then not
 * called. */
static void submit(struct slot *slot, uint32_t flags, uint64_t offset,
		   uint64_t length)
{
	bool moves = slot->op == BLKTAP_OP_READ || slot->op == BLKTAP_OP_WRITE;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = slot->op,
		.flags = flags,
		.offset = offset,
		.length = length,
		.iov = moves ? &slot->iov : NULL,
		.iov_count = moves,
		.callback = finished,
		.opaque = slot,
	};
	int rc;

	if (slot->op == BLKTAP_OP_BLOCK_STATUS) {
		io.extents = slot->extents;
		io.extent_max = MAP_EXTENTS;
		io.extent_count = &slot->extent_count;
	}
	rc = blktap_disk_submit(slot->fuse->disk, &io);
	if (rc < 0) {
		fuse_reply_err(slot->req, -rc);
		map_slot_put(slot);
	}
}

/* How much of length at offset lies on the disk. A request over its end is
 * cut, as on a block device. */
static uint64_t clamp(fuse_req_t req, off_t offset, uint64_t length)
{
	uint64_t size = get_fuse(req)->info.length;

	if (offset < 0 || (uint64_t)offset >= size)
		return 0;
	return length < size - (uint64_t)offset ? length
						: size - (uint64_t)offset;
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	size_t n = clamp(req, offset, size);
	struct slot *slot;

	if (!n) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	slot = take(req, BLKTAP_OP_READ);
	slot->iov.iov_base = slot->data;
	slot->iov.iov_len = n < slot->fuse->capacity ? n : slot->fuse->capacity;
	submit(slot, 0, (uint64_t)offset, slot->iov.iov_len);
}

/* The data is in the slot's own memory, to which the request was received. A
 * short count for a write over the end, as a device gives. */
static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data,
		     size_t size, off_t offset, struct fuse_file_info *fi)
{
	size_t n = clamp(req, offset, size);
	struct slot *slot;

	if (!n) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	slot = take(req, BLKTAP_OP_WRITE);
	slot->iov.iov_base = (void *)data;
	slot->iov.iov_len = n;
	/* fi->flags are those of this write, RWF_DSYNC included */
	submit(slot, fi->flags & O_DSYNC ? BLKTAP_FUA : 0, (uint64_t)offset, n);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	if (get_fuse(req)->info.read_only)
		fuse_reply_err(req, 0);
	else
		submit(take(req, BLKTAP_OP_FLUSH), 0, 0, 0);
}

/* A punched hole reads as zeroes, which a discarded block need not: so both are
 * WRITE_ZEROES, and only a hole may give its space back. Plain allocation is
 * refused, since no disk here can promise it; callers then write. Without
 * KEEP_SIZE the call would make the file longer, which cannot be. */
static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
			 off_t length, struct fuse_file_info *fi)
{
	bool punch = mode & FALLOC_FL_PUNCH_HOLE;
	uint64_t n = clamp(req, offset, length > 0 ? (uint64_t)length : 0);

	if (!punch && !(mode & FALLOC_FL_ZERO_RANGE))
		fuse_reply_err(req, EOPNOTSUPP);
	else if (n < (uint64_t)length && !(mode & FALLOC_FL_KEEP_SIZE))
		fuse_reply_err(req, ENOSPC);
	else if (!n)
		fuse_reply_err(req, 0);
	else
		submit(take(req, BLKTAP_OP_WRITE_ZEROES),
		       punch ? BLKTAP_MAY_UNMAP : 0, (uint64_t)offset, n);
}

/* ---- lseek: data and holes ------------------------------------------------ */

/* From slot->at on; end_seek moves that. Each answer covers at most MAP_EXTENTS
 * runs, so a long disk takes several. */
static void seek_on(struct slot *slot)
{
	uint64_t size = slot->fuse->info.length;

	if (slot->at < size) {
		submit(slot, 0, slot->at, size - slot->at);
		return;
	}
	if (slot->whence == SEEK_HOLE) /* one follows every file */
		fuse_reply_lseek(slot->req, (off_t)size);
	else
		fuse_reply_err(slot->req, ENXIO);
	map_slot_put(slot);
}

/* An answer without any run would be asked for again for ever: an error. */
static void end_seek(struct slot *slot)
{
	uint64_t from = slot->at;
	uint32_t i;

	for (i = 0; i < slot->extent_count; i++) {
		bool hole = slot->extents[i].flags & BLKTAP_EXTENT_ZERO;

		if (hole == (slot->whence == SEEK_HOLE)) {
			fuse_reply_lseek(slot->req, (off_t)slot->at);
			map_slot_put(slot);
			return;
		}
		slot->at += slot->extents[i].length;
	}
	if (slot->at > from) {
		seek_on(slot);
	} else {
		fuse_reply_err(slot->req, EIO);
		map_slot_put(slot);
	}
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	struct slot *slot;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (!clamp(req, offset, 1)) {
		fuse_reply_err(req, ENXIO);
		return;
	}
	slot = take(req, BLKTAP_OP_BLOCK_STATUS);
	slot->whence = whence;
	slot->at = (uint64_t)offset;
	seek_on(slot);
}

const struct fuse_lowlevel_ops map_ops = {
	.init = init,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
};
