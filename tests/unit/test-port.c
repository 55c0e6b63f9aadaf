/* SPDX-License-Identifier: BSD-3-Clause */
#include "graph.h"

#include <errno.h>

struct top {
	struct bt_env env;
	struct bt_port port;
	struct bt_pool *pool;
	struct bt_node *leaf;
	struct bt_node *root;
	uint32_t done;
	int last_error;
	uint64_t order[64];
};

static void top_done(struct bt_port *port, struct bt_request *req)
{
	struct top *top = port->opaque;

	ck_assert_ptr_null(req->top);
	ck_assert(top->done < 64);
	top->order[top->done++] = req->offset;
	top->last_error = req->error;
	bt_pool_give(req);
}

/* depth filters over one leaf */
static void setup(struct top *top, const struct blktap_class *cls,
		  uint32_t depth)
{
	uint32_t i;

	memset(top, 0, sizeof(*top));
	make_env(&top->env);
	top->leaf = make_node(&top->env, &holder_class, "leaf", NULL);
	top->root = top->leaf;
	for (i = 0; i < depth; i++)
		top->root = make_node(&top->env, cls, "mid", top->root);
	bt_port_init(&top->port, &top->env, NULL, "top");
	top->port.done = top_done;
	top->port.opaque = top;
	bt_port_link(&top->port, top->root);
	ck_assert_int_eq(bt_pool_create(32, sizeof(struct bt_request),
					top->root->frame_sum, &top->pool),
			 0);
}

static void teardown(struct top *top)
{
	ck_assert_uint_eq(bt_pool_in_use(top->pool), 0);
	bt_pool_destroy(top->pool);
	bt_port_link(&top->port, NULL);
	bt_node_destroy(top->root);
	bt_loop_destroy(top->env.loop);
}

static struct bt_request *submit(struct top *top, enum blktap_op op,
				 uint64_t offset)
{
	struct bt_request *req = bt_pool_take(top->pool);

	ck_assert_ptr_nonnull(req);
	req->op = op;
	req->offset = offset;
	req->length = 512;
	bt_port_submit(&top->port, req);
	return req;
}

START_TEST(request_goes_down_and_comes_up_with_its_error)
{
	struct top top;

	setup(&top, &filter_class, 3);
	submit(&top, BLKTAP_OP_READ, 0);
	ck_assert_uint_eq(top.done, 0);
	ck_assert_uint_eq(bt_port_in_flight(&top.port), 1);
	holder_release(top.leaf, -EIO);
	ck_assert_uint_eq(top.done, 1);
	ck_assert_int_eq(top.last_error, -EIO);
	ck_assert_uint_eq(bt_port_in_flight(&top.port), 0);
	ck_assert_uint_eq(top.leaf->stats.errors[BLKTAP_OP_READ], 1);
	teardown(&top);
}
END_TEST

START_TEST(error_names_the_node_it_came_from)
{
	struct top top;
	struct bt_request *req;

	setup(&top, &filter_class, 2);
	req = submit(&top, BLKTAP_OP_READ, 0);
	ck_assert_str_eq(bt_request_where(req), "leaf");
	holder_release(top.leaf, -EIO);
	ck_assert_ptr_eq(req->failed, top.leaf);
	teardown(&top);
}
END_TEST

START_TEST(stack_does_not_grow_with_the_graph)
{
	struct top top;

	setup(&top, &filter_class, 5000);
	holder_of(top.leaf)->at_once = true;
	submit(&top, BLKTAP_OP_WRITE, 4096);
	ck_assert_uint_eq(top.done, 1);
	ck_assert_int_eq(top.last_error, 0);
	teardown(&top);
}
END_TEST

START_TEST(class_without_callbacks_is_passed_through)
{
	struct top top;

	setup(&top, &empty_class, 4);
	holder_of(top.leaf)->at_once = true;
	submit(&top, BLKTAP_OP_DISCARD, 0);
	ck_assert_uint_eq(top.done, 1);
	ck_assert_uint_eq(holder_of(top.leaf)->seen[BLKTAP_OP_DISCARD], 1);
	ck_assert_uint_eq(top.root->stats.completed[BLKTAP_OP_DISCARD], 1);
	teardown(&top);
}
END_TEST

