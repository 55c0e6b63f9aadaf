/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The ABI between the blktap kernel module and a tapdisk.
 *
 * Three kinds of node, all 0600:
 *   /dev/xen/blktap-2/control    allocate and free minors
 *   /dev/xen/blktap-2/blktapN    the ring of minor N: ioctl, mmap, poll
 *   /dev/xen/blktap-2/tapdevN    the disk of minor N
 *
 * The life of a disk, as its daemon sees it:
 *   control: ALLOC -> N
 *   ring:    open, ATTACH, CREATE, mmap, serve ..., REMOVE, serve until
 *            poll says EPOLLHUP, close
 *   control: FREE
 * After the daemon died a new one does open, ATTACH, mmap, serve: ATTACH
 * finds the disk, and every request that was not answered is in the new
 * ring. A ring fd serves one disk once; a second CREATE wants a new open.
 *
 * Versions. An ioctl number never changes: every argument starts with its
 * own size, written by the caller. A kernel that knows less takes a longer
 * struct as long as the tail is zero (else E2BIG); a kernel that knows more
 * reads the missing tail as zero. What is added later is announced by a bit
 * of blktap_version.features and used only if ATTACH asked for it.
 *
 * Units. Every size and offset is in bytes; times are in milliseconds.
 * Everything is in the byte order of the host. Every reserved field is zero
 * and is refused otherwise.
 *
 * Trust. Neither side trusts the shared mapping. The kernel keeps its own
 * copy of everything it wrote and reads each completion once. User space
 * should check descriptors the same way: read once, then bound.
 */
#ifndef BLKTAP_UAPI_BLKTAP_H
#define BLKTAP_UAPI_BLKTAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifdef __cplusplus
#define BLKTAP_ABI_ASSERT(cond, text) static_assert(cond, text)
#else
#define BLKTAP_ABI_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define BLKTAP_ABI_VERSION 1

/* Names that clients look for. */
#define BLKTAP_CONTROL_NAME "blktap-control" /* in /proc/misc */
#define BLKTAP_RING_NAME "blktap2" /* char major in /proc/devices, class */
#define BLKTAP_DISK_NAME "tapdev" /* block major in /proc/devices */
#define BLKTAP_DEV_DIR "xen/blktap-2" /* below /dev */

/* Bits of blktap_version.features and blktap_attach.features. */
#define BLKTAP_FEATURE_RECOVERY (1ULL << 0) /* ATTACH finds orphaned disks */
#define BLKTAP_FEATURE_WAIT_FD (1ULL << 1) /* ENTER waits for an fd, too */
#define BLKTAP_FEATURE_LOOK (1ULL << 2) /* ENTER looks without a wait */
#define BLKTAP_FEATURE_MOVE (1ULL << 3) /* MOVE, DEFER */
#define BLKTAP_FEATURES 0xfULL

/*
 * The ABI's own bounds. The running module may be set lower (see
 * blktap_version); it is never set higher.
 */
#define BLKTAP_MAX_QUEUES 64
#define BLKTAP_MAX_DEPTH 1024
#define BLKTAP_MAX_SLOT_BYTES (1U << 20)
#define BLKTAP_MAX_RECOVERY_MS (24U * 3600 * 1000)
#define BLKTAP_NAME_BYTES 128

/* ---- control device ---------------------------------------------------- */

/* VERSION: what this kernel can do. All but size is written by the kernel. */
struct blktap_version {
	__u32 size; /* in: sizeof */
	__u32 abi; /* BLKTAP_ABI_VERSION of the kernel */
	__u64 features; /* BLKTAP_FEATURE_* */
	__u32 max_minors;
	__u32 max_queues;
	__u32 max_depth; /* per queue */
	__u32 max_slot_bytes; /* largest request */
	__u64 max_area_bytes; /* data area of one disk */
};

/* ALLOC: make a minor and its ring device. EEXIST if the wanted one is. */
struct blktap_alloc {
	__u32 size; /* in: sizeof */
	__s32 minor; /* in: the one wanted or -1; out: the one made */
	__u32 ring_major; /* out: char major of blktapN */
	__u32 disk_major; /* out: block major of tapdevN */
};

/*
 * FREE: take a minor away. EBUSY while a ring fd is attached or its disk has
 * openers. A disk whose daemon is gone is removed first: what it still held
 * fails with EIO. With FORCE neither owner nor openers matter: requests fail
 * with EIO at once, the owner sees EPOLLHUP, openers keep a dead disk.
 */
