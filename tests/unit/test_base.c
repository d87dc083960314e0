/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/parts.h"
#include "base/vec.h"

static void test_numbers(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_true(asc_parse_u64("42", &v) && v == 42);
	assert_true(asc_parse_u64("0x2a", &v) && v == 42);
	assert_true(asc_parse_u64("18446744073709551615", &v) && v == UINT64_MAX);
	assert_false(asc_parse_u64("18446744073709551616", &v));
	assert_false(asc_parse_u64("", &v) || asc_parse_u64("-1", &v) || asc_parse_u64(" 1", &v) ||
		     asc_parse_u64("1x", &v) || asc_parse_u64("0x", &v));
	assert_true(asc_parse_addr("7f00aa", &v) && v == 0x7f00aa);
	assert_true(asc_parse_bytes("64K", &v) && v == 65536);
	assert_true(asc_parse_bytes("1MiB", &v) && v == 1 << 20);
	assert_true(asc_parse_bytes("1MB", &v) && v == 1000000);
	assert_true(asc_parse_bytes("12b", &v) && v == 12);
	assert_true(asc_parse_bytes("3g", &v) && v == 3ull << 30);
	assert_false(asc_parse_bytes("1Q", &v) || asc_parse_bytes("99999999999G", &v) ||
		     asc_parse_bytes("K", &v) || asc_parse_bytes("1KK", &v));
	assert_true(asc_parse_ms("5s", &v) && v == 5000);
	assert_true(asc_parse_ms("500ms", &v) && v == 500);
	assert_true(asc_parse_ms("2m", &v) && v == 120000);
	assert_false(asc_parse_ms("5x", &v));
	assert_int_equal(asc_align_up(UINT64_MAX - 3, 4096), UINT64_MAX & ~4095ull);
}

static void test_errors(void **state)
{
	struct asc_error *err = asc_err_os(ENOENT, "open %s", "x");
	char *text;

	(void)state;
	err = asc_err_try(asc_err_why(asc_err_id(err, "E-TEST"), "because %d", 1), "this");
	err = asc_wrap(asc_err_try(err, "or that"), "cannot report");
	text = asc_error_text(err);
	assert_string_equal(text, "cannot report: open x: No such file or directory");
	assert_string_equal(asc_error_id(err), "E-TEST");
	assert_string_equal(asc_error_why(err), "because 1");
	assert_string_equal(asc_error_hint(err), "this\nor that");
	assert_int_equal(asc_error_exit(err), 2);
	free(text);
	asc_error_free(err);
	assert_int_equal(asc_error_exit(NULL), 0);
}

static void test_vec(void **state)
{
	ASC_VEC(int) v = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_null(asc_vec_push(&v, i));
	assert_int_equal(v.len, 1000);
	assert_int_equal(v.data[999], 999);
	asc_vec_free(&v);
}

enum { PARTS = 1000 };

static struct asc_error *square(const void *in, void *ret, size_t part)
{
	((size_t *)ret)[part] += part * part;
	return part == *(const size_t *)in ? asc_err(ASC_EINPUT, "part %zu", part) : NULL;
}

/* Each part once, whoever does it; an error ends it. */
static void test_parts(void **state)
{
	static size_t done[PARTS];

	(void)state;
	for (unsigned two = 0; two < 2; two++) {
		size_t bad = PARTS;

		memset(done, 0, sizeof(done));
		assert_null(asc_parts_do(PARTS, two, square, &bad, done));
		for (size_t i = 0; i < PARTS; i++)
			assert_int_equal(done[i], i * i);
		bad = 17;
		struct asc_error *err = asc_parts_do(PARTS, two, square, &bad, done);
		assert_non_null(err);
		assert_string_equal(err->msg, "part 17");
		asc_error_free(err);
		assert_null(asc_parts_do(0, two, square, &bad, NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_vec),
		cmocka_unit_test(test_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
