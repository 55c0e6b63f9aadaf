/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections come and go.
 *
 * What a loss means: the server may or may not have done what it had not
 * answered. Every request of NBD gives the same result when it is done twice, so
 * these are sent again, on another connection or on the next one, in their old
 * order. That is as good as new under two conditions that the protocol cannot
 * check, and the manual states:
 *
 *  - The server does no more of the old connection's requests once it has
 *    answered their copies. A server that died does not; one that was given up
 *    because it was silent might.
 *  - Writes that were answered but not flushed are still there. A process that
 *    died has left them to its system where it served a plain file; one that
 *    keeps tables in its memory (of a qcow2 or VHD image) has not, nor has a
 *    system that lost its power. `unflushed` says which it is: trust; fail, and
 *    the next FLUSH tells; or never, and all writes go with FUA. In any case
 *    bt_node_lose tells the nodes above. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "tls/tls.h"
#include "util/bytes.h"
#include "util/checked.h"

#define NS_PER_MS 1000000ull
#define ATTEMPT_NS (10000 * NS_PER_MS) /* to connect and shake hands */
#define FIRST_BACKOFF_NS (20 * NS_PER_MS) /* before the second try */
#define LAST_BACKOFF_NS (2000 * NS_PER_MS) /* before any later one, at most */
#define OUT_MAX (2 * NBD_STRING_MAX) /* the longest question has one name */
/* So many times its timeout has one request, while bytes move for it or others: a
 * slow line with all calls under way needs more than one. */
#define LATE_TIMES 10u

static const struct bt_log *log_of(const struct bt_nbdc *nbd)
{
	return nbd->node->env->log;
}

