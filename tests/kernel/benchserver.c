/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The least servers that the kernel's other two ways to user space need, so
 * that the bench compares ways and not servers: they answer at once, with
 * whatever is in the buffer, or with what pread and pwrite make of FILE.
 *
 *   benchserver ublk N DEPTH MAXBYTES [FILE]    one queue, /dev/ublkbN
 *   benchserver nbd DEV [FILE]                  one connection
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/nbd.h>
#include <linux/ublk_cmd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t disk_bytes = 1ull << 30;
static int file_fd = -1;

static void die(const char *what, int err)
{
	fprintf(stderr, "benchserver: %s: %s\n", what, strerror(err));
	exit(1);
}

static void open_file(const char *path)
{
	if (!path)
		return;
	file_fd = open(path, O_RDWR | O_DIRECT);
	if (file_fd < 0)
		die(path, errno);
	disk_bytes = lseek(file_fd, 0, SEEK_END);
}

static void transfer(bool writes, void *buf, size_t n, uint64_t at)
{
	ssize_t done = n;

	if (file_fd >= 0)
		done = writes ? pwrite(file_fd, buf, n, at)
			      : pread(file_fd, buf, n, at);
	if (done != (ssize_t)n)
		die("transfer", done < 0 ? errno : EIO);
}

/* ---- ublk -------------------------------------------------------------- */

/* Newer than Debian 12's own headers. */
#ifndef UBLK_F_CMD_IOCTL_ENCODE
#define UBLK_F_CMD_IOCTL_ENCODE (1ull << 6)
#endif

#define CTRL_CMD(nr) _IOWR('u', nr, struct ublksrv_ctrl_cmd)
#define IO(nr) _IOWR('u', nr, struct ublksrv_io_cmd)

static struct {
	unsigned id, depth, bytes;
	int fd;
	pthread_barrier_t fetched;
} ublk;

static struct io_uring_sqe *uring_cmd(struct io_uring *ring, int fd,
				      unsigned op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		die("submission queue", EBUSY);
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = op;
	return sqe;
}

static int control(struct io_uring *ring, int fd, unsigned nr, void *buf,
		   unsigned len, uint64_t data)
{
	struct io_uring_sqe *sqe = uring_cmd(ring, fd, CTRL_CMD(nr));
	struct ublksrv_ctrl_cmd *cmd = (void *)sqe->cmd;
	struct io_uring_cqe *cqe;
	int res;

	cmd->dev_id = ublk.id;
	cmd->queue_id = -1;
	cmd->addr = (uintptr_t)buf;
	cmd->len = len;
	cmd->data[0] = data;
	io_uring_submit(ring);
	if (io_uring_wait_cqe(ring, &cqe))
		return -EIO;
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static void init_ring(struct io_uring *ring, unsigned entries)
{
	int err = io_uring_queue_init(entries, ring, IORING_SETUP_SQE128);

	if (err)
		die("io_uring", -err);
}

static void give(struct io_uring *ring, unsigned op, unsigned tag, int result,
		 char *bufs)
{
	struct io_uring_sqe *sqe = uring_cmd(ring, ublk.fd, IO(op));
	struct ublksrv_io_cmd *cmd = (void *)sqe->cmd;

	cmd->tag = tag;
	cmd->result = result;
	cmd->addr = (uintptr_t)bufs + (uint64_t)tag * ublk.bytes;
	sqe->user_data = tag;
}

static void ublk_transfer(const struct ublksrv_io_desc *d, char *buf)
{
	uint8_t op = ublksrv_get_op(d);

	if (op == UBLK_IO_OP_READ || op == UBLK_IO_OP_WRITE)
		transfer(op == UBLK_IO_OP_WRITE, buf,
			 (size_t)d->nr_sectors << 9, d->start_sector << 9);
}

/* One system call commits a batch and waits for the next. */
static void *ublk_queue(void *arg)
{
	struct ublksrv_io_desc *desc;
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	unsigned tag, head, n;
	char *bufs;

	init_ring(&ring, ublk.depth);
	if (posix_memalign((void **)&bufs, 4096,
			   (size_t)ublk.depth * ublk.bytes))
		die("buffers", ENOMEM);
	memset(bufs, 0, (size_t)ublk.depth * ublk.bytes);
	desc = mmap(NULL, ublk.depth * sizeof(*desc), PROT_READ,
		    MAP_SHARED | MAP_POPULATE, ublk.fd, 0);
	if (desc == MAP_FAILED)
		die("mmap", errno);
	for (tag = 0; tag < ublk.depth; tag++)
		give(&ring, UBLK_IO_FETCH_REQ, tag, 0, bufs);
	io_uring_submit(&ring);
	pthread_barrier_wait(&ublk.fetched);
	for (;;) {
		io_uring_submit_and_wait(&ring, 1);
		n = 0;
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			n++;
			if (cqe->res != UBLK_IO_RES_OK)
				return arg;
			tag = cqe->user_data;
			ublk_transfer(&desc[tag],
				      bufs + (uint64_t)tag * ublk.bytes);
			give(&ring, UBLK_IO_COMMIT_AND_FETCH_REQ, tag,
			     desc[tag].nr_sectors << 9, bufs);
		}
		io_uring_cq_advance(&ring, n);
	}
}

