/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The built-in table against sizes that were measured elsewhere; traits; names of Rust. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch/arch.h"
#include "base/num.h"
#include "glibc/layout.h"
#include "symbols/demangle.h"

struct want {
	const char *arch;
	unsigned minor;
	uint32_t state, next, system_mem, par, sbrk_base, heap_info, tcache;
	unsigned nfastbins, ntcache, align;
};

/* Sizes from the DWARF of Debian's libcs where there is one, else from each release's own source. */
static const struct want wants[] = {
	{ "x86_64", 17, 2184, 2152, 2168, 88, 80, 32, 0, 10, 0, 16 },
	{ "x86_64", 23, 2192, 2152, 2176, 88, 80, 32, 0, 10, 0, 16 },
	{ "x86_64", 25, 2192, 2152, 2176, 80, 72, 32, 0, 10, 0, 16 },
	{ "x86_64", 26, 2192, 2152, 2176, 112, 72, 32, 576, 10, 64, 16 },
	{ "x86_64", 28, 2200, 2160, 2184, 112, 72, 32, 576, 10, 64, 16 },
	{ "x86_64", 31, 2200, 2160, 2184, 112, 72, 32, 640, 10, 64, 16 },
	{ "aarch64", 36, 2200, 2160, 2184, 136, 96, 48, 640, 10, 64, 16 },
	{ "x86_64", 41, 2200, 2160, 2184, 136, 96, 48, 640, 10, 64, 16 },
	{ "x86_64", 42, 2200, 2160, 2184, 136, 96, 48, 760, 10, 76, 16 },
	{ "x86_64", 43, 2112, 2072, 2096, 144, 104, 48, 760, 0, 76, 16 },
	{ "aarch64", 44, 2112, 2072, 2096, 136, 104, 48, 760, 0, 76, 16 },
	{ "i386", 19, 1104, 1088, 1096, 52, 48, 16, 0, 10, 0, 8 },
	{ "i386", 25, 1108, 1088, 1100, 48, 44, 16, 0, 10, 0, 8 },
	{ "i386", 26, 1112, 1092, 1104, 64, 44, 24, 320, 11, 64, 16 },
	{ "i386", 31, 1116, 1096, 1108, 64, 44, 24, 384, 11, 64, 16 },
	{ "i386", 36, 1116, 1096, 1108, 76, 56, 24, 384, 11, 64, 16 },
	{ "i386", 43, 1068, 1048, 1060, 80, 60, 24, 456, 0, 76, 16 },
	{ "i386", 44, 1068, 1048, 1060, 76, 60, 24, 456, 0, 76, 16 },
};

static struct asc_layout layout(const char *arch, unsigned minor)
{
	struct asc_layout l = { 0 };

	assert_null(asc_layout_table(asc_arch_by_name(arch), minor, &l));
	return l;
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(wants); i++) {
		const struct want *w = &wants[i];
		struct asc_layout l = layout(w->arch, w->minor);

		assert_int_equal(l.sizeof_malloc_state, w->state);
		assert_int_equal(l.malloc_state_next.off, w->next);
		assert_int_equal(l.malloc_state_system_mem.off, w->system_mem);
		assert_int_equal(l.sizeof_malloc_par, w->par);
		assert_int_equal(l.malloc_par_sbrk_base.off, w->sbrk_base);
		assert_int_equal(l.sizeof__heap_info, w->heap_info);
		assert_int_equal(l.sizeof_tcache_perthread_struct, w->tcache);
		assert_int_equal(l.nfastbins, w->nfastbins);
		assert_int_equal(l.ntcache, w->ntcache);
		assert_int_equal(l.malloc_alignment, w->align);
	}
}

static void every_release(void **state)
{
	struct asc_layout l;
	struct asc_error *err;

	(void)state;
	for (unsigned minor = 17; minor <= 44; minor++)
		layout("x86_64", minor), layout("i386", minor);
	err = asc_layout_table(asc_arch_by_name("x86_64"), 45, &l);
	assert_int_equal(err->code, ASC_ENOTFOUND);
	asc_error_free(err);
	assert_int_equal(asc_layout_known(45), 0);
	assert_int_equal(asc_layout_known(44), 44);
}

static void traits(void **state)
{
	(void)state;
	assert_false(layout("x86_64", 31).safe_linking);
	assert_true(layout("x86_64", 32).safe_linking);
	assert_true(layout("x86_64", 33).tcache_key_owner);
	assert_true(layout("x86_64", 34).tcache_key_random &&
		    !layout("x86_64", 34).tcache_key_owner);
	assert_true(layout("x86_64", 41).lazy_init && !layout("x86_64", 42).lazy_init);
	assert_true(layout("x86_64", 42).trim_consolidates &&
		    !layout("x86_64", 43).trim_consolidates);
	assert_true(layout("x86_64", 42).tcache_counts_are_slots);
	assert_true(layout("x86_64", 43).mmap_hdr_excluded && layout("x86_64", 43).tcache_dummy);
	assert_true(layout("x86_64", 26).fastchunks_flag_inverted);
	assert_true(layout("x86_64", 27).single_thread_unlocked);
	assert_true(layout("x86_64", 35).heap_max_is_4hp && !layout("x86_64", 42).heap_max_is_4hp);
	assert_int_equal(layout("x86_64", 30).info_size_tabs, 7);
	assert_int_equal(layout("x86_64", 31).info_size_spaces, 2);
}

static void rust(void **state)
{
	static const char *const names[][2] = {
		{ "_ZN4core3ptr13drop_in_place17h0123456789abcdefE", "core::ptr::drop_in_place" },
		{ "_ZN71_$LT$alloc..string..String$u20$as$u20$core..fmt..Display$GT$"
		  "3fmt17h0123456789abcdefE",
		  NULL },
		{ "_RNvCs1234_7mycrate3foo", "mycrate::foo" },
		{ "_RNvNtCs1234_7mycrate3bar3baz", "mycrate::bar::baz" },
		{ "_ZN3foo3barEv", NULL }, /* C++ */
		{ "_R", NULL },
		{ "_ZN999999999999999999999999foo", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(names); i++) {
		char *s = asc_demangle_rust(names[i][0]);

		if (names[i][1])
			assert_string_equal(s, names[i][1]);
		else if (i != 1)
			assert_null(s);
		free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(every_release),
		cmocka_unit_test(traits),
		cmocka_unit_test(rust),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
