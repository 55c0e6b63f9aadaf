/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util scan: a line for each image of a directory or a volume group. */
#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vhd-util.h"

static const struct opt options[] = {
	{ 'm', "filter", OPT_TEXT, "PATTERN", "names, with * ? and []", 0, 0 },
	{ 'l', "group", OPT_TEXT, "VG", "in /dev/VG, of this volume group", 0,
	  0 },
	{ 'f', "fast", OPT_FLAG, NULL, "as ever; it makes no difference", 0,
	  0 },
	{ 'c', "continue", OPT_FLAG, NULL, "go on after an image that is bad",
	  0, 0 },
	{ 'p', "tree", OPT_FLAG, NULL, "children below their parents", 0, 0 },
	{ 'a', "all-parents", OPT_FLAG, NULL,
	  "parents too that the pattern does not name", 0, 0 },
	{ 'v', "verbose", OPT_FLAG, NULL, "as ever; it makes no difference", 0,
	  0 },
	{ 'M', "markers", OPT_FLAG, NULL, "marker and key hash as well", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "an object a line", 0, 0 },
	{ 0 },
};

struct image {
	char *path;
	char *parent; /* where it is recorded to be; NULL: none */
	struct blktap_vhd_info info;
	struct blktap_vhd_key_hash key;
	int error;
	char *message;
	bool shown;
};

struct scan {
	const struct args *args;
	struct image *images;
	size_t count;
	int error; /* of the first that is bad */
};

/* ---- finding -------------------------------------------------------------- */

/* a/./b/../c is a/c, so that one image has one name; links are not followed. */
static void simplify(char *path)
{
	char *from = path, *to = path;
	bool absolute = *path == '/';

	while (*from) {
		size_t n = strcspn(from, "/");
		char *back = to > path ? to - 1 : to;

		if (n == 0 || (n == 1 && *from == '.')) {
			if (!n && from == path)
				*to++ = '/';
		} else if (n == 2 && !strncmp(from, "..", 2) &&
			   to > path + absolute &&
			   (to < path + 3 || strncmp(to - 3, "../", 3))) {
			while (back > path && back[-1] != '/')
				back--;
			to = back;
		} else {
			memmove(to, from, n);
			to += n;
			*to++ = '/';
		}
		from += n + (from[n] == '/');
	}
	if (to > path + absolute)
		to--;
	*to = '\0';
}

/* As it is recorded, from the directory of the image. */
static char *parent_of(const char *path, const char *stored)
{
	const char *slash = strrchr(path, '/');
	char *out = NULL;

	if (*stored == '/' || !slash)
		out = strdup(stored);
	else if (asprintf(&out, "%.*s%s", (int)(slash - path + 1), path,
			  stored) < 0)
		return NULL;
	if (out)
		simplify(out);
	return out;
}

static void look_at(struct image *image)
{
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	char *stored = NULL;
	int rc;

	image->info.struct_size = sizeof(image->info);
	rc = blktap_vhd_get_info(image->path, &image->info, &err);
	if (!rc)
		rc = blktap_vhd_get_parent(image->path, true, &stored, &err);
	if (!rc)
		rc = blktap_vhd_open(image->path, 0, &vhd, &err);
	if (!rc) {
		blktap_vhd_get_key_hash(vhd, &image->key);
		blktap_vhd_close(vhd);
	}
	if (!rc && stored && !(image->parent = parent_of(image->path, stored)))
		rc = -ENOMEM;
	if (rc) {
		image->error = -rc;
		image->message = strdup(err ? blktap_error_get_message(err)
					    : strerror(-rc));
	}
	blktap_error_destroy(err);
	free(stored);
}

static struct image *find(struct scan *s, const char *path)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (!strcmp(s->images[i].path, path))
			return &s->images[i];
	return NULL;
}

static int add(struct scan *s, const char *path)
{
	struct image *image;

	s->images = reallocarray(s->images, s->count + 1, sizeof(*s->images));
	if (!s->images)
		abort(); /* nothing was written; there is nothing to tidy up */
	image = &s->images[s->count++];
	memset(image, 0, sizeof(*image));
	image->path = strdup(path);
	if (!image->path)
		abort();
	look_at(image);
	if (image->error && !s->error)
		s->error = image->error;
	return image->error && !arg_is_set(s->args, "continue");
}

/* Parents come behind their children, and are found in one pass. */
static void add_parents(struct scan *s)
{
	size_t i;

	for (i = 0; i < s->count; i++) {
		const struct image *image = &s->images[i];

		if (image->parent && !image->info.parent_is_raw &&
		    !find(s, image->parent) && add(s, s->images[i].parent))
			return;
	}
}

