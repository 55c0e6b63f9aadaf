/* SPDX-License-Identifier: BSD-3-Clause */
/* The drivers: classes of node that store data. A file each, or a room. */
#ifndef BT_DRIVER_DRIVER_H
#define BT_DRIVER_DRIVER_H

#include "port/port.h"

extern const struct blktap_class bt_error_class;
extern const struct blktap_class bt_nbd_class;
extern const struct blktap_class bt_null_class;
extern const struct blktap_class bt_pattern_class;
extern const struct blktap_class bt_qcow2_class;
extern const struct blktap_class bt_qcow_class;
extern const struct blktap_class bt_ram_class;
extern const struct blktap_class bt_raw_class;
extern const struct blktap_class bt_vhd_class;

#endif
