/* SPDX-License-Identifier: BSD-3-Clause */
/* A request's way through the runs of an image.
 *
 *   go_on -> BAT page -> unused: absent
 *                     -> used:   write_run, unmap_run, or
 *                                bitmap (unless the block is known to be full)
 *                                -> present or absent
 *   present: read here      absent: the parent's, or zeroes
 *
 * A frame walks alone: it has one run at a time, and the next begins when that
 * has ended. Those of its functions that return bool return true where the next
 * run may be taken at once, so that a request over many blocks in memory is a
 * loop and no recursion; false: something will call go_on, or the request has
 * ended and f must not be touched.
 *
 * A BAT entry is loaded from its page once a run (f->entry), checked, and used
 * as that value. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "core/log.h"

static bool with_bitmap(struct bt_vhdimg_frame *f, struct bt_meta_block *bm);

/* The frame is the request's memory, and gone after this. */
void bt_vhdimg_finish(struct bt_vhdimg_frame *f, int error)
{
	bt_request_complete(f->req, error);
}

/* DISCARD and BLOCK_STATUS have no data. */
void bt_vhdimg_advance(struct bt_vhdimg_frame *f)
{
	f->at += f->run;
	if (f->data.iov)
		bt_sgl_advance(&f->data, f->run);
}

/* The io is the frame's own: a run has one at a time. */
void bt_vhdimg_submit_io(struct bt_vhdimg_frame *f, enum bt_io_op op,
			 uint64_t offset,
			 void (*done)(struct bt_io *io, int error))
{
	struct bt_io *io = &f->io;

	io->file = &f->img->f.file;
	io->op = op;
	/* elsewhere durable takes a commit, which the core asks for */
	io->flags = f->img->fixed && f->req->flags & BLKTAP_FUA ? BT_IO_FUA : 0;
	io->offset = offset;
	io->length = f->run;
	io->data = f->data;
	io->done = done;
	bt_engine_submit(io);
}

/* The BAT in pages of 4 KiB from its beginning on. The last page may hold bytes
 * behind the table; nobody changes these. */
struct bt_meta_block *bt_vhdimg_get_page(struct bt_vhdimg_frame *f,
					 uint32_t block,
					 void (*fn)(struct bt_meta_wait *wait,
						    struct bt_meta_block *page,
						    int error))
{
	uint64_t page = block / BT_VHDIMG_PAGE_ENTRIES;

	f->wait.fn = fn;
	return bt_meta_get(f->img->meta, BT_VHDIMG_BAT,
			   f->img->blocks.table_offset + page * BT_VHDIMG_PAGE,
			   &f->wait);
}

/* The bitmap of the block that f->entry is of: it lies at the block's
 * beginning. */
struct bt_meta_block *bt_vhdimg_get_bitmap(
	struct bt_vhdimg_frame *f,
	void (*fn)(struct bt_meta_wait *wait, struct bt_meta_block *bitmap,
		   int error))
{
	f->wait.fn = fn;
	return bt_meta_get(f->img->meta, BT_VHDIMG_BITMAP,
			   bt_vhd_bitmap_offset(f->entry), &f->wait);
}

/* ---- extents -------------------------------------------------------------- */

/* Appends the run, to the last extent where that is of the same kind. Not to
 * one that the parent gave, which has a depth. */
static void add_extent(struct bt_vhdimg_frame *f, uint32_t flags)
{
	struct bt_request *req = f->req;
	struct blktap_extent *last = &req->extents[req->extent_count];

	if (req->extent_count && last[-1].flags == flags && !last[-1].depth) {
		last[-1].length += f->run;
		return;
	}
	last->length = f->run;
	last->flags = flags;
	last->depth = 0;
	req->extent_count++;
}

/* What the parent answered is one image further down. */
static void deepen(struct bt_vhdimg_frame *f)
{
	uint32_t i;

	for (i = f->extents; i < f->req->extent_count; i++)
		f->req->extents[i].depth++;
}

