/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the ring frontend; only the ring*.c files and their test include it,
 * and it alone in this library includes the module's ABI.
 *
 *   ring-device.c  system calls, behind struct bt_ring_ops; minors
 *   ring-check.c   what the module says, before it is believed
 *   ring-serve.c   requests: from slots to the disk, and answers back
 *   ring-move.c    their data, past the slots
 *   ring.c         the ring's life, but for
 *   ring-end.c     its end
 *
 * Who owns a slot: the module until its tag is in the submission ring; then the
 * request in bt_ring_queue.busy[tag] until that is done; then, once the answer
 * is in the completion ring, the module again. So a slot's memory is the
 * request's buffer all the way to the image. */
#ifndef BT_FRONTEND_RING_H
#define BT_FRONTEND_RING_H

#include <blktap/ring.h>

#include "loop/loop.h"
#include "uapi/blktap.h"
#include "util/checked.h"
#include "vbd/vbd.h"

#define BT_RING_DIR "/dev/" BLKTAP_DEV_DIR

/* What the frontend needs of the system; a test has its own. All return 0 or
 * more, or a negative errno. */
struct bt_ring_ops {
	int (*open)(void *opaque, uint32_t minor);
	int (*ioctl)(void *opaque, int fd, unsigned long cmd, void *arg);
	int (*map)(void *opaque, int fd, size_t bytes, void **out);
	void (*unmap)(void *opaque, void *map, size_t bytes);
	void (*close)(void *opaque, int fd);
};
extern const struct bt_ring_ops bt_ring_system;

struct bt_ring_request {
	struct bt_request req; /* must be first */
	struct blktap_ring *ring;
	struct bt_ring_queue *queue;
	uint32_t tag;
	uint32_t gen;
	uint32_t bytes;
	struct iovec iov; /* the slot */
	struct bt_move move;
	bool deferred; /* a write, whose data is not in the slot */
};

struct bt_ring_queue {
	struct blktap_queue *shared;
	const uint32_t *sq;
	const struct blktap_desc *desc;
	struct blktap_cqe *cq;
	uint64_t slots; /* where the first lies in the mapping */
	uint32_t index;
	uint32_t sq_head; /* ours; the shared ones are never read back */
	uint32_t cq_tail;
	struct bt_ring_request **busy; /* by tag; NULL: not with us */
};

enum bt_ring_stage {
	BT_RING_SERVE,
	BT_RING_HOLD, /* nothing is taken any more: it is being handed over */
	BT_RING_FAILED,
	BT_RING_GONE,
};

struct blktap_ring {
	struct blktap_disk *disk;
	struct bt_loop *loop;
	const struct bt_log *log;
	struct bt_vbd_client client;
	struct bt_watch watch;
	struct bt_idle idle;
	struct bt_waiter waiter;
	bool can_wait; /* the module looks, and waits for others, too */
	bool can_move; /* it carries data to files */
	bool moves; /* and is asked to: writes are deferred */
	bool wont_move; /* it said no */
	bool outlives; /* it has asked the disk for that */
	struct bt_mover mover;
	struct blktap_move *move_list; /* for the next run; one for each tag */
	int64_t **move_results;
	uint32_t move_count;
	const struct bt_ring_ops *ops;
	void *opaque; /* of ops */

	int fd;
	int minor;
	char path[64]; /* of the disk */
	bool taken_over;
	struct blktap_info info; /* checked */
	uint8_t *map;
	struct bt_ring_queue *queues;
	struct bt_ring_request **busy; /* of all queues */
	struct bt_pool *pool;
	enum bt_ring_stage stage;
	uint32_t in_flight;
	uint32_t answered; /* answers that no ENTER told of */
	uint64_t requests;
	uint64_t enters;
};

/* ---- ring-check.c: NULL, or what is wrong --------------------------------- */

/* What the module says of its device, before anything of it is believed. */
const char *bt_ring_check_info(const struct blktap_info *info);
/* NULL, or which rule it breaks. */
const char *bt_ring_explain_desc(const struct blktap_info *info,
				 const struct blktap_desc *desc, uint32_t tag,
				 uint64_t slot);

/* Nearly all there is, in one condition: a read or write that is in order. */
static inline bool bt_ring_is_plain(const struct blktap_info *info,
				    const struct blktap_desc *desc,
				    uint32_t tag, uint64_t slot)
{
	return desc->op <= BLKTAP_REQ_WRITE &&
	       !(desc->flags & ~(desc->op * BLKTAP_REQ_DEFERRED)) &&
	       desc->tag == tag && desc->data == slot && desc->bytes &&
	       desc->bytes <= info->slot_bytes &&
	       !((desc->bytes | desc->offset) & (info->logical_block - 1));
}

/* desc is our copy, and slot where that of the tag lies in the mapping. It says
 * nothing of the end of the disk, which may move. */
static inline const char *bt_ring_check_desc(const struct blktap_info *info,
					     const struct blktap_desc *desc,
					     uint32_t tag, uint64_t slot)
{
	return bt_likely(bt_ring_is_plain(info, desc, tag, slot))
		       ? NULL
		       : bt_ring_explain_desc(info, desc, tag, slot);
}
/* Where a queue's slots lie in the mapping. */
uint64_t bt_ring_slots(const struct blktap_info *info, uint32_t queue);

/* ---- ring-serve.c --------------------------------------------------------- */

/* Takes every request that is there; whether there was one. */
bool bt_ring_take(struct blktap_ring *ring);
/* Hands the answers over: one system call, none where there are none. */
bool bt_ring_commit(struct blktap_ring *ring);
/* The waiter's. */
int bt_ring_wait(struct bt_waiter *waiter, int loop_fd, int timeout_ms);
/* No request is taken any more; what is out is finished and not answered. */
void bt_ring_stop(struct blktap_ring *ring, enum bt_ring_stage stage);

/* ---- ring-move.c ----------------------------------------------------------- */

/* Memory for moves; -ENOMEM. Freed by bt_ring_moves_fini, also where it failed. */
int bt_ring_moves_init(struct blktap_ring *ring);
void bt_ring_moves_fini(struct blktap_ring *ring);
/* Asks the module to defer writes, or no more, by what is best for the disk as it is
 * now. */
void bt_ring_choose_moves(struct blktap_ring *ring);

/* ---- ring-device.c -------------------------------------------------------- */

/* An ioctl of the ring's descriptor: its answer, or a negative errno. */
int bt_ring_call(struct blktap_ring *ring, unsigned long cmd, void *arg);
/* Begins the device's removal, and does not wait for it. flags are BLKTAP_REMOVE_*.
 * -EPERM for a ring that is not attached. */
int bt_ring_remove(struct blktap_ring *ring, uint32_t flags);

/* ---- ring.c --------------------------------------------------------------- */

/* Serves the loop for so long; false where that failed. */
bool bt_ring_pause(struct blktap_ring *ring, int ms);
/* The device is not asked any more, and stays as it is. No request is out. */
void bt_ring_free(struct blktap_ring *ring);

/* blktap_ring_create on a system of the caller's. */
int bt_ring_create_on(struct blktap_disk *disk,
		      const struct blktap_ring_options *options,
		      const struct bt_ring_ops *ops, void *opaque,
		      struct blktap_ring **out, struct blktap_error **err);

#endif
