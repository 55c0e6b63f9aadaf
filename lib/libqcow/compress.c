/* SPDX-License-Identifier: BSD-3-Clause */
/* zlib: a raw deflate stream with a 4 KiB window and no header, which is all
 * of versions 1 and 2 and the default of 3. zstd: one frame or several. */
#include "libqcow/compress.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define WINDOW_BITS (-12) /* 4 KiB; below 0: no zlib header */

struct bt_qcow_inflater {
	enum bt_qcow_compression method;
	z_stream z;
#ifdef HAVE_ZSTD
	ZSTD_DCtx *zstd;
#endif
};

struct bt_qcow_deflater {
	enum bt_qcow_compression method;
	z_stream z;
#ifdef HAVE_ZSTD
	ZSTD_CCtx *zstd;
#endif
};

/* All that a method needs for its life is taken here. */
static int inflater_init(struct bt_qcow_inflater *in)
{
	if (in->method == BT_QCOW_ZLIB)
		return inflateInit2(&in->z, WINDOW_BITS) == Z_OK ? 0 : -ENOMEM;
#ifdef HAVE_ZSTD
	in->zstd = ZSTD_createDCtx();
	return in->zstd ? 0 : -ENOMEM;
#else
	return -ENOTSUP;
#endif
}

/* For one user at a time: every call begins its state anew. */
int bt_qcow_inflater_create(enum bt_qcow_compression method,
			    struct bt_qcow_inflater **out)
{
	struct bt_qcow_inflater *in = calloc(1, sizeof(*in));
	int rc;

	if (!in)
		return -ENOMEM;
	in->method = method;
	rc = inflater_init(in);
	if (rc) {
		free(in);
		return rc;
	}
	*out = in;
	return 0;
}

void bt_qcow_inflater_destroy(struct bt_qcow_inflater *inflater)
{
	if (!inflater)
		return;
	if (inflater->method == BT_QCOW_ZLIB)
		inflateEnd(&inflater->z);
#ifdef HAVE_ZSTD
	ZSTD_freeDCtx(inflater->zstd);
#endif
	free(inflater);
}

/* The lengths are zlib's own type: a longer one must not be cut to fit.
 * Z_FINISH with all of the output's room given makes one call enough. -EIO
 * where fewer bytes than a cluster came out: a shorter stream would leave old
 * bytes of the buffer behind as data. */
static int inflate_zlib(z_stream *z, const void *in, size_t in_len, void *out,
			size_t out_len)
{
	int rc;

	if (in_len > UINT_MAX || out_len > UINT_MAX || inflateReset(z) != Z_OK)
		return -EIO;
	z->next_in = in;
	z->avail_in = (uInt)in_len;
	z->next_out = out;
	z->avail_out = (uInt)out_len;
	rc = inflate(z, Z_FINISH);
	/* A full buffer is success even without the end mark: QEMU writes
	 * streams whose last bytes it then cuts off at the sector. */
	if ((rc == Z_STREAM_END || rc == Z_BUF_ERROR) && !z->avail_out)
		return 0;
	return -EIO;
}

#ifdef HAVE_ZSTD
/* Frames follow each other until the cluster is full. The loop ends: each turn
 * moves one of the two positions, or it is an error. */
static int inflate_zstd(ZSTD_DCtx *zstd, const void *in, size_t in_len,
			void *out, size_t out_len)
{
	ZSTD_inBuffer src = { in, in_len, 0 };
	ZSTD_outBuffer dst = { out, out_len, 0 };

	ZSTD_DCtx_reset(zstd, ZSTD_reset_session_only);
	while (dst.pos < dst.size) {
		size_t before = dst.pos, used = src.pos;
		size_t rc = ZSTD_decompressStream(zstd, &dst, &src);

		if (ZSTD_isError(rc))
			return -EIO;
		/* No progress: the stream is shorter than the cluster. */
		if (dst.pos == before && src.pos == used)
			return -EIO;
	}
	return 0;
}
#endif

/* The object has its own state for each call to begin anew with; nothing is
 * kept between calls. */
int bt_qcow_inflate(struct bt_qcow_inflater *inflater, const void *in,
		    size_t in_len, void *out, size_t out_len)
{
#ifdef HAVE_ZSTD
	if (inflater->method == BT_QCOW_ZSTD)
		return inflate_zstd(inflater->zstd, in, in_len, out, out_len);
#endif
	return inflate_zlib(&inflater->z, in, in_len, out, out_len);
}

/* The window is what readers expect of the format, 4 KiB; more would make
 * streams that others do not read. */
static int deflater_init(struct bt_qcow_deflater *d)
{
	if (d->method == BT_QCOW_ZLIB)
		return deflateInit2(&d->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
				    WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) == Z_OK
			       ? 0
			       : -ENOMEM;
#ifdef HAVE_ZSTD
	d->zstd = ZSTD_createCCtx();
	return d->zstd ? 0 : -ENOMEM;
#else
	return -ENOTSUP;
#endif
}

int bt_qcow_deflater_create(enum bt_qcow_compression method,
			    struct bt_qcow_deflater **out)
{
	struct bt_qcow_deflater *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return -ENOMEM;
	d->method = method;
	rc = deflater_init(d);
	if (rc) {
		free(d);
		return rc;
	}
	*out = d;
	return 0;
}

void bt_qcow_deflater_destroy(struct bt_qcow_deflater *deflater)
{
	if (!deflater)
		return;
	if (deflater->method == BT_QCOW_ZLIB)
		deflateEnd(&deflater->z);
#ifdef HAVE_ZSTD
	ZSTD_freeCCtx(deflater->zstd);
#endif
	free(deflater);
}

/* A stream that fills its buffer to the last byte has saved nothing. */
static int deflate_zlib(z_stream *z, const void *in, size_t in_len, void *out,
			size_t out_len, size_t *done)
{
	if (in_len > UINT_MAX || out_len > UINT_MAX || deflateReset(z) != Z_OK)
		return -EINVAL;
	z->next_in = in;
	z->avail_in = (uInt)in_len;
	z->next_out = out;
	z->avail_out = (uInt)out_len;
	if (deflate(z, Z_FINISH) != Z_STREAM_END || !z->avail_out)
		return -ENOSPC;
	*done = out_len - z->avail_out;
	return 0;
}

/* *done is what the stream takes, less than out_len. */
int bt_qcow_deflate(struct bt_qcow_deflater *deflater, const void *in,
		    size_t in_len, void *out, size_t out_len, size_t *done)
{
#ifdef HAVE_ZSTD
	if (deflater->method == BT_QCOW_ZSTD) {
		size_t rc = ZSTD_compress2(deflater->zstd, out, out_len, in,
					   in_len);

		if (ZSTD_isError(rc) || rc >= out_len)
			return -ENOSPC;
		*done = rc;
		return 0;
	}
#endif
	return deflate_zlib(&deflater->z, in, in_len, out, out_len, done);
}
