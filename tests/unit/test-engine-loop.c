/* SPDX-License-Identifier: BSD-3-Clause */
/* The engines in a loop: embedded, handed on, without end, forbidden. */
#include "engine-bench.h"

START_TEST(kick_completes_nothing_inside_and_loses_nothing)
{
	unsigned char *memory;
	struct op *a, *b;

	if (!begin(_i))
		return;
	memory = calloc(2, 4096);
	a = op_submit(op_new(BT_IO_READ, 0, memory, 4096));
	submitting = true;
	bt_engine_kick(engine);
	bt_engine_kick(engine);
	submitting = false;
	b = op_submit(op_new(BT_IO_READ, 4096, memory + 4096, 4096));
	ck_assert_int_eq(op_wait(a), 0);
	ck_assert_int_eq(op_wait(b), 0);
	ck_assert(!memcmp(memory, model, 8192));
	free(memory);
	end();
}
END_TEST

/* As an embedder does: the descriptor and the timeout, nothing else. */
START_TEST(embedded_in_poll_every_io_comes_back)
{
	unsigned char *memory;
	int i;

	if (!begin(_i))
		return;
	reopen_direct();
	memory = aligned_alloc(4096, 4096);
	memset(memory, 0, 4096);
	for (i = 0; i < 50; i++) {
		struct op *op = op_submit(
			op_new(BT_IO_READ, (uint64_t)i * 4096, memory, 4096));

		while (!op->calls) {
			struct pollfd pfd = { .fd = bt_loop_fd(loop),
					      .events = POLLIN };
			int rc = poll(&pfd, 1, bt_loop_timeout(loop));

			ck_assert(rc > 0 || bt_loop_timeout(loop) == 0);
			ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
		}
		ck_assert_int_eq(op_wait(op), 0);
		ck_assert(!memcmp(memory, model + i * 4096, 4096));
	}
	free(memory);
	end();
}
END_TEST

static void *wait_elsewhere(void *opaque)
{
	struct op *op = opaque;

	bt_loop_run_until(loop, is_done, op, 20000);
	op = op_submit(op_new(BT_IO_READ, 4096, op->iov[0].iov_base, 4096));
	bt_engine_kick(engine);
	return op;
}

START_TEST(engine_may_be_handed_from_thread_to_thread)
{
	unsigned char *memory;
	pthread_t thread;
	struct op *a;
	void *b;

	if (!begin(_i))
		return;
	reopen_direct();
	memory = aligned_alloc(4096, 4096);
	memset(memory, 0, 4096);
	a = op_submit(op_new(BT_IO_READ, 0, memory, 4096));
	bt_engine_kick(engine);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_elsewhere, a), 0);
	pthread_join(thread, &b);
	ck_assert_int_eq(op_wait(a), 0);
	/* The thread that submitted it is gone. */
	ck_assert_int_eq(op_wait(b), 0);
	ck_assert(!memcmp(memory, model + 4096, 4096));
	free(memory);
	end();
}
END_TEST

static int chain_left;

static void on_chain(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	ck_assert_int_eq(error, 0);
	if (--chain_left)
		bt_engine_submit(io);
	else
		op->calls++;
}

static void on_tick(struct bt_timer *timer)
{
	chain_left = 1;
}

/* The file is in the page cache: completions come within the submission. */
START_TEST(io_without_end_starves_no_timer)
{
	unsigned char memory[512];
	struct bt_timer timer;
	struct op *op;

	if (!begin(_i))
		return;
	bt_timer_init(&timer, on_tick);
	bt_timer_arm(loop, &timer, bt_loop_refresh(loop) + 20000000);
	chain_left = INT32_MAX;
	op = op_new(BT_IO_READ, 0, memory, sizeof(memory));
	op->io.done = on_chain;
	bt_engine_submit(&op->io);
	ck_assert_int_eq(bt_loop_run_until(loop, is_done, op, 20000), 0);
	free(op);
	end();
}
END_TEST

static void forbid(long a, long b)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)a, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)b, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { BT_ARRAY_SIZE(code), code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

START_TEST(engine_auto_falls_back_where_calls_are_forbidden)
{
	static const char *const want[] = { "libaio", "sync" };
	struct blktap_error *err = NULL;
	const char *env = getenv("CK_FORK");

	if (getenv("BLKTAP_VALGRIND") || (env && !strcmp(env, "no")))
		return;
	forbid(SYS_io_uring_setup, _i ? SYS_io_setup : SYS_io_uring_setup);
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop), 0);
	ck_assert_int_eq(bt_engine_create(loop, NULL, BLKTAP_ENGINE_AUTO, 0,
					  &engine, &err),
			 0);
	ck_assert_ptr_null(err);
	ck_assert_str_eq(bt_engine_name(engine), want[_i]);
	bt_engine_destroy(engine);
	ck_assert_int_eq(bt_engine_create(loop, NULL, BLKTAP_ENGINE_IO_URING, 0,
					  &engine, &err),
			 -ENOTSUP);
	ck_assert_int_eq(blktap_error_get_code(err), -ENOTSUP);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "io_uring"));
	ck_assert_str_ne(blktap_error_get_hint(err), "");
	blktap_error_destroy(err);
	bt_loop_destroy(loop);
}
END_TEST

START_TEST(engine_name_is_what_was_asked_for)
{
	static const char *const names[] = { "io_uring", "libaio", "sync" };

	if (!begin(_i))
		return;
	ck_assert_str_eq(bt_engine_name(engine), names[_i]);
	end();
}
END_TEST

START_TEST(engine_leaves_no_descriptor_behind)
{
	int first, i;

	first = dup(0);
	close(first);
	for (i = 0; i < 20; i++) {
		if (!begin(_i))
			return;
		ck_assert_int_eq(do_io(BT_IO_SYNC, 0, NULL, 0), 0);
		end();
	}
	i = dup(0);
	ck_assert_int_eq(i, first);
	close(i);
}
END_TEST

static void add_variants(TCase *tc)
{
	tcase_add_loop_test(tc, kick_completes_nothing_inside_and_loses_nothing,
			    0, VARIANTS);
	tcase_add_loop_test(tc, embedded_in_poll_every_io_comes_back, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, engine_may_be_handed_from_thread_to_thread, 0,
			    VARIANTS);
	tcase_add_loop_test(tc, io_without_end_starves_no_timer, 0, VARIANTS);
	tcase_add_loop_test(tc, engine_name_is_what_was_asked_for, 0, 3);
	tcase_add_loop_test(tc, engine_leaves_no_descriptor_behind, 0, 3);
	tcase_add_loop_test(
		tc, engine_auto_falls_back_where_calls_are_forbidden, 0, 2);
}

int main(void)
{
	Suite *suite = suite_create("engine-loop");
	TCase *tc = tcase_create("engines");

	tcase_set_timeout(tc, 30);
	add_variants(tc);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
