/* SPDX-License-Identifier: BSD-3-Clause */
/* What libvhd reads in a VHD, and images as libvhd lays them out, so that a
 * shell test can hold both against QEMU.
 *
 *   vhd-dump info FILE               field=value lines; rc 1 and the fault
 *   vhd-dump read FILE               the guest's bytes to stdout
 *   vhd-dump create TYPE SIZE FILE   an empty "fixed" or "dynamic" image
 *   vhd-dump fill FILE BLOCK BYTE    allocates a block, each byte BYTE */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/footer.h"
#include "libvhd/geometry.h"
#include "libvhd/header.h"
#include "libvhd/layout.h"

struct image {
	int fd;
	uint64_t file_size;
	struct bt_vhd_footer footer;
	struct bt_vhd_footer_choice choice;
	struct bt_vhd_header header;
	struct bt_vhd_blocks blocks;
	struct bt_vhd_bat_summary summary;
	uint8_t *bat;
};

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void must_read(int fd, void *buf, size_t len, uint64_t at)
{
	if (pread(fd, buf, len, (off_t)at) != (ssize_t)len)
		die("read");
}

static void must_write(int fd, const void *buf, size_t len, uint64_t at)
{
	if (pwrite(fd, buf, len, (off_t)at) != (ssize_t)len)
		die("write");
}

static void *must_alloc(size_t len)
{
	void *p = calloc(1, len);

	if (!p)
		die("calloc");
	return p;
}

static int load_blocks(struct image *im, struct bt_fault *fault)
{
	uint8_t buf[BT_VHD_HEADER_SIZE];
	ssize_t n =
		pread(im->fd, buf, sizeof(buf), (off_t)im->footer.data_offset);
	size_t keys = 0;
	uint64_t *key;
	uint32_t i;
	int err;

	err = bt_vhd_header_decode(buf, n < 0 ? 0 : (size_t)n, &im->header,
				   fault);
	if (!err)
		err = bt_vhd_header_check(&im->header, &im->footer,
					  im->file_size, fault);
	if (!err)
		err = bt_vhd_blocks_init(&im->blocks, &im->footer, &im->header,
					 NULL, fault);
	if (err)
		return err;
	im->bat = must_alloc((size_t)im->blocks.entries * 4);
	must_read(im->fd, im->bat, (size_t)im->blocks.entries * 4,
		  im->blocks.table_offset);
	err = bt_vhd_bat_scan(&im->blocks, im->bat, 0, im->blocks.entries,
			      im->file_size, &im->summary, fault);
	if (err)
		return err;
	key = must_alloc(((size_t)im->summary.allocated + 1) * sizeof(*key));
	for (i = 0; i < im->blocks.entries; i++)
		if (bt_vhd_bat_load(im->bat, i) != BT_VHD_BAT_UNUSED)
			key[keys++] = bt_vhd_overlap_key(
				i, bt_vhd_bat_load(im->bat, i));
	err = bt_vhd_overlap_check(&im->blocks, key, keys, NULL, fault);
	free(key);
	return err;
}

static int load(struct image *im, const char *path, int flags,
		struct bt_fault *fault)
{
	uint8_t head[BT_VHD_PICK_HEAD] = { 0 }, tail[BT_VHD_PICK_TAIL] = { 0 };
	size_t tail_len;
	struct stat st;
	int err;

	memset(im, 0, sizeof(*im));
	im->fd = open(path, flags | O_CLOEXEC);
	if (im->fd < 0 || fstat(im->fd, &st))
		die(path);
	im->file_size = (uint64_t)st.st_size;
	tail_len = im->file_size < sizeof(tail) ? im->file_size : sizeof(tail);
	if (pread(im->fd, head, sizeof(head), 0) < 0)
		die("read");
	must_read(im->fd, tail, tail_len, im->file_size - tail_len);
	err = bt_vhd_footer_pick(
		head, im->file_size < 512 ? im->file_size : 512, tail, tail_len,
		im->file_size, &im->footer, &im->choice, fault);
	if (!err)
		err = bt_vhd_footer_check(&im->footer, fault);
	if (err)
		return err;
	if (im->footer.type == BT_VHD_FIXED)
		return bt_vhd_fixed_check(&im->footer, im->choice.offset,
					  fault);
	return load_blocks(im, fault);
}