/* A status may answer for less than was asked, so a full array ends it well. */
static bool has_room(const struct bt_vhdimg_frame *f)
{
	return f->req->op != BLKTAP_OP_BLOCK_STATUS ||
	       f->req->extent_count < f->req->extent_max;
}

/* ---- runs ----------------------------------------------------------------- */

/* Bytes past the end of the file are zeroes (eof_ok): the last block of an
 * image may not be written to its end. */
static void read_done(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);

	if (bt_unlikely(f->img->cipher && !error))
		error = bt_vhdimg_decrypt(f);
	if (bt_unlikely(error != 0)) {
		bt_vhdimg_finish(f, error);
		return;
	}
	bt_vhdimg_advance(f);
	bt_vhdimg_go_on(f);
}

/* The sectors are in this file, whatever the parent has there. */
static bool present(struct bt_vhdimg_frame *f)
{
	if (f->req->op == BLKTAP_OP_READ) {
		bt_vhdimg_submit_io(
			f, BT_IO_READ,
			bt_vhd_data_offset(&f->img->blocks, f->entry) +
				bt_vhdimg_in_block(f),
			read_done);
		return false;
	}
	add_extent(f, 0);
	bt_vhdimg_advance(f);
	return true;
}

/* Lends the request, narrowed to the run, to the parent. Its extents begin
 * behind ours: it must not make one of them longer. The request is the frame's
 * own: what it was is in the frame and comes back in bt_vhdimg_returned. */
static void ask_parent(struct bt_vhdimg_frame *f, uint64_t parent_size)
{
	struct bt_request *req = f->req;

	f->run = bt_min_u64(f->run, parent_size - f->at);
	f->extents = req->op == BLKTAP_OP_BLOCK_STATUS ? req->extent_count : 0;
	req->offset = f->at;
	req->length = f->run;
	req->data = f->data;
	req->extents += f->extents;
	req->extent_max -= f->extents;
	req->extent_count = 0;
	bt_port_submit(&f->img->node->ports[0], req);
}

/* First all is put back as it came; then the answer is looked at. */
void bt_vhdimg_returned(struct bt_request *req)
{
	struct bt_vhdimg_frame *f = bt_request_frame(req);

	req->offset = f->offset;
	req->length = f->end - f->offset;
	req->data = f->whole;
	req->extents -= f->extents;
	req->extent_max += f->extents;
	req->extent_count += f->extents;
	if (bt_unlikely(req->error != 0)) {
		bt_vhdimg_finish(f, req->error);
		return;
	}
	if (req->op == BLKTAP_OP_BLOCK_STATUS)
		deepen(f);
	bt_vhdimg_advance(f);
	bt_vhdimg_go_on(f);
}

/* A write needs a block; it comes back to go_on when there is one, and finds
 * it. */
static bool absent(struct bt_vhdimg_frame *f)
{
	const struct bt_node *parent =
		f->img->differencing ? f->img->node->ports[0].lower : NULL;

	switch (f->req->op) {
	case BLKTAP_OP_WRITE:
		return bt_vhdimg_grow(f);
	case BLKTAP_OP_READ:
	case BLKTAP_OP_BLOCK_STATUS:
		/* a child may be larger than its parent */
		if (parent && f->at < parent->limits.size) {
			ask_parent(f, parent->limits.size);
			return false;
		}
		if (f->req->op == BLKTAP_OP_READ)
			bt_sgl_zero(&f->data, f->run);
		else
			add_extent(f, BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO);
		break;
	case BLKTAP_OP_WRITE_ZEROES:
		/* as of a block that is there, see bt_vhdimg_unmap_run: the
		 * parent's data would stay. The limits say that there is no
		 * zeroing; but a request may have waited at the gate for an
		 * image that has, and a job just tries */
		if (f->img->differencing) {
			bt_vhdimg_finish(f, -ENOTSUP);
			return false;
		}
		break;
	default: /* DISCARD: nothing is here */
		break;
	}
	bt_vhdimg_advance(f);
	return true;
}

