/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A heap of a chosen shape, deterministic by its seed. Then it waits, every thread asleep outside
 * of malloc, and does what it is told on stdin, one line each:
 *   trim PAD   calls malloc_trim(PAD): "trimmed RETURN"
 *   check      every live block holds what was written: "intact" or "damaged N"
 *   work       one more round of malloc and free in every thread: "worked"
 *   quit       checks, exits 0 or 1
 * It uses read and write only, so that talking to it does not change the heap.
 *
 * mix [--threads=N] [--ops=N] [--size=small|mixed|large|page] [--free=random|alternate|tail|all|none]
 *     [--keep=PERCENT] [--seed=N] [--payload=BYTES] [--arenas=N] [--mxfast=N] [--mlock] [--sbrk]
 *     [--noncontiguous] [--tiny-top] [--late-sbrk]
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct block {
	unsigned char *p;
	size_t size;
	unsigned char fill;
};

struct worker {
	pthread_t thread;
	uint64_t rng;
	struct block *blocks;
	size_t n;
	unsigned round;
};

static struct {
	unsigned threads, ops, keep, arenas;
	const char *size, *free;
	uint64_t seed;
	size_t payload;
	int mxfast;
	int mlock, sbrk, noncontiguous, tiny_top, late_sbrk;
} opt = { .threads = 1, .ops = 2000, .keep = 20, .size = "mixed", .free = "random", .mxfast = -1 };

static pthread_barrier_t begin, done, half;

static void say(const char *text)
{
	size_t n = strlen(text);

	while (n) {
		ssize_t k = write(1, text, n);

		if (k <= 0)
			_exit(3);
		text += k;
		n -= (size_t)k;
	}
}

static uint64_t rnd(struct worker *w, uint64_t n)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (w->rng >> 33) % n;
}

static size_t pick_size(struct worker *w)
{
	switch (opt.size[0]) {
	case 's':
		return 1 + rnd(w, 200);
	case 'l':
		return 20000 + rnd(w, 100000);
	case 'p': /* around multiples of a page */
		return (1 + rnd(w, 6)) * 4096 - 64 + rnd(w, 128);
	default:
		switch (rnd(w, 8)) {
		case 0:
			return 1 + rnd(w, 60000);
		case 1:
		case 2:
			return 1 + rnd(w, 9000);
		default:
			return 1 + rnd(w, 1500);
		}
	}
}

static void fill_block(struct block *b, size_t size, unsigned char with)
{
	b->p = malloc(size);
	if (!b->p)
		_exit(4);
	b->size = size;
	b->fill = with;
	memset(b->p, with, size);
}

static void drop(struct block *b)
{
	free(b->p);
	b->p = NULL;
}

static int goes(struct worker *w, size_t i)
{
	switch (opt.free[0]) {
	case 'a':
		return opt.free[2] == 'l' ? 1 : (int)(i % 2); /* all, alternate */
	case 't':
		return i * 100 >= (uint64_t)opt.ops * opt.keep;
	case 'n':
		return 0;
	default:
		return rnd(w, 100) >= opt.keep;
	}
}

/* Break taken by somebody else than malloc, which nobody may do beside a malloc that does the same. */
static void take_break(void)
{
	if (pthread_barrier_wait(&half) == PTHREAD_BARRIER_SERIAL_THREAD &&
	    sbrk((intptr_t)opt.threads * (3 * 4096 + 40)) == (void *)-1)
		_exit(5);
	pthread_barrier_wait(&half);
}

static void round_of(struct worker *w)
{
	for (size_t i = 0; i < opt.ops; i++) {
		size_t k = rnd(w, opt.ops);

		if (!w->blocks[i].p)
			fill_block(&w->blocks[i], pick_size(w), (unsigned char)rnd(w, 255));
		if (w->blocks[k].p && rnd(w, 4) == 0)
			drop(&w->blocks[k]);
		if (opt.sbrk && w->round == 0 && i == opt.ops / 2)
			take_break();
	}
	if (opt.payload) {
		void *p[4];

		for (int i = 0; i < 4; i++) {
			p[i] = malloc(opt.payload + (size_t)i * 4096);
			if (!p[i])
				_exit(4);
			memset(p[i], 1, opt.payload);
		}
		for (int i = 0; i < 4; i++)
			free(p[i]);
	}
	for (size_t i = 0; i < opt.ops; i++)
		if (w->blocks[i].p && goes(w, i))
			drop(&w->blocks[i]);
	w->round++;
}

static void *worker(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		pthread_barrier_wait(&begin);
		round_of(w);
		pthread_barrier_wait(&done);
	}
	return NULL;
}

