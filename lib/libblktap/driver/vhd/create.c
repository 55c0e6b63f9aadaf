/* SPDX-License-Identifier: BSD-3-Clause */
/* New images: fixed, dynamic, and differencing where there is a backing.
 *
 * All is planned in memory (libvhd/layout.c), then metadata and footer are
 * written to a file of another name, which image/create.c syncs and renames: so
 * no order of writes matters. A device is written where it is (write_device). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <blktap/image.h>

#include "core/error.h"
#include "driver/create.h"
#include "driver/lock.h"
#include "driver/vhd/tool.h"
#include "libvhd/geometry.h"
#include "libvhd/layout.h"
#include "libvhd/locator.h"
#include "port/args.h"
#include "util/path.h"

#define LOCATORS 3u /* MACX, W2KU, W2RU */

/* One image that is made: what was asked for, and what follows from it, step by
 * step. */
struct making {
	const struct bt_create *create;
	struct bt_vhd_layout_spec spec;
	struct bt_vhd_layout layout;
	struct bt_vhd_footer footer;
	struct bt_vhd_header header;
	struct bt_vhd_batmap batmap;
	enum bt_vhd_rounding rounding;
	/* of a differencing disk */
	uint8_t parent_uuid[BT_VHD_UUID_SIZE];
	uint32_t parent_time;
	struct bt_vhd_keyhash parent_key;
	uint8_t text[LOCATORS][BT_VHD_LOCATOR_LEN_MAX];
};

/* The codec's fault, of the image that is to be made. */
static int refuse(const struct making *m, int rc, const struct bt_fault *fault,
		  struct blktap_error **err)
{
	return bt_vhdimg_fault(m->create->path, rc, fault, err);
}

/* Name and value are both told: either may be the mistake. */
static int bad_option(const struct making *m,
		      const struct bt_create_extra *extra, const char *hint,
		      struct blktap_error **err)
{
	return bt_fail(err, -EINVAL, hint, "%s: '%s=%s' is no option of a vhd",
		       m->create->path, extra->name, extra->value);
}

static int set_rounding(struct making *m, const struct bt_create_extra *extra,
			struct blktap_error **err)
{
	static const char *const names[] = {
		[BT_VHD_ROUND_SECTOR] = "sector",
		[BT_VHD_ROUND_MIB] = "mib",
		[BT_VHD_ROUND_BLOCK] = "block",
		[BT_VHD_ROUND_GEOMETRY] = "geometry",
	};
	unsigned int i;

	for (i = 0; i < BT_ARRAY_SIZE(names); i++)
		if (!strcmp(extra->value, names[i])) {
			m->rounding = (enum bt_vhd_rounding)i;
			return 0;
		}
	return bad_option(m, extra, "round to sector, mib, block or geometry",
			  err);
}

/* A backing decides the type by itself. */
static int set_type(struct making *m, const struct bt_create_extra *extra,
		    struct blktap_error **err)
{
	bool is_fixed = !strcmp(extra->value, "fixed");

	if ((!is_fixed && strcmp(extra->value, "dynamic") != 0) ||
	    m->create->backing)
		return bad_option(m, extra,
				  "the type is fixed or dynamic; with a "
				  "backing it is differencing",
				  err);
	m->spec.type = is_fixed ? BT_VHD_FIXED : BT_VHD_DYNAMIC;
	return 0;
}

/* Sizes: a child has its parent's, to the sector; others are rounded to MiB,
 * which every reader takes. */
static int read_options(struct making *m, struct blktap_error **err)
{
	const struct bt_create *c = m->create;
	uint32_t i;
	int rc = 0;

	m->spec.type = c->backing ? BT_VHD_DIFFERENCING : BT_VHD_DYNAMIC;
	m->rounding = c->backing ? BT_VHD_ROUND_SECTOR : BT_VHD_ROUND_MIB;
	for (i = 0; i < c->extra_count && !rc; i++) {
		const struct bt_create_extra *extra = &c->extra[i];

		if (!strcmp(extra->name, "type"))
			rc = set_type(m, extra, err);
		else if (!strcmp(extra->name, "round"))
			rc = set_rounding(m, extra, err);
		else if (strcmp(extra->name, "max_size") != 0 ||
			 bt_parse_size(extra->value, &m->spec.max_size) < 0)
			rc = bad_option(m, extra,
					"there are type=, round= and "
					"max_size=",
					err);
	}
	if (!rc && c->cluster_size > BT_VHD_BLOCK_MAX)
		rc = bt_fail(err, -EINVAL, "leave it out for 2 MiB",
			     "%s: block size is %" PRIu64
			     ": a VHD has blocks of at most 2 MiB",
			     c->path, c->cluster_size);
	m->spec.block_size = (uint32_t)c->cluster_size;
	return rc;
}

/* ---- the parent ----------------------------------------------------------- */

/* A child is encrypted with the key of what it stands on. Its data may be
 * copied between the two as it is (coalesce), which only works with one key. */
