/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util read: what is in an image, piece by piece. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "vhd-util.h"

#define SECTOR 512u

static const struct opt options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'p', "headers", OPT_FLAG, NULL, "footer, header, locators, batmap", 0,
	  0 },
	{ 't', "translate", OPT_NUMBER, "SECTOR",
	  "where sectors of the disk are in the file", 0, LONG_MAX },
	{ 'b', "bat", OPT_NUMBER, "BLOCK", "entries of the table", 0,
	  LONG_MAX },
	{ 'B', "bat-bits", OPT_FLAG, NULL,
	  "the table as a bitmap, in raw bytes", 0, 0 },
	{ 'm', "bitmap", OPT_NUMBER, "BLOCK", "bitmaps of blocks, in raw bytes",
	  0, LONG_MAX },
	{ 'i', "bit", OPT_NUMBER, "SECTOR", "bits of sectors", 0, LONG_MAX },
	{ 'e', "extents", OPT_NUMBER, "SECTOR",
	  "runs of sectors that are here or not", 0, LONG_MAX },
	{ 'a', "batmap", OPT_FLAG, NULL, "the batmap, in raw bytes", 0, 0 },
	{ 'j', "in-batmap", OPT_NUMBER, "BLOCK",
	  "what the batmap says of blocks", 0, LONG_MAX },
	{ 'd', "data", OPT_NUMBER, "BLOCK", "blocks of data, in raw bytes", 0,
	  LONG_MAX },
	{ 'r', "sectors", OPT_NUMBER, "SECTOR",
	  "sectors of the disk, with its parents, in raw bytes", 0, LONG_MAX },
	{ 'R', "bytes", OPT_NUMBER, "BYTE", "the same, counted in bytes", 0,
	  LONG_MAX },
	{ 'c', "count", OPT_NUMBER, "N", "how many of them; default 1", 0,
	  LONG_MAX },
	{ 'x', "hex", OPT_FLAG, NULL, "numbers in hexadecimal", 0, 0 },
	{ 'C', "cached", OPT_FLAG, NULL, "as ever; it makes no difference", 0,
	  0 },
	{ 0, "json", OPT_FLAG, NULL, "what -p prints, as JSON", 0, 0 },
	{ 0 },
};

struct look {
	const struct args *args;
	const char *name;
	struct blktap_vhd *vhd;
	struct blktap_vhd_info info;
	struct blktap_error *err;
	uint64_t count;
	bool hex;
	const char *section; /* printed last */
	/* the bitmap that was looked at last */
	void *bits;
	uint64_t bits_of;
	struct blktap_vhd_block block;
};

static const char *number(const struct look *l, uint64_t n)
{
	static char text[4][24];
	static unsigned int next;
	char *out = text[next++ % 4];

	snprintf(out, sizeof(text[0]), l->hex ? "0x%" PRIx64 : "%" PRIu64, n);
	return out;
}

static void put_bytes(const void *bytes, size_t size)
{
	fwrite(bytes, 1, size, stdout);
}

/* ---- headers -------------------------------------------------------------- */

static void put_field(void *opaque, const char *section, const char *name,
		      const char *value)
{
	struct look *l = opaque;
	size_t i;

	if (l->section != section) {
		printf("%s%s:\n", l->section ? "\n" : "", section);
		for (i = 0; i <= strlen(section); i++)
			putchar('-');
		putchar('\n');
		l->section = section;
	}
	printf("%-20s: ", name);
	for (; *value; value++)
		putchar((unsigned char)*value < ' ' ? '?' : *value);
	putchar('\n');
}

static void put_json_field(void *opaque, const char *section, const char *name,
			   const char *value)
{
	struct look *l = opaque;

	if (!strcmp(name, "locator")) { /* its number goes before its fields */
		l->count++;
		return;
	}
	if (l->section != section) {
		printf(l->section ? "}," : "{");
		put_json_string(stdout, section);
		printf(":{");
	} else {
		putchar(',');
	}
	l->section = section;
	while (*name == ' ')
		name++;
	if (!strcmp(section, "VHD Parent Locators")) {
		printf("\"%" PRIu64 ".%s\":", l->count - 1, name);
	} else {
		put_json_string(stdout, name);
		putchar(':');
	}
	put_json_string(stdout, value);
}

static int headers(struct look *l, uint64_t at)
{
	if (!arg_is_set(l->args, "json")) {
		blktap_vhd_list_fields(l->vhd, put_field, l);
		return 0;
	}
	l->count = 0;
	blktap_vhd_list_fields(l->vhd, put_json_field, l);
	printf("}}\n");
	return 0;
}

/* ---- blocks --------------------------------------------------------------- */

static int get_block(struct look *l, uint64_t block,
		     struct blktap_vhd_block *out)
{
	out->struct_size = sizeof(*out);
	if (block > UINT32_MAX)
		return -ERANGE;
	return blktap_vhd_get_block(l->vhd, (uint32_t)block, out, &l->err);
}

