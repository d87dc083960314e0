/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ledger: every resident byte has exactly one owner.
 *
 * In malloc's regions, byte by byte (a page is split where its bytes differ):
 *   trimmable   a whole page that malloc_trim(0) would release, whatever its chunks are (up to 2.42
 *		 that may include fastbin chunks, which malloc_trim consolidates first)
 *   retained	 any other whole page that reclaim would release: it lies in one free chunk or top,
 *		 behind the chunk's header and list links (6 words), before the chunk's end rounded
 *		 down, so that the next header's prev_size stays
 *   cached	 what is left of tcache and fastbin chunks, headers included
 *   fragmented	 what is left of binned chunks and tops: pages shared with live data, the page with
 *		 a free chunk's header and links, partial pages at both ends, and whole pages that
 *		 no call can release (mlock, hugetlb)
 *   metadata	 heap_info, malloc_state, alignment before the first chunk, resident pages of a heap
 *		 behind its size (up to mprotect_size)
 *   in use	 everything else, headers included: live chunks, the 16 or 32 bytes of fenceposts at
 *		 the end of a heap (only a walk can tell them, and no number may depend on it), and
 *		 damaged stretches that could not be walked, since nobody can say that they are free
 * Gaps of foreign sbrk calls are in no region: they are an anonymous line of their own.
 *
 * In the process: arenas, then mmapped chunks, then thread stacks claim their ranges; what no
 * claim covers belongs to the mapping (owners.c). The lines are measured piece by piece, so their
 * sum is the number of resident bytes, and a test holds it to the kernel's Rss.
 */
#include "arenascope/ledger.h"

#include <stdlib.h>

#include "analysis/cover.h"
#include "analysis/owners.h"
#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/parts.h"
#include "base/vec.h"

enum claim_kind { CLAIM_REGION, CLAIM_MMAPPED, CLAIM_STACK };

struct claim {
	asc_addr start, end;
	enum claim_kind kind;
	size_t heap, arena, i; /* i: region, or thread */
};

typedef ASC_VEC(struct claim) claim_vec;

/* ---- one region ---- */

struct sweep {
	struct asc_cursor res;
	struct asc_feed feed;
	asc_addr plain_to;    /* no range begins below it that was not passed */
	asc_addr counted_end; /* behind it, absent pages are not the region's */
	struct asc_pages *pages;
};

/* Is @p pos in a range of the list? @p end is cut to where the answer changes. */
static bool in_ranges(struct asc_rel_list *l, asc_addr pos, asc_addr *end)
{
	const struct asc_rel_range *v = l->v.data;

	while (l->i < l->v.len && v[l->i].hi <= pos)
		l->i++;
	if (l->i == l->v.len)
		return false;
	*end = asc_min(*end, v[l->i].lo <= pos ? v[l->i].hi : v[l->i].lo);
	return v[l->i].lo <= pos;
}

static uint64_t *field_of(struct asc_pages *p, enum asc_seg_class class)
{
	switch (class) {
	case ASC_SEG_META:
		return &p->metadata;
	case ASC_SEG_TCACHE:
	case ASC_SEG_FAST:
		return &p->cached;
	case ASC_SEG_FREE:
	case ASC_SEG_TOP:
		return &p->fragmented;
	case ASC_SEG_USE:
		break;
	}
	return &p->in_use;
}

/* [lo, hi), of which a part may be released. */
static struct asc_error *account(struct sweep *s, asc_addr lo, asc_addr hi,
				 enum asc_seg_class class)
{
	struct asc_feed *f = &s->feed;

	while (lo < hi) {
		while (lo >= f->known)
			ASC_TRY(asc_feed_more(f));
		asc_addr end = asc_min(hi, f->known);
		bool trim = in_ranges(&f->trim, lo, &end);
		bool reclaim = in_ranges(&f->reclaim, lo, &end);
		struct asc_amount n = asc_cursor_count(&s->res, lo, end);

		*(trim	    ? &s->pages->trimmable
		  : reclaim ? &s->pages->retained
			    : field_of(s->pages, class)) += n.present;
		s->pages->resident += n.present;
		s->pages->swapped += n.swapped;
		if (lo < s->counted_end)
			s->pages->nonresident += end - lo - n.present - n.swapped;
		lo = end;
	}
	s->plain_to = asc_min(f->known, asc_min(asc_rel_next(&f->trim), asc_rel_next(&f->reclaim)));
	return NULL;
}

