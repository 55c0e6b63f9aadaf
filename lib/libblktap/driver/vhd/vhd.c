/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd: fixed, dynamic and differencing disks. The class, what a fixed disk does
 * with a request, and flushing.
 *
 * A fixed disk is a file with a footer behind it: each request becomes one io
 * on the file, FUA and all. The others go through their tables (walk.c), where
 * "durable" means a commit of those, so they have no FUA of their own: the core
 * sends a FLUSH behind such a write. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "driver/driver.h"
#include "port/args.h"
#include "util/json.h"

static const struct blktap_param vhd_params[] = {
	{ .name = "path",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "the image" },
	{ .name = "ro",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "open read-only, shared with other readers" },
	{ .name = "cache",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "8M",
	  .min = 64u << 10,
	  .max = 1u << 30,
	  .help = "memory for tables and bitmaps, at the most" },
	{ .name = "key",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_SECRET,
	  .help = "the key of an encrypted image and of those below it, 32 or "
		  "64 bytes: file:/PATH or fd:N" },
	{ .name = NULL },
};

/* UNCHANGED: a parent that is written to would change what the child reads,
 * where the child has no sectors of its own. */
static const struct bt_port_desc vhd_ports[] = {
	{ .name = "parent",
	  .optional = true,
	  .flags = BT_PORT_READS | BT_PORT_UNCHANGED,
	  .help = "what a differencing disk stands on" },
	{ .name = NULL },
};

/* block_size: a VHD counts in sectors, and O_DIRECT may ask for more; a run is
 * never cut inside of a sector. An encrypted write goes through a buffer, which
 * bounds it. */
static void vhd_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	const struct bt_vhdimg *img = node->data;

	limits->size = img->size;
	limits->block_size = (uint32_t)bt_max_u64(
		BT_VHD_SECTOR,
		bt_max_u64(limits->block_size, img->f.file.offset_align));
	limits->memory_align = (uint32_t)bt_max_u64(limits->memory_align,
						    img->f.file.memory_align);
	if (!img->differencing)
		limits->max_transfer = 2u << 20;
	limits->max_unmap = 1u << 30;
	limits->discard_granularity = bt_max_u64(4096, limits->block_size);
	limits->operations = node->cls->operations;
	/* zeroes over a parent are data, and so are those that are encrypted */
	if (img->differencing || img->cipher)
		limits->operations &= ~(1u << BLKTAP_OP_WRITE_ZEROES);
	if (img->cipher)
		limits->max_transfer = (uint32_t)bt_min_u64(
			limits->max_transfer, BT_VHDIMG_BOUNCE);
	limits->read_only = img->read_only;
	limits->native_fua = img->fixed;
	limits->keeps = img->fixed ? BT_KEEPS_NOTHING : BT_KEEPS_TABLES;
}

/* ---- fixed disks ---------------------------------------------------------- */

/* Told once. Of a fixed disk it stays: every later flush fails with it; of the
 * others the cache remembers it (meta/commit.c). */
static void note_flush_error(struct bt_vhdimg *img, int error)
{
	if (img->flush_error)
		return;
	img->flush_error = error;
	bt_log(img->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: flush failed: data that was acknowledged may be lost",
	       img->node->name);
}

/* A discard that the file system cannot do is done: it promises nothing. Zeroes
 * that it cannot make are the core's to write as data. */
static void fixed_done(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);
	enum blktap_op op = f->req->op;

	if (bt_unlikely(error == -EOPNOTSUPP))
		error = op == BLKTAP_OP_DISCARD ? 0 : -ENOTSUP;
	if (bt_unlikely(error && op == BLKTAP_OP_FLUSH))
		note_flush_error(f->img, error);
	bt_vhdimg_finish(f, error);
}

/* The frame's run is the whole request. */
static void fixed_submit(struct bt_vhdimg *img, struct bt_vhdimg_frame *f,
			 enum bt_io_op op)
{
	f->run = f->req->length;
	f->data = f->req->data;
	bt_vhdimg_submit_io(f, op, f->req->offset, fixed_done);
}

/* Data and holes as the file system tells them; behind the data lies the
 * footer, which no offset of the disk reaches. */
static void fixed_status(const struct bt_vhdimg *img, struct bt_request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length;

	while (at < end && req->extent_count < req->extent_max) {
		struct blktap_extent *extent =
			&req->extents[req->extent_count++];
		bool hole;
		uint64_t next = bt_image_file_extent(&img->f, at, end, &hole);

		extent->length = next - at;
		extent->depth = 0;
		extent->flags =
			hole ? BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO : 0;
		at = next;
	}
	bt_request_complete(req, 0);
}

/* A device may write every block to zero it, which FAST_ONLY says no to. */
static void fixed_zeroes(struct bt_vhdimg *img, struct bt_vhdimg_frame *f)
{
	uint32_t flags = f->req->flags;
	bool is_device = img->f.is_device;

	if (is_device && flags & BLKTAP_FAST_ONLY)
		bt_vhdimg_finish(f, -ENOTSUP);
	else if (!is_device && flags & BLKTAP_MAY_UNMAP)
		fixed_submit(img, f, BT_IO_PUNCH);
	else
		fixed_submit(img, f, BT_IO_ZERO);
}

