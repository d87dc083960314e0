/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Segments, residency in address order, and the ranges that are released.
 *
 * mtrim, for each binned chunk p: [up(p + sizeof(struct malloc_chunk)), down(p + size)), after
 * malloc_consolidate up to 2.42, which merges fastbin chunks with their free neighbours and with
 * top. Its size filter (size > page - 1 + sizeof(struct malloc_chunk)) is implied by lo < hi. The
 * top of the main arena is systrim's. reclaim takes each binned chunk and every top as it stands.
 */
#include "analysis/cover.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/spill.h"
#include "target/runs.h"

struct asc_cursor asc_cursor_at(const struct asc_residency *res, asc_addr addr)
{
	struct asc_cursor c = { .res = res };

	if (res && res->source == ASC_RESIDENCY_UNKNOWN)
		c.res = NULL;
	if (c.res)
		c.i = asc_residency_seek(res, addr);
	return c;
}

struct asc_amount asc_cursor_merge(struct asc_cursor *c, asc_addr lo, asc_addr hi)
{
	struct asc_amount a = { 0 };

	if (!c->res) {
		a.present = hi - lo;
		return a;
	}
	while (c->i < c->res->n && c->res->v[c->i].end <= lo)
		asc_residency_passed(c->res, ++c->i);
	for (size_t i = c->i; i < c->res->n && asc_page_run_start(&c->res->v[i]) < hi; i++) {
		const struct asc_page_run *run = &c->res->v[i];
		uint64_t from = asc_max(asc_page_run_start(run), lo), to = asc_min(run->end, hi);

		if (from >= to)
			continue;
		if (run->word & ASC_PAGE_SWAPPED)
			a.swapped += to - from;
		else if (!(run->word & (ASC_PAGE_ZERO | ASC_PAGE_HUGETLB | ASC_PAGE_DEVICE)))
			a.present += to - from;
		c->i = i;
		asc_residency_passed(c->res, i);
	}
	return a;
}

asc_addr asc_region_limit(const struct asc_region *region)
{
	uint64_t tail;

	if (region->heap_info && asc_add(region->start, region->mprotect_size, &tail))
		return asc_max(region->end, tail);
	return region->end;
}

/* Chunks up to the one at @p i were looked at. @return up to where to look before the next call */
static size_t passed(const struct asc_extents *x, size_t i)
{
	if (!x->on_disk)
		return x->n;
	asc_spill_drop(x->v, i > ASC_SPILL_WINDOW ? i - ASC_SPILL_WINDOW : 0, i);
	return (size_t)asc_min(i + ASC_SPILL_WINDOW, x->n);
}

void asc_seg_init(struct asc_seg_iter *it, const struct asc_region *region)
{
	*it = (struct asc_seg_iter){ .region = region,
				     .stop = passed(&region->extents, 0),
				     .pos = region->start,
				     .end = asc_region_limit(region) };
}

void asc_seg_leave(const struct asc_seg_iter *it)
{
	if (it->region->extents.on_disk)
		asc_spill_drop(it->region->extents.v, 0, it->region->extents.n);
}

/* As next_extent(), for any chunks whatever. */
static bool cut_extent(const struct asc_region *r, size_t *i, asc_addr pos, struct asc_chunk *ret)
{
	for (; *i < r->extents.n; (*i)++) {
		struct asc_chunk c = asc_extent_at(&r->extents, *i);
		uint64_t end;

		if (!asc_add(c.addr, c.size, &end))
			continue;
		*ret = c;
		ret->addr = asc_max(asc_max(c.addr, pos), r->first);
		end = asc_min(end, r->end);
		if (ret->addr >= end)
			continue;
		ret->size = end - ret->addr;
		return true;
	}
	return false;
}

/* The next free chunk at or behind @p pos that lies in the region, cut to fit. */
static inline bool next_extent(const struct asc_region *r, size_t *i, asc_addr pos,
			       struct asc_chunk *ret)
{
	const struct asc_extents *x = &r->extents;
	uint64_t word, size;
	asc_addr addr;

	if (*i >= x->n)
		return false;
	word = x->v[*i];
	addr = asc_extent_addr(x, word);
	size = asc_extent_size(x, word);
	if (addr < pos || addr < r->first || addr >= r->end || !size || size > r->end - addr)
		return cut_extent(r, i, pos, ret);
	/* one by one: a copy of what has just been stored waits for it */
	ret->addr = addr;
	ret->size = size;
	ret->state = asc_extent_state(word);
	return true;
}