/* Most segments are in no range, and in memory: they are only added up, by class. */
static struct asc_error *account_all(struct sweep *s, const struct asc_region *r,
				     const struct claim *claim)
{
	uint64_t plain[ASC_SEG_NCLASSES] = { 0 };
	struct asc_seg_iter it;
	struct asc_seg seg;

	asc_seg_init(&it, r);
	while (asc_seg_next(&it, &seg)) {
		asc_addr lo = asc_max(seg.lo, claim->start), hi = asc_min(seg.hi, claim->end);

		if (hi <= s->plain_to && asc_cursor_whole(&s->res, lo, hi))
			plain[seg.class] += hi - lo;
		else
			ASC_TRY(account(s, lo, hi, seg.class));
	}
	for (unsigned i = 0; i < ASC_SEG_NCLASSES; i++) {
		*field_of(s->pages, (enum asc_seg_class)i) += plain[i];
		s->pages->resident += plain[i];
	}
	return NULL;
}

/* The bytes of @p claim, which is what is left of a region when nothing is counted twice. */
static struct asc_error *region_pages(const struct asc_heap *heap, const struct asc_arena *a,
				      const struct asc_region *r, const struct claim *claim,
				      const struct asc_ledger_in *in, struct asc_pages *ret)
{
	const struct asc_trim_in blocked = { .mlocked = in->mlocked,
					     .nmlocked = in->nmlocked,
					     .hugetlb = in->hugetlb,
					     .nhugetlb = in->nhugetlb };
	struct sweep s = { .res = asc_cursor_at(in->res, claim->start),
			   .counted_end = r->end,
			   .pages = ret };
	struct asc_error *err;

	asc_feed_init(&s.feed, heap, a, r, true, true, 0, &blocked);
	ret->known = true;
	ret->cached_known = heap->tcaches_known;
	err = account_all(&s, r, claim);
	asc_feed_deinit(&s.feed);
	return err;
}

static void add_pages(struct asc_pages *to, const struct asc_pages *p)
{
	to->known = true;
	to->cached_known = to->cached_known && p->cached_known;
	to->resident += p->resident;
	to->in_use += p->in_use;
	to->cached += p->cached;
	to->trimmable += p->trimmable;
	to->retained += p->retained;
	to->fragmented += p->fragmented;
	to->metadata += p->metadata;
	to->nonresident += p->nonresident;
	to->swapped += p->swapped;
}

/* ---- claims ---- */

static int by_start(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->kind > y->kind) - (x->kind < y->kind);
}

static struct asc_error *claim(claim_vec *v, struct claim c)
{
	return c.start < c.end ? asc_vec_push(v, c) : NULL;
}

/* One claim for those that follow one another: there may be a million, on few mappings. */
static struct asc_error *claim_mmapped(claim_vec *v, const struct asc_heap *heap, size_t h)
{
	struct claim row = { .kind = CLAIM_MMAPPED, .heap = h };

	struct asc_mmapped m;

	for (size_t i = 0; asc_mmapped_next(heap, &i, &m);) {
		uint64_t end;

		if (!asc_add(m.start, m.total, &end))
			continue;
		if (m.start != row.end) {
			ASC_TRY(claim(v, row));
			row.start = m.start;
		}
		row.end = end;
	}
	return claim(v, row);
}

static struct asc_error *claim_heap(claim_vec *v, const struct asc_heap *heap, size_t h)
{
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		for (size_t k = 0; k < a->nregions; k++) {
			const struct asc_region *r = &a->regions[k];

			ASC_TRY(claim(v, (struct claim){ r->start, asc_region_limit(r),
							 CLAIM_REGION, h, i, k }));
		}
	}
	return claim_mmapped(v, heap, h);
}

