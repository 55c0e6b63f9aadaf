// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The disk of a minor, from its creation to the last of its openers.
 *
 *             CREATE              daemon dies
 *   EMPTY ------------> LIVE ------------------> ORPHAN
 *     ^                  | ^ <------------------    |
 *     |                  | |      ATTACH            | recovery_ms over
 *     |       bad answer | |                        v
 *     |                  +-|--------------------> FAILED
 *     |  REMOVE, FREE      v                        |
 *     +---------------- REMOVING <------------------+
 *
 * The queue is quiesced in ORPHAN and nowhere else. In FAILED, and in
 * REMOVING from the moment nobody serves, every request ends with EIO at
 * once: so whatever waits for requests (removal, umount, fsync) comes to an
 * end. There is no way back from either.
 */
#include <linux/blkdev.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "blktap.h"
#include "compat.h"

/* Most bytes of one DISCARD or WRITE_ZEROES: an answer is an s32. */
#define MAX_RANGE (1U << 30)

static atomic_t live = ATOMIC_INIT(0); /* disks not yet freed */
static DECLARE_WAIT_QUEUE_HEAD(all_gone);

/* ---- block device operations; none takes bt_minor.lock ---------------- */

static int disk_open(BT_OPEN_ARGS)
{
	struct bt_disk *d = bt_open_disk()->private_data;

	/* bt_disk_remove sets it under open_mutex, which we are called with. */
	return d->removing ? -ENXIO : 0;
}

static int disk_set_read_only(struct block_device *bdev, bool ro)
{
	struct bt_disk *d = bdev->bd_disk->private_data;

	return !ro && d->par.flags & BLKTAP_DISK_READ_ONLY ? -EROFS : 0;
}

static char *disk_devnode(struct gendisk *gd, umode_t *mode)
{
	return bt_devnode(gd->disk_name);
}

/*
 * The last opener has gone and del_gendisk was long ago; nothing of ours is
 * looked at by the block layer any more.
 */
static void disk_free(struct gendisk *gd)
{
	struct bt_disk *d = gd->private_data;

	blk_mq_free_tag_set(&d->tags);
	bt_minor_put(d->minor);
	kvfree(d);
	/*
	 * The last opener's hold on the module is gone by now; who unloads it waits
	 * for live, and for us to have left (bt_disk_wait_all)
	 */
	rcu_read_lock();
	if (atomic_dec_and_test(&live))
		wake_up(&all_gone);
	rcu_read_unlock();
	/* A few instructions are left, at which we may still be preempted. */
}

static const struct block_device_operations disk_fops = {
	.owner = THIS_MODULE,
	.open = disk_open,
	.set_read_only = disk_set_read_only,
	.devnode = disk_devnode,
	.free_disk = disk_free,
};

/* The module's text is in use until the last disk was freed. */
void bt_disk_wait_all(void)
{
	wait_event(all_gone, !atomic_read(&live));
	/*
	 * Whoever made it so has left disk_free's reader, and then disk_free: a task
	 * that was preempted there has run since. Where nobody is preempted both are
	 * the same.
	 */
	synchronize_rcu();
	if (IS_ENABLED(CONFIG_TASKS_RCU))
		synchronize_rcu_tasks();
}

/* ---- making one -------------------------------------------------------- */

/*
 * It is shown by sysfs and in the log as it is: a control character could forge
 * a line of it.
 */
static int check_name(const char *name)
{
	size_t i;

	for (i = 0; i < BLKTAP_NAME_BYTES && name[i]; i++)
		if (name[i] < 0x20 && name[i] >= 0)
			return -EINVAL;
	return i < BLKTAP_NAME_BYTES ? 0 : -EINVAL;
}

/* capacity fits a loff_t, so an end computed from it does not run over. */
static int check_capacity(u64 capacity, u32 block)
{
	if (!capacity || capacity > LLONG_MAX || capacity & (block - 1))
		return -EINVAL;
	return 0;
}

