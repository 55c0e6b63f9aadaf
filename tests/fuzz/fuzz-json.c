/* SPDX-License-Identifier: BSD-3-Clause */
/* Any bytes in a string come out as printable JSON: a path on disk is not
 * ours to choose, and sm reads our JSON line by line. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "util/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *text = malloc(size + 1);
	struct bt_json json;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	bt_json_init(&json, &sb, size & 1);
	bt_json_object(&json, NULL);
	bt_json_string(&json, text, text);
	bt_json_object_end(&json);
	for (const char *p = bt_strbuf_str(&sb); *p; p++)
		if ((unsigned char)*p < ' ')
			abort();
	bt_strbuf_fini(&sb);
	free(text);
	return 0;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"/run/w/raw.img",
		"\"quoted\" \\ \t\n\x01\x7f",
		"\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe \xff\xc0\x80",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(*seeds))
		return 0;
	len = strlen(seeds[n]);
	memcpy(buf, seeds[n], len < cap ? len : cap);
	return len;
}
