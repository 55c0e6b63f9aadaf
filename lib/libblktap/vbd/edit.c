/* SPDX-License-Identifier: BSD-3-Clause */
/* A change of the graph of a running disk:
 *
 *   [flush] -> hold -> drained -> [flush] -> commit -> release -> done
 *
 * The first flush takes from the second what it would have to write while
 * requests wait at the gate. All that can be prepared is prepared by the caller
 * before: a commit only swings edges. Reads and writes of the core itself (a
 * job's) go through edges of their own, which are held along. */
#include "vbd/edit.h"

#include <errno.h>
#include <stdlib.h>

#include "core/error.h"

static void step(struct bt_work *work);

/* The edit is its owner's again from done on; not a field of it is touched behind
 * that. */
static void end(struct blktap_disk *disk)
{
	struct bt_edit *edit = disk->edit;

	disk->edit = NULL;
	/* the next one first: this one's owner may start another */
	bt_edit_next(disk);
	edit->done(edit, edit->error, edit->err);
}

/* With or without a commit: what waited goes down into the graph as it is now. */
static void release(struct blktap_disk *disk)
{
	disk->state = BT_VBD_RUNNING;
	disk->stats.last_pause_ns =
		bt_loop_refresh(disk->context->loop) - disk->pause_began_ns;
	bt_gate_release(&disk->gate);
	end(disk);
}

static void flushed(struct bt_request *req)
{
	struct blktap_disk *disk = req->opaque;

	disk->edit->error = req->error;
	bt_pool_give(req);
	/* the image's own code is on the stack: it goes on from the loop */
	bt_loop_defer(disk->context->loop, &disk->edit_work);
}

/* The commit is never called from here: a node that completed the last request is
 * on the stack, and it may be the one that goes. */
static void drained(struct bt_gate *gate, int error)
{
	struct blktap_disk *disk = gate->opaque;
	struct bt_edit *edit = disk->edit;
	char text[256];

	if (error) {
		edit->error = error;
		bt_pause_name_stuck(disk, text, sizeof(text));
		bt_fail(&edit->err, error, NULL, "%s", text);
		release(disk);
		return;
	}
	disk->state = BT_VBD_FLUSHING;
	if (edit->flush)
		bt_pause_flush(disk, 0, flushed);
	else
		bt_loop_defer(disk->context->loop, &disk->edit_work);
}

/* timeout_ms 0 waits for ever: an edit of the core's own has no deadline of a
 * user's. */
static void hold(struct blktap_disk *disk)
{
	struct bt_edit *edit = disk->edit;
	int rc = bt_gate_hold(&disk->gate, disk->tops, bt_disk_get_tops(disk),
			      BT_HOLD_ALL, edit->timeout_ms, drained, disk);

	if (rc < 0) {
		edit->error = rc;
		end(disk);
		return;
	}
	disk->state = BT_VBD_DRAINING;
	disk->pause_began_ns = bt_loop_refresh(disk->context->loop);
}

/* A flush has ended, or there was none to wait for. */
static void step(struct bt_work *work)
{
	struct blktap_disk *disk =
		bt_container_of(work, struct blktap_disk, edit_work);
	struct bt_edit *edit = disk->edit;

	if (disk->state == BT_VBD_FLUSHING) {
		if (!edit->error)
			edit->error = edit->commit(edit, &edit->err);
		release(disk);
	} else if (edit->error) {
		end(disk);
	} else if (edit->settled || !edit->flush) {
		hold(disk);
	} else {
		edit->settled = true;
		bt_pause_flush(disk, 0, flushed);
	}
}

/* A pause goes before edits that were asked for earlier: it is a user who waits
 * for it, and edits go on when the disk is resumed. */
void bt_edit_next(struct blktap_disk *disk)
{
	if (disk->edit || disk->state != BT_VBD_RUNNING)
		return;
	if (disk->pause_waits) {
		bt_pause_start(disk);
	} else if (!bt_list_empty(&disk->edits)) {
		disk->edit = bt_list_entry(bt_list_pop(&disk->edits),
					   struct bt_edit, link);
		bt_loop_defer(disk->context->loop, &disk->edit_work);
	}
}

/* From the loop even where nothing waits, so that done never runs inside of this. */
void bt_edit_start(struct blktap_disk *disk, struct bt_edit *edit)
{
	edit->disk = disk;
	edit->settled = false;
	edit->error = 0;
	edit->err = NULL;
	bt_list_add_tail(&disk->edits, &edit->link);
	bt_edit_next(disk);
}

void bt_edit_fail_all(struct blktap_disk *disk, int error)
{
	struct bt_list *node;

	while ((node = bt_list_pop(&disk->edits))) {
		struct bt_edit *edit =
			bt_list_entry(node, struct bt_edit, link);

		edit->done(edit, error, NULL);
	}
}

void bt_edit_init(struct blktap_disk *disk)
{
	bt_list_init(&disk->edits);
	bt_work_init(&disk->edit_work, step);
}

/* ---- the chain ------------------------------------------------------------ */

/* Of a chain of images each node has one port: what it stands on. */
static struct bt_node *below(const struct bt_node *node)
{
	return node->port_count ? node->ports[0].lower : NULL;
}

uint32_t bt_chain_depth(const struct blktap_disk *disk)
{
	struct bt_node *node;
	uint32_t n = 0;

	for (node = disk->root; node; node = below(node))
		n++;
	return n;
}

struct bt_node *bt_chain_at(const struct blktap_disk *disk, uint32_t n)
{
	struct bt_node *node = disk->root;

	while (node && n--)
		node = below(node);
	return node;
}

/* Limits go upwards from what is new to the leaf, and only then to the disk;
 * frames may be deeper, for which the requests there are get room, too. All of
 * that fails before anything has changed for a request. */
int bt_chain_relink(struct blktap_disk *disk, uint32_t n, struct bt_node *node,
		    struct blktap_error **err)
{
	struct bt_port *port = &bt_chain_at(disk, n - 1)->ports[0];
	struct bt_node *old = port->lower;
	uint32_t i = n;
	int rc = 0;

	bt_port_link(port, node);
	while (i-- > 0 && !rc)
		rc = bt_node_plan(bt_chain_at(disk, i), err);
	if (!rc)
		rc = bt_disk_adopt(disk, disk->root, err);
	if (!rc)
		return 0;
	/* as it was: that has been planned before */
	bt_port_link(port, old);
	for (i = n; i-- > 0;)
		bt_node_plan(bt_chain_at(disk, i), NULL);
	return rc;
}
