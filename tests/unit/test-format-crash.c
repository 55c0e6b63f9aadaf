/* SPDX-License-Identifier: BSD-3-Clause */
/* Power cuts: an image is written to, all that reaches its file is recorded, and at
 * every moment the file is made as a cut would have left it. It has to open, for
 * reading and for writing, without a repair; every sector has to hold what was
 * last flushed or something written since, never anything else. BLKTAP_SEED
 * repeats a run, BLKTAP_CUTS=all looks at every event. */
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

#include "record.h"
#include "scratch.h"
#include "seed.h"
#include "vbd/vbd.h"
#include "versions.h"

#define SIZE (512u * VERSIONS_SECTORS)
#define SECTORS VERSIONS_SECTORS
#define FILE_MAX (3u << 20)
#define ROUNDS 60
#define DEPTH 16

static struct blktap_context *context; /* the recorded one */
static struct blktap_context *checker;
static struct blktap_disk *disk;
static char dir[64];
static uint64_t state;
static uint32_t next_tag;
static bool has_parent;
static const char *format, *extra;
static uint64_t cluster, tail; /* the file is made so long */
static bool has_past;
static unsigned char first_image[FILE_MAX], image[FILE_MAX], data[SIZE];
static uint64_t first_size;

static uint64_t next_random(void)
{
	return seed_next(&state);
}

static void setup(void)
{
	state = seed_take() | 1;
	record_reset();
	versions_reset();
	next_tag = 1;
	has_parent = false;
	has_past = false;
	cluster = 4096;
	tail = 0;
	scratch_make(dir, sizeof(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &record_backend,
					      &context),
			 0);
	checker = scratch_context();
}

static void teardown(void)
{
	blktap_context_destroy(context);
	blktap_context_destroy(checker);
	record_reset();
	scratch_remove(dir);
}

static const char *in_dir(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* ---- the guest ------------------------------------------------------------ */

struct op {
	struct iovec iov;
	uint32_t first, count, tag;
	uint64_t submitted;
	bool fua, discard, done;
};

static void op_done(void *opaque, int error)
{
	struct op *op = opaque;
	struct version v = { .tag = op->tag,
			     .submitted = op->submitted,
			     .completed = record_tick(),
			     .fua = op->fua,
			     .discard = op->discard };
	uint32_t i;

	ck_assert_int_eq(error, 0);
	op->done = true;
	for (i = 0; i < op->count; i++)
		versions_add(op->first + i, &v);
}

static void submit(struct op *op, enum blktap_op kind)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = kind,
		.flags = (kind == BLKTAP_OP_WRITE_ZEROES ? BLKTAP_MAY_UNMAP
							 : 0) |
			 (op->fua ? BLKTAP_FUA : 0),
		.offset = (uint64_t)op->first * 512,
		.length = (uint64_t)op->count * 512,
		.callback = op_done,
		.opaque = op,
	};

	if (kind == BLKTAP_OP_WRITE) {
		io.iov = &op->iov;
		io.iov_count = 1;
	}
	op->done = false;
	op->submitted = record_tick();
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
}

static void settle(struct op *op)
{
	int i;

	for (i = 0; !op->done && i < 10000; i++)
		ck_assert_int_eq(blktap_context_process(context), 0);
	ck_assert(op->done);
}

static void flush(void)
{
	struct op op = { .count = 0 };

	submit(&op, BLKTAP_OP_FLUSH);
	settle(&op);
	versions_flushed(op.submitted, record.now);
}

/* One in eight is a discard, one in eight zeroes, and of the rest one in eight is
 * to be durable at once. */
static enum blktap_op choose(struct op *op)
{
	uint64_t r = next_random();

	op->tag = r % 8 > 1 ? next_tag++ : 0;
	op->discard = r % 8 == 1;
	op->fua = !op->discard && r / 8 % 8 == 0;
	if (op->discard)
		return BLKTAP_OP_DISCARD;
	return op->tag ? BLKTAP_OP_WRITE : BLKTAP_OP_WRITE_ZEROES;
}

/* Writes at once, each in a part of the disk of its own; some of the blocks are
 * new and some are not. The parts end inside of blocks, where neighbours meet. */
