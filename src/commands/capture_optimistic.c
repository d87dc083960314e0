// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=optimistic: for a heap whose copy would stop the target for too long.
 *
 *   before    copy it while it runs; read it once more: what differs is hot
 *   stop      the lists are followed, each page of theirs read again where it is met; then the
 * pages that came since, the hot ones, and the rest, for as long as the time allows after     read
 * what was not read in the stop once more: what is as it was before the stop was so in the stop,
 * too; what is not is unverified, and is said to be
 *
 * If little is left unverified, another round may get it all. No bit of the kernel's page tables is
 * touched to learn what changed (soft-dirty, write protection): that would change the target.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "commands/capture.h"
#include "target/capture.h"
#include "target/overlay.h"
#include "target/proc.h"

enum {
	ROUNDS = 3,
	STOP_MS = 30, /* of reading in one stop */
	LEAST_MS = 4, /* even if residency alone has taken longer */
	ROOM_BYTES = 512 << 20,
	WINDOW = 1 << 20,
};

typedef asc_range_vec ranges;

static void free_ranges(ranges *v)
{
	asc_vec_free(v);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- sets of ranges: sorted, apart from each other ---- */

static int by_addr(const void *a, const void *b)
{
	const struct asc_range *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

static void normalise(ranges *v)
{
	size_t m = 0;

	asc_sort(v->data, v->len, sizeof(*v->data), by_addr);
	for (size_t i = 1; i < v->len; i++) {
		struct asc_range *last = &v->data[m], *r = &v->data[i];

		if (r->addr <= last->addr + last->len)
			last->len = asc_max(last->addr + last->len, r->addr + r->len) - last->addr;
		else
			v->data[++m] = *r;
	}
	v->len = v->len ? m + 1 : 0;
}

static struct asc_error *add(ranges *v, asc_addr lo, asc_addr hi)
{
	struct asc_range r = { lo, hi - lo };

	if (hi <= lo)
		return NULL;
	if (v->len && v->data[v->len - 1].addr + v->data[v->len - 1].len == lo) {
		v->data[v->len - 1].len += hi - lo;
		return NULL;
	}
	return asc_vec_push(v, r);
}

/* What of @p v is in memory by @p res; all of it where that is unknown. */
static struct asc_error *present(const ranges *v, const struct asc_residency *res, ranges *ret)
{
	if (!res || res->source == ASC_RESIDENCY_UNKNOWN) {
		for (size_t i = 0; i < v->len; i++)
			ASC_TRY(add(ret, v->data[i].addr, v->data[i].addr + v->data[i].len));
		return NULL;
	}
	for (size_t i = 0; i < v->len; i++) {
		asc_addr lo = v->data[i].addr, hi = lo + v->data[i].len;

		for (size_t k = asc_residency_seek(res, lo); k < res->n && res->v[k].start < hi;
		     k++)
			if (!(res->v[k].flags & ASC_PAGE_ZERO))
				ASC_TRY(add(ret, asc_max(lo, res->v[k].start),
					    asc_min(hi, res->v[k].end)));
	}
	return NULL;
}

/* a without b, or (@p both) what is in both. */
static struct asc_error *combine(const ranges *a, const ranges *b, bool both, ranges *ret)
{
	size_t k = 0;

	for (size_t i = 0; i < a->len; i++) {
		asc_addr at = a->data[i].addr, end = at + a->data[i].len;

		while (k < b->len && b->data[k].addr + b->data[k].len <= at)
			k++;
		for (size_t j = k; j < b->len && b->data[j].addr < end; j++) {
			asc_addr lo = asc_max(at, b->data[j].addr);
			asc_addr hi = asc_min(end, b->data[j].addr + b->data[j].len);

			ASC_TRY(both ? add(ret, lo, hi) : add(ret, at, lo));
			at = asc_max(at, hi);
		}
		if (!both)
			ASC_TRY(add(ret, at, end));
	}
	return NULL;
}

static uint64_t bytes_of(const ranges *v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < v->len; i++)
		sum += v->data[i].len;
	return sum;
}

/* ---- one round ---- */

struct round {
	struct asc_session *s;
	unsigned needs;
	ranges wanted;	/* what the copy is of */
	ranges lists;	/* where free lists were before the stop: most are there still */
	ranges hot;	/* differed between two reads while it ran */
	ranges changed; /* differs after the stop from before it, and was not read in it */
	uint64_t steady;
	bool lists_cut;		      /* not all lists were followed in the stop */
	struct asc_residency *before; /* the overlay's */
	struct asc_target *overlay;
};

static struct asc_error *plan(struct round *r, struct asc_target *from,
			      const struct asc_residency *res, ranges *ret)
{
	ret->len = 0;
	ASC_TRY(asc_session_plan(r->s, from, res, r->needs, ret));
	normalise(ret);
	return NULL;
}

/*
 * Compare @p what with the process as it is now, page by page.
 * @p ret_same: bytes; @p ret: what differs, or cannot be read any more
 */
static struct asc_error *compare(struct round *r, struct asc_target *copy, const ranges *what,
				 bool skip_fresh, uint64_t *ret_same, ranges *ret)
{
	const uint64_t page = asc_target_page_size(r->s->live);
	ASC_AUTO(asc_freep) uint8_t *a = malloc(WINDOW), *b = malloc(WINDOW);
	uint64_t same = 0;

	if (!a || !b)
		return asc_err(ASC_ENOMEM, "comparing two readings");
	for (size_t i = 0; i < what->len; i++) {
		asc_addr at = what->data[i].addr, end = at + what->data[i].len;

		while (at < end) {
			size_t n = (size_t)asc_min(end - at, WINDOW);
			size_t x = asc_read_some(copy, at, a, n);
			size_t y = asc_read_some(r->s->live, at, b, n);

			if (asc_interrupted())
				return asc_err(ASC_EINTR, "interrupted");
			/* a page that one of them lacks differs, and the window goes on behind it */
			size_t whole = asc_align_down(asc_min(x, y), page);

			for (size_t k = 0; k < whole; k += page) {
				if (skip_fresh && asc_overlay_is_fresh(r->overlay, at + k))
					continue;
				if (memcmp(a + k, b + k, page))
					ASC_TRY(add(ret, at + k, at + k + page));
				else
					same += page;
			}
			at += whole;
			if (whole < n) {
				if (!skip_fresh || !asc_overlay_is_fresh(r->overlay, at))
					ASC_TRY(add(ret, at, at + page));
				at += page;
			}
		}
	}
	*ret_same = same;
	return NULL;
}

/* While it runs: the copy, and what of it is hot (known already in a further round). */
static struct asc_error *before_stop(struct round *r, bool first)
{
	struct asc_session *s = r->s;
	struct asc_target *base = NULL;
	struct asc_residency *res = NULL;
	ASC_AUTO(free_ranges) ranges there = { 0 };
	uint64_t same, room;

	ASC_TRY(asc_residency_read(s->live, &res));
	struct asc_error *err = plan(r, s->live, res, &r->wanted);
	if (!err)
		err = asc_capture(s->live, res, r->wanted.data, r->wanted.len, s->opts.max_memory,
				  &base);
	if (err) {
		asc_residency_free(res);
		return err;
	}
	s->captured_bytes = asc_capture_bytes(base);
	room = asc_min(s->captured_bytes + s->captured_bytes / 8 + (16 << 20), ROOM_BYTES);
	r->before = res;
	r->lists.len = 0;
	if (r->needs & ASC_NEED_LISTS) {
		/* a base that contradicts itself gives no plan, and the stop takes longer */
		asc_error_free(asc_session_plan(s, base, res, ASC_NEED_LISTS, &r->lists));
		normalise(&r->lists);
	}
	if (first) {
		err = present(&r->wanted, res, &there);
		if (!err)
			err = compare(r, base, &there, false, &same, &r->hot);
	}
	if (err) {
		asc_target_close(base);
		asc_residency_free(res);
		return err;
	}
	return asc_overlay_new(base, res, room, &r->overlay);
}

/* Stopped: by importance, until the time is up. */
static struct asc_error *in_stop(struct round *r, uint64_t began)
{
	struct asc_session *s = r->s;
	ASC_AUTO(free_ranges) ranges now = { 0 }, here = { 0 }, there = { 0 }, fresh = { 0 };
	ASC_AUTO(free_ranges) ranges hot = { 0 }, lists = { 0 }, nodes = { 0 };
	uint64_t ms = asc_min(STOP_MS, s->opts.max_pause_ms ? s->opts.max_pause_ms / 2 : STOP_MS);
	uint64_t deadline = asc_max(began + ms * 1000000u, now_ns() + LEAST_MS * 1000000u);

	r->lists_cut = false;
	ASC_TRY(asc_overlay_begin(r->overlay, s->live, s->residency, deadline));
	for (size_t i = 0; i < s->nlibcs; i++) {
		const struct asc_map *m =
			asc_maps_find(asc_target_maps(s->live), s->libcs[i].main_arena);
		struct asc_range data = { m ? m->start : 0, m ? m->end - m->start : 0 };

		asc_overlay_pull(r->overlay, &data, m != NULL);
	}
	/* where the regions are now; large lists and tops are read for it */
	struct asc_error *err = plan(r, r->overlay, s->residency, &now);
	if (err) {
		r->lists_cut = true;
		asc_error_free(err);
		now.len = 0;
		ASC_TRY(combine(&r->wanted, &lists, false, &now));
	}
	ASC_TRY(present(&r->wanted, r->before, &there));
	ASC_TRY(present(&now, s->residency, &here));
	ASC_TRY(combine(&here, &there, false, &fresh));
	ASC_TRY(combine(&here, &r->hot, true, &hot));
	ASC_TRY(combine(&here, &r->lists, true, &nodes));
	asc_overlay_pull(r->overlay, fresh.data, fresh.len);
	asc_overlay_pull(r->overlay, nodes.data, nodes.len);
	if (r->needs & ASC_NEED_LISTS) {
		/* every free list, in the pages of this moment; what it plans is of no interest */
		err = asc_session_plan(s, r->overlay, s->residency, ASC_NEED_LISTS, &lists);
		r->lists_cut |= err || asc_overlay_is_cut(r->overlay);
		asc_error_free(err);
	}
	asc_overlay_pull(r->overlay, hot.data, hot.len);
	asc_overlay_pull(r->overlay, here.data, here.len);
	return NULL;
}

/*
 * For tests: the target is SIGSTOPped in our stop, so that it can be compared with a copy of this
 * very moment; it goes on, and so do we, when the test lets it.
 */
void asc_session_freeze(const struct asc_session *s, bool begin)
{
	const struct timespec nap = { 0, 2000000 };
	struct asc_proc_stat st;
	pid_t pid = asc_target_pid(s->live);

	if (!asc_fault_number("freeze"))
		return;
	const struct asc_thread *t;
	size_t n;

	/* to each of them: one that is released first must not run before another takes the signal */
	t = asc_target_threads(s->live, &n);
	for (size_t i = 0; begin && i < n; i++) {
		if (!asc_proc_stat(pid, t[i].tid, &st) && st.state == 't')
			syscall(SYS_tgkill, pid, t[i].tid, SIGSTOP);
	}
	for (int i = 0; !begin && i < 100; i++, nanosleep(&nap, NULL)) {
		if (asc_proc_stat(pid, 0, &st) || st.state == 'T')
			break;
	}
	while (!begin && !asc_proc_stat(pid, 0, &st) && st.state == 'T')
		nanosleep(&nap, NULL);
}

static struct asc_error *stop(struct round *r)
{
	struct asc_session *s = r->s;
	struct asc_error *err;
	struct asc_pause p = { 0 };

	asc_residency_free(s->residency);
	s->residency = NULL;
	ASC_TRY(asc_session_stop_quiet(s));
	uint64_t began = now_ns();
	s->taken_at = time(NULL);
	err = asc_residency_read(s->live, &s->residency);
	if (!err && r->needs & ASC_NEED_LEDGER)
		asc_session_read_rss(s);
	if (!err)
		err = in_stop(r, began);
	asc_overlay_end(r->overlay);
	asc_session_freeze(s, true);
	asc_target_release(s->live, &p);
	asc_session_freeze(s, false);
	/* the longest of all stops is what the target has felt */
	bool watchdog = p.watchdog;
	if (p.ms > s->pause.ms)
		s->pause = p;
	s->pause.watchdog = watchdog;
	return err;
}

/* It runs on: what was not read in the stop, is it as it was before? */
static struct asc_error *after_stop(struct round *r)
{
	ASC_AUTO(free_ranges) ranges now = { 0 }, here = { 0 };

	ASC_TRY(plan(r, r->overlay, r->s->residency, &now));
	ASC_TRY(present(&now, r->s->residency, &here));
	r->changed.len = 0;
	return compare(r, r->overlay, &here, true, &r->steady, &r->changed);
}

static struct asc_error *round_once(struct round *r, bool first)
{
	ASC_TRY(before_stop(r, first));
	ASC_TRY(stop(r));
	return after_stop(r);
}

/* ---- the model, and what its headers say of pages that differ ---- */

/* Chunks of one region, in step with the pages that are asked for in ascending order. */
struct headers {
	struct round *r;
	uint8_t *live, *copy;
};

static bool load_page(struct headers *h, asc_addr page)
{
	size_t n = (size_t)asc_target_page_size(h->r->s->live);

	return asc_read_some(h->r->s->live, page, h->live, n) == n &&
	       asc_read_some(h->r->overlay, page, h->copy, n) == n;
}

/*
 * Leave in @p changed only the pages of this region where a chunk's size field is not what it was.
 * A page that no chunk begins on cannot contradict the others.
 */
static struct asc_error *region_headers(struct headers *h, const struct asc_region *g,
					const ranges *changed, ranges *ret)
{
	const struct asc_heap_libc *libc = &h->r->s->heaps[0]->libc;
	const uint64_t page = asc_target_page_size(h->r->s->live);
	struct asc_chunk_iter it;
	struct asc_chunk c = { 0 };
	bool more, same = true;
	size_t k = 0;

	asc_chunk_iter_init(&it, g);
	more = asc_chunk_next(&it, &c);
	while (k < changed->len && changed->data[k].addr + changed->data[k].len <= g->first)
		k++;
	for (; k < changed->len && changed->data[k].addr < g->end; k++) {
		asc_addr at = asc_max(changed->data[k].addr, asc_align_down(g->first, page));
		asc_addr end = asc_min(changed->data[k].addr + changed->data[k].len,
				       asc_align_up(g->end, page));

		for (; at < end; at += page) {
			same = load_page(h, at);
			while (more && c.addr + libc->word < at)
				more = asc_chunk_next(&it, &c);
			for (; more && c.addr + libc->word < at + page;
			     more = asc_chunk_next(&it, &c)) {
				size_t in = (size_t)(c.addr + libc->word - at);

				if (!same || memcmp(h->live + in, h->copy + in, libc->word)) {
					same = false;
					break;
				}
			}
			if (!same)
				ASC_TRY(add(ret, at, at + page));
		}
	}
	return NULL;
}

/* Which of the changed pages matter. Only a heap whose lists are all of the stop can tell. */
static struct asc_error *settle(struct round *r)
{
	struct asc_session *s = r->s;
	const size_t page = (size_t)asc_target_page_size(s->live);
	ASC_AUTO(asc_freep) uint8_t *live = malloc(page), *copy = malloc(page);
	struct headers h = { .r = r, .live = live, .copy = copy };
	ASC_AUTO(free_ranges) ranges regions = { 0 }, left = { 0 };
	const struct asc_heap *heap = asc_session_heap(s);

	if (!live || !copy)
		return asc_err(ASC_ENOMEM, "comparing two readings");
	if (r->lists_cut || !heap || !heap->walked || s->nheaps != 1)
		return NULL;
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		for (size_t k = 0; k < a->nregions; k++) {
			const struct asc_region *g = &a->regions[k];

			if (g->unwalked) /* its pages stay as they are */
				continue;
			ASC_TRY(asc_vec_push(&regions,
					     ((struct asc_range){ g->first, g->end - g->first })));
			ASC_TRY(region_headers(&h, g, &r->changed, &left));
		}
	}
	for (size_t i = 0; i < heap->nmmapped; i++) {
		const struct asc_mmapped *m = &heap->mmapped[i];
		size_t in = (size_t)(m->chunk % page), n = heap->libc.hdr;

		if (in + n <= page && load_page(&h, m->chunk - in) &&
		    !memcmp(live + in, copy + in, n))
			ASC_TRY(asc_vec_push(&regions, ((struct asc_range){ m->start, page })));
	}
	normalise(&regions);
	/* what is in no region that was walked: libc's data, headers; all of it must be of the stop
	 */
	ASC_TRY(combine(&r->changed, &regions, false, &left));
	uint64_t before = bytes_of(&r->changed);
	normalise(&left);
	asc_vec_free(&r->changed);
	r->changed = left;
	left = (ranges){ 0 };
	r->steady += before - asc_min(before, bytes_of(&r->changed));
	return NULL;
}

