/* SPDX-License-Identifier: BSD-3-Clause */
/* x-chain:FILE, a chain that stands in a text and not in its images:
 *
 *   type:path [ro]        the leaf
 *   type:path [ro]        what it stands on
 *   ...
 *
 * A path is found from the file's own directory. All but the leaf are opened
 * read-only. What the images themselves say of their parents is not looked at, but
 * for one thing: an image that stands alone has nothing below it.
 *
 * x-chain(FILE, key=KEY): the key is the leaf's, and so that of all below it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "image/image.h"
#include "port/args.h"
#include "util/path.h"
#include "util/strbuf.h"

#define NAME "x-chain"
#define TEXT_MAX (4u << 20)

static const struct blktap_param params[] = {
	{ .name = "file",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED,
	  .help = "the text" },
	{ .name = "key",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_SECRET,
	  .help = "as that of the leaf" },
	{ .name = NULL },
};

/* Only for its arguments: no node is one. */
static const struct blktap_class chain_class = { .name = NAME,
						 .params = params };

struct xchain {
	struct bt_env *env;
	const char *path;
	const char *key; /* or NULL */
	uint32_t flags;
	uint32_t line;
	struct bt_node *top, *last;
};

bool bt_xchain_is(const char *spec)
{
	return !strncmp(spec, NAME, strlen(NAME)) &&
	       (spec[strlen(NAME)] == ':' || spec[strlen(NAME)] == '(');
}

/* The line is what whoever wrote the file looks for. */
static int fail_at(const struct xchain *x, int rc, const char *what,
		   struct blktap_error **err)
{
	return bt_fail(err, rc, "a line is type:path, or type:path ro",
		       "%s: line %u: %s", x->path, x->line, what);
}

/* At most TEXT_MAX bytes. O_NONBLOCK, as the name may be that of a FIFO. */
static int read_text(const char *path, char **out, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	char *buf = malloc(TEXT_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : 0;
	size_t have = 0;
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && fd >= 0 && have <= TEXT_MAX &&
	       (n = read(fd, buf + have, TEXT_MAX + 1 - have)) > 0)
		have += (size_t)n;
	if (!rc && n < 0)
		rc = -errno;
	if (!rc && have > TEXT_MAX)
		rc = -EFBIG;
	if (fd >= 0)
		close(fd);
	if (rc < 0) {
		free(buf);
		return bt_fail(err, rc, NULL, "%s: %s", path,
			       bt_strerror(rc, text));
	}
	buf[have] = '\0';
	*out = buf;
	return 0;
}

/* The type is kept, the path is found from the file. Images below the leaf have
 * its key from it. */
static char *make_spec(const struct xchain *x, const char *image)
{
	const char *colon = strchr(image, ':');
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *path = NULL;

	if (!colon || bt_path_resolve(x->path, colon + 1, &path) < 0)
		return NULL;
	bt_strbuf_add(&sb, image, (size_t)(colon - image));
	if (x->key && !x->last) {
		bt_strbuf_putc(&sb, '(');
		bt_strbuf_quote(&sb, path, strlen(path));
		bt_strbuf_puts(&sb, ", key=");
		bt_strbuf_quote(&sb, x->key, strlen(x->key));
		bt_strbuf_putc(&sb, ')');
	} else {
		bt_strbuf_printf(&sb, ":%s", path);
	}
	free(path);
	return bt_strbuf_steal(&sb);
}

/* Whether something may lie below the image. A parent that is missing where the
 * image says is no fault here. Where the parent is, the text says. */
static bool stands_alone(struct bt_node *node)
{
	char *spec = NULL;
	bool alone = !node->port_count || !node->cls->get_parent ||
		     (!node->cls->get_parent(node, &spec, NULL) && !spec);

	free(spec);
	return alone;
}

/* Images are linked as they come, so what was opened goes with top where a
 * later one fails. */
static int add_image(struct xchain *x, const char *image, bool ro,
		     struct blktap_error **err)
{
	uint32_t flags = x->flags;
	struct bt_node *node;
	char *spec;
	int rc;

	if (x->last && stands_alone(x->last))
		return fail_at(x, -EINVAL,
			       "the image above it does not stand on another",
			       err);
	if (bt_xchain_is(image))
		return fail_at(x, -EINVAL, "chains do not hold chains", err);
	spec = make_spec(x, image);
	if (!spec)
		return fail_at(x, -EINVAL, "is not type:path", err);
	if (x->last || ro)
		flags |= BLKTAP_OPEN_READ_ONLY;
	rc = bt_image_open_like(x->env, spec, flags, x->last, &node, err);
	free(spec);
	if (rc < 0) {
		bt_error_prefix(err, "%s: line %u", x->path, x->line);
		return rc;
	}
	if (x->last)
		bt_port_link(&x->last->ports[0], node);
	else
		x->top = node;
	x->last = node;
	return 0;
}

/* "ro" counts only as a word of its own at the end; everything before it is the
 * spec, blanks and all. */
static int add_line(struct xchain *x, char *line, struct blktap_error **err)
{
	size_t n = strlen(line);
	bool ro = false;

	while (n && strchr(" \t\r", line[n - 1]))
		line[--n] = '\0';
	line += strspn(line, " \t");
	n = strlen(line);
	if (!n || *line == '#')
		return 0;
	if (n > 3 && strchr(" \t", line[n - 3]) &&
	    !strcmp(line + n - 2, "ro")) {
		ro = true;
		n -= 3;
		while (n && strchr(" \t", line[n - 1]))
			n--;
		line[n] = '\0';
	}
	return add_image(x, line, ro, err);
}

/* Limits and frames from the bottom up. The nodes have no edge upward, so they
 * are put in an array first. */
static int plan(const struct xchain *x, struct blktap_error **err)
{
	struct bt_node **nodes, *node;
	uint32_t n = 0, i;
	int rc = 0;

	for (node = x->top; node; node = node->ports[0].lower) {
		n++;
		if (!node->port_count)
			break;
	}
	nodes = calloc(n, sizeof(*nodes));
	if (!nodes)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	for (node = x->top, i = 0; i < n; i++, node = node->ports[0].lower)
		nodes[i] = node;
	while (i-- > 0 && !rc)
		rc = bt_node_plan(nodes[i], err);
	free(nodes);
	return rc;
}

/* The text is cut at its line ends in place. */
static int open_all(struct xchain *x, struct blktap_error **err)
{
	char *text = NULL, *at, *end;
	int rc = read_text(x->path, &text, err);

	if (rc < 0)
		return rc;
	for (at = text; !rc && at; at = end) {
		x->line++;
		end = strchr(at, '\n');
		if (end)
			*end++ = '\0';
		rc = add_line(x, at, err);
	}
	free(text);
	if (!rc && !x->top)
		rc = bt_fail(err, -EINVAL, "write type:path on a line of it",
			     "%s: names no image", x->path);
	return rc ? rc : plan(x, err);
}

int bt_xchain_open(struct bt_env *env, const char *spec, uint32_t flags,
		   struct bt_node **out, struct blktap_error **err)
{
	struct xchain x = { .env = env, .flags = flags };
	struct bt_args *args;
	int rc = bt_spec_parse_as(&chain_class, spec, &args, err);

	if (rc < 0)
		return rc;
	x.path = bt_args_string(args, "file");
	x.key = bt_args_string(args, "key");
	rc = open_all(&x, err);
	bt_args_destroy(args);
	if (rc < 0) {
		bt_node_destroy(x.top);
		return rc;
	}
	*out = x.top;
	return 0;
}