/* The bitmap is referenced; with_bitmap gives it back. */
static void got_bitmap(struct bt_meta_wait *wait, struct bt_meta_block *bitmap,
		       int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(wait, struct bt_vhdimg_frame, wait);

	if (error)
		bt_vhdimg_finish(f, error);
	else if (with_bitmap(f, bitmap))
		bt_vhdimg_go_on(f);
}

/* Cuts the run to sectors that are alike. A block whose bits are all set is
 * remembered as full, so that its bitmap need not be read again; write.c takes
 * that back with a bit. */
static bool with_bitmap(struct bt_vhdimg_frame *f, struct bt_meta_block *bm)
{
	struct bt_vhdimg *img = f->img;
	uint32_t first = bt_vhdimg_in_block(f) / BT_VHD_SECTOR;
	uint64_t last = bt_vhdimg_in_block(f) + f->run + BT_VHD_SECTOR - 1;
	bool here;
	uint32_t count = bt_vhdimg_bits_run(
		img, bm->data, first, (uint32_t)(last / BT_VHD_SECTOR), &here);
	/* a BLOCK_STATUS may begin and end inside of a sector */
	uint64_t bytes = (uint64_t)(first + count) * BT_VHD_SECTOR -
			 bt_vhdimg_in_block(f);

	if (here && bt_vhd_bits_all(bm->data, 0, img->blocks.block_sec))
		bt_vhd_bit_set(img->full, bt_vhdimg_block(f));
	bt_meta_put(bm);
	f->run = bt_min_u64(f->run, bytes);
	return here ? present(f) : absent(f);
}

/* A parent that is only read may get longer meanwhile: a coalesce puts new
 * blocks behind those it had. Only the end is looked at anew; whether the entry
 * is sound is checked as before. */
static bool has_grown(struct bt_vhdimg *img)
{
	uint64_t end = img->data_end;
	struct stat st;

	if (!img->read_only || img->f.is_device ||
	    fstat(img->f.file.fd, &st) < 0)
		return false;
	img->data_end = bt_max_u64(
		end, bt_align_down((uint64_t)st.st_size, BT_VHD_SECTOR));
	return img->data_end > end;
}

/* At a writable open all entries were checked, and since then they are ours; a
 * reader sees those of this moment alone. The request fails and the disk goes
 * on. */
static bool check_entry(struct bt_vhdimg_frame *f)
{
	struct bt_vhdimg *img = f->img;
	struct bt_fault fault;

	if (bt_likely(!bt_vhd_entry_check(&img->blocks, f->entry, img->data_end,
					  &fault)))
		return true;
	if (has_grown(img) &&
	    !bt_vhd_entry_check(&img->blocks, f->entry, img->data_end, &fault))
		return true;
	bt_log(img->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: BAT entry of block %" PRIu32 " is %" PRIu32 ": %s",
	       img->f.path, bt_vhdimg_block(f), f->entry, fault.reason);
	bt_vhdimg_finish(f, -EIO);
	return false;
}

/* Blocks of the page after this one that are unused as well: a request that
 * crosses them need not be cut. Not for a write, which takes one block after
 * the other. */
static void widen(struct bt_vhdimg_frame *f, const void *page)
{
	const struct bt_vhd_blocks *b = &f->img->blocks;
	uint32_t i = bt_vhdimg_block(f) % BT_VHDIMG_PAGE_ENTRIES + 1;

	while (f->at + f->run < f->end && i < BT_VHDIMG_PAGE_ENTRIES &&
	       bt_vhd_bat_load(page, i) == BT_VHD_BAT_UNUSED) {
		f->run += bt_min_u64(b->block_size, f->end - f->at - f->run);
		i++;
	}
}

/* The page is given back before anything else: what is needed of it has been
 * loaded. */
