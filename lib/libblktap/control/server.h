/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the tapdisk's side; only its own files include it.
 *
 * A connection carries one request:
 *
 *   READ     bytes of the request arrive; too slow, or crowded out, and it ends
 *   QUEUED   on server->ready or on its tap's list, waiting for its turn
 *   RUNNING  its command is at work
 *   WRITE    the answer leaves; too slow, and it ends
 *
 * A command that may wait runs behind the loop's turn, one at a time; meanwhile
 * the loop goes on, so the disks and the commands that do not wait do, too. While
 * a tap is busy, other commands for it queue on it, in order. A client that
 * leaves while its request is queued takes it along. */
#ifndef BT_CONTROL_SERVER_H
#define BT_CONTROL_SERVER_H

#include <blktap/control.h>
#include <blktap/job.h>
#include <blktap/nbd.h>
#include <blktap/ring.h>

#include "control/legacy.h"
#include "control/rundir.h"
#include "control/wire.h"
#include "core/log.h"
#include "loop/loop.h"
#include "util/strbuf.h"

enum bt_next {
	BT_NEXT_RUN, /* its command */
	BT_NEXT_UNDO_PAUSE, /* it left, and its pause succeeded */
	BT_NEXT_CLOSE, /* its disk is drained */
};

/* A minor that is attached. */
struct bt_tap {
	struct bt_list link; /* in server->taps, newest first */
	int minor;
	int lock_fd; /* on its mark */
	/* what is to be in the mark of the minor; written with each change
	 * where the kernel has the minor, too */
	struct bt_mark mark;
	/* so that `list` can tell one that was closed from one that never was
	 * open */
	bool was_open;
	bool busy; /* a command is at work on it */
	/* its request has state RUNNING, so it is not freed while it stands
	 * here */
	struct bt_conn *pauser; /* of these, the one that drains it */
	/* by queue_link; they go to server->ready when the tap is not busy any
	 * more */
	struct bt_list waiting; /* connections, oldest first */
	struct blktap_disk *disk; /* NULL: no image is open */
	struct blktap_nbd_server *nbd;
	struct blktap_nbd_server *tcp; /* or NULL */
	int leaving; /* of these, how many wait for their clients' end */
	void (*left)(struct bt_tap *tap); /* when it is none */
	bool still; /* bt_tap_hand_over: its pause has ended, */
	int still_error; /* with this */
	struct blktap_job *job; /* the last one of the disk, or NULL */
	struct blktap_ring *ring; /* or NULL */
	struct bt_legacy legacy; /* what the disk was opened with */
	struct bt_list exports; /* of its graph, exports.c */
};

struct blktap_control_server {
	struct blktap_context *context;
	struct bt_loop *loop;
	const struct bt_log *log;
	struct bt_rundir dir;
	char path[BT_SUN_PATH];
	pid_t pid;
	uint32_t max_connections;
	uint64_t idle_ns;

	int fd; /* -1: not listening */
	struct bt_watch watch;
	struct bt_timer accept_again; /* after EMFILE and its like */
	struct bt_list conns; /* oldest first */
	uint32_t conn_count;
	struct bt_list taps;
	struct bt_list ready; /* connections, by queue_link */
	struct bt_work run;
	bool finishing; /* no new connections; ends when all are answered */
};

enum bt_conn_state {
	BT_CONN_READ,
	BT_CONN_QUEUED,
	BT_CONN_RUNNING,
	BT_CONN_WRITE
};

struct bt_conn {
	struct bt_list link; /* in server->conns */
	/* QUEUED: on server->ready or on a tap's waiting; else on none */
	struct bt_list queue_link;
	struct blktap_control_server *server;
	struct bt_watch watch;
	struct bt_timer timer;
	enum bt_conn_state state;
	bool gone; /* the client left */
	enum bt_next next; /* what to do when server->ready comes to it */

	/* need bytes, of which have are there; wiped before it is freed */
	uint8_t *in; /* the message, then its trailer */
	size_t have, need;
	struct bt_message msg;

	/* the whole answer, of which sent bytes are out */
	struct bt_strbuf out;
	size_t sent;
};

/* ---- connections (conn.c) ------------------------------------------------- */

/* Takes over fd in every case. */
void bt_conn_create(struct blktap_control_server *server, int fd);
void bt_conn_destroy(struct bt_conn *conn);
/* Adds an answer of that type; length bytes follow it. */
void bt_conn_reply(struct bt_conn *conn, const struct bt_message *msg,
		   const void *trailer, size_t length);
/* Adds "it went well". */
void bt_conn_ok(struct bt_conn *conn, uint16_t type);
/* Adds an error; takes err over, which may be NULL. */
void bt_conn_error(struct bt_conn *conn, int rc, struct blktap_error *err);
/* Sends what was added; the caller must not touch conn after. */
void bt_conn_answer(struct bt_conn *conn);
/* The trailer of its request. */
const uint8_t *bt_conn_trailer(const struct bt_conn *conn, size_t *length);

/* ---- commands (command.c, verb.c) ----------------------------------------- */

/* A request is complete: runs its command, or queues it. */
void bt_command_start(struct bt_conn *conn);
/* server->run. */
void bt_command_run_ready(struct bt_work *work);
/* The tapdisk ends once all are answered. */
void bt_command_finish(struct blktap_control_server *server);
/* The tap is not busy any more. */
void bt_command_wake(struct blktap_control_server *server, struct bt_tap *tap);

