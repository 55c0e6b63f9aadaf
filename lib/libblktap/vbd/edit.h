/* SPDX-License-Identifier: BSD-3-Clause */
/* Edits of a running disk's graph; only the room's own files include this. */
#ifndef BT_VBD_EDIT_H
#define BT_VBD_EDIT_H

#include "vbd/private.h"

/* One change, see edit.c. The caller fills flags and functions, the rest is the
 * room's. It stays valid until done is called. */
struct bt_edit {
	struct bt_list link; /* disk->edits */
	struct blktap_disk *disk;
	uint32_t timeout_ms; /* for what is under way to leave; 0: none */
	bool flush; /* what is in the image is durable at the commit */
	/* The graph is empty and held. It neither waits nor fails halfway: its
	 * negative errno says that nothing has changed. */
	int (*commit)(struct bt_edit *edit, struct blktap_error **err);
	/* The disk runs on. Called once, from the loop; error is the commit's,
	 * or why there was none. err is the callee's. */
	void (*done)(struct bt_edit *edit, int error, struct blktap_error *err);
	bool settled; /* edit.c: the flush before the hold is over */
	int error;
	struct blktap_error *err;
};

/* Edits run one after another, and wait for a paused disk to be resumed. done is
 * never called inside. */
void bt_edit_start(struct blktap_disk *disk, struct bt_edit *edit);

/* Starts what waits: the pause that was asked for, or else the next edit. */
void bt_edit_next(struct blktap_disk *disk);
/* Ends, with error, those that wait. */
void bt_edit_fail_all(struct blktap_disk *disk, int error);
void bt_edit_init(struct blktap_disk *disk);

/* The chain below the top edge: how many images it has, and the n-th, the leaf
 * being 0. */
uint32_t bt_chain_depth(const struct blktap_disk *disk);
struct bt_node *bt_chain_at(const struct blktap_disk *disk, uint32_t n);
/* Inside of a commit: image n - 1 stands on node from now on (n > 0; NULL: on
 * nothing), and limits are planned anew upwards. What stood there is not
 * destroyed. */
int bt_chain_relink(struct blktap_disk *disk, uint32_t n, struct bt_node *node,
		    struct blktap_error **err);

#endif
