// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=optimistic: for a heap that would stop the target for too long.
 *
 *   before  the heap is read where it is, as --no-stop does; each page leaves a digest
 *   stop    the arenas' headers and free lists are read, those of few pages first, then the pages that
 *           are known to change, and whole arenas, the small ones first: as long as the time allows
 *   after   it is read again: from what the stop has kept, the rest where it is. A page that is as it
 *           was before the stop was so in it (target/overlay). Of a page that is not, only chunk
 *           headers matter to the model: if they are the same in both readings, so were they in the stop.
 *           What is left is not verified, and is said to be, with the arenas it is in.
 *
 * An arena whose lists are too long to be followed in a stop is read as a running process is, all of it:
 * pages of two moments would contradict each other all over. If nothing has changed in it, it is as good.
 *
 * Nothing is copied but the pages of the stop. No bit of the kernel's page tables is touched to learn
 * what changed (soft-dirty, write protection): that would change the target.
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
#include "target/foresight.h"
#include "target/overlay.h"
#include "target/proc.h"

enum {
	ROUNDS = 3,
	ROUNDS_MS = 10000, /* no further one is begun if it would not end in this */
	STOP_MS = 30,	   /* of reading in one stop */
	LEAST_MS = 4,	   /* even if residency alone has taken longer */
	ROOM_BYTES = 256 << 20,
	SCAN_BYTES =
		64 << 20, /* in memory: beyond it the stop does not ask which pages there are */
	LISTS_BYTES =
		24 << 20, /* an arena's lists are on that many pages: one stop can read them */
	LARGE_CHUNK = 64 << 10, /* of a free one of this size only the ends are read */
};

typedef asc_range_vec ranges;
typedef ASC_VEC(asc_addr) addrs;

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

/* Behind what is there, or joined to the last. */
static struct asc_error *add(ranges *v, asc_addr lo, asc_addr hi)
{
	struct asc_range r = { lo, hi - lo }, *last = v->len ? &v->data[v->len - 1] : NULL;

	if (hi <= lo)
		return NULL;
	if (last && last->addr <= lo && lo <= last->addr + last->len) {
		last->len = asc_max(last->addr + last->len, hi) - last->addr;
		return NULL;
	}
	return asc_vec_push(v, r);
}

static uint64_t bytes_of(const ranges *v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < v->len; i++)
		sum += v->data[i].len;
	return sum;
}

