/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A heap of known shape to measure on: heap THREADS CHUNKS LARGEST. Main and every thread allocate
 * CHUNKS chunks of 16..LARGEST bytes, free 54 % of them, consolidate, free 6 % more. Deterministic.
 *
 * One thread only reads the clock and keeps its largest gap: the pause as the target itself sees
 * it. stdin: "gap" prints it in microseconds and starts anew; "load on|off" makes every thread
 * allocate and free all the time; "info FILE" writes malloc_info(0) without an allocation; "take COUNT
 * SIZE" allocates chunks in which what a list has left stays; "quit".
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <time.h>
#include <unistd.h>

static size_t nr_chunks, largest;
static pthread_barrier_t born, done;
static _Atomic uint64_t max_gap;
static _Atomic bool load, watch;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void fill(uint64_t seed)
{
	size_t table = nr_chunks * sizeof(char *);
	char **v = mmap(NULL, table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	if (v == MAP_FAILED)
		exit(2);
	for (size_t i = 0; i < nr_chunks; i++) {
		size_t n = 16 + next(&x) % (largest - 15);

		v[i] = malloc(n);
		if (!v[i])
			exit(2);
		memset(v[i], (int)i, n);
	}
	for (size_t i = 0; i < nr_chunks; i++)
		if (next(&x) % 100 < 54) {
			free(v[i]);
			v[i] = NULL;
		}
	for (int i = 0; i < 16; i++)
		v[0] = v[0] ? v[0] : malloc(3000 + (size_t)i * 64);
	for (size_t i = 0; i < nr_chunks; i++)
		if (v[i] && next(&x) % 100 < 13) {
			free(v[i]);
			v[i] = NULL;
		}
	munmap(v, table);
}

static void *worker(void *arg)
{
	uint64_t x = 7 + (uint64_t)(uintptr_t)arg;
	void *own[64] = { NULL };

	free(malloc(1)); /* its arena, in order */
	pthread_barrier_wait(&born);
	fill((uint64_t)(uintptr_t)arg);
	pthread_barrier_wait(&done);
	for (;;) {
		size_t i = next(&x) % 64;

		if (!load) {
			usleep(20000);
			continue;
		}
		free(own[i]);
		own[i] = malloc(16 + next(&x) % largest);
	}
	return NULL;
}

static void *watcher(void *arg)
{
	uint64_t last = now_ns();

	(void)arg;
	for (;;) {
		uint64_t t = now_ns(), gap = t - last;

		last = t;
		if (gap > max_gap)
			max_gap = gap;
		if (!watch) {
			usleep(1000);
			last = now_ns();
		}
	}
	return NULL;
}

/* What malloc_info prints goes to memory first: opening a file for it would allocate. */
static FILE *memory_file(void)
{
	static char buffer[65536];
	int fd = memfd_create("info", MFD_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w+");

	if (!f)
		exit(2);
	setvbuf(f, buffer, _IOFBF, sizeof(buffer));
	return f;
}

static void info(FILE *f, const char *path)
{
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	off_t from = 0;
	long len;

	rewind(f);
	if (to < 0 || malloc_info(0, f) || fflush(f) || (len = ftell(f)) < 0 ||
	    ftruncate(fileno(f), len))
		exit(2);
	while (from < len && sendfile(to, fileno(f), &from, (size_t)(len - from)) > 0)
		;
	close(to);
	printf("info %ld\n", len);
}

static size_t number(const char *text)
{
	return (size_t)strtoull(text, NULL, 10);
}

static void take(const char *text)
{
	char *end;
	size_t n = (size_t)strtoull(text, &end, 10), bytes = (size_t)strtoull(end, NULL, 10);

	while (n--)
		if (!malloc(bytes))
			exit(2);
	printf("took\n");
}

int main(int argc, char **argv)
{
	static char line[256], out[4096];
	size_t nr_threads;
	pthread_t t;
	FILE *memory = memory_file();

	if (argc != 4)
		return 64;
	nr_threads = number(argv[1]);
	nr_chunks = number(argv[2]);
	largest = number(argv[3]);
	if (largest < 32)
		return 64;
	setvbuf(stdout, out, _IOLBF, sizeof(out));
	pthread_barrier_init(&born, NULL, (unsigned int)nr_threads + 1);
	pthread_barrier_init(&done, NULL, (unsigned int)nr_threads + 1);
	for (size_t i = 0; i < nr_threads; i++)
		if (pthread_create(&t, NULL, worker, (void *)(uintptr_t)(i + 2)))
			return 2;
	pthread_barrier_wait(&born);
	fill(1);
	pthread_barrier_wait(&done);
	if (pthread_create(&t, NULL, watcher, NULL))
		return 2;
	printf("ready\n");

	for (size_t n = 0; n < sizeof(line) - 1 && read(STDIN_FILENO, line + n, 1) == 1; n++) {
		if (line[n] != '\n')
			continue;
		line[n] = 0;
		n = (size_t)-1;
		if (!strcmp(line, "quit"))
			break;
		if (!strncmp(line, "info ", 5))
			info(memory, line + 5);
		else if (!strncmp(line, "take ", 5))
			take(line + 5);
		else if (!strcmp(line, "gap"))
			printf("gap %.1f\n", (double)max_gap / 1000);
		else if (!strcmp(line, "watch on") || !strcmp(line, "watch off"))
			watch = !strcmp(line, "watch on");
		else if (!strcmp(line, "load on") || !strcmp(line, "load off"))
			load = !strcmp(line, "load on");
		max_gap = 0;
	}
	_exit(0);
}
