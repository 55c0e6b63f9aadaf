/* SPDX-License-Identifier: BSD-3-Clause */
/* All that may happen to a graph in use, in any order and at any moment: modules of
 * every kind that come and go, several at once, copies to another leaf that takes the
 * place of the old one, changes that fail at any step, undo, pauses, errors of the
 * files, closing. A client writes all the while, and a flat array knows what the disk
 * has to hold. BLKTAP_SEED repeats a run, BLKTAP_TEST_LONG=N makes N rounds. */
#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plot.h"
#include "scratch.h"
#include "seed.h"
#include "vbd/private.h"

#define SIZE (1u << 20)
#define STEPS 400u
#define ROUNDS 6u
#define TEXT 4096u

static struct plot_world world;
static struct plot now, before; /* what runs, and what undo goes back to */
static bool has_before;
static char running[2 * TEXT], former[2 * TEXT]; /* their texts */
static char dir[64];
static uint64_t state;
static uint32_t made, refused, undone;

static uint64_t any(uint64_t below)
{
	return seed_next(&state) % below;
}

/* ---- the disk -------------------------------------------------------------- */

static void put_files(uint32_t files)
{
	char path[96];
	uint32_t n;
	int fd;

	for (n = 0; n < PLOT_FILES; n++) {
		if (!(files >> n & 1u))
			continue;
		snprintf(path, sizeof(path), "%s/%c", dir, 'a' + (int)n);
		unlink(path);
		fd = open(path, O_CREAT | O_RDWR, 0600);
		ck_assert_int_eq(ftruncate(fd, (off_t)world.file_size[n]), 0);
		close(fd);
	}
}

/* The text with paths for names: raw(<a>) is raw("DIR/a"). */
static const char *text_of(const struct plot *p, const struct plot *was)
{
	static char text[2 * TEXT];
	char story[TEXT], *to = text;
	const char *at;

	plot_text(&world, p, was, story, sizeof(story));
	for (at = story; *at; at++) {
		if (*at == '<')
			to += sprintf(to, "\"%s/", dir);
		else if (*at == '>' && at[-1] != '-')
			to += sprintf(to, "\"");
		else
			*to++ = *at;
	}
	*to = '\0';
	return text;
}

