// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The module, its control device and the table of minors.
 *
 * A minor is in the table from before its ring device is there until it is gone;
 * FREE first marks it as dying, so that of FREE, ATTACH, open and rmmod racing
 * each other exactly one wins and the others see no minor.
 *
 * Nothing waits while the table is locked: a device is made in memory, which may
 * have to be written out first, to a disk whose daemon is about to look up another
 * minor. Who looks up the very minor that is being made waits for it.
 */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "blktap.h"
#include "compat.h"

/* Highest the parameters may be set. */
#define MINORS_BOUND 16384

unsigned int bt_max_minors = 1024;
module_param_named(max_minors, bt_max_minors, uint, 0444);
MODULE_PARM_DESC(max_minors, "most minors, at most 16384");

unsigned int bt_max_queues = 16;
module_param_named(max_queues, bt_max_queues, uint, 0444);
MODULE_PARM_DESC(max_queues, "most hardware queues of a disk, at most 64");

unsigned int bt_max_depth = 256;
module_param_named(max_depth, bt_max_depth, uint, 0444);
MODULE_PARM_DESC(max_depth, "most requests per queue, at most 1024");

static unsigned int recovery_timeout = 30;
unsigned int bt_recovery_ms;
module_param(recovery_timeout, uint, 0444);
MODULE_PARM_DESC(recovery_timeout,
		 "seconds that requests wait for a new daemon (0: they fail)");

unsigned int bt_remove_timeout = 30;
module_param_named(remove_timeout, bt_remove_timeout, uint, 0444);
MODULE_PARM_DESC(remove_timeout,
		 "seconds a request waits while its disk is being removed");

unsigned int bt_slow_timeout = 30;
module_param_named(slow_timeout, bt_slow_timeout, uint, 0444);
MODULE_PARM_DESC(slow_timeout, "seconds after which a request is reported");

dev_t bt_ring_devt;
int bt_disk_major;
struct workqueue_struct *bt_wq, *bt_expire_wq;

static DEFINE_XARRAY_ALLOC(table);
static struct class *ring_class;
static struct cdev ring_cdev;

/* ---- arguments --------------------------------------------------------- */

/*
 * Reads a sized struct. @size is its first version's: less is too old to
 * make sense, more must be zero. The size field is read once; what the
 * second read of the struct brings is overwritten.
 */
int bt_get_arg(void *arg, size_t size, const void __user *from)
{
	return bt_get_arg_grown(arg, size, size, from);
}

/* A struct that has grown: @least bytes of it were always there. */
int bt_get_arg_grown(void *arg, size_t size, size_t least,
		     const void __user *from)
{
	u32 given;
	int err;

	/* the size first, to know how much to copy */
	if (get_user(given, (const u32 __user *)from))
		return -EFAULT;
	if (given < least)
		return -EINVAL;
	if (given > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(arg, size, from, given);
	/* the caller may have changed it between the two reads */
	*(u32 *)arg = size;
	return err;
}

int bt_put_arg(void __user *to, const void *arg, size_t size)
{
	/* The size field stays the caller's. */
	return copy_to_user(to + sizeof(u32), arg + sizeof(u32),
			    size - sizeof(u32))
		       ? -EFAULT
		       : 0;
}

/* ---- minors ------------------------------------------------------------ */

/* Everybody has let go: table, files and disk. */
static void minor_release(struct kref *ref)
{
	struct bt_minor *m = container_of(ref, struct bt_minor, ref);

	bt_area_destroy(m->drain);
	kfree(m);
}

void bt_minor_put(struct bt_minor *m)
{
	kref_put(&m->ref, minor_release);
}

/*
 * The reference is taken under the table's lock, so FREE cannot take the last
 * one in between. No minor, either, for a caller that is killed as it waits.
 */
struct bt_minor *bt_minor_get(u32 minor)
{
	struct bt_minor *m;

	xa_lock(&table);
	m = xa_load(&table, minor);
	if (m)
		kref_get(&m->ref);
	xa_unlock(&table);
	if (!m)
		return NULL;
	if (!wait_for_completion_killable(&m->made) && m->dev)
		return m;
	bt_minor_put(m);
	return NULL;
}

static struct bt_minor *minor_new(void)
{
	struct bt_minor *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);

	if (!m)
		return NULL;
	kref_init(&m->ref);
	mutex_init(&m->lock);
	init_completion(&m->made);
	init_waitqueue_head(&m->gone);
	INIT_DELAYED_WORK(&m->expire, bt_disk_expire_work);
	INIT_WORK(&m->remove, bt_disk_remove_work);
	return m;
}

