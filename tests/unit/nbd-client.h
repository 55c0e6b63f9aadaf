/* SPDX-License-Identifier: BSD-3-Clause */
/* A client that says exactly what it is told, and a server in the same thread:
 * whoever waits for the one turns the loop of the other. */
#ifndef BT_TESTS_NBD_CLIENT_H
#define BT_TESTS_NBD_CLIENT_H

#include "unit.h"

#include <blktap/blktap.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frontend/nbd.h"
#include "util/bytes.h"
#include "vbd/private.h"

#define DISK_SIZE (64u << 20)
#define BOTH (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)

static struct blktap_context *context;
static struct blktap_disk *disk;
static struct blktap_nbd_server *server;
static char dir[] = "/tmp/bt-nbd-XXXXXX";
static char path[sizeof(dir) + 16];
static int fds_before;

/* ---- the disk's leaf, with a will of its own ------------------------------ */

static struct {
	struct blktap_class cls; /* the leaf's own, but for submit */
	void (*submit)(struct bt_node *node, struct bt_request *req);
	struct bt_list kept; /* requests it has been told to keep */
	bool keep;
	int error; /* of requests that touch error_at */
	uint64_t error_at;
	uint32_t seen[BLKTAP_OP_COUNT];
	uint32_t flags[BLKTAP_OP_COUNT]; /* of the last one */
} leaf;

static inline void leaf_submit(struct bt_node *node, struct bt_request *req)
{
	leaf.seen[req->op]++;
	leaf.flags[req->op] = req->flags;
	if (leaf.keep)
		bt_list_add_tail(&leaf.kept, &req->link);
	else if (leaf.error && req->offset <= leaf.error_at &&
		 leaf.error_at < req->offset + req->length)
		bt_request_complete(req, leaf.error);
	else
		leaf.submit(node, req);
}

static inline void leaf_release(void)
{
	struct bt_list *at;

	leaf.keep = false;
	while ((at = bt_list_pop(&leaf.kept)))
		leaf.submit(disk->root,
			    bt_list_entry(at, struct bt_request, link));
}

static inline void leaf_init(void)
{
	memset(&leaf, 0, sizeof(leaf));
	bt_list_init(&leaf.kept);
	leaf.cls = *disk->root->cls;
	leaf.submit = leaf.cls.submit;
	leaf.cls.submit = leaf_submit;
	leaf.cls.passes = 0;
	disk->root->cls = &leaf.cls;
}

/* ---- fixture -------------------------------------------------------------- */

static inline int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline void serve_with(const char *spec, uint32_t flags,
			      struct blktap_nbd_options *options)
{
	struct blktap_disk_options dopts;
	struct blktap_error *err = NULL;
	int rc;

	blktap_disk_options_init(&dopts);
	dopts.flags = flags;
	rc = blktap_disk_open(context, spec, &dopts, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	leaf_init();
	options->unix_path = path;
	rc = blktap_nbd_server_create(disk, options, &server, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static inline void serve(void)
{
	struct blktap_nbd_options options;

	blktap_nbd_options_init(&options);
	options.export_name = "disk";
	options.description = "a disk of the tests";
	serve_with("ram:64M", 0, &options);
}

static inline void setup_bare(void)
{
	fds_before = count_fds();
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/nbd", dir);
	ck_assert_int_eq(blktap_context_create(NULL, &context, NULL), 0);
}

static inline void setup(void)
{
	setup_bare();
	serve();
}

static inline void turn(void)
{
	ck_assert_int_eq(blktap_context_run(context, 0), 0);
}

/* Turns until nothing more happens for the server to do. */
static inline void settle(void)
{
	int i;

	for (i = 0; i < 8; i++)
		turn();
}

static inline void wait_clients(uint32_t count)
{
	time_t end = time(NULL) + 10;

	while (blktap_nbd_server_get_clients(server) != count) {
		ck_assert_int_eq(blktap_context_run(context, 20), 0);
		ck_assert_msg(time(NULL) < end, "%u clients, not %u",
			      blktap_nbd_server_get_clients(server), count);
	}
}

static inline void teardown(void)
{
	leaf_release();
	if (server) {
		ck_assert_int_eq(blktap_nbd_server_destroy(server), 0);
		ck_assert_int_eq(access(path, F_OK), -1);
	}
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	blktap_context_destroy(context);
	ck_assert_int_eq(count_fds(), fds_before);
	rmdir(dir);
}

/* ---- bytes ---------------------------------------------------------------- */

struct peer {
	int fd;
	bool structured;
};

static inline struct peer dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct peer p = { .fd = socket(AF_UNIX, SOCK_STREAM, 0) };

	strcpy(addr.sun_path, path);
	ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	fcntl(p.fd, F_SETFL, O_NONBLOCK);
	return p;
}

static inline void put(struct peer *p, const void *data, size_t len)
{
	const char *at = data;
	time_t end = time(NULL) + 90;

	while (len) {
		ssize_t n = send(p->fd, at, len, MSG_NOSIGNAL);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
			continue;
		}
		ck_assert_msg(errno == EAGAIN && time(NULL) < end, "send: %m");
		turn();
	}
}

static inline void get(struct peer *p, void *data, size_t len)
{
	char *at = data;
	time_t end = time(NULL) + 90;

	while (len) {
		ssize_t n = recv(p->fd, at, len, 0);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
			continue;
		}
		ck_assert_msg(n && errno == EAGAIN && time(NULL) < end,
			      "recv: %zd %m", n);
		ck_assert_int_eq(blktap_context_run(context, 10), 0);
	}
}