/* [i] of @p v begins before the end of [i - 1]: cut so that no byte is claimed twice. */
static void cut_overlaps(claim_vec *v)
{
	asc_addr end = 0;
	size_t kept = 0;

	asc_sort(v->data, v->len, sizeof(*v->data), by_start);
	for (size_t i = 0; i < v->len; i++) {
		struct claim c = v->data[i];

		c.start = asc_max(c.start, end);
		if (c.start >= c.end)
			continue;
		end = c.end;
		v->data[kept++] = c;
	}
	v->len = kept;
}

static const struct claim *claim_at(const claim_vec *v, asc_addr addr)
{
	size_t lo = 0, hi = v->len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->data[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->len && v->data[lo].start <= addr ? &v->data[lo] : NULL;
}

/*
 * The stack of a thread whose stack pointer is known. NPTL puts the thread's descriptor into the
 * stack's last page; without that sign only a mapping with a guard below it passes for a stack, so
 * that a run-time's own heap does not become one. @return index of the mapping, -1: no stack
 */
static ssize_t stack_of(const struct asc_ledger_in *in, size_t t, asc_addr *ret_start,
			asc_addr *ret_end)
{
	const struct asc_thread *th = &in->threads[t];
	const struct asc_map *m, *guard;
	asc_addr sp;
	bool guarded;

	if (!th->regs.valid || !in->arch || !in->maps)
		return -1;
	sp = asc_arch_reg(in->arch, th->regs.raw, th->regs.len, in->arch->sp);
	m = sp ? asc_maps_find(in->maps, sp) : NULL;
	if (!m || m->inode || (m->flags & ASC_MAP_SHARED) || !strncmp(m->path, "[heap]", 6))
		return -1;
	*ret_start = m->start;
	*ret_end = m->end;
	if (!strncmp(m->path, "[stack", 6))
		return m - in->maps->v;
	guard = m > in->maps->v ? m - 1 : NULL;
	guarded = guard && guard->end == m->start && guard->flags_known &&
		  !(guard->flags & (ASC_MAP_READ | ASC_MAP_WRITE | ASC_MAP_EXEC));
	if (th->regs.tp_valid && th->regs.tp > sp && th->regs.tp < m->end) {
		if (in->arch->tls == ASC_TLS_II && m->end - th->regs.tp > 4 * in->res->page_size)
			*ret_end =
				asc_min(m->end, asc_align_up(th->regs.tp + 1, in->res->page_size));
		return m - in->maps->v;
	}
	return guarded && m->end - m->start <= 1ull << 30 ? m - in->maps->v : -1;
}

static int by_stack(const void *a, const void *b)
{
	const struct asc_stack_use *x = a, *y = b;

	return (x->end > y->end) - (x->end < y->end);
}

/*
 * Stacks may share a mapping where guards are inside it (2.42): each reaches down to the end of
 * the one below. A stack gets what no chunk of malloc's claims.
 */
static struct asc_error *find_stacks(const struct asc_ledger_in *in, const claim_vec *malloc_claims,
				     struct asc_ledger *l)
{
	l->stacks = calloc(in->nthreads + 1, sizeof(*l->stacks));
	if (!l->stacks)
		return asc_err(ASC_ENOMEM, "stacks of %zu threads", in->nthreads);
	for (size_t t = 0; t < in->nthreads; t++) {
		struct asc_stack_use *s = &l->stacks[l->nstacks];

		*s = (struct asc_stack_use){ .tid = in->threads[t].tid };
		if (stack_of(in, t, &s->start, &s->end) < 0)
			continue;
		asc_addr sp = asc_arch_reg(in->arch, in->threads[t].regs.raw,
					   in->threads[t].regs.len, in->arch->sp);
		if (claim_at(malloc_claims, sp))
			continue;
		l->nstacks++;
	}
	for (size_t i = 0; !l->nstacks && in->nthreads && in->maps && i < in->maps->n; i++) {
		/* no registers (a target that was not stopped): the main thread's is still known */
		const struct asc_map *m = &in->maps->v[i];

		if (!strcmp(m->path, "[stack]"))
			l->stacks[l->nstacks++] = (struct asc_stack_use){ .tid = in->threads[0].tid,
									  .start = m->start,
									  .end = m->end };
	}
	asc_sort(l->stacks, l->nstacks, sizeof(*l->stacks), by_stack);
	for (size_t i = 1; i < l->nstacks; i++)
		if (l->stacks[i].start < l->stacks[i - 1].end)
			l->stacks[i].start = l->stacks[i - 1].end;
	return NULL;
}

/* ---- the process ---- */

struct builder {
	const struct asc_ledger_in *in;
	struct asc_ledger *l;
	struct asc_owner_facts facts;
	struct asc_cursor res;
	ASC_VEC(struct asc_map_use) maps;
	ASC_VEC(struct asc_ledger_item) other;
};

static struct asc_error *use(struct builder *b, size_t map, const char *owner, int detail,
			     struct asc_amount n)
{
	struct asc_map_use *last = b->maps.len ? &b->maps.data[b->maps.len - 1] : NULL;

	if (last && last->map == map && last->owner == owner && last->detail == detail) {
		last->resident += n.present;
		last->swapped += n.swapped;
		return NULL;
	}
	return asc_vec_push(&b->maps,
			    ((struct asc_map_use){ map, n.present, n.swapped, owner, detail }));
}

/* Line of the ledger with this name. Names come from the target: their number is bounded. */
static struct asc_error *named(struct builder *b, const char *name, size_t *ret)
{
	enum { MOST = 200 };
	size_t i;

	if (b->other.len >= MOST)
		name = "other names";
	for (i = 0; i < b->other.len; i++)
		if (!strcmp(b->other.data[i].name, name))
			break;
	if (i == b->other.len) {
		struct asc_error *err;
		char *copy = strdup(name);

		if (!copy)
			return asc_err(ASC_ENOMEM, "a name of the ledger");
		err = asc_vec_push(&b->other, ((struct asc_ledger_item){ .name = copy }));
		if (err) {
			free(copy);
			return err;
		}
	}
	*ret = i;
	return NULL;
}

static struct asc_error *unclaimed(struct builder *b, size_t map, struct asc_range piece,
				   struct asc_amount n)
{
	struct asc_ledger *l = b->l;
	const char *name = NULL;
	size_t item = 0;

	switch (asc_owner_of(b->in->maps, map, piece, &b->facts, &name)) {
	case ASC_OWNER_NONE:
		return NULL;
	case ASC_OWNER_FILE:
		l->files += n.present;
		l->swap += n.swapped;
		return use(b, map, "file", -1, n);
	case ASC_OWNER_SHARED:
		l->shared += n.present;
		l->swap += n.swapped;
		return use(b, map, "shared", -1, n);
	case ASC_OWNER_OTHER:
		ASC_TRY(named(b, name, &item));
		b->other.data[item].bytes += n.present;
		b->other.data[item].swapped += n.swapped;
		l->swap += n.swapped;
		return use(b, map, "other", (int)item, n);
	case ASC_OWNER_UNKNOWN:
		break;
	}
	l->unknown_anonymous += n.present;
	l->swap += n.swapped;
	return use(b, map, "unknown", -1, n);
}

static struct asc_error *claimed(struct builder *b, size_t map, const struct claim *c,
				 struct asc_amount n)
{
	struct asc_ledger *l = b->l;

	switch (c->kind) {
	case CLAIM_REGION: /* its bytes are summed by region_pages() */
		return use(b, map, "malloc", c->heap ? -1 : (int)c->arena, n);
	case CLAIM_MMAPPED:
		l->mmapped_chunks += n.present;
		l->mmapped_swapped += n.swapped;
		l->swap += n.swapped;
		return use(b, map, "mmapped chunk", -1, n);
	case CLAIM_STACK:
		break;
	}
	l->thread_stacks += n.present;
	l->swap += n.swapped;
	l->stacks[c->i].resident += n.present;
	l->stacks[c->i].swapped += n.swapped;
	return use(b, map, "stack", (int)c->i, n);
}

static struct asc_error *walk_maps(struct builder *b, const claim_vec *claims)
{
	const struct asc_maps *maps = b->in->maps;
	size_t k = 0;

	b->res = asc_cursor_at(b->in->res, 0);
	for (size_t i = 0; maps && i < maps->n; i++) {
		asc_addr pos = maps->v[i].start, end = maps->v[i].end;

		while (pos < end) {
			const struct claim *c;
			asc_addr to = end;

			while (k < claims->len && claims->data[k].end <= pos)
				k++;
			c = k < claims->len && claims->data[k].start < end ? &claims->data[k]
									   : NULL;
			if (c && c->start > pos) {
				to = c->start;
				c = NULL;
			} else if (c) {
				to = asc_min(c->end, end);
			}
			struct asc_amount n = asc_cursor_count(&b->res, pos, to);

			ASC_TRY(c ? claimed(b, i, c, n)
				  : unclaimed(b, i, (struct asc_range){ pos, to - pos }, n));
			pos = to;
		}
	}
	return NULL;
}

/* ---- arenas ---- */

static struct asc_error *arenas_new(const struct asc_heap *heap, struct asc_ledger *l)
{
	l->arenas = calloc(heap->narenas + 1, sizeof(*l->arenas));
	if (!l->arenas)
		return asc_err(ASC_ENOMEM, "ledger of %zu arenas", heap->narenas);
	l->narenas = heap->narenas;
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];
		struct asc_arena_ledger *al = &l->arenas[i];

		al->mapped = a->system_mem;
		al->max_mapped = a->max_system_mem;
		al->pages.known = l->known;
		al->pages.cached_known = l->known && heap->tcaches_known;
		al->regions = calloc(a->nregions + 1, sizeof(*al->regions));
		if (!al->regions)
			return asc_err(ASC_ENOMEM, "ledger of %zu heaps", a->nregions);
		al->nregions = a->nregions;
		for (size_t k = 0; k < a->nregions; k++) {
			al->regions[k].start = a->regions[k].start;
			al->regions[k].mapped = a->regions[k].end - a->regions[k].start;
			al->regions[k].pages.known = l->known;
			al->regions[k].pages.cached_known = al->pages.cached_known;
		}
	}
	return NULL;
}

