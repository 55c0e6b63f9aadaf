/* SPDX-License-Identifier: BSD-3-Clause */
/* Graphs that change while their disks run. */
#include "mason-run.h"

#include "vbd/private.h"

static char *answer;

static int apply(struct blktap_disk *disk, const char *text,
		 struct blktap_error **err)
{
	char full[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(full, sizeof(full), text, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	free(answer);
	answer = NULL;
	return blktap_mason_apply(disk, in_dir("new.mason"), full, strlen(full),
				  NULL, &answer, err);
}

static void must_apply(struct blktap_disk *disk, const char *text,
		       const char *part)
{
	struct blktap_error *err = NULL;
	int rc = apply(disk, text, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_ptr_nonnull(answer);
	ck_assert_msg(strstr(answer, part) != NULL, "%s", answer);
}

static void must_refuse(struct blktap_disk *disk, const char *text, int code,
			const char *part)
{
	uint64_t generation = blktap_mason_get_generation(disk);
	struct blktap_error *err = NULL;
	int rc = apply(disk, text, &err);

	ck_assert_ptr_nonnull(err);
	ck_assert_msg(strstr(blktap_error_get_message(err), part) != NULL, "%s",
		      blktap_error_get_message(err));
	ck_assert_int_eq(rc, code);
	blktap_error_destroy(err);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), generation);
}

static struct blktap_disk *start(const char *text)
{
	put("x.mason", text);
	return open_disk("x.mason", NULL);
}

static void end(struct blktap_disk *disk)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	free(answer);
	answer = NULL;
}

static void fill(struct blktap_disk *disk, uint64_t offset, char byte)
{
	char data[4096];

	memset(data, byte, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, offset, data, 4096), 0);
}

static void expect(struct blktap_disk *disk, uint64_t offset, char byte)
{
	char data[4096];

	memset(data, ~byte, sizeof(data));
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, offset, data, 4096), 0);
	ck_assert_int_eq(data[0], byte);
	ck_assert_int_eq(data[4095], byte);
}

#define DISK "d :: disk(\"x\") -> "

START_TEST(the_same_graph_again_changes_nothing)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");

	fill(disk, 0, 1);
	must_apply(disk, DISK "r :: ram(1M);",
		   "1 kept, 0 reconfigured, 0 replaced, 0 added, 0 removed; "
		   "pause: none");
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 2);
	expect(disk, 0, 1);
	end(disk);
}
END_TEST

START_TEST(a_filter_comes_and_goes_and_nothing_is_held)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");

	fill(disk, 0, 1);
	must_apply(disk, DISK "t :: throttle(iops=100000/s) -> r :: ram(1M);",
		   "1 added, 0 removed; pause: none");
	expect(disk, 0, 1);
	fill(disk, 4096, 2);
	must_apply(disk, DISK "t :: throttle(iops=200000/s) -> r :: ram(1M);",
		   "1 reconfigured");
	must_apply(disk, DISK "r :: ram(1M);",
		   "0 added, 1 removed; pause: none");
	expect(disk, 4096, 2);
	end(disk);
}
END_TEST

START_TEST(a_node_that_was_called_otherwise_is_the_same)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");

	fill(disk, 0, 5);
	must_apply(disk, DISK "new :: ram(1M) was r;", "1 kept");
	ck_assert_str_eq(disk->root->name, "new");
	expect(disk, 0, 5);
	must_apply(disk, DISK "other :: ram(1M);", "1 added, 1 removed");
	expect(disk, 0, 0);
	end(disk);
}
END_TEST

START_TEST(anonymous_nodes_are_known_by_what_they_are)
{
	struct blktap_disk *disk =
		start(DISK "slice(offset=0, size=1M) -> ram(2M);");

	fill(disk, 0, 7);
	must_apply(disk,
		   DISK "throttle(iops=9999/s) -> slice(offset=0, size=1M) -> "
			"ram(2M);",
		   "2 kept, 0 reconfigured, 0 replaced, 1 added");
	expect(disk, 0, 7);
	end(disk);
}
END_TEST

