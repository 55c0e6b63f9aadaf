/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the nbd driver, the client; only the driver/nbd/ files and their
 * tests include it.
 *
 * A node has one or more connections, each of which goes through
 *
 *   DOWN -> CONNECTING -> GREETING -> [STARTTLS] -> [STRUCTURED -> META]
 *     ^       -> GO | NAME -> UP
 *     '------------------- bt_nbdc_drop, from anywhere
 *
 * and DOWN again after a loss, from where a timer starts anew. The first is made
 * in open, which waits for it with poll(2); all others by the loop. Both drive
 * the same code: bt_nbdc_progress.
 *
 * A request becomes a call, of which the node has a fixed number:
 *
 *   waiting   no call is free                      nbd->waiting, oldest first
 *   ready     no connection is up                  nbd->ready, oldest first
 *   unsent    has a connection; part may be sent   conn->unsent, oldest first
 *   sent      the server has all of it             conn->sent, no order
 *
 * What a lost connection had (unsent and sent) goes to the head of ready and is
 * sent again, see bt_nbdc_drop for what that means.
 *
 * The protocol is doc/proto.md of the NBD project; util/nbd-proto.h has its
 * numbers, which are big-endian on the wire. */
#ifndef BT_DRIVER_NBD_H
#define BT_DRIVER_NBD_H

#include <sys/socket.h>
#include <sys/un.h>

#include "port/port.h"
#include "util/nbd-proto.h"

#define BT_NBDC_CALLS 256u
#define BT_NBDC_CONNS 16u
#define BT_NBDC_RANGES 16u
#define BT_NBDC_ADDRESSES 8u
#define BT_NBDC_BUFFER 65536u
#define BT_NBDC_WHY 512u

struct bt_nbdc;
struct bt_nbdc_conn;

/* ---- URIs (uri.c) ----------------------------------------------------- */

struct bt_nbdc_uri {
	char *text; /* with its scheme, for messages */
	char *export; /* never NULL */
	char *socket; /* path of a unix socket, or NULL */
	char *host; /* of TCP; "" is localhost */
	char *port;
	bool is_tls; /* nbds; what follows is NULL without */
	char *certificates, *psk, *user, *hostname;
	char *verify; /* "true" or "false" */
};

/* Reads nbd://[USER@]HOST[:PORT][/EXPORT] or nbd+unix://[USER@]/[EXPORT]?socket=PATH,
 * or nbds in their place. What stands in it is the caller's to free, by
 * bt_nbdc_uri_fini. */
int bt_nbdc_uri_parse(const char *text, struct bt_nbdc_uri *uri,
		      struct blktap_error **err);
void bt_nbdc_uri_fini(struct bt_nbdc_uri *uri);

/* ---- what an export is ---------------------------------------------------- */

struct bt_nbdc_info {
	uint64_t size;
	uint32_t min_block, preferred_block, max_block;
	uint32_t meta_id; /* of base:allocation */
	uint16_t flags; /* NBD_FLAG_* */
	bool structured;
	bool has_meta;
	bool has_blocks; /* the server told its block sizes */
};

/* ---- calls ---------------------------------------------------------------- */

/* Bytes of a read, counted from its beginning. */
struct bt_nbdc_range {
	uint32_t start, end;
};

struct bt_nbdc_call {
	struct bt_list link;
	struct bt_request *req; /* NULL while the call is free */
	struct bt_nbdc_conn *conn; /* NULL while it is ready */
	uint64_t cookie; /* another one each time it is sent */
	uint64_t offset; /* on the wire: aligned */
	uint32_t length;
	uint16_t flags;
	uint16_t type; /* enum bt_nbd_command */
	bool is_sent; /* the last byte of it is with the system */
	uint8_t header[NBD_REQUEST_LEN]; /* as it goes out */
	uint64_t mark; /* FLUSH: the writes it covers */
	uint64_t lost_ns; /* when it was first sent in vain; 0: never */
	uint64_t since_ns; /* when it got its connection */
	/* the reply so far */
	int error;
	uint32_t errors; /* chunks of that kind */
	bool has_status; /* BLOCK_STATUS: its context has been told */
	uint32_t range_count; /* READ: what has come, ascending, disjoint */
	struct bt_nbdc_range ranges[BT_NBDC_RANGES];
};

/* ---- connections ---------------------------------------------------------- */

