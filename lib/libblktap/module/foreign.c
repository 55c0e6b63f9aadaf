/* SPDX-License-Identifier: BSD-3-Clause */
/* A class made of a module from outside. What it declares is copied and checked
 * once, so that nothing it changes later has a meaning; texts alone stay where they
 * are, in the library, which is unloaded after its class. Its callbacks are called
 * through the ones below, which know its node from ours; what it asks of what is
 * below is held against that one's limits, since buffers there are as large as
 * those say. */
#include "module/foreign.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/strbuf.h"

#define FIRST_SIZE \
	(offsetof(struct blktap_module, values) + sizeof(const char *))

/* Before the module's own bytes. */
struct inner {
	/* so the module's bytes behind it are aligned for anything */
	_Alignas(16) struct bt_pool *children;
};

struct child {
	struct bt_request req; /* first: what the pool knows of it */
	struct bt_node *node;
	blktap_child_fn *fn;
	void *opaque;
};

static const struct blktap_module *module_of(const struct bt_node *node)
{
	return &bt_container_of(node->cls, struct bt_foreign, cls)->module;
}

/* The module's names for our objects: it never sees what they are made of. */
static struct blktap_node *outside(const struct bt_node *node)
{
	return (struct blktap_node *)(uintptr_t)node;
}

static struct bt_node *inside(const struct blktap_node *node)
{
	return (struct bt_node *)(uintptr_t)node;
}

static struct blktap_request *handle(struct bt_request *req)
{
	return (struct blktap_request *)req;
}

static struct bt_request *request(const struct blktap_request *req)
{
	return (struct bt_request *)(uintptr_t)req;
}

/* ---- callbacks -------------------------------------------------------------- */

/* A module's own text is kept: bt_fail leaves an error that is set as it is. */
static int foreign_open(struct bt_node *node, const struct bt_args *args,
			uint32_t flags, struct blktap_error **err)
{
	const struct blktap_module *module = module_of(node);
	struct inner *inner = node->data;
	int rc = 0;

	(void)args;
	(void)flags;
	if (module->children)
		rc = bt_node_add_pool(node, module->children,
				      sizeof(struct child), &inner->children);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	rc = module->open ? module->open(outside(node), err) : 0;
	if (rc >= 0)
		return 0;
	bt_fail(err, rc, NULL, "%s: module '%s' does not open", node->name,
		node->cls->name);
	return rc;
}

/* The pool of children goes with the node, behind this: nothing is in flight. */
static void foreign_close(struct bt_node *node)
{
	if (module_of(node)->close)
		module_of(node)->close(outside(node));
}

/* Up to the size that the module was built with: a field that it does not know
 * is not written. */
static void show_limits(const struct bt_limits *from,
			struct blktap_module_limits *to)
{
	struct blktap_module_limits full = {
		.size = to->size < sizeof(full) ? to->size : sizeof(full),
		.length = from->size,
		.block_size = from->block_size,
		.max_transfer = from->max_transfer,
		.max_unmap = from->max_unmap,
		.operations = from->operations,
		.read_only = from->read_only,
	};

	memcpy(to, &full, full.size);
}

/* What goes by without the module seeing it has to suit the first edge. */
static void keep_to_first(const struct bt_node *node, struct bt_limits *limits)
{
	const struct bt_limits *first;

	if (!(node->cls->passes & ~(1u << BLKTAP_OP_FLUSH)) ||
	    !node->ports[0].lower)
		return;
	first = &node->ports[0].lower->limits;
	limits->size = bt_min_u64(limits->size, first->size);
	if (limits->block_size < first->block_size)
		limits->block_size = first->block_size;
	limits->max_transfer =
		bt_min_u64(limits->max_transfer, first->max_transfer);
	limits->max_unmap = bt_min_u64(limits->max_unmap, first->max_unmap);
}

/* What a module says is checked by the plan, as a class's own is; operations it
 * cannot add, since nobody below has them. What it has in memory of a write that
 * it answered it is not asked, so it may be all of it. */
