/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports and nodes: the one mechanism a disk is made of.
 *
 * A port is an edge of the graph: bt_port_submit goes down, completion comes up.
 * A node is an instance of a class; it sees its own upper edge only as "a request
 * came", and its lower edges as ports it submits to. Nothing here knows what a
 * node does.
 *
 * A node has a request from cls->submit until it calls bt_request_complete, or
 * lends it to a lower port by bt_port_submit, after which it gets it back in
 * cls->complete (or, where that is NULL, the request goes on upward). A node that
 * changes the request's op, flags, offset, length or data on the way down puts
 * them back in cls->complete.
 *
 * Both directions go through a trampoline, so neither recursion depth nor stack
 * use grows with the graph, and a node may complete inside its submit.
 *
 * A node may also have requests of its own, its children: it takes them from a
 * pool of bt_node_add_pool, submits them to its lower ports, and gets them back
 * through req->done, never through cls->complete. */
#ifndef BT_PORT_PORT_H
#define BT_PORT_PORT_H

#include <blktap/class.h>
#include <blktap/image.h>

#include "loop/loop.h"
#include "request/request.h"
#include "util/path.h"

struct bt_args;
struct bt_engine;
struct bt_gate;
struct bt_json;
struct bt_log;

/* What the nodes of one context share. */
struct bt_env {
	struct bt_loop *loop;
	struct bt_engine *engine;
	const struct bt_log *log;
	/* the trampoline: requests to be delivered, in order */
	struct bt_request *queue_head;
	struct bt_request *queue_tail;
	bool delivering;
	uint64_t links; /* edges that were linked so far */
	uint64_t nodes; /* nodes that were made so far */
	uint64_t walks; /* of bt_port_below and the like */
	uint64_t losses; /* of bt_node_lose so far, all nodes */
	struct bt_list shared; /* see shared.h */
	struct bt_list parked; /* ports with requests that park.c holds */
	struct bt_timer unpark;
	/* By then (bt_monotonic_ns) what opens has to be done with waiting, or it
	 * fails with -ETIMEDOUT; 0: it may wait for ever. */
	uint64_t open_until_ns;
};

/* What is left until then, for bt_loop_run_until. */
int bt_env_open_ms(const struct bt_env *env);

/* What a write that is answered leaves in this process' memory, so that it is lost
 * with the process, until a flush. The data itself is the system's by then. */
enum bt_keeps {
	BT_KEEPS_NOTHING,
	BT_KEEPS_TABLES, /* not of a write with BT_REQUEST_OUTLIVE */
	BT_KEEPS_ALL,
};

/* What a node can take; flows up at plan time. */
struct bt_limits {
	uint64_t size; /* bytes */
	uint32_t block_size; /* offsets and lengths are multiples; power of 2 */
	uint32_t memory_align; /* what needs no bounce; a hint */
	uint32_t preferred_block_size;
	uint64_t max_transfer; /* READ, WRITE */
	uint64_t max_unmap; /* DISCARD, WRITE_ZEROES */
	uint64_t discard_granularity;
	uint32_t operations; /* 1u << enum blktap_op */
	bool read_only;
	bool native_fua;
	enum bt_keeps keeps;
	uint32_t copies; /* of the data: what req->copy may ask for */
};

struct bt_node_stats {
	uint64_t completed[BLKTAP_OP_COUNT];
	uint64_t bytes[BLKTAP_OP_COUNT];
	uint64_t errors[BLKTAP_OP_COUNT];
	uint64_t latency_log2_ns[BLKTAP_OP_COUNT][40];
};

/* What holds for the edges of a port. */
#define BT_PORT_ARRAY 0x1u /* any number of edges: name[0], name[1], .. */
#define BT_PORT_READS 0x2u /* nothing is written through it */
#define BT_PORT_UNCHANGED 0x4u /* nobody may change what is below */
#define BT_PORT_STORE 0x8u /* keeps the node's own data, laid out its way */
#define BT_PORT_SAME_SIZE 0x10u /* all such edges lead to one size */

struct bt_port_desc {
	const char *name; /* NULL ends the list */
	bool optional;
	const char *help;
	uint32_t flags; /* BT_PORT_* */
	/* "mode=writeback": where that holds, what is below must outlive the
	 * process; "" always, NULL never. */
	const char *durable_when;
};

