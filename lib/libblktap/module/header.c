/* SPDX-License-Identifier: BSD-3-Clause */
/* The layout of a slot, little-endian:
 *
 *	0 magic[8]   8 kind[8]   16 version   20 flags   24 generation (8)
 *	32 uuid[16]  48 payload's length      60 crc32 of the slot, 0 here
 *	64 payload, zeroes behind it */
#include "module/header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#include "core/error.h"
#include "util/bytes.h"
#include "util/checked.h"

#define MAGIC "btmodule"
#define CLEAN 0x1u
#define CRC_AT 60u
#define PAYLOAD_AT 64u

int bt_header_init(struct bt_header *header, const char *kind, uint32_t version)
{
	memset(header, 0, sizeof(*header));
	strncpy(header->kind, kind, BT_HEADER_KIND);
	header->version = version;
	if (getrandom(header->uuid, sizeof(header->uuid), 0) !=
	    (ssize_t)sizeof(header->uuid))
		return -EIO;
	header->uuid[6] = (header->uuid[6] & 0x0f) | 0x40; /* random */
	header->uuid[8] = (header->uuid[8] & 0x3f) | 0x80;
	return 0;
}

/* Over all of the slot but the 4 bytes of the checksum, which count as zero.
 * What lies behind the payload is covered, too, so no byte of a slot can change
 * unseen. */
static uint32_t slot_crc(const unsigned char *slot)
{
	static const unsigned char zero[4];
	uLong crc = crc32(0, slot, CRC_AT);

	crc = crc32(crc, zero, sizeof(zero));
	return (uint32_t)crc32(crc, slot + PAYLOAD_AT, BT_HEADER_PAYLOAD);
}

/* header->length is the class's own doing and never more than
 * BT_HEADER_PAYLOAD. */
void bt_header_encode(const struct bt_header *header, void *slot)
{
	unsigned char *p = slot;

	memset(p, 0, BT_HEADER_SLOT);
	memcpy(p, MAGIC, 8);
	memcpy(p + 8, header->kind, BT_HEADER_KIND);
	bt_store_le32(p + 16, header->version);
	bt_store_le32(p + 20, header->clean ? CLEAN : 0);
	bt_store_le64(p + 24, header->generation);
	memcpy(p + 32, header->uuid, sizeof(header->uuid));
	bt_store_le32(p + 48, header->length);
	memcpy(p + PAYLOAD_AT, header->payload, header->length);
	bt_store_le32(p + CRC_AT, slot_crc(p));
}

/* The name of a class, and zeroes behind it: it is shown in messages. */
static bool is_kind(const unsigned char *kind)
{
	uint32_t i, n = 0;

	while (n < BT_HEADER_KIND && kind[n] > ' ' && kind[n] < 0x7f)
		n++;
	for (i = n; i < BT_HEADER_KIND; i++)
		if (kind[i])
			return false;
	return n;
}

/* The length is tested before the checksum and used after it. Bytes behind
 * `length` stay zero in *header, whatever the slot has there. */
int bt_header_decode(struct bt_header *header, const void *slot)
{
	static const unsigned char blank[BT_HEADER_SLOT];
	const unsigned char *p = slot;
	uint32_t length = bt_load_le32(p + 48);

	if (!memcmp(p, blank, BT_HEADER_SLOT))
		return -ENOENT;
	if (memcmp(p, MAGIC, 8) || length > BT_HEADER_PAYLOAD ||
	    !is_kind(p + 8) || bt_load_le32(p + CRC_AT) != slot_crc(p))
		return -EUCLEAN;
	memset(header, 0, sizeof(*header));
	memcpy(header->kind, p + 8, BT_HEADER_KIND);
	header->version = bt_load_le32(p + 16);
	header->clean = bt_load_le32(p + 20) & CLEAN;
	header->generation = bt_load_le64(p + 24);
	if (header->generation > INT64_MAX) /* the next one must be larger */
		return -EUCLEAN;
	memcpy(header->uuid, p + 32, sizeof(header->uuid));
	header->length = length;
	memcpy(header->payload, p + PAYLOAD_AT, length);
	return 0;
}

/* ---- while a node is opened ------------------------------------------------ */

int bt_header_check_transfer(const struct bt_node *node,
			     const struct bt_port *store, uint64_t need,
			     struct blktap_error **err)
{
	const struct bt_limits *limits = &store->lower->limits;

	if (limits->max_transfer >= need)
		return 0;
	return bt_fail(err, -EINVAL, "name another store",
		       "%s: '%s' takes %llu bytes at once, '%s' needs %llu",
		       node->name, store->lower->name,
		       (unsigned long long)limits->max_transfer, store->name,
		       (unsigned long long)need);
}