START_TEST(what_would_shrink_or_lose_data_is_refused_and_named)
{
	struct blktap_disk *disk = start(DISK "r :: ram(2M);");
	struct blktap_mason_change change;

	must_refuse(disk, DISK "s :: slice(offset=0, size=1M) -> r :: ram(2M);",
		    -EINVAL,
		    "disk 'x' would shrink from 2097152 to 1048576 bytes");
	must_refuse(disk, "e :: disk(\"y\") -> r :: ram(2M);", -EBUSY,
		    "disk 'x' is in use, and not in the new graph");
	must_refuse(disk, DISK "r :: ram(2M) -> q;", -EINVAL, "new.mason:1:");
	must_refuse(disk, DISK "raw(%s/none.raw);", -ENOENT, "none.raw");
	blktap_mason_change_init(&change);
	change.allow_shrink = true;
	ck_assert_int_eq(blktap_mason_apply(disk, "new",
					    DISK "s :: slice(offset=0, "
						 "size=1M) -> r :: ram(2M);",
					    60, &change, NULL, NULL),
			 -EINVAL);
	end(disk);
}
END_TEST

#define CRYPT "crypt(key=\"file:%s/key\") -> "
#define AS_CIPHER "holds clear text, which would be taken for ciphertext"

START_TEST(clear_text_is_not_taken_for_ciphertext_nor_the_other_way)
{
	struct blktap_disk *disk;
	int rc;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put("key", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
		   "abcdef");
	disk = start(DISK "r :: raw(%s/a.raw);");
	must_refuse(disk, DISK CRYPT "r :: raw(%s/a.raw);", -EINVAL, AS_CIPHER);
	must_refuse(disk, DISK CRYPT "q :: raw(%s/a.raw);", -EINVAL, AS_CIPHER);
	end(disk);
	put("x.mason", DISK CRYPT "q :: raw(%s/a.raw);");
	disk = try_open("x.mason", NULL, 0, &rc, NULL);
	if (!disk) /* no crypto library */
		return;
	must_refuse(disk, DISK "r :: raw(%s/a.raw);", -EINVAL,
		    "'r' holds ciphertext");
	must_apply(disk, DISK "r :: raw(%s/b.raw);", "1 added, 2 removed");
	end(disk);
}
END_TEST

START_TEST(a_disk_grows_and_those_who_serve_it_are_told)
{
	struct blktap_disk *disk =
		start(DISK "s :: slice(offset=0, size=1M) -> r :: ram(2M);");

	fill(disk, 0, 3);
	must_apply(disk, DISK "r :: ram(2M);", "1 removed; pause: all");
	ck_assert_uint_eq(size_of(disk), 2 * M);
	expect(disk, 0, 3);
	end(disk);
}
END_TEST

START_TEST(undo_goes_back_and_a_restart_finds_what_ran_last)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("b.raw", M);
	disk = start(DISK "r :: raw(%s/a.raw);");
	fill(disk, 0, 1);
	must_apply(disk, DISK "r :: raw(%s/b.raw);", "1 replaced");
	fill(disk, 0, 2);
	end(disk);
	disk = open_disk("x.mason", NULL);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 2);
	expect(disk, 0, 2);
	ck_assert_int_eq(blktap_mason_undo(disk, NULL, NULL, NULL), 0);
	expect(disk, 0, 1);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 3);
	end(disk);
	disk = open_disk("x.mason", NULL);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 3);
	expect(disk, 0, 1);
	end(disk);
}
END_TEST

/* Text, defines and all, or it is another one. */
START_TEST(a_text_applied_again_is_none_that_undo_goes_back_to)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	int i;

	put_image("a.raw", M);
	put_image("b.raw", M);
	disk = start(DISK "r :: raw(%s/a.raw);");
	must_apply(disk, DISK "r :: raw(%s/a.raw);", "1 kept");
	ck_assert_int_eq(blktap_mason_undo(disk, NULL, NULL, &err), -ENOENT);
	blktap_error_destroy(err);
	fill(disk, 0, 1);
	must_apply(disk, DISK "r :: raw(%s/b.raw);", "1 replaced");
	fill(disk, 0, 2);
	for (i = 0; i < 3; i++)
		must_apply(disk, DISK "r :: raw(%s/b.raw);", "1 kept");
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 6);
	ck_assert_int_eq(blktap_mason_undo(disk, NULL, NULL, NULL), 0);
	expect(disk, 0, 1);
	ck_assert_int_eq(blktap_mason_undo(disk, NULL, NULL, NULL), 0);
	expect(disk, 0, 2);
	end(disk);
}
END_TEST

