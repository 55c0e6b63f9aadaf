/* SPDX-License-Identifier: BSD-3-Clause */
/* Every engine on real files. Each test runs for each engine on each of two
 * directories: a disk's file system, and memory. */
#include "engine-bench.h"

START_TEST(bytes_written_are_read_back)
{
	unsigned char *a, *b;
	struct op *op;

	if (!begin(_i))
		return;
	a = malloc(12 * KIB);
	b = calloc(1, 12 * KIB);
	memset(a, 0xa5, 12 * KIB);
	op = op_new(BT_IO_WRITE, 5000, a, 12 * KIB - 100);
	op->io.flags = BT_IO_FUA;
	ck_assert_int_eq(op_wait(op_submit(op)), 0);
	ck_assert_int_eq(do_io(BT_IO_SYNC, 0, NULL, 0), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 5000, b, 12 * KIB - 100), 0);
	ck_assert(!memcmp(a, b, 12 * KIB - 100));
	memset(model + 5000, 0xa5, 12 * KIB - 100);
	check_file();
	ck_assert_uint_eq(bt_engine_get_stats(engine)->submitted[BT_IO_WRITE],
			  1);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->submitted[BT_IO_SYNC],
			  1);
	free(a);
	free(b);
	end();
}
END_TEST

/* Entries of odd lengths, a skip at the front, more entries than a slot has. */
START_TEST(vectors_of_any_shape_are_filled)
{
	unsigned char *memory;
	uint64_t length = 0;
	struct op *op;
	int i;

	if (!begin(_i))
		return;
	memory = calloc(256, 4096);
	op = op_new(BT_IO_READ, 777, memory, 0);
	for (i = 0; i < 200; i++) {
		op->iov[i].iov_base = memory + i * 4096;
		op->iov[i].iov_len = (size_t)(i * 37 % 4096);
		length += op->iov[i].iov_len;
	}
	op->iov[0].iov_len = 600;
	op->io.data.skip = 100;
	op->io.data.count = 200;
	op->io.length = length + 500;
	ck_assert_int_eq(op_wait(op_submit(op)), 0);
	ck_assert(!memcmp(memory + 100, model + 777, 500));
	length = 777 + 500;
	for (i = 1; i < 200; i++) {
		ck_assert(!memcmp(memory + i * 4096, model + length,
				  (size_t)(i * 37 % 4096)));
		length += (uint64_t)(i * 37 % 4096);
	}
	free(memory);
	end();
}
END_TEST

START_TEST(memory_that_direct_cannot_take_is_bounced)
{
	unsigned char *memory, *back;
	const struct bt_engine_stats *stats;

	if (!begin(_i))
		return;
	if (!reopen_direct()) {
		end();
		return;
	}
	stats = bt_engine_get_stats(engine);
	memory = aligned_alloc(4096, FILE_SIZE);
	back = aligned_alloc(4096, FILE_SIZE);
	memset(memory, 0x3c, FILE_SIZE);
	memset(back, 0, FILE_SIZE);
	ck_assert_int_eq(do_io(BT_IO_WRITE, 4096, memory, 64 * KIB), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 4096, back, 64 * KIB), 0);
	ck_assert_uint_eq(stats->bounced, 0);
	ck_assert(!memcmp(back, memory, 64 * KIB));
	/* Larger than one bounce buffer. */
	memset(memory, 0x7e, FILE_SIZE);
	ck_assert_int_eq(do_io(BT_IO_WRITE, 8192, memory + 1, 700 * KIB), 0);
	ck_assert_int_eq(do_io(BT_IO_READ, 8192, back + 3, 700 * KIB), 0);
	ck_assert_uint_eq(stats->bounced, 2);
	ck_assert(!memcmp(back + 3, memory + 1, 700 * KIB));
	free(memory);
	free(back);
	end();
}
END_TEST

/* What a pass without a buffer read is not to be taken from the buffer of the one
 * before. */