struct blktap_free {
	__u32 size; /* in: sizeof */
	__u32 minor; /* in */
	__u32 flags; /* in: BLKTAP_FREE_* */
	__u32 reserved;
};
#define BLKTAP_FREE_FORCE (1U << 0)

#define BLKTAP_IOC_MAGIC 0xB7
#define BLKTAP_CTL_VERSION _IO(BLKTAP_IOC_MAGIC, 0x00) /* blktap_version */
#define BLKTAP_CTL_ALLOC _IO(BLKTAP_IOC_MAGIC, 0x01) /* blktap_alloc */
#define BLKTAP_CTL_FREE _IO(BLKTAP_IOC_MAGIC, 0x02) /* blktap_free */

/* ---- ring device: one disk --------------------------------------------- */

/*
 * ATTACH: this open file becomes the owner of the minor until its last copy
 * is closed and its last mapping is gone. EBUSY if it has an owner. EAGAIN
 * while I/O that the dead owner started still reads or writes its old data
 * area: try again shortly; so an old write can never land after a new one.
 * ESHUTDOWN if the minor's disk has failed or is being removed: state, which
 * is written then, too, says which. EOPNOTSUPP if there is a disk to be taken
 * over, and RECOVERY was not asked for.
 */
struct blktap_attach {
	__u32 size; /* in: sizeof */
	__u32 flags; /* in: 0 */
	__u64 features; /* in: those the caller will use; EOPNOTSUPP if unknown */
	__u32 state; /* out: enum blktap_state; LIVE means a disk was taken over */
	__u32 reserved;
};

enum blktap_state {
	BLKTAP_STATE_EMPTY = 0, /* no disk */
	BLKTAP_STATE_LIVE = 1, /* a disk, and a daemon serves it */
	BLKTAP_STATE_ORPHAN = 2, /* its daemon died: requests wait for ATTACH */
	BLKTAP_STATE_FAILED = 3, /* every request fails with EIO, for good */
	BLKTAP_STATE_REMOVING = 4, /* being removed; serve on until EPOLLHUP */
};

/*
 * CREATE: make the disk. It can be opened when CREATE returns; requests wait
 * in the ring until they are served, so mmap may follow at leisure.
 */
struct blktap_create {
	__u32 size; /* in: sizeof */
	__u32 flags; /* in: BLKTAP_DISK_* */
	__u64 capacity; /* a multiple of logical_block, > 0 */
	__u32 logical_block; /* 512 or 4096 */
	__u32 physical_block; /* 0: as logical; power of two, to 64 KiB */
	__u32 queues; /* hardware queues, 1..max_queues; INFO has how many
		       * were made, never more than there are CPUs */
	__u32 depth; /* requests in flight per queue, 1..max_depth */
	__u32 slot_bytes; /* largest READ or WRITE; a multiple of 4096 */
	__u32 io_opt; /* preferred size, 0: unknown */
	__u32 discard_granularity; /* 0: logical_block */
	__u32 recovery_ms; /* how long requests wait for a new daemon after
			    * this one died; 0: they fail at once;
			    * BLKTAP_RECOVERY_DEFAULT: the module parameter */
	__u64 max_discard; /* bytes per DISCARD, 0: 1 GiB, which is the most */
	__u64 max_write_zeroes; /* bytes per WRITE_ZEROES, 0: likewise */
	char name[BLKTAP_NAME_BYTES]; /* label for sysfs, NUL terminated */
};
#define BLKTAP_RECOVERY_DEFAULT 0xffffffffU

#define BLKTAP_DISK_READ_ONLY (1U << 0) /* the kernel refuses every change */
#define BLKTAP_DISK_FLUSH (1U << 1) /* writes are volatile until FLUSH */
#define BLKTAP_DISK_FUA (1U << 2) /* serves BLKTAP_REQ_FUA; needs FLUSH */
#define BLKTAP_DISK_DISCARD (1U << 3) /* serves DISCARD */
#define BLKTAP_DISK_WRITE_ZEROES (1U << 4) /* serves WRITE_ZEROES */
#define BLKTAP_DISK_ROTATIONAL (1U << 5)
#define BLKTAP_DISK_PARTSCAN (1U << 6) /* partitions; read at first open */
#define BLKTAP_DISK_FLAGS 0x7fU

