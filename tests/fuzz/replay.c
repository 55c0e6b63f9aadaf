/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes an ordinary program of a fuzz entry. With files as arguments it runs
 * each once, which is how a crash is looked at again. Without, it runs the
 * entry's seeds as they are and then mutated for BT_FUZZ_SECONDS (3).
 *
 * BT_FUZZ_CORPUS=DIR: the files there are seeds too, each behind the byte
 * BT_FUZZ_PREFIX where that is given.
 *
 * Iteration i depends on BT_FUZZ_SEED and i alone. A crash names both, and
 * BT_FUZZ_START=i comes back to it at once. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "util/bytes.h"

#define INPUT_MAX ((size_t)1 << 20)

extern void __sanitizer_set_death_callback(void (*fn)(void))
	__attribute__((weak));

static uint64_t seed, iteration;

/* splitmix64: any state is a good one, also a counter. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static void say_where(void)
{
	fprintf(stderr, "died at BT_FUZZ_SEED=%llu BT_FUZZ_START=%llu\n",
		(unsigned long long)seed, (unsigned long long)iteration);
}

static void on_signal(int sig)
{
	say_where();
	signal(sig, SIG_DFL);
	raise(sig);
}

static uint64_t interesting(uint64_t *rng)
{
	static const uint64_t values[] = {
		0,
		1,
		2,
		7,
		0x7f,
		0x80,
		0xff,
		0x1ff,
		0x200,
		0xfff,
		0x1000,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		0x7fffffffffffffff,
		0x8000000000000000,
		UINT64_MAX,
	};
	uint64_t r = next_random(rng);

	if (r & 1)
		return values[(r >> 8) % (sizeof(values) / sizeof(*values))];
	return r >> (next_random(rng) & 63);
}

/* One change, mostly within the first kilobyte, where the headers are. */
static void mutate_once(uint8_t *buf, size_t *len, uint64_t *rng)
{
	uint64_t r = next_random(rng);
	size_t reach = r & 16 && *len > 1024 ? 1024 : *len;
	size_t at = *len ? (r >> 8) % reach : 0;
	uint8_t value[8];
	size_t width;

	switch (r & 15) {
	case 0:
		*len = at;
		break;
	case 1 ... 4:
		if (*len)
			buf[at] ^= (uint8_t)(1u << (next_random(rng) & 7));
		break;
	case 5 ... 13:
		width = (size_t)1 << (next_random(rng) & 3);
		at &= ~(width - 1);
		bt_store_be64(value, interesting(rng));
		if (at + width <= *len)
			memcpy(buf + at, value + 8 - width, width);
		break;
	default:
		width = 1 + next_random(rng) % 64;
		if (at && at + width <= *len)
			memmove(buf + at, buf + next_random(rng) % at, width);
		break;
	}
}

/* A copy of its own size, so that a sanitizer sees a read past its end. */
static void run_one(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		exit(EXIT_FAILURE);
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int run_file(const char *name, uint8_t *buf)
{
	FILE *f = fopen(name, "rb");
	size_t len;

	if (!f) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return EXIT_FAILURE;
	}
	len = fread(buf, 1, INPUT_MAX, f);
	fclose(f);
	run_one(buf, len);
	return EXIT_SUCCESS;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- a corpus ------------------------------------------------------------- */

struct sample {
	uint8_t *data;
	size_t len;
};

static struct sample *samples;
static unsigned int sample_count;

/* Files that are too long for an input are left out. */
static void load_sample(const char *name, uint8_t *buf)
{
	const char *prefix = getenv("BT_FUZZ_PREFIX");
	size_t len = prefix ? 1 : 0;
	struct sample *s;
	FILE *f = fopen(name, "rb");

	if (!f) {
		perror(name);
		exit(EXIT_FAILURE);
	}
	buf[0] = prefix ? (uint8_t)atoi(prefix) : 0;
	len += fread(buf + len, 1, INPUT_MAX - len, f);
	fclose(f);
	if (len == INPUT_MAX)
		return;
	samples = realloc(samples, (sample_count + 1) * sizeof(*samples));
	if (!samples)
		exit(EXIT_FAILURE);
	s = &samples[sample_count++];
	s->data = malloc(len + 1);
	if (!s->data)
		exit(EXIT_FAILURE);
	memcpy(s->data, buf, len);
	s->len = len;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_corpus(uint8_t *buf)
{
	const char *dir = getenv("BT_FUZZ_CORPUS");
	struct dirent **names;
	char path[4096];
	int i, n;

	if (!dir)
		return;
	/* in the same order wherever it runs: iterations count on it */
	n = scandir(dir, &names, NULL, by_name);
	if (n < 0) {
		perror(dir);
		exit(EXIT_FAILURE);
	}
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			load_sample(path, buf);
		free(names[i]);
	}
	free(names);
}

static size_t take_seed(unsigned int n, uint8_t *buf, unsigned int seeds)
{
	if (n < seeds)
		return fuzz_seed(n, buf, INPUT_MAX);
	memcpy(buf, samples[n - seeds].data, samples[n - seeds].len);
	return samples[n - seeds].len;
}

static void free_corpus(void)
{
	while (sample_count)
		free(samples[--sample_count].data);
	free(samples);
}

static void run_mutated(uint8_t *buf, unsigned int seeds)
{
	time_t end = time(NULL) + (time_t)number("BT_FUZZ_SECONDS", 3);

	do {
		uint64_t rng = seed ^ (iteration * 0xd1342543de82ef95ULL);
		unsigned int n = (unsigned int)(next_random(&rng) %
						(seeds + sample_count));
		size_t len = take_seed(n, buf, seeds);
		unsigned int changes = 1 + (next_random(&rng) & 7);

		while (changes--)
			mutate_once(buf, &len, &rng);
		run_one(buf, len);
		iteration++;
	} while (time(NULL) < end);
}

int main(int argc, char **argv)
{
	uint8_t *buf = malloc(INPUT_MAX);
	unsigned int seeds;
	int rc = 0;

	if (!buf)
		return EXIT_FAILURE;
	signal(SIGABRT, on_signal);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(say_where);
	else
		signal(SIGSEGV, on_signal);
	for (int i = 1; i < argc; i++)
		rc |= run_file(argv[i], buf);
	if (argc == 1) {
		seed = number("BT_FUZZ_SEED", 1);
		iteration = number("BT_FUZZ_START", 0);
		load_corpus(buf);
		for (seeds = 0; fuzz_seed(seeds, buf, INPUT_MAX); seeds++)
			run_one(buf, fuzz_seed(seeds, buf, INPUT_MAX));
		for (unsigned int i = 0; i < sample_count; i++)
			run_one(samples[i].data, samples[i].len);
		run_mutated(buf, seeds);
		printf("seed %llu: %u seeds, %u files, iterations up to %llu\n",
		       (unsigned long long)seed, seeds, sample_count,
		       (unsigned long long)iteration);
		free_corpus();
	}
	free(buf);
	return rc;
}
