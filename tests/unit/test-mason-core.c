/* SPDX-License-Identifier: BSD-3-Clause */
/* The arguments that every node takes: what an error leads to, what is counted,
 * and what a base must be. */
#include "mason-run.h"

#include <sys/time.h>

#define DISK "d :: disk(\"x\") -> "
#define WRITE_FAILS(times, args)                                              \
	DISK "f :: fault(rules=[\"write 0..64k EIO " times "\"]" args ") -> " \
	     "r :: ram(1M);"

static int apply(struct blktap_disk *disk, const char *text, char **answer,
		 struct blktap_error **err)
{
	return blktap_mason_apply(disk, "new.mason", text, strlen(text), NULL,
				  answer, err);
}

static void must_apply(struct blktap_disk *disk, const char *text,
		       const char *part)
{
	struct blktap_error *err = NULL;
	char *answer = NULL;
	int rc = apply(disk, text, &answer, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_msg(strstr(answer, part) != NULL, "%s", answer);
	free(answer);
}

static struct blktap_disk *start(const char *text)
{
	put("x.mason", text);
	return open_disk("x.mason", NULL);
}

/* A request that is not waited for. */
struct sent {
	char data[4096];
	struct iovec iov;
	int error;
};

static void send(struct blktap_disk *disk, struct sent *s, enum blktap_op op)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.length = sizeof(s->data),
		.iov = &s->iov,
		.iov_count = 1,
		.callback = set_error,
		.opaque = &s->error,
	};

	memset(s->data, 5, sizeof(s->data));
	s->iov = (struct iovec){ s->data, sizeof(s->data) };
	s->error = 1;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
}

static int end_of(struct sent *s)
{
	while (s->error == 1)
		ck_assert_int_ge(blktap_context_run(context, -1), 0);
	return s->error;
}

/* It says so in its picture. */
static bool is_stopped(const struct blktap_disk *disk)
{
	char *picture = NULL;
	bool found;

	ck_assert_int_eq(blktap_mason_dot_disk(disk, &picture, NULL), 0);
	found = strstr(picture, "\\nstopped") != NULL;
	free(picture);
	return found;
}

static void wait_for_stop(const struct blktap_disk *disk)
{
	while (!is_stopped(disk))
		ck_assert_int_ge(blktap_context_run(context, 10), 0);
}

