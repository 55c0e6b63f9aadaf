/* SPDX-License-Identifier: BSD-3-Clause */
/* The hash of the key of an encrypted image. It tells whether a key is the right
 * one, and that there has to be one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/vhd/tool.h"
#include "util/gnutls.h"

#ifdef HAVE_GNUTLS
/* Over a, then b. */
static int sha256(const void *a, size_t a_size, const void *b, size_t b_size,
		  uint8_t out[32])
{
	struct bt_gnutls tls = { 0 };
	gnutls_hash_hd_t sum;
	int rc = bt_gnutls_load(&tls);

	if (rc < 0)
		return rc;
	if (tls.hash_init(&sum, GNUTLS_DIG_SHA256)) {
		bt_gnutls_unload(&tls);
		return -EIO;
	}
	if (tls.hash(sum, a, a_size) || tls.hash(sum, b, b_size))
		rc = -EIO;
	/* also where it failed: it is what frees the sum */
	tls.hash_deinit(sum, out);
	bt_gnutls_unload(&tls);
	return rc;
}
#else
static int sha256(const void *a, size_t a_size, const void *b, size_t b_size,
		  uint8_t out[32])
{
	return -ENOTSUP;
}
#endif

/* SHA-256 of the 32 bytes of nonce and the key; the nonce is the caller's,
 * random for a new hash. */
int blktap_vhd_hash_key(const void *key, size_t size,
			struct blktap_vhd_key_hash *hash,
			struct blktap_error **err)
{
	int rc;

	if (size != 32 && size != 64)
		return bt_fail(err, -EINVAL, "give a key of 32 or 64 bytes",
			       "the key has %zu bytes", size);
	rc = sha256(hash->nonce, sizeof(hash->nonce), key, size, hash->hash);
	hash->is_set = !rc;
	return rc ? bt_fail(err, rc, "build it with GnuTLS",
			    "this library cannot hash a key")
		  : 0;
}

/* hash->is_set is false where the image has none. */
void blktap_vhd_get_key_hash(struct blktap_vhd *vhd,
			     struct blktap_vhd_key_hash *hash)
{
	const struct bt_vhd_keyhash *own = &vhd->img->keyhash;

	memset(hash, 0, sizeof(*hash));
	if (own->cookie != 1)
		return;
	hash->is_set = true;
	memcpy(hash->nonce, own->nonce, sizeof(hash->nonce));
	memcpy(hash->hash, own->hash, sizeof(hash->hash));
}

/* Ends the walk: one is enough to know. */
static int found_block(void *opaque, uint32_t block, uint32_t entry)
{
	return 1;
}

/* From then on the image is encrypted. Only of an image without data: what was
 * written plain would be decrypted to garbage. */
int blktap_vhd_set_key_hash(struct blktap_vhd *vhd,
			    const struct blktap_vhd_key_hash *hash,
			    struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	struct bt_vhd_batmap b;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (rc < 0)
		return rc;
	if (!bt_vhdtool_read_batmap(img, &b))
		return bt_fail(err, -ENOTSUP, "make it with vhd-util create",
			       "%s: has no batmap, where a key's hash stands",
			       img->f.path);
	if (b.keyhash.cookie == 1)
		return bt_fail(err, -EEXIST, "copy it to change its key",
			       "%s: has a key already", img->f.path);
	rc = bt_vhdtool_each_block(img, found_block, NULL);
	if (rc == 1)
		return bt_fail(err, -EEXIST, "copy it to give it a key",
			       "%s: has data that no key was used for",
			       img->f.path);
	b.keyhash.cookie = 1;
	memcpy(b.keyhash.nonce, hash->nonce, sizeof(hash->nonce));
	memcpy(b.keyhash.hash, hash->hash, sizeof(hash->hash));
	if (!rc)
		rc = bt_vhdtool_write_batmap_header(img, &b);
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc)
		img->keyhash = b.keyhash;
	return bt_vhdtool_fail(vhd, rc, err);
}
