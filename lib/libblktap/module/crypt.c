/* SPDX-License-Identifier: BSD-3-Clause */
/* crypt: what is below holds ciphertext. AES-XTS with the tweak "plain64", the
 * number of the sector's first 512 bytes, so that a dm-crypt mapping of that kind
 * reads what this wrote, and the other way round.
 *
 *   write  taken -> (wait for a buffer) -> encrypted into it -> below -> done
 *   read   below -> decrypted where it lies -> done
 *
 * The writer's own memory is never changed: it may be sent to another leg, or be
 * written again. There is no state on disk, and nothing here says whether the key
 * is the right one. Zeroes below are not zeroes above: so nothing is told of
 * holes, WRITE_ZEROES comes as data, and a discard is dropped unless asked for,
 * since it shows which sectors are in use. */
#include "module/module.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "module/buffers.h"
#include "module/secret.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/gnutls.h"

#define KEY_MAX 64u
#define SECTOR_MAX 4096u
#define SMALL 16384u /* the writes that databases make */
#define SMALL_COUNT 64u
#define LARGE 131072u
#define LARGE_COUNT 24u

static const struct blktap_param params[] = {
	{ .name = "cipher",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .fallback = "aes-xts-256",
	  .choices = "aes-xts-128|aes-xts-256",
	  .help = "AES with keys of so many bits, of which XTS takes two" },
	{ .name = "key",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_SECRET |
		   BLKTAP_PARAM_IDENTITY,
	  .help = "where the key is: 64 bytes (32 for aes-xts-128) or twice as "
		  "many hexadecimal digits" },
	{ .name = "sector",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .fallback = "512",
	  .choices = "512|4096",
	  .help = "bytes that are encrypted as one" },
	{ .name = "discard",
	  .type = BLKTAP_PARAM_ENUM,
	  .fallback = "ignore",
	  .choices = "ignore|unmap",
	  .help = "unmap: a discard frees space below, and shows where" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what holds the ciphertext" },
	{ .name = NULL },
};

#ifdef HAVE_GNUTLS
struct crypt_class {
	struct bt_buffers buffers;
	/* by their link; they have no buffer and are not encrypted yet */
	struct bt_list waiting; /* writes without a buffer, oldest first */
};

struct crypt {
	struct bt_gnutls tls;
	/* key schedule and tweak: used from the loop's thread alone, and each
	 * call is done when it returns, so one serves all requests */
	gnutls_cipher_hd_t handle;
	uint32_t sector;
	bool discards;
	struct crypt_class small, large;
};

struct crypt_frame {
	struct bt_sgl data; /* the writer's */
	struct iovec iov; /* the ciphertext's */
};

/* Harmless on what a failed opening left: a library that was not loaded, buffers
 * that were not made. */
static void crypt_close(struct bt_node *node)
{
	struct crypt *crypt = node->data;

	if (crypt->handle)
		crypt->tls.cipher_deinit(crypt->handle);
	bt_gnutls_unload(&crypt->tls);
	bt_buffers_fini(&crypt->small.buffers);
	bt_buffers_fini(&crypt->large.buffers);
}

/* XTS with two equal halves is weak, and the library would refuse it with a
 * number; here it gets a sentence. */
static int check_key(struct bt_node *node, const unsigned char *key,
		     size_t length, struct blktap_error **err)
{
	if (memcmp(key, key + length / 2, length / 2))
		return 0;
	return bt_fail(err, -EINVAL,
		       "take the bytes from a random source, "
		       "e.g. /dev/urandom",
		       "%s: the two halves of the key are equal", node->name);
}

/* The key is on the stack for as long as the library needs to take it over, and
 * is wiped on every way out. */
static int init_cipher(struct bt_node *node, const struct bt_args *args,
		       struct blktap_error **err)
{
	bool is_256 = !strcmp(bt_args_string(args, "cipher"), "aes-xts-256");
	struct crypt *crypt = node->data;
	unsigned char key[KEY_MAX], iv[16] = { 0 };
	gnutls_datum_t k = { key, is_256 ? 64 : 32 };
	gnutls_datum_t i = { iv, sizeof(iv) };
	int rc;

	rc = bt_secret_read(node->name, bt_args_string(args, "key"), key,
			    k.size, err);
	if (!rc)
		rc = check_key(node, key, k.size, err);
	if (!rc && crypt->tls.cipher_init(&crypt->handle,
					  is_256 ? GNUTLS_CIPHER_AES_256_XTS
						 : GNUTLS_CIPHER_AES_128_XTS,
					  &k, &i) < 0)
		rc = bt_fail(err, -ENOTSUP, "look for a policy that forbids it",
			     "%s: the crypto library refuses %s", node->name,
			     bt_args_string(args, "cipher"));
	bt_secret_wipe(key, sizeof(key));
	return rc;
}

static int crypt_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct crypt *crypt = node->data;
	int rc;

	(void)flags;
	bt_list_init(&crypt->small.waiting);
	bt_list_init(&crypt->large.waiting);
	crypt->sector =
		strcmp(bt_args_string(args, "sector"), "4096") ? 512 : 4096;
	crypt->discards = !strcmp(bt_args_string(args, "discard"), "unmap");
	/* a last sector that is not whole could not be encrypted */
	if (node->ports[0].lower->limits.size % crypt->sector)
		return bt_fail(err, -EINVAL, "use sector=512",
			       "%s: the size of '%s' is not a multiple of %u",
			       node->name, node->ports[0].lower->name,
			       crypt->sector);
	rc = bt_gnutls_load(&crypt->tls);
	if (rc < 0)
		return bt_fail(err, rc, "install libgnutls30",
			       "%s: there is no crypto library", node->name);
	rc = init_cipher(node, args, err);
	if (!rc)
		rc = bt_buffers_init(&crypt->small.buffers, SMALL_COUNT, SMALL);
	if (!rc)
		rc = bt_buffers_init(&crypt->large.buffers, LARGE_COUNT, LARGE);
	if (rc == -ENOMEM)
		bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	if (rc < 0)
		crypt_close(node);
	return rc;
}

