/* SPDX-License-Identifier: BSD-3-Clause */
/* A file is read once and then only its copy is used: by the check, by its messages,
 * and by the state of a graph that runs. So what is checked is what runs, also where
 * somebody edits the file meanwhile. Includes are read when the parser asks for
 * them, and are copied in the same way. */
#include "mason/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "util/strbuf.h"

#define TEXT_MAX ((size_t)1 << 20)

/* The array may move: who holds a name or text of it has the strings, which do
 * not. */
static int add_text(struct bt_mason_file *file, const char *name,
		    const char *text, size_t length)
{
	struct bt_mason_text *texts =
		realloc(file->texts, (file->count + 1) * sizeof(*file->texts));
	struct bt_mason_text *at;

	if (!texts)
		return -ENOMEM;
	file->texts = texts;
	at = &texts[file->count];
	at->name = strdup(name);
	at->text = malloc(length + 1);
	at->length = length;
	if (!at->name || !at->text) {
		free(at->name);
		free(at->text);
		return -ENOMEM;
	}
	if (length)
		memcpy(at->text, text, length);
	at->text[length] = '\0';
	file->count++;
	return 0;
}

/* One byte more than the bound is enough to refuse it. */
static int read_all(int fd, struct bt_strbuf *out)
{
	char buf[16384];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bt_strbuf_add(out, buf, (size_t)n);
		if (out->len > TEXT_MAX)
			return -E2BIG;
	}
	return out->failed ? -ENOMEM : 0;
}

/* A device or a directory fails in read, or is too large. */
static int read_file(const char *path, struct bt_strbuf *out)
{
	/* a fifo must not hold up every disk of the process */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return -errno;
	rc = read_all(fd, out);
	close(fd);
	return rc;
}

static const struct bt_mason_text *find_text(const struct bt_mason_file *file,
					     const char *name)
{
	uint32_t i;

	for (i = 0; i < file->count; i++)
		if (!strcmp(file->texts[i].name, name))
			return &file->texts[i];
	return NULL;
}

/* The check's reader of includes; what it reads is kept. The copy handed out is
 * the check's, the one kept is ours; the second look at a file finds the first
 * one's text, so both are the same. */
static int read_include(void *opaque, const char *path, char **text,
			size_t *length)
{
	struct bt_mason_file *file = opaque;
	const struct bt_mason_text *known = find_text(file, path);
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int rc = 0;

	if (known)
		bt_strbuf_add(&sb, known->text, known->length);
	else if (file->closed_set)
		return -ENOENT;
	else
		rc = read_file(path, &sb);
	if (!rc && !known)
		rc = add_text(file, path, bt_strbuf_str(&sb), sb.len);
	bt_strbuf_putc(&sb, '\0');
	if (rc < 0 || sb.failed) {
		bt_strbuf_fini(&sb);
		return rc < 0 ? rc : -ENOMEM;
	}
	*length = sb.len - 1;
	*text = bt_strbuf_steal(&sb);
	return 0;
}

/* Kept for the state: the same text with other definitions is another graph. */
static int copy_defines(struct bt_mason_file *file, const char *const *defines)
{
	uint32_t i, n = 0;

	while (defines && defines[n])
		n++;
	if (!n)
		return 0;
	file->defines = calloc(n + 1, sizeof(*file->defines));
	for (i = 0; file->defines && i < n; i++) {
		file->defines[i] = strdup(defines[i]);
		if (!file->defines[i])
			return -ENOMEM;
	}
	return file->defines ? 0 : -ENOMEM;
}

/* What the check is to see, in file->texts. Texts of an earlier check come with
 * all their includes: then nothing is read, and one that is missing is an
 * error. */
static int take_texts(struct bt_mason_file *file,
		      const struct bt_mason_source *source)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	uint32_t i;
	int rc = 0;

	file->closed_set = source->text_count;
	for (i = 0; i < source->text_count && !rc; i++)
		rc = add_text(file, source->texts[i].name,
			      source->texts[i].text, source->texts[i].length);
	if (source->text_count)
		return rc;
	if (source->text)
		return add_text(file, source->name, source->text,
				source->length);
	rc = read_file(source->name, &sb);
	if (!rc)
		rc = add_text(file, source->name, bt_strbuf_str(&sb), sb.len);
	bt_strbuf_fini(&sb);
	return rc;
}

static int check(struct bt_mason_file *file,
		 const struct bt_mason_source *source,
		 struct blktap_error **err)
{
	struct blktap_mason_options options;
	/* the array may move while includes are added to it */
	const char *name = file->texts[0].name, *text = file->texts[0].text;
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int rc;

	blktap_mason_options_init(&options);
	options.next_class = source->next_class;
	options.modules = source->modules;
	options.read = read_include;
	options.read_opaque = file;
	options.defines = (const char *const *)file->defines;
	rc = blktap_mason_check(name, text, file->texts[0].length, &options,
				&file->mason, err);
	if (rc < 0)
		return rc;
	file->graph = bt_mason_get_graph(file->mason);
	/* mistakes are no error of the check itself: the report is the error's
	 * text here */
	if (file->graph)
		return 0;
	bt_strbuf_puts(&sb, blktap_mason_get_report(file->mason));
	while (sb.len && !sb.failed && sb.data[sb.len - 1] == '\n')
		sb.data[--sb.len] = '\0';
	rc = bt_fail(err, -EINVAL, NULL, "%s", bt_strbuf_str(&sb));
	bt_strbuf_fini(&sb);
	return rc;
}

int bt_mason_file_create(const struct bt_mason_source *source,
			 struct bt_mason_file **out, struct blktap_error **err)
{
	struct bt_mason_file *file = calloc(1, sizeof(*file));
	char text[BT_STRERROR_MAX];
	int rc = file ? take_texts(file, source) : -ENOMEM;

	if (!rc)
		rc = copy_defines(file, source->defines);
	if (rc == -E2BIG)
		rc = bt_fail(
			err, -EINVAL,
			"it is text that describes a graph; an image is named "
			"by its type, as in raw:FILE",
			"%s: is larger than 1M, and so no graph's text",
			source->name);
	else if (rc < 0)
		bt_fail(err, rc, NULL, "%s: %s", source->name,
			bt_strerror(rc, text));
	else
		rc = check(file, source, err);
	if (rc < 0) {
		bt_mason_file_destroy(file);
		return rc;
	}
	*out = file;
	return 0;
}

void bt_mason_file_destroy(struct bt_mason_file *file)
{
	uint32_t i;

	if (!file)
		return;
	blktap_mason_destroy(file->mason);
	for (i = 0; i < file->count; i++) {
		free(file->texts[i].name);
		free(file->texts[i].text);
	}
	for (i = 0; file->defines && file->defines[i]; i++)
		free(file->defines[i]);
	free(file->defines);
	free(file->texts);
	free(file);
}
