/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The module's inside: its objects, who holds them, and which lock guards
 * what.
 *
 *   bt_minor   a number with a ring device. Held by the table of minors, by
 *              every open ring file and by its disk.
 *   bt_ring    an open ring file. Lives exactly as long as the file.
 *   bt_area    the pages a ring shares with its daemon; one ring's for ever,
 *              so no page ever has a second daemon.
 *   bt_disk    a gendisk and the state of its requests. Lives until the last
 *              opener of the disk has gone, maybe long after its removal.
 *
 * Locks, outermost first:
 *   bt_minor.lock > gendisk.open_mutex > bt_queue.cq_lock > bt_queue.sq_lock
 * control's table has its own, under which nothing waits.
 * MOVE holds none of them while it reads or writes a file: see request.c.
 * bt_minor.lock is never taken by a callback of the block layer, so it may
 * be held over add_disk and blk_mq_quiesce_queue; it is never held over
 * del_gendisk, which waits for requests.
 */
#ifndef BLKTAP_KERNEL_H
#define BLKTAP_KERNEL_H

#include <linux/atomic.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "uapi/blktap.h"

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

struct bt_ring;
struct bt_disk;

/* Pages shared with user space: the rings first, then the data slots. */
struct bt_area {
	struct page **pages;
	unsigned long nr; /* allocated so far */
	unsigned long ring_nr; /* of them, the rings */
	/*
	 * NULL once bt_area_unmap was called: then only the pages are left, for
	 * I/O of user space that has not ended
	 */
	void *map; /* all of them, in the kernel */
};

/* Where things lie in an area; the one place that computes it. */
struct bt_layout {
	u32 entries; /* of sq and of cq, a power of two */
	u32 queue_stride;
	u32 sq_offset, desc_offset, cq_offset;
	u64 data_offset;
	u64 bytes;
};

struct bt_minor {
	struct kref ref;
	u32 minor;
	struct device *dev; /* NULL: it could not be made */
	struct completion made; /* dev is what it will be */
	struct mutex lock; /* all below */
	enum blktap_state state;
	bool dying; /* FREE is at work: no new owner */
	/* who has attached; its file holds the minor, so it is never stale */
	struct bt_ring *owner;
	/*
	 * from CREATE until del_gendisk is done; the disk itself holds the
	 * minor until its last opener has gone
	 */
	struct bt_disk *disk;
	struct bt_area *drain; /* a dead owner's, if its I/O still runs */
	struct delayed_work expire; /* end of recovery, or of removal */
	unsigned long deadline; /* jiffies; what expire waits for */
	unsigned long patience; /* of a removal, with each request; jiffies */
	struct work_struct remove;
	wait_queue_head_t gone; /* woken when state becomes EMPTY */
};

enum bt_slot_state {
	BT_SLOT_FREE, /* no request, or one that is being ended */
	BT_SLOT_OUT, /* a daemon may answer */
	BT_SLOT_MOVING, /* out, and MOVE is at its data: nobody else ends it */
	BT_SLOT_DOOMED, /* moving, and failed meanwhile: MOVE ends it */
};

/*
 * One tag. Written by queue_rq, cleared by the one who ends the request. Of the
 * descriptor it has what an answer is checked by; the rest is told from the request.
 */
struct bt_slot {
	/* valid while the slot is not free */
	struct request *rq;
	unsigned long start; /* jiffies */
	u32 bytes; /* an answer's result, if all went well */
	u8 op; /* enum blktap_req_op */
	bool deferred; /* a WRITE whose data the daemon fetches by MOVE */
	bool moved; /* a READ's data is where it belongs already */
	u32 state; /* enum bt_slot_state; stored last, released first */
	/* always */
	u32 gen; /* counts the tag's uses */
	u64 data; /* where the tag's data lies in the area */
} ____cacheline_aligned;

/* Whether ENTER looks for requests before it sleeps; a hint, without a lock. */
struct bt_look {
	bool on;
	u16 rest; /* waits until it is tried again */
	u16 pause; /* what rest was set to when it last did not pay */
};

/* One queue of a ring: the private side of a struct blktap_queue. */
struct bt_queue {
	struct blktap_queue *shared;
	u32 *sq;
	struct blktap_desc *desc;
	struct blktap_cqe *cq;
	struct bt_slot *slots; /* the disk's, by tag */

	spinlock_t sq_lock; /* sq_tail, and writing to sq */
	/*
	 * what the daemon is shown; the shared one is written, never read back
	 */
	u32 sq_tail;
	/* figures for sysfs, which reads them without a lock */
	u64 requests;
	u64 wakes;

	struct mutex cq_lock ____cacheline_aligned_in_smp;
	/* how far answers were taken; the daemon cannot move it */
	u32 cq_head;
	int dead; /* 0, or what ENTER answers */
	u64 enters;
	u64 moves;
	/* one of it: see end_batch in request.c */
	call_single_data_t csd;
	struct io_comp_batch away; /* being ended on another CPU */
	bool is_away; /* the ring must not go */

