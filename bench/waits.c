/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * waits THREADS MB CHUNKS: a heap of MB in CHUNKS free chunks among live ones in one arena, THREADS
 * threads, and two that measure what is done to the process: one reads the clock without a pause
 * (its longest gap is the time stopped), one allocates in that arena 5000 times a second (its
 * longest malloc and free).
 *
 * Lines on stdin: reset, tell ("GAP_US MALLOC_US MALLOCS"), verify ("N bad"), quit.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LIVE_WORDS = 8, NAP_US = 200 };

static _Atomic uint64_t gap, longest, mallocs;
static _Atomic bool ready;
static size_t bytes, chunks;
static uint64_t **live;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void *clock_thread(void *arg)
{
	uint64_t last = now_us();

	for (;;) {
		uint64_t t = now_us();

		if (t - last > gap)
			gap = t - last;
		last = t;
	}
	return arg;
}

static void *sleeper(void *arg)
{
	free(malloc(100)); /* an arena of its own */
	for (;;)
		pause();
	return arg;
}

static void fill(void)
{
	size_t each = bytes / chunks & ~(size_t)15;
	void **v = calloc(chunks, sizeof(*v));

	live = calloc(chunks, sizeof(*live));
	for (size_t i = 0; i < chunks; i++) {
		v[i] = malloc(each);
		memset(v[i], 0x55, each);
		live[i] = malloc(LIVE_WORDS * 8);
		for (size_t k = 0; k < LIVE_WORDS; k++)
			live[i][k] = i * 1000003 + k;
	}
	for (size_t i = 0; i < chunks; i++)
		free(v[i]);
	free(v);
	/* sorts the unsorted list into its bins */
	free(malloc(each + 4096));
}

static void *allocator(void *arg)
{
	fill();
	ready = true;
	for (;;) {
		uint64_t t = now_us();
		/* too large for the tcache */
		char *p = malloc(1100 + mallocs % 5 * 160);

		p[0] = 1;
		free(p);
		t = now_us() - t;
		if (t > longest)
			longest = t;
		mallocs++;
		usleep(NAP_US);
	}
	return arg;
}

static size_t bad(void)
{
	size_t n = 0;

	for (size_t i = 0; i < chunks; i++) {
		for (size_t k = 0; k < LIVE_WORDS; k++)
			n += live[i][k] != i * 1000003 + k;
	}
	return n;
}

int main(int argc, char **argv)
{
	size_t threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	pthread_attr_t attr;
	pthread_t t;
	char line[64];

	bytes = (argc > 2 ? strtoul(argv[2], NULL, 10) : 64) << 20;
	chunks = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_ARENA_MAX, 2000);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	pthread_create(&t, &attr, allocator, NULL);
	while (!ready)
		usleep(1000);
	pthread_create(&t, &attr, clock_thread, NULL);
	for (size_t i = 3; i < threads; i++)
		pthread_create(&t, &attr, sleeper, NULL);
	usleep(200000);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "reset", 5)) {
			gap = longest = mallocs = 0;
			puts("ok");
		} else if (!strncmp(line, "tell", 4)) {
			printf("%llu %llu %llu\n", (unsigned long long)gap,
			       (unsigned long long)longest, (unsigned long long)mallocs);
		} else if (!strncmp(line, "verify", 6)) {
			printf("%zu bad\n", bad());
		} else {
			break;
		}
		fflush(stdout);
	}
	return bad() != 0;
}
