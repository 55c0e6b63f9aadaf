/* SPDX-License-Identifier: BSD-3-Clause */
/* Small VHD images, each with one thing that is odd or wrong: vhd-corpus DIR writes
 * them all. What each breaks, and what has to be said of it, is in
 * tests/shell/vhd-corpus.md. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "libvhd/layout.h"
#include "libvhd/locator.h"

#define BLOCK 4096u
#define SIZE (16u * BLOCK)
#define ROOM (256u << 10)

enum area {
	FOOTERS, /* both, with fresh checksums */
	HEADER, /* with a fresh checksum */
	BAT, /* at: an entry */
	LOCATOR, /* the first */
	LOCATOR_TEXT,
	BATMAP, /* its header */
	TAIL, /* bytes of the last footer, as they are */
	COPY, /* bytes of the copy at 0, as they are */
	FILE_END, /* the file gets longer or shorter by value */
	HEADER_RAW, /* without a fresh checksum */
	KILL, /* the tail is filled with 0xc7 */
	FIRST_BLOCK, /* its bitmap */
};

struct patch {
	enum area area;
	uint32_t at;
	unsigned int bytes; /* 1, 2, 4, 8 */
	uint64_t value;
};

struct sample {
	const char *name;
	enum bt_vhd_type type;
	struct patch patch[2];
};

#define DYN BT_VHD_DYNAMIC
#define FIX BT_VHD_FIXED
#define DIFF BT_VHD_DIFFERENCING