START_TEST(io_whose_memory_is_odd_only_at_its_start_is_read_right)
{
	unsigned char *head, *rest;
	struct op *op;

	if (!begin(_i))
		return;
	if (!reopen_direct()) {
		end();
		return;
	}
	head = aligned_alloc(4096, 8 * KIB);
	rest = aligned_alloc(4096, 700 * KIB);
	op = op_new(BT_IO_READ, 8192, head + 1, 4 * KIB);
	op->iov[1].iov_base = rest;
	op->iov[1].iov_len = 700 * KIB;
	op->io.data.count = 2;
	op->io.length = 704 * KIB;
	ck_assert_int_eq(op_wait(op_submit(op)), 0);
	ck_assert(!memcmp(head + 1, model + 8192, 4 * KIB));
	ck_assert(!memcmp(rest, model + 12 * KIB, 700 * KIB));
	ck_assert_uint_eq(engine->bounces.free_count, engine->bounces.made);
	free(head);
	free(rest);
	end();
}
END_TEST

START_TEST(more_bounces_than_buffers_wait_their_turn)
{
	enum { N = 200 };
	static struct op *ops[N];
	unsigned char *memory;
	int i;

	if (!begin_sized(_i, 128, FILE_SIZE))
		return;
	if (!reopen_direct()) {
		end();
		return;
	}
	memory = calloc(N, 8192);
	for (i = 0; i < N; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 8192,
					  memory + i * 8192 + 1, 4096));
	for (i = 0; i < N; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < N; i++)
		ck_assert(
			!memcmp(memory + i * 8192 + 1, model + i * 8192, 4096));
	ck_assert_uint_eq(bt_engine_get_stats(engine)->bounced, N);
	free(memory);
	end();
}
END_TEST

static void check_end_of_file(uint32_t size)
{
	unsigned char *memory = aligned_alloc(4096, 16 * KIB);
	static const unsigned char zeroes[16 * KIB];

	memset(memory, 0xee, 16 * KIB);
	file.eof_ok = false;
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 16 * KIB), -EIO);
	ck_assert_int_eq(do_io(BT_IO_READ, 16 * KIB, memory, 16 * KIB), -EIO);
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 8 * KIB), 0);
	file.eof_ok = true;
	memset(memory, 0xee, 16 * KIB);
	ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 16 * KIB), 0);
	ck_assert(!memcmp(memory, model, size));
	ck_assert(!memcmp(memory + size, zeroes, 16 * KIB - size));
	memset(memory, 0xee, 16 * KIB);
	ck_assert_int_eq(do_io(BT_IO_READ, 64 * KIB, memory, 16 * KIB), 0);
	ck_assert(!memcmp(memory, zeroes, 16 * KIB));
	free(memory);
}

START_TEST(end_of_file_is_zeroes_or_an_error_and_never_old_bytes)
{
	if (!begin_sized(_i, 0, 9001))
		return;
	check_end_of_file(9001);
	if (reopen_direct())
		check_end_of_file(9001);
	end();
}
END_TEST

START_TEST(end_of_file_concerns_only_the_ios_behind_it)
{
	unsigned char *memory;
	struct op *ops[4];
	int i;

	if (!begin_sized(_i, 0, 9001))
		return;
	memory = calloc(4, 4096);
	for (i = 0; i < 4; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 4096,
					  memory + i * 4096, 4096));
	ck_assert_int_eq(op_wait(ops[0]), 0);
	ck_assert_int_eq(op_wait(ops[1]), 0);
	ck_assert_int_eq(op_wait(ops[2]), -EIO);
	ck_assert_int_eq(op_wait(ops[3]), -EIO);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->merged, 3);
	ck_assert(!memcmp(memory, model, 8192));
	free(memory);
	end();
}
END_TEST

