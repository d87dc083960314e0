/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One word a free chunk: whatever does not fit in it is told all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "glibc/model.h"

enum { N = 20000, STEP = 4 << 20 };

static uint64_t seed = 1;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

/* Sizes of all magnitudes, some no multiple of the unit; addresses from @p base on, one a STEP. */
static void make(struct asc_chunk *c, asc_addr base, unsigned shift)
{
	for (size_t i = 0; i < N; i++) {
		uint64_t size = (rnd((uint64_t)1 << (1 + rnd(18))) + 1) << shift;

		if (rnd(50) == 0)
			size = (uint64_t)STEP << rnd(20);
		if (rnd(50) == 0)
			size += 8;
		c[i].addr = base + i * STEP + (rnd(1000) << shift) + (rnd(500) ? 0 : 4);
		c[i].size = size;
		c[i].state = (enum asc_state)rnd(ASC_NSTATES);
	}
}

static void shuffle(struct asc_chunk *c)
{
	for (size_t i = N - 1; i; i--) {
		size_t j = rnd(i + 1);
		struct asc_chunk x = c[i];

		c[i] = c[j];
		c[j] = x;
	}
}

static int by_addr(const void *a, const void *b)
{
	const struct asc_chunk *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void assert_chunk(struct asc_chunk c, struct asc_chunk want)
{
	assert_int_equal(c.addr, want.addr);
	assert_int_equal(c.size, want.size);
	assert_int_equal(c.state, want.state);
}

static void hold(unsigned word, asc_addr base)
{
	struct asc_chunk *c = calloc(N, sizeof(*c));
	struct asc_extents x = { .v = calloc(N, sizeof(*x.v)), .n = N };

	assert_true(c && x.v);
	asc_extents_base(&x, word, base, base + (uint64_t)N * STEP);
	make(c, base, x.shift);
	shuffle(c);
	for (size_t i = 0; i < N; i++) {
		assert_true(asc_extent_near(&x, c[i].addr));
		if (!asc_extent_pack(&x, &c[i], &x.v[i]))
			assert_null(asc_extents_add_large(&x, &c[i]));
	}
	assert_true(x.nlarge > N / 100 && x.nlarge < N / 10);
	asc_extents_sort(&x);
	qsort(c, N, sizeof(*c), by_addr);
	for (size_t i = 0; i < N; i++)
		assert_chunk(asc_extent_at(&x, i), c[i]);
	/* cut to what fits, to what does not, and to what is no multiple of the unit */
	for (size_t i = 0; i < N; i += 1 + rnd(50)) {
		c[i].size = rnd(2) ? 8 + 8 * rnd(1000) : (uint64_t)STEP - 8 * rnd(100);
		assert_null(asc_extents_cut(&x, i, c[i].size));
	}
	for (size_t i = 0; i < N; i++)
		assert_chunk(asc_extent_at(&x, i), c[i]);
	free(x.v);
	free(x.large);
	free(c);
}

static void test_words(void **state)
{
	(void)state;
	hold(8, 0x550000000000);
	hold(8, 0);
	hold(8, 0xffff800000000000); /* beyond 48 bits: told from a base */
	hold(4, 0x1000);
}

/* Nothing is there twice because of its state alone, and what is too far is not taken for near. */
static void test_edges(void **state)
{
	struct asc_chunk a = { 0x7f0000000000, (uint64_t)4 << 20, ASC_LARGE }, b = a, c;
	struct asc_extents x = { .v = (uint64_t[2]){ 0 }, .n = 2 };

	(void)state;
	b.state = ASC_TOP;
	b.size *= 2;
	asc_extents_base(&x, 8, a.addr, a.addr + b.size);
	assert_int_equal(x.base, 0);
	assert_false(asc_extent_pack(&x, &b, &x.v[0]));
	assert_false(asc_extent_pack(&x, &a, &x.v[1]));
	assert_null(asc_extents_add_large(&x, &b));
	assert_null(asc_extents_add_large(&x, &a));
	asc_extents_sort(&x);
	assert_chunk(asc_extent_at(&x, 0), a);
	assert_chunk(asc_extent_at(&x, 1), b);
	assert_false(asc_extent_near(&x, (uint64_t)1 << 48));
	assert_true(asc_extent_near(&x, ((uint64_t)1 << 48) - 16));
	asc_extents_base(&x, 8, 0xffff000000000000, UINT64_MAX);
	assert_false(asc_extent_near(&x, a.addr));
	assert_true(asc_extent_near(&x, UINT64_MAX));
	/* the largest size that fits, and the one behind it */
	c = (struct asc_chunk){ x.base, (uint64_t)ASC_EXTENT_SIZE_MAX << 4, ASC_SMALL };
	assert_true(asc_extent_pack(&x, &c, &x.v[0]));
	c.size += 16;
	assert_false(asc_extent_pack(&x, &c, &x.v[0]));
	free(x.large);
}

static int by_word(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* As many as are sorted through other memory, and more; with and without equal addresses; in order but for the end. */
static void test_many(void **state)
{
	static const size_t numbers[] = { 2, 33, 2047, 2048, 50000, 512 << 10, 700000 };

	(void)state;
	for (size_t k = 0; k < 5 * ASC_ARRAY_SIZE(numbers); k++) {
		const size_t n = numbers[k / 5], ordered = k % 5 == 4 ? n - rnd(n / 5 + 1) : 0;
		const uint64_t room = k % 5 == 3 ? 50 : (uint64_t)1 << (20 + k % 5 * 8);
		uint64_t *want = calloc(n, sizeof(*want));
		struct asc_extents x = { .v = calloc(n, sizeof(*x.v)), .n = n };

		assert_true(want && x.v);
		for (size_t i = 0; i < n; i++)
			want[i] = x.v[i] = (i < ordered ? i * 7 : rnd(room) * 7 + (k & 1))
						   << ASC_EXTENT_ADDR |
					   (rnd(1 << 17) | 1) << 3 | rnd(ASC_NSTATES);
		asc_extents_sort(&x);
		qsort(want, n, sizeof(*want), by_word);
		assert_memory_equal(x.v, want, n * sizeof(*want));
		free(want);
		free(x.v);
	}
}

/* In a file: in parts, merged at once or in several steps, with equal ones, in order already, or but for the end. */
static void test_in_file(void **state)
{
	static const size_t numbers[][2] = { { 1, 100 },
					     { 100, 100 },
					     { 101, 100 },
					     { 12800, 100 },
					     { 12801, 100 },
					     { 200000, 7 },
					     { 600000, ASC_SORT_PART } };
	int fd = memfd_create("test", MFD_CLOEXEC); /* as good as a file on a disk here */

	(void)state;
	assert_true(fd >= 0);
	for (size_t k = 0; k < 4 * ASC_ARRAY_SIZE(numbers); k++) {
		const size_t n = numbers[k / 4][0], part = numbers[k / 4][1];
		const size_t ordered = k % 4 == 1 ? n : k % 4 == 3 ? n - rnd(n / 5 + 1) : 0;
		const uint64_t room = k % 4 == 2 ? 50 : (uint64_t)1 << 40;
		uint64_t *want = calloc(n, sizeof(*want)), *got;
		struct asc_spill s = { 0 };

		assert_non_null(want);
		assert_null(asc_spill_begin(fd, n, &s));
		for (size_t i = 0; i < n; i++) {
			if (i == s.cap)
				assert_null(asc_spill_grow(&s, fd));
			want[i] = s.words[i] = i < ordered ? i << ASC_EXTENT_ADDR
							   : rnd(room) << ASC_EXTENT_ADDR |
								     rnd(1 << 10);
		}
		asc_spill_drop(s.words, 0, n);
		assert_null(asc_words_sort_spilled(&s, fd, n, part));
		qsort(want, n, sizeof(*want), by_word);
		got = asc_spill_end(&s, fd, n);
		assert_memory_equal(got, want, n * sizeof(*want));
		asc_spill_unmap(got, n);
		free(want);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_words),
					    cmocka_unit_test(test_edges),
					    cmocka_unit_test(test_many),
					    cmocka_unit_test(test_in_file) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
