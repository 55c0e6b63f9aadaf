/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that failed for a reason that may pass are parked and submitted again
 * by a timer: EAGAIN, EBUSY and EINTR always, EIO and lack of space where the
 * disk's policy says so. After the request's deadline its last error is final.
 *
 * A FLUSH that failed with EIO may be tried again like any other: those who lose
 * data by a failed sync (raw files, the tables of formats, a server's connection)
 * fail every later one, so trying again never turns a loss into a success. */
#include "vbd/private.h"

#include <errno.h>

#define FIRST_WAIT_NS (5 * BT_NS_PER_MS)
#define LONGEST_WAIT_NS (1000 * BT_NS_PER_MS)

/* Errors of the request itself (EINVAL, ENOTSUP, EPERM) are the same the next
 * time. */
static bool is_passing(const struct blktap_disk *disk, int error)
{
	switch (error) {
	case -EAGAIN:
	case -EBUSY:
	case -EINTR:
		return true;
	case -EIO:
		return disk->on_io_error == BLKTAP_POLICY_RETRY;
	case -ENOSPC:
	case -EDQUOT:
		return disk->on_no_space == BLKTAP_POLICY_RETRY;
	default:
		return false;
	}
}

/* 5 ms, 10 ms, ... 1 s: soon where it was a moment's lack, seldom where it lasts. */
static uint64_t wait_ns(uint32_t attempts)
{
	return bt_min_u64(FIRST_WAIT_NS << bt_min_u64(attempts, 20),
			  LONGEST_WAIT_NS);
}

bool bt_retry_take(struct blktap_disk *disk, struct bt_request *req)
{
	struct bt_loop *loop = disk->context->loop;
	uint64_t now = bt_loop_now(loop), due;

	if (!is_passing(disk, req->error) || disk->closing)
		return false;
	/* The deadline is the request's from its admission: a guest gives up on
	 * it by then itself. */
	due = now + wait_ns(req->attempts);
	if (due - req->admitted_ns > disk->deadline_ns)
		return false;
	/* One timer for all: those that are due later are tried too soon, which
	 * costs a try. */
	if (!disk->unpark.loop || due < disk->unpark.due_ns)
		if (bt_timer_arm(loop, &disk->unpark, due) < 0)
			return false;
	if (bt_list_empty(&disk->parked))
		bt_disk_event(disk, BLKTAP_EVENT_PARKED, req->error, req,
			      req->failed ? req->failed->name : "",
			      "requests wait to be tried again");
	/* the node may go while it waits */
	req->failed = NULL;
	req->attempts++;
	/* What failed may be the flush behind a write, and a failed flush may
	 * have dropped that very write: both are done again. */
	req->was_written = false;
	disk->stats.retries++;
	bt_list_add_tail(&disk->parked, &req->link);
	return true;
}

static void submit_again(struct bt_timer *timer)
{
	struct blktap_disk *disk =
		bt_container_of(timer, struct blktap_disk, unpark);
	struct bt_list again, *node;

	bt_list_init(&again);
	/* Those that fail at once are parked anew, and must not be met in this
	 * walk. */
	bt_list_splice_tail(&again, &disk->parked);
	while ((node = bt_list_pop(&again))) {
		struct bt_request *req =
			bt_list_entry(node, struct bt_request, link);

		req->error = 0;
		req->failed = NULL;
		bt_port_submit(&disk->top, req);
	}
	if (bt_list_empty(&disk->parked))
		bt_disk_event(disk, BLKTAP_EVENT_UNPARKED, 0, NULL, "",
			      "requests go on");
}

void bt_retry_init(struct blktap_disk *disk)
{
	bt_list_init(&disk->parked);
	bt_timer_init(&disk->unpark, submit_again);
}

/* The disk is closing, so that none is parked again. */
void bt_retry_fail_all(struct blktap_disk *disk, int error)
{
	struct bt_list *node;

	bt_timer_cancel(&disk->unpark);
	while ((node = bt_list_pop(&disk->parked))) {
		struct bt_request *req =
			bt_list_entry(node, struct bt_request, link);

		if (!req->error)
			req->error = error;
		bt_admit_done(&disk->top, req);
	}
}
