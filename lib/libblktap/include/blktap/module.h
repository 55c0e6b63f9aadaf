/* SPDX-License-Identifier: BSD-3-Clause */
/* For Block Mason modules that are not part of blktap: a module is a shared
 * object in the module directory that exports one symbol,
 *
 *	BLKTAP_MODULE_EXPORT const struct blktap_module blktap_module_class = {
 *		BLKTAP_MODULE_HEAD, .name = "rot", ...
 *	};
 *
 * and is built with nothing but these headers. tests/embed/quota.c is a whole one.
 *
 * A node has a request from submit until it calls blktap_request_complete, or
 * lends it to a lower port by blktap_request_submit, after which it gets it back
 * in complete (or, where that is NULL, the request goes on upward). What a node
 * changes in a request on the way down it puts back in complete. All callbacks
 * run on the context's thread; none may block, but open and close may.
 *
 * The struct and its tables are read once, when the library is loaded; the texts
 * they point to (names, help, choices, values) are not copied, and must not change
 * nor go before it is unloaded: make all of it static and const. A set unloads its
 * libraries when it is destroyed, which is after the last context it was given to.
 *
 * What a node sends through an edge is held against what is below: within its
 * size, in whole blocks, not larger than it takes at once, and no write where it is
 * read-only or the port is BLKTAP_PORT_READS. */
#ifndef BLKTAP_MODULE_H
#define BLKTAP_MODULE_H

#include <blktap/class.h>
#include <blktap/disk.h>
#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

#define BLKTAP_MODULE_ABI 1u
#define BLKTAP_MODULE_SYMBOL "blktap_module_class"
#define BLKTAP_MODULE_HEAD \
	.size = sizeof(struct blktap_module), .abi = BLKTAP_MODULE_ABI
#define BLKTAP_MODULE_EXPORT __attribute__((visibility("default")))

struct blktap_node; /* an instance of a module in a graph */
struct blktap_request; /* one operation on its way */

/* What holds for the edges of a port. */
#define BLKTAP_PORT_ARRAY 0x1u /* any number of edges; the last port only */
#define BLKTAP_PORT_READS 0x2u /* nothing is written through it */
#define BLKTAP_PORT_UNCHANGED 0x4u /* nobody may change what is below */
#define BLKTAP_PORT_STORE 0x8u /* keeps the node's own data */
#define BLKTAP_PORT_SAME_SIZE 0x10u /* all such edges lead to one size */
#define BLKTAP_PORT_OPTIONAL 0x100u

struct blktap_module_port {
	const char *name; /* NULL ends the list */
	uint32_t flags; /* BLKTAP_PORT_* */
	const char *help; /* one line, no full stop; or NULL */
};

/* What a node can take. */
struct blktap_module_limits {
	size_t size; /* sizeof(struct blktap_module_limits) */
	uint64_t length; /* of the node as a disk, in bytes */
	uint32_t block_size; /* offsets and lengths are multiples; power of 2 */
	uint64_t max_transfer; /* bytes of a READ or WRITE */
	uint64_t max_unmap; /* bytes of a DISCARD or WRITE_ZEROES */
	uint32_t operations; /* 1u << enum blktap_op; only to be taken from */
	bool read_only;
};

#define BLKTAP_MODULE_ENCRYPTS 0x4u /* what is below sees ciphertext */
#define BLKTAP_MODULE_REDUNDANT 0x10u /* one edge left is enough */

/* What stands still above a node while it comes or goes. */
enum blktap_module_pause {
	BLKTAP_PAUSE_ALL, /* it stores or moves data */
	BLKTAP_PAUSE_WRITES, /* it must see every write, or none */
	BLKTAP_PAUSE_NONE /* nothing */
};

struct blktap_module {
	size_t size; /* BLKTAP_MODULE_HEAD sets it, and abi */
	uint32_t abi;
	uint32_t flags; /* BLKTAP_MODULE_* */
	const char *name; /* in lower case; no other class may have it */
	const char *summary; /* one line, no full stop */
	const struct blktap_param *params; /* ended by a NULL name; or NULL */
	const struct blktap_module_port *ports; /* one at least */
	uint32_t operations; /* come to submit */
	uint32_t passes; /* go to the first edge unseen; others are refused */
	enum blktap_module_pause pause;
	uint32_t children; /* requests of its own at once; 0: none */
	size_t node_bytes; /* zeroed, a node's own */
	size_t frame_bytes; /* a node's own, in each request that it has */
	/* What is below is open. 0 or a negative errno and blktap_error_set; on
	 * failure nothing is left, and close is not called. NULL: nothing. */
	int (*open)(struct blktap_node *node, struct blktap_error **err);
	void (*close)(struct blktap_node *node);
	/* limits holds what the lower ports allow together. NULL: as it is. A
	 * module that passes operations cannot promise more than its first edge
	 * takes. */
	void (*get_limits)(struct blktap_node *node,
			   struct blktap_module_limits *limits);
	void (*submit)(struct blktap_node *node, struct blktap_request *req);
	/* The request is back from the edge; its error is that of below. */
	void (*complete)(struct blktap_node *node, uint32_t port, uint32_t slot,
			 struct blktap_request *req);
	/* Arguments marked LIVE have changed. NULL: they are read each time. */
	void (*reconfigure)(struct blktap_node *node);
	/* A value for `assert run.NODE.NAME`; false where there is none. */
	bool (*get_value)(const struct blktap_node *node, const char *name,
			  char *text, size_t size);
	const char *values; /* names of these, "hits,misses"; or NULL */
};

