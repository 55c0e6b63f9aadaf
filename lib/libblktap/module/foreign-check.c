/* SPDX-License-Identifier: BSD-3-Clause */
/* What a module from outside declares, checked and copied. */
#include "module/foreign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define MAX_BYTES (64u << 20) /* of a node */
#define MAX_FRAME 4096u
#define MAX_CHILDREN 65536u
#define MAX_PORTS 64u
#define MAX_PARAMS 64u

/* As our own classes, parameters and ports are called. */
static bool is_name(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len && len < 64 && name[0] >= 'a' && name[0] <= 'z' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static int bad(const char *file, struct blktap_error **err, const char *what)
{
	return bt_fail(err, -ENOEXEC, "see <blktap/module.h>", "%s: %s", file,
		       what);
}

static int copy_params(struct bt_foreign *f, const char *file,
		       struct blktap_error **err)
{
	const struct blktap_param *from = f->module.params;
	uint32_t i, n = 0;

	while (from && from[n].name && n <= MAX_PARAMS)
		n++;
	if (n > MAX_PARAMS)
		return bad(file, err, "it has too many parameters");
	f->params = calloc(n + 1, sizeof(*f->params));
	if (!f->params)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", file);
	for (i = 0; i < n; i++) {
		f->params[i] = from[i];
		if (!is_name(from[i].name) ||
		    (unsigned int)from[i].type > BLKTAP_PARAM_LIST ||
		    (from[i].type == BLKTAP_PARAM_ENUM && !from[i].choices))
			return bad(file, err, "a parameter makes no sense");
	}
	return 0;
}

/* Bounds keep a mistake in a module from becoming an allocation; flags that
 * this library does not know might promise something that it does not keep. */
static int check(const struct blktap_module *m, const char *file,
		 struct blktap_error **err)
{
	if (!is_name(m->name) || !m->summary)
		return bad(file, err,
			   "it has no name in lower case, or no "
			   "summary");
	if (!m->ports || !m->ports[0].name)
		return bad(file, err, "it has no port");
	if ((m->operations | m->passes) & ~BT_OPS_ALL ||
	    !(m->operations | m->passes) || (m->operations && !m->submit))
		return bad(file, err, "its operations make no sense");
	if (m->flags & ~(BLKTAP_MODULE_ENCRYPTS | BLKTAP_MODULE_REDUNDANT) ||
	    (unsigned int)m->pause > BLKTAP_PAUSE_NONE)
		return bad(file, err, "its flags are unknown");
	if (m->node_bytes > MAX_BYTES || m->frame_bytes > MAX_FRAME ||
	    m->children > MAX_CHILDREN)
		return bad(file, err, "it asks for too much memory");
	return 0;
}

/* An array is the last port, as the edges of all ports lie in one row. */
static int copy_ports(struct bt_foreign *f, const char *file,
		      struct blktap_error **err)
{
	const struct blktap_module_port *from = f->module.ports;
	uint32_t i, n = 0;

	while (from[n].name && n <= MAX_PORTS)
		n++;
	if (n > MAX_PORTS)
		return bad(file, err, "it has too many ports");
	f->ports = calloc(n + 1, sizeof(*f->ports));
	if (!f->ports)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", file);
	for (i = 0; i < n; i++) {
		uint32_t flags = from[i].flags;

		if (!is_name(from[i].name) ||
		    flags & ~(BLKTAP_PORT_OPTIONAL | 0x1fu) ||
		    (flags & BLKTAP_PORT_ARRAY && i + 1 < n))
			return bad(file, err, "a port makes no sense");
		f->ports[i].name = from[i].name;
		f->ports[i].help = from[i].help;
		f->ports[i].optional = flags & BLKTAP_PORT_OPTIONAL;
		f->ports[i].flags = flags & 0x1fu; /* the same bits */
	}
	return 0;
}

int bt_foreign_check(struct bt_foreign *foreign, const char *file,
		     struct blktap_error **err)
{
	int rc = check(&foreign->module, file, err);

	if (!rc)
		rc = copy_params(foreign, file, err);
	return rc ? rc : copy_ports(foreign, file, err);
}
