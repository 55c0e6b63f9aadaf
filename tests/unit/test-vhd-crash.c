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
#include <sys/wait.h>
#include <unistd.h>

#include "record.h"
#include "seed.h"
#include "vbd/vbd.h"

#define SIZE (512u << 10)
#define SECTORS (SIZE / 512)
#define FILE_MAX (3u << 20)
#define ROUNDS 60
#define DEPTH 8
#define VERSIONS 64 /* kept of a sector */

/* What a sector was, in order. Version 0 is what the disk began with. */
struct version {
	uint32_t tag; /* 0: zeroes */
	uint64_t submitted, completed;
};
static struct version history[SECTORS][VERSIONS];
static uint32_t versions[SECTORS];

struct flush {
	uint64_t submitted, completed;
};
static struct flush flushes[ROUNDS];
static uint32_t flush_count;

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
	struct blktap_context_options options = {
		.size = sizeof(options),
		.engine = BLKTAP_ENGINE_SYNC,
	};

	state = seed_take() | 1;
	record_reset();
	memset(versions, 0, sizeof(versions));
	flush_count = 0;
	next_tag = 1;
	has_parent = false;
	has_past = false;
	cluster = 4096;
	tail = 0;
	/* memory, where there is such a directory: cuts by the hundred */
	snprintf(dir, sizeof(dir), "%s/blktap-cut-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &record_backend,
					      &context),
			 0);
	ck_assert_int_eq(blktap_context_create(&options, &checker, NULL), 0);
}

static void teardown(void)
{
	char command[96];

	blktap_context_destroy(context);
	blktap_context_destroy(checker);
	record_reset();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void fill(unsigned char *sector, uint32_t number, uint32_t tag)
{
	uint32_t i, words[2] = { number, tag };

	for (i = 0; i < 512; i += 8)
		if (tag)
			memcpy(sector + i, words, 8);
		else
			memset(sector + i, 0, 8);
}

static void add_version(uint32_t sector, uint32_t tag, uint64_t submitted,
			uint64_t completed)
{
	struct version *v = &history[sector][versions[sector]++];

	ck_assert_uint_le(versions[sector], VERSIONS);
	v->tag = tag;
	v->submitted = submitted;
	v->completed = completed;
}

/* ---- the guest ------------------------------------------------------------ */

struct op {
	struct iovec iov;
	uint32_t first, count, tag;
	uint64_t submitted;
	bool done;
};

static void op_done(void *opaque, int error)
{
	struct op *op = opaque;
	uint64_t now = record_tick();
	uint32_t i;

	ck_assert_int_eq(error, 0);
	op->done = true;
	for (i = 0; i < op->count; i++)
		add_version(op->first + i, op->tag, op->submitted, now);
}

static void submit(struct op *op, enum blktap_op kind)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = kind,
		.flags = kind == BLKTAP_OP_WRITE_ZEROES ? BLKTAP_MAY_UNMAP : 0,
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
	flushes[flush_count].submitted = op.submitted;
	flushes[flush_count++].completed = record.now;
}

/* Writes at once, each in a part of the disk of its own; some of the blocks are
 * new and some are not. */
