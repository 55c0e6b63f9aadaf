/* SPDX-License-Identifier: BSD-3-Clause */
/* Wires become links: the lower port of the upper node is found and filled, and
 * the upper port of the lower node is found. A port holds one link; an array
 * port one in each of its slots. */
#include <string.h>

#include "mason/private.h"
#include "util/suggest.h"

/* Lists end with a port without a name; a leaf has none. */
static uint32_t port_count(const struct bt_port_desc *ports)
{
	uint32_t n = 0;

	while (ports && ports[n].name)
		n++;
	return n;
}

static int find_name(const struct bt_port_desc *ports, const char *name)
{
	uint32_t i;

	for (i = 0; i < port_count(ports); i++)
		if (!strcmp(ports[i].name, name))
			return (int)i;
	return -1;
}

/* A class has one at the most, and it is what => is for. */
static int find_array(const struct blktap_class *cls)
{
	uint32_t i;

	for (i = 0; i < port_count(cls->ports); i++)
		if (cls->ports[i].flags & BT_PORT_ARRAY)
			return (int)i;
	return -1;
}

/* "did you mean 'base'?", or all the names there are. */
static const char *port_hint(struct blktap_mason *m,
			     const struct bt_port_desc *ports, const char *name)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_suggest s;
	const char *hint = NULL;
	uint32_t i;

	bt_suggest_init(&s, name);
	for (i = 0; i < port_count(ports); i++)
		bt_suggest_offer(&s, ports[i].name);
	if (bt_suggest_hint(&s))
		return bt_mason_printf(m, "%s", bt_suggest_hint(&s));
	if (!port_count(ports))
		return NULL;
	bt_strbuf_puts(&sb, port_count(ports) == 1 ? "its port is"
						   : "its ports are");
	for (i = 0; i < port_count(ports); i++)
		bt_strbuf_printf(&sb, "%s %s", i ? "," : "", ports[i].name);
	hint = bt_mason_printf(m, "%s", bt_strbuf_str(&sb));
	bt_strbuf_fini(&sb);
	return hint;
}

/* which: "lower" or "upper". */
static struct bt_diag *no_port(struct blktap_mason *m,
			       const struct bt_mason_node *node,
			       const struct bt_port_desc *ports,
			       const struct bt_port_ref *ref, const char *which)
{
	if (ref->name)
		return bt_mason_error(
			m, ref->pos, port_hint(m, ports, ref->name),
			"'%s' (%s) has no %s port '%s'", node->name,
			node->cls->name, which, ref->name);
	return bt_mason_error(m, ref->pos, NULL, "'%s' (%s) has no %s port %s",
			      node->name, node->cls->name, which,
			      ref->number > BT_MASON_MAX_LEGS
				      ? "of that number"
				      : bt_mason_printf(m, "%u", ref->number));
}

/* The first slot that nothing is linked to. Links are in order of port and
 * slot, so the first gap is found in one pass. */
static uint32_t free_slot(const struct bt_mason_node *node, uint32_t port)
{
	const struct bt_mason_link *link;
	uint32_t slot = 0;

	for (link = node->links; link; link = link->next)
		if (link->port == port && link->slot == slot)
			slot++;
	return slot;
}

struct place {
	uint32_t port, slot;
};

/* By number: the slot of an array, or the port in its order. A class has one
 * array at the most. */
static bool by_number(const struct bt_mason_node *node, uint32_t number,
		      struct place *out)
{
	int array = find_array(node->cls);

	if (array >= 0) {
		out->port = (uint32_t)array;
		out->slot = number;
		return number < BT_MASON_MAX_LEGS;
	}
	out->port = number;
	out->slot = 0;
	return number < port_count(node->cls->ports);
}

/* Without a name the first port, or for => the array; with a number a slot of
 * the array, or a port by its order. */
