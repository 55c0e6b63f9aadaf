/* SPDX-License-Identifier: BSD-3-Clause */
/* The VHD driver against an array of bytes, on images of each type and on
 * chains; and what it does when the file under it fails. BLKTAP_SEED repeats a
 * run. */
#include "unit.h"

#include <blktap/blktap.h>
#include <blktap/image.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "faulty.h"
#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "libvhd/locator.h"
#include "vbd/vbd.h"

#define SIZE (1u << 20)
#define BASE_SIZE (SIZE / 2 + 512) /* the parent is the smaller one */
#define BLOCK 4096u
#define OPS 1500

static struct blktap_context *context;
static struct blktap_disk *disk;
static char dir[] = "/var/tmp/blktap-test-vhd-XXXXXX";
static uint64_t state;
static unsigned char model[SIZE], buffer[SIZE];

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void seed(void)
{
	const char *text = getenv("BLKTAP_SEED");

	state = text ? strtoull(text, NULL, 0)
		     : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
	state |= 1;
	printf("BLKTAP_SEED=%" PRIu64 "\n", state);
	fflush(stdout);
}

static void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	disk = NULL;
	seed();
}

static void setup_faulty(void)
{
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	disk = NULL;
	seed();
}

static void teardown(void)
{
	char command[64];

	faulty_reset();
	blktap_disk_close(disk);
	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* The path of a file of the test; valid until the fourth call after it. */
static const char *in_dir(const char *name)
{
	static char paths[4][96];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

/* ---- images --------------------------------------------------------------- */

static int try_make(const char *name, uint64_t size, const char *backing,
		    const char *format, const char *extra,
		    struct blktap_error **err)
{
	struct blktap_image_options options;

	blktap_image_options_init(&options);
	options.length = size;
	options.backing = backing;
	options.backing_format = format;
	options.extra = extra;
	options.cluster_size = extra && strstr(extra, "fixed") ? 0 : BLOCK;
	return blktap_image_create("vhd", in_dir(name), &options, err);
}

static void make(const char *name, uint64_t size, const char *backing,
		 const char *format, const char *extra)
{
	struct blktap_error *err = NULL;
	int rc = try_make(name, size, backing, format, extra, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void make_raw(const char *name, const void *data, size_t size)
{
	int fd = open(in_dir(name), O_CREAT | O_WRONLY | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, data, size, 0), (ssize_t)size);
	close(fd);
}

static void open_image(const char *name, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	/* small, so that pages and bitmaps are given up and read again */
	snprintf(spec, sizeof(spec), "vhd(\"%s\", cache=64K)", in_dir(name));
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void close_image(void)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = NULL;
}

static void refuse(const char *name, int code, const char *part)
{
	struct blktap_error *err = NULL;
	char spec[128];

	snprintf(spec, sizeof(spec), "vhd:%s", in_dir(name));
	ck_assert_int_eq(blktap_disk_open(context, spec, NULL, &disk, &err),
			 code);
	ck_assert_msg(strstr(blktap_error_get_message(err), part) != NULL,
		      "'%s' lacks '%s'", blktap_error_get_message(err), part);
	blktap_error_destroy(err);
	disk = NULL;
}

/* ---- requests ------------------------------------------------------------- */

struct op {
	struct iovec iov;
	bool done;
	int error;
};

static void op_done(void *opaque, int error)
{
	struct op *op = opaque;

	ck_assert(!op->done);
	op->done = true;
	op->error = error;
}

static void submit(struct op *op, struct blktap_io *io, void *data)
{
	memset(op, 0, sizeof(*op));
	op->iov.iov_base = data;
	op->iov.iov_len = io->length;
	io->size = sizeof(*io);
	if (data) {
		io->iov = &op->iov;
		io->iov_count = 1;
	}
	io->callback = op_done;
	io->opaque = op;
	ck_assert_int_eq(blktap_disk_submit(disk, io), 0);
}

static void settle(struct op *op)
{
	int i;

	for (i = 0; !op->done && i < 30000; i++)
		ck_assert_int_eq(blktap_context_run(context, 1), 0);
	ck_assert(op->done);
}

static int run(enum blktap_op kind, uint64_t offset, uint64_t length,
	       void *data, uint32_t flags)
{
	struct blktap_io io = {
		.op = kind, .flags = flags, .offset = offset, .length = length
	};
	struct op op;

	submit(&op, &io, data);
	settle(&op);
	return op.error;
}

static void compare(uint64_t offset, uint64_t length)
{
	uint64_t i;

	memset(buffer, 0xee, length);
	ck_assert_int_eq(run(BLKTAP_OP_READ, offset, length, buffer, 0), 0);
	for (i = 0; i < length && buffer[i] == model[offset + i]; i++)
		;
	ck_assert_msg(i == length, "byte %" PRIu64 " is %02x, not %02x",
		      offset + i, buffer[i], model[offset + i]);
}

/* The extents cover the range, and what they call zero is. */
static uint32_t check_status(uint64_t offset, uint64_t length)
{
	struct blktap_extent extents[64];
	uint32_t count = 0, i, deepest = 0;
	struct blktap_io io = { .op = BLKTAP_OP_BLOCK_STATUS,
				.offset = offset,
				.length = length,
				.extents = extents,
				.extent_max = 64,
				.extent_count = &count };
	uint64_t at = offset;
	struct op op;

	submit(&op, &io, NULL);
	settle(&op);
	ck_assert_int_eq(op.error, 0);
	ck_assert_uint_gt(count, 0);
	for (i = 0; i < count; i++) {
		uint64_t b;

		ck_assert_uint_gt(extents[i].length, 0);
		ck_assert_uint_le(extents[i].length, offset + length - at);
		for (b = at; b < at + extents[i].length && !model[b]; b++)
			;
		at += extents[i].length;
		ck_assert(!(extents[i].flags & BLKTAP_EXTENT_ZERO) || b == at);
		if (extents[i].depth > deepest)
			deepest = extents[i].depth;
	}
	ck_assert(at == offset + length || count == 64);
	return deepest;
}

static void write_random(uint64_t offset, uint64_t length)
{
	uint64_t i;

	for (i = 0; i < length; i++)
		model[offset + i] = (unsigned char)(next_random() >> 24);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, offset, length, model + offset,
			     next_random() % 8 ? 0 : BLKTAP_FUA),
			 0);
}

/* One step; keeps says that a discard leaves the data alone. */
static void step(bool keeps)
{
	uint64_t align = next_random() % 4 ? 512 : 1;
	uint64_t offset = next_random() % SIZE / align * align;
	uint64_t length = (next_random() % (5 * BLOCK) / align + 1) * align;
	uint64_t from, to;

	if (length > SIZE - offset)
		length = SIZE - offset;
	switch (next_random() % 10) {
	case 0:
	case 1:
	case 2:
		write_random(offset, length);
		break;
	case 3:
		ck_assert_int_eq(run(BLKTAP_OP_WRITE_ZEROES, offset, length,
				     NULL,
				     next_random() % 2 ? BLKTAP_MAY_UNMAP : 0),
				 0);
		memset(model + offset, 0, length);
		break;
	case 4:
		ck_assert_int_eq(
			run(BLKTAP_OP_DISCARD, offset, length, NULL, 0), 0);
		from = (offset + 511) / 512 * 512;
		to = (offset + length) / 512 * 512;
		if (!keeps && to > from)
			memset(model + from, 0, to - from);
		break;
	case 5:
		ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), 0);
		break;
	case 6:
		check_status(offset, length);
		break;
	default:
		compare(offset, length);
		break;
	}
}

