/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util fill, coalesce: long work, which shows how far it is and may be
 * interrupted at any moment. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "vhd-util.h"
#include "work.h"

#define SECTOR 512u

static const struct opt fill_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'b', "bat", OPT_FLAG, NULL,
	  "only put blocks into the table, without data", 0, 0 },
	{ 'f', "from", OPT_NUMBER, "SECTOR", "with -b: the first", 0,
	  LONG_MAX },
	{ 't', "to", OPT_NUMBER, "SECTOR", "with -b: the last", 0, LONG_MAX },
	{ 'B', "no-limit", OPT_FLAG, NULL, "as ever; no file grows past 2 TiB",
	  0, 0 },
	WORK_PROGRESS,
	{ 0 },
};

static int fill_table(const struct args *args, struct work *work,
		      const struct blktap_vhd_info *info,
		      struct blktap_error **err)
{
	uint64_t sectors = info->length / SECTOR;
	uint64_t per = info->block_size / SECTOR;
	uint64_t first = (uint64_t)arg_long(args, "from", 0);
	uint64_t last = (uint64_t)arg_long(args, "to", (long)(sectors - 1));
	struct blktap_vhd *vhd;
	int rc;

	if (last >= sectors)
		last = sectors - 1;
	rc = blktap_vhd_open(arg_text(args, "name"), BLKTAP_VHD_WRITE, &vhd,
			     err);
	if (rc)
		return rc;
	rc = blktap_vhd_allocate(vhd, (uint32_t)(first / (per ? per : 1)),
				 (uint32_t)(last / (per ? per : 1)),
				 work_progress, work, err);
	blktap_vhd_close(vhd);
	return rc;
}

/* Every sector is written as it reads. */
static int write_back(struct chain *chain, uint64_t length, struct work *work)
{
	uint8_t *buf = aligned_alloc(4096, CHAIN_PIECE);
	uint64_t at, n;
	int rc = buf ? 0 : -ENOMEM;

	for (at = 0; at < length && !rc; at += n) {
		n = length - at < CHAIN_PIECE ? length - at : CHAIN_PIECE;
		rc = work_progress(work, at, length) ? -ECANCELED : 0;
		if (!rc)
			rc = chain_move(chain, BLKTAP_OP_READ, at, buf, n);
		if (!rc)
			rc = chain_move(chain, BLKTAP_OP_WRITE, at, buf, n);
	}
	free(buf);
	if (!rc)
		work_progress(work, length, length);
	n = chain_move(chain, BLKTAP_OP_FLUSH, 0, NULL, 0) ? 1 : 0;
	return n && !rc ? -EIO : rc;
}

static int fill_all(const struct args *args, struct work *work,
		    const struct blktap_vhd_info *info,
		    struct blktap_error **err)
{
	struct chain chain;
	int rc = chain_open(&chain, arg_text(args, "name"), 0, err);
	int closed;

	if (rc)
		return rc;
	rc = write_back(&chain, info->length, work);
	closed = chain_close(&chain);
	return rc ? rc : closed;
}

/* With the error told of. */
static bool is_no_range(const struct args *args, uint64_t sectors)
{
	uint64_t first = (uint64_t)arg_long(args, "from", 0);
	char cause[96];

	if (first < sectors &&
	    first <= (uint64_t)arg_long(args, "to", LONG_MAX))
		return false;
	snprintf(cause, sizeof(cause),
		 "-f to -t is no range of its %" PRIu64 " sectors", sectors);
	report_as(args, arg_text(args, "name"), -ERANGE, cause, NULL);
	return true;
}

static int fill(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	bool table = arg_is_set(args, "bat");
	struct blktap_error *err = NULL;
	struct work work;
	int rc;

	if (!table && (arg_is_set(args, "from") || arg_is_set(args, "to")))
		return misuse(args, NULL, "-f and -t go with -b alone");
	rc = work_begin(&work, args, false);
	if (rc)
		return rc;
	rc = blktap_vhd_get_info(name, &info, &err);
	if (!rc && is_no_range(args, info.length / SECTOR))
		return work_end(&work, ERANGE);
	if (rc)
		printf("error opening %s: %d\n", name, rc);
	else if (table)
		rc = fill_table(args, &work, &info, &err);
	else
		rc = fill_all(args, &work, &info, &err);
	return work_end(&work, rc ? report(args, name, rc, err) : 0);
}

/* ---- coalesce ------------------------------------------------------------- */