static struct bt_diag *find_lower(struct blktap_mason *m,
				  const struct bt_mason_node *node,
				  const struct bt_wire *wire, struct place *out)
{
	const struct bt_port_desc *ports = node->cls->ports;
	const struct bt_port_ref *ref = wire->from.port;
	int port = 0;

	if (!port_count(ports))
		return bt_mason_error(m, wire->pos, NULL,
				      "'%s' (%s) is a leaf: nothing goes below "
				      "it",
				      node->name, node->cls->name);
	if (ref && !ref->name)
		return by_number(node, ref->number, out) && wire->slot < 0
			       ? NULL
			       : no_port(m, node, ports, ref, "lower");
	if (ref)
		port = find_name(ports, ref->name);
	else if (wire->slot >= 0)
		port = find_array(node->cls);
	if (port < 0 && ref)
		return no_port(m, node, ports, ref, "lower");
	if (port < 0 ||
	    (wire->slot >= 0 && !(ports[port].flags & BT_PORT_ARRAY)))
		return bt_mason_error(m, wire->pos,
				      "link each port with ->, by its name",
				      "'%s' (%s) has no array port for =>",
				      node->name, node->cls->name);
	out->port = (uint32_t)port;
	out->slot = wire->slot >= 0 ? (uint32_t)wire->slot : 0;
	if (wire->slot < 0 && ports[port].flags & BT_PORT_ARRAY)
		out->slot = free_slot(node, out->port);
	if (out->slot < BT_MASON_MAX_LEGS)
		return NULL;
	return bt_mason_error(m, wire->pos, NULL, "'%s' has more than %u legs",
			      node->name, BT_MASON_MAX_LEGS);
}

/* Most classes have one upper port without a name, which is 0; any number of edges
 * may end at one. */
static struct bt_diag *find_upper(struct blktap_mason *m,
				  const struct bt_mason_node *node,
				  const struct bt_wire *wire, uint32_t *out)
{
	const struct bt_port_desc *uppers = node->cls->uppers;
	const struct bt_port_ref *ref = wire->to.port;
	int upper = 0;

	if (bt_mason_is_front(node))
		return bt_mason_error(m, wire->pos, NULL,
				      "'%s' (%s) is a front: nothing goes "
				      "above it",
				      node->name, node->cls->name);
	if (ref && ref->name)
		upper = uppers ? find_name(uppers, ref->name) : -1;
	else if (ref)
		upper = ref->number < (uppers ? port_count(uppers) : 1)
				? (int)ref->number
				: -1;
	*out = (uint32_t)upper;
	return upper < 0 ? no_port(m, node, uppers, ref, "upper") : NULL;
}

/* As it is written in a text: leg[2], base. */
static const char *place_name(struct blktap_mason *m,
			      const struct bt_mason_node *node,
			      const struct place *place)
{
	const struct bt_port_desc *port = &node->cls->ports[place->port];

	if (port->flags & BT_PORT_ARRAY)
		return bt_mason_printf(m, "%s[%u]", port->name, place->slot);
	return port->name;
}

/* Where in the list the link belongs. */
static struct bt_mason_link **find_slot(struct bt_mason_node *node,
					const struct place *place)
{
	struct bt_mason_link **at = &node->links;

	while (*at &&
	       ((*at)->port < place->port ||
		((*at)->port == place->port && (*at)->slot < place->slot)))
		at = &(*at)->next;
	return at;
}

/* In its place in the list, which everybody relies on: by port, then by slot.
 */
static struct bt_diag *fill(struct blktap_mason *m, struct bt_mason_node *node,
			    const struct place *place,
			    struct bt_mason_node *lower, uint32_t upper,
			    struct bt_pos pos)
{
	struct bt_mason_link **at = find_slot(node, place), *link;
	struct bt_diag *diag;

	if (*at && (*at)->port == place->port && (*at)->slot == place->slot) {
		diag = bt_mason_error(m, pos, NULL,
				      "port '%s' of '%s' is linked twice",
				      place_name(m, node, place), node->name);
		bt_mason_note(m, diag, (*at)->pos, "first here");
		return diag;
	}
	link = bt_mason_alloc(m, sizeof(*link));
	if (!link)
		return NULL;
	link->port = place->port;
	link->slot = place->slot;
	link->lower = lower;
	link->upper = upper;
	link->pos = pos;
	link->next = *at;
	*at = link;
	node->link_count++;
	lower->uppers++;
	return NULL;
}

/* Both ends are looked at before it is given up, so that both mistakes are
 * told. */
bool bt_mason_link(struct blktap_mason *m, const struct bt_scope *scope,
		   const struct bt_wire *wire)
{
	struct bt_mason_node *node = wire->from.item->node;
	struct bt_mason_node *lower = wire->to.item->node;
	uint32_t upper = 0, before = m->errors;
	struct place place = { 0, 0 };
	struct bt_diag *diag;

	diag = find_lower(m, node, wire, &place);
	bt_scope_notes(m, diag, scope);
	diag = find_upper(m, lower, wire, &upper);
	bt_scope_notes(m, diag, scope);
	if (m->errors != before)
		return false;
	diag = fill(m, node, &place, lower, upper,
		    wire->slot < 0 ? wire->pos : wire->to.pos);
	bt_scope_notes(m, diag, scope);
	return m->errors == before;
}
