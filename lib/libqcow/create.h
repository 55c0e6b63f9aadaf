/* SPDX-License-Identifier: BSD-3-Clause */
/* The bytes of a new, empty image. plan settles where everything lies; fill
 * then says what any part of the file holds, so a caller writes it in pieces
 * of the size it likes and needs no memory that grows with the disk. */
#ifndef BT_LIBQCOW_CREATE_H
#define BT_LIBQCOW_CREATE_H

#include "libqcow/geometry.h"
#include "libqcow/refcount.h"

struct bt_qcow_create {
	uint32_t version;
	uint64_t size;
	uint32_t cluster_bits; /* 0: what the version's writers use */
	uint32_t refcount_bits; /* 0: 16; another only in version 3 */
	bool lazy_refcounts; /* version 3 */
	enum bt_qcow_compression compression; /* version 3 for zstd */
	const char *backing; /* NULL: none */
	const char *backing_format; /* recorded */
	uint32_t backing_mtime; /* version 1 */
	bool xen; /* version 1: Xen's layout instead of QEMU's */
	/* xen without backing: all tables are filled and the file has its full
	 * length from the start, so no write ever allocates. */
	bool reserve;
};

/* Fixed part, extensions and the longest name. */
#define BT_QCOW_HEAD_MAX 2048

struct bt_qcow_layout {
	struct bt_qcow_header header;
	struct bt_qcow_geometry geo;
	struct bt_qcow_refsize ref;
	uint64_t file_bytes;
	/* reserve: the i-th L2 table is at l2_first + i * l2_stride */
	uint64_t l2_first;
	uint64_t l2_stride;
	uint32_t head_bytes;
	uint8_t head[BT_QCOW_HEAD_MAX];
};

/* -EINVAL, -EFBIG, -ENAMETOOLONG or -ENOTSUP, with a fault. */
int bt_qcow_layout_plan(const struct bt_qcow_create *create,
			struct bt_qcow_layout *layout, struct bt_fault *fault);

/* What [offset, offset + len) of the new file holds; both multiples of 512. */
void bt_qcow_layout_fill(const struct bt_qcow_layout *layout, uint64_t offset,
			 void *buf, size_t len);

/* The next part at or behind `from` that must be written; all else is zeros,
 * and a hole does. 0 bytes where there is no more. Parts begin and end at
 * multiples of 512. */
uint64_t bt_qcow_layout_next(const struct bt_qcow_layout *layout, uint64_t from,
			     uint64_t *bytes);

#endif
