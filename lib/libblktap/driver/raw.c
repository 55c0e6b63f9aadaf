/* SPDX-License-Identifier: BSD-3-Clause */
/* raw: a file or block device whose bytes are the disk's.
 *
 * O_DIRECT is used where the file takes it and the size is a multiple of its
 * alignment; otherwise the page cache. Once fdatasync has failed the kernel may
 * have dropped pages that were acknowledged, and would say "done" the next time:
 * so every later flush fails until the image is opened anew. */
#include "driver/create.h"
#include "driver/driver.h"

#include <blktap/image.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/file.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/json.h"

struct raw {
	struct bt_image_file file; /* first, see driver/file.h */
	struct bt_node *node;
	bool discard; /* a discard frees space; else none is offered */
	bool no_zero_range; /* the file system said so */
	int flush_error; /* what every flush fails with; 0: none */
};

_Static_assert(!offsetof(struct raw, file), "driver/file.h says so");

struct raw_frame { /* what a request needs here: one io */
	struct bt_io io;
	struct bt_request *req;
};

static const struct blktap_param raw_params[] = {
	{ .name = "path",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "the file or block device" },
	{ .name = "ro",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "open read-only, shared with other readers" },
	{ .name = "cache",
	  .type = BLKTAP_PARAM_ENUM,
	  .fallback = "none",
	  .choices = "none|writeback",
	  .help = "none: O_DIRECT where the file takes it; writeback: the page "
		  "cache" },
	{ .name = "discard",
	  .type = BLKTAP_PARAM_ENUM,
	  .fallback = "unmap",
	  .choices = "unmap|ignore",
	  .help = "unmap: a discard frees space in the file" },
	{ .name = NULL },
};

/* The order: the file, what it is, then how it is read and written. A file
 * whose size O_DIRECT cannot reach goes through the page cache as a whole,
 * since two ways into one file would not see each other's bytes. */
static int raw_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	struct raw *raw = node->data;
	const char *path = bt_args_string(args, "path");
	int rc;

	raw->node = node;
	raw->discard = !strcmp(bt_args_string(args, "discard"), "unmap");
	if (strcmp(bt_args_string(args, "cache"), "none"))
		flags |= BLKTAP_OPEN_BUFFERED;
	rc = bt_image_file_open(&raw->file, node, path, flags,
				bt_args_bool(args, "ro"), err);
	if (rc < 0)
		return rc;
	if (!raw->file.size)
		rc = bt_fail(err, -EINVAL,
			     "give it a size first: truncate -s 10G FILE",
			     "%s: is empty, and a disk needs a size", path);
	/* O_DIRECT cannot write a tail that is shorter than its alignment */
	else if (raw->file.size % raw->file.file.offset_align)
		rc = bt_image_file_drop_direct(&raw->file, err);
	if (rc < 0)
		bt_image_file_close(&raw->file);
	else
		node->moves = bt_file_moves(&raw->file.file);
	return rc;
}

/* No flush: who wants one has sent it, and a close cannot be refused. */
static void raw_close(struct bt_node *node)
{
	struct raw *raw = node->data;

	bt_image_file_close(&raw->file);
}

/* A PREFETCH fills the page cache, which O_DIRECT does not look at. */
static void raw_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct raw *raw = node->data;

	limits->size = raw->file.size;
	limits->block_size = raw->file.file.offset_align;
	limits->memory_align = raw->file.file.memory_align;
	limits->max_transfer = 2u << 20;
	limits->discard_granularity =
		bt_max_u64(4096, raw->file.file.offset_align);
	limits->read_only = raw->file.read_only;
	limits->native_fua = true;
	if (!raw->discard)
		limits->operations &= ~(1u << BLKTAP_OP_DISCARD);
	if (raw->file.file.direct)
		limits->operations &= ~(1u << BLKTAP_OP_PREFETCH);
}

/* What a flush failed with once is kept: see the top. */
static int map_error(struct raw *raw, const struct bt_io *io,
		     struct bt_request *req, int error)
{
	if (req->op == BLKTAP_OP_FLUSH && error && !raw->flush_error) {
		raw->flush_error = error;
		bt_log(raw->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: flush failed: data that was acknowledged may be "
		       "lost; every flush fails until the image is opened anew",
		       raw->node->name);
	}
	if (error != -EOPNOTSUPP)
		return error;
	if (io->op == BT_IO_ZERO)
		raw->no_zero_range = true;
	/* a discard promises nothing, so doing nothing is right */
	return req->op == BLKTAP_OP_DISCARD ? 0 : -ENOTSUP;
}

/* The request is completed last: it is the frame's memory, and may be gone
 * behind that. */
static void raw_done(struct bt_io *io, int error)
{
	struct raw_frame *frame = bt_container_of(io, struct raw_frame, io);
	struct bt_request *req = frame->req;
	struct raw *raw = req->top->node->data;

	if (bt_unlikely(error != 0))
		error = map_error(raw, io, req, error);
	bt_request_complete(req, error);
}

/* FUA is passed on whatever the operation is; the engine knows it for writes
 * alone. A move is for the data: a flush may be that of a write that has one. */
static void submit_io(struct raw *raw, struct bt_request *req, enum bt_io_op op)
{
	struct raw_frame *frame = bt_request_frame(req);
	struct bt_io *io = &frame->io;

	frame->req = req;
	io->file = &raw->file.file;
	io->op = op;
	io->flags = (req->flags & BLKTAP_FUA ? BT_IO_FUA : 0) |
		    (req->move && op <= BT_IO_WRITE ? BT_IO_MOVE : 0);
	io->move = req->move;
	io->offset = req->offset;
	io->length = req->length;
	io->data = req->data;
	io->done = raw_done;
	bt_engine_submit(io);
}

