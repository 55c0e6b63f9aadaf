/* SPDX-License-Identifier: BSD-3-Clause */
/* What stands in the mark of a minor. That of a minor which has NBD alone is
 * empty. Where the kernel has a minor of the same number, lines "key=value" say
 * so, and what is open there: that is what a tapdisk needs to go on where
 * another died. Only who holds the lock on a mark writes it. */
#ifndef BT_CONTROL_MARK_H
#define BT_CONTROL_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "control/wire.h"

/* Flags of an open that nobody can repeat by the mark: it took a key, or another
 * tapdisk, or a secondary, of which only who died or left knew whether it has missed
 * writes. */
#define BT_MARK_PARTIAL \
	(BT_WIRE_REUSE_PRT | BT_WIRE_OPEN_ENCRYPTED | BT_WIRE_SECONDARY)
/* All that an image is not the same disk without. */
#define BT_MARK_BESIDE (BT_MARK_PARTIAL | BT_WIRE_ADD_LOG)

struct bt_mark {
	bool ring; /* the kernel module has it, too */
	uint32_t flags; /* BT_WIRE_*, as it was opened */
	uint32_t timeout_s;
	char *spec; /* NULL: no image is open */
	char *tcp; /* served there, too; or NULL */
	/* as in an open; NULL: none, or a name that a line cannot hold */
	char *secondary;
	char *log;
	/* of tcp, as in blktap_control_open_options */
	char *tls, *tls_certificates, *tls_psk;
	bool tls_verify_peer;
};

/* 0 or a negative errno; mark is empty then. Unknown lines are skipped. */
int bt_mark_read(int fd, struct bt_mark *mark);
/* Whether an open can be repeated by what the mark holds. */
bool bt_mark_is_whole(const struct bt_mark *mark);
int bt_mark_write(int fd, const struct bt_mark *mark);
void bt_mark_fini(struct bt_mark *mark);

#endif