struct bt_create_extra {
	const char *name;
	const char *value;
};

/* An image to be made. */
struct bt_create {
	/* An empty file, open for reading and writing; or, where the class has
	 * creates_on_device, a block device of device_size bytes. */
	int fd;
	uint64_t device_size; /* 0: it is a file */
	const char *path; /* what it will be called, for messages */
	uint64_t size; /* of the disk, in bytes; never 0 */
	uint32_t flags; /* BLKTAP_CREATE_* */
	const char *backing; /* as it is to be recorded; NULL: none */
	const char *backing_path; /* where it is found from here */
	const char *backing_format; /* the name of its class */
	uint64_t cluster_size; /* 0: what suits the format */
	const struct bt_create_extra *extra; /* unknown names are refused */
	uint32_t extra_count;
	blktap_image_progress_fn *progress; /* NULL: none */
	void *opaque;
};
/* What holds for a class; Block Mason's checks read it. */
#define BT_CLASS_FRONT 0x1u /* brings requests; nothing is above it */
#define BT_CLASS_VOLATILE 0x2u /* its data ends with the process */
#define BT_CLASS_ENCRYPTS 0x4u /* what is below sees ciphertext */
#define BT_CLASS_PART 0x8u /* shows `size` bytes at `offset` of what is below */
#define BT_CLASS_REDUNDANT 0x10u /* one edge left is enough for the data */
#define BT_CLASS_SAME_BYTES \
	0x20u /* its first upper port shows what is behind the first edge */
#define BT_CLASS_STILL \
	0x80u /* its file changes by requests alone, not when it is opened, \
	       * flushed or closed */
#define BT_CLASS_EMPTY 0x40u /* keeps nothing: in each process it reads alike */

/* What stands still above a node of the class while it comes or goes. */
enum bt_pause {
	BT_PAUSE_ALL, /* it stores or moves data */
	BT_PAUSE_WRITES, /* it must see every write, or none */
	BT_PAUSE_NONE, /* nothing: what is in flight ends by its frames */
};

/* What a node keeps other programs from doing with its file. */
enum bt_lock_mode {
	BT_LOCK_NONE,
	BT_LOCK_SHARED, /* nobody writes */
	BT_LOCK_EXCLUSIVE /* nobody else reads or writes */
};

/* What becomes of a request that a node fails for a reason that may pass: see
 * park.c. */
enum bt_on_error {
	BT_ON_ERROR_REPORT, /* it goes up */
	BT_ON_ERROR_RETRY, /* it is sent down again, again and again */
	BT_ON_ERROR_STOP, /* it waits, and so does all that comes after it */
	BT_ON_ERROR_DEGRADE, /* REPORT; the class goes on with what works */
};

/* What is counted of a node. */
enum bt_stats_level { BT_STATS_HIST, BT_STATS_COUNT, BT_STATS_OFF };

/* What an image's file was when it was looked at, to see whether somebody has
 * changed it since; and which file it is. */
struct bt_stamp {
	uint64_t size;
	uint64_t mtime_ns; /* 0: not known, of a device */
	struct bt_path_id id;
};

