/* SPDX-License-Identifier: BSD-3-Clause */
/* The layout of an entry's block, little-endian:
 *
 *	0 magic[8]   8 uuid[16]    24 sequence (8)  32 began (8)
 *	40 offset (8)  48 length (8)  56 kind  60 flags  64 crc32 of what is before
 *
 * A log is read from its store by the caller's function, so that it may be a file,
 * memory or a disk. Everything in it is checked: it may be a log that a crash cut
 * short, or no log. */
#include "module/writelog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "module/later.h"
#include "util/bytes.h"
#include "util/checked.h"

#define MAGIC "btwrites"
#define CRC_AT 64u
#define SECTOR 512u

/* ---- entries -------------------------------------------------------------- */

static uint32_t block_crc(const unsigned char *block)
{
	return (uint32_t)crc32(0, block, CRC_AT);
}

void bt_writelog_encode(const struct bt_writelog_entry *entry,
			const unsigned char *uuid, void *block)
{
	unsigned char *p = block;

	memset(p, 0, BT_WRITELOG_BLOCK);
	memcpy(p, MAGIC, 8);
	memcpy(p + 8, uuid, 16);
	bt_store_le64(p + 24, entry->sequence);
	bt_store_le64(p + 32, entry->began);
	bt_store_le64(p + 40, entry->offset);
	bt_store_le64(p + 48, entry->length);
	bt_store_le32(p + 56, entry->kind);
	bt_store_le32(p + 60, entry->flags);
	bt_store_le32(p + CRC_AT, block_crc(p));
}

/* The checksum is over the 64 bytes before it and says nothing of the data,
 * which was written in the same request: an entry that a crash tore may have a
 * good block and bad data. */
int bt_writelog_decode(struct bt_writelog_entry *entry,
		       const unsigned char *uuid, uint64_t disk_size,
		       const void *block)
{
	const unsigned char *p = block;

	if (memcmp(p, MAGIC, 8) || memcmp(p + 8, uuid, 16) ||
	    bt_load_le32(p + CRC_AT) != block_crc(p))
		return -EUCLEAN;
	entry->sequence = bt_load_le64(p + 24);
	entry->began = bt_load_le64(p + 32);
	entry->offset = bt_load_le64(p + 40);
	entry->length = bt_load_le64(p + 48);
	entry->kind = bt_load_le32(p + 56);
	entry->flags = bt_load_le32(p + 60);
	if (entry->kind < BT_WRITELOG_WRITE ||
	    entry->kind > BT_WRITELOG_FLUSH || entry->flags > BT_WRITELOG_FUA ||
	    entry->began >= entry->sequence ||
	    !bt_range_within(entry->offset, entry->length, disk_size) ||
	    (entry->kind == BT_WRITELOG_WRITE &&
	     entry->length > BT_WRITELOG_DATA))
		return -EUCLEAN;
	return 0;
}

uint64_t bt_writelog_bytes(const struct bt_writelog_entry *entry)
{
	uint64_t data = entry->kind == BT_WRITELOG_WRITE ? entry->length : 0;

	return BT_WRITELOG_BLOCK +
	       bt_align_down(data + BT_WRITELOG_BLOCK - 1, BT_WRITELOG_BLOCK);
}

/* ---- walking -------------------------------------------------------------- */

/* The entry at *pos with the sequence number given; 1, 0 at the end of the log, or
 * a negative errno. *pos goes to the next. Any reason for which this is not the
 * entry that should come is the log's end, not an error: a crash leaves one
 * there. -errno is of reading alone. */
static int next(const struct bt_replay *replay, uint64_t sequence,
		uint64_t *pos, struct bt_writelog_entry *entry,
		unsigned char *buf, bool with_data)
{
	uint64_t need;
	int rc;

	if (!bt_range_within(*pos, BT_WRITELOG_BLOCK, replay->log_size))
		return 0;
	rc = replay->read(replay->opaque, *pos, buf, BT_WRITELOG_BLOCK);
	if (rc < 0)
		return rc;
	if (bt_writelog_decode(entry, replay->uuid, replay->disk_size, buf) <
		    0 ||
	    entry->sequence != sequence)
		return 0;
	need = bt_writelog_bytes(entry);
	if (!bt_range_within(*pos, need, replay->log_size))
		return 0;
	if (with_data && need > BT_WRITELOG_BLOCK)
		rc = replay->read(replay->opaque, *pos + BT_WRITELOG_BLOCK, buf,
				  need - BT_WRITELOG_BLOCK);
	*pos += need;
	return rc < 0 ? rc : 1;
}

/* Data is not read; bt_replay_each does that. */
static int count_entries(struct bt_replay *replay, unsigned char *buf)
{
	struct bt_writelog_entry entry;
	int rc;

	replay->entries = 0;
	replay->bytes = BT_HEADER_AREA;
	while ((rc = next(replay, replay->entries + 1, &replay->bytes, &entry,
			  buf, false)) > 0)
		replay->entries++;
	return rc;
}

/* The newer of the two slots that make sense. As bt_header_read does it, but
 * from the caller's bytes. */
