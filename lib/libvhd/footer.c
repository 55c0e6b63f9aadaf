/* SPDX-License-Identifier: BSD-3-Clause */
/* The footer, 512 bytes, all numbers big-endian, at the end of every VHD and
 * once more at offset 0 of those that have blocks:
 *
 *   0 cookie "conectix"   8 features   12 version   16 data_offset   24 timestamp
 *   28 creator_app   32 creator_version   36 creator_os   40 original_size
 *   48 current_size   56 geometry: cylinders, heads, sectors   60 type   64 checksum
 *   68 uuid   84 saved_state   85 hidden (blktap's)   86 reserved
 *
 * The cookie "v_poison" is the older blktap's, of an image in the middle of a
 * resize. */
#include <errno.h>
#include <string.h>

#include "libvhd/footer.h"
#include "libvhd/geometry.h"
#include "util/bytes.h"

enum {
	OFF_FEATURES = 8,
	OFF_VERSION = 12,
	OFF_DATA_OFFSET = 16,
	OFF_TIMESTAMP = 24,
	OFF_CREATOR_APP = 28,
	OFF_CREATOR_VERSION = 32,
	OFF_CREATOR_OS = 36,
	OFF_ORIGINAL_SIZE = 40,
	OFF_CURRENT_SIZE = 48,
	OFF_CYLINDERS = 56,
	OFF_HEADS = 58,
	OFF_SECTORS = 59,
	OFF_TYPE = 60,
	OFF_CHECKSUM = 64,
	OFF_UUID = 68,
	OFF_SAVED_STATE = 84,
	OFF_HIDDEN = 85,
	OFF_RESERVED = 86,
};

static const char cookie_good[8] = "conectix";
static const char cookie_poison[8] = "v_poison";

/* creator_app is four bytes, "tap" and a zero; the fourth is not looked at. */
static bool is_first_blktap(const struct bt_vhd_footer *f)
{
	return !memcmp(f->creator_app, "tap", 3);
}

/* The first td-util set "hidden" and left the checksum alone. Only where such a
 * program made the image is the sum taken without that byte; any other wrong
 * sum is damage. */
static bool checksum_without_hidden(const uint8_t *p,
				    const struct bt_vhd_footer *f,
				    uint32_t stored)
{
	uint8_t copy[BT_VHD_FOOTER_SIZE];

	if (!f->hidden || !is_first_blktap(f) ||
	    (f->creator_version != BT_VHD_VERSION(0, 1) &&
	     f->creator_version != BT_VHD_VERSION(1, 1)))
		return false;
	memcpy(copy, p, sizeof(copy));
	copy[OFF_HIDDEN] = 0;
	return bt_vhd_checksum(copy, sizeof(copy), OFF_CHECKSUM) == stored;
}

/* type stays a number until check has seen it. */
static void decode_fields(const uint8_t *p, struct bt_vhd_footer *f)
{
	f->features = bt_load_be32(p + OFF_FEATURES);
	f->version = bt_load_be32(p + OFF_VERSION);
	f->data_offset = bt_load_be64(p + OFF_DATA_OFFSET);
	f->timestamp = bt_load_be32(p + OFF_TIMESTAMP);
	memcpy(f->creator_app, p + OFF_CREATOR_APP, sizeof(f->creator_app));
	f->creator_version = bt_load_be32(p + OFF_CREATOR_VERSION);
	f->creator_os = bt_load_be32(p + OFF_CREATOR_OS);
	f->original_size = bt_load_be64(p + OFF_ORIGINAL_SIZE);
	f->current_size = bt_load_be64(p + OFF_CURRENT_SIZE);
	f->geometry.cylinders = bt_load_be16(p + OFF_CYLINDERS);
	f->geometry.heads = p[OFF_HEADS];
	f->geometry.sectors = p[OFF_SECTORS];
	f->type = bt_load_be32(p + OFF_TYPE);
	memcpy(f->uuid, p + OFF_UUID, sizeof(f->uuid));
	f->saved_state = p[OFF_SAVED_STATE];
	f->hidden = p[OFF_HIDDEN];
	memcpy(f->reserved, p + OFF_RESERVED, sizeof(f->reserved));
}

