/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal of a resize: a file beside the VHD that holds what the resize
 * overwrites, so that `vhd-util revert` can put it back. The older blktap
 * poisons the VHD's footers while it is in use.
 *
 *   0      header, 512 bytes
 *   512    entries: 32 bytes, then size bytes of the VHD from offset on
 *   eof    whatever a crash left */
#ifndef BT_VHD_JOURNAL_H
#define BT_VHD_JOURNAL_H

#include "libvhd/vhd.h"

#define BT_VHD_JOURNAL_HEADER_SIZE 512u
#define BT_VHD_JOURNAL_ENTRY_SIZE 32u
#define BT_VHD_JOURNAL_DATA_MAX (UINT32_C(16) << 20) /* a BAT of 4 Mi */

enum bt_vhd_journal_type {
	BT_VHD_JOURNAL_FOOTER = 1,
	BT_VHD_JOURNAL_FOOTER_COPY,
	BT_VHD_JOURNAL_HEADER,
	BT_VHD_JOURNAL_LOCATOR,
	BT_VHD_JOURNAL_BAT,
	BT_VHD_JOURNAL_BATMAP_HEADER,
	BT_VHD_JOURNAL_BATMAP,
	BT_VHD_JOURNAL_DATA,
};

struct bt_vhd_journal {
	uint8_t uuid[BT_VHD_UUID_SIZE]; /* of the VHD */
	uint64_t footer_offset; /* before the resize */
	uint32_t data_entries;
	uint32_t metadata_entries;
	uint64_t data_offset; /* of the first; 0 where there is none */
	uint64_t metadata_offset;
	uint64_t eof;
};

struct bt_vhd_journal_entry {
	uint32_t type; /* enum bt_vhd_journal_type */
	uint32_t size;
	uint64_t offset; /* in the VHD */
	uint32_t checksum;
};

/* An empty one, of the VHD of that uuid whose footer is at footer_offset. */
void bt_vhd_journal_init(struct bt_vhd_journal *j,
			 const uint8_t uuid[BT_VHD_UUID_SIZE],
			 uint64_t footer_offset);

/* -EINVAL for what is none. No checksum covers it: bt_vhd_journal_check is next. encode
 * sets all BT_VHD_JOURNAL_HEADER_SIZE bytes of buf. */
int bt_vhd_journal_decode(const void *buf, size_t len, struct bt_vhd_journal *j,
			  struct bt_fault *fault);
void bt_vhd_journal_encode(const struct bt_vhd_journal *j, void *buf);

/* Whether it belongs to the VHD of that uuid (NULL: any) and its offsets lie
 * in a journal file of file_size bytes. */
int bt_vhd_journal_check(const struct bt_vhd_journal *j, const uint8_t *uuid,
			 uint64_t file_size, struct bt_fault *fault);

/* Reads the 32 bytes of an entry that starts at position at of the journal,
 * and checks type, size and that its data ends before j->eof. */
int bt_vhd_journal_entry_decode(const struct bt_vhd_journal *j, uint64_t at,
				const void *buf, size_t len,
				struct bt_vhd_journal_entry *e,
				struct bt_fault *fault);

/* Whether the data of an entry (e->size bytes) is what was saved. header is
 * the 32 bytes the entry was read from. */
int bt_vhd_journal_entry_check(const struct bt_vhd_journal_entry *e,
			       const void *header, const void *data,
			       struct bt_fault *fault);

/* Writes 32 bytes with the checksum over them and data. */
void bt_vhd_journal_entry_encode(const struct bt_vhd_journal_entry *e,
				 const void *data, void *buf);

/* Accounts for an entry that was just written at j->eof: write the header
 * after its data, never before. */
void bt_vhd_journal_added(struct bt_vhd_journal *j,
			  const struct bt_vhd_journal_entry *e);

#endif
