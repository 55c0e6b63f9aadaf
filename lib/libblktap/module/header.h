/* SPDX-License-Identifier: BSD-3-Clause */
/* The header of what a module keeps in a store of its own.
 *
 * It lies twice at the start of the store, BT_HEADER_SLOT bytes each. Generation g
 * is written to slot g & 1, so the one before is whole while the new one is on its
 * way, and a torn write is a header that was never written. The valid one with the
 * higher generation counts. */
#ifndef BT_MODULE_HEADER_H
#define BT_MODULE_HEADER_H

#include "port/port.h"

#define BT_HEADER_SLOT 4096u
#define BT_HEADER_AREA (2u * BT_HEADER_SLOT) /* the store's first bytes */
#define BT_HEADER_PAYLOAD (BT_HEADER_SLOT - 64u)
#define BT_HEADER_KIND 8u

struct bt_header {
	char kind[BT_HEADER_KIND + 1]; /* the class, at most 8 characters */
	uint32_t version; /* of the layout, the class's own */
	bool clean; /* closed as it should be */
	uint64_t generation; /* 0: never written */
	unsigned char uuid[16]; /* of this store; made with it */
	uint32_t length; /* bytes of payload */
	unsigned char payload[BT_HEADER_PAYLOAD]; /* the class's own */
};

/* A new header with a random uuid. */
int bt_header_init(struct bt_header *header, const char *kind,
		   uint32_t version);

/* slot has BT_HEADER_SLOT bytes. decode takes any bytes: -ENOENT where they are
 * zero, -EUCLEAN where they are no header (wrong magic, length or checksum). */
void bt_header_encode(const struct bt_header *header, void *slot);
int bt_header_decode(struct bt_header *header, const void *slot);

/* Whether the store behind the port can hold need bytes for node: it is large
 * enough, can be written, its blocks are not larger than a slot, and it takes a
 * slot at once. */
int bt_header_check_store(const struct bt_node *node,
			  const struct bt_port *store, uint64_t need,
			  struct blktap_error **err);
/* Whether it takes requests of need bytes: one that it does not take would fail,
 * or be cut by whom nobody asked, with the disk in use. */
int bt_header_check_transfer(const struct bt_node *node,
			     const struct bt_port *store, uint64_t need,
			     struct blktap_error **err);
/* Reads the header of the store and waits; for cls->open. -ENOENT, without a text,
 * where the store is new; -EUCLEAN where both slots are damaged, -EINVAL where
 * the header is another class's or of a version above `version`. */
int bt_header_read(struct bt_port *store, const char *kind, uint32_t version,
		   struct bt_header *header, struct blktap_error **err);
/* Writes the next generation, flushes the store, and waits. header->generation
 * goes on by one where that worked, and a new store's by two: it has both its
 * copies from then on. */
int bt_header_write(struct bt_port *store, struct bt_header *header);

/* The same while requests run. */
struct bt_header_writer {
	struct bt_port *store;
	struct bt_pool *pool;
	/* the caller's; what it holds at bt_header_writer_go is written, and it
	 * may be changed from then on */
	struct bt_header *header;
	/* one write at a time: it has to stay as it is until fn is called */
	unsigned char *slot;
	struct iovec iov;
	bool busy;
	void (*fn)(struct bt_header_writer *writer, int error);
	void *opaque;
};

/* From cls->open; header stays the caller's. fini from cls->close, harmless on
 * one that is zeroed. */
int bt_header_writer_init(struct bt_header_writer *writer, struct bt_node *node,
			  struct bt_port *store, struct bt_header *header);
/* What that takes, for get_memory. */
uint64_t bt_header_writer_memory(void);
void bt_header_writer_fini(struct bt_header_writer *writer);
/* Writes *header as it is now, as the next generation (a new store's as the first
 * two), and flushes the store; fn is called once, when it is durable or has failed.
 * Not while it is busy. */
void bt_header_writer_go(struct bt_header_writer *writer,
			 void (*fn)(struct bt_header_writer *writer,
				    int error));

#endif
