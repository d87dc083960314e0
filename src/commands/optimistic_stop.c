// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The stop of an optimistic capture: what is read in it, by importance, for as long as the time allows.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "commands/optimistic.h"
#include "target/foresight.h"
#include "target/overlay.h"

enum {
	STOP_MS = ASC_ROUND_STOP_MS,
	LEAST_MS = 4, /* of reading, even if residency alone has taken longer */
	SCAN_BYTES =
		64 << 20, /* in memory: beyond it the stop does not ask which pages there are */
	SCAN_MS = 10,	  /* ditto, where the document has them in it */
	LISTS_BYTES =
		24 << 20, /* an arena's lists are on that many pages: one stop can read them */
	BELOW = 64 << 10, /* a thread pointer: variables of threads */
	ABOVE = 16 << 10, /* and what libc knows of the thread */
	LARGE_CHUNK = 64 << 10, /* of a free one of this size only the ends are read */
};

bool asc_round_is_hopeless(const struct asc_round *r, asc_addr arena)
{
	for (size_t i = 0; i < r->hopeless.len; i++) {
		if (r->hopeless.data[i] == arena)
			return true;
	}
	return r->blind;
}

static bool is_followed(void *round, asc_addr arena)
{
	return !asc_round_is_hopeless(round, arena);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- before it ---- */

struct asc_error *asc_round_need_residency(const struct asc_residency *res)
{
	if (res->source != ASC_RESIDENCY_UNKNOWN)
		return NULL;
	return asc_err_try(
		asc_err_id(asc_err(ASC_EUNSUPPORTED,
				   "what changes while it is read cannot be told: %s",
				   res->why_unknown ? res->why_unknown : "its pages are not known"),
			   "E-UNSUPPORTED"),
		"--capture=copy");
}

struct asc_error *asc_round_plan(struct asc_round *r)
{
	const uint64_t page = asc_target_page_size(r->s->live);
	struct asc_mmapped m;
	bool few;

	r->lists.len = r->hopeless.len = 0;
	r->blind = false;
	for (size_t i = 0; r->first && i < r->first->narenas; i++) {
		const struct asc_arena *a = &r->first->arenas[i];
		const size_t begin = r->lists.len;
		uint64_t bytes = 0;

		for (size_t k = 0; k < a->extents.n && bytes <= LISTS_BYTES; k++) {
			const struct asc_chunk c = asc_extent_at(&a->extents, k);
			asc_addr at = asc_align_down(c.addr, page);

			if (c.state == ASC_TOP || c.state == ASC_FENCE)
				continue;
			bytes += page;
			ASC_TRY(asc_ranges_add(
				&r->lists, at,
				asc_align_up(c.addr + 6u * r->first->libc.word, page)));
		}
		if (bytes <= LISTS_BYTES)
			continue;
		r->lists.len = begin; /* a page that it shares with another's may be lost */
		ASC_TRY(asc_vec_push(&r->hopeless, a->addr));
	}
	/* of more than a stop can read none is, and digests have to do */
	few = r->first && r->first->mmapped.n <= LISTS_BYTES / page;
	for (size_t i = 0; few && asc_mmapped_next(r->first, &i, &m);)
		ASC_TRY(asc_ranges_add(&r->lists, m.start, m.start + page));
	asc_ranges_normalise(&r->lists);
	return NULL;
}

/* ---- in it ---- */

/* Were all lists of this arena followed to their ends? */
static bool is_listed(const struct asc_arena *a)
{
	for (size_t i = 0; i < a->nfast; i++) {
		if (a->fast[i].truncated)
			return false;
	}
	for (size_t i = 0; i < a->nbins; i++) {
		if (a->bins[i].truncated)
			return false;
	}
	return true;
}

/* Every header, tcache and list is read, so that it is kept. */
static struct asc_error *follow_lists(struct asc_round *r)
{
	struct asc_session *s = r->s;
	const struct asc_heap_opts ho = {
		.depth = ASC_DEPTH_LISTS,
		.max_findings = 1,
		.stepwise = true,
		.wanted = is_followed,
		.wanted_arg = r,
	};

	for (size_t i = 0; i < s->nlibcs; i++) {
		struct asc_heap *h = NULL;
		struct asc_error *err =
			asc_heap_read(r->overlay, &s->libcs[i], s->residency, &ho, &h);

		/* what cannot be read is read later, and is not verified */
		asc_error_free(err);
		if (i == 0)
			r->listed = h;
		else
			asc_heap_free(h);
	}
	r->blind = !r->listed;
	for (size_t i = 0; r->listed && i < r->listed->nthreads; i++)
		r->blind |= asc_overlay_is_cut(r->overlay) && !r->listed->threads[i].tcache_known;
	for (size_t i = 0; r->listed && i < r->listed->narenas; i++) {
		const struct asc_arena *a = &r->listed->arenas[i];

		if (!asc_round_is_hopeless(r, a->addr) && !is_listed(a))
			ASC_TRY(asc_vec_push(&r->hopeless, a->addr));
	}
	return NULL;
}

/* Of a large free chunk nobody reads the middle; the tops alone can be nearly all of a heap. */
static struct asc_error *add_region(asc_range_vec *v, const struct asc_region *g, uint64_t page)
{
	asc_addr at = g->start;

	for (size_t i = 0; i < g->extents.n; i++) {
		const struct asc_chunk c = asc_extent_at(&g->extents, i);

		if (c.size < LARGE_CHUNK || c.addr < at)
			continue;
		ASC_TRY(asc_ranges_add(v, at, asc_align_up(c.addr + 64, page)));
		at = asc_align_down(c.addr + c.size - 16, page);
	}
	return asc_ranges_add(v, at, g->end);
}

struct whole {
	const struct asc_arena *a;
	uint64_t bytes;
};

static int by_bytes(const void *a, const void *b)
{
	const struct whole *x = a, *y = b;

	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static struct asc_error *pull_arenas(struct asc_round *r)
{
	const uint64_t page = asc_target_page_size(r->s->live);
	const struct asc_heap *h = r->listed;
	ASC_AUTO(asc_freep) struct whole *v = calloc(h->narenas + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu arenas", h->narenas);
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];

		if (!asc_round_is_hopeless(r, a->addr))
			v[n++] = (struct whole){ a, a->system_mem };
	}
	asc_sort(v, n, sizeof(*v), by_bytes);
	for (size_t i = 0; i < n && !asc_overlay_is_cut(r->overlay); i++) {
		ASC_AUTO(asc_range_vec_free) asc_range_vec all = { 0 };

		for (size_t k = 0; k < v[i].a->nregions; k++)
			ASC_TRY(add_region(&all, &v[i].a->regions[k], page));
		asc_overlay_pull(r->overlay, all.data, all.len);
	}
	return NULL;
}

/*
 * A thread's own variables are on pages that its stack begins on, which changes whenever it runs. What is
 * read of them are pointers, and these are compared (same_threads).
 */
static struct asc_error *find_thread_pages(struct asc_round *r)
{
	const uint64_t page = asc_target_page_size(r->s->live);
	ASC_AUTO(asc_range_vec_free) asc_range_vec heap = { 0 };
	const struct asc_thread *t;
	struct asc_mmapped c;
	size_t n;

	r->but.len = 0;
	t = asc_target_threads(r->overlay, &n);
	for (size_t i = 0; i < n; i++) {
		const struct asc_map *m =
			!t[i].regs.tp_valid
				? NULL
				: asc_maps_find(asc_target_maps(r->overlay), t[i].regs.tp);
		const asc_addr tp = asc_align_down(t[i].regs.tp, page);

		/* on the first page of a mapping a chunk may begin */
		if (m)
			ASC_TRY(asc_ranges_add(&r->but, asc_max(tp - BELOW, m->start + page),
					       asc_min(tp + ABOVE, m->end)));
	}
	asc_ranges_normalise(&r->but);
	for (size_t i = 0; i < r->first->narenas; i++) {
		const struct asc_arena *a = &r->first->arenas[i];

		for (size_t k = 0; k < a->nregions; k++)
			ASC_TRY(asc_ranges_add(&heap, asc_align_down(a->regions[k].start, page),
					       asc_align_up(a->regions[k].end, page)));
	}
	/* a mapping of a stack and one behind it may be one */
	for (size_t i = 0; asc_mmapped_next(r->first, &i, &c);)
		ASC_TRY(asc_ranges_add(&heap, asc_align_down(c.start, page),
				       asc_align_down(c.start, page) + page));
	asc_ranges_normalise(&heap);
	return asc_ranges_subtract(&r->but, &heap);
}

/* Has each thread the tcache that it had? Those that were born or have ended have changed their lists. */
static bool same_threads(const struct asc_heap *a, const struct asc_heap *b)
{
	if (a->nthreads != b->nthreads || a->narenas != b->narenas)
		return false;
	for (size_t i = 0; i < a->nthreads; i++) {
		const struct asc_heap_thread *x = &a->threads[i], *y = &b->threads[i];

		if (x->tid != y->tid || x->tcache != y->tcache || x->known != y->known ||
		    x->tcache_known != y->tcache_known || x->arena_addr != y->arena_addr ||
		    x->tcache_disabled != y->tcache_disabled)
			return false;
	}
	return true;
}

/*
 * Is all that was read by now as the first reading found it: headers, tcaches, lists, mappings and which
 * pages there are? Then the rest probably is, too, which the time after the stop will prove, and there
 * is nothing worth reading in it.
 */
static bool is_calm(const struct asc_round *r, bool foreseen)
{
	const struct asc_session *s = r->s;

	return foreseen && s->nlibcs == 1 && !s->busy && !s->in_malloc && r->first && r->listed &&
	       !r->blind && same_threads(r->first, r->listed) &&
	       asc_overlay_is_same(r->overlay, &r->but);
}

/* Stopped: by importance, until the time is up. */
static struct asc_error *in_stop(struct asc_round *r, uint64_t began, bool foreseen)
{
	struct asc_session *s = r->s;
	uint64_t ms = asc_min(STOP_MS, s->opts.max_pause_ms ? s->opts.max_pause_ms / 2 : STOP_MS);
	uint64_t deadline = asc_max(began + ms * 1000000u, now_ns() + LEAST_MS * 1000000u);

	ASC_TRY(asc_overlay_begin(r->overlay, s->residency, deadline));
	for (size_t i = 0; i < s->nlibcs; i++) {
		const struct asc_map *m =
			asc_maps_find(asc_target_maps(s->live), s->libcs[i].main_arena);
		struct asc_range data = { m ? m->start : 0, m ? m->end - m->start : 0 };

		asc_overlay_pull(r->overlay, &data, m != NULL);
	}
	if (!(r->needs & (ASC_NEED_LISTS | ASC_NEED_WALK)))
		return NULL;
	asc_session_stall();
	asc_overlay_pull(r->overlay, r->lists.data, r->lists.len);
	ASC_TRY(follow_lists(r));
	asc_overlay_pull(r->overlay, r->hot.data, r->hot.len);
	if (r->first && foreseen)
		ASC_TRY(find_thread_pages(r));
	r->calm = is_calm(r, foreseen);
	return r->listed && r->needs & ASC_NEED_WALK && !r->calm ? pull_arenas(r) : NULL;
}

/*
 * Which pages there are takes a pass over the page tables, which for gigabytes is longer than all else in
 * the stop. Where only the reading wants to know, it is asked before and after it: a page of both was in
 * the stop, too, and one of the two alone is not proven. Where the document has it in it, and asking took
 * long before the stop, what it says is of the moment after it, and said to be.
 */
static bool can_ask_later(const struct asc_round *r)
{
	const struct asc_residency *res = r->before->residency ? r->before->residency
							       : r->s->residency;

	if (r->before->residency && asc_foresight_holds(r->before, r->s->live))
		return false;
	if (r->needs & (ASC_NEED_RESIDENCY | ASC_NEED_LEDGER))
		return r->before->scan_ns > SCAN_MS * 1000000ull;
	return asc_resident_bytes(res, 0, UINT64_MAX) > SCAN_BYTES;
}

static struct asc_error *stopped(struct asc_round *r, uint64_t began, bool later)
{
	struct asc_session *s = r->s;

	if (later) {
		s->provenance.residency = "after";
		s->kernel_rss_known = r->needs & ASC_NEED_LEDGER &&
				      asc_counted_rss(asc_target_pid(s->live), &s->kernel_rss);
		return in_stop(r, began, false);
	}
	ASC_TRY(asc_session_residency(s, r->needs, r->before));
	ASC_TRY(asc_round_need_residency(s->residency));
	return in_stop(r, began, !strcmp(s->provenance.residency, "before"));
}

/* The longest of all stops is what the target has felt. */
static void add_pause(struct asc_session *s, const struct asc_pause *p)
{
	const bool watchdog = p->watchdog || s->pause.watchdog;

	if (p->ms > s->pause.ms)
		s->pause = *p;
	s->pause.watchdog = watchdog;
}

static struct asc_error *residency_after(struct asc_session *s)
{
	ASC_TRY(asc_residency_read(s->live, &s->residency));
	return asc_round_need_residency(s->residency);
}

struct asc_error *asc_round_stop(struct asc_round *r)
{
	struct asc_session *s = r->s;
	struct asc_residency *old = s->residency; /* the overlay's, until it has a newer one */
	struct asc_error *err;
	struct asc_pause p = { 0 };

	asc_heap_free(asc_take(r->listed));
	r->calm = false;
	ASC_TRY(asc_session_stop_quiet(s));
	uint64_t began = now_ns();
	const bool later = can_ask_later(r);
	s->taken_at = time(NULL);
	s->residency = NULL;
	err = stopped(r, began, later);
	asc_session_freeze(s, true);
	asc_target_release(s->live, &p);
	asc_session_freeze(s, false);
	add_pause(s, &p);
	r->let_go = p.watchdog;
	r->blind |= p.watchdog;
	r->calm &= !p.watchdog;
	if (!err && later)
		err = residency_after(s);
	if (!err)
		err = asc_overlay_end(r->overlay, s->residency);
	asc_residency_free(old);
	return err;
}
