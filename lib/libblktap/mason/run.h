/* SPDX-License-Identifier: BSD-3-Clause */
/* A graph that runs: the nodes of one file, opened as far as the disks that are
 * in use reach them. A node that two disks reach is one node, opened once.
 *
 * What lies above (disks) and beside (the opening of images) is known by
 * callbacks only. All of it runs outside of the loop's turn. */
#ifndef BT_MASON_RUN_H
#define BT_MASON_RUN_H

#include "mason/file.h"

struct bt_run;

struct bt_front;

/* Flags of bt_run_ops.prepare. */
#define BT_RUN_SHRINK 0x1u /* the disk may become smaller */
/* Of bt_apply_options: what goes may fail its last flush. */
#define BT_RUN_LOSS 0x2u

/* What a run asks of who owns it. Of the fronts: */
struct bt_run_ops {
	/* Whether it can be edited now. */
	int (*check)(struct bt_front *front, struct blktap_error **err);
	/* Whether it could go on with root and its limits; makes room for them.
	 * Nothing changes. */
	int (*prepare)(struct bt_front *front, const struct bt_node *root,
		       bool read_only, uint32_t flags,
		       struct blktap_error **err);
	/* Where prepare failed and set wants_narrow: requests are cut as the new
	 * graph needs them, and none of the others is under way. Waits. Undone
	 * by widen, where the edit is. */
	int (*narrow)(struct bt_front *front, uint32_t timeout_ms,
		      struct blktap_error **err);
	void (*widen)(struct bt_front *front);
	/* It stands on root from now on; does not fail, allocate or wait. */
	void (*commit)(struct bt_front *front, struct bt_node *root);
	/* The new graph has it no more: nothing is in flight, and its top leads
	 * nowhere. What waits there and what comes fails; it stands in no run.
	 * Does not fail, allocate or wait. */
	void (*gone)(struct bt_front *front);
	/* The edit is over; text describes it. */
	void (*done)(struct bt_front *front, uint64_t pause_ns,
		     const char *text);
	/* The node that has its oldest request; "". */
	const char *(*where)(const struct bt_front *front);
	/* An edit is about to do a step, "open a", "gate", "rename": 0, or a
	 * negative errno as if the step had failed. For tests; NULL: none. */
	int (*step)(void *opaque, const char *name);
	void *step_opaque;

	/* Opens a driver's node, with the images it stands on where the graph
	 * links none to it. */
	int (*open_leaf)(struct bt_node *node, uint32_t flags,
			 struct blktap_error **err);
	blktap_mason_class_fn *next_class;
};

/* A disk's place in a run; embedded in the disk. */
struct bt_front {
	struct bt_list link; /* in run->fronts */
	struct bt_run *run; /* NULL: none */
	char *name;
	/* an edit changes it with the graph */
	uint32_t index; /* of its node in the graph */
	uint32_t flags; /* BLKTAP_OPEN_* */
	bool read_only;
	bool may_go; /* an edit may leave it out, while it is in use */
	bool wants_narrow; /* see bt_run_ops */
	/* the owner's port; its gate is taken by edits */
	struct bt_port *top;
	void *owner;
};

struct bt_run {
	struct bt_list link; /* the owner's */
	struct bt_env *env;
	const struct bt_run_ops *ops;
	char *path; /* of its file, resolved: what it is known by */
	/* owned, and exchanged by an edit; nodes is by its graph's indices */
	struct bt_mason_file *file;
	struct bt_node **nodes; /* by index in the graph; NULL: not in use */
	struct bt_list fronts;
	/* of the graph that runs; 1 where no state is on disk */
	uint64_t generation;
	bool busy; /* an edit is under way */
	int lock_fd; /* from bt_state_write to its end: on the file; or -1 */
	bool unsettled; /* which generation a power cut would find, see state.c */
	/* of former graphs: closed when the last request that names them is
	 * gone, see retire.c; room for all that the next edit may retire is
	 * reserved before it, since retiring must not fail */
	struct bt_node **dying;
	uint32_t dying_count;
	struct bt_timer sweep;
};

/* Takes file over, on failure too. */
int bt_run_create(struct bt_env *env, const struct bt_run_ops *ops,
		  const char *path, struct bt_mason_file *file,
		  struct bt_run **out, struct blktap_error **err);
/* No front is in it. NULL is fine. */
void bt_run_destroy(struct bt_run *run);

/* Opens what the disk called name reaches; NULL: the only one there is. front is
 * zeroed, but for top, flags and owner. *root is where its requests go; its edge
 * is the caller's to link, and then bt_run_link. */
int bt_run_enter(struct bt_run *run, struct bt_front *front, const char *name,
		 struct bt_node **root, struct blktap_error **err);
/* To be called after the front's top was linked to root: the upper port. */
void bt_run_link(struct bt_front *front);
/* The front is about to be flushed for the last time: what stays in use by
 * others is not told that it is the last. */
void bt_run_leaving(struct bt_front *front);
/* The run's fronts know it no more. */
void bt_run_forget(struct bt_front *front);
/* The front goes, and what it sent does not wait for a node that is stopped or tried
 * again: it goes down once more and ends. What others sent waits on. */
void bt_run_give_up(struct bt_front *front);
/* The same, and what nodes that others reach as well send on their own account, for
 * whomever: where the front's requests wait for that. */
void bt_run_give_up_shared(struct bt_front *front);
/* Closes what only this front reached. Its top leads nowhere, and nothing is in
 * flight. The run itself stays. */
void bt_run_leave(struct bt_front *front);

/* live[index] for all that the fronts of the run reach; less: NULL or one that
 * does not count. */
void bt_run_reach(const struct bt_run *run, const struct bt_front *less,
		  const struct bt_mason_graph *graph, bool *live);

/* dump.c: the graph that runs as a file, whole and by itself. */
struct bt_strbuf;
void bt_run_dump(const struct bt_run *run, struct bt_strbuf *out);

/* The running node of that name, or NULL. */
struct bt_node *bt_run_find(const struct bt_run *run, const char *name);

/* run-node.c: makes the node of g, links it to lowers (by index), and opens it
 * unless late. */
int bt_run_make(struct bt_run *run, const struct bt_mason_node *g,
		struct bt_node *const *lowers, uint32_t flags, bool open,
		struct bt_node **out, struct blktap_error **err);
int bt_run_open(struct bt_run *run, const struct bt_mason_node *g,
		struct bt_node *node, uint32_t flags,
		struct blktap_error **err);
/* How g is opened for a front's flags. */
uint32_t bt_run_flags(const struct bt_mason_node *g, uint32_t flags);
/* Frees a node but nothing that the graph has below it. */
void bt_run_drop(struct bt_node *node);

/* retire.c: room for count more nodes that go; then each goes by bt_run_retire,
 * and bt_run_sweep closes those that can be, now and later. */
int bt_run_reserve(struct bt_run *run, uint32_t count);
void bt_run_retire(struct bt_run *run, struct bt_node *node);
void bt_run_sweep(struct bt_run *run);
/* Serves the loop until one of those that go is closed; false where none was within
 * the time, or there is none. */
bool bt_run_await(struct bt_run *run, int timeout_ms);
void bt_run_retire_init(struct bt_run *run);
/* Waits for what is left. */
void bt_run_retire_all(struct bt_run *run);

#endif
