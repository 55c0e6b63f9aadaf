/* SPDX-License-Identifier: BSD-3-Clause */
/* CHS geometries and sizes. The appendix "CHS Calculation" of the VHD
 * specification has the steps. They matter because some makers take the size of
 * a disk from its geometry, which is smaller than what was asked for by up to a
 * track of each head. */
#include <errno.h>
#include <string.h>

#include "libvhd/geometry.h"
#include "util/checked.h"

/* cylinder_heads is cylinders times heads, as the steps count them. */
static struct bt_vhd_geometry make(uint32_t cylinder_heads, uint32_t heads,
				   uint32_t sectors)
{
	struct bt_vhd_geometry g = {
		.cylinders = (uint16_t)(cylinder_heads / heads),
		.heads = (uint8_t)heads,
		.sectors = (uint8_t)sectors,
	};

	return g;
}

/* The steps and constants are the format's; others compute the same, and
 * Virtual PC and Azure look at the result. */
struct bt_vhd_geometry bt_vhd_geometry_for(uint64_t size_sec)
{
	uint32_t total =
		(uint32_t)bt_min_u64(size_sec, BT_VHD_GEOMETRY_MAX_SEC);
	uint32_t cylinder_heads = total / 17;
	uint32_t heads = (cylinder_heads + 1023) / 1024;

	if (total >= 65535u * 16 * 63)
		return make(total / 255, 16, 255);
	if (heads < 4)
		heads = 4;
	if (cylinder_heads < heads * 1024 && heads <= 16)
		return make(cylinder_heads, heads, 17);
	cylinder_heads = total / 31;
	if (cylinder_heads < 16 * 1024)
		return make(cylinder_heads, 16, 31);
	return make(total / 63, 16, 63);
}

/* The geometry of n sectors holds at most one track of each head less, so a
 * geometry that holds n is found within that many steps. */
static uint64_t round_to_geometry(uint64_t size_sec)
{
	uint64_t asked = size_sec;
	uint64_t holds;

	if (size_sec >= BT_VHD_GEOMETRY_MAX_SEC)
		return size_sec;
	do {
		holds = bt_vhd_geometry_sectors(bt_vhd_geometry_for(asked));
		asked++;
	} while (holds < size_sec);
	return holds;
}

/* The sums do not wrap: size was held to BT_VHD_SIZE_MAX. */
static uint64_t round_to(uint64_t size, enum bt_vhd_rounding rounding)
{
	uint64_t up = bt_align_down(size + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);

	switch (rounding) {
	case BT_VHD_ROUND_MIB:
		return bt_align_down(size + (1u << 20) - 1, 1u << 20);
	case BT_VHD_ROUND_BLOCK:
		return bt_align_down(size + BT_VHD_BLOCK_SIZE - 1,
				     BT_VHD_BLOCK_SIZE);
	case BT_VHD_ROUND_GEOMETRY:
		return round_to_geometry(up / BT_VHD_SECTOR) * BT_VHD_SECTOR;
	case BT_VHD_ROUND_SECTOR:
		break;
	}
	return up;
}

int bt_vhd_size_round(uint64_t size, enum bt_vhd_rounding rounding,
		      uint64_t *rounded, struct bt_fault *fault)
{
	if (size == 0)
		return bt_fault_set(fault, -EINVAL, "size", size,
				    "a disk cannot be empty",
				    "give a size of at least one sector");
	if (size > BT_VHD_SIZE_MAX)
		return bt_fault_set(fault, -EFBIG, "size", size,
				    "a VHD holds at most 2040 GiB",
				    "make the disk smaller, or use qcow2");
	*rounded = round_to(size, rounding);
	return 0;
}

/* Unknown makers get current_size: were it wrong, the guest sees a tail of
 * zeroes; the geometry, were it wrong, would cut off data. */
static bool size_is_chs(const struct bt_vhd_footer *footer)
{
	static const char makers[][4] = {
		{ 'v', 'p', 'c', ' ' },
		{ 'q', 'e', 'm', 'u' },
	};
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(makers); i++)
		if (!memcmp(footer->creator_app, makers[i], 4))
			return true;
	return false;
}

/* The geometry counts only where it is not at its largest (then it says
 * nothing) and not more than current_size (then it would show what is not
 * there). */
uint64_t bt_vhd_virtual_size(const struct bt_vhd_footer *footer,
			     enum bt_vhd_size_source *source)
{
	uint64_t chs = bt_vhd_geometry_sectors(footer->geometry);
	bool use = size_is_chs(footer) && chs &&
		   chs < BT_VHD_GEOMETRY_MAX_SEC &&
		   chs * BT_VHD_SECTOR <= footer->current_size;

	if (source)
		*source = use ? BT_VHD_SIZE_CHS : BT_VHD_SIZE_CURRENT;
	return use ? chs * BT_VHD_SECTOR : footer->current_size;
}
