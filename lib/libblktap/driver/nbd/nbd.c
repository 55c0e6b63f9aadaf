/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd: a disk that another program serves over NBD. nbd.h says how its parts go
 * together. Opening it looks up names and waits for the server, as other drivers
 * wait for their files; after that nothing waits. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/driver.h"
#include "port/args.h"
#include "tls/tls.h"
#include "util/json.h"

/* Arguments and messages count in ms, timers in ns. */
#define NS_PER_MS 1000000ull

static const struct blktap_param nbd_params[] = {
	{ .name = "uri",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "nbd://host:port/export or nbd+unix:///export?socket=/path; "
		  "nbds is with TLS" },
	{ .name = "export",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_IDENTITY,
	  .help = "the name of the export, where it is not in the URI" },
	{ .name = "connections",
	  .type = BLKTAP_PARAM_INT,
	  .fallback = "1",
	  .min = 1,
	  .max = BT_NBDC_CONNS,
	  .help = "to use at once, where the server says they see one disk" },
	{ .name = "reconnect",
	  .type = BLKTAP_PARAM_DURATION,
	  .fallback = "30s",
	  .max = 86400000 * NS_PER_MS,
	  .help = "how long requests wait for a lost server; 0 fails them at "
		  "once" },
	{ .name = "timeout",
	  .type = BLKTAP_PARAM_DURATION,
	  .fallback = "60s",
	  .min = 10 * NS_PER_MS,
	  .max = 86400000 * NS_PER_MS,
	  .help = "how long a server that owes answers may be silent; to "
		  "connect it has this or 10s, whichever is less" },
	{ .name = "unflushed",
	  .type = BLKTAP_PARAM_ENUM,
	  .fallback = "trust",
	  .choices = "trust|fail|never",
	  .help = "what a lost server means for writes it answered and did not "
		  "flush: trust it has them; fail every flush from then on; "
		  "never have such writes, by sending all with FUA" },
	{ .name = "ro",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "open read-only" },
	{ .name = "tls_certificates",
	  .type = BLKTAP_PARAM_PATH,
	  .help = "a directory: ca-cert.pem says whom to believe; "
		  "client-cert.pem and client-key.pem, where they are there, "
		  "who we are" },
	{ .name = "tls_psk",
	  .type = BLKTAP_PARAM_PATH,
	  .help = "a file of keys that both sides know, user:hex" },
	{ .name = "tls_user",
	  .type = BLKTAP_PARAM_STRING,
	  .help = "whose key of these, where it is not in the URI" },
	{ .name = "tls_hostname",
	  .type = BLKTAP_PARAM_STRING,
	  .help = "the name in the server's certificate, where it is another "
		  "than the URI's" },
	{ .name = "tls_verify_peer",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "true",
	  .help = "believe no certificate that does not check; false: whoever "
		  "answers" },
	{ .name = NULL },
};

/* Before anything is opened, so a graph's check finds it. */
static int check_args(const struct bt_args *args, struct blktap_error **err)
{
	const char *export = bt_args_string(args, "export");
	const char *text = bt_args_string(args, "uri");
	struct bt_nbdc_uri uri;
	int rc = bt_nbdc_uri_parse(text, &uri, err);

	if (rc < 0)
		return rc;
	if (export && strlen(export) > NBD_STRING_MAX)
		rc = bt_fail(err, -ENAMETOOLONG, NULL,
			     "nbd: the export's name is longer than %u bytes",
			     NBD_STRING_MAX);
	else if (export && *uri.export && strcmp(export, uri.export))
		rc = bt_fail(err, -EINVAL, "give one of them",
			     "nbd: '%s' and export=%s name two exports", text,
			     export);
	else
		rc = bt_nbdc_tls_check(args, &uri, err);
	bt_nbdc_uri_fini(&uri);
	return rc;
}

/* ---- open ----------------------------------------------------------------- */

/* Requests fail from now on, but the connections go on trying: became_up ends
 * the failing. */
static void on_deadline(struct bt_timer *timer)
{
	struct bt_nbdc *nbd = bt_container_of(timer, struct bt_nbdc, deadline);

	bt_log(nbd->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: the server did not come back within %llu ms: requests fail "
	       "until it does",
	       nbd->name, (unsigned long long)(nbd->reconnect_ns / NS_PER_MS));
	nbd->failing = true;
	bt_nbdc_fail_all(nbd);
}

