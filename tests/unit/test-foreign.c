/* SPDX-License-Identifier: BSD-3-Clause */
/* Modules from outside, as far as their declarations and calls go; loading them
 * is tests/embed/test-embed-module.sh's. */
#include "narrow.h"

#include "module/foreign.h"

/* ---- a module that writes to two legs, by a child for the second ------------ */

struct twice_frame {
	uint32_t left;
	int error;
	struct iovec iov;
};

static const struct blktap_module_port twice_ports[] = {
	{ .name = "leg", .flags = BLKTAP_PORT_ARRAY },
	{ .name = NULL },
};

static int twice_open(struct blktap_node *node, struct blktap_error **err)
{
	struct blktap_module_limits lower = { .size = sizeof(lower) };

	ck_assert_int_eq(blktap_node_get_lower(node, 0, 9, &lower), -ENOENT);
	if (blktap_node_get_edges(node, 0) != 2)
		return blktap_error_set(err, -EINVAL, "give it two",
					"%s: has %u legs",
					blktap_node_get_name(node),
					blktap_node_get_edges(node, 0));
	ck_assert_int_eq(blktap_node_get_lower(node, 0, 1, &lower), 0);
	ck_assert_uint_eq(lower.length, 1u << 20);
	return 0;
}

static void one_is_done(struct blktap_request *req, int error)
{
	struct twice_frame *frame = blktap_request_get_frame(req);

	if (error)
		frame->error = error;
	if (--frame->left == 0)
		blktap_request_complete(req, frame->error);
}

static void child_is_done(struct blktap_node *node, void *opaque, int error)
{
	ck_assert_ptr_nonnull(blktap_node_get_name(node));
	one_is_done(opaque, error);
}

static void twice_submit(struct blktap_node *node, struct blktap_request *req)
{
	struct twice_frame *frame = blktap_request_get_frame(req);
	void *memory;
	size_t length;
	uint32_t leg;

	frame->left = 2;
	frame->error = 0;
	ck_assert(blktap_request_get_data(req, 0, &memory, &length));
	ck_assert_uint_eq(length, blktap_request_get_length(req));
	frame->iov = (struct iovec){ .iov_base = memory, .iov_len = length };
	for (leg = 0; leg < 2; leg++) {
		int rc = blktap_node_submit(node, 0, leg, BLKTAP_OP_WRITE,
					    blktap_request_get_flags(req),
					    blktap_request_get_offset(req),
					    length, &frame->iov, 1,
					    child_is_done, req);

		if (rc)
			one_is_done(req, rc);
	}
}

static const struct blktap_module twice = {
	BLKTAP_MODULE_HEAD,
	.name = "twice",
	.summary = "writes to both legs",
	.ports = twice_ports,
	.operations = 1u << BLKTAP_OP_WRITE,
	.passes = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_FLUSH,
	.children = 2,
	.frame_bytes = sizeof(struct twice_frame),
	.open = twice_open,
	.submit = twice_submit,
};

START_TEST(children_of_a_foreign_module_reach_both_legs)
{
	struct bt_node *legs[2];
	struct bt_foreign *f;
	struct rig rig;
	char data[4096], back[4096];
	uint32_t i;

	rig_init(&rig);
	ck_assert_int_eq(bt_foreign_create(&twice, "twice.so", &f, NULL), 0);
	legs[0] = rig_ram(&rig, "a", "1M");
	legs[1] = rig_ram(&rig, "b", "1M");
	legs[0]->limits.keeps = legs[1]->limits.keeps = BT_KEEPS_NOTHING;
	rig_top(&rig, rig_node(&rig, &f->cls, "t", "", legs, 2));
	/* what it has in memory of a write is not known, so it may be all */
	ck_assert_int_eq(rig.root->limits.keeps, BT_KEEPS_ALL);
	memset(data, 0x3c, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 8192, data, sizeof(data)), 0);
	for (i = 0; i < 2; i++) {
		memset(back, 0, sizeof(back));
		ck_assert_int_eq(bt_node_transfer(bt_node_port(rig.root, 0, i),
						  BLKTAP_OP_READ, 8192, back,
						  sizeof(back)),
				 0);
		ck_assert_mem_eq(back, data, sizeof(data));
	}
	/* what it passes, it passes; what it does not declare is refused */
	ck_assert_int_eq(rig_read(&rig, 8192, back, sizeof(back)), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 4096),
			 -ENOTSUP);
	ck_assert_uint_eq(rig.root->limits.operations >> BLKTAP_OP_DISCARD & 1u,
			  0);
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