/* A class of node; a driver is a class without ports that stores data. */
struct blktap_class {
	const char *name;
	const char *aliases; /* "aio,file" or NULL */
	const char *summary;
	const struct blktap_param *params; /* ended by a NULL name; or NULL */
	const struct bt_port_desc *ports; /* lower edges; or NULL */
	uint32_t operations; /* handled by submit */
	uint32_t passes; /* go to port 0 without asking submit */
	int legacy_type; /* driver.type in `tap-ctl stats`; -1: none */
	size_t node_bytes;
	size_t frame_bytes;
	/* Opens what args name. flags are BLKTAP_OPEN_*. On failure nothing is
	 * left. The lower ports are linked already. NULL: nothing to do. */
	int (*open)(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err);
	/* Nothing is in flight. NULL: nothing to do. */
	void (*close)(struct bt_node *node);
	/* What the opened image says it stands on: *spec is a new string, or
	 * NULL where it stands alone. image/ opens that read-only and links it
	 * to port 0. NULL: it never stands on anything. */
	int (*get_parent)(struct bt_node *node, char **spec,
			  struct blktap_error **err);
	/* limits holds what the lower ports allow together (defaults where there
	 * are none). NULL: as it is. */
	void (*get_limits)(struct bt_node *node, struct bt_limits *limits);
	/* A FLUSH with BT_REQUEST_LAST says that the node may be about to be
	 * closed or replaced: with its completion all it keeps is as durable as
	 * it gets, and it does nothing of its own until a request comes. It
	 * goes on to what is behind a port that READS by itself. One
	 * may: a change that fails after the flush is undone, and the node goes
	 * on; and reads come all the time where only writes are held. */
	void (*submit)(struct bt_node *node, struct bt_request *req);
	/* What submit sent on is back: req->error is the lower node's; port is
	 * the one it comes from. Ends with bt_request_complete, or submits again.
	 * NULL: passes upward. */
	void (*complete)(struct bt_node *node, struct bt_port *port,
			 struct bt_request *req);
	/* The value of "status" in statistics. NULL: null. */
	void (*get_status)(struct bt_node *node, struct bt_json *json,
			   bool legacy);
	/* Fills create->fd with an empty image; its caller syncs and renames.
	 * On a device it keeps the order of its writes itself: a cut leaves the
	 * new image or none. NULL: the class has no files. */
	int (*create)(const struct bt_create *create,
		      struct blktap_error **err);
	bool creates_on_device;
	const struct bt_port_desc *uppers; /* NULL: one, without a name */
	uint32_t flags; /* BT_CLASS_* */
	/* What can be told from the arguments alone. check_args: whether they go
	 * together; NULL: they do. get_size: lower holds the sizes behind the
	 * edges in order, 0 where not known, and 0 is returned where the node's
	 * is not; NULL: the argument `size` of a leaf, else that behind the
	 * first edge. get_memory: what the class
	 * allocates for a node with so many edges and a disk of size bytes, 0
	 * where that is not known, node_bytes included; NULL: node_bytes. */
	int (*check_args)(const struct bt_args *args,
			  struct blktap_error **err);
	uint64_t (*get_size)(const struct bt_args *args, const uint64_t *lower,
			     uint32_t count);
	uint64_t (*get_memory)(const struct bt_args *args, uint64_t size,
			       uint32_t edges);
	enum bt_pause pause;
	/* It was on trial, and the graph runs that it was opened for. */
	void (*start)(struct bt_node *node);
	/* LIVE arguments have changed, while requests are in flight: args are
	 * the node's from now on. NULL: the node reads node->args each time. */
	void (*reconfigure)(struct bt_node *node, const struct bt_args *args);
	/* A named value of the running node, for `assert run.NODE.NAME` and for
	 * pictures: a word or a number; false where there is none of the name.
	 * NULL: there are none. */
	bool (*get_value)(const struct bt_node *node, const char *name,
			  char *text, size_t size);
	const char *values; /* their names, "state,dirty"; or NULL */
	/* Change tracking. The name of the index-th bitmap, NULL after the last.
	 * And of the bytes from offset on, at most length and at least 1, how
	 * many are alike. NULL: the class tracks nothing. */
	const char *(*get_bitmap)(const struct bt_node *node, uint32_t index);
	uint64_t (*get_dirty)(const struct bt_node *node, uint32_t index,
			      uint64_t offset, uint64_t length, bool *dirty);
	/* Another lock on the node's file, in place of the one it has; -EBUSY
	 * where somebody else stands against it: then it has none. NULL: the
	 * class has no files. */
	int (*relock)(struct bt_node *node, enum bt_lock_mode mode,
		      struct blktap_error **err);
	/* Makes the image record that it stands on backing, of backing_format;
	 * NULL: on nothing any more. It is open for writing, flushed, and
	 * nothing is in flight; a crash at any point leaves it standing on the
	 * one or on the other. Blocks. NULL: it cannot. */
	int (*set_parent)(struct bt_node *node, const char *backing,
			  const char *backing_format,
			  struct blktap_error **err);
	/* Makes the open image larger, durably: -ENOTSUP where its tables have
	 * no room. As above; the caller closes the node after it. NULL: it
	 * cannot. */
	int (*grow)(struct bt_node *node, uint64_t size,
		    struct blktap_error **err);
	/* Of the open file as it is now. NULL: the class has no files. */
	int (*get_stamp)(const struct bt_node *node, struct bt_stamp *stamp);
};