static int read_header(struct bt_replay *replay, unsigned char *buf)
{
	struct bt_header header;
	uint64_t generation = 0;
	int i, rc, result = -ENOENT;

	if (replay->log_size < BT_HEADER_AREA)
		return -ENOENT;
	for (i = 0; i < 2; i++) {
		rc = replay->read(replay->opaque, (uint64_t)i * BT_HEADER_SLOT,
				  buf, BT_HEADER_SLOT);
		if (rc < 0)
			return rc;
		rc = bt_header_decode(&header, buf);
		if (rc == -EUCLEAN && result == -ENOENT)
			result = rc;
		if (rc < 0 || strcmp(header.kind, "writelog") ||
		    header.version != BT_WRITELOG_VERSION ||
		    header.length < 8 || header.generation < generation)
			continue;
		result = 0;
		generation = header.generation;
		memcpy(replay->uuid, header.uuid, sizeof(replay->uuid));
		replay->disk_size = bt_load_le64(header.payload);
	}
	return result;
}

int bt_replay_open(struct bt_replay *replay)
{
	unsigned char *buf = malloc(BT_HEADER_SLOT);
	int rc = buf ? read_header(replay, buf) : -ENOMEM;

	if (!rc)
		rc = count_entries(replay, buf);
	free(buf);
	return rc;
}

int bt_replay_each(const struct bt_replay *replay,
		   int (*fn)(void *opaque,
			     const struct bt_writelog_entry *entry,
			     const void *data),
		   void *opaque)
{
	unsigned char *buf = malloc(BT_WRITELOG_DATA + BT_WRITELOG_BLOCK);
	uint64_t pos = BT_HEADER_AREA, i;
	struct bt_writelog_entry entry;
	int rc = buf ? 1 : -ENOMEM;

	for (i = 1; rc > 0 && i <= replay->entries; i++) {
		rc = next(replay, i, &pos, &entry, buf, true);
		if (rc <= 0)
			rc = rc ? rc : -EUCLEAN; /* it changed meanwhile */
		else
			rc = fn(opaque, &entry,
				entry.kind == BT_WRITELOG_WRITE ? buf : NULL);
		/* 0 from fn is "go on" */
		rc = rc ? rc : 1;
		if (rc != 1)
			break;
	}
	free(buf);
	return rc == 1 ? 0 : rc;
}

/* ---- cuts ----------------------------------------------------------------- */

struct cut {
	uint64_t at;
	uint64_t durable; /* up to here, by the last flush before the cut */
	enum bt_cut cut;
	uint64_t *random;
	int (*write)(void *opaque, uint64_t offset, const void *data,
		     uint64_t length);
	void *opaque;
};

static int find_flush(void *opaque, const struct bt_writelog_entry *entry,
		      const void *data)
{
	struct cut *cut = opaque;

	if (entry->kind == BT_WRITELOG_FLUSH && entry->sequence <= cut->at)
		cut->durable = bt_max_u64(cut->durable, entry->began);
	return 0;
}

/* A sector is written whole or not at all, as disks promise; its bounds are the
 * disk's, not the entry's. */
static int write_torn(struct cut *cut, const struct bt_writelog_entry *entry,
		      const unsigned char *data)
{
	uint64_t at, n;
	int rc = 0;

	for (at = 0; at < entry->length && !rc; at += n) {
		n = bt_min_u64(SECTOR - (entry->offset + at) % SECTOR,
			       entry->length - at);
		if (bt_chance(cut->random) & 1)
			rc = cut->write(cut->opaque, entry->offset + at,
					data ? data + at : NULL, n);
	}
	return rc;
}

/* Done: completed before the cut. Durable: a flush that began behind it has
 * completed before the cut. What had not begun is not there. In the log's
 * order, so of two writes to a place the later counts; two that were in flight
 * at once may have got there in either order, of which this is one. */
static int apply(void *opaque, const struct bt_writelog_entry *entry,
		 const void *data)
{
	struct cut *cut = opaque;
	bool done = entry->sequence <= cut->at;
	bool durable = entry->sequence <= cut->durable ||
		       (done && entry->flags & BT_WRITELOG_FUA);

	if (entry->kind == BT_WRITELOG_FLUSH || entry->began > cut->at)
		return 0;
	if (!durable) {
		if (cut->cut == BT_CUT_NOTHING ||
		    (cut->cut == BT_CUT_ALL && !done))
			return 0;
		if (cut->cut == BT_CUT_SOME && bt_chance(cut->random) & 1)
			return 0;
		if (cut->cut == BT_CUT_TORN)
			return write_torn(cut, entry, data);
	}
	return cut->write(cut->opaque, entry->offset, data, entry->length);
}

int bt_replay_cut(const struct bt_replay *replay, uint64_t at, enum bt_cut kind,
		  uint64_t *random,
		  int (*write)(void *opaque, uint64_t offset, const void *data,
			       uint64_t length),
		  void *opaque)
{
	struct cut cut = { .at = at,
			   .cut = kind,
			   .random = random,
			   .write = write,
			   .opaque = opaque };
	int rc = bt_replay_each(replay, find_flush, &cut);

	return rc ? rc : bt_replay_each(replay, apply, &cut);
}
