/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl doctor: what this machine can do, and how to make it do the rest. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confine.h"
#include "tap-ctl.h"

struct report {
	bool json;
	bool any;
	bool failed; /* something that no disk can do without is missing */
};

static void put(struct report *r, bool ok, const char *name, const char *text,
		const char *hint)
{
	if (!r->json) {
		printf("%-4s %-14s %s\n", ok ? "ok" : "no", name, text);
		if (!ok && hint)
			printf("     %-14s hint: %s\n", "", hint);
		return;
	}
	printf("%s{\"name\":", r->any ? "," : "");
	put_json_string(stdout, name);
	printf(",\"ok\":%s,\"text\":", ok ? "true" : "false");
	put_json_string(stdout, text);
	if (!ok && hint) {
		printf(",\"hint\":");
		put_json_string(stdout, hint);
	}
	putchar('}');
	r->any = true;
}

static bool can_use(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* It need not be there yet, but then it must be possible to make it. */
static void look_at_rundir(struct report *r, const char *dir)
{
	struct stat st;
	char parent[512];
	char *slash;
	bool ok, open = false, other = false;

	if (!stat(dir, &st)) {
		open = st.st_mode & (S_IWGRP | S_IWOTH);
		other = st.st_uid != geteuid() && st.st_uid;
		ok = S_ISDIR(st.st_mode) && !access(dir, W_OK | X_OK) &&
		     !open && !other;
	} else {
		snprintf(parent, sizeof(parent), "%s", dir);
		slash = strrchr(parent, '/');
		if (slash)
			slash[slash == parent] = '\0';
		ok = !access(parent, W_OK | X_OK);
	}
	put(r, ok, "rundir", dir,
	    other  ? "it is another user's: name one of your own, BLKTAP_RUNDIR"
	    : open ? "others can change what is in it: chmod go-w"
		   : "export BLKTAP_RUNDIR=\"$XDG_RUNTIME_DIR/blktap\", or run "
		     "as "
		     "root");
	r->failed |= !ok;
}

static void look_at_engines(struct report *r)
{
	static const struct {
		enum blktap_engine engine;
		const char *name, *hint;
	} engines[] = {
		{ BLKTAP_ENGINE_IO_URING, "io_uring",
		  "sysctl kernel.io_uring_disabled=0, and build with "
		  "liburing" },
		{ BLKTAP_ENGINE_LIBAIO, "libaio",
		  "raise sysctl fs.aio-max-nr" },
		{ BLKTAP_ENGINE_SYNC, "sync", NULL },
	};
	size_t i;

	for (i = 0; i < sizeof(engines) / sizeof(*engines); i++) {
		struct blktap_context_options options = {
			.size = sizeof(options), .engine = engines[i].engine
		};
		struct blktap_context *context = NULL;
		struct blktap_error *err = NULL;
		int rc = blktap_context_create(&options, &context, &err);

		put(r, !rc, engines[i].name,
		    rc ? blktap_error_get_message(err)
		       : "engine that moves bytes to and from images",
		    engines[i].hint);
		blktap_error_destroy(err);
		blktap_context_destroy(context);
	}
}

static void look_at_types(struct report *r)
{
	const struct blktap_class *cls = NULL;
	char text[512] = "";
	size_t used = 0;

	while ((cls = blktap_class_next(cls)) && used < sizeof(text)) {
		if (!blktap_class_is_driver(cls))
			continue;
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s%s", used ? " " : "",
					 blktap_class_get_name(cls));
	}
	put(r, true, "types", text, NULL);
}

static void look_at_transports(struct report *r)
{
	struct blktap_error *err = NULL;
	int rc = blktap_ring_probe(&err);

	put(r, true, "nbd", "every open disk has an NBD socket in the rundir",
	    NULL);
	put(r, !rc, "kernel-ring",
	    rc ? blktap_error_get_message(err)
	       : "a disk as a block device: what tap-ctl create prints",
	    rc == -ENOENT ? "modprobe blktap (built from kernel/ by DKMS)"
	    : err	  ? blktap_error_get_hint(err)
			  : NULL);
	blktap_error_destroy(err);
	put(r, can_use("/dev/fuse"), "fuse",
	    "a disk as a file: tap-ctl map IMAGE FILE",
	    "modprobe fuse, and access to /dev/fuse");
	put(r, can_use("/dev/loop-control"), "loop",
	    "a disk as a block device: tap-ctl map --block IMAGE",
	    "run as root; modprobe loop");
	put(r, exists("/sys/module/nbd"), "kernel-nbd",
	    "a disk as /dev/nbdN: nbd-client -unix SOCKET /dev/nbd0",
	    "modprobe nbd");
}

static void look_at_confinement(struct report *r)
{
	int version = confine_files_probe();
	char text[96] = "no Landlock: a tapdisk cannot be kept from files";

	if (version > 0)
		snprintf(text, sizeof(text),
			 "a tapdisk can be kept from files: Landlock %d",
			 version);
	put(r, !confine_calls_probe(), "seccomp",
	    "a tapdisk gives up system calls it does not need",
	    "a kernel with CONFIG_SECCOMP_FILTER; disks work without");
	put(r, version > 0, "landlock", text,
	    "boot with landlock in lsm=, and Linux 5.13 or later; disks work "
	    "without");
}

static void count_row(void *opaque, const struct blktap_control_row *row)
{
	if (row->pid >= 0 && row->minor >= 0)
		++*(int *)opaque;
}

static void look_at_disks(struct report *r, struct blktap_control *control)
{
	struct blktap_error *err = NULL;
	char text[64];
	int disks = 0;
	int rc = blktap_control_list(control, NULL, count_row, &disks, &err);

	snprintf(text, sizeof(text), "%d attached", disks);
	put(r, !rc, "disks", rc ? blktap_error_get_message(err) : text,
	    err ? blktap_error_get_hint(err) : NULL);
	blktap_error_destroy(err);
}

static int doctor(const struct args *args)
{
	const char *program = getenv("TAPDISK");
	struct report r = { .json = arg_is_set(args, "json") };
	struct blktap_control *control;
	int rc = open_control(args, &control);

	if (rc)
		return 1;
	if (r.json)
		putchar('[');
	put(&r, true, "version", blktap_version(), NULL);
	look_at_rundir(&r, blktap_control_get_rundir(control));
	if (program) {
		bool ok = !access(program, X_OK);

		put(&r, ok, "tapdisk", program, "mend TAPDISK, or unset it");
		r.failed |= !ok;
	}
	look_at_engines(&r);
	look_at_types(&r);
	look_at_transports(&r);
	look_at_confinement(&r);
	look_at_disks(&r, control);
	if (r.json)
		puts("]");
	blktap_control_destroy(control);
	return r.failed;
}

static const struct opt doctor_options[] = {
	{ 0, "json", OPT_FLAG, NULL, "as a JSON array", 0, 0 },
	{ 0 },
};

const struct command doctor_commands[] = {
	{ "doctor", NULL, NULL,
	  "say what this machine can do, and how to do more", doctor_options,
	  NULL, 2, doctor },
	{ 0 },
};
