/* SPDX-License-Identifier: BSD-3-Clause */
/* Any bytes from a client: the server stays up, and when the client has gone it
 * holds nothing of it. The first byte of an input says how it is fed:
 *
 *   bits 0-1  0: from the client's flags on; 1: as requests, after a handshake
 *             with simple replies; 2, 3: with structured replies and a context
 *   bit 2     the client never reads
 *   bit 3     it shuts its side down at the end, and reads on
 *   bits 4-7  how many bytes come at once: 2 to the power of this */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend/nbd.h"
#include "fuzz.h"
#include "util/bytes.h"

static struct blktap_context *context;
static struct blktap_disk *disk;
static struct blktap_nbd_server *server;
static char dir[] = "/tmp/bt-fuzz-nbd-XXXXXX";

static void end(void)
{
	blktap_context_destroy(context);
	rmdir(dir);
}

static void begin(void)
{
	char path[sizeof(dir) + 8];
	struct blktap_nbd_options options;

	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/nbd", dir);
	blktap_nbd_options_init(&options);
	options.unix_path = path;
	options.description = "fuzzed";
	options.client_memory = 1 << 20;
	if (blktap_context_create(NULL, &context, NULL) ||
	    blktap_disk_open(context, "ram:4M", NULL, &disk, NULL) ||
	    blktap_nbd_server_create(disk, &options, &server, NULL))
		abort();
	atexit(end);
}

/* What the server says is thrown away; false: it has hung up. */
static bool drain(int fd)
{
	static char dump[65536];
	ssize_t n;

	do
		n = recv(fd, dump, sizeof(dump), MSG_DONTWAIT);
	while (n > 0);
	return n < 0 && errno == EAGAIN;
}

/* False: the server has hung up, or will take no more from one who never
 * reads. */
static bool feed(int fd, const uint8_t *data, size_t size, size_t step,
		 bool reads)
{
	int in_vain = 0;

	while (size && in_vain < 64) {
		ssize_t n = send(fd, data, size < step ? size : step,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		in_vain = n < 0 ? in_vain + 1 : 0;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
		blktap_context_process(context);
		if (reads && !drain(fd))
			return false;
	}
	return !size;
}

static size_t put_option(uint8_t *to, uint32_t option, const char *data,
			 uint32_t len)
{
	bt_store_be64(to, NBD_IHAVEOPT);
	bt_store_be32(to + 8, option);
	bt_store_be32(to + 12, len);
	memcpy(to + 16, data, len);
	return 16 + len;
}

#define META_QUERY "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation"

static size_t put_handshake(uint8_t *to, bool structured)
{
	size_t n = 4;

	bt_store_be32(to, 3);
	if (structured) {
		n += put_option(to + n, NBD_OPT_STRUCTURED_REPLY, "", 0);
		n += put_option(to + n, NBD_OPT_SET_META_CONTEXT, META_QUERY,
				sizeof(META_QUERY) - 1);
	}
	return n + put_option(to + n, NBD_OPT_GO, "\0\0\0\0\0\1\0\3", 8);
}

static void wait_gone(void)
{
	int i;

	for (i = 0; server->conn_count && i < 5000; i++)
		blktap_context_run(context, 1);
	if (server->conn_count || server->cache.used)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t prefix[256];
	int fds[2];
	bool reads, ok = true;
	size_t step;

	if (!context)
		begin();
	if (!size ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		       fds))
		return 0;
	reads = !(data[0] & 4);
	step = (size_t)1 << (data[0] >> 4);
	bt_nbd_conn_create(server, fds[1], false);
	if (data[0] & 3)
		ok = feed(fds[0], prefix, put_handshake(prefix, data[0] & 2),
			  sizeof(prefix), true);
	if (ok)
		ok = feed(fds[0], data + 1, size - 1, step, reads);
	if (ok && data[0] & 8) {
		shutdown(fds[0], SHUT_WR);
		while (drain(fds[0]) && server->conn_count)
			blktap_context_run(context, 1);
	}
	close(fds[0]);
	wait_gone();
	return 0;
}

/* ---- seeds ---------------------------------------------------------------- */

static size_t put_request(uint8_t *to, uint16_t flags, uint16_t type,
			  uint64_t offset, uint32_t len)
{
	bt_store_be32(to, NBD_REQUEST_MAGIC);
	bt_store_be16(to + 4, flags);
	bt_store_be16(to + 6, type);
	bt_store_be64(to + 8, 0x1234567800000000ULL + type);
	bt_store_be64(to + 16, offset);
	bt_store_be32(to + 24, len);
	return NBD_REQUEST_LEN;
}

static size_t seed_requests(uint8_t *to, bool small)
{
	size_t n = 0;

	n += put_request(to + n, 1, NBD_CMD_WRITE, 512, small ? 100 : 50000);
	memset(to + n, 'x', small ? 100 : 50000);
	n += small ? 100 : 50000;
	n += put_request(to + n, 0, NBD_CMD_READ, 0, 100000);
	n += put_request(to + n, 0, NBD_CMD_FLUSH, 0, 0);
	n += put_request(to + n, 0, NBD_CMD_TRIM, 4096, 8192);
	n += put_request(to + n, 2, NBD_CMD_WRITE_ZEROES, 4096, 65536);
	n += put_request(to + n, 0, NBD_CMD_CACHE, 0, 4096);
	n += put_request(to + n, 8, NBD_CMD_BLOCK_STATUS, 0, 1 << 22);
	n += put_request(to + n, 4, NBD_CMD_READ, 0, 65536);
	return n + put_request(to + n, 0, NBD_CMD_DISC, 0, 0);
}

static size_t seed_options(uint8_t *to)
{
	size_t n = 4;

	bt_store_be32(to, 3);
	n += put_option(to + n, NBD_OPT_LIST, "", 0);
	n += put_option(to + n, 99, "what", 4);
	n += put_option(to + n, NBD_OPT_STARTTLS, "", 0);
	n += put_option(to + n, NBD_OPT_INFO, "\0\0\0\0\0\4\0\0\0\1\0\2\0\3",
			14);
	n += put_option(to + n, NBD_OPT_STRUCTURED_REPLY, "", 0);
	n += put_option(to + n, NBD_OPT_LIST_META_CONTEXT, META_QUERY,
			sizeof(META_QUERY) - 1);
	return n;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const uint8_t modes[] = { 0xf0, 0xf1, 0xf2, 0x81, 0xa2,
					 0xfa, 0xfd, 0x40, 0xf0 };
	size_t len = 1;

	if (n >= sizeof(modes))
		return 0;
	buf[0] = modes[n];
	if (modes[n] & 3) {
		len += seed_requests(buf + 1, n & 1);
		return len;
	}
	len += seed_options(buf + 1);
	len += put_option(buf + len, n ? NBD_OPT_ABORT : NBD_OPT_EXPORT_NAME,
			  "", 0);
	return len + seed_requests(buf + len, true);
}
