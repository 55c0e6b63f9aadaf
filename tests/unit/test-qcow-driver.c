/* SPDX-License-Identifier: BSD-3-Clause */
/* The qcow and qcow2 drivers through the public interface, against a flat array;
 * QEMU's own tool judges the result where it is installed. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "seed.h"

#define MIB (1u << 20)

static struct blktap_context *context;
static char dir[] = "/var/tmp/blktap-test-qcow-XXXXXX";

static void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options) };

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	char command[128];

	blktap_context_destroy(context);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
	static char paths[4][64];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void make(const char *format, const char *name, uint64_t size,
		 uint64_t cluster, const char *extra, const char *backing,
		 const char *backing_format)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	int rc;

	blktap_image_options_init(&o);
	o.length = size;
	o.cluster_size = cluster;
	o.extra = extra;
	o.backing = backing;
	o.backing_format = backing_format;
	rc = blktap_image_create(format, in_dir(name), &o, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static struct blktap_disk *open_disk(const char *spec, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk = NULL;
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	rc = blktap_disk_open(context, spec, &options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	return disk;
}

static bool have_qemu(void)
{
	static int have = -1;

	if (have < 0)
		have = !system("qemu-img --version >/dev/null 2>&1");
	return have;
}

/* QEMU finds neither damage nor leaks. */
static void check_with_qemu(const char *name)
{
	char command[512];

	if (!have_qemu())
		return;
	snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s",
		 in_dir(name));
	ck_assert_int_eq(system(command), 0);
}

static void fill_file(const char *name, uint64_t size, unsigned char *flat)
{
	int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);
	uint64_t i;

	ck_assert_int_ge(fd, 0);
	for (i = 0; i < size; i++)
		flat[i] = (unsigned char)(i * 7 + i / 4096 + 1);
	ck_assert_int_eq(pwrite(fd, flat, size, 0), (ssize_t)size);
	close(fd);
}

/* What QEMU reads out of the image is what the model holds. */
static void compare_with_qemu(const struct model *m, const char *name,
			      const char *format)
{
	unsigned char *data;
	char command[512];
	int fd;

	if (!have_qemu())
		return;
	snprintf(command, sizeof(command),
		 "qemu-img convert -f %s -O raw %s %s", format, in_dir(name),
		 in_dir("out.raw"));
	ck_assert_int_eq(system(command), 0);
	data = malloc(m->size);
	fd = open(in_dir("out.raw"), O_RDONLY);
	ck_assert_int_eq(pread(fd, data, m->size, 0), (ssize_t)m->size);
	close(fd);
	ck_assert_int_eq(memcmp(data, m->flat, m->size), 0);
	free(data);
}

struct variant {
	const char *format;
	uint64_t size;
	uint64_t cluster;
	const char *extra;
	uint64_t base; /* bytes of a raw base; 0: none */
	bool middle; /* a qcow2 image between */
	const char *args; /* further ones, in a description */
};

static const struct variant variants[] = {
	{ "qcow2", 8 * MIB, 65536, NULL, 0, false, "" },
	{ "qcow2", 4 * MIB, 4096, "version=2", 0, false, "" },
	{ "qcow2", 2 * MIB, 512, NULL, 0, false, "" },
	{ "qcow2", 4 * MIB + 512, 4096, "refcount_bits=1", 0, false, "" },
	{ "qcow2", 8 * MIB, 65536, NULL, 3 * MIB + 1536, false, "" },
	{ "qcow2", 8 * MIB, 65536, NULL, 3 * MIB, true, "" },
	{ "qcow2", 4 * MIB, 4096, "version=2", 3 * MIB, false, "" },
	{ "qcow2", 16 * MIB, 2 * MIB, NULL, 5 * MIB, true, "" },
	{ "qcow2", 4 * MIB, 512, NULL, 4 * MIB, false, ", cache=256K" },
	{ "qcow", 4 * MIB, 4096, NULL, 0, false, "" },
	{ "qcow", 4 * MIB, 512, NULL, 0, false, "" },
	{ "qcow", 4 * MIB, 4096, NULL, 3 * MIB, false, ", backing_format=raw" },
	{ "qcow", 4 * MIB, 0, "xen=true", 0, false, "" },
};

