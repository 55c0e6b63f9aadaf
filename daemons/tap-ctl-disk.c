/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl attach, detach, open, close, pause, unpause, snapshot, resize. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap-ctl.h"

#define KEY_256 32
#define KEY_512 64

const char *disk_object(const struct args *args)
{
	static char text[64];
	const struct opt *o = args->command->options;

	while (o->name && strcmp(o->name, "pid") != 0)
		o++;
	if (o->name)
		snprintf(text, sizeof(text), "minor %d of tapdisk %d",
			 arg_number(args, "minor", -1),
			 arg_number(args, "pid", -1));
	else
		snprintf(text, sizeof(text), "minor %d",
			 arg_number(args, "minor", -1));
	return text;
}

enum name { SPEC, LOG, CERTIFICATES, PSK, NAMES };

/* TYPE:PATH or a path, as it is called in a tapdisk, which has another working
 * directory; good until the next call for one of the kind. */
static const char *absolute(const char *text, enum name kind)
{
	static char out[NAMES][2 * PATH_MAX];
	char *cwd, *spec;

	if (!text)
		return NULL;
	if (kind == SPEC) {
		spec = absolute_spec(text);
		snprintf(out[SPEC], sizeof(out[SPEC]), "%s", spec);
		free(spec);
		return out[SPEC];
	}
	cwd = getcwd(NULL, 0);
	snprintf(out[kind], sizeof(out[kind]), "%s%s%s",
		 *text == '/' || !*text || !cwd ? "" : cwd,
		 *text == '/' || !*text || !cwd ? "" : "/", text);
	free(cwd);
	return out[kind];
}

void take_open_options(const struct args *args,
		       struct blktap_control_open_options *options)
{
	blktap_control_open_options_init(options);
	if (arg_is_set(args, "read-only"))
		options->flags |= BLKTAP_CONTROL_READ_ONLY;
	if (arg_is_set(args, "buffered"))
		options->flags |= BLKTAP_CONTROL_BUFFERED;
	if (arg_is_set(args, "standby"))
		options->flags |= BLKTAP_CONTROL_STANDBY;
	if (arg_is_set(args, "leaf-cache"))
		options->flags |= BLKTAP_CONTROL_LEAF_CACHE;
	options->request_timeout_s = (uint32_t)arg_number(args, "timeout", 0);
	options->parent_minor = arg_number(args, "parent", -1);
	options->secondary = absolute(arg_text(args, "secondary"), SPEC);
	options->log_path = absolute(arg_text(args, "cbt-log"), LOG);
	options->tcp = arg_text(args, "tcp");
	options->tls = arg_text(args, "tls");
	options->tls_certificates =
		absolute(arg_text(args, "tls-certificates"), CERTIFICATES);
	options->tls_psk = absolute(arg_text(args, "tls-psk"), PSK);
	options->tls_verify_peer = arg_is_set(args, "tls-verify-peer");
	/* who names what to show does not want clients in the clear */
	if (!options->tls && (options->tls_certificates || options->tls_psk ||
			      options->tls_verify_peer))
		options->tls = "require";
}

char *absolute_spec(const char *spec)
{
	size_t at = path_in_spec(spec);
	char *cwd, *out = NULL;

	if (at && spec[at] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd || asprintf(&out, "%.*s%s/%s", (int)at, spec, cwd,
				     spec + at) < 0)
			out = NULL;
		free(cwd);
	} else {
		out = strdup(spec);
	}
	if (!out) {
		perror("tap-ctl");
		exit(ENOMEM);
	}
	return out;
}