static void forget_heaps(struct asc_session *s)
{
	for (size_t i = 0; i < s->nheaps; i++)
		asc_heap_free(s->heaps[i]);
	free(s->heaps);
	s->heaps = NULL;
	s->nheaps = 0;
}

static bool has_damage(const struct asc_session *s)
{
	for (size_t i = 0; i < s->nheaps; i++) {
		const struct asc_heap *h = s->heaps[i];

		for (size_t k = 0; h && k < h->nfindings; k++) {
			if (h->findings[k].severity == ASC_SEV_CORRUPT)
				return true;
		}
	}
	return false;
}

/* The model of what was read, of this round. */
static struct asc_error *build(struct round *r, unsigned rounds)
{
	struct asc_session *s = r->s;
	struct asc_error *err;

	s->provenance = (struct asc_provenance){ .engine = "optimistic", .rounds = rounds };
	asc_capture_set_backing(asc_overlay_base(r->overlay), s->live);
	if (!(r->needs & (ASC_NEED_LISTS | ASC_NEED_WALK)))
		return NULL;
	s->data = r->overlay;
	err = asc_session_read_heaps(s, r->needs);
	if (!err)
		err = settle(r);
	/* pages of different moments contradict each other: that is no damage */
	s->provenance.unverified_bytes = bytes_of(&r->changed);
	if (!err && r->changed.len && has_damage(s)) {
		forget_heaps(s);
		err = asc_session_read_heaps(s, r->needs);
	}
	s->data = s->live;
	s->provenance.reread_bytes = asc_overlay_fresh_bytes(r->overlay);
	s->provenance.steady_bytes = r->steady;
	return err;
}

