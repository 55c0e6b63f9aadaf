/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection, from accept to close. Nothing here waits for the client: what it
 * has sent is read, what it takes is written, and the clock runs meanwhile. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/server.h"

static void on_event(struct bt_watch *watch, uint32_t events);
static void on_timeout(struct bt_timer *timer);

/* One time for all of the request, and one for all of the answer: a byte now
 * and then does not put it off. */
static int start_clock(struct bt_conn *conn)
{
	struct bt_loop *loop = conn->server->loop;

	return bt_timer_arm(loop, &conn->timer,
			    bt_loop_refresh(loop) + conn->server->idle_ns);
}

/* A full message's room at once; a trailer's is made when its length is known.
 */
void bt_conn_create(struct blktap_control_server *server, int fd)
{
	struct bt_conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->watch.fd = fd;
	conn->need = BT_WIRE_SIZE;
	bt_list_init(&conn->queue_link);
	bt_list_add_tail(&server->conns, &conn->link);
	server->conn_count++;
	bt_timer_init(&conn->timer, on_timeout);
	conn->in = malloc(conn->need);
	if (!conn->in || start_clock(conn) ||
	    bt_watch_add(server->loop, &conn->watch, fd, EPOLLIN, on_event))
		bt_conn_destroy(conn);
}

/* From any state but RUNNING, whose command refers to it. */
void bt_conn_destroy(struct bt_conn *conn)
{
	bt_watch_del(&conn->watch);
	bt_timer_cancel(&conn->timer);
	close(conn->watch.fd);
	bt_list_del(&conn->queue_link);
	bt_list_del(&conn->link);
	conn->server->conn_count--;
	/* It may have held a key. */
	if (conn->in)
		explicit_bzero(conn->in, conn->have);
	free(conn->in);
	bt_strbuf_fini(&conn->out);
	free(conn);
}

const uint8_t *bt_conn_trailer(const struct bt_conn *conn, size_t *length)
{
	*length = conn->have - BT_WIRE_SIZE;
	return conn->in + BT_WIRE_SIZE;
}

/* ---- answers -------------------------------------------------------------- */

void bt_conn_reply(struct bt_conn *conn, const struct bt_message *msg,
		   const void *trailer, size_t length)
{
	uint8_t wire[BT_WIRE_SIZE];

	bt_wire_encode(msg, wire);
	bt_strbuf_add(&conn->out, wire, sizeof(wire));
	bt_strbuf_add(&conn->out, trailer, length);
}

void bt_conn_ok(struct bt_conn *conn, uint16_t type)
{
	struct bt_message msg = { .type = type, .cookie = conn->msg.cookie };

	bt_conn_reply(conn, &msg, NULL, 0);
}

/* "message\nhint". Of a message that is too long the first lines, as many as there
 * is room for, are what matters: the driver takes an error without words for
 * that of a tapdisk that does not know the verb. */
static void put_words(struct bt_strbuf *text, const struct blktap_error *err)
{
	const char *message = blktap_error_get_message(err);
	const char *hint = blktap_error_get_hint(err);
	size_t length = strlen(message), room = BT_WIRE_ERROR_MAX - 8, cut;

	if (strlen(hint) > room / 2)
		hint = "";
	room -= strlen(hint);
	if (length <= room) {
		bt_strbuf_add(text, message, length);
	} else {
		for (cut = room; cut && message[cut - 1] != '\n'; cut--)
			;
		bt_strbuf_add(text, message, cut ? cut : room);
		bt_strbuf_puts(text, "...");
	}
	bt_strbuf_printf(text, "\n%s", hint);
}

/* Old clients read the fixed field and stop there; ours read all that follows.
 */
void bt_conn_error(struct bt_conn *conn, int rc, struct blktap_error *err)
{
	struct bt_message msg = { .type = BT_WIRE_ERROR,
				  .cookie = conn->msg.cookie };
	struct bt_wire_response *response = &msg.u.response;
	struct bt_strbuf text = BT_STRBUF_INIT;

	if (err)
		put_words(&text, err);
	else
		bt_strbuf_puts(&text, STRERROR(rc));
	bt_log(conn->server->log, BLKTAP_LOG_WARNING, "minor %d: %s: %s",
	       (int)conn->msg.cookie, bt_wire_type_name(conn->msg.type),
	       err ? blktap_error_get_message(err) : bt_strbuf_str(&text));
	if (err && *blktap_error_get_hint(err))
		bt_log(conn->server->log, BLKTAP_LOG_WARNING, "hint: %s",
		       blktap_error_get_hint(err));
	response->error = -rc;
	strncpy(response->text, bt_strbuf_str(&text),
		sizeof(response->text) - 1);
	response->more = (uint32_t)text.len;
	bt_conn_reply(conn, &msg, text.data, response->more);
	bt_strbuf_fini(&text);
	blktap_error_destroy(err);
}

