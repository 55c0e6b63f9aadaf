/* SPDX-License-Identifier: BSD-3-Clause */
/* What is in an image, for people and for tools that look at it. The names of the
 * fields are those that toolstacks read. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver/vhd/tool.h"
#include "libvhd/locator.h"

struct show {
	struct bt_vhdimg *img;
	blktap_vhd_field_fn *fn;
	void *opaque;
	const char *section;
};

static void put(struct show *s, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A value is cut at 255 bytes, which only a name of the image's can be longer
 * than; those of locators go past this. */
static void put(struct show *s, const char *name, const char *fmt, ...)
{
	char value[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	s->fn(s->opaque, s->section, name, value);
}

/* Five groups, in the order of the bytes. */
static void put_uuid(struct show *s, const char *name, const uint8_t *uuid)
{
	char text[2 * BT_VHD_UUID_SIZE + 5], *at = text;
	unsigned int i;

	for (i = 0; i < BT_VHD_UUID_SIZE; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += sprintf(at, "%02x", uuid[i]);
	}
	put(s, name, "%s", text);
}

/* UTC. */
static void put_time(struct show *s, const char *name, uint32_t timestamp)
{
	time_t t = (time_t)bt_vhd_time_to_unix(timestamp);
	char text[64] = "?";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm);
	put(s, name, "%s", text);
}

/* MB are MiB, as they always were here. */
static void put_size(struct show *s, const char *name, uint64_t bytes)
{
	put(s, name, "%" PRIu64 " MB (%" PRIu64 " Bytes)", bytes >> 20, bytes);
}

/* "Mac " and "Wi2k", as four bytes. */
static const char *system_name(uint32_t os)
{
	if (os == 0x4d616320)
		return "Macintosh";
	return os == 0x5769326b ? "Windows" : "Unknown!";
}

/* Only of a footer that was checked: there is no other type. */
static const char *type_name(uint32_t type)
{
	static const char *const names[] = {
		[BT_VHD_FIXED] = "Fixed hard disk",
		[BT_VHD_DYNAMIC] = "Dynamic hard disk",
		[BT_VHD_DIFFERENCING] = "Differencing hard disk",
	};

	return names[type]; /* checked when it was opened */
}

/* The checksum is that of the footer as it would be written: one that was wrong
 * was refused at opening, but for the first td-util's, which left "hidden"
 * out. */
static void show_footer(struct show *s)
{
	const struct bt_vhd_footer *f = &s->img->footer;
	const struct bt_vhd_geometry *g = &f->geometry;
	uint8_t bytes[BT_VHD_FOOTER_SIZE];

	s->section = "VHD Footer Summary";
	put(s, "Cookie", "conectix");
	put(s, "Features", "(0x%08x)%s%s", f->features,
	    f->features & BT_VHD_FEATURE_TEMPORARY ? " <TEMP>" : "",
	    f->features & BT_VHD_FEATURE_RESERVED ? " <RESV>" : "");
	put(s, "File format version", "Major: %u, Minor: %u", f->version >> 16,
	    f->version & 0xffff);
	put(s, "Data offset", "%" PRIu64, f->data_offset);
	put_time(s, "Timestamp", f->timestamp);
	put(s, "Creator Application", "'%.4s'", (const char *)f->creator_app);
	put(s, "Creator version", "Major: %u, Minor: %u",
	    f->creator_version >> 16, f->creator_version & 0xffff);
	put(s, "Creator OS", "%s", system_name(f->creator_os));
	put_size(s, "Original disk size", f->original_size);
	put_size(s, "Current disk size", f->current_size);
	put(s, "Geometry", "Cyl: %u, Hds: %u, Sctrs: %u", g->cylinders,
	    g->heads, g->sectors);
	put(s, "Disk type", "%s", type_name(f->type));
	bt_vhd_footer_encode(f, bytes);
	put(s, "Checksum", "0x%08x (Good!)", bt_load_be32(bytes + 64));
	put_uuid(s, "UUID", f->uuid);
	put(s, "Saved state", "%s", f->saved_state ? "Yes" : "No");
	put(s, "Hidden", "%u", f->hidden);
}

/* A name that is not UTF-16 is shown as '?', and no error: locators say where
 * the parent is. */
static void show_header(struct show *s)
{
	const struct bt_vhd_header *h = &s->img->header;
	char name[1024];

	s->section = "VHD Header Summary";
	put(s, "Cookie", "cxsparse");
	put(s, "Data offset (unusd)", "%" PRIu64, h->data_offset);
	put(s, "Table offset", "%" PRIu64, h->table_offset);
	put(s, "Header version", "0x%08x", h->version);
	put(s, "Max BAT size", "%" PRIu32, h->max_table_entries);
	put(s, "Block size", "%" PRIu32 " (%" PRIu32 " MB)", h->block_size,
	    h->block_size >> 20);
	put(s, "Parent name", "%s",
	    bt_vhd_header_parent_name(h, name, sizeof(name), NULL) ? "?"
								   : name);
	put_uuid(s, "Parent UUID", h->parent_uuid);
	put_time(s, "Parent timestamp", h->parent_timestamp);
}