/* What a server says may hold anything; a line of log must not. */
static void tidy(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

/* Kept in the connection until somebody tells it: the first connection by an
 * error, others by the log (tell). The text of a server is cut to the buffer
 * and has no control characters. */
int bt_nbdc_fail(struct bt_nbdc_conn *conn, int code, const char *hint,
		 const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(conn->why, sizeof(conn->why),
			 "%.200s: ", conn->nbd->name);
	const char *text, *tls_hint;
	int error =
		conn->tls ? bt_tls_get_error(conn->tls, &text, &tls_hint) : 0;

	/* where TLS has failed, that is the reason for what is seen here */
	va_start(ap, fmt);
	if (error)
		snprintf(conn->why + n, sizeof(conn->why) - (size_t)n, "%s",
			 text);
	else
		vsnprintf(conn->why + n, sizeof(conn->why) - (size_t)n, fmt,
			  ap);
	va_end(ap);
	tidy(conn->why);
	conn->hint = error ? tls_hint : hint;
	conn->code = error ? error : code;
	return conn->code;
}

/* ---- addresses ------------------------------------------------------------ */

/* The structure is zero, so the path has its end. */
static void use_socket(struct bt_nbdc *nbd)
{
	struct sockaddr_un *addr = (void *)&nbd->addresses[0];

	addr->sun_family = AF_UNIX;
	/* its length was checked with the URI */
	strncpy(addr->sun_path, nbd->uri.socket, sizeof(addr->sun_path) - 1);
	nbd->address_len[0] = sizeof(*addr);
	nbd->address_count = 1;
}

/* At opening alone: a reconnect goes to the addresses found then, as a resolver
 * could block the loop. */
int bt_nbdc_resolve(struct bt_nbdc *nbd, struct blktap_error **err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list, *at;
	int rc;

	if (nbd->uri.socket) {
		use_socket(nbd);
		return 0;
	}
	rc = getaddrinfo(*nbd->uri.host ? nbd->uri.host : NULL, nbd->uri.port,
			 &hints, &list);
	if (rc)
		return bt_fail(err, -EHOSTUNREACH,
			       "a numeric address needs no resolver",
			       "%s: host '%s': %s", nbd->name, nbd->uri.host,
			       gai_strerror(rc));
	for (at = list; at && nbd->address_count < BT_NBDC_ADDRESSES;
	     at = at->ai_next) {
		memcpy(&nbd->addresses[nbd->address_count], at->ai_addr,
		       at->ai_addrlen);
		nbd->address_len[nbd->address_count++] = at->ai_addrlen;
	}
	freeaddrinfo(list);
	return 0;
}

/* ---- connecting ----------------------------------------------------------- */

/* Hints are static text. */
static int cannot_connect(struct bt_nbdc_conn *conn, int code)
{
	char reason[BT_STRERROR_MAX];

	return bt_nbdc_fail(conn, code, "is the server running?",
			    "cannot connect: %s", bt_strerror(code, reason));
}

/* All of a former connection's state goes: its buffer, its half sent question,
 * what its server said. */
int bt_nbdc_adopt(struct bt_nbdc_conn *conn, int fd)
{
	int on = 1;

	/* these fail on a unix socket, which needs neither */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	conn->fd = fd;
	conn->stage = BT_NBDC_GREETING;
	memset(&conn->info, 0, sizeof(conn->info));
	conn->pos = conn->end = 0;
	conn->out_len = conn->out_pos = 0;
	conn->has_replied = false;
	return 0;
}

/* Never waits: a TCP connection is CONNECTING until the socket can be written
 * to. */
static int dial(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc *nbd = conn->nbd;
	struct sockaddr *addr = (void *)&nbd->addresses[conn->address];
	int fd = socket(addr->sa_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return cannot_connect(conn, -errno);
	rc = connect(fd, addr, nbd->address_len[conn->address]) < 0 ? -errno
								    : 0;
	if (rc < 0 && rc != -EINPROGRESS) {
		close(fd);
		return cannot_connect(conn, rc);
	}
	bt_nbdc_adopt(conn, fd);
	if (rc < 0)
		conn->stage = BT_NBDC_CONNECTING;
	return 0;
}

/* From any stage, and harmless when DOWN. Calls that the connection had are
 * still on its lists: see bt_nbdc_reclaim. */
static void hang_up(struct bt_nbdc_conn *conn)
{
	bt_watch_del(&conn->watch);
	bt_work_cancel(&conn->send);
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	bt_nbdc_tls_stop(conn);
	/* the next try goes to the next address */
	if (conn->stage == BT_NBDC_CONNECTING)
		conn->address = (conn->address + 1) % conn->nbd->address_count;
	conn->stage = BT_NBDC_DOWN;
	conn->part = BT_NBDC_HEADER;
	conn->call = NULL;
	conn->blocked = false;
	conn->sent_bytes = 0;
}

/* For connecting and all of the handshake. */
uint64_t bt_nbdc_attempt_ns(const struct bt_nbdc *nbd)
{
	return bt_min_u64(nbd->timeout_ns, ATTEMPT_NS);
}

/* Of the first, which who opens it waits for. Not longer than who opens is
 * willing to wait in all. */
static uint64_t first_ns(const struct bt_nbdc *nbd)
{
	int ms = bt_env_open_ms(nbd->node->env);

	return ms < 0 ? bt_nbdc_attempt_ns(nbd)
		      : bt_min_u64(bt_nbdc_attempt_ns(nbd),
				   (uint64_t)ms * NS_PER_MS);
}

/* limit_ns: what it had, for the message. */
static int too_slow(struct bt_nbdc_conn *conn, uint64_t limit_ns)
{
	return bt_nbdc_fail(conn, -ETIMEDOUT, "is the server well?",
			    "%s within %llu ms",
			    conn->stage == BT_NBDC_CONNECTING ? "cannot connect"
							      : "no answer",
			    (unsigned long long)(limit_ns / NS_PER_MS));
}

/* ---- the first one, waited for -------------------------------------------- */

/* Up, or failed for good. */
static bool is_settled(void *opaque)
{
	const struct bt_nbdc_conn *conn = opaque;

	return conn->first_error || conn->stage == BT_NBDC_UP;
}

/* As on_event for later ones, but nothing is dropped: who waits takes the
 * error. */
static void on_first(struct bt_watch *watch, uint32_t events)
{
	struct bt_nbdc_conn *conn =
		bt_container_of(watch, struct bt_nbdc_conn, watch);

	(void)events;
	conn->first_error = bt_nbdc_progress(conn);
	if (is_settled(conn))
		bt_watch_del(watch);
	else
		bt_watch_set_events(watch, bt_nbdc_wants(conn));
}

/* Other disks of the loop are served meanwhile. The watch is for this call
 * alone: bt_nbdc_attach makes the lasting one. */
static int wait_in_loop(struct bt_nbdc_conn *conn, uint64_t due)
{
	struct bt_loop *loop = conn->nbd->loop;
	uint64_t now = bt_monotonic_ns();
	int rc, ms = now < due ? (int)((due - now) / NS_PER_MS) + 1 : 0;

	conn->first_error = bt_nbdc_progress(conn);
	if (is_settled(conn))
		return conn->first_error;
	rc = bt_watch_add(loop, &conn->watch, conn->fd, bt_nbdc_wants(conn),
			  on_first);
	if (!rc)
		rc = bt_loop_run_until(loop, is_settled, conn, ms);
	bt_watch_del(&conn->watch);
	if (rc == -ETIMEDOUT)
		return too_slow(conn, bt_nbdc_attempt_ns(conn->nbd));
	return rc ? cannot_connect(conn, rc) : conn->first_error;
}

/* poll(2) where the loop must not turn: inside of a callback. */
static int wait_up(struct bt_nbdc_conn *conn, uint64_t due)
{
	int rc;

	if (!bt_loop_is_running(conn->nbd->loop))
		return wait_in_loop(conn, due);

	while (!(rc = bt_nbdc_progress(conn)) && conn->stage != BT_NBDC_UP) {
		uint64_t now = bt_monotonic_ns();

		if (now >= due)
			return too_slow(conn, bt_nbdc_attempt_ns(conn->nbd));
		bt_nbdc_tls_poll(conn, (int)((due - now) / NS_PER_MS) + 1);
	}
	return rc;
}

/* Addresses in the resolver's order. A server that answered and then refused is
 * not asked again by another address: what it said is the error. */
int bt_nbdc_connect_first(struct bt_nbdc_conn *conn, struct blktap_error **err)
{
	struct bt_nbdc *nbd = conn->nbd;
	uint64_t due = bt_monotonic_ns() + first_ns(nbd);
	uint32_t i;
	int rc = -EHOSTUNREACH;

	for (i = 0; i < nbd->address_count; i++) {
		bool connected;

		conn->address = i;
		rc = dial(conn);
		if (!rc)
			rc = wait_up(conn, due);
		if (!rc)
			break;
		connected = conn->stage > BT_NBDC_CONNECTING;
		hang_up(conn);
		if (connected)
			break;
	}
	if (!rc)
		rc = bt_nbdc_info_check(conn);
	if (rc < 0)
		return bt_fail(err, conn->code, conn->hint, "%s", conn->why);
	nbd->info = conn->info;
	nbd->up++;
	conn->counted = true;
	rc = bt_nbdc_attach(conn);
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: cannot be watched",
				nbd->name)
		      : 0;
}

/* ---- all others, by the loop ---------------------------------------------- */

/* Without memory for a timer a lost connection would stay lost, so that is
 * told. */
static void arm(struct bt_nbdc_conn *conn, uint64_t due)
{
	if (bt_timer_arm(conn->nbd->loop, &conn->timer, due) < 0)
		bt_log(log_of(conn->nbd), BLKTAP_LOG_ERROR,
		       "%s: no memory for a timer", conn->nbd->name);
}

/* Whether it is still the same export is asked before any call goes there. */
static void became_up(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc *nbd = conn->nbd;
	int rc = bt_nbdc_info_check(conn);

	if (!rc)
		rc = bt_nbdc_info_compare(conn);
	if (rc < 0) {
		bt_nbdc_drop(conn);
		return;
	}
	bt_timer_cancel(&conn->timer);
	bt_timer_cancel(&nbd->deadline);
	if (*conn->told)
		bt_log(log_of(nbd), BLKTAP_LOG_INFO, "%s: connected again",
		       nbd->name);
	*conn->told = '\0';
	nbd->up++;
	conn->counted = true;
	nbd->failing = false;
	bt_watch_set_events(&conn->watch, bt_nbdc_wants(conn));
	bt_nbdc_pump(nbd);
	/* nothing may be in the buffer yet; what is gets its answer */
	bt_nbdc_receive(conn);
}

/* One event: what can be done without waiting. */
static void shake_hands(struct bt_nbdc_conn *conn)
{
	if (bt_nbdc_progress(conn) < 0)
		bt_nbdc_drop(conn);
	else if (conn->stage == BT_NBDC_UP)
		became_up(conn);
	else
		bt_watch_set_events(&conn->watch, bt_nbdc_wants(conn));
}

/* Errors and hang-ups of the socket are found by reading it. bt_nbdc_receive
 * comes last, as it may drop the connection. */
static void on_event(struct bt_watch *watch, uint32_t events)
{
	struct bt_nbdc_conn *conn =
		bt_container_of(watch, struct bt_nbdc_conn, watch);

	if (conn->stage != BT_NBDC_UP) {
		shake_hands(conn);
		return;
	}
	if (events & EPOLLOUT) {
		conn->blocked = false;
		bt_watch_set_events(watch, bt_nbdc_wants(conn));
		bt_loop_defer(conn->nbd->loop, &conn->send);
	}
	if (events & ~(uint32_t)EPOLLOUT)
		bt_nbdc_receive(conn);
}

/* Where it cannot be watched, the connection is of no use. */
int bt_nbdc_attach(struct bt_nbdc_conn *conn)
{
	return bt_watch_add(conn->nbd->loop, &conn->watch, conn->fd,
			    bt_nbdc_wants(conn), on_event);
}

/* A failure is treated as a loss: the timer tries again. */
void bt_nbdc_start(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc *nbd = conn->nbd;
	int rc = dial(conn);

	if (!rc) {
		rc = bt_nbdc_attach(conn);
		if (rc < 0)
			cannot_connect(conn, rc);
	}
	if (rc < 0) {
		bt_nbdc_drop(conn);
		return;
	}
	arm(conn, bt_loop_now(nbd->loop) + bt_nbdc_attempt_ns(nbd));
}

/* ---- time ----------------------------------------------------------------- */

/* Silence is counted from the first call that is owed, and anew from every byte
 * that moves (active_ns). The timer is not moved for each: expired looks how
 * late it is. */
void bt_nbdc_expect(struct bt_nbdc_conn *conn)
{
	if (conn->in_flight == 1)
		conn->active_ns = bt_loop_now(conn->nbd->loop);
	if (!conn->timer.loop)
		arm(conn, conn->active_ns + conn->nbd->timeout_ns);
}

/* When the oldest call has waited too long; they are on the lists in the order in
 * which they got the connection. */
static uint64_t late_at(const struct bt_nbdc_conn *conn)
{
	const struct bt_list *list =
		bt_list_empty(&conn->sent) ? &conn->unsent : &conn->sent;

	if (bt_list_empty(list))
		return UINT64_MAX;
	return bt_list_first(list, struct bt_nbdc_call, link)->since_ns +
	       LATE_TIMES * conn->nbd->timeout_ns;
}

/* DOWN: time for another try. Else the server had its time, unless bytes moved
 * since the timer was set. */
static void expired(struct bt_timer *timer)
{
	struct bt_nbdc_conn *conn =
		bt_container_of(timer, struct bt_nbdc_conn, timer);
	struct bt_nbdc *nbd = conn->nbd;
	uint64_t due = conn->active_ns + nbd->timeout_ns;

	if (conn->stage == BT_NBDC_DOWN) {
		bt_nbdc_start(conn);
	} else if (conn->stage != BT_NBDC_UP) {
		too_slow(conn, bt_nbdc_attempt_ns(nbd));
		bt_nbdc_drop(conn);
	} else if (conn->in_flight && bt_loop_now(nbd->loop) >= due) {
		too_slow(conn, nbd->timeout_ns);
		bt_nbdc_drop(conn);
	} else if (bt_loop_now(nbd->loop) >= late_at(conn)) {
		bt_nbdc_fail(conn, -ETIMEDOUT, "is the server well?",
			     "a request was not answered within %llu ms",
			     (unsigned long long)(LATE_TIMES * nbd->timeout_ns /
						  NS_PER_MS));
		bt_nbdc_drop(conn);
	} else if (conn->in_flight) {
		arm(conn, bt_min_u64(due, late_at(conn)));
	}
}

/* ---- loss ----------------------------------------------------------------- */

/* One connection is lost. Others that seem to be up say nothing of the server:
 * of a system that lost its power, a connection with nothing to say learns
 * last. written and flushed are generations: where they differ, a write was
 * answered whose flush was not. An error of a flush stays until the disk is
 * opened anew, as it does for files. */
static void doubt_unflushed(struct bt_nbdc *nbd)
{
	if (nbd->written == nbd->flushed)
		return;
	bt_node_lose(nbd->node);
	if (!nbd->fail_unflushed || nbd->flush_error)
		return;
	nbd->flush_error = -EIO;
	bt_log(log_of(nbd), BLKTAP_LOG_ERROR,
	       "%s: writes that were not flushed may be lost; every flush "
	       "fails until it is opened anew",
	       nbd->name);
}

/* All connections are lost. Calls wait on ready until a connection is up or the
 * deadline comes; without a deadline, or without memory for it, they fail
 * now. */
static void lost(struct bt_nbdc *nbd)
{
	if (nbd->reconnect_ns &&
	    !bt_timer_arm(nbd->loop, &nbd->deadline,
			  bt_loop_now(nbd->loop) + nbd->reconnect_ns))
		return;
	nbd->failing = true;
	bt_nbdc_fail_all(nbd);
}

/* Once for each reason, so a server that is away does not fill the log. */
static void tell(struct bt_nbdc_conn *conn)
{
	if (!strcmp(conn->told, conn->why))
		return;
	strcpy(conn->told, conn->why);
	bt_log(log_of(conn->nbd), BLKTAP_LOG_WARNING, "%s", conn->why);
}

/* A connection that had brought an answer is tried again at once; one that
 * never did waits longer each time, up to LAST_BACKOFF_NS. Calls are taken back
 * before anything new is given out, so their order stays. */
void bt_nbdc_drop(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc *nbd = conn->nbd;
	bool was_up = conn->counted;

	tell(conn);
	hang_up(conn);
	conn->counted = false;
	if (conn->has_replied)
		conn->backoff_ns = 0;
	arm(conn, bt_loop_now(nbd->loop) + conn->backoff_ns);
	conn->backoff_ns =
		bt_max_u64(bt_min_u64(2 * conn->backoff_ns, LAST_BACKOFF_NS),
			   FIRST_BACKOFF_NS);
	if (!was_up)
		return;
	nbd->up--;
	nbd->reconnects++;
	doubt_unflushed(nbd);
	bt_nbdc_reclaim(conn);
	if (!nbd->up)
		lost(nbd);
	bt_nbdc_pump(nbd);
}

/* ---- life ----------------------------------------------------------------- */

/* Its memory for life; on failure bt_nbdc_conn_fini frees what there is. */
int bt_nbdc_conn_init(struct bt_nbdc *nbd, struct bt_nbdc_conn *conn,
		      uint32_t index)
{
	memset(conn, 0, sizeof(*conn));
	conn->nbd = nbd;
	conn->index = index;
	conn->fd = -1;
	conn->look_ahead = BT_NBDC_BUFFER;
	bt_list_init(&conn->unsent);
	bt_list_init(&conn->sent);
	bt_timer_init(&conn->timer, expired);
	bt_work_init(&conn->send, bt_nbdc_send);
	conn->buf = malloc(BT_NBDC_BUFFER);
	conn->out = malloc(OUT_MAX);
	return conn->buf && conn->out ? 0 : -ENOMEM;
}

/* A server that is not asked to end may take the end for a crash. Without
 * waiting: what finds no room in the socket is left out. */
static void say_goodbye(struct bt_nbdc_conn *conn)
{
	uint8_t header[NBD_REQUEST_LEN] = { 0 };

	bt_store_be32(header, NBD_REQUEST_MAGIC);
	bt_store_be16(header + 6, NBD_CMD_DISC);
	send(conn->fd, header, sizeof(header), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Nothing is in flight. Harmless where it was not made. */
void bt_nbdc_conn_fini(struct bt_nbdc_conn *conn)
{
	if (!conn->nbd)
		return;
	if (conn->stage == BT_NBDC_UP)
		say_goodbye(conn);
	hang_up(conn);
	bt_timer_cancel(&conn->timer);
	free(conn->buf);
	free(conn->out);
}
