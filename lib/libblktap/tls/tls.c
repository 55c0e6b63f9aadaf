/* SPDX-License-Identifier: BSD-3-Clause */
/* A pump's life, and what it waits for. The loop is asked for readiness only where
 * a call has said that it would wait. */
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 65536u
#define BUFFER_OUT (BUFFER + 4096u) /* what BUFFER becomes when it is sealed */
#define ROUNDS 8 /* for one connection, before others get their turn */
#define NS_PER_MS 1000000ull

/* ---- driving it ----------------------------------------------------------- */

static uint32_t wants_net(const struct bt_tls *tls)
{
	const struct bt_tls_buffer *b = &tls->net_in;
	bool in = !tls->net_end && !tls->in_end && bt_tls_held(b) < b->cap;

	return (in ? (uint32_t)EPOLLIN : 0) |
	       (bt_tls_held(&tls->net_out) ? (uint32_t)EPOLLOUT : 0);
}

static uint32_t wants_pair(const struct bt_tls *tls)
{
	bool in = !tls->is_shaking && !tls->out_end &&
		  !bt_tls_held(&tls->pair_in);

	return (in ? (uint32_t)EPOLLIN : 0) |
	       (bt_tls_held(&tls->pair_out) ? (uint32_t)EPOLLOUT : 0);
}

static void run(struct bt_tls *tls);

static void on_net(struct bt_watch *watch, uint32_t events)
{
	struct bt_tls *tls = bt_container_of(watch, struct bt_tls, net.watch);

	tls->net.can_read |= !!(events & ~(uint32_t)EPOLLOUT);
	tls->net.can_write |= !!(events & ~(uint32_t)EPOLLIN);
	run(tls);
}

static void on_pair(struct bt_watch *watch, uint32_t events)
{
	struct bt_tls *tls = bt_container_of(watch, struct bt_tls, pair.watch);

	tls->pair.can_read |= !!(events & ~(uint32_t)EPOLLOUT);
	tls->pair.can_write |= !!(events & ~(uint32_t)EPOLLIN);
	if (events & (EPOLLHUP | EPOLLERR))
		bt_tls_lose_owner(tls);
	if (!tls->has_ended)
		run(tls);
}

/* A descriptor of which nothing is wanted would report its end again and again,
 * and is taken out; but the owner's stays, since its end is what is waited for. */
static bool set_watch(struct bt_tls *tls, struct bt_tls_side *side,
		      uint32_t events,
		      void (*fn)(struct bt_watch *watch, uint32_t events))
{
	bool is_wanted = side == &tls->pair ? !tls->pair_gone : events;

	if (!is_wanted)
		bt_watch_del(&side->watch);
	else if (side->watch.loop)
		return !bt_watch_set_events(&side->watch, events);
	else
		return !bt_watch_add(tls->loop, &side->watch, side->fd, events,
				     fn);
	return true;
}

/* Work that is left over is in our buffers, of which the loop knows nothing: it is
 * deferred. */
static void run(struct bt_tls *tls)
{
	int i;

	for (i = 0; i < ROUNDS && bt_tls_round(tls); i++)
		;
	if (tls->has_ended)
		return;
	if (tls->in_done && tls->out_done) {
		bt_tls_end(tls);
		return;
	}
	if (i == ROUNDS)
		bt_loop_defer(tls->loop, &tls->work);
	if (!set_watch(tls, &tls->net, wants_net(tls), on_net) ||
	    !set_watch(tls, &tls->pair, wants_pair(tls), on_pair)) {
		bt_tls_set_why(tls, -ENOMEM, "cannot be watched");
		bt_tls_end(tls);
	}
}

static void on_work(struct bt_work *work)
{
	struct bt_tls *tls = bt_container_of(work, struct bt_tls, work);
	void (*ended)(void *opaque) = tls->ended;

	if (!tls->has_ended) {
		run(tls);
		return;
	}
	tls->ended = NULL;
	if (ended)
		ended(tls->opaque);
}

static void on_timer(struct bt_timer *timer)
{
	struct bt_tls *tls = bt_container_of(timer, struct bt_tls, timer);

	if (tls->is_shaking)
		bt_tls_set_why(tls, -ETIMEDOUT,
			       "the handshake of TLS was not done within %llu "
			       "ms",
			       (unsigned long long)(tls->limit_ns / NS_PER_MS));
	bt_tls_end(tls);
}

