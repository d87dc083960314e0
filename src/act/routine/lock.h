/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lock of an arena, exactly as lll_lock and lll_unlock do it. */
#ifndef ASC_ACT_ROUTINE_LOCK_H
#define ASC_ACT_ROUTINE_LOCK_H

#include "sys.h"

enum { FUTEX_WAKE_PRIVATE = 129, FUTEX2_U32_PRIVATE = 130, LOCK_NS = 2000000000 };

/*
 * Sleep while *mutex is 2, until @p end at most. futex_waitv, since its time is absolute: it needs no
 * restart block, unlike futex. Where it is missing or forbidden, a nap.
 */
static TEXT void wait_for(uint64_t mutex, uint64_t end)
{
	struct {
		uint64_t val, addr;
		uint32_t flags, reserved;
	} w;
	uint64_t at[2];
	long r;

	w.val = 2;
	w.addr = mutex;
	w.flags = FUTEX2_U32_PRIVATE;
	w.reserved = 0;
	at[0] = end / 1000000000u;
	at[1] = end % 1000000000u;
	r = call(NR_FUTEX_WAITV, (uint64_t)&w, 1, 0, (uint64_t)at, MONOTONIC);
	if (r < 0 && r != TRY_AGAIN && r != TIMED_OUT && r != INTERRUPTED)
		nap();
}

/*
 * @return 0: held by somebody for too long. This thread has better to do than to stand in a line for
 * good, and with the tool dead nobody could take it out.
 */
static TEXT int lock(volatile struct asc_rt_par *p, uint64_t mutex)
{
	int *m = (int *)mutex, zero = 0;
	uint64_t t, end;

	if (__atomic_compare_exchange_n(m, &zero, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		p->held = mutex;
		return 1;
	}
	t = now();
	end = t + LOCK_NS;
	p->waits_for = mutex;
	while (__atomic_exchange_n(m, 2, __ATOMIC_ACQUIRE) != 0) {
		if (now() >= end) {
			p->waits_for = 0;
			return 0;
		}
		wait_for(mutex, end);
	}
	p->held = mutex;
	p->waits_for = 0;
	t = now() - t;
	if (t > p->max_wait_ns)
		p->max_wait_ns = t;
	return 1;
}

/* @return 1: somebody waited */
static TEXT int unlock(volatile struct asc_rt_par *p)
{
	int *m = (int *)p->held;

	p->held = 0;
	if (!m || __atomic_exchange_n(m, 0, __ATOMIC_RELEASE) <= 1)
		return 0;
	call(NR_FUTEX, (uint64_t)m, FUTEX_WAKE_PRIVATE, 1, 0, 0);
	return 1;
}

#endif
