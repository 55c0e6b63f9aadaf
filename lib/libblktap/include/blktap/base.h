/* SPDX-License-Identifier: BSD-3-Clause */
/* What every public header of libblktap starts from. */
#ifndef BLKTAP_BASE_H
#define BLKTAP_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
#define BLKTAP_BEGIN_DECLS extern "C" {
#define BLKTAP_END_DECLS }
#else
#define BLKTAP_BEGIN_DECLS
#define BLKTAP_END_DECLS
#endif

#if defined(__GNUC__)
#define BLKTAP_API __attribute__((visibility("default")))
#else
#define BLKTAP_API
#endif

#define BLKTAP_VERSION_MAJOR 0
#define BLKTAP_VERSION_MINOR 1
#define BLKTAP_VERSION_PATCH 0

BLKTAP_BEGIN_DECLS

/* The version of the library in use, "0.1.0": it may be newer than the headers
 * a program was built with. Static text. Any thread. Since 0.1. */
BLKTAP_API const char *blktap_version(void);

BLKTAP_END_DECLS

#endif
