/* SPDX-License-Identifier: BSD-3-Clause */
/* Encrypted images, as other tapdisks write them: AES-XTS over sectors of 512
 * bytes, whose number is the tweak. That an image is encrypted, and by which key,
 * the hash in its batmap says; each image of a chain has its own, or none. Only
 * data is encrypted, so tools that move blocks as they are need no key.
 *
 *   write  taken -> (wait for a buffer) -> encrypted into it -> file -> done
 *   read   file -> decrypted where it lies -> done
 *
 * A sector that is absent is none that was encrypted: it reads as zeroes or as the
 * parent. Zeroes in the file are not zeroes above, so WRITE_ZEROES comes as data
 * and nothing is discarded.
 *
 * free has the buffers (each 128 KiB, one write), the last used in front;
 * waiting the frames without one, by frame->link, oldest first. A read needs
 * none. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/vhd/tool.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/gnutls.h"

#define KEY_MAX 64u /* bytes: two keys of AES-256 */
#define BUFFERS 32u /* 4 MiB; writes beyond wait */

static int refuse(const struct bt_vhdimg *img, int rc, const char *what,
		  const char *hint, struct blktap_error **err)
{
	return bt_fail(err, rc, hint, "%s: key: %s", img->f.path, what);
}

/* The bytes of a file, or of a descriptor, which stays open and may be read
 * again; never a key in the text itself, which others can see. A descriptor is
 * read from its beginning by pread, as each image of a chain reads it. */
