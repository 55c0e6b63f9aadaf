/* SPDX-License-Identifier: BSD-3-Clause */
/* The footer: decode and encode one, check its fields, make a new one, and
 * decide which of those found in a file to trust. */
#ifndef BT_VHD_FOOTER_H
#define BT_VHD_FOOTER_H

#include "libvhd/vhd.h"

/* Reads a footer of 512 or 511 bytes: cookie and checksum are checked here.
 * -EINVAL where it is none. */
int bt_vhd_footer_decode(const void *buf, size_t len, struct bt_vhd_footer *f,
			 struct bt_fault *fault);

/* Writes 512 bytes with a fresh checksum. */
void bt_vhd_footer_encode(const struct bt_vhd_footer *f, void *buf);

/* Whether we can serve what the fields say. -EINVAL: they contradict the
 * format; -ENOTSUP: another version or type; -EFBIG: too large; -EUCLEAN: a
 * resize was interrupted. */
int bt_vhd_footer_check(const struct bt_vhd_footer *f, struct bt_fault *fault);

/* As check, but lets a poisoned footer pass: for revert alone. */
int bt_vhd_footer_check_poisoned(const struct bt_vhd_footer *f,
				 struct bt_fault *fault);

/* A new footer of ours. size must have come from bt_vhd_size_round. */
void bt_vhd_footer_init(struct bt_vhd_footer *f, enum bt_vhd_type type,
			uint64_t size, uint32_t timestamp,
			const uint8_t uuid[BT_VHD_UUID_SIZE]);

/* Sets current_size and the geometry that belongs to it. */
void bt_vhd_footer_set_size(struct bt_vhd_footer *f, uint64_t size);

/* Whether block bitmaps have their lowest bit first: version 0.1 of the first
 * blktap. See bt_vhd_bits_mirror. */
bool bt_vhd_footer_old_bits(const struct bt_vhd_footer *f);

/* How much of both ends of a file bt_vhd_footer_pick wants to see. */
#define BT_VHD_PICK_HEAD BT_VHD_FOOTER_SIZE
#define BT_VHD_PICK_TAIL 1024u

enum bt_vhd_footer_place {
	BT_VHD_FOOTER_TAIL, /* the last 512 bytes */
	BT_VHD_FOOTER_TAIL_LEGACY, /* the last 511 bytes */
	BT_VHD_FOOTER_TAIL_RAGGED, /* less than a sector of garbage follows */
	BT_VHD_FOOTER_COPY, /* offset 0: the trailing one is lost */
};

struct bt_vhd_footer_choice {
	enum bt_vhd_footer_place place;
	uint64_t offset;
	bool killed; /* the last sector is the filler of an unclean close */
	bool differ; /* the copy at 0 is not the same: rewrite both */
};

/* Chooses the footer of a file of file_size bytes. head holds its first
 * head_len bytes, tail its last tail_len. The result is decoded but not
 * checked. An error is that of the footer where one should be.
 *
 * With place COPY the file may be a fixed disk that lost its footer and whose
 * guest wrote a footer into its first sector. Whoever lets guests write to
 * fixed disks must keep their footer in place at all times. */
int bt_vhd_footer_pick(const void *head, size_t head_len, const void *tail,
		       size_t tail_len, uint64_t file_size,
		       struct bt_vhd_footer *f,
		       struct bt_vhd_footer_choice *choice,
		       struct bt_fault *fault);

/* Whether the data of a fixed disk ends before its footer. */
int bt_vhd_fixed_check(const struct bt_vhd_footer *f, uint64_t footer_offset,
		       struct bt_fault *fault);

#endif
