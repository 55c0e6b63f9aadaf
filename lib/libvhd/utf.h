/* SPDX-License-Identifier: BSD-3-Clause */
/* UTF-8 <-> UTF-16, strict: overlong forms, surrogates alone and values past
 * U+10FFFF are -EILSEQ, so that two texts never name one file. No iconv: it
 * depends on the locale and on files of the system. */
#ifndef BT_VHD_UTF_H
#define BT_VHD_UTF_H

#include <stddef.h>
#include <stdint.h>

enum bt_vhd_utf16 {
	BT_VHD_UTF16LE,
	BT_VHD_UTF16BE,
};

/* -ENAMETOOLONG: out was too small; *got then says how many bytes of whole
 * characters are in it. Nothing is terminated. */
int bt_vhd_utf16_encode(const char *text, size_t len, enum bt_vhd_utf16 order,
			void *out, size_t cap, size_t *got);
int bt_vhd_utf16_decode(const void *units, size_t len, enum bt_vhd_utf16 order,
			char *out, size_t cap, size_t *got);

#endif
