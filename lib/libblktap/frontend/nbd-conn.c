/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection's life: stages, what it waits for, its end, its share of
 * memory.
 *
 * Why one that is not DEAD gets its next event, in each case:
 *
 *   it is read from            the descriptor (watch_wanted)
 *   blocked                    the descriptor
 *   stalled, has requests out  each of them, when it ends (bt_nbd_done)
 *   stalled for memory         whoever gives some back, or the starve timer
 *   HAGGLE, DRAIN              its own timer as well
 *
 * A stall without any of these would leave a client without an answer for ever. */
#include "frontend/nbd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/log.h"
#include "tls/tls.h"

#define SOCKET_BUFFER (1 << 20) /* so that a batch of replies fits */
#define SHARE_MIN (512u << 10) /* of total_memory, that none can take away */
#define STARVE_NS 1000000000ULL
#define SLOW_TIMES 3u /* stuck_ns, that one message may take */

/* ---- the end -------------------------------------------------------------- */

/* What was not received whole was not asked for. */
static void drop_parts(struct bt_nbd_conn *conn)
{
	if (conn->filling)
		bt_nbd_release(conn->filling);
	if (conn->skipping)
		bt_nbd_release(conn->skipping);
	conn->filling = NULL;
	conn->skipping = NULL;
	conn->stalled = false;
	conn->head = conn->tail;
	bt_nbd_arena_rest(conn);
}

/* Nothing more is read; what is in flight is answered, and then it ends. */
void bt_nbd_conn_drain(struct bt_nbd_conn *conn, const char *why)
{
	struct blktap_nbd_server *server = conn->server;

	if (conn->stage >= BT_NBD_DRAIN)
		return;
	bt_log(server->log, BLKTAP_LOG_DEBUG, "nbd: client leaves: %s", why);
	conn->stage = BT_NBD_DRAIN;
	drop_parts(conn);
	conn->progress_ns = bt_loop_now(server->loop);
	bt_timer_cancel(&conn->timer);
	bt_timer_arm(server->loop, &conn->timer,
		     conn->progress_ns + server->stuck_ns);
	bt_nbd_conn_defer(conn);
}

/* Nothing is sent any more, either. The memory of requests in flight is the disk's:
 * the connection is freed when the last of them is back (settle). */
void bt_nbd_conn_kill(struct bt_nbd_conn *conn, const char *why)
{
	if (conn->stage == BT_NBD_DEAD)
		return;
	bt_log(conn->server->log, BLKTAP_LOG_DEBUG, "nbd: client dropped: %s",
	       why);
	bt_nbd_tls_tell(conn);
	conn->stage = BT_NBD_DEAD;
	drop_parts(conn);
	while (!bt_list_empty(&conn->replies)) {
		struct bt_list *node = bt_list_pop(&conn->replies);

		bt_nbd_release(
			bt_list_entry(node, struct bt_nbd_request, req.link));
	}
	if (conn->arena)
		bt_nbd_arena_unref(conn, conn->arena);
	conn->arena = NULL;
	bt_timer_cancel(&conn->timer);
	bt_watch_del(&conn->watch);
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	bt_tls_destroy(conn->tls);
	conn->tls = NULL;
	bt_nbd_conn_defer(conn);
}

/* Closing a socket with unread input makes the peer see an error instead of the
 * last replies. A few reads, and no more: a client that goes on sending must
 * not hold us. */
static void close_gently(struct bt_nbd_conn *conn)
{
	uint8_t dump[4096];
	int i;

	if (conn->fd < 0)
		return;
	bt_watch_del(&conn->watch);
	shutdown(conn->fd, SHUT_WR);
	for (i = 0; i < 16; i++)
		if (recv(conn->fd, dump, sizeof(dump), 0) <= 0)
			break;
	close(conn->fd);
	conn->fd = -1;
}

/* Nothing is in flight, so requests hold neither pool nor arena. Others may
 * have waited for this one's place. */
static void conn_free(struct bt_nbd_conn *conn)
{
	struct blktap_nbd_server *server = conn->server;
	int i;

	close_gently(conn);
	if (conn->tls && !conn->tls_ended)
		return; /* until what is in its buffers is out */
	bt_tls_destroy(conn->tls);
	if (conn->arena)
		bt_nbd_arena_unref(conn, conn->arena);
	bt_work_cancel(&conn->work);
	bt_timer_cancel(&conn->timer);
	bt_list_del(&conn->starving);
	for (i = 0; i < 2; i++)
		if (conn->pools[i])
			bt_vbd_pool_destroy(server->disk, conn->pools[i]);
	bt_nbd_haggle_destroy(conn->haggle);
	bt_list_del(&conn->link);
	server->conn_count--;
	bt_nbd_meta_forget(conn);
	free(conn);
	bt_nbd_cache_trim_soon(&server->cache);
	bt_nbd_accept_resume(server);
	bt_nbd_server_count(server);
}

/* ---- memory --------------------------------------------------------------- */

