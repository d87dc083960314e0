/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where an arena's chunks are. Non-main arenas: heaps, found from top by their prev links. The main
 * arena: from sbrk_base to the end of top; when it has several pieces these are recorded nowhere,
 * and the regions made here are the zones they may lie in until chunk_pieces.c has walked them.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

asc_addr asc_first_chunk(const struct asc_layout *l, asc_addr addr)
{
	return asc_align_up(addr + l->hdr, l->malloc_alignment) - l->hdr;
}

bool asc_map_anonymous(const struct asc_map *map)
{
	bool rw = !map->flags_known ||
		  (map->flags & (ASC_MAP_READ | ASC_MAP_WRITE)) == (ASC_MAP_READ | ASC_MAP_WRITE);

	if (!strncmp(map->path, "/anon_hugepage", 14))
		return rw && !(map->flags & ASC_MAP_SHARED);
	return rw && !(map->flags & ASC_MAP_SHARED) && !map->inode &&
	       (!map->path[0] || !strcmp(map->path, "[heap]") || !strncmp(map->path, "[anon", 5));
}

struct asc_error *asc_region_add(struct asc_model *m, size_t arena, struct asc_region r)
{
	struct asc_arena *a = &m->h->arenas[arena];
	struct asc_region *v;

	v = reallocarray(a->regions, a->nregions + 1, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu regions", a->nregions + 1);
	v[a->nregions++] = r;
	a->regions = v;
	return asc_model_need(m, sizeof(r));
}

static int by_start(const void *a, const void *b)
{
	const struct asc_region *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int ref_by_start(const void *a, const void *b)
{
	const struct asc_region_ref *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

struct asc_error *asc_regions_index(struct asc_model *m)
{
	m->refs.len = 0;
	for (size_t i = 0; i < m->h->narenas; i++) {
		struct asc_arena *a = &m->h->arenas[i];

		if (a->nregions)
			qsort(a->regions, a->nregions, sizeof(*a->regions), by_start);
		for (size_t j = 0; j < a->nregions; j++) {
			struct asc_region_ref ref = { a->regions[j].start, a->regions[j].end, i,
						      j };

			ASC_TRY(asc_vec_push(&m->refs, ref));
		}
	}
	if (m->refs.len)
		qsort(m->refs.data, m->refs.len, sizeof(*m->refs.data), ref_by_start);
	return NULL;
}

const struct asc_region_ref *asc_region_at(const struct asc_model *m, asc_addr addr)
{
	size_t lo = ASC_SEEK(m->refs.len, i, m->refs.data[i].end <= addr);

	if (lo == m->refs.len || m->refs.data[lo].start > addr)
		return NULL;
	return &m->refs.data[lo];
}

static bool have_region(const struct asc_arena *a, asc_addr start)
{
	for (size_t i = a->nregions; i--;)
		if (a->regions[i].start == start)
			return true;
	return false;
}

/* The heap_info at @p h as a region. @return what is wrong with it, NULL if nothing is */
static const char *read_heap(struct asc_model *m, const struct asc_arena *a, asc_addr h,
			     struct asc_region *ret, asc_addr *ret_prev)
{
	const struct asc_layout *l = m->l;
	struct asc_region r = { .start = h, .heap_info = h };
	uint64_t ar_ptr, size;
	bool own;

	if (!h || h & (m->heap_max - 1))
		return "no heap can be at this address";
	if (!asc_model_field(m, h, l->_heap_info_ar_ptr, &ar_ptr) ||
	    !asc_model_field(m, h, l->_heap_info_prev, ret_prev) ||
	    !asc_model_field(m, h, l->_heap_info_size, &size) ||
	    !asc_model_field(m, h, l->_heap_info_mprotect_size, &r.mprotect_size))
		return "its header is not readable";
	asc_model_field(m, h, l->_heap_info_pagesize, &r.pagesize);
	if (ar_ptr != a->addr)
		return "its ar_ptr is not this arena";
	own = h + l->sizeof__heap_info == a->addr;
	r.first = asc_first_chunk(l, h + l->sizeof__heap_info + (own ? l->sizeof_malloc_state : 0));
	if (size > r.mprotect_size || r.mprotect_size > m->heap_max)
		return "size <= mprotect_size <= HEAP_MAX does not hold";
	if (size % m->h->page_size || h + size < r.first + l->minsize)
		return "its size is not one";
	if (own != (*ret_prev == 0))
		return "its prev is not one";
	r.end = h + size;
	r.has_top = a->top >= r.first && a->top < r.end;
	*ret = r;
	return NULL;
}

static struct asc_error *bad_heap(struct asc_model *m, size_t arena, asc_addr h, const char *what)
{
	m->h->complete = false;
	return asc_model_find(m, "C-HEAP", (struct asc_at){ .arena = (int)arena, .addr = h },
			      "heap_info: %s; heaps behind it are not found", what);
}

/* Heaps from the one of top back to the arena's own. */
static struct asc_error *find_heaps(struct asc_model *m, size_t arena)
{
	struct asc_arena *a = &m->h->arenas[arena];
	asc_addr h = a->top & ~(m->heap_max - 1), own = a->addr - m->l->sizeof__heap_info;
	uint64_t sum = 0;
	struct asc_region r;
	const char *what;
	asc_addr prev;

	while (h) {
		what = read_heap(m, a, h, &r, &prev);
		/* every heap has a size, so a cycle soon exceeds what there can be */
		if (!what && (sum > a->system_mem || have_region(a, h)))
			what = "the chain of heaps does not end";
		if (what) {
			ASC_TRY(bad_heap(m, arena, h, what));
			break;
		}
		sum += r.end - r.start;
		ASC_TRY(asc_region_add(m, arena, r));
		h = prev;
	}
	if (!have_region(a, own)) {
		what = read_heap(m, a, own, &r, &prev);
		if (what)
			return bad_heap(m, arena, own, what);
		ASC_TRY(asc_region_add(m, arena, r));
	}
	return NULL;
}

static struct asc_error *add_zone(struct asc_model *m, asc_addr start, asc_addr end)
{
	struct asc_region r = { .start = start, .end = end };

	if (start >= end)
		return NULL;
	r.first = asc_first_chunk(m->l, start);
	r.has_top = m->h->arenas[0].top >= start && m->h->arenas[0].top < end;
	return asc_region_add(m, 0, r);
}

/* Anonymous memory without the room of other arenas' heaps. */
static struct asc_error *main_zones(struct asc_model *m)
{
	const struct asc_maps *maps = asc_target_maps(m->t);

	ASC_TRY(asc_regions_index(m));
	/* add_zone() appends to arena 0, whose regions the index does not hold yet */
	for (size_t i = 0; i < maps->n; i++) {
		asc_addr at = maps->v[i].start, end = maps->v[i].end;

		if (!asc_map_anonymous(&maps->v[i]))
			continue;
		for (size_t j = 0; j < m->refs.len && m->refs.data[j].start < end; j++) {
			asc_addr heap = m->refs.data[j].start, heap_end = heap + m->heap_max;

			if (heap_end <= at)
				continue;
			ASC_TRY(add_zone(m, at, asc_min(heap, end)));
			at = asc_max(at, heap_end);
		}
		ASC_TRY(add_zone(m, at, end));
	}
	m->work[0].pieces = true;
	return NULL;
}

static struct asc_error *main_regions(struct asc_model *m)
{
	struct asc_arena *a = &m->h->arenas[0];
	asc_addr base = m->h->params.sbrk_base, end, top_end;
	struct asc_region r = { .start = base, .has_top = true };

	r.first = asc_first_chunk(m->l, base);
	if (a->noncontiguous || !asc_add(base, a->system_mem, &end) || a->top < base ||
	    a->top >= end)
		return main_zones(m);
	if (!asc_add(a->top, a->top_size, &top_end))
		top_end = UINT64_MAX;
	r.end = end;
	if (top_end != end) {
		/* a top that ends a page is better evidence than the sum; a wild one is damage */
		bool sane = top_end < end && top_end % m->h->page_size == 0 &&
			    a->top_size >= m->l->minsize;

		if (sane)
			r.end = top_end;
		ASC_TRY(asc_model_find(m, "S-MAIN-EXTENT", (struct asc_at){ .addr = a->top },
				       "top ends at 0x%" PRIx64
				       ", but sbrk_base + system_mem is 0x%" PRIx64
				       ": the top's size is damaged, or brk was moved",
				       top_end, end));
	}
	return asc_region_add(m, 0, r);
}

struct asc_error *asc_regions_find(struct asc_model *m, size_t arena)
{
	const struct asc_arena *a = &m->h->arenas[arena];

	if (!a->system_mem || !a->top || a->top == asc_bin_at(m->l, a->addr, 1))
		return NULL;
	return arena == 0 ? main_regions(m) : find_heaps(m, arena);
}