START_TEST(operation_a_class_does_not_list_is_refused_above_it)
{
	struct blktap_class old = filter_class;
	struct top top;

	old.operations = 1u << BLKTAP_OP_READ;
	setup(&top, &old, 1);
	submit(&top, BLKTAP_OP_DISCARD, 0);
	ck_assert_int_eq(top.last_error, -ENOTSUP);
	ck_assert_uint_eq(holder_of(top.leaf)->seen[BLKTAP_OP_DISCARD], 0);
	ck_assert_uint_eq(top.root->limits.operations, 1u << BLKTAP_OP_READ);
	teardown(&top);
}
END_TEST

START_TEST(flush_goes_down_only_where_something_was_written)
{
	struct top top;

	setup(&top, &filter_class, 1);
	holder_of(top.leaf)->at_once = true;
	submit(&top, BLKTAP_OP_FLUSH, 0); /* what came before is unknown */
	submit(&top, BLKTAP_OP_FLUSH, 0);
	ck_assert_uint_eq(holder_of(top.leaf)->seen[BLKTAP_OP_FLUSH], 1);
	submit(&top, BLKTAP_OP_WRITE, 0);
	submit(&top, BLKTAP_OP_FLUSH, 0);
	submit(&top, BLKTAP_OP_FLUSH, 0);
	ck_assert_uint_eq(holder_of(top.leaf)->seen[BLKTAP_OP_FLUSH], 2);
	ck_assert_uint_eq(top.done, 5);
	teardown(&top);
}
END_TEST

START_TEST(flush_does_not_cover_a_write_that_was_still_under_way)
{
	struct top top;
	struct holder *leaf;

	setup(&top, &filter_class, 0);
	leaf = holder_of(top.leaf);
	submit(&top, BLKTAP_OP_WRITE, 0);
	submit(&top, BLKTAP_OP_FLUSH, 0);
	ck_assert(holder_release(top.leaf, 0)); /* the write */
	ck_assert(holder_release(top.leaf, 0)); /* the flush sent before */
	submit(&top, BLKTAP_OP_FLUSH, 0);
	ck_assert_uint_eq(leaf->seen[BLKTAP_OP_FLUSH], 2);
	ck_assert(holder_release(top.leaf, 0));
	teardown(&top);
}
END_TEST

START_TEST(failed_flush_covers_nothing)
{
	struct top top;

	setup(&top, &filter_class, 0);
	holder_of(top.leaf)->at_once = true;
	holder_of(top.leaf)->error = -EIO;
	submit(&top, BLKTAP_OP_FLUSH, 0);
	submit(&top, BLKTAP_OP_FLUSH, 0);
	ck_assert_uint_eq(holder_of(top.leaf)->seen[BLKTAP_OP_FLUSH], 2);
	ck_assert_int_eq(top.last_error, -EIO);
	teardown(&top);
}
END_TEST

/* ---- the gate ------------------------------------------------------------- */

static int gate_result;
static uint32_t gate_calls;

static void gate_told(struct bt_gate *gate, int error)
{
	gate_result = error;
	gate_calls++;
}

START_TEST(gate_holds_waits_and_releases_in_order)
{
	struct top top;
	struct bt_gate gate;
	struct bt_port *ports[1];

	gate_calls = 0;
	setup(&top, &filter_class, 2);
	ports[0] = &top.port;
	bt_gate_init(&gate, &top.env);
	submit(&top, BLKTAP_OP_WRITE, 1);
	ck_assert_int_eq(
		bt_gate_hold(&gate, ports, 1, BT_HOLD_ALL, 0, gate_told, NULL),
		0);
	submit(&top, BLKTAP_OP_WRITE, 2);
	submit(&top, BLKTAP_OP_READ, 3);
	turn(&top.env);
	ck_assert_uint_eq(gate_calls, 0);
	ck_assert(holder_release(top.leaf, 0));
	ck_assert_uint_eq(gate_calls, 0); /* told from the loop */
	turn(&top.env);
	ck_assert_uint_eq(gate_calls, 1);
	ck_assert_int_eq(gate_result, 0);
	ck_assert(!holder_release(top.leaf, 0));
	bt_gate_release(&gate);
	ck_assert(holder_release(top.leaf, 0));
	ck_assert(holder_release(top.leaf, 0));
	ck_assert_uint_eq(top.done, 3);
	ck_assert_uint_eq(top.order[1], 2);
	ck_assert_uint_eq(top.order[2], 3);
	teardown(&top);
}
END_TEST