START_TEST(a_node_that_stops_keeps_all_requests_until_a_change)
{
	struct blktap_disk *disk =
		start(WRITE_FAILS("times=1", ", @on_error=stop"));
	struct sent write, read;

	send(disk, &write, BLKTAP_OP_WRITE);
	wait_for_stop(disk);
	send(disk, &read, BLKTAP_OP_READ);
	ck_assert_int_ge(blktap_context_run(context, 20), 0);
	ck_assert_int_eq(write.error, 1);
	ck_assert_int_eq(read.error, 1);
	must_apply(disk, WRITE_FAILS("times=1", ", @on_error=stop"), "2 kept");
	ck_assert_int_eq(end_of(&write), 0);
	ck_assert_int_eq(end_of(&read), 0);
	ck_assert_int_eq(read.data[0], 5);
	ck_assert(!is_stopped(disk));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(another_node_in_its_place_gets_what_waited)
{
	struct blktap_disk *disk =
		start(WRITE_FAILS("p=100%%", ", @on_error=stop"));
	struct sent write;
	char back[4096];

	send(disk, &write, BLKTAP_OP_WRITE);
	wait_for_stop(disk);
	must_apply(disk, DISK "r :: ram(1M);", "1 removed");
	ck_assert_int_eq(end_of(&write), 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(back[0], 5);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_stops_again_waits_again_and_nothing_is_lost)
{
	struct blktap_disk *disk =
		start(WRITE_FAILS("times=2", ", @on_error=stop"));
	struct sent write;

	send(disk, &write, BLKTAP_OP_WRITE);
	wait_for_stop(disk);
	must_apply(disk, WRITE_FAILS("times=2", ", @on_error=stop"), "2 kept");
	wait_for_stop(disk);
	ck_assert_int_eq(write.error, 1);
	must_apply(disk, WRITE_FAILS("times=2", ""), "1 reconfigured");
	ck_assert_int_eq(end_of(&write), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(a_disk_closes_though_a_node_of_it_is_stopped)
{
	struct blktap_disk *disk = start(
		DISK "t :: slice(offset=0, size=64k) -> f :: fault(rules="
		     "[\"write EIO p=100%%\"], @on_error=stop) -> ram(1M);");
	struct sent write;

	send(disk, &write, BLKTAP_OP_WRITE);
	wait_for_stop(disk);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(write.error, -EIO);
}
END_TEST

#define SHARED(above, node)                                        \
	"a :: disk(\"a\") -> " above " -> f :: fault(rules="       \
	"[\"write 0..128k EIO p=100%%\"], @on_error=" node ") -> " \
	"r :: ram(1M);\n"                                          \
	"b :: disk(\"b\") -> t :: slice(offset=64k, size=64k) -> f;\n"
#define SLICE "s :: slice(offset=0, size=64k)"
static bool is_waiting(const struct blktap_disk *disk)
{
	struct blktap_disk_stats stats = { .size = sizeof(stats) };

	blktap_disk_get_stats(disk, &stats);
	return stats.outstanding == 1;
}

START_TEST(a_disk_that_closes_gives_up_no_request_of_another)
{
	static const char *const texts[] = { SHARED(SLICE, "stop"),
					     SHARED(SLICE, "retry") };
	struct blktap_disk *a, *b;
	struct sent of_a, of_b;
	char back[4096];

	put("x.mason", texts[_i]);
	a = open_disk("x.mason", "a");
	b = open_disk("x.mason", "b");
	send(a, &of_a, BLKTAP_OP_WRITE);
	if (!_i)
		wait_for_stop(a);
	send(b, &of_b, BLKTAP_OP_WRITE);
	ck_assert_int_ge(blktap_context_run(context, 20), 0);
	ck_assert_int_eq(blktap_disk_close(a), 0);
	ck_assert_int_eq(of_a.error, -EIO);
	ck_assert_int_ge(blktap_context_run(context, 20), 0);
	ck_assert(is_waiting(b));
	ck_assert(_i || is_stopped(b));
	must_apply(b,
		   "b :: disk(\"b\") -> t :: slice(offset=64k, size=64k) "
		   "-> r :: ram(1M);",
		   "removed");
	ck_assert_int_eq(end_of(&of_b), 0);
	ck_assert_int_eq(io(b, BLKTAP_OP_READ, 0, back, 4096), 0);
	ck_assert_int_eq(back[0], 5);
	ck_assert_int_eq(blktap_disk_close(b), 0);
}
END_TEST

/* And where two disks share the node whose children wait, none waits for ever. */
START_TEST(a_disk_closes_though_a_shared_node_waits)
{
	struct blktap_disk *a, *b;
	struct sent of_a, of_b;

	put("x.mason",
	    "a :: disk(\"a\") -> s :: slice(offset=0, size=64k) -> m;\n"
	    "b :: disk(\"b\") -> t :: slice(offset=64k, size=64k) -> m;\n"
	    "m :: mirror() => (p :: slice(offset=0, size=512k) -> f), "
	    "(q :: slice(offset=512k, size=512k) -> f);\n"
	    "f :: fault(rules=[\"write EIO times=4\"], @on_error=stop) -> "
	    "r :: ram(1M);");
	a = open_disk("x.mason", "a");
	b = open_disk("x.mason", "b");
	send(a, &of_a, BLKTAP_OP_WRITE);
	wait_for_stop(a);
	ck_assert_int_eq(blktap_disk_close(a), 0);
	ck_assert_int_eq(of_a.error, -EIO);
	/* it is stopped still, and no longer gives up */
	send(b, &of_b, BLKTAP_OP_WRITE);
	ck_assert_int_ge(blktap_context_run(context, 20), 0);
	ck_assert_int_eq(of_b.error, 1);
	ck_assert_int_eq(blktap_disk_close(b), 0);
	ck_assert_int_eq(of_b.error, 0);
}
END_TEST

START_TEST(retry_sends_a_request_again_until_it_succeeds)
{
	struct blktap_disk *disk =
		start(WRITE_FAILS("times=3", ", @on_error=retry"));
	struct sent write;

	send(disk, &write, BLKTAP_OP_WRITE);
	ck_assert_int_eq(end_of(&write), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_errors_lead_to_changes_while_requests_are_in_flight)
{
	struct blktap_disk *disk =
		start(WRITE_FAILS("p=100%%", ", @on_error=retry"));
	struct sent write;

	send(disk, &write, BLKTAP_OP_WRITE);
	ck_assert_int_ge(blktap_context_run(context, 30), 0);
	ck_assert_int_eq(write.error, 1);
	must_apply(disk, WRITE_FAILS("p=100%", ""),
		   "1 kept, 1 reconfigured, 0 replaced, 0 added, 0 removed; "
		   "pause: none");
	ck_assert_int_eq(end_of(&write), -EIO);
	must_apply(disk, WRITE_FAILS("p=100%", ", @on_error=retry"),
		   "1 reconfigured");
	send(disk, &write, BLKTAP_OP_WRITE);
	ck_assert_int_ge(blktap_context_run(context, 30), 0);
	ck_assert_int_eq(write.error, 1);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert_int_eq(write.error, -EIO);
}
END_TEST

START_TEST(a_flush_that_failed_is_never_taken_for_a_good_one)
{
	struct blktap_disk *disk =
		start(DISK "f :: fault(rules=[\"flush EIO times=1\"], "
			   "@on_error=retry) -> ram(1M);");
	char data[4096] = { 1 };

	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_FLUSH, 0, NULL, 0), -EIO);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static bool stats_have(const struct blktap_disk *disk, const char *part)
{
	char *json = blktap_disk_get_stats_json(disk, false);
	char *nodes = strstr(json, "\"nodes\"");
	bool found = nodes && strstr(nodes, part);

	free(json);
	return found;
}

START_TEST(what_is_counted_of_a_node_is_as_it_says)
{
	struct blktap_disk *disk = start(DISK "r :: ram(1M, @stats=off);");
	char data[4096] = { 0 };

	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert(!stats_have(disk, "\"completed\""));
	must_apply(disk, DISK "r :: ram(1M, @stats=count);",
		   "1 reconfigured, 0 replaced, 0 added, 0 removed; pause: "
		   "none");
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert(stats_have(disk, "\"completed\":1"));
	ck_assert(stats_have(disk, "\"latency_log2_ns\":[]"));
	must_apply(disk, DISK "r :: ram(1M);", "1 reconfigured");
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, data, 4096), 0);
	ck_assert(stats_have(disk, "\"completed\":2"));
	ck_assert(!stats_have(disk, "\"latency_log2_ns\":[]"));
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(statistics_show_every_node_of_a_graph_once)
{
	struct blktap_disk *disk =
		start(DISK "m :: mirror() => a :: slice(offset=0, size=1M), "
			   "b :: slice(offset=1M, size=1M); "
			   "a -> both :: ram(2M); b -> both;");
	char *json = blktap_disk_get_stats_json(disk, false), *at;

	ck_assert_ptr_nonnull(strstr(json, "\"name\":\"a\""));
	ck_assert_ptr_nonnull(strstr(json, "\"name\":\"b\""));
	at = strstr(json, "\"name\":\"both\"");
	ck_assert_ptr_nonnull(at);
	ck_assert_ptr_null(strstr(at + 1, "\"name\":\"both\""));
	free(json);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- @expect --------------------------------------------------------------- */

#define BASE "d :: disk(\"x\", ro=true) -> b :: raw(\"%s/base.raw\", ro=true"

static void write_base(const char *expect)
{
	char text[256];

	snprintf(text, sizeof(text), BASE ", @expect=\"%s\");", "%s", expect);
	put("x.mason", text);
}

/* As the error of a wrong one says it. */
static void get_fingerprint(char out[17])
{
	struct blktap_error *err = NULL;
	const char *at;
	int rc;

	write_base("none");
	ck_assert_ptr_null(try_open("x.mason", NULL, 0, &rc, &err));
	ck_assert_int_eq(rc, -ESTALE);
	at = strstr(blktap_error_get_message(err), "has the fingerprint ");
	ck_assert_msg(at != NULL, "%s", blktap_error_get_message(err));
	memcpy(out, at + strlen("has the fingerprint "), 16);
	out[16] = '\0';
	blktap_error_destroy(err);
}

static void touch_base(void)
{
	const struct timeval times[2] = { { 1000, 0 }, { 1000, 0 } };

	ck_assert_int_eq(utimes(in_dir("base.raw"), times), 0);
}

START_TEST(a_base_that_changed_is_refused_and_named)
{
	struct blktap_disk *disk;
	char fingerprint[17];

	put_image("base.raw", M);
	get_fingerprint(fingerprint);
	write_base(fingerprint);
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	touch_base();
	refuse("x.mason", NULL, -ESTALE,
	       "it was changed, last 1970-01-01 00:16:40 UTC");
	refuse("x.mason", NULL, -ESTALE, "/base.raw has the fingerprint ");
	refuse("x.mason", NULL, -ESTALE, fingerprint);
}
END_TEST

START_TEST(a_chain_changed_anywhere_is_another)
{
	struct blktap_image_options options;
	struct blktap_disk *disk;
	char base[128], text[256], old[17], *at;
	struct blktap_error *err = NULL;
	int rc;

	put_image("base.raw", M);
	blktap_image_options_init(&options);
	snprintf(base, sizeof(base), "%s", in_dir("base.raw"));
	options.backing = base;
	options.length = M;
	options.backing_format = "raw";
	ck_assert_int_eq(blktap_image_create("qcow2", in_dir("top.qcow2"),
					     &options, NULL),
			 0);
	put("x.mason", "d :: disk(\"x\", ro=true) -> "
		       "qcow2(\"%s/top.qcow2\", @expect=\"none\");");
	ck_assert_ptr_null(try_open("x.mason", NULL, 0, &rc, &err));
	at = strstr(blktap_error_get_message(err), "has the fingerprint ");
	ck_assert_ptr_nonnull(at);
	memcpy(old, at + strlen("has the fingerprint "), 16);
	old[16] = '\0';
	blktap_error_destroy(err);
	snprintf(text, sizeof(text),
		 "d :: disk(\"x\", ro=true) -> qcow2(\"%s/top.qcow2\", "
		 "@expect=\"%s\");",
		 "%s", old);
	put("x.mason", text);
	disk = open_disk("x.mason", NULL);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	touch_base();
	refuse("x.mason", NULL, -ESTALE, "it was changed");
}
END_TEST

START_TEST(a_running_node_is_held_to_it_and_not_opened_anew)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	char fingerprint[17], text[256];

	put_image("base.raw", M);
	get_fingerprint(fingerprint);
	disk = start(BASE ");");
	snprintf(text, sizeof(text), BASE ", @expect=\"%s\");", dir,
		 "0123456789abcdef");
	ck_assert_int_eq(apply(disk, text, NULL, &err), -ESTALE);
	blktap_error_destroy(err);
	snprintf(text, sizeof(text), BASE ", @expect=\"%s\");", dir,
		 fingerprint);
	must_apply(disk, text, "1 reconfigured, 0 replaced");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-core");
	TCase *tc = tcase_create("core");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_node_that_stops_keeps_all_requests_until_a_change);
	tcase_add_test(tc, another_node_in_its_place_gets_what_waited);
	tcase_add_test(tc, what_stops_again_waits_again_and_nothing_is_lost);
	tcase_add_test(tc, a_disk_closes_though_a_node_of_it_is_stopped);
	tcase_add_loop_test(
		tc, a_disk_that_closes_gives_up_no_request_of_another, 0, 2);
	tcase_add_test(tc, a_disk_closes_though_a_shared_node_waits);
	tcase_add_test(tc, retry_sends_a_request_again_until_it_succeeds);
	tcase_add_test(
		tc, what_errors_lead_to_changes_while_requests_are_in_flight);
	tcase_add_test(tc, a_flush_that_failed_is_never_taken_for_a_good_one);
	tcase_add_test(tc, what_is_counted_of_a_node_is_as_it_says);
	tcase_add_test(tc, statistics_show_every_node_of_a_graph_once);
	tcase_add_test(tc, a_base_that_changed_is_refused_and_named);
	tcase_add_test(tc, a_chain_changed_anywhere_is_another);
	tcase_add_test(tc, a_running_node_is_held_to_it_and_not_opened_anew);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