/* FAST_ONLY: not where it could be slower than writing. A file makes a hole or
 * reserved space at once; a device may write every block. A file system that
 * once said that it cannot zero a range is not asked again. */
static void write_zeroes(struct raw *raw, struct bt_request *req)
{
	bool slow_device = raw->file.is_device && req->flags & BLKTAP_FAST_ONLY;

	if (slow_device)
		bt_request_complete(req, -ENOTSUP);
	else if (req->flags & BLKTAP_MAY_UNMAP && raw->discard)
		submit_io(raw, req, BT_IO_PUNCH);
	else if (raw->no_zero_range)
		bt_request_complete(req, -ENOTSUP);
	else
		submit_io(raw, req, BT_IO_ZERO);
}

/* flush_error is for good: see the top. */
static void flush(struct raw *raw, struct bt_request *req)
{
	if (raw->flush_error)
		bt_request_complete(req, raw->flush_error);
	else if (raw->file.read_only)
		bt_request_complete(req, 0);
	else
		submit_io(raw, req, BT_IO_SYNC);
}

/* Blocks for the time of some lseeks; the file system has this in memory as a
 * rule. */
static void block_status(struct raw *raw, struct bt_request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length;

	while (at < end && req->extent_count < req->extent_max) {
		struct blktap_extent *extent =
			&req->extents[req->extent_count++];
		bool hole;
		uint64_t next =
			bt_image_file_extent(&raw->file, at, end, &hole);

		extent->length = next - at;
		extent->depth = 0;
		extent->flags =
			hole ? BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO : 0;
		at = next;
	}
	bt_request_complete(req, 0);
}

/* The kernel reads ahead by itself: this does not wait for it. */
static void prefetch(struct raw *raw, struct bt_request *req)
{
	int rc = posix_fadvise(raw->file.file.fd, (off_t)req->offset,
			       (off_t)req->length, POSIX_FADV_WILLNEED);

	bt_request_complete(req, -rc);
}

static void raw_submit(struct bt_node *node, struct bt_request *req)
{
	struct raw *raw = node->data;

	switch (req->op) {
	case BLKTAP_OP_READ:
		submit_io(raw, req, BT_IO_READ);
		break;
	case BLKTAP_OP_WRITE:
		submit_io(raw, req, BT_IO_WRITE);
		break;
	case BLKTAP_OP_FLUSH:
		flush(raw, req);
		break;
	case BLKTAP_OP_DISCARD:
		submit_io(raw, req,
			  raw->file.is_device ? BT_IO_DISCARD : BT_IO_PUNCH);
		break;
	case BLKTAP_OP_WRITE_ZEROES:
		write_zeroes(raw, req);
		break;
	case BLKTAP_OP_BLOCK_STATUS:
		block_status(raw, req);
		break;
	case BLKTAP_OP_PREFETCH:
		prefetch(raw, req);
		break;
	default:
		bt_request_complete(req, -ENOTSUP);
		break;
	}
}

static void raw_get_status(struct bt_node *node, struct bt_json *json,
			   bool legacy)
{
	struct raw *raw = node->data;

	bt_json_object(json, "status");
	if (legacy) {
		bt_json_object(json, "reqs");
		bt_json_u64(json, "max", 352);
		bt_json_u64(json, "pending", raw->file.file.in_flight);
		bt_json_object_end(json);
	} else {
		bt_json_bool(json, "direct", raw->file.file.direct);
		bt_json_bool(json, "device", raw->file.is_device);
		bt_json_bool(json, "read_only", raw->file.read_only);
		bt_json_u64(json, "in_flight", raw->file.file.in_flight);
		bt_json_i64(json, "flush_error", raw->flush_error);
	}
	bt_json_object_end(json);
}

/* What is new is a hole. fsync, as the length is what has to be on disk. */
static int raw_grow(struct bt_node *node, uint64_t size,
		    struct blktap_error **err)
{
	struct raw *raw = node->data;
	int fd = raw->file.file.fd;

	if (raw->file.is_device)
		return bt_fail(err, -ENOTSUP, "make the device larger first",
			       "%s: is a device of %llu bytes", raw->file.path,
			       (unsigned long long)raw->file.size);
	if (ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0)
		return bt_image_file_fail(raw->file.path, -errno, err);
	return 0;
}

/* No byte is written: a file of the right length is the whole image, and its
 * hole reads as zeroes. */
static int raw_create(const struct bt_create *create, struct blktap_error **err)
{
	off_t size = (off_t)create->size;
	int rc = 0;

	if (create->backing || create->cluster_size || create->extra_count)
		return bt_fail(err, -EINVAL, "use qcow2 or vhd",
			       "%s: a raw image has a size and nothing else",
			       create->path);
	if (create->flags & BLKTAP_CREATE_RESERVE)
		rc = bt_create_reserve(create, create->size, create->size);
	else if (ftruncate(create->fd, size) < 0)
		rc = -errno;
	return rc < 0 ? bt_image_file_fail(create->path, rc, err) : 0;
}

const struct blktap_class bt_raw_class = {
	.name = "raw",
	.aliases = "aio",
	.summary = "a file or block device, byte for byte",
	.flags = BT_CLASS_STILL,
	.params = raw_params,
	.operations = BT_OPS_ALL,
	.legacy_type = 0,
	.node_bytes = sizeof(struct raw),
	.frame_bytes = sizeof(struct raw_frame),
	.open = raw_open,
	.close = raw_close,
	.get_limits = raw_get_limits,
	.submit = raw_submit,
	.get_status = raw_get_status,
	.create = raw_create,
	.relock = bt_image_file_relock,
	.grow = raw_grow,
	.get_stamp = bt_image_file_stamp,
};