/* Both ends of the closed file hold the same footer. */
static void check_footers(const char *name)
{
	uint8_t head[512], tail[1024];
	int fd = open(in_dir(name), O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END);
	struct bt_vhd_footer_choice choice;
	struct bt_vhd_footer footer;

	ck_assert_int_eq(pread(fd, head, sizeof(head), 0), sizeof(head));
	ck_assert_int_eq(pread(fd, tail, sizeof(tail), size - 1024), 1024);
	close(fd);
	ck_assert_int_eq(bt_vhd_footer_pick(head, 512, tail, 1024,
					    (uint64_t)size, &footer, &choice,
					    NULL),
			 0);
	ck_assert_int_eq(choice.place, BT_VHD_FOOTER_TAIL);
	ck_assert(!choice.differ);
}

static void steps(const char *name, bool keeps)
{
	int i;

	open_image(name, 0);
	for (i = 0; i < OPS; i++) {
		if (i % 400 == 399) {
			close_image();
			check_footers(name);
			open_image(name,
				   i % 800 == 799 ? BLKTAP_OPEN_BUFFERED : 0);
			compare(0, SIZE);
		}
		step(keeps);
	}
	close_image();
	open_image(name, BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	close_image();
}

static void make_base(void)
{
	size_t i;

	memset(model, 0, sizeof(model));
	for (i = 0; i < BASE_SIZE; i++)
		model[i] = i / 8192 % 2 ? (unsigned char)next_random() : 0;
	make_raw("base.raw", model, BASE_SIZE);
}

/* ---- the model ------------------------------------------------------------ */

START_TEST(a_dynamic_disk_is_what_was_written_to_it)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	steps("a.vhd", false);
}
END_TEST

