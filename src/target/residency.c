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
#include "target/runs.h"

enum {
	EVERY = 16,
	SUMS = 128 << 10, /* there are not many more of them */
};

/* Present for the reader of a ledger: in Rss. The zero page, hugetlb and device pages are not. */
static bool counts(unsigned flags)
{
	return (flags & ASC_PAGE_PRESENT) &&
	       !(flags & (ASC_PAGE_ZERO | ASC_PAGE_HUGETLB | ASC_PAGE_DEVICE));
}

static int by_start(const void *a, const void *b)
{
	const struct asc_page_run *x = a, *y = b;

	return (x->word > y->word) - (x->word < y->word);
}

static void touch(const struct asc_runs *r, size_t i)
{
	if (r->file)
		asc_run_file_touch(r->file, i);
}

static bool is_sorted(const struct asc_runs *r)
{
	for (size_t i = 1; i < r->n; i++) {
		touch(r, i);
		if (r->v[i - 1].word > r->v[i].word)
			return false;
	}
	return true;
}

/* Sort, drop the empty and absent, merge neighbours. @return false if runs overlap */
static bool normalise(struct asc_runs *r)
{
	struct asc_page_run *v = r->v;
	size_t kept = 0;

	if (!is_sorted(r))
		asc_sort(v, r->n, sizeof(*v), by_start);
	for (size_t i = 0; i < r->n; i++) {
		struct asc_page_run *last = kept ? &v[kept - 1] : NULL;
		asc_addr start = asc_page_run_start(&v[i]);
		unsigned flags = asc_page_run_flags(&v[i]);

		touch(r, i);
		if (start >= v[i].end || !(flags & (ASC_PAGE_PRESENT | ASC_PAGE_SWAPPED)))
			continue;
		if (last && start < last->end)
			return false;
		if (last && last->end == start && asc_page_run_flags(last) == flags)
			last->end = v[i].end;
		else
			v[kept++] = v[i];
	}
	r->n = kept;
	return true;
}

static uint64_t bytes_of(const struct asc_page_run *run, bool swapped)
{
	unsigned flags = asc_page_run_flags(run);

	return (swapped ? flags & ASC_PAGE_SWAPPED : counts(flags))
		       ? run->end - asc_page_run_start(run)
		       : 0;
}

static bool any_swapped(const struct asc_residency *r)
{
	for (size_t i = 0; i < r->n; i++) {
		asc_residency_passed(r, i);
		if (asc_page_run_flags(&r->v[i]) & ASC_PAGE_SWAPPED)
			return true;
	}
	return false;
}

/* The sums before each `every` of runs; there may be millions, and nearly always none is swapped. */
static bool sum_up(struct asc_residency *r)
{
	const bool any = any_swapped(r);
	uint64_t present = 0, swapped = 0;
	size_t n;

	r->every = EVERY;
	while (r->n / r->every > SUMS)
		r->every *= 2;
	n = r->n / r->every + 1;
	r->present_before = calloc(n, sizeof(*r->present_before));
	r->swapped_before = any ? calloc(n, sizeof(*r->swapped_before)) : NULL;
	if (!r->present_before || (any && !r->swapped_before))
		return false;
	for (size_t i = 0; i <= r->n; i++) {
		if (i % r->every == 0) {
			r->present_before[i / r->every] = present;
			if (any)
				r->swapped_before[i / r->every] = swapped;
		}
		if (i == r->n)
			break;
		asc_residency_passed(r, i);
		present += bytes_of(&r->v[i], false);
		swapped += bytes_of(&r->v[i], true);
	}
	return true;
}

static struct asc_error *finish(struct asc_residency *r)
{
	if (!sum_up(r))
		return asc_err(ASC_ENOMEM, "residency of %zu runs", r->n);
	return r->file ? asc_run_file_index(r->file, r->n, r->every) : NULL;
}

struct asc_error *asc_residency_of(enum asc_residency_source source, uint64_t page_size,
				   struct asc_runs *runs, struct asc_residency **ret)
{
	struct asc_residency *r = calloc(1, sizeof(*r));
	struct asc_error *err;
	bool fits;

	if (!r) {
		asc_runs_free(runs);
		return asc_err(ASC_ENOMEM, "residency");
	}
	fits = normalise(runs);
	*r = (struct asc_residency){ .source = source,
				     .v = runs->v,
				     .n = runs->n,
				     .file = runs->file,
				     .page_size = page_size };
	*runs = (struct asc_runs){ 0 };
	if (source == ASC_RESIDENCY_UNKNOWN)
		r->why_unknown = "this kind of target does not say which pages are in memory";
	err = fits ? finish(r) : asc_err(ASC_EINPUT, "page runs overlap");
	if (err) {
		asc_residency_free(r);
		return err;
	}
	*ret = r;
	return NULL;
}

struct asc_error *asc_residency_init(enum asc_residency_source source, uint64_t page_size,
				     struct asc_page_run *runs, size_t n,
				     struct asc_residency **ret)
{
	struct asc_runs r = { .v = runs, .n = n, .cap = n };

	return asc_residency_of(source, page_size, &r, ret);
}

void asc_residency_free(struct asc_residency *r)
{
	if (!r)
		return;
	if (r->file)
		asc_run_file_free(r->file);
	else
		free(r->v);
	free(r->present_before);
	free(r->swapped_before);
	free(r);
}

size_t asc_residency_seek(const struct asc_residency *r, asc_addr addr)
{
	size_t lo = 0, hi = r->n;

	if (r->file) {
		asc_run_file_near(r->file, addr, &lo, &hi);
		asc_run_file_touch(r->file, lo);
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Bytes below @p addr: present or swapped ones, with their sums. */
static uint64_t below(const struct asc_residency *r, bool swapped, asc_addr addr)
{
	const uint64_t *before = swapped ? r->swapped_before : r->present_before;
	size_t i = asc_residency_seek(r, addr);
	uint64_t sum = before[i / r->every];

	for (size_t k = i - i % r->every; k < i; k++)
		sum += bytes_of(&r->v[k], swapped);
	if (i < r->n && asc_page_run_start(&r->v[i]) < addr && bytes_of(&r->v[i], swapped))
		sum += addr - asc_page_run_start(&r->v[i]);
	return sum;
}

uint64_t asc_resident_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi)
{
	return lo < hi ? below(r, false, hi) - below(r, false, lo) : 0;
}

uint64_t asc_swapped_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi)
{
	if (!r->swapped_before || lo >= hi)
		return 0;
	return below(r, true, hi) - below(r, true, lo);
}
