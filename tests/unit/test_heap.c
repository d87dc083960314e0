/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The model read back from heaps of every shape: every chunk, every sum, every odd region. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "heap_std.h"

static asc_addr end_of(struct asc_chunk c)
{
	return c.addr + c.size;
}

/* In a row they are what they are one by one. */
static void check_words(const struct asc_region *r)
{
	struct asc_chunk_iter one, row;
	struct asc_chunk c;
	const uint64_t *words;
	size_t n;

	asc_chunk_iter_init(&one, r);
	asc_chunk_iter_init(&row, r);
	while ((words = asc_chunk_words(&row, &n))) {
		assert_true(n > 0);
		for (size_t i = 0; i < n; i++) {
			assert_true(asc_chunk_next(&one, &c));
			assert_true(words[i] == (c.size | c.state));
		}
	}
	assert_false(asc_chunk_next(&one, &c));
}

/* Chunk sizes, headers, foreign and unwalked bytes make up system_mem, to the byte. */
static void check_sums(const struct asc_heap *h, const struct asc_arena *a)
{
	uint64_t sum = a->header_bytes + a->foreign_bytes + a->unwalked_bytes;

	for (unsigned s = 0; s < ASC_NSTATES; s++)
		sum += a->bytes[s];
	if (h->walked)
		assert_int_equal(sum, a->system_mem);
	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];
		struct asc_chunk_iter it;
		struct asc_chunk c;
		size_t n = 0, e = 0;

		for (size_t j = 1; j < r->extents.n; j++)
			assert_true(asc_extent_at(&r->extents, j).addr >=
				    end_of(asc_extent_at(&r->extents, j - 1)));
		if (!h->walked)
			continue;
		asc_chunk_iter_init(&it, r);
		while (asc_chunk_next(&it, &c)) {
			n++;
			if (c.state == ASC_INUSE)
				continue;
			/* the extents are the chunks that are not in use */
			assert_true(e < r->extents.n);
			assert_int_equal(asc_extent_at(&r->extents, e).addr, c.addr);
			assert_int_equal(asc_extent_at(&r->extents, e).size, c.size);
			assert_int_equal(asc_extent_at(&r->extents, e).state, c.state);
			e++;
		}
		assert_int_equal(e, r->extents.n);
		assert_int_equal(n, r->nchunks);
		check_words(r);
	}
}

static void state_is(const struct asc_heap *h, asc_addr addr, enum asc_state state, unsigned arena)
{
	struct asc_where w;

	assert_true(asc_heap_where(h, addr, &w));
	assert_non_null(w.arena);
	assert_int_equal(w.arena->index, arena);
	if (!h->walked && state == ASC_INUSE) {
		assert_false(w.have_chunk);
		return;
	}
	assert_true(w.have_chunk);
	assert_int_equal(w.chunk.addr, addr);
	assert_int_equal(w.chunk.state, state);
}

static void check_states(const struct std_heap *s, const struct asc_heap *h)
{
	struct asc_where w;

	state_is(h, s->used, ASC_INUSE, 0);
	state_is(h, s->small, ASC_SMALL, 0);
	state_is(h, s->small2, ASC_SMALL, 0);
	state_is(h, s->unsorted, ASC_UNSORTED, 0);
	state_is(h, s->used1, ASC_INUSE, 1);
	state_is(h, s->small1, ASC_SMALL, 1);
	state_is(h, s->last1, ASC_INUSE, 1);
	state_is(h, hi_top(s->hi, 0), ASC_TOP, 0);
	state_is(h, hi_top(s->hi, 1), ASC_TOP, 1);
	for (unsigned i = 0; i < 4; i++)
		state_is(h, s->large[i], ASC_LARGE, 0);
	for (unsigned i = 0; i < 3; i++) {
		if (s->fast)
			state_is(h, s->fastc[i], ASC_FASTBIN, 0);
		if (s->cache)
			state_is(h, s->cached[i], ASC_TCACHE, 0);
	}
	if (s->cache) {
		state_is(h, s->cached1, ASC_TCACHE, 1);
		assert_true(asc_heap_where(h, s->cached1 + 3, &w));
		assert_ptr_equal(w.tcache_owner, &h->threads[0]);
	}
	assert_true(asc_heap_where(h, s->mm[1] + 5, &w));
	assert_true(w.in_mmapped);
	assert_int_equal(w.mmapped.chunk, s->mm[1]);
	assert_true(asc_heap_where(h, hi_heap_addr(s->hi, 1, 0), &w));
	assert_true(w.in_header);
	assert_false(asc_heap_where(h, 0x10, &w));
	if (!h->walked)
		return;
	assert_true(asc_heap_where(h, s->small + 9, &w));
	assert_int_equal(w.prev.addr, s->used2);
	assert_int_equal(w.next.addr, s->behind_small);
	assert_int_equal(w.bin, asc_bin_index(&h->libc, w.chunk.size));
}

