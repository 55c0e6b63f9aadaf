// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The ring device: one open file is one bt_ring, which may become the owner
 * of its minor, get a disk once, and serve it until the file goes.
 *
 * Wake-ups. The kernel stores sq_tail, then looks for a sleeper; a sleeper
 * announces itself, then looks at sq_tail. With a full barrier in between on
 * both sides one of them always sees the other. ENTER announces itself in a
 * counter of our own; poll by need_wake in shared memory, which is a hint
 * only: a daemon that lies about it misses its own wake-ups.
 *
 * Before it sleeps, ENTER looks at sq_tail for a moment, as a wake-up costs
 * more than most gaps between requests last. It looks as long as that has
 * paid of late, never over spin_us, and not while anyone else wants the CPU.
 */
#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "blktap.h"
#include "compat.h"

#define SPIN_MAX_US 1000U

static unsigned int spin_us = 20;
module_param(spin_us, uint, 0644);
MODULE_PARM_DESC(spin_us, "most microseconds ENTER looks for requests before "
			  "it sleeps (default 20, 0: none, most 1000)");

/* Takes the memory for a disk and lays the queues out in it. */
int bt_ring_setup(struct bt_ring *r, struct bt_disk *d)
{
	const struct blktap_create *par = &d->par;
	u32 i;
	int err;

	bt_layout_of(&r->layout, par);
	r->queues =
		kvcalloc(par->queues, sizeof(*r->queues), GFP_KERNEL_ACCOUNT);
	if (!r->queues)
		return -ENOMEM;
	err = bt_area_create(&r->area, &r->layout);
	if (err) {
		bt_ring_fini(r);
		return err;
	}
	for (i = 0; i < par->queues; i++) {
		struct bt_queue *q = &r->queues[i];
		u8 *at = (u8 *)r->area->map + (u64)i * r->layout.queue_stride;

		q->shared = (void *)at;
		q->sq = (void *)(at + r->layout.sq_offset);
		q->desc = (void *)(at + r->layout.desc_offset);
		q->cq = (void *)(at + r->layout.cq_offset);
		spin_lock_init(&q->sq_lock);
		mutex_init(&q->cq_lock);
		init_waitqueue_head(&q->wait);
		bt_request_init_queue(q);
	}
	r->nr_queues = par->queues;
	r->disk = d;
	return 0;
}

/* Undoes setup; only before start, or with the file. */
void bt_ring_fini(struct bt_ring *r)
{
	u32 i;

	for (i = 0; i < r->nr_queues; i++)
		while (smp_load_acquire(&r->queues[i].is_away))
			cpu_relax();
	bt_area_destroy(r->area);
	r->area = NULL;
	kvfree(r->queues);
	r->queues = NULL;
	r->nr_queues = 0;
	r->disk = NULL;
}

/* From here on mmap, poll and ENTER find the ring, without a lock. */
void bt_ring_start(struct bt_ring *r)
{
	smp_store_release(&r->ready, true);
	wake_up_interruptible_all(&r->wait);
}

/* No completion is taken any more; whoever sleeps learns why. */
void bt_ring_kill(struct bt_ring *r, int why)
{
	u32 i;

	WRITE_ONCE(r->gone, why);
	for (i = 0; i < r->nr_queues; i++) {
		struct bt_queue *q = &r->queues[i];

		mutex_lock(&q->cq_lock);
		WRITE_ONCE(q->dead, why);
		mutex_unlock(&q->cq_lock);
		wake_up_interruptible_all(&q->wait);
	}
	wake_up_interruptible_all(&r->wait);
}

void bt_ring_notify(struct bt_ring *r, struct bt_queue *q)
{
	smp_mb(); /* sq_tail before the sleeper's mark; pairs with sleepers */
	if (atomic_read(&q->waiters)) {
		q->wakes++;
		wake_up_interruptible_all(&q->wait);
	}
	if (READ_ONCE(q->shared->need_wake) || atomic_read(&r->waiters)) {
		q->wakes++;
		WRITE_ONCE(q->shared->need_wake, 0);
		wake_up_interruptible_poll(&r->wait, EPOLLIN | EPOLLRDNORM);
	}
}

