/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a field read from outside was refused. A codec cannot know the file's
 * name and must not format text, so it says what it knows in constant strings
 * and the caller makes the message: "<file>: <field> is <value>: <reason>",
 * then "hint: <hint>". */
#ifndef BT_UTIL_FAULT_H
#define BT_UTIL_FAULT_H

#include <stdint.h>

struct bt_fault {
	const char *field; /* as the format's text calls it */
	uint64_t value;
	const char *reason;
	const char *hint; /* one action; NULL where there is none */
};

/* Fills fault, which may be NULL, and returns error (a -errno), so that a
 * check is one statement: return bt_fault_set(fault, -EINVAL, ...). */
static inline int bt_fault_set(struct bt_fault *fault, int error,
			       const char *field, uint64_t value,
			       const char *reason, const char *hint)
{
	if (fault) {
		fault->field = field;
		fault->value = value;
		fault->reason = reason;
		fault->hint = hint;
	}
	return error;
}

#endif
