/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks through the public interface, on ram, null and real files. */
#include "vbd-bench.h"

#include "vbd/private.h"

START_TEST(bad_specs_are_refused_with_their_cause)
{
	refuse("nonsense", 0, -EINVAL, "does not begin with a type");
	refuse("rwa:/x", 0, -ENOENT, "no type 'rwa'");
	refuse("vmdk:/x", 0, -ENOSYS, "vmdk");
	refuse("raw:/no/such/file", 0, -ENOENT, "/no/such/file");
	refuse("raw:/", 0, -EISDIR, "/: Is a directory");
	refuse("raw:/dev/null", 0, -EMEDIUMTYPE, "/dev/null");
	refuse("raw:", 0, -EINVAL, "path is missing");
	refuse("ram:12x", 0, -EINVAL, "12x");
	refuse("ram:0", 0, -EINVAL, "cannot be made");
	refuse("raw(path=\"/x\", pth=1)", 0, -ENOENT, "'pth'");
	refuse("raw(\"/x\", \"a\", \"b\", \"c\", \"d\")", 0, -EINVAL, "ro=a");
	refuse("raw(/x, ro=true, ro=true)", 0, -EEXIST, "twice");
	refuse("raw(/x, cache=off)", 0, -EINVAL, "none|writeback");
	refuse("raw(/x", 0, -EINVAL, "missing at the end");
	refuse("raw(\"/x", 0, -EINVAL, "has no end");
	refuse("raw(/x) y", 0, -EINVAL, "more after");
	refuse("raw(ro=true, /x)", 0, -EINVAL, "after a named");
}
END_TEST

START_TEST(suggestion_comes_as_a_hint)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;

	ck_assert_int_eq(blktap_disk_open(context, "rwa:/x", NULL, &disk, &err),
			 -ENOENT);
	ck_assert_str_eq(blktap_error_get_hint(err), "did you mean 'raw'?");
	blktap_error_destroy(err);
}
END_TEST

START_TEST(empty_file_is_refused_and_not_given_a_size)
{
	char spec[128];

	make_file(0);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	refuse(spec, 0, -EINVAL, "is empty");
}
END_TEST

START_TEST(size_of_a_file_is_never_rounded)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	unsigned char tail[16], back[16];
	struct blktap_disk *disk;
	char spec[128];

	make_file(10000);
	snprintf(spec, sizeof(spec), "aio:%s", path);
	disk = open_disk(spec, 0);
	blktap_disk_get_info(disk, &info);
	ck_assert_uint_eq(info.length, 10000);
	memset(tail, 0x5a, sizeof(tail));
	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 9984, tail, 16, 0), 0);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 9984, back, 16, 0), 0);
	ck_assert_mem_eq(tail, back, 16);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 9985, tail, 16, 0), -ENOSPC);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(second_writer_is_refused_by_name_unless_forced)
{
	struct blktap_disk *writer, *reader, *forced;
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	writer = open_disk(spec, 0);
	refuse(spec, 0, -EBUSY, path);
	refuse(spec, BLKTAP_OPEN_READ_ONLY, -EBUSY, path);
	forced = open_disk(spec, BLKTAP_OPEN_FORCE);
	blktap_disk_close(forced);
	blktap_disk_close(writer);
	reader = open_disk(spec, BLKTAP_OPEN_READ_ONLY);
	forced = open_disk(spec, BLKTAP_OPEN_READ_ONLY);
	refuse(spec, 0, -EBUSY, path);
	blktap_disk_close(forced);
	blktap_disk_close(reader);
	writer = open_disk(spec, 0);
	blktap_disk_close(writer);
}
END_TEST

static struct blktap_disk *others;

static void other_lets_go(struct bt_timer *timer)
{
	(void)timer;
	ck_assert_int_eq(blktap_disk_close(others), 0);
}