struct counting {
	const struct asc_ledger_in *in;
	const claim_vec *claims;
};

/* Into the struct asc_pages at @p i of @p ret. */
static struct asc_error *count_region(const void *in, void *ret, size_t i)
{
	const struct counting *n = in;
	const struct claim *c = &n->claims->data[i];
	const struct asc_heap *heap;
	const struct asc_arena *a;

	if (c->kind != CLAIM_REGION)
		return NULL;
	heap = n->in->heaps[c->heap];
	a = &heap->arenas[c->arena];
	return region_pages(heap, a, &a->regions[c->i], c, n->in, (struct asc_pages *)ret + i);
}

static struct asc_error *count_regions(const struct asc_ledger_in *in, const claim_vec *claims,
				       struct asc_ledger *l)
{
	const struct counting n = { in, claims };
	ASC_AUTO(asc_freep) struct asc_pages *pages = calloc(claims->len + 1, sizeof(*pages));
	bool two = false;

	if (!pages)
		return asc_err(ASC_ENOMEM, "ledger of %zu ranges", claims->len);
	for (size_t h = 0; h < in->nheaps; h++)
		two = two || (in->heaps[h] && asc_many_chunks(in->heaps[h]));
	ASC_TRY(asc_parts_do(claims->len, two, count_region, &n, pages));
	for (size_t i = 0; i < claims->len; i++) {
		const struct claim *c = &claims->data[i];

		if (c->kind != CLAIM_REGION)
			continue;
		add_pages(&l->malloc_pages, &pages[i]);
		l->swap += pages[i].swapped;
		if (!c->heap) {
			add_pages(&l->arenas[c->arena].regions[c->i].pages, &pages[i]);
			add_pages(&l->arenas[c->arena].pages, &pages[i]);
		}
	}
	return NULL;
}