int bt_header_check_store(const struct bt_node *node,
			  const struct bt_port *store, uint64_t need,
			  struct blktap_error **err)
{
	const struct bt_limits *limits = &store->lower->limits;
	const char *name = store->lower->name;

	if (limits->block_size > BT_HEADER_SLOT)
		return bt_fail(err, -EINVAL, "give it blocks of at most 4096",
			       "%s: the block size %u of '%s' is too large for "
			       "'%s'",
			       node->name, limits->block_size, name,
			       store->name);
	if (limits->read_only)
		return bt_fail(err, -EROFS, NULL,
			       "%s: '%s' is read-only and cannot be '%s'",
			       node->name, name, store->name);
	if (limits->size < need)
		return bt_fail(err, -ENOSPC, "make it larger",
			       "%s: '%s' has %llu bytes, '%s' needs %llu",
			       node->name, name,
			       (unsigned long long)limits->size, store->name,
			       (unsigned long long)need);
	return bt_header_check_transfer(node, store, BT_HEADER_SLOT, err);
}

/* The newer one of the two slots. -ENOENT only where both slots are zeroes: a
 * store that was never used. One of zeroes and one that is damaged may be a
 * store whose very first header was torn, or one that has lost its only header;
 * nobody can tell, so it is not begun anew by itself. */
static int pick(struct bt_header *header, const unsigned char *area)
{
	struct bt_header *other = malloc(sizeof(*other));
	int first, second;

	if (!other)
		return -ENOMEM;
	first = bt_header_decode(header, area);
	second = bt_header_decode(other, area + BT_HEADER_SLOT);
	if (!second && (first || other->generation > header->generation))
		*header = *other;
	free(other);
	if (!first || !second)
		return 0;
	return first == -ENOENT && second == -ENOENT ? -ENOENT : -EUCLEAN;
}

/* Who names a disk's image as a store by mistake must not be told to clear it.
 * The first header goes to the second slot, and the first slot is not blank for
 * long (bt_header_write), so a store that was being made can be told from one
 * that was in use, but for one whose first slot something else has blanked. */
static int fail_damaged(const unsigned char *area, const char *name,
			struct blktap_error **err)
{
	const unsigned char *second = area + BT_HEADER_SLOT;
	struct bt_header unused;

	if (memcmp(area, MAGIC, 8) && memcmp(second, MAGIC, 8))
		return bt_fail(
			err, -EUCLEAN,
			"name another store; a new one has zeroes in its "
			"first 8 KiB",
			"'%s': holds other data, and is no store", name);
	if (bt_header_decode(&unused, area) == -ENOENT)
		return bt_fail(
			err, -EUCLEAN,
			"where it was being made when the system stopped, "
			"it keeps nothing yet: clear its first 8 KiB; "
			"else what it kept is lost",
			"'%s': the first header is damaged, and there is "
			"no second one",
			name);
	return bt_fail(
		err, -EUCLEAN,
		"clear its first 8 KiB to start it anew; what it kept is "
		"lost",
		"'%s': both copies of the header are damaged", name);
}

/* A smaller version is the class's to read; a larger one may mean anything. */
static int check_kind(const struct bt_port *store, const char *kind,
		      uint32_t version, const struct bt_header *header,
		      struct blktap_error **err)
{
	const char *name = store->lower->name;

	if (strcmp(header->kind, kind))
		return bt_fail(err, -EINVAL, "name another store",
			       "'%s' is the store of a '%s', not of a '%s'",
			       name, header->kind, kind);
	if (header->version > version)
		return bt_fail(err, -EINVAL, "use a newer version",
			       "'%s': layout %u of a '%s' is not known", name,
			       header->version, kind);
	return 0;
}

int bt_header_read(struct bt_port *store, const char *kind, uint32_t version,
		   struct bt_header *header, struct blktap_error **err)
{
	const char *name = store->lower->name;
	char reason[BT_STRERROR_MAX];
	unsigned char *area;
	int rc;

	area = aligned_alloc(BT_HEADER_SLOT, BT_HEADER_AREA);
	if (!area)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_node_transfer(store, BLKTAP_OP_READ, 0, area, BT_HEADER_AREA);
	if (rc < 0) {
		bt_fail(err, rc, NULL, "'%s': the header cannot be read: %s",
			name, bt_strerror(rc, reason));
	} else {
		rc = pick(header, area);
		if (rc == -EUCLEAN)
			fail_damaged(area, name, err);
	}
	free(area);
	return rc ? rc : check_kind(store, kind, version, header, err);
}

