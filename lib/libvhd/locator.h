/* SPDX-License-Identifier: BSD-3-Clause */
/* The text of a parent locator. Inside the program a parent's path is what
 * POSIX has: bytes, '/', no zero byte. Whether it is opened, and relative to
 * what, is for image/ to decide. */
#ifndef BT_VHD_LOCATOR_H
#define BT_VHD_LOCATOR_H

#include "libvhd/vhd.h"

#define BT_VHD_PATH_MAX 4096u /* with the zero byte */

enum bt_vhd_path_kind {
	BT_VHD_PATH_RELATIVE, /* to the child's directory */
	BT_VHD_PATH_ABSOLUTE,
	BT_VHD_PATH_WINDOWS, /* C:/x, //server/x: only its last part helps */
};

enum bt_vhd_path_kind bt_vhd_path_kind(const char *path);

/* Writes path as the text of a locator of that code. A relative path is stored
 * with "./" in front. -EILSEQ: a name that is not UTF-8
 * cannot be in a Windows locator (a MACX one holds any); -EINVAL: it is empty
 * or has control characters; -ENAMETOOLONG. */
int bt_vhd_locator_encode(uint32_t code, const char *path, void *buf,
			  size_t cap, size_t *len, struct bt_fault *fault);

/* Reads the text of a locator. Trailing zeroes are dropped, '\' becomes '/'
 * in Windows paths, %XX the byte in URLs. Control characters are refused:
 * tools print a path a line. -ENOTSUP: we do not know this code. */
int bt_vhd_locator_decode(uint32_t code, const void *buf, size_t len,
			  char *path, size_t cap, struct bt_fault *fault);

#endif
