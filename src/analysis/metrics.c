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
#include "target/runs.h"

/* Bytes by what they are. */
typedef uint64_t by_class[ASC_SEG_NCLASSES];

struct page {
	asc_addr at; /* page being filled, 0 none */
	by_class resident;
};

/* One region. */
struct filling {
	struct asc_utilisation *u;
	struct asc_cursor res;
	struct page page;
	by_class all, resident;
	unsigned shift; /* of a page */
};

static uint64_t sum_of(const by_class v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ASC_SEG_NCLASSES; i++)
		sum += v[i];
	return sum;
}

static uint64_t free_of(const by_class v)
{
	return v[ASC_SEG_FREE] + v[ASC_SEG_TOP];
}

static void close_page(struct filling *f)
{
	const uint64_t *v = f->page.resident, live = v[ASC_SEG_USE], page_size = 1ull << f->shift;
	struct asc_utilisation *u = f->u;

	if (sum_of(v)) {
		uint64_t percent = (live * 100 + page_size - 1) >> f->shift; /* rounded up */
		size_t b = !live	       ? 0
			   : live == page_size ? ASC_UTIL_BUCKETS - 1
					       : (size_t)((percent - 1) / 10 + 1);

		u->pages[asc_min(b, ASC_UTIL_BUCKETS - 1)]++;
		if (live && free_of(v)) {
			u->mixed_pages++;
			u->mixed_live += live;
			u->mixed_free += free_of(v);
		}
	}
	f->page = (struct page){ 0 };
}

/* A present stretch of one segment that is not all on the page that is being filled. */
static void fill_pages(struct filling *f, asc_addr lo, asc_addr hi, enum asc_seg_class class)
{
	const uint64_t page_size = 1ull << f->shift;

	while (lo < hi) {
		asc_addr at = asc_align_down(lo, page_size), end = asc_min(hi, at + page_size);

		if (at != f->page.at) {
			close_page(f);
			f->page.at = at;
		}
		if (lo == at && hi - lo >= page_size) { /* whole pages of one kind */
			uint64_t n = (hi - lo) >> f->shift;

			f->u->pages[class == ASC_SEG_USE ? ASC_UTIL_BUCKETS - 1 : 0] += n;
			lo += n << f->shift;
			continue;
		}
		f->page.resident[class] += end - lo;
		lo = end;
	}
}

/* A present stretch of one segment. Several stand on one page. */
static inline void fill(struct filling *f, asc_addr lo, asc_addr hi, enum asc_seg_class class)
{
	const uint64_t page_size = 1ull << f->shift;

	f->resident[class] += hi - lo;
	if (lo >= f->page.at && hi - f->page.at <= page_size && hi - lo < page_size && f->page.at)
		f->page.resident[class] += hi - lo;
	else
		fill_pages(f, lo, hi, class);
}

/* A segment that is not in one run of present pages. */
static void fill_present(struct filling *f, const struct asc_seg *s)
{
	const unsigned not_rss = ASC_PAGE_SWAPPED | ASC_PAGE_ZERO | ASC_PAGE_HUGETLB |
				 ASC_PAGE_DEVICE;
	const struct asc_residency *res = f->res.res;
	size_t i = f->res.i;

	while (i < res->n && res->v[i].end <= s->lo)
		asc_residency_passed(res, ++i);
	f->res.i = i;
	for (; i < res->n && asc_page_run_start(&res->v[i]) < s->hi; i++) {
		asc_addr lo = asc_max(asc_page_run_start(&res->v[i]), s->lo),
			 hi = asc_min(res->v[i].end, s->hi);

		f->res.i = i;
		asc_residency_passed(res, i);
		if (!(asc_page_run_flags(&res->v[i]) & not_rss) && lo < hi)
			fill(f, lo, hi, s->class);
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
	struct asc_utilisation u = { 0 };
	struct filling f = { .u = &u,
			     .res = asc_cursor_at(of->res, r->start),
			     .shift = (unsigned)__builtin_ctzll(of->heap->page_size) };
	struct asc_seg_iter it;
	struct asc_seg seg;

	asc_seg_init(&it, r);
	while (asc_seg_next(&it, &seg)) {
		f.all[seg.class] += seg.hi - seg.lo;
		if (asc_cursor_whole(&f.res, seg.lo, seg.hi))
			fill(&f, seg.lo, seg.hi, seg.class);
		else if (f.res.res)
			fill_present(&f, &seg);
		u.whole_page_bytes += whole_bytes(of->heap, &seg);
	}
	close_page(&f);
	u.in_use_bytes = f.all[ASC_SEG_USE];
	u.free_bytes = free_of(f.all);
	u.live = f.resident[ASC_SEG_USE];
	u.resident = sum_of(f.resident);
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
	ASC_AUTO(asc_freep)
	const struct asc_region **regions = calloc(most, sizeof(struct asc_region *));
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
		.res = res,
		.regions = regions,
	};
	ASC_TRY(asc_parts_do(n, asc_many_chunks(heap), region, &of, each));
	for (size_t i = 0; i < n; i++)
		add_up(&u, &each[i]);
	*ret = u;
	return NULL;
}
