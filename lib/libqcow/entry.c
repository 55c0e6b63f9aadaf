/* SPDX-License-Identifier: BSD-3-Clause */
/* Entries of versions 2 and 3:   63 copied, 62 compressed, 55..9 offset, and
 * in an L2 entry of version 3    0 reads as zeros; all other bits reserved.
 * Entries of version 1:          63 compressed, else the offset alone.
 * A compressed entry: flags, then size, then the offset in the low bits. The
 * size is bytes in version 1; in 2 and 3 it is 512-byte sectors beyond the one
 * the stream starts in.
 *
 * The rules are those of QEMU's docs/interop/qcow2.txt for versions 2 and 3;
 * version 1 has no text, and is what its writers (QEMU, Xen) make. */
#include "libqcow/entry.h"

#include <errno.h>
#include <string.h>

#include "util/checked.h"

#define COPIED (UINT64_C(1) << 63)
#define V1_COMPRESSED (UINT64_C(1) << 63)
#define V2_COMPRESSED (UINT64_C(1) << 62)
#define ZERO UINT64_C(1)
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define CHECK "run a check of the image"

/* One kind of error for all: the entry is the image's fault, and its value is
 * told whole. */
static int bad(struct bt_fault *fault, const char *field, uint64_t entry,
	       const char *reason)
{
	return bt_fault_set(fault, -EIO, field, entry, reason, CHECK);
}

/* must: how many bytes have to be in the file; touch: how many may be used.
 * They differ for data, whose last cluster the end of the file may cut; a table
 * is read whole, so all of it must be there. */
static int check_place(const struct bt_qcow_geometry *geo, const char *field,
		       uint64_t offset, uint64_t must, uint64_t touch,
		       uint64_t file_bytes, struct bt_fault *fault)
{
	if (offset & (geo->entry_align - 1))
		return bad(fault, field, offset, "not aligned");
	if (!bt_range_within(offset, must, file_bytes))
		return bad(fault, field, offset, "past the end of the file");
	if (bt_qcow_region_hit(geo, offset, touch))
		return bad(fault, field, offset,
			   "points into the header or a fixed table");
	return 0;
}

/* Version 1 has 64 bits of offset and no flags, so there reserved bits show as
 * a place that is not in the file. */
int bt_qcow_l1_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
		      uint64_t file_bytes, struct bt_qcow_l1 *out,
		      struct bt_fault *fault)
{
	out->offset = 0;
	out->copied = false;
	if (geo->version > 1) {
		if (entry & ~(OFFSET_MASK | COPIED))
			return bad(fault, "L1 entry", entry,
				   "reserved bits are set");
		out->copied = entry & COPIED;
		entry &= OFFSET_MASK;
	}
	if (!entry)
		return 0;
	out->offset = entry;
	return check_place(geo, "L1 entry", entry, geo->l2_bytes, geo->l2_bytes,
			   file_bytes, fault);
}

/* 0 stays 0: "copied" without a cluster is an entry that decode refuses. */
uint64_t bt_qcow_l1_encode(const struct bt_qcow_geometry *geo, uint64_t offset,
			   bool copied)
{
	return offset | (geo->version > 1 && offset && copied ? COPIED : 0);
}

/* Streams begin at any byte, so there is no alignment to check. What is
 * returned as bytes is what may be read: in versions 2 and 3 up to the end of
 * the stream's last sector, cut at the file's end. */
static int decode_compressed(const struct bt_qcow_geometry *geo, uint64_t entry,
			     uint64_t file_bytes, struct bt_qcow_mapping *out,
			     struct bt_fault *fault)
{
	uint64_t offset = entry & geo->coffset_mask;
	uint64_t n = (entry >> geo->csize_shift) & geo->csize_mask;
	uint64_t bytes = n;