/* ---- exports (exports.c) --------------------------------------------------- */

struct bt_json;
/* Serves what the graph of the tap's disk exports now, and that alone. Those that
 * cannot be are left out: 0, or the errno of the first. */
int bt_exports_serve(struct blktap_control_server *server, struct bt_tap *tap,
		     struct blktap_error **err);
/* 0, or what the first flush said that failed; they are closed all the same. */
int bt_exports_close(struct bt_tap *tap);
/* Waits; the same, and nothing has changed. */
int bt_exports_flush(struct bt_tap *tap);
void bt_exports_put(const struct bt_tap *tap, struct bt_json *json);

struct bt_verb {
	const char *name;
	/* Adds its JSON to json, or returns a negative errno. tap is NULL where
	 * the request names no minor. */
	int (*fn)(struct bt_conn *conn, struct bt_tap *tap,
		  struct bt_strbuf *json, struct blktap_error **err);
	/* else it may name none, and answers for the whole tapdisk */
	bool needs_tap;
	bool waits; /* runs behind the turn */
	const char *help;
};

/* NULL where the request has no such parameter. */
const char *bt_verb_param(const struct bt_conn *conn, const char *key);
/* The disk of tap has no image. */
int bt_verb_no_image(const struct bt_tap *tap, struct blktap_error **err);
/* job.c */
int bt_verb_job(struct bt_conn *conn, struct bt_tap *tap, struct bt_strbuf *out,
		struct blktap_error **err);
/* NULL where there is none. */
const struct bt_verb *bt_verb_find(const char *name);
/* The answer to an EXT request whose verb is known. */
void bt_verb_run(struct bt_conn *conn, const struct bt_verb *verb,
		 struct bt_tap *tap);

/* verb-mason.c */
int bt_verb_mason_apply(struct bt_conn *conn, struct bt_tap *tap,
			struct bt_strbuf *out, struct blktap_error **err);
int bt_verb_mason_undo(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err);
int bt_verb_mason_dump(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err);
int bt_verb_mason_dot(struct bt_conn *conn, struct bt_tap *tap,
		      struct bt_strbuf *out, struct blktap_error **err);
int bt_verb_mason_deps(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err);

/* ---- taps (tap.c, tap-tcp.c) ---------------------------------------------- */

/* NULL where this tapdisk has not got the minor. */
struct bt_tap *bt_tap_find(struct blktap_control_server *server, int minor);
/* Takes the minor's lock, and keeps it until bt_tap_detach. -EEXIST where this tapdisk
 * has it already; else as bt_minor_lock. */
int bt_tap_attach(struct blktap_control_server *server, int minor,
		  struct blktap_error **err);
/* Frees the tap. remove: and its minor. No image is open. */
void bt_tap_detach(struct blktap_control_server *server, struct bt_tap *tap,
		   bool remove);
int bt_tap_open(struct blktap_control_server *server, struct bt_tap *tap,
		const struct bt_wire_params *params, const uint8_t *trailer,
		size_t length, struct blktap_error **err);
/* *to is a copy of from; NULL takes it away. -ENOMEM. */
int bt_tap_set_name(char **to, const char *from);

/* How bt_tap_serve_tcp (tap-tcp.c) has it served: as in
 * blktap_control_open_options. */
struct bt_tap_tls {
	const char *mode, *certificates, *psk;
	bool verify_peer;
};
/* Offers the open disk on "HOST:PORT" too. */
int bt_tap_serve_tcp(struct bt_tap *tap, const char *address,
		     const struct bt_tap_tls *tls, struct blktap_error **err);
/* The mark names no address any more; it is not written here. */
void bt_tap_forget_tcp(struct bt_tap *tap);
/* For blktap_job_start; opaque is the tap. */
void bt_tap_job_ended(void *opaque, int error, const char *message);
/* Closes the disk and leaves its block device, with the requests that come, to
 * the tapdisk that opens it next. Waits; where *gone is true by then, who asked
 * for it has left, and the disk goes on. */
int bt_tap_hand_over(struct bt_tap *tap, const bool *gone,
		     struct blktap_error **err);
/* Ends the connections of an open disk's clients, and calls left when they have
 * gone; it waits for nothing. */
void bt_tap_leave(struct bt_tap *tap, void (*left)(struct bt_tap *tap));
/* Waits. force: requests that cannot be finished are failed. */
int bt_tap_close(struct bt_tap *tap, bool force, struct blktap_error **err);
/* Opens the image again; params and what follows them as in the message, or
 * NULL. */
int bt_tap_resume(struct blktap_control_server *server, struct bt_tap *tap,
		  const struct bt_wire_params *params, const uint8_t *trailer,
		  struct blktap_error **err);
/* BLKTAP_STATE_* */
uint32_t bt_tap_get_state(const struct bt_tap *tap);

/* ---- the server (server.c) ------------------------------------------------ */

/* No new connections; the name goes away. */
void bt_server_stop_listening(struct blktap_control_server *server);
/* Has a place for another connection: drops one that idles where there is none.
 */
bool bt_server_make_room(struct blktap_control_server *server);

#endif
