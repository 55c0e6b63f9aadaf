/* SPDX-License-Identifier: BSD-3-Clause */
/* Advisory locks that keep a second writer from an image. Only the drivers
 * include this, and who replaces an image by another (image/create.c). */
#ifndef BT_DRIVER_LOCK_H
#define BT_DRIVER_LOCK_H

#include <blktap/error.h>

struct bt_log;

/* Locks the open file for the life of its open file description: writers
 * exclude everybody, readers exclude writers. -EBUSY and a text that names the
 * file where another has it. A file system without locks is served unlocked,
 * with a warning. */
int bt_image_lock(int fd, bool writable, const char *name,
		  const struct bt_log *log, struct blktap_error **err);

/* Before close(fd): a finished io_uring operation may hold the open file a while
 * longer, and a lock that goes with it. Without a lock it does nothing. */
void bt_image_unlock(int fd);

#endif
