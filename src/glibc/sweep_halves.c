/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A pass over an arena by two threads, a half each. Where a chunk begins in the middle of a long region is
 * not known: from anywhere a row of headers that fit together is looked for, and whether it was one is known
 * when the first thread comes there.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/links.h"
#include "glibc/sweep.h"
#include "target/readers.h"

enum {
	HALVES = 4 << 20, /* bytes: below, a thread costs more than it saves */
	LOOK = 256 << 10, /* for a row of headers */
	ROW = 64,	  /* so many are one */
};

/* Of an arena: from a chunk in one region to a chunk in another one. */
struct half {
	struct asc_sweeper r;
	struct asc_sweep seen;
	size_t first, last; /* regions */
	asc_addr from, to;
	bool whole;
	struct asc_error *err;
};

static void run(struct half *h)
{
	const struct asc_arena *a = &h->r.m->h->arenas[h->r.arena];

	h->whole = true;
	h->r.sweep = &h->seen;
	for (size_t i = h->first; i <= h->last && h->whole && !h->err; i++) {
		h->r.region = &a->regions[i];
		h->err = asc_sweep_tell(&h->r, i == h->first ? h->from : a->regions[i].first,
					i == h->last ? h->to : UINT64_MAX, &h->whole);
		if (!h->err)
			h->err = asc_take(h->r.err);
	}
}

static void *run_beside(void *half)
{
	run(half);
	return NULL;
}

/* ---- where to divide ---- */

static uint64_t word_at(const struct asc_model *m, const uint8_t *b)
{
	return asc_word_at(m->t, b);
}

/* From @p at on in @p n bytes: so many headers that fit together. @return where they end, or 0 */
static size_t row(const struct asc_model *m, const uint8_t *b, size_t n, size_t at)
{
	const unsigned word = m->l->word;

	for (unsigned i = 0; at + 2 * word <= n; i++) {
		const uint64_t raw = word_at(m, b + at + word), size = raw & ~(uint64_t)7;

		/* a part begins behind a chunk in use, so that it need not know that one */
		if (i >= ROW && raw & 1)
			return at;
		if (raw & 2 || size & m->align_mask || size < m->l->minsize ||
		    size > n - at - 2 * word || at + size + 2 * word > n)
			return 0;
		at += size;
		if (!(word_at(m, b + at + word) & 1) && word_at(m, b + at) != size)
			return 0;
	}
	return 0;
}

/* A chunk behind @p at, most likely; 0: none was found. */
static asc_addr chunk_behind(const struct asc_model *m, const struct asc_region *region,
			     asc_addr at)
{
	ASC_AUTO(asc_freep) uint8_t *b = malloc(LOOK);
	const asc_addr start = asc_align_down(at, 64) + m->chunk_phase;
	size_t n;

	if (!b || start >= region->end)
		return 0;
	n = asc_read_beside(m->t, start, b, (size_t)asc_min(LOOK, region->end - start));
	for (size_t i = 0; i < n / 2; i += m->l->malloc_alignment) {
		const size_t end = row(m, b, n, i);

		if (end)
			return start + end;
	}
	return 0;
}

/* In the region that the middle of an arena is in. @return false: it is not divided */
static bool divide(const struct asc_model *m, size_t arena, size_t *ret_region, asc_addr *ret_at)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	uint64_t bytes = 0, half;
	size_t i = 0;

	for (size_t j = 0; j < a->nregions; j++)
		bytes += a->regions[j].end - a->regions[j].first;
	if (bytes < HALVES || !asc_target_concurrent(m->t))
		return false;
	for (half = bytes / 2; half > a->regions[i].end - a->regions[i].first; i++)
		half -= a->regions[i].end - a->regions[i].first;
	*ret_region = i;
	*ret_at = chunk_behind(m, &a->regions[i], a->regions[i].first + half);
	return *ret_at && !(a->regions[i].has_top && *ret_at >= a->top);
}

/* ---- both ---- */

/* The second one at work, while the first one is. */
static struct asc_error *by_two(struct half *one, struct half *two, bool *ret_made)
{
	pthread_t thread;

	*ret_made = !pthread_create(&thread, NULL, run_beside, two);
	if (!*ret_made)
		return NULL;
	run(one);
	pthread_join(thread, NULL);
	/* a file that is full is no end either: one thread may have memory left */
	one->r.links->missed = !one->whole || !two->whole || two->err;
	if (!one->err && !one->r.links->missed)
		one->err = asc_links_join_half(one->r.links, two->r.links);
	asc_error_free(asc_take(two->err));
	return asc_take(one->err);
}

static struct asc_error *in_halves(struct half *one, size_t region, asc_addr at, bool *ret_made)
{
	struct asc_links links;
	struct half two = *one;
	struct asc_error *err = asc_links_open_half(one->r.links, &links);

	two.r.main = false;
	two.r.links = &links;
	two.r.window = malloc(ASC_WALK_WINDOW + ASC_CACHE_PAGE);
	two.first = region;
	two.from = at;
	*ret_made = false;
	if (!err && two.r.window) {
		one->last = region;
		one->to = at;
		err = by_two(one, &two, ret_made);
	} else {
		/* without the memory or the file for it, one does all */
		asc_error_free(asc_take(err));
	}
	free(two.r.window);
	asc_links_close_half(&links);
	return err;
}

struct asc_error *asc_sweep_links(struct asc_model *m, size_t arena, struct asc_links *k,
				  bool halves, bool *ret_whole)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	struct half all = { .r = asc_crew_sweeper(m), .last = a->nregions - 1, .to = UINT64_MAX };
	struct half one;
	bool made = false;
	asc_addr at;
	size_t region;

	*ret_whole = a->nregions;
	if (!a->nregions)
		return NULL;
	for (size_t i = 0; i < a->nregions; i++)
		m->total += a->regions[i].end - a->regions[i].start;
	all.r.arena = arena;
	all.r.links = k;
	all.from = a->regions[0].first;
	one = all;
	if (halves && divide(m, arena, &region, &at))
		ASC_TRY(in_halves(&one, region, at, &made));
	if (!made) {
		one = all;
		run(&one);
		ASC_TRY(asc_take(one.err));
	}
	*ret_whole = one.whole && !k->missed && !asc_crew_stops(m);
	return NULL;
}
