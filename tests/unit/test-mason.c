/* SPDX-License-Identifier: BSD-3-Clause */
/* What the language promises beside its messages, which have a corpus of their
 * own: the graph that comes out, the canonical form, pictures, bounds. */
#include "mason-bench.h"

static const struct bt_mason_node *node(const struct bt_mason_graph *g,
					const char *name)
{
	uint32_t i;

	for (i = 0; i < g->count; i++)
		if (!strcmp(g->nodes[i]->name, name))
			return g->nodes[i];
	ck_abort_msg("no node %s", name);
	return NULL;
}

/* "port[slot]>lower" of each link. */
static const char *links(const struct bt_mason_node *n)
{
	static char out[256];
	const struct bt_mason_link *link;
	size_t at = 0;

	out[0] = '\0';
	for (link = n->links; link; link = link->next)
		at += (size_t)snprintf(out + at, sizeof(out) - at,
				       "%s%s[%u]>%s", at ? " " : "",
				       n->cls->ports[link->port].name,
				       link->slot, link->lower->name);
	return out;
}

/* ---- graphs ---------------------------------------------------------------- */

START_TEST(a_chain_links_first_ports)
{
	const struct bt_mason_graph *g =
		graph("d :: disk(\"x\") -> t :: throttle() -> raw(/a);");

	ck_assert_uint_eq(g->count, 3);
	ck_assert_str_eq(links(node(g, "d")), "top[0]>t");
	ck_assert_str_eq(links(node(g, "t")), "lower[0]>raw#1");
	ck_assert(node(g, "raw#1")->anonymous);
	ck_assert(!node(g, "t")->anonymous);
}
END_TEST

START_TEST(branches_fill_an_array_in_order)
{
	const struct bt_mason_graph *g =
		graph("d :: disk(\"x\") -> m :: mirror() => a :: raw(/a), "
		      "(retry(1s) -> b :: raw(/b));\nm -> c :: raw(/c);\n"
		      "m[3] -> e :: raw(/e);");

	ck_assert_str_eq(links(node(g, "m")),
			 "leg[0]>a leg[1]>retry#1 leg[2]>c leg[3]>e");
}
END_TEST

START_TEST(ports_are_found_by_name_and_number)
{
	const struct bt_mason_graph *g =
		graph("c[base] -> b;\nd :: disk(\"x\") -> c :: cow();\n"
		      "c[0] -> a :: raw(/a);\nb :: raw(/b, true);");

	ck_assert_str_eq(links(node(g, "c")), "top[0]>a base[0]>b");
	ck_assert(node(g, "a")->written);
	ck_assert(!node(g, "b")->written);
}
END_TEST

START_TEST(upper_ports_are_found)
{
	const struct bt_mason_graph *g =
		graph("d :: disk(\"x\") -> [live] s :: snap();\n"
		      "e :: export(\"y\") -> [image] s;\n"
		      "s[origin] -> raw(/a); s[delta] -> raw(/b);");

	ck_assert_uint_eq(node(g, "d")->links->upper, 0);
	ck_assert_uint_eq(node(g, "e")->links->upper, 1);
	ck_assert(node(g, "d")->links->writes);
	ck_assert(!node(g, "e")->links->writes);
}
END_TEST

START_TEST(a_node_comes_before_what_is_below_it)
{
	const struct bt_mason_graph *g =
		graph("a :: raw(/a); b :: retry(1s) -> a;\n"
		      "c :: retry(1s) -> b; d :: disk(\"x\") -> c;");
	uint32_t i;

	for (i = 0; i < 4; i++)
		ck_assert_str_eq(g->order[i]->name,
				 ((const char *[]){ "d", "c", "b", "a" })[i]);
}
END_TEST

