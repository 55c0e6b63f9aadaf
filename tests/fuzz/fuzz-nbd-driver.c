/* SPDX-License-Identifier: BSD-3-Clause */
/* Any bytes from a server: the nbd driver answers each request once, writes to no
 * memory but the request's, and says "done" of a read only where all of it came.
 * The first byte of an input says how it is fed:
 *
 *   bit 0     0: as a handshake; 1: as replies to a few requests in flight
 *   bit 1     1: with structured replies
 *   bits 4-7  how many bytes come at once: 2 to the power of this */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/driver.h"
#include "driver/nbd/nbd.h"
#include "fuzz.h"
#include "port/args.h"
#include "util/bytes.h"

#define OPS 4
#define READ_BYTES 8192u
#define GUARD 64u

struct one {
	struct bt_request *req;
	struct iovec iov;
	struct blktap_extent extents[3];
	uint8_t data[READ_BYTES + 2 * GUARD];
	uint32_t done;
	int error;
};

static struct one ones[OPS];
static struct bt_env env;

static void must(int ok)
{
	if (!ok)
		abort();
}

static void on_done(struct bt_port *port, struct bt_request *req)
{
	struct one *one = req->opaque;

	one->done++;
	one->error = req->error;
}

static struct bt_node *make_node(void)
{
	struct bt_args *args;
	struct bt_node *node;

	must(!bt_args_create(&bt_nbd_class, &args));
	must(!bt_args_set_at(args, 0, "nbd+unix:///x?socket=/nowhere", NULL));
	must(!bt_args_set(args, "reconnect", "0s", NULL));
	must(!bt_node_create(&env, &bt_nbd_class, NULL, args, &node, NULL));
	must(!bt_nbdc_prepare(node, node->args, NULL));
	((struct bt_nbdc *)node->data)->address_count = 1;
	node->is_open = true;
	return node;
}

/* As after a handshake. */
static void be_up(struct bt_nbdc *nbd, bool structured)
{
	struct bt_nbdc_conn *conn = &nbd->conns[0];

	conn->info = (struct bt_nbdc_info){
		.size = 1 << 20,
		.min_block = 512,
		.preferred_block = 4096,
		.max_block = 1 << 20,
		.meta_id = 1,
		.flags = 0xded,
		.structured = structured,
		.has_meta = structured,
	};
	nbd->info = conn->info;
	conn->stage = BT_NBDC_UP;
	conn->counted = true;
	nbd->up = 1;
}

static void submit_all(struct bt_port *top, struct bt_pool *pool)
{
	static const enum blktap_op ops[OPS] = { BLKTAP_OP_READ,
						 BLKTAP_OP_BLOCK_STATUS,
						 BLKTAP_OP_WRITE,
						 BLKTAP_OP_READ };
	int i;

	for (i = 0; i < OPS; i++) {
		struct one *one = &ones[i];
		struct bt_request *req = bt_pool_take(pool);

		memset(one, 0, sizeof(*one));
		memset(one->data, 0xa5, sizeof(one->data));
		one->req = req;
		one->iov.iov_base = one->data + GUARD;
		one->iov.iov_len = READ_BYTES;
		req->op = ops[i];
		req->offset = 4096;
		req->length = READ_BYTES;
		req->data = (struct bt_sgl){ .iov = &one->iov, .count = 1 };
		req->extents = one->extents;
		req->extent_max = 3;
		req->opaque = one;
		bt_port_submit(top, req);
	}
}

static void check_one(const struct one *one)
{
	uint64_t sum = 0;
	uint32_t i;

	must(one->done == 1);
	for (i = 0; i < GUARD; i++)
		must(one->data[i] == 0xa5 &&
		     one->data[GUARD + READ_BYTES + i] == 0xa5);
	if (one->req->op != BLKTAP_OP_BLOCK_STATUS || one->error)
		return;
	must(one->req->extent_count && one->req->extent_count <= 3);
	for (i = 0; i < one->req->extent_count; i++)
		sum += one->extents[i].length;
	must(sum && sum <= READ_BYTES);
}

static void turn(void)
{
	must(!bt_loop_turn(env.loop, 0));
}

