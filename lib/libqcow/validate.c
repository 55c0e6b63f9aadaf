/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of the header, one small function for each group of fields. Order
 * matters: cluster_bits and l2_bits are settled before anything is shifted by
 * them, the size before a table is sized by it. */
#include "libqcow/header.h"

#include <errno.h>

#include "util/checked.h"

#define DAMAGED "the header is damaged; restore a copy of the image"
#define CUT "the file was cut short; restore a copy"
#define CONVERT "convert it with qemu-img convert -O qcow2"

/* First of all: every later check shifts by these, and a shift by more than
 * the width of a number is undefined. */
static int check_bits(const struct bt_qcow_header *h, struct bt_fault *fault)
{
	uint32_t most = h->version == 1 ? 16 : 21;

	if (h->cluster_bits < 9 || h->cluster_bits > most)
		return bt_fault_set(
			fault, -EINVAL, "cluster_bits", h->cluster_bits,
			h->version == 1 ? "must be 9 to 16" : "must be 9 to 21",
			DAMAGED);
	/* An L2 table is at least one sector and at most 64 KiB. */
	if (h->version == 1 && (h->l2_bits < 6 || h->l2_bits > 13))
		return bt_fault_set(fault, -EINVAL, "l2_bits", h->l2_bits,
				    "must be 6 to 13", DAMAGED);
	return 0;
}

/* The L1 table covers the size, so a limit on the table is one on the size.
 * Counted by shifting, as rounding up first could wrap. INT64_MAX since offsets
 * of files are signed. Two bytes are the least that QEMU's version 1 takes. */
static int check_size(const struct bt_qcow_header *h, uint64_t *l1_entries,
		      struct bt_fault *fault)
{
	uint32_t shift = h->cluster_bits + h->l2_bits;
	uint64_t span = UINT64_C(1) << shift;

	if (h->size > INT64_MAX)
		return bt_fault_set(fault, -EFBIG, "size", h->size,
				    "over 8 EiB", DAMAGED);
	if (h->version == 1 && h->size < 2)
		return bt_fault_set(fault, -EINVAL, "size", h->size,
				    "must be at least 2 bytes",
				    "create the image with a size");
	*l1_entries = (h->size >> shift) + ((h->size & (span - 1)) != 0);
	if (*l1_entries > BT_QCOW_L1_BYTES_MAX / 8)
		return bt_fault_set(fault, -EFBIG, "size", h->size,
				    "needs an L1 table over 32 MiB",
				    "use qcow2 with larger clusters");
	return 0;
}

/* Without a key the data would be served as ciphertext, and what is written
 * would be stored plain: so no key, no data. FOR_INFO reads headers and tables
 * alone, which are never encrypted. */
static int check_crypt(const struct bt_qcow_header *h, unsigned int flags,
		       struct bt_fault *fault)
{
	if (h->crypt == BT_QCOW_CRYPT_LUKS && h->version > 1)
		return bt_fault_set(fault, -ENOTSUP, "crypt_method", h->crypt,
				    "LUKS encryption is not supported",
				    CONVERT);
	if (h->crypt > BT_QCOW_CRYPT_AES)
		return bt_fault_set(fault, -EINVAL, "crypt_method", h->crypt,
				    "unknown", DAMAGED);
	if (h->crypt == BT_QCOW_CRYPT_NONE || flags & BT_QCOW_FOR_INFO)
		return 0;
#ifdef HAVE_GNUTLS
	if (!(flags & BT_QCOW_WITH_KEY))
		return bt_fault_set(fault, -ENOKEY, "crypt_method", h->crypt,
				    "the image is encrypted", "give its key");
	return 0;
#else
	return bt_fault_set(fault, -ENOTSUP, "crypt_method", h->crypt,
			    "the image is encrypted, and this build has no "
			    "GnuTLS",
			    "build with GnuTLS");
#endif
}

/* A table must lie in the file, behind the header, aligned. header_bytes is
 * what stands before every table: a cluster in versions 2 and 3. */
static int check_table(const char *field, uint64_t offset, uint64_t bytes,
		       uint64_t align, uint64_t header_bytes,
		       uint64_t file_bytes, struct bt_fault *fault)
{
	if (offset & (align - 1))
		return bt_fault_set(fault, -EINVAL, field, offset,
				    "not aligned", DAMAGED);
	if (offset < header_bytes)
		return bt_fault_set(fault, -EINVAL, field, offset,
				    "overlaps the header", DAMAGED);
	if (!bt_range_within(offset, bytes, file_bytes))
		return bt_fault_set(fault, -EINVAL, field, offset,
				    "the table ends past the end of the file",
				    CUT);
	return 0;
}

/* Both ranges lie in the file by now, so neither sum wraps. */
static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