/* First of @p v that ends behind @p at. */
static size_t seek(const ranges *v, asc_addr at)
{
	size_t lo = 0, hi = v->len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->data[mid].addr + v->data[mid].len <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool touches(const ranges *v, asc_addr lo, asc_addr hi)
{
	size_t i = seek(v, lo);

	return lo < hi && i < v->len && v->data[i].addr < hi;
}

/* ---- one round ---- */

struct round {
	struct asc_session *s;
	unsigned needs;
	struct asc_foresight *before;
	struct asc_target *overlay;
	struct asc_heap *first;	 /* as it was read before the stop */
	struct asc_heap *listed; /* headers and lists of the stop */
	addrs hopeless;		 /* arenas whose lists were not followed in it */
	bool blind;		 /* that is all of them */
	bool let_go;		 /* by the watchdog: nothing is of the stop for certain */
	ranges lists;	/* pages that the others' were on before it: most are there still */
	ranges hot;	/* changed in an earlier round */
	ranges changed; /* not of the stop for certain */
	uint64_t steady;
};

static bool is_hopeless(const struct round *r, asc_addr arena)
{
	for (size_t i = 0; i < r->hopeless.len; i++) {
		if (r->hopeless.data[i] == arena)
			return true;
	}
	return r->blind;
}

static bool is_followed(void *round, asc_addr arena)
{
	return !is_hopeless(round, arena);
}

/* The model of the moment at hand, through the overlay. @p running: nothing of it needs to add up */
static struct asc_error *read_model(struct round *r, bool running)
{
	struct asc_session *s = r->s;
	struct asc_error *err;

	if (!(r->needs & (ASC_NEED_LISTS | ASC_NEED_WALK)))
		return NULL;
	s->data = r->overlay;
	s->possibly_inconsistent = running;
	err = asc_session_read_heaps(s, r->needs);
	s->possibly_inconsistent = false;
	s->data = s->live;
	return err;
}

/* The primary heap goes from the session to the round. */
static void keep_first(struct round *r)
{
	struct asc_session *s = r->s;

	asc_heap_free(r->first);
	r->first = s->nheaps ? s->heaps[0] : NULL;
	for (size_t i = 1; i < s->nheaps; i++)
		asc_heap_free(s->heaps[i]);
	free(s->heaps);
	s->heaps = NULL;
	s->nheaps = 0;
}

/* Whose lists can be read in a stop, and where they were just now; and chunks with a mapping of their own. */
static struct asc_error *plan_lists(struct round *r)
{
	const uint64_t page = asc_target_page_size(r->s->live);

	r->lists.len = r->hopeless.len = 0;
	r->blind = false;
	for (size_t i = 0; r->first && i < r->first->narenas; i++) {
		const struct asc_arena *a = &r->first->arenas[i];
		const size_t begin = r->lists.len;
		uint64_t bytes = 0;

		for (size_t k = 0; k < a->nextents && bytes <= LISTS_BYTES; k++) {
			const struct asc_extent *e = &a->extents[k];
			asc_addr at = asc_align_down(e->addr, page);

			if (asc_extent_state(e) == ASC_TOP || asc_extent_state(e) == ASC_FENCE)
				continue;
			bytes += page;
			ASC_TRY(add(&r->lists, at,
				    asc_align_up(e->addr + 6u * r->first->libc.word, page)));
		}
		if (bytes <= LISTS_BYTES)
			continue;
		r->lists.len = begin; /* a page that it shares with another's may be lost */
		ASC_TRY(asc_vec_push(&r->hopeless, a->addr));
	}
	for (size_t i = 0; r->first && i < r->first->nmmapped; i++)
		ASC_TRY(asc_vec_push(&r->lists,
				     ((struct asc_range){ r->first->mmapped[i].start, page })));
	normalise(&r->lists);
	return NULL;
}

/* Without it nobody knows what to compare, and reading would make the kernel map pages. */
static struct asc_error *need_residency(const struct asc_residency *res)
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

static struct asc_error *before_stops(struct round *r)
{
	struct asc_session *s = r->s;
	uint64_t room;

	ASC_TRY(asc_foresight_new(s->live, r->needs & ASC_NEED_LEDGER, &r->before));
	ASC_TRY(need_residency(r->before->residency));
	room = asc_resident_bytes(r->before->residency, 0, UINT64_MAX);
	room = asc_min(room, ROOM_BYTES);
	room += 16 << 20;
	if (s->opts.max_memory)
		room = asc_min(room, s->opts.max_memory / 2);
	ASC_TRY(asc_overlay_new(s->live, r->before->residency, room, &r->overlay));
	return read_model(r, true);
}

/* ---- the stop ---- */

/* Were all lists of this arena followed to their ends? */
static bool is_listed(const struct asc_arena *a)
{
	for (size_t i = 0; i < ASC_NFASTBINS_MAX; i++) {
		if (a->fast[i].truncated)
			return false;
	}
	for (size_t i = 0; i < ASC_NBINS; i++) {
		if (a->bins[i].truncated)
			return false;
	}
	return true;
}

/* Every header, tcache and list is read, so that it is kept. */
static struct asc_error *follow_lists(struct round *r)
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

		if (!is_hopeless(r, a->addr) && !is_listed(a))
			ASC_TRY(asc_vec_push(&r->hopeless, a->addr));
	}
	return NULL;
}

