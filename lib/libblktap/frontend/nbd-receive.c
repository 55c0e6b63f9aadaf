/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes in. One read from the socket brings as many requests as there are. Small
 * payloads stay in the arena; a large one goes straight to its buffer, with the
 * arena behind it in the same system call for the requests that follow. */
#include "frontend/nbd.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define ROOM_MIN 4096 /* a read into less is not worth the call */

/* The connection's own reference, or one of a payload that is written; the last
 * gives it back. */
void bt_nbd_arena_unref(struct bt_nbd_conn *conn, struct bt_nbd_arena *arena)
{
	if (--arena->refs)
		return;
	bt_nbd_buffer_give(&conn->server->cache, arena, BT_NBD_ARENA_SHIFT);
	bt_nbd_discharge(conn, 1u << BT_NBD_ARENA_SHIFT);
}

/* An idle connection holds no arena. One with a payload in it cannot be begun
 * anew: it is left to that. */
void bt_nbd_arena_rest(struct bt_nbd_conn *conn)
{
	if (!conn->arena || conn->head != conn->tail || conn->arena->refs > 1)
		return;
	bt_nbd_arena_unref(conn, conn->arena);
	conn->arena = NULL;
	conn->head = 0;
	conn->tail = 0;
}

static struct bt_nbd_arena *arena_new(struct bt_nbd_conn *conn)
{
	struct bt_nbd_arena *arena;

	if (!bt_nbd_charge(conn, 1u << BT_NBD_ARENA_SHIFT))
		return NULL;
	arena = bt_nbd_buffer_take(&conn->server->cache, BT_NBD_ARENA_SHIFT);
	if (!arena) {
		bt_nbd_discharge(conn, 1u << BT_NBD_ARENA_SHIFT);
		/* the end of a request would wake it, but it may have none */
		bt_nbd_starve(conn);
		return NULL;
	}
	arena->refs = 1;
	return arena;
}

/* Makes the arena hold the whole message that begins at its head, and space to
 * read into. What lies in it is at most the beginning of one message. A payload
 * that is being written lies in the old arena, which is not touched then: the
 * rest moves to a new one. */
static bool make_room(struct bt_nbd_conn *conn)
{
	struct bt_nbd_arena *old = conn->arena, *arena = old;
	size_t left = conn->tail - conn->head;

	if (old &&
	    BT_NBD_ARENA_ROOM - conn->head >= bt_nbd_message_need(conn) &&
	    BT_NBD_ARENA_ROOM - conn->tail >= ROOM_MIN)
		return true;
	if (!old || old->refs > 1)
		arena = arena_new(conn);
	if (!arena)
		return false;
	if (left)
		memmove(arena->bytes, old->bytes + conn->head, left);
	if (old && old != arena)
		bt_nbd_arena_unref(conn, old);
	conn->arena = arena;
	conn->head = 0;
	conn->tail = left;
	return true;
}

static void received(struct bt_nbd_conn *conn, size_t n)
{
	conn->progress_ns = bt_loop_now(conn->server->loop);
	/* the large payload comes first in the vector, the arena behind it */
	if (conn->filling) {
		size_t part = (size_t)bt_min_u64(n, conn->filling->length -
							    conn->filled);

		conn->filled += part;
		n -= part;
	}
	conn->tail += n;
	bt_nbd_parse(conn);
	/* The rest of a message is on its way. */
	if (conn->filling || conn->head != conn->tail)
		bt_loop_expect(conn->server->loop);
	bt_nbd_arena_rest(conn);
}

/* One read an event: what is left makes the descriptor ready again, behind the
 * others' turn. */
void bt_nbd_receive(struct bt_nbd_conn *conn)
{
	struct iovec iov[2];
	int count = 0;
	ssize_t n;

	if (conn->filling) {
		iov[count].iov_base =
			(char *)conn->filling->buffer + conn->filled;
		iov[count++].iov_len = conn->filling->length - conn->filled;
	}
	if (make_room(conn)) {
		iov[count].iov_base = conn->arena->bytes + conn->tail;
		iov[count++].iov_len = (size_t)bt_min_u64(
			conn->appetite, BT_NBD_ARENA_ROOM - conn->tail);
	} else if (!count) {
		conn->stalled = true;
		return;
	}
	n = readv(conn->fd, iov, count);
	if (n > 0) {
		received(conn, (size_t)n);
		return;
	}
	bt_nbd_arena_rest(conn);
	if (!n)
		bt_nbd_conn_drain(conn, "end of input");
	else if (errno != EAGAIN && errno != EINTR)
		bt_nbd_conn_kill(conn, "gone");
}
