/* SPDX-License-Identifier: BSD-3-Clause */
/* Random changes of a graph under random verified I/O, with a failure at every
 * step of every change in turn; and a process that is killed at every step.
 *
 * BLKTAP_SEED repeats a run, BLKTAP_TEST_LONG=1 makes it long. */
#include "mason-run.h"

#include <signal.h>
#include <sys/wait.h>

#include "port/args.h"
#include "seed.h"
#include "vbd/private.h"

#define SLOTS 16u
#define BLOCK 4096u
#define BLOCKS (M / BLOCK)
#define FILTERS 6u

/* ---- a filter that keeps requests for a while ------------------------------- */

struct lag {
	struct bt_node *node;
	struct bt_list has;
	struct bt_timer timer;
};

static uint64_t seed;

static uint32_t any(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % below;
}

static void lag_go(struct bt_timer *timer)
{
	struct lag *lag = bt_container_of(timer, struct lag, timer);
	struct bt_list *at;
	uint32_t n = 1 + any(4);

	while (n-- && (at = bt_list_pop(&lag->has)))
		bt_port_submit(&lag->node->ports[0],
			       bt_list_entry(at, struct bt_request, link));
	if (!bt_list_empty(&lag->has))
		bt_timer_arm(lag->node->env->loop, timer,
			     bt_loop_refresh(lag->node->env->loop) +
				     any(50000));
}

static void lag_submit(struct bt_node *node, struct bt_request *req)
{
	struct lag *lag = node->data;

	if (any(3) == 0) {
		bt_port_submit(&node->ports[0], req);
		return;
	}
	bt_list_add_tail(&lag->has, &req->link);
	if (!lag->timer.loop)
		bt_timer_arm(node->env->loop, &lag->timer,
			     bt_loop_refresh(node->env->loop) + any(50000));
}

static int lag_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	struct lag *lag = node->data;

	lag->node = node;
	bt_list_init(&lag->has);
	bt_timer_init(&lag->timer, lag_go);
	return 0;
}

static void lag_close(struct bt_node *node)
{
	struct lag *lag = node->data;

	ck_assert(bt_list_empty(&lag->has));
	bt_timer_cancel(&lag->timer);
}

static const struct bt_port_desc lag_ports[] = {
	{ .name = "lower" },
	{ .name = NULL },
};

#define LAG(n, p)                                                           \
	{                                                                   \
		.name = n, .summary = "keeps requests for a while",         \
		.ports = lag_ports, .operations = BT_OPS_ALL,               \
		.node_bytes = sizeof(struct lag), .frame_bytes = 24,        \
		.open = lag_open, .close = lag_close, .submit = lag_submit, \
		.pause = p, .legacy_type = -1                               \
	}

static const struct blktap_class lags[] = {
	LAG("lag", BT_PAUSE_NONE),
	LAG("lagw", BT_PAUSE_WRITES),
	LAG("laga", BT_PAUSE_ALL),
};

static const struct blktap_class *next_class(const struct blktap_class *prev)
{
	if (!prev)
		return &lags[0];
	if (prev >= lags && prev < lags + 2)
		return prev + 1;
	return blktap_class_next(prev == lags + 2 ? NULL : prev);
}

/* ---- verified I/O ----------------------------------------------------------- */

struct slot {
	struct iovec iov;
	char data[BLOCK];
	enum blktap_op op;
	uint32_t block;
	bool busy;
};

static struct blktap_disk *disk;
static struct slot slots[SLOTS];
static uint8_t reference[BLOCKS];
static bool locked[BLOCKS];
static uint64_t submitted, completed;
static bool stop;

static void next_io(struct slot *slot);

static void io_done(void *opaque, int error)
{
	struct slot *slot = opaque;
	uint32_t i;

	if (error || !slot->busy)
		ck_abort_msg("error %d, or completed twice", error);
	slot->busy = false;
	completed++;
	if (slot->op == BLKTAP_OP_WRITE)
		reference[slot->block] = (uint8_t)slot->data[0];
	for (i = 0; slot->op == BLKTAP_OP_READ && i < BLOCK; i += 512)
		if ((uint8_t)slot->data[i] != reference[slot->block])
			ck_abort_msg("block %u is %d, wanted %d", slot->block,
				     slot->data[i], reference[slot->block]);
	if (slot->op != BLKTAP_OP_FLUSH)
		locked[slot->block] = false;
	next_io(slot);
}