START_TEST(a_change_is_planned_without_being_made)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");
	struct blktap_mason_change change;
	const char *text = DISK "q :: ram(1M);";
	char *out = NULL;

	fill(disk, 0, 9);
	blktap_mason_change_init(&change);
	change.plan_only = true;
	ck_assert_int_eq(blktap_mason_apply(disk, "new", text, strlen(text),
					    &change, &out, NULL),
			 0);
	ck_assert_ptr_nonnull(strstr(out, "\"pause\":\"all\""));
	ck_assert_ptr_nonnull(strstr(out, "\"applied\":false"));
	free(out);
	expect(disk, 0, 9);
	change.if_generation = 7;
	ck_assert_int_eq(blktap_mason_apply(disk, "new", text, strlen(text),
					    &change, &out, NULL),
			 -ESTALE);
	end(disk);
}
END_TEST

START_TEST(an_assert_that_does_not_hold_stops_the_change)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");

	must_refuse(disk, "assert run.r.size == 2M; " DISK "q :: ram(1M);",
		    -EAGAIN, "assert: run.r.size is 1048576, and not == 2M");
	must_refuse(disk, "assert run.z.size == 2M; " DISK "q :: ram(1M);",
		    -ENOENT, "the node of 'run.z.size' does not run");
	must_apply(disk, "assert run.r.size == 1M; " DISK "q :: ram(1M);",
		   "1 added, 1 removed");
	end(disk);
}
END_TEST

START_TEST(a_snapshot_is_taken_of_a_disk_that_runs)
{
	struct blktap_disk *disk, *then;

	put_image("a.raw", 64 * M);
	put_image("d.raw", 64 * M);
	disk = start(DISK "o :: raw(%s/a.raw);");
	fill(disk, 0, 1);
	must_apply(disk,
		   "disk(\"x\") -> [live] s :: snap(); then :: "
		   "disk(\"then\", ro=true) -> [image] s; "
		   "s[origin] -> o :: raw(%s/a.raw); "
		   "s[delta] -> raw(%s/d.raw);",
		   "2 added");
	fill(disk, 0, 2);
	ck_assert_int_eq(io(disk, BLKTAP_OP_DISCARD, M, NULL, (uint64_t)63 * M),
			 0);
	then = open_disk("x.mason", "then");
	expect(then, 0, 1);
	expect(disk, 0, 2);
	ck_assert_int_eq(blktap_disk_close(then), 0);
	must_apply(disk, DISK "o :: raw(%s/a.raw);", "removed");
	expect(disk, 0, 2);
	end(disk);
}
END_TEST

/* ---- larger blocks -------------------------------------------------------- */

#define SMALL 64u
static struct small {
	struct iovec iov;
	char data[512];
	int error; /* 1: under way */
} small[SMALL];

/* Single sectors, some whole and some across two. */
static void write_small(struct blktap_disk *disk, char byte)
{
	uint32_t i;

	for (i = 0; i < SMALL; i++) {
		struct small *s = &small[i];
		struct blktap_io io = {
			.size = sizeof(io),
			.op = BLKTAP_OP_WRITE,
			.offset = i * 1536u + (i % 2 ? 256 : 0),
			.length = 512,
			.iov = &s->iov,
			.iov_count = 1,
			.callback = set_error,
			.opaque = &s->error,
		};

		memset(s->data, byte + (int)i % 4, 512);
		s->iov = (struct iovec){ s->data, 512 };
		s->error = 1;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	}
}

static void wait_small(void)
{
	uint32_t i;

	for (i = 0; i < SMALL; i++) {
		while (small[i].error == 1)
			ck_assert_int_eq(blktap_context_run(context, -1), 0);
		ck_assert_int_eq(small[i].error, 0);
	}
}

static void expect_small(struct blktap_disk *disk, char byte)
{
	char data[512];
	uint32_t i;

	wait_small();
	for (i = 0; i < SMALL; i++) {
		ck_assert_int_eq(io(disk, BLKTAP_OP_READ,
				    i * 1536u + (i % 2 ? 256 : 0), data, 512),
				 0);
		ck_assert_mem_eq(data, small[i].data, 512);
		ck_assert_int_eq(data[0], byte + (int)i % 4);
	}
}

