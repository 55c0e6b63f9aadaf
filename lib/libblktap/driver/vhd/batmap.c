/* SPDX-License-Identifier: BSD-3-Clause */
/* The batmap: a bit a block whose every sector is here, so that its bitmap need not
 * be read. It may say too little, never too much.
 *
 * New bits are written at closing, when all bitmaps are on disk, with the checksum
 * in the batmap's header. A cut between the two leaves a checksum that is wrong:
 * such a map is believed by nobody, and the next writer begins it anew. What the
 * disk holds does not depend on it.
 *
 * A block that has its bit on disk keeps a full bitmap: discards and zeroes change
 * its data alone (write.c), so no bit is ever to be taken back.
 *
 * On disk: a header of 512 bytes behind the BAT, which has the map's place, its
 * length in sectors and its checksum; the map, bit 0 the highest bit of byte 0.
 * Format of the older blktap, libvhd/batmap.h. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"

#define BATMAP_MAX_SEC 4096u /* 2 MiB of memory */

/* ---- reading -------------------------------------------------------------- */

/* A map that does not check is none for a reader; a writer begins a new one of
 * zeroes, which is true of any image. The bound is above what
 * bt_vhd_batmap_check lets pass. */
static int read_map(struct bt_vhdimg *img, const struct bt_vhd_batmap *batmap,
		    struct bt_fault *fault)
{
	size_t len = (size_t)batmap->size_sec * BT_VHD_SECTOR;
	int rc;

	if (batmap->size_sec > BATMAP_MAX_SEC)
		return bt_fault_set(fault, -EINVAL, "batmap size",
				    batmap->size_sec, "too large", NULL);
	img->batmap = malloc(len);
	if (!img->batmap)
		return -ENOMEM;
	img->batmap_sec = batmap->size_sec;
	rc = bt_image_file_read(&img->f, batmap->offset, img->batmap, len);
	if (!rc)
		rc = bt_vhd_batmap_check_map(batmap, img->batmap, len, fault);
	if (rc == -EINVAL && !img->read_only) {
		memset(img->batmap, 0, len);
		img->batmap_lost = true;
	} else if (rc < 0) {
		free(img->batmap);
		img->batmap = NULL;
	}
	return rc;
}

/* To write is to have blocks, or new tables, put where the map is not known to be,
 * and the hash of the key with it; without that, ciphertext is taken for data. */
static int guard_key(const struct bt_vhdimg *img, int rc,
		     const struct bt_fault *fault, struct blktap_error **err)
{
	if (!img->keyhash.cookie || img->read_only || img->batmap)
		return 0;
	return bt_fail(
		err, rc,
		"copy it, with its key: vhd-util copy reads it as it is",
		"%s: is encrypted, and the batmap, which has the hash of "
		"its key, cannot be believed: %s",
		img->f.path, fault->reason);
}

/* Of an image that is not encrypted only -ENOMEM and a header that cannot be read end
 * the open: there the batmap is a help and no more. Its place is metadata (have) even
 * where the map is not believed. */
int bt_vhdimg_load_batmap(struct bt_vhdimg *img, struct bt_vhd_batmap *batmap,
			  bool *have, struct blktap_error **err)
{
	enum bt_vhd_batmap_presence presence =
		bt_vhd_batmap_presence(&img->footer);
	uint64_t at = bt_vhd_batmap_header_offset(&img->header);
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];
	struct bt_fault fault = { .reason = "it cannot be read" };
	int rc;

	*have = false;
	if (presence == BT_VHD_BATMAP_NONE ||
	    !bt_range_within(at, sizeof(bytes), img->f.size))
		return 0;
	rc = bt_image_file_read(&img->f, at, bytes, sizeof(bytes));
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	rc = bt_vhd_batmap_decode(bytes, sizeof(bytes), batmap, &fault);
	if (!rc)
		img->keyhash = batmap->keyhash;
	if (!rc)
		rc = bt_vhd_batmap_check(batmap, &img->header, img->f.size,
					 &fault);
	*have = !rc;
	if (!rc)
		rc = read_map(img, batmap, &fault);
	if (rc == -ENOMEM)
		return bt_fail(err, rc, NULL, "%s: out of memory", img->f.path);
	if (rc < 0 && (*have || presence == BT_VHD_BATMAP_EXPECTED))
		bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: the batmap is left aside: %s", img->f.path,
		       fault.reason);
	return guard_key(img, rc, &fault, err);
}

/* ---- writing -------------------------------------------------------------- */

/* img->batmap, with its checksum, to its place. Map first, then the header:
 * until the header's checksum is there, the old one says that the map is not to
 * be believed. The header's other fields (marker, hash of the key) are kept. */
static int write_map(struct bt_vhdimg *img)
{
	uint64_t at = bt_vhd_batmap_header_offset(&img->header);
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];
	struct bt_vhd_batmap batmap;
	size_t len;
	int rc = bt_image_file_read(&img->f, at, bytes, sizeof(bytes));

	if (!rc)
		rc = bt_vhd_batmap_decode(bytes, sizeof(bytes), &batmap, NULL);
	if (!rc && batmap.size_sec != img->batmap_sec)
		rc = -EIO; /* it is not the one that was read */
	if (rc < 0)
		return rc;
	len = (size_t)img->batmap_sec * BT_VHD_SECTOR;
	batmap.checksum = bt_vhd_checksum(img->batmap, len, len);
	bt_vhd_batmap_encode(&batmap, bytes);
	rc = bt_image_file_write(&img->f, batmap.offset, img->batmap, len);
	if (!rc)
		rc = bt_image_file_write(&img->f, at, bytes, sizeof(bytes));
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* A bit for a block that is not there would turn the first sector written to
 * it into a whole block of garbage. */
int bt_vhdimg_drop_batmap(struct bt_vhdimg *img, struct blktap_error **err)
{
	size_t bytes = ((size_t)img->blocks.entries + 7) / 8;
	int rc;

	memset(img->batmap, 0, bytes);
	memset(img->full, 0, bytes);
	rc = write_map(img);
	return rc < 0 ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* An error costs nothing but time: readers look at the bitmaps. Not after a
 * flush that failed, when nobody knows which bitmaps are on disk. */
void bt_vhdimg_save_batmap(struct bt_vhdimg *img)
{
	size_t bytes = ((size_t)img->blocks.entries + 7) / 8, i;
	bool changed = img->batmap_lost;
	int rc;

	/* full is of what is in memory: it must be on disk, too; tools write
	 * their bits themselves */
	if (img->as_stored || img->read_only || !img->batmap || !img->meta ||
	    img->flush_error || bt_meta_is_dirty(img->meta))
		return;
	for (i = 0; i < bytes; i++) {
		changed |= (img->full[i] & ~img->batmap[i]) != 0;
		img->batmap[i] |= img->full[i];
	}
	rc = changed ? write_map(img) : 0;
	if (rc < 0)
		bt_log(img->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: the batmap could not be written; it is not needed",
		       img->f.path);
}
