/* SPDX-License-Identifier: BSD-3-Clause */
/* Where images and Block Mason meet: a disk's spec names an image, with what it
 * stands on, or a disk of a file. The graphs of files belong to the context, so
 * that disks of one file share what they have in common. */
#include "vbd/private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "image/image.h"
#include "mason/state.h"
#include "util/strbuf.h"

static const struct blktap_param params[] = {
	{ .name = "path",
	  .type = BLKTAP_PARAM_PATH,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "the file that describes the graph" },
	{ .name = "disk",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .help = "which of the file's disks and exports" },
	{ .name = NULL },
};

/* Not in the table of classes: a file describes nodes, and is none. */
static const struct blktap_class mason_class = {
	.name = "mason",
	.summary = "a disk of a graph that a file describes",
	.params = params,
	.legacy_type = -1,
};

static bool is_mason(const char *spec)
{
	return !strncmp(spec, "mason", 5) && (spec[5] == ':' || spec[5] == '(');
}

/* Its path is resolved (enter), so links and ./ lead to one run. */
static struct bt_run *find_run(struct blktap_context *context, const char *path)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &context->runs) {
		struct bt_run *run = bt_list_entry(pos, struct bt_run, link);

		if (!strcmp(run->path, path))
			return run;
	}
	return NULL;
}

/* What ran last, where the graph was ever changed; else what the file says. */
static int load(struct blktap_context *context, const char *path,
		struct bt_mason_file **file, uint64_t *generation,
		struct blktap_error **err)
{
	struct bt_mason_source source = {
		.name = path,
		.next_class = context->run_ops.next_class,
		.modules = context->modules,
	};
	struct bt_state state;
	int rc = bt_state_read(path, &state, err);

	*generation = 1;
	if (rc < 0)
		return rc;
	if (!rc)
		return bt_mason_file_create(&source, file, err);
	if (bt_state_is_stale(path, &state))
		bt_log(&context->log, BLKTAP_LOG_WARNING,
		       "%s: has changed since generation %llu, which runs: "
		       "apply it",
		       path, (unsigned long long)state.generation);
	*generation = state.generation;
	source.name = state.texts[0].name;
	source.texts = state.texts;
	source.text_count = state.count;
	source.defines = (const char *const *)state.defines;
	rc = bt_mason_file_create(&source, file, err);
	bt_state_fini(&state);
	return rc;
}

static int start_run(struct blktap_context *context, const char *path,
		     struct bt_run **out, struct blktap_error **err)
{
	struct bt_mason_file *file;
	uint64_t generation;
	int rc = load(context, path, &file, &generation, err);

	if (!rc)
		rc = bt_run_create(&context->env, &context->run_ops, path, file,
				   out, err);
	if (rc < 0)
		return rc;
	(*out)->generation = generation;
	bt_list_add_tail(&context->runs, &(*out)->link);
	return 0;
}

/* The last disk has left: files are closed, and their locks given up. */
static void drop_unused(struct bt_run *run)
{
	if (bt_list_empty(&run->fronts))
		bt_run_destroy(run);
}

/* By the resolved name: two disks that come by two names share one graph, or each
 * would write to the same files. A run that nobody entered in the end goes. */
static int enter(struct blktap_disk *disk, const struct bt_args *args,
		 struct bt_node **root, struct blktap_error **err)
{
	const char *name = bt_args_string(args, "path");
	char *path = realpath(name, NULL), text[BT_STRERROR_MAX];
	struct bt_run *run;
	int rc = path ? 0 : -errno;

	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: %s", name,
			       bt_strerror(rc, text));
	run = find_run(disk->context, path);
	if (!run)
		rc = start_run(disk->context, path, &run, err);
	free(path);
	if (rc < 0)
		return rc;
	disk->front.flags = disk->open_flags;
	disk->front.top = &disk->top;
	disk->front.owner = disk;
	rc = bt_run_enter(run, &disk->front, bt_args_string(args, "disk"), root,
			  err);
	drop_unused(run);
	return rc;
}

int bt_graph_open(struct blktap_disk *disk, const char *spec,
		  struct bt_node **root, struct blktap_error **err)
{
	struct bt_args *args;
	int rc;

	disk->front.read_only = false;
	if (!is_mason(spec))
		return bt_image_open(&disk->context->env, spec,
				     disk->open_flags, root, err);
	rc = bt_spec_parse_as(&mason_class, spec, &args, err);
	if (rc < 0)
		return rc;
	rc = enter(disk, args, root, err);
	bt_args_destroy(args);
	return rc;
}

/* The top edge leads to the node by now; the run says to which of its upper ends. */
void bt_graph_linked(struct blktap_disk *disk)
{
	if (disk->front.run)
		bt_run_link(&disk->front);
}

void bt_graph_leaving(struct blktap_disk *disk)
{
	if (disk->front.run)
		bt_run_leaving(&disk->front);
}

void bt_graph_close(struct blktap_disk *disk, struct bt_node *root)
{
	struct bt_run *run = disk->front.run;

	if (!run) {
		bt_node_destroy(root);
		return;
	}
	bt_run_leave(&disk->front);
	drop_unused(run);
}

/* ---- exports --------------------------------------------------------------- */

const char *bt_vbd_get_export(const struct blktap_disk *disk, uint32_t index)
{
	const struct bt_mason_graph *graph;
	uint32_t i;

	if (!disk->front.run)
		return NULL;
	graph = disk->front.run->file->graph;
	if (strcmp(graph->nodes[disk->front.index]->cls->name, "disk"))
		return NULL;
	for (i = 0; i < graph->count; i++)
		if (!strcmp(graph->nodes[i]->cls->name, "export") && !index--)
			return bt_args_string(graph->nodes[i]->args, "name");
	return NULL;
}

int bt_vbd_open_export(struct blktap_disk *disk, const char *name,
		       struct blktap_disk **out, struct blktap_error **err)
{
	struct bt_strbuf spec = BT_STRBUF_INIT;
	struct blktap_disk_options options;
	char *text;
	int rc;

	blktap_disk_options_init(&options);
	options.flags = disk->open_flags;
	options.name = name;
	bt_strbuf_puts(&spec, "mason(");
	bt_strbuf_quote(&spec, disk->front.run->path,
			strlen(disk->front.run->path));
	bt_strbuf_puts(&spec, ", disk=");
	bt_strbuf_quote(&spec, name, strlen(name));
	bt_strbuf_puts(&spec, ")");
	text = bt_strbuf_steal(&spec);
	if (!text)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = blktap_disk_open(disk->context, text, &options, out, err);
	free(text);
	/* nobody but us opened it, so a change of the file may take it away */
	if (!rc)
		(*out)->front.may_go = true;
	return rc;
}

bool bt_vbd_is_gone(const struct blktap_disk *disk)
{
	return disk->closing && !disk->root;
}

void bt_graphs_init(struct blktap_context *context)
{
	bt_list_init(&context->runs);
	context->run_ops = (struct bt_run_ops){
		.check = bt_front_check,
		.prepare = bt_front_prepare,
		.narrow = bt_front_narrow,
		.widen = bt_front_widen,
		.commit = bt_front_commit,
		.gone = bt_front_gone,
		.done = bt_front_done,
		.where = bt_front_where,
		.open_leaf = bt_image_open_node,
		.next_class = blktap_class_next,
	};
}