static void next_io(struct slot *slot)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.iov = &slot->iov,
		.iov_count = 1,
		.callback = io_done,
		.opaque = slot,
	};
	uint32_t what = any(10);

	if (stop)
		return;
	slot->op = what == 0  ? BLKTAP_OP_FLUSH
		   : what < 6 ? BLKTAP_OP_WRITE
			      : BLKTAP_OP_READ;
	do
		slot->block = any(BLOCKS);
	while (locked[slot->block]);
	slot->iov = (struct iovec){ slot->data, BLOCK };
	if (slot->op == BLKTAP_OP_WRITE)
		memset(slot->data, (int)any(256), BLOCK);
	if (slot->op != BLKTAP_OP_FLUSH) {
		locked[slot->block] = true;
		io.offset = (uint64_t)slot->block * BLOCK;
		io.length = BLOCK;
	}
	io.op = slot->op;
	slot->busy = true;
	submitted++;
	if (blktap_disk_submit(disk, &io))
		ck_abort_msg("not submitted");
}

/* ---- random graphs ---------------------------------------------------------- */

/* A chain of some of the filters in some order over what holds the data. */
static void make_text(char *out, size_t size)
{
	static const char *const classes[] = { "lag()", "lag()", "lagw()",
					       "laga()",
					       "slice(offset=0, "
					       "size=1M)" };
	bool used[FILTERS] = { false };
	uint32_t i, n = any(FILTERS + 1);
	size_t at = 0;

	at += (size_t)snprintf(out + at, size - at, "disk(\"x\") -> ");
	for (i = 0; i < n; i++) {
		uint32_t which = any(FILTERS);

		if (used[which])
			continue;
		used[which] = true;
		if (which == 5)
			at += (size_t)snprintf(
				out + at, size - at,
				"t :: throttle(iops=%u/s, burst=10s) -> ",
				1000000 + any(3));
		else
			at += (size_t)snprintf(out + at, size - at,
					       "f%u :: %s -> ", which,
					       classes[which]);
		if (any(4) == 0)
			at += (size_t)snprintf(out + at, size - at,
					       "lag() -> ");
	}
	at += (size_t)snprintf(out + at, size - at, "r :: ram(1M);");
	if (any(3) == 0)
		at += (size_t)snprintf(out + at, size - at,
				       " export(\"e\", ro=true) -> r;");
	ck_assert_uint_lt(at, size);
}

/* What must be refused, and changes nothing. */
static const char *bad_text(void)
{
	static const char *const texts[] = {
		"disk(\"x\") -> slice(offset=0, size=512k) -> r :: ram(1M);",
		"disk(\"x\") -> concat() => r :: ram(1M), raw(/none/there);",
		"assert run.r.size == 7; disk(\"x\") -> lag() -> r :: ram(1M);",
		"disk(\"y\") -> r :: ram(1M);",
		"disk(\"x\") -> lag() -> lagw() -> laga() -> s :: "
		"slice(offset=1M, size=1M) -> r :: ram(1M);",
	};

	return texts[any(5)];
}

/* ---- failures --------------------------------------------------------------- */

static int fail_at, steps;
static bool failed;

static int on_step(void *opaque, const char *name)
{
	if (!strcmp(name, "swing") || !strcmp(name, "release"))
		return 0;
	if (steps++ != fail_at)
		return 0;
	failed = true;
	return -EIO;
}

static void turns(uint32_t n)
{
	while (n--)
		if (blktap_context_run(context, 1))
			ck_abort_msg("the loop fails");
}

