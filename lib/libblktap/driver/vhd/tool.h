/* SPDX-License-Identifier: BSD-3-Clause */
/* An image that a tool has open: the driver's own opening, without a disk around
 * it, so that a tool believes what the driver believes. Only the files of
 * <blktap/vhd.h> include this.
 *
 * What tools write obeys the driver's order (vhd.h), and three rules more:
 *   - metadata that changes its place is written behind the data, and takes
 *     effect with one sector: the footer copy at offset 0, which names its header
 *   - a journal, where there is one, is whole and on disk before the first change
 *   - an end by the user commits what is done */
#ifndef BT_DRIVER_VHD_TOOL_H
#define BT_DRIVER_VHD_TOOL_H

#include <blktap/vhd.h>

#include "core/error.h"
#include "driver/vhd/vhd.h"

/* Entries of the BAT that are read at once. */
#define BT_VHDTOOL_PIECE 16384u

struct blktap_vhd {
	struct bt_env env;
	struct bt_node *node;
	struct bt_vhdimg *img;
};

/* flags: BLKTAP_OPEN_*. any_parent: its locators may be bad. */
int bt_vhdtool_open(struct blktap_vhd *vhd, const char *path, uint32_t flags,
		    bool any_parent, struct blktap_error **err);
/* In spite of locks: who only looks disturbs nobody, and may see an image that
 * changes. */
int bt_vhdtool_look(struct blktap_vhd *vhd, const char *path,
		    struct blktap_error **err);
/* The file alone, whatever is in it: vhd->img stays NULL. *f is the caller's to
 * close before the tool. */
int bt_vhdtool_open_file(struct blktap_vhd *vhd, const char *path,
			 struct bt_image_file *f, struct blktap_error **err);
/* The same without a lock. */
int bt_vhdtool_open_raw(struct blktap_vhd *vhd, const char *path,
			struct bt_image_file *f, struct blktap_error **err);
void bt_vhdtool_close(struct blktap_vhd *vhd);

/* -EBUSY, where the image was not opened for writing. */
int bt_vhdtool_check_writable(struct blktap_vhd *vhd,
			      struct blktap_error **err);
/* -EINVAL for a fixed disk, which has no blocks. */
int bt_vhdtool_check_blocks(struct blktap_vhd *vhd, struct blktap_error **err);

/* "path: cause"; returns rc. */
int bt_vhdtool_fail(struct blktap_vhd *vhd, int rc, struct blktap_error **err);

/* Where the footer belongs: behind the data, or at the end of a device. */
uint64_t bt_vhdtool_footer_at(const struct bt_vhdimg *img);
/* img->footer into both places, the end first and synced, as the end is what is
 * believed where both are of one disk. */
int bt_vhdtool_write_footers(struct bt_vhdimg *img);

/* The batmap's header, where the image has one. */
bool bt_vhdtool_read_batmap(struct bt_vhdimg *img,
			    struct bt_vhd_batmap *batmap);
/* The same for who knows that it has one, by img->batmap; -EIO. */
int bt_vhdtool_reread_batmap(struct bt_vhdimg *img,
			     struct bt_vhd_batmap *batmap);
int bt_vhdtool_write_batmap_header(struct bt_vhdimg *img,
				   const struct bt_vhd_batmap *batmap);
/* img->batmap, changed, to its place with its checksum; nothing where there is
 * none. */
int bt_vhdtool_write_batmap(struct bt_vhdimg *img);

/* -EINVAL where the batmap says more than the bitmaps do. */
int bt_vhdtool_check_bitmaps(struct bt_vhdimg *img, struct blktap_error **err);

/* Calls fn for each block that is allocated, in order, until it returns other
 * than 0. */
int bt_vhdtool_each_block(struct bt_vhdimg *img,
			  int (*fn)(void *opaque, uint32_t block,
				    uint32_t entry),
			  void *opaque);

/* ---- metadata that moves (move.c) ------------------------------------- */

struct bt_vhdmove {
	struct bt_vhd_footer footer; /* as it will be, but for data_offset */
	struct bt_vhd_header header; /* but for what moves */
	bool tables; /* BAT and batmap move as well, for header's entries */
	/* of the locators whose code is not 0; NULL: as they are */
	const void *text[BT_VHD_LOCATORS];
};

/* Writes them behind the data, and then the footer that leads there, so that a cut
 * leaves the old ones or the new. Blocks; nobody else uses the image. move->footer
 * gets its data_offset. */
int bt_vhdmove_run(struct bt_vhdimg *img, struct bt_vhdmove *move,
		   struct blktap_error **err);

/* ---- journals (journal.c) --------------------------------------------- */

struct bt_vhdjournal;

/* Opens path, or makes it; NULL in *out where path is. -EEXIST where it is the
 * journal of a resize that did not end. */
int bt_vhdjournal_create(struct bt_vhdimg *img, const char *path,
			 struct bt_vhdjournal **out, struct blktap_error **err);
/* Keeps length bytes (whole sectors) of the image. j may be NULL. */
int bt_vhdjournal_save(struct bt_vhdjournal *j, uint32_t type, uint64_t offset,
		       uint64_t length, struct blktap_error **err);
/* All of it is on disk. */
int bt_vhdjournal_sync(struct bt_vhdjournal *j, struct blktap_error **err);
/* The work is done: nothing is left to be undone. */
int bt_vhdjournal_end(struct bt_vhdjournal *j, struct blktap_error **err);
/* What is on disk stays there. */
void bt_vhdjournal_close(struct bt_vhdjournal *j);

/* ---- blocks that are written (writer.c) ------------------------------- */

struct bt_vhdwriter;

/* Reads all of the BAT, and keeps it. Blocks, as do the calls below. */
int bt_vhdwriter_create(struct bt_vhdimg *img, struct bt_vhdwriter **out,
			struct blktap_error **err);
/* What was not committed is lost; the image stays whole. NULL is fine. */
void bt_vhdwriter_destroy(struct bt_vhdwriter *w);
bool bt_vhdwriter_has(const struct bt_vhdwriter *w, uint32_t block);
/* The block is in the table after the next commit. */
int bt_vhdwriter_allocate(struct bt_vhdwriter *w, uint32_t block);
/* count sectors of data from sector sector on. */
int bt_vhdwriter_put(struct bt_vhdwriter *w, uint64_t sector, uint32_t count,
		     const void *data);
/* Commits where much has come together since the last one; *did says so. */
int bt_vhdwriter_pace(struct bt_vhdwriter *w, bool *did);
int bt_vhdwriter_commit(struct bt_vhdwriter *w);

#endif