START_TEST(defs_unfold_under_the_name_of_their_use)
{
	const struct bt_mason_graph *g =
		graph("def leg($u, $t) { let $v = $t; in -> r :: retry($v) -> "
		      "n :: nbd($u); }\n"
		      "def two($u) { in -> m :: mirror() => leg($u, 1s), "
		      "b :: leg(t=2s, u=\"nbd://h/2\"); }\n"
		      "d :: disk(\"x\") -> top :: two(\"nbd://h/1\");");

	ck_assert_str_eq(links(node(g, "d")), "top[0]>top.m");
	ck_assert_str_eq(links(node(g, "top.m")),
			 "leg[0]>top.leg#1.r leg[1]>top.b.r");
	ck_assert_str_eq(bt_args_string(node(g, "top.leg#1.n")->args, "uri"),
			 "nbd://h/1");
	ck_assert_uint_eq(bt_args_number(node(g, "top.b.r")->args, "for"),
			  2000000000);
}
END_TEST

START_TEST(declarations_make_one_node_a_name)
{
	const struct bt_mason_graph *g =
		graph("a, b :: null(); d :: disk(\"x\") -> mirror() => a, b;");

	ck_assert_ptr_ne(node(g, "a"), node(g, "b"));
}
END_TEST

START_TEST(former_names_are_kept)
{
	const struct bt_mason_graph *g = graph(
		"def leg() { in -> n :: raw(/n) was o; r :: null(); in2 :: "
		"mirror() => r; disk(\"y\") -> in2; }\n"
		"d :: disk(\"x\") -> mirror() => a :: raw(/a) was old, "
		"b :: leg() was c;");

	ck_assert_str_eq(node(g, "a")->was, "old");
	ck_assert_str_eq(node(g, "b.n")->was, "c.o");
	ck_assert_str_eq(node(g, "b.r")->was, "c.r");
	ck_assert_ptr_null(node(g, "d")->was);
}
END_TEST

START_TEST(core_arguments_are_kept_apart)
{
	const struct bt_mason_graph *g =
		graph("d :: disk(\"x\") -> a :: raw(/a, @on_error=stop);");

	ck_assert_str_eq(bt_args_string(node(g, "a")->core, "on_error"),
			 "stop");
	ck_assert_str_eq(bt_args_string(node(g, "a")->core, "stats"), "hist");
}
END_TEST

START_TEST(lists_and_rates_arrive)
{
	const struct bt_mason_graph *g =
		graph("let $r = \"b c\"; d :: disk(\"x\") -> f :: "
		      "fault(rules=[\"a\", "
		      "$r], share=5%) -> t :: throttle(bytes=2k/s, iops=7) -> "
		      "raw(/a);");

	ck_assert_str_eq(bt_args_string(node(g, "f")->args, "rules"), "a\nb c");
	ck_assert_uint_eq(bt_args_number(node(g, "f")->args, "share"), 5);
	ck_assert_uint_eq(bt_args_number(node(g, "t")->args, "bytes"), 2048);
	ck_assert_uint_eq(bt_args_number(node(g, "t")->args, "iops"), 7);
}
END_TEST

START_TEST(asserts_arrive)
{
	const struct bt_mason_graph *g =
		graph("let $n = 5; assert run.m.dirty <= $n && d.size != 1G;\n"
		      "d :: disk(\"x\") -> raw(/a);");
	const struct bt_cmp *cmp = g->asserts[0].cmps;

	ck_assert_uint_eq(g->assert_count, 1);
	ck_assert_str_eq(cmp->path, "run.m.dirty");
	ck_assert_str_eq(cmp->rel, "<=");
	ck_assert_str_eq(cmp->value->text, "5");
	ck_assert_str_eq(cmp->next->path, "d.size");
	ck_assert_ptr_null(cmp->next->next);
}
END_TEST

START_TEST(the_command_line_wins_over_let)
{
	const char *defines[] = { "where=/b", "n=2G", NULL };
	struct blktap_mason_options options;
	const struct bt_mason_graph *g;

	blktap_mason_options_init(&options);
	options.next_class = test_class_next;
	options.defines = defines;
	g = bt_mason_get_graph(check_with(
		"let $where = \"/a\"; let $n = 1G; d :: disk(\"x\") -> "
		"slice(offset=0, size=$n) -> a :: raw($where);",
		&options));
	ck_assert_ptr_nonnull(g);
	ck_assert_str_eq(bt_args_string(node(g, "a")->args, "path"), "/b");
	ck_assert_uint_eq(node(g, "d")->size, 2ull << 30);
}
END_TEST

