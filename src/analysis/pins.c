/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pins. Live chunks side by side form an island; if it went, the free run before it, the island
 * and the free run behind it would be one run. What that run could release more than the two could
 * is the island's doing; its own bytes are not counted as stranded.
 */
#include "arenascope/pins.h"

#include <stdlib.h>

#include "analysis/cover.h"
#include "base/cleanup.h"
#include "base/num.h"

enum {
	GROUP_STEP = 16,
	GROUP_SMALL = 65536,
	NSMALL = GROUP_SMALL / GROUP_STEP,
	NGROUPS = NSMALL + 64
};

struct maker {
	const struct asc_heap *heap;
	const struct asc_residency *res;
	struct asc_pins *p;
	struct asc_pin_group groups[NGROUPS + 1]; /* the last: several chunks */
	size_t top;
};

/* A free run, an island, a free run. */
struct place {
	asc_addr before, start, end, after;
	struct asc_pin pin;
};

static uint64_t resident(const struct maker *m, asc_addr lo, asc_addr hi)
{
	if (lo >= hi)
		return 0;
	if (!m->res || m->res->source == ASC_RESIDENCY_UNKNOWN)
		return hi - lo;
	return asc_resident_bytes(m->res, lo, hi);
}

static uint64_t whole(const struct maker *m, asc_addr lo, asc_addr hi, asc_addr *from, asc_addr *to)
{
	*from = asc_align_up(lo + m->heap->libc.chunk_struct, m->heap->page_size);
	*to = asc_align_down(hi, m->heap->page_size);
	return lo < hi ? resident(m, *from, *to) : 0;
}

static size_t group_of(const struct asc_pin *pin)
{
	if (pin->chunks != 1 || pin->cached)
		return NGROUPS;
	if (pin->size < GROUP_SMALL)
		return (size_t)(pin->size / GROUP_STEP);
	return NSMALL + (size_t)(63 - __builtin_clzll(pin->size));
}

/* A heap of the kept pins with the smallest in front. */
static void sift_down(struct asc_pin *v, size_t n, size_t i)
{
	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		struct asc_pin tmp;

		if (child + 1 < n && v[child + 1].strands < v[child].strands)
			child++;
		if (v[i].strands <= v[child].strands)
			return;
		tmp = v[i];
		v[i] = v[child];
		v[child] = tmp;
	}
}

static void keep(struct maker *m, const struct asc_pin *pin)
{
	struct asc_pins *p = m->p;

	if (p->n < m->top) {
		p->v[p->n++] = *pin;
		if (p->n == m->top)
			for (size_t i = p->n; i-- > 0;)
				sift_down(p->v, p->n, i);
	} else if (p->n && pin->strands > p->v[0].strands) {
		p->v[0] = *pin;
		sift_down(p->v, p->n, 0);
	}
}

static void settle(struct maker *m, struct place *at)
{
	struct asc_pin *pin = &at->pin;
	asc_addr lo, hi, x, y;
	uint64_t all;
	struct asc_pin_group *g;

	if (!pin->chunks && !pin->cached)
		return;
	all = whole(m, at->before, at->after, &lo, &hi);
	pin->frees = all - whole(m, at->before, at->start, &x, &y) -
		     whole(m, at->end, at->after, &x, &y);
	pin->strands = pin->frees - resident(m, asc_max(lo, at->start), asc_min(hi, at->end));
	pin->bytes = at->end - at->start;
	m->p->islands++;
	m->p->bytes += pin->bytes;
	m->p->strands += pin->strands;
	g = &m->groups[group_of(pin)];
	g->count++;
	g->bytes += pin->bytes;
	g->strands += pin->strands;
	if (pin->chunks && pin->strands)
		keep(m, pin);
}

static bool is_free(enum asc_state s)
{
	return s == ASC_UNSORTED || s == ASC_SMALL || s == ASC_LARGE || s == ASC_TOP;
}