/* Of a large free chunk nobody reads the middle; the tops alone can be nearly all of a heap. */
static struct asc_error *add_region(ranges *v, const struct asc_region *g, uint64_t page)
{
	asc_addr at = g->start;

	for (size_t i = 0; i < g->nextents; i++) {
		const struct asc_extent *e = &g->extents[i];

		if (asc_extent_size(e) < LARGE_CHUNK || e->addr < at)
			continue;
		ASC_TRY(add(v, at, asc_align_up(e->addr + 64, page)));
		at = asc_align_down(e->addr + asc_extent_size(e) - 16, page);
	}
	return add(v, at, g->end);
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

static struct asc_error *pull_arenas(struct round *r)
{
	const uint64_t page = asc_target_page_size(r->s->live);
	const struct asc_heap *h = r->listed;
	ASC_AUTO(asc_freep) struct whole *v = calloc(h->narenas + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu arenas", h->narenas);
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];

		if (!is_hopeless(r, a->addr))
			v[n++] = (struct whole){ a, a->system_mem };
	}
	asc_sort(v, n, sizeof(*v), by_bytes);
	for (size_t i = 0; i < n && !asc_overlay_is_cut(r->overlay); i++) {
		ASC_AUTO(free_ranges) ranges all = { 0 };

		for (size_t k = 0; k < v[i].a->nregions; k++)
			ASC_TRY(add_region(&all, &v[i].a->regions[k], page));
		asc_overlay_pull(r->overlay, all.data, all.len);
	}
	return NULL;
}

/* Stopped: by importance, until the time is up. */
static struct asc_error *in_stop(struct round *r, uint64_t began)
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
	return r->listed && r->needs & ASC_NEED_WALK ? pull_arenas(r) : NULL;
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

	/*
	 * To each of them: one that is released first must not run before another takes the signal. On a
	 * busy machine a thread may not have come to its stop yet. The one that a fork has borrowed
	 * sleeps, and is left alone.
	 */
	t = asc_target_threads(s->live, &n);
	for (size_t i = 0; begin && i < n; i++) {
		if (!asc_proc_stat(pid, t[i].tid, &st) && strchr("tRD", st.state))
			syscall(SYS_tgkill, pid, t[i].tid, SIGSTOP);
	}
	for (int i = 0; !begin && i < 100; i++, nanosleep(&nap, NULL)) {
		if (asc_proc_stat(pid, 0, &st) || st.state == 'T')
			break;
	}
	while (!begin && !asc_proc_stat(pid, 0, &st) && st.state == 'T')
		nanosleep(&nap, NULL);
}

void asc_session_stall(void)
{
	const unsigned ms = asc_fault_number("stall");
	const struct timespec nap = { ms / 1000, (long)(ms % 1000) * 1000000 };

	if (ms)
		nanosleep(&nap, NULL);
}

/*
 * Which pages there are takes a pass over the page tables, which for gigabytes is longer than all else in
 * the stop. Where only the reading wants to know, it is asked before and after it: a page of both was in
 * the stop, too, and one of the two alone is not proven.
 */
static bool can_ask_later(const struct round *r)
{
	return !(r->needs & (ASC_NEED_RESIDENCY | ASC_NEED_LEDGER)) &&
	       asc_resident_bytes(r->before->residency ? r->before->residency : r->s->residency, 0,
				  UINT64_MAX) > SCAN_BYTES &&
	       !(r->before->residency && asc_foresight_holds(r->before, r->s->live));
}

static struct asc_error *stopped(struct round *r, uint64_t began, bool later)
{
	struct asc_session *s = r->s;

	if (later)
		return in_stop(r, began);
	ASC_TRY(asc_session_residency(s, r->needs, r->before));
	ASC_TRY(need_residency(s->residency));
	return in_stop(r, began);
}

static struct asc_error *stop(struct round *r)
{
	struct asc_session *s = r->s;
	struct asc_residency *old = s->residency; /* the overlay's, until it has a newer one */
	struct asc_error *err;
	struct asc_pause p = { 0 };

