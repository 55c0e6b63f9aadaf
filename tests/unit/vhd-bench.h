/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of the VHD driver have in common: a model, and steps that compare it
 * with the disk. */
#ifndef BT_TESTS_VHD_BENCH_H
#define BT_TESTS_VHD_BENCH_H

#include "unit.h"

#include <blktap/blktap.h>
#include <blktap/image.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faulty.h"
#include "seed.h"
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

static inline uint64_t next_random(void)
{
	return seed_next(&state);
}

static inline void seed(void)
{
	state = seed_take() | 1;
}

static const char *key_file; /* of an encrypted image; or NULL */

static inline void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	key_file = NULL;
	disk = NULL;
	seed();
}

static inline void setup_faulty(void)
{
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	key_file = NULL;
	disk = NULL;
	seed();
}

static inline void teardown(void)
{
	char command[64];

	faulty_reset();
	blktap_disk_close(disk);
	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* The path of a file of the test; valid until the fourth call after it. */
static inline const char *in_dir(const char *name)
{
	static char paths[4][96];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

/* ---- images --------------------------------------------------------------- */

static inline int try_make(const char *name, uint64_t size, const char *backing,
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

static inline void make(const char *name, uint64_t size, const char *backing,
			const char *format, const char *extra)
{
	struct blktap_error *err = NULL;
	int rc = try_make(name, size, backing, format, extra, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static inline void make_raw(const char *name, const void *data, size_t size)
{
	int fd = open(in_dir(name), O_CREAT | O_WRONLY | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, data, size, 0), (ssize_t)size);
	close(fd);
}

static inline void open_image(const char *name, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char spec[256];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	/* small, so that pages and bitmaps are given up and read again */
	snprintf(spec, sizeof(spec), "vhd(\"%s\", cache=64K%s%s)", in_dir(name),
		 key_file ? ", key=file:" : "",
		 key_file ? in_dir(key_file) : "");
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static inline void close_image(void)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = NULL;
}

static inline void refuse(const char *name, int code, const char *part)
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

/* False: there is no encryption in this build. */
static inline bool encrypt(const char *name)
{
	struct blktap_vhd_key_hash hash = { .is_set = true };
	unsigned char key[64];
	struct blktap_vhd *vhd;
	size_t i;
	int fd = open(in_dir("key"), O_CREAT | O_WRONLY, 0600);

	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)(i * 5 + 1);
	ck_assert_int_eq(write(fd, key, sizeof(key)), sizeof(key));
	close(fd);
	if (blktap_vhd_hash_key(key, sizeof(key), &hash, NULL) == -ENOTSUP)
		return false;
	ck_assert_int_eq(
		blktap_vhd_open(in_dir(name), BLKTAP_VHD_WRITE, &vhd, NULL), 0);
	ck_assert_int_eq(blktap_vhd_set_key_hash(vhd, &hash, NULL), 0);
	blktap_vhd_close(vhd);
	key_file = "key";
	return true;
}

/* ---- requests ------------------------------------------------------------- */

struct op {
	struct iovec iov;
	bool done;
	int error;
};

static inline void op_done(void *opaque, int error)
{
	struct op *op = opaque;

	ck_assert(!op->done);
	op->done = true;
	op->error = error;
}

static inline void submit(struct op *op, struct blktap_io *io, void *data)
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

static inline void settle(struct op *op)
{
	int i;

	for (i = 0; !op->done && i < 30000; i++)
		ck_assert_int_eq(blktap_context_run(context, 1), 0);
	ck_assert(op->done);
}

static inline int run(enum blktap_op kind, uint64_t offset, uint64_t length,
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

static inline void compare(uint64_t offset, uint64_t length)
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
static inline uint32_t check_status(uint64_t offset, uint64_t length)
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

static inline void write_random(uint64_t offset, uint64_t length)
{
	uint64_t i;

	for (i = 0; i < length; i++)
		model[offset + i] = (unsigned char)(next_random() >> 24);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, offset, length, model + offset,
			     next_random() % 8 ? 0 : BLKTAP_FUA),
			 0);
}

/* One step; keeps says that a discard leaves the data alone. */
static inline void step(bool keeps)
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
static inline void check_footers(const char *name)
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

static inline void steps(const char *name, bool keeps)
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

static inline void make_base(void)
{
	size_t i;

	memset(model, 0, sizeof(model));
	for (i = 0; i < BASE_SIZE; i++)
		model[i] = i / 8192 % 2 ? (unsigned char)next_random() : 0;
	make_raw("base.raw", model, BASE_SIZE);
}

/* ---- the model ------------------------------------------------------------ */

#endif