enum bt_nbdc_stage {
	BT_NBDC_DOWN,
	BT_NBDC_CONNECTING,
	BT_NBDC_GREETING,
	BT_NBDC_STARTTLS,
	BT_NBDC_STRUCTURED,
	BT_NBDC_META,
	BT_NBDC_GO,
	BT_NBDC_NAME, /* EXPORT_NAME, for servers without GO */
	BT_NBDC_UP
};

/* What the next bytes of a reply are. */
enum bt_nbdc_part {
	BT_NBDC_HEADER, /* with what a chunk begins with */
	BT_NBDC_DATA, /* straight into the request's memory */
	BT_NBDC_EXTENTS /* descriptors of 8 bytes */
};

struct bt_nbdc_conn {
	struct bt_nbdc *nbd;
	uint32_t index;
	enum bt_nbdc_stage stage;
	int fd; /* -1 while DOWN */
	struct bt_tls *tls; /* NULL, or fd is an end of its pair */
	struct bt_watch watch;
	struct bt_timer timer; /* DOWN: the next try; else what is too slow */
	uint64_t backoff_ns; /* what the next try waits; 0: none */
	uint32_t address; /* the one in use */
	bool has_replied; /* since it is up */
	int first_error; /* of the first connection, while it is made */
	bool counted; /* in nbd->up */
	bool has_export; /* the server told size and flags */
	bool no_zeroes; /* behind the answer to EXPORT_NAME */
	struct bt_nbdc_info info;

	struct bt_work send; /* calls are on unsent: they go out together */
	struct bt_list unsent, sent;
	size_t sent_bytes; /* of the first unsent call */
	uint32_t in_flight; /* calls on both lists */
	bool blocked; /* the socket takes no more for now */
	uint64_t active_ns; /* when bytes last moved */

	uint8_t *buf; /* BT_NBDC_BUFFER */
	size_t pos, end; /* what is in it */
	uint32_t look_ahead; /* bytes to read beyond a payload */
	enum bt_nbdc_part part;
	struct bt_nbdc_call *call; /* whose reply comes */
	bool done; /* this chunk is its last */
	struct bt_sgl sgl; /* DATA: where to */
	uint64_t left; /* of DATA or EXTENTS */
	uint64_t covered; /* EXTENTS: bytes told so far */
	bool full; /* EXTENTS: the request has no room for more */

	uint8_t *out; /* the handshake's, not yet sent */
	size_t out_len, out_pos;
	uint32_t option; /* the one whose replies come */
	uint32_t replies; /* to it */

	int code; /* why it failed, a negative errno */
	const char *hint; /* static */
	char why[BT_NBDC_WHY];
	char told[BT_NBDC_WHY]; /* what was last logged */
};

struct bt_nbdc {
	struct bt_node *node;
	struct bt_loop *loop;
	const char *name; /* the URI, for messages */
	struct bt_nbdc_uri uri;
	const char *export;
	struct bt_tls_creds *tls; /* NULL: in the clear */
	const char *tls_host; /* whose certificate the server must have */
	struct sockaddr_storage addresses[BT_NBDC_ADDRESSES];
	socklen_t address_len[BT_NBDC_ADDRESSES];
	uint32_t address_count;
	struct bt_nbdc_info info; /* of the first connection */
	bool read_only;
	bool fua_always; /* unflushed=never */
	bool fail_unflushed; /* unflushed=fail */
	uint64_t reconnect_ns, timeout_ns;

	struct bt_nbdc_conn *conns;
	uint32_t conn_count;
	uint32_t up; /* connections that take calls */
	bool failing; /* down for longer than reconnect */
	/* from the loss of the last one: reconnect_ns */
	struct bt_timer deadline;

	/* BT_NBDC_CALLS; those that are free are on free */
	struct bt_nbdc_call *calls;
	struct bt_list free, ready;
	struct bt_list waiting; /* requests, by their link */
	uint64_t next_cookie; /* counts sendings */
	uint64_t written, flushed; /* generations, as an edge counts them */
	int flush_error; /* what flushes fail with from now on */
	uint64_t reconnects, replays, violations;
};

/* ---- nbd.c ---------------------------------------------------------------- */

/* The first part of open: all but the connection. On failure nothing is left. */
int bt_nbdc_prepare(struct bt_node *node, const struct bt_args *args,
		    struct blktap_error **err);

/* ---- link.c: connections come and go ---------------------------------- */

/* The URI's addresses; asks the resolver, which may block. */
int bt_nbdc_resolve(struct bt_nbdc *nbd, struct blktap_error **err);
int bt_nbdc_conn_init(struct bt_nbdc *nbd, struct bt_nbdc_conn *conn,
		      uint32_t index);
