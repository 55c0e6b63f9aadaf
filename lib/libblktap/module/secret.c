/* SPDX-License-Identifier: BSD-3-Clause */
/* The text of a key is in one buffer on the stack, which is wiped on every way out,
 * and in the cipher's own memory. It is never part of an argument, a message, a
 * statistic or a dump: those have the reference. */
#include "module/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "util/bytes.h"

#define TEXT_MAX 512u

/* By a volatile pointer: a store that nobody reads again may be left out
 * otherwise. */
void bt_secret_wipe(void *memory, size_t length)
{
	volatile unsigned char *p = memory;

	while (length--)
		*p++ = 0;
}

static int fail(struct blktap_error **err, const char *who, const char *ref,
		int error)
{
	char reason[BT_STRERROR_MAX];

	return bt_fail(err, error, "look whether it is there and may be read",
		       "%s: key %s: %s", who, ref, bt_strerror(error, reason));
}

/* Digits and nothing else: what is no number must not be taken for standard
 * input. As mason/args.c has it. */
static bool is_number(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && digits < 8 && !text[digits];
}

/* A descriptor of the caller's, to be closed where *opened is set. O_NOCTTY: a
 * terminal that somebody names must not become ours. The path is on the stack,
 * but is no secret. */
static int open_ref(const char *ref, bool *opened)
{
	char path[TEXT_MAX];
	const char *name = strchr(ref, ':') + 1;
	int fd, n;

	if (!strncmp(ref, "fd:", 3))
		return atoi(name);
	if (!strncmp(ref, "secret:", 7)) {
		/* a name, not a way out of the directory */
		if (!*name || *name == '.' || strchr(name, '/'))
			return -EINVAL;
		n = snprintf(path, sizeof(path), "%s/%s", BLKTAP_SECRETDIR,
			     name);
	} else {
		n = snprintf(path, sizeof(path), "%s", name);
	}
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*opened = true;
	return fd;
}

/* Up to size bytes from the start, or from where a pipe stands. pread, so that
 * a descriptor which was given (fd:N) serves another opening; a pipe is read
 * where it stands. More than `size` bytes are no key, so the rest need not be
 * seen. */
static ssize_t read_all(int fd, char *text, size_t size)
{
	size_t have = 0;
	ssize_t n = 1;

	while (n > 0 && have < size) {
		n = pread(fd, text + have, size - have, (off_t)have);
		if (n < 0 && errno == ESPIPE)
			n = read(fd, text + have, size - have);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			return -errno;
		else
			have += (size_t)n;
	}
	return (ssize_t)have;
}

static bool from_hex(const char *text, unsigned char *key, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		int high = bt_hex_digit(text[2 * i]);
		int low = bt_hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static bool is_line_end(const char *text, size_t length)
{
	return !length || (length == 1 && *text == '\n') ||
	       (length == 2 && !memcmp(text, "\r\n", 2));
}

/* Bytes first: a key of exactly so many bytes is one, even if they look like
 * digits. */
static int decode(const char *who, const char *ref, const char *text,
		  size_t have, void *key, size_t length,
		  struct blktap_error **err)
{
	if (have == length) {
		memcpy(key, text, length);
		return 0;
	}
	if (have >= 2 * length &&
	    is_line_end(text + 2 * length, have - 2 * length) &&
	    from_hex(text, key, length))
		return 0;
	return bt_fail(err, -EINVAL, NULL,
		       "%s: key %s is not %zu bytes or %zu hexadecimal digits",
		       who, ref, length, 2 * length);
}

/* What is none of the three may be the key itself, typed there by mistake, or
 * behind "fd:"; so the messages do not repeat it. */
int bt_secret_read(const char *who, const char *ref, void *key, size_t length,
		   struct blktap_error **err)
{
	char text[TEXT_MAX];
	bool opened = false;
	struct stat st;
	ssize_t have;
	int fd, rc;

	if (strncmp(ref, "fd:", 3) && strncmp(ref, "secret:", 7) &&
	    strncmp(ref, "file:/", 6))
		return bt_fail(err, -EINVAL,
			       "refer to it: secret:NAME, fd:N or file:/PATH",
			       "%s: key holds the secret itself", who);
	if (!strncmp(ref, "fd:", 3) && !is_number(ref + 3))
		return bt_fail(err, -EINVAL, "give a number: fd:5",
			       "%s: key fd: is not followed by the number of a "
			       "descriptor",
			       who);
	fd = open_ref(ref, &opened);
	if (fd < 0)
		return fail(err, who, ref, fd);
	/* mode of the file that is open, not of what the name is by then */
	if (!strncmp(ref, "secret:", 7) &&
	    (fstat(fd, &st) < 0 || st.st_mode & (S_IRWXG | S_IRWXO))) {
		close(fd);
		return bt_fail(err, -EACCES,
			       "chmod 600 its file in " BLKTAP_SECRETDIR,
			       "%s: key %s may be read by others", who, ref);
	}
	have = read_all(fd, text, sizeof(text));
	rc = have < 0 ? fail(err, who, ref, (int)have)
		      : decode(who, ref, text, (size_t)have, key, length, err);
	bt_secret_wipe(text, sizeof(text));
	if (opened)
		close(fd);
	return rc;
}
