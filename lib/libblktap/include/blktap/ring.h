/* SPDX-License-Identifier: BSD-3-Clause */
/* Serving a disk as a block device, through the ring of the kernel module
 * `blktap`.
 *
 * A minor is a number of the module's with a device for its ring,
 * /dev/xen/blktap-2/blktapN. While a disk is served there, it is the block
 * device /dev/xen/blktap-2/tapdevN. The device outlives its daemon for a while:
 * requests then wait until another serves it. All of it needs root. */
#ifndef BLKTAP_RING_H
#define BLKTAP_RING_H

#include <blktap/disk.h>

BLKTAP_BEGIN_DECLS

struct blktap_ring;

/* The name of a minor's block device, without the minor. */
#define BLKTAP_RING_DISK "/dev/xen/blktap-2/tapdev"

/* ---- minors --------------------------------------------------------------- */

/* Asks the module whether it is there and can be used. 0 or a negative errno:
 * -ENOENT it is not loaded, -EACCES not by us, -EPROTO it is of a version that
 * this library does not speak. Since 0.1. */
BLKTAP_API int blktap_ring_probe(struct blktap_error **err);

/* Makes the minor wanted, or the lowest that is free where wanted is -1. -EEXIST
 * where it is there, -ENOSPC where the module has no more. Since 0.1. */
BLKTAP_API int blktap_ring_allocate(int wanted, int *minor,
				    struct blktap_error **err);

/* Takes a minor away, and with it a device that nobody serves and nobody has
 * open. -EBUSY where it is served or open, -ENOENT where it is not there.
 * Since 0.1. */
BLKTAP_API int blktap_ring_free(int minor, struct blktap_error **err);

/* ---- serving -------------------------------------------------------------- */

struct blktap_ring_options {
	size_t size; /* sizeof(struct blktap_ring_options) */
	int minor; /* one that was allocated */
	const char *name; /* label in sysfs; NULL: the disk's name */
	uint32_t queues; /* of the device; 0: 2 */
	uint32_t depth; /* requests in flight per queue; 0: 64 */
	uint32_t slot_bytes; /* largest request, a multiple of 4096; 0: 128 KiB.
			      * queues * depth * slot_bytes are allocated */
	int32_t recovery_ms; /* how long requests wait for another daemon when
			      * this one died; 0: they fail; -1: as the
			      * module was told to */
	bool read_only; /* even where the disk is writable */
	bool partitions; /* the kernel looks for partitions on it */
};

/* Fills options with the defaults, size included, minor -1: as many bytes as the
 * caller's headers have. Since 0.1. */
BLKTAP_API void blktap_ring_options_init_sized(
	struct blktap_ring_options *options, size_t size);
static inline void blktap_ring_options_init(struct blktap_ring_options *options)
{
	blktap_ring_options_init_sized(options, sizeof(*options));
}

/* Makes the minor's block device and serves disk there, from within the
 * context's loop; or takes the device over that a daemon left behind, with all
 * requests that were not answered: then sizes are as they were made. A disk that
 * is smaller than such a device is refused, and one that is being closed with
 * -ESHUTDOWN. Waits for a dying daemon up to ten seconds, unless called inside a
 * callback (-EBUSY then). The ring must be destroyed before its disk is closed.
 * Since 0.1. */
BLKTAP_API int blktap_ring_create(struct blktap_disk *disk,
				  const struct blktap_ring_options *options,
				  struct blktap_ring **out,
				  struct blktap_error **err);

enum blktap_ring_end {
	BLKTAP_RING_END_UNUSED, /* -EBUSY while somebody has the device open */
	BLKTAP_RING_END_FORCE, /* who has it open keeps a dead device */
	BLKTAP_RING_END_KEEP /* the device stays, its requests wait for who
			      * serves it next; -ENOTSUP where recovery_ms
			      * is 0 */
};

/* Takes the device away, once what is dirty was written, or leaves it to another
 * daemon; frees the ring; NULL is fine. Requests under way are finished. Returns
 * 0 or a negative errno, and then the ring stays: -EDEADLK from inside a
 * callback. Since 0.1. */
BLKTAP_API int blktap_ring_destroy(struct blktap_ring *ring,
				   enum blktap_ring_end how);

enum blktap_ring_state {
	BLKTAP_RING_SERVING,
	BLKTAP_RING_FAILED, /* every request fails, for good */
	BLKTAP_RING_REMOVED /* somebody took the device away */
};

struct blktap_ring_info {
	size_t size; /* sizeof(struct blktap_ring_info), set by the caller */
	enum blktap_ring_state state;
	int minor;
	uint64_t length; /* of the device, in bytes */
	uint32_t block_size;
	uint32_t queues;
	uint32_t depth;
	uint32_t slot_bytes;
	uint32_t recovery_ms;
	bool read_only;
	bool taken_over; /* the device was there before */
	uint64_t requests; /* taken from the ring */
	uint64_t enters; /* system calls, to give answers back or to wait */
};

/* Fills at most info->size bytes of *info. Since 0.1. */
BLKTAP_API void blktap_ring_get_info(const struct blktap_ring *ring,
				     struct blktap_ring_info *info);

/* "/dev/xen/blktap-2/tapdevN"; owned by ring. Since 0.1. */
BLKTAP_API const char *blktap_ring_get_path(const struct blktap_ring *ring);

BLKTAP_END_DECLS

#endif