START_TEST(an_image_in_use_is_waited_for_as_long_as_asked)
{
	struct blktap_disk_options options;
	struct blktap_context *other;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	struct bt_timer timer;
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	ck_assert_int_eq(blktap_context_create(NULL, &other, NULL), 0);
	ck_assert_int_eq(blktap_disk_open(other, spec, NULL, &others, NULL), 0);
	blktap_disk_options_init(&options);
	options.busy_ms = 60;
	ck_assert_int_eq(blktap_disk_open(context, spec, &options, &disk, &err),
			 -EBUSY);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), path));
	blktap_error_destroy(err);
	err = NULL;

	bt_timer_init(&timer, other_lets_go);
	bt_timer_arm(context->loop, &timer,
		     bt_loop_refresh(context->loop) + 50 * BT_NS_PER_MS);
	options.busy_ms = 60000;
	ck_assert_int_eq(blktap_disk_open(context, spec, &options, &disk, &err),
			 0);
	ck_assert_ptr_null(err);
	blktap_disk_close(disk);
	blktap_context_destroy(other);
}
END_TEST

/* ---- requests ------------------------------------------------------------- */

START_TEST(malformed_requests_are_refused)
{
	struct blktap_disk *disk = open_disk("ram:1M", 0);
	char byte = 0, half[256];
	const struct iovec iov[2] = { { half, 256 }, { half, 255 } };
	struct blktap_io io = { .op = BLKTAP_OP_WRITE, .length = 512 };
	struct blktap_extent extent;
	uint32_t count;

	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, &byte, 0, 0), -EINVAL);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 1 << 20, &byte, 1, 0),
			 -EINVAL);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 1 << 20, &byte, 1, 0),
			 -ENOSPC);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, UINT64_MAX, &byte, 1, 0),
			 -EINVAL);
	ck_assert_int_eq(simple(disk, BLKTAP_OP_DISCARD, 0, 2 << 20, 0),
			 -EINVAL);
	ck_assert_int_eq(simple(disk, (enum blktap_op)77, 0, 1, 0), -EINVAL);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, &byte, 1, 0x800), -EINVAL);
	/* memory for less than it asks for, or none */
	io.size = offsetof(struct blktap_io, opaque);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
	io.size = sizeof(io);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
	io.iov_count = 2;
	for (io.op = BLKTAP_OP_READ; io.op <= BLKTAP_OP_WRITE; io.op++) {
		io.iov = iov;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
		io.iov = NULL;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
	}
	io.op = BLKTAP_OP_BLOCK_STATUS;
	io.extents = &extent;
	io.extent_max = 1;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
	io.extent_count = &count;
	io.extent_max = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), -EINVAL);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(read_only_disk_refuses_writes_on_every_way_in)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_disk *disk;
	char spec[128], byte = 0;

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw(%s, ro=true)", path);
	disk = open_disk(spec, 0);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 0, &byte, 1, 0), -EPERM);
	ck_assert_int_eq(simple(disk, BLKTAP_OP_DISCARD, 0, 4096, 0), -EPERM);
	ck_assert_int_eq(simple(disk, BLKTAP_OP_WRITE_ZEROES, 0, 4096, 0),
			 -EPERM);
	ck_assert_int_eq(simple(disk, BLKTAP_OP_FLUSH, 0, 0, 0), 0);
	blktap_disk_get_info(disk, &info);
	ck_assert(info.read_only);
	ck_assert_uint_eq(info.operations & (1u << BLKTAP_OP_WRITE), 0);
	blktap_disk_close(disk);
}
END_TEST

