/* SPDX-License-Identifier: BSD-3-Clause */
/* The server as <blktap/nbd.h> has it: made, asked, ended. It ends when the last
 * connection has: those in the handshake are dropped, the others drained for
 * GOODBYE_MS, and then dropped. One whose requests are in the disk stays for as long
 * as they do. */
#include "frontend/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/options.h"

#define CLIENTS 1024u
#define CLIENT_MEMORY ((32u << 20) + (64u << 10))
#define CLIENT_MEMORY_MIN (64u << 10)
#define TOTAL_MEMORY (1024ULL << 20)
#define HANDSHAKE_NS 30000000000ULL
#define STUCK_NS 10000000000ULL
#define GOODBYE_MS 2000 /* for the last replies when the server ends */

void blktap_nbd_options_init_sized(struct blktap_nbd_options *options,
				   size_t size)
{
	struct blktap_nbd_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* Options of a caller built against another version: what is not there keeps its
 * default, what is not known must not be asked for. */
static int read_options(const struct blktap_nbd_options *from,
			struct blktap_nbd_options *to,
			struct blktap_error **err)
{
	const uint8_t *bytes = (const uint8_t *)from;
	size_t i;

	blktap_nbd_options_init(to);
	if (!from || from->size < sizeof(from->size))
		return bt_fail(err, -EINVAL, "call blktap_nbd_options_init",
			       "NBD options without a size");
	for (i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return bt_fail(
				err, -EINVAL, NULL,
				"NBD options this library does not know");
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	return 0;
}

/* Longer ones could not be told to a client. */
static int copy_text(const char *what, const char *from, char **to,
		     struct blktap_error **err)
{
	if (strlen(from) > NBD_STRING_MAX)
		return bt_fail(err, -ENAMETOOLONG, NULL,
			       "%s of an NBD export: over %d bytes", what,
			       NBD_STRING_MAX);
	*to = strdup(from);
	return *to ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

/* The largest request that fits the client's memory, a power of two. */
static uint32_t payload_max(uint32_t client_memory)
{
	uint32_t max = BT_NBD_PAYLOAD_MAX;

	while (max > client_memory)
		max >>= 1;
	return max;
}

/* 0 is 'as usual', so that options of an older caller, which end before a
 * field, mean the same. */
static int set_options(struct blktap_nbd_server *server,
		       const struct blktap_nbd_options *options,
		       struct blktap_error **err)
{
	int rc = copy_text("name",
			   options->export_name ? options->export_name : "",
			   &server->export_name, err);

	if (!rc && options->description)
		rc = copy_text("description", options->description,
			       &server->description, err);
	if (rc)
		return rc;
	server->any_name = options->any_name;
	server->read_only = options->read_only;
	server->max_clients =
		options->max_clients ? options->max_clients : CLIENTS;
	server->client_memory =
		options->client_memory ? options->client_memory : CLIENT_MEMORY;
	if (server->client_memory < CLIENT_MEMORY_MIN)
		return bt_fail(err, -EINVAL, "give at least 65536 bytes",
			       "client memory %u: too little for a request",
			       server->client_memory);
	server->payload_max = payload_max(server->client_memory);
	server->total_memory = TOTAL_MEMORY;
	server->handshake_ns = HANDSHAKE_NS;
	server->stuck_ns = STUCK_NS;
	return 0;
}

/* After a shortage: perhaps there is enough now. */
static void on_accept_again(struct bt_timer *timer)
{
	bt_nbd_accept_resume(
		bt_container_of(timer, struct blktap_nbd_server, accept_again));
}

/* Nobody is connected. Also of one that was made in part. */
static void server_free(struct blktap_nbd_server *server)
{
	bt_nbd_listen_fini(server);
	bt_timer_cancel(&server->starve_timer);
	bt_nbd_cache_fini(&server->cache);
	bt_nbd_tls_fini(server);
	free(server->export_name);
	free(server->description);
	free(server);
}

/* For bt_loop_run_until. */
static bool has_no_clients(void *opaque)
{
	struct blktap_nbd_server *server = opaque;

	return !server->conn_count;
}

/* Nobody resumes the disk while its server is being destroyed. Requests at the
 * gate of a paused disk come back with ESHUTDOWN; those in the image are waited
 * for. */
static void cancel_held(struct bt_nbd_conn *conn)
{
	struct blktap_disk *disk = conn->server->disk;
	int i;

	for (i = 0; i < 2; i++)
		if (conn->pools[i])
			bt_vbd_cancel(disk, conn->pools[i], -ESHUTDOWN);
}

/* Nobody comes in, and clients in transmission get the answers they wait for.
 * Harmless twice: leave and destroy both do it. */
static void say_goodbye(struct blktap_nbd_server *server)
{
	struct bt_list *pos, *tmp;

	bt_nbd_accept_stop(server);
	server->max_clients = 0; /* nor does a leaving client start it again */
	bt_list_for_each_safe (pos, tmp, &server->conns) {
		struct bt_nbd_conn *conn =
			bt_list_entry(pos, struct bt_nbd_conn, link);

		if (conn->stage == BT_NBD_TRANSMIT)
			bt_nbd_conn_drain(conn, "the server ends");
		else if (conn->stage == BT_NBD_HAGGLE)
			bt_nbd_conn_kill(conn, "the server ends");
		cancel_held(conn);
	}
}

/* Without their answers; what the disk has of them is waited for all the same.
 */
static void drop_clients(struct blktap_nbd_server *server)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &server->conns)
		bt_nbd_conn_kill(bt_list_entry(pos, struct bt_nbd_conn, link),
				 "the server ends");
}

/* Ends the connections of clients, whether or not they take their answers.
 * GOODBYE_MS for those who take their answers; who does not is dropped, and
 * what the disk has of his is waited for without a limit, since its memory is
 * in use. */
static int end_clients(struct blktap_nbd_server *server)
{
	int rc;

	say_goodbye(server);
	rc = bt_loop_run_until(server->loop, has_no_clients, server,
			       GOODBYE_MS);
	if (rc != -ETIMEDOUT)
		return rc;
	drop_clients(server);
	return bt_loop_run_until(server->loop, has_no_clients, server, -1);
}

/* ---- an end that nobody waits for ------------------------------------------ */

/* Who has not taken his last replies by now does not get them. */
static void on_goodbye(struct bt_timer *timer)
{
	drop_clients(bt_container_of(timer, struct blktap_nbd_server, goodbye));
}

/* left may destroy the server: nothing of it is touched behind that. */
static void tell_left(struct bt_work *work)
{
	struct blktap_nbd_server *server =
		bt_container_of(work, struct blktap_nbd_server, left_work);
	void (*left)(void *opaque) = server->left;

	server->left = NULL;
	bt_timer_cancel(&server->goodbye);
	left(server->left_opaque);
}

/* Deferred, as the client that has just gone is still on the stack. */
void bt_nbd_server_count(struct blktap_nbd_server *server)
{
	if (server->left && !server->conn_count)
		bt_loop_defer(server->loop, &server->left_work);
}

/* The loop's time is of the turn's beginning, which a long command may have
 * left behind: hence refresh. */
void bt_nbd_server_leave(struct blktap_nbd_server *server,
			 void (*left)(void *opaque), void *opaque)
{
	server->left = left;
	server->left_opaque = opaque;
	say_goodbye(server);
	bt_timer_arm(server->loop, &server->goodbye,
		     bt_loop_refresh(server->loop) + GOODBYE_MS * 1000000ull);
	bt_nbd_server_count(server);
}

/* Who destroys the server is not told any more that it is empty. */
static void forget_leave(struct blktap_nbd_server *server)
{
	server->left = NULL;
	bt_work_cancel(&server->left_work);
	bt_timer_cancel(&server->goodbye);
}

/* ---- its life --------------------------------------------------------------- */

/* The disk is closed before its server is: the server must not go on. */
static void on_shutdown(struct bt_vbd_client *client)
{
	blktap_nbd_server_destroy(
		bt_container_of(client, struct blktap_nbd_server, client));
}

/* The disk is told of the server last: until then nothing of it can be reached.
 */
int blktap_nbd_server_create(struct blktap_disk *disk,
			     const struct blktap_nbd_options *options,
			     struct blktap_nbd_server **out,
			     struct blktap_error **err)
{
	struct blktap_nbd_server *server;
	struct blktap_nbd_options opts;
	int rc;

	/* from a callback of the close, which does not look for servers again */
	if (bt_vbd_is_shut(disk))
		return bt_fail(err, -ESHUTDOWN, NULL, "%s: is being closed",
			       blktap_disk_get_name(disk));
	server = calloc(1, sizeof(*server));
	if (!server)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	server->disk = disk;
	server->loop = bt_vbd_get_env(disk)->loop;
	server->log = bt_vbd_get_log(disk);
	server->client.shutdown = on_shutdown;
	bt_list_init(&server->conns);
	bt_timer_init(&server->accept_again, on_accept_again);
	bt_timer_init(&server->goodbye, on_goodbye);
	bt_work_init(&server->left_work, tell_left);
	bt_nbd_conn_init_memory(server);
	bt_nbd_cache_init(&server->cache, server->loop);
	rc = read_options(options, &opts, err);
	if (!rc)
		rc = set_options(server, &opts, err);
	if (!rc)
		rc = bt_nbd_tls_init(server, &opts, err);
	if (!rc)
		rc = bt_nbd_listen_init(server, &opts, err);
	if (rc) {
		server_free(server);
		return rc;
	}
	bt_vbd_client_add(disk, &server->client);
	*out = server;
	return 0;
}

/* It waits for clients, and the loop cannot turn inside of itself. */
int blktap_nbd_server_destroy(struct blktap_nbd_server *server)
{
	int rc;

	if (!server)
		return 0;
	if (bt_loop_is_running(server->loop))
		return -EDEADLK;
	forget_leave(server);
	rc = end_clients(server);
	if (rc)
		return rc;
	bt_vbd_client_del(&server->client);
	server_free(server);
	return 0;
}

const char *blktap_nbd_server_get_uri(const struct blktap_nbd_server *server)
{
	return server->uri;
}

uint32_t blktap_nbd_server_get_clients(const struct blktap_nbd_server *server)
{
	return server->conn_count;
}
