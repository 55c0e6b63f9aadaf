/* SPDX-License-Identifier: BSD-3-Clause */
/* Moves header fields between bytes and the host struct. Nothing is judged
 * here but the magic, the version and the length of the buffer; the rules are
 * in validate.c.
 *
 * Offsets are those of the headers on disk, all big-endian:
 *
 *   0 magic  4 version  8 backing_file_offset  16 backing_file_size
 *   version 1:  20 mtime  24 size  32 cluster_bits (a byte)  33 l2_bits (a byte)
 *               36 crypt_method  40 l1_table_offset   Xen: 48 to 64
 *   2 and 3:    20 cluster_bits  24 size  32 crypt_method  36 l1_size
 *               40 l1_table_offset  48 refcount_table_offset
 *               56 refcount_table_clusters  60 nb_snapshots  64 snapshots_offset
 *   3 alone:    72 incompatible  80 compatible  88 autoclear_features
 *               96 refcount_order  100 header_length  104 compression_type */
#include "libqcow/header.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/checked.h"

/* l1_entries is not stored: validate computes it of the size. */
static void decode_v1(struct bt_qcow_header *h, const uint8_t *p, size_t len)
{
	const uint8_t *x = p + BT_QCOW_V1_BYTES;

	h->mtime = bt_load_be32(p + 20);
	h->size = bt_load_be64(p + 24);
	h->cluster_bits = p[32];
	h->l2_bits = p[33];
	h->crypt = bt_load_be32(p + 36);
	h->l1_offset = bt_load_be64(p + 40);
	/* QEMU's images have their L1 table or a file name at 48, and both may
	 * hold any bytes; Xen alone aligns the table, so only then is this an
	 * extension. */
	if (h->l1_offset % 4096 || len < BT_QCOW_V1_BYTES + BT_QCOW_XEN_BYTES ||
	    bt_load_be32(x) != BT_QCOW_XEN_MAGIC)
		return;
	h->has_xen = true;
	h->xen.cksum = bt_load_be32(x + 4);
	h->xen.min_cluster_alloc = bt_load_be32(x + 8);
	h->xen.flags = bt_load_be32(x + 12);
}

/* Version 2 is version 3 without features and with counts of 16 bits (order
 * 4). */
static void decode_v2(struct bt_qcow_header *h, const uint8_t *p)
{
	h->cluster_bits = bt_load_be32(p + 20);
	h->size = bt_load_be64(p + 24);
	h->crypt = bt_load_be32(p + 32);
	h->l1_entries = bt_load_be32(p + 36);
	h->l1_offset = bt_load_be64(p + 40);
	h->refcount_offset = bt_load_be64(p + 48);
	h->refcount_clusters = bt_load_be32(p + 56);
	h->snapshots = bt_load_be32(p + 60);
	h->snapshots_offset = bt_load_be64(p + 64);
	h->refcount_order = 4;
	h->header_bytes = BT_QCOW_V2_BYTES;
	/* An absurd cluster_bits must not wrap into a small l2_bits. */
	h->l2_bits = h->cluster_bits > 3 ? h->cluster_bits - 3 : 0;
}

/* header_length says which of the fields behind 104 are there; one that is not
 * means 0. */
static void decode_v3(struct bt_qcow_header *h, const uint8_t *p, size_t len)
{
	h->incompatible = bt_load_be64(p + 72);
	h->compatible = bt_load_be64(p + 80);
	h->autoclear = bt_load_be64(p + 88);
	h->refcount_order = bt_load_be32(p + 96);
	h->header_bytes = bt_load_be32(p + 100);
	if (h->header_bytes > BT_QCOW_V3_BYTES && len > BT_QCOW_V3_BYTES)
		h->compression = p[104];
}

/* A file may end right behind its fixed header, so len is checked against the
 * version's own length and not against the probe. */
int bt_qcow_header_decode(struct bt_qcow_header *h, const void *buf, size_t len,
			  struct bt_fault *fault)
{
	static const size_t least[] = { 0, BT_QCOW_V1_BYTES, BT_QCOW_V2_BYTES,
					BT_QCOW_V3_BYTES };
	const uint8_t *p = buf;

	memset(h, 0, sizeof(*h));
	if (len < 8)
		return bt_fault_set(fault, -EINVAL, "file length", len,
				    "too short for a qcow header",
				    "is this the right file?");
	if (bt_load_be32(p) != BT_QCOW_MAGIC)
		return bt_fault_set(fault, -EINVAL, "magic", bt_load_be32(p),
				    "not a qcow image",
				    "name the format the file really has");
	h->version = bt_load_be32(p + 4);
	if (h->version < 1 || h->version > 3)
		return bt_fault_set(fault, -ENOTSUP, "version", h->version,
				    "only versions 1, 2 and 3 are known",
				    "convert the image to qcow2 version 3");
	if (len < least[h->version])
		return bt_fault_set(fault, -EINVAL, "file length", len,
				    "ends inside the header",
				    "the file was cut short; restore a copy");
	h->backing_offset = bt_load_be64(p + 8);
	h->backing_bytes = bt_load_be32(p + 16);
	if (h->version == 1)
		decode_v1(h, p, len);
	else
		decode_v2(h, p);
	if (h->version == 3)
		decode_v3(h, p, len);
	return 0;
}

