/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring as <blktap/ring.h> has it: attached, created or taken over, resized,
 * described. Its end is ring-end.c's. */
#include "frontend/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "core/log.h"
#include "util/checked.h"
#include "util/options.h"

#define DEFAULT_QUEUES 2
#define DEFAULT_DEPTH 64
#define DEFAULT_SLOT_BYTES (128u << 10)
#define MAX_RANGE (1u << 30) /* of a discard, as the module has it */
#define ATTACH_TRIES 100
#define ATTACH_WAIT_MS 100

#define STRERROR(code) bt_strerror((code), (char[BT_STRERROR_MAX]){ 0 })

void blktap_ring_options_init_sized(struct blktap_ring_options *options,
				    size_t size)
{
	struct blktap_ring_options all = { .size = size,
					   .minor = -1,
					   .recovery_ms = -1 };

	bt_options_fill(options, size, &all, sizeof(all));
}

static int read_options(const struct blktap_ring_options *from,
			struct blktap_ring_options *to,
			struct blktap_error **err)
{
	const uint8_t *bytes = (const uint8_t *)from;
	size_t i;

	blktap_ring_options_init(to);
	if (!from || from->size < sizeof(from->size))
		return bt_fail(err, -EINVAL, "call blktap_ring_options_init",
			       "ring options without a size");
	for (i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return bt_fail(
				err, -EINVAL, NULL,
				"ring options this library does not know");
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	if (to->minor < 0)
		return bt_fail(err, -EINVAL, "allocate one",
			       "ring options without a minor");
	if (!to->queues)
		to->queues = DEFAULT_QUEUES;
	if (!to->depth)
		to->depth = DEFAULT_DEPTH;
	if (!to->slot_bytes)
		to->slot_bytes = DEFAULT_SLOT_BYTES;
	return 0;
}

/* ---- the device's shape --------------------------------------------------- */

/* 4096 where the image has such blocks and the disk is a multiple of them; the
 * disk pads what is smaller. */
static uint32_t block_of(const struct bt_limits *limits)
{
	return limits->block_size > 512 && !(limits->size & 4095) ? 4096 : 512;
}

static uint32_t flags_of(const struct bt_limits *limits,
			 const struct blktap_ring_options *o)
{
	uint32_t flags = 0;

	if (limits->read_only || o->read_only)
		flags |= BLKTAP_DISK_READ_ONLY;
	if (limits->operations & 1u << BLKTAP_OP_FLUSH)
		flags |= BLKTAP_DISK_FLUSH;
	/* Elsewhere the kernel's own flush costs the same. */
	if (flags & BLKTAP_DISK_FLUSH && limits->native_fua)
		flags |= BLKTAP_DISK_FUA;
	if (limits->operations & 1u << BLKTAP_OP_DISCARD)
		flags |= BLKTAP_DISK_DISCARD;
	if (limits->operations & 1u << BLKTAP_OP_WRITE_ZEROES)
		flags |= BLKTAP_DISK_WRITE_ZEROES;
	if (o->partitions)
		flags |= BLKTAP_DISK_PARTSCAN;
	return flags;
}

/* A hint that the module would refuse is none. */
static uint32_t power_within(uint64_t v, uint32_t min, uint32_t max)
{
	return bt_is_pow2(v) && v >= min && v <= max ? (uint32_t)v : 0;
}

static int describe(const struct blktap_ring *ring,
		    const struct blktap_ring_options *o,
		    struct blktap_create *c, struct blktap_error **err)
{
	const struct bt_limits *limits = bt_vbd_get_limits(ring->disk);
	uint32_t block = block_of(limits);
	const char *name = o->name ? o->name : blktap_disk_get_name(ring->disk);
	size_t i;