START_TEST(sizes_and_memory_are_carried_up)
{
	const struct bt_mason_graph *g = graph(
		"d :: disk(\"x\") -> c :: concat() => ram(1M), ram(2M);\n"
		"e :: disk(\"y\") -> mirror() => n :: nbd(\"u\"), ram(1M);");

	ck_assert_uint_eq(node(g, "d")->size, 3u << 20);
	ck_assert_uint_eq(node(g, "n")->size, 0);
	ck_assert_uint_eq(g->memory, (4u << 20) + 2 * bt_node_memory(2) +
					     4 * bt_node_memory(0));
	ck_assert_uint_eq(blktap_mason_get_memory(mason), g->memory);
	ck_assert_uint_eq(blktap_mason_get_nodes(mason), 8);
}
END_TEST

START_TEST(parts_and_shared_fronts_may_write_beside_each_other)
{
	graph("a :: disk(\"a\") -> slice(0, 1G) -> r :: raw(/a);\n"
	      "b :: disk(\"b\") -> slice(1G, 1G) -> r;");
	graph("a :: disk(\"a\", shared=true) -> r :: raw(/a);\n"
	      "b :: export(\"b\", shared=true) -> r;");
	graph("a :: disk(\"a\") -> r :: raw(/a); b :: export(\"b\", "
	      "ro=true) -> r;");
}
END_TEST

START_TEST(a_mirror_outlives_one_volatile_leg)
{
	graph("d :: disk(\"x\") -> b :: bitmap(); b[lower] -> raw(/a);\n"
	      "b[store] -> mirror() => raw(/b), ram(1M);");
	graph("d :: disk(\"x\") -> c :: cache(mode=writethrough);\n"
	      "c[origin] -> raw(/a); c[store] -> ram(1M);");
}
END_TEST

static void add_what(void *opaque, const char *what)
{
	bt_strbuf_printf(opaque, "%s;", what);
}

START_TEST(a_node_says_what_it_stands_on)
{
	const struct bt_mason_graph *g =
		graph("d :: disk(\"x\") -> mirror() => a :: raw(/a), b :: "
		      "nbd(\"nbd://h/x\"), c :: ram(1M);");
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_mason_stands_on(node(g, "a"), add_what, &sb);
	bt_mason_stands_on(node(g, "b"), add_what, &sb);
	bt_mason_stands_on(node(g, "c"), add_what, &sb);
	bt_mason_stands_on(node(g, "d"), add_what, &sb);
	ck_assert_str_eq(bt_strbuf_str(&sb), "file:/a;nbd:nbd://h/x;");
	bt_strbuf_fini(&sb);
}
END_TEST

/* ---- messages -------------------------------------------------------------- */

START_TEST(diagnostics_are_given_one_by_one_and_as_json)
{
	struct blktap_mason_diagnostic diag = { .size = sizeof(diag) };

	check("d :: disk(\"x\") -> tro(\"\xff\");\nd :: rwa(/a);");
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 3);
	ck_assert_int_eq(blktap_mason_get_diagnostic(mason, 2, &diag), 0);
	ck_assert_uint_eq(diag.line, 2);
	ck_assert_uint_eq(diag.column, 6);
	ck_assert_str_eq(diag.file, "t.mason");
	ck_assert_str_eq(diag.text, "there is no class 'rwa'");
	ck_assert_str_eq(diag.hint, "did you mean 'raw'?");
	ck_assert_int_eq(blktap_mason_get_diagnostic(mason, 3, &diag), -ENOENT);
	ck_assert_str_eq(
		blktap_mason_get_report_json(mason),
		"[{\"severity\":\"error\",\"file\":\"t.mason\",\"line\":1,"
		"\"column\":19,\"text\":\"there is no class 'tro'\","
		"\"notes\":[]},{\"severity\":\"error\",\"file\":\"t.mason\","
		"\"line\":2,\"column\":1,\"text\":\"'d' is declared twice\","
		"\"notes\":[{\"file\":\"t.mason\",\"line\":1,\"column\":1,"
		"\"text\":\"first here\"}]},{\"severity\":\"error\",\"file\":"
		"\"t.mason\",\"line\":2,\"column\":6,\"text\":\"there is no "
		"class 'rwa'\",\"hint\":\"did you mean 'raw'?\",\"notes\":"
		"[]}]");
	ck_assert_ptr_null(bt_mason_get_graph(mason));
	ck_assert_uint_eq(blktap_mason_get_nodes(mason), 0);
}
END_TEST

