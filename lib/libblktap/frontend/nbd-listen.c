/* SPDX-License-Identifier: BSD-3-Clause */
/* Listening sockets, the server's address, and accepting.
 *
 * Nobody is accepted while all places are taken, or while the system has no
 * descriptors; clients wait in the backlog meanwhile. What begins it again is a client
 * that leaves, and in the second case a timer as well. */
#include "frontend/nbd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"

#define BACKLOG 1024
#define ACCEPT_AGAIN_NS 100000000ULL
#define ACCEPTS_A_TURN 64
#define TELL_AGAIN_NS 60000000000ULL
#define DEFAULT_PORT "10809"
#define URI_SAFE "-._~/"

/* There is room: the unix socket is the first, and listen_tcp counts. */
static void add_listener(struct blktap_nbd_server *server, int fd)
{
	server->listeners[server->listener_count].server = server;
	server->listeners[server->listener_count++].fd = fd;
}

/* ---- accepting ------------------------------------------------------------ */

/* Connections wait in the backlog, or are refused when it is full. */
void bt_nbd_accept_stop(struct blktap_nbd_server *server)
{
	uint32_t i;

	for (i = 0; i < server->listener_count; i++)
		bt_watch_del(&server->listeners[i].watch);
	server->accepting = false;
}

/* Out of descriptors or memory: the connection stays in the backlog, and asking
 * again at once would not help it. */
static void pause_accepting(struct blktap_nbd_server *server, int error)
{
	char buf[BT_STRERROR_MAX];

	bt_log(server->log, BLKTAP_LOG_WARNING,
	       "%s: cannot accept a client: %s; trying again later",
	       server->uri, bt_strerror(-error, buf));
	bt_nbd_accept_stop(server);
	bt_timer_arm(server->loop, &server->accept_again,
		     bt_loop_now(server->loop) + ACCEPT_AGAIN_NS);
}

/* What passes when somebody gives something back. Any other error is that of
 * the one who came. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	       error == ENOMEM;
}

/* Only a client that waits brings us here with all places taken. Told once a
 * minute, since each that leaves lets one in. */
static void refuse_more(struct blktap_nbd_server *server)
{
	uint64_t now = bt_loop_now(server->loop);

	bt_nbd_accept_stop(server); /* until one leaves */
	if (server->full_told_ns && now - server->full_told_ns < TELL_AGAIN_NS)
		return;
	server->full_told_ns = now;
	bt_log(server->log, BLKTAP_LOG_WARNING,
	       "%s: all %u places for clients are taken: others wait until "
	       "one leaves",
	       server->uri, server->max_clients);
}

