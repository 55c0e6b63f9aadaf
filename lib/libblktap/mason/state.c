/* SPDX-License-Identifier: BSD-3-Clause */
/* Generations on disk. FILE.state holds every text of the graph that runs, and of
 * the one before it, so that neither depends on files that may change:
 *
 *   FILE.state        generation N
 *   FILE.state.new    N + 1, written and synced while N runs
 *   FILE.state.old    another name of generation N, until N + 1 is on disk
 *   rename            the commit: a crash before it starts N, after it N + 1
 *
 * The new name is on disk when the directory has been synced. Where that fails, N
 * gets its name back, and the change has not been made. Only where that cannot be
 * synced either is it not known which of both a power cut would find: it is said, and
 * nothing is changed before it has been settled.
 *
 * The file ends with a checksum over the rest; one that is torn or strange is
 * refused, since a graph made of it might be no one's. There is none before the
 * first change of a graph: until then FILE itself is what runs. */
#include "mason/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "util/path.h"
#include "util/strbuf.h"

#define MAGIC "blktap mason state 1\n"
#define STATE_MAX ((size_t)80 << 20)
#define ITEMS_MAX 4096u

/* FNV-1a, 64 bit: against a torn or strange file, not against somebody who
 * writes one on purpose; who can do that can change the graph's file itself. */
static uint64_t checksum(const char *data, size_t length)
{
	uint64_t h = 14695981039346656037ull;
	size_t i;

	for (i = 0; i < length; i++)
		h = (h ^ (unsigned char)data[i]) * 1099511628211ull;
	return h;
}

static int fail(const char *path, int rc, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];

	return bt_fail(err, rc, NULL, "%s.state: %s", path,
		       bt_strerror(rc, text));
}

/* ---- files ----------------------------------------------------------------- */

/* O_NONBLOCK: a pipe of that name must not hold up the process. */
static int slurp(const char *path, size_t max, struct bt_strbuf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	char buf[16384];
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (!rc && n) {
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno != EINTR)
			rc = -errno;
		if (n > 0)
			bt_strbuf_add(out, buf, (size_t)n);
		if (out->len > max)
			rc = -EFBIG;
	}
	close(fd);
	return out->failed ? -ENOMEM : rc;
}

static int spill(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		length -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* 0 for a file that cannot be read; then the state counts as stale, which is
 * only told. */
static uint64_t source_of(const char *path)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	uint64_t sum = 0;

	if (slurp(path, STATE_MAX, &sb) == 0)
		sum = checksum(bt_strbuf_str(&sb), sb.len);
	bt_strbuf_fini(&sb);
	return sum;
}

/* ---- writing --------------------------------------------------------------- */

/* Lengths before the bytes, so that texts need no escapes.  */
static void put_file(struct bt_strbuf *out, const char *what,
		     const struct bt_mason_file *file)
{
	uint32_t i, defines = 0;

	while (file && file->defines && file->defines[defines])
		defines++;
	bt_strbuf_printf(out, "%s %u %u\n", what, file ? file->count : 0,
			 defines);
	for (i = 0; i < defines; i++)
		bt_strbuf_printf(out, "%zu\n%s\n", strlen(file->defines[i]),
				 file->defines[i]);
	for (i = 0; file && i < file->count; i++) {
		const struct bt_mason_text *t = &file->texts[i];

		bt_strbuf_printf(out, "%zu\n%s\n%zu\n", strlen(t->name),
				 t->name, t->length);
		bt_strbuf_add(out, t->text, t->length);
		bt_strbuf_putc(out, '\n');
	}
}

/* O_NOFOLLOW and 0600: it holds texts that may name what others should not see,
 * in a directory that others may write to. */
static int write_state(const struct bt_run *run, const char *suffix,
		       uint64_t generation, const struct bt_mason_file *file,
		       const struct bt_mason_file *before)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *name = NULL;
	int fd = -1, rc = 0;

	bt_strbuf_printf(&sb, MAGIC "%" PRIu64 " %016" PRIx64 "\n", generation,
			 source_of(run->path));
	put_file(&sb, "current", file);
	put_file(&sb, "previous", before);
	bt_strbuf_printf(&sb, "end %016" PRIx64 "\n",
			 checksum(bt_strbuf_str(&sb), sb.len));
	if (sb.failed || asprintf(&name, "%s%s", run->path, suffix) < 0) {
		name = NULL;
		rc = -ENOMEM;
	}
	if (!rc)
		fd = open(name,
			  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			  0600);
	if (!rc)
		rc = fd < 0 ? -errno : spill(fd, sb.data, sb.len);
	if (fd >= 0)
		close(fd);
	if (rc < 0 && fd >= 0)
		unlink(name);
	bt_strbuf_fini(&sb);
	free(name);
	return rc;
}

