/* SPDX-License-Identifier: BSD-3-Clause */
/* A class in the form of manual pages: what a user of the language has to know of
 * it, from the same table that the checker reads. */
#include <errno.h>
#include <string.h>

#include "port/port.h"
#include "util/strbuf.h"

/* Text in POD, where < and > are not its own. */
static void put(struct bt_strbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			bt_strbuf_puts(out, "E<lt>");
		else if (*text == '>')
			bt_strbuf_puts(out, "E<gt>");
		else
			bt_strbuf_putc(out, *text);
	}
}

static const char *type_name(const struct blktap_param *p)
{
	static const char *const names[] = {
		[BLKTAP_PARAM_STRING] = "string",
		[BLKTAP_PARAM_PATH] = "path",
		[BLKTAP_PARAM_BOOL] = "true or false",
		[BLKTAP_PARAM_INT] = "number",
		[BLKTAP_PARAM_SIZE] = "size",
		[BLKTAP_PARAM_DURATION] = "time",
		[BLKTAP_PARAM_ENUM] = "one of",
		[BLKTAP_PARAM_RATE] = "rate",
		[BLKTAP_PARAM_PERCENT] = "percent",
		[BLKTAP_PARAM_LIST] = "list of strings",
	};

	return names[p->type];
}

static void put_param(struct bt_strbuf *out, const struct blktap_param *p)
{
	bt_strbuf_printf(out, "=item B<%s> (%s", p->name, type_name(p));
	if (p->choices) {
		bt_strbuf_putc(out, ' ');
		put(out, p->choices);
	}
	if (p->flags & BLKTAP_PARAM_REQUIRED)
		bt_strbuf_puts(out, ", required");
	if (p->fallback) {
		bt_strbuf_puts(out, ", default ");
		put(out, p->fallback);
	}
	if (p->flags & BLKTAP_PARAM_LIVE)
		bt_strbuf_puts(out, ", live");
	bt_strbuf_puts(out, ")\n\n");
	put(out, p->help ? p->help : "");
	bt_strbuf_puts(out, ".\n\n");
}

static void put_ports(struct bt_strbuf *out, const char *what,
		      const struct bt_port_desc *ports)
{
	for (; ports && ports->name; ports++) {
		bt_strbuf_printf(
			out, "=item %s B<%s>%s%s\n\n", what, ports->name,
			ports->flags & BT_PORT_ARRAY ? "[0], [1], .." : "",
			ports->optional ? " (may be left open)" : "");
		put(out, ports->help ? ports->help : "requests go there");
		bt_strbuf_puts(out, ports->flags & BT_PORT_STORE
					    ? "; keeps data of its own there"
				    : ports->flags & BT_PORT_READS
					    ? "; only read"
					    : "");
		bt_strbuf_puts(out, ".\n\n");
	}
}

static void put_operations(struct bt_strbuf *out,
			   const struct blktap_class *cls)
{
	static const char *const names[BLKTAP_OP_COUNT] = {
		"read",		"write",	"flush",    "discard",
		"write zeroes", "block status", "prefetch",
	};
	uint32_t op, has = blktap_class_get_operations(cls);
	bool any = false;

	bt_strbuf_puts(out, "Operations: ");
	for (op = 0; op < BLKTAP_OP_COUNT; op++)
		if (has & (1u << op)) {
			bt_strbuf_printf(out, "%s%s", any ? ", " : "",
					 names[op]);
			any = true;
		}
	bt_strbuf_puts(out, ".");
}

int blktap_class_get_pod(const struct blktap_class *cls, char **out)
{
	static const char *const pauses[] = {
		[BT_PAUSE_ALL] = "all requests wait",
		[BT_PAUSE_WRITES] = "writes wait",
		[BT_PAUSE_NONE] = "nothing waits",
	};
	struct bt_strbuf sb = BT_STRBUF_INIT;
	uint32_t i;

	bt_strbuf_printf(&sb, "=head2 %s\n\n", cls->name);
	put(&sb, cls->summary);
	bt_strbuf_puts(&sb, ".");
	if (cls->aliases)
		bt_strbuf_printf(&sb, " Also called %s.", cls->aliases);
	bt_strbuf_puts(&sb, "\n\n");
	if (blktap_class_get_param(cls, 0) ||
	    (cls->ports && cls->ports->name) ||
	    (cls->uppers && cls->uppers->name)) {
		bt_strbuf_puts(&sb, "=over\n\n");
		for (i = 0; blktap_class_get_param(cls, i); i++)
			put_param(&sb, blktap_class_get_param(cls, i));
		put_ports(&sb, "upper port", cls->uppers);
		put_ports(&sb, "port", cls->ports);
		bt_strbuf_puts(&sb, "=back\n\n");
	}
	put_operations(&sb, cls);
	bt_strbuf_printf(&sb, " While it comes or goes, %s.",
			 pauses[cls->pause]);
	if (cls->values) {
		bt_strbuf_puts(&sb, " Values for asserts: ");
		put(&sb, cls->values);
		bt_strbuf_putc(&sb, '.');
	}
	bt_strbuf_puts(&sb, "\n\n");
	*out = bt_strbuf_steal(&sb);
	return *out ? 0 : -ENOMEM;
}