/*
 * INFO: the disk and where its ring lies in the mapping. All but size is
 * written by the kernel; fixed from CREATE or ATTACH on but for state and
 * capacity. Fields from queues on are 0 while there is no disk.
 *
 * One mapping of map_bytes at file offset 0 (or any page-aligned part of it)
 * holds for each queue q, at q * queue_stride:
 *   + 0                a struct blktap_queue
 *   + sq_offset        __u32 sq[sq_entries], tags
 *   + desc_offset      struct blktap_desc desc[depth], indexed by tag
 *   + cq_offset        struct blktap_cqe cq[cq_entries]
 * and the data slot of tag t at data_offset + (q * depth + t) * slot_bytes.
 * The mapping must be MAP_SHARED; it is not inherited by fork.
 */
struct blktap_info {
	__u32 size; /* in: sizeof */
	__u32 state; /* enum blktap_state */
	__u64 features; /* as given to ATTACH */
	__u64 capacity;
	__u32 minor;
	__u32 flags; /* BLKTAP_DISK_* */
	__u32 logical_block;
	__u32 physical_block;
	__u32 recovery_ms;
	__u32 disk_major;
	__u32 queues;
	__u32 depth;
	__u32 slot_bytes;
	__u32 sq_entries; /* a power of two, >= depth */
	__u32 cq_entries; /* a power of two, >= depth */
	__u32 queue_stride;
	__u32 sq_offset;
	__u32 desc_offset;
	__u32 cq_offset;
	__u32 reserved;
	__u64 data_offset; /* of the data area in the mapping */
	__u64 map_bytes; /* of the whole mapping */
	char name[BLKTAP_NAME_BYTES];
};

/* RESIZE: a new capacity, seen by openers at once. */
struct blktap_resize {
	__u32 size; /* in: sizeof */
	__u32 reserved;
	__u64 capacity; /* a multiple of logical_block, > 0 */
};

/*
 * REMOVE: begin to take the disk away and return at once. Dirty pages are
 * still written through the ring, so serve on until poll says EPOLLHUP (or
 * ENTER says ENODEV). Openers that are left keep a dead disk. Once a request
 * has waited for its answer for timeout_ms, it and all others fail with EIO.
 */
struct blktap_remove {
	__u32 size; /* in: sizeof */
	__u32 flags; /* in: BLKTAP_REMOVE_* */
	__u32 timeout_ms; /* 0: the module parameter remove_timeout */
	__u32 reserved;
};
#define BLKTAP_REMOVE_IF_UNUSED (1U << 0) /* EBUSY while it has openers */
#define BLKTAP_REMOVE_NOW (1U << 1) /* fail what is in flight, serve no more */

/*
 * ENTER: commit and wait, one call. The kernel takes every completion of the
 * queue, then, with WAIT, sleeps until a request is there, the disk goes, a
 * signal comes (EINTR) or timeout_ms is over. Returns the number of requests
 * that wait in the submission ring by the caller's own sq_head.
 * ENODEV: the disk is gone. ESHUTDOWN: it has failed, nothing is taken any
 * more. EBADMSG: a completion was bad, and the disk has failed just now.
 *
 * With FD, which needs WAIT_FD and goes with WAIT, the sleep ends also when fd
 * is readable, as poll(2) has it, or might be: ENTER returns 0, and the caller
 * looks. So a daemon that has other things to do gives the epoll descriptor of
 * them all, and needs one call where it would need two. fd is looked at only
 * where there is no request, and only then EBADF, if it is none, or EPERM, if
 * it cannot be polled, is found.
 *
 * With LOOK, which needs the feature of that name, ENTER that has no WAIT looks
 * for requests as long as it would before it slept, and returns: for a daemon
 * that has answered all it has, and will be asked again at once or not soon.
 */
struct blktap_enter {
	__u32 size; /* in: sizeof; without the tail if there is no FD */
	__u32 flags; /* in: BLKTAP_ENTER_* */
	__u32 queue; /* in: one, or BLKTAP_ALL_QUEUES */
	__s32 timeout_ms; /* in: with WAIT; -1: for ever */
	__s32 fd; /* in: with FD, else 0 */
	__u32 reserved;
};
#define BLKTAP_ENTER_WAIT (1U << 0)
#define BLKTAP_ENTER_FD (1U << 1)
#define BLKTAP_ENTER_LOOK (1U << 2)
#define BLKTAP_ALL_QUEUES 0xffffffffU