static const struct opt coalesce_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the child", OPT_REQUIRED, 0 },
	{ 'a', "ancestor", OPT_TEXT, "FILE",
	  "into this image of its chain, with all that is between", 0, 0 },
	{ 'o', "output", OPT_TEXT, "FILE",
	  "the whole chain into a new image instead", 0, 0 },
	{ 's', "sparse", OPT_FLAG, NULL,
	  "zeroes that read as zeroes anyhow are not written", 0, 0 },
	{ 'p', "show-progress", OPT_FLAG, NULL, "show how far it is", 0, 0 },
	{ 'x', "limit", OPT_TEXT, "N", "as ever; it makes no difference", 0,
	  0 },
	{ 0, "resume", OPT_TEXT, "FILE",
	  "keep there how far it is, and go on from there", 0, 0 },
	WORK_PROGRESS,
	{ 0 },
};

static int coalesce_one(const struct args *args, const char *name,
			const char *into, bool raw, struct work *work,
			uint64_t *sectors, struct blktap_error **err)
{
	struct blktap_vhd_coalesce_options options = {
		.struct_size = sizeof(options),
		.flags = arg_is_set(args, "sparse") ? BLKTAP_VHD_COALESCE_SPARSE
						    : 0,
		.into = into,
		.into_raw = raw,
		.state = arg_text(args, "resume"),
		.progress = work_progress,
		.opaque = work,
	};
	struct blktap_vhd *vhd;
	uint64_t n = 0;
	int rc = blktap_vhd_open(name, 0, &vhd, err);

	if (rc)
		return rc;
	rc = blktap_vhd_coalesce(vhd, &options, &n, err);
	*sectors += n;
	blktap_vhd_close(vhd);
	return rc;
}

#define NOT_BELOW (-EXDEV) /* which no image's error is */

/* From the ancestor's child up to name, so that what is above is written last.
 * One level a call; chains are tens of images deep. *raw: the ancestor is. */
static int coalesce_down(const struct args *args, const char *name,
			 const char *ancestor, unsigned int depth, bool *raw,
			 struct work *work, uint64_t *sectors,
			 struct blktap_error **err)
{
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	char *parent = NULL;
	int rc = blktap_vhd_get_info(name, &info, err);

	if (!rc)
		rc = blktap_vhd_get_parent(name, false, &parent, err);
	if (rc)
		return rc;
	if (!parent || depth == 1024) {
		free(parent);
		return NOT_BELOW;
	}
	if (same_file(parent, ancestor))
		*raw = info.parent_is_raw;
	else if (info.parent_is_raw)
		rc = NOT_BELOW;
	else
		rc = coalesce_down(args, parent, ancestor, depth + 1, raw, work,
				   sectors, err);
	free(parent);
	return rc ? rc
		  : coalesce_one(args, name, ancestor, *raw, work, sectors,
				 err);
}

static int not_below(const struct args *args, const char *ancestor)
{
	const char *name = arg_text(args, "name");
	char *cause;
	int rc;

	if (asprintf(&cause, "does not stand on %s", ancestor) < 0)
		return report(args, name, -ENOMEM, NULL);
	rc = report_as(args, name, -ENOENT, cause,
		       "vhd-util scan -p -a shows its chain");
	free(cause);
	return rc;
}

static int coalesce(const struct args *args)
{
	const char *name = arg_text(args, "name");
	const char *ancestor = arg_text(args, "ancestor");
	struct blktap_error *err = NULL;
	struct work work;
	uint64_t sectors = 0;
	bool raw = false;
	int rc;

	if (ancestor && arg_is_set(args, "output"))
		return misuse(args, NULL, "-a and -o exclude each other");
	if (arg_is_set(args, "output"))
		return vhd_copy_chain(args, name, arg_text(args, "output"));
	rc = work_begin(&work, args, arg_is_set(args, "show-progress"));
	if (rc)
		return rc;
	if (ancestor)
		rc = coalesce_down(args, name, ancestor, 0, &raw, &work,
				   &sectors, &err);
	else
		rc = coalesce_one(args, name, NULL, false, &work, &sectors,
				  &err);
	if (rc == NOT_BELOW) {
		printf("error coalescing: %d\n", -ENOENT);
		return work_end(&work, not_below(args, ancestor));
	}
	if (rc)
		printf("error coalescing: %d\n", rc);
	else
		printf("Coalesced %" PRIu64 " sectors", sectors);
	return work_end(&work, rc ? report(args, name, rc, err) : 0);
}

const struct command vhd_long_commands[] = {
	{ .name = "fill",
	  .summary = "puts every block into the image",
	  .options = fill_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = fill },
	{ .name = "coalesce",
	  .summary = "copies what a child has into its parent",
	  .options = coalesce_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = coalesce },
	{ 0 },
};
