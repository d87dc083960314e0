// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Two readings of a heap that ran on between them: which of the pages that have changed do not matter,
 * for the chunks that begin on them are the same in both, and what to say of those that do.
 */
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/optimistic.h"

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
	struct asc_chunk c, last; /* last: before c */
	bool more;
};

static void cursor_init(struct cursor *k, const struct asc_region *g)
{
	*k = (struct cursor){ .last.state = ASC_INUSE };
	asc_chunk_iter_init(&k->it, g);
	k->more = asc_chunk_next(&k->it, &k->c);
}

static void pass(struct cursor *k)
{
	k->last = k->c;
	k->more = asc_chunk_next(&k->it, &k->c);
}

/* To the first chunk whose size field is at @p lo or behind. */
static void pass_to(struct cursor *k, unsigned word, asc_addr lo)
{
	while (k->more && k->c.addr + word < lo)
		pass(k);
}

/* The next chunk whose size field is before @p hi. */
static bool next_in(struct cursor *k, unsigned word, asc_addr hi, struct asc_chunk *ret)
{
	if (!k->more || k->c.addr + word >= hi)
		return false;
	*ret = k->c;
	pass(k);
	return true;
}

/*
 * Do the two readings have the same chunks here? @p used: and none of them free, nor the one before, whose
 * links may be on this page
 */
static bool same_chunks(struct cursor *a, struct cursor *b, unsigned word, asc_addr lo, asc_addr hi,
			bool used)
{
	struct asc_chunk x, y;
	bool same;

	pass_to(a, word, lo);
	pass_to(b, word, lo);
	same = !used || (a->last.state == ASC_INUSE && b->last.state == ASC_INUSE);
	for (;;) {
		bool in_a = next_in(a, word, hi, &x), in_b = next_in(b, word, hi, &y);

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
static struct asc_error *settle_region(struct asc_round *r, const struct asc_arena *a,
				       const struct asc_region *g, asc_range_vec *ret)
{
	const struct asc_heap *heap = r->s->heaps[0];
	const struct asc_region *was = same_region(r->first, a->addr, g->first);
	const uint64_t page = asc_target_page_size(r->s->live);
	const bool hopeless = asc_round_is_hopeless(r, a->addr);
	struct cursor x, y;

	if (!was || (heap->walked && (g->unwalked || was->unwalked)) || (!heap->walked && hopeless))
		return NULL;
	cursor_init(&x, was);
	cursor_init(&y, g);
	for (size_t k = asc_ranges_seek(&r->changed, g->first); k < r->changed.len; k++) {
		asc_addr at = asc_max(r->changed.data[k].addr, asc_align_up(g->first, page));
		asc_addr end = asc_min(r->changed.data[k].addr + r->changed.data[k].len, g->end);

		if (r->changed.data[k].addr >= g->end)
			break;
		for (; at < end; at += page) {
			bool same = !heap->walked ||
				    same_chunks(&x, &y, heap->libc.word, at, at + page, hopeless);

			if (same && !has_tcache(heap, at, at + page))
				ASC_TRY(asc_ranges_add(ret, at, at + page));
		}
	}
	return NULL;
}

static struct asc_error *settle_mmapped(struct asc_round *r, asc_range_vec *ret)
{
	const struct asc_heap *h = r->s->heaps[0];
	const uint64_t page = h->page_size;
	struct asc_mmapped m, was;
	size_t k = 0;
	bool more = asc_mmapped_next(r->first, &k, &was);

	for (size_t i = 0; asc_mmapped_next(h, &i, &m);) {
		while (more && was.start < m.start)
			more = asc_mmapped_next(r->first, &k, &was);
		if (more && was.start == m.start && was.chunk == m.chunk && was.size == m.size)
			ASC_TRY(asc_ranges_add(ret, asc_align_down(m.chunk, page),
					       asc_align_down(m.chunk, page) + page));
	}
	return NULL;
}

/* Take away from changed what is in @p v. */
static struct asc_error *subtract(struct asc_round *r, asc_range_vec *v)
{
	const uint64_t before = asc_ranges_bytes(&r->changed);

	asc_ranges_normalise(v);
	ASC_TRY(asc_ranges_subtract(&r->changed, v));
	r->steady += before - asc_ranges_bytes(&r->changed);
	return NULL;
}

struct asc_error *asc_round_settle(struct asc_round *r)
{
	const struct asc_heap *h = asc_session_heap(r->s);
	ASC_AUTO(asc_range_vec_free) asc_range_vec same = { 0 };

	if (!h || !r->first || h->walked != r->first->walked)
		return NULL;
	for (size_t i = 0; i < h->narenas; i++) {
		for (size_t k = 0; k < h->arenas[i].nregions; k++)
			ASC_TRY(settle_region(r, &h->arenas[i], &h->arenas[i].regions[k], &same));
	}
	ASC_TRY(settle_mmapped(r, &same));
	return subtract(r, &same);
}

static bool is_unverified(const struct asc_round *r, const struct asc_heap *h,
			  const struct asc_arena *a)
{
	if (asc_ranges_touch(&r->changed, a->addr, a->addr + h->libc.malloc_state_size))
		return true;
	for (size_t i = 0; i < a->nregions; i++) {
		if (asc_ranges_touch(&r->changed, a->regions[i].start, a->regions[i].end))
			return true;
	}
	return false;
}

void asc_round_mark(struct asc_round *r)
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
