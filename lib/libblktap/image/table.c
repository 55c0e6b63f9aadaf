/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of drivers and modules. It stands above them, so that none knows
 * another. */
#include "image/image.h"

#include "driver/driver.h"
#include "module/module.h"
#include "util/checked.h"

/* clang-format off: one a line, by set */
static const struct blktap_class *const classes[] = {
	&bt_raw_class,
	&bt_vhd_class,
	&bt_qcow_class,
	&bt_qcow2_class,
	&bt_ram_class,
	&bt_null_class,
	&bt_nbd_class,
	&bt_error_class,
	&bt_pattern_class,
	/* modules that change or keep data */
	&bt_bitmap_class,
	&bt_cache_class,
	&bt_cbt_class,
	&bt_checksum_class,
	&bt_crypt_class,
	&bt_snap_class,
	/* modules */
	&bt_concat_class,
	&bt_copy_class,
	&bt_copy_on_read_class,
	&bt_cow_class,
	&bt_mirror_class,
	&bt_slice_class,
	&bt_stripe_class,
	&bt_throttle_class,
	/* for testing */
	&bt_delay_class,
	&bt_fault_class,
	&bt_log_class,
	&bt_retry_class,
	&bt_compare_class,
	&bt_writelog_class,
};
/* clang-format on */

const struct blktap_class *blktap_class_next(
	const struct blktap_class *previous)
{
	size_t i;

	if (!previous)
		return classes[0];
	for (i = 0; i + 1 < BT_ARRAY_SIZE(classes); i++)
		if (classes[i] == previous)
			return classes[i + 1];
	return NULL;
}

/* By a class's name or one of its aliases. */
const struct blktap_class *blktap_class_find(const char *name)
{
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(classes); i++)
		if (bt_class_is_called(classes[i], name))
			return classes[i];
	return NULL;
}
