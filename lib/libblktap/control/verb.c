/* SPDX-License-Identifier: BSD-3-Clause */
/* Verbs by name. A new one is a line in the table and its function, which gets
 * parameters by bt_wire_params_get and answers JSON. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/json.h"
#include "vbd/vbd.h"

/* A text inside of the trailer, which lives as long as the request. */
const char *bt_verb_param(const struct bt_conn *conn, const char *key)
{
	size_t length;
	const uint8_t *data = bt_conn_trailer(conn, &length);

	return bt_wire_params_get((const char *)data, length, key);
}

/* What a person would call the bits of BLKTAP_STATE_*. */
static void put_state(struct bt_json *json, const struct bt_tap *tap)
{
	uint32_t state = bt_tap_get_state(tap);

	bt_json_string(json, "state",
		       state & BLKTAP_STATE_PAUSED	      ? "paused"
		       : state & BLKTAP_STATE_PAUSE_REQUESTED ? "pausing"
		       : state & BLKTAP_STATE_CLOSED	      ? "closed"
		       : tap->disk			      ? "running"
							      : "attached");
}

/* What the kernel's device is like, and what it costs. */
static void put_ring(struct bt_json *json, const struct blktap_ring *ring)
{
	struct blktap_ring_info info = { .size = sizeof(info) };

	blktap_ring_get_info(ring, &info);
	bt_json_string(json, "device", blktap_ring_get_path(ring));
	bt_json_object(json, "ring");
	bt_json_string(json, "state",
		       info.state == BLKTAP_RING_SERVING  ? "serving"
		       : info.state == BLKTAP_RING_FAILED ? "failed"
							  : "removed");
	bt_json_bool(json, "taken_over", info.taken_over);
	bt_json_u64(json, "queues", info.queues);
	bt_json_u64(json, "depth", info.depth);
	bt_json_u64(json, "slot_bytes", info.slot_bytes);
	bt_json_u64(json, "recovery_ms", info.recovery_ms);
	bt_json_u64(json, "requests", info.requests);
	bt_json_u64(json, "enters", info.enters);
	bt_json_object_end(json);
}

/* Of this moment. Clients are those of both addresses; an export's are its own.
 */
static void put_disk(struct bt_json *json, const struct bt_tap *tap)
{
	struct blktap_disk_stats stats = { .size = sizeof(stats) };
	struct blktap_disk_info info = { .size = sizeof(info) };
	uint32_t clients = 0;

	blktap_disk_get_info(tap->disk, &info);
	blktap_disk_get_stats(tap->disk, &stats);
	bt_json_u64(json, "size", info.length);
	bt_json_u64(json, "block_size", info.block_size);
	bt_json_bool(json, "read_only", info.read_only);
	bt_json_u64(json, "outstanding", stats.outstanding);
	bt_json_array(json, "uris");
	if (tap->nbd) {
		bt_json_string(json, NULL, blktap_nbd_server_get_uri(tap->nbd));
		clients += blktap_nbd_server_get_clients(tap->nbd);
	}
	if (tap->tcp) {
		bt_json_string(json, NULL, blktap_nbd_server_get_uri(tap->tcp));
		clients += blktap_nbd_server_get_clients(tap->tcp);
	}
	bt_json_array_end(json);
	bt_json_u64(json, "clients", clients);
	bt_exports_put(tap, json);
	if (tap->ring)
		put_ring(json, tap->ring);
}

/* Of the process, where no minor was named. */
static void put_tapdisk(struct bt_json *json,
			const struct blktap_control_server *server)
{
	struct bt_list *pos;
	uint64_t taps = 0;

	bt_list_for_each (pos, &server->taps)
		taps++;
	bt_json_string(json, "version", blktap_version());
	bt_json_i64(json, "pid", server->pid);
	bt_json_string(json, "rundir", server->dir.path);
	bt_json_string(json, "engine",
		       blktap_context_get_engine(server->context));
	bt_json_u64(json, "minors", taps);
	bt_json_u64(json, "connections", server->conn_count);
}

/* Harmless while the tap is busy: it asks nothing that waits. */
static int verb_info(struct bt_conn *conn, struct bt_tap *tap,
		     struct bt_strbuf *out, struct blktap_error **err)
{
	struct bt_json json;

	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	if (!tap) {
		put_tapdisk(&json, conn->server);
	} else {
		put_state(&json, tap);
		if (tap->disk)
			put_disk(&json, tap);
	}
	bt_json_object_end(&json);
	return 0;
}