/* Bytes that no field covers are written as zeros only where the format says
 * they are padding. Bytes 34 and 35 are the two that version 1 has. */
static int encode_v1(const struct bt_qcow_header *h, uint8_t *p, size_t len)
{
	size_t need = BT_QCOW_V1_BYTES + (h->has_xen ? BT_QCOW_XEN_BYTES : 0);

	if (len < need)
		return -ENOSPC;
	bt_store_be32(p + 20, h->mtime);
	bt_store_be64(p + 24, h->size);
	p[32] = (uint8_t)h->cluster_bits;
	p[33] = (uint8_t)h->l2_bits;
	p[34] = p[35] = 0;
	bt_store_be32(p + 36, h->crypt);
	bt_store_be64(p + 40, h->l1_offset);
	if (h->has_xen) {
		bt_store_be32(p + 48, BT_QCOW_XEN_MAGIC);
		bt_store_be32(p + 52, h->xen.cksum);
		bt_store_be32(p + 56, h->xen.min_cluster_alloc);
		bt_store_be32(p + 60, h->xen.flags);
	}
	return (int)need;
}

/* A header of 104 bytes has no room for the compression type, and means zlib.
 * buf had the longer header of a newer writer, where there was one, so only
 * known fields change. */
static int encode_v3(const struct bt_qcow_header *h, uint8_t *p, size_t len)
{
	if (len < h->header_bytes)
		return -ENOSPC;
	bt_store_be64(p + 72, h->incompatible);
	bt_store_be64(p + 80, h->compatible);
	bt_store_be64(p + 88, h->autoclear);
	bt_store_be32(p + 96, h->refcount_order);
	bt_store_be32(p + 100, h->header_bytes);
	if (h->header_bytes >= BT_QCOW_V3_FULL_BYTES)
		p[104] = h->compression;
	return (int)h->header_bytes;
}

static int encode_v2(const struct bt_qcow_header *h, uint8_t *p, size_t len)
{
	bt_store_be32(p + 20, h->cluster_bits);
	bt_store_be64(p + 24, h->size);
	bt_store_be32(p + 32, h->crypt);
	bt_store_be32(p + 36, (uint32_t)h->l1_entries);
	bt_store_be64(p + 40, h->l1_offset);
	bt_store_be64(p + 48, h->refcount_offset);
	bt_store_be32(p + 56, h->refcount_clusters);
	bt_store_be32(p + 60, h->snapshots);
	bt_store_be64(p + 64, h->snapshots_offset);
	return h->version == 3 ? encode_v3(h, p, len) : BT_QCOW_V2_BYTES;
}

int bt_qcow_header_encode(const struct bt_qcow_header *h, void *buf, size_t len)
{
	size_t least = h->version == 1	 ? BT_QCOW_V1_BYTES
		       : h->version == 2 ? BT_QCOW_V2_BYTES
					 : BT_QCOW_V3_BYTES;
	uint8_t *p = buf;

	if (len < least)
		return -ENOSPC;
	bt_store_be32(p, BT_QCOW_MAGIC);
	bt_store_be32(p + 4, h->version);
	bt_store_be64(p + 8, h->backing_offset);
	bt_store_be32(p + 16, h->backing_bytes);
	return h->version == 1 ? encode_v1(h, p, len) : encode_v2(h, p, len);
}

/* Versions 2 and 3 have all of it in the first cluster, by their definition. */
uint64_t bt_qcow_header_span(const struct bt_qcow_header *h)
{
	uint64_t fixed = BT_QCOW_V1_BYTES;

	if (h->version > 1)
		return UINT64_C(1) << h->cluster_bits;
	if (h->has_xen)
		fixed += BT_QCOW_XEN_BYTES;
	/* Where there is no name, nobody has checked its length. */
	if (!h->backing_offset)
		return fixed;
	return bt_max_u64(fixed, h->backing_offset + h->backing_bytes);
}

/* text points into buf only where the range has been checked; it is read
 * once. */
int bt_qcow_backing_name(const struct bt_qcow_header *h, const void *buf,
			 size_t len, char *name, struct bt_fault *fault)
{
	const char *text = (const char *)buf + h->backing_offset;

	name[0] = '\0';
	if (!h->backing_offset)
		return 0;
	if (h->backing_bytes > BT_QCOW_NAME_MAX ||
	    !bt_range_within(h->backing_offset, h->backing_bytes, len))
		return bt_fault_set(fault, -EINVAL, "backing_file_offset",
				    h->backing_offset,
				    "the backing file's name is not there",
				    "the file was cut short; restore a copy");
	/* A NUL would make a tool that prints the name show another file than
	 * the one that is opened. */
	if (memchr(text, '\0', h->backing_bytes))
		return bt_fault_set(fault, -EINVAL, "backing_file_name",
				    h->backing_bytes, "holds a NUL byte",
				    "rebase the image on a proper name");
	memcpy(name, text, h->backing_bytes);
	name[h->backing_bytes] = '\0';
	return 0;
}

/* Images of QEMU have no extension, and are big-endian. */
bool bt_qcow_l1_is_native(const struct bt_qcow_header *h)
{
	return h->has_xen && !(h->xen.flags & BT_QCOW_XEN_L1_BIG_ENDIAN);
}