START_TEST(a_fixed_disk_is_what_was_written_to_it)
{
	struct stat st;

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, "type=fixed");
	steps("a.vhd", false);
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	ck_assert_int_eq(st.st_size, SIZE + 512);
}
END_TEST

START_TEST(a_child_of_a_smaller_raw_disk_is_what_was_written_to_it)
{
	static unsigned char before[BASE_SIZE], after[BASE_SIZE];
	int fd;

	make_base();
	memcpy(before, model, BASE_SIZE);
	make("a.vhd", SIZE, "base.raw", "raw", NULL);
	steps("a.vhd", true);
	fd = open(in_dir("base.raw"), O_RDONLY);
	ck_assert_int_eq(read(fd, after, BASE_SIZE), BASE_SIZE);
	close(fd);
	ck_assert(!memcmp(before, after, BASE_SIZE));
}
END_TEST

START_TEST(a_chain_is_what_was_written_to_its_top)
{
	static unsigned char middle[SIZE];

	make_base();
	make("a.vhd", SIZE, "base.raw", "raw", NULL);
	open_image("a.vhd", 0);
	write_random(3 * BLOCK + 512, 9 * BLOCK);
	write_random(SIZE - 1024, 1024);
	close_image();
	memcpy(middle, model, SIZE);
	make("b.vhd", 0, in_dir("a.vhd"), "vhd", NULL);
	open_image("b.vhd", 0);
	ck_assert_uint_eq(check_status(0, SIZE), 2);
	close_image();
	steps("b.vhd", true);
	memcpy(model, middle, SIZE);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
}
END_TEST

START_TEST(two_writes_into_one_new_block_share_it)
{
	struct op ops[64];
	struct stat st;
	unsigned int i;

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	for (i = 0; i < 64; i++) {
		struct blktap_io io = { .op = BLKTAP_OP_WRITE,
					.offset = (uint64_t)i * 512,
					.length = 512 };

		memset(model + i * 512, (int)i + 1, 512);
		submit(&ops[i], &io, model + i * 512);
	}
	for (i = 0; i < 64; i++) {
		settle(&ops[i]);
		ck_assert_int_eq(ops[i].error, 0);
	}
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
	/* 8 blocks of data and their padded bitmaps, and little before */
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	ck_assert_int_le(st.st_size, 8 * 2 * BLOCK + 8192);
	open_image("a.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_new_block_of_2_mib_is_not_filled_with_zeroes)
{
	struct blktap_image_options options;
	struct stat st;

	memset(model, 0, sizeof(model));
	blktap_image_options_init(&options);
	options.length = UINT64_C(2040) << 30;
	ck_assert_int_eq(
		blktap_image_create("vhd", in_dir("a.vhd"), &options, NULL), 0);
	open_image("a.vhd", 0);
	memset(buffer, 7, 512);
	ck_assert_int_eq(
		run(BLKTAP_OP_WRITE, options.length - 512, 512, buffer, 0), 0);
	ck_assert_int_eq(
		run(BLKTAP_OP_READ, options.length - 1024, 1024, buffer, 0), 0);
	ck_assert_uint_eq(buffer[0], 0);
	ck_assert_uint_eq(buffer[512], 7);
	close_image();
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	/* the table alone is 4 MiB */
	ck_assert_int_gt(st.st_size, 6 << 20);
	ck_assert_int_lt(st.st_blocks * 512, 5 << 20);
}
END_TEST

/* ---- refusals ------------------------------------------------------------- */

static void poke(const char *name, off_t offset, const void *data, size_t len)
{
	int fd = open(in_dir(name), O_RDWR);

	ck_assert_int_eq(pwrite(fd, data, len, offset), (ssize_t)len);
	close(fd);
}

static void make_with_blocks(const char *name)
{
	memset(model, 0, sizeof(model));
	make(name, SIZE, NULL, NULL, NULL);
	open_image(name, 0);
	write_random(0, 4 * BLOCK);
	close_image();
}

START_TEST(a_bad_table_is_refused_before_anything_is_written)
{
	static const unsigned char metadata[] = { 0, 0, 0, 1 },
				   beyond[] = { 0, 1, 0, 0 };
	unsigned char entry[4];
	int fd;

	make_with_blocks("a.vhd");
	fd = open(in_dir("a.vhd"), O_RDONLY);
	ck_assert_int_eq(pread(fd, entry, 4, 1536), 4);
	close(fd);
	poke("a.vhd", 1540, metadata, 4);
	refuse("a.vhd", -EINVAL, "BAT entry of block 1 is 1");
	poke("a.vhd", 1540, beyond, 4);
	refuse("a.vhd", -EINVAL, "BAT entry of block 1 is 65536");
	poke("a.vhd", 1540, entry, 4);
	refuse("a.vhd", -EINVAL, "lie over each other");
	/* who only reads gets what is good */
	poke("a.vhd", 1540, beyond, 4);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_READ, BLOCK, BLOCK, buffer, 0), -EIO);
	compare(2 * BLOCK, BLOCK);
}
END_TEST