static void unload(struct image *im)
{
	free(im->bat);
	close(im->fd);
}

static int info(struct image *im)
{
	const struct bt_vhd_footer *f = &im->footer;
	struct bt_vhd_geometry want;

	want = bt_vhd_geometry_for(f->current_size / BT_VHD_SECTOR);
	printf("type=%" PRIu32 "\n", f->type);
	printf("creator=%.4s\n", (const char *)f->creator_app);
	printf("size=%" PRIu64 "\n", bt_vhd_virtual_size(f, NULL));
	printf("current_size=%" PRIu64 "\n", f->current_size);
	printf("original_size=%" PRIu64 "\n", f->original_size);
	printf("chs=%u/%u/%u\n", f->geometry.cylinders, f->geometry.heads,
	       f->geometry.sectors);
	printf("chs_of_size=%u/%u/%u\n", want.cylinders, want.heads,
	       want.sectors);
	printf("features=%" PRIu32 "\n", f->features);
	printf("footer_place=%d\n", im->choice.place);
	printf("differ=%d\n", im->choice.differ);
	printf("timestamp=%" PRId64 "\n", bt_vhd_time_to_unix(f->timestamp));
	if (f->type == BT_VHD_FIXED)
		return 0;
	printf("block_size=%" PRIu32 "\n", im->header.block_size);
	printf("entries=%" PRIu32 "\n", im->header.max_table_entries);
	printf("table_offset=%" PRIu64 "\n", im->header.table_offset);
	printf("allocated=%" PRIu32 "\n", im->summary.allocated);
	printf("data_end=%" PRIu64 "\n", im->summary.data_end);
	printf("footer_offset=%" PRIu64 "\n", im->choice.offset);
	return 0;
}

/* Sectors whose bit is clear read as zeroes. */
static void read_block(struct image *im, uint32_t block, uint8_t *buf)
{
	const struct bt_vhd_blocks *b = &im->blocks;
	uint32_t entry = bt_vhd_bat_load(im->bat, block);
	uint8_t bitmap[BT_VHD_SECTOR];
	uint32_t at, run;
	bool set;

	memset(buf, 0, b->block_size);
	if (entry == BT_VHD_BAT_UNUSED)
		return;
	must_read(im->fd, bitmap, bt_vhd_bitmap_bytes(b),
		  bt_vhd_bitmap_offset(entry));
	for (at = 0; at < b->block_sec; at += run) {
		run = bt_vhd_bits_run(bitmap, at, b->block_sec, &set);
		if (set)
			must_read(im->fd, buf + (size_t)at * 512,
				  (size_t)run * 512,
				  bt_vhd_data_offset(b, entry) +
					  (uint64_t)at * 512);
	}
}

static int cat_blocks(struct image *im)
{
	uint8_t *buf = must_alloc(im->blocks.block_size);
	uint32_t i, sectors;

	for (i = 0; i < bt_vhd_blocks_needed(&im->blocks); i++) {
		sectors = bt_vhd_block_visible_sec(&im->blocks, i);
		read_block(im, i, buf);
		if (fwrite(buf, 512, sectors, stdout) != sectors)
			die("stdout");
	}
	free(buf);
	return 0;
}

static int cat(struct image *im)
{
	uint64_t size = bt_vhd_virtual_size(&im->footer, NULL), at;
	uint8_t buf[4096];
	size_t n;

	if (im->footer.type != BT_VHD_FIXED)
		return cat_blocks(im);
	for (at = 0; at < size; at += n) {
		n = size - at < sizeof(buf) ? (size_t)(size - at) : sizeof(buf);
		must_read(im->fd, buf, n, at);
		if (fwrite(buf, 1, n, stdout) != n)
			die("stdout");
	}
	return 0;
}