/* A footer of 511 bytes (old makers) is one whose last byte, of the reserved
 * ones, is 0. */
int bt_vhd_footer_decode(const void *buf, size_t len, struct bt_vhd_footer *f,
			 struct bt_fault *fault)
{
	uint8_t p[BT_VHD_FOOTER_SIZE] = { 0 };
	uint32_t stored;

	if (len < BT_VHD_FOOTER_LEGACY_SIZE)
		return bt_fault_set(fault, -EINVAL, "file size", len,
				    "too short for a VHD footer",
				    "check that this is a VHD");
	memcpy(p, buf, len < sizeof(p) ? len : sizeof(p));
	memset(f, 0, sizeof(*f));
	f->poisoned = !memcmp(p, cookie_poison, sizeof(cookie_poison));
	if (!f->poisoned && memcmp(p, cookie_good, sizeof(cookie_good)))
		return bt_fault_set(fault, -EINVAL, "cookie", bt_load_be64(p),
				    "there is no VHD footer here",
				    "check that this is a VHD");
	decode_fields(p, f);
	stored = bt_load_be32(p + OFF_CHECKSUM);
	if (bt_vhd_checksum(p, sizeof(p), OFF_CHECKSUM) != stored &&
	    !checksum_without_hidden(p, f, stored))
		return bt_fault_set(
			fault, -EINVAL, "checksum", stored,
			"the footer was damaged",
			"a good copy at the other end is used, if any");
	return 0;
}

/* Always 512 bytes, the checksum last. */
void bt_vhd_footer_encode(const struct bt_vhd_footer *f, void *buf)
{
	uint8_t *p = buf;

	memcpy(p, f->poisoned ? cookie_poison : cookie_good, 8);
	bt_store_be32(p + OFF_FEATURES, f->features);
	bt_store_be32(p + OFF_VERSION, f->version);
	bt_store_be64(p + OFF_DATA_OFFSET, f->data_offset);
	bt_store_be32(p + OFF_TIMESTAMP, f->timestamp);
	memcpy(p + OFF_CREATOR_APP, f->creator_app, sizeof(f->creator_app));
	bt_store_be32(p + OFF_CREATOR_VERSION, f->creator_version);
	bt_store_be32(p + OFF_CREATOR_OS, f->creator_os);
	bt_store_be64(p + OFF_ORIGINAL_SIZE, f->original_size);
	bt_store_be64(p + OFF_CURRENT_SIZE, f->current_size);
	bt_store_be16(p + OFF_CYLINDERS, f->geometry.cylinders);
	p[OFF_HEADS] = f->geometry.heads;
	p[OFF_SECTORS] = f->geometry.sectors;
	bt_store_be32(p + OFF_TYPE, f->type);
	memcpy(p + OFF_UUID, f->uuid, sizeof(f->uuid));
	p[OFF_SAVED_STATE] = f->saved_state;
	p[OFF_HIDDEN] = f->hidden;
	memcpy(p + OFF_RESERVED, f->reserved, sizeof(f->reserved));
	bt_store_be32(p + OFF_CHECKSUM,
		      bt_vhd_checksum(p, BT_VHD_FOOTER_SIZE, OFF_CHECKSUM));
}

/* current_size is bytes, a multiple of a sector. */
static int check_size(const struct bt_vhd_footer *f, struct bt_fault *fault)
{
	if (f->current_size == 0)
		return bt_fault_set(fault, -EINVAL, "current_size", 0,
				    "a disk cannot be empty", NULL);
	if (f->current_size % BT_VHD_SECTOR)
		return bt_fault_set(fault, -EINVAL, "current_size",
				    f->current_size, "not in whole sectors",
				    NULL);
	if (f->current_size > BT_VHD_SIZE_MAX)
		return bt_fault_set(fault, -EFBIG, "current_size",
				    f->current_size,
				    "a VHD holds at most 2040 GiB",
				    "resize it, or copy it to qcow2");
	return 0;
}

