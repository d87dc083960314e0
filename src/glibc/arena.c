/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mp_, the ring of arenas, and each arena's header (struct malloc_state). */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

/* glibc makes at most 8 arenas a core, or arena_max. */
enum { ARENAS_MAX = 65536 };

static bool get(struct asc_target *t, asc_addr base, struct asc_field f, uint64_t *ret)
{
	uint64_t v;
	struct asc_error *err;

	if (!f.present)
		return false;
	err = asc_field_u64(t, base, f, &v);
	if (err) {
		asc_error_free(err);
		return false;
	}
	*ret = v;
	return true;
}

/* An integer variable whose address may be unknown. */
static bool get_var(struct asc_target *t, asc_addr addr, size_t size, uint64_t *ret)
{
	struct asc_field f = { .present = addr != 0, .size = (uint32_t)size };

	return get(t, addr, f, ret);
}

static void single_threaded(struct asc_target *t, const struct asc_libc *lib, struct asc_params *p)
{
	uint64_t v;

	if (!lib->layout.single_thread_unlocked) {
		p->single_threaded_known = true;
	} else if (get_var(t, lib->single_threaded, 1, &v)) {
		p->single_threaded_known = true;
		p->single_threaded = v != 0;
	} else if (get_var(t, lib->multiple_threads, 4, &v)) {
		p->single_threaded_known = true;
		p->single_threaded = v == 0;
	}
}

struct asc_error *asc_params_read(struct asc_target *t, const struct asc_libc *lib,
				  struct asc_params *p)
{
	const struct asc_layout *l = &lib->layout;
	uint64_t lock;

#define GET(member) get(t, lib->mp, l->malloc_par_##member, &p->member)
	if (!GET(trim_threshold) || !GET(top_pad) || !GET(mmap_threshold) || !GET(arena_test) ||
	    !GET(arena_max) || !GET(n_mmaps) || !GET(n_mmaps_max) || !GET(max_n_mmaps) ||
	    !GET(no_dyn_threshold) || !GET(mmapped_mem) || !GET(max_mmapped_mem) || !GET(sbrk_base))
		return asc_err(ASC_EFAULT, "mp_ at 0x%" PRIx64 " is not readable", lib->mp);
	p->has_thp_mode = GET(thp_mode);
	p->has_thp = GET(thp_pagesize);
	p->has_hp = GET(hp_pagesize) && GET(hp_flags);
	p->has_max_total_mem = GET(max_total_mem);
	p->has_tcache = GET(tcache_max_bytes) && GET(tcache_count);
	if (!GET(tcache_bins))
		get(t, lib->mp, l->malloc_par_tcache_small_bins, &p->tcache_bins);
	p->has_tcache_unsorted_limit = GET(tcache_unsorted_limit);
#undef GET
	p->global_max_fast_known =
		get_var(t, lib->global_max_fast,
			lib->global_max_fast_size ? lib->global_max_fast_size : l->word,
			&p->global_max_fast);
	p->narenas_known = get_var(t, lib->narenas, l->word, &p->narenas);
	p->narenas_limit_known = get_var(t, lib->narenas_limit, l->word, &p->narenas_limit);
	p->curbrk_known = get_var(t, lib->curbrk, l->word, &p->curbrk);
	single_threaded(t, lib, p);
	p->list_lock_known = get_var(t, lib->list_lock, 4, &lock);
	p->list_lock = p->list_lock_known ? (uint32_t)lock : 0;
	p->free_list_lock_known = get_var(t, lib->free_list_lock, 4, &lock);
	p->free_list_lock = p->free_list_lock_known ? (uint32_t)lock : 0;
	return NULL;
}

uint64_t asc_heap_max(const struct asc_layout *l, uint64_t hp_pagesize)
{
	uint64_t four;

	if (l->heap_max_is_4hp && hp_pagesize && asc_is_pow2(hp_pagesize) &&
	    asc_mul(hp_pagesize, 4, &four))
		return four;
	return l->heap_max;
}

/* Is there an arena at @p a: does the heap it lies in say so? */
static bool arena_like(struct asc_target *t, const struct asc_libc *lib, asc_addr a,
		       uint64_t heap_max)
{
	const struct asc_layout *l = &lib->layout;
	asc_addr h = a & ~(heap_max - 1);
	uint64_t ar_ptr;

	return a % l->word == 0 && a == h + l->sizeof__heap_info &&
	       get(t, h, l->_heap_info_ar_ptr, &ar_ptr) && ar_ptr == a;
}

/* The list came back to v[at], not to its start: keep every arena once. */
static size_t cut_cycle(const asc_addr *v, size_t n, size_t at)
{
	size_t len = n - at, i = 0;

	while (i + len < n && v[i] != v[i + len])
		i++;
	return i + len;
}