/* What needs no memory; from here on release is harmless. */
static void init(struct bt_nbdc *nbd, struct bt_node *node,
		 const struct bt_args *args)
{
	const char *unflushed = bt_args_string(args, "unflushed");

	nbd->node = node;
	nbd->loop = node->env->loop;
	nbd->reconnect_ns = bt_args_number(args, "reconnect");
	nbd->timeout_ns = bt_args_number(args, "timeout");
	nbd->fail_unflushed = !strcmp(unflushed, "fail");
	nbd->fua_always = !strcmp(unflushed, "never");
	bt_list_init(&nbd->free);
	bt_list_init(&nbd->ready);
	bt_list_init(&nbd->waiting);
	bt_timer_init(&nbd->deadline, on_deadline);
}

/* All the memory that the node will ever need. On failure release frees what
 * there is. */
static int allocate(struct bt_nbdc *nbd, const struct bt_args *args,
		    struct blktap_error **err)
{
	uint32_t i, count = (uint32_t)bt_args_number(args, "connections");
	int rc = 0;

	nbd->calls = calloc(BT_NBDC_CALLS, sizeof(*nbd->calls));
	nbd->conns = calloc(count, sizeof(*nbd->conns));
	if (!nbd->calls || !nbd->conns)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       nbd->name);
	for (i = 0; i < BT_NBDC_CALLS; i++)
		bt_list_add_tail(&nbd->free, &nbd->calls[i].link);
	nbd->conn_count = count;
	for (i = 0; i < count && !rc; i++)
		rc = bt_nbdc_conn_init(nbd, &nbd->conns[i], i);
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: out of memory", nbd->name)
		      : 0;
}

/* Connections first: they say good-bye. */
static void release(struct bt_nbdc *nbd)
{
	uint32_t i;

	for (i = 0; nbd->conns && i < nbd->conn_count; i++)
		bt_nbdc_conn_fini(&nbd->conns[i]);
	bt_timer_cancel(&nbd->deadline);
	bt_tls_creds_destroy(nbd->tls);
	bt_nbdc_uri_fini(&nbd->uri);
	free(nbd->conns);
	free(nbd->calls);
}

/* The first connection says what the disk is like and whether it may have more.
 * Only where the server says that its connections see one cache may writes on
 * one and a flush on another go together. */
static void settle(struct bt_nbdc *nbd, bool read_only)
{
	const struct bt_log *log = nbd->node->env->log;
	uint16_t flags = nbd->info.flags;
	uint32_t i;

	nbd->read_only = read_only || flags & NBD_FLAG_READ_ONLY;
	if (nbd->conn_count > 1 && !(flags & NBD_FLAG_CAN_MULTI_CONN)) {
		bt_log(log, BLKTAP_LOG_INFO,
		       "%s: the server does not say that several connections "
		       "see one disk: one is used",
		       nbd->name);
		for (i = 1; i < nbd->conn_count; i++)
			bt_nbdc_conn_fini(&nbd->conns[i]);
		nbd->conn_count = 1;
	}
	if (!nbd->read_only && !(flags & NBD_FLAG_SEND_FLUSH))
		bt_log(log, BLKTAP_LOG_WARNING,
		       "%s: the server cannot flush: nobody knows when a write "
		       "is durable",
		       nbd->name);
	if (nbd->fua_always && !(flags & NBD_FLAG_SEND_FUA))
		bt_log(log, BLKTAP_LOG_WARNING,
		       "%s: the server has no FUA: unflushed=never is trust",
		       nbd->name);
	for (i = 1; i < nbd->conn_count; i++)
		bt_nbdc_start(&nbd->conns[i]);
}

/* Also what a test needs of an open that has a server of its own. */
int bt_nbdc_prepare(struct bt_node *node, const struct bt_args *args,
		    struct blktap_error **err)
{
	struct bt_nbdc *nbd = node->data;
	int rc = check_args(args, err);