/* By the daemon's own sq_head: a wrong one cheats the daemon alone. */
static u32 pending(const struct bt_ring *r, const struct bt_queue *q)
{
	u32 n = READ_ONCE(q->sq_tail) - READ_ONCE(q->shared->sq_head);

	return min(n, r->layout.entries);
}

static u32 pending_all(const struct bt_ring *r)
{
	u32 i, n = 0;

	for (i = 0; i < r->nr_queues; i++)
		n += pending(r, &r->queues[i]);
	return n;
}

static __poll_t ring_poll(struct file *file, poll_table *pt)
{
	struct bt_ring *r = file->private_data;
	int gone;
	u32 i;

	poll_wait(file, &r->wait, pt);
	if (!smp_load_acquire(&r->ready))
		return 0;
	gone = READ_ONCE(r->gone);
	if (gone)
		return gone == -ENODEV ? EPOLLHUP : EPOLLERR;
	if (!pending_all(r)) {
		for (i = 0; i < r->nr_queues; i++)
			WRITE_ONCE(r->queues[i].shared->need_wake, 1);
		smp_mb(); /* pairs with bt_ring_notify */
		if (!pending_all(r))
			return 0;
	}
	return EPOLLIN | EPOLLRDNORM;
}

/* What a sleeper waits for, of one queue, or of all if @q is NULL. */
static bool is_due(const struct bt_ring *r, const struct bt_queue *q)
{
	return q ? pending(r, q) || READ_ONCE(q->dead)
		 : pending_all(r) || READ_ONCE(r->gone);
}

/* Whether it came before @until. */
static bool spin(const struct bt_ring *r, const struct bt_queue *q, u64 until)
{
	while (!is_due(r, q)) {
		if (need_resched() || signal_pending(current) ||
		    ktime_get_ns() >= until)
			return false;
		cpu_relax();
	}
	return true;
}

static long sleep_for(struct bt_ring *r, struct bt_queue *q, s32 timeout_ms)
{
	long left = timeout_ms < 0 ? MAX_SCHEDULE_TIMEOUT
				   : (long)msecs_to_jiffies(timeout_ms);
	atomic_t *waiters = q ? &q->waiters : &r->waiters;
	wait_queue_head_t *wait = q ? &q->wait : &r->wait;

	atomic_inc(waiters);
	smp_mb__after_atomic(); /* pairs with bt_ring_notify */
	left = wait_event_interruptible_timeout(*wait, is_due(r, q), left);
	atomic_dec(waiters);
	return left < 0 ? -EINTR : 0;
}

/*
 * Looking pays if the request comes within the limit, be it looked for or
 * slept for: then the next wait looks for that long. Else half as long. Who
 * gives no time wants no look either.
 */
static long wait_for(struct bt_ring *r, struct bt_queue *q, s32 timeout_ms)
{
	u32 limit = min(READ_ONCE(spin_us), SPIN_MAX_US) * NSEC_PER_USEC;
	u32 *window = q ? &q->spin_ns : &r->spin_ns;
	u64 start = ktime_get_ns();
	long err = 0;

	if (!timeout_ms)
		return 0;
	if (!spin(r, q, start + min(READ_ONCE(*window), limit)))
		err = sleep_for(r, q, timeout_ms);
	WRITE_ONCE(*window, ktime_get_ns() - start <= limit
				    ? limit
				    : READ_ONCE(*window) / 2);
	return err;
}

static int reap(struct bt_ring *r, struct bt_queue *q)
{
	char why[96];
	int err = bt_request_reap(r, q, why, sizeof(why));

	if (err == -EBADMSG)
		bt_disk_fail(r->minor, r, why);
	return err;
}