/* As asc_seg_next(), for any chunks whatever. */
bool asc_seg_cut(struct asc_seg_iter *it, struct asc_seg *ret)
{
	const struct asc_region *r = it->region;
	struct asc_chunk c;

	if (it->pos >= it->end) {
		asc_seg_leave(it);
		return false;
	}
	if (it->i >= it->stop && it->i < r->extents.n)
		it->stop = passed(&r->extents, it->i);
	ret->lo = it->pos;
	if (it->pos < r->first) {
		ret->hi = asc_min(r->first, it->end);
		ret->class = ASC_SEG_META;
	} else if (it->pos >= r->end) {
		ret->hi = it->end;
		ret->class = ASC_SEG_META;
	} else if (!next_extent(r, &it->i, it->pos, &c)) {
		ret->hi = r->end;
		ret->class = ASC_SEG_USE;
	} else if (c.addr > it->pos) {
		ret->hi = c.addr;
		ret->class = ASC_SEG_USE;
	} else {
		ret->hi = c.addr + c.size;
		ret->class = asc_seg_class(c.state);
		it->i++;
	}
	it->pos = ret->hi;
	return true;
}

bool asc_many_chunks(const struct asc_heap *heap)
{
	enum { MANY = 20000 };
	size_t n = 0;

	for (size_t i = 0; i < heap->narenas; i++)
		n += heap->arenas[i].extents.n;
	return n >= MANY;
}

/* ---- runs of free memory ---- */

/* The whole pages of a run behind its header and list links. */
static bool whole_pages(const struct asc_heap *heap, const struct asc_free_run *run,
			struct asc_rel_range *ret)
{
	*ret = (struct asc_rel_range){
		.lo = asc_align_up(run->lo + heap->libc.chunk_struct, heap->page_size),
		.hi = asc_align_down(run->hi, heap->page_size),
		.how = ASC_REL_MADVISE,
	};
	return ret->lo < ret->hi;
}

/* ---- what cannot be released ---- */

/* Does a range of @p v, which is sorted, begin below @p hi and end above @p lo? Its start. */
static bool first_in(const struct asc_range *v, size_t n, asc_addr lo, asc_addr hi, asc_addr *ret)
{
	size_t a = 0, b = n;

	while (a < b) {
		size_t mid = a + (b - a) / 2;

		if (v[mid].addr + v[mid].len <= lo)
			a = mid + 1;
		else
			b = mid;
	}
	if (a == n || v[a].addr >= hi)
		return false;
	*ret = asc_max(v[a].addr, lo);
	return true;
}

asc_addr asc_madvise_end(const struct asc_trim_in *in, asc_addr lo, asc_addr hi,
			 enum asc_stay *ret_why)
{
	asc_addr at;

	if (first_in(in->mlocked, in->nmlocked, lo, hi, &at)) {
		hi = at;
		*ret_why = ASC_STAY_MLOCKED;
	}
	if (first_in(in->hugetlb, in->nhugetlb, lo, hi, &at)) {
		hi = at;
		*ret_why = ASC_STAY_HUGETLB;
	}
	return hi;
}

void asc_drop_blocked(const struct asc_trim_in *in, asc_rel_vec *v)
{
	size_t kept = 0;
	enum asc_stay why;

	for (size_t i = 0; i < v->len; i++) {
		struct asc_rel_range r = v->data[i];

		if (r.how == ASC_REL_MADVISE)
			r.hi = asc_madvise_end(in, r.lo, r.hi, &why);
		if (r.lo < r.hi)
			v->data[kept++] = r;
	}
	v->len = kept;
}

/* ---- malloc_trim ---- */

bool asc_trim_skips(const struct asc_heap *heap, const struct asc_arena *a)
{
	enum { CORRUPT = 4 };

	return !a->initialised || (heap->libc.trim_corrupt_flag && (a->flags & CORRUPT));
}

static bool brk_at(const struct asc_heap *heap, const struct asc_arena *a, asc_addr end)
{
	if (heap->params.curbrk_known)
		return heap->params.curbrk == end;
	return !a->noncontiguous && heap->params.sbrk_base + a->system_mem == end;
}

