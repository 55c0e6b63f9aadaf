/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors in words are made by whoever found them, at once, while what they are about
 * is known; what is called from there only passes them on. */
#ifndef BT_CORE_ERROR_H
#define BT_CORE_ERROR_H

#include <blktap/error.h>

/* Makes *err, where err is not NULL, and returns code, a negative errno: `return
 * bt_fail(err, -EINVAL, "use 512", "%s: block size %u: ...", ...)`. hint is copied,
 * and may be NULL. *err is NULL or an error: one that is there already is kept, since
 * it came first. Without memory it is a constant that says so, and code is returned
 * all the same. */
int bt_fail(struct blktap_error **err, int code, const char *hint,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the message of *err, where it does not begin so. */
void bt_error_prefix(struct blktap_error **err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* strerror of a negative errno, for messages. What is returned need not be buf, which
 * belongs to the caller and must live as long. */
#define BT_STRERROR_MAX 64
const char *bt_strerror(int code, char buf[BT_STRERROR_MAX]);

/* "ENOSPC" for -ENOSPC, NULL for what has no name. */
const char *bt_errno_name(int code);

#endif
