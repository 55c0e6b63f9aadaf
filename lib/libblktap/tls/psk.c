/* SPDX-License-Identifier: BSD-3-Clause */
/* The file of keys that both sides know, as psktool(1) writes it: lines of
 * "user:key", the key in hexadecimal. A line that is neither that, nor empty, nor
 * a comment makes the whole file wrong: a key that is not there because of it
 * would be missed later, by somebody else. */
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

#define FILE_MAX (1u << 20)
#define KEY_MIN 16u /* bytes: whoever hears a handshake can try shorter ones */
#define KEY_MAX 512u

/* By a volatile pointer: a store that nobody reads again may be left out
 * otherwise. */
static void wipe(void *memory, size_t length)
{
	volatile unsigned char *p = memory;

	while (length--)
		*p++ = 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool from_hex(const char *text, struct bt_tls_key *key)
{
	size_t i;

	for (i = 0; i < key->size; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key->data[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

/* The message has the number of the line, and nothing of what stands there. */
static int add_line(const char *line, size_t len, struct bt_tls_psk *psk)
{
	const char *colon = memchr(line, ':', len);
	size_t name = colon ? (size_t)(colon - line) : 0;
	size_t digits = colon ? len - name - 1 : 0;
	struct bt_tls_key *keys, *key;

	if (!name || digits % 2 || digits / 2 < KEY_MIN || digits / 2 > KEY_MAX)
		return -EINVAL;
	keys = realloc(psk->keys, (psk->count + 1) * sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	psk->keys = keys;
	key = &keys[psk->count++];
	key->size = digits / 2;
	key->user = strndup(line, name);
	key->data = malloc(key->size);
	if (!key->user || !key->data)
		return -ENOMEM;
	return from_hex(colon + 1, key) ? 0 : -EINVAL;
}

static int parse(const char *who, const char *path, const char *text,
		 struct bt_tls_psk *psk, struct blktap_error **err)
{
	unsigned int number;
	int rc;

	for (number = 1; *text; number++) {
		size_t line = strcspn(text, "\n"), len = line;

		while (len && (text[len - 1] == '\r' || text[len - 1] == ' '))
			len--;
		rc = len && *text != '#' ? add_line(text, len, psk) : 0;
		if (rc == -EINVAL)
			return bt_fail(err, rc,
				       "write \"user:key\", the key as 32 to "
				       "1024 hexadecimal digits",
				       "%s: %s: line %u has no user and key",
				       who, path, number);
		if (rc)
			return bt_fail(err, rc, NULL, "%s: out of memory", who);
		text += line + (text[line] == '\n');
	}
	if (!psk->count)
		return bt_fail(err, -EINVAL, NULL, "%s: %s: has no keys", who,
			       path);
	return 0;
}

static ssize_t read_all(int fd, char *text, size_t size)
{
	size_t have = 0;
	ssize_t n;

	while (have < size) {
		n = read(fd, text + have, size - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

/* O_NONBLOCK: a FIFO that somebody names must not hold us. */
static ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read_all(fd, text, size);
	close(fd);
	return n;
}

int bt_tls_psk_read(const char *who, const char *path, struct bt_tls_psk *psk,
		    struct blktap_error **err)
{
	char *text = malloc(FILE_MAX + 1), reason[BT_STRERROR_MAX];
	ssize_t n;
	int rc;

	if (!text)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", who);
	n = read_file(path, text, FILE_MAX + 1);
	if (n < 0) {
		rc = bt_fail(
			err, (int)n, "look whether it is there and may be read",
			"%s: %s: %s", who, path, bt_strerror((int)n, reason));
	} else if (n > FILE_MAX) {
		rc = bt_fail(err, -EFBIG, NULL, "%s: %s: is over %u bytes", who,
			     path, FILE_MAX);
	} else {
		text[n] = '\0';
		rc = strlen(text) == (size_t)n
			     ? parse(who, path, text, psk, err)
			     : bt_fail(err, -EINVAL, NULL, "%s: %s: is no text",
				       who, path);
	}
	wipe(text, FILE_MAX + 1);
	free(text);
	if (rc)
		bt_tls_psk_fini(psk);
	return rc;
}

const struct bt_tls_key *bt_tls_psk_find(const struct bt_tls_psk *psk,
					 const char *user)
{
	size_t i;

	for (i = 0; i < psk->count; i++)
		if (!strcmp(psk->keys[i].user, user))
			return &psk->keys[i];
	return NULL;
}

void bt_tls_psk_fini(struct bt_tls_psk *psk)
{
	size_t i;

	for (i = 0; i < psk->count; i++) {
		if (psk->keys[i].data)
			wipe(psk->keys[i].data, psk->keys[i].size);
		free(psk->keys[i].data);
		free(psk->keys[i].user);
	}
	free(psk->keys);
	memset(psk, 0, sizeof(*psk));
}

#endif
