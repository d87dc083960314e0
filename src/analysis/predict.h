/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What both predictions share. */
#ifndef ASC_ANALYSIS_PREDICT_H
#define ASC_ANALYSIS_PREDICT_H

#include "analysis/cover.h"

/* One region against residency and the ranges that would be released in it. */
struct asc_settle {
	const struct asc_trim_in *in;
	const struct asc_arena *arena;
	const struct asc_region *region;
	struct asc_feed *feed;	   /* not begun */
	struct asc_rel_list *list; /* of its two */
	/* why bytes outside of the ranges stay: of tops (whole pages; the rest), of fastbins */
	enum asc_stay top_stays, fast_stays;
	asc_addr top_whole; /* first whole page of the top */
};

/* Add what is returned and what stays to @p p and @p pa, and the region's bytes to @p sum. */
ASC_MUST struct asc_error *asc_settle_region(const struct asc_settle *s, struct asc_prediction *p,
					     struct asc_trim_arena *pa, struct asc_bounds *sum);
/* The last of these alone: of a region that nothing is predicted for. */
void asc_region_bounds(const struct asc_trim_in *in, const struct asc_region *r,
		       struct asc_bounds *sum);

ASC_MUST struct asc_error *asc_prediction_new(const struct asc_trim_in *in,
					      struct asc_prediction **ret);
/* The bounds and the stall, once every arena is in. @p slice_ms: longest hold, 0 unbounded. */
void asc_prediction_finish(const struct asc_trim_in *in, double slice_ms,
			   const struct asc_bounds *sum, struct asc_prediction *p);

#endif