static int ublk_main(char **argv)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1,
		.dev_id = atoi(argv[0]),
		.queue_depth = atoi(argv[1]),
		.max_io_buf_bytes = atoi(argv[2]),
		.flags = UBLK_F_CMD_IOCTL_ENCODE,
	};
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = { .logical_bs_shift = 9,
			   .physical_bs_shift = 9,
			   .io_opt_shift = 9,
			   .io_min_shift = 9,
			   .max_sectors = info.max_io_buf_bytes >> 9,
			   .dev_sectors = disk_bytes >> 9 },
	};
	struct io_uring ring;
	char path[32];
	pthread_t t;
	int ctl, err;

	ublk.id = info.dev_id;
	ublk.depth = info.queue_depth;
	ublk.bytes = info.max_io_buf_bytes;
	ctl = open("/dev/ublk-control", O_RDWR);
	if (ctl < 0)
		die("/dev/ublk-control", errno);
	init_ring(&ring, 4);
	err = control(&ring, ctl, UBLK_CMD_ADD_DEV, &info, sizeof(info), 0);
	if (err)
		die("ADD_DEV", -err);
	err = control(&ring, ctl, UBLK_CMD_SET_PARAMS, &params, sizeof(params),
		      0);
	if (err)
		die("SET_PARAMS", -err);
	snprintf(path, sizeof(path), "/dev/ublkc%u", ublk.id);
	ublk.fd = open(path, O_RDWR);
	if (ublk.fd < 0)
		die(path, errno);
	pthread_barrier_init(&ublk.fetched, NULL, 2);
	pthread_create(&t, NULL, ublk_queue, NULL);
	pthread_barrier_wait(&ublk.fetched);
	err = control(&ring, ctl, UBLK_CMD_START_DEV, NULL, 0, getpid());
	if (err)
		die("START_DEV", -err);
	pthread_join(t, NULL);
	return 0;
}

/* ---- nbd --------------------------------------------------------------- */

static void all(ssize_t (*f)(int, void *, size_t), int fd, void *buf, size_t n)
{
	while (n) {
		ssize_t k = f(fd, buf, n);

		if (k <= 0)
			exit(0);
		buf = (char *)buf + k;
		n -= k;
	}
}

static ssize_t put(int fd, void *buf, size_t n)
{
	return write(fd, buf, n);
}

/* Header and data of an answer go in one write, the data aligned. */
static void nbd_serve(int fd)
{
	static char area[4096 + (1 << 20)] __attribute__((aligned(4096)));
	char *data = area + 4096, *buf = data - sizeof(struct nbd_reply);
	struct nbd_reply *reply = (void *)buf;
	struct nbd_request req;

	reply->magic = htonl(NBD_REPLY_MAGIC);
	for (;;) {
		bool writes;
		uint32_t len;

		all(read, fd, &req, sizeof(req));
		len = ntohl(req.len);
		writes = ntohl(req.type) == NBD_CMD_WRITE;
		memcpy(reply->handle, req.handle, sizeof(reply->handle));
		if (ntohl(req.type) == NBD_CMD_DISC || len > 1 << 20)
			exit(0);
		if (writes)
			all(read, fd, data, len);
		transfer(writes, data, len, be64toh(req.from));
		all(put, fd, buf, sizeof(*reply) + (writes ? 0 : len));
	}
}

static int nbd_main(char **argv)
{
	int fd = open(argv[0], O_RDWR), pair[2];

	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die(argv[0], errno);
	if (!fork()) {
		close(pair[0]);
		nbd_serve(pair[1]);
	}
	close(pair[1]);
	if (ioctl(fd, NBD_SET_BLKSIZE, 512ul) ||
	    ioctl(fd, NBD_SET_SIZE_BLOCKS, (unsigned long)(disk_bytes >> 9)) ||
	    ioctl(fd, NBD_SET_SOCK, pair[0]))
		die("nbd", errno);
	ioctl(fd, NBD_DO_IT);
	return 0;
}

int main(int argc, char **argv)
{
	if ((argc == 5 || argc == 6) && !strcmp(argv[1], "ublk")) {
		open_file(argv[5]);
		return ublk_main(argv + 2);
	}
	if ((argc == 3 || argc == 4) && !strcmp(argv[1], "nbd")) {
		open_file(argv[3]);
		return nbd_main(argv + 2);
	}
	fprintf(stderr, "usage: benchserver ublk N DEPTH MAXBYTES [FILE] | "
			"nbd DEV [FILE]\n");
	return 2;
}
