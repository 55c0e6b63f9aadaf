/* SPDX-License-Identifier: BSD-3-Clause */
/* What the qcow codec makes of an image, for tests to compare with what others
 * make of it. It reads and writes whole files in the plainest way.
 *
 *	qcow-dump info IMAGE
 *	qcow-dump raw IMAGE [KEY]      the guest's bytes, on stdout
 *	qcow-dump check IMAGE
 *	qcow-dump create IMAGE KEY=VALUE...
 *
 * Exit status 0, 1 with the fault on stderr, 2 for wrong usage. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libqcow/check.h"
#include "libqcow/compress.h"
#include "libqcow/create.h"
#include "libqcow/crypt.h"
#include "libqcow/extension.h"
#include "util/bytes.h"
#include "util/checked.h"

struct image {
	int fd;
	uint64_t bytes;
	struct bt_qcow_header header;
	struct bt_qcow_geometry geo;
	struct bt_qcow_ext_info ext;
	char backing[BT_QCOW_NAME_MAX + 1];
	uint8_t *head;
	uint8_t *l1; /* big-endian, whatever the file has */
	uint8_t *l2;
	uint8_t *cluster;
	uint8_t *stream;
	struct bt_qcow_inflater *inflater;
	struct bt_qcow_cipher *cipher;
};

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

static void die_fault(const struct bt_fault *f, int rc)
{
	fprintf(stderr, "%s is 0x%" PRIx64 ": %s (%s)\n", f->field, f->value,
		f->reason, strerror(-rc));
	if (f->hint)
		fprintf(stderr, "hint: %s\n", f->hint);
	exit(1);
}

static uint8_t *need(size_t bytes)
{
	uint8_t *p = calloc(1, bytes ? bytes : 1);

	if (!p)
		die("memory", -ENOMEM);
	return p;
}

/* What lies past the end of the file is zeros. */
static void read_at(const struct image *im, uint64_t offset, void *buf,
		    size_t len)
{
	ssize_t n = pread(im->fd, buf, len, (off_t)offset);

	if (n < 0)
		die("pread", -errno);
	memset((uint8_t *)buf + n, 0, len - (size_t)n);
}

static void read_l1(struct image *im)
{
	size_t bytes = (size_t)im->geo.l1_entries * 8;

	im->l1 = need(bytes);
	read_at(im, im->geo.l1_offset, im->l1, bytes);
	if (!bt_qcow_l1_is_native(&im->header))
		return;
	for (size_t i = 0; i < bytes; i += 8)
		bt_store_be64(im->l1 + i, bt_load_ne64(im->l1 + i));
}

static void image_open(struct image *im, const char *name, unsigned int flags)
{
	uint8_t probe[BT_QCOW_HEADER_PROBE];
	struct bt_fault fault;
	struct stat st;
	size_t span;
	int rc;

	memset(im, 0, sizeof(*im));
	im->fd = open(name, O_RDONLY | O_CLOEXEC);
	if (im->fd < 0 || fstat(im->fd, &st) < 0)
		die(name, -errno);
	im->bytes = (uint64_t)st.st_size;
	read_at(im, 0, probe, sizeof(probe));
	rc = bt_qcow_header_decode(&im->header, probe,
				   bt_min_u64(im->bytes, sizeof(probe)),
				   &fault);
	if (!rc)
		rc = bt_qcow_header_validate(&im->header, im->bytes, flags,
					     &fault);
	if (rc)
		die_fault(&fault, rc);
	span = bt_min_u64(bt_qcow_header_span(&im->header), im->bytes);
	im->head = need(span);
	read_at(im, 0, im->head, span);
	rc = bt_qcow_ext_read(&im->header, im->head, span, &im->ext, &fault);
	if (!rc)
		rc = bt_qcow_backing_name(&im->header, im->head, span,
					  im->backing, &fault);
	if (rc)
		die_fault(&fault, rc);
	bt_qcow_geometry_init(&im->geo, &im->header);
	read_l1(im);
	im->l2 = need(im->geo.l2_bytes);
	im->cluster = need(im->geo.cluster_bytes);
	im->stream = need((size_t)im->geo.cluster_bytes * 2);
}

static void image_close(struct image *im)
{
	bt_qcow_cipher_destroy(im->cipher);
	bt_qcow_inflater_destroy(im->inflater);
	free(im->stream);
	free(im->cluster);
	free(im->l2);
	free(im->l1);
	free(im->head);
	close(im->fd);
}

