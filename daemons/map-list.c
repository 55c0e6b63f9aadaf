/* SPDX-License-Identifier: BSD-3-Clause */
/* What is mapped, a line or an object each. Dead maps are shown as well, until
 * somebody takes them away: a list changes nothing. */
#include <errno.h>

#include "map.h"

struct output {
	bool json;
	bool any;
};

static void put_member(const char *key, const char *value)
{
	printf(",\"%s\":", key);
	if (value)
		put_json_string(stdout, value);
	else
		fputs("null", stdout);
}

static void put_json(struct output *output, const struct map *map)
{
	printf("%s{\"name\":", output->any ? "," : "");
	put_json_string(stdout, map->name);
	put_member("file", map->file);
	put_member("device", map->device);
	put_member("image", map->image);
	printf(",\"pid\":%d,\"read_only\":%s,\"alive\":%s}", (int)map->pid,
	       map->read_only ? "true" : "false",
	       map->alive ? "true" : "false");
}

static int put_map(void *opaque, struct map *map)
{
	struct output *output = opaque;

	if (output->json) {
		put_json(output, map);
	} else {
		printf("name=%s pid=%d%s file=%s", map->name, (int)map->pid,
		       map->alive ? "" : " dead", map->file ? map->file : "");
		if (map->device)
			printf(" device=%s", map->device);
		printf(" image=%s\n", map->image ? map->image : "");
	}
	output->any = true;
	return 0;
}

int map_list(const struct args *args)
{
	struct output output = { .json = arg_is_set(args, "json") };
	struct map_dir dir;
	int rc = map_dir_open(args, MAP_LOOK, &dir);

	if (rc)
		return rc;
	if (output.json)
		putchar('[');
	map_dir_lock(&dir);
	rc = map_each(&dir, put_map, &output);
	map_dir_unlock(&dir);
	if (output.json)
		puts("]");
	if (rc)
		rc = map_fail(args, rc, NULL, "what is in %s", dir.path);
	map_dir_close(&dir);
	return rc;
}