bool asc_trim_foreign(const struct asc_heap *heap)
{
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		for (size_t k = 0; !a->index && !a->noncontiguous && k < a->nregions; k++) {
			const struct asc_region *r = &a->regions[k];
			struct asc_chunk top = { 0 };

			if (!r->has_top)
				continue;
			if (r->extents.n)
				top = asc_extent_at(&r->extents, r->extents.n - 1);
			if (top.state != ASC_TOP || top.size != r->end - top.addr ||
			    !brk_at(heap, a, r->end))
				return true;
		}
	}
	return false;
}

static struct asc_systrim systrim(const struct asc_heap *heap, const struct asc_arena *a,
				  const struct asc_free_run *top, uint64_t pad)
{
	struct asc_systrim st = { .top = top->lo, .end = top->hi };
	const struct asc_heap_libc *l = &heap->libc;
	uint64_t page = l->systrim_thp && asc_is_pow2(heap->params.thp_pagesize)
				? heap->params.thp_pagesize
				: heap->page_size;
	uint64_t size = top->hi - top->lo, area = size - l->minsize - 1;

	st.refused = !brk_at(heap, a, top->hi);
	if (size == l->minsize && l->systrim_minsize_quirk) {
		/* area is -1, which passes glibc's unsigned test: brk goes up */
		if (!st.refused)
			st.brk_delta = (int64_t)asc_align_up(pad + 1, page);
		return st;
	}
	if (size <= l->minsize || area <= pad)
		return st;
	st.extra = st.refused ? 0 : asc_align_down(area - pad, page);
	st.brk_delta = -(int64_t)st.extra;
	return st;
}

/* Of a run of a page and more, or with the top. */
static struct asc_error *trim_pages(struct asc_releasing *g)
{
	const struct asc_free_run *run = &g->run;
	struct asc_rel_range range;

	if (!run->top)
		return whole_pages(g->heap, run, &range) ? asc_vec_push(g->trim, range) : NULL;
	if (g->arena->index)
		return NULL;
	struct asc_systrim s = systrim(g->heap, g->arena, run, g->pad);

	if (g->st)
		*g->st = s;
	range = (struct asc_rel_range){ run->hi - s.extra, run->hi, ASC_REL_SBRK };
	return s.extra ? asc_vec_push(g->trim, range) : NULL;
}

/* The run, if there is one, ends here. Most are too small: told before any division. */
static inline struct asc_error *trim_run(struct asc_releasing *g)
{
	if (!g->run.hi)
		return NULL;
	if (g->run.top || g->run.hi - g->run.lo >= g->heap->page_size)
		ASC_TRY(trim_pages(g));
	*g->walked += g->run.chunks;
	g->run.hi = 0;
	return NULL;
}

/* malloc_consolidate takes fastbin chunks too, and neighbours become one. */
static inline struct asc_error *trim_chunk(struct asc_releasing *g, const struct asc_chunk *c)
{
	const enum asc_seg_class class = asc_seg_class(c->state);
	const bool consolidate = g->heap->libc.trim_consolidates;
	const bool fits = class == ASC_SEG_FREE || class == ASC_SEG_TOP ||
			  (class == ASC_SEG_FAST && consolidate);

	if (g->run.hi && (!fits || !consolidate || c->addr > g->run.hi))
		ASC_TRY(trim_run(g));
	if (!fits)
		return NULL;
	if (!g->run.hi)
		g->run = (struct asc_free_run){ .lo = c->addr };
	g->run.hi = c->addr + c->size;
	g->run.top |= class == ASC_SEG_TOP;
	g->run.chunks++;
	return NULL;
}

static inline struct asc_error *reclaim_chunk(struct asc_releasing *g, const struct asc_chunk *c)
{
	const enum asc_seg_class class = asc_seg_class(c->state);
	const struct asc_free_run run = { .lo = c->addr, .hi = c->addr + c->size };
	struct asc_rel_range range;

	if (class != ASC_SEG_FREE && class != ASC_SEG_TOP)
		return NULL;
	++*g->walked;
	/* most are too small: told before any division */
	if (c->size >= g->heap->page_size && whole_pages(g->heap, &run, &range))
		return asc_vec_push(g->reclaim, range);
	return NULL;
}

/* Until there are @p most ranges more. @p ret_done: there are none behind them */
static struct asc_error *release_some(struct asc_releasing *g, size_t most, bool *ret_done)
{
	const struct asc_region *r = g->region;
	const size_t trims = g->trim ? g->trim->len : 0,
		     reclaims = g->reclaim ? g->reclaim->len : 0;
	struct asc_chunk c;

