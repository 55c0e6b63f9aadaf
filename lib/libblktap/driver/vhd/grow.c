/* SPDX-License-Identifier: BSD-3-Clause */
/* New blocks at the end of the file.
 *
 * Requests that need one are taken in batches:
 *
 *   assign places -> write zero bitmaps, and the footer behind the last block
 *     -> bitmaps into the cache -> BAT entries into the cache -> requests go on
 *
 * and one batch ends before the next begins, since the footer of this one lies
 * where the first bitmap of the next goes. Space that is short is found out by
 * the bitmap's write, and fails that request before any table has changed. The
 * 2 MiB behind a bitmap are not written: its bits say what is there. Where the
 * footer finds no space the batch fails and the file ends where it did, as there is
 * space for a footer.
 *
 * Lists: to_grow has frames that came, in their order; grow the frames of the
 * batch under way. A frame is on one of them from bt_vhdimg_grow to let_go. A
 * second frame for a block of the batch waits on to_grow and finds the block
 * there afterwards.
 *
 * end_busy: a batch or the writing back of a lost footer is under way;
 * grow_pending counts what of it is: first writes, then entries that are put
 * into tables. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"

static const char zeroes[BT_VHD_SECTOR] __attribute__((aligned(4096)));

static void start(struct bt_vhdimg *img);
static void enter_table(struct bt_vhdimg_frame *f);

/* ---- the end of a batch --------------------------------------------------- */

/* A frame that goes on may grow again: it comes to to_grow, and end_busy keeps
 * the next batch off until this one has ended. */
static void let_go(struct bt_list *from)
{
	struct bt_list *node;

	while ((node = bt_list_pop(from))) {
		struct bt_vhdimg_frame *f =
			bt_list_entry(node, struct bt_vhdimg_frame, link);

		if (f->error)
			bt_vhdimg_finish(f, f->error);
		else
			bt_vhdimg_go_on(f);
	}
}

/* Every block of the batch is in the table, or has failed. Who came meanwhile
 * looks again, since the block may be there now; else it comes back. */
static void batch_done(struct bt_vhdimg *img)
{
	struct bt_list came;

	bt_list_init(&came);
	bt_list_splice_tail(&came, &img->to_grow);
	let_go(&img->grow);
	let_go(&came);
	img->end_busy = false;
	start(img);
}

/* Bitmap and BAT entry of one block, or its error. */
static void one_done(struct bt_vhdimg *img)
{
	if (--img->grow_pending == 0)
		batch_done(img);
}

/* The block is in the table for everybody in this process from here on; on disk
 * with a commit. */
static void got_page(struct bt_meta_wait *wait, struct bt_meta_block *page,
		     int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(wait, struct bt_vhdimg_frame, wait);
	uint32_t index = bt_vhdimg_block(f) % BT_VHDIMG_PAGE_ENTRIES;

	f->error = error;
	if (!error) {
		bt_vhd_bit_clear(f->img->full, bt_vhdimg_block(f));
		bt_vhd_bat_store(page->data, index, f->entry);
		bt_meta_dirty(page, index * 4, 4);
		bt_meta_put(page);
	}
	one_done(f->img);
}

/* The bitmap is in the cache, all of it dirty: it goes to disk with the commit
 * that writes the BAT entry, in either order, as its zeroes are there already
 * (write_bitmap). */
static void got_bitmap(struct bt_meta_wait *wait, struct bt_meta_block *bitmap,
		       int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(wait, struct bt_vhdimg_frame, wait);
	struct bt_meta_block *page;

	if (error) {
		f->error = error;
		one_done(f->img);
		return;
	}
	bt_meta_put(bitmap);
	page = bt_vhdimg_get_page(f, bt_vhdimg_block(f), got_page);
	if (page)
		got_page(&f->wait, page, 0);
}

/* A bitmap that is new to the cache: zeroes, as they are in the file by now. */
static void enter_table(struct bt_vhdimg_frame *f)
{
	struct bt_meta_block *bitmap;

	if (f->error) {
		one_done(f->img);
		return;
	}
	f->wait.fn = got_bitmap;
	bitmap = bt_meta_get_new(f->img->meta, BT_VHDIMG_BITMAP,
				 bt_vhd_bitmap_offset(f->entry), &f->wait);
	if (bitmap)
		got_bitmap(&f->wait, bitmap, 0);
}

