/* SPDX-License-Identifier: BSD-3-Clause */
/* A process that serves a disk is killed in the middle of its writes, and another one
 * opens the images: what was answered is there, though nobody ever flushed. */
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <blktap/blktap.h>

#include "seed.h"
#include "vbd/vbd.h"

#define BLOCK 4096u
#define BLOCKS 2048u
#define SIZE (BLOCKS * (uint64_t)BLOCK)
#define MOST 32u /* blocks a write */
#define SLOTS 8u
#define ROUNDS 3

static const struct variant {
	const char *format; /* of a.img */
	const char *graph; /* over it, or NULL */
} variants[] = {
	{ "qcow2", NULL },
	{ "qcow", NULL },
	{ "vhd", NULL },
	{ "raw",
	  "n :: cow(); n[base] -> raw(\"b.raw\"); n[top] -> raw(\"a.img\");" },
	{ "raw", "n :: cache(mode=writeback); n[origin] -> raw(\"b.raw\"); "
		 "n[store] -> raw(\"a.img\");" },
	{ "qcow2", "n :: mirror() => qcow2(\"a.img\"), raw(\"b.raw\");" },
};

/* What both processes see of it, by block. */
struct shared {
	uint32_t answered[BLOCKS];
	uint32_t sent[BLOCKS];
	uint32_t answers;
};

struct slot {
	unsigned char *data;
	struct iovec iov;
	uint32_t first, count, version;
	bool busy;
};

static struct shared *shared;
static struct blktap_context *context;
static struct blktap_disk *disk;
static struct slot slots[SLOTS];
static char dir[] = "/var/tmp/blktap-outlive-XXXXXX";
static uint64_t seed;
static uint32_t version, limit;

static void setup(void)
{
	seed = seed_take();
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(shared != MAP_FAILED);
}

static void teardown(void)
{
	char command[64];

	munmap(shared, sizeof(*shared));
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(system(command), 0);
}

static void open_all(const struct variant *v)
{
	struct blktap_context_options options = { .size = sizeof(options) };
	struct blktap_disk_options disk_options;
	struct blktap_error *err = NULL;
	char spec[32];
	int rc;

	if (getenv("BLKTAP_VALGRIND"))
		options.engine = BLKTAP_ENGINE_SYNC;
	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	snprintf(spec, sizeof(spec), "%s:%s", v->graph ? "mason" : v->format,
		 v->graph ? "x.mason" : "a.img");
	blktap_disk_options_init(&disk_options);
	disk_options.busy_ms = 10000; /* the dead one's I/O has to end */
	rc = blktap_disk_open(context, spec, &disk_options, &disk, &err);
	ck_assert_msg(!rc, "%s: %s", spec,
		      err ? blktap_error_get_message(err) : "");
}

static void make(const struct variant *v)
{
	struct blktap_image_options options;
	FILE *f;

	blktap_image_options_init(&options);
	options.flags = BLKTAP_CREATE_OVERWRITE;
	options.length = strcmp(v->format, "raw") ? SIZE : 2 * SIZE;
	ck_assert_int_eq(
		blktap_image_create(v->format, "a.img", &options, NULL), 0);
	options.length = SIZE;
	ck_assert_int_eq(blktap_image_create("raw", "b.raw", &options, NULL),
			 0);
	ck_assert_int_eq(system("rm -rf x.mason*"), 0);
	f = fopen("x.mason", "w");
	fprintf(f, "d :: disk(\"d\") -> %s\n",
		v->graph && *v->graph == 'n' ? v->graph : "raw(\"a.img\");");
	fclose(f);
	memset(shared, 0, sizeof(*shared));
}

/* ---- the one that is killed ----------------------------------------------- */

static void submit(struct slot *slot);

static void on_done(void *opaque, int error)
{
	struct slot *slot = opaque;
	uint32_t i;

	if (error)
		_exit(3);
	for (i = 0; i < slot->count; i++)
		shared->answered[slot->first + i] = slot->version;
	slot->busy = false;
	if (++shared->answers >= limit)
		raise(SIGKILL);
	submit(slot);
}

