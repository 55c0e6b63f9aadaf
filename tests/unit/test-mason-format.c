/* SPDX-License-Identifier: BSD-3-Clause */
/* The canonical form, and pictures. */
#include "mason-bench.h"

/* ---- canonical form and pictures ------------------------------------------- */

static void formats(const char *text, const char *want)
{
	char *out = NULL, *again = NULL;

	ck_assert_int_eq(
		blktap_mason_format("t", text, strlen(text), &out, NULL), 0);
	ck_assert_str_eq(out, want);
	ck_assert_int_eq(
		blktap_mason_format("t", out, strlen(out), &again, NULL), 0);
	ck_assert_str_eq(again, out);
	free(out);
	free(again);
}

START_TEST(the_canonical_form_is_its_own)
{
	formats("", "");
	formats("a::raw( /a,ro = true );b->[x]c[ y ]->d;",
		"a :: raw(/a, ro=true);\nb -> [x] c[y] -> d;\n");
	formats("let $x=[1,\"a\"];assert  a . b==5&&c.d!=x;",
		"let $x = [1, \"a\"];\nassert a.b == 5 && c.d != x;\n");
	formats("def f($a,$b){in->x;y::z(@w=1)was q;}include \"a\";",
		"def f($a, $b) {\n\tin -> x;\n\ty :: z(@w=1) was q;\n}\n"
		"include \"a\";\n");
	formats("m=>a,(b->c),d;", "m => a, (b -> c), d;\n");
	formats("def f(){}", "def f() {\n}\n");
}
END_TEST

START_TEST(the_canonical_form_keeps_comments)
{
	formats("# one\n\n\n\n// two  \na;  # three\n/* four\n five */ b; /* "
		"six */ c;",
		"# one\n\n// two\na; # three\n/* four\n five */\nb; /* six "
		"*/\nc;\n");
	formats("a # in\n-> b(x, # arg\ny);",
		"a # in\n\t-> b(x, # arg\n\ty);\n");
	formats("def f() { # why\n\n\n in -> a;\n\n # end\n }",
		"def f() { # why\n\tin -> a;\n\n\t# end\n}\n");
}
END_TEST

START_TEST(long_statements_break_before_arrows)
{
	formats("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> bbbbbbbbbbbbbbbbbbbbbbbbbbb "
		"-> cccccccccccccccccccccccc => d, e;",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\t-> "
		"bbbbbbbbbbbbbbbbbbbbbbbbbbb\n\t-> cccccccccccccccccccccccc\n"
		"\t=> d,\n\t\te;\n");
}
END_TEST

START_TEST(what_does_not_parse_has_no_canonical_form)
{
	struct blktap_error *err = NULL;
	char *out;

	ck_assert_int_eq(blktap_mason_format("t", "a\n-> ;", 6, &out, &err),
			 -EINVAL);
	ck_assert_str_eq(blktap_error_get_message(err),
			 "t:2:4: error: expected a node, found ';'");
	blktap_error_destroy(err);
}
END_TEST

START_TEST(a_picture_has_nodes_and_edges)
{
	char *out;

	graph("d :: disk(\"a\\\"b\") -> c :: cow(); c[top] -> raw(/t);\n"
	      "c[base] -> raw(/b);");
	ck_assert_int_eq(blktap_mason_dot(mason, &out, NULL), 0);
	ck_assert_str_eq(
		out,
		"digraph mason {\n\tnode [fontsize=10];\n\tedge "
		"[fontsize=8];\n"
		"\t\"d\" [shape=house, label=\"d\\ndisk(a\\\"b)\"];\n"
		"\t\"c\" [shape=box, label=\"c\\ncow()\"];\n"
		"\t\"raw#1\" [shape=cylinder, label=\"raw(/t)\"];\n"
		"\t\"raw#2\" [shape=cylinder, label=\"raw(/b)\"];\n"
		"\t\"d\" -> \"c\" [taillabel=\"\"];\n"
		"\t\"c\" -> \"raw#1\" [taillabel=\"top\"];\n"
		"\t\"c\" -> \"raw#2\" [style=dashed, taillabel=\"base\"];\n"
		"}\n");
	free(out);
	check("x");
	ck_assert_int_eq(blktap_mason_dot(mason, &out, NULL), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-format");
	TCase *tc = tcase_create("mason");

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, the_canonical_form_is_its_own);
	tcase_add_test(tc, the_canonical_form_keeps_comments);
	tcase_add_test(tc, long_statements_break_before_arrows);
	tcase_add_test(tc, what_does_not_parse_has_no_canonical_form);
	tcase_add_test(tc, a_picture_has_nodes_and_edges);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