/* ---- the writes ----------------------------------------------------------- */

/* Of a file system, of a quota, and of the largest file there may be. */
bool bt_vhdimg_is_no_space(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

/* Without room for its footer the file would end in half a block's data: nobody
 * of the batch gets a block. */
static void fail_batch(struct bt_vhdimg *img, int error)
{
	struct bt_list *pos;

	img->cut_short = true;
	bt_list_for_each (pos, &img->grow)
		bt_list_entry(pos, struct bt_vhdimg_frame, link)->error = error;
}

/* Gives the places back where nothing at all was written there. Any write that
 * may have reached the file keeps the end where it is: the next block goes
 * behind it, and what lies between is lost space at worst. */
static void settle_end(struct bt_vhdimg *img)
{
	struct bt_list *pos;
	bool any = !img->f.is_device && !img->footer_lost;

	if (img->footer_lost && bt_vhdimg_is_no_space(img->footer_error))
		fail_batch(img, img->footer_error);

	bt_list_for_each (pos, &img->grow)
		any |= !bt_list_entry(pos, struct bt_vhdimg_frame, link)->error;
	if (!any)
		img->data_end = img->old_end;
}

/* Both counted loops begin with one more than there is, so that an answer that
 * comes at once cannot end the batch before all are begun. */
static void all_written(struct bt_vhdimg *img)
{
	struct bt_list *pos;

	settle_end(img);
	img->grow_pending = 1; /* until all are under way */
	bt_list_for_each (pos, &img->grow)
		img->grow_pending++;
	bt_list_for_each (pos, &img->grow)
		enter_table(bt_list_entry(pos, struct bt_vhdimg_frame, link));
	one_done(img);
}

static void one_written(struct bt_vhdimg *img)
{
	if (--img->grow_pending == 0)
		all_written(img);
}

/* The error is this frame's: others of the batch have their own space. */
static void bitmap_written(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);

	f->error = error;
	one_written(f->img);
}

/* The copy at offset 0 makes up for it. A lost footer is no error of any
 * request; space that is short is, see settle_end. */
static void footer_written(struct bt_io *io, int error)
{
	struct bt_vhdimg *img =
		bt_container_of(io, struct bt_vhdimg, footer_io);

	img->footer_lost = error != 0;
	img->footer_error = error;
	if (error)
		bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: the footer at %" PRIu64 " could not be written; "
		       "the next flush tries again",
		       img->f.path, io->offset);
	one_written(img);
}

/* Behind the data as it ends now, both for a batch and for a lost footer. */
static void fill_footer_io(struct bt_vhdimg *img, struct bt_io *io)
{
	img->footer_iov.iov_base = img->footer_bytes;
	img->footer_iov.iov_len = BT_VHD_FOOTER_SIZE;
	io->file = &img->f.file;
	io->op = BT_IO_WRITE;
	io->flags = 0;
	io->offset = img->data_end;
	io->length = BT_VHD_FOOTER_SIZE;
	io->data.iov = &img->footer_iov;
	io->data.count = 1;
	io->data.skip = 0;
}

/* Zeroes, in the file before the table can name the block (all_written comes
 * later), and on disk before by the sync of rank 0. A bitmap is one sector for
 * blocks of 2 MiB, the largest there are. */
static void write_bitmap(struct bt_vhdimg_frame *f)
{
	struct bt_io *io = &f->io;

	f->iov.iov_base = (void *)(uintptr_t)zeroes;
	f->iov.iov_len = bt_vhd_bitmap_bytes(&f->img->blocks);
	io->file = &f->img->f.file;
	io->op = BT_IO_WRITE;
	io->flags = 0;
	io->offset = bt_vhd_bitmap_offset(f->entry);
	io->length = f->iov.iov_len;
	io->data.iov = &f->iov;
	io->data.count = 1;
	io->data.skip = 0;
	io->done = bitmap_written;
	f->img->grow_pending++;
	bt_engine_submit(io);
}

