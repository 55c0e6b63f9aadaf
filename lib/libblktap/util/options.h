/* SPDX-License-Identifier: BSD-3-Clause */
/* Structures of options, whose size is the caller's: it may be of another version
 * of the headers than the library is. */
#ifndef BT_UTIL_OPTIONS_H
#define BT_UTIL_OPTIONS_H

#include <string.h>

/* Fills the caller's size bytes from our known ones, and what we do not know with
 * zeroes. */
static inline void bt_options_fill(void *to, size_t size, const void *from,
				   size_t known)
{
	memset(to, 0, size);
	memcpy(to, from, size < known ? size : known);
}

#endif
