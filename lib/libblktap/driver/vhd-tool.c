/* SPDX-License-Identifier: BSD-3-Clause */
/* <blktap/vhd.h>: an image is opened by the driver itself, without a disk around
 * it, so that a tool believes what the driver believes. */
#include <blktap/vhd.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "driver/driver.h"
#include "driver/vhd.h"
#include "libvhd/locator.h"
#include "port/args.h"

#define PIECE_ENTRIES 16384u

struct tool {
	struct bt_env env;
	struct bt_node *node;
	struct bt_vhdimg *img;
};

static void tool_close(struct tool *t)
{
	bt_node_destroy(t->node);
	bt_engine_destroy(t->env.engine);
	bt_loop_destroy(t->env.loop);
}

static int make_node(struct tool *t, const char *path,
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
	return bt_node_create(&t->env, &bt_vhd_class, path, args, &t->node,
			      err);
}

static int tool_open(struct tool *t, const char *path, uint32_t flags,
		     struct blktap_error **err)
{
	int rc;

	memset(t, 0, sizeof(*t));
	rc = bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &t->env.loop);
	if (!rc)
		rc = bt_engine_create(t->env.loop, NULL, BLKTAP_ENGINE_SYNC, 0,
				      &t->env.engine, err);
	if (!rc)
		rc = make_node(t, path, err);
	if (!rc)
		rc = bt_node_open(t->node, flags, err);
	if (rc < 0) {
		tool_close(t);
		return bt_fail(err, rc, NULL, "%s: cannot be opened", path);
	}
	t->img = t->node->data;
	return 0;
}

/* In spite of locks: who only looks disturbs nobody, and may see an image that
 * changes. */
static int tool_look(struct tool *t, const char *path,
		     struct blktap_error **err)
{
	return tool_open(t, path, BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE,
			 err);
}

/* ---- information ---------------------------------------------------------- */

static int count_blocks(struct bt_vhdimg *img, uint32_t *allocated,
			struct blktap_error **err)
{
	uint8_t *bat = malloc(PIECE_ENTRIES * 4);
	uint32_t first, i;
	int rc = bat ? 0 : -ENOMEM;

	*allocated = 0;
	for (first = 0; !rc && first < img->blocks.entries;
	     first += PIECE_ENTRIES) {
		uint32_t n = (uint32_t)bt_min_u64(PIECE_ENTRIES,
						  img->blocks.entries - first);

		rc = bt_image_file_read(
			&img->f, img->blocks.table_offset + (uint64_t)first * 4,
			bat, (size_t)n * 4);
		for (i = 0; !rc && i < n; i++)
			*allocated +=
				bt_vhd_bat_load(bat, i) != BT_VHD_BAT_UNUSED;
	}
	free(bat);
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* The batmap's header, where the image has one. */
static bool read_batmap(struct bt_vhdimg *img, struct bt_vhd_batmap *batmap)
{
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];

	return bt_vhd_batmap_presence(&img->footer) != BT_VHD_BATMAP_NONE &&
	       !bt_image_file_read(&img->f,
				   bt_vhd_batmap_header_offset(&img->header),
				   bytes, sizeof(bytes)) &&
	       !bt_vhd_batmap_decode(bytes, sizeof(bytes), batmap, NULL);
}

static int fill_info(struct bt_vhdimg *img, struct blktap_vhd_info *info,
		     struct blktap_error **err)
{
	struct bt_vhd_batmap batmap;

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
	if (read_batmap(img, &batmap))
		info->marker = batmap.marker;
	info->parent_is_raw =
		img->differencing && bt_vhd_header_parent_is_raw(&img->header);
	return count_blocks(img, &info->allocated, err);
}

int blktap_vhd_get_info(const char *path, struct blktap_vhd_info *info,
			struct blktap_error **err)
{
	struct blktap_vhd_info full = { .struct_size = info->struct_size };
	struct tool t;
	int rc = tool_look(&t, path, err);