START_TEST(neighbours_go_in_one_call)
{
	const struct bt_engine_stats *stats;
	unsigned char *memory;
	struct op *ops[8];
	int i;

	if (!begin(_i))
		return;
	stats = bt_engine_get_stats(engine);
	memory = calloc(8, 4096);
	for (i = 0; i < 8; i++)
		ops[i] = op_submit(op_new(BT_IO_READ, (uint64_t)i * 4096,
					  memory + (7 - i) * 4096, 4096));
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < 8; i++)
		ck_assert(!memcmp(memory + (7 - i) * 4096, model + i * 4096,
				  4096));
	ck_assert_uint_eq(stats->merged, 7);
	ck_assert_uint_eq(stats->batches, 1);
	free(memory);
	end();
}
END_TEST

START_TEST(more_ios_than_slots_wait_in_order)
{
	enum { N = 500 };
	static struct op *ops[N];
	unsigned char *memory;
	int i;

	if (!begin_sized(_i, 3, FILE_SIZE))
		return;
	memory = calloc(N, 1024);
	for (i = 0; i < N; i++)
		ops[i] = op_submit(op_new(BT_IO_READ,
					  (uint64_t)(N - 1 - i) * 4096,
					  memory + i * 1024, 1024));
	ck_assert_uint_eq(file.in_flight, N);
	for (i = 0; i < N; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	for (i = 0; i < N; i++)
		ck_assert(!memcmp(memory + i * 1024, model + (N - 1 - i) * 4096,
				  1024));
	free(memory);
	end();
}
END_TEST

START_TEST(ranges_are_freed_and_zeroed_or_it_says_not_supported)
{
	struct stat before, after;
	unsigned char byte;
	int rc;

	if (!begin(_i))
		return;
	fsync(fd);
	fstat(fd, &before);
	rc = do_io(BT_IO_PUNCH, 64 * KIB, NULL, 256 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	if (!rc) {
		memset(model + 64 * KIB, 0, 256 * KIB);
		fstat(fd, &after);
		ck_assert_int_lt(after.st_blocks, before.st_blocks);
	}
	rc = do_io(BT_IO_ZERO, 512 * KIB, NULL, 8 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	if (!rc)
		memset(model + 512 * KIB, 0, 8 * KIB);
	check_file();
	rc = do_io(BT_IO_DISCARD, 0, NULL, 4 * KIB);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	ck_assert_int_eq(pread(fd, &byte, 1, FILE_SIZE - 1), 1);
	fstat(fd, &after);
	ck_assert_int_eq(after.st_size, FILE_SIZE);
	end();
}
END_TEST

START_TEST(errors_of_the_kernel_come_back_and_the_engine_goes_on)
{
	unsigned char byte = 0;
	struct bt_file other;
	struct op *op;
	int null;

	if (!begin(_i))
		return;
	null = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(bt_file_init(&other, engine, null, false, "exe"), 0);
	op = op_new(BT_IO_WRITE, 0, &byte, 1);
	op->io.file = &other;
	ck_assert_int_eq(op_wait(op_submit(op)), -EBADF);
	ck_assert_uint_eq(other.in_flight, 0);
	bt_file_fini(&other);
	close(null);
	ck_assert_int_eq(do_io(BT_IO_READ, 4096, &byte, 1), 0);
	ck_assert_uint_eq(byte, model[4096]);
	end();
}
END_TEST

START_TEST(ios_that_make_no_sense_end_with_einval_and_empty_ones_well)
{
	unsigned char *memory;

	if (!begin(_i))
		return;
	memory = aligned_alloc(4096, 8192);
	memset(memory, 0, 8192);
	ck_assert_int_eq(do_io(BT_IO_READ, UINT64_MAX - 10, memory, 100),
			 -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_READ, INT64_MAX, memory, 1), -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_OP_COUNT, 0, memory, 1), -EINVAL);
	ck_assert_int_eq(do_io(BT_IO_READ, 5, memory, 0), 0);
	{
		struct op *op = op_new(BT_IO_READ, 0, memory, 4096);

		op->io.length = 8192; /* more than its memory */
		ck_assert_int_eq(op_wait(op_submit(op)), -EINVAL);
	}
	if (reopen_direct() && file.offset_align > 1) {
		ck_assert_int_eq(do_io(BT_IO_READ, 1, memory, 4096), -EINVAL);
		ck_assert_int_eq(do_io(BT_IO_READ, 0, memory, 4095), -EINVAL);
	}
	free(memory);
	end();
}
END_TEST

/* Writes to the page cache by plain calls, and after a slow one by the engine. */
START_TEST(cached_writes_are_right_with_and_without_plain_calls)
{
	unsigned char *memory;
	struct op *ops[8];
	int round, i;

	if (!begin(_i))
		return;
	memory = aligned_alloc(4096, 8 * 8192);
	for (round = 0; round < 2; round++) {
		file.plain_from_ns = round ? UINT64_MAX : 0;
		memset(memory, 0x40 + round, 8 * 8192);
		for (i = 0; i < 8; i++)
			ops[i] = op_submit(op_new(BT_IO_WRITE,
						  (uint64_t)i * 16384,
						  memory + i * 8192, 8192));
		for (i = 0; i < 8; i++)
			ck_assert_int_eq(op_wait(ops[i]), 0);
		for (i = 0; i < 8; i++)
			memset(model + i * 16384, 0x40 + round, 8192);
		check_file();
	}
	free(memory);
	end();
}
END_TEST

/* Large writes go to the device in portions, large reads to a thread. */
START_TEST(file_that_streams_is_right_and_is_written_behind)
{
	const uint64_t piece = 256 * KIB, portion = 16 * 1024 * KIB;
	unsigned char *memory = aligned_alloc(4096, piece);
	uint64_t written;

	if (!begin(_i)) {
		free(memory);
		return;
	}
	file.streams = true;
	for (written = 0; written < portion + piece; written += piece) {
		memset(memory, (int)(written / piece) + 1, piece);
		ck_assert_int_eq(do_io(BT_IO_WRITE, 2 * piece, memory, piece),
				 0);
	}
	memset(model + 2 * piece, (int)(written / piece), piece);
	if (file.behind_to) /* the engine does plain calls */
		ck_assert_uint_eq(file.behind_bytes, piece);
	memset(memory, 0, piece);
	ck_assert_int_eq(do_io(BT_IO_READ, 2 * piece - 100, memory, piece), 0);
	ck_assert(!memcmp(memory, model + 2 * piece - 100, piece));
	ck_assert_int_eq(do_io(BT_IO_SYNC, 0, NULL, 0), 0);
	check_file();
	free(memory);
	end();
}
END_TEST

static unsigned char seen_of_next;

/* The first of two writes has ended: what is in the file where the second goes. */
static void first_done(struct bt_io *io, int error)
{
	ck_assert_int_eq(pread(file.fd, &seen_of_next, 1,
			       (off_t)(io->offset + io->length)),
			 1);
	on_done(io, error);
}

/* So that the copy can ask for its next read while the second is made. */
START_TEST(writes_that_stream_end_before_the_next_is_made)
{
	const uint64_t piece = 256 * KIB;
	unsigned char *memory = aligned_alloc(4096, 2 * piece);
	struct op *ops[2];
	unsigned int i;

	if (!begin(_i)) {
		free(memory);
		return;
	}
	file.streams = true;
	memset(memory, 0x5a, 2 * piece);
	for (i = 0; i < 2; i++)
		ops[i] = op_new(BT_IO_WRITE, i * piece, memory + i * piece,
				piece);
	ops[0]->io.done = first_done;
	for (i = 0; i < 2; i++)
		op_submit(ops[i]);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(op_wait(ops[i]), 0);
	if (engine->backend->takes_no_plain)
		ck_assert_uint_eq(seen_of_next, model[piece]);
	ck_assert_uint_ne(model[piece], 0x5a);
	memset(model, 0x5a, 2 * piece);
	check_file();
	free(memory);
	end();
}
END_TEST

/* A loop device on the file, which is gone with its descriptor; -1 where there
 * is none to be had. */
static int open_loop_device(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)fd,
				      .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	char path[32];
	int number, device;

	if (control < 0)
		return -1;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	device = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) < 0) {
		close(device);
		return -1;
	}
	return device;
}