static void sum(struct asc_ledger *l)
{
	l->rss = l->malloc_pages.resident + l->mmapped_chunks + l->thread_stacks + l->files +
		 l->shared + l->unknown_anonymous;
	for (size_t i = 0; i < l->nother; i++)
		l->rss += l->other[i].bytes;
}

static struct asc_error *fill(const struct asc_ledger_in *in, struct builder *b, claim_vec *claims)
{
	struct asc_ledger *l = b->l;
	asc_addr start, end;

	if (in->nheaps && in->heaps[0])
		ASC_TRY(arenas_new(in->heaps[0], l));
	if (!l->known)
		return NULL;
	for (size_t h = 0; h < in->nheaps; h++)
		if (in->heaps[h])
			ASC_TRY(claim_heap(claims, in->heaps[h], h));
	cut_overlaps(claims);
	ASC_TRY(find_stacks(in, claims, l));
	/* the size of a stack of this process, to know those of ended threads by */
	for (size_t t = 1; t < in->nthreads && !b->facts.stack_size; t++) {
		ssize_t m = stack_of(in, t, &start, &end);

		if (m > 0 && in->maps->v[m - 1].end == start)
			b->facts.stack_size = in->maps->v[m].end - in->maps->v[m - 1].start;
	}
	/* malloc's claims come first: a stack takes what they leave */
	for (size_t i = 0, n = claims->len, k = 0; i < l->nstacks; i++) {
		struct asc_stack_use *s = &l->stacks[i];
		asc_addr pos = s->start;

		while (k < n && claims->data[k].end <= pos)
			k++;
		for (size_t j = k; pos < s->end; j++) {
			asc_addr to = j < n ? asc_min(claims->data[j].start, s->end) : s->end;

			ASC_TRY(claim(claims, (struct claim){ pos, to, CLAIM_STACK, 0, 0, i }));
			pos = j < n ? asc_max(pos, claims->data[j].end) : s->end;
		}
	}
	cut_overlaps(claims);
	ASC_TRY(walk_maps(b, claims));
	return count_regions(in, claims, l);
}

