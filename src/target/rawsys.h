/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * System calls without libc. The stopper shares the memory of the tool, hence also its thread-local
 * errno, and must leave both alone.
 */
#ifndef ASC_TARGET_RAWSYS_H
#define ASC_TARGET_RAWSYS_H

#include <sys/syscall.h>

/* Code that runs on the stopper's stack with the tool's thread pointer: no instrumentation. */
#define ASC_BARE __attribute__((__no_sanitize__("address", "undefined")))

#if defined(__x86_64__)
ASC_BARE static inline long asc_raw(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__i386__)
ASC_BARE static inline long asc_raw(long nr, long a, long b, long c, long d, long e)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return ret;
}
#elif defined(__aarch64__)
ASC_BARE static inline long asc_raw(long nr, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}
#else
#error "write asc_raw for this CPU"
#endif

#endif