enum suffix { STATE, STATE_NEW, STATE_OLD };
static const char *const suffixes[] = { ".state", ".state.new", ".state.old" };

static char *name_of(const struct bt_run *run, enum suffix suffix)
{
	char *name;

	return asprintf(&name, "%s%s", run->path, suffixes[suffix]) < 0 ? NULL
									: name;
}

static int give_name(const struct bt_run *run, enum suffix from_suffix,
		     enum suffix to_suffix,
		     int (*give)(const char *from, const char *to))
{
	char *from = name_of(run, from_suffix), *to = name_of(run, to_suffix);
	int rc = -ENOMEM;

	if (from && to)
		rc = give(from, to) < 0 ? -errno : 0;
	free(from);
	free(to);
	return rc;
}

static void drop(const struct bt_run *run, enum suffix suffix)
{
	char *name = name_of(run, suffix);

	if (name)
		unlink(name);
	free(name);
}

/* Where it is not known, it counts as there: then N is not written a second
 * time. */
static bool has_state(const struct bt_run *run)
{
	char *name = name_of(run, STATE);
	bool found = !name || access(name, F_OK) == 0;

	free(name);
	return found;
}

/* Durably. Where N has no other name it is written anew, without the one
 * before. By the other name of N, or written anew; and synced, or a power cut
 * may find N+1 still. */
static int put_back(struct bt_run *run)
{
	int rc = give_name(run, STATE_OLD, STATE, rename);

	if (rc < 0) {
		rc = write_state(run, suffixes[STATE_NEW], run->generation,
				 run->file, NULL);
		if (!rc)
			rc = give_name(run, STATE_NEW, STATE, rename);
	}
	if (!rc)
		rc = bt_path_sync_directory(run->path);
	run->unsettled = rc < 0;
	return rc;
}

/* Not every file system has links. A name that a former try has left would make
 * link fail; it is N's own or older. */
static int keep_old(const struct bt_run *run)
{
	int rc;

	drop(run, STATE_OLD);
	rc = give_name(run, STATE, STATE_OLD, link);
	return rc == -EEXIST ? rc : 0;
}

static bool is_same(const struct bt_mason_file *a,
		    const struct bt_mason_file *b)
{
	char *const none[] = { NULL };
	char *const *da = a->defines ? a->defines : none;
	char *const *db = b->defines ? b->defines : none;
	uint32_t i;

	for (; *da && *db && !strcmp(*da, *db); da++)
		db++;
	if (*da || *db || a->count != b->count)
		return false;
	for (i = 0; i < a->count; i++)
		if (a->texts[i].length != b->texts[i].length ||
		    memcmp(a->texts[i].text, b->texts[i].text,
			   a->texts[i].length) != 0)
			return false;
	return true;
}

/* A text that is applied again is no change: what an undo goes back to stays, or
 * whoever applies his files every night could undo none. */
static int write_next(struct bt_run *run, const struct bt_mason_file *next)
{
	struct bt_mason_file before = *run->file;
	struct bt_state state;
	int rc;

	if (!is_same(next, run->file) ||
	    bt_state_read(run->path, &state, NULL) != 1)
		return write_state(run, suffixes[STATE_NEW],
				   run->generation + 1, next, run->file);
	before.texts = state.old_texts;
	before.count = state.old_count;
	before.defines = state.old_defines;
	rc = write_state(run, suffixes[STATE_NEW], run->generation + 1, next,
			 &before);
	bt_state_fini(&state);
	return rc;
}

/* On the described file itself, which both have, for as long as .state.new is ours.
 * Where it was taken away there is nothing that another could find. */