struct asc_error *asc_ledger_make(const struct asc_ledger_in *in, struct asc_ledger **ret)
{
	struct asc_error *err;
	struct asc_ledger *l = calloc(1, sizeof(*l));
	struct builder b = { .in = in, .l = l };
	claim_vec claims = { 0 };

	if (!l)
		return asc_err(ASC_ENOMEM, "the ledger");
	l->known = in->res && in->res->source != ASC_RESIDENCY_UNKNOWN;
	l->approximate = in->core || in->later;
	l->kernel_rss = in->kernel_rss;
	l->kernel_rss_known = in->kernel_rss_known;
	l->malloc_pages.known = l->malloc_pages.cached_known = l->known;
	for (size_t i = 0; i < in->nheaps; i++)
		l->malloc_pages.cached_known = l->malloc_pages.cached_known &&
					       in->heaps[i]->tcaches_known;
	b.facts = asc_owner_facts(in);
	err = fill(in, &b, &claims);
	asc_vec_free(&claims);
	l->maps = b.maps.data;
	l->nmaps = b.maps.len;
	l->other = b.other.data;
	l->nother = b.other.len;
	if (err) {
		asc_ledger_free(l);
		return err;
	}
	sum(l);
	*ret = l;
	return NULL;
}

void asc_ledger_free(struct asc_ledger *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->narenas; i++)
		free(l->arenas[i].regions);
	for (size_t i = 0; i < l->nother; i++)
		free(l->other[i].name);
	free(l->arenas);
	free(l->other);
	free(l->stacks);
	free(l->maps);
	free(l);
}
