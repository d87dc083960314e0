/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an address is. */
#include <string.h>

#include "base/num.h"
#include "glibc/heap.h"

static const struct asc_region *region_at(const struct asc_arena *a, asc_addr addr)
{
	size_t lo = ASC_SEEK(a->nregions, i, a->regions[i].end <= addr);

	return lo < a->nregions && a->regions[lo].start <= addr ? &a->regions[lo] : NULL;
}

static bool mmapped_at(const struct asc_heap *h, asc_addr addr, struct asc_mmapped *ret)
{
	size_t behind = ASC_SEEK(h->mmapped.n, i, asc_mmapped_at(h, i).start <= addr);

	if (!behind)
		return false;
	*ret = asc_mmapped_at(h, behind - 1);
	return addr - ret->start < ret->total;
}

/* An indexed chunk before @p addr in span @p si, so far before it that its neighbour is met, too. */
static void start_near(const struct asc_region *r, size_t si, asc_addr addr,
		       struct asc_chunk_iter *it)
{
	enum { EVERY = 4096 };
	const struct asc_span *s = &r->spans[si];
	size_t lo = ASC_SEEK(r->nindex, i, r->index[i] <= addr);

	*it = (struct asc_chunk_iter){ .region = r, .span = si, .addr = s->start };
	if (lo < 2 || (lo - 2) * EVERY < s->first)
		return;
	it->i = (lo - 2) * EVERY - s->first;
	it->addr = r->index[lo - 2];
}

static void find_chunk(const struct asc_region *r, asc_addr addr, struct asc_where *w)
{
	struct asc_chunk_iter it;
	struct asc_chunk c, prev = { 0 };
	size_t lo = ASC_SEEK(r->nspans, i, r->spans[i].end <= addr);

	if (lo == r->nspans || r->spans[lo].start > addr)
		return;
	start_near(r, lo, addr, &it);
	while (it.span == lo && asc_chunk_next(&it, &c)) {
		if (addr < c.addr + c.size) {
			w->have_chunk = true;
			w->chunk = c;
			w->prev = prev;
			if (asc_chunk_next(&it, &c) && c.addr == w->chunk.addr + w->chunk.size)
				w->next = c;
			return;
		}
		prev = c;
	}
}

static asc_addr extent_end(const struct asc_extents *x, size_t i)
{
	struct asc_chunk c = asc_extent_at(x, i);

	return c.addr + c.size;
}

/* Without a walk only free chunks are known. */
static void find_extent(const struct asc_region *r, asc_addr addr, struct asc_where *w)
{
	size_t lo = ASC_SEEK(r->extents.n, i, extent_end(&r->extents, i) <= addr);

	if (lo == r->extents.n || asc_extent_at(&r->extents, lo).addr > addr)
		return;
	w->have_chunk = true;
	w->chunk = asc_extent_at(&r->extents, lo);
}

static const struct asc_heap_thread *owner(const struct asc_heap *h, asc_addr chunk)
{
	for (size_t i = 0; i < h->nthreads; i++) {
		const struct asc_heap_thread *t = &h->threads[i];
		size_t lo = ASC_SEEK(t->nentries, k, t->entries[k] < chunk);

		if (lo < t->nentries && t->entries[lo] == chunk)
			return t;
	}
	return NULL;
}

static void find_list(const struct asc_heap *h, struct asc_where *w)
{
	const struct asc_chunk *c = &w->chunk;

	switch (c->state) {
	case ASC_TCACHE:
		w->tcache_owner = owner(h, c->addr);
		w->bin = (int)asc_tcache_index(&h->libc, c->size);
		break;
	case ASC_FASTBIN:
		w->bin = (int)asc_fastbin_index(&h->libc, c->size);
		break;
	case ASC_UNSORTED:
		w->bin = 1;
		break;
	case ASC_SMALL:
	case ASC_LARGE:
		w->bin = (int)asc_bin_index(&h->libc, c->size);
		break;
	case ASC_INUSE:
	case ASC_TOP:
	case ASC_FENCE:
		break;
	}
}

bool asc_heap_where(const struct asc_heap *h, asc_addr addr, struct asc_where *ret)
{
	struct asc_where w = { .bin = -1 };

	for (size_t i = 0; i < h->narenas && !w.region; i++) {
		const struct asc_arena *a = &h->arenas[i];

		w.region = region_at(a, addr);
		if (w.region || (addr >= a->addr && addr < a->addr + h->libc.malloc_state_size))
			w.arena = a;
		if (w.arena)
			break;
	}
	w.in_mmapped = !w.arena && mmapped_at(h, addr, &w.mmapped);
	if (!w.arena && !w.in_mmapped)
		return false;
	w.in_header = w.arena && (!w.region || addr < w.region->first);
	if (w.region && !w.in_header) {
		if (h->walked)
			find_chunk(w.region, addr, &w);
		else
			find_extent(w.region, addr, &w);
	}
	if (w.have_chunk)
		find_list(h, &w);
	*ret = w;
	return true;
}