	*c = (struct blktap_create){
		.size = sizeof(*c),
		.flags = flags_of(limits, o),
		.capacity = bt_align_down(limits->size, block),
		.logical_block = block,
		.physical_block = power_within(limits->preferred_block_size,
					       block, 65536),
		.queues = o->queues,
		.depth = o->depth,
		.slot_bytes = o->slot_bytes,
		.discard_granularity = power_within(limits->discard_granularity,
						    block, MAX_RANGE),
		.recovery_ms = o->recovery_ms < 0 ? BLKTAP_RECOVERY_DEFAULT
						  : (uint32_t)o->recovery_ms,
	};
	for (i = 0; name[i] && i < sizeof(c->name) - 1; i++)
		c->name[i] = name[i] < ' ' ? '?' : name[i];
	if (!c->capacity)
		return bt_fail(err, -EINVAL, "grow the image",
			       "%s: a block device has at least 512 bytes",
			       blktap_disk_get_name(ring->disk));
	if (c->capacity != limits->size)
		bt_log(ring->log, BLKTAP_LOG_WARNING,
		       "%s: shows %llu of %llu bytes: a block device has whole "
		       "blocks",
		       ring->path, (unsigned long long)c->capacity,
		       (unsigned long long)limits->size);
	return 0;
}

/* ---- attaching ------------------------------------------------------------ */

static bool never(void *opaque)
{
	return false;
}

/* Lets the disks go on meanwhile; false where it cannot wait. */
bool bt_ring_pause(struct blktap_ring *ring, int ms)
{
	return bt_loop_run_until(ring->loop, never, NULL, ms) == -ETIMEDOUT;
}

/* An older module does without what the first calls ask for. */
static int attach_once(struct blktap_ring *ring, uint32_t *state)
{
	static const uint64_t features[] = {
		BLKTAP_FEATURES,
		BLKTAP_FEATURES & ~BLKTAP_FEATURE_MOVE,
		BLKTAP_FEATURE_RECOVERY,
	};
	struct blktap_attach a = { .size = sizeof(a) };
	int rc = -EOPNOTSUPP;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(features) && rc == -EOPNOTSUPP; i++) {
		a.features = features[i];
		rc = bt_ring_call(ring, BLKTAP_RING_ATTACH, &a);
	}
	ring->can_wait = a.features & BLKTAP_FEATURE_WAIT_FD;
	ring->can_move = a.features & BLKTAP_FEATURE_MOVE;
	*state = a.state;
	return rc;
}

/* EBUSY: a daemon has it, who may be dying; EAGAIN: what he wrote is not on disk
 * yet; ESHUTDOWN: its disk is just going. */
static int attach(struct blktap_ring *ring, uint32_t *state)
{
	int rc, tries;

	for (tries = 0; tries < ATTACH_TRIES; tries++) {
		rc = attach_once(ring, state);
		if (rc != -EBUSY && rc != -EAGAIN &&
		    (rc != -ESHUTDOWN || *state == BLKTAP_STATE_FAILED))
			break;
		if (!bt_ring_pause(ring, ATTACH_WAIT_MS))
			break;
	}
	return rc;
}

static const char *attach_hint(int rc)
{
	switch (rc) {
	case -EBUSY:
	case -EAGAIN:
		return "another daemon serves it: tap-ctl list";
	case -ESHUTDOWN:
		return "its device has failed: free the minor, once nobody has "
		       "it open";
	default:
		return NULL;
	}
}

static int open_ring(struct blktap_ring *ring, struct blktap_error **err)
{
	uint32_t state = 0;
	int rc;

	ring->fd = ring->ops->open(ring->opaque, (uint32_t)ring->minor);
	if (ring->fd < 0)
		return bt_fail(err, ring->fd,
			       "is the module loaded, and the minor allocated "
			       "since?",
			       BT_RING_DIR "/blktap%d: %s", ring->minor,
			       STRERROR(ring->fd));
	rc = attach(ring, &state);
	if (rc < 0)
		return bt_fail(err, rc, attach_hint(rc),
			       BT_RING_DIR "/blktap%d: cannot be attached: %s",
			       ring->minor, STRERROR(rc));
	ring->taken_over = state == BLKTAP_STATE_LIVE;
	return 0;
}

/* ---- creating ------------------------------------------------------------- */

static int resize(struct blktap_ring *ring)
{
	struct blktap_resize r = {
		.size = sizeof(r),
		.capacity = bt_align_down(bt_vbd_get_limits(ring->disk)->size,
					  ring->info.logical_block),
	};
	int rc;

	if (r.capacity == ring->info.capacity)
		return 0;
	rc = bt_ring_call(ring, BLKTAP_RING_RESIZE, &r);
	if (!rc)
		ring->info.capacity = r.capacity;
	return rc;
}

static void on_resized(struct bt_vbd_client *client)
{
	struct blktap_ring *ring =
		bt_container_of(client, struct blktap_ring, client);
	int rc = ring->stage == BT_RING_SERVE ? resize(ring) : 0;

	if (rc)
		bt_log(ring->log, BLKTAP_LOG_ERROR, "%s: cannot be resized: %s",
		       ring->path, STRERROR(rc));
}

/* Whoever has the device open believes in what it was made with. */
static int check_heir(const struct blktap_ring *ring,
		      const struct blktap_ring_options *o,
		      struct blktap_error **err)
{
	const struct bt_limits *limits = bt_vbd_get_limits(ring->disk);

