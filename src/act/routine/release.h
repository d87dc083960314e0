/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Releasing pages, under the lock of their arena: in batches, none twice, none of those to be
 * skipped. One bit a page says what this call has released.
 */
#ifndef ASC_ACT_ROUTINE_RELEASE_H
#define ASC_ACT_ROUTINE_RELEASE_H

#include "sys.h"

enum {
	DONTNEED = 4,
	THIS_THREAD = -10000, /* PIDFD_SELF_THREAD */
	HEAPS = 16,	      /* remembered in one hold */
};

enum { PAGE_MASK = (1 << (ASC_RT_REGION_SHIFT - 12)) - 1 };

struct range {
	uint64_t lo, len;
};

/* One hold of one arena's lock. */
struct hold {
	uint64_t arena, mutex, system_mem, top, top_end;
	uint64_t heap[HEAPS], heap_end[HEAPS]; /* that were found good; in no order */
	uint64_t began;
	uint64_t bytes;
	uint64_t unmarked; /* a range without a page map: no slices */
	uint64_t n;
	struct range v[ASC_RT_BATCH];
};

static uint64_t one_by_one(volatile struct asc_rt_par *p, struct hold *h, uint64_t i)
{
	uint64_t errors = 0;

	for (; i < h->n; i++) {
		long r = call(NR_MADVISE, h->v[i].lo, h->v[i].len, DONTNEED, 0, 0);

		if (r == 0) {
			p->bytes += h->v[i].len;
			continue;
		}
		errors++;
		if (!p->first_errno)
			p->first_errno = (uint64_t)-r;
	}
	p->errors += errors;
	return errors;
}

/* Where others hold the address space's lock, or every CPU is busy, each range may take long. */
static void adapt(volatile struct asc_rt_par *p, uint64_t took)
{
	if (took > p->slice_ns && p->batch > ASC_RT_BATCH_MIN)
		p->batch >>= 1;
	else if (took < p->slice_ns >> 3 && p->batch < ASC_RT_BATCH)
		p->batch <<= 1;
}

/* Release what was gathered, under the lock. @return 1: the slice is over */
static TEXT int flush(volatile struct asc_rt_par *p, struct hold *h)
{
	uint64_t i = 0, began, ended;

	if (!h->n)
		return 0;
	began = now();
	if (p->no_batch || h->n == 1) {
		one_by_one(p, h, 0);
	} else {
		long r = call(NR_PROCESS_MADVISE, (uint64_t)(long)THIS_THREAD, (uint64_t)h->v, h->n,
			      DONTNEED, 0);
		uint64_t did = r > 0 ? (uint64_t)r : 0;

		for (; i < h->n && did >= h->v[i].len; i++) {
			did -= h->v[i].len;
			p->bytes += h->v[i].len;
		}
		/* Each of them works alone: so it is the batch that does not work here. */
		if (i < h->n && !one_by_one(p, h, i) && r < 0)
			p->no_batch = 1;
	}
	p->ranges += h->n;
	h->n = h->bytes = 0;
	ended = now();
	adapt(p, ended - began);
	return p->table && !h->unmarked && ended - h->began > p->slice_ns;
}

/* The page map of the 64 MiB around @p addr; 0: no room for one. */
static TEXT uint64_t *page_map(volatile struct asc_rt_par *p, uint64_t addr)
{
	uint64_t key = (addr >> ASC_RT_REGION_SHIFT) + 1, hash = key * 0x9e3779b97f4a7c15u >> 32;
	uint64_t *keys = (uint64_t *)p->table;

	for (uint64_t i = 0; keys && i < p->slots; i++) {
		uint64_t s = (hash + i) & (p->slots - 1);

		if (!keys[s])
			keys[s] = key;
		if (keys[s] == key)
			return (uint64_t *)(p->table + p->slots * WORD + s * ASC_RT_MAP_BYTES);
	}
	return 0;
}

static int add(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	h->v[h->n].lo = lo;
	h->v[h->n++].len = hi - lo;
	h->bytes += hi - lo;
	return h->n >= p->batch || h->bytes >= p->piece ? flush(p, h) : 0;
}

/* Bytes from @p lo on that were released before: 64 pages at once where it can. */
static uint64_t skip_released(volatile struct asc_rt_par *p, const uint64_t *map, uint64_t lo)
{
	uint64_t bit = lo >> 12 & PAGE_MASK;

	if (p->granule == 1 << 12 && !(bit & 63) && map[bit >> 6] == ~(uint64_t)0)
		return 64 << 12;
	return p->granule;
}

/* Whole pages of [lo, hi) within one 64 MiB region that were not released yet. */
static TEXT int marked(volatile struct asc_rt_par *p, struct hold *h, uint64_t *map, uint64_t lo,
		       uint64_t hi)
{
	while (lo < hi) {
		uint64_t from = lo;

		while (lo < hi && lo - from < p->piece) {
			uint64_t bit = lo >> 12 & PAGE_MASK;

			if (map[bit >> 6] >> (bit & 63) & 1)
				break;
			map[bit >> 6] |= (uint64_t)1 << (bit & 63);
			lo += p->granule;
		}
		if (lo == from)
			lo += skip_released(p, map, lo);
		else if (add(p, h, from, lo))
			return 1;
	}
	return 0;
}

static TEXT int plain(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	while (lo < hi) {
		uint64_t end = ((lo >> ASC_RT_REGION_SHIFT) + 1) << ASC_RT_REGION_SHIFT;
		uint64_t *map = page_map(p, lo);

		if (end > hi)
			end = hi;
		if (map) {
			if (marked(p, h, map, lo, end))
				return 1;
		} else {
			h->unmarked = 1;
			if (end - lo > p->piece)
				end = lo + p->piece;
			if (add(p, h, lo, end))
				return 1;
		}
		lo = end;
	}
	return 0;
}

/* Whole pages of [lo, hi) but those of the ranges to skip. @return 1: the slice is over */
static TEXT int release(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	const struct asc_rt_skip *skip = (const struct asc_rt_skip *)p->skips;

	lo = up(lo, p->granule);
	hi &= ~(p->granule - 1);
	for (uint64_t i = 0; i < p->nskips && lo < hi; i++) {
		if (skip[i].hi <= lo || skip[i].lo >= hi)
			continue;
		if (skip[i].lo > lo && plain(p, h, lo, skip[i].lo & ~(p->granule - 1)))
			return 1;
		lo = up(skip[i].hi, p->granule);
	}
	return lo < hi ? plain(p, h, lo, hi) : 0;
}

#endif
