/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing a new image's file. What may take long asks whether to go on. */
#ifndef BT_DRIVER_CREATE_H
#define BT_DRIVER_CREATE_H

#include "port/port.h"

/* Tells how far the work is; -ECANCELED where it is to end. */
int bt_create_progress(const struct bt_create *create, uint64_t done,
		       uint64_t total);

/* All of buf, or a negative errno. */
int bt_create_write(const struct bt_create *create, uint64_t offset,
		    const void *buf, size_t length);

/* The file is bytes long, and has the space for them; of total, as progress is told. */
int bt_create_reserve(const struct bt_create *create, uint64_t bytes,
		      uint64_t total);

#endif