static long do_enter(struct bt_ring *r, void __user *arg)
{
	struct blktap_enter e;
	struct bt_queue *q = NULL;
	long err;
	u32 i;

	err = bt_get_arg(&e, sizeof(e), arg);
	if (err)
		return err;
	if (!smp_load_acquire(&r->ready))
		return -ENODEV;
	if (e.flags & ~BLKTAP_ENTER_WAIT)
		return -EINVAL;
	if (e.queue != BLKTAP_ALL_QUEUES) {
		if (e.queue >= r->nr_queues)
			return -EINVAL;
		q = &r->queues[array_index_nospec(e.queue, r->nr_queues)];
	}
	for (i = 0; i < (q ? 1 : r->nr_queues); i++) {
		err = reap(r, q ? q : &r->queues[i]);
		if (err)
			return err;
	}
	if (e.flags & BLKTAP_ENTER_WAIT &&
	    !(q ? pending(r, q) : pending_all(r))) {
		err = wait_for(r, q, e.timeout_ms);
		if (err)
			return err;
		err = q ? READ_ONCE(q->dead) : READ_ONCE(r->gone);
		if (err)
			return err;
	}
	return q ? pending(r, q) : pending_all(r);
}

static int attach_locked(struct bt_minor *m, struct bt_ring *r, u64 features)
{
	int err = 0;

	if (m->dying)
		return -ENODEV;
	if (m->owner || r->ready || r->gone)
		return -EBUSY;
	if (m->state == BLKTAP_STATE_FAILED ||
	    m->state == BLKTAP_STATE_REMOVING)
		return -ESHUTDOWN;
	if (m->disk && !(features & BLKTAP_FEATURE_RECOVERY))
		return -EOPNOTSUPP;
	if (m->drain) {
		if (bt_area_is_pinned(m->drain))
			return -EAGAIN;
		bt_area_destroy(m->drain);
		m->drain = NULL;
	}
	if (m->disk)
		err = bt_disk_adopt(m, r);
	if (!err)
		m->owner = r;
	return err;
}

static long do_attach(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_attach a;
	unsigned int noio;
	int err;

	err = bt_get_arg(&a, sizeof(a), arg);
	if (err)
		return err;
	if (a.flags || a.reserved)
		return -EINVAL;
	if (a.features & ~(u64)BLKTAP_FEATURE_RECOVERY)
		return -EOPNOTSUPP;
	mutex_lock(&m->lock);
	/* Freeing memory may wait for the very disk that is taken over. */
	noio = memalloc_noio_save();
	err = attach_locked(m, r, a.features);
	memalloc_noio_restore(noio);
	if (!err) {
		r->features = a.features;
		r->pid = task_tgid_nr(current);
	}
	a.state = m->state;
	mutex_unlock(&m->lock);
	/* Who comes too late learns whether waiting makes sense. */
	if (err && err != -ESHUTDOWN)
		return err;
	return bt_put_arg(arg, &a, sizeof(a)) ?: err;
}

static long do_create(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_create c;
	int err;

	err = bt_get_arg(&c, sizeof(c), arg);
	if (err)
		return err;
	err = bt_disk_check(&c);
	if (err)
		return err;
	mutex_lock(&m->lock);
	if (m->dying)
		err = -ENODEV;
	else if (m->owner != r)
		err = -EPERM;
	else if (m->disk || r->ready || r->gone)
		err = -EBUSY;
	else
		err = bt_disk_create(m, r, &c);
	mutex_unlock(&m->lock);
	return err;
}

