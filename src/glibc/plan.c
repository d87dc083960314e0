/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a capture must copy so that the model can be read from it. For a walk: every region. For
 * lists alone: the lists are followed once here, and the pages that their members' links are on are
 * named, which are few where free chunks are large.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

struct plan {
	struct asc_model *m;
	ASC_VEC(struct asc_range) v;
};

/* Whole pages; what follows the last range joins it. */
static struct asc_error *add(struct plan *p, asc_addr addr, uint64_t len)
{
	const uint64_t page = p->m->h->page_size;
	struct asc_range *last = p->v.len ? &p->v.data[p->v.len - 1] : NULL;
	asc_addr from = asc_align_down(addr, page), end;
	struct asc_range r;

	if (!len || !asc_add(addr, len, &end))
		return NULL;
	end = asc_align_up(end, page);
	if (last && from >= last->addr && from <= last->addr + last->len) {
		last->len = asc_max(last->addr + last->len, end) - last->addr;
		return NULL;
	}
	r = (struct asc_range){ from, end - from };
	return asc_vec_push(&p->v, r);
}

static struct asc_error *add_word(struct plan *p, asc_addr addr)
{
	return addr ? add(p, addr, 8) : NULL;
}

static struct asc_error *add_libc(struct plan *p)
{
	const struct asc_libc *lib = p->m->lib;
	const struct asc_heap *h = p->m->h;
	const asc_addr words[] = { lib->curbrk,
				   lib->narenas,
				   lib->narenas_limit,
				   lib->free_list,
				   lib->list_lock,
				   lib->free_list_lock,
				   lib->global_max_fast,
				   lib->tcache_key,
				   lib->tcache_dummy,
				   lib->single_threaded,
				   lib->multiple_threads,
				   lib->always_fail_morecore,
				   lib->malloc_initialized };

	ASC_TRY(add(p, h->libc_data_start, h->libc_data_end - h->libc_data_start));
	ASC_TRY(add(p, lib->mp, p->m->l->sizeof_malloc_par));
	for (size_t i = 0; i < ASC_ARRAY_SIZE(words); i++)
		ASC_TRY(add_word(p, words[i]));
	return NULL;
}

static struct asc_error *add_threads(struct plan *p)
{
	const struct asc_model *m = p->m;
	const struct asc_thread *threads;
	uint64_t size = asc_max(m->l->sizeof_tcache_perthread_struct, 8);
	size_t n;

	threads = asc_target_threads(m->t, &n);
	for (size_t i = 0; i < n; i++) {
		if (threads[i].regs.tp_valid && threads[i].regs.tp) { /* is it libc's? */
			ASC_TRY(add_word(p, threads[i].regs.tp));
			ASC_TRY(add_word(p, threads[i].regs.tp + 2u * m->l->word));
		}
		ASC_TRY(add_word(
			p, asc_thread_slot(m->t, m->lib, &threads[i], m->lib->thread_arena_off)));
		ASC_TRY(add_word(p,
				 asc_thread_slot(m->t, m->lib, &threads[i], m->lib->tcache_off)));
	}
	for (size_t i = 0; i < m->h->nthreads; i++)
		if (m->h->threads[i].tcache)
			ASC_TRY(add(p, m->h->threads[i].tcache - m->l->hdr, m->l->hdr + size));
	return NULL;
}

static struct asc_error *add_regions(struct plan *p, size_t arena)
{
	const struct asc_arena *a = &p->m->h->arenas[arena];

	for (size_t i = 0; i < a->nregions; i++)
		ASC_TRY(add(p, a->regions[i].start, a->regions[i].end - a->regions[i].start));
	return NULL;
}

/*
 * A walk jumps over free chunks and stops at top: of the large ones only the pages at both ends are
 * wanted. The tops alone can be nearly all of a heap.
 */
static struct asc_error *add_without_large(struct plan *p, size_t arena)
{
	struct asc_model *m = p->m;
	const struct asc_arena *a = &m->h->arenas[arena];
	const struct asc_extents *x = &m->work[arena].members;
	size_t j = 0;

	m->large_only = true;
	ASC_TRY(asc_lists_read(m, arena));
	m->large_only = false;
	ASC_TRY(asc_tops_push(m, arena));
	ASC_TRY(asc_members_settle(m, arena));
	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];
		asc_addr at = r->start;

		for (; j < x->n; j++) {
			struct asc_chunk c = asc_extent_at(x, j);
			asc_addr hole = asc_align_up(c.addr + 64, m->h->page_size);

			if (c.addr >= r->end)
				break;
			if (c.addr < at || c.size < ASC_PLAN_LARGE)
				continue;
			ASC_TRY(add(p, at, hole - at));
			at = asc_align_down(c.addr + c.size - 16, m->h->page_size);
		}
		if (at < r->end)
			ASC_TRY(add(p, at, r->end - at));
	}
	return NULL;
}

