/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target/target.h"

static struct asc_maps parse(const char *text)
{
	struct asc_maps maps = { 0 };
	/* at the end of its block, so that a read beyond it is seen by the sanitizer */
	size_t len = strlen(text);
	char *copy = malloc(len + 1);
	struct asc_error *err;

	memcpy(copy, text, len);
	err = asc_maps_parse(copy, len, &maps);
	free(copy);
	assert_null(err);
	return maps;
}

static void refuse(const char *text, const char *says)
{
	struct asc_maps maps = { .n = 77 };
	struct asc_error *err = asc_maps_parse(text, strlen(text), &maps);
	char *said;

	assert_non_null(err);
	assert_int_equal(err->code, ASC_EINPUT);
	assert_int_equal(maps.n, 77); /* untouched */
	said = asc_error_text(err);
	assert_non_null(strstr(said, says));
	free(said);
	asc_error_free(err);
}

static void test_ordinary(void **state)
{
	struct asc_maps m = parse(
		"55ebc16a0000-55ebc16a1000 r--p 00000000 fe:00 10953393                   "
		"/usr/bin/x\n"
		"55ebd309b000-55ebd30bc000 rw-p 00000000 00:00 0                          [heap]\n"
		"7f1135600000-7f1135e00000 rw-s 00001000 00:00 0 \n"
		"7f1135e00000-7f1135e01000 ---p 00000000 00:00 0\n"
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  "
		"[vsyscall]\n");

	(void)state;
	assert_int_equal(m.n, 5);
	assert_int_equal(m.v[0].start, 0x55ebc16a0000);
	assert_int_equal(m.v[0].end, 0x55ebc16a1000);
	assert_int_equal(m.v[0].flags, ASC_MAP_READ);
	assert_int_equal(m.v[0].dev_major, 0xfe);
	assert_int_equal(m.v[0].inode, 10953393);
	assert_string_equal(m.v[0].path, "/usr/bin/x");
	assert_string_equal(m.v[1].path, "[heap]");
	assert_int_equal(m.v[2].flags, ASC_MAP_READ | ASC_MAP_WRITE | ASC_MAP_SHARED);
	assert_int_equal(m.v[2].offset, 0x1000);
	assert_string_equal(m.v[2].path, "");
	assert_int_equal(m.v[3].flags, 0);
	assert_int_equal(m.v[4].flags, ASC_MAP_EXEC);
	assert_true(m.v[4].flags_known);
	assert_ptr_equal(asc_maps_find(&m, 0x55ebd309b000), &m.v[1]);
	assert_ptr_equal(asc_maps_find(&m, 0x55ebd30bbfff), &m.v[1]);
	assert_null(asc_maps_find(&m, 0x55ebd30bc000));
	assert_null(asc_maps_find(&m, 0));
	assert_ptr_equal(asc_maps_find(&m, 0x7f1135e00000), &m.v[3]);
	assert_null(asc_maps_find(&m, UINT64_MAX));
	asc_maps_free(&m);
	asc_maps_free(&m);
}

static void test_paths(void **state)
{
	struct asc_maps m = parse("1000-2000 r--p 0 0:0 1 /a b  c\n"
				  "2000-3000 r--p 0 0:0 1 /gone (deleted)\n"
				  "3000-4000 r--p 0 0:0 1 /new\\012line\n"
				  "4000-5000 r--p 0 0:0 1 \x1b[31m\xff\n"
				  "5000-6000 rw-p 0 0:0 0 [anon: glibc: malloc]\n"
				  "6000-7000 r--p 0 0:0 1  (deleted)\n"
				  "7000-8000 r--p 0 0:0 1 /no newline at the end");

	(void)state;
	assert_int_equal(m.n, 7);
	assert_string_equal(m.v[0].path, "/a b  c");
	assert_string_equal(m.v[1].path, "/gone");
	assert_true(m.v[1].deleted && !m.v[0].deleted);
	assert_string_equal(m.v[2].path, "/new\nline");
	assert_string_equal(m.v[3].path, "\x1b[31m\xff");
	assert_string_equal(m.v[4].path, "[anon: glibc: malloc]");
	assert_string_equal(m.v[5].path, "(deleted)");
	assert_string_equal(m.v[6].path, "/no newline at the end");
	asc_maps_free(&m);
	m = parse("");
	assert_int_equal(m.n, 0);
	assert_null(asc_maps_find(&m, 4096));
	asc_maps_free(&m);
}

