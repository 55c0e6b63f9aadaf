/* SPDX-License-Identifier: BSD-3-Clause */
/* ram: a disk in memory, lost when it is closed. Pages are taken when they are
 * first written and given back by a discard. */
#include "driver/driver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

/* memory is size bytes of address space; the system gives pages as they are
 * touched. */
struct ram {
	char *memory;
	uint64_t size;
};

static const struct blktap_param ram_params[] = {
	{ .name = "size",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "bytes (64M), or the path of a file that is as large" },
	{ .name = NULL },
};

/* The size of a file is for those who want a disk as large as an image. */
static int find_size(const char *text, uint64_t *size,
		     struct blktap_error **err)
{
	char reason[BT_STRERROR_MAX];
	struct stat st;
	int rc;

	if (*text == '/') {
		if (stat(text, &st) < 0)
			return bt_fail(err, -errno, "ram:64M gives the size",
				       "%s: %s", text,
				       bt_strerror(-errno, reason));
		*size = (uint64_t)st.st_size;
	} else {
		rc = bt_parse_size(text, size);
		if (rc < 0)
			return bt_fail(err, rc,
				       "give bytes, or a number with M or G",
				       "ram: size '%s' is not a size", text);
	}
	if (!*size || *size > INT64_MAX)
		return bt_fail(err, -EINVAL, "ram:64M gives 64 MiB",
			       "ram: a disk of size '%s' cannot be made", text);
	return 0;
}

/* Without looking at files: what is told of a path is told when it is opened. */
static int ram_check_args(const struct bt_args *args, struct blktap_error **err)
{
	const char *text = bt_args_string(args, "size");
	uint64_t size;

	return *text == '/' ? 0 : find_size(text, &size, err);
}

/* All of the disk: as if it were filled. */
static uint64_t ram_get_memory(const struct bt_args *args, uint64_t size,
			       uint32_t edges)
{
	(void)edges;
	/* the argument may be a file, whose size is not known before */
	if (bt_parse_size(bt_args_string(args, "size"), &size))
		size = 0;
	return sizeof(struct ram) + size;
}

/* Address space alone: NORESERVE, so a disk may be larger than memory as long
 * as it is not filled. When memory ends, the system ends the process. */
static int ram_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	struct ram *ram = node->data;
	int rc = find_size(bt_args_string(args, "size"), &ram->size, err);

	if (rc < 0)
		return rc;
	ram->memory = mmap(NULL, ram->size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram->memory == MAP_FAILED)
		return bt_fail(err, -ENOMEM, NULL,
			       "ram: no address space for %s bytes",
			       bt_args_string(args, "size"));
	return 0;
}

static void ram_close(struct bt_node *node)
{
	struct ram *ram = node->data;

	munmap(ram->memory, ram->size);
}

/* A discard of less than a page clears it, which is right and gains nothing. */
static void ram_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct ram *ram = node->data;

	limits->size = ram->size;
	limits->discard_granularity = 4096;
	limits->max_transfer = 32u << 20;
}

/* Whole pages go back to the system and read as zeroes; the rest is cleared.
 * DONTNEED of private memory makes pages that read as zeroes. */
static void clear(struct ram *ram, uint64_t offset, uint64_t length)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t end = offset + length;
	uint64_t first = bt_align_down(offset + page - 1, page);
	uint64_t last = bt_align_down(end, page);

	if (first >= last ||
	    madvise(ram->memory + first, last - first, MADV_DONTNEED) < 0) {
		memset(ram->memory + offset, 0, length);
		return;
	}
	memset(ram->memory + offset, 0, first - offset);
	memset(ram->memory + last, 0, end - last);
}

/* Completed inside of the call: bt_request_complete does not nest
 * (port/port.c). */
static void ram_submit(struct bt_node *node, struct bt_request *req)
{
	struct ram *ram = node->data;
	char *at = ram->memory + req->offset;

	switch (req->op) {
	case BLKTAP_OP_READ:
		bt_sgl_copy_in(&req->data, at, req->length);
		break;
	case BLKTAP_OP_WRITE:
		bt_sgl_copy_out(&req->data, at, req->length);
		break;
	case BLKTAP_OP_DISCARD:
	case BLKTAP_OP_WRITE_ZEROES:
		clear(ram, req->offset, req->length);
		break;
	case BLKTAP_OP_BLOCK_STATUS:
		req->extents[0].length = req->length;
		req->extents[0].flags = 0;
		req->extents[0].depth = 0;
		req->extent_count = 1;
		break;
	default: /* FLUSH, PREFETCH: it is in memory as it is */
		break;
	}
	bt_request_complete(req, 0);
}

const struct blktap_class bt_ram_class = {
	.name = "ram",
	.summary = "memory, lost when the disk is closed",
	.flags = BT_CLASS_VOLATILE,
	.params = ram_params,
	.operations = BT_OPS_ALL,
	.legacy_type = 5,
	.node_bytes = sizeof(struct ram),
	.open = ram_open,
	.close = ram_close,
	.get_limits = ram_get_limits,
	.check_args = ram_check_args,
	.get_memory = ram_get_memory,
	.submit = ram_submit,
};
