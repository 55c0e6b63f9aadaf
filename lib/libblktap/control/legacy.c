/* SPDX-License-Identifier: BSD-3-Clause */
/* What toolstacks have always asked a tapdisk for beside an image, as a graph of
 * Block Mason's: nothing below this room knows of it.
 *
 *   -2 TYPE:PATH  copy(pause=true): `from` is the image, `to` the secondary. Writes
 *                 go to both, reads to the image alone. What fails on the
 *                 secondary never reaches the guest, and ends the mirroring
 *   -C FILE       cbt(log=FILE) on top
 *   -r            copy_on_read() right above the image: so its copies are no
 *                 writes to -C and -2
 *   -e MINOR      the image's parent is the disk of another tapdisk, over NBD
 *   -E            vhd(.., key="fd:N"), N being a file in memory; an image below
 *                 that is encrypted has the same key (image/open.c); or
 *                 x-chain(.., key="fd:N")
 *
 * The graph is a file of the runtime directory as long as the disk is open: so
 * pausing, resuming, plan, apply and dump work as with any other. Everybody is told
 * of the image as it was asked for. */
#include "control/legacy.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/socket.h"
#include "image/image.h"
#include "port/port.h"
#include "util/checked.h"
#include "util/strbuf.h"

/* ---- refusals -------------------------------------------------------------- */

/* A disk without it is not the disk that was asked for. */
static int refuse(uint32_t flags, struct blktap_error **err)
{
	static const struct {
		uint32_t flag;
		const char *what, *hint;
	} unsupported[] = {
		{ BT_WIRE_STANDBY,
		  "a standby image (-s): data would be in two images, and "
		  "which part is where known to this process alone",
		  "leave -s away: writes that find no space wait for it" },
		{ BT_WIRE_ADD_CACHE, "the block cache", "leave it away" },
		{ BT_WIRE_VHD_INDEX, "a VHD index", "leave it away" },
		{ BT_WIRE_SHARED, "a shared image", "leave it away" },
	};
	const uint32_t known = BT_WIRE_RDONLY | BT_WIRE_NO_O_DIRECT |
			       BT_WIRE_SECONDARY | BT_WIRE_ADD_LOG |
			       BT_WIRE_REUSE_PRT | BT_WIRE_OPEN_ENCRYPTED |
			       BT_WIRE_ADD_LCACHE;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(unsupported); i++)
		if (flags & unsupported[i].flag)
			return bt_fail(err, -ENOTSUP, unsupported[i].hint,
				       "not supported by this tapdisk: %s: %s",
				       unsupported[i].what, STRERROR(-ENOTSUP));
	if (flags & BT_WIRE_ADD_LCACHE && flags & BT_WIRE_RDONLY)
		return bt_fail(err, -EINVAL, "leave one of them away",
			       "-r writes to the image, and -R forbids it: %s",
			       STRERROR(-EINVAL));
	if (flags & ~known)
		return bt_fail(err, -ENOTSUP, "use programs of one version",
			       "flags %#x: unknown: %s", (unsigned int)flags,
			       STRERROR(-ENOTSUP));
	return 0;
}

/* ---- taking ---------------------------------------------------------------- */

/* "null" and "" are none. */
static int set_text(char **to, const char *text, size_t max,
		    struct blktap_error **err)
{
	free(*to);
	*to = NULL;
	if (!*text || !strcmp(text, "null"))
		return 0;
	*to = strndup(text, max);
	return *to ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

/* The key behind the trailer's log: its length, then its bytes. In memory of
 * the kernel, and not of ours: the key is read from there each time that the
 * image is opened, and goes with the last descriptor. */
static int take_key(struct bt_legacy *l, const uint8_t *p, size_t length,
		    struct blktap_error **err)
{
	ssize_t n = -1;