/*
 * MOVE: carry the data of requests between their callers' memory and files, past
 * the slots; for a daemon that would do nothing with it but read or write a file.
 * Each move is of one READ or WRITE that the daemon has, all of it: the file, which
 * must be open for that, is read or written from `offset` on as preadv(2) and
 * pwritev(2) do it, by the calling thread, which waits as long as they would. It is a
 * block device, or a regular file that is in memory or on a file system that is on a
 * block device; not the request's own disk, nor on that, where it might wait for what
 * the request has; and not O_APPEND. With fd -1 the data of a WRITE goes to its slot:
 * see DEFERRED.
 *
 * The request is not answered by that. result is the bytes that went, or a negative
 * errno; EINVAL also where the daemon has no such request. A READ of which all bytes
 * went takes nothing from its slot when it is answered. Where it was fewer, or an
 * error, the request is as it was, and may be served in another way: a WRITE's data
 * is still to be had.
 *
 * Meanwhile the request is the kernel's: it must not be answered nor moved by
 * another thread, and where the disk fails it ends when its file has been dealt
 * with. Needs the feature of that name, as does DEFER.
 */
struct blktap_move {
	__u32 queue; /* in */
	__u32 tag; /* in */
	__u32 gen; /* in: as in the descriptor */
	__s32 fd; /* in: -1: to the slot */
	__u64 offset; /* in: in the file; 0 with fd -1 */
	__s32 result; /* out */
	__u32 reserved; /* 0 */
};

struct blktap_moves {
	__u32 size; /* in: sizeof */
	__u32 count; /* in: of moves, 1..BLKTAP_MAX_DEPTH */
	__u64 moves; /* in: address of struct blktap_move[count] */
};

/*
 * DEFER: from now on (on = 1) or no more (0) the data of a WRITE stays where it is:
 * the descriptor says so by DEFERRED. Off at first, and after each ATTACH.
 */
struct blktap_defer {
	__u32 size; /* in: sizeof */
	__u32 on; /* in: 0 or 1 */
};

#define BLKTAP_RING_ATTACH _IO(BLKTAP_IOC_MAGIC, 0x20) /* blktap_attach */
#define BLKTAP_RING_CREATE _IO(BLKTAP_IOC_MAGIC, 0x21) /* blktap_create */
#define BLKTAP_RING_INFO _IO(BLKTAP_IOC_MAGIC, 0x22) /* blktap_info */
#define BLKTAP_RING_RESIZE _IO(BLKTAP_IOC_MAGIC, 0x23) /* blktap_resize */
#define BLKTAP_RING_REMOVE _IO(BLKTAP_IOC_MAGIC, 0x24) /* blktap_remove */
#define BLKTAP_RING_ENTER _IO(BLKTAP_IOC_MAGIC, 0x25) /* blktap_enter */
#define BLKTAP_RING_MOVE _IO(BLKTAP_IOC_MAGIC, 0x26) /* blktap_moves */
#define BLKTAP_RING_DEFER _IO(BLKTAP_IOC_MAGIC, 0x27) /* blktap_defer */

/* ---- shared memory ----------------------------------------------------- */

/*
 * One queue's indices, each writer on cache lines of its own. All run freely
 * modulo 2^32; entry i of a ring is at i & (entries - 1).
 *
 * Take requests: load sq_tail (acquire), read sq[] and desc[] up to it, then
 * store sq_head. Answer: fill cq[cq_tail & mask], store cq_tail (release),
 * and ENTER when the batch is done. No ring can overflow: there are no more
 * requests in flight than tags.
 *
 * Sleep: the poll handler and ENTER set need_wake for the caller, so
 * poll(2), level-triggered epoll and ENTER need nothing else. While somebody
 * sleeps in ENTER on all queues he alone is woken, and so takes what is there
 * when it returns, whatever it returns. Whoever sleeps
 * by other means (edge-triggered epoll, io_uring poll) stores need_wake = 1,
 * then a full barrier, then looks at sq_tail once more. The kernel clears
 * need_wake when it wakes. A caller that is awake anyway may store 0 to be
 * left alone; requests then come without any wake-up.
 */
struct blktap_queue {
	__u32 sq_tail; /* kernel: after the last request */
	__u32 pad0[15];
	__u32 sq_head; /* user: up to here taken; only poll and ENTER use it */
	__u32 need_wake; /* user sets, both clear */
	__u32 cq_tail; /* user: after the last completion */
	__u32 pad1[13];
};

