/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Random heaps against a model that looks at every single byte and every single chunk: the ledger
 * and both predictions, which are linear merges over free chunks only, must agree with it exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/cover.h"
#include "arch/arch.h"
#include "arenascope/ledger.h"
#include "extents.h"
#include "target/target.h"

#if defined(__SANITIZE_ADDRESS__)
enum { HEAPS = 60 };
#else
enum { HEAPS = 600 };
#endif
enum { MAX_CHUNKS = 400, REGION = 1 << 18, HDR_BYTES = 2 * 8, CHUNK_STRUCT = 48, MINSIZE = 32 };

struct toy_chunk {
	uint64_t off, size;
	enum asc_state state;
};

/* One region, every chunk of it known. */
struct toy {
	asc_addr base;
	uint64_t page, first, len, tail;
	struct toy_chunk c[MAX_CHUNKS];
	size_t n;
	bool top;
	uint64_t words[MAX_CHUNKS];
	struct asc_chunk large[MAX_CHUNKS];
	struct asc_extents extents;
	bool present[REGION / 256 + 64], swapped[REGION / 256 + 64];
};

struct toy_heap {
	struct asc_heap heap;
	struct asc_arena arenas[2];
	struct asc_region regions[2];
	struct toy toys[2];
	struct asc_map maps[2];
	struct asc_maps all;
	struct asc_residency *res;
	uint64_t pad;
	struct asc_range locked;
};

static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static enum asc_state random_state(void)
{
	static const enum asc_state s[] = { ASC_INUSE,	 ASC_INUSE, ASC_INUSE, ASC_TCACHE,
					    ASC_FASTBIN, ASC_SMALL, ASC_LARGE, ASC_UNSORTED };

	return s[rnd(8)];
}

static void toy_make(struct toy *t, asc_addr base, uint64_t page, bool main)
{
	uint64_t pos;
	static const uint64_t scale[] = { 200, 2000, 9000, 40000 };
	uint64_t max = scale[rnd(4)];
	bool was_free = false;

	memset(t, 0, sizeof(*t));
	t->extents = packed_in(t->words, t->large);
	t->base = base;
	t->page = page;
	t->first = main ? 16 * rnd(5) : 64 + 16 * rnd(4);
	t->len = page * (4 + rnd(REGION / page - 8));
	t->tail = main ? t->len : t->len + page * rnd(4);
	t->top = rnd(8) != 0;
	for (pos = t->first; t->n < MAX_CHUNKS - 2 && t->len - pos > 2 * MINSIZE;) {
		uint64_t size = MINSIZE + 16 * rnd(max / 16);
		enum asc_state s = random_state();
		bool bin = s == ASC_SMALL || s == ASC_LARGE || s == ASC_UNSORTED;

		if (rnd(20) == 0) /* ends at a page boundary, or just around it */
			size = ((pos / page + 1 + rnd(3)) * page - pos + 16 * rnd(3)) & ~15ull;
		if (size < MINSIZE || pos + size > t->len - MINSIZE)
			break;
		if (was_free && bin)
			s = ASC_INUSE; /* free chunks coalesce */
		was_free = s == ASC_SMALL || s == ASC_LARGE || s == ASC_UNSORTED;
		t->c[t->n++] = (struct toy_chunk){ pos, size, s };
		pos += size;
	}
	if (t->top && was_free)
		t->c[t->n - 1].state = ASC_INUSE;
	if (t->top && t->len - pos > 2 * MINSIZE && rnd(10) == 0) /* the smallest top there is */
		t->c[t->n++] = (struct toy_chunk){ pos, t->len - pos - MINSIZE, ASC_INUSE },
		pos = t->len - MINSIZE;
	t->c[t->n++] = (struct toy_chunk){ pos, t->len - pos, t->top ? ASC_TOP : ASC_FENCE };
	for (size_t i = 0; i < t->n; i++)
		if (t->c[i].state != ASC_INUSE)
			packed_add(&t->extents, base + t->c[i].off, t->c[i].size, t->c[i].state);
	for (size_t i = 0, mode = rnd(3); i < (t->tail + page - 1) / page; i++) {
		t->present[i] = mode == 0 || (mode == 1 ? rnd(2) : rnd(10) != 0);
		t->swapped[i] = !t->present[i] && rnd(3) == 0;
	}
}

