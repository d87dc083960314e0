// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Damages its own heap as bugs do, says what it did and where, and waits on stdin.
 *
 *   corrupt          prints the names of all damages
 *   corrupt NAME     prints "damaged CODE ADDRESS" (ADDRESS 0: somewhere), then "quit" ends it
 *
 * It knows glibc's chunk layout of 64-bit Linux (2.27 to 2.42) and writes only to its own memory.
 */
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 12, HEAP_MAX = 64 << 20 };

static char *fast[N], *small[N], *large[N], *live[2 * N], *thread_live[N], *thread_large, *mmapped;
static pthread_barrier_t barrier;
static char *freed_twice;
static int want_second_heap;

static uint64_t *word(void *p, long n)
{
	return (uint64_t *)p + n;
}

/* Of the chunk behind the user pointer. */
static uint64_t *size_of(void *p)
{
	return word(p, -1);
}

static char *header(void *p)
{
	return (char *)p - 16;
}

static char *next_of(void *p)
{
	return (char *)p + (*size_of(p) & ~7ul);
}

static void *thread(void *arg)
{
	(void)arg;
	for (int i = 0; i < N; i++)
		thread_live[i] = malloc(300);
	thread_large = malloc(3000);
	malloc(40);
	free(thread_large);
	for (int i = 0; want_second_heap && i < 700; i++)
		memset(malloc(100000), 1, 8);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	free(freed_twice);
	pthread_barrier_wait(&barrier);
	for (;;)
		pause();
	return NULL;
}

static void prepare(void)
{
	pthread_t t;

	for (int i = 0; i < N; i++) {
		fast[i] = malloc(40);
		small[i] = malloc(300);
		live[2 * i] = malloc(56);
		large[i] = malloc(2000 + 16 * (size_t)(i / 2));
		live[2 * i + 1] = malloc(72);
	}
	mmapped = malloc(1 << 20);
	pthread_create(&t, NULL, thread, NULL);
	pthread_barrier_wait(&barrier);
	/* the first seven of a size go to the tcache, the rest to fastbin or bins */
	for (int i = 0; i < N - 1; i++)
		free(small[i]);
	for (int i = 0; i < N - 1; i++)
		free(large[i]);
	/* sorts the unsorted bin into small and large ones; joins fast ones, so they come behind it */
	free(malloc(60000));
	for (int i = 0; i < N; i++)
		free(fast[i]);
	free(large[N - 1]); /* alone in the unsorted bin */
}

/* The bins of main_arena: the lone unsorted chunk points to their head. */
static char *bins(void)
{
	return (char *)*word(large[N - 1], 0) + 16;
}

static char *arena_of(char *p)
{
	return *(char **)((uintptr_t)p & ~(uintptr_t)(HEAP_MAX - 1));
}

static char *bins_of(char *arena)
{
	return arena + 112;
}

static char *heap_of(char *p)
{
	return (char *)((uintptr_t)p & ~(uintptr_t)(HEAP_MAX - 1));
}

static uint64_t mangle(void *at, void *to)
{
	return ((uintptr_t)at >> 12) ^ (uintptr_t)to;
}

static char *tcache(void)
{
	/* the first chunk of the heap, at the start of its first page */
	char *p = (char *)((uintptr_t)fast[0] & ~(uintptr_t)4095) + 16;

	while (*size_of(p) != 0x291 && *size_of(p) != 0x251)
		p -= 4096;
	return p;
}

/* ---- damages: each returns where the finding must be ---- */

#define DAMAGE(name) static void *name(void)

