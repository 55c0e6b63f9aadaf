/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BT_CORE_ERROR_H
#define BT_CORE_ERROR_H

#include <blktap/error.h>

/* Makes *err, where err is not NULL, and returns code, a negative errno: `return
 * bt_fail(err, -EINVAL, "use 512", "%s: block size %u: ...", ...)`. hint may be
 * NULL. An error that is there already is kept, since it came first. */
int bt_fail(struct blktap_error **err, int code, const char *hint,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the message of *err, where it does not begin so. */
void bt_error_prefix(struct blktap_error **err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* strerror of a negative errno, for messages; buf belongs to the caller. */
#define BT_STRERROR_MAX 64
const char *bt_strerror(int code, char buf[BT_STRERROR_MAX]);

/* "ENOSPC" for -ENOSPC, NULL for what has no name. */
const char *bt_errno_name(int code);

#endif