static void toy_heap_make(struct toy_heap *h, uint64_t with_seed)
{
	static const uint64_t pages[] = { 4096, 256, 1024 };
	uint64_t page;
	struct asc_page_run *runs = calloc(2 * (REGION / 256 + 64), sizeof(*runs));
	size_t n = 0;

	assert_non_null(runs);
	memset(h, 0, sizeof(*h));
	seed = with_seed;
	page = pages[rnd(3)];
	h->heap.page_size = page;
	h->heap.libc = (struct asc_heap_libc){ .word = 8,
					       .hdr = HDR_BYTES,
					       .malloc_alignment = 16,
					       .minsize = MINSIZE,
					       .chunk_struct = CHUNK_STRUCT,
					       .trim_consolidates = rnd(2),
					       .systrim_minsize_quirk = rnd(2),
					       .systrim_thp = rnd(2) };
	h->heap.params.thp_pagesize = rnd(4) ? 0 : 8 * page;
	h->heap.arenas = h->arenas;
	h->heap.narenas = 2;
	for (unsigned i = 0; i < 2; i++) {
		struct toy *t = &h->toys[i];
		struct asc_region *r = &h->regions[i];

		toy_make(t, i ? 0x7f0000000000 : 0x550000000000, page, !i);
		*r = (struct asc_region){ .start = t->base,
					  .end = t->base + t->len,
					  .first = t->base + t->first,
					  .heap_info = i ? t->base : 0,
					  .mprotect_size = i ? t->tail : 0,
					  .has_top = t->top,
					  .extents = t->extents };
		h->arenas[i] = (struct asc_arena){ .index = i,
						   .initialised = true,
						   .regions = r,
						   .nregions = 1,
						   .noncontiguous = rnd(4) == 0,
						   .busy = rnd(16) == 0,
						   .system_mem = t->len };
		h->maps[i] = (struct asc_map){ .start = t->base,
					       .end = t->base + t->tail,
					       .flags = ASC_MAP_READ | ASC_MAP_WRITE,
					       .path = "" };
		for (size_t k = 0; k < t->tail / page; k++) {
			unsigned flags = t->present[k]	 ? ASC_PAGE_PRESENT
					 : t->swapped[k] ? ASC_PAGE_SWAPPED
							 : 0;

			runs[n++] = asc_page_run_make(t->base + k * page, t->base + (k + 1) * page,
						      flags);
		}
	}
	h->heap.params.curbrk_known = true;
	h->heap.params.curbrk = h->regions[0].end + (rnd(4) ? 0 : page);
	h->pad = rnd(3) ? 0 : rnd(20 * page);
	if (rnd(4) == 0)
		h->locked = (struct asc_range){ h->toys[1].base + rnd(20) * page, rnd(20) * page };
	h->all = (struct asc_maps){ .v = h->maps, .n = 2 };
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, page, runs, n, &h->res));
}

/* ---- the other way to count ---- */

enum fate { KEPT, MADVISED, CUT }; /* by malloc_trim */

struct truth {
	struct asc_pages pages;
	uint64_t trim, trim_swapped, reclaim, b1_free, stays;
};

static bool binned(enum asc_state s)
{
	return s == ASC_SMALL || s == ASC_LARGE || s == ASC_UNSORTED;
}

