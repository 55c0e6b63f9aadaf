/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of the language have in common. */
#ifndef BT_TESTS_MASON_BENCH_H
#define BT_TESTS_MASON_BENCH_H

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <blktap/mason.h>

#include "../mason/classes.h"
#include "mason/mason.h"
#include "util/strbuf.h"

static struct blktap_mason *mason;

static inline int read_none(void *opaque, const char *path, char **text,
			    size_t *length)
{
	return -ENOENT;
}

static inline struct blktap_mason *check_with(
	const char *text, const struct blktap_mason_options *options)
{
	blktap_mason_destroy(mason);
	mason = NULL;
	ck_assert_int_eq(blktap_mason_check("t.mason", text, strlen(text),
					    options, &mason, NULL),
			 0);
	return mason;
}

static inline struct blktap_mason *check(const char *text)
{
	struct blktap_mason_options options;

	blktap_mason_options_init(&options);
	options.next_class = test_class_next;
	options.read = read_none;
	return check_with(text, &options);
}

static inline const struct bt_mason_graph *graph(const char *text)
{
	const struct bt_mason_graph *g = bt_mason_get_graph(check(text));

	ck_assert_msg(g, "%s", blktap_mason_get_report(mason));
	ck_assert_str_eq(blktap_mason_get_report(mason), "");
	return g;
}

static inline void teardown(void)
{
	blktap_mason_destroy(mason);
	mason = NULL;
}

#endif
