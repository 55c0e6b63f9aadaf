/* SPDX-License-Identifier: BSD-3-Clause */
/* The header of a QCOW image, all versions in one host struct.
 *
 * Use: read the first BT_QCOW_HEADER_PROBE bytes, decode, then validate before
 * any other field is believed. decode only moves bytes; every rule is in
 * validate. */
#ifndef BT_LIBQCOW_HEADER_H
#define BT_LIBQCOW_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

#define BT_QCOW_MAGIC 0x514649fbu /* "QFI\xfb" */
#define BT_QCOW_XEN_MAGIC 0x58454efbu /* "XEN\xfb" */

/* Enough for the fixed part of every version, Xen's extension included. */
#define BT_QCOW_HEADER_PROBE 512

#define BT_QCOW_V1_BYTES 48
#define BT_QCOW_XEN_BYTES 16
#define BT_QCOW_V2_BYTES 72
#define BT_QCOW_V3_BYTES 104
#define BT_QCOW_V3_FULL_BYTES 112 /* with the compression type */

#define BT_QCOW_NAME_MAX 1023
/* No image may make us hold a larger L1 or refcount table than this. */
#define BT_QCOW_L1_BYTES_MAX (32u << 20)
#define BT_QCOW_REFTABLE_BYTES_MAX (8u << 20)

enum bt_qcow_crypt {
	BT_QCOW_CRYPT_NONE = 0,
	BT_QCOW_CRYPT_AES = 1,
	BT_QCOW_CRYPT_LUKS = 2,
};

enum bt_qcow_compression {
	BT_QCOW_ZLIB = 0,
	BT_QCOW_ZSTD = 1,
};

#define BT_QCOW_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define BT_QCOW_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define BT_QCOW_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define BT_QCOW_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define BT_QCOW_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define BT_QCOW_COMPAT_LAZY_REFCOUNTS (UINT64_C(1) << 0)

/* Xen's extension of version 1. */
#define BT_QCOW_XEN_SPARSE 1u
#define BT_QCOW_XEN_L1_BIG_ENDIAN 2u

struct bt_qcow_xen {
	uint32_t cksum;
	uint32_t min_cluster_alloc;
	uint32_t flags;
};

struct bt_qcow_header {
	uint32_t version; /* 1, 2 or 3 */
	uint64_t backing_offset; /* 0: no backing file */
	uint32_t backing_bytes;
	uint32_t mtime; /* of the backing file; version 1 */
	uint64_t size; /* what the guest sees */
	uint32_t cluster_bits;
	uint32_t l2_bits; /* stored in version 1, else cluster_bits - 3 */
	uint32_t crypt;
	uint64_t l1_offset;
	uint64_t l1_entries; /* stored in 2 and 3; version 1: validate sets */

	/* version 2 and 3 */
	uint64_t refcount_offset;
	uint32_t refcount_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;

	/* version 3; version 2 means no features and 16-bit refcounts */
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_bytes;
	uint8_t compression;

	/* version 1 */
	bool has_xen;
	struct bt_qcow_xen xen;
};

/* What the image is opened for; decides what validate refuses. */
#define BT_QCOW_FOR_WRITE 1u
#define BT_QCOW_FOR_INFO 2u /* no guest data will be read */
#define BT_QCOW_WITH_KEY 4u /* the caller has a key for an AES image */

/* -EINVAL: not a QCOW header, or cut short; -ENOTSUP: a version we do not
 * know. */
int bt_qcow_header_decode(struct bt_qcow_header *h, const void *buf, size_t len,
			  struct bt_fault *fault);

/* Checks every field, against each other and against the length of the file.
 * -EINVAL for what no writer makes, -ENOTSUP for what we do not do, -ENOKEY
 * for an encrypted image without a key, -EROFS for an image marked corrupt
 * that is to be written. */
int bt_qcow_header_validate(struct bt_qcow_header *h, uint64_t file_bytes,
			    unsigned int flags, struct bt_fault *fault);

/* Writes the fields this code knows and leaves all other bytes of buf as they
 * are, so that a longer header of a newer writer survives. Returns the bytes
 * the fixed part takes, or -ENOSPC. */
int bt_qcow_header_encode(const struct bt_qcow_header *h, void *buf,
			  size_t len);

/* How many bytes from offset 0 hold the fixed part, the header extensions and
 * the backing file's name. Only after validate. */
uint64_t bt_qcow_header_span(const struct bt_qcow_header *h);

/* Copies the backing file's name out of the first len bytes of the file; name
 * has room for BT_QCOW_NAME_MAX + 1. An empty string where there is none. The
 * text is the image's word: whoever opens it decides whether to believe it. */
int bt_qcow_backing_name(const struct bt_qcow_header *h, const void *buf,
			 size_t len, char *name, struct bt_fault *fault);

/* Whether the L1 table is in the byte order of the machine that wrote it, as
 * the first Xen releases did. Reading may convert; writing back is only done
 * where the user asks. */
bool bt_qcow_l1_is_native(const struct bt_qcow_header *h);

#endif