/* malloc_consolidate, on a copy, chunk by chunk. */
static void consolidate(struct toy *t)
{
	for (bool again = true; again;) {
		again = false;
		for (size_t i = 0; i < t->n; i++) {
			if (t->c[i].state != ASC_FASTBIN)
				continue;
			t->c[i].state = ASC_UNSORTED;
			again = true;
			if (i && binned(t->c[i - 1].state)) {
				t->c[i - 1].size += t->c[i].size;
				memmove(&t->c[i], &t->c[i + 1], (--t->n - i) * sizeof(t->c[0]));
				i--;
			}
			if (i + 1 < t->n &&
			    (binned(t->c[i + 1].state) || t->c[i + 1].state == ASC_TOP)) {
				t->c[i].size += t->c[i + 1].size;
				t->c[i].state = t->c[i + 1].state == ASC_TOP ? ASC_TOP
									     : t->c[i].state;
				memmove(&t->c[i + 1], &t->c[i + 2],
					(--t->n - i - 1) * sizeof(t->c[0]));
			}
		}
	}
}

/* Literally glibc's loop; marks bytes. */
static void trim_bytes(const struct toy_heap *h, unsigned arena, struct toy *t, uint64_t pad,
		       unsigned char *fate, int64_t *brk)
{
	uint64_t page = t->page, psm1 = page - 1;

	if (h->heap.libc.trim_consolidates)
		consolidate(t);
	for (size_t i = 0; i < t->n; i++) {
		uint64_t p = t->base + t->c[i].off, size = t->c[i].size;

		if (binned(t->c[i].state) && size > psm1 + CHUNK_STRUCT) {
			uint64_t mem = (p + CHUNK_STRUCT + psm1) & ~psm1;

			size -= mem - p;
			if (size > psm1)
				memset(fate + (mem - t->base), MADVISED, size & ~psm1);
		}
		if (t->c[i].state == ASC_TOP && !arena) {
			uint64_t area = size - MINSIZE - 1;
			uint64_t unit = h->heap.libc.systrim_thp && h->heap.params.thp_pagesize
						? h->heap.params.thp_pagesize
						: page;
			int64_t extra;

			if (area <= pad || (!h->heap.libc.systrim_minsize_quirk && size == MINSIZE))
				continue;
			extra = (int64_t)((area - pad) & ~(unit - 1));
			if (!extra || h->heap.params.curbrk != p + size)
				continue;
			*brk = -extra;
			if (extra > 0)
				memset(fate + t->len - (uint64_t)extra, CUT, (uint64_t)extra);
		}
	}
}

static bool whole_page(const unsigned char *whole, uint64_t at, uint64_t page)
{
	for (uint64_t b = at; b < at + page; b++)
		if (!whole[b])
			return false;
	return true;
}