static int check_blocks(struct blktap_create *p)
{
	u32 lb = p->logical_block;

	if (lb != 512 && lb != 4096)
		return -EINVAL;
	if (!p->physical_block)
		p->physical_block = lb;
	if (!p->discard_granularity)
		p->discard_granularity = lb;
	if (!is_power_of_2(p->physical_block) || p->physical_block < lb ||
	    p->physical_block > SZ_64K)
		return -EINVAL;
	if (!is_power_of_2(p->discard_granularity) ||
	    p->discard_granularity < lb || p->discard_granularity > MAX_RANGE)
		return -EINVAL;
	if (p->io_opt & (p->physical_block - 1) || p->io_opt > MAX_RANGE)
		return -EINVAL;
	return check_capacity(p->capacity, lb);
}

/* 0 means the most there is; anything else in whole blocks. */
static int check_range(u64 *bytes, bool wanted, u32 granularity)
{
	if (!wanted)
		*bytes = 0;
	else if (!*bytes)
		*bytes = MAX_RANGE;
	else if (*bytes > MAX_RANGE || *bytes & (granularity - 1))
		return -EINVAL;
	return 0;
}

/* Bounds everything and fills in what was left open. */
int bt_disk_check(struct blktap_create *p)
{
	int err;

	if (p->flags & ~BLKTAP_DISK_FLAGS)
		return -EINVAL;
	if (p->flags & BLKTAP_DISK_FUA && !(p->flags & BLKTAP_DISK_FLUSH))
		return -EINVAL;
	if (!p->queues || p->queues > bt_max_queues || !p->depth ||
	    p->depth > bt_max_depth)
		return -EINVAL;
	/* more queues than CPUs would never be used */
	p->queues = min(p->queues, nr_cpu_ids);
	if (p->slot_bytes < PAGE_SIZE || !PAGE_ALIGNED(p->slot_bytes) ||
	    p->slot_bytes > BLKTAP_MAX_SLOT_BYTES)
		return -EINVAL;
	/*
	 * Each factor is bounded above, so the product fits 64 bits. The area's
	 * total is asked again when it is made, rings included.
	 */
	if ((u64)p->queues * p->depth * p->slot_bytes > bt_area_limit())
		return -E2BIG;
	err = check_blocks(p);
	if (err)
		return err;
	err = check_range(&p->max_discard, p->flags & BLKTAP_DISK_DISCARD,
			  p->discard_granularity);
	if (err)
		return err;
	err = check_range(&p->max_write_zeroes,
			  p->flags & BLKTAP_DISK_WRITE_ZEROES,
			  p->logical_block);
	if (err)
		return err;
	if (p->recovery_ms == BLKTAP_RECOVERY_DEFAULT)
		p->recovery_ms = bt_recovery_ms;
	if (p->recovery_ms > BLKTAP_MAX_RECOVERY_MS)
		return -EINVAL;
	return check_name(p->name);
}

static struct gendisk *alloc_gendisk(struct bt_disk *d, u32 minor)
{
	const struct blktap_create *p = &d->par;
	const struct bt_limits lim = {
		.logical_block = p->logical_block,
		.physical_block = p->physical_block,
		.max_transfer = p->slot_bytes,
		.io_opt = p->io_opt,
		.discard_granularity = p->discard_granularity,
		.max_discard = p->max_discard,
		.max_write_zeroes = p->max_write_zeroes,
		.write_cache = p->flags & BLKTAP_DISK_FLUSH,
		.fua = p->flags & BLKTAP_DISK_FUA,
		.rotational = p->flags & BLKTAP_DISK_ROTATIONAL,
	};
	struct gendisk *gd = bt_alloc_disk(&d->tags, &lim, d);

	if (IS_ERR(gd))
		return gd;
	gd->major = bt_disk_major;
	gd->first_minor = minor;
	gd->minors = 1; /* partitions take extended numbers */
	gd->fops = &disk_fops;
	gd->private_data = d;
	snprintf(gd->disk_name, sizeof(gd->disk_name), BLKTAP_DISK_NAME "%u",
		 minor);
	set_capacity(gd, p->capacity >> SECTOR_SHIFT);
	if (p->flags & BLKTAP_DISK_READ_ONLY)
		set_disk_ro(gd, true);
	return gd;
}

