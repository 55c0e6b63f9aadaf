/* SPDX-License-Identifier: BSD-3-Clause */
/* The walk over header extensions, and writing them. Bounds are settled once,
 * in init: from the fixed header to the backing file's name or the end of the
 * first cluster, and never past the bytes that the caller has. An extension is
 * checked when it is come to, before its data is touched; a length is never
 * added to anything before it is known to be in range. */
#include "libqcow/extension.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/checked.h"

/* {kind, bit, name padded with NULs} */
#define FEATURE_BYTES 48

/* Names of bits that this code knows the meaning of, for readers that do not:
 * they tell their users what they cannot open. */
static const struct {
	uint8_t kind;
	uint8_t bit;
	const char *name;
} known_features[] = {
	{ BT_QCOW_FEATURE_INCOMPATIBLE, 0, "dirty bit" },
	{ BT_QCOW_FEATURE_INCOMPATIBLE, 1, "corrupt bit" },
	{ BT_QCOW_FEATURE_INCOMPATIBLE, 2, "external data file" },
	{ BT_QCOW_FEATURE_INCOMPATIBLE, 3, "compression type" },
	{ BT_QCOW_FEATURE_INCOMPATIBLE, 4, "extended L2 entries" },
	{ BT_QCOW_FEATURE_COMPATIBLE, 0, "lazy refcounts" },
	{ BT_QCOW_FEATURE_AUTOCLEAR, 0, "bitmaps" },
	{ BT_QCOW_FEATURE_AUTOCLEAR, 1, "raw external data" },
};

/* Version 1 has none: there at is the end. */
void bt_qcow_ext_init(struct bt_qcow_ext_iter *it,
		      const struct bt_qcow_header *h, const void *buf,
		      size_t len)
{
	uint64_t end = UINT64_C(1) << h->cluster_bits;

	if (h->backing_offset)
		end = bt_min_u64(end, h->backing_offset);
	it->buf = buf;
	it->end = bt_min_u64(end, len);
	it->at = h->version == 1 ? it->end : h->header_bytes;
}

/* ext->data points into the buffer and is ext->bytes long; padding is not a
 * part of it. */
int bt_qcow_ext_next(struct bt_qcow_ext_iter *it, struct bt_qcow_ext *ext,
		     struct bt_fault *fault)
{
	uint64_t room;

	/* No end mark is needed where the room itself ends. */
	if (it->at > it->end || it->end - it->at < 8)
		return 0;
	ext->type = bt_load_be32(it->buf + it->at);
	ext->bytes = bt_load_be32(it->buf + it->at + 4);
	ext->data = it->buf + it->at + 8;
	if (ext->type == BT_QCOW_EXT_END)
		return 0;
	room = it->end - it->at - 8;
	if (ext->bytes > room)
		return bt_fault_set(fault, -EINVAL, "header extension length",
				    ext->bytes, "longer than the room for it",
				    "the header is damaged; restore a copy "
				    "of the image");
	/* The padding of the last one may be cut by the name behind it. */
	it->at += 8 + bt_align_down((uint64_t)ext->bytes + 7, 8);
	return 1;
}

/* Only its length and bytes are judged here: whether such a driver exists is
 * for the opener, and a name it does not know must not become a guess. */
static int read_format(const struct bt_qcow_ext *ext,
		       struct bt_qcow_ext_info *info, struct bt_fault *fault)
{
	if (ext->bytes > BT_QCOW_FORMAT_MAX ||
	    memchr(ext->data, '\0', ext->bytes))
		return bt_fault_set(fault, -EINVAL, "backing format length",
				    ext->bytes, "not the name of a format",
				    "rebase the image with -F");
	memcpy(info->backing_format, ext->data, ext->bytes);
	info->backing_format[ext->bytes] = '\0';
	return 0;
}

/* An extension can announce what the feature bits should have: data that is
 * not where it seems, or not plain. Such an image is refused here too. */
static int read_one(const struct bt_qcow_ext *ext,
		    struct bt_qcow_ext_info *info, struct bt_fault *fault)
{
	switch (ext->type) {
	case (uint32_t)BT_QCOW_EXT_BACKING_FORMAT:
		return read_format(ext, info, fault);
	case BT_QCOW_EXT_FEATURE_NAMES:
		info->features = ext->data;
		info->features_bytes = ext->bytes;
		return 0;
	case BT_QCOW_EXT_BITMAPS:
		info->has_bitmaps = true;
		return 0;
	case BT_QCOW_EXT_CRYPTO:
	case BT_QCOW_EXT_DATA_FILE:
		return bt_fault_set(fault, -ENOTSUP, "header extension",
				    ext->type,
				    ext->type == BT_QCOW_EXT_CRYPTO
					    ? "LUKS is not supported"
					    : "an external data file is not "
					      "supported",
				    "convert it with qemu-img convert "
				    "-O qcow2");
	default:
		info->unknown++;
		return 0;
	}
}

