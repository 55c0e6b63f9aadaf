/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring ABI from the daemon's side, for the programs of this test only. */
#ifndef TAPRING_H
#define TAPRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernel/uapi/blktap.h"

#define DEV_DIR "/dev/" BLKTAP_DEV_DIR

struct tapring {
	int fd;
	struct blktap_info info;
	uint8_t *map;
};

/* The parts of one queue. */
struct tapqueue {
	struct blktap_queue *shared;
	uint32_t *sq;
	struct blktap_desc *desc;
	struct blktap_cqe *cq;
	uint32_t head, tail; /* of sq, of cq: our own copies */
};

/* All return 0 or more, or -errno. */
int tap_alloc(int minor);
int tap_free(int minor, unsigned flags);
int tap_open(int minor);
int tap_attach(int fd, uint64_t features);
int tap_info(int fd, struct blktap_info *info);
int tap_remove(int fd, unsigned flags);
int tap_resize(int fd, uint64_t capacity);
int tap_map(struct tapring *r);
int tap_enter(int fd, uint32_t queue, unsigned flags, int timeout_ms);
/* Waits on all queues, and for the other descriptor. */
int tap_enter_fd(int fd, int other, int timeout_ms);

/* All of them in one call; results are in the moves. */
int tap_move(int fd, struct blktap_move *moves, uint32_t count);
int tap_defer(int fd, bool on);

/* A disk as most tests want it; the caller changes what it is about. */
void tap_create_defaults(struct blktap_create *c, uint64_t capacity);
int tap_create(int fd, struct blktap_create *c);

void tap_queue(const struct tapring *r, uint32_t q, struct tapqueue *out);
bool tap_take(struct tapring *r, struct tapqueue *q, struct blktap_desc *d);
void tap_answer(struct tapring *r, struct tapqueue *q,
		const struct blktap_cqe *cqe);

#endif