static const struct sample samples[] = {
	{ "good-dynamic", DYN, { { BAT, 9, 0, 0 } } },
	{ "good-fixed", FIX, { { BAT, 9, 0, 0 } } },
	{ "good-differencing", DIFF, { { BAT, 9, 0, 0 } } },
	{ "good-footer-hidden", DYN, { { FOOTERS, 85, 1, 1 } } },
	{ "good-footer-temporary", DYN, { { FOOTERS, 8, 4, 3 } } },
	{ "good-footer-geometry-0", DYN, { { FOOTERS, 56, 4, 0 } } },
	{ "good-footer-creator-win", DYN, { { FOOTERS, 28, 4, 0x77696e20 } } },
	{ "good-footer-minor-version", DYN, { { FOOTERS, 12, 4, 0x10001 } } },
	{ "good-footer-511", DYN, { { FILE_END, 0, 0, (uint64_t)-1 } } },
	{ "good-footer-saved-state", DYN, { { FOOTERS, 84, 1, 1 } } },
	{ "good-batmap-checksum", DYN, { { BATMAP, 24, 4, 7 } } },
	{ "good-batmap-cookie", DYN, { { BATMAP, 0, 4, 7 } } },
	{ "good-batmap-version", DYN, { { BATMAP, 20, 4, 0x10003 } } },
	{ "good-batmap-offset", DYN, { { BATMAP, 8, 8, 1 } } },
	{ "good-header-parent-time", DIFF, { { HEADER, 56, 4, 9 } } },
	{ "good-bat-one-block", DYN, { { BAT, 1, 4, 0xffffffff } } },

	{ "good-footer-original-size", DYN, { { FOOTERS, 40, 8, 1 } } },
	{ "good-footer-time", DYN, { { FOOTERS, 24, 4, 0xffffffff } } },
	{ "good-footer-creator-os", DYN, { { FOOTERS, 36, 4, 0 } } },
	{ "good-footer-reserved", DYN, { { FOOTERS, 100, 1, 7 } } },
	{ "good-header-data-offset", DYN, { { HEADER, 8, 8, 0 } } },
	{ "good-header-reserved", DYN, { { HEADER, 900, 4, 1 } } },
	{ "good-header-parent-uuid", DIFF, { { HEADER, 40, 8, 1 } } },
	{ "good-header-parent-name", DIFF, { { HEADER, 64, 8, 0 } } },
	{ "good-locator-reserved", DIFF, { { LOCATOR, 12, 4, 1 } } },
	{ "good-batmap-size", DYN, { { BATMAP, 16, 4, 0xffffffff } } },
	{ "good-batmap-marker", DYN, { { BATMAP, 28, 1, 9 } } },
	{ "good-batmap-keyhash", DYN, { { BATMAP, 29, 1, 1 } } },
	{ "bad-locator-text", DIFF, { { LOCATOR_TEXT, 0, 4, 0 } } },
	{ "unsupported-header-version", DYN, { { HEADER, 24, 4, 0x20000 } } },
	{ "bad-footer-cookie", DYN, { { TAIL, 0, 8, 1 }, { COPY, 0, 8, 1 } } },
	{ "bad-footer-checksum",
	  DYN,
	  { { TAIL, 64, 4, 1 }, { COPY, 64, 4, 1 } } },
	{ "bad-footer-poisoned",
	  DYN,
	  { { FOOTERS, 0, 8, 0x765f706f69736f6e } } },
	{ "bad-footer-size-0", DYN, { { FOOTERS, 48, 8, 0 } } },
	{ "bad-footer-size-513", DYN, { { FOOTERS, 48, 8, 513 } } },
	{ "bad-footer-data-offset-0", DYN, { { FOOTERS, 16, 8, 0 } } },
	{ "bad-footer-data-offset-513", DYN, { { FOOTERS, 16, 8, 513 } } },
	{ "bad-footer-data-offset-past",
	  DYN,
	  { { FOOTERS, 16, 8, 1u << 30 } } },
	{ "bad-footer-data-offset-none",
	  DYN,
	  { { FOOTERS, 16, 8, UINT64_MAX } } },
	{ "bad-footer-missing", DYN, { { FILE_END, 0, 0, (uint64_t)-512 } } },
	{ "bad-footer-killed", DYN, { { KILL, 0, 0, 0 } } },
	{ "bad-footer-differ", DYN, { { TAIL, 85, 1, 0 } } },
	{ "bad-footer-copy-lost", DYN, { { COPY, 0, 8, 0 } } },
	{ "bad-fixed-size", FIX, { { FOOTERS, 48, 8, 2 * SIZE } } },
	{ "bad-fixed-cookie", FIX, { { TAIL, 0, 8, 0 } } },
	{ "bad-header-cookie", DYN, { { HEADER_RAW, 0, 8, 0 } } },
	{ "bad-header-checksum", DYN, { { HEADER_RAW, 36, 4, 0 } } },
	{ "bad-header-table-offset-odd", DYN, { { HEADER, 16, 8, 1537 } } },
	{ "bad-header-table-offset-past",
	  DYN,
	  { { HEADER, 16, 8, 1u << 30 } } },
	{ "bad-header-table-offset-huge",
	  DYN,
	  { { HEADER, 16, 8, UINT64_MAX - 511 } } },
	{ "bad-header-table-over-footer", DYN, { { HEADER, 16, 8, 0 } } },
	{ "bad-header-table-over-header", DYN, { { HEADER, 16, 8, 1024 } } },
	{ "bad-header-entries-few", DYN, { { HEADER, 28, 4, 15 } } },
	{ "bad-header-entries-0", DYN, { { HEADER, 28, 4, 0 } } },
	{ "bad-header-entries-past", DYN, { { HEADER, 28, 4, 1u << 20 } } },
	{ "bad-header-block-size-0", DYN, { { HEADER, 32, 4, 0 } } },
	{ "bad-header-block-size-128", DYN, { { HEADER, 32, 4, 0x80 } } },
	{ "bad-header-block-size-odd", DYN, { { HEADER, 32, 4, 0x12345678 } } },
	{ "bad-header-block-size-3m", DYN, { { HEADER, 32, 4, 3u << 20 } } },
	{ "bad-bat-in-header", DYN, { { BAT, 0, 4, 1 } } },
	{ "bad-bat-in-table", DYN, { { BAT, 0, 4, 3 } } },
	{ "bad-bat-0", DYN, { { BAT, 0, 4, 0 } } },
	{ "bad-bat-past", DYN, { { BAT, 0, 4, 0xfffffffe } } },
	{ "bad-bat-over-footer", DYN, { { BAT, 3, 4, 33 } } },
	{ "bad-bat-twice", DYN, { { BAT, 5, 4, 7 } } },
	{ "bad-bat-overlap", DYN, { { BAT, 5, 4, 8 } } },
	{ "bad-batmap-lies", DYN, { { FIRST_BLOCK, 0, 1, 0x7f } } },
	{ "bad-locator-none", DIFF, { { LOCATOR, 0, 4, 0 } } },
	{ "bad-locator-code", DIFF, { { LOCATOR, 0, 4, 0x41414141 } } },
	{ "bad-locator-length-0", DIFF, { { LOCATOR, 8, 4, 0 } } },
	{ "bad-locator-length-huge", DIFF, { { LOCATOR, 8, 4, 0xffffffff } } },
	{ "bad-locator-length-space", DIFF, { { LOCATOR, 8, 4, 513 } } },
	{ "bad-locator-space-odd", DIFF, { { LOCATOR, 4, 4, 513 } } },
	{ "bad-locator-space-0", DIFF, { { LOCATOR, 4, 4, 0 } } },
	{ "bad-locator-offset-0", DIFF, { { LOCATOR, 16, 8, 0 } } },
	{ "bad-locator-offset-past", DIFF, { { LOCATOR, 16, 8, 1u << 30 } } },
	{ "bad-locator-offset-huge", DIFF, { { LOCATOR, 16, 8, UINT64_MAX } } },

	{ "unsupported-footer-version", DYN, { { FOOTERS, 12, 4, 0x20000 } } },
	{ "unsupported-footer-type-0", DYN, { { FOOTERS, 60, 4, 0 } } },
	{ "unsupported-footer-type-5", DYN, { { FOOTERS, 60, 4, 5 } } },
	{ "unsupported-footer-size",
	  DYN,
	  { { FOOTERS, 48, 8, UINT64_C(2041) << 30 } } },
	{ "unsupported-header-entries", DYN, { { HEADER, 28, 4, 0x400001 } } },
	{ "unsupported-header-block-size",
	  DYN,
	  { { HEADER, 32, 4, 4u << 20 } } },
};