	if (rc < 0)
		return rc;
	rc = fill_info(t.img, &full, err);
	tool_close(&t);
	if (!rc)
		memcpy(info, &full,
		       full.struct_size < sizeof(full) ? full.struct_size
						       : sizeof(full));
	return rc;
}

/* ---- the parent ----------------------------------------------------------- */

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

static int found_parent(struct tool *t, char **parent,
			struct blktap_error **err)
{
	char *spec = NULL;
	int rc = bt_vhdimg_get_parent(t->node, &spec, err);

	if (rc < 0)
		return rc;
	*parent = realpath(strchr(spec, ':') + 1, NULL);
	free(spec);
	return *parent ? 0 : bt_image_file_fail(t->img->f.path, -errno, err);
}

int blktap_vhd_get_parent(const char *path, bool stored, char **parent,
			  struct blktap_error **err)
{
	struct tool t;
	int rc = tool_look(&t, path, err);

	*parent = NULL;
	if (rc < 0)
		return rc;
	if (t.img->differencing)
		rc = stored ? stored_parent(t.img, parent, err)
			    : found_parent(&t, parent, err);
	tool_close(&t);
	return rc;
}

/* ---- marks ---------------------------------------------------------------- */

/* The end first: where both are whole, the one at the end is believed. */
static int set_hidden(struct bt_vhdimg *img, uint8_t value)
{
	uint8_t bytes[BT_VHD_FOOTER_SIZE];
	uint64_t end =
		img->f.is_device && !img->fixed ? img->limit : img->data_end;
	int rc;

	img->footer.hidden = value;
	bt_vhd_footer_encode(&img->footer, bytes);
	rc = bt_image_file_write(&img->f, end, bytes, sizeof(bytes));
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc && !img->fixed)
		rc = bt_image_file_write(&img->f, 0, bytes, sizeof(bytes));
	return rc ? rc : bt_image_file_sync(&img->f);
}

static int set_marker(struct bt_vhdimg *img, uint8_t value)
{
	uint8_t bytes[BT_VHD_BATMAP_HEADER_SIZE];
	struct bt_vhd_batmap batmap;
	int rc;

	if (img->fixed || !read_batmap(img, &batmap))
		return -ENOTSUP;
	batmap.marker = value;
	bt_vhd_batmap_encode(&batmap, bytes);
	rc = bt_image_file_write(&img->f,
				 bt_vhd_batmap_header_offset(&img->header),
				 bytes, sizeof(bytes));
	return rc ? rc : bt_image_file_sync(&img->f);
}

int blktap_vhd_set_mark(const char *path, const char *mark, uint32_t value,
			struct blktap_error **err)
{
	bool hidden = !strcmp(mark, "hidden");
	struct tool t;
	int rc;

	if (value > UINT8_MAX || (!hidden && strcmp(mark, "marker") != 0))
		return bt_fail(err, -EINVAL,
			       "the marks are hidden and marker, 0 to 255",
			       "%s: mark '%s' is %" PRIu32, path, mark, value);
	rc = tool_open(&t, path, 0, err);
	if (rc < 0)
		return rc;
	rc = hidden ? set_hidden(t.img, (uint8_t)value)
		    : set_marker(t.img, (uint8_t)value);
	tool_close(&t);
	return rc ? bt_image_file_fail(path, rc, err) : 0;
}

/* ---- checking ------------------------------------------------------------- */

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

int blktap_vhd_check(const char *path, uint32_t flags,
		     struct blktap_error **err)
{
	uint64_t end;
	struct tool t;
	int rc = tool_look(&t, path, err);

	if (rc < 0)
		return rc;
	rc = check_footers(t.img, flags, err);
	if (!rc && !t.img->fixed)
		rc = bt_vhdimg_check_bat(
			t.img, t.img->data_end,
			!(flags & BLKTAP_VHD_CHECK_NO_OVERLAPS), &end, err);
	tool_close(&t);
	return rc;
}
