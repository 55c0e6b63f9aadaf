/* SPDX-License-Identifier: BSD-3-Clause */
/* cbt: marks what is written in a log of changed blocks, the file that cbt-util makes
 * and toolstacks read: 48 bytes of header, then a bit for each 64 KiB of the disk,
 * the lowest first.
 *
 *   CLEAR -> (a write comes; the bit is in the file) -> SET, and the write goes on
 *
 * A bit goes to the file by a plain call, since it is asked for once in the life of
 * a log and lands in the page cache: so the file outlives the tapdisk at any
 * moment. It is not synced before each write. Whether a log may be trusted after a
 * power cut is told by `consistent` in its header, which is the toolstack's, and is
 * not touched here. */
#include "module/module.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define HEADER 48u
#define OFF_LENGTH 40u
#define BLOCK_BITS 16u /* 64 KiB */
#define PIECE 64u /* bytes of bits written at once */

struct cbt {
	struct bt_node *node;
	int fd;
	uint8_t *bits; /* as in the file */
	/* of 64 KiB, rounded up; a longer log's further bits are left alone */
	uint64_t blocks;
	uint64_t changed; /* blocks */
};

static const struct blktap_param params[] = {
	{ .name = "log",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "the log, made by cbt-util create" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "the disk" },
	{ .name = NULL },
};

/* ---- bits ------------------------------------------------------------------ */

static bool is_set(const struct cbt *c, uint64_t block)
{
	return c->bits[block >> 3] >> (block & 7) & 1;
}

/* Blocks, as the top says: some bytes of the page cache. It does not go by the
 * engine, since the bit has to be there when the request goes on. */