static struct asc_error *add_lists(struct plan *p, size_t arena)
{
	struct asc_model *m = p->m;
	const struct asc_arena *a = &m->h->arenas[arena];
	bool pieces = m->work[arena].pieces;
	uint64_t node = 6u * m->l->word;

	ASC_TRY(asc_lists_read(m, arena));
	ASC_TRY(asc_tops_push(m, arena));
	ASC_TRY(asc_members_settle(m, arena));
	if (pieces) {
		/* to find them again every chunk of theirs is needed */
		ASC_TRY(asc_pieces_find(m));
		ASC_TRY(add_regions(p, arena));
	}
	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];

		if (r->heap_info)
			ASC_TRY(add(p, r->start, r->first - r->start + node));
	}
	for (size_t i = 0; i < m->work[arena].members.n; i++)
		ASC_TRY(add(p, asc_extent_at(&m->work[arena].members, i).addr, node));
	return NULL;
}

/*
 * A long list over much memory costs a system call a member: beyond some number of them copying
 * everything is cheaper, and following the list in the copy.
 */
static uint64_t affordable(const struct asc_model *m)
{
	enum { BYTES_A_MISS = 16384, AT_LEAST = 2000 };
	uint64_t bytes = 0;

	for (size_t i = 0; i < m->refs.len; i++) {
		const struct asc_region_ref *r = &m->refs.data[i];

		if (m->res && m->res->source != ASC_RESIDENCY_UNKNOWN)
			bytes += asc_resident_bytes(m->res, r->start, r->end);
		else
			bytes += r->end - r->start;
	}
	return AT_LEAST + bytes / BYTES_A_MISS;
}

static struct asc_error *add_arenas(struct plan *p)
{
	struct asc_model *m = p->m;
	bool whole = m->opts->depth == ASC_DEPTH_WALK, lists = m->opts->depth == ASC_DEPTH_LISTS;

	for (size_t i = 0; i < m->h->narenas; i++) {
		ASC_TRY(add(p, m->h->arenas[i].addr, m->l->sizeof_malloc_state));
		if (lists && !whole) {
			/* pieces can only be found with their members */
			m->cache.misses_max = m->work[i].pieces ? 0 : affordable(m);
			ASC_TRY(add_lists(p, i));
			whole = m->cache.misses_max && m->cache.misses > m->cache.misses_max;
			m->cache.misses_max = 0;
		}
	}
	if (whole)
		m->cache.misses_max = m->cache.misses + affordable(m);
	for (size_t i = 0; i < m->h->narenas && whole; i++) {
		if (m->work[i].pieces)
			ASC_TRY(add_lists(p, i));
		else if (m->opts->depth == ASC_DEPTH_WALK)
			ASC_TRY(add_without_large(p, i));
		else
			ASC_TRY(add_regions(p, i));
	}
	m->cache.misses_max = 0;
	return NULL;
}

static struct asc_error *make(struct plan *p)
{
	struct asc_model *m = p->m;

	bool headers = m->opts->depth == ASC_DEPTH_HEADERS;
	struct asc_mmapped c;

	ASC_TRY(asc_model_open(m));
	if (!headers)
		ASC_TRY(asc_heap_threads(m));
	ASC_TRY(add_libc(p));
	ASC_TRY(add_threads(p));
	ASC_TRY(add_arenas(p));
	if (headers)
		return NULL;
	ASC_TRY(asc_mmapped_read(m));
	for (size_t i = 0; asc_mmapped_next(m->h, &i, &c);)
		ASC_TRY(add(p, c.start, m->h->page_size));
	return NULL;
}

uint64_t asc_heap_walk_bytes(struct asc_target *t, const struct asc_libc *lib,
			     const struct asc_residency *res)
{
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_HEADERS };
	struct asc_model m = { .t = t, .lib = lib, .l = &lib->layout, .res = res, .opts = &opts };
	struct asc_error *err = asc_model_open(&m);
	uint64_t bytes = 0;

	for (size_t i = 0; !err && i < m.h->narenas; i++)
		bytes += asc_arena_walk_bytes(&m, i);
	asc_error_free(err);
	asc_model_close(&m);
	return bytes;
}

struct asc_error *asc_heap_plan(struct asc_target *t, const struct asc_libc *lib,
				const struct asc_residency *res, enum asc_depth depth,
				struct asc_range **ret, size_t *ret_n)
{
	struct asc_heap_opts opts = { .depth = depth };
	struct asc_model m = { .t = t, .lib = lib, .l = &lib->layout, .res = res, .opts = &opts };
	struct plan p = { .m = &m };
	struct asc_error *err = make(&p);

	asc_model_close(&m);
	if (err) {
		asc_vec_free(&p.v);
		return asc_wrap(err, "planning what to read of the heap");
	}
	*ret = p.v.data;
	*ret_n = p.v.len;
	return NULL;
}
