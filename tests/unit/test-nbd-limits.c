/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors of the disk, read-only exports, and requests just below 4 GiB. */
#include "nbd-client.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define MIB (1u << 20)

static bool no_memory;
static uint8_t dump[512];

/* In place of the C library's. */
void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (no_memory && flags & MAP_ANONYMOUS) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

START_TEST(an_unreadable_block_is_an_error_in_both_kinds)
{
	struct peer p = either(_i);

	leaf.error = -EIO;
	leaf.error_at = 10000;
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, 8192, 4096), NBD_EIO);
	check_at(&p, 0, 4096 * (write_at(&p, 0, 0, 4096) + 1));
	ck_assert_uint_eq(write_at(&p, 0, 8192, 4096), NBD_EIO);
	leaf.error = 0;
	ck_assert_uint_eq(write_at(&p, 0, 8192, 4096), 0);
	check_at(&p, 8192, 4096);
	hang_up(&p);
}
END_TEST

START_TEST(errors_of_the_disk_have_the_protocols_numbers)
{
	static const struct {
		int error;
		uint32_t code;
	} map[] = {
		{ -EIO, NBD_EIO },
		{ -ENOSPC, NBD_ENOSPC },
		{ -EDQUOT, NBD_ENOSPC },
		{ -EFBIG, NBD_ENOSPC },
		{ -EPERM, NBD_EPERM },
		{ -EROFS, NBD_EPERM },
		{ -ENOMEM, NBD_ENOMEM },
		{ -EINVAL, NBD_EINVAL },
		{ -ETIMEDOUT, NBD_EIO },
		{ -ENXIO, NBD_EIO },
		{ -EBADMSG, NBD_EIO },
		{ -ESHUTDOWN, NBD_ESHUTDOWN },
		{ -EOVERFLOW, NBD_EOVERFLOW },
		{ -ENOTSUP, NBD_EINVAL },
	};
	struct peer p = either(_i);
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(map); i++) {
		leaf.error = map[i].error;
		leaf.error_at = 0;
		ck_assert_uint_eq(write_at(&p, 0, 0, 4096), map[i].code);
		ck_assert_uint_eq(request(&p, 0, NBD_CMD_READ, 0, 512),
				  map[i].code);
	}
	leaf.error = -ENOTSUP;
	ck_assert_uint_eq(request(&p, NBD_CMD_FLAG_FAST_ZERO,
				  NBD_CMD_WRITE_ZEROES, 0, 4096),
			  NBD_ENOTSUP);
	hang_up(&p);
}
END_TEST

/* A client that has nothing under way hears of no end that would wake it. */
START_TEST(a_client_that_finds_no_memory_is_served_when_there_is_some)
{
	struct peer p = plain();

	settle();
	bt_nbd_cache_drop(&server->cache);
	no_memory = true;
	put_request(&p, 0, NBD_CMD_READ, 1, 0, 512);
	settle();
	no_memory = false;
	ck_assert_ptr_nonnull(server->starve_timer.loop);
	bt_timer_arm(server->loop, &server->starve_timer, 0);
	ck_assert_uint_eq(get_reply(&p).error, 0);
	get(&p, dump, 512);
	ck_assert_ptr_null(server->starve_timer.loop);
	hang_up(&p);
}
END_TEST

/* ---- read-only ------------------------------------------------------------ */

static void setup_read_only(void)
{
	struct blktap_nbd_options options;

	setup_bare();
	blktap_nbd_options_init(&options);
	options.read_only = true;
	options.any_name = true;
	serve_with("ram:64M", 0, &options);
}

START_TEST(read_only_refuses_every_write_with_eperm)
{
	struct peer p = either(_i);

	ck_assert_uint_eq(write_at(&p, 0, 0, 512), NBD_EPERM);
	ck_assert_uint_eq(write_at(&p, 0, 0, MIB), NBD_EPERM);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_TRIM, 0, 512), NBD_EPERM);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_WRITE_ZEROES, 0, 512),
			  NBD_EPERM);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_FLUSH, 0, 0), 0);
	ck_assert_uint_eq(leaf.seen[BLKTAP_OP_WRITE], 0);
	hang_up(&p);
}
END_TEST

START_TEST(any_name_is_the_export_where_that_was_asked_for)
{
	struct peer p = greet(BOTH);
	uint8_t b[10];

	put_option(&p, NBD_OPT_EXPORT_NAME, "whatever", 8);
	get(&p, b, sizeof(b));
	ck_assert(bt_load_be16(b + 8) & NBD_FLAG_READ_ONLY);
	ck_assert(!(bt_load_be16(b + 8) & NBD_FLAG_SEND_TRIM));
	hang_up(&p);
}
END_TEST

/* ---- a disk over 4 GiB ---------------------------------------------------- */

static void setup_huge(void)
{
	struct blktap_nbd_options options;

	setup_bare();
	blktap_nbd_options_init(&options);
	options.export_name = "disk";
	serve_with("null:8G", 0, &options);
}

START_TEST(block_status_just_below_4_gib)
{
	struct peer p = structured();
	uint8_t b[4096];
	struct reply r;
	uint64_t sum = 0;
	uint32_t i;

	put_request(&p, 0, NBD_CMD_BLOCK_STATUS, 1, 4096, 0xffffffff);
	r = get_reply(&p);
	ck_assert_uint_eq(r.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	get(&p, b, r.len);
	for (i = 4; i < r.len; i += 8)
		sum += bt_load_be32(b + i);
	ck_assert(sum && sum <= 0xffffffff);
	ck_assert_uint_eq(request(&p, 0, NBD_CMD_BLOCK_STATUS, 0, 0),
			  NBD_EINVAL);
	hang_up(&p);
}
END_TEST

START_TEST(trim_and_zeroes_just_below_4_gib)
{
	struct peer p = structured();

	ck_assert_uint_eq(request(&p, 0, NBD_CMD_TRIM, 4096, 0xfffff000), 0);
	ck_assert_uint_eq(
		request(&p, 0, NBD_CMD_WRITE_ZEROES, 4096, 0xfffff000), 0);
	hang_up(&p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-limits");
	TCase *tc;

	tc = nbd_case(suite, "transmission", setup, teardown_serving);
	tcase_add_both(tc, an_unreadable_block_is_an_error_in_both_kinds);
	tcase_add_both(tc, errors_of_the_disk_have_the_protocols_numbers);
	tcase_add_test(
		tc, a_client_that_finds_no_memory_is_served_when_there_is_some);
	tc = nbd_case(suite, "read-only", setup_read_only, teardown);
	tcase_add_both(tc, read_only_refuses_every_write_with_eperm);
	tcase_add_test(tc, any_name_is_the_export_where_that_was_asked_for);
	tc = nbd_case(suite, "huge", setup_huge, teardown);
	tcase_add_test(tc, block_status_just_below_4_gib);
	tcase_add_test(tc, trim_and_zeroes_just_below_4_gib);
	return unit_run(suite);
}