/* ---- a batch -------------------------------------------------------------- */

static bool is_in_batch(const struct bt_vhdimg *img, uint32_t block)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &img->grow)
		if (bt_vhdimg_block(bt_list_entry(pos, struct bt_vhdimg_frame,
						  link)) == block)
			return true;
	return false;
}

/* False: beyond what 32 bits of sectors reach, or what a device has room
 * for. */
static bool assign(struct bt_vhdimg *img, struct bt_vhdimg_frame *f)
{
	uint64_t end;

	if (bt_vhd_next_entry(&img->blocks, img->data_end, &f->entry, NULL))
		return false;
	end = bt_vhd_bitmap_offset(f->entry) +
	      bt_vhd_block_stride(&img->blocks);
	if (end > img->limit)
		return false;
	img->data_end = end;
	return true;
}

/* Takes all that wait. The new end moves block by block; one footer is written
 * behind the last. */
static void start(struct bt_vhdimg *img)
{
	struct bt_list batch, *node;

	if (img->end_busy || bt_list_empty(&img->to_grow))
		return;
	img->end_busy = true;
	img->old_end = img->data_end;
	img->grow_pending = 1; /* until all are under way */
	bt_list_init(&batch);
	bt_list_splice_tail(&batch, &img->to_grow);
	while ((node = bt_list_pop(&batch))) {
		struct bt_vhdimg_frame *f =
			bt_list_entry(node, struct bt_vhdimg_frame, link);

		if (is_in_batch(img, bt_vhdimg_block(f))) {
			bt_list_add_tail(&img->to_grow, &f->link);
			continue;
		}
		bt_list_add_tail(&img->grow, &f->link);
		if (assign(img, f))
			write_bitmap(f);
		else
			f->error = -ENOSPC;
	}
	/* the footer of a device stays at its end */
	if (!img->f.is_device && img->data_end != img->old_end) {
		fill_footer_io(img, &img->footer_io);
		img->footer_io.done = footer_written;
		img->grow_pending++;
		bt_engine_submit(&img->footer_io);
	}
	one_written(img);
}

/* f waits on to_grow, and goes on when its block is there or has failed. */
bool bt_vhdimg_grow(struct bt_vhdimg_frame *f)
{
	f->error = 0;
	bt_list_add_tail(&f->img->to_grow, &f->link);
	start(f->img);
	return false;
}

/* ---- a lost footer -------------------------------------------------------- */

/* f goes on whether that worked or not: the next flush tries again. */
static void restored(struct bt_io *io, int error)
{
	struct bt_vhdimg *img =
		bt_container_of(io, struct bt_vhdimg, footer_io);
	struct bt_vhdimg_frame *f = img->restoring;

	img->footer_lost = error != 0;
	img->end_busy = false;
	f->io.done(&f->io, 0);
	start(img);
}

/* While a batch is under way its own footer is about to be written, so this one
 * is not. */
void bt_vhdimg_restore_footer(struct bt_vhdimg_frame *f,
			      void (*done)(struct bt_io *io, int error))
{
	struct bt_vhdimg *img = f->img;

	f->io.done = done;
	if (!img->footer_lost || img->end_busy) {
		done(&f->io, 0);
		return;
	}
	img->end_busy = true;
	img->restoring = f;
	fill_footer_io(img, &img->footer_io);
	img->footer_io.done = restored;
	bt_engine_submit(&img->footer_io);
}

/* Errors are swallowed: an image without footer at its end is opened by its
 * copy. */
void bt_vhdimg_close_end(struct bt_vhdimg *img)
{
	uint64_t end = img->data_end + BT_VHD_FOOTER_SIZE;
	struct stat st;

	if (!img->footer_lost && !img->cut_short)
		return;
	if (bt_image_file_write(&img->f, img->data_end, img->footer_bytes,
				BT_VHD_FOOTER_SIZE))
		return;
	/* bitmaps of blocks for which there was no space */
	if (img->cut_short && fstat(img->f.file.fd, &st) == 0 &&
	    (uint64_t)st.st_size > end &&
	    ftruncate(img->f.file.fd, (off_t)end) < 0)
		bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: cannot be cut off behind its footer", img->f.path);
}