/* ---- one that is not where it thinks it is ----------------------------------- */

static struct {
	uint64_t shift; /* of the request */
	uint64_t at, length, held; /* of a child; length 0: none */
	int rc;
} stray;

static void never(struct blktap_node *node, void *opaque, int error)
{
	ck_abort_msg("a child that was refused is not told of");
}

static void stray_submit(struct blktap_node *node, struct blktap_request *req)
{
	static char bytes[4096];
	struct iovec iov = { .iov_base = bytes, .iov_len = stray.held };

	if (stray.length) {
		stray.rc = blktap_node_submit(node, 0, 0, BLKTAP_OP_WRITE, 0,
					      stray.at, stray.length, &iov, 1,
					      never, NULL);
		blktap_request_complete(req, 0);
		return;
	}
	blktap_request_set_offset(req,
				  blktap_request_get_offset(req) + stray.shift);
	blktap_request_submit(node, 0, 0, req);
}

static const struct blktap_module_port stray_ports[] = { { .name = "lower" },
							 { .name = NULL } };

static const struct blktap_module stray_module = {
	BLKTAP_MODULE_HEAD,
	.name = "stray",
	.summary = "goes where nothing is",
	.ports = stray_ports,
	.operations = 1u << BLKTAP_OP_WRITE | 1u << BLKTAP_OP_DISCARD,
	.children = 1,
	.submit = stray_submit,
};

/* Below it is a slice, behind whose end another disk begins. */
START_TEST(a_foreign_module_does_not_reach_past_what_is_below)
{
	static const struct {
		uint64_t at, length, held;
	} children[] = {
		{ 512 << 10, 512, 512 }, { (512 << 10) - 512, 1024, 1024 },
		{ 100, 512, 512 },	 { 0, 100, 512 },
		{ 0, 1024, 1023 },	 { UINT64_MAX - 511, 512, 512 },
		{ 0, 4u << 20, 4096 },
	};
	char data[4096] = { 1 };
	struct bt_node *lower;
	struct bt_foreign *f;
	struct rig rig;
	size_t i;

	rig_init(&rig);
	ck_assert_int_eq(bt_foreign_create(&stray_module, "s.so", &f, NULL), 0);
	lower = rig_ram(&rig, "ram", "1M");
	lower = rig_node(&rig, &bt_slice_class, "half", "offset=0 size=512k",
			 &lower, 1);
	lower->limits.block_size = 512;
	rig_top(&rig, rig_node(&rig, &f->cls, "s", "", &lower, 1));
	ck_assert_int_eq(rig_write(&rig, 508 << 10, data, 4096), 0);
	stray.shift = 512;
	ck_assert_int_eq(rig_write(&rig, 508 << 10, data, 4096), -EINVAL);
	ck_assert_int_eq(rig_write(&rig, 507 << 10, data, 4096), 0);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, 508 << 10, NULL, 4096),
		-EINVAL);
	for (i = 0; i < BT_ARRAY_SIZE(children); i++) {
		stray.at = children[i].at;
		stray.length = children[i].length;
		stray.held = children[i].held;
		stray.rc = 1;
		ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
		ck_assert_int_eq(stray.rc, -EINVAL);
	}
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

