/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters. The working memory is allocated once, with the object;
 * a cluster costs no allocation. One object serves one caller at a time. */
#ifndef BT_LIBQCOW_COMPRESS_H
#define BT_LIBQCOW_COMPRESS_H

#include <stddef.h>

#include "libqcow/header.h"

struct bt_qcow_inflater;

/* -ENOTSUP where this build has not got the method. */
int bt_qcow_inflater_create(enum bt_qcow_compression method,
			    struct bt_qcow_inflater **out);
void bt_qcow_inflater_destroy(struct bt_qcow_inflater *inflater);

/* Fills all out_len bytes of out from the stream that begins at in and ends
 * anywhere in it. -EIO where the stream is damaged or shorter than out; it
 * never writes past out_len, however long the stream. */
int bt_qcow_inflate(struct bt_qcow_inflater *inflater, const void *in,
		    size_t in_len, void *out, size_t out_len);

struct bt_qcow_deflater;

/* -ENOMEM, or -ENOTSUP for a method that was not built in. */
int bt_qcow_deflater_create(enum bt_qcow_compression method,
			    struct bt_qcow_deflater **out);
/* NULL is fine. */
void bt_qcow_deflater_destroy(struct bt_qcow_deflater *deflater);

/* Compresses in into out. -ENOSPC where it would take out_len or more: then
 * the cluster is stored as it is. */
int bt_qcow_deflate(struct bt_qcow_deflater *deflater, const void *in,
		    size_t in_len, void *out, size_t out_len, size_t *done);

#endif