struct asc_error *asc_arena_ring(struct asc_target *t, const struct asc_libc *lib, asc_addr **ret,
				 size_t *ret_n, bool *ret_broken)
{
	const struct asc_layout *l = &lib->layout;
	ASC_VEC(asc_addr) v = { 0 };
	struct asc_error *err = NULL;
	uint64_t hp = 0, heap_max;
	asc_addr a = lib->main_arena;
	size_t tortoise = 0, step = 1;
	bool broken = false;

	get(t, lib->mp, l->malloc_par_hp_pagesize, &hp);
	heap_max = asc_heap_max(l, hp);
	do {
		err = asc_vec_push(&v, a);
		if (err)
			break;
		if (!get(t, a, l->malloc_state_next, &a)) {
			if (v.len == 1)
				err = asc_err(ASC_EFAULT,
					      "main_arena at 0x%" PRIx64 " is not readable",
					      lib->main_arena);
			broken = true;
			break;
		}
		if (a == lib->main_arena)
			break;
		if (a == v.data[tortoise]) {
			v.len = cut_cycle(v.data, v.len, tortoise);
			broken = true;
			break;
		}
		if (v.len == step) {
			tortoise = v.len - 1;
			step *= 2;
		}
		if (v.len >= ARENAS_MAX || !arena_like(t, lib, a, heap_max))
			broken = true;
	} while (!broken);
	if (err) {
		asc_vec_free(&v);
		return err;
	}
	*ret = v.data;
	*ret_n = v.len;
	*ret_broken = broken;
	return NULL;
}

asc_addr asc_bin_at(const struct asc_layout *l, asc_addr arena, unsigned i)
{
	return arena + l->malloc_state_bins.off + (uint64_t)(i - 1) * 2 * l->word - l->hdr;
}

static struct asc_error *read_header(struct asc_model *m, size_t i)
{
	const struct asc_layout *l = m->l;
	struct asc_arena *a = &m->h->arenas[i];
	uint64_t mutex = 0, flags = 0, size;

#define GET(member) asc_model_field(m, a->addr, l->malloc_state_##member, &a->member)
	if (!asc_model_field(m, a->addr, l->malloc_state_mutex, &mutex) ||
	    !asc_model_field(m, a->addr, l->malloc_state_flags, &flags) || !GET(top) ||
	    !GET(next) || !GET(system_mem) || !GET(max_system_mem)) {
		if (i == 0)
			return asc_err(ASC_EFAULT, "main_arena at 0x%" PRIx64 " is not readable",
				       a->addr);
		m->h->complete = false;
		return asc_model_find(m, "C-ARENA",
				      (struct asc_at){ .arena = (int)i, .addr = a->addr },
				      "the arena's header is not readable");
	}
	a->mutex = (uint32_t)mutex;
	a->flags = (uint32_t)flags;
	a->noncontiguous = flags & 2;
	a->initialised = a->top != 0;
	GET(last_remainder);
	GET(next_free);
	a->attached_known = GET(attached_threads);
#undef GET
	if (l->malloc_state_have_fastchunks.present)
		a->have_fastchunks =
			asc_model_field(m, a->addr, l->malloc_state_have_fastchunks, &size) && size;
	else
		a->have_fastchunks = l->fastchunks_flag_inverted && !(flags & 1);
	a->busy = a->mutex != 0 || m->opts->in_malloc;
	if (a->busy)
		m->h->complete = false;
	/* before its first use top points into the arena itself, where a size of 0 is read */
	if (a->top && a->top != asc_bin_at(l, a->addr, 1) &&
	    asc_model_word(m, a->top + l->word, &size))
		a->top_size = size & ~(uint64_t)7;
	return NULL;
}

/* Which arenas are on the free list: no thread uses them. */
static void read_free_list(struct asc_model *m)
{
	struct asc_heap *h = m->h;
	uint64_t at;

	if (!m->lib->free_list || !m->l->malloc_state_next_free.present ||
	    !asc_model_word(m, m->lib->free_list, &at))
		return;
	for (size_t budget = h->narenas; at && budget; budget--) {
		size_t i = 0;

		while (i < h->narenas && h->arenas[i].addr != at)
			i++;
		if (i == h->narenas || h->arenas[i].on_free_list)
			return;
		h->arenas[i].on_free_list = true;
		at = h->arenas[i].next_free;
	}
}

struct asc_error *asc_arenas_read(struct asc_model *m)
{
	struct asc_heap *h = m->h;
	ASC_AUTO(asc_freep) asc_addr *ring = NULL;
	bool broken;
	size_t n;

	ASC_TRY(asc_arena_ring(m->t, m->lib, &ring, &n, &broken));
	h->arenas = calloc(n, sizeof(*h->arenas));
	m->work = calloc(n, sizeof(*m->work));
	if (!h->arenas || !m->work)
		return asc_err(ASC_ENOMEM, "%zu arenas", n);
	h->narenas = m->nwork = n;
	h->ring_broken = broken;
	for (size_t i = 0; i < n; i++) {
		h->arenas[i].index = (unsigned)i;
		h->arenas[i].addr = ring[i];
	}
	for (size_t i = 0; i < n; i++)
		ASC_TRY(read_header(m, i));
	if (broken) {
		h->complete = false;
		ASC_TRY(asc_model_find(m, "C-RING",
				       (struct asc_at){ .arena = (int)n - 1, .addr = ring[n - 1] },
				       "the list of arenas breaks off here: next is 0x%" PRIx64
				       ", where no arena is; arenas behind it are not shown",
				       h->arenas[n - 1].next));
	}
	read_free_list(m);
	return NULL;
}