static void truth_of(const struct toy_heap *h, unsigned arena, uint64_t pad, struct truth *ret,
		     int64_t *brk)
{
	const struct toy *t = &h->toys[arena];
	static struct toy copy;
	static unsigned char fate[REGION + 65536], whole[REGION + 65536], kind[REGION + 65536];
	static unsigned char ideal[REGION + 65536];
	uint64_t page = t->page;

	memset(fate, KEPT, sizeof(fate));
	memset(whole, 0, sizeof(whole));
	memset(ideal, 1, sizeof(ideal));
	memset(kind, 'm', sizeof(kind));
	copy = *t;
	trim_bytes(h, arena, &copy, pad, fate, brk);
	for (size_t i = 0; i < t->n; i++) {
		const struct toy_chunk *c = &t->c[i];
		char k = c->state == ASC_INUSE				     ? 'u'
			 : c->state == ASC_TCACHE || c->state == ASC_FASTBIN ? 'c'
			 : c->state == ASC_FENCE			     ? 'u'
									     : 'f';

		memset(kind + c->off, k, c->size);
		if (k == 'f') /* what reclaim may touch: bytes behind the links */
			memset(whole + c->off + CHUNK_STRUCT, 1,
			       c->size > CHUNK_STRUCT ? c->size - CHUNK_STRUCT : 0);
		if (c->state == ASC_INUSE || c->state == ASC_FENCE)
			memset(ideal + c->off, 0, c->size);
		else if (!i || t->c[i - 1].state == ASC_INUSE)
			memset(ideal + c->off, 0, CHUNK_STRUCT);
	}
	memset(ideal, 0, t->first);
	memset(ideal + t->len, 0, page * 8);
	memset(ret, 0, sizeof(*ret));
	for (uint64_t p = 0; p < t->tail; p += page) {
		asc_addr at = t->base + p;
		bool all = true, none_live = true, reclaim_locked = false;
		bool locked = at < h->locked.addr + h->locked.len && at >= h->locked.addr;
		struct asc_pages *g = &ret->pages;

		for (uint64_t b = p; b < p + page; b++) {
			none_live &= ideal[b];
		}
		/* madvise gives up at the first locked page of a range: later ones stay as well */
		for (uint64_t q = p; !locked && fate[p] == MADVISED && q > 0; q -= page) {
			asc_addr before = t->base + q - page;

			if (fate[q - page] != MADVISED)
				break;
			locked = before < h->locked.addr + h->locked.len &&
				 before >= h->locked.addr;
		}
		for (uint64_t b = p; b < p + page; b++)
			all &= whole[b];
		for (uint64_t q = p; all && !reclaim_locked; q -= page) {
			asc_addr here = t->base + q;

			reclaim_locked = here < h->locked.addr + h->locked.len &&
					 here >= h->locked.addr;
			if (!q || !whole_page(whole, q - page, page))
				break;
		}
		if (t->present[p / page] && none_live && p + page <= t->len)
			ret->b1_free += page;
		for (uint64_t b = p; b < p + page; b++) {
			bool gone = fate[b] != KEPT && (!locked || fate[b] == CUT) &&
				    !h->arenas[arena].busy;

			if (t->swapped[p / page]) {
				ret->trim_swapped += gone;
				g->swapped++;
			}
			if (!t->present[p / page]) {
				g->nonresident += !t->swapped[p / page] && b < t->len;
				continue;
			}
			g->resident++;
			ret->trim += gone;
			ret->stays += !gone && (kind[b] == 'f' || kind[b] == 'c');
			if (fate[b] == CUT || (fate[b] != KEPT && !locked))
				g->trimmable++;
			else if (all && !reclaim_locked)
				g->retained++;
			else if (kind[b] == 'u')
				g->in_use++;
			else if (kind[b] == 'c')
				g->cached++;
			else if (kind[b] == 'f')
				g->fragmented++;
			else
				g->metadata++;
			ret->reclaim += all && !reclaim_locked && !h->arenas[arena].busy;
		}
	}
}

static void same_pages(const struct asc_pages *a, const struct asc_pages *b)
{
	assert_true(a->known);
	assert_int_equal(a->resident, b->resident);
	assert_int_equal(a->trimmable, b->trimmable);
	assert_int_equal(a->retained, b->retained);
	assert_int_equal(a->cached, b->cached);
	assert_int_equal(a->fragmented, b->fragmented);
	assert_int_equal(a->metadata, b->metadata);
	assert_int_equal(a->in_use, b->in_use);
	assert_int_equal(a->swapped, b->swapped);
	assert_int_equal(a->nonresident, b->nonresident);
	assert_int_equal(a->resident, a->in_use + a->cached + a->trimmable + a->retained +
					      a->fragmented + a->metadata);
}

static void test_ledger(void **state)
{
	static struct toy_heap h;
	static struct truth truth;

	(void)state;
	for (uint64_t i = 0; i < HEAPS; i++) {
		struct asc_ledger *l;
		const struct asc_heap *heap = &h.heap;
		int64_t brk = 0;
		uint64_t rss = 0;

		toy_heap_make(&h, i);
		struct asc_ledger_in in = { .heaps = &heap,
					    .nheaps = 1,
					    .res = h.res,
					    .maps = &h.all,
					    .mlocked = &h.locked,
					    .nmlocked = h.locked.len ? 1 : 0 };

		assert_null(asc_ledger_make(&in, &l));
		for (unsigned a = 0; a < 2; a++) {
			truth_of(&h, a, 0, &truth, &brk);
			same_pages(&l->arenas[a].pages, &truth.pages);
			same_pages(&l->arenas[a].regions[0].pages, &truth.pages);
			rss += truth.pages.resident;
		}
		assert_int_equal(l->malloc_pages.resident, rss);
		assert_int_equal(l->rss, rss);
		asc_ledger_free(l);
		asc_residency_free(h.res);
	}
}