/* Data, bitmap, table; the footer moves ahead of them. */
static int fill(struct image *im, uint32_t block, int byte,
		struct bt_fault *fault)
{
	const struct bt_vhd_blocks *b = &im->blocks;
	uint8_t footer[BT_VHD_FOOTER_SIZE], *data, be[4];
	uint64_t stride = bt_vhd_block_stride(b), at;
	uint32_t entry;
	int err;

	if (im->footer.type == BT_VHD_FIXED || block >= b->entries)
		return -EINVAL;
	err = bt_vhd_next_entry(b, im->choice.offset, &entry, fault);
	if (err)
		return err;
	at = bt_vhd_bitmap_offset(entry);
	bt_vhd_footer_encode(&im->footer, footer);
	must_write(im->fd, footer, sizeof(footer), at + stride);
	data = must_alloc(stride);
	bt_vhd_bits_set(data, 0, b->block_sec);
	memset(data + bt_vhd_bitmap_bytes(b), byte, b->block_size);
	must_write(im->fd, data, stride, at);
	bt_vhd_bat_store(be, 0, entry);
	must_write(im->fd, be, 4, b->table_offset + (uint64_t)block * 4);
	free(data);
	return 0;
}

static int create(const char *type, const char *size, const char *path,
		  struct bt_fault *fault)
{
	static const uint8_t uuid[BT_VHD_UUID_SIZE] = { 0xb1, 0x0c };
	struct bt_vhd_layout_spec spec = {
		.type = strcmp(type, "fixed") ? BT_VHD_DYNAMIC : BT_VHD_FIXED,
	};
	uint8_t footer[BT_VHD_FOOTER_SIZE], *buf;
	struct bt_vhd_footer f;
	struct bt_vhd_header h;
	struct bt_vhd_batmap m;
	struct bt_vhd_layout l;
	int err, fd;

	err = bt_vhd_size_round(strtoull(size, NULL, 0), BT_VHD_ROUND_SECTOR,
				&spec.size, fault);
	if (!err)
		err = bt_vhd_layout_plan(&l, &spec, fault);
	if (err)
		return err;
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		die(path);
	bt_vhd_footer_init(&f, spec.type, spec.size, 0, uuid);
	bt_vhd_layout_header(&l, &h);
	bt_vhd_layout_batmap(&l, &m);
	buf = must_alloc(l.metadata_end + 1);
	bt_vhd_layout_encode(&l, &f, &h, &m, NULL, buf);
	must_write(fd, buf, l.metadata_end, 0);
	bt_vhd_footer_encode(&f, footer);
	must_write(fd, footer, sizeof(footer), l.footer_offset);
	free(buf);
	close(fd);
	return 0;
}

static int on_image(int argc, char **argv, struct bt_fault *fault)
{
	bool writes = !strcmp(argv[1], "fill") && argc == 5;
	struct image im;
	int err = load(&im, argv[2], writes ? O_RDWR : O_RDONLY, fault);

	if (!err && writes)
		err = fill(&im, (uint32_t)strtoul(argv[3], NULL, 0),
			   (int)strtoul(argv[4], NULL, 0), fault);
	else if (!err)
		err = strcmp(argv[1], "read") ? info(&im) : cat(&im);
	unload(&im);
	return err;
}

int main(int argc, char **argv)
{
	struct bt_fault fault = { "arguments", 0, "see the source", NULL };
	int err = -EINVAL;

	if (argc == 5 && !strcmp(argv[1], "create"))
		err = create(argv[2], argv[3], argv[4], &fault);
	else if (argc >= 3)
		err = on_image(argc, argv, &fault);
	if (!err)
		return 0;
	fprintf(stderr, "%s is %" PRIu64 ": %s (%s)\n", fault.field,
		fault.value, fault.reason, strerror(-err));
	return 1;
}