/* It has something of ours and neither takes nor sends. */
static bool is_stuck(const struct bt_nbd_conn *conn, uint64_t now)
{
	return (conn->blocked || conn->filling) &&
	       now - conn->progress_ns > conn->server->stuck_ns;
}

/* A byte now and then is no progress where others wait. */
static bool is_slow(const struct bt_nbd_conn *conn, uint64_t now)
{
	return (conn->blocked || conn->filling) &&
	       now - conn->whole_ns > SLOW_TIMES * conn->server->stuck_ns;
}

/* All that wait try again; for whom it is too little still, he starves again. */
static void wake_starved(struct blktap_nbd_server *server)
{
	while (bt_unlikely(!bt_list_empty(&server->starved))) {
		struct bt_nbd_conn *conn = bt_list_first(
			&server->starved, struct bt_nbd_conn, starving);

		bt_list_del(&conn->starving);
		bt_nbd_conn_defer(conn);
	}
}

/* Others wait for memory: who holds some and does not move loses it. What the system
 * had not may be there by now, too. */
static void on_starve_timer(struct bt_timer *timer)
{
	struct blktap_nbd_server *server =
		bt_container_of(timer, struct blktap_nbd_server, starve_timer);
	uint64_t now = bt_loop_now(server->loop);
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &server->conns) {
		struct bt_nbd_conn *conn =
			bt_list_entry(pos, struct bt_nbd_conn, link);

		if (conn->memory > SHARE_MIN &&
		    (is_stuck(conn, now) || is_slow(conn, now)))
			bt_nbd_conn_kill(conn, "stuck while memory is short");
	}
	wake_starved(server);
}

void bt_nbd_conn_init_memory(struct blktap_nbd_server *server)
{
	bt_list_init(&server->starved);
	bt_timer_init(&server->starve_timer, on_starve_timer);
}

void bt_nbd_starve(struct bt_nbd_conn *conn)
{
	struct blktap_nbd_server *server = conn->server;

	if (bt_list_empty(&conn->starving))
		bt_list_add_tail(&server->starved, &conn->starving);
	if (server->starve_timer.loop)
		return;
	bt_timer_arm(server->loop, &server->starve_timer,
		     bt_loop_now(server->loop) + STARVE_NS);
}

/* A client's first request is always taken, or it would wait for ever. Twice:
 * against the client's own allowance, and against that of all clients, of which
 * SHARE_MIN is certain to each. */
bool bt_nbd_charge(struct bt_nbd_conn *conn, uint64_t bytes)
{
	const struct blktap_nbd_server *server = conn->server;

	/* one request of its own may wait for nothing, and so must not be
	 * refused */
	if (conn->held > 1 && conn->memory + bytes > server->client_memory)
		return false;
	if (conn->memory + bytes > SHARE_MIN &&
	    server->cache.used + bytes > server->total_memory) {
		bt_nbd_starve(conn);
		return false;
	}
	conn->memory += bytes;
	return true;
}

void bt_nbd_discharge(struct bt_nbd_conn *conn, uint64_t bytes)
{
	struct blktap_nbd_server *server = conn->server;

	conn->memory -= bytes;
	wake_starved(server);
}

/* ---- events --------------------------------------------------------------- */

/* Sends, and goes on with what had to wait for the memory of replies. The
 * stages differ; who calls settles afterwards. */
static void step(struct bt_nbd_conn *conn)
{
	if (conn->stage == BT_NBD_HAGGLE) {
		bt_nbd_haggle_run(conn);
		return;
	}
	if (!conn->blocked)
		bt_nbd_send(conn);
	if (conn->stage != BT_NBD_TRANSMIT || !conn->stalled)
		return;
	conn->stalled = false;
	bt_nbd_parse(conn);
	bt_nbd_arena_rest(conn);
}

/* Replies go out before requests come in, since they give memory back. A hang-up is
 * found by receiving or sending. Only settle, the last call, may free conn. */
static void on_event(struct bt_watch *watch, uint32_t events)
{
	struct bt_nbd_conn *conn =
		bt_container_of(watch, struct bt_nbd_conn, watch);

	if (events & ~(uint32_t)EPOLLIN)
		conn->blocked = false;
	if (conn->stage == BT_NBD_HAGGLE || events & ~(uint32_t)EPOLLIN)
		step(conn);
	if (conn->stage == BT_NBD_TRANSMIT && events & ~(uint32_t)EPOLLOUT) {
		if (!conn->stalled)
			bt_nbd_receive(conn);
		else
			conn->muted = true;
	}
	bt_nbd_conn_settle(conn);
}

static void on_work(struct bt_work *work)
{
	struct bt_nbd_conn *conn =
		bt_container_of(work, struct bt_nbd_conn, work);

	step(conn);
	bt_nbd_conn_settle(conn);
}

/* HAGGLE: the clock of the handshake. Later: that of the last replies, which is
 * wound again as long as some go out. */