static void check_rest(const struct std_heap *s, const struct asc_heap *h)
{
	const struct asc_arena *a = &h->arenas[0];

	assert_int_equal(h->narenas, 3);
	assert_int_equal(h->arenas[1].nregions, 2);
	assert_int_equal(h->arenas[1].counts[ASC_FENCE], 2);
	assert_int_equal(a->counts[ASC_UNSORTED], 2);
	assert_int_equal(a->counts[ASC_SMALL], 2);
	assert_int_equal(a->counts[ASC_LARGE], 4);
	assert_int_equal(a->counts[ASC_TOP], 1);
	assert_int_equal(a->counts[ASC_FASTBIN], s->fast ? 3 : 0);
	assert_int_equal(a->counts[ASC_TCACHE], s->cache ? 3 : 0);
	assert_int_equal(asc_arena_bin(a, 1)->count, 2);
	assert_int_equal(h->mmapped.n, 3);
	assert_true(h->mmapped_complete);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(asc_mmapped_at(h, i).chunk, s->mm[i]);
	assert_int_equal(h->nthreads, 2);
	assert_int_equal(h->threads[0].arena, 0);
	assert_int_equal(h->threads[1].arena, 1);
	assert_int_equal(h->threads[0].cached_chunks, s->cache ? 4 : 0);
	assert_int_equal(h->arenas[1].nthreads, 1);
	assert_int_equal(h->nfindings, 0);
	assert_true(h->complete);
}

static void test_every_shape(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		struct std_heap s = std_heap(hi_shapes[i]);

		for (enum asc_depth d = ASC_DEPTH_LISTS; d <= ASC_DEPTH_WALK; d++) {
			struct asc_heap *h = std_read(&s, d);

			if (h->nfindings)
				fprintf(stderr, "%u bits, 2.%u\n", hi_shapes[i].word * 8,
					hi_shapes[i].minor);
			std_print_findings(h);
			check_rest(&s, h);
			check_states(&s, h);
			for (size_t j = 0; j < h->narenas; j++)
				check_sums(h, &h->arenas[j]);
			asc_heap_free(h);
		}
		std_free(&s);
	}
}

/* Copy what the plan names into a second image: the same model must come of it. */
static void test_plan(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		for (enum asc_depth d = ASC_DEPTH_LISTS; d <= ASC_DEPTH_WALK; d++) {
			struct std_heap s = std_heap(hi_shapes[i]), copy = s;
			const struct asc_maps *maps = asc_target_maps(s.t);
			struct asc_range *r;
			struct asc_heap *a, *b;
			size_t n;

			assert_null(asc_heap_plan(s.t, hi_libc(s.hi), NULL, d, &r, &n));
			copy.hi = hi_blank(s.hi);
			copy.t = hi_target(copy.hi);
			for (size_t j = 0; j < n; j++) {
				for (uint64_t at = 0; at < r[j].len; at += 4096) {
					uint8_t page[4096];
					size_t got = asc_read_some(s.t, r[j].addr + at, page, 4096);

					if (got && asc_maps_find(maps, r[j].addr + at))
						assert_null(asc_image_poke(copy.t, r[j].addr + at,
									   page, got));
				}
			}
			a = std_read(&s, d);
			b = std_read(&copy, d);
			std_print_findings(b);
			assert_int_equal(b->nfindings, 0);
			for (size_t j = 0; j < a->narenas; j++)
				assert_memory_equal(a->arenas[j].counts, b->arenas[j].counts,
						    sizeof(a->arenas[j].counts));
			assert_int_equal(b->mmapped.n, a->mmapped.n);
			asc_heap_free(a);
			asc_heap_free(b);
			free(r);
			hi_free(copy.hi);
			std_free(&s);
		}
	}
}

static struct asc_heap *read_image(struct heap_image *hi, enum asc_depth depth)
{
	struct std_heap s = { .hi = hi, .t = hi_finish(hi) };

	return std_read(&s, depth);
}

