/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Each arena's chunks laid over its regions: top and fenceposts, the walks, the sums. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/sweep.h"
#include "glibc/walk.h"

static struct asc_error *push_top(struct asc_model *m, size_t arena, const struct asc_region *r)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	uint64_t raw, room = r->end - a->top;
	struct asc_at at = { .arena = (int)arena, .addr = a->top };

	if (!asc_chunk_aligned(m, a->top))
		return asc_model_find(m, "C-TOP", at, "the top pointer is not aligned");
	if (!asc_model_word(m, a->top + m->l->word, &raw))
		return asc_model_find(m, "C-TOP", at, "the top chunk is not readable");
	if (!(raw & 1) || (raw & ~(uint64_t)7) != room || room < m->l->minsize)
		ASC_TRY(asc_model_find(m, "C-TOP", at,
				       "\"corrupted top size\": the size field is 0x%" PRIx64
				       ", to the end of the heap it is 0x%" PRIx64,
				       raw, room));
	return asc_member_push(m, arena, a->top, room, ASC_TOP);
}

/* A heap that was full ends with a header of size 0, mostly with one of size HDR before it. */
static struct asc_error *push_fence(struct asc_model *m, size_t arena, const struct asc_region *r)
{
	const struct asc_layout *l = m->l;
	asc_addr q = r->end - (l->minsize - l->hdr), f;
	uint64_t raw;

	for (unsigned slack = 0; slack < l->malloc_alignment; slack += l->hdr, q -= l->hdr) {
		if (!asc_model_word(m, q + l->word, &raw) || (raw & ~(uint64_t)6) != 1)
			continue;
		f = q - l->hdr;
		if (asc_chunk_aligned(m, f) && asc_model_word(m, f + l->word, &raw) &&
		    (raw & ~(uint64_t)7) == l->hdr)
			ASC_TRY(asc_member_push(m, arena, f, l->hdr, ASC_FENCE));
		else if (!asc_chunk_aligned(m, q))
			continue;
		return asc_member_push(m, arena, q, r->end - q, ASC_FENCE);
	}
	return asc_model_find(
		m, "C-FENCE",
		(struct asc_at){ .arena = (int)arena, .addr = r->end - (l->minsize - l->hdr) },
		"the fencepost at the end of a full heap was overwritten");
}

struct asc_error *asc_tops_push(struct asc_model *m, size_t arena)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	bool have_top = false;

	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];

		if (r->has_top && !have_top) {
			have_top = true;
			/* in pieces the region is only a zone: top's own size is all there is */
			if (m->work[arena].pieces)
				ASC_TRY(asc_member_push(m, arena, a->top,
							asc_min(a->top_size, r->end - a->top),
							ASC_TOP));
			else
				ASC_TRY(push_top(m, arena, r));
		} else if (r->heap_info) {
			ASC_TRY(push_fence(m, arena, r));
		}
	}
	if (a->nregions && !have_top)
		return asc_model_find(m, "C-TOP",
				      (struct asc_at){ .arena = (int)arena, .addr = a->top },
				      "top is in no heap of the arena");
	return NULL;
}

/*
 * First member at or behind @p addr. @p near: where it may be, from which on those in a file are looked at in
 * steps that double, so that few pages of it are.
 */