/* first: the end of the fixed part; limit: the end of the room for names. */
static int check_name(const struct bt_qcow_header *h, uint64_t first,
		      uint64_t limit, struct bt_fault *fault)
{
	if (!h->backing_offset)
		return 0;
	if (h->backing_bytes == 0 || h->backing_bytes > BT_QCOW_NAME_MAX)
		return bt_fault_set(fault, -EINVAL, "backing_file_size",
				    h->backing_bytes, "must be 1 to 1023",
				    DAMAGED);
	if (h->backing_offset < first)
		return bt_fault_set(fault, -EINVAL, "backing_file_offset",
				    h->backing_offset, "overlaps the header",
				    DAMAGED);
	if (!bt_range_within(h->backing_offset, h->backing_bytes, limit))
		return bt_fault_set(fault, -EINVAL, "backing_file_offset",
				    h->backing_offset,
				    "the name ends past the room for it",
				    DAMAGED);
	return 0;
}

/* Version 1 has no refcounts and nothing else that could overlap but name and
 * table. */
static int check_v1(struct bt_qcow_header *h, uint64_t file_bytes,
		    struct bt_fault *fault)
{
	uint64_t fixed =
		BT_QCOW_V1_BYTES + (h->has_xen ? BT_QCOW_XEN_BYTES : 0);
	uint64_t l1_bytes = h->l1_entries * 8;
	int rc;

	rc = check_table("l1_table_offset", h->l1_offset, l1_bytes, 8, fixed,
			 file_bytes, fault);
	if (rc)
		return rc;
	/* Both writers put the name next to the header; further away it is
	 * only a way to make us read far. */
	rc = check_name(h, fixed, bt_min_u64(file_bytes, 65536), fault);
	if (rc)
		return rc;
	if (h->backing_offset && overlap(h->backing_offset, h->backing_bytes,
					 h->l1_offset, l1_bytes))
		return bt_fault_set(fault, -EINVAL, "backing_file_offset",
				    h->backing_offset, "overlaps the L1 table",
				    DAMAGED);
	if (h->has_xen &&
	    (!bt_is_pow2(h->xen.min_cluster_alloc) ||
	     h->xen.min_cluster_alloc > UINT32_C(1) << h->l2_bits))
		return bt_fault_set(fault, -EINVAL, "min_cluster_alloc",
				    h->xen.min_cluster_alloc,
				    "must be a power of two, at most the "
				    "entries of an L2 table",
				    DAMAGED);
	return 0;
}

/* By the text an unknown incompatible bit forbids opening; unknown compatible
 * and autoclear bits do not concern a reader. What a writer does to autoclear
 * bits is driver/qcow/open.c's. */
static int check_features(const struct bt_qcow_header *h, unsigned int flags,
			  struct bt_fault *fault)
{
	const uint64_t known = BT_QCOW_INCOMPAT_DIRTY |
			       BT_QCOW_INCOMPAT_CORRUPT |
			       BT_QCOW_INCOMPAT_COMPRESSION;
	bool flagged = h->incompatible & BT_QCOW_INCOMPAT_COMPRESSION;

	if (h->incompatible & BT_QCOW_INCOMPAT_DATA_FILE)
		return bt_fault_set(fault, -ENOTSUP, "incompatible_features",
				    h->incompatible,
				    "an external data file is not supported",
				    CONVERT);
	if (h->incompatible & BT_QCOW_INCOMPAT_EXTENDED_L2)
		return bt_fault_set(fault, -ENOTSUP, "incompatible_features",
				    h->incompatible,
				    "extended L2 entries are not supported",
				    CONVERT);
	if (h->incompatible & ~known)
		return bt_fault_set(fault, -ENOTSUP, "incompatible_features",
				    h->incompatible & ~known,
				    "unknown feature bits", CONVERT);
	if ((h->incompatible & BT_QCOW_INCOMPAT_CORRUPT) &&
	    (flags & BT_QCOW_FOR_WRITE))
		return bt_fault_set(fault, -EROFS, "incompatible_features",
				    h->incompatible, "marked corrupt",
				    "repair it with qemu-img check -r all");
	/* The bit and the field must tell the same story. */
	if (flagged != (h->compression != BT_QCOW_ZLIB))
		return bt_fault_set(fault, -EINVAL, "compression_type",
				    h->compression,
				    "contradicts the feature bit", DAMAGED);
	if (h->compression > BT_QCOW_ZSTD)
		return bt_fault_set(fault, -ENOTSUP, "compression_type",
				    h->compression, "unknown", CONVERT);
#ifndef HAVE_ZSTD
	if (h->compression == BT_QCOW_ZSTD)
		return bt_fault_set(fault, -ENOTSUP, "compression_type",
				    h->compression, "built without zstd",
				    "build with libzstd");
#endif
	return 0;
}

/* header_length must be a multiple of 8; the text asks for 104 at least. */
static int check_v3(const struct bt_qcow_header *h, unsigned int flags,
		    struct bt_fault *fault)
{
	if (h->header_bytes < BT_QCOW_V3_BYTES || h->header_bytes % 8 ||
	    h->header_bytes > UINT32_C(1) << h->cluster_bits)
		return bt_fault_set(fault, -EINVAL, "header_length",
				    h->header_bytes,
				    "must be a multiple of 8, from 104 to a "
				    "cluster",
				    DAMAGED);
	if (h->refcount_order > 6)
		return bt_fault_set(fault, -EINVAL, "refcount_order",
				    h->refcount_order, "must be 0 to 6",
				    DAMAGED);
	return check_features(h, flags, fault);
}

