/* SPDX-License-Identifier: BSD-3-Clause */
/* The URIs of NBD exports, as the document of the NBD project has them:
 *
 *   nbd://[user@]host[:port][/export]
 *   nbd+unix://[user@]/[export]?socket=/path
 *
 * and nbds:// and nbds+unix:// for TLS, with the parameters that libnbd has for
 * it: tls-certificates, tls-psk-file, tls-username, tls-hostname, tls-verify-peer.
 * "//host/..." is taken as the first, so that it may be written as a spec of its
 * own: nbd://host/export. Query parameters not known here are ignored, as that
 * document asks. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/bytes.h"
#include "util/checked.h"

#define DEFAULT_PORT "10809"
#define SOCKET_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)
#define EXAMPLE                                  \
	"write it as nbd://host:port/export or " \
	"nbd+unix:///export?socket=/path"

/* A new string with %XX decoded; NULL where that makes no sense. %00 does not:
 * no name here may hold it. */
static char *decode(const char *from, size_t len)
{
	char *out = malloc(len + 1);
	size_t i, n = 0;

	if (!out)
		return NULL;
	for (i = 0; i < len; i++) {
		int high, low;

		out[n] = from[i];
		if (from[i] == '%') {
			high = i + 2 < len ? bt_hex_digit(from[i + 1]) : -1;
			low = high < 0 ? -1 : bt_hex_digit(from[i + 2]);
			if (low < 0 || !(high | low)) {
				free(out);
				return NULL;
			}
			out[n] = (char)(high << 4 | low);
			i += 2;
		}
		n++;
	}
	out[n] = '\0';
	return out;
}

/* The whole text is told, and what it should be like. */
static int bad(const char *text, struct blktap_error **err, const char *why)
{
	return bt_fail(err, -EINVAL, EXAMPLE, "nbd: '%s': %s", text, why);
}

/* A second value of a parameter is refused: nobody knows which one was meant. */
static int set_once(const char *text, const char *what, const char *value,
		    size_t len, char **to, struct blktap_error **err)
{
	char *old = *to;

	*to = decode(value, len);
	if (*to && !old)
		return 0;
	bt_fail(err, -EINVAL, EXAMPLE,
		*to ? "nbd: '%s': two %ss"
		    : "nbd: '%s': the %s has a wrong %%-escape",
		text, what);
	free(old);
	return -EINVAL;
}

/* What is not known of TLS is not passed over: it may ask for more safety than
 * there would be. */
static int parse_tls(const char *text, const char *item, size_t len,
		     struct bt_nbdc_uri *uri, struct blktap_error **err)
{
	const struct {
		const char *name;
		char **to;
	} known[] = {
		{ "tls-certificates", &uri->certificates },
		{ "tls-psk-file", &uri->psk },
		{ "tls-username", &uri->user },
		{ "tls-hostname", &uri->hostname },
		{ "tls-verify-peer", &uri->verify },
	};
	size_t name = strcspn(item, "=&"), i;

	if (!uri->is_tls)
		return bad(text, err, "its TLS needs nbds in place of nbd");
	for (i = 0; i < BT_ARRAY_SIZE(known) && name + 1 < len; i++)
		if (name == strlen(known[i].name) &&
		    !memcmp(item, known[i].name, name))
			return set_once(text, known[i].name, item + name + 1,
					len - name - 1, known[i].to, err);
	return bt_fail(err, -EINVAL,
		       "there are tls-certificates, tls-psk-file, "
		       "tls-username, tls-hostname and "
		       "tls-verify-peer",
		       "nbd: '%s': '%.*s' is not known", text, (int)len, item);
}

/* ?name=value&name=value: socket and what begins with tls- is looked for. */
static int parse_query(const char *text, const char *query, bool is_unix,
		       struct bt_nbdc_uri *uri, struct blktap_error **err)
{
	int rc = 0;

	while (*query && !rc) {
		size_t len = strcspn(query, "&");

		if (is_unix && !strncmp(query, "socket=", 7) && len > 7)
			rc = set_once(text, "socket", query + 7, len - 7,
				      &uri->socket, err);
		else if (!strncmp(query, "tls-", 4))
			rc = parse_tls(text, query, len, uri, err);
		query += len + (query[len] == '&');
	}
	return rc;
}

/* user@: for TLS alone. What is left is the host and its port. */
static int parse_user(const char *text, const char **at, size_t *len,
		      struct bt_nbdc_uri *uri, struct blktap_error **err)
{
	const char *end = memchr(*at, '@', *len);
	const char *from = *at;

	if (!end)
		return 0;
	*at = end + 1;
	*len -= (size_t)(end + 1 - from);
	if (!uri->is_tls || end == from)
		return 0;
	return set_once(text, "user", from, (size_t)(end - from), &uri->user,
			err);
}

