/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A region as cells of equal size: one pass over segments and residency. */
#include <stdlib.h>

#include "analysis/cover.h"
#include "arenascope/pins.h"
#include "base/cleanup.h"
#include "base/num.h"

static void add(struct asc_cell *c, enum asc_seg_class class, uint64_t present, uint64_t absent)
{
	*(class == ASC_SEG_FREE ? &c->free : class == ASC_SEG_TOP ? &c->top : &c->live) += present;
	c->absent += absent;
}

/* First address at which [pos, end) enters or leaves a range that is released. */
static asc_addr next_change(const asc_rel_vec *v, size_t *i, asc_addr pos, asc_addr end,
			    bool *ret_released)
{
	while (*i < v->len && v->data[*i].hi <= pos)
		(*i)++;
	*ret_released = *i < v->len && v->data[*i].lo <= pos;
	if (*i == v->len)
		return end;
	return asc_min(end, *ret_released ? v->data[*i].hi : v->data[*i].lo);
}

struct asc_error *asc_region_cells(const struct asc_heap *heap, const struct asc_arena *arena,
				   const struct asc_region *region, const struct asc_residency *res,
				   uint64_t cell, enum asc_map_after after, struct asc_cell **ret,
				   size_t *ret_n)
{
	struct asc_error *err = NULL;
	asc_addr base = asc_align_down(region->start, cell);
	uint64_t n = (asc_region_limit(region) - base + cell - 1) / cell, walked = 0;
	struct asc_cell *v = NULL;
	struct asc_cursor c = asc_cursor_at(res, region->start);
	asc_rel_vec gone = { 0 };
	struct asc_seg_iter it;
	struct asc_seg seg;
	size_t k = 0;

	if (after == ASC_AFTER_TRIM)
		err = asc_trim_ranges(heap, arena, region, 0, &gone, &walked, NULL);
	else if (after == ASC_AFTER_RECLAIM)
		err = asc_reclaim_ranges(heap, region, &gone, &walked);
	if (err)
		goto out;
	if (n <= 1u << 26)
		v = calloc(n + 1, sizeof(*v));
	if (!v) {
		err = asc_err(ASC_ENOMEM, "a map of %llu cells", (unsigned long long)n);
		goto out;
	}
	asc_seg_init(&it, region);
	while (asc_seg_next(&it, &seg)) {
		for (asc_addr pos = seg.lo, end; pos < seg.hi; pos = end) {
			size_t i = (size_t)((pos - base) / cell);
			struct asc_amount got;
			bool released;

			end = asc_min(seg.hi, base + (i + 1) * cell);
			end = next_change(&gone, &k, pos, end, &released);
			got = asc_cursor_count(&c, pos, end);
			if (released)
				got.present = 0;
			add(&v[i], seg.class, got.present, end - pos - got.present);
		}
	}
	*ret = v;
	*ret_n = (size_t)n;
out:
	asc_vec_free(&gone);
	return err;
}
