/* SPDX-License-Identifier: BSD-3-Clause */
/* Block Mason's modules: classes of node that stand on others. One file each; a
 * module knows its lower ports and what it is asked, and nothing else. */
#ifndef BT_MODULE_MODULE_H
#define BT_MODULE_MODULE_H

#include "port/port.h"

extern const struct blktap_class bt_bitmap_class;
extern const struct blktap_class bt_cache_class;
extern const struct blktap_class bt_cbt_class;
extern const struct blktap_class bt_compare_class;
extern const struct blktap_class bt_checksum_class;
extern const struct blktap_class bt_concat_class;
extern const struct blktap_class bt_copy_class;
extern const struct blktap_class bt_copy_on_read_class;
extern const struct blktap_class bt_cow_class;
extern const struct blktap_class bt_crypt_class;
extern const struct blktap_class bt_delay_class;
extern const struct blktap_class bt_fault_class;
extern const struct blktap_class bt_log_class;
extern const struct blktap_class bt_mirror_class;
extern const struct blktap_class bt_retry_class;
extern const struct blktap_class bt_slice_class;
extern const struct blktap_class bt_snap_class;
extern const struct blktap_class bt_stripe_class;
extern const struct blktap_class bt_throttle_class;
extern const struct blktap_class bt_writelog_class;

#endif