static int lock(struct bt_run *run, struct blktap_error **err)
{
	run->lock_fd = open(run->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (run->lock_fd < 0 || flock(run->lock_fd, LOCK_EX | LOCK_NB) == 0 ||
	    errno != EWOULDBLOCK)
		return 0;
	close(run->lock_fd);
	run->lock_fd = -1;
	return bt_fail(err, -EBUSY, "try again when that is over",
		       "%s: another process is changing its graph", run->path);
}

static void unlock(struct bt_run *run)
{
	if (run->lock_fd >= 0)
		close(run->lock_fd);
	run->lock_fd = -1;
}

/* Disks of one file may be served by two processes, where they have no image in
 * common. What another has applied is not what runs here, and would be gone from the
 * file with the next change. A file that cannot be read is nobody's. */
static int check_own(const struct bt_run *run, struct blktap_error **err)
{
	struct bt_state state;
	uint64_t generation;

	if (bt_state_read(run->path, &state, NULL) != 1)
		return 0;
	generation = state.generation;
	bt_state_fini(&state);
	if (generation == run->generation)
		return 0;
	return bt_fail(err, -ESTALE,
		       "pause and unpause the file's disks here, which take it "
		       "up then; and apply to one process alone",
		       "%s.state: another process has applied generation %llu, "
		       "and %llu runs here",
		       run->path, (unsigned long long)generation,
		       (unsigned long long)run->generation);
}

/* What an earlier change has left open is settled first: before that, nobody
 * knows what N's name holds on disk. The file has the
 * generation before it as well, which an undo goes back to. */
static int write_both(struct bt_run *run, const struct bt_mason_file *next)
{
	int rc = 0;

	if (!has_state(run)) {
		rc = write_state(run, suffixes[STATE_NEW], run->generation,
				 run->file, NULL);
		if (!rc)
			rc = give_name(run, STATE_NEW, STATE, rename);
	}
	if (!rc)
		rc = write_next(run, next);
	if (!rc)
		rc = keep_old(run);
	return rc ? rc : bt_path_sync_directory(run->path);
}

int bt_state_write(struct bt_run *run, const struct bt_mason_file *next,
		   struct blktap_error **err)
{
	int rc = lock(run, err);

	if (rc < 0)
		return rc;
	rc = run->unsettled ? put_back(run) : 0;
	if (!rc && check_own(run, err) < 0) {
		unlock(run);
		return -ESTALE;
	}
	if (!rc)
		rc = write_both(run, next);
	if (!rc)
		return 0;
	unlock(run);
	return fail(run->path, rc, err);
}

/* The rename is atomic for whoever looks now, and durable with the directory's
 * sync. Only behind both may the caller go on as if N+1 were there. */
int bt_state_commit(struct bt_run *run, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	int rc = give_name(run, STATE_NEW, STATE, rename);

	if (rc < 0)
		return fail(run->path, rc, err);
	rc = bt_path_sync_directory(run->path);
	if (!rc) {
		drop(run, STATE_OLD);
		unlock(run);
		return 0;
	}
	if (put_back(run) == 0)
		return fail(run->path, rc, err);
	return bt_fail(err, rc,
		       "find out what is wrong with that directory; the next "
		       "change settles it",
		       "%s.state: %s; the graph has not changed, but the next "
		       "start may find the new one",
		       run->path, bt_strerror(rc, text));
}

/* The other name of N is kept while it may be needed to put N back. */
void bt_state_drop(struct bt_run *run)
{
	drop(run, STATE_NEW);
	if (!run->unsettled)
		drop(run, STATE_OLD);
	unlock(run);
}

/* ---- reading --------------------------------------------------------------- */

struct reader {
	const char *at, *end;
	bool bad;
};

/* A number that fits, up to the byte `after`. Once
 * bad, the reader stays so, and all that follows is. */
static uint64_t get_number(struct reader *r, int base, char after)
{
	char *end;
	uint64_t n;

	if (r->bad || r->at == r->end || *r->at == ' ' || *r->at == '-') {
		r->bad = true;
		return 0;
	}
	errno = 0;
	n = strtoull(r->at, &end, base); /* the buffer ends with a NUL */
	r->bad = errno || end == r->at || end >= r->end || *end != after;
	r->at = r->bad ? r->end : end + 1;
	return n;
}

/* A length is compared with what is left before anything is allocated. A NUL in
 * the text makes it bad: it would end there for everybody else. */
static char *get_bytes(struct reader *r, size_t *length)
{
	uint64_t n = get_number(r, 10, '\n');
	char *out;

	if (r->bad || n >= (uint64_t)(r->end - r->at) || r->at[n] != '\n') {
		r->bad = true;
		return NULL;
	}
	out = strndup(r->at, (size_t)n);
	r->bad = !out || strlen(out) != n;
	r->at += n + 1;
	*length = (size_t)n;
	return out;
}

static void get_word(struct reader *r, const char *word)
{
	size_t n = strlen(word);

	if (r->bad || (size_t)(r->end - r->at) < n || memcmp(r->at, word, n))
		r->bad = true;
	else
		r->at += n;
}

/* What was read so far stays in state, also where it is bad: bt_state_fini
 * frees it. */
static void get_file(struct reader *r, struct bt_mason_text **texts,
		     uint32_t *count, char ***defines)
{
	uint64_t i, n = get_number(r, 10, ' ');
	uint64_t d = get_number(r, 10, '\n');
	size_t length;

	if (r->bad || n > ITEMS_MAX || d > ITEMS_MAX) {
		r->bad = true;
		return;
	}
	*defines = calloc(d + 1, sizeof(char *));
	*texts = calloc(n + 1, sizeof(**texts));
	r->bad = !*defines || !*texts;
	for (i = 0; i < d && !r->bad; i++)
		(*defines)[i] = get_bytes(r, &length);
	for (i = 0; i < n && !r->bad; i++) {
		struct bt_mason_text *t = &(*texts)[i];

		*count = (uint32_t)i + 1;
		t->name = get_bytes(r, &length);
		if (!r->bad)
			t->text = get_bytes(r, &t->length);
	}
}

/* The sum is over all before "end", read from the one buffer; there must be
 * nothing behind it. */
static bool parse(const struct bt_strbuf *sb, struct bt_state *state)
{
	struct reader r = { sb->data, sb->data + sb->len, !sb->len };
	uint64_t sum;

	get_word(&r, MAGIC);
	state->generation = get_number(&r, 10, ' ');
	state->source = get_number(&r, 16, '\n');
	get_word(&r, "current ");
	get_file(&r, &state->texts, &state->count, &state->defines);
	get_word(&r, "previous ");
	get_file(&r, &state->old_texts, &state->old_count, &state->old_defines);
	sum = checksum(sb->data, (size_t)(r.at - sb->data));
	get_word(&r, "end ");
	return get_number(&r, 16, '\n') == sum && !r.bad && r.at == r.end &&
	       state->count && state->generation;
}

/* A state that is damaged is an error and not "none": starting from the file
 * might start another graph than the one that ran. */
int bt_state_read(const char *path, struct bt_state *state,
		  struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *name = NULL;
	int rc = 0;

	memset(state, 0, sizeof(*state));
	if (asprintf(&name, "%s.state", path) < 0)
		return fail(path, -ENOMEM, err);
	rc = slurp(name, STATE_MAX, &sb);
	if (rc == -ENOENT) {
		rc = 0;
	} else if (rc < 0) {
		fail(path, rc, err);
	} else {
		bt_strbuf_putc(&sb, '\0');
		sb.len--;
		rc = 1;
		if (!parse(&sb, state)) {
			bt_state_fini(state);
			rc = bt_fail(err, -EBADMSG,
				     "remove it to start from the file itself",
				     "%s: is not a whole state", name);
		}
	}
	bt_strbuf_fini(&sb);
	free(name);
	return rc;
}

static void free_texts(struct bt_mason_text *texts, uint32_t count,
		       char **defines)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		free(texts[i].name);
		free(texts[i].text);
	}
	free(texts);
	for (i = 0; defines && defines[i]; i++)
		free(defines[i]);
	free(defines);
}

void bt_state_fini(struct bt_state *state)
{
	free_texts(state->texts, state->count, state->defines);
	free_texts(state->old_texts, state->old_count, state->old_defines);
	memset(state, 0, sizeof(*state));
}

/* Neither what it was when the generation began nor what runs: a file that was
 * applied is the text that runs. */
bool bt_state_is_stale(const char *path, const struct bt_state *state)
{
	uint64_t now = source_of(path);

	return now != state->source &&
	       now != checksum(state->texts[0].text, state->texts[0].length);
}
