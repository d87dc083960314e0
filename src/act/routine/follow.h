/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What may be followed. Nothing is believed: an address is looked at only if it lies in the
 * arena's own memory, and a chunk is free only if its size stands at its end as well.
 */
#ifndef ASC_ACT_ROUTINE_FOLLOW_H
#define ASC_ACT_ROUTINE_FOLLOW_H

#include "release.h"

enum {
	NO_SUCH_WAY = 1000, /* of sigprocmask */
	HEAPS_MAX = 1 << 16,
	UNSORTED = 1,
	FIRST_LARGE = 64,
	LAST_LARGE = 126,
	NONCONTIGUOUS = 2,
};

enum { IN_USE = 1, IS_MMAPPED = 2, FLAGS = 7 };
enum { FD = 2 * WORD, BK = 3 * WORD };

/*
 * Can it be read? The kernel copies the set from there, and then refuses what is to be done with it.
 * mincore would ask for the lock of the address space, and whoever has that may wait for a CPU:
 * under an arena's lock nothing here does.
 */
static int mapped(volatile struct asc_rt_par *p, uint64_t addr)
{
	long r = call(NR_SIGPROCMASK, NO_SUCH_WAY, addr & ~(p->page - 1), 0, 8, 0);

	/* Where a filter forbids the question, the other checks have to do. */
	return r == INVALID || r == NO_SYSTEM_CALL || r == -1 || r == -13;
}

/* [addr, addr + len) lies in one heap of this arena. */
static TEXT int in_heap(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	uint64_t heap = addr & ~(p->heap_max - 1), size, end;
	/* as long as the lock is held, none of this arena's heaps can change or go */
	uint64_t i = heap / p->heap_max & (HEAPS - 1);

	if (heap != h->heap[i]) {
		if (!heap || !mapped(p, heap) || word(heap + p->o_ar_ptr) != h->arena)
			return 0;
		size = word(heap + p->o_heap_size);
		if (size < p->heap_header || size > p->heap_max)
			return 0;
		h->heap[i] = heap;
		h->heap_end[i] = heap + size;
	}
	end = h->heap_end[i];
	return addr >= heap + p->heap_header && addr < end && len <= end - addr;
}

static TEXT int in_main(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	if (!(word(h->arena + p->o_flags) & NONCONTIGUOUS) && p->sbrk_base)
		return addr >= p->sbrk_base && addr < h->top_end && len <= h->top_end - addr;
	return len < ((uint64_t)1 << 47) && mapped(p, addr) && mapped(p, addr + len - 1);
}

static int inside(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	if (addr & (2 * WORD - 1) || len > h->system_mem)
		return 0;
	return h->arena == p->main_arena ? in_main(p, h, addr, len) : in_heap(p, h, addr, len);
}

/* @return its size, 0: not a free chunk of this arena that stands behind @p prev in a list */
static TEXT uint64_t free_chunk(volatile struct asc_rt_par *p, struct hold *h, uint64_t chunk,
				uint64_t prev)
{
	uint64_t field, size;

	if (!inside(p, h, chunk, p->min_size) || word(chunk + FD) != prev)
		return 0;
	field = word(chunk + WORD);
	size = field & ~(uint64_t)FLAGS;
	/* the next chunk's header is read as well */
	if (size < p->min_size || size & (2 * WORD - 1) || field & IS_MMAPPED ||
	    !inside(p, h, chunk, size + 2 * WORD))
		return 0;
	if (word(chunk + size) != size || word(chunk + size + WORD) & IN_USE)
		return 0;
	return size;
}

static void damage(volatile struct asc_rt_par *p, uint64_t at)
{
	p->damaged++;
	if (!p->damaged_at)
		p->damaged_at = at;
}

/* A bin's header is placed as if it were a chunk: its links are bins[2 * (bin - 1)] and the next. */
static uint64_t header(volatile struct asc_rt_par *p, struct hold *h, uint64_t bin)
{
	return h->arena + p->o_bins + (bin - 1) * 2 * WORD - 2 * WORD;
}

static int is_header(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	return addr >= header(p, h, UNSORTED) && addr <= header(p, h, LAST_LARGE);
}

/*
 * In a heap of this arena, by the list of its heaps: what is not from a list of free chunks may
 * point into a mapping that another thread just removes, and must not be looked at.
 */
static TEXT int own_heap(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	uint64_t want = addr & ~(p->heap_max - 1), heap = h->top & ~(p->heap_max - 1);

	for (uint64_t i = 0; heap && i < HEAPS_MAX; i++) {
		if (heap & (p->heap_max - 1) || !in_heap(p, h, heap + p->heap_header, 2 * WORD))
			return 0;
		if (heap == want)
			return 1;
		heap = word(heap + p->o_prev);
	}
	return 0;
}

static int is_ours(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	if (h->arena == p->main_arena) {
		if (word(h->arena + p->o_flags) & NONCONTIGUOUS || !p->sbrk_base)
			return 0;
	} else if (!own_heap(p, h, addr)) {
		return 0;
	}
	return inside(p, h, addr, p->min_size);
}

static int is_link(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	return is_header(p, h, addr) || is_ours(p, h, addr);
}

#endif
