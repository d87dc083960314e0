/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ranges against residency: what comes back, what stays and why. Bytes returned plus bytes that
 * stay are all resident free and cached bytes of the arenas looked at.
 */
#include "analysis/predict.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"

const char *asc_stay_name(enum asc_stay s)
{
	static const char *const names[ASC_NSTAYS] = {
		[ASC_STAY_TOP] = "in tops of non-main arenas",
		[ASC_STAY_SHARED_PAGE] = "on pages shared with live data or list headers",
		[ASC_STAY_TCACHE] = "cached in tcaches",
		[ASC_STAY_FASTBIN] = "in fastbins",
		[ASC_STAY_PAD] = "in the main arena's top, below the pad",
		[ASC_STAY_FOREIGN_SBRK] = "in the main arena's top: someone else moved brk",
		[ASC_STAY_NONCONTIGUOUS] = "in the main arena's top: not in brk memory",
		[ASC_STAY_MLOCKED] = "locked in memory (mlock)",
		[ASC_STAY_HUGETLB] = "in hugetlb mappings",
		[ASC_STAY_BUSY] = "in arenas that were busy or locked",
		[ASC_STAY_CORRUPT] = "in arenas that glibc found corrupt",
	};

	return (unsigned)s < ASC_NSTAYS ? names[s] : "?";
}

const char *asc_stay_key(enum asc_stay s)
{
	static const char *const keys[ASC_NSTAYS] = {
		[ASC_STAY_TOP] = "top",
		[ASC_STAY_SHARED_PAGE] = "shared_page",
		[ASC_STAY_TCACHE] = "tcache",
		[ASC_STAY_FASTBIN] = "fastbin",
		[ASC_STAY_PAD] = "pad",
		[ASC_STAY_FOREIGN_SBRK] = "foreign_sbrk",
		[ASC_STAY_NONCONTIGUOUS] = "noncontiguous",
		[ASC_STAY_MLOCKED] = "mlocked",
		[ASC_STAY_HUGETLB] = "hugetlb",
		[ASC_STAY_BUSY] = "busy",
		[ASC_STAY_CORRUPT] = "corrupt",
	};

	return (unsigned)s < ASC_NSTAYS ? keys[s] : "?";
}

static enum asc_stay why_stays(const struct asc_settle *s, const struct asc_seg *seg, asc_addr pos)
{
	switch (seg->class) {
	case ASC_SEG_TCACHE:
		return ASC_STAY_TCACHE;
	case ASC_SEG_FAST:
		return pos >= s->top_whole ? s->top_stays : s->fast_stays;
	default:
		return pos >= s->top_whole ? s->top_stays : ASC_STAY_SHARED_PAGE;
	}
}

struct settling {
	const struct asc_settle *s;
	struct asc_prediction *p;
	struct asc_trim_arena *pa;
	struct asc_cursor res;
	asc_addr judged;   /* the range at or behind the position, which was judged: */
	asc_addr works_to; /* released up to here */
	enum asc_stay why; /* and from there on not, because */
	asc_addr plain_to; /* below it no range begins that was not passed, nor the top's whole pages */
};

static void judge(struct settling *g)
{
	const struct asc_rel_range *r = &g->s->list->v.data[g->s->list->i];

	if (g->judged == r->lo)
		return;
	g->judged = r->lo;
	g->works_to = r->how == ASC_REL_MADVISE ? asc_madvise_end(g->s->in, r->lo, r->hi, &g->why)
						: r->hi;
	if (g->s->arena->busy) {
		g->works_to = r->lo;
		g->why = ASC_STAY_BUSY;
	}
}

/* [lo, hi) of one free or cached segment. @p ret: bytes in memory */
static struct asc_error *settle(struct settling *g, const struct asc_seg *seg, uint64_t *ret)
{
	struct asc_rel_list *l = g->s->list;
	asc_addr pos = seg->lo;
	uint64_t present = 0;

	while (pos < seg->hi) {
		bool released = false;
		enum asc_stay why = why_stays(g->s, seg, pos);

		while (pos >= g->s->feed->known)
			ASC_TRY(asc_feed_more(g->s->feed));
		asc_addr end = asc_min(seg->hi, g->s->feed->known);

		while (l->i < l->v.len && l->v.data[l->i].hi <= pos)
			l->i++;
		if (pos < g->s->top_whole)
			end = asc_min(end, g->s->top_whole);
		if (asc_rel_next(l) <= pos) {
			judge(g);
			end = asc_min(end, l->v.data[l->i].hi);
			released = pos < g->works_to;
			if (released)
				end = asc_min(end, g->works_to);
			else
				why = g->why;
		} else {
			end = asc_min(end, asc_rel_next(l));
		}
		struct asc_amount n = asc_cursor_count(&g->res, pos, end);

		present += n.present;
		if (released) {
			g->pa->bytes += n.present;
			g->pa->swapped += n.swapped;
		} else {
			g->p->stays[why] += n.present;
		}
		pos = end;
	}
	g->plain_to = asc_min(g->s->feed->known, asc_min(asc_rel_next(l), g->s->top_whole));
	*ret = present;
	return NULL;
}

