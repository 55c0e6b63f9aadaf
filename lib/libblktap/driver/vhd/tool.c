/* SPDX-License-Identifier: BSD-3-Clause */
/* <blktap/vhd.h>: opening, information, marks, checking.
 *
 * A tool has an environment of its own: a loop and an engine of plain calls,
 * which only exist because a node needs them. Everything is done by the file's
 * blocking calls. O_DIRECT is not used: what tools write is small, or streams
 * through the page cache. */
#include "driver/vhd/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"
#include "port/args.h"
#include "util/path.h"

/* ---- opening -------------------------------------------------------------- */

/* Also of one that was made in part: each of these takes NULL. */
void bt_vhdtool_close(struct blktap_vhd *vhd)
{
	bt_node_destroy(vhd->node);
	bt_engine_destroy(vhd->env.engine);
	bt_loop_destroy(vhd->env.loop);
}

/* The class's own arguments, but for the path all as they are by default. */
static int make_node(struct blktap_vhd *vhd, const char *path,
		     struct blktap_error **err)
{
	struct bt_args *args;
	int rc = bt_args_create(&bt_vhd_class, &args);

	if (rc < 0)
		return rc;
	rc = bt_args_set(args, "path", path, err);
	if (!rc)
		rc = bt_args_finish(args, err);
	if (rc < 0) {
		bt_args_destroy(args);
		return rc;
	}
	return bt_node_create(&vhd->env, &bt_vhd_class, path, args, &vhd->node,
			      err);
}

/* On failure what there is stays in vhd, for bt_vhdtool_close. */
static int prepare(struct blktap_vhd *vhd, const char *path,
		   struct blktap_error **err)
{
	int rc;

	memset(vhd, 0, sizeof(*vhd));
	rc = bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &vhd->env.loop);
	if (!rc)
		rc = bt_engine_create(vhd->env.loop, NULL, BLKTAP_ENGINE_SYNC,
				      0, &vhd->env.engine, err);
	return rc ? rc : make_node(vhd, path, err);
}

/* The error that is there already stays; this one is for where none is. */
static int failed(struct blktap_vhd *vhd, const char *path, int rc,
		  struct blktap_error **err)
{
	bt_vhdtool_close(vhd);
	return bt_fail(err, rc, NULL, "%s: cannot be opened", path);
}

/* The flags of vhd->img are set between the node's making and its opening,
 * which looks at them. */
int bt_vhdtool_open(struct blktap_vhd *vhd, const char *path, uint32_t flags,
		    bool any_parent, struct blktap_error **err)
{
	int rc = prepare(vhd, path, err);

	if (!rc) {
		vhd->img = vhd->node->data;
		vhd->img->any_parent = any_parent;
		vhd->img->as_stored = true;
		rc = bt_node_open(vhd->node, flags | BLKTAP_OPEN_BUFFERED, err);
	}
	return rc < 0 ? failed(vhd, path, rc, err) : 0;
}

/* The node is not opened: it is there because a file wants one to belong to. */
static int open_file(struct blktap_vhd *vhd, const char *path, uint32_t flags,
		     struct bt_image_file *f, struct blktap_error **err)
{
	int rc = prepare(vhd, path, err);

	if (!rc)
		rc = bt_image_file_open(f, vhd->node, path,
					flags | BLKTAP_OPEN_BUFFERED, false,
					err);
	return rc < 0 ? failed(vhd, path, rc, err) : 0;
}

int bt_vhdtool_open_file(struct blktap_vhd *vhd, const char *path,
			 struct bt_image_file *f, struct blktap_error **err)
{
	return open_file(vhd, path, 0, f, err);
}

int bt_vhdtool_open_raw(struct blktap_vhd *vhd, const char *path,
			struct bt_image_file *f, struct blktap_error **err)
{
	return open_file(vhd, path, BLKTAP_OPEN_FORCE, f, err);
}

int bt_vhdtool_look(struct blktap_vhd *vhd, const char *path,
		    struct blktap_error **err)
{
	return bt_vhdtool_open(vhd, path,
			       BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE, true,
			       err);
}

/* For looking no lock is taken: toolstacks look at images in use. */
int blktap_vhd_open(const char *path, uint32_t flags, struct blktap_vhd **out,
		    struct blktap_error **err)
{
	struct blktap_vhd *vhd = malloc(sizeof(*vhd));
	int rc;