static void test_foreign_sbrk(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		struct heap_image *hi =
			hi_new(hi_shapes[i].word, hi_shapes[i].big_endian, hi_shapes[i].minor);
		struct asc_heap *h;
		asc_addr foreign, behind;
		struct asc_where w;

		hi_chunk(hi, 0, hi_size(hi, 900), ASC_INUSE);
		foreign = hi_foreign(hi, 5008);
		behind = hi_chunk(hi, 0, hi_size(hi, 400), ASC_INUSE);
		hi_chunk(hi, 0, hi_size(hi, 2000), ASC_LARGE);
		hi_chunk(hi, 0, hi_size(hi, 64), ASC_INUSE);
		h = read_image(hi, ASC_DEPTH_WALK);
		std_print_findings(h);
		assert_int_equal(h->nfindings, 0);
		assert_int_equal(h->arenas[0].counts[ASC_FENCE], 2);
		assert_true(h->arenas[0].foreign_bytes >= 5000 &&
			    h->arenas[0].foreign_bytes <= 5024);
		check_sums(h, &h->arenas[0]);
		assert_true(asc_heap_where(h, behind, &w) && w.have_chunk &&
			    w.chunk.addr == behind);
		assert_true(asc_heap_where(h, foreign + 100, &w) && !w.have_chunk);
		asc_heap_free(h);
		hi_free(hi);
	}
}

static void test_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		for (enum asc_depth d = ASC_DEPTH_LISTS; d <= ASC_DEPTH_WALK; d++) {
			struct heap_image *hi = hi_new(hi_shapes[i].word, hi_shapes[i].big_endian,
						       hi_shapes[i].minor);
			struct asc_heap *h;
			asc_addr in_first, in_second, in_third;
			struct asc_where w;

			in_first = hi_chunk(hi, 0, hi_size(hi, 900), ASC_INUSE);
			hi_new_region(hi, 0);
			in_second = hi_chunk(hi, 0, hi_size(hi, 900), ASC_INUSE);
			hi_new_region(hi, 0);
			in_third = hi_chunk(hi, 0, hi_size(hi, 900), ASC_INUSE);
			hi_arena(hi);
			hi_chunk(hi, 1, hi_size(hi, 64), ASC_INUSE);
			hi_mmapped(hi, 200000, 0, true);
			h = read_image(hi, d);
			std_print_findings(h);
			assert_int_equal(h->nfindings, 0);
			assert_int_equal(h->arenas[0].nregions, 3);
			check_sums(h, &h->arenas[0]);
			assert_true(asc_heap_where(h, in_first, &w) && w.arena->index == 0);
			assert_true(asc_heap_where(h, in_second, &w) && w.arena->index == 0);
			assert_true(asc_heap_where(h, in_third, &w) && w.arena->index == 0);
			assert_int_equal(h->mmapped.n, 1);
			asc_heap_free(h);
			hi_free(hi);
		}
	}
}

/* A static executable takes its TLS from the same brk: malloc begins in the middle of a page. */
static void test_sbrk_base(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		struct heap_image *hi =
			hi_new(hi_shapes[i].word, hi_shapes[i].big_endian, hi_shapes[i].minor);
		struct asc_heap *h;

		hi_sbrk_offset(hi, 0xd04);
		hi_chunk(hi, 0, hi_size(hi, 900), ASC_INUSE);
		h = read_image(hi, ASC_DEPTH_WALK);
		std_print_findings(h);
		assert_int_equal(h->nfindings, 0);
		check_sums(h, &h->arenas[0]);
		asc_heap_free(h);
		hi_free(hi);
	}
}

static void assert_same_tables(const struct asc_heap *a, const struct asc_heap *b)
{
	assert_int_equal(a->narenas, b->narenas);
	assert_int_equal(a->nfindings, b->nfindings);
	for (size_t i = 0; i < a->narenas; i++) {
		const struct asc_arena *x = &a->arenas[i], *y = &b->arenas[i];

		assert_memory_equal(x->counts, y->counts, sizeof(x->counts));
		assert_memory_equal(x->bytes, y->bytes, sizeof(x->bytes));
		assert_int_equal(x->extents.n, y->extents.n);
		assert_memory_equal(x->extents.v, y->extents.v,
				    x->extents.n * sizeof(*x->extents.v));
		assert_int_equal(x->extents.nlarge, y->extents.nlarge);
		assert_int_equal(x->nregions, y->nregions);
		for (size_t k = 0; k < x->nregions; k++) {
			const struct asc_region *r = &x->regions[k], *q = &y->regions[k];
			struct asc_chunk_iter m, n;
			struct asc_chunk c, d;

			assert_int_equal(r->nchunks, q->nchunks);
			asc_chunk_iter_init(&m, r);
			asc_chunk_iter_init(&n, q);
			while (asc_chunk_next(&m, &c)) {
				assert_true(asc_chunk_next(&n, &d));
				assert_true(c.addr == d.addr && c.size == d.size &&
					    c.state == d.state);
			}
			assert_false(asc_chunk_next(&n, &d));
			check_words(q);
		}
	}
}