static void write_some(void)
{
	static unsigned char bytes[DEPTH][SIZE / DEPTH];
	struct op ops[DEPTH];
	uint32_t part = SECTORS / DEPTH, from, to, i, n;

	for (i = 0; i < DEPTH; i++) {
		struct op *op = &ops[i];
		enum blktap_op kind = choose(op);

		from = i ? i * part + 4 : 0;
		to = i + 1 < DEPTH ? (i + 1) * part + 4 : SECTORS;
		op->count = (uint32_t)(next_random() % 20) + 1;
		op->first = from + (uint32_t)(next_random() %
					      (to - from - op->count + 1));
		for (n = 0; n < op->count; n++)
			versions_fill(bytes[i] + n * 512, op->first + n,
				      op->tag);
		op->iov.iov_base = bytes[i];
		op->iov.iov_len = op->count * 512;
		submit(op, kind);
	}
	for (i = 0; i < DEPTH; i++)
		settle(&ops[i]);
}

/* ---- the cut -------------------------------------------------------------- */

static struct blktap_disk *open_cut(uint32_t flags, uint64_t at,
				    enum record_model model)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *cut;
	char spec[128];
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	snprintf(spec, sizeof(spec), "%s:%s", format, in_dir("cut.vhd"));
	rc = blktap_disk_open(checker, spec, &options, &cut, &err);
	ck_assert_msg(!rc, "event %" PRIu64 ", model %d: %s", at, model,
		      err ? blktap_error_get_message(err) : "");
	return cut;
}

static void transfer(struct blktap_disk *cut, enum blktap_op op,
		     uint64_t offset, void *buf, uint64_t length)
{
	scratch_transfer(checker, cut, op, offset, buf, length);
}

static void check_sector(uint32_t sector, uint64_t at, enum record_model model)
{
	const unsigned char *b = data + sector * 512;

	if (versions_allow(sector, at, b))
		return;
	versions_print(sector, at);
	ck_abort_msg("event %" PRIu64 ", model %d: sector %u holds %02x%02x%02x"
		     "%02x %02x%02x%02x%02x",
		     at, model, sector, b[0], b[1], b[2], b[3], b[4], b[5],
		     b[6], b[7]);
}

/* QEMU finds leaks at the most; a sample, since it is slow. */
static void check_with_qemu(uint64_t at, enum record_model model)
{
	char command[160];
	int rc;

	if (strcmp(format, "qcow2") || next_random() % 16 ||
	    system("qemu-img --version >/dev/null 2>&1"))
		return;
	snprintf(command, sizeof(command),
		 "qemu-img check -q -f qcow2 %s >/dev/null 2>&1",
		 in_dir("cut.vhd"));
	rc = system(command);
	ck_assert_msg(rc == 0 || WEXITSTATUS(rc) == 3,
		      "event %" PRIu64 ", model %d: qemu-img check: %d", at,
		      model, WEXITSTATUS(rc));
}

/* The first half of the disk gets new blocks, of those that are free and behind
 * the end: none of them is one that the other half is in. */
static void live_on(struct blktap_disk *cut, uint64_t at,
		    enum record_model model)
{
	static unsigned char other[SIZE / 2];
	uint32_t i;

