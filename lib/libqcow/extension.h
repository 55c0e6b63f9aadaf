/* SPDX-License-Identifier: BSD-3-Clause */
/* Header extensions of versions 2 and 3: {type, length, data, padding to 8}
 * from header_length on, up to the backing file's name or the end of the first
 * cluster. An unknown one is harmless by definition, and is kept by whoever
 * rewrites the header.
 *
 * Version 1 has none. What format its backing file has stands in a record of our
 * own, {"BTF\xfb", the format's name padded with NULs to 12 bytes}, in the 16
 * bytes before the name. QEMU and Xen put the name next to the header, so there
 * are no such bytes in their images; and they read the name by its offset, so the
 * record does not trouble them. */
#ifndef BT_LIBQCOW_EXTENSION_H
#define BT_LIBQCOW_EXTENSION_H

#include "libqcow/header.h"

enum bt_qcow_ext_type {
	BT_QCOW_EXT_END = 0,
	BT_QCOW_EXT_BACKING_FORMAT = (int)0xe2792aca,
	BT_QCOW_EXT_FEATURE_NAMES = 0x6803f857,
	BT_QCOW_EXT_BITMAPS = 0x23852875,
	BT_QCOW_EXT_CRYPTO = 0x0537be77,
	BT_QCOW_EXT_DATA_FILE = 0x44415441,
};

struct bt_qcow_ext {
	uint32_t type;
	uint32_t bytes;
	const uint8_t *data; /* inside the buffer given to init */
};

struct bt_qcow_ext_iter {
	const uint8_t *buf;
	uint64_t at;
	uint64_t end;
};

/* buf holds the first len bytes of the file; len must be at least
 * bt_qcow_header_span for all extensions to be seen. */
void bt_qcow_ext_init(struct bt_qcow_ext_iter *it,
		      const struct bt_qcow_header *h, const void *buf,
		      size_t len);

/* 1 with the next extension, 0 at the end, -EINVAL for one that is cut. */
int bt_qcow_ext_next(struct bt_qcow_ext_iter *it, struct bt_qcow_ext *ext,
		     struct bt_fault *fault);

#define BT_QCOW_FORMAT_MAX 15
/* Of version 1: the record, and the longest name in it. */
#define BT_QCOW_RECORD_MAGIC 0x425446fbu
#define BT_QCOW_RECORD_BYTES 16
#define BT_QCOW_RECORD_NAME_MAX 12

/* What the extensions say, in one pass. */
struct bt_qcow_ext_info {
	char backing_format[BT_QCOW_FORMAT_MAX + 1]; /* "" where none */
	bool has_bitmaps;
	uint32_t unknown; /* how many nobody here knows */
	const uint8_t *features; /* the feature name table, or NULL */
	uint32_t features_bytes;
};

/* Walks all of them; of version 1, the record. -ENOTSUP for one that changes what
 * the data is. */
int bt_qcow_ext_read(const struct bt_qcow_header *h, const void *buf,
		     size_t len, struct bt_qcow_ext_info *info,
		     struct bt_fault *fault);

/* Writes a record of version 1, BT_QCOW_RECORD_BYTES; format has at most
 * BT_QCOW_RECORD_NAME_MAX bytes. */
void bt_qcow_record_put(void *buf, const char *format);

enum bt_qcow_feature_kind {
	BT_QCOW_FEATURE_INCOMPATIBLE = 0,
	BT_QCOW_FEATURE_COMPATIBLE = 1,
	BT_QCOW_FEATURE_AUTOCLEAR = 2,
};

#define BT_QCOW_FEATURE_NAME_MAX 46

/* The image's own name for a feature bit, for a message; false where its table
 * has none. name has room for BT_QCOW_FEATURE_NAME_MAX + 1 and gets printable
 * ASCII only. */
bool bt_qcow_feature_name(const struct bt_qcow_ext_info *info,
			  enum bt_qcow_feature_kind kind, unsigned int bit,
			  char *name);

/* Appends one extension at *at in buf; -ENOSPC where it does not fit in cap. */
int bt_qcow_ext_put(void *buf, size_t cap, size_t *at, uint32_t type,
		    const void *data, uint32_t bytes);

/* Appends the table of the feature names this code knows. */
int bt_qcow_ext_put_features(void *buf, size_t cap, size_t *at);

#endif
