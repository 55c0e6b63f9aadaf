/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks of the type mason: opened from files, through the public interface. */
#include "mason-run.h"

#include <sys/file.h>
#include "vbd/private.h"

START_TEST(a_file_with_one_disk_needs_no_name)
{
	char data[4096], back[4096];
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put("x.mason", "d :: disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	ck_assert_uint_eq(size_of(disk), M);
	memset(data, 7, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 8192, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", "x");
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 8192, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(two_disks_of_a_file_share_the_nodes_both_reach)
{
	char data[4096], back[4096];
	struct blktap_disk *a, *b;

	put_image("a.raw", 2 * M);
	put("x.mason", "disk(\"a\") -> slice(offset=0, size=1M) -> r;\n"
		       "disk(\"b\") -> slice(offset=1M, size=1M) -> r;\n"
		       "export(\"all\", ro=true) -> r :: raw(%s/a.raw);");
	a = open_disk("x.mason", "a");
	b = open_disk("x.mason", "b");
	memset(data, 9, sizeof(data));
	ck_assert_int_eq(io(b, BLKTAP_OP_WRITE, 4096, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(b), 0);
	b = open_disk("x.mason", "all");
	ck_assert_uint_eq(size_of(b), 2 * M);
	ck_assert_int_eq(io(b, BLKTAP_OP_READ, M + 4096, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_lt(io(b, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(a), 0);
	ck_assert_int_eq(io(b, BLKTAP_OP_READ, M + 4096, back, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(b), 0);
}
END_TEST

START_TEST(an_image_opens_its_own_parents_where_none_is_linked)
{
	struct blktap_image_options options;
	char data[4096], back[4096];
	struct blktap_disk *disk;
	char base[128];

	put_image("base.raw", M);
	put_image("other.raw", M);
	blktap_image_options_init(&options);
	snprintf(base, sizeof(base), "%s", in_dir("base.raw"));
	options.backing = base;
	options.backing_format = "raw";
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top.qcow2"),
					     &options, NULL),
			 0);
	memset(data, 3, sizeof(data));
	disk = NULL;
	put("base.mason", "disk(\"b\") -> raw(%s/base.raw);");
	disk = open_disk("base.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	put("x.mason", "disk(\"x\") -> qcow2(%s/top.qcow2);");
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_mem_eq(data, back, 4096);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	/* the link wins over what the image says */
	put("y.mason", "disk(\"x\") -> top :: qcow2(%s/top.qcow2);\n"
		       "top[base] -> raw(%s/other.raw);");
	disk = open_disk("y.mason", NULL);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(back[0], 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void expect_used(struct blktap_disk *disk, const char *bytes)
{
	struct bt_node *node = bt_run_find(disk->front.run, "c");
	char text[32];

	ck_assert(node->cls->get_value(node, "used", text, sizeof(text)));
	ck_assert_str_eq(text, bytes);
}

/* The cache learns that the disk is closed, though nothing is ever flushed to what
 * is only read. */
START_TEST(a_cache_before_a_base_has_what_was_read_when_it_comes_back)
{
	static const char *const tops[] = { "qcow2(%s/top.qcow2)", "cow()",
					    "vhd(%s/top.vhd)" };
	struct blktap_image_options options;
	struct blktap_disk *disk;
	char data[4096], base[128], text[512];

	put_image("base.raw", M);
	put_image("ssd.raw", 4 * M);
	put_image("top.raw", 4 * M);
	blktap_image_options_init(&options);
	snprintf(base, sizeof(base), "%s", in_dir("base.raw"));
	options.backing = base;
	options.backing_format = "raw";
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top.qcow2"),
					     &options, NULL),
			 0);
	ck_assert_int_eq(
		blktap_image_create("vhd", in_dir("top.vhd"), &options, NULL),
		0);
	snprintf(text, sizeof(text),
		 "disk(\"x\") -> t :: %s;\n"
		 "t[%s] -> c :: cache();\n%s"
		 "c[origin] -> raw(%%s/base.raw); c[store] -> "
		 "raw(%%s/ssd.raw);",
		 tops[_i], _i == 2 ? "parent" : "base",
		 _i == 1 ? "t[top] -> raw(%s/top.raw);\n" : "");
	put("x.mason", text);
	disk = open_disk("x.mason", NULL);
	expect_used(disk, "0");
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 65536, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	disk = open_disk("x.mason", NULL);
	expect_used(disk, "4096");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* What keeps running below it is no reason to keep what was opened to be read. */
START_TEST(a_module_that_gets_a_writer_is_opened_to_be_written)
{
#define TWO                                      \
	"disk(\"a\"%s) -> r :: raw(%s/a.raw);\n" \
	"disk(\"b\"%s) -> c :: cbt(\"%s/log\") -> r;"
	struct blktap_error *err = NULL;
	char data[4096] = { 1 }, *answer = NULL, text[512];
	struct blktap_disk *disk;
	int rc;

	put_image("a.raw", M);
	ck_assert_int_eq(blktap_cbt_create(in_dir("log"), M, NULL), 0);
	snprintf(text, sizeof(text), TWO, "", dir, ", ro=true", dir);
	put("x.mason", text);
	disk = open_disk("x.mason", "b");
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), -EPERM);
	snprintf(text, sizeof(text), TWO, ", ro=true", dir, "", dir);
	rc = blktap_mason_apply(disk, "new.mason", text, strlen(text), NULL,
				&answer, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	free(answer);
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(a_graph_that_was_dumped_is_the_one_that_runs)
{
	struct blktap_error *err = NULL;
	char *text = NULL, *answer = NULL;
	struct blktap_disk *disk;
	int rc;

	put("x.mason",
	    "disk(\"x\") -> a-b :: slice(offset=0, size=512k) -> c_d-e;\n"
	    "export(\"y\") -> a_b :: slice(offset=512k, size=512k) -> "
	    "c_d-e :: ram(1M);");
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(blktap_mason_dump(disk, &text, NULL), 0);
	rc = blktap_mason_apply(disk, "new.mason", text, strlen(text), NULL,
				&answer, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_msg(strstr(answer, "2 kept, 0 reconfigured, 0 replaced, "
				     "0 added, 0 removed") != NULL,
		      "%s", answer);
	free(answer);
	free(text);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* Names that a dump makes, and those that are one already. */
START_TEST(a_dump_gives_no_node_the_name_of_another)
{
	struct blktap_error *err = NULL;
	char *text = NULL, *answer = NULL;
	struct blktap_disk *disk;
	int rc;

	put("x.mason", "disk(\"x\") -> disk_1_0 :: slice(offset=0, size=1M) -> "
		       "disk_1_0_ :: slice(offset=0, size=1M) -> ram(1M);");
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(blktap_mason_dump(disk, &text, NULL), 0);
	rc = blktap_mason_apply(disk, "new.mason", text, strlen(text), NULL,
				&answer, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_ptr_nonnull(strstr(answer, "3 kept, 0 reconfigured"));
	free(answer);
	free(text);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static const char *const locks[][3] = {
	{ "d :: disk(\"x\") -> a :: raw(\"%s/a.img\");",
	  "d :: disk(\"x\") -> a :: raw(\"%s/a.img\", cache=writeback);",
	  "refused as busy" },
	{ "d :: disk(\"x\", ro=true) -> a :: raw(\"%s/a.img\");",
	  "d :: disk(\"x\") -> a :: raw(\"%s/a.img\");", "refused as busy" },
	{ "d :: disk(\"x\", ro=true) -> a :: raw(\"%s/a.img\");",
	  "d :: disk(\"x\", ro=true) -> a :: raw(\"%s/a.img\", "
	  "cache=writeback);",
	  NULL },
};

/* Two writers of one file there cannot be, nor a writer beside a reader. */
START_TEST(a_plan_says_what_will_be_refused_as_busy)
{
	struct blktap_mason_change change;
	struct blktap_disk *disk;
	char *answer = NULL;
	char text[512];

	put_image("a.img", M);
	put("x.mason", locks[_i][0]);
	disk = open_disk("x.mason", NULL);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), locks[_i][1], dir);
#pragma GCC diagnostic pop
	blktap_mason_change_init(&change);
	change.plan_only = true;
	ck_assert_int_eq(blktap_mason_apply(disk, "next", text, strlen(text),
					    &change, &answer, NULL),
			 0);
	ck_assert_msg(!locks[_i][2] == !strstr(answer, "refused as busy"), "%s",
		      answer);
	ck_assert_ptr_nonnull(strstr(answer, "1 replaced"));
	free(answer);
	ck_assert_int_eq(blktap_mason_apply(disk, "next", text, strlen(text),
					    NULL, NULL, NULL),
			 locks[_i][2] ? -EBUSY : 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_does_not_open_is_named_and_leaves_nothing_open)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	refuse("none.mason", NULL, -ENOENT, "none.mason");
	put("x.mason", "disk(\"x\") -> slcie(offset=0, size=1M) -> ram(1M);");
	refuse("x.mason", NULL, -EINVAL, "there is no class 'slcie'");
	put("x.mason", "disk(\"x\") -> ram(1M); disk(\"y\") -> ram(1M);");
	refuse("x.mason", NULL, -EINVAL, "there are 2 disks in it");
	refuse("x.mason", "z", -ENOENT, "there is no disk 'z' in it");
	put("x.mason", "disk(\"x\") -> s :: slice(offset=1M, size=1M) -> "
		       "raw(%s/a.raw);");
	refuse("x.mason", NULL, -ERANGE, "x.mason: s: ends");
	put("x.mason", "disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	refuse("x.mason", "x", -EBUSY, "disk 'x' is in use");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void on_pause(void *opaque, int error, const char *message)
{
	(void)message;
	*(int *)opaque = error;
}

START_TEST(a_paused_disk_of_a_file_lets_its_images_go)
{
	struct blktap_disk *disk, *other;
	char back[4096];
	int error = 1;

	put_image("a.raw", M);
	put("x.mason", "disk(\"x\") -> raw(%s/a.raw);");
	put("y.mason", "disk(\"x\") -> raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	refuse("y.mason", NULL, -EBUSY, "a.raw");
	ck_assert_int_eq(blktap_disk_pause(disk, 0, on_pause, &error), 0);
	while (error == 1)
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_int_eq(error, 0);
	other = open_disk("y.mason", NULL);
	ck_assert_int_eq(blktap_disk_close(other), 0);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_another_process_could_not_go_on_with_is_known)
{
	static const struct {
		const char *text, *node;
	} cases[] = {
		{ "raw(%s/a.raw)", NULL },
		{ "r :: ram(1M)", "r" },
		{ "null(1M)", NULL },
		{ "slice(offset=0, size=64k) -> throttle() -> r :: ram(1M)",
		  "r" },
		{ "mirror() => raw(%s/a.raw), r :: ram(1M)", "r" },
		{ "w :: writelog(); w[lower] -> raw(%s/a.raw); "
		  "w[log] -> ram(4M)",
		  NULL },
		{ "c :: cache(); c[origin] -> raw(%s/a.raw); "
		  "c[store] -> ram(4M)",
		  NULL },
		{ "c :: cow(); c[top] -> r :: ram(4M); "
		  "c[base] -> raw(%s/a.raw, ro=true)",
		  "r" },
		{ "[live] s :: snap(); s[origin] -> raw(%s/a.raw); "
		  "s[delta] -> ram(4M)",
		  NULL },
		{ "[image] s :: snap(); s[origin] -> raw(%s/a.raw); "
		  "s[delta] -> r :: ram(4M)",
		  "r" },
	};
	struct blktap_disk *disk;
	char text[256];

	put_image("a.raw", M);
	snprintf(text, sizeof(text), "d :: disk(\"x\") -> %s;", cases[_i].text);
	put("x.mason", text);
	disk = open_disk("x.mason", NULL);
	if (cases[_i].node)
		ck_assert_str_eq(bt_vbd_get_volatile(disk), cases[_i].node);
	else
		ck_assert_ptr_null(bt_vbd_get_volatile(disk));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void check_wrong(const struct blktap_class *cls, const char *arguments)
{
	struct blktap_mason_options options;
	struct blktap_mason *mason;
	char text[256];

	snprintf(text, sizeof(text), "%s(%s);\nlet oops = 1;",
		 blktap_class_get_name(cls), arguments);
	blktap_mason_options_init(&options);
	options.next_class = blktap_class_next;
	ck_assert_int_eq(blktap_mason_check("t", text, strlen(text), &options,
					    &mason, NULL),
			 0);
	ck_assert_msg(blktap_mason_get_errors(mason) >= 1, "%s", text);
	blktap_mason_destroy(mason);
}

/* A class is asked about its arguments only where those that it needs are there:
 * the checker runs in the tapdisk that the disks of others are served by. */
START_TEST(no_class_is_asked_of_arguments_that_are_not_there)
{
	static const char *const wrong[] = { "",    "0x10", "10GB", "$none",
					     "[[]", "a.b",  "-1",   "1.5" };
	const struct blktap_class *cls = NULL;
	const struct blktap_param *param;
	uint32_t i, k, classes = 0;
	char arguments[128];

	while ((cls = blktap_class_next(cls))) {
		classes++;
		for (k = 0; k < BT_ARRAY_SIZE(wrong); k++) {
			check_wrong(cls, wrong[k]);
			for (i = 0; (param = blktap_class_get_param(cls, i));
			     i++) {
				snprintf(arguments, sizeof(arguments), "%s=%s",
					 param->name, wrong[k]);
				check_wrong(cls, arguments);
			}
		}
	}
	ck_assert_uint_ge(classes, 25);
}
END_TEST

#define TWO_DISKS(a)                               \
	"a :: disk(\"a\") -> " a "raw(%s/a.raw); " \
	"b :: disk(\"b\") -> raw(%s/b.raw);"

static int apply_to(struct blktap_disk *disk, const char *graph,
		    struct blktap_error **err)
{
	char *answer = NULL;
	int rc;

	put("new.mason", graph);
	rc = blktap_mason_apply(disk, in_dir("new.mason"), NULL, 0, NULL,
				&answer, err);
	free(answer);
	return rc;
}

static void note_pause(void *opaque, int error, const char *message)
{
	(void)message;
	*(int *)opaque = error;
}

/* As two tapdisks that serve a disk of the file each. */
START_TEST(a_change_of_another_process_is_not_written_over)
{
	struct blktap_context *first = context, *other;
	struct blktap_context_options options = { .size = sizeof(options) };
	struct blktap_error *err = NULL;
	struct blktap_disk *a, *b;
	int error = 1;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put("x.mason", TWO_DISKS(""));
	a = open_disk("x.mason", "a");
	ck_assert_int_eq(blktap_context_create(&options, &other, NULL), 0);
	context = other;
	b = open_disk("x.mason", "b");
	context = first;
	ck_assert_int_eq(apply_to(a, TWO_DISKS("log() -> "), NULL), 0);
	ck_assert_int_eq(apply_to(b, TWO_DISKS("delay() -> "), &err), -ESTALE);
	ck_assert_msg(strstr(blktap_error_get_message(err),
			     "another process has applied generation 2, and 1 "
			     "runs here") != NULL,
		      "%s", blktap_error_get_message(err));
	blktap_error_destroy(err);
	ck_assert_int_eq(apply_to(a, TWO_DISKS(""), NULL), 0);
	/* it takes up what the other one has applied, and may change that */
	ck_assert_int_eq(blktap_disk_pause(b, 0, note_pause, &error), 0);
	while (error == 1)
		ck_assert_int_eq(blktap_context_run(other, 1000), 0);
	ck_assert_int_eq(error, 0);
	ck_assert_int_eq(blktap_disk_resume(b, NULL, NULL), 0);
	ck_assert_int_eq(apply_to(b, TWO_DISKS("delay() -> "), NULL), 0);
	ck_assert_int_eq(apply_to(a, TWO_DISKS("log() -> "), NULL), -ESTALE);
	ck_assert_int_eq(blktap_disk_close(a), 0);
	ck_assert_int_eq(blktap_disk_close(b), 0);
	blktap_context_destroy(other);
}
END_TEST

START_TEST(two_processes_do_not_change_a_file_at_once)
{
	struct blktap_disk *a;
	int fd;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put("x.mason", TWO_DISKS(""));
	a = open_disk("x.mason", "a");
	fd = open(in_dir("x.mason"), O_RDONLY);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(apply_to(a, TWO_DISKS("log() -> "), NULL), -EBUSY);
	ck_assert_int_lt(access(in_dir("x.mason.state.new"), F_OK), 0);
	close(fd);
	ck_assert_int_eq(apply_to(a, TWO_DISKS("log() -> "), NULL), 0);
	/* and it is given back, also by a change that fails */
	ck_assert_int_ne(apply_to(a, TWO_DISKS("nonsense() -> "), NULL), 0);
	ck_assert_int_ne(apply_to(a,
				  "a :: disk(\"a\") -> raw(%s/none.raw); "
				  "b :: disk(\"b\") -> raw(%s/b.raw);",
				  NULL),
			 0);
	fd = open(in_dir("x.mason"), O_RDONLY);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	ck_assert_int_eq(blktap_disk_close(a), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-run");
	TCase *tc = tcase_create("open");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, no_class_is_asked_of_arguments_that_are_not_there);
	tcase_add_test(tc, a_file_with_one_disk_needs_no_name);
	tcase_add_test(tc, two_disks_of_a_file_share_the_nodes_both_reach);
	tcase_add_test(tc, an_image_opens_its_own_parents_where_none_is_linked);
	tcase_add_loop_test(
		tc, a_cache_before_a_base_has_what_was_read_when_it_comes_back,
		0, 3);
	tcase_add_test(tc, a_module_that_gets_a_writer_is_opened_to_be_written);
	tcase_add_test(tc, a_graph_that_was_dumped_is_the_one_that_runs);
	tcase_add_test(tc, a_dump_gives_no_node_the_name_of_another);
	tcase_add_loop_test(tc, a_plan_says_what_will_be_refused_as_busy, 0, 3);
	tcase_add_test(tc, what_does_not_open_is_named_and_leaves_nothing_open);
	tcase_add_test(tc, a_paused_disk_of_a_file_lets_its_images_go);
	tcase_add_loop_test(
		tc, what_another_process_could_not_go_on_with_is_known, 0, 10);
	tcase_add_test(tc, a_change_of_another_process_is_not_written_over);
	tcase_add_test(tc, two_processes_do_not_change_a_file_at_once);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