static int write_all(struct cbt *c, const uint8_t *p, size_t count, uint64_t at)
{
	while (count) {
		ssize_t n = pwrite(c->fd, p, count, (off_t)(HEADER + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		at += (uint64_t)n;
		count -= (size_t)n;
	}
	return 0;
}

/* The bits of blocks first to last, which are in one run of PIECE bytes. They are
 * set in memory when they are in the file. Byte by byte as the file has them;
 * other bits of these bytes are as in memory, which nobody else changes while
 * we have the file. */
static int set_bits(struct cbt *c, uint64_t first, uint64_t last)
{
	uint64_t byte = first >> 3, count = (last >> 3) - byte + 1, n;
	uint8_t piece[PIECE];
	int rc;

	memcpy(piece, c->bits + byte, count);
	for (n = first; n <= last; n++)
		piece[(n >> 3) - byte] |= (uint8_t)(1u << (n & 7));
	rc = write_all(c, piece, count, byte);
	for (n = first; n <= last && !rc; n++) {
		c->changed += !is_set(c, n);
		c->bits[n >> 3] |= (uint8_t)(1u << (n & 7));
	}
	return rc;
}

/* Blocks that are set cost a look each. Runs of others are cut where PIECE
 * bytes are full; (first | 7) is the last block of first's byte. */
static int mark(struct cbt *c, uint64_t offset, uint64_t length)
{
	uint64_t first = offset >> BLOCK_BITS, end;
	uint64_t last = (offset + length - 1) >> BLOCK_BITS;
	int rc = 0;

	/* a disk that grew since: what lies behind the log is not marked */
	last = bt_min_u64(last, c->blocks - 1);
	while (first <= last && !rc) {
		if (bt_likely(is_set(c, first))) {
			first++;
			continue;
		}
		end = bt_min_u64(last, (first | 7) + 8 * (PIECE - 1));
		rc = set_bits(c, first, end);
		first = end + 1;
	}
	return rc;
}

/* ---- opening --------------------------------------------------------------- */

static int read_all(int fd, void *to, size_t length, uint64_t offset)
{
	ssize_t n;

	do {
		n = pread(fd, to, length, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (size_t)n == length ? 0 : -EINVAL;
}

/* Whether the log has a bit for all of the disk. */
static int check_length(const struct cbt *c, const char *path, uint64_t length,
			struct blktap_error **err)
{
	uint64_t size = c->node->ports[0].lower->limits.size;

	if (length >= size)
		return 0;
	return bt_fail(err, -EINVAL, "make it larger: cbt-util set -s",
		       "%s: is a log of %llu bytes, and the disk has %llu",
		       path, (unsigned long long)length,
		       (unsigned long long)size);
}

/* Host byte order, as cbt-util and older tools write it. The length is the
 * log's claim, and is compared with the disk's size only; what is read is sized
 * by the disk. */
static int load(struct cbt *c, const char *path, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	uint8_t header[HEADER];
	uint64_t bytes, i;
	int rc = read_all(c->fd, header, HEADER, 0);

	if (!rc)
		rc = check_length(c, path, bt_load_ne64(header + OFF_LENGTH),
				  err);
	if (rc < 0)
		return bt_fail(err, rc, "make it: cbt-util create",
			       rc == -EINVAL ? "%s: is no log" : "%s: %s", path,
			       bt_strerror(rc, text));
	c->blocks = (c->node->ports[0].lower->limits.size + (1u << BLOCK_BITS) -
		     1) >>
		    BLOCK_BITS;
	bytes = (c->blocks + 7) / 8;
	c->bits = malloc(bytes + 1);
	if (!c->bits)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", path);
	rc = read_all(c->fd, c->bits, bytes, HEADER);
	if (rc < 0)
		return bt_fail(err, rc, "make it anew: cbt-util create",
			       "%s: is too short for its bits", path);
	for (i = 0; i < c->blocks; i++)
		c->changed += is_set(c, i);
	return 0;
}

static void cbt_close(struct bt_node *node)
{
	struct cbt *c = node->data;

	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->bits);
	c->bits = NULL;
}

/* O_NONBLOCK: a pipe of that name must not make the opening wait. */
static int cbt_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	const char *path = bt_args_string(args, "log");
	char text[BT_STRERROR_MAX];
	struct cbt *c = node->data;
	struct stat st;
	int rc = 0;

	c->node = node;
	c->fd = open(path, (flags & BLKTAP_OPEN_READ_ONLY ? O_RDONLY : O_RDWR) |
				   O_CLOEXEC | O_NONBLOCK);
	if (c->fd < 0 || fstat(c->fd, &st) < 0)
		rc = bt_fail(err, -errno,
			     errno == ENOENT ? "make it: cbt-util create"
					     : NULL,
			     "%s: %s", path, bt_strerror(-errno, text));
	else if (!S_ISREG(st.st_mode))
		rc = bt_fail(err, -EINVAL, "make it: cbt-util create",
			     "%s: is no file", path);
	if (!rc && node->ports[0].lower->limits.size)
		rc = load(c, path, err);
	if (rc < 0)
		cbt_close(node);
	return rc;
}

/* ---- requests -------------------------------------------------------------- */

/* A bit that cannot be written fails the request: it must not be done unseen.
 */
static void cbt_submit(struct bt_node *node, struct bt_request *req)
{
	struct cbt *c = node->data;
	int rc = mark(c, req->offset, req->length);

	if (rc)
		bt_request_complete(req, rc);
	else
		bt_port_submit(&node->ports[0], req);
}

static bool cbt_get_value(const struct bt_node *node, const char *name,
			  char *text, size_t size)
{
	const struct cbt *c = node->data;

	if (strcmp(name, "changed") != 0)
		return false;
	snprintf(text, size, "%llu",
		 (unsigned long long)(c->changed << BLOCK_BITS));
	return true;
}

const struct blktap_class bt_cbt_class = {
	.name = "cbt",
	.summary = "marks what is written in a log that cbt-util reads",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_WRITING,
	.passes = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_FLUSH |
		  1u << BLKTAP_OP_BLOCK_STATUS | 1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct cbt),
	.open = cbt_open,
	.close = cbt_close,
	.submit = cbt_submit,
	.pause = BT_PAUSE_WRITES,
	.get_value = cbt_get_value,
	.values = "changed",
};