	memset(other, 0xcc, sizeof(other));
	transfer(cut, BLKTAP_OP_DISCARD, 0, NULL, SIZE / 2);
	transfer(cut, BLKTAP_OP_FLUSH, 0, NULL, 0);
	transfer(cut, BLKTAP_OP_WRITE, 0, other, SIZE / 2);
	transfer(cut, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert_msg(!memcmp(data, other, SIZE / 2),
		      "event %" PRIu64 ", model %d: what is written later", at,
		      model);
	for (i = SECTORS / 2; i < SECTORS - 1; i++)
		check_sector(i, at, model);
}

static void check_cut(uint64_t at, enum record_model model)
{
	struct blktap_disk *cut;
	uint64_t size;
	uint32_t i;
	int fd;

	memcpy(image, first_image, first_size);
	size = record_cut(at, model, next_random, image, first_size, FILE_MAX);
	fd = open(in_dir("cut.vhd"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
	ck_assert_int_eq(write(fd, image, size), (ssize_t)size);
	close(fd);
	cut = open_cut(BLKTAP_OPEN_READ_ONLY, at, model);
	transfer(cut, BLKTAP_OP_READ, 0, data, SIZE);
	ck_assert_int_eq(blktap_disk_close(cut), 0);
	for (i = 0; i < SECTORS; i++)
		check_sector(i, at, model);
	check_with_qemu(at, model);
	/* work goes on, and what grows anew shows nothing of what was lost */
	cut = open_cut(0, at, model);
	transfer(cut, BLKTAP_OP_WRITE, SIZE - 512, data, 512);
	memset(data, 0xee, SIZE);
	transfer(cut, BLKTAP_OP_READ, 0, data, SIZE);
	versions_fill(data + SIZE - 512, SECTORS - 1,
		      versions_oldest_tag(SECTORS - 1, at));
	for (i = 0; i < SECTORS; i++)
		check_sector(i, at, model);
	if (next_random() % 4 == 0)
		live_on(cut, at, model);
	ck_assert_int_eq(blktap_disk_close(cut), 0);
}

/* A header is written once in a while, and what it says is all: every event
 * around that. */
static uint32_t check_around_headers(void)
{
	uint32_t i, cuts = 0;
	uint64_t at;
	int model;

	for (i = 0; i < record.count; i++) {
		const struct record_op *op = &record.ops[i];

		if (op->op != BT_IO_WRITE || op->offset)
			continue;
		at = op->submitted > 12 ? op->submitted - 12 : 0;
		for (; at <= op->completed + 12 && at <= record.now; at++)
			for (model = 0; model < RECORD_MODELS; model++, cuts++)
				check_cut(at, (enum record_model)model);
	}
	return cuts;
}

/* Right behind the answer to a flush, or to a write that is to be durable at once,
 * nothing else is needed. */
static uint32_t check_behind_answers(void)
{
	uint64_t one_of = getenv("BLKTAP_VALGRIND") ? 32 : 4;
	uint32_t cuts = 0;
	uint64_t at = 0;

	while ((at = versions_next_durable(at)))
		if (next_random() % one_of == 0) {
			check_cut(at, RECORD_NOTHING);
			cuts++;
		}
	return cuts;
}

static void check_cuts(void)
{
	const char *text = getenv("BLKTAP_CUTS");
	uint64_t stride = text ? 1 : record.now / seed_rounds(80) + 1;
	uint64_t at;
	uint32_t cuts = 0;
	int model;

	for (at = 0; at <= record.now; at += 1 + next_random() % stride)
		for (model = 0; model < RECORD_MODELS; model++) {
			check_cut(at, (enum record_model)model);
			cuts++;
		}
	cuts += check_around_headers() + check_behind_answers();
	printf("%u images of %" PRIu64 " events\n", cuts, record.now);
	fflush(stdout);
}

/* ---- the run -------------------------------------------------------------- */

static void make_parent(void)
{
	uint32_t i;
	int fd = open(in_dir("base.raw"), O_CREAT | O_WRONLY, 0600);

	for (i = 0; i < SECTORS; i++)
		versions_fill(data + i * 512, i, 0xffff);
	ck_assert_int_eq(write(fd, data, SIZE), SIZE);
	close(fd);
	has_parent = true;
}

/* An earlier session that leaves free clusters in the file. */
static void live_before(void)
{
	struct blktap_disk *past;
	char spec[128];

	snprintf(spec, sizeof(spec), "%s:%s", format, in_dir("a.vhd"));
	ck_assert_int_eq(blktap_disk_open(checker, spec, NULL, &past, NULL), 0);
	memset(data, 0xdd, SIZE);
	transfer(past, BLKTAP_OP_WRITE, 0, data, SIZE);
	transfer(past, BLKTAP_OP_DISCARD, 0, NULL, SIZE);
	ck_assert_int_eq(blktap_disk_close(past), 0);
}

static void make(void)
{
	struct blktap_image_options options;
	struct blktap_error *err = NULL;
	uint32_t i;
	int fd, rc;

	blktap_image_options_init(&options);
	options.length = SIZE;
	options.cluster_size = cluster;
	options.extra = extra;
	options.backing = has_parent ? "base.raw" : NULL;
	options.backing_format = "raw";
	rc = blktap_image_create(format, in_dir("a.vhd"), &options, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	for (i = 0; i < SECTORS; i++)
		versions_add(
			i, &(struct version){ .tag = has_parent ? 0xffff : 0 });
	if (has_past)
		live_before();
	if (tail)
		ck_assert_int_eq(truncate(in_dir("a.vhd"), (off_t)tail), 0);
	fd = open(in_dir("a.vhd"), O_RDONLY);
	first_size = (uint64_t)read(fd, first_image, sizeof(first_image));
	close(fd);
}

static void begin(bool parent)
{
	struct blktap_error *err = NULL;
	char spec[128];
	int rc;

	next_tag = 0x10000;
	if (parent)
		make_parent();
	make();
	/* small, so that the cache commits by itself as well */
	snprintf(spec, sizeof(spec), "%s(\"%s\", cache=%s)", format,
		 in_dir("a.vhd"), strcmp(format, "vhd") ? "256K" : "64K");
	rc = blktap_disk_open(context, spec, NULL, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void run(bool parent)
{
	int i;

	begin(parent);
	for (i = 0; i < ROUNDS; i++) {
		bool on = next_random() & 1;

		if (on != bt_vbd_get_outlive(disk))
			bt_vbd_set_outlive(disk, on);
		write_some();
		if (next_random() % 3 == 0)
			flush();
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	check_cuts();
}

START_TEST(a_cut_loses_nothing_flushed_of_a_dynamic_disk)
{
	format = "vhd";
	extra = "round=sector";
	run(false);
}
END_TEST

START_TEST(a_cut_loses_nothing_flushed_of_a_differencing_disk)
{
	format = "vhd";
	extra = NULL;
	run(true);
}
END_TEST

static const char *const qcow2_extra[] = { NULL, "version=2",
					   "refcount_bits=1" };

START_TEST(a_cut_loses_nothing_flushed_of_a_qcow2_image)
{
	format = "qcow2";
	extra = qcow2_extra[_i];
	run(false);
}
END_TEST

START_TEST(a_cut_loses_nothing_flushed_of_a_qcow2_image_on_a_base)
{
	format = "qcow2";
	extra = NULL;
	run(true);
}
END_TEST

static unsigned int table_clusters(void)
{
	unsigned char header[64];
	int fd = open(in_dir("a.vhd"), O_RDONLY);

	ck_assert_int_eq(read(fd, header, sizeof(header)), sizeof(header));
	close(fd);
	return header[59];
}

/* 512-byte clusters and 64-bit counts: the table reaches 2 MiB, and the file ends
 * a little before. */
START_TEST(a_cut_loses_nothing_flushed_while_a_refcount_table_grows)
{
	format = "qcow2";
	extra = "refcount_bits=64";
	cluster = 512;
	tail = (2u << 20) - 16384;
	run(false);
	ck_assert_uint_gt(table_clusters(), 1);
}
END_TEST

START_TEST(a_cut_loses_nothing_flushed_in_space_that_was_used_before)
{
	format = "qcow2";
	extra = NULL;
	has_past = true;
	run(false);
}
END_TEST

START_TEST(a_cut_loses_nothing_flushed_of_a_qcow_image)
{
	format = "qcow";
	extra = NULL;
	run(false);
}
END_TEST

/* The cluster that a neighbour brings is not on disk yet, or not synced. */
START_TEST(durable_write_beside_one_that_allocates_is_durable)
{
	struct op ops[2] = { { .count = 4 }, { .count = 4, .fua = true } };
	unsigned char bytes[2][4 * 512];
	uint32_t c, i, n;

	format = "qcow2";
	extra = NULL;
	begin(false);
	if (_i)
		bt_vbd_set_outlive(disk, true);
	for (c = 0; c < 64; c++) {
		for (i = 0; i < 2; i++) {
			ops[i].first = c * 8 + i * 4;
			ops[i].tag = next_tag++;
			for (n = 0; n < 4; n++)
				versions_fill(bytes[i] + n * 512,
					      ops[i].first + n, ops[i].tag);
			ops[i].iov.iov_base = bytes[i];
			ops[i].iov.iov_len = sizeof(bytes[i]);
			submit(&ops[i], BLKTAP_OP_WRITE);
			if (_i)
				settle(&ops[i]);
		}
		settle(&ops[1]);
		check_cut(record.now, RECORD_NOTHING);
		settle(&ops[0]);
		flush();
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("format-crash");
	TCase *tc = tcase_create("cuts");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, a_cut_loses_nothing_flushed_of_a_dynamic_disk);
	tcase_add_test(tc, a_cut_loses_nothing_flushed_of_a_differencing_disk);
	tcase_add_loop_test(tc, a_cut_loses_nothing_flushed_of_a_qcow2_image, 0,
			    3);
	tcase_add_test(tc,
		       a_cut_loses_nothing_flushed_of_a_qcow2_image_on_a_base);
	tcase_add_test(
		tc, a_cut_loses_nothing_flushed_while_a_refcount_table_grows);
	tcase_add_test(
		tc, a_cut_loses_nothing_flushed_in_space_that_was_used_before);
	tcase_add_test(tc, a_cut_loses_nothing_flushed_of_a_qcow_image);
	tcase_add_loop_test(
		tc, durable_write_beside_one_that_allocates_is_durable, 0, 2);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
