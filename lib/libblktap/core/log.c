/* SPDX-License-Identifier: BSD-3-Clause */
/* A line is made on the stack, and cut there: to log needs no memory, so whoever ran
 * out of it can say so. A line that nobody wants is not made. */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bt_log_init(struct bt_log *log)
{
	memset(log, 0, sizeof(*log));
}

void bt_log_fini(struct bt_log *log)
{
	bt_log_set(log, BLKTAP_LOG_ERROR, NULL, NULL, NULL);
}

void bt_log_set(struct bt_log *log, enum blktap_log_level level,
		blktap_log_fn *fn, void *opaque, blktap_free_fn *free)
{
	struct bt_log old = *log;

	log->level = level;
	log->fn = fn;
	log->opaque = opaque;
	log->free = free;
	if (old.free)
		old.free(old.opaque);
}

void bt_log(const struct bt_log *log, enum blktap_log_level level,
	    const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (!log || !log->fn || level > log->level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log->fn(log->opaque, level, line);
}
