/* SPDX-License-Identifier: BSD-3-Clause */
/* Many short lives of a disk whose writes are held back: requests, pauses, resumes
 * onto files in memory, on a device and behind another node, moves and
 * fetches that fail, in any order. Each tag has a region of the disk, and a model says
 * what each block of it may hold: never what lies in a slot that nobody filled, nor
 * what another request has.
 * BLKTAP_SEED repeats a run. */
#include "fake-ring.h"
#include "seed.h"

#include <sys/stat.h>

#define TAGS (FAKE_QUEUES * FAKE_DEPTH)
#define BLOCK 512u
#define BLOCKS (FAKE_SLOT / BLOCK) /* of a region */
#define SIZE (TAGS * FAKE_SLOT)
#define STEPS 250u
#define LIVES 24
#define MAYBE 6
#define POISON 0xeeeeeeeeu

/* What a block holds: the same word all over. */
struct block {
	uint32_t maybe
		[MAYBE]; /* the first is what it was; others may have gone */
	uint32_t count;
};

struct client {
	bool busy;
	uint8_t op;
	uint32_t first, count, stamp; /* blocks of its region */
};

static struct block blocks[TAGS][BLOCKS];
static struct client clients[TAGS];
static uint64_t seed;
static uint32_t stamp, images;
static char dir[64], spec[256];
static bool paused;

static uint32_t draw(uint32_t n)
{
	return (uint32_t)(seed_next(&seed) % n);
}

static void fill(uint8_t *at, uint32_t word, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i += sizeof(word))
		memcpy(at + i, &word, sizeof(word));
}

/* ---- images ---------------------------------------------------------------- */

static void path_of(char *to, size_t size, uint32_t image, bool on_device)
{
	snprintf(to, size, "%s%s/i%u", on_device ? "/var/tmp" : "/dev/shm",
		 strrchr(dir, '/'), image);
}

/* A new one, whose bytes are those of the old. */
static void make_image(const char *from)
{
	static uint8_t bytes[SIZE];
	char to[96], graph[112];
	FILE *f;
	int fd = from ? open(from, O_RDONLY | O_CLOEXEC) : -1;
	bool behind = draw(3) == 0;

	if (from) {
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(pread(fd, bytes, SIZE, 0), SIZE);
		close(fd);
	} else {
		memset(bytes, 0, SIZE);
	}
	path_of(to, sizeof(to), ++images, draw(3) == 0);
	f = fopen(to, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, SIZE, f), SIZE);
	ck_assert_int_eq(fclose(f), 0);
	if (!behind) {
		snprintf(spec, sizeof(spec), "raw:%s", to);
	} else {
		snprintf(graph, sizeof(graph), "%s.mason", to);
		f = fopen(graph, "w");
		ck_assert_ptr_nonnull(f);
		fprintf(f,
			"d :: disk(\"x\") -> slice(offset=0, size=%u)"
			" -> raw(%s);\n",
			SIZE, to);
		ck_assert_int_eq(fclose(f), 0);
		snprintf(spec, sizeof(spec), "mason:%s", graph);
	}
	strcpy(path, to);
}

/* ---- clients --------------------------------------------------------------- */

static uint64_t offset_of(uint32_t i, uint32_t block)
{
	return (uint64_t)i * FAKE_SLOT + block * BLOCK;
}

static bool has_room(uint32_t i, const struct client *c)
{
	uint32_t b;

	for (b = c->first; b < c->first + c->count; b++)
		if (blocks[i][b].count == MAYBE)
			return false;
	return true;
}

