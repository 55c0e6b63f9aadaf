/* SPDX-License-Identifier: BSD-3-Clause */
/* A short life of an image, again and again, each time with another of its reads,
 * writes and syncs failing: with EIO, with ENOSPC, or coming back short. Whoever
 * was told of success finds what he wrote, who was told of failure finds the old
 * or the new, and what no flush covered may be lost when the image is opened anew;
 * but never is anything foreign read, and the tables stay sound.
 *
 * BLKTAP_SEED repeats a run; BLKTAP_TEST_LONG=1 fails every single call. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faulty.h"
#include "model.h"
#include "seed.h"
#include "vbd/vbd.h"

#define SIZE (512u << 10)
#define SECTORS (SIZE / 512)
#define VERSIONS 48 /* of a sector between two flushes */
#define ROUNDS 5
#define OPS 14 /* of a round */
#define CALLS 3 /* that are failed, of a kind and a variant */
#define CLUSTERS_FREED 3200 /* more than are kept until a flush */

static struct blktap_context *context;
static struct model m;
static char dir[64];
static uint64_t seed;

/* What a sector may be when the image is opened anew, as sums. */
static uint64_t versions[SECTORS][VERSIONS];
static uint32_t counts[SECTORS];

struct variant {
	const char *format, *extra;
	uint32_t cluster;
	uint64_t base, tail; /* bytes of a raw base; of the file */
	bool has_past;
};

static const struct variant variants[] = {
	{ "qcow2", NULL, 4096, 0, 0, false },
	{ "qcow2", NULL, 65536, 300u << 10, 0, false },
	{ "qcow2", "refcount_bits=64", 512, 0, (2u << 20) - 16384, false },
	{ "qcow2", NULL, 4096, 0, 0, true },
	{ "qcow2", "version=2", 4096, SIZE, 0, false },
	{ "qcow", NULL, 4096, 0, 0, false },
	{ "qcow", NULL, 512, SIZE, 0, false },
};

static void setup_on(enum bt_clock clock)
{
	seed = seed_take();
	snprintf(dir, sizeof(dir), "%s/blktap-fault-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(clock, &faulty_backend, &context),
			 0);
}

static void setup(void)
{
	setup_on(BT_CLOCK_VIRTUAL);
}

static void setup_in_time(void)
{
	setup_on(BT_CLOCK_MONOTONIC);
}

