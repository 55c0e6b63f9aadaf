/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes: calls go out from the requests' own memory, as many as there are in one
 * system call; what is read comes into that memory, with the beginning of the
 * next reply behind it in the same system call.
 *
 * No call is held back for others: bt_nbdc_send runs once a turn, for all that
 * was assigned in it. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "util/checked.h"

#define IOV_BATCH 256u /* entries of one system call, on the stack */
#define READS_A_TURN 32 /* for one connection, before others get theirs */

/* ---- out ------------------------------------------------------------------ */

/* Only a WRITE brings data along. */
static uint64_t call_bytes(const struct bt_nbdc_call *call)
{
	return NBD_REQUEST_LEN +
	       (call->type == NBD_CMD_WRITE ? call->length : 0);
}

/* Adds what is left of the call behind its first skip bytes; returns the bytes
 * that found room. */
static uint64_t add_call(struct bt_nbdc_call *call, uint64_t skip,
			 struct iovec *iov, uint32_t *count)
{
	uint64_t bytes = 0, covered, payload = call->length;
	struct bt_sgl sgl = call->req->data;

	if (skip < NBD_REQUEST_LEN) {
		iov[*count].iov_base = call->header + skip;
		iov[(*count)++].iov_len = NBD_REQUEST_LEN - (size_t)skip;
		bytes = NBD_REQUEST_LEN - skip;
		skip = NBD_REQUEST_LEN;
	}
	if (call->type != NBD_CMD_WRITE)
		return bytes;
	skip -= NBD_REQUEST_LEN;
	bt_sgl_advance(&sgl, skip);
	*count += bt_sgl_to_iov(&sgl, payload - skip, iov + *count,
				IOV_BATCH - *count, &covered);
	return bytes + covered;
}

/* Ends with a call that does not fit whole: what follows must not go out before
 * its rest. */
static uint32_t collect(struct bt_nbdc_conn *conn, struct iovec *iov)
{
	uint64_t skip = conn->sent_bytes;
	struct bt_list *pos;
	uint32_t n = 0;

	bt_list_for_each (pos, &conn->unsent) {
		struct bt_nbdc_call *call =
			bt_list_entry(pos, struct bt_nbdc_call, link);

		if (n == IOV_BATCH ||
		    add_call(call, skip, iov, &n) < call_bytes(call) - skip)
			break;
		skip = 0;
	}
	return n;
}

/* n bytes more have gone. sent_bytes is how much of the first unsent call they
 * reach. */
static void sent(struct bt_nbdc_conn *conn, uint64_t n)
{
	conn->active_ns = bt_loop_now(conn->nbd->loop);
	n += conn->sent_bytes;
	while (!bt_list_empty(&conn->unsent)) {
		struct bt_nbdc_call *call =
			bt_list_first(&conn->unsent, struct bt_nbdc_call, link);

		if (n < call_bytes(call))
			break;
		n -= call_bytes(call);
		call->is_sent = true;
		bt_list_del(&call->link);
		bt_list_add_tail(&conn->sent, &call->link);
	}
	conn->sent_bytes = (size_t)n;
}

/* Until nothing is left or the socket is full; then EPOLLOUT brings it back
 * (on_event). A call that was sent in part stays first on its list. */
void bt_nbdc_send(struct bt_work *work)
{
	struct bt_nbdc_conn *conn =
		bt_container_of(work, struct bt_nbdc_conn, send);
	struct iovec iov[IOV_BATCH];
	struct msghdr msg = { .msg_iov = iov };
	char reason[BT_STRERROR_MAX];
	ssize_t n;

	while (conn->counted && !bt_list_empty(&conn->unsent)) {
		msg.msg_iovlen = collect(conn, iov);
		n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			sent(conn, (uint64_t)n);
		} else if (errno == EAGAIN) {
			conn->blocked = true;
			bt_watch_set_events(&conn->watch, bt_nbdc_wants(conn));
			return;
		} else if (errno != EINTR) {
			bt_nbdc_fail(conn, -errno, NULL, "cannot send: %s",
				     bt_strerror(-errno, reason));
			bt_nbdc_drop(conn);
			return;
		}
	}
}

/* ---- in ------------------------------------------------------------------- */

/* Where the next bytes go: the rest of a payload, then the buffer. Where the
 * payload takes more entries than there are, the buffer comes with a later
 * read. */
static uint32_t prepare(struct bt_nbdc_conn *conn, struct iovec *iov)
{
	uint64_t covered = 0;
	uint32_t n = 0;

	if (conn->part == BT_NBDC_DATA) {
		n = bt_sgl_to_iov(&conn->sgl, conn->left, iov, IOV_BATCH - 1,
				  &covered);
		if (covered < conn->left)
			return n;
	}
	memmove(conn->buf, conn->buf + conn->pos, conn->end - conn->pos);
	conn->end -= conn->pos;
	conn->pos = 0;
	iov[n].iov_base = conn->buf + conn->end;
	iov[n].iov_len = (size_t)bt_min_u64(conn->look_ahead,
					    BT_NBDC_BUFFER - conn->end);
	return n + 1;
}

/* active_ns: the server is not silent. What went to the request's memory is not
 * in the buffer. */
static void received(struct bt_nbdc_conn *conn, uint64_t n)
{
	uint64_t direct;

	conn->active_ns = bt_loop_now(conn->nbd->loop);
	if (conn->part == BT_NBDC_DATA) {
		direct = bt_min_u64(n, conn->left);
		bt_sgl_advance(&conn->sgl, direct);
		conn->left -= direct;
		n -= direct;
	}
	conn->end += (size_t)n;
}

/* One read: its bytes, 0 where there are none, or a negative errno with the
 * reason noted. */
static ssize_t read_some(struct bt_nbdc_conn *conn)
{
	struct iovec iov[IOV_BATCH];
	struct msghdr msg = { .msg_iov = iov };
	char reason[BT_STRERROR_MAX];
	ssize_t n;

	msg.msg_iovlen = prepare(conn, iov);
	do
		n = recvmsg(conn->fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		received(conn, (uint64_t)n);
	else if (n == 0)
		return bt_nbdc_fail(conn, -ECONNRESET, NULL,
				    "the server closed the connection");
	else if (errno != EAGAIN)
		return bt_nbdc_fail(conn, -errno, NULL, "cannot receive: %s",
				    bt_strerror(-errno, reason));
	return n < 0 ? 0 : n;
}

/* What is in the buffer goes first: the last bytes of a handshake may have had
 * some of it behind. A server that sends faster than we take gets READS_A_TURN,
 * and then the loop's other work has its turn. */
void bt_nbdc_receive(struct bt_nbdc_conn *conn)
{
	ssize_t n = 1;
	int i, rc = bt_nbdc_parse(conn);

	for (i = 0; !rc && n > 0 && i < READS_A_TURN; i++) {
		n = read_some(conn);
		rc = n < 0 ? (int)n : bt_nbdc_parse(conn);
	}
	if (!rc)
		return;
	conn->nbd->violations += rc == -EPROTO;
	bt_nbdc_drop(conn);
}