START_TEST(a_foreign_open_that_fails_says_why)
{
	struct blktap_error *err = NULL;
	struct bt_node *leg;
	struct bt_foreign *f;
	struct rig rig;
	int rc;

	rig_init(&rig);
	ck_assert_int_eq(bt_foreign_create(&twice, "twice.so", &f, NULL), 0);
	leg = rig_ram(&rig, "a", "1M");
	ck_assert_ptr_null(
		rig_make(&rig, &f->cls, "t", "", &leg, 1, &rc, &err));
	ck_assert_int_eq(rc, -EINVAL);
	ck_assert_str_eq(blktap_error_get_message(err), "t: has 1 legs");
	ck_assert_str_eq(blktap_error_get_hint(err), "give it two");
	blktap_error_destroy(err);
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

/* ---- a module that is wrong about what is below ------------------------------ */

static uint64_t crooked_at, crooked_length;
static uint32_t crooked_port;
static enum blktap_op crooked_op;
static struct iovec crooked_iov;

static void crooked_is_done(struct blktap_node *node, void *opaque, int error)
{
	(void)node;
	blktap_request_complete(opaque, error);
}

/* Whatever comes becomes what the test says: a write by a child, a discard by
 * the request itself, moved. */
static void crooked_submit(struct blktap_node *node, struct blktap_request *req)
{
	int rc;

	if (blktap_request_get_op(req) == BLKTAP_OP_DISCARD) {
		blktap_request_set_offset(req, crooked_at);
		blktap_request_submit(node, crooked_port, 0, req);
		return;
	}
	rc = blktap_node_submit(node, crooked_port, 0, crooked_op, 0,
				crooked_at, crooked_length, &crooked_iov, 1,
				crooked_is_done, req);
	if (rc)
		blktap_request_complete(req, rc);
}

/* It promises what nobody below can take. */
static void crooked_limits(struct blktap_node *node,
			   struct blktap_module_limits *limits)
{
	(void)node;
	limits->length = 1u << 30;
	limits->block_size = 1;
	limits->max_transfer = 1u << 30;
	limits->max_unmap = 1u << 30;
}

static const struct blktap_module_port crooked_ports[] = {
	{ .name = "lower" },
	{ .name = "seen", .flags = BLKTAP_PORT_READS },
	{ .name = NULL },
};

static const struct blktap_module crooked = {
	BLKTAP_MODULE_HEAD,
	.name = "crooked",
	.summary = "is wrong about what is below",
	.ports = crooked_ports,
	.operations = 1u << BLKTAP_OP_WRITE | 1u << BLKTAP_OP_DISCARD,
	.passes = 1u << BLKTAP_OP_READ,
	.children = 1,
	.get_limits = crooked_limits,
	.submit = crooked_submit,
};

static struct bt_foreign *make_crooked(struct rig *rig)
{
	struct bt_node *lowers[2];
	struct bt_foreign *f;

	rig_init(rig);
	ck_assert_int_eq(bt_foreign_create(&crooked, "c.so", &f, NULL), 0);
	narrow_takes = 4096;
	lowers[0] = rig_ram(rig, "a", "1M");
	lowers[0] = rig_node(rig, &narrow_class, "n", "", lowers, 1);
	lowers[1] = rig_ram(rig, "b", "1M");
	rig_top(rig, rig_node(rig, &f->cls, "c", "", lowers, 2));
	return f;
}

START_TEST(what_a_foreign_module_sends_is_held_against_what_is_below)
{
	static char memory[8192];
	static const struct {
		uint32_t port;
		enum blktap_op op;
		uint64_t at, length, room;
		int rc;
	} cases[] = {
		{ 0, BLKTAP_OP_WRITE, 0, 4096, 4096, 0 },
		{ 0, BLKTAP_OP_READ, 0, 4096, 4096, 0 },
		{ 0, BLKTAP_OP_FLUSH, 0, 0, 0, 0 },
		{ 1, BLKTAP_OP_READ, 0, 4096, 4096, 0 },
		{ 1, BLKTAP_OP_WRITE, 0, 4096, 4096, -EROFS },
		{ 1, BLKTAP_OP_DISCARD, 0, 4096, 0, -EROFS },
		{ 0, BLKTAP_OP_WRITE, 1u << 20, 4096, 4096, -EINVAL },
		{ 0, BLKTAP_OP_WRITE, (1u << 20) - 512, 4096, 4096, -EINVAL },
		{ 0, BLKTAP_OP_WRITE, UINT64_MAX - 511, 4096, 4096, -EINVAL },
		{ 0, BLKTAP_OP_WRITE, 1, 512, 512, -EINVAL },
		{ 0, BLKTAP_OP_WRITE, 0, 4096, 512, -EINVAL }, /* iov */
		{ 0, BLKTAP_OP_WRITE, 0, 8192, 8192, -EINVAL },
		{ 0, BLKTAP_OP_READ, 0, 8192, 8192, -EINVAL },
		{ 0, BLKTAP_OP_WRITE_ZEROES, 0, 1ull << 40, 0, -EINVAL },
		{ 2, BLKTAP_OP_WRITE, 0, 4096, 4096, -EINVAL },
	};
	struct bt_foreign *f;
	struct rig rig;
	char data[512] = { 0 };
	size_t i;

	f = make_crooked(&rig);
	crooked_iov.iov_base = memory;
	for (i = 0; i < BT_ARRAY_SIZE(cases); i++) {
		crooked_port = cases[i].port;
		crooked_op = cases[i].op;
		crooked_at = cases[i].at;
		crooked_length = cases[i].length;
		crooked_iov.iov_len = cases[i].room;
		ck_assert_msg(rig_write(&rig, 0, data, 512) == cases[i].rc,
			      "case %zu", i);
	}
	/* the request itself */
	crooked_port = 0;
	crooked_at = 4096;
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 4096), 0);
	crooked_at = 1u << 20;
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 4096),
			 -EINVAL);
	crooked_port = 1;
	crooked_at = 0;
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 4096),
			 -EROFS);
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

