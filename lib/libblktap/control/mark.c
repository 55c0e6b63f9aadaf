/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines of key=value, so that a mark that an older or a newer version wrote can be
 * read. It is written in place under the lock of who has the minor: the lines first,
 * then the length, and a line without its end is not believed. */
#include "control/mark.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/strbuf.h"

#define MARK_MAX 4096
/* What stands behind it is of an older, longer mark. */
#define MARK_END "end"

/* Of two lines of one key the last counts. */
static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int take_tls(struct bt_mark *mark, const char *line, const char *value)
{
	if (!strcmp(line, "tls"))
		return set_text(&mark->tls, value);
	if (!strcmp(line, "tls-certificates"))
		return set_text(&mark->tls_certificates, value);
	if (!strcmp(line, "tls-psk"))
		return set_text(&mark->tls_psk, value);
	if (!strcmp(line, "tls-verify-peer"))
		mark->tls_verify_peer = !strcmp(value, "1");
	return 0;
}

/* Line is "key=value" without its newline. A key that is not known is of a
 * newer version and skipped. */
static int take_line(struct bt_mark *mark, char *line)
{
	char *value = strchr(line, '=');

	if (!value)
		return 0;
	*value++ = '\0';
	if (!strcmp(line, "ring"))
		mark->ring = !strcmp(value, "1");
	else if (!strcmp(line, "flags"))
		mark->flags = (uint32_t)strtoul(value, NULL, 0);
	else if (!strcmp(line, "timeout"))
		mark->timeout_s = (uint32_t)strtoul(value, NULL, 0);
	else if (!strcmp(line, "args"))
		return set_text(&mark->spec, value);
	else if (!strcmp(line, "tcp") || !strcmp(line, "tls-tcp"))
		return set_text(&mark->tcp, value);
	else if (!strncmp(line, "tls", 3))
		return take_tls(mark, line, value);
	else if (!strcmp(line, "secondary"))
		return set_text(&mark->secondary, value);
	else if (!strcmp(line, "log"))
		return set_text(&mark->log, value);
	return 0;
}

/* Read in one go: who writes holds the minor's lock, but who reads for a list
 * does not. */
int bt_mark_read(int fd, struct bt_mark *mark)
{
	char text[MARK_MAX + 1], *line, *rest = text;
	ssize_t n = pread(fd, text, MARK_MAX, 0);
	int rc = n < 0 ? -errno : 0;

	memset(mark, 0, sizeof(*mark));
	text[n < 0 ? 0 : n] = '\0';
	/* What has no newline was not written to its end. */
	while (!rc && strchr(rest, '\n')) {
		line = strsep(&rest, "\n");
		if (!strcmp(line, MARK_END))
			break;
		rc = take_line(mark, line);
	}
	if (rc)
		bt_mark_fini(mark);
	return rc;
}

/* One of an older version has the flags alone. */
bool bt_mark_is_whole(const struct bt_mark *mark)
{
	return !(mark->flags & BT_MARK_PARTIAL) &&
	       (mark->log || !(mark->flags & BT_WIRE_ADD_LOG));
}

/* A name with a newline in it cannot stand in a line: it is left away, and who
 * goes on has to be told it. */
static void put_text(struct bt_strbuf *sb, const char *key, const char *value)
{
	if (value && !strchr(value, '\n'))
		bt_strbuf_printf(sb, "%s=%s\n", key, value);
}

/* Under another key with TLS: an older version, which would serve it without,
 * does not serve it there. A file whose name no line can hold is missed by who
 * reads it, and TLS is refused without. */
static void put_tcp(struct bt_strbuf *sb, const struct bt_mark *mark)
{
	if (!mark->tls) {
		put_text(sb, "tcp", mark->tcp);
		return;
	}
	put_text(sb, "tls-tcp", mark->tcp);
	put_text(sb, "tls", mark->tls);
	put_text(sb, "tls-certificates", mark->tls_certificates);
	put_text(sb, "tls-psk", mark->tls_psk);
	if (mark->tls_verify_peer)
		bt_strbuf_puts(sb, "tls-verify-peer=1\n");
}

/* spec is last of the lines, so that one which was not written to its end has
 * no image rather than a part of its name. */
int bt_mark_write(int fd, const struct bt_mark *mark)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int rc = 0;

	if (mark->ring)
		bt_strbuf_puts(&sb, "ring=1\n");
	if (mark->spec)
		bt_strbuf_printf(&sb, "flags=%#x\ntimeout=%u\n",
				 (unsigned int)mark->flags,
				 (unsigned int)mark->timeout_s);
	put_tcp(&sb, mark);
	put_text(&sb, "secondary", mark->secondary);
	put_text(&sb, "log", mark->log);
	put_text(&sb, "args", mark->spec);
	if (sb.len)
		bt_strbuf_puts(&sb, MARK_END "\n");
	if (sb.failed)
		rc = -ENOMEM;
	else if (sb.len > MARK_MAX)
		rc = -ENAMETOOLONG;
	/* The tail goes last: a reader finds the old lines or the new. */
	else if (pwrite(fd, bt_strbuf_str(&sb), sb.len, 0) != (ssize_t)sb.len ||
		 ftruncate(fd, (off_t)sb.len))
		rc = errno ? -errno : -EIO;
	bt_strbuf_fini(&sb);
	return rc;
}

/* All is zero afterwards: a mark without a device, of which nothing is open. */
void bt_mark_fini(struct bt_mark *mark)
{
	free(mark->spec);
	free(mark->tcp);
	free(mark->secondary);
	free(mark->log);
	free(mark->tls);
	free(mark->tls_certificates);
	free(mark->tls_psk);
	memset(mark, 0, sizeof(*mark));
}