static void region(struct maker *m, const struct asc_arena *a, const struct asc_region *r)
{
	struct asc_chunk_iter it;
	struct asc_chunk c;
	struct place at = { 0 };
	uint64_t live = 0;
	asc_addr expected = 0;

	asc_chunk_iter_init(&it, r);
	while (asc_chunk_next(&it, &c)) {
		bool gap = c.addr != expected;

		expected = c.addr + c.size;
		if (gap || c.state == ASC_FENCE) {
			settle(m, &at);
			at = (struct place){ .before = c.addr, .start = c.addr, .end = c.addr };
			if (c.state == ASC_FENCE)
				at.before = at.start = at.end = expected;
			at.after = at.end;
			if (c.state == ASC_FENCE)
				continue;
		}
		if (is_free(c.state)) {
			if (at.end >
			    at.start) { /* the run behind the island, and before the next */
				at.after = expected;
				settle(m, &at);
				at = (struct place){ .before = c.addr };
			}
			at.start = at.end = at.after = expected;
			continue;
		}
		if (c.state == ASC_INUSE) {
			if (!at.pin.chunks) {
				at.pin.addr = c.addr;
				at.pin.size = c.size;
				at.pin.arena = a->index;
				at.pin.region = r->start;
			}
			at.pin.chunks++;
			live++;
		} else {
			at.pin.cached++;
		}
		at.end = at.after = expected;
	}
	settle(m, &at);
	for (size_t i = 0; live == 1 && i < m->p->n; i++)
		if (m->p->v[i].region == r->start)
			m->p->v[i].last_in_heap = r->heap_info != 0;
}

static int by_strands(const void *a, const void *b)
{
	const struct asc_pin *x = a, *y = b;

	if (x->strands != y->strands)
		return x->strands < y->strands ? 1 : -1;
	return (x->addr > y->addr) - (x->addr < y->addr);
}

static int by_group(const void *a, const void *b)
{
	const struct asc_pin_group *x = a, *y = b;

	if (x->strands != y->strands)
		return x->strands < y->strands ? 1 : -1;
	return (x->size > y->size) - (x->size < y->size);
}

static struct asc_error *finish(struct maker *m)
{
	struct asc_pins *p = m->p;

	p->groups = calloc(NGROUPS + 1, sizeof(*p->groups));
	if (!p->groups)
		return asc_err(ASC_ENOMEM, "groups of pins");
	for (size_t i = 0; i <= NGROUPS; i++) {
		if (!m->groups[i].count)
			continue;
		m->groups[i].size = i == NGROUPS ? 0
				    : i < NSMALL ? i * GROUP_STEP
						 : 1ull << (i - NSMALL);
		p->groups[p->ngroups++] = m->groups[i];
	}
	qsort(p->groups, p->ngroups, sizeof(*p->groups), by_group);
	qsort(p->v, p->n, sizeof(*p->v), by_strands);
	return NULL;
}

struct asc_error *asc_pins_make(const struct asc_heap *heap, const struct asc_residency *res,
				int arena, size_t top, struct asc_pins **ret)
{
	struct asc_error *err = NULL;
	struct maker *m = calloc(1, sizeof(*m));
	struct asc_pins *p = calloc(1, sizeof(*p));

	if (!m || !p || !(p->v = calloc(top + 1, sizeof(*p->v)))) {
		err = asc_err(ASC_ENOMEM, "%zu pins", top);
		goto out;
	}
	*m = (struct maker){ .heap = heap, .res = res, .p = p, .top = top };
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		if (arena >= 0 && (unsigned)arena != a->index)
			continue;
		for (size_t k = 0; k < a->nregions; k++)
			region(m, a, &a->regions[k]);
	}
	err = finish(m);
	if (!err)
		*ret = asc_take(p);
out:
	asc_pins_free(p);
	free(m);
	return err;
}

void asc_pins_free(struct asc_pins *p)
{
	if (!p)
		return;
	free(p->v);
	free(p->groups);
	free(p);
}
