/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the NBD server; only the nbd-*.c files and their tests include it.
 *
 * A connection goes through stages, never back:
 *
 *   HAGGLE    greeting and options; nothing but struct bt_nbd_haggle is held
 *   TRANSMIT  requests and replies
 *   DRAIN     nothing more is read; what was accepted is answered (DISC, end of
 *             input, a request out of the protocol, the server's end)
 *   DEAD      the socket is useless; requests in flight are waited for
 *
 * It is freed in bt_nbd_conn_settle and nowhere else, when no request is out. */
#ifndef BT_FRONTEND_NBD_H
#define BT_FRONTEND_NBD_H

#include <blktap/nbd.h>
#include <sys/socket.h>

#include "loop/loop.h"
#include "util/nbd-proto.h"
#include "util/strbuf.h"
#include "vbd/vbd.h"

struct bt_nbd_conn;

/* ---- memory (nbd-buffer.c) ------------------------------------------------
 * Buffers come in powers of two from 4 KiB to 32 MiB, aligned to 4 KiB, and are
 * kept after use, so that the data path does not allocate. */
#define BT_NBD_BUFFER_SHIFT_MIN 12
#define BT_NBD_BUFFER_SHIFT_MAX 25
#define BT_NBD_PAYLOAD_MAX (1u << BT_NBD_BUFFER_SHIFT_MAX)

struct bt_nbd_cache {
	struct bt_loop *loop;
	void *free[BT_NBD_BUFFER_SHIFT_MAX - BT_NBD_BUFFER_SHIFT_MIN + 1];
	uint64_t kept; /* bytes on the free lists */
	uint64_t used; /* bytes handed out */
	uint64_t taken; /* buffers ever handed out: tells idle times */
	uint64_t taken_then;
	struct bt_timer trim;
};

/* Nothing is held before the first buffer is taken. */
void bt_nbd_cache_init(struct bt_nbd_cache *cache, struct bt_loop *loop);
/* Every buffer is back. */
void bt_nbd_cache_fini(struct bt_nbd_cache *cache);
/* Frees what is kept. */
void bt_nbd_cache_drop(struct bt_nbd_cache *cache);
/* Gives memory back to the system when there was no use for it for a second. */
void bt_nbd_cache_trim_soon(struct bt_nbd_cache *cache);
/* The size class for length, which is at most BT_NBD_PAYLOAD_MAX. */
uint32_t bt_nbd_buffer_shift(uint64_t length);
/* Not cleared; NULL where memory is out. What a client may hold is not looked at: see
 * bt_nbd_charge. */
void *bt_nbd_buffer_take(struct bt_nbd_cache *cache, uint32_t shift);
void bt_nbd_buffer_give(struct bt_nbd_cache *cache, void *buffer,
			uint32_t shift);

/* A piece of the incoming byte stream. Small write payloads are used where they
 * lie in it, so it lives until the last of them is written. */
#define BT_NBD_ARENA_SHIFT 18
#define BT_NBD_ARENA_ROOM ((1u << BT_NBD_ARENA_SHIFT) - 64u)
struct bt_nbd_arena {
	uint32_t refs; /* the connection's, and one a payload */
	uint8_t pad[60];
	uint8_t bytes[BT_NBD_ARENA_ROOM];
};

/* ---- the server (nbd-server.c, nbd-listen.c) ------------------------------ */

#define BT_NBD_LISTEN_MAX 9 /* one unix socket, eight TCP addresses */

struct bt_nbd_listener {
	struct bt_watch watch;
	struct blktap_nbd_server *server;
	int fd;
};

struct blktap_nbd_server {
	struct blktap_disk *disk;
	struct bt_loop *loop;
	const struct bt_log *log;
	struct bt_vbd_client client;
	struct bt_nbd_cache cache;

	struct bt_nbd_listener listeners[BT_NBD_LISTEN_MAX];
	uint32_t listener_count;
	bool accepting;
	struct bt_timer accept_again; /* after EMFILE and its like */
	uint64_t full_told_ns; /* when it was said that no place is free */
	char *unix_path; /* NULL: none to remove */
	uint64_t unix_dev, unix_ino; /* whose file it is */
	char *uri;

	char *export_name;
	char *description; /* or NULL */
	bool any_name;
	bool read_only;
	struct bt_tls_creds *tls; /* NULL: there is none */
	enum blktap_nbd_tls tls_mode;
	uint32_t max_clients;
	uint32_t client_memory;
	uint32_t payload_max; /* READ and WRITE */
	uint64_t total_memory; /* for all clients together */
	uint64_t handshake_ns; /* for all of the handshake */
	uint64_t stuck_ns; /* a client that must take replies takes none */

	struct bt_list conns;
	uint32_t conn_count;
	struct bt_list starved; /* connections that wait for total_memory */
	struct bt_timer starve_timer;

	/* bt_nbd_server_leave */
	void (*left)(void *opaque); /* NULL: nobody waits for it */
	void *left_opaque;
	struct bt_work left_work;
	struct bt_timer goodbye; /* ends with the last client, or its time */
};

/* Begins the end, and does not wait for it: nobody comes in any more, and clients
 * get the answers they wait for, if they take them soon. When the last is gone,
 * left is called from the loop; blktap_nbd_server_destroy then waits for nobody. */
void bt_nbd_server_leave(struct blktap_nbd_server *server,
			 void (*left)(void *opaque), void *opaque);
/* A client has gone. */
void bt_nbd_server_count(struct blktap_nbd_server *server);

/* Makes the listening sockets that options ask for, the server's uri, and what
 * is needed to remove them. On failure the caller does bt_nbd_listen_fini. */
int bt_nbd_listen_init(struct blktap_nbd_server *server,
		       const struct blktap_nbd_options *options,
		       struct blktap_error **err);
void bt_nbd_listen_fini(struct blktap_nbd_server *server);
/* Accepts again, e.g. when a client has left. */
void bt_nbd_accept_resume(struct blktap_nbd_server *server);
void bt_nbd_accept_stop(struct blktap_nbd_server *server);

/* ---- a request (nbd-request.c, driver/nbd/reply.c) ------------------------------- */

#define BT_NBD_CHUNKS 8 /* content chunks a reply is made of at most */
#define BT_NBD_META_ID 1 /* of base:allocation; bitmaps follow */
#define BT_NBD_BITMAPS 7 /* that a client may choose: a chunk each */
#define BT_NBD_STATUS_ROOM 4096u /* bytes of descriptors in a chunk at most */
#define BT_NBD_HOLE_LEN (NBD_CHUNK_LEN + 12)

#define BT_NBD_POOL_SMALL 16 /* requests every connection has */
#define BT_NBD_POOL_LARGE 112 /* and one that has many under way */

struct bt_nbd_request {
	struct bt_request req; /* must be first */
	struct bt_nbd_conn *conn;
	uint64_t cookie;
	uint16_t type; /* enum bt_nbd_command */
	uint16_t flags; /* NBD_CMD_FLAG_* */
	uint32_t length;
	void *buffer; /* or NULL */
	uint32_t shift; /* of buffer */
	struct bt_nbd_arena *arena; /* where the payload lies, or NULL */
	struct iovec iov; /* req.data */
	/* the reply: what to send, in order */
	uint32_t out_count;
	size_t out_len;
	struct iovec out[2 * BT_NBD_CHUNKS];
	uint8_t head[BT_NBD_CHUNKS * BT_NBD_HOLE_LEN];
};

/* Parses and submits what has been received, until more is needed, the
 * connection stalls, or it leaves TRANSMIT. */
void bt_nbd_parse(struct bt_nbd_conn *conn);
/* Bytes that the message at the head of the arena needs in all. */
size_t bt_nbd_message_need(const struct bt_nbd_conn *conn);
/* Submits a write whose payload is complete. */
void bt_nbd_submit(struct bt_nbd_request *item);

/* Queues the answer to a request that was not submitted: error is a negative
 * errno, text says why. */
void bt_nbd_refuse(struct bt_nbd_request *item, int error, const char *text);
/* req->done of every request. */
void bt_nbd_done(struct bt_request *req);
/* Gives the request and all it holds back. */
void bt_nbd_release(struct bt_nbd_request *item);
/* The protocol's number for a negative errno; the only place that maps. */
uint32_t bt_nbd_errno(int error, uint16_t cmd_flags);

/* ---- a connection (nbd-conn.c) -------------------------------------------- */

enum bt_nbd_stage { BT_NBD_HAGGLE, BT_NBD_TRANSMIT, BT_NBD_DRAIN, BT_NBD_DEAD };

struct bt_nbd_conn {
	struct bt_list link;
	struct blktap_nbd_server *server;
	struct bt_watch watch;
	struct bt_timer timer; /* handshake; getting rid of the last replies */
	struct bt_work work;
	struct bt_list starving; /* on server->starved, or empty */
	int fd;
	struct bt_tls *tls; /* NULL, or fd is an end of its pair */
	bool tls_ended;
	enum bt_nbd_stage stage;
	bool is_tcp;
	bool structured;
	bool meta; /* a context is chosen for this export: base:allocation, */
	bool meta_base;
	uint32_t meta_bitmaps; /* and so many bitmaps */
	char *meta_names[BT_NBD_BITMAPS];

	struct bt_nbd_haggle *haggle; /* HAGGLE only */

	/* receiving */
	struct bt_pool *pools[2]; /* the second is made when it is needed */
	struct bt_nbd_arena *arena;
	size_t head, tail; /* bytes of arena not parsed yet */
	size_t appetite; /* bytes to receive into the arena at once */
	struct bt_nbd_request *filling; /* its buffer gets a large payload */
	size_t filled;
	uint64_t skip; /* payload bytes to be dropped */
	struct bt_nbd_request *skipping; /* answered after that */
	int skip_error;
	const char *skip_text;
	bool stalled; /* out of requests or memory: parse again later */
	bool muted; /* stalled, and there is input */

	/* sending */
	struct bt_list replies; /* requests, in order of completion */
	size_t sent; /* bytes of the first reply that are out */
	bool blocked; /* the socket is full */
	uint64_t progress_ns; /* when the socket last moved a byte */
	uint64_t whole_ns; /* when a reply was last out, or filling began */

	uint32_t held; /* requests out of the pools */
	uint32_t in_flight; /* of these, submitted and not done */
	uint64_t memory; /* bytes of buffers and arenas */
};

/* Of the server: what watches over the memory of all. */
void bt_nbd_conn_init_memory(struct blktap_nbd_server *server);
/* Takes over fd in every case. */
void bt_nbd_conn_create(struct blktap_nbd_server *server, int fd, bool is_tcp);
/* HAGGLE is over. */
void bt_nbd_conn_transmit(struct bt_nbd_conn *conn);
/* To DRAIN; why is for the log. */
void bt_nbd_conn_drain(struct bt_nbd_conn *conn, const char *why);
/* To DEAD, replies that wait are dropped. */
void bt_nbd_conn_kill(struct bt_nbd_conn *conn, const char *why);
/* Looks what there is to wait for, and frees the connection where there is
 * nothing: the caller must not touch it after. */
void bt_nbd_conn_settle(struct bt_nbd_conn *conn);
/* Has the connection looked at later in this turn. */
void bt_nbd_conn_defer(struct bt_nbd_conn *conn);

/* Takes bytes of the client's allowance; false where it has to wait. */
bool bt_nbd_charge(struct bt_nbd_conn *conn, uint64_t bytes);
void bt_nbd_discharge(struct bt_nbd_conn *conn, uint64_t bytes);
/* Has the connection tried again when memory is given back, or in a second. */
void bt_nbd_starve(struct bt_nbd_conn *conn);

/* ---- bytes in and out (nbd-receive.c, nbd-send.c) ------------------------- */

/* One read from the socket, and what follows from it. */
void bt_nbd_receive(struct bt_nbd_conn *conn);
/* Sends what is queued, as far as the socket takes it. */
void bt_nbd_send(struct bt_nbd_conn *conn);
void bt_nbd_arena_unref(struct bt_nbd_conn *conn, struct bt_nbd_arena *arena);
/* Gives back an arena that holds nothing any more. */
void bt_nbd_arena_rest(struct bt_nbd_conn *conn);

/* ---- the handshake (driver/nbd/handshake.c, nbd-option.c) ------------------------ */

struct bt_nbd_haggle {
	enum { BT_NBD_FLAGS, BT_NBD_HEADER, BT_NBD_DATA, BT_NBD_SKIP } part;
	bool fixed; /* the client speaks fixed newstyle */
	bool no_zeroes;
	bool go; /* transmission follows when out is sent */
	bool bye; /* the end follows when out is sent */
	bool starttls; /* TLS follows when out is sent */
	uint32_t option;
	uint32_t length; /* of its data */
	uint32_t skip; /* bytes left to drop */
	uint8_t *buf; /* grows to the option, which is bounded */
	size_t cap, have, need;
	char *meta_name; /* the export that meta was chosen for */
	size_t meta_len;
	struct bt_strbuf out;
	size_t sent;
};

/* Puts the greeting into out, and sends nothing. -ENOMEM. */
int bt_nbd_haggle_create(struct bt_nbd_conn *conn);
/* NULL is fine. */
void bt_nbd_haggle_destroy(struct bt_nbd_haggle *haggle);
/* Goes on as far as the socket allows. The connection may be in another stage after,
 * and then its haggle may be gone. */
void bt_nbd_haggle_run(struct bt_nbd_conn *conn);
/* An option whose data is complete: queues the answer. */
void bt_nbd_option(struct bt_nbd_conn *conn, const uint8_t *data, uint32_t len);
void bt_nbd_option_reply(struct bt_nbd_conn *conn, uint32_t type,
			 const void *data, size_t len);
/* An error reply with a text for people. */
void bt_nbd_option_error(struct bt_nbd_conn *conn, uint32_t type,
			 const char *text);
/* The answer to LIST_META_CONTEXT and SET_META_CONTEXT (nbd-meta.c). */
void bt_nbd_option_meta(struct bt_nbd_conn *conn, const uint8_t *data,
			uint32_t len);
void bt_nbd_meta_forget(struct bt_nbd_conn *conn);
/* The empty name stands for the default export, and there is but one. */
bool bt_nbd_is_export(const struct bt_nbd_conn *conn, const char *name,
		      uint32_t len);
/* The transmission flags of the export for this connection. */
uint16_t bt_nbd_flags(const struct bt_nbd_conn *conn);

/* ---- TLS (nbd-tls.c) ------------------------------------------------------ */

/* Reads what TLS needs, once; -EINVAL where the options do not go together. */
int bt_nbd_tls_init(struct blktap_nbd_server *server,
		    const struct blktap_nbd_options *options,
		    struct blktap_error **err);
void bt_nbd_tls_fini(struct blktap_nbd_server *server);
/* len: of the option's data, which has to be none. */
void bt_nbd_option_starttls(struct bt_nbd_conn *conn, uint32_t len);
/* True where the option had to wait for TLS, and has its answer. */
bool bt_nbd_tls_refuses(struct bt_nbd_conn *conn);
/* Where TLS has failed, that is why the client is dropped, whoever saw it first:
 * to the log. */
void bt_nbd_tls_tell(const struct bt_nbd_conn *conn);
/* STARTTLS has been acknowledged. */
void bt_nbd_tls_start(struct bt_nbd_conn *conn);

#endif
