/* SPDX-License-Identifier: BSD-3-Clause */
/* STARTTLS. Where the client has been told that it may begin, its socket goes to
 * a pump, and the connection goes on with the pump's other end, in the handshake
 * as if nothing had been said before: what was chosen in the clear may have been
 * said by anybody. Nor was anything read ahead: bytes that came behind the option
 * are in the socket still, and are taken for TLS. */
#include "frontend/nbd.h"

#include <errno.h>

#include "core/error.h"
#include "core/log.h"
#include "tls/tls.h"

int bt_nbd_tls_init(struct blktap_nbd_server *server,
		    const struct blktap_nbd_options *options,
		    struct blktap_error **err)
{
	struct bt_tls_files files = {
		.is_server = true,
		.certificates = options->tls_certificates,
		.psk = options->tls_psk,
		.verify_peer = options->tls_verify_peer,
	};

	server->tls_mode = options->tls;
	if (options->tls == BLKTAP_NBD_TLS_OFF) {
		if (!files.certificates && !files.psk && !files.verify_peer)
			return 0;
		return bt_fail(err, -EINVAL, "ask for it: on, or require",
			       "NBD: TLS is off, and has certificates or keys");
	}
	if (options->tls != BLKTAP_NBD_TLS_ON &&
	    options->tls != BLKTAP_NBD_TLS_REQUIRE)
		return bt_fail(err, -EINVAL, NULL,
			       "NBD: TLS is off, on or require");
	return bt_tls_creds_create("NBD", &files, &server->tls, err);
}

void bt_nbd_tls_fini(struct blktap_nbd_server *server)
{
	bt_tls_creds_destroy(server->tls);
	server->tls = NULL;
}

/* ---- the option ------------------------------------------------------------- */

void bt_nbd_option_starttls(struct bt_nbd_conn *conn, uint32_t len)
{
	if (len)
		bt_nbd_option_error(conn, NBD_REP_ERR_INVALID,
				    "STARTTLS takes no data");
	else if (!conn->server->tls)
		bt_nbd_option_error(conn, NBD_REP_ERR_UNSUP,
				    "this server has no TLS");
	else if (conn->tls)
		bt_nbd_option_error(conn, NBD_REP_ERR_INVALID,
				    "this connection has TLS already");
	else
		conn->haggle->starttls = true;
	if (conn->haggle->starttls)
		bt_nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}

bool bt_nbd_tls_refuses(struct bt_nbd_conn *conn)
{
	uint32_t option = conn->haggle->option;

	if (conn->server->tls_mode != BLKTAP_NBD_TLS_REQUIRE || conn->tls ||
	    option == NBD_OPT_STARTTLS || option == NBD_OPT_ABORT)
		return false;
	if (option == NBD_OPT_EXPORT_NAME) /* it has no way to say no */
		bt_nbd_conn_kill(conn, "wants no TLS");
	else
		bt_nbd_option_error(conn, NBD_REP_ERR_TLS_REQD,
				    "this server wants TLS first");
	return true;
}

/* ---- the connection --------------------------------------------------------- */

void bt_nbd_tls_tell(const struct bt_nbd_conn *conn)
{
	const char *why, *hint;

	if (conn->tls && conn->stage < BT_NBD_DRAIN &&
	    bt_tls_get_error(conn->tls, &why, &hint))
		bt_log(conn->server->log, BLKTAP_LOG_INFO,
		       "%s: client dropped: %s", conn->server->uri, why);
}

/* Without a reason both sides have ended: the connection finds out by itself, or
 * waits for nothing else. */
static void on_ended(void *opaque)
{
	struct bt_nbd_conn *conn = opaque;
	const char *why, *hint;

	conn->tls_ended = true;
	if (bt_tls_get_error(conn->tls, &why, &hint) &&
	    conn->stage < BT_NBD_DRAIN)
		bt_nbd_conn_kill(conn, why);
	bt_nbd_conn_settle(conn);
}

static void forget(struct bt_nbd_conn *conn)
{
	conn->structured = false;
	bt_nbd_meta_forget(conn);
}

void bt_nbd_tls_start(struct bt_nbd_conn *conn)
{
	struct bt_tls_options options = {
		.creds = conn->server->tls,
		.limit_ns = conn->server->handshake_ns,
		.ended = on_ended,
		.opaque = conn,
	};
	int fd = conn->fd, rc;

	conn->haggle->starttls = false;
	forget(conn);
	bt_watch_del(&conn->watch);
	conn->fd = -1;
	rc = bt_tls_create(conn->server->loop, &options, fd, &conn->fd,
			   &conn->tls);
	if (rc)
		bt_nbd_conn_kill(conn, "no session of TLS");
	conn->is_tcp = false; /* what it has now is not */
}