static int copy_key(struct making *m, struct blktap_error **err)
{
	struct blktap_vhd parent;
	int rc = bt_vhdtool_look(&parent, m->create->backing_path, err);

	if (rc < 0)
		return rc;
	m->parent_key = parent.img->keyhash;
	bt_vhdtool_close(&parent);
	return 0;
}

/* A raw parent is not looked into: every file is one. */
static int look_at_parent(struct making *m, struct blktap_error **err)
{
	const char *path = m->create->backing_path;
	struct bt_vhd_footer footer;
	struct bt_fault fault = { .reason = "cannot be read" };
	struct stat st;
	int rc = stat(path, &st) < 0 ? -errno : 0;

	if (!rc && strcmp(m->create->backing_format, "vhd") != 0 &&
	    strcmp(m->create->backing_format, "raw") != 0)
		return bt_fail(err, -ENOTSUP, "use qcow2 over it",
			       "%s: a VHD stands on a raw image or on a VHD, "
			       "not on %s",
			       m->create->path, m->create->backing_format);
	if (!rc)
		m->parent_time = bt_vhd_time_from_unix(st.st_mtime);
	if (!rc && !strcmp(m->create->backing_format, "vhd")) {
		rc = bt_vhdimg_read_footer(path, &footer, &fault);
		memcpy(m->parent_uuid, footer.uuid, sizeof(footer.uuid));
		if (!rc)
			return copy_key(m, err);
	}
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: its parent %s: %s",
			       m->create->path, path, fault.reason);
	return 0;
}

/* Texts are kept in m until the metadata is written. */
static int add_locator(struct making *m, uint32_t code, const char *path,
		       struct bt_fault *fault)
{
	uint32_t n = m->spec.locators;
	size_t len;
	int rc = bt_vhd_locator_encode(code, path, m->text[n],
				       sizeof(m->text[n]), &len, fault);

	if (rc == -EILSEQ)
		return 0; /* the MACX one holds any name */
	if (rc < 0)
		return rc;
	m->spec.locator_code[n] = code;
	m->spec.locator_len[n] = (uint32_t)len;
	m->spec.locators++;
	return 0;
}

/* A relative name is recorded as such; the absolute one is for the case that
 * only the child is moved. They are in the order of the older vhd-util. */
static int name_parent(struct making *m, struct blktap_error **err)
{
	const char *name = m->create->backing;
	char *absolute = bt_path_absolute(m->create->backing_path);
	struct bt_fault fault = { 0 };
	int rc = 0;

	if (!absolute)
		return bt_image_file_fail(m->create->backing_path, -errno, err);
	rc = add_locator(m, BT_VHD_LOC_MACX, name, &fault);
	if (!rc)
		rc = add_locator(m, BT_VHD_LOC_W2KU, absolute, &fault);
	if (!rc && *name != '/')
		rc = add_locator(m, BT_VHD_LOC_W2RU, name, &fault);
	free(absolute);
	return rc ? refuse(m, rc, &fault, err) : 0;
}

/* Only of a differencing disk; its uuid is zeroes where the parent is raw. */
static int set_parent(struct making *m, struct bt_fault *fault)
{
	const char *slash = strrchr(m->create->backing, '/');
	const char *name = slash ? slash + 1 : m->create->backing;
	int rc = bt_vhd_header_set_parent(&m->header, m->parent_uuid,
					  m->parent_time, name, fault);

	/* the name is for people; the locators say where the parent is */
	if (rc == -EILSEQ)
		rc = bt_vhd_header_set_parent(&m->header, m->parent_uuid,
					      m->parent_time, "", fault);
	return rc;
}

/* ---- writing -------------------------------------------------------------- */

/* The uuid is random, of version 4. */
static int plan(struct making *m, struct blktap_error **err)
{
	uint8_t uuid[BT_VHD_UUID_SIZE];
	struct bt_fault fault = { 0 };
	int rc = bt_vhd_size_round(m->create->size, m->rounding, &m->spec.size,
				   &fault);

	if (!rc)
		rc = bt_vhd_layout_plan(&m->layout, &m->spec, &fault);
	if (rc < 0)
		return refuse(m, rc, &fault, err);
	if (getrandom(uuid, sizeof(uuid), 0) != (ssize_t)sizeof(uuid))
		return bt_image_file_fail(m->create->path, -EIO, err);
	uuid[6] = (uuid[6] & 0x0f) | 0x40; /* version 4: random */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	bt_vhd_footer_init(&m->footer, m->spec.type, m->spec.size,
			   bt_vhd_time_from_unix(time(NULL)), uuid);
	if (m->spec.type == BT_VHD_FIXED)
		return 0;
	bt_vhd_layout_header(&m->layout, &m->header);
	bt_vhd_layout_batmap(&m->layout, &m->batmap);
	m->batmap.keyhash = m->parent_key;
	if (m->create->backing)
		rc = set_parent(m, &fault);
	return rc ? refuse(m, rc, &fault, err) : 0;
}