static int bat(struct look *l, uint64_t block)
{
	struct blktap_vhd_block b;
	int rc = get_block(l, block, &b);

	if (rc)
		return rc;
	printf("block: %s: ", number(l, block));
	if (b.offset == BLKTAP_VHD_ABSENT)
		printf("not allocated\n");
	else
		printf("offset: %s\n", number(l, b.offset / SECTOR));
	return 0;
}

static int bitmap(struct look *l, uint64_t block)
{
	size_t size;
	void *bits;
	struct blktap_vhd_block b;
	int rc = get_block(l, block, &b);

	if (!rc)
		rc = blktap_vhd_read_block(l->vhd, (uint32_t)block, &bits,
					   &size, NULL, NULL, &l->err);
	if (rc)
		return rc;
	put_bytes(bits, size);
	free(bits);
	return 0;
}

static int data(struct look *l, uint64_t block)
{
	size_t bits_size, size;
	void *bits, *bytes;
	struct blktap_vhd_block b;
	int rc = get_block(l, block, &b);

	if (!rc && b.data == BLKTAP_VHD_ABSENT) {
		printf("block %s not allocated\n", number(l, block));
		return 0;
	}
	if (!rc)
		rc = blktap_vhd_read_block(l->vhd, (uint32_t)block, &bits,
					   &bits_size, &bytes, &size, &l->err);
	if (rc)
		return rc;
	put_bytes(bytes, size);
	free(bits);
	free(bytes);
	return 0;
}

static int in_batmap(struct look *l, uint64_t block)
{
	struct blktap_vhd_block b;
	int rc = get_block(l, block, &b);

	if (!rc)
		printf("batmap for block %s: %d\n", number(l, block),
		       b.in_batmap);
	return rc;
}

/* Whether a sector is here, its block and its place in that. */
static int look_at(struct look *l, uint64_t sector, bool *here, uint64_t *block,
		   uint32_t *in, uint64_t *at)
{
	uint32_t per = l->info.block_size / SECTOR;
	size_t size;
	int rc = 0;

	if (!per)
		return -EINVAL;
	if (sector >= l->info.length / SECTOR)
		return -ERANGE;
	*block = sector / per;
	*in = (uint32_t)(sector % per);
	if (!l->bits || l->bits_of != *block) {
		free(l->bits);
		l->bits = NULL;
		rc = get_block(l, *block, &l->block);
		if (!rc)
			rc = blktap_vhd_read_block(l->vhd, (uint32_t)*block,
						   &l->bits, &size, NULL, NULL,
						   &l->err);
		l->bits_of = *block;
	}
	if (rc) {
		l->bits = NULL;
		return rc;
	}
	*at = l->block.data;
	if (*at != BLKTAP_VHD_ABSENT)
		*at = *at / SECTOR + *in;
	*here = ((uint8_t *)l->bits)[*in / 8] & (0x80u >> *in % 8);
	return 0;
}

static int bit(struct look *l, uint64_t sector)
{
	uint64_t block, at;
	uint32_t in;
	bool here;
	int rc = look_at(l, sector, &here, &block, &in, &at);

	if (!rc)
		printf("block %s: sec: %s: %d\n", number(l, block),
		       number(l, in), here);
	return rc;
}

static int translate(struct look *l, uint64_t sector)
{
	uint64_t block, at;
	uint32_t in;
	bool here;
	int rc = look_at(l, sector, &here, &block, &in, &at);

	if (rc)
		return rc;
	printf("logical sector %s: block number: %s, sector offset: %s, ",
	       number(l, sector), number(l, block), number(l, in));
	if (at == BLKTAP_VHD_ABSENT)
		printf("not allocated\n");
	else
		printf("file offset: %s, %s\n", number(l, at),
		       here ? "here" : "not here");
	return 0;
}

/* Runs of the same kind, over count sectors or to the end. */
static int extents(struct look *l, uint64_t first)
{
	uint64_t end = l->info.length / SECTOR, at, start = first;
	uint64_t block, place;
	uint32_t in;
	bool here = false, was = false;
	int rc = 0;

	if (arg_is_set(l->args, "count") && l->count < end - first)
		end = first + l->count;
	l->count = 1; /* it has gone through them itself */
	if (first >= end)
		return -ERANGE;
	for (at = first; at < end && !rc; at++) {
		rc = look_at(l, at, &here, &block, &in, &place);
		if (rc || (at > first && here == was))
			continue;
		if (at > first)
			printf("%s %s %s\n", number(l, start),
			       number(l, at - start), was ? "here" : "absent");
		start = at;
		was = here;
	}
	if (!rc)
		printf("%s %s %s\n", number(l, start), number(l, end - start),
		       was ? "here" : "absent");
	return rc;
}

