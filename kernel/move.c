// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * MOVE and DEFER: data that goes between a request's pages and a file without
 * being copied to or from a slot.
 *
 * The daemon's thread does the reading or writing, as if by preadv(2) or
 * pwritev(2), with what it has open and may do. No lock is held meanwhile: a
 * request that is MOVING is ended by nobody else, and keeps disk, queue and pages;
 * the ring stays with its file, whose ioctl this is.
 */
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/magic.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "blktap.h"
#include "compat.h"

/* So many are taken in, and marked, at once. */
#define CHUNK 16

struct chunk {
	struct blktap_move moves[CHUNK];
	struct bt_slot *slots[CHUNK]; /* NULL: the daemon has no such request */
	u32 nr;
};

/* What a bio has left, as the iterator wants it: the entries counted exactly. */
static void iter_of(struct iov_iter *iter, const struct bio *bio, u32 op)
{
	const struct bvec_iter *at = &bio->bi_iter;
	const struct bio_vec *bv = &bio->bi_io_vec[at->bi_idx];
	u32 left = at->bi_bvec_done + at->bi_size;
	unsigned long nr = 0;

	while (left > bv[nr].bv_len)
		left -= bv[nr++].bv_len;
	iov_iter_bvec(iter, op == BLKTAP_REQ_READ ? READ : WRITE, bv, nr + 1,
		      at->bi_bvec_done + at->bi_size);
	if (at->bi_bvec_done)
		iov_iter_advance(iter, at->bi_bvec_done);
}

static ssize_t move_bio(struct file *file, const struct bio *bio, u32 op,
			loff_t *pos)
{
	struct iov_iter iter;
	ssize_t n;

	iter_of(&iter, bio, op);
	if (op == BLKTAP_REQ_READ)
		return vfs_iter_read(file, &iter, pos, 0);
	bt_file_start_write(file);
	n = vfs_iter_write(file, &iter, pos, 0);
	bt_file_end_write(file);
	return n;
}

#if ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE
/* Who maps the pages may see them at another address of the cache. */
static void flush_pages(struct request *rq)
{
	struct req_iterator iter;
	struct bio_vec bv;

	rq_for_each_segment(bv, rq, iter)
	{
		flush_dcache_page(bv.bv_page);
	}
}
#else
static void flush_pages(struct request *rq)
{
}
#endif

/* The bytes that went, or why none did. */
static ssize_t move_request(struct file *file, const struct bt_slot *slot,
			    loff_t pos)
{
	const struct bio *bio;
	ssize_t done = 0, n;

	for (bio = slot->rq->bio; bio; bio = bio->bi_next) {
		n = move_bio(file, bio, slot->op, &pos);
		if (n < 0) {
			done = done ?: n;
			break;
		}
		done += n;
		if (n < bio->bi_iter.bi_size)
			break;
	}
	if (slot->op == BLKTAP_REQ_READ)
		flush_pages(slot->rq);
	return done;
}

/*
 * Reading and writing must have ended when they return, or what comes late lands
 * in memory that its owner has long used again: so it has to be a file in memory or
 * on a block device. Those that are across a network leave their I/O alone when
 * the daemon is killed; and what else looks like a file is made of functions.
 */
static bool is_waited_for(const struct inode *inode)
{
	const struct super_block *sb = inode->i_sb;

	return sb->s_bdev || sb->s_magic == TMPFS_MAGIC ||
	       sb->s_magic == RAMFS_MAGIC;
}

/*
 * A file on the request's own disk may have to wait for a page that the request
 * has, and neither would ever end: not even as the disk is removed, which ends what
 * waits for an answer, but no move. Read into its slot it does. A disk between them,
 * as dm makes one, is not looked through.
 */
static bool is_on_disk_of(const struct file *file, const struct request *rq)
{
	const struct inode *inode = file_inode(file);
	struct block_device *bdev = inode->i_sb->s_bdev;

	if (S_ISBLK(inode->i_mode))
		bdev = I_BDEV(file->f_mapping->host);
	return bdev && bdev_get_queue(bdev) == rq->q;
}

/* Where the position means nothing, or is not ours to choose, there is no move. */
static bool is_fit(const struct file *file, const struct request *rq)
{
	const struct inode *inode = file_inode(file);

	if (file->f_flags & O_APPEND || is_on_disk_of(file, rq))
		return false;
	return S_ISBLK(inode->i_mode) ||
	       (S_ISREG(inode->i_mode) && is_waited_for(inode));
}

/* No restart of a system call comes of a move's result. */
static ssize_t result_of(ssize_t n)
{
	switch (n) {
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		return -EINTR;
	default:
		return n;
	}
}

/* The file of the last move, which is the next one's as well as a rule. */
struct held {
	struct fd f;
	s32 fd; /* -1: none */
};

static void let_go(struct held *held)
{
	if (held->fd != -1)
		fdput(held->f);
	held->fd = -1;
}

