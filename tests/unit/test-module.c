/* SPDX-License-Identifier: BSD-3-Clause */
#include "module.h"

/* ---- what the core gives to modules ---------------------------------------- */

static const struct bt_port_desc pair_ports[] = {
	{ .name = "store", .flags = BT_PORT_STORE },
	{ .name = "leg", .flags = BT_PORT_ARRAY },
	{ .name = NULL },
};

/* Writes to every leg by a child each; reads from the last. */
struct pair {
	struct bt_pool *pool;
	char first[512];
};

struct pair_frame {
	uint32_t left;
	int error;
};

static int pair_open(struct bt_node *node, const struct bt_args *args,
		     uint32_t flags, struct blktap_error **err)
{
	struct pair *pair = node->data;
	int rc = bt_node_transfer(bt_node_port(node, 0, 0), BLKTAP_OP_READ, 512,
				  pair->first, sizeof(pair->first));

	return rc ? rc
		  : bt_node_add_pool(node, 8, sizeof(struct bt_request),
				     &pair->pool);
}

static void child_done(struct bt_request *child)
{
	struct bt_request *req = child->opaque;
	struct pair_frame *frame = bt_request_frame(req);

	ck_assert_ptr_null(child->top);
	if (child->error)
		frame->error = child->error;
	bt_pool_give(child);
	if (--frame->left == 0)
		bt_request_complete(req, frame->error);
}

static void pair_submit(struct bt_node *node, struct bt_request *req)
{
	struct pair *pair = node->data;
	struct pair_frame *frame = bt_request_frame(req);
	uint32_t i, legs = bt_node_edges(node, 1);

	frame->left = legs;
	frame->error = 0;
	for (i = 0; i < legs; i++) {
		struct bt_request *child = bt_pool_take(pair->pool);

		child->op = req->op;
		child->offset = req->offset;
		child->length = req->length;
		child->data = req->data;
		child->done = child_done;
		child->opaque = req;
		bt_port_submit(bt_node_port(node, 1, i), child);
	}
}

static const struct blktap_class pair_class = {
	.name = "pair",
	.summary = "asks all its legs",
	.ports = pair_ports,
	.operations = BT_OPS_ALL,
	.node_bytes = sizeof(struct pair),
	.frame_bytes = sizeof(struct pair_frame),
	.open = pair_open,
	.submit = pair_submit,
};

START_TEST(a_node_has_as_many_edges_at_an_array_as_it_is_given)
{
	struct bt_node *lowers[4];
	struct bt_node *node;
	struct rig rig;
	uint32_t i;

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "store", "4k");
	for (i = 1; i < 4; i++)
		lowers[i] = rig_ram(&rig, "leg", "1M");
	node = rig_node(&rig, &pair_class, "p", "", lowers, 4);
	ck_assert_uint_eq(bt_node_edges(node, 0), 1);
	ck_assert_uint_eq(bt_node_edges(node, 1), 3);
	ck_assert_ptr_eq(bt_node_port(node, 1, 2)->lower, lowers[3]);
	ck_assert_uint_eq(bt_node_port(node, 1, 2)->slot, 2);
	ck_assert_ptr_null(bt_node_port(node, 1, 3));
	/* the store does not bound the size */
	ck_assert_uint_eq(node->limits.size, 1u << 20);
	rig_top(&rig, node);
	rig_fini(&rig);
}
END_TEST

START_TEST(children_come_back_to_the_node_that_sent_them)
{
	struct bt_node *lowers[3];
	struct rig rig;
	char data[512], back[512];
	uint32_t i;

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "store", "4k");
	lowers[1] = rig_ram(&rig, "a", "1M");
	lowers[2] = rig_ram(&rig, "b", "1M");
	rig_top(&rig, rig_node(&rig, &pair_class, "p", "", lowers, 3));
	memset(data, 0x5a, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 4096, data, sizeof(data)), 0);
	for (i = 0; i < 2; i++) {
		memset(back, 0, sizeof(back));
		ck_assert_int_eq(bt_node_transfer(bt_node_port(rig.root, 1, i),
						  BLKTAP_OP_READ, 4096, back,
						  sizeof(back)),
				 0);
		ck_assert_mem_eq(back, data, sizeof(data));
	}
	ck_assert_uint_eq(bt_port_in_flight(bt_node_port(rig.root, 1, 0)), 0);
	rig_fini(&rig);
}
END_TEST

/* ---- slice ------------------------------------------------------------------ */

