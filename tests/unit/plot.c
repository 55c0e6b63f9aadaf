/* SPDX-License-Identifier: BSD-3-Clause */
#include "plot.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "seed.h"
#include "unit.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define EDITS 40u /* that are tried for a change */
#define KEEPS_NOTHING ((1u << PLOT_SNAP) - 1u)
#define MOVES (1u << PLOT_MIRROR | 1u << PLOT_COPY)

static uint32_t any(struct plot_world *w, uint32_t below)
{
	return (uint32_t)(seed_next(w->random) % below);
}

static bool is_in(const struct plot_module *m, uint32_t kinds)
{
	return kinds >> m->kind & 1u;
}

/* ---- files ---------------------------------------------------------------- */

static uint32_t take(struct plot_world *w, uint64_t size)
{
	uint32_t n;

	for (n = 0; n < PLOT_FILES; n++)
		if (!(w->used >> n & 1u)) {
			w->used |= 1u << n;
			w->file_size[n] = size;
			return n;
		}
	return PLOT_NONE;
}

static bool make_leaf(struct plot_world *w, struct plot *p,
		      struct plot_leaf *leaf)
{
	leaf->id = p->next_id++;
	leaf->way = any(w, 3);
	leaf->files[0] = take(w, leaf->way ? w->size / 2 : w->size);
	leaf->files[1] = leaf->way ? take(w, w->size / 2) : PLOT_NONE;
	return leaf->files[0] != PLOT_NONE &&
	       (!leaf->way || leaf->files[1] != PLOT_NONE);
}

/* 0: it has none. */
static uint64_t store_size(const struct plot_world *w, enum plot_kind kind)
{
	switch (kind) {
	case PLOT_SNAP:
	case PLOT_COW:
	case PLOT_CACHE:
		return 2 * w->size + 2 * MIB;
	case PLOT_BITMAP:
	case PLOT_CHECKSUM:
		return 2 * MIB;
	case PLOT_WRITELOG:
		return 512 * MIB;
	case PLOT_MIRROR:
	case PLOT_COPY:
		return 1 * MIB;
	default:
		return 0;
	}
}

static uint32_t leaf_files(const struct plot_leaf *leaf)
{
	return 1u << leaf->files[0] | (leaf->way ? 1u << leaf->files[1] : 0);
}

uint32_t plot_files(const struct plot *p)
{
	uint32_t i, files = leaf_files(&p->leaf);

	for (i = 0; i < p->count; i++) {
		const struct plot_module *m = &p->modules[i];

		if (m->store != PLOT_NONE)
			files |= 1u << m->store;
		if (is_in(m, MOVES))
			files |= leaf_files(&m->to);
	}
	return files;
}

/* ---- changes -------------------------------------------------------------- */

const struct plot_module *plot_mover(const struct plot *p)
{
	uint32_t i;

	for (i = 0; i < p->count; i++)
		if (is_in(&p->modules[i], MOVES))
			return &p->modules[i];
	return NULL;
}

/* How many modules are above the first that has bytes: nothing is written below
 * it, so whoever copies comes above it. */
static uint32_t written(const struct plot *p)
{
	uint32_t i;

	for (i = 0; i < p->count && p->modules[i].kind != PLOT_COW; i++)
		;
	return i;
}

static void drop(struct plot *p, uint32_t at, uint32_t count)
{
	memmove(&p->modules[at], &p->modules[at + count],
		(p->count - at - count) * sizeof(p->modules[0]));
	p->count -= count;
}

static bool insert(struct plot_world *w, struct plot *p, uint32_t first_new)
{
	struct plot_module m = { .kind = (enum plot_kind)any(w, PLOT_KINDS),
				 .way = any(w, 4),
				 .store = PLOT_NONE };
	uint32_t at = any(w, (any(w, 4) ? written(p) : p->count) + 1);
	uint64_t size = store_size(w, m.kind);

	if (p->count == PLOT_MODULES || !is_in(&m, w->kinds))
		return false;
	if (m.kind == PLOT_COW || is_in(&m, MOVES)) {
		if (plot_mover(p))
			return false;
		at = any(w, written(p) + 1);
		/* a new one is prepared by who may write there */
		if (written(p) < p->count &&
		    p->modules[written(p)].id >= first_new)
			return false;
	}
	if (m.kind == PLOT_COPY_ON_READ) {
		at = written(p);
		if (at == p->count ||
		    (at && p->modules[at - 1].kind == PLOT_COPY_ON_READ))
			return false;
	}
	m.id = p->next_id++;
	if (is_in(&m, MOVES) && !make_leaf(w, p, &m.to))
		return false;
	if (size && !(is_in(&m, MOVES) && m.way & 1)) {
		m.store = take(w, size);
		if (m.store == PLOT_NONE)
			return false;
	}
	memmove(&p->modules[at + 1], &p->modules[at],
		(p->count - at) * sizeof(m));
	p->modules[at] = m;
	p->count++;
	return true;
}

