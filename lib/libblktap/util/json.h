/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes JSON into a strbuf: commas and escapes are looked after here. Keys and
 * strings may hold any bytes; what is not UTF-8 is written as U+FFFD.
 *
 * Nobody counts brackets: each object and array that is begun is ended by its
 * caller. No call fails; where memory ran out the strbuf says so in the end. */
#ifndef BT_UTIL_JSON_H
#define BT_UTIL_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "util/strbuf.h"

struct bt_json {
	struct bt_strbuf *out;
	bool comma; /* the next value needs one before it */
	bool spaced; /* ", " and "{ " as the legacy stats line has them */
};

/* Appends to out, which stays the caller's; there is nothing to be freed of json. */
void bt_json_init(struct bt_json *json, struct bt_strbuf *out, bool spaced);

/* key is NULL inside an array and at the top, and only there. key and value are
 * copied; value is never NULL: see bt_json_null. */
void bt_json_object(struct bt_json *json, const char *key);
void bt_json_object_end(struct bt_json *json);
void bt_json_array(struct bt_json *json, const char *key);
void bt_json_array_end(struct bt_json *json);
void bt_json_string(struct bt_json *json, const char *key, const char *value);
void bt_json_u64(struct bt_json *json, const char *key, uint64_t value);
void bt_json_i64(struct bt_json *json, const char *key, int64_t value);
void bt_json_bool(struct bt_json *json, const char *key, bool value);
void bt_json_null(struct bt_json *json, const char *key);
/* value is JSON already, and is not looked at. */
void bt_json_raw(struct bt_json *json, const char *key, const char *value);

#endif