/* The server has closed, and nothing came before. */
static inline void get_end(struct peer *p)
{
	time_t end = time(NULL) + 10;
	char c;
	ssize_t n;

	while ((n = recv(p->fd, &c, 1, 0)) < 0 && errno == EAGAIN) {
		ck_assert_msg(time(NULL) < end, "the server does not close");
		ck_assert_int_eq(blktap_context_run(context, 10), 0);
	}
	ck_assert_msg(n == 0 || errno == ECONNRESET, "got a byte: %x", c);
	close(p->fd);
}

/* Nothing comes, however often the server is asked. */
static inline void get_nothing(struct peer *p)
{
	char c;

	settle();
	ck_assert_int_eq(recv(p->fd, &c, 1, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

static inline void hang_up(struct peer *p)
{
	close(p->fd);
	wait_clients(0);
}

/* ---- the handshake -------------------------------------------------------- */

static inline struct peer greet(uint32_t flags)
{
	struct peer p = dial();
	uint8_t b[NBD_GREETING_LEN];

	get(&p, b, sizeof(b));
	ck_assert_int_eq(memcmp(b, "NBDMAGICIHAVEOPT\0\3", 18), 0);
	bt_store_be32(b, flags);
	put(&p, b, 4);
	return p;
}

static inline void put_option(struct peer *p, uint32_t option, const void *data,
			      uint32_t len)
{
	uint8_t b[NBD_OPTION_LEN];

	bt_store_be64(b, NBD_IHAVEOPT);
	bt_store_be32(b + 8, option);
	bt_store_be32(b + 12, len);
	put(p, b, sizeof(b));
	put(p, data, len);
}

/* The next option reply; returns its type, data in buf (4 KiB and a bit). */
#define OPTION_BUF 8300
static inline uint32_t get_option(struct peer *p, uint32_t option, uint8_t *buf,
				  uint32_t *len)
{
	uint8_t b[NBD_OPTION_REPLY_LEN];

	get(p, b, sizeof(b));
	ck_assert(bt_load_be64(b) == NBD_OPTION_REPLY_MAGIC);
	ck_assert_uint_eq(bt_load_be32(b + 8), option);
	*len = bt_load_be32(b + 16);
	ck_assert_uint_le(*len, OPTION_BUF);
	get(p, buf, *len);
	return bt_load_be32(b + 12);
}

/* Sends an option; the type of the last reply, infos skipped. */
static inline uint32_t option(struct peer *p, uint32_t opt, const void *data,
			      uint32_t len)
{
	uint8_t buf[OPTION_BUF];
	uint32_t type, n;

	put_option(p, opt, data, len);
	do
		type = get_option(p, opt, buf, &n);
	while (type == NBD_REP_INFO || type == NBD_REP_SERVER ||
	       type == NBD_REP_META_CONTEXT);
	return type;
}

/* INFO or GO of a name, asking for block sizes too. */
static inline uint32_t name_option(struct peer *p, uint32_t opt,
				   const char *name, uint32_t name_len)
{
	uint8_t *b = calloc(1, name_len + 8);
	uint32_t type;

	bt_store_be32(b, name_len);
	memcpy(b + 4, name, name_len);
	bt_store_be16(b + 4 + name_len, 1);
	bt_store_be16(b + 6 + name_len, NBD_INFO_BLOCK_SIZE);
	type = option(p, opt, b, name_len + 8);
	free(b);
	return type;
}

static inline uint32_t go(struct peer *p)
{
	return name_option(p, NBD_OPT_GO, "disk", 4);
}

static inline uint32_t meta(struct peer *p, uint32_t opt, const char *name,
			    const char *query)
{
	uint8_t b[512];
	uint32_t n = (uint32_t)strlen(name), q = (uint32_t)strlen(query);

	bt_store_be32(b, n);
	memcpy(b + 4, name, n);
	bt_store_be32(b + 4 + n, 1);
	bt_store_be32(b + 8 + n, q);
	memcpy(b + 12 + n, query, q);
	return option(p, opt, b, 12 + n + q);
}

/* A client in transmission, without and with structured replies. */
static inline struct peer plain(void)
{
	struct peer p = greet(BOTH);

	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	return p;
}

static inline struct peer structured(void)
{
	struct peer p = greet(BOTH);

	p.structured = true;
	ck_assert_uint_eq(option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0),
			  NBD_REP_ACK);
	ck_assert_uint_eq(
		meta(&p, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation"),
		NBD_REP_ACK);
	ck_assert_uint_eq(go(&p), NBD_REP_ACK);
	return p;
}

/* ---- transmission --------------------------------------------------------- */

static inline void put_request(struct peer *p, uint16_t flags, uint16_t type,
			       uint64_t cookie, uint64_t offset, uint32_t len)
{
	uint8_t b[NBD_REQUEST_LEN];

	bt_store_be32(b, NBD_REQUEST_MAGIC);
	bt_store_be16(b + 4, flags);
	bt_store_be16(b + 6, type);
	bt_store_be64(b + 8, cookie);
	bt_store_be64(b + 16, offset);
	bt_store_be32(b + 24, len);
	put(p, b, sizeof(b));
}

struct reply {
	bool simple;
	uint16_t flags, type;
	uint32_t error;
	uint64_t cookie;
	uint32_t len; /* of a chunk's payload */
};

static inline struct reply get_reply(struct peer *p)
{
	struct reply r = { 0 };
	uint8_t b[NBD_CHUNK_LEN];

	get(p, b, NBD_SIMPLE_REPLY_LEN);
	r.cookie = bt_load_be64(b + 8);
	r.simple = bt_load_be32(b) == NBD_SIMPLE_REPLY_MAGIC;
	if (r.simple) {
		r.error = bt_load_be32(b + 4);
		return r;
	}
	ck_assert(p->structured);
	ck_assert_uint_eq(bt_load_be32(b), NBD_STRUCTURED_REPLY_MAGIC);
	get(p, b + NBD_SIMPLE_REPLY_LEN, 4);
	r.flags = bt_load_be16(b + 4);
	r.type = bt_load_be16(b + 6);
	r.len = bt_load_be32(b + 16);
	return r;
}

/* The error of the reply that comes next, of either kind: it must be one that
 * ends its request and carries no data. */
static inline uint32_t get_error(struct peer *p, uint64_t cookie)
{
	struct reply r = get_reply(p);
	uint8_t b[512];

	ck_assert_uint_eq(r.cookie, cookie);
	if (r.simple)
		return r.error;
	ck_assert_uint_eq(r.flags, NBD_REPLY_FLAG_DONE);
	ck_assert(r.type == NBD_REPLY_TYPE_ERROR ||
		  r.type == NBD_REPLY_TYPE_ERROR_OFFSET);
	ck_assert_uint_le(r.len, sizeof(b));
	get(p, b, r.len);
	ck_assert_uint_eq(r.len,
			  bt_load_be16(b + 4) +
				  (r.type == NBD_REPLY_TYPE_ERROR ? 6u : 14u));
	ck_assert_uint_ne(bt_load_be32(b), 0);
	return bt_load_be32(b);
}

/* Sends a request without data and returns its error. */
static inline uint32_t request(struct peer *p, uint16_t flags, uint16_t type,
			       uint64_t offset, uint32_t len)
{
	put_request(p, flags, type, offset ^ 77, offset, len);
	return get_error(p, offset ^ 77);
}

static inline void fill(uint8_t *data, size_t len, uint64_t offset)
{
	size_t i;

	for (i = 0; i < len; i++)
		data[i] = (uint8_t)(1 + (offset + i) % 251);
}

static inline uint32_t write_at(struct peer *p, uint16_t flags, uint64_t offset,
				uint32_t len)
{
	uint8_t *data = malloc(len ? len : 1);

	fill(data, len, offset);
	put_request(p, flags, NBD_CMD_WRITE, offset, offset, len);
	put(p, data, len);
	free(data);
	return get_error(p, offset);
}

/* Takes all chunks of a read that goes well. Returns how many there were. */
static inline uint32_t get_data(struct peer *p, uint64_t offset, uint8_t *data,
				uint32_t len)
{
	struct reply r = get_reply(p);
	uint64_t left = len;
	uint32_t chunks = 1;
	uint8_t b[12];

	ck_assert_uint_eq(r.simple, !p->structured);
	if (r.simple) {
		ck_assert_uint_eq(r.error, 0);
		get(p, data, len);
		return 1;
	}
	for (;; r = get_reply(p), chunks++) {
		uint64_t at, n;

		if (r.type == NBD_REPLY_TYPE_OFFSET_HOLE) {
			get(p, b, 12);
			n = bt_load_be32(b + 8);
		} else {
			ck_assert_uint_eq(r.type, NBD_REPLY_TYPE_OFFSET_DATA);
			get(p, b, 8);
			n = r.len - 8;
		}
		at = bt_load_be64(b);
		ck_assert(at >= offset && n && n <= left &&
			  at - offset + n <= len);
		if (r.type == NBD_REPLY_TYPE_OFFSET_HOLE)
			memset(data + (at - offset), 0, n);
		else
			get(p, data + (at - offset), n);
		left -= n;
		if (r.flags & NBD_REPLY_FLAG_DONE)
			break;
	}
	ck_assert(left == 0);
	return chunks;
}

static inline uint32_t read_at(struct peer *p, uint64_t offset, uint8_t *data,
			       uint32_t len)
{
	put_request(p, 0, NBD_CMD_READ, offset, offset, len);
	return get_data(p, offset, data, len);
}

/* Whether the range holds what write_at put there. */
static inline void check_at(struct peer *p, uint64_t offset, uint32_t len)
{
	uint8_t *got = malloc(len), *want = malloc(len);

	fill(want, len, offset);
	read_at(p, offset, got, len);
	ck_assert_int_eq(memcmp(got, want, len), 0);
	free(got);
	free(want);
}

/* The server is well: a new client can use the disk. */
static inline void serves_others(void)
{
	struct peer p = plain();

	ck_assert_uint_eq(write_at(&p, 0, 4096, 4096), 0);
	check_at(&p, 4096, 4096);
	put_request(&p, 0, NBD_CMD_DISC, 0, 0, 0);
	get_end(&p);
}

/* All clients are gone and hold nothing. */
static inline void left_nothing(void)
{
	wait_clients(0);
	ck_assert_uint_eq(server->cache.used, 0);
}

/* For tests that leave the server on its feet. */
static inline void teardown_serving(void)
{
	leaf_release();
	leaf.error = 0;
	serves_others();
	left_nothing();
	teardown();
}

/* ---- suites --------------------------------------------------------------- */

static inline TCase *nbd_case(Suite *suite, const char *name,
			      void (*begin)(void), void (*end)(void))
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, begin, end);
	suite_add_tcase(suite, tc);
	return tc;
}

/* A test that runs with simple and with structured replies. */
#define tcase_add_both(tc, test) tcase_add_loop_test(tc, test, 0, 2)

static inline struct peer either(int i)
{
	return i ? structured() : plain();
}

#endif
