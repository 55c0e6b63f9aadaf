/* SPDX-License-Identifier: BSD-3-Clause */
/* The server's life, and its listening socket. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/server.h"
#include "control/socket.h"
#include "util/checked.h"
#include "util/options.h"
#include "vbd/vbd.h"

#define DEFAULT_CONNECTIONS 256
#define DEFAULT_IDLE_MS 10000
#define ACCEPT_BATCH 16 /* in one turn */
#define ACCEPT_AGAIN_NS 100000000u
#define NS_PER_MS 1000000ull

/* Zero is 'as usual' in every field. */
void blktap_control_server_options_init_sized(
	struct blktap_control_server_options *options, size_t size)
{
	struct blktap_control_server_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* The oldest that has not sent its request: the others are owed an answer. */
bool bt_server_make_room(struct blktap_control_server *server)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &server->conns) {
		struct bt_conn *conn = bt_list_entry(pos, struct bt_conn, link);

		if (conn->state != BT_CONN_READ)
			continue;
		bt_log(server->log, BLKTAP_LOG_INFO,
		       "control: too many connections: the oldest idle one "
		       "ends");
		bt_conn_destroy(conn);
		return true;
	}
	return false;
}

/* The listener stays; connections wait in its backlog, and a timer looks again,
 * as nothing tells when there is room. */
static void pause_accepting(struct blktap_control_server *server)
{
	bt_watch_set_events(&server->watch, 0);
	bt_timer_arm(server->loop, &server->accept_again,
		     bt_loop_refresh(server->loop) + ACCEPT_AGAIN_NS);
}

/* The listener may have gone meanwhile. */
static void on_accept_again(struct bt_timer *timer)
{
	struct blktap_control_server *server = bt_list_entry(
		timer, struct blktap_control_server, accept_again);

	if (server->fd >= 0)
		bt_watch_set_events(&server->watch, EPOLLIN);
}

/* A batch a turn, so that clients which come faster than they go do not keep
 * the disks from theirs. */
