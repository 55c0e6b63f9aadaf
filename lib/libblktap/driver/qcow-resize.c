/* SPDX-License-Identifier: BSD-3-Clause */
/* A larger disk: the size and the length of the L1 table are in one sector of the
 * header. New entries are zeroes, and on disk, before they count. The table has to
 * end in the clusters that it has: with 64 KiB of them that is 4 TiB of disk. */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "driver/qcow.h"
#include "util/checked.h"

static int no_room(const struct bt_qcow *q, uint64_t size,
		   struct blktap_error **err)
{
	return bt_fail(err, -ENOTSUP, "qemu-img resize, while it is closed",
		       "%s: its tables have no room for %" PRIu64 " bytes",
		       q->f.path, size);
}

/* What a parent has past the old end would come up. */
static int check_base(const struct bt_qcow *q, struct blktap_error **err)
{
	const struct bt_node *base = q->node->ports[0].lower;

	if (!base || base->limits.size <= q->geo.size)
		return 0;
	return bt_fail(err, -ENOTSUP, "stream it first: tap-ctl job",
		       "%s: stands on a larger image, whose data would be seen",
		       q->f.path);
}

static int clear_entries(struct bt_qcow *q, uint64_t from, uint64_t to)
{
	static const unsigned char zeroes[4096];
	uint64_t at = q->geo.l1_offset + from * 8;
	uint64_t end = q->geo.l1_offset + to * 8;
	int rc = 0;

	while (at < end && !rc) {
		size_t n = (size_t)bt_min_u64(end - at, sizeof(zeroes));

		rc = bt_image_file_write(&q->f, at, zeroes, n);
		at += n;
	}
	return rc ? rc : bt_image_file_sync(&q->f);
}

int bt_qcow_resize(struct bt_node *node, uint64_t size,
		   struct blktap_error **err)
{
	struct bt_qcow *q = node->data;
	struct bt_qcow_header old = q->header;
	uint64_t had = q->geo.l1_entries, room = had;
	uint64_t need = size / q->geo.l1_span + (size % q->geo.l1_span != 0);
	uint64_t bytes = bt_align_down(had * 8 + bt_qcow_cluster(q) - 1,
				       bt_qcow_cluster(q));
	int rc = check_base(q, err);

	if (rc < 0)
		return rc;
	if (q->header.version > 1)
		room = bt_min_u64(bytes, BT_QCOW_L1_BYTES_MAX) / 8;
	if (need > room)
		return no_room(q, size, err);
	if (need > had) {
		rc = clear_entries(q, had, need);
		q->header.l1_entries = need;
	}
	q->header.size = size;
	if (!rc)
		rc = bt_qcow_write_header(q);
	if (rc < 0) {
		q->header = old;
		return bt_image_file_fail(q->f.path, rc, err);
	}
	return 0;
}
