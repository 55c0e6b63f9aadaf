/* SPDX-License-Identifier: BSD-3-Clause */
/* The pump. Bytes wait in four buffers, two each way:
 *
 *   net -> net_in -> [open] -> pair_out -> owner
 *   net <- net_out <- [seal] <- pair_in <- owner
 *
 * A step is taken where there is something to take and room to put it; who cannot
 * go on leaves his source unread, so a side that does not take stops the other,
 * and nothing grows. A stream ends when the buffers before it are empty.
 *
 * A peer that ends without close_notify ends as any other: NBD knows by itself
 * what was whole. After a failure both sides are closed, and tls->why is set. */
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_MAX 16384u /* bytes of a record, open */
#define SEALED_MAX (RECORD_MAX + 512u) /* and sealed, at most */
#define LINGER_NS \
	10000000000ull /* for the last bytes, when the owner is gone */

/* ---- buffers -------------------------------------------------------------- */

/* Bytes that can be put at the end, where `want` would do. */
static size_t room(struct bt_tls_buffer *b, size_t want)
{
	if (b->pos == b->end) {
		b->pos = b->end = 0;
	} else if (b->cap - b->end < want && b->pos) {
		memmove(b->data, b->data + b->pos, bt_tls_held(b));
		b->end -= b->pos;
		b->pos = 0;
	}
	return b->cap - b->end;
}

/* ---- what GnuTLS reads and writes ----------------------------------------- */

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
	struct bt_tls *tls = ptr;
	size_t n = bt_tls_held(&tls->net_in);

	if (!n && tls->net_end)
		return 0;
	if (!n) {
		errno = EAGAIN;
		return -1;
	}
	n = n < len ? n : len;
	memcpy(data, tls->net_in.data + tls->net_in.pos, n);
	tls->net_in.pos += n;
	return (ssize_t)n;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
	struct bt_tls *tls = ptr;
	size_t n = room(&tls->net_out, len);

	if (!n) {
		errno = EAGAIN;
		return -1;
	}
	n = n < len ? n : len;
	memcpy(tls->net_out.data + tls->net_out.end, data, n);
	tls->net_out.end += n;
	return (ssize_t)n;
}

void bt_tls_attach(struct bt_tls *tls)
{
	const struct bt_gnutls *g = tls->gnutls;

	g->session_set_ptr(tls->session, tls);
	g->transport_set_ptr(tls->session, tls);
	g->transport_set_push_function(tls->session, push);
	g->transport_set_pull_function(tls->session, pull);
}