/* Against a flat copy: any offset and length, O_DIRECT or not. */
static void model(const char *spec, uint32_t flags, unsigned int seed,
		  size_t size)
{
	struct blktap_disk *disk = open_disk(spec, flags);
	unsigned char *flat = calloc(1, size), *buf = malloc(size);
	unsigned int i;

	for (i = 0; i < 400; i++) {
		size_t offset = (size_t)rand_r(&seed) % size;
		size_t length = 1 + (size_t)rand_r(&seed) %
					    (i % 5 ? 9000 : size - offset);
		unsigned int what = (unsigned int)rand_r(&seed) % 8;

		if (length > size - offset)
			length = size - offset;
		if (i % 3 == 0) {
			offset &= ~(size_t)511;
			length = (length + 511) & ~(size_t)511;
			if (length > size - offset)
				length = size - offset;
		}
		if (what < 3) {
			memset(flat + offset, (int)i, length);
			memset(buf, (int)i, length);
			ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, offset, buf,
					    length, what ? 0 : BLKTAP_FUA),
					 0);
		} else if (what == 3) {
			memset(flat + offset, 0, length);
			ck_assert_int_eq(simple(disk, BLKTAP_OP_WRITE_ZEROES,
						offset, length,
						i & 1 ? BLKTAP_MAY_UNMAP : 0),
					 0);
		} else if (what == 4) {
			ck_assert_int_eq(simple(disk, BLKTAP_OP_FLUSH, 0, 0, 0),
					 0);
		} else {
			memset(buf, 0xee, length);
			ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, offset, buf,
					    length, 0),
					 0);
			ck_assert_mem_eq(buf, flat + offset, length);
		}
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk(spec, flags | BLKTAP_OPEN_READ_ONLY);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, buf, size, 0), 0);
	if (strncmp(spec, "ram", 3))
		ck_assert_mem_eq(buf, flat, size);
	blktap_disk_close(disk);
	free(flat);
	free(buf);
}

START_TEST(any_offset_and_length_reads_back_what_was_written)
{
	char spec[128];
	unsigned int seed = (unsigned int)_i + 1;

	snprintf(spec, sizeof(spec), "raw:%s", path);
	make_file(3 << 20);
	model(spec, 0, seed, 3 << 20);
	make_file(3 << 20);
	model(spec, BLKTAP_OPEN_BUFFERED, seed, 3 << 20);
	make_file((1 << 20) + 77);
	model(spec, 0, seed, (1 << 20) + 77);
	model("ram:2M", 0, seed, 2 << 20);
}
END_TEST

static uint32_t overlap_left;

static void overlap_done(void *opaque, int error)
{
	ck_assert_int_eq(error, 0);
	overlap_left--;
}