/* ---- errors ----------------------------------------------------------------- */

/* Describes a failure in *err, where err is not NULL, and returns code, a
 * negative errno; hint may be NULL. Since 0.1. */
BLKTAP_API int blktap_error_set(struct blktap_error **err, int code,
				const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* ---- nodes ------------------------------------------------------------------ */

/* The node's own bytes, zeroed when it was made. Since 0.1. */
BLKTAP_API void *blktap_node_get_data(const struct blktap_node *node);

/* What the graph calls it; the node's. Since 0.1. */
BLKTAP_API const char *blktap_node_get_name(const struct blktap_node *node);

/* Arguments, by a name in params: a string is NULL where it was neither given
 * nor has a default, a number 0, a bool false. The string is the node's, until a
 * change of its arguments: one marked LIVE is asked for anew in reconfigure, or
 * each time. Since 0.1. */
BLKTAP_API const char *blktap_node_get_string(const struct blktap_node *node,
					      const char *name);
BLKTAP_API uint64_t blktap_node_get_number(const struct blktap_node *node,
					   const char *name);
BLKTAP_API bool blktap_node_get_bool(const struct blktap_node *node,
				     const char *name);

/* How many edges a port has. Since 0.1. */
BLKTAP_API uint32_t blktap_node_get_edges(const struct blktap_node *node,
					  uint32_t port);

/* Fills limits, whose size is set, with those of what is below an edge: 0, or
 * -ENOENT where there is none. Since 0.1. */
BLKTAP_API int blktap_node_get_lower(const struct blktap_node *node,
				     uint32_t port, uint32_t slot,
				     struct blktap_module_limits *limits);

/* Nanoseconds of the context's clock. Since 0.1. */
BLKTAP_API uint64_t blktap_node_get_time(const struct blktap_node *node);

/* Reads (or writes) length bytes of what is below an edge, and waits: for open
 * alone. 0 or a negative errno. Since 0.1. */
BLKTAP_API int blktap_node_read(struct blktap_node *node, uint32_t port,
				uint32_t slot, uint64_t offset, void *memory,
				size_t length);
BLKTAP_API int blktap_node_write(struct blktap_node *node, uint32_t port,
				 uint32_t slot, uint64_t offset,
				 const void *memory, size_t length);

/* ---- requests --------------------------------------------------------------- */

/* What the request asks for: bytes, and BLKTAP_FUA and its like. Since 0.1. */
BLKTAP_API enum blktap_op blktap_request_get_op(
	const struct blktap_request *req);
BLKTAP_API uint32_t blktap_request_get_flags(const struct blktap_request *req);
BLKTAP_API uint64_t blktap_request_get_offset(const struct blktap_request *req);
BLKTAP_API uint64_t blktap_request_get_length(const struct blktap_request *req);

/* What it ended with, in complete: 0 or a negative errno. Since 0.1. */
BLKTAP_API int blktap_request_get_error(const struct blktap_request *req);

/* Changes where it goes; to be undone in complete. Since 0.1. */
BLKTAP_API void blktap_request_set_offset(struct blktap_request *req,
					  uint64_t offset);

/* The node's frame_bytes in a request that it has. Since 0.1. */
BLKTAP_API void *blktap_request_get_frame(struct blktap_request *req);

/* A piece of the data of a READ or WRITE: *memory holds *length bytes of it from
 * at on; false where at is behind its end. The data of a WRITE belongs to who
 * submitted it: a node does not change it. Since 0.1. */
BLKTAP_API bool blktap_request_get_data(const struct blktap_request *req,
					uint64_t at, void **memory,
					size_t *length);

/* Lends the request to an edge. What cannot go there is completed with an error:
 * -ENOTSUP where there is no edge, -EROFS, or -EINVAL where it is out of what is
 * below. Since 0.1. */
BLKTAP_API void blktap_request_submit(struct blktap_node *node, uint32_t port,
				      uint32_t slot,
				      struct blktap_request *req);

/* Ends the request's stay in the node; error is 0 or a negative errno. The node
 * must not touch it after. Since 0.1. */
BLKTAP_API void blktap_request_complete(struct blktap_request *req, int error);

/* ---- requests of the node's own --------------------------------------------- */

/* Called with a child that has ended, and the opaque it was sent with. */
typedef void blktap_child_fn(struct blktap_node *node, void *opaque, int error);

/* Sends an operation of the node's own through an edge. iov holds length bytes
 * for READ and WRITE, and it and what it points to stay the caller's until fn is
 * called, which happens once, possibly before this returns. -EAGAIN where all
 * children of the class are under way, -EROFS or -EINVAL for what cannot go there:
 * fn is not called then. Since 0.1. */
BLKTAP_API int blktap_node_submit(struct blktap_node *node, uint32_t port,
				  uint32_t slot, enum blktap_op op,
				  uint32_t flags, uint64_t offset,
				  uint64_t length, const struct iovec *iov,
				  uint32_t count, blktap_child_fn *fn,
				  void *opaque);

BLKTAP_END_DECLS

#endif