START_TEST(a_footer_that_is_lost_is_written_anew)
{
	unsigned char garbage[512];
	struct stat st;

	memset(garbage, 0xc7, sizeof(garbage));
	make_with_blocks("a.vhd");
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	poke("a.vhd", st.st_size - 512, garbage, 512);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	close_image();
	open_image("a.vhd", 0);
	write_random(9 * BLOCK, BLOCK);
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
	/* the same for the copy in front */
	poke("a.vhd", 0, garbage, 512);
	open_image("a.vhd", 0);
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
}
END_TEST

START_TEST(a_read_only_opening_writes_nothing)
{
	struct stat before, after;

	make_with_blocks("a.vhd");
	ck_assert_int_eq(truncate(in_dir("a.vhd"), 20 * BLOCK), 0);
	ck_assert_int_eq(stat(in_dir("a.vhd"), &before), 0);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), 0);
	close_image();
	ck_assert_int_eq(stat(in_dir("a.vhd"), &after), 0);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_int_eq(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
}
END_TEST

START_TEST(a_parent_that_is_missing_or_another_is_named)
{
	make_with_blocks("a.vhd");
	make("b.vhd", 0, "a.vhd", "vhd", NULL);
	make("other.vhd", SIZE, NULL, NULL, NULL);
	ck_assert_int_eq(rename(in_dir("a.vhd"), in_dir("moved.vhd")), 0);
	refuse("b.vhd", -ENOENT, "a.vhd");
	ck_assert_int_eq(rename(in_dir("other.vhd"), in_dir("a.vhd")), 0);
	refuse("b.vhd", -EINVAL, "but it was made over");
}
END_TEST

START_TEST(a_chain_that_moved_finds_its_new_parent_first)
{
	char command[160];

	make_with_blocks("a.vhd");
	make("b.vhd", 0, "a.vhd", "vhd", NULL);
	snprintf(command, sizeof(command), "mkdir %s/new && cp %s/*.vhd %s/new",
		 dir, dir, dir);
	ck_assert_int_eq(system(command), 0);
	open_image("a.vhd", 0);
	memset(buffer, 1, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, BLOCK, buffer, 0), 0);
	close_image();
	open_image("new/b.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_raw_parent_is_never_taken_for_an_image)
{
	unsigned char *image = calloc(1, SIZE);
	int fd;

	/* the guest of the raw disk writes a VHD into it */
	make_with_blocks("inner.vhd");
	fd = open(in_dir("inner.vhd"), O_RDONLY);
	ck_assert_int_gt(read(fd, image, SIZE), 0);
	close(fd);
	memcpy(model, image, SIZE);
	make_raw("base.raw", image, SIZE);
	make("a.vhd", 0, "base.raw", "raw", NULL);
	open_image("a.vhd", 0);
	compare(0, SIZE);
	free(image);
}
END_TEST

/* ---- faults --------------------------------------------------------------- */

START_TEST(space_that_is_short_fails_only_who_needs_it)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	write_random(0, BLOCK);
	/* the bitmap of the next new block */
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 1, .error = -ENOSPC });
	memset(buffer, 9, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 8 * BLOCK, BLOCK, buffer, 0),
			 -ENOSPC);
	faulty_reset();
	compare(0, SIZE);
	/* its data */
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 3, .error = -ENOSPC });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 8 * BLOCK, BLOCK, buffer, 0),
			 -ENOSPC);
	faulty_reset();
	compare(0, SIZE);
	write_random(8 * BLOCK, BLOCK);
	close_image();
	check_footers("a.vhd");
	open_image("a.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_footer_that_could_not_be_written_comes_with_the_flush)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 2, .error = -EIO });
	write_random(0, BLOCK);
	faulty_reset();
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), 0);
	close_image();
	check_footers("a.vhd");
}
END_TEST