/* Reads pass by it, so it cannot promise more of them than the first edge has. */
START_TEST(limits_of_a_foreign_module_that_passes_are_those_of_its_first_edge)
{
	struct bt_foreign *f;
	struct rig rig;
	const struct bt_limits *limits, *first;

	f = make_crooked(&rig);
	limits = &rig.root->limits;
	first = &rig.root->ports[0].lower->limits;
	ck_assert_uint_eq(limits->size, 1u << 20);
	ck_assert_uint_eq(limits->block_size, first->block_size);
	ck_assert_uint_eq(limits->max_transfer, first->max_transfer);
	ck_assert_uint_eq(limits->max_unmap, first->max_unmap);
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

/* ---- declarations ----------------------------------------------------------- */

static void refuse(const struct blktap_module *module, int code,
		   const char *part)
{
	struct blktap_error *err = NULL;
	struct bt_foreign *f;

	ck_assert_int_eq(bt_foreign_create(module, "x.so", &f, &err), code);
	ck_assert_msg(strstr(blktap_error_get_message(err), part) != NULL, "%s",
		      blktap_error_get_message(err));
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "x.so"));
	blktap_error_destroy(err);
}

static const struct blktap_module_port first_array[] = {
	{ .name = "legs", .flags = BLKTAP_PORT_ARRAY },
	{ .name = "other" },
	{ .name = NULL },
};

static const struct blktap_param nameless[] = {
	{ .name = "Bad Name", .help = "x" },
	{ .name = NULL },
};

START_TEST(declarations_without_sense_are_refused)
{
	static struct blktap_module_port many_ports[66];
	static struct blktap_param many_params[66];
	struct blktap_module m;
	uint32_t i;

	for (i = 0; i < 65; i++) {
		many_ports[i].name = "p";
		many_params[i].name = "p";
	}

#define WITH(field, value, code, part)  \
	do {                            \
		m = twice;              \
		m.field = value;        \
		refuse(&m, code, part); \
	} while (0)
	WITH(abi, 2, -EPROTONOSUPPORT, "ABI 2");
	WITH(size, 16, -EPROTONOSUPPORT, "ABI");
	WITH(name, NULL, -ENOEXEC, "no name");
	WITH(name, "Upper", -ENOEXEC, "no name");
	WITH(summary, NULL, -ENOEXEC, "summary");
	WITH(ports, NULL, -ENOEXEC, "no port");
	WITH(ports, first_array, -ENOEXEC, "a port makes no sense");
	WITH(operations, 1u << 31, -ENOEXEC, "operations");
	WITH(submit, NULL, -ENOEXEC, "operations");
	WITH(flags, 0x80, -ENOEXEC, "flags");
	WITH(pause, (enum blktap_module_pause)7, -ENOEXEC, "flags");
	WITH(frame_bytes, 1u << 20, -ENOEXEC, "memory");
	WITH(children, UINT32_MAX, -ENOEXEC, "memory");
	WITH(params, nameless, -ENOEXEC, "parameter");
	WITH(params, many_params, -ENOEXEC, "too many parameters");
	WITH(ports, many_ports, -ENOEXEC, "too many ports");
#undef WITH
}
END_TEST

