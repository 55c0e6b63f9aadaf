/* SPDX-License-Identifier: BSD-3-Clause */
/* copy_on_read: what was read of a lower image of a chain is written to its leaf, so
 * that the next read finds it there. A read that may bring such data takes a lane:
 *
 *   FREE -> READING: the guest's own request, made wider, into the lane's memory
 *        -> (the guest has its bytes) -> ASKING: BLOCK_STATUS says which of them
 *           are not the leaf's, and no zeroes
 *        -> WRITING: those go down, piece after piece -> FREE
 *
 * A lane is never older than a write:
 *
 *   - none begins where a write is under way, or another lane
 *   - a write that comes makes the lanes it touches stale: they write nothing more,
 *     and give nobody their bytes. It waits for a piece that is being written there,
 *     and for nothing else
 *
 * So what is written is what the disk holds there, and it makes no difference which
 * of it a power cut leaves. No read waits: where no lane is free it passes. A copy
 * that fails fails nobody's request; it ends the copying until the node is opened
 * anew.
 *
 * A map has a bit for each GRAIN of which all is known to be the leaf's own, or
 * zeroes: there reads pass. It is forgotten where a discard has brought back what is
 * below, and when other nodes are below; what a lane asked before counts for nothing.
 *
 * From a LAST flush, which waits for the lanes, to the next write no lane begins:
 * what is below may be another's. */
#ifndef BT_MODULE_COPY_ON_READ_H
#define BT_MODULE_COPY_ON_READ_H

#include "port/port.h"

#define BT_COR_LANES 32u
#define BT_COR_BYTES (256u << 10)
#define BT_COR_EXTENTS 64u
#define BT_COR_GRAIN (64u << 10)

struct bt_cor;

enum bt_cor_state {
	BT_COR_FREE,
	BT_COR_READING,
	BT_COR_ASKING,
	BT_COR_WRITING
};

struct bt_cor_lane {
	struct bt_list link; /* on cor->idle */
	struct bt_cor *cor;
	enum bt_cor_state state;
	bool stale;
	uint64_t from, to; /* of the disk */
	uint64_t at; /* WRITING: what is before has been looked at */
	unsigned char *memory;
	struct bt_request *req; /* ASKING, WRITING */
	struct iovec iov;
	uint64_t links; /* of the environment, when it began */
	uint64_t discards; /* of the node, when it began to ask */
	uint64_t asked; /* ASKING: where the extents begin */
	uint64_t ask_to;
	uint64_t clear; /* from there on nothing that was told of is lower */
	uint32_t extent_count;
	struct blktap_extent extents[BT_COR_EXTENTS];
};

struct bt_cor {
	struct bt_node *node;
	struct bt_port *leaf;
	struct bt_pool *pool;
	struct bt_list idle; /* lanes; the last used first */
	struct bt_list writes; /* those that are in the node or below */
	struct bt_list lasts; /* LAST flushes that wait for the lanes */
	unsigned char *memory;
	unsigned char *known; /* a bit a grain */
	uint64_t size;
	uint64_t unit;
	uint64_t links, below; /* see bt_port_below */
	uint64_t copied; /* bytes */
	uint64_t discards; /* that are over */
	uint32_t busy; /* lanes */
	int failed; /* what ended the copying; or 0 */
	bool read_only;
	bool resting; /* since a LAST flush */
	struct bt_cor_lane lanes[BT_COR_LANES];
};

struct bt_cor_frame {
	struct bt_list link; /* a write's, on cor->writes */
	struct bt_request *req;
	uint64_t offset, length; /* the guest's */
	struct bt_sgl data;
	struct bt_cor_lane *lane; /* of a read; NULL: it passes */
	bool waits; /* a write, for a lane */
};

/* ---- copy-on-read-lane.c --------------------------------------------------- */
/* Whether all of it is known to be the leaf's, or zeroes. */
bool bt_cor_is_known(const struct bt_cor *cor, uint64_t offset,
		     uint64_t length);
void bt_cor_forget(struct bt_cor *cor, uint64_t offset, uint64_t length);
/* Forgets all where other nodes are below. */
void bt_cor_look_below(struct bt_cor *cor);
uint64_t bt_cor_map_bytes(uint64_t size);
/* A write is under way there. */
bool bt_cor_is_written(const struct bt_cor *cor, uint64_t from, uint64_t to);
/* A lane there that has come so far at least, or NULL. */
struct bt_cor_lane *bt_cor_find_lane(struct bt_cor *cor, uint64_t from,
				     uint64_t to, enum bt_cor_state least);
/* What the lanes there have read is not to be used. */
void bt_cor_stale(struct bt_cor *cor, uint64_t from, uint64_t to);
/* READING is over: the lane goes its way to FREE. */
void bt_cor_copy(struct bt_cor_lane *lane);
void bt_cor_end_lane(struct bt_cor_lane *lane);

#endif
