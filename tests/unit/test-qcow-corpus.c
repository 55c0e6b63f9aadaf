/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes the images of qcow-corpus/README.md and holds its table to its word. */
#include "qcow-images.h"

#include <sys/resource.h>

#define ROWS 200
#define MEMORY_KIB (64L << 10)
#define FILE_LIMIT (1u << 20)

struct row {
	char line[400];
	const char *name, *from, *change, *outcome, *says;
};

static struct row rows[ROWS];
static int row_count;
static char log_text[4096];

/* ---- the table ------------------------------------------------------------ */

static const char *cell(char **at)
{
	char *begin = *at + strspn(*at, " "), *end = strchr(begin, '|');

	*at = end + 1;
	while (end > begin && end[-1] == ' ')
		end--;
	*end = '\0';
	return begin;
}

static void parse(struct row *row)
{
	char *at = row->line + 1;

	row->name = cell(&at);
	row->from = cell(&at);
	row->change = cell(&at);
	row->outcome = cell(&at);
	row->says = cell(&at);
}

static bool read_rows(void)
{
	const char *srcdir = getenv("srcdir");
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/unit/qcow-corpus/README.md",
		 srcdir ? srcdir : ".");
	f = fopen(path, "r");
	if (!f)
		return false;
	while (row_count < ROWS &&
	       fgets(rows[row_count].line, sizeof(rows[0].line), f)) {
		const char *line = rows[row_count].line;

		if (!strncmp(line, "| good-", 7) ||
		    !strncmp(line, "| bad-", 6) ||
		    !strncmp(line, "| unsupported-", 14))
			parse(&rows[row_count++]);
	}
	fclose(f);
	return true;
}

static int errno_of(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} all[] = { { "EINVAL", EINVAL }, { "ENOTSUP", ENOTSUP },
		    { "EFBIG", EFBIG },	  { "ENOKEY", ENOKEY },
		    { "EROFS", EROFS },	  { "EIO", EIO },
		    { "ENOENT", ENOENT } };
	unsigned int i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i].name, name))
			return -all[i].number;
	ck_abort_msg("no errno: %s", name);
}

/* ---- making --------------------------------------------------------------- */

static const char *format_of(const struct row *row)
{
	return !strcmp(row->from, "v1") || !strcmp(row->from, "child1") ||
			       !strcmp(row->from, "xen")
		       ? "qcow"
		       : "qcow2";
}

static void spec_of(const struct row *row, const char *name, char *spec)
{
	sprintf(spec, "%s(\"@/%s\"%s)", format_of(row), name,
		strcmp(row->from, "child1") ? "" : ", backing_format=raw");
}

static void make_from(const struct row *row)
{
	bool child = !strncmp(row->from, "child", 5);
	bool xen = !strcmp(row->from, "xen");
	struct blktap_disk *disk;
	char spec[96];

	ck_assert_int_eq(sh("truncate -s 1M base"), 0);
	make(format_of(row), row->name, xen ? 8 * MIB : MIB, xen ? 0 : 4096,
	     xen			? "xen=true"
	     : !strcmp(row->from, "v2") ? "version=2"
					: NULL,
	     child ? "base" : NULL, child ? "raw" : NULL, 0);
	spec_of(row, row->name, spec);
	disk = open_disk(spec, 0);
	put(disk, 0, 1, 4096);
	put(disk, 65536, 2, 4096);
	close_disk(disk);
}

static void spoil(const struct row *row)
{
	char change[400], *one, *rest = change;

	strcpy(change, row->change);
	while ((one = strsep(&rest, ","))) {
		unsigned long offset;
		const char *hex;

		one += strspn(one, " ");
		if (!strcmp(one, "-"))
			continue;
		if (!strncmp(one, "cut ", 4)) {
			ck_assert_int_eq(
				sh("truncate -s %s %s", one + 4, row->name), 0);
			continue;
		}
		offset = strtoul(one, &one, 10);
		ck_assert_int_eq(*one, ':');
		for (hex = one + 1; *hex; hex += 2, offset++) {
			unsigned int byte;

			ck_assert_int_eq(sscanf(hex, "%2x", &byte), 1);
			file_io(row->name, (off_t)offset,
				&(unsigned char){ (unsigned char)byte }, 1,
				true);
		}
	}
}

/* ---- judging -------------------------------------------------------------- */

static void keep_log(void *opaque, enum blktap_log_level level,
		     const char *text)
{
	size_t used = strlen(log_text);

	snprintf(log_text + used, sizeof(log_text) - used, "%s\n", text);
}