/* They are where they are in every ring that the disk will have. */
static void place_slots(struct bt_disk *d)
{
	u32 i, n = d->par.queues * d->par.depth;
	struct bt_layout l;

	bt_layout_of(&l, &d->par);
	for (i = 0; i < n; i++)
		d->slots[i].data = l.data_offset + (u64)i * d->par.slot_bytes;
}

/*
 * What it makes is undone by its caller with put_disk, tag set and memory, as
 * long as the disk was not added; behind that by disk_free.
 */
static int alloc_disk_of(struct bt_minor *m, const struct blktap_create *par,
			 struct bt_disk **out)
{
	struct bt_disk *d;
	int err;

	d = kvzalloc(struct_size(d, slots, (size_t)par->queues * par->depth),
		     GFP_KERNEL_ACCOUNT);
	if (!d)
		return -ENOMEM;
	d->minor = m;
	d->par = *par;
	place_slots(d);
	d->tags.ops = &bt_mq_ops;
	d->tags.nr_hw_queues = par->queues;
	d->tags.queue_depth = par->depth;
	d->tags.numa_node = NUMA_NO_NODE;
	/*
	 * a CPU that goes waits for no answer (STACKING): none needs it, and
	 * the daemon may be frozen already, as it is when a machine suspends
	 */
	d->tags.flags = BT_MQ_F_MERGE | BLK_MQ_F_NO_SCHED_BY_DEFAULT |
			BLK_MQ_F_STACKING;
	d->tags.timeout = bt_slow_timeout * HZ;
	err = blk_mq_alloc_tag_set(&d->tags);
	if (err)
		goto free;
	d->gd = alloc_gendisk(d, m->minor);
	if (IS_ERR(d->gd)) {
		err = PTR_ERR(d->gd);
		goto free_tags;
	}
	*out = d;
	return 0;
free_tags:
	blk_mq_free_tag_set(&d->tags);
free:
	kvfree(d);
	return err;
}

/*
 * The disk holds its daemon's only thread up while it is made, so nothing
 * here may read from it: partitions are looked for at the first open.
 */
static int show_disk(struct bt_disk *d)
{
	struct gendisk *gd = d->gd;
	bool scan = d->par.flags & BLKTAP_DISK_PARTSCAN;
	int err;

	if (scan)
		set_bit(GD_SUPPRESS_PART_SCAN, &gd->state);
	else
		gd->flags |= GENHD_FL_NO_PART;
	err = add_disk(gd);
	if (err || !scan)
		return err;
	clear_bit(GD_SUPPRESS_PART_SCAN, &gd->state);
	set_bit(GD_NEED_PART_SCAN, &gd->state);
	disk_uevent(gd, KOBJ_CHANGE);
	return 0;
}

/*
 * The ring is set up before the disk is shown: add_disk may already bring
 * requests. They are in the ring when the daemon maps it.
 */
int bt_disk_create(struct bt_minor *m, struct bt_ring *r,
		   const struct blktap_create *par)
{
	struct bt_disk *d;
	int err;

	err = alloc_disk_of(m, par, &d);
	if (err)
		return err;
	err = bt_ring_setup(r, d);
	if (err)
		goto put;
	d->ring = r;
	err = show_disk(d);
	if (err)
		goto fini;
	/*
	 * the disk's own hold on its minor and on the module, put by disk_free
	 */
	kref_get(&m->ref);
	atomic_inc(&live);
	m->disk = d;
	m->state = BLKTAP_STATE_LIVE;
	bt_ring_start(r);
	return 0;
fini:
	bt_ring_fini(r);
put:
	put_disk(d->gd); /* not added: disk_free is not called */
	blk_mq_free_tag_set(&d->tags);
	kvfree(d);
	return err;
}

