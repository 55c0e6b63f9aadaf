/* SPDX-License-Identifier: BSD-3-Clause */
/* Many short lives of a disk whose writes are held back, and which two rings and
 * others use (ring-life.h): requests, pauses, resumes onto files in memory, on a
 * device and behind another node; graphs that change, so that writes are marked or go
 * to two images, of which the new one stays; snapshots, commits, growth; daemons that
 * hand a device over; moves and fetches that fail; in any order.
 * BLKTAP_SEED repeats a run. */
#include "ring-life.h"

#include <blktap/blktap.h>
#include <sys/stat.h>

#define STEPS 500u
#define LIVES 24
#define GROWTH 3u /* regions that the disk may grow by */
#define DEADLINE_MS 60000u

enum kind {
	RAW,
	MASON, /* raw as well, by a file */
	OVERLAY, /* qcow2, on it */
};

/* What stands above the image of a file. */
enum graph {
	PLAIN,
	LOGGED,
	THROTTLED,
	MARKED, /* in a log of changed blocks */
	MIRRORED,
	GRAPHS,
	SLICED = GRAPHS, /* stays so */
};

struct image {
	uint32_t number;
	char path[96];
};

static char dir[64], spec[256], log_path[96], next_log[96];
static enum kind kind;
static enum graph graph;
static struct image now, leg; /* what the disk stands on; a mirror's second */
static uint32_t names; /* given so far */
static uint32_t grown;
static bool paused;
static struct blktap_job *job;
static bool job_over;

static void must(int rc, struct blktap_error **err)
{
	ck_assert_msg(!rc, "%d: %s", rc,
		      *err ? blktap_error_get_message(*err) : "");
}

/* ---- images ---------------------------------------------------------------- */

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static uint32_t size_now(void)
{
	return SIZE + grown * FAKE_SLOT;
}

/* In memory, or on a device. */
static void make_file(struct image *made)
{
	int fd;

	made->number = ++names;
	snprintf(made->path, sizeof(made->path), "%s%s/i%u",
		 draw(5) ? "/dev/shm" : "/var/tmp", strrchr(dir, '/'), names);
	fd = open(made->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size_now()), 0);
	close(fd);
}

static void copy_file(const char *from, const char *to)
{
	static uint8_t bytes[SIZE + GROWTH * FAKE_SLOT];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(in, 0);
	ck_assert_int_ge(out, 0);
	ck_assert_int_eq(pread(in, bytes, size_now(), 0), size_now());
	ck_assert_int_eq(pwrite(out, bytes, size_now(), 0), size_now());
	close(in);
	close(out);
}

/* The file of a graph that begins with it. */
static void make_graph(void)
{
	char name[112], text[256];

	graph = draw(6) ? PLAIN : SLICED;
	snprintf(name, sizeof(name), "%s.mason", now.path);
	if (graph == SLICED)
		snprintf(text, sizeof(text),
			 "d :: disk(\"x\") -> slice(offset=0, size=%u)"
			 " -> n%u :: raw(%s);\n",
			 size_now(), now.number, now.path);
	else
		snprintf(text, sizeof(text),
			 "d :: disk(\"x\") -> n%u :: raw(%s);\n", now.number,
			 now.path);
	write_text(name, text);
	snprintf(spec, sizeof(spec), "mason:%s", name);
}

/* With the bytes of the present one, or empty. */
static void make_image(bool empty)
{
	struct image made;

	make_file(&made);
	if (!empty)
		copy_file(now.path, made.path);
	now = made;
	graph = PLAIN;
	snprintf(spec, sizeof(spec), "raw:%s", now.path);
	kind = draw(3) ? MASON : RAW;
	if (kind == MASON)
		make_graph();
}

/* As toolstacks take a snapshot: what is in memory is below the disk then. */
static void make_overlay(void)
{
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	char name[112];

	snprintf(name, sizeof(name), "%s/over%u", dir, ++names);
	blktap_image_options_init(&o);
	o.backing = now.path;
	o.backing_format = "raw";
	must(blktap_image_create("qcow2", name, &o, &err), &err);
	snprintf(spec, sizeof(spec), "qcow2:%s", name);
	kind = OVERLAY;
	graph = PLAIN;
}

/* ---- trouble ----------------------------------------------------------------- */

static void make_trouble(void)
{
	/* no part of a request is as long as one */
	static const int errors[] = { -ENOSPC, -EIO, -EBADF, -EINVAL,
				      -EINTR,  511,  4095,   0 };
	uint32_t n = sizeof(errors) / sizeof(*errors);
	struct fake *f = fake_at(draw(RINGS));

	f->move_result = errors[draw(n)];
	f->move_error = draw(4) ? 0 : -ENOMEM;
	f->fetch_error = draw(4) ? 0 : errors[draw(n - 1)];
}

static void calm(void)
{
	uint32_t r;

	for (r = 0; r < RINGS; r++)
		fake_at(r)->move_result = fake_at(r)->move_error =
			fake_at(r)->fetch_error = 0;
}