	asc_heap_free(asc_take(r->listed));
	ASC_TRY(asc_session_stop_quiet(s));
	uint64_t began = now_ns();
	const bool later = can_ask_later(r);
	s->taken_at = time(NULL);
	s->residency = NULL;
	err = stopped(r, began, later);
	asc_session_freeze(s, true);
	asc_target_release(s->live, &p);
	asc_session_freeze(s, false);
	/* the longest of all stops is what the target has felt */
	bool watchdog = p.watchdog || s->pause.watchdog;
	if (p.ms > s->pause.ms)
		s->pause = p;
	s->pause.watchdog = watchdog;
	r->let_go = p.watchdog;
	r->blind |= p.watchdog;
	if (!err && later) {
		s->provenance.residency = "after";
		err = asc_residency_read(s->live, &s->residency);
		if (!err)
			err = need_residency(s->residency);
	}
	if (!err)
		err = asc_overlay_end(r->overlay, s->residency);
	asc_residency_free(old);
	return err;
}

/* ---- after it ---- */

/* A hopeless arena is read as it is now, header and all. */
static void forget_hopeless(struct round *r)
{
	for (size_t i = 0; r->listed && i < r->listed->narenas; i++) {
		const struct asc_arena *a = &r->listed->arenas[i];

		if (!is_hopeless(r, a->addr))
			continue;
		asc_overlay_forget(
			r->overlay,
			(struct asc_range){ a->addr, r->listed->libc.malloc_state_size });
		for (size_t k = 0; k < a->nregions; k++)
			asc_overlay_forget(
				r->overlay,
				(struct asc_range){ a->regions[k].start,
						    a->regions[k].end - a->regions[k].start });
	}
}

static const struct asc_region *same_region(const struct asc_heap *h, asc_addr arena,
					    asc_addr first)
{
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];

		for (size_t k = 0; a->addr == arena && k < a->nregions; k++) {
			if (a->regions[k].first == first)
				return &a->regions[k];
		}
	}
	return NULL;
}

/* Chunks of a region, in step with pages that are asked for in ascending order. */
struct cursor {
	struct asc_chunk_iter it;
	struct asc_chunk c;
	bool more;
};

static void cursor_init(struct cursor *k, const struct asc_region *g)
{
	asc_chunk_iter_init(&k->it, g);
	k->more = asc_chunk_next(&k->it, &k->c);
}

/* The next chunk whose size field is in [lo, hi). */
static bool next_in(struct cursor *k, unsigned word, asc_addr lo, asc_addr hi,
		    struct asc_chunk *ret)
{
	while (k->more && k->c.addr + word < lo)
		k->more = asc_chunk_next(&k->it, &k->c);
	if (!k->more || k->c.addr + word >= hi)
		return false;
	*ret = k->c;
	k->more = asc_chunk_next(&k->it, &k->c);
	return true;
}

/* Do the two readings have the same chunks here? @p used: and none of them free */
static bool same_chunks(struct cursor *a, struct cursor *b, unsigned word, asc_addr lo, asc_addr hi,
			bool used)
{
	struct asc_chunk x, y;
	bool same = true;

	for (;;) {
		bool in_a = next_in(a, word, lo, hi, &x), in_b = next_in(b, word, lo, hi, &y);

		if (in_a && in_b)
			same &= x.addr == y.addr && x.size == y.size &&
				(!used || (x.state == ASC_INUSE && y.state == ASC_INUSE));
		else if (in_a || in_b)
			same = false;
		else
			return same;
	}
}

/* A tcache's counters and lists are inside a chunk. */
static bool has_tcache(const struct asc_heap *h, asc_addr lo, asc_addr hi)
{
	for (size_t i = 0; i < h->nthreads; i++) {
		if (h->threads[i].tcache >= lo && h->threads[i].tcache < hi)
			return true;
	}
	return false;
}