	wait_queue_head_t wait; /* ENTER on this queue alone */
	/*
	 * sleepers in ENTER on this queue; on all queues they are
	 * bt_ring.waiters
	 */
	atomic_t waiters;
	struct bt_look look;
};

struct bt_ring {
	struct bt_minor *minor;
	pid_t pid; /* who attached, for people */
	u64 features;
	bool defers; /* a WRITE's data stays where it is; without a lock */
	struct bt_area *area; /* NULL: no disk yet */
	bool ready; /* all below is set: mmap, poll, ENTER may go */
	struct bt_layout layout;
	struct bt_disk *disk; /* under cq_lock, only while dead is 0 */
	int gone; /* as bt_queue.dead, for poll */
	wait_queue_head_t wait; /* poll */
	wait_queue_head_t all; /* ENTER on all queues */
	atomic_t waiters; /* on all */
	struct bt_look look; /* as bt_queue.look, on all queues */
	u32 nr_queues;
	struct bt_queue *queues;
};

struct bt_disk {
	struct bt_minor *minor;
	struct gendisk *gd;
	struct blk_mq_tag_set tags;
	struct blktap_create par; /* checked */
	struct bt_ring *ring; /* NULL while orphaned */
	/* by us, so exactly one unquiesce is due */
	bool quiesced;
	/* set once, before the queue is quiesced; never taken back */
	bool failed; /* queue_rq answers EIO */
	bool removing; /* no new opener */
	atomic_t slow; /* requests found older than the timeout */
	struct bt_slot slots[]; /* [queue * depth + tag] */
};

/* control.c */
extern dev_t bt_ring_devt;
extern int bt_disk_major;
extern unsigned int bt_max_minors, bt_max_queues, bt_max_depth;
extern unsigned int bt_recovery_ms, bt_remove_timeout, bt_slow_timeout;
extern struct workqueue_struct *bt_wq, *bt_expire_wq;
struct bt_minor *bt_minor_get(u32 minor);
void bt_minor_put(struct bt_minor *m);
char *bt_devnode(const char *name);
int bt_get_arg(void *arg, size_t size, const void __user *from);
int bt_get_arg_grown(void *arg, size_t size, size_t least,
		     const void __user *from);
int bt_put_arg(void __user *to, const void *arg, size_t size);

/* area.c */
u64 bt_area_limit(void);
void bt_layout_of(struct bt_layout *l, const struct blktap_create *par);
int bt_area_create(struct bt_area **out, const struct bt_layout *l);
void bt_area_destroy(struct bt_area *a);
bool bt_area_is_pinned(const struct bt_area *a);
void bt_area_unmap(struct bt_area *a);

/* ring.c */
extern const struct file_operations bt_ring_fops;
int bt_ring_setup(struct bt_ring *r, struct bt_disk *d);
void bt_ring_fini(struct bt_ring *r);
void bt_ring_start(struct bt_ring *r);
void bt_ring_kill(struct bt_ring *r, int why);

/* enter.c */
void bt_ring_notify(struct bt_ring *r, struct bt_queue *q);
__poll_t bt_ring_poll(struct file *file, struct poll_table_struct *pt);
long bt_ring_enter(struct bt_ring *r, void __user *arg);

/* copy.c */
void bt_copy_in(u8 *slot, struct request *rq);
void bt_copy_out(u8 *slot, struct request *rq);

/* move.c */
long bt_ring_move(struct bt_ring *r, void __user *arg);
long bt_ring_defer(struct bt_ring *r, void __user *arg);

/* request.c */
extern const struct blk_mq_ops bt_mq_ops;
u64 bt_request_offset(const struct request *rq, u32 op);
void bt_request_init_queue(struct bt_queue *q);
int bt_request_reap(struct bt_ring *r, struct bt_queue *q, char *why,
		    size_t len);
struct bt_slot *bt_request_begin_move(struct bt_ring *r, struct bt_queue *q,
				      u32 tag, u32 gen);
void bt_request_end_move(struct bt_slot *slot);
void bt_request_replay(struct bt_disk *d);
void bt_request_fail_all(struct bt_disk *d);
unsigned long bt_request_oldest(const struct bt_disk *d);

/* device.c; all with bt_minor.lock held but bt_disk_fail */
int bt_disk_check(struct blktap_create *par);
int bt_disk_create(struct bt_minor *m, struct bt_ring *r,
		   const struct blktap_create *par);
int bt_disk_adopt(struct bt_minor *m, struct bt_ring *r);
void bt_disk_abandon(struct bt_minor *m, struct bt_ring *r);
int bt_disk_resize(struct bt_minor *m, u64 capacity);
int bt_disk_remove(struct bt_minor *m, u32 flags, u32 timeout_ms);
void bt_disk_fail(struct bt_minor *m, struct bt_ring *r, const char *why);
void bt_disk_remove_work(struct work_struct *work);
void bt_disk_expire_work(struct work_struct *work);
bool bt_disk_is_used(struct bt_disk *d);
void bt_disk_wait_all(void);

/* sysfs.c */
extern const struct attribute_group *bt_minor_groups[];

#endif