/* An image that is open read-only has nothing to flush. */
static void fixed(struct bt_vhdimg *img, struct bt_request *req)
{
	struct bt_vhdimg_frame *f = bt_request_frame(req);

	f->req = req;
	f->img = img;
	switch (req->op) {
	case BLKTAP_OP_READ:
		fixed_submit(img, f, BT_IO_READ);
		break;
	case BLKTAP_OP_WRITE:
		fixed_submit(img, f, BT_IO_WRITE);
		break;
	case BLKTAP_OP_FLUSH:
		if (img->flush_error || img->read_only)
			bt_vhdimg_finish(f, img->flush_error);
		else
			fixed_submit(img, f, BT_IO_SYNC);
		break;
	case BLKTAP_OP_DISCARD:
		fixed_submit(img, f,
			     img->f.is_device ? BT_IO_DISCARD : BT_IO_PUNCH);
		break;
	case BLKTAP_OP_WRITE_ZEROES:
		fixed_zeroes(img, f);
		break;
	default: /* BLOCK_STATUS */
		fixed_status(img, req);
		break;
	}
}

/* ---- the others ----------------------------------------------------------- */

/* A commit's error is this flush's, and the next one's where it was a sync. */
static void committed(struct bt_meta_commit *commit, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(commit, struct bt_vhdimg_frame, commit);

	if (bt_unlikely(error != 0))
		note_flush_error(f->img, error);
	bt_vhdimg_finish(f, error);
}

/* Whether the footer could be put back is not asked: the copy at offset 0 makes
 * up for it. */
static void commit(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);

	f->commit.fn = committed;
	bt_meta_commit(f->img->meta, &f->commit);
}

/* As commit, without the last sync: for who only fears for the process. */
static void store(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);

	f->commit.fn = committed;
	bt_meta_store(f->img->meta, &f->commit);
}

/* Of a write that is to outlive the process: it is answered when the tables are
 * in the file, behind its data. */
void bt_vhdimg_finish_kept(struct bt_vhdimg_frame *f)
{
	bt_vhdimg_restore_footer(f, store);
}

/* The footer first, as that commit's sync then covers it. */
static void flush(struct bt_vhdimg *img, struct bt_request *req)
{
	struct bt_vhdimg_frame *f = bt_request_frame(req);

	f->req = req;
	f->img = img;
	if (img->read_only)
		bt_vhdimg_finish(f, 0);
	else
		bt_vhdimg_restore_footer(f, commit);
}

/* The one branch on the data path between a file and an image with tables. */
static void vhd_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_vhdimg *img = node->data;

	if (bt_unlikely(img->fixed))
		fixed(img, req);
	else if (req->op == BLKTAP_OP_FLUSH)
		flush(img, req);
	else
		bt_vhdimg_start(img, req);
}

/* Only the parent's edge has anything to bring back. */
static void vhd_complete(struct bt_node *node, struct bt_port *port,
			 struct bt_request *req)
{
	bt_vhdimg_returned(req);
}

/* As people call it. */
static const char *type_name(const struct bt_vhdimg *img)
{
	if (img->fixed)
		return "fixed";
	return img->differencing ? "differencing" : "dynamic";
}

/* 352 is what the older tapdisk had and toolstacks read. */
static void vhd_get_status(struct bt_node *node, struct bt_json *json,
			   bool legacy)
{
	struct bt_vhdimg *img = node->data;

	bt_json_object(json, "status");
	if (legacy) {
		bt_json_object(json, "reqs");
		bt_json_u64(json, "max", 352);
		bt_json_u64(json, "pending", img->f.file.in_flight);
		bt_json_object_end(json);
	} else {
		bt_json_string(json, "type", type_name(img));
		bt_json_bool(json, "direct", img->f.file.direct);
		bt_json_bool(json, "read_only", img->read_only);
		bt_json_u64(json, "in_flight", img->f.file.in_flight);
		bt_json_u64(json, "data_end", img->data_end);
		bt_json_i64(json, "flush_error", img->flush_error);
	}
	bt_json_object_end(json);
}

_Static_assert(!offsetof(struct bt_vhdimg, f), "driver/file.h says so");

const struct blktap_class bt_vhd_class = {
	.name = "vhd",
	.summary = "a VHD image: fixed, dynamic or differencing",
	.params = vhd_params,
	.ports = vhd_ports,
	.operations = BT_OPS_ALL & ~(1u << BLKTAP_OP_PREFETCH),
	.legacy_type = 4,
	.node_bytes = sizeof(struct bt_vhdimg),
	.frame_bytes = sizeof(struct bt_vhdimg_frame),
	.open = bt_vhdimg_open,
	.close = bt_vhdimg_close,
	.get_parent = bt_vhdimg_get_parent,
	.get_limits = vhd_get_limits,
	.submit = vhd_submit,
	.complete = vhd_complete,
	.get_status = vhd_get_status,
	.create = bt_vhdimg_create,
	.creates_on_device = true,
	.relock = bt_image_file_relock,
	.set_parent = bt_vhdimg_set_parent,
	.grow = bt_vhdimg_grow_disk,
	.get_stamp = bt_image_file_stamp,
};