START_TEST(a_secret_is_in_no_message)
{
	check("let $k = \"0123456789abcdef\";\n"
	      "d :: disk(\"x\") -> crypt(key=$k) -> raw(/a);\n"
	      "e :: disk(\"y\") -> crypt(key=\"0123456789abcdef\") -> "
	      "raw(/b);");
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 2);
	ck_assert_ptr_null(
		strstr(blktap_mason_get_report(mason), "0123456789"));
	ck_assert_ptr_null(
		strstr(blktap_mason_get_report_json(mason), "0123456789"));
}
END_TEST

START_TEST(the_same_is_said_once)
{
	check("def leg($n) { in -> nbdd($n); }\nd :: disk(\"x\") -> mirror() "
	      "=> leg(\"a\"), leg(\"b\"), leg(\"c\");");
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 1);
}
END_TEST

/* ---- bounds ---------------------------------------------------------------- */

static char *repeat(const char *text, size_t n, const char *tail)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	while (n--)
		bt_strbuf_puts(&sb, text);
	bt_strbuf_puts(&sb, tail);
	return bt_strbuf_steal(&sb);
}

START_TEST(messages_are_counted_beyond_what_is_shown)
{
	char *text = repeat("x();\n", 500, "");

	check(text);
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 500);
	ck_assert_ptr_nonnull(strstr(blktap_mason_get_report(mason),
				     "t.mason: 400 more are not shown\n"));
	free(text);
}
END_TEST

START_TEST(unfolding_is_bounded)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int i;

	for (i = 0; i < 15; i++)
		bt_strbuf_printf(&sb,
				 "def d%d() { in -> mirror() => d%d(), d%d(), "
				 "d%d(), d%d(); }\n",
				 i, i + 1, i + 1, i + 1, i + 1);
	bt_strbuf_puts(&sb, "def d15() { in -> null(); }\n"
			    "disk(\"x\") -> d0();\n");
	check(bt_strbuf_str(&sb));
	ck_assert_ptr_nonnull(strstr(blktap_mason_get_report(mason),
				     "error: more than 16384 nodes"));
	bt_strbuf_fini(&sb);
}
END_TEST

START_TEST(a_text_that_is_too_large_is_refused)
{
	struct blktap_error *err = NULL;
	char *text = repeat("a;", 1 << 20, "b;"), *out;

	ck_assert_int_eq(
		blktap_mason_check("t", text, strlen(text), NULL, &mason, &err),
		-E2BIG);
	ck_assert_str_eq(blktap_error_get_message(err), "t: larger than 1M");
	blktap_error_destroy(err);
	err = NULL;
	/* as many statements as fit take more than the arena has */
	ck_assert_int_eq(
		blktap_mason_check("t", text, 1 << 20, NULL, &mason, &err),
		-E2BIG);
	ck_assert_str_eq(blktap_error_get_message(err),
			 "t: takes more memory than a check may");
	blktap_error_destroy(err);
	ck_assert_int_eq(blktap_mason_format("t", text, 1 << 20, &out, NULL),
			 -E2BIG);
	free(text);
}
END_TEST

