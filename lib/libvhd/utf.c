/* SPDX-License-Identifier: BSD-3-Clause */
/* Characters are taken one at a time, each checked whole before it counts. No
 * table, no locale. */
#include <errno.h>

#include "libvhd/utf.h"
#include "util/bytes.h"

#define BAD UINT32_MAX

/* The header's name is big-endian, the locators' texts are little-endian. */
static uint16_t load_unit(const uint8_t *p, enum bt_vhd_utf16 order)
{
	return order == BT_VHD_UTF16BE ? bt_load_be16(p) : bt_load_le16(p);
}

static void store_unit(uint8_t *p, uint16_t unit, enum bt_vhd_utf16 order)
{
	if (order == BT_VHD_UTF16BE)
		bt_store_be16(p, unit);
	else
		bt_store_le16(p, unit);
}

/* The bytes of a character by its first one; 0 where none starts so. 0xc0 and
 * 0xc1 could only begin overlong forms, and what is above 0xf4 lies past
 * U+10FFFF. */
static size_t utf8_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2)
		return 0;
	if (first < 0xe0)
		return 2;
	if (first < 0xf0)
		return 3;
	return first < 0xf5 ? 4 : 0;
}

/* BAD for an overlong form, a surrogate, or a character that is cut off. */
static uint32_t utf8_get(const uint8_t *p, size_t left, size_t *used)
{
	static const uint32_t lowest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = utf8_length(p[0]), i;
	uint32_t c = p[0];

	if (n == 0 || n > left)
		return BAD;
	if (n > 1)
		c &= 0x7fu >> n;
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return BAD;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < lowest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return BAD;
	*used = n;
	return c;
}

/* c is a character of Unicode, which utf16_get saw to: a surrogate would make
 * bytes that no reader of UTF-8 takes. */
static size_t utf8_put(uint32_t c, uint8_t out[4])
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xc0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xe0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}

/* A high surrogate counts only with a low one behind it. */
static uint32_t utf16_get(const uint8_t *p, size_t left,
			  enum bt_vhd_utf16 order, size_t *used)
{
	uint32_t high, low;

	if (left < 2)
		return BAD;
	high = load_unit(p, order);
	*used = 2;
	if (high < 0xd800 || high > 0xdfff)
		return high;
	if (high > 0xdbff || left < 4)
		return BAD;
	low = load_unit(p + 2, order);
	if (low < 0xdc00 || low > 0xdfff)
		return BAD;
	*used = 4;
	return 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
}

/* c is a character, not a surrogate: utf8_get saw to that. */
static size_t utf16_put(uint32_t c, uint8_t out[4], enum bt_vhd_utf16 order)
{
	if (c < 0x10000) {
		store_unit(out, (uint16_t)c, order);
		return 2;
	}
	c -= 0x10000;
	store_unit(out, (uint16_t)(0xd800 | c >> 10), order);
	store_unit(out + 2, (uint16_t)(0xdc00 | (c & 0x3ff)), order);
	return 4;
}

/* n > cap - *got: the difference does not wrap, as *got never passes cap. */
int bt_vhd_utf16_encode(const char *text, size_t len, enum bt_vhd_utf16 order,
			void *out, size_t cap, size_t *got)
{
	const uint8_t *p = (const uint8_t *)text;
	uint8_t unit[4];
	size_t used, n;
	uint32_t c;

	*got = 0;
	while (len) {
		c = utf8_get(p, len, &used);
		if (c == BAD)
			return -EILSEQ;
		n = utf16_put(c, unit, order);
		if (n > cap - *got)
			return -ENAMETOOLONG;
		memcpy((uint8_t *)out + *got, unit, n);
		*got += n;
		p += used;
		len -= used;
	}
	return 0;
}

/* No zero ends it: a name that holds a NUL is for the caller to refuse. */
int bt_vhd_utf16_decode(const void *units, size_t len, enum bt_vhd_utf16 order,
			char *out, size_t cap, size_t *got)
{
	const uint8_t *p = units;
	uint8_t text[4];
	size_t used, n;
	uint32_t c;

	*got = 0;
	while (len) {
		c = utf16_get(p, len, order, &used);
		if (c == BAD)
			return -EILSEQ;
		n = utf8_put(c, text);
		if (n > cap - *got)
			return -ENAMETOOLONG;
		memcpy(out + *got, text, n);
		*got += n;
		p += used;
		len -= used;
	}
	return 0;
}
