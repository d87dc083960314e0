/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which pages were in memory: sorted runs with prefix sums, so that a question about any range
 * costs one binary search at each end. pagemap.c fills it for a live process.
 */
#include "target/target.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

/* Present for the reader of a ledger: in Rss. The zero page, hugetlb and device pages are not. */
static bool counts(unsigned flags)
{
	return (flags & ASC_PAGE_PRESENT) &&
	       !(flags & (ASC_PAGE_ZERO | ASC_PAGE_HUGETLB | ASC_PAGE_DEVICE));
}

static int by_start(const void *a, const void *b)
{
	const struct asc_page_run *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* Sort, drop the empty and absent, merge neighbours. @return false if runs overlap */
static bool normalise(struct asc_page_run *v, size_t *n)
{
	size_t kept = 0;
	bool sorted = true;

	for (size_t i = 1; i < *n && sorted; i++)
		sorted = v[i - 1].start <= v[i].start;
	if (!sorted)
		asc_sort(v, *n, sizeof(*v), by_start);
	for (size_t i = 0; i < *n; i++) {
		struct asc_page_run *last = kept ? &v[kept - 1] : NULL;

		if (v[i].start >= v[i].end || !(v[i].flags & (ASC_PAGE_PRESENT | ASC_PAGE_SWAPPED)))
			continue;
		if (last && v[i].start < last->end)
			return false;
		if (last && last->end == v[i].start && last->flags == v[i].flags)
			last->end = v[i].end;
		else
			v[kept++] = v[i];
	}
	*n = kept;
	return true;
}

/* The sums before each run; there may be millions of runs, and nearly always none is swapped. */
static bool sum_up(struct asc_residency *r)
{
	bool swapped = false;

	for (size_t i = 0; i < r->n && !swapped; i++)
		swapped = r->v[i].flags & ASC_PAGE_SWAPPED;
	r->present_before = calloc(r->n + 1, sizeof(*r->present_before));
	r->swapped_before = swapped ? calloc(r->n + 1, sizeof(*r->swapped_before)) : NULL;
	if (!r->present_before || (swapped && !r->swapped_before))
		return false;
	for (size_t i = 0; i < r->n; i++) {
		uint64_t len = r->v[i].end - r->v[i].start;

		r->present_before[i + 1] = r->present_before[i] + (counts(r->v[i].flags) ? len : 0);
		if (swapped)
			r->swapped_before[i + 1] =
				r->swapped_before[i] + (r->v[i].flags & ASC_PAGE_SWAPPED ? len : 0);
	}
	return true;
}

struct asc_error *asc_residency_init(enum asc_residency_source source, uint64_t page_size,
				     struct asc_page_run *runs, size_t n,
				     struct asc_residency **ret)
{
	struct asc_residency *r = calloc(1, sizeof(*r));

	if (!r) {
		free(runs);
		return asc_err(ASC_ENOMEM, "residency");
	}
	*r = (struct asc_residency){ .source = source, .v = runs, .page_size = page_size };
	if (source == ASC_RESIDENCY_UNKNOWN)
		r->why_unknown = "this kind of target does not say which pages are in memory";
	if (!normalise(runs, &n)) {
		asc_residency_free(r);
		return asc_err(ASC_EINPUT, "page runs overlap");
	}
	r->n = n;
	if (!sum_up(r)) {
		asc_residency_free(r);
		return asc_err(ASC_ENOMEM, "residency of %zu runs", n);
	}
	*ret = r;
	return NULL;
}

void asc_residency_free(struct asc_residency *r)
{
	if (!r)
		return;
	free(r->v);
	free(r->present_before);
	free(r->swapped_before);
	free(r);
}

size_t asc_residency_seek(const struct asc_residency *r, asc_addr addr)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Bytes of @p before's kind below @p addr. */
static uint64_t below(const struct asc_residency *r, const uint64_t *before, asc_addr addr)
{
	size_t i = asc_residency_seek(r, addr);

	if (i == r->n || r->v[i].start >= addr || before[i + 1] == before[i])
		return before[i];
	return before[i] + (addr - r->v[i].start);
}

uint64_t asc_resident_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi)
{
	return lo < hi ? below(r, r->present_before, hi) - below(r, r->present_before, lo) : 0;
}

uint64_t asc_swapped_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi)
{
	if (!r->swapped_before || lo >= hi)
		return 0;
	return below(r, r->swapped_before, hi) - below(r, r->swapped_before, lo);
}
