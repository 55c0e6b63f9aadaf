/* SPDX-License-Identifier: BSD-3-Clause */
/* What an image says it stands on, changed.
 *
 * All that decides lies in the file's first sector: the place and length of the
 * name, and what has its format. That sector is written in one piece; a name that
 * does not fit into it is written and synced before, to a place in the first
 * cluster where the old one is not. So after a crash the image stands on the one
 * or on the other.
 *
 * In version 1 the L1 table may begin in that sector, and is not written here: the
 * piece ends before it. The format's record goes with the name, before it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "driver/qcow/qcow.h"
#include "libqcow/extension.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/path.h"

#define SECTOR 512u /* what a disk writes in one piece */

struct relink {
	struct bt_qcow *q;
	const char *name; /* NULL: none */
	const char *format;
	unsigned char *head; /* as it is */
	size_t head_bytes;
	struct bt_qcow_header header; /* as it will be */
	unsigned char sector[SECTOR];
};

/* QEMU's name of the class. */
static const char *recorded(const char *format)
{
	return strcmp(format, "vhd") ? format : "vpc";
}

static int no_room(const struct relink *r, struct blktap_error **err)
{
	return bt_fail(err, -ENOSPC, "give the parent a shorter name",
		       "%s: its header has no room for the name of its parent",
		       r->q->f.path);
}

/* Extensions that are kept: all but the parent's format, which is new, and the
 * table of names for features, which is for messages alone. They are read from
 * the header as it was and put into the new sector, in their old order. */
static int put_extensions(struct relink *r, size_t *at)
{
	struct bt_qcow_ext_iter it;
	struct bt_qcow_ext ext;
	struct bt_fault fault;
	int rc = 0;

	if (r->name)
		rc = bt_qcow_ext_put(r->sector, SECTOR, at,
				     (uint32_t)BT_QCOW_EXT_BACKING_FORMAT,
				     recorded(r->format),
				     (uint32_t)strlen(recorded(r->format)));
	bt_qcow_ext_init(&it, &r->q->header, r->head, r->head_bytes);
	while (!rc && (rc = bt_qcow_ext_next(&it, &ext, &fault)) > 0) {
		rc = 0;
		if (ext.type != (uint32_t)BT_QCOW_EXT_BACKING_FORMAT &&
		    ext.type != BT_QCOW_EXT_FEATURE_NAMES)
			rc = bt_qcow_ext_put(r->sector, SECTOR, at, ext.type,
					     ext.data, ext.bytes);
	}
	return rc ? rc
		  : bt_qcow_ext_put(r->sector, SECTOR, at, BT_QCOW_EXT_END,
				    NULL, 0);
}

/* What of the first sector is written. Of version 2 and 3 the L1 table is in
 * another cluster, so all of the sector is the header's. */
static size_t piece(const struct relink *r)
{
	const struct bt_qcow *q = r->q;

	return q->header.version == 1
		       ? (size_t)bt_min_u64(SECTOR, q->geo.l1_offset)
		       : SECTOR;
}

/* Where the extensions that are in the file end, with their mark. Sound ones:
 * put_extensions has been through them. */
static uint64_t old_extensions_end(const struct relink *r)
{
	struct bt_qcow_ext_iter it;
	struct bt_qcow_ext ext;
	struct bt_fault fault;

	if (r->q->header.version == 1)
		return 0;
	bt_qcow_ext_init(&it, &r->q->header, r->head, r->head_bytes);
	while (bt_qcow_ext_next(&it, &ext, &fault) > 0)
		;
	return it.at + 8;
}

/* Where so many bytes go that do not fit behind at: neither over the old name
 * or extensions nor over a table. 0: nowhere. Xen's images have nothing between
 * their header and the table at 4096. What the old sector leads to stays whole
 * until that has changed: so a cut leaves a header whose name is there. */
static uint64_t find_place(const struct relink *r, uint32_t bytes)
{
	const struct bt_qcow *q = r->q;
	uint64_t end = bt_qcow_cluster(q);
	uint64_t at = bt_align_down(
		bt_max_u64(old_extensions_end(r), SECTOR) + SECTOR - 1, SECTOR);
	uint64_t old_end = q->header.backing_offset + q->header.backing_bytes;

	if (q->header.version == 1)
		end = q->geo.l1_offset == 4096
			      ? 4096
			      : bt_min_u64(end, q->geo.l1_offset);
	if (at + bytes > q->header.backing_offset && old_end > at)
		at = bt_align_down(old_end + SECTOR - 1, SECTOR);
	return at + bytes <= end ? at : 0;
}

/* Version 1 only: no record is needed where the user says the format. */
static bool is_given(const struct relink *r)
{
	const char *given = bt_args_string(r->q->node->args, "backing_format");

	return given && !strcmp(given, r->format);
}

/* Behind the extensions in the sector where it fits, so that one write changes
 * all; else in its place first, synced. A record of the format is left out in
 * version 1 where there is no room for it and the user gives the format
 * anyway. */