static void foreign_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct blktap_module_limits theirs = { .size = sizeof(theirs) };
	const struct blktap_module *module = module_of(node);

	if (module->operations & BT_OPS_WRITING)
		limits->keeps = BT_KEEPS_ALL;
	if (!module->get_limits)
		return;
	show_limits(limits, &theirs);
	module->get_limits(outside(node), &theirs);
	limits->size = theirs.length;
	limits->block_size = theirs.block_size;
	limits->max_transfer = theirs.max_transfer;
	limits->max_unmap = theirs.max_unmap;
	limits->operations &= theirs.operations;
	limits->read_only |= theirs.read_only;
	keep_to_first(node, limits);
}

static void foreign_submit(struct bt_node *node, struct bt_request *req)
{
	module_of(node)->submit(outside(node), handle(req));
}

/* Only where the module has a complete; else the request goes on upward without
 * it. */
static void foreign_complete(struct bt_node *node, struct bt_port *port,
			     struct bt_request *req)
{
	module_of(node)->complete(outside(node), port->desc, port->slot,
				  handle(req));
}

static void foreign_reconfigure(struct bt_node *node,
				const struct bt_args *args)
{
	(void)args;
	module_of(node)->reconfigure(outside(node));
}

static bool foreign_value(const struct bt_node *node, const char *name,
			  char *text, size_t size)
{
	return module_of(node)->get_value(outside(node), name, text, size);
}

/* ---- the class -------------------------------------------------------------- */

/* What a class of our own may have and a module has no word for stays at its
 * default: no leaf, no file, no bitmap, no size of its own before it is opened. */
static void fill_class(struct bt_foreign *f)
{
	const struct blktap_module *m = &f->module;

	f->cls = (struct blktap_class){
		.name = m->name,
		.summary = m->summary,
		.params = f->params,
		.ports = f->ports,
		.operations = m->operations,
		.passes = m->passes,
		.legacy_type = -1,
		.node_bytes = sizeof(struct inner) + m->node_bytes,
		.frame_bytes = m->frame_bytes,
		.open = foreign_open,
		.close = foreign_close,
		.get_limits = foreign_limits,
		.submit = foreign_submit,
		.complete = m->complete ? foreign_complete : NULL,
		.flags = m->flags, /* the same bits */
		.pause = (enum bt_pause)m->pause, /* the same order */
		.reconfigure = m->reconfigure ? foreign_reconfigure : NULL,
		.get_value = m->get_value ? foreign_value : NULL,
		/* there is nobody to ask for them without it */
		.values = m->get_value ? m->values : NULL,
	};
}

/* A module of a later release is longer: what this library does not know is not
 * copied, and was optional for it. */
int bt_foreign_create(const struct blktap_module *module, const char *file,
		      struct bt_foreign **out, struct blktap_error **err)
{
	struct bt_foreign *f;
	int rc;

	if (module->abi != BLKTAP_MODULE_ABI || module->size < FIRST_SIZE)
		return bt_fail(
			err, -EPROTONOSUPPORT,
			"build it with this library's headers",
			"%s: is a module of ABI %u, and this library has "
			"ABI %u",
			file, module->abi, BLKTAP_MODULE_ABI);
	f = calloc(1, sizeof(*f));
	if (!f)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", file);
	memcpy(&f->module, module, bt_min_u64(module->size, sizeof(f->module)));
	rc = bt_foreign_check(f, file, err);
	if (rc < 0) {
		bt_foreign_destroy(f);
		return rc;
	}
	fill_class(f);
	*out = f;
	return 0;
}

void bt_foreign_destroy(struct bt_foreign *foreign)
{
	free(foreign->params);
	free(foreign->ports);
	free(foreign);
}

/* previous is one of this set, or NULL for the first. */
const struct blktap_class *blktap_modules_next(
	const struct blktap_modules *modules,
	const struct blktap_class *previous)
{
	struct bt_list *at;

	if (!modules)
		return NULL;
	at = previous ? bt_container_of(previous, struct bt_foreign, cls)
				->link.next
		      : modules->list.next;
	return at == &modules->list
		       ? NULL
		       : &bt_list_entry(at, struct bt_foreign, link)->cls;
}

/* A class of the set opens by this and no other does. */
bool bt_modules_have(const struct blktap_modules *modules,
		     const struct blktap_class *cls)
{
	return modules && cls->open == foreign_open;
}

/* ---- what a module calls ---------------------------------------------------- */

