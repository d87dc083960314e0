/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How full pages are: a histogram over resident pages, and the bytes behind three ratios:
 *   page utilisation	      live / resident
 *   unusable free space index (free_bytes - whole_page_bytes) / free_bytes, at page size: the share
 *			      of free memory that no release could give back
 *   blow-up		      peak_bytes / in_use_bytes
 */
#include <stdlib.h>

#include "analysis/cover.h"
#include "arenascope/pins.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/parts.h"

struct page {
	asc_addr at; /* page being filled, 0 none */
	uint64_t resident, live, free;
};

static void close_page(struct asc_utilisation *u, struct page *p, uint64_t page_size)
{
	if (p->resident) {
		uint64_t percent = (p->live * 100 + page_size - 1) / page_size; /* rounded up */
		size_t b = !p->live		  ? 0
			   : p->live == page_size ? ASC_UTIL_BUCKETS - 1
						  : (size_t)((percent - 1) / 10 + 1);

		u->pages[asc_min(b, ASC_UTIL_BUCKETS - 1)]++;
		if (p->live && p->free) {
			u->mixed_pages++;
			u->mixed_live += p->live;
			u->mixed_free += p->free;
		}
	}
	*p = (struct page){ 0 };
}

/* A present stretch of one segment. */
static void fill(struct asc_utilisation *u, struct page *p, uint64_t page_size, asc_addr lo,
		 asc_addr hi, enum asc_seg_class class)
{
	const bool live = class == ASC_SEG_USE;
	const bool is_free = class == ASC_SEG_FREE || class == ASC_SEG_TOP;

	/* several chunks stand on one page */
	if (lo >= p->at && hi - p->at <= page_size && hi - lo < page_size && p->at) {
		p->resident += hi - lo;
		p->live += live ? hi - lo : 0;
		p->free += is_free ? hi - lo : 0;
		return;
	}
	while (lo < hi) {
		asc_addr at = asc_align_down(lo, page_size), end = asc_min(hi, at + page_size);

		if (at != p->at) {
			close_page(u, p, page_size);
			p->at = at;
		}
		if (lo == at && hi - lo >= page_size) { /* whole pages of one kind */
			uint64_t n = (hi - lo) / page_size;

			u->pages[live ? ASC_UTIL_BUCKETS - 1 : 0] += n;
			lo += n * page_size;
			continue;
		}
		p->resident += end - lo;
		p->live += live ? end - lo : 0;
		p->free += is_free ? end - lo : 0;
		lo = end;
	}
}

static void segment(struct asc_utilisation *u, struct page *p, const struct asc_residency *res,
		    size_t *run, uint64_t page_size, const struct asc_seg *s)
{
	bool live = s->class == ASC_SEG_USE;

	if (live)
		u->in_use_bytes += s->hi - s->lo;
	if (s->class == ASC_SEG_FREE || s->class == ASC_SEG_TOP)
		u->free_bytes += s->hi - s->lo;
	if (!res)
		return;
	while (*run < res->n && res->v[*run].end <= s->lo)
		(*run)++;
	for (size_t i = *run; i < res->n && asc_page_run_start(&res->v[i]) < s->hi; i++) {
		asc_addr lo = asc_max(asc_page_run_start(&res->v[i]), s->lo),
			 hi = asc_min(res->v[i].end, s->hi);
		const unsigned not_rss = ASC_PAGE_SWAPPED | ASC_PAGE_ZERO | ASC_PAGE_HUGETLB |
					 ASC_PAGE_DEVICE;

		*run = i;
		if (asc_page_run_flags(&res->v[i]) & not_rss || lo >= hi)
			continue;
		u->resident += hi - lo;
		u->live += live ? hi - lo : 0;
		fill(u, p, page_size, lo, hi, s->class);
	}
}

/* The reclaimable pages of a free chunk: those behind its header and list links. */
static uint64_t whole_bytes(const struct asc_heap *heap, const struct asc_seg *s)
{
	asc_addr lo, hi;

	if ((s->class != ASC_SEG_FREE && s->class != ASC_SEG_TOP) ||
	    s->hi - s->lo < heap->page_size)
		return 0;
	lo = asc_align_up(s->lo + heap->libc.chunk_struct, heap->page_size);
	hi = asc_align_down(s->hi, heap->page_size);
	return lo < hi ? hi - lo : 0;
}

struct utilising {
	const struct asc_heap *heap;
	const struct asc_residency *res;
	const struct asc_region **regions;
};

/* Into the struct asc_utilisation at @p i of @p ret. */
static struct asc_error *region(const void *in, void *ret, size_t i)
{
	const struct utilising *of = in;
	const struct asc_region *r = of->regions[i];
	const uint64_t page_size = of->heap->page_size;
	size_t run = of->res ? asc_residency_seek(of->res, r->start) : 0;
	struct asc_utilisation u = { 0 };
	struct page p = { 0 };
	struct asc_seg_iter it;
	struct asc_seg seg;

	asc_seg_init(&it, r);
	while (asc_seg_next(&it, &seg)) {
		segment(&u, &p, of->res, &run, page_size, &seg);
		u.whole_page_bytes += whole_bytes(of->heap, &seg);
	}
	close_page(&u, &p, page_size);
	((struct asc_utilisation *)ret)[i] = u;
	return NULL;
}

static void add_up(struct asc_utilisation *to, const struct asc_utilisation *u)
{
	for (size_t i = 0; i < ASC_UTIL_BUCKETS; i++)
		to->pages[i] += u->pages[i];
	to->resident += u->resident;
	to->live += u->live;
	to->mixed_pages += u->mixed_pages;
	to->mixed_live += u->mixed_live;
	to->mixed_free += u->mixed_free;
	to->free_bytes += u->free_bytes;
	to->whole_page_bytes += u->whole_page_bytes;
	to->in_use_bytes += u->in_use_bytes;
}

struct asc_error *asc_utilisation(const struct asc_heap *heap, const struct asc_residency *res,
				  int arena, struct asc_utilisation *ret)
{
	struct asc_utilisation u = { 0 };
	size_t n = 0, most = 1;

	for (size_t i = 0; i < heap->narenas; i++)
		most += heap->arenas[i].nregions;
	ASC_AUTO(asc_freep) const struct asc_region **regions = calloc(most, sizeof(*regions));
	ASC_AUTO(asc_freep) struct asc_utilisation *each = calloc(most, sizeof(*each));
	if (!regions || !each)
		return asc_err(ASC_ENOMEM, "how full the pages of %zu heaps are", most);
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		if (arena >= 0 && (unsigned)arena != a->index)
			continue;
		u.peak_bytes += a->max_system_mem;
		for (size_t k = 0; k < a->nregions; k++)
			regions[n++] = &a->regions[k];
	}
	const struct utilising of = {
		.heap = heap,
		.res = res && res->source != ASC_RESIDENCY_UNKNOWN ? res : NULL,
		.regions = regions,
	};
	ASC_TRY(asc_parts_do(n, asc_many_chunks(heap), region, &of, each));
	for (size_t i = 0; i < n; i++)
		add_up(&u, &each[i]);
	*ret = u;
	return NULL;
}