/* The file's error, told with its name. */
static int put(const struct making *m, uint64_t offset, const void *buf,
	       size_t length, struct blktap_error **err)
{
	int rc = bt_create_write(m->create, offset, buf, length);

	return rc ? bt_image_file_fail(m->create->path, rc, err) : 0;
}

/* A dynamic disk has no place for its blocks before they are written. */
static int reserve(const struct making *m, struct blktap_error **err)
{
	int rc;

	if (!(m->create->flags & BLKTAP_CREATE_RESERVE))
		return 0;
	if (m->spec.type != BT_VHD_FIXED)
		return bt_fail(err, -ENOTSUP, "make it with type=fixed",
			       "%s: only a fixed disk has its space from the "
			       "start",
			       m->create->path);
	rc = bt_create_reserve(m->create, m->spec.size, m->spec.size);
	return rc ? bt_image_file_fail(m->create->path, rc, err) : 0;
}

/* Of a file image/create.c does it, before the rename. */
static int sync_device(const struct making *m, struct blktap_error **err)
{
	return fdatasync(m->create->fd) < 0
		       ? bt_image_file_fail(m->create->path, -errno, err)
		       : 0;
}

/* Both places of a footer. */
static int put_footers(const struct making *m, uint64_t end, const void *footer,
		       struct blktap_error **err)
{
	int rc = put(m, 0, footer, BT_VHD_FOOTER_SIZE, err);

	if (!rc)
		rc = put(m, end, footer, BT_VHD_FOOTER_SIZE, err);
	return rc ? rc : sync_device(m, err);
}

/* Who has the device open as an image keeps it. What was there before ends first, so
 * that no footer of the one image stands by the tables of the other. */
static int write_device(const struct making *m, const uint8_t *metadata,
			const void *footer, struct blktap_error **err)
{
	static const uint8_t none[BT_VHD_FOOTER_SIZE];
	uint64_t sectors = m->create->device_size / BT_VHD_SECTOR;
	uint64_t end = sectors ? (sectors - 1) * BT_VHD_SECTOR : 0;
	size_t length = (size_t)m->layout.metadata_end;
	int rc;

	if (m->spec.type == BT_VHD_FIXED)
		return bt_fail(err, -ENOTSUP, "make it dynamic, or use it raw",
			       "%s: no fixed disk is made on a device",
			       m->create->path);
	if (end < length)
		return bt_fail(err, -ENOSPC, "make the device larger",
			       "%s: has %" PRIu64 " bytes, and tables and "
			       "footer take %" PRIu64,
			       m->create->path, m->create->device_size,
			       length + (uint64_t)BT_VHD_FOOTER_SIZE);
	rc = bt_image_lock(m->create->fd, true, m->create->path, NULL, err);
	if (rc < 0)
		return rc;
	rc = put_footers(m, end, none, err);
	if (!rc)
		rc = put(m, sizeof(none), metadata + sizeof(none),
			 length - sizeof(none), err);
	if (!rc)
		rc = sync_device(m, err);
	if (!rc)
		rc = put_footers(m, end, footer, err);
	bt_image_unlock(m->create->fd);
	return rc;
}

/* Of a fixed disk metadata_end is 0: only its footer is written, and the file
 * is a hole before it. */
static int write_image(struct making *m, struct blktap_error **err)
{
	uint8_t footer[BT_VHD_FOOTER_SIZE];
	const void *const text[LOCATORS] = { m->text[0], m->text[1],
					     m->text[2] };
	size_t length = (size_t)m->layout.metadata_end;
	void *metadata = malloc(length + 1);
	int rc;

	if (!metadata)
		return bt_image_file_fail(m->create->path, -ENOMEM, err);
	bt_vhd_layout_encode(&m->layout, &m->footer, &m->header, &m->batmap,
			     text, metadata);
	bt_vhd_footer_encode(&m->footer, footer);
	if (m->create->device_size) {
		rc = write_device(m, metadata, footer, err);
		free(metadata);
		return rc;
	}
	rc = reserve(m, err);
	if (!rc)
		rc = put(m, 0, metadata, length, err);
	if (!rc)
		rc = put(m, m->layout.footer_offset, footer, sizeof(footer),
			 err);
	free(metadata);
	return rc;
}

/* All that can be refused is refused before the first byte is written. */
int bt_vhdimg_create(const struct bt_create *create, struct blktap_error **err)
{
	struct making *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return bt_image_file_fail(create->path, -ENOMEM, err);
	m->create = create;
	rc = read_options(m, err);
	if (!rc && create->backing)
		rc = look_at_parent(m, err);
	if (!rc && create->backing)
		rc = name_parent(m, err);
	if (!rc)
		rc = plan(m, err);
	if (!rc)
		rc = write_image(m, err);
	free(m);
	return rc;
}
