/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Threads: which arena each uses and what its tcache holds. A tcache belongs to its thread alone
 * and is changed without a lock, so a thread that is inside libc may be stopped between two stores.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"
#include "glibc/scan.h"
#include "symbols/tls.h"
#include "target/readers.h"

enum { COUNT_MAX = 65535 };

struct cursor {
	struct asc_model *m;
	struct asc_heap_thread *thread;
	bool in_flight; /* may be between two stores of malloc */
	int lost; /* the list led into a heap of this arena that was not found, -1: it did not */
	unsigned bin;
	struct asc_tcache_bin list; /* number bin */
	uint64_t key;
	bool key_known;
	ASC_VEC(struct asc_tcache_bin) bins;
	ASC_VEC(asc_addr) entries;
};

asc_addr asc_thread_slot(const struct asc_target *t, const struct asc_libc *lib,
			 const struct asc_thread *thread, uint64_t off)
{
	if (!lib->tls_known || off == UINT64_MAX || !thread->regs.tp_valid)
		return 0;
	return asc_tls_addr(asc_target_arch(t), thread->regs.tp, lib->tls_offset, off);
}

static struct asc_at at_of(const struct cursor *c, asc_addr addr)
{
	return (struct asc_at){ .arena = c->lost, .addr = addr, .transient = c->in_flight };
}

static struct asc_error *find_at(struct cursor *c, const char *code, asc_addr addr,
				 const char *what, uint64_t value)
{
	return asc_model_find(c->m, code, at_of(c, addr),
			      "tcache of thread %d, bin %u: %s 0x%" PRIx64, c->thread->tid, c->bin,
			      what, value);
}

bool asc_thread_in_libc(const struct asc_model *m, const struct asc_thread *thread)
{
	const struct asc_module *mod = m->lib->module;
	asc_addr pc;

	if (!mod || thread->syscall_nr >= 0 || !asc_regs_pc(m->t, &thread->regs, &pc))
		return false;
	return pc >= mod->start && pc < mod->end;
}

/*
 * The arena whose heap is at @p p, by the heap's own header: while an operation on that arena is under way
 * the way to it from the arena may not be there. -1: none.
 */
static int lost_heap(struct asc_model *m, asc_addr p)
{
	const asc_addr heap = p & ~(m->heap_max - 1);
	const bool known = m->res && m->res->source != ASC_RESIDENCY_UNKNOWN;
	uint64_t arena;

	if (!heap || (known && !asc_resident_bytes(m->res, heap, heap + m->h->page_size)) ||
	    !asc_model_field(m, heap, m->l->_heap_info_ar_ptr, &arena))
		return -1;
	for (size_t i = 1; i < m->h->narenas; i++) {
		if (m->h->arenas[i].addr == arena)
			return (int)i;
	}
	return -1;
}

/* Check the chunk behind the user pointer @p e. NULL, or what is wrong. */
static const char *misplaced(struct cursor *c, asc_addr e, const struct asc_region_ref **ret)
{
	struct asc_model *m = c->m;
	asc_addr p = e - m->l->hdr;
	const struct asc_region_ref *r;

	if (e < m->l->hdr || !asc_chunk_aligned(m, p))
		return "is not aligned";
	r = asc_region_at(m, p);
	if (!r)
		c->lost = lost_heap(m, p);
	if (!r)
		return c->lost < 0 ? "is not in any heap" : "is in a heap that was not found";
	if (p < m->h->arenas[r->arena].regions[r->region].first)
		return "is in a heap's header";
	*ret = r;
	return NULL;
}

static struct asc_error *take(struct cursor *c, const struct asc_region_ref *r, asc_addr p,
			      uint64_t size)
{
	struct asc_tcache_bin *b = &c->list;

	b->min = b->count ? asc_min(b->min, size) : size;
	b->max = asc_max(b->max, size);
	b->bytes += size;
	b->count++;
	c->thread->cached_chunks++;
	c->thread->cached_bytes += size;
	ASC_TRY(asc_vec_push(&c->entries, p));
	return asc_member_push(c->m, r->arena, p, size, ASC_TCACHE);
}

static struct asc_error *check_key(struct cursor *c, asc_addr e, uint64_t key)
{
	if (!c->key_known || key == c->key)
		return NULL;
	/* put and get write the key and the list head in an order of the compiler's choice */
	if (c->in_flight && c->list.count == 0)
		return NULL;
	return find_at(c, "C-TCACHE-KEY", e - c->m->l->hdr,
		       "the cached chunk's key was overwritten (a write to freed memory), it is",
		       key);
}

/* Lists are short unless a tunable says otherwise: look at each entry, so that the first repeat is
 * found. */
