/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks that tools write, many at a time.
 *
 *   data, zero bitmaps of new blocks, the footer behind them
 *     -> sync -> bitmaps with their bits, BAT -> sync
 *
 * That is one commit for hundreds of blocks: the time goes with the blocks, and
 * not with what a sync takes. Before the second half nothing on disk names what
 * was written, so a cut leaks space at worst; the bits and the BAT may go together,
 * since a block whose bits are not there yet reads as before. What has become full
 * is noted in the batmap at the end. What was not committed when the work ends is cut
 * off again. */
#include "driver/vhd/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PENDING 1024u /* blocks of a commit */
#define PENDING_BYTES (256u << 20) /* or so much data of a commit */

struct bt_vhdwriter {
	struct bt_vhdimg *img;
	uint8_t *bat; /* as it will be */
	uint8_t *pages; /* a bit a page of the BAT: it changed */
	uint32_t page_count;
	/* the blocks of this commit, in the order they came */
	uint32_t block[PENDING];
	uint8_t *bitmaps; /* PENDING of them, as they will be */
	uint32_t pending; /* of block and bitmaps */
	uint64_t bytes; /* of data since the last commit */
	uint64_t end; /* of the data, at the last commit */
	bool grown; /* the footer has to follow */
	bool named; /* the table may have blocks of a commit that failed */
	bool filled; /* the batmap has new bits */
};

/* Of the i-th block of this commit. */
static uint8_t *bitmap_of(struct bt_vhdwriter *w, uint32_t i)
{
	return w->bitmaps + i * (size_t)bt_vhd_bitmap_bytes(&w->img->blocks);
}

/* The whole BAT is read and kept: 4 bytes a block, at most 16 MiB. What is not
 * checked there was checked when the image was opened for writing. */
int bt_vhdwriter_create(struct bt_vhdimg *img, struct bt_vhdwriter **out,
			struct blktap_error **err)
{
	size_t table = (size_t)img->blocks.entries * 4;
	struct bt_vhdwriter *w = calloc(1, sizeof(*w));
	int rc = -ENOMEM;

	if (w) {
		w->img = img;
		w->end = img->data_end;
		w->page_count = (uint32_t)(table / BT_VHDIMG_PAGE + 1);
		w->bat = malloc(table + 1);
		w->pages = calloc(1, w->page_count / 8 + 1);
		w->bitmaps = malloc(PENDING *
				    (size_t)bt_vhd_bitmap_bytes(&img->blocks));
	}
	if (w && w->bat && w->pages && w->bitmaps)
		rc = bt_image_file_read(&img->f, img->blocks.table_offset,
					w->bat, table);
	if (rc < 0) {
		bt_vhdwriter_destroy(w);
		return bt_image_file_fail(img->f.path, rc, err);
	}
	*out = w;
	return 0;
}

/* Without a sync: the commit's covers it. */
static int write_footer(struct bt_vhdimg *img)
{
	return bt_image_file_write(&img->f, img->data_end, img->footer_bytes,
				   BT_VHD_FOOTER_SIZE);
}

/* What failed may have been for want of space. So the new blocks, which nothing
 * on disk names, go first: one of them lies where the footer was. Where the
 * second half of a commit may have written table entries (named), the file
 * stays as long as it is. */
static void drop_uncommitted(struct bt_vhdwriter *w)
{
	struct bt_vhdimg *img = w->img;

	if (!w->grown || img->f.is_device)
		return;
	if (!w->named && ftruncate(img->f.file.fd, (off_t)w->end) == 0)
		img->data_end = w->end;
	if (!write_footer(img))
		bt_image_file_sync(&img->f);
}

/* In the batmap are blocks of commits that have ended alone (note_full). */
void bt_vhdwriter_destroy(struct bt_vhdwriter *w)
{
	if (!w)
		return;
	drop_uncommitted(w);
	/* without them it is as good; a map that is half written does not check */
	if (w->filled && !bt_vhdtool_write_batmap(w->img))
		bt_image_file_sync(&w->img->f);
	free(w->bat);
	free(w->pages);
	free(w->bitmaps);
	free(w);
}

/* Committed or not: the block has its place. */
bool bt_vhdwriter_has(const struct bt_vhdwriter *w, uint32_t block)
{
	return bt_vhd_bat_load(w->bat, block) != BT_VHD_BAT_UNUSED;
}

/* ---- commits -------------------------------------------------------------- */

/* Over zeroes or older bits: whole bitmaps, in the image's order of bits. */
static int write_bitmaps(struct bt_vhdwriter *w)
{
	const struct bt_vhd_blocks *b = &w->img->blocks;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < w->pending && !rc; i++)
		rc = bt_image_file_write(&w->img->f,
					 bt_vhd_bitmap_offset(bt_vhd_bat_load(
						 w->bat, w->block[i])),
					 bitmap_of(w, i),
					 (size_t)bt_vhd_bitmap_bytes(b));
	return rc;
}

/* Only pages that changed. */
static int write_table(struct bt_vhdwriter *w)
{
	const struct bt_vhd_blocks *b = &w->img->blocks;
	uint64_t table = (uint64_t)b->entries * 4;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < w->page_count && !rc; i++) {
		uint64_t at = (uint64_t)i * BT_VHDIMG_PAGE;

		if (!bt_vhd_bit_test(w->pages, i))
			continue;
		rc = bt_image_file_write(
			&w->img->f, b->table_offset + at, w->bat + at,
			(size_t)bt_min_u64(BT_VHDIMG_PAGE, table - at));
	}
	if (!rc)
		memset(w->pages, 0, w->page_count / 8 + 1);
	return rc;
}

