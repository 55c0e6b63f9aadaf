/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes out: as many replies as there are in one system call. */
#include "frontend/nbd.h"

#include <errno.h>
#include <sys/socket.h>

#define IOV_BATCH 256

/* Puts the parts of a reply behind one another, without its first skip bytes. */
static uint32_t add_reply(const struct bt_nbd_request *item, size_t skip,
			  struct iovec *iov, uint32_t max)
{
	uint32_t i, n = 0;

	for (i = 0; i < item->out_count && n < max; i++) {
		const struct iovec *part = &item->out[i];

		if (skip >= part->iov_len) {
			skip -= part->iov_len;
			continue;
		}
		iov[n].iov_base = (char *)part->iov_base + skip;
		iov[n++].iov_len = part->iov_len - skip;
		skip = 0;
	}
	return n;
}

/* The first reply may be out in part. */
static uint32_t collect(const struct bt_nbd_conn *conn, struct iovec *iov)
{
	size_t skip = conn->sent;
	struct bt_list *pos;
	uint32_t n = 0;

	bt_list_for_each (pos, &conn->replies) {
		const struct bt_nbd_request *item =
			bt_list_entry(pos, struct bt_nbd_request, req.link);

		n += add_reply(item, skip, iov + n, IOV_BATCH - n);
		skip = 0;
		if (n == IOV_BATCH)
			break;
	}
	return n;
}

/* Gives back the replies that are out, and says how many they were. Replies
 * that are out whole give back what they hold; one that is out in part stays
 * first. */
static uint32_t sent(struct bt_nbd_conn *conn, size_t n)
{
	uint32_t count = 0;

	conn->progress_ns = bt_loop_now(conn->server->loop);
	n += conn->sent;
	while (!bt_list_empty(&conn->replies)) {
		struct bt_nbd_request *item = bt_list_first(
			&conn->replies, struct bt_nbd_request, req.link);

		if (n < item->out_len)
			break;
		n -= item->out_len;
		bt_list_del(&item->req.link);
		bt_nbd_release(item);
		count++;
	}
	conn->sent = n;
	if (count)
		conn->whole_ns = conn->progress_ns;
	return count;
}

/* Until there is nothing left or the socket is full. A client that does not
 * take its replies is watched from the moment at which it stopped. */
void bt_nbd_send(struct bt_nbd_conn *conn)
{
	struct iovec iov[IOV_BATCH];
	struct msghdr msg = { .msg_iov = iov };
	uint32_t count = 0;
	ssize_t n;

	while (!bt_list_empty(&conn->replies)) {
		msg.msg_iovlen = collect(conn, iov);
		n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
		if (n >= 0) {
			count += sent(conn, (size_t)n);
		} else if (errno == EAGAIN) {
			/* the time at which it began to be stuck */
			if (!conn->blocked)
				conn->progress_ns = conn->whole_ns =
					bt_loop_now(conn->server->loop);
			conn->blocked = true;
			return;
		} else if (errno != EINTR) {
			bt_nbd_conn_kill(conn, "gone");
			return;
		}
	}
	conn->blocked = false;
	/* A client with one request at a time sends the next one at once. */
	if (count == 1 && !conn->in_flight)
		bt_loop_expect(conn->server->loop);
}
