/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arenascope/advise.h"

enum { MIB = 1 << 20 };

struct scene {
	struct asc_heap heap;
	struct asc_arena arenas[20];
	struct asc_ledger ledger;
	struct asc_arena_ledger al[20];
	struct asc_prediction trim, reclaim;
	struct asc_advise_in in;
};

static void scene(struct scene *s, size_t arenas)
{
	memset(s, 0, sizeof(*s));
	s->heap.arenas = s->arenas;
	s->heap.narenas = s->ledger.narenas = arenas;
	s->heap.page_size = 4096;
	s->heap.libc.minor = 36;
	s->heap.libc.has_tcache = true;
	s->heap.params.trim_threshold = s->heap.params.mmap_threshold = 128 << 10;
	for (unsigned i = 0; i < arenas; i++)
		s->arenas[i] =
			(struct asc_arena){ .index = i, .initialised = true, .system_mem = MIB };
	s->ledger.known = s->ledger.malloc_pages.known = s->ledger.malloc_pages.cached_known = true;
	s->ledger.arenas = s->al;
	s->in = (struct asc_advise_in){ .heap = &s->heap,
					.ledger = &s->ledger,
					.trim = &s->trim,
					.reclaim = &s->reclaim,
					.env_known = true };
}

static const struct asc_advice_item *find(const struct asc_advice *a, const char *code)
{
	for (size_t i = 0; i < a->nitems; i++)
		if (!strcmp(a->items[i].code, code))
			return &a->items[i];
	return NULL;
}

static void retained_everywhere(struct scene *s)
{
	scene(s, 11);
	for (size_t i = 1; i < 11; i++)
		s->al[i].pages.retained = 8 * MIB;
	s->ledger.malloc_pages.retained = 80 * MIB;
	s->ledger.malloc_pages.in_use = 10 * MIB;
	s->ledger.malloc_pages.resident = 90 * MIB;
	s->ledger.rss = 100 * MIB;
	s->heap.params.mmap_threshold = 4 * MIB;
	s->heap.params.trim_threshold = 8 * MIB;
}

static void test_dynamic(void **state)
{
	static const char *const env[] = {
		"HOME=/x", "MALLOC_ARENA_MAX=4",
		"GLIBC_TUNABLES=glibc.malloc.check=1:glibc.malloc.trim_threshold=77"
	};
	const struct asc_advice_item *it;
	struct asc_advice *a;
	struct scene s;

	(void)state;
	retained_everywhere(&s);
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_RETAINED_DYNAMIC);
	assert_int_equal(a->verdict_bytes, 80 * MIB);
	assert_string_equal(asc_verdict_name(a->verdict),
			    "RETAINED AT THE TOP BY THE DYNAMIC THRESHOLD");
	assert_string_equal(a->items[0].code, "retained");
	assert_non_null(strstr(a->items[0].text, "80% of RSS (80.0 MiB)"));
	assert_non_null(strstr(a->items[0].text, "10 thread arenas"));
	assert_string_equal(a->items[0].command, "reclaim -n");
	it = find(a, "threshold");
	assert_non_null(it);
	assert_non_null(strstr(it->text, "grown to 8.0 MiB: freeing a 4.0 MiB"));
	assert_string_equal(it->fix, "GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072");
	assert_string_equal(a->fixes[0].tunable, "glibc.malloc.trim_threshold");
	assert_true(a->fixes[0].freezes && a->fixes[0].usable && !a->fixes[0].set_to);
	assert_int_equal(a->fixes[0].saves, 80 * MIB - 10 * (128 << 10));
	asc_advice_free(a);

	s.in.env = env;
	s.in.nenv = 3;
	assert_null(asc_advise(&s.in, &a));
	assert_string_equal(a->fixes[0].set_to, "77");
	asc_advice_free(a);

	s.heap.params.no_dyn_threshold = 1; /* set by hand: the rule is off */
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_RETAINED);
	assert_null(find(a, "threshold"));
	asc_advice_free(a);

	s.heap.libc.minor = 17; /* no tunables yet */
	assert_null(asc_advise(&s.in, &a));
	assert_false(a->fixes[0].usable);
	assert_string_equal(a->fixes[0].variable, "MALLOC_TRIM_THRESHOLD_");
	asc_advice_free(a);
}

static void verdict(struct scene *s, enum asc_verdict want)
{
	struct asc_advice *a;

	assert_null(asc_advise(&s->in, &a));
	assert_int_equal(a->verdict, want);
	for (size_t i = 1; i < a->nitems; i++)
		assert_true(a->items[i - 1].bytes >= a->items[i].bytes);
	asc_advice_free(a);
}

