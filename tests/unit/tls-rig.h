/* SPDX-License-Identifier: BSD-3-Clause */
/* Two pumps, a client's and a server's, and between them a network that the test
 * is: it passes bytes on as many at a time as it likes, keeps them, changes them
 * or cuts the line. */
#ifndef BT_TESTS_TLS_RIG_H
#define BT_TESTS_TLS_RIG_H

#include "unit.h"

#include <blktap/error.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#define KEY "00112233445566778899aabbccddeeff"
#define OTHER_KEY "ffeeddccbbaa99887766554433221100"
#define LIMIT_NS 5000000000ull

enum { CLIENT, SERVER };

#if defined(__SANITIZE_ADDRESS__)
/* gcc 12's search for leaks ends by a signal where it looks at the memory of
 * threads of a library that was loaded late. */
__attribute__((visibility("default"))) const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
	return "use_tls=0";
}
#endif

static struct bt_loop *loop;
static char dir[] = "/tmp/bt-tls-XXXXXX";

struct end {
	struct bt_tls_creds *creds;
	struct bt_tls *tls;
	int fd; /* the owner's */
	int net; /* what the network has of it */
	int ended; /* calls */
	char why[256];
	const char *hint;
};
static struct end ends[2];

static inline const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	fclose(f);
	return path;
}

static inline void make_creds(int i, const char *user, const char *text)
{
	const char *path = write_file("psk", text);
	struct bt_tls_files files = { .is_server = i == SERVER,
				      .psk = path,
				      .user = user };
	struct blktap_error *err = NULL;
	int rc = bt_tls_creds_create("test", &files, &ends[i].creds, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	unlink(path);
}

static inline void on_ended(void *opaque)
{
	struct end *e = opaque;
	const char *why;

	e->ended++;
	if (bt_tls_get_error(e->tls, &why, &e->hint))
		snprintf(e->why, sizeof(e->why), "%s", why);
}

static inline void make_pump(int i)
{
	struct bt_tls_options options = { .creds = ends[i].creds,
					  .limit_ns = LIMIT_NS,
					  .ended = on_ended,
					  .opaque = &ends[i] };
	int fds[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	ends[i].net = fds[1];
	ck_assert_int_eq(bt_tls_create(loop, &options, fds[0], &ends[i].fd,
				       &ends[i].tls),
			 0);
}

static inline void setup_loop(void)
{
	memset(ends, 0, sizeof(ends));
	ends[0].net = ends[1].net = ends[0].fd = ends[1].fd = -1;
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
}

static inline void setup(void)
{
	setup_loop();
	make_creds(CLIENT, "alice", "alice:" KEY "\n");
	make_creds(SERVER, NULL, "# users\nbob:" OTHER_KEY "\nalice:" KEY "\n");
	make_pump(CLIENT);
	make_pump(SERVER);
}

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void teardown(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		bt_tls_destroy(ends[i].tls);
		bt_tls_creds_destroy(ends[i].creds);
		close_fd(&ends[i].fd);
		close_fd(&ends[i].net);
	}
	bt_loop_destroy(loop);
	rmdir(dir);
}

/* ---- the network ---------------------------------------------------------- */

/* At most so many bytes one way. Returns how many; -1 at the end, which is passed
 * on. */
static inline int carry(int from, size_t most)
{
	uint8_t bytes[65536];
	ssize_t n;

	if (ends[from].net < 0 || ends[!from].net < 0)
		return 0;
	n = recv(ends[from].net, bytes, most < sizeof(bytes) ? most : 65536,
		 MSG_DONTWAIT | MSG_PEEK);
	if (n < 0)
		return 0;
	if (!n) {
		shutdown(ends[!from].net, SHUT_WR);
		return -1;
	}
	n = send(ends[!from].net, bytes, (size_t)n,
		 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		ck_assert_int_eq(recv(ends[from].net, bytes, (size_t)n, 0), n);
	return n > 0 ? (int)n : 0;
}

static inline void turn(void)
{
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
}

/* As long as anything moves. */
static inline void relay(size_t most)
{
	int idle;

	for (idle = 0; idle < 4; idle++) {
		turn();
		if (carry(CLIENT, most) > 0)
			idle = 0;
		if (carry(SERVER, most) > 0)
			idle = 0;
	}
}

/* ---- owners --------------------------------------------------------------- */

static inline uint8_t byte_at(size_t offset)
{
	return (uint8_t)(offset % 251);
}

/* As much as is taken now; counts from *sent. */
static inline bool send_some(int i, size_t *sent, size_t total)
{
	uint8_t bytes[40000];
	size_t n =
		total - *sent < sizeof(bytes) ? total - *sent : sizeof(bytes);
	size_t k;
	ssize_t rc;

	for (k = 0; k < n; k++)
		bytes[k] = byte_at(*sent + k);
	rc = n ? send(ends[i].fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	if (rc > 0)
		*sent += (size_t)rc;
	return rc > 0;
}

/* Returns what recv did. */
static inline ssize_t get_some(int i, size_t *got, size_t most)
{
	uint8_t bytes[65536];
	ssize_t k, n = recv(ends[i].fd, bytes,
			    most < sizeof(bytes) ? most : sizeof(bytes),
			    MSG_DONTWAIT);

	for (k = 0; k < n; k++)
		if (bytes[k] != byte_at(*got + (size_t)k))
			ck_abort_msg("byte %zu", *got + (size_t)k);
	if (n > 0)
		*got += (size_t)n;
	return n;
}

/* From one owner to the other, whole. */
static inline void pass(int from, size_t total, size_t most)
{
	size_t sent = 0, got = 0;
	int idle = 0;

	while (got < total && idle < 8) {
		bool moved = send_some(from, &sent, total);

		moved |= carry(CLIENT, most) > 0;
		moved |= carry(SERVER, most) > 0;
		turn();
		moved |= get_some(!from, &got, 65536) > 0;
		idle = moved ? 0 : idle + 1;
	}
	ck_assert_uint_eq(got, total);
}

static inline void put_text(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 (ssize_t)strlen(text));
}

static inline void wants_text(int i, const char *text)
{
	char bytes[64] = "";

	ck_assert_int_eq(
		recv(ends[i].fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT),
		(ssize_t)strlen(text));
	ck_assert_str_eq(bytes, text);
}

/* Nothing but the end; one with something unread on the other side is an error. */
static inline void wants_end(int i)
{
	char c;
	ssize_t n = recv(ends[i].fd, &c, 1, MSG_DONTWAIT);

	ck_assert_msg(!n || (n < 0 && errno == ECONNRESET), "%zd %m", n);
}

static inline void wants_nothing(int i)
{
	char c;

	ck_assert_int_eq(recv(ends[i].fd, &c, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

/* ---- suites --------------------------------------------------------------- */

static inline TCase *add_case(Suite *suite, const char *name,
			      void (*begin)(void), void (*end)(void))
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 60);
	if (begin)
		tcase_add_checked_fixture(tc, begin, end);
	suite_add_tcase(suite, tc);
	return tc;
}

static inline int tls_run(Suite *suite)
{
	struct bt_gnutls gnutls;

	if (bt_gnutls_load(&gnutls)) {
		puts("skipped: needs libgnutls");
		return 77;
	}
	bt_gnutls_unload(&gnutls);
	return unit_run(suite);
}

#endif

#endif
