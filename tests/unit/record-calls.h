/* SPDX-License-Identifier: BSD-3-Clause */
/* Recording of what tools do with blocking calls: this program's own pwrite,
 * ftruncate, unlink and fdatasync stand before the C library's, and put what happens to
 * the files that are watched into `record`. */
#ifndef BT_TESTS_RECORD_CALLS_H
#define BT_TESTS_RECORD_CALLS_H

#include "record.h"

#define RECORD_FILES 4

/* From now on what is done to the file of that name, which may come later, is
 * recorded as file number `file`. NULL: no more. */
void record_watch(uint32_t file, const char *path);

#endif
