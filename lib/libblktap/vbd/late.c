/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that pass their deadline are reported, with the node that has them.
 * They are not taken back: their memory may be in the kernel's hands. The list is
 * in order of admission, so a look at its head is enough. */
#include "vbd/private.h"

static uint64_t due(const struct blktap_disk *disk,
		    const struct bt_request *req)
{
	return req->admitted_ns + disk->deadline_ns;
}

/* Once for each request: late is reset by its next admission. */
static void report(struct blktap_disk *disk, struct bt_request *req,
		   uint64_t now)
{
	const char *where = bt_request_where(req);

	req->late = true;
	disk->stats.late++;
	bt_disk_event(
		disk, BLKTAP_EVENT_REQUEST_LATE, 0, req, where,
		"request has not finished after %llu ms; it is in %s",
		(unsigned long long)((now - req->admitted_ns) / BT_NS_PER_MS),
		*where ? where : "a queue of the disk");
}

/* Reports what is late now; arms the timer for what may be late next. Whoever is
 * told of one may end it, and others: see bt_late_forget. */
static void sweep(struct bt_timer *timer)
{
	struct blktap_disk *disk =
		bt_container_of(timer, struct blktap_disk, sweep);
	uint64_t now = bt_loop_now(disk->context->loop);
	struct bt_list *pos;

	for (pos = disk->life.next; pos != &disk->life;
	     pos = disk->sweep_next) {
		struct bt_request *req =
			bt_list_entry(pos, struct bt_request, life);

		if (due(disk, req) > now) {
			bt_timer_arm(disk->context->loop, timer,
				     due(disk, req));
			break;
		}
		disk->sweep_next = pos->next;
		if (!req->late)
			report(disk, req, now);
	}
	/* where all are late already, what comes next arms it again */
	disk->sweep_next = NULL;
}

void bt_late_init(struct blktap_disk *disk)
{
	bt_list_init(&disk->life);
	bt_timer_init(&disk->sweep, sweep);
}

void bt_late_arm(struct blktap_disk *disk)
{
	struct bt_loop *loop = disk->context->loop;

	bt_timer_arm(loop, &disk->sweep, bt_loop_now(loop) + disk->deadline_ns);
}