/* A request's data fits one buffer, and is whole sectors. */
static void crypt_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct crypt *crypt = node->data;

	if (limits->block_size < crypt->sector)
		limits->block_size = crypt->sector;
	limits->max_transfer = bt_min_u64(limits->max_transfer, LARGE);
}

/* plain64: the sector's number as 64 bits, little-endian, zeroes behind it. The
 * unit is 512 bytes with sector=4096 as well, as dm-crypt has it without
 * iv_large_sectors. */
static void set_tweak(struct crypt *crypt, uint64_t offset)
{
	uint8_t iv[16] = { 0 };

	bt_store_le64(iv, offset / 512);
	crypt->tls.cipher_set_iv(crypt->handle, iv, sizeof(iv));
}

/* Bytes of the window that lie in one piece. */
static uint64_t piece(const struct bt_sgl *sgl)
{
	return sgl->count ? sgl->iov->iov_len - sgl->skip : 0;
}

/* Into `to`, which is the buffer: a sector that lies in two pieces of the
 * writer's memory is brought together there, and encrypted where it lies. */
static int encrypt(struct crypt *crypt, uint64_t offset, uint64_t length,
		   struct bt_sgl from, char *to)
{
	uint32_t n = crypt->sector;
	uint64_t at;

	for (at = 0; at < length; at += n) {
		char *source = to + at;

		if (bt_likely(piece(&from) >= n))
			source = (char *)from.iov->iov_base + from.skip;
		else
			bt_sgl_copy_out(&from, source, n);
		set_tweak(crypt, offset + at);
		if (crypt->tls.cipher_encrypt2(crypt->handle, source, n,
					       to + at, n) < 0)
			return -EIO;
		bt_sgl_advance(&from, n);
	}
	return 0;
}

/* Where it lies, in the reader's memory, which is the request's while it is on
 * its way. Only a sector in two pieces goes by the stack. */
static int decrypt(struct crypt *crypt, uint64_t offset, uint64_t length,
		   struct bt_sgl sgl)
{
	char bounce[SECTOR_MAX];
	uint32_t n = crypt->sector;
	uint64_t at;

	for (at = 0; at < length; at += n) {
		bool whole = piece(&sgl) >= n;
		char *memory = bounce;

		if (bt_likely(whole))
			memory = (char *)sgl.iov->iov_base + sgl.skip;
		else
			bt_sgl_copy_out(&sgl, memory, n);
		set_tweak(crypt, offset + at);
		if (crypt->tls.cipher_decrypt(crypt->handle, memory, n) < 0)
			return -EIO;
		if (!whole)
			bt_sgl_copy_in(&sgl, memory, n);
		bt_sgl_advance(&sgl, n);
	}
	return 0;
}

/* By length alone, so a request finds its class again when it is back. */
static struct crypt_class *class_of(struct crypt *crypt,
				    const struct bt_request *req)
{
	return req->length <= SMALL ? &crypt->small : &crypt->large;
}

/* The request keeps its buffer until it is back; frame->data is what its owner
 * gets back as it was. */