static uint64_t stays_of(const struct asc_prediction *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ASC_NSTAYS; i++)
		sum += p->stays[i];
	return sum;
}

static void test_trim(void **state)
{
	static struct toy_heap h;
	static struct truth truth;
	size_t foreign = 0, ruled_out = 0;

	(void)state;
	for (uint64_t i = 0; i < HEAPS; i++) {
		struct asc_prediction *p;
		int64_t brk = 0;
		uint64_t stays = 0, resident = 0, ideal = 0;

		toy_heap_make(&h, 77 * i);
		struct asc_trim_in in = { .heap = &h.heap,
					  .res = h.res,
					  .mlocked = &h.locked,
					  .nmlocked = h.locked.len ? 1 : 0,
					  .arena = -1 };

		assert_null(asc_predict_trim(&in, h.pad, &p));
		assert_int_equal(p->narenas, 2);
		for (unsigned a = 0; a < 2; a++) {
			truth_of(&h, a, h.pad, &truth, &brk);
			assert_int_equal(p->arenas[a].bytes, truth.trim);
			assert_int_equal(p->arenas[a].swapped, truth.trim_swapped);
			stays += truth.stays;
			resident += truth.pages.resident;
			ideal += truth.b1_free;
		}
		assert_int_equal(p->brk_delta, brk);
		assert_int_equal(stays_of(p), stays);
		assert_int_equal(p->bound_b1, resident - ideal);
		assert_true(p->bound_b2 <= p->bound_b1 + h.heap.page_size);
		/* ruled out without a look at the chunks: then it must be so */
		if (!asc_trim_foreign(&h.heap)) {
			assert_int_equal(p->stays[ASC_STAY_FOREIGN_SBRK], 0);
			ruled_out++;
		}
		foreign += p->stays[ASC_STAY_FOREIGN_SBRK] != 0;
		asc_prediction_free(p);
		asc_residency_free(h.res);
	}
	assert_true(foreign && ruled_out);
}

static void test_reclaim(void **state)
{
	static struct toy_heap h;
	static struct truth truth;

	(void)state;
	for (uint64_t i = 0; i < HEAPS; i++) {
		struct asc_prediction *p;
		int64_t brk = 0;

		toy_heap_make(&h, 1000003 * i);
		struct asc_trim_in in = { .heap = &h.heap,
					  .res = h.res,
					  .mlocked = &h.locked,
					  .nmlocked = h.locked.len ? 1 : 0,
					  .arena = -1 };

		assert_null(asc_predict_reclaim(&in, &p));
		for (unsigned a = 0; a < 2; a++) {
			truth_of(&h, a, 0, &truth, &brk);
			assert_int_equal(p->arenas[a].bytes, truth.reclaim);
		}
		assert_true(p->bytes + stays_of(p) > 0);
		asc_prediction_free(p);
		in.arena = 1;
		assert_null(asc_predict_reclaim(&in, &p));
		assert_int_equal(p->narenas, 1);
		assert_int_equal(p->bytes, truth.reclaim);
		asc_prediction_free(p);
		asc_residency_free(h.res);
	}
}

