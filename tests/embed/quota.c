/* SPDX-License-Identifier: BSD-3-Clause */
/* A module that is not part of blktap: quota(limit=SIZE) lets so many bytes be
 * written and no more. Built with nothing but the installed headers:
 *
 *	cc -shared -fPIC $(pkg-config --cflags --libs blktap) -o quota.so quota.c */
#include <blktap/module.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct quota {
	uint64_t used;
};

static const struct blktap_param params[] = {
	{ .name = "limit",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_LIVE,
	  .help = "bytes that may be written" },
	{ .name = NULL },
};

static const struct blktap_module_port ports[] = {
	{ .name = "lower", .help = "what is written to" },
	{ .name = NULL },
};

static void quota_submit(struct blktap_node *node, struct blktap_request *req)
{
	struct quota *quota = blktap_node_get_data(node);
	uint64_t bytes = blktap_request_get_length(req);
	uint64_t limit = blktap_node_get_number(node, "limit");

	if (quota->used > limit || bytes > limit - quota->used) {
		blktap_request_complete(req, -EDQUOT);
		return;
	}
	quota->used += bytes;
	blktap_request_submit(node, 0, 0, req);
}

static bool quota_value(const struct blktap_node *node, const char *name,
			char *text, size_t size)
{
	const struct quota *quota = blktap_node_get_data(node);

	if (strcmp(name, "used"))
		return false;
	snprintf(text, size, "%llu", (unsigned long long)quota->used);
	return true;
}

BLKTAP_MODULE_EXPORT const struct blktap_module blktap_module_class = {
	BLKTAP_MODULE_HEAD,
	.name = "quota",
	.summary = "lets so many bytes be written and no more",
	.params = params,
	.ports = ports,
	/* discards and the like are not counted, so nobody may have them */
	.operations = 1u << BLKTAP_OP_WRITE,
	.passes = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_FLUSH,
	.pause = BLKTAP_PAUSE_NONE,
	.node_bytes = sizeof(struct quota),
	.submit = quota_submit,
	.get_value = quota_value,
	.values = "used",
};
