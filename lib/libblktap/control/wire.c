/* SPDX-License-Identifier: BSD-3-Clause */
/* Each variant is a table of fields, so that encoding and decoding cannot drift
 * apart: the offset on the wire stands beside the member it fills.
 *
 * The byte order is the host's, as both ends are on one machine; and the layout
 * is that of the structures which the first tapdisks sent as they lay in
 * memory, holes included. */
#include "control/wire.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/checked.h"

#define UNION_AT 8

enum variant {
	V_NONE,
	V_PID,
	V_PARAMS,
	V_IMAGE,
	V_RESPONSE,
	V_LIST,
	V_STAT,
	V_BLKIF,
	V_EXT,
	V_COUNT
};

/* A number of width 2, 4 or 8, or a text of any other width. */
struct field {
	uint16_t at; /* on the wire, from the start of the variant */
	uint16_t width; /* 0 ends the list */
	uint16_t member; /* in struct bt_message */
};

#define FIELD(offset, m)                                       \
	{                                                      \
		(offset), sizeof(((struct bt_message *)0)->m), \
			offsetof(struct bt_message, m)         \
	}

static const struct field pid_fields[] = { FIELD(0, u.pid), { 0 } };

static const struct field params_fields[] = {
	FIELD(0, u.params.flags),	 FIELD(4, u.params.devnum),
	FIELD(8, u.params.domid),	 FIELD(12, u.params.path),
	FIELD(268, u.params.prt_devnum), FIELD(272, u.params.req_timeout),
	FIELD(274, u.params.secondary),	 { 0 },
};

static const struct field image_fields[] = {
	FIELD(0, u.image.sectors),
	FIELD(8, u.image.sector_size),
	FIELD(12, u.image.info),
	{ 0 },
};

static const struct field response_fields[] = {
	FIELD(0, u.response.error),
	FIELD(4, u.response.text),
	FIELD(260, u.response.more),
	{ 0 },
};

static const struct field list_fields[] = {
	FIELD(0, u.list.count),
	FIELD(4, u.list.minor),
	FIELD(8, u.list.state),
	FIELD(12, u.list.path),
	{ 0 },
};

static const struct field stat_fields[] = {
	FIELD(0, u.stat.first),
	FIELD(2, u.stat.second),
	FIELD(8, u.stat.length),
	{ 0 },
};

static const struct field blkif_fields[] = {
	FIELD(0, u.blkif.domid),
	FIELD(4, u.blkif.devid),
	FIELD(8, u.blkif.gref[0]),
	FIELD(12, u.blkif.gref[1]),
	FIELD(16, u.blkif.gref[2]),
	FIELD(20, u.blkif.gref[3]),
	FIELD(24, u.blkif.gref[4]),
	FIELD(28, u.blkif.gref[5]),
	FIELD(32, u.blkif.gref[6]),
	FIELD(36, u.blkif.gref[7]),
	FIELD(40, u.blkif.order),
	FIELD(44, u.blkif.proto),
	FIELD(48, u.blkif.pool),
	FIELD(304, u.blkif.port),
	FIELD(308, u.blkif.poll_duration),
	FIELD(312, u.blkif.poll_idle_threshold),
	{ 0 },
};

static const struct field ext_fields[] = {
	FIELD(0, u.ext.version),
	FIELD(4, u.ext.length),
	FIELD(8, u.ext.verb),
	{ 0 },
};

static const struct field no_fields[] = { { 0 } };

static const struct field *const variants[V_COUNT] = {
	[V_NONE] = no_fields,		[V_PID] = pid_fields,
	[V_PARAMS] = params_fields,	[V_IMAGE] = image_fields,
	[V_RESPONSE] = response_fields, [V_LIST] = list_fields,
	[V_STAT] = stat_fields,		[V_BLKIF] = blkif_fields,
	[V_EXT] = ext_fields,
};

static const struct {
	const char *name;
	enum variant variant;
} types[] = {
	[BT_WIRE_ERROR] = { "ERROR", V_RESPONSE },
	[BT_WIRE_RUNTIME_ERROR] = { "RUNTIME_ERROR", V_RESPONSE },
	[BT_WIRE_PID] = { "PID", V_NONE },
	[BT_WIRE_PID_RSP] = { "PID_RSP", V_PID },
	[BT_WIRE_ATTACH] = { "ATTACH", V_NONE },
	[BT_WIRE_ATTACH_RSP] = { "ATTACH_RSP", V_RESPONSE },
	[BT_WIRE_OPEN] = { "OPEN", V_PARAMS },
	[BT_WIRE_OPEN_RSP] = { "OPEN_RSP", V_IMAGE },
	[BT_WIRE_PAUSE] = { "PAUSE", V_PARAMS },
	[BT_WIRE_PAUSE_RSP] = { "PAUSE_RSP", V_RESPONSE },
	[BT_WIRE_RESUME] = { "RESUME", V_PARAMS },
	[BT_WIRE_RESUME_RSP] = { "RESUME_RSP", V_RESPONSE },
	[BT_WIRE_CLOSE] = { "CLOSE", V_PARAMS },
	[BT_WIRE_CLOSE_RSP] = { "CLOSE_RSP", V_RESPONSE },
	[BT_WIRE_DETACH] = { "DETACH", V_NONE },
	[BT_WIRE_DETACH_RSP] = { "DETACH_RSP", V_RESPONSE },
	[BT_WIRE_LIST_MINORS] = { "LIST_MINORS", V_NONE },
	[BT_WIRE_LIST_MINORS_RSP] = { "LIST_MINORS_RSP", V_NONE },
	[BT_WIRE_LIST] = { "LIST", V_NONE },
	[BT_WIRE_LIST_RSP] = { "LIST_RSP", V_LIST },
	[BT_WIRE_STATS] = { "STATS", V_NONE },
	[BT_WIRE_STATS_RSP] = { "STATS_RSP", V_STAT },
	[BT_WIRE_FORCE_SHUTDOWN] = { "FORCE_SHUTDOWN", V_PARAMS },
	[BT_WIRE_XENBLKIF_CONNECT] = { "XENBLKIF_CONNECT", V_BLKIF },
	[BT_WIRE_XENBLKIF_CONNECT_RSP] = { "XENBLKIF_CONNECT_RSP", V_RESPONSE },
	[BT_WIRE_XENBLKIF_DISCONNECT] = { "XENBLKIF_DISCONNECT", V_BLKIF },
	[BT_WIRE_XENBLKIF_DISCONNECT_RSP] = { "XENBLKIF_DISCONNECT_RSP",
					      V_RESPONSE },
	[BT_WIRE_DISK_INFO] = { "DISK_INFO", V_NONE },
	[BT_WIRE_DISK_INFO_RSP] = { "DISK_INFO_RSP", V_IMAGE },
	[BT_WIRE_EXIT] = { "EXIT", V_NONE },
	[BT_WIRE_EXT] = { "EXT", V_EXT },
	[BT_WIRE_EXT_RSP] = { "EXT_RSP", V_EXT },
};