/* Nothing is known of pages: the prediction is the upper bound, the ledger says unknown. */
static void test_unknown(void **state)
{
	static struct toy_heap h;
	struct asc_residency none = { .source = ASC_RESIDENCY_UNKNOWN };
	const struct asc_heap *heap = &h.heap;
	struct asc_prediction *p, *q;
	struct asc_ledger *l;

	(void)state;
	for (uint64_t i = 0; i < 50; i++) {
		toy_heap_make(&h, i);
		struct asc_trim_in in = { .heap = heap, .res = &none, .arena = -1 };
		struct asc_ledger_in lin = {
			.heaps = &heap, .nheaps = 1, .res = &none, .maps = &h.all
		};

		assert_null(asc_predict_trim(&in, 0, &p));
		in.res = h.res;
		assert_null(asc_predict_trim(&in, 0, &q));
		assert_false(p->known);
		assert_true(p->upper_bound && p->bytes >= q->bytes + q->swapped);
		assert_true(q->known && !q->upper_bound);
		assert_null(asc_ledger_make(&lin, &l));
		assert_false(l->known || l->arenas[0].pages.known || l->malloc_pages.known);
		asc_ledger_free(l);
		asc_prediction_free(p);
		asc_prediction_free(q);
		asc_residency_free(h.res);
	}
}

/* ---- owners ---- */

static void test_owners(void **state)
{
	enum { PAGE = 4096 };
	struct asc_map m[] = {
		{ .start = 0x400000,
		  .end = 0x401000,
		  .inode = 1,
		  .flags = 5,
		  .path = "/usr/bin/python3.11" },
		{ .start = 0x401000,
		  .end = 0x402000,
		  .inode = 1,
		  .flags = 3,
		  .path = "/usr/bin/python3.11" },
		{ .start = 0x402000, .end = 0x403000, .flags = 3, .path = "" },
		{ .start = 0x500000, .end = 0x510000, .flags = 3, .path = "[heap]" },
		{ .start = 0x7f0000000000, .end = 0x7f0000100000, .flags = 3, .path = "" },
		{ .start = 0x7f0000200000,
		  .end = 0x7f0000201000,
		  .flags = 0,
		  .flags_known = true,
		  .path = "" },
		{ .start = 0x7f0000201000, .end = 0x7f0000211000, .flags = 3, .path = "" },
		{ .start = 0x7f0000300000,
		  .end = 0x7f0000301000,
		  .flags = 11,
		  .inode = 4,
		  .path = "/dev/shm/x" },
		{ .start = 0x7f0000400000, .end = 0x7f0000403000, .flags = 3, .path = "" },
		{ .start = 0x7f0000500000,
		  .end = 0x7f0000501000,
		  .flags = 3,
		  .path = "[anon:mine]" },
		{ .start = 0x7ffd00000000, .end = 0x7ffd00001000, .flags = 3, .path = "[stack]" },
		{ .start = 0x7ffd10000000, .end = 0x7ffd10001000, .flags = 1, .path = "[vvar]" },
	};
	struct asc_maps maps = { .v = m, .n = sizeof(m) / sizeof(m[0]) };
	struct asc_page_run *runs = calloc(maps.n, sizeof(*runs));
	struct asc_thread th[2] = { { .tid = 7 }, { .tid = 8 } };
	const asc_addr sp[2] = { 0x7ffd00000800, 0x7f0000210000 };
	const struct asc_arch *arch = asc_arch_by_name("x86_64");
	struct asc_ledger_in in = { .maps = &maps, .threads = th, .nthreads = 2, .arch = arch };
	struct asc_residency *res;
	struct asc_ledger *l;

	(void)state;
	assert_non_null(runs);
	for (size_t i = 0; i < maps.n; i++)
		runs[i] = asc_page_run_make(m[i].start, m[i].end, ASC_PAGE_PRESENT);
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, PAGE, runs, maps.n, &res));
	in.res = res;
	for (int i = 0; i < 2; i++) {
		th[i].regs.valid = th[i].regs.tp_valid = true;
		th[i].regs.len = sizeof(th[i].regs.raw);
		memcpy(th[i].regs.raw + arch->sp.off, &sp[i], 8);
		th[i].regs.tp = i ? 0x7f0000210700 : 0x7f0000402740;
	}
	assert_null(asc_ledger_make(&in, &l));
	assert_int_equal(l->files, 2 * PAGE);
	assert_int_equal(l->shared, PAGE);
	assert_int_equal(l->thread_stacks, 0x10000 + PAGE);
	assert_int_equal(l->nstacks, 2);
	assert_int_equal(l->stacks[0].resident, 0x10000);
	assert_int_equal(l->stacks[0].tid, 8);
	/* the guard page is resident here only to see that it is not the stack's */
	assert_int_equal(l->unknown_anonymous, PAGE);
	assert_int_equal(l->nother, 5);
	assert_string_equal(l->other[0].name, ".bss of programs and libraries");
	assert_string_equal(l->other[1].name, "brk memory that is not malloc's");
	assert_int_equal(l->other[1].bytes, 0x10000);
	assert_string_equal(l->other[2].name, "Python object arenas (by size)");
	assert_int_equal(l->other[2].bytes, 0x100000);
	assert_string_equal(l->other[3].name, "thread-local storage of the main thread");
	assert_string_equal(l->other[4].name, "[anon:mine]");
	assert_int_equal(l->rss, asc_resident_bytes(res, 0, UINT64_MAX) - PAGE); /* vvar */
	asc_ledger_free(l);
	asc_residency_free(res);
}

