/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What reclaim would return: every whole resident page of each binned chunk behind its header and
 * list links, and of every top, in all arenas. No fastbin or tcache chunk: they move without the
 * arena's lock.
 */
#include <stdlib.h>

#include "analysis/predict.h"
#include "base/cleanup.h"
#include "base/num.h"

static struct asc_error *region(const struct asc_trim_in *in, const struct asc_arena *a,
				const struct asc_region *r, struct asc_prediction *p,
				struct asc_trim_arena *pa, struct asc_bounds *sum)
{
	struct asc_error *err;
	struct asc_feed feed;
	struct asc_settle s = { .in = in,
				.arena = a,
				.region = r,
				.feed = &feed,
				.list = &feed.reclaim,
				.top_stays = ASC_STAY_SHARED_PAGE,
				.top_whole = UINT64_MAX,
				.fast_stays = ASC_STAY_FASTBIN };

	asc_feed_init(&feed, in->heap, a, r, false, true, 0, NULL);
	err = asc_settle_region(&s, p, pa, sum);
	if (feed.ranges)
		p->return_value = 1;
	asc_feed_deinit(&feed);
	return err;
}

struct asc_error *asc_predict_reclaim(const struct asc_trim_in *in, struct asc_prediction **ret)
{
	enum { SLICE_MS = 5 };
	struct asc_error *err;
	struct asc_bounds sum = { 0 };
	struct asc_prediction *p;

	err = asc_prediction_new(in, &p);
	if (err)
		return err;
	for (size_t i = 0; i < in->heap->narenas && !err; i++) {
		const struct asc_arena *a = &in->heap->arenas[i];
		struct asc_trim_arena *pa;

		if (in->arena >= 0 && (unsigned)in->arena != a->index) {
			for (size_t k = 0; k < a->nregions; k++)
				asc_region_bounds(in, &a->regions[k], &sum);
			continue;
		}
		pa = &p->arenas[p->narenas++];
		pa->index = a->index;
		for (size_t k = 0; k < a->nregions && !err; k++)
			err = region(in, a, &a->regions[k], p, pa, &sum);
	}
	if (err) {
		asc_prediction_free(p);
		return err;
	}
	asc_prediction_finish(in, SLICE_MS, &sum, p);
	*ret = p;
	return NULL;
}
