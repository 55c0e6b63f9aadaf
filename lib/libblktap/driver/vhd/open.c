/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening: which footer, the header, what the metadata takes; for writing also
 * every entry of the BAT. A read-only opening writes nothing.
 *
 *   file -> footer -> header -> batmap -> regions -> maps -> (writable) BAT, footers
 *        -> cache -> key
 *
 * Until the line "(writable)" nothing has been written. What the footer says
 * decides all else, and it is the guest's to forge where the true one is lost:
 * libvhd/pick.c. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "libvhd/geometry.h"
#include "port/args.h"

/* Rough size of what the cache keeps of a block, beside its bytes. */
#define BLOCK_OVERHEAD 256u
#define CACHE_SPARE 16u /* blocks beyond those the image has */

/* The codec's faults name a field; here they get the file's name. */
int bt_vhdimg_fault(const char *path, int rc, const struct bt_fault *fault,
		    struct blktap_error **err)
{
	const char *hint = fault->hint;

	if (!hint)
		hint = rc == -ENOTSUP ? "copy it with the program that made it"
				      : "take it from a backup: it is damaged";
	return bt_fail(err, rc, hint, "%s: %s is %" PRIu64 ": %s", path,
		       fault->field, fault->value, fault->reason);
}

/* Both ends of the file, read once each. A file that is shorter than a sector
 * has less of both. */
static int pick_footer(struct bt_vhdimg *img,
		       struct bt_vhd_footer_choice *choice,
		       struct blktap_error **err)
{
	uint8_t head[BT_VHD_PICK_HEAD], tail[BT_VHD_PICK_TAIL];
	uint64_t size = img->f.size;
	size_t tail_len = (size_t)bt_min_u64(size, sizeof(tail));
	struct bt_fault fault = { 0 };
	int rc = bt_image_file_read(&img->f, 0, head, sizeof(head));

	if (!rc)
		rc = bt_image_file_read(&img->f, size - tail_len, tail,
					tail_len);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	rc = bt_vhd_footer_pick(head, (size_t)bt_min_u64(size, sizeof(head)),
				tail, tail_len, size, &img->footer, choice,
				&fault);
	if (!rc)
		rc = bt_vhd_footer_check(&img->footer, &fault);
	return rc ? bt_vhdimg_fault(img->f.path, rc, &fault, err) : 0;
}

/* Without its footer nobody can tell a fixed disk from a raw one. data_end is
 * where the footer is, and may lie behind current_size. */
static int open_fixed(struct bt_vhdimg *img,
		      const struct bt_vhd_footer_choice *choice,
		      struct blktap_error **err)
{
	struct bt_fault fault = { 0 };
	int rc = bt_vhd_fixed_check(&img->footer, choice->offset, &fault);

	img->fixed = true;
	img->data_end = choice->offset;
	return rc ? bt_vhdimg_fault(img->f.path, rc, &fault, err) : 0;
}

/* A tool that gives an image another parent opens it though its locators are
 * bad (any_parent). */
static int load_header(struct bt_vhdimg *img, struct blktap_error **err)
{
	uint8_t bytes[BT_VHD_HEADER_SIZE];
	struct bt_fault fault = { 0 };
	uint64_t offset = img->footer.data_offset;
	int rc;

	if (!bt_range_within(offset, sizeof(bytes), img->f.size))
		return bt_fail(err, -EINVAL, "get a complete copy of the file",
			       "%s: data offset is %" PRIu64
			       ": the header lies past the end of the file",
			       img->f.path, offset);
	rc = bt_image_file_read(&img->f, offset, bytes, sizeof(bytes));
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	rc = bt_vhd_header_decode(bytes, sizeof(bytes), &img->header, &fault);
	if (!rc && img->any_parent)
		rc = bt_vhd_header_check_table(&img->header, &img->footer,
					       img->f.size, &fault);
	else if (!rc)
		rc = bt_vhd_header_check(&img->header, &img->footer,
					 img->f.size, &fault);
	return rc ? bt_vhdimg_fault(img->f.path, rc, &fault, err) : 0;
}

/* 2^20 blocks at the most, whatever an image says of itself. */
static uint32_t at_most(uint64_t a, uint64_t b)
{
	return (uint32_t)bt_min_u64(bt_min_u64(a, b), 1u << 20);
}

/* A quarter of the memory for the BAT, the rest for bitmaps; no more than the
 * image can use. Every block has a copy for commits. */
