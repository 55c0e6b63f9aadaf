/* SPDX-License-Identifier: BSD-3-Clause */
/* AES-128-CBC of old encrypted images, and the MD5 of Xen's extension. Both
 * come from GnuTLS; without it every call says -ENOTSUP and the image is
 * refused, or its checksum left unbelieved. */
#ifndef BT_LIBQCOW_CRYPT_H
#define BT_LIBQCOW_CRYPT_H

#include <stddef.h>
#include <stdint.h>

#define BT_QCOW_KEY_BYTES 16

struct bt_qcow_cipher;

/* key: 1 to 16 bytes, padded with zeros as the format has it. */
int bt_qcow_cipher_create(const void *key, size_t key_len,
			  struct bt_qcow_cipher **out);
void bt_qcow_cipher_destroy(struct bt_qcow_cipher *cipher);

/* In place, whole sectors. guest_offset is where the guest sees them; its
 * sector number is the initialisation vector. */
int bt_qcow_encrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len);
int bt_qcow_decrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len);

/* The checksum over the L1 table as it is in a big-endian file, fed in pieces
 * of any size. */
struct bt_qcow_l1_sum;

/* -ENOMEM, or -ENOTSUP where the library has no MD5: then no sum can be believed. */
int bt_qcow_l1_sum_create(struct bt_qcow_l1_sum **out);
int bt_qcow_l1_sum_add(struct bt_qcow_l1_sum *sum, const void *table,
		       size_t len);

/* The value for bt_qcow_xen.cksum; sum is gone afterwards. With sum NULL
 * nothing happens, so an error path needs no branch. */
uint32_t bt_qcow_l1_sum_finish(struct bt_qcow_l1_sum *sum);

#endif
