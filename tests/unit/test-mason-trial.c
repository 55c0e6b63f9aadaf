/* SPDX-License-Identifier: BSD-3-Clause */
/* A change that is given up when all that it needs is open, some time after that. The
 * disk goes on without what was opened, and then the same change is made. */
#include "mason-run.h"

#include "vbd/private.h"

#define BLOCKS (M / 4096)

static struct blktap_disk *disk;
static bool gives_up;

static int on_step(void *opaque, const char *name)
{
	uint32_t i;

	(void)opaque;
	if (!gives_up || strcmp(name, "assert"))
		return 0;
	for (i = 0; i < 500; i++)
		ck_assert_int_eq(blktap_context_run(context, 1), 0);
	return -EPERM;
}

static int apply(const char *story)
{
	char text[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), story, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	return blktap_mason_apply(disk, "next", text, strlen(text), NULL, NULL,
				  NULL);
}

/* Other bytes in each 64 KiB. */
static char byte_at(uint32_t block, char byte)
{
	return (char)(byte + block / 16 * 3);
}

static void fill(char byte)
{
	char data[4096];
	uint32_t i;

	for (i = 0; i < BLOCKS; i++) {
		memset(data, byte_at(i, byte), sizeof(data));
		ck_assert_int_eq(
			io(disk, BLKTAP_OP_WRITE, i * 4096ull, data, 4096), 0);
	}
}

static void expect(char byte)
{
	char data[4096];
	uint32_t i;

	for (i = 0; i < BLOCKS; i++) {
		ck_assert_int_eq(
			io(disk, BLKTAP_OP_READ, i * 4096ull, data, 4096), 0);
		ck_assert_int_eq(data[0], byte_at(i, byte));
	}
}

static void begin(void)
{
	put_image("a.raw", M);
	put_image("b.raw", M);
	put_image("s.raw", 2 * M);
	put("x.mason", "d :: disk(\"x\") -> a :: raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	context->run_ops.step = on_step;
	fill(1);
}

static void try_twice(const char *story)
{
	begin();
	gives_up = true;
	ck_assert_int_eq(apply(story), -EPERM);
	fill(2);
	gives_up = false;
	ck_assert_int_eq(apply(story), 0);
	expect(2);
}

#define B "d :: disk(\"x\") -> b :: raw(%s/b.raw);"

static const struct {
	const char *story, *last;
} moves[] = {
	{ "d :: disk(\"x\") -> m :: mirror(sync=background, region=64k);"
	  "m[0] -> a :: raw(%s/a.raw); m[1] -> b :: raw(%s/b.raw);"
	  "m[log] -> raw(%s/s.raw);",
	  "assert run.m.state == synced && run.m.dirty == 0;" B },
	{ "d :: disk(\"x\") -> m :: copy(region=64k);"
	  "m[from] -> a :: raw(%s/a.raw); m[to] -> b :: raw(%s/b.raw);"
	  "m[log] -> raw(%s/s.raw);",
	  "assert run.m.state == done;" B },
};

START_TEST(a_copy_has_what_was_written_after_it_was_given_up)
{
	uint32_t tries = 0;
	int rc;

	try_twice(moves[_i].story);
	while ((rc = apply(moves[_i].last)) == -EAGAIN) {
		ck_assert_int_lt(++tries, 10000);
		ck_assert_int_eq(blktap_context_run(context, 1), 0);
	}
	ck_assert_int_eq(rc, 0);
	expect(2);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* The upper one reads all that the lower one has the sums of. */
START_TEST(a_checksum_that_was_given_up_takes_the_disk_as_it_is_then)
{
	try_twice("d :: disk(\"x\") -> u :: checksum(adopt=true);"
		  "u[store] -> raw(%s/b.raw);"
		  "u[lower] -> c :: checksum(adopt=true);"
		  "c[store] -> raw(%s/s.raw); c[lower] -> a :: raw(%s/a.raw);");
	fill(3);
	expect(3);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

#define SUMS "u :: checksum(adopt=true); a :: raw(%s/a.raw);"

/* What it has taken over is in its store, though nobody has read or written yet. */
START_TEST(a_checksum_whose_successor_is_given_up_has_its_own_sums)
{
	begin();
	ck_assert_int_eq(apply("d :: disk(\"x\") -> u; u[lower] -> a;" SUMS
			       "u[store] -> raw(%s/b.raw);"),
			 0);
	gives_up = true;
	ck_assert_int_lt(
		apply("d :: disk(\"x\") -> u; u[lower] -> c :: cache(size=1M);"
		      "c[origin] -> a;" SUMS "u[store] -> raw(%s/b.raw);"
		      "c[store] -> raw(%s/s.raw);"),
		0);
	expect(1);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

#define CACHE                                                        \
	"c :: cache(size=1M, bypass=0); c[store] -> raw(%s/s.raw); " \
	"a :: raw(%s/a.raw);"

/* The checksum reads the disk through the cache that comes, which has the slots of
 * the one that stays. */
START_TEST(a_cache_whose_successor_is_given_up_has_its_own_data)
{
	put_image("a.raw", M);
	put_image("b.raw", M);
	put_image("s.raw", 2 * M);
	put("x.mason", "d :: disk(\"x\") -> c; c[origin] -> a;" CACHE);
	disk = open_disk("x.mason", NULL);
	context->run_ops.step = on_step;
	fill(1);
	expect(1);
	gives_up = true;
	ck_assert_int_eq(
		apply("d :: disk(\"x\") -> u :: checksum(adopt=true);" CACHE
		      "c[origin] -> slice(offset=0, size=1M) -> a;"
		      "u[lower] -> c; u[store] -> raw(%s/b.raw);"),
		-EPERM);
	expect(1);
	fill(2);
	expect(2);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-trial");
	TCase *tc = tcase_create("trial");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(
		tc, a_copy_has_what_was_written_after_it_was_given_up, 0, 2);
	tcase_add_test(
		tc, a_checksum_that_was_given_up_takes_the_disk_as_it_is_then);
	tcase_add_test(tc,
		       a_checksum_whose_successor_is_given_up_has_its_own_sums);
	tcase_add_test(tc,
		       a_cache_whose_successor_is_given_up_has_its_own_data);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
