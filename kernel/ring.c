// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The ring device: one open file is one bt_ring, which may become the owner
 * of its minor, get a disk once, and serve it until the file goes.
 * How a daemon waits for requests is enter.c.
 */
#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "blktap.h"
#include "compat.h"

/*
 * Takes the memory for a disk and lays the queues out in it. Nothing of it can
 * be seen from outside before bt_ring_start. On failure the ring is as before.
 */
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
		q->slots = &d->slots[i * par->depth];
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
		/*
		 * a batch that another CPU is about to take is in the queue's
		 * memory
		 */
		while (smp_load_acquire(&r->queues[i].is_away))
			cpu_relax();
	bt_area_destroy(r->area);
	r->area = NULL;
	kvfree(r->queues);
	r->queues = NULL;
	r->nr_queues = 0;
	r->disk = NULL;
}

/*
 * From here on mmap, poll and ENTER find the ring, without a lock. A release:
 * who sees `ready` sees all that was set up before.
 */
void bt_ring_start(struct bt_ring *r)
{
	smp_store_release(&r->ready, true);
	wake_up_interruptible_all(&r->wait);
	wake_up_interruptible_all(&r->all);
}

/*
 * No completion is taken any more; whoever sleeps learns why. Under cq_lock, so
 * that a reaping that runs has ended, and none begins. It is called with
 * bt_minor.lock held.
 */
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
	wake_up_interruptible_all(&r->all);
}

/*
 * A file attaches once: one whose disk has gone is of no more use (gone), and
 * one that has its ring keeps it (ready).
 */
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
	/* each ATTACH asks anew whether the dead owner's I/O has ended */
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

/*
 * features count for this file from now on; what it did not ask for is as if it
 * did not exist (check_enter).
 */
static long do_attach(struct bt_ring *r, void __user *arg)
{
	struct bt_minor *m = r->minor;
	struct blktap_attach a;
	int err;

	err = bt_get_arg(&a, sizeof(a), arg);
	if (err)
		return err;
	if (a.flags || a.reserved)
		return -EINVAL;
	if (a.features & ~BLKTAP_FEATURES)
		return -EOPNOTSUPP;
	mutex_lock(&m->lock);
	err = attach_locked(m, r, a.features);
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

/* Checked before the lock is taken, in our own copy. */
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
	/* padding and what is not known must not show kernel memory */
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

/* Anybody's removal is by FREE, or by sysfs; this is the owner's. */
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

/*
 * Those that are not for single requests. What memory they take is taken without
 * waiting for any disk to be written to: it may be the very one that is taken over,
 * or another one of the caller's, who serves nothing meanwhile.
 */
static long life_ioctl(struct bt_ring *r, unsigned int cmd, void __user *p)
{
	switch (cmd) {
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
	case BLKTAP_RING_DEFER:
		return bt_ring_defer(r, p);
	default:
		return -ENOTTY;
	}
}

static long ring_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct bt_ring *r = file->private_data;
	void __user *p = (void __user *)arg;
	unsigned int noio;
	long err;

	switch (cmd) {
	case BLKTAP_RING_ENTER:
		return bt_ring_enter(r, p);
	case BLKTAP_RING_MOVE:
		return bt_ring_move(r, p);
	default:
		noio = memalloc_noio_save();
		err = life_ioctl(r, cmd, p);
		memalloc_noio_restore(noio);
		return err;
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
	/* any whole part of the area; data slots alone, or all of it */
	if (at >= r->area->nr || nr > r->area->nr - at)
		return -EINVAL;
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC);
	return vm_insert_pages(vma, vma->vm_start, r->area->pages + at, &nr);
}

/*
 * Opening alone owns nothing: INFO works, and the minor stays until the file
 * goes.
 */
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
	init_waitqueue_head(&r->all);
	file->private_data = r;
	return stream_open(inode, file);
}

/*
 * The last copy of the file and the last mapping are gone. The owner is none
 * any more before the ring's memory goes: poll, ENTER and mmap need the file,
 * and queue_rq is quiesced or finds `failed`.
 */
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
	.poll = bt_ring_poll,
	.mmap = ring_mmap,
};
