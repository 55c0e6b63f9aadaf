/* SPDX-License-Identifier: BSD-3-Clause */
/* pattern: each 8 bytes say where they are, as a number with the highest byte first.
 * So a test sees not only that a byte is wrong, but where it came from. A write of
 * the same bytes is well, and one of others an error: a copy on it is checked. */
#include "driver/driver.h"

#include <errno.h>
#include <string.h>

#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define WORD 8u
#define PIECE 4096u

static const struct blktap_param pattern_params[] = {
	{ .name = "size",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .min = 1,
	  .max = INT64_MAX,
	  .help = "bytes; 10G" },
	{ .name = NULL },
};

/* The bytes from offset on, which may lie within a word. */
static void fill(unsigned char *out, uint64_t offset, size_t length)
{
	unsigned char word[WORD];
	size_t within = offset % WORD, n;

	for (; length; out += n, offset += n, length -= n, within = 0) {
		bt_store_be64(word, offset - within);
		n = bt_min_u64(WORD - within, length);
		memcpy(out, word + within, n);
	}
}

static int transfer(struct bt_request *req)
{
	unsigned char want[PIECE], got[PIECE];
	struct bt_sgl data = req->data;
	uint64_t at = 0, n;

	for (; at < req->length; at += n) {
		n = bt_min_u64(req->length - at, PIECE);
		fill(want, req->offset + at, n);
		if (req->op == BLKTAP_OP_READ) {
			bt_sgl_copy_in(&data, want, n);
		} else {
			bt_sgl_copy_out(&data, got, n);
			if (memcmp(got, want, n) != 0)
				return -EIO;
		}
		if (at + n < req->length)
			bt_sgl_advance(&data, n);
	}
	return 0;
}

static void pattern_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	limits->size = bt_args_number(node->args, "size");
	limits->max_transfer = 32u << 20;
}

static void pattern_submit(struct bt_node *node, struct bt_request *req)
{
	(void)node;
	bt_request_complete(req, req->op == BLKTAP_OP_READ ||
						 req->op == BLKTAP_OP_WRITE
					 ? transfer(req)
					 : 0);
}

const struct blktap_class bt_pattern_class = {
	.name = "pattern",
	.summary = "each 8 bytes say where they are; a write of others fails",
	.params = pattern_params,
	.operations = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_WRITE |
		      1u << BLKTAP_OP_FLUSH | 1u << BLKTAP_OP_PREFETCH,
	.legacy_type = -1,
	.node_bytes = 1,
	.get_limits = pattern_get_limits,
	.submit = pattern_submit,
};