static void prepare(const struct variant *v, struct model *m)
{
	const char *backing = NULL, *format = NULL;

	if (v->base) {
		fill_file("base.raw", v->base, m->flat);
		backing = "base.raw";
		format = "raw";
	}
	if (v->middle) {
		make("qcow2", "middle", v->size, 65536, NULL, backing, format);
		backing = "middle";
		format = "qcow2";
	}
	make(v->format, "top", v->size, v->cluster, v->extra, backing, format);
}

START_TEST(image_holds_what_was_written)
{
	const struct variant *v = &variants[_i];
	char spec[256];
	struct model m;
	int round;

	model_init(&m, context, v->size, 512, seed_take() + (uint64_t)_i);
	prepare(v, &m);
	snprintf(spec, sizeof(spec), "%s(\"%s\"%s)", v->format, in_dir("top"),
		 v->args);
	for (round = 0; round < 3; round++) {
		m.disk = open_disk(spec, 0);
		model_verify(&m);
		model_run(&m, 600);
		if (round)
			model_verify(&m);
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		if (!strcmp(v->format, "qcow2"))
			check_with_qemu("top");
		if (!(v->base && !strcmp(v->format, "qcow")))
			compare_with_qemu(&m, "top", v->format);
	}
	model_fini(&m);
}
END_TEST

static int try_open(const char *spec, uint32_t flags)
{
	struct blktap_disk_options options;
	struct blktap_disk *disk;
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	rc = blktap_disk_open(context, spec, &options, &disk, NULL);
	if (!rc)
		ck_assert_int_eq(blktap_disk_close(disk), 0);
	return rc;
}

/* Little-known fields, set by hand. */
static void poke(const char *name, off_t offset, unsigned char value)
{
	int fd = open(in_dir(name), O_RDWR);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &value, 1, offset), 1);
	close(fd);
}

static unsigned char peek(const char *name, off_t offset)
{
	int fd = open(in_dir(name), O_RDONLY);
	unsigned char value = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &value, 1, offset), 1);
	close(fd);
	return value;
}

static void make_spec(char spec[128], const char *format, const char *name)
{
	snprintf(spec, 128, "%s:%s", format, in_dir(name));
}

START_TEST(format_of_a_base_is_never_guessed)
{
	unsigned char *flat = malloc(MIB);
	char spec[256];

	fill_file("base.raw", MIB, flat);
	make("qcow", "top", MIB, 0, NULL, "base.raw", "raw");
	make_spec(spec, "qcow", "top");
	ck_assert_int_eq(try_open(spec, 0), 0);
	/* as others make it: without the record of it */
	poke("top", 48, 0);
	ck_assert_int_eq(try_open(spec, 0), -EINVAL);
	/* nor is the version of the image itself */
	make_spec(spec, "qcow2", "top");
	ck_assert_int_eq(try_open(spec, 0), -EINVAL);
	free(flat);
}
END_TEST

START_TEST(damaged_image_is_read_and_not_written)
{
	struct blktap_disk *disk;
	char spec[128];

	make("qcow2", "top", MIB, 0, NULL, NULL, NULL);
	poke("top", 79, 2); /* the corrupt bit */
	make_spec(spec, "qcow2", "top");
	ck_assert_int_eq(try_open(spec, 0), -EROFS);
	disk = open_disk(spec, BLKTAP_OPEN_READ_ONLY);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_uint_eq(peek("top", 79), 2);
}
END_TEST

START_TEST(read_only_open_changes_nothing_and_a_writable_one_clears_autoclear)
{
	char spec[128];

	make("qcow2", "top", MIB, 0, NULL, NULL, NULL);
	poke("top", 95, 0x80); /* an autoclear bit nobody knows */
	make_spec(spec, "qcow2", "top");
	blktap_disk_close(open_disk(spec, BLKTAP_OPEN_READ_ONLY));
	ck_assert_uint_eq(peek("top", 95), 0x80);
	blktap_disk_close(open_disk(spec, 0));
	ck_assert_uint_eq(peek("top", 95), 0);
}
END_TEST

