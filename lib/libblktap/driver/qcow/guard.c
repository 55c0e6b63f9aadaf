/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the tables are. An entry that leads a write there is damaged, and the
 * write would damage the rest. The fixed tables are the codec's to know; this is
 * a set of the others: L2 tables and refcount blocks, filled at a writable open
 * and whenever one is made.
 *
 * A set of the tables' offsets, open addressing, hashed by unit, so that "is
 * there a table in these bytes" costs one look for each unit of them. It only
 * grows: the driver frees no L2 table and no refcount block while an image is
 * open. */
#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

#define PIECE 65536u /* of a table that is read */
#define FIRST_SLOTS 1024u /* 8 KiB; doubled as it fills */

/* Tables are looked for by the unit of the file they start in; none is larger
 * than a unit. In versions 2 and 3 both are clusters. In version 1 a table may
 * be larger than a cluster, and begin at any multiple of 512. */
static uint64_t unit(const struct bt_qcow *q)
{
	return bt_max_u64(bt_qcow_cluster(q), q->geo.l2_bytes);
}

/* All tables that begin in one unit are in one chain of slots. */
static uint64_t slot_of(const struct bt_qcow *q, uint64_t host)
{
	return (host / unit(q)) * UINT64_C(0x9e3779b97f4a7c15) >> 20 &
	       q->guard.mask;
}

/* There is a free slot (make_room). No offset is 0: the header is there, so 0
 * can mean free. */
static void put(struct bt_qcow *q, uint64_t host)
{
	uint64_t at = slot_of(q, host);

	while (q->guard.slots[at])
		at = (at + 1) & q->guard.mask;
	q->guard.slots[at] = host;
	q->guard.count++;
}

/* Half full at the most. Where memory is short the set stays as it is, and one
 * table goes unguarded. Refusing the table instead would turn a lack of memory
 * into an I/O error of the guest's; the guard is only against images that are
 * damaged. */
static bool make_room(struct bt_qcow *q)
{
	uint64_t *old = q->guard.slots, n = q->guard.mask + 1, i;

	if (old && q->guard.count * 2 < n)
		return true;
	n = old ? n * 2 : FIRST_SLOTS;
	q->guard.slots = calloc(n, sizeof(*old));
	if (!q->guard.slots) {
		q->guard.slots = old;
		return old && q->guard.count < q->guard.mask;
	}
	q->guard.mask = n - 1;
	q->guard.count = 0;
	for (i = 0; old && i < n / 2; i++)
		if (old[i])
			put(q, old[i]);
	free(old);
	return true;
}

/* Called when the table has its place, before anything on disk names it. */
void bt_qcow_guard_add(struct bt_qcow *q, uint64_t host)
{
	if (make_room(q))
		put(q, host);
}

void bt_qcow_guard_fini(struct bt_qcow *q)
{
	free(q->guard.slots);
	q->guard.slots = NULL;
}

/* A chain holds tables of other units as well, so each is compared by its
 * bytes. */
static bool unit_hits(const struct bt_qcow *q, uint64_t in_unit, uint64_t host,
		      uint64_t bytes)
{
	uint64_t at = slot_of(q, in_unit), table;

	for (; (table = q->guard.slots[at]); at = (at + 1) & q->guard.mask)
		if (table < host + bytes &&
		    host < table + (q->geo.version > 1 ? bt_qcow_cluster(q)
						       : q->geo.l2_bytes))
			return true;
	return false;
}

/* An image that is open read-only has no set, and writes nothing. */
bool bt_qcow_guard_hits(const struct bt_qcow *q, uint64_t host, uint64_t bytes)
{
	uint64_t u = unit(q), at;

	if (!q->guard.slots)
		return false;
	/* a table that starts a unit before may reach into the bytes */
	at = host >= u ? host - u : 0;
	if (q->geo.version > 1)
		at = host;
	for (at -= at % u; at < host + bytes; at += u)
		if (unit_hits(q, at, host, bytes))
			return true;
	return false;
}

/* ---- filling it at open --------------------------------------------------- */

/* An entry that does not decode names no place that a write could be led to
 * through it; the request that needs it fails. */
static void add_l1(struct bt_qcow *q, uint64_t entry)
{
	struct bt_qcow_l1 l1;

	if (q->native_l1)
		entry = be64toh(entry);
	if (!bt_qcow_l1_decode(&q->geo, entry, q->file_end, &l1, NULL) &&
	    l1.offset)
		bt_qcow_guard_add(q, l1.offset);
}

static void add_reftable(struct bt_qcow *q, uint64_t entry)
{
	uint64_t host;

	if (!bt_qcow_reftable_decode(&q->geo, entry, q->file_end, &host,
				     NULL) &&
	    host)
		bt_qcow_guard_add(q, host);
}

/* A table in pieces of 64 KiB, big-endian, as the file has it. */
static int each_entry(struct bt_qcow *q, uint64_t offset, uint64_t entries,
		      void (*fn)(struct bt_qcow *q, uint64_t entry))
{
	unsigned char *buffer = malloc(PIECE);
	uint64_t done = 0, bytes = entries * 8;
	int rc = buffer ? 0 : -ENOMEM;

	while (done < bytes && !rc) {
		size_t n = (size_t)bt_min_u64(PIECE, bytes - done), i;

		rc = bt_image_file_read(&q->f, offset + done, buffer, n);
		for (i = 0; i < n && !rc; i += 8)
			fn(q, bt_load_be64(buffer + i));
		done += n;
	}
	free(buffer);
	return rc;
}

/* At a writable open, when nobody has entries in memory yet. */
int bt_qcow_guard_load(struct bt_qcow *q, struct blktap_error **err)
{
	int rc = each_entry(q, q->geo.l1_offset, q->geo.l1_entries, add_l1);

	if (!rc && q->geo.version > 1)
		rc = each_entry(q, q->geo.reftable_offset,
				q->geo.reftable_entries, add_reftable);
	return rc < 0 ? bt_image_file_fail(q->f.path, rc, err) : 0;
}
