/* SPDX-License-Identifier: BSD-3-Clause */
/* The store: a header, and a table of sectors of 512 bytes, each for 63 granules:
 *
 *	0       header; payload: granule (4), zero (4), size (8), epoch (8)
 *	8 KiB   epoch (8), then for each granule: before (4), after (4)
 *
 * Both are the crc32 of a granule, xor that of zeroes: so that a store of zeroes
 * speaks of a disk of zeroes. The granule below holds the one or the other, and
 * "after" for certain where the epoch is the present one. A granule is no larger
 * than what a disk writes whole, and a sector of the table is written whole too: so
 * a power cut leaves nothing that does not match. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"
#include "module/checksum.h"
#include "util/bytes.h"
#include "util/checked.h"

#define LAYOUT 1u
#define PAYLOAD 24u

/* Whole blocks of the store, so reading and writing the part needs no block
 * cut. */
void bt_sum_place(const struct bt_sums *sums, uint64_t offset, uint64_t length,
		  uint64_t *at, uint64_t *bytes)
{
	uint64_t block = sums->store->lower->limits.block_size, end;
	uint64_t first = offset / sums->granule / BT_SUM_ENTRIES;
	uint64_t last = (offset + length - 1) / sums->granule / BT_SUM_ENTRIES;

	*at = bt_align_down(BT_HEADER_AREA + first * BT_SUM_SECTOR, block);
	end = BT_HEADER_AREA + (last + 1) * BT_SUM_SECTOR;
	*bytes = bt_align_down(end + block - 1, block) - *at;
}

/* The part holds all sectors of the request, since bt_sum_place was asked for
 * its range. */
static unsigned char *sector(const struct bt_sum_frame *frame, uint64_t granule)
{
	uint64_t at = BT_HEADER_AREA +
		      granule / BT_SUM_ENTRIES * BT_SUM_SECTOR -
		      frame->table_at;

	return (unsigned char *)frame->table + at;
}

static unsigned char *entry(const struct bt_sum_frame *frame, uint64_t granule)
{
	return sector(frame, granule) + 8 + granule % BT_SUM_ENTRIES * 8;
}

/* Takes a granule off the window, which need not lie in one piece; moves it on.
 */
static uint32_t crc_of(const struct bt_sums *sums, struct bt_sgl *data)
{
	uint32_t left = sums->granule;
	uLong crc = crc32(0, NULL, 0);

	while (left && data->count) {
		size_t n = data->iov->iov_len - data->skip;

		n = (size_t)bt_min_u64(n, left);
		crc = crc32(crc,
			    (const Bytef *)data->iov->iov_base + data->skip,
			    (uInt)n);
		left -= (uint32_t)n;
		bt_sgl_advance(data, n);
	}
	return (uint32_t)crc ^ sums->zero_crc;
}

static uint64_t first_of(const struct bt_sum_frame *frame)
{
	return frame->req->offset / frame->sums->granule;
}

static uint64_t end_of(const struct bt_sum_frame *frame)
{
	return first_of(frame) + frame->req->length / frame->sums->granule;
}

/* "after" holds: what was written in this epoch has been answered without an
 * error. */
static bool is_certain(const struct bt_sum_frame *frame, uint64_t granule)
{
	return frame->sums->epoch != UINT64_MAX &&
	       bt_load_le64(sector(frame, granule)) == frame->sums->epoch;
}

/* Both checksums are right where it is not certain which of them the data is.
 */
bool bt_sum_verify(const struct bt_sum_frame *frame, const struct bt_sgl *data,
		   uint64_t *bad)
{
	struct bt_sgl at = *data;
	uint64_t g;

	for (g = first_of(frame); g < end_of(frame); g++) {
		const unsigned char *e = entry(frame, g);
		uint32_t crc = crc_of(frame->sums, &at);

		if (crc == bt_load_le32(e + 4) ||
		    (crc == bt_load_le32(e) && !is_certain(frame, g)))
			continue;
		*bad = g * frame->sums->granule;
		return false;
	}
	return true;
}

static bool is_settled(const unsigned char *e)
{
	return bt_load_le32(e) == bt_load_le32(e + 4);
}

/* NOTHING: one checksum each. FLUSH: two, of which the later is there, but
 * perhaps not durable yet; with it durable the earlier can be given up. READ:
 * two, and either may be the data's. */