START_TEST(refcounts_are_set_right_when_a_dirty_image_is_opened)
{
	struct model m;
	char spec[128];
	int i;

	model_init(&m, context, 4 * MIB, 512, seed_take());
	make("qcow2", "top", m.size, 4096, NULL, NULL, NULL);
	make_spec(spec, "qcow2", "top");
	m.disk = open_disk(spec, 0);
	model_run(&m, 300);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	/* the first refcount block is the third cluster */
	for (i = 16; i < 1024; i++)
		poke("top", 8192 + i, 0);
	poke("top", 79, 1); /* the dirty bit */
	m.disk = open_disk(spec, 0);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	ck_assert_uint_eq(peek("top", 79), 0);
	check_with_qemu("top");
	model_fini(&m);
}
END_TEST

static int write_once(struct blktap_disk *disk, uint64_t offset);

START_TEST(entry_that_points_to_a_table_is_not_written_through)
{
	struct blktap_disk *disk;
	char spec[128];

	make("qcow2", "top", MIB, 65536, NULL, NULL, NULL);
	make_spec(spec, "qcow2", "top");
	disk = open_disk(spec, 0);
	ck_assert_int_eq(write_once(disk, 0), 0);
	ck_assert_int_eq(write_once(disk, 65536), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	/* header, refcount table, block, L1, then the L2 table: the first
	 * entry of that now names the table itself, the second the header */
	poke("top", 4 * 65536 + 5, 4);
	poke("top", 4 * 65536 + 8 + 5, 0);
	poke("top", 4 * 65536 + 8 + 6, 2);
	disk = open_disk(spec, 0);
	ck_assert_int_eq(write_once(disk, 0), -EIO);
	ck_assert_int_eq(write_once(disk, 65536), -EIO);
	ck_assert_int_eq(write_once(disk, 2 * 65536), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_uint_eq(peek("top", 4 * 65536 + 5), 4);
}
END_TEST

struct waiting {
	bool done;
	int error;
};

static void io_done(void *opaque, int error)
{
	struct waiting *w = opaque;

	w->done = true;
	w->error = error;
}

static int transfer(struct blktap_disk *disk, enum blktap_op op,
		    uint64_t offset, void *data, uint64_t length)
{
	struct iovec iov = { .iov_base = data, .iov_len = length };
	struct waiting w = { false, 0 };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = data ? 1 : 0,
		.callback = io_done,
		.opaque = &w,
	};

	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	while (!w.done)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	return w.error;
}

static int write_once(struct blktap_disk *disk, uint64_t offset)
{
	static char data[4096] __attribute__((aligned(4096)));

	memset(data, 0x5a, sizeof(data));
	return transfer(disk, BLKTAP_OP_WRITE, offset, data, sizeof(data));
}

/* Writes all of the disk, and the model with it. */
static void fill_disk(struct model *m)
{
	uint64_t at;

	for (at = 0; at < m->size; at += 65536) {
		memset(m->flat + at, (int)(at >> 16) + 1, 65536);
		ck_assert_int_eq(transfer(m->disk, BLKTAP_OP_WRITE, at,
					  m->flat + at, 65536),
				 0);
	}
}

static uint64_t file_size(const char *name)
{
	struct stat st;

	ck_assert_int_eq(stat(in_dir(name), &st), 0);
	return (uint64_t)st.st_size;
}

/* One cluster of refcount table, which reaches 2 MiB or 8 MiB of file. */
static const struct {
	const char *extra;
	uint64_t size;
} small_tables[] = { { "refcount_bits=64", 6 * MIB },
		     { "version=2", 12 * MIB } };

START_TEST(refcount_table_that_is_full_is_moved_to_a_larger_place)
{
	struct model m;
	char spec[128];

	model_init(&m, context, small_tables[_i].size, 512, seed_take());
	make("qcow2", "top", m.size, 512, small_tables[_i].extra, NULL, NULL);
	ck_assert_uint_eq(peek("top", 59), 1);
	make_spec(spec, "qcow2", "top");
	m.disk = open_disk(spec, 0);
	model_run(&m, 200);
	fill_disk(&m);
	model_run(&m, 200);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	ck_assert_uint_gt(peek("top", 59), 1);
	check_with_qemu("top");
	compare_with_qemu(&m, "top", "qcow2");
	m.disk = open_disk(spec, 0);
	model_verify(&m);
	model_run(&m, 200);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	check_with_qemu("top");
	model_fini(&m);
}
END_TEST

START_TEST(space_that_an_earlier_session_freed_is_used_again)
{
	uint64_t first;
	struct model m;
	char spec[128];
	int round;

	model_init(&m, context, 12 * MIB, 512, seed_take());
	make("qcow2", "top", m.size, 4096, NULL, NULL, NULL);
	make_spec(spec, "qcow2", "top");
	m.disk = open_disk(spec, 0);
	fill_disk(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	first = file_size("top");
	for (round = 0; round < 3; round++) {
		m.disk = open_disk(spec, 0);
		ck_assert_int_eq(
			transfer(m.disk, BLKTAP_OP_DISCARD, 0, NULL, m.size),
			0);
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		check_with_qemu("top");
		m.disk = open_disk(spec, 0);
		/* parts of clusters: what is around them is zeroes, not what
		 * was in their place before */
		memset(m.flat, 0, m.size);
		memset(m.flat + 512, 7, 512);
		ck_assert_int_eq(transfer(m.disk, BLKTAP_OP_WRITE, 512,
					  m.flat + 512, 512),
				 0);
		model_verify(&m);
		model_run(&m, 300);
		fill_disk(&m);
		model_verify(&m);
		ck_assert_int_eq(blktap_disk_close(m.disk), 0);
		check_with_qemu("top");
	}
	ck_assert_uint_le(file_size("top"), first + MIB);
	model_fini(&m);
}
END_TEST

START_TEST(image_that_is_there_is_not_replaced_unasked)
{
	struct blktap_image_options o;
	struct stat st;

	make("qcow2", "top", MIB, 0, NULL, NULL, NULL);
	blktap_image_options_init(&o);
	o.length = 2 * MIB;
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top"), &o, NULL),
			 -EEXIST);
	o.flags = BLKTAP_CREATE_OVERWRITE;
	ck_assert_int_eq(chmod(in_dir("top"), 0600), 0);
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top"), &o, NULL),
			 0);
	/* and what others could not read they cannot */
	ck_assert_int_eq(stat(in_dir("top"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	o.backing = "nowhere";
	o.backing_format = "raw";
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("new"), &o, NULL),
			 -ENOENT);
	ck_assert_int_lt(access(in_dir("new"), F_OK), 0);
}
END_TEST

START_TEST(compressed_clusters_are_read_and_written_over)
{
	char command[512], spec[128];
	struct model m;

	if (!have_qemu())
		return;
	model_init(&m, context, 4 * MIB, 512, seed_take());
	fill_file("base.raw", m.size, m.flat);
	snprintf(command, sizeof(command),
		 "qemu-img convert -c -f raw -O %s %s %s",
		 _i ? "qcow2" : "qcow", in_dir("base.raw"), in_dir("top"));
	/* not every QEMU can write a compressed version 1 */
	if (system(command)) {
		ck_assert_int_eq(_i, 0);
		model_fini(&m);
		return;
	}
	make_spec(spec, _i ? "qcow2" : "qcow", "top");
	m.disk = open_disk(spec, 0);
	model_verify(&m);
	model_run(&m, 600);
	model_verify(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	if (_i)
		check_with_qemu("top");
	compare_with_qemu(&m, "top", _i ? "qcow2" : "qcow");
	model_fini(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-driver");
	TCase *tc = tcase_create("model");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, image_holds_what_was_written, 0,
			    sizeof(variants) / sizeof(variants[0]));
	tcase_add_loop_test(tc, compressed_clusters_are_read_and_written_over,
			    0, 2);
	tcase_add_test(tc, format_of_a_base_is_never_guessed);
	tcase_add_test(tc, damaged_image_is_read_and_not_written);
	tcase_add_test(
		tc,
		read_only_open_changes_nothing_and_a_writable_one_clears_autoclear);
	tcase_add_test(tc,
		       refcounts_are_set_right_when_a_dirty_image_is_opened);
	tcase_add_test(tc, entry_that_points_to_a_table_is_not_written_through);
	tcase_add_loop_test(
		tc, refcount_table_that_is_full_is_moved_to_a_larger_place, 0,
		2);
	tcase_add_test(tc, space_that_an_earlier_session_freed_is_used_again);
	tcase_add_test(tc, image_that_is_there_is_not_replaced_unasked);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
