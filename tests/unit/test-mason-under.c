/* SPDX-License-Identifier: BSD-3-Clause */
/* A change below a filter that has a module above it, which knows what it stands on
 * by what it found there when it was opened. */
#include "mason-run.h"

#include "vbd/private.h"

#define DISK "d :: disk(\"x\") -> "
#define COW(grain, file)                                         \
	"w :: cow(grain=" grain "); w[top] -> t :: raw(%s/" file \
	"); w[base] -> "                                         \
	"a :: raw(%s/a.raw);"

static struct blktap_disk *disk;
static char *answer;

static int apply(const char *story, struct blktap_error **err)
{
	char text[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), story, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	free(answer);
	answer = NULL;
	return blktap_mason_apply(disk, "next", text, strlen(text), NULL,
				  &answer, err);
}

static void must_apply(const char *story, const char *part)
{
	struct blktap_error *err = NULL;
	int rc = apply(story, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_msg(strstr(answer, part) != NULL, "%s", answer);
}

static void must_refuse(const char *story, const char *part)
{
	struct blktap_error *err = NULL;

	ck_assert_int_eq(apply(story, &err), -EINVAL);
	ck_assert_msg(strstr(blktap_error_get_message(err), part) != NULL, "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
}

static void start(const char *text)
{
	put_image("a.raw", M);
	put_image("s.raw", 4 * M);
	put_image("t.raw", 4 * M);
	put_image("u.raw", 4 * M);
	put("x.mason", text);
	disk = open_disk("x.mason", NULL);
}

static void end(void)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	free(answer);
	answer = NULL;
}

static void fill(uint64_t offset, char byte)
{
	char data[4096];

	memset(data, byte, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, offset, data, 4096), 0);
}

static void expect(uint64_t offset, char byte)
{
	char data[4096];

	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, offset, data, 4096), 0);
	ck_assert_int_eq(data[0], byte);
	ck_assert_int_eq(data[4095], byte);
}

/* Opened anew it has what was filled: 1, 2, and so on, a block each. */
static void end_with(char last)
{
	char n;

	end();
	disk = open_disk("x.mason", NULL);
	for (n = 1; n <= last; n++)
		expect((uint64_t)(n - 1) * 4096, n);
	end();
}

#define CACHE                                                         \
	DISK "c :: cache(mode=writeback, size=1M); c[store] -> s :: " \
	     "raw(%s/s.raw); c[origin] -> th :: throttle(iops=100000/s) -> "

/* A cache writes 4 KiB at once, and a cow of 64 KiB would take each for a whole
 * piece of its own. */
START_TEST(a_module_is_not_kept_over_blocks_that_it_would_not_be_opened_over)
{
	start(CACHE "a :: raw(%s/a.raw);");
	fill(0, 1);
	must_refuse(CACHE COW("64k", "t.raw"), "larger than 4096");
	fill(4096, 2);
	must_apply(CACHE COW("4k", "u.raw"), "2 replaced");
	fill(8192, 3);
	end_with(3);
}
END_TEST

START_TEST(a_module_that_comes_is_opened_over_what_will_be_below_it)
{
	start(DISK "th :: throttle(iops=100000/s) -> a :: raw(%s/a.raw);");
	fill(0, 1);
	must_refuse(CACHE COW("64k", "t.raw"), "larger than 4096");
	must_apply(CACHE COW("4k", "u.raw"), "\"pause\":\"all\"");
	fill(4096, 2);
	end_with(2);
}
END_TEST

#define STORE(file)                                                           \
	DISK "c :: cache(mode=writeback, size=1M); c[store] -> th :: "        \
	     "throttle(iops=100000/s) -> " file "; c[origin] -> a :: raw(%s/" \
	     "a.raw);"

START_TEST(a_module_whose_store_is_exchanged_below_a_filter_begins_anew)
{
	start(STORE("s :: raw(%s/s.raw)"));
	fill(0, 1);
	fill(4096, 2);
	must_apply(STORE("t :: raw(%s/t.raw)"), "1 added, 1 removed");
	expect(0, 1);
	fill(8192, 3);
	end_with(3);
}
END_TEST

/* A disk looks at its limits itself. */
START_TEST(a_filter_right_below_a_disk_stays)
{
	start(DISK "th :: throttle(iops=100000/s) -> a :: raw(%s/a.raw);");
	fill(0, 1);
	must_apply(DISK "th :: throttle(iops=100000/s) -> " COW("64k", "t.raw"),
		   "0 replaced");
	fill(4096, 2);
	expect(0, 1);
	expect(4096, 2);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-under");
	TCase *tc = tcase_create("under");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc,
		a_module_is_not_kept_over_blocks_that_it_would_not_be_opened_over);
	tcase_add_test(
		tc, a_module_that_comes_is_opened_over_what_will_be_below_it);
	tcase_add_test(
		tc,
		a_module_whose_store_is_exchanged_below_a_filter_begins_anew);
	tcase_add_test(tc, a_filter_right_below_a_disk_stays);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