	if (limits->size < ring->info.capacity)
		return bt_fail(err, -EINVAL, "open the image it was made for",
			       "%s: is a device of %llu bytes, and the image "
			       "has %llu",
			       ring->path,
			       (unsigned long long)ring->info.capacity,
			       (unsigned long long)limits->size);
	if ((limits->read_only || o->read_only) &&
	    !(ring->info.flags & BLKTAP_DISK_READ_ONLY))
		return bt_fail(err, -EROFS, "open the image for writing",
			       "%s: is a writable device, and the image is not",
			       ring->path);
	return 0;
}

/* After a takeover the device is as it was made; INFO tells how. What it tells
 * is checked before a byte of it is used. */
static int make_device(struct blktap_ring *ring,
		       const struct blktap_ring_options *o,
		       struct blktap_error **err)
{
	struct blktap_create create;
	const char *wrong;
	int rc = 0;

	if (!ring->taken_over)
		rc = describe(ring, o, &create, err);
	if (rc)
		return rc;
	if (!ring->taken_over)
		rc = bt_ring_call(ring, BLKTAP_RING_CREATE, &create);
	if (rc < 0)
		return bt_fail(err, rc,
			       rc == -E2BIG || rc == -ENOMEM
				       ? "raise the module's max_area_mb or "
					 "max_total_mb, or ask for less depth"
				       : NULL,
			       "%s: cannot be made: %s", ring->path,
			       STRERROR(rc));
	ring->info.size = sizeof(ring->info);
	rc = bt_ring_call(ring, BLKTAP_RING_INFO, &ring->info);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: %s", ring->path,
			       STRERROR(rc));
	wrong = bt_ring_check_info(&ring->info);
	if (wrong)
		return bt_fail(err, -EPROTO,
			       "install module and library of one version",
			       "%s: the module describes it wrongly: %s",
			       ring->path, wrong);
	return ring->taken_over ? check_heir(ring, o, err) : 0;
}

static int lay_out(struct blktap_ring *ring)
{
	const struct blktap_info *info = &ring->info;
	void *map = NULL;
	uint32_t i;
	int rc;

	rc = ring->ops->map(ring->opaque, ring->fd, info->map_bytes, &map);
	if (rc)
		return rc;
	ring->map = map;
	ring->queues = calloc(info->queues, sizeof(*ring->queues));
	ring->busy =
		calloc((size_t)info->queues * info->depth, sizeof(*ring->busy));
	if (!ring->queues || !ring->busy || bt_ring_moves_init(ring))
		return -ENOMEM;
	for (i = 0; i < info->queues; i++) {
		struct bt_ring_queue *q = &ring->queues[i];
		uint8_t *at = ring->map + (size_t)i * info->queue_stride;

		q->index = i;
		q->slots = bt_ring_slots(info, i);
		q->shared = (void *)at;
		q->sq = (void *)(at + info->sq_offset);
		q->desc = (void *)(at + info->desc_offset);
		q->cq = (void *)(at + info->cq_offset);
		q->busy = ring->busy + (size_t)i * info->depth;
	}
	return bt_vbd_pool_create(ring->disk, info->queues * info->depth,
				  sizeof(struct bt_ring_request), &ring->pool);
}

/* ---- events --------------------------------------------------------------- */

static void on_ready(struct bt_watch *watch, uint32_t events)
{
	struct blktap_ring *ring =
		bt_container_of(watch, struct blktap_ring, watch);

	if (events & EPOLLHUP) {
		bt_log(ring->log, BLKTAP_LOG_INFO, "%s: removed", ring->path);
		bt_ring_stop(ring, BT_RING_GONE);
	} else if (events & EPOLLERR) {
		bt_log(ring->log, BLKTAP_LOG_ERROR,
		       "%s: failed: see the kernel's log", ring->path);
		bt_ring_stop(ring, BT_RING_FAILED);
	} else {
		bt_ring_take(ring);
	}
}

/* Before the loop waits: one call for all that was answered, and a look whether
 * there is more to do, which costs none. */
static bool on_idle(struct bt_idle *idle)
{
	struct blktap_ring *ring =
		bt_container_of(idle, struct blktap_ring, idle);
	bool any = bt_ring_commit(ring);

	if (ring->stage == BT_RING_SERVE)
		any |= bt_ring_take(ring);
	return any;
}

/* The context ends. */
static void on_shutdown(struct bt_vbd_client *client)
{
	blktap_ring_destroy(bt_container_of(client, struct blktap_ring, client),
			    BLKTAP_RING_END_FORCE);
}

/* The disk's client before anything is served: from then on it hears of a
 * resize. What the size has become meanwhile is made up for at the end. */
static int start(struct blktap_ring *ring, const struct blktap_ring_options *o,
		 struct blktap_error **err)
{
	int rc = open_ring(ring, err);