static void write_out(struct bt_node *node, struct bt_request *req,
		      void *buffer)
{
	struct crypt_frame *frame = bt_request_frame(req);
	struct crypt *crypt = node->data;
	int rc;

	rc = encrypt(crypt, req->offset, req->length, req->data, buffer);
	if (rc < 0) {
		bt_buffers_give(&class_of(crypt, req)->buffers, buffer);
		bt_request_complete(req, rc);
		return;
	}
	frame->data = req->data;
	frame->iov.iov_base = buffer;
	frame->iov.iov_len = req->length;
	req->data = (struct bt_sgl){ .iov = &frame->iov, .count = 1 };
	bt_port_submit(&node->ports[0], req);
}

/* Gives writes that wait their buffers, as far as there are any. Small writes have
 * buffers of their own, or a few large ones would take all the memory. */
static void serve(struct bt_node *node, struct crypt_class *class)
{
	struct bt_list *at;

	while (class->buffers.left && (at = bt_list_pop(&class->waiting)))
		write_out(node, bt_list_entry(at, struct bt_request, link),
			  bt_buffers_take(&class->buffers));
}

/* A write goes to the end of its list even where a buffer is free: those that
 * wait are older. FUA and the like go down as they are; a dropped discard has
 * been done, as a discard promises nothing. */
/* A part of a sector cannot be encrypted alone. */
static void crypt_submit(struct bt_node *node, struct bt_request *req)
{
	struct crypt *crypt = node->data;
	struct crypt_class *class;

	if (bt_unlikely(bt_request_is_part(req, crypt->sector))) {
		bt_request_complete(req, -EINVAL);
		return;
	}
	if (req->op == BLKTAP_OP_DISCARD && !crypt->discards) {
		bt_request_complete(req, 0);
		return;
	}
	if (req->op != BLKTAP_OP_WRITE) {
		bt_port_submit(&node->ports[0], req);
		return;
	}
	class = class_of(crypt, req);
	bt_list_add_tail(&class->waiting, &req->link);
	serve(node, class);
}

/* What the leaf says of zeroes holds for its bytes, not for these. */
static void veil(struct bt_request *req)
{
	uint32_t i;

	for (i = 0; i < req->extent_count; i++)
		req->extents[i].flags &=
			~(uint32_t)(BLKTAP_EXTENT_ZERO | BLKTAP_EXTENT_HOLE);
}

static void crypt_complete(struct bt_node *node, struct bt_port *port,
			   struct bt_request *req)
{
	struct crypt_frame *frame = bt_request_frame(req);
	struct crypt *crypt = node->data;
	int error = req->error;

	(void)port;
	if (req->op == BLKTAP_OP_WRITE) {
		struct crypt_class *class = class_of(crypt, req);

		req->data = frame->data;
		/* before the request ends, which may bring the next write */
		bt_buffers_give(&class->buffers, frame->iov.iov_base);
		bt_request_complete(req, error);
		serve(node, class);
		return;
	}
	if (req->op == BLKTAP_OP_READ && !error)
		error = decrypt(crypt, req->offset, req->length, req->data);
	else if (req->op == BLKTAP_OP_BLOCK_STATUS && !error)
		veil(req);
	bt_request_complete(req, error);
}

static uint64_t crypt_memory(const struct bt_args *args, uint64_t size,
			     uint32_t edges)
{
	(void)args;
	(void)size;
	(void)edges;
	return sizeof(struct crypt) + bt_buffers_memory(SMALL_COUNT, SMALL) +
	       bt_buffers_memory(LARGE_COUNT, LARGE);
}

#else
static int crypt_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	(void)args;
	(void)flags;
	return bt_fail(err, -ENOTSUP, "install libgnutls28-dev and build anew",
		       "%s: built without a crypto library", node->name);
}

static void crypt_submit(struct bt_node *node, struct bt_request *req)
{
	(void)node;
	bt_request_complete(req, -ENOTSUP);
}
#endif

const struct blktap_class bt_crypt_class = {
	.name = "crypt",
	.summary = "encrypts what is below with AES-XTS, as dm-crypt's plain64",
	.params = params,
	.ports = ports,
	.operations = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_WRITE |
		      1u << BLKTAP_OP_DISCARD | 1u << BLKTAP_OP_BLOCK_STATUS,
	.passes = 1u << BLKTAP_OP_FLUSH | 1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_ENCRYPTS | BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.pause = BT_PAUSE_ALL,
	.open = crypt_open,
	.submit = crypt_submit,
#ifdef HAVE_GNUTLS
	.node_bytes = sizeof(struct crypt),
	.frame_bytes = sizeof(struct crypt_frame),
	.close = crypt_close,
	.get_limits = crypt_limits,
	.complete = crypt_complete,
	.get_memory = crypt_memory,
#endif
};
