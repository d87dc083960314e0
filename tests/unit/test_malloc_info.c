/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The text of malloc_info() and malloc_stats() by release, against texts written down by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "heap_std.h"

/* 64 bits, sizes that can be added up on paper. */
static struct asc_heap *small_heap(unsigned minor, struct std_heap *s)
{
	struct heap_image *hi = hi_new(8, false, minor);

	hi_chunk(hi, 0, 0x400, ASC_INUSE);
	hi_chunk(hi, 0, 0x110, ASC_SMALL);
	hi_chunk(hi, 0, 0x30, ASC_INUSE);
	hi_chunk(hi, 0, 0x110, ASC_SMALL);
	hi_chunk(hi, 0, 0x30, ASC_INUSE);
	hi_chunk(hi, 0, 0x220, ASC_UNSORTED);
	hi_chunk(hi, 0, 0x30, ASC_INUSE);
	hi_chunk(hi, 0, 0x440, ASC_UNSORTED);
	if (minor <= 42) {
		hi_chunk(hi, 0, 0x40, ASC_FASTBIN);
		hi_chunk(hi, 0, 0x40, ASC_FASTBIN);
	} else {
		hi_chunk(hi, 0, 0x80, ASC_INUSE);
	}
	hi_arena(hi);
	hi_chunk(hi, 1, 0x1000, ASC_INUSE);
	hi_new_region(hi, 1);
	hi_chunk(hi, 1, 0x3000, ASC_INUSE);
	hi_mmapped(hi, 300000, 0, true);
	*s = (struct std_heap){ .hi = hi, .t = hi_finish(hi) };
	return std_read(s, ASC_DEPTH_LISTS);
}

/*
 * Main: chunks end at 0xd90, top goes to 0x1000: 624 bytes of 4096; small 2 x 273, unsorted
 * 545 + 1089. Arena 1, first heap: ends at the page behind its chunk and rest; the rest is in the
 * unsorted bin, less the fenceposts.
 */
static void expect(unsigned minor, const char *want_main, const char *want_end)
{
	struct std_heap s;
	struct asc_heap *h = small_heap(minor, &s);
	char *text = NULL;

	assert_null(asc_malloc_info(h, &text));
	if (strncmp(text, want_main, strlen(want_main)) || !strstr(text, want_end))
		fprintf(stderr, "2.%u:\n%s\n--- want\n%s...%s\n", minor, text, want_main, want_end);
	assert_memory_equal(text, want_main, strlen(want_main));
	assert_string_equal(text + strlen(text) - strlen(want_end), want_end);
	free(text);
	asc_heap_free(h);
	std_free(&s);
}

#define MAIN_TAIL                                                                                  \
	"<system type=\"current\" size=\"4096\"/>\n<system type=\"max\" size=\"8192\"/>\n"         \
	"<aspace type=\"total\" size=\"4096\"/>\n<aspace type=\"mprotect\" size=\"4096\"/>\n"      \
	"</heap>\n<heap nr=\"1\">\n<sizes>\n"

static void test_2_17(void **state)
{
	(void)state;
	expect(17,
	       "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"
	       "<size from=\"49\" to=\"64\" total=\"128\" count=\"2\"/>\n"
	       "<size from=\"273\" to=\"273\" total=\"546\" count=\"2\"/>\n"
	       "<unsorted from=\"545\" to=\"1089\" total=\"1634\" count=\"2\"/>\n"
	       "</sizes>\n"
	       "<total type=\"fast\" count=\"2\" size=\"128\"/>\n"
	       "<total type=\"rest\" count=\"4\" size=\"2180\"/>\n" MAIN_TAIL,
	       /* only the last heap, no subheaps, no mmap */
	       "<aspace type=\"total\" size=\"20480\"/>\n<aspace type=\"mprotect\" "
	       "size=\"24576\"/>\n"
	       "</malloc>\n");
}