/*
 * One request; written by the kernel before its tag enters the submission
 * ring, and not again until the request was answered. The data slot belongs
 * to user space from then until the completion is stored in the ring: a
 * WRITE finds its data there, a READ leaves its data there. Slots are page
 * aligned ordinary memory and good for O_DIRECT.
 */
struct blktap_desc {
	__u32 gen; /* to be returned: tells a tag's uses apart */
	__u32 tag; /* its own index */
	__u8 op; /* enum blktap_req_op */
	__u8 pad;
	__u16 flags; /* BLKTAP_REQ_* */
	__u32 bytes; /* a multiple of logical_block; 0 for FLUSH */
	__u64 offset; /* on the disk, a multiple of logical_block */
	__u64 data; /* of the slot in the mapping; READ and WRITE only */
};

enum blktap_req_op {
	BLKTAP_REQ_READ = 0,
	BLKTAP_REQ_WRITE = 1,
	BLKTAP_REQ_FLUSH = 2, /* all answered writes are durable */
	BLKTAP_REQ_DISCARD = 3,
	BLKTAP_REQ_WRITE_ZEROES = 4, /* reads as zero from then on */
};

#define BLKTAP_REQ_FUA (1U << 0) /* WRITE: durable when answered */
#define BLKTAP_REQ_NOUNMAP (1U << 1) /* WRITE_ZEROES: keep space allocated */
/* WRITE: its data is not in the slot until a MOVE brings it there. */
#define BLKTAP_REQ_DEFERRED (1U << 2)

/*
 * One completion; written by user space, read once by the kernel. Each
 * request is answered exactly once and in full: result is the descriptor's
 * bytes, or a negative errno (EIO, ENOSPC, EOPNOTSUPP and ETIMEDOUT reach
 * the caller as they are, any other as EIO). A tag not in flight, a gen of
 * another time, any other result or a full ring's overrun ends the disk:
 * state FAILED, one message in the log.
 */
struct blktap_cqe {
	__u32 tag;
	__u32 gen; /* as in the descriptor */
	__s32 result;
	__u32 reserved; /* 0 */
};

BLKTAP_ABI_ASSERT(sizeof(struct blktap_version) == 40, "blktap_version");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_alloc) == 16, "blktap_alloc");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_free) == 16, "blktap_free");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_attach) == 24, "blktap_attach");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_create) == 192, "blktap_create");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_info) == 232, "blktap_info");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_resize) == 16, "blktap_resize");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_remove) == 16, "blktap_remove");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_enter) == 24, "blktap_enter");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_move) == 32, "blktap_move");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_moves) == 16, "blktap_moves");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_defer) == 8, "blktap_defer");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_queue) == 128, "blktap_queue");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_desc) == 32, "blktap_desc");
BLKTAP_ABI_ASSERT(sizeof(struct blktap_cqe) == 16, "blktap_cqe");

#define BLKTAP_ABI_AT(s, m, at) \
	BLKTAP_ABI_ASSERT(__builtin_offsetof(struct s, m) == at, #s "." #m)
BLKTAP_ABI_AT(blktap_version, max_area_bytes, 32);
BLKTAP_ABI_AT(blktap_attach, features, 8);
BLKTAP_ABI_AT(blktap_create, capacity, 8);
BLKTAP_ABI_AT(blktap_create, max_discard, 48);
BLKTAP_ABI_AT(blktap_create, name, 64);
BLKTAP_ABI_AT(blktap_info, capacity, 16);
BLKTAP_ABI_AT(blktap_info, queues, 48);
BLKTAP_ABI_AT(blktap_info, data_offset, 88);
BLKTAP_ABI_AT(blktap_info, name, 104);
BLKTAP_ABI_AT(blktap_resize, capacity, 8);
BLKTAP_ABI_AT(blktap_enter, fd, 16);
BLKTAP_ABI_AT(blktap_move, offset, 16);
BLKTAP_ABI_AT(blktap_move, result, 24);
BLKTAP_ABI_AT(blktap_moves, moves, 8);
BLKTAP_ABI_AT(blktap_queue, sq_head, 64);
BLKTAP_ABI_AT(blktap_queue, need_wake, 68);
BLKTAP_ABI_AT(blktap_queue, cq_tail, 72);
BLKTAP_ABI_AT(blktap_desc, op, 8);
BLKTAP_ABI_AT(blktap_desc, flags, 10);
BLKTAP_ABI_AT(blktap_desc, offset, 16);
BLKTAP_ABI_AT(blktap_desc, data, 24);

#endif