/* The layout is the owner's; whoever else asks sees the disk alone. */
static long do_info(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_info i;
	struct bt_layout *l = &r->layout;
	int err;

	err = bt_get_arg(&i, sizeof(i), arg);
	if (err)
		return err;
	memset(&i, 0, sizeof(i));
	mutex_lock(&m->lock);
	i.state = m->state;
	i.minor = m->minor;
	i.disk_major = bt_disk_major;
	i.features = r->features;
	if (m->disk) {
		const struct blktap_create *par = &m->disk->par;

		i.capacity = par->capacity;
		i.flags = par->flags;
		i.logical_block = par->logical_block;
		i.physical_block = par->physical_block;
		i.recovery_ms = par->recovery_ms;
		i.queues = par->queues;
		i.depth = par->depth;
		i.slot_bytes = par->slot_bytes;
		memcpy(i.name, par->name, sizeof(i.name));
	}
	if (r->ready) {
		i.sq_entries = i.cq_entries = l->entries;
		i.queue_stride = l->queue_stride;
		i.sq_offset = l->sq_offset;
		i.desc_offset = l->desc_offset;
		i.cq_offset = l->cq_offset;
		i.data_offset = l->data_offset;
		i.map_bytes = l->bytes;
	}
	mutex_unlock(&m->lock);
	return bt_put_arg(arg, &i, sizeof(i));
}

static long do_resize(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_resize s;
	int err;

	err = bt_get_arg(&s, sizeof(s), arg);
	if (err)
		return err;
	if (s.reserved)
		return -EINVAL;
	mutex_lock(&m->lock);
	err = m->owner == r ? bt_disk_resize(m, s.capacity) : -EPERM;
	mutex_unlock(&m->lock);
	return err;
}

static long do_remove(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_remove v;
	int err;

	err = bt_get_arg(&v, sizeof(v), arg);
	if (err)
		return err;
	if (v.reserved ||
	    v.flags & ~(BLKTAP_REMOVE_IF_UNUSED | BLKTAP_REMOVE_NOW))
		return -EINVAL;
	mutex_lock(&m->lock);
	err = m->owner == r ? bt_disk_remove(m, v.flags, v.timeout_ms) : -EPERM;
	mutex_unlock(&m->lock);
	return err;
}

static long ring_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct bt_ring *r = file->private_data;
	void __user *p = (void __user *)arg;

	switch (cmd) {
	case BLKTAP_RING_ENTER:
		return do_enter(r, p);
	case BLKTAP_RING_ATTACH:
		return do_attach(r, p);
	case BLKTAP_RING_CREATE:
		return do_create(r, p);
	case BLKTAP_RING_INFO:
		return do_info(r, p);
	case BLKTAP_RING_RESIZE:
		return do_resize(r, p);
	case BLKTAP_RING_REMOVE:
		return do_remove(r, p);
	default:
		return -ENOTTY;
	}
}

/*
 * All pages at once: no fault handler, so no fault on the data path. Not
 * inherited by fork, so a daemon's death is the end of its mapping.
 */
static int ring_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct bt_ring *r = file->private_data;
	unsigned long at = vma->vm_pgoff, nr = vma_pages(vma);

	if (!smp_load_acquire(&r->ready))
		return -ENODEV;
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (at >= r->area->nr || nr > r->area->nr - at)
		return -EINVAL;
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC);
	return vm_insert_pages(vma, vma->vm_start, r->area->pages + at, &nr);
}

static int ring_open(struct inode *inode, struct file *file)
{
	struct bt_minor *m = bt_minor_get(iminor(inode));
	struct bt_ring *r;

	if (!m)
		return -ENXIO;
	r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);
	if (!r) {
		bt_minor_put(m);
		return -ENOMEM;
	}
	r->minor = m;
	init_waitqueue_head(&r->wait);
	file->private_data = r;
	return stream_open(inode, file);
}

/* The last copy of the file and the last mapping are gone. */
static int ring_release(struct inode *inode, struct file *file)
{
	struct bt_ring *r = file->private_data;
	struct bt_minor *m = r->minor;

	mutex_lock(&m->lock);
	if (m->owner == r) {
		m->owner = NULL;
		if (m->disk)
			bt_disk_abandon(m, r);
	}
	mutex_unlock(&m->lock);
	bt_ring_fini(r);
	kfree(r);
	bt_minor_put(m);
	return 0;
}

const struct file_operations bt_ring_fops = {
	.owner = THIS_MODULE,
	.open = ring_open,
	.release = ring_release,
	.unlocked_ioctl = ring_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = ring_poll,
	.mmap = ring_mmap,
};