static bool is_free(uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		if (slots[i].busy && slots[i].first < first + count &&
		    first < slots[i].first + slots[i].count)
			return false;
	return true;
}

static void submit(struct slot *slot)
{
	struct blktap_io io = { .size = sizeof(io), .op = BLKTAP_OP_WRITE };
	uint32_t i;

	do {
		slot->count = 1 + (uint32_t)(seed_next(&seed) % MOST);
		slot->first = (uint32_t)(seed_next(&seed) %
					 (BLOCKS - slot->count + 1));
	} while (!is_free(slot->first, slot->count));
	slot->version = ++version;
	slot->busy = true;
	for (i = 0; i < slot->count * BLOCK / 4; i++)
		memcpy(slot->data + (size_t)i * 4, &slot->version, 4);
	for (i = 0; i < slot->count; i++)
		shared->sent[slot->first + i] = slot->version;
	slot->iov.iov_base = slot->data;
	slot->iov.iov_len = (size_t)slot->count * BLOCK;
	io.offset = (uint64_t)slot->first * BLOCK;
	io.length = slot->iov.iov_len;
	io.iov = &slot->iov;
	io.iov_count = 1;
	io.callback = on_done;
	io.opaque = slot;
	if (blktap_disk_submit(disk, &io))
		_exit(4);
}

static void live(const struct variant *v, bool outlives)
{
	uint32_t i;

	open_all(v);
	if (outlives)
		bt_vbd_set_outlive(disk, true);
	for (i = 0; i < SLOTS; i++) {
		slots[i].data = aligned_alloc(4096, (size_t)MOST * BLOCK);
		submit(&slots[i]);
	}
	for (;;)
		blktap_context_run(context, 1000);
}

static void live_and_die(const struct variant *v, bool outlives)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid)
		live(v, outlives);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

/* ---- the one that comes after it ------------------------------------------ */

static void read_done(void *opaque, int error)
{
	*(int *)opaque = error;
}

static bool is_read(void *opaque)
{
	return *(int *)opaque != 1;
}

/* How many blocks have neither what was answered last nor what was sent. */
static uint32_t count_lost(void)
{
	unsigned char *data = aligned_alloc(4096, SIZE);
	struct iovec iov = { .iov_base = data, .iov_len = SIZE };
	struct blktap_io io = { .size = sizeof(io), .op = BLKTAP_OP_READ };
	uint32_t i, lost = 0, got;
	int result = 1;

	io.length = SIZE;
	io.iov = &iov;
	io.iov_count = 1;
	io.callback = read_done;
	io.opaque = &result;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	while (!is_read(&result))
		blktap_context_run(context, 1000);
	ck_assert_int_eq(result, 0);
	for (i = 0; i < BLOCKS; i++) {
		memcpy(&got, data + (size_t)i * BLOCK, 4);
		lost += got != shared->answered[i] && got != shared->sent[i];
	}
	free(data);
	return lost;
}

static uint32_t lost_by(const struct variant *v, bool outlives)
{
	uint32_t lost;

	limit = 1 + (uint32_t)(seed_next(&seed) % 200);
	make(v);
	live_and_die(v, outlives);
	open_all(v);
	lost = count_lost();
	ck_assert_int_eq(blktap_disk_close(disk), 0);
	blktap_context_destroy(context);
	return lost;
}

START_TEST(what_was_answered_outlives_the_process)
{
	uint32_t round;

	for (round = 0; round < seed_rounds(ROUNDS); round++)
		ck_assert_uint_eq(lost_by(&variants[_i], true), 0);
}
END_TEST

/* Else the test above says nothing: tables are in memory until a flush. */
START_TEST(without_being_asked_to_it_may_be_lost)
{
	uint32_t i, lost = 0;

	for (i = 0; i < 8 && !lost; i++)
		lost = lost_by(&variants[0], false);
	ck_assert_uint_gt(lost, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("outlive");
	TCase *tc = tcase_create("outlive");

	tcase_set_timeout(tc, 300);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, what_was_answered_outlives_the_process, 0,
			    sizeof(variants) / sizeof(variants[0]));
	tcase_add_test(tc, without_being_asked_to_it_may_be_lost);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