START_TEST(a_declaration_is_read_once)
{
	struct blktap_param params[] = {
		{ .name = "limit", .type = BLKTAP_PARAM_INT },
		{ .name = NULL },
	};
	struct blktap_module_port ports[] = { { .name = "leg" },
					      { .name = NULL } };
	struct blktap_module m = twice;
	struct bt_foreign *f;

	m.params = params;
	m.ports = ports;
	ck_assert_int_eq(bt_foreign_create(&m, "x.so", &f, NULL), 0);
	params[0].name = NULL;
	ports[0].flags = BLKTAP_PORT_STORE;
	m.operations = 0;
	ck_assert_str_eq(blktap_class_get_param(&f->cls, 0)->name, "limit");
	ck_assert_ptr_null(blktap_class_get_param(&f->cls, 1));
	ck_assert_uint_eq(f->cls.ports[0].flags, 0);
	ck_assert_uint_eq(f->cls.operations, twice.operations);
	bt_foreign_destroy(f);
}
END_TEST

static const struct blktap_module_port perhaps[] = {
	{ .name = "lower", .flags = BLKTAP_PORT_OPTIONAL },
	{ .name = NULL },
};

/* Values without a function to ask, and a first port that nothing is linked to. */
START_TEST(what_a_foreign_module_leaves_out_is_not_called)
{
	struct blktap_module m = twice;
	struct bt_node *none = NULL;
	struct bt_foreign *f;
	struct rig rig;
	char data[512];

	m.ports = perhaps;
	m.open = NULL;
	m.values = "one,two";
	rig_init(&rig);
	ck_assert_int_eq(bt_foreign_create(&m, "m.so", &f, NULL), 0);
	ck_assert_ptr_null(f->cls.values);
	rig_top(&rig, rig_node(&rig, &f->cls, "t", "", &none, 1));
	ck_assert_int_eq(rig_read(&rig, 0, data, sizeof(data)), -ENOTSUP);
	rig_fini(&rig);
	bt_foreign_destroy(f);
}
END_TEST

/* A later library's module has more fields at its end; this one reads those that
 * it knows. */
START_TEST(a_larger_declaration_is_taken_as_far_as_it_is_known)
{
	struct {
		struct blktap_module known;
		void *more[4];
	} later = { .known = twice };
	struct bt_foreign *f;

	later.known.size = sizeof(later);
	ck_assert_int_eq(bt_foreign_create(&later.known, "x.so", &f, NULL), 0);
	ck_assert_str_eq(f->cls.name, "twice");
	bt_foreign_destroy(f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("foreign");
	TCase *tc = tcase_create("foreign");

	tcase_add_test(tc, children_of_a_foreign_module_reach_both_legs);
	tcase_add_test(tc, a_foreign_module_does_not_reach_past_what_is_below);
	tcase_add_test(tc, a_foreign_open_that_fails_says_why);
	tcase_add_test(
		tc, what_a_foreign_module_sends_is_held_against_what_is_below);
	tcase_add_test(
		tc,
		limits_of_a_foreign_module_that_passes_are_those_of_its_first_edge);
	tcase_add_test(tc, a_declaration_is_read_once);
	tcase_add_test(tc, declarations_without_sense_are_refused);
	tcase_add_test(tc, what_a_foreign_module_leaves_out_is_not_called);
	tcase_add_test(tc, a_larger_declaration_is_taken_as_far_as_it_is_known);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
