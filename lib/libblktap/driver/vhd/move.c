/* SPDX-License-Identifier: BSD-3-Clause */
/* Metadata that cannot be changed in its place, because it grows, or because no
 * write of several sectors is atomic: it is written anew behind the data,
 *
 *   header | BAT, batmap header, batmap (where they move) | locators | footer, old
 *
 * and synced; then the footer copy at offset 0 is written, which names the new
 * header. A footer at the end that names another header does not count, so that one
 * sector switches from old to new. What was there before stays as it is, unused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/vhd/tool.h"

struct plan {
	struct bt_vhdimg *img;
	struct bt_vhdmove *move;
	uint64_t at; /* where it goes */
	uint64_t end;
	uint64_t batmap_at; /* of the header; 0: none */
	bool switched; /* the copy at 0 may name the new header */
	struct bt_vhd_batmap batmap;
	uint8_t *bytes; /* from at to end, as they will be in the file */
};

static uint64_t round_sector(uint64_t v)
{
	return bt_align_down(v + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
}

/* A locator that cannot be read is left out: it leads nowhere, and its text
 * would be copied for nothing. */
static bool has_locator(const struct plan *p, unsigned int i)
{
	const struct bt_vhdmove *move = p->move;

	return move->footer.type == BT_VHD_DIFFERENCING &&
	       move->header.locator[i].code &&
	       (move->text[i] ||
		!bt_vhd_locator_check(&move->header, i, p->img->f.size, NULL));
}

/* In the order of a new image (libvhd/layout.c): the BAT, padded to a sector;
 * the batmap's header right behind it, as it is found by that; the map. */
static int place_tables(struct plan *p)
{
	struct bt_vhd_header *h = &p->move->header;
	uint64_t at = p->at + BT_VHD_HEADER_SIZE;
	int rc;

	h->table_offset = at;
	at = round_sector(at + (uint64_t)h->max_table_entries * 4);
	if (p->img->batmap) {
		rc = bt_vhdtool_reread_batmap(p->img, &p->batmap);
		if (rc < 0)
			return rc;
		p->batmap_at = at;
		p->batmap.offset = at + BT_VHD_BATMAP_HEADER_SIZE;
		p->batmap.size_sec =
			bt_vhd_batmap_sectors(h->max_table_entries);
		at = p->batmap.offset +
		     (uint64_t)p->batmap.size_sec * BT_VHD_SECTOR;
	}
	p->end = at;
	return 0;
}

/* Each has whole sectors. Slots without one are zeroed. */
static void place_locators(struct plan *p)
{
	struct bt_vhd_header *h = &p->move->header;
	unsigned int i;

	for (i = 0; i < BT_VHD_LOCATORS; i++) {
		if (!has_locator(p, i)) {
			memset(&h->locator[i], 0, sizeof(h->locator[i]));
			continue;
		}
		p->end += round_sector(h->locator[i].data_len);
	}
}

/* ---- bytes ---------------------------------------------------------------- */

/* Entries that are new say "unused", all ones, the padding as well: others read
 * the table in sectors. */
static int fill_tables(struct plan *p)
{
	struct bt_vhdimg *img = p->img;
	const struct bt_vhd_header *h = &p->move->header;
	uint8_t *bat = p->bytes + (h->table_offset - p->at);
	uint64_t table = round_sector((uint64_t)h->max_table_entries * 4);
	uint32_t old = img->header.max_table_entries;
	size_t map = (size_t)p->batmap.size_sec * BT_VHD_SECTOR;
	uint8_t *bits;

	memset(bat, 0xff, table);
	if (p->batmap_at) {
		bits = p->bytes + (p->batmap.offset - p->at);
		memcpy(bits, img->batmap, (old + 7) / 8);
		if (old % 8) /* padding of the old one is no block of ours */
			bt_vhd_bits_clear(bits, old, 8 - old % 8);
		p->batmap.checksum = bt_vhd_checksum(bits, map, map);
		bt_vhd_batmap_encode(&p->batmap,
				     p->bytes + (p->batmap_at - p->at));
	}
	return bt_image_file_read(&img->f, img->blocks.table_offset, bat,
				  (size_t)old * 4);
}

/* A text that is kept is copied from its old place, with the length that was
 * checked. */
static int fill_locators(struct plan *p, uint64_t at)
{
	struct bt_vhd_header *h = &p->move->header;
	unsigned int i;
	int rc = 0;

	for (i = 0; i < BT_VHD_LOCATORS && !rc; i++) {
		struct bt_vhd_locator *loc = &h->locator[i];

		if (!loc->code)
			continue;
		if (p->move->text[i])
			memcpy(p->bytes + (at - p->at), p->move->text[i],
			       loc->data_len);
		else
			rc = bt_image_file_read(&p->img->f, loc->data_offset,
						p->bytes + (at - p->at),
						loc->data_len);
		loc->data_offset = at;
		loc->data_space = (uint32_t)round_sector(loc->data_len);
		at += loc->data_space;
	}
	return rc;
}

/* The header last: it has the places of all others. */
static int fill(struct plan *p, uint64_t locators_at)
{
	int rc = p->move->tables ? fill_tables(p) : 0;

	if (!rc)
		rc = fill_locators(p, locators_at);
	if (!rc)
		bt_vhd_header_encode(&p->move->header, p->bytes);
	return rc;
}

/* ---- the switch ----------------------------------------------------------- */

/*   new metadata, old footer behind it -> both ends still name the old header
 *   copy at 0 -> the end names another header than the copy, so the copy is believed
 *   footer at the end -> both name the new one
 *
 * A cut between any two leaves one of the two, whole (libvhd/pick.c). */
static int write_all(struct plan *p)
{
	struct bt_vhdimg *img = p->img;
	uint64_t end = img->f.is_device ? img->limit : p->end;
	uint8_t old[BT_VHD_FOOTER_SIZE], new[BT_VHD_FOOTER_SIZE];
	int rc = bt_image_file_write(&img->f, p->at, p->bytes,
				     (size_t)(p->end - p->at));

	bt_vhd_footer_encode(&img->footer, old);
	bt_vhd_footer_encode(&p->move->footer, new);
	if (!rc)
		rc = bt_image_file_write(&img->f, end, old, sizeof(old));
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	p->switched = !rc;
	if (!rc)
		rc = bt_image_file_write(&img->f, 0, new, sizeof(new));
	if (!rc)
		rc = bt_image_file_sync(&img->f);
	if (!rc)
		rc = bt_image_file_write(&img->f, end, new, sizeof(new));
	return rc ? rc : bt_image_file_sync(&img->f);
}

/* The image goes on with what memory has, the old header. Once the copy at 0 was
 * written to, nobody knows which of the two the file names, so blocks go behind both
 * from now on. Before that the new one is nobody's, and the old footer's place, which
 * it has taken, is given back. */
static void stay(const struct plan *p)
{
	struct bt_vhdimg *img = p->img;

	if (p->switched)
		img->data_end = p->end;
	if (img->f.is_device)
		return;
	img->footer_lost = true;
	img->cut_short |= !p->switched;
}

/* Nothing else uses the image. What the old header and tables took stays, as a
 * gap. */
int bt_vhdmove_run(struct bt_vhdimg *img, struct bt_vhdmove *move,
		   struct blktap_error **err)
{
	struct plan p = { .img = img, .move = move };
	uint64_t locators_at;
	int rc = 0;

	p.at = round_sector(img->data_end);
	p.end = p.at + BT_VHD_HEADER_SIZE;
	move->footer.data_offset = p.at;
	if (move->tables)
		rc = place_tables(&p);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	locators_at = p.end;
	place_locators(&p);
	if (p.end > img->limit)
		return bt_fail(err, -ENOSPC, "make the device larger",
			       "%s: has no room for its tables", img->f.path);
	p.bytes = calloc(1, (size_t)(p.end - p.at));
	rc = p.bytes ? fill(&p, locators_at) : -ENOMEM;
	if (!rc) {
		rc = write_all(&p);
		if (rc < 0)
			stay(&p);
	}
	free(p.bytes);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	img->footer = move->footer;
	img->header = move->header;
	img->data_end = p.end;
	bt_vhd_footer_encode(&img->footer, img->footer_bytes);
	if (move->tables) {
		/* it is as long as the old table: the new one's is on disk */
		free(img->batmap);
		img->batmap = NULL;
	}
	return 0;
}
