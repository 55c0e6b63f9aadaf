/* SPDX-License-Identifier: BSD-3-Clause */
/* The server itself: its sockets, how many clients it takes, and its end. */
#include "nbd-client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#define MIB (1u << 20)

static void destroy(void)
{
	ck_assert_int_eq(blktap_nbd_server_destroy(server), 0);
	server = NULL;
}

/* ---- descriptors and addresses -------------------------------------------- */

START_TEST(out_of_descriptors_it_waits_and_does_not_spin)
{
	struct rlimit old, low;
	struct peer p;
	int i;

	/* it has limits of its own */
	if (getenv("BLKTAP_VALGRIND"))
		return;
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	p = dial();
	low.rlim_cur = (rlim_t)p.fd + 1;
	setrlimit(RLIMIT_NOFILE, &low);
	for (i = 0; i < 5; i++)
		turn();
	ck_assert(!server->accepting);
	ck_assert_int_gt(blktap_context_get_timeout(context), 0);
	setrlimit(RLIMIT_NOFILE, &old);
	wait_clients(1);
	hang_up(&p);
}
END_TEST

static uint32_t full_lines;

static void count_full(void *opaque, enum blktap_log_level level,
		       const char *text)
{
	full_lines +=
		strstr(text, "all 2 places for clients are taken") != NULL;
}

/* Whoever waits is told of in the log, once and not before. */
START_TEST(more_clients_than_allowed_wait_their_turn)
{
	struct peer a, b, c, d;
	uint8_t g[NBD_GREETING_LEN];

	full_lines = 0;
	blktap_context_set_log(context, BLKTAP_LOG_WARNING, count_full, NULL,
			       NULL);
	server->max_clients = 2;
	a = plain();
	b = plain();
	turn();
	ck_assert_uint_eq(full_lines, 0);
	c = dial();
	get_nothing(&c);
	ck_assert_uint_eq(full_lines, 1);
	d = dial();
	close(a.fd);
	get(&c, g, sizeof(g));
	get_nothing(&d);
	ck_assert_uint_eq(full_lines, 1);
	close(b.fd);
	get(&d, g, sizeof(g));
	close(d.fd);
	hang_up(&c);
}
END_TEST

START_TEST(five_hundred_and_twelve_clients_at_once)
{
	struct rlimit limit;
	struct peer *p = calloc(512, sizeof(*p));
	uint8_t b[512];
	int i;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = bt_min_u64(limit.rlim_max, 4096);
	setrlimit(RLIMIT_NOFILE, &limit);
	for (i = 0; i < 512; i++)
		p[i] = either(i & 1);
	for (i = 0; i < 512; i++)
		put_request(&p[i], 0, NBD_CMD_READ, 0, 0, 512);
	for (i = 0; i < 512; i++)
		get_data(&p[i], 0, b, 512);
	for (i = 0; i < 512; i++)
		close(p[i].fd);
	left_nothing();
	free(p);
}
END_TEST

static void refused(const char *where, int code)
{
	struct blktap_nbd_options options;
	struct blktap_nbd_server *other = NULL;
	struct blktap_error *err = NULL;

	blktap_nbd_options_init(&options);
	options.unix_path = where;
	ck_assert_int_eq(blktap_nbd_server_create(disk, &options, &other, &err),
			 code);
	ck_assert_ptr_null(other);
	ck_assert_int_eq(blktap_error_get_code(err), code);
	ck_assert_str_ne(blktap_error_get_message(err), "");
	blktap_error_destroy(err);
}

START_TEST(a_live_socket_is_not_taken_over)
{
	refused(path, -EADDRINUSE);
	serves_others();
}
END_TEST

START_TEST(a_socket_path_too_long_is_refused_with_a_hint)
{
	char longer[200];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	refused(longer, -ENAMETOOLONG);
	refused("", -EINVAL);
}
END_TEST

START_TEST(a_file_in_the_way_is_left_alone)
{
	char file[sizeof(path) + 8];

	snprintf(file, sizeof(file), "%s/file", dir);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	refused(file, -EEXIST);
	ck_assert_int_eq(unlink(file), 0);
}
END_TEST