static int gather(struct scan *s)
{
	const char *filter = arg_text(s->args, "filter");
	const char *group = arg_text(s->args, "group");
	char *pattern = NULL;
	glob_t found;
	size_t i;
	int rc;

	if (asprintf(&pattern, "%s%s%s%s", group ? "/dev/" : "",
		     group ? group : "", group ? "/" : "",
		     filter ? filter : "*") < 0)
		return -ENOMEM;
	rc = glob(pattern, 0, NULL, &found);
	free(pattern);
	if (rc == GLOB_NOMATCH)
		return 0;
	if (rc)
		return rc == GLOB_NOSPACE ? -ENOMEM : -EACCES;
	for (i = 0; i < found.gl_pathc; i++)
		if (add(s, found.gl_pathv[i]))
			break;
	globfree(&found);
	if (i == s->count && arg_is_set(s->args, "all-parents"))
		add_parents(s);
	return 0;
}

/* ---- printing ------------------------------------------------------------- */

/* Readers take a line apart at blanks and '='; such a name is written with %XX,
 * any other as it is. Of a volume the name is enough. */
static void put_name(const struct scan *s, const char *name)
{
	const unsigned char *p;
	bool odd = false;

	if (arg_is_set(s->args, "group") && strrchr(name, '/'))
		name = strrchr(name, '/') + 1;
	for (p = (const unsigned char *)name; *p; p++)
		odd |= *p <= ' ' || *p == '=' || *p == 0x7f;
	for (p = (const unsigned char *)name; *p; p++)
		if (odd && (*p <= ' ' || *p == '=' || *p == '%' || *p == 0x7f))
			printf("%%%02X", *p);
		else
			putchar(*p);
}

static void put_key(const struct image *image)
{
	size_t i;

	for (i = 0; image->key.is_set && i < sizeof(image->key.hash); i++)
		printf("%02x", image->key.hash[i]);
}

/* One line, and one pair of quotes. */
static void put_text(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' || *text == '\'' ? '?'
								    : *text);
}

static void put_row(const struct scan *s, const struct image *image,
		    unsigned int level)
{
	printf("%*svhd=", (int)(3 * level), "");
	put_name(s, image->path);
	if (image->error) {
		printf(" scan-error=%d error-message='", image->error);
		put_text(image->message ? image->message : "");
		printf("'\n");
		return;
	}
	printf(" capacity=%" PRIu64 " size=%" PRIu64 " hidden=%" PRIu32,
	       image->info.length, image->info.file_size, image->info.hidden);
	if (arg_is_set(s->args, "markers")) {
		printf(" marker=%" PRIu32 " keyhash=", image->info.marker);
		put_key(image);
	}
	printf(" parent=");
	put_name(s, image->parent ? image->parent : "none");
	putchar('\n');
}

static void put_json(const struct image *image)
{
	printf("{\"vhd\":");
	put_json_string(stdout, image->path);
	if (image->error) {
		printf(",\"error\":%d,\"message\":", image->error);
		put_json_string(stdout, image->message ? image->message : "");
		printf("}\n");
		return;
	}
	printf(",\"capacity\":%" PRIu64 ",\"size\":%" PRIu64
	       ",\"hidden\":%" PRIu32 ",\"marker\":%" PRIu32 ",\"keyhash\":\"",
	       image->info.length, image->info.file_size, image->info.hidden,
	       image->info.marker);
	put_key(image);
	printf("\",\"parent\":");
	if (image->parent)
		put_json_string(stdout, image->parent);
	else
		printf("null");
	printf("}\n");
}

static void put_one(const struct scan *s, struct image *image,
		    unsigned int level)
{
	image->shown = true;
	if (arg_is_set(s->args, "json"))
		put_json(image);
	else
		put_row(s, image, level);
}

/* An image, then its children; the marks end what stands on itself. */
static void put_tree(struct scan *s, struct image *image, unsigned int level)
{
	size_t i;

	put_one(s, image, level);
	for (i = 0; i < s->count; i++) {
		struct image *child = &s->images[i];

		if (!child->shown && child->parent && level < 1024 &&
		    !strcmp(child->parent, image->path))
			put_tree(s, child, level + 1);
	}
}

static void put_all(struct scan *s)
{
	bool tree = arg_is_set(s->args, "tree");
	size_t i;

	for (i = 0; i < s->count; i++) {
		struct image *image = &s->images[i];

		if (!tree)
			put_one(s, image, 0);
		else if (!image->parent || !find(s, image->parent))
			put_tree(s, image, 0);
	}
	/* whatever stands on itself */
	for (i = 0; i < s->count; i++)
		if (!s->images[i].shown)
			put_tree(s, &s->images[i], 0);
}

static int scan(const struct args *args)
{
	struct scan s = { .args = args };
	int rc = gather(&s);
	size_t i;

	if (!rc)
		put_all(&s);
	for (i = 0; i < s.count; i++) {
		free(s.images[i].path);
		free(s.images[i].parent);
		free(s.images[i].message);
	}
	free(s.images);
	if (rc)
		return report(args, arg_text(args, "filter"), rc, NULL);
	return arg_is_set(args, "continue") ? 0 : s.error;
}

const struct command vhd_scan_commands[] = {
	{ .name = "scan",
	  .summary = "lists images, a line each",
	  .options = options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = scan },
	{ 0 },
};