/* Not bt_fail itself, since that takes no va_list; it keeps an error that is set. */
int blktap_error_set(struct blktap_error **err, int code, const char *hint,
		     const char *fmt, ...)
{
	struct bt_strbuf text = BT_STRBUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	bt_strbuf_vprintf(&text, fmt, ap);
	va_end(ap);
	bt_fail(err, code, hint, "%s",
		text.failed ? "out of memory" : bt_strbuf_str(&text));
	bt_strbuf_fini(&text);
	return code;
}

void *blktap_node_get_data(const struct blktap_node *node)
{
	return (struct inner *)inside(node)->data + 1;
}

const char *blktap_node_get_name(const struct blktap_node *node)
{
	return inside(node)->name;
}

const char *blktap_node_get_string(const struct blktap_node *node,
				   const char *name)
{
	return bt_args_string(inside(node)->args, name);
}

uint64_t blktap_node_get_number(const struct blktap_node *node,
				const char *name)
{
	return bt_args_number(inside(node)->args, name);
}

bool blktap_node_get_bool(const struct blktap_node *node, const char *name)
{
	return bt_args_bool(inside(node)->args, name);
}

uint32_t blktap_node_get_edges(const struct blktap_node *node, uint32_t port)
{
	return bt_node_edges(inside(node), port);
}

int blktap_node_get_lower(const struct blktap_node *node, uint32_t port,
			  uint32_t slot, struct blktap_module_limits *limits)
{
	struct bt_port *edge = bt_node_port(inside(node), port, slot);

	if (!edge || !edge->lower)
		return -ENOENT;
	show_limits(&edge->lower->limits, limits);
	return 0;
}

uint64_t blktap_node_get_time(const struct blktap_node *node)
{
	return bt_loop_now(inside(node)->env->loop);
}

/* Why an operation cannot go through the edge, or 0. The module is somebody else's
 * code, and what is below believes its requests. */
static int refuse(const struct bt_node *node, const struct bt_port *edge,
		  enum blktap_op op, uint64_t offset, uint64_t length)
{
	const struct bt_limits *lower;
	uint64_t align = 1;

	if (!edge || !edge->lower)
		return -ENOENT;
	lower = &edge->lower->limits;
	if (bt_op_is_writing(op) &&
	    (lower->read_only ||
	     node->cls->ports[edge->desc].flags & BT_PORT_READS))
		return -EROFS;
	if (op == BLKTAP_OP_FLUSH)
		return 0;
	/* a question may be of any bytes */
	if (op == BLKTAP_OP_READ || bt_op_is_writing(op))
		align = lower->block_size;
	return (offset | length) & (align - 1) ||
			       !bt_range_within(offset, length, lower->size)
		       ? -EINVAL
		       : 0;
}

/* The same of one request, which nobody cuts. */
static int refuse_one(const struct bt_node *node, const struct bt_port *edge,
		      enum blktap_op op, uint64_t offset, uint64_t length)
{
	int rc = refuse(node, edge, op, offset, length);

	if (rc || op == BLKTAP_OP_FLUSH)
		return rc;
	if (!length)
		return -EINVAL;
	if (op == BLKTAP_OP_READ || op == BLKTAP_OP_WRITE)
		return length > edge->lower->limits.max_transfer ? -EINVAL : 0;
	if (op == BLKTAP_OP_DISCARD || op == BLKTAP_OP_WRITE_ZEROES)
		return length > edge->lower->limits.max_unmap ? -EINVAL : 0;
	return 0;
}

/* For the module's open alone: it waits, and cuts what is too large. */
static int transfer(struct blktap_node *node, uint32_t port, uint32_t slot,
		    enum blktap_op op, uint64_t offset, void *memory,
		    size_t length)
{
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	int rc = refuse(inside(node), edge, op, offset, length);

	return rc ? rc : bt_node_transfer(edge, op, offset, memory, length);
}

int blktap_node_read(struct blktap_node *node, uint32_t port, uint32_t slot,
		     uint64_t offset, void *memory, size_t length)
{
	return transfer(node, port, slot, BLKTAP_OP_READ, offset, memory,
			length);
}

int blktap_node_write(struct blktap_node *node, uint32_t port, uint32_t slot,
		      uint64_t offset, const void *memory, size_t length)
{
	return transfer(node, port, slot, BLKTAP_OP_WRITE, offset,
			(void *)(uintptr_t)memory, length);
}

