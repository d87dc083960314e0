/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queries against a count page by page, and the two ways of asking the kernel against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target/pagemap.h"
#include "target/proc.h"
#include "target/runs.h"
#include "target/target.h"

enum { PAGES = 200, PAGE = 4096, ROUNDS = 300 };

static uint64_t seed = 1;

static uint64_t rnd(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static const unsigned kinds[] = {
	0,
	ASC_PAGE_PRESENT,
	ASC_PAGE_PRESENT | ASC_PAGE_FILE,
	ASC_PAGE_PRESENT | ASC_PAGE_ZERO,
	ASC_PAGE_PRESENT | ASC_PAGE_HUGETLB,
	ASC_PAGE_PRESENT | ASC_PAGE_DEVICE,
	ASC_PAGE_SWAPPED,
	ASC_PAGE_FILE, /* neither present nor swapped: not kept */
};

static bool counts(unsigned flags)
{
	return flags == ASC_PAGE_PRESENT || flags == (ASC_PAGE_PRESENT | ASC_PAGE_FILE);
}

/* Bytes of [lo, hi) on pages that are as wanted, byte by byte as it were. */
static uint64_t brute(const unsigned *flags, uint64_t lo, uint64_t hi, bool swapped)
{
	uint64_t sum = 0;

	for (uint64_t p = 0; p < PAGES; p++) {
		uint64_t from = p * PAGE > lo ? p * PAGE : lo;
		uint64_t to = (p + 1) * PAGE < hi ? (p + 1) * PAGE : hi;

		if (from < to && (swapped ? flags[p] == ASC_PAGE_SWAPPED : counts(flags[p])))
			sum += to - from;
	}
	return sum;
}

static void shuffle(struct asc_page_run *v, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = rnd(i);
		struct asc_page_run t = v[i - 1];

		v[i - 1] = v[j];
		v[j] = t;
	}
}

/* In order, beyond the first few in a file. */
static struct asc_residency *make_in_file(const unsigned *flags)
{
	struct asc_runs runs = { .in_memory = 2 };
	struct asc_residency *r;

	for (uint64_t p = 0; p < PAGES; p++)
		assert_null(asc_runs_push(&runs,
					  asc_page_run_make(p * PAGE, (p + 1) * PAGE, flags[p])));
	assert_non_null(runs.file);
	assert_null(asc_residency_of(ASC_RESIDENCY_SCAN, PAGE, &runs, &r));
	return r;
}

static struct asc_residency *make(const unsigned *flags)
{
	struct asc_page_run *runs = malloc(PAGES * sizeof(*runs));
	struct asc_residency *r;
	size_t n = 0;

	for (uint64_t p = 0; p < PAGES; p++)
		runs[n++] = asc_page_run_make(p * PAGE, (p + 1) * PAGE, flags[p]);
	shuffle(runs, n);
	assert_null(asc_residency_init(ASC_RESIDENCY_SCAN, PAGE, runs, n, &r));
	return r;
}

static void test_against_brute_force(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned flags[PAGES];
		struct asc_residency *r;
		uint64_t kind_count = 1 + rnd(sizeof(kinds) / sizeof(kinds[0]));

		for (uint64_t p = 0; p < PAGES; p++)
			flags[p] = p && rnd(3) ? flags[p - 1] : kinds[rnd(kind_count)];
		r = round % 2 ? make(flags) : make_in_file(flags);
		for (size_t i = 1; i < r->n; i++)
			assert_true(r->v[i - 1].end < asc_page_run_start(&r->v[i]) ||
				    asc_page_run_flags(&r->v[i - 1]) !=
					    asc_page_run_flags(&r->v[i]));
		for (int k = 0; k < 50; k++) {
			uint64_t lo = rnd((PAGES + 2) * PAGE), hi = rnd((PAGES + 2) * PAGE);
			size_t at = asc_residency_seek(r, lo);

			assert_int_equal(asc_resident_bytes(r, lo, hi),
					 brute(flags, lo, hi, false));
			assert_int_equal(asc_swapped_bytes(r, lo, hi), brute(flags, lo, hi, true));
			assert_true(at == r->n || r->v[at].end > lo);
			assert_true(!at || r->v[at - 1].end <= lo);
		}
		assert_int_equal(asc_resident_bytes(r, 0, UINT64_MAX),
				 brute(flags, 0, (PAGES + 2) * PAGE, false));
		assert_int_equal(asc_swapped_bytes(r, 0, UINT64_MAX),
				 brute(flags, 0, (PAGES + 2) * PAGE, true));
		asc_residency_free(r);
	}
}

