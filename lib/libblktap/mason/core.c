/* SPDX-License-Identifier: BSD-3-Clause */
/* The arguments that every node takes, with an @ before them: what its errors lead
 * to, what is counted of it, and what its data must be.
 *
 * A fingerprint is a sum over the files of an image and of those it stands on: the
 * size of each, and when it was last written. It costs no reading, and sees every
 * change that leaves its mark there: not one of a block device, which has no time
 * of writing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "mason/core.h"
#include "mason/private.h"
#include "util/checked.h"

static const struct blktap_param core_params[] = {
	{ .name = "on_error",
	  .type = BLKTAP_PARAM_ENUM,
	  .choices = "report|stop|retry|degrade",
	  .fallback = "report",
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "what an error of the node leads to" },
	{ .name = "stats",
	  .type = BLKTAP_PARAM_ENUM,
	  .choices = "off|count|hist",
	  .fallback = "hist",
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "what is counted" },
	{ .name = "expect",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "the fingerprint that the data must have" },
	{ .name = NULL },
};

const struct blktap_class bt_mason_core_class = {
	.name = "node",
	.summary = "what every node takes, with an @ before it",
	.params = core_params,
	.legacy_type = -1,
};

const struct blktap_class *bt_mason_get_core_class(void)
{
	return &bt_mason_core_class;
}

/* ---- checks ---------------------------------------------------------------- */

static void check_front(struct blktap_mason *m,
			const struct bt_mason_node *node)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(&bt_mason_core_class, i)); i++)
		if (bt_args_is_set(node->core, p->name))
			bt_mason_error(m, node->pos,
				       "give it to the node that it leads to",
				       "%s: a front takes no @%s",
				       node->cls->name, p->name);
}

/* A fingerprint of what is written to would be wrong with the first write. */
static void check_node(struct blktap_mason *m, const struct bt_mason_node *node)
{
	const char *on_error = bt_args_string(node->core, "on_error");

	if (!strcmp(on_error, "degrade") &&
	    !(node->cls->flags & BT_CLASS_REDUNDANT))
		bt_mason_error(m, node->pos, "a mirror can",
			       "%s: it cannot go on where a part of it fails, "
			       "so @on_error=degrade says nothing",
			       node->cls->name);
	if (!bt_args_is_set(node->core, "expect"))
		return;
	if (!node->cls->get_stamp)
		bt_mason_error(m, node->pos, NULL,
			       "%s: it has no file that @expect could look at",
			       node->cls->name);
	else if (node->written)
		bt_mason_error(m, node->pos, NULL,
			       "'%s' is written to, so it does not stay as "
			       "@expect says",
			       node->name);
}

void bt_mason_check_core(struct blktap_mason *m)
{
	uint32_t i;

	for (i = 0; i < m->graph.count; i++)
		if (bt_mason_is_front(m->graph.nodes[i]))
			check_front(m, m->graph.nodes[i]);
		else
			check_node(m, m->graph.nodes[i]);
}

/* ---- running nodes --------------------------------------------------------- */

/* The words were checked against the choices, so each is found. */
void bt_core_set(const struct bt_mason_node *g, struct bt_node *node)
{
	static const char *const errors[] = {
		[BT_ON_ERROR_REPORT] = "report",
		[BT_ON_ERROR_RETRY] = "retry",
		[BT_ON_ERROR_STOP] = "stop",
		[BT_ON_ERROR_DEGRADE] = "degrade",
	};
	static const char *const levels[] = {
		[BT_STATS_HIST] = "hist",
		[BT_STATS_COUNT] = "count",
		[BT_STATS_OFF] = "off",
	};
	const char *on_error = bt_args_string(g->core, "on_error");
	const char *stats = bt_args_string(g->core, "stats");
	unsigned int i;

	for (i = 0; i < BT_ARRAY_SIZE(errors); i++)
		if (!strcmp(on_error, errors[i]))
			bt_node_set_on_error(node, (enum bt_on_error)i);
	for (i = 0; i < BT_ARRAY_SIZE(levels); i++)
		if (!strcmp(stats, levels[i]))
			node->stats_level = (enum bt_stats_level)i;
}

static uint64_t mix(uint64_t sum, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 8; i++, value >>= 8)
		sum = (sum ^ (value & 0xff)) * 1099511628211ull;
	return sum;
}

/* newest: when what was written last was written. Down the first edges: an
 * image and what it stands on. A class that has no stamp ends it, since the sum
 * would not cover what is behind it. */
static int sum_chain(const struct bt_node *node, uint64_t *sum,
		     uint64_t *newest)
{
	struct bt_stamp stamp;
	int rc = 0;

	*sum = 14695981039346656037ull;
	*newest = 0;
	while (node && !rc) {
		rc = node->cls->get_stamp ? node->cls->get_stamp(node, &stamp)
					  : -ENOTSUP;
		if (rc < 0)
			return rc;
		*sum = mix(mix(*sum, stamp.size), stamp.mtime_ns);
		*newest = bt_max_u64(*newest, stamp.mtime_ns);
		node = node->port_count ? node->ports[0].lower : NULL;
	}
	return 0;
}

int bt_core_fingerprint(const struct bt_node *node, char *text, size_t size)
{
	uint64_t sum, newest;
	int rc = sum_chain(node, &sum, &newest);

	if (!rc)
		snprintf(text, size, "%016" PRIx64, sum);
	return rc;
}

/* Read when the image is open, and so locked: it cannot become wrong between
 * this and the first request. */
int bt_core_expect(const struct bt_mason_node *g, const struct bt_node *node,
		   struct blktap_error **err)
{
	const char *expected = bt_args_string(g->core, "expect");
	char is[24], when[32] = "at an unknown time";
	uint64_t sum, newest;
	struct tm tm;
	time_t t;
	int rc;

	if (!expected)
		return 0;
	rc = sum_chain(node, &sum, &newest);
	if (rc < 0)
		return bt_fail(err, rc, NULL,
			       "%s: its fingerprint cannot be read", g->name);
	snprintf(is, sizeof(is), "%016" PRIx64, sum);
	if (!strcmp(is, expected))
		return 0;
	t = (time_t)(newest / 1000000000u);
	if (newest && gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	return bt_fail(err, -ESTALE,
		       "if that is meant, write @expect with the new one",
		       "%s: %s has the fingerprint %s, and not %s: it was "
		       "changed, last %s",
		       g->name, bt_node_path(node), is, expected, when);
}
