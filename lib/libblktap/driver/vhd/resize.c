/* SPDX-License-Identifier: BSD-3-Clause */
/* Another size for the disk. The image is whole at every moment, of the old size or
 * of the new one:
 *
 *   within the tables   both footers, the end first
 *   beyond them         new tables behind the data (move.c)
 *   smaller             footers, then the table without the blocks that are beyond,
 *                       then their space
 *   fixed, larger       the footer at the new end, what was before it zeroed, then
 *                       the footer's size
 *   fixed, smaller      a footer at the new end, then the file is cut off
 *
 * What grows shows zeroes, and nothing that was there once: blocks beyond the old
 * end go first. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/vhd/tool.h"
#include "libvhd/geometry.h"
#include "libvhd/journal.h"
#include "libvhd/layout.h"

/* Of makers whose geometry is the size, one that holds it. */
static int set_size(struct bt_vhd_footer *f, uint64_t length,
		    struct bt_fault *fault)
{
	uint64_t rounded;
	int rc;

	bt_vhd_footer_set_size(f, length);
	if (bt_vhd_virtual_size(f, NULL) >= length)
		return 0;
	rc = bt_vhd_size_round(length, BT_VHD_ROUND_GEOMETRY, &rounded, fault);
	if (!rc)
		bt_vhd_footer_set_size(f, rounded);
	return rc;
}

/* A fixed disk has no copy: at 0 is its data. */
static int save_footers(struct bt_vhdimg *img, struct bt_vhdjournal *j,
			struct blktap_error **err)
{
	int rc = bt_vhdjournal_save(j, BT_VHD_JOURNAL_FOOTER,
				    bt_vhdtool_footer_at(img),
				    BT_VHD_FOOTER_SIZE, err);

	if (!rc && !img->fixed)
		rc = bt_vhdjournal_save(j, BT_VHD_JOURNAL_FOOTER_COPY, 0,
					BT_VHD_FOOTER_SIZE, err);
	return rc;
}

/* All that drop_blocks and a move may change: BAT, batmap's header, batmap. */
static int save_table(struct bt_vhdimg *img, struct bt_vhdjournal *j,
		      struct blktap_error **err)
{
	uint64_t bytes = (uint64_t)img->blocks.entries * 4;
	struct bt_vhd_batmap batmap;
	int rc;

	bytes = bt_align_down(bytes + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
	rc = bt_vhdjournal_save(j, BT_VHD_JOURNAL_BAT, img->blocks.table_offset,
				bytes, err);
	if (rc || !img->batmap)
		return rc;
	rc = bt_vhdtool_reread_batmap(img, &batmap);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	rc = bt_vhdjournal_save(j, BT_VHD_JOURNAL_BATMAP_HEADER,
				bt_vhd_batmap_header_offset(&img->header),
				BT_VHD_BATMAP_HEADER_SIZE, err);
	return rc ? rc
		  : bt_vhdjournal_save(
			    j, BT_VHD_JOURNAL_BATMAP, batmap.offset,
			    (uint64_t)batmap.size_sec * BT_VHD_SECTOR, err);
}

/* ---- blocks past the end -------------------------------------------------- */

struct cut {
	struct bt_vhdimg *img;
	uint32_t needed; /* blocks that stay */
	uint64_t end; /* of those */
	bool any;
};

/* A BAT entry is 4 bytes in one sector: it is changed whole or not at all. */
static int drop_block(void *opaque, uint32_t block, uint32_t entry)
{
	static const uint8_t unused[4] = { 0xff, 0xff, 0xff, 0xff };
	struct cut *cut = opaque;
	struct bt_vhdimg *img = cut->img;

	if (block < cut->needed) {
		cut->end = bt_max_u64(
			cut->end, bt_vhd_bitmap_offset(entry) +
					  bt_vhd_block_stride(&img->blocks));
		return 0;
	}
	cut->any = true;
	return bt_image_file_write(
		&img->f, img->blocks.table_offset + (uint64_t)block * 4, unused,
		sizeof(unused));
}

/* Free space inside of the file goes back to the file system. Errors do not
 * matter: it is space that nobody uses. */
static int punch_block(void *opaque, uint32_t block, uint32_t entry)
{
	struct cut *cut = opaque;

	if (block >= cut->needed)
		fallocate(cut->img->f.file.fd,
			  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)bt_vhd_bitmap_offset(entry),
			  (off_t)bt_vhd_block_stride(&cut->img->blocks));
	return 0;
}

