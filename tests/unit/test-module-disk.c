/* SPDX-License-Identifier: BSD-3-Clause */
/* Modules in disks that files describe, on real images, through the public
 * interface: random requests, a flat reference, and what is left on the images. */
#include "mason-run.h"

#include "model.h"

static void expect_equal_files(const char *a, const char *b)
{
	char command[512];

	snprintf(command, sizeof(command), "cmp '%s' '%s'", in_dir(a),
		 in_dir(b));
	ck_assert_int_eq(system(command), 0);
}

/* Random requests, and again after it was closed and opened. */
static void run_model(const char *file, uint64_t size, uint64_t seed)
{
	struct model model;
	int i;

	model_init(&model, context, size, 512, seed);
	for (i = 0; i < 3; i++) {
		model.disk = open_disk(file, NULL);
		model_verify(&model);
		model_run(&model, 400);
		model_verify(&model);
		ck_assert_int_eq(blktap_disk_close(model.disk), 0);
	}
	model_fini(&model);
}

START_TEST(a_mirror_with_a_log_keeps_two_images_the_same)
{
	put_image("a.raw", 4 * M);
	put_image("b.raw", 4 * M);
	put_image("log", M);
	put("x.mason",
	    "disk(\"x\") -> throttle(iops=1000000/s)\n"
	    " -> m :: mirror(read=spread, sync=background, @on_error=degrade)\n"
	    " => a :: raw(%s/a.raw), b :: raw(%s/b.raw);\n"
	    "m[log] -> raw(%s/log);");
	run_model("x.mason", 4 * M, 1);
	expect_equal_files("a.raw", "b.raw");
}
END_TEST

START_TEST(a_cow_keeps_its_writes_and_its_base)
{
	int fd;

	put_image("base.raw", 4 * M);
	put_image("copy.raw", 4 * M);
	put_image("top", 6 * M);
	put("x.mason", "disk(\"x\") -> c :: cow(); c[top] -> raw(%s/top);\n"
		       "c[base] -> raw(%s/base.raw, ro=true);");
	run_model("x.mason", 4 * M, 2);
	expect_equal_files("base.raw", "copy.raw");
	/* a base that is cut short is another base */
	fd = open(in_dir("base.raw"), O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 3 * M), 0);
	close(fd);
	refuse("x.mason", NULL, -EINVAL, "4194304");
}
END_TEST

START_TEST(concat_and_stripe_put_their_parts_where_they_were)
{
	put_image("a.raw", 2 * M);
	put_image("b.raw", 2 * M);
	put_image("c.raw", M);
	put("x.mason", "disk(\"x\") -> concat() =>\n"
		       " (stripe(chunk=16k) => a :: raw(%s/a.raw),\n"
		       "  b :: raw(%s/b.raw)), c :: raw(%s/c.raw);");
	run_model("x.mason", 5 * M, 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("module-disk");
	TCase *tc = tcase_create("module-disk");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_mirror_with_a_log_keeps_two_images_the_same);
	tcase_add_test(tc, a_cow_keeps_its_writes_and_its_base);
	tcase_add_test(tc, concat_and_stripe_put_their_parts_where_they_were);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