START_TEST(gate_on_writes_lets_reads_pass)
{
	struct top top;
	struct bt_gate gate;
	struct bt_port *ports[1];

	gate_calls = 0;
	setup(&top, &filter_class, 0);
	holder_of(top.leaf)->at_once = true;
	ports[0] = &top.port;
	bt_gate_init(&gate, &top.env);
	ck_assert_int_eq(bt_gate_hold(&gate, ports, 1, BT_HOLD_WRITES, 0,
				      gate_told, NULL),
			 0);
	submit(&top, BLKTAP_OP_READ, 1);
	ck_assert_uint_eq(top.done, 1);
	submit(&top, BLKTAP_OP_WRITE, 2);
	submit(&top, BLKTAP_OP_FLUSH, 3);
	ck_assert_uint_eq(top.done, 1);
	bt_gate_release(&gate);
	ck_assert_uint_eq(top.done, 3);
	teardown(&top);
}
END_TEST

START_TEST(gate_deadline_tells_and_stays_held_until_release)
{
	struct top top;
	struct bt_gate gate;
	struct bt_port *ports[1];

	gate_calls = 0;
	setup(&top, &filter_class, 1);
	ports[0] = &top.port;
	bt_gate_init(&gate, &top.env);
	submit(&top, BLKTAP_OP_READ, 1);
	ck_assert_int_eq(
		bt_gate_hold(&gate, ports, 1, BT_HOLD_ALL, 50, gate_told, NULL),
		0);
	bt_loop_advance(top.env.loop, 49 * 1000000ull);
	turn(&top.env);
	ck_assert_uint_eq(gate_calls, 0);
	bt_loop_advance(top.env.loop, 2 * 1000000ull);
	turn(&top.env);
	turn(&top.env);
	ck_assert_uint_eq(gate_calls, 1);
	ck_assert_int_eq(gate_result, -ETIMEDOUT);
	ck_assert(holder_release(top.leaf, 0)); /* too late to matter */
	turn(&top.env);
	ck_assert_uint_eq(gate_calls, 1);
	bt_gate_release(&gate);
	teardown(&top);
}
END_TEST

START_TEST(second_gate_on_an_edge_is_refused)
{
	struct top top;
	struct bt_gate a, b;
	struct bt_port *ports[1];

	setup(&top, &filter_class, 0);
	ports[0] = &top.port;
	bt_gate_init(&a, &top.env);
	bt_gate_init(&b, &top.env);
	ck_assert_int_eq(
		bt_gate_hold(&a, ports, 1, BT_HOLD_ALL, 0, gate_told, NULL), 0);
	ck_assert_int_eq(
		bt_gate_hold(&b, ports, 1, BT_HOLD_ALL, 0, gate_told, NULL),
		-EBUSY);
	bt_gate_release(&a);
	teardown(&top);
}
END_TEST

START_TEST(leaf_is_replaced_under_a_held_gate)
{
	struct top top;
	struct bt_gate gate;
	struct bt_port *ports[1];
	struct bt_node *fresh;

	setup(&top, &filter_class, 1);
	ports[0] = &top.root->ports[0];
	bt_gate_init(&gate, &top.env);
	ck_assert_int_eq(
		bt_gate_hold(&gate, ports, 1, BT_HOLD_ALL, 0, gate_told, NULL),
		0);
	submit(&top, BLKTAP_OP_WRITE, 7);
	ck_assert_uint_eq(top.done, 0);
	fresh = make_node(&top.env, &holder_class, "fresh", NULL);
	bt_port_link(ports[0], fresh);
	bt_node_destroy(top.leaf);
	bt_gate_release(&gate);
	ck_assert(holder_release(fresh, 0));
	ck_assert_uint_eq(top.done, 1);
	teardown(&top);
}
END_TEST

/* ---- pools ---------------------------------------------------------------- */

