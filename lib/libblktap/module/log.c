/* SPDX-License-Identifier: BSD-3-Clause */
/* log: a line of log for each request that comes back, with how long it took and
 * what came of it. It changes nothing. */
#include "module/module.h"

#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "port/args.h"

#define NS_PER_US 1000u

struct log {
	uint32_t operations; /* those that are told */
	bool errors; /* and no others than those that failed */
	uint64_t slower_ns;
};

struct log_frame {
	uint64_t start_ns;
};

static const struct blktap_param params[] = {
	{ .name = "what",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "all",
	  .choices = "all|reads|writes|flushes|errors",
	  .help = "which requests are told; writes are all that change data" },
	{ .name = "slower",
	  .type = BLKTAP_PARAM_DURATION,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "0s",
	  .help = "tells those that took this long or longer" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what is watched" },
	{ .name = NULL },
};

/* "errors" are those of all operations. Looked at when a request is back, so a
 * change counts for those that are under way. */
static void log_set(struct bt_node *node, const struct bt_args *args)
{
	const char *what = bt_args_string(args, "what");
	struct log *log = node->data;

	log->operations = BT_OPS_ALL;
	if (!strcmp(what, "reads"))
		log->operations = 1u << BLKTAP_OP_READ;
	else if (!strcmp(what, "writes"))
		log->operations = BT_OPS_WRITING;
	else if (!strcmp(what, "flushes"))
		log->operations = 1u << BLKTAP_OP_FLUSH;
	log->errors = !strcmp(what, "errors");
	log->slower_ns = bt_args_number(args, "slower");
}

static int log_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	log_set(node, args);
	return 0;
}

/* Behind the request: an error is known, and the line stands when it came back.
 * The place and the length are the request's own again by then, whatever nodes
 * below made of them. */
static void tell(struct bt_node *node, const struct bt_request *req,
		 uint64_t ns)
{
	static const char *const names[BLKTAP_OP_COUNT] = {
		"read",		"write",	"flush",    "discard",
		"write_zeroes", "block_status", "prefetch",
	};
	char reason[BT_STRERROR_MAX];

	bt_log(node->env->log, BLKTAP_LOG_INFO,
	       "%s: %s %" PRIu64 "+%" PRIu64 "%s in %" PRIu64 " us: %s",
	       node->name, names[req->op], req->offset, req->length,
	       req->flags & BLKTAP_FUA ? " fua" : "", ns / NS_PER_US,
	       req->error ? bt_strerror(req->error, reason) : "done");
}

static void log_submit(struct bt_node *node, struct bt_request *req)
{
	struct log_frame *frame = bt_request_frame(req);

	frame->start_ns = bt_loop_now(node->env->loop);
	bt_port_submit(&node->ports[0], req);
}

static void log_complete(struct bt_node *node, struct bt_port *port,
			 struct bt_request *req)
{
	struct log_frame *frame = bt_request_frame(req);
	uint64_t ns = bt_loop_now(node->env->loop) - frame->start_ns;
	struct log *log = node->data;

	if (log->operations >> req->op & 1u && ns >= log->slower_ns &&
	    (!log->errors || req->error))
		tell(node, req, ns);
	bt_request_complete(req, req->error);
}

const struct blktap_class bt_log_class = {
	.name = "log",
	.summary = "tells each request in the log",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct log),
	.frame_bytes = sizeof(struct log_frame),
	.open = log_open,
	.submit = log_submit,
	.complete = log_complete,
	.pause = BT_PAUSE_NONE,
	.reconfigure = log_set,
};