static void put_data(uint32_t i, struct client *c, struct blktap_desc *d)
{
	uint32_t q = i / FAKE_DEPTH, tag = i % FAKE_DEPTH;
	bool held = c->op == BLKTAP_REQ_WRITE && fake.defers;

	fill(fake_slot(&fake, q, tag), POISON, FAKE_SLOT);
	fill(fake_caller(&fake, q, tag), POISON, FAKE_SLOT);
	if (c->op != BLKTAP_REQ_WRITE)
		return;
	c->stamp = ++stamp;
	fill(held ? fake_caller(&fake, q, tag) : fake_slot(&fake, q, tag),
	     c->stamp, d->bytes);
	d->flags = (held ? BLKTAP_REQ_DEFERRED : 0) |
		   (draw(8) ? 0 : BLKTAP_REQ_FUA);
}

static void begin(uint32_t i)
{
	static const uint8_t ops[] = { BLKTAP_REQ_READ,	       BLKTAP_REQ_READ,
				       BLKTAP_REQ_WRITE,       BLKTAP_REQ_WRITE,
				       BLKTAP_REQ_WRITE,       BLKTAP_REQ_FLUSH,
				       BLKTAP_REQ_WRITE_ZEROES };
	uint32_t q = i / FAKE_DEPTH, tag = i % FAKE_DEPTH, b;
	struct client *c = &clients[i];
	struct blktap_desc *d;

	if (c->busy)
		return;
	c->op = ops[draw(sizeof(ops))];
	c->first = draw(2) ? 0 : draw(BLOCKS);
	c->count = 1 + draw(BLOCKS - c->first);
	c->stamp = 0;
	if (!has_room(i, c))
		c->op = BLKTAP_REQ_READ;
	d = fake_fill(&fake, q, tag, c->op,
		      c->op == BLKTAP_REQ_FLUSH ? 0 : offset_of(i, c->first),
		      c->op == BLKTAP_REQ_FLUSH ? 0 : c->count * BLOCK);
	put_data(i, c, d);
	if (c->op == BLKTAP_REQ_WRITE || c->op == BLKTAP_REQ_WRITE_ZEROES)
		for (b = c->first; b < c->first + c->count; b++)
			blocks[i][b].maybe[blocks[i][b].count++] = c->stamp;
	fake.queues[q].answers[tag] = 0;
	c->busy = true;
	fake_ring(&fake, q, tag);
}

static void settle(struct block *b, uint32_t word)
{
	b->maybe[0] = word;
	b->count = 1;
}

static void check_read(uint32_t i, const struct client *c)
{
	const uint8_t *at = fake_caller(&fake, i / FAKE_DEPTH, i % FAKE_DEPTH);
	uint32_t b, n, word;

	for (b = c->first; b < c->first + c->count; b++, at += BLOCK) {
		memcpy(&word, at, sizeof(word));
		ck_assert_int_eq(memcmp(at, at + 4, BLOCK - 4), 0);
		for (n = 0; n < blocks[i][b].count; n++)
			if (blocks[i][b].maybe[n] == word)
				break;
		ck_assert_msg(
			n < blocks[i][b].count,
			"tag %u block %u of %u+%u holds %x, may be %x of %u", i,
			b, c->first, c->count, word, blocks[i][b].maybe[0],
			blocks[i][b].count);
		settle(&blocks[i][b], word);
	}
}

static void end(uint32_t i)
{
	struct fake_queue *q = &fake.queues[i / FAKE_DEPTH];
	struct client *c = &clients[i];
	uint32_t tag = i % FAKE_DEPTH, b;

	if (!c->busy || !q->answers[tag])
		return;
	ck_assert_uint_eq(q->answers[tag], 1);
	c->busy = false;
	if (q->results[tag] < 0) {
		ck_assert_int_eq(c->op, BLKTAP_REQ_WRITE);
		return;
	}
	if (c->op == BLKTAP_REQ_READ)
		check_read(i, c);
	else if (c->op != BLKTAP_REQ_FLUSH)
		for (b = c->first; b < c->first + c->count; b++)
			settle(&blocks[i][b], c->stamp);
}

static void process(uint32_t n)
{
	uint32_t i;

	while (n--) {
		ck_assert_int_eq(blktap_context_process(context), 0);
		for (i = 0; i < TAGS; i++)
			end(i);
	}
}

