/* SPDX-License-Identifier: BSD-3-Clause */
/* writelog: keeps every write with its data, and every flush, so that the disk can
 * be made again as it was, or as a power cut could have left it, at any point since
 * the node was opened (writelog.h).
 *
 *   submit -> `lower` -> back, well -> [a buffer] -> an entry to `log` -> up
 *                     -> back, failed -> up, and nothing is kept
 *
 * A request completes when its entry is written, so what was acknowledged is in
 * the log. Each opening begins the log anew. A store that is full fails writes
 * with ENOSPC: a log with gaps would be worth nothing. */
#include "module/module.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "module/buffers.h"
#include "module/writelog.h"
#include "util/bytes.h"
#include "util/checked.h"

#define BUFFERS 16u
#define BUFFER_SIZE (BT_WRITELOG_DATA + BT_WRITELOG_BLOCK)
#define ENTRY_MIN (2u * BT_WRITELOG_BLOCK) /* with the least data */
#define STORE_MIN (BT_HEADER_AREA + BUFFER_SIZE)

enum { PORT_LOWER, PORT_LOG };

struct writelog {
	struct bt_node *node;
	struct bt_header header;
	struct bt_pool *children; /* as many as buffers */
	struct bt_buffers buffers;
	struct bt_list waiting; /* for a buffer, oldest first */
	uint64_t sequence; /* of the last entry */
	/* moved on when an entry is sent, not when it is there: entries that
	 * are under way have their places, and a log that ends in between was
	 * cut there */
	uint64_t tail; /* where the next one goes */
	bool full;
};

struct writelog_frame {
	struct writelog *log;
	struct bt_request *req;
	uint64_t began;
	void *buffer;
	struct iovec iov;
	int error; /* of a LAST flush, while the store has it */
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what is written to" },
	{ .name = "log",
	  .flags = BT_PORT_STORE,
	  .help = "where the entries are kept; begun anew each time" },
	{ .name = NULL },
};

/* ---- entries -------------------------------------------------------------- */

static void append_waiting(struct writelog *log);

/* What the store stands on hears of a LAST flush as well, behind its entry: it may have
 * something to mark clean. */
static void end(struct writelog *log, struct bt_request *req, int error)
{
	struct writelog_frame *frame = bt_request_frame(req);

	if (req->op != BLKTAP_OP_FLUSH || !(req->flags & BT_REQUEST_LAST)) {
		bt_request_complete(req, error);
		return;
	}
	frame->error = error;
	bt_port_submit(&log->node->ports[PORT_LOG], req);
}

/* The buffer is free before the next entry is begun; the request's own error is
 * the entry's: a write whose entry is not kept fails, though it was done. */
static void child_done(struct bt_request *child)
{
	struct writelog_frame *frame = child->opaque;
	struct writelog *log = frame->log;
	int error = child->error;

	bt_pool_give(child);
	bt_buffers_give(&log->buffers, frame->buffer);
	end(log, frame->req, error);
	append_waiting(log);
}

/* A number is given when the entry is written, in the order in which requests
 * came back. */
static struct bt_writelog_entry describe(const struct writelog *log,
					 const struct bt_request *req,
					 const struct writelog_frame *frame)
{
	static const uint32_t kinds[BLKTAP_OP_COUNT] = {
		[BLKTAP_OP_WRITE] = BT_WRITELOG_WRITE,
		[BLKTAP_OP_WRITE_ZEROES] = BT_WRITELOG_ZERO,
		[BLKTAP_OP_DISCARD] = BT_WRITELOG_DISCARD,
		[BLKTAP_OP_FLUSH] = BT_WRITELOG_FLUSH,
	};
	struct bt_writelog_entry entry = {
		.sequence = log->sequence + 1,
		.began = frame->began,
		.offset = req->op == BLKTAP_OP_FLUSH ? 0 : req->offset,
		.length = req->op == BLKTAP_OP_FLUSH ? 0 : req->length,
		.kind = kinds[req->op],
		.flags = req->flags & BLKTAP_FUA ? BT_WRITELOG_FUA : 0,
	};

	return entry;
}

/* Block and data are one write, so data is copied behind the block. What
 * follows in its last block is zeroed. */
