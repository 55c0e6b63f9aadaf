/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of a graph in which something does not answer: they end, name it, and
 * the disk goes on. And exports, which a change may leave out. */
#include "mason-run.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "port/args.h"
#include "vbd/private.h"

/* ---- a node that keeps what it gets ------------------------------------------ */

static struct {
	struct bt_list has;
	struct bt_timer timer;
	uint32_t kept;
	bool open;
} hang;

static void hang_release(void)
{
	struct bt_list *at;

	while ((at = bt_list_pop(&hang.has)))
		bt_request_complete(bt_list_entry(at, struct bt_request, link),
				    -EIO);
}

static void hang_timer(struct bt_timer *timer)
{
	(void)timer;
	hang_release();
}

static int hang_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	bt_list_init(&hang.has);
	bt_timer_init(&hang.timer, hang_timer);
	hang.open = true;
	return 0;
}

static void hang_close(struct bt_node *node)
{
	ck_assert(bt_list_empty(&hang.has));
	bt_timer_cancel(&hang.timer);
	hang.open = false;
}

static void hang_submit(struct bt_node *node, struct bt_request *req)
{
	hang.kept++;
	bt_list_add_tail(&hang.has, &req->link);
}

static const struct bt_port_desc hang_ports[] = {
	{ .name = "lower" },
	{ .name = NULL },
};

static const struct blktap_class hang_class = {
	.name = "hang",
	.summary = "answers nothing",
	.ports = hang_ports,
	.operations = BT_OPS_ALL,
	.open = hang_open,
	.close = hang_close,
	.submit = hang_submit,
	.pause = BT_PAUSE_NONE,
	.legacy_type = -1,
};

static const struct blktap_class *next_class(const struct blktap_class *prev)
{
	if (!prev)
		return &hang_class;
	return blktap_class_next(prev == &hang_class ? NULL : prev);
}

/* ---- I/O meanwhile ----------------------------------------------------------- */

static struct blktap_disk *disk;
static char data[4096];
static struct iovec iov = { data, sizeof(data) };
static bool stop;
static uint32_t reads;

static void read_on(void *opaque, int error)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_READ,
		.length = sizeof(data),
		.iov = &iov,
		.iov_count = 1,
		.callback = read_on,
	};

	(void)opaque;
	ck_assert_int_eq(error, 0);
	reads++;
	if (!stop)
		ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
}

static int apply(const char *text, uint32_t deadline_ms,
		 struct blktap_error **err)
{
	struct blktap_mason_change change;
	char full[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(full, sizeof(full), text, dir, dir, dir, dir);
#pragma GCC diagnostic pop
	blktap_mason_change_init(&change);
	change.deadline_ms = deadline_ms;
	return blktap_mason_apply(disk, "new", full, strlen(full), &change,
				  NULL, err);
}

static void must_refuse(const char *text, uint32_t deadline_ms, const char *who)
{
	struct blktap_error *err = NULL;

	ck_assert_int_eq(apply(text, deadline_ms, &err), -ETIMEDOUT);
	ck_assert_msg(strstr(blktap_error_get_message(err), who) != NULL, "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
	ck_assert_uint_eq(blktap_mason_get_generation(disk), 1);
}

static void start(const char *text)
{
	context->run_ops.next_class = next_class;
	put("x.mason", text);
	disk = open_disk("x.mason", NULL);
}

/* A server that takes connections and says nothing. */
static int silent_server(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", in_dir("s"));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

START_TEST(a_disk_is_served_while_a_change_waits_for_a_server)
{
	int fd = silent_server();
	uint32_t before;

	start("d :: disk(\"x\") -> r :: ram(1M);");
	stop = false;
	read_on(NULL, 0);
	before = reads;
	must_refuse("d :: disk(\"x\") -> m :: mirror() => r :: ram(1M), "
		    "far :: nbd(\"nbd+unix:///?socket=%s/s\", timeout=300ms);",
		    0, "far: nbd+unix:///");
	ck_assert_uint_gt(reads, before + 10);
	stop = true;
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	close(fd);
}
END_TEST

/* A module that opens while writes are held, on a store that does not answer. */
static void hang_late(void)
{
	char byte[4096] = { 1 };

	start("d :: disk(\"x\") -> r :: ram(1M);");
	hang.kept = 0;
	must_refuse("d :: disk(\"x\") -> b :: bitmap(checkpoints=[\"c\"]); "
		    "b[lower] -> r :: ram(1M); "
		    "b[store] -> hang() -> raw(%s/store);",
		    200, "b: ");
	ck_assert_uint_eq(hang.kept, 1);
	ck_assert(hang.open);
	/* nothing is held any more */
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 0, byte, 4096), 0);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, byte, 4096), 0);
}

START_TEST(a_module_that_opens_late_and_hangs_is_left_out)
{
	uint32_t i;

	put_image("store", M);
	hang_late();
	hang_release();
	for (i = 0; i < 1000 && hang.open; i++)
		ck_assert_int_eq(blktap_context_run(context, 10), 0);
	ck_assert(!hang.open);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(a_close_waits_for_what_a_change_has_left_behind)
{
	put_image("store", M);
	hang_late();
	bt_timer_arm(context->loop, &hang.timer,
		     bt_loop_refresh(context->loop) + 50000000u);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	ck_assert(!hang.open);
}
END_TEST

/* ---- exports ------------------------------------------------------------------ */

static int late_error;

static void note_error(void *opaque, int error)
{
	(void)opaque;
	late_error = error;
}

static int read_later(struct blktap_disk *from)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_READ,
		.length = sizeof(data),
		.iov = &iov,
		.iov_count = 1,
		.callback = note_error,
	};

	late_error = 1;
	return blktap_disk_submit(from, &io);
}