/* Bytes of files that are in this process's memory. */
static size_t file_bytes(void)
{
	char line[128];
	size_t kb = 0;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "RssFile:", 8))
			kb = strtoul(line + 8, NULL, 10);
	fclose(f);
	return kb << 10;
}

/* So many single pages that sums are not kept for every 16th: the same answers, and little of them in memory. */
static void test_millions(void **state)
{
	enum { N = 3 << 20, WINDOW = 6 << 20 };
	struct asc_runs in_memory = { .in_memory = SIZE_MAX }, in_file = { 0 };
	struct asc_residency *a, *b;
	asc_addr at = PAGE;
	size_t before;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		struct asc_page_run run;

		at += PAGE * (1 + rnd(3));
		run = asc_page_run_make(at, at + PAGE, kinds[1 + rnd(6)]);
		at += PAGE;
		assert_null(asc_runs_push(&in_memory, run));
		assert_null(asc_runs_push(&in_file, run));
	}
	assert_null(in_memory.file);
	assert_non_null(in_file.file);
	assert_null(asc_residency_of(ASC_RESIDENCY_SCAN, PAGE, &in_memory, &a));
	before = file_bytes();
	assert_null(asc_residency_of(ASC_RESIDENCY_SCAN, PAGE, &in_file, &b));
	assert_null(a->file);
	assert_non_null(b->file);
	assert_true(b->every > 16);
	assert_int_equal(a->n, N);
	assert_int_equal(b->n, N);
	for (size_t i = 0; i < N; i++) {
		asc_residency_passed(b, i);
		assert_memory_equal(&a->v[i], &b->v[i], sizeof(a->v[i]));
	}
	assert_true(file_bytes() < before + WINDOW);
	for (int k = 0; k < 3000; k++) {
		uint64_t lo = rnd(at + 2 * PAGE), hi = rnd(at + 2 * PAGE);

		assert_int_equal(asc_residency_seek(b, lo), asc_residency_seek(a, lo));
		assert_int_equal(asc_resident_bytes(b, lo, hi), asc_resident_bytes(a, lo, hi));
		assert_int_equal(asc_swapped_bytes(b, lo, hi), asc_swapped_bytes(a, lo, hi));
	}
	assert_int_equal(asc_residency_seek(b, at), N);
	assert_int_equal(asc_residency_seek(b, 0), 0);
	assert_true(file_bytes() < before + WINDOW);
	asc_residency_free(a);
	asc_residency_free(b);
}

/* No directory for a file: it stays in memory. */
static void test_no_file(void **state)
{
	struct asc_runs runs = { .in_memory = 2, .no_file = true };
	struct asc_residency *r;

	(void)state;
	for (uint64_t p = 0; p < PAGES; p++)
		assert_null(asc_runs_push(&runs, asc_page_run_make(2 * p * PAGE, (2 * p + 1) * PAGE,
								   ASC_PAGE_PRESENT)));
	assert_null(runs.file);
	assert_null(asc_residency_of(ASC_RESIDENCY_SCAN, PAGE, &runs, &r));
	assert_int_equal(asc_resident_bytes(r, 0, UINT64_MAX), (uint64_t)PAGES * PAGE);
	asc_residency_free(r);
}