/* host[:port], [IPv6][:port] An address in brackets may hold colons. */
static int parse_authority(const char *text, const char *at, size_t len,
			   struct bt_nbdc_uri *uri, struct blktap_error **err)
{
	const char *end;
	size_t host_len;

	if (len && *at == '[') {
		end = memchr(at, ']', len);
		if (!end)
			return bad(text, err, "']' is missing");
		uri->host = decode(at + 1, (size_t)(end - at - 1));
		host_len = (size_t)(end + 1 - at);
	} else {
		end = memchr(at, ':', len);
		host_len = end ? (size_t)(end - at) : len;
		uri->host = decode(at, host_len);
	}
	if (!uri->host)
		return bad(text, err, "the host has a wrong %-escape");
	at += host_len;
	len -= host_len;
	if (len && *at != ':')
		return bad(text, err, "':' is missing before the port");
	uri->port = len > 1 ? strndup(at + 1, len - 1) : strdup(DEFAULT_PORT);
	if (!uri->port)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (strspn(uri->port, "0123456789") != strlen(uri->port) ||
	    strlen(uri->port) > 5 || atoi(uri->port) > 65535)
		return bad(text, err, "the port is not a number up to 65535");
	return 0;
}

/* The longest that fits is the only one that does: none is another's beginning.
 */
static int find_scheme(const char *text, const char **rest, bool *is_unix,
		       bool *is_tls, struct blktap_error **err)
{
	static const struct {
		const char *scheme;
		bool is_unix;
		bool is_tls;
	} schemes[] = {
		{ "nbd://", false, false }, { "nbd+unix://", true, false },
		{ "nbds://", false, true }, { "nbds+unix://", true, true },
		{ "//", false, false },
	};
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i].scheme);

		if (strncmp(text, schemes[i].scheme, len))
			continue;
		*rest = text + len;
		*is_unix = schemes[i].is_unix;
		*is_tls = schemes[i].is_tls;
		return 0;
	}
	return bad(text, err, "is not the URI of an NBD export");
}

/* A path that is too long would be cut by the system, and lead elsewhere. */
static int check_unix(const char *text, const struct bt_nbdc_uri *uri,
		      struct blktap_error **err)
{
	if (!uri->socket)
		return bad(text, err, "?socket=PATH is missing");
	if (strlen(uri->socket) > SOCKET_MAX)
		return bt_fail(err, -ENAMETOOLONG, "use a shorter path",
			       "nbd: '%s': the socket's path is longer than "
			       "%zu bytes",
			       text, SOCKET_MAX);
	return 0;
}

/* What has been read is in uri also where this fails: the caller frees it. */
static int parse(const char *text, struct bt_nbdc_uri *uri,
		 struct blktap_error **err)
{
	const char *at = text, *path, *query;
	bool is_unix = false;
	size_t len;
	int rc = find_scheme(text, &at, &is_unix, &uri->is_tls, err);

	if (rc < 0)
		return rc;
	len = strcspn(at, "/?");
	path = at + len;
	query = path + strcspn(path, "?");
	rc = parse_user(text, &at, &len, uri, err);
	if (rc < 0)
		return rc;
	if (is_unix && len)
		return bad(text, err, "a unix socket has no host");
	if (!is_unix)
		rc = parse_authority(text, at, len, uri, err);
	if (*path == '/')
		path++;
	uri->export = decode(path, (size_t)(query - path));
	if (!rc && !uri->export)
		rc = bad(text, err, "the export has a wrong %-escape");
	if (!rc && *query)
		rc = parse_query(text, query + 1, is_unix, uri, err);
	if (!rc && uri->verify && strcmp(uri->verify, "true") &&
	    strcmp(uri->verify, "false"))
		rc = bad(text, err, "tls-verify-peer is true or false");
	if (!rc && is_unix)
		rc = check_unix(text, uri, err);
	if (!rc && strlen(uri->export) > NBD_STRING_MAX)
		rc = bad(text, err, "the export's name is too long");
	if (rc < 0)
		return rc;
	if (asprintf(&uri->text, "%s%s", *text == '/' ? "nbd:" : "", text) >= 0)
		return 0;
	uri->text = NULL;
	return bt_fail(err, -ENOMEM, NULL, "out of memory");
}

/* On failure *uri holds nothing. */
int bt_nbdc_uri_parse(const char *text, struct bt_nbdc_uri *uri,
		      struct blktap_error **err)
{
	int rc;

	memset(uri, 0, sizeof(*uri));
	rc = parse(text, uri, err);
	if (rc < 0)
		bt_nbdc_uri_fini(uri);
	return rc;
}

/* Zeroed, so that it may be done twice. */
void bt_nbdc_uri_fini(struct bt_nbdc_uri *uri)
{
	free(uri->text);
	free(uri->export);
	free(uri->socket);
	free(uri->host);
	free(uri->port);
	free(uri->certificates);
	free(uri->psk);
	free(uri->user);
	free(uri->hostname);
	free(uri->verify);
	memset(uri, 0, sizeof(*uri));
}
