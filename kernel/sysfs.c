// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * /sys/class/blktap2/blktapN: what a minor is doing, for people and scripts.
 * One value per file but for debug, which is for people alone.
 */
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/sysfs.h>

#include "blktap.h"
#include "compat.h"

static const char *const state_names[] = {
	[BLKTAP_STATE_EMPTY] = "empty",	      [BLKTAP_STATE_LIVE] = "live",
	[BLKTAP_STATE_ORPHAN] = "orphan",     [BLKTAP_STATE_FAILED] = "failed",
	[BLKTAP_STATE_REMOVING] = "removing",
};

static ssize_t state_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct bt_minor *m = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", state_names[READ_ONCE(m->state)]);
}
static DEVICE_ATTR_RO(state);

/* The process that attached, or 0. */
static ssize_t task_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	int pid;

	mutex_lock(&m->lock);
	pid = m->owner ? m->owner->pid : 0;
	mutex_unlock(&m->lock);
	return sysfs_emit(buf, "%d\n", pid);
}
static DEVICE_ATTR_RO(task);

static ssize_t name_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	ssize_t n;

	mutex_lock(&m->lock);
	n = sysfs_emit(buf, "%s\n", m->disk ? m->disk->par.name : "");
	mutex_unlock(&m->lock);
	return n;
}
static DEVICE_ATTR_RO(name);

static ssize_t recovery_ms_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	ssize_t n = -ENODEV;

	mutex_lock(&m->lock);
	if (m->disk)
		n = sysfs_emit(buf, "%u\n", m->disk->par.recovery_ms);
	mutex_unlock(&m->lock);
	return n;
}

/* Counts from the next death on. */
static ssize_t recovery_ms_store(struct device *dev,
				 struct device_attribute *attr, const char *buf,
				 size_t count)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	u32 ms;
	int err = kstrtou32(buf, 0, &ms);

	if (err)
		return err;
	if (ms > BLKTAP_MAX_RECOVERY_MS)
		return -EINVAL;
	mutex_lock(&m->lock);
	if (m->disk)
		m->disk->par.recovery_ms = ms;
	else
		err = -ENODEV;
	mutex_unlock(&m->lock);
	return err ? err : count;
}
static DEVICE_ATTR_RW(recovery_ms);

/* "1" as REMOVE does it, "now" without waiting for the daemon. */
static ssize_t remove_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	u32 flags = 0;
	int err;

	if (sysfs_streq(buf, "now"))
		flags = BLKTAP_REMOVE_NOW;
	else if (!sysfs_streq(buf, "1"))
		return -EINVAL;
	mutex_lock(&m->lock);
	err = bt_disk_remove(m, flags, 0);
	mutex_unlock(&m->lock);
	return err ? err : count;
}
static DEVICE_ATTR_WO(remove);

/*
 * A quarter of the page at most, so that slots are seen, too. The counters are
 * read without their locks.
 */
static int show_queues(const struct bt_ring *r, char *buf, int at)
{
	u32 i;

	for (i = 0; i < r->nr_queues && at < PAGE_SIZE / 4; i++) {
		const struct bt_queue *q = &r->queues[i];

		at += sysfs_emit_at(buf, at,
				    "queue %u requests %llu wakes %llu "
				    "enters %llu moves %llu\n",
				    i, q->requests, q->wakes, q->enters,
				    q->moves);
	}
	return at;
}

/*
 * Unanswered requests, as many as fit. A line is shorter than 128 bytes. A slot
 * may end while it is read: then the line is one of a request that was there
 * just now.
 */
static int show_slots(const struct bt_disk *d, char *buf, int at)
{
	u32 i, nr = d->par.queues * d->par.depth;

	for (i = 0; i < nr && at < PAGE_SIZE - 128; i++) {
		const struct bt_slot *s = &d->slots[i];

		/* acquire: there is a request in it */
		if (!smp_load_acquire(&s->state))
			continue;
		at += sysfs_emit_at(buf, at,
				    "queue %u tag %u op %u offset %llu "
				    "bytes %u age_ms %u\n",
				    i / d->par.depth, i % d->par.depth, s->op,
				    bt_request_offset(s->rq, s->op), s->bytes,
				    jiffies_to_msecs(jiffies - s->start));
	}
	return at;
}

/* The lock keeps disk and ring; requests come and go. */
static ssize_t debug_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct bt_minor *m = dev_get_drvdata(dev);
	const struct bt_disk *d;
	int at = 0;

	mutex_lock(&m->lock);
	d = m->disk;
	if (d) {
		at += sysfs_emit_at(buf, at,
				    "queues %u depth %u slot_bytes %u "
				    "slow %d openers %u\n",
				    d->par.queues, d->par.depth,
				    d->par.slot_bytes, atomic_read(&d->slow),
				    disk_openers(d->gd));
		if (d->ring)
			at = show_queues(d->ring, buf, at);
		at = show_slots(d, buf, at);
	}
	mutex_unlock(&m->lock);
	return at;
}
static struct device_attribute dev_attr_debug =
	__ATTR(debug, 0400, debug_show, NULL);

static struct attribute *minor_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_task.attr,
	&dev_attr_name.attr,
	&dev_attr_remove.attr,
	&dev_attr_recovery_ms.attr,
	&dev_attr_debug.attr,
	NULL,
};

static const struct attribute_group minor_group = { .attrs = minor_attrs };

const struct attribute_group *bt_minor_groups[] = { &minor_group, NULL };