void bt_nbdc_conn_fini(struct bt_nbdc_conn *conn);
/* Connects the first one, within the time limit. It may turn the loop, so other
 * disks go on meanwhile. */
int bt_nbdc_connect_first(struct bt_nbdc_conn *conn, struct blktap_error **err);
/* Goes on with the greeting on a connected socket, which it owns. */
int bt_nbdc_adopt(struct bt_nbdc_conn *conn, int fd);
/* From here on the loop drives it. */
int bt_nbdc_attach(struct bt_nbdc_conn *conn);
/* Tries to connect at once, by the loop. */
void bt_nbdc_start(struct bt_nbdc_conn *conn);
/* Notes why it failed; the name of the server is put before it. Returns code. */
int bt_nbdc_fail(struct bt_nbdc_conn *conn, int code, const char *hint,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
#define bt_nbdc_broken(conn, ...)                                       \
	bt_nbdc_fail(conn, -EPROTO,                                     \
		     "the server does not keep to the protocol of NBD", \
		     __VA_ARGS__)
/* Ends the connection for the reason noted, and has it made anew. */
void bt_nbdc_drop(struct bt_nbdc_conn *conn);
/* Starts the watch over a silent server. */
void bt_nbdc_expect(struct bt_nbdc_conn *conn);

/* For all of an attempt to connect. */
uint64_t bt_nbdc_attempt_ns(const struct bt_nbdc *nbd);

/* ---- tls.c ------------------------------------------------------------ */

/* Whether the arguments and the URI fit; looks at no file. */
int bt_nbdc_tls_check(const struct bt_args *args, const struct bt_nbdc_uri *uri,
		      struct blktap_error **err);
/* Reads what the node needs for TLS, where its URI wants that. */
int bt_nbdc_tls_prepare(struct bt_nbdc *nbd, const struct bt_args *args,
			struct blktap_error **err);
/* The server has agreed: 0, or a negative errno with the reason noted. */
int bt_nbdc_tls_start(struct bt_nbdc_conn *conn);
/* Sends what was sent last, as far as it goes. Harmless without TLS. */
void bt_nbdc_tls_stop(struct bt_nbdc_conn *conn);
/* poll(2) for the connection, and what TLS does meanwhile. */
void bt_nbdc_tls_poll(struct bt_nbdc_conn *conn, int timeout_ms);

/* ---- handshake.c ------------------------------------------------------ */

/* All that can be done without waiting, up to UP: 0, or a negative errno with
 * the reason noted. */
int bt_nbdc_progress(struct bt_nbdc_conn *conn);
/* What it waits for: EPOLLIN, EPOLLOUT. */
uint32_t bt_nbdc_wants(const struct bt_nbdc_conn *conn);

/* ---- info.c ----------------------------------------------------------- */

/* Whether the export's figures make sense: 0, or a negative errno with the reason
 * noted, as by bt_nbdc_fail. */
int bt_nbdc_info_check(struct bt_nbdc_conn *conn);
/* Whether the export is still the one that was opened; likewise. */
int bt_nbdc_info_compare(struct bt_nbdc_conn *conn);
void bt_nbdc_get_limits(struct bt_node *node, struct bt_limits *limits);

/* ---- call.c: requests and calls --------------------------------------- */

/* The class's submit. Nothing is sent inside: calls go out at the end of the turn. */
void bt_nbdc_submit(struct bt_node *node, struct bt_request *req);
/* The server has answered the call. */
void bt_nbdc_finish(struct bt_nbdc_call *call, int error);
/* Gives ready calls to connections. */
void bt_nbdc_pump(struct bt_nbdc *nbd);
/* Takes back what a lost connection had, and fails what has been lost for too long.
 * No connection gets any of it here: bt_nbdc_pump does that. */
void bt_nbdc_reclaim(struct bt_nbdc_conn *conn);
/* Fails everything that waits for a connection. */
void bt_nbdc_fail_all(struct bt_nbdc *nbd);

/* ---- transfer.c, reply.c: the bytes of calls and replies ---------- */

/* conn->send: once a turn. Either may drop the connection. */
void bt_nbdc_send(struct bt_work *work);
void bt_nbdc_receive(struct bt_nbdc_conn *conn);
/* Takes what is in the buffer: 0 where it needs more, else a negative errno with
 * the reason noted. */
int bt_nbdc_parse(struct bt_nbdc_conn *conn);

#endif
