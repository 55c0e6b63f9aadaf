/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of running graphs, as <blktap/mason.h> offers them: options of the caller's
 * version, whether it is the generation he means, the text, and the answer in words
 * and JSON. What a change does is decided in mason/. */
#include <blktap/mason.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/apply.h"
#include "mason/state.h"
#include "util/json.h"
#include "util/options.h"
#include "vbd/private.h"

#define DEFAULT_DEADLINE_MS 5000u

void blktap_mason_change_init_sized(struct blktap_mason_change *change,
				    size_t size)
{
	struct blktap_mason_change all = { .size = size };

	bt_options_fill(change, size, &all, sizeof(all));
}

static int copy_change(struct blktap_mason_change *out,
		       const struct blktap_mason_change *in,
		       struct blktap_error **err)
{
	blktap_mason_change_init(out);
	if (in && in->size > sizeof(*out))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "the options of a change are of a newer "
			       "version");
	if (in)
		memcpy(out, in, in->size);
	if (!out->deadline_ms)
		out->deadline_ms = DEFAULT_DEADLINE_MS;
	return 0;
}

static int get_run(const struct blktap_disk *disk, struct bt_run **run,
		   struct blktap_error **err)
{
	*run = disk->front.run;
	if (*run)
		return 0;
	return bt_fail(err, -EINVAL,
		       disk->root ? "open it as mason:FILE" : "unpause it",
		       "%s: is not a disk of a running graph", disk->name);
}

static int check_generation(const struct bt_run *run,
			    const struct blktap_mason_change *change,
			    struct blktap_error **err)
{
	if (!change->if_generation || change->if_generation == run->generation)
		return 0;
	return bt_fail(err, -ESTALE, "look at it again: tap-ctl mason dump",
		       "%s: runs generation %llu, and not %llu", run->path,
		       (unsigned long long)run->generation,
		       (unsigned long long)change->if_generation);
}

/* ---- the answer ------------------------------------------------------------ */

static void describe(struct bt_strbuf *out, struct bt_strbuf *text,
		     struct bt_json *json, const struct bt_plan *plan)
{
	bt_json_init(json, out, false);
	bt_json_object(json, NULL);
	bt_json_string(json, "file", plan->run->path);
	bt_plan_put(plan, json);
	bt_plan_print(plan, text);
}

static int finish(struct bt_strbuf *out, struct bt_strbuf *text,
		  struct bt_json *json, uint64_t generation, int64_t pause_us,
		  char **answer)
{
	bt_json_u64(json, "generation", generation);
	bt_json_bool(json, "applied", pause_us >= 0);
	if (pause_us >= 0)
		bt_json_u64(json, "pause_us", (uint64_t)pause_us);
	bt_json_string(json, "text", bt_strbuf_str(text));
	bt_json_object_end(json);
	*answer = bt_strbuf_steal(out);
	/* what was done is done, with or without words for it */
	return *answer || pause_us >= 0 ? 0 : -ENOMEM;
}

/* Takes file over. */
static int change_run(struct bt_run *run, struct bt_mason_file *file,
		      const struct blktap_mason_change *change, char **answer,
		      struct blktap_error **err)
{
	struct bt_apply_options options = {
		.deadline_ms = change->deadline_ms,
		.flags = (change->allow_shrink ? BT_RUN_SHRINK : 0) |
			 (change->allow_loss ? BT_RUN_LOSS : 0),
	};
	struct bt_strbuf out = BT_STRBUF_INIT, text = BT_STRBUF_INIT;
	struct bt_apply_result result = { .generation = run->generation };
	struct bt_plan *plan;
	struct bt_json json;
	char *made = NULL;
	int rc;

	rc = bt_plan_create(run, file, &plan, err);
	if (rc < 0)
		return rc;
	describe(&out, &text, &json, plan);
	if (!change->plan_only)
		rc = bt_apply(plan, &options, &result, err);
	if (!rc)
		rc = finish(&out, &text, &json, result.generation,
			    change->plan_only
				    ? -1
				    : (int64_t)(result.pause_ns / 1000),
			    &made);
	bt_plan_destroy(plan);
	bt_strbuf_fini(&out);
	bt_strbuf_fini(&text);
	if (answer && !rc)
		*answer = made;
	else
		free(made);
	return rc;
}

int blktap_mason_apply(struct blktap_disk *disk, const char *name,
		       const char *text, size_t length,
		       const struct blktap_mason_change *change, char **answer,
		       struct blktap_error **err)
{
	struct bt_mason_source source = {
		.name = name,
		.text = text,
		.length = length,
		.next_class = disk->context->run_ops.next_class,
		.modules = disk->context->modules,
	};
	struct blktap_mason_change opts;
	struct bt_mason_file *file;
	struct bt_run *run = NULL;
	int rc = copy_change(&opts, change, err);

	if (!rc)
		rc = get_run(disk, &run, err);
	if (!rc)
		rc = check_generation(run, &opts, err);
	if (rc < 0)
		return rc;
	source.defines = opts.defines;
	rc = bt_mason_file_create(&source, &file, err);
	return rc < 0 ? rc : change_run(run, file, &opts, answer, err);
}

int blktap_mason_undo(struct blktap_disk *disk,
		      const struct blktap_mason_change *change, char **answer,
		      struct blktap_error **err)
{
	struct bt_mason_source source = {
		.next_class = disk->context->run_ops.next_class,
		.modules = disk->context->modules,
	};
	struct blktap_mason_change opts;
	struct bt_mason_file *file;
	struct bt_state state;
	struct bt_run *run = NULL;
	int rc = copy_change(&opts, change, err);

	if (!rc)
		rc = get_run(disk, &run, err);
	if (!rc)
		rc = check_generation(run, &opts, err);
	if (!rc)
		rc = bt_state_read(run->path, &state, err);
	if (rc < 0)
		return rc;
	if (!rc || !state.old_count) {
		if (rc)
			bt_state_fini(&state);
		return bt_fail(err, -ENOENT, NULL,
			       "%s: there is no generation before this one",
			       run->path);
	}
	source.name = state.old_texts[0].name;
	source.texts = state.old_texts;
	source.text_count = state.old_count;
	source.defines = (const char *const *)state.old_defines;
	rc = bt_mason_file_create(&source, &file, err);
	bt_state_fini(&state);
	return rc < 0 ? rc : change_run(run, file, &opts, answer, err);
}

uint64_t blktap_mason_get_generation(const struct blktap_disk *disk)
{
	return disk->front.run ? disk->front.run->generation : 0;
}

int blktap_mason_dump(const struct blktap_disk *disk, char **out,
		      struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_run *run;
	int rc = get_run(disk, &run, err);

	if (rc < 0)
		return rc;
	bt_run_dump(run, &sb);
	*out = bt_strbuf_steal(&sb);
	return *out ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

int blktap_mason_dot_disk(const struct blktap_disk *disk, char **out,
			  struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_run *run;
	int rc = get_run(disk, &run, err);

	if (rc < 0)
		return rc;
	bt_mason_draw(run->file->graph, run->nodes, &sb);
	*out = bt_strbuf_steal(&sb);
	return *out ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}