START_TEST(device_is_written_and_its_ranges_are_freed)
{
	unsigned char block[4096];
	struct stat before, after;
	struct bt_file device;
	int dev;

	if (!begin(_i))
		return;
	dev = open_loop_device();
	if (dev < 0) {
		end();
		return;
	}
	ck_assert_int_eq(bt_file_init(&device, engine, dev, false, "loop"), 0);
	ck_assert(device.is_block);
	memset(block, 0x99, sizeof(block));
	ck_assert_int_eq(do_io_on(&device, BT_IO_WRITE, 4096, block, 4096), 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_SYNC, 0, NULL, 0), 0);
	memset(model + 4096, 0x99, 4096);
	check_file();
	fsync(fd);
	fstat(fd, &before);
	ck_assert_int_eq(
		do_io_on(&device, BT_IO_DISCARD, 64 * KIB, NULL, 256 * KIB), 0);
	ck_assert_int_eq(
		do_io_on(&device, BT_IO_DISCARD, 512 * KIB, NULL, 64 * KIB), 0);
	fstat(fd, &after);
	ck_assert_int_le(after.st_blocks, before.st_blocks - 2 * 320);
	ck_assert_int_eq(do_io_on(&device, BT_IO_PUNCH, 0, NULL, 8192), 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_READ, 4096, block, 4096), 0);
	ck_assert_uint_eq(block[0] | block[4095], 0);
	ck_assert_int_eq(do_io_on(&device, BT_IO_ZERO, 8192, NULL, 8192), 0);
	bt_file_fini(&device);
	close(dev);
	end();
}
END_TEST