/* The lowest number that is free, or the wanted one. */
static int take_number(struct bt_minor *m, s32 wanted)
{
	int err;

	if (wanted < 0) {
		err = xa_alloc(&table, &m->minor, m,
			       XA_LIMIT(0, bt_max_minors - 1), GFP_KERNEL);
		return err == -EBUSY ? -ENOSPC : err;
	}
	m->minor = wanted;
	err = xa_insert(&table, m->minor, m, GFP_KERNEL);
	return err == -EBUSY ? -EEXIST : err;
}

/* An open may come from the moment the device is there, or by guessing. */
static int make_device(struct bt_minor *m)
{
	struct device *dev = device_create_with_groups(
		ring_class, NULL, MKDEV(MAJOR(bt_ring_devt), m->minor), m,
		bt_minor_groups, "blktap%u", m->minor);

	if (IS_ERR(dev))
		xa_erase(&table, m->minor);
	else
		m->dev = dev;
	complete_all(&m->made);
	return PTR_ERR_OR_ZERO(dev);
}

/* The caller has a reference of his own: anybody may free the minor at once. */
static int minor_alloc(s32 wanted, struct bt_minor **out)
{
	struct bt_minor *m;
	int err;

	if (wanted < -1 || wanted >= (s32)bt_max_minors)
		return -EINVAL;
	m = minor_new();
	if (!m)
		return -ENOMEM;
	kref_get(&m->ref);
	err = take_number(m, wanted);
	if (!err)
		err = make_device(m);
	if (err) {
		bt_minor_put(m);
		bt_minor_put(m);
		return err;
	}
	*out = m;
	return 0;
}

/* Decides who may free, then waits for the disk; the table's name goes last. */
static int minor_free(struct bt_minor *m, bool force)
{
	int err = 0;

	mutex_lock(&m->lock);
	if (m->dying)
		err = -ENODEV;
	else if (m->owner && !force)
		err = -EBUSY;
	else if (m->disk)
		err = bt_disk_remove(
			m,
			BLKTAP_REMOVE_NOW |
				(force ? 0 : BLKTAP_REMOVE_IF_UNUSED),
			0);
	if (!err)
		m->dying = true;
	mutex_unlock(&m->lock);
	if (err)
		return err;
	/* Not for long: every request of the disk fails by now. */
	wait_event(m->gone, READ_ONCE(m->state) == BLKTAP_STATE_EMPTY);
	cancel_delayed_work_sync(&m->expire);
	/*
	 * without any lock: it waits for whoever is in a sysfs file of the
	 * minor, and those take m->lock
	 */
	device_destroy(ring_class, MKDEV(MAJOR(bt_ring_devt), m->minor));
	xa_erase(&table, m->minor);
	bt_minor_put(m);
	return 0;
}

/* ---- control device ---------------------------------------------------- */

static long do_version(void __user *arg)
{
	struct blktap_version v;
	int err = bt_get_arg(&v, sizeof(v), arg);

	if (err)
		return err;
	v.abi = BLKTAP_ABI_VERSION;
	v.features = BLKTAP_FEATURES;
	v.max_minors = bt_max_minors;
	v.max_queues = bt_max_queues;
	v.max_depth = bt_max_depth;
	v.max_slot_bytes = BLKTAP_MAX_SLOT_BYTES;
	v.max_area_bytes = bt_area_limit();
	return bt_put_arg(arg, &v, sizeof(v));
}

static long do_alloc(void __user *arg)
{
	struct blktap_alloc a;
	struct bt_minor *m;
	int err = bt_get_arg(&a, sizeof(a), arg);

	if (err)
		return err;
	if (a.ring_major || a.disk_major)
		return -EINVAL;
	err = minor_alloc(a.minor, &m);
	if (err)
		return err;
	a.minor = m->minor;
	a.ring_major = MAJOR(bt_ring_devt);
	a.disk_major = bt_disk_major;
	err = bt_put_arg(arg, &a, sizeof(a));
	if (err)
		minor_free(m, false); /* nobody knows its number */
	bt_minor_put(m);
	return err;
}

static long do_free(void __user *arg)
{
	struct blktap_free f;
	struct bt_minor *m;
	int err = bt_get_arg(&f, sizeof(f), arg);

	if (err)
		return err;
	if (f.reserved || f.flags & ~BLKTAP_FREE_FORCE)
		return -EINVAL;
	m = bt_minor_get(f.minor);
	if (!m)
		return -ENOENT;
	err = minor_free(m, f.flags & BLKTAP_FREE_FORCE);
	bt_minor_put(m);
	return err;
}