int bt_verb_no_image(const struct bt_tap *tap, struct blktap_error **err)
{
	return bt_fail(err, -ENODEV, "open one first: tap-ctl open",
		       "minor %d: no image is open: %s", tap->minor,
		       STRERROR(-ENODEV));
}

/* As much as `tap-ctl stats` has, and every node of the graph beside. */
static int verb_stats(struct bt_conn *conn, struct bt_tap *tap,
		      struct bt_strbuf *out, struct blktap_error **err)
{
	char *text;

	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	text = blktap_disk_get_stats_json(tap->disk, false);
	if (!text)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	bt_strbuf_puts(out, text);
	free(text);
	return 0;
}

/* Looks up the address's host, and so may wait. */
static int verb_serve(struct bt_conn *conn, struct bt_tap *tap,
		      struct bt_strbuf *out, struct blktap_error **err)
{
	const char *address = bt_verb_param(conn, "tcp");
	struct bt_tap_tls tls = {
		.mode = bt_verb_param(conn, "tls"),
		.certificates = bt_verb_param(conn, "tls-certificates"),
		.psk = bt_verb_param(conn, "tls-psk"),
		.verify_peer = bt_verb_param(conn, "tls-verify-peer"),
	};
	struct bt_json json;
	int rc;

	if (!address)
		address = bt_verb_param(conn, "tls-tcp");
	else if (tls.mode || tls.certificates || tls.psk || tls.verify_peer)
		return bt_fail(err, -EINVAL, "give tls-tcp=HOST:PORT",
			       "verb 'serve': tcp= is without TLS");
	if (!address)
		return bt_fail(err, -EINVAL, "give tcp=HOST:PORT",
			       "verb 'serve': no address");
	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	rc = bt_tap_serve_tcp(tap, address, &tls, err);
	if (rc)
		return rc;
	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	bt_json_string(&json, "uri", blktap_nbd_server_get_uri(tap->tcp));
	bt_json_object_end(&json);
	return 0;
}

/* timeout is in seconds. As much as the old message has room for. */
static int read_timeout(const struct bt_conn *conn, uint32_t *ms,
			struct blktap_error **err)
{
	const char *text = bt_verb_param(conn, "timeout");
	char *end = NULL;
	unsigned long s = text ? strtoul(text, &end, 10) : 0;

	*ms = (uint32_t)s * 1000u;
	if (!text || (*text >= '0' && *text <= '9' && !*end && s <= UINT16_MAX))
		return 0;
	return bt_fail(err, -EINVAL, "give seconds",
		       "timeout '%s' is no number", text);
}

/* *path is where what was in the image is now; the disk's own name stays. */
static int verb_snapshot(struct bt_conn *conn, struct bt_tap *tap,
			 struct bt_strbuf *out, struct blktap_error **err)
{
	struct blktap_disk_stats stats = { .size = sizeof(stats) };
	struct bt_json json;
	char *path = NULL;
	uint32_t ms;
	int rc = read_timeout(conn, &ms, err);

	if (rc)
		return rc;
	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	rc = blktap_disk_snapshot(tap->disk, bt_verb_param(conn, "name"), ms,
				  &path, err);
	if (rc)
		return rc;
	blktap_disk_get_stats(tap->disk, &stats);
	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	bt_json_string(&json, "snapshot", path);
	bt_json_string(&json, "args", blktap_disk_get_spec(tap->disk));
	bt_json_u64(&json, "pause_us", stats.last_pause_ns / 1000);
	bt_json_object_end(&json);
	free(path);
	return 0;
}

/* The minor is free for another tapdisk once this is answered. Where it cannot be
 * handed over, the disk goes on here. */
static int verb_handover(struct bt_conn *conn, struct bt_tap *tap,
			 struct bt_strbuf *out, struct blktap_error **err)
{
	struct blktap_control_server *server = conn->server;
	int rc;

	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	rc = bt_tap_hand_over(tap, &conn->gone, err);
	/* the device is let go once the disk is closed, however that went: kept
	 * here, no other tapdisk could have it */
	if (tap->disk)
		return rc;
	bt_tap_detach(server, tap, false);
	if (bt_list_empty(&server->taps))
		bt_command_finish(server);
	bt_strbuf_puts(out, "{}");
	return rc;
}