enum bt_sum_need bt_sum_look(const struct bt_sum_frame *frame)
{
	enum bt_sum_need need = BT_SUM_NOTHING;
	uint64_t g;

	for (g = first_of(frame); g < end_of(frame); g++) {
		if (is_settled(entry(frame, g)))
			continue;
		if (!is_certain(frame, g))
			return BT_SUM_READ;
		need = BT_SUM_FLUSH;
	}
	return need;
}

/* Behind this each entry has one checksum, twice. Nothing is written yet:
 * enter() puts the new one in and writes both in one go. */
void bt_sum_settle(const struct bt_sum_frame *frame, const char *scratch)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)scratch,
			     .iov_len = frame->req->length };
	struct bt_sgl at = { .iov = &iov, .count = 1 };
	uint64_t g;

	for (g = first_of(frame); g < end_of(frame); g++) {
		unsigned char *e = entry(frame, g);
		uint32_t now = bt_load_le32(e + 4);

		/* what is neither is damaged, and about to be written over */
		if (scratch && crc_of(frame->sums, &at) == bt_load_le32(e))
			now = bt_load_le32(e);
		bt_store_le32(e, now);
		bt_store_le32(e + 4, now);
	}
}

/* A sector gets the present epoch when nothing in it is left in doubt. */
static void stamp(const struct bt_sum_frame *frame, uint64_t granule)
{
	unsigned char *p = sector(frame, granule);
	uint64_t first = granule - granule % BT_SUM_ENTRIES;
	uint32_t i;

	if (is_certain(frame, granule) || frame->sums->epoch == UINT64_MAX)
		return;
	/* what this request does not touch must be settled, or a sector of the
	 * present epoch would make it certain */
	for (i = 0; i < BT_SUM_ENTRIES; i++)
		if ((first + i < first_of(frame) ||
		     first + i >= end_of(frame)) &&
		    !is_settled(p + 8 + 8 * i))
			return;
	bt_store_le64(p, frame->sums->epoch);
}

/* An entry that the request covers ends with before and after; others of its
 * sectors stay. */
void bt_sum_enter(const struct bt_sum_frame *frame, const struct bt_sgl *data)
{
	struct bt_sgl at = { .count = 0 };
	uint64_t g;

	if (data)
		at = *data;
	for (g = first_of(frame); g < end_of(frame); g++) {
		if (g == first_of(frame) || g % BT_SUM_ENTRIES == 0)
			stamp(frame, g);
		bt_store_le32(entry(frame, g) + 4,
			      data ? crc_of(frame->sums, &at) : 0);
	}
}

/* ---- opening ---------------------------------------------------------------- */

/* epoch is tested so that it can be rounded up; each opening uses BT_SUM_EPOCHS
 * of 2^63. */
static int check(struct bt_sums *sums, struct blktap_error **err)
{
	const unsigned char *p = sums->header.payload;
	const char *name = sums->store->lower->name;

	if (sums->header.length != PAYLOAD)
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': the header has %u bytes of checksums, "
			       "not %u",
			       name, sums->header.length, PAYLOAD);
	if (bt_load_le32(p) != sums->granule)
		return bt_fail(err, -EINVAL, "put it over the same disk",
			       "'%s': holds checksums of %u bytes, the blocks "
			       "are %u now",
			       name, bt_load_le32(p), sums->granule);
	if (bt_load_le64(p + 8) != sums->size)
		return bt_fail(err, -EINVAL, "name another store",
			       "'%s': holds checksums of a disk of %llu bytes",
			       name, (unsigned long long)bt_load_le64(p + 8));
	if (bt_load_le64(p + 16) > INT64_MAX)
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': epoch %llu is out of range", name,
			       (unsigned long long)bt_load_le64(p + 16));
	sums->epoch = bt_load_le64(p + 16);
	return 0;
}

/* Takes the disk as it is for right: once, before there is a header. Through
 * the same code as a write, with a request that is none: offset and length are
 * all it looks at. */
