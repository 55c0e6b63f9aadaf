/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the VHD driver; only its own files include it.
 *
 * Invariants of an image that is open for writing:
 *   - offset 0 holds a valid footer copy; it is written at opening, if at all
 *   - a block's bitmap is zero on disk before the BAT names the block, and a bit
 *     is set only after its sector's data: data and zero bitmap, sync, bits and
 *     BAT, sync
 *   - blocks are appended in batches; before a batch is used, its bitmaps and
 *     the footer behind it are written. No two writes at the end of the file are
 *     ever under way for the same place. */
#ifndef BT_DRIVER_VHD_H
#define BT_DRIVER_VHD_H

#include "driver/file.h"
#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "meta/meta.h"

#define BT_VHDIMG_PAGE 4096u
#define BT_VHDIMG_PAGE_ENTRIES (BT_VHDIMG_PAGE / 4)

/* Kinds of the cache, and their rank: rank 0 writes nothing, so that the sync
 * which ends it makes the data durable first, and with it the zero bitmaps of new
 * blocks. So the BAT may go along with the bits: a block whose bits are not on
 * disk yet reads as before. */
enum bt_vhdimg_kind { BT_VHDIMG_BITMAP, BT_VHDIMG_BAT, BT_VHDIMG_KINDS };
#define BT_VHDIMG_RANK 1

/* The longest write of an encrypted image. */
#define BT_VHDIMG_BOUNCE 131072u

struct bt_vhdimg {
	struct bt_image_file f; /* first, see driver/file.h */
	struct bt_node *node;
	struct bt_vhd_footer footer; /* as it is on disk, or is about to be */
	/* at opening: which one was believed */
	struct bt_vhd_footer_choice choice;
	struct bt_vhd_header header;
	struct bt_vhd_blocks blocks;
	struct bt_meta *meta; /* NULL of a fixed disk, and until it is open */
	uint64_t size; /* the guest's */
	uint64_t cache; /* bytes for metadata */
	bool read_only;
	bool fixed;
	bool differencing;
	bool old_bits; /* bitmaps have their lowest bit first */
	bool any_parent; /* its locators may be bad */
	bool any_uuid; /* its parent may be another disk than it was */
	bool as_stored; /* nobody asks for its data; no key is needed */
	struct bt_vhdcipher *cipher; /* NULL: it is not encrypted */
	int flush_error; /* the first one; a fixed disk's stays */

	/* A bit a block: every sector is known to be here. */
	uint8_t *full;
	/* What the file's batmap says; NULL where it has none. It is written at
	 * closing (batmap.c), so the bitmaps of its blocks stay full. */
	uint8_t *batmap;
	/* Sectors of batmap, as its header had them when that was checked. What
	 * the header says when it is read again counts for nothing but this. */
	uint32_t batmap_sec;
	bool batmap_lost; /* its checksum is wrong: it is to be written anew */
	/* Of the batmap's header, whatever else is wrong with that; zeroes: none.
	 * Read once, so that no later error of a read takes it away. */
	struct bt_vhd_keyhash keyhash;

	/* the end of the file (grow.c) */
	uint64_t data_end; /* all blocks lie before it, the footer is there */
	uint64_t limit; /* blocks end here at the latest */
	void *footer_bytes; /* encoded, as both copies have it */
	bool end_busy; /* somebody writes there */
	bool footer_lost; /* the trailing footer is not in its place */
	int footer_error; /* why */
	bool cut_short; /* there was no space; the file is longer than it says */
	uint64_t old_end; /* data_end before the batch */
	/* writes, then table entries, of the batch under way */
	uint32_t grow_pending;
	struct bt_list grow; /* frames of the batch */
	struct bt_list to_grow; /* came meanwhile */
	struct bt_vhdimg_frame
		*restoring; /* the flush that writes the footer */
	struct bt_io footer_io; /* one write at a time: end_busy */
	struct iovec footer_iov;
};

/* A request on its way through the runs of an image: pieces that are in one
 * block, and all present or all absent. They are taken one after another, so
 * nothing but the frame is needed. wait and commit share their place: a request
 * waits for one block of the cache or for a commit, never for both. */
struct bt_vhdimg_frame {
	struct bt_io io;
	union {
		struct bt_meta_wait wait;
		struct bt_meta_commit commit;
	};
	struct iovec iov; /* of a bitmap's zeroes */
	struct bt_list link; /* grow, to_grow */
	struct bt_request *req;
	struct bt_vhdimg *img;
	/* the request as it came */
	uint64_t offset;
	uint64_t end;
	struct bt_sgl whole;
	/* the run */
	uint64_t at;
	uint64_t run; /* bytes */
	struct bt_sgl data; /* from at on */
	uint32_t entry; /* of its block */
	uint32_t extents; /* extent_count before the parent was asked */
	int error; /* of the growth */
};

/* ---- opening (open.c, check.c, parent.c) ---------------------- */

/* These are the class's. A close is right after an open that failed anywhere, too. */
int bt_vhdimg_open(struct bt_node *node, const struct bt_args *args,
		   uint32_t flags, struct blktap_error **err);
void bt_vhdimg_close(struct bt_node *node);
int bt_vhdimg_get_parent(struct bt_node *node, char **spec,
			 struct blktap_error **err);
/* "path: field is value: reason" and the hint; returns rc. */
int bt_vhdimg_fault(const char *path, int rc, const struct bt_fault *fault,
		    struct blktap_error **err);
/* Looks at every entry of the BAT: all in the file, clear of the metadata and,
 * where overlaps is set, of each other. *end is the end of the last block. */
