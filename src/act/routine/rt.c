/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The routine that runs inside the target. Freestanding, position independent, one section of code
 * and nothing else: the build checks that it has no data and no relocations.
 *
 * The law: a page is released only between lock and unlock of its arena, in a range that was
 * computed from the arena's state after that lock was taken; this thread unlocks. It holds whether
 * the tool lives or not.
 *
 * A hold ends after a slice whether it released or walked. On a machine with more runnable threads
 * than CPUs that alone does not bound it: the kernel may take the CPU away meanwhile, and others
 * then wait for a thread that waits. So the tool may have raised this thread's priority; it is
 * lowered again here, at the end, tool or no tool.
 *
 * Its rooms, one translation unit all together: sys.h (system calls), lock.h, release.h (pages, in
 * batches), follow.h (what may be looked at), walk.h (one hold of a lock); here: the arenas.
 */
#include "lock.h"
#include "walk.h"

__asm__(".section .text.entry,\"ax\",@progbits\n"
	"	jmp routine_reclaim\n"
	"	.balign 16, 0xcc\n"
	"	jmp routine_unlock\n"
	"	.balign 16, 0xcc\n"
	"	.previous\n");

enum { DONTFORK = 10, NAPS = 8 };

/* Let the woken one have it: on a busy machine it takes a while to come. */
static TEXT void let_others(uint64_t mutex)
{
	for (int i = 0; i < NAPS; i++) {
		nap();
		if (__atomic_load_n((int *)mutex, __ATOMIC_RELAXED))
			return;
	}
}

static TEXT void one_arena(volatile struct asc_rt_par *p, uint64_t arena)
{
	uint64_t mutex = arena + p->o_mutex;
	struct place at;
	int more = 1;

	begin_bin(&at, 0);
	at.ranges = p->ranges;
	while (more && !p->stop) {
		struct hold h;
		uint64_t t, cpu;

		h.arena = arena;
		h.bytes = h.unmarked = h.n = 0;
		for (int i = 0; i < HEAPS; i++)
			h.heap[i] = 0;
		if (!lock(p, mutex)) {
			p->skipped++;
			if (!p->skipped_at)
				p->skipped_at = arena;
			return;
		}
		h.began = now();
		cpu = clock(THREAD_CPU);
		more = one_hold(p, &h, &at);
		cpu = clock(THREAD_CPU) - cpu;
		t = now() - h.began;
		p->holds++;
		if (t > p->max_hold_ns)
			p->max_hold_ns = t;
		if (cpu > p->max_hold_cpu_ns)
			p->max_hold_cpu_ns = cpu;
		if (p->ranges != at.ranges)
			at.fruitless = 0;
		at.ranges = p->ranges;
		if (unlock(p) && more)
			let_others(mutex);
	}
	p->arenas++;
}

/* An arena that is not main lies behind the heap_info of its first heap. */
static int is_arena(volatile struct asc_rt_par *p, uint64_t arena)
{
	uint64_t heap = arena & ~(p->heap_max - 1);

	if (arena == p->main_arena)
		return 1;
	return !(arena & (2 * WORD - 1)) && arena == heap + p->heap_header && mapped(p, heap) &&
	       word(heap + p->o_ar_ptr) == arena;
}

static TEXT void all_arenas(volatile struct asc_rt_par *p)
{
	uint64_t arena = p->first;

	for (uint64_t i = 0; i < ASC_RT_RING_MAX; i++) {
		if (!is_arena(p, arena)) {
			damage(p, arena);
			return;
		}
		one_arena(p, arena);
		if (p->stop)
			return;
		arena = word(arena + p->o_next);
		if (p->only || arena == p->first) {
			p->done = 1;
			return;
		}
	}
}

__attribute__((__used__)) void routine_reclaim(volatile struct asc_rt_par *p);
__attribute__((__used__)) void routine_unlock(volatile struct asc_rt_par *p);

void routine_reclaim(volatile struct asc_rt_par *p)
{
	/* nothing runs in it in a child */
	call(NR_MADVISE, p->map, p->map_len, DONTFORK, 0, 0);
	all_arenas(p);
	if (p->raised)
		call(NR_SETPRIORITY, 0, 0, p->nice, 0, 0);
}

/* After a crash of the other: leave no lock behind. */
void routine_unlock(volatile struct asc_rt_par *p)
{
	unlock(p);
}