static void on_timer(struct bt_timer *timer)
{
	struct bt_nbd_conn *conn =
		bt_container_of(timer, struct bt_nbd_conn, timer);
	struct blktap_nbd_server *server = conn->server;

	if (conn->stage == BT_NBD_HAGGLE)
		bt_nbd_conn_kill(conn, "the handshake took too long");
	else if (is_stuck(conn, bt_loop_now(server->loop)))
		bt_nbd_conn_kill(conn, "does not take its last replies");
	else
		bt_timer_arm(server->loop, timer,
			     bt_loop_now(server->loop) + server->stuck_ns);
	bt_nbd_conn_settle(conn);
}

/* Work is done once however often it is asked for, so a turn has one send. */
void bt_nbd_conn_defer(struct bt_nbd_conn *conn)
{
	bt_loop_defer(conn->server->loop, &conn->work);
}

/* Nothing is read that could not be answered, nothing is waited for that nobody
 * would act on. */
static uint32_t wanted(const struct bt_nbd_conn *conn)
{
	switch (conn->stage) {
	case BT_NBD_HAGGLE:
		return conn->blocked ? EPOLLOUT : EPOLLIN;
	case BT_NBD_TRANSMIT:
		return (conn->muted ? 0 : (uint32_t)EPOLLIN) |
		       (conn->blocked ? (uint32_t)EPOLLOUT : 0);
	case BT_NBD_DRAIN:
		return conn->blocked ? EPOLLOUT : 0;
	case BT_NBD_DEAD:
		break;
	}
	return 0;
}

/* A descriptor nothing is wanted from is taken out: its end would be reported
 * again and again. A stalled connection keeps its interest in input until input
 * comes, since most stalls are over before. */
static int watch_wanted(struct bt_nbd_conn *conn)
{
	uint32_t events;

	if (!conn->stalled)
		conn->muted = false;
	events = wanted(conn);
	if (!events)
		bt_watch_del(&conn->watch);
	else if (conn->watch.loop)
		return bt_watch_set_events(&conn->watch, events);
	else
		return bt_watch_add(conn->server->loop, &conn->watch, conn->fd,
				    events, on_event);
	return 0;
}

/* The only place that frees: every event ends here. Requests in flight keep the
 * connection, whatever became of the socket. */
void bt_nbd_conn_settle(struct bt_nbd_conn *conn)
{
	if (conn->stage != BT_NBD_DEAD && watch_wanted(conn))
		bt_nbd_conn_kill(conn, "cannot be watched");
	if (conn->stage < BT_NBD_DRAIN || conn->in_flight)
		return;
	if (conn->stage == BT_NBD_DEAD || bt_list_empty(&conn->replies))
		conn_free(conn);
}

/* ---- the beginning -------------------------------------------------------- */

/* An idle client is a disk that is mounted somewhere, and may stay for ever. One
 * whose machine has gone is known by its silence when it is asked: after twenty
 * minutes, about as long as the kernel sends again what nobody acknowledges, and
 * not the two hours that are usual. */
static void keep_alive(int fd)
{
	int one = 1, idle_s = 600, step_s = 60, steps = 10;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &step_s, sizeof(step_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &steps, sizeof(steps));
}

static void tune(struct bt_nbd_conn *conn)
{
	int one = 1, size = SOCKET_BUFFER;

	/* a socket that refuses is slower, not wrong */
	if (conn->is_tcp) {
		setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one,
			   sizeof(one));
		keep_alive(conn->fd);
	} else if (setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size,
			      sizeof(size))) {
		/* as much as an ordinary user may have */
		setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &size,
			   sizeof(size));
	}
}

/* settle decides whether it lives, as after every event: it may be gone when
 * this returns. */
void bt_nbd_conn_create(struct blktap_nbd_server *server, int fd, bool is_tcp)
{
	struct bt_nbd_conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->fd = fd;
	conn->is_tcp = is_tcp;
	conn->appetite = BT_NBD_ARENA_ROOM;
	bt_list_init(&conn->replies);
	bt_list_init(&conn->starving);
	bt_work_init(&conn->work, on_work);
	bt_timer_init(&conn->timer, on_timer);
	/* from here on settle may free it */
	bt_list_add_tail(&server->conns, &conn->link);
	server->conn_count++;
	if (bt_nbd_haggle_create(conn) ||
	    bt_timer_arm(server->loop, &conn->timer,
			 bt_loop_now(server->loop) + server->handshake_ns))
		bt_nbd_conn_kill(conn, "out of memory");
	else
		bt_nbd_haggle_run(conn);
	bt_nbd_conn_settle(conn);
}

/* Only now does a client cost more than a handshake. */
void bt_nbd_conn_transmit(struct bt_nbd_conn *conn)
{
	bt_nbd_haggle_destroy(conn->haggle);
	conn->haggle = NULL;
	bt_timer_cancel(&conn->timer);
	if (bt_vbd_pool_create(conn->server->disk, BT_NBD_POOL_SMALL,
			       sizeof(struct bt_nbd_request),
			       &conn->pools[0])) {
		bt_nbd_conn_kill(conn, "out of memory");
		return;
	}
	tune(conn);
	conn->stage = BT_NBD_TRANSMIT;
}