/* Another round may read in its stop all that this one could not. */
static bool worth_another(const struct round *r)
{
	const uint64_t fits = (uint64_t)STOP_MS << 20; /* 1 GB/s, at the least */

	return r->changed.len && bytes_of(&r->changed) <= 2 * fits && !asc_interrupted();
}

struct asc_error *asc_capture_optimistic_run(struct asc_session *s, unsigned needs)
{
	struct round r = { .s = s, .needs = needs };
	struct asc_error *err = NULL;
	unsigned rounds = 0;

	s->pause = (struct asc_pause){ 0 };
	do {
		forget_heaps(s);
		asc_target_close(asc_take(r.overlay));
		err = round_once(&r, rounds == 0);
		if (!err)
			err = build(&r, rounds + 1);
		if (!err && r.changed.len) {
			/* it will be hot in the next one */
			for (size_t i = 0; i < r.changed.len && !err; i++)
				err = asc_vec_push(&r.hot, r.changed.data[i]);
			normalise(&r.hot);
		}
		rounds++;
	} while (!err && rounds < ROUNDS && worth_another(&r));
	if (!err)
		s->data = asc_take(r.overlay);
	asc_target_close(r.overlay);
	asc_vec_free(&r.wanted);
	asc_vec_free(&r.lists);
	asc_vec_free(&r.hot);
	asc_vec_free(&r.changed);
	return err;
}