/* Many small writes into the same blocks at once: none may undo another. */
START_TEST(concurrent_misaligned_writes_do_not_undo_each_other)
{
	struct blktap_disk *disk;
	unsigned char data[100][100], back[10000];
	struct iovec iov[100];
	char spec[128];
	unsigned int i;

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	disk = open_disk(spec, 0);
	for (i = 0; i < 100; i++) {
		struct blktap_io io = {
			.size = sizeof(io),
			.op = BLKTAP_OP_WRITE,
			.offset = i * 100,
			.length = 100,
			.iov = &iov[i],
			.iov_count = 1,
			.callback = overlap_done,
		};

		memset(data[i], (int)i + 1, 100);
		iov[i].iov_base = data[i];
		iov[i].iov_len = 100;
		overlap_left++;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	}
	while (overlap_left)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, back, 10000, 0), 0);
	for (i = 0; i < 10000; i++)
		ck_assert_uint_eq(back[i], i / 100 + 1);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(requests_over_the_depth_are_refused_with_eagain)
{
	struct blktap_disk_options options;
	struct blktap_disk *disk;
	struct blktap_io_result results[8];
	struct blktap_io io = { .size = sizeof(io), .op = BLKTAP_OP_FLUSH };
	uint32_t i, n = 0;

	blktap_disk_options_init(&options);
	options.queue_depth = 4;
	ck_assert_int_eq(
		blktap_disk_open(context, "null:", &options, &disk, NULL), 0);
	for (i = 0; i < 4; i++) {
		io.opaque = (void *)(uintptr_t)i;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	}
	ck_assert_int_eq(blktap_disk_submit(disk, &io), -EAGAIN);
	while (n < 4) {
		blktap_context_process(context);
		n += blktap_disk_poll(disk, results + n, 8 - n);
	}
	for (i = 0; i < 4; i++)
		ck_assert_uint_eq((uintptr_t)results[i].opaque, i);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(block_status_tells_holes_from_data)
{
	struct blktap_extent extents[8];
	uint32_t count = 0;
	struct blktap_io io = {
		.op = BLKTAP_OP_BLOCK_STATUS,
		.length = 1 << 20,
		.extents = extents,
		.extent_max = 8,
		.extent_count = &count,
	};
	unsigned char data[65536];
	struct blktap_disk *disk;
	char spec[128];

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	disk = open_disk(spec, BLKTAP_OPEN_BUFFERED);
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(
		rw(disk, BLKTAP_OP_WRITE, 262144, data, sizeof(data), 0), 0);
	ck_assert_int_eq(run(disk, &io), 0);
	ck_assert_uint_eq(count, 3);
	ck_assert_uint_eq(extents[0].length, 262144);
	ck_assert_uint_eq(extents[0].flags,
			  BLKTAP_EXTENT_HOLE | BLKTAP_EXTENT_ZERO);
	ck_assert_uint_eq(extents[1].length, 65536);
	ck_assert_uint_eq(extents[1].flags, 0);
	blktap_disk_close(disk);
}
END_TEST

START_TEST(statistics_have_the_keys_clients_parse)
{
	struct blktap_disk *disk = open_disk("ram:1M", 0);
	unsigned char data[4096] = { 1 };
	char *json;

	ck_assert_int_eq(rw(disk, BLKTAP_OP_WRITE, 0, data, 4096, 0), 0);
	ck_assert_int_eq(rw(disk, BLKTAP_OP_READ, 0, data, 1024, 0), 0);
	json = blktap_disk_get_stats_json(disk, true);
	ck_assert_str_eq(
		json,
		"{ \"name\": \"ram:1M\", \"secs\": [ 2, 8 ], \"images\": "
		"[ { \"name\": \"1M\", \"hits\": [ 2, 8 ], \"fail\": [ 0, 0 ], "
		"\"driver\": { \"type\": 5, \"name\": \"ram\", \"status\": "
		"null } } ], \"FIXME_enospc_redirect_count\": 0, "
		"\"nbd_mirror_failed\": 0, \"reqs_outstanding\": 0, "
		"\"read_caching\": \"false\" }");
	free(json);
	json = blktap_disk_get_stats_json(disk, false);
	ck_assert_ptr_nonnull(strstr(json, "\"nodes\":[{\"name\":\"ram:1M\""));
	free(json);
	blktap_disk_close(disk);
}
END_TEST

static void count_free(void *opaque)
{
	++*(int *)opaque;
}

static void count_log(void *opaque, enum blktap_log_level level,
		      const char *text)
{
}

START_TEST(callback_is_freed_exactly_once)
{
	int freed = 0, second = 0;

	blktap_context_set_log(context, BLKTAP_LOG_INFO, count_log, &freed,
			       count_free);
	ck_assert_int_eq(freed, 0);
	blktap_context_set_log(context, BLKTAP_LOG_INFO, count_log, &second,
			       count_free);
	ck_assert_int_eq(freed, 1);
	blktap_context_set_log(context, BLKTAP_LOG_INFO, NULL, NULL, NULL);
	ck_assert_int_eq(freed, 1);
	ck_assert_int_eq(second, 1);
}
END_TEST

START_TEST(ten_thousand_opens_do_not_grow)
{
	char spec[128];
	int before, after, i;

	make_file(1 << 20);
	snprintf(spec, sizeof(spec), "raw:%s", path);
	blktap_disk_close(open_disk(spec, 0));
	before = open("/dev/null", O_RDONLY);
	close(before);
	for (i = 0; i < (getenv("BLKTAP_VALGRIND") ? 100 : 10000); i++)
		blktap_disk_close(open_disk(spec, 0));
	after = open("/dev/null", O_RDONLY);
	close(after);
	ck_assert_int_eq(before, after);
}
END_TEST

/* A program that was built with older headers has less memory for them. */
START_TEST(options_are_filled_as_far_as_the_caller_knows_them)
{
	struct blktap_disk_options options;
	const unsigned char *bytes = (const unsigned char *)&options;
	struct blktap_disk *disk;
	size_t i, known = offsetof(struct blktap_disk_options, busy_ms);

	memset(&options, 0xa5, sizeof(options));
	blktap_disk_options_init_sized(&options, known);
	ck_assert_uint_eq(options.size, known);
	ck_assert_uint_eq(options.deadline_ms, 0);
	for (i = known; i < sizeof(options); i++)
		ck_assert_uint_eq(bytes[i], 0xa5);
	ck_assert_int_eq(
		blktap_disk_open(context, "null:", &options, &disk, NULL), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* Operations may be added: what stands behind their counters must not move. */
START_TEST(statistics_stay_where_older_programs_look_for_them)
{
	struct blktap_disk_stats stats;
	const size_t counters = BLKTAP_OP_MAX * sizeof(uint64_t);
	const size_t known = offsetof(struct blktap_disk_stats, retries);
	struct blktap_disk *disk = open_disk("null:", 0);

	ck_assert_uint_eq(BLKTAP_OP_MAX, 16);
	ck_assert_uint_eq(offsetof(struct blktap_disk_stats, outstanding),
			  sizeof(size_t) + 3 * counters);
	memset(&stats, 0xa5, sizeof(stats));
	stats.size = known;
	blktap_disk_get_stats(disk, &stats);
	ck_assert_uint_eq(stats.size, known);
	ck_assert_uint_eq(stats.outstanding, 0);
	ck_assert_uint_eq(stats.retries, 0xa5a5a5a5a5a5a5a5);
	blktap_disk_close(disk);
}
END_TEST

struct again {
	struct blktap_disk *disk;
	struct blktap_io io;
	uint32_t calls;
	int rc;
};

static void submit_again(void *opaque, int error)
{
	struct again *a = opaque;

	(void)error;
	a->calls++;
	a->rc = blktap_disk_submit(a->disk, &a->io);
}

/* Its completion would come when the disk is gone. */
START_TEST(disk_that_is_being_closed_takes_no_request)
{
	struct again a = {
		.disk = open_disk("ram:1M", 0),
		.io = {
			.size = sizeof(a.io),
			.op = BLKTAP_OP_WRITE_ZEROES,
			.length = 512,
			.callback = submit_again,
			.opaque = &a,
		},
	};

	ck_assert_int_eq(blktap_disk_submit(a.disk, &a.io), 0);
	ck_assert_int_eq(blktap_disk_close(a.disk), 0);
	ck_assert_uint_eq(a.calls, 1);
	ck_assert_int_eq(a.rc, -ESHUTDOWN);
	ck_assert_int_eq(blktap_context_process(context), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd");
	TCase *tc = tcase_create("vbd");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bad_specs_are_refused_with_their_cause);
	tcase_add_test(tc, options_are_filled_as_far_as_the_caller_knows_them);
	tcase_add_test(tc, statistics_stay_where_older_programs_look_for_them);
	tcase_add_test(tc, suggestion_comes_as_a_hint);
	tcase_add_test(tc, empty_file_is_refused_and_not_given_a_size);
	tcase_add_test(tc, size_of_a_file_is_never_rounded);
	tcase_add_test(tc, second_writer_is_refused_by_name_unless_forced);
	tcase_add_test(tc, an_image_in_use_is_waited_for_as_long_as_asked);
	tcase_add_test(tc, malformed_requests_are_refused);
	tcase_add_test(tc, read_only_disk_refuses_writes_on_every_way_in);
	tcase_add_loop_test(
		tc, any_offset_and_length_reads_back_what_was_written, 0, 5);
	tcase_add_test(tc, concurrent_misaligned_writes_do_not_undo_each_other);
	tcase_add_test(tc, requests_over_the_depth_are_refused_with_eagain);
	tcase_add_test(tc, block_status_tells_holes_from_data);
	tcase_add_test(tc, statistics_have_the_keys_clients_parse);
	tcase_add_test(tc, callback_is_freed_exactly_once);
	tcase_add_test(tc, ten_thousand_opens_do_not_grow);
	tcase_add_test(tc, disk_that_is_being_closed_takes_no_request);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