START_TEST(deeper_graph_uses_spare_segments_until_requests_come_back)
{
	struct top top;
	struct bt_gate gate;
	struct bt_port *ports[1];
	struct bt_node *deep;
	uint32_t i;

	setup(&top, &filter_class, 1);
	ports[0] = &top.root->ports[0];
	bt_gate_init(&gate, &top.env);
	bt_gate_hold(&gate, ports, 1, BT_HOLD_ALL, 0, gate_told, NULL);
	for (i = 0; i < 8; i++)
		submit(&top, BLKTAP_OP_WRITE, i);
	deep = top.leaf;
	for (i = 0; i < 20; i++)
		deep = make_node(&top.env, &filter_class, "deep", deep);
	bt_port_link(ports[0], deep);
	ck_assert_int_eq(bt_node_plan(top.root, NULL), 0);
	ck_assert_int_eq(bt_pool_reserve(top.pool, top.root->frame_sum), 0);
	bt_gate_release(&gate);
	for (i = 0; i < 8; i++)
		ck_assert(holder_release(top.leaf, 0));
	ck_assert_uint_eq(top.done, 8);
	for (i = 0; i < 32; i++)
		submit(&top, BLKTAP_OP_READ, i);
	while (holder_release(top.leaf, 0))
		;
	ck_assert_uint_eq(top.done, 40);
	teardown(&top);
}
END_TEST

struct waiter {
	struct bt_pool_waiter wait;
	uint32_t calls;
};

static void waiter_called(struct bt_pool_waiter *wait)
{
	bt_container_of(wait, struct waiter, wait)->calls++;
}

START_TEST(empty_pool_calls_who_waits)
{
	struct bt_pool *pool;
	struct bt_request *a, *b;
	struct waiter w = { .wait = { .fn = waiter_called } };

	bt_list_init(&w.wait.link);
	ck_assert_int_eq(
		bt_pool_create(2, sizeof(struct bt_request), 64, &pool), 0);
	a = bt_pool_take(pool);
	b = bt_pool_take(pool);
	ck_assert_ptr_null(bt_pool_take(pool));
	bt_pool_wait(pool, &w.wait);
	bt_pool_give(a);
	ck_assert_uint_eq(w.calls, 1);
	bt_pool_give(b);
	ck_assert_uint_eq(w.calls, 1);
	bt_pool_destroy(pool);
}
END_TEST

/* ---- range locks ---------------------------------------------------------- */

static uint32_t grants;

static void range_granted(struct bt_range *range)
{
	grants++;
}

START_TEST(exclusive_range_waits_for_what_overlaps_and_nothing_else)
{
	struct bt_rangelock lock;
	struct bt_range a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

	grants = 0;
	bt_rangelock_init(&lock);
	ck_assert(bt_range_lock(&lock, &a, 0, 4096, false, range_granted));
	ck_assert(bt_range_lock(&lock, &b, 2048, 4096, false, range_granted));
	ck_assert(!bt_range_lock(&lock, &c, 4096, 4096, true, range_granted));
	ck_assert(bt_range_lock(&lock, &d, 8192, 10, true, range_granted));
	bt_range_unlock(&lock, &a);
	ck_assert_uint_eq(grants, 0);
	bt_range_unlock(&lock, &b);
	ck_assert_uint_eq(grants, 1);
	ck_assert(c.held);
	ck_assert(!bt_range_lock(&lock, &a, 8191, 1, false, range_granted));
	bt_range_unlock(&lock, &c);
	ck_assert(a.held);
	bt_range_unlock(&lock, &d);
	bt_range_unlock(&lock, &a);
	bt_range_unlock(&lock, &a);
	ck_assert(bt_list_empty(&lock.ranges));
	ck_assert_uint_eq(lock.exclusive, 0);
}
END_TEST

