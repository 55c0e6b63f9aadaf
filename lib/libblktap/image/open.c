/* SPDX-License-Identifier: BSD-3-Clause */
/* An image and what it stands on.
 *
 * The child is opened first and says what its parent is; that is opened in turn,
 * until one stands alone. Then limits and frames are planned from the bottom up.
 * Chains are walked, not recursed into, so their depth is bounded by descriptors
 * alone. */
#include "image/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/strbuf.h"

/* A file that is in the chain already, to find a loop by. */
struct link {
	struct bt_node *node;
	dev_t dev;
	ino_t ino;
	bool is_file;
};

struct chain {
	struct link *links;
	uint32_t count;
	uint32_t room;
};

/* Where the class has such an argument, and nobody gave it. */
static int inherit(struct bt_args *args, const struct blktap_class *cls,
		   const char *name, const char *value)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; value && (p = blktap_class_get_param(cls, i)); i++)
		if (!strcmp(p->name, name) && !bt_args_is_set(args, name))
			return bt_args_set_at(args, i, value, NULL);
	return 0;
}

/* The key that was given for an image is that of those below it as well, as the
 * tools that make encrypted chains have it. So is the format of what stands below
 * images that record none. */
static const char *const inherited[] = { "key", "backing_format" };

static int inherit_all(const struct bt_node *child, struct bt_args *args,
		       const struct blktap_class *cls)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; child && i < BT_ARRAY_SIZE(inherited) && !rc; i++)
		rc = inherit(args, cls, inherited[i],
			     bt_args_string(child->args, inherited[i]));
	return rc;
}

char *bt_image_spec_of(const struct bt_node *node)
{
	struct bt_strbuf spec = BT_STRBUF_INIT;
	const char *path = bt_node_path(node), *value;
	uint32_t i, given = 0;

	bt_strbuf_printf(&spec, "%s(", node->cls->name);
	bt_strbuf_quote(&spec, path, strlen(path));
	for (i = 0; i < BT_ARRAY_SIZE(inherited); i++) {
		value = bt_args_string(node->args, inherited[i]);
		if (!value || !bt_args_is_set(node->args, inherited[i]))
			continue;
		given++;
		bt_strbuf_printf(&spec, ", %s=", inherited[i]);
		bt_strbuf_quote(&spec, value, strlen(value));
	}
	bt_strbuf_putc(&spec, ')');
	if (given)
		return bt_strbuf_steal(&spec);
	bt_strbuf_fini(&spec);
	return strdup(node->name);
}

/* A module is no image: it stands on nodes that a spec cannot name. child is
 * what stands on it, or NULL. */
static int open_one(struct bt_env *env, const char *spec, uint32_t flags,
		    const struct bt_node *child, const char *format,
		    struct bt_node **out, struct blktap_error **err)
{
	const struct blktap_class *cls;
	struct bt_args *args;
	struct bt_node *node;
	int rc = bt_spec_parse(spec, &cls, &args, err);

	if (rc < 0)
		return rc;
	if (!blktap_class_is_driver(cls)) {
		bt_args_destroy(args);
		return bt_fail(err, -EINVAL,
			       "describe the graph in a file, see "
			       "blktap-mason(5)",
			       "%s: a %s stands on other nodes", spec,
			       cls->name);
	}
	rc = inherit_all(child, args, cls);
	if (!rc)
		rc = inherit(args, cls, "backing_format", format);
	if (rc < 0) {
		bt_args_destroy(args);
		return bt_fail(err, rc, NULL, "%s: out of memory", spec);
	}
	rc = bt_node_create(env, cls, spec, args, &node, err);
	if (rc < 0)
		return rc;
	rc = bt_node_open(node, child ? flags | BT_OPEN_BELOW : flags, err);
	if (rc < 0) {
		bt_node_destroy(node);
		return rc;
	}
	*out = node;
	return 0;
}

int bt_image_open_like(struct bt_env *env, const char *spec, uint32_t flags,
		       const struct bt_node *child, struct bt_node **out,
		       struct blktap_error **err)
{
	return open_one(env, spec, flags, child, NULL, out, err);
}

int bt_image_open_one(struct bt_env *env, const char *spec, uint32_t flags,
		      struct bt_node **out, struct blktap_error **err)
{
	return open_one(env, spec, flags, NULL, NULL, out, err);
}

/* By the file and not by its name: two names may lead to one file. What has no
 * file has no place in a loop. */
static int chain_add(struct chain *chain, struct bt_node *node,
		     struct blktap_error **err)
{
	struct link *link, *links;
	struct stat st;