void bt_tls_step(struct bt_tls *tls)
{
	if (tls->has_ended)
		return;
	tls->net.can_read = tls->net.can_write = true;
	tls->pair.can_read = tls->pair.can_write = true;
	run(tls);
}

void bt_tls_get_polls(const struct bt_tls *tls, struct pollfd polls[2])
{
	uint32_t net = wants_net(tls), pair = wants_pair(tls);

	polls[0].fd = tls->has_ended || !net ? -1 : tls->net.fd;
	polls[0].events = (short)((net & EPOLLIN ? POLLIN : 0) |
				  (net & EPOLLOUT ? POLLOUT : 0));
	polls[1].fd = tls->has_ended || !pair ? -1 : tls->pair.fd;
	polls[1].events = (short)((pair & EPOLLIN ? POLLIN : 0) |
				  (pair & EPOLLOUT ? POLLOUT : 0));
}

/* ---- life ----------------------------------------------------------------- */

static int make_buffers(struct bt_tls *tls)
{
	/* the memory is the system's until it is used */
	uint8_t *p = malloc(3 * BUFFER + BUFFER_OUT);

	if (!p)
		return -ENOMEM;
	tls->net_in = (struct bt_tls_buffer){ p, 0, 0, BUFFER };
	tls->pair_out = (struct bt_tls_buffer){ p + BUFFER, 0, 0, BUFFER };
	tls->pair_in = (struct bt_tls_buffer){ p + 2 * BUFFER, 0, 0, BUFFER };
	tls->net_out =
		(struct bt_tls_buffer){ p + 3 * BUFFER, 0, 0, BUFFER_OUT };
	return 0;
}

static int make_session(struct bt_tls *tls, const char *host)
{
	if (host && !(tls->host = strdup(host)))
		return -ENOMEM;
	if (bt_tls_session_create(tls->creds, tls->host, &tls->session) < 0) {
		tls->session = NULL;
		return -ENOMEM;
	}
	bt_tls_attach(tls);
	return 0;
}

static int make_pair(struct bt_tls *tls, int *out_fd)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		       fds))
		return -errno;
	tls->pair.fd = fds[0];
	*out_fd = fds[1];
	return 0;
}

/* These fail on a unix socket, which needs neither. */
static void tune(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

int bt_tls_create(struct bt_loop *loop, const struct bt_tls_options *options,
		  int fd, int *out_fd, struct bt_tls **out)
{
	struct bt_tls *tls = calloc(1, sizeof(*tls));
	int rc;

	if (!tls) {
		close(fd);
		return -ENOMEM;
	}
	tls->loop = loop;
	tls->creds = options->creds;
	tls->gnutls = &options->creds->gnutls;
	tls->is_shaking = true;
	tls->net.fd = fd;
	tls->pair.fd = -1;
	bt_timer_init(&tls->timer, on_timer);
	bt_work_init(&tls->work, on_work);
	tune(fd);
	rc = make_buffers(tls);
	if (!rc)
		rc = make_session(tls, options->host);
	if (!rc && options->limit_ns)
		rc = bt_timer_arm(loop, &tls->timer,
				  bt_loop_now(loop) + options->limit_ns);
	if (!rc)
		rc = make_pair(tls, out_fd);
	if (rc) {
		bt_tls_destroy(tls);
		return rc;
	}
	tls->limit_ns = options->limit_ns;
	tls->ended = options->ended;
	tls->opaque = options->opaque;
	*out = tls;
	bt_tls_step(tls);
	return 0;
}

void bt_tls_destroy(struct bt_tls *tls)
{
	if (!tls)
		return;
	tls->ended = NULL;
	bt_work_cancel(&tls->work);
	bt_timer_cancel(&tls->timer);
	bt_tls_close(tls);
	if (tls->session)
		tls->gnutls->deinit(tls->session);
	free(tls->net_in.data);
	free(tls->host);
	free(tls);
}

int bt_tls_get_error(const struct bt_tls *tls, const char **why,
		     const char **hint)
{
	*why = tls->why;
	*hint = tls->hint;
	return tls->error;
}

#endif