int bt_vhdimg_check_bat(struct bt_vhdimg *img, uint64_t data_end, bool overlaps,
			uint64_t *end, struct blktap_error **err);

/* ---- the batmap (batmap.c) -------------------------------------------- */

/* Reads the batmap; a broken one is left aside with a warning, or begun anew
 * where the image is open for writing. An encrypted image is not opened for writing
 * with one that has no place it could be begun anew in. */
int bt_vhdimg_load_batmap(struct bt_vhdimg *img, struct bt_vhd_batmap *batmap,
			  bool *have, struct blktap_error **err);
/* A bit of it is set for a block that is not there: none is believed, here or on
 * disk. */
int bt_vhdimg_drop_batmap(struct bt_vhdimg *img, struct blktap_error **err);
/* At closing: the blocks that have become full. */
void bt_vhdimg_save_batmap(struct bt_vhdimg *img);

/* The text of a locator, a new string; NULL where it cannot be read. */
char *bt_vhdimg_read_locator(struct bt_vhdimg *img, unsigned int index);
/* The footer of a VHD that is not opened. */
int bt_vhdimg_read_footer(const char *path, struct bt_vhd_footer *footer,
			  struct bt_fault *fault);
/* The parent is looked at and not opened; where it is not found, an error. */
int bt_vhdimg_parent_size(struct bt_node *node, uint64_t *size);
int bt_vhdimg_set_parent(struct bt_node *node, const char *name,
			 const char *format, struct blktap_error **err);
int bt_vhdimg_grow_disk(struct bt_node *node, uint64_t size,
			struct blktap_error **err);
int bt_vhdimg_create(const struct bt_create *create, struct blktap_error **err);

/* ---- requests (walk.c, write.c, grow.c) ----------------------- */

/* Not of a fixed disk; not FLUSH. */
void bt_vhdimg_start(struct bt_vhdimg *img, struct bt_request *req);
/* The lower edge's answer. */
void bt_vhdimg_returned(struct bt_request *req);
/* Takes the next runs, until one has to wait or the request is complete. */
void bt_vhdimg_go_on(struct bt_vhdimg_frame *f);
/* The run is done. */
void bt_vhdimg_advance(struct bt_vhdimg_frame *f);
void bt_vhdimg_finish(struct bt_vhdimg_frame *f, int error);
/* The same, when the tables are in the file. */
void bt_vhdimg_finish_kept(struct bt_vhdimg_frame *f);

/* These return true where the next run may be taken at once. */
bool bt_vhdimg_write_run(struct bt_vhdimg_frame *f);
bool bt_vhdimg_unmap_run(struct bt_vhdimg_frame *f);
bool bt_vhdimg_grow(struct bt_vhdimg_frame *f);

/* Of an errno: nothing was written, and the file is as it was. */
bool bt_vhdimg_is_no_space(int error);
/* Puts a lost footer back in its place, and calls done(f->io) then or at once. */
void bt_vhdimg_restore_footer(struct bt_vhdimg_frame *f,
			      void (*done)(struct bt_io *io, int error));
/* The same at closing, in a call that blocks. */
void bt_vhdimg_close_end(struct bt_vhdimg *img);

/* A page of the BAT, and the bitmap of the block at f->entry. Referenced; or NULL, and
 * fn is called later, by f->wait: f goes on from there. */
struct bt_meta_block *bt_vhdimg_get_page(struct bt_vhdimg_frame *f,
					 uint32_t block,
					 void (*fn)(struct bt_meta_wait *wait,
						    struct bt_meta_block *page,
						    int error));
struct bt_meta_block *bt_vhdimg_get_bitmap(
	struct bt_vhdimg_frame *f,
	void (*fn)(struct bt_meta_wait *wait, struct bt_meta_block *bitmap,
		   int error));
/* f->run bytes from f->data on; offset is the file's. */
void bt_vhdimg_submit_io(struct bt_vhdimg_frame *f, enum bt_io_op op,
			 uint64_t offset,
			 void (*done)(struct bt_io *io, int error));

/* A write's data is in the file. */
void bt_vhdimg_written(struct bt_io *io, int error);

/* ---- encryption (crypt.c) --------------------------------------------- */

/* -ENOKEY for an encrypted image without its key, -EKEYREJECTED with another. */
int bt_vhdimg_open_cipher(struct bt_vhdimg *img, const struct bt_args *args,
			  uint32_t flags, struct blktap_error **err);
void bt_vhdimg_close_cipher(struct bt_vhdimg *img);
/* What the run has read, in place. */
int bt_vhdimg_decrypt(struct bt_vhdimg_frame *f);
/* Writes the run, then bt_vhdimg_written. */
void bt_vhdimg_write_encrypted(struct bt_vhdimg_frame *f);

/* ---- bits, in the order of the image -------------------------------------- */

/* How many bits from first on, up to end, are like the first, which goes to *value.
 * first < end. */
uint32_t bt_vhdimg_bits_run(const struct bt_vhdimg *img, const void *bitmap,
			    uint32_t first, uint32_t end, bool *value);
/* Sets or clears count bits; true where that changed one. */
bool bt_vhdimg_bits_put(const struct bt_vhdimg *img, void *bitmap,
			uint32_t first, uint32_t count, bool value);

static inline uint32_t bt_vhdimg_block(const struct bt_vhdimg_frame *f)
{
	return bt_vhd_block_of(&f->img->blocks, f->at);
}

static inline uint32_t bt_vhdimg_in_block(const struct bt_vhdimg_frame *f)
{
	return bt_vhd_offset_in_block(&f->img->blocks, f->at);
}

#endif