/* yes, no, or unknown where there is nothing to verify it with. */
static const char *xen_sum(const struct image *im)
{
	struct bt_qcow_l1_sum *sum;

	if (bt_qcow_l1_sum_create(&sum))
		return "unknown";
	bt_qcow_l1_sum_add(sum, im->l1, (size_t)im->geo.l1_entries * 8);
	return bt_qcow_l1_sum_finish(sum) == im->header.xen.cksum ? "yes"
								  : "no";
}

static void info(const char *name)
{
	const struct bt_qcow_header *h;
	struct image im;

	image_open(&im, name, BT_QCOW_FOR_INFO);
	h = &im.header;
	printf("version=%u size=%" PRIu64 " cluster=%u l2_entries=%u\n",
	       h->version, h->size, im.geo.cluster_bytes, im.geo.l2_entries);
	printf("l1=0x%" PRIx64 "+%" PRIu64 " crypt=%u\n", h->l1_offset,
	       h->l1_entries, h->crypt);
	printf("backing=%s format=%s\n", im.backing, im.ext.backing_format);
	if (h->has_xen)
		printf("xen alloc=%u flags=%u sum=%s\n",
		       h->xen.min_cluster_alloc, h->xen.flags, xen_sum(&im));
	if (h->version > 1)
		printf("refcount_bits=%u lazy=%u compression=%u "
		       "incompat=0x%" PRIx64 "\n",
		       1u << h->refcount_order,
		       (unsigned int)(h->compatible &
				      BT_QCOW_COMPAT_LAZY_REFCOUNTS),
		       h->compression, h->incompatible);
	image_close(&im);
}

/* The L2 table below an L1 entry; false where there is none. */
static bool load_l2(struct image *im, uint32_t l1_index)
{
	struct bt_fault fault;
	struct bt_qcow_l1 l1;
	int rc;

	rc = bt_qcow_l1_decode(&im->geo,
			       bt_load_be64(im->l1 + (size_t)l1_index * 8),
			       im->bytes, &l1, &fault);
	if (rc)
		die_fault(&fault, rc);
	if (l1.offset)
		read_at(im, l1.offset, im->l2, im->geo.l2_bytes);
	return l1.offset;
}

static void load_cluster(struct image *im, const struct bt_qcow_mapping *m,
			 uint64_t guest)
{
	int rc = 0;

	if (m->kind == BT_QCOW_DATA) {
		read_at(im, m->offset, im->cluster, m->bytes);
		if (im->cipher)
			rc = bt_qcow_decrypt(im->cipher, guest, im->cluster,
					     m->bytes);
	} else if (m->kind == BT_QCOW_COMPRESSED) {
		if (!im->inflater)
			rc = bt_qcow_inflater_create(im->geo.compression,
						     &im->inflater);
		read_at(im, m->offset, im->stream, m->bytes);
		if (!rc)
			rc = bt_qcow_inflate(im->inflater, im->stream, m->bytes,
					     im->cluster,
					     im->geo.cluster_bytes);
	} else {
		memset(im->cluster, 0, im->geo.cluster_bytes);
	}
	if (rc)
		die("cluster", rc);
}

static void raw(const char *name, const char *key)
{
	struct bt_fault fault;
	struct image im;
	uint64_t at;
	int rc = 0;

	image_open(&im, name, key ? BT_QCOW_WITH_KEY : 0);
	if (key && im.geo.encrypted)
		rc = bt_qcow_cipher_create(key, strlen(key), &im.cipher);
	if (rc)
		die("key", rc);
	for (at = 0; at < im.geo.size; at += im.geo.cluster_bytes) {
		struct bt_qcow_place p = bt_qcow_locate(&im.geo, at);
		struct bt_qcow_mapping m = { .kind = BT_QCOW_UNALLOCATED };
		size_t len = bt_min_u64(im.geo.cluster_bytes, im.geo.size - at);

		if ((at == 0 || p.l2_index == 0) && !load_l2(&im, p.l1_index))
			memset(im.l2, 0, im.geo.l2_bytes);
		rc = bt_qcow_l2_decode(
			&im.geo, bt_load_be64(im.l2 + (size_t)p.l2_index * 8),
			im.bytes, &m, &fault);
		if (rc)
			die_fault(&fault, rc);
		load_cluster(&im, &m, at);
		if (fwrite(im.cluster, 1, len, stdout) != len)
			die("stdout", -errno);
	}
	image_close(&im);
}

static void say(void *opaque, const struct bt_qcow_finding *f)
{
	static const char *const names[] = { "bad entry", "overlap",
					     "refcount too low", "leak",
					     "wrong copied bit" };

	fprintf(stderr,
		"%s: file 0x%" PRIx64 " guest 0x%" PRIx64 " stored %" PRIu64
		" expected %" PRIu64 " %s\n",
		names[f->kind], f->file_offset, f->guest_offset, f->stored,
		f->expected, f->fault.reason ? f->fault.reason : "");
}