static int put_map(struct look *l, bool batmap)
{
	size_t size;
	void *map;
	int rc = blktap_vhd_get_map(l->vhd, batmap, &map, &size, &l->err);

	if (rc)
		return rc;
	put_bytes(map, size);
	free(map);
	return 0;
}

static int bat_bits(struct look *l, uint64_t at)
{
	return put_map(l, false);
}

static int batmap(struct look *l, uint64_t at)
{
	return put_map(l, true);
}

/* ---- data of the disk ----------------------------------------------------- */

static int read_disk(struct look *l, uint64_t offset, uint64_t length)
{
	struct chain chain;
	uint8_t *buf;
	int rc;

	if (offset > l->info.length || length > l->info.length - offset)
		return -ERANGE;
	rc = chain_open(&chain, l->name,
			BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE, &l->err);
	if (rc)
		return rc;
	buf = aligned_alloc(4096, CHAIN_PIECE);
	rc = buf ? 0 : -ENOMEM;
	while (length && !rc) {
		uint64_t from = offset & ~(uint64_t)4095, skip = offset - from;
		uint64_t n = CHAIN_PIECE - skip;

		if (n > length)
			n = length;
		rc = chain_move(&chain, BLKTAP_OP_READ, from, buf, skip + n);
		if (!rc)
			put_bytes(buf + skip, (size_t)n);
		offset += n;
		length -= n;
	}
	free(buf);
	chain_close(&chain);
	return rc;
}

static int sectors(struct look *l, uint64_t sector)
{
	uint64_t n = l->count;

	l->count = 1;
	if (sector > UINT64_MAX / SECTOR || n > UINT64_MAX / SECTOR)
		return -ERANGE;
	return read_disk(l, sector * SECTOR, n * SECTOR);
}

static int bytes(struct look *l, uint64_t at)
{
	uint64_t n = l->count;

	l->count = 1;
	return read_disk(l, at, n);
}

/* In the order in which they are printed. */
static const struct piece {
	const char *option;
	int (*fn)(struct look *l, uint64_t at);
	bool once;
} pieces[] = {
	{ "headers", headers, true },
	{ "translate", translate, false },
	{ "bat", bat, false },
	{ "bat-bits", bat_bits, true },
	{ "bitmap", bitmap, false },
	{ "bit", bit, false },
	{ "extents", extents, false },
	{ "batmap", batmap, true },
	{ "in-batmap", in_batmap, false },
	{ "data", data, false },
	{ "sectors", sectors, false },
	{ "bytes", bytes, false },
};

#define PIECES (sizeof(pieces) / sizeof(*pieces))

static int show(struct look *l, const struct piece *piece)
{
	uint64_t at = (uint64_t)arg_long(l->args, piece->option, 0), i;
	int rc = 0;

	l->count = (uint64_t)arg_long(l->args, "count", 1);
	if (piece->once)
		return piece->fn(l, 0);
	for (i = 0; i < l->count && !rc; i++)
		rc = piece->fn(l, at + i);
	return rc;
}

/* Where the library has nothing to say, the number that was asked for does. */
static int fail(const struct look *l, const struct piece *piece, int rc)
{
	char *object = NULL, cause[96] = "it is a fixed disk: no blocks";
	int status;

	if (l->err || piece->once || (rc != -ERANGE && rc != -EINVAL) ||
	    asprintf(&object, "%s, --%s %s", l->name, piece->option,
		     arg_text(l->args, piece->option)) < 0)
		return report(l->args, l->name, rc, l->err);
	if (rc == -ERANGE)
		snprintf(cause, sizeof(cause),
			 "past the end of the disk, which has %" PRIu64
			 " sectors",
			 l->info.length / SECTOR);
	status = report_as(l->args, object, rc, cause, NULL);
	free(object);
	return status;
}

static int read_image(const struct args *args)
{
	struct look l = { .args = args, .name = arg_text(args, "name") };
	size_t i;
	int rc;

	l.hex = arg_is_set(args, "hex");
	l.info.struct_size = sizeof(l.info);
	rc = blktap_vhd_get_info(l.name, &l.info, &l.err);
	if (!rc)
		rc = blktap_vhd_open(l.name, 0, &l.vhd, &l.err);
	if (rc) {
		printf("Failed to open %s: %d\n", l.name, rc);
		return report(args, l.name, rc, l.err);
	}
	for (i = 0; i < PIECES && !rc; i++)
		if (arg_is_set(args, pieces[i].option))
			rc = show(&l, &pieces[i]);
	free(l.bits);
	blktap_vhd_close(l.vhd);
	if (rc)
		return fail(&l, &pieces[i - 1], rc);
	if (fflush(stdout) || ferror(stdout))
		return report(args, l.name, -EIO, NULL);
	return 0;
}

const struct command vhd_read_commands[] = {
	{ .name = "read",
	  .summary = "prints what is in an image",
	  .options = options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = read_image },
	{ 0 },
};