static int attach(const struct args *args)
{
	bool detaching = !strcmp(args->command->name, "detach");
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int pid = arg_number(args, "pid", -1);
	int minor = arg_number(args, "minor", -1);
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = detaching ? blktap_control_detach(control, pid, minor, &err)
		       : blktap_control_attach(control, pid, minor, &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	blktap_control_destroy(control);
	return rc;
}

/* All that stands on standard input. 0 where the size is right. */
static int read_key(struct blktap_control_open_options *options,
		    uint8_t key[KEY_512 + 1])
{
	options->key = key;
	options->key_length = fread(key, 1, KEY_512 + 1, stdin);
	if (options->key_length == KEY_256 || options->key_length == KEY_512)
		return 0;
	fprintf(stderr, "Unsupported keysize, use either 256 bit or 512 bit "
			"key\n");
	return 1;
}

static int open_disk(const struct args *args)
{
	struct blktap_control_open_options options;
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	uint8_t key[KEY_512 + 1];
	char *spec;
	int rc;

	take_open_options(args, &options);
	if (arg_is_set(args, "encrypted") && read_key(&options, key))
		return 1;
	rc = open_control(args, &control);
	if (rc)
		return rc;
	spec = absolute_spec(arg_text(args, "args"));
	rc = blktap_control_open(control, arg_number(args, "pid", -1),
				 arg_number(args, "minor", -1), spec, &options,
				 &err);
	explicit_bzero(key, sizeof(key));
	if (rc)
		rc = report(args, spec, rc, err);
	free(spec);
	blktap_control_destroy(control);
	return rc;
}

static int close_disk(const struct args *args)
{
	bool pausing = !strcmp(args->command->name, "pause");
	uint32_t timeout = (uint32_t)arg_number(args, "timeout", 0);
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int pid = arg_number(args, "pid", -1);
	int minor = arg_number(args, "minor", -1);
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	if (pausing)
		rc = blktap_control_pause(control, pid, minor, timeout, &err);
	else
		rc = blktap_control_close(control, pid, minor,
					  arg_is_set(args, "force"), timeout,
					  &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	blktap_control_destroy(control);
	return rc;
}

static int unpause(const struct args *args)
{
	struct blktap_control_open_options options;
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	char *spec = NULL;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	blktap_control_open_options_init(&options);
	options.secondary = absolute(arg_text(args, "secondary"), SPEC);
	options.log_path = absolute(arg_text(args, "cbt-log"), LOG);
	if (arg_text(args, "args"))
		spec = absolute_spec(arg_text(args, "args"));
	rc = blktap_control_resume(control, arg_number(args, "pid", -1),
				   arg_number(args, "minor", -1), spec,
				   &options, &err);
	if (rc)
		rc = report(args, spec ? spec : disk_object(args), rc, err);
	free(spec);
	blktap_control_destroy(control);
	return rc;
}

/* Prints where the old contents are, and how long the disk stood still. */
static int put_snapshot(const struct args *args, const char *json)
{
	unsigned long us = 0;
	const char *at = strstr(json, "\"pause_us\":");

	if (arg_is_set(args, "json")) {
		puts(json);
		return 0;
	}
	if (at)
		us = strtoul(at + strlen("\"pause_us\":"), NULL, 10);
	print_member(stdout, json, "snapshot");
	putchar('\n');
	fprintf(stderr, "paused for %lu.%03lu ms\n", us / 1000, us % 1000);
	return 0;
}

static int snapshot(const struct args *args)
{
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	const char *params[3] = { NULL };
	char name[4200], timeout[32];
	char *json = NULL;
	int rc, n = 0;

	if (arg_text(args, "name")) {
		snprintf(name, sizeof(name), "name=%s", arg_text(args, "name"));
		params[n++] = name;
	}
	if (arg_text(args, "timeout")) {
		snprintf(timeout, sizeof(timeout), "timeout=%d",
			 arg_number(args, "timeout", 0));
		params[n++] = timeout;
	}
	rc = open_control(args, &control);
	if (rc)
		return rc;
	rc = blktap_control_call(control, arg_number(args, "pid", -1),
				 arg_number(args, "minor", -1), "snapshot",
				 params, &json, &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	else
		rc = put_snapshot(args, json);
	free(json);
	blktap_control_destroy(control);
	return rc;
}

static int put_size(const struct args *args, const char *json)
{
	const char *size = strstr(json, "\"size\":");
	const char *us = strstr(json, "\"pause_us\":");

	if (arg_is_set(args, "json") || !size || !us) {
		puts(json);
		return 0;
	}
	printf("%llu\n", strtoull(size + strlen("\"size\":"), NULL, 10));
	fprintf(stderr, "paused for %.3f ms\n",
		(double)strtoul(us + strlen("\"pause_us\":"), NULL, 10) / 1000);
	return 0;
}

static int resize(const struct args *args)
{
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	const char *params[3] = { NULL };
	char size[64], timeout[32];
	char *json = NULL;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	snprintf(size, sizeof(size), "size=%s", arg_text(args, "size"));
	params[0] = size;
	if (arg_text(args, "timeout")) {
		snprintf(timeout, sizeof(timeout), "timeout=%d",
			 arg_number(args, "timeout", 0));
		params[1] = timeout;
	}
	rc = blktap_control_call(control, arg_number(args, "pid", -1),
				 arg_number(args, "minor", -1), "resize",
				 params, &json, &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	else
		rc = put_size(args, json);
	free(json);
	blktap_control_destroy(control);
	return rc;
}

static const struct opt attach_options[] = { OPT_PID, OPT_MINOR, { 0 } };

static const struct opt open_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 'a', "args", OPT_TEXT, "TYPE:PATH", "the image", OPT_REQUIRED, 0 },
	OPEN_OPTIONS,
	{ 'E', "encrypted", OPT_FLAG, NULL,
	  "read a key of 32 or 64 bytes from standard input", 0, 0 },
	{ 0 },
};

static const struct opt close_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 'f', "force", OPT_FLAG, NULL,
	  "fail the requests that cannot be finished", 0, 0 },
	{ 't', "timeout", OPT_NUMBER, "SECONDS", "give up after so long", 0,
	  UINT16_MAX },
	{ 0 },
};

