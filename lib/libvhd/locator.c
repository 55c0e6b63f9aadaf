/* SPDX-License-Identifier: BSD-3-Clause */
/* Texts of locators. MACX is a URL of a file, in UTF-8 with %XX; W2RU and W2KU
 * are Windows paths in UTF-16, little-endian, with '\'. None ends in a zero
 * that its length counts, but some makers' do.
 *
 * A path that leaves here is what POSIX has, without control characters, and of
 * no more than BT_VHD_PATH_MAX bytes; what file it leads to is for others. */
#include <errno.h>
#include <string.h>

#include "libvhd/locator.h"
#include "libvhd/utf.h"
#include "util/bytes.h"

static const char url_prefix[] = "file://";
static const char url_localhost[] = "localhost/";

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A drive letter, or the two slashes of a server's name: no path of this
 * system. */
enum bt_vhd_path_kind bt_vhd_path_kind(const char *path)
{
	if (is_letter(path[0]) && path[1] == ':' && path[2] == '/')
		return BT_VHD_PATH_WINDOWS;
	if (path[0] != '/')
		return BT_VHD_PATH_RELATIVE;
	return path[1] == '/' ? BT_VHD_PATH_WINDOWS : BT_VHD_PATH_ABSOLUTE;
}

/* A path with a line's end would be two lines to whoever reads a tool's
 * output. */
static int check_path(const char *path, size_t len, struct bt_fault *fault)
{
	size_t i;

	if (len == 0)
		return bt_fault_set(fault, -EINVAL, "parent path", 0,
				    "the path is empty", NULL);
	for (i = 0; i < len; i++)
		if (is_control((unsigned char)path[i]))
			return bt_fault_set(fault, -EINVAL, "parent path",
					    (unsigned char)path[i],
					    "it has a control character",
					    "rename the parent");
	return 0;
}

static int too_long(size_t len, struct bt_fault *fault)
{
	return bt_fault_set(fault, -ENAMETOOLONG, "parent path", len,
			    "too long for its place in the file",
			    "use a shorter path to the parent");
}

/* What a URL may hold as it is. ':' is not in the list: as the second byte it
 * would read as a drive. */
static bool is_plain_in_url(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9') ||
	       (c && strchr("/-._~+,=@", c));
}

/* Bytes that are not plain are escaped one by one, so a name that is no UTF-8
 * survives. */
static int encode_url(const char *path, char *out, size_t cap, size_t *len,
		      struct bt_fault *fault)
{
	static const char digit[] = "0123456789ABCDEF";
	size_t n = strlen(url_prefix);
	unsigned char c;

	if (cap < n)
		return too_long(strlen(path), fault);
	memcpy(out, url_prefix, n);
	for (; *path; path++) {
		c = (unsigned char)*path;
		if (cap - n < (is_plain_in_url(*path) ? 1u : 3u))
			return too_long(n, fault);
		if (is_plain_in_url(*path)) {
			out[n++] = *path;
			continue;
		}
		out[n++] = '%';
		out[n++] = digit[c >> 4];
		out[n++] = digit[c & 15];
	}
	*len = n;
	return 0;
}

/* text is overwritten. It is a copy (normalise), so turning its slashes round
 * harms nobody. */
static int encode_windows(char *text, void *out, size_t cap, size_t *len,
			  struct bt_fault *fault)
{
	char *p;
	int err;

	for (p = text; *p; p++)
		if (*p == '/')
			*p = '\\';
	err = bt_vhd_utf16_encode(text, strlen(text), BT_VHD_UTF16LE, out, cap,
				  len);
	if (err == -EILSEQ)
		return bt_fault_set(fault, err, "parent path", 0,
				    "the name is not UTF-8",
				    "rename the parent");
	return err ? too_long(strlen(text), fault) : 0;
}

/* A relative path gets a leading "./": Windows wants it, and without it the
 * first part would be the host of a URL. */
static int normalise(const char *path, char out[BT_VHD_PATH_MAX],
		     struct bt_fault *fault)
{
	size_t len = strlen(path);
	size_t dot = 0;

	if (bt_vhd_path_kind(path) == BT_VHD_PATH_RELATIVE && len &&
	    strncmp(path, "./", 2))
		dot = 2;
	if (len + dot >= BT_VHD_PATH_MAX)
		return bt_fault_set(fault, -ENAMETOOLONG, "parent path",
				    len + dot,
				    "the path is longer than 4095 bytes",
				    "use a shorter path to the parent");
	memcpy(out, "./", dot);
	memcpy(out + dot, path, len + 1);
	return check_path(out, len + dot, fault);
}

