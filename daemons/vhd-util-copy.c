/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util copy: a chain into one image, which may be encrypted. A key comes by
 * the name of its file, or on the standard input, and is never shown. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "convert.h"
#include "vhd-util.h"
#include "work.h"

#define KEY_MAX 64

static const struct opt copy_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'N', "new", OPT_TEXT, "FILE", "the copy, which stands alone",
	  OPT_REQUIRED, 0 },
	{ 'k', "key", OPT_TEXT, "FILE", "encrypt the copy with this key", 0,
	  0 },
	{ 'E', "key-from-stdin", OPT_FLAG, NULL, "the same, the key on stdin",
	  0, 0 },
	{ 0, "source-key", OPT_TEXT, "FILE",
	  "the image's own, where it is encrypted with another", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "say in JSON what was copied", 0, 0 },
	WORK_PROGRESS,
	{ 0 },
};

/* The keys as the library takes them, and what the new image gets. */
struct keys {
	char *source, *target;
	int fd; /* of a key that came on stdin */
	struct blktap_vhd_key_hash hash;
};

static int name_file(const char *path, char **out)
{
	char *absolute = realpath(path, NULL);
	int rc = absolute ? 0 : -errno;

	*out = NULL;
	if (!rc && asprintf(out, "file:%s", absolute) < 0) {
		*out = NULL;
		rc = -ENOMEM;
	}
	free(absolute);
	return rc;
}

/* Memory that reads like a file, as often as it is asked for. */
static int take_stdin(struct keys *keys)
{
	char key[KEY_MAX + 1];
	size_t n = fread(key, 1, sizeof(key), stdin);
	int rc = 0;

	keys->fd = memfd_create("key", MFD_CLOEXEC);
	if (keys->fd < 0 || write(keys->fd, key, n) != (ssize_t)n)
		rc = -errno;
	else if (asprintf(&keys->target, "fd:%d", keys->fd) < 0)
		rc = -ENOMEM;
	explicit_bzero(key, sizeof(key));
	return rc;
}

/* No nonce can be given: it is zeroes, as it always was. */
static int hash_target(struct keys *keys, struct blktap_error **err)
{
	uint8_t key[KEY_MAX + 1];
	ssize_t n;
	int rc, fd = keys->fd;

	if (fd < 0)
		fd = open(keys->target + strlen("file:"), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pread(fd, key, sizeof(key), 0);
	rc = n < 0 ? -errno
		   : blktap_vhd_hash_key(key, (size_t)n, &keys->hash, err);
	explicit_bzero(key, sizeof(key));
	if (fd != keys->fd)
		close(fd);
	return rc;
}

/* The source takes a key only where it, or what it stands on, may need one. */
static int find_source_key(const struct args *args, struct keys *keys,
			   struct blktap_error **err)
{
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	const char *name = arg_text(args, "name");
	struct blktap_vhd_key_hash hash;
	struct blktap_vhd *vhd;
	int rc;

	if (arg_is_set(args, "source-key"))
		return name_file(arg_text(args, "source-key"), &keys->source);
	if (!keys->target)
		return 0;
	rc = blktap_vhd_get_info(name, &info, err);
	if (!rc)
		rc = blktap_vhd_open(name, 0, &vhd, err);
	if (rc)
		return rc;
	blktap_vhd_get_key_hash(vhd, &hash);
	blktap_vhd_close(vhd);
	if (!hash.is_set && info.type != BLKTAP_VHD_DIFFERENCING)
		return 0;
	keys->source = strdup(keys->target);
	return keys->source ? 0 : -ENOMEM;
}

static int find_keys(const struct args *args, struct keys *keys,
		     const char **object, struct blktap_error **err)
{
	int rc = 0;

	/* what an error is about */
	if (arg_is_set(args, "key"))
		*object = arg_text(args, "key");

	if (arg_is_set(args, "key-from-stdin"))
		rc = take_stdin(keys);
	else if (arg_is_set(args, "key"))
		rc = name_file(arg_text(args, "key"), &keys->target);
	if (!rc && keys->target)
		rc = hash_target(keys, err);
	if (rc)
		return rc;
	*object = arg_is_set(args, "source-key") ? arg_text(args, "source-key")
						 : arg_text(args, "name");
	return find_source_key(args, keys, err);
}

static int set_hash(void *opaque, const char *path, struct blktap_error **err)
{
	const struct keys *keys = opaque;
	struct blktap_vhd *vhd;
	int rc = blktap_vhd_open(path, BLKTAP_VHD_WRITE, &vhd, err);

	if (rc)
		return rc;
	rc = blktap_vhd_set_key_hash(vhd, &keys->hash, err);
	blktap_vhd_close(vhd);
	return rc;
}

static int run(const struct args *args, const char *from, const char *to,
	       bool json, struct keys *keys)
{
	struct blktap_image_options create;
	int error = EIO;
	struct convert convert = {
		.source = from,
		.source_format = "vhd",
		.source_key = keys->source,
		.target = to,
		.target_format = "vhd",
		.target_key = keys->target,
		.create = &create,
		.prepare = keys->target ? set_hash : NULL,
		.opaque = keys,
		.error = &error,
		.json = json,
		.progress = arg_text(args, "progress"),
	};
	int status;

	blktap_image_options_init(&create);
	create.extra = "round=sector";
	status = convert_run(args, &convert);
	return status == 1 ? error : status;
}

int vhd_copy_chain(const struct args *args, const char *from, const char *to)
{
	struct keys none = { .fd = -1 };

	return run(args, from, to, false, &none);
}

static int copy(const struct args *args)
{
	const char *new = arg_text(args, "new");
	const char *object = new;
	struct keys keys = { .fd = -1 };
	struct blktap_error *err = NULL;
	int rc;

	if (arg_is_set(args, "key") && arg_is_set(args, "key-from-stdin"))
		return misuse(args, NULL, "-k and -E exclude each other");
	rc = find_keys(args, &keys, &object, &err);
	if (rc)
		rc = report(args, object, rc, err);
	else
		rc = run(args, arg_text(args, "name"), new,
			 arg_is_set(args, "json"), &keys);
	free(keys.source);
	free(keys.target);
	if (keys.fd >= 0)
		close(keys.fd);
	return rc;
}

const struct command vhd_copy_commands[] = {
	{ .name = "copy",
	  .summary = "copies an image with all it stands on",
	  .options = copy_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = copy },
	{ 0 },
};
