/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What differs in two multisets: all of it is told, or that it cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/sketch.h"

static uint64_t seed = 1;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 17) % n;
}

static void add(struct asc_sketch *s, uint64_t key, int32_t n)
{
	asc_sketch_add(s, key, asc_sketch_hash(s, key), n);
}

static int by_key(const void *a, const void *b)
{
	const struct asc_sketch_item *x = a, *y = b;

	return x->key < y->key ? -1 : x->key > y->key;
}

/* @p n numbers that differ, as often as @p often says, among @p same that cancel. In two sketches, joined. */
static bool told(size_t n, size_t same, int32_t often)
{
	struct asc_sketch s, other;
	struct asc_sketch_item *want = calloc(n + 1, sizeof(*want)), *got;
	size_t nr;
	bool yes;

	assert_non_null(want);
	assert_null(asc_sketch_init(&s));
	assert_null(asc_sketch_open(&s, &other));
	for (size_t i = 0; i < same; i++) {
		const uint64_t key = rnd(UINT64_C(1) << 47);

		add(&s, key, 1);
		add(rnd(2) ? &s : &other, key, -1);
	}
	for (size_t i = 0; i < n; i++) {
		want[i] = (struct asc_sketch_item){ 0x7f0000000000 + i * 4096 + rnd(256) * 16,
						    i % 2 ? often : -often };
		add(rnd(2) ? &s : &other, want[i].key, want[i].n);
	}
	asc_sketch_join(&s, &other);
	assert_null(asc_sketch_take(&s, &got, &nr, &yes));
	if (yes) {
		assert_int_equal(nr, n);
		qsort(got, nr, sizeof(*got), by_key);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(got[i].key, want[i].key);
			assert_int_equal(got[i].n, want[i].n);
		}
	}
	free(got);
	free(want);
	asc_sketch_deinit(&s);
	asc_sketch_deinit(&other);
	return yes;
}

static void test_difference(void **state)
{
	(void)state;
	assert_true(told(0, 0, 1));
	assert_true(told(0, 1000000, 1));
	assert_true(told(1, 1000, 1));
	assert_true(told(5, 1000, 3));
	assert_true(told(18000, 100000, 1));
	assert_true(told(15000, 0, 2));
}

static void test_too_much(void **state)
{
	(void)state;
	assert_false(told(26000, 1000, 1));
	assert_false(told(200000, 0, 1));
	assert_false(told(3, 0, 1000)); /* so often is no number of a list */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_difference),
					    cmocka_unit_test(test_too_much) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
