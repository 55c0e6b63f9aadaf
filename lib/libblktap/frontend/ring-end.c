/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a ring: its device is taken away, which is served until all that is
 * dirty in the kernel is written, or it is kept for the next daemon, and only what
 * is out is answered. */
#include "frontend/ring.h"

#include <errno.h>

#define UNUSED_TRIES 20 /* udev looks into a device that is new */
#define UNUSED_WAIT_MS 100
#define GONE_WAIT_MS 50

/* The module tells by a hang-up, or, on a ring that failed before, when asked.
 */
static bool is_gone(void *opaque)
{
	struct blktap_ring *ring = opaque;
	struct blktap_enter enter = { .size = sizeof(enter),
				      .queue = BLKTAP_ALL_QUEUES };

	if (ring->stage == BT_RING_FAILED &&
	    bt_ring_call(ring, BLKTAP_RING_ENTER, &enter) == -ENODEV)
		ring->stage = BT_RING_GONE;
	return ring->stage == BT_RING_GONE;
}

/* Begins the removal; a device that was just closed may still look used. */
static int begin_removal(struct blktap_ring *ring, bool force)
{
	int rc, tries = 0;

	do
		rc = bt_ring_remove(ring, force ? 0 : BLKTAP_REMOVE_IF_UNUSED);
	while (rc == -EBUSY && ++tries < UNUSED_TRIES &&
	       bt_ring_pause(ring, UNUSED_WAIT_MS));
	return rc == -ENODEV ? 0 : rc;
}

/* The device is served all the while, as what is dirty in its page cache has to
 * go somewhere. */
static int take_away(struct blktap_ring *ring, bool force)
{
	int rc = ring->stage == BT_RING_GONE ? 0 : begin_removal(ring, force);

	/* It is served until all that is dirty is written. */
	while (!rc && !is_gone(ring)) {
		rc = bt_loop_run_until(ring->loop, is_gone, ring, GONE_WAIT_MS);
		if (rc == -ETIMEDOUT)
			rc = 0;
	}
	return rc;
}

static bool is_quiet(void *opaque)
{
	struct blktap_ring *ring = opaque;

	return !ring->in_flight;
}

/* Nothing more is taken; what is out is answered. */
static int hand_over(struct blktap_ring *ring)
{
	if (ring->stage != BT_RING_SERVE)
		return -ESHUTDOWN;
	if (!ring->info.recovery_ms)
		return -ENOTSUP;
	ring->stage = BT_RING_HOLD;
	bt_watch_del(&ring->watch);
	bt_loop_drop_waiter(ring->loop, &ring->waiter);
	return 0;
}

int blktap_ring_destroy(struct blktap_ring *ring, enum blktap_ring_end how)
{
	int rc;

	if (!ring)
		return 0;
	if (bt_loop_is_running(ring->loop))
		return -EDEADLK;
	if (how == BLKTAP_RING_END_KEEP)
		rc = hand_over(ring);
	else
		rc = take_away(ring, how == BLKTAP_RING_END_FORCE);
	if (rc)
		return rc;
	/* Who waits for a paused disk to go on is not answered: it waits on for
	 * the next daemon, or the device is gone anyway. */
	bt_vbd_cancel(ring->disk, ring->pool, -ESHUTDOWN);
	rc = bt_loop_run_until(ring->loop, is_quiet, ring, -1);
	if (rc)
		return rc;
	bt_ring_commit(ring);
	bt_ring_free(ring);
	return 0;
}
