/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * lace ARENAS CHUNKS SIZE [PAGES [MMAPPED [SPARSE [BOTH]]]]: in the main arena (ARENAS 0), or in as many arenas by a thread
 * each, CHUNKS chunks of SIZE bytes of user memory, of which every other one is free, all over the heap by their lists'
 * order, and none beside another free one. What tcaches and fastbins do is the caller's affair (GLIBC_TUNABLES). PAGES:
 * beside that, so many single pages that were only read: present, but not in Rss. MMAPPED: and so many chunks with a
 * mapping of their own, most of them of one page each. SPARSE: and so many of 250000 bytes on the heap, of which the
 * page with the header alone is in memory. BOTH: in so many of the arenas, those that malloc comes to last, half
 * of the free chunks is in the unsorted bin and half in the others.
 *
 * Prints "mmapped N BYTES" if there are any, as mallinfo2 says, then "ready FREE BYTES", its own truth about the free
 * ones. Ends at the end of its input.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t chunks, size;
static pthread_barrier_t born, made, end;

static size_t free_bytes;

/* A request that none of the free chunks can answer sorts ten thousand of them into their bins. */
static void sort(void)
{
	for (size_t i = 0; i <= chunks / 10000; i++)
		free(malloc(20 * size));
}

/* Of one arena. Where the pointers are is no memory of malloc's. */
static void make(bool both)
{
	const size_t step = 7919, half = chunks / 2; /* a prime */
	void **p = mmap(NULL, chunks * sizeof(*p), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < chunks; i++) {
		p[i] = malloc(size);
		if (!p[i])
			abort();
		memset(p[i], 1, size);
	}
	/* the last one stays: behind it is top */
	for (size_t i = 0, at = 0; i < half; i++, at = (at + step) % half) {
		__atomic_add_fetch(&free_bytes, malloc_usable_size(p[2 * at]) + sizeof(size_t),
				   __ATOMIC_RELAXED);
		free(p[2 * at]);
		if (both && i == half / 2)
			sort();
	}
	munmap(p, chunks * sizeof(*p));
}

static void *thread(void *arg)
{
	free(malloc(1)); /* its arena, in the order in which the threads begin */
	pthread_barrier_wait(&born);
	make(arg != NULL);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&end);
	return NULL;
}

static void touch(size_t n)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile char *p = mmap(NULL, 2 * n * page, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || madvise((void *)p, 2 * n * page, MADV_NOHUGEPAGE))
		abort();
	for (size_t i = 0; i < n; i++)
		(void)p[2 * i * page];
}

/* They stay. Their mappings are one, but for holes. */
static void map_chunks(size_t n)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *hole = NULL;
	struct mallinfo2 info;

	mallopt(M_MMAP_THRESHOLD, 1024);
	mallopt(M_MMAP_MAX, (int)n + 1);
	for (size_t i = 0; i < n; i++) {
		void *p = i % 50000 == 3 ? malloc((size_t)80 << 20)
			  : i % 100 == 1 ? memalign(512, page / 2)
			  : i % 100 == 2 ? malloc(3 * page)
					 : malloc(page - 3 * sizeof(size_t));

		if (!p)
			abort();
		if (i % 10000 == 5000)
			hole = p;
	}
	free(hole);
	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	info = mallinfo2();
	printf("mmapped %zu %zu\n", info.hblks, info.hblkhd);
}

int main(int argc, char **argv)
{
	const unsigned arenas = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	const unsigned both = argc > 7 ? (unsigned)strtoul(argv[7], NULL, 10) : 0;
	pthread_t *t = calloc(arenas + 1, sizeof(*t));
	char c;

	chunks = argc > 2 ? strtoul(argv[2], NULL, 10) & ~(size_t)1 : 1000;
	size = argc > 3 ? strtoul(argv[3], NULL, 10) : 24;
	while (chunks / 2 % 7919 == 0)
		chunks += 2;
	mallopt(M_ARENA_MAX, (int)arenas + 1);
	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	if (argc > 4 && strtoul(argv[4], NULL, 10))
		touch(strtoul(argv[4], NULL, 10));
	if (argc > 5 && strtoul(argv[5], NULL, 10))
		map_chunks(strtoul(argv[5], NULL, 10));
	for (size_t i = argc > 6 ? strtoul(argv[6], NULL, 10) : 0; i; i--)
		if (!malloc(250000))
			abort();
	pthread_barrier_init(&made, NULL, arenas + 1);
	pthread_barrier_init(&end, NULL, arenas + 1);
	pthread_barrier_init(&born, NULL, 2);
	for (unsigned i = 0; i < arenas; i++) {
		if (pthread_create(&t[i], NULL, thread, i < both ? &born : NULL))
			abort();
		pthread_barrier_wait(&born);
	}
	if (!arenas)
		make(both);
	pthread_barrier_wait(&made);
	printf("ready %zu %zu\n", chunks / 2 * (arenas ? arenas : 1), free_bytes);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	pthread_barrier_wait(&end);
	for (unsigned i = 0; i < arenas; i++)
		pthread_join(t[i], NULL);
	return 0;
}