START_TEST(a_disk_with_small_requests_under_way_gets_larger_blocks)
{
	static const char *const tops[] = {
		"n :: cow(); n[base] -> r; n[top] -> raw(%s/t.raw);",
		"n :: cow(grain=64k); n[base] -> r; n[top] -> raw(%s/t.raw);",
		"n :: cache(mode=writeback, size=1M); n[origin] -> r; "
		"n[store] -> raw(%s/t.raw);",
	};
	const char *below = "delay(min=20ms, max=20ms) -> a :: raw(%s/a.raw);";
	struct blktap_disk *disk;
	char text[512];

	put_image("a.raw", M);
	put_image("t.raw", 4 * M);
	snprintf(text, sizeof(text), "d :: disk(\"x\") -> r :: %s", below);
	disk = start(text);
	fill(disk, 0, 9);
	write_small(disk, 1);
	snprintf(text, sizeof(text), "d :: disk(\"x\") -> %s r :: %s", tops[_i],
		 below);
	must_apply(disk, text, "added");
	expect_small(disk, 1);
	write_small(disk, 50);
	expect_small(disk, 50);
	end(disk);
}
END_TEST

START_TEST(a_disk_whose_small_requests_do_not_end_keeps_its_blocks)
{
	struct blktap_mason_change change;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char text[512];
	uint32_t i;

	put_image("a.raw", M);
	put_image("t.raw", 4 * M);
	disk = start(DISK "f :: delay(min=100ms, max=100ms) -> "
			  "a :: raw(%s/a.raw);");
	blktap_mason_change_init(&change);
	change.deadline_ms = 10;
	snprintf(text, sizeof(text),
		 DISK "n :: cow(); n[base] -> f :: delay(min=100ms, "
		      "max=100ms) -> a :: raw(%s/a.raw); "
		      "n[top] -> raw(%s/t.raw);",
		 dir, dir);
	write_small(disk, 1);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(blktap_mason_apply(disk, "new", text,
						    strlen(text), &change, NULL,
						    &err),
				 -ETIMEDOUT);
		blktap_error_destroy(err);
		err = NULL;
	}
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 1);
	wait_small();
	must_apply(disk, DISK "a :: raw(%s/a.raw);", "1 removed");
	expect_small(disk, 1);
	end(disk);
}
END_TEST

START_TEST(a_promise_to_prefetch_is_kept_by_a_graph_that_has_none)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M);");
	struct blktap_image_options o;

	blktap_image_options_init(&o);
	o.length = M;
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("q"), &o, NULL),
			 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_PREFETCH, 0, NULL, M), 0);
	must_apply(disk, DISK "qcow2(%s/q);", "1 added, 1 removed");
	ck_assert_int_eq(io(disk, BLKTAP_OP_PREFETCH, 0, NULL, M), 0);
	end(disk);
}
END_TEST

START_TEST(what_is_written_after_a_change_that_failed_is_known_to_the_next_one)
{
	const char *with =
		"assert run.a.size == %s; " DISK "n :: checksum(adopt=true); "
		"n[lower] -> a :: raw(%s/a.raw); "
		"n[store] -> raw(%s/t.raw);";
	struct blktap_disk *disk;
	char text[512];

	put_image("a.raw", M);
	put_image("t.raw", M);
	disk = start(DISK "a :: raw(%s/a.raw);");
	fill(disk, 0, 1);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), with, "2M", dir, dir);
	must_refuse(disk, text, -EAGAIN, "assert");
	fill(disk, 0, 2);
	snprintf(text, sizeof(text), with, "1M", dir, dir);
#pragma GCC diagnostic pop
	must_apply(disk, text, "added");
	expect(disk, 0, 2);
	end(disk);
	disk = open_disk("x.mason", NULL);
	expect(disk, 0, 2);
	end(disk);
}
END_TEST

#define DEAD "f :: fault(rules=[\"write EIO\", \"flush EIO\"])"