	l->key_fd = memfd_create("blktap-key", MFD_CLOEXEC);
	if (l->key_fd >= 0 && fchmod(l->key_fd, 0600) == 0)
		n = write(l->key_fd, p + 1, bt_min_u64(p[0], length - 1));
	if (n < 0)
		return bt_fail(err, -errno, NULL, "key: %s", STRERROR(-errno));
	snprintf(l->key, sizeof(l->key), "fd:%d", l->key_fd);
	return 0;
}

struct search {
	const struct bt_rundir *dir;
	int minor;
	char path[BT_SUN_PATH];
};

/* Whoever answers at the name has the disk; several tapdisks cannot have one
 * minor. */
static int is_server(void *opaque, int pid)
{
	struct search *s = opaque;
	int fd, rc;

	bt_rundir_nbd_path(s->dir, pid, s->minor, s->path);
	rc = bt_socket_connect(s->path, &fd);
	if (!rc)
		close(fd);
	return !rc;
}

/* Every byte that has a meaning in a URI is written by its number. */
static void put_uri(struct bt_strbuf *out, const char *path)
{
	bt_strbuf_puts(out, "nbd+unix:///?socket=");
	bt_strbuf_put_escaped(out, path, "-._~/");
}

/* A disk does not stand on itself. */
static int find_parent(struct bt_legacy *l, const struct bt_rundir *dir,
		       int own, int minor, struct blktap_error **err)
{
	struct search s = { .dir = dir, .minor = minor };
	struct bt_strbuf uri = BT_STRBUF_INIT;
	int rc = 0;

	if (minor != own)
		rc = bt_rundir_each(dir, NULL, "ctl", is_server, &s, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return bt_fail(err, -ENOENT, "tap-ctl list shows them",
			       "-e: no disk is served on minor %d", minor);
	put_uri(&uri, s.path);
	l->parent = bt_strbuf_steal(&uri);
	return l->parent ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

/* What stands in the message as a text; a key and a parent are taken by others,
 * as they have to be looked for. */
static int take(struct bt_legacy *l, const struct bt_wire_params *params,
		const uint8_t *trailer, struct blktap_error **err)
{
	int rc = 0;

	if (params->flags & BT_WIRE_SECONDARY)
		rc = set_text(&l->secondary, params->secondary,
			      sizeof(params->secondary), err);
	if (!rc && params->flags & BT_WIRE_ADD_LOG)
		rc = set_text(&l->log, (const char *)trailer, BT_WIRE_PATH - 1,
			      err);
	return rc;
}

/* On failure nothing is left, neither file nor key. */
int bt_legacy_open(struct bt_legacy *l, const struct bt_rundir *dir, int minor,
		   const struct bt_wire_params *params, const uint8_t *trailer,
		   size_t length, struct blktap_error **err)
{
	size_t at = params->flags & BT_WIRE_ADD_LOG ? BT_WIRE_PATH : 0;
	int rc = refuse(params->flags, err);

	if (rc)
		return rc;
	l->key_fd = -1;
	l->copies = params->flags & BT_WIRE_ADD_LCACHE;
	l->image = strdup(params->path);
	rc = l->image ? take(l, params, trailer, err)
		      : bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (!rc && params->flags & BT_WIRE_OPEN_ENCRYPTED)
		rc = take_key(l, trailer + at, length - at, err);
	if (!rc && params->flags & BT_WIRE_REUSE_PRT)
		rc = find_parent(l, dir, minor, (int)params->prt_devnum, err);
	if (rc)
		bt_legacy_fini(l);
	return rc;
}

static int copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

/* What is not given anew stays as it was; "null" takes it away. The key's
 * descriptor is lent: who of the two is given up must not close it
 * (bt_legacy_drop). */
int bt_legacy_resume(struct bt_legacy *l, const struct bt_legacy *old,
		     const char *image, const struct bt_wire_params *params,
		     const uint8_t *trailer, bool *changed,
		     struct blktap_error **err)
{
	const uint32_t here = BT_WIRE_SECONDARY | BT_WIRE_ADD_LOG;
	int rc = refuse(params->flags, err);

	if (!rc && params->flags & (BT_WIRE_REUSE_PRT | BT_WIRE_OPEN_ENCRYPTED |
				    BT_WIRE_ADD_LCACHE))
		rc = bt_fail(err, -ENOTSUP, "close the disk and open it anew",
			     "-e, -E, -r: belong to open");
	if (rc)
		return rc;
	*changed = params->flags & here || *params->path;
	*l = *old;
	l->image = l->secondary = l->log = l->parent = l->file = NULL;
	l->second_name = !old->second_name;
	if (copy_text(&l->image, *params->path ? params->path : image) ||
	    copy_text(&l->secondary, old->secondary) ||
	    copy_text(&l->log, old->log) || copy_text(&l->parent, old->parent))
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (!old->image)
		l->key_fd = -1;
	if (!rc)
		rc = take(l, params, trailer, err);
	if (rc)
		bt_legacy_drop(l);
	return rc;
}

/* ---- the graph ------------------------------------------------------------- */

/* A name may hold what would end a string of the language. */
static void put_quoted(struct bt_strbuf *out, const char *text)
{
	bt_strbuf_quote(out, text, strlen(text));
}

/* What an nbd: of the old kind is called by its URI. Toolstacks write nbd:/path
 * and nbd:host:port; the class takes URIs. */
static void put_nbd(struct bt_strbuf *out, const char *rest)
{
	struct bt_strbuf uri = BT_STRBUF_INIT;

	if (*rest == '/')
		put_uri(&uri, rest);
	else
		bt_strbuf_printf(&uri, "%s%s",
				 strstr(rest, "://") ? "" : "nbd://", rest);
	put_quoted(out, bt_strbuf_str(&uri));
	out->failed |= uri.failed;
	bt_strbuf_fini(&uri);
}

/* By the class's own parameters, so that a driver which learns it needs no line
 * here. */
static bool has_key(const struct blktap_class *cls)
{
	const struct blktap_param *p;
	uint32_t i;

	for (i = 0; (p = blktap_class_get_param(cls, i)); i++)
		if (!strcmp(p->name, "key"))
			return true;
	return false;
}

/* Only drivers: what is itself a graph cannot be a node of ours. */
static int find_type(const char *spec, size_t length,
		     const struct blktap_class **cls, struct blktap_error **err)
{
	char type[32];

	if (!spec[length] || length >= sizeof(type))
		return bt_fail(err, -EINVAL, "write it as TYPE:PATH",
			       "'%s' does not begin with a type", spec);
	memcpy(type, spec, length);
	type[length] = '\0';
	*cls = blktap_class_find(type);
	if (*cls && blktap_class_is_driver(*cls))
		return 0;
	return bt_fail(err,
		       *cls || !strcmp(type, "x-chain") ||
				       !strcmp(type, "mason")
			       ? -ENOTSUP
			       : -ENOENT,
		       "in the file of a graph there is room for what the "
		       "option does",
		       "-2, -C, -e, -E, -r: '%s' is no type of image", type);
}

/* A description as it is, but for its last parenthesis. */
static int put_arguments(struct bt_strbuf *out, const char *from,
			 struct blktap_error **err)
{
	const char *end = strrchr(from, ')'), *at = end;

	if (!end)
		return bt_fail(err, -EINVAL,
			       "write it as class(value, name=value)",
			       "')' is missing at the end of '%s'", from);
	bt_strbuf_add(out, from, (size_t)(end - from));
	/* one that ends in a comma, or is empty, has an argument behind it */
	while (at > from && isspace((unsigned char)at[-1]))
		at--;
	if (at > from && at[-1] != ',')
		bt_strbuf_puts(out, ", ");
	return 0;
}

/* class("path", key="..") for TYPE:PATH, class(.., key="..") for class(..). */
static int put_described(struct bt_strbuf *out, const char *name,
			 const char *rest, const char *key,
			 struct blktap_error **err)
{
	bool described = *rest == '(';
	int rc = 0;

	bt_strbuf_printf(out, "%s(", name);
	if (described)
		rc = put_arguments(out, rest + 1, err);
	else if (!strcmp(name, "nbd"))
		put_nbd(out, rest + 1);
	else
		put_quoted(out, rest + 1);
	if (*key) {
		bt_strbuf_puts(out, described ? "key=" : ", key=");
		put_quoted(out, key);
	}
	bt_strbuf_putc(out, ')');
	return rc;
}

static int put_image(struct bt_strbuf *out, const char *spec, const char *key,
		     const struct blktap_class **cls, struct blktap_error **err)
{
	size_t length = strcspn(spec, ":(");
	int rc = find_type(spec, length, cls, err);

	if (rc)
		return rc;
	if (*key && !has_key(*cls))
		return bt_fail(err, -ENOTSUP, "leave -E away",
			       "-E: a %s is not encrypted: %s", (*cls)->name,
			       STRERROR(-ENOTSUP));
	if (spec[length] == '(' && !*key) {
		bt_strbuf_printf(out, "%s%s", (*cls)->name, spec + length);
		return 0;
	}
	return put_described(out, (*cls)->name, spec + length, key, err);
}

/* Guests do not wait for a mirror's server to come back. reconnect=0s: a server
 * that is gone fails its writes at once, which ends the mirroring and not the
 * guest's writes. */
static int put_secondary(struct bt_strbuf *out, const char *spec,
			 struct blktap_error **err)
{
	const struct blktap_class *cls = NULL;
	int rc = put_image(out, spec, "", &cls, err);

	if (!rc && !strcmp(cls->name, "nbd")) {
		out->len--; /* the parenthesis */
		bt_strbuf_puts(out, ", reconnect=0s)");
	}
	bt_strbuf_puts(out, ";\n");
	return rc;
}

/* From the disk down: log, mirror, copies, image. Each is there only where it
 * was asked for. */
static int put_graph(struct bt_strbuf *out, const struct bt_legacy *l,
		     struct blktap_error **err)
{
	const struct blktap_class *cls;
	int rc;

	bt_strbuf_puts(out, "d :: disk(\"disk\") -> ");
	if (l->log) {
		bt_strbuf_puts(out, "changed :: cbt(log=");
		put_quoted(out, l->log);
		bt_strbuf_puts(out, ") -> ");
	}
	if (l->secondary)
		bt_strbuf_puts(out, "mirrored :: copy(pause=true);\n"
				    "mirrored[from] -> ");
	if (l->copies)
		bt_strbuf_puts(out, "copied :: copy_on_read() -> ");
	bt_strbuf_puts(out, "image :: ");
	rc = put_image(out, l->image, l->key, &cls, err);
	bt_strbuf_puts(out, ";\n");
	if (!rc && l->parent && !cls->ports)
		return bt_fail(err, -EINVAL, "leave -e away",
			       "-e: a %s stands on nothing", cls->name);
	if (!rc && l->parent) {
		bt_strbuf_printf(out, "image[%s] -> parent :: nbd(",
				 cls->ports[0].name);
		put_quoted(out, l->parent);
		bt_strbuf_puts(out, ");\n");
	}
	if (!rc && l->secondary) {
		bt_strbuf_puts(out, "mirrored[to] -> secondary :: ");
		rc = put_secondary(out, l->secondary, err);
	}
	return rc;
}

/* A graph that was changed while it ran left its own file beside. */
static void remove_file(const char *file)
{
	char *state = NULL;

	unlink(file);
	if (asprintf(&state, "%s.state", file) < 0)
		return;
	unlink(state);
	free(state);
}

/* "wx": a file that is there already, put by somebody else, is not written to.
 * It is ours, and so removed before. Of two names, so that a graph which is to take
 * another's place leaves that, and what it has become since, alone until it has. */
static int write_file(struct bt_legacy *l, const struct bt_rundir *dir,
		      int minor, const char *text, struct blktap_error **err)
{
	FILE *f;
	int rc = 0;

	if (!l->file &&
	    asprintf(&l->file, "%s/graph%d.%d%s.mason", dir->path,
		     (int)getpid(), minor, l->second_name ? ".b" : "") < 0)
		l->file = NULL;
	if (!l->file)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	remove_file(l->file);
	f = fopen(l->file, "wxe");
	if (!f || fchmod(fileno(f), 0600) < 0 || fputs(text, f) == EOF)
		rc = -errno;
	if (f && fclose(f) && !rc)
		rc = -errno;
	return rc ? bt_fail(err, rc, NULL, "%s: %s", l->file, STRERROR(rc)) : 0;
}

/* Without any option the image is what is opened, without a graph. */
int bt_legacy_make(struct bt_legacy *l, const struct bt_rundir *dir, int minor,
		   char **spec, struct blktap_error **err)
{
	bool graph = l->secondary || l->log || l->parent || l->copies;
	struct bt_strbuf out = BT_STRBUF_INIT;
	const struct blktap_class *cls;
	int rc = 0;

	if (graph) {
		rc = put_graph(&out, l, err);
		if (!rc && !out.failed)
			rc = write_file(l, dir, minor, bt_strbuf_str(&out),
					err);
		bt_strbuf_fini(&out);
		out = (struct bt_strbuf)BT_STRBUF_INIT;
		bt_strbuf_printf(&out, "mason:%s", l->file ? l->file : "");
	} else if (*l->key && bt_xchain_is(l->image)) {
		rc = put_described(&out, "x-chain",
				   l->image + strlen("x-chain"), l->key, err);
	} else if (*l->key) {
		rc = put_image(&out, l->image, l->key, &cls, err);
	} else {
		bt_strbuf_puts(&out, l->image);
	}
	*spec = rc ? NULL : bt_strbuf_steal(&out);
	bt_strbuf_fini(&out);
	return *spec || rc ? rc : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

/* For the mark: an heir has to be asked for with the same. */
uint32_t bt_legacy_flags(const struct bt_legacy *l)
{
	return (l->secondary ? BT_WIRE_SECONDARY : 0) |
	       (l->log ? BT_WIRE_ADD_LOG : 0) |
	       (l->parent ? BT_WIRE_REUSE_PRT : 0) |
	       (l->copies ? BT_WIRE_ADD_LCACHE : 0) |
	       (*l->key ? BT_WIRE_OPEN_ENCRYPTED : 0);
}

/* Its memory alone. */
void bt_legacy_drop(struct bt_legacy *l)
{
	free(l->image);
	free(l->secondary);
	free(l->log);
	free(l->parent);
	free(l->file);
	memset(l, 0, sizeof(*l));
}

/* The key's descriptor is in both, and stays open. */
void bt_legacy_replace(struct bt_legacy *l, const struct bt_legacy *next)
{
	if (l->file)
		remove_file(l->file);
	bt_legacy_drop(l);
	*l = *next;
}

/* Also of what was taken in part. */
void bt_legacy_fini(struct bt_legacy *l)
{
	if (l->image && l->key_fd >= 0)
		close(l->key_fd);
	if (l->file)
		remove_file(l->file);
	bt_legacy_drop(l);
}
