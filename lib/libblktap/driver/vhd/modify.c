/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of single things: the footer, the parent, the length of the file, all
 * data at once, blocks without data. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/vhd/tool.h"
#include "libvhd/locator.h"
#include "util/path.h"
#include "util/strbuf.h"

#define PARENT_LOCATORS 3u /* MACX, W2KU, W2RU */

/* ---- the footer ----------------------------------------------------------- */

/* Behind the last footer, or what is left of one; else behind everything. As
 * find_end of open.c has it. */
static uint64_t footer_place(const struct bt_image_file *f,
			     const struct bt_vhd_footer_choice *choice)
{
	if (choice->place != BT_VHD_FOOTER_COPY)
		return choice->offset;
	if (choice->killed || f->is_device)
		return bt_align_down(f->size, BT_VHD_SECTOR) -
		       BT_VHD_FOOTER_SIZE;
	return bt_align_down(f->size + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
}

/* What is there instead of a footer is no error here: that is why the caller
 * came. */
static int find_place(struct bt_image_file *f, uint64_t *at)
{
	uint8_t head[BT_VHD_PICK_HEAD], tail[BT_VHD_PICK_TAIL];
	size_t tail_len = (size_t)bt_min_u64(f->size, sizeof(tail));
	struct bt_vhd_footer_choice choice = { .place = BT_VHD_FOOTER_COPY };
	struct bt_vhd_footer footer;
	int rc = bt_image_file_read(f, 0, head, sizeof(head));

	if (!rc)
		rc = bt_image_file_read(f, f->size - tail_len, tail, tail_len);
	if (!rc)
		bt_vhd_footer_pick(head, sizeof(head), tail, tail_len, f->size,
				   &footer, &choice, NULL);
	*at = footer_place(f, &choice);
	return rc;
}

/* Whatever stands at the end, without a look at it. The copy at offset 0 has to
 * be whole and sound; it is written to the end, and nothing else is. */
static int restore_backup(const char *path, struct blktap_error **err)
{
	uint8_t bytes[BT_VHD_FOOTER_SIZE];
	struct bt_vhd_footer footer;
	struct bt_fault fault = { 0 };
	struct bt_image_file f;
	struct blktap_vhd vhd;
	uint64_t at = 0;
	int rc = bt_vhdtool_open_file(&vhd, path, &f, err);

	if (rc < 0)
		return rc;
	rc = bt_image_file_read(&f, 0, bytes, sizeof(bytes));
	if (!rc)
		rc = bt_vhd_footer_decode(bytes, sizeof(bytes), &footer,
					  &fault);
	if (!rc)
		rc = bt_vhd_footer_check(&footer, &fault);
	if (fault.field) {
		bt_vhdimg_fault(path, rc, &fault, err);
		bt_error_prefix(err, "the copy of the footer");
	}
	if (!rc)
		rc = find_place(&f, &at);
	if (!rc)
		bt_vhd_footer_encode(&footer, bytes);
	if (!rc)
		rc = bt_image_file_write(&f, at, bytes, sizeof(bytes));
	if (!rc)
		rc = bt_image_file_sync(&f);
	bt_image_file_close(&f);
	bt_vhdtool_close(&vhd);
	return rc && !fault.field ? bt_image_file_fail(path, rc, err) : rc;
}

/* Opening for writing repairs what it can; the footers are written anew in any
 * case. */
int blktap_vhd_repair(const char *path, uint32_t flags,
		      struct blktap_error **err)
{
	struct blktap_vhd vhd;
	int rc;

	if (flags & BLKTAP_VHD_REPAIR_BACKUP)
		return restore_backup(path, err);
	rc = bt_vhdtool_open(&vhd, path, 0, true, err);
	if (rc < 0)
		return rc;
	rc = bt_vhdtool_fail(&vhd, bt_vhdtool_write_footers(vhd.img), err);
	bt_vhdtool_close(&vhd);
	return rc;
}

/* ---- the parent ----------------------------------------------------------- */

#define LEVELS_MAX 65536u /* of a chain that is looked at for a loop */

/* The move copies header and footer into place at the end, so a naming that
 * fails has changed nothing of the image. */
struct naming {
	struct bt_vhdmove move;
	uint8_t text[PARENT_LOCATORS][BT_VHD_LOCATOR_LEN_MAX];
	uint32_t count;
};

/* A name that is not UTF-8 has no place in a Windows locator. */
static int add_locator(struct naming *n, uint32_t code, const char *path,
		       struct bt_fault *fault)
{
	struct bt_vhd_locator *loc = &n->move.header.locator[n->count];
	size_t len;
	int rc = bt_vhd_locator_encode(code, path, n->text[n->count],
				       sizeof(n->text[0]), &len, fault);

	if (rc == -EILSEQ)
		return 0; /* the MACX one holds any name */
	if (rc < 0)
		return rc;
	loc->code = code;
	loc->data_len = (uint32_t)len;
	n->move.text[n->count] = n->text[n->count];
	n->count++;
	return 0;
}

/* Three, as the older vhd-util writes them and in its order. Readers try
 * relative ones first. */
static int add_locators(struct naming *n, const char *relative,
			const char *absolute, struct bt_fault *fault)
{
	int rc;

	memset(n->move.header.locator, 0, sizeof(n->move.header.locator));
	rc = add_locator(n, BT_VHD_LOC_MACX, relative, fault);
	if (!rc)
		rc = add_locator(n, BT_VHD_LOC_W2KU, absolute, fault);
	if (!rc)
		rc = add_locator(n, BT_VHD_LOC_W2RU, relative, fault);
	return rc;
}

/* By its uuid the right parent is known again; a raw one has none, which is
 * stored as zeroes. */
static int set_identity(struct naming *n, const char *path, bool raw,
			struct bt_fault *fault)
{
	const char *name = strrchr(path, '/') + 1;
	struct bt_vhd_footer footer = { .version = 0 };
	struct stat st;
	uint32_t time;
	int rc = stat(path, &st) < 0 ? -errno : 0;

	if (!rc && !raw)
		rc = bt_vhdimg_read_footer(path, &footer, fault);
	if (rc < 0)
		return rc;
	time = bt_vhd_time_from_unix(st.st_mtime);
	rc = bt_vhd_header_set_parent(&n->move.header, footer.uuid, time, name,
				      NULL);
	/* the name is for people; the locators say where the parent is */
	return rc == -EILSEQ
		       ? bt_vhd_header_set_parent(&n->move.header, footer.uuid,
						  time, "", NULL)
		       : rc;
}

/* By the file and not by its name. */
static bool is_itself(const struct blktap_vhd *vhd, const char *path)
{
	struct stat a, b;

	return stat(path, &a) == 0 && fstat(vhd->img->f.file.fd, &b) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* A chain that goes on for ever could not be opened. What else is wrong further
 * down may be mended later. */
static int check_end(const struct blktap_vhd *vhd, const char *parent, bool raw,
		     struct blktap_error **err)
{
	char *at = strdup(parent), *next = NULL;
	unsigned int depth;
	bool loop = false;

	for (depth = 0; at && !loop && depth < LEVELS_MAX; depth++) {
		struct blktap_vhd_info info = { .struct_size = sizeof(info) };

		loop = is_itself(vhd, at);
		next = NULL;
		if (!loop && !raw && !blktap_vhd_get_info(at, &info, NULL))
			blktap_vhd_get_parent(at, false, &next, NULL);
		raw = info.parent_is_raw;
		free(at);
		at = next;
	}
	free(at);
	return loop ? bt_fail(err, -ELOOP,
			      "name an image that does not stand on it",
			      depth == 1 ? "%s: is the image itself"
					 : "%s: stands on the image itself",
			      parent)
		    : 0;
}

/* Both names are absolute, so the one can be written relative to the other,
 * whatever links led here. */
static int name_parent(struct blktap_vhd *vhd, const char *parent, bool raw,
		       struct naming *n, struct blktap_error **err)
{
	char *child = bt_path_absolute(vhd->img->f.path);
	char *absolute = child ? bt_path_absolute(parent) : NULL;
	char *relative = NULL;
	struct bt_fault fault = { 0 };
	int rc = absolute ? 0 : -errno;

	if (!rc)
		rc = check_end(vhd, absolute, raw, err);
	if (!rc)
		rc = bt_path_relative(child, absolute, &relative);
	if (!rc)
		rc = set_identity(n, absolute, raw, &fault);
	if (!rc)
		rc = add_locators(n, relative, absolute, &fault);
	free(absolute);
	free(child);
	free(relative);
	if (rc < 0 && fault.field)
		return bt_vhdimg_fault(parent, rc, &fault, err);
	return rc ? bt_image_file_fail(parent, rc, err) : 0;
}

/* The new parent's data is not looked at: that it fits is the caller's word. */
int blktap_vhd_set_parent(struct blktap_vhd *vhd, const char *parent, bool raw,
			  struct blktap_error **err)
{
	struct naming *n;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (!rc && !vhd->img->differencing)
		rc = bt_fail(err, -EINVAL, "make a child of it: snapshot",
			     "%s: stands alone, it has no parent to change",
			     vhd->img->f.path);
	if (rc < 0)
		return rc;
	n = calloc(1, sizeof(*n));
	if (!n)
		return bt_vhdtool_fail(vhd, -ENOMEM, err);
	n->move.footer = vhd->img->footer;
	n->move.header = vhd->img->header;
	rc = name_parent(vhd, parent, raw, n, err);
	if (!rc)
		rc = bt_vhdmove_run(vhd->img, &n->move, err);
	free(n);
	return rc;
}

/* ---- the file's length, all data, blocks ---------------------------------- */

/* Moves the footer, to where no block and no table is. On a device it is the
 * limit for blocks that moves. */
int blktap_vhd_set_file_size(struct blktap_vhd *vhd, uint64_t size,
			     struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	uint64_t least, end = 0, footer = size - BT_VHD_FOOTER_SIZE;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (!rc && img->fixed)
		end = img->size;
	else if (!rc)
		rc = bt_vhdimg_check_bat(img, img->data_end, true, &end, err);
	if (rc < 0)
		return rc;
	least = bt_max_u64(end, img->fixed ? 0 : img->blocks.metadata_end) +
		BT_VHD_FOOTER_SIZE;
	if (size % BT_VHD_SECTOR || size < least ||
	    (img->f.is_device && size > img->f.size))
		return bt_fail(err, size % BT_VHD_SECTOR ? -EINVAL : -ENOSPC,
			       "whole sectors, from what it needs on",
			       "%s: cannot have %" PRIu64
			       " bytes: it needs %" PRIu64,
			       img->f.path, size, least);
	if (img->f.is_device && !img->fixed)
		img->limit = footer;
	else
		img->data_end = footer;
	rc = bt_vhdtool_write_footers(img);
	if (!rc && !img->f.is_device &&
	    ftruncate(img->f.file.fd, (off_t)size) < 0)
		rc = -errno;
	return bt_vhdtool_fail(vhd, rc, err);
}

/* Not atomic: a cut leaves some blocks gone and some not. */
static int clear_table(struct bt_vhdimg *img)
{
	size_t table = (size_t)img->blocks.entries * 4;
	uint8_t *bat = malloc(table + 1);
	int rc = bat ? 0 : -ENOMEM;

	if (!rc)
		memset(bat, 0xff, table);
	if (!rc)
		rc = bt_image_file_write(&img->f, img->blocks.table_offset, bat,
					 table);
	free(bat);
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* Batmap, then BAT, then the file's length: each is true of the image at every
 * moment. */
int blktap_vhd_drop_data(struct blktap_vhd *vhd, struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (!rc)
		rc = bt_vhdtool_check_blocks(vhd, err);
	if (rc < 0)
		return rc;
	/* a batmap may say too little, never too much */
	if (img->batmap)
		memset(img->batmap, 0, (img->blocks.entries + 7) / 8);
	rc = bt_vhdtool_write_batmap(img);
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc)
		rc = clear_table(img);
	if (rc < 0)
		return bt_vhdtool_fail(vhd, rc, err);
	img->data_end = img->blocks.metadata_end;
	rc = bt_vhdtool_write_footers(img);
	if (!rc && !img->f.is_device &&
	    ftruncate(img->f.file.fd,
		      (off_t)(img->data_end + BT_VHD_FOOTER_SIZE)) < 0)
		rc = -errno;
	return bt_vhdtool_fail(vhd, rc, err);
}

/* The blocks' bits stay clear, so they read as before. An end by the user
 * commits what there is. */
static int allocate(struct blktap_vhd *vhd, struct bt_vhdwriter *w,
		    uint32_t first, uint32_t last, blktap_vhd_progress_fn *fn,
		    void *opaque, struct blktap_error **err)
{
	uint32_t block;
	bool ended = false;
	int rc = 0;

	for (block = first; block <= last && !rc && !ended; block++) {
		ended = fn && fn(opaque, block - first, last - first + 1);
		if (!ended)
			rc = bt_vhdwriter_allocate(w, block);
	}
	if (!rc)
		rc = bt_vhdwriter_commit(w);
	if (rc == -EFBIG)
		return bt_fail(err, rc, NULL,
			       "%s: a VHD file holds at most 2 TiB",
			       vhd->img->f.path);
	if (!rc && ended)
		return bt_fail(err, -ECANCELED, "start it again to go on",
			       "%s: ended after block %" PRIu32,
			       vhd->img->f.path, block - 1);
	if (!rc && fn)
		fn(opaque, last - first + 1, last - first + 1);
	return bt_vhdtool_fail(vhd, rc, err);
}

/* first to last, both included. */
int blktap_vhd_allocate(struct blktap_vhd *vhd, uint32_t first, uint32_t last,
			blktap_vhd_progress_fn *fn, void *opaque,
			struct blktap_error **err)
{
	struct bt_vhdwriter *w;
	int rc = bt_vhdtool_check_writable(vhd, err);

	if (!rc)
		rc = bt_vhdtool_check_blocks(vhd, err);
	if (!rc &&
	    (first > last || last >= bt_vhd_blocks_needed(&vhd->img->blocks)))
		rc = bt_fail(err, -ERANGE, NULL,
			     "%s: has no blocks %" PRIu32 " to %" PRIu32,
			     vhd->img->f.path, first, last);
	if (!rc)
		rc = bt_vhdwriter_create(vhd->img, &w, err);
	if (rc < 0)
		return rc;
	rc = allocate(vhd, w, first, last, fn, opaque, err);
	bt_vhdwriter_destroy(w);
	return rc;
}
