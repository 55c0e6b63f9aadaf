/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of the qcow codec have in common. */
#ifndef BT_TESTS_LIBQCOW_BENCH_H
#define BT_TESTS_LIBQCOW_BENCH_H

#include "unit.h"

#include <errno.h>
#include <string.h>

#include "libqcow/check.h"
#include "libqcow/compress.h"
#include "libqcow/create.h"
#include "libqcow/crypt.h"
#include "util/bytes.h"

#define FILE_BYTES (UINT64_C(64) << 20)
#define COPIED (UINT64_C(1) << 63)

static inline struct bt_qcow_layout make(uint32_t version,
					 uint32_t cluster_bits)
{
	struct bt_qcow_create c = {
		.version = version,
		.size = 4 << 20,
		.cluster_bits = cluster_bits,
	};
	struct bt_qcow_layout layout;

	ck_assert_int_eq(bt_qcow_layout_plan(&c, &layout, NULL), 0);
	return layout;
}

static inline int l2(const struct bt_qcow_geometry *geo, uint64_t entry,
		     struct bt_qcow_mapping *m)
{
	struct bt_fault fault = { .value = 0 };
	int rc = bt_qcow_l2_decode(geo, entry, FILE_BYTES, m, &fault);

	ck_assert(!rc || (fault.field && fault.reason && fault.hint));
	return rc;
}

#endif
