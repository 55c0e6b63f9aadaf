/* SPDX-License-Identifier: BSD-3-Clause */
/* A class made of a module from outside. What it declares is copied and checked
 * once, so that nothing it changes later has a meaning; its callbacks are called
 * through the ones below, which know its node from ours. */
#include "module/foreign.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/strbuf.h"

#define MAX_BYTES (64u << 20) /* of a node */
#define MAX_FRAME 4096u
#define MAX_CHILDREN 65536u
#define MAX_PORTS 64u
#define MAX_PARAMS 64u
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

/* ---- what a module declares ------------------------------------------------- */

/* As our own classes, parameters and ports are called. */
static bool is_name(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len && len < 64 && name[0] >= 'a' && name[0] <= 'z' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static int bad(const char *file, struct blktap_error **err, const char *what)
{
	return bt_fail(err, -ENOEXEC, "see <blktap/module.h>", "%s: %s", file,
		       what);
}

static int check_params(const struct blktap_param *params, const char *file,
			struct blktap_error **err)
{
	uint32_t i;

	for (i = 0; params && params[i].name; i++)
		if (i == MAX_PARAMS || !is_name(params[i].name) ||
		    (unsigned int)params[i].type > BLKTAP_PARAM_LIST ||
		    (params[i].type == BLKTAP_PARAM_ENUM && !params[i].choices))
			return bad(file, err, "a parameter makes no sense");
	return 0;
}

/* Bounds keep a mistake in a module from becoming an allocation; flags that
 * this library does not know might promise something that it does not keep. */
static int check(const struct blktap_module *m, const char *file,
		 struct blktap_error **err)
{
	if (!is_name(m->name) || !m->summary)
		return bad(file, err,
			   "it has no name in lower case, or no "
			   "summary");
	if (!m->ports || !m->ports[0].name)
		return bad(file, err, "it has no port");
	if ((m->operations | m->passes) & ~BT_OPS_ALL ||
	    !(m->operations | m->passes) || (m->operations && !m->submit))
		return bad(file, err, "its operations make no sense");
	if (m->flags & ~(BLKTAP_MODULE_ENCRYPTS | BLKTAP_MODULE_REDUNDANT) ||
	    (unsigned int)m->pause > BLKTAP_PAUSE_NONE)
		return bad(file, err, "its flags are unknown");
	if (m->node_bytes > MAX_BYTES || m->frame_bytes > MAX_FRAME ||
	    m->children > MAX_CHILDREN)
		return bad(file, err, "it asks for too much memory");
	return check_params(m->params, file, err);
}

/* An array is the last port, as the edges of all ports lie in one row. */
static int copy_ports(struct bt_foreign *f, const char *file,
		      struct blktap_error **err)
{
	const struct blktap_module_port *from = f->module.ports;
	uint32_t i, n = 0;

	while (from[n].name && n < MAX_PORTS)
		n++;
	f->ports = calloc(n + 1, sizeof(*f->ports));
	if (!f->ports)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", file);
	for (i = 0; i < n; i++) {
		uint32_t flags = from[i].flags;

		if (!is_name(from[i].name) ||
		    flags & ~(BLKTAP_PORT_OPTIONAL | 0x1fu) ||
		    (flags & BLKTAP_PORT_ARRAY && i + 1 < n))
			return bad(file, err, "a port makes no sense");
		f->ports[i].name = from[i].name;
		f->ports[i].help = from[i].help;
		f->ports[i].optional = flags & BLKTAP_PORT_OPTIONAL;
		f->ports[i].flags = flags & 0x1fu; /* the same bits */
	}
	return 0;
}

static void fill_class(struct bt_foreign *f)
{
	const struct blktap_module *m = &f->module;

	f->cls = (struct blktap_class){
		.name = m->name,
		.summary = m->summary,
		.params = m->params,
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
		.values = m->values,
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
	rc = check(&f->module, file, err);
	if (!rc)
		rc = copy_ports(f, file, err);
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
	free(foreign->ports);
	free(foreign);
}

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

/* For the module's open alone: it waits. It is checked here, since the module
 * is somebody else's code and what is below believes its requests. */
static int transfer(struct blktap_node *node, uint32_t port, uint32_t slot,
		    enum blktap_op op, uint64_t offset, void *memory,
		    size_t length)
{
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	uint64_t align;

	if (!edge || !edge->lower)
		return -ENOENT;
	align = edge->lower->limits.block_size;
	if ((offset | length) & (align - 1) ||
	    !bt_range_within(offset, length, edge->lower->limits.size))
		return -EINVAL;
	return bt_node_transfer(edge, op, offset, memory, length);
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

/* What is below believes what it gets: buffers there are as long as the limits say,
 * and a slice adds its offset and asks no more. */
static bool takes(const struct bt_port *edge, enum blktap_op op,
		  uint64_t offset, uint64_t length)
{
	const struct bt_limits *l = &edge->lower->limits;
	uint64_t align = l->block_size, most = l->max_unmap;

	if (op == BLKTAP_OP_FLUSH)
		return true;
	if (op == BLKTAP_OP_READ || op == BLKTAP_OP_WRITE) {
		most = l->max_transfer;
	} else if (!bt_op_is_writing(op)) { /* a question */
		most = l->size;
		align = 1;
	}
	return length && length <= most && !((offset | length) & (align - 1)) &&
	       bt_range_within(offset, length, l->size);
}

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

/* An edge that is not there, and a place that is not there, are answered, not
 * believed. */
void blktap_request_submit(struct blktap_node *node, uint32_t port,
			   uint32_t slot, struct blktap_request *req)
{
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	struct bt_request *r = request(req);

	if (!edge || !edge->lower)
		bt_request_complete(r, -ENOTSUP);
	else if (!takes(edge, r->op, r->offset, r->length))
		bt_request_complete(r, -EINVAL);
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

/* -EAGAIN where all children are out; BLOCK_STATUS has an answer that no child
 * could hand over. */
int blktap_node_submit(struct blktap_node *node, uint32_t port, uint32_t slot,
		       enum blktap_op op, uint32_t flags, uint64_t offset,
		       uint64_t length, const struct iovec *iov, uint32_t count,
		       blktap_child_fn *fn, void *opaque)
{
	struct inner *inner = inside(node)->data;
	struct bt_port *edge = bt_node_port(inside(node), port, slot);
	struct bt_sgl data = { .iov = iov, .count = count };
	struct bt_request *req;
	struct child *child;

	if (!edge || !edge->lower || !inner->children || flags > 0xffffu ||
	    (unsigned int)op >= BLKTAP_OP_COUNT || op == BLKTAP_OP_BLOCK_STATUS)
		return -EINVAL;
	if (!takes(edge, op, offset, length) ||
	    ((op == BLKTAP_OP_READ || op == BLKTAP_OP_WRITE) &&
	     bt_sgl_length(&data) < length))
		return -EINVAL;
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
	req->data = data;
	req->done = child_done;
	bt_port_submit(edge, req);
	return 0;
}
