/* SPDX-License-Identifier: BSD-3-Clause */
/* L1 and L2 entries, both ways. An entry has its host byte order here; the
 * caller loads it (bt_load_be64) once and passes the value, so nothing is read
 * twice.
 *
 * Every decode checks alignment, reserved bits, the end of the file and the
 * fixed metadata, and does so before the first access through the entry. The
 * errors are -EIO: the request that needed the entry fails, not the disk. */
#ifndef BT_LIBQCOW_ENTRY_H
#define BT_LIBQCOW_ENTRY_H

#include "libqcow/geometry.h"

/* In no image is offset 0 data: the header is there. */
#define BT_QCOW_ENTRY_NONE UINT64_C(0)

struct bt_qcow_l1 {
	uint64_t offset; /* of the L2 table; 0: none */
	bool copied; /* versions 2 and 3: may be written in place */
};

enum bt_qcow_kind {
	BT_QCOW_UNALLOCATED, /* the backing file's, else zeros */
	BT_QCOW_ZERO, /* zeros; with offset a cluster is kept for it */
	BT_QCOW_DATA,
	BT_QCOW_COMPRESSED,
};

struct bt_qcow_mapping {
	enum bt_qcow_kind kind;
	bool copied;
	uint64_t offset; /* in the file */
	/* COMPRESSED: how much to read, at most. The stream ends somewhere in
	 * it. DATA: a cluster; what is past the end of the file reads as
	 * zeros. */
	uint32_t bytes;
};

/* file_bytes is the end of what an entry may name: the file's length, or, for
 * who writes, what has been given out so far. */
int bt_qcow_l1_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
		      uint64_t file_bytes, struct bt_qcow_l1 *out,
		      struct bt_fault *fault);
uint64_t bt_qcow_l1_encode(const struct bt_qcow_geometry *geo, uint64_t offset,
			   bool copied);

/* fault may be NULL. What is in out counts only where 0 is returned. */
int bt_qcow_l2_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
		      uint64_t file_bytes, struct bt_qcow_mapping *out,
		      struct bt_fault *fault);

/* copied is ignored in version 1. */
uint64_t bt_qcow_l2_encode_data(const struct bt_qcow_geometry *geo,
				uint64_t offset, bool copied);

/* An entry that reads as zeros; version 3 only, -ENOTSUP else. offset is the
 * cluster it keeps, or 0. */
int bt_qcow_l2_encode_zero(const struct bt_qcow_geometry *geo, uint64_t offset,
			   bool copied, uint64_t *entry);

/* A stream of bytes at offset (any byte). -ERANGE where the entry cannot
 * express it: then the cluster is to be stored as plain data. */
int bt_qcow_l2_encode_compressed(const struct bt_qcow_geometry *geo,
				 uint64_t offset, uint32_t bytes,
				 uint64_t *entry);

#endif