/* Whether name is the class's, or one of its aliases. */
bool bt_class_is_called(const struct blktap_class *cls, const char *name);

/* Gates count reads and writes apart, for edits that hold only writes. */
enum bt_flow { BT_FLOW_READ, BT_FLOW_WRITE, BT_FLOW_COUNT };
#define BT_HOLD_READS (1u << BT_FLOW_READ)
#define BT_HOLD_WRITES (1u << BT_FLOW_WRITE)
#define BT_HOLD_ALL (BT_HOLD_READS | BT_HOLD_WRITES)

struct bt_port {
	struct bt_env *env;
	struct bt_node *upper; /* NULL: a top edge, see done */
	struct bt_node *lower; /* NULL: not linked */
	const char *name;
	uint32_t desc; /* in upper's cls->ports */
	uint32_t slot; /* of an array port; else 0 */
	uint32_t entry; /* where it enters lower, in its cls->uppers */
	uint32_t hold; /* BT_HOLD_* */
	uint64_t entered[BT_FLOW_COUNT];
	uint64_t left[BT_FLOW_COUNT];
	struct bt_list held; /* requests that met the gate, oldest first */
	struct bt_list parked; /* in env->parked, while park.c holds some */
	uint32_t wait_ms; /* before these are sent down again */
	uint64_t parked_ns; /* when one of them failed last */
	struct bt_gate *gate; /* the one that holds it, or NULL */
	uint64_t written; /* writes completed; starts at 1 */
	uint64_t flushed; /* value of written that the last flush covers */
	uint32_t epoch; /* how often it was linked */
	/* of what is in flight: entered before it was linked to what is below it
	 * now, so it is in another node, or beside those that came in between */
	uint64_t strays;
	bool gives_up; /* a top edge: park.c holds nothing that came by it */
	/* top edges: the request is out of the graph */
	void (*done)(struct bt_port *port, struct bt_request *req);
	void *opaque;
};

struct bt_node {
	const struct blktap_class *cls;
	struct bt_env *env;
	char *name;
	void *data; /* cls->node_bytes, zeroed */
	struct bt_args *args; /* owned */
	struct bt_port *ports; /* lower edges, by port and slot */
	uint32_t port_count;
	struct bt_list pools; /* of its children */
	struct bt_limits limits; /* of the last plan */
	uint32_t frame_sum; /* its frame and the deepest below it */
	struct bt_node_stats stats;
	bool is_open;
	enum bt_on_error on_error;
	bool stopped; /* by on_error; nothing enters it */
	bool gives_up; /* park.c holds nothing that is its child */
	enum bt_stats_level stats_level;
	/* It goes on when the graph above it ends: it sees no BT_REQUEST_LAST. */
	bool stays;
	bool in_graph; /* a part of a graph of a file, not of an image's chain */
	/* Opened for a change that may be given up: then the disk goes on without
	 * it, so it keeps nothing yet that would not hold then. */
	bool on_trial;
	/* Its class takes a request's data where req->move has it; to others it is
	 * brought before they see the request. */
	bool moves;
	uint32_t refs; /* ports that point here */
	uint64_t has; /* requests that are in it or below it for it */
	uint64_t serial; /* of env->nodes: no other ever has it */
	uint64_t losses; /* see bt_node_lose */
	uint64_t walked; /* the last of env->walks that came by */
};

/* ---- nodes ---------------------------------------------------------------- */

/* Makes a node that is neither linked nor open; takes args over, on failure too.
 * name is copied; NULL: the class's name. */
int bt_node_create(struct bt_env *env, const struct blktap_class *cls,
		   const char *name, struct bt_args *args, struct bt_node **out,
		   struct blktap_error **err);
/* The same with edges[i] edges at port i of the class: any number at an array,
 * 1 elsewhere. NULL: none at arrays. */
int bt_node_create_wide(struct bt_env *env, const struct blktap_class *cls,
			const char *name, struct bt_args *args,
			const uint32_t *edges, struct bt_node **out,
			struct blktap_error **err);
/* The edge at a port of the class; NULL where there is no such slot. */
struct bt_port *bt_node_port(const struct bt_node *node, uint32_t desc,
			     uint32_t slot);
/* How many edges the port has. */
uint32_t bt_node_edges(const struct bt_node *node, uint32_t desc);