/* ---- pauses ------------------------------------------------------------------ */

static void on_pause(void *opaque, int error, const char *message)
{
	(void)opaque;
	(void)message;
	ck_assert_int_eq(error, 0);
	paused = true;
}

static void pause_it(void)
{
	int i;

	ck_assert_int_eq(blktap_disk_pause(disk, 0, on_pause, NULL), 0);
	for (i = 0; i < 2000 && !paused; i++)
		process(1);
	ck_assert(paused);
}

/* As it was, or onto another image that holds the same. */
static void resume(void)
{
	struct blktap_error *err = NULL;
	uint32_t before = names;

	if (kind != OVERLAY && draw(2)) {
		if (draw(2))
			make_image(false);
		else
			make_overlay();
		era++;
	}
	must(blktap_disk_resume(disk, names != before ? spec : NULL, &err),
	     &err);
	paused = false;
}

/* ---- graphs ------------------------------------------------------------------ */

/* What was written while it was marked is in the log: a bit for each region, the
 * lowest first. */
static void check_marks(void)
{
	struct blktap_error *err = NULL;
	void *map = NULL;
	const uint8_t *bits;
	size_t size;
	uint32_t i;

	must(blktap_cbt_read_map(log_path, &map, &size, &err), &err);
	bits = map;
	for (i = 0; i < REGIONS; i++)
		ck_assert_msg(!changed[i] || bits[i / 8] >> i % 8 & 1,
			      "region %u was written to, and is not marked", i);
	free(map);
}

static void make_log(void)
{
	struct blktap_error *err = NULL;

	snprintf(next_log, sizeof(next_log), "%s/log%u", dir, ++names);
	must(blktap_cbt_create(next_log, size_now(), &err), &err);
}

/* The text of the graph to come, above the image of it. */
static void describe(enum graph next, const struct image *on, char *text,
		     size_t size)
{
	char above[256] = "";

	if (next == LOGGED)
		strcpy(above, "log(slower=60s) ->");
	else if (next == THROTTLED)
		strcpy(above, "throttle(iops=10000000/s) ->");
	else if (next == MARKED)
		snprintf(above, sizeof(above), "cbt(log=\"%s\") ->", next_log);
	if (next == MIRRORED)
		snprintf(text, size,
			 "d :: disk(\"x\") -> m :: mirror(sync=background, "
			 "source=0, region=64k) => n%u :: raw(%s), "
			 "n%u :: raw(%s);\n",
			 on->number, on->path, leg.number, leg.path);
	else
		snprintf(text, size,
			 "%sd :: disk(\"x\") -> %s n%u :: raw(%s);\n",
			 graph == MIRRORED ? "assert run.m.state == synced && "
					     "run.m.dirty == 0;\n"
					   : "",
			 above, on->number, on->path);
}

static int apply(enum graph next, const struct image *on,
		 struct blktap_error **err)
{
	struct blktap_mason_change change;
	char text[768];
	int rc;

	describe(next, on, text, sizeof(text));
	blktap_mason_change_init(&change);
	change.deadline_ms = DEADLINE_MS;
	/* what is out goes by the one graph or the other */
	end_all();
	era++;
	rc = blktap_mason_apply(disk, "new.mason", text, strlen(text), &change,
				NULL, err);
	end_all();
	if (rc)
		return rc;
	if (graph == MARKED)
		check_marks();
	memset(changed, 0, sizeof(changed));
	strcpy(log_path, next_log);
	graph = next;
	return 0;
}

/* The mirror goes, and what it stood on, where its new leg has all. */
static void leave_mirror(void)
{
	struct blktap_error *err = NULL;
	int rc = apply(PLAIN, &leg, &err);

	if (rc != -EAGAIN)
		must(rc, &err);
	else
		blktap_error_destroy(err);
	if (!rc)
		now = leg;
}

static void change_graph(void)
{
	enum graph next = draw(GRAPHS);
	struct blktap_error *err = NULL;

	if (kind != MASON || graph == SLICED || paused)
		return;
	if (graph == MIRRORED) {
		leave_mirror();
		return;
	}
	if (next == MARKED)
		make_log();
	else if (next == MIRRORED)
		make_file(&leg);
	must(apply(next, &now, &err), &err);
}

/* ---- jobs -------------------------------------------------------------------- */

static void on_job(void *opaque, int error, const char *message)
{
	(void)opaque;
	ck_assert_msg(!error || error == -ECANCELED, "%s", message);
	job_over = true;
}

/* All that is above the image goes into it. */
static void start_job(void)
{
	struct blktap_error *err = NULL;
	struct blktap_job_options o;

	if (job || paused || kind != OVERLAY)
		return;
	blktap_job_options_init(&o);
	o.kind = BLKTAP_JOB_COMMIT;
	o.base = now.path;
	o.chunk = 1u << 16;
	job_over = false;
	must(blktap_job_start(disk, &o, on_job, NULL, &job, &err), &err);
}

