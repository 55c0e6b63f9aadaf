/* SPDX-License-Identifier: BSD-3-Clause */
/* The exports of a tap's graph, each a disk of its own with an NBD server of its
 * own, at export<pid>.<minor>.<name> in the runtime directory. They come with the
 * tap's disk, go with it, and follow each change of its graph.
 *
 * Where two taps have disks of one file, the exports belong to the one that was
 * opened first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "util/json.h"
#include "vbd/vbd.h"

struct bt_tap_export {
	struct bt_list link; /* in tap->exports */
	char *name;
	struct blktap_disk *disk;
	struct blktap_nbd_server *nbd;
};

static struct bt_tap_export *entry(struct bt_list *pos)
{
	return bt_list_entry(pos, struct bt_tap_export, link);
}

/* Its clients lose their connections. The server first, whose clients' requests
 * are the disk's. What the last flush said is returned. */
static int close_one(struct bt_tap_export *export)
{
	int rc;

	bt_list_del(&export->link);
	blktap_nbd_server_destroy(export->nbd);
	rc = blktap_disk_close(export->disk);
	free(export->name);
	free(export);
	return rc;
}

/* By its name, which is one in a graph. */
static bool is_served(struct bt_tap *tap, const char *name)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &tap->exports)
		if (!strcmp(entry(pos)->name, name))
			return true;
	return false;
}

/* Names may hold anything; this cannot leave the directory. */
static int make_path(const struct blktap_control_server *server,
		     const struct bt_tap *tap, const char *name,
		     char path[BT_SUN_PATH], struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	int rc = 0;

	bt_strbuf_printf(&sb, "%s/export%d.%d.", server->dir.path,
			 (int)server->pid, tap->minor);
	bt_strbuf_put_escaped(&sb, name, "-_.");
	if (sb.failed)
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	else if (sb.len >= BT_SUN_PATH)
		rc = bt_fail(err, -ENAMETOOLONG, "give it a shorter name",
			     "export '%s': the path of its socket has %zu "
			     "bytes, and %zu are possible",
			     name, sb.len, BT_SUN_PATH - 1);
	else
		memcpy(path, sb.data, sb.len + 1);
	bt_strbuf_fini(&sb);
	return rc;
}

/* The disk is opened by its name in the graph that the tap's disk has, so both
 * have the nodes in common. */
static int serve_one(const struct blktap_control_server *server,
		     struct bt_tap *tap, const char *name,
		     struct blktap_error **err)
{
	struct blktap_nbd_options options;
	struct bt_tap_export *export;
	char path[BT_SUN_PATH];
	int rc = make_path(server, tap, name, path, err);

	if (rc)
		return rc;
	export = calloc(1, sizeof(*export));
	if (export)
		export->name = strdup(name);
	if (!export || !export->name) {
		free(export);
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	}
	rc = bt_vbd_open_export(tap->disk, name, &export->disk, err);
	blktap_nbd_options_init(&options);
	options.unix_path = path;
	options.export_name = name;
	if (!rc)
		rc = blktap_nbd_server_create(export->disk, &options,
					      &export->nbd, err);
	if (rc) {
		bt_list_init(&export->link);
		close_one(export);
		return rc;
	}
	bt_list_add_tail(&tap->exports, &export->link);
	return 0;
}

/* What a change of the graph has left out. */
static void drop_gone(struct bt_tap *tap)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, &tap->exports)
		if (bt_vbd_is_gone(entry(pos)->disk))
			close_one(entry(pos));
}

/* All are tried; the first error is the one that is returned, and each is
 * logged. */
int bt_exports_serve(struct blktap_control_server *server, struct bt_tap *tap,
		     struct blktap_error **err)
{
	const char *name;
	uint32_t i;
	int rc, first = 0;

	drop_gone(tap);
	for (i = 0; (name = bt_vbd_get_export(tap->disk, i)); i++) {
		struct blktap_error *why = NULL;

		if (is_served(tap, name))
			continue;
		rc = serve_one(server, tap, name, &why);
		if (rc == -EBUSY) /* somebody has opened it by its name */
			rc = 0;
		if (rc)
			bt_log(server->log, BLKTAP_LOG_WARNING,
			       "minor %d: export '%s' is not served: %s",
			       tap->minor, name,
			       why ? blktap_error_get_message(why) : "");
		if (rc && !first) {
			first = rc;
			bt_fail(err, rc,
				why ? blktap_error_get_hint(why) : NULL,
				"export '%s': %s", name,
				why ? blktap_error_get_message(why) : "");
		}
		blktap_error_destroy(why);
	}
	return first;
}

/* Before the tap's own disk, which has nodes in common with them. */
int bt_exports_close(struct bt_tap *tap)
{
	int rc, first = 0;

	while (!bt_list_empty(&tap->exports)) {
		rc = close_one(entry(tap->exports.next));
		if (!first)
			first = rc;
	}
	return first;
}

struct flush {
	bool done;
	int error;
};

static void on_flushed(void *opaque, int error)
{
	struct flush *flush = opaque;

	flush->done = true;
	flush->error = error;
}

static bool is_flushed(void *opaque)
{
	return ((struct flush *)opaque)->done;
}

static int flush_one(struct blktap_disk *disk)
{
	struct flush flush = { false, 0 };
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_FLUSH,
		.callback = on_flushed,
		.opaque = &flush,
	};
	int rc;

	blktap_disk_get_info(disk, &info);
	if (info.read_only)
		return 0;
	rc = blktap_disk_submit(disk, &io);
	if (!rc)
		rc = bt_loop_run_until(bt_vbd_get_env(disk)->loop, is_flushed,
				       &flush, -1);
	return rc ? rc : flush.error;
}

int bt_exports_flush(struct bt_tap *tap)
{
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &tap->exports) {
		rc = flush_one(entry(pos)->disk);
		if (rc)
			break;
	}
	return rc;
}

/* For the verb info. */
void bt_exports_put(const struct bt_tap *tap, struct bt_json *json)
{
	struct bt_list *pos;

	bt_json_array(json, "exports");
	bt_list_for_each (pos, &((struct bt_tap *)tap)->exports) {
		bt_json_object(json, NULL);
		bt_json_string(json, "name", entry(pos)->name);
		bt_json_string(json, "uri",
			       blktap_nbd_server_get_uri(entry(pos)->nbd));
		bt_json_u64(json, "clients",
			    blktap_nbd_server_get_clients(entry(pos)->nbd));
		bt_json_object_end(json);
	}
	bt_json_array_end(json);
}