DAMAGE(size_zero)
{
	*size_of(live[3]) = 0;
	return header(live[3]);
}
DAMAGE(overflow)
{
	/* a string that is too long, from a live chunk into the next one, which is free */
	memset(live[2], 'A', next_of(live[2]) - live[2]);
	return next_of(live[2]) - 16;
}
DAMAGE(off_by_one)
{
	*(char *)size_of(live[2 * N - 2]) &= ~1; /* small[N - 1] before it is live */
	return header(live[2 * N - 2]);
}
DAMAGE(size_over_free)
{
	*size_of(live[4]) += 0x1000;
	return header(live[4]);
}
DAMAGE(size_beyond)
{
	*size_of(live[5]) = 0x10000000001;
	return header(live[5]);
}
DAMAGE(prev_size)
{
	char *next = next_of(large[3]);

	*word(next, -2) += 16;
	return header(next);
}
DAMAGE(in_use_behind_free)
{
	char *next = next_of(large[4]);

	*size_of(next) |= 1;
	return header(next);
}
DAMAGE(mmapped_flag)
{
	*size_of(live[1]) |= 2;
	return header(live[1]);
}
DAMAGE(arena_flag)
{
	*size_of(live[1]) |= 4;
	return header(live[1]);
}
DAMAGE(arena_flag_lost)
{
	*size_of(thread_live[3]) &= ~4ul;
	return header(thread_live[3]);
}
DAMAGE(arena_flag_free)
{
	*size_of(large[3]) |= 4;
	return header(large[3]);
}
DAMAGE(fd)
{
	memset(large[N - 1], 'B', 8); /* use after free */
	return header(large[N - 1]);
}
DAMAGE(bk)
{
	memset(large[N - 1] + 8, 'B', 8);
	return header(large[N - 1]);
}
DAMAGE(fd_small)
{
	*word(small[8], 0) = (uintptr_t)header(live[0]);
	return header(small[8]);
}
DAMAGE(fd_thread)
{
	*word(thread_large, 0) = 0x4242;
	return header(thread_large);
}
DAMAGE(nextsize)
{
	/* leads its size, or must have none */
	*word(large[4], 2) = *word(large[4], 2) ? 0x4242424242424240 : (uintptr_t)header(live[0]);
	return header(large[4]);
}
DAMAGE(bk_nextsize)
{
	char *lead = *word(large[6], 3) ? large[6] : large[7];

	*word(lead, 3) = (uintptr_t)header(live[0]);
	return header(lead);
}
DAMAGE(binmap)
{
	uint32_t *map = (uint32_t *)(bins() + 2032);
	int i = 0;

	while (!map[i])
		i++;
	map[i] = 0;
	return &map[i];
}
DAMAGE(unlink_only)
{
	char *p = small[8], *fd = (char *)*word(p, 0), *b = (char *)*word(p, 1);

	*word(fd, 3) = (uintptr_t)b;
	*word(b, 2) = (uintptr_t)fd;
	return header(p);
}
DAMAGE(fast_link)
{
	*word(fast[N - 1], 0) = 0x4242424242424242;
	return fast[N - 1];
}
DAMAGE(fast_circle)
{
	*word(fast[7], 0) = mangle(fast[7], header(fast[N - 1]));
	return fast[7];
}
DAMAGE(fast_size)
{
	*size_of(fast[N - 1]) = 0x71;
	return header(fast[N - 1]);
}
DAMAGE(tcache_link)
{
	*word(fast[6], 0) = 0x4242424242424242;
	return fast[6];
}
DAMAGE(tcache_key)
{
	memset(fast[3] + 8, 'C', 8);
	return header(fast[3]);
}
DAMAGE(tcache_circle)
{
	*word(fast[0], 0) = mangle(fast[0], fast[6]);
	return fast[0];
}
DAMAGE(tcache_size)
{
	*size_of(fast[6]) = 0x81;
	return header(fast[6]);
}
DAMAGE(tcache_count)
{
	uint16_t *count = (uint16_t *)tcache() + (*size_of(fast[0]) & ~7ul) / 16 - 2;

	*count = 2;
	return count;
}
DAMAGE(freed_by_two)
{
	/* the key, which would give it away, is overwritten between the two */
	freed_twice = small[6];
	memset(freed_twice + 8, 0, 8);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return header(freed_twice);
}
DAMAGE(top_size)
{
	char *top = *(char **)(bins() - 16);

	*word(top, 1) = UINT64_MAX;
	return top;
}
DAMAGE(top_pointer)
{
	*word(bins_of(arena_of(thread_live[0])) - 16, 0) = 0x10;
	return (void *)0x10;
}
DAMAGE(lock)
{
	*(int *)arena_of(thread_live[0]) = 77;
	return arena_of(thread_live[0]);
}
DAMAGE(flags)
{
	((int *)arena_of(thread_live[0]))[1] = 0x41414140;
	return arena_of(thread_live[0]);
}
DAMAGE(system_mem)
{
	*word(bins_of(arena_of(thread_live[0])) + 2072, 0) = 1ul << 40;
	return arena_of(thread_live[0]);
}
DAMAGE(ring)
{
	*word(bins_of(arena_of(thread_live[0])) + 2048, 0) = 0x41414141;
	return arena_of(thread_live[0]);
}
DAMAGE(heap_arena)
{
	*word(heap_of(thread_live[0]), 0) ^= 0x40;
	return NULL; /* the arena is not taken for one any more */
}
DAMAGE(heap_size)
{
	*word(heap_of(thread_live[0]), 2) = 0x7fffffff;
	return heap_of(thread_live[0]);
}
DAMAGE(fencepost)
{
	char *heap = heap_of(thread_live[0]), *end = heap + *word(heap, 2);

	memset(end - 32, 'F', 32);
	return end - 16;
}
DAMAGE(mmapped_header)
{
	*size_of(mmapped) = 0x41414141;
	return NULL;
}