static int put_name(struct relink *r, size_t at, struct blktap_error **err)
{
	unsigned char text[BT_QCOW_RECORD_BYTES + BT_QCOW_NAME_MAX];
	uint32_t name = (uint32_t)strlen(r->name), record = 0;
	uint64_t place = at;
	int rc;

	if (name > BT_QCOW_NAME_MAX)
		return no_room(r, err);
	if (r->q->header.version == 1)
		record = BT_QCOW_RECORD_BYTES;
	if (record && is_given(r) && at + record + name > piece(r) &&
	    !find_place(r, record + name))
		record = 0;
	if (record)
		bt_qcow_record_put(text, recorded(r->format));
	memcpy(text + record, r->name, name);
	if (at + record + name <= piece(r)) {
		memcpy(r->sector + at, text, record + name);
	} else {
		place = find_place(r, record + name);
		if (!place)
			return no_room(r, err);
		rc = bt_image_file_write(&r->q->f, place, text, record + name);
		if (!rc)
			rc = bt_image_file_sync(&r->q->f);
		if (rc < 0)
			return bt_image_file_fail(r->q->f.path, rc, err);
	}
	r->header.backing_offset = place + record;
	r->header.backing_bytes = name;
	return 0;
}

/* The sector as it will be, but for the fields that bt_qcow_header_encode
 * writes. */
static int fill_sector(struct relink *r, struct blktap_error **err)
{
	const struct bt_qcow_header *h = &r->q->header;
	size_t at;
	int rc;

	r->header = *h;
	r->header.backing_offset = 0;
	r->header.backing_bytes = 0;
	memcpy(r->sector, r->head, (size_t)bt_min_u64(SECTOR, r->head_bytes));
	at = h->version > 2    ? h->header_bytes
	     : h->version == 2 ? BT_QCOW_V2_BYTES
	     : h->has_xen      ? BT_QCOW_V1_BYTES + BT_QCOW_XEN_BYTES
			       : BT_QCOW_V1_BYTES;
	if (at > SECTOR)
		return no_room(r, err);
	if (h->version > 1) {
		memset(r->sector + at, 0, SECTOR - at);
		rc = put_extensions(r, &at);
		if (rc < 0)
			return rc == -ENOSPC ? no_room(r, err)
					     : bt_image_file_fail(r->q->f.path,
								  rc, err);
	}
	return r->name ? put_name(r, at, err) : 0;
}

/* The moment of change. A name that an attempt before left behind is nobody's: the
 * header does not lead to it (bt_qcow_put_head). */
static int write_sector(struct relink *r)
{
	int rc = bt_qcow_header_encode(&r->header, r->sector, SECTOR);

	return rc < 0 ? rc
		      : bt_qcow_put_head(r->q, r->head, r->sector, piece(r));
}

/* The cache has the header's sector, as it was, where the L1 table begins beside it:
 * with the next entry it would write that back. So it is given up, clean. */
static int forget_head(struct bt_qcow *q)
{
	int rc;

	if (q->geo.l1_offset >= QCOW_L1_PAGE)
		return 0;
	rc = bt_meta_write_out(q->meta);
	if (!rc)
		bt_meta_forget(q->meta, QCOW_L1, 0);
	return rc;
}

/* What get_parent says from now on. */
static int make_spec(struct relink *r, char **spec)
{
	char *path = NULL;
	int rc = 0;

	*spec = NULL;
	if (!r->name)
		return 0;
	rc = bt_path_resolve(r->q->f.path, r->name, &path);
	if (!rc && asprintf(spec, "%s:%s", r->format, path) < 0) {
		*spec = NULL;
		rc = -ENOMEM;
	}
	free(path);
	return rc;
}

/* name NULL: it stands alone from now on. The node goes on running with the
 * same tables. */
int bt_qcow_set_parent(struct bt_node *node, const char *name,
		       const char *format, struct blktap_error **err)
{
	struct relink r = { .q = node->data, .format = format };
	char *spec = NULL, *record = NULL;
	struct bt_qcow *q = r.q;
	int rc = name ? bt_path_record(name, &record) : 0;

	r.name = record;
	/* before a name goes where the header may lead */
	if (!rc && q->header_lost)
		rc = bt_fail(err, -EIO, "close it, and open it again",
			     "%s: its header could not be written before",
			     q->f.path);
	if (!rc)
		rc = make_spec(&r, &spec);

	r.head_bytes =
		(size_t)bt_max_u64(bt_qcow_header_span(&q->header), SECTOR);
	r.head = malloc(r.head_bytes);
	if (!rc && !r.head)
		rc = -ENOMEM;
	if (!rc)
		rc = bt_image_file_read(&q->f, 0, r.head, r.head_bytes);
	if (rc < 0)
		bt_image_file_fail(q->f.path, rc, err);
	if (!rc)
		rc = fill_sector(&r, err);
	if (!rc) {
		rc = forget_head(q);
		if (!rc)
			rc = write_sector(&r);
		if (rc < 0)
			bt_image_file_fail(q->f.path, rc, err);
	}
	free(r.head);
	free(record);
	if (rc < 0) {
		free(spec);
		return rc;
	}
	q->header = r.header;
	free(q->parent);
	q->parent = spec;
	return 0;
}