/* *len is bytes, without a zero at the end. */
int bt_vhd_locator_encode(uint32_t code, const char *path, void *buf,
			  size_t cap, size_t *len, struct bt_fault *fault)
{
	char text[BT_VHD_PATH_MAX];
	int err = normalise(path, text, fault);

	if (err)
		return err;
	switch (code) {
	case BT_VHD_LOC_MACX:
		return encode_url(text, buf, cap, len, fault);
	case BT_VHD_LOC_W2KU:
	case BT_VHD_LOC_W2RU:
		return encode_windows(text, buf, cap, len, fault);
	}
	return bt_fault_set(fault, -ENOTSUP, "platform_code", code,
			    "no such parent locator is known", NULL);
}

/* The byte that %XX stands for; -1 where text[at] starts no such thing. The
 * older blktap wrote names as they are, so a lone '%' is a '%'. */
static int escaped_byte(const char *text, size_t len, size_t at)
{
	int high, low;

	if (text[at] != '%' || len - at < 3)
		return -1;
	high = bt_hex_digit(text[at + 1]);
	low = bt_hex_digit(text[at + 2]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* "file:///x" is the form of ours; "file://./x" that of a relative one, whose
 * host would be ".". */
static int decode_url(const char *text, size_t len, char *path, size_t cap,
		      size_t *got, struct bt_fault *fault)
{
	size_t at = strlen(url_prefix), n = 0;
	int byte;

	if (len < at || memcmp(text, url_prefix, at))
		return bt_fault_set(fault, -EINVAL, "parent locator", len,
				    "its text is not a file URL",
				    "set its parent: vhd-util modify -p");
	/* file://localhost/x is /x: the host goes, its slash stays. */
	if (len - at >= sizeof(url_localhost) - 1 &&
	    !memcmp(text + at, url_localhost, sizeof(url_localhost) - 1))
		at += sizeof(url_localhost) - 2;
	while (at < len) {
		if (n == cap)
			return too_long(len, fault);
		byte = escaped_byte(text, len, at);
		path[n++] = byte < 0 ? text[at] : (char)byte;
		at += byte < 0 ? 1 : 3;
	}
	*got = n;
	return 0;
}

/* cap bounds the bytes of UTF-8, of which a unit may give three. */
static int decode_windows(const uint8_t *text, size_t len, char *path,
			  size_t cap, size_t *got, struct bt_fault *fault)
{
	size_t i;
	int err;

	err = bt_vhd_utf16_decode(text, len, BT_VHD_UTF16LE, path, cap, got);
	if (err == -ENAMETOOLONG)
		return too_long(len, fault);
	if (err)
		return bt_fault_set(fault, err, "parent locator", len,
				    "its text is not UTF-16",
				    "set its parent: vhd-util modify -p");
	for (i = 0; i < *got; i++)
		if (path[i] == '\\')
			path[i] = '/';
	return 0;
}

/* unit is the bytes of a character: in UTF-16 only whole zero units go. */
static size_t without_zeroes(const uint8_t *text, size_t len, size_t unit)
{
	while (len >= unit && !text[len - 1] && !text[len - unit])
		len -= unit;
	return len;
}

/* path is an empty string where this fails. */
int bt_vhd_locator_decode(uint32_t code, const void *buf, size_t len,
			  char *path, size_t cap, struct bt_fault *fault)
{
	size_t got = 0;
	int err;

	if (cap == 0)
		return too_long(len, fault);
	switch (code) {
	case BT_VHD_LOC_MACX:
		len = without_zeroes(buf, len, 1);
		err = decode_url(buf, len, path, cap - 1, &got, fault);
		break;
	case BT_VHD_LOC_W2KU:
	case BT_VHD_LOC_W2RU:
		len = without_zeroes(buf, len, 2);
		err = decode_windows(buf, len, path, cap - 1, &got, fault);
		break;
	default:
		return bt_fault_set(fault, -ENOTSUP, "platform_code", code,
				    "no such parent locator is known", NULL);
	}
	if (!err)
		err = check_path(path, got, fault);
	path[err ? 0 : got] = '\0';
	return err;
}