	if (chain->count == chain->room) {
		chain->room = chain->room ? chain->room * 2 : 8;
		links = realloc(chain->links, chain->room * sizeof(*links));
		if (!links)
			return bt_fail(err, -ENOMEM, NULL, "out of memory");
		chain->links = links;
	}
	link = &chain->links[chain->count++];
	memset(link, 0, sizeof(*link));
	link->node = node;
	if (stat(bt_node_path(node), &st) == 0) {
		link->dev = st.st_dev;
		link->ino = st.st_ino;
		link->is_file = true;
	}
	return 0;
}

/* Before the parent is opened: its own lock would hide the loop. Where the
 * parent's spec is type:path; a spec in the other form has no file behind its
 * first colon, and its own open tells. */
static int check_loop(const struct chain *chain, const char *spec,
		      struct blktap_error **err)
{
	const char *path = strchr(spec, ':');
	struct stat st;
	uint32_t i;

	if (!path || stat(path + 1, &st) < 0)
		return 0; /* opening it tells what is wrong */
	for (i = 0; i < chain->count; i++)
		if (chain->links[i].is_file &&
		    chain->links[i].dev == st.st_dev &&
		    chain->links[i].ino == st.st_ino)
			return bt_fail(
				err, -ELOOP,
				"set the right parent in the image",
				"%s: stands on %s, which stands on it",
				chain->links[chain->count - 1].node->name,
				path + 1);
	return 0;
}

/* Opens what the last image of the chain stands on; *more is false where it
 * stands alone. A parent is always read-only, whatever the leaf is: others may
 * stand on it. */
static int open_parent(struct bt_env *env, struct chain *chain, uint32_t flags,
		       bool *more, struct blktap_error **err)
{
	struct bt_node *child = chain->links[chain->count - 1].node;
	struct bt_node *parent;
	char *spec = NULL;
	int rc = 0;

	if (child->cls->get_parent)
		rc = child->cls->get_parent(child, &spec, err);
	*more = !rc && spec;
	if (!*more)
		return rc;
	rc = check_loop(chain, spec, err);
	if (!rc)
		rc = bt_image_open_like(env, spec,
					flags | BLKTAP_OPEN_READ_ONLY, child,
					&parent, err);
	free(spec);
	if (rc < 0) {
		bt_error_prefix(err, "parent of %s", child->name);
		return rc;
	}
	bt_port_link(&child->ports[0], parent);
	return chain_add(chain, parent, err);
}

/* From the bottom up, as each node's limits come from those below. */
static int plan(const struct chain *chain, struct blktap_error **err)
{
	uint32_t i;
	int rc = 0;

	for (i = chain->count; i-- > 0 && !rc;)
		rc = bt_node_plan(chain->links[i].node, err);
	return rc;
}

/* Opens all that top, which is open, stands on. Flags that are about this
 * opening alone (force, the leaf's own) stay the leaf's; those for all images
 * of the chain are handed on. On failure what was opened is linked, and
 * destroyed with top. */
static int open_chain(struct bt_node *top, uint32_t flags,
		      struct blktap_error **err)
{
	struct chain chain = { NULL, 0, 0 };
	bool more = true;
	int rc = chain_add(&chain, top, err);

	while (!rc && more)
		rc = open_parent(top->env, &chain,
				 flags & (BLKTAP_OPEN_BUFFERED | BT_OPEN_LOOK),
				 &more, err);
	if (!rc && chain.count > 1)
		rc = plan(&chain, err);
	free(chain.links);
	return rc;
}

/* format is for images that record none, like the argument backing_format. */
int bt_image_open_base(struct bt_env *env, const char *spec, uint32_t flags,
		       const char *format, struct bt_node **out,
		       struct blktap_error **err)
{
	struct bt_node *top;
	int rc = open_one(env, spec, flags, NULL, format, &top, err);

	if (rc < 0)
		return rc;
	rc = open_chain(top, flags, err);
	if (rc < 0) {
		bt_node_destroy(top);
		return rc;
	}
	*out = top;
	return 0;
}

int bt_image_open(struct bt_env *env, const char *spec, uint32_t flags,
		  struct bt_node **out, struct blktap_error **err)
{
	if (bt_xchain_is(spec))
		return bt_xchain_open(env, spec, flags, out, err);
	return bt_image_open_base(env, spec, flags, NULL, out, err);
}

/* Where the graph has linked something below it, that is its parent, and the
 * image's own word is not asked. */
int bt_image_open_node(struct bt_node *node, uint32_t flags,
		       struct blktap_error **err)
{
	bool is_linked = node->port_count && node->ports[0].lower;
	int rc = bt_node_open(node, flags, err);

	return rc < 0 || is_linked ? rc : open_chain(node, flags, err);
}