static void feed(int fd, const uint8_t *data, size_t size, size_t step)
{
	static uint8_t dump[65536];

	while (size) {
		ssize_t n = send(fd, data, size < step ? size : step,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return;
		data += n;
		size -= (size_t)n;
		turn();
		while (recv(fd, dump, sizeof(dump), MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bt_node *node;
	struct bt_nbdc *nbd;
	struct bt_port top;
	struct bt_pool *pool;
	int fds[2], i;

	if (!env.loop)
		must(!bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &env.loop));
	if (!size ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		       fds))
		return 0;
	node = make_node();
	nbd = node->data;
	bt_port_init(&top, &env, NULL, "top");
	top.done = on_done;
	bt_port_link(&top, node);
	must(!bt_pool_create(OPS, sizeof(struct bt_request), 256, &pool));
	bt_nbdc_adopt(&nbd->conns[0], fds[1]);
	if (data[0] & 1)
		be_up(nbd, data[0] & 2);
	must(!bt_nbdc_attach(&nbd->conns[0]));
	if (data[0] & 1)
		submit_all(&top, pool);
	turn();
	feed(fds[0], data + 1, size - 1, (size_t)1 << (data[0] >> 4));
	close(fds[0]);
	turn();
	turn();
	for (i = 0; i < OPS && data[0] & 1; i++) {
		check_one(&ones[i]);
		bt_pool_give(ones[i].req);
	}
	bt_port_link(&top, NULL);
	bt_node_destroy(node);
	bt_pool_destroy(pool);
	return 0;
}

/* ---- seeds ---------------------------------------------------------------- */

static size_t put(uint8_t *to, uint64_t v, size_t bytes)
{
	uint8_t b[8];

	bt_store_be64(b, v);
	memcpy(to, b + 8 - bytes, bytes);
	return bytes;
}

static size_t put_option(uint8_t *to, uint32_t option, uint32_t type,
			 const void *data, uint32_t len)
{
	size_t n = put(to, NBD_OPTION_REPLY_MAGIC, 8);

	n += put(to + n, option, 4);
	n += put(to + n, type, 4);
	n += put(to + n, len, 4);
	memcpy(to + n, data, len);
	return n + len;
}

static size_t seed_handshake(uint8_t *to)
{
	size_t n = put(to, NBD_MAGIC, 8);

	n += put(to + n, NBD_IHAVEOPT, 8);
	n += put(to + n, 3, 2);
	n += put_option(to + n, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, "", 0);
	n += put_option(to + n, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT,
			"\0\0\0\1base:allocation", 19);
	n += put_option(to + n, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, "", 0);
	n += put_option(to + n, NBD_OPT_GO, NBD_REP_INFO,
			"\0\0\0\0\0\0\0\20\0\0\15\355", 12);
	n += put_option(to + n, NBD_OPT_GO, NBD_REP_INFO,
			"\0\3\0\0\2\0\0\0\20\0\0\20\0\0", 14);
	return n + put_option(to + n, NBD_OPT_GO, NBD_REP_ACK, "", 0);
}

static size_t put_chunk(uint8_t *to, uint64_t cookie, uint16_t flags,
			uint16_t type, uint32_t len)
{
	size_t n = put(to, NBD_STRUCTURED_REPLY_MAGIC, 4);

	n += put(to + n, flags, 2);
	n += put(to + n, type, 2);
	n += put(to + n, cookie, 8);
	return n + put(to + n, len, 4);
}

/* Answers to submit_all: cookie n << 8 | n - 1 is that of the n-th. */
static size_t seed_structured(uint8_t *to)
{
	size_t n = put_chunk(to, 0x100, 0, NBD_REPLY_TYPE_OFFSET_DATA, 4104);

	n += put(to + n, 4096, 8);
	memset(to + n, 'x', 4096);
	n += 4096;
	n += put_chunk(to + n, 0x201, 1, NBD_REPLY_TYPE_BLOCK_STATUS, 20);
	n += put(to + n, 1, 4);
	n += put(to + n, 0x100000000003, 8);
	n += put(to + n, 0x200000000000, 8);
	n += put_chunk(to + n, 0x100, 1, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
	n += put(to + n, 8192, 8);
	n += put(to + n, 4096, 4);
	n += put_chunk(to + n, 0x302, 1, NBD_REPLY_TYPE_NONE, 0);
	n += put_chunk(to + n, 0x403, 1, NBD_REPLY_TYPE_ERROR_OFFSET, 17);
	n += put(to + n, 5, 4);
	n += put(to + n, 3, 2);
	n += put(to + n, 0x626164, 3);
	return n + put(to + n, 4096, 8);
}

static size_t seed_simple(uint8_t *to)
{
	static const uint64_t cookies[] = { 0x100, 0x201, 0x302 };
	size_t n = 0, i;

	for (i = 0; i < 3; i++) {
		n += put(to + n, NBD_SIMPLE_REPLY_MAGIC, 4);
		n += put(to + n, i == 2 ? 28 : 0, 4);
		n += put(to + n, cookies[i], 8);
		if (i == 0) {
			memset(to + n, 'y', READ_BYTES);
			n += READ_BYTES;
		}
	}
	return n;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const uint8_t modes[] = { 0xf0, 0x00, 0xf3, 0xf1, 0x53, 0x31 };

	if (n >= sizeof(modes) || cap < 16384)
		return 0;
	buf[0] = modes[n];
	if (!(modes[n] & 1))
		return 1 + seed_handshake(buf + 1);
	return 1 +
	       (modes[n] & 2 ? seed_structured(buf + 1) : seed_simple(buf + 1));
}
