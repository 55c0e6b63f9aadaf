/* SPDX-License-Identifier: BSD-3-Clause */
/* AES-128-CBC of images with crypt_method 1, a sector at a time, and the MD5 of
 * Xen's checksum. GnuTLS is loaded when the first image needs it and unloaded
 * with the last (util/gnutls.h).
 *
 * The format is weak by today's measure: the initialisation vector is the
 * sector's number, and the key is the password's bytes. It is read and written
 * as it is; no new image is made so. */
#include "libqcow/crypt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_GNUTLS
#include "util/bytes.h"
#include "util/gnutls.h"

#define SECTOR 512
#define IV_BYTES 16 /* a block of AES */

struct bt_qcow_cipher {
	struct bt_gnutls tls;
	gnutls_cipher_hd_t handle;
};

struct bt_qcow_l1_sum {
	struct bt_gnutls tls;
	gnutls_hash_hd_t handle;
};

/* The caller's key stays the caller's; the padded copy is wiped before this
 * returns. */
int bt_qcow_cipher_create(const void *key, size_t key_len,
			  struct bt_qcow_cipher **out)
{
	unsigned char padded[BT_QCOW_KEY_BYTES] = { 0 };
	unsigned char iv[IV_BYTES] = { 0 };
	gnutls_datum_t k = { padded, sizeof(padded) };
	gnutls_datum_t i = { iv, sizeof(iv) };
	struct bt_qcow_cipher *cipher;
	int rc;

	if (!key_len || key_len > sizeof(padded))
		return -EINVAL;
	cipher = calloc(1, sizeof(*cipher));
	if (!cipher)
		return -ENOMEM;
	rc = bt_gnutls_load(&cipher->tls);
	if (rc < 0) {
		free(cipher);
		return rc;
	}
	memcpy(padded, key, key_len);
	rc = cipher->tls.cipher_init(&cipher->handle, GNUTLS_CIPHER_AES_128_CBC,
				     &k, &i);
	cipher->tls.memset(padded, 0, sizeof(padded));
	if (rc < 0) {
		bt_gnutls_unload(&cipher->tls);
		free(cipher);
		return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -ENOTSUP;
	}
	*out = cipher;
	return 0;
}

void bt_qcow_cipher_destroy(struct bt_qcow_cipher *cipher)
{
	if (!cipher)
		return;
	cipher->tls.cipher_deinit(cipher->handle);
	bt_gnutls_unload(&cipher->tls);
	free(cipher);
}

typedef int (*crypt_fn)(const gnutls_cipher_hd_t, void *, size_t);

/* Each sector stands alone, so that one can be written without its neighbours.
 * The key's text is padded, never hashed: that is all the protection the format
 * has, and why new images are not made with it. The vector is the guest's
 * sector number, 64 bits little-endian, then zeroes. An offset that is not
 * whole sectors would take a wrong vector, so it is refused. */
static int crypt_sectors(struct bt_qcow_cipher *cipher, crypt_fn fn,
			 uint64_t guest_offset, uint8_t *data, size_t len)
{
	if (guest_offset % SECTOR || len % SECTOR)
		return -EINVAL;
	for (size_t at = 0; at < len; at += SECTOR) {
		uint8_t iv[IV_BYTES] = { 0 };

		bt_store_le64(iv, (guest_offset + at) / SECTOR);
		cipher->tls.cipher_set_iv(cipher->handle, iv, sizeof(iv));
		if (fn(cipher->handle, data + at, SECTOR) < 0)
			return -EIO;
	}
	return 0;
}

int bt_qcow_encrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len)
{
	return crypt_sectors(cipher, cipher->tls.cipher_encrypt, guest_offset,
			     data, len);
}

int bt_qcow_decrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len)
{
	return crypt_sectors(cipher, cipher->tls.cipher_decrypt, guest_offset,
			     data, len);
}

/* The sum is of the table's bytes as they lie in the file. */
int bt_qcow_l1_sum_create(struct bt_qcow_l1_sum **out)
{
	struct bt_qcow_l1_sum *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return -ENOMEM;
	/* Not for security, so a FIPS library that has no MD5 only means that
	 * the checksum cannot be believed. */
	if (bt_gnutls_load(&sum->tls) < 0 ||
	    sum->tls.hash_init(&sum->handle, GNUTLS_DIG_MD5) < 0) {
		bt_gnutls_unload(&sum->tls);
		free(sum);
		return -ENOTSUP;
	}
	*out = sum;
	return 0;
}

int bt_qcow_l1_sum_add(struct bt_qcow_l1_sum *sum, const void *table,
		       size_t len)
{
	return sum->tls.hash(sum->handle, table, len) < 0 ? -EIO : 0;
}

uint32_t bt_qcow_l1_sum_finish(struct bt_qcow_l1_sum *sum)
{
	uint8_t digest[16] = { 0 };

	if (!sum)
		return 0;
	sum->tls.hash_deinit(sum->handle, digest);
	bt_gnutls_unload(&sum->tls);
	free(sum);
	/* The writers took the word as x86 sees it, then stored it big-endian
	 * like every other field. */
	return bt_load_le32(digest);
}

#else /* !HAVE_GNUTLS */

int bt_qcow_cipher_create(const void *key, size_t key_len,
			  struct bt_qcow_cipher **out)
{
	return -ENOTSUP;
}

void bt_qcow_cipher_destroy(struct bt_qcow_cipher *cipher)
{
}

int bt_qcow_encrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len)
{
	return -ENOTSUP;
}

int bt_qcow_decrypt(struct bt_qcow_cipher *cipher, uint64_t guest_offset,
		    void *data, size_t len)
{
	return -ENOTSUP;
}

int bt_qcow_l1_sum_create(struct bt_qcow_l1_sum **out)
{
	return -ENOTSUP;
}

int bt_qcow_l1_sum_add(struct bt_qcow_l1_sum *sum, const void *table,
		       size_t len)
{
	return -ENOTSUP;
}

uint32_t bt_qcow_l1_sum_finish(struct bt_qcow_l1_sum *sum)
{
	return 0;
}

#endif