static size_t slurp(const char *name, unsigned char *to)
{
	uint64_t size = file_size(name);

	ck_assert_uint_le(size, FILE_LIMIT);
	if (size)
		file_io(name, 0, to, size, false);
	return size;
}

static void must_say(const struct row *row, const char *text)
{
	ck_assert_msg(!strcmp(row->says, "-") || strstr(text, row->says),
		      "%s: says '%s'", row->name, text);
}

static void must_fail(const struct row *row, const char *spec, int want)
{
	struct blktap_disk *disk;
	char message[600], all[800];
	int rc = try_open(spec, 0, &disk, message);

	ck_assert_msg(rc == want, "%s: %d, not %d: %s", row->name, rc, want,
		      message);
	/* the hint counts as well, and the file is named */
	snprintf(all, sizeof(all), "%s %s", message, last_hint);
	must_say(row, all);
	ck_assert_msg(strstr(message, row->name) || strstr(message, "base") ||
			      strstr(message, "zzzz") || strstr(message, "xyz"),
		      "%s is not named: %s", row->name, message);
}

static int read_all(struct blktap_disk *disk, uint64_t size)
{
	void *data = malloc(size);
	int rc = transfer(disk, BLKTAP_OP_READ, 0, data, size);

	free(data);
	return rc;
}

static int write_new(struct blktap_disk *disk)
{
	char data[4096];

	memset(data, 3, sizeof(data));
	return transfer(disk, BLKTAP_OP_WRITE, MIB / 2, data, sizeof(data));
}

static void use(const struct row *row, const char *spec, uint32_t flags)
{
	uint64_t size = strcmp(row->from, "xen") ? MIB : 8 * MIB;
	bool read_fails = !strncmp(row->outcome, "read ", 5);
	bool write_fails = !strncmp(row->outcome, "write ", 6);
	struct blktap_disk *disk = open_disk(spec, flags);
	int rc = read_all(disk, size);

	ck_assert_msg(rc == (read_fails ? -EIO : 0), "%s: read: %d", row->name,
		      rc);
	if (!read_fails && !(flags & BLKTAP_OPEN_READ_ONLY)) {
		rc = write_new(disk);
		ck_assert_msg(rc == (write_fails ? -EIO : 0), "%s: write: %d",
			      row->name, rc);
		if (!rc)
			expect(disk, MIB / 2, 3, 4096);
	}
	if (read_fails || write_fails)
		must_say(row, log_text);
	close_disk(disk);
}

START_TEST(image_is_what_the_table_says)
{
	static unsigned char before[FILE_LIMIT], after[FILE_LIMIT];
	const struct row *row = &rows[_i];
	const char *error = strchr(row->outcome, ' ');
	const char *keep = getenv("BLKTAP_CORPUS");
	bool refused = strstr(row->outcome, "open ") != NULL;
	struct rusage begin, end;
	char spec[96];
	size_t size;

	make_from(row);
	spoil(row);
	if (!strcmp(row->from, "xen") && get32(row->name, 48) != 0x58454efb)
		return; /* no digest in this build, and so no extension */
	if (keep)
		sh("cp %s '%s'/", row->name, keep);
	size = slurp(row->name, before);
	blktap_context_set_log(context, BLKTAP_LOG_WARNING, keep_log, NULL,
			       NULL);
	log_text[0] = '\0';
	spec_of(row, row->name, spec);
	getrusage(RUSAGE_SELF, &begin);
	if (refused)
		must_fail(row, spec, errno_of(error + 1));
	if (!strncmp(row->outcome, "write-open ", 11))
		use(row, spec, BLKTAP_OPEN_READ_ONLY);
	if (!refused)
		use(row, spec, 0);
	getrusage(RUSAGE_SELF, &end);
	ck_assert_int_lt(end.ru_maxrss - begin.ru_maxrss, MEMORY_KIB);
	if (refused || !strncmp(row->outcome, "read ", 5)) {
		ck_assert_uint_eq(slurp(row->name, after), size);
		ck_assert_mem_eq(before, after, size);
	}
}
END_TEST

START_TEST(table_is_there)
{
	ck_assert_int_gt(row_count, 100);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-corpus");
	TCase *tc = tcase_create("corpus");

	read_rows();
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 10);
	tcase_add_test(tc, table_is_there);
	tcase_add_loop_test(tc, image_is_what_the_table_says, 0, row_count);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
