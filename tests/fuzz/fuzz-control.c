/* SPDX-License-Identifier: BSD-3-Clause */
/* A control message decodes to texts with ends, and encodes to what decodes to
 * the same; its trailer grows to a bound and no further; parameters are found
 * inside it. */
#include <stdlib.h>
#include <string.h>

#include "control/wire.h"
#include "fuzz.h"
#include "util/bytes.h"

static void check_roundtrip(const struct bt_message *msg)
{
	struct bt_message again;
	uint8_t wire[BT_WIRE_SIZE];

	bt_wire_encode(msg, wire);
	if (bt_wire_decode(wire, &again) || memcmp(&again, msg, sizeof(again)))
		abort();
}

/* As a server does it: byte by byte, with no more than was asked for. */
static void check_trailer(const struct bt_message *msg, const uint8_t *data,
			  size_t size)
{
	size_t need = 0, have = 0;

	while (!bt_wire_trailer(msg, data, have, &need) && have < need) {
		if (need > BT_WIRE_EXT_MAX)
			abort();
		if (have == size)
			return;
		have++;
	}
	if (have != need || msg->type != BT_WIRE_EXT ||
	    bt_wire_params_check((const char *)data, have))
		return;
	bt_wire_params_get((const char *)data, have, "spec");
	bt_wire_params_get((const char *)data, have, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bt_message msg;

	if (size < BT_WIRE_SIZE || bt_wire_decode(data, &msg))
		return 0;
	check_roundtrip(&msg);
	check_trailer(&msg, data + BT_WIRE_SIZE, size - BT_WIRE_SIZE);
	return 0;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	struct bt_message msg = { .type = (uint16_t)(n < 30 ? n + 1 : n + 34),
				  .cookie = 3 };
	size_t len = BT_WIRE_SIZE + BT_WIRE_PATH + 1 + 32;

	if (n > 31 || cap < len)
		return 0;
	memset(buf, 0, len);
	if (msg.type == BT_WIRE_OPEN || msg.type == BT_WIRE_RESUME) {
		msg.u.params.flags = BT_WIRE_ADD_LOG | BT_WIRE_OPEN_ENCRYPTED;
		strcpy(msg.u.params.path, "aio:/img/a.raw");
		buf[BT_WIRE_SIZE + BT_WIRE_PATH] = 32;
	} else if (msg.type == BT_WIRE_EXT) {
		msg.u.ext.version = 1;
		msg.u.ext.length = 18;
		strcpy(msg.u.ext.verb, "open");
		memcpy(buf + BT_WIRE_SIZE, "spec=raw:/x\0ro=yes", 19);
	}
	bt_wire_encode(&msg, buf);
	return len;
}