static bool is_wait(int rc)
{
	return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

/* ---- ends ----------------------------------------------------------------- */

/* Closing a socket with unread input makes the peer lose what was sent last: an
 * alert, which says why. */
static void close_net(struct bt_tls *tls)
{
	uint8_t dump[4096];
	int i;

	if (tls->net.fd < 0)
		return;
	bt_watch_del(&tls->net.watch);
	shutdown(tls->net.fd, SHUT_WR);
	for (i = 0; i < 16; i++)
		if (recv(tls->net.fd, dump, sizeof(dump), MSG_DONTWAIT) <= 0)
			break;
	close(tls->net.fd);
	tls->net.fd = -1;
}

void bt_tls_close(struct bt_tls *tls)
{
	close_net(tls);
	if (tls->pair.fd < 0)
		return;
	bt_watch_del(&tls->pair.watch);
	close(tls->pair.fd);
	tls->pair.fd = -1;
}

/* Whoever made it is told later, outside of what runs now. */
void bt_tls_end(struct bt_tls *tls)
{
	tls->has_ended = true;
	bt_timer_cancel(&tls->timer);
	bt_tls_close(tls);
	if (tls->ended)
		bt_loop_defer(tls->loop, &tls->work);
}

/* Nothing goes out any more. What has come is looked at still: it may say why. */
static void lose_out(struct bt_tls *tls)
{
	tls->net_out.pos = tls->net_out.end = 0;
	tls->pair_in.pos = tls->pair_in.end = 0;
	tls->out_end = true;
	tls->out_done = true;
	tls->net.can_read = true;
}

/* What he has sent before goes out still, in bounded time. Before the handshake is
 * done that is nothing a peer could make sense of. */
void bt_tls_lose_owner(struct bt_tls *tls)
{
	if (tls->pair_gone)
		return;
	tls->pair_gone = true;
	tls->in_end = tls->in_done = true;
	tls->pair_out.pos = tls->pair_out.end = 0;
	tls->pair.can_read = true;
	if (tls->is_shaking || bt_timer_arm(tls->loop, &tls->timer,
					    bt_loop_now(tls->loop) + LINGER_NS))
		bt_tls_end(tls);
}

/* ---- the network ---------------------------------------------------------- */

static bool receive(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->net_in;
	size_t n;
	ssize_t got;

	if (!tls->net.can_read || tls->net_end || tls->in_end)
		return false;
	n = room(b, SEALED_MAX);
	if (!n)
		return false;
	got = recv(tls->net.fd, b->data + b->end, n, MSG_DONTWAIT);
	if (got > 0) {
		b->end += (size_t)got;
		tls->net.can_read = (size_t)got == n;
	} else if (!got) {
		tls->net_end = true;
	} else if (errno == EAGAIN) {
		tls->net.can_read = false;
		return false;
	} else if (errno != EINTR) {
		tls->net_end = true;
		tls->lost = errno;
	}
	return true;
}

static bool transmit(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->net_out;
	bool moved = false;

	while (bt_tls_held(b) && tls->net.can_write) {
		ssize_t n = send(tls->net.fd, b->data + b->pos, bt_tls_held(b),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			b->pos += (size_t)n;
			moved = true;
		} else if (errno == EAGAIN) {
			tls->net.can_write = false;
		} else if (errno != EINTR) {
			lose_out(tls);
			return true;
		}
	}
	if (tls->bye && !bt_tls_held(b) && !tls->out_done) {
		shutdown(tls->net.fd, SHUT_WR);
		tls->out_done = true;
		moved = true;
	}
	return moved;
}

/* The peer is told by an alert, as far as that goes out at once. */
static void fail(struct bt_tls *tls, int rc)
{
	bt_tls_explain(tls, rc);
	if (rc != GNUTLS_E_FATAL_ALERT_RECEIVED &&
	    rc != GNUTLS_E_PREMATURE_TERMINATION) {
		tls->gnutls->alert_send_appropriate(tls->session, rc);
		transmit(tls);
	}
	if (!tls->has_ended)
		bt_tls_end(tls);
}

/* ---- the session ---------------------------------------------------------- */

/* The end without close_notify, also in the middle of a record. */
static bool is_cut(const struct bt_tls *tls, int rc)
{
	return rc == GNUTLS_E_PREMATURE_TERMINATION ||
	       (rc == GNUTLS_E_UNEXPECTED_PACKET_LENGTH && tls->net_end &&
		!bt_tls_held(&tls->net_in));
}

/* The second look is at what must have been looked at: a peer that was to be
 * verified was. */
static bool shake(struct bt_tls *tls)
{
	const struct bt_tls_creds *creds = tls->creds;
	size_t before = tls->net_in.pos, out = tls->net_out.end;
	int rc = tls->gnutls->handshake(tls->session);

	if (rc >= 0 && creds->certificates && creds->verify_peer &&
	    tls->gnutls->session_get_verify_cert_status(tls->session))
		rc = GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
	if (rc >= 0) {
		tls->is_shaking = false;
		bt_timer_cancel(&tls->timer);
		return true;
	}
	if (tls->gnutls->error_is_fatal(rc))
		fail(tls,
		     is_cut(tls, rc) ? GNUTLS_E_PREMATURE_TERMINATION : rc);
	return before != tls->net_in.pos || out != tls->net_out.end;
}

/* What is no data (an alert that only warns, new keys) is passed over. A peer that
 * wants to begin anew is not: 1.3 knows no such thing. */
static bool open_records(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->pair_out;
	bool moved = false;

	while (!tls->in_end && room(b, RECORD_MAX) >= RECORD_MAX) {
		size_t before = tls->net_in.pos;
		ssize_t rc = tls->gnutls->record_recv(
			tls->session, b->data + b->end, RECORD_MAX);

		if (rc > 0) {
			b->end += (size_t)rc;
			tls->has_data = true;
		} else if (!rc) {
			tls->in_end = true;
		} else if (is_cut(tls, (int)rc)) {
			bt_tls_explain_end(tls);
			tls->in_end = true;
		} else if (rc == GNUTLS_E_REHANDSHAKE ||
			   tls->gnutls->error_is_fatal((int)rc)) {
			fail(tls, (int)rc);
			return true;
		} else if (before == tls->net_in.pos ||
			   !bt_tls_held(&tls->net_in)) {
			break;
		}
		moved = true;
	}
	return moved;
}

/* After GNUTLS_E_AGAIN it must be called with the same bytes: pair_in does not
 * change until they are taken. */
static bool seal_records(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->pair_in;
	bool moved = false;

	while (bt_tls_held(b) &&
	       room(&tls->net_out, SEALED_MAX) >= SEALED_MAX) {
		size_t n = bt_tls_held(b) < RECORD_MAX ? bt_tls_held(b)
						       : RECORD_MAX;
		ssize_t rc = tls->gnutls->record_send(tls->session,
						      b->data + b->pos, n);

		if (rc > 0) {
			b->pos += (size_t)rc;
		} else if (is_wait((int)rc)) {
			break;
		} else {
			fail(tls, (int)rc);
			return true;
		}
		moved = true;
	}
	if (tls->out_end && !bt_tls_held(b) && !tls->bye && !tls->out_done) {
		tls->bye = !is_wait(
			tls->gnutls->bye(tls->session, GNUTLS_SHUT_WR));
		moved |= tls->bye;
	}
	return moved;
}

/* ---- the owner ------------------------------------------------------------ */

static bool deliver(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->pair_out;
	bool moved = false;

	while (bt_tls_held(b) && tls->pair.can_write) {
		ssize_t n = send(tls->pair.fd, b->data + b->pos, bt_tls_held(b),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			b->pos += (size_t)n;
			moved = true;
		} else if (errno == EAGAIN) {
			tls->pair.can_write = false;
		} else if (errno != EINTR) {
			bt_tls_lose_owner(tls);
			return true;
		}
	}
	if (tls->in_end && !bt_tls_held(b) && !tls->in_done) {
		shutdown(tls->pair.fd, SHUT_WR);
		tls->in_done = true;
		moved = true;
	}
	return moved;
}

/* Of an owner who has closed nothing is waited for: there is data, or the end. An
 * end with something unread on his side comes as an error. */
static bool collect(struct bt_tls *tls)
{
	struct bt_tls_buffer *b = &tls->pair_in;
	ssize_t got;

	if (!tls->pair.can_read || tls->out_end || bt_tls_held(b))
		return false;
	b->pos = b->end = 0;
	got = recv(tls->pair.fd, b->data, b->cap, MSG_DONTWAIT);
	if (got > 0) {
		b->end = (size_t)got;
		tls->pair.can_read = tls->pair_gone || b->end == b->cap;
	} else if (got < 0 && errno == EAGAIN && !tls->pair_gone) {
		tls->pair.can_read = false;
		return false;
	} else if (got == 0 || errno != EINTR) {
		tls->out_end = true;
	}
	return true;
}

/* ---- all of it ------------------------------------------------------------ */

bool bt_tls_round(struct bt_tls *tls)
{
	bool moved = receive(tls);

	if (!tls->has_ended && tls->is_shaking)
		moved |= shake(tls);
	if (tls->has_ended)
		return false;
	if (!tls->is_shaking) {
		moved |= open_records(tls);
		if (!tls->has_ended)
			moved |= deliver(tls);
		if (!tls->has_ended)
			moved |= collect(tls);
		if (!tls->has_ended)
			moved |= seal_records(tls);
	}
	if (!tls->has_ended)
		moved |= transmit(tls);
	return moved && !tls->has_ended;
}

#endif
