/* SPDX-License-Identifier: BSD-3-Clause */
/* A request in pieces: each goes through one lower port, as a child.
 *
 * The module says where the pieces are; this sends them, waits for the last and
 * ends the request with the first error. A request that is one piece goes down
 * itself. Where no child is free requests wait, oldest first. */
#ifndef BT_MODULE_PARTS_H
#define BT_MODULE_PARTS_H

#include "port/port.h"

struct bt_piece {
	struct bt_port *port;
	uint64_t at; /* where in the request it begins */
	uint64_t offset; /* where that is behind the port */
	uint64_t length;
};

/* The piece at *cursor, which starts as 0 and is moved on; false behind the last.
 * A request has at least one, and what it answers stays true while it runs. */
typedef bool bt_parts_next(struct bt_node *node, const struct bt_request *req,
			   uint64_t *cursor, struct bt_piece *piece);

struct bt_parts {
	struct bt_node *node;
	struct bt_pool *pool;
	bt_parts_next *next;
	/* A request stands here by its link, and has frame->more set. It is
	 * taken off to be fed and put back in front where children run out
	 * again. */
	struct bt_list waiting; /* with pieces left to send, oldest first */
};

/* First in the frame of a class that uses parts. */
struct bt_parts_frame {
	struct bt_parts *parts;
	struct bt_piece piece; /* the next to be sent, where more is set */
	uint64_t cursor;
	uint64_t offset, length; /* the request's own, while it is changed */
	/* The first child's error that came back, and where it is from. With it
	 * set no further piece is sent, and the request ends with the children
	 * that are out. */
	struct bt_node *failed;
	int error;
	uint32_t pending; /* children out, and one while more are to be sent */
	bool more;
};

/* From cls->open: count children. */
int bt_parts_init(struct bt_parts *parts, struct bt_node *node, uint32_t count,
		  bt_parts_next *next);
/* What the children take, for cls->get_memory. */
uint64_t bt_parts_memory(uint32_t count);

/* Sends the request on; of a BLOCK_STATUS only the first piece, which is an
 * answer in itself. It ends with bt_request_complete. */
void bt_parts_submit(struct bt_parts *parts, struct bt_request *req);
/* For cls->complete: the request went down itself. */
void bt_parts_complete(struct bt_request *req);

/* A next for operations without an offset: every edge of the node. */
bool bt_parts_every_port(struct bt_node *node, const struct bt_request *req,
			 uint64_t *cursor, struct bt_piece *piece);

#endif