static bool are_busy(void)
{
	uint32_t i, n = 0;

	for (i = 0; i < TAGS; i++)
		n += clients[i].busy;
	return n;
}

/* ---- what happens ---------------------------------------------------------- */

static void make_trouble(void)
{
	/* no part of a request is as long as one */
	static const int errors[] = { -ENOSPC, -EIO, -EBADF, -EINVAL,
				      -EINTR,  511,  4095,   0 };
	uint32_t n = sizeof(errors) / sizeof(*errors);

	fake.move_result = errors[draw(n)];
	fake.move_error = draw(4) ? 0 : -ENOMEM;
	fake.fetch_error = draw(4) ? 0 : errors[draw(n - 1)];
}

static void calm(void)
{
	fake.move_result = fake.move_error = fake.fetch_error = 0;
}

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
	for (i = 0; i < 200 && !paused; i++)
		process(1);
	ck_assert(paused);
}

/* As it was, or onto another image that holds the same. */
static void resume(void)
{
	struct blktap_error *err = NULL;
	char old[sizeof(path)];
	int rc;

	strcpy(old, path);
	if (draw(2))
		make_image(old);
	rc = blktap_disk_resume(disk, strcmp(old, path) ? spec : NULL, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	paused = false;
}

static void step(void)
{
	uint32_t n = draw(100);

	if (n < 55)
		begin(draw(TAGS));
	else if (n < 85)
		process(1 + draw(3));
	else if (n < 89)
		make_trouble();
	else if (n < 93)
		calm();
	else if (n < 99 && paused)
		resume();
	else if (n < 97)
		pause_it();
}

static void finish_all(void)
{
	int i;

	calm();
	if (paused)
		resume();
	for (i = 0; i < 2000 && are_busy(); i++)
		process(1);
	ck_assert(!are_busy());
}

static void read_all(void)
{
	struct client *c;
	uint32_t i;

	for (i = 0; i < TAGS; i++) {
		c = &clients[i];
		*c = (struct client){ .busy = true, .count = BLOCKS };
		put_data(i, c,
			 fake_fill(&fake, i / FAKE_DEPTH, i % FAKE_DEPTH,
				   BLKTAP_REQ_READ, offset_of(i, 0),
				   FAKE_SLOT));
		fake.queues[i / FAKE_DEPTH].answers[i % FAKE_DEPTH] = 0;
		fake_ring(&fake, i / FAKE_DEPTH, i % FAKE_DEPTH);
	}
	finish_all();
}

/* ---- the test --------------------------------------------------------------- */

static void set_up(void)
{
	char there[80];

	setup();
	strcpy(dir, "/dev/shm/blktap-ring-life-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(there, sizeof(there), "/var/tmp%s", strrchr(dir, '/'));
	ck_assert_int_eq(mkdir(there, 0700), 0);
	memset(clients, 0, sizeof(clients));
	paused = false;
}

static void tear_down(void)
{
	char command[160];

	path[0] = '\0';
	teardown();
	snprintf(command, sizeof(command), "rm -r %s /var/tmp%s", dir,
		 strrchr(dir, '/'));
	ck_assert_int_eq(system(command), 0);
}

START_TEST(no_write_takes_what_lies_in_a_slot)
{
	uint32_t i, b;

	seed = seed_take();
	for (i = 0; i < TAGS; i++)
		for (b = 0; b < BLOCKS; b++)
			settle(&blocks[i][b], 0);
	make_image(NULL);
	serve(spec);
	for (i = 0; i < seed_rounds(STEPS); i++)
		step();
	finish_all();
	read_all();
	/* and the way without moves tells the same */
	fake.move_error = -ENOMEM;
	read_all();
	if (draw(2))
		begin(0); /* it may end with something under way */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring-life");
	TCase *tc = tcase_create("ring-life");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, no_write_takes_what_lies_in_a_slot, 0, LIVES);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