static int check_data_offset(const struct bt_vhd_footer *f,
			     struct bt_fault *fault)
{
	/* Nothing of a fixed disk is found through it. */
	if (!bt_vhd_type_has_blocks(f->type))
		return 0;
	if (f->data_offset < BT_VHD_FOOTER_SIZE ||
	    f->data_offset > INT64_MAX - BT_VHD_HEADER_SIZE)
		return bt_fault_set(fault, -EINVAL, "data_offset",
				    f->data_offset,
				    "no header can be at this offset", NULL);
	if (f->data_offset % BT_VHD_SECTOR)
		return bt_fault_set(fault, -EINVAL, "data_offset",
				    f->data_offset, "not on a sector", NULL);
	return 0;
}

/* The minor version says nothing that would matter to a reader. */
int bt_vhd_footer_check_poisoned(const struct bt_vhd_footer *f,
				 struct bt_fault *fault)
{
	int err;

	if (f->version >> 16 != 1)
		return bt_fault_set(fault, -ENOTSUP, "file_format_version",
				    f->version, "only version 1 is known",
				    NULL);
	if (f->type != BT_VHD_FIXED && !bt_vhd_type_has_blocks(f->type))
		return bt_fault_set(fault, -ENOTSUP, "disk_type", f->type,
				    "neither fixed, dynamic nor differencing",
				    NULL);
	err = check_size(f, fault);
	if (!err)
		err = check_data_offset(f, fault);
	return err;
}

/* Who opens an image to use it calls this one: in the middle of a resize its
 * tables may be half old and half new, and only the journal knows which. */
int bt_vhd_footer_check(const struct bt_vhd_footer *f, struct bt_fault *fault)
{
	if (f->poisoned)
		return bt_fault_set(fault, -EUCLEAN, "cookie", 0,
				    "a resize of this VHD was interrupted",
				    "run vhd-util revert with its journal");
	return bt_vhd_footer_check_poisoned(f, fault);
}

/* Version 1.3 of "tap" says that there is a batmap (bt_vhd_batmap_presence) and
 * that bitmaps have their highest bit first. */
void bt_vhd_footer_init(struct bt_vhd_footer *f, enum bt_vhd_type type,
			uint64_t size, uint32_t timestamp,
			const uint8_t uuid[BT_VHD_UUID_SIZE])
{
	memset(f, 0, sizeof(*f));
	f->features = BT_VHD_FEATURE_RESERVED;
	f->version = BT_VHD_VERSION(1, 0);
	f->data_offset =
		type == BT_VHD_FIXED ? BT_VHD_NO_OFFSET : BT_VHD_FOOTER_SIZE;
	f->timestamp = timestamp;
	memcpy(f->creator_app, "tap", 4);
	f->creator_version = BT_VHD_VERSION(1, 3);
	f->type = type;
	f->original_size = size;
	bt_vhd_footer_set_size(f, size);
	memcpy(f->uuid, uuid, sizeof(f->uuid));
}

/* The two change together, as there are makers who take the size of a disk from
 * its geometry (geometry.c). */
void bt_vhd_footer_set_size(struct bt_vhd_footer *f, uint64_t size)
{
	f->current_size = size;
	f->geometry = bt_vhd_geometry_for(size / BT_VHD_SECTOR);
}

/* Bitmaps of such an image have their lowest bit first. That is known by its
 * maker alone: nothing in a bitmap tells. */
bool bt_vhd_footer_old_bits(const struct bt_vhd_footer *f)
{
	return is_first_blktap(f) && f->creator_version == BT_VHD_VERSION(0, 1);
}

/* What lies between the disk's end and the footer is nobody's. */
int bt_vhd_fixed_check(const struct bt_vhd_footer *f, uint64_t footer_offset,
		       struct bt_fault *fault)
{
	if (f->current_size > footer_offset)
		return bt_fault_set(fault, -EINVAL, "current_size",
				    f->current_size,
				    "the file is shorter than the disk",
				    "get a complete copy of the file");
	return 0;
}
