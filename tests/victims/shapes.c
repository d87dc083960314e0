/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A heap of every shape, for the matrix of libcs: tcaches, fastbins, small and large bins, mmapped
 * chunks, arenas of several threads. When it is idle its own libc writes malloc_info to the file
 * named first, through a stream that was opened, and given a buffer, before: nothing changes after.
 *
 * Then "trim" on its input calls malloc_trim(0) and answers "trimmed".
 *
 * usage: shapes XML [THREADS]
 *
 * Built against any glibc from 2.17 on, also statically; so only old interfaces.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 600, THREADS_MAX = 64 };

static pthread_barrier_t made, done;
static char buffer[1 << 20];

static unsigned next(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 8;
}

static void churn(unsigned seed)
{
	static __thread void *v[BLOCKS];
	unsigned big = 0;

	for (int i = 0; i < BLOCKS; i++) {
		unsigned kind = next(&seed) % 16;
		size_t size = kind < 8	  ? next(&seed) % 200
			      : kind < 14 ? next(&seed) % 3000
					  : next(&seed) % 60000;

		v[i] = malloc(size + 1);
		if (!v[i])
			abort();
		memset(v[i], 0xa5, size + 1);
	}
	for (int i = 0; i < BLOCKS; i++)
		if (next(&seed) % 3) {
			free(v[i]);
			v[i] = NULL;
		}
	/* large enough to sort the unsorted bin, then back again */
	free(malloc(70000));
	for (int i = 0; i < BLOCKS; i += 7)
		if (v[i] && big++ < 20) {
			free(v[i]);
			v[i] = NULL;
		}
}

static void *thread(void *arg)
{
	churn((unsigned)(size_t)arg);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&done);
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 4;
	static pthread_t t[THREADS_MAX];
	static void *mapped[3];
	FILE *xml;

	if (argc < 2 || n < 0 || n > THREADS_MAX)
		return 2;
	xml = fopen(argv[1], "w");
	if (!xml || setvbuf(xml, buffer, _IOFBF, sizeof(buffer)))
		return 1;
	pthread_barrier_init(&made, NULL, (unsigned)n + 1);
	pthread_barrier_init(&done, NULL, (unsigned)n + 1);
	for (int i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, thread, (void *)(size_t)(i + 1)))
			return 1;
	churn(4711);
	for (int i = 0; i < 3; i++) {
		mapped[i] = malloc((size_t)(200000 + 123457 * i));
		if (!mapped[i])
			return 1;
		memset(mapped[i], 1, 1000);
	}
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&done);
	usleep(200000); /* all asleep */
	malloc_info(0, xml);
	fflush(xml);
	if (write(1, "ready\n", 6) != 6)
		return 1;
	for (;;) {
		static char line[64];
		ssize_t got = read(0, line, sizeof(line) - 1);

		if (got <= 0)
			pause();
		if (got > 4 && !memcmp(line, "trim", 4)) {
			malloc_trim(0);
			if (write(1, "trimmed\n", 8) != 8)
				return 1;
		}
	}
}