/* Makes what the slot holds the generation; returns where it goes. Generation g goes
 * to slot g & 1: never to the one that counts now. */
static uint64_t number(unsigned char *slot, uint64_t generation)
{
	bt_store_le64(slot + 24, generation);
	bt_store_le32(slot + CRC_AT, slot_crc(slot));
	return (generation & 1) * BT_HEADER_SLOT;
}

/* Fills slot with the next generation. The header itself is not changed, so a write
 * that fails is tried again with the same number, in the same slot. */
static uint64_t encode_next(const struct bt_header *header, unsigned char *slot)
{
	bt_header_encode(header, slot);
	return number(slot, header->generation + 1);
}

static int write_one(struct bt_port *store, struct bt_header *header)
{
	unsigned char *slot = aligned_alloc(BT_HEADER_SLOT, BT_HEADER_SLOT);
	uint64_t offset;
	int rc;

	if (!slot)
		return -ENOMEM;
	offset = encode_next(header, slot);
	rc = bt_node_transfer(store, BLKTAP_OP_WRITE, offset, slot,
			      BT_HEADER_SLOT);
	/* without this flush the caller could go on while the disk holds the
	 * old header still */
	if (!rc)
		rc = bt_node_transfer(store, BLKTAP_OP_FLUSH, 0, NULL, 0);
	if (!rc)
		header->generation++;
	free(slot);
	return rc;
}

/* A new store gets both its copies before anything is kept in it. */
int bt_header_write(struct bt_port *store, struct bt_header *header)
{
	bool first = !header->generation;
	int rc = write_one(store, header);

	return !rc && first ? write_one(store, header) : rc;
}

/* ---- while requests run ---------------------------------------------------- */

int bt_header_writer_init(struct bt_header_writer *writer, struct bt_node *node,
			  struct bt_port *store, struct bt_header *header)
{
	memset(writer, 0, sizeof(*writer));
	writer->store = store;
	writer->header = header;
	writer->slot = aligned_alloc(BT_HEADER_SLOT, BT_HEADER_SLOT);
	if (!writer->slot)
		return -ENOMEM;
	writer->iov.iov_base = writer->slot;
	writer->iov.iov_len = BT_HEADER_SLOT;
	return bt_node_add_pool(node, 1, sizeof(struct bt_request),
				&writer->pool);
}

uint64_t bt_header_writer_memory(void)
{
	return BT_HEADER_SLOT +
	       bt_node_pool_memory(1, sizeof(struct bt_request));
}

void bt_header_writer_fini(struct bt_header_writer *writer)
{
	free(writer->slot);
	writer->slot = NULL;
}

/* An error leaves the generation as it was. The slot may hold the new header or
 * the old one or be torn, and the next write goes to the same place; so the
 * caller takes for granted neither that it is there nor that it is not. */
static void ended(struct bt_header_writer *writer, struct bt_request *req)
{
	int error = req->error;

	bt_pool_give(req);
	writer->busy = false;
	if (!error)
		writer->header->generation++;
	writer->fn(writer, error);
}

static void send(struct bt_header_writer *writer, struct bt_request *req,
		 uint64_t offset);

/* A new store gets both its copies before anything is kept in it, as with
 * bt_header_write: the same bytes again, with the next number. */
static void flushed(struct bt_request *req)
{
	struct bt_header_writer *writer = req->opaque;

	if (req->error || writer->header->generation)
		ended(writer, req);
	else
		send(writer, req,
		     number(writer->slot, ++writer->header->generation + 1));
}

/* The same request goes on as the flush: one child does for both. */
static void written(struct bt_request *req)
{
	struct bt_header_writer *writer = req->opaque;

	if (req->error) {
		ended(writer, req);
		return;
	}
	req->op = BLKTAP_OP_FLUSH;
	req->offset = 0;
	req->length = 0;
	req->done = flushed;
	bt_port_submit(writer->store, req);
}

static void send(struct bt_header_writer *writer, struct bt_request *req,
		 uint64_t offset)
{
	req->op = BLKTAP_OP_WRITE;
	req->offset = offset;
	req->length = BT_HEADER_SLOT;
	req->data = (struct bt_sgl){ .iov = &writer->iov, .count = 1 };
	req->done = written;
	req->opaque = writer;
	bt_port_submit(writer->store, req);
}

void bt_header_writer_go(struct bt_header_writer *writer,
			 void (*fn)(struct bt_header_writer *writer, int error))
{
	struct bt_request *req = bt_pool_take(writer->pool);

	writer->busy = true;
	writer->fn = fn;
	send(writer, req, encode_next(writer->header, writer->slot));
}
