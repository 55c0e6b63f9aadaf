/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a call failed, in words.
 *
 * Functions that can fail for more than one reason take `struct blktap_error
 * **err`, which may be NULL. Where the call returns a negative errno, *err is a
 * new object that the caller destroys; where it succeeds, *err is not touched. */
#ifndef BLKTAP_ERROR_H
#define BLKTAP_ERROR_H

#include <blktap/base.h>

BLKTAP_BEGIN_DECLS

struct blktap_error;

/* The negative errno the failed call returned. Any thread. Since 0.1. */
BLKTAP_API int blktap_error_get_code(const struct blktap_error *err);

/* "object: cause", one line without a newline; owned by err. Since 0.1. */
BLKTAP_API const char *blktap_error_get_message(const struct blktap_error *err);

/* One thing to do about it, or "" where nothing is known to help; owned by
 * err. Since 0.1. */
BLKTAP_API const char *blktap_error_get_hint(const struct blktap_error *err);

/* Frees err, and with it the texts that were asked for; NULL is fine. Since 0.1. */
BLKTAP_API void blktap_error_destroy(struct blktap_error *err);

BLKTAP_END_DECLS

#endif
