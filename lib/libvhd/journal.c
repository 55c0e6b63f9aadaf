/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal's header and entries, all numbers big-endian. The format is the
 * older blktap's, so that a journal which that left can be undone.
 *
 *   header   0 cookie "vjournal"   8 uuid   24 footer_offset   32 data_entries
 *            36 metadata_entries   40 data_offset   48 metadata_offset   56 eof
 *   entry    0 cookie   8 type   12 size   16 offset   24 checksum   28 not used
 */
#include <errno.h>
#include <string.h>

#include "libvhd/journal.h"
#include "util/bytes.h"
#include "util/checked.h"

enum {
	OFF_UUID = 8,
	OFF_FOOTER_OFFSET = 24,
	OFF_DATA_ENTRIES = 32,
	OFF_METADATA_ENTRIES = 36,
	OFF_DATA_OFFSET = 40,
	OFF_METADATA_OFFSET = 48,
	OFF_EOF = 56,
};

enum {
	ENTRY_OFF_TYPE = 8,
	ENTRY_OFF_SIZE = 12,
	ENTRY_OFF_OFFSET = 16,
	ENTRY_OFF_CHECKSUM = 24,
};

#define ENTRY_COOKIE UINT64_C(0xaaaa12344321aaaa)

static const char cookie[8] = "vjournal";

/* An empty journal ends with its header, so the first entry goes right behind
 * that. */
void bt_vhd_journal_init(struct bt_vhd_journal *j,
			 const uint8_t uuid[BT_VHD_UUID_SIZE],
			 uint64_t footer_offset)
{
	memset(j, 0, sizeof(*j));
	memcpy(j->uuid, uuid, sizeof(j->uuid));
	j->footer_offset = footer_offset;
	j->eof = BT_VHD_JOURNAL_HEADER_SIZE;
}

/* No checksum covers the header: bt_vhd_journal_check and those of the entries
 * have to do. */
int bt_vhd_journal_decode(const void *buf, size_t len, struct bt_vhd_journal *j,
			  struct bt_fault *fault)
{
	const uint8_t *p = buf;

	if (len < BT_VHD_JOURNAL_HEADER_SIZE || memcmp(p, cookie, 8))
		return bt_fault_set(fault, -EINVAL, "journal cookie",
				    len < 8 ? 0 : bt_load_be64(p),
				    "this is no journal of a VHD",
				    "check the name given with -j");
	memcpy(j->uuid, p + OFF_UUID, sizeof(j->uuid));
	j->footer_offset = bt_load_be64(p + OFF_FOOTER_OFFSET);
	j->data_entries = bt_load_be32(p + OFF_DATA_ENTRIES);
	j->metadata_entries = bt_load_be32(p + OFF_METADATA_ENTRIES);
	j->data_offset = bt_load_be64(p + OFF_DATA_OFFSET);
	j->metadata_offset = bt_load_be64(p + OFF_METADATA_OFFSET);
	j->eof = bt_load_be64(p + OFF_EOF);
	return 0;
}

/* All of the sector is set, so what a device had there before is gone. */
void bt_vhd_journal_encode(const struct bt_vhd_journal *j, void *buf)
{
	uint8_t *p = buf;

	memset(p, 0, BT_VHD_JOURNAL_HEADER_SIZE);
	memcpy(p, cookie, sizeof(cookie));
	memcpy(p + OFF_UUID, j->uuid, sizeof(j->uuid));
	bt_store_be64(p + OFF_FOOTER_OFFSET, j->footer_offset);
	bt_store_be32(p + OFF_DATA_ENTRIES, j->data_entries);
	bt_store_be32(p + OFF_METADATA_ENTRIES, j->metadata_entries);
	bt_store_be64(p + OFF_DATA_OFFSET, j->data_offset);
	bt_store_be64(p + OFF_METADATA_OFFSET, j->metadata_offset);
	bt_store_be64(p + OFF_EOF, j->eof);
}

/* The first entry of a kind, where there is one, lies inside the journal. An
 * entry has at least a sector of data. */
static int check_first(const struct bt_vhd_journal *j, const char *name,
		       uint32_t entries, uint64_t offset,
		       struct bt_fault *fault)
{
	uint64_t least =
		(uint64_t)entries * (BT_VHD_JOURNAL_ENTRY_SIZE + BT_VHD_SECTOR);

	if (entries && (offset < BT_VHD_JOURNAL_HEADER_SIZE ||
			!bt_range_within(offset, least, j->eof)))
		return bt_fault_set(fault, -EINVAL, name, offset,
				    "its entries end past the journal", NULL);
	return 0;
}

