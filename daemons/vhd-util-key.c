/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util key: the hash of an encryption key. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhd-util.h"

#define WRONG_KEY (-EXDEV) /* which no image's error is */

static const struct opt options[] = {
	{ 'C', "compute", OPT_FLAG, NULL, "print the hash of a key (-k)", 0,
	  0 },
	{ 's', "set", OPT_FLAG, NULL, "set the hash of an image (-k or -H)", 0,
	  0 },
	{ 'c', "check", OPT_FLAG, NULL,
	  "whether a key (-k) is that of the image", 0, 0 },
	{ 'p', "print", OPT_FLAG, NULL, "print nonce and hash of an image", 0,
	  0 },
	{ 'n', "name", OPT_TEXT, "FILE", "the image", 0, 0 },
	{ 'k', "key", OPT_TEXT, "FILE", "a key: 32 or 64 bytes", 0, 0 },
	{ 'H', "hash", OPT_TEXT, "HEX", "a hash", 0, 0 },
	{ 'N', "nonce", OPT_TEXT, "HEX",
	  "what the hash was made with; the default is zeroes", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "print JSON", 0, 0 },
	{ 0 },
};

static int read_hex(const char *text, uint8_t out[32])
{
	char pair[3] = { 0 }, *end;
	size_t i;

	if (strlen(text) != 64)
		return -EINVAL;
	for (i = 0; i < 32; i++) {
		memcpy(pair, text + 2 * i, 2);
		out[i] = (uint8_t)strtoul(pair, &end, 16);
		if (*end || pair[0] == '+' || pair[0] == '-' || pair[0] == ' ')
			return -EINVAL;
	}
	return 0;
}

static void put_hex(const uint8_t bytes[32])
{
	size_t i;

	for (i = 0; i < 32; i++)
		printf("%02x", bytes[i]);
}

static void put_hash(const struct args *args,
		     const struct blktap_vhd_key_hash *hash)
{
	bool json = arg_is_set(args, "json");

	if (!hash->is_set) {
		printf(json ? "{\"nonce\":null,\"hash\":null}\n" : "none\n");
		return;
	}
	printf(json ? "{\"nonce\":\"" : "");
	put_hex(hash->nonce);
	printf(json ? "\",\"hash\":\"" : " ");
	put_hex(hash->hash);
	printf(json ? "\"}\n" : "\n");
}

static int hash_file(const char *path, struct blktap_vhd_key_hash *hash,
		     struct blktap_error **err)
{
	uint8_t key[65];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int rc;

	if (fd < 0)
		return -errno;
	n = read(fd, key, sizeof(key));
	rc = n < 0 ? -errno : blktap_vhd_hash_key(key, (size_t)n, hash, err);
	close(fd);
	explicit_bzero(key, sizeof(key));
	return rc;
}

/* Toolstacks look a key up by its hash alone, so who gives no nonce means zeroes,
 * as it always was. */
static int set_nonce(const struct args *args, struct blktap_vhd_key_hash *hash)
{
	const char *nonce = arg_text(args, "nonce");

	memset(hash->nonce, 0, sizeof(hash->nonce));
	return nonce ? read_hex(nonce, hash->nonce) : 0;
}

static int on_image(const struct args *args, const char **object,
		    struct blktap_error **err)
{
	bool sets = arg_is_set(args, "set");
	const char *key = arg_text(args, "key");
	struct blktap_vhd_key_hash hash, other = { .is_set = true };
	struct blktap_vhd *vhd;
	int rc = blktap_vhd_open(arg_text(args, "name"),
				 sets ? BLKTAP_VHD_WRITE : 0, &vhd, err);

	if (rc)
		return rc;
	blktap_vhd_get_key_hash(vhd, &hash);
	if (key && (sets || hash.is_set))
		*object =
			key; /* from here on it is the key that may be wrong */
	if (arg_is_set(args, "print")) {
		put_hash(args, &hash);
	} else if (sets) {
		rc = set_nonce(args, &other);
		if (!rc && key)
			rc = hash_file(key, &other, err);
		else if (!rc)
			rc = read_hex(arg_text(args, "hash"), other.hash);
		if (!rc)
			rc = blktap_vhd_set_key_hash(vhd, &other, err);
	} else if (!hash.is_set) {
		rc = -ENOKEY;
	} else {
		memcpy(other.nonce, hash.nonce, sizeof(other.nonce));
		rc = hash_file(key, &other, err);
		if (!rc && memcmp(other.hash, hash.hash, sizeof(hash.hash)))
			rc = WRONG_KEY;
	}
	blktap_vhd_close(vhd);
	return rc;
}

static int compute(const struct args *args, struct blktap_error **err)
{
	struct blktap_vhd_key_hash hash;
	int rc = set_nonce(args, &hash);

	if (!rc)
		rc = hash_file(arg_text(args, "key"), &hash, err);
	if (!rc && arg_is_set(args, "json")) {
		put_hash(args, &hash);
	} else if (!rc) {
		put_hex(hash.hash);
		putchar('\n');
	}
	return rc;
}

/* With the error told of. */
static bool is_no_hex(const struct args *args, const char *option)
{
	const char *text = arg_text(args, option);
	uint8_t bytes[32];

	if (!text || !read_hex(text, bytes))
		return false;
	misuse(args, NULL, "--%s '%s' is not 64 hexadecimal digits", option,
	       text);
	return true;
}

static int key(const struct args *args)
{
	const char *name = arg_text(args, "name");
	const char *object = name ? name : arg_text(args, "key");
	bool has_key = arg_is_set(args, "key");
	struct blktap_error *err = NULL;
	int deeds = arg_is_set(args, "compute") + arg_is_set(args, "set") +
		    arg_is_set(args, "check") + arg_is_set(args, "print");
	int rc;

	if (deeds != 1)
		return misuse(args, NULL, "one of -C, -s, -c and -p is wanted");
	if (!arg_is_set(args, "compute") && !name)
		return misuse(args, NULL, "option '--name' is missing");
	if (arg_is_set(args, "set") && has_key == arg_is_set(args, "hash"))
		return misuse(args, NULL, "-s wants either -k or -H");
	if ((arg_is_set(args, "compute") || arg_is_set(args, "check")) &&
	    !has_key)
		return misuse(args, NULL, "option '--key' is missing");
	if (is_no_hex(args, "nonce") || is_no_hex(args, "hash"))
		return EINVAL;
	if (arg_is_set(args, "compute"))
		rc = compute(args, &err);
	else
		rc = on_image(args, &object, &err);
	if (rc == WRONG_KEY)
		return report_as(args, object, -EINVAL,
				 "is not the key of this image",
				 "compare hashes: vhd-util key -p and key -C");
	return rc ? report(args, object, rc, err) : 0;
}

const struct command vhd_key_commands[] = {
	{ .name = "key",
	  .summary = "computes, sets, checks or prints the hash of a key",
	  .options = options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = key },
	{ 0 },
};