/* ---- requests --------------------------------------------------------------- */

enum blktap_op blktap_request_get_op(const struct blktap_request *req)
{
	return request(req)->op;
}

/* Without those that are the core's own business. */
uint32_t blktap_request_get_flags(const struct blktap_request *req)
{
	return request(req)->flags & 0xffffu;
}

uint64_t blktap_request_get_offset(const struct blktap_request *req)
{
	return request(req)->offset;
}

uint64_t blktap_request_get_length(const struct blktap_request *req)
{
	return request(req)->length;
}

int blktap_request_get_error(const struct blktap_request *req)
{
	return request(req)->error;
}

void blktap_request_set_offset(struct blktap_request *req, uint64_t offset)
{
	request(req)->offset = offset;
}

void *blktap_request_get_frame(struct blktap_request *req)
{
	return bt_request_frame(request(req));
}

bool blktap_request_get_data(const struct blktap_request *req, uint64_t at,
			     void **memory, size_t *length)
{
	struct bt_request *r = request(req);
	struct bt_sgl sgl = r->data;
	size_t left;

	if ((r->op != BLKTAP_OP_READ && r->op != BLKTAP_OP_WRITE) ||
	    at >= r->length || !bt_sgl_advance(&sgl, at) || !sgl.count)
		return false;
	left = sgl.iov->iov_len - sgl.skip;
	*memory = (char *)sgl.iov->iov_base + sgl.skip;
	*length = (size_t)bt_min_u64(left, r->length - at);
	return true;
}

/* What cannot go there is answered, not believed. */
void blktap_request_submit(struct blktap_node *node, uint32_t port,
			   uint32_t slot, struct blktap_request *req)
{
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	struct bt_request *r = request(req);
	int rc = refuse_one(inside(node), edge, r->op, r->offset, r->length);

	if (rc)
		bt_request_complete(r, rc == -ENOENT ? -ENOTSUP : rc);
	else
		bt_port_submit(edge, r);
}

void blktap_request_complete(struct blktap_request *req, int error)
{
	bt_request_complete(request(req), error);
}

/* ---- children --------------------------------------------------------------- */

/* Given back first, so that fn may submit again. */
static void child_done(struct bt_request *req)
{
	struct child *child = bt_container_of(req, struct child, req);
	blktap_child_fn *fn = child->fn;
	void *opaque = child->opaque;
	int error = req->error;

	bt_pool_give(req);
	fn(outside(child->node), opaque, error);
}

/* Whether iov is as long as its operation. */
static bool is_whole(enum blktap_op op, uint64_t length,
		     const struct iovec *iov, uint32_t count)
{
	uint64_t sum = 0;
	uint32_t i;

	if (op != BLKTAP_OP_READ && op != BLKTAP_OP_WRITE)
		return true;
	for (i = 0; i < count && sum < length; i++)
		sum += iov[i].iov_len;
	return sum >= length;
}

/* -EAGAIN where all children are out; BLOCK_STATUS has an answer that no child
 * could hand over. */
int blktap_node_submit(struct blktap_node *node, uint32_t port, uint32_t slot,
		       enum blktap_op op, uint32_t flags, uint64_t offset,
		       uint64_t length, const struct iovec *iov, uint32_t count,
		       blktap_child_fn *fn, void *opaque)
{
	struct inner *inner = inside(node)->data;
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	struct bt_request *req;
	struct child *child;
	int rc;

	if (!edge || !edge->lower || !inner->children || flags > 0xffffu ||
	    (unsigned int)op >= BLKTAP_OP_COUNT ||
	    op == BLKTAP_OP_BLOCK_STATUS || !is_whole(op, length, iov, count))
		return -EINVAL;
	rc = refuse_one(inside(node), edge, op, offset, length);
	if (rc)
		return rc;
	req = bt_pool_take(inner->children);
	if (!req)
		return -EAGAIN;
	child = bt_container_of(req, struct child, req);
	child->node = inside(node);
	child->fn = fn;
	child->opaque = opaque;
	req->op = op;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	req->data = (struct bt_sgl){ .iov = iov, .count = count };
	req->done = child_done;
	bt_port_submit(edge, req);
	return 0;
}
