/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbd node and the server it talks to, in one process: the server's side is
 * the test itself, which reads and writes bytes as it likes. While a node opens,
 * which waits, a thread does the handshake; after that everything is done in
 * step, on a clock that stands still. */
#ifndef BT_TESTS_NBD_RIG_H
#define BT_TESTS_NBD_RIG_H

#include "graph.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/driver.h"
#include "driver/nbd/nbd.h"
#include "util/bytes.h"

#define MIB (1u << 20)
#define GOOD_FLAGS                                                      \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | \
	 NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |              \
	 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |                \
	 NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_DF)

/* What the server says in the handshake. */
struct says {
	uint64_t magic, kind;
	uint16_t greeting;
	bool structured, meta, go, blocks, exports;
	uint64_t size;
	uint16_t flags;
	uint32_t min, preferred, max, meta_id;
	/* instead of the reply to this option: these bytes, or the end */
	uint32_t odd_option;
	const uint8_t *odd;
	size_t odd_len;
	bool hang_up; /* after odd */
	bool silent; /* accepts and says nothing */
};

static struct {
	struct bt_env env;
	struct bt_log log;
	char dir[32], path[64], spec[256], logged[4096];
	int listener, fd;
	struct says says;
	struct bt_node *node;
	struct bt_port top;
	struct bt_pool *pool;
	bool in_thread;
	uint32_t done;
	struct bt_request *last;
} rig;

/* A request with its own memory. */
struct item {
	struct bt_request req;
	bool done;
	int error;
	struct iovec iov[3];
	struct blktap_extent extents[8];
	uint8_t *data;
};

static inline struct says good(void)
{
	return (struct says){
		.magic = NBD_MAGIC,
		.kind = NBD_IHAVEOPT,
		.greeting = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
		.structured = true,
		.meta = true,
		.go = true,
		.blocks = true,
		.exports = true,
		.size = MIB,
		.flags = GOOD_FLAGS,
		.min = 512,
		.preferred = 4096,
		.max = 65536,
		.meta_id = 17,
	};
}

/* ---- bytes ---------------------------------------------------------------- */

static inline void rig_turn(void)
{
	if (!rig.in_thread)
		ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0), 0);
}

static inline void put(int fd, const void *data, size_t len)
{
	const char *at = data;
	int tries = 0;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* the client has had enough */
		if (n > 0) {
			at += n;
			len -= (size_t)n;
			continue;
		}
		ck_assert_int_lt(tries++, 1000);
		rig_turn();
		poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 10);
	}
}

/* False: the client has hung up. */
static inline bool get(int fd, void *data, size_t len)
{
	char *at = data;
	int tries = 0;

	while (len) {
		ssize_t n = recv(fd, at, len, MSG_DONTWAIT);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
			continue;
		}
		if (!n || errno != EAGAIN)
			return false;
		ck_assert_int_lt(tries++, 1000);
		rig_turn();
		poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10);
	}
	return true;
}

static inline void put_be(int fd, uint64_t v, size_t bytes)
{
	uint8_t b[8];

	bt_store_be64(b, v);
	put(fd, b + 8 - bytes, bytes);
}

/* ---- the server's handshake ----------------------------------------------- */

static inline void reply_option(int fd, uint32_t option, uint32_t type,
				const void *data, uint32_t len)
{
	put_be(fd, NBD_OPTION_REPLY_MAGIC, 8);
	put_be(fd, option, 4);
	put_be(fd, type, 4);
	put_be(fd, len, 4);
	put(fd, data, len);
}