static void test_verdicts(void **state)
{
	struct asc_pages *m;
	struct scene s;

	(void)state;
	scene(&s, 1);
	m = &s.ledger.malloc_pages;
	s.ledger.rss = 100 * MIB;
	m->resident = m->in_use = 90 * MIB;
	verdict(&s, ASC_VERDICT_LEAK_LIKE);
	m->in_use = 60 * MIB;
	m->trimmable = 30 * MIB; /* a quarter of RSS is free: that is the answer */
	verdict(&s, ASC_VERDICT_TRIMMABLE);
	m->trimmable = 20 * MIB;
	m->fragmented = 10 * MIB;
	verdict(&s, ASC_VERDICT_LEAK_LIKE);
	m->fragmented = 40 * MIB;
	m->in_use = 30 * MIB;
	verdict(&s, ASC_VERDICT_FRAGMENTED);
	scene(&s, 20);
	s.ledger.rss = 100 * MIB;
	s.ledger.malloc_pages.resident = 90 * MIB;
	s.ledger.malloc_pages.fragmented = 70 * MIB;
	s.ledger.malloc_pages.in_use = 20 * MIB;
	verdict(&s, ASC_VERDICT_ARENAS);
	s.ledger.malloc_pages.fragmented = 0;
	s.ledger.malloc_pages.cached = 70 * MIB;
	verdict(&s, ASC_VERDICT_CACHED);
	scene(&s, 1);
	s.ledger.rss = 100 * MIB;
	s.ledger.mmapped_chunks = 80 * MIB;
	verdict(&s, ASC_VERDICT_MMAPPED);
	s.ledger.mmapped_chunks = 0;
	verdict(&s, ASC_VERDICT_NOT_MALLOC);
	s.in.heap = NULL;
	s.in.trim = s.in.reclaim = NULL;
	s.in.allocator = "jemalloc";
	verdict(&s, ASC_VERDICT_NOT_MALLOC);
	s.ledger.files = 95 * MIB;
	verdict(&s, ASC_VERDICT_NOTHING);
	s.ledger.known = false;
	verdict(&s, ASC_VERDICT_UNKNOWN);
}

/* Tcaches that were not found hold at most what their lists take: that decides what may be said. */
static void test_unknown_tcaches(void **state)
{
	/* 64 lists of 7 chunks of 32, 48 ... 1040 bytes */
	const uint64_t most = 7 * (64 * 32 + 16 * 63 * 64 / 2);
	struct asc_heap_thread threads[3] = { { .tcache_known = true } };
	const struct asc_advice_item *it;
	struct asc_advice *a;
	struct scene s;

	(void)state;
	scene(&s, 1);
	s.heap.threads = threads;
	s.heap.nthreads = 3;
	s.heap.libc.hdr = 16;
	s.heap.libc.minsize = 32;
	s.heap.libc.malloc_alignment = 16;
	s.heap.libc.ntcache = 64;
	s.heap.params.has_tcache = true;
	s.heap.params.tcache_max_bytes = 1032;
	s.heap.params.tcache_count = 7;
	s.ledger.malloc_pages.cached_known = false;
	s.ledger.malloc_pages.in_use = s.ledger.malloc_pages.resident = 90 * MIB;
	s.ledger.rss = 100 * MIB;
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_LEAK_LIKE);
	it = find(a, "tcaches_unknown");
	assert_non_null(it);
	assert_int_equal(it->bytes, 2 * most);
	asc_advice_free(a);

	/* lists that long may hold all of it */
	s.heap.params.tcache_count = 60000;
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_UNKNOWN);
	assert_int_equal(a->verdict_bytes, 0);
	assert_non_null(a->why_unknown);
	assert_int_equal(find(a, "tcaches_unknown")->bytes, 90 * MIB);
	asc_advice_free(a);

	/* damaged limits bound nothing */
	s.heap.params.tcache_count = s.heap.params.tcache_max_bytes = UINT64_MAX;
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_UNKNOWN);
	asc_advice_free(a);

	/* nobody's tcache is known, not even whose there are */
	s.heap.params.tcache_count = 7;
	s.heap.nthreads = 0;
	assert_null(asc_advise(&s.in, &a));
	assert_int_equal(a->verdict, ASC_VERDICT_UNKNOWN);
	asc_advice_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_dynamic),
					    cmocka_unit_test(test_verdicts),
					    cmocka_unit_test(test_unknown_tcaches) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