static size_t seek(const struct asc_extents *x, asc_addr addr, size_t near)
{
	size_t lo = 0, hi = x->n;

	if (near && near <= x->n && asc_extent_at(x, near - 1).addr < addr) {
		size_t step = 1;

		for (lo = near; lo + step < x->n && asc_extent_at(x, lo + step).addr < addr;
		     step *= 2)
			;
		hi = (size_t)asc_min(lo + step + 1, x->n);
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (asc_extent_at(x, mid).addr < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

#define shrink(v)                                                                                  \
	do {                                                                                       \
		void *shrink_p_ = (v)->len ? realloc((v)->data, (v)->len * sizeof(*(v)->data))     \
					   : NULL;                                                 \
		if (shrink_p_)                                                                     \
			(v)->data = shrink_p_;                                                     \
	} while (0)

static void keep_tables(struct asc_walk *w, struct asc_region *r)
{
	r->nchunks = w->chunks.len;
	r->chunks_on_disk = w->spill.words;
	if (r->chunks_on_disk) {
		r->chunks = asc_spill_end(&w->spill, w->m->spill_fd, r->nchunks);
		w->chunks.data = NULL;
	} else {
		shrink(&w->chunks);
		r->chunks = asc_take(w->chunks.data);
	}
	shrink(&w->spans);
	shrink(&w->index);
	r->spans = asc_take(w->spans.data);
	r->nspans = w->spans.len;
	r->index = asc_take(w->index.data);
	r->nindex = w->index.len;
	w->chunks.len = w->spans.len = w->index.len = 0;
}

/* The words that were swept become the table of chunks, in place: it never gets ahead of them. */
static void take_sweep(struct asc_walk *w, const struct asc_arena *a, struct asc_arena_work *work)
{
	size_t i = (size_t)(w->region - a->regions);
	struct asc_sweep *s;

	if (i >= work->nsweeps || work->sweeps[i].first != w->p)
		return;
	s = &work->sweeps[i];
	w->swept = w->chunks.data = asc_take(s->raw.data);
	w->nswept = s->raw.len;
	w->chunks.cap = s->raw.cap;
	s->raw.len = s->raw.cap = 0;
}

typedef ASC_VEC(struct asc_chunk) chunk_vec;

static struct asc_error *walk_region(struct asc_model *m, size_t arena, struct asc_region *r,
				     chunk_vec *unlisted)
{
	struct asc_arena *a = &m->h->arenas[arena];
	const struct asc_extents *x = &m->work[arena].members;
	struct asc_walk w = { .m = m, .arena = arena, .region = r, .keep = true, .members = x };
	struct asc_error *err;

	w.p = r->first;
	w.end = r->end;
	w.member = seek(x, r->first, 0);
	w.member_end = seek(x, r->end, 0);
	take_sweep(&w, a, &m->work[arena]);
	err = asc_walk(&w);
	for (size_t i = 0; i < w.unlisted.len && !err; i++)
		err = asc_vec_push(unlisted, w.unlisted.data[i]);
	if (!err) {
		r->unwalked = w.unwalked;
		a->foreign_bytes += w.foreign;
		a->counts[ASC_INUSE] += w.counts[ASC_INUSE];
		a->bytes[ASC_INUSE] += w.bytes[ASC_INUSE];
		keep_tables(&w, r);
	}
	asc_walk_deinit(&w);
	return err;
}

struct asc_error *asc_arena_walk(struct asc_model *m, size_t arena)
{
	struct asc_arena *a = &m->h->arenas[arena];
	chunk_vec more = { 0 };
	struct asc_error *err = NULL;

	for (size_t i = 0; i < a->nregions && !err; i++)
		err = walk_region(m, arena, &a->regions[i], &more);
	for (size_t i = 0; i < more.len && !err; i++)
		err = asc_member_push(m, arena, more.data[i].addr, more.data[i].size,
				      more.data[i].state);
	if (more.len && !err)
		err = asc_members_sort(m, arena);
	a->in_use_known = true;
	asc_vec_free(&more);
	return err;
}

/*
 * Those of an arena that is done leave memory while there is room for the next one: as many small arenas are
 * not a table each in the file from the beginning, which costs a millisecond each.
 */
static void leave_memory(struct asc_model *m, struct asc_extents *x)
{
	uint64_t *v;

	if (m->opts->depth != ASC_DEPTH_LISTS || !m->memory_max ||
	    m->memory <= m->memory_max / 4 * 3)
		return;
	if (m->spill_fd < 0 && m->opts->spill_fd <= 0)
		return; /* nothing is opened in a stop for this alone */
	asc_error_free(asc_model_spill(m));
	v = m->spill_fd < 0 ? NULL : asc_spill_put(m->spill_fd, x->v, x->n);
	if (!v)
		return;
	free(x->v);
	m->memory -= asc_min(m->memory, x->n * sizeof(*v));
	x->v = v;
	x->on_disk = true;
}

/* The members are complete, and leave the work for the arena. */
static void keep_extents(struct asc_model *m, size_t arena)
{
	struct asc_arena *a = &m->h->arenas[arena];
	struct asc_arena_work *w = &m->work[arena];
	uint64_t *v = NULL;

	a->extents = w->members;
	if (a->extents.on_disk)
		a->extents.v = asc_spill_end(&w->spill, m->spill_fd, a->extents.n);
	else if (a->extents.n)
		v = realloc(a->extents.v, a->extents.n * sizeof(*v));
	if (v) {
		a->extents.v = v;
		m->memory -= asc_min(m->memory, (w->members_cap - a->extents.n) * sizeof(*v));
		leave_memory(m, &a->extents);
	}
	w->members = (struct asc_extents){ 0 };
	w->members_cap = 0;
}

struct asc_error *asc_arena_finish(struct asc_model *m, size_t arena)
{
	struct asc_arena *a = &m->h->arenas[arena];
	const struct asc_extents *x = &a->extents;
	uint64_t covered = 0;
	size_t from, to = 0;

	keep_extents(m, arena);
	for (size_t i = 0; i < a->nregions; i++) {
		struct asc_region *r = &a->regions[i];

		from = seek(x, r->first, to);
		to = seek(x, r->end, from);
		if (x->on_disk)
			asc_spill_drop(x->v, 0, x->n);
		r->extents = *x;
		r->extents.v = x->v ? x->v + from : NULL;
		r->extents.n = to - from;
		a->header_bytes += r->first - r->start;
		a->unwalked_bytes += r->unwalked;
		covered += r->end - r->start;
	}
	for (size_t i = 0; i < x->n; i++) {
		enum asc_state state = asc_extent_state(x->v[i]);
		uint64_t size = asc_extent_size(x, x->v[i]);

		if (x->on_disk && i % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(x->v, 0, i);
		a->counts[state]++;
		a->bytes[state] += size ? size : asc_extent_at(x, i).size;
	}
	if (x->on_disk)
		asc_spill_drop(x->v, 0, x->n);
	if (covered >= a->system_mem)
		return NULL;
	a->unwalked_bytes += a->system_mem - covered;
	m->h->complete = false;
	return asc_model_find(
		m, "S-EXTENT",
		(struct asc_at){
			.arena = (int)arena, .addr = a->addr, .unwalked = a->system_mem - covered },
		"system_mem is %" PRIu64 " bytes, but only %" PRIu64 " bytes of heap were found",
		a->system_mem, covered);
}