/* Bytes before the name that neither the header nor the L1 table has. l1_offset
 * and l1_entries have been validated, so their sum does not wrap. The place is
 * read only where it lies in the buffer. */
static bool has_record(const struct bt_qcow_header *h, const uint8_t *buf,
		       size_t len)
{
	uint64_t fixed =
		BT_QCOW_V1_BYTES + (h->has_xen ? BT_QCOW_XEN_BYTES : 0);
	uint64_t end = h->backing_offset;

	return end >= fixed + BT_QCOW_RECORD_BYTES && end <= len &&
	       (h->l1_offset >= end || h->l1_offset + h->l1_entries * 8 <=
					       end - BT_QCOW_RECORD_BYTES) &&
	       bt_load_be32(buf + end - BT_QCOW_RECORD_BYTES) ==
		       BT_QCOW_RECORD_MAGIC;
}

/* The name is padded with NULs, and info's has one byte more than the
 * record. */
static void read_record(const struct bt_qcow_header *h, const uint8_t *buf,
			size_t len, struct bt_qcow_ext_info *info)
{
	if (has_record(h, buf, len))
		memcpy(info->backing_format,
		       buf + h->backing_offset - BT_QCOW_RECORD_NAME_MAX,
		       BT_QCOW_RECORD_NAME_MAX);
}

/* A name of 12 bytes has no NUL. */
void bt_qcow_record_put(void *buf, const char *format)
{
	uint8_t *p = buf;

	bt_store_be32(p, BT_QCOW_RECORD_MAGIC);
	memset(p + 4, 0, BT_QCOW_RECORD_NAME_MAX);
	memcpy(p + 4, format,
	       bt_min_u64(strlen(format), BT_QCOW_RECORD_NAME_MAX));
}

/* Stops at the first that is damaged or changes what the data is: what follows
 * cannot be believed, or does not matter. */
int bt_qcow_ext_read(const struct bt_qcow_header *h, const void *buf,
		     size_t len, struct bt_qcow_ext_info *info,
		     struct bt_fault *fault)
{
	struct bt_qcow_ext_iter it;
	struct bt_qcow_ext ext;
	int rc;

	memset(info, 0, sizeof(*info));
	if (h->version == 1) {
		read_record(h, buf, len, info);
		return 0;
	}
	bt_qcow_ext_init(&it, h, buf, len);
	while ((rc = bt_qcow_ext_next(&it, &ext, fault)) > 0) {
		rc = read_one(&ext, info, fault);
		if (rc)
			break;
	}
	return rc;
}

/* The table is the image's text: a byte that is not printable ASCII becomes
 * '?', as it is going to a terminal or a log. */
bool bt_qcow_feature_name(const struct bt_qcow_ext_info *info,
			  enum bt_qcow_feature_kind kind, unsigned int bit,
			  char *name)
{
	uint32_t at;

	for (at = 0; at + FEATURE_BYTES <= info->features_bytes;
	     at += FEATURE_BYTES) {
		const uint8_t *p = info->features + at;
		size_t n = 0;

		if (p[0] != kind || p[1] != bit)
			continue;
		for (; n < BT_QCOW_FEATURE_NAME_MAX && p[2 + n]; n++)
			name[n] = p[2 + n] >= ' ' && p[2 + n] < 0x7f
					  ? (char)p[2 + n]
					  : '?';
		name[n] = '\0';
		return n > 0;
	}
	return false;
}

/* Padding is zeroes. *at is moved behind it; where there is no room nothing
 * changes. */
int bt_qcow_ext_put(void *buf, size_t cap, size_t *at, uint32_t type,
		    const void *data, uint32_t bytes)
{
	uint8_t *p = (uint8_t *)buf + *at;
	uint64_t padded = bt_align_down((uint64_t)bytes + 7, 8);

	if (!bt_range_within(*at, 8 + padded, cap))
		return -ENOSPC;
	bt_store_be32(p, type);
	bt_store_be32(p + 4, bytes);
	memset(p + 8, 0, padded);
	if (bytes)
		memcpy(p + 8, data, bytes);
	*at += 8 + padded;
	return 0;
}

/* Names are cut by nobody: the longest known one is shorter than the field. */
int bt_qcow_ext_put_features(void *buf, size_t cap, size_t *at)
{
	uint8_t table[BT_ARRAY_SIZE(known_features) * FEATURE_BYTES];

	memset(table, 0, sizeof(table));
	for (size_t i = 0; i < BT_ARRAY_SIZE(known_features); i++) {
		uint8_t *p = table + i * FEATURE_BYTES;

		p[0] = known_features[i].kind;
		p[1] = known_features[i].bit;
		memcpy(p + 2, known_features[i].name,
		       strlen(known_features[i].name));
	}
	return bt_qcow_ext_put(buf, cap, at, BT_QCOW_EXT_FEATURE_NAMES, table,
			       sizeof(table));
}