static void teardown(void)
{
	char command[96];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* ---- what may be there ---------------------------------------------------- */

static uint64_t sum(const unsigned char *sector)
{
	uint64_t h = 0xcbf29ce484222325ull;
	unsigned int i;

	for (i = 0; i < 512; i++)
		h = (h ^ sector[i]) * 0x100000001b3ull;
	return h;
}

static bool may_be(uint32_t sector, uint64_t h)
{
	uint32_t i;

	for (i = 0; i < counts[sector]; i++)
		if (versions[sector][i] == h)
			return true;
	return false;
}

static void changed(struct model *model, uint64_t offset, uint64_t length)
{
	uint64_t at;

	for (at = offset; at < offset + length; at += 512) {
		uint32_t sector = (uint32_t)(at / 512);
		uint64_t h = sum(model->flat + at);

		if (may_be(sector, h))
			continue;
		ck_assert_uint_lt(counts[sector], VERSIONS);
		versions[sector][counts[sector]++] = h;
	}
}

static void all_is_durable(void)
{
	memset(counts, 0, sizeof(counts));
	changed(&m, 0, SIZE);
}

/* ---- the image ------------------------------------------------------------ */

static void open_it(const struct variant *v)
{
	struct blktap_error *err = NULL;
	char spec[160];
	int rc;

	snprintf(spec, sizeof(spec), "%s(\"%s\", cache=256K%s)", v->format,
		 in_dir("top"),
		 v->base && !strcmp(v->format, "qcow") ? ", backing_format=raw"
						       : "");
	rc = blktap_disk_open(context, spec, NULL, &m.disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void make_base(uint64_t size)
{
	int fd = open(in_dir("base"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
	uint64_t i;

	for (i = 0; i < size; i++)
		m.flat[i] = (unsigned char)(i / 512 + i % 251);
	ck_assert_int_eq(write(fd, m.flat, size), (ssize_t)size);
	close(fd);
}

static void make(const struct variant *v)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	int rc;

	memset(m.flat, 0, SIZE);
	if (v->base)
		make_base(v->base);
	blktap_image_options_init(&o);
	o.length = SIZE;
	o.cluster_size = v->cluster;
	o.extra = v->extra;
	o.flags = BLKTAP_CREATE_OVERWRITE;
	o.backing = v->base ? "base" : NULL;
	o.backing_format = v->base ? "raw" : NULL;
	rc = blktap_image_create(v->format, in_dir("top"), &o, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	if (v->tail)
		ck_assert_int_eq(truncate(in_dir("top"), (off_t)v->tail), 0);
}

/* Clusters that an earlier session wrote and freed. */
static void live_before(const struct variant *v)
{
	open_it(v);
	m.no_discard = false;
	model_run(&m, 30);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
}

/* QEMU finds leaks at the most. */
static void check_with_qemu(const struct variant *v)
{
	static int have = -1;
	char command[160];
	int rc;

	if (have < 0)
		have = !system("qemu-img --version >/dev/null 2>&1");
	if (!have || strcmp(v->format, "qcow2") ||
	    (!getenv("BLKTAP_TEST_LONG") && model_random(&m, 3)))
		return;
	snprintf(command, sizeof(command),
		 "qemu-img check -q -f qcow2 %s >/dev/null 2>&1",
		 in_dir("top"));
	rc = system(command);
	ck_assert_msg(!rc || WEXITSTATUS(rc) == 3, "qemu-img check: %d",
		      WEXITSTATUS(rc));
}

/* ---- a life --------------------------------------------------------------- */

/* What is read of an image that was opened anew becomes the model. */
static void look_again(const struct variant *v)
{
	static unsigned char data[SIZE];
	struct blktap_disk *disk;
	uint32_t i;

	open_it(v);
	disk = m.disk;
	memcpy(data, m.flat, SIZE);
	for (i = 0; i < SECTORS; i++) {
		struct model_op *op = &m.ops[0];

		if (i % (MODEL_MAX / 512) == 0)
			model_read(&m, (uint64_t)i * 512);
		memcpy(data + i * 512, op->data + i * 512 % MODEL_MAX, 512);
		ck_assert_msg(may_be(i, sum(data + i * 512)),
			      "sector %u is neither what was flushed nor "
			      "anything since",
			      i);
	}
	memcpy(m.flat, data, SIZE);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

/* Returns how many calls there were that the rule could meet. */
static uint32_t live(const struct variant *v, struct faulty_rule rule)
{
	struct faulty_rule *added;
	uint32_t met;
	int round, rc;

	faulty_reset();
	make(v);
	m.random = seed * 2 + 1;
	m.errors = 0;
	m.may_fail = false;
	if (v->has_past)
		live_before(v);
	all_is_durable();
	open_it(v);
	faulty_reset();
	added = faulty_add(rule);
	m.may_fail = true;
	for (round = 0; round < ROUNDS; round++) {
		model_run(&m, OPS);
		if (round % 2 && !model_flush(&m))
			all_is_durable();
	}
	model_verify(&m);
	met = added->met;
	rc = blktap_disk_close(m.disk);
	if (!rc)
		all_is_durable();
	/* an error that nobody is told of would be one that is lost */
	ck_assert(!rc || m.errors);
	faulty_reset();
	m.may_fail = false;
	check_with_qemu(v);
	look_again(v);
	open_it(v);
	model_run(&m, 20);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	return met;
}

static const struct faulty_rule kinds[] = {
	{ .op = BT_IO_READ, .error = -EIO },
	{ .op = BT_IO_WRITE, .error = -EIO },
	{ .op = BT_IO_WRITE, .error = -ENOSPC },
	{ .op = BT_IO_SYNC, .error = -EIO },
	{ .op = BT_IO_PUNCH, .error = -EIO },
	{ .op = BT_IO_PUNCH, .error = -EOPNOTSUPP },
	{ .op = BT_IO_READ, .shorten = true, .max_length = 512 },
	{ .op = BT_IO_WRITE, .shorten = true, .max_length = 512 },
};

START_TEST(a_call_that_fails_loses_nothing_but_what_it_was_for)
{
	const struct variant *v =
		&variants[_i / (int)(sizeof(kinds) / sizeof(kinds[0]))];
	struct faulty_rule rule =
		kinds[_i % (int)(sizeof(kinds) / sizeof(kinds[0]))];
	uint32_t calls, nth, step = 1, lives = 0, failed = 0;

	model_init(&m, context, SIZE, 512, seed);
	m.no_flush = true;
	m.changed = changed;
	rule.nth = UINT32_MAX;
	calls = live(v, rule);
	ck_assert_uint_eq(m.errors, 0);
	if (!getenv("BLKTAP_TEST_LONG") && calls > seed_rounds(CALLS))
		step = calls / seed_rounds(CALLS);
	for (nth = 1 + (uint32_t)seed % step; nth <= calls; nth += step) {
		rule.nth = nth;
		live(v, rule);
		/* what comes back short is asked for again */
		ck_assert(!rule.shorten || !m.errors);
		failed += m.errors > 0;
		lives++;
	}
	printf("%s %s: op %d, error %d: %u of %u calls, %u told of\n",
	       v->format, v->extra ? v->extra : "", rule.op, rule.error, lives,
	       calls, failed);
	fflush(stdout);
	model_fini(&m);
}
END_TEST

/* ---- FUA ------------------------------------------------------------------- */

struct write {
	unsigned char bytes[512];
	struct iovec iov;
	bool done;
	int error;
};

static void write_done(void *opaque, int error)
{
	struct write *w = opaque;

	w->done = true;
	w->error = error;
}

static void begin_write(struct write *w, uint64_t offset, uint32_t flags)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE,
		.flags = flags,
		.offset = offset,
		.length = sizeof(w->bytes),
		.iov = &w->iov,
		.iov_count = 1,
		.callback = write_done,
		.opaque = w,
	};

	memset(w, 0, sizeof(*w));
	memset(w->bytes, 'a' + (int)(offset / 512), sizeof(w->bytes));
	w->iov.iov_base = w->bytes;
	w->iov.iov_len = sizeof(w->bytes);
	ck_assert_int_eq(blktap_disk_submit(m.disk, &io), 0);
}

static int transfer(enum blktap_op op, uint64_t offset, void *data,
		    uint64_t length)
{
	struct iovec iov = { .iov_base = data, .iov_len = length };
	struct write w = { .done = false };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = data ? 1 : 0,
		.callback = write_done,
		.opaque = &w,
	};

	ck_assert_int_eq(blktap_disk_submit(m.disk, &io), 0);
	while (!w.done)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	return w.error;
}

/* What the file holds at this moment, as an image of its own. */
static void keep_file(void)
{
	char command[400];

	snprintf(command, sizeof(command), "cp %s/top %s/kept && mv %s/kept %s",
		 dir, dir, dir, in_dir("top"));
	ck_assert_int_eq(system(command), 0);
}

/* The write that makes the cluster begins when no table has changed, and so does
 * the one with FUA, which then waits for it. */
START_TEST(fua_in_a_cluster_that_another_write_makes_is_durable)
{
	const struct variant *v = &variants[_i];
	struct write plain, fua;
	int turns;

	model_init(&m, context, SIZE, 512, seed);
	make(v);
	open_it(v);
	faulty.hold = true;
	begin_write(&plain, 0, 0);
	begin_write(&fua, 1024, BLKTAP_FUA);
	for (turns = 0; turns < 1000 && !fua.done; turns++) {
		faulty_release(1);
		ck_assert_int_eq(blktap_context_process(context), 0);
	}
	ck_assert(plain.done && fua.done);
	ck_assert_int_eq(fua.error, 0);
	keep_file();
	faulty.hold = false;
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	open_it(v);
	model_read(&m, 0);
	ck_assert_mem_eq(m.ops[0].data + 1024, fua.bytes, 512);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	model_fini(&m);
}
END_TEST

/* Many places far from each other are discarded, and no flush comes: the image has
 * begun to give them back, and is slow at that. */
static void free_many(void)
{
	const struct variant v = { "qcow2", NULL, 512, 0, 0, false };
	struct blktap_image_options o;
	static unsigned char bytes[CLUSTERS_FREED * 1024];
	uint64_t i;

	blktap_image_options_init(&o);
	o.length = sizeof(bytes);
	o.cluster_size = v.cluster;
	o.flags = BLKTAP_CREATE_OVERWRITE;
	ck_assert_int_eq(blktap_image_create(v.format, in_dir("top"), &o, NULL),
			 0);
	open_it(&v);
	memset(bytes, 1, sizeof(bytes));
	ck_assert_int_eq(transfer(BLKTAP_OP_WRITE, 0, bytes, sizeof(bytes)), 0);
	ck_assert_int_eq(transfer(BLKTAP_OP_FLUSH, 0, NULL, 0), 0);
	faulty_add((struct faulty_rule){ .op = BT_IO_PUNCH,
					 .delay_ns = 20000000 });
	for (i = 0; i < CLUSTERS_FREED; i++)
		ck_assert_int_eq(
			transfer(BLKTAP_OP_DISCARD, i * 1024, NULL, 512), 0);
	while (!faulty.calls_of[BT_IO_PUNCH])
		ck_assert_int_eq(blktap_context_run(context, 0), 0);
}

/* What was discarded behind that is given back, too. */
START_TEST(an_image_that_is_closed_has_lost_no_space)
{
	char command[200];
	uint64_t i;

	free_many();
	for (i = 0; i < 64; i++)
		ck_assert_int_eq(
			transfer(BLKTAP_OP_DISCARD, i * 2048 + 512, NULL, 512),
			0);
	faulty_reset();
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	snprintf(command, sizeof(command),
		 "! qemu-img --version >/dev/null 2>&1 || "
		 "qemu-img check -q -f qcow2 %s",
		 in_dir("top"));
	ck_assert_int_eq(system(command), 0);
}
END_TEST

/* Clusters are being given back when the last flush fails. */
START_TEST(an_image_is_not_closed_while_clusters_are_given_back)
{
	uint64_t i;

	free_many();
	faulty_add((struct faulty_rule){ .op = BT_IO_SYNC, .error = -EIO });
	blktap_disk_close(m.disk);
	for (i = 0; i < 100; i++)
		blktap_context_run(context, 1);
	faulty_reset();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-faults");
	TCase *tc = tcase_create("faults");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 1800 : 120);
	tcase_add_loop_test(
		tc, a_call_that_fails_loses_nothing_but_what_it_was_for, 0,
		(int)(sizeof(variants) / sizeof(variants[0]) * sizeof(kinds) /
		      sizeof(kinds[0])));
	tcase_add_loop_test(
		tc, fua_in_a_cluster_that_another_write_makes_is_durable, 0,
		(int)(sizeof(variants) / sizeof(variants[0])));
	suite_add_tcase(suite, tc);
	tc = tcase_create("close");
	tcase_add_checked_fixture(tc, setup_in_time, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc,
		       an_image_is_not_closed_while_clusters_are_given_back);
	tcase_add_test(tc, an_image_that_is_closed_has_lost_no_space);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
