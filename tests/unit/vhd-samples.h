/* SPDX-License-Identifier: BSD-3-Clause */
/* Valid VHD structures for tests to start from and then break. */
#ifndef BT_TESTS_VHD_SAMPLES_H
#define BT_TESTS_VHD_SAMPLES_H

#include <string.h>

#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "libvhd/layout.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static const uint8_t sample_uuid[16] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66,
					 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
					 0xdd, 0xee, 0xff, 0x01 };

static inline struct bt_vhd_footer sample_footer(enum bt_vhd_type type,
						 uint64_t size)
{
	struct bt_vhd_footer f;

	bt_vhd_footer_init(&f, type, size, 0x12345678, sample_uuid);
	return f;
}

/* A header at 512 with its table at 1536; differencing ones have a locator
 * behind the table. */
static inline struct bt_vhd_header sample_header(enum bt_vhd_type type,
						 uint64_t size)
{
	struct bt_vhd_layout_spec spec = {
		.type = type,
		.size = size,
		.locators = type == BT_VHD_DIFFERENCING ? 1 : 0,
		.locator_code = { BT_VHD_LOC_W2RU },
		.locator_len = { 14 },
	};
	struct bt_vhd_layout l;
	struct bt_vhd_header h;

	bt_vhd_layout_plan(&l, &spec, NULL);
	bt_vhd_layout_header(&l, &h);
	return h;
}

#endif