START_TEST(a_slice_shows_its_part_and_nothing_else)
{
	struct bt_node *ram, *slice;
	struct rig rig;
	char data[1024], back[1024];

	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "1M");
	slice = rig_node(&rig, &bt_slice_class, "s", "offset=64k size=128k",
			 &ram, 1);
	ck_assert_uint_eq(slice->limits.size, 128u << 10);
	rig_top(&rig, slice);
	memset(data, 0x77, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 512, data, sizeof(data)), 0);
	ck_assert_int_eq(bt_node_transfer(&slice->ports[0], BLKTAP_OP_READ,
					  (64u << 10) + 512, back,
					  sizeof(back)),
			 0);
	ck_assert_mem_eq(back, data, sizeof(data));
	memset(back, 0, sizeof(back));
	ck_assert_int_eq(rig_read(&rig, 512, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, data, sizeof(data));
	rig_fini(&rig);
}
END_TEST

START_TEST(a_slice_past_the_end_is_refused_and_named)
{
	struct blktap_error *err = NULL;
	struct bt_node *ram;
	struct rig rig;
	int rc;

	rig_init(&rig);
	ram = rig_ram(&rig, "disk", "1M");
	ck_assert_ptr_null(rig_make(&rig, &bt_slice_class, "s",
				    "offset=1M size=4k", &ram, 1, &rc, &err));
	ck_assert_int_eq(rc, -ERANGE);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "'disk'"));
	blktap_error_destroy(err);
	rig_fini(&rig);
}
END_TEST

/* ---- leaves that hold nothing ----------------------------------------------- */

START_TEST(an_error_fails_with_what_it_was_told_and_can_be_flushed)
{
	static const struct {
		const char *args;
		int code;
	} cases[] = {
		{ "size=1M", -EIO },
		{ "size=1M error=ENOSPC", -ENOSPC },
		{ "size=1M error=EPERM", -EPERM },
		{ "size=1M error=ETIMEDOUT", -ETIMEDOUT },
	};
	char data[512] = { 0 };
	struct rig rig;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(cases); i++) {
		rig_init(&rig);
		rig_top(&rig, rig_node(&rig, &bt_error_class, "e",
				       cases[i].args, NULL, 0));
		ck_assert_uint_eq(rig.root->limits.size, 1u << 20);
		ck_assert_int_eq(rig_read(&rig, 0, data, 512), cases[i].code);
		ck_assert_int_eq(rig_write(&rig, 0, data, 512), cases[i].code);
		ck_assert_int_eq(
			rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 512),
			cases[i].code);
		ck_assert_int_eq(rig_flush(&rig), 0);
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(a_pattern_says_where_each_byte_is_and_checks_what_is_written)
{
	static unsigned char data[3 * 4096 + 5];
	struct rig rig;
	uint64_t at, i, word;

	rig_init(&rig);
	rig_top(&rig,
		rig_node(&rig, &bt_pattern_class, "p", "size=1T", NULL, 0));
	for (at = 0x12345678f0; at < 0x12345678f0 + 9; at++) {
		memset(data, 0xee, sizeof(data));
		ck_assert_int_eq(rig_read(&rig, at, data, sizeof(data)), 0);
		for (i = 0; i < sizeof(data); i++) {
			word = (at + i) & ~7ull;
			ck_assert_uint_eq(
				data[i], word >> (7 - (at + i) % 8) * 8 & 0xff);
		}
		ck_assert_int_eq(rig_write(&rig, at, data, sizeof(data)), 0);
		data[sizeof(data) - 1] ^= 1;
		ck_assert_int_eq(rig_write(&rig, at, data, sizeof(data)), -EIO);
	}
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 512),
			 -ENOTSUP);
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("module");
	TCase *core = tcase_create("core");
	TCase *slice = tcase_create("slice");

	tcase_add_test(core,
		       a_node_has_as_many_edges_at_an_array_as_it_is_given);
	tcase_add_test(core,
		       an_error_fails_with_what_it_was_told_and_can_be_flushed);
	tcase_add_test(
		core,
		a_pattern_says_where_each_byte_is_and_checks_what_is_written);
	tcase_add_test(core, children_come_back_to_the_node_that_sent_them);
	suite_add_tcase(suite, core);
	tcase_add_test(slice, a_slice_shows_its_part_and_nothing_else);
	tcase_add_test(slice, a_slice_past_the_end_is_refused_and_named);
	suite_add_tcase(suite, slice);
	return unit_run(suite);
}