/* The batmap first: it may say too little, never too much. Synced before
 * entries go, and those before their space does. */
static int drop_blocks(struct bt_vhdimg *img, struct cut *cut)
{
	uint32_t entries = img->blocks.entries;
	int rc = 0;

	if (img->batmap && cut->needed < entries) {
		bt_vhd_bits_clear(img->batmap, cut->needed,
				  entries - cut->needed);
		rc = bt_vhdtool_write_batmap(img);
		if (!rc)
			rc = bt_image_file_sync(&img->f);
	}
	if (!rc)
		rc = bt_vhdtool_each_block(img, drop_block, cut);
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* Of the last block, what is past the end of the disk. Bits there may be set,
 * of a disk that was larger once. */
static int zero_rest(struct bt_vhdimg *img)
{
	const struct bt_vhd_blocks *b = &img->blocks;
	uint32_t last = (uint32_t)((img->size - 1) >> b->block_shift);
	uint32_t used = bt_vhd_block_visible_sec(b, last) * BT_VHD_SECTOR;
	uint8_t be[4], *zeroes;
	uint32_t entry;
	int rc = bt_image_file_read(
		&img->f, b->table_offset + (uint64_t)last * 4, be, 4);

	entry = bt_vhd_bat_load(be, 0);
	if (rc || entry == BT_VHD_BAT_UNUSED || used == b->block_size)
		return rc;
	zeroes = calloc(1, b->block_size - used);
	if (!zeroes)
		return -ENOMEM;
	rc = bt_image_file_write(&img->f, bt_vhd_data_offset(b, entry) + used,
				 zeroes, b->block_size - used);
	free(zeroes);
	return rc;
}

/* ---- dynamic and differencing --------------------------------------------- */

/* The header is the old one but for the number of entries; where all lies is
 * the move's. */
static int grow_tables(struct bt_vhdimg *img, const struct bt_vhd_footer *f,
		       uint32_t entries, struct blktap_error **err)
{
	struct bt_vhdmove move = {
		.footer = *f,
		.header = img->header,
		.tables = true,
	};

	move.header.max_table_entries = entries;
	return bt_vhdmove_run(img, &move, err);
}

/* What is past the old end is made to read as nothing first; only then may the
 * size change. */
static int grow(struct bt_vhdimg *img, const struct bt_vhd_footer *f, bool fast,
		struct bt_vhdjournal *j, struct blktap_error **err)
{
	uint64_t size = bt_vhd_virtual_size(f, NULL);
	uint64_t entries = bt_vhd_entries_for(size, img->blocks.block_size);
	struct cut cut = { .img = img,
			   .needed = bt_vhd_blocks_needed(&img->blocks) };
	int rc;

	if (fast && entries > img->blocks.entries)
		return bt_fail(err, -EINVAL,
			       "resize it with a journal: vhd-util resize -j",
			       "%s: its tables have room for %" PRIu64
			       " bytes at the most",
			       img->f.path,
			       (uint64_t)img->blocks.entries *
				       img->blocks.block_size);
	if (entries > BT_VHD_BAT_ENTRIES_MAX)
		return bt_fail(err, -EFBIG, NULL,
			       "%s: too many blocks for its block size",
			       img->f.path);
	rc = save_table(img, j, err);
	if (!rc)
		rc = save_footers(img, j, err);
	if (!rc)
		rc = bt_vhdjournal_sync(j, err);
	if (rc < 0)
		return rc;
	rc = zero_rest(img);
	if (!rc)
		rc = drop_blocks(img, &cut);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	if (entries > img->blocks.entries)
		return grow_tables(img, f, (uint32_t)entries, err);
	img->footer = *f;
	rc = bt_vhdtool_write_footers(img);
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* Blocks at the end of the file that nobody names any more. The footer is at
 * the new end before the file is cut off behind it; until then the one at the
 * old end counts. */
static int cut_file(struct bt_vhdimg *img, uint64_t end)
{
	int rc;

	end = bt_max_u64(end, img->blocks.metadata_end);
	if (img->f.is_device || end >= img->data_end)
		return 0;
	img->data_end = end;
	rc = bt_vhdtool_write_footers(img);
	if (!rc &&
	    ftruncate(img->f.file.fd, (off_t)(end + BT_VHD_FOOTER_SIZE)) < 0)
		rc = -errno;
	return rc;
}

/* The order: journal, footers of the smaller size, entries beyond it; then the
 * journal goes, and only behind that the space of what was dropped, as an
 * undoing would need it. */
static int shrink(struct bt_vhdimg *img, const struct bt_vhd_footer *f,
		  struct bt_vhdjournal *j, struct blktap_error **err)
{
	uint64_t size = bt_vhd_virtual_size(f, NULL);
	struct cut cut = {
		.img = img,
		.needed = (uint32_t)bt_vhd_entries_for(size,
						       img->blocks.block_size),
	};
	struct cut all = cut;
	uint8_t *old = malloc((size_t)img->blocks.entries * 4 + 1);
	uint32_t i;
	int rc = old ? bt_image_file_read(&img->f, img->blocks.table_offset,
					  old, (size_t)img->blocks.entries * 4)
		     : -ENOMEM;

	if (rc < 0)
		bt_image_file_fail(img->f.path, rc, err);
	if (!rc)
		rc = save_table(img, j, err);
	if (!rc)
		rc = save_footers(img, j, err);
	if (!rc)
		rc = bt_vhdjournal_sync(j, err);
	if (rc < 0)
		goto out;
	img->footer = *f;
	rc = bt_vhdtool_write_footers(img);
	if (!rc)
		rc = drop_blocks(img, &cut);
	if (rc < 0)
		bt_image_file_fail(img->f.path, rc, err);
	/* space is given away when nothing can be undone any more */
	if (!rc)
		rc = bt_vhdjournal_end(j, err);
	for (i = cut.needed; !rc && i < img->blocks.entries; i++)
		if (bt_vhd_bat_load(old, i) != BT_VHD_BAT_UNUSED)
			punch_block(&all, i, bt_vhd_bat_load(old, i));
	if (!rc && (rc = cut_file(img, cut.end)))
		bt_image_file_fail(img->f.path, rc, err);
out:
	free(old);
	return rc;
}

/* ---- fixed ---------------------------------------------------------------- */

/* Between the disk's end and the footer may be what is left of an older footer, or of
 * a larger disk. It is nobody's until the size has changed. */
static int zero_gap(struct bt_vhdimg *img, uint64_t end)
{
	static const uint8_t zeroes[65536];
	uint64_t at = img->size;
	int rc = 0;

	if (at >= end)
		return 0;
	if (end - at > sizeof(zeroes) &&
	    fallocate(img->f.file.fd,
		      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
		      (off_t)(end - at)) == 0)
		at = end;
	while (at < end && !rc) {
		size_t n = (size_t)bt_min_u64(end - at, sizeof(zeroes));

		rc = bt_image_file_write(&img->f, at, zeroes, n);
		at += n;
	}
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* The journal, and of a smaller disk the data that the new footer will lie on. */
static int save_fixed(struct bt_vhdimg *img, uint64_t size,
		      struct bt_vhdjournal *j, struct blktap_error **err)
{
	int rc = save_footers(img, j, err);

	if (!rc && size <= img->data_end)
		rc = bt_vhdjournal_save(j, BT_VHD_JOURNAL_DATA, size,
					BT_VHD_FOOTER_SIZE, err);
	return rc ? rc : bt_vhdjournal_sync(j, err);
}

/* Larger: the footer is moved to the new end as it is, and what was before it is
 * zeroed, before one sector has the new size. Smaller: the new footer lies in the
 * disk's old data, which is in the journal; the rest is cut off behind it. */
static int resize_fixed(struct bt_vhdimg *img, const struct bt_vhd_footer *f,
			struct bt_vhdjournal *j, struct blktap_error **err)
{
	uint64_t size = f->current_size, old = img->data_end;
	int rc;

	if (img->f.is_device)
		return bt_fail(err, -ENOTSUP, "copy it to a larger device",
			       "%s: the size of a fixed disk on a device is "
			       "the device's",
			       img->f.path);
	rc = save_fixed(img, size, j, err);
	if (rc < 0)
		return rc;
	img->data_end = size;
	if (size > old)
		rc = bt_vhdtool_write_footers(img);
	if (!rc)
		rc = zero_gap(img, bt_min_u64(size, old + BT_VHD_FOOTER_SIZE));
	img->footer = *f;
	if (!rc)
		rc = bt_vhdtool_write_footers(img);
	if (!rc && size <= old) {
		rc = bt_vhdjournal_end(j, err);
		if (rc < 0)
			return rc;
		if (ftruncate(img->f.file.fd,
			      (off_t)(size + BT_VHD_FOOTER_SIZE)) < 0)
			rc = -errno;
	}
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* The rest of a block is zeroed when the disk grows over it; without the key that
 * cannot be done, as zeroes in an encrypted image are none to its readers. */
static int check_key(const struct blktap_vhd *vhd, uint64_t size,
		     struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	uint64_t end = bt_min_u64(size, img->size);

	if (img->fixed || !(end % img->blocks.block_size) ||
	    !img->keyhash.cookie)
		return 0;
	return bt_fail(err, -ENOKEY, "resize it in whole blocks, or copy it",
		       "%s: is encrypted, and %" PRIu64
		       " bytes are not in blocks of %u",
		       img->f.path, end, img->blocks.block_size);
}

/* What the parent has past the old end would come up, as nothing of it is in the
 * child. A parent that is not there (one on a device that is not active) cannot be
 * asked. */
static int check_parent(const struct blktap_vhd *vhd, struct blktap_error **err)
{
	const struct bt_vhdimg *img = vhd->img;
	uint64_t size;

	if (!img->differencing || bt_vhdimg_parent_size(vhd->node, &size) < 0 ||
	    size <= img->size)
		return 0;
	return bt_fail(err, -ENOTSUP, "copy it, and resize that: vhd-util copy",
		       "%s: stands on a larger image, whose data would be seen",
		       img->f.path);
}

/* A size that the geometry rounds up to the present one is done. After growing
 * beyond its tables the handle still has the old ones' places: it is for
 * closing. */
int blktap_vhd_resize(struct blktap_vhd *vhd, uint64_t length,
		      const char *journal, uint32_t flags,
		      struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	bool fast = flags & BLKTAP_VHD_RESIZE_FAST;
	struct bt_vhd_footer f = img->footer;
	struct bt_vhdjournal *j = NULL;
	struct bt_fault fault = { 0 };
	uint64_t size;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (rc < 0)
		return rc;
	rc = bt_vhd_size_round(length, BT_VHD_ROUND_SECTOR, &size, &fault);
	if (!rc)
		rc = set_size(&f, size, &fault);
	if (rc < 0)
		return bt_vhdimg_fault(img->f.path, rc, &fault, err);
	size = bt_vhd_virtual_size(&f, NULL);
	if (size == img->size)
		return 0;
	if (fast && size < img->size)
		return bt_fail(err, -EINVAL,
			       "resize it with a journal: vhd-util resize -j",
			       "%s: cannot shrink fast", img->f.path);
	rc = check_key(vhd, size, err);
	if (!rc && size > img->size)
		rc = check_parent(vhd, err);
	if (rc < 0)
		return rc;
	rc = bt_vhdjournal_create(img, journal, &j, err);
	if (!rc && img->fixed)
		rc = resize_fixed(img, &f, j, err);
	else if (!rc && size > img->size)
		rc = grow(img, &f, fast, j, err);
	else if (!rc)
		rc = shrink(img, &f, j, err);
	if (!rc)
		rc = bt_vhdjournal_end(j, err);
	bt_vhdjournal_close(j);
	if (!rc)
		img->size = size;
	return rc;
}