START_TEST(later_writer_does_not_pass_a_waiting_exclusive_one)
{
	struct bt_rangelock lock;
	struct bt_range a = { 0 }, x = { 0 }, b = { 0 };

	grants = 0;
	bt_rangelock_init(&lock);
	ck_assert(bt_range_lock(&lock, &a, 0, 10, false, range_granted));
	ck_assert(!bt_range_lock(&lock, &x, 0, 10, true, range_granted));
	ck_assert(!bt_range_lock(&lock, &b, 0, 10, false, range_granted));
	bt_range_unlock(&lock, &a);
	ck_assert(x.held);
	ck_assert(!b.held);
	bt_range_unlock(&lock, &x);
	ck_assert(b.held);
	bt_range_unlock(&lock, &b);
}
END_TEST

static void writer_complete(struct bt_node *node, struct bt_port *port,
			    struct bt_request *req)
{
	ck_assert_int_eq(req->op, BLKTAP_OP_WRITE);
	filter_complete(node, port, req);
}

START_TEST(a_node_does_not_get_back_what_passed_it)
{
	static const struct blktap_class cls = {
		.name = "writer",
		.summary = "sees writes alone",
		.ports = filter_ports,
		.operations = 1u << BLKTAP_OP_WRITE,
		.passes = 1u << BLKTAP_OP_READ,
		.frame_bytes = sizeof(struct filter_frame),
		.submit = filter_submit,
		.complete = writer_complete,
	};
	struct top top;

	setup(&top, &cls, 2);
	submit(&top, BLKTAP_OP_READ, 0);
	submit(&top, BLKTAP_OP_WRITE, 4096);
	ck_assert(holder_release(top.leaf, 0));
	ck_assert(holder_release(top.leaf, 0));
	ck_assert_uint_eq(top.done, 2);
	teardown(&top);
}
END_TEST

START_TEST(another_node_below_is_noticed_and_a_filter_is_not)
{
	static const struct blktap_class filter = {
		.name = "free",
		.summary = "comes and goes",
		.ports = filter_ports,
		.operations = BT_OPS_ALL,
		.pause = BT_PAUSE_NONE,
		.submit = filter_submit,
	};
	struct bt_node *free, *leaf;
	struct top top;
	uint64_t below, links;

	setup(&top, &filter_class, 1);
	below = bt_port_below(&top.port);
	ck_assert_uint_eq(bt_port_below(&top.port), below);
	links = top.env.links;
	free = make_node(&top.env, &filter, "free", top.leaf);
	bt_port_link(&top.root->ports[0], free);
	ck_assert_uint_ne(top.env.links, links);
	ck_assert_uint_eq(bt_port_below(&top.port), below);
	leaf = make_node(&top.env, &holder_class, "leaf", NULL);
	bt_port_link(&free->ports[0], leaf);
	ck_assert_uint_ne(bt_port_below(&top.port), below);
	bt_node_destroy(top.leaf);
	top.leaf = leaf;
	teardown(&top);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("port");
	TCase *tc = tcase_create("port");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, request_goes_down_and_comes_up_with_its_error);
	tcase_add_test(tc, error_names_the_node_it_came_from);
	tcase_add_test(tc, stack_does_not_grow_with_the_graph);
	tcase_add_test(tc, class_without_callbacks_is_passed_through);
	tcase_add_test(tc, operation_a_class_does_not_list_is_refused_above_it);
	tcase_add_test(tc, flush_goes_down_only_where_something_was_written);
	tcase_add_test(tc,
		       flush_does_not_cover_a_write_that_was_still_under_way);
	tcase_add_test(tc, failed_flush_covers_nothing);
	tcase_add_test(tc, gate_holds_waits_and_releases_in_order);
	tcase_add_test(tc, gate_on_writes_lets_reads_pass);
	tcase_add_test(tc, gate_deadline_tells_and_stays_held_until_release);
	tcase_add_test(tc, second_gate_on_an_edge_is_refused);
	tcase_add_test(tc, leaf_is_replaced_under_a_held_gate);
	tcase_add_test(
		tc, deeper_graph_uses_spare_segments_until_requests_come_back);
	tcase_add_test(tc, empty_pool_calls_who_waits);
	tcase_add_test(
		tc, exclusive_range_waits_for_what_overlaps_and_nothing_else);
	tcase_add_test(tc, later_writer_does_not_pass_a_waiting_exclusive_one);
	tcase_add_test(tc, a_node_does_not_get_back_what_passed_it);
	tcase_add_test(tc, another_node_below_is_noticed_and_a_filter_is_not);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
