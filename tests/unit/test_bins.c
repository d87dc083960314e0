/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which list a size belongs to, and what each list holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "heap_image_priv.h"
#include "heap_std.h"

static struct asc_heap_libc libc_of(unsigned word, unsigned minor)
{
	struct asc_layout l;

	hi_layout(&l, word, minor);
	return (struct asc_heap_libc){ .word = l.word,
				       .malloc_alignment = l.malloc_alignment,
				       .minsize = l.minsize,
				       .ntcache = l.ntcache };
}

/* Borders, from the comments in malloc.c: 64 bits, 32 bits, 32 bits with an alignment of 16. */
static void test_bin_index(void **state)
{
	struct asc_heap_libc l64 = libc_of(8, 36), l32 = libc_of(4, 23), l32big = libc_of(4, 36);

	(void)state;
	assert_int_equal(asc_bin_index(&l64, 32), 2);
	assert_int_equal(asc_bin_index(&l64, 1008), 63);
	assert_int_equal(asc_bin_index(&l64, 1024), 64);
	assert_int_equal(asc_bin_index(&l64, 3072), 96);
	assert_int_equal(asc_bin_index(&l64, 3136), 97);
	assert_int_equal(asc_bin_index(&l64, 10752), 112);
	assert_int_equal(asc_bin_index(&l64, 45056), 120);
	assert_int_equal(asc_bin_index(&l64, 163840), 124);
	assert_int_equal(asc_bin_index(&l64, 524288), 126);
	assert_int_equal(asc_bin_index(&l64, (uint64_t)1 << 40), 126);
	assert_int_equal(asc_bin_index(&l32, 16), 2);
	assert_int_equal(asc_bin_index(&l32, 504), 63);
	assert_int_equal(asc_bin_index(&l32, 512), 64);
	assert_int_equal(asc_bin_index(&l32, 2432), 94);
	assert_int_equal(asc_bin_index(&l32big, 16), 2);
	assert_int_equal(asc_bin_index(&l32big, 992), 63);
	assert_int_equal(asc_bin_index(&l32big, 1008), 64);
	assert_int_equal(asc_bin_index(&l32big, 2880), 94);
}

static void test_tcache_index(void **state)
{
	struct asc_heap_libc old = libc_of(8, 36), new = libc_of(8, 42), i386 = libc_of(4, 36);

	(void)state;
	assert_int_equal(asc_tcache_index(&old, 32), 0);
	assert_int_equal(asc_tcache_index(&old, 1040), 63);
	assert_int_equal(asc_tcache_index(&old, 1056), UINT32_MAX);
	assert_int_equal(asc_tcache_index(&old, 16), UINT32_MAX);
	assert_int_equal(asc_tcache_index(&new, 1040), 63);
	assert_int_equal(asc_tcache_index(&new, 1056), 64);
	assert_int_equal(asc_tcache_index(&new, 2032), 64);
	assert_int_equal(asc_tcache_index(&new, 2048), 65);
	assert_int_equal(asc_tcache_index(&new, 4 << 20), 76);
	assert_int_equal(asc_tcache_index(&new, (4 << 20) - 16), 75);
	assert_int_equal(asc_tcache_index(&i386, 16), 0);
	assert_int_equal(asc_tcache_index(&i386, 1024), 63);
	assert_int_equal(asc_fastbin_index(&old, 32), 0);
	assert_int_equal(asc_fastbin_index(&old, 128), 6);
	assert_int_equal(asc_fastbin_index(&i386, 16), 0);
	assert_int_equal(asc_usable_size(&old, 48), 40);
	assert_int_equal(asc_usable_size(&old, 0), 0);
}

static void test_bins(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		struct std_heap s = std_heap(hi_shapes[i]);
		struct asc_heap *h = std_read(&s, ASC_DEPTH_LISTS);
		const struct asc_arena *a = &h->arenas[0];
		uint64_t small = hi_size(s.hi, 200), fast = hi_size(s.hi, 48), n = 0, bytes = 0;
		const struct asc_bin *b = asc_arena_bin(a, asc_bin_index(&h->libc, small));

		assert_int_equal(b->count, 2);
		assert_int_equal(b->bytes, 2 * small);
		assert_int_equal(b->raw_bytes, 2 * (small + 1));
		assert_int_equal(b->raw_min, small + 1);
		assert_int_equal(b->raw_max, small + 1);
		b = asc_arena_bin(a, asc_bin_index(&h->libc, 0x2000));
		assert_int_equal(b->count, 4);
		assert_int_equal(b->raw_min, 0x2001);
		assert_int_equal(b->raw_max, 0x2001 + 2 * hi_align(s.hi));
		b = asc_arena_fastbin(a, asc_fastbin_index(&h->libc, fast));
		assert_int_equal(b->count, s.fast ? 3 : 0);
		assert_int_equal(b->bytes, s.fast ? 3 * fast : 0);
		for (unsigned j = 0; j < a->nbins; j++) {
			n += a->bins[j].count;
			bytes += a->bins[j].bytes;
			assert_false(a->bins[j].truncated);
		}
		assert_int_equal(n, 8);
		assert_int_equal(bytes, a->bytes[ASC_SMALL] + a->bytes[ASC_UNSORTED] +
						a->bytes[ASC_LARGE]);
		asc_heap_free(h);
		std_free(&s);
	}
}

/* Behind a broken link a list is followed from its other end: only the gap is lost. */
static void test_salvage(void **state)
{
	struct heap_image *hi = hi_new(8, false, 36);
	struct std_heap s = { .hi = hi };
	asc_addr c[9];
	struct asc_heap *h;

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		c[i] = hi_chunk(hi, 0, 0x200, ASC_SMALL);
		hi_chunk(hi, 0, 0x40, ASC_INUSE);
	}
	s.t = hi_finish(hi);
	hi_poke(hi, c[3] + 16, 0x4141414141414141);
	h = std_read(&s, ASC_DEPTH_WALK);
	assert_int_equal(h->arenas[0].counts[ASC_SMALL], 9);
	assert_int_equal(h->nfindings, 1);
	assert_non_null(std_finding(h, "C-BIN-LINK", c[3]));
	asc_heap_free(h);
	hi_free(hi);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bin_index),
		cmocka_unit_test(test_tcache_index),
		cmocka_unit_test(test_bins),
		cmocka_unit_test(test_salvage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