static int adopt_range(struct bt_sums *sums, uint64_t at, uint64_t length)
{
	struct bt_request fake = { .offset = at, .length = length };
	struct bt_sum_frame frame = { .sums = sums, .req = &fake };
	struct iovec iov = { .iov_base = sums->scratch, .iov_len = length };
	struct bt_sgl sgl = { .iov = &iov, .count = 1 };
	int rc;

	bt_sum_place(sums, at, length, &frame.table_at, &frame.table_len);
	frame.table = bt_buffers_take(&sums->buffers);
	rc = bt_node_transfer(sums->lower, BLKTAP_OP_READ, at, sums->scratch,
			      length);
	if (!rc)
		rc = bt_node_transfer(sums->store, BLKTAP_OP_READ,
				      frame.table_at, frame.table,
				      frame.table_len);
	if (!rc) {
		bt_sum_enter(&frame, &sgl);
		bt_sum_settle(&frame, NULL);
		rc = bt_node_transfer(sums->store, BLKTAP_OP_WRITE,
				      frame.table_at, frame.table,
				      frame.table_len);
	}
	bt_buffers_give(&sums->buffers, frame.table);
	return rc;
}

static bool is_zero(const char *p, uint64_t length)
{
	return !p[0] && !memcmp(p, p + 1, length - 1);
}

/* Behind a header that somebody cleared, as he is told to where it is damaged,
 * the sums of another disk may lie. A table that is zero is not written, and of a new
 * file, which is known to be, not even read. */
static int clear_table(struct bt_sums *sums)
{
	uint64_t end = BT_HEADER_AREA + sums->sectors * BT_SUM_SECTOR;
	uint64_t at, n;
	int rc = 0;

	for (at = BT_HEADER_AREA; !rc && at < end; at += n) {
		n = bt_align_down(bt_node_zeroes(sums->store, at, end - at),
				  BT_HEADER_SLOT);
		if (n)
			continue;
		n = bt_min_u64(BT_SUM_TRANSFER, end - at);
		rc = bt_node_transfer(sums->store, BLKTAP_OP_READ, at,
				      sums->scratch, n);
		if (rc || is_zero(sums->scratch, n))
			continue;
		memset(sums->scratch, 0, n);
		rc = bt_node_transfer(sums->store, BLKTAP_OP_WRITE, at,
				      sums->scratch, n);
	}
	return rc;
}

static int flush(struct bt_port *port)
{
	int rc = bt_node_transfer(port, BLKTAP_OP_FLUSH, 0, NULL, 0);

	return rc == -ENOTSUP ? 0 : rc;
}

static int begin(struct bt_sums *sums, bool adopt, struct blktap_error **err)
{
	uint64_t at, length;
	int rc = bt_header_init(&sums->header, "checksum", LAYOUT);

	sums->is_new = true;
	sums->header.length = PAYLOAD;
	sums->header.clean = true; /* it is whole at every moment */
	bt_store_le32(sums->header.payload, sums->granule);
	bt_store_le64(sums->header.payload + 8, sums->size);
	if (!rc)
		rc = clear_table(sums);
	/* what is not on disk may be gone after a power cut */
	if (!rc && adopt)
		rc = flush(sums->lower);
	for (at = 0; !rc && adopt && at < sums->size; at += length) {
		length = bt_min_u64(BT_SUM_TRANSFER, sums->size - at);
		rc = adopt_range(sums, at, length);
	}
	/* the header comes behind what it stands for; the table of a new store:
	 * zeroes, which say that the disk is zeroes, or what was adopted */
	if (!rc)
		rc = flush(sums->store);
	if (rc < 0)
		return bt_fail(err, rc, NULL,
			       "%s: the disk cannot be taken over",
			       sums->node->name);
	return 0;
}

int bt_sum_open_store(struct bt_sums *sums, bool adopt,
		      struct blktap_error **err)
{
	int rc;

	rc = bt_header_check_store(
		sums->node, sums->store,
		BT_HEADER_AREA + sums->sectors * BT_SUM_SECTOR, err);
	if (rc < 0)
		return rc;
	rc = bt_header_read(sums->store, "checksum", LAYOUT, &sums->header,
			    err);
	if (rc == -ENOENT)
		rc = begin(sums, adopt, err);
	else if (!rc)
		rc = check(sums, err);
	if (rc < 0)
		return rc;
	/* a new range of epochs, durable in the header before a request uses
	 * one; a new store writes its header at the first request (made) */
	sums->epoch = bt_align_down(sums->epoch, BT_SUM_EPOCHS) + BT_SUM_EPOCHS;
	bt_store_le64(sums->header.payload + 16, sums->epoch);
	if (!sums->is_new)
		rc = bt_header_write(sums->store, &sums->header);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: '%s' cannot be written",
			       sums->node->name, sums->store->lower->name);
	return 0;
}