/* The listener of the unix socket is the first, which tells it from TCP. */
static void on_client(struct bt_watch *watch, uint32_t events)
{
	struct bt_nbd_listener *listener =
		bt_container_of(watch, struct bt_nbd_listener, watch);
	struct blktap_nbd_server *server = listener->server;
	bool is_tcp = listener != server->listeners || !server->unix_path;
	int i, fd;

	if (server->conn_count >= server->max_clients) {
		refuse_more(server);
		return;
	}
	for (i = 0; i < ACCEPTS_A_TURN; i++) {
		if (server->conn_count >= server->max_clients)
			return;
		fd = accept4(listener->fd, NULL, NULL,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			bt_nbd_conn_create(server, fd, is_tcp);
		} else if (is_shortage(errno)) {
			pause_accepting(server, errno);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
}

/* Called whenever a client has left; harmless where nothing was stopped. */
void bt_nbd_accept_resume(struct blktap_nbd_server *server)
{
	uint32_t i;

	if (server->accepting || !server->listener_count ||
	    server->conn_count >= server->max_clients)
		return;
	bt_timer_cancel(&server->accept_again);
	server->accepting = true;
	for (i = 0; i < server->listener_count; i++) {
		struct bt_nbd_listener *l = &server->listeners[i];

		if (bt_watch_add(server->loop, &l->watch, l->fd, EPOLLIN,
				 on_client)) {
			pause_accepting(server, ENOMEM);
			return;
		}
	}
}

/* ---- the unix socket ------------------------------------------------------ */

/* 0: nobody answers there, and it is a socket. A name that another server
 * listens at must not be taken from it; one that is no socket is somebody's
 * file. */
static int probe_stale(const struct sockaddr_un *addr,
		       struct blktap_error **err)
{
	const char *path = addr->sun_path;
	struct stat st;
	int fd, rc;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return bt_fail(err, -EEXIST, "choose another path",
			       "%s: is there and not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno
								       : 0;
	close(fd);
	if (rc == ECONNREFUSED || rc == ENOENT)
		return 0;
	return bt_fail(err, -EADDRINUSE,
		       "stop the server that uses it, or choose another path",
		       "%s: another server listens there", path);
}

/* Between the probe and the unlink another server may bind there: then its
 * socket is lost by name. */
static int bind_unix(int fd, const struct sockaddr_un *addr,
		     struct blktap_error **err)
{
	int rc;

	/* the mode of the file that bind makes, without a moment in between */
	if (fchmod(fd, 0600))
		return -errno;
	if (!bind(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	rc = probe_stale(addr, err);
	if (rc)
		return rc;
	unlink(addr->sun_path);
	return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno
								      : 0;
}

/* Device and inode are kept, to know at the end whether the file is still ours.
 */
static int start_unix(struct blktap_nbd_server *server, int fd,
		      const struct sockaddr_un *addr, struct blktap_error **err)
{
	char buf[BT_STRERROR_MAX];
	struct stat st;
	int rc = bind_unix(fd, addr, err);

	if (rc)
		return bt_fail(err, rc, NULL, "%s: %s", addr->sun_path,
			       bt_strerror(rc, buf));
	server->unix_path = strdup(addr->sun_path);
	if (!server->unix_path || lstat(addr->sun_path, &st) ||
	    listen(fd, BACKLOG)) {
		rc = server->unix_path ? -errno : -ENOMEM;
		unlink(addr->sun_path);
		free(server->unix_path);
		server->unix_path = NULL;
		return bt_fail(err, rc, NULL, "%s: %s", addr->sun_path,
			       bt_strerror(rc, buf));
	}
	server->unix_dev = st.st_dev;
	server->unix_ino = st.st_ino;
	return 0;
}

/* A name that does not fit is refused: cut, it would be another one. */
static int listen_unix(struct blktap_nbd_server *server, const char *path,
		       struct blktap_error **err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	if (!*path || strlen(path) >= sizeof(addr.sun_path))
		return bt_fail(err, *path ? -ENAMETOOLONG : -EINVAL,
			       "use a shorter directory; a relative path will "
			       "do",
			       "%s: the path of a socket has 1 to %zu bytes",
			       path, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bt_fail(err, -errno, NULL, "%s: no socket: %m", path);
	rc = start_unix(server, fd, &addr, err);
	if (rc) {
		close(fd);
		return rc;
	}
	add_listener(server, fd);
	return 0;
}

/* ---- TCP ------------------------------------------------------------------ */

/* In network order, as the structure has it. */
static uint16_t *port_of(struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET6)
		return &((struct sockaddr_in6 *)addr)->sin6_port;
	return &((struct sockaddr_in *)addr)->sin_port;
}

/* Port 0 stands for any free one, and all addresses share it: *port is that of
 * the first, in network order. IPV6_V6ONLY: the IPv4 address has a socket of
 * its own, which would find the port taken. */
static int listen_address(struct blktap_nbd_server *server,
			  const struct addrinfo *ai, uint16_t *port)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int one = 1, rc;
	int fd = socket(ai->ai_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			ai->ai_protocol);

	if (fd < 0)
		return -errno;
	memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
	if (!*port_of(&addr))
		*port_of(&addr) = *port;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, ai->ai_addrlen) ||
	    listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&addr, &len)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	*port = *port_of(&addr);
	add_listener(server, fd);
	return 0;
}

/* getaddrinfo takes 99999 for the port that is left of it in 16 bits. */
static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return text[digits] || (digits <= 5 && atoi(text) <= UINT16_MAX);
}

/* What to do about the usual reasons. */
static const char *tcp_hint(int rc)
{
	switch (rc) {
	case -EADDRINUSE:
		return "another server is there: choose another port";
	case -EADDRNOTAVAIL:
		return "name an address that this machine has";
	case -EACCES:
		return "ports below 1024 need privilege: choose a higher one";
	default:
		return NULL;
	}
}

/* getaddrinfo may ask a name server, and blocks: it is called when a server is
 * made, not while it serves. */
static int listen_tcp(struct blktap_nbd_server *server, const char *host,
		      const char *port, uint16_t *bound,
		      struct blktap_error **err)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE,
				  .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM };
	uint32_t before = server->listener_count;
	struct addrinfo *list, *ai;
	char buf[BT_STRERROR_MAX];
	int rc;

	if (!is_port(port))
		return bt_fail(err, -EINVAL, "give a number up to 65535",
			       "%s port %s: is no port", host, port);
	rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (rc)
		return bt_fail(err, rc == EAI_SYSTEM ? -errno : -EADDRNOTAVAIL,
			       tcp_hint(-EADDRNOTAVAIL), "%s port %s: %s", host,
			       port, gai_strerror(rc));
	rc = -EADDRNOTAVAIL;
	for (ai = list; ai; ai = ai->ai_next) {
		int one = server->listener_count < BT_NBD_LISTEN_MAX
				  ? listen_address(server, ai, bound)
				  : 0;

		/* a family this machine lacks is no reason to refuse */
		if (one && one != -EAFNOSUPPORT && one != -EADDRNOTAVAIL) {
			rc = one;
			break;
		}
	}
	freeaddrinfo(list);
	if (!ai && server->listener_count > before)
		return 0;
	return bt_fail(err, rc, tcp_hint(rc), "%s port %s: %s", host, port,
		       bt_strerror(rc, buf));
}