	*ret_done = false;
	for (; next_extent(r, &g->i, g->pos, &c); g->i++) {
		if ((g->trim && g->trim->len - trims >= most) ||
		    (g->reclaim && g->reclaim->len - reclaims >= most))
			return NULL;
		if (g->i >= g->stop)
			g->stop = passed(&r->extents, g->i);
		g->pos = c.addr + c.size;
		if (g->trim)
			ASC_TRY(trim_chunk(g, &c));
		if (g->reclaim)
			ASC_TRY(reclaim_chunk(g, &c));
	}
	if (r->extents.on_disk)
		asc_spill_drop(r->extents.v, 0, r->extents.n);
	*ret_done = true;
	return g->trim ? trim_run(g) : NULL;
}

static struct asc_error *release(struct asc_releasing *g, const struct asc_region *r)
{
	bool done;

	g->region = r;
	g->pos = r->start;
	g->stop = passed(&r->extents, 0);
	return release_some(g, SIZE_MAX, &done);
}

struct asc_error *asc_trim_ranges(const struct asc_heap *heap, const struct asc_arena *a,
				  const struct asc_region *r, uint64_t pad, asc_rel_vec *ret,
				  uint64_t *walked, struct asc_systrim *st)
{
	struct asc_releasing g = {
		.heap = heap, .arena = a, .pad = pad, .trim = ret, .walked = walked, .st = st
	};

	return asc_trim_skips(heap, a) ? NULL : release(&g, r);
}

struct asc_error *asc_reclaim_ranges(const struct asc_heap *heap, const struct asc_region *r,
				     asc_rel_vec *ret, uint64_t *walked)
{
	struct asc_releasing g = { .heap = heap, .reclaim = ret, .walked = walked };

	return release(&g, r);
}

/* ---- some at a time ---- */

void asc_feed_init(struct asc_feed *f, const struct asc_heap *heap, const struct asc_arena *a,
		   const struct asc_region *r, bool trim, bool reclaim, uint64_t pad,
		   const struct asc_trim_in *blocked)
{
	*f = (struct asc_feed){ .blocked = blocked };
	f->g = (struct asc_releasing){ .heap = heap,
				       .arena = a,
				       .region = r,
				       .pad = pad,
				       .trim = trim && !asc_trim_skips(heap, a) ? &f->trim.v : NULL,
				       .reclaim = reclaim ? &f->reclaim.v : NULL,
				       .walked = &f->walked,
				       .st = &f->st,
				       .pos = r->start,
				       .stop = passed(&r->extents, 0) };
	f->known = f->g.trim || f->g.reclaim ? 0 : UINT64_MAX;
}

static void drop_passed(struct asc_rel_list *l)
{
	if (l->i)
		memmove(l->v.data, l->v.data + l->i, (l->v.len - l->i) * sizeof(*l->v.data));
	l->v.len -= l->i;
	l->i = 0;
}

struct asc_error *asc_feed_more(struct asc_feed *f)
{
	enum { SOME = 4096 };
	const struct asc_free_run *run = &f->g.run;
	size_t had;
	bool done;

	drop_passed(&f->trim);
	drop_passed(&f->reclaim);
	had = f->trim.v.len + f->reclaim.v.len;
	ASC_TRY(release_some(&f->g, SOME, &done));
	f->ranges += f->trim.v.len + f->reclaim.v.len - had;
	f->known = done ? UINT64_MAX : run->hi ? run->lo : f->g.pos;
	if (f->blocked) {
		asc_drop_blocked(f->blocked, &f->trim.v);
		asc_drop_blocked(f->blocked, &f->reclaim.v);
	}
	return NULL;
}

struct asc_error *asc_feed_drain(struct asc_feed *f)
{
	while (f->known != UINT64_MAX) {
		f->trim.i = f->trim.v.len;
		f->reclaim.i = f->reclaim.v.len;
		ASC_TRY(asc_feed_more(f));
	}
	return NULL;
}

void asc_feed_deinit(struct asc_feed *f)
{
	asc_vec_free(&f->trim.v);
	asc_vec_free(&f->reclaim.v);
}

/* ---- the bound ---- */

/* The row, if there is one, ends here. */
void asc_bound_row(struct asc_bounding *b)
{
	const struct asc_free_run run = { .lo = b->lo, .hi = b->hi };
	struct asc_rel_range range;

	if (run.hi && run.hi - run.lo >= b->heap->page_size && whole_pages(b->heap, &run, &range))
		b->sum->ideal += asc_cursor_count(&b->whole, range.lo, range.hi).present;
	b->hi = 0;
}