/* Codes are four letters, big-endian. */
static void show_locators(struct show *s)
{
	const struct bt_vhd_header *h = &s->img->header;
	unsigned int i;

	s->section = "VHD Parent Locators";
	for (i = 0; i < BT_VHD_LOCATORS; i++) {
		const struct bt_vhd_locator *loc = &h->locator[i];
		char *text, code[4];

		if (!loc->code)
			continue;
		bt_store_be32(code, loc->code);
		text = bt_vhdimg_read_locator(s->img, i);
		put(s, "locator", "%u", i);
		put(s, "     code", "%.4s", code);
		put(s, "     data_space", "%" PRIu32, loc->data_space);
		put(s, "     data_length", "%" PRIu32, loc->data_len);
		put(s, "     data_offset", "%" PRIu64, loc->data_offset);
		s->fn(s->opaque, s->section, "     decoded name",
		      text ? text : "?");
		free(text);
	}
}

/* "Bad" is any map that was not believed at opening. */
static void show_batmap(struct show *s)
{
	struct bt_vhd_batmap b;

	if (!bt_vhdtool_read_batmap(s->img, &b))
		return;
	s->section = "VHD Batmap Summary";
	put(s, "Batmap offset", "%" PRIu64, b.offset);
	put(s, "Batmap size (secs)", "%" PRIu32, b.size_sec);
	put(s, "Batmap version", "0x%08x", b.version);
	put(s, "Checksum", "0x%08x (%s)", b.checksum,
	    s->img->batmap ? "Good!" : "Bad!");
	put(s, "Marker", "%u", b.marker);
	put(s, "Encryption key", "%s", b.keyhash.cookie == 1 ? "Yes" : "No");
}

/* Sections in the order of the file's parts. fn is told all as text: what a
 * number means is in its name. */
void blktap_vhd_list_fields(struct blktap_vhd *vhd, blktap_vhd_field_fn *fn,
			    void *opaque)
{
	struct show s = { .img = vhd->img, .fn = fn, .opaque = opaque };

	show_footer(&s);
	if (vhd->img->fixed)
		return;
	show_header(&s);
	if (vhd->img->differencing)
		show_locators(&s);
	show_batmap(&s);
}

/* ---- blocks --------------------------------------------------------------- */

/* Checked as a reader of the disk would check it. */
static int load_entry(struct blktap_vhd *vhd, uint32_t block, uint32_t *entry,
		      struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	struct bt_fault fault = { 0 };
	uint8_t be[4];
	int rc = bt_vhdtool_check_blocks(vhd, err);

	if (rc < 0)
		return rc;
	if (block >= img->blocks.entries)
		return bt_fail(err, -ERANGE, NULL,
			       "%s: block %" PRIu32
			       " is past the end of the table, which has "
			       "%" PRIu32,
			       img->f.path, block, img->blocks.entries);
	rc = bt_image_file_read(&img->f,
				img->blocks.table_offset + (uint64_t)block * 4,
				be, sizeof(be));
	if (rc < 0)
		return bt_vhdtool_fail(vhd, rc, err);
	*entry = bt_vhd_bat_load(be, 0);
	rc = bt_vhd_entry_check(&img->blocks, *entry, img->data_end, &fault);
	return rc ? bt_vhdimg_fault(img->f.path, rc, &fault, err) : 0;
}

/* Copies as much as the caller's struct has. in_batmap is what the file's map
 * says. */
int blktap_vhd_get_block(struct blktap_vhd *vhd, uint32_t block,
			 struct blktap_vhd_block *out,
			 struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	struct blktap_vhd_block full = { .struct_size = out->struct_size };
	uint32_t entry = 0;
	int rc = load_entry(vhd, block, &entry, err);
	bool used = entry != BT_VHD_BAT_UNUSED;

	if (rc < 0)
		return rc;
	full.offset = used ? bt_vhd_bitmap_offset(entry) : BLKTAP_VHD_ABSENT;
	full.data = used ? bt_vhd_data_offset(&img->blocks, entry)
			 : BLKTAP_VHD_ABSENT;
	full.bitmap_size = (uint32_t)bt_vhd_bitmap_bytes(&img->blocks);
	full.in_batmap = img->batmap && bt_vhd_bit_test(img->batmap, block);
	memcpy(out, &full, bt_min_u64(full.struct_size, sizeof(full)));
	return 0;
}

/* For bt_vhdtool_each_block. */
static int set_bit(void *opaque, uint32_t block, uint32_t entry)
{
	bt_vhd_bit_set(opaque, block);
	return 0;
}

/* *map is the caller's to free. */
int blktap_vhd_get_map(struct blktap_vhd *vhd, bool batmap, void **map,
		       size_t *size, struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	int rc = bt_vhdtool_check_blocks(vhd, err);

	if (rc < 0)
		return rc;
	if (batmap && !img->batmap)
		return bt_fail(err, -ENOENT, NULL, "%s: has no batmap",
			       img->f.path);
	*size = (img->blocks.entries + 7) / 8;
	*map = calloc(1, *size + 1);
	if (!*map)
		return bt_vhdtool_fail(vhd, -ENOMEM, err);
	if (batmap)
		memcpy(*map, img->batmap, *size);
	else
		rc = bt_vhdtool_each_block(img, set_bit, *map);
	if (rc)
		free(*map);
	return bt_vhdtool_fail(vhd, rc, err);
}