START_TEST(a_dead_leg_is_replaced)
{
	struct blktap_disk *disk;
	uint32_t i;

	put_image("a.raw", M);
	put_image("b.raw", M);
	put_image("c.raw", M);
	disk = start(DISK "m :: mirror(sync=background, source=0, "
			  "@on_error=degrade) => a :: raw(%s/a.raw), "
			  "(f :: fault() -> b :: raw(%s/b.raw));");
	fill(disk, 0, 1);
	must_apply(disk,
		   DISK "m :: mirror(sync=background, source=0, "
			"@on_error=degrade) => a :: raw(%s/a.raw), (" DEAD
			" -> b :: raw(%s/b.raw));",
		   "");
	for (i = 0; i < 8; i++)
		fill(disk, i * 4096, 2);
	must_apply(disk,
		   DISK "m :: mirror(sync=background, source=0, "
			"@on_error=degrade) => a :: raw(%s/a.raw), "
			"c :: raw(%s/c.raw);",
		   "");
	expect(disk, 0, 2);
	end(disk);
}
END_TEST

START_TEST(a_dead_leg_goes_with_its_mirror)
{
	struct blktap_disk *disk;

	put_image("a.raw", M);
	put_image("b.raw", M);
	disk = start(DISK "m :: mirror(sync=background, source=0, "
			  "@on_error=degrade) => a :: raw(%s/a.raw), (" DEAD
			  " -> b :: raw(%s/b.raw));");
	fill(disk, 0, 2);
	must_apply(disk, DISK "a :: raw(%s/a.raw);", "");
	expect(disk, 0, 2);
	end(disk);
}
END_TEST

START_TEST(a_dead_leaf_goes_where_loss_is_allowed)
{
	struct blktap_mason_change change;
	struct blktap_disk *disk;
	char text[256];

	put_image("a.raw", M);
	put_image("b.raw", M);
	disk = start(DISK "f :: fault() -> b :: raw(%s/b.raw);");
	fill(disk, 0, 2);
	must_apply(disk, DISK DEAD " -> b :: raw(%s/b.raw);", "");
	must_refuse(disk, DISK "a :: raw(%s/a.raw);", -EIO, "a flush of 'f'");
	blktap_mason_change_init(&change);
	change.allow_loss = true;
	snprintf(text, sizeof(text), DISK "a :: raw(%s/a.raw);", dir);
	ck_assert_int_eq(blktap_mason_apply(disk, "new", text, strlen(text),
					    &change, NULL, NULL),
			 0);
	fill(disk, 0, 3);
	expect(disk, 0, 3);
	ck_assert_int_eq(io(disk, BLKTAP_OP_FLUSH, 0, NULL, 0), 0);
	end(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-apply");
	TCase *tc = tcase_create("apply");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_same_graph_again_changes_nothing);
	tcase_add_test(tc, a_filter_comes_and_goes_and_nothing_is_held);
	tcase_add_test(tc, a_node_that_was_called_otherwise_is_the_same);
	tcase_add_test(tc, anonymous_nodes_are_known_by_what_they_are);
	tcase_add_test(tc, what_would_shrink_or_lose_data_is_refused_and_named);
	tcase_add_test(
		tc, clear_text_is_not_taken_for_ciphertext_nor_the_other_way);
	tcase_add_test(tc, a_disk_grows_and_those_who_serve_it_are_told);
	tcase_add_test(tc, undo_goes_back_and_a_restart_finds_what_ran_last);
	tcase_add_test(tc, a_text_applied_again_is_none_that_undo_goes_back_to);
	tcase_add_test(tc, a_change_is_planned_without_being_made);
	tcase_add_test(tc, a_snapshot_is_taken_of_a_disk_that_runs);
	tcase_add_test(tc, an_assert_that_does_not_hold_stops_the_change);
	tcase_add_loop_test(
		tc, a_disk_with_small_requests_under_way_gets_larger_blocks, 0,
		3);
	tcase_add_test(tc,
		       a_disk_whose_small_requests_do_not_end_keeps_its_blocks);
	tcase_add_test(tc,
		       a_promise_to_prefetch_is_kept_by_a_graph_that_has_none);
	tcase_add_test(
		tc,
		what_is_written_after_a_change_that_failed_is_known_to_the_next_one);
	tcase_add_test(tc, a_dead_leg_is_replaced);
	tcase_add_test(tc, a_dead_leg_goes_with_its_mirror);
	tcase_add_test(tc, a_dead_leaf_goes_where_loss_is_allowed);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