static inline void reply_go(int fd, const struct says *s)
{
	uint8_t b[14];

	bt_store_be16(b, NBD_INFO_EXPORT);
	bt_store_be64(b + 2, s->size);
	bt_store_be16(b + 10, s->flags);
	if (s->exports)
		reply_option(fd, NBD_OPT_GO, NBD_REP_INFO, b, 12);
	bt_store_be16(b, NBD_INFO_BLOCK_SIZE);
	bt_store_be32(b + 2, s->min);
	bt_store_be32(b + 6, s->preferred);
	bt_store_be32(b + 10, s->max);
	if (s->blocks)
		reply_option(fd, NBD_OPT_GO, NBD_REP_INFO, b, 14);
	reply_option(fd, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

/* Returns false where the handshake is over. */
static inline bool reply_to(int fd, uint32_t option, const struct says *s)
{
	static const char zeroes[124];
	uint8_t b[19];

	switch (option) {
	case NBD_OPT_STRUCTURED_REPLY:
		reply_option(fd, option,
			     s->structured ? NBD_REP_ACK : NBD_REP_ERR_UNSUP,
			     NULL, 0);
		return true;
	case NBD_OPT_SET_META_CONTEXT:
		bt_store_be32(b, s->meta_id);
		memcpy(b + 4, NBD_CONTEXT_ALLOCATION, 15);
		if (s->meta)
			reply_option(fd, option, NBD_REP_META_CONTEXT, b, 19);
		reply_option(fd, option, NBD_REP_ACK, NULL, 0);
		return true;
	case NBD_OPT_GO:
		if (!s->go) {
			reply_option(fd, option, NBD_REP_ERR_UNSUP, "no", 2);
			return true;
		}
		reply_go(fd, s);
		return false;
	default:
		put_be(fd, s->size, 8);
		put_be(fd, s->flags, 2);
		if (!(s->greeting & NBD_FLAG_NO_ZEROES))
			put(fd, zeroes, sizeof(zeroes));
		return false;
	}
}

/* False: it went wrong, as it was to. */
static inline bool handshake(int fd, const struct says *s)
{
	uint8_t b[NBD_OPTION_LEN], data[8300];
	bool more = true;

	if (s->silent)
		return false;
	put_be(fd, s->magic, 8);
	put_be(fd, s->kind, 8);
	put_be(fd, s->greeting, 2);
	if (!get(fd, data, 4))
		return false;
	while (more) {
		uint32_t option;

		if (!get(fd, b, sizeof(b)) ||
		    !get(fd, data, bt_load_be32(b + 12)))
			return false;
		option = bt_load_be32(b + 8);
		if (option == s->odd_option) {
			put(fd, s->odd, s->odd_len);
			if (s->hang_up)
				return false;
		} else {
			more = reply_to(fd, option, s);
		}
	}
	return true;
}

/* ---- the node ------------------------------------------------------------- */

static inline void rig_log(void *opaque, enum blktap_log_level level,
			   const char *text)
{
	size_t n = strlen(rig.logged);

	snprintf(rig.logged + n, sizeof(rig.logged) - n, "%s\n", text);
}

static inline void rig_done(struct bt_port *port, struct bt_request *req)
{
	struct item *item = bt_container_of(req, struct item, req);

	ck_assert(!item->done);
	item->done = true;
	item->error = req->error;
	rig.done++;
}

static inline void setup(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	memset(&rig, 0, sizeof(rig));
	make_env(&rig.env);
	bt_log_init(&rig.log);
	bt_log_set(&rig.log, BLKTAP_LOG_DEBUG, rig_log, NULL, NULL);
	rig.env.log = &rig.log;
	strcpy(rig.dir, "/tmp/bt-nbdc-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(rig.dir));
	snprintf(rig.path, sizeof(rig.path), "%s/s", rig.dir);
	snprintf(rig.spec, sizeof(rig.spec), "nbd+unix:///disk?socket=%s",
		 rig.path);
	strcpy(addr.sun_path, rig.path);
	rig.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(
		bind(rig.listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(rig.listener, 16), 0);
	rig.fd = -1;
	rig.says = good();
	bt_loop_advance(rig.env.loop, 1000000000);
}

/* A later connection's turn, in step with the loop. */
static inline int accept_again(void)
{
	struct pollfd pfd = { .fd = rig.listener, .events = POLLIN };
	int i, fd;

	for (i = 0; i < 300 && poll(&pfd, 1, 0) <= 0; i++) {
		bt_loop_advance(rig.env.loop, 10000000);
		rig_turn();
	}
	fd = accept(rig.listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static inline void *serve_one(void *opaque)
{
	rig.fd = accept(rig.listener, NULL, NULL);
	if (!handshake(rig.fd, &rig.says) && !rig.says.silent) {
		shutdown(rig.fd, SHUT_WR);
		close(rig.fd);
		rig.fd = -1;
	}
	return NULL;
}

/* Opens with name=value arguments, each of which may be NULL. */
static inline int rig_open(const char *a, const char *b, uint32_t flags,
			   struct blktap_error **err)
{
	const char *given[] = { a, b };
	struct bt_args *args;
	pthread_t thread;
	size_t i;
	int rc;

	ck_assert_int_eq(bt_args_create(&bt_nbd_class, &args), 0);
	ck_assert_int_eq(bt_args_set_at(args, 0, rig.spec, NULL), 0);
	for (i = 0; i < 2; i++) {
		char name[32];

		if (!given[i])
			continue;
		snprintf(name, sizeof(name), "%.*s",
			 (int)strcspn(given[i], "="), given[i]);
		ck_assert_int_eq(bt_args_set(args, name,
					     strchr(given[i], '=') + 1, NULL),
				 0);
	}
	ck_assert_int_eq(bt_node_create(&rig.env, &bt_nbd_class, NULL, args,
					&rig.node, NULL),
			 0);
	rig.in_thread = true;
	ck_assert_int_eq(pthread_create(&thread, NULL, serve_one, NULL), 0);
	rc = bt_node_open(rig.node, flags, err);
	pthread_join(thread, NULL);
	rig.in_thread = false;
	if (rc < 0) {
		bt_node_destroy(rig.node);
		rig.node = NULL;
		return rc;
	}
	bt_port_init(&rig.top, &rig.env, NULL, "top");
	rig.top.done = rig_done;
	bt_port_link(&rig.top, rig.node);
	ck_assert_int_eq(bt_pool_create(400, sizeof(struct item),
					rig.node->frame_sum, &rig.pool),
			 0);
	return 0;
}

static inline void open_good(const char *a, const char *b)
{
	struct blktap_error *err = NULL;
	int rc = rig_open(a, b, 0, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static inline struct bt_nbdc *rig_nbd(void)
{
	return rig.node->data;
}

static inline void teardown(void)
{
	if (rig.node) {
		ck_assert_uint_eq(bt_pool_in_use(rig.pool), 0);
		bt_pool_destroy(rig.pool);
		bt_port_link(&rig.top, NULL);
		bt_node_destroy(rig.node);
	}
	bt_loop_destroy(rig.env.loop);
	bt_log_fini(&rig.log);
	if (rig.fd >= 0)
		close(rig.fd);
	close(rig.listener);
	unlink(rig.path);
	rmdir(rig.dir);
}

/* ---- requests ------------------------------------------------------------- */

static inline uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(1 + offset % 251);
}

/* Submits; the data of a write is that of its offset, in three pieces. */
static inline struct item *submit(enum blktap_op op, uint32_t flags,
				  uint64_t offset, uint64_t length)
{
	struct bt_request *req = bt_pool_take(rig.pool);
	struct item *item;
	uint64_t i;

	ck_assert_ptr_nonnull(req);
	item = bt_container_of(req, struct item, req);
	item->done = false;
	req->op = op;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	if (op == BLKTAP_OP_READ || op == BLKTAP_OP_WRITE) {
		item->data = malloc(length);
		for (i = 0; i < length; i++)
			item->data[i] = op == BLKTAP_OP_READ
						? 0xee
						: byte_at(offset + i);
		item->iov[0] = (struct iovec){ item->data, 100 };
		item->iov[1] = (struct iovec){ item->data + 100, 1 };
		item->iov[2] = (struct iovec){ item->data + 101, length - 101 };
		req->data.iov = item->iov;
		req->data.count = 3;
	}
	req->extents = item->extents;
	req->extent_max = 8;
	bt_port_submit(&rig.top, req);
	return item;
}

static inline void give(struct item *item)
{
	ck_assert(item->done);
	free(item->data);
	item->data = NULL;
	bt_pool_give(&item->req);
}

/* What the server got. */
struct got {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
};

static inline struct got get_call(int fd)
{
	uint8_t b[NBD_REQUEST_LEN];
	struct got g;
	uint32_t i;

	rig_turn();
	ck_assert(get(fd, b, sizeof(b)));
	ck_assert_uint_eq(bt_load_be32(b), NBD_REQUEST_MAGIC);
	g.flags = bt_load_be16(b + 4);
	g.type = bt_load_be16(b + 6);
	g.cookie = bt_load_be64(b + 8);
	g.offset = bt_load_be64(b + 16);
	g.length = bt_load_be32(b + 24);
	if (g.type == NBD_CMD_WRITE) {
		uint8_t *data = malloc(g.length);

		ck_assert(get(fd, data, g.length));
		for (i = 0; i < g.length; i++)
			ck_assert_uint_eq(data[i], byte_at(g.offset + i));
		free(data);
	}
	return g;
}

static inline void put_simple(int fd, uint64_t cookie, uint32_t error)
{
	put_be(fd, NBD_SIMPLE_REPLY_MAGIC, 4);
	put_be(fd, error, 4);
	put_be(fd, cookie, 8);
}

static inline void put_chunk(int fd, uint64_t cookie, uint16_t flags,
			     uint16_t type, uint32_t length)
{
	put_be(fd, NBD_STRUCTURED_REPLY_MAGIC, 4);
	put_be(fd, flags, 2);
	put_be(fd, type, 2);
	put_be(fd, cookie, 8);
	put_be(fd, length, 4);
}

static inline void put_data(int fd, uint64_t cookie, uint16_t flags,
			    uint64_t offset, uint32_t length)
{
	uint8_t *data = malloc(length);
	uint32_t i;

	for (i = 0; i < length; i++)
		data[i] = byte_at(offset + i);
	put_chunk(fd, cookie, flags, NBD_REPLY_TYPE_OFFSET_DATA, 8 + length);
	put_be(fd, offset, 8);
	put(fd, data, length);
	free(data);
}

static inline void put_hole(int fd, uint64_t cookie, uint16_t flags,
			    uint64_t offset, uint32_t length)
{
	put_chunk(fd, cookie, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
	put_be(fd, offset, 8);
	put_be(fd, length, 4);
}

static inline void wait_done(struct item *item)
{
	int i;

	for (i = 0; i < 1000 && !item->done; i++)
		rig_turn();
	ck_assert(item->done);
}

static inline void check_data(const struct item *item)
{
	uint64_t i;

	for (i = 0; i < item->req.length; i++)
		ck_assert_uint_eq(item->data[i], byte_at(item->req.offset + i));
}

#endif