START_TEST(a_stale_socket_is_replaced_and_ours_is_private)
{
	char stale[sizeof(path) + 8];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct blktap_nbd_options options;
	struct blktap_nbd_server *other;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(stale, sizeof(stale), "%s/stale", dir);
	strcpy(addr.sun_path, stale);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	blktap_nbd_options_init(&options);
	options.unix_path = stale;
	umask(0);
	ck_assert_int_eq(blktap_nbd_server_create(disk, &options, &other, NULL),
			 0);
	ck_assert_int_eq(stat(stale, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(blktap_nbd_server_destroy(other), 0);
	ck_assert_int_eq(access(stale, F_OK), -1);
}
END_TEST

START_TEST(a_socket_file_that_is_not_ours_any_more_stays)
{
	char moved[sizeof(path) + 8];

	snprintf(moved, sizeof(moved), "%s/moved", dir);
	ck_assert_int_eq(rename(path, moved), 0);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	destroy();
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(unlink(moved), 0);
}
END_TEST

START_TEST(tcp_serves_on_a_free_port_and_says_which)
{
	struct blktap_nbd_options options;
	struct blktap_nbd_server *other;
	unsigned int port;

	blktap_nbd_options_init(&options);
	options.host = "127.0.0.1";
	options.port = "0";
	ck_assert_int_eq(blktap_nbd_server_create(disk, &options, &other, NULL),
			 0);
	ck_assert_int_eq(sscanf(blktap_nbd_server_get_uri(other),
				"nbd://127.0.0.1:%u", &port),
			 1);
	ck_assert_uint_ne(port, 0);
	ck_assert_int_eq(blktap_nbd_server_destroy(other), 0);
}
END_TEST

static int tcp_option(const struct bt_nbd_conn *conn, int level, int name)
{
	socklen_t size = sizeof(int);
	int value = 0;

	ck_assert_int_eq(getsockopt(conn->fd, level, name, &value, &size), 0);
	return value;
}

/* An idle client stays, but not one whose machine has gone. */
START_TEST(tcp_client_that_is_gone_is_noticed_in_twenty_minutes)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct peer p = { .fd = socket(AF_INET, SOCK_STREAM, 0) };
	struct blktap_nbd_options options;
	struct blktap_nbd_server *other;
	const struct bt_nbd_conn *conn;
	uint8_t b[NBD_GREETING_LEN];
	unsigned int port;

	blktap_nbd_options_init(&options);
	options.host = "127.0.0.1";
	options.port = "0";
	ck_assert_int_eq(blktap_nbd_server_create(disk, &options, &other, NULL),
			 0);
	sscanf(blktap_nbd_server_get_uri(other), "nbd://127.0.0.1:%u", &port);
	addr.sin_port = htons((uint16_t)port);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(connect(p.fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	fcntl(p.fd, F_SETFL, O_NONBLOCK);
	get(&p, b, sizeof(b));
	bt_store_be32(b, BOTH);
	put(&p, b, 4);
	put_option(&p, NBD_OPT_EXPORT_NAME, "", 0);
	get(&p, b, 10);
	conn = bt_list_first(&other->conns, struct bt_nbd_conn, link);
	ck_assert_int_ne(tcp_option(conn, SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(
		tcp_option(conn, IPPROTO_TCP, TCP_KEEPIDLE) +
			tcp_option(conn, IPPROTO_TCP, TCP_KEEPINTVL) *
				tcp_option(conn, IPPROTO_TCP, TCP_KEEPCNT),
		20 * 60);
	close(p.fd);
	ck_assert_int_eq(blktap_nbd_server_destroy(other), 0);
}
END_TEST

START_TEST(a_host_that_does_not_exist_is_refused)
{
	struct blktap_nbd_options options;
	struct blktap_nbd_server *other;

	blktap_nbd_options_init(&options);
	options.host = "256.256.256.256";
	ck_assert_int_lt(blktap_nbd_server_create(disk, &options, &other, NULL),
			 0);
}
END_TEST

/* ---- the server's end ----------------------------------------------------- */

START_TEST(destroy_with_64_clients_in_the_handshake)
{
	uint8_t b[NBD_GREETING_LEN];
	struct peer p[64];
	int i;

	for (i = 0; i < 64; i++) {
		p[i] = i % 2 ? greet(BOTH) : dial();
		if (!(i % 2))
			get(&p[i], b, sizeof(b));
	}
	destroy();
	for (i = 0; i < 64; i++)
		get_end(&p[i]);
}
END_TEST

START_TEST(destroy_with_clients_that_read_nothing)
{
	struct peer p[4];
	int i, n;

	for (i = 0; i < 4; i++) {
		p[i] = plain();
		write_at(&p[i], 0, 0, 4 * MIB);
		for (n = 0; n < 20; n++)
			put_request(&p[i], 0, NBD_CMD_READ, 0, 0, MIB);
	}
	settle();
	destroy();
	for (i = 0; i < 4; i++)
		close(p[i].fd);
}
END_TEST

START_TEST(the_context_ends_its_servers)
{
	struct peer p = plain(), q = greet(BOTH);

	put_request(&p, 0, NBD_CMD_READ, 0, 0, MIB);
	settle();
	blktap_context_destroy(context);
	server = NULL;
	disk = NULL;
	ck_assert_int_eq(blktap_context_create(NULL, &context, NULL), 0);
	close(p.fd);
	close(q.fd);
}
END_TEST

static void paused(void *opaque, int error, const char *message)
{
	*(int *)opaque = error;
}

static void pause_disk(void)
{
	int done = 1;

	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, &done), 0);
	while (done == 1)
		turn();
	ck_assert_int_eq(done, 0);
}

START_TEST(destroy_while_the_disk_is_paused_answers_eshutdown)
{
	struct peer p = plain();
	char data[512] = { 0 };
	uint8_t b[3 * NBD_SIMPLE_REPLY_LEN];
	int i;

	pause_disk();
	put_request(&p, 0, NBD_CMD_READ, 0, 0, 4096);
	put_request(&p, 0, NBD_CMD_FLUSH, 0, 0, 0);
	put_request(&p, 0, NBD_CMD_WRITE, 0, 100, sizeof(data));
	put(&p, data, sizeof(data));
	get_nothing(&p);
	destroy();
	ck_assert_int_eq(recv(p.fd, b, sizeof(b), 0), sizeof(b));
	for (i = 0; i < 3; i++)
		ck_assert_uint_eq(
			bt_load_be32(b + NBD_SIMPLE_REPLY_LEN * i + 4),
			NBD_ESHUTDOWN);
	close(p.fd);
}
END_TEST

START_TEST(requests_to_a_paused_disk_wait_for_it)
{
	struct peer p = plain();
	uint8_t b[NBD_SIMPLE_REPLY_LEN];

	pause_disk();
	put_request(&p, 0, NBD_CMD_FLUSH, 3, 0, 0);
	get_nothing(&p);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	get(&p, b, sizeof(b));
	ck_assert_uint_eq(bt_load_be32(b + 4), 0);
	hang_up(&p);
}
END_TEST

static void in_callback(struct bt_work *work)
{
	ck_assert_int_eq(blktap_nbd_server_destroy(server), -EDEADLK);
}

START_TEST(destroy_inside_a_callback_is_refused)
{
	struct bt_work work;

	bt_work_init(&work, in_callback);
	bt_loop_defer(server->loop, &work);
	turn();
	destroy();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd-server");
	TCase *tc;

	tc = nbd_case(suite, "sockets", setup, teardown_serving);
	tcase_add_test(tc, out_of_descriptors_it_waits_and_does_not_spin);
	tcase_add_test(tc, more_clients_than_allowed_wait_their_turn);
	tcase_add_test(tc, five_hundred_and_twelve_clients_at_once);
	tcase_add_test(tc, a_live_socket_is_not_taken_over);
	tcase_add_test(tc, a_socket_path_too_long_is_refused_with_a_hint);
	tcase_add_test(tc, a_file_in_the_way_is_left_alone);
	tcase_add_test(tc, a_stale_socket_is_replaced_and_ours_is_private);
	tcase_add_test(tc, tcp_serves_on_a_free_port_and_says_which);
	tcase_add_test(tc,
		       tcp_client_that_is_gone_is_noticed_in_twenty_minutes);
	tcase_add_test(tc, a_host_that_does_not_exist_is_refused);
	tc = nbd_case(suite, "ends", setup, teardown);
	tcase_add_test(tc, destroy_with_64_clients_in_the_handshake);
	tcase_add_test(tc, destroy_with_clients_that_read_nothing);
	tcase_add_test(tc, the_context_ends_its_servers);
	tcase_add_test(tc, destroy_inside_a_callback_is_refused);
	tcase_add_test(tc, destroy_while_the_disk_is_paused_answers_eshutdown);
	tcase_add_test(tc, requests_to_a_paused_disk_wait_for_it);
	tcase_add_test(tc, a_socket_file_that_is_not_ours_any_more_stays);
	return unit_run(suite);
}