	if (!vhd)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", path);
	if (flags & BLKTAP_VHD_WRITE)
		rc = bt_vhdtool_open(vhd, path, 0, true, err);
	else
		rc = bt_vhdtool_look(vhd, path, err);
	if (rc < 0)
		free(vhd);
	else
		*out = vhd;
	return rc;
}

/* NULL is fine. */
void blktap_vhd_close(struct blktap_vhd *vhd)
{
	if (vhd)
		bt_vhdtool_close(vhd);
	free(vhd);
}

/* 0 stays 0, so that it can end a function. */
int bt_vhdtool_fail(struct blktap_vhd *vhd, int rc, struct blktap_error **err)
{
	return rc ? bt_image_file_fail(vhd->img->f.path, rc, err) : 0;
}

/* Asked by each call that writes: a handle for looking holds no lock. */
int bt_vhdtool_check_writable(struct blktap_vhd *vhd, struct blktap_error **err)
{
	if (!vhd->img->read_only)
		return 0;
	return bt_fail(err, -EBADF, "open it with BLKTAP_VHD_WRITE",
		       "%s: was opened for reading", vhd->img->f.path);
}

/* A fixed disk has neither table nor bitmaps. */
int bt_vhdtool_check_blocks(struct blktap_vhd *vhd, struct blktap_error **err)
{
	if (!vhd->img->fixed)
		return 0;
	return bt_fail(err, -EINVAL, NULL, "%s: is a fixed disk: no blocks",
		       vhd->img->f.path);
}

/* ---- what tools read and write -------------------------------------------- */

/* Entries are as the table has them, unchecked: who writes has had
 * bt_vhdimg_check_bat look first. */
int bt_vhdtool_each_block(struct bt_vhdimg *img,
			  int (*fn)(void *opaque, uint32_t block,
				    uint32_t entry),
			  void *opaque)
{
	uint8_t *bat = malloc(BT_VHDTOOL_PIECE * 4);
	uint32_t first, i;
	int rc = bat ? 0 : -ENOMEM;

	for (first = 0; !rc && first < img->blocks.entries;
	     first += BT_VHDTOOL_PIECE) {
		uint32_t n = (uint32_t)bt_min_u64(BT_VHDTOOL_PIECE,
						  img->blocks.entries - first);

		rc = bt_image_file_read(
			&img->f, img->blocks.table_offset + (uint64_t)first * 4,
			bat, (size_t)n * 4);
		for (i = 0; !rc && i < n; i++)
			if (bt_vhd_bat_load(bat, i) != BT_VHD_BAT_UNUSED)
				rc = fn(opaque, first + i,
					bt_vhd_bat_load(bat, i));
	}
	free(bat);
	return rc;
}

/* Read anew each time, so a caller that changes it has the other fields as they
 * are. Its place and length are the file's word: see batmap_sec. */
bool bt_vhdtool_read_batmap(struct bt_vhdimg *img, struct bt_vhd_batmap *batmap)
{
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];

	return !img->fixed &&
	       bt_vhd_batmap_presence(&img->footer) != BT_VHD_BATMAP_NONE &&
	       !bt_image_file_read(&img->f,
				   bt_vhd_batmap_header_offset(&img->header),
				   bytes, sizeof(bytes)) &&
	       !bt_vhd_batmap_decode(bytes, sizeof(bytes), batmap, NULL);
}

/* Where the opening found one, it is there still, or cannot be read. */
int bt_vhdtool_reread_batmap(struct bt_vhdimg *img,
			     struct bt_vhd_batmap *batmap)
{
	return bt_vhdtool_read_batmap(img, batmap) ? 0 : -EIO;
}

/* The caller syncs, together with what else it writes. */
int bt_vhdtool_write_batmap_header(struct bt_vhdimg *img,
				   const struct bt_vhd_batmap *batmap)
{
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];

	bt_vhd_batmap_encode(batmap, bytes);
	return bt_image_file_write(&img->f,
				   bt_vhd_batmap_header_offset(&img->header),
				   bytes, sizeof(bytes));
}

/* Map before header, as in batmap.c; the caller syncs. */
int bt_vhdtool_write_batmap(struct bt_vhdimg *img)
{
	struct bt_vhd_batmap batmap;
	size_t len;
	int rc;

	if (!img->batmap)
		return 0;
	rc = bt_vhdtool_reread_batmap(img, &batmap);
	if (rc < 0)
		return rc;
	if (batmap.size_sec != img->batmap_sec)
		return -EIO; /* it is not the one that was read */
	len = (size_t)img->batmap_sec * BT_VHD_SECTOR;
	batmap.checksum = bt_vhd_checksum(img->batmap, len, len);
	rc = bt_image_file_write(&img->f, batmap.offset, img->batmap, len);
	return rc ? rc : bt_vhdtool_write_batmap_header(img, &batmap);
}

