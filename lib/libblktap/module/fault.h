/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of the fault module:
 *
 *	rule   = [ op ] [ range ] action { condition } ;
 *	op     = "read" | "write" | "flush" | "discard" | "zero" | "any" ;
 *	range  = SIZE ".." SIZE ;       bytes; the second is not in it
 *	action = ERRNO                  it fails, and nothing is done
 *	       | "lost"                 nothing is done, and all is said to be well
 *	       | "torn"                 a part of a write is done, then it fails
 *	       | "corrupt"              one bit of what was read is another
 *	       | "delay=" DURATION ;
 *	condition = "p=" PERCENT        by chance
 *	          | "after=" N          the first N that the rule meets go well
 *	          | "times=" N ;        it applies so often at most
 *
 * "write" means all that changes data. A range is met by any overlap, and
 * by no flush. */
#ifndef BT_MODULE_FAULT_H
#define BT_MODULE_FAULT_H

#include "port/port.h"

#define BT_FAULT_RULES 32u
#define BT_FAULT_MILLION 1000000u

enum bt_fault_action {
	BT_FAULT_ERROR,
	BT_FAULT_LOST,
	BT_FAULT_TORN,
	BT_FAULT_CORRUPT,
	BT_FAULT_DELAY
};

struct bt_fault_rule {
	uint32_t operations; /* 1u << enum blktap_op */
	uint64_t start, end; /* end 0: everywhere */
	enum bt_fault_action action;
	int error;
	uint64_t delay_ns;
	uint32_t ppm; /* of a million */
	uint64_t after, times; /* times 0: no end */
	uint64_t met, applied;
};

/* Reads one rule; text is a line of the list. */
int bt_fault_parse(const char *text, struct bt_fault_rule *rule,
		   struct blktap_error **err);

#endif