static bool seen(const struct cursor *c, size_t first, asc_addr chunk)
{
	enum { SHORT = 64 };

	for (size_t i = first; i < c->entries.len && i < first + SHORT; i++)
		if (c->entries.data[i] == chunk)
			return true;
	return false;
}

static struct asc_error *walk_list(struct cursor *c, asc_addr at)
{
	const struct asc_layout *l = c->m->l;
	struct asc_tcache_bin *b = &c->list;
	asc_addr e, turtle = 0;
	uint64_t step = 1;
	size_t first = c->entries.len;

	if (!asc_model_word(c->m, at, &e))
		return NULL;
	while (e) {
		const struct asc_region_ref *r = NULL;
		const char *why = misplaced(c, e, &r);
		uint64_t word[4], size;

		if (!why && !asc_model_words(c->m, e - l->hdr, word, 4))
			why = "is not readable";
		if (!why && (e == turtle || b->count > COUNT_MAX || seen(c, first, e - l->hdr)))
			why = "leads in a circle: freed twice";
		if (why) {
			c->m->h->complete = false;
			return asc_model_find(c->m, "C-TCACHE-LINK", at_of(c, at),
					      "tcache of thread %d, bin %u: the link 0x%" PRIx64
					      " %s%s",
					      c->thread->tid, c->bin, e, why,
					      c->lost < 0 ? "; a write to freed memory" : "");
		}
		size = word[1] & ~(uint64_t)7;
		if (asc_tcache_index(&c->m->h->libc, size) != c->bin || size & c->m->align_mask ||
		    size > r->end - (e - l->hdr))
			return find_at(c, "C-TCACHE-SIZE", e - l->hdr,
				       "a cached chunk's size does not belong here:", word[1]);
		ASC_TRY(check_key(c, e, word[3]));
		ASC_TRY(take(c, r, e - l->hdr, size));
		if (b->count == step) {
			turtle = e;
			step *= 2;
		}
		at = e;
		e = asc_link_target(l, at, word[2]);
	}
	return NULL;
}

static struct asc_error *check_count(struct cursor *c, asc_addr at)
{
	const struct asc_tcache_bin *b = &c->list;
	uint32_t off = b->count > b->stated ? b->count - b->stated : b->stated - b->count;

	if (!off || (off == 1 && c->in_flight))
		return NULL;
	return asc_model_find(
		c->m, off == 1 ? "S-TCACHE-COUNT" : "C-TCACHE-COUNT", at_of(c, at),
		"tcache of thread %d, bin %u: the list holds %u chunks, its counter says %u",
		c->thread->tid, c->bin, b->count, b->stated);
}

static struct asc_error *walk_tcache(struct cursor *c)
{
	struct asc_model *m = c->m;
	const struct asc_layout *l = m->l;
	struct asc_field cf = l->tcache_perthread_struct_counts,
			 ef = l->tcache_perthread_struct_entries;
	uint64_t slots = m->h->params.tcache_count;

	if (!cf.present)
		cf = l->tcache_perthread_struct_num_slots;
	if (!cf.present || !ef.present || !cf.elem)
		return NULL;
	for (c->bin = 0; c->bin < l->ntcache && c->bin < ASC_NTCACHE_MAX; c->bin++) {
		asc_addr at = c->thread->tcache + cf.off + (uint64_t)c->bin * cf.elem;
		struct asc_tcache_bin *b = &c->list;
		uint64_t stated;

		*b = (struct asc_tcache_bin){ .nr = c->bin };
		if (!asc_model_uint(m, at, cf.elem, &stated))
			return NULL;
		/* from 2.42 on the counter is of free slots */
		b->stated = (uint32_t)(l->tcache_counts_are_slots ? slots - stated : stated);
		c->lost = -1;
		ASC_TRY(walk_list(c, c->thread->tcache + ef.off + (uint64_t)c->bin * l->word));
		ASC_TRY(check_count(c, at));
		if (b->count || b->stated)
			ASC_TRY(asc_vec_push(&c->bins, *b));
	}
	return NULL;
}

static int by_addr(const void *a, const void *b)
{
	asc_addr x = *(const asc_addr *)a, y = *(const asc_addr *)b;

	return (x > y) - (x < y);
}

/* The tcache block is an in-use chunk; what is not one is a dummy or damage. */
static bool is_block(struct asc_model *m, asc_addr tcache)
{
	const struct asc_region_ref *r = asc_region_at(m, tcache - m->l->hdr);
	uint64_t raw, want = m->l->sizeof_tcache_perthread_struct;

	if (!want)
		return true;
	/* an mmapped block is possible, if rarely */
	return asc_model_word(m, tcache - m->l->word, &raw) && (raw & ~(uint64_t)7) >= want &&
	       (r || raw & 2);
}

