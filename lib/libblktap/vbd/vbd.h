/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk as frontends see it. struct blktap_disk is what <blktap/disk.h> calls a
 * disk: a graph, its gate, the admission of requests, and statistics. */
#ifndef BT_VBD_VBD_H
#define BT_VBD_VBD_H

#include <blktap/disk.h>

#include "port/port.h"
#include "request/request.h"

struct bt_env;

/* Makes a pool of requests for this disk, with frames deep enough for its graph
 * now and after every change of it. item_size as in bt_pool_create. The pool
 * must be destroyed with bt_vbd_pool_destroy, before the disk. */
int bt_vbd_pool_create(struct blktap_disk *disk, uint32_t count,
		       size_t item_size, struct bt_pool **out);
void bt_vbd_pool_destroy(struct blktap_disk *disk, struct bt_pool *pool);

/* Submits a request of such a pool. req->op, flags, offset, length, data (or
 * extents), done and opaque are set. done is called exactly once, possibly
 * before this returns, with req->error final: 0 or
 *   -EINVAL  zero length, past the end of the disk (READ, BLOCK_STATUS, ...),
 *            overflow, data shorter than length
 *   -ENOSPC  a write past the end; or no space
 *   -EPERM   a write on a read-only disk
 *   -ENOTSUP an operation or flag the disk does not have (FAST_ONLY that would
 *            be slow)
 *   others   from the image.
 * Any size and alignment is taken: the admission splits and pads. FUA is always
 * possible. BLOCK_STATUS fills at least one extent, which may end before or
 * after the range that was asked for. */
void bt_vbd_submit(struct blktap_disk *disk, struct bt_request *req);

/* Whether requests with req->move do well: whoever has them now would not have the data
 * brought. They may be submitted in any case. */
bool bt_vbd_moves(const struct blktap_disk *disk);

/* From now on, a write that is answered is found in the image when this process has
 * been killed: for a frontend whose users do not hear of that and go on with another
 * process. What a flush makes durable is not changed. Several may ask for it; each takes
 * back, with false, what it asked for alone. */
void bt_vbd_set_outlive(struct blktap_disk *disk, bool on);
bool bt_vbd_get_outlive(const struct blktap_disk *disk);

/* Ends, with error, the requests of pool that wait for a paused disk to go on or
 * for another try: for a frontend that leaves meanwhile. Those that are in the
 * image are not touched. done is called inside. */
void bt_vbd_cancel(struct blktap_disk *disk, const struct bt_pool *pool,
		   int error);

/* What bt_vbd_submit would refuse at once: 0 or one of the errors above. */
int bt_vbd_check(const struct blktap_disk *disk, enum blktap_op op,
		 uint32_t flags, uint64_t offset, uint64_t length);

/* Size, block size, operations... of the disk at present. operations holds what
 * the admission emulates, too. */
const struct bt_limits *bt_vbd_get_limits(const struct blktap_disk *disk);

/* Bitmaps of what has changed, which nodes of the disk's graph keep (vbd/bitmap.c).
 * The name of the index-th, NULL after the last; valid until the graph changes. */
const char *bt_vbd_get_bitmap(const struct blktap_disk *disk, uint32_t index);
/* How many of the bytes from offset on, at most length, are alike: changed or not.
 * A bitmap that is not there (the disk is paused, say) has everything changed. */
uint64_t bt_vbd_get_dirty(const struct blktap_disk *disk, const char *name,
			  uint64_t offset, uint64_t length, bool *dirty);

/* What blktap_disk_get_spec says from now on, until the disk gets another spec: a
 * disk may be more than what who opened it calls it. -ENOMEM. */
int bt_vbd_show_as(struct blktap_disk *disk, const char *spec);

/* Of the disk's context; both live as long as that. */
struct bt_env *bt_vbd_get_env(const struct blktap_disk *disk);
const struct bt_log *bt_vbd_get_log(const struct blktap_disk *disk);

/* A frontend that serves the disk tells so: a disk with frontends cannot be
 * closed (-EBUSY), and each hears of changes. */
struct bt_vbd_client {
	struct bt_list link;
	void (*resized)(struct bt_vbd_client *client); /* or NULL */
	/* The context ends: close now, wait for requests in flight, and call
	 * bt_vbd_client_del before returning. */
	void (*shutdown)(struct bt_vbd_client *client);
};

/* A context on a clock and an engine of the caller's: for tests of faults and of
 * time. */
struct bt_backend;
int bt_context_create_on(enum bt_clock clock, const struct bt_backend *backend,
			 struct blktap_context **out);

/* The disk is about to be closed: what waits for better times, parked or at the
 * gate of a paused disk, fails with -ESHUTDOWN, and so does what comes. For who
 * must get frontends to leave before blktap_disk_close. */
void bt_vbd_shut(struct blktap_disk *disk);
/* Since then: who would serve it comes too late. */
bool bt_vbd_is_shut(const struct blktap_disk *disk);

/* The name of a node that keeps data of the disk in this process' memory, so that no
 * other process can go on with the disk; NULL where there is none. */
const char *bt_vbd_get_volatile(const struct blktap_disk *disk);

/* The exports of the file whose disk this is, vbd/graph.c: the name of the
 * index-th, NULL after the last. */
const char *bt_vbd_get_export(const struct blktap_disk *disk, uint32_t index);
/* Opens one as a disk of its own, which goes when a change leaves it out: -EBUSY
 * where it is open already. */
int bt_vbd_open_export(struct blktap_disk *disk, const char *name,
		       struct blktap_disk **out, struct blktap_error **err);
/* A change has left it out: its requests fail, and it is to be closed. */
bool bt_vbd_is_gone(const struct blktap_disk *disk);

/* The loop and log of a context, for who serves more than one disk. */
struct bt_loop *bt_context_get_loop(struct blktap_context *context);
const struct bt_log *bt_context_get_log(const struct blktap_context *context);

/* client is the frontend's, and stays where it is until it is taken off. */
void bt_vbd_client_add(struct blktap_disk *disk, struct bt_vbd_client *client);
/* With its pools destroyed before, or a disk that is closed next has them still. */
void bt_vbd_client_del(struct bt_vbd_client *client);

#endif