static void test_edges(void **state)
{
	struct asc_page_run *runs = calloc(3, sizeof(*runs));
	struct asc_residency *r = NULL;
	struct asc_error *err;

	(void)state;
	runs[0] = asc_page_run_make(0, 2 * PAGE, ASC_PAGE_PRESENT);
	runs[1] = asc_page_run_make(PAGE, 3 * PAGE, ASC_PAGE_PRESENT);
	err = asc_residency_init(ASC_RESIDENCY_SCAN, PAGE, runs, 2, &r);
	assert_non_null(err);
	assert_null(r);
	asc_error_free(err);
	runs = calloc(3, sizeof(*runs));
	runs[0] = asc_page_run_make(UINT64_MAX - PAGE + 1, UINT64_MAX, ASC_PAGE_PRESENT);
	runs[1] = asc_page_run_make(5 * PAGE, 5 * PAGE, ASC_PAGE_PRESENT);
	runs[2] = asc_page_run_make(9 * PAGE, 4 * PAGE, ASC_PAGE_PRESENT);
	assert_null(asc_residency_init(ASC_RESIDENCY_SCAN, PAGE, runs, 3, &r));
	assert_int_equal(r->n, 1);
	assert_int_equal(asc_resident_bytes(r, 0, UINT64_MAX), PAGE - 1);
	assert_int_equal(asc_resident_bytes(r, 10, 5), 0);
	asc_residency_free(r);
	assert_null(asc_residency_init(ASC_RESIDENCY_UNKNOWN, PAGE, NULL, 0, &r));
	assert_non_null(r->why_unknown);
	assert_int_equal(asc_resident_bytes(r, 0, UINT64_MAX), 0);
	assert_int_equal(asc_residency_seek(r, 7), 0);
	asc_residency_free(r);
	asc_residency_free(NULL);
}

static struct asc_residency *look(bool no_scan, const struct asc_maps *maps)
{
	struct asc_pagemap *p;
	struct asc_residency *r;

	assert_null(asc_pagemap_open(getpid(), getpid(), &p));
	if (no_scan)
		asc_pagemap_set_no_scan(p);
	assert_null(asc_pagemap_residency(p, maps, &r));
	asc_pagemap_close(p);
	return r;
}

/* Of ourselves: known pages, seen both ways. */
static void test_live(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), len = 3000 * page;
	struct asc_text text = { 0 };
	struct asc_maps maps;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(p != MAP_FAILED && !madvise(p, len, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < len; i += 2 * page) /* 1,500 runs: more than the kernel's buffer */
		p[i] = 1;
	assert_int_equal(asc_proc_read(getpid(), 0, "maps", &text), 0);
	assert_null(asc_maps_parse(text.p, text.len, &maps));
	for (int no_scan = 0; no_scan < 2; no_scan++) {
		struct asc_residency *r = look(no_scan, &maps);
		uintptr_t at = (uintptr_t)p;

		if (r->source == ASC_RESIDENCY_UNKNOWN) {
			asc_residency_free(r);
			continue;
		}
		if (no_scan)
			assert_int_equal(r->source, ASC_RESIDENCY_PAGEMAP);
		assert_int_equal(asc_resident_bytes(r, at, at + len), len / 2);
		for (size_t i = 0; i < len; i += page)
			assert_int_equal(asc_resident_bytes(r, at + i, at + i + page),
					 i / page % 2 ? 0 : page);
		asc_residency_free(r);
	}
	asc_maps_free(&maps);
	asc_text_free(&text);
	munmap(p, len);
}

/* No right to look: unknown with a reason, not an error and not zero. */
static void test_unreadable(void **state)
{
	struct asc_maps maps = { 0 };
	struct asc_pagemap *p;
	struct asc_residency *r;

	(void)state;
	assert_null(asc_pagemap_open(0x3fffffff, 0x3fffffff, &p));
	assert_null(asc_pagemap_residency(p, &maps, &r));
	assert_int_equal(r->source, ASC_RESIDENCY_UNKNOWN);
	assert_non_null(r->why_unknown);
	asc_residency_free(r);
	asc_pagemap_close(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_brute_force),
		cmocka_unit_test(test_millions),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