	if (rc < 0)
		return rc;
	init(nbd, node, args);
	rc = bt_nbdc_uri_parse(bt_args_string(args, "uri"), &nbd->uri, err);
	nbd->name = nbd->uri.text;
	nbd->export = bt_args_string(args, "export");
	if (!nbd->export)
		nbd->export = nbd->uri.export;
	if (!rc)
		rc = allocate(nbd, args, err);
	if (!rc)
		rc = bt_nbdc_tls_prepare(nbd, args, err);
	if (rc < 0)
		release(nbd);
	return rc;
}

/* Only the first connection is waited for; the others come when they come. */
static int nbd_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	struct bt_nbdc *nbd = node->data;
	int rc = bt_nbdc_prepare(node, args, err);

	if (rc < 0)
		return rc;
	rc = bt_nbdc_resolve(nbd, err);
	if (!rc)
		rc = bt_nbdc_connect_first(&nbd->conns[0], err);
	if (rc < 0) {
		release(nbd);
		return rc;
	}
	settle(nbd, flags & BLKTAP_OPEN_READ_ONLY || bt_args_bool(args, "ro"));
	return 0;
}

/* Nothing is in flight. It says good-bye and does not wait for an answer. */
static void nbd_close(struct bt_node *node)
{
	release(node->data);
}

/* What init and allocate take, for a check that opens nothing. */
static uint64_t nbd_get_memory(const struct bt_args *args, uint64_t size,
			       uint32_t edges)
{
	bool is_tls = !strncmp(bt_args_string(args, "uri"), "nbds", 4);

	(void)size;
	(void)edges;
	return sizeof(struct bt_nbdc) +
	       BT_NBDC_CALLS * sizeof(struct bt_nbdc_call) +
	       bt_args_number(args, "connections") *
		       (sizeof(struct bt_nbdc_conn) + BT_NBDC_BUFFER +
			2 * NBD_STRING_MAX + (is_tls ? BT_TLS_MEMORY : 0));
}

/* violations: how often a server broke the protocol. Anything but 0 is worth a
 * look. */
static void nbd_get_status(struct bt_node *node, struct bt_json *json,
			   bool legacy)
{
	struct bt_nbdc *nbd = node->data;
	uint32_t i, in_flight = 0;

	for (i = 0; i < nbd->conn_count; i++)
		in_flight += nbd->conns[i].in_flight;
	bt_json_object(json, "status");
	if (!legacy) {
		bt_json_u64(json, "connected", nbd->up);
		bt_json_u64(json, "connections", nbd->conn_count);
		bt_json_bool(json, "read_only", nbd->read_only);
		bt_json_bool(json, "structured", nbd->info.structured);
		bt_json_u64(json, "in_flight", in_flight);
		bt_json_u64(json, "reconnects", nbd->reconnects);
		bt_json_u64(json, "replays", nbd->replays);
		bt_json_u64(json, "violations", nbd->violations);
		bt_json_i64(json, "flush_error", nbd->flush_error);
	}
	bt_json_object_end(json);
}

/* For asserts and pictures: what says whether the server is there, and how it
 * was. */
static bool nbd_get_value(const struct bt_node *node, const char *name,
			  char *text, size_t size)
{
	const struct bt_nbdc *nbd = node->data;
	uint64_t value;

	if (!strcmp(name, "connected"))
		value = nbd->up;
	else if (!strcmp(name, "reconnects"))
		value = nbd->reconnects;
	else if (!strcmp(name, "replays"))
		value = nbd->replays;
	else
		return false;
	snprintf(text, size, "%llu", (unsigned long long)value);
	return true;
}

const struct blktap_class bt_nbd_class = {
	.name = "nbd",
	.summary = "a disk that another program serves over NBD",
	.params = nbd_params,
	.operations = BT_OPS_ALL,
	.legacy_type = 15,
	.node_bytes = sizeof(struct bt_nbdc),
	.open = nbd_open,
	.close = nbd_close,
	.get_limits = bt_nbdc_get_limits,
	.submit = bt_nbdc_submit,
	.get_status = nbd_get_status,
	.check_args = check_args,
	.get_memory = nbd_get_memory,
	.get_value = nbd_get_value,
	.values = "connected,reconnects,replays",
};