/* Enough chunks for several index entries, several windows, and a table that grows. */
static void test_many(void **state)
{
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_WALK };
	struct std_heap s = { .hi = hi_new(8, false, 36) };
	struct asc_heap *h = NULL;
	struct asc_where w;

	(void)state;
	for (unsigned i = 0; i < 19999; i++)
		hi_chunk(s.hi, 0, 32 + 16 * (i % 60), i % 3 == 1 ? ASC_LARGE : ASC_INUSE);
	s.t = hi_finish(s.hi);
	h = std_read(&s, ASC_DEPTH_WALK);
	std_print_findings(h);
	assert_int_equal(h->nfindings, 0);
	assert_int_equal(h->arenas[0].regions[0].nchunks, 20000);
	check_sums(h, &h->arenas[0]);
	for (size_t i = 0, n = 0; i < h->arenas[0].extents.n; i++, n++) {
		struct asc_chunk c = asc_extent_at(&h->arenas[0].extents, i);

		assert_true(asc_heap_where(h, c.addr + 8, &w));
		assert_int_equal(w.chunk.addr, c.addr);
		assert_int_equal(w.prev.addr + w.prev.size, w.chunk.addr);
	}
	asc_heap_free(h);
	h = NULL;
	/* beyond the bound the tables go to a file, and say the same */
	h = std_read(&s, ASC_DEPTH_WALK);
	for (opts.max_memory = 20000; opts.max_memory < 1000000; opts.max_memory *= 3) {
		struct asc_heap *small = NULL;

		assert_null(asc_heap_read(s.t, hi_libc(s.hi), NULL, &opts, &small));
		if (opts.max_memory == 20000)
			assert_true(small->arenas[0].regions[0].chunks_on_disk);
		assert_same_tables(h, small);
		asc_heap_free(small);
	}
	asc_heap_free(h);
	std_free(&s);
}

/* Where there is no file for them either, the error says what would help. */
static void test_no_room(void **state)
{
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_WALK, .max_memory = 100 };
	struct std_heap s = { .hi = hi_new(8, false, 36) };
	struct asc_heap *h = NULL;
	struct asc_error *err;

	(void)state;
	for (size_t i = 0; i < 200; i++)
		hi_chunk(s.hi, 0, 64, ASC_INUSE);
	s.t = hi_finish(s.hi);
	err = asc_heap_read(s.t, hi_libc(s.hi), NULL, &opts, &h);
	assert_non_null(err);
	assert_null(h);
	assert_int_equal(err->code, ASC_ENOMEM);
	assert_non_null(strstr(asc_error_hint(err), "--max-memory"));
	asc_error_free(err);
	std_free(&s);
}

static bool stop_at_once(void *arg, uint64_t done, uint64_t total)
{
	(void)done;
	assert_true(total > 0);
	++*(unsigned *)arg;
	return false;
}

static void test_interrupted(void **state)
{
	struct std_heap s = std_heap((struct hi_shape){ 8, false, 36 });
	unsigned calls = 0;
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_WALK,
				      .progress = stop_at_once,
				      .progress_arg = &calls };
	struct asc_heap *h = NULL;
	struct asc_error *err = asc_heap_read(s.t, hi_libc(s.hi), NULL, &opts, &h);

	(void)state;
	assert_non_null(err);
	assert_int_equal(err->code, ASC_EINTR);
	assert_int_equal(calls, 1);
	assert_null(h);
	asc_error_free(err);
	std_free(&s);
}

/* Never used: no top, no bins; and started, but nothing allocated yet. */
static void test_virgin(void **state)
{
	(void)state;
	for (unsigned started = 0; started < 2; started++) {
		struct heap_image *hi = hi_new(8, false, started ? 43 : 31);
		struct asc_target *t = hi_finish(hi);
		const struct asc_layout *l = &hi_libc(hi)->layout;
		asc_addr a = hi_arena_addr(hi, 0), head = a + l->malloc_state_bins.off - 16;
		struct std_heap s = { .hi = hi, .t = t };
		struct asc_heap *h;

		hi_poke(hi, a + l->malloc_state_system_mem.off, 0);
		hi_poke(hi, a + l->malloc_state_max_system_mem.off, 0);
		hi_poke(hi, a + l->malloc_state_top.off, started ? head : 0);
		for (unsigned i = 0; i < 254 && !started; i++)
			hi_poke(hi, a + l->malloc_state_bins.off + 8 * i, 0);
		h = std_read(&s, ASC_DEPTH_WALK);
		std_print_findings(h);
		assert_int_equal(h->nfindings, 0);
		assert_int_equal(h->arenas[0].initialised, started);
		assert_int_equal(h->arenas[0].nregions, 0);
		assert_int_equal(h->arenas[0].top_size, 0);
		asc_heap_free(h);
		hi_free(hi);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_shape),  cmocka_unit_test(test_plan),
		cmocka_unit_test(test_foreign_sbrk), cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_sbrk_base),    cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_room),	     cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_virgin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
