/* SPDX-License-Identifier: BSD-3-Clause */
/* Any bytes are checked, printed and drawn without harm. What can be printed in
 * canonical form means the same afterwards, and is canonical. */
#include <stdlib.h>
#include <string.h>

#include <blktap/mason.h>

#include "../mason/classes.h"
#include "fuzz.h"

static const char library[] = "def far($u) { in -> retry(5s) -> nbd($u); }\n"
			      "include \"a\"; let $l = [1, \"two\"];";

/* Two files, one of which includes the other, and any number of itself. */
static int read_text(void *opaque, const char *path, char **text,
		     size_t *length)
{
	*text = malloc(sizeof(library));
	if (!*text)
		abort();
	memcpy(*text, library, sizeof(library));
	*length = sizeof(library) - 1;
	return 0;
}

/* The picture of a text without errors, or its number of errors. */
static char *look(const char *text, size_t len, uint32_t *errors)
{
	struct blktap_mason_options options;
	struct blktap_mason *mason;
	char *out = NULL;

	blktap_mason_options_init(&options);
	options.next_class = test_class_next;
	options.read = read_text;
	*errors = 0;
	if (blktap_mason_check("f", text, len, &options, &mason, NULL) < 0)
		return NULL;
	*errors = blktap_mason_get_errors(mason);
	if ((*errors || blktap_mason_get_warnings(mason)) !=
	    !!*blktap_mason_get_report(mason))
		abort();
	if (!*errors && blktap_mason_dot(mason, &out, NULL) < 0)
		abort();
	blktap_mason_destroy(mason);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *form, *again, *before, *after;
	uint32_t errors_before, errors_after;

	before = look((const char *)data, size, &errors_before);
	if (!blktap_mason_format("f", (const char *)data, size, &form, NULL)) {
		if (blktap_mason_format("f", form, strlen(form), &again, NULL))
			abort();
		if (strcmp(form, again))
			abort();
		free(again);
		after = look(form, strlen(form), &errors_after);
		if (errors_before != errors_after || !before != !after)
			abort();
		if (before && strcmp(before, after))
			abort();
		free(after);
		free(form);
	}
	free(before);
	return 0;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"# golden\ngold :: raw(/img/debian.raw, ro=true);\n"
		"d0 :: disk(\"root\") -> top ::\n qcow(/vm/42/root.qcow);\n"
		"top[base] -> gold;\n",
		"d0 :: disk(\"data\") -> lim :: throttle(iops=5000/s, "
		"bytes=200M/s, burst=2s)\n -> m :: mirror(read=fastest, "
		"@on_error=degrade)\n => near :: raw(/a/data.raw), "
		"(retry(for=5s) -> far :: nbd(\"nbd+unix:///?s=/r\"));\n",
		"d0 :: disk(\"vault\") -> k :: crypt(cipher=\"aes-xts-256\", "
		"key=\"secret:v\") -> c :: cache(mode=writeback, size=8G);\n"
		"c[origin] -> nbd(\"nbd://h/v\"); c[store] -> raw(/s);\n",
		"assert run.m.state == synced && run.m.dirty <= 0;\n"
		"d0 :: disk(\"vm42\") -> new :: nbd(\"u\") was old;\n",
		"d :: disk(\"v\") -> [live] s :: snap(on_full=drop-image);\n"
		"bk :: export(\"w\", ro=true) -> [image] s;\n"
		"s[origin] -> old :: raw(/o); s[1] -> delta :: raw(/d);\n",
		"def leg($uri) { in -> retry(for=10s) -> n :: nbd($uri); }\n"
		"d0 :: disk(\"scratch\") -> stripe(chunk=256k)\n => a :: "
		"leg(\"nbd://1/x\"), b :: leg(uri=\"nbd://2/x\"); // end",
		"let $seed = 42; /* why */\nd0 :: disk(\"t\") -> f :: "
		"fault(seed=$seed, rules=[\"a b\", \"c\"]) -> ram(size=1G);\n"
		"include \"lib\"; e :: export(\"y\") -> far(\"z\");\n",
		"a, b :: null();\nd :: disk(\"x\") # one\n -> mirror( # two\n"
		"\n) => a, b; /* th\nree */ c :: slice(0, 1M) -> a;\n",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(*seeds))
		return 0;
	len = strlen(seeds[n]);
	memcpy(buf, seeds[n], len < cap ? len : cap);
	return len;
}