/*
 * Which changed pages of a region do not matter: @p ret. Without a walk these are all where no list has
 * a member, and pages that have one are of the stop.
 */
static struct asc_error *settle_region(struct round *r, const struct asc_arena *a,
				       const struct asc_region *g, ranges *ret)
{
	const struct asc_heap *heap = r->s->heaps[0];
	const struct asc_region *was = same_region(r->first, a->addr, g->first);
	const uint64_t page = asc_target_page_size(r->s->live);
	const bool hopeless = is_hopeless(r, a->addr);
	struct cursor x, y;

	if (!was || (heap->walked && (g->unwalked || was->unwalked)) || (!heap->walked && hopeless))
		return NULL;
	cursor_init(&x, was);
	cursor_init(&y, g);
	for (size_t k = seek(&r->changed, g->first); k < r->changed.len; k++) {
		asc_addr at = asc_max(r->changed.data[k].addr, asc_align_up(g->first, page));
		asc_addr end = asc_min(r->changed.data[k].addr + r->changed.data[k].len, g->end);

		if (r->changed.data[k].addr >= g->end)
			break;
		for (; at < end; at += page) {
			bool same = !heap->walked ||
				    same_chunks(&x, &y, heap->libc.word, at, at + page, hopeless);

			if (same && !has_tcache(heap, at, at + page))
				ASC_TRY(add(ret, at, at + page));
		}
	}
	return NULL;
}

static struct asc_error *settle_mmapped(struct round *r, ranges *ret)
{
	const struct asc_heap *h = r->s->heaps[0];
	const uint64_t page = h->page_size;
	size_t k = 0;

	for (size_t i = 0; i < h->nmmapped; i++) {
		const struct asc_mmapped *m = &h->mmapped[i], *was;

		while (k < r->first->nmmapped && r->first->mmapped[k].start < m->start)
			k++;
		was = k < r->first->nmmapped ? &r->first->mmapped[k] : NULL;
		if (was && was->start == m->start && was->chunk == m->chunk && was->size == m->size)
			ASC_TRY(asc_vec_push(
				ret, ((struct asc_range){ asc_align_down(m->chunk, page), page })));
	}
	return NULL;
}

/* Take away from changed what is in @p v. */
static struct asc_error *subtract(struct round *r, ranges *v)
{
	ranges left = { 0 };
	struct asc_error *err = NULL;

	normalise(v);
	for (size_t i = 0; i < r->changed.len && !err; i++) {
		asc_addr at = r->changed.data[i].addr, end = at + r->changed.data[i].len;

		for (size_t k = seek(v, at); k < v->len && v->data[k].addr < end && !err; k++) {
			err = add(&left, at, v->data[k].addr);
			at = asc_max(at, v->data[k].addr + v->data[k].len);
		}
		if (!err)
			err = add(&left, at, end);
	}
	r->steady += bytes_of(&r->changed) - asc_min(bytes_of(&r->changed), bytes_of(&left));
	asc_vec_free(&r->changed);
	r->changed = left;
	return err;
}

/* Which of the changed pages matter. */
static struct asc_error *settle(struct round *r)
{
	const struct asc_heap *h = asc_session_heap(r->s);
	ASC_AUTO(free_ranges) ranges same = { 0 };

	if (!h || !r->first || h->walked != r->first->walked)
		return NULL;
	for (size_t i = 0; i < h->narenas; i++) {
		for (size_t k = 0; k < h->arenas[i].nregions; k++)
			ASC_TRY(settle_region(r, &h->arenas[i], &h->arenas[i].regions[k], &same));
	}
	ASC_TRY(settle_mmapped(r, &same));
	return subtract(r, &same);
}

static bool is_unverified(const struct round *r, const struct asc_heap *h,
			  const struct asc_arena *a)
{
	if (touches(&r->changed, a->addr, a->addr + h->libc.malloc_state_size))
		return true;
	for (size_t i = 0; i < a->nregions; i++) {
		if (touches(&r->changed, a->regions[i].start, a->regions[i].end))
			return true;
	}
	return false;
}