static long control_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	void __user *p = (void __user *)arg;

	switch (cmd) {
	case BLKTAP_CTL_VERSION:
		return do_version(p);
	case BLKTAP_CTL_ALLOC:
		return do_alloc(p);
	case BLKTAP_CTL_FREE:
		return do_free(p);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice control_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = BLKTAP_CONTROL_NAME,
	.nodename = BLKTAP_DEV_DIR "/control",
	.mode = 0600,
	.fops = &control_fops,
};

/* ---- module ------------------------------------------------------------ */

/*
 * Without the directory devtmpfs would make a node elsewhere, and never take it
 * away: a name is worth waiting for.
 */
char *bt_devnode(const char *name)
{
	return kasprintf(GFP_KERNEL | __GFP_NOFAIL, BLKTAP_DEV_DIR "/%s", name);
}

static char *ring_devnode(BT_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return bt_devnode(dev_name(dev));
}

static void clamp_params(void)
{
	bt_max_minors = clamp(bt_max_minors, 1U, (unsigned int)MINORS_BOUND);
	bt_max_queues =
		clamp(bt_max_queues, 1U, (unsigned int)BLKTAP_MAX_QUEUES);
	bt_max_depth = clamp(bt_max_depth, 1U, (unsigned int)BLKTAP_MAX_DEPTH);
	recovery_timeout = min(recovery_timeout, BLKTAP_MAX_RECOVERY_MS / 1000);
	bt_recovery_ms = recovery_timeout * 1000;
	bt_remove_timeout = clamp(bt_remove_timeout, 1U, 3600U);
	bt_slow_timeout = clamp(bt_slow_timeout, 1U, 3600U);
}

static int __init ring_device_init(void)
{
	int err;

	err = alloc_chrdev_region(&bt_ring_devt, 0, bt_max_minors,
				  BLKTAP_RING_NAME);
	if (err)
		return err;
	ring_class = bt_class_create(BLKTAP_RING_NAME);
	if (IS_ERR(ring_class)) {
		err = PTR_ERR(ring_class);
		goto unregister;
	}
	ring_class->devnode = ring_devnode;
	cdev_init(&ring_cdev, &bt_ring_fops);
	ring_cdev.owner = THIS_MODULE;
	err = cdev_add(&ring_cdev, bt_ring_devt, bt_max_minors);
	if (err)
		goto destroy;
	return 0;
destroy:
	class_destroy(ring_class);
unregister:
	unregister_chrdev_region(bt_ring_devt, bt_max_minors);
	return err;
}

static void ring_device_fini(void)
{
	cdev_del(&ring_cdev);
	class_destroy(ring_class);
	unregister_chrdev_region(bt_ring_devt, bt_max_minors);
}

/*
 * Removal may be what frees memory, so it may not wait for it. Of removals only so
 * many run at once (256), and each may wait for what ends at its deadline:
 * so deadlines have a queue of their own. They are set as a removal is asked for, not
 * as it runs, so what was out by then is not waited for once more by one that had
 * to wait for others. What has none is a move that waits for its file.
 */
static int __init queues_init(void)
{
	bt_wq = alloc_workqueue("blktap", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!bt_wq)
		return -ENOMEM;
	bt_expire_wq = alloc_workqueue("blktap-expire",
				       WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (bt_expire_wq)
		return 0;
	destroy_workqueue(bt_wq);
	return -ENOMEM;
}

static void queues_fini(void)
{
	destroy_workqueue(bt_expire_wq);
	destroy_workqueue(bt_wq);
}

static int __init blktap_init(void)
{
	int err;

	clamp_params();
	err = queues_init();
	if (err)
		return err;
	bt_disk_major = register_blkdev(0, BLKTAP_DISK_NAME);
	if (bt_disk_major < 0) {
		err = bt_disk_major;
		goto queues_fini;
	}
	err = ring_device_init();
	if (err)
		goto unregister;
	err = misc_register(&control_dev);
	if (err)
		goto ring_fini;
	return 0;
ring_fini:
	ring_device_fini();
unregister:
	unregister_blkdev(bt_disk_major, BLKTAP_DISK_NAME);
queues_fini:
	queues_fini();
	return err;
}

/* No file of ours and no disk is open, or we would not be here. */
static void __exit blktap_exit(void)
{
	struct bt_minor *m;
	unsigned long id;

	misc_deregister(&control_dev);
	xa_for_each(&table, id, m)
	{
		kref_get(&m->ref);
		minor_free(m, true);
		bt_minor_put(m);
	}
	bt_disk_wait_all();
	ring_device_fini();
	unregister_blkdev(bt_disk_major, BLKTAP_DISK_NAME);
	queues_fini();
	xa_destroy(&table);
}

module_init(blktap_init);
module_exit(blktap_exit);

MODULE_DESCRIPTION("Block devices served by a tapdisk in user space");
MODULE_AUTHOR("The blktap project");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_VERSION("0.1.0");