/* Only larger: what a disk of less would lose is the library's to refuse. */
static int verb_resize(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err)
{
	struct blktap_disk_stats stats = { .size = sizeof(stats) };
	struct blktap_disk_info info = { .size = sizeof(info) };
	const char *text = bt_verb_param(conn, "size");
	struct bt_json json;
	uint64_t size;
	uint32_t ms;
	int rc = read_timeout(conn, &ms, err);

	if (rc)
		return rc;
	if (!text || bt_parse_size(text, &size))
		return bt_fail(err, -EINVAL, "give bytes, or e.g. 10G",
			       "verb 'resize': '%s' is no size",
			       text ? text : "");
	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	rc = blktap_disk_resize(tap->disk, size, ms, err);
	if (rc)
		return rc;
	blktap_disk_get_info(tap->disk, &info);
	blktap_disk_get_stats(tap->disk, &stats);
	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	bt_json_u64(&json, "size", info.length);
	bt_json_u64(&json, "pause_us", stats.last_pause_ns / 1000);
	bt_json_object_end(&json);
	return 0;
}

static int verb_help(struct bt_conn *conn, struct bt_tap *tap,
		     struct bt_strbuf *out, struct blktap_error **err);

static const struct bt_verb verbs[] = {
	{ "handover", verb_handover, true, true,
	  "leaves the block device to the next tapdisk, and detaches" },
	{ "help", verb_help, false, false, "lists the verbs" },
	{ "info", verb_info, false, false,
	  "describes the tapdisk, or a minor's disk" },
	{ "job", bt_verb_job, true, false,
	  "long work on the disk: do=start|list|pause|resume|cancel|rate, "
	  "kind=, base=, rate=, state=" },
	{ "mason-apply", bt_verb_mason_apply, true, true,
	  "changes the disk's graph: file=, if-gen=, deadline-ms=, "
	  "allow-shrink=, allow-loss=, plan=, define0=.." },
	{ "mason-deps", bt_verb_mason_deps, false, false,
	  "which disks stand on a file: file=" },
	{ "mason-dot", bt_verb_mason_dot, true, false,
	  "draws the disk's graph with its figures" },
	{ "mason-dump", bt_verb_mason_dump, true, false,
	  "the disk's graph as a file" },
	{ "mason-undo", bt_verb_mason_undo, true, true,
	  "goes back to the graph before: if-gen=, deadline-ms=" },
	{ "resize", verb_resize, true, true,
	  "makes the disk larger: size=, timeout=" },
	{ "serve", verb_serve, true, true,
	  "offers the disk on another address: tcp=HOST:PORT, or "
	  "tls-tcp=HOST:PORT, tls=, tls-certificates=, tls-psk=, "
	  "tls-verify-peer=1" },
	{ "snapshot", verb_snapshot, true, true,
	  "keeps what is in the image under another name: name=, timeout=" },
	{ "stats", verb_stats, true, false,
	  "counters and latencies of the disk and all its nodes" },
};

static int verb_help(struct bt_conn *conn, struct bt_tap *tap,
		     struct bt_strbuf *out, struct blktap_error **err)
{
	struct bt_json json;
	size_t i;

	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	for (i = 0; i < BT_ARRAY_SIZE(verbs); i++)
		bt_json_string(&json, verbs[i].name, verbs[i].help);
	bt_json_object_end(&json);
	return 0;
}

/* A dozen, looked up once a request. */
const struct bt_verb *bt_verb_find(const char *name)
{
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* The parameters are checked here, so a verb may take them as they are. */
void bt_verb_run(struct bt_conn *conn, const struct bt_verb *verb,
		 struct bt_tap *tap)
{
	struct bt_message msg = { .type = BT_WIRE_EXT_RSP,
				  .cookie = conn->msg.cookie };
	struct bt_strbuf json = BT_STRBUF_INIT;
	struct blktap_error *err = NULL;
	size_t length;
	const uint8_t *data = bt_conn_trailer(conn, &length);
	int rc = bt_wire_params_check((const char *)data, length);

	if (rc)
		bt_fail(&err, rc, "send key=value texts, each with a NUL",
			"verb '%s': its parameters are malformed", verb->name);
	else
		rc = verb->fn(conn, tap, &json, &err);
	if (!rc && json.failed)
		rc = bt_fail(&err, -ENOMEM, NULL, "out of memory");
	if (rc) {
		bt_conn_error(conn, rc, err);
	} else {
		msg.u.ext.version = BT_WIRE_EXT_VERSION;
		msg.u.ext.length = (uint32_t)json.len;
		memcpy(msg.u.ext.verb, conn->msg.u.ext.verb,
		       sizeof(msg.u.ext.verb));
		bt_conn_reply(conn, &msg, json.data, json.len);
	}
	bt_strbuf_fini(&json);
}