/* True when all of it is out, or no more of it will be. MSG_NOSIGNAL: a client
 * that left is an error here, not a signal. */
static bool send_some(struct bt_conn *conn)
{
	ssize_t n;

	while (conn->sent < conn->out.len) {
		n = send(conn->watch.fd, conn->out.data + conn->sent,
			 conn->out.len - conn->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno != EAGAIN;
		conn->sent += (size_t)n;
	}
	return true;
}

/* Tried at once: most answers fit into the socket, and then the connection ends
 * right here. */
void bt_conn_answer(struct bt_conn *conn)
{
	conn->state = BT_CONN_WRITE;
	if (conn->gone || conn->out.failed || send_some(conn) ||
	    start_clock(conn) || bt_watch_set_events(&conn->watch, EPOLLOUT))
		bt_conn_destroy(conn);
}

/* ---- requests ------------------------------------------------------------- */

/* The type is checked before anything else is believed. */
static int decode(struct bt_conn *conn, struct blktap_error **err)
{
	int rc = bt_wire_decode(conn->in, &conn->msg);

	if (rc == -ENAMETOOLONG)
		return bt_fail(err, rc, "a text ends with a NUL in its field",
			       "%s: a text is longer than its field: %s",
			       bt_wire_type_name(conn->msg.type), STRERROR(rc));
	if (rc)
		return bt_fail(err, rc, NULL, "message type %u is unknown: %s",
			       (unsigned int)conn->msg.type, STRERROR(rc));
	return 0;
}

/* Makes room for what the request still lacks; need is have when complete. */
static int grow(struct bt_conn *conn, struct blktap_error **err)
{
	size_t trailer = 0;
	uint8_t *in;
	int rc;

	rc = bt_wire_trailer(&conn->msg, conn->in + BT_WIRE_SIZE,
			     conn->have - BT_WIRE_SIZE, &trailer);
	if (rc)
		return bt_fail(err, rc,
			       rc == -EINVAL ? "use programs of one version"
					     : NULL,
			       "%s: what follows it %s",
			       bt_wire_type_name(conn->msg.type),
			       rc == -EINVAL ? "is of another version"
					     : "is too long");
	conn->need = BT_WIRE_SIZE + trailer;
	in = realloc(conn->in, conn->need);
	if (!in)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	conn->in = in;
	return 0;
}

/* Bytes have come: is that all? */
static void take(struct bt_conn *conn)
{
	struct blktap_error *err = NULL;
	int rc = 0;

	if (conn->have < conn->need)
		return;
	if (conn->have == BT_WIRE_SIZE)
		rc = decode(conn, &err);
	if (!rc)
		rc = grow(conn, &err);
	/* a key's length stands in the trailer: it may grow again */
	if (!rc && conn->have < conn->need)
		return;
	bt_timer_cancel(&conn->timer);
	/* no events from here on but the client's leaving, which epoll always
	 * tells */
	if (!rc && !bt_watch_set_events(&conn->watch, 0)) {
		bt_command_start(conn);
		return;
	}
	bt_conn_error(conn, rc ? rc : -EIO, err);
	bt_conn_answer(conn);
}

/* One read at a time, so that nobody gets more than his share of a turn. 0
 * bytes: it left before its request was whole, so nobody waits for an answer.
 */
static void receive(struct bt_conn *conn)
{
	ssize_t n = recv(conn->watch.fd, conn->in + conn->have,
			 conn->need - conn->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		bt_conn_destroy(conn);
		return;
	}
	conn->have += (size_t)n;
	take(conn);
}

static void on_event(struct bt_watch *watch, uint32_t events)
{
	struct bt_conn *conn = bt_list_entry(watch, struct bt_conn, watch);

	switch (conn->state) {
	case BT_CONN_READ:
		receive(conn);
		break;
	case BT_CONN_QUEUED:
		bt_conn_destroy(conn);
		break;
	case BT_CONN_RUNNING:
		/* The command still refers to it. */
		bt_watch_del(watch);
		conn->gone = true;
		break;
	case BT_CONN_WRITE:
		if ((events & (EPOLLHUP | EPOLLERR)) || send_some(conn))
			bt_conn_destroy(conn);
		break;
	}
}

static void on_timeout(struct bt_timer *timer)
{
	struct bt_conn *conn = bt_list_entry(timer, struct bt_conn, timer);

	bt_log(conn->server->log, BLKTAP_LOG_INFO,
	       "control: a client was too slow: %zu of %zu bytes %s",
	       conn->state == BT_CONN_READ ? conn->have : conn->sent,
	       conn->state == BT_CONN_READ ? conn->need : conn->out.len,
	       conn->state == BT_CONN_READ ? "came" : "were taken");
	bt_conn_destroy(conn);
}
