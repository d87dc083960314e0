/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pins against freeing each island for real and counting pages; cells and utilisation by the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arenascope/pins.h"
#include "base/num.h"
#include "extents.h"
#include "target/target.h"

enum { MAX = 300, PAGE = 4096, LEN = 64 * PAGE, BASE = 0x10000000 };

struct toy {
	struct asc_heap heap;
	struct asc_arena arena;
	struct asc_region region;
	struct asc_span span;
	uint64_t words[MAX];
	uint64_t free_words[MAX];
	struct asc_chunk large[MAX];
	struct asc_extents extents;
	struct asc_chunk chunks[MAX];
	size_t n;
	struct asc_residency *res;
	bool present[LEN / PAGE];
};

static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static bool is_free(enum asc_state s)
{
	return s == ASC_LARGE || s == ASC_TOP;
}

static void make(struct toy *t, uint64_t with)
{
	static const enum asc_state states[] = { ASC_INUSE, ASC_INUSE, ASC_TCACHE, ASC_LARGE,
						 ASC_LARGE };
	struct asc_page_run *runs = calloc(LEN / PAGE, sizeof(*runs));
	uint64_t pos = 0, max;
	size_t nruns = 0;

	assert_non_null(runs);
	memset(t, 0, sizeof(*t));
	t->extents = packed_in(t->free_words, t->large);
	seed = with;
	max = rnd(2) ? 600 : 9000;
	while (t->n < MAX - 1 && LEN - pos > 16384) {
		uint64_t size = 32 + 16 * rnd(max / 16);
		enum asc_state s = states[rnd(5)];

		if (t->n && is_free(s) && is_free(t->chunks[t->n - 1].state))
			s = ASC_INUSE;
		t->chunks[t->n++] = (struct asc_chunk){ BASE + pos, size, s };
		pos += size;
	}
	if (is_free(t->chunks[t->n - 1].state))
		t->chunks[t->n - 1].state = ASC_INUSE;
	t->chunks[t->n++] = (struct asc_chunk){ BASE + pos, LEN - pos, ASC_TOP };
	for (size_t i = 0; i < t->n; i++) {
		const struct asc_chunk *c = &t->chunks[i];

		t->words[i] = c->size | c->state;
		if (c->state != ASC_INUSE)
			packed_add(&t->extents, c->addr, c->size, c->state);
	}
	for (size_t i = 0; i < LEN / PAGE; i++) {
		t->present[i] = rnd(4) != 0;
		runs[nruns++] = asc_page_run_make(BASE + i * PAGE, BASE + (i + 1) * PAGE,
						  t->present[i] ? ASC_PAGE_PRESENT : 0);
	}
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, PAGE, runs, nruns, &t->res));
	t->span = (struct asc_span){ BASE, BASE + LEN, 0, t->n };
	t->region = (struct asc_region){ .start = BASE,
					 .first = BASE,
					 .end = BASE + LEN,
					 .has_top = true,
					 .extents = t->extents,
					 .chunks = t->words,
					 .nchunks = t->n,
					 .spans = &t->span,
					 .nspans = 1 };
	t->arena = (struct asc_arena){ .initialised = true, .regions = &t->region, .nregions = 1 };
	t->heap = (struct asc_heap){ .arenas = &t->arena,
				     .narenas = 1,
				     .walked = true,
				     .page_size = PAGE,
				     .libc = { .chunk_struct = 48, .minsize = 32 } };
}

/* Resident whole free pages, chunk by chunk, page by page; free neighbours count as one run. */
static uint64_t whole_pages(const struct toy *t, const struct asc_chunk *v, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		asc_addr end = v[i].addr + v[i].size, start = v[i].addr;

		if (!is_free(v[i].state))
			continue;
		for (; i + 1 < n && is_free(v[i + 1].state); i++)
			end = v[i + 1].addr + v[i + 1].size;
		for (size_t p = 0; p < LEN / PAGE; p++)
			if (t->present[p] && BASE + p * PAGE >= start + 48 &&
			    BASE + (p + 1) * PAGE <= end)
				sum += PAGE;
	}
	return sum;
}

static void test_pins(void **state)
{
	static struct toy t;
	static struct asc_chunk copy[MAX];

	(void)state;
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t islands = 0, frees = 0;
		struct asc_pins *p;

		make(&t, i);
		assert_null(asc_pins_make(&t.heap, t.res, -1, MAX, &p));
		for (size_t k = 0; k < t.n;) {
			size_t end = k;
			bool live = false;

			memcpy(copy, t.chunks, sizeof(copy));
			for (; end < t.n && !is_free(copy[end].state); end++) {
				live |= copy[end].state == ASC_INUSE;
				copy[end].state = ASC_LARGE;
			}
			if (end == k) {
				k++;
				continue;
			}
			uint64_t gain = whole_pages(&t, copy, t.n) - whole_pages(&t, t.chunks, t.n);
			asc_addr first = 0;

			for (size_t j = k; j < end && !first; j++)
				first = t.chunks[j].state == ASC_INUSE ? t.chunks[j].addr : 0;
			islands++;
			frees += gain;
			for (size_t j = 0; j < p->n; j++)
				if (live && p->v[j].addr == first) {
					assert_int_equal(p->v[j].frees, gain);
					assert_true(p->v[j].strands <= gain);
				}
			k = end;
		}
		assert_int_equal(p->islands, islands);
		for (size_t j = 1; j < p->n; j++)
			assert_true(p->v[j - 1].strands >= p->v[j].strands);
		uint64_t strands = 0;

		for (size_t j = 0; j < p->ngroups; j++)
			strands += p->groups[j].strands;
		assert_int_equal(strands, p->strands);
		assert_true(p->strands <= frees);
		if (p->n > 3) { /* the largest are kept */
			struct asc_pins *few;

			assert_null(asc_pins_make(&t.heap, t.res, 0, 3, &few));
			assert_int_equal(few->n, 3);
			for (size_t j = 0; j < 3; j++)
				assert_int_equal(few->v[j].strands, p->v[j].strands);
			asc_pins_free(few);
		}
		asc_pins_free(p);
		asc_residency_free(t.res);
	}
}