/* That of a fixed disk stays where it was found. */
uint64_t bt_vhdtool_footer_at(const struct bt_vhdimg *img)
{
	return img->f.is_device && !img->fixed ? img->limit : img->data_end;
}

/* The end is believed where both are footers of one disk, so it is written
 * first: then a cut leaves old, or new and old, of which the new one counts.
 * Once both are there it is what new blocks are followed by (a fixed VHD has
 * none). */
int bt_vhdtool_write_footers(struct bt_vhdimg *img)
{
	uint8_t bytes[BT_VHD_FOOTER_SIZE];
	int rc;

	bt_vhd_footer_encode(&img->footer, bytes);
	rc = bt_image_file_write(&img->f, bt_vhdtool_footer_at(img), bytes,
				 sizeof(bytes));
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc && !img->fixed)
		rc = bt_image_file_write(&img->f, 0, bytes, sizeof(bytes));
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc && img->footer_bytes)
		memcpy(img->footer_bytes, bytes, sizeof(bytes));
	return rc;
}

/* ---- information ---------------------------------------------------------- */

/* For bt_vhdtool_each_block. */
static int count(void *opaque, uint32_t block, uint32_t entry)
{
	++*(uint32_t *)opaque;
	return 0;
}

/* Counting what is allocated reads all of the BAT. */
static int fill_info(struct bt_vhdimg *img, struct blktap_vhd_info *info,
		     struct blktap_error **err)
{
	struct bt_vhd_batmap batmap;
	int rc;

	info->type = (enum blktap_vhd_type)img->footer.type;
	info->length = img->size;
	info->file_size = img->f.size;
	info->max_length = img->size;
	info->hidden = img->footer.hidden;
	if (img->fixed)
		return 0;
	info->block_size = img->blocks.block_size;
	info->max_length =
		(uint64_t)img->blocks.entries * img->blocks.block_size;
	info->parent_is_raw =
		img->differencing && bt_vhd_header_parent_is_raw(&img->header);
	if (bt_vhdtool_read_batmap(img, &batmap))
		info->marker = batmap.marker;
	rc = bt_vhdtool_each_block(img, count, &info->allocated);
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* Copies as much as the caller's struct has. */
int blktap_vhd_get_info(const char *path, struct blktap_vhd_info *info,
			struct blktap_error **err)
{
	struct blktap_vhd_info full = { .struct_size = info->struct_size };
	struct blktap_vhd t;
	int rc = bt_vhdtool_look(&t, path, err);

	if (rc < 0)
		return rc;
	rc = fill_info(t.img, &full, err);
	bt_vhdtool_close(&t);
	if (!rc)
		memcpy(info, &full,
		       full.struct_size < sizeof(full) ? full.struct_size
						       : sizeof(full));
	return rc;
}

/* ---- the parent ----------------------------------------------------------- */

/* The text itself, not looked for. */
static int stored_parent(struct bt_vhdimg *img, char **parent,
			 struct blktap_error **err)
{
	uint8_t order[BT_VHD_LOCATORS];
	unsigned int n = bt_vhd_locator_order(&img->header, order), i;

	for (i = 0; i < n && !*parent; i++)
		*parent = bt_vhdimg_read_locator(img, order[i]);
	if (*parent)
		return 0;
	return bt_fail(err, -EINVAL, "set the right parent: vhd-util modify -p",
		       "%s: no locator of its parent can be read", img->f.path);
}

/* The spec is type:path; *parent is the path, absolute. */
static int found_parent(struct blktap_vhd *t, char **parent,
			struct blktap_error **err)
{
	char *spec = NULL;
	int rc = bt_vhdimg_get_parent(t->node, &spec, err);

	if (rc < 0)
		return rc;
	*parent = bt_path_absolute(strchr(spec, ':') + 1);
	free(spec);
	return *parent ? 0 : bt_image_file_fail(t->img->f.path, -errno, err);
}

/* stored: the text of the first locator that can be read; else the file that
 * was found by them. */
int blktap_vhd_get_parent(const char *path, bool stored, char **parent,
			  struct blktap_error **err)
{
	struct blktap_vhd t;
	int rc = bt_vhdtool_look(&t, path, err);

