/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Everything that differs between the kernels we build for, and nothing
 * else. Written against 6.1 and 6.12; the version in each test is the one
 * where the kernel changed.
 */
#ifndef BLKTAP_COMPAT_H
#define BLKTAP_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "blktap needs Linux 6.1 or newer"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define BT_DEVNODE_CONST
#else
#define BT_DEVNODE_CONST const
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define bt_class_create(name) class_create(THIS_MODULE, name)
#else
#define bt_class_create(name) class_create(name)
#endif

/* What block_device_operations.open gets: a bdev before, a gendisk since. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define BT_OPEN_ARGS struct block_device *bdev, fmode_t mode
#define bt_open_disk() (bdev->bd_disk)
#else
#define BT_OPEN_ARGS struct gendisk *gd, blk_mode_t mode
#define bt_open_disk() (gd)
#endif

/* vfs_iter_write asked its caller to hold a file system's freezing off. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define bt_file_start_write(file) file_start_write(file)
#define bt_file_end_write(file) file_end_write(file)
#else
#define bt_file_start_write(file) \
	do {                      \
	} while (0)
#define bt_file_end_write(file) \
	do {                    \
	} while (0)
#endif

/* What a struct fd holds was no function's business. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define bt_fd_file(f) ((f).file)
#else
#define bt_fd_file(f) fd_file(f)
#endif

/* A list of requests was a pointer, and what works on it were macros. */
#ifdef rq_list_pop
typedef struct request *bt_rq_list;
#define bt_rq_list_push(list, rq) rq_list_add(list, rq)
#else
typedef struct rq_list bt_rq_list;
#define bt_rq_list_push(list, rq) rq_list_add_head(list, rq)
#endif

/* Merging became the rule, and its flag went away. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define BT_MQ_F_MERGE BLK_MQ_F_SHOULD_MERGE
#else
#define BT_MQ_F_MERGE 0
#endif

/*
 * Where a buffer may begin for O_DIRECT, less one. What copies could do with none,
 * but that is 511 to some kernels; this is what most disks have.
 */
#define BT_DMA_ALIGNMENT 3

/* The limits of a disk, in bytes, in one form for all kernels. */
struct bt_limits {
	u32 logical_block, physical_block;
	u32 max_transfer, io_opt;
	u32 discard_granularity;
	u64 max_discard, max_write_zeroes;
	bool write_cache, fua, rotational;
};

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)

static inline struct gendisk *bt_alloc_disk(struct blk_mq_tag_set *set,
					    const struct bt_limits *l,
					    void *data)
{
	struct gendisk *gd = blk_mq_alloc_disk(set, data);
	struct request_queue *q;

	if (IS_ERR(gd))
		return gd;
	q = gd->queue;
	blk_queue_logical_block_size(q, l->logical_block);
	blk_queue_physical_block_size(q, l->physical_block);
	blk_queue_max_hw_sectors(q, l->max_transfer >> SECTOR_SHIFT);
	blk_queue_max_segments(q, USHRT_MAX);
	blk_queue_max_segment_size(q, UINT_MAX);
	blk_queue_dma_alignment(q, BT_DMA_ALIGNMENT);
	blk_queue_io_min(q, l->physical_block);
	if (l->io_opt)
		blk_queue_io_opt(q, l->io_opt);
	if (l->max_discard) {
		q->limits.discard_granularity = l->discard_granularity;
		blk_queue_max_discard_sectors(q,
					      l->max_discard >> SECTOR_SHIFT);
	}
	blk_queue_max_write_zeroes_sectors(q,
					   l->max_write_zeroes >> SECTOR_SHIFT);
	blk_queue_write_cache(q, l->write_cache, l->fua);
	if (!l->rotational)
		blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	return gd;
}

#else

static inline struct gendisk *bt_alloc_disk(struct blk_mq_tag_set *set,
					    const struct bt_limits *l,
					    void *data)
{
	struct queue_limits lim = {
		.logical_block_size = l->logical_block,
		.physical_block_size = l->physical_block,
		.max_hw_sectors = l->max_transfer >> SECTOR_SHIFT,
		.max_segments = USHRT_MAX,
		.max_segment_size = UINT_MAX,
		.dma_alignment = BT_DMA_ALIGNMENT,
		.io_min = l->physical_block,
		.io_opt = l->io_opt,
		.max_write_zeroes_sectors = l->max_write_zeroes >> SECTOR_SHIFT,
	};

	if (l->max_discard) {
		lim.discard_granularity = l->discard_granularity;
		lim.max_hw_discard_sectors = l->max_discard >> SECTOR_SHIFT;
	}
	if (l->write_cache)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	if (l->fua)
		lim.features |= BLK_FEAT_FUA;
	if (l->rotational)
		lim.features |= BLK_FEAT_ROTATIONAL;
	return blk_mq_alloc_disk(set, &lim, data);
}

#endif

#endif