static void end_job(void)
{
	struct blktap_job_info info = { .size = sizeof(info) };

	if (!job || !job_over)
		return;
	blktap_job_get_info(job, &info);
	if (!info.error) {
		kind = RAW;
		era++;
	}
	ck_assert_int_eq(blktap_job_destroy(job), 0);
	job = NULL;
}

static void take_snapshot(void)
{
	struct blktap_error *err = NULL;

	if (job || paused || kind != OVERLAY)
		return;
	must(blktap_disk_snapshot(disk, NULL, DEADLINE_MS, NULL, &err), &err);
	end_all();
}

static void grow(void)
{
	struct blktap_error *err = NULL;
	uint32_t r;

	if (paused || kind != RAW || grown == GROWTH)
		return;
	grown++;
	must(blktap_disk_resize(disk, size_now(), DEADLINE_MS, &err), &err);
	end_all();
	for (r = 0; r < RINGS; r++)
		ck_assert_uint_eq(fake_at(r)->resize.capacity, size_now());
}

static void hand_over(void)
{
	uint32_t r = draw(RINGS);

	ck_assert_int_eq(blktap_ring_destroy(r ? second_ring : ring,
					     BLKTAP_RING_END_KEEP),
			 0);
	inherit(r);
}

/* ---- the test --------------------------------------------------------------- */

static void begin_some(void)
{
	uint32_t n = 1 + draw(6);

	while (n--)
		begin(draw(REGIONS));
}

/* In the middle of what others have just begun. */
static void happen(void)
{
	uint32_t n = draw(32);

	begin_some();
	if (paused && n < 16)
		resume();
	else if (n < 10)
		change_graph();
	else if (n < 14)
		start_job();
	else if (n < 16)
		take_snapshot();
	else if (n < 17)
		grow();
	else if (n < 20)
		hand_over();
	else if (n < 22 && job)
		blktap_job_cancel(job);
	else if (n < 28 && !paused)
		pause_it();
}

static void step(void)
{
	uint32_t n = draw(100);

	if (n < 50)
		begin_some();
	else if (n < 84)
		process(1 + draw(3));
	else if (n < 86)
		make_trouble();
	else if (n < 90)
		calm();
	else
		happen();
	end_job();
}

static void finish_all(void)
{
	int i;

	calm();
	if (paused)
		resume();
	for (i = 0; i < 20000 && are_busy(); i++)
		process(1);
	ck_assert(!are_busy());
}

static void read_all(void)
{
	uint32_t i;

	for (i = 0; i < REGIONS; i++) {
		clients[i].op = BLKTAP_REQ_READ;
		clients[i].region = i;
		clients[i].first = 0;
		clients[i].count = BLOCKS;
		send_client(i);
	}
	finish_all();
}

/* What the last mirror has made is looked at, too. */
static void end_life(void)
{
	int i;

	finish_all();
	read_all();
	for (i = 0; i < 20000 && graph == MIRRORED; i++) {
		process(1);
		leave_mirror();
	}
	ck_assert(graph != MIRRORED);
	if (graph == MARKED)
		check_marks();
	read_all();
	/* and the way without moves tells the same */
	fake.move_error = second.move_error = -ENOMEM;
	read_all();
}

static void set_up(void)
{
	char there[80];
	uint32_t i, b;

	setup();
	fake_init(&second);
	second_ring = NULL;
	strcpy(dir, "/dev/shm/blktap-ring-life-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(there, sizeof(there), "/var/tmp%s", strrchr(dir, '/'));
	ck_assert_int_eq(mkdir(there, 0700), 0);
	memset(clients, 0, sizeof(clients));
	for (i = 0; i < REGIONS; i++)
		for (b = 0; b < BLOCKS; b++)
			settle(&blocks[i][b], 0);
	for (i = RINGS * TAGS; i < REGIONS; i++) {
		clients[i].data = malloc(FAKE_SLOT);
		ck_assert_ptr_nonnull(clients[i].data);
	}
}

/* The disk may have anything under way. */
static void tear_down(void)
{
	char command[160];
	uint32_t i;

	if (second_ring)
		blktap_ring_destroy(second_ring, BLKTAP_RING_END_FORCE);
	teardown();
	if (job)
		blktap_job_destroy(job);
	fake_fini(&second);
	for (i = RINGS * TAGS; i < REGIONS; i++)
		free(clients[i].data);
	snprintf(command, sizeof(command), "rm -r %s /var/tmp%s", dir,
		 strrchr(dir, '/'));
	ck_assert_int_eq(system(command), 0);
}

START_TEST(no_write_is_lost_or_takes_what_lies_in_a_slot)
{
	uint32_t i;

	seed = seed_take();
	make_image(true);
	open_disk(spec);
	for (i = 0; i < RINGS; i++)
		ck_assert_int_eq(make_ring(i), 0);
	for (i = 0; i < seed_rounds(STEPS); i++)
		step();
	if (draw(3))
		end_life();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring-life");
	TCase *tc = tcase_create("ring-life");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, no_write_is_lost_or_takes_what_lies_in_a_slot,
			    0, LIVES);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