static ssize_t read_key(const char *ref, uint8_t *key, size_t max)
{
	char *end = NULL;
	ssize_t n;
	long fd;

	if (!strncmp(ref, "file:/", 6)) {
		fd = open(ref + 5, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			return -errno;
		n = read((int)fd, key, max);
		n = n < 0 ? -errno : n;
		close((int)fd);
		return n;
	}
	fd = strncmp(ref, "fd:", 3) ? -1 : strtol(ref + 3, &end, 10);
	if (fd < 0 || fd > 65535 || end == ref + 3 || *end)
		return -EPROTOTYPE;
	n = pread((int)fd, key, max, 0);
	return n < 0 ? -errno : n;
}

#ifdef HAVE_GNUTLS
struct bt_vhdcipher {
	struct bt_gnutls tls;
	gnutls_cipher_hd_t handle;
	char *memory; /* the buffers; one that is free holds its link */
	struct bt_list free;
	struct bt_list waiting; /* writes without a buffer, oldest first */
};

/* Also of one that was made in part. The handle goes before the library it is
 * of. */
void bt_vhdimg_close_cipher(struct bt_vhdimg *img)
{
	struct bt_vhdcipher *c = img->cipher;

	if (!c)
		return;
	if (c->handle)
		c->tls.cipher_deinit(c->handle);
	bt_gnutls_unload(&c->tls);
	free(c->memory);
	free(c);
	img->cipher = NULL;
}

/* A key of 64 bytes is two of AES-256, one of 32 two of AES-128: XTS takes both
 * halves. */
static int init_cipher(struct bt_vhdimg *img, struct bt_vhdcipher *c,
		       uint8_t *key, size_t length, struct blktap_error **err)
{
	gnutls_cipher_algorithm_t kind = length == KEY_MAX
						 ? GNUTLS_CIPHER_AES_256_XTS
						 : GNUTLS_CIPHER_AES_128_XTS;
	uint8_t iv[16] = { 0 };
	gnutls_datum_t k = { key, (unsigned int)length };
	gnutls_datum_t i = { iv, sizeof(iv) };
	int rc = bt_gnutls_load(&c->tls);

	if (rc < 0)
		return refuse(img, rc, "there is no crypto library",
			      "install GnuTLS", err);
	if (c->tls.cipher_init(&c->handle, kind, &k, &i) < 0) {
		c->handle = NULL;
		return refuse(img, -ENOTSUP, "the crypto library refuses it",
			      "its two halves must differ, and no policy of "
			      "the system forbid AES-XTS",
			      err);
	}
	return 0;
}

/* Only who writes needs buffers. A free buffer's first bytes are its link on
 * the list. */
static int make_buffers(struct bt_vhdimg *img, struct bt_vhdcipher *c)
{
	unsigned int i;

	bt_list_init(&c->free);
	bt_list_init(&c->waiting);
	if (img->read_only)
		return 0;
	if (posix_memalign((void **)&c->memory, 4096,
			   (size_t)BUFFERS * BT_VHDIMG_BOUNCE))
		return -ENOMEM;
	for (i = 0; i < BUFFERS; i++)
		bt_list_add_tail(
			&c->free,
			(struct bt_list *)(c->memory +
					   (size_t)i * BT_VHDIMG_BOUNCE));
	return 0;
}

/* On failure img->cipher may be set in part; the open fails, and closes it. */
static int make_cipher(struct bt_vhdimg *img, uint8_t *key, size_t length,
		       struct blktap_error **err)
{
	int rc;

	img->cipher = calloc(1, sizeof(*img->cipher));
	rc = img->cipher ? make_buffers(img, img->cipher) : -ENOMEM;
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	return init_cipher(img, img->cipher, key, length, err);
}

/* The guest's sector number, 64 bits little-endian, then zeroes. */
static void set_tweak(struct bt_vhdcipher *c, uint64_t offset)
{
	uint8_t iv[16] = { 0 };

	bt_store_le64(iv, offset / BT_VHD_SECTOR);
	c->tls.cipher_set_iv(c->handle, iv, sizeof(iv));
}

/* A sector whose memory is cut goes through a buffer on the stack. The memory
 * is the reader's, to be filled anyway. */
int bt_vhdimg_decrypt(struct bt_vhdimg_frame *f)
{
	struct bt_vhdcipher *c = f->img->cipher;
	uint8_t sector[BT_VHD_SECTOR];
	struct bt_sgl at = f->data;
	uint64_t done;

	for (done = 0; done < f->run; done += sizeof(sector)) {
		bool whole = at.iov->iov_len - at.skip >= sizeof(sector);
		void *memory = whole ? (char *)at.iov->iov_base + at.skip
				     : (void *)sector;

		if (!whole)
			bt_sgl_copy_out(&at, sector, sizeof(sector));
		set_tweak(c, f->at + done);
		if (c->tls.cipher_decrypt(c->handle, memory, sizeof(sector)) <
		    0)
			return -EIO;
		if (!whole)
			bt_sgl_copy_in(&at, sector, sizeof(sector));
		bt_sgl_advance(&at, sizeof(sector));
	}
	return 0;
}

/* The writer's own memory stays as it is. */
static int encrypt(struct bt_vhdimg_frame *f, char *to)
{
	struct bt_vhdcipher *c = f->img->cipher;
	uint64_t done;

	bt_sgl_copy_out(&f->data, to, f->run);
	for (done = 0; done < f->run; done += BT_VHD_SECTOR) {
		set_tweak(c, f->at + done);
		if (c->tls.cipher_encrypt(c->handle, to + done, BT_VHD_SECTOR) <
		    0)
			return -EIO;
	}
	return 0;
}

static void serve(struct bt_vhdcipher *c);

/* The buffer goes to whoever waits before the request is told. */
static void stored(struct bt_io *io, int error)
{
	struct bt_vhdimg_frame *f =
		bt_container_of(io, struct bt_vhdimg_frame, io);
	struct bt_vhdcipher *c = f->img->cipher;

	bt_list_add(&c->free, f->iov.iov_base);
	/* its request may end the image, so it comes last */
	serve(c);
	bt_vhdimg_written(io, error);
}

/* A cipher that fails ends the run with -EIO as a write that failed, before
 * anything is in the file. */
static void store(struct bt_vhdimg_frame *f, void *buffer)
{
	struct bt_io *io = &f->io;
	int rc = encrypt(f, buffer);

	f->iov.iov_base = buffer;
	f->iov.iov_len = f->run;
	io->file = &f->img->f.file;
	io->op = BT_IO_WRITE;
	io->flags = 0;
	io->offset = bt_vhd_data_offset(&f->img->blocks, f->entry) +
		     bt_vhdimg_in_block(f);
	io->length = f->run;
	io->data = (struct bt_sgl){ .iov = &f->iov, .count = 1 };
	io->done = stored;
	if (rc < 0)
		stored(io, rc);
	else
		bt_engine_submit(io);
}

/* As many as there are buffers for. */
static void serve(struct bt_vhdcipher *c)
{
	while (!bt_list_empty(&c->waiting) && !bt_list_empty(&c->free)) {
		struct bt_list *next = bt_list_pop(&c->waiting);

		store(bt_list_entry(next, struct bt_vhdimg_frame, link),
		      bt_list_pop(&c->free));
	}
}

/* Behind those that wait already. */
void bt_vhdimg_write_encrypted(struct bt_vhdimg_frame *f)
{
	struct bt_vhdcipher *c = f->img->cipher;

	bt_list_add_tail(&c->waiting, &f->link);
	serve(c);
}
#else
void bt_vhdimg_close_cipher(struct bt_vhdimg *img)
{
}

static int make_cipher(struct bt_vhdimg *img, uint8_t *key, size_t length,
		       struct blktap_error **err)
{
	return refuse(img, -ENOTSUP, "this library has no encryption",
		      "build it with GnuTLS", err);
}

int bt_vhdimg_decrypt(struct bt_vhdimg_frame *f)
{
	return -ENOTSUP;
}

void bt_vhdimg_write_encrypted(struct bt_vhdimg_frame *f)
{
	bt_vhdimg_finish(f, -ENOTSUP);
}
#endif

/* ---- opening -------------------------------------------------------------- */

/* By the hash of nonce and key in the image's batmap: a wrong key is refused
 * instead of read through. */
static int check_key(struct bt_vhdimg *img, const struct bt_vhd_keyhash *want,
		     const uint8_t *key, size_t length,
		     struct blktap_error **err)
{
	struct blktap_vhd_key_hash have = { .is_set = true };
	int rc;

	if (length != KEY_MAX && length != KEY_MAX / 2)
		return refuse(img, -EINVAL, "must have 32 or 64 bytes",
			      "put the key alone into the file", err);
	memcpy(have.nonce, want->nonce, sizeof(have.nonce));
	rc = blktap_vhd_hash_key(key, length, &have, err);
	if (rc < 0)
		return rc;
	if (!memcmp(have.hash, want->hash, sizeof(have.hash)))
		return 0;
	return refuse(img, -EKEYREJECTED, "is not the one of this image",
		      "compare hashes: vhd-util key -p and key -C", err);
}

/* One byte more than a key is read, so that a file that is too long shows. The
 * copy is wiped. */
static int take_key(struct bt_vhdimg *img, const struct bt_vhd_keyhash *want,
		    const char *ref, struct blktap_error **err)
{
	uint8_t key[KEY_MAX + 1];
	ssize_t length = read_key(ref, key, sizeof(key));
	int rc;

	if (length == -EPROTOTYPE)
		return refuse(img, -EINVAL, "is not the name of a file",
			      "give it as \"file:/path\" or \"fd:N\"", err);
	if (length < 0)
		return refuse(img, (int)length, "cannot be read",
			      "check the path and its permissions", err);
	rc = check_key(img, want, key, (size_t)length, err);
	if (!rc)
		rc = make_cipher(img, key, (size_t)length, err);
	explicit_bzero(key, sizeof(key));
	return rc;
}

/* A tool that moves blocks as they are (as_stored), and who only looks, need no
 * key. What cookie other than 1 would mean nobody knows, so such an image is
 * not served at all. */
int bt_vhdimg_open_cipher(struct bt_vhdimg *img, const struct bt_args *args,
			  uint32_t flags, struct blktap_error **err)
{
	const char *ref = bt_args_string(args, "key");
	uint8_t cookie = img->keyhash.cookie;

	if (img->as_stored || flags & BT_OPEN_LOOK)
		return 0;
	if (cookie > 1)
		return bt_fail(err, -ENOTSUP,
			       "copy it with the program that made it",
			       "%s: keyhash cookie is %u: only 1 is known",
			       img->f.path, cookie);
	if (cookie && !ref)
		return bt_fail(
			err, -ENOKEY,
			"give its key: vhd(\"...\", key=\"file:/path\"); "
			"vhd-util copy takes it with --source-key",
			"%s: the image is encrypted", img->f.path);
	if (cookie)
		return take_key(img, &img->keyhash, ref, err);
	/* what it stands on may be encrypted, or what stands on it */
	if (ref && !img->differencing && !(flags & BT_OPEN_BELOW))
		return refuse(img, -EINVAL, "the image is not encrypted",
			      "leave the key out", err);
	return 0;
}
