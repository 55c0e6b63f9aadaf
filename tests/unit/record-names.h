/* SPDX-License-Identifier: BSD-3-Clause */
/* Recording of small files that are written whole, synced and renamed: this program's
 * own write, fsync, rename, link and unlink stand before the C library's, and what they
 * do in one directory goes to `record`, and to a record of its names.
 *
 * A name is on disk when its directory was synced after it was made. Of those that are
 * not, a cut spares none, all, any of them, or the first so many. */
#ifndef BT_TESTS_RECORD_NAMES_H
#define BT_TESTS_RECORD_NAMES_H

#include "record.h"

/* Files of `record` from here on are those that came under a name. */
#define NAMES_FIRST 1000u
#define NAMES_BYTES (64u << 10) /* of one file, at most */

/* From now on; NULL: no more. Files whose name does not contain part do not count. */
void names_watch(const char *dir, const char *part);
/* After skip more syncs of the directory the next ones, so many, fail. */
void names_fail_sync(uint32_t skip, uint32_t times, int error);
void names_reset(void);
/* Makes all names in the directory as they are after a cut (record.h). */
void names_cut(const char *dir, uint64_t at, enum record_model model,
	       uint64_t (*random)(void));

#endif
