/* SPDX-License-Identifier: BSD-3-Clause */
/* The key of an encrypted image, and data on its way through it. What is read is
 * decrypted where it lies; what is written goes through a bounce buffer, since it
 * is not ours to change. Holes would be read as zeroes that were encrypted, so
 * such an image has none within its clusters.
 *
 * The key is 16 bytes, as given, padded with zeroes; no hash, no check: a wrong
 * key gives garbage and no error (libqcow/crypt.c). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "driver/qcow/qcow.h"
#include "port/args.h"
#include "util/checked.h"

#define PIECE 4096u /* of the stack; whole sectors */

/* Takes the line end off that an editor leaves. One byte more than a key would
 * tell a long one, and max has room for that. */
static ssize_t read_key(const char *path, char *key, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, key, max);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n > 0 && key[n - 1] == '\n')
		n--;
	return n;
}

/* The text never has anything of the key in it. */
static int refuse(const struct bt_qcow *q, int rc, const char *what,
		  const char *hint, struct blktap_error **err)
{
	return bt_fail(err, rc, hint, "%s: key: %s", q->f.path, what);
}

static int make_cipher(struct bt_qcow *q, const char *key, ssize_t length,
		       struct blktap_error **err)
{
	int rc;

	if (length <= 0 || length > BT_QCOW_KEY_BYTES)
		return refuse(q, -EINVAL, "must have 1 to 16 bytes",
			      "put the key alone into the file", err);
	rc = bt_qcow_cipher_create(key, (size_t)length, &q->cipher);
	if (rc < 0)
		return refuse(q, rc, "the cipher is not to be had",
			      "install GnuTLS", err);
	return 0;
}

/* Behind the validation of the header, which has refused an encrypted image
 * without a key. The key's memory is wiped before this returns, also where the
 * cipher could not be made. */
int bt_qcow_crypt_open(struct bt_qcow *q, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	const char *ref = bt_args_string(args, "key");
	char key[64];
	ssize_t length;
	int rc;

	if (!ref)
		return 0;
	/* what it stands on may be encrypted, or what stands on it */
	if (!q->geo.encrypted && (q->parent || flags & BT_OPEN_BELOW))
		return 0;
	if (!q->geo.encrypted)
		return refuse(q, -EINVAL, "the image is not encrypted",
			      "leave the key out", err);
	if (strncmp(ref, "file:/", 6))
		return refuse(q, -EINVAL, "is not the name of a file",
			      "give it as \"file:/path\"", err);
	length = read_key(ref + 5, key, sizeof(key));
	if (length < 0)
		return refuse(q, (int)length, "the file cannot be read",
			      "check the path and its permissions", err);
	rc = make_cipher(q, key, length, err);
	explicit_bzero(key, sizeof(key));
	return rc;
}

/* Through a buffer of the stack: the reader's memory may be cut anywhere, and
 * sectors must be whole. */
int bt_qcow_decrypt_data(struct bt_qcow *q, uint64_t guest,
			 const struct bt_sgl *data, uint64_t length)
{
	struct bt_sgl at = *data;
	char piece[PIECE];
	int rc = 0;

	while (length && !rc) {
		uint64_t n = bt_min_u64(length, PIECE);

		bt_sgl_copy_out(&at, piece, n);
		rc = bt_qcow_decrypt(q->cipher, guest, piece, n);
		if (!rc)
			bt_sgl_copy_in(&at, piece, n);
		bt_sgl_advance(&at, n);
		guest += n;
		length -= n;
	}
	return rc;
}

/* A part of the guest's data, into the run's buffer and through the cipher. */
int bt_qcow_encrypt_data(struct bt_qcow_run *run, uint64_t guest,
			 const struct bt_sgl *data, uint64_t length)
{
	run->bounce.iov_len = length;
	bt_sgl_copy_out(data, run->bounce.iov_base, length);
	return bt_qcow_encrypt(run->q->cipher, guest, run->bounce.iov_base,
			       length);
}
