/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes an ordinary program of a fuzz entry. With files as arguments it runs
 * each once, which is how a crash is looked at again. Without, it runs the
 * entry's seeds as they are and then mutated for BT_FUZZ_SECONDS (3).
 *
 * Iteration i depends on BT_FUZZ_SEED and i alone. A crash names both, and
 * BT_FUZZ_START=i comes back to it at once. */
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

static void run_mutated(uint8_t *buf, unsigned int seeds)
{
	time_t end = time(NULL) + (time_t)number("BT_FUZZ_SECONDS", 3);

	do {
		uint64_t rng = seed ^ (iteration * 0xd1342543de82ef95ULL);
		unsigned int n = (unsigned int)(next_random(&rng) % seeds);
		size_t len = fuzz_seed(n, buf, INPUT_MAX);
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
		for (seeds = 0; fuzz_seed(seeds, buf, INPUT_MAX); seeds++)
			run_one(buf, fuzz_seed(seeds, buf, INPUT_MAX));
		run_mutated(buf, seeds);
		printf("seed %llu: %u seeds, iterations up to %llu\n",
		       (unsigned long long)seed, seeds,
		       (unsigned long long)iteration);
	}
	free(buf);
	return rc;
}
