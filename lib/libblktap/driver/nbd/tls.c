/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS of the client. What it shows and whom it believes stands in the URI or in
 * the arguments, is read when the disk is opened, and is good for every later
 * connection: none of them is ever in the clear. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/error.h"
#include "port/args.h"
#include "tls/tls.h"

/* A URI's parameter, or the argument of the same meaning. */
static const char *choose(const char *in_uri, const struct bt_args *args,
			  const char *name)
{
	return in_uri ? in_uri : bt_args_string(args, name);
}

static int check_one(const struct bt_args *args, const char *in_uri,
		     const char *name, const struct bt_nbdc_uri *uri,
		     struct blktap_error **err)
{
	const char *arg = bt_args_string(args, name);

	if (arg && !uri->is_tls)
		return bt_fail(err, -EINVAL, "write nbds in place of nbd",
			       "nbd: '%s' is without TLS: %s has no use",
			       uri->text, name);
	if (arg && in_uri && strcmp(arg, in_uri))
		return bt_fail(err, -EINVAL, "give one of them",
			       "nbd: '%s' and %s=%s differ", uri->text, name,
			       arg);
	return 0;
}

int bt_nbdc_tls_check(const struct bt_args *args, const struct bt_nbdc_uri *uri,
		      struct blktap_error **err)
{
	int rc = check_one(args, uri->certificates, "tls_certificates", uri,
			   err);

	if (!rc)
		rc = check_one(args, uri->psk, "tls_psk", uri, err);
	if (!rc)
		rc = check_one(args, uri->user, "tls_user", uri, err);
	if (!rc)
		rc = check_one(args, uri->hostname, "tls_hostname", uri, err);
	if (!rc && !uri->is_tls && !bt_args_bool(args, "tls_verify_peer"))
		rc = bt_fail(err, -EINVAL, "write nbds in place of nbd",
			     "nbd: '%s' is without TLS", uri->text);
	return rc;
}

/* A unix socket leads to this machine. */
static const char *get_host(const struct bt_nbdc *nbd)
{
	const char *host = nbd->uri.host;

	return host && *host ? host : "localhost";
}

int bt_nbdc_tls_prepare(struct bt_nbdc *nbd, const struct bt_args *args,
			struct blktap_error **err)
{
	const struct bt_nbdc_uri *uri = &nbd->uri;
	struct bt_tls_files files = {
		.certificates =
			choose(uri->certificates, args, "tls_certificates"),
		.psk = choose(uri->psk, args, "tls_psk"),
		.user = choose(uri->user, args, "tls_user"),
		.verify_peer = bt_args_bool(args, "tls_verify_peer") &&
			       (!uri->verify || !strcmp(uri->verify, "true")),
	};

	if (!uri->is_tls)
		return 0;
	nbd->tls_host = choose(uri->hostname, args, "tls_hostname");
	if (!nbd->tls_host)
		nbd->tls_host = get_host(nbd);
	return bt_tls_creds_create(nbd->name, &files, &nbd->tls, err);
}

/* ---- a connection --------------------------------------------------------- */

/* The watch goes with the descriptor; who waits by poll(2) has none. */
int bt_nbdc_tls_start(struct bt_nbdc_conn *conn)
{
	struct bt_loop *loop = conn->nbd->loop;
	struct bt_tls_options options = {
		.creds = conn->nbd->tls,
		.host = conn->nbd->tls_host,
		.limit_ns = bt_nbdc_attempt_ns(conn->nbd),
	};
	bool is_watched = conn->watch.loop;
	int fd = conn->fd, rc;

	bt_watch_del(&conn->watch);
	conn->fd = -1;
	rc = bt_tls_create(loop, &options, fd, &conn->fd, &conn->tls);
	if (!rc && is_watched)
		rc = bt_watch_add(loop, &conn->watch, conn->fd, EPOLLIN,
				  conn->watch.fn);
	if (rc)
		return bt_nbdc_fail(conn, rc, NULL, "no session of TLS");
	return 0;
}

void bt_nbdc_tls_stop(struct bt_nbdc_conn *conn)
{
	if (conn->tls)
		bt_tls_step(conn->tls);
	bt_tls_destroy(conn->tls);
	conn->tls = NULL;
}

void bt_nbdc_tls_poll(struct bt_nbdc_conn *conn, int timeout_ms)
{
	uint32_t wants = bt_nbdc_wants(conn);
	struct pollfd polls[3] = {
		{ .fd = conn->fd,
		  .events = (short)((wants & EPOLLIN ? POLLIN : 0) |
				    (wants & EPOLLOUT ? POLLOUT : 0)) },
		{ .fd = -1 },
		{ .fd = -1 },
	};

	if (conn->tls)
		bt_tls_get_polls(conn->tls, polls + 1);
	poll(polls, 3, timeout_ms);
	if (conn->tls)
		bt_tls_step(conn->tls);
}