static void on_connect(struct bt_watch *watch, uint32_t events)
{
	struct blktap_control_server *server =
		bt_list_entry(watch, struct blktap_control_server, watch);
	int i, fd;

	for (i = 0; i < ACCEPT_BATCH && server->fd >= 0; i++) {
		if (server->conn_count >= server->max_connections &&
		    !bt_server_make_room(server)) {
			pause_accepting(server);
			return;
		}
		fd = accept4(server->fd, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			bt_conn_create(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* Out of descriptors or memory: whoever idles has to go. */
		if (errno != EAGAIN && !bt_server_make_room(server))
			pause_accepting(server);
		return;
	}
}

void bt_server_stop_listening(struct blktap_control_server *server)
{
	if (server->fd < 0)
		return;
	bt_timer_cancel(&server->accept_again);
	bt_watch_del(&server->watch);
	/* The name first: while it is there, connecting succeeds. */
	unlink(server->path);
	close(server->fd);
	server->fd = -1;
}

/* On failure nothing is left, neither name nor descriptor. */
static int start_listening(struct blktap_control_server *server,
			   struct blktap_error **err)
{
	int fd, rc;

	bt_rundir_control_path(&server->dir, server->pid, server->path);
	/* a name of our pid at which somebody answers: a tapdisk of another pid
	 * namespace in the same directory */
	rc = bt_socket_connect(server->path, &fd);
	if (!rc) {
		close(fd);
		rc = -EADDRINUSE;
	} else {
		rc = bt_socket_listen(server->path, &server->fd);
	}
	if (!rc) {
		rc = bt_watch_add(server->loop, &server->watch, server->fd,
				  EPOLLIN, on_connect);
		if (rc) {
			unlink(server->path);
			close(server->fd);
		}
	}
	if (!rc)
		return 0;
	server->fd = -1;
	return bt_fail(err, rc,
		       rc == -ENOSPC ? "make room on its file system" : NULL,
		       "%s: cannot listen: %s", server->path, STRERROR(rc));
}

/* All that destroy looks at. */
static void init(struct blktap_control_server *server,
		 struct blktap_context *context,
		 const struct blktap_control_server_options *options)
{
	server->context = context;
	server->loop = bt_context_get_loop(context);
	server->log = bt_context_get_log(context);
	server->pid = getpid();
	server->fd = -1;
	server->max_connections = options->max_connections
					  ? options->max_connections
					  : DEFAULT_CONNECTIONS;
	server->idle_ns = (options->idle_timeout_ms ? options->idle_timeout_ms
						    : DEFAULT_IDLE_MS) *
			  NS_PER_MS;
	bt_list_init(&server->conns);
	bt_list_init(&server->taps);
	bt_list_init(&server->ready);
	bt_work_init(&server->run, bt_command_run_ready);
	bt_timer_init(&server->accept_again, on_accept_again);
}

/* The dead are swept first: one of them may have had our pid, and its sockets
 * our names. */
int blktap_control_server_create(
	struct blktap_context *context,
	const struct blktap_control_server_options *options,
	struct blktap_control_server **out, struct blktap_error **err)
{
	struct blktap_control_server_options o;
	struct blktap_control_server *server;
	int rc;

	blktap_control_server_options_init(&o);
	if (options)
		memcpy(&o, options, bt_min_u64(options->size, sizeof(o)));
	server = calloc(1, sizeof(*server));
	if (!server)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	init(server, context, &o);
	rc = bt_rundir_init(&server->dir, o.rundir, err);
	if (!rc)
		rc = bt_rundir_make(&server->dir, err);
	if (!rc) {
		bt_rundir_sweep(&server->dir);
		rc = start_listening(server, err);
	}
	if (rc) {
		bt_rundir_fini(&server->dir);
		free(server);
		return rc;
	}
	*out = server;
	return 0;
}

/* A pause cannot be called back; its callback would find neither tap nor
 * connection. */
static bool no_pause_is_pending(void *opaque)
{
	struct blktap_control_server *server = opaque;
	struct bt_list *pos;

	bt_list_for_each (pos, &server->taps)
		if (bt_list_entry(pos, struct bt_tap, link)->pauser)
			return false;
	return true;
}

/* In this order: nobody comes in, nothing is under way, clients are cut off
 * without an answer, disks are closed with force, so that it ends. 0, or what
 * the first flush that failed said. */
int blktap_control_server_destroy(struct blktap_control_server *server)
{
	int rc, first = 0;

	if (!server)
		return 0;
	if (bt_loop_is_running(server->loop))
		return -EDEADLK;
	server->finishing = true;
	bt_server_stop_listening(server);
	/* A pause refers to its connection until it has ended. */
	bt_loop_run_until(server->loop, no_pause_is_pending, server, -1);
	bt_work_cancel(&server->run);
	while (!bt_list_empty(&server->conns))
		bt_conn_destroy(
			bt_list_first(&server->conns, struct bt_conn, link));
	while (!bt_list_empty(&server->taps)) {
		struct bt_tap *tap =
			bt_list_first(&server->taps, struct bt_tap, link);

		rc = bt_tap_close(tap, true, NULL);
		if (!first)
			first = rc;
		bt_tap_detach(server, tap, true);
	}
	bt_work_cancel(&server->run);
	bt_rundir_fini(&server->dir);
	free(server);
	return first;
}

const char *blktap_control_server_get_path(
	const struct blktap_control_server *server)
{
	return server->path;
}

/* Who has not sent a request is owed nothing. */
bool blktap_control_server_is_finished(
	const struct blktap_control_server *server)
{
	struct bt_list *pos;

	if (!server->finishing)
		return false;
	bt_list_for_each (pos, &server->conns)
		if (bt_list_entry(pos, struct bt_conn, link)->state !=
		    BT_CONN_READ)
			return false;
	return true;
}