/* A snapshot shares clusters with the disk. Reading is not concerned; writing
 * would have to copy by refcount, and nothing above this codec does. */
static int check_snapshots(const struct bt_qcow_header *h, uint64_t file_bytes,
			   unsigned int flags, struct bt_fault *fault)
{
	if (!h->snapshots)
		return 0;
	/* An entry takes at least 40 bytes. */
	if (h->snapshots > 65536)
		return bt_fault_set(fault, -EINVAL, "nb_snapshots",
				    h->snapshots, "over 65536", DAMAGED);
	if (flags & BT_QCOW_FOR_WRITE)
		return bt_fault_set(fault, -ENOTSUP, "nb_snapshots",
				    h->snapshots,
				    "internal snapshots are not supported for "
				    "writing",
				    "delete them with qemu-img snapshot -d, "
				    "or open read-only");
	return check_table("snapshots_offset", h->snapshots_offset,
			   UINT64_C(40) * h->snapshots,
			   UINT64_C(1) << h->cluster_bits,
			   UINT64_C(1) << h->cluster_bits, file_bytes, fault);
}

/* In clusters, so a length of 0 would leave nothing to count with. */
static int check_refcount_table(const struct bt_qcow_header *h,
				uint64_t file_bytes, struct bt_fault *fault)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t bytes = (uint64_t)h->refcount_clusters << h->cluster_bits;

	if (!h->refcount_clusters || bytes > BT_QCOW_REFTABLE_BYTES_MAX)
		return bt_fault_set(fault, -EINVAL, "refcount_table_clusters",
				    h->refcount_clusters,
				    "must be 1 up to 8 MiB of clusters",
				    DAMAGED);
	return check_table("refcount_table_offset", h->refcount_offset, bytes,
			   cluster, cluster, file_bytes, fault);
}

/* More entries than the size needs are usual: QEMU keeps the state of a virtual
 * machine behind the disk. A disk of no bytes may have no table. */
static int check_l1_table(const struct bt_qcow_header *h, uint64_t needed,
			  uint64_t file_bytes, struct bt_fault *fault)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	if (h->l1_entries > BT_QCOW_L1_BYTES_MAX / 8)
		return bt_fault_set(fault, -EFBIG, "l1_size", h->l1_entries,
				    "an L1 table over 32 MiB", DAMAGED);
	if (h->l1_entries < needed)
		return bt_fault_set(fault, -EINVAL, "l1_size", h->l1_entries,
				    "too few entries for the size", DAMAGED);
	if (!h->l1_entries)
		return 0;
	return check_table("l1_table_offset", h->l1_offset, h->l1_entries * 8,
			   cluster, cluster, file_bytes, fault);
}

/* The two tables that are written in place must not share a cluster; the header
 * and the name are kept clear of by each of them. */
static int check_v2(struct bt_qcow_header *h, uint64_t needed,
		    uint64_t file_bytes, unsigned int flags,
		    struct bt_fault *fault)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	int rc = h->version == 3 ? check_v3(h, flags, fault) : 0;

	if (!rc)
		rc = check_refcount_table(h, file_bytes, fault);
	if (!rc)
		rc = check_l1_table(h, needed, file_bytes, fault);
	if (!rc)
		rc = check_name(h, h->header_bytes, cluster, fault);
	if (!rc)
		rc = check_snapshots(h, file_bytes, flags, fault);
	if (rc)
		return rc;
	if (h->l1_entries &&
	    overlap(h->l1_offset, h->l1_entries * 8, h->refcount_offset,
		    (uint64_t)h->refcount_clusters << h->cluster_bits))
		return bt_fault_set(fault, -EINVAL, "l1_table_offset",
				    h->l1_offset, "overlaps the refcount table",
				    "repair it with qemu-img check -r all");
	return 0;
}

/* Sets l1_entries of version 1, the one field that is computed. After 0 every
 * offset and length of the header lies in the file, behind the header, and
 * clear of the other tables, and every number may be shifted by and multiplied
 * as the geometry does. */
int bt_qcow_header_validate(struct bt_qcow_header *h, uint64_t file_bytes,
			    unsigned int flags, struct bt_fault *fault)
{
	uint64_t needed = 0;
	int rc;

	rc = check_bits(h, fault);
	if (!rc)
		rc = check_size(h, &needed, fault);
	if (!rc)
		rc = check_crypt(h, flags, fault);
	if (rc)
		return rc;
	if (h->version > 1)
		return check_v2(h, needed, file_bytes, flags, fault);
	h->l1_entries = needed;
	return check_v1(h, file_bytes, fault);
}