START_TEST(depth_of_text_does_not_become_depth_of_stack)
{
	const char *openers[] = { "(", "[", "d->(", "a=>(", "f(a=[", "{" };
	char *text;
	size_t i;

	for (i = 0; i < sizeof(openers) / sizeof(openers[0]); i++) {
		text = repeat(openers[i], 100000, ";");
		check(text);
		ck_assert_uint_gt(blktap_mason_get_errors(mason), 0);
		free(text);
	}
}
END_TEST

/* How long it takes is the benchmark's to say (tests/bench/graphs). */
START_TEST(a_thousand_nodes_are_checked)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int i;

	for (i = 0; i < 250; i++)
		bt_strbuf_printf(
			&sb,
			"d%d :: disk(\"disk-%d\") -> t%d :: throttle("
			"iops=500/s) -> r%d :: retry(for=5s) -> a%d :: "
			"raw(\"/a/%d\");\n",
			i, i, i, i, i, i);
	check(bt_strbuf_str(&sb));
	ck_assert_uint_eq(blktap_mason_get_nodes(mason), 1000);
	bt_strbuf_fini(&sb);
}
END_TEST

START_TEST(a_long_chain_is_no_deeper_than_a_short_one)
{
	char *text = repeat("retry(1s) -> ", 10000, "raw(/a);");
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_printf(&sb, "d :: disk(\"x\") -> %s", text);
	graph(bt_strbuf_str(&sb));
	ck_assert_uint_eq(blktap_mason_get_nodes(mason), 10002);
	bt_strbuf_fini(&sb);
	sb = (struct bt_strbuf)BT_STRBUF_INIT;
	bt_strbuf_printf(&sb, "d :: disk(\"x\") -> a :: retry(1s) -> %s", text);
	strcpy(strstr(sb.data, "raw(/a);"), "a;");
	check(sb.data);
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 1);
	bt_strbuf_fini(&sb);
	free(text);
}
END_TEST

START_TEST(options_of_an_older_program_are_taken)
{
	struct blktap_mason_options options;

	blktap_mason_options_init(&options);
	options.next_class = test_class_next;
	options.memory_budget = 1;
	options.size = offsetof(struct blktap_mason_options, memory_budget);
	check_with("disk(\"x\") -> ram(1M);", &options);
	ck_assert_uint_eq(blktap_mason_get_errors(mason), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason");
	TCase *tc = tcase_create("mason");

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, a_chain_links_first_ports);
	tcase_add_test(tc, branches_fill_an_array_in_order);
	tcase_add_test(tc, ports_are_found_by_name_and_number);
	tcase_add_test(tc, upper_ports_are_found);
	tcase_add_test(tc, a_node_comes_before_what_is_below_it);
	tcase_add_test(tc, defs_unfold_under_the_name_of_their_use);
	tcase_add_test(tc, declarations_make_one_node_a_name);
	tcase_add_test(tc, former_names_are_kept);
	tcase_add_test(tc, core_arguments_are_kept_apart);
	tcase_add_test(tc, lists_and_rates_arrive);
	tcase_add_test(tc, asserts_arrive);
	tcase_add_test(tc, the_command_line_wins_over_let);
	tcase_add_test(tc, sizes_and_memory_are_carried_up);
	tcase_add_test(tc, parts_and_shared_fronts_may_write_beside_each_other);
	tcase_add_test(tc, a_mirror_outlives_one_volatile_leg);
	tcase_add_test(tc, a_node_says_what_it_stands_on);
	tcase_add_test(tc, diagnostics_are_given_one_by_one_and_as_json);
	tcase_add_test(tc, a_secret_is_in_no_message);
	tcase_add_test(tc, the_same_is_said_once);
	tcase_add_test(tc, messages_are_counted_beyond_what_is_shown);
	tcase_add_test(tc, unfolding_is_bounded);
	tcase_add_test(tc, a_text_that_is_too_large_is_refused);
	tcase_add_test(tc, depth_of_text_does_not_become_depth_of_stack);
	tcase_add_test(tc, a_thousand_nodes_are_checked);
	tcase_add_test(tc, a_long_chain_is_no_deeper_than_a_short_one);
	tcase_add_test(tc, options_of_an_older_program_are_taken);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