/* Makes a pool of requests that the node submits to its own lower ports; from
 * cls->open on. Their frames are deep enough for what is below, now and after
 * each plan. Freed with the node, after cls->close. */
int bt_node_add_pool(struct bt_node *node, uint32_t count, size_t item_size,
		     struct bt_pool **out);
/* What such a pool takes, for get_memory. */
uint64_t bt_node_pool_memory(uint32_t count, size_t item_size);
/* What a node takes beside what its class allocates. */
uint64_t bt_node_memory(uint32_t edges);
/* How many of length bytes from offset on are known to read as zeroes, asked in the
 * same way as by bt_node_transfer; 0 where that cannot be told. */
uint64_t bt_node_zeroes(struct bt_port *port, uint64_t offset, uint64_t length);
/* Moves length bytes through a lower port and waits, serving the loop: for
 * cls->open, which runs outside of it. op is READ or WRITE, or FLUSH without
 * data. memory is aligned to 4096 or the engine copies. -ETIMEDOUT when
 * env->open_until_ns comes first: what is under way ends without the caller. */
int bt_node_transfer(struct bt_port *port, enum blktap_op op, uint64_t offset,
		     void *memory, size_t length);

/* A flag beside BLKTAP_OPEN_*: another image stands on this one, whose arguments
 * were not given for it alone. */
#define BT_OPEN_BELOW 0x10000u
/* Another: nobody will ask for its data, so an encrypted image needs no key. */
#define BT_OPEN_LOOK 0x20000u

/* Opens the node; what is below it is open. Plans it too (bt_node_plan). */
int bt_node_open(struct bt_node *node, uint32_t flags,
		 struct blktap_error **err);
/* Its trial, if it was on one, is over: see on_trial. */
void bt_node_start(struct bt_node *node);
/* Closes the node, which stays where it is; once. */
void bt_node_close(struct bt_node *node);
/* Closes and frees the node and all below it that only it refers to. Nothing is
 * in flight. NULL is fine. */
void bt_node_destroy(struct bt_node *node);
/* Computes limits and frame_sum from the lower nodes' and the class. -EINVAL and
 * a text where the class's answer makes no sense. */
int bt_node_plan(struct bt_node *node, struct blktap_error **err);

/* A number that stays the same as long as the data behind the edge comes from the
 * same nodes; those of pause class "none" come and go without changing it. It can
 * have changed only where env->links has. */
uint64_t bt_port_below(const struct bt_port *port);

/* Writes that the node has answered since its last flush may be gone, though it goes
 * on, and its next flush says that all is well: a server that died and is there
 * again. Who has the data elsewhere (a mirror) can make up for it. */
void bt_node_lose(struct bt_node *node);
/* How often that happened behind the edge; it changes only where env->losses does,
 * or the graph. */
uint64_t bt_port_losses(const struct bt_port *port);

/* A node that keeps in memory, which ends with the process, what is read and written
 * by the node's upper port `entry`; NULL where there is none. Of copies each
 * counts: who opens them anew may take that one for the others' equal. */
const struct bt_node *bt_node_find_volatile(const struct bt_node *node,
					    uint32_t entry);

/* A number for what the files behind the edge are now, which is another one when
 * somebody has written to them since; 0: that cannot be told, of a device, a server,
 * a part of a file, a format that writes to its file when it is opened. Asks the file
 * system: not while requests run. */
uint64_t bt_port_stamp(const struct bt_port *port);

/* What the node stands for: its first argument, e.g. the path of a file; its name
 * where it has none. The node's. */
const char *bt_node_path(const struct bt_node *node);
/* See the class's relock; 0 where it has no files. */
int bt_node_relock(struct bt_node *node, enum bt_lock_mode mode,
		   struct blktap_error **err);

/* ---- ports ---------------------------------------------------------------- */

/* name is not copied. A top edge (upper NULL) needs done before anything is submitted.
 * There is nothing to be freed; but link it to NULL before its memory goes. */
void bt_port_init(struct bt_port *port, struct bt_env *env,
		  struct bt_node *upper, const char *name);
/* Points the edge at lower (NULL: nowhere), at its first upper port. What is in
 * flight through it ends in the node it entered. Nothing is known any more of
 * what is durable. */
void bt_port_link(struct bt_port *port, struct bt_node *lower);

