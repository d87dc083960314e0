/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tiles [THREADS]: threads that hold their whole extended state, AMX tiles and AVX-512 registers,
 * over a system call that sleeps or over a loop, and compare it byte by byte afterwards. In between
 * they give the tiles back, so that the state is sometimes there and sometimes not.
 *
 * Prints "ready TID tiles", "ready TID avx512" or "ready TID none": what there is on this CPU under
 * this kernel, and the thread that holds it in a sleep. Commands on stdin: check ("checked N, N interrupted"), ping
 * ("pong"). At end of file "ok N checks, N interrupted", or at any time "WRONG what".
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic bool stop;
static _Atomic uint64_t checks, interrupted;
static _Atomic int first;

#ifdef __x86_64__
enum {
	TILES = 8,
	TILE_BYTES = 1024,
	ZMMS = 32,
	MASKS = 8,
	ARCH_REQ_XCOMP_PERM = 0x1023,
	TILEDATA = 18
};
enum { NONE, AVX512, AMX };
static int have;

struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t colsb[16];
	uint8_t rows[16];
} __attribute__((__aligned__(64)));

struct state {
	uint8_t tiles[TILES][TILE_BYTES];
	uint8_t zmm[ZMMS][64];
	uint64_t k[MASKS];
	struct tile_config config;
} __attribute__((__aligned__(64)));

static void wrong(const char *what, int i)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "WRONG %s %d changed\n", what, i);

	_exit(write(1, text, (size_t)n) == n ? 3 : 4);
}

#define EACH8(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
#define EACH32(f)                                                                                  \
	EACH8(f)                                                                                   \
	f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15) f(16) f(17) f(18) f(19) f(20) f(21) f(22)    \
		f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
#define LOAD_ZMM(i)   "vmovdqu64 64*" #i "(%%r12), %%zmm" #i "\n\t"
#define STORE_ZMM(i)  "vmovdqu64 %%zmm" #i ", 64*" #i "(%%r13)\n\t"
#define LOAD_K(i)     "kmovq 8*" #i "(%%r12), %%k" #i "\n\t"
#define STORE_K(i)    "kmovq %%k" #i ", 8*" #i "(%%r13)\n\t"
#define LOAD_TILE(i)  "tileloadd 1024*" #i "(%%r12,%%r14,1), %%tmm" #i "\n\t"
#define STORE_TILE(i) "tilestored %%tmm" #i ", 1024*" #i "(%%r13,%%r14,1)\n\t"