/* Who copies is given up, or has done what it was for: only one that runs can have. */
static bool take_out(struct plot_world *w, struct plot *p, uint32_t first_new)
{
	uint32_t at = p->count ? any(w, p->count) : 0;
	const struct plot_module *m = &p->modules[at];

	if (!p->count || m->kind == PLOT_COW)
		return false;
	if (is_in(m, MOVES) && m->id < first_new && any(w, 4)) {
		p->leaf = m->to;
		p->count = at;
	} else {
		drop(p, at, 1);
	}
	return true;
}

/* Arguments that may change while it runs, or those that make it another. */
static bool reconfigure(struct plot_world *w, struct plot *p)
{
	struct plot_module *m;

	if (!p->count)
		return false;
	m = &p->modules[any(w, p->count)];
	if (!is_in(m, KEEPS_NOTHING | 1u << PLOT_BITMAP))
		return false;
	m->way = any(w, 4);
	return true;
}

void plot_begin(struct plot_world *w, struct plot *p)
{
	memset(p, 0, sizeof(*p));
	w->used = 0;
	ck_assert(make_leaf(w, p, &p->leaf));
}

/* One edit, or several at once. */
bool plot_change(struct plot_world *w, const struct plot *p, struct plot *next)
{
	uint32_t tries, n = 1 + any(w, 3), used;
	struct plot before;
	bool done = false;

	*next = *p;
	for (tries = 0; n && tries < EDITS; tries++) {
		bool ok;

		before = *next;
		used = w->used;
		switch (any(w, 5)) {
		case 0:
		case 1:
			ok = take_out(w, next, p->next_id);
			break;
		case 2:
			ok = reconfigure(w, next);
			break;
		default:
			ok = insert(w, next, p->next_id);
			break;
		}
		if (!ok) {
			*next = before;
			w->used = used;
			continue;
		}
		done = true;
		n--;
	}
	return done;
}

/* ---- text ----------------------------------------------------------------- */

struct text {
	char *out;
	size_t size, at;
};

static void put(struct text *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	t->at += (size_t)vsnprintf(t->out + t->at, t->size - t->at, format,
				   list);
	va_end(list);
	ck_assert_uint_lt(t->at, t->size);
}

/* Some have a name, and some none. */
static void put_file(struct text *t, const char *from, uint32_t file)
{
	if (file % 2)
		put(t, "%s -> x%u :: raw(<%c>); ", from, file, 'a' + file);
	else
		put(t, "%s -> raw(<%c>); ", from, 'a' + file);
}

static void put_leaf(struct text *t, const char *from,
		     const struct plot_leaf *leaf)
{
	char name[32];
	uint32_t i;

	if (!leaf->way) {
		put(t, "%s -> l%u :: raw(<%c>); ", from, leaf->id,
		    'a' + leaf->files[0]);
		return;
	}
	put(t, "%s -> l%u :: %s; ", from, leaf->id,
	    leaf->way == 1 ? "stripe(chunk=64k)" : "concat()");
	snprintf(name, sizeof(name), "l%u", leaf->id);
	for (i = 0; i < 2; i++)
		put_file(t, name, leaf->files[i]);
}

struct words {
	const char *class[4]; /* for each way */
	const char *on; /* the port that goes on; NULL: there is one */
	const char *store;
};