/* The request is the edge's from here on, and comes back once: to the upper node's
 * complete, to req->done where it is a child of that node, or to port->done at a top
 * edge. From under a node's callback that is later; else it may be inside of this.
 * The edge is linked, or held. */
void bt_port_submit(struct bt_port *port, struct bt_request *req);
/* Whether it is certain that all that was written through the edge is durable. */
bool bt_port_is_flushed(const struct bt_port *port);

/* Takes the requests that wait at the gate off the port, oldest first, for an
 * owner who fails them. */
void bt_port_take_held(struct bt_port *port, struct bt_list *out);
/* Submits what waits at the port, as far as nothing holds it. */
void bt_port_resubmit(struct bt_port *port);

/* The upper port of the node that has req by which it came, in cls->uppers. */
static inline uint32_t bt_request_entry(const struct bt_request *req)
{
	return req->top->port->entry;
}

/* Ends the stay of req in the node that has it; error is 0 or a negative errno.
 * The node must not touch it after, nor its frame. Once for each time that submit or
 * complete was called with it, unless it was lent on. */
void bt_request_complete(struct bt_request *req, int error);

/* park.c: a request that failed in node waits at the port, which it has left;
 * false where it is to go up. */
bool bt_port_park(struct bt_port *port, struct bt_node *node,
		  struct bt_request *req);
/* It waits for a node that is stopped; false where it is not to wait, see
 * gives_up. */
bool bt_port_wait(struct bt_port *port, struct bt_request *req);
/* The port's requests have gone elsewhere, or it goes itself. */
void bt_port_forget(struct bt_port *port);
/* From now on; it is not stopped any more. Then bt_env_unpark. */
void bt_node_set_on_error(struct bt_node *node, enum bt_on_error on_error);
/* Sends down all that is parked; what its node still stops waits on. */
void bt_env_unpark(struct bt_env *env);
/* Whether the request's error may be gone when it is tried again: not where it
 * says what the request is worth, and not of a flush that failed with EIO, after
 * which a second one would say that all is well. */
bool bt_request_may_pass(const struct bt_request *req);

static inline uint64_t bt_port_in_flight(const struct bt_port *port)
{
	return port->entered[BT_FLOW_READ] - port->left[BT_FLOW_READ] +
	       port->entered[BT_FLOW_WRITE] - port->left[BT_FLOW_WRITE];
}

/* ---- the gate ------------------------------------------------------------- */

/* Holds edges, waits until all that entered them has left, and tells. */
struct bt_gate {
	struct bt_env *env;
	struct bt_port **ports; /* the caller's, until release */
	uint32_t count;
	uint32_t hold;
	bool is_held;
	bool told;
	struct bt_timer timer;
	struct bt_work tell;
	int result;
	/* error 0: everything has left; -ETIMEDOUT: the deadline came first.
	 * Called once per hold, never inside bt_gate_hold. The gate stays held
	 * in both cases, until bt_gate_release. */
	void (*fn)(struct bt_gate *gate, int error);
	void *opaque;
};

void bt_gate_init(struct bt_gate *gate, struct bt_env *env);
/* Holds the edges, all or none. hold: BT_HOLD_*, what is to wait. timeout_ms 0: no
 * limit. -EBUSY where one is held already, or the gate itself is; -ENOMEM. ports and
 * fn's opaque must live until the release, and no longer. */
int bt_gate_hold(struct bt_gate *gate, struct bt_port **ports, uint32_t count,
		 uint32_t hold, uint32_t timeout_ms,
		 void (*fn)(struct bt_gate *gate, int error), void *opaque);
/* Lets the held requests go on, in order; some may be answered inside, and who is told
 * may hold the gate again. fn is not called any more. Harmless where nothing is held. */
void bt_gate_release(struct bt_gate *gate);
/* The edge is held no more, if it was: it is about to go. Nothing waits at it. */
void bt_gate_forget(struct bt_gate *gate, struct bt_port *port);
bool bt_gate_is_drained(const struct bt_gate *gate);
/* A request left an edge that the gate holds: port.c calls this. */
void bt_gate_check(struct bt_gate *gate);

/* The name of the node that has held the request longest: the lowest one on its
 * frames. "" where it is in none. */
const char *bt_request_where(const struct bt_request *req);

#endif