int bt_disk_resize(struct bt_minor *m, u64 capacity)
{
	struct bt_disk *d = m->disk;

	if (!d)
		return -ENODEV;
	if (m->state != BLKTAP_STATE_LIVE)
		return -ESHUTDOWN;
	if (check_capacity(capacity, d->par.logical_block))
		return -EINVAL;
	/* first, so that INFO never says less than openers see */
	d->par.capacity = capacity;
	set_capacity_and_notify(d->gd, capacity >> SECTOR_SHIFT);
	return 0;
}

/* ---- death and recovery ------------------------------------------------ */

/*
 * The work looks at the deadline itself: one that was queued for an earlier
 * deadline and runs late does nothing.
 */
static void set_deadline(struct bt_minor *m, unsigned long delay)
{
	m->deadline = jiffies + delay;
	mod_delayed_work(bt_expire_wq, &m->expire, delay);
}

/*
 * The owner's file is going. Its ring is not looked at after this. Quiesced
 * before the ring is let go: whoever was in queue_rq has left then, and who
 * comes later is put aside by the block layer. What is in slots stays busy, for
 * the next daemon's replay.
 */
void bt_disk_abandon(struct bt_minor *m, struct bt_ring *r)
{
	struct bt_disk *d = m->disk;

	if (!d->failed) {
		blk_mq_quiesce_queue(d->gd->queue);
		d->quiesced = true;
	}
	d->ring = NULL;
	if (d->failed)
		return;
	if (m->state == BLKTAP_STATE_LIVE && d->par.recovery_ms) {
		m->state = BLKTAP_STATE_ORPHAN;
		set_deadline(m, msecs_to_jiffies(d->par.recovery_ms));
		pr_notice("%s: lost its daemon, waits %u ms for another\n",
			  d->gd->disk_name, d->par.recovery_ms);
		/*
		 * the dead daemon's O_DIRECT may read or write these pages
		 * still, so its data could land after a new daemon's; ATTACH
		 * waits until it has ended
		 */
		if (bt_area_is_pinned(r->area)) {
			bt_area_unmap(r->area);
			m->drain = r->area;
			r->area = NULL;
		}
		return;
	}
	pr_notice("%s: lost its daemon, requests fail\n", d->gd->disk_name);
	bt_request_fail_all(d);
	if (m->state == BLKTAP_STATE_LIVE)
		m->state = BLKTAP_STATE_FAILED;
}

/*
 * Replayed before the queue runs: the old requests come first in the new ring.
 * The tail of the ring is set before `ready`, so the daemon finds them with its
 * first look.
 */
int bt_disk_adopt(struct bt_minor *m, struct bt_ring *r)
{
	struct bt_disk *d = m->disk;
	int err;

	err = bt_ring_setup(r, d);
	if (err)
		return err;
	cancel_delayed_work(&m->expire);
	d->ring = r;
	bt_request_replay(d);
	m->state = BLKTAP_STATE_LIVE;
	bt_ring_start(r);
	d->quiesced = false;
	blk_mq_unquiesce_queue(d->gd->queue);
	pr_notice("%s: has a new daemon\n", d->gd->disk_name);
	return 0;
}

/*
 * Takes the lock itself: called when a daemon broke the rules. Not from under
 * cq_lock, which bt_minor.lock is outside of. It may be too late: the owner may
 * have gone meanwhile, or the disk.
 */
void bt_disk_fail(struct bt_minor *m, struct bt_ring *r, const char *why)
{
	mutex_lock(&m->lock);
	if (m->owner == r && m->disk && !m->disk->failed) {
		pr_err("%s: failed: %s\n", m->disk->gd->disk_name, why);
		bt_request_fail_all(m->disk);
		if (m->state == BLKTAP_STATE_LIVE)
			m->state = BLKTAP_STATE_FAILED;
	}
	mutex_unlock(&m->lock);
}

/*
 * A removal goes on as long as requests are answered, for they may be all that
 * was dirty in a large memory; and nobody is to blame where none is out.
 */