static const struct words words[PLOT_KINDS] = {
	[PLOT_LOG] = { { "log(what=errors)", "log(what=errors, slower=1s)",
			 "log(what=errors)", "log(what=errors)" },
		       NULL,
		       NULL },
	[PLOT_THROTTLE] = { { "throttle(iops=1000000/s)",
			      "throttle(iops=900000/s)",
			      "throttle(bytes=4000M/s)",
			      "throttle(iops=1000000/s, burst=1s)" },
			    NULL,
			    NULL },
	[PLOT_RETRY] = { { "retry(for=1s)", "retry(for=2s)", "retry(for=1s)",
			   "retry(for=100ms)" },
			 NULL,
			 NULL },
	[PLOT_DELAY] = { { "delay(max=100us)", "delay(max=1ms, what=reads)",
			   "delay(max=1ms, what=flushes)",
			   "delay(max=200us, seed=2)" },
			 NULL,
			 NULL },
	[PLOT_CONCAT] = { { "concat()", "concat()", "concat()", "concat()" },
			  NULL,
			  NULL },
	[PLOT_SNAP] = { { "snap()", "snap(chunk=16k)", "snap(on_full=stop)",
			  "snap(chunk=4k)" },
			"origin",
			"delta" },
	[PLOT_BITMAP] = { { "bitmap(checkpoints=[\"mon\"])",
			    "bitmap(checkpoints=[\"mon\", \"tue\"])",
			    "bitmap()", "bitmap(checkpoints=[\"tue\"])" },
			  "lower",
			  "store" },
	[PLOT_CACHE] = { { "cache(mode=writeback, size=1M)",
			   "cache(mode=writethrough, size=1M)",
			   "cache(mode=writeback, size=2M, dirty=10%)",
			   "cache(mode=writeback, size=1M, bypass=64k)" },
			 "origin",
			 "store" },
	[PLOT_CHECKSUM] = { { "checksum(adopt=true)", "checksum(adopt=true)",
			      "checksum(adopt=true)", "checksum(adopt=true)" },
			    "lower",
			    "store" },
	[PLOT_WRITELOG] = { { "writelog()", "writelog()", "writelog()",
			      "writelog()" },
			    "lower",
			    "log" },
	[PLOT_COW] = { { "cow()", "cow(grain=512)", "cow(grain=16k)",
			 "cow(grain=64k)" },
		       "base",
		       "top" },
	[PLOT_COPY_ON_READ] = { { "copy_on_read()", "copy_on_read(unit=4k)",
				  "copy_on_read(unit=512)",
				  "copy_on_read(unit=256k)" },
				NULL,
				NULL },
	[PLOT_MIRROR] = { { "mirror(sync=background, region=64k)",
			    "mirror(sync=background, region=64k, read=spread)",
			    "mirror(sync=background, region=128k, "
			    "read=fastest)",
			    "mirror(sync=background, region=1M)" },
			  "0", /* the source */
			  "log" },
	[PLOT_COPY] = { { "copy(region=64k)", "copy(region=64k)",
			  "copy(region=256k)", "copy(region=1M)" },
			"from",
			"log" },
};

static void put_module(struct text *t, const struct plot_world *w,
		       const char *from, const struct plot_module *m, char *on,
		       size_t size)
{
	const struct words *word = &words[m->kind];
	char port[64];

	snprintf(on, size, word->on ? "n%u[%s]" : "n%u", m->id, word->on);
	if (m->kind == PLOT_SLICE)
		put(t, "%s -> n%u :: slice(offset=0, size=%llu); ", from, m->id,
		    (unsigned long long)w->size);
	else
		put(t, "%s -> n%u :: %s; ", from, m->id, word->class[m->way]);
	if (m->store != PLOT_NONE) {
		snprintf(port, sizeof(port), "n%u[%s]", m->id, word->store);
		put_file(t, port, m->store);
	}
}

static void put_assert(struct text *t, const struct plot *p,
		       const struct plot *was)
{
	const struct plot_module *m = was ? plot_mover(was) : NULL;

	if (!m || p->leaf.id != m->to.id)
		return;
	if (m->kind == PLOT_MIRROR)
		put(t, "assert run.n%u.state == synced && run.n%u.dirty == 0; ",
		    m->id, m->id);
	else
		put(t, "assert run.n%u.state == done; ", m->id);
}

void plot_text(const struct plot_world *w, const struct plot *p,
	       const struct plot *was, char *out, size_t size)
{
	struct text t = { .out = out, .size = size };
	char from[64] = "d", on[64];
	uint32_t i;

	put_assert(&t, p, was);
	put(&t, "d :: disk(\"d\"); ");
	for (i = 0; i < p->count; i++) {
		const struct plot_module *m = &p->modules[i];

		put_module(&t, w, from, m, on, sizeof(on));
		strcpy(from, on);
		if (!is_in(m, MOVES))
			continue;
		snprintf(on, sizeof(on), "n%u[%s]", m->id,
			 m->kind == PLOT_COPY ? "to" : "1");
		put_leaf(&t, on, &m->to);
	}
	put_leaf(&t, from, &p->leaf);
}