	if (geo->version > 1)
		bytes = (n + 1) * 512 - (offset & 511);
	if (offset >= file_bytes)
		return bad(fault, "compressed L2 entry", entry,
			   "past the end of the file");
	/* The last sector may be cut: writers do not pad the file. In version
	 * 1 the size is exact, so there a cut stream is damage. */
	if (bytes > file_bytes - offset && geo->version == 1)
		return bad(fault, "compressed L2 entry", entry,
			   "ends past the end of the file");
	bytes = bt_min_u64(bytes, file_bytes - offset);
	if (!bytes)
		return bad(fault, "compressed L2 entry", entry, "has no bytes");
	if (bt_qcow_region_hit(geo, offset, bytes))
		return bad(fault, "compressed L2 entry", entry,
			   "points into the header or a fixed table");
	out->kind = BT_QCOW_COMPRESSED;
	out->offset = offset;
	out->bytes = (uint32_t)bytes;
	return 0;
}

/* A stream has no copied bit since it may share its clusters with others. A
 * zero entry is a plain entry with bit 0 set; in version 2 that bit is
 * reserved. */
static int decode_v2(const struct bt_qcow_geometry *geo, uint64_t entry,
		     uint64_t file_bytes, struct bt_qcow_mapping *out,
		     struct bt_fault *fault)
{
	uint64_t offset = entry & OFFSET_MASK;
	uint64_t known = OFFSET_MASK | COPIED | (geo->version > 2 ? ZERO : 0);

	if (entry & V2_COMPRESSED) {
		if (entry & COPIED)
			return bad(fault, "compressed L2 entry", entry,
				   "has the copied bit set");
		return decode_compressed(geo, entry, file_bytes, out, fault);
	}
	if (entry & ~known)
		return bad(fault, "L2 entry", entry, "reserved bits are set");
	if (entry & ZERO) {
		out->kind = BT_QCOW_ZERO;
		/* A cluster kept for later need not be in the file yet, but
		 * nobody is to write where an entry alone says so. */
		if (!offset || offset >= file_bytes)
			return 0;
	} else if (offset) {
		out->kind = BT_QCOW_DATA;
	} else {
		return entry & COPIED ? bad(fault, "L2 entry", entry,
					    "copied bit without a cluster")
				      : 0;
	}
	out->copied = entry & COPIED;
	out->offset = offset;
	out->bytes = geo->cluster_bytes;
	return check_place(geo, "L2 entry", offset, 1, geo->cluster_bytes,
			   file_bytes, fault);
}

/* What is in out counts only where this returns 0. */
int bt_qcow_l2_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
		      uint64_t file_bytes, struct bt_qcow_mapping *out,
		      struct bt_fault *fault)
{
	memset(out, 0, sizeof(*out));
	if (!entry)
		return 0;
	if (geo->version > 1)
		return decode_v2(geo, entry, file_bytes, out, fault);
	if (entry & V1_COMPRESSED)
		return decode_compressed(geo, entry, file_bytes, out, fault);
	out->kind = BT_QCOW_DATA;
	out->offset = entry;
	out->bytes = geo->cluster_bytes;
	/* No extra copy is ever shared in version 1. */
	out->copied = true;
	return check_place(geo, "L2 entry", entry, 1, geo->cluster_bytes,
			   file_bytes, fault);
}

/* As in the L1 table: an offset, and the copied bit beside it. */
uint64_t bt_qcow_l2_encode_data(const struct bt_qcow_geometry *geo,
				uint64_t offset, bool copied)
{
	return bt_qcow_l1_encode(geo, offset, copied);
}

/* The cluster that it keeps is not read, but is the disk's to write. */
int bt_qcow_l2_encode_zero(const struct bt_qcow_geometry *geo, uint64_t offset,
			   bool copied, uint64_t *entry)
{
	if (geo->version < 3)
		return -ENOTSUP;
	*entry = bt_qcow_l1_encode(geo, offset, copied) | ZERO;
	return 0;
}

/* A stream at offset 0 cannot be: the header is there, and 0 would say
 * "nothing". */
int bt_qcow_l2_encode_compressed(const struct bt_qcow_geometry *geo,
				 uint64_t offset, uint32_t bytes,
				 uint64_t *entry)
{
	uint64_t n = bytes;

	if (!bytes || !offset || offset > geo->coffset_mask)
		return -ERANGE;
	/* Sectors touched, less the first. */
	if (geo->version > 1)
		n = ((offset & 511) + bytes - 1) / 512;
	if (n > geo->csize_mask)
		return -ERANGE;
	*entry = offset | n << geo->csize_shift |
		 (geo->version > 1 ? V2_COMPRESSED : V1_COMPRESSED);
	return 0;
}
