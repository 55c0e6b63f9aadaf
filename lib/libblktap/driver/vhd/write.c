/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs that change a block which exists.
 *
 * A write puts its data down first and sets the bits when that is done, so that a
 * commit in between never says "here" of a sector whose data is not. A discard
 * punches the data and then clears bits; of a block that the batmap calls full it
 * punches alone, and the holes read as zeroes.
 *
 * What is on disk follows with a commit: data, sync, bits (vhd.h). Two writes
 * of one block do not wait for each other; each sets its own bits when its data
 * is there. */
#include "driver/vhd/vhd.h"

#include <errno.h>

/* The bitmap is referenced, and given back here. Only the bytes that hold the
 * run's bits are dirty. */
static bool mark(struct bt_vhdimg_frame *f, struct bt_meta_block *bitmap,
		 bool value)
{
	struct bt_vhdimg *img = f->img;
	uint32_t first = bt_vhdimg_in_block(f) / BT_VHD_SECTOR;
	uint32_t count = (uint32_t)(f->run / BT_VHD_SECTOR);
	uint32_t block = bt_vhdimg_block(f);

	if (bt_vhdimg_bits_put(img, bitmap->data, first, count, value))
		bt_meta_dirty(bitmap, first / 8,
			      (first + count - 1) / 8 - first / 8 + 1);
	/* a block that lost a sector is looked at by its bitmap again */
	if (!value)
		bt_vhd_bit_clear(img->full, block);
	else if (bt_vhd_bits_all(bitmap->data, 0, img->blocks.block_sec))
		bt_vhd_bit_set(img->full, block);
	bt_meta_put(bitmap);
	bt_vhdimg_advance(f);
	return true;
}

/* The bitmap is there now. Unlike a table's entry a bit is not looked up again:
 * the block keeps its place as long as the image is open. */
static void got_marks(struct bt_meta_wait *wait, struct bt_meta_block *bitmap,
		      int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(wait, struct bt_vhdimg_frame, wait);

	if (error)
		bt_vhdimg_finish(f, error);
	else if (mark(f, bitmap, f->req->op == BLKTAP_OP_WRITE))
		bt_vhdimg_go_on(f);
}

/* Bits are set only now: the sync of a commit that began before may not have
 * covered this data. */
void bt_vhdimg_written(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);
	struct bt_meta_block *bitmap;

	if (bt_unlikely(error != 0)) {
		bt_vhdimg_finish(f, error);
		return;
	}
	/* looked at now, not before the write: a discard may have come */
	if (bt_vhd_bit_test(f->img->full, bt_vhdimg_block(f))) {
		bt_vhdimg_advance(f);
		bt_vhdimg_go_on(f);
		return;
	}
	bitmap = bt_vhdimg_get_bitmap(f, got_marks);
	if (bitmap && mark(f, bitmap, true))
		bt_vhdimg_go_on(f);
}

/* In place: the block is this image's alone, whether the sectors had their bits
 * or not. */
bool bt_vhdimg_write_run(struct bt_vhdimg_frame *f)
{
	if (bt_unlikely(f->img->cipher != NULL))
		bt_vhdimg_write_encrypted(f);
	else
		bt_vhdimg_submit_io(
			f, BT_IO_WRITE,
			bt_vhd_data_offset(&f->img->blocks, f->entry) +
				bt_vhdimg_in_block(f),
			bt_vhdimg_written);
	return false;
}

/* ---- discard, zeroes ------------------------------------------------------ */

/* Bits of a block that the batmap on disk calls full stay set, as nobody would
 * look at them: there the punched data reads as zeroes. */
static bool clear(struct bt_vhdimg_frame *f)
{
	struct bt_meta_block *bitmap;

	if (f->img->batmap &&
	    bt_vhd_bit_test(f->img->batmap, bt_vhdimg_block(f))) {
		bt_vhdimg_advance(f);
		return true;
	}
	bitmap = bt_vhdimg_get_bitmap(f, got_marks);
	return bitmap && mark(f, bitmap, false);
}

/* For a discard the bits do just as well. Zeroes that the file system cannot
 * make go up as -ENOTSUP: the core writes them. */
static void unmapped(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);

	if (error == -EOPNOTSUPP && f->req->op == BLKTAP_OP_DISCARD)
		error = 0;
	if (error)
		bt_vhdimg_finish(f, error == -EOPNOTSUPP ? -ENOTSUP : error);
	else if (clear(f))
		bt_vhdimg_go_on(f);
}

/* Of an image without parent: an absent sector reads as zeroes. Its data is
 * zeroed as well, since QEMU reads a block without looking at its bitmap; and
 * first, so that the range reads as zeroes whichever of the two is on disk. A
 * differencing image cannot say "zero", only "look at the parent"; an encrypted
 * one has no zeroes that its reader would see as such. So their discards do
 * nothing. */
bool bt_vhdimg_unmap_run(struct bt_vhdimg_frame *f)
{
	struct bt_vhdimg *img = f->img;
	bool zeroes = f->req->op == BLKTAP_OP_WRITE_ZEROES;
	bool keep = img->differencing || img->cipher;
	enum bt_io_op op = BT_IO_PUNCH;

	if (keep && !zeroes) {
		bt_vhdimg_advance(f);
		return true;
	}
	if (keep) {
		bt_vhdimg_finish(f, -ENOTSUP);
		return false;
	}
	if (img->f.is_device && !zeroes)
		return clear(f);
	if (zeroes && (img->f.is_device || !(f->req->flags & BLKTAP_MAY_UNMAP)))
		op = BT_IO_ZERO;
	bt_vhdimg_submit_io(f, op,
			    bt_vhd_data_offset(&img->blocks, f->entry) +
				    bt_vhdimg_in_block(f),
			    unmapped);
	return false;
}