static int make_cache(struct bt_vhdimg *img, struct blktap_error **err)
{
	uint32_t needed = bt_vhd_blocks_needed(&img->blocks);
	uint32_t bitmap = (uint32_t)bt_vhd_bitmap_bytes(&img->blocks);
	struct bt_meta_kind kinds[BT_VHDIMG_KINDS] = {
		[BT_VHDIMG_BITMAP] = {
			.block_size = bitmap,
			.block_count = at_most(
				img->cache / 4 * 3 /
					(2 * bitmap + BLOCK_OVERHEAD),
				(uint64_t)needed + CACHE_SPARE),
			.rank = BT_VHDIMG_RANK,
		},
		[BT_VHDIMG_BAT] = {
			.block_size = BT_VHDIMG_PAGE,
			.block_count = at_most(
				img->cache / 4 /
					(2 * BT_VHDIMG_PAGE + BLOCK_OVERHEAD),
				needed / BT_VHDIMG_PAGE_ENTRIES + 4),
			.rank = BT_VHDIMG_RANK,
		},
	};
	int rc = bt_meta_create(img->node->env->loop, &img->f.file, kinds,
				BT_VHDIMG_KINDS, &img->meta);

	return rc < 0 ? bt_fail(err, rc,
				"give it a smaller cache=", "%s: out of memory",
				img->f.path)
		      : 0;
}

/* full begins as the batmap, which is believed where it checked; other blocks
 * are found to be full when their bitmaps are read. footer_bytes is aligned for
 * O_DIRECT. */
static int make_maps(struct bt_vhdimg *img, struct blktap_error **err)
{
	size_t bytes = ((size_t)img->blocks.entries + 7) / 8;

	img->full = calloc(1, bytes);
	if (!img->full || posix_memalign(&img->footer_bytes, 4096, 4096))
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       img->f.path);
	if (img->batmap)
		memcpy(img->full, img->batmap, bytes);
	memset(img->footer_bytes, 0, 4096);
	bt_vhd_footer_encode(&img->footer, img->footer_bytes);
	return 0;
}

/* The footer that was lost, in space that the file has: behind the last block, over
 * what no table names. */
static int footer_nearer(struct bt_vhdimg *img, uint64_t end)
{
	off_t size = (off_t)(end + BT_VHD_FOOTER_SIZE);
	int rc = bt_image_file_write(&img->f, end, img->footer_bytes,
				     BT_VHD_FOOTER_SIZE);

	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc && ftruncate(img->f.file.fd, size) < 0)
		rc = -errno;
	if (!rc)
		img->data_end = end;
	return rc;
}

/* Blocks end at `end`. Where there is no space even for a footer, the copy at offset
 * 0 goes on standing for it, as it has done, until a flush finds space. */
static int put_lost_footer(struct bt_vhdimg *img, uint64_t end)
{
	int rc = bt_image_file_write(&img->f, img->data_end, img->footer_bytes,
				     BT_VHD_FOOTER_SIZE);

	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!bt_vhdimg_is_no_space(rc))
		return rc;
	if (end < img->data_end)
		rc = footer_nearer(img, end);
	if (!bt_vhdimg_is_no_space(rc))
		return rc;
	img->footer_lost = true;
	img->footer_error = rc;
	bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: there is no space for the footer at its end; the copy at "
	       "its start serves",
	       img->f.path);
	return 0;
}

/* Both copies, where they were not the same: the one at offset 0 has to be
 * there before anything is appended. The end first: until it is whole and
 * synced, the copy at 0 is the only good one, where the end was lost. With both
 * whole the end is believed. */