#define SAMPLES (sizeof(samples) / sizeof(*samples))

static uint8_t image[ROOM];
static size_t length;
static struct bt_vhd_layout layout;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* A parent that need not be there: ./p.vhd. */
static size_t plan(enum bt_vhd_type type, uint8_t text[64])
{
	struct bt_vhd_layout_spec spec = {
		.type = type,
		.size = SIZE,
		.block_size = BLOCK,
		.locators = type == DIFF,
		.locator_code = { BT_VHD_LOC_MACX },
	};
	size_t len = 0;

	if (type == DIFF && bt_vhd_locator_encode(BT_VHD_LOC_MACX, "p.vhd",
						  text, 64, &len, NULL))
		die("locator");
	spec.locator_len[0] = (uint32_t)len;
	if (bt_vhd_layout_plan(&layout, &spec, NULL))
		die("layout");
	return len;
}

/* Blocks 0 and 1 are there; of block 0 the batmap says that it is whole. */
static void put_blocks(struct bt_vhd_footer *f, struct bt_vhd_header *h,
		       struct bt_vhd_batmap *m)
{
	struct bt_vhd_blocks b;
	uint8_t *map = image + m->offset;
	uint32_t i, entry;

	if (bt_vhd_blocks_init(&b, f, h, m, NULL))
		die("blocks");
	length = layout.metadata_end;
	for (i = 0; i < 2; i++) {
		if (bt_vhd_next_entry(&b, length, &entry, NULL))
			die("entry");
		bt_vhd_bat_store(image + layout.table_offset, i, entry);
		bt_vhd_bits_set(image + bt_vhd_bitmap_offset(entry), 0,
				i ? 1 : BLOCK / 512);
		memset(image + bt_vhd_data_offset(&b, entry), (int)i + 1,
		       i ? 512 : BLOCK);
		length = bt_vhd_bitmap_offset(entry) + bt_vhd_block_stride(&b);
	}
	bt_vhd_bit_set(map, 0);
	m->checksum = bt_vhd_checksum(map, 512, 512);
	bt_vhd_batmap_encode(m, image + layout.batmap_header_offset);
}