/* Say which arenas are meant. Pages of different moments contradict each other: that is no damage. */
static void mark(struct round *r)
{
	for (size_t i = 0; i < r->s->nheaps; i++) {
		struct asc_heap *h = r->s->heaps[i];

		for (size_t k = 0; h && k < h->narenas; k++)
			h->arenas[k].unverified = is_unverified(r, h, &h->arenas[k]);
		for (size_t k = 0; h && k < h->nfindings && r->changed.len; k++) {
			struct asc_finding *f = &h->findings[k];
			bool of_it = f->arena < 0 || h->arenas[f->arena].unverified;

			if (of_it && f->severity == ASC_SEV_CORRUPT)
				f->severity = ASC_SEV_INFO;
		}
	}
}

static struct asc_error *after_stop(struct round *r, unsigned rounds)
{
	struct asc_session *s = r->s;
	struct asc_error *err;

	if (r->let_go)
		asc_overlay_forget(r->overlay, (struct asc_range){ 0, UINT64_MAX });
	else
		forget_hopeless(r);
	s->provenance.unverified_bytes = 0; /* of an earlier round */
	ASC_TRY(read_model(r, false));
	asc_vec_free(&r->changed);
	r->changed = (ranges){ 0 };
	err = asc_overlay_changed(r->overlay, &r->changed.data, &r->changed.len, &r->steady);
	r->changed.cap = r->changed.len;
	normalise(&r->changed);
	if (!err)
		err = settle(r);
	if (!err)
		mark(r);
	if (r->let_go)
		asc_session_doubt(s);
	s->provenance.engine = "optimistic";
	s->provenance.rounds = rounds;
	s->provenance.unverified_bytes = bytes_of(&r->changed);
	s->provenance.reread_bytes = r->let_go ? 0 : asc_overlay_fresh_bytes(r->overlay);
	s->provenance.steady_bytes = r->steady;
	return err;
}

/* Another round may read in its stop all that this one could not. */
static bool worth_another(const struct round *r, uint64_t began, uint64_t last)
{
	const uint64_t fits = (uint64_t)STOP_MS << 20; /* 1 GB/s, at the least */
	const uint64_t now = now_ns();

	return r->changed.len && !r->let_go && bytes_of(&r->changed) <= 2 * fits &&
	       !asc_interrupted() && now - began + 2 * (now - last) < ROUNDS_MS * 1000000ull;
}

/* What has changed will change again. */
static struct asc_error *heat(struct round *r)
{
	for (size_t i = 0; i < r->changed.len; i++)
		ASC_TRY(asc_vec_push(&r->hot, r->changed.data[i]));
	normalise(&r->hot);
	return NULL;
}

static struct asc_error *run(struct round *r)
{
	const uint64_t began = now_ns();
	uint64_t last = began;
	struct asc_error *err = before_stops(r);

	for (unsigned n = 1; !err; n++) {
		keep_first(r);
		err = plan_lists(r);
		if (!err)
			err = stop(r);
		if (!err)
			err = after_stop(r, n);
		if (err || n == ROUNDS || !worth_another(r, began, last))
			break;
		last = now_ns();
		err = heat(r);
	}
	return err;
}

struct asc_error *asc_capture_optimistic_run(struct asc_session *s, unsigned needs)
{
	struct round r = { .s = s, .needs = needs };
	struct asc_error *err;

	s->pause = (struct asc_pause){ 0 };
	err = run(&r);
	if (!err)
		s->data = asc_take(r.overlay);
	asc_target_close(r.overlay);
	asc_foresight_free(r.before);
	asc_heap_free(r.first);
	asc_heap_free(r.listed);
	asc_vec_free(&r.hopeless);
	asc_vec_free(&r.lists);
	asc_vec_free(&r.hot);
	asc_vec_free(&r.changed);
	return err;
}
