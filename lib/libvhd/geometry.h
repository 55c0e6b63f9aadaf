/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes: the CHS geometry of the VHD text, which size of a footer is the
 * guest's, and what a new disk's size is rounded to. */
#ifndef BT_VHD_GEOMETRY_H
#define BT_VHD_GEOMETRY_H

#include "libvhd/vhd.h"

/* 65535 cylinders, 16 heads, 255 sectors: no larger disk has a geometry. */
#define BT_VHD_GEOMETRY_MAX_SEC (UINT64_C(65535) * 16 * 255)

/* The geometry of a disk of that many sectors; it may hold a little less. */
struct bt_vhd_geometry bt_vhd_geometry_for(uint64_t size_sec);

static inline uint64_t bt_vhd_geometry_sectors(struct bt_vhd_geometry g)
{
	return (uint64_t)g.cylinders * g.heads * g.sectors;
}

enum bt_vhd_rounding {
	BT_VHD_ROUND_SECTOR, /* Hyper-V: as asked for */
	BT_VHD_ROUND_MIB, /* Azure refuses anything else */
	BT_VHD_ROUND_BLOCK, /* full blocks of 2 MiB, as vhd-util always did */
	BT_VHD_ROUND_GEOMETRY, /* Virtual PC, QEMU: exactly a geometry */
};

/* The size of a new disk: size rounded up. -EINVAL for 0, -EFBIG beyond
 * 2040 GiB; a size just below the limit never rounds over it. */
int bt_vhd_size_round(uint64_t size, enum bt_vhd_rounding rounding,
		      uint64_t *rounded, struct bt_fault *fault);

enum bt_vhd_size_source {
	BT_VHD_SIZE_CURRENT,
	BT_VHD_SIZE_CHS,
};

/* The bytes a guest sees. Virtual PC and QEMU's "qemu" tag mean the geometry,
 * unless it is the largest there is; all others mean current_size. */
uint64_t bt_vhd_virtual_size(const struct bt_vhd_footer *footer,
			     enum bt_vhd_size_source *source);

#endif