/* ---- the address of it all ------------------------------------------------ */

/* What a client is to be given; of several addresses the first. */
static int make_uri(struct blktap_nbd_server *server, const char *host,
		    uint16_t port)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_puts(&sb, server->tls ? "nbds" : "nbd");
	if (server->unix_path) {
		bt_strbuf_puts(&sb, "+unix:///");
		bt_strbuf_put_escaped(&sb, server->export_name, URI_SAFE);
		bt_strbuf_puts(&sb, "?socket=");
		bt_strbuf_put_escaped(&sb, server->unix_path, URI_SAFE);
	} else {
		bool is_v6 = strchr(host, ':');

		bt_strbuf_printf(&sb, "://%s%s%s:%u", is_v6 ? "[" : "",
				 *host ? host : "localhost", is_v6 ? "]" : "",
				 ntohs(port));
		if (*server->export_name) {
			bt_strbuf_putc(&sb, '/');
			bt_strbuf_put_escaped(&sb, server->export_name,
					      URI_SAFE);
		}
	}
	server->uri = bt_strbuf_steal(&sb);
	return server->uri ? 0 : -ENOMEM;
}

/* Nobody is accepted before all addresses are there: a server that cannot have
 * one of them never was. */
int bt_nbd_listen_init(struct blktap_nbd_server *server,
		       const struct blktap_nbd_options *options,
		       struct blktap_error **err)
{
	uint16_t port = 0;
	int rc = 0;

	if (!options->unix_path && !options->host)
		return bt_fail(err, -EINVAL, "give a socket's path or a host",
			       "an NBD server needs an address");
	/* the unix socket first: on_client knows it by its place */
	if (options->unix_path)
		rc = listen_unix(server, options->unix_path, err);
	if (!rc && options->host)
		rc = listen_tcp(server, options->host,
				options->port ? options->port : DEFAULT_PORT,
				&port, err);
	if (!rc)
		rc = make_uri(server, options->host, port);
	if (rc)
		return bt_fail(err, rc, NULL, "out of memory");
	bt_nbd_accept_resume(server);
	return 0;
}

/* The file may be another server's by now. */
static void remove_socket_file(struct blktap_nbd_server *server)
{
	struct stat st;

	if (server->unix_path && !lstat(server->unix_path, &st) &&
	    S_ISSOCK(st.st_mode) && st.st_dev == server->unix_dev &&
	    st.st_ino == server->unix_ino)
		unlink(server->unix_path);
	free(server->unix_path);
	server->unix_path = NULL;
}

void bt_nbd_listen_fini(struct blktap_nbd_server *server)
{
	uint32_t i;

	bt_timer_cancel(&server->accept_again);
	bt_nbd_accept_stop(server);
	/* before the socket is closed, or another server might take the path
	 * for stale and have it removed under it */
	remove_socket_file(server);
	for (i = 0; i < server->listener_count; i++)
		close(server->listeners[i].fd);
	server->listener_count = 0;
	free(server->uri);
	server->uri = NULL;
}