START_TEST(an_export_goes_with_the_change_that_leaves_it_out)
{
	struct blktap_error *err = NULL;
	struct blktap_disk *export, *again;
	char byte[4096] = { 7 };

	start("d :: disk(\"x\") -> r :: ram(1M); export(\"e\") -> q :: "
	      "ram(1M);");
	ck_assert_str_eq(bt_vbd_get_export(disk, 0), "e");
	ck_assert_ptr_null(bt_vbd_get_export(disk, 1));
	ck_assert_int_eq(bt_vbd_open_export(disk, "e", &export, NULL), 0);
	ck_assert_int_eq(bt_vbd_open_export(disk, "e", &again, NULL), -EBUSY);
	ck_assert_int_eq(io(export, BLKTAP_OP_WRITE, 0, byte, 4096), 0);
	/* a change that fails leaves it where it is */
	ck_assert_int_eq(apply("assert run.r.size == 7; "
			       "d :: disk(\"x\") -> r :: ram(1M);",
			       0, &err),
			 -EAGAIN);
	blktap_error_destroy(err);
	ck_assert_int_eq(io(export, BLKTAP_OP_READ, 0, byte, 4096), 0);
	ck_assert_int_eq(byte[0], 7);
	ck_assert(!bt_vbd_is_gone(export));
	/* one that succeeds ends what is under way, and nothing comes after */
	ck_assert_int_eq(read_later(export), 0);
	ck_assert_int_eq(apply("d :: disk(\"x\") -> r :: ram(1M);", 0, NULL),
			 0);
	ck_assert_int_eq(late_error, 0);
	ck_assert(bt_vbd_is_gone(export));
	ck_assert_ptr_null(bt_vbd_get_export(disk, 0));
	ck_assert_int_eq(io(export, BLKTAP_OP_READ, 0, byte, 4096), -ESHUTDOWN);
	ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, byte, 4096), 0);
	ck_assert_int_eq(blktap_disk_close(export), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

START_TEST(what_goes_with_an_export_is_flushed_for_the_last_time)
{
	char byte[4096] = { 7 };
	struct blktap_disk *export;
	int fd;

	put_image("o.img", M);
	put_image("s.img", 2 * M);
	start("d :: disk(\"x\") -> r :: ram(1M);"
	      "export(\"e\") -> c :: cache(mode=writeback, dirty=100%%);"
	      "c[origin] -> raw(\"%s/o.img\"); c[store] -> "
	      "raw(\"%s/s.img\");");
	ck_assert_int_eq(bt_vbd_open_export(disk, "e", &export, NULL), 0);
	ck_assert_int_eq(io(export, BLKTAP_OP_WRITE, 0, byte, 4096), 0);
	ck_assert_int_eq(apply("d :: disk(\"x\") -> r :: ram(1M);", 0, NULL),
			 0);
	ck_assert(bt_vbd_is_gone(export));
	fd = open(in_dir("o.img"), O_RDONLY);
	byte[0] = 0;
	ck_assert_int_eq(read(fd, byte, sizeof(byte)), sizeof(byte));
	ck_assert_int_eq(byte[0], 7);
	close(fd);
	ck_assert_int_eq(blktap_disk_close(export), 0);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

static void on_pause(void *opaque, int error, const char *message)
{
	(void)message;
	*(int *)opaque = error;
}

static uint32_t errors;

static void on_event(void *opaque, struct blktap_disk *of,
		     const struct blktap_event *event)
{
	(void)opaque;
	(void)of;
	if (event->type != BLKTAP_EVENT_ERROR)
		return;
	ck_assert_str_eq(event->node, "f");
	errors++;
}

#define HEAD                                                              \
	"d :: disk(\"x\") -> delay(min=5ms, what=reads) -> "              \
	"f :: fault(rules=[\"write 4k..8k EIO\"]) -> w :: cow(grain=4k);" \
	"w[top] -> raw(%s/t.img); w[base] -> raw(%s/b.img);"

/* The first block is read before it is written, and the rest has failed meanwhile:
 * what is written then meets the gate of a pause, which closes all nodes. */
START_TEST(an_error_is_told_of_before_its_node_goes)
{
	struct blktap_io write = {
		.size = sizeof(write),
		.op = BLKTAP_OP_WRITE,
		.offset = 1024,
		.length = 7168,
		.iov_count = 1,
		.callback = set_error,
	};
	char bytes[7168] = { 1 };
	struct iovec piece = { bytes, sizeof(bytes) };
	int error = 1, pause = 1;

	put_image("t.img", 4 * M);
	put_image("b.img", M);
	errors = 0;
	start(HEAD);
	blktap_disk_set_event(disk, on_event, NULL, NULL);
	write.iov = &piece;
	write.opaque = &error;
	ck_assert_int_eq(blktap_disk_submit(disk, &write), 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, on_pause, &pause), 0);
	while (pause == 1)
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_int_eq(pause, 0);
	ck_assert_int_eq(error, 1);
	ck_assert_uint_eq(errors, 1);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	while (error == 1)
		ck_assert_int_eq(blktap_context_run(context, -1), 0);
	ck_assert_int_eq(error, -EIO);
	ck_assert_uint_eq(errors, 1);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-late");
	TCase *tc = tcase_create("late");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_disk_is_served_while_a_change_waits_for_a_server);
	tcase_add_test(tc, a_module_that_opens_late_and_hangs_is_left_out);
	tcase_add_test(tc, a_close_waits_for_what_a_change_has_left_behind);
	tcase_add_test(tc, an_export_goes_with_the_change_that_leaves_it_out);
	tcase_add_test(tc,
		       what_goes_with_an_export_is_flushed_for_the_last_time);
	tcase_add_test(tc, an_error_is_told_of_before_its_node_goes);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
