/* SPDX-License-Identifier: BSD-3-Clause */
/* A program that may be killed anywhere: it changes the graph of a disk that it
 * writes to, and says on stdout what it knows to be done.
 *
 *   mason-change FILE TEXT...   writes all blocks with 1, flushes, applies TEXT,
 *                               writes with 2, flushes, applies the next
 *   mason-change FILE           says generation, least and greatest value
 *
 * A change whose assert does not hold yet is tried again. */
#include <blktap/blktap.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096u
#define BLOCKS 64u
#define TEXT_MAX 4096u

static struct blktap_context *context;
static struct blktap_disk *disk;

static void die(const char *what, struct blktap_error *err)
{
	fprintf(stderr, "mason-change: %s: %s\n", what,
		err ? blktap_error_get_message(err) : "failed");
	exit(1);
}

static void say(const char *what, unsigned int n)
{
	char line[64];
	int length = snprintf(line, sizeof(line), "%s=%u\n", what, n);

	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		exit(1);
}

static void ended(void *opaque, int error)
{
	*(int *)opaque = error;
}

static void run(enum blktap_op op, uint64_t offset, void *data, size_t length)
{
	struct iovec iov = { data, length };
	int error = 1;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = length ? 1 : 0,
		.callback = ended,
		.opaque = &error,
	};

	if (blktap_disk_submit(disk, &io))
		die("submit", NULL);
	while (error == 1)
		if (blktap_context_run(context, -1) < 0)
			die("run", NULL);
	if (error)
		die("a request", NULL);
}

static void write_all(unsigned int value)
{
	static char data[BLOCK] __attribute__((aligned(BLOCK)));
	unsigned int i;

	memset(data, (int)value, sizeof(data));
	for (i = 0; i < BLOCKS; i++)
		run(BLKTAP_OP_WRITE, (uint64_t)i * BLOCK, data, BLOCK);
	run(BLKTAP_OP_FLUSH, 0, NULL, 0);
	say("flushed", value);
}

static void apply(const char *path, unsigned int number)
{
	struct blktap_error *err = NULL;
	char text[TEXT_MAX];
	FILE *f = fopen(path, "r");
	size_t length = f ? fread(text, 1, sizeof(text), f) : 0;
	int rc;

	if (!length || fclose(f))
		die(path, NULL);
	for (;;) {
		rc = blktap_mason_apply(disk, path, text, length, NULL, NULL,
					&err);
		if (rc != -EAGAIN)
			break;
		blktap_error_destroy(err);
		err = NULL;
		if (blktap_context_run(context, 10) < 0)
			die("run", NULL);
	}
	if (rc)
		die(path, err);
	say("applied", number);
}

static void look(void)
{
	static unsigned char data[BLOCK] __attribute__((aligned(BLOCK)));
	unsigned int i, j, least = 255, greatest = 0;

	for (i = 0; i < BLOCKS; i++) {
		run(BLKTAP_OP_READ, (uint64_t)i * BLOCK, data, BLOCK);
		for (j = 0; j < BLOCK; j++) {
			least = data[j] < least ? data[j] : least;
			greatest = data[j] > greatest ? data[j] : greatest;
		}
	}
	printf("generation=%u least=%u greatest=%u\n",
	       (unsigned int)blktap_mason_get_generation(disk), least,
	       greatest);
}

int main(int argc, char **argv)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char spec[512];
	int i;

	if (argc < 2 || blktap_context_create(NULL, &context, &err))
		die("start", err);
	snprintf(spec, sizeof(spec), "mason:%s", argv[1]);
	blktap_disk_options_init(&options);
	options.busy_ms = 2000; /* the one before was killed just now */
	if (blktap_disk_open(context, spec, &options, &disk, &err))
		die(spec, err);
	if (argc == 2)
		look();
	for (i = 2; i < argc; i++) {
		write_all((unsigned int)i - 1);
		apply(argv[i], (unsigned int)i - 1);
	}
	if (argc > 2)
		write_all((unsigned int)argc - 1);
	if (blktap_disk_close(disk))
		die("close", NULL);
	blktap_context_destroy(context);
	return 0;
}