static void write_entry(struct writelog *log, struct writelog_frame *frame,
			const struct bt_writelog_entry *entry)
{
	struct bt_request *child = bt_pool_take(log->children);
	uint64_t bytes = bt_writelog_bytes(entry);
	char *p = frame->buffer;

	bt_writelog_encode(entry, log->header.uuid, p);
	if (bytes > BT_WRITELOG_BLOCK) {
		bt_sgl_copy_out(&frame->req->data, p + BT_WRITELOG_BLOCK,
				entry->length);
		memset(p + BT_WRITELOG_BLOCK + entry->length, 0,
		       bytes - BT_WRITELOG_BLOCK - entry->length);
	}
	frame->iov.iov_base = p;
	frame->iov.iov_len = bytes;
	child->op = BLKTAP_OP_WRITE;
	child->offset = log->tail;
	child->length = bytes;
	child->data = (struct bt_sgl){ .iov = &frame->iov, .count = 1 };
	child->done = child_done;
	child->opaque = frame;
	log->sequence++;
	log->tail += bytes;
	bt_port_submit(&log->node->ports[PORT_LOG], child);
}

/* Told once. `full` stays: later entries would leave a gap. */
static void no_space(struct writelog *log, struct bt_request *req)
{
	const struct bt_node *node = log->node;

	if (!log->full)
		bt_log(node->env->log, BLKTAP_LOG_ERROR,
		       "%s: '%s' is full after %llu entries: writes fail",
		       node->name, node->ports[PORT_LOG].lower->name,
		       (unsigned long long)log->sequence);
	log->full = true;
	end(log, req, -ENOSPC);
}

/* False where it waits for a buffer. */
static bool append(struct writelog *log, struct bt_request *req)
{
	struct writelog_frame *frame = bt_request_frame(req);
	struct bt_writelog_entry entry = describe(log, req, frame);
	uint64_t size = log->node->ports[PORT_LOG].lower->limits.size;

	if (log->full ||
	    !bt_range_within(log->tail, bt_writelog_bytes(&entry), size)) {
		no_space(log, req);
		return true;
	}
	frame->buffer = bt_buffers_take(&log->buffers);
	if (!frame->buffer)
		return false;
	write_entry(log, frame, &entry);
	return true;
}

/* The oldest first, or numbers would not be in the order of completion. */
static void append_waiting(struct writelog *log)
{
	while (!bt_list_empty(&log->waiting)) {
		struct bt_request *req =
			bt_list_first(&log->waiting, struct bt_request, link);

		bt_list_del(&req->link);
		if (append(log, req))
			continue;
		bt_list_add(&log->waiting, &req->link);
		return;
	}
}

/* ---- requests ------------------------------------------------------------- */

/* `began` is taken before the request goes down: a write that was logged by then
 * had completed before this one began, and a flush covers it. */
static void writelog_submit(struct bt_node *node, struct bt_request *req)
{
	struct writelog_frame *frame = bt_request_frame(req);
	struct writelog *log = node->data;

	frame->log = log;
	frame->req = req;
	frame->began = log->sequence;
	frame->buffer = NULL;
	bt_port_submit(&node->ports[PORT_LOWER], req);
}

/* Operations that only pass have no frame of ours to look at. */
static void writelog_complete(struct bt_node *node, struct bt_port *port,
			      struct bt_request *req)
{
	struct writelog_frame *frame = bt_request_frame(req);
	struct writelog *log = node->data;

	if (port == &node->ports[PORT_LOG]) {
		bt_request_complete(req,
				    frame->error ? frame->error : req->error);
		return;
	}
	if (req->error || !(node->cls->operations >> req->op & 1u)) {
		bt_request_complete(req, req->error);
		return;
	}
	bt_list_add_tail(&log->waiting, &req->link);
	append_waiting(log);
}

/* ---- the class ------------------------------------------------------------ */

/* A log of its own uuid: what is left of one before it does not belong to it.
 * The generation goes on where a log was, so that the new header is the one
 * that counts; the uuid is new, so old entries behind it are none. */