/* eof bounds every later read; what lies behind it is what a crash left. */
int bt_vhd_journal_check(const struct bt_vhd_journal *j, const uint8_t *uuid,
			 uint64_t file_size, struct bt_fault *fault)
{
	int err;

	if (uuid && memcmp(uuid, j->uuid, sizeof(j->uuid)))
		return bt_fault_set(fault, -EINVAL, "journal uuid",
				    bt_load_be64(j->uuid),
				    "the journal is of another VHD",
				    "check the name given with -j");
	if (j->eof < BT_VHD_JOURNAL_HEADER_SIZE || j->eof > file_size)
		return bt_fault_set(fault, -EINVAL, "journal_eof", j->eof,
				    "past the end of the journal", NULL);
	if (j->footer_offset > INT64_MAX - BT_VHD_FOOTER_SIZE)
		return bt_fault_set(fault, -EINVAL, "vhd_footer_offset",
				    j->footer_offset,
				    "no file can be that long", NULL);
	err = check_first(j, "journal_data_offset", j->data_entries,
			  j->data_offset, fault);
	if (!err)
		err = check_first(j, "journal_metadata_offset",
				  j->metadata_entries, j->metadata_offset,
				  fault);
	return err;
}

/* Nothing is read or written by an entry before all of this holds. */
static int check_entry(const struct bt_vhd_journal *j, uint64_t at,
		       const struct bt_vhd_journal_entry *e,
		       struct bt_fault *fault)
{
	if (e->type < BT_VHD_JOURNAL_FOOTER || e->type > BT_VHD_JOURNAL_DATA)
		return bt_fault_set(fault, -EINVAL, "journal entry type",
				    e->type, "there is no such type", NULL);
	if (!e->size || e->size % BT_VHD_SECTOR ||
	    e->size > BT_VHD_JOURNAL_DATA_MAX)
		return bt_fault_set(fault, -EINVAL, "journal entry size",
				    e->size,
				    "not in whole sectors, or too large", NULL);
	if (!bt_range_within(at, (uint64_t)e->size + BT_VHD_JOURNAL_ENTRY_SIZE,
			     j->eof))
		return bt_fault_set(fault, -EINVAL, "journal entry size",
				    e->size, "it ends past the journal", NULL);
	if (!bt_range_within(e->offset, e->size, INT64_MAX))
		return bt_fault_set(fault, -EINVAL, "journal entry offset",
				    e->offset, "no file can be that long",
				    NULL);
	return 0;
}

/* e->checksum is not looked at before the data has been read. */
int bt_vhd_journal_entry_decode(const struct bt_vhd_journal *j, uint64_t at,
				const void *buf, size_t len,
				struct bt_vhd_journal_entry *e,
				struct bt_fault *fault)
{
	const uint8_t *p = buf;

	if (len < BT_VHD_JOURNAL_ENTRY_SIZE || bt_load_be64(p) != ENTRY_COOKIE)
		return bt_fault_set(fault, -EINVAL, "journal entry cookie",
				    len < 8 ? 0 : bt_load_be64(p),
				    "there is no entry here", NULL);
	e->type = bt_load_be32(p + ENTRY_OFF_TYPE);
	e->size = bt_load_be32(p + ENTRY_OFF_SIZE);
	e->offset = bt_load_be64(p + ENTRY_OFF_OFFSET);
	e->checksum = bt_load_be32(p + ENTRY_OFF_CHECKSUM);
	return check_entry(j, at, e, fault);
}

/* Ones' complement of a sum goes together from the parts' own. The last four
 * bytes of an entry count: the older blktap never set them. */
static uint32_t entry_checksum(const uint8_t *header, const void *data,
			       uint32_t size)
{
	return ~(~bt_vhd_checksum(header, BT_VHD_JOURNAL_ENTRY_SIZE,
				  ENTRY_OFF_CHECKSUM) +
		 ~bt_vhd_checksum(data, size, size));
}

/* header is the entry as it was read: the sum is over those bytes too, so a
 * wrong place is found as surely as wrong data. */
int bt_vhd_journal_entry_check(const struct bt_vhd_journal_entry *e,
			       const void *header, const void *data,
			       struct bt_fault *fault)
{
	if (entry_checksum(header, data, e->size) != e->checksum)
		return bt_fault_set(fault, -EINVAL, "journal entry checksum",
				    e->checksum, "the journal was damaged",
				    NULL);
	return 0;
}

/* The sum comes last, as it is over the other fields as well. */
void bt_vhd_journal_entry_encode(const struct bt_vhd_journal_entry *e,
				 const void *data, void *buf)
{
	uint8_t *p = buf;

	memset(p, 0, BT_VHD_JOURNAL_ENTRY_SIZE);
	bt_store_be64(p, ENTRY_COOKIE);
	bt_store_be32(p + ENTRY_OFF_TYPE, e->type);
	bt_store_be32(p + ENTRY_OFF_SIZE, e->size);
	bt_store_be64(p + ENTRY_OFF_OFFSET, e->offset);
	bt_store_be32(p + ENTRY_OFF_CHECKSUM, entry_checksum(p, data, e->size));
}

/* Offsets of the first entries are what the older blktap goes by; ours goes
 * through all in a row. */
void bt_vhd_journal_added(struct bt_vhd_journal *j,
			  const struct bt_vhd_journal_entry *e)
{
	bool data = e->type == BT_VHD_JOURNAL_DATA;
	uint32_t *entries = data ? &j->data_entries : &j->metadata_entries;
	uint64_t *first = data ? &j->data_offset : &j->metadata_offset;

	if (!(*entries)++)
		*first = j->eof;
	j->eof += (uint64_t)e->size + BT_VHD_JOURNAL_ENTRY_SIZE;
}
