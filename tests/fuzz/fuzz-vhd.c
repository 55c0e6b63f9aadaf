/* SPDX-License-Identifier: BSD-3-Clause */
/* A hostile VHD is opened the way a driver opens one: pick a footer, check it,
 * header, batmap, locators, every BAT entry, overlaps. What passes the checks
 * must hold: all of it lies in the file, and encodes to what was read. Inputs
 * whose first byte is odd are a journal or the text of a locator instead. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "libvhd/batmap.h"
#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/footer.h"
#include "libvhd/geometry.h"
#include "libvhd/header.h"
#include "libvhd/journal.h"
#include "libvhd/layout.h"
#include "libvhd/locator.h"
#include "util/checked.h"

/* The checksums are made right first: else mutation never gets past them. */
enum {
	FLAG_OTHER = 1,
	FLAG_AS_IT_IS = 2,
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void fix_footer(uint8_t *p)
{
	bt_store_be32(p + 64, bt_vhd_checksum(p, 512, 64));
}

static void fix_image(uint8_t *p, size_t size)
{
	uint64_t header;

	if (size < 2048)
		return;
	fix_footer(p);
	fix_footer(p + size - 512);
	header = bt_load_be64(p + 16);
	if (bt_range_within(header, 1024, size))
		bt_store_be32(p + header + 36,
			      bt_vhd_checksum(p + header, 1024, 36));
}

static void read_locators(const struct bt_vhd_header *h, const uint8_t *p,
			  size_t size)
{
	char path[BT_VHD_PATH_MAX];
	uint8_t order[BT_VHD_LOCATORS];
	unsigned int n = bt_vhd_locator_order(h, order), i;

	for (i = 0; i < n; i++) {
		const struct bt_vhd_locator *loc = &h->locator[order[i]];

		must(bt_range_within(loc->data_offset, loc->data_len, size));
		if (!bt_vhd_locator_decode(loc->code, p + loc->data_offset,
					   loc->data_len, path, sizeof(path),
					   NULL))
			must(strlen(path) > 0 &&
			     bt_vhd_path_kind(path) <= BT_VHD_PATH_WINDOWS);
	}
	bt_vhd_header_parent_name(h, path, sizeof(path), NULL);
}

static bool read_batmap(const struct bt_vhd_header *h, const uint8_t *p,
			size_t size, struct bt_vhd_batmap *b)
{
	uint64_t at = bt_vhd_batmap_header_offset(h);

	if (!bt_range_within(at, 512, size) ||
	    bt_vhd_batmap_decode(p + at, 512, b, NULL) ||
	    bt_vhd_batmap_check(b, h, size, NULL))
		return false;
	bt_vhd_batmap_check_map(b, p + b->offset, (size_t)b->size_sec * 512,
				NULL);
	bt_vhd_bits_count(p + b->offset, 0, h->max_table_entries);
	return true;
}

static void read_bat(const struct bt_vhd_blocks *b, const uint8_t *p,
		     size_t size)
{
	const uint8_t *bat = p + b->table_offset;
	struct bt_vhd_bat_summary s = { 0 };
	uint64_t *keys;
	uint32_t entry, i;
	size_t n = 0;

	must(bt_vhd_blocks_needed(b) <= b->entries);
	bt_vhd_bat_scan(b, bat, 0, b->entries, size, &s, NULL);
	if (s.bad || bt_vhd_overlap_certain(b, s.allocated, size))
		return;
	keys = malloc(s.allocated * sizeof(*keys) + 1);
	for (i = 0; keys && i < b->entries; i++) {
		entry = bt_vhd_bat_load(bat, i);
		if (entry == BT_VHD_BAT_UNUSED)
			continue;
		must(bt_vhd_data_offset(b, entry) + b->block_size <= size);
		bt_vhd_bits_count(p + bt_vhd_bitmap_offset(entry), 0,
				  b->block_sec);
		keys[n++] = bt_vhd_overlap_key(i, entry);
	}
	if (keys)
		bt_vhd_overlap_check(b, keys, n, NULL, NULL);
	free(keys);
}

static void read_blocks(const struct bt_vhd_footer *f, const uint8_t *p,
			size_t size)
{
	struct bt_vhd_header h;
	struct bt_vhd_batmap m;
	struct bt_vhd_blocks b;
	uint8_t again[1024];

	if (!bt_range_within(f->data_offset, 1024, size) ||
	    bt_vhd_header_decode(p + f->data_offset, 1024, &h, NULL))
		return;
	bt_vhd_header_encode(&h, again);
	must(!memcmp(again, p + f->data_offset, 1024));
	if (bt_vhd_header_check(&h, f, size, NULL))
		return;
	if (f->type == BT_VHD_DIFFERENCING)
		read_locators(&h, p, size);
	if (bt_vhd_blocks_init(&b, f, &h,
			       read_batmap(&h, p, size, &m) ? &m : NULL, NULL))
		return;
	must(b.metadata_end <= size + 512);
	read_bat(&b, p, size);
}

static void read_image(const uint8_t *p, size_t size)
{
	size_t tail = size < BT_VHD_PICK_TAIL ? size : BT_VHD_PICK_TAIL;
	struct bt_vhd_footer_choice choice;
	struct bt_vhd_footer f;

	if (bt_vhd_footer_pick(p, size < 512 ? size : 512, p + size - tail,
			       tail, size, &f, &choice, NULL))
		return;
	must(choice.offset < size);
	if (bt_vhd_footer_check(&f, NULL))
		return;
	must(bt_vhd_virtual_size(&f, NULL) <= BT_VHD_SIZE_MAX);
	if (f.type == BT_VHD_FIXED)
		bt_vhd_fixed_check(&f, choice.offset, NULL);
	else
		read_blocks(&f, p, size);
}

static void read_journal(const uint8_t *p, size_t size)
{
	struct bt_vhd_journal_entry e;
	struct bt_vhd_journal j;
	uint64_t at;

	if (bt_vhd_journal_decode(p, size, &j, NULL) ||
	    bt_vhd_journal_check(&j, NULL, size, NULL))
		return;
	for (at = BT_VHD_JOURNAL_HEADER_SIZE; at < j.eof; at += 32 + e.size) {
		if (bt_vhd_journal_entry_decode(&j, at, p + at, size - at, &e,
						NULL))
			return;
		must(bt_range_within(at, 32 + (uint64_t)e.size, size));
		bt_vhd_journal_entry_check(&e, p + at, p + at + 32, NULL);
	}
}

/* A path that was read can be written, and then reads the same, but for the
 * "./" that a relative one gets. */
static void read_path(const uint8_t *p, size_t size)
{
	static const uint32_t codes[] = { BT_VHD_LOC_MACX, BT_VHD_LOC_W2RU };
	char path[BT_VHD_PATH_MAX], again[BT_VHD_PATH_MAX];
	uint8_t text[BT_VHD_LOCATOR_LEN_MAX];
	size_t len;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (bt_vhd_locator_decode(codes[i], p, size, path, sizeof(path),
					  NULL))
			continue;
		if (strlen(path) + 2 >= sizeof(path))
			continue;
		must(!bt_vhd_locator_encode(BT_VHD_LOC_MACX, path, text,
					    sizeof(text), &len, NULL));
		must(!bt_vhd_locator_decode(BT_VHD_LOC_MACX, text, len, again,
					    sizeof(again), NULL));
		must(!strcmp(path, again) ||
		     (!memcmp(again, "./", 2) && !strcmp(path, again + 2)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	uint8_t flags;

	if (size < 1)
		return 0;
	flags = data[0];
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (flags & FLAG_OTHER) {
		read_journal(copy, size - 1);
		read_path(copy, size - 1);
	} else {
		if (!(flags & FLAG_AS_IT_IS))
			fix_image(copy, size - 1);
		read_image(copy, size - 1);
	}
	free(copy);
	return 0;
}

static size_t seed_image(enum bt_vhd_type type, uint8_t *buf)
{
	static const uint8_t uuid[16] = { 1, 2, 3 };
	static const char url[] = "file://./b.vhd";
	static const char wide[] = ".\0\\\0b\0.\0v\0h\0d";
	const void *text[] = { url, wide };
	struct bt_vhd_layout_spec spec = {
		.type = type,
		.size = type == BT_VHD_FIXED ? 4096 : 65536,
		.block_size = 4096,
		.locators = type == BT_VHD_DIFFERENCING ? 2 : 0,
		.locator_code = { BT_VHD_LOC_MACX, BT_VHD_LOC_W2RU },
		.locator_len = { sizeof(url) - 1, sizeof(wide) },
	};
	struct bt_vhd_footer f;
	struct bt_vhd_header h;
	struct bt_vhd_batmap m;
	struct bt_vhd_layout l;
	uint32_t i, end;

	bt_vhd_footer_init(&f, type, spec.size, 1, uuid);
	if (bt_vhd_layout_plan(&l, &spec, NULL))
		abort();
	bt_vhd_layout_header(&l, &h);
	bt_vhd_layout_batmap(&l, &m);
	memset(buf, 0, 32768);
	bt_vhd_layout_encode(&l, &f, &h, &m, text, buf);
	end = (uint32_t)l.footer_offset;
	for (i = 0; type != BT_VHD_FIXED && i < 3; i++) {
		bt_vhd_bat_store(buf + l.table_offset, i * 5, end / 512);
		memset(buf + end, 0xa5, 4608);
		end += 4608;
	}
	bt_vhd_footer_encode(&f, buf + end);
	return end + 512;
}

static size_t seed_journal(uint8_t *buf)
{
	static const uint8_t uuid[16] = { 1, 2, 3 };
	struct bt_vhd_journal_entry e = { .type = BT_VHD_JOURNAL_BAT,
					  .size = 512,
					  .offset = 1536 };
	struct bt_vhd_journal j;
	unsigned int i;

	bt_vhd_journal_init(&j, uuid, 3072);
	for (i = 0; i < 3; i++) {
		memset(buf + j.eof + 32, (int)i, 512);
		bt_vhd_journal_entry_encode(&e, buf + j.eof + 32, buf + j.eof);
		bt_vhd_journal_added(&j, &e);
	}
	bt_vhd_journal_encode(&j, buf);
	return j.eof;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const char url[] = "\x01"
				  "file://./a%20b/%C3%A4.vhd";
	static const char wide[] = "\x01.\0\\\0\xe4\0\x3d\xd8\xbe\xdc.\0v\0";

	if (cap < 65536)
		return 0;
	buf[0] = 0;
	switch (n) {
	case 0:
		return 1 + seed_image(BT_VHD_DYNAMIC, buf + 1);
	case 1:
		return 1 + seed_image(BT_VHD_DIFFERENCING, buf + 1);
	case 2:
		return 1 + seed_image(BT_VHD_FIXED, buf + 1);
	case 3:
		buf[0] = FLAG_OTHER;
		return 1 + seed_journal(buf + 1);
	case 4:
		memcpy(buf, url, sizeof(url) - 1);
		return sizeof(url) - 1;
	case 5:
		memcpy(buf, wide, sizeof(wide) - 1);
		return sizeof(wide) - 1;
	}
	return 0;
}
