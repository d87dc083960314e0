/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * System calls of the routine, the clock, and words of memory. None of the calls would replace
 * the borrowed thread's restart block (nanosleep, a futex with a timeout), or its own
 * interrupted sleep would end with EINTR.
 */
#ifndef ASC_ACT_ROUTINE_SYS_H
#define ASC_ACT_ROUTINE_SYS_H

#include "par.h"

#define TEXT __attribute__((__noinline__))

enum { WORD = 8 };
enum {
	NR_SIGPROCMASK = 14,
	NR_MADVISE = 28,
	NR_SETPRIORITY = 141,
	NR_FUTEX = 202,
	NR_CLOCK_GETTIME = 228,
	NR_PPOLL = 271,
	NR_PROCESS_MADVISE = 440,
	NR_FUTEX_WAITV = 449,
};
enum {
	INTERRUPTED = -4,
	TRY_AGAIN = -11,
	INVALID = -22,
	NO_SYSTEM_CALL = -38,
	TIMED_OUT = -110,
};
enum { MONOTONIC = 1, THREAD_CPU = 3 };
enum { NAP_NS = 500000 };

static long call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static uint64_t word(uint64_t addr)
{
	return *(volatile uint64_t *)addr;
}

static TEXT uint64_t clock(uint64_t id)
{
	uint64_t t[2] = { 0, 0 };

	call(NR_CLOCK_GETTIME, id, (uint64_t)t, 0, 0, 0);
	return t[0] * 1000000000u + t[1];
}

static uint64_t now(void)
{
	return clock(MONOTONIC);
}

static TEXT void nap(void)
{
	uint64_t t[2];

	t[0] = 0;
	t[1] = NAP_NS;
	call(NR_PPOLL, 0, 0, (uint64_t)t, 0, 0);
}

static uint64_t up(uint64_t v, uint64_t granule)
{
	return (v + granule - 1) & ~(granule - 1);
}

#endif