static struct file *hold(struct held *held, s32 fd)
{
	if (fd != held->fd) {
		let_go(held);
		held->f = fdget(fd);
		if (bt_fd_file(held->f))
			held->fd = fd;
	}
	return bt_fd_file(held->f);
}

static ssize_t move_with(const struct blktap_move *m,
			 const struct bt_slot *slot, struct held *held)
{
	struct file *file;

	if (m->offset > LLONG_MAX - slot->bytes)
		return -EINVAL;
	file = hold(held, m->fd);
	if (!file)
		return -EBADF;
	if (!is_fit(file, slot->rq))
		return -EINVAL;
	return result_of(move_request(file, slot, m->offset));
}

static ssize_t move_to_slot(struct bt_ring *r, const struct blktap_move *m,
			    const struct bt_slot *slot)
{
	if (m->offset || slot->op != BLKTAP_REQ_WRITE)
		return -EINVAL;
	bt_copy_in((u8 *)r->area->map + slot->data, slot->rq);
	return slot->bytes;
}

/* Each file may keep us waiting, so no other is begun for a daemon that is to die,
 * nor for a disk that has failed. */
static bool is_in_vain(const struct bt_slot *slot)
{
	return fatal_signal_pending(current) ||
	       READ_ONCE(slot->state) != BT_SLOT_MOVING;
}

/* The slot is somebody else's with the end of it. */
static s32 move_one(struct bt_ring *r, const struct blktap_move *m,
		    struct bt_slot *slot, struct held *held)
{
	ssize_t n;

	if (unlikely(is_in_vain(slot)))
		n = -EINTR;
	else if (m->fd == -1)
		n = move_to_slot(r, m, slot);
	else
		n = move_with(m, slot, held);
	slot->moved = n == slot->bytes && slot->op == BLKTAP_REQ_READ;
	bt_request_end_move(slot);
	return n;
}

static struct bt_queue *queue_of(const struct bt_ring *r,
				 const struct blktap_move *m)
{
	if (m->queue >= r->nr_queues || m->reserved)
		return NULL;
	return &r->queues[array_index_nospec(m->queue, r->nr_queues)];
}

/*
 * Marks those of a chunk, under each queue's lock once for all that follow each
 * other. A queue that is dead has none.
 */
static int begin(struct bt_ring *r, struct chunk *c)
{
	struct bt_queue *q = NULL, *next;
	int err = 0;
	u32 i;

	for (i = 0; i < c->nr; i++) {
		const struct blktap_move *m = &c->moves[i];

		c->slots[i] = NULL;
		next = queue_of(r, m);
		if (!next)
			continue;
		if (next != q) {
			if (q)
				mutex_unlock(&q->cq_lock);
			q = next;
			mutex_lock(&q->cq_lock);
		}
		err = q->dead ?: err;
		if (q->dead)
			continue;
		c->slots[i] = bt_request_begin_move(r, q, m->tag, m->gen);
		if (c->slots[i])
			q->moves++;
	}
	if (q)
		mutex_unlock(&q->cq_lock);
	return err;
}

/* Not in line: a chunk alone is most of what a frame should have. */
static noinline void move_chunk(struct bt_ring *r, struct chunk *c)
{
	struct held held = { .fd = -1 };
	u32 i;

	for (i = 0; i < c->nr; i++) {
		c->moves[i].result = c->slots[i] ? move_one(r, &c->moves[i],
							    c->slots[i], &held)
						 : -EINVAL;
		cond_resched();
	}
	let_go(&held);
}

/* What is copied in is copied back, results included. */
long bt_ring_move(struct bt_ring *r, void __user *arg)
{
	struct blktap_move __user *moves;
	struct blktap_moves a;
	struct chunk c;
	u32 done;
	int err;

	err = bt_get_arg(&a, sizeof(a), arg);
	if (err)
		return err;
	if (!smp_load_acquire(&r->ready))
		return -ENODEV;
	if (!(r->features & BLKTAP_FEATURE_MOVE) || !a.count ||
	    a.count > BLKTAP_MAX_DEPTH)
		return -EINVAL;
	moves = u64_to_user_ptr(a.moves);
	for (done = 0; done < a.count; done += c.nr) {
		c.nr = min_t(u32, a.count - done, CHUNK);
		if (copy_from_user(c.moves, moves + done,
				   c.nr * sizeof(*c.moves)))
			return -EFAULT;
		err = begin(r, &c);
		move_chunk(r, &c);
		if (copy_to_user(moves + done, c.moves,
				 c.nr * sizeof(*c.moves)))
			return -EFAULT;
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

long bt_ring_defer(struct bt_ring *r, void __user *arg)
{
	struct blktap_defer d;
	int err;

	err = bt_get_arg(&d, sizeof(d), arg);
	if (err)
		return err;
	if (!smp_load_acquire(&r->ready))
		return -ENODEV;
	if (!(r->features & BLKTAP_FEATURE_MOVE) || d.on > 1)
		return -EINVAL;
	WRITE_ONCE(r->defers, d.on);
	return 0;
}