/* Fails at each step in turn, until no step is left and it succeeds. */
static void edit(const char *text, bool bad)
{
	uint64_t before = blktap_mason_get_generation(disk);
	struct blktap_error *err = NULL;
	int rc, tries = 0;

	for (fail_at = 0;; fail_at++) {
		steps = 0;
		failed = false;
		rc = blktap_mason_apply(disk, "random", text, strlen(text),
					NULL, NULL, &err);
		if (!failed)
			break;
		ck_assert_int_eq(rc, -EIO);
		ck_assert_uint_eq(blktap_mason_get_generation(disk), before);
		blktap_error_destroy(err);
		err = NULL;
		ck_assert_int_lt(++tries, 100);
		turns(any(3));
	}
	ck_assert_msg(bad == (rc != 0), "%s: %s", text,
		      err ? blktap_error_get_message(err) : "applied");
	ck_assert_uint_eq(blktap_mason_get_generation(disk),
			  before + (bad ? 0 : 1));
	blktap_error_destroy(err);
}

static uint64_t start_seed(void)
{
	return seed = seed_take();
}

static bool all_done(void)
{
	return submitted == completed;
}

START_TEST(random_changes_under_io_lose_nothing_wherever_they_fail)
{
	uint32_t i, n = getenv("BLKTAP_TEST_LONG") ? 20000 : 300;
	char text[1024], back[BLOCK];
	uint64_t pause, longest = 0;

	start_seed();
	context->run_ops.next_class = next_class;
	context->run_ops.step = on_step;
	put("x.mason", "disk(\"x\") -> r :: ram(1M);");
	disk = open_disk("x.mason", NULL);
	for (i = 0; i < SLOTS; i++)
		next_io(&slots[i]);
	for (i = 0; i < n; i++) {
		turns(any(5));
		if (any(8) == 0) {
			edit(bad_text(), true);
			continue;
		}
		make_text(text, sizeof(text));
		edit(text, false);
		pause = disk->stats.last_pause_ns;
		longest = pause > longest ? pause : longest;
	}
	stop = true;
	while (!all_done())
		turns(1);
	for (i = 0; i < BLOCKS; i++) {
		ck_assert_int_eq(io(disk, BLKTAP_OP_READ, (uint64_t)i * BLOCK,
				    back, BLOCK),
				 0);
		ck_assert_uint_eq((uint8_t)back[0], reference[i]);
		ck_assert_uint_eq((uint8_t)back[BLOCK - 1], reference[i]);
	}
	printf("%u changes, %llu requests, longest pause %llu us\n", n,
	       (unsigned long long)completed,
	       (unsigned long long)longest / 1000);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- migration -------------------------------------------------------------- */

static int apply_text(const char *text, const char *part)
{
	char full[512], *answer = NULL;
	struct blktap_error *err = NULL;
	int rc;

	snprintf(full, sizeof(full), "%sold :: raw(\"%s/a.raw\")", text, dir);
	if (part)
		snprintf(full + strlen(full), sizeof(full) - strlen(full),
			 ", new :: raw(\"%s/b.raw\")", dir);
	strcat(full, ";");
	rc = blktap_mason_apply(disk, "m", full, strlen(full), NULL, &answer,
				&err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	if (part)
		ck_assert_msg(strstr(answer, part) != NULL, "%s", answer);
	free(answer);
	return rc;
}

/* The last of the three files: refused until all is copied. */
static int switch_over(void)
{
	struct blktap_error *err = NULL;
	char text[512];
	int rc;

	snprintf(text, sizeof(text),
		 "assert run.m.state == synced && run.m.dirty == 0;\n"
		 "disk(\"x\") -> new :: raw(\"%s/b.raw\");",
		 dir);
	rc = blktap_mason_apply(disk, "m", text, strlen(text), NULL, NULL,
				&err);
	ck_assert_msg(!rc || rc == -EAGAIN, "%s",
		      err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	return rc;
}

START_TEST(a_disk_moves_to_another_image_while_it_is_in_use)
{
	uint32_t i, tries = 0;
	char back[BLOCK];

	start_seed();
	put_image("a.raw", M);
	put_image("b.raw", M);
	put("x.mason", "disk(\"x\") -> old :: raw(%s/a.raw);");
	disk = open_disk("x.mason", NULL);
	for (i = 0; i < SLOTS; i++)
		next_io(&slots[i]);
	turns(50);
	apply_text("disk(\"x\") -> m :: mirror(sync=background, source=0) => ",
		   "\"pause\":\"writes\"");
	while (switch_over() == -EAGAIN) {
		ck_assert_uint_lt(++tries, 20000);
		turns(5);
	}
	turns(50);
	stop = true;
	while (!all_done())
		turns(1);
	ck_assert_str_eq(disk->root->name, "new");
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	put("b.mason", "disk(\"x\") -> raw(%s/b.raw);");
	disk = open_disk("b.mason", NULL);
	for (i = 0; i < BLOCKS; i++) {
		ck_assert_int_eq(io(disk, BLKTAP_OP_READ, (uint64_t)i * BLOCK,
				    back, BLOCK),
				 0);
		ck_assert_uint_eq((uint8_t)back[0], reference[i]);
	}
	printf("migrated after %u tries, %llu requests\n", tries,
	       (unsigned long long)completed);
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}
END_TEST

/* ---- kill ------------------------------------------------------------------- */

static int kill_at;
static struct blktap_context *volatile inherited;

static int kill_step(void *opaque, const char *name)
{
	if (kill_at-- == 0)
		raise(SIGKILL);
	return 0;
}

/* Writes, flushes, changes the graph, and dies at a step of it. */
static void victim(int step, const char *text)
{
	struct blktap_context_options options = { .size = sizeof(options),
						  .engine =
							  BLKTAP_ENGINE_SYNC };
	char data[BLOCK];

	/* the parent's has its own descriptors; it stays known to who looks
	 * for leaks */
	inherited = context;
	if (blktap_context_create(&options, &context, NULL))
		_exit(4);
	disk = open_disk("x.mason", NULL);
	context->run_ops.step = kill_step;
	kill_at = step;
	memset(data, step + 1, sizeof(data));
	if (io(disk, BLKTAP_OP_WRITE, 0, data, BLOCK) ||
	    io(disk, BLKTAP_OP_FLUSH, 0, NULL, 0))
		_exit(3);
	_exit(blktap_mason_apply(disk, in_dir("y"), text, strlen(text), NULL,
				 NULL, NULL)
		      ? 2
		      : 0);
}

START_TEST(a_process_killed_at_any_step_starts_on_the_old_graph_or_the_new)
{
	uint64_t before, now = 0;
	char text[512], back[BLOCK];
	int step, status = -1;

	put_image("a.raw", M);
	put("x.mason", "disk(\"x\") -> a :: raw(%s/a.raw);");
	for (step = 0; step < 60 && status; step++) {
		pid_t pid;

		snprintf(text, sizeof(text),
			 "disk(\"x\") -> t%d :: throttle(iops=1000000/s) -> "
			 "s%d :: slice(offset=0, size=1M) -> a :: "
			 "raw(%s/a.raw);",
			 step, step, dir);
		before = now ? now : 1;
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid)
			victim(step, text);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		if (status)
			ck_assert(WIFSIGNALED(status));
		disk = open_disk("x.mason", NULL);
		now = blktap_mason_get_generation(disk);
		ck_assert_msg(now == before || now == before + 1,
			      "step %d: generation %llu after %llu", step,
			      (unsigned long long)now,
			      (unsigned long long)before);
		ck_assert_int_eq(io(disk, BLKTAP_OP_READ, 0, back, BLOCK), 0);
		ck_assert_int_eq(back[0], step + 1);
		ck_assert_int_eq(blktap_disk_close(disk), 0);
	}
	ck_assert_int_eq(status, 0);
	ck_assert_int_gt(step, 6);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-random");
	static const char shm[] = "/dev/shm/blktap-test-run-XXXXXX";
	TCase *tc = tcase_create("random");

	/* thousands of syncs, which a file in memory has for nothing */
	if (access("/dev/shm", W_OK) == 0)
		strcpy(dir, shm);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc,
		       random_changes_under_io_lose_nothing_wherever_they_fail);
	tcase_add_test(
		tc,
		a_process_killed_at_any_step_starts_on_the_old_graph_or_the_new);
	tcase_add_test(tc, a_disk_moves_to_another_image_while_it_is_in_use);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