static void test_2_27(void **state)
{
	(void)state;
	expect(27,
	       "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"
	       "\t\t\t\t\t\t\t        <size from=\"49\" to=\"64\" total=\"128\" count=\"2\"/>\n"
	       "\t\t\t\t\t\t\t        <size from=\"273\" to=\"273\" total=\"546\" count=\"2\"/>\n"
	       "  <unsorted from=\"545\" to=\"1089\" total=\"1634\" count=\"2\"/>\n"
	       "</sizes>\n"
	       "<total type=\"fast\" count=\"2\" size=\"128\"/>\n"
	       "<total type=\"rest\" count=\"4\" size=\"2180\"/>\n" MAIN_TAIL,
	       "<aspace type=\"subheaps\" size=\"2\"/>\n</heap>\n"
	       "<total type=\"fast\" count=\"2\" size=\"128\"/>\n"
	       "<total type=\"rest\" count=\"5\" size=\"4005\"/>\n"
	       "<total type=\"mmap\" count=\"1\" size=\"303104\"/>\n"
	       "<system type=\"current\" size=\"28672\"/>\n<system type=\"max\" size=\"36864\"/>\n"
	       "<aspace type=\"total\" size=\"28672\"/>\n<aspace type=\"mprotect\" "
	       "size=\"36864\"/>\n"
	       "</malloc>\n");
}

static void test_2_36(void **state)
{
	(void)state;
	expect(36,
	       "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"
	       "  <size from=\"49\" to=\"64\" total=\"128\" count=\"2\"/>\n"
	       "  <size from=\"273\" to=\"273\" total=\"546\" count=\"2\"/>\n"
	       "  <unsorted from=\"545\" to=\"1089\" total=\"1634\" count=\"2\"/>\n"
	       "</sizes>\n"
	       "<total type=\"fast\" count=\"2\" size=\"128\"/>\n"
	       "<total type=\"rest\" count=\"5\" size=\"2804\"/>\n" MAIN_TAIL,
	       "</malloc>\n");
}

static void test_2_43(void **state)
{
	(void)state;
	expect(43,
	       "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"
	       "  <size from=\"273\" to=\"273\" total=\"546\" count=\"2\"/>\n"
	       "  <unsorted from=\"545\" to=\"1089\" total=\"1634\" count=\"2\"/>\n"
	       "</sizes>\n"
	       "<total type=\"rest\" count=\"5\" size=\"2804\"/>\n" MAIN_TAIL,
	       "</malloc>\n");
}

static void test_stats(void **state)
{
	struct std_heap s;
	struct asc_heap *h = small_heap(36, &s);
	char *text = NULL;

	(void)state;
	assert_null(asc_malloc_stats(h, &text));
	/* 4096 - (624 top + 128 fast + 544 small + 544 + 1088 unsorted) */
	assert_memory_equal(
		text, "Arena 0:\nsystem bytes     =       4096\nin use bytes     =       1168\n",
		strlen("Arena 0:\nsystem bytes     =       4096\nin use bytes     =       1168\n"));
	assert_non_null(
		strstr(text, "max mmap regions =          2\nmax mmap bytes   =     307200\n"));
	free(text);
	/* sums are of 32 bits, as in glibc */
	h->arenas[0].system_mem += (uint64_t)5 << 32;
	assert_null(asc_malloc_stats(h, &text));
	assert_non_null(strstr(text, "Arena 0:\nsystem bytes     =       4096\n"));
	free(text);
	asc_heap_free(h);
	std_free(&s);
}

/* A list that cannot be followed: no text rather than a wrong one. */
static void test_broken(void **state)
{
	struct std_heap s = std_heap((struct hi_shape){ 8, false, 36 });
	struct asc_error *err;
	char *text = NULL;
	struct asc_heap *h;

	(void)state;
	hi_poke(s.hi, s.small + 16, 0x4242);
	h = std_read(&s, ASC_DEPTH_LISTS);
	err = asc_malloc_info(h, &text);
	assert_non_null(err);
	assert_int_equal(err->code, ASC_ENOTFOUND);
	assert_null(text);
	asc_error_free(err);
	err = asc_malloc_stats(h, &text);
	assert_non_null(err);
	asc_error_free(err);
	asc_heap_free(h);
	std_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_2_17),  cmocka_unit_test(test_2_27),
		cmocka_unit_test(test_2_36),  cmocka_unit_test(test_2_43),
		cmocka_unit_test(test_stats), cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