/* There may be thousands of threads. */
static void *shrunk(void *v, size_t bytes)
{
	void *p = bytes ? realloc(v, bytes) : NULL;

	return p ? p : v;
}

static struct asc_error *read_tcache(struct cursor *c)
{
	struct asc_model *m = c->m;
	struct asc_heap_thread *th = c->thread;
	asc_addr dummy = m->lib->tcache_dummy;
	struct asc_error *err = NULL;

	if (dummy && (th->tcache == dummy || th->tcache == dummy + m->l->word)) {
		th->tcache_disabled = th->tcache != dummy;
		th->tcache = 0;
		return NULL;
	}
	if (!is_block(m, th->tcache)) {
		asc_addr was = th->tcache;

		th->tcache = 0;
		c->lost = asc_region_at(m, was) ? -1 : lost_heap(m, was);
		th->tcache_known = c->lost < 0;
		if (m->l->tcache_dummy && !asc_region_at(m, was) && c->lost < 0)
			return NULL; /* the dummy, whose address is not known */
		return asc_model_find(m, "C-TCACHE", at_of(c, was),
				      "thread %d: its tcache is not a chunk of malloc's", th->tid);
	}
	if (m->l->tcache_key_owner) {
		c->key = th->tcache;
		c->key_known = true;
	}
	err = walk_tcache(c);
	if (c->entries.len)
		qsort(c->entries.data, c->entries.len, sizeof(*c->entries.data), by_addr);
	th->entries = shrunk(c->entries.data, c->entries.len * sizeof(*th->entries));
	th->nentries = c->entries.len;
	th->bins = shrunk(c->bins.data, c->bins.len * sizeof(*th->bins));
	th->nbins = c->bins.len;
	return err;
}

struct place {
	asc_addr addr;
	int index;
};

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

/* The arenas by address: there may be thousands of them, and as many threads. */
static struct asc_error *arena_places(const struct asc_model *m, struct place **ret)
{
	struct place *v = calloc(m->h->narenas + 1, sizeof(*v));

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu arenas", m->h->narenas);
	for (size_t i = 0; i < m->h->narenas; i++)
		v[i] = (struct place){ m->h->arenas[i].addr, (int)i };
	asc_sort(v, m->h->narenas, sizeof(*v), by_place);
	*ret = v;
	return NULL;
}

static int arena_at(const struct place *places, size_t n, asc_addr addr)
{
	const size_t lo = ASC_SEEK(n, i, places[i].addr < addr);

	return addr && lo < n && places[lo].addr == addr ? places[lo].index : -1;
}

static struct asc_error *read_thread(struct asc_model *m, const struct asc_thread *thread,
				     const struct place *places, struct asc_heap_thread *th)
{
	asc_addr slot = asc_thread_slot(m->t, m->lib, thread, m->lib->thread_arena_off);
	struct cursor c = {
		.m = m, .thread = th, .in_flight = asc_thread_in_libc(m, thread), .lost = -1
	};

	*th = (struct asc_heap_thread){ .tid = thread->tid, .arena = -1 };
	if (!slot || !asc_model_word(m, slot, &th->arena_addr))
		return NULL;
	th->known = true;
	th->arena = arena_at(places, m->h->narenas, th->arena_addr);
	slot = asc_thread_slot(m->t, m->lib, thread, m->lib->tcache_off);
	th->tcache_known = !m->h->libc.has_tcache || m->lib->tcache_none;
	if (th->tcache_known || !slot || !asc_model_word(m, slot, &th->tcache))
		return NULL;
	th->tcache_known = true;
	if (!th->tcache)
		return NULL;
	if (m->l->tcache_key_random && m->lib->tcache_key)
		c.key_known = asc_model_word(m, m->lib->tcache_key, &c.key);
	return read_tcache(&c);
}

/* Each arena's list of threads. */
static struct asc_error *link_arenas(struct asc_model *m)
{
	for (size_t i = 0; i < m->h->nthreads; i++) {
		int at = m->h->threads[i].arena;
		struct asc_arena *a = at < 0 ? NULL : &m->h->arenas[at];
		size_t *v;

		if (!a)
			continue;
		v = reallocarray(a->threads, a->nthreads + 1, sizeof(*v));
		if (!v)
			return asc_err(ASC_ENOMEM, "%zu threads", a->nthreads + 1);
		v[a->nthreads++] = i;
		a->threads = v;
	}
	return NULL;
}

/* What is read of every thread's control block, in one request instead of one each. */
static struct asc_error *fetch_blocks(struct asc_model *m, const struct asc_thread *threads,
				      size_t n)
{
	ASC_AUTO(asc_freep) asc_addr *v = calloc(3 * n + 1, sizeof(*v));
	size_t kept = 0;

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		if (!threads[i].regs.tp_valid || !threads[i].regs.tp)
			continue;
		v[kept++] = threads[i].regs.tp;
		v[kept] = asc_thread_slot(m->t, m->lib, &threads[i], m->lib->thread_arena_off);
		kept += v[kept] != 0;
		v[kept] = asc_thread_slot(m->t, m->lib, &threads[i], m->lib->tcache_off);
		kept += v[kept] != 0;
	}
	asc_target_fetch(m->t, m->res, v, kept);
	return NULL;
}

