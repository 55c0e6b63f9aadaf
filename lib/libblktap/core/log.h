/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a context's log lines go. The library never prints. */
#ifndef BT_CORE_LOG_H
#define BT_CORE_LOG_H

#include <blktap/context.h>

struct bt_log {
	enum blktap_log_level level;
	blktap_log_fn *fn;
	void *opaque;
	blktap_free_fn *free;
};

/* Nobody listens yet. */
void bt_log_init(struct bt_log *log);
/* The callback, where there is one, is forgotten and freed; log is as after init. */
void bt_log_fini(struct bt_log *log);

/* Takes the place of the callback there was, which is freed behind that. */
void bt_log_set(struct bt_log *log, enum blktap_log_level level,
		blktap_log_fn *fn, void *opaque, blktap_free_fn *free);

/* log may be NULL. Lines longer than 1 KiB are cut. fmt has no newline at its end.
 * May change errno: take it before. */
void bt_log(const struct bt_log *log, enum blktap_log_level level,
	    const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
