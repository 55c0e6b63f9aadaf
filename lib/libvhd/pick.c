/* SPDX-License-Identifier: BSD-3-Clause */
/* Which footer to trust.
 *
 * The trailing one is the format's. It is missing after a crash: the older
 * blktap fills it with 0xc7 while a dynamic disk is open for writing, others
 * overwrite it with a block before they write the next. Then the copy at
 * offset 0 serves.
 *
 * Both places can hold guest data, so neither is trusted blindly:
 *   fixed disk     offset 0 is the guest's, the end is not
 *   dynamic disk   the end may be, after a crash; offset 0 never is
 * A guest knows neither the uuid of its disk nor, in practice, the length of
 * its file. Hence:
 *   tail fixed, ends the disk exactly        -> tail (0 may be forged)
 *   tail fixed, but not so                   -> refused: either may be
 *   tail and copy of the same uuid and type  -> tail (they differ in fields)
 *   tail of another disk than the copy       -> copy (the tail is forged)
 *   only one of them is a footer             -> that one */
#include <errno.h>
#include <string.h>

#include "libvhd/footer.h"

#define KILLED_BYTE 0xc7

struct tail {
	const uint8_t *bytes;
	size_t len;
	uint64_t file_size;
};

/* Tries the footer that starts distance bytes before the end. tail holds the
 * last tail->len bytes of the file, so a distance counts from its end. */
static int try_tail(const struct tail *tail, uint64_t distance, size_t len,
		    enum bt_vhd_footer_place place, struct bt_vhd_footer *f,
		    struct bt_vhd_footer_choice *choice, struct bt_fault *fault)
{
	if (distance > tail->len || distance > tail->file_size)
		return bt_fault_set(fault, -EINVAL, "file size",
				    tail->file_size,
				    "too short for a VHD footer",
				    "check that this is a VHD");
	choice->place = place;
	choice->offset = tail->file_size - distance;
	return bt_vhd_footer_decode(tail->bytes + tail->len - distance, len, f,
				    fault);
}

/* Only the last sector: the older blktap fills that and no more. */
static bool is_killed(const struct tail *tail)
{
	const uint8_t *last;
	size_t i;

	if (tail->len < BT_VHD_FOOTER_SIZE)
		return false;
	last = tail->bytes + tail->len - BT_VHD_FOOTER_SIZE;
	for (i = 0; i < BT_VHD_FOOTER_SIZE; i++)
		if (last[i] != KILLED_BYTE)
			return false;
	return true;
}

/* Three places: the last 512 bytes; the last 511, of old makers; and the last
 * whole sector, where a write was cut within one. */
static int find_tail(const struct tail *tail, struct bt_vhd_footer *f,
		     struct bt_vhd_footer_choice *choice,
		     struct bt_fault *fault)
{
	unsigned int odd = tail->file_size % BT_VHD_SECTOR;
	int err;

	err = try_tail(tail, BT_VHD_FOOTER_SIZE, BT_VHD_FOOTER_SIZE,
		       BT_VHD_FOOTER_TAIL, f, choice, fault);
	/* Faults of the later tries say less than the first. */
	if (err)
		if (!try_tail(tail, BT_VHD_FOOTER_LEGACY_SIZE,
			      BT_VHD_FOOTER_LEGACY_SIZE,
			      BT_VHD_FOOTER_TAIL_LEGACY, f, choice, NULL))
			err = 0;
	if (err && odd)
		if (!try_tail(tail, BT_VHD_FOOTER_SIZE + odd,
			      BT_VHD_FOOTER_SIZE, BT_VHD_FOOTER_TAIL_RAGGED, f,
			      choice, NULL))
			err = 0;
	return err;
}

/* data_offset as well: a tail that names another header is one from before a
 * move, or from after one that was cut (driver/vhd/move.c), and the copy is
 * what decides between the two. */
static bool same_disk(const struct bt_vhd_footer *a,
		      const struct bt_vhd_footer *b)
{
	return a->type == b->type && a->data_offset == b->data_offset &&
	       !memcmp(a->uuid, b->uuid, sizeof(a->uuid));
}

/* By what would be written, so that fields that only differ in how they were
 * stored do not count. */
static bool same_bytes(const struct bt_vhd_footer *a,
		       const struct bt_vhd_footer *b)
{
	uint8_t x[BT_VHD_FOOTER_SIZE], y[BT_VHD_FOOTER_SIZE];

	bt_vhd_footer_encode(a, x);
	bt_vhd_footer_encode(b, y);
	return !memcmp(x, y, sizeof(x));
}

/* Decides between a tail and a copy that are both footers. Neither side is
 * believed for being there alone; the table at the top has the reasons. */
static int judge(const struct bt_vhd_footer *tail, uint64_t offset,
		 const struct bt_vhd_footer *copy, bool *tail_wins,
		 struct bt_fault *fault)
{
	*tail_wins = true;
	if (tail->type != BT_VHD_FIXED) {
		*tail_wins = same_disk(tail, copy);
		return 0;
	}
	if (tail->current_size == offset)
		return 0;
	return bt_fault_set(
		fault, -EINVAL, "footer", offset,
		"the footers at both ends are of different disks",
		"take the image from a backup: one overwrote the other");
}

/* choice->differ: a writer has to write both anew. */
int bt_vhd_footer_pick(const void *head, size_t head_len, const void *tail,
		       size_t tail_len, uint64_t file_size,
		       struct bt_vhd_footer *f,
		       struct bt_vhd_footer_choice *choice,
		       struct bt_fault *fault)
{
	struct tail t = { tail, tail_len, file_size };
	struct bt_vhd_footer copy;
	struct bt_fault no_tail = { 0 };
	bool have_copy, tail_wins = false;
	int err;

	memset(choice, 0, sizeof(*choice));
	err = find_tail(&t, f, choice, &no_tail);
	have_copy =
		head_len >= BT_VHD_FOOTER_SIZE &&
		!bt_vhd_footer_decode(head, BT_VHD_FOOTER_SIZE, &copy, NULL) &&
		bt_vhd_type_has_blocks(copy.type);
	choice->killed = err && is_killed(&t);
	if (!have_copy) {
		choice->differ = !err && bt_vhd_type_has_blocks(f->type);
		if (err && fault)
			*fault = no_tail;
		return err;
	}
	if (!err) {
		err = judge(f, choice->offset, &copy, &tail_wins, fault);
		if (err)
			return err;
	}
	if (tail_wins) {
		choice->differ = bt_vhd_type_has_blocks(f->type) &&
				 !same_bytes(f, &copy);
		return 0;
	}
	*f = copy;
	choice->place = BT_VHD_FOOTER_COPY;
	choice->offset = 0;
	choice->differ = true;
	return 0;
}