static int repair_footers(struct bt_vhdimg *img,
			  const struct bt_vhd_footer_choice *choice,
			  uint64_t end, struct blktap_error **err)
{
	bool lost = choice->place == BT_VHD_FOOTER_COPY;
	int rc;

	if (!choice->differ && !lost)
		return 0;
	bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: was not closed; its footer is written anew", img->f.path);
	if (lost && !img->f.is_device) {
		rc = put_lost_footer(img, end);
	} else {
		rc = bt_image_file_write(
			&img->f, img->f.is_device ? img->limit : img->data_end,
			img->footer_bytes, BT_VHD_FOOTER_SIZE);
		if (!rc)
			rc = bt_image_file_sync(&img->f);
	}
	if (!rc)
		rc = bt_image_file_write(&img->f, 0, img->footer_bytes,
					 BT_VHD_FOOTER_SIZE);
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* Where blocks must have ended. Behind a footer that is lost there may be half
 * a block that no table names. A file of the older blktap that was killed ends
 * with a sector of 0xc7 in the footer's place, and a device's footer is always
 * its last sector. */
static uint64_t find_end(const struct bt_vhdimg *img,
			 const struct bt_vhd_footer_choice *choice)
{
	uint64_t size =
		bt_align_down(img->f.size + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);

	if (choice->place != BT_VHD_FOOTER_COPY)
		return choice->offset;
	if (choice->killed || img->f.is_device)
		return bt_align_down(img->f.size, BT_VHD_SECTOR) -
		       BT_VHD_FOOTER_SIZE;
	return size;
}

/* New blocks go behind the last one on a device, whose footer stays at its end;
 * in a file they go where the footer is. Overlaps are looked for as well: two
 * blocks in one place would each change the other's data. */
static int prepare_writing(struct bt_vhdimg *img,
			   const struct bt_vhd_footer_choice *choice,
			   struct blktap_error **err)
{
	uint64_t end;
	int rc = bt_vhdimg_check_bat(img, img->data_end, true, &end, err);

	if (rc < 0)
		return rc;
	end = bt_align_down(bt_max_u64(end, img->blocks.metadata_end) +
				    BT_VHD_SECTOR - 1,
			    BT_VHD_SECTOR);
	if (img->f.is_device) {
		img->limit = img->data_end;
		img->data_end = end;
	} else {
		img->limit = UINT64_MAX;
	}
	return repair_footers(img, choice, end, err);
}

/* The batmap's place is metadata which no block may lie over, so it is known
 * before the regions are. */
static int open_blocks(struct bt_vhdimg *img,
		       const struct bt_vhd_footer_choice *choice,
		       struct blktap_error **err)
{
	struct bt_vhd_batmap batmap;
	struct bt_fault fault = { 0 };
	bool have_batmap;
	int rc = load_header(img, err);

	if (rc < 0)
		return rc;
	img->differencing = img->footer.type == BT_VHD_DIFFERENCING;
	img->old_bits = bt_vhd_footer_old_bits(&img->footer);
	img->data_end = find_end(img, choice);
	rc = bt_vhdimg_load_batmap(img, &batmap, &have_batmap, err);
	if (rc < 0)
		return rc;
	rc = bt_vhd_blocks_init(&img->blocks, &img->footer, &img->header,
				have_batmap ? &batmap : NULL, &fault);
	if (rc < 0)
		return bt_vhdimg_fault(img->f.path, rc, &fault, err);
	rc = make_maps(img, err);
	if (!rc && !img->read_only)
		rc = prepare_writing(img, choice, err);
	return rc ? rc : make_cache(img, err);
}

static void init_lists(struct bt_vhdimg *img)
{
	bt_list_init(&img->grow);
	bt_list_init(&img->to_grow);
}

/* A child's parent is not opened here: image/open.c asks for it (get_parent)
 * and links it. */
int bt_vhdimg_open(struct bt_node *node, const struct bt_args *args,
		   uint32_t flags, struct blktap_error **err)
{
	struct bt_vhdimg *img = node->data;
	struct bt_vhd_footer_choice *choice = &img->choice;
	int rc = bt_image_file_open(&img->f, node, bt_args_string(args, "path"),
				    flags, bt_args_bool(args, "ro"), err);

	if (rc < 0)
		return rc;
	img->node = node;
	img->read_only = img->f.read_only;
	img->cache = bt_args_number(args, "cache");
	init_lists(img);
	if (img->f.file.offset_align > BT_VHD_SECTOR)
		rc = bt_image_file_drop_direct(&img->f, err);
	if (!rc)
		rc = pick_footer(img, choice, err);
	if (!rc)
		rc = img->footer.type == BT_VHD_FIXED
			     ? open_fixed(img, choice, err)
			     : open_blocks(img, choice, err);
	if (!rc)
		rc = bt_vhdimg_open_cipher(img, args, flags, err);
	if (rc < 0) {
		bt_vhdimg_close(node);
		return rc;
	}
	img->f.file.eof_ok = !img->fixed;
	img->size = bt_vhd_virtual_size(&img->footer, NULL);
	return 0;
}

static bool is_idle(void *opaque)
{
	return bt_meta_is_idle(opaque);
}

/* A commit that nobody waits for may still run, where the cache was short.
 * Commit, batmap, footer, in this order: the batmap may say "full" only of
 * bitmaps that are on disk. Also of an open that failed anywhere. */
void bt_vhdimg_close(struct bt_node *node)
{
	struct bt_vhdimg *img = node->data;

	if (img->meta && !bt_meta_is_idle(img->meta))
		bt_loop_run_until(node->env->loop, is_idle, img->meta, -1);
	bt_vhdimg_save_batmap(img);
	bt_vhdimg_close_end(img);
	bt_meta_destroy(img->meta);
	bt_vhdimg_close_cipher(img);
	bt_image_file_close(&img->f);
	free(img->full);
	free(img->batmap);
	free(img->footer_bytes);
}