START_TEST(a_failed_flush_stays_failed)
{
	unsigned char data[512] = { 1 };

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	/* no FUA: its flush would leave the next one nothing to do */
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, 512, data, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .nth = 1, .error = -EIO });
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), -EIO);
	faulty_reset();
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(blktap_disk_close(disk), -EIO);
	disk = NULL;
	make("b.vhd", SIZE, NULL, NULL, NULL);
}
END_TEST

/* Every operation of a long run may fail; what failed is unknown, the rest is
 * as it was written, and the image stays sound. */
START_TEST(random_faults_lose_nothing_else)
{
	static bool unknown[SIZE / 512];
	unsigned int i, failed = 0;

	memset(model, 0, sizeof(model));
	memset(unknown, 0, sizeof(unknown));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	for (i = 0; i < 600; i++) {
		uint64_t sector = next_random() % (SIZE / 512 - 24);
		uint64_t count = next_random() % 24 + 1, s;
		int rc;

		faulty_reset();
		if (next_random() % 3 == 0)
			faulty_add((struct faulty_rule){
				.op = next_random() % 2 ? BT_IO_WRITE
							: BT_IO_READ,
				.nth = (uint32_t)(next_random() % 4 + 1),
				.error = next_random() % 2 ? -ENOSPC : -EIO });
		memset(buffer, (int)i, count * 512);
		rc = run(BLKTAP_OP_WRITE, sector * 512, count * 512, buffer, 0);
		failed += rc != 0;
		if (!rc)
			memset(model + sector * 512, (int)i, count * 512);
		for (s = sector; s < sector + count; s++)
			unknown[s] = rc != 0;
		faulty_reset();
		if (i % 50 == 49) {
			close_image();
			open_image("a.vhd", 0);
		}
	}
	ck_assert_uint_gt(failed, 20);
	close_image();
	check_footers("a.vhd");
	open_image("a.vhd", 0);
	for (i = 0; i < SIZE / 512; i++)
		if (!unknown[i])
			compare((uint64_t)i * 512, 512);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhd-driver");
	TCase *tc = tcase_create("files");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_dynamic_disk_is_what_was_written_to_it);
	tcase_add_test(tc, a_fixed_disk_is_what_was_written_to_it);
	tcase_add_test(tc,
		       a_child_of_a_smaller_raw_disk_is_what_was_written_to_it);
	tcase_add_test(tc, a_chain_is_what_was_written_to_its_top);
	tcase_add_test(tc, two_writes_into_one_new_block_share_it);
	tcase_add_test(tc, a_new_block_of_2_mib_is_not_filled_with_zeroes);
	tcase_add_test(tc, a_bad_table_is_refused_before_anything_is_written);
	tcase_add_test(tc, a_footer_that_is_lost_is_written_anew);
	tcase_add_test(tc, a_read_only_opening_writes_nothing);
	tcase_add_test(tc, a_parent_that_is_missing_or_another_is_named);
	tcase_add_test(tc, a_chain_that_moved_finds_its_new_parent_first);
	tcase_add_test(tc, a_raw_parent_is_never_taken_for_an_image);
	suite_add_tcase(suite, tc);

	tc = tcase_create("faults");
	tcase_add_checked_fixture(tc, setup_faulty, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, space_that_is_short_fails_only_who_needs_it);
	tcase_add_test(tc,
		       a_footer_that_could_not_be_written_comes_with_the_flush);
	tcase_add_test(tc, a_failed_flush_stays_failed);
	tcase_add_test(tc, random_faults_lose_nothing_else);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