static const struct {
	const char *name, *code;
	void *(*apply)(void);
} damages[] = {
	{ "size-zero", "C-SIZE", size_zero },
	{ "overflow", "C-SIZE", overflow },
	{ "off-by-one", "C-PREV-INUSE", off_by_one },
	{ "size-over-free", "C-SIZE", size_over_free },
	{ "size-beyond", "C-SIZE", size_beyond },
	{ "prev-size", "C-PREV-SIZE", prev_size },
	{ "in-use-behind-free", "C-BIN-INUSE", in_use_behind_free },
	{ "mmapped-flag", "C-MMAPPED-FLAG", mmapped_flag },
	{ "arena-flag", "C-ARENA-FLAG", arena_flag },
	{ "arena-flag-lost", "C-ARENA-FLAG", arena_flag_lost },
	{ "arena-flag-free", "S-ARENA-FLAG", arena_flag_free },
	{ "fd", "C-BIN-LINK", fd },
	{ "bk", "C-BIN-LINK", bk },
	{ "fd-small", "C-BIN-LINK", fd_small },
	{ "fd-thread", "C-BIN-LINK", fd_thread },
	{ "nextsize", "C-NEXTSIZE", nextsize },
	{ "bk-nextsize", "C-NEXTSIZE", bk_nextsize },
	{ "binmap", "C-BINMAP", binmap },
	{ "unlink-only", "C-UNLISTED", unlink_only },
	{ "fast-link", "C-FAST-LINK", fast_link },
	{ "fast-circle", "C-FAST-LINK", fast_circle },
	{ "fast-size", "C-FAST-SIZE", fast_size },
	{ "tcache-link", "C-TCACHE-LINK", tcache_link },
	{ "tcache-key", "C-TCACHE-KEY", tcache_key },
	{ "tcache-circle", "C-TCACHE-LINK", tcache_circle },
	{ "tcache-size", "C-TCACHE-SIZE", tcache_size },
	{ "tcache-count", "C-TCACHE-COUNT", tcache_count },
	{ "freed-by-two", "C-TCACHE-TWICE", freed_by_two },
	{ "top-size", "C-TOP", top_size },
	{ "top-pointer", "C-TOP", top_pointer },
	{ "lock", "C-MUTEX", lock },
	{ "flags", "C-FLAGS", flags },
	{ "system-mem", "C-SYSTEM-MEM", system_mem },
	{ "ring", "C-RING", ring },
	{ "heap-arena", "C-RING", heap_arena },
	{ "heap-size", "C-HEAP", heap_size },
	{ "fencepost", "C-FENCE", fencepost },
	{ "mmapped-header", "S-MMAPPED", mmapped_header },
	{ "nothing", "none", NULL },
};
enum { NDAMAGES = sizeof(damages) / sizeof(damages[0]) };

int main(int argc, char **argv)
{
	static char out[4096], c;

	setvbuf(stdout, out, _IOLBF, sizeof(out));
	if (argc < 2) {
		for (int i = 0; i < NDAMAGES; i++)
			puts(damages[i].name);
		return 0;
	}
	pthread_barrier_init(&barrier, NULL, 2);
	want_second_heap = !strcmp(argv[1], "fencepost");
	prepare();
	for (int i = 0; i < NDAMAGES; i++) {
		if (strcmp(argv[1], damages[i].name))
			continue;
		printf("damaged %s %p\n", damages[i].code,
		       damages[i].apply ? damages[i].apply() : NULL);
		while (read(0, &c, 1) == 1 && c != '\n')
			;
		_exit(0); /* nothing of the heap is touched again */
	}
	return 2;
}