static void make(enum bt_vhd_type type)
{
	static const uint8_t uuid[BT_VHD_UUID_SIZE] = { 0xc0, 0x49, 0x05 };
	static const uint8_t parent[BT_VHD_UUID_SIZE] = { 0xfa };
	uint8_t text[64];
	const void *const texts[] = { text };
	struct bt_vhd_footer f;
	struct bt_vhd_header h;
	struct bt_vhd_batmap m;

	memset(image, 0, sizeof(image));
	plan(type, text);
	bt_vhd_footer_init(&f, type, SIZE, 0, uuid);
	length = SIZE;
	if (type != FIX) {
		bt_vhd_layout_header(&layout, &h);
		bt_vhd_layout_batmap(&layout, &m);
		if (type == DIFF)
			bt_vhd_header_set_parent(&h, parent, 0, "p.vhd", NULL);
		bt_vhd_layout_encode(&layout, &f, &h, &m, texts, image);
		put_blocks(&f, &h, &m);
	}
	bt_vhd_footer_encode(&f, image + length);
	length += BT_VHD_FOOTER_SIZE;
}

static void store(uint8_t *p, const struct patch *patch)
{
	unsigned int i;

	for (i = 0; i < patch->bytes; i++)
		p[i] = (uint8_t)(patch->value >> 8 * (patch->bytes - 1 - i));
}

static void patch_summed(uint8_t *p, size_t size, size_t sum,
			 const struct patch *patch)
{
	store(p + patch->at, patch);
	bt_store_be32(p + sum, bt_vhd_checksum(p, size, sum));
}

static void apply(const struct patch *patch)
{
	uint8_t *tail = image + length - BT_VHD_FOOTER_SIZE;
	uint8_t *header = image + layout.header_offset;

	switch (patch->area) {
	case FOOTERS:
		patch_summed(tail, BT_VHD_FOOTER_SIZE, 64, patch);
		if (layout.type != FIX)
			patch_summed(image, BT_VHD_FOOTER_SIZE, 64, patch);
		break;
	case HEADER:
		patch_summed(header, BT_VHD_HEADER_SIZE, 36, patch);
		break;
	case HEADER_RAW:
		store(header + patch->at, patch);
		break;
	case LOCATOR:
		store(header + 576 + patch->at, patch);
		bt_store_be32(header + 36, bt_vhd_checksum(header, 1024, 36));
		break;
	case LOCATOR_TEXT:
		store(image + layout.locator[0].data_offset + patch->at, patch);
		break;
	case BAT:
		store(image + layout.table_offset + patch->at * 4, patch);
		break;
	case BATMAP:
		store(image + layout.batmap_header_offset + patch->at, patch);
		break;
	case TAIL:
		if (patch->at == 85) /* a footer that is whole, and another */
			patch_summed(tail, BT_VHD_FOOTER_SIZE, 64,
				     &(struct patch){ TAIL, 85, 1, 1 });
		else
			store(tail + patch->at, patch);
		break;
	case COPY:
		store(image + patch->at, patch);
		break;
	case FILE_END:
		length += patch->value;
		break;
	case KILL:
		memset(tail, 0xc7, BT_VHD_FOOTER_SIZE);
		break;
	case FIRST_BLOCK:
		store(image + 512 * (size_t)bt_vhd_bat_load(
					    image + layout.table_offset, 0),
		      patch);
		break;
	}
}

int main(int argc, char **argv)
{
	char path[4096];
	size_t i;
	int fd;

	if (argc != 2)
		return 2;
	for (i = 0; i < SAMPLES; i++) {
		const struct sample *s = &samples[i];

		make(s->type);
		apply(&s->patch[0]);
		if (s->patch[1].bytes)
			apply(&s->patch[1]);
		snprintf(path, sizeof(path), "%s/%s.vhd", argv[1], s->name);
		fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
		if (fd < 0 || write(fd, image, length) != (ssize_t)length)
			die(path);
		close(fd);
	}
	return 0;
}
