/* SPDX-License-Identifier: BSD-3-Clause */
/* Unix stream sockets, non-blocking and not inherited. */
#ifndef BT_CONTROL_SOCKET_H
#define BT_CONTROL_SOCKET_H

#include <stdint.h>

/* 0 or a negative errno; where nobody accepts, it waits for at most a second. */
int bt_socket_connect(const char *path, int *fd);

/* Listens at path, mode 0600. The name appears when connecting succeeds, not
 * before, and takes the place of what was there. */
int bt_socket_listen(const char *path, int *fd);

#endif