/* All segments of a region; most of them are in no range, and in memory. */
static struct asc_error *settle_all(struct settling *g, struct asc_bounding *b)
{
	struct asc_seg_iter it;
	struct asc_seg seg;

	asc_seg_init(&it, g->s->region);
	while (asc_seg_next(&it, &seg)) {
		const bool live = seg.class == ASC_SEG_META || seg.class == ASC_SEG_USE;
		uint64_t present;

		if ((live || seg.hi <= g->plain_to) && asc_cursor_whole(&g->res, seg.lo, seg.hi)) {
			present = seg.hi - seg.lo;
			if (!live)
				g->p->stays[why_stays(g->s, &seg, seg.lo)] += present;
		} else if (live) {
			present = asc_cursor_count(&g->res, seg.lo, seg.hi).present;
		} else {
			ASC_TRY(settle(g, &seg, &present));
		}
		asc_bound(b, &seg, present);
	}
	asc_bound_row(b);
	return NULL;
}

struct asc_error *asc_settle_region(const struct asc_settle *s, struct asc_prediction *p,
				    struct asc_trim_arena *pa, struct asc_bounds *sum)
{
	struct settling g = { .s = s, .p = p, .pa = pa, .judged = UINT64_MAX };
	struct asc_bounding b = { .heap = s->in->heap, .sum = sum };

	g.res = b.whole = asc_cursor_at(s->in->res, s->region->start);
	ASC_TRY(settle_all(&g, &b));
	ASC_TRY(asc_feed_drain(s->feed));
	pa->ranges += s->feed->ranges;
	pa->walked += s->feed->walked;
	return NULL;
}

void asc_region_bounds(const struct asc_trim_in *in, const struct asc_region *r,
		       struct asc_bounds *sum)
{
	struct asc_cursor res = asc_cursor_at(in->res, r->start);
	struct asc_bounding b = { .heap = in->heap, .sum = sum, .whole = res };
	struct asc_seg_iter it;
	struct asc_seg seg;

	asc_seg_init(&it, r);
	while (asc_seg_next(&it, &seg))
		asc_bound(&b, &seg, asc_cursor_count(&res, seg.lo, seg.hi).present);
	asc_bound_row(&b);
}

struct asc_error *asc_prediction_new(const struct asc_trim_in *in, struct asc_prediction **ret)
{
	struct asc_prediction *p = calloc(1, sizeof(*p));

	if (!p)
		return asc_err(ASC_ENOMEM, "a prediction");
	p->known = in->res && in->res->source != ASC_RESIDENCY_UNKNOWN;
	p->upper_bound = !p->known || in->res->source == ASC_RESIDENCY_CORE;
	p->arenas = calloc(in->heap->narenas + 1, sizeof(*p->arenas));
	if (!p->arenas) {
		free(p);
		return asc_err(ASC_ENOMEM, "a prediction for %zu arenas", in->heap->narenas);
	}
	*ret = p;
	return NULL;
}

/*
 * Time under one arena's lock: a madvise call costs about 1.5 us, 10 us when other threads of the
 * process run on other CPUs (their TLBs are flushed); a released page about 0.15 us; a list node
 * that is looked at about 0.02 us. Measured on one machine: an order of magnitude, not a promise.
 */
static double stall(const struct asc_heap *heap, const struct asc_trim_arena *a)
{
	double call_us = heap->nthreads > 1 ? 10 : 1.5;

	return ((double)a->ranges * call_us + (double)a->bytes / (double)heap->page_size * 0.15 +
		(double)a->walked * 0.02) /
	       1000;
}

void asc_prediction_finish(const struct asc_trim_in *in, double slice_ms,
			   const struct asc_bounds *sum, struct asc_prediction *p)
{
	for (size_t i = 0; i < p->narenas; i++) {
		double ms = stall(in->heap, &p->arenas[i]);

		p->bytes += p->arenas[i].bytes;
		p->swapped += p->arenas[i].swapped;
		p->ranges += p->arenas[i].ranges;
		if (ms > p->stall_ms)
			p->stall_ms = ms;
	}
	if (slice_ms > 0 && p->stall_ms > slice_ms)
		p->stall_ms = slice_ms;
	p->bound_b1 = sum->resident - sum->ideal;
	p->bound_b2 = asc_align_up(sum->live, in->heap->page_size) + sum->meta;
}

void asc_prediction_free(struct asc_prediction *p)
{
	if (!p)
		return;
	free(p->arenas);
	free(p);
}