/* The table has gaps: numbers that nobody ever used. */
static bool type_is_known(uint16_t type)
{
	return type < BT_ARRAY_SIZE(types) && types[type].name;
}

/* For messages and the log; what came is not believed to be a type. */
const char *bt_wire_type_name(uint16_t type)
{
	return type_is_known(type) ? types[type].name : "?";
}

/* Of a text one byte less than its field, so that a NUL is behind it. */
static void put_field(const struct field *f, const void *member, uint8_t *out)
{
	switch (f->width) {
	case 2:
	case 4:
	case 8:
		memcpy(out, member, f->width);
		break;
	default:
		memcpy(out, member, strnlen(member, f->width - 1));
	}
}

/* Bytes that no field covers are zero: nothing of our memory goes out with
 * them. */
void bt_wire_encode(const struct bt_message *msg, uint8_t out[BT_WIRE_SIZE])
{
	const struct field *f;

	memset(out, 0, BT_WIRE_SIZE);
	bt_store_ne16(out, msg->type);
	bt_store_ne16(out + 2, msg->cookie);
	if (!type_is_known(msg->type))
		return;
	for (f = variants[types[msg->type].variant]; f->width; f++)
		put_field(f, (const char *)msg + f->member,
			  out + UNION_AT + f->at);
}

/* Only numbers are at most 8 bytes wide; memory behind a text is zero already.
 */
static int get_field(const struct field *f, const uint8_t *in, void *member)
{
	bool is_text = f->width > 8;

	if (is_text && !memchr(in, '\0', f->width))
		return -ENAMETOOLONG;
	/* Not the rubbish behind a text's end. */
	memcpy(member, in, is_text ? strlen((const char *)in) : f->width);
	return 0;
}

int bt_wire_decode(const uint8_t in[BT_WIRE_SIZE], struct bt_message *msg)
{
	const struct field *f;
	int rc;

	memset(msg, 0, sizeof(*msg));
	msg->type = bt_load_ne16(in);
	msg->cookie = bt_load_ne16(in + 2);
	if (!type_is_known(msg->type))
		return -EINVAL;
	for (f = variants[types[msg->type].variant]; f->width; f++) {
		rc = get_field(f, in + UNION_AT + f->at,
			       (char *)msg + f->member);
		if (rc)
			return rc;
	}
	return 0;
}

/* A log's path, then the length of a key, then the key. The key's length is one
 * byte of the trailer itself: until it is there, what is needed is known up to
 * it. */
static int params_trailer(const struct bt_wire_params *params,
			  const uint8_t *got, size_t have, size_t *need)
{
	*need = params->flags & BT_WIRE_ADD_LOG ? BT_WIRE_PATH : 0;
	if (!(params->flags & BT_WIRE_OPEN_ENCRYPTED))
		return 0;
	*need += 1;
	if (have < *need)
		return 0;
	if (got[*need - 1] > BT_WIRE_KEY_MAX)
		return -EMSGSIZE;
	*need += got[*need - 1];
	return 0;
}

/* Bounded before anybody makes room for it. */
int bt_wire_trailer(const struct bt_message *msg, const uint8_t *got,
		    size_t have, size_t *need)
{
	*need = 0;
	switch (msg->type) {
	case BT_WIRE_OPEN:
	case BT_WIRE_RESUME:
		return params_trailer(&msg->u.params, got, have, need);
	case BT_WIRE_EXT:
		if (msg->u.ext.version != BT_WIRE_EXT_VERSION)
			return -EINVAL;
		if (msg->u.ext.length > BT_WIRE_EXT_MAX)
			return -EMSGSIZE;
		*need = msg->u.ext.length;
		return 0;
	default:
		return 0;
	}
}

/* The last byte is a NUL, so strlen and strchr of what follows end within. */
int bt_wire_params_check(const char *data, size_t length)
{
	const char *end = data + length;

	if (length && end[-1] != '\0')
		return -EINVAL;
	for (; data < end; data += strlen(data) + 1)
		if (*data == '=' || !strchr(data, '='))
			return -EINVAL;
	return 0;
}

/* The first of several of one key. */
const char *bt_wire_params_get(const char *data, size_t length, const char *key)
{
	const char *end = data + length;
	size_t len = strlen(key);

	for (; data < end; data += strlen(data) + 1)
		if (!strncmp(data, key, len) && data[len] == '=')
			return data + len + 1;
	return NULL;
}