static void open_disk(void)
{
	struct blktap_error *err = NULL;
	char spec[128];
	int rc;

	snprintf(spec, sizeof(spec), "mason:%s/x.mason", dir);
	rc = blktap_disk_open(context, spec, NULL, &m.disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static void begin(void)
{
	char path[96];
	FILE *f;

	world = (struct plot_world){ .random = &state,
				     .size = SIZE,
				     .kinds = ~0u };
	plot_begin(&world, &now);
	has_before = false;
	put_files(plot_files(&now));
	snprintf(path, sizeof(path), "%s/x.mason.state", dir);
	unlink(path);
	path[strlen(path) - 6] = '\0';
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	strcpy(running, text_of(&now, NULL));
	fputs(running, f);
	fclose(f);
	open_disk();
}

/* ---- trouble --------------------------------------------------------------- */

/* An error may cost what is there twice, or what is in the store of a cache alone:
 * other tests look at that. */
static bool is_fragile(const struct plot *p)
{
	uint32_t i;

	for (i = 0; i < p->count && p->modules[i].kind != PLOT_CACHE; i++)
		;
	return i < p->count || plot_mover(p);
}

static void trouble(void)
{
	uint64_t n = any(10);

	make_trouble(n < TROUBLES && troubles[n].error && is_fragile(&now)
			     ? TROUBLES
			     : n);
}

static bool is_calm(void)
{
	uint32_t i;

	for (i = 0; i < faulty.rule_count; i++)
		if (faulty.rules[i].nth != UINT32_MAX && faulty.rules[i].error)
			return false;
	return true;
}

/* ---- changes --------------------------------------------------------------- */

static int fail_at; /* a step, counted down; negative: none fails */
static bool failed;

static int on_step(void *opaque, const char *name)
{
	if (!strcmp(name, "swing") || !strcmp(name, "release") || fail_at < 0 ||
	    fail_at--)
		return 0;
	failed = true;
	return -EPERM;
}

/* Whether it may have been refused so: by a step that was to fail, by the file's
 * assert, by errors that were to come, by what does not take the large blocks below
 * it. */
static bool may_refuse(int rc, const char *message)
{
	if (rc == -EPERM)
		return failed;
	if (rc == -ENOENT) /* an undo, to a text with an assert */
		return strstr(message, "does not run");
	if (rc == -EBUSY) /* a disk cuts requests for smaller ones already */
		return strstr(message, "no room for blocks");
	if (rc == -ENODATA) /* a mirror's leg has another name */
		return strstr(message, "good on no leg");
	if (rc == -EINVAL)
		return strstr(message, "larger than 4096") ||
		       strstr(message, "less than a block") ||
		       strstr(message, "the blocks are") ||
		       strstr(message, "larger than the pieces");
	return rc == -EAGAIN || (!is_calm() && (rc == -EIO || rc == -ENOSPC));
}

static void expect_refusal(int rc, struct blktap_error *err, const char *text)
{
	const char *message = err ? blktap_error_get_message(err) : "";

	ck_assert_msg(!rc || may_refuse(rc, message), "%s\n%d: %s", text, rc,
		      message);
	blktap_error_destroy(err);
}

static void change(void)
{
	struct blktap_error *err = NULL;
	struct plot next;
	const char *text;
	int rc;

	world.used = plot_files(&now) | (has_before ? plot_files(&before) : 0);
	if (pausing || !plot_change(&world, &now, &next))
		return;
	if (is_fragile(&next))
		calm();
	put_files(plot_files(&next) & ~plot_files(&now));
	text = text_of(&next, &now);
	fail_at = any(3) ? -1 : (int)any(30);
	failed = false;
	rc = blktap_mason_apply(m.disk, "next", text, strlen(text), NULL, NULL,
				&err);
	expect_refusal(rc, err, text);
	refused += rc != 0;
	if (rc)
		return;
	made++;
	/* a text that is applied again is none that undo goes back to */
	if (strcmp(text, running)) {
		strcpy(former, running);
		strcpy(running, text);
		before = now;
		has_before = true;
	}
	now = next;
}

static const struct plot_module *find(const struct plot *p, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < p->count; i++)
		if (p->modules[i].id == id)
			return &p->modules[i];
	return NULL;
}

/* Where nothing has gone that keeps something of what was written since, and nothing
 * that has it has come. */
static bool may_undo(void)
{
	uint32_t i;

	if (!has_before || now.leaf.id != before.leaf.id)
		return false;
	for (i = 0; i < before.count; i++)
		if (before.modules[i].kind >= PLOT_SNAP &&
		    !find(&now, before.modules[i].id))
			return false;
	for (i = 0; i < now.count; i++)
		if (now.modules[i].kind == PLOT_COW &&
		    !find(&before, now.modules[i].id))
			return false;
	return true;
}

static void undo(void)
{
	struct blktap_error *err = NULL;
	int rc;

	if (pausing || !may_undo())
		return;
	fail_at = -1;
	failed = false;
	rc = blktap_mason_undo(m.disk, NULL, NULL, &err);
	expect_refusal(rc, err, "undo");
	if (rc)
		return;
	undone++;
	now = before;
	strcpy(running, former);
	has_before = false;
}

/* ---- what else happens ------------------------------------------------------ */

static void reopen(void)
{
	end_pause(calm);
	calm();
	model_wait(&m);
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	open_disk();
	model_verify(&m);
}

static void step(void)
{
	uint64_t n = any(100);

	if (n < 55)
		model_begin(&m);
	else if (n < 60)
		pass_time();
	else if (n < 75)
		turn(any(30));
	else if (n < 90)
		change();
	else if (n < 93)
		undo();
	else if (n < 96)
		toggle_pause(calm);
	else if (n < 98)
		trouble();
	else
		reopen();
}

static void round_of(uint64_t seed)
{
	uint32_t n;

	faulty_reset();
	state = seed;
	pausing = false;
	model_init(&m, context, SIZE, seed & 1 ? 4096 : 512, seed);
	m.may_fail = true;
	begin();
	for (n = 0; n < seed_rounds(STEPS); n++)
		step();
	end_pause(calm);
	calm();
	model_run(&m, 20);
	reopen();
	ck_assert_int_eq(blktap_disk_close(m.disk), 0);
	model_fini(&m);
}

START_TEST(a_graph_is_the_same_disk_whatever_happens_to_it)
{
	const char *more = getenv("BLKTAP_TEST_LONG");
	uint64_t seed = seed_take();
	uint32_t n, rounds = more ? (uint32_t)atoi(more) : ROUNDS;

	scratch_make(dir, sizeof(dir));
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_MONOTONIC,
					      &faulty_backend, &context),
			 0);
	context->run_ops.step = on_step;
	for (n = 0; n < rounds; n++) {
		printf("round %u: BLKTAP_SEED=%" PRIu64 "\n", n, seed + n);
		fflush(stdout);
		round_of(seed + n);
	}
	printf("%u changes, %u refused, %u undone\n", made, refused, undone);
	ck_assert_uint_gt(made, 0);
	blktap_context_destroy(context);
	scratch_remove(dir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-life");
	TCase *tc = tcase_create("mason-life");

	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc, a_graph_is_the_same_disk_whatever_happens_to_it);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