	if (!rc)
		rc = make_device(ring, o, err);
	if (rc)
		return rc;
	rc = lay_out(ring);
	if (!rc)
		rc = bt_watch_add(ring->loop, &ring->watch, ring->fd, EPOLLIN,
				  on_ready);
	if (rc)
		return bt_fail(err, rc, NULL, "%s: cannot be served: %s",
			       ring->path, STRERROR(rc));
	bt_vbd_client_add(ring->disk, &ring->client);
	/* the kernel goes on with another process as if nothing had happened */
	ring->outlives = ring->info.recovery_ms > 0;
	if (ring->outlives)
		bt_vbd_set_outlive(ring->disk, true);
	bt_idle_add(ring->loop, &ring->idle, on_idle);
	ring->waiter.fn = bt_ring_wait;
	if (ring->can_wait)
		bt_loop_set_waiter(ring->loop, &ring->waiter);
	on_resized(&ring->client);
	return 0;
}

/* Nothing is out. Closing leaves the device to whoever comes next. */
void bt_ring_free(struct blktap_ring *ring)
{
	bt_idle_del(&ring->idle);
	bt_loop_drop_waiter(ring->loop, &ring->waiter);
	bt_watch_del(&ring->watch);
	bt_vbd_client_del(&ring->client);
	if (ring->outlives)
		bt_vbd_set_outlive(ring->disk, false);
	bt_vbd_pool_destroy(ring->disk, ring->pool);
	if (ring->map)
		ring->ops->unmap(ring->opaque, ring->map, ring->info.map_bytes);
	if (ring->fd >= 0)
		ring->ops->close(ring->opaque, ring->fd);
	bt_ring_moves_fini(ring);
	free(ring->busy);
	free(ring->queues);
	free(ring);
}

/* A device that was made and cannot be served is taken away again; one that was
 * taken over stays for the next daemon. */
int bt_ring_create_on(struct blktap_disk *disk,
		      const struct blktap_ring_options *options,
		      const struct bt_ring_ops *ops, void *opaque,
		      struct blktap_ring **out, struct blktap_error **err)
{
	struct blktap_ring_options o;
	struct blktap_ring *ring;
	int rc = read_options(options, &o, err);

	if (rc)
		return rc;
	/* from a callback of the close, which does not look for rings again */
	if (bt_vbd_is_shut(disk))
		return bt_fail(err, -ESHUTDOWN, NULL, "%s: is being closed",
			       blktap_disk_get_name(disk));
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	ring->disk = disk;
	ring->loop = bt_vbd_get_env(disk)->loop;
	ring->log = bt_vbd_get_log(disk);
	ring->client.shutdown = on_shutdown;
	ring->client.resized = on_resized;
	bt_list_init(&ring->client.link);
	bt_list_init(&ring->idle.link);
	ring->ops = ops;
	ring->opaque = opaque;
	ring->fd = -1;
	ring->minor = o.minor;
	snprintf(ring->path, sizeof(ring->path), BLKTAP_RING_DISK "%d",
		 o.minor);
	rc = start(ring, &o, err);
	if (rc) {
		/* A device that was just made is nobody's yet. */
		if (ring->fd >= 0 && !ring->taken_over)
			bt_ring_remove(ring, BLKTAP_REMOVE_NOW);
		bt_ring_free(ring);
		return rc;
	}
	*out = ring;
	return 0;
}

int blktap_ring_create(struct blktap_disk *disk,
		       const struct blktap_ring_options *options,
		       struct blktap_ring **out, struct blktap_error **err)
{
	return bt_ring_create_on(disk, options, &bt_ring_system, NULL, out,
				 err);
}

/* ---- what it is ----------------------------------------------------------- */

void blktap_ring_get_info(const struct blktap_ring *ring,
			  struct blktap_ring_info *info)
{
	struct blktap_ring_info full = {
		.size = info->size,
		.state = ring->stage == BT_RING_FAILED ? BLKTAP_RING_FAILED
			 : ring->stage == BT_RING_GONE ? BLKTAP_RING_REMOVED
						       : BLKTAP_RING_SERVING,
		.minor = ring->minor,
		.length = ring->info.capacity,
		.block_size = ring->info.logical_block,
		.queues = ring->info.queues,
		.depth = ring->info.depth,
		.slot_bytes = ring->info.slot_bytes,
		.recovery_ms = ring->info.recovery_ms,
		.read_only = ring->info.flags & BLKTAP_DISK_READ_ONLY,
		.taken_over = ring->taken_over,
		.requests = ring->requests,
		.enters = ring->enters,
	};

	if (full.size > sizeof(full))
		full.size = sizeof(full);
	memcpy(info, &full, full.size);
}

const char *blktap_ring_get_path(const struct blktap_ring *ring)
{
	return ring->path;
}