/* Memory of both is the caller's to free; of a block that is not there they are
 * zeroes. The bitmap is given with its highest bit first, whatever the image
 * has. */
int blktap_vhd_read_block(struct blktap_vhd *vhd, uint32_t block, void **bitmap,
			  size_t *bitmap_size, void **data, size_t *data_size,
			  struct blktap_error **err)
{
	struct bt_vhdimg *img = vhd->img;
	uint32_t entry = 0;
	int rc = load_entry(vhd, block, &entry, err);
	bool used = entry != BT_VHD_BAT_UNUSED;

	if (rc < 0)
		return rc;
	*bitmap_size = (size_t)bt_vhd_bitmap_bytes(&img->blocks);
	*bitmap = calloc(1, *bitmap_size);
	if (data) {
		*data_size = img->blocks.block_size;
		*data = calloc(1, *data_size);
	}
	if (!*bitmap || (data && !*data))
		rc = -ENOMEM;
	if (!rc && used)
		rc = bt_image_file_read(&img->f, bt_vhd_bitmap_offset(entry),
					*bitmap, *bitmap_size);
	if (!rc && img->old_bits)
		bt_vhd_bits_mirror(*bitmap, *bitmap_size);
	if (!rc && used && data)
		rc = bt_image_file_read(&img->f,
					bt_vhd_data_offset(&img->blocks, entry),
					*data, *data_size);
	if (rc < 0) {
		free(*bitmap);
		if (data)
			free(*data);
	}
	return bt_vhdtool_fail(vhd, rc, err);
}

/* ---- every bitmap --------------------------------------------------------- */

struct survey {
	struct bt_vhdimg *img;
	struct blktap_vhd_stats stats;
	uint8_t *bitmap;
	uint32_t liar; /* a block that the batmap calls full, and is not */
	bool lies;
};

/* The order of bits within a byte does not matter to a count of whole bytes. */
static int survey_block(void *opaque, uint32_t block, uint32_t entry)
{
	struct survey *s = opaque;
	const struct bt_vhd_blocks *b = &s->img->blocks;
	uint32_t set;
	int rc = bt_image_file_read(&s->img->f, bt_vhd_bitmap_offset(entry),
				    s->bitmap, (size_t)bt_vhd_bitmap_bytes(b));

	if (rc < 0)
		return rc;
	set = bt_vhd_bits_count(s->bitmap, 0, b->block_sec);
	s->stats.allocated++;
	s->stats.sectors += set;
	s->stats.full += set == b->block_sec;
	s->stats.beyond += block >= s->stats.blocks;
	if (s->img->batmap && bt_vhd_bit_test(s->img->batmap, block) &&
	    set < b->block_sec && !s->lies) {
		s->lies = true;
		s->liar = block;
	}
	return 0;
}

/* The table is checked first, as the bitmaps are read through it. */
static int survey(struct bt_vhdimg *img, struct survey *s,
		  struct blktap_error **err)
{
	uint64_t end;
	int rc = bt_vhdimg_check_bat(img, img->data_end, false, &end, err);

	if (rc < 0)
		return rc;
	s->img = img;
	s->stats.blocks = bt_vhd_blocks_needed(&img->blocks);
	s->bitmap = malloc((size_t)bt_vhd_bitmap_bytes(&img->blocks));
	rc = s->bitmap ? bt_vhdtool_each_block(img, survey_block, s) : -ENOMEM;
	free(s->bitmap);
	return rc ? bt_image_file_fail(img->f.path, rc, err) : 0;
}

/* Reads every bitmap, so it takes as long as the image has blocks. */
int blktap_vhd_get_stats(struct blktap_vhd *vhd, struct blktap_vhd_stats *stats,
			 struct blktap_error **err)
{
	struct survey s = { .lies = false };
	size_t size = stats->struct_size;
	int rc = bt_vhdtool_check_blocks(vhd, err);

	if (!rc)
		rc = survey(vhd->img, &s, err);
	if (rc < 0)
		return rc;
	s.stats.struct_size = size;
	memcpy(stats, &s.stats, bt_min_u64(size, sizeof(*stats)));
	return 0;
}

/* The other way round, a full bitmap without its bit, is no fault: the batmap
 * may say too little. */
int bt_vhdtool_check_bitmaps(struct bt_vhdimg *img, struct blktap_error **err)
{
	struct survey s = { .lies = false };
	int rc = survey(img, &s, err);

	if (rc < 0 || !s.lies)
		return rc;
	return bt_fail(err, -EINVAL,
		       "take a copy of it; what is not in the bitmap may be "
		       "wrong there",
		       "%s: the batmap says that block %" PRIu32
		       " is whole, its bitmap does not",
		       img->f.path, s.liar);
}