static void test_cells_and_pages(void **state)
{
	static struct toy t;
	static const uint64_t sizes[] = { PAGE, 16, 4 * PAGE, 1 << 20 };

	(void)state;
	for (uint64_t i = 0; i < 60; i++) {
		uint64_t bytes[3] = { 0 }, resident = 0, pages = 0;
		struct asc_utilisation u;
		struct asc_cell *c;
		size_t n;

		make(&t, i * 31);
		for (size_t k = 0; k < t.n; k++)
			for (asc_addr b = t.chunks[k].addr; b < t.chunks[k].addr + t.chunks[k].size;
			     b++)
				if (t.present[(b - BASE) / PAGE])
					bytes[t.chunks[k].state == ASC_TOP
						      ? 2
						      : t.chunks[k].state == ASC_LARGE]++;
		for (size_t s = 0; s < 4; s++) {
			uint64_t got[3] = { 0 }, absent = 0;

			assert_null(asc_region_cells(&t.heap, &t.arena, &t.region, t.res, sizes[s],
						     ASC_AFTER_NOTHING, &c, &n));
			for (size_t k = 0; k < n; k++) {
				got[0] += c[k].live;
				got[1] += c[k].free;
				got[2] += c[k].top;
				absent += c[k].absent;
				assert_true(c[k].live + c[k].free + c[k].top + c[k].absent <=
					    sizes[s]);
			}
			for (size_t k = 0; k < 3; k++)
				assert_int_equal(got[k], bytes[k]);
			assert_int_equal(got[0] + got[1] + got[2] + absent, LEN);
			free(c);
		}
		assert_null(asc_region_cells(&t.heap, &t.arena, &t.region, t.res, PAGE,
					     ASC_AFTER_RECLAIM, &c, &n));
		for (size_t k = 0; k < n; k++)
			resident += c[k].live + c[k].free + c[k].top;
		free(c);
		assert_int_equal(bytes[0] + bytes[1] + bytes[2] - resident,
				 whole_pages(&t, t.chunks, t.n));
		assert_null(asc_utilisation(&t.heap, t.res, -1, &u));
		assert_int_equal(u.resident, bytes[0] + bytes[1] + bytes[2]);
		for (size_t k = 0; k < ASC_UTIL_BUCKETS; k++)
			pages += u.pages[k];
		assert_int_equal(pages * PAGE, u.resident);
		for (size_t k = 0; k < t.n && !i; k++) /* one page by hand */
			assert_true(u.live <= u.resident);
		asc_residency_free(t.res);
	}
}

/* 0, 1..10 ... 100: which bucket a page is counted in. */
static void test_buckets(void **state)
{
	static struct toy t;
	struct asc_utilisation u;

	(void)state;
	make(&t, 1);
	asc_residency_free(t.res);
	t.extents = packed_in(t.free_words, t.large);
	packed_add(&t.extents, BASE + 16, PAGE - 16, ASC_LARGE);     /* 16 live: 0.4 % */
	packed_add(&t.extents, BASE + PAGE + 2048, 2048, ASC_LARGE); /* 50 % */
	packed_add(&t.extents, BASE + 3 * PAGE, PAGE, ASC_LARGE);    /* 0 % */
	packed_add(&t.extents, BASE + 5 * PAGE - 16, 16, ASC_LARGE); /* 99.6 % */
	struct asc_page_run *runs = calloc(1, sizeof(*runs));

	assert_non_null(runs);
	runs[0] = asc_page_run_make(BASE, BASE + 5 * PAGE, ASC_PAGE_PRESENT);
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, PAGE, runs, 1, &t.res));
	t.region.extents = t.extents;
	assert_null(asc_utilisation(&t.heap, t.res, -1, &u));
	assert_int_equal(u.pages[0], 1);
	assert_int_equal(u.pages[1], 1);
	assert_int_equal(u.pages[5], 1);
	assert_int_equal(u.pages[10], 1);
	assert_int_equal(u.pages[11], 1);
	assert_int_equal(u.mixed_pages, 3);
	assert_int_equal(u.mixed_live, 16 + 2048 + PAGE - 16);
	assert_int_equal(u.mixed_free, PAGE - 16 + 2048 + 16);
	assert_int_equal(u.live, 16 + 2048 + PAGE + PAGE - 16);
	asc_residency_free(t.res);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pins),
					    cmocka_unit_test(test_cells_and_pages),
					    cmocka_unit_test(test_buckets) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
