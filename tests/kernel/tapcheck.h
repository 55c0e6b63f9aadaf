/* SPDX-License-Identifier: BSD-3-Clause */
/* What abitest and movetest share: lines of results, and a disk's client. */
#ifndef TAPCHECK_H
#define TAPCHECK_H

#include <pthread.h>
#include <sys/types.h>

#include "tapring.h"

extern int failures;

/* Its name is in each line. */
void begin_suite(const char *name);
void check(int good, const char *name);
/* Compares a result with what it should be, and says both. */
void want(long got, long wanted, const char *name);

/* One read or write of the disk, in a thread, while the test answers it. */
struct io {
	int fd;
	bool write;
	off_t at;
	size_t len;
	char *buf;
	long result;
	pthread_t thread;
	bool joined;
};

/* The buffer is full of 0x5a. */
struct io *start_io(int fd, bool write, off_t at, size_t len);
/* Its result; the buffer is there until end_io. */
long wait_io(struct io *io);
long end_io(struct io *io);

/* Waits for one request, and answers it: with its bytes, where result is 0. */
void take_next(struct tapring *r, struct tapqueue *q, struct blktap_desc *d);
void answer(struct tapring *r, struct tapqueue *q, const struct blktap_desc *d,
	    int result);
void answer_next(struct tapring *r, struct tapqueue *q, struct blktap_desc *d,
		 int result);

/* ---- disks of this program ------------------------------------------------- */

#define DEV_BYTES (4 << 20)

struct dev {
	int minor;
	int disk; /* open with O_DIRECT */
	struct tapring r;
	struct tapqueue q;
};

/* Ends the program where what a test needs is not to be had. */
void must(bool good, const char *what);
int open_disk(int minor, int flags);
void make_dev(struct dev *d, uint64_t features, uint32_t recovery_ms);
void map_ring(struct dev *d);
/* Mapping and file go, as with a daemon that dies. */
void leave_ring(struct dev *d);
/* Frees a minor, once that can be done; somebody else may have. */
bool is_gone(int minor);
void drop_dev(struct dev *d, const char *name);
uint8_t *slot_of(struct dev *d, const struct blktap_desc *at);

/* Starts one, and waits until it is the daemon's. */
struct io *ask(struct dev *d, bool write, off_t at, size_t len,
	       struct blktap_desc *out);

struct blktap_move move_of(const struct blktap_desc *at, int fd,
			   uint64_t offset);
/* The call's error, or the move's result. */
long move(struct dev *d, const struct blktap_desc *at, int fd, uint64_t offset);

#endif