	*parent = NULL;
	if (rc < 0)
		return rc;
	if (t.img->differencing)
		rc = stored ? stored_parent(t.img, parent, err)
			    : found_parent(&t, parent, err);
	bt_vhdtool_close(&t);
	return rc;
}

/* any_uuid: whatever file is there counts. */
int blktap_vhd_find_parent(struct blktap_vhd *vhd, bool any_uuid, char **parent,
			   struct blktap_error **err)
{
	int rc = 0;

	*parent = NULL;
	vhd->img->any_uuid = any_uuid;
	if (vhd->img->differencing)
		rc = found_parent(vhd, parent, err);
	return rc;
}

/* ---- marks ---------------------------------------------------------------- */

/* Both footers, as the byte is a part of them. */
static int set_hidden(struct bt_vhdimg *img, uint8_t value)
{
	img->footer.hidden = value;
	return bt_vhdtool_write_footers(img);
}

/* The marker stands in the batmap's header, which no checksum covers. */
static int set_marker(struct bt_vhdimg *img, uint8_t value)
{
	struct bt_vhd_batmap batmap;
	int rc;

	if (!bt_vhdtool_read_batmap(img, &batmap))
		return -ENOTSUP;
	batmap.marker = value;
	rc = bt_vhdtool_write_batmap_header(img, &batmap);
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* The image is opened for writing, which repairs it first where it was not
 * closed. */
int blktap_vhd_set_mark(const char *path, const char *mark, uint32_t value,
			struct blktap_error **err)
{
	bool hidden = !strcmp(mark, "hidden");
	struct blktap_vhd t;
	int rc;

	if (!hidden && strcmp(mark, "marker") != 0)
		return bt_fail(err, -EINVAL, "there are hidden and marker",
			       "%s: there is no mark '%s'", path, mark);
	if (value > UINT8_MAX)
		return bt_fail(err, -EINVAL, "give 0 to 255",
			       "%s: mark '%s' cannot be %" PRIu32, path, mark,
			       value);
	rc = bt_vhdtool_open(&t, path, 0, true, err);
	if (rc < 0)
		return rc;
	rc = hidden ? set_hidden(t.img, (uint8_t)value)
		    : set_marker(t.img, (uint8_t)value);
	bt_vhdtool_close(&t);
	if (rc == -ENOTSUP)
		return bt_fail(err, rc, "make it with vhd-util create",
			       "%s: has no batmap, where the marker stands",
			       path);
	return rc ? bt_image_file_fail(path, rc, err) : 0;
}

/* ---- checking ------------------------------------------------------------- */

/* What was found at opening: the choice says which ends had one. */
static int check_footers(const struct bt_vhdimg *img, uint32_t flags,
			 struct blktap_error **err)
{
	const struct bt_vhd_footer_choice *c = &img->choice;

	if (flags & BLKTAP_VHD_CHECK_NO_FOOTER)
		return 0;
	if (c->place == BT_VHD_FOOTER_COPY)
		return bt_fail(err, -EINVAL,
			       "open it for writing once, or vhd-util repair",
			       "%s: the footer at the end of the file is %s",
			       img->f.path,
			       c->killed ? "filled with 0xc7" : "missing");
	if (c->differ)
		return bt_fail(
			err, -EINVAL,
			"open it for writing once, or vhd-util repair",
			"%s: the footer and its copy at the start differ",
			img->f.path);
	return 0;
}

/* Opening has checked footer, header and locators; the rest is here, from the
 * cheap to the dear. */
int blktap_vhd_check(const char *path, uint32_t flags,
		     struct blktap_error **err)
{
	char *parent = NULL;
	uint64_t end;
	struct blktap_vhd t;
	int rc = bt_vhdtool_open(&t, path,
				 BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE,
				 false, err);

	if (rc < 0)
		return rc;
	rc = check_footers(t.img, flags, err);
	if (!rc && !t.img->fixed)
		rc = bt_vhdimg_check_bat(
			t.img, t.img->data_end,
			!(flags & BLKTAP_VHD_CHECK_NO_OVERLAPS), &end, err);
	if (!rc && !t.img->fixed && flags & BLKTAP_VHD_CHECK_BITMAPS)
		rc = bt_vhdtool_check_bitmaps(t.img, err);
	/* that it is there is not looked at, but that it has a name */
	if (!rc && t.img->differencing)
		rc = stored_parent(t.img, &parent, err);
	free(parent);
	bt_vhdtool_close(&t);
	return rc;
}