/* The lists of some threads in few requests. Not of all at once: nodes take more memory than what is kept of them. */
static struct asc_error *prefetch(struct asc_model *m, const struct asc_thread *threads, size_t n)
{
	ASC_AUTO(asc_freep) asc_addr *v = calloc(n + 1, sizeof(*v));
	size_t kept = 0;

	asc_nodes_deinit(&m->nodes);
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n && m->h->libc.has_tcache; i++) {
		asc_addr slot = asc_thread_slot(m->t, m->lib, &threads[i], m->lib->tcache_off);

		if (slot && asc_model_word(m, slot, &v[kept]) && v[kept])
			kept++;
	}
	asc_target_fetch(m->t, m->res, v, kept);
	return asc_prefetch_tcaches(m, v, kept);
}

bool asc_thread_is_libcs(struct asc_target *t, const struct asc_thread *thread)
{
	const struct asc_arch *arch = asc_target_arch(t);
	struct asc_error *err;
	uint64_t self;

	/* x86: the control block begins with its own address */
	if (arch->tls != ASC_TLS_II || !thread->regs.tp_valid)
		return true;
	err = asc_read_word(t, thread->regs.tp, &self);
	if (!err && self == thread->regs.tp)
		err = asc_read_word(t, thread->regs.tp + 2 * (uint64_t)arch->word_size, &self);
	if (err) {
		asc_error_free(err);
		return true;
	}
	return self == thread->regs.tp;
}

static int by_tp(const void *a, const void *b)
{
	const struct asc_thread *x = *(const struct asc_thread *const *)a;
	const struct asc_thread *y = *(const struct asc_thread *const *)b;

	if (x->regs.tp != y->regs.tp)
		return x->regs.tp < y->regs.tp ? -1 : 1;
	return (x > y) - (x < y);
}

/* Threads that clone made for others than libc: they have their creator's TLS, or something else. */
static struct asc_error *find_foreign(struct asc_target *t, const struct asc_thread *threads,
				      size_t n, bool *ret)
{
	ASC_AUTO(asc_freep)
	const struct asc_thread **v = calloc(n + 1, sizeof(struct asc_thread *));

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		v[i] = &threads[i];
		ret[i] = !asc_thread_is_libcs(t, v[i]);
	}
	asc_sort(v, n, sizeof(struct asc_thread *), by_tp);
	for (size_t i = 1; i < n; i++)
		if (v[i]->regs.tp_valid && v[i]->regs.tp && v[i]->regs.tp == v[i - 1]->regs.tp)
			ret[v[i] - threads] = true;
	return NULL;
}

struct asc_error *asc_heap_threads(struct asc_model *m)
{
	enum { AT_ONCE = 1024 };
	ASC_AUTO(asc_freep) bool *foreign = NULL;
	ASC_AUTO(asc_freep) struct place *places = NULL;
	const struct asc_thread *threads;
	bool unused;
	size_t n;

	threads = asc_target_threads(m->t, &n);
	foreign = calloc(n + 1, sizeof(*foreign));
	if (!foreign)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	ASC_TRY(fetch_blocks(m, threads, n));
	ASC_TRY(find_foreign(m->t, threads, n, foreign));
	m->h->threads = calloc(n ? n : 1, sizeof(*m->h->threads));
	if (!m->h->threads)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	ASC_TRY(arena_places(m, &places));
	m->h->tcaches_known = n || !m->h->libc.has_tcache;
	/* nobody has allocated: nobody has a cache */
	unused = m->h->narenas == 1 && !m->h->arenas[0].system_mem && !m->h->arenas[0].top_size;
	for (size_t i = 0; i < n; i++) {
		m->h->nthreads = i + 1;
		if (i % AT_ONCE == 0)
			ASC_TRY(prefetch(m, threads + i, (size_t)asc_min(n - i, AT_ONCE)));
		if (foreign[i])
			m->h->threads[i] = (struct asc_heap_thread){ .tid = threads[i].tid,
								     .known = true,
								     .tcache_known = true,
								     .arena = -1 };
		else
			ASC_TRY(read_thread(m, &threads[i], places, &m->h->threads[i]));
		m->h->tcaches_known = m->h->tcaches_known && m->h->threads[i].tcache_known;
	}
	m->h->tcaches_known = m->h->tcaches_known || unused;
	return link_arenas(m);
}