static int begin_log(struct writelog *log, struct blktap_error **err)
{
	struct bt_node *node = log->node;
	struct bt_port *store = &node->ports[PORT_LOG];
	struct bt_header old;
	int rc = bt_header_read(store, "writelog", BT_WRITELOG_VERSION, &old,
				err);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == -ENOENT)
		old.generation = 0;
	rc = bt_header_init(&log->header, "writelog", BT_WRITELOG_VERSION);
	log->header.generation = old.generation;
	log->header.length = 8;
	bt_store_le64(log->header.payload,
		      node->ports[PORT_LOWER].lower->limits.size);
	if (!rc)
		rc = bt_header_write(store, &log->header);
	log->tail = BT_HEADER_AREA;
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: cannot begin the log",
				node->name)
		      : 0;
}

/* The log is begun before anything can come: its header is durable then, and the
 * entries behind it belong to it or are none. */
static int writelog_open(struct bt_node *node, const struct bt_args *args,
			 uint32_t flags, struct blktap_error **err)
{
	struct writelog *log = node->data;
	int rc;

	(void)args;
	(void)flags;
	log->node = node;
	bt_list_init(&log->waiting);
	rc = bt_header_check_store(node, &node->ports[PORT_LOG], STORE_MIN,
				   err);
	if (!rc)
		rc = bt_header_check_transfer(node, &node->ports[PORT_LOG],
					      ENTRY_MIN, err);
	if (!rc)
		rc = begin_log(log, err);
	if (!rc)
		rc = bt_buffers_init(&log->buffers, BUFFERS, BUFFER_SIZE);
	if (!rc)
		rc = bt_node_add_pool(node, BUFFERS, sizeof(struct bt_request),
				      &log->children);
	if (rc < 0)
		bt_buffers_fini(&log->buffers);
	return rc;
}

static void writelog_close(struct bt_node *node)
{
	struct writelog *log = node->data;

	bt_buffers_fini(&log->buffers);
}

/* The store's limits are not the disk's; but an entry must fit through it. None
 * fits where a change of the graph has put a narrow one below: 0 is refused. */
static void writelog_limits(struct bt_node *node, struct bt_limits *limits)
{
	uint32_t operations = node->cls->operations | node->cls->passes;
	const struct bt_limits *store = &node->ports[PORT_LOG].lower->limits;
	uint64_t room =
		store->max_transfer < ENTRY_MIN
			? 0
			: bt_align_down(store->max_transfer - BT_WRITELOG_BLOCK,
					BT_WRITELOG_BLOCK);

	*limits = node->ports[PORT_LOWER].lower->limits;
	limits->operations &= operations;
	limits->max_transfer = bt_min_u64(limits->max_transfer,
					  bt_min_u64(room, BT_WRITELOG_DATA));
}

static uint64_t writelog_memory(const struct bt_args *args, uint64_t size,
				uint32_t edges)
{
	(void)args;
	(void)size;
	(void)edges;
	return sizeof(struct writelog) +
	       bt_buffers_memory(BUFFERS, BUFFER_SIZE) +
	       bt_node_pool_memory(BUFFERS, sizeof(struct bt_request));
}

static bool writelog_get_value(const struct bt_node *node, const char *name,
			       char *text, size_t size)
{
	const struct writelog *log = node->data;
	uint64_t value;

	if (!strcmp(name, "entries"))
		value = log->sequence;
	else if (!strcmp(name, "bytes"))
		value = log->tail;
	else
		return false;
	snprintf(text, size, "%llu", (unsigned long long)value);
	return true;
}

const struct blktap_class bt_writelog_class = {
	.name = "writelog",
	.summary = "keeps every write and flush, to replay power cuts from",
	.ports = ports,
	.operations = BT_OPS_WRITING | 1u << BLKTAP_OP_FLUSH,
	.passes = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_BLOCK_STATUS |
		  1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct writelog),
	.frame_bytes = sizeof(struct writelog_frame),
	.open = writelog_open,
	.close = writelog_close,
	.get_limits = writelog_limits,
	.submit = writelog_submit,
	.complete = writelog_complete,
	.get_memory = writelog_memory,
	.pause = BT_PAUSE_WRITES,
	.get_value = writelog_get_value,
	.values = "entries,bytes",
};