/* ---- choice of the engine ------------------------------------------------ */

/* From here on the two calls fail, in this process. */

static void add_variants(TCase *tc)
{
	tcase_add_loop_test(tc, bytes_written_are_read_back, 0, VARIANTS);
	tcase_add_loop_test(tc, vectors_of_any_shape_are_filled, 0, VARIANTS);
	tcase_add_loop_test(tc, memory_that_direct_cannot_take_is_bounced, 0,
			    VARIANTS);
	tcase_add_loop_test(
		tc, io_whose_memory_is_odd_only_at_its_start_is_read_right, 0,
		VARIANTS);
	tcase_add_loop_test(tc, more_bounces_than_buffers_wait_their_turn, 0,
			    VARIANTS);
	tcase_add_loop_test(
		tc, end_of_file_is_zeroes_or_an_error_and_never_old_bytes, 0,
		VARIANTS);
	tcase_add_loop_test(tc, end_of_file_concerns_only_the_ios_behind_it, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, neighbours_go_in_one_call, 0, VARIANTS);
	tcase_add_loop_test(tc, more_ios_than_slots_wait_in_order, 0, VARIANTS);
	tcase_add_loop_test(
		tc, ranges_are_freed_and_zeroed_or_it_says_not_supported, 0,
		VARIANTS);
	tcase_add_loop_test(
		tc, errors_of_the_kernel_come_back_and_the_engine_goes_on, 0,
		VARIANTS);
	tcase_add_loop_test(
		tc, ios_that_make_no_sense_end_with_einval_and_empty_ones_well,
		0, VARIANTS);
	tcase_add_loop_test(
		tc, cached_writes_are_right_with_and_without_plain_calls, 0,
		VARIANTS);
	tcase_add_loop_test(tc,
			    file_that_streams_is_right_and_is_written_behind, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, writes_that_stream_end_before_the_next_is_made,
			    0, VARIANTS);
	tcase_add_loop_test(tc, device_is_written_and_its_ranges_are_freed, 0,
			    VARIANTS);
}

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *tc = tcase_create("engines");

	tcase_set_timeout(tc, 30);
	add_variants(tc);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
