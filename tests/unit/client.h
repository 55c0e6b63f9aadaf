/* SPDX-License-Identifier: BSD-3-Clause */
/* A client of a disk that writes, discards and flushes at random, several requests at
 * a time, no two of one page, and keeps in versions.h what each sector may be. */
#ifndef BT_TESTS_CLIENT_H
#define BT_TESTS_CLIENT_H

#include <blktap/blktap.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "versions.h"

#define CLIENT_DEPTH 4u
#define CLIENT_PAGE 4096u
#define CLIENT_PAGES (VERSIONS_SECTORS * 512u / CLIENT_PAGE)

struct client_op {
	unsigned char bytes[CLIENT_PAGE];
	struct iovec iov;
	enum blktap_op op;
	uint32_t page, tag;
	bool busy, fua;
	uint64_t submitted;
};

struct client {
	struct blktap_disk *disk;
	uint64_t (*random)(void);
	uint32_t most; /* requests that it makes */
	uint32_t requests, flushes; /* that it has made */
	uint32_t next_tag;
	bool goes_on; /* the end of a request is the beginning of another */
	struct client_op ops[CLIENT_DEPTH];
};

extern struct client client;

void client_reset(uint64_t (*random)(void));
/* A request for each that is over. */
void client_submit(void);
bool client_is_idle(void);
void client_fill(unsigned char *bytes, uint32_t page, uint32_t tag);

#endif