static const struct opt pause_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 't', "timeout", OPT_NUMBER, "SECONDS",
	  "give up after so long, and let the disk run", 0, UINT16_MAX },
	{ 0 },
};

static const struct opt unpause_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 'a', "args", OPT_TEXT, "TYPE:PATH", "another image from now on", 0,
	  0 },
	{ '2', "secondary", OPT_TEXT, "TYPE:PATH", "mirror writes there", 0,
	  0 },
	{ 'c', "cbt-log", OPT_TEXT, "FILE", "log which blocks change", 0, 0 },
	{ 0 },
};

static const struct opt snapshot_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 0, "name", OPT_TEXT, "FILE",
	  "the snapshot's file, from the image's directory; IMAGE.snapN", 0,
	  0 },
	{ 't', "timeout", OPT_NUMBER, "SECONDS",
	  "give up after so long, and let the disk run", 0, UINT16_MAX },
	{ 0, "json", OPT_FLAG, NULL, "print an object", 0, 0 },
	{ 0 },
};

static const struct opt resize_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 's', "size", OPT_TEXT, "SIZE", "bytes, or 10G", OPT_REQUIRED, 0 },
	{ 't', "timeout", OPT_NUMBER, "SECONDS",
	  "give up after so long, and let the disk run", 0, UINT16_MAX },
	{ 0, "json", OPT_FLAG, NULL, "print an object", 0, 0 },
	{ 0 },
};

const struct command disk_commands[] = {
	{ "attach", NULL, NULL, "attach a minor to a tapdisk", attach_options,
	  NULL, EINVAL, attach },
	{ "detach", NULL, NULL, "detach it; a tapdisk without minors ends",
	  attach_options, NULL, EINVAL, attach },
	{ "open", NULL, "[TYPE:PATH]", "open an image on a minor and serve it",
	  open_options, "args", EINVAL, open_disk },
	{ "close", NULL, NULL, "flush and close the image", close_options, NULL,
	  EINVAL, close_disk },
	{ "pause", NULL, NULL,
	  "hold requests, flush, and close the image's files", pause_options,
	  NULL, EINVAL, close_disk },
	{ "unpause", NULL, "[TYPE:PATH]",
	  "open the image, or another, and go on", unpause_options, "args",
	  EINVAL, unpause },
	{ "snapshot", NULL, NULL,
	  "keep what is in the image under another name", snapshot_options,
	  NULL, EINVAL, snapshot },
	{ "resize", NULL, "SIZE", "make the disk larger while it is in use",
	  resize_options, "size", EINVAL, resize },
	{ 0 },
};