/* Blocks whose full bitmaps are on disk now. In memory; written at the end. */
static void note_full(struct bt_vhdwriter *w)
{
	struct bt_vhdimg *img = w->img;
	uint32_t i;

	for (i = 0; img->batmap && i < w->pending; i++) {
		if (bt_vhd_bit_test(img->batmap, w->block[i]) ||
		    !bt_vhd_bits_all(bitmap_of(w, i), 0, img->blocks.block_sec))
			continue;
		bt_vhd_bit_set(img->batmap, w->block[i]);
		w->filled = true;
	}
}

/* Nothing to do is no error. After one that failed the same blocks are still
 * pending, and may be tried again: each write goes to the place that it had. */
int bt_vhdwriter_commit(struct bt_vhdwriter *w)
{
	struct bt_vhdimg *img = w->img;
	int rc = 0;

	if (!w->pending && !w->bytes && !w->grown)
		return 0;
	if (w->grown && !img->f.is_device)
		rc = write_footer(img);
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (rc)
		return rc;
	w->grown = false;
	w->named = true;
	rc = write_bitmaps(w);
	if (!rc)
		rc = write_table(w);
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (rc)
		return rc;
	note_full(w);
	w->named = false;
	w->end = img->data_end;
	w->pending = 0;
	w->bytes = 0;
	return 0;
}

/* Bounds what an end by the user or a cut can lose, and the memory for
 * bitmaps. */
int bt_vhdwriter_pace(struct bt_vhdwriter *w, bool *did)
{
	*did = w->pending == PENDING || w->bytes >= PENDING_BYTES;
	return *did ? bt_vhdwriter_commit(w) : 0;
}

/* ---- blocks --------------------------------------------------------------- */

/* A block's zero bitmap is in the file before the commit's first sync, as the
 * driver has it. data_end moves when the write has worked, so a place is not
 * left empty by an error. */
static int append(struct bt_vhdwriter *w, uint32_t block)
{
	struct bt_vhdimg *img = w->img;
	const struct bt_vhd_blocks *b = &img->blocks;
	uint64_t at, end;
	uint32_t entry;
	int rc = bt_vhd_next_entry(b, img->data_end, &entry, NULL);

	if (rc < 0)
		return rc;
	at = bt_vhd_bitmap_offset(entry);
	end = at + bt_vhd_block_stride(b);
	if (end > img->limit)
		return -ENOSPC;
	w->grown = true;
	rc = bt_image_file_write(&img->f, at, bitmap_of(w, w->pending),
				 (size_t)bt_vhd_bitmap_bytes(b));
	if (rc < 0)
		return rc;
	img->data_end = end;
	bt_vhd_bat_store(w->bat, block, entry);
	bt_vhd_bit_set(w->pages, block / BT_VHDIMG_PAGE_ENTRIES);
	return 0;
}

/* Makes block the last one of this commit; tools go through an image in order,
 * so that no other place has to be looked for. A bitmap that is on disk is read
 * for each commit that changes it: between two commits nothing is kept of
 * it. */
static int begin(struct bt_vhdwriter *w, uint32_t block)
{
	const struct bt_vhd_blocks *b = &w->img->blocks;
	int rc = 0;

	if (w->pending && w->block[w->pending - 1] == block)
		return 0;
	if (w->pending == PENDING)
		rc = bt_vhdwriter_commit(w);
	if (rc < 0)
		return rc;
	if (bt_vhdwriter_has(w, block)) {
		rc = bt_image_file_read(
			&w->img->f,
			bt_vhd_bitmap_offset(bt_vhd_bat_load(w->bat, block)),
			bitmap_of(w, w->pending),
			(size_t)bt_vhd_bitmap_bytes(b));
	} else {
		memset(bitmap_of(w, w->pending), 0,
		       (size_t)bt_vhd_bitmap_bytes(b));
		rc = append(w, block);
	}
	if (!rc)
		w->block[w->pending++] = block;
	return rc;
}

int bt_vhdwriter_allocate(struct bt_vhdwriter *w, uint32_t block)
{
	return bt_vhdwriter_has(w, block) ? 0 : begin(w, block);
}

/* Within one block. Data goes straight to its place: no table says yet that it
 * is there. */
static int put_piece(struct bt_vhdwriter *w, uint32_t block, uint32_t first,
		     uint32_t count, const void *data)
{
	const struct bt_vhd_blocks *b = &w->img->blocks;
	size_t bytes = (size_t)count * BT_VHD_SECTOR;
	int rc = begin(w, block);

	if (!rc)
		rc = bt_image_file_write(
			&w->img->f,
			bt_vhd_data_offset(b, bt_vhd_bat_load(w->bat, block)) +
				(uint64_t)first * BT_VHD_SECTOR,
			data, bytes);
	if (rc < 0)
		return rc;
	bt_vhdimg_bits_put(w->img, bitmap_of(w, w->pending - 1), first, count,
			   true);
	w->bytes += bytes;
	return 0;
}

/* Cut by blocks of this image, whatever the caller's are. */
int bt_vhdwriter_put(struct bt_vhdwriter *w, uint64_t sector, uint32_t count,
		     const void *data)
{
	const struct bt_vhd_blocks *b = &w->img->blocks;
	const char *from = data;
	int rc = 0;

	while (count && !rc) {
		uint32_t block = (uint32_t)(sector / b->block_sec);
		uint32_t first = (uint32_t)(sector % b->block_sec);
		uint32_t n = (uint32_t)bt_min_u64(count, b->block_sec - first);

		rc = put_piece(w, block, first, n, from);
		from += (size_t)n * BT_VHD_SECTOR;
		sector += n;
		count -= n;
	}
	return rc;
}