static void feed_refcounts(struct image *im, struct bt_qcow_check *c)
{
	size_t bytes = (size_t)im->geo.reftable_entries * 8;
	uint8_t *table = need(bytes);

	read_at(im, im->geo.reftable_offset, table, bytes);
	bt_qcow_check_reftable(c, table, 0, im->geo.reftable_entries);
	for (uint32_t i = 0; i < im->geo.reftable_entries; i++) {
		uint64_t offset;

		if (!bt_qcow_check_wants_block(c, i) ||
		    bt_qcow_reftable_decode(&im->geo,
					    bt_load_be64(table + (size_t)i * 8),
					    im->bytes, &offset, NULL))
			continue;
		if (offset)
			read_at(im, offset, im->cluster, im->geo.cluster_bytes);
		bt_qcow_check_refblock(c, i, offset ? im->cluster : NULL);
	}
	free(table);
}

static void check(const char *name)
{
	uint32_t counts[1000]; /* small, so that there are many windows */
	struct bt_qcow_check c;
	struct image im;

	image_open(&im, name, BT_QCOW_FOR_INFO | BT_QCOW_FOR_WRITE);
	bt_qcow_check_init(&c, &im.geo, im.bytes, counts, BT_ARRAY_SIZE(counts),
			   say, NULL);
	do {
		bt_qcow_check_l1(&c, im.l1, 0, im.geo.l1_entries);
		for (uint32_t i = 0; i < im.geo.l1_entries; i++)
			if (load_l2(&im, i))
				bt_qcow_check_l2(&c, im.l2, i);
		if (im.geo.version > 1)
			feed_refcounts(&im, &c);
	} while (bt_qcow_check_next(&c));
	printf("corruptions=%" PRIu64 " leaks=%" PRIu64 " data=%" PRIu64
	       " zero=%" PRIu64 " compressed=%" PRIu64 "\n",
	       c.stats.corruptions, c.stats.leaks, c.stats.data_clusters,
	       c.stats.zero_clusters, c.stats.compressed_clusters);
	image_close(&im);
}

static void parse_create(struct bt_qcow_create *c, const char *arg)
{
	const char *value = strchr(arg, '=');
	uint64_t n;

	if (!value++)
		exit(2);
	n = strtoull(value, NULL, 0);
	switch (arg[0]) {
	case 'v':
		c->version = (uint32_t)n;
		break;
	case 's':
		c->size = n;
		break;
	case 'c':
		c->cluster_bits = (uint32_t)n;
		break;
	case 'r':
		c->refcount_bits = (uint32_t)n;
		break;
	case 'b':
		c->backing = value;
		break;
	case 'f':
		c->backing_format = value;
		break;
	case 'x':
		c->xen = n;
		c->reserve = n > 1;
		break;
	case 'z':
		c->compression = n ? BT_QCOW_ZSTD : BT_QCOW_ZLIB;
		break;
	default:
		exit(2);
	}
}

static void create(const char *name, int argc, char **argv)
{
	struct bt_qcow_create c = { .version = 3 };
	struct bt_qcow_layout layout;
	struct bt_fault fault;
	uint8_t buf[3 * 512]; /* no divisor of anything */
	uint64_t at = 0, bytes;
	int fd, rc;

	for (int i = 0; i < argc; i++)
		parse_create(&c, argv[i]);
	rc = bt_qcow_layout_plan(&c, &layout, &fault);
	if (rc)
		die_fault(&fault, rc);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)layout.file_bytes) < 0)
		die(name, -errno);
	while (at = bt_qcow_layout_next(&layout, at, &bytes), bytes) {
		size_t len = bt_min_u64(bytes, sizeof(buf));

		bt_qcow_layout_fill(&layout, at, buf, len);
		if (pwrite(fd, buf, len, (off_t)at) != (ssize_t)len)
			die("pwrite", -errno);
		at += len;
	}
	if (close(fd))
		die("close", -errno);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "info"))
		info(argv[2]);
	else if (!strcmp(argv[1], "raw"))
		raw(argv[2], argc > 3 ? argv[3] : NULL);
	else if (!strcmp(argv[1], "check"))
		check(argv[2]);
	else if (!strcmp(argv[1], "create"))
		create(argv[2], argc - 3, argv + 3);
	else
		return 2;
	return fflush(stdout) ? 1 : 0;
}