static void write_some(void)
{
	static unsigned char bytes[DEPTH][SIZE / DEPTH];
	struct op ops[DEPTH];
	uint32_t part = SECTORS / DEPTH, i, n;

	for (i = 0; i < DEPTH; i++) {
		struct op *op = &ops[i];

		op->count = (uint32_t)(next_random() % 20) + 1;
		op->first = i * part +
			    (uint32_t)(next_random() % (part - op->count));
		op->tag = next_random() % 6 ? next_tag++ : 0;
		for (n = 0; n < op->count; n++)
			fill(bytes[i] + n * 512, op->first + n, op->tag);
		op->iov.iov_base = bytes[i];
		op->iov.iov_len = op->count * 512;
		submit(op, op->tag ? BLKTAP_OP_WRITE : BLKTAP_OP_WRITE_ZEROES);
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

static void done(void *opaque, int error)
{
	*(int *)opaque = error ? error : 1;
}

static void transfer(struct blktap_disk *cut, enum blktap_op op,
		     uint64_t offset, void *buf, uint64_t length)
{
	struct iovec iov = { .iov_base = buf, .iov_len = length };
	struct blktap_io io = { .size = sizeof(io),
				.op = op,
				.offset = offset,
				.length = length,
				.iov = &iov,
				.iov_count = buf ? 1 : 0,
				.callback = done };
	int result = 0;

	io.opaque = &result;
	ck_assert_int_eq(blktap_disk_submit(cut, &io), 0);
	while (!result)
		ck_assert_int_eq(blktap_context_run(checker, -1), 0);
	ck_assert_int_eq(result, 1);
}

/* The first version that the sector may have: the last one that a completed
 * flush covers. */
static uint32_t oldest(uint32_t sector, uint64_t at)
{
	uint64_t covered = 0;
	uint32_t i, v;

	for (i = 0; i < flush_count; i++)
		if (flushes[i].completed <= at)
			covered = flushes[i].submitted;
	for (v = versions[sector]; v-- > 1;)
		if (history[sector][v].completed < covered)
			return v;
	return 0;
}

static void check_sector(uint32_t sector, uint64_t at, enum record_model model)
{
	unsigned char want[512];
	uint32_t v;

	for (v = oldest(sector, at); v < versions[sector]; v++) {
		if (history[sector][v].submitted > at)
			break;
		fill(want, sector, history[sector][v].tag);
		if (!memcmp(data + sector * 512, want, 512))
			return;
	}
	ck_abort_msg("event %" PRIu64 ", model %d: sector %u holds %02x%02x%02x"
		     "%02x %02x%02x%02x%02x",
		     at, model, sector, data[sector * 512],
		     data[sector * 512 + 1], data[sector * 512 + 2],
		     data[sector * 512 + 3], data[sector * 512 + 4],
		     data[sector * 512 + 5], data[sector * 512 + 6],
		     data[sector * 512 + 7]);
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
	ck_assert_int_eq(blktap_disk_close(cut), 0);
	fill(data + SIZE - 512, SECTORS - 1,
	     history[SECTORS - 1][oldest(SECTORS - 1, at)].tag);
	for (i = 0; i < SECTORS; i++)
		check_sector(i, at, model);
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

static void check_cuts(void)
{
	const char *text = getenv("BLKTAP_CUTS");
	uint64_t stride = text ? 1 : record.now / 80 + 1;
	uint64_t at;
	uint32_t cuts = 0;
	int model;

	for (at = 0; at <= record.now; at += 1 + next_random() % stride)
		for (model = 0; model < RECORD_MODELS; model++) {
			check_cut(at, (enum record_model)model);
			cuts++;
		}
	cuts += check_around_headers();
	printf("%u images of %" PRIu64 " events\n", cuts, record.now);
	fflush(stdout);
}

/* ---- the run -------------------------------------------------------------- */

static void make_parent(void)
{
	uint32_t i;
	int fd = open(in_dir("base.raw"), O_CREAT | O_WRONLY, 0600);

	for (i = 0; i < SECTORS; i++)
		fill(data + i * 512, i, 0xffff);
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
		add_version(i, has_parent ? 0xffff : 0, 0, 0);
	if (has_past)
		live_before();
	if (tail)
		ck_assert_int_eq(truncate(in_dir("a.vhd"), (off_t)tail), 0);
	fd = open(in_dir("a.vhd"), O_RDONLY);
	first_size = (uint64_t)read(fd, first_image, sizeof(first_image));
	close(fd);
}

static void run(bool parent)
{
	struct blktap_error *err = NULL;
	char spec[128];
	int i, rc;

	next_tag = 0x10000;
	if (parent)
		make_parent();
	make();
	/* small, so that the cache commits by itself as well */
	snprintf(spec, sizeof(spec), "%s(\"%s\", cache=%s)", format,
		 in_dir("a.vhd"), strcmp(format, "vhd") ? "256K" : "64K");
	rc = blktap_disk_open(context, spec, NULL, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	for (i = 0; i < ROUNDS; i++) {
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

int main(void)
{
	Suite *suite = suite_create("vhd-crash");
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
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