static bool with_page(struct bt_vhdimg_frame *f, struct bt_meta_block *page)
{
	struct bt_vhdimg *img = f->img;
	uint32_t block = bt_vhdimg_block(f);
	struct bt_meta_block *bitmap;

	f->run = bt_min_u64(f->end - f->at,
			    img->blocks.block_size - bt_vhdimg_in_block(f));
	f->entry = bt_vhd_bat_load(page->data, block % BT_VHDIMG_PAGE_ENTRIES);
	if (f->entry == BT_VHD_BAT_UNUSED && f->req->op != BLKTAP_OP_WRITE)
		widen(f, page->data);
	bt_meta_put(page);
	if (f->entry == BT_VHD_BAT_UNUSED)
		return absent(f);
	if (!check_entry(f))
		return false;
	if (f->req->op == BLKTAP_OP_WRITE)
		return bt_vhdimg_write_run(f);
	if (bt_op_is_writing(f->req->op))
		return bt_vhdimg_unmap_run(f);
	if (bt_vhd_bit_test(img->full, block))
		return present(f);
	bitmap = bt_vhdimg_get_bitmap(f, got_bitmap);
	return bitmap && with_bitmap(f, bitmap);
}

/* As with_page, where the page had to be read. */
static void got_page(struct bt_meta_wait *wait, struct bt_meta_block *page,
		     int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(wait, struct bt_vhdimg_frame, wait);

	if (error)
		bt_vhdimg_finish(f, error);
	else if (with_page(f, page))
		bt_vhdimg_go_on(f);
}

/* A write that has to outlive the process waits only where a table is not in the
 * file yet, its own or another's: what is there is the system's to keep. */
void bt_vhdimg_go_on(struct bt_vhdimg_frame *f)
{
	while (f->at < f->end && has_room(f)) {
		struct bt_meta_block *page =
			bt_vhdimg_get_page(f, bt_vhdimg_block(f), got_page);

		if (!page || !with_page(f, page))
			return;
	}
	if (bt_unlikely(f->req->flags & BT_REQUEST_OUTLIVE) &&
	    f->req->op == BLKTAP_OP_WRITE && !bt_meta_is_stored(f->img->meta))
		bt_vhdimg_finish_kept(f);
	else
		bt_vhdimg_finish(f, 0);
}

/* whole is kept for when the parent had the request. */
void bt_vhdimg_start(struct bt_vhdimg *img, struct bt_request *req)
{
	struct bt_vhdimg_frame *f = bt_request_frame(req);

	f->req = req;
	f->img = img;
	f->offset = f->at = req->offset;
	f->end = req->offset + req->length;
	f->whole = f->data = req->data;
	bt_vhdimg_go_on(f);
}

/* ---- bits ----------------------------------------------------------------- */

/* Images of the first blktap have each byte of a bitmap the other way round,
 * which is the bit's number with its low three bits turned over. */
uint32_t bt_vhdimg_bits_run(const struct bt_vhdimg *img, const void *bitmap,
			    uint32_t first, uint32_t end, bool *value)
{
	uint32_t i = first + 1;

	if (bt_likely(!img->old_bits))
		return bt_vhd_bits_run(bitmap, first, end, value);
	*value = bt_vhd_bit_test(bitmap, first ^ 7);
	while (i < end && bt_vhd_bit_test(bitmap, i ^ 7) == *value)
		i++;
	return i - first;
}

/* Looks first: most writes go to sectors that have their bit, and then no
 * bitmap is dirty. */
bool bt_vhdimg_bits_put(const struct bt_vhdimg *img, void *bitmap,
			uint32_t first, uint32_t count, bool value)
{
	uint32_t i;
	bool now;

	if (bt_vhdimg_bits_run(img, bitmap, first, first + count, &now) ==
		    count &&
	    now == value)
		return false;
	for (i = first; img->old_bits && i < first + count; i++)
		if (value)
			bt_vhd_bit_set(bitmap, i ^ 7);
		else
			bt_vhd_bit_clear(bitmap, i ^ 7);
	if (bt_likely(!img->old_bits && value))
		bt_vhd_bits_set(bitmap, first, count);
	else if (!img->old_bits)
		bt_vhd_bits_clear(bitmap, first, count);
	return true;
}
