/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The trim oracle: what malloc_trim(pad) of the heap's own glibc would return.
 *
 * __malloc_trim takes each arena in turn: malloc_consolidate (up to 2.42), madvise(MADV_DONTNEED)
 * on the whole pages of every binned chunk, and in the main arena systrim(pad). It returns 1 if it
 * made any call at all, resident or not, successful or not. The top of a non-main arena is never
 * touched; a fastbin chunk next to it drags its free neighbours into it.
 */
#include <stdlib.h>

#include "analysis/predict.h"
#include "base/cleanup.h"
#include "base/num.h"

/* Of a top that consolidation may have enlarged: its first whole page, UINT64_MAX without one. */
static asc_addr top_whole(const struct asc_heap *heap, const struct asc_region *r)
{
	struct asc_seg_iter it;
	struct asc_seg seg;
	asc_addr start = 0;
	bool merge = heap->libc.trim_consolidates, fast = false;

	if (!r->has_top)
		return UINT64_MAX;
	asc_seg_init(&it, r);
	while (asc_seg_next(&it, &seg)) {
		bool joins = seg.class == ASC_SEG_TOP || seg.class == ASC_SEG_FREE ||
			     (merge && seg.class == ASC_SEG_FAST);

		if (seg.class == ASC_SEG_TOP) {
			asc_seg_leave(&it);
			if (!start || !merge || !fast)
				start = seg.lo;
			return asc_align_up(start + heap->libc.chunk_struct, heap->page_size);
		}
		fast = joins && (fast || seg.class == ASC_SEG_FAST);
		if (!joins)
			start = 0;
		else if (!start)
			start = seg.lo;
	}
	return UINT64_MAX;
}

static struct asc_error *systrim_of(const struct asc_heap *heap, const struct asc_arena *a,
				    const struct asc_region *r, uint64_t pad,
				    struct asc_systrim *ret)
{
	struct asc_error *err;
	struct asc_feed feed;

	asc_feed_init(&feed, heap, a, r, true, false, pad, NULL);
	err = asc_feed_drain(&feed);
	*ret = feed.st;
	asc_feed_deinit(&feed);
	return err;
}

static struct asc_error *region(const struct asc_trim_in *in, const struct asc_arena *a,
				const struct asc_region *r, uint64_t pad, struct asc_prediction *p,
				struct asc_trim_arena *pa, struct asc_bounds *sum)
{
	struct asc_error *err = NULL;
	struct asc_feed feed;
	struct asc_systrim st = { 0 };
	struct asc_settle s = { .in = in,
				.arena = a,
				.region = r,
				.feed = &feed,
				.list = &feed.trim,
				.top_stays = ASC_STAY_TOP,
				.fast_stays = ASC_STAY_SHARED_PAGE };

	if (!a->index && r->has_top) /* what becomes of the top is told at the end */
		ASC_TRY(systrim_of(in->heap, a, r, pad, &st));
	s.top_whole = top_whole(in->heap, r);
	if (!a->index && r->has_top) {
		s.top_stays = !st.refused	 ? ASC_STAY_PAD
			      : a->noncontiguous ? ASC_STAY_NONCONTIGUOUS
						 : ASC_STAY_FOREIGN_SBRK;
		p->brk_delta = st.brk_delta;
	}
	if (asc_trim_skips(in->heap, a))
		s.top_stays = ASC_STAY_CORRUPT;
	asc_feed_init(&feed, in->heap, a, r, true, false, pad, NULL);
	err = asc_settle_region(&s, p, pa, sum);
	if (feed.ranges || st.brk_delta)
		p->return_value = 1;
	asc_feed_deinit(&feed);
	return err;
}

struct asc_error *asc_predict_trim(const struct asc_trim_in *in, uint64_t pad,
				   struct asc_prediction **ret)
{
	struct asc_error *err;
	struct asc_bounds sum = { 0 };
	struct asc_prediction *p;

	err = asc_prediction_new(in, &p);
	if (err)
		return err;
	p->pad = pad;
	for (size_t i = 0; i < in->heap->narenas && !err; i++) {
		const struct asc_arena *a = &in->heap->arenas[i];
		struct asc_trim_arena *pa = &p->arenas[p->narenas++];

		pa->index = a->index;
		for (size_t k = 0; k < a->nregions && !err; k++)
			err = region(in, a, &a->regions[k], pad, p, pa, &sum);
	}
	if (err) {
		asc_prediction_free(p);
		return err;
	}
	asc_prediction_finish(in, 0, &sum, p);
	*ret = p;
	return NULL;
}