static uint64_t damaged(const struct worker *ws)
{
	uint64_t bad = 0;

	for (unsigned t = 0; t < opt.threads; t++)
		for (size_t i = 0; i < ws[t].n; i++) {
			const struct block *b = &ws[t].blocks[i];

			for (size_t k = 0; b->p && k < b->size; k++)
				bad += b->p[k] != b->fill;
		}
	return bad;
}

static void all_work(struct worker *ws)
{
	if (opt.threads == 1) {
		round_of(&ws[0]);
		return;
	}
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&done);
}

/* Exactly the smallest top: what is over goes into one block that stays. */
static void tiny_top(void)
{
	for (int i = 0; i < 100; i++) {
		struct mallinfo2 m = mallinfo2();

		if (m.keepcost == 32)
			return;
		if (m.keepcost < 64 || !malloc(m.keepcost - 32 - 8))
			_exit(6);
	}
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "threads", 1, NULL, 't' },
		{ "ops", 1, NULL, 'o' },
		{ "size", 1, NULL, 's' },
		{ "free", 1, NULL, 'f' },
		{ "keep", 1, NULL, 'k' },
		{ "seed", 1, NULL, 'r' },
		{ "payload", 1, NULL, 'p' },
		{ "arenas", 1, NULL, 'a' },
		{ "mxfast", 1, NULL, 'm' },
		{ "mlock", 0, &opt.mlock, 1 },
		{ "sbrk", 0, &opt.sbrk, 1 },
		{ "noncontiguous", 0, &opt.noncontiguous, 1 },
		{ "tiny-top", 0, &opt.tiny_top, 1 },
		{ "late-sbrk", 0, &opt.late_sbrk, 1 },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 0:
			break;
		case 't':
			opt.threads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'o':
			opt.ops = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			opt.size = optarg;
			break;
		case 'f':
			opt.free = optarg;
			break;
		case 'k':
			opt.keep = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			opt.payload = strtoull(optarg, NULL, 10);
			break;
		case 'a':
			opt.arenas = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			opt.mxfast = (int)strtol(optarg, NULL, 10);
			break;
		default:
			_exit(64);
		}
	}
}

static void *anonymous(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(4);
	return p;
}

static void obey(struct worker *ws, const char *line)
{
	char text[64];
	uint64_t bad;

	if (!strncmp(line, "trim ", 5)) {
		int r = malloc_trim(strtoull(line + 5, NULL, 10));

		say(r ? "trimmed 1\n" : "trimmed 0\n");
	} else if (!strcmp(line, "work")) {
		all_work(ws);
		say("worked\n");
	} else if (!strcmp(line, "check") || !strcmp(line, "quit")) {
		bad = damaged(ws);
		snprintf(text, sizeof(text), bad ? "damaged %llu\n" : "intact\n",
			 (unsigned long long)bad);
		say(text);
		if (line[0] == 'q')
			_exit(bad != 0);
	} else {
		say("what?\n");
	}
}

int main(int argc, char **argv)
{
	struct worker *ws;
	char line[256], text[64];
	size_t len = 0;

	parse(argc, argv);
	ws = anonymous(opt.threads * sizeof(*ws));
	if (opt.arenas)
		mallopt(M_ARENA_MAX, (int)opt.arenas);
	if (opt.mxfast >= 0)
		mallopt(M_MXFAST, opt.mxfast);
	if (opt.noncontiguous) {
		/* a page right behind brk: the main arena has to go elsewhere */
		free(malloc(1));
		if (mmap((char *)(((uintptr_t)sbrk(0) + 4095) & ~4095ul), 4096, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			_exit(7);
	}
	pthread_barrier_init(&begin, NULL, opt.threads + 1);
	pthread_barrier_init(&done, NULL, opt.threads + 1);
	pthread_barrier_init(&half, NULL, opt.threads);
	for (unsigned t = 0; t < opt.threads; t++) {
		ws[t].rng = opt.seed * 1000003 + t;
		ws[t].blocks = anonymous(opt.ops * sizeof(struct block));
		ws[t].n = opt.ops;
		if (opt.threads > 1 && pthread_create(&ws[t].thread, NULL, worker, &ws[t]))
			_exit(8);
	}
	all_work(ws);
	if (opt.tiny_top)
		tiny_top();
	if (opt.late_sbrk && sbrk(4096) == (void *)-1)
		_exit(5);
	if (opt.mlock && mlockall(MCL_CURRENT | MCL_FUTURE))
		_exit(9);
	snprintf(text, sizeof(text), "ready %d\n", (int)getpid());
	say(text);
	for (;;) {
		ssize_t n = read(0, line + len, sizeof(line) - 1 - len);
		char *end;

		if (n <= 0)
			return 0;
		len += (size_t)n;
		line[len] = '\0';
		while ((end = strchr(line, '\n')) != NULL) {
			*end = '\0';
			obey(ws, line);
			len -= (size_t)(end + 1 - line);
			memmove(line, end + 1, len + 1);
		}
	}
}