enum { NO_TILES, CONFIG_ONLY, ALL_TILES };
static const struct tile_config config = {
	.palette = 1,
	.colsb = { 64, 64, 64, 64, 64, 64, 64, 64 },
	.rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

/*
 * In one block, so that nothing but the outside can change a register. The sleep (nanosleep) is
 * called as libc does it, number first: it can then be begun anew even if it was restarted before.
 */
static __attribute__((__noinline__)) long hold(const struct state *in, struct state *out,
					       long tiles, bool sleep, const struct timespec *ts)
{
	register const void *r8 __asm__("r8") = &config;
	register long r9 __asm__("r9") = tiles;
	register struct tile_config *r10 __asm__("r10") = &out->config;
	register const struct state *r12 __asm__("r12") = in;
	register struct state *r13 __asm__("r13") = out;
	long ret = sleep;

	__asm__ volatile("mov $64, %%r14d\n\t"
			 "test %%r9, %%r9\n\tjz 1f\n\t"
			 "ldtilecfg (%%r8)\n\tcmp $1, %%r9\n\tje 1f\n\t" EACH8(LOAD_TILE) /* */
			 "1:\tadd $8192, %%r12\n\tadd $8192, %%r13\n\t" EACH32(LOAD_ZMM)  /* */
			 "add $2048, %%r12\n\t" EACH8(LOAD_K)				  /* */
			 "test %%rax, %%rax\n\tjz 2f\n\tmov $35, %%eax\n\tsyscall\n\tjmp 3f\n"
			 "2:\tmov $300000, %%ecx\n"
			 "4:\tdec %%ecx\n\tjnz 4b\n"
			 "3:\t" EACH32(STORE_ZMM) "add $2048, %%r13\n\t" EACH8(STORE_K) /* */
			 "sub $10240, %%r13\n\ttest %%r9, %%r9\n\tjz 5f\n\tsttilecfg (%%r10)\n\t"
			 "cmp $1, %%r9\n\tje 6f\n\t" EACH8(STORE_TILE) /* */
			 "6:\ttilerelease\n"
			 "5:\tvzeroupper"
			 : "+a"(ret), "+r"(r12), "+r"(r13), "+r"(r9), "+r"(r8), "+r"(r10)
			 : "D"(ts), "S"(0L)
			 : "rcx", "rdx", "r11", "r14", "memory", "cc", "xmm0", "xmm1", "xmm2",
			   "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
			   "xmm12", "xmm13", "xmm14", "xmm15");
	return ret;
}

static void compare(const struct state *in, const struct state *out, long tiles)
{
	for (int i = 0; tiles == ALL_TILES && i < TILES; i++) {
		if (memcmp(in->tiles[i], out->tiles[i], TILE_BYTES))
			wrong("tile", i);
	}
	if (tiles != NO_TILES && memcmp(&config, &out->config, sizeof(config)))
		wrong("configuration of the tiles", out->config.palette);
	for (int i = 0; i < ZMMS; i++) {
		if (memcmp(in->zmm[i], out->zmm[i], 64))
			wrong("zmm", i);
	}
	for (int i = 0; i < MASKS; i++) {
		if (in->k[i] != out->k[i])
			wrong("mask", i);
	}
	checks++;
}

static void *holder(void *arg)
{
	static _Thread_local struct state in, out;
	uint64_t x = 7 + (uintptr_t)arg * 31337, round = 0;
	bool sleeper = (uintptr_t)arg % 4 != 3;

	if (!arg)
		first = gettid();
	while (!stop) {
		/* the first one is asleep nearly always */
		struct timespec ts = { 0, arg ? 3000000 : 50000000 };
		long tiles = have == AMX ? (long)(round++ % 4) : NO_TILES;
		long r;

		tiles = tiles > ALL_TILES ? ALL_TILES : tiles;
		for (size_t i = 0; i < sizeof(in); i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			((uint8_t *)&in)[i] = (uint8_t)(x >> 33);
		}
		memset(&out, 0, sizeof(out));
		r = hold(&in, &out, tiles, sleeper, &ts);
		/* a kernel whose tracer dies may end a sleep early: nobody can hide that */
		interrupted += sleeper && r == -EINTR;
		if (sleeper && r && r != -EINTR)
			wrong("result of the sleep", (int)r);
		compare(&in, &out, tiles);
	}
	return NULL;
}

static void look(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512bw"))
		have = AVX512;
	if (have && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILEDATA))
		have = AMX;
}
#else
enum { NONE };
static const int have = NONE;
static void *holder(void *arg)
{
	return arg;
}
static void look(void)
{
}
#endif

int main(int argc, char **argv)
{
	static const char *const names[] = { "none", "avx512", "tiles" };
	uintptr_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 4;
	pthread_t threads[256];
	char line[64];

	look();
	n = n > 256 ? 256 : n;
	for (uintptr_t i = 0; have && i < n; i++) {
		if (pthread_create(&threads[i], NULL, holder, (void *)i))
			return 2;
	}
	while (have && !first)
		usleep(1000);
	printf("ready %d %s\n", first ? (int)first : (int)getpid(), names[have]);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "check", 5))
			printf("checked %llu, %llu interrupted\n", (unsigned long long)checks,
			       (unsigned long long)interrupted);
		else
			printf("pong\n");
		fflush(stdout);
	}
	stop = true;
	for (uintptr_t i = 0; have && i < n; i++)
		pthread_join(threads[i], NULL);
	printf("ok %llu checks, %llu interrupted\n", (unsigned long long)checks,
	       (unsigned long long)interrupted);
	return 0;
}