static void expire_removal(struct bt_minor *m)
{
	struct bt_disk *d = m->disk;
	unsigned long waited = bt_request_oldest(d);

	if (waited < m->patience) {
		set_deadline(m, m->patience - waited);
		return;
	}
	pr_err("%s: failed: not served while being removed\n",
	       d->gd->disk_name);
	bt_request_fail_all(d);
}

void bt_disk_expire_work(struct work_struct *work)
{
	struct bt_minor *m =
		container_of(to_delayed_work(work), struct bt_minor, expire);
	struct bt_disk *d;

	mutex_lock(&m->lock);
	d = m->disk;
	if (!d || d->failed || time_before(jiffies, m->deadline))
		goto unlock;
	if (m->state == BLKTAP_STATE_ORPHAN) {
		pr_err("%s: failed: no daemon came back\n", d->gd->disk_name);
		bt_request_fail_all(d);
		m->state = BLKTAP_STATE_FAILED;
	} else if (m->state == BLKTAP_STATE_REMOVING) {
		expire_removal(m);
	}
unlock:
	mutex_unlock(&m->lock);
}

/* ---- removal ----------------------------------------------------------- */

bool bt_disk_is_used(struct bt_disk *d)
{
	return disk_openers(d->gd) > 0;
}

/*
 * Starts the removal; the rest is bt_disk_remove_work's, for del_gendisk
 * writes dirty pages and the caller may be the one who has to serve that.
 */
int bt_disk_remove(struct bt_minor *m, u32 flags, u32 timeout_ms)
{
	struct bt_disk *d = m->disk;
	bool now = flags & BLKTAP_REMOVE_NOW;

	if (!d)
		return -ENODEV;
	if (now && !(flags & BLKTAP_REMOVE_IF_UNUSED) && !d->failed)
		bt_request_fail_all(d);
	/*
	 * Who closes the disk last holds it while dirty pages are written, and
	 * the caller may be the one who has to serve that: he asks again.
	 */
	if (!mutex_trylock(&d->gd->open_mutex)) {
		if (!d->failed)
			return -EBUSY;
		mutex_lock(&d->gd->open_mutex);
	}
	if (flags & BLKTAP_REMOVE_IF_UNUSED && bt_disk_is_used(d)) {
		mutex_unlock(&d->gd->open_mutex);
		return -EBUSY;
	}
	/*
	 * Under open_mutex, as disk_open reads it there: who opened before is
	 * counted, who comes later is refused.
	 */
	d->removing = true;
	mutex_unlock(&d->gd->open_mutex);
	if (!d->failed && (now || m->state == BLKTAP_STATE_ORPHAN))
		bt_request_fail_all(d);
	if (m->state == BLKTAP_STATE_REMOVING)
		return 0;
	m->state = BLKTAP_STATE_REMOVING;
	if (!timeout_ms)
		timeout_ms = bt_remove_timeout * MSEC_PER_SEC;
	m->patience = msecs_to_jiffies(min(timeout_ms, BLKTAP_MAX_RECOVERY_MS));
	if (!d->failed)
		set_deadline(m, m->patience);
	kref_get(&m->ref);
	queue_work(bt_wq, &m->remove);
	return 0;
}

void bt_disk_remove_work(struct work_struct *work)
{
	struct bt_minor *m = container_of(work, struct bt_minor, remove);
	struct bt_disk *d = m->disk; /* nobody else takes it away */
	struct gendisk *gd = d->gd;

	/*
	 * without m->lock: it waits for requests, and a daemon that dies
	 * meanwhile needs the lock to have them failed
	 */
	del_gendisk(gd);

	mutex_lock(&m->lock);
	cancel_delayed_work(&m->expire);
	if (d->ring)
		bt_ring_kill(d->ring, -ENODEV);
	d->ring = NULL;
	m->disk = NULL;
	bt_area_destroy(m->drain);
	m->drain = NULL;
	m->state = BLKTAP_STATE_EMPTY;
	mutex_unlock(&m->lock);
	wake_up_all(&m->gone);
	put_disk(gd);
	bt_minor_put(m);
}