/* Chunks that overlap, leave their region or wrap: every byte still counts exactly once. */
static void test_malformed(void **state)
{
	static const struct asc_chunk chunks[] = {
		{ 0x10010, 0x3000, ASC_LARGE },	      { 0x11000, 0x100, ASC_TCACHE },
		{ 0x12ff0, 0x2000, ASC_UNSORTED },    { 0x13000, UINT64_MAX - 0x100, ASC_SMALL },
		{ 0x14000, UINT64_MAX, ASC_FASTBIN }, { 0x1f000, 0x5000, ASC_TOP },
		{ 0x30000, 0x5000, ASC_LARGE },
	};
	uint64_t words[7];
	struct asc_chunk large[7];
	struct asc_extents bad = packed_in(words, large);

	for (size_t i = 0; i < 7; i++)
		packed_add(&bad, chunks[i].addr, chunks[i].size, chunks[i].state);
	struct asc_region r[2] = { { .start = 0x10000,
				     .first = 0x10010,
				     .end = 0x20000,
				     .has_top = true,
				     .extents = bad },
				   { .start = 0x18000,
				     .first = 0x18000,
				     .end = 0x28000,
				     .heap_info = 0x18000,
				     .mprotect_size = UINT64_MAX } };
	struct asc_arena a = { .initialised = true, .regions = r, .nregions = 2 };
	struct asc_heap heap = {
		.arenas = &a,
		.narenas = 1,
		.page_size = 4096,
		.libc = { .chunk_struct = 48, .minsize = 32, .trim_consolidates = true }
	};
	const struct asc_heap *heaps[] = { &heap };
	struct asc_page_run *runs = calloc(1, sizeof(*runs));
	struct asc_map map = { .start = 0x10000, .end = 0x40000, .flags = 3, .path = "" };
	struct asc_maps maps = { .v = &map, .n = 1 };
	struct asc_residency *res;
	struct asc_ledger *l;
	struct asc_prediction *p;

	(void)state;
	assert_non_null(runs);
	runs[0] = asc_page_run_make(0x10000, 0x40000, ASC_PAGE_PRESENT);
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, 4096, runs, 1, &res));
	struct asc_ledger_in in = { .heaps = heaps, .nheaps = 1, .res = res, .maps = &maps };
	struct asc_trim_in tin = { .heap = &heap, .res = res, .arena = -1 };

	assert_null(asc_ledger_make(&in, &l));
	assert_int_equal(l->rss, 0x30000);
	assert_int_equal(l->malloc_pages.resident, 0x18000);
	asc_ledger_free(l);
	assert_null(asc_predict_trim(&tin, 0, &p));
	assert_true(p->bytes + stays_of(p) <= 0x30000);
	asc_prediction_free(p);
	asc_residency_free(res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ledger),	cmocka_unit_test(test_trim),
		cmocka_unit_test(test_reclaim), cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_owners),	cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