static void test_hostile(void **state)
{
	static const char *const bad[] = {
		"\n",
		"nonsense\n",
		"1000\n",
		"1000-\n",
		"1000-2000\n",
		"1000-2000 r--p\n",
		"1000-2000 r--p 0\n",
		"1000-2000 r--p 0 0:0\n",
		"1000-2000 r--p 0 0:0 \n",
		"1000-2000 r--p 0 0:0 1x\n",
		"1000-2000 rwxq 0 0:0 1\n",
		"1000-2000 r- p 0 0:0 1\n",
		"1000-2000 rw\n",
		"-1000-2000 r--p 0 0:0 1\n",
		"1000-1ffffffffffffffff r--p 0 0:0 1\n",
		"1000-2000 r--p 0 fffffffff:0 1\n",
		"1000-2000 r--p 0 0:0 99999999999999999999\n",
		"1000-2000 r--p 0 0:0 1 /x\n\n",
		"1000-2000 r--p 0 0:0 1 /x\n3000",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuse(bad[i], "is not one");
	refuse("2000-1000 r--p 0 0:0 1\n", "is empty");
	refuse("1000-1000 r--p 0 0:0 1\n", "is empty");
	refuse("1000-3000 r--p 0 0:0 1\n2000-4000 r--p 0 0:0 1\n", "overlap");
}

/* Every prefix of a good text is good or refused, and never read beyond its end. */
static void test_cut(void **state)
{
	static const char text[] =
		"7f1135600000-7f1135e00000 rw-s 00001000 00:00 0 \n"
		"7ff4b7738000-7ff4b7739000 r--p 00000000 fe:00 10953393  /a\\012b (deleted)\n";
	size_t good = 0;

	(void)state;
	for (size_t len = 0; len < sizeof(text); len++) {
		char *copy = malloc(len ? len : 1);
		struct asc_maps maps;
		struct asc_error *err;

		memcpy(copy, text, len);
		err = asc_maps_parse(copy, len, &maps);
		if (!err) {
			good++;
			asc_maps_free(&maps);
		}
		asc_error_free(err);
		free(copy);
	}
	assert_true(good > 10 && good < sizeof(text));
}

static void test_unsorted_and_copy(void **state)
{
	struct asc_maps m = parse("3000-4000 r--p 0 0:0 1 /c\n1000-2000 r--p 0 0:0 1 /a\n"
				  "2000-3000 r--p 0 0:0 0\n");
	struct asc_maps copy;

	(void)state;
	assert_string_equal(m.v[0].path, "/a");
	assert_string_equal(m.v[2].path, "/c");
	assert_null(asc_maps_copy(&m, &copy));
	asc_maps_free(&m);
	assert_int_equal(copy.n, 3);
	assert_string_equal(copy.v[0].path, "/a");
	assert_string_equal(copy.v[1].path, "");
	assert_string_equal(copy.v[2].path, "/c");
	asc_maps_free(&copy);
	m = (struct asc_maps){ 0 };
	assert_null(asc_maps_copy(&m, &copy));
	assert_int_equal(copy.n, 0);
	asc_maps_free(&copy);
}

/* The kernel's own text for this very process. */
static void test_self(void **state)
{
	static char text[1 << 20];
	FILE *f = fopen("/proc/self/maps", "r");
	size_t len = f ? fread(text, 1, sizeof(text), f) : 0, lines = 0;
	struct asc_maps m;

	(void)state;
	assert_true(len > 100);
	fclose(f);
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	assert_null(asc_maps_parse(text, len, &m));
	assert_int_equal(m.n, lines);
	assert_non_null(asc_maps_find(&m, (uintptr_t)text));
	assert_int_equal(asc_maps_find(&m, (uintptr_t)text)->flags, ASC_MAP_READ | ASC_MAP_WRITE);
	asc_maps_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary),	  cmocka_unit_test(test_paths),
		cmocka_unit_test(test_hostile),		  cmocka_unit_test(test_cut),
		cmocka_unit_test(test_unsorted_and_copy), cmocka_unit_test(test_self),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
